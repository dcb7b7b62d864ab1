//! Servers: where they listen, and how they and the loop come to an end.
//!
//! Does not know: the handshakes and messages between.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::net::TcpListener;
use std::time::Duration;

use net::app::Told;
use net::peer::{self, End, Peer};
use net::{PATIENCE, QUIET, World, calm, client, ms, server};
use wsabi::{
    Answer, CloseCode, Config, ErrorKind, Loop, OriginPolicy, ServerOptions, ServerPolicy, State,
    Stopped,
};

#[test]
fn errors_of_listen_name_the_address() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut lp = Loop::new().unwrap();
    for (host, kind, named) in [
        ("127.0.0.1", ErrorKind::Listen, format!("127.0.0.1:{port}")),
        // An address for documentation (RFC 5737), which no machine has.
        ("192.0.2.1", ErrorKind::Listen, format!("192.0.2.1:{port}")),
        (
            "2001:db8::1",
            ErrorKind::Listen,
            format!("[2001:db8::1]:{port}"),
        ),
        ("[127.0.0.1]", ErrorKind::Invalid, "[127.0.0.1]".into()),
        ("", ErrorKind::Invalid, "host".into()),
    ] {
        let error = lp.listen(&ServerOptions::tcp(host, port)).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.detail().contains(&named), "{error}");
    }
    let name = "x".repeat(64);
    let error = lp.listen(&ServerOptions::tcp(&name, 0)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Resolve, "{error}");
    assert!(error.detail().contains(&name), "{error}");
    let error = lp
        .listen(&ServerOptions::unix("/nonexistent/dir/s"))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Listen);
    assert!(
        error.detail().contains("unix:/nonexistent/dir/s"),
        "{error}"
    );
    assert!(lp.is_idle(), "nothing is left of what failed");
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let mut lp = Loop::new().unwrap();
    let waters = server(Config {
        high_water_bytes: 10,
        low_water_bytes: 11,
        ..calm()
    });
    let origins = ServerOptions {
        policy: ServerPolicy {
            origins: OriginPolicy::List(vec!["example.com".into()]),
            ..ServerPolicy::default()
        },
        ..server(calm())
    };
    let subprotocols = ServerOptions {
        policy: ServerPolicy {
            subprotocols: vec!["a b".into()],
            ..ServerPolicy::default()
        },
        ..server(calm())
    };
    for (options, named) in [
        (waters, "low_water_bytes"),
        (origins, "example.com"),
        (subprotocols, "a b"),
    ] {
        let error = lp.listen(&options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert!(error.detail().contains(named), "{error}");
    }
    assert!(lp.is_idle());
}

#[test]
fn the_port_of_a_running_server_is_taken_unless_shared() {
    let mut world = World::new();
    let shared = ServerOptions {
        reuse_port: true,
        ..server(calm())
    };
    let (_, address) = world.serve(&shared);
    let again = ServerOptions {
        reuse_port: true,
        ..ServerOptions::tcp("127.0.0.1", address.port())
    };
    let (second, same) = world.serve(&again);
    assert_eq!(same, address);
    let plain = ServerOptions::tcp("127.0.0.1", address.port());
    let error = world.lp.listen(&plain).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Listen);
    world.lp.stop_server(second, PATIENCE).unwrap();
    world.end();
}

