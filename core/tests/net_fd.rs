//! The one descriptor: readable exactly when a dispatch has work, so that any other loop can drive
//! this one by poll(2).
//!
//! Does not know: platforms without such a descriptor.

#![cfg(all(target_os = "linux", not(wsabi_mio)))]
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::os::fd::RawFd;
use std::thread;
use std::time::{Duration, Instant};

use net::app::Told;
use net::peer::{self, Peer};
use net::{PATIENCE, QUIET, World, calm, client, ms, server};
use wsabi::{
    Accept, Answer, ClientOptions, Config, ConnId, ErrorKind, MessageType, Sent, ServerOptions,
};

fn readable(fd: RawFd, timeout: Duration) -> bool {
    let mut entry = libc::pollfd {
        fd,
        events: libc::POLLIN,
        revents: 0,
    };
    // SAFETY: one valid entry, for the length of the call.
    let count = unsafe { libc::poll(&mut entry, 1, timeout.as_millis() as libc::c_int) };
    assert!(count >= 0, "poll(2) failed");
    count == 1 && entry.revents & libc::POLLIN != 0
}

/// A loop inside another: it is dispatched when its descriptor is readable, and never else.
struct Host {
    world: World,
    fd: RawFd,
    wakeups: usize,
}

impl Host {
    fn new(world: World) -> Self {
        let fd = world.lp.fd().unwrap();
        Self {
            world,
            fd,
            wakeups: 0,
        }
    }

    fn is_readable(&self) -> bool {
        readable(self.fd, Duration::ZERO)
    }

    fn dispatch(&mut self) {
        self.wakeups += 1;
        let more = self.world.lp.dispatch(&mut self.world.app).unwrap();
        assert!(
            !more || self.is_readable(),
            "work is left, and the descriptor hides it"
        );
    }

    fn until(&mut self, what: &str, mut done: impl FnMut(&mut World) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(&mut self.world) {
            assert!(
                Instant::now() < deadline,
                "in vain: {what}; {}",
                self.world.app.summary()
            );
            if readable(self.fd, ms(5)) {
                self.dispatch();
            }
        }
    }

    /// Dispatches what there is until the descriptor is silent.
    fn settle(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while readable(self.fd, ms(20)) {
            assert!(Instant::now() < deadline, "never silent: a spin");
            self.dispatch();
        }
    }

    /// Checks that nobody is woken while nothing happens. A deadline far ahead may need a wake-up
    /// on the way; it does not come again.
    fn is_at_rest(&mut self) {
        let rests = (0..3).any(|_| {
            self.settle();
            !readable(self.fd, QUIET)
        });
        assert!(rests, "readable for nothing");
    }

    fn pair(&mut self, address: std::net::SocketAddr) -> (ConnId, ConnId) {
        let near = self.world.connect(address, &client(calm()));
        let from = self.world.app.told.len();
        let far = |world: &World| {
            world.app.told[from..].iter().find_map(|told| match told {
                Told::Open(id) if *id != near => Some(*id),
                _ => None,
            })
        };
        self.until("both ends are open", |world| {
            world.app.is_open(near) && far(world).is_some()
        });
        (near, far(&self.world).unwrap())
    }

    fn end(self) {
        self.world.end();
    }
}

fn host() -> (Host, std::net::SocketAddr) {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    (Host::new(world), address)
}

#[test]
fn a_new_loop_and_one_that_listens_are_silent() {
    let mut host = Host::new(World::new());
    assert!(!readable(host.fd, QUIET));
    host.world.serve(&server(Config::default()));
    assert!(!readable(host.fd, QUIET));
    host.end();
}

