//! The loop: waits, reads, takes events from the protocol and hands them to the application.
//!
//! One thread, one file descriptor, no callbacks but inside a dispatch.
//!
//! Does not know: how output is written, or the host's language.

use core::ops::{Deref, DerefMut};
use std::os::fd::RawFd;
use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::net::context::{Context, LogLevel, LogSink, Notice};
use crate::net::handle::{Command, Handle, Inbox};
use crate::net::handler::{Handler, Handshake};
use crate::net::number::ConnId;
use crate::net::poller::{Interest, Poller, Ready};
use crate::net::serving::listener_of;
use crate::net::slot::Stage;
use crate::protocol::connection::{Closed, Phase};
use crate::protocol::head::{Request, ResponseHead};
use crate::time::{Time, earliest};

/// Size of the one buffer everything is received into.
const RECEIVE_BUFFER: usize = 256 << 10;

/// The poller's token of a descriptor that is not the loop's; no connection has it.
const FOREIGN: u64 = 0;

/// What a loop is made of.
pub struct LoopOptions {
    /// Callbacks in one dispatch, after which others get their turn. Default 4,096.
    pub max_events: u32,
    /// Bytes that commands from other threads may hold. Default 16 MiB.
    pub max_inbox_bytes: u64,
    /// A receiver of log lines, and the least important level it wants.
    pub log: Option<(LogLevel, LogSink)>,
}

impl Default for LoopOptions {
    fn default() -> Self {
        Self {
            max_events: 4096,
            max_inbox_bytes: 16 << 20,
            log: None,
        }
    }
}

/// An event loop for any number of servers and clients.
///
/// A loop derefs to its [`Context`], which has the commands: [`listen`](Context::listen),
/// [`connect`](Context::connect), [`conn`](Context::conn).
pub struct Loop {
    context: Context,
    inbox: Arc<Inbox>,
    /// What everything is received into; taken out while its bytes are handed out.
    pub(crate) buffer: Box<[u8]>,
    ready: Vec<Ready>,
    /// How much of `ready` was worked off.
    done: usize,
    max_events: u32,
    /// Whether `ready` is what a wait has found and no dispatch has seen yet.
    waited: bool,
    /// Whether a watched descriptor was readable.
    watched: bool,
}

impl Deref for Loop {
    type Target = Context;

    fn deref(&self) -> &Context {
        &self.context
    }
}

impl DerefMut for Loop {
    fn deref_mut(&mut self) -> &mut Context {
        &mut self.context
    }
}

impl Loop {
    /// A loop with the defaults.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the system lacks descriptors or memory.
    pub fn new() -> Result<Self> {
        Self::with_options(LoopOptions::default())
    }

    /// A loop with these options.
    ///
    /// # Errors
    /// As [`new`](Self::new), and [`ErrorKind::Invalid`] for a `max_events` of 0.
    pub fn with_options(options: LoopOptions) -> Result<Self> {
        if options.max_events == 0 {
            return Err(Error::invalid("max_events is 0; expected at least 1"));
        }
        let mut context = Context::new()
            .map_err(|error| Error::from_io(ErrorKind::Io, "cannot make a loop", &error))?;
        if let Some((level, sink)) = options.log {
            context.set_log(level, sink);
        }
        let inbox = Arc::new(Inbox::new(options.max_inbox_bytes, context.poller.waker()));
        Ok(Self {
            context,
            inbox,
            buffer: vec![0; RECEIVE_BUFFER].into_boxed_slice(),
            ready: Vec::new(),
            done: 0,
            max_events: options.max_events,
            waited: false,
            watched: false,
        })
    }

    /// A file descriptor that is readable exactly when [`dispatch`](Self::dispatch) has work; it
    /// may be watched by any other event loop, level-triggered. `None` where the platform has no
    /// such thing: then [`timeout`](Self::timeout) and [`poll`](Self::poll) do.
    pub fn fd(&self) -> Option<RawFd> {
        self.context.poller.fd()
    }

    /// How long until something may be due; for hosts that cannot watch the fd, which tells it too.
    /// A deadline far ahead may need a step on the way, with nothing to do.
    pub fn timeout(&self) -> Option<Duration> {
        if self.has_more() || !self.inbox.is_empty() {
            return Some(Duration::ZERO);
        }
        let next = earliest(self.context.timers.next(), self.context.servers.deadline());
        next.map(|at| at.since(Poller::now()))
    }

