//! The sending half of a connection: messages in, frames appended to an output (RFC 6455 §5, §6.1).
//!
//! Does not know: the receiving half, time, or where the output goes.

use core::time::Duration;

use crate::config::{Compress, Config};
use crate::error::{Error, ErrorKind, Result};
use crate::event::{MessageType, Role};
use crate::protocol::close_code::CloseCode;
use crate::protocol::deflate::{Compressor, Compressors, Shape};
use crate::protocol::extension::Agreed;
use crate::protocol::frame::{MAX_CONTROL, Opcode, append_frame, append_header};
use crate::protocol::mask::Random;
use crate::protocol::utf8::Utf8;
use crate::time::Time;

/// Longest reason of a Close frame: a control frame's payload less the code.
pub const MAX_REASON: usize = MAX_CONTROL - 2;

/// How long a connection's own compressor is kept for the next message.
const KEEP_COMPRESSOR: Duration = Duration::from_secs(30);

/// What a call may need besides the connection.
pub struct Tools<'t> {
    /// The time.
    pub now: Time,
    /// The limits and times of the connection.
    pub config: &'t Config,
    /// The source of masking keys.
    pub random: &'t mut dyn Random,
    /// What compresses.
    pub compressors: &'t mut Compressors,
    /// Where frames go.
    pub out: &'t mut Vec<u8>,
}

/// The sending half of a connection.
#[derive(Debug)]
pub struct Send {
    role: Role,
    /// Whether a Close frame was written, after which nothing else is (RFC 6455 §5.5.1).
    closed: bool,
    /// Whether earlier output still waits for the transport.
    backlogged: bool,
    /// The type of the message of which fragments were sent.
    fragmented: Option<MessageType>,
    /// Whether that message is compressed.
    compressing: bool,
    utf8: Utf8,
    /// The latest pong that waits for the transport.
    pong: Option<Box<Pong>>,
    /// How messages are compressed, if permessage-deflate is agreed on.
    deflate: Option<Box<Deflate>>,
}

/// How the messages of one side of a connection are compressed.
#[derive(Debug)]
struct Deflate {
    agreed: Agreed,
    shape: Shape,
    min_bytes: u64,
    /// Whether messages refer back to earlier ones.
    takeover: bool,
    /// What remembers the earlier ones.
    own: Option<Compressor>,
    /// When `own` was last used.
    used: Time,
}

/// The payload of a pong.
#[derive(Debug)]
struct Pong {
    len: u8,
    payload: [u8; MAX_CONTROL],
}

impl Send {
    /// The half of an endpoint that is `role`.
    pub fn new(role: Role) -> Self {
        Self {
            role,
            closed: false,
            backlogged: false,
            fragmented: None,
            compressing: false,
            utf8: Utf8::default(),
            pong: None,
            deflate: None,
        }
    }

    /// The half of an endpoint that is `role`, for what was agreed on in the opening handshake.
    pub fn with_deflate(role: Role, agreed: Option<&Agreed>, config: &Config) -> Self {
        let deflate = agreed
            .zip(config.deflate.as_ref())
            .map(|(agreed, options)| {
                let (window_bits, takeover) = agreed.sender(role);
                let own_bits = match role {
                    Role::Client => options.client_max_window_bits,
                    Role::Server => options.server_max_window_bits,
                };
                Box::new(Deflate {
                    agreed: *agreed,
                    shape: Shape::new(window_bits.min(own_bits), options),
                    min_bytes: options.min_bytes,
                    takeover,
                    own: None,
                    used: Time::ORIGIN,
                })
            });
        Self {
            deflate,
            ..Self::new(role)
        }
    }

    /// What was agreed on about compression.
    pub fn agreed(&self) -> Option<&Agreed> {
        self.deflate.as_deref().map(|deflate| &deflate.agreed)
    }

    /// Whether a message of `len` octets is to be compressed.
    #[inline]
    pub(crate) fn compresses(&self, compress: Compress, len: usize) -> bool {
        match (&self.deflate, compress) {
            (None, _) | (_, Compress::Never) => false,
            (Some(_), Compress::Always) => true,
            (Some(deflate), Compress::Auto) => len as u64 >= deflate.min_bytes,
        }
    }