#[test]
fn open_paused_blocked_and_held_connections_wake_nobody() {
    let (mut host, address) = host();
    let (near, far) = host.pair(address);
    let (mut quiet, paused) = host.world.raw_client(address);
    host.world.lp.conn(paused).pause().unwrap();
    quiet.send_frame(peer::TEXT, b"unheard");
    let (gone, paused_too) = host.world.raw_client(address);
    host.world.lp.conn(paused_too).pause().unwrap();
    gone.reset();
    let small = Peer::connect_small(address);
    let (_slow, blocked) = host.world.upgraded(small);
    let sent = host.world.lp.conn(blocked).send_binary(&vec![0; 8 << 20]);
    assert_eq!(sent.unwrap(), Sent::Backpressure);
    host.world.app.upgrade = Some(Box::new(|_, _| Answer::Later));
    let mut held = Peer::connect(address);
    held.send(peer::REQUEST);
    held.send(&held.frame(peer::TEXT, b"behind"));
    host.until("it is held", |world| world.app.count("upgrade") == 5);
    let mut pending = Peer::connect(address);
    pending.send(b"GET ");
    host.is_at_rest();
    for id in [near, far, paused, paused_too, blocked] {
        assert!(host.world.app.is_open(id));
    }
    assert_eq!(host.world.app.messages, 0);
    host.end();
}

#[test]
fn everything_works_by_the_descriptor_alone() {
    let mut world = World::capped(3);
    world.app.echo = true;
    let (id, address) = world.serve(&server(calm()));
    let mut host = Host::new(world);
    let clients: Vec<_> = (0..10).map(|_| host.pair(address).0).collect();
    let large = vec![b'l'; 3 << 20];
    for &client in &clients {
        for number in 0..20 {
            let text = number.to_string();
            let _ = host.world.lp.conn(client).send_text(&text).unwrap();
        }
        let _ = host.world.lp.conn(client).send_binary(&large).unwrap();
        let _ = host.world.lp.conn(client).ping(b"p").unwrap();
    }
    host.until("all echoes come", |world| world.app.messages == 2 * 10 * 21);
    host.until("all pongs come", |world| world.app.count("pong") == 10);
    for &client in &clients {
        assert_eq!(host.world.app.messages_of(client).len(), 21);
    }
    host.is_at_rest();
    host.world.lp.stop_server(id, PATIENCE).unwrap();
    host.until("it stops", |world| world.app.stopped(id).is_some());
    assert_eq!(host.world.app.stopped(id).unwrap().clean, 10);
    host.until("all ends are told", |world| world.lp.is_idle());
    host.is_at_rest();
    host.end();
}

#[test]
fn wake_ups_are_few() {
    let (mut host, address) = host();
    host.world.app.echo = true;
    let (near, _) = host.pair(address);
    host.settle();
    host.wakeups = 0;
    for _ in 0..50 {
        let before = host.world.app.messages;
        let _ = host.world.lp.conn(near).send_text("x").unwrap();
        host.until("the echo comes", |world| world.app.messages == before + 2);
    }
    // One to receive at each end, and the odd one for good measure.
    assert!(host.wakeups <= 2 * 50 + 10, "{}", host.wakeups);
    host.is_at_rest();
    host.end();
}

#[test]
fn a_command_from_another_thread_wakes() {
    let (mut host, address) = host();
    let (near, far) = host.pair(address);
    for round in 1..4 {
        host.is_at_rest();
        let handle = host.world.lp.handle();
        thread::spawn(move || {
            for _ in 0..100 {
                handle.send(near, MessageType::Text, b"x").unwrap();
            }
        })
        .join()
        .unwrap();
        assert!(host.is_readable());
        host.until("they arrive", |world| {
            world.app.messages_of(far).len() == 100 * round
        });
    }
    host.is_at_rest();
    host.world.lp.handle().wake().unwrap();
    assert!(host.is_readable());
    host.is_at_rest();
    host.end();
}

#[test]
fn deadlines_wake() {
    let mut world = World::new();
    let limits = Config {
        handshake_timeout: ms(80),
        hold_timeout: ms(80),
        ping_interval: Some(ms(50)),
        ping_timeout: ms(50),
        close_timeout: ms(50),
        ..calm()
    };
    let (_, address) = world.serve(&server(limits.clone()));
    let mut host = Host::new(world);
    let _silent = Peer::connect(address);
    host.until("a handshake is late", |world| {
        world
            .app
            .errors()
            .iter()
            .any(|error| error.kind() == ErrorKind::HandshakeTimeout)
    });
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let waiting = host
        .world
        .connect(nobody.local_addr().unwrap(), &client(limits));
    host.until("a client gives up", |world| {
        world.app.closed(waiting).is_some()
    });
    let (_mute, dead) = host.world.raw_client(address);
    host.until("a dead peer is found", |world| {
        world.app.closed(dead).is_some()
    });
    let (_mute, closing) = host.world.raw_client(address);
    host.world.lp.conn(closing).close(None, "").unwrap();
    host.until("closing is late", |world| {
        world.app.closed(closing).is_some()
    });
    host.end();
}