    /// A handle for other threads.
    pub fn handle(&self) -> Handle {
        Handle::new(Arc::clone(&self.inbox))
    }

    /// Does what there is to do, without waiting, and tells whether more is left; then the fd is
    /// readable.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`], [`ErrorKind::Io`] if the poller fails, [`ErrorKind::Panic`] if an
    /// earlier dispatch did not end.
    pub fn dispatch(&mut self, handler: &mut impl Handler) -> Result<bool> {
        self.turn(Some(Duration::ZERO), handler)
    }

    /// Waits until there is something to do, but not longer than `timeout`, and does it; tells
    /// whether more is left. `None` waits without end.
    ///
    /// # Errors
    /// As [`dispatch`](Self::dispatch).
    pub fn poll(&mut self, timeout: Option<Duration>, handler: &mut impl Handler) -> Result<bool> {
        self.turn(timeout, handler)
    }

    /// Runs until [`Handle::stop`], or until nothing is left: no server, no connection, no call.
    ///
    /// # Errors
    /// As [`dispatch`](Self::dispatch).
    pub fn run(&mut self, handler: &mut impl Handler) -> Result<()> {
        while !self.inbox.take_stop() {
            if self.is_done() {
                return Ok(());
            }
            self.turn(None, handler)?;
        }
        Ok(())
    }

    /// Whether nothing is left that could call back: no server, no connection, no call.
    pub fn is_done(&self) -> bool {
        self.context.is_idle() && self.inbox.is_empty()
    }

    /// Waits as [`poll`](Self::poll) does, but leaves the work to the next
    /// [`dispatch`](Self::dispatch), and tells whether there is any. For hosts that let go of a lock
    /// while they wait.
    ///
    /// # Errors
    /// As [`dispatch`](Self::dispatch).
    pub fn wait(&mut self, timeout: Option<Duration>) -> Result<bool> {
        self.context.check_fork()?;
        if self.has_more() || self.waited {
            return Ok(true);
        }
        self.done = 0;
        self.waited = self
            .context
            .poller
            .wait(timeout, &mut self.ready)
            .map_err(|error| Error::from_io(ErrorKind::Io, "waiting failed", &error))?;
        Ok(self.waited)
    }

    /// Lets a descriptor of the application end waits and make the loop's fd readable while it is
    /// readable itself. The application reads it until nothing is left.
    ///
    /// # Errors
    /// [`ErrorKind::Io`] if the poller refuses it, [`ErrorKind::Forked`].
    pub fn watch(&mut self, fd: RawFd) -> Result<()> {
        self.context.check_fork()?;
        self.context
            .poller
            .add(fd, FOREIGN, Interest::READ)
            .map_err(|error| Error::from_io(ErrorKind::Io, "cannot watch", &error))
    }

    /// Whether a watched descriptor was readable in a dispatch since this was last asked.
    pub const fn take_watched(&mut self) -> bool {
        std::mem::replace(&mut self.watched, false)
    }

    /// Takes back [`watch`](Self::watch).
    ///
    /// # Errors
    /// [`ErrorKind::Forked`].
    pub fn unwatch(&mut self, fd: RawFd) -> Result<()> {
        self.context.check_fork()?;
        self.context.poller.remove(fd);
        Ok(())
    }

    /// Ends every connection and server at once, with their last callbacks.
    pub fn shut_down(mut self, handler: &mut impl Handler) {
        self.finish(handler);
    }

    /// As [`shut_down`](Self::shut_down), leaving an empty loop that takes no more commands from
    /// other threads.
    pub fn finish(&mut self, handler: &mut impl Handler) {
        self.inbox.close();
        if self.context.check_fork().is_err() {
            // The poller and the sockets are the parent's too, and in use there.
            return;
        }
        self.context.dispatching = true;
        self.context.ending = true;
        // Callbacks may give commands, though none can start anything, so a second round finds
        // less than the first.
        while !self.context.is_idle() {
            // First, so that the ends below are counted for `on_stopped`.
            self.context.stop_all_servers();
            for id in self.context.slots.ids() {
                if !matches!(self.context.slots.at(id.index()).stage, Stage::Ended(_)) {
                    self.context.end(
                        id,
                        Error::new(ErrorKind::Stopped, "the loop was freed"),
                        false,
                    );
                }
            }
            self.context.budget = u32::MAX;
            self.tell(handler);
        }
        self.context.dispatching = false;
    }

