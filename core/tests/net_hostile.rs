//! Requests that are late, too large, in pieces, malformed or from the wrong place, and those who
//! only connect.
//!
//! Does not know: what an application answers to valid ones.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::net::SocketAddr;

use net::app::Told;
use net::peer::{self, End, Peer};
use net::{PATIENCE, World, calm, ms, server};
use wsabi::{Answer, Config, ErrorKind, OriginPolicy, ServerOptions, ServerPolicy};

/// Waits until the server has closed its direction; gives the status it answered, and all of it.
fn answer(world: &mut World, peer: &mut Peer) -> (String, String) {
    world.until("the server has answered and closed", |_| {
        peer.pump();
        peer.end.is_some()
    });
    assert_eq!(
        peer.end,
        Some(End::Fin),
        "a reset could overtake the answer"
    );
    let text = String::from_utf8(std::mem::take(&mut peer.got)).unwrap();
    let status = text.split(' ').nth(1).unwrap_or_default().to_owned();
    (status, text)
}

fn with_header(line: &str) -> Vec<u8> {
    let request = std::str::from_utf8(peer::REQUEST).unwrap();
    request
        .replacen("Host: test\r\n", &format!("Host: test\r\n{line}\r\n"), 1)
        .into_bytes()
}

fn replaced(from: &str, to: &str) -> Vec<u8> {
    let request = std::str::from_utf8(peer::REQUEST).unwrap();
    assert!(request.contains(from));
    request.replacen(from, to, 1).into_bytes()
}

fn errors(world: &World) -> Vec<ErrorKind> {
    world
        .app
        .errors()
        .iter()
        .map(|error| error.kind())
        .collect()
}

/// Requests to be refused, with the status and what the server is told.
fn bad_requests() -> Vec<(Vec<u8>, &'static str, ErrorKind)> {
    let valid = std::str::from_utf8(peer::REQUEST).unwrap();
    vec![
        (
            b"\x16\x03\x01\x02\x00\x01".to_vec(),
            "400",
            ErrorKind::Handshake,
        ),
        (b"hello\r\n\r\n".to_vec(), "400", ErrorKind::Handshake),
        (
            replaced("HTTP/1.1", "HTTP/1.0"),
            "400",
            ErrorKind::Handshake,
        ),
        (replaced("GET", "POST"), "405", ErrorKind::Handshake),
        (replaced("Host: test\r\n", ""), "400", ErrorKind::Handshake),
        (with_header("Host: other"), "400", ErrorKind::Handshake),
        (
            replaced("Upgrade: websocket\r\n", ""),
            "400",
            ErrorKind::Handshake,
        ),
        (
            replaced("Connection: Upgrade\r\n", ""),
            "400",
            ErrorKind::Handshake,
        ),
        (
            replaced("Version: 13", "Version: 8"),
            "426",
            ErrorKind::Handshake,
        ),
        (replaced("bXBs", "bX"), "400", ErrorKind::Handshake),
        (
            with_header("Content-Length: 5"),
            "413",
            ErrorKind::Handshake,
        ),
        (
            with_header("Transfer-Encoding: chunked"),
            "400",
            ErrorKind::Handshake,
        ),
        (
            with_header("Origin: https://evil.example"),
            "403",
            ErrorKind::Origin,
        ),
        (with_header("Origin: null"), "403", ErrorKind::Origin),
        (
            with_header(&"X: y\r\n".repeat(120)),
            "431",
            ErrorKind::HandshakeTooLarge,
        ),
        (
            format!("{}X: {}", &valid[..valid.len() - 2], "y".repeat(20_000)).into_bytes(),
            "431",
            ErrorKind::HandshakeTooLarge,
        ),
    ]
}

