//! Replays the documents in `transcripts/`: what a peer sends, and what has to come of it. Each
//! case is replayed whole, octet by octet, and at every split in two.
//!
//! Does not know: how the library is built; everything goes through its public interface.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "these are tests"
)]

#[path = "transcripts/handshakes.rs"]
mod handshakes;
#[path = "transcripts/notation.rs"]
mod notation;

use std::fs;
use std::path::Path;

use notation::{KEY, Octets, Section, all_octets, cell_lines, encode, sections, tokens};
use wsabi::event::Event;
use wsabi::protocol::connection::{Connection, Phase, Tools, close_code_of};
use wsabi::protocol::deflate::Compressors;
use wsabi::protocol::mask::Random;
use wsabi::protocol::message::Buffers;
use wsabi::protocol::receive::Receive;
use wsabi::time::Time;
use wsabi::{Config, Error, ErrorKind, Message, Role};

/// Above this, not every split is replayed.
const EVERY_SPLIT: usize = 2000;

fn document(name: &str) -> Vec<Section> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    sections(name, &fs::read_to_string(folder.join(name)).unwrap())
}

/// Runs all cases of a document and reports everything that differs at once.
fn check(name: &str, run: impl Fn(&Section) -> (usize, Vec<String>)) {
    let (mut count, mut problems) = (0, Vec::new());
    for section in document(name) {
        let (cases, found) = run(&section);
        count += cases;
        problems.extend(found);
    }
    println!("{name}: {count} cases");
    assert!(count > 0, "{name} has no cases");
    let shown: String = problems.iter().map(|p| format!("\n{p}\n")).collect();
    assert!(problems.is_empty(), "{} problems{shown}", problems.len());
}

#[test]
fn framing() {
    check("framing.md", frames);
}

#[test]
fn control_frames() {
    check("control-frames.md", frames);
}

#[test]
fn closing() {
    check("closing.md", frames);
}

#[test]
fn text() {
    check("text.md", frames);
}

#[test]
fn limits() {
    check("limits.md", frames);
}

#[test]
fn server_handshake() {
    check("server-handshake.md", handshakes::server);
}

#[test]
fn client_handshake() {
    check("client-handshake.md", handshakes::client);
}

#[test]
fn no_document_is_forgotten() {
    let source = include_str!("transcripts.rs");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/transcripts");
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let is_document = name.ends_with(".md") && name != "README.md";
        assert!(
            !is_document || source.contains(&format!("{name:?}")),
            "{name} is not replayed"
        );
    }
}

/// Pieces in which an input of `len` octets is replayed, as the places of the cuts.
pub(crate) fn replays(len: usize) -> Vec<Vec<usize>> {
    let mut all = vec![vec![], (1..len).collect()];
    let near = |cut: &usize| {
        len <= EVERY_SPLIT || *cut < 40 || *cut + 40 > len || cut.is_multiple_of(4999)
    };
    all.extend((1..len).filter(near).map(|cut| vec![cut]));
    all
}

/// The keys of the transcripts.
pub(crate) struct SameKey;

impl Random for SameKey {
    fn fill(&mut self, buffer: &mut [u8]) {
        for (octet, key) in buffer.iter_mut().zip(KEY.iter().cycle()) {
            *octet = *key;
        }
    }
}

/// An event as it is remembered.
#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, Vec<u8>),
    Fail(ErrorKind, String),
}

impl Seen {
    fn of(event: Event<'_>) -> Self {
        match event {
            Event::Message(Message::Text(text)) => Self::Text(text.into()),
            Event::Message(Message::Binary(data)) => Self::Binary(data.into()),
            Event::Chunk(_) => panic!("messages are whole here"),
            Event::Ping(payload) => Self::Ping(payload.into()),
            Event::Pong(payload) => Self::Pong(payload.into()),
            Event::Close(close) => Self::Close(close.code.as_u16(), close.reason.into()),
        }
    }

    fn parse(line: &[String]) -> Self {
        let (kind, rest) = (line[0].as_str(), &line[1..]);
        match kind {
            "text" => Self::Text(all_octets(rest)),
            "binary" => Self::Binary(all_octets(rest)),
            "ping" => Self::Ping(all_octets(rest)),
            "pong" => Self::Pong(all_octets(rest)),
            "close" => Self::Close(rest[0].parse().unwrap(), all_octets(&rest[1..])),
            "fail" => {
                let words = String::from_utf8(all_octets(&rest[1..])).unwrap();
                Self::Fail(kind_of(&rest[0]), words)
            }
            other => panic!("unknown event {other:?}"),
        }
    }

    /// Whether this, which happened, is what `expected` says.
    fn is(&self, expected: &Self) -> bool {
        match (self, expected) {
            (Self::Fail(kind, detail), Self::Fail(expected, words)) => {
                kind == expected && !words.is_empty() && detail.contains(words.as_str())
            }
            (seen, expected) => seen == expected,
        }
    }
}

