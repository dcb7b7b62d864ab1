//! Commands from other threads.
//!
//! Does not know: what the commands do when they come from the loop's own.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use net::app::Told;
use net::peer::{self, Peer};
use net::{PATIENCE, World, calm, client, ms, server};
use wsabi::{
    Accept, Answer, CloseCode, Config, ConnId, Context, ErrorKind, Handle, LogLevel, LoopOptions,
    MessageType, Response, State,
};

/// Sends, and tries again while the loop has not caught up.
fn send_patiently(handle: &Handle, id: ConnId, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match handle.send(id, MessageType::Text, text.as_bytes()) {
            Ok(()) => return,
            Err(error) => assert_eq!(error.kind(), ErrorKind::Full),
        }
        assert!(Instant::now() < deadline, "the loop never caught up");
        thread::yield_now();
    }
}

#[test]
fn sends_from_four_threads_arrive_complete_and_in_order_per_thread() {
    const EACH: usize = 2000;
    for max_inbox_bytes in [2000, 16 << 20] {
        let mut world = World::with(LoopOptions {
            max_inbox_bytes,
            ..LoopOptions::default()
        });
        // Room for all: what a handle accepts, a full backlog would drop.
        let config = Config {
            max_backlog_bytes: 1 << 30,
            ..calm()
        };
        let (_, address) = world.serve(&server(config.clone()));
        let (near, far) = world.pair(address, &client(config));
        let threads: Vec<_> = (0..4)
            .map(|name| {
                let handle = world.lp.handle();
                thread::spawn(move || {
                    for number in 0..EACH {
                        let target = if number % 2 == 0 { near } else { far };
                        send_patiently(&handle, target, &format!("{name} {number}"));
                    }
                })
            })
            .collect();
        world.until("all arrive", |world| world.app.messages == 4 * EACH as u64);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        for (id, parity) in [(near, 1), (far, 0)] {
            let texts = world.app.texts_of(id);
            for name in 0..4 {
                let prefix = format!("{name} ");
                let come: Vec<_> = texts
                    .iter()
                    .filter_map(|text| text.strip_prefix(&prefix))
                    .collect();
                let sent: Vec<_> = (0..EACH)
                    .filter(|number| number % 2 == parity)
                    .map(|number| number.to_string())
                    .collect();
                assert_eq!(come, sent);
            }
        }
        world.end();
    }
}

#[test]
fn an_inbox_has_a_limit_and_takes_again_after_a_dispatch() {
    let mut world = World::with(LoopOptions {
        max_inbox_bytes: 10_000,
        ..LoopOptions::default()
    });
    let (_, address) = world.serve(&server(calm()));
    let (near, far) = world.pair(address, &client(calm()));
    let handle = world.lp.handle();
    for round in 1..4 {
        let mut accepted = 0;
        let error = loop {
            match handle.send(near, MessageType::Binary, &[0; 1000]) {
                Ok(()) => accepted += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::Full);
        assert!(error.detail().contains("max_inbox_bytes"), "{error}");
        assert!((8..=10).contains(&accepted), "{accepted}");
        for refused in [
            handle.post(|_: &mut Context| unreachable!("it was refused")),
            handle.terminate(near),
            handle.ping(near, b""),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Full);
        }
        world.until("they arrive", |world| {
            world.app.messages_of(far).len() == round * accepted
        });
    }
    assert!(world.app.is_open(near));
    world.end();
}

#[test]
fn bad_arguments_are_refused_where_they_are_given() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let (near, _) = world.pair(address, &client(calm()));
    let handle = world.lp.handle();
    let response = Response {
        headers: vec![("X".into(), "a\nb".into())],
        ..Response::text(200, "")
    };
    for refused in [
        handle.send(near, MessageType::Text, b"\xff"),
        handle.ping(near, &[0; 126]),
        handle.pong(near, &[0; 126]),
        handle.close(near, Some(1005), ""),
        handle.close(near, None, "why"),
        handle.respond(near, response),
    ] {
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    }
    world.turns_in(ms(20));
    assert_eq!(world.lp.conn(near).state(), State::Open);
    world.end();
}

