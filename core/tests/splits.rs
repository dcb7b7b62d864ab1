//! Properties of the protocol on arbitrary input: however it is split, the same comes of it, and
//! what comes of it agrees with a slow and obvious model.
//!
//! `PROPTEST_CASES` sets how many cases each property tries.
//!
//! Does not know: time, or how the library is built.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "splits/model.rs"]
mod model;

use model::{Frame, KEYS, Seen, Verdict, encode, judge};
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::FileFailurePersistence;
use wsabi::protocol::connection::{Connection, Phase, Tools};
use wsabi::protocol::deflate::Compressors;
use wsabi::protocol::handshake::server::{Asked, Refusal, examine};
use wsabi::protocol::head::{HeadReader, Request};
use wsabi::protocol::mask::Random;
use wsabi::protocol::message::Buffers;
use wsabi::protocol::receive::Receive;
use wsabi::protocol::send::Send;
use wsabi::time::Time;
use wsabi::{Compress, Config, Error, ErrorKind, MessageType, Role, ServerPolicy};

fn settings() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

/// Keys that are all different.
#[derive(Default)]
struct Counter(u32);

impl Random for Counter {
    fn fill(&mut self, buffer: &mut [u8]) {
        assert_eq!(buffer.len(), 4, "the protocol asks for masking keys only");
        self.0 += 1;
        buffer.copy_from_slice(&self.0.wrapping_mul(0x9e37_79b9).to_be_bytes());
    }
}

/// What comes of an input, all of it.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    verdict: Verdict,
    output: Vec<u8>,
    phase: Phase,
}

/// Feeds the input in pieces; the cuts are in order.
fn feed(input: &[u8], cuts: &[usize], role: Role, config: &Config) -> Outcome {
    let mut connection = Connection::new(role, config, Time::ORIGIN);
    let (mut receive, mut buffers) = (Receive::new(role), Buffers::default());
    let (mut seen, mut output, mut random) = (Vec::new(), Vec::new(), Counter::default());
    let mut start = 0;
    for end in cuts.iter().copied().chain([input.len()]) {
        let mut piece = input[start..end].to_vec();
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
            seen.push(Seen::of(&event));
        }
        assert!(rest.is_empty(), "what is not taken is lost");
        start = end;
    }
    let phase = connection.phase();
    let nothing = Error::new(ErrorKind::Lost, "nothing");
    let failure = connection.closed(nothing).error.map(|error| error.kind());
    Outcome {
        verdict: Verdict {
            seen,
            failure: failure.filter(|_| phase == Phase::Failed),
        },
        output,
        phase,
    }
}

fn places(cuts: &[Index], len: usize) -> Vec<usize> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(len + 1)).collect();
    places.sort_unstable();
    places
}

fn role() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Client), Just(Role::Server)]
}

/// Payloads around the borders of the forms of the length, and others.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        8 => 0..20usize,
        3 => 120..132usize,
        1 => 0..2000usize,
        1 => 65_530..65_545usize,
    ]
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    (size(), any::<u8>(), any::<u8>()).prop_map(|(size, first, step)| {
        (0..size)
            .map(|i| first.wrapping_add((i as u8).wrapping_mul(step)))
            .collect()
    })
}

fn text() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "\\PC{0,20}".prop_map(String::into_bytes),
        1 => (size(), any::<char>()).prop_map(|(size, c)| {
            c.to_string().repeat(size / c.len_utf8()).into_bytes()
        }),
    ]
}

fn control() -> impl Strategy<Value = Frame> {
    let opcode = prop_oneof![Just(0x9), Just(0xa)];
    (opcode, prop::collection::vec(any::<u8>(), 0..126)).prop_map(|(opcode, payload)| Frame {
        first: 0x80 | opcode,
        payload,
    })
}

