//! Receiving: from a readable socket to the application's callbacks.
//!
//! One buffer serves all connections. A connection's receiving half is taken out of its slot while
//! its events are handed out, so that a callback may do anything to the rest, and to every other
//! connection.
//!
//! Does not know: how output is written, or the host's language.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Role};
use crate::net::context::Context;
use crate::net::handler::{Answer, Handler, Reply};
use crate::net::r#loop::Loop;
use crate::net::number::ConnId;
use crate::net::poller::{Interest, Ready};
use crate::net::slot::{Opening, Slot, Stage};
use crate::protocol::connection::Phase;
use crate::protocol::handshake::client::{request, unreadable};
use crate::protocol::handshake::response::Response;
use crate::protocol::handshake::server::{Asked, Refusal, Upgrade, examine};
use crate::protocol::head::{HeadError, HeadReader, Request, ResponseHead};
use crate::protocol::receive::Receive;

impl Context {
    /// Goes on with a connection that was not read for a while, at what was read before.
    pub(crate) fn read_again(&mut self, id: ConnId) {
        let slot = self.slots.at(id.index());
        let has_unread = slot.unread.is_some() || slot.flags.broken;
        if mem::take(&mut slot.flags.detached) {
            let socket = slot.socket.take();
            let attached = socket.map(|socket| self.attach(id, socket, Interest::READ));
            if let Some(Err(error)) = attached {
                let error = Error::from_io(ErrorKind::Io, "cannot watch the socket", &error);
                return self.end(id, error, true);
            }
        }
        self.update_interest(id);
        if has_unread {
            self.queue_unread(id);
        }
        self.arm(id);
    }

    /// Lets a request wait for the application's answer.
    fn hold(&mut self, id: ConnId, upgrade: Option<Upgrade>, head: &Arc<[u8]>, to_head: bool) {
        self.budget = self.budget.saturating_sub(1);
        self.leave_pending(id);
        let now = self.now;
        let slot = self.slots.at(id.index());
        if let Stage::Opening(pending) = &mut slot.stage {
            pending.opening = Opening::Held {
                upgrade,
                head: Arc::clone(head),
                to_head,
            };
            pending.deadline = now.after(slot.config.hold_timeout);
        }
        self.update_interest(id);
        self.arm(id);
    }
}

impl Loop {
    /// A connection is readable.
    pub(crate) fn on_readable<H: Handler>(&mut self, id: ConnId, hangup: bool, handler: &mut H) {
        let Some(slot) = self.slots.get(id) else {
            return;
        };
        match &slot.stage {
            Stage::Vacant | Stage::Opening(_) | Stage::Ended(_) => {}
            Stage::Lingering { .. } => self.discard(id),
            Stage::Open(_) if slot.is_silenced() => {
                if hangup {
                    self.detach(id);
                }
            }
            // What was read before goes first, and nothing goes before `on_open`.
            Stage::Open(_) if slot.unread.is_some() || !slot.flags.announced => {}
            Stage::Open(_) => {
                if !(slot.flags.budgeted && self.has_to_wait(id)) {
                    self.receive(id, handler);
                }
            }
        }
    }

    /// A connection is to be gone on with, whatever the poller says.
    pub(crate) fn on_queued<H: Handler>(&mut self, id: ConnId, handler: &mut H) {
        if let Err(error) = self.try_interest(id) {
            let error = Error::from_io(ErrorKind::Io, "cannot watch the socket", &error);
            return self.end(id, error, true);
        }
        let Some(slot) = self.slots.get(id) else {
            return;
        };
        if slot.is_delivering()
            && slot.flags.announced
            && let Some(mut bytes) = slot.unread.take()
        {
            drain(self, id, &mut bytes, handler);
            self.go_on_if_broken(id);
            return;
        }
        if slot.flags.broken {
            self.on_readable(id, false, handler);
        } else if slot.unread.is_some() && slot.is_delivering() {
            self.queue_unread(id);
        }
    }

    /// Sees to it that a transport that takes no more output is read until it has no more input: what
    /// ends it may be none of the poller's business, when only writing has failed.
    fn go_on_if_broken(&mut self, id: ConnId) {
        let slot = self.slots.get(id);
        if slot.is_some_and(|slot| slot.flags.broken && slot.is_delivering()) {
            self.queue_unread(id);
        }
    }

