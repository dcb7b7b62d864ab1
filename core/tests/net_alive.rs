//! Peers that fall silent: keepalive, the idle timeout, and what counts as a sign of life.
//!
//! Does not know: how connections end otherwise.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use net::app::Told;
use net::peer::{self, Peer};
use net::{PATIENCE, QUIET, World, calm, client, kind, ms, server};
use wsabi::{Config, ErrorKind, Sent, State};

#[test]
fn a_silent_peer_is_found_dead_by_its_missing_pong() {
    let limits = Config {
        ping_interval: Some(ms(40)),
        ping_timeout: ms(60),
        close_timeout: ms(60),
        ..Config::default()
    };
    for at_server in [false, true] {
        let mut world = World::new();
        let (mut peer, id) = world.meet(at_server, limits.clone());
        let closed = world.ended(id);
        assert_eq!(
            (closed.code.as_u16(), kind(&closed)),
            (1006, Some(ErrorKind::KeepaliveTimeout))
        );
        assert_eq!(world.lp.stats().closes_timeout, 1);
        let sent = peer.frames();
        assert_eq!(sent[0].opcode, peer::PING);
        assert_eq!(
            sent[0].payload,
            wsabi::protocol::connection::KEEPALIVE_PAYLOAD
        );
        let last = sent.last().unwrap();
        let reason = peer::close_payload(1011, "keepalive ping timeout");
        assert_eq!((last.opcode, &last.payload), (peer::CLOSE, &reason));
        world.end();
    }
}

#[test]
fn a_silent_peer_that_takes_our_backlog_is_alive_until_it_has_all() {
    let mut world = World::new();
    let timeout = ms(200);
    let (_, address) = world.serve(&server(Config {
        ping_interval: Some(ms(100)),
        ping_timeout: timeout,
        close_timeout: ms(50),
        ..Config::default()
    }));
    let (mut peer, id) = world.upgraded(Peer::connect_with(address, 1 << 20));
    let sent = world
        .lp
        .conn(id)
        .send_binary(&vec![b'x'; 16 << 20])
        .unwrap();
    assert_eq!(sent, Sent::Backpressure);
    let mut some = vec![0; 64 << 10];
    let mut pauses = 0;
    while world.lp.stats().buffered_bytes > 0 {
        let wanted = peer.got.len() + (1 << 20);
        world.until("some more comes", |world| {
            while peer.got.len() < wanted && peer.read(&mut some) > 0 {}
            peer.got.len() >= wanted || world.lp.stats().buffered_bytes == 0
        });
        world.turns_in(timeout / 4);
        assert!(world.app.is_open(id), "after {pauses} pauses");
        pauses += 1;
    }
    assert!(pauses > 7, "the backlog was too small for this test");
    assert_eq!(kind(&world.ended(id)), Some(ErrorKind::KeepaliveTimeout));
    world.end();
}

#[test]
fn a_peer_that_neither_reads_nor_speaks_is_dead() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(Config {
        ping_interval: Some(ms(50)),
        ping_timeout: ms(60),
        close_timeout: ms(50),
        ..Config::default()
    }));
    let (_peer, id) = world.upgraded(Peer::connect_small(address));
    let _ = world.lp.conn(id).send_binary(&vec![b'x'; 8 << 20]).unwrap();
    assert_eq!(kind(&world.ended(id)), Some(ErrorKind::KeepaliveTimeout));
    world.end();
}

#[test]
fn a_live_peer_is_kept_whatever_it_says() {
    let limits = Config {
        ping_interval: Some(ms(30)),
        ping_timeout: ms(200),
        ..Config::default()
    };
    let mut world = World::new();
    let (_, address) = world.serve(&server(limits.clone()));
    // Both ends ping and answer; the raw one never sends a pong but talks.
    let (near, far) = world.pair(address, &client(limits));
    let (mut peer, raw) = world.raw_client(address);
    let mut pings = 0;
    world.until("many pings have gone", |world| {
        let come = peer.frames().len();
        if come > 0 {
            peer.send_frame(peer::TEXT, b"alive");
        }
        pings += come;
        pings >= 12 && world.app.names(near).contains(&"pong")
    });
    for id in [near, far, raw] {
        assert!(world.app.is_open(id));
    }
    let keepalive = wsabi::protocol::connection::KEEPALIVE_PAYLOAD;
    assert!(
        world
            .app
            .told
            .contains(&Told::Pong(near, keepalive.to_vec()))
    );
    assert!(
        world
            .app
            .told
            .contains(&Told::Ping(far, keepalive.to_vec()))
    );
    world.end();
}

#[test]
fn the_idle_timeout_counts_received_bytes_only() {
    let limits = Config {
        idle_timeout: Some(ms(100)),
        close_timeout: ms(60),
        ..calm()
    };
    let mut world = World::new();
    let (mut peer, id) = world.meet(true, limits);
    // Half a header is a sign of life too.
    for octet in peer.frame(peer::TEXT, b"ab") {
        peer.send(&[octet]);
        world.turns_in(ms(30));
        assert!(world.app.is_open(id));
    }
    assert_eq!(world.app.texts_of(id), ["ab"]);
    world.until("it gives up", |world| {
        if world.lp.conn(id).state() == State::Open {
            let _ = world.lp.conn(id).ping(b"ours does not count").unwrap();
        }
        world.app.closed(id).is_some()
    });
    assert_eq!(kind(&world.ended(id)), Some(ErrorKind::IdleTimeout));
    let sent = peer.frames();
    let reason = peer::close_payload(1011, "idle timeout");
    assert_eq!(sent.last().unwrap().payload, reason);
    world.end();
}

#[test]
fn a_connection_at_rest_stays_without_keepalive() {
    let mut world = World::new();
    let (_peer, id) = world.meet(true, calm());
    world.turns_in(QUIET);
    assert_eq!(world.app.names(id), ["open"]);
    assert!(PATIENCE > QUIET && world.app.is_open(id));
    world.end();
}
