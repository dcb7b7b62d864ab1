//! What becomes of messages that sends have accepted: handed to the kernel, or dropped and counted.
//!
//! Does not know: what is received, or why connections end.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use net::peer::{self, Peer};
use net::{World, calm, kind, ms};
use wsabi::{Config, ConnId, ErrorKind, MessageType, State};

/// Sends until much waits: messages small and large, whole and in fragments. How many there are, and
/// where the last frame of each ends, unmasked.
fn fill(world: &mut World, id: ConnId) -> (u64, Vec<u64>) {
    let (mut ends, mut at) = (Vec::new(), 0);
    let frame = |len: usize| len as u64 + if len < 126 { 2 } else { 10 };
    for round in 0.. {
        let mut conn = world.lp.conn(id);
        if conn.buffered() > 4 << 20 {
            return (ends.len() as u64, ends);
        }
        assert!(round < 10_000, "the backlog does not grow");
        for len in [0, 100, 70_000] {
            let _ = conn.send_binary(&vec![7; len]).unwrap();
            at += frame(len);
            ends.push(at);
        }
        for fin in [false, false, true] {
            let _ = conn
                .send_fragment(MessageType::Text, &[b'x'; 66_000], fin)
                .unwrap();
            let _ = conn.ping(b"between").unwrap();
            at += frame(66_000);
            if fin {
                ends.push(at);
            }
            at += frame(7);
        }
    }
    unreachable!()
}

/// Reads all that comes until the end, and counts whole messages.
fn messages_until_the_end(world: &mut World, peer: &mut Peer) -> u64 {
    let mut count = 0;
    world.until("the stream ends", |_| {
        count += peer
            .frames()
            .iter()
            .filter(|frame| frame.fin && frame.opcode < peer::CLOSE)
            .count() as u64;
        peer.end.is_some()
    });
    count
}

#[test]
fn accepted_is_handed_over_and_dropped() {
    for at_server in [false, true] {
        let mut world = World::new();
        let (mut peer, id) = world.meet(at_server, calm());
        let (sent, _) = fill(&mut world, id);
        peer.shutdown_write();
        let closed = world.ended(id);
        assert_eq!(kind(&closed), Some(ErrorKind::Lost));
        let dropped = closed.messages_dropped;
        assert!((1..sent).contains(&dropped), "{dropped} of {sent}");
        // The kernel goes on with what it has, and the peer gets exactly that.
        let read = messages_until_the_end(&mut world, &mut peer);
        assert_eq!(read + dropped, sent);
        world.end();
    }
}

#[test]
fn what_waits_is_dropped_when_writing_fails() {
    let mut world = World::new();
    let (peer, id) = world.meet(true, calm());
    let before = world.lp.stats().bytes_sent;
    let (sent, ends) = fill(&mut world, id);
    peer.reset();
    let closed = world.ended(id);
    let handed = world.lp.stats().bytes_sent - before;
    let whole = ends.iter().filter(|&&end| end <= handed).count() as u64;
    assert_eq!(closed.messages_dropped, sent - whole);
    world.end();
}

#[test]
fn what_is_sent_after_writing_has_failed_is_dropped() {
    for at_server in [false, true] {
        let mut world = World::new();
        let (peer, id) = world.meet(at_server, calm());
        assert!(!world.lp.conn(id).is_broken());
        peer.reset();
        for number in 0..3 {
            // Written at once, outside of a dispatch; the loop has not read of the reset.
            let _ = world.lp.conn(id).send_text("late").unwrap();
            assert!(world.lp.conn(id).is_broken(), "message {number}");
        }
        let closed = world.ended(id);
        assert_eq!(
            (kind(&closed), closed.messages_dropped),
            (Some(ErrorKind::Lost), 3)
        );
        world.end();
    }
}

#[test]
fn an_end_that_drops_messages_is_not_clean() {
    let limits = Config {
        close_timeout: ms(80),
        ..calm()
    };
    for at_server in [false, true] {
        for how in ["fin", "reset", "silence", "terminate"] {
            let mut world = World::new();
            let (mut peer, id) = world.meet(at_server, limits.clone());
            let (sent, _) = fill(&mut world, id);
            peer.send_close(1000, "mine");
            if how != "silence" {
                world.until("its Close is here", |world| {
                    world.lp.conn(id).state() == State::Closing
                });
            }
            let (mut peer, expected) = match how {
                "fin" => {
                    peer.shutdown_write();
                    (Some(peer), ErrorKind::Lost)
                }
                "reset" => {
                    peer.reset();
                    (None, ErrorKind::Lost)
                }
                "silence" => (Some(peer), ErrorKind::CloseTimeout),
                _ => {
                    world.lp.conn(id).terminate().unwrap();
                    (Some(peer), ErrorKind::Terminated)
                }
            };
            let closed = world.ended(id);
            assert_eq!((closed.code.as_u16(), &*closed.reason), (1000, "mine"));
            assert_eq!(kind(&closed), Some(expected), "{how}");
            assert!((1..sent).contains(&closed.messages_dropped));
            assert_eq!(world.lp.stats().closes_clean, 0);
            if how == "fin" {
                let read = messages_until_the_end(&mut world, peer.as_mut().unwrap());
                assert_eq!(read + closed.messages_dropped, sent);
            }
            world.end();
        }
    }
}

#[test]
fn a_clean_end_drops_nothing() {
    for at_server in [false, true] {
        let mut world = World::new();
        let (mut peer, id) = world.meet(at_server, calm());
        let (sent, _) = fill(&mut world, id);
        peer.send_close(1000, "");
        let mut read = 0;
        let mut closes = 0;
        world.until("our Close comes", |_| {
            for frame in peer.frames() {
                closes += usize::from(frame.opcode == peer::CLOSE);
                read += u64::from(frame.fin && frame.opcode < peer::CLOSE);
            }
            closes == 1
        });
        drop(peer);
        let closed = world.ended(id);
        assert!(closed.is_clean());
        assert_eq!((read, closed.messages_dropped), (sent, 0));
        world.end();
    }
}

#[test]
fn what_was_not_offered_to_the_kernel_is_offered_at_the_end() {
    for at_server in [false, true] {
        let mut world = World::new();
        let (mut peer, id) = world.meet(at_server, calm());
        world.lp.defer_writes(true).unwrap();
        let _ = world.lp.conn(id).send_text("last").unwrap();
        peer.shutdown_write();
        let closed = world.ended(id);
        assert_eq!(
            (kind(&closed), closed.messages_dropped),
            (Some(ErrorKind::Lost), 0)
        );
        assert_eq!(messages_until_the_end(&mut world, &mut peer), 1);
        world.end();
    }
}