    /// Takes a hung-up transport out of the poller, which would report it without end while the
    /// application does not want to read.
    fn detach(&mut self, id: ConnId) {
        let context: &mut Context = self;
        let slot = context.slots.at(id.index());
        if let Some(socket) = &slot.socket {
            context.poller.remove(socket.fd());
            slot.flags.detached = true;
        }
    }

    /// Reads what has come for an established connection.
    fn receive<H: Handler>(&mut self, id: ConnId, handler: &mut H) {
        let (context, buffer) = self.parts();
        let now = context.now;
        let slot = context.slots.at(id.index());
        let broken = slot.flags.broken;
        let (Stage::Open(established), Some(socket)) = (&mut slot.stage, &slot.socket) else {
            return;
        };
        let (read, direct) = match established.receive.vacancy(&slot.config) {
            Ok(Some((room, max))) => (socket.recv_into(room, max), true),
            Ok(None) => (socket.recv(buffer), false),
            Err(error) => return fail(context, id, error, handler),
        };
        let count = match read {
            Ok(Some(0)) => {
                return context.end(
                    id,
                    lost("the peer closed the transport without a Close frame"),
                    false,
                );
            }
            Ok(Some(count)) => count,
            Ok(None) => {
                context.poller.blocked(id.as_u64(), Interest::READ);
                if broken {
                    context.end(id, lost("the transport takes no more output"), true);
                } else {
                    // Room may have been made for what has not come.
                    context.account(id);
                }
                return;
            }
            Err(error) => {
                return context.end(
                    id,
                    Error::from_io(ErrorKind::Lost, "reading failed", &error),
                    false,
                );
            }
        };
        context.stats.bytes_received += count as u64;
        established.connection.received(now);
        if !direct {
            let mut bytes = mem::take(&mut self.buffer);
            drain(self, id, &mut bytes[..count], handler);
            self.buffer = bytes;
        } else if let Err(error) = established.receive.filled(count) {
            fail(context, id, error, handler);
        } else {
            drain(self, id, &mut [], handler);
        }
        if broken {
            self.go_on_if_broken(id);
        }
    }

    /// Reads and forgets, until the peer has closed.
    fn discard(&mut self, id: ConnId) {
        let (context, buffer) = self.parts();
        let Some(socket) = &context.slots.at(id.index()).socket else {
            return;
        };
        match socket.recv(buffer) {
            Ok(Some(0)) | Err(_) => context.end(id, Error::closed(), false),
            Ok(Some(_)) => {}
            Ok(None) => context.poller.blocked(id.as_u64(), Interest::READ),
        }
    }

    /// Something has happened to a connection amid its opening handshake.
    pub(crate) fn on_ready_opening<H: Handler>(
        &mut self,
        id: ConnId,
        ready: Ready,
        handler: &mut H,
    ) {
        let slot = self.slots.at(id.index());
        let Stage::Opening(pending) = &slot.stage else {
            return;
        };
        match &pending.opening {
            Opening::Resolving => {}
            Opening::Connecting { .. } => self.on_connected(id),
            Opening::Held { .. } => {
                if ready.hangup {
                    self.end(
                        id,
                        lost("the client was gone before its request was answered"),
                        false,
                    );
                }
            }
            Opening::Request { .. } | Opening::Response { .. } => {
                if ready.writable && slot.flags.blocked {
                    self.flush(id);
                }
                if ready.readable || ready.hangup {
                    self.read_head(id, handler);
                }
            }
        }
    }

