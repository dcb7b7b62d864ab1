//! Frame headers (RFC 6455 §5.2): reading, writing, and the rules one header alone can break.
//!
//! Does not know: messages, or the state of a connection.

use crate::error::{self, Error, ErrorKind};
use crate::event::{MessageType, Role};
use crate::protocol::mask::append_masked;

/// The opcodes of RFC 6455 §5.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0x0,
    Text = 0x1,
    Binary = 0x2,
    Close = 0x8,
    Ping = 0x9,
    Pong = 0xa,
}

impl Opcode {
    const fn from_bits(bits: u8) -> Option<Self> {
        Some(match bits {
            0x0 => Self::Continuation,
            0x1 => Self::Text,
            0x2 => Self::Binary,
            0x8 => Self::Close,
            0x9 => Self::Ping,
            0xa => Self::Pong,
            _ => return None,
        })
    }

    pub(crate) const fn is_control(self) -> bool {
        self as u8 >= 0x8
    }
}

impl From<MessageType> for Opcode {
    fn from(message_type: MessageType) -> Self {
        match message_type {
            MessageType::Text => Self::Text,
            MessageType::Binary => Self::Binary,
        }
    }
}

/// Longest header: two octets, eight of extended length, four of masking key.
pub(crate) const MAX_HEADER: usize = 14;
/// Longest payload of a control frame (RFC 6455 §5.5).
pub(crate) const MAX_CONTROL: usize = 125;

const FIN: u8 = 0x80;
const RSV: u8 = 0x70;
const RSV1: u8 = 0x40;
const MASK: u8 = 0x80;

/// The rule a header breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Violation(pub(crate) &'static str);

/// A frame header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) fin: bool,
    pub(crate) opcode: Opcode,
    /// RSV1 is set: the message is compressed (RFC 7692 §6).
    pub(crate) compressed: bool,
    /// The masking key; zeros, which mask nothing, in a frame that is not masked.
    pub(crate) key: [u8; 4],
    pub(crate) len: u64,
}

impl Header {
    /// Reads the header at the beginning of `bytes`, as `receiver` has to judge it, and tells how
    /// long it is; `None` if it is cut. `deflate` tells whether permessage-deflate is agreed on.
    #[inline]
    pub(crate) fn parse(
        bytes: &[u8],
        receiver: Role,
        deflate: bool,
    ) -> Result<Option<(Self, usize)>, Violation> {
        let [first, second, rest @ ..] = bytes else {
            return Ok(None);
        };
        let (fin, masked) = (first & FIN != 0, second & MASK != 0);
        if first & RSV != 0 {
            check_reserved(*first, deflate)?;
        }
        let Some(opcode) = Opcode::from_bits(first & 0x0f) else {
            return Err(reserved(first & 0x0f));
        };
        match (receiver, masked) {
            (Role::Server, true) | (Role::Client, false) => {}
            (Role::Server, false) => {
                return Err(Violation("a client's frame is not masked (RFC 6455 §5.1)"));
            }
            (Role::Client, true) => {
                return Err(Violation("a server's frame is masked (RFC 6455 §5.1)"));
            }
        }
        let short = second & 0x7f;
        if opcode.is_control() {
            if !fin {
                return Err(Violation("a control frame is fragmented (RFC 6455 §5.5)"));
            }
            if short > MAX_CONTROL as u8 {
                return Err(Violation(if short == 126 {
                    "a control frame is longer than 125 octets, its length field is 126 (RFC 6455 §5.5)"
                } else {
                    "a control frame is longer than 125 octets, its length field is 127 (RFC 6455 §5.5)"
                }));
            }
        }
        let Some((len, extended)) = read_length(short, rest)? else {
            return Ok(None);
        };
        if !masked {
            return Ok(Some((
                Self {
                    fin,
                    opcode,
                    compressed: first & RSV1 != 0,
                    key: [0; 4],
                    len,
                },
                2 + extended,
            )));
        }
        let Some(key) = rest.get(extended..).and_then(<[u8]>::first_chunk) else {
            return Ok(None);
        };
        Ok(Some((
            Self {
                fin,
                opcode,
                compressed: first & RSV1 != 0,
                key: *key,
                len,
            },
            6 + extended,
        )))
    }
}

