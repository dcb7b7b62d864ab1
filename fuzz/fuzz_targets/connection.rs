//! A client and a server on a virtual clock, driven by an arbitrary list of commands: sends, closes,
//! pauses, short writes, late deliveries, deadlines, and octets that no endpoint would send.
//!
//! What each side hears is what the slow model makes of the octets that reached it, what each
//! side writes is well-formed and carries exactly what was accepted for sending, a Close frame is
//! the last thing written, and deadlines come to rest.
//!
//! Does not know: sockets, or the loop.

#![no_main]

#[path = "../common/mod.rs"]
mod common;

use std::time::Duration;

use arbitrary::Arbitrary;
use common::model::{Seen, judge};
use common::{Counter, peer};
use libfuzzer_sys::fuzz_target;
use wsabi::protocol::connection::{
    Closed, Connection, Due, KEEPALIVE_PAYLOAD, Phase, Tools, close_code_of,
};
use wsabi::protocol::deflate::Compressors;
use wsabi::protocol::message::Buffers;
use wsabi::protocol::receive::Receive;
use wsabi::time::Time;
use wsabi::{Compress, Config, Error, ErrorKind, MessageType, Result, Role};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    client: Settings,
    server: Settings,
    commands: Vec<(Side, Command<'a>)>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Side {
    Client,
    Server,
}

/// Limits and times; small numbers, so that they are reached.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Settings {
    max_message_bytes: Option<u8>,
    max_fragments: Option<u8>,
    ping_interval: Option<u8>,
    ping_timeout: u8,
    idle_timeout: Option<u8>,
    close_timeout: u8,
}