#[test]
fn the_deadline_of_a_stop_wakes() {
    let (mut host, address) = host();
    let (_mute, id) = host.world.raw_client(address);
    let server = host.world.lp.conn(id).server().unwrap();
    host.settle();
    host.world.lp.stop_server(server, ms(60)).unwrap();
    host.until("it stops", |world| world.app.stopped(server).is_some());
    assert_eq!(host.world.app.stopped(server).unwrap().forced, 1);
    host.is_at_rest();
    host.end();
}

#[test]
fn a_capped_dispatch_leaves_it_readable_until_all_is_done() {
    for max_events in [1, 2, 5] {
        let mut world = World::capped(max_events);
        let (_, address) = world.serve(&server(calm()));
        let mut host = Host::new(world);
        let mut peers: Vec<_> = (0..4).map(|_| host.world.raw_client(address)).collect();
        host.settle();
        for (peer, _) in &mut peers {
            for _ in 0..30 {
                peer.send_frame(peer::TEXT, b"x");
            }
        }
        host.wakeups = 0;
        host.until("all come", |world| world.app.messages == 120);
        let least = 120usize.div_ceil(max_events as usize);
        assert!(
            host.wakeups >= least && host.wakeups < 2 * least + 20,
            "{}",
            host.wakeups
        );
        host.is_at_rest();
        host.end();
    }
}

#[test]
fn what_the_kernel_still_has_keeps_it_readable() {
    let (mut host, address) = host();
    let (mut peer, _) = host.world.raw_client(address);
    host.settle();
    let message = peer.frame(peer::BINARY, &vec![b'x'; 1000]);
    let mut total = 0;
    for _ in 0..2000 {
        if peer.try_send(&message) != message.len() {
            break;
        }
        total += 1;
    }
    assert!(total > 600, "more than one read takes");
    let mut dispatches = 0;
    while host.is_readable() {
        host.dispatch();
        dispatches += 1;
    }
    assert!(dispatches > 1 && host.world.app.messages >= total - 1);
    host.is_at_rest();
    host.end();
}

#[test]
fn commands_outside_of_a_dispatch_leave_nothing_undone() {
    let (mut host, address) = host();
    let told = |host: &Host| host.world.app.told.len();

    // Something to be told makes it readable, and one dispatch tells it.
    let (_peer, id) = host.world.raw_client(address);
    host.settle();
    host.world.lp.conn(id).terminate().unwrap();
    assert!(host.is_readable());
    host.dispatch();
    assert!(host.world.app.closed(id).is_some());
    host.is_at_rest();

    let nowhere = ClientOptions {
        unix_path: Some("/nonexistent/wsabi".into()),
        ..client(calm())
    };
    let failed = host.world.lp.connect("ws://h/", &nowhere).unwrap();
    assert!(host.is_readable());
    host.dispatch();
    assert!(host.world.app.closed(failed).is_some());
    host.is_at_rest();

    let extra = host
        .world
        .lp
        .listen(&ServerOptions::tcp("127.0.0.1", 0))
        .unwrap();
    host.world.lp.stop_server(extra, PATIENCE).unwrap();
    assert!(host.is_readable());
    host.dispatch();
    assert!(host.world.app.stopped(extra).is_some());
    host.is_at_rest();

    // What only writes is written, and asks for no dispatch of its own.
    let (mut peer, id) = host.world.raw_client(address);
    host.settle();
    let before = told(&host);
    let _ = host.world.lp.conn(id).send_text("x").unwrap();
    let _ = host.world.lp.conn(id).ping(b"y").unwrap();
    assert!(!host.is_readable());
    assert_eq!((peer.frames().len(), told(&host)), (2, before));
    host.world.lp.conn(id).close(Some(1000), "").unwrap();
    assert!(!host.is_readable());
    assert_eq!(peer.frames()[0].opcode, peer::CLOSE);
    host.end();
}