#[test]
fn requests_that_are_none_are_refused_reported_and_closed() {
    for (request, status, kind) in bad_requests() {
        let shown = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
        let mut world = World::new();
        let (id, address) = world.serve(&server(calm()));
        let mut peer = Peer::connect(address);
        peer.send(&request);
        let from = peer.socket.local_addr().unwrap().as_socket().unwrap();
        let (answered, text) = answer(&mut world, &mut peer);
        assert_eq!(answered, status, "{shown}: {text}");
        let Some(Told::Error(server, error, Some(who))) = world.app.told.last() else {
            panic!("{shown}: {}", world.app.summary());
        };
        assert_eq!((*server, error.kind()), (id, kind), "{shown}");
        assert_eq!(who.to_string(), from.to_string());
        assert_eq!(world.app.told.len(), 1, "no other callback");
        assert_eq!(world.lp.stats().handshakes_failed, 1);
        drop(peer);
        world.lp.stop_server(id, PATIENCE).unwrap();
        world.until("nothing is left", |world| world.app.stopped(id).is_some());
        world.end();
    }
}

#[test]
fn the_origin_policy_is_the_servers() {
    let list = OriginPolicy::List(vec!["https://good.example".into()]);
    for (policy, origin, status) in [
        (OriginPolicy::SameHost, "http://test", "101"),
        (OriginPolicy::SameHost, "http://test:81", "403"),
        (OriginPolicy::Any, "null", "101"),
        (list.clone(), "https://good.example", "101"),
        (list, "http://test", "403"),
    ] {
        let mut world = World::new();
        let (_, address) = world.serve(&ServerOptions {
            policy: ServerPolicy {
                origins: policy.clone(),
                ..ServerPolicy::default()
            },
            ..server(calm())
        });
        let mut peer = Peer::connect(address);
        peer.send(&with_header(&format!("Origin: {origin}")));
        world.until("an answer comes", |_| {
            peer.pump();
            peer.head_len().is_some()
        });
        let head = peer.take_head();
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{policy:?}: {head}"
        );
        world.end();
    }
}

#[test]
fn a_request_may_come_in_any_two_pieces_and_octet_by_octet() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    for at in 1..peer::REQUEST.len() {
        let mut peer = Peer::connect(address);
        peer.send(&peer::REQUEST[..at]);
        let before = world.lp.stats().bytes_received;
        world.until("the first piece is read", |world| {
            world.lp.stats().bytes_received == before + at as u64
        });
        assert_eq!(world.app.count("upgrade"), 0);
        peer.send(&peer::REQUEST[at..]);
        world.until("it opens", |world| world.app.count("open") == 1);
        drop(peer);
        world.until("it ends", |world| world.app.count("close") == 1);
        world.app.told.clear();
    }
    let mut peer = Peer::connect(address);
    let mut bytes = peer::REQUEST.to_vec();
    bytes.extend(peer.frame(peer::TEXT, b"behind"));
    for octet in bytes {
        peer.send(&[octet]);
        world.turn(ms(1));
    }
    world.until("the message comes", |world| world.app.messages == 1);
    world.end();
}

#[test]
fn bytes_behind_a_request_are_frames_and_answered_after_the_response() {
    for max_events in [1, 4096] {
        let mut world = World::capped(max_events);
        let (_, address) = world.serve(&server(calm()));
        let mut peer = Peer::connect(address);
        let mut bytes = peer::REQUEST.to_vec();
        bytes.extend(peer.frame(peer::PING, b"first"));
        bytes.extend(peer.frame(peer::TEXT, b"second"));
        bytes.extend(&peer.frame(peer::TEXT, b"third")[..3]);
        peer.send(&bytes);
        world.until("two come", |world| world.app.messages == 1);
        let Some(&Told::Open(id)) = world.app.told.get(1) else {
            panic!("{}", world.app.summary());
        };
        assert_eq!(world.app.names(id), ["open", "ping", "message"]);
        peer.send(&peer.frame(peer::TEXT, b"third")[3..]);
        world.until("the third comes", |world| {
            world.app.texts_of(id) == ["second", "third"]
        });
        world.until("response and pong come", |_| {
            peer.pump();
            peer.head_len().is_some_and(|len| peer.got.len() > len)
        });
        assert!(peer.take_head().starts_with("HTTP/1.1 101 "));
        assert_eq!(peer.frames()[0].payload, b"first");
        world.end();
    }
}

