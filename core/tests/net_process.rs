//! What a loop does when its process runs out of descriptors, and when it is forked.
//!
//! Does not know: other tests. Each one runs in a process of its own: this program once more, with
//! a variable set.

#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::os::fd::AsRawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use net::app::Told;
use net::peer::{self, Peer};
use net::{PATIENCE, TempPath, World, calm, client, kind, ms, server};
use wsabi::{Accept, ConnId, ErrorKind, MessageType, Response, Result, ServerOptions};

const CHILD: &str = "WSABI_TEST_CHILD";

/// Whether this process is the one to run the test `name` in; if not, runs it in one.
fn is_child(name: &str) -> bool {
    if std::env::var_os(CHILD).is_some_and(|child| child == name) {
        return true;
    }
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, name)
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + 2 * PATIENCE;
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        if Instant::now() > deadline {
            child.kill().unwrap();
            panic!("the child hangs");
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    assert!(status.success(), "the child failed: {status}");
    false
}

/// Lets this process open `more` descriptors, and none after that.
fn allow_descriptors(more: u64) {
    let next = std::fs::File::open("/dev/null").unwrap().as_raw_fd() as u64;
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: `limit` is valid for the length of the calls.
    let result = unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = next + more;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit)
    };
    assert_eq!(result, 0);
}

#[test]
fn without_descriptors_accepting_pauses_and_goes_on_afterwards() {
    if !is_child("without_descriptors_accepting_pauses_and_goes_on_afterwards") {
        return;
    }
    const CROWD: usize = 20;
    let mut world = World::new();
    let (id, address) = world.serve(&server(calm()));
    let mut crowd: Vec<_> = (0..CROWD).map(|_| Some(Peer::connect(address))).collect();
    for peer in crowd.iter_mut().flatten() {
        peer.send(peer::REQUEST);
    }
    allow_descriptors(4);
    let failed = |world: &mut World| {
        world.app.told.iter().any(|told| {
            matches!(told, Told::Error(server, error, None)
                if *server == id && error.kind() == ErrorKind::Io && error.os_error() == libc::EMFILE)
        })
    };
    world.until("the application is told", failed);
    world.until("those that were accepted are open", |world| {
        world.app.count("open") == 4
    });
    let turns = world.turns_in(ms(350));
    assert!(turns < 20, "{turns} turns while nobody can be accepted");
    assert_eq!(world.app.count("open"), 4);
    // Those that are open go on meanwhile.
    let opened = world.app.told.iter().find_map(|told| match told {
        Told::Open(id) => Some(*id),
        _ => None,
    });
    let _ = world.lp.conn(opened.unwrap()).send_text("hello").unwrap();
    // A client of this loop cannot have a socket either, and is told so.
    assert_eq!(
        world.app.count("error"),
        1,
        "told once, however often it is tried"
    );
    let refused = world.connect(address, &client(calm()));
    let closed = world.ended(refused);
    assert_eq!(closed.error.unwrap().os_error(), libc::EMFILE);
    // Whoever is answered goes, and makes room for another.
    world.until("everybody has been served", |world| {
        for place in &mut crowd {
            if let Some(peer) = place {
                peer.pump();
                if peer.head_len().is_some() {
                    *place = None;
                }
            }
        }
        world.app.count("open") == CROWD && world.lp.stats().connections == 0
    });
    world.turns_in(ms(250));
    assert_eq!(world.app.count("error"), 1, "the shortage is over");
    // Another shortage is told again.
    allow_descriptors(1);
    let _crowd = [Peer::connect(address)];
    world.until("the application is told again", |world| {
        world.app.count("error") == 2
    });
    world.end();
}