/// Judges a first octet with reserved bits.
#[cold]
const fn check_reserved(first: u8, deflate: bool) -> Result<(), Violation> {
    Err(Violation(match (first & RSV, first & 0x0f) {
        // RFC 7692 §6: the first frame of a message says whether it is compressed.
        (RSV1, 0x1 | 0x2) if deflate => return Ok(()),
        (RSV1, 0x0) if deflate => {
            "the reserved bit RSV1 is set in a continuation frame (RFC 7692 §6.1)"
        }
        (RSV1, 0x8..=0xf) if deflate => {
            "the reserved bit RSV1 is set in a control frame (RFC 7692 §6.1)"
        }
        (RSV1, _) => {
            "the reserved bit RSV1 is set and no extension gives it a meaning (RFC 6455 §5.2)"
        }
        _ => {
            "a reserved bit, RSV2 or RSV3, is set and no extension gives it a meaning (RFC 6455 §5.2)"
        }
    }))
}

/// The violation of a frame with a reserved opcode.
#[cold]
const fn reserved(opcode: u8) -> Violation {
    macro_rules! violation {
        ($($opcode:literal)*) => {
            match opcode {
                $($opcode => concat!("the opcode is reserved: ", $opcode, " (RFC 6455 §5.2)"),)*
                _ => "the opcode is reserved (RFC 6455 §5.2)",
            }
        };
    }
    Violation(violation!(3 4 5 6 7 11 12 13 14 15))
}

