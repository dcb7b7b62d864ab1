//! The closing handshake, failing the connection, and what waits behind a backlog meanwhile.
//!
//! Does not know: keepalive.

use wsabi::protocol::connection::Phase;
use wsabi::{Config, Error, ErrorKind};

use crate::world::{CLIENT, Pair, SERVER, quiet, seconds};

fn pair() -> Pair {
    Pair::new(&quiet(), &quiet())
}

#[test]
fn the_client_closes_first() {
    let mut pair = pair();
    pair.close(CLIENT, 1000, "bye");
    assert_eq!(pair.ends[CLIENT].connection.phase(), Phase::Closing);
    pair.run_until(20);
    assert_eq!(pair.ends[CLIENT].connection.phase(), Phase::Closed);
    assert_eq!(pair.ends[SERVER].connection.phase(), Phase::Closed);
    pair.run_until(1000);
    assert_eq!(pair.ends[SERVER].heard(), ["close 1000 bye"]);
    assert_eq!(pair.ends[CLIENT].heard(), ["close 1000 "]);
    // RFC 6455 §7.1.1: the server closes the transport first, behind its Close frame.
    assert_eq!(pair.ends[CLIENT].ended(), Some((20, 1000, None)));
    assert_eq!(pair.ends[SERVER].ended(), Some((30, 1000, None)));
    assert_eq!(&*pair.ends[SERVER].end.as_ref().unwrap().1.reason, "bye");
}

#[test]
fn the_server_closes_first() {
    let mut pair = pair();
    pair.close(SERVER, 1001, "going");
    pair.run_until(1000);
    assert_eq!(pair.ends[CLIENT].heard(), ["close 1001 going"]);
    assert_eq!(pair.ends[SERVER].heard(), ["close 1001 "]);
    // The server waits for the client's Close frame before it closes the transport.
    assert_eq!(pair.ends[CLIENT].ended(), Some((30, 1001, None)));
    assert_eq!(pair.ends[SERVER].ended(), Some((40, 1001, None)));
}

#[test]
fn both_close_at_once() {
    let mut pair = pair();
    pair.close(CLIENT, 1000, "from the client");
    pair.close(SERVER, 4000, "from the server");
    pair.run_until(1000);
    assert_eq!(pair.ends[CLIENT].heard(), ["close 4000 from the server"]);
    assert_eq!(pair.ends[SERVER].heard(), ["close 1000 from the client"]);
    for (who, code) in [(CLIENT, 4000), (SERVER, 1000)] {
        assert_eq!(pair.ends[who].sent_at("close").len(), 1);
        let (_, told, error) = pair.ends[who].ended().unwrap();
        assert_eq!((told, error), (code, None));
    }
}

#[test]
fn a_close_without_a_code_is_answered_without_one() {
    let mut pair = pair();
    pair.with(SERVER, |connection, tools| {
        connection.close(None, "", tools).unwrap()
    });
    pair.run_until(1000);
    assert_eq!(pair.ends[CLIENT].heard(), ["close 1005 "]);
    assert_eq!(pair.ends[CLIENT].sent.last().unwrap().1, "close");
    assert_eq!(pair.ends[SERVER].ended(), Some((40, 1005, None)));
}

#[test]
fn messages_arrive_until_the_peers_close() {
    let mut pair = pair();
    pair.send_text(SERVER, "one");
    pair.close(CLIENT, 1000, "");
    pair.send_text(SERVER, "two");
    pair.run_until(5);
    pair.send_text(SERVER, "three");
    pair.run_until(1000);
    assert_eq!(
        pair.ends[CLIENT].heard(),
        ["text one", "text two", "text three", "close 1000 "]
    );
}

