//! Applications that do not read, and dispatches that may not do everything at once.
//!
//! Does not know: what is sent, or how connections begin.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::cell::Cell;
use std::rc::Rc;

use net::app::Told;
use net::peer::{self, Peer};
use net::{QUIET, World, calm, kind, ms, server};
use wsabi::{CloseCode, Config, ErrorKind, Sent, State};

fn numbered(peer: &Peer, range: std::ops::Range<u32>) -> Vec<u8> {
    range
        .flat_map(|number| peer.frame(peer::TEXT, number.to_string().as_bytes()))
        .collect()
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|number| number.to_string()).collect()
}

/// Pauses a connection in its message number `at`.
fn pause_at(world: &mut World, at: u32) {
    world.app.hook(move |conn, told| {
        if matches!(told, Told::Message(_, _, payload) if *payload == at.to_string().as_bytes()) {
            conn.pause().unwrap();
        }
    });
}

#[test]
fn a_pause_amid_a_burst_stops_it_there_and_resume_goes_on_in_order() {
    for at_server in [false, true] {
        for max_events in [1, 7, 4096] {
            let mut world = World::capped(max_events);
            let (mut peer, id) = world.meet(at_server, calm());
            pause_at(&mut world, 30);
            let mut burst = numbered(&peer, 0..100);
            let half = burst.split_off(burst.len() - 3);
            peer.send(&burst);
            world.until("30 come", |world| world.app.messages == 31);
            world.turns_in(ms(20));
            assert_eq!(world.app.messages, 31, "nothing after pause");
            peer.send(&half);
            peer.send(&numbered(&peer, 100..120));
            world.turns_in(ms(20));
            assert_eq!(world.app.messages, 31);
            world.lp.conn(id).pause().unwrap();
            world.lp.conn(id).resume().unwrap();
            world.lp.conn(id).resume().unwrap();
            assert_eq!(world.app.messages, 31, "resume does not call back");
            world.until("all come", |world| world.app.messages == 120);
            assert_eq!(world.app.texts_of(id), numbers(0..120));
            world.end();
        }
    }
}

#[test]
fn pausing_in_every_message_loses_and_disorders_nothing() {
    let mut world = World::new();
    let (mut peer, id) = world.meet(true, calm());
    world.app.hook(move |conn, told| {
        if matches!(told, Told::Message(..)) {
            conn.pause().unwrap();
        }
    });
    // Whole, split and large messages, and pings between.
    let large = vec![b'l'; 200_000];
    let mut bytes = Vec::new();
    for number in 0..50u32 {
        bytes.extend(numbered(&peer, number..number + 1));
        bytes.extend(peer.frame(peer::PING, b""));
        if number % 10 == 0 {
            bytes.extend(peer.frame(peer::BINARY, &large));
        }
    }
    let mut at = 0;
    let mut paused = 0;
    world.until("all come", |world| {
        at += peer.try_send(&bytes[at..]);
        let come = world.app.messages;
        if come > paused {
            assert_eq!(come, paused + 1, "one a time");
            paused = come;
            world.lp.conn(id).resume().unwrap();
        }
        come == 55
    });
    let texts = world.app.messages_of(id);
    let small = texts.iter().filter(|text| text.len() < 10);
    let small: Vec<_> = small
        .map(|text| String::from_utf8(text.to_vec()).unwrap())
        .collect();
    assert_eq!(small, numbers(0..50));
    assert_eq!(texts.iter().filter(|text| ***text == large).count(), 5);
    world.until("all pings are heard", |world| world.app.count("ping") == 50);
    world.end();
}

#[test]
fn pause_and_resume_within_one_callback_change_nothing() {
    let mut world = World::new();
    let (mut peer, id) = world.meet(true, calm());
    world.app.hook(|conn, _| {
        if conn.state() == State::Open {
            conn.pause().unwrap();
            conn.resume().unwrap();
        }
    });
    let mut bytes = numbered(&peer, 0..500);
    bytes.extend(peer.frame(peer::CLOSE, b""));
    peer.send(&bytes);
    drop(peer);
    assert_eq!(world.ended(id).code, CloseCode::NO_STATUS);
    assert_eq!(world.app.texts_of(id), numbers(0..500));
    world.end();
}