    /// How a message that refers to no other is to be compressed, for one that many are sent. Those
    /// that follow refer to nothing before it.
    pub(crate) fn apart(&mut self) -> Option<Shape> {
        let deflate = self.deflate.as_deref_mut()?;
        deflate.own = None;
        Some(deflate.shape)
    }

    /// When the compressor is to be let go.
    pub(crate) fn release_at(&self) -> Option<Time> {
        let deflate = self.deflate.as_deref()?;
        deflate
            .own
            .as_ref()
            .map(|_| deflate.used.after(KEEP_COMPRESSOR))
    }

    /// Lets a compressor go that was not used for long. Later messages refer to nothing before it.
    pub(crate) fn release(&mut self, now: Time) {
        if self.release_at().is_some_and(|at| at <= now)
            && let Some(deflate) = &mut self.deflate
        {
            deflate.own = None;
        }
    }

    /// Whether a Close frame was written.
    pub const fn is_closed(&self) -> bool {
        self.closed
    }

    /// Whether frames are sent unmasked, so that a payload can be written as it is.
    pub(crate) const fn is_plain(&self) -> bool {
        matches!(self.role, Role::Server)
    }

    /// Appends a text message.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] after Close, [`ErrorKind::State`] amid a fragmented message,
    /// [`ErrorKind::NoMemory`] for compressing it.
    #[inline]
    pub fn text(&mut self, text: &str, tools: &mut Tools<'_>) -> Result<()> {
        self.message(MessageType::Text, text.as_bytes(), Compress::Auto, tools)
    }

    /// Appends a binary message.
    ///
    /// # Errors
    /// As [`text`](Self::text).
    #[inline]
    pub fn binary(&mut self, data: &[u8], tools: &mut Tools<'_>) -> Result<()> {
        self.message(MessageType::Binary, data, Compress::Auto, tools)
    }

    /// Appends a message whose text, if it is one, is known to be UTF-8.
    #[inline]
    pub(crate) fn message(
        &mut self,
        message_type: MessageType,
        payload: &[u8],
        compress: Compress,
        tools: &mut Tools<'_>,
    ) -> Result<()> {
        self.check_whole()?;
        if self.compresses(compress, payload.len()) {
            return self.deflated(message_type.into(), payload, true, tools);
        }
        let key = self.key(tools.random);
        append_frame(tools.out, true, message_type.into(), false, payload, key)
    }

    /// Appends a message that is compressed already, if `compressed`, as a receiver may know it.
    pub(crate) fn ready_made(
        &mut self,
        message_type: MessageType,
        compressed: bool,
        payload: &[u8],
        tools: &mut Tools<'_>,
    ) -> Result<()> {
        self.check_whole()?;
        let key = self.key(tools.random);
        append_frame(
            tools.out,
            true,
            message_type.into(),
            compressed,
            payload,
            key,
        )
    }

    /// Appends the header of a message whose payload the caller writes behind it, unmasked.
    pub(crate) fn plain_header(
        &mut self,
        message_type: MessageType,
        compressed: bool,
        len: usize,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        debug_assert!(self.is_plain());
        self.check_whole()?;
        append_header(out, true, message_type.into(), compressed, len, None)
    }

    /// Compresses and appends a frame.
    #[inline(never)]
    fn deflated(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        fin: bool,
        tools: &mut Tools<'_>,
    ) -> Result<()> {
        let key = self.key(tools.random);
        let Some(deflate) = &mut self.deflate else {
            return Ok(());
        };
        let whole = fin && opcode != Opcode::Continuation;
        let compressed = if deflate.takeover {
            deflate.used = tools.now;
            let shape = deflate.shape;
            let mut own = match deflate.own.take() {
                Some(own) => own,
                None => Compressor::new(shape)?,
            };
            let compressed = tools.compressors.compress_with(&mut own, payload, fin)?;
            // After an error it is gone, and with it what would be referred to in vain.
            deflate.own = Some(own);
            compressed
        } else {
            tools.compressors.compress(deflate.shape, payload, fin)?
        };
        // What does not get smaller is sent as it is, where no later message refers to it.
        let (is_compressed, payload) =
            if whole && !deflate.takeover && compressed.len() >= payload.len() {
                (false, payload)
            } else {
                (true, compressed)
            };
        // RFC 7692 §6.1: the first frame of a message says for all that it is compressed.
        let marked = is_compressed && opcode != Opcode::Continuation;
        let appended = append_frame(tools.out, fin, opcode, marked, payload, key);
        if appended.is_err() {
            // It remembers what the peer does not get.
            deflate.own = None;
        }
        appended
    }

