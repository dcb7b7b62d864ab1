//! How connections end: closing handshakes, failures, losses, and peers that stay away.
//!
//! Does not know: opening handshakes, or servers that stop.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use net::app::Told;
use net::peer::{self, End, Peer};
use net::{World, calm, client, kind, ms, server};
use wsabi::{Config, ErrorKind, Sent, State};

#[test]
fn codes_and_reasons_go_both_ways() {
    for (code, reason) in [(Some(1000), "bye"), (Some(4999), "grüße"), (None, "")] {
        for from_server in [false, true] {
            let mut world = World::new();
            let (_, address) = world.serve(&server(calm()));
            let (near, far) = world.pair(address, &client(calm()));
            let (one, other) = if from_server {
                (far, near)
            } else {
                (near, far)
            };
            world.lp.conn(one).close(code, reason).unwrap();
            assert_eq!(world.lp.conn(one).state(), State::Closing);
            let error = world.lp.conn(one).close(code, reason).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed);
            let error = world.lp.conn(one).send_text("late").unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed);
            let told = world.ended(other);
            assert_eq!(told.code.as_u16(), code.unwrap_or(1005));
            assert_eq!((&*told.reason, &told.error), (reason, &None));
            let answer = world.ended(one);
            assert_eq!((answer.code, &*answer.reason), (told.code, ""));
            assert!(answer.is_clean());
            world.end();
        }
    }
}

#[test]
fn what_cannot_be_sent_in_a_close_is_refused_and_changes_nothing() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let (near, _) = world.pair(address, &client(calm()));
    let long = "x".repeat(124);
    for (code, reason) in [
        (Some(0), ""),
        (Some(999), ""),
        (Some(1004), ""),
        (Some(1005), ""),
        (Some(1006), ""),
        (Some(1015), ""),
        (Some(5000), ""),
        (None, "why"),
        (Some(1000), &*long),
    ] {
        let error = world.lp.conn(near).close(code, reason).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid, "{code:?} {reason:?}");
    }
    assert_eq!(world.lp.conn(near).state(), State::Open);
    let _ = world.lp.conn(near).send_text("still open").unwrap();
    world.until("it arrives", |world| world.app.messages == 1);
    world.end();
}

#[test]
fn both_may_close_at_once() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let (near, far) = world.pair(address, &client(calm()));
    world.lp.conn(near).close(Some(3001), "near").unwrap();
    world.lp.conn(far).close(Some(3002), "far").unwrap();
    let (at_near, at_far) = (world.ended(near), world.ended(far));
    assert_eq!((at_near.code.as_u16(), &*at_near.reason), (3002, "far"));
    assert_eq!((at_far.code.as_u16(), &*at_far.reason), (3001, "near"));
    assert!(at_near.is_clean() && at_far.is_clean());
    assert_eq!(world.lp.stats().closes_clean, 2);
    world.end();
}

#[test]
fn messages_come_until_the_peers_close_and_none_after() {
    for at_server in [false, true] {
        let mut world = World::new();
        let (mut peer, id) = world.meet(at_server, calm());
        world.lp.conn(id).close(Some(1000), "enough").unwrap();
        let sent = world.frames(&mut peer, 1);
        assert_eq!(sent[0].payload, peer::close_payload(1000, "enough"));
        assert_eq!(sent[0].masked, !at_server);
        peer.send_frame(peer::TEXT, b"one");
        peer.send_frame(peer::PING, b"no pong after Close");
        world.until("one comes", |world| world.app.messages == 1);
        let mut last = peer.frame(peer::TEXT, b"two");
        last.extend(peer.frame(peer::CLOSE, &peer::close_payload(1000, "")));
        last.extend(peer.frame(peer::TEXT, b"three"));
        peer.send(&last);
        peer.shutdown_write();
        let closed = world.ended(id);
        assert!(closed.is_clean());
        assert_eq!(world.app.texts_of(id), ["one", "two"]);
        assert_eq!(peer.frames(), [], "nothing follows our Close");
        world.end();
    }
}

#[test]
fn the_server_closes_the_transport_first() {
    let mut world = World::new();
    let (mut peer, id) = world.meet(true, calm());
    peer.send_close(1000, "");
    world.until("the stream ends", |_| {
        peer.pump();
        peer.end.is_some()
    });
    assert_eq!(peer.end, Some(End::Fin));
    assert_eq!(world.app.closed(id), None, "the client's end is still open");
    drop(peer);
    assert!(world.ended(id).is_clean());
    world.end();

    let mut world = World::new();
    let (mut peer, id) = world.meet(false, calm());
    peer.send_close(1000, "");
    let sent = world.frames(&mut peer, 1);
    assert_eq!(sent[0].payload, peer::close_payload(1000, ""));
    world.turns_in(ms(30));
    assert_eq!((peer.end, world.app.closed(id)), (None, None));
    drop(peer);
    assert!(world.ended(id).is_clean());
    world.end();
}

