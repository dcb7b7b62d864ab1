//! Octets where a client expects the response to its request: the verdict is the same however they
//! are cut, and a connection opens exactly for what RFC 6455 §4.1 asks of a response.
//!
//! The first three octets of an input are the settings, the rest is what the server sends.
//!
//! Does not know: sockets, or redirects.

#![no_main]

#[path = "../common/mod.rs"]
mod common;

use common::Pieces;
use common::extensions::{self, Extensions};
use common::heads::{Head, split};
use libfuzzer_sys::fuzz_target;
use wsabi::protocol::handshake::Settled;
use wsabi::protocol::handshake::client::{RequestOptions, request, unreadable};
use wsabi::protocol::head::{HeadReader, ResponseHead};
use wsabi::protocol::mask::Random;
use wsabi::{Agreed, DeflateOptions, Error, ErrorKind};

const MAX_BYTES: usize = 1500;
const MAX_FIELDS: usize = 20;

/// The nonce of RFC 6455 §1.3, and what is expected for it.
struct SampleNonce;
const ACCEPT: &[u8] = b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

impl Random for SampleNonce {
    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.copy_from_slice(b"the sample nonce");
    }
}

/// What a client makes of an input.
#[derive(Debug, PartialEq)]
enum Verdict {
    NoEnd,
    Open { settled: Settled, taken: usize },
    Failed(Error),
}

fn judge(
    input: &[u8],
    pieces: Pieces,
    options: &RequestOptions,
    deflate: Option<&DeflateOptions>,
) -> Verdict {
    let handshake = request(
        "a",
        "/",
        options,
        deflate,
        &mut SampleNonce,
        &mut Vec::new(),
    );
    let (mut reader, mut taken) = (HeadReader::default(), 0);
    for piece in pieces.of(input) {
        match reader.feed(piece, MAX_BYTES) {
            Ok((count, complete)) => {
                assert!(complete || count == piece.len());
                taken += count;
                assert_eq!(reader.bytes(), &input[..taken], "what was taken is kept");
                if !complete {
                    continue;
                }
            }
            Err(error) => return Verdict::Failed(unreadable(&error)),
        }
        let response = match ResponseHead::parse(reader.bytes(), MAX_FIELDS) {
            Ok(response) => response,
            Err(error) => return Verdict::Failed(unreadable(&error)),
        };
        return match handshake.check(&response) {
            Ok(settled) => Verdict::Open { settled, taken },
            Err(error) => Verdict::Failed(error),
        };
    }
    Verdict::NoEnd
}

/// Whether a head opens the connection; `None` where only the grammar of HTTP decides.
fn opens(
    head: &Head<'_>,
    size: usize,
    options: &RequestOptions,
    agreed: &Option<Result<Option<Agreed>, ()>>,
) -> Option<bool> {
    let token = |text: &[u8]| {
        !text.is_empty() && text.iter().all(|o| o.is_ascii_alphanumeric() || *o == b'-')
    };
    let plain = |text: &[u8]| text.iter().all(|o| (b' '..=b'~').contains(o));
    let first_line = head.first == b"HTTP/1.1 101" || head.first.starts_with(b"HTTP/1.1 101 ");
    let named = head.all("sec-websocket-protocol");
    let offered = |name: &[u8]| {
        options
            .subprotocols
            .iter()
            .any(|offer| offer.as_bytes() == name)
    };
    let keeps_the_rules = first_line
        && head.lists("upgrade", "websocket")
        && head.lists("connection", "upgrade")
        && head.only("sec-websocket-accept") == Some(ACCEPT)
        && !matches!(agreed, Some(Err(())))
        && named.len() <= 1
        && named.iter().all(|name| offered(name))
        && head.fields.len() <= MAX_FIELDS
        && size <= MAX_BYTES;
    let simple = plain(head.first)
        && head
            .fields
            .iter()
            .all(|(name, value)| token(name) && plain(value));
    match (keeps_the_rules, simple && agreed.is_some()) {
        (false, _) => Some(false),
        (true, true) => Some(true),
        (true, false) => None,
    }
}

fuzz_target!(|input: &[u8]| {
    let Some(([settings, low, high], input)) = input.split_first_chunk() else {
        return;
    };
    let options = RequestOptions {
        subprotocols: match settings & 3 {
            0 => Vec::new(),
            _ => vec!["superchat".to_owned(), "chat".to_owned()],
        },
        ..RequestOptions::default()
    };
    let deflate = extensions::options(settings >> 2);
    let judge = |pieces| judge(input, pieces, &options, deflate.as_ref());
    let whole = judge(Pieces::Whole);
    let cut = Pieces::Cut(u16::from_le_bytes([*low, *high]));
    for pieces in [cut, Pieces::Octets] {
        assert_eq!(judge(pieces), whole);
    }
    let found = split(input);
    match &whole {
        Verdict::NoEnd => assert!(found.is_none() && input.len() <= MAX_BYTES),
        Verdict::Failed(error) => {
            assert!(!error.detail().is_empty());
            assert!(matches!(
                error.kind(),
                ErrorKind::Handshake | ErrorKind::HandshakeTooLarge | ErrorKind::Refused
            ));
        }
        Verdict::Open { taken, .. } => {
            assert_eq!(Some(*taken), found.map(|(head, _)| head.len()));
        }
    }
    let read = found.and_then(|(head, _)| Some((Head::read(head)?, head.len())));
    // Nothing if a quoted string leaves it open.
    let agreed = read
        .as_ref()
        .and_then(|(head, _)| match Extensions::read(head) {
            Extensions::Quoted => None,
            Extensions::Malformed => Some(Err(())),
            Extensions::List(list) => Some(extensions::agreed(&list, deflate.as_ref())),
        });
    let expected = read.as_ref().map_or(Some(false), |(head, size)| {
        opens(head, *size, &options, &agreed)
    });
    let opened = matches!(whole, Verdict::Open { .. });
    assert!(
        expected.is_none_or(|expected| opened == expected),
        "{whole:?}"
    );
    if let (Verdict::Open { settled, .. }, Some((head, _))) = (&whole, &read) {
        let named = head.only("sec-websocket-protocol");
        assert_eq!(settled.subprotocol.as_deref().map(str::as_bytes), named);
        assert!(agreed.is_none_or(|agreed| agreed == Ok(settled.deflate)));
    }
});
