//! Octets of a peer, in one role or the other, under small and large limits: what comes of them is
//! what the slow model says, and the same however they are cut.
//!
//! The first five octets of an input are the settings, the rest is what the peer sends.
//!
//! Does not know: sockets, or time.

#![no_main]

#[path = "../common/mod.rs"]
mod common;

use common::model::{Seen, Verdict, judge};
use common::{Counter, Pieces};
use libfuzzer_sys::fuzz_target;
use wsabi::protocol::connection::{Connection, Phase, Tools};
use wsabi::protocol::deflate::Compressors;
use wsabi::protocol::message::Buffers;
use wsabi::protocol::receive::Receive;
use wsabi::time::Time;
use wsabi::{Config, Error, ErrorKind, Role};

/// Inputs up to this length are also fed octet by octet.
const OCTET_WISE: usize = 1024;

/// What comes of an input, all of it.
#[derive(Debug, PartialEq)]
struct Outcome {
    verdict: Verdict,
    failure: Option<Error>,
    phase: Phase,
    output: Vec<u8>,
}

fn feed(input: &[u8], pieces: Pieces, role: Role, config: &Config) -> Outcome {
    let mut connection = Connection::new(role, config, Time::ORIGIN);
    let (mut receive, mut buffers) = (Receive::new(role), Buffers::default());
    let (mut seen, mut output, mut random) = (Vec::new(), Vec::new(), Counter::default());
    // What ends a connection is the end of all input, whatever follows.
    let after = [0x89, 0x00, 0x89, 0x80, 0, 0, 0, 0];
    for piece in pieces.of(input).chain([after.as_slice()]) {
        let is_after = piece.as_ptr() == after.as_ptr();
        if is_after && matches!(connection.phase(), Phase::Open) {
            break;
        }
        let mut piece = piece.to_vec();
        let mut rest = piece.as_mut_slice();
        let mut tools = Tools {
            now: Time::ORIGIN,
            config,
            random: &mut random,
            compressors: &mut Compressors::default(),
            out: &mut output,
        };
        while let Some(event) =
            connection.next_event(&mut receive, &mut rest, &mut buffers, &mut tools)
        {
            assert!(!is_after, "nothing comes of what follows the end");
            seen.push(Seen::of(&event));
        }
        assert!(rest.is_empty(), "what is not taken is lost");
    }
    let phase = connection.phase();
    let lost = Error::new(ErrorKind::Lost, "nothing");
    let failure = connection
        .closed(lost.clone())
        .error
        .filter(|error| *error != lost);
    Outcome {
        verdict: Verdict {
            seen,
            failure: failure.as_ref().map(Error::kind),
        },
        failure,
        phase,
        output,
    }
}

fuzz_target!(|input: &[u8]| {
    let Some(([role, max_message, max_fragments, low, high], wire)) = input.split_first_chunk()
    else {
        return;
    };
    let role = if role & 1 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let mut config = Config::default();
    if *max_message != 0 {
        config.max_message_bytes = u64::from(*max_message) - 1;
    }
    if *max_fragments != 0 {
        config.max_fragments = u32::from(*max_fragments);
    }
    let whole = feed(wire, Pieces::Whole, role, &config);
    assert_eq!(whole.verdict, judge(wire, role, &config));
    let cut = Pieces::Cut(u16::from_le_bytes([*low, *high]));
    assert_eq!(feed(wire, cut, role, &config), whole);
    if wire.len() <= OCTET_WISE {
        assert_eq!(feed(wire, Pieces::Octets, role, &config), whole);
    }
    // What it answers is well-formed, ends with the Close frame if there is one, and fits.
    let unlimited = Config {
        max_message_bytes: u64::MAX,
        ..Config::default()
    };
    let answers = judge(&whole.output, common::peer(role), &unlimited);
    assert_eq!(answers.failure, None);
    let pings = whole.verdict.seen.iter().filter_map(|seen| match seen {
        Seen::Ping(payload) => Some(Seen::Pong(payload.clone())),
        _ => None,
    });
    let mut expected: Vec<Seen> = pings.collect();
    if let (Some(Seen::Close(code, _)), Phase::Closed) = (whole.verdict.seen.last(), whole.phase) {
        expected.push(Seen::Close(*code, Vec::new()));
    } else if let Some(error) = &whole.failure {
        let code = wsabi::protocol::connection::close_code_of(error).as_u16();
        let reason = error.detail().as_bytes();
        assert!(reason.len() <= 123, "the reason is cut: {error}");
        expected.push(Seen::Close(code, reason.to_vec()));
    }
    assert_eq!(answers.seen, expected);
});
