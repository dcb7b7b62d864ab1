//! Compressed messages of a peer, of arbitrary octets, under small limits: what they become and how
//! they fail is what a bitwise reading of RFC 1951 says, and the same however the frames are cut,
//! whole or in chunks.
//!
//! The first eight octets of an input are the settings; messages follow, each with a kind and a
//! length, or octets as they stand.
//!
//! Does not know: the sending side.

#![no_main]

#[path = "../common/mod.rs"]
mod common;

use common::inflate::inflate;
use common::model::{Frame, Seen, encode};
use common::{Pieces, peer};
use libfuzzer_sys::fuzz_target;
use wsabi::event::Event;
use wsabi::protocol::message::Buffers;
use wsabi::protocol::receive::Receive;
use wsabi::{Agreed, Config, DeflateOptions, Error, ErrorKind, Message, Role};

/// Inputs up to this length are also fed octet by octet.
const OCTET_WISE: usize = 1500;

/// What comes of an input: whole events, what has come of a message in chunks, and the failure.
#[derive(Debug, Default, PartialEq)]
struct Outcome {
    seen: Vec<Seen>,
    begun: Vec<u8>,
    failure: Option<Error>,
}

struct Receiver {
    role: Role,
    agreed: Agreed,
    config: Config,
}

impl Receiver {
    fn feed(&self, input: &[u8], pieces: Pieces) -> Outcome {
        let mut receive = Receive::with_deflate(self.role, Some(&self.agreed));
        let (mut buffers, mut outcome) = (Buffers::default(), Outcome::default());
        let mut in_message = false;
        for piece in pieces.of(input) {
            let mut piece = piece.to_vec();
            let mut rest = piece.as_mut_slice();
            loop {
                match receive.next(&mut rest, &self.config, &mut buffers) {
                    Ok(None) => break,
                    Ok(Some(Event::Chunk(chunk))) => {
                        assert!(self.config.stream_messages);
                        assert_eq!(chunk.first, !in_message);
                        in_message = !chunk.last;
                        let data = chunk.data.as_bytes();
                        assert!(chunk.last || !data.is_empty());
                        outcome.begun.extend_from_slice(data);
                        if chunk.last {
                            let whole = std::mem::take(&mut outcome.begun);
                            let opcode = if chunk.data.text().is_some() { 1 } else { 2 };
                            outcome.seen.push(Seen::message(opcode, whole));
                        }
                    }
                    Ok(Some(event)) => {
                        let is_message = matches!(event, Event::Message(_));
                        assert!(!is_message || !self.config.stream_messages);
                        if let Event::Message(Message::Text(text)) = event {
                            assert!(std::str::from_utf8(text.as_bytes()).is_ok());
                        }
                        outcome.seen.push(Seen::of(&event));
                    }
                    Err(error) => {
                        outcome.failure = Some(error);
                        let mut more = [0x89, 0, 0x89, 0x80, 0, 0, 0, 0];
                        let mut rest = more.as_mut_slice();
                        let after = receive.next(&mut rest, &self.config, &mut buffers);
                        assert!(after == Ok(None) && rest.is_empty(), "an error is the end");
                        return outcome;
                    }
                }
            }
            assert!(rest.is_empty(), "what is not taken is lost");
        }
        outcome
    }

    /// What messages become; each is compressed or not, and in one or more frames.
    fn model(&self, messages: &[Sent]) -> (Vec<Seen>, Option<ErrorKind>) {
        let options = self.config.deflate.as_ref();
        let max_bytes = self.config.max_message_bytes as usize;
        let (bits, takeover) = match self.role {
            Role::Client => (
                self.agreed.server_max_window_bits,
                self.agreed.server_context_takeover,
            ),
            Role::Server => (
                self.agreed.client_max_window_bits,
                self.agreed.client_context_takeover,
            ),
        };
        let size = if takeover { 1 << bits } else { 0 };
        let (mut window, mut seen) = (Vec::new(), Vec::new());
        for message in messages {
            let payload = &message.payload;
            let (data, whole, most) = if !message.compressed {
                // A frame counts when its header comes.
                let ends = message.frames().into_iter().scan(0, |end, frame| {
                    *end += frame.payload.len();
                    Some(*end)
                });
                let admitted = ends.take_while(|end| *end <= max_bytes).last();
                (payload.clone(), true, admitted.unwrap_or(0))
            } else if payload.is_empty() {
                (Vec::new(), true, max_bytes)
            } else {
                let ratio = options.and_then(|options| options.max_ratio);
                let most = ratio.map_or(max_bytes, |ratio| {
                    max_bytes.min(payload.len() * ratio as usize)
                });
                let inflated = inflate(payload, &window, size, most);
                (inflated.data, inflated.whole, most)
            };
            let fits = &data[..data.len().min(most)];
            let utf8 = std::str::from_utf8(fits).map_err(|error| error.error_len().is_some());
            let failure = match utf8 {
                Err(true) if message.text => Some(ErrorKind::InvalidText),
                _ if data.len() > most => Some(ErrorKind::MessageTooBig),
                _ if !whole => Some(ErrorKind::InvalidDeflate),
                Err(false) if message.text => Some(ErrorKind::InvalidText),
                _ => None,
            };
            if failure.is_some() {
                return (seen, failure);
            }
            if message.compressed {
                window.extend_from_slice(&data);
                window.drain(..window.len().saturating_sub(size));
            }
            seen.push(Seen::message(if message.text { 1 } else { 2 }, data));
        }
        (seen, None)
    }
}

