//! Peers that do not keep up: the backlog, its waters and its cap; and large messages, which make
//! one of every peer.
//!
//! Does not know: pausing, or how connections begin.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::cell::RefCell;
use std::rc::Rc;

use net::app::Told;
use net::peer::{self, Peer};
use net::{World, calm, client, ms, server};
use wsabi::{ClientOptions, Config, ConnId, ErrorKind, MessageType, Sent};

/// `len` bytes that differ from those of every other seed, and from place to place.
fn pattern(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

fn waters(high: u64, low: u64, cap: u64) -> Config {
    Config {
        high_water_bytes: high,
        low_water_bytes: low,
        max_backlog_bytes: cap,
        ..calm()
    }
}

/// A server's connection whose peer takes little and reads nothing.
fn slow_peer(world: &mut World, config: Config) -> (Peer, ConnId) {
    let (_, address) = world.serve(&server(config));
    world.upgraded(Peer::connect_small(address))
}

/// Sends numbered messages of 1000 bytes until `wanted` answers; gives how many were accepted.
fn fill(
    world: &mut World,
    id: ConnId,
    from: u64,
    wanted: impl Fn(&wsabi::Result<Sent>) -> bool,
) -> u64 {
    let mut number = from;
    loop {
        let before = world.lp.conn(id).buffered();
        let sent = world.lp.conn(id).send_binary(&pattern(number, 1000));
        if let Err(error) = &sent {
            assert_eq!(error.kind(), ErrorKind::Full);
            assert_eq!(world.lp.conn(id).buffered(), before, "nothing was queued");
        } else {
            number += 1;
        }
        if wanted(&sent) {
            return number;
        }
        assert!(number < 100_000, "the backlog never filled");
    }
}

#[test]
fn the_waters_and_the_cap_are_obeyed_and_drain_comes_once() {
    for (high, low, cap) in [
        (0, 0, 0),
        (1, 0, 1),
        (1, 1, 50_000),
        (100, 50, 100_000),
        (20_000, 0, 20_000),
        (1 << 20, 256 << 10, 2 << 20),
    ] {
        let mut world = World::new();
        let (mut peer, id) = slow_peer(&mut world, waters(high, low, cap));
        let above = Rc::new(RefCell::new(Vec::new()));
        let at_drain = Rc::clone(&above);
        world.app.hook(move |conn, told| {
            if matches!(told, Told::Drain(_)) {
                at_drain.borrow_mut().push(conn.buffered());
            }
        });
        let first = fill(&mut world, id, 0, |sent| !matches!(sent, Ok(Sent::Ok)));
        // Without room above high water, the first answer besides Ok may be Full.
        let above_high = world.lp.conn(id).buffered();
        assert!(
            above_high >= high && above_high > 0,
            "{above_high} with {high}"
        );
        let count = fill(&mut world, id, first, Result::is_err);
        let queued = world.lp.conn(id).buffered();
        // Every message but the one that crossed high water is within the cap, headers aside.
        assert!(
            queued <= cap.max(high + 1000) + 8 * count,
            "{queued} with {cap}"
        );
        assert_eq!(world.lp.stats().buffered_bytes, queued);
        world.turns_in(ms(10));
        assert_eq!(world.app.count("drain"), 0);
        let mut come = 0;
        world.until("everything arrives", |_| {
            for frame in peer.frames() {
                assert!(frame.payload == pattern(come, 1000), "message {come}");
                come += 1;
            }
            come == count
        });
        world.until("drain comes", |world| world.app.count("drain") > 0);
        world.turns_in(ms(10));
        let at_drain = above.borrow().clone();
        assert!(
            matches!(at_drain[..], [backlog] if backlog <= low),
            "{at_drain:?} with {low}"
        );
        assert_eq!(world.lp.conn(id).buffered(), 0);
        assert_eq!(world.lp.conn(id).send_text("again").unwrap(), Sent::Ok);
        world.end();
    }
}

#[test]
fn one_who_sends_on_drain_is_told_of_each_and_loses_nothing() {
    for max_events in [1, 4096] {
        let mut world = World::capped(max_events);
        let (_, address) = world.serve(&server(waters(150_000, 20_000, 1 << 20)));
        let (mut peer, id) = world.upgraded(Peer::connect_with(address, 64 << 10));
        let sent = Rc::new(RefCell::new((0, 0)));
        let note = Rc::clone(&sent);
        let produce = move |conn: &mut wsabi::Conn<'_>| {
            let (number, pressed) = &mut *note.borrow_mut();
            loop {
                *number += 1;
                let answer = conn.send_binary(&pattern(*number - 1, 1000)).unwrap();
                if answer == Sent::Backpressure {
                    *pressed += 1;
                    return;
                }
            }
        };
        produce(&mut world.lp.conn(id));
        world.app.hook(move |conn, told| {
            if matches!(told, Told::Drain(_)) {
                produce(conn);
            }
        });
        let mut come = 0;
        world.until("many rounds are over", |world| {
            for frame in peer.frames() {
                assert!(frame.payload == pattern(come, 1000), "message {come}");
                come += 1;
            }
            world.app.count("drain") >= 20
        });
        world.app.hook = None;
        world.until("the rest comes", |_| {
            for frame in peer.frames() {
                assert!(frame.payload == pattern(come, 1000), "message {come}");
                come += 1;
            }
            come == sent.borrow().0
        });
        world.turns_in(ms(10));
        assert_eq!(world.app.count("drain"), sent.borrow().1, "one for each");
        world.end();
    }
}

