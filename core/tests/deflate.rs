//! permessage-deflate (RFC 7692) through both halves of connections: what is sent is received, cut
//! anywhere, in every window, with and without context takeover, whole and in chunks; and what a
//! hostile peer may try.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use proptest::prelude::*;
use wsabi::protocol::connection::{Connection, Tools};
use wsabi::protocol::deflate::Compressors;
use wsabi::protocol::mask::Random;
use wsabi::protocol::message::Buffers;
use wsabi::protocol::receive::Receive;
use wsabi::time::Time;
use wsabi::{Agreed, Compress, Config, DeflateOptions, ErrorKind, Message, MessageType, Role};

struct Key;

impl Random for Key {
    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.fill(0x5a);
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Message(MessageType, Vec<u8>),
    Ping(Vec<u8>),
    Failed(ErrorKind, String),
}

fn config(options: DeflateOptions) -> Config {
    Config {
        deflate: Some(options),
        ..Config::default()
    }
}

fn agreed(server_bits: u8, client_bits: u8, takeover: bool) -> Agreed {
    Agreed {
        server_max_window_bits: server_bits,
        client_max_window_bits: client_bits,
        server_context_takeover: takeover,
        client_context_takeover: takeover,
    }
}

/// Everything that a receiver makes of `wire`, cut at `cuts`.
fn receive(role: Role, agreed: &Agreed, config: &Config, wire: &[u8], cuts: &[usize]) -> Vec<Seen> {
    let mut receive = Receive::with_deflate(role, Some(agreed));
    let mut buffers = Buffers::default();
    let mut seen = Vec::new();
    let mut open: Option<(MessageType, Vec<u8>)> = None;
    let mut start = 0;
    for end in cuts.iter().copied().chain([wire.len()]) {
        let mut piece = wire[start..end].to_vec();
        let mut input = piece.as_mut_slice();
        start = end;
        loop {
            let event = match receive.next(&mut input, config, &mut buffers) {
                Ok(None) => break,
                Ok(Some(event)) => event,
                Err(error) => {
                    seen.push(Seen::Failed(error.kind(), error.detail().to_owned()));
                    return seen;
                }
            };
            use wsabi::event::Event;
            match event {
                Event::Message(message) => seen.push(whole(message)),
                Event::Chunk(chunk) => {
                    let message_type = chunk.data.message_type();
                    assert_eq!(chunk.first, open.is_none());
                    assert!(chunk.last || !chunk.data.as_bytes().is_empty());
                    assert!(chunk.data.as_bytes().len() < 1 << 20, "bounded");
                    let (kind, data) = open.get_or_insert_with(|| (message_type, Vec::new()));
                    assert_eq!(*kind, message_type);
                    data.extend_from_slice(chunk.data.as_bytes());
                    if chunk.last {
                        seen.extend(open.take().map(|(kind, data)| Seen::Message(kind, data)));
                    }
                }
                Event::Ping(payload) => seen.push(Seen::Ping(payload.to_vec())),
                Event::Pong(_) | Event::Close(_) => panic!("nobody sent {event:?}"),
            }
        }
    }
    seen
}

fn whole(message: Message<'_>) -> Seen {
    Seen::Message(message.message_type(), message.as_bytes().to_vec())
}

/// What is sent: a message in fragments, and how it is compressed.
type Sending = (MessageType, Vec<Vec<u8>>, Compress);

fn send(role: Role, agreed: &Agreed, config: &Config, what: &[Sending]) -> (Vec<u8>, Vec<Seen>) {
    let mut connection = Connection::with_deflate(role, Some(agreed), config, Time::ORIGIN);
    let (mut out, mut compressors) = (Vec::new(), Compressors::default());
    let mut expected = Vec::new();
    for (number, (kind, fragments, compress)) in what.iter().enumerate() {
        let mut tools = Tools {
            now: Time::from_millis(number as u64 * 9000),
            config,
            random: &mut Key,
            compressors: &mut compressors,
            out: &mut out,
        };
        let sender = connection.send();
        for (i, fragment) in fragments.iter().enumerate() {
            let fin = i + 1 == fragments.len();
            sender
                .fragment(*kind, fragment, fin, *compress, &mut tools)
                .unwrap();
            if !fin {
                sender.ping(b"between", tools.random, tools.out).unwrap();
                expected.push(Seen::Ping(b"between".to_vec()));
            }
        }
        expected.push(Seen::Message(*kind, fragments.concat()));
    }
    (out, expected)
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(Vec::new()),
        prop::collection::vec(any::<u8>(), 0..3000),
        (prop::collection::vec(any::<u8>(), 1..200), 1..400usize)
            .prop_map(|(seed, times)| seed.repeat(times)),
        (0..4u8, 0..200_000usize).prop_map(|(octet, len)| vec![octet; len]),
    ]
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    ("[a-zäöü€😀]{0,40}", 1..300usize).prop_map(|(text, times)| text.repeat(times).into_bytes())
}