/// The frames of a message, perhaps in fragments, perhaps with control frames in between.
fn message() -> impl Strategy<Value = Vec<Frame>> {
    let payload = prop_oneof![text().prop_map(|t| (1, t)), data().prop_map(|d| (2, d))];
    let cuts = prop::collection::vec((any::<Index>(), prop::option::of(control())), 0..4);
    (payload, cuts).prop_map(|((opcode, payload), mut cuts)| {
        cuts.sort_by_key(|(cut, _)| cut.index(payload.len() + 1));
        let (mut frames, mut start) = (Vec::new(), 0);
        for (cut, control) in cuts {
            let end = cut.index(payload.len() + 1);
            let first = if frames.is_empty() { opcode } else { 0 };
            frames.push(Frame {
                first,
                payload: payload[start..end].to_vec(),
            });
            frames.extend(control);
            start = end;
        }
        let first = if frames.is_empty() { opcode } else { 0 };
        frames.push(Frame {
            first: 0x80 | first,
            payload: payload[start..].to_vec(),
        });
        frames
    })
}

fn close() -> impl Strategy<Value = Frame> {
    let code = prop_oneof![1000..1004u16, 1007..1015u16, 3000..5000u16];
    let payload = (code, "\\PC{0,30}")
        .prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat());
    prop_oneof![Just(Vec::new()), payload].prop_map(|payload| Frame {
        first: 0x88,
        payload,
    })
}

/// A valid sequence of frames.
fn frames() -> impl Strategy<Value = Vec<Frame>> {
    let part = prop_oneof![3 => message(), 1 => control().prop_map(|frame| vec![frame])];
    (prop::collection::vec(part, 0..6), prop::option::of(close()))
        .prop_map(|(parts, close)| parts.into_iter().flatten().chain(close).collect())
}

/// What a valid sequence means, by construction and without reading it.
fn meaning(frames: &[Frame]) -> Vec<Seen> {
    let (mut seen, mut opcode, mut payload) = (Vec::new(), 0, Vec::new());
    for frame in frames {
        match frame.first & 0xf {
            0x8 if frame.payload.is_empty() => seen.push(Seen::Close(1005, Vec::new())),
            0x8 => {
                let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
                seen.push(Seen::Close(code, frame.payload[2..].to_vec()));
            }
            0x9 => seen.push(Seen::Ping(frame.payload.clone())),
            0xa => seen.push(Seen::Pong(frame.payload.clone())),
            kind => {
                opcode = if kind == 0 { opcode } else { kind };
                payload.extend_from_slice(&frame.payload);
                if frame.first & 0x80 != 0 {
                    seen.push(Seen::message(opcode, std::mem::take(&mut payload)));
                }
            }
        }
    }
    seen
}

#[derive(Clone, Debug)]
enum Damage {
    Flip(Index, u8),
    Set(Index, u8),
    Insert(Index, u8),
    Remove(Index),
    Truncate(Index),
}

fn damage() -> impl Strategy<Value = Damage> {
    prop_oneof![
        6 => (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, bit)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, octet)| Damage::Set(at, octet)),
        1 => (any::<Index>(), any::<u8>()).prop_map(|(at, octet)| Damage::Insert(at, octet)),
        1 => any::<Index>().prop_map(Damage::Remove),
        1 => any::<Index>().prop_map(Damage::Truncate),
    ]
}

fn apply(bytes: &mut Vec<u8>, damage: &Damage) {
    if bytes.is_empty() {
        return;
    }
    match *damage {
        Damage::Flip(at, bit) => *at.get_mut(bytes) ^= 1 << bit,
        Damage::Set(at, octet) => *at.get_mut(bytes) = octet,
        Damage::Insert(at, octet) => bytes.insert(at.index(bytes.len()), octet),
        Damage::Remove(at) => {
            bytes.remove(at.index(bytes.len()));
        }
        Damage::Truncate(at) => bytes.truncate(at.index(bytes.len())),
    }
}

/// The pongs and the Close that an endpoint answers with, by construction.
fn answers(verdict: &Verdict, role: Role) -> Option<Vec<u8>> {
    let mut frames = Vec::new();
    for seen in &verdict.seen {
        match seen {
            Seen::Ping(payload) => frames.push(Frame {
                first: 0x8a,
                payload: payload.clone(),
            }),
            Seen::Close(1005, _) => frames.push(Frame {
                first: 0x88,
                payload: Vec::new(),
            }),
            Seen::Close(code, _) => {
                frames.push(Frame {
                    first: 0x88,
                    payload: code.to_be_bytes().to_vec(),
                });
            }
            Seen::Text(_) | Seen::Binary(_) | Seen::Pong(_) => {}
        }
    }
    // The text of a failure is not the model's.
    let mut keys = Counter::default();
    let keys = std::iter::repeat_with(|| keys.masking_key());
    verdict
        .failure
        .is_none()
        .then(|| encode(&frames, role, keys))
}

