//! Replies made of the very bytes that were received, which the loop may write from where they
//! lie: in order with everything around them, whatever else is done meanwhile.
//!
//! Does not know: when the loop copies and when it does not.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::cell::RefCell;
use std::rc::Rc;

use net::app::Told;
use net::peer::{self, Frame, Peer};
use net::{PATIENCE, World, calm, client, ms, server};
use wsabi::{Config, Conn, ConnId, ErrorKind, Message, Sent};

/// Message `number` of `len` bytes, of which no two neighbours are alike. It begins as a frame
/// would, which must not matter to anybody.
fn payload(number: usize, len: usize) -> Vec<u8> {
    let frame = [0x82, 0x01, b'x', 0xff, 0xff];
    let rest = (frame.len()..).map(|place| (place * 31 + number * 7 + place / 251) as u8);
    frame.into_iter().chain(rest).take(len).collect()
}

/// Deterministic choices.
struct Dice(u32);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 8) as usize % sides
    }
}

fn waters(high: u64) -> Config {
    Config {
        high_water_bytes: high,
        low_water_bytes: high / 2,
        max_backlog_bytes: 1 << 30,
        ..calm()
    }
}

/// What is sent for a message: the kinds of replies whose bytes lie in the input, and others.
fn reply(conn: &mut Conn<'_>, data: &[u8], kind: usize) -> Vec<(u8, Vec<u8>)> {
    let middle = &data[data.len() / 4..];
    let mut expected = Vec::new();
    let mut send = |conn: &mut Conn<'_>, data: &[u8]| {
        let _ = conn.send_binary(data).unwrap();
        expected.push((peer::BINARY, data.to_vec()));
    };
    match kind {
        0 => send(conn, data),
        1 => {
            send(conn, b"before");
            send(conn, data);
            send(conn, b"after");
        }
        2 => {
            send(conn, data);
            send(conn, middle);
            conn.flush().unwrap();
            send(conn, data);
        }
        3 => {
            // Not the received bytes, of a size that would be written directly.
            send(conn, &vec![b'o'; 100_000]);
            send(conn, data);
            send(conn, &vec![b'p'; 70_000]);
            send(conn, middle);
        }
        4 => {
            send(conn, data);
            let _ = conn.ping(b"between").unwrap();
            expected.push((peer::PING, b"between".to_vec()));
        }
        _ => {
            conn.flush().unwrap();
            conn.pause().unwrap();
            send(conn, data);
            conn.resume().unwrap();
            send(conn, data);
        }
    }
    expected
}

/// Lets a raw client send `sizes` in one go, and read as slowly as `chunk` bytes a turn.
fn echoes(sizes: &[usize], high: u64, max_events: u32, chunk: usize, dice: &mut Dice) {
    let mut world = World::capped(max_events);
    let (_, address) = world.serve(&server(waters(high)));
    let peer = Peer::connect_with(address, 2 * chunk);
    let (mut peer, _) = world.upgraded(peer);
    let expected = Rc::new(RefCell::new(Vec::new()));
    let note = Rc::clone(&expected);
    let kinds: Vec<_> = sizes.iter().map(|_| dice.roll(6)).collect();
    let mut next = kinds.clone().into_iter();
    world.app.raw_message = Some(Box::new(move |conn, message| {
        let sent = reply(conn, message.as_bytes(), next.next().unwrap());
        note.borrow_mut().extend(sent);
    }));
    let mut bytes: Vec<u8> = Vec::new();
    for (number, &size) in sizes.iter().enumerate() {
        bytes.extend(peer.frame(peer::BINARY, &payload(number, size)));
    }
    let mut at = 0;
    let mut come = Vec::new();
    let mut some = vec![0; chunk];
    world.until("all replies come", |world| {
        at += peer.try_send(&bytes[at..]);
        peer.read(&mut some);
        come.extend(take_frames(&mut peer));
        world.app.messages == sizes.len() as u64 && come.len() == expected.borrow().len()
    });
    for (number, (frame, (opcode, payload))) in come.iter().zip(&*expected.borrow()).enumerate() {
        let same = frame.fin && frame.opcode == *opcode && frame.payload == *payload;
        assert!(same, "reply {number} of {sizes:?} by {kinds:?} with {high}");
    }
    world.end();
}