#[test]
fn a_pause_in_on_open_keeps_what_came_with_the_handshake() {
    for max_events in [1, 4096] {
        let mut world = World::capped(max_events);
        let (_, address) = world.serve(&server(calm()));
        world.app.hook(|conn, told| {
            if matches!(told, Told::Open(_)) {
                conn.pause().unwrap();
            }
        });
        let mut peer = Peer::connect(address);
        let mut bytes = peer::REQUEST.to_vec();
        bytes.extend(numbered(&peer, 0..10));
        bytes.extend(peer.frame(peer::CLOSE, &peer::close_payload(1000, "bye")));
        peer.send(&bytes);
        world.until("it opens", |world| world.app.count("open") == 1);
        let Some(&Told::Open(id)) = world.app.told.last() else {
            panic!("{}", world.app.summary());
        };
        world.turns_in(ms(30));
        assert_eq!(world.app.names(id), ["open"]);
        world.lp.conn(id).resume().unwrap();
        drop(peer);
        let closed = world.ended(id);
        assert_eq!((closed.code.as_u16(), &*closed.reason), (1000, "bye"));
        assert_eq!(world.app.texts_of(id), numbers(0..10));
        world.end();
    }
}

#[test]
fn the_end_of_a_paused_peer_waits_for_resume_without_a_spin() {
    for (at_server, way) in [false, true]
        .into_iter()
        .flat_map(|role| [(role, 0), (role, 1), (role, 2)])
    {
        let mut world = World::new();
        let (mut peer, id) = world.meet(at_server, calm());
        pause_at(&mut world, 1);
        peer.send(&numbered(&peer, 0..3));
        world.until("it is paused", |world| world.app.messages == 2);
        match way {
            0 => {
                peer.send_close(1000, "");
                drop(peer);
            }
            1 => drop(peer),
            _ => peer.reset(),
        }
        world.turns_in(ms(30));
        let turns = world.turns_in(QUIET);
        assert!(turns < 5, "{turns} turns while nothing is to be done");
        assert_eq!(world.app.names(id), ["open", "message", "message"]);
        // Writing to it may find out what reading would, and that is no end either.
        for _ in 0..3 {
            let _ = world.lp.conn(id).send_text("anybody?").unwrap();
            world.turns_in(ms(10));
        }
        let turns = world.turns_in(QUIET / 4);
        assert!(turns < 5, "{turns} turns while nothing is to be done");
        assert!(world.app.is_open(id));
        world.lp.conn(id).resume().unwrap();
        let closed = world.ended(id);
        // Not clean even with its Close: what was sent cannot be written any more.
        assert_eq!(kind(&closed), Some(ErrorKind::Lost), "{closed:?}");
        assert!(closed.messages_dropped > 0, "{closed:?}");
        // What the peer sent before its end is there, unless a reset has thrown it away.
        if way == 0 && world.app.messages == 3 {
            assert_eq!(closed.code.as_u16(), 1000);
        }
        assert!(
            world.app.messages == 3 || way != 1,
            "{}",
            world.app.summary()
        );
        world.end();
    }
}

#[test]
fn a_paused_connection_can_be_closed_terminated_and_stopped() {
    for way in 0..3 {
        let mut world = World::new();
        let config = Config {
            close_timeout: ms(60),
            ..calm()
        };
        let (id_of_server, address) = world.serve(&server(config));
        let (mut peer, id) = world.raw_client(address);
        pause_at(&mut world, 0);
        peer.send(&numbered(&peer, 0..5));
        world.until("it is paused", |world| world.app.messages == 1);
        let expected = match way {
            0 => {
                world.lp.conn(id).close(Some(1000), "").unwrap();
                ErrorKind::CloseTimeout
            }
            1 => {
                world.lp.conn(id).terminate().unwrap();
                ErrorKind::Terminated
            }
            _ => {
                world.lp.stop_server(id_of_server, ms(30)).unwrap();
                ErrorKind::Stopped
            }
        };
        let closed = world.ended(id);
        assert_eq!(closed.error.unwrap().kind(), expected);
        assert_eq!(world.app.names(id), ["open", "message", "close"]);
        world.end();
    }
}

#[test]
fn a_paused_application_does_not_take_its_peer_for_dead() {
    let mut world = World::new();
    let (mut peer, id) = world.meet(
        true,
        Config {
            ping_interval: Some(ms(20)),
            ping_timeout: ms(60),
            idle_timeout: Some(ms(70)),
            close_timeout: ms(60),
            ..Config::default()
        },
    );
    world.lp.conn(id).pause().unwrap();
    let mut pings = 0;
    // The peer answers; nobody reads it.
    world.until("pings go on", |_| {
        for frame in peer.frames() {
            assert_eq!(frame.opcode, peer::PING);
            peer.send_frame(peer::PONG, &frame.payload);
            pings += 1;
        }
        pings >= 12
    });
    assert!(world.app.is_open(id));
    world.lp.conn(id).resume().unwrap();
    world.until("pongs are heard", |world| world.app.count("pong") >= 12);
    // From here on its silence counts.
    let closed = world.ended(id);
    let kind = closed.error.unwrap().kind();
    let silent = [
        ErrorKind::KeepaliveTimeout,
        ErrorKind::IdleTimeout,
        ErrorKind::CloseTimeout,
    ];
    assert!(silent.contains(&kind), "{kind:?}");
    drop(peer);
    world.end();
}

