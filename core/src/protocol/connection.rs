//! The conduct of a connection: what is answered to what was received, the closing handshake (RFC
//! 6455 §7), keeping alive, and the deadlines of both.
//!
//! A connection is two halves. [`Receive`] turns bytes into events, which borrow from it;
//! [`Connection`] is everything else, and stays free while an event is looked at. So an event's
//! receiver may send, close, or fail the very connection.
//!
//! Does not know: sockets, clocks, or the opening handshake.

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Event, Role};
use crate::protocol::close_code::CloseCode;
use crate::protocol::extension::Agreed;
use crate::protocol::message::Buffers;
use crate::protocol::receive::Receive;
pub use crate::protocol::send::Tools;
use crate::protocol::send::{MAX_REASON, Send, check_close};
use crate::time::{Time, earliest};

/// The payload of keepalive pings, which tells them from an application's.
pub const KEEPALIVE_PAYLOAD: &[u8] = b"wsabi-keepalive";

/// How far a connection has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Messages go both ways.
    Open,
    /// Our Close is sent, the peer's has not come: messages still arrive.
    Closing,
    /// Both Close frames are exchanged; the transport remains to be closed, by the server first
    /// (RFC 6455 §7.1.1).
    Closed,
    /// Failed (RFC 6455 §7.1.7): our Close is sent, and what arrives is discarded.
    Failed,
}

/// What a deadline brings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing more than what is in the output.
    Nothing,
    /// The peer did not close in time: the transport is to be reset.
    Reset,
}

/// Why and how a connection ended (RFC 6455 §7.1.4 to §7.1.6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closed {
    /// The code of the peer's Close frame, [`CloseCode::NO_STATUS`] if it had none, or
    /// [`CloseCode::ABNORMAL`] if no Close frame came.
    pub code: CloseCode,
    /// The reason of the peer's Close frame.
    pub reason: Box<str>,
    /// What ended the connection, unless the closing handshake completed and no message was dropped.
    pub error: Option<Error>,
    /// The status with which a server refused the opening handshake, or 0.
    pub http_status: u16,
    /// How many messages that were accepted for sending were not wholly handed to the kernel. They
    /// are the last ones accepted; all before them were.
    pub messages_dropped: u64,
}

impl Closed {
    /// A connection that ended without the peer's Close frame.
    pub fn abnormal(error: Error) -> Self {
        Self {
            code: CloseCode::ABNORMAL,
            reason: Box::default(),
            error: Some(error),
            http_status: 0,
            messages_dropped: 0,
        }
    }

    /// Whether the closing handshake completed and no message was dropped.
    pub const fn is_clean(&self) -> bool {
        self.error.is_none()
    }
}

/// Everything about an established connection but its receiving half.
#[derive(Debug)]
pub struct Connection {
    /// The sending half.
    send: Send,
    phase: Phase,
    role: Role,
    /// What the peer's Close said.
    peer_close: Option<Box<(CloseCode, Box<str>)>>,
    /// Why the connection failed.
    failure: Option<Box<Error>>,
    /// When bytes last arrived.
    received: Time,
    /// When the next keepalive ping is due.
    next_ping: Option<Time>,
    /// When the keepalive ping was sent since which there was no sign of life: no byte came, and
    /// none of the output that waited was taken.
    pinged: Option<Time>,
    /// Since when nothing is read, by the application's wish.
    paused: Option<Time>,
    /// From when the closing handshake's time counts.
    closing: Time,
}

/// The code with which a connection is failed for `error` (RFC 6455 §7.4.1).
pub const fn close_code_of(error: &Error) -> CloseCode {
    match error.kind() {
        ErrorKind::InvalidText | ErrorKind::InvalidDeflate => CloseCode::INVALID_PAYLOAD,
        ErrorKind::MessageTooBig => CloseCode::TOO_BIG,
        ErrorKind::TooManyFragments => CloseCode::POLICY_VIOLATION,
        ErrorKind::Protocol => CloseCode::PROTOCOL_ERROR,
        ErrorKind::OverBudget => CloseCode::TRY_AGAIN_LATER,
        _ => CloseCode::INTERNAL_ERROR,
    }
}

impl Connection {
    /// A connection whose opening handshake has just completed.
    pub fn new(role: Role, config: &Config, now: Time) -> Self {
        Self {
            send: Send::new(role),
            phase: Phase::Open,
            role,
            peer_close: None,
            failure: None,
            received: now,
            next_ping: config.ping_interval.map(|interval| now.after(interval)),
            pinged: None,
            paused: None,
            closing: now,
        }
    }

    /// A connection whose opening handshake has agreed on compression; its receiving half is
    /// [`Receive::with_deflate`].
    pub fn with_deflate(role: Role, agreed: Option<&Agreed>, config: &Config, now: Time) -> Self {
        Self {
            send: Send::with_deflate(role, agreed, config),
            ..Self::new(role, config, now)
        }
    }

