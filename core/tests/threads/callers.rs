//! The threads that call: each makes every kind of call, in an order of its own, and counts what
//! it was answered.
//!
//! Does not know: when the loop ends.

use std::sync::atomic::Ordering;
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use wsabi::{
    Accept, Bytes, Compress, ConnId, Context, ErrorKind, Handle, MessageType, Prepared, Response,
    Result,
};

use crate::board::{Board, Lent, Tally, Token};
use crate::office::{open_server, payload};

pub const CALLERS: u64 = 4;
/// More than is copied when it is lent, or compressed when it is sent.
const MUCH: usize = 100_000;
/// How long anything may take that has to come.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// How many calls a caller makes before it waits for the loop to come to them.
const IN_FLIGHT: u64 = 64;
/// How many calls of each caller are accepted at least, if the loop does not end before.
const LEAST: u64 = 1000;

/// Each kind of call, and how many times in a round it comes.
const CALLS: &[(&str, u64)] = &[
    ("send text", 8),
    ("send binary", 8),
    ("send much", 1),
    ("send lent", 4),
    ("send much lent", 1),
    ("send prepared", 3),
    ("broadcast", 1),
    ("first fragment", 2),
    ("last fragment", 2),
    ("ping", 2),
    ("pong", 2),
    ("close", 1),
    ("terminate", 1),
    ("accept", 3),
    ("respond", 2),
    ("post", 4),
    ("wake", 2),
    ("stop", 2),
    ("stop a server", 1),
];

/// How long the work of a caller lasts.
#[derive(Clone, Copy)]
pub enum Until {
    /// Whoever runs the loop has seen enough, and enough calls were accepted.
    Enough,
    /// The loop is gone.
    Gone,
}

pub struct Caller {
    pub number: u64,
    pub handle: Handle,
    pub board: Arc<Board>,
    pub tally: Arc<Tally>,
    /// The same for all callers.
    prepared: Prepared,
    state: u64,
}

/// Tells whoever runs the loop that a caller is done, or has failed.
struct Leaving {
    board: Arc<Board>,
    handle: Handle,
}

impl Drop for Leaving {
    fn drop(&mut self) {
        self.board.done.fetch_add(1, Ordering::SeqCst);
        self.handle.stop().unwrap();
    }
}

/// How many calls of each kind were accepted, and how many were refused because of the limit.
pub struct Counts {
    pub accepted: Vec<u64>,
    pub full: u64,
}

impl Caller {
    pub fn new(
        number: u64,
        handle: Handle,
        board: &Arc<Board>,
        tally: &Arc<Tally>,
        prepared: &Prepared,
    ) -> Self {
        Self {
            number,
            handle,
            board: Arc::clone(board),
            tally: Arc::clone(tally),
            prepared: prepared.clone(),
            state: number + 1,
        }
    }

    pub fn start(mut self, until: Until) -> JoinHandle<Counts> {
        thread::spawn(move || self.work(until))
    }

    fn work(&mut self, until: Until) -> Counts {
        let mut counts = Counts {
            accepted: vec![0; CALLS.len()],
            full: 0,
        };
        let _leaving = Leaving {
            board: Arc::clone(&self.board),
            handle: self.handle.clone(),
        };
        let mut total = 0;
        loop {
            if matches!(until, Until::Enough)
                && total >= LEAST
                && self.board.enough.load(Ordering::SeqCst)
            {
                break;
            }
            let kind = self.choose();
            match self.call(CALLS[kind].0) {
                Some(Ok(())) => {
                    counts.accepted[kind] += 1;
                    total += 1;
                    if total.is_multiple_of(IN_FLIGHT) {
                        self.wait_for_the_loop();
                    }
                }
                // Nothing to do that to.
                None => {}
                Some(Err(error)) if error.kind() == ErrorKind::Full => {
                    counts.full += 1;
                    thread::yield_now();
                }
                Some(Err(error)) => {
                    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
                    assert!(matches!(until, Until::Gone), "{error}");
                    break;
                }
            }
        }
        counts
    }

