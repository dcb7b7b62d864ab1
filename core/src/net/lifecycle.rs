//! How a connection goes from one stage to the next, and what its deadlines bring.
//!
//! Does not know: how input is read, output written, or who listens.

use std::io;
use std::sync::Arc;

use crate::error::{Error, ErrorKind};
use crate::event::Role;
use crate::net::context::{Context, LogLevel, Notice, deadline_of};
use crate::net::number::ConnId;
use crate::net::serving::announce_stopped;
use crate::net::slot::{Established, Opening, Stage};
use crate::net::socket::Socket;
use crate::protocol::connection::{Closed, Connection, Due};
use crate::protocol::handshake::Settled;
use crate::protocol::handshake::response::Response;
use crate::protocol::handshake::server::Refusal;
use crate::protocol::receive::Receive;

impl Context {
    /// Makes a connection established: the opening handshake is complete.
    pub(crate) fn establish(&mut self, id: ConnId, role: Role, settled: Settled, head: Arc<[u8]>) {
        let now = self.now;
        let slot = self.slots.at(id.index());
        slot.stage = Stage::Open(Established {
            connection: Connection::with_deflate(role, settled.deflate.as_ref(), &slot.config, now),
            receive: Receive::with_deflate(role, settled.deflate.as_ref()),
        });
        slot.subprotocol = settled.subprotocol.map(Box::new);
        self.timers.cancel(id.index());
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
        slot.stage = Stage::Lingering {
            deadline: now.after(slot.config.close_timeout),
        };
        self.update_interest(id);
        self.arm(id);
    }

    /// Refuses a request and reports it.
    pub(crate) fn refuse(&mut self, id: ConnId, refusal: Refusal) {
        let to_head = match &self.slots.at(id.index()).stage {
            Stage::Opening(pending) => {
                matches!(pending.opening, Opening::Held { to_head: true, .. })
            }
            _ => false,
        };
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
        let (Some(server), peer) = (
            slot.server,
            slot.socket.as_ref().and_then(Socket::peer_addr),
        ) else {
            return;
        };
        self.stats.handshakes_failed += 1;
        self.log(LogLevel::Debug, || format!("{id}: {error}"));
        self.notices.push_back(Notice::Error {
            server,
            error,
            peer,
        });
    }

    /// Ends a connection's transport. `cause` is what its owner is told, unless the connection
    /// knows better; `reset` discards what the kernel has not sent.
    pub(crate) fn end(&mut self, id: ConnId, cause: Error, reset: bool) {
        if matches!(self.slots.at(id.index()).stage, Stage::Ended(_)) {
            // Its end is on the list of notices: two deadlines may fall on one moment.
            return;
        }
        if !reset {
            self.offer(id);
        }
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
        self.account(id);
        let slot = self.slots.at(id.index());
        let closed = match stage {
            Stage::Open(mut established) => {
                established.receive.stop(&mut self.buffers);
                self.stats.connections -= 1;
                let interrupted = (dropped > 0).then(|| interruption(&cause));
                let mut closed = established.connection.closed(cause);
                closed.messages_dropped = dropped;
                // RFC 6455 §7.1.4: the closing handshake is complete when both Close frames are
                // sent, and ours is behind what was dropped.
                closed.error = closed.error.or(interrupted);
                self.count_end(id, &closed);
                Some(closed)
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
            Stage::Lingering { .. } | Stage::Ended(_) | Stage::Vacant => None,
        };
        self.close_socket(id, reset);
        let announce = closed.is_some();
        match closed {
            Some(closed) => {
                self.log(LogLevel::Debug, || {
                    format!("{id}: closed, {}: {:?}", closed.code, closed.error)
                });
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

    pub(crate) fn close_socket(&mut self, id: ConnId, reset: bool) {
        let slot = self.slots.at(id.index());
        self.timers.cancel(id.index());
        if let Some(socket) = slot.socket.take() {
            if !slot.flags.detached {
                self.poller.remove(socket.fd());
            }
            if reset {
                socket.reset();
            }
        }
    }

    /// Counts the end of a connection that was established.
    fn count_end(&mut self, id: ConnId, closed: &Closed) {
        let count = match closed.error.as_ref().map(Error::kind) {
            None => &mut self.stats.closes_clean,
            Some(
                ErrorKind::Protocol
                | ErrorKind::InvalidText
                | ErrorKind::MessageTooBig
                | ErrorKind::TooManyFragments
                | ErrorKind::InvalidDeflate,
            ) => &mut self.stats.closes_protocol,
            Some(
                ErrorKind::KeepaliveTimeout | ErrorKind::IdleTimeout | ErrorKind::CloseTimeout,
            ) => &mut self.stats.closes_timeout,
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
            server.stopped.messages_dropped += closed.messages_dropped;
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

    /// Does what is due for a connection whose timer fired.
    pub(crate) fn on_timer(&mut self, index: u32) {
        let Some(id) = self.slots.id_at(index) else {
            return;
        };
        let now = self.now;
        let slot = self.slots.at(index);
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
                    let limit = self.slots.at(index).config.close_timeout;
                    let error = Error::new(
                        ErrorKind::CloseTimeout,
                        format!(
                            "the peer did not complete the closing handshake within close_timeout, {limit:?}"
                        ),
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
        let (limit, hold_limit) = (slot.config.handshake_timeout, slot.config.hold_timeout);
        let Stage::Opening(pending) = &mut slot.stage else {
            return;
        };
        match &mut pending.opening {
            Opening::Request { .. } => self.refuse(id, Refusal::timeout(limit)),
            Opening::Held { .. } => self.refuse(id, Refusal::unanswered(hold_limit)),
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
                let detail = format!("handshake_timeout, {limit:?}, passed while {what}");
                self.end(id, Error::new(ErrorKind::HandshakeTimeout, detail), true);
            }
        }
    }
}

/// Why a connection that has the peer's Close frame did not get to send all before its own.
fn interruption(cause: &Error) -> Error {
    if cause.kind() != ErrorKind::Lost || cause.os_error() != 0 {
        return cause.clone();
    }
    let detail = "the peer closed the transport before all messages were written";
    Error::new(ErrorKind::Lost, detail)
}