#[test]
fn below_high_water_any_size_is_accepted_and_above_it_the_cap_holds() {
    let mut world = World::new();
    let (mut peer, id) = slow_peer(&mut world, waters(1000, 100, 2000));
    let huge = pattern(1, 30 << 20);
    assert_eq!(
        world.lp.conn(id).send_binary(&huge).unwrap(),
        Sent::Backpressure
    );
    let error = world.lp.conn(id).send_text("x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Full);
    assert!(error.detail().contains("max_backlog_bytes"), "{error}");
    for refused in [
        world.lp.conn(id).send_binary(&huge),
        world.lp.conn(id).ping(b"x"),
        world
            .lp
            .conn(id)
            .send_fragment(MessageType::Text, b"x", false),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Full);
    }
    world.until("it arrives", |_| {
        peer.pump();
        peer.got.len() > huge.len()
    });
    let frames = peer.frames();
    assert!(frames.len() == 1 && frames[0].payload == huge);
    world.until("drain comes", |world| world.app.count("drain") == 1);
    // A refused fragment began no message.
    assert_eq!(world.lp.conn(id).send_text("whole").unwrap(), Sent::Ok);
    world.end();
}

#[test]
fn what_the_kernel_was_not_offered_yet_fills_no_backlog() {
    let mut world = World::new();
    let (mut peer, id) = slow_peer(&mut world, waters(1002, 0, 1002));
    world.lp.defer_writes(true).unwrap();
    for number in 0..3 {
        // Its frame has as many bytes as may wait.
        let payload = pattern(number, 998);
        assert_eq!(world.lp.conn(id).send_binary(&payload), Ok(Sent::Ok));
    }
    let mut come = 0;
    world.until("everything arrives", |_| {
        for frame in peer.frames() {
            assert!(frame.payload == pattern(come, 998), "message {come}");
            come += 1;
        }
        come == 3
    });
    assert_eq!(world.app.count("drain"), 0);
    world.end();
}

#[test]
fn a_client_has_its_waters_too() {
    let mut world = World::new();
    let (mut peer, id) = world.raw_server(&client(waters(100, 50, 100_000)));
    let count = fill(&mut world, id, 0, Result::is_err);
    let mut come = 0;
    world.until("everything arrives", |_| {
        for frame in peer.frames() {
            assert!(
                frame.masked && frame.payload == pattern(come, 1000),
                "message {come}"
            );
            come += 1;
        }
        come == count
    });
    world.until("drain comes", |world| world.app.count("drain") == 1);
    world.end();
}

/// Sends messages of these sizes from a callback of the sender, so that they share a turn, and
/// checks what the other end gets.
fn all_arrive(sizes: &[usize], high: u64, from_server: bool, outside: bool) {
    let config = waters(high, high / 2, 1 << 30);
    let mut world = World::new();
    let (_, address) = world.serve(&server(config.clone()));
    let (near, far) = world.pair(address, &client(config));
    let (sender, receiver) = if from_server {
        (far, near)
    } else {
        (near, far)
    };
    let wanted: Vec<_> = sizes
        .iter()
        .enumerate()
        .map(|(number, &size)| pattern(number as u64, size))
        .collect();
    if outside {
        for message in &wanted {
            let _ = world.lp.conn(sender).send_binary(message).unwrap();
        }
    } else {
        let messages = wanted.clone();
        let send_all = move |context: &mut wsabi::Context| {
            for message in &messages {
                let _ = context.conn(sender).send_binary(message).unwrap();
            }
        };
        world.lp.handle().post(send_all).unwrap();
    }
    world.until("all arrive", |world| {
        assert!(world.app.is_open(receiver), "{}", world.app.summary());
        world.app.messages == wanted.len() as u64
    });
    let come = world.app.messages_of(receiver);
    let same = come
        .iter()
        .zip(&wanted)
        .position(|(come, wanted)| come != wanted);
    assert_eq!(same, None, "{sizes:?} with {high}");
    assert_eq!(world.lp.stats().messages_sent, wanted.len() as u64);
    world.end();
}

