//! RFC 6455 §5 as directly as it can be written: all octets at hand, one frame after another,
//! nothing in place and nothing incremental. And frames written the same way.
//!
//! Does not know: anything of the library but its vocabulary.

use wsabi::event::Event;
use wsabi::{Config, ErrorKind, Message, Role};

/// Some masking keys, among them one that masks nothing.
pub(crate) const KEYS: [[u8; 4]; 3] = [[0x37, 0xfa, 0x21, 0x3d], [0; 4], [1, 2, 4, 8]];

#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) first: u8,
    pub(crate) payload: Vec<u8>,
}

/// An event as it is remembered.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, Vec<u8>),
}

impl Seen {
    pub(crate) fn of(event: &Event<'_>) -> Self {
        match event {
            Event::Message(Message::Text(text)) => Self::Text(text.as_bytes().to_vec()),
            Event::Message(Message::Binary(data)) => Self::Binary(data.to_vec()),
            Event::Chunk(_) => panic!("messages are whole here"),
            Event::Ping(payload) => Self::Ping(payload.to_vec()),
            Event::Pong(payload) => Self::Pong(payload.to_vec()),
            Event::Close(close) => Self::Close(close.code.as_u16(), close.reason.into()),
        }
    }

    pub(crate) fn message(opcode: u8, payload: Vec<u8>) -> Self {
        if opcode == 1 {
            Self::Text(payload)
        } else {
            Self::Binary(payload)
        }
    }
}

/// All events, and what the connection fails with, if it does.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    pub(crate) seen: Vec<Seen>,
    pub(crate) failure: Option<ErrorKind>,
}

/// The octets of frames, masked if their sender is a client.
pub(crate) fn encode(
    frames: &[Frame],
    sender: Role,
    mut keys: impl Iterator<Item = [u8; 4]>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    for Frame { first, payload } in frames {
        let key = if sender == Role::Client {
            keys.next()
        } else {
            None
        };
        let mask = if key.is_some() { 0x80 } else { 0 };
        bytes.push(*first);
        if payload.len() <= 125 {
            bytes.push(mask | payload.len() as u8);
        } else if payload.len() <= 0xffff {
            bytes.push(mask | 126);
            bytes.extend((payload.len() as u16).to_be_bytes());
        } else {
            bytes.push(mask | 127);
            bytes.extend((payload.len() as u64).to_be_bytes());
        }
        bytes.extend(key.into_iter().flatten());
        let key = key.unwrap_or([0; 4]);
        bytes.extend(
            payload
                .iter()
                .enumerate()
                .map(|(i, octet)| octet ^ key[i % 4]),
        );
    }
    bytes
}

/// A header, as far as it has come, and what has come of the payload, unmasked.
struct Come {
    first: u8,
    len: u64,
    payload: Vec<u8>,
    /// How many octets header and payload take.
    taken: usize,
    complete: bool,
}

/// The next frame; `None` if its header is cut.
fn next(bytes: &[u8], receiver: Role) -> Result<Option<Come>, ErrorKind> {
    let [first, second, rest @ ..] = bytes else {
        return Ok(None);
    };
    let control = first & 0x08 != 0;
    let right_mask = (second & 0x80 != 0) == (receiver == Role::Server);
    let known = [0x0, 0x1, 0x2, 0x8, 0x9, 0xa].contains(&(first & 0x0f));
    let control_rules = !control || (first & 0x80 != 0 && second & 0x7f <= 125);
    if first & 0x70 != 0 || !known || !right_mask || !control_rules {
        return Err(ErrorKind::Protocol);
    }
    let size = match second & 0x7f {
        126 => 2,
        127 => 8,
        _ => 0,
    };
    if rest.len() < size {
        return Ok(None);
    }
    let extended = rest[..size]
        .iter()
        .fold(0, |len, octet| len << 8 | u64::from(*octet));
    let (least, len) = match size {
        2 => (126, extended),
        8 => (65_536, extended),
        _ => (0, u64::from(second & 0x7f)),
    };
    if len < least || len >= 1 << 63 {
        return Err(ErrorKind::Protocol);
    }
    let mut rest = &rest[size..];
    let mut key = [0; 4];
    if receiver == Role::Server {
        if rest.len() < 4 {
            return Ok(None);
        }
        key.copy_from_slice(&rest[..4]);
        rest = &rest[4..];
    }
    let come = rest.len().min(usize::try_from(len).unwrap());
    let payload = rest[..come]
        .iter()
        .enumerate()
        .map(|(i, octet)| octet ^ key[i % 4])
        .collect();
    let taken = bytes.len() - rest.len() + come;
    Ok(Some(Come {
        first: *first,
        len,
        payload,
        taken,
        complete: come as u64 == len,
    }))
}