    /// A started connection is made, or has failed: sends the request, or tries the next address.
    fn on_connected(&mut self, id: ConnId) {
        let context: &mut Context = self;
        let slot = context.slots.at(id.index());
        let (Stage::Opening(pending), Some(socket)) = (&mut slot.stage, &slot.socket) else {
            return;
        };
        if let Err(error) = socket.take_error() {
            return context.try_next_address(id, &error);
        }
        if socket.peer_addr().is_none() {
            // What was ready was the socket of the address before, which had the same number.
            return;
        }
        if slot.config.no_delay {
            // A connection that cannot have it is no worse than one with Nagle's algorithm.
            let _ = socket.set_nodelay(true);
        }
        let Some(wanted) = pending.request.take() else {
            return;
        };
        slot.flags.blocked = false;
        let output = *slot.output.get_or_insert_with(|| context.outputs.take());
        let bytes = context.outputs.get_mut(output).bytes();
        let handshake = request(
            &wanted.0.authority,
            &wanted.0.resource,
            &wanted.1,
            slot.config.deflate.as_ref(),
            &mut context.random,
            bytes,
        );
        context.outputs.get_mut(output).mark_lead();
        pending.opening = Opening::Response {
            reader: HeadReader::default(),
            handshake,
        };
        context.update_interest(id);
        context.arm(id);
        context.flush(id);
    }

    /// Reads the head of a request or response.
    fn read_head<H: Handler>(&mut self, id: ConnId, handler: &mut H) {
        let (context, buffer) = self.parts();
        let slot = context.slots.at(id.index());
        let Some(socket) = &slot.socket else {
            return;
        };
        // No more than a head may have, so that what a peer sends behind it before it may is bounded.
        let most = buffer.len().min(slot.config.max_handshake_bytes as usize);
        let count = match socket.recv(&mut buffer[..most]) {
            Ok(Some(0)) => {
                return context.end(
                    id,
                    lost("the peer closed the transport during the opening handshake"),
                    false,
                );
            }
            Ok(Some(count)) => count,
            Ok(None) => return context.poller.blocked(id.as_u64(), Interest::READ),
            Err(error) => {
                return context.end(
                    id,
                    Error::from_io(ErrorKind::Lost, "reading failed", &error),
                    false,
                );
            }
        };
        context.stats.bytes_received += count as u64;
        let bytes = mem::take(&mut self.buffer);
        self.take_head(id, &bytes[..count], handler);
        self.buffer = bytes;
    }

    fn take_head<H: Handler>(&mut self, id: ConnId, mut input: &[u8], handler: &mut H) {
        loop {
            let slot = self.slots.at(id.index());
            let limit = slot.config.max_handshake_bytes as usize;
            let Stage::Opening(pending) = &mut slot.stage else {
                return;
            };
            let (reader, at_server) = match &mut pending.opening {
                Opening::Request { reader } => (reader, true),
                Opening::Response { reader, .. } => (reader, false),
                _ => return,
            };
            let taken = match reader.feed(input, limit) {
                Ok((_, false)) => return,
                Ok((taken, true)) => taken,
                Err(error) => return self.head_unreadable(id, &error),
            };
            let head: Arc<[u8]> = Arc::from(mem::take(reader).into_bytes());
            input = &input[taken..];
            if at_server {
                self.keep_unread(id, input);
                return self.on_request(id, head, handler);
            }
            if self.on_response(id, head) {
                self.keep_unread(id, input);
                return;
            }
        }
    }

    fn keep_unread(&mut self, id: ConnId, rest: &[u8]) {
        if rest.is_empty() {
            return;
        }
        if let Some(slot) = self.slots.get(id)
            && matches!(slot.stage, Stage::Opening(_) | Stage::Open(_))
        {
            match kept(rest) {
                Ok(rest) => slot.unread = Some(Box::new(rest)),
                Err(error) => return self.end(id, error, true),
            }
            self.queue_unread(id);
        }
    }

    fn head_unreadable(&mut self, id: ConnId, error: &HeadError) {
        if self.role_of(id) == Role::Server {
            self.refuse(id, Refusal::unreadable(error));
        } else {
            self.end(id, unreadable(error), false);
        }
    }

