//! Two endpoints and the transport between them, on a clock that goes only when told.
//!
//! The transport has a latency, takes as much as a test lets it take, can lose everything from
//! some time on, and knows FIN and reset. The endpoints do with it what the library's loop does
//! with a socket. Every call is checked against what has to hold for deadlines.
//!
//! Does not know: what a test wants to see.

use std::collections::VecDeque;
use std::time::Duration;

use wsabi::event::Event;
use wsabi::protocol::connection::{Closed, Connection, Due, Tools};
use wsabi::protocol::deflate::Compressors;
use wsabi::protocol::mask::Random;
use wsabi::protocol::message::Buffers;
use wsabi::protocol::receive::Receive;
use wsabi::time::Time;
use wsabi::{Config, Error, ErrorKind, Role};

/// A source of keys that are all different.
#[derive(Debug, Default)]
pub(crate) struct Counter(u32);

impl Random for Counter {
    fn fill(&mut self, buffer: &mut [u8]) {
        for octets in buffer.chunks_mut(4) {
            self.0 = self.0.wrapping_add(0x9e37_79b9);
            octets.copy_from_slice(&self.0.to_be_bytes()[..octets.len()]);
        }
    }
}

/// Something on its way.
#[derive(Clone, Debug)]
enum Parcel {
    Bytes(Vec<u8>),
    Fin,
    Reset,
}

/// One direction of the transport.
#[derive(Debug)]
pub(crate) struct Wire {
    pub(crate) latency: u64,
    /// How many bytes the kernel still takes; without limit if absent.
    pub(crate) room: Option<usize>,
    /// From when on nothing that is sent arrives.
    pub(crate) silent_from: u64,
    parcels: VecDeque<(u64, Parcel)>,
}

impl Wire {
    fn new() -> Self {
        Self {
            latency: 10,
            room: None,
            silent_from: u64::MAX,
            parcels: VecDeque::new(),
        }
    }

    fn put(&mut self, now: u64, parcel: Parcel) {
        if now < self.silent_from {
            self.parcels.push_back((now + self.latency, parcel));
        }
    }
}

/// What an endpoint was told, as text such as `text hello` or `close 1000 bye`.
pub(crate) type Log = Vec<(u64, String)>;

/// One of the two.
#[derive(Debug)]
pub(crate) struct End {
    role: Role,
    pub(crate) config: Config,
    pub(crate) connection: Connection,
    receive: Receive,
    buffers: Buffers,
    random: Counter,
    compressors: Compressors,
    /// Output that the kernel has not taken.
    pub(crate) out: Vec<u8>,
    /// Whether the kernel has refused some of it.
    blocked: bool,
    paused: bool,
    unread: Vec<Parcel>,
    shut: bool,
    /// Whether it leaves its direction of the transport open whatever the peer does.
    pub(crate) stubborn: bool,
    pub(crate) events: Log,
    /// Every frame that left, as text such as `ping 5`, `close 1000 bye`.
    pub(crate) sent: Log,
    sent_bytes: Vec<u8>,
    /// How and when it ended.
    pub(crate) end: Option<(u64, Closed)>,
    /// When the last deadline passed without being met.
    pub(crate) reset_at: Option<u64>,
    /// How late its timers fire.
    pub(crate) lateness: u64,
}

impl End {
    fn new(role: Role, config: &Config) -> Self {
        Self {
            role,
            config: config.clone(),
            connection: Connection::new(role, config, Time::ORIGIN),
            receive: Receive::new(role),
            buffers: Buffers::default(),
            random: Counter::default(),
            compressors: Compressors::default(),
            out: Vec::new(),
            blocked: false,
            paused: false,
            unread: Vec::new(),
            shut: false,
            stubborn: false,
            events: Log::new(),
            sent: Log::new(),
            sent_bytes: Vec::new(),
            end: None,
            reset_at: None,
            lateness: 0,
        }
    }