#[test]
fn two_servers_on_one_loop_are_told_apart() {
    let mut world = World::new();
    let mut options = server(calm());
    options.tag = 7;
    let (first, at_first) = world.serve(&options);
    options.tag = 8;
    let (second, at_second) = world.serve(&options);
    assert_ne!(first, second);
    for (server, address, tag) in [(first, at_first, 7), (second, at_second, 8)] {
        let (near, far) = world.pair(address, &client(calm()));
        assert_eq!(world.lp.conn(far).server(), Some(server));
        assert_eq!(world.lp.conn(far).tag(), tag);
        assert_eq!(world.lp.conn(near).server(), None);
    }
    world.lp.stop_server(first, PATIENCE).unwrap();
    world.until("the first stops", |world| {
        world.app.stopped(first).is_some()
    });
    assert_eq!(world.app.stopped(second), None);
    assert_eq!(
        world.lp.stats().connections,
        2,
        "the second's are left alone"
    );
    assert_eq!(
        world.lp.server_addr(first).unwrap_err().kind(),
        ErrorKind::Closed
    );
    let error = world.lp.stop_server(first, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    world.pair(at_second, &client(calm()));
    world.end();
}

#[test]
fn a_server_without_connections_stops_at_once_and_once() {
    let mut world = World::new();
    let (id, address) = world.serve(&server(calm()));
    world.lp.stop_server(id, PATIENCE).unwrap();
    let error = world.lp.stop_server(id, PATIENCE).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::State);
    assert!(world.app.told.is_empty(), "never before a dispatch");
    world.turn(ms(0));
    assert_eq!(world.app.told, [Told::Stopped(id, Stopped::default())]);
    assert!(
        std::net::TcpStream::connect(address).is_err(),
        "nobody listens"
    );
    world.turns_in(QUIET / 4);
    assert_eq!(world.app.told.len(), 1);
    world.end();
}

#[test]
fn a_peer_that_answers_close_is_clean_and_one_that_does_not_is_forced() {
    let mut world = World::new();
    let (id, address) = world.serve(&server(Config {
        close_timeout: PATIENCE,
        ..calm()
    }));
    let (mut good, at_good) = world.raw_client(address);
    let (mut mute, at_mute) = world.raw_client(address);
    world.lp.stop_server(id, ms(150)).unwrap();
    for peer in [&mut good, &mut mute] {
        let mut frames = Vec::new();
        world.until("the Close comes", |_| {
            frames.extend(peer.frames());
            !frames.is_empty()
        });
        assert_eq!(frames[0].opcode, peer::CLOSE);
        assert_eq!(frames[0].payload[..2], 1001u16.to_be_bytes());
    }
    good.send_close(1001, "");
    world.until("the server closes first", |_| {
        good.pump();
        good.end == Some(End::Fin)
    });
    drop(good);
    world.until("it stops", |world| world.app.stopped(id).is_some());
    let expected = Stopped {
        clean: 1,
        forced: 1,
        messages_dropped: 0,
    };
    assert_eq!(world.app.stopped(id), Some(expected));
    assert_eq!(world.ended(at_good).code, CloseCode::GOING_AWAY);
    let closed = world.ended(at_mute);
    assert_eq!(closed.error.unwrap().kind(), ErrorKind::Stopped);
    world.until("the mute one is reset", |_| {
        mute.pump();
        mute.end == Some(End::Reset)
    });
    assert!(world.lp.is_idle());
    world.end();
}

#[test]
fn a_deadline_shared_by_connection_and_server_counts_once() {
    let mut world = World::new();
    let (id, address) = world.serve(&server(Config {
        close_timeout: ms(80),
        ..calm()
    }));
    let _peers: Vec<_> = (0..5).map(|_| world.raw_client(address)).collect();
    world.lp.stop_server(id, ms(80)).unwrap();
    world.until("it stops", |world| world.app.stopped(id).is_some());
    let expected = Stopped {
        clean: 0,
        forced: 5,
        messages_dropped: 0,
    };
    assert_eq!(world.app.stopped(id), Some(expected));
    assert_eq!(world.app.count("close"), 5);
    world.end();
}

#[test]
fn no_grace_ends_everything_at_once() {
    for max_events in [1, 4096] {
        let mut world = World::capped(max_events);
        let (id, address) = world.serve(&server(calm()));
        let _open: Vec<_> = (0..3).map(|_| world.raw_client(address)).collect();
        let _pending = Peer::connect(address);
        world.until("the fourth is accepted", |world| {
            world.lp.stats().pending_handshakes == 1
        });
        world.lp.stop_server(id, Duration::ZERO).unwrap();
        world.until("it stops", |world| world.app.stopped(id).is_some());
        assert_eq!(world.app.stopped(id).unwrap().forced, 3);
        assert_eq!(world.app.count("close"), 3);
        world.end();
    }
}

