//! From a client's URL to a connected socket: names, addresses in order, and a time for each.
//!
//! Does not know: what is asked once the socket is connected.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use crate::error::{Error, ErrorKind};
use crate::net::context::Context;
use crate::net::number::ConnId;
use crate::net::poller::Interest;
use crate::net::slot::{Opening, Stage};
use crate::net::socket::{Socket, connect_tcp, connect_unix};
use crate::net::sys::resolved;

impl Context {
    pub(crate) fn connect_unix(&mut self, id: ConnId, path: &Path) {
        match connect_unix(path) {
            Ok(socket) => self.await_connect(id, socket, Default::default()),
            Err(error) => {
                let what = format!("cannot connect to unix:{}", path.display());
                self.end(id, Error::from_io(ErrorKind::Connect, what, &error), true);
            }
        }
    }

    pub(crate) fn resolve_and_connect(&mut self, id: ConnId) {
        let slot = self.slots.at(id.index());
        let Stage::Opening(pending) = &slot.stage else {
            return;
        };
        let addresses = pending
            .request
            .as_ref()
            .and_then(|request| self.connector.resolve(id, &request.0));
        if let Some(addresses) = addresses {
            self.connect_to(id, addresses);
        }
    }

    pub(crate) fn take_resolutions(&mut self) {
        for (id, answer) in self.connector.take_answers() {
            let Some(slot) = self.slots.get(id) else {
                continue;
            };
            let Stage::Opening(pending) = &slot.stage else {
                continue;
            };
            let place = pending
                .request
                .as_ref()
                .map(|request| request.0.authority.clone())
                .unwrap_or_default();
            let failure = match resolved(answer) {
                Ok(addresses) if !addresses.is_empty() => {
                    self.connect_to(id, VecDeque::from(addresses));
                    continue;
                }
                Ok(_) => io::Error::new(io::ErrorKind::NotFound, "the name has no addresses"),
                Err(error) => error,
            };
            let what = format!("cannot resolve the host of {place}");
            self.end(id, Error::from_io(ErrorKind::Resolve, what, &failure), true);
        }
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
        pending.opening = Opening::Connecting {
            left,
            attempt_deadline: now.after(share),
        };
        slot.flags.blocked = true;
        if let Err(error) = self.attach(id, socket, Interest::WRITE) {
            return self.end(
                id,
                Error::from_io(ErrorKind::Io, "cannot watch the socket", &error),
                true,
            );
        }
        self.arm(id);
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
        let place = pending
            .request
            .as_ref()
            .map(|request| request.0.authority.clone())
            .unwrap_or_default();
        let what = format!("cannot connect to {place}");
        self.end(id, Error::from_io(ErrorKind::Connect, what, error), true);
    }
}
