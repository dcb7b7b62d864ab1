//! Keepalive pings, the peer's silence, pauses, the idle timeout.
//!
//! Does not know: the closing handshake.

use wsabi::protocol::connection::{KEEPALIVE_PAYLOAD, Phase};
use wsabi::{Config, ErrorKind};

use crate::world::{CLIENT, Pair, SERVER, quiet, seconds};

const DEAD: &str = "close 1011 keepalive ping timeout";
const IDLE: &str = "close 1011 idle timeout";

/// A client that pings and a server that does not, of which nothing arrives.
fn mute_server() -> Pair {
    let mut pair = Pair::new(&Config::default(), &quiet());
    pair.silence();
    pair
}

/// A client that only has an idle timeout, of 30 s.
fn idle_client() -> Pair {
    let config = Config {
        idle_timeout: seconds(30),
        ..quiet()
    };
    Pair::new(&config, &quiet())
}

#[test]
fn a_peer_that_answers_lives_on_with_a_ping_each_interval() {
    let mut pair = Pair::new(&Config::default(), &Config::default());
    pair.run_until(100_500);
    for who in [CLIENT, SERVER] {
        let end = &pair.ends[who];
        assert_eq!(
            end.sent_at("ping wsabi-keepalive"),
            [20_000, 40_000, 60_000, 80_000, 100_000]
        );
        assert_eq!(
            end.heard()
                .iter()
                .filter(|event| **event == "pong wsabi-keepalive")
                .count(),
            5
        );
        assert!(end.connection.is_open());
        assert_eq!(end.deadline(), Some(120_000));
    }
}

#[test]
fn a_silent_peer_is_dead_twenty_seconds_after_the_ping() {
    let mut pair = mute_server();
    pair.run_until(39_999);
    assert!(pair.ends[CLIENT].connection.is_open());
    assert_eq!(pair.ends[CLIENT].deadline(), Some(40_000));
    pair.run_until(40_000);
    assert_eq!(pair.ends[CLIENT].connection.phase(), Phase::Failed);
    assert_eq!(pair.ends[CLIENT].sent_at("ping"), [20_000]);
    assert_eq!(pair.ends[CLIENT].sent_at(DEAD), [40_000]);
    pair.run_until(100_000);
    let end = &pair.ends[CLIENT];
    assert_eq!(
        end.ended(),
        Some((45_000, 1006, Some(ErrorKind::KeepaliveTimeout)))
    );
    let (_, closed) = end.end.as_ref().unwrap();
    assert!(closed.reason.is_empty());
    assert_eq!(
        closed.error.as_ref().unwrap().detail(),
        "keepalive ping timeout: no sign of life came within ping_timeout, 20s, after a ping"
    );
}

#[test]
fn the_peer_of_one_who_gives_it_up_reads_why() {
    // Only one direction is lost: the server's answers.
    let mut pair = Pair::new(&Config::default(), &quiet());
    pair.wires[SERVER].silent_from = 0;
    pair.run_until(60_000);
    assert_eq!(pair.ends[SERVER].heard(), ["ping wsabi-keepalive", DEAD]);
    // The FIN behind the Close frame ends it for the server.
    assert_eq!(pair.ends[SERVER].ended(), Some((40_010, 1011, None)));
    assert_eq!(pair.ends[CLIENT].ended().unwrap().1, 1006);
}

#[test]
fn any_byte_is_a_sign_of_life() {
    let mut pair = Pair::new(&Config::default(), &quiet());
    pair.wires[CLIENT].silent_from = 0;
    // A frame that never becomes complete: 255 octets are promised, one comes each 20 s.
    pair.smuggle(SERVER, &[0x82, 0x7e, 0x00, 0xff]);
    for ping in 1..=5 {
        pair.run_until(ping * 20_000 + 19_980);
        pair.smuggle(SERVER, &[0]);
    }
    pair.run_until(139_999);
    assert!(pair.ends[CLIENT].connection.is_open());
    assert_eq!(pair.ends[CLIENT].sent_at("ping").len(), 6);
    pair.run_until(140_000);
    assert_eq!(pair.ends[CLIENT].sent_at(DEAD), [140_000]);
}

