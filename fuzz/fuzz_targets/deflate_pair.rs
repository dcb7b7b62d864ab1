//! Messages that are compressed by one side in every agreed way and cut anywhere arrive at the other
//! as they were, and a bitwise reading of RFC 1951 agrees: what is compressed is a deflate stream
//! that refers to nothing it may not refer to.
//!
//! Does not know: hostile peers.

#![no_main]

#[path = "../common/mod.rs"]
mod common;

use std::time::Duration;

use arbitrary::Arbitrary;
use common::inflate::inflate;
use common::model::Seen;
use common::{Counter, Pieces, peer};
use libfuzzer_sys::fuzz_target;
use wsabi::event::Event;
use wsabi::protocol::connection::{Connection, Tools};
use wsabi::protocol::deflate::Compressors;
use wsabi::protocol::message::Buffers;
use wsabi::protocol::receive::Receive;
use wsabi::time::Time;
use wsabi::{Agreed, Compress, Config, DeflateOptions, MessageType, Role};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    to_server: bool,
    server_bits: u8,
    client_bits: u8,
    takeover: bool,
    level: u8,
    mem_level: u8,
    min_bytes: u8,
    stream: bool,
    cut: u16,
    commands: Vec<Command<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Command<'a> {
    Send(Manner, &'a [u8]),
    Text(Manner, &'a str),
    /// Octets again and again.
    Repeat(Manner, &'a [u8], u8),
    /// Something of what was sent before, so that there is something to refer to.
    Again(Manner, u8, u8),
    Ping(&'a [u8]),
    /// Time passes, in which the compressor may be let go.
    Wait(u8),
}

/// How a message is sent: in how many fragments, and whether compressed.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Manner {
    fragments: u8,
    compress: u8,
}

struct Sender {
    connection: Connection,
    config: Config,
    random: Counter,
    compressors: Compressors,
    out: Vec<u8>,
    now: Time,
    /// Everything that was sent, and what is expected for it.
    all: Vec<u8>,
    expected: Vec<Seen>,
}

impl Sender {
    fn tools<T>(&mut self, act: impl FnOnce(&mut Connection, &mut Tools<'_>) -> T) -> T {
        let mut tools = Tools {
            now: self.now,
            config: &self.config,
            random: &mut self.random,
            compressors: &mut self.compressors,
            out: &mut self.out,
        };
        act(&mut self.connection, &mut tools)
    }

    fn send(&mut self, kind: MessageType, manner: Manner, data: &[u8]) {
        let compress = match manner.compress % 4 {
            0 => Compress::Never,
            1 => Compress::Auto,
            _ => Compress::Always,
        };
        let count = usize::from(manner.fragments % 5).max(1);
        let size = data.len() / count;
        for i in 0..count {
            let fin = i + 1 == count;
            let end = if fin { data.len() } else { size * (i + 1) };
            let piece = &data[size * i..end];
            let sent = self.tools(|connection, tools| match std::str::from_utf8(data) {
                Ok(text) if count == 1 && kind == MessageType::Text && manner.compress < 128 => {
                    connection.send().text(text, tools)
                }
                _ => connection
                    .send()
                    .fragment(kind, piece, fin, compress, tools),
            });
            assert_eq!(sent, Ok(()));
        }
        self.all.extend_from_slice(data);
        let opcode = if kind == MessageType::Text { 1 } else { 2 };
        self.expected.push(Seen::message(opcode, data.to_vec()));
    }

    fn perform(&mut self, command: &Command<'_>) {
        match *command {
            Command::Send(manner, data) => self.send(MessageType::Binary, manner, data),
            Command::Text(manner, text) => self.send(MessageType::Text, manner, text.as_bytes()),
            Command::Repeat(manner, data, times) => {
                let data = data.repeat(usize::from(times));
                self.send(MessageType::Binary, manner, &data[..data.len().min(40_000)]);
            }
            Command::Again(manner, from, to) => {
                let place = |part: u8| self.all.len() * usize::from(part) / 256;
                let (from, to) = (place(from.min(to)), place(from.max(to)));
                let data = self.all[from..to.min(from + 40_000)].to_vec();
                self.send(MessageType::Binary, manner, &data);
            }
            Command::Ping(payload) => {
                let payload = &payload[..payload.len().min(125)];
                let sent = self.tools(|connection, tools| {
                    connection.send().ping(payload, tools.random, tools.out)
                });
                assert_eq!(sent, Ok(()));
                self.expected.push(Seen::Ping(payload.to_vec()));
            }
            Command::Wait(seconds) => {
                self.now = self.now.after(Duration::from_secs(seconds.into()));
                self.tools(|connection, tools| connection.timeout(tools));
            }
        }
    }
}

/// The frames that an endpoint has written: first octet and payload.
fn frames(mut wire: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, second, rest @ ..] = wire {
        let size = match second & 0x7f {
            126 => 2,
            127 => 8,
            _ => 0,
        };
        let (extended, rest) = rest.split_at(size);
        let long = extended
            .iter()
            .fold(0, |len, octet| len << 8 | usize::from(*octet));
        let len = if size == 0 {
            usize::from(second & 0x7f)
        } else {
            long
        };
        let (key, rest) = rest.split_at(if second & 0x80 == 0 { 0 } else { 4 });
        let (payload, rest) = rest.split_at(len);
        let unmask = |(i, octet): (usize, &u8)| octet ^ key.get(i % 4).unwrap_or(&0);
        frames.push((*first, payload.iter().enumerate().map(unmask).collect()));
        wire = rest;
    }
    frames
}

/// Reads what was written with nothing of the library.
fn read(wire: &[u8], bits: u8, takeover: bool) -> Vec<Seen> {
    let size = if takeover { 1 << bits } else { 0 };
    let (mut window, mut seen) = (Vec::new(), Vec::new());
    let mut message: Option<(u8, Vec<u8>)> = None;
    for (first, payload) in frames(wire) {
        if first & 0x0f == 9 {
            assert_eq!(first, 0x89);
            seen.push(Seen::Ping(payload));
            continue;
        }
        assert_eq!(first & 0x0f == 0, message.is_some());
        assert!(
            first & 0x40 == 0 || message.is_none(),
            "RSV1 is the first frame's"
        );
        let (begun, whole) = message.get_or_insert((first, Vec::new()));
        whole.extend_from_slice(&payload);
        if first & 0x80 == 0 {
            continue;
        }
        let opcode = *begun & 0x0f;
        let compressed = *begun & 0x40 != 0;
        let whole = std::mem::take(whole);
        message = None;
        if !compressed {
            seen.push(Seen::message(opcode, whole));
            continue;
        }
        assert!(
            !whole.is_empty(),
            "a message of no octets is no deflate stream"
        );
        let inflated = inflate(&whole, &window, size, 1 << 20);
        assert!(inflated.whole, "it is a deflate stream");
        assert!(
            inflated.reach <= 1 << bits,
            "a distance of {}",
            inflated.reach
        );
        window.extend_from_slice(&inflated.data);
        window.drain(..window.len().saturating_sub(size));
        seen.push(Seen::message(opcode, inflated.data));
    }
    seen
}

/// What the other side makes of it.
fn receive(role: Role, agreed: &Agreed, config: &Config, wire: &[u8], pieces: Pieces) -> Vec<Seen> {
    let mut receive = Receive::with_deflate(role, Some(agreed));
    let (mut buffers, mut seen, mut begun) = (Buffers::default(), Vec::new(), Vec::new());
    for piece in pieces.of(wire) {
        let mut piece = piece.to_vec();
        let mut rest = piece.as_mut_slice();
        while let Some(event) = receive
            .next(&mut rest, config, &mut buffers)
            .expect("what is sent is received")
        {
            let Event::Chunk(chunk) = event else {
                seen.push(Seen::of(&event));
                continue;
            };
            begun.extend_from_slice(chunk.data.as_bytes());
            if chunk.last {
                let opcode = if chunk.data.text().is_some() { 1 } else { 2 };
                seen.push(Seen::message(opcode, std::mem::take(&mut begun)));
            }
        }
    }
    seen
}

fuzz_target!(|input: Input<'_>| {
    let role = if input.to_server {
        Role::Client
    } else {
        Role::Server
    };
    let agreed = Agreed {
        server_max_window_bits: 8 + input.server_bits % 8,
        client_max_window_bits: 8 + input.client_bits % 8,
        server_context_takeover: input.takeover,
        client_context_takeover: input.takeover,
    };
    let mut config = Config {
        deflate: Some(DeflateOptions {
            level: 1 + input.level % 9,
            mem_level: 1 + input.mem_level % 9,
            min_bytes: input.min_bytes.into(),
            ..DeflateOptions::default()
        }),
        ping_interval: None,
        ..Config::default()
    };
    let mut sender = Sender {
        connection: Connection::with_deflate(role, Some(&agreed), &config, Time::ORIGIN),
        config: config.clone(),
        random: Counter::default(),
        compressors: Compressors::default(),
        out: Vec::new(),
        now: Time::ORIGIN,
        all: Vec::new(),
        expected: Vec::new(),
    };
    for command in input.commands.iter().take(12) {
        sender.perform(command);
    }
    let bits = match role {
        Role::Client => agreed.client_max_window_bits,
        Role::Server => agreed.server_max_window_bits,
    };
    let (wire, expected) = (&sender.out, &sender.expected);
    assert_eq!(&read(wire, bits, input.takeover), expected);
    config.stream_messages = input.stream;
    for pieces in [Pieces::Whole, Pieces::Cut(input.cut)] {
        assert_eq!(
            &receive(peer(role), &agreed, &config, wire, pieces),
            expected
        );
    }
});