    /// How far the connection has come.
    #[inline]
    pub const fn phase(&self) -> Phase {
        self.phase
    }

    /// The sending half.
    #[inline]
    pub const fn send(&mut self) -> &mut Send {
        &mut self.send
    }

    /// What was agreed on about compression.
    pub fn agreed(&self) -> Option<&Agreed> {
        self.send.agreed()
    }

    /// Whether messages are accepted for sending.
    #[inline]
    pub const fn is_open(&self) -> bool {
        matches!(self.phase, Phase::Open)
    }

    /// Whether this side is to close its direction of the transport as soon as the output is gone.
    ///
    /// RFC 6455 §7.1.1: the server closes first. After a failure either side does, and reads on
    /// until the peer has closed too, because a reset could overtake the Close frame.
    pub const fn wants_shutdown(&self) -> bool {
        match self.phase {
            Phase::Failed => true,
            Phase::Closed => matches!(self.role, Role::Server),
            Phase::Open | Phase::Closing => false,
        }
    }

    /// Takes the next event from `input`, as [`Receive::next`] does, and reacts to it.
    ///
    /// Errors of the peer end up in the output as a Close frame and are reported by
    /// [`closed`](Self::closed).
    pub fn next_event<'a, 'b: 'a>(
        &mut self,
        receive: &'a mut Receive,
        input: &mut &'b mut [u8],
        buffers: &mut Buffers,
        tools: &mut Tools<'_>,
    ) -> Option<Event<'a>> {
        if self.phase == Phase::Failed {
            receive.stop(buffers);
        }
        match receive.next(input, tools.config, buffers) {
            Ok(Some(event)) => {
                self.react(&event, tools);
                Some(event)
            }
            Ok(None) => None,
            Err(error) => {
                *input = &mut [];
                self.fail(error, tools);
                None
            }
        }
    }

    /// Does what the protocol asks for after an event; a message asks for nothing.
    pub fn react(&mut self, event: &Event<'_>, tools: &mut Tools<'_>) {
        match event {
            Event::Message(_) | Event::Chunk(_) | Event::Pong(_) => {}
            Event::Ping(payload) => {
                if let Err(error) = self.send.answer_ping(payload, tools.random, tools.out) {
                    self.fail(error, tools);
                }
            }
            Event::Close(close) => {
                // RFC 6455 §5.5.1: a Close is answered by one with the same code, unless one was
                // sent before.
                if !self.send.is_closed() {
                    // Without memory for it the peer sees the end of the transport.
                    let _ = self
                        .send
                        .close(Some(close.code), "", tools.random, tools.out);
                }
                self.peer_close = Some(Box::new((close.code, Box::from(close.reason))));
                self.enter(Phase::Closed, tools.now);
            }
        }
    }

    /// Starts the closing handshake (RFC 6455 §7.1.2).
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if it has started, [`ErrorKind::Invalid`] for a code or reason that
    /// cannot be sent.
    pub fn close(&mut self, code: Option<u16>, reason: &str, tools: &mut Tools<'_>) -> Result<()> {
        let code = check_close(code, reason)?;
        if !self.is_open() {
            return Err(Error::closed());
        }
        if let Err(error) = self.send.close(code, reason, tools.random, tools.out) {
            // The peer sees the end of the transport instead.
            self.fail(error, tools);
            return Ok(());
        }
        self.enter(Phase::Closing, tools.now);
        Ok(())
    }

    /// Fails the connection (RFC 6455 §7.1.7): a Close with the code of `error`, and no more
    /// events. The receiving half is to be stopped.
    pub fn fail(&mut self, error: Error, tools: &mut Tools<'_>) {
        if !self.send.is_closed() {
            let (code, reason) = (close_code_of(&error), truncated(error.detail()));
            // Without memory for it the peer sees the end of the transport only.
            let _ = self.send.close(Some(code), reason, tools.random, tools.out);
        }
        if self.phase != Phase::Closed {
            self.failure.get_or_insert_with(|| Box::new(error));
            self.enter(Phase::Failed, tools.now);
        }
    }

    /// Takes note that bytes arrived.
    #[inline]
    pub const fn received(&mut self, now: Time) {
        self.received = now;
        self.pinged = None;
    }

    /// Takes note that the transport took output; `waited` tells that it had refused it before.
    pub const fn wrote(&mut self, now: Time, waited: bool) {
        if waited {
            self.pinged = None;
        }
        if !self.is_open() {
            self.closing = now;
        }
    }

    /// Takes note that reading stops by the application's wish; the clocks of the peer's silence
    /// stand still.
    pub const fn pause(&mut self, now: Time) {
        if self.paused.is_none() {
            self.paused = Some(now);
        }
    }

    /// Takes note that reading goes on.
    pub fn resume(&mut self, now: Time) {
        if let Some(since) = self.paused.take() {
            // What came about amid the pause is moved by the rest of it only.
            let rest = |at: Time| now.since(at.max(since));
            self.received = self.received.after(rest(self.received));
            self.pinged = self.pinged.map(|at| at.after(rest(at)));
        }
    }

    /// When [`timeout`](Self::timeout) is to be called next.
    pub fn deadline(&self, config: &Config) -> Option<Time> {
        if !self.is_open() {
            return Some(self.closing.after(config.close_timeout));
        }
        earliest(
            self.send.release_at(),
            earliest(self.next_ping, self.silence(config).map(|(at, _)| at)),
        )
    }

    /// Does what is due at `tools.now`.
    pub fn timeout(&mut self, tools: &mut Tools<'_>) -> Due {
        if !self.is_open() {
            let late = self.closing.after(tools.config.close_timeout) <= tools.now;
            return if late { Due::Reset } else { Due::Nothing };
        }
        self.send.release(tools.now);
        if let Some((_, kind)) = self
            .silence(tools.config)
            .filter(|&(at, _)| at <= tools.now)
        {
            // The peer is told in two words; whose limit it was, and which, is not its business.
            // Without memory for it the peer sees the end of the transport only.
            let _ = self.send.close(
                Some(CloseCode::INTERNAL_ERROR),
                silence_reason(kind),
                tools.random,
                tools.out,
            );
            self.fail(Error::new(kind, silence_detail(kind, tools.config)), tools);
            return Due::Nothing;
        }
        if self.next_ping.is_some_and(|at| at <= tools.now) {
            self.next_ping = tools
                .config
                .ping_interval
                .map(|interval| tools.now.after(interval));
            // Behind output that waits a ping would tell nothing new, and pings would pile up for a
            // peer that reads nothing and lives.
            let sent = self.send.is_backlogged()
                || self
                    .send
                    .ping(KEEPALIVE_PAYLOAD, tools.random, tools.out)
                    .is_ok();
            if sent {
                self.pinged.get_or_insert(tools.now);
            }
        }
        Due::Nothing
    }

    /// The end of the connection as an application is told: `cause` is what ended the transport,
    /// and counts if nothing ended the connection before.
    pub fn closed(&mut self, cause: Error) -> Closed {
        match self.peer_close.take() {
            Some(close) => Closed {
                code: close.0,
                reason: close.1,
                error: None,
                http_status: 0,
                messages_dropped: 0,
            },
            None => Closed::abnormal(self.failure.take().map_or(cause, |failure| *failure)),
        }
    }

    /// Goes on to `phase`. The closing handshake's time is not begun anew by what follows our
    /// Close, so that no peer can prolong it.
    fn enter(&mut self, phase: Phase, now: Time) {
        if self.is_open() {
            self.closing = now;
        }
        self.phase = phase;
    }

    /// The deadline of the peer's silence, and which it is.
    fn silence(&self, config: &Config) -> Option<(Time, ErrorKind)> {
        if self.paused.is_some() {
            return None;
        }
        let idle = config
            .idle_timeout
            .map(|limit| (self.received.after(limit), ErrorKind::IdleTimeout));
        let ping = self
            .pinged
            .map(|at| (at.after(config.ping_timeout), ErrorKind::KeepaliveTimeout));
        match (idle, ping) {
            (Some(idle), Some(ping)) => Some(if ping.0 <= idle.0 { ping } else { idle }),
            (idle, ping) => idle.or(ping),
        }
    }
}

