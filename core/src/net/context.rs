//! Everything a command may touch: the connections, servers, outputs, timers and the poller, and
//! how a connection goes from one stage to the next.
//!
//! A [`Context`] is what a callback gets, through a [`Conn`](crate::net::conn::Conn), and what a
//! [`Loop`](crate::net::r#loop::Loop) is outside of callbacks. Nothing in here calls back: what the
//! application is to be told is put on a list of notices, which the loop works off.
//!
//! Does not know: who listens, or how input is read.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Role;
use crate::net::connector::Connector;
use crate::net::listener::{Server, ServerId, Servers};
use crate::net::output::Outputs;
use crate::net::poller::{Interest, Poller};
use crate::net::random::SystemRandom;
use crate::net::slot::{ConnId, Established, Opening, Pending, Slots, Stage};
use crate::net::socket::{PeerAddr, Socket, connect_tcp, fork_count, watch_forks};
use crate::net::timers::Timers;
use crate::protocol::connection::{Closed, Connection, Due, Phase, Tools};
use crate::protocol::handshake::server::{Refusal, Response};
use crate::protocol::message::Buffers;
use crate::protocol::receive::Receive;
use crate::time::{Time, earliest};

/// How important a line of the log is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Something failed and needs attention.
    Error = 1,
    /// Something is wrong and was dealt with.
    Warn = 2,
    /// Starts and stops.
    Info = 3,
    /// Every connection's fate.
    Debug = 4,
}

/// A receiver of log lines; it must not call into the loop.
pub type LogSink = Box<dyn FnMut(LogLevel, &str) + Send>;

/// Counts of a loop since it was made, and what it holds now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Connections that are established now.
    pub connections: u64,
    /// Opening handshakes that servers are waiting for now.
    pub pending_handshakes: u64,
    /// Bytes that wait to be written now.
    pub buffered_bytes: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes handed to the kernel.
    pub bytes_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Messages accepted for sending.
    pub messages_sent: u64,
    /// Connections whose closing handshake completed.
    pub closes_clean: u64,
    /// Connections whose transport was lost.
    pub closes_lost: u64,
    /// Connections failed because the peer broke a rule or a limit.
    pub closes_protocol: u64,
    /// Connections that ended by a deadline.
    pub closes_timeout: u64,
    /// Connections this side terminated.
    pub closes_local: u64,
    /// Opening handshakes that failed.
    pub handshakes_failed: u64,
}

/// Something the application is to be told.
pub(crate) enum Notice {
    /// A connection is open; the bytes are the head of the peer's part of the opening handshake.
    Open { id: ConnId, head: Arc<[u8]> },
    Drain(ConnId),
    Close(ConnId),
    Error { server: ServerId, error: Error, peer: Option<PeerAddr> },
    Stopped(ServerId),
}

/// The state of a loop, without the loop.
pub struct Context {
    pub(crate) poller: Poller,
    pub(crate) timers: Timers,
    pub(crate) slots: Slots,
    pub(crate) servers: Servers,
    pub(crate) connector: Connector,
    pub(crate) outputs: Outputs,
    pub(crate) buffers: Buffers,
    pub(crate) random: SystemRandom,
    pub(crate) notices: VecDeque<Notice>,
    /// Connections with output to write at the end of the turn.
    pub(crate) dirty: Vec<ConnId>,
    /// Connections with bytes to go on with.
    pub(crate) unread: VecDeque<ConnId>,
    /// The time of this dispatch, or of the latest.
    pub(crate) now: Time,
    /// Whether a dispatch is under way.
    pub(crate) dispatching: bool,
    /// Whether sends outside a dispatch wait for a flush.
    pub(crate) deferring: bool,
    /// Whether the loop is being freed, so that nothing new may begin.
    pub(crate) ending: bool,
    pub(crate) stats: Stats,
    log: Option<(LogLevel, LogSink)>,
    forks: u32,
}

impl Context {
    pub(crate) fn new() -> io::Result<Self> {
        watch_forks();
        let poller = Poller::new()?;
        let connector = Connector::new(poller.waker());
        let now = Poller::now();
        Ok(Self {
            poller,
            timers: Timers::new(now),
            slots: Slots::new(),
            servers: Servers::default(),
            connector,
            outputs: Outputs::default(),
            buffers: Buffers::default(),
            random: SystemRandom::new()?,
            notices: VecDeque::new(),
            dirty: Vec::new(),
            unread: VecDeque::new(),
            now,
            dispatching: false,
            deferring: false,
            ending: false,
            stats: Stats::default(),
            log: None,
            forks: fork_count(),
        })
    }