#[test]
fn a_byte_that_comes_too_late_does_not_revive() {
    let mut pair = Pair::new(&Config::default(), &quiet());
    pair.wires[CLIENT].silent_from = 0;
    pair.run_until(39_995);
    pair.smuggle(SERVER, b"\x81\x04late");
    pair.run_until(44_000);
    assert_eq!(pair.ends[CLIENT].sent_at(DEAD), [40_000]);
    assert!(pair.ends[CLIENT].heard().is_empty());
}

#[test]
fn progress_of_the_backlog_is_a_sign_of_life() {
    let mut pair = Pair::new(&quiet(), &Config::default());
    pair.silence();
    pair.wires[SERVER].room = Some(0);
    pair.send_text(SERVER, &"x".repeat(1000));
    for ping in 1..=3 {
        pair.run_until(ping * 20_000 + 19_999);
        assert!(pair.ends[SERVER].connection.is_open());
        pair.make_room(SERVER, 10);
    }
    pair.run_until(99_999);
    assert!(pair.ends[SERVER].connection.is_open());
    pair.run_until(100_000);
    assert_eq!(pair.ends[SERVER].connection.phase(), Phase::Failed);
}

#[test]
fn output_that_never_waited_is_no_sign_of_life() {
    let mut pair = mute_server();
    for at in (1000..40_000).step_by(1000) {
        pair.run_until(at);
        pair.send_text(CLIENT, "the kernel takes this whoever is there");
    }
    pair.run_until(40_000);
    assert_eq!(pair.ends[CLIENT].sent_at(DEAD), [40_000]);
}

#[test]
fn the_clock_of_silence_stands_still_while_paused() {
    let mut pair = mute_server();
    pair.run_until(25_000);
    pair.pause(CLIENT);
    pair.run_until(100_000);
    // Pings go on; nothing but them has a deadline.
    assert_eq!(
        pair.ends[CLIENT].sent_at("ping"),
        [20_000, 40_000, 60_000, 80_000, 100_000]
    );
    assert_eq!(pair.ends[CLIENT].deadline(), Some(120_000));
    pair.resume(CLIENT);
    assert_eq!(pair.ends[CLIENT].deadline(), Some(115_000));
    pair.run_until(130_000);
    assert_eq!(pair.ends[CLIENT].sent_at(DEAD), [115_000]);
}

#[test]
fn a_ping_sent_while_paused_is_waited_for_from_the_end_of_the_pause() {
    let mut pair = mute_server();
    pair.run_until(5000);
    pair.pause(CLIENT);
    pair.run_until(30_000);
    pair.resume(CLIENT);
    assert_eq!(pair.ends[CLIENT].deadline(), Some(40_000));
    pair.run_until(60_000);
    assert_eq!(pair.ends[CLIENT].sent_at("ping"), [20_000, 40_000]);
    assert_eq!(pair.ends[CLIENT].sent_at(DEAD), [50_000]);
}

#[test]
fn pauses_add_up() {
    let mut pair = mute_server();
    for (pause, resume) in [(22_000, 50_000), (55_000, 55_000), (60_000, 100_000)] {
        pair.run_until(pause);
        pair.pause(CLIENT);
        pair.run_until((pause + resume) / 2);
        pair.pause(CLIENT);
        pair.run_until(resume);
        pair.resume(CLIENT);
        pair.resume(CLIENT);
    }
    // Two seconds before the first pause, ten before the last one: eight are left.
    pair.run_until(120_000);
    assert_eq!(pair.ends[CLIENT].sent_at(DEAD), [108_000]);
}

#[test]
fn what_came_during_a_pause_is_a_sign_of_life_when_it_is_read() {
    let mut pair = Pair::new(&Config::default(), &quiet());
    pair.wires[CLIENT].silent_from = 0;
    pair.run_until(25_000);
    pair.pause(CLIENT);
    pair.send_text(SERVER, "hello");
    pair.run_until(90_000);
    assert!(pair.ends[CLIENT].heard().is_empty());
    pair.resume(CLIENT);
    assert_eq!(pair.ends[CLIENT].heard(), ["text hello"]);
    pair.run_until(119_999);
    assert!(pair.ends[CLIENT].connection.is_open());
    pair.run_until(120_000);
    assert_eq!(pair.ends[CLIENT].sent_at(DEAD), [120_000]);
}