struct Sent {
    text: bool,
    compressed: bool,
    fragments: usize,
    payload: Vec<u8>,
}

/// Messages as the input has them: a kind, a length, a payload.
fn messages(mut input: &[u8]) -> Vec<Sent> {
    let mut all = Vec::new();
    while let Some(([kind, low, high], rest)) = input.split_first_chunk() {
        let len = usize::from(u16::from_le_bytes([*low, *high])).min(rest.len());
        let (payload, rest) = rest.split_at(len);
        input = rest;
        all.push(Sent {
            text: kind & 1 != 0,
            compressed: kind & 2 == 0,
            fragments: usize::from(kind >> 2 & 7),
            payload: payload.to_vec(),
        });
    }
    all
}

impl Sent {
    /// The frames, of about the same length.
    fn frames(&self) -> Vec<Frame> {
        let count = self.fragments.max(1);
        let size = self.payload.len() / count;
        let frame = |i: usize| {
            let end = if i + 1 == count {
                self.payload.len()
            } else {
                size * (i + 1)
            };
            let opcode = if self.text { 1 } else { 2 };
            let first = match i {
                0 if self.compressed => 0x40 | opcode,
                0 => opcode,
                _ => 0,
            };
            let fin = if i + 1 == count { 0x80 } else { 0 };
            Frame {
                first: fin | first,
                payload: self.payload[size * i..end].to_vec(),
            }
        };
        (0..count).map(frame).collect()
    }
}

fuzz_target!(|input: &[u8]| {
    let Some(([flags, bits, limit, more, ratio, low, high, kind], input)) =
        input.split_first_chunk()
    else {
        return;
    };
    let takeover = flags & 2 != 0;
    let agreed = Agreed {
        server_max_window_bits: 8 + bits % 8,
        client_max_window_bits: 8 + (bits >> 3) % 8,
        server_context_takeover: takeover,
        client_context_takeover: takeover,
    };
    // With fragments the ratio counts what has come so far, which the model does not follow.
    let (messages, by_ratio) = (messages(input), flags & 4 != 0);
    let options = DeflateOptions {
        max_ratio: by_ratio.then_some(u32::from(*ratio) + 1),
        ..DeflateOptions::default()
    };
    let mut receiver = Receiver {
        role: if flags & 1 == 0 {
            Role::Client
        } else {
            Role::Server
        },
        agreed,
        config: Config {
            max_message_bytes: u64::from(u16::from_le_bytes([*limit, *more])),
            stream_messages: false,
            deflate: Some(options),
            ..Config::default()
        },
    };
    let cut = Pieces::Cut(u16::from_le_bytes([*low, *high]));
    let as_it_stands = kind & 1 != 0;
    let wire = if as_it_stands {
        input.to_vec()
    } else {
        let frames: Vec<Frame> = messages.iter().flat_map(Sent::frames).collect();
        encode(
            &frames,
            peer(receiver.role),
            [[0, 0, 0, 0], [1, 2, 4, 8]].into_iter().cycle(),
        )
    };
    let whole = receiver.feed(&wire, Pieces::Whole);
    assert_eq!(receiver.feed(&wire, cut), whole);
    let fragmented = messages.iter().any(|message| message.fragments > 1);
    if !as_it_stands && !(by_ratio && fragmented) {
        let (seen, failure) = receiver.model(&messages);
        assert_eq!(
            (&whole.seen, whole.failure.as_ref().map(Error::kind)),
            (&seen, failure)
        );
    }
    receiver.config.stream_messages = true;
    let chunks = receiver.feed(&wire, Pieces::Whole);
    let cut_chunks = receiver.feed(&wire, cut);
    assert_eq!(cut_chunks.seen, chunks.seen);
    assert_eq!(chunks.failure, whole.failure);
    assert_eq!(cut_chunks.failure, whole.failure);
    // Where a message ends a ping amid it may be told of before or after; the order among messages
    // is the same.
    let is_message = |seen: &&Seen| matches!(seen, Seen::Text(_) | Seen::Binary(_));
    assert!(
        chunks
            .seen
            .iter()
            .filter(is_message)
            .eq(whole.seen.iter().filter(is_message))
    );
    assert_eq!(chunks.seen.len(), whole.seen.len());
    if wire.len() <= OCTET_WISE {
        let octets = receiver.feed(&wire, Pieces::Octets);
        assert_eq!(
            (&octets.seen, &octets.failure),
            (&chunks.seen, &chunks.failure)
        );
        receiver.config.stream_messages = false;
        assert_eq!(receiver.feed(&wire, Pieces::Octets), whole);
    }
});
