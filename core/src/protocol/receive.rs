//! The receiving half of a connection: frames in, events out (RFC 6455 §5, §6.2).
//!
//! A message that lies whole in the input is unmasked there and borrowed from there. Anything cut
//! is remembered here. After a Close frame or an error this half is inert: it takes all input and
//! gives nothing.
//!
//! Does not know: the sending half, time, or what is done about an event.

use core::mem;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::event::{Chunk, CloseFrame, Event, Message, MessageType, Role};
use crate::protocol::close_code::CloseCode;
use crate::protocol::deflate::Window;
use crate::protocol::extension::Agreed;
use crate::protocol::frame::{Header, MAX_CONTROL, MAX_HEADER, Opcode, Violation};
use crate::protocol::mask::{apply_mask, rotate};
use crate::protocol::message::{Assembly, Buffers, not_utf8, too_big};
use crate::protocol::utf8::check;

/// A frame this long in what has not come is worth reading straight into its message.
const DIRECT_READ: u64 = 32 << 10;
/// What a compressed message has become is given out in chunks of about this size.
const CHUNK: usize = 64 << 10;

/// The receiving half of a connection.
#[derive(Debug)]
pub struct Receive {
    role: Role,
    state: State,
    /// What was given out, and is dropped before anything else happens.
    delivered: Delivered,
    /// Octets of a cut header; `0 <= stashed < MAX_HEADER`.
    stashed: u8,
    stash: [u8; MAX_HEADER],
    /// What has come of the message.
    assembly: Option<Box<Assembly>>,
    control: Option<Box<Control>>,
    /// What a compressed message may refer back to, if permessage-deflate is agreed on.
    window: Option<Box<Window>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The next octet begins a header, or continues the one in the stash.
    Header,
    /// The next `left` octets belong to a data frame; `key` is turned so that it fits them.
    Data { left: u64, key: [u8; 4], fin: bool },
    /// The next octets belong to the control frame.
    Control,
    /// Nothing more is read.
    Inert,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Delivered {
    Nothing,
    Assembly,
    Chunk,
    Control,
}

/// How far the payload of a data frame has come.
enum Progress {
    /// There is more to do.
    More,
    /// More input is needed.
    Wait,
    /// A chunk is to be given out.
    Chunk,
    /// The message is complete.
    Message,
}

#[derive(Debug)]
struct Control {
    opcode: Opcode,
    key: [u8; 4],
    len: u8,
    /// How much has come; `come <= len`.
    come: u8,
    payload: [u8; MAX_CONTROL],
}

impl Receive {
    /// The half of an endpoint that is `role`.
    pub const fn new(role: Role) -> Self {
        Self {
            role,
            state: State::Header,
            delivered: Delivered::Nothing,
            stashed: 0,
            stash: [0; MAX_HEADER],
            assembly: None,
            control: None,
            window: None,
        }
    }

    /// The half of an endpoint that is `role`, for what was agreed on in the opening handshake.
    pub fn with_deflate(role: Role, agreed: Option<&Agreed>) -> Self {
        let sender = match role {
            Role::Client => Role::Server,
            Role::Server => Role::Client,
        };
        let window = agreed.map(|agreed| {
            let (bits, takeover) = agreed.sender(sender);
            Box::new(Window::new(takeover.then_some(bits)))
        });
        Self {
            window,
            ..Self::new(role)
        }
    }

