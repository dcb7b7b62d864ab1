//! What a connection tells its owner, and the small words everybody shares: role, type, message.
//!
//! Does not know: how events come about or who listens.

use crate::protocol::close_code::CloseCode;

/// Which side of a connection an endpoint is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    /// Sent the opening handshake's request; masks its frames (RFC 6455 §5.3).
    Client,
    /// Answered the request; must not mask its frames (RFC 6455 §5.1).
    Server,
}

/// The two types a message can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MessageType {
    /// UTF-8 text.
    Text,
    /// Arbitrary bytes.
    Binary,
}

/// A whole message, borrowed from the receiving half of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// A text message.
    Text(&'a str),
    /// A binary message.
    Binary(&'a [u8]),
}

impl<'a> Message<'a> {
    /// The payload as bytes.
    pub const fn as_bytes(&self) -> &'a [u8] {
        match *self {
            Self::Text(text) => text.as_bytes(),
            Self::Binary(data) => data,
        }
    }

    /// Whether this is text or binary.
    pub const fn message_type(&self) -> MessageType {
        match self {
            Self::Text(_) => MessageType::Text,
            Self::Binary(_) => MessageType::Binary,
        }
    }

    /// The text, if it is a text message.
    pub const fn text(&self) -> Option<&'a str> {
        match *self {
            Self::Text(text) => Some(text),
            Self::Binary(_) => None,
        }
    }
}

/// A part of a message, as it has come. Has nothing to do with the frames it came in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The part; text is cut between characters. Only the last may be empty.
    pub data: Message<'a>,
    /// Whether a message begins with it.
    pub first: bool,
    /// Whether the message ends with it.
    pub last: bool,
}

/// What the bytes of a peer amount to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// A message is complete.
    Message(Message<'a>),
    /// A part of a message has come, if they are given out in chunks.
    Chunk(Chunk<'a>),
    /// The peer pinged; the pong that answers it is already on its way.
    Ping(&'a [u8]),
    /// The peer sent a pong, asked for or not.
    Pong(&'a [u8]),
    /// The peer's Close frame; its answer is already on its way. The last event.
    Close(CloseFrame<'a>),
}

/// What the peer's Close frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CloseFrame<'a> {
    /// The code, or [`CloseCode::NO_STATUS`] if the frame has none.
    pub code: CloseCode,
    /// The reason, often empty.
    pub reason: &'a str,
}