    fn turn<H: Handler>(&mut self, timeout: Option<Duration>, handler: &mut H) -> Result<bool> {
        self.context.check_fork()?;
        if self.context.dispatching {
            return Err(Error::new(
                ErrorKind::Panic,
                "an earlier dispatch of this loop panicked; it cannot go on",
            ));
        }
        let is_fresh = self.waited || self.done >= self.ready.len();
        if is_fresh && !self.waited {
            self.done = 0;
            let timeout = if self.has_more() {
                Some(Duration::ZERO)
            } else {
                timeout
            };
            self.context
                .poller
                .wait(timeout, &mut self.ready)
                .map_err(|error| Error::from_io(ErrorKind::Io, "waiting failed", &error))?;
        }
        self.waited = false;
        self.context.dispatching = true;
        self.context.now = Poller::now();
        self.context.budget = self.max_events;
        self.run_commands();
        self.context.take_resolutions();
        self.tell(handler);
        // What was left over goes first, or one connection's long input would hold up the others.
        if is_fresh {
            self.go_on_with_unread(handler);
            self.go_through_ready(handler);
        } else {
            self.go_through_ready(handler);
            self.go_on_with_unread(handler);
        }
        self.run_timers();
        self.tell(handler);
        handler.on_given(&mut self.context);
        self.tell(handler);
        self.context.flush_dirty();
        self.tell(handler);
        self.context.flush_dirty();
        self.context.check_budgets();
        self.context.dispatching = false;
        if self.done < self.ready.len() {
            self.context.poller.waker().wake();
        }
        self.context.rearm();
        Ok(self.has_more())
    }

    pub(crate) fn parts(&mut self) -> (&mut Context, &mut [u8]) {
        (&mut self.context, &mut self.buffer)
    }

    /// Whether there is work that the kernel does not know of.
    fn has_more(&self) -> bool {
        self.done < self.ready.len()
            || !self.context.notices.is_empty()
            || !self.context.unread.is_empty()
    }

    fn go_through_ready<H: Handler>(&mut self, handler: &mut H) {
        while let Some(&ready) = self.ready.get(self.done) {
            if self.context.budget == 0 {
                return;
            }
            self.done += 1;
            self.on_ready(ready, handler);
            self.tell(handler);
        }
    }

    fn on_ready<H: Handler>(&mut self, ready: Ready, handler: &mut H) {
        if let Some((server, number)) = listener_of(ready.token) {
            return self.context.accept_from(server, number);
        }
        let Some(id) = ConnId::from_u64(ready.token) else {
            // A watched descriptor, which its owner reads.
            self.watched = true;
            return self.context.poller.blocked(ready.token, Interest::READ);
        };
        let Some(slot) = self.context.slots.get(id) else {
            return;
        };
        if matches!(slot.stage, Stage::Opening(_)) {
            return self.on_ready_opening(id, ready, handler);
        }
        if ready.writable && slot.flags.blocked {
            self.context.flush(id);
            self.context.flush_owed(id);
            handler.on_written(&mut self.context.conn(id));
        }
        if ready.readable || ready.hangup {
            self.on_readable(id, ready.hangup, handler);
        }
    }

    /// Goes on with connections whose bytes were read before.
    fn go_on_with_unread<H: Handler>(&mut self, handler: &mut H) {
        for _ in 0..self.context.unread.len() {
            if self.context.budget == 0 {
                return;
            }
            let Some(id) = self.context.unread.pop_front() else {
                return;
            };
            if let Some(slot) = self.context.slots.get(id) {
                slot.flags.queued = false;
                self.on_queued(id, handler);
                self.tell(handler);
            }
        }
    }

    fn run_commands(&mut self) {
        for (_, command) in self.inbox.take() {
            let result = run(&mut self.context, command);
            if let Err(error) = result {
                self.context.log(LogLevel::Debug, || {
                    format!("a command from another thread was dropped: {error}")
                });
            }
        }
    }