/// Everything that has to answer `Forked`, by name.
fn calls(
    world: &mut World,
    id: ConnId,
    server: wsabi::ServerId,
) -> Vec<(&'static str, Result<()>)> {
    let handle = world.lp.handle();
    let app = &mut world.app;
    let lp = &mut world.lp;
    let options = ServerOptions::tcp("127.0.0.1", 0);
    vec![
        ("dispatch", lp.dispatch(app).map(drop)),
        ("poll", lp.poll(Some(ms(1)), app).map(drop)),
        ("run", lp.run(app)),
        ("listen", lp.listen(&options).map(drop)),
        (
            "connect",
            lp.connect("ws://127.0.0.1:9/", &client(calm())).map(drop),
        ),
        ("stop_server", lp.stop_server(server, ms(1))),
        ("flush_all", lp.flush_all()),
        ("defer_writes", lp.defer_writes(false)),
        ("send_text", lp.conn(id).send_text("child").map(drop)),
        (
            "send_binary",
            lp.conn(id).send_binary(&[0; 100_000]).map(drop),
        ),
        (
            "send_fragment",
            lp.conn(id)
                .send_fragment(MessageType::Text, b"x", true)
                .map(drop),
        ),
        ("ping", lp.conn(id).ping(b"").map(drop)),
        ("pong", lp.conn(id).pong(b"").map(drop)),
        ("close", lp.conn(id).close(None, "")),
        ("terminate", lp.conn(id).terminate()),
        ("pause", lp.conn(id).pause()),
        ("resume", lp.conn(id).resume()),
        ("flush", lp.conn(id).flush()),
        ("accept", lp.conn(id).accept(&Accept::default())),
        ("respond", lp.conn(id).respond(&Response::text(403, ""))),
        ("handle.send", handle.send(id, MessageType::Text, b"x")),
        ("handle.terminate", handle.terminate(id)),
        ("handle.post", handle.post(|_| unreachable!("refused"))),
        ("handle.stop", handle.stop()),
        ("handle.wake", handle.wake()),
    ]
}

/// Runs `child` in a forked process, and tells whether it came through.
fn forked(child: impl FnOnce()) -> bool {
    // SAFETY: the child runs on what it was given, in the only thread there is, and never returns
    // into the test harness; the parent waits for its own child.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            let outcome = catch_unwind(AssertUnwindSafe(child));
            libc::_exit(i32::from(outcome.is_err()));
        }
        assert!(pid > 0, "fork failed");
        let mut status = 0;
        assert_eq!(libc::waitpid(pid, &mut status, 0), pid);
        libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
    }
}

#[test]
fn a_forked_child_is_refused_and_its_parent_undisturbed() {
    if !is_child("a_forked_child_is_refused_and_its_parent_undisturbed") {
        return;
    }
    for ending in ["keeps", "drops", "finishes"] {
        let path = TempPath::new();
        let mut world = World::new();
        let (id, address) = world.serve(&server(calm()));
        let unix = world.lp.listen(&ServerOptions::unix(&path.0)).unwrap();
        let (near, far) = world.pair(address, &client(calm()));
        world.lp.defer_writes(true).unwrap();
        let _ = world.lp.conn(near).send_text("from before").unwrap();
        let mut whole = Some(world);
        let ok = forked(|| {
            // The alarm's default action ends a child that hangs.
            // SAFETY: no handler is involved.
            unsafe { libc::alarm(10) };
            let mut world = whole.take().unwrap();
            let told = world.app.told.len();
            for (name, answer) in calls(&mut world, near, id) {
                assert_eq!(answer.unwrap_err().kind(), ErrorKind::Forked, "{name}");
            }
            match ending {
                "keeps" => std::mem::forget(world),
                "drops" => drop(world),
                _ => {
                    world.lp.finish(&mut world.app);
                    assert_eq!(world.app.told.len(), told, "no callback");
                }
            }
        });
        assert!(ok, "the child that {ending} its loop failed");
        let mut world = whole.unwrap();
        assert!(path.0.exists(), "the file is the parent's");
        world.until("what waited arrives", |world| {
            world.app.texts_of(far) == ["from before"]
        });
        world.lp.defer_writes(false).unwrap();
        let _ = world.lp.conn(far).send_text("back").unwrap();
        world.until("it arrives", |world| world.app.texts_of(near) == ["back"]);
        world.pair(address, &client(calm()));
        for server in [id, unix] {
            world.lp.stop_server(server, PATIENCE).unwrap();
            world.until("it stops", |world| world.app.stopped(server).is_some());
        }
        assert_eq!(world.app.stopped(id).unwrap().clean, 2);
        assert!(!path.0.exists());
        world.end();
    }
}

