//! What the tests of the loop share: a world of one loop and one application, driven with a
//! deadline; and raw peers, which speak whatever a test makes them speak.
//!
//! Does not know: anything of wsabi but its public interface.

#![allow(
    dead_code,
    unreachable_pub,
    reason = "every test file takes what it needs"
)]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "these are tests, though clippy sees that only inside the functions marked so"
)]

pub mod app;
pub mod peer;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use wsabi::{
    ClientOptions, Closed, Config, ConnId, ErrorKind, Loop, LoopOptions, PeerAddr, ServerId,
    ServerOptions, State,
};

use app::{App, Told};
use peer::{Frame, Peer};

/// How long a test waits for what has to come.
pub const PATIENCE: Duration = Duration::from_secs(20);
/// How long a test watches that nothing comes.
pub const QUIET: Duration = Duration::from_millis(120);

/// The defaults without what happens by itself.
pub fn calm() -> Config {
    Config {
        ping_interval: None,
        ..Config::default()
    }
}

/// A server on a port of IPv4's loopback with these limits and times.
pub fn server(config: Config) -> ServerOptions {
    ServerOptions {
        config,
        ..ServerOptions::tcp("127.0.0.1", 0)
    }
}

/// A client with these limits and times.
pub fn client(config: Config) -> ClientOptions {
    ClientOptions {
        config,
        ..ClientOptions::default()
    }
}

pub fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

/// What ended a connection, if it was not the closing handshake.
pub fn kind(closed: &Closed) -> Option<ErrorKind> {
    closed.error.as_ref().map(wsabi::Error::kind)
}

/// A path that no other test uses, free at first and afterwards.
pub struct TempPath(pub PathBuf);

impl TempPath {
    pub fn new() -> Self {
        static COUNT: AtomicUsize = AtomicUsize::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("wsabi-net-{}-{number}", std::process::id());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for TempPath {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// A loop and its application.
pub struct World {
    pub lp: Loop,
    pub app: App,
}

impl World {
    pub fn new() -> Self {
        Self::with(LoopOptions::default())
    }

    pub fn with(options: LoopOptions) -> Self {
        Self {
            lp: Loop::with_options(options).unwrap(),
            app: App::default(),
        }
    }

    /// A world whose dispatches make at most `max_events` callbacks.
    pub fn capped(max_events: u32) -> Self {
        Self::with(LoopOptions {
            max_events,
            ..LoopOptions::default()
        })
    }

    /// Waits at most `wait` for something to do, and does it.
    pub fn turn(&mut self, wait: Duration) -> bool {
        self.lp.poll(Some(wait), &mut self.app).unwrap()
    }

    /// Runs until `done`, and fails if that takes too long.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(
                Instant::now() < deadline,
                "in vain: {what}; {}",
                self.app.summary()
            );
            self.turn(ms(5));
        }
    }