    /// The next deadline, as its timer will fire.
    fn timer(&self) -> Option<u64> {
        let deadline = self.connection.deadline(&self.config);
        let is_over = self.end.is_some();
        deadline
            .filter(|_| !is_over)
            .map(|at| at.as_millis() + self.lateness)
    }

    pub(crate) fn deadline(&self) -> Option<u64> {
        self.connection.deadline(&self.config).map(Time::as_millis)
    }

    /// The names of the events, without their times.
    pub(crate) fn heard(&self) -> Vec<&str> {
        self.events
            .iter()
            .map(|(_, event)| event.as_str())
            .collect()
    }

    /// When frames that begin with `start` left.
    pub(crate) fn sent_at(&self, start: &str) -> Vec<u64> {
        let frames = self
            .sent
            .iter()
            .filter(|(_, frame)| frame.starts_with(start));
        frames.map(|&(at, _)| at).collect()
    }

    /// How it ended: when, with which code, and for which error.
    pub(crate) fn ended(&self) -> Option<(u64, u16, Option<ErrorKind>)> {
        let (at, closed) = self.end.as_ref()?;
        Some((
            *at,
            closed.code.as_u16(),
            closed.error.as_ref().map(Error::kind),
        ))
    }
}

/// Which of the two.
pub(crate) const CLIENT: usize = 0;
pub(crate) const SERVER: usize = 1;

/// The pair.
#[derive(Debug)]
pub(crate) struct Pair {
    pub(crate) now: u64,
    pub(crate) ends: [End; 2],
    /// The wire on which each end sends.
    pub(crate) wires: [Wire; 2],
}

impl Pair {
    pub(crate) fn new(client: &Config, server: &Config) -> Self {
        Self {
            now: 0,
            ends: [
                End::new(Role::Client, client),
                End::new(Role::Server, server),
            ],
            wires: [Wire::new(), Wire::new()],
        }
    }

    /// From now on nothing that either sends arrives.
    pub(crate) fn silence(&mut self) {
        for wire in &mut self.wires {
            wire.silent_from = self.now;
        }
    }