    /// Appends a fragment of a message; `fin` marks the last one (RFC 6455 §5.4). `compress` counts
    /// with the first.
    ///
    /// Text may be cut within a character; it is checked as it goes.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] after Close, [`ErrorKind::State`] if the message has begun with
    /// another type, [`ErrorKind::Invalid`] for text that is not UTF-8; then nothing is written.
    pub fn fragment(
        &mut self,
        message_type: MessageType,
        payload: &[u8],
        fin: bool,
        compress: Compress,
        tools: &mut Tools<'_>,
    ) -> Result<()> {
        self.check_open()?;
        let opcode = match self.fragmented {
            None => message_type.into(),
            Some(begun) if begun == message_type => Opcode::Continuation,
            Some(begun) => {
                return Err(Error::new(
                    ErrorKind::State,
                    format!(
                        "the fragmented message is {begun:?}; its fragments cannot be {message_type:?}"
                    ),
                ));
            }
        };
        let mut utf8 = self.utf8;
        if message_type == MessageType::Text {
            if self.fragmented.is_none() {
                utf8 = Utf8::default();
            }
            let valid = utf8.feed(payload).is_ok() && (!fin || utf8.is_complete());
            if !valid {
                return Err(Error::invalid("the text is not UTF-8"));
            }
        }
        let compressing = match self.fragmented {
            Some(_) => self.compressing,
            // How long the message becomes is not known; a whole one is judged by its length.
            None => self.compresses(compress, if fin { payload.len() } else { usize::MAX }),
        };
        if compressing {
            self.deflated(opcode, payload, fin, tools)?;
        } else {
            let key = self.key(tools.random);
            append_frame(tools.out, fin, opcode, false, payload, key)?;
        }
        self.utf8 = utf8;
        self.compressing = compressing;
        self.fragmented = if fin { None } else { Some(message_type) };
        Ok(())
    }

    /// Appends a ping of at most 125 octets.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] after Close, [`ErrorKind::Invalid`] for a longer payload.
    pub fn ping(
        &mut self,
        payload: &[u8],
        random: &mut dyn Random,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.control(Opcode::Ping, payload, random, out)
    }