fn peer(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn valid_frames_mean_what_they_say_however_they_are_split(
        frames in frames(),
        role in role(),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let config = Config::default();
        let input = encode(&frames, peer(role), KEYS.iter().copied().cycle());
        let verdict = Verdict { seen: meaning(&frames), failure: None };
        prop_assert_eq!(&judge(&input, role, &config), &verdict);
        let whole = feed(&input, &[], role, &config);
        prop_assert_eq!(&whole.verdict, &verdict);
        let output = answers(&verdict, role);
        prop_assert_eq!(Some(&whole.output), output.as_ref());
        prop_assert_eq!(&feed(&input, &places(&cuts, input.len()), role, &config), &whole);
        if input.len() < 3000 {
            let octets: Vec<usize> = (1..input.len()).collect();
            prop_assert_eq!(&feed(&input, &octets, role, &config), &whole);
        }
    }

    #[test]
    fn damaged_frames_are_judged_alike_however_they_are_split(
        frames in frames(),
        role in role(),
        damages in prop::collection::vec(damage(), 1..4),
        max_message_bytes in prop_oneof![Just(16u64 << 20), 0..200u64],
        max_fragments in prop_oneof![Just(65_536u32), 1..4u32],
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let config = Config { max_message_bytes, max_fragments, ..Config::default() };
        let mut input = encode(&frames, peer(role), KEYS.iter().copied().cycle());
        for damage in &damages {
            apply(&mut input, damage);
        }
        let whole = feed(&input, &[], role, &config);
        let verdict = judge(&input, role, &config);
        prop_assert_eq!(&whole.verdict, &verdict);
        if let Some(output) = answers(&verdict, role) {
            prop_assert_eq!(&whole.output, &output);
        }
        prop_assert_eq!(&feed(&input, &places(&cuts, input.len()), role, &config), &whole);
        if input.len() < 3000 {
            let octets: Vec<usize> = (1..input.len()).collect();
            prop_assert_eq!(&feed(&input, &octets, role, &config), &whole);
        }
    }

    #[test]
    fn arbitrary_octets_are_judged_alike_however_they_are_split(
        input in prop::collection::vec(prop_oneof![any::<u8>(), 0x80..0x8bu8, 0..4u8], 0..60),
        role in role(),
        cuts in prop::collection::vec(any::<Index>(), 0..5),
    ) {
        let config = Config::default();
        let whole = feed(&input, &[], role, &config);
        prop_assert_eq!(&whole.verdict, &judge(&input, role, &config));
        prop_assert_eq!(&feed(&input, &places(&cuts, input.len()), role, &config), &whole);
    }

    #[test]
    fn text_is_valid_exactly_when_std_says_so(
        payload in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..12),
            prop::collection::vec(prop_oneof![
                0x7e..0x82u8, 0xbe..0xc4u8, 0xde..0xf6u8, Just(0x8f), Just(0x90), Just(0x9f), Just(0xa0),
            ], 0..8),
            (text(), any::<Index>(), any::<u8>()).prop_map(|(mut text, at, octet)| {
                apply(&mut text, &Damage::Set(at, octet));
                text
            }),
        ],
        fragments in prop::collection::vec(any::<Index>(), 0..5),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        let ends = places(&fragments, payload.len());
        let (mut frames, mut start) = (Vec::new(), 0);
        for end in ends.into_iter().chain([payload.len()]) {
            let first = if frames.is_empty() { 1 } else { 0 };
            frames.push(Frame { first, payload: payload[start..end].to_vec() });
            start = end;
        }
        frames.last_mut().unwrap().first |= 0x80;
        let input = encode(&frames, Role::Client, KEYS.iter().copied().cycle());
        let outcome = feed(&input, &places(&cuts, input.len()), Role::Server, &Config::default());
        let expected = match std::str::from_utf8(&payload) {
            Ok(_) => Verdict { seen: vec![Seen::Text(payload)], failure: None },
            Err(_) => Verdict { seen: Vec::new(), failure: Some(ErrorKind::InvalidText) },
        };
        prop_assert_eq!(outcome.verdict, expected);
    }

    #[test]
    fn text_fails_at_the_octet_where_std_sees_it_fail(
        payload in (text(), any::<Index>(), any::<u8>()).prop_map(|(mut text, at, octet)| {
            text.truncate(300);
            apply(&mut text, &Damage::Set(at, octet));
            text
        }),
    ) {
        // The frame promises one octet more than comes, so that it never ends.
        let frame = Frame { first: 0x81, payload: payload.iter().copied().chain([b'a']).collect() };
        let mut input = encode(&[frame], Role::Server, KEYS.iter().copied());
        input.pop();
        let header = input.len() - payload.len();
        for len in 0..=payload.len() {
            let octets: Vec<usize> = (1..header + len).collect();
            let outcome = feed(&input[..header + len], &octets, Role::Client, &Config::default());
            let failed = std::str::from_utf8(&payload[..len]).is_err_and(|e| e.error_len().is_some());
            prop_assert_eq!(outcome.phase == Phase::Failed, failed, "after {} octets", len);
            if failed {
                break;
            }
        }
    }
}