#[test]
fn nothing_is_sent_behind_a_close() {
    let mut pair = pair();
    pair.close(CLIENT, 1000, "");
    pair.with(SERVER, |connection, tools| {
        connection
            .send()
            .ping(b"crosses", tools.random, tools.out)
            .unwrap();
    });
    let refused = pair.with(CLIENT, |connection, tools| {
        let (text, ping) = (
            connection.send().text("late", tools),
            connection.send().ping(b"late", tools.random, tools.out),
        );
        [text, ping, connection.close(Some(1000), "", tools)]
            .map(|result| result.unwrap_err().kind())
    });
    assert_eq!(refused, [ErrorKind::Closed; 3]);
    pair.run_until(1000);
    assert_eq!(pair.ends[CLIENT].heard(), ["ping crosses", "close 1000 "]);
    assert_eq!(pair.ends[CLIENT].sent.len(), 1);
}

#[test]
fn a_close_that_may_not_be_sent_changes_nothing() {
    let mut pair = pair();
    let long = "r".repeat(124);
    for (code, reason) in [
        (Some(1005), ""),
        (Some(1006), ""),
        (Some(999), ""),
        (Some(5000), ""),
        (None, "no code"),
        (Some(1000), &long),
    ] {
        let error = pair.with(CLIENT, |connection, tools| {
            connection.close(code, reason, tools)
        });
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid, "{code:?}");
    }
    assert!(pair.ends[CLIENT].connection.is_open() && pair.ends[CLIENT].sent.is_empty());
    pair.close(CLIENT, 4999, &long[1..]);
    pair.run_until(1000);
    assert_eq!(
        pair.ends[SERVER].heard(),
        [format!("close 4999 {}", &long[1..])]
    );
}

#[test]
fn a_peer_that_does_not_answer_is_reset() {
    let mut pair = pair();
    pair.run_until(1000);
    pair.silence();
    pair.close(CLIENT, 1000, "bye");
    assert_eq!(pair.ends[CLIENT].deadline(), Some(6000));
    pair.run_until(5999);
    assert!(pair.ends[CLIENT].end.is_none());
    pair.run_until(6000);
    assert_eq!(
        pair.ends[CLIENT].ended(),
        Some((6000, 1006, Some(ErrorKind::CloseTimeout)))
    );
    assert!(pair.ends[CLIENT].end.as_ref().unwrap().1.reason.is_empty());
}

#[test]
fn what_arrives_does_not_extend_the_closing_handshake() {
    let mut pair = pair();
    pair.wires[CLIENT].silent_from = 0;
    pair.close(CLIENT, 1000, "");
    for at in (0..5000).step_by(500) {
        pair.run_until(at);
        pair.send_text(SERVER, "still talking");
    }
    pair.run_until(10_000);
    assert_eq!(pair.ends[CLIENT].reset_at, Some(5000));
    assert_eq!(pair.ends[CLIENT].heard().len(), 10);
}

#[test]
fn a_peer_whose_close_came_but_not_its_fin_is_reset_and_still_clean() {
    let mut pair = pair();
    pair.close(CLIENT, 1000, "");
    // The server's answer gets through, its FIN and all else does not.
    pair.run_until(10);
    pair.silence();
    pair.run_until(10_000);
    assert_eq!(pair.ends[CLIENT].reset_at, None);
    assert_eq!(pair.ends[CLIENT].ended(), Some((20, 1000, None)));
    assert_eq!(pair.ends[SERVER].reset_at, Some(5010));
    assert_eq!(pair.ends[SERVER].ended(), Some((5010, 1000, None)));
}

#[test]
fn the_peer_cannot_prolong_the_closing_handshake() {
    // A Close frame at the last moment, or a failure, does not start the time anew.
    let late: [(&[u8], u16, Option<ErrorKind>); 2] = [
        (b"\x88\x02\x03\xe8", 1000, None),
        (b"\x83\x00", 1006, Some(ErrorKind::Protocol)),
    ];
    for (octets, code, kind) in late {
        let mut pair = pair();
        pair.wires[CLIENT].silent_from = 0;
        pair.close(CLIENT, 1000, "");
        pair.run_until(4900);
        pair.smuggle(SERVER, octets);
        pair.run_until(10_000);
        assert_eq!(pair.ends[CLIENT].ended(), Some((5000, code, kind)));
    }
}

