//! Everything a command may touch: the connections, servers, outputs, timers and the poller, and
//! what every command is made of.
//!
//! A [`Context`] is what a callback gets, through a [`Conn`](crate::net::conn::Conn), and what a
//! [`Loop`](crate::Loop) is outside of callbacks. Nothing in here calls back: what the
//! application is to be told is put on a list of notices, which the loop works off.
//!
//! Does not know: who listens, or how input is read.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::event::Role;
use crate::net::connector::Connector;
use crate::net::listener::Servers;
use crate::net::number::ConnId;
use crate::net::number::ServerId;
use crate::net::output::Outputs;
use crate::net::poller::{Interest, Poller};
use crate::net::random::SystemRandom;
use crate::net::slot::{Opening, Slots, Stage};
use crate::net::socket::{PeerAddr, Socket, fork_count, watch_forks};
use crate::net::timers::Timers;
use crate::protocol::connection::{Connection, Phase, Tools};
use crate::protocol::deflate::Compressors;
use crate::protocol::message::Buffers;
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
    /// Connections whose transport was lost, or that failed on this side.
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
    Open {
        id: ConnId,
        head: Arc<[u8]>,
    },
    Drain(ConnId),
    Close(ConnId),
    Error {
        server: ServerId,
        error: Error,
        peer: Option<PeerAddr>,
    },
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
    pub(crate) compressors: Compressors,
    pub(crate) notices: VecDeque<Notice>,
    /// Connections with output to write at the end of the turn.
    pub(crate) dirty: Vec<ConnId>,
    /// Connections with bytes to go on with.
    pub(crate) unread: VecDeque<ConnId>,
    /// The time of this dispatch, or of the latest.
    pub(crate) now: Time,
    /// Whether a dispatch is under way.
    pub(crate) dispatching: bool,
    /// Callbacks left in this dispatch.
    pub(crate) budget: u32,
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
            compressors: Compressors::default(),
            notices: VecDeque::new(),
            dirty: Vec::new(),
            unread: VecDeque::new(),
            now,
            dispatching: false,
            budget: 0,
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
        if self.forks == fork_count() {
            Ok(())
        } else {
            Err(forked())
        }
    }

    /// Ends the dispatch that is under way after the callback that is being made. What it leaves is
    /// done by the next one; nothing is lost. For hosts whose callbacks can ask to be left.
    pub const fn yield_dispatch(&mut self) {
        self.budget = 0;
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
        // What was sent may have brought a server over its budget, and no dispatch may follow soon.
        self.check_budgets();
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

    /// Puts a socket under the poller's eyes.
    pub(crate) fn attach(
        &mut self,
        id: ConnId,
        socket: Socket,
        interest: Interest,
    ) -> io::Result<()> {
        self.poller.add(socket.fd(), id.as_u64(), interest)?;
        let slot = self.slots.at(id.index());
        slot.socket = Some(socket);
        slot.interest = interest;
        Ok(())
    }

    /// Tells the poller what a connection waits for. If that is refused, the next dispatch tries
    /// once more, and ends the connection if it is refused again.
    pub(crate) fn update_interest(&mut self, id: ConnId) {
        if self.try_interest(id).is_err() {
            self.queue_unread(id);
        }
    }

    /// As [`update_interest`](Self::update_interest), without a second chance.
    pub(crate) fn try_interest(&mut self, id: ConnId) -> io::Result<()> {
        let slot = self.slots.at(id.index());
        let (Some(socket), false) = (&slot.socket, slot.flags.detached) else {
            return Ok(());
        };
        let readable = match &slot.stage {
            Stage::Opening(pending) => match pending.opening {
                Opening::Request { .. } | Opening::Response { .. } => true,
                Opening::Resolving | Opening::Connecting { .. } | Opening::Held { .. } => false,
            },
            Stage::Open(_) => !slot.is_silenced(),
            Stage::Lingering { .. } => true,
            Stage::Vacant | Stage::Ended(_) => false,
        };
        let interest = Interest {
            readable,
            writable: slot.flags.blocked,
        };
        if interest != slot.interest {
            self.poller.modify(socket.fd(), id.as_u64(), interest)?;
            slot.interest = interest;
        }
        Ok(())
    }

    /// Sets the timer of a connection if its deadline is earlier than what the timer is set for; a
    /// deadline that has moved away is noticed when the timer fires.
    pub(crate) fn arm(&mut self, id: ConnId) {
        let slot = self.slots.at(id.index());
        let Some(deadline) = deadline_of(&slot.stage, &slot.config) else {
            return;
        };
        if self
            .timers
            .deadline(id.index())
            .is_none_or(|at| deadline < at)
        {
            self.timers.set(id.index(), deadline);
        }
    }

    /// Which side of a connection we are.
    pub(crate) fn role_of(&mut self, id: ConnId) -> Role {
        if self.slots.at(id.index()).server.is_some() {
            Role::Server
        } else {
            Role::Client
        }
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
            compressors: &mut self.compressors,
            out: self.outputs.get_mut(output).bytes(),
        };
        let value = act(&mut established.connection, &mut tools);
        if established.connection.phase() == Phase::Failed {
            // Reading goes on, to discard, so that the peer gets to see the Close frame.
            established.receive.stop(&mut self.buffers);
            slot.unread = None;
            slot.flags.paused = false;
            slot.flags.waiting = false;
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

    /// Refuses to begin something while the loop is being freed.
    pub(crate) fn check_alive(&self) -> Result<()> {
        self.check_fork()?;
        if self.ending {
            return Err(Error::new(ErrorKind::Closed, "the loop is being freed"));
        }
        Ok(())
    }
}

/// When something is to be done about a connection.
pub(crate) fn deadline_of(stage: &Stage, config: &Config) -> Option<Time> {
    match stage {
        Stage::Vacant | Stage::Ended(_) => None,
        Stage::Lingering { deadline } => Some(*deadline),
        Stage::Open(established) => established.connection.deadline(config),
        Stage::Opening(pending) => Some(match &pending.opening {
            Opening::Connecting {
                attempt_deadline, ..
            } => pending.deadline.min(*attempt_deadline),
            _ => pending.deadline,
        }),
    }
}

#[cold]
pub(crate) fn forked() -> Error {
    Error::new(
        ErrorKind::Forked,
        "the loop was made before this process was forked; it belongs to the parent",
    )
}