    /// Runs for a while, and counts the turns that were not for nothing: a world at rest has one.
    pub fn turns_in(&mut self, time: Duration) -> usize {
        let end = Instant::now() + time;
        let mut turns = 0;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return turns;
            }
            self.turn(left);
            turns += 1;
        }
    }

    /// Runs as [`Loop::run`] does, and fails if that takes too long.
    pub fn run(&mut self) {
        let handle = self.lp.handle();
        let (done, returned) = mpsc::channel::<()>();
        let watch = thread::spawn(move || {
            let late = returned.recv_timeout(PATIENCE) == Err(RecvTimeoutError::Timeout);
            if late {
                let _ = handle.stop();
            }
            late
        });
        self.lp.run(&mut self.app).unwrap();
        drop(done);
        assert!(
            !watch.join().unwrap(),
            "run does not return; {}",
            self.app.summary()
        );
    }

    pub fn serve(&mut self, options: &ServerOptions) -> (ServerId, SocketAddr) {
        let id = self.lp.listen(options).unwrap();
        let PeerAddr::Tcp(address) = *self.lp.server_addr(id).unwrap() else {
            panic!("not a TCP server");
        };
        (id, address)
    }

    pub fn connect(&mut self, address: SocketAddr, options: &ClientOptions) -> ConnId {
        self.lp
            .connect(&format!("ws://{address}/"), options)
            .unwrap()
    }

    /// A client of this loop connected to a server of this loop: their numbers.
    pub fn pair(&mut self, address: SocketAddr, options: &ClientOptions) -> (ConnId, ConnId) {
        let from = self.app.told.len();
        let near = self.connect(address, options);
        let far = |world: &Self| {
            world.app.told[from..].iter().find_map(|told| match told {
                Told::Open(id) if *id != near => Some(*id),
                _ => None,
            })
        };
        self.until("both ends are open", |world| {
            far(world).is_some() && world.app.is_open(near)
        });
        (near, far(self).unwrap())
    }

    /// A raw client connected to a server of this loop, and the number of the server's end.
    pub fn raw_client(&mut self, address: SocketAddr) -> (Peer, ConnId) {
        let peer = Peer::connect(address);
        self.upgraded(peer)
    }

    /// Sends a request over `peer` and waits until the connection is open at both ends.
    pub fn upgraded(&mut self, mut peer: Peer) -> (Peer, ConnId) {
        let from = self.app.told.len();
        peer.send(peer::REQUEST);
        let opened = |world: &Self| {
            world.app.told[from..].iter().find_map(|told| match told {
                Told::Open(id) => Some(*id),
                _ => None,
            })
        };
        self.until("the handshake completes", |world| {
            peer.pump();
            peer.head_len().is_some() && opened(world).is_some()
        });
        let head = peer.take_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert!(head.contains(peer::ACCEPT), "{head}");
        (peer, opened(self).unwrap())
    }

    /// A client of this loop connected to a raw server, and its number.
    pub fn raw_server(&mut self, options: &ClientOptions) -> (Peer, ConnId) {
        let (mut peer, id) = self.asked(options);
        peer.answer_request("");
        self.until("the handshake completes", |world| world.app.is_open(id));
        (peer, id)
    }

    /// A client of this loop that has sent its request to a raw server.
    pub fn asked(&mut self, options: &ClientOptions) -> (Peer, ConnId) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let id = self.connect(listener.local_addr().unwrap(), options);
        listener.set_nonblocking(true).unwrap();
        let mut peer = None;
        self.until("the client asks", |_| {
            if peer.is_none() {
                peer = listener
                    .accept()
                    .ok()
                    .map(|(stream, _)| Peer::server(stream));
            }
            peer.as_mut().is_some_and(|peer| {
                peer.pump();
                peer.head_len().is_some()
            })
        });
        (peer.unwrap(), id)
    }

    /// A connection of this loop in one role, and its raw peer in the other.
    pub fn meet(&mut self, at_server: bool, config: Config) -> (Peer, ConnId) {
        if at_server {
            let (_, address) = self.serve(&server(config));
            self.raw_client(address)
        } else {
            self.raw_server(&client(config))
        }
    }

    /// The next frames of a peer; waits for as many as `count`.
    pub fn frames(&mut self, peer: &mut Peer, count: usize) -> Vec<Frame> {
        let mut all = Vec::new();
        self.until("frames come", |_| {
            all.extend(peer.frames());
            all.len() >= count
        });
        all
    }

    /// How a connection ended; waits for it.
    pub fn ended(&mut self, id: ConnId) -> Closed {
        self.until("the connection ends", |world| {
            world.app.closed(id).is_some()
        });
        assert_eq!(self.lp.conn(id).state(), State::Closed);
        self.app.closed(id).unwrap().clone()
    }

    /// Ends everything, and checks that every account is settled.
    pub fn end(mut self) {
        self.lp.finish(&mut self.app);
        assert!(self.lp.is_idle());
        self.app.check_all_closed();
        let stats = self.lp.stats();
        let now = (
            stats.connections,
            stats.pending_handshakes,
            stats.buffered_bytes,
        );
        assert_eq!(now, (0, 0, 0), "{stats:?}");
        assert_eq!(stats.messages_received, self.app.messages, "{stats:?}");
        let closes = stats.closes_clean
            + stats.closes_lost
            + stats.closes_protocol
            + stats.closes_timeout
            + stats.closes_local;
        assert_eq!(
            closes, self.app.established,
            "each is counted once: {stats:?}"
        );
    }
}
