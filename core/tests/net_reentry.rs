//! Every command inside every callback, on the connection that is called and on another; and
//! numbers that are stale.
//!
//! Does not know: what the commands do in calmer circumstances.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use net::app::Told;
use net::peer::{self, Peer};
use net::{PATIENCE, World, calm, client, ms, server};
use wsabi::{
    Accept, Answer, Config, Conn, ConnId, ErrorKind, MessageType, Response, Result, State,
};

type Command = fn(&mut Conn<'_>) -> Result<()>;

/// Every command that can be given to a connection.
const COMMANDS: [(&str, Command); 15] = [
    ("send_text", |conn| conn.send_text("x").map(drop)),
    ("send_binary", |conn| conn.send_binary(&[0; 100]).map(drop)),
    ("send_large", |conn| {
        conn.send_binary(&[0; 300_000]).map(drop)
    }),
    ("send", |conn| conn.send(MessageType::Text, b"x").map(drop)),
    ("send_fragment", |conn| {
        let _ = conn.send_fragment(MessageType::Text, b"x", false)?;
        conn.send_fragment(MessageType::Text, b"y", true).map(drop)
    }),
    ("ping", |conn| conn.ping(b"x").map(drop)),
    ("pong", |conn| conn.pong(b"x").map(drop)),
    ("close", |conn| conn.close(Some(1000), "bye")),
    ("terminate", |conn| conn.terminate()),
    ("pause", |conn| conn.pause()),
    ("resume", |conn| conn.resume()),
    ("flush", |conn| conn.flush()),
    ("accept", |conn| conn.accept(&Accept::default())),
    ("respond", |conn| conn.respond(&Response::text(403, "no"))),
    ("set_user", |conn| conn.set_user(1)),
];

/// Every callback about a connection.
const CALLBACKS: [&str; 8] = [
    "upgrade", "http", "open", "message", "drain", "ping", "pong", "close",
];

fn name(told: &Told) -> &'static str {
    match told {
        Told::Upgrade(..) => "upgrade",
        Told::Http(..) => "http",
        Told::Open(_) => "open",
        Told::Message(..) => "message",
        Told::Chunk(..) => "chunk",
        Told::Drain(_) => "drain",
        Told::Ping(..) => "ping",
        Told::Pong(..) => "pong",
        Told::Close(..) => "close",
        Told::Error(..) => "error",
        Told::Stopped(..) => "stopped",
    }
}

/// A world in which everything is told that can be, when it is let run.
struct Scene {
    world: World,
    loud: Peer,
    /// The server's end of `loud`, and that of one that does nothing.
    id: ConnId,
    other: ConnId,
    _others: Vec<Peer>,
}

impl Scene {
    fn new(max_events: u32) -> Self {
        let mut world = World::capped(max_events);
        let (_, address) = world.serve(&server(Config {
            high_water_bytes: 100_000,
            low_water_bytes: 1000,
            close_timeout: ms(100),
            ..calm()
        }));
        let (bystander, other) = world.raw_client(address);
        let (loud, id) = world.raw_client(address);
        let mut asking = Peer::connect(address);
        asking.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut joining = Peer::connect(address);
        joining.send(peer::REQUEST);
        Self {
            world,
            loud,
            id,
            other,
            _others: vec![bystander, asking, joining],
        }
    }

    /// Makes every callback happen, and waits until the loud connection has ended.
    fn play(&mut self) {
        let mut script = self.loud.frame(peer::TEXT, b"one");
        script.extend(self.loud.frame(peer::PING, b"p"));
        script.extend(self.loud.frame(peer::PONG, b"p"));
        script.extend(self.loud.frame(peer::TEXT, b"two"));
        self.loud.send(&script);
        // Larger than any kernel's buffer, so that a drain follows.
        let _ = self.world.lp.conn(self.id).send_binary(&vec![0; 8 << 20]);
        let (loud, id) = (&mut self.loud, self.id);
        let mut closing = false;
        self.world.until("the loud one ends", |world| {
            loud.pump();
            // A paused one is to go on.
            let _ = world.lp.conn(id).resume();
            if !closing && world.app.count("drain") > 0 && world.app.count("pong") > 0 {
                closing = true;
                let close = loud.frame(peer::CLOSE, b"");
                loud.try_send(&close);
                let _ = loud.socket.shutdown(std::net::Shutdown::Write);
            }
            world.app.closed(id).is_some()
        });
    }
}