    pub(crate) fn set_log(&mut self, level: LogLevel, sink: LogSink) {
        self.log = Some((level, sink));
    }

    /// Writes a line to the log, if anybody wants it; `text` is not made otherwise.
    pub(crate) fn log(&mut self, level: LogLevel, text: impl FnOnce() -> String) {
        if let Some((wanted, sink)) = &mut self.log
            && level <= *wanted
        {
            sink(level, &text());
        }
    }

    /// Refuses calls in the child of a fork, whose poller is its parent's.
    #[inline]
    pub(crate) fn check_fork(&self) -> Result<()> {
        if self.forks == fork_count() { Ok(()) } else { Err(forked()) }
    }

    /// Reads the clock for a command outside a dispatch; inside, the dispatch's time counts.
    #[inline]
    pub(crate) fn refresh_now(&mut self) {
        if !self.dispatching {
            self.now = Poller::now();
        }
    }

    /// Leaves nothing undone that was caused outside a dispatch: writes, unless they are deferred,
    /// and sees to it that the fd becomes readable when there is something to dispatch.
    #[inline]
    pub(crate) fn settle(&mut self) {
        if !self.dispatching {
            self.settle_outside();
        }
    }

    fn settle_outside(&mut self) {
        if !self.deferring {
            self.flush_dirty();
        }
        self.rearm();
    }

    /// Sets the poller's timer and wakes it if something is left to do.
    pub(crate) fn rearm(&mut self) {
        let next = earliest(self.timers.next(), self.servers.deadline());
        if let Err(error) = self.poller.set_timer(next) {
            self.log(LogLevel::Error, || format!("cannot set the timer: {error}"));
        }
        if !self.notices.is_empty() || !self.unread.is_empty() {
            self.poller.waker().wake();
        }
    }

    // Stages.

    /// Puts a socket under the poller's eyes.
    pub(crate) fn attach(&mut self, id: ConnId, socket: Socket, interest: Interest) -> io::Result<()> {
        self.poller.add(socket.fd(), id.as_u64(), interest)?;
        let slot = self.slots.at(id.index());
        slot.socket = Some(socket);
        slot.interest = interest;
        Ok(())
    }

    /// Tells the poller what a connection waits for.
    pub(crate) fn update_interest(&mut self, id: ConnId) {
        let slot = self.slots.at(id.index());
        let (Some(socket), false) = (&slot.socket, slot.flags.detached) else {
            return;
        };
        let readable = match &slot.stage {
            Stage::Opening(pending) => match pending.opening {
                Opening::Request { .. } | Opening::Response { .. } => true,
                Opening::Resolving | Opening::Connecting { .. } | Opening::Held { .. } => false,
            },
            Stage::Open(_) => !slot.flags.paused,
            Stage::Lingering { .. } => true,
            Stage::Vacant | Stage::Ended(_) => false,
        };
        let interest = Interest { readable, writable: slot.flags.blocked };
        if interest != slot.interest {
            // The kernel refuses this only for want of memory; the next change tries again.
            if self.poller.modify(socket.fd(), id.as_u64(), interest).is_ok() {
                slot.interest = interest;
            }
        }
    }

    /// Sets the timer of a connection if its deadline is earlier than what the timer is set for; a
    /// deadline that has moved away is noticed when the timer fires.
    pub(crate) fn arm(&mut self, id: ConnId) {
        let slot = self.slots.at(id.index());
        let Some(deadline) = deadline_of(&slot.stage, &slot.config) else {
            return;
        };
        if slot.timer.is_none_or(|at| deadline < at) {
            slot.timer = Some(deadline);
            self.timers.set(id.index(), deadline);
        }
    }

    /// Makes a connection established: the opening handshake is complete.
    pub(crate) fn establish(&mut self, id: ConnId, role: Role, subprotocol: Option<Box<str>>, head: Arc<[u8]>) {
        let now = self.now;
        let slot = self.slots.at(id.index());
        slot.stage = Stage::Open(Established {
            connection: Connection::new(role, &slot.config, now),
            receive: Receive::new(role),
            subprotocol,
        });
        slot.timer = None;
        self.stats.connections += 1;
        self.notices.push_back(Notice::Open { id, head });
        self.update_interest(id);
        self.arm(id);
    }