    /// A client's request is complete.
    fn on_request<H: Handler>(&mut self, id: ConnId, head: Arc<[u8]>, handler: &mut H) {
        let context: &mut Context = self;
        let slot = context.slots.at(id.index());
        let request = match Request::parse(&head, slot.config.max_handshake_headers as usize) {
            Ok(request) => request,
            Err(error) => return context.refuse(id, Refusal::unreadable(&error)),
        };
        let Some(server) = slot.server.and_then(|server| context.servers.peek(server)) else {
            return;
        };
        let asked = match examine(&request, &server.policy, slot.config.deflate.as_ref()) {
            Ok(asked) => asked,
            Err(refusal) => {
                context.hold(id, None, &head, request.method == "HEAD");
                let refuse = handler.on_refusal(&mut context.conn(id), &request, &refusal.error);
                if refuse && is_held(context, id) {
                    context.refuse(id, refusal);
                }
                return;
            }
        };
        let upgrade = match asked {
            Asked::Upgrade(upgrade) => Some(upgrade),
            Asked::Http => None,
        };
        let is_upgrade = upgrade.is_some();
        context.hold(id, upgrade, &head, request.method == "HEAD");
        let answered = if is_upgrade {
            match handler.on_upgrade(&mut context.conn(id), &request) {
                Answer::Accept(accept) if is_held(context, id) => context.conn(id).accept(&accept),
                Answer::Refuse(response) if is_held(context, id) => {
                    context.conn(id).respond(&response)
                }
                Answer::Accept(_) | Answer::Refuse(_) | Answer::Later => Ok(()),
            }
        } else {
            match handler.on_http(&mut context.conn(id), &request) {
                Some(response) if is_held(context, id) => context.conn(id).respond(&response),
                Some(_) | None => Ok(()),
            }
        };
        if let Err(error) = answered {
            // The application's answer cannot be sent; the client is not left without one.
            let detail = format!("the application's answer to the request is not valid: {error}");
            let response = Response::text(500, "the server's answer is not valid");
            context.refuse(
                id,
                Refusal {
                    response,
                    error: Error::new(error.kind(), detail),
                },
            );
        }
    }

    /// A server's response is complete. Tells whether it was the last one.
    fn on_response(&mut self, id: ConnId, head: Arc<[u8]>) -> bool {
        let context: &mut Context = self;
        let slot = context.slots.at(id.index());
        let Stage::Opening(pending) = &slot.stage else {
            return true;
        };
        let Opening::Response { handshake, .. } = &pending.opening else {
            return true;
        };
        let response = match ResponseHead::parse(&head, slot.config.max_handshake_headers as usize)
        {
            Ok(response) => response,
            Err(error) => {
                context.end(id, unreadable(&error), false);
                return true;
            }
        };
        // RFC 9110 §15.2: interim responses may come before the final one; 101 is final here.
        if matches!(response.status, 100 | 102..=199) {
            return false;
        }
        let status = response.status;
        match handshake.check(&response) {
            Ok(settled) => context.establish(id, Role::Client, settled, Arc::clone(&head)),
            Err(error) if error.kind() == ErrorKind::Refused => {
                context.end_refused(id, error, status)
            }
            Err(error) => context.end(id, error, false),
        }
        true
    }
}

/// What is given out for this many bytes takes the place of one callback: a megabyte that came in a
/// kilobyte is as much of a burst as many messages.
const BYTES_PER_EVENT: usize = 16 << 10;

impl Context {
    /// Counts a large message for what it is.
    #[inline]
    fn charge(&mut self, len: usize) {
        if len >= BYTES_PER_EVENT {
            self.budget = self.budget.saturating_sub((len / BYTES_PER_EVENT) as u32);
        }
    }
}