#[test]
fn a_scene_without_commands_has_every_callback() {
    let mut scene = Scene::new(4096);
    scene.play();
    scene.world.until("the others are answered", |world| {
        world.app.count("http") == 1 && world.app.count("upgrade") == 3
    });
    for callback in CALLBACKS {
        assert!(scene.world.app.count(callback) > 0, "{callback}");
    }
    scene.world.end();
}

/// Gives `command` in the first `callback`; `to_other` to a bystander instead of the connection
/// that is called.
fn given_inside(callback: &'static str, command: Command, to_other: bool, max_events: u32) {
    let mut scene = Scene::new(max_events);
    let (loud, other) = (scene.id, scene.other);
    let given = Rc::new(Cell::new(false));
    let done = Rc::clone(&given);
    scene.world.app.hook(move |conn, told| {
        let known = conn.id() == loud || matches!(callback, "upgrade" | "http");
        if name(told) != callback || !known || done.replace(true) {
            return;
        }
        let answer = if to_other {
            command(&mut conn.context().conn(other))
        } else {
            command(conn)
        };
        if let Err(error) = answer {
            let of_the_moment = [ErrorKind::Closed, ErrorKind::State];
            assert!(of_the_moment.contains(&error.kind()), "{callback}: {error}");
        }
        if callback == "close" && !to_other {
            assert_eq!(conn.state(), State::Closed);
        }
    });
    if !matches!(callback, "upgrade" | "http") {
        scene.play();
    } else {
        scene.world.until("it is given", |_| given.get());
        scene.world.turns_in(ms(2));
    }
    let lost = scene.world.app.closed(loud).is_some() || matches!(callback, "upgrade" | "http");
    assert!(lost, "{}", scene.world.app.summary());
    assert!(
        !scene.world.app.is_open(loud) || !given.get() || matches!(callback, "upgrade" | "http")
    );
    scene.world.end();
}

#[test]
fn every_command_in_every_callback_to_the_connection_itself() {
    for callback in CALLBACKS {
        for (_, command) in COMMANDS {
            for max_events in [1, 4096] {
                given_inside(callback, command, false, max_events);
            }
        }
    }
}

#[test]
fn every_command_in_every_callback_to_another_connection() {
    for callback in CALLBACKS {
        for (_, command) in COMMANDS {
            given_inside(callback, command, true, 4096);
        }
    }
}

#[test]
fn commands_in_on_close_answer_closed_and_harm_nobody() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let answers = Rc::new(RefCell::new(Vec::new()));
    let note = Rc::clone(&answers);
    world.app.hook(move |conn, told| {
        if matches!(told, Told::Close(..)) && conn.server().is_some() {
            for (name, command) in COMMANDS {
                let answer = command(conn).map_err(|error| error.kind());
                note.borrow_mut().push((name, answer));
            }
            assert!(conn.is_known() && conn.server().is_some());
            assert_eq!((conn.buffered(), conn.peer_addr()), (0, None));
        }
    });
    let (peer, id) = world.raw_client(address);
    world.lp.conn(id).set_user(7).unwrap();
    drop(peer);
    world.ended(id);
    for (name, answer) in answers.borrow().iter() {
        // Its own number can be looked at and set until the number is stale.
        let expected = if *name == "set_user" {
            Ok(())
        } else {
            Err(ErrorKind::Closed)
        };
        assert_eq!(*answer, expected, "{name}");
    }
    world.end();
}

#[test]
fn stale_numbers_answer_closed_to_everything_and_touch_no_successor() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let mut stale = Vec::new();
    for _ in 0..20 {
        let (near, far) = world.pair(address, &client(calm()));
        world.lp.conn(near).terminate().unwrap();
        world.ended(near);
        world.ended(far);
        stale.extend([near, far]);
    }
    let (near, far) = world.pair(address, &client(calm()));
    stale.push(ConnId::from_u64(u64::MAX).unwrap());
    stale.push(ConnId::from_u64(1).unwrap());
    // Slots are used again, numbers are not.
    let indices: std::collections::HashSet<u32> =
        stale.iter().map(|id| id.as_u64() as u32).collect();
    assert!(indices.len() < 12, "{indices:?}");
    assert!(!stale.contains(&near) && !stale.contains(&far));
    for &id in &stale {
        let mut conn = world.lp.conn(id);
        for (name, command) in COMMANDS {
            let error = command(&mut conn).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed, "{name} to {id}");
        }
        assert!(!conn.is_known());
        assert_eq!(conn.state(), State::Closed);
        let amounts = (conn.buffered(), conn.user(), conn.tag());
        assert_eq!(amounts, (0, 0, 0));
        assert_eq!((conn.server(), conn.subprotocol()), (None, None));
        assert_eq!((conn.peer_addr(), conn.local_addr()), (None, None));
    }
    world.turns_in(ms(20));
    assert!(world.app.is_open(near) && world.app.is_open(far));
    let _ = world.lp.conn(near).send_text("alive").unwrap();
    world.until("it arrives", |world| world.app.texts_of(far) == ["alive"]);
    world.end();
}