#[test]
fn keepalive_ends_with_the_close() {
    let mut pair = Pair::new(
        &Config {
            close_timeout: seconds(60).unwrap(),
            ..Config::default()
        },
        &quiet(),
    );
    pair.silence();
    pair.run_until(39_000);
    pair.close(CLIENT, 1000, "");
    pair.run_until(200_000);
    assert_eq!(pair.ends[CLIENT].sent_at("ping"), [20_000]);
    assert_eq!(
        pair.ends[CLIENT].ended(),
        Some((99_000, 1006, Some(ErrorKind::CloseTimeout)))
    );
}

#[test]
fn a_close_behind_a_backlog_waits_while_the_backlog_moves() {
    let mut pair = pair();
    pair.wires[SERVER].room = Some(0);
    pair.send_text(SERVER, &"x".repeat(100));
    pair.close(SERVER, 1000, "");
    for at in [4000, 8000, 12_000, 16_000] {
        pair.run_until(at);
        pair.make_room(SERVER, 10);
        assert_eq!(pair.ends[SERVER].deadline(), Some(at + 5000));
    }
    pair.run_until(20_999);
    assert!(pair.ends[SERVER].end.is_none());
    pair.run_until(30_000);
    assert_eq!(
        pair.ends[SERVER].ended(),
        Some((21_000, 1006, Some(ErrorKind::CloseTimeout)))
    );
}

#[test]
fn a_close_behind_a_backlog_has_its_own_time_once_it_is_out() {
    let mut pair = pair();
    pair.wires[SERVER].room = Some(0);
    pair.wires[CLIENT].silent_from = 0;
    pair.send_text(SERVER, "slow");
    pair.close(SERVER, 1000, "");
    pair.run_until(4000);
    pair.make_room(SERVER, 1000);
    assert_eq!(pair.ends[SERVER].sent_at("close"), [4000]);
    pair.run_until(8999);
    assert!(pair.ends[SERVER].end.is_none());
    assert_eq!(pair.ends[CLIENT].heard(), ["text slow", "close 1000 "]);
    pair.run_until(9000);
    assert_eq!(pair.ends[SERVER].reset_at, Some(9000));
}

#[test]
fn the_answer_to_a_close_waits_behind_a_backlog_too() {
    let mut pair = pair();
    pair.wires[SERVER].room = Some(0);
    pair.send_text(SERVER, "slow");
    pair.close(CLIENT, 1000, "");
    pair.run_until(4000);
    pair.make_room(SERVER, 1000);
    pair.run_until(10_000);
    assert_eq!(pair.ends[CLIENT].heard(), ["text slow", "close 1000 "]);
    assert_eq!(pair.ends[CLIENT].ended(), Some((4010, 1000, None)));
    assert_eq!(pair.ends[SERVER].ended(), Some((4020, 1000, None)));
}

#[test]
fn who_is_paused_does_not_see_the_answer_to_its_close() {
    let mut pair = pair();
    pair.pause(CLIENT);
    pair.close(CLIENT, 1000, "");
    pair.run_until(10_000);
    assert_eq!(pair.ends[CLIENT].reset_at, Some(5000));
    assert!(pair.ends[CLIENT].heard().is_empty());
}