    fn run_timers(&mut self) {
        let now = self.context.now;
        while let Some(index) = self.context.timers.expired(now) {
            self.context.on_timer(index);
        }
        if self
            .context
            .servers
            .deadline()
            .is_some_and(|at: Time| at <= now)
        {
            self.context.servers_due();
        }
    }

    /// Tells the application what is on the list of notices.
    pub(crate) fn tell<H: Handler>(&mut self, handler: &mut H) {
        while self.context.budget > 0 {
            let Some(notice) = self.context.notices.pop_front() else {
                return;
            };
            self.context.budget -= 1;
            tell_one(&mut self.context, notice, handler);
        }
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        self.inbox.close();
    }
}

fn run(context: &mut Context, command: Command) -> Result<()> {
    match command {
        Command::Send {
            id,
            message_type,
            payload,
            compress,
        } => context
            .send_owned(id, message_type, &payload, compress)
            .map(drop),
        Command::Prepared { id, message } => context.send_prepared(id, &message).map(drop),
        Command::Broadcast {
            server,
            message,
            except,
        } => context.broadcast_server(server, &message, except).map(drop),
        Command::Fragment {
            id,
            message_type,
            payload,
            fin,
            compress,
        } => context
            .conn(id)
            .send_fragment_with(message_type, &payload, fin, compress)
            .map(drop),
        Command::Ping { id, payload } => context.conn(id).ping(&payload).map(drop),
        Command::Pong { id, payload } => context.conn(id).pong(&payload).map(drop),
        Command::Close { id, code, reason } => context.conn(id).close(code, &reason),
        Command::Terminate(id) => context.conn(id).terminate(),
        Command::Accept { id, accept } => context.conn(id).accept(&accept),
        Command::Respond { id, response } => context.conn(id).respond(&response),
        Command::StopServer { server, grace } => context.stop_server(server, grace),
        Command::Post(call) => {
            call(context);
            Ok(())
        }
    }
}

fn tell_one<H: Handler>(context: &mut Context, notice: Notice, handler: &mut H) {
    match notice {
        Notice::Open { id, head } => tell_open(context, id, &head, handler),
        Notice::Drain(id) => {
            let Some(slot) = context.slots.get(id) else {
                return;
            };
            slot.flags.drain_noted = false;
            // After backpressure that was told meanwhile another drain is to come; of a failed
            // connection only the end is told.
            if slot.flags.wants_drain {
                return;
            }
            if slot
                .established()
                .is_some_and(|established| established.connection.phase() != Phase::Failed)
            {
                handler.on_drain(&mut context.conn(id));
            }
        }
        Notice::Close(id) => {
            let Some(slot) = context.slots.get(id) else {
                return;
            };
            if !matches!(slot.stage, Stage::Ended(_)) {
                return;
            }
            // While it is told the slot stays taken, so that the number is not stale yet.
            let stage = std::mem::replace(
                &mut slot.stage,
                Stage::Ended(Box::new(Closed::abnormal(Error::closed()))),
            );
            if let Stage::Ended(closed) = stage {
                handler.on_close(&mut context.conn(id), &closed);
            }
            context.free(id);
        }
        Notice::Error {
            server,
            error,
            peer,
        } => handler.on_error(context, server, &error, peer.as_ref()),
        Notice::Stopped(server) => {
            let counts = context
                .servers
                .peek(server)
                .map(|server| server.stopped)
                .unwrap_or_default();
            context.servers.remove(server);
            handler.on_stopped(context, server, counts);
        }
    }
}

fn tell_open<H: Handler>(context: &mut Context, id: ConnId, head: &[u8], handler: &mut H) {
    let Some(slot) = context.slots.get(id) else {
        return;
    };
    let at_server = slot.server.is_some();
    if !at_server && !matches!(slot.stage, Stage::Open(_)) {
        // A client whose connection has ended meanwhile hears of the end only; a server hears of
        // both, because it is promised no end without a beginning.
        return;
    }
    slot.flags.announced = true;
    let max_headers = slot.config.max_handshake_headers as usize;
    if at_server {
        if let Ok(request) = Request::parse(head, max_headers) {
            handler.on_open(&mut context.conn(id), Handshake::Request(&request));
        }
    } else if let Ok(response) = ResponseHead::parse(head, max_headers) {
        handler.on_open(&mut context.conn(id), Handshake::Response(&response));
    }
}