#[test]
fn every_command_works_from_another_thread() {
    let mut world = World::new();
    let (id_of_server, address) = world.serve(&server(calm()));
    let (near, far) = world.pair(address, &client(calm()));
    let (doomed, _) = world.pair(address, &client(calm()));
    let handle = world.lp.handle();
    thread::spawn(move || {
        handle
            .send_fragment(near, MessageType::Text, b"gr\xc3", false)
            .unwrap();
        handle.ping(near, b"ping").unwrap();
        handle.pong(near, b"pong").unwrap();
        handle
            .send_fragment(near, MessageType::Text, b"\xbc\xc3\x9fe", true)
            .unwrap();
        handle.terminate(doomed).unwrap();
        handle.close(near, Some(4000), "done").unwrap();
        handle.stop_server(id_of_server, PATIENCE).unwrap();
    })
    .join()
    .unwrap();
    world.until("the server stops", |world| {
        world.app.stopped(id_of_server).is_some()
    });
    assert_eq!(
        world.app.names(far),
        ["open", "ping", "pong", "message", "close"]
    );
    assert_eq!(world.app.texts_of(far), ["grüße"]);
    assert_eq!(world.ended(far).code.as_u16(), 4000);
    let closed = world.ended(doomed);
    assert_eq!(closed.error.unwrap().kind(), ErrorKind::Terminated);
    world.end();
}

#[test]
fn a_request_can_be_answered_from_another_thread() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let (sender, requests) = mpsc::channel::<(ConnId, String)>();
    world.app.upgrade = Some(Box::new(move |conn, request| {
        sender.send((conn.id(), request.target.to_owned())).unwrap();
        Answer::Later
    }));
    let handle = world.lp.handle();
    let thread = thread::spawn(move || {
        for _ in 0..2 {
            let (id, target) = requests.recv_timeout(PATIENCE).unwrap();
            if target == "/yes" {
                handle.accept(id, Accept::default()).unwrap();
                // In order: this is sent after the response.
                handle.send(id, MessageType::Text, b"welcome").unwrap();
            } else {
                handle.respond(id, Response::text(403, "no")).unwrap();
            }
        }
    });
    let yes = world
        .lp
        .connect(&format!("ws://{address}/yes"), &client(calm()))
        .unwrap();
    let no = world
        .lp
        .connect(&format!("ws://{address}/no"), &client(calm()))
        .unwrap();
    assert_eq!(world.ended(no).http_status, 403);
    world.until("the welcome comes", |world| {
        world.app.texts_of(yes) == ["welcome"]
    });
    thread.join().unwrap();
    world.end();
}

#[test]
fn commands_to_stale_numbers_are_dropped_and_logged() {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let log = Arc::clone(&lines);
    let mut world = World::with(LoopOptions {
        log: Some((
            LogLevel::Debug,
            Box::new(move |_, line| log.lock().unwrap().push(line.to_owned())),
        )),
        ..LoopOptions::default()
    });
    let (_, address) = world.serve(&server(calm()));
    let (near, _) = world.pair(address, &client(calm()));
    world.lp.conn(near).terminate().unwrap();
    world.ended(near);
    let (next, next_far) = world.pair(address, &client(calm()));
    let handle = world.lp.handle();
    handle.send(near, MessageType::Text, b"x").unwrap();
    handle.close(near, Some(1000), "").unwrap();
    handle.terminate(near).unwrap();
    handle.accept(near, Accept::default()).unwrap();
    handle.respond(near, Response::text(200, "")).unwrap();
    world.turns_in(ms(30));
    let dropped = lines
        .lock()
        .unwrap()
        .iter()
        .filter(|line| line.contains("another thread was dropped"))
        .count();
    assert_eq!(dropped, 5);
    assert!(world.app.is_open(next) && world.app.is_open(next_far));
    assert_eq!(world.app.messages, 0);
    world.end();
}