#[test]
fn a_loop_made_after_the_fork_works_in_the_child() {
    if !is_child("a_loop_made_after_the_fork_works_in_the_child") {
        return;
    }
    let before = World::new();
    let ok = forked(|| {
        // SAFETY: no handler is involved; the default action ends a child that hangs.
        unsafe { libc::alarm(10) };
        let mut world = World::new();
        world.app.echo = true;
        let (_, address) = world.serve(&server(calm()));
        let (near, _) = world.pair(address, &client(calm()));
        let _ = world.lp.conn(near).send_text("x").unwrap();
        world.until("the echo comes", |world| world.app.texts_of(near) == ["x"]);
        world.end();
    });
    assert!(ok);
    before.end();
}

/// Gives this process a hosts file of its own; false if the system does not let it.
#[cfg(target_os = "linux")]
fn replace_hosts(path: &std::path::Path) -> bool {
    use std::ffi::CString;
    let file = CString::new(path.as_os_str().as_encoded_bytes()).unwrap();
    let (hosts, root, none) = (c"/etc/hosts", c"/", std::ptr::null());
    // SAFETY: all strings end with NUL and live during the calls.
    unsafe {
        let alone = libc::unshare(libc::CLONE_NEWNS) == 0
            || libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNS) == 0;
        let private = libc::MS_REC | libc::MS_PRIVATE;
        alone
            && libc::mount(none, root.as_ptr(), none, private, none.cast()) == 0
            && libc::mount(
                file.as_ptr(),
                hosts.as_ptr(),
                none,
                libc::MS_BIND,
                none.cast(),
            ) == 0
    }
}

#[cfg(target_os = "linux")]
#[test]
fn the_addresses_of_a_name_are_tried_in_order_each_with_its_share_of_the_time() {
    use socket2::{Domain, Socket, Type};
    use std::net::{SocketAddr, ToSocketAddrs};
    if !is_child("the_addresses_of_a_name_are_tried_in_order_each_with_its_share_of_the_time") {
        return;
    }
    let path = TempPath::new();
    std::fs::write(&path.0, "127.0.0.2 many\n127.0.0.3 many\n127.0.0.1 many\n").unwrap();
    if !replace_hosts(&path.0) {
        println!("skipped: no hosts file of its own for this process");
        return;
    }
    // In the order in which the system's resolver prefers them.
    let found: Vec<_> = ("many", 0)
        .to_socket_addrs()
        .unwrap()
        .map(|found| found.ip())
        .collect();
    assert_eq!(found.len(), 3, "{found:?}");
    let mut world = World::new();
    // A server at the last address, and at the first somebody who does not listen yet.
    let (first, port) = loop {
        let first = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        first.bind(&SocketAddr::new(found[0], 0).into()).unwrap();
        let port = first.local_addr().unwrap().as_socket().unwrap().port();
        if world
            .lp
            .listen(&ServerOptions::tcp(&found[2].to_string(), port))
            .is_ok()
        {
            break (first, port);
        }
    };
    let url = format!("ws://many:{port}/");

    // Refused by two, which leaves the third.
    let near = world.lp.connect(&url, &client(calm())).unwrap();
    world.until("it opens", |world| world.app.is_open(near));

    // Refused by all.
    let nobody = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    nobody.bind(&SocketAddr::new(found[0], 0).into()).unwrap();
    let port = nobody.local_addr().unwrap().as_socket().unwrap().port();
    let near = world
        .lp
        .connect(&format!("ws://many:{port}/"), &client(calm()))
        .unwrap();
    let closed = world.ended(near);
    assert_eq!(closed.error.unwrap().kind(), ErrorKind::Connect);

    // One that does not answer is given up in time for the next.
    first.listen(0).unwrap();
    let mut queued = Vec::new();
    for _ in 0..8 {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        let _ = socket.connect(&first.local_addr().unwrap());
        queued.push(socket);
    }
    let limited = client(wsabi::Config {
        handshake_timeout: Duration::from_secs(3),
        ..calm()
    });
    let near = world.lp.connect(&url, &limited).unwrap();
    world.until("it opens", |world| {
        assert!(world.app.closed(near).is_none(), "{}", world.app.summary());
        world.app.is_open(near)
    });

    // One that accepts is not left for another, whatever it does then.
    drop(queued);
    first.set_nonblocking(true).unwrap();
    let near = world.lp.connect(&url, &client(calm())).unwrap();
    world.until("the first ends it", |world| {
        while first.accept().is_ok() {}
        world.app.closed(near).is_some()
    });
    assert_eq!(kind(world.app.closed(near).unwrap()), Some(ErrorKind::Lost));
    world.end();
}