    /// Does something with a connection, and then what the end of a turn does.
    pub(crate) fn with<T>(
        &mut self,
        who: usize,
        act: impl FnOnce(&mut Connection, &mut Tools<'_>) -> T,
    ) -> T {
        let now = Time::from_millis(self.now);
        let End {
            connection,
            config,
            random,
            compressors,
            out,
            ..
        } = &mut self.ends[who];
        let result = act(
            connection,
            &mut Tools {
                now,
                config,
                random,
                compressors,
                out,
            },
        );
        self.flush(who);
        result
    }

    pub(crate) fn send_text(&mut self, who: usize, text: &str) {
        self.with(who, |connection, tools| {
            connection.send().text(text, tools).unwrap();
        });
    }

    pub(crate) fn close(&mut self, who: usize, code: u16, reason: &str) {
        self.with(who, |connection, tools| {
            connection.close(Some(code), reason, tools).unwrap();
        });
    }

    pub(crate) fn pause(&mut self, who: usize) {
        self.ends[who].paused = true;
        self.with(who, |connection, tools| connection.pause(tools.now));
    }

    pub(crate) fn resume(&mut self, who: usize) {
        self.ends[who].paused = false;
        self.with(who, |connection, tools| connection.resume(tools.now));
        for parcel in std::mem::take(&mut self.ends[who].unread) {
            self.arrive(who, parcel);
        }
    }

    /// Puts octets on the wire past the connection.
    pub(crate) fn smuggle(&mut self, who: usize, octets: &[u8]) {
        self.wires[who].put(self.now, Parcel::Bytes(octets.to_vec()));
    }

    /// An end closes its direction of the transport, past the connection.
    pub(crate) fn smuggle_fin(&mut self, who: usize) {
        self.wires[who].put(self.now, Parcel::Fin);
    }

    /// The kernel takes `room` more bytes from now on.
    pub(crate) fn make_room(&mut self, who: usize, room: usize) {
        *self.wires[who].room.get_or_insert(0) += room;
        self.flush(who);
    }

    /// Lets time pass, and everything happen that happens meanwhile.
    pub(crate) fn run_until(&mut self, until: u64) {
        while let Some(at) = self.next().filter(|&at| at <= until) {
            self.now = self.now.max(at);
            self.step();
        }
        self.now = until;
    }

    /// When something happens next.
    fn next(&self) -> Option<u64> {
        let arrivals = (0..2).filter_map(|who| self.wires[who].parcels.front().map(|&(at, _)| at));
        let timers = self.ends.iter().filter_map(End::timer);
        arrivals.chain(timers).min()
    }

    fn step(&mut self) {
        for who in [CLIENT, SERVER] {
            let due = |wire: &Wire| wire.parcels.front().is_some_and(|&(at, _)| at <= self.now);
            if due(&self.wires[1 - who])
                && let Some((_, parcel)) = self.wires[1 - who].parcels.pop_front()
            {
                self.arrive(who, parcel);
            }
        }
        for who in [CLIENT, SERVER] {
            if self.ends[who].timer().is_some_and(|at| at <= self.now) {
                self.fire(who);
            }
        }
    }

    fn arrive(&mut self, who: usize, parcel: Parcel) {
        if self.ends[who].end.is_some() {
            return;
        }
        match parcel {
            Parcel::Bytes(_) | Parcel::Fin if self.ends[who].paused => {
                self.ends[who].unread.push(parcel);
            }
            Parcel::Bytes(bytes) => self.read(who, bytes),
            Parcel::Fin if self.ends[who].stubborn => {}
            Parcel::Fin => {
                self.finish(who, "the peer closed the transport", ErrorKind::Lost);
                self.wires[who].put(self.now, Parcel::Fin);
            }
            Parcel::Reset => self.finish(who, "the peer reset the transport", ErrorKind::Lost),
        }
    }

    fn read(&mut self, who: usize, mut bytes: Vec<u8>) {
        let now = self.now;
        let time = Time::from_millis(now);
        let End {
            connection,
            receive,
            buffers,
            config,
            random,
            compressors,
            out,
            events,
            ..
        } = &mut self.ends[who];
        connection.received(time);
        let mut input = bytes.as_mut_slice();
        let mut tools = Tools {
            now: time,
            config,
            random,
            compressors,
            out,
        };
        while let Some(event) = connection.next_event(receive, &mut input, buffers, &mut tools) {
            events.push((now, told(&event)));
        }
        assert!(input.is_empty());
        self.flush(who);
    }

    /// A timer fires. It is fired twice, because the second time must do nothing.
    fn fire(&mut self, who: usize) {
        let was_due = self.ends[who].deadline().unwrap();
        assert!(was_due <= self.now, "a timer fired early");
        let due = self.with(who, |connection, tools| connection.timeout(tools));
        let after = self.ends[who].connection.deadline(&self.ends[who].config);
        let waiting = self.ends[who].out.len();
        let again = self.with(who, |connection, tools| connection.timeout(tools));
        let still = self.ends[who].connection.deadline(&self.ends[who].config);
        assert_eq!(
            (due, after, waiting),
            (again, still, self.ends[who].out.len())
        );
        match due {
            Due::Nothing => {
                let after = after.map(Time::as_millis);
                assert!(
                    after.is_none_or(|at| at > self.now),
                    "{after:?} is not after {}",
                    self.now
                );
            }
            Due::Reset => {
                self.ends[who].reset_at = Some(self.now);
                self.finish(
                    who,
                    "the closing handshake took too long",
                    ErrorKind::CloseTimeout,
                );
                self.wires[who].put(self.now, Parcel::Reset);
            }
        }
    }

    fn finish(&mut self, who: usize, why: &'static str, kind: ErrorKind) {
        let end = &mut self.ends[who];
        assert!(end.end.is_none(), "an end comes once");
        end.end = Some((self.now, end.connection.closed(Error::new(kind, why))));
    }

    /// What the end of a turn does: one write, as much as the kernel takes.
    fn flush(&mut self, who: usize) {
        let now = self.now;
        let (end, wire) = (&mut self.ends[who], &mut self.wires[who]);
        if end.end.is_some() {
            return;
        }
        let count = wire.room.unwrap_or(usize::MAX).min(end.out.len());
        let taken: Vec<u8> = end.out.drain(..count).collect();
        if let Some(room) = &mut wire.room {
            *room -= count;
        }
        let waited = end.blocked;
        end.blocked = !end.out.is_empty();
        if count > 0 {
            end.connection.wrote(Time::from_millis(now), waited);
            end.note_sent(now, &taken);
            wire.put(now, Parcel::Bytes(taken));
        }
        if waited != end.blocked {
            let End {
                connection,
                random,
                out,
                blocked,
                ..
            } = end;
            connection.send().set_backlogged(*blocked, random, out);
            return self.flush(who);
        }
        if end.out.is_empty() && end.connection.wants_shutdown() && !end.shut {
            end.shut = true;
            wire.put(now, Parcel::Fin);
        }
    }
}

impl End {
    /// Whether a part of a frame has left and the rest has not.
    pub(crate) fn is_amid_frame(&self) -> bool {
        !self.sent_bytes.is_empty()
    }