    /// Returns when the loop has come to a call of this thread, or never will.
    fn wait_for_the_loop(&self) {
        let (come, wait) = mpsc::channel::<()>();
        // Refused or dropped it is gone as well, and ends the wait.
        let _ = self.handle.post(move |_: &mut Context| drop(come));
        assert_eq!(
            wait.recv_timeout(PATIENCE),
            Err(mpsc::RecvTimeoutError::Disconnected)
        );
    }

    /// xorshift64: the same calls in every run.
    fn random(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn choose(&mut self) -> usize {
        let all: u64 = CALLS.iter().map(|(_, weight)| weight).sum();
        let mut left = self.random() % all;
        CALLS
            .iter()
            .position(|(_, weight)| {
                let here = left < *weight;
                left = left.saturating_sub(*weight);
                here
            })
            .unwrap()
    }

    /// Makes a call; none if there is nothing to make it to.
    fn call(&mut self, name: &str) -> Option<Result<()>> {
        let number = self.random();
        Some(match name {
            "post" => self.handle.post(self.posted(number)),
            "wake" => self.handle.wake(),
            "stop" => self.handle.stop(),
            "stop a server" => {
                let server = self.board.servers.take()?;
                self.handle.stop_server(server, Duration::from_millis(100))
            }
            "broadcast" => {
                let server = (*self.board.server.lock().unwrap())?;
                let except = self.board.connections.pick(number);
                self.handle.broadcast_server(server, &self.prepared, except)
            }
            "accept" => {
                let id = self.board.held.take()?;
                self.handle.accept(id, Accept::default())
            }
            "respond" => {
                let id = self.board.held.take()?;
                self.handle.respond(id, Response::text(503, "not now"))
            }
            name => self.command(self.board.connections.pick(number)?, name, number),
        })
    }

    /// A command to an open connection.
    fn command(&self, id: ConnId, name: &str, number: u64) -> Result<()> {
        let handle = &self.handle;
        let few = payload(self.number, (number >> 32) as usize % 300);
        let control = &few[..few.len().min(125)];
        match name {
            "send text" => handle.send(id, MessageType::Text, &few),
            "send binary" => handle.send(id, MessageType::Binary, &few),
            "send much" => handle.send(id, MessageType::Binary, &payload(self.number, MUCH)),
            "send lent" => self.send_lent(id, few.len()),
            "send much lent" => self.send_lent(id, MUCH),
            "send prepared" => handle.send_prepared(id, &self.prepared),
            "first fragment" => handle.send_fragment(id, MessageType::Text, &few, false),
            "last fragment" => handle.send_fragment(id, MessageType::Text, &few, true),
            "ping" => handle.ping(id, control),
            "pong" => handle.pong(id, control),
            "close" => handle.close(id, Some(4000), "a caller says so"),
            "terminate" => handle.terminate(id),
            other => panic!("no such call: {other}"),
        }
    }

    /// Sends what is not copied, and not freed before it is written or dropped.
    fn send_lent(&self, id: ConnId, len: usize) -> Result<()> {
        let lent = Bytes::from_owner(Lent {
            payload: payload(self.number, len),
            _token: Token::new(&self.tally),
        });
        self.handle
            .send_owned(id, MessageType::Binary, lent, Compress::Auto)
    }

    /// A call to be made on the loop's thread: now and then a new server, so that there are some
    /// to stop.
    fn posted(&self, number: u64) -> impl FnOnce(&mut Context) + Send + 'static {
        let token = Token::new(&self.tally);
        let board = Arc::clone(&self.board);
        move |context: &mut Context| {
            token.0.made.fetch_add(1, Ordering::SeqCst);
            if number.is_multiple_of(32) {
                open_server(context, &board, false);
            }
        }
    }
}

/// The kinds of which not one call was accepted.
pub fn missing(counts: &[Counts]) -> Vec<&'static str> {
    let none = |kind: usize| counts.iter().all(|one| one.accepted[kind] == 0);
    (0..CALLS.len())
        .filter(|kind| none(*kind))
        .map(|kind| CALLS[kind].0)
        .collect()
}