fn sending() -> impl Strategy<Value = Sending> {
    let typed = prop_oneof![
        text().prop_map(|data| (MessageType::Text, data)),
        payload().prop_map(|data| (MessageType::Binary, data)),
    ];
    let compress = prop_oneof![
        Just(Compress::Auto),
        Just(Compress::Always),
        Just(Compress::Never)
    ];
    (
        typed,
        prop::collection::vec(any::<prop::sample::Index>(), 0..3),
        compress,
    )
        .prop_map(|((kind, data), cuts, compress)| {
            let mut ends: Vec<usize> = cuts.iter().map(|cut| cut.index(data.len() + 1)).collect();
            ends.sort_unstable();
            ends.push(data.len());
            let mut start = 0;
            let fragments = ends
                .iter()
                .map(|&end| data[std::mem::replace(&mut start, end)..end].to_vec())
                .collect();
            (kind, fragments, compress)
        })
}

proptest! {
    #[test]
    fn what_is_sent_is_received_however_it_is_cut(
        what in prop::collection::vec(sending(), 1..6),
        (server_bits, client_bits) in (8..=15u8, 8..=15u8),
        takeover in any::<bool>(),
        to_server in any::<bool>(),
        stream in any::<bool>(),
        level in 1..=9u8,
        mem_level in 1..=9u8,
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
    ) {
        let agreed = agreed(server_bits, client_bits, takeover);
        let (from, to) = if to_server {
            (Role::Client, Role::Server)
        } else {
            (Role::Server, Role::Client)
        };
        let options = DeflateOptions { level, mem_level, ..DeflateOptions::default() };
        let mut config = config(options);
        let (wire, expected) = send(from, &agreed, &config, &what);
        config.stream_messages = stream;
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(wire.len() + 1)).collect();
        cuts.sort_unstable();
        let seen = receive(to, &agreed, &config, &wire, &cuts);
        if !stream {
            prop_assert_eq!(&seen, &expected);
        } else {
            // Pings may come between chunks; the messages are the same.
            let messages = |seen: &[Seen]| -> Vec<Seen> {
                seen.iter().filter(|seen| matches!(seen, Seen::Message(..))).cloned().collect()
            };
            prop_assert_eq!(messages(&seen), messages(&expected));
            prop_assert_eq!(seen.len(), expected.len());
        }
        // Octet by octet the outcome is the same.
        if wire.len() < 3000 {
            let every: Vec<usize> = (0..wire.len()).collect();
            prop_assert_eq!(receive(to, &agreed, &config, &wire, &every), seen);
        }
    }

    #[test]
    fn any_bytes_as_compressed_payload_have_one_outcome_however_they_are_cut(
        data in prop::collection::vec(prop_oneof![any::<u8>(), Just(0), Just(3), Just(0xff)], 0..120),
        text in any::<bool>(),
        takeover in any::<bool>(),
        stream in any::<bool>(),
        max_ratio in prop::option::of(1..20u32),
        cut in any::<prop::sample::Index>(),
    ) {
        let agreed = agreed(9, 9, takeover);
        let mut config = config(DeflateOptions { max_ratio, ..DeflateOptions::default() });
        config.max_message_bytes = 300;
        config.stream_messages = stream;
        let mut wire = Vec::new();
        for _ in 0..2 {
            wire.extend_from_slice(&[0xc0 | if text { 1 } else { 2 }, data.len() as u8]);
            wire.extend_from_slice(&data);
        }
        let once = receive(Role::Client, &agreed, &config, &wire, &[]);
        let twice = receive(Role::Client, &agreed, &config, &wire, &[cut.index(wire.len())]);
        let every: Vec<usize> = (0..wire.len()).collect();
        prop_assert_eq!(&once, &twice);
        prop_assert_eq!(&once, &receive(Role::Client, &agreed, &config, &wire, &every));
    }
}

fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match payload.len() {
        len @ 0..126 => frame.push(len as u8),
        len @ 126..0x1_0000 => {
            frame.push(126);
            frame.extend_from_slice(&(len as u16).to_be_bytes());
        }
        len => {
            frame.push(127);
            frame.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    frame.extend_from_slice(payload);
    frame
}

fn at_client(config: &Config, takeover: bool, frames: &[(u8, &[u8])]) -> Vec<Seen> {
    let wire: Vec<u8> = frames
        .iter()
        .flat_map(|(first, payload)| frame(*first, payload))
        .collect();
    let agreed = agreed(15, 15, takeover);
    let seen = receive(Role::Client, &agreed, config, &wire, &[]);
    let every: Vec<usize> = (0..wire.len().min(20_000)).collect();
    assert_eq!(receive(Role::Client, &agreed, config, &wire, &every), seen);
    seen
}

fn hello() -> Seen {
    Seen::Message(MessageType::Text, b"Hello".to_vec())
}

const TEXT: u8 = 0xc1;

/// The examples of RFC 7692 §7.2.3.
#[test]
fn the_examples_of_the_rfc() {
    let config = config(DeflateOptions::default());
    let at_client = |takeover, frames: &[(u8, &[u8])]| at_client(&config, takeover, frames);
    // §7.2.3.1
    let one = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    assert_eq!(at_client(false, &[(TEXT, &one)]), [hello()]);
    assert_eq!(
        at_client(false, &[(0x41, &one[..3]), (0x80, &one[3..])]),
        [hello()]
    );
    // §7.2.3.2: the second message refers to the first.
    let again = [0xf2, 0x00, 0x11, 0x00, 0x00];
    assert_eq!(
        at_client(true, &[(TEXT, &one), (TEXT, &again)]),
        [hello(), hello()]
    );
    let seen = at_client(false, &[(TEXT, &one), (TEXT, &again)]);
    assert!(
        matches!(&seen[..], [_, Seen::Failed(ErrorKind::InvalidDeflate, _)]),
        "{seen:?}"
    );
    // §7.2.3.3: without compression.
    let stored = [
        0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00,
    ];
    assert_eq!(at_client(false, &[(TEXT, &stored)]), [hello()]);
    // §7.2.3.4: a last block, and then another message.
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    for takeover in [false, true] {
        let twice = at_client(takeover, &[(TEXT, &last), (TEXT, &last), (TEXT, &one)]);
        assert_eq!(twice, [hello(), hello(), hello()]);
        // Without the block behind it, as some send it.
        let twice = at_client(takeover, &[(TEXT, &last[..7]), (TEXT, &last[..7])]);
        assert_eq!(twice, [hello(), hello()]);
    }
    // §7.2.3.5: two blocks in one message.
    let two = [
        0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00,
    ];
    assert_eq!(at_client(false, &[(TEXT, &two)]), [hello()]);
    // §7.2.3.6: nothing.
    let empty = Seen::Message(MessageType::Text, Vec::new());
    assert_eq!(
        at_client(false, &[(TEXT, &[0])]),
        std::slice::from_ref(&empty)
    );
    assert_eq!(at_client(false, &[(TEXT, &[])]), [empty]);
}

#[test]
fn two_streams_in_one_message_are_one_message() {
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];
    let config = config(DeflateOptions::default());
    let seen = at_client(&config, false, &[(TEXT, &[last, last].concat())]);
    assert_eq!(
        seen,
        [Seen::Message(MessageType::Text, b"HelloHello".to_vec())]
    );
}