#[test]
fn pings_do_not_pile_up_behind_a_backlog() {
    let mut pair = Pair::new(&Config::default(), &quiet());
    pair.wires[CLIENT].room = Some(0);
    pair.send_text(CLIENT, "nobody reads this");
    let waiting = pair.ends[CLIENT].out.len();
    for _ in 0..20 {
        // The peer lives: pongs come that nobody has asked for.
        pair.smuggle(SERVER, &[0x8a, 0]);
        pair.run_until(pair.now + 15_000);
    }
    assert!(pair.ends[CLIENT].connection.is_open());
    assert_eq!(pair.ends[CLIENT].out.len(), waiting);
    pair.make_room(CLIENT, waiting);
    pair.wires[CLIENT].room = None;
    pair.run_until(pair.now + 20_000);
    assert_eq!(pair.ends[CLIENT].sent_at("ping").len(), 1);
}

#[test]
fn progress_of_the_backlog_counts_while_paused() {
    let mut pair = mute_server();
    pair.wires[CLIENT].room = Some(0);
    pair.send_text(CLIENT, &"x".repeat(1000));
    pair.run_until(25_000);
    pair.pause(CLIENT);
    pair.run_until(27_000);
    pair.make_room(CLIENT, 10);
    pair.resume(CLIENT);
    // The first ping was answered by progress; the second one is not.
    assert_eq!(pair.ends[CLIENT].deadline(), Some(40_000));
    pair.run_until(59_999);
    assert!(pair.ends[CLIENT].connection.is_open());
    pair.run_until(60_000);
    assert!(!pair.ends[CLIENT].connection.is_open());
}

#[test]
fn late_timers_lose_nothing() {
    let mut pair = mute_server();
    pair.ends[CLIENT].lateness = 7000;
    pair.run_until(100_000);
    let end = &pair.ends[CLIENT];
    // The ping is due at 20 s, death 20 s after it was really sent, the reset 5 s after that.
    assert_eq!(end.sent_at("ping"), [27_000]);
    assert_eq!(end.sent_at(DEAD), [54_000]);
    assert_eq!(
        end.ended(),
        Some((66_000, 1006, Some(ErrorKind::KeepaliveTimeout)))
    );
}

#[test]
fn a_peer_that_answers_survives_timers_later_than_every_interval() {
    let mut pair = Pair::new(&Config::default(), &Config::default());
    for end in &mut pair.ends {
        end.lateness = 90_000;
    }
    pair.run_until(1_000_000);
    for end in &pair.ends {
        assert!(end.connection.is_open());
        assert_eq!(end.sent_at("ping").len(), 9);
    }
}

#[test]
fn after_an_hour_of_sleep_there_is_one_ping_and_nobody_is_dead() {
    let mut pair = Pair::new(&Config::default(), &Config::default());
    pair.run_until(1000);
    pair.now += 3_600_000;
    pair.run_until(pair.now + 19_000);
    for end in &pair.ends {
        assert_eq!(end.sent_at("ping"), [3_601_000]);
        assert!(end.connection.is_open());
    }
}

#[test]
fn several_deadlines_at_once_make_one_close() {
    let config = Config {
        idle_timeout: seconds(30),
        ..Config::default()
    };
    let mut pair = Pair::new(&config, &quiet());
    pair.silence();
    pair.run_until(25_000);
    // Asleep until the ping, the peer's death and the idle timeout are all due.
    pair.now = 200_000;
    pair.run_until(201_000);
    let end = &pair.ends[CLIENT];
    assert_eq!(end.sent_at("close"), [200_000]);
    assert_eq!(end.sent_at("ping"), [20_000]);
    pair.run_until(300_000);
    assert_eq!(
        pair.ends[CLIENT].ended(),
        Some((205_000, 1006, Some(ErrorKind::IdleTimeout)))
    );
}

