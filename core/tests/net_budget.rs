//! What a server's connections may hold together.
//!
//! Does not know: the limits of one connection.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use net::peer::{self, Peer};
use net::{World, calm, kind, ms, server};
use wsabi::{Config, ConnId, ErrorKind, ServerOptions};

const BUDGET: u64 = 4 << 20;

fn budgeted() -> ServerOptions {
    ServerOptions {
        max_buffered_bytes: Some(BUDGET),
        ..server(Config {
            close_timeout: ms(500),
            ..calm()
        })
    }
}

/// The header and a part of a message of 2 MiB.
fn part(peer: &Peer, len: usize) -> Vec<u8> {
    let mut frame = peer.frame(peer::BINARY, &vec![7; 2 << 20]);
    frame.truncate(len);
    frame
}

/// Sends all of it, while the loop runs; tells how much the loop took.
fn send_some(world: &mut World, peer: &mut Peer, bytes: &[u8], turns: usize) -> usize {
    let mut sent = 0;
    for _ in 0..turns {
        sent += peer.try_send(&bytes[sent..]);
        world.turn(ms(1));
        if sent == bytes.len() {
            break;
        }
    }
    sent
}

#[test]
fn large_messages_wait_small_ones_pass_and_relief_lets_all_finish() {
    let mut world = World::new();
    let (_, address) = world.serve(&budgeted());
    let mut peers: Vec<(Peer, ConnId)> = (0..5).map(|_| world.raw_client(address)).collect();
    let mut sent = Vec::new();
    // Two of 2 MiB fit into the budget, and the third of them brings it over.
    for (peer, _) in &mut peers[..4] {
        let bytes = part(peer, (2 << 20) - 1000);
        sent.push(send_some(&mut world, peer, &bytes, 300));
    }
    world.turn(ms(20));
    // What is small passes meanwhile.
    let (small, small_id) = &mut peers[4];
    small.send_frame(peer::TEXT, b"small");
    world.until("the small one is heard", |world| {
        world.app.texts_of(*small_id) == ["small"]
    });
    // One finishes; the others follow one after the other.
    let mut frames: Vec<Vec<u8>> = peers
        .iter()
        .map(|(peer, _)| part(peer, usize::MAX))
        .collect();
    frames.pop();
    world.until("all four are heard", |world| {
        let mut heard = 0;
        for (number, (peer, id)) in peers[..4].iter_mut().enumerate() {
            sent[number] += peer.try_send(&frames[number][sent[number]..]);
            heard += world.app.messages_of(*id).len();
        }
        heard == 4
    });
    world.end();
}

#[test]
fn without_relief_the_largest_goes_with_1013() {
    let mut world = World::new();
    let (_, address) = world.serve(&budgeted());
    let mut peers: Vec<(Peer, ConnId)> = (0..4).map(|_| world.raw_client(address)).collect();
    for (number, (peer, _)) in peers.iter_mut().enumerate() {
        let bytes = part(peer, (1 << 20) + 300_000 * (number + 1));
        send_some(&mut world, peer, &bytes, 300);
    }
    // Nobody sends any more. Who goes is one of those that hold most, and then the rest fits.
    let ended = |world: &World| -> Vec<ConnId> {
        (peers.iter().map(|(_, id)| *id))
            .filter(|id| world.app.closed(*id).is_some())
            .collect()
    };
    world.until("one has to go", |world| !ended(world).is_empty());
    world.turn(ms(300));
    let gone = ended(&world);
    assert!(gone.len() < peers.len(), "{gone:?}");
    for (peer, id) in &mut peers {
        if gone.contains(id) {
            let closed = world.app.closed(*id).unwrap();
            assert_eq!(kind(closed), Some(ErrorKind::OverBudget));
            let detail = closed.error.as_ref().unwrap().detail();
            assert!(detail.contains("max_buffered_bytes, 4194304"), "{detail}");
            let frames = peer.frames();
            assert_eq!(frames.last().unwrap().opcode, peer::CLOSE);
            assert_eq!(frames.last().unwrap().payload[..2], 1013u16.to_be_bytes());
        }
    }
    world.end();
}

#[test]
fn a_backlog_counts_and_goes_too() {
    let mut world = World::new();
    let (_, address) = world.serve(&budgeted());
    let (mut honest, honest_id) = world.raw_client(address);
    let (peer, id) = world.upgraded(Peer::connect_small(address));
    // One message is accepted whatever its size.
    world.lp.conn(id).send_binary(&vec![1; 8 << 20]).unwrap();
    world.until("it goes", |world| world.app.closed(id).is_some());
    assert_eq!(
        kind(world.app.closed(id).unwrap()),
        Some(ErrorKind::OverBudget)
    );
    assert_eq!(world.lp.stats().buffered_bytes, 0);
    honest.send_frame(peer::TEXT, b"still here");
    world.until("the other is heard", |world| {
        world.app.texts_of(honest_id) == ["still here"]
    });
    drop(peer);
    world.end();
}

#[test]
fn waiting_and_pausing_do_not_confuse_one_another() {
    let mut world = World::new();
    let (_, address) = world.serve(&budgeted());
    let mut peers: Vec<(Peer, ConnId)> = (0..3).map(|_| world.raw_client(address)).collect();
    let mut sent = [0; 3];
    for (number, (peer, _)) in peers.iter_mut().enumerate() {
        let bytes = part(peer, (2 << 20) - 1000);
        sent[number] = send_some(&mut world, peer, &bytes, 300);
    }
    for (_, id) in &peers {
        world.lp.conn(*id).pause().unwrap();
        world.lp.conn(*id).resume().unwrap();
        world.lp.conn(*id).pause().unwrap();
    }
    world.turn(ms(20));
    // The first goes, which is relief; the others are still paused, and read after resuming.
    world.lp.conn(peers[0].1).terminate().unwrap();
    world.turn(ms(20));
    let frames: Vec<Vec<u8>> = peers
        .iter()
        .map(|(peer, _)| part(peer, usize::MAX))
        .collect();
    for (_, id) in &peers[1..] {
        world.lp.conn(*id).resume().unwrap();
    }
    world.until("both are heard", |world| {
        for number in 1..3 {
            let (peer, _) = &mut peers[number];
            sent[number] += peer.try_send(&frames[number][sent[number]..]);
        }
        (1..3).all(|number| world.app.messages_of(peers[number].1).len() == 1)
    });
    world.end();
}