#[test]
fn damaged_data_is_told_with_what_is_wrong() {
    let config = config(DeflateOptions::default());
    for (payload, word) in [
        (&[0x07][..], "not a deflate stream"),
        (&[0xf2, 0x48, 0xcd][..], "amid a block"),
        (&[0x00, 0x05, 0x00, 0xfa, 0xff, 0x48][..], "amid a block"),
        (
            &[0x00, 0x05, 0x00, 0xfa, 0xfe, 0x48][..],
            "not a deflate stream",
        ),
    ] {
        let seen = at_client(&config, false, &[(TEXT, payload)]);
        let [Seen::Failed(ErrorKind::InvalidDeflate, detail)] = &seen[..] else {
            panic!("{payload:x?}: {seen:?}");
        };
        assert!(detail.contains(word), "{payload:x?}: {detail}");
    }
    let seen = at_client(&config, false, &[(TEXT, &[0x62, 0xf8, 0xf7, 0x1f, 0x00])]);
    assert!(
        matches!(&seen[..], [Seen::Failed(ErrorKind::InvalidText, _)]),
        "{seen:?}"
    );
}

#[test]
fn rsv1_has_its_places() {
    let config = config(DeflateOptions::default());
    for (frames, place) in [
        (&[(0x41u8, &[][..]), (0xc0, &[0][..])][..], "continuation"),
        (&[(0xc9, &[][..])][..], "control"),
        (&[(0xc8, &[][..])][..], "control"),
        (&[(0xe1, &[0][..])][..], "RSV2 or RSV3"),
        (&[(0xc3, &[0][..])][..], "no extension"),
    ] {
        let seen = at_client(&config, false, frames);
        let Some(Seen::Failed(ErrorKind::Protocol, detail)) = seen.last() else {
            panic!("{frames:x?}: {seen:?}");
        };
        assert!(detail.contains(place), "{frames:x?}: {detail}");
    }
}

/// A message of zeros that was compressed by us.
fn zeros(len: usize) -> Vec<u8> {
    let config = config(DeflateOptions {
        level: 9,
        ..DeflateOptions::default()
    });
    let agreed = agreed(15, 15, false);
    let (kind, data) = (MessageType::Binary, vec![vec![0; len]]);
    send(
        Role::Server,
        &agreed,
        &config,
        &[(kind, data, Compress::Always)],
    )
    .0
}

#[test]
fn the_limit_counts_what_the_message_becomes() {
    let wire = zeros(100_000);
    assert!(wire.len() < 300);
    let agreed = agreed(15, 15, false);
    for (limit, fits) in [(100_001, true), (100_000, true), (99_999, false)] {
        for stream in [false, true] {
            let mut config = config(DeflateOptions::default());
            config.max_message_bytes = limit;
            config.stream_messages = stream;
            let seen = receive(Role::Client, &agreed, &config, &wire, &[]);
            if fits {
                assert_eq!(seen, [Seen::Message(MessageType::Binary, vec![0; 100_000])]);
            } else {
                let expected =
                    "the message has at least 100000 bytes, more than max_message_bytes, 99999";
                assert_eq!(
                    seen,
                    [Seen::Failed(ErrorKind::MessageTooBig, expected.into())]
                );
            }
        }
    }
}