    /// Appends an unsolicited pong of at most 125 octets.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn pong(
        &mut self,
        payload: &[u8],
        random: &mut dyn Random,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.control(Opcode::Pong, payload, random, out)
    }

    /// Answers a ping: at once, or when earlier output is gone.
    ///
    /// RFC 6455 §5.5.3: of the pings that wait for an answer only the latest needs one. That is
    /// what bounds the memory a flood of pings can take.
    ///
    /// # Errors
    /// [`ErrorKind::NoMemory`].
    pub fn answer_ping(
        &mut self,
        payload: &[u8],
        random: &mut dyn Random,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        if self.closed {
        } else if self.backlogged {
            let pong = self.pong.get_or_insert_with(|| {
                Box::new(Pong {
                    len: 0,
                    payload: [0; MAX_CONTROL],
                })
            });
            pong.len = payload.len() as u8;
            pong.payload[..payload.len()].copy_from_slice(payload);
        } else {
            let key = self.key(random);
            return append_frame(out, true, Opcode::Pong, false, payload, key);
        }
        Ok(())
    }

    /// Tells whether output waits for the transport; a pong that waited goes to `out` when none
    /// does.
    pub fn set_backlogged(&mut self, backlogged: bool, random: &mut dyn Random, out: &mut Vec<u8>) {
        self.backlogged = backlogged;
        if !backlogged && let Some(pong) = self.pong.take() {
            // Without memory for these few bytes, this one is left out.
            let _ = self.answer_ping(&pong.payload[..usize::from(pong.len)], random, out);
        }
    }

    /// Whether earlier output waits for the transport.
    pub(crate) const fn is_backlogged(&self) -> bool {
        self.backlogged
    }

    /// Whether a pong waits for the transport.
    pub(crate) const fn owes_pong(&self) -> bool {
        self.pong.is_some()
    }

    /// Appends a Close frame, the last frame of this side. If there is no memory for it, this side
    /// ends without.
    pub(crate) fn close(
        &mut self,
        code: Option<CloseCode>,
        reason: &str,
        random: &mut dyn Random,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        debug_assert!(!self.closed && reason.len() <= MAX_REASON);
        let mut payload = [0; MAX_CONTROL];
        let mut len = 0;
        if let Some(code) = code.filter(|&code| code != CloseCode::NO_STATUS) {
            payload[..2].copy_from_slice(&code.as_u16().to_be_bytes());
            payload[2..2 + reason.len()].copy_from_slice(reason.as_bytes());
            len = 2 + reason.len();
        }
        let key = self.key(random);
        let appended = append_frame(out, true, Opcode::Close, false, &payload[..len], key);
        self.closed = true;
        if let Some(deflate) = &mut self.deflate {
            deflate.own = None;
        }
        self.pong = None;
        appended
    }

    fn control(
        &mut self,
        opcode: Opcode,
        payload: &[u8],
        random: &mut dyn Random,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        self.check_open()?;
        if payload.len() > MAX_CONTROL {
            return Err(Error::invalid(format!(
                "the payload of a ping or pong has {} bytes; expected at most {MAX_CONTROL}",
                payload.len()
            )));
        }
        append_frame(out, true, opcode, false, payload, self.key(random))
    }

    #[inline]
    fn check_whole(&self) -> Result<()> {
        if self.closed || self.fragmented.is_some() {
            return Err(self.refuse_whole());
        }
        Ok(())
    }

    #[cold]
    fn refuse_whole(&self) -> Error {
        if self.closed {
            return Error::closed();
        }
        Error::new(
            ErrorKind::State,
            "a fragmented message is not finished; send its last fragment first",
        )
    }

    fn check_open(&self) -> Result<()> {
        if self.closed {
            Err(Error::closed())
        } else {
            Ok(())
        }
    }

    /// RFC 6455 §5.3: a client takes a fresh key for each frame, a server none.
    #[inline]
    fn key(&self, random: &mut dyn Random) -> Option<[u8; 4]> {
        match self.role {
            Role::Client => Some(random.masking_key()),
            Role::Server => None,
        }
    }
}

/// Checks what an application wants to close with, before anything is written.
///
/// # Errors
/// [`ErrorKind::Invalid`], naming the code or the length.
pub fn check_close(code: Option<u16>, reason: &str) -> Result<Option<CloseCode>> {
    if reason.len() > MAX_REASON {
        return Err(Error::invalid(format!(
            "the close reason has {} bytes; expected at most {MAX_REASON}",
            reason.len()
        )));
    }
    let Some(number) = code else {
        if !reason.is_empty() {
            return Err(Error::invalid("a close reason needs a code"));
        }
        return Ok(None);
    };
    match CloseCode::from_wire(number) {
        Some(code) => Ok(Some(code)),
        None => Err(Error::invalid(format!(
            "close code {number} may not be sent; expected 1000 to 1003, 1007 to 1014, or 3000 to 4999"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct NoKeys;

    impl Random for NoKeys {
        fn fill(&mut self, _: &mut [u8]) {
            unreachable!("a server takes no keys");
        }
    }

    #[test]
    fn pings_and_pongs_have_at_most_125_octets() {
        let mut send = Send::new(Role::Server);
        let payload = [7; MAX_CONTROL + 1];
        for len in [0, MAX_CONTROL - 1, MAX_CONTROL, MAX_CONTROL + 1] {
            for opcode in [Opcode::Ping, Opcode::Pong] {
                let mut out = Vec::new();
                let sent = match opcode {
                    Opcode::Ping => send.ping(&payload[..len], &mut NoKeys, &mut out),
                    _ => send.pong(&payload[..len], &mut NoKeys, &mut out),
                };
                if len <= MAX_CONTROL {
                    assert_eq!(sent, Ok(()));
                    assert_eq!(out.len(), 2 + len);
                } else {
                    let error = sent.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Invalid);
                    assert!(error.detail().contains("126 bytes; expected at most 125"));
                    assert!(out.is_empty());
                }
            }
        }
    }
}
