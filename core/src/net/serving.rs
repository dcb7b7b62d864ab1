//! What servers do besides listening: taking connections in, and stopping.
//!
//! Does not know: what is asked of a connection, or answered.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::net::context::{Context, LogLevel, Notice};
use crate::net::listener::{ACCEPT_BATCH, ACCEPT_PAUSE, Server};
use crate::net::number::{ConnId, ServerId};
use crate::net::poller::Interest;
use crate::net::slot::{Opening, Pending, Stage};
use crate::net::socket::Socket;
use crate::protocol::handshake::server::Refusal;
use crate::time::Time;

/// The deadline of a stop that has none, or whose deadline has done its work.
const NEVER: Time = Time::from_millis(u64::MAX);

impl Context {
    pub(crate) fn accept_from(&mut self, id: ServerId, number: usize) {
        for _ in 0..ACCEPT_BATCH {
            let Some(server) = self.servers.get(id) else {
                return;
            };
            let Some(socket) = server.sockets.get(number) else {
                return;
            };
            match socket.accept() {
                Ok(Some(socket)) => {
                    if let Err(error) = self.insert_accepted(id, socket) {
                        self.notices.push_back(Notice::Error {
                            server: id,
                            error,
                            peer: None,
                        });
                    }
                }
                Ok(None) => {
                    server.short_of = None;
                    self.poller
                        .blocked(listener_token(id, number), Interest::READ);
                    return;
                }
                Err(error) => return self.pause_accepting(id, &error),
            }
        }
    }

    /// Descriptors or memory ran out: connections wait in the kernel's queue for a while, instead
    /// of making the loop spin. Told once, until everybody who waited has been accepted.
    fn pause_accepting(&mut self, id: ServerId, error: &io::Error) {
        let again = self.now.after(ACCEPT_PAUSE);
        let Some(server) = self.servers.get(id) else {
            return;
        };
        server.accept_again = Some(again);
        // Not with an interest in nothing, because that can be refused.
        for socket in &server.sockets {
            self.poller.remove(socket.fd());
        }
        let code = error.raw_os_error();
        if server.short_of == Some(code) {
            return;
        }
        server.short_of = Some(code);
        let error = Error::from_io(ErrorKind::Io, "cannot accept connections for now", error);
        self.log(LogLevel::Error, || error.to_string());
        self.notices.push_back(Notice::Error {
            server: id,
            error,
            peer: None,
        });
    }

    /// A fresh slot for a connection that came to a server.
    fn insert_accepted(&mut self, server: ServerId, socket: Socket) -> Result<()> {
        let Some(entry) = self.servers.get(server) else {
            return Ok(());
        };
        let config = Arc::clone(&entry.config);
        let max_pending = config.max_pending_handshakes;
        if config.no_delay {
            // A connection that cannot have it is no worse than one with Nagle's algorithm.
            let _ = socket.set_nodelay(true);
        }
        let deadline = self.now.after(config.handshake_timeout);
        let opening = Opening::Request {
            reader: Default::default(),
        };
        let pending = Pending {
            opening,
            deadline,
            request: None,
        };
        let Some(id) = self.slots.insert(config, Stage::Opening(Box::new(pending))) else {
            return Err(Error::new(
                ErrorKind::NoMemory,
                "no memory for one more connection",
            ));
        };
        let slots = &mut self.slots;
        slots.at(id.index()).server = Some(server);
        slots.at(id.index()).tag = entry.tag;
        slots.at(id.index()).flags.budgeted = entry.budget.is_some();
        let mut is_pending = |id| {
            slots
                .get(id)
                .is_some_and(|slot| is_reading_request(&slot.stage))
        };
        let oldest = entry.crowded_out(&mut is_pending);
        entry.connections += 1;
        entry.add_pending(id, &mut is_pending);
        match self.attach(id, socket, Interest::READ) {
            Ok(()) => self.arm(id),
            Err(error) => {
                let error = Error::from_io(ErrorKind::Io, "cannot watch the socket", &error);
                self.end(id, error, true);
            }
        }
        if let Some(oldest) = oldest {
            let detail = format!(
                "more opening handshakes were pending than max_pending_handshakes, {max_pending}; the oldest was dropped"
            );
            self.end(oldest, Error::new(ErrorKind::Overloaded, detail), true);
        }
        Ok(())
    }

    /// Begins to stop a server; without a deadline its connections are left alone.
    pub(crate) fn begin_stop(&mut self, id: ServerId, deadline: Option<Time>) -> Result<()> {
        let Some(server) = self.servers.get(id) else {
            return Err(server_closed());
        };
        let is_closed = server.stop_deadline == Some(NEVER);
        if server.stop_deadline.is_some() && !(is_closed && deadline.is_some()) {
            return Err(Error::new(
                ErrorKind::State,
                "the server is stopping already",
            ));
        }
        server.stop_deadline = Some(deadline.unwrap_or(NEVER));
        for socket in &server.sockets {
            self.poller.remove(socket.fd());
        }
        server.close_sockets();
        announce_stopped(server, &mut self.notices);
        for conn in self.connections_of(id) {
            match self.slots.at(conn.index()).stage {
                Stage::Opening(_) => self.refuse(conn, Refusal::stopping()),
                Stage::Open(_) if deadline.is_none() => {}
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
                    let token = listener_token(server.id, number);
                    // It may be in the set already, if another failed after the last pause.
                    self.poller.remove(socket.fd());
                    if self.poller.add(socket.fd(), token, Interest::READ).is_err() {
                        server.accept_again = Some(now.after(ACCEPT_PAUSE));
                    }
                }
            }
        }
        self.relieve();
        for id in late {
            for conn in self.connections_of(id) {
                let error = Error::new(ErrorKind::Stopped, "the server's stop deadline passed");
                self.end(conn, error, true);
            }
            if let Some(server) = self.servers.get(id) {
                // The rest is told by notices; the deadline has done its work.
                server.stop_deadline = Some(NEVER);
            }
        }
    }

    /// Stops all servers, whose connections are about to be ended.
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

    pub(crate) fn connections_of(&mut self, server: ServerId) -> Vec<ConnId> {
        let mut ids = self.slots.ids();
        ids.retain(|&id| self.slots.at(id.index()).server == Some(server));
        ids
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
pub(crate) fn announce_stopped(server: &mut Server, notices: &mut VecDeque<Notice>) {
    if server.stop_deadline.is_some() && server.connections == 0 && !server.announced {
        server.announced = true;
        notices.push_back(Notice::Stopped(server.id));
    }
}

pub(crate) fn server_closed() -> Error {
    Error::new(ErrorKind::Closed, "the server has stopped")
}