/// What has come of a message.
struct Unfinished {
    opcode: u8,
    payload: Vec<u8>,
    continued: u32,
}

/// What comes of `bytes`.
pub(crate) fn judge(bytes: &[u8], receiver: Role, config: &Config) -> Verdict {
    let mut seen = Vec::new();
    let failure = walk(bytes, receiver, config, &mut seen).err();
    Verdict { seen, failure }
}

fn walk(
    mut bytes: &[u8],
    receiver: Role,
    config: &Config,
    seen: &mut Vec<Seen>,
) -> Result<(), ErrorKind> {
    let mut message: Option<Unfinished> = None;
    while let Some(frame) = next(bytes, receiver)? {
        bytes = &bytes[frame.taken..];
        if frame.first & 0x08 != 0 {
            if !frame.complete {
                return Ok(());
            }
            let event = control(frame)?;
            let is_close = matches!(event, Seen::Close(..));
            seen.push(event);
            if is_close {
                return Ok(());
            }
            continue;
        }
        let mut current = match (frame.first & 0x0f, message.take()) {
            (0, Some(message)) if message.continued == config.max_fragments => {
                drop(message);
                return Err(ErrorKind::TooManyFragments);
            }
            (0, Some(message)) => Unfinished {
                continued: message.continued + 1,
                ..message
            },
            (0, None) => return Err(ErrorKind::Protocol),
            (_, Some(_)) => return Err(ErrorKind::Protocol),
            (opcode, None) => Unfinished {
                opcode,
                payload: Vec::new(),
                continued: 0,
            },
        };
        if current.payload.len() as u64 + frame.len > config.max_message_bytes {
            return Err(ErrorKind::MessageTooBig);
        }
        current.payload.extend(frame.payload);
        let fin = frame.first & 0x80 != 0 && frame.complete;
        if current.opcode == 1
            && let Err(error) = std::str::from_utf8(&current.payload)
            && (fin || error.error_len().is_some())
        {
            return Err(ErrorKind::InvalidText);
        }
        if fin {
            seen.push(Seen::message(current.opcode, current.payload));
        } else {
            message = Some(current);
        }
        if !frame.complete {
            return Ok(());
        }
    }
    Ok(())
}

fn control(frame: Come) -> Result<Seen, ErrorKind> {
    match frame.first & 0x0f {
        0x9 => Ok(Seen::Ping(frame.payload)),
        0xa => Ok(Seen::Pong(frame.payload)),
        _ => match frame.payload[..] {
            [] => Ok(Seen::Close(1005, Vec::new())),
            [_] => Err(ErrorKind::Protocol),
            [high, low, ref reason @ ..] => {
                let code = u16::from_be_bytes([high, low]);
                let registered = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011];
                let added = [1012, 1013, 1014];
                let private = (3000..5000).contains(&code);
                if !registered.contains(&code) && !added.contains(&code) && !private {
                    return Err(ErrorKind::Protocol);
                }
                match std::str::from_utf8(reason) {
                    Ok(reason) => Ok(Seen::Close(code, reason.into())),
                    Err(_) => Err(ErrorKind::InvalidText),
                }
            }
        },
    }
}

/// The masking keys of a sequence of whole frames, each as often as it is used.
pub(crate) fn keys(mut bytes: &[u8]) -> Vec<[u8; 4]> {
    let mut keys = Vec::new();
    while !bytes.is_empty() {
        let masked = bytes[1] & 0x80 != 0;
        let receiver = if masked { Role::Server } else { Role::Client };
        let frame = next(bytes, receiver).unwrap().unwrap();
        if masked {
            let header = frame.taken - frame.payload.len();
            keys.push(bytes[header - 4..header].try_into().unwrap());
        }
        bytes = &bytes[frame.taken..];
    }
    keys
}