/// Something to send.
#[derive(Clone, Debug)]
enum Sending {
    Whole(MessageType, Vec<u8>),
    Fragments(MessageType, Vec<Vec<u8>>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
}

fn sending() -> impl Strategy<Value = Sending> {
    let of_type = || {
        prop_oneof![
            text().prop_map(|text| (MessageType::Text, text)),
            data().prop_map(|data| (MessageType::Binary, data)),
        ]
    };
    let payload = || prop::collection::vec(any::<u8>(), 0..126);
    prop_oneof![
        4 => of_type().prop_map(|(kind, payload)| Sending::Whole(kind, payload)),
        2 => (of_type(), prop::collection::vec(any::<Index>(), 0..4)).prop_map(|((kind, payload), cuts)| {
            let mut start = 0;
            let ends = places(&cuts, payload.len()).into_iter().chain([payload.len()]);
            let fragments = ends.map(|end| payload[std::mem::replace(&mut start, end)..end].to_vec());
            Sending::Fragments(kind, fragments.collect())
        }),
        1 => payload().prop_map(Sending::Ping),
        1 => payload().prop_map(Sending::Pong),
    ]
}

fn with_tools<T>(
    random: &mut Counter,
    out: &mut Vec<u8>,
    act: impl FnOnce(&mut Tools<'_>) -> T,
) -> T {
    act(&mut Tools {
        now: Time::ORIGIN,
        config: &Config::default(),
        random,
        compressors: &mut Compressors::default(),
        out,
    })
}

fn send_one(send: &mut Send, what: &Sending, random: &mut Counter, out: &mut Vec<u8>) -> Seen {
    let seen = |kind: MessageType, payload: Vec<u8>| match kind {
        MessageType::Text => Seen::Text(payload),
        MessageType::Binary => Seen::Binary(payload),
    };
    match what {
        Sending::Whole(MessageType::Text, payload) => {
            with_tools(random, out, |tools| {
                send.text(std::str::from_utf8(payload).unwrap(), tools)
            })
            .unwrap();
            Seen::Text(payload.clone())
        }
        Sending::Whole(MessageType::Binary, payload) => {
            with_tools(random, out, |tools| send.binary(payload, tools)).unwrap();
            Seen::Binary(payload.clone())
        }
        Sending::Fragments(kind, fragments) => {
            for (i, fragment) in fragments.iter().enumerate() {
                let fin = i + 1 == fragments.len();
                with_tools(random, out, |tools| {
                    send.fragment(*kind, fragment, fin, Compress::Auto, tools)
                })
                .unwrap();
            }
            seen(*kind, fragments.concat())
        }
        Sending::Ping(payload) => {
            send.ping(payload, random, out).unwrap();
            Seen::Ping(payload.clone())
        }
        Sending::Pong(payload) => {
            send.pong(payload, random, out).unwrap();
            Seen::Pong(payload.clone())
        }
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn what_one_role_sends_the_other_receives(
        sendings in prop::collection::vec(sending(), 0..8),
        role in role(),
        cuts in prop::collection::vec(any::<Index>(), 0..8),
    ) {
        let (mut send, mut random, mut wire) = (Send::new(role), Counter::default(), Vec::new());
        let seen: Vec<Seen> =
            sendings.iter().map(|what| send_one(&mut send, what, &mut random, &mut wire)).collect();
        let expected = Verdict { seen, failure: None };
        let receiver = peer(role);
        prop_assert_eq!(&judge(&wire, receiver, &Config::default()), &expected);
        let places = places(&cuts, wire.len());
        let outcome = feed(&wire, &places, receiver, &Config::default());
        prop_assert_eq!(&outcome.verdict, &expected);
        // RFC 6455 §5.3: each frame of a client has a key of its own; a server takes none.
        let keys = model::keys(&wire);
        let mut distinct = keys.clone();
        distinct.sort_unstable();
        distinct.dedup();
        prop_assert_eq!(distinct.len(), keys.len());
        prop_assert_eq!(random.0 as usize, keys.len());
        prop_assert!(role == Role::Client || keys.is_empty());
    }

    #[test]
    fn text_in_fragments_is_checked_as_it_is_sent(
        fragments in prop::collection::vec(prop::collection::vec(prop_oneof![
            any::<u8>(), 0..0x80u8, Just(0xc3), Just(0xa9), Just(0xe2), Just(0x82), Just(0xac),
        ], 0..4), 1..6),
    ) {
        let (mut send, mut random) = (Send::new(Role::Client), Counter::default());
        let mut text = Vec::new();
        for (i, fragment) in fragments.iter().enumerate() {
            let fin = i + 1 == fragments.len();
            let (mut out, mut attempt) = (Vec::new(), text.clone());
            attempt.extend_from_slice(fragment);
            let valid = match std::str::from_utf8(&attempt) {
                Ok(_) => true,
                Err(error) => error.error_len().is_none() && !fin,
            };
            let sent = with_tools(&mut random, &mut out, |tools| {
                send.fragment(MessageType::Text, fragment, fin, Compress::Auto, tools)
            });
            prop_assert_eq!(sent.is_ok(), valid);
            prop_assert_eq!(out.is_empty(), !valid, "a refused fragment writes nothing");
            if valid {
                text = attempt;
            }
        }
    }

    #[test]
    fn a_request_is_judged_alike_however_it_is_split(
        damages in prop::collection::vec(damage(), 0..4),
        cuts in prop::collection::vec(any::<Index>(), 0..12),
    ) {
        let mut head = b"GET /chat HTTP/1.1\r\nHost: example.com\r\nUpgrade: websocket\r\n\
            Connection: keep-alive, Upgrade\r\nOrigin: http://example.com\r\n\
            Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
            Sec-WebSocket-Protocol: chat, superchat\r\nContent-Length: 0\r\n\r\n".to_vec();
        for damage in &damages {
            apply(&mut head, damage);
        }
        let whole = request_verdict(&head, &[]);
        prop_assert!(!damages.is_empty() || whole.starts_with("Ok"));
        prop_assert_eq!(&request_verdict(&head, &places(&cuts, head.len())), &whole);
        let octets: Vec<usize> = (1..head.len()).collect();
        prop_assert_eq!(&request_verdict(&head, &octets), &whole);
    }
}

/// What a server makes of octets that should be a request, and of what follows them.
fn request_verdict(input: &[u8], cuts: &[usize]) -> String {
    let (mut reader, mut start) = (HeadReader::default(), 0);
    for end in cuts.iter().copied().chain([input.len()]) {
        match reader.feed(&input[start..end], 400) {
            Ok((_, false)) => start = end,
            Ok((taken, true)) => {
                let behind = &input[start + taken..];
                let request = Request::parse(reader.bytes(), 10);
                let asked = request
                    .map_err(|error| Refusal::unreadable(&error))
                    .and_then(|request| examine(&request, &ServerPolicy::default(), None));
                return match asked {
                    Ok(Asked::Upgrade(upgrade)) => format!("Ok {upgrade:?} {behind:x?}"),
                    Ok(Asked::Http) => format!("http {behind:x?}"),
                    Err(refusal) => format!("{} {}", refusal.response.status, refusal.error),
                };
            }
            Err(error) => return format!("{error:?}"),
        }
    }
    "no end".to_owned()
}