#[test]
fn a_failed_connection_tells_the_peer_why() {
    let limits = Config {
        max_message_bytes: 10,
        max_fragments: 1,
        ..quiet()
    };
    let cases: [(&[u8], u16, ErrorKind); 5] = [
        (b"\x83\x80\0\0\0\0", 1002, ErrorKind::Protocol),
        (b"\x81\x81\0\0\0\0\xff", 1007, ErrorKind::InvalidText),
        (b"\x82\x8b\0\0\0\0", 1009, ErrorKind::MessageTooBig),
        (
            b"\x02\x80\0\0\0\0\x00\x80\0\0\0\0\x80\x80\0\0\0\0",
            1008,
            ErrorKind::TooManyFragments,
        ),
        (b"\x88\x82\0\0\0\0\x03\xed", 1002, ErrorKind::Protocol),
    ];
    for (octets, code, kind) in cases {
        let mut pair = Pair::new(&quiet(), &limits);
        pair.smuggle(CLIENT, octets);
        pair.run_until(10);
        assert_eq!(pair.ends[SERVER].connection.phase(), Phase::Failed);
        // What the client sent meanwhile is read and discarded, so that no reset overtakes the Close.
        pair.smuggle(CLIENT, b"\x81\x84\0\0\0\0late");
        pair.run_until(1000);
        assert!(pair.ends[SERVER].heard().is_empty());
        assert_eq!(pair.ends[SERVER].ended(), Some((30, 1006, Some(kind))));
        let error = pair.ends[SERVER]
            .end
            .as_ref()
            .unwrap()
            .1
            .error
            .clone()
            .unwrap();
        let close = format!("close {code} {}", error.detail());
        assert_eq!(pair.ends[CLIENT].heard(), [close]);
        assert_eq!(pair.ends[CLIENT].ended(), Some((20, code, None)));
    }
}

#[test]
fn a_failed_client_fails_like_a_server() {
    let mut pair = pair();
    pair.smuggle(SERVER, b"\x81\x81\0\0\0\0x");
    pair.run_until(1000);
    assert!(pair.ends[SERVER].heard()[0].starts_with("close 1002 "));
    assert_eq!(pair.ends[SERVER].ended(), Some((20, 1002, None)));
    assert_eq!(
        pair.ends[CLIENT].ended(),
        Some((30, 1006, Some(ErrorKind::Protocol)))
    );
}

#[test]
fn who_failed_a_connection_waits_for_the_fin_no_longer_than_the_close_timeout() {
    let mut pair = pair();
    pair.ends[CLIENT].stubborn = true;
    pair.smuggle(CLIENT, b"\x83\x80\0\0\0\0");
    pair.run_until(10);
    for at in (500..5000).step_by(500) {
        pair.run_until(at);
        pair.smuggle(CLIENT, &[0; 1000]);
    }
    pair.run_until(10_000);
    assert_eq!(pair.ends[SERVER].reset_at, Some(5010));
    assert!(pair.ends[SERVER].heard().is_empty());
}

#[test]
fn a_failure_after_our_own_close_is_reported_and_sends_nothing_more() {
    let mut pair = pair();
    pair.wires[CLIENT].silent_from = 0;
    pair.close(CLIENT, 1000, "");
    pair.smuggle(SERVER, b"\x83\x00");
    pair.run_until(20);
    assert_eq!(pair.ends[CLIENT].connection.phase(), Phase::Failed);
    assert_eq!(pair.ends[CLIENT].sent.len(), 1);
    pair.smuggle_fin(SERVER);
    pair.run_until(1000);
    assert_eq!(
        pair.ends[CLIENT].ended(),
        Some((30, 1006, Some(ErrorKind::Protocol)))
    );
}

#[test]
fn a_failure_after_both_close_frames_changes_nothing() {
    let mut pair = pair();
    pair.close(SERVER, 1000, "");
    pair.run_until(20);
    assert_eq!(pair.ends[SERVER].connection.phase(), Phase::Closed);
    pair.with(SERVER, |connection, tools| {
        connection.fail(Error::new(ErrorKind::Panic, "too late"), tools);
    });
    assert_eq!(pair.ends[SERVER].connection.phase(), Phase::Closed);
    pair.run_until(1000);
    assert_eq!(pair.ends[SERVER].sent_at("close"), [0]);
    assert_eq!(pair.ends[SERVER].ended(), Some((40, 1000, None)));
}

#[test]
fn only_the_first_failure_counts_and_starts_the_clock() {
    let mut pair = pair();
    pair.silence();
    let fail = |pair: &mut Pair, kind| {
        pair.with(CLIENT, |connection, tools| {
            connection.fail(Error::new(kind, "why"), tools)
        });
    };
    fail(&mut pair, ErrorKind::Panic);
    pair.run_until(3000);
    fail(&mut pair, ErrorKind::Protocol);
    pair.run_until(10_000);
    assert_eq!(pair.ends[CLIENT].sent_at("close"), [0]);
    assert_eq!(
        pair.ends[CLIENT].ended(),
        Some((5000, 1006, Some(ErrorKind::Panic)))
    );
}