#[test]
fn a_peer_that_goes_without_close_is_lost() {
    for at_server in [false, true] {
        for reset in [false, true] {
            let mut world = World::new();
            let (mut peer, id) = world.meet(at_server, calm());
            peer.send_frame(peer::TEXT, b"last words");
            world.until("they come", |world| world.app.messages == 1);
            if reset {
                peer.reset();
            } else {
                drop(peer);
            }
            let closed = world.ended(id);
            assert_eq!((closed.code.as_u16(), &*closed.reason), (1006, ""));
            assert_eq!(kind(&closed), Some(ErrorKind::Lost));
            assert_eq!(world.lp.stats().closes_lost, 1);
            world.end();
        }
    }
}

#[test]
fn what_came_before_a_fin_is_delivered_before_the_end() {
    for max_events in [1, 2, 4096] {
        let mut world = World::capped(max_events);
        let (mut peer, id) = world.meet(true, calm());
        let burst: Vec<u8> = (0..100u32)
            .flat_map(|number| peer.frame(peer::TEXT, number.to_string().as_bytes()))
            .collect();
        peer.send(&burst);
        drop(peer);
        let closed = world.ended(id);
        assert_eq!(kind(&closed), Some(ErrorKind::Lost));
        let expected: Vec<String> = (0..100u32).map(|number| number.to_string()).collect();
        assert_eq!(world.app.texts_of(id), expected);
        world.end();
    }
}

#[test]
fn a_broken_rule_has_its_code_on_the_wire_and_its_error_here() {
    let limits = Config {
        max_message_bytes: 1000,
        max_fragments: 2,
        ..calm()
    };
    let cases: [(&[u8], u8, bool, u16, ErrorKind); 7] = [
        (b"x", 3, true, 1002, ErrorKind::Protocol),
        (b"x", peer::CONTINUATION, true, 1002, ErrorKind::Protocol),
        (b"x", peer::PING, false, 1002, ErrorKind::Protocol),
        (b"\x03", peer::CLOSE, true, 1002, ErrorKind::Protocol),
        (b"\x03\xee", peer::CLOSE, true, 1002, ErrorKind::Protocol),
        (b"\xff", peer::TEXT, true, 1007, ErrorKind::InvalidText),
        (
            &[b'x'; 1001],
            peer::TEXT,
            true,
            1009,
            ErrorKind::MessageTooBig,
        ),
    ];
    for (payload, opcode, fin, code, expected) in cases {
        for at_server in [false, true] {
            let mut world = World::new();
            let (mut peer, id) = world.meet(at_server, limits.clone());
            let mut bytes = peer.frame(peer::TEXT, b"good");
            bytes.extend(peer.fragment(fin, opcode, payload));
            bytes.extend(peer.frame(peer::TEXT, b"never looked at"));
            peer.send(&bytes);
            let sent = world.frames(&mut peer, 1);
            assert_eq!(sent.len(), 1);
            assert_eq!((sent[0].opcode, sent[0].masked), (peer::CLOSE, !at_server));
            assert_eq!(sent[0].payload[..2], code.to_be_bytes());
            assert_eq!(world.lp.conn(id).state(), State::Closing);
            drop(peer);
            let closed = world.ended(id);
            assert_eq!(
                (closed.code.as_u16(), kind(&closed)),
                (1006, Some(expected))
            );
            assert_eq!(world.app.texts_of(id), ["good"]);
            assert_eq!(world.lp.stats().closes_protocol, 1);
            world.end();
        }
    }
}

#[test]
fn masking_is_demanded_of_clients_and_forbidden_to_servers() {
    for at_server in [false, true] {
        let mut world = World::new();
        let (mut peer, id) = world.meet(at_server, calm());
        let wrong = if at_server {
            b"\x81\x01x".to_vec()
        } else {
            b"\x81\x81\0\0\0\0x".to_vec()
        };
        peer.send(&wrong);
        let sent = world.frames(&mut peer, 1);
        assert_eq!(sent[0].payload[..2], 1002u16.to_be_bytes());
        drop(peer);
        assert_eq!(kind(&world.ended(id)), Some(ErrorKind::Protocol));
        world.end();
    }
}

