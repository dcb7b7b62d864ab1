//! Sending one message to many connections, and payloads that are not copied.
//!
//! Does not know: callbacks, or what becomes of the output.

use bytes::Bytes;

use crate::config::Compress;
use crate::error::{ErrorKind, Result};
use crate::event::MessageType;
use crate::net::context::Context;
use crate::net::number::{ConnId, ServerId};
use crate::net::serving::server_closed;
use crate::net::slot::Stage;
use crate::net::writing::Sent;
use crate::protocol::prepared::Prepared;

/// A payload this large is not copied into the output; the place it is in is kept until it is
/// written.
const SHARE: usize = 4 << 10;

/// To how many connections a message went.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reached {
    /// Connections that accepted it.
    pub sent: u64,
    /// Of those, connections whose backlog is above high water.
    pub backpressure: u64,
    /// Connections that refused it as full, or because a fragmented message is not finished.
    pub refused: u64,
}

impl Context {
    /// Sends a message to these connections. Those that are not open are passed over.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`], [`ErrorKind::NoMemory`] for compressing it.
    pub fn broadcast(&mut self, message: &Prepared, to: &[ConnId]) -> Result<Reached> {
        self.check_fork()?;
        self.refresh_now();
        self.broadcast_to(message, to.iter().copied())
    }

    /// Sends a message to all open connections of a server, but for one.
    ///
    /// # Errors
    /// As [`broadcast`](Self::broadcast), and [`ErrorKind::Closed`] if the server has stopped.
    pub fn broadcast_server(
        &mut self,
        server: ServerId,
        message: &Prepared,
        except: Option<ConnId>,
    ) -> Result<Reached> {
        self.check_fork()?;
        self.refresh_now();
        if self.servers.peek(server).is_none() {
            return Err(server_closed());
        }
        let to: Vec<ConnId> = self.slots.open_of(server).collect();
        self.broadcast_to(message, to.into_iter().filter(|&id| Some(id) != except))
    }

    fn broadcast_to(
        &mut self,
        message: &Prepared,
        to: impl Iterator<Item = ConnId>,
    ) -> Result<Reached> {
        let mut reached = Reached::default();
        // One write each, when all have it.
        let deferring = std::mem::replace(&mut self.deferring, true);
        let mut failure = None;
        for id in to {
            match self.send_prepared(id, message) {
                Ok(sent) => {
                    reached.sent += 1;
                    reached.backpressure += u64::from(sent == Sent::Backpressure);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Full => reached.refused += 1,
                    ErrorKind::State if self.conn(id).state() == crate::net::conn::State::Open => {
                        reached.refused += 1;
                    }
                    ErrorKind::NoMemory => {
                        failure = Some(error);
                        break;
                    }
                    _ => {}
                },
            }
        }
        self.deferring = deferring;
        self.settle();
        failure.map_or(Ok(reached), Err)
    }

    /// Sends a message that others get too.
    pub(crate) fn send_prepared(&mut self, id: ConnId, message: &Prepared) -> Result<Sent> {
        let shape = match self.slots.get(id).map(|slot| &mut slot.stage) {
            Some(Stage::Open(established)) => {
                let send = established.connection.send();
                let len = message.payload().len();
                if send.compresses(message.compress(), len) {
                    send.apart()
                } else {
                    None
                }
            }
            _ => None,
        };
        let (payload, compressed) = message.payload_for(shape, &mut self.compressors)?;
        self.send_shared(id, message.message_type(), &payload, compressed)
    }

    /// Sends a message whose payload is kept until it is written, and not copied where that can be
    /// spared.
    pub(crate) fn send_owned(
        &mut self,
        id: ConnId,
        message_type: MessageType,
        payload: &Bytes,
        compress: Compress,
    ) -> Result<Sent> {
        let compresses = match self.slots.get(id).map(|slot| &mut slot.stage) {
            Some(Stage::Open(established)) => {
                let send = established.connection.send();
                send.compresses(compress, payload.len())
            }
            _ => false,
        };
        if compresses {
            return self.send_message(id, message_type, payload, compress);
        }
        self.send_shared(id, message_type, payload, false)
    }

    fn send_shared(
        &mut self,
        id: ConnId,
        message_type: MessageType,
        payload: &Bytes,
        compressed: bool,
    ) -> Result<Sent> {
        let len = payload.len();
        let sent = if len < SHARE || !self.is_plain(id) {
            self.send_with(id, len, |send, tools| {
                send.ready_made(message_type, compressed, payload, tools)
            })?
        } else {
            self.queue_shared(id, len, payload.clone(), |send, tools| {
                send.plain_header(message_type, compressed, len, tools.out)
            })?
        };
        self.stats.messages_sent += 1;
        self.settle();
        Ok(sent)
    }
}