    /// Takes the next event from the beginning of `input`, which then begins behind it.
    ///
    /// `None` means that all of `input` was taken and more is needed. The event borrows from this
    /// half and from the input; everything else about the connection is free meanwhile.
    ///
    /// # Errors
    /// The peer broke a rule or a limit: the connection is to be failed with
    /// [`close_code_of`](crate::protocol::connection::close_code_of) the error, and this half is
    /// inert.
    #[inline]
    pub fn next<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b mut [u8],
        config: &Config,
        buffers: &mut Buffers,
    ) -> Result<Option<Event<'a>>> {
        self.recycle(buffers);
        if self.state != State::Header
            || self.stashed != 0
            || self.assembly.is_some()
            || self.control.is_some()
        {
            return self.next_split(input, config, buffers);
        }
        let (header, used) = match Header::parse(input, self.role, self.window.is_some()) {
            Ok(Some(parsed)) => parsed,
            Ok(None) => return self.next_split(input, config, buffers),
            Err(violation) => return Err(self.violate(violation)),
        };
        let whole = header.fin && header.opcode != Opcode::Continuation && !header.compressed;
        if !whole || header.len > (input.len() - used) as u64 {
            return self.next_split(input, config, buffers);
        }
        if header.len > config.max_message_bytes && !header.opcode.is_control() {
            return Err(self.inert(too_big(header.len, config.max_message_bytes)));
        }
        let (frame, rest) = mem::take(input).split_at_mut(used + header.len as usize);
        *input = rest;
        let payload = &mut frame[used..];
        apply_mask(payload, header.key);
        let message = match header.opcode {
            Opcode::Binary => Message::Binary(payload),
            Opcode::Text => match check(payload) {
                Ok(text) => Message::Text(text),
                Err(_) => return Err(self.inert(not_utf8())),
            },
            opcode => return self.control_event(opcode, payload).map(Some),
        };
        Ok(Some(if config.stream_messages {
            Event::Chunk(Chunk {
                data: message,
                first: true,
                last: true,
            })
        } else {
            Event::Message(message)
        }))
    }

    /// The buffer of the message and how many of the next octets belong there, when so many are
    /// missing from the current frame that they are better read straight into it.
    ///
    /// Whoever appends to the buffer tells it by [`filled`](Self::filled).
    ///
    /// # Errors
    /// No memory; this half is inert.
    pub(crate) fn vacancy(&mut self, config: &Config) -> Result<Option<(&mut Vec<u8>, usize)>> {
        let State::Data { left, .. } = self.state else {
            return Ok(None);
        };
        if left < DIRECT_READ || config.stream_messages {
            return Ok(None);
        }
        let Some(assembly) = &mut self.assembly else {
            return Ok(None);
        };
        if assembly.inflater().is_some() {
            return Ok(None);
        }
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        match assembly.room(left) {
            Ok(room) => Ok(Some((room, left))),
            Err(error) => {
                self.state = State::Inert;
                Err(error)
            }
        }
    }

    /// Takes note of `count` octets appended to the buffer that [`vacancy`](Self::vacancy) gave.
    ///
    /// # Errors
    /// The octets are not UTF-8 in a text message; this half is inert.
    pub(crate) fn filled(&mut self, count: usize) -> Result<()> {
        let (State::Data { left, key, fin }, Some(assembly)) = (self.state, &mut self.assembly)
        else {
            return Ok(());
        };
        let start = assembly.len() - count;
        apply_mask(assembly.tail(start), key);
        self.state = State::Data {
            left: left - count as u64,
            key: rotate(key, count as u64),
            fin,
        };
        if let Err(error) = assembly.validate(start) {
            return Err(self.inert(error));
        }
        Ok(())
    }

    /// Memory that an unfinished message takes.
    pub(crate) fn held(&self) -> usize {
        self.assembly.as_ref().map_or(0, |assembly| assembly.held())
    }

    /// Whether an unfinished message takes more memory when more is read.
    pub(crate) fn is_growing(&self) -> bool {
        match (&self.state, &self.assembly) {
            (State::Data { left, .. }, Some(assembly)) => assembly.grows_by(*left),
            (_, assembly) => assembly.is_some(),
        }
    }

    /// Makes this half inert: it gives no more events.
    pub fn stop(&mut self, buffers: &mut Buffers) {
        self.state = State::Inert;
        self.control = None;
        if let Some(assembly) = self.assembly.take() {
            assembly.recycle(buffers);
        }
        self.delivered = Delivered::Nothing;
    }

    /// Gives back what the last event held.
    #[inline]
    pub fn recycle(&mut self, buffers: &mut Buffers) {
        if self.delivered != Delivered::Nothing {
            self.drop_delivered(buffers);
        }
    }

    #[inline(never)]
    fn drop_delivered(&mut self, buffers: &mut Buffers) {
        match self.delivered {
            Delivered::Nothing => {}
            Delivered::Control => self.control = None,
            Delivered::Chunk => {
                if let Some(assembly) = &mut self.assembly {
                    assembly.chunk_given(buffers);
                }
            }
            Delivered::Assembly => {
                if let Some(assembly) = self.assembly.take() {
                    assembly.recycle(buffers);
                }
            }
        }
        self.delivered = Delivered::Nothing;
    }

    #[cold]
    fn inert(&mut self, error: Error) -> Error {
        self.state = State::Inert;
        error
    }

    #[cold]
    fn violate(&mut self, violation: Violation) -> Error {
        self.inert(Error::new(ErrorKind::Protocol, violation.0))
    }

    /// The way of everything that is not a whole message or control frame in the input.
    #[inline(never)]
    fn next_split<'a, 'b: 'a>(
        &'a mut self,
        input: &mut &'b mut [u8],
        config: &Config,
        buffers: &mut Buffers,
    ) -> Result<Option<Event<'a>>> {
        loop {
            match self.state {
                State::Inert => {
                    *input = &mut [];
                    self.stop(buffers);
                    return Ok(None);
                }
                State::Header => {
                    let Some(header) = self.read_header(input)? else {
                        return Ok(None);
                    };
                    if let Err(error) = self.begin(header, config, buffers) {
                        return Err(self.inert(error));
                    }
                }
                State::Control => {
                    if !self.fill_control(input) {
                        return Ok(None);
                    }
                    self.state = State::Header;
                    return self.deliver_control();
                }
                State::Data { .. } => {
                    match self
                        .go_on(input, config, buffers)
                        .map_err(|error| self.inert(error))?
                    {
                        Progress::More => {}
                        Progress::Wait => return Ok(None),
                        Progress::Chunk => return self.deliver_chunk(false),
                        Progress::Message => {
                            self.state = State::Header;
                            return if config.stream_messages {
                                self.deliver_chunk(true)
                            } else {
                                self.deliver_message()
                            };
                        }
                    }
                }
            }
        }
    }

    /// Reads a header from the stash and the input.
    fn read_header(&mut self, input: &mut &mut [u8]) -> Result<Option<Header>> {
        loop {
            let known = usize::from(self.stashed);
            let bytes = if known == 0 {
                &**input
            } else {
                &self.stash[..known]
            };
            match Header::parse(bytes, self.role, self.window.is_some()) {
                Err(violation) => return Err(self.violate(violation)),
                Ok(Some((header, used))) => {
                    if known == 0 {
                        advance(input, used);
                    }
                    self.stashed = 0;
                    return Ok(Some(header));
                }
                Ok(None) => {}
            }
            let Some(&octet) = input.first() else {
                return Ok(None);
            };
            advance(input, 1);
            self.stash[known] = octet;
            self.stashed += 1;
        }
    }

    /// Begins the frame of `header`, if it may stand here.
    fn begin(&mut self, header: Header, config: &Config, buffers: &mut Buffers) -> Result<()> {
        let message_type = match header.opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong => {
                self.control = Some(Box::new(Control {
                    opcode: header.opcode,
                    key: header.key,
                    len: header.len as u8,
                    come: 0,
                    payload: [0; MAX_CONTROL],
                }));
                self.state = State::Control;
                return Ok(());
            }
            Opcode::Continuation => None,
            Opcode::Text => Some(MessageType::Text),
            Opcode::Binary => Some(MessageType::Binary),
        };
        // RFC 6455 §5.4: the fragments of one message are not interleaved with those of another.
        let assembly = match (message_type, &mut self.assembly) {
            (None, Some(assembly)) => {
                assembly.count_fragment(config.max_fragments)?;
                assembly
            }
            (Some(message_type), slot @ None) => {
                let window = self.window.as_deref().filter(|_| header.compressed);
                slot.insert(Box::new(Assembly::new(message_type, window, buffers)?))
            }
            (None, None) => {
                return Err(Error::new(
                    ErrorKind::Protocol,
                    "a continuation frame came without a message to continue (RFC 6455 §5.4)",
                ));
            }
            (Some(message_type), Some(_)) => {
                return Err(Error::new(
                    ErrorKind::Protocol,
                    match message_type {
                        MessageType::Text => {
                            "a new message, of text, began before the fragmented one ended (RFC 6455 §5.4)"
                        }
                        MessageType::Binary => {
                            "a new message, binary, began before the fragmented one ended (RFC 6455 §5.4)"
                        }
                    },
                ));
            }
        };
        assembly.admit(header.len, config.max_message_bytes)?;
        self.state = State::Data {
            left: header.len,
            key: header.key,
            fin: header.fin,
        };
        Ok(())
    }

    /// Goes on with a data frame: takes a piece of it, or decompresses some of what was taken.
    fn go_on(
        &mut self,
        input: &mut &mut [u8],
        config: &Config,
        buffers: &mut Buffers,
    ) -> Result<Progress> {
        let (State::Data { left, key, fin }, Some(assembly)) = (self.state, &mut self.assembly)
        else {
            return Ok(Progress::Wait);
        };
        let has_chunk = |assembly: &Assembly| config.stream_messages && assembly.chunk_len() > 0;
        if let Some(window) = &self.window
            && assembly
                .inflater()
                .is_some_and(|inflater| inflater.has_input())
        {
            assembly.take_buffer(buffers);
            assembly.inflate(window, config)?;
            let is_much = has_chunk(assembly) && assembly.len() >= CHUNK;
            return Ok(if is_much {
                Progress::Chunk
            } else {
                Progress::More
            });
        }
        if left == 0 && fin {
            assembly.end()?;
            return Ok(Progress::Message);
        }
        if left == 0 {
            self.state = State::Header;
        } else if !input.is_empty() {
            let wanted = &input[..input.len().min(usize::try_from(left).unwrap_or(usize::MAX))];
            let Some(inflater) = assembly.inflater() else {
                assembly.take_buffer(buffers);
                return self.take_data(input).map(|()| Progress::More);
            };
            let piece = inflater.fill(wanted)?;
            let count = piece.len();
            apply_mask(piece, key);
            self.state = State::Data {
                left: left - count as u64,
                key: rotate(key, count as u64),
                fin,
            };
            advance(input, count);
            return Ok(Progress::More);
        }
        // What came before a control frame, or before a wait, is given out before it.
        if has_chunk(assembly) {
            return Ok(Progress::Chunk);
        }
        Ok(if left == 0 {
            Progress::More
        } else {
            Progress::Wait
        })
    }

    /// Moves payload from the input into the message.
    fn take_data(&mut self, input: &mut &mut [u8]) -> Result<()> {
        let (State::Data { left, .. }, Some(assembly)) = (self.state, &mut self.assembly) else {
            return Ok(());
        };
        let left = usize::try_from(left).unwrap_or(usize::MAX);
        let room = assembly.room(left)?;
        let count = left.min(input.len()).min(room.capacity() - room.len());
        room.extend_from_slice(&input[..count]);
        advance(input, count);
        self.filled(count)
    }

    /// Moves payload from the input into the control frame; tells whether it is complete.
    fn fill_control(&mut self, input: &mut &mut [u8]) -> bool {
        let Some(control) = &mut self.control else {
            return false;
        };
        let (come, len) = (usize::from(control.come), usize::from(control.len));
        let count = (len - come).min(input.len());
        control.payload[come..come + count].copy_from_slice(&input[..count]);
        control.come += count as u8;
        advance(input, count);
        if control.come < control.len {
            return false;
        }
        apply_mask(&mut control.payload[..len], control.key);
        true
    }

    fn deliver_control(&mut self) -> Result<Option<Event<'_>>> {
        self.delivered = Delivered::Control;
        let Some(control) = &self.control else {
            return Ok(None);
        };
        let event = judge_control(control.opcode, &control.payload[..usize::from(control.len)]);
        if control.opcode == Opcode::Close || event.is_err() {
            self.state = State::Inert;
        }
        event.map(Some)
    }

    fn deliver_message(&mut self) -> Result<Option<Event<'_>>> {
        self.delivered = Delivered::Assembly;
        self.remember()?;
        Ok(self
            .assembly
            .as_ref()
            .map(|assembly| Event::Message(assembly.message())))
    }

    fn deliver_chunk(&mut self, last: bool) -> Result<Option<Event<'_>>> {
        self.delivered = if last {
            Delivered::Assembly
        } else {
            Delivered::Chunk
        };
        self.remember()?;
        Ok(self
            .assembly
            .as_ref()
            .map(|assembly| Event::Chunk(assembly.chunk(last))))
    }

    /// Keeps of what is given out what a compressed message may refer back to.
    fn remember(&mut self) -> Result<()> {
        if let (Some(window), Some(assembly)) = (&mut self.window, &self.assembly)
            && let Err(error) = assembly.remember(window)
        {
            return Err(self.inert(error));
        }
        Ok(())
    }

    fn control_event<'a>(&mut self, opcode: Opcode, payload: &'a [u8]) -> Result<Event<'a>> {
        let event = judge_control(opcode, payload);
        if opcode == Opcode::Close || event.is_err() {
            self.state = State::Inert;
        }
        event
    }
}