#[test]
fn without_pings_there_is_no_deadline() {
    let mut pair = Pair::new(&quiet(), &quiet());
    pair.silence();
    assert_eq!(
        (pair.ends[CLIENT].deadline(), pair.ends[SERVER].deadline()),
        (None, None)
    );
    pair.run_until(1_000_000_000);
    assert!(pair.ends[CLIENT].connection.is_open() && pair.ends[SERVER].connection.is_open());
}

#[test]
fn interval_and_timeout_are_settings_of_their_own() {
    let config = Config {
        ping_interval: seconds(3),
        ping_timeout: std::time::Duration::from_millis(7500),
        ..Config::default()
    };
    let mut pair = Pair::new(&config, &quiet());
    pair.silence();
    pair.run_until(20_000);
    // Pings go on while one is waited for, and do not extend the wait.
    assert_eq!(pair.ends[CLIENT].sent_at("ping"), [3000, 6000, 9000]);
    assert_eq!(pair.ends[CLIENT].sent_at(DEAD), [10_500]);
}

#[test]
fn an_application_can_tell_the_keepalive_pings_from_its_own() {
    let mut pair = Pair::new(&Config::default(), &quiet());
    pair.with(CLIENT, |connection, tools| {
        connection
            .send()
            .ping(b"mine", tools.random, tools.out)
            .unwrap();
    });
    pair.run_until(30_000);
    let keepalive = String::from_utf8_lossy(KEEPALIVE_PAYLOAD);
    assert_eq!(
        pair.ends[CLIENT].heard(),
        ["pong mine".to_owned(), format!("pong {keepalive}")]
    );
}

#[test]
fn a_ping_of_the_application_starts_no_clock() {
    let mut pair = mute_server();
    pair.with(CLIENT, |connection, tools| {
        connection
            .send()
            .ping(b"mine", tools.random, tools.out)
            .unwrap();
    });
    assert_eq!(pair.ends[CLIENT].deadline(), Some(20_000));
    pair.run_until(39_999);
    assert!(pair.ends[CLIENT].connection.is_open());
}

#[test]
fn idle_is_who_receives_nothing() {
    let mut pair = idle_client();
    pair.run_until(10_000);
    pair.send_text(SERVER, "received at 10,010 ms");
    pair.run_until(20_000);
    pair.send_text(CLIENT, "what is sent does not count");
    pair.run_until(40_009);
    assert!(pair.ends[CLIENT].connection.is_open());
    pair.run_until(41_000);
    assert_eq!(pair.ends[CLIENT].sent_at(IDLE), [40_010]);
    let (_, code, error) = pair.ends[CLIENT].ended().unwrap();
    assert_eq!((code, error), (1006, Some(ErrorKind::IdleTimeout)));
    assert_eq!(pair.ends[SERVER].ended().unwrap().1, 1011);
}

#[test]
fn idle_time_stands_still_while_paused() {
    let mut pair = idle_client();
    pair.run_until(10_000);
    pair.pause(CLIENT);
    assert_eq!(pair.ends[CLIENT].deadline(), None);
    pair.run_until(100_000);
    pair.resume(CLIENT);
    assert_eq!(pair.ends[CLIENT].deadline(), Some(120_000));
    pair.run_until(120_000);
    assert_eq!(pair.ends[CLIENT].sent_at(IDLE), [120_000]);
}

#[test]
fn pongs_keep_a_connection_from_being_idle() {
    let config = Config {
        idle_timeout: seconds(30),
        ..Config::default()
    };
    let mut pair = Pair::new(&config, &quiet());
    pair.run_until(1_000_000);
    assert!(pair.ends[CLIENT].connection.is_open());
}

#[test]
fn the_earlier_of_idle_and_dead_counts() {
    for (idle, text, at) in [(10, IDLE, 10_000), (39, IDLE, 39_000), (41, DEAD, 40_000)] {
        let config = Config {
            idle_timeout: seconds(idle),
            ..Config::default()
        };
        let mut pair = Pair::new(&config, &quiet());
        pair.silence();
        pair.run_until(44_000);
        assert_eq!(
            pair.ends[CLIENT].sent_at(text),
            [at],
            "idle timeout {idle} s"
        );
    }
}