/// Hands out the events in `input`, and keeps what is not to be looked at yet.
fn drain<H: Handler>(this: &mut Loop, id: ConnId, mut input: &mut [u8], handler: &mut H) {
    let (context, _) = this.parts();
    let role = context.role_of(id);
    let slot = context.slots.at(id.index());
    let config = Arc::clone(&slot.config);
    let Stage::Open(established) = &mut slot.stage else {
        return;
    };
    let mut receive = mem::replace(&mut established.receive, Receive::new(role));
    let mut parsing = false;
    let outcome = catch_unwind(AssertUnwindSafe(|| {
        hand_out(
            context,
            id,
            &config,
            &mut receive,
            &mut input,
            &mut parsing,
            handler,
        )
    }));
    let mut result = match outcome {
        Ok(result) => result,
        Err(_) if parsing => {
            receive = Receive::new(role);
            Err(Error::new(
                ErrorKind::Panic,
                "a defect in reading frames was caught",
            ))
        }
        // Not ours to judge: the handler's panic goes on to whoever called the loop.
        Err(panic) => resume_unwind(panic),
    };
    receive.recycle(&mut context.buffers);
    let Some(slot) = context.slots.get(id) else {
        return receive.stop(&mut context.buffers);
    };
    match &mut slot.stage {
        Stage::Open(established) => {
            established.receive = receive;
            if established.connection.phase() == Phase::Failed {
                established.receive.stop(&mut context.buffers);
            } else if !input.is_empty() && result.is_ok() {
                match kept(input) {
                    Ok(rest) => slot.unread = Some(Box::new(rest)),
                    Err(error) => result = Err(error),
                }
                if !slot.is_silenced() {
                    context.queue_unread(id);
                }
            }
        }
        _ => receive.stop(&mut context.buffers),
    }
    if let Err(error) = result {
        fail(context, id, error, handler);
    }
    context.account(id);
    context.flush_if_large(id);
}

/// A copy of what was read and is to be looked at later.
fn kept(rest: &[u8]) -> Result<Vec<u8>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(rest.len())
        .map_err(|_| Error::new(ErrorKind::NoMemory, "no memory for what the peer has sent"))?;
    copy.extend_from_slice(rest);
    Ok(copy)
}

/// Fails a connection for what its peer has sent.
fn fail<H: Handler>(context: &mut Context, id: ConnId, error: Error, handler: &mut H) {
    handler.on_reply(&mut context.conn(id), Reply::Fail(&error));
    context.fail(id, error);
}

/// Calls the application for each event, while it wants them.
#[allow(
    clippy::too_many_arguments,
    reason = "one call site; a struct would only rename the arguments"
)]
#[inline]
fn hand_out<H: Handler>(
    context: &mut Context,
    id: ConnId,
    config: &Config,
    receive: &mut Receive,
    input: &mut &mut [u8],
    parsing: &mut bool,
    handler: &mut H,
) -> Result<()> {
    loop {
        if context.budget == 0 {
            return Ok(());
        }
        *parsing = true;
        let event = receive.next(input, config, &mut context.buffers)?;
        *parsing = false;
        match event {
            None => return Ok(()),
            Some(Event::Message(message)) => {
                context.budget -= 1;
                context.stats.messages_received += 1;
                context.charge(message.as_bytes().len());
                handler.on_message(&mut context.conn(id), message);
            }
            Some(Event::Chunk(chunk)) => {
                context.budget -= 1;
                context.stats.messages_received += u64::from(chunk.last);
                context.charge(chunk.data.as_bytes().len());
                handler.on_chunk(&mut context.conn(id), chunk);
            }
            Some(event) => {
                context.budget -= 1;
                let answer = match event {
                    Event::Ping(_) => handler.on_reply(&mut context.conn(id), Reply::Pong),
                    Event::Close(close) => {
                        handler.on_reply(&mut context.conn(id), Reply::Close(&close));
                        true
                    }
                    Event::Pong(_) | Event::Message(_) | Event::Chunk(_) => false,
                };
                // Who hears of an answer may end the connection, and then hears nothing more.
                let slot = context.slots.get(id);
                if slot.and_then(Slot::established).is_none() {
                    return Ok(());
                }
                if answer {
                    context
                        .with_connection(id, |connection, tools| connection.react(&event, tools));
                }
                match event {
                    Event::Ping(payload) => handler.on_ping(&mut context.conn(id), payload),
                    Event::Pong(payload) => handler.on_pong(&mut context.conn(id), payload),
                    Event::Close(_) | Event::Message(_) | Event::Chunk(_) => {}
                }
            }
        }
        if !context
            .slots
            .get(id)
            .is_some_and(|slot| slot.is_delivering())
        {
            return Ok(());
        }
    }
}

fn is_held(context: &mut Context, id: ConnId) -> bool {
    context.slots.get(id).is_some_and(|slot| {
        matches!(&slot.stage, Stage::Opening(pending) if matches!(pending.opening, Opening::Held { .. }))
    })
}

fn lost(detail: &'static str) -> Error {
    Error::new(ErrorKind::Lost, detail)
}