#[test]
fn posted_calls_run_in_order_on_the_loops_thread() {
    let mut world = World::new();
    let handle = world.lp.handle();
    let (sender, receiver) = mpsc::channel();
    let poster = thread::spawn({
        let handle = handle.clone();
        move || {
            for number in 0..1000 {
                let sender = sender.clone();
                let call = move |_: &mut Context| {
                    sender.send((number, thread::current().id())).unwrap();
                };
                handle.post(call).unwrap();
            }
        }
    });
    let mut come = Vec::new();
    world.until("all have run", |_| {
        come.extend(receiver.try_iter());
        come.len() == 1000
    });
    poster.join().unwrap();
    let here = thread::current().id();
    assert!(come.iter().enumerate().all(|(i, call)| *call == (i, here)));

    // One posted from inside a call runs in a later turn, so that a chain starves nobody.
    let depth = Arc::new(AtomicUsize::new(0));
    fn again(handle: Handle, depth: Arc<AtomicUsize>) {
        let inner = handle.clone();
        let call = move |_: &mut Context| {
            depth.fetch_add(1, Ordering::SeqCst);
            again(inner, depth);
        };
        let _ = handle.post(call);
    }
    again(handle, Arc::clone(&depth));
    for turn in 1..5 {
        world.turn(ms(0));
        assert_eq!(depth.load(Ordering::SeqCst), turn);
    }
    world.end();
}

#[test]
fn a_call_can_do_what_the_loops_owner_can() {
    let mut world = World::new();
    let (sender, receiver) = mpsc::channel();
    let call = move |context: &mut Context| {
        let id = context.listen(&server(calm())).unwrap();
        let url = format!("ws://{}/", context.server_addr(id).unwrap());
        let conn = context.connect(&url, &client(calm())).unwrap();
        let error = context.conn(conn).send_text("early").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        sender.send((id, conn)).unwrap();
    };
    world.lp.handle().post(call).unwrap();
    world.turn(ms(0));
    let (_, conn) = receiver.try_recv().unwrap();
    world.until("it opens", |world| world.app.is_open(conn));
    world.end();
}

#[test]
fn a_handle_outlives_its_loop_and_says_so() {
    for finished in [false, true] {
        let mut world = World::new();
        let (_, address) = world.serve(&server(calm()));
        let (near, _) = world.pair(address, &client(calm()));
        let handle = world.lp.handle();
        // A call that waits is dropped with what it owns.
        let owned = Arc::new(());
        let kept = Arc::clone(&owned);
        handle.post(move |_: &mut Context| drop(kept)).unwrap();
        if finished {
            world.lp.finish(&mut world.app);
        } else {
            drop(world);
        }
        assert_eq!(Arc::strong_count(&owned), 1);
        for refused in [
            handle.send(near, MessageType::Text, b"x"),
            handle.terminate(near),
            handle.post(|_: &mut Context| unreachable!("the loop is gone")),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::Closed);
        }
        let _ = handle.stop();
        let _ = handle.wake();
    }
}

#[test]
fn stop_ends_run_from_another_thread_before_or_amid_it() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let handle = world.lp.handle();
    handle.stop().unwrap();
    world.run();
    let stopper = thread::spawn(move || {
        let mut peer = Peer::connect(address);
        peer.send(peer::REQUEST);
        // The response shows that the loop runs.
        let deadline = Instant::now() + PATIENCE;
        while peer.head_len().is_none() {
            assert!(Instant::now() < deadline);
            peer.pump();
            thread::sleep(Duration::from_millis(1));
        }
        handle.stop().unwrap();
        peer
    });
    world.run();
    let peer = stopper.join().unwrap();
    assert!(!world.lp.is_idle(), "stopped, not ended");
    drop(peer);
    world.until("the peer is gone", |world| {
        world.lp.stats().connections == 0
    });
    world.end();
}

#[test]
fn a_wake_ends_a_wait_and_a_send_is_not_late() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let (near, far) = world.pair(address, &client(calm()));
    world.turns_in(ms(10));
    let handle = world.lp.handle();
    let waker = thread::spawn(move || {
        handle.wake().unwrap();
        handle.send(near, MessageType::Text, b"now").unwrap();
    });
    let deadline = Instant::now() + PATIENCE;
    while world.app.messages == 0 {
        world.turn(PATIENCE);
        assert!(Instant::now() < deadline, "a wake-up was lost");
    }
    waker.join().unwrap();
    assert_eq!(world.app.texts_of(far), ["now"]);
    assert!(matches!(world.app.told.last(), Some(Told::Message(..))));
    world.lp.conn(near).close(None, "").unwrap();
    assert_eq!(world.ended(far).code, CloseCode::NO_STATUS);
    world.end();
}