#[test]
fn what_a_slow_peer_did_not_take_is_counted_as_dropped() {
    let mut world = World::new();
    let (id, address) = world.serve(&server(calm()));
    let (mut peer, far) = world.upgraded(Peer::connect_small(address));
    let payload = vec![b'x'; 40_000];
    let mut sent = 0;
    while world.lp.stats().buffered_bytes < 500_000 {
        let _ = world.lp.conn(far).send_binary(&payload).unwrap();
        sent += 1;
    }
    world.lp.stop_server(id, ms(60)).unwrap();
    world.until("it stops", |world| world.app.stopped(id).is_some());
    let counts = world.app.stopped(id).unwrap();
    assert_eq!((counts.clean, counts.forced), (0, 1));
    // Those whose last byte is in the kernel's hands are not dropped, even though the reset that
    // follows makes the kernel drop them.
    assert!(
        (12..sent).contains(&counts.messages_dropped),
        "{counts:?} of {sent}"
    );
    peer.pump();
    world.end();
}

#[test]
fn handshakes_in_progress_are_refused_when_the_server_stops() {
    let mut world = World::new();
    let (id, address) = world.serve(&server(calm()));
    world.app.upgrade = Some(Box::new(|_, _| Answer::Later));
    let mut silent = Peer::connect(address);
    let mut half = Peer::connect(address);
    half.send(&peer::REQUEST[..20]);
    let mut held = Peer::connect(address);
    held.send(peer::REQUEST);
    world.until("all are in progress", |world| {
        world.app.count("upgrade") == 1 && world.lp.stats().pending_handshakes == 2
    });
    let Some(Told::Upgrade(at_held, _)) = world.app.told.first().cloned() else {
        panic!("{}", world.app.summary());
    };
    world.lp.stop_server(id, PATIENCE).unwrap();
    let error = world
        .lp
        .conn(at_held)
        .accept(&Default::default())
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    for peer in [&mut silent, &mut half, &mut held] {
        world.until("a refusal comes", |_| {
            peer.pump();
            peer.end.is_some()
        });
        let text = String::from_utf8_lossy(&peer.got).into_owned();
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        assert_eq!(peer.end, Some(End::Fin));
    }
    drop((silent, half, held));
    world.until("it stops", |world| world.app.stopped(id).is_some());
    assert_eq!(world.app.stopped(id), Some(Stopped::default()));
    let kinds: Vec<_> = world
        .app
        .errors()
        .iter()
        .map(|error| error.kind())
        .collect();
    assert_eq!(kinds, [ErrorKind::Stopped; 3]);
    world.end();
}

#[test]
fn stopping_inside_any_callback_works() {
    for during in ["upgrade", "open", "message", "close"] {
        let mut world = World::new();
        let (id, address) = world.serve(&server(calm()));
        world.app.hook(move |conn, told| {
            let now = match told {
                Told::Upgrade(..) => "upgrade",
                Told::Open(_) => "open",
                Told::Message(..) => "message",
                Told::Close(..) => "close",
                _ => "",
            };
            if now == during && conn.server() == Some(id) {
                conn.context().stop_server(id, PATIENCE).unwrap();
            }
        });
        let near = world.connect(address, &client(calm()));
        let mut acted = false;
        world.until("it stops", |world| {
            if !acted && world.app.is_open(near) && world.lp.conn(near).state() == State::Open {
                acted = true;
                if during == "message" {
                    let _ = world.lp.conn(near).send_text("stop").unwrap();
                } else if during == "close" {
                    world.lp.conn(near).close(None, "").unwrap();
                }
            }
            world.app.stopped(id).is_some()
        });
        let closed = world.ended(near);
        match during {
            "upgrade" => assert_eq!(closed.http_status, 503),
            "close" => assert_eq!(closed.code, CloseCode::NO_STATUS),
            _ => assert_eq!(closed.code, CloseCode::GOING_AWAY),
        }
        world.end();
    }
}