/// The event of a control frame.
fn judge_control(opcode: Opcode, payload: &[u8]) -> Result<Event<'_>> {
    match opcode {
        Opcode::Ping => Ok(Event::Ping(payload)),
        Opcode::Close => parse_close(payload).map(Event::Close),
        Opcode::Pong | Opcode::Continuation | Opcode::Text | Opcode::Binary => {
            Ok(Event::Pong(payload))
        }
    }
}

/// RFC 6455 §5.5.1 and §7.4.
fn parse_close(payload: &[u8]) -> Result<CloseFrame<'_>> {
    match payload {
        [] => Ok(CloseFrame {
            code: CloseCode::NO_STATUS,
            reason: "",
        }),
        [_] => Err(Error::new(
            ErrorKind::Protocol,
            "a Close frame has half a code (RFC 6455 §5.5.1)",
        )),
        [high, low, reason @ ..] => {
            let number = u16::from_be_bytes([*high, *low]);
            let Some(code) = CloseCode::from_wire(number) else {
                return Err(Error::new(
                    ErrorKind::Protocol,
                    format!(
                        "a Close frame has the code {number}, which may not be sent (RFC 6455 §7.4)"
                    ),
                ));
            };
            let reason = check(reason).map_err(|_| {
                Error::new(
                    ErrorKind::InvalidText,
                    "the reason of a Close frame is not UTF-8 (RFC 6455 §5.5.1)",
                )
            })?;
            Ok(CloseFrame { code, reason })
        }
    }
}

fn advance(input: &mut &mut [u8], count: usize) {
    *input = &mut mem::take(input)[count..];
}
