//! The commands to a connection.
//!
//! Does not know: callbacks, other threads, or how anything is read.

use std::sync::Arc;

use bytes::Bytes;

use crate::config::{Compress, Config};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, MessageType, Role};
use crate::net::context::Context;
use crate::net::number::ConnId;
use crate::net::number::ServerId;
use crate::net::slot::{Opening, Stage};
use crate::net::socket::PeerAddr;
use crate::net::writing::Sent;
use crate::protocol::connection::Phase;
use crate::protocol::extension::Agreed;
use crate::protocol::frame::MAX_CONTROL;
use crate::protocol::handshake::response::Response;
use crate::protocol::handshake::server::{Accept, Upgrade};
use crate::protocol::prepared::Prepared;
use crate::protocol::utf8::check;

/// How far a connection has come, as its owner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// The number is stale, or the connection has ended.
    Closed,
    /// The opening handshake is under way.
    Connecting,
    /// Messages can be sent.
    Open,
    /// The closing handshake is under way.
    Closing,
}

/// A connection and the loop it belongs to, for commands.
///
/// None of them calls back before it returns.
pub struct Conn<'a> {
    pub(crate) context: &'a mut Context,
    pub(crate) id: ConnId,
}

impl Conn<'_> {
    /// The connection's number, which may be kept.
    #[inline]
    pub const fn id(&self) -> ConnId {
        self.id
    }

    /// The loop, for commands to others.
    #[inline]
    pub const fn context(&mut self) -> &mut Context {
        self.context
    }

    /// Sends a text message.
    ///
    /// It is accepted whatever its size while the backlog is below high water, and above that
    /// while the backlog stays within its limit.
    ///
    /// # Errors
    /// [`ErrorKind::Full`] (nothing was queued), [`ErrorKind::Closed`], [`ErrorKind::State`]
    /// before the connection is open and amid a fragmented message.
    #[inline]
    pub fn send_text(&mut self, text: &str) -> Result<Sent> {
        self.context
            .send_message(self.id, MessageType::Text, text.as_bytes(), Compress::Auto)
    }

    /// Sends a binary message.
    ///
    /// # Errors
    /// As [`send_text`](Self::send_text).
    #[inline]
    pub fn send_binary(&mut self, data: &[u8]) -> Result<Sent> {
        self.context
            .send_message(self.id, MessageType::Binary, data, Compress::Auto)
    }

    /// Sends a message of either type.
    ///
    /// # Errors
    /// As [`send_text`](Self::send_text), and [`ErrorKind::Invalid`] for text that is not UTF-8.
    #[inline]
    pub fn send(&mut self, message_type: MessageType, data: &[u8]) -> Result<Sent> {
        self.send_with(message_type, data, Compress::Auto)
    }

    /// Sends a message of either type, and says whether it is compressed where that was agreed on.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    #[inline]
    pub fn send_with(
        &mut self,
        message_type: MessageType,
        data: &[u8],
        compress: Compress,
    ) -> Result<Sent> {
        check_text(message_type, data)?;
        self.context
            .send_message(self.id, message_type, data, compress)
    }

    /// Sends a message whose payload is kept until it is written, instead of being copied. At a
    /// client, which has to mask it, at a connection that compresses it, and where it is small, it
    /// is copied after all.
    ///
    /// A payload with an owner of its own is made by [`Bytes::from_owner`]; the owner is dropped on
    /// the loop's thread when everything is written, or when the connection has ended.
    ///
    /// # Errors
    /// As [`send`](Self::send); then nothing is kept.
    pub fn send_owned(
        &mut self,
        message_type: MessageType,
        payload: &Bytes,
        compress: Compress,
    ) -> Result<Sent> {
        check_text(message_type, payload)?;
        self.context
            .send_owned(self.id, message_type, payload, compress)
    }

    /// Sends a message that others get too.
    ///
    /// # Errors
    /// As [`send_text`](Self::send_text).
    pub fn send_prepared(&mut self, message: &Prepared) -> Result<Sent> {
        self.context.send_prepared(self.id, message)
    }

    /// Sends a fragment of a message; `fin` marks the last. All fragments of a message have its
    /// type; text may be cut within a character.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ErrorKind::State`] for another type than the message began
    /// with.
    pub fn send_fragment(
        &mut self,
        message_type: MessageType,
        data: &[u8],
        fin: bool,
    ) -> Result<Sent> {
        self.send_fragment_with(message_type, data, fin, Compress::Auto)
    }

    /// As [`send_fragment`](Self::send_fragment), and says with a message's first fragment whether
    /// it is compressed where that was agreed on.
    ///
    /// # Errors
    /// As [`send_fragment`](Self::send_fragment).
    pub fn send_fragment_with(
        &mut self,
        message_type: MessageType,
        data: &[u8],
        fin: bool,
        compress: Compress,
    ) -> Result<Sent> {
        self.context.refresh_now();
        let sent = self.context.send_with(self.id, data.len(), |send, tools| {
            send.fragment(message_type, data, fin, compress, tools)
        })?;
        if fin {
            self.context.sent_message(self.id);
        } else {
            self.context.settle();
        }
        Ok(sent)
    }

    /// Sends a ping of at most 125 bytes. Keepalive pings are sent without asking.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a longer payload, else as [`send_text`](Self::send_text).
    pub fn ping(&mut self, payload: &[u8]) -> Result<Sent> {
        let sent = self
            .context
            .send_with(self.id, payload.len(), |send, tools| {
                send.ping(payload, tools.random, tools.out)
            })?;
        self.context.settle();
        Ok(sent)
    }

    /// Sends an unsolicited pong of at most 125 bytes. Pings are answered without asking.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn pong(&mut self, payload: &[u8]) -> Result<Sent> {
        let sent = self
            .context
            .send_with(self.id, payload.len(), |send, tools| {
                send.pong(payload, tools.random, tools.out)
            })?;
        self.context.settle();
        Ok(sent)
    }

    /// Answers a ping that [`on_reply`](crate::Handler::on_reply) left to the application, as wsabi
    /// does: of the pongs that wait behind a backlog only the latest is kept (RFC 6455 §5.5.3).
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn answer_ping(&mut self, payload: &[u8]) -> Result<()> {
        if payload.len() > MAX_CONTROL {
            return Err(Error::invalid(format!(
                "the payload of a pong has {} bytes; expected at most {MAX_CONTROL}",
                payload.len()
            )));
        }
        self.open_slot()?;
        let ping = Event::Ping(payload);
        self.context
            .with_connection(self.id, |connection, tools| connection.react(&ping, tools));
        self.context.settle();
        Ok(())
    }

    /// Starts the closing handshake. Messages keep coming until the peer's Close does.
    ///
    /// A connection that is not open yet is terminated.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a code that may not be sent, or a reason without a code or above
    /// 123 bytes; [`ErrorKind::Closed`] if the connection is closing or closed.
    pub fn close(&mut self, code: Option<u16>, reason: &str) -> Result<()> {
        crate::protocol::send::check_close(code, reason)?;
        self.context.check_fork()?;
        self.context.refresh_now();
        match self.context.slots.get(self.id).map(|slot| &slot.stage) {
            Some(Stage::Opening(_)) => return self.terminate(),
            Some(Stage::Open(_)) => {}
            _ => return Err(Error::closed()),
        }
        let closed = self.context.with_connection(self.id, |connection, tools| {
            connection.close(code, reason, tools)
        });
        self.context.settle();
        closed.unwrap_or_else(|| Err(Error::closed()))
    }

    /// Ends the connection at once, without a closing handshake; only `on_close` follows.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if it has ended.
    pub fn terminate(&mut self) -> Result<()> {
        self.context.check_fork()?;
        match self.context.slots.get(self.id).map(|slot| &slot.stage) {
            Some(Stage::Opening(_) | Stage::Open(_)) => {}
            _ => return Err(Error::closed()),
        }
        let error = Error::new(ErrorKind::Terminated, "this side terminated the connection");
        self.context.end(self.id, error, true);
        self.context.settle();
        Ok(())
    }

    /// Stops reading: nothing that the peer sends is looked at until [`resume`](Self::resume), its
    /// Close and the end of its stream neither. `on_drain` still comes, and `on_close` if this side
    /// ends the connection. The clocks that watch the peer's silence stand still.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`]; [`ErrorKind::State`] before the connection is open.
    pub fn pause(&mut self) -> Result<()> {
        let now = self.open_slot()?;
        let slot = self.context.slots.at(self.id.index());
        if let Some(established) = slot
            .established()
            .filter(|established| established.connection.phase() != Phase::Failed)
        {
            established.connection.pause(now);
            slot.flags.paused = true;
            self.context.update_interest(self.id);
        }
        Ok(())
    }

    /// Reads again after [`pause`](Self::pause); what was read before comes first.
    ///
    /// # Errors
    /// As [`pause`](Self::pause).
    pub fn resume(&mut self) -> Result<()> {
        let now = self.open_slot()?;
        let slot = self.context.slots.at(self.id.index());
        if !slot.flags.paused {
            return Ok(());
        }
        slot.flags.paused = false;
        if !slot.flags.waiting {
            if let Some(established) = slot.established() {
                established.connection.resume(now);
            }
            self.context.read_again(self.id);
        }
        self.context.settle();
        Ok(())
    }

    /// Writes what waits for this connection, as far as the kernel takes it, without waiting for
    /// the end of the turn.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`].
    pub fn flush(&mut self) -> Result<()> {
        self.context.check_fork()?;
        match self.context.slots.get(self.id) {
            Some(slot) if matches!(slot.stage, Stage::Ended(_)) => return Err(Error::closed()),
            Some(slot) if !slot.flags.blocked => self.context.flush(self.id),
            Some(_) => {}
            None => return Err(Error::closed()),
        }
        self.context.settle();
        Ok(())
    }

    /// Accepts the request of a server's connection: from `on_upgrade`, or later.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`]; [`ErrorKind::State`] if there is no request for a WebSocket to
    /// answer; [`ErrorKind::Invalid`] for a subprotocol that was not offered or a header that is
    /// not allowed, and then the request still waits.
    pub fn accept(&mut self, accept: &Accept) -> Result<()> {
        self.accept_with(accept, |_, _| Ok(()))
    }

    /// As [`accept`](Self::accept), for an application that negotiates permessage-deflate by itself:
    /// `answer` is the value of the response's Sec-WebSocket-Extensions, which the client's offers
    /// have to allow; `None` accepts none of them.
    ///
    /// # Errors
    /// As [`accept`](Self::accept), and [`ErrorKind::Invalid`] for what is not a valid answer of
    /// permessage-deflate, or if the server has no [`Config::deflate`](crate::Config::deflate).
    pub fn accept_answering(&mut self, accept: &Accept, answer: Option<&str>) -> Result<()> {
        self.accept_with(accept, |upgrade, config| {
            if answer.is_some() && config.deflate.is_none() {
                return Err(Error::invalid(
                    "an extension is answered; expected a server with the option deflate",
                ));
            }
            upgrade.answer_extensions(answer)
        })
    }

    fn accept_with(
        &mut self,
        accept: &Accept,
        negotiate: impl FnOnce(&mut Upgrade, &Config) -> Result<()>,
    ) -> Result<()> {
        self.context.check_fork()?;
        self.context.refresh_now();
        let Some(slot) = self.context.slots.get(self.id) else {
            return Err(Error::closed());
        };
        let (mut upgrade, head) = match &slot.stage {
            Stage::Opening(pending) => match &pending.opening {
                Opening::Held {
                    upgrade: Some(upgrade),
                    head,
                    ..
                } => (upgrade.clone(), Arc::clone(head)),
                _ => return Err(nothing_to_answer()),
            },
            Stage::Open(_) => return Err(nothing_to_answer()),
            Stage::Vacant | Stage::Lingering { .. } | Stage::Ended(_) => {
                return Err(Error::closed());
            }
        };
        negotiate(&mut upgrade, &slot.config)?;
        let output = self.context.output(self.id);
        let settled = upgrade.accept(accept, output.bytes())?;
        output.mark_lead();
        self.context.establish(self.id, Role::Server, settled, head);
        if self.context.slots.at(self.id.index()).unread.is_some() {
            self.context.queue_unread(self.id);
        }
        self.context.settle();
        Ok(())
    }

    /// Answers the request of a server's connection with an HTTP response, which ends the
    /// connection: refuses a WebSocket, or answers plain HTTP.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`]; [`ErrorKind::State`] if there is no request to answer;
    /// [`ErrorKind::Invalid`] for a status or header that is not allowed, and then the request
    /// still waits.
    pub fn respond(&mut self, response: &Response) -> Result<()> {
        self.context.check_fork()?;
        response.validate()?;
        self.context.refresh_now();
        let Some(slot) = self.context.slots.get(self.id) else {
            return Err(Error::closed());
        };
        let to_head = match &slot.stage {
            Stage::Opening(pending) => match &pending.opening {
                Opening::Held { to_head, .. } => *to_head,
                _ => return Err(nothing_to_answer()),
            },
            Stage::Open(_) => return Err(nothing_to_answer()),
            Stage::Vacant | Stage::Lingering { .. } | Stage::Ended(_) => {
                return Err(Error::closed());
            }
        };
        self.context.respond_and_linger(self.id, response, to_head);
        self.context.settle();
        Ok(())
    }

    /// How far the connection has come.
    pub fn state(&self) -> State {
        match self.context.slots.peek(self.id).map(|slot| &slot.stage) {
            Some(Stage::Opening(_)) => State::Connecting,
            Some(Stage::Open(established)) if established.connection.is_open() => State::Open,
            Some(Stage::Open(_)) => State::Closing,
            Some(Stage::Vacant | Stage::Lingering { .. } | Stage::Ended(_)) | None => State::Closed,
        }
    }

    /// Bytes that wait to be written.
    pub fn buffered(&self) -> u64 {
        self.context
            .slots
            .peek(self.id)
            .map_or(0, |slot| self.context.backlog(slot))
    }

    /// Whether the kernel has refused output, which waits until it takes more. What waits otherwise
    /// was not offered to it yet.
    pub fn is_blocked(&self) -> bool {
        self.context
            .slots
            .peek(self.id)
            .is_some_and(|slot| slot.flags.blocked)
    }

    /// Whether writing has failed. What waited was dropped then, as is what is sent later; `on_close`
    /// follows when what the peer had sent before is read.
    pub fn is_broken(&self) -> bool {
        self.context
            .slots
            .peek(self.id)
            .is_some_and(|slot| slot.flags.broken)
    }

    /// The application's own number for this connection; 0 until it is set, and for a stale number.
    #[inline]
    pub fn user(&self) -> u64 {
        self.context.slots.peek(self.id).map_or(0, |slot| slot.user)
    }

    /// Sets the application's own number for this connection.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] for a stale number.
    pub fn set_user(&mut self, user: u64) -> Result<()> {
        let slot = self.context.slots.get(self.id).ok_or_else(Error::closed)?;
        slot.user = user;
        Ok(())
    }

    /// The application's own number for the connections of this server or client; 0 for a stale
    /// number.
    #[inline]
    pub fn tag(&self) -> u32 {
        self.context.slots.peek(self.id).map_or(0, |slot| slot.tag)
    }

    /// The server the connection came to; `None` for a client, and for a stale number.
    #[inline]
    pub fn server(&self) -> Option<ServerId> {
        self.context
            .slots
            .peek(self.id)
            .and_then(|slot| slot.server)
    }

    /// Whether the number is not stale.
    pub fn is_known(&self) -> bool {
        self.context.slots.peek(self.id).is_some()
    }

    /// The subprotocol in use, also inside `on_close`.
    pub fn subprotocol(&self) -> Option<&str> {
        let slot = self.context.slots.peek(self.id)?;
        slot.subprotocol.as_ref().map(|name| &***name)
    }

    /// What the opening handshake has agreed on about compression; `None` if there is none, before
    /// the connection is open, and after its end.
    pub fn deflate(&self) -> Option<Agreed> {
        match &self.context.slots.peek(self.id)?.stage {
            Stage::Open(established) => established.connection.agreed().copied(),
            Stage::Vacant | Stage::Opening(_) | Stage::Lingering { .. } | Stage::Ended(_) => None,
        }
    }

    /// The peer's address, while the transport is there.
    pub fn peer_addr(&self) -> Option<PeerAddr> {
        self.context
            .slots
            .peek(self.id)?
            .socket
            .as_ref()?
            .peer_addr()
    }

    /// Our own address, while the transport is there.
    pub fn local_addr(&self) -> Option<PeerAddr> {
        self.context
            .slots
            .peek(self.id)?
            .socket
            .as_ref()?
            .local_addr()
    }

    /// Checks that the connection is established, and tells the time.
    fn open_slot(&mut self) -> Result<crate::time::Time> {
        self.context.check_fork()?;
        self.context.refresh_now();
        match self.context.slots.get(self.id).map(|slot| &slot.stage) {
            Some(Stage::Open(_)) => Ok(self.context.now),
            Some(Stage::Opening(_)) => Err(Error::new(
                ErrorKind::State,
                "the connection is not open yet",
            )),
            _ => Err(Error::closed()),
        }
    }
}

#[inline]
fn check_text(message_type: MessageType, data: &[u8]) -> Result<()> {
    if message_type == MessageType::Text && check(data).is_err() {
        return Err(Error::invalid("the text is not UTF-8"));
    }
    Ok(())
}

fn nothing_to_answer() -> Error {
    Error::new(ErrorKind::State, "there is no request to answer")
}