/// The kind of error with this name.
pub(crate) fn kind_of(name: &str) -> ErrorKind {
    let found = ErrorKind::ALL
        .iter()
        .find(|kind| format!("{kind:?}") == name);
    *found.unwrap_or_else(|| panic!("no kind of error is called {name:?}"))
}

struct Case {
    place: String,
    role: Role,
    config: Config,
    input: Octets,
    events: Vec<Seen>,
    output: Vec<String>,
}

/// What came of an input.
#[derive(Clone, Debug, PartialEq)]
struct Outcome {
    events: Vec<Seen>,
    output: Vec<u8>,
    phase: Phase,
    /// How much of the input had come when the last event came.
    decided: usize,
}

/// Replays all cases of a section.
fn frames(section: &Section) -> (usize, Vec<String>) {
    let (mut count, mut problems) = (0, Vec::new());
    for case in cases(section) {
        count += 1;
        let mut cuts = replays(case.input.bytes.len()).into_iter();
        problems.extend(cuts.find_map(|cuts| {
            [false, true]
                .into_iter()
                .find_map(|by_halves| judge(&case, &cuts, by_halves).err())
        }));
    }
    (count, problems)
}

fn cases(section: &Section) -> Vec<Case> {
    let roles: &[Role] = match section.setting("role").unwrap_or("both") {
        "client" => &[Role::Client],
        "server" => &[Role::Server],
        "both" => &[Role::Client, Role::Server],
        other => panic!("{}: unknown role {other:?}", section.place),
    };
    let mut config = Config::default();
    for (name, value) in &section.settings {
        match name.as_str() {
            "max_message_bytes" => config.max_message_bytes = value.parse().unwrap(),
            "max_fragments" => config.max_fragments = value.parse().unwrap(),
            "role" | "first" => {}
            other => panic!("{}: unknown setting {other:?}", section.place),
        }
    }
    let mut cases = Vec::new();
    for &role in roles {
        let mut add = |place: &str, input: &[String], events: &[String], output: &[String]| {
            let mut lines = cell_lines(section.setting("first").unwrap_or(""));
            lines.extend_from_slice(input);
            let events = events.iter().map(|line| tokens(line));
            cases.push(Case {
                place: format!("{place}, {role:?}: {}", input.join(" ; ")),
                role,
                config: config.clone(),
                input: encode(&lines, other(role), ""),
                events: events
                    .filter(|line| !line.is_empty())
                    .map(|line| Seen::parse(&line))
                    .collect(),
                output: output.to_vec(),
            });
        };
        for (place, row) in &section.rows {
            let cell = |i: usize| cell_lines(row.get(i).map_or("", String::as_str));
            add(place, &cell(0), &cell(1), &cell(2));
        }
        for (i, (name, lines)) in section.blocks.iter().enumerate() {
            let next = |offset: usize, wanted: &str| {
                let mut blocks = section.blocks[i + 1..].iter().take(offset);
                blocks
                    .find(|(name, _)| name == wanted)
                    .map_or(&[][..], |(_, lines)| lines)
            };
            match name.as_str() {
                "input" => add(&section.place, lines, next(1, "events"), next(2, "output")),
                "events" | "output" => {}
                other => panic!("{}: unknown block {other:?}", section.place),
            }
        }
    }
    cases
}

fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

fn judge(case: &Case, cuts: &[usize], by_halves: bool) -> Result<(), String> {
    let outcome = replay(case, cuts, by_halves)
        .map_err(|why| format!("{}\n  cut at {cuts:?}: {why}", case.place))?;
    let len = case.input.bytes.len();
    let detail = match outcome.events.last() {
        Some(Seen::Fail(_, detail)) => detail.clone(),
        _ => String::new(),
    };
    let output = encode(&case.output, case.role, &detail).bytes;
    let same_events = outcome.events.len() == case.events.len()
        && outcome
            .events
            .iter()
            .zip(&case.events)
            .all(|(seen, expected)| seen.is(expected));
    let phase = match case.events.last() {
        Some(Seen::Close(..)) => Phase::Closed,
        Some(Seen::Fail(..)) => Phase::Failed,
        _ => Phase::Open,
    };
    // The piece that brings the octet that decides is the one in which the last event comes.
    let due = case
        .input
        .mark
        .unwrap_or(if case.events.is_empty() { 0 } else { len });
    let piece_end = if due == 0 {
        0
    } else {
        cuts.iter().copied().find(|&cut| cut >= due).unwrap_or(len)
    };
    let (bounds, mut wrong) = (cuts.iter().take(3).collect::<Vec<_>>(), Vec::new());
    let mut expect = |what: &str, is_right: bool, got: String, expected: String| {
        if !is_right {
            wrong.push(format!("  {what}\n    {got}\n  expected\n    {expected}"));
        }
    };
    expect(
        "events",
        same_events,
        format!("{:?}", outcome.events),
        format!("{:?}", case.events),
    );
    expect(
        "output",
        outcome.output == output,
        format!("{:02x?}", outcome.output),
        format!("{output:02x?}"),
    );
    expect(
        "phase",
        outcome.phase == phase,
        format!("{:?}", outcome.phase),
        format!("{phase:?}"),
    );
    expect(
        "last event after",
        outcome.decided == piece_end,
        outcome.decided.to_string(),
        piece_end.to_string(),
    );
    if wrong.is_empty() {
        Ok(())
    } else {
        let many = if cuts.len() > 3 { " …" } else { "" };
        Err(format!(
            "{}\n  cut at {bounds:?}{many}:\n{}",
            case.place,
            wrong.join("\n")
        ))
    }
}