    /// Answers a request with an HTTP response, which ends its connection.
    pub(crate) fn respond_and_linger(&mut self, id: ConnId, response: &Response, to_head: bool) {
        let now = self.now;
        let output = self.output(id);
        response.encode(to_head, output.bytes());
        output.mark_lead();
        self.leave_pending(id);
        let slot = self.slots.at(id.index());
        slot.stage = Stage::Lingering { deadline: now.after(slot.config.close_timeout) };
        slot.timer = None;
        self.update_interest(id);
        self.arm(id);
    }

    /// Refuses a request and reports it.
    pub(crate) fn refuse(&mut self, id: ConnId, refusal: Refusal) {
        let to_head = false;
        self.report_handshake(id, refusal.error);
        self.respond_and_linger(id, &refusal.response, to_head);
    }

    /// Takes a server's connection off the count of those whose request is being read.
    pub(crate) fn leave_pending(&mut self, id: ConnId) {
        let slot = self.slots.at(id.index());
        if let (Stage::Opening(pending), Some(server)) = (&slot.stage, slot.server)
            && matches!(pending.opening, Opening::Request { .. })
            && let Some(server) = self.servers.get(server)
        {
            server.pending -= 1;
        }
    }

    /// Tells a server of an opening handshake that failed.
    fn report_handshake(&mut self, id: ConnId, error: Error) {
        let slot = self.slots.at(id.index());
        let (Some(server), peer) = (slot.server, slot.socket.as_ref().and_then(Socket::peer_addr)) else {
            return;
        };
        self.stats.handshakes_failed += 1;
        self.log(LogLevel::Debug, || format!("{id}: {error}"));
        self.notices.push_back(Notice::Error { server, error, peer });
    }

    /// Ends a connection's transport. `cause` is what its owner is told, unless the connection
    /// knows better; `reset` discards what the kernel has not sent.
    pub(crate) fn end(&mut self, id: ConnId, cause: Error, reset: bool) {
        let role = self.role_of(id);
        self.leave_pending(id);
        let slot = self.slots.at(id.index());
        let stage = std::mem::replace(&mut slot.stage, Stage::Vacant);
        let from_server = slot.server.is_some();
        let mut dropped = 0;
        if let Some(output) = slot.output.take() {
            dropped = self.outputs.get(output).messages(role);
            self.outputs.give_back(output);
        }
        slot.unread = None;
        let closed = match stage {
            Stage::Open(mut established) => {
                established.receive.stop(&mut self.buffers);
                self.stats.connections -= 1;
                Some(established.connection.closed(cause))
            }
            Stage::Opening(_) if from_server => {
                // The slot is put back for the report, which asks it for its server and peer.
                slot.stage = Stage::Lingering { deadline: self.now };
                self.report_handshake(id, cause);
                None
            }
            Stage::Opening(_) => {
                self.stats.handshakes_failed += 1;
                Some(Closed::abnormal(cause))
            }
            Stage::Ended(closed) => Some(*closed),
            Stage::Lingering { .. } | Stage::Vacant => None,
        };
        self.close_socket(id, reset);
        let announce = closed.is_some();
        self.count_end(id, closed.as_ref(), dropped);
        match closed {
            Some(closed) => {
                self.log(LogLevel::Debug, || format!("{id}: closed, {}: {:?}", closed.code, closed.error));
                self.slots.at(id.index()).stage = Stage::Ended(Box::new(closed));
            }
            None => self.free(id),
        }
        if announce {
            self.notices.push_back(Notice::Close(id));
        }
    }

    /// Ends a client's connection whose opening handshake was refused with an HTTP status.
    pub(crate) fn end_refused(&mut self, id: ConnId, cause: Error, http_status: u16) {
        self.end(id, cause, false);
        if let Some(slot) = self.slots.get(id)
            && let Stage::Ended(closed) = &mut slot.stage
        {
            closed.http_status = http_status;
        }
    }

    fn close_socket(&mut self, id: ConnId, reset: bool) {
        let slot = self.slots.at(id.index());
        self.timers.cancel(id.index());
        slot.timer = None;
        if let Some(socket) = slot.socket.take() {
            if !slot.flags.detached {
                self.poller.remove(socket.fd());
            }
            if reset {
                socket.reset();
            }
        }
    }