#[test]
fn the_users_numbers_stay_with_their_connection() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let options = wsabi::ClientOptions {
        user: 42,
        tag: 43,
        ..client(calm())
    };
    let seen = Rc::new(RefCell::new(Vec::new()));
    let note = Rc::clone(&seen);
    world.app.hook(move |conn, told| {
        if conn.server().is_none() {
            note.borrow_mut()
                .push((name(told), conn.user(), conn.tag()));
        }
    });
    let (near, far) = world.pair(address, &options);
    world.lp.conn(near).set_user(44).unwrap();
    assert_eq!(world.lp.conn(far).user(), 0);
    world.lp.conn(far).close(None, "").unwrap();
    world.ended(near);
    assert_eq!(*seen.borrow(), [("open", 42, 43), ("close", 44, 43)]);
    assert_eq!(world.lp.conn(near).user(), 0, "stale");
    let again = world.connect(address, &client(calm()));
    assert_eq!(world.lp.conn(again).user(), 0, "nothing is inherited");
    world.end();
}

#[test]
fn one_callback_may_end_all_connections() {
    for max_events in [1, 3, 4096] {
        let mut world = World::capped(max_events);
        let (id, address) = world.serve(&server(calm()));
        let mut peers: Vec<_> = (0..8).map(|_| world.raw_client(address)).collect();
        let all: Vec<_> = peers.iter().map(|(_, id)| *id).collect();
        for (peer, _) in &mut peers {
            for _ in 0..5 {
                peer.send_frame(peer::TEXT, b"x");
            }
        }
        world.app.hook(move |conn, told| {
            if matches!(told, Told::Message(..)) {
                for &id in &all {
                    conn.context().conn(id).terminate().unwrap();
                }
            }
        });
        world.until("all have ended", |world| world.app.count("close") == 8);
        assert_eq!(world.app.messages, 1, "after terminate only on_close");
        world.lp.stop_server(id, PATIENCE).unwrap();
        world.until("it stops", |world| world.app.stopped(id).is_some());
        world.end();
    }
}

#[test]
fn servers_can_be_started_and_stopped_in_on_error_and_on_stopped() {
    let mut world = World::new();
    let (first, address) = world.serve(&server(calm()));
    let started = Rc::new(Cell::new(None));
    let note = Rc::clone(&started);
    world.app.context_hook = Some(Box::new(move |context, told| match told {
        Told::Error(id, ..) => context.stop_server(*id, PATIENCE).unwrap(),
        Told::Stopped(id, _) if *id == first => {
            let error = context.stop_server(*id, PATIENCE).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Closed);
            note.set(Some(context.listen(&server(calm())).unwrap()));
        }
        _ => {}
    }));
    drop(Peer::connect(address));
    world.until("another has started", |_| started.get().is_some());
    let second = started.get().unwrap();
    assert_ne!(first, second);
    assert!(world.lp.server_addr(second).is_ok());
    world.end();
}

#[test]
fn an_answer_in_on_upgrade_may_come_with_every_command() {
    for (name, command) in COMMANDS {
        for accept_first in [false, true] {
            let mut world = World::new();
            let (id, address) = world.serve(&server(Config {
                close_timeout: ms(100),
                ..calm()
            }));
            world.app.upgrade = Some(Box::new(move |conn, _| {
                if accept_first {
                    conn.accept(&Accept::default()).unwrap();
                }
                let _ = command(conn);
                Answer::accept()
            }));
            let near = world.connect(address, &client(calm()));
            let mut stopping = false;
            world.until("the server stops", |world| {
                let settled = world.app.is_open(near) || world.app.closed(near).is_some();
                if settled && !stopping {
                    stopping = true;
                    world.lp.stop_server(id, ms(50)).unwrap();
                }
                world.app.stopped(id).is_some()
            });
            world.ended(near);
            assert!(world.lp.is_idle(), "{name}: {}", world.app.summary());
            world.end();
        }
    }
}