#[derive(Arbitrary, Debug)]
enum Command<'a> {
    Text(&'a str),
    Binary(&'a [u8]),
    Repeat(u8, u16),
    Fragment {
        text: bool,
        payload: &'a [u8],
        fin: bool,
    },
    Ping(&'a [u8]),
    Pong(&'a [u8]),
    Close(Option<u16>, &'a str),
    Fail(bool),
    Pause,
    Resume,
    /// The kernel takes so much more, or everything from now on.
    Room(Option<u8>),
    /// The kernel takes nothing more.
    Clog,
    /// So much of what was written reaches the peer, in pieces.
    Deliver(u16, u8),
    /// Octets reach this side that its peer never wrote.
    Forge(&'a [u8]),
    Wait(u16),
    Stop,
}

impl Settings {
    fn config(self) -> Config {
        let mut config = Config::default();
        let time = |tenths: u8| Duration::from_millis(u64::from(tenths) * 100 + 1);
        if let Some(limit) = self.max_message_bytes {
            config.max_message_bytes = u64::from(limit);
        }
        if let Some(limit) = self.max_fragments {
            config.max_fragments = u32::from(limit).max(1);
        }
        config.ping_interval = self.ping_interval.map(time);
        config.ping_timeout = time(self.ping_timeout);
        config.idle_timeout = self.idle_timeout.map(time);
        config.close_timeout = time(self.close_timeout);
        assert_eq!(config.validate(), Ok(()));
        config
    }
}

/// One endpoint, and the direction of the transport that it writes to.
struct End {
    role: Role,
    config: Config,
    connection: Connection,
    receive: Receive,
    buffers: Buffers,
    random: Counter,
    compressors: Compressors,
    out: Vec<u8>,
    /// How much more the kernel takes; `None` is everything.
    room: Option<usize>,
    blocked: bool,
    paused: bool,
    /// The receiving half was stopped by something else than what it received.
    stopped: bool,
    /// What the kernel took, ever, and how much of it the peer was given.
    written: Vec<u8>,
    delivered: usize,
    /// What was given to this side, ever, and what came of it.
    given: Vec<u8>,
    heard: Vec<Seen>,
    /// What was accepted for sending.
    sent: Vec<Seen>,
    /// The fragmented message that is being sent.
    unfinished: Option<(bool, Vec<u8>)>,
    /// What it writes last: the Close frame that this side was made to send.
    last: Option<Seen>,
    ended: Option<Closed>,
}

impl End {
    fn new(role: Role, settings: Settings, now: Time) -> Self {
        let config = settings.config();
        Self {
            role,
            connection: Connection::new(role, &config, now),
            config,
            receive: Receive::new(role),
            buffers: Buffers::default(),
            random: Counter::default(),
            compressors: Compressors::default(),
            out: Vec::new(),
            room: None,
            blocked: false,
            paused: false,
            stopped: false,
            written: Vec::new(),
            delivered: 0,
            given: Vec::new(),
            heard: Vec::new(),
            sent: Vec::new(),
            unfinished: None,
            last: None,
            ended: None,
        }
    }

    /// Does something with the connection; what it may write ends with a Close frame.
    fn with<T>(&mut self, now: Time, act: impl FnOnce(&mut Connection, &mut Tools<'_>) -> T) -> T {
        let (was_closed, before) = (self.connection.send().is_closed(), self.out.len());
        let mut tools = Tools {
            now,
            config: &self.config,
            random: &mut self.random,
            compressors: &mut self.compressors,
            out: &mut self.out,
        };
        let result = act(&mut self.connection, &mut tools);
        assert!(
            !was_closed || self.out.len() == before,
            "nothing follows a Close frame"
        );
        result
    }

    /// What an application is answered, and what it means for the model.
    fn send(&mut self, now: Time, what: Seen) {
        let open = self.connection.is_open();
        let amid = self.unfinished.is_some();
        let before = self.out.len();
        let result = self.with(now, |connection, tools| match &what {
            Seen::Text(text) => {
                let text = std::str::from_utf8(text).expect("it came as a str");
                connection.send().text(text, tools)
            }
            Seen::Binary(data) => connection.send().binary(data, tools),
            Seen::Ping(payload) => connection.send().ping(payload, tools.random, tools.out),
            Seen::Pong(payload) => connection.send().pong(payload, tools.random, tools.out),
            Seen::Close(..) => unreachable!("it is not sent this way"),
        });
        let control = matches!(what, Seen::Ping(_) | Seen::Pong(_));
        let long = matches!(&what, Seen::Ping(p) | Seen::Pong(p) if p.len() > 125);
        let expected = match (open, control, amid, long) {
            (false, ..) => Some(ErrorKind::Closed),
            (_, true, _, true) => Some(ErrorKind::Invalid),
            (_, false, true, _) => Some(ErrorKind::State),
            _ => None,
        };
        assert_eq!(result.as_ref().err().map(Error::kind), expected);
        assert_eq!(
            result.is_ok(),
            self.out.len() > before,
            "what is refused writes nothing"
        );
        if result.is_ok() {
            self.sent.push(what);
        }
    }

    fn fragment(&mut self, now: Time, text: bool, payload: &[u8], fin: bool) {
        let kind = if text {
            MessageType::Text
        } else {
            MessageType::Binary
        };
        let before = self.out.len();
        let open = self.connection.is_open();
        let result = self.with(now, |connection, tools| {
            connection
                .send()
                .fragment(kind, payload, fin, Compress::Auto, tools)
        });
        let (begun, mut whole) = self.unfinished.clone().unwrap_or((text, Vec::new()));
        whole.extend_from_slice(payload);
        let invalid =
            text && std::str::from_utf8(&whole).is_err_and(|e| fin || e.error_len().is_some());
        let expected = match () {
            () if !open => Some(ErrorKind::Closed),
            () if begun != text => Some(ErrorKind::State),
            () if invalid => Some(ErrorKind::Invalid),
            () => None,
        };
        assert_eq!(result.as_ref().err().map(Error::kind), expected);
        assert_eq!(
            result.is_ok(),
            self.out.len() > before,
            "what is refused writes nothing"
        );
        if result.is_err() {
            return;
        }
        if fin {
            self.unfinished = None;
            self.sent
                .push(Seen::message(if text { 1 } else { 2 }, whole));
        } else {
            self.unfinished = Some((text, whole));
        }
    }

    fn close(&mut self, now: Time, code: Option<u16>, reason: &str) {
        let open = self.connection.is_open();
        let result: Result<()> = self.with(now, |connection, tools| {
            connection.close(code, reason, tools)
        });
        let valid = match code {
            None => reason.is_empty(),
            Some(code) => {
                let known = matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999);
                known && reason.len() <= 123
            }
        };
        let expected = match (valid, open) {
            (false, _) => Some(ErrorKind::Invalid),
            (true, false) => Some(ErrorKind::Closed),
            (true, true) => None,
        };
        assert_eq!(result.err().map(|error| error.kind()), expected);
        if expected.is_none() {
            self.last = Some(Seen::Close(code.unwrap_or(1005), reason.into()));
        }
    }

    fn fail(&mut self, now: Time, error: Error) {
        let fresh = !self.connection.send().is_closed();
        self.with(now, |connection, tools| {
            connection.fail(error.clone(), tools)
        });
        if fresh {
            self.expect_failure(&error);
        }
        if self.connection.phase() == Phase::Failed {
            self.receive.stop(&mut self.buffers);
            self.stopped = true;
        }
    }

    fn expect_failure(&mut self, error: &Error) {
        let detail = error.detail();
        let reason = &detail[..detail.floor_char_boundary(123)];
        let code = close_code_of(error).as_u16();
        self.last = Some(Seen::Close(code, reason.into()));
    }

    /// Octets arrive, in pieces of at most `most`.
    fn take_in(&mut self, now: Time, octets: &[u8], most: usize) {
        self.given.extend_from_slice(octets);
        self.connection.received(now);
        for piece in octets.chunks(most.max(1)) {
            let mut piece = piece.to_vec();
            let mut input = piece.as_mut_slice();
            loop {
                let before = self.out.len();
                let was_closed = self.connection.send().is_closed();
                let phase = self.connection.phase();
                let mut tools = Tools {
                    now,
                    config: &self.config,
                    random: &mut self.random,
                    compressors: &mut self.compressors,
                    out: &mut self.out,
                };
                let event = self.connection.next_event(
                    &mut self.receive,
                    &mut input,
                    &mut self.buffers,
                    &mut tools,
                );
                let seen = event.as_ref().map(Seen::of);
                let grown = self.out.len() - before;
                assert!(!was_closed || grown == 0, "nothing follows a Close frame");
                assert!(
                    grown <= 131,
                    "an event is answered with one control frame at most"
                );
                if self.blocked && matches!(seen, Some(Seen::Ping(_))) {
                    assert_eq!(grown, 0, "pongs wait while the peer does not read");
                }
                match seen {
                    Some(seen) => {
                        assert!(matches!(phase, Phase::Open | Phase::Closing));
                        if let Seen::Close(code, _) = &seen
                            && !was_closed
                        {
                            self.last = Some(Seen::Close(*code, Vec::new()));
                        }
                        self.heard.push(seen);
                    }
                    None => break,
                }
            }
            assert!(input.is_empty(), "what is not taken is lost");
        }
    }

    /// The end of a turn: one write, as much as the kernel takes.
    fn flush(&mut self, now: Time) {
        if self.ended.is_some() {
            return;
        }
        for _ in 0..3 {
            let count = self.room.unwrap_or(usize::MAX).min(self.out.len());
            self.written.extend(self.out.drain(..count));
            if let Some(room) = &mut self.room {
                *room -= count;
            }
            let waited = self.blocked;
            self.blocked = !self.out.is_empty();
            if count > 0 {
                self.connection.wrote(now, waited);
            }
            if waited == self.blocked {
                return;
            }
            let blocked = self.blocked;
            self.with(now, |connection, tools| {
                connection
                    .send()
                    .set_backlogged(blocked, tools.random, tools.out);
            });
        }
    }

    /// Does what is due; afterwards nothing is due until later.
    fn tick(&mut self, now: Time) {
        if self.ended.is_some() {
            return;
        }
        for _ in 0..3 {
            let deadline = self.connection.deadline(&self.config);
            let (before, phase) = (self.out.len(), self.connection.phase());
            let due = self.with(now, |connection, tools| connection.timeout(tools));
            if phase == Phase::Open && self.connection.phase() == Phase::Failed {
                assert!(!self.paused, "a peer that is not read is not silent");
                self.receive.stop(&mut self.buffers);
                self.stopped = true;
            }
            if due == Due::Reset {
                assert!(phase != Phase::Open && deadline.is_some_and(|at| at <= now));
                let late = Error::new(ErrorKind::CloseTimeout, "late");
                return self.ended = Some(self.connection.closed(late));
            }
            if deadline.is_none_or(|at| at > now) {
                assert_eq!((self.out.len(), self.connection.phase()), (before, phase));
                return;
            }
        }
        panic!("a deadline stays due: {:?}", self.connection);
    }

    /// What holds at any time.
    fn check(&self) {
        let mut octets = self.written.clone();
        octets.extend_from_slice(&self.out);
        let unlimited = Config {
            max_message_bytes: u64::MAX,
            max_fragments: u32::MAX,
            ..Config::default()
        };
        let wrote = judge(&octets, peer(self.role), &unlimited);
        assert_eq!(wrote.failure, None);
        // Pongs and keepalive pings are the connection's own.
        let own = |seen: &&Seen| match seen {
            Seen::Pong(_) => true,
            Seen::Ping(payload) => payload == KEEPALIVE_PAYLOAD,
            _ => false,
        };
        let (mut sent, mut end) = (self.sent.iter().filter(|seen| !own(seen)), None);
        for seen in wrote.seen.iter().filter(|seen| !own(seen)) {
            if matches!(seen, Seen::Close(..)) {
                end = Some(seen);
            } else {
                assert_eq!(Some(seen), sent.next(), "what is written is what was sent");
            }
        }
        assert_eq!(sent.next(), None, "what was sent is written");
        if let Some(expected) = &self.last {
            assert_eq!(end, Some(expected));
        }
        let verdict = judge(&self.given, self.role, &self.config);
        if self.stopped {
            assert!(verdict.seen.starts_with(&self.heard));
        } else {
            assert_eq!(self.heard, verdict.seen);
            assert_eq!(
                verdict.failure.is_some(),
                self.connection.phase() == Phase::Failed
            );
        }
    }

    /// How it ended, against what was heard.
    fn check_end(&mut self) {
        let lost = Error::new(ErrorKind::Lost, "lost");
        let closed = match self.ended.take() {
            Some(closed) => closed,
            None => self.connection.closed(lost),
        };
        match self.heard.last() {
            Some(Seen::Close(code, reason)) => {
                assert_eq!(
                    (closed.code.as_u16(), closed.reason.as_bytes()),
                    (*code, &reason[..])
                );
                assert!(closed.is_clean());
            }
            _ => assert_eq!((closed.code.as_u16(), closed.is_clean()), (1006, false)),
        }
    }
}

/// Octets that were written reach the other side.
fn deliver(ends: &mut [End; 2], to: usize, now: Time, count: usize, most: usize) {
    let [client, server] = ends;
    let (from, to) = if to == 0 {
        (server, client)
    } else {
        (client, server)
    };
    let all = from.written.len() - from.delivered;
    if to.paused || to.ended.is_some() || all == 0 {
        return;
    }
    let start = from.delivered;
    from.delivered += count.min(all);
    to.take_in(now, &from.written[start..from.delivered], most);
}

fn perform(ends: &mut [End; 2], who: usize, now: &mut Time, command: Command<'_>) {
    let end = &mut ends[who];
    if end.ended.is_some() && !matches!(command, Command::Wait(_)) {
        return;
    }
    let at = *now;
    match command {
        Command::Text(text) => end.send(at, Seen::Text(text.into())),
        Command::Binary(data) => end.send(at, Seen::Binary(data.into())),
        Command::Repeat(octet, count) => {
            end.send(at, Seen::Binary(vec![octet; usize::from(count)]));
        }
        Command::Fragment { text, payload, fin } => end.fragment(at, text, payload, fin),
        Command::Ping(payload) => end.send(at, Seen::Ping(payload.into())),
        Command::Pong(payload) => end.send(at, Seen::Pong(payload.into())),
        Command::Close(code, reason) => end.close(at, code, reason),
        Command::Fail(long) => {
            let detail = if long {
                "é".repeat(99)
            } else {
                "on purpose".to_owned()
            };
            end.fail(at, Error::new(ErrorKind::Panic, detail));
        }
        Command::Pause => {
            end.paused = true;
            end.connection.pause(at);
        }
        Command::Resume => {
            end.paused = false;
            end.connection.resume(at);
        }
        Command::Room(room) => end.room = room.map(usize::from),
        Command::Clog => end.room = Some(0),
        Command::Deliver(count, most) => deliver(ends, who, at, count.into(), most.into()),
        Command::Forge(octets) if !end.paused && !octets.is_empty() => {
            end.take_in(at, octets, octets.len());
        }
        Command::Forge(_) => {}
        Command::Wait(ms) => *now = now.after(Duration::from_millis(ms.into())),
        Command::Stop => {
            end.receive.stop(&mut end.buffers);
            end.stopped = true;
        }
    }
}

fuzz_target!(|input: Input<'_>| {
    let mut now = Time::from_millis(1);
    let mut ends = [
        End::new(Role::Client, input.client, now),
        End::new(Role::Server, input.server, now),
    ];
    for (side, command) in input.commands {
        perform(&mut ends, side as usize, &mut now, command);
        for end in &mut ends {
            end.tick(now);
            end.flush(now);
        }
    }
    // In the end everybody reads and writes what there is.
    for _ in 0..4 {
        for who in [0, 1] {
            for command in [
                Command::Resume,
                Command::Room(None),
                Command::Deliver(u16::MAX, 255),
            ] {
                perform(&mut ends, who, &mut now, command);
            }
            ends[who].tick(now);
            ends[who].flush(now);
        }
    }
    for end in &mut ends {
        end.check();
        end.check_end();
    }
});