    fn count_end(&mut self, id: ConnId, closed: Option<&Closed>, dropped: u64) {
        let Some(closed) = closed else {
            return;
        };
        let count = match closed.error.as_ref().map(Error::kind) {
            None => &mut self.stats.closes_clean,
            Some(
                ErrorKind::Protocol
                | ErrorKind::InvalidText
                | ErrorKind::MessageTooBig
                | ErrorKind::TooManyFragments,
            ) => &mut self.stats.closes_protocol,
            Some(ErrorKind::KeepaliveTimeout | ErrorKind::IdleTimeout | ErrorKind::CloseTimeout) => {
                &mut self.stats.closes_timeout
            }
            Some(ErrorKind::Terminated | ErrorKind::Stopped) => &mut self.stats.closes_local,
            Some(_) => &mut self.stats.closes_lost,
        };
        *count += 1;
        let server = self.slots.at(id.index()).server;
        if let Some(server) = server.and_then(|server| self.servers.get(server))
            && server.stop_deadline.is_some()
        {
            if closed.is_clean() {
                server.stopped.clean += 1;
            } else {
                server.stopped.forced += 1;
            }
            server.stopped.messages_dropped += dropped;
        }
    }

    /// Frees a slot whose connection is over and, if the application knew of it, told.
    pub(crate) fn free(&mut self, id: ConnId) {
        let server = self.slots.at(id.index()).server;
        self.slots.remove(id.index());
        if let Some(server) = server.and_then(|server| self.servers.get(server)) {
            server.connections -= 1;
            announce_stopped(server, &mut self.notices);
        }
    }

    /// Which side of a connection we are.
    pub(crate) fn role_of(&mut self, id: ConnId) -> Role {
        if self.slots.at(id.index()).server.is_some() { Role::Server } else { Role::Client }
    }