#[test]
fn after_a_failure_nothing_of_the_peer_is_heard_however_much_it_sends() {
    for at_server in [false, true] {
        let mut world = World::new();
        let (mut peer, id) = world.meet(at_server, calm());
        peer.send(&[0xff; 2]);
        let sent = world.frames(&mut peer, 1);
        assert_eq!(sent[0].payload[..2], 1002u16.to_be_bytes());
        for round in 0..5 {
            let mut more = peer.frame(peer::TEXT, b"forged");
            more.extend(peer.frame(peer::PING, b"ping"));
            more.extend(peer.frame(peer::CLOSE, &peer::close_payload(1000, "all is well")));
            peer.send(&more);
            let before = world.lp.stats().bytes_received;
            world.until("it is read", |world| {
                world.lp.stats().bytes_received >= before + more.len() as u64
            });
            assert_eq!(world.app.names(id), ["open"], "round {round}");
        }
        drop(peer);
        let closed = world.ended(id);
        assert_eq!((closed.code.as_u16(), &*closed.reason), (1006, ""));
        assert_eq!(kind(&closed), Some(ErrorKind::Protocol));
        world.end();
    }
}

#[test]
fn after_a_failure_no_callback_comes_but_on_close() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let (mut peer, id) = world.upgraded(Peer::connect_with(address, 1 << 20));
    let sent = world
        .lp
        .conn(id)
        .send_binary(&vec![b'x'; 12 << 20])
        .unwrap();
    assert_eq!(sent, Sent::Backpressure);
    peer.send(&[0xff; 2]);
    world.until("it has failed", |world| {
        world.lp.conn(id).state() == State::Closing
    });
    for answer in [world.lp.conn(id).pause(), world.lp.conn(id).resume()] {
        // They have no effect: what comes is discarded until the peer has closed.
        answer.unwrap();
    }
    let error = world.lp.conn(id).send_text("x").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    let sent = world.frames(&mut peer, 2);
    assert_eq!(sent[1].payload[..2], 1002u16.to_be_bytes());
    drop(peer);
    assert_eq!(kind(&world.ended(id)), Some(ErrorKind::Protocol));
    assert_eq!(world.app.names(id), ["open", "close"]);
    world.end();
}

#[test]
fn a_connection_can_be_terminated_in_every_phase_of_its_end() {
    for phase in 0..3 {
        for at_server in [false, true] {
            let mut world = World::new();
            let (mut peer, id) = world.meet(at_server, calm());
            match phase {
                0 => world.lp.conn(id).close(None, "").unwrap(),
                1 => peer.send(&[0xff; 2]),
                _ => peer.send_close(1000, "mine"),
            }
            world.until("the end begins", |world| {
                world.lp.conn(id).state() == State::Closing
            });
            world.lp.conn(id).terminate().unwrap();
            let closed = world.ended(id);
            let expected = match phase {
                0 => (1006, Some(ErrorKind::Terminated)),
                1 => (1006, Some(ErrorKind::Protocol)),
                // Both have said Close: nothing is missing.
                _ => (1000, None),
            };
            assert_eq!((closed.code.as_u16(), kind(&closed)), expected);
            world.end();
        }
    }
}

#[test]
fn a_failed_peer_gets_to_see_the_reason_while_it_keeps_sending() {
    let mut world = World::new();
    let (mut peer, id) = world.meet(true, calm());
    let mut bytes = peer.frame(peer::TEXT, b"\xff\xff");
    bytes.resize(300_000, b'z');
    let mut at = 0;
    // It reads nothing before it has sent megabytes, as a client that uploads does.
    for _ in 0..40 {
        at += peer.try_send(&bytes[at..]);
        if at == bytes.len() {
            at = 100_000;
        }
        world.turn(ms(1));
    }
    let sent = world.frames(&mut peer, 1);
    assert_eq!(sent[0].opcode, peer::CLOSE);
    assert_eq!(sent[0].payload[..2], 1007u16.to_be_bytes());
    world.until("our direction ends", |_| {
        peer.pump();
        peer.end.is_some()
    });
    assert_eq!(peer.end, Some(End::Fin), "no reset overtakes the Close");
    drop(peer);
    assert_eq!(kind(&world.ended(id)), Some(ErrorKind::InvalidText));
    world.end();
}

