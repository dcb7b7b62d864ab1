//! What hosts of other languages need: waiting apart from dispatching, ends of dispatches, and
//! descriptors of their own in the set.
//!
//! Does not know: what the hosts are.

#![allow(clippy::unwrap_used, reason = "these are tests")]

mod net;

use std::io::{Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use net::app::Told;
use net::peer;
use net::{PATIENCE, QUIET, World, calm, ms, server};

#[test]
fn a_wait_leaves_the_work_to_the_next_dispatch() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let (mut peer, id) = world.raw_client(address);
    while world.lp.wait(Some(QUIET)).unwrap() {
        world.turn(Duration::ZERO);
    }
    peer.send_frame(peer::TEXT, b"one");
    peer.send_frame(peer::TEXT, b"two");
    for _ in 0..3 {
        assert!(world.lp.wait(Some(PATIENCE)).unwrap());
        assert!(world.app.texts_of(id).is_empty());
    }
    let deadline = Instant::now() + PATIENCE;
    while world.app.messages < 2 {
        assert!(Instant::now() < deadline);
        if world.lp.wait(Some(PATIENCE)).unwrap() {
            world.lp.dispatch(&mut world.app).unwrap();
        }
    }
    assert_eq!(world.app.texts_of(id), ["one", "two"]);
    // Another thread ends a wait, too, and its command is carried out by the dispatch.
    let handle = world.lp.handle();
    while world.lp.wait(Some(ms(1))).unwrap() {
        world.turn(Duration::ZERO);
    }
    let other = std::thread::spawn(move || handle.close(id, Some(1000), "there"));
    assert!(world.lp.wait(Some(PATIENCE)).unwrap());
    assert!(!world.lp.is_done());
    other.join().unwrap().unwrap();
    world.turn(Duration::ZERO);
    assert_eq!(world.frames(&mut peer, 1)[0].opcode, peer::CLOSE);
    drop(peer);
    world.ended(id);
    world.end();
}

#[test]
fn a_dispatch_that_was_left_loses_nothing() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let mut peers: Vec<_> = (0..3).map(|_| world.raw_client(address)).collect();
    world.app.hook(|conn, told| {
        if matches!(told, Told::Message(..)) {
            conn.context().yield_dispatch();
        }
    });
    for (peer, _) in &mut peers {
        for number in 0..5 {
            peer.send_frame(peer::TEXT, number.to_string().as_bytes());
        }
    }
    let deadline = Instant::now() + PATIENCE;
    while world.app.messages < 15 {
        assert!(Instant::now() < deadline);
        let before = world.app.messages;
        let more = world.turn(ms(20));
        assert!(world.app.messages <= before + 1, "not left");
        assert!(more || world.app.messages >= before);
    }
    for (_, id) in &peers {
        assert_eq!(world.app.texts_of(*id), ["0", "1", "2", "3", "4"]);
    }
    world.end();
}

#[test]
fn a_watched_descriptor_ends_waits_while_it_is_readable() {
    let mut world = World::new();
    let (mut near, mut far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    world.lp.watch(near.as_raw_fd()).unwrap();
    assert!(!world.lp.wait(Some(QUIET)).unwrap());
    for _ in 0..2 {
        far.write_all(b"!").unwrap();
        assert!(world.lp.wait(Some(PATIENCE)).unwrap());
        assert!(!world.lp.take_watched());
        world.turn(Duration::ZERO);
        assert!(world.lp.take_watched());
        assert!(!world.lp.take_watched());
        assert_eq!(near.read(&mut [0; 8]).unwrap(), 1);
        assert!(near.read(&mut [0; 8]).is_err());
        assert!(!world.lp.wait(Some(QUIET)).unwrap());
    }
    world.lp.unwatch(near.as_raw_fd()).unwrap();
    far.write_all(b"!").unwrap();
    assert!(!world.lp.wait(Some(QUIET)).unwrap());
    assert!(world.lp.is_done());
}