const fn silence_reason(kind: ErrorKind) -> &'static str {
    match kind {
        ErrorKind::IdleTimeout => "idle timeout",
        _ => "keepalive ping timeout",
    }
}

fn silence_detail(kind: ErrorKind, config: &Config) -> String {
    let reason = silence_reason(kind);
    match (kind, config.idle_timeout) {
        (ErrorKind::IdleTimeout, Some(limit)) => {
            format!("{reason}: nothing was received within idle_timeout, {limit:?}")
        }
        _ => format!(
            "{reason}: no sign of life came within ping_timeout, {:?}, after a ping",
            config.ping_timeout
        ),
    }
}

/// As much of `text` as a Close frame has room for.
fn truncated(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_REASON)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_codes_of_the_rfc() {
        for &kind in ErrorKind::ALL {
            let expected = match kind {
                ErrorKind::Protocol => 1002,
                ErrorKind::InvalidText | ErrorKind::InvalidDeflate => 1007,
                ErrorKind::TooManyFragments => 1008,
                ErrorKind::MessageTooBig => 1009,
                ErrorKind::OverBudget => 1013,
                _ => 1011,
            };
            let code = close_code_of(&Error::new(kind, "why"));
            assert_eq!(code.as_u16(), expected, "{kind:?}");
        }
    }
}