#[test]
fn the_ratio_has_its_own_limit() {
    let wire = zeros(100_000);
    let payload = wire.len() - if wire.len() < 128 { 2 } else { 4 };
    let agreed = agreed(15, 15, false);
    let ratio = 100_000_u32.div_ceil(payload as u32);
    for (max_ratio, fits) in [(ratio + 1, true), (ratio, true), (ratio - 1, false)] {
        let options = DeflateOptions {
            max_ratio: Some(max_ratio),
            ..DeflateOptions::default()
        };
        let seen = receive(Role::Client, &agreed, &config(options), &wire, &[]);
        match &seen[..] {
            [Seen::Message(..)] => assert!(fits, "{max_ratio}"),
            [Seen::Failed(ErrorKind::MessageTooBig, detail)] => {
                assert!(
                    !fits && detail.contains("max_ratio"),
                    "{max_ratio}: {detail}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What cannot be made smaller is not compressed, and what is at the limit still fits.
#[test]
fn a_message_at_the_limit_fits_though_compressing_made_it_larger() {
    let mut state = 1u32;
    let noise: Vec<u8> = (0..50_000)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as u8
        })
        .collect();
    for takeover in [false, true] {
        let agreed = agreed(15, 15, takeover);
        let mut config = config(DeflateOptions::default());
        config.max_message_bytes = noise.len() as u64;
        let what = (MessageType::Binary, vec![noise.clone()], Compress::Always);
        let (wire, expected) = send(Role::Server, &agreed, &config, &[what]);
        assert_eq!(wire[0] & 0x40 != 0, takeover);
        assert_eq!(
            receive(Role::Client, &agreed, &config, &wire, &[]),
            expected
        );
    }
}

#[test]
fn a_compressor_of_ones_own_is_let_go_when_it_idles() {
    let agreed = agreed(12, 12, true);
    let config = Config {
        ping_interval: None,
        ..config(DeflateOptions::default())
    };
    let mut connection =
        Connection::with_deflate(Role::Server, Some(&agreed), &config, Time::ORIGIN);
    let (mut out, mut compressors) = (Vec::new(), Compressors::default());
    let mut at = |connection: &mut Connection, seconds: u64, send: bool| {
        let mut tools = Tools {
            now: Time::from_millis(seconds * 1000),
            config: &config,
            random: &mut Key,
            compressors: &mut compressors,
            out: &mut out,
        };
        if send {
            connection
                .send()
                .text(&"again and again ".repeat(100), &mut tools)
                .unwrap();
        } else {
            connection.timeout(&mut tools);
        }
        connection.deadline(&config)
    };
    assert_eq!(connection.deadline(&config), None);
    assert_eq!(
        at(&mut connection, 1, true),
        Some(Time::from_millis(31_000))
    );
    assert_eq!(
        at(&mut connection, 20, true),
        Some(Time::from_millis(50_000))
    );
    assert_eq!(
        at(&mut connection, 31, false),
        Some(Time::from_millis(50_000))
    );
    assert_eq!(at(&mut connection, 50, false), None);
    assert_eq!(
        at(&mut connection, 60, true),
        Some(Time::from_millis(90_000))
    );
    let text = Seen::Message(
        MessageType::Text,
        "again and again ".repeat(100).into_bytes(),
    );
    let seen = receive(Role::Client, &agreed, &config, &out, &[]);
    assert_eq!(seen, [text.clone(), text.clone(), text]);
}

#[test]
fn what_was_agreed_on_is_told_and_ends_with_the_close() {
    let (agreed, config) = (agreed(12, 12, true), config(DeflateOptions::default()));
    let mut connection =
        Connection::with_deflate(Role::Server, Some(&agreed), &config, Time::ORIGIN);
    assert_eq!(connection.agreed(), Some(&agreed));
    let without = Connection::with_deflate(Role::Server, None, &config, Time::ORIGIN);
    assert_eq!(without.agreed(), None);
    let (mut out, mut compressors) = (Vec::new(), Compressors::default());
    let mut tools = Tools {
        now: Time::ORIGIN,
        config: &config,
        random: &mut Key,
        compressors: &mut compressors,
        out: &mut out,
    };
    connection
        .send()
        .text(&"again and again ".repeat(100), &mut tools)
        .unwrap();
    connection.close(Some(1000), "", &mut tools).unwrap();
    let late = connection.send().text("late", &mut tools).unwrap_err();
    assert_eq!(late.kind(), ErrorKind::Closed);
    assert!(out.ends_with(&[0x88, 2, 0x03, 0xe8]));
}

/// A compressed message is let in as long as something that fits could have become it.
#[test]
fn a_compressed_message_that_is_itself_too_long_is_refused_by_its_header() {
    let agreed = agreed(15, 15, false);
    let mut config = config(DeflateOptions::default());
    config.max_message_bytes = 1000;
    let most = 1000 + 1000 / 8 + (1u64 << 20);
    for (len, fits) in [(most - 1, true), (most, true), (most + 1, false)] {
        let mut wire = vec![0xc2, 127];
        wire.extend_from_slice(&len.to_be_bytes());
        let seen = receive(Role::Client, &agreed, &config, &wire, &[]);
        match &seen[..] {
            [] => assert!(fits, "{len}"),
            [Seen::Failed(ErrorKind::MessageTooBig, detail)] => {
                assert!(
                    !fits && detail.contains("max_message_bytes, 1000"),
                    "{detail}"
                );
            }
            other => panic!("{len}: {other:?}"),
        }
    }
}