#[test]
fn a_peer_that_never_finishes_closing_is_reset_in_time() {
    let limits = Config {
        close_timeout: ms(80),
        ..calm()
    };
    for at_server in [false, true] {
        // Our Close is not answered, while messages keep coming.
        let mut world = World::new();
        let (mut peer, id) = world.meet(at_server, limits.clone());
        world.lp.conn(id).close(Some(1000), "").unwrap();
        world.until("it ends", |world| {
            let message = peer.frame(peer::TEXT, b"still here");
            peer.try_send(&message);
            world.app.closed(id).is_some()
        });
        let closed = world.ended(id);
        assert_eq!(
            (closed.code.as_u16(), kind(&closed)),
            (1006, Some(ErrorKind::CloseTimeout))
        );
        assert_eq!(world.lp.stats().closes_timeout, 1);
        world.until("the peer hears of it", |_| {
            peer.pump();
            peer.end.is_some()
        });
        world.end();

        // Close frames are exchanged, and the peer keeps the transport.
        let mut world = World::new();
        let (mut peer, id) = world.meet(at_server, limits.clone());
        peer.send_close(1000, "mine");
        let closed = world.ended(id);
        assert_eq!((closed.code.as_u16(), &*closed.reason), (1000, "mine"));
        assert!(closed.is_clean());
        world.end();

        // Failed, and the peer neither closes nor stops sending.
        let mut world = World::new();
        let (mut peer, id) = world.meet(at_server, limits.clone());
        peer.send(&[0xff; 2]);
        world.until("it ends", |world| {
            peer.try_send(&[0xff; 100]);
            world.app.closed(id).is_some()
        });
        assert_eq!(kind(&world.ended(id)), Some(ErrorKind::Protocol));
        world.end();
    }
}

#[test]
fn close_waits_for_the_backlog_while_there_is_progress() {
    let mut world = World::new();
    let timeout = ms(600);
    let (_, address) = world.serve(&server(Config {
        close_timeout: timeout,
        ..calm()
    }));
    let (mut peer, id) = world.upgraded(Peer::connect_with(address, 1 << 20));
    let payload = vec![b'x'; 16 << 20];
    let sent = world.lp.conn(id).send_binary(&payload).unwrap();
    assert_eq!(sent, Sent::Backpressure);
    world
        .lp
        .conn(id)
        .close(Some(1000), "after all that")
        .unwrap();
    // As long as our Close is not in the kernel's hands, the reader takes its time: more than
    // close_timeout in all.
    let mut some = vec![0; 64 << 10];
    let mut pauses = 0;
    while world.lp.stats().buffered_bytes > 0 {
        let wanted = peer.got.len() + (1 << 20);
        world.until("some more comes", |world| {
            while peer.got.len() < wanted && peer.read(&mut some) > 0 {}
            peer.got.len() >= wanted || world.lp.stats().buffered_bytes == 0
        });
        world.turns_in(timeout / 4);
        pauses += 1;
    }
    assert!(pauses > 5, "the backlog was too small for this test");
    let all = world.frames(&mut peer, 2);
    assert!(all[0].payload == payload);
    assert_eq!(all[1].payload, peer::close_payload(1000, "after all that"));
    peer.send_close(1000, "");
    drop(peer);
    assert!(world.ended(id).is_clean());
    world.end();
}

#[test]
fn a_peer_that_takes_nothing_is_reset_though_our_close_never_left() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(Config {
        close_timeout: ms(80),
        ..calm()
    }));
    let (_peer, id) = world.upgraded(Peer::connect_small(address));
    let payload = vec![b'x'; 8 << 20];
    let sent = world.lp.conn(id).send_binary(&payload).unwrap();
    assert_eq!(sent, Sent::Backpressure);
    world.lp.conn(id).close(Some(1000), "").unwrap();
    assert_eq!(kind(&world.ended(id)), Some(ErrorKind::CloseTimeout));
    assert_eq!(world.app.names(id), ["open", "close"]);
    world.end();
}

#[test]
fn terminate_resets_and_only_on_close_follows() {
    for at_server in [false, true] {
        let mut world = World::new();
        let (mut peer, id) = world.meet(at_server, calm());
        let many: Vec<u8> = (0..10).flat_map(|_| peer.frame(peer::TEXT, b"x")).collect();
        peer.send(&many);
        world.app.hook(|conn, told| {
            if matches!(told, Told::Message(..)) {
                conn.terminate().unwrap();
                assert_eq!(conn.state(), State::Closed);
                assert_eq!(conn.terminate().unwrap_err().kind(), ErrorKind::Closed);
                assert_eq!(conn.send_text("x").unwrap_err().kind(), ErrorKind::Closed);
            }
        });
        let closed = world.ended(id);
        assert_eq!(
            (closed.code.as_u16(), kind(&closed)),
            (1006, Some(ErrorKind::Terminated))
        );
        assert_eq!(world.app.names(id), ["open", "message", "close"]);
        assert_eq!(world.lp.stats().closes_local, 1);
        world.until("the peer is reset", |_| {
            peer.pump();
            peer.end == Some(End::Reset)
        });
        world.end();
    }
}
