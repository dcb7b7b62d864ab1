//! Arbitrary courses of events: keepalive against a slow and obvious model, and what has to hold
//! for a pair whatever happens.
//!
//! Does not know: particular cases; those have tests of their own.

use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use wsabi::protocol::connection::Phase;
use wsabi::{Config, ErrorKind};

use crate::world::{CLIENT, Pair, SERVER, quiet, seconds};

fn settings() -> ProptestConfig {
    ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Wait(u64),
    Pause,
    Resume,
    /// The peer sends an octet.
    Octet,
    /// The kernel takes nothing more, and something is to be sent.
    Clog,
    /// The kernel takes this much of what waits.
    Take(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => prop_oneof![0..25_000u64, Just(5000), Just(10_000), Just(20_000)].prop_map(Step::Wait),
        2 => Just(Step::Pause),
        2 => Just(Step::Resume),
        1 => Just(Step::Octet),
        1 => Just(Step::Clog),
        1 => (1..100usize).prop_map(Step::Take),
    ]
}

/// Keepalive as design and configuration describe it, told with two clocks: that of the world, and
/// one that goes only while the endpoint reads.
#[derive(Debug)]
struct Model {
    now: u64,
    reading: u64,
    paused: bool,
    /// On the reading clock, when a ping was sent since which there was no sign of life.
    unanswered: Option<u64>,
    /// On the reading clock, when something was received.
    received: u64,
    /// What came during the pause.
    unread: bool,
    idle: Option<u64>,
    pings: Vec<u64>,
    dead: Option<(u64, ErrorKind)>,
}

const PING: u64 = 20_000;

impl Model {
    /// Lets time pass, from one moment at which something can happen to the next.
    fn wait(&mut self, ms: u64) {
        let end = self.now + ms;
        while self.dead.is_none() {
            let next_ping = (self.pings.len() as u64 + 1) * PING;
            let silence = |since: u64, limit: u64| {
                (since + limit)
                    .checked_sub(self.reading)
                    .filter(|_| !self.paused)
            };
            let death = self.unanswered.and_then(|since| silence(since, PING));
            let idle = self.idle.and_then(|limit| silence(self.received, limit));
            let waits = [
                Some(next_ping - self.now),
                death,
                idle,
                Some(end - self.now),
            ];
            let wait = waits.into_iter().flatten().min().unwrap();
            self.now += wait;
            if !self.paused {
                self.reading += wait;
            }
            if death == Some(wait) {
                self.dead = Some((self.now, ErrorKind::KeepaliveTimeout));
            } else if idle == Some(wait) {
                self.dead = Some((self.now, ErrorKind::IdleTimeout));
            } else if self.now == next_ping {
                self.pings.push(self.now);
                self.unanswered.get_or_insert(self.reading);
            } else {
                return;
            }
        }
    }

    fn sign_of_life(&mut self) {
        self.unanswered = None;
    }

    fn receive(&mut self) {
        if self.paused {
            self.unread = true;
        } else {
            self.received = self.reading;
            self.sign_of_life();
        }
    }
}