#[test]
fn run_returns_when_nothing_is_left() {
    let mut world = World::new();
    world.run();
    let (id, address) = world.serve(&server(calm()));
    world.app.hook(move |conn, told| match told {
        Told::Open(_) if conn.server().is_none() => conn.close(Some(1000), "done").unwrap(),
        Told::Close(..) if conn.server().is_some() => {
            conn.context().stop_server(id, PATIENCE).unwrap();
        }
        _ => {}
    });
    let near = world.connect(address, &client(calm()));
    world.run();
    assert_eq!(world.app.names(near), ["open", "close"]);
    assert_eq!(world.app.stopped(id), Some(Stopped::default()));
    // A call that was posted is work too.
    let (sender, receiver) = std::sync::mpsc::channel();
    let post = move |_: &mut wsabi::Context| sender.send(()).unwrap();
    world.lp.handle().post(post).unwrap();
    world.run();
    receiver.try_recv().unwrap();
    world.end();
}

#[test]
fn finishing_tells_every_end_and_counts_it() {
    let mut world = World::new();
    let (id, address) = world.serve(&server(calm()));
    let (near, far) = world.pair(address, &client(calm()));
    let (_peer, raw) = world.raw_client(address);
    let resolving = world
        .lp
        .connect("ws://localhost:9/", &client(calm()))
        .unwrap();
    let _pending = Peer::connect(address);
    world.until("it is accepted", |world| {
        world.lp.stats().pending_handshakes == 1
    });
    let handle = world.lp.handle();
    // Nothing can be begun while the loop is freed.
    world.app.hook(|conn, told| {
        if matches!(told, Told::Close(..)) {
            let error = conn.context().listen(&server(calm())).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed);
            let error = conn
                .context()
                .connect("ws://h/", &client(calm()))
                .unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed);
        }
    });
    world.lp.finish(&mut world.app);
    for conn in [near, far, raw, resolving] {
        let closed = world.app.closed(conn).unwrap();
        assert_eq!(closed.error.as_ref().unwrap().kind(), ErrorKind::Stopped);
    }
    let counts = world.app.stopped(id).unwrap();
    assert_eq!((counts.clean, counts.forced), (0, 2));
    let error = handle.terminate(near).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    world.end();
}

#[test]
fn a_panic_in_a_callback_goes_to_the_caller_and_breaks_the_loop_for_good() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let (near, far) = world.pair(address, &client(calm()));
    world
        .app
        .hook(|_, told| assert!(!matches!(told, Told::Message(..)), "on purpose"));
    let _ = world.lp.conn(near).send_text("x").unwrap();
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let turn = std::panic::AssertUnwindSafe(|| world.turn(ms(5)));
        if std::panic::catch_unwind(turn).is_err() {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "no panic came through"
        );
    }
    let error = world.lp.dispatch(&mut world.app).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Panic);
    // It can still be freed, with the ends of all.
    world.app.hook = None;
    world.lp.finish(&mut world.app);
    for id in [near, far] {
        let closed = world.app.closed(id).unwrap();
        assert_eq!(closed.error.as_ref().unwrap().kind(), ErrorKind::Stopped);
    }
}

#[test]
fn the_timeout_is_the_next_deadline() {
    let mut world = World::new();
    assert_eq!(world.lp.timeout(), None);
    let interval = Duration::from_secs(3);
    let (_, address) = world.serve(&server(calm()));
    world.turns_in(ms(5));
    assert_eq!(world.lp.timeout(), None, "a server alone has none");
    let config = Config {
        ping_interval: Some(interval),
        ..calm()
    };
    let (near, _) = world.pair(address, &client(config));
    world.turns_in(ms(5));
    assert!(world.lp.timeout().unwrap() <= interval);
    world.lp.handle().post(|_| ()).unwrap();
    assert_eq!(world.lp.timeout(), Some(Duration::ZERO));
    world.turn(ms(0));
    assert_ne!(world.lp.timeout(), Some(Duration::ZERO));
    world.lp.conn(near).terminate().unwrap();
    assert_eq!(world.lp.timeout(), Some(Duration::ZERO));
    world.ended(near);
    world.end();
}