/// A server that gives a request 150 ms, and whoever keeps the transport 100 ms more.
fn strict(world: &mut World) -> SocketAddr {
    let config = Config {
        handshake_timeout: ms(150),
        close_timeout: ms(100),
        ..calm()
    };
    world.serve(&server(config)).1
}

#[test]
fn one_who_only_connects_or_drips_is_a_408() {
    for dripping in [false, true] {
        let mut world = World::new();
        let address = strict(&mut world);
        let mut peer = Peer::connect(address);
        let mut rest = peer::REQUEST[..peer::REQUEST.len() - 1].iter();
        world.until("it is given up", |world| {
            if let Some(octet) = rest.next().filter(|_| dripping) {
                peer.try_send(&[*octet]);
            }
            !world.app.errors().is_empty()
        });
        let (status, _) = answer(&mut world, &mut peer);
        assert_eq!(status, "408");
        assert_eq!(errors(&world), [ErrorKind::HandshakeTimeout]);
        assert_eq!(world.lp.stats().pending_handshakes, 0);
        // It keeps the transport and goes on dripping, which helps it no further.
        world.until("it is cut off", |_| peer.try_send(b"x") == 0);
        world.end();
    }
}

#[test]
fn one_who_goes_amid_a_request_is_reported() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    for (count, reset) in [(0, false), (0, true), (30, false), (30, true)] {
        let mut peer = Peer::connect(address);
        peer.send(&peer::REQUEST[..count]);
        world.until("it is accepted", |world| {
            world.lp.stats().pending_handshakes == 1
        });
        if reset {
            peer.reset();
        } else {
            drop(peer);
        }
        world.until("it is gone", |world| {
            world.lp.stats().pending_handshakes == 0
        });
    }
    assert_eq!(errors(&world), [ErrorKind::Lost; 4]);
    assert_eq!(world.lp.stats().handshakes_failed, 4);
    world.end();
}

#[test]
fn the_oldest_of_too_many_pending_handshakes_is_dropped_and_held_ones_stay() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(Config {
        max_pending_handshakes: 3,
        ..calm()
    }));
    world.app.upgrade = Some(Box::new(|_, _| Answer::Later));
    let mut held = Vec::new();
    for count in 0..4 {
        let mut peer = Peer::connect(address);
        peer.send(peer::REQUEST);
        held.push(peer);
        world.until("it is held", |world| {
            world.app.count("upgrade") == count + 1
        });
    }
    let mut pending = Vec::new();
    for count in 0..3 {
        pending.push(Peer::connect(address));
        world.until("it is accepted", |world| {
            world.lp.stats().pending_handshakes == count + 1
        });
    }
    assert!(world.app.errors().is_empty());
    for dropped in 0..3 {
        pending.push(Peer::connect(address));
        world.until("one is dropped", |world| {
            world.app.errors().len() == dropped + 1
        });
        world.until("it is the oldest", |_| {
            pending[dropped].pump();
            pending[dropped].end.is_some()
        });
        assert_eq!(world.lp.stats().pending_handshakes, 3);
    }
    assert_eq!(errors(&world), [ErrorKind::Overloaded; 3]);
    for peer in held.iter_mut().chain(&mut pending[3..]) {
        peer.pump();
        assert_eq!(peer.end, None);
    }
    // Those that are left can go on.
    world.app.upgrade = None;
    pending[3].send(peer::REQUEST);
    world.until("it opens", |world| world.app.count("open") == 1);
    world.end();
}

#[test]
fn a_crowd_that_connects_at_once_is_served() {
    let mut world = World::capped(5);
    let (_, address) = world.serve(&server(calm()));
    let mut crowd: Vec<_> = (0..300).map(|_| Peer::connect(address)).collect();
    for peer in &mut crowd {
        peer.send(peer::REQUEST);
    }
    world.until("all are open", |world| world.app.count("open") == 300);
    for peer in &mut crowd {
        peer.send_close(1000, "");
    }
    drop(crowd);
    world.until("all have ended", |world| {
        world.lp.stats().closes_clean == 300
    });
    world.end();
}