fn play(pair: &mut Pair, model: &mut Model, step: Step) {
    match step {
        Step::Wait(ms) => {
            model.wait(ms);
            pair.run_until(pair.now + ms);
        }
        Step::Pause => {
            model.paused = true;
            pair.pause(CLIENT);
        }
        Step::Resume => {
            model.paused = false;
            if std::mem::take(&mut model.unread) {
                model.receive();
            }
            pair.resume(CLIENT);
        }
        Step::Octet => {
            model.receive();
            pair.smuggle(SERVER, &[0]);
            pair.run_until(pair.now);
        }
        Step::Clog => {
            pair.wires[CLIENT].room = Some(0);
            pair.send_text(CLIENT, "this waits");
        }
        Step::Take(count) => {
            let count = count.min(pair.ends[CLIENT].out.len());
            if count > 0 {
                model.sign_of_life();
                pair.make_room(CLIENT, count);
            }
        }
    }
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn keepalive_agrees_with_a_model(
        idle in proptest::option::of(10..60u64),
        steps in prop::collection::vec(step(), 1..60),
    ) {
        let config = Config { idle_timeout: idle.and_then(seconds), ..Config::default() };
        let mut pair = Pair::new(&config, &quiet());
        pair.wires[CLIENT].silent_from = 0;
        pair.wires[SERVER].latency = 0;
        // A frame that never becomes complete.
        pair.smuggle(SERVER, &[0x82, 0x7e, 0xff, 0xff]);
        pair.run_until(0);
        let mut model = Model {
            now: 0,
            reading: 0,
            paused: false,
            unanswered: None,
            received: 0,
            unread: false,
            idle: idle.map(|seconds| seconds * 1000),
            pings: Vec::new(),
            dead: None,
        };
        for step in steps {
            play(&mut pair, &mut model, step);
            if let Some((at, kind)) = model.dead {
                let end = &pair.ends[CLIENT];
                prop_assert_ne!(end.connection.phase(), Phase::Open, "{:?}", model);
                // Five seconds without progress later it is reset, which tells when it failed.
                pair.ends[CLIENT].out.clear();
                pair.run_until(pair.now + 10_000);
                prop_assert_eq!(pair.ends[CLIENT].ended(), Some((at + 5000, 1006, Some(kind))));
                return Ok(());
            }
            let end = &pair.ends[CLIENT];
            prop_assert!(end.connection.is_open(), "{:?}", model);
            if pair.wires[CLIENT].room.is_none() {
                prop_assert_eq!(end.sent_at("ping"), model.pings.clone());
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Act {
    Wait(u64),
    Text(usize),
    Ping(usize),
    Close(usize, u16),
    Pause(usize),
    Resume(usize),
    Clog(usize),
    Take(usize, usize),
    Garbage(usize),
    Silence,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (0..15_000u64).prop_map(Act::Wait),
        6 => (0..2usize).prop_map(Act::Text),
        3 => (0..2usize).prop_map(Act::Ping),
        1 => (0..2usize, 3000..3010u16).prop_map(|(who, code)| Act::Close(who, code)),
        1 => (0..2usize).prop_map(Act::Pause),
        2 => (0..2usize).prop_map(Act::Resume),
        1 => (0..2usize).prop_map(Act::Clog),
        3 => (0..2usize, 1..200usize).prop_map(|(who, count)| Act::Take(who, count)),
        1 => (0..2usize).prop_map(Act::Garbage),
        1 => Just(Act::Silence),
    ]
}

/// Does it, if it is possible; gives the text that was sent.
fn perform(pair: &mut Pair, act: &Act, number: usize) -> Option<(usize, String)> {
    let is_open = |pair: &Pair, who: usize| {
        pair.ends[who].end.is_none() && pair.ends[who].connection.is_open()
    };
    match *act {
        Act::Wait(ms) => pair.run_until(pair.now + ms),
        Act::Text(who) if is_open(pair, who) => {
            let text = format!("number {number}");
            pair.send_text(who, &text);
            return Some((who, format!("text {text}")));
        }
        Act::Ping(who) if is_open(pair, who) => pair.with(who, |connection, tools| {
            connection
                .send()
                .ping(b"p", tools.random, tools.out)
                .unwrap();
        }),
        Act::Close(who, code) if is_open(pair, who) => pair.close(who, code, "on purpose"),
        Act::Pause(who) if pair.ends[who].end.is_none() => pair.pause(who),
        Act::Resume(who) if pair.ends[who].end.is_none() => pair.resume(who),
        Act::Clog(who) => pair.wires[who].room = Some(0),
        Act::Take(who, count) if pair.wires[who].room.is_some() => pair.make_room(who, count),
        // Amid a frame it would only change a payload.
        Act::Garbage(who) if !pair.ends[who].is_amid_frame() => pair.smuggle(who, &[0xff, 0xff]),
        Act::Silence => pair.silence(),
        _ => {}
    }
    None
}

proptest! {
    #![proptest_config(settings())]

    #[test]
    fn a_pair_keeps_its_promises_whatever_happens(
        lateness in 0..30_000u64,
        acts in prop::collection::vec(act(), 1..60),
    ) {
        let mut pair = Pair::new(&Config::default(), &Config::default());
        pair.ends[SERVER].lateness = lateness;
        let mut texts = [Vec::new(), Vec::new()];
        for (number, act) in acts.iter().enumerate() {
            if let Some((who, text)) = perform(&mut pair, act, number) {
                texts[who].push(text);
            }
        }
        // In the end everybody reads again and the transport goes silent.
        for who in [CLIENT, SERVER] {
            perform(&mut pair, &Act::Resume(who), 0);
        }
        pair.silence();
        pair.run_until(pair.now + 500_000);
        for who in [CLIENT, SERVER] {
            let (end, sender) = (&pair.ends[who], &texts[1 - who]);
            let (_, code, error) = end.ended().expect("a silent transport ends every connection");
            // What was received is a beginning of what was sent.
            let heard = end.heard();
            let received: Vec<&str> =
                heard.iter().copied().filter(|event| event.starts_with("text")).collect();
            prop_assert!(received.iter().eq(sender.iter().take(received.len())));
            // A Close frame is the last thing heard and the last thing sent, and tells the end.
            let closes = heard.iter().position(|event| event.starts_with("close"));
            prop_assert!(closes.is_none_or(|at| at + 1 == heard.len()));
            let sent = end.sent.iter().position(|(_, frame)| frame.starts_with("close"));
            prop_assert!(sent.is_none_or(|at| at + 1 == end.sent.len()));
            prop_assert_eq!(closes.is_some(), error.is_none());
            prop_assert_eq!(error.is_some(), code == 1006);
        }
    }
}