#[test]
fn a_long_reason_of_a_failure_is_cut_between_characters() {
    let mut pair = pair();
    pair.with(CLIENT, |connection, tools| {
        connection.fail(Error::new(ErrorKind::Panic, "é".repeat(100)), tools);
    });
    pair.run_until(1000);
    assert_eq!(
        pair.ends[SERVER].heard(),
        [format!("close 1011 {}", "é".repeat(61))]
    );
}

#[test]
fn a_transport_that_ends_without_a_close_is_1006() {
    let mut pair = pair();
    pair.send_text(SERVER, "last words");
    pair.smuggle_fin(SERVER);
    pair.run_until(1000);
    assert_eq!(pair.ends[CLIENT].heard(), ["text last words"]);
    assert_eq!(
        pair.ends[CLIENT].ended(),
        Some((10, 1006, Some(ErrorKind::Lost)))
    );
    // Nor does our own Close make up for the peer's.
    let mut pair = self::pair();
    pair.close(CLIENT, 1000, "");
    pair.smuggle_fin(SERVER);
    pair.run_until(1000);
    assert_eq!(
        pair.ends[CLIENT].ended(),
        Some((10, 1006, Some(ErrorKind::Lost)))
    );
}

#[test]
fn of_many_pings_behind_a_backlog_only_the_latest_is_answered() {
    let mut pair = pair();
    pair.wires[CLIENT].room = Some(0);
    pair.send_text(CLIENT, "slow");
    let backlog = pair.ends[CLIENT].out.len();
    for round in ["first", "second"] {
        for number in 0..1000 {
            pair.with(SERVER, |connection, tools| {
                let payload = format!("{round} {number}");
                connection
                    .send()
                    .ping(payload.as_bytes(), tools.random, tools.out)
                    .unwrap();
            });
        }
        pair.run_until(pair.now + 100);
        assert!(
            pair.ends[CLIENT].out.len() <= backlog,
            "memory grows with the pings"
        );
        pair.make_room(CLIENT, 1000);
        pair.run_until(pair.now + 100);
        pair.wires[CLIENT].room = Some(0);
        if round == "first" {
            pair.send_text(CLIENT, "slow");
        }
    }
    let sent: Vec<&str> = pair.ends[CLIENT]
        .sent
        .iter()
        .map(|(_, frame)| frame.as_str())
        .collect();
    assert_eq!(
        sent,
        [
            "text slow",
            "pong first 999",
            "text slow",
            "pong second 999"
        ]
    );
    assert_eq!(pair.ends[CLIENT].heard().len(), 2000);
}

#[test]
fn a_ping_is_answered_at_once_when_nothing_waits() {
    let mut pair = pair();
    for payload in [b"a", b"b"] {
        pair.with(SERVER, |connection, tools| {
            connection
                .send()
                .ping(payload, tools.random, tools.out)
                .unwrap();
        });
    }
    pair.run_until(1000);
    assert_eq!(pair.ends[SERVER].heard(), ["pong a", "pong b"]);
}

#[test]
fn a_close_takes_the_place_of_a_pong_that_waits() {
    let mut pair = pair();
    pair.wires[CLIENT].room = Some(0);
    pair.send_text(CLIENT, "slow");
    pair.with(SERVER, |connection, tools| {
        connection
            .send()
            .ping(b"p", tools.random, tools.out)
            .unwrap();
    });
    pair.run_until(100);
    pair.close(CLIENT, 1000, "");
    pair.make_room(CLIENT, 1000);
    pair.run_until(1000);
    assert_eq!(pair.ends[SERVER].heard(), ["text slow", "close 1000 "]);
    assert_eq!(pair.ends[SERVER].ended().unwrap().1, 1000);
}