#[test]
fn large_messages_arrive_intact_among_small_ones() {
    let sizes = [3, 1 << 20, 0, 125, 16 << 20, 126, 70_000, 65_535, 65_536, 1];
    for high in [1, 100, 1 << 20] {
        for from_server in [false, true] {
            for outside in [false, true] {
                all_arrive(&sizes, high, from_server, outside);
            }
        }
    }
}

#[test]
fn any_mixture_of_sizes_in_one_turn_arrives_in_order() {
    let sizes = [
        0, 10, 1000, 30_000, 65_535, 65_536, 66_000, 131_000, 700_000,
    ];
    let mut random = pattern(99, 4000).into_iter().map(usize::from);
    for round in 0..60 {
        let count = 2 + random.next().unwrap() % 12;
        let chosen: Vec<_> = (0..count)
            .map(|_| sizes[random.next().unwrap() % sizes.len()])
            .collect();
        let high = [0, 1, 100, 70_000, 1 << 20][round % 5];
        all_arrive(&chosen, high, round % 4 != 0, round % 2 == 0);
    }
}

#[test]
fn a_slow_reader_gets_large_and_small_messages_in_order() {
    for from_server in [false, true] {
        let mut world = World::new();
        let (mut peer, id) = if from_server {
            slow_peer(&mut world, calm())
        } else {
            world.raw_server(&client(calm()))
        };
        let sizes = [100, 3 << 20, 7, 200_000, 65_536, 8 << 20, 1];
        let mut come = 0;
        for (number, &size) in sizes.iter().enumerate() {
            let message = pattern(number as u64, size);
            let _ = world.lp.conn(id).send_binary(&message).unwrap();
        }
        let mut some = vec![0; 100_003];
        world.until("all arrive", |_| {
            for _ in 0..10 {
                peer.read(&mut some);
            }
            for frame in peer.frames() {
                let wanted = pattern(come, sizes[come as usize]);
                assert!(frame.payload == wanted && frame.masked != from_server);
                come += 1;
            }
            come as usize == sizes.len()
        });
        world.end();
    }
}

#[test]
fn fragments_of_any_size_make_one_message() {
    for high in [1, 1 << 20] {
        for from_server in [false, true] {
            let config = waters(high, 0, 1 << 30);
            let mut world = World::new();
            let (_, address) = world.serve(&server(config.clone()));
            let (near, far) = world.pair(address, &client(config));
            let (sender, receiver) = if from_server {
                (far, near)
            } else {
                (near, far)
            };
            let whole = pattern(5, 900_000);
            let mut rest = &whole[..];
            for size in [0, 1, 100_000, 70_000, 0, 500_000] {
                let (fragment, after) = rest.split_at(size);
                rest = after;
                let mut conn = world.lp.conn(sender);
                let _ = conn
                    .send_fragment(MessageType::Binary, fragment, false)
                    .unwrap();
                let _ = conn.ping(b"between").unwrap();
                let error = conn.send_binary(&[0; 100_000]).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::State);
                let error = conn
                    .send_fragment(MessageType::Text, b"x", true)
                    .unwrap_err();
                assert_eq!(error.kind(), ErrorKind::State);
            }
            let mut conn = world.lp.conn(sender);
            let _ = conn.send_fragment(MessageType::Binary, rest, true).unwrap();
            let _ = conn.send_binary(&whole).unwrap();
            world.until("two messages come", |world| world.app.messages == 2);
            assert!(world.app.messages_of(receiver) == [&whole, &whole]);
            assert_eq!(world.app.count("ping"), 6);
            world.end();
        }
    }
}

#[test]
fn a_flood_of_pings_from_one_who_does_not_read_takes_no_memory() {
    for blocked_before in [false, true] {
        let mut world = World::new();
        let (mut peer, id) = slow_peer(&mut world, calm());
        let large = pattern(1, 8 << 20);
        if blocked_before {
            let _ = world.lp.conn(id).send_binary(&large).unwrap();
        }
        let before = world.lp.stats().buffered_bytes;
        let mut peak = 0;
        let total = 90_000u32;
        let payload = |number: u32| {
            let mut payload = [b'.'; 125];
            payload[..4].copy_from_slice(&number.to_be_bytes());
            payload
        };
        let mut number = 0;
        let mut unsent = Vec::new();
        world.until("all pings are heard", |world| {
            while unsent.len() < 60_000 && number < total {
                unsent.extend(peer.frame(peer::PING, &payload(number)));
                number += 1;
            }
            let taken = peer.try_send(&unsent);
            unsent.drain(..taken);
            peak = peak.max(world.lp.stats().buffered_bytes);
            world.app.count("ping") == total as usize
        });
        // What one dispatch may add before it writes, and no more.
        assert!(peak - before < 1 << 20, "{peak} after {before}");
        let mut pongs = Vec::new();
        let mut messages = 0;
        world.until("the last pong comes", |_| {
            for frame in peer.frames() {
                if frame.opcode == peer::PONG {
                    pongs.push(u32::from_be_bytes(*frame.payload.first_chunk().unwrap()));
                } else {
                    assert!(frame.payload == large);
                    messages += 1;
                }
            }
            pongs.last() == Some(&(total - 1))
        });
        assert_eq!(messages, usize::from(blocked_before));
        assert!(pongs.is_sorted_by(|one, next| one < next));
        if blocked_before {
            assert_eq!(pongs.len(), 1, "only the latest is answered");
        }
        world.end();
    }
}