/// The payload length and how many octets of extended length it took.
#[inline]
fn read_length(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, Violation> {
    let not_minimal = Violation("the payload length is not in its shortest form (RFC 6455 §5.2)");
    match short {
        126 => match rest.first_chunk() {
            Some(octets) => match u16::from_be_bytes(*octets) {
                ..126 => Err(not_minimal),
                len => Ok(Some((u64::from(len), 2))),
            },
            None => Ok(None),
        },
        127 => match rest.first_chunk() {
            Some(octets) => match u64::from_be_bytes(*octets) {
                ..0x1_0000 => Err(not_minimal),
                len if len >> 63 != 0 => Err(Violation(
                    "the most significant bit of the payload length is set (RFC 6455 §5.2)",
                )),
                len => Ok(Some((len, 8))),
            },
            None => Ok(None),
        },
        len => Ok(Some((u64::from(len), 0))),
    }
}

/// Appends a frame's header to `out`.
#[inline]
pub(crate) fn append_header(
    out: &mut Vec<u8>,
    fin: bool,
    opcode: Opcode,
    compressed: bool,
    len: usize,
    key: Option<[u8; 4]>,
) -> error::Result<()> {
    out.try_reserve(MAX_HEADER).map_err(|_| no_memory(len))?;
    put_header(out, fin, opcode, compressed, len, key);
    Ok(())
}

/// Puts a frame's header into `out`, which has room for it.
#[inline]
fn put_header(
    out: &mut Vec<u8>,
    fin: bool,
    opcode: Opcode,
    compressed: bool,
    len: usize,
    key: Option<[u8; 4]>,
) {
    let first = if fin { FIN } else { 0 } | if compressed { RSV1 } else { 0 } | opcode as u8;
    let mask = if key.is_some() { MASK } else { 0 };
    // Arrays of a fixed length each, which are stored and not copied by a call.
    match len {
        0..126 => out.extend_from_slice(&[first, mask | len as u8]),
        126..0x1_0000 => {
            let [high, low] = (len as u16).to_be_bytes();
            out.extend_from_slice(&[first, mask | 126, high, low]);
        }
        _ => {
            let mut header = [0; 10];
            header[0] = first;
            header[1] = mask | 127;
            header[2..].copy_from_slice(&(len as u64).to_be_bytes());
            out.extend_from_slice(&header);
        }
    }
    if let Some(key) = key {
        out.extend_from_slice(&key);
    }
}

/// Appends a whole frame to `out`, or, if there is no memory, nothing of it.
#[inline]
pub(crate) fn append_frame(
    out: &mut Vec<u8>,
    fin: bool,
    opcode: Opcode,
    compressed: bool,
    payload: &[u8],
    key: Option<[u8; 4]>,
) -> error::Result<()> {
    out.try_reserve(MAX_HEADER + payload.len())
        .map_err(|_| no_memory(payload.len()))?;
    put_header(out, fin, opcode, compressed, payload.len(), key);
    match key {
        Some(key) => append_masked(out, payload, key),
        None => out.extend_from_slice(payload),
    }
    Ok(())
}

#[cold]
fn no_memory(len: usize) -> Error {
    Error::new(
        ErrorKind::NoMemory,
        format!("no memory to send a frame of {len} bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_survive_a_round_trip_at_every_border_of_the_length_forms() {
        for len in [0usize, 1, 125, 126, 127, 65_535, 65_536, 1 << 32] {
            for (key, compressed) in [(None, false), (Some([1, 2, 3, 4]), true)] {
                let mut bytes = Vec::new();
                append_header(&mut bytes, true, Opcode::Binary, compressed, len, key).unwrap();
                let receiver = if key.is_some() {
                    Role::Server
                } else {
                    Role::Client
                };
                for cut in 0..bytes.len() {
                    assert_eq!(
                        Header::parse(&bytes[..cut], receiver, true),
                        Ok(None),
                        "length {len} cut at {cut}"
                    );
                }
                let (header, used) = Header::parse(&bytes, receiver, true).unwrap().unwrap();
                assert_eq!((header.len, used), (len as u64, bytes.len()));
                assert_eq!(
                    (header.fin, header.opcode, header.compressed, header.key),
                    (true, Opcode::Binary, compressed, key.unwrap_or_default())
                );
            }
        }
    }

    #[test]
    fn every_first_pair_of_octets_is_judged_by_the_tables_of_the_rfc() {
        for first in 0..=255u8 {
            for second in 0..=255u8 {
                let opcode = first & 0x0f;
                let control = opcode >= 8;
                let plain = matches!(opcode, 0..=2 | 8..=10)
                    && second & MASK != 0
                    && (!control || (first & FIN != 0 && second & 0x7f <= 125));
                let mut bytes = vec![first, second];
                bytes.extend_from_slice(match second & 0x7f {
                    126 => &[0, 126],
                    127 => &[0, 0, 0, 0, 0, 1, 0, 0],
                    _ => &[],
                });
                bytes.extend_from_slice(&[0; 4]);
                let compressed = first & RSV == RSV1 && matches!(opcode, 1 | 2);
                for deflate in [false, true] {
                    assert_eq!(
                        Header::parse(&bytes, Role::Server, deflate).is_ok(),
                        plain && (first & RSV == 0 || deflate && compressed),
                        "{first:#x} {second:#x} {deflate}"
                    );
                }
            }
        }
    }

    #[test]
    fn lengths_must_be_minimal_and_positive() {
        let parse = |bytes: &[u8]| {
            Header::parse(bytes, Role::Client, false).map_err(|violation| violation.0)
        };
        assert!(
            parse(&[0x82, 126, 0, 125])
                .unwrap_err()
                .contains("shortest")
        );
        assert!(
            parse(&[0x82, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff])
                .unwrap_err()
                .contains("shortest")
        );
        assert!(
            parse(&[0x82, 127, 0x80, 0, 0, 0, 0, 0, 0, 0])
                .unwrap_err()
                .contains("most significant")
        );
        assert_eq!(
            parse(&[0x82, 127, 0x7f, 255, 255, 255, 255, 255, 255, 255])
                .unwrap()
                .unwrap()
                .0
                .len,
            u64::MAX >> 1
        );
    }
}