    /// Reads what left with a decoder of its own.
    fn note_sent(&mut self, now: u64, taken: &[u8]) {
        self.sent_bytes.extend_from_slice(taken);
        while let Some((frame, used)) = decode(&self.sent_bytes, self.role) {
            self.sent_bytes.drain(..used);
            self.sent.push((now, frame));
        }
    }
}

fn told(event: &Event<'_>) -> String {
    match event {
        Event::Message(message) => match message.text() {
            Some(text) => format!("text {text}"),
            None => format!("binary {:02x?}", message.as_bytes()),
        },
        Event::Chunk(chunk) => format!("chunk {}", chunk.data.as_bytes().len()),
        Event::Ping(payload) => format!("ping {}", String::from_utf8_lossy(payload)),
        Event::Pong(payload) => format!("pong {}", String::from_utf8_lossy(payload)),
        Event::Close(close) => format!("close {} {}", close.code, close.reason),
    }
}

/// The first frame of `bytes`, if it is whole, and its length.
fn decode(bytes: &[u8], sender: Role) -> Option<(String, usize)> {
    let (first, second) = (*bytes.first()?, *bytes.get(1)?);
    assert_eq!(
        second & 0x80 != 0,
        sender == Role::Client,
        "masked by the wrong role"
    );
    let (len, mut at) = match second & 0x7f {
        126 => (
            usize::from(u16::from_be_bytes(bytes.get(2..4)?.try_into().unwrap())),
            4,
        ),
        127 => (
            u64::from_be_bytes(bytes.get(2..10)?.try_into().unwrap()) as usize,
            10,
        ),
        len => (usize::from(len), 2),
    };
    let mut key = [0; 4];
    if sender == Role::Client {
        key.copy_from_slice(bytes.get(at..at + 4)?);
        at += 4;
    }
    let payload = bytes.get(at..at + len)?;
    let payload: Vec<u8> = payload
        .iter()
        .zip(key.iter().cycle())
        .map(|(a, b)| a ^ b)
        .collect();
    let text = String::from_utf8_lossy(&payload).into_owned();
    let frame = match first {
        0x81 => format!("text {text}"),
        0x88 if payload.len() >= 2 => {
            let code = u16::from_be_bytes([payload[0], payload[1]]);
            format!("close {code} {}", String::from_utf8_lossy(&payload[2..]))
        }
        0x88 => "close".to_owned(),
        0x89 => format!("ping {text}"),
        0x8a => format!("pong {text}"),
        other => panic!("an endpoint sent a frame that begins with {other:#x}"),
    };
    Some((frame, at + len))
}

/// The defaults, without keepalive pings.
pub(crate) fn quiet() -> Config {
    Config {
        ping_interval: None,
        ..Config::default()
    }
}

pub(crate) fn seconds(count: u64) -> Option<Duration> {
    Some(Duration::from_secs(count))
}