#[test]
fn resuming_outside_of_a_dispatch_wakes_for_what_was_kept() {
    for gone in [false, true] {
        let (mut host, address) = host();
        host.world.app.hook(|conn, told| {
            if matches!(told, Told::Message(..)) {
                conn.pause().unwrap();
            }
        });
        let (mut peer, id) = host.world.raw_client(address);
        let frames = [
            peer.frame(peer::TEXT, b"one"),
            peer.frame(peer::TEXT, b"two"),
        ]
        .concat();
        peer.send(&frames);
        host.until("one comes", |world| world.app.messages == 1);
        let mut peer = Some(peer);
        if gone {
            peer.take().unwrap().reset();
        }
        host.is_at_rest();
        host.world.lp.conn(id).resume().unwrap();
        assert!(host.is_readable());
        host.dispatch();
        assert_eq!(host.world.app.texts_of(id), ["one", "two"]);
        host.is_at_rest();
        host.world.lp.conn(id).resume().unwrap();
        host.until("the end comes", |world| {
            !gone || world.app.closed(id).is_some()
        });
        host.is_at_rest();
        host.end();
    }
}

#[test]
fn answers_given_outside_of_a_dispatch_wake_for_what_follows() {
    let (mut host, address) = host();
    host.world.app.upgrade = Some(Box::new(|_, _| Answer::Later));
    let mut peer = Peer::connect(address);
    peer.send(&[peer::REQUEST, &peer.frame(peer::TEXT, b"behind")].concat());
    host.until("it is held", |world| world.app.count("upgrade") == 1);
    let Some(&Told::Upgrade(id, _)) = host.world.app.told.first() else {
        panic!("{}", host.world.app.summary());
    };
    host.is_at_rest();
    host.world.lp.conn(id).accept(&Accept::default()).unwrap();
    assert!(host.is_readable());
    host.until("the message comes", |world| {
        world.app.texts_of(id) == ["behind"]
    });
    host.is_at_rest();
    host.end();
}

#[test]
fn a_resolved_name_wakes() {
    let (mut host, address) = host();
    let url = format!("ws://localhost:{}/", address.port());
    let id = host.world.lp.connect(&url, &client(calm())).unwrap();
    host.until("it opens", |world| world.app.is_open(id));
    host.is_at_rest();
    host.end();
}

#[test]
fn a_paused_peer_that_goes_wakes_at_most_to_be_put_aside() {
    for way in 0..3 {
        let (mut host, address) = host();
        let (peer, id) = host.world.raw_client(address);
        host.world.lp.conn(id).pause().unwrap();
        host.settle();
        host.wakeups = 0;
        let mut kept = None;
        match way {
            0 => drop(peer),
            1 => peer.reset(),
            _ => {
                peer.shutdown_write();
                kept = Some(peer);
            }
        }
        host.is_at_rest();
        assert_eq!(kept.is_some(), way == 2);
        assert!(host.wakeups <= 2, "{}", host.wakeups);
        assert!(host.world.app.is_open(id));
        host.world.lp.conn(id).resume().unwrap();
        host.until("its end comes", |world| world.app.closed(id).is_some());
        host.is_at_rest();
        host.end();
    }
}

#[test]
fn a_send_that_brings_a_server_over_its_budget_has_it_go_on_in_time() {
    let mut world = World::new();
    let (_, address) = world.serve(&ServerOptions {
        max_buffered_bytes: Some(1 << 20),
        ..server(calm())
    });
    let (peer, id) = world.upgraded(Peer::connect_small(address));
    let mut host = Host::new(world);
    host.is_at_rest();
    // Outside of a dispatch, and nothing but its deadline brings another.
    host.world
        .lp
        .conn(id)
        .send_binary(&vec![1; 8 << 20])
        .unwrap();
    host.until("it goes", |world| world.app.closed(id).is_some());
    let closed = host.world.app.closed(id).unwrap();
    assert_eq!(net::kind(closed), Some(ErrorKind::OverBudget));
    drop(peer);
    host.end();
}
