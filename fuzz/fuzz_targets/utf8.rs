//! Text in pieces: our validator fails at exactly the octet at which std sees the text fail, and
//! ends where std sees a whole character; on the receiving and on the sending side.
//!
//! The first two octets of an input say how it is cut.
//!
//! Does not know: the rest of the protocol.

#![no_main]

#[path = "../common/mod.rs"]
mod common;
#[path = "../../core/src/protocol/utf8.rs"]
#[allow(dead_code, reason = "the protocol uses the rest")]
mod utf8;

use common::{Counter, Pieces};
use libfuzzer_sys::fuzz_target;
use utf8::{Utf8, check};
use wsabi::protocol::deflate::Compressors;
use wsabi::protocol::message::Buffers;
use wsabi::protocol::receive::Receive;
use wsabi::protocol::send::{Send, Tools};
use wsabi::time::Time;
use wsabi::{Compress, Config, ErrorKind, Message, MessageType, Result, Role, event::Event};

/// Whether std sees a text fail that may go on.
fn fails(text: &[u8]) -> bool {
    std::str::from_utf8(text).is_err_and(|error| error.error_len().is_some())
}

fn validate(text: &[u8], pieces: Pieces) {
    let (mut utf8, mut come) = (Utf8::default(), 0);
    for piece in pieces.of(text) {
        come += piece.len();
        let failed = utf8.feed(piece).is_err();
        assert_eq!(failed, fails(&text[..come]), "after {come} octets");
        if failed {
            return;
        }
        assert_eq!(
            utf8.is_complete(),
            std::str::from_utf8(&text[..come]).is_ok()
        );
    }
}

fn fragment(
    send: &mut Send,
    payload: &[u8],
    fin: bool,
    random: &mut Counter,
    out: &mut Vec<u8>,
) -> Result<()> {
    let mut tools = Tools {
        now: Time::ORIGIN,
        config: &Config::default(),
        random,
        compressors: &mut Compressors::default(),
        out,
    };
    send.fragment(MessageType::Text, payload, fin, Compress::Auto, &mut tools)
}

/// Sends the pieces as the fragments of a text and receives what was sent.
fn exchange(text: &[u8], pieces: Pieces) {
    let (mut send, mut receive) = (Send::new(Role::Client), Receive::new(Role::Server));
    let (mut random, mut buffers) = (Counter::default(), Buffers::default());
    let (mut wire, mut come) = (Vec::new(), 0);
    for piece in pieces.of(text) {
        let before = wire.len();
        let sent = fragment(&mut send, piece, false, &mut random, &mut wire);
        come += piece.len();
        assert_eq!(sent.is_err(), fails(&text[..come]), "after {come} octets");
        if let Err(error) = sent {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert_eq!(wire.len(), before, "a refused fragment writes nothing");
            break;
        }
    }
    let accepted = come == text.len() && !fails(text);
    let valid = std::str::from_utf8(text).is_ok();
    let end = fragment(&mut send, b"", true, &mut random, &mut wire);
    assert!(!accepted || end.is_ok() == valid);
    if !valid {
        return;
    }
    let mut input = wire.as_mut_slice();
    let event = receive.next(&mut input, &Config::default(), &mut buffers);
    let text = std::str::from_utf8(text).expect("it was just found valid");
    assert_eq!(event, Ok(Some(Event::Message(Message::Text(text)))));
    assert!(input.is_empty());
}

fuzz_target!(|input: &[u8]| {
    let Some((cut, text)) = input.split_first_chunk() else {
        return;
    };
    assert_eq!(check(text).ok(), std::str::from_utf8(text).ok());
    let cut = Pieces::Cut(u16::from_le_bytes(*cut));
    for pieces in [Pieces::Whole, Pieces::Octets, cut] {
        validate(text, pieces);
    }
    exchange(text, cut);
});