#[test]
fn one_who_pauses_until_drain_hears_of_a_peer_that_is_gone() {
    for at_server in [false, true] {
        for reset in [false, true] {
            let mut world = World::new();
            // The pattern of every echo: no more questions while answers are not taken.
            world.app.hook(|conn, told| match told {
                Told::Message(..) => {
                    let mut sent = Sent::Ok;
                    while sent == Sent::Ok {
                        sent = conn.send_binary(&[7; 100_000]).unwrap();
                    }
                    conn.pause().unwrap();
                }
                Told::Drain(_) => conn.resume().unwrap(),
                _ => {}
            });
            let (mut peer, id) = world.meet(at_server, calm());
            peer.send(&numbered(&peer, 0..1));
            world.until("it is paused", |world| {
                world.app.messages == 1 && world.lp.conn(id).buffered() > 1 << 20
            });
            world.turns_in(ms(10));
            if reset {
                peer.reset();
            } else {
                drop(peer);
            }
            let closed = world.ended(id);
            assert_eq!(closed.error.unwrap().kind(), ErrorKind::Lost);
            world.end();
        }
    }
}

#[test]
fn a_small_cap_delivers_everything_in_order_and_tells_of_the_rest() {
    for max_events in [1, 2, 3, 10] {
        let mut world = World::capped(max_events);
        let (_, address) = world.serve(&server(calm()));
        let mut peers: Vec<_> = (0..3).map(|_| world.raw_client(address)).collect();
        for (peer, _) in &mut peers {
            peer.send(&numbered(peer, 0..50));
        }
        let calls = Rc::new(Cell::new(0));
        let count = Rc::clone(&calls);
        world.app.hook(move |_, _| count.set(count.get() + 1));
        let mut more = false;
        world.until("all come", |world| {
            calls.set(0);
            more = world.turn(ms(5));
            assert!(calls.get() <= max_events, "{} callbacks", calls.get());
            assert!(more || world.app.messages % 50 == 0 || world.app.messages < 150);
            world.app.messages == 150
        });
        for (_, id) in &peers {
            assert_eq!(world.app.texts_of(*id), numbers(0..50));
        }
        world.end();
    }
}

#[test]
fn a_burst_does_not_keep_the_others_waiting() {
    let mut world = World::capped(10);
    let (_, address) = world.serve(&server(calm()));
    // Whoever is watched first, the loud one is not the only one that is heard.
    for loud_first in [false, true] {
        world.app.told.clear();
        let (mut one, first) = world.raw_client(address);
        let (mut other, second) = world.raw_client(address);
        let (loud, quiet, id) = if loud_first {
            (&mut one, &mut other, second)
        } else {
            (&mut other, &mut one, first)
        };
        loud.send(&numbered(loud, 0..5000));
        quiet.send(&numbered(quiet, 0..1));
        world.until("the quiet one is heard", |world| {
            !world.app.messages_of(id).is_empty()
        });
        let heard = world.app.count("message");
        assert!(heard < 100, "after {heard} messages of another");
        let before = world.app.messages - heard as u64;
        world.until("all come", |world| world.app.messages - before == 5001);
    }
    world.end();
}

#[test]
fn a_loud_connection_does_not_keep_new_ones_out() {
    let mut world = World::capped(10);
    let (_, address) = world.serve(&server(calm()));
    let (mut loud, id) = world.raw_client(address);
    let burst = numbered(&loud, 0..2000);
    let mut at = 0;
    let mut peer = Peer::connect(address);
    peer.send(peer::REQUEST);
    world.until("the new one opens", |world| {
        at += loud.try_send(&burst[at..]);
        if at == burst.len() {
            at = 0;
        }
        world.app.count("open") == 2
    });
    assert!(world.app.is_open(id));
    let heard = world.app.count("message");
    assert!(heard < 1000, "after {heard} messages of another");
    drop((loud, peer));
    world.until("all has ended", |world| world.lp.stats().connections == 0);
    world.end();
}