/// An endpoint whose peer is a transcript.
struct Endpoint {
    connection: Connection,
    receive: Receive,
    buffers: Buffers,
    events: Vec<Seen>,
    output: Vec<u8>,
    /// Whether events are taken from the receiving half and then told to the rest, as who needs
    /// both free at once does; else by the connection.
    by_halves: bool,
}

impl Endpoint {
    fn feed(&mut self, piece: &[u8], config: &Config) -> Result<(), String> {
        let mut piece = piece.to_vec();
        let mut input = piece.as_mut_slice();
        let mut tools = Tools {
            now: Time::ORIGIN,
            config,
            random: &mut SameKey,
            compressors: &mut Compressors::default(),
            out: &mut self.output,
        };
        let Self {
            connection,
            receive,
            buffers,
            ..
        } = self;
        loop {
            let event = if self.by_halves {
                match receive.next(&mut input, config, buffers) {
                    Ok(event) => event.inspect(|event| connection.react(event, &mut tools)),
                    Err(error) => {
                        connection.fail(error, &mut tools);
                        return Ok(());
                    }
                }
            } else {
                connection.next_event(receive, &mut input, buffers, &mut tools)
            };
            match event {
                Some(event) => self.events.push(Seen::of(event)),
                None => break,
            }
        }
        if input.is_empty() {
            Ok(())
        } else {
            Err(format!(
                "{} octets were not taken though there are no more events",
                input.len()
            ))
        }
    }
}

fn replay(case: &Case, cuts: &[usize], by_halves: bool) -> Result<Outcome, String> {
    let mut endpoint = Endpoint {
        connection: Connection::new(case.role, &case.config, Time::ORIGIN),
        receive: Receive::new(case.role),
        buffers: Buffers::default(),
        events: Vec::new(),
        output: Vec::new(),
        by_halves,
    };
    let (mut start, mut decided) = (0, 0);
    for end in cuts.iter().copied().chain([case.input.bytes.len()]) {
        let before = (endpoint.events.len(), endpoint.connection.phase());
        endpoint.feed(&case.input.bytes[start..end], &case.config)?;
        if before != (endpoint.events.len(), endpoint.connection.phase()) {
            decided = end;
        }
        start = end;
    }
    let phase = endpoint.connection.phase();
    if phase != Phase::Open {
        stays_inert(&mut endpoint, case)?;
    }
    let nothing_else = Error::new(ErrorKind::Lost, "the transport is gone");
    let closed = endpoint.connection.closed(nothing_else);
    if phase == Phase::Failed {
        let error = closed.error.clone().ok_or("a failure is not reported")?;
        if closed.code.as_u16() != 1006 || !closed.reason.is_empty() {
            return Err(format!(
                "a failure is reported with {} {:?}",
                closed.code, closed.reason
            ));
        }
        // RFC 6455 §7.1.7 and §7.4.1: the Close frame says why.
        let code = close_code_of(&error).as_u16();
        let mut frame = encode(&[format!("close {code} detail")], case.role, error.detail()).bytes;
        if !endpoint.output.ends_with(&std::mem::take(&mut frame)) {
            return Err(format!(
                "no Close frame with {code} and the error's text at the end"
            ));
        }
        endpoint
            .events
            .push(Seen::Fail(error.kind(), error.detail().to_owned()));
    }
    if let (Phase::Closed, Some(Seen::Close(code, reason))) = (phase, endpoint.events.last()) {
        let told = (closed.code.as_u16(), closed.reason.as_bytes());
        if !closed.is_clean() || told != (*code, reason) {
            return Err(format!("the end is reported as {closed:?}"));
        }
    }
    Ok(Outcome {
        events: endpoint.events,
        output: endpoint.output,
        phase,
        decided,
    })
}

/// RFC 6455 §1.4, §5.5.1 and §7.1.7: after a Close frame or a failure nothing counts.
fn stays_inert(endpoint: &mut Endpoint, case: &Case) -> Result<(), String> {
    let before = (
        endpoint.events.clone(),
        endpoint.output.clone(),
        endpoint.connection.phase(),
    );
    let later = ["text \"x\"", "ping \"y\"", "close 1000 \"z\"", "ff ff"].map(str::to_owned);
    endpoint.feed(&encode(&later, other(case.role), "").bytes, &case.config)?;
    let after = (
        endpoint.events.clone(),
        endpoint.output.clone(),
        endpoint.connection.phase(),
    );
    if before == after {
        Ok(())
    } else {
        Err(format!("data after the end had an effect:\n  {after:?}"))
    }
}