#[test]
fn an_echo_to_one_who_does_not_read_stays_within_the_cap() {
    let mut world = World::new();
    world.app.echo = true;
    let cap = 300_000;
    let (mut peer, id) = slow_peer(&mut world, waters(50_000, 10_000, cap));
    let message = peer.frame(peer::BINARY, &pattern(1, 5000));
    let mut peak = 0;
    let mut at = 0;
    world.until("much is heard", |world| {
        at += peer.try_send(&message[at..]);
        if at == message.len() {
            at = 0;
        }
        peak = peak.max(world.lp.stats().buffered_bytes);
        world.app.messages >= 1500
    });
    assert!(peak <= cap + 10, "{peak}");
    assert!(world.app.is_open(id));
    world.end();
}

#[test]
fn sending_to_a_peer_that_is_gone_ends_in_one_on_close() {
    for (size, before) in [
        (10, 0),
        (1 << 20, 0),
        (8 << 20, 0),
        (10, 8 << 20),
        (1 << 20, 8 << 20),
    ] {
        for at_server in [false, true] {
            let mut world = World::new();
            let (peer, id) = if at_server {
                slow_peer(&mut world, calm())
            } else {
                world.raw_server(&client(calm()))
            };
            if before > 0 {
                let _ = world.lp.conn(id).send_binary(&vec![0; before]).unwrap();
            }
            peer.reset();
            // Whatever the answers are: the transport fails some of these.
            for _ in 0..20 {
                let _ = world.lp.conn(id).send_binary(&vec![0; size]);
            }
            let closed = world.ended(id);
            assert_eq!(closed.error.unwrap().kind(), ErrorKind::Lost);
            world.end();
        }
    }
}

#[test]
fn flush_writes_at_once_and_deferred_writes_wait() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let (mut peer, id) = world.raw_client(address);
    world.app.hook(|conn, told| {
        if matches!(told, Told::Message(..)) {
            let _ = conn.send_text("answer").unwrap();
            assert!(conn.buffered() > 0, "written at the end of the turn");
            conn.flush().unwrap();
            assert_eq!(conn.buffered(), 0);
        }
    });
    peer.send_frame(peer::TEXT, b"question");
    world.until("the answer comes", |_| !peer.frames().is_empty());

    let _ = world.lp.conn(id).send_text("outside").unwrap();
    assert_eq!(world.lp.conn(id).buffered(), 0, "written at once");
    world.lp.defer_writes(true).unwrap();
    let before = world.lp.stats().bytes_sent;
    for _ in 0..3 {
        let _ = world.lp.conn(id).send_text("deferred").unwrap();
    }
    assert_eq!(world.lp.stats().bytes_sent, before);
    assert_eq!(world.lp.conn(id).buffered(), 30);
    world.lp.flush_all().unwrap();
    assert_eq!(world.lp.stats().bytes_sent, before + 30);
    let _ = world.lp.conn(id).send_text("deferred").unwrap();
    world.turn(ms(0));
    assert_eq!(world.lp.conn(id).buffered(), 0, "a dispatch writes too");
    let _ = world.lp.conn(id).send_text("deferred").unwrap();
    world.lp.defer_writes(false).unwrap();
    assert_eq!(world.lp.conn(id).buffered(), 0);
    let mut come = 0;
    world.until("all arrive", |_| {
        come += peer.frames().len();
        come == 6
    });
    world.end();
}

#[test]
fn a_full_connection_does_not_make_the_loop_spin() {
    let mut world = World::new();
    let (_peer, id) = slow_peer(&mut world, calm());
    let _ = world.lp.conn(id).send_binary(&vec![0; 8 << 20]).unwrap();
    world.turns_in(ms(50));
    let turns = world.turns_in(ms(120));
    assert!(turns < 10, "{turns} turns for a peer that does nothing");
    let (near, _) = {
        let (_, address) = world.serve(&server(calm()));
        world.pair(address, &ClientOptions::default())
    };
    assert!(world.app.is_open(near) && world.app.is_open(id));
    world.end();
}