    /// Calls `act` with an established connection and what it needs to write, and sees to the
    /// consequences: output, deadline, and a failure's end of reading.
    pub(crate) fn with_connection<T>(
        &mut self,
        id: ConnId,
        act: impl FnOnce(&mut Connection, &mut Tools<'_>) -> T,
    ) -> Option<T> {
        let slot = self.slots.at(id.index());
        let Stage::Open(established) = &mut slot.stage else {
            return None;
        };
        let output = *slot.output.get_or_insert_with(|| self.outputs.take());
        let mut tools = Tools {
            now: self.now,
            config: &slot.config,
            random: &mut self.random,
            out: self.outputs.get_mut(output).bytes(),
        };
        let value = act(&mut established.connection, &mut tools);
        if established.connection.phase() == Phase::Failed {
            // Reading goes on, to discard, so that the peer gets to see the Close frame.
            established.receive.stop(&mut self.buffers);
            slot.unread = None;
            slot.flags.paused = false;
            self.update_interest(id);
        }
        self.mark_dirty(id);
        self.arm(id);
        Some(value)
    }

    /// Fails a connection (RFC 6455 §7.1.7). Its application is not called until it has ended.
    pub(crate) fn fail(&mut self, id: ConnId, error: Error) {
        self.with_connection(id, |connection, tools| connection.fail(error, tools));
    }

    /// Does what is due for a connection whose timer fired.
    pub(crate) fn on_timer(&mut self, index: u32) {
        let Some(id) = self.slots.id_at(index) else {
            return;
        };
        let now = self.now;
        let slot = self.slots.at(index);
        slot.timer = None;
        let late = deadline_of(&slot.stage, &slot.config).is_some_and(|at| at <= now);
        if !late {
            return self.arm(id);
        }
        match &slot.stage {
            Stage::Vacant | Stage::Ended(_) => {}
            Stage::Lingering { .. } => self.end(id, Error::closed(), true),
            Stage::Opening(_) => self.opening_late(id),
            Stage::Open(_) => {
                let due = self.with_connection(id, |connection, tools| connection.timeout(tools));
                if due == Some(Due::Reset) {
                    let error = Error::new(
                        ErrorKind::CloseTimeout,
                        "the peer did not complete the closing handshake within close_timeout",
                    );
                    self.end(id, error, true);
                }
            }
        }
    }

    /// The time of an opening handshake, or of one attempt to connect, is over.
    fn opening_late(&mut self, id: ConnId) {
        let now = self.now;
        let slot = self.slots.at(id.index());
        let Stage::Opening(pending) = &mut slot.stage else {
            return;
        };
        match &mut pending.opening {
            Opening::Request { .. } => self.refuse(id, Refusal::timeout()),
            Opening::Held { .. } => self.refuse(id, Refusal::unanswered()),
            Opening::Connecting { left, .. } if pending.deadline > now && !left.is_empty() => {
                let error = io::Error::from(io::ErrorKind::TimedOut);
                self.try_next_address(id, &error);
            }
            Opening::Resolving | Opening::Connecting { .. } | Opening::Response { .. } => {
                let what = match pending.opening {
                    Opening::Resolving => "resolving the host",
                    Opening::Connecting { .. } => "connecting",
                    _ => "waiting for the response",
                };
                let detail = format!("handshake_timeout passed while {what}");
                self.end(id, Error::new(ErrorKind::HandshakeTimeout, detail), true);
            }
        }
    }

    /// Goes on with the next address of a client's host, after `error` with the one before.
    pub(crate) fn try_next_address(&mut self, id: ConnId, error: &io::Error) {
        self.close_socket(id, true);
        let slot = self.slots.at(id.index());
        let Stage::Opening(pending) = &mut slot.stage else {
            return;
        };
        if let Opening::Connecting { left, .. } = &mut pending.opening
            && !left.is_empty()
        {
            let left = std::mem::take(left);
            return self.connect_to(id, left);
        }
        let place = pending.request.as_ref().map(|request| request.0.authority.clone()).unwrap_or_default();
        let what = format!("cannot connect to {place}");
        self.end(id, Error::from_io(ErrorKind::Connect, what, error), true);
    }

    /// Starts to connect to the first of `addresses`; each gets its share of the time that is left.
    pub(crate) fn connect_to(&mut self, id: ConnId, mut addresses: VecDeque<SocketAddr>) {
        while let Some(address) = addresses.pop_front() {
            match connect_tcp(address) {
                Ok(socket) => return self.await_connect(id, socket, addresses),
                Err(error) if addresses.is_empty() => {
                    let what = format!("cannot connect to {address}");
                    return self.end(id, Error::from_io(ErrorKind::Connect, what, &error), true);
                }
                Err(_) => {}
            }
        }
    }

    /// Waits for a started connection to be made.
    pub(crate) fn await_connect(&mut self, id: ConnId, socket: Socket, left: VecDeque<SocketAddr>) {
        let now = self.now;
        let slot = self.slots.at(id.index());
        let Stage::Opening(pending) = &mut slot.stage else {
            return;
        };
        let share = pending.deadline.since(now) / (left.len() as u32 + 1);
        pending.opening = Opening::Connecting { left, attempt_deadline: now.after(share) };
        slot.flags.blocked = true;
        if let Err(error) = self.attach(id, socket, Interest::WRITE) {
            return self.end(id, Error::from_io(ErrorKind::Io, "cannot watch the socket", &error), true);
        }
        self.arm(id);
    }

    /// Begins to stop a server.
    pub(crate) fn begin_stop(&mut self, id: ServerId, deadline: Time) -> Result<()> {
        let Some(server) = self.servers.get(id) else {
            return Err(server_closed());
        };
        if server.stop_deadline.is_some() {
            return Err(Error::new(ErrorKind::State, "the server is stopping already"));
        }
        server.stop_deadline = Some(deadline);
        for socket in &server.sockets {
            self.poller.remove(socket.fd());
        }
        server.close_sockets();
        announce_stopped(server, &mut self.notices);
        for conn in self.connections_of(id) {
            match self.slots.at(conn.index()).stage {
                Stage::Opening(_) => self.refuse(conn, Refusal::stopping()),
                Stage::Open(_) => {
                    self.with_connection(conn, |connection, tools| {
                        // One that is closing already goes on with that.
                        let _ = connection.close(Some(1001), "the server is stopping", tools);
                    });
                }
                Stage::Vacant | Stage::Lingering { .. } | Stage::Ended(_) => {}
            }
        }
        Ok(())
    }

    /// Does what is due for servers: the end of a stop, and accepting after a pause.
    pub(crate) fn servers_due(&mut self) {
        let now = self.now;
        let mut late: Vec<ServerId> = Vec::new();
        for server in self.servers.iter_mut() {
            if server.stop_deadline.is_some_and(|at| at <= now) && server.connections > 0 {
                late.push(server.id);
            }
            if server.accept_again.is_some_and(|at| at <= now) {
                server.accept_again = None;
                for (number, socket) in server.sockets.iter().enumerate() {
                    // If this fails the server stays deaf until the next pause ends; it does not,
                    // because a registration exists and is only changed.
                    let _ = self.poller.modify(socket.fd(), listener_token(server.id, number), Interest::READ);
                }
            }
        }
        for id in late {
            for conn in self.connections_of(id) {
                let error = Error::new(ErrorKind::Stopped, "the server's stop deadline passed");
                self.end(conn, error, true);
            }
            if let Some(server) = self.servers.get(id) {
                // The rest is told by notices; the deadline has done its work.
                server.stop_deadline = Some(Time::from_millis(u64::MAX));
            }
        }
    }

    /// Stops all servers, whose connections have ended.
    pub(crate) fn stop_all_servers(&mut self) {
        for server in self.servers.iter_mut() {
            for socket in &server.sockets {
                self.poller.remove(socket.fd());
            }
            server.close_sockets();
            server.stop_deadline.get_or_insert(self.now);
            announce_stopped(server, &mut self.notices);
        }
    }

    /// Refuses to begin something while the loop is being freed.
    pub(crate) fn check_alive(&self) -> Result<()> {
        self.check_fork()?;
        if self.ending {
            return Err(Error::new(ErrorKind::Closed, "the loop is being freed"));
        }
        Ok(())
    }

    fn connections_of(&mut self, server: ServerId) -> Vec<ConnId> {
        let mut ids = self.slots.ids();
        ids.retain(|&id| self.slots.at(id.index()).server == Some(server));
        ids
    }

    /// A fresh slot for a connection that came to a server.
    pub(crate) fn insert_accepted(&mut self, server: ServerId, socket: Socket) -> Result<()> {
        let Some(entry) = self.servers.get(server) else {
            return Ok(());
        };
        let config = Arc::clone(&entry.config);
        if config.no_delay {
            // A connection that cannot have it is no worse than one with Nagle's algorithm.
            let _ = socket.set_nodelay(true);
        }
        let deadline = self.now.after(config.handshake_timeout);
        let opening = Opening::Request { reader: Default::default() };
        let pending = Pending { opening, deadline, request: None };
        let Some(id) = self.slots.insert(config, Stage::Opening(Box::new(pending))) else {
            return Err(Error::new(ErrorKind::NoMemory, "no connection numbers are left"));
        };
        let slots = &mut self.slots;
        slots.at(id.index()).server = Some(server);
        slots.at(id.index()).tag = entry.tag;
        let mut is_pending = |id| slots.get(id).is_some_and(|slot| is_reading_request(&slot.stage));
        let oldest = entry.crowded_out(&mut is_pending);
        entry.connections += 1;
        entry.add_pending(id, &mut is_pending);
        if let Err(error) = self.attach(id, socket, Interest::READ) {
            self.end(id, Error::from_io(ErrorKind::Io, "cannot watch the socket", &error), true);
            return Ok(());
        }
        self.arm(id);
        if let Some(oldest) = oldest {
            let detail = "more opening handshakes were pending than max_pending_handshakes; the oldest was dropped";
            self.end(oldest, Error::new(ErrorKind::Overloaded, detail), true);
        }
        Ok(())
    }
}

/// The poller's token of a listening socket: the highest bit tells it from a connection.
pub(crate) const fn listener_token(server: ServerId, number: usize) -> u64 {
    1 << 63 | server.as_u64() << 8 | number as u64
}

/// The server and the number of the socket that a token means, if it means a listening socket.
pub(crate) const fn listener_of(token: u64) -> Option<(ServerId, usize)> {
    if token >> 63 == 0 {
        return None;
    }
    match ServerId::from_u64((token & !(1 << 63)) >> 8) {
        Some(server) => Some((server, (token & 0xff) as usize)),
        None => None,
    }
}

fn is_reading_request(stage: &Stage) -> bool {
    matches!(stage, Stage::Opening(pending) if matches!(pending.opening, Opening::Request { .. }))
}

/// Puts the end of a stopping server on the list, once nothing belongs to it any more.
fn announce_stopped(server: &mut Server, notices: &mut VecDeque<Notice>) {
    if server.stop_deadline.is_some() && server.connections == 0 && !server.announced {
        server.announced = true;
        notices.push_back(Notice::Stopped(server.id));
    }
}

/// When something is to be done about a connection.
fn deadline_of(stage: &Stage, config: &Config) -> Option<Time> {
    match stage {
        Stage::Vacant | Stage::Ended(_) => None,
        Stage::Lingering { deadline } => Some(*deadline),
        Stage::Open(established) => established.connection.deadline(config),
        Stage::Opening(pending) => Some(match &pending.opening {
            Opening::Connecting { attempt_deadline, .. } => pending.deadline.min(*attempt_deadline),
            _ => pending.deadline,
        }),
    }
}

#[cold]
fn forked() -> Error {
    Error::new(ErrorKind::Forked, "the loop was made before this process was forked; it belongs to the parent")
}

pub(crate) fn server_closed() -> Error {
    Error::new(ErrorKind::Closed, "the server has stopped")
}