/// The frames that have come, without reading more.
fn take_frames(peer: &mut Peer) -> Vec<Frame> {
    let end = peer.end.replace(peer::End::Fin);
    let frames = peer.frames();
    peer.end = end;
    frames
}

#[test]
fn replies_of_any_kind_and_size_come_in_order() {
    let sizes = [
        0, 1, 4095, 4096, 5000, 20_000, 65_535, 65_536, 90_000, 200_000,
    ];
    let mut dice = Dice(1);
    for round in 0..120 {
        let count = 1 + dice.roll(9);
        let chosen: Vec<_> = (0..count).map(|_| sizes[dice.roll(sizes.len())]).collect();
        let high = [0, 1, 100, 6000, 70_000, 1 << 20][round % 6];
        let max_events = [1, 3, 4096][dice.roll(3)];
        echoes(&chosen, high, max_events, 1 << 20, &mut dice);
    }
}

#[test]
fn more_replies_than_one_write_has_parts_for_come_in_order() {
    let mut dice = Dice(2);
    for high in [1, 100_000, 1 << 20] {
        echoes(&[4096; 300], high, 4096, 1 << 20, &mut dice);
    }
}

#[test]
fn a_slow_reader_gets_the_same() {
    let mut dice = Dice(3);
    for high in [1, 6000, 1 << 20] {
        let sizes: Vec<_> = (0..120).map(|_| 4000 + dice.roll(50_000)).collect();
        echoes(&sizes, high, 4096, 90_001, &mut dice);
    }
}

fn met(world: &mut World, config: Config) -> (Peer, ConnId, wsabi::ServerId) {
    let (server, address) = world.serve(&server(config));
    let (peer, id) = world.raw_client(address);
    (peer, id, server)
}

#[test]
fn close_after_a_reply_comes_after_it_and_terminate_drops_it() {
    for way in 0..3 {
        let mut world = World::new();
        let (mut peer, id, stopped) = met(&mut world, calm());
        world.app.raw_message = Some(Box::new(move |conn, message| {
            let _ = conn.send_binary(message.as_bytes()).unwrap();
            match way {
                0 => conn.close(Some(1000), "done").unwrap(),
                1 => conn.context().stop_server(stopped, PATIENCE).unwrap(),
                _ => conn.terminate().unwrap(),
            }
        }));
        let large = payload(1, 50_000);
        peer.send_frame(peer::BINARY, &large);
        let mut come = Vec::new();
        world.until("the end comes", |_| {
            come.extend(peer.frames());
            come.iter().any(|frame| frame.opcode == peer::CLOSE) || peer.end.is_some()
        });
        if way == 2 {
            assert_eq!(world.ended(id).error.unwrap().kind(), ErrorKind::Terminated);
            assert_eq!(come, []);
        } else {
            assert_eq!(come.len(), 2);
            assert!(come[0].payload == large);
            peer.send_close(1000, "");
            drop(peer);
            assert!(world.ended(id).is_clean());
        }
        world.end();
    }
}

#[test]
fn a_reply_before_a_broken_rule_still_goes_out() {
    let mut world = World::new();
    world.app.echo = true;
    let (mut peer, id, _) = met(&mut world, calm());
    let large = payload(1, 50_000);
    let mut bytes = peer.frame(peer::BINARY, &large);
    bytes.extend([0xff; 2]);
    peer.send(&bytes);
    let mut come = Vec::new();
    world.until("reply and Close come", |_| {
        come.extend(peer.frames());
        come.len() == 2
    });
    assert!(come[0].payload == large);
    assert_eq!(come[1].payload[..2], 1002u16.to_be_bytes());
    drop(peer);
    assert_eq!(world.ended(id).error.unwrap().kind(), ErrorKind::Protocol);
    world.end();
}

#[test]
fn received_bytes_can_go_to_another_connection() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let (mut one, _) = world.raw_client(address);
    let (mut other, to) = world.raw_client(address);
    let forward = move |conn: &mut Conn<'_>, message: Message<'_>| {
        let data = message.as_bytes();
        let _ = conn.context().conn(to).send_binary(data).unwrap();
        let _ = conn.send_binary(data).unwrap();
        let _ = conn.context().conn(to).send_binary(&data[1..]).unwrap();
    };
    world.app.raw_message = Some(Box::new(forward));
    let sizes = [5000, 70_000, 100];
    for (number, &size) in sizes.iter().enumerate() {
        one.send_frame(peer::BINARY, &payload(number, size));
    }
    let (mut at_one, mut at_other) = (Vec::new(), Vec::new());
    world.until("all come", |_| {
        at_one.extend(one.frames());
        at_other.extend(other.frames());
        at_one.len() == 3 && at_other.len() == 6
    });
    for (number, &size) in sizes.iter().enumerate() {
        let wanted = payload(number, size);
        assert!(at_one[number].payload == wanted);
        assert!(at_other[2 * number].payload == wanted);
        assert!(at_other[2 * number + 1].payload == wanted[1..]);
    }
    world.end();
}

#[test]
fn a_client_can_send_back_what_it_got() {
    for high in [1, 1 << 20] {
        let mut world = World::new();
        let (mut peer, _) = world.raw_server(&client(waters(high)));
        world.app.raw_message = Some(Box::new(|conn, message| {
            let _ = conn.send_text("before").unwrap();
            let _ = conn.send_binary(message.as_bytes()).unwrap();
        }));
        let sizes = [4096, 66_000, 5, 150_000];
        for (number, &size) in sizes.iter().enumerate() {
            peer.send_frame(peer::BINARY, &payload(number, size));
        }
        let mut come = Vec::new();
        world.until("all come", |_| {
            come.extend(peer.frames());
            come.len() == 2 * sizes.len()
        });
        for (number, &size) in sizes.iter().enumerate() {
            assert!(come[2 * number + 1].payload == payload(number, size));
        }
        assert!(come.iter().all(|frame| frame.masked));
        world.end();
    }
}

#[test]
fn backpressure_of_replies_is_told_and_drains_once_each() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(waters(60_000)));
    let (mut peer, _) = world.upgraded(Peer::connect_small(address));
    let pressed = Rc::new(RefCell::new(0));
    let note = Rc::clone(&pressed);
    // What every echo does: not to read while its replies are not taken.
    world.app.raw_message = Some(Box::new(move |conn, message| {
        if conn.send_binary(message.as_bytes()).unwrap() == Sent::Backpressure {
            *note.borrow_mut() += 1;
            conn.pause().unwrap();
        }
    }));
    world.app.hook(|conn, told| {
        if matches!(told, Told::Drain(_)) {
            conn.resume().unwrap();
        }
    });
    let bytes: Vec<u8> = (0..1000)
        .flat_map(|number| peer.frame(peer::BINARY, &payload(number, 20_000)))
        .collect();
    let mut at = 0;
    let mut peak = 0;
    let mut come = 0;
    let mut idle = 0;
    world.until("all echoes come", |world| {
        let taken = peer.try_send(&bytes[at..]);
        at += taken;
        peak = peak.max(world.lp.stats().buffered_bytes);
        // The peer reads only when it cannot send.
        idle = if taken == 0 { idle + 1 } else { 0 };
        if idle > 3 || at == bytes.len() {
            for frame in peer.frames() {
                assert!(frame.payload == payload(come, 20_000), "echo {come}");
                come += 1;
            }
        }
        come == 1000
    });
    assert!(peak < 60_000 + (300 << 10), "{peak}");
    let pressed = *pressed.borrow();
    assert!(pressed > 0);
    world.turns_in(ms(10));
    assert_eq!(world.app.count("drain"), pressed);
    world.end();
}
