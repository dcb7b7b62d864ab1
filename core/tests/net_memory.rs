//! Memory that is refused while a peer makes a loop grow: the first large allocation, the second,
//! and so on until a script comes through without; once and for good. The process goes on, the
//! connection ends or its sender is told, and others are none the wiser.
//!
//! Large is what has `LARGE` bytes or more. Smaller ones are not refused, because std can only abort
//! for most of them: boxes of connections and control frames, the lists of the loop with a few bytes
//! for each connection, texts of errors, and three copies of a request of at most
//! `max_handshake_bytes`. Nor are those of threads that resolve names, and of callers: what a program
//! copies for another thread is its own to bound.
//!
//! Does not know: which allocations there are.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ptr;
use std::time::Instant;

use net::peer::{BINARY, CLOSE, CONTINUATION, PING, Peer, REQUEST, TEXT};
use net::{PATIENCE, calm, client, ms, server};
use wsabi::{
    Closed, Config, Conn, ConnId, DeflateOptions, Error, ErrorKind, Handler, Loop, Message,
    PeerAddr,
};

/// Allocations below this are never refused.
const LARGE: usize = 4 << 10;

/// What the calling thread's allocator refuses.
#[derive(Clone, Copy)]
struct Refusal {
    /// Whether allocations count now.
    armed: bool,
    /// Large allocations so far.
    seen: u64,
    /// The number of the first that is refused.
    nth: u64,
    times: u64,
    refused: u64,
}

const NOTHING: Refusal = Refusal {
    armed: false,
    seen: 0,
    nth: u64::MAX,
    times: 0,
    refused: 0,
};

thread_local! {
    static REFUSAL: Cell<Refusal> = const { Cell::new(NOTHING) };
}

/// Whether an allocation of this size is to be refused.
fn refuses(size: usize) -> bool {
    if size < LARGE {
        return false;
    }
    // A thread that ends has none.
    let refuses = REFUSAL.try_with(|cell| {
        let mut refusal = cell.get();
        if !refusal.armed {
            return false;
        }
        refusal.seen += 1;
        let is_due = refusal.seen >= refusal.nth && refusal.seen - refusal.nth < refusal.times;
        refusal.refused += u64::from(is_due);
        cell.set(refusal);
        is_due
    });
    refuses.unwrap_or(false)
}

struct Stingy;

// SAFETY: every call goes on to the system's allocator as it is, or answers that there is no memory,
// which is allowed; the decision touches no memory of the heap.
unsafe impl GlobalAlloc for Stingy {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if refuses(layout.size()) {
            return ptr::null_mut();
        }
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if refuses(layout.size()) {
            return ptr::null_mut();
        }
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        if refuses(size) {
            return ptr::null_mut();
        }
        // SAFETY: `old` came from one of these functions, thus from `System`, with this layout.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Stingy = Stingy;

/// Runs `act` with large allocations counted and refused.
fn armed<T>(act: impl FnOnce() -> T) -> T {
    let arm = |armed| {
        REFUSAL.set(Refusal {
            armed,
            ..REFUSAL.get()
        })
    };
    arm(true);
    let result = act();
    arm(false);
    result
}

/// An application that sends everything back and allocates next to nothing.
#[derive(Default)]
struct Echo {
    opened: Vec<ConnId>,
    closed: Vec<(ConnId, Option<ErrorKind>)>,
    messages: usize,
    /// Sends that were refused for want of memory.
    unsent: usize,
    /// Whether a connection is to be paused by its first message.
    pauses: bool,
}

impl Handler for Echo {
    fn on_open(&mut self, conn: &mut Conn<'_>, _: wsabi::Handshake<'_>) {
        self.opened.push(conn.id());
    }

    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        self.messages += 1;
        if self.pauses {
            let _ = conn.pause();
        }
        match conn.send(message.message_type(), message.as_bytes()) {
            Err(error) if error.kind() == ErrorKind::NoMemory => self.unsent += 1,
            Ok(_) => {}
            Err(error) => assert!(matches!(error.kind(), ErrorKind::Closed | ErrorKind::Full)),
        }
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, closed: &Closed) {
        let kind = closed.error.as_ref().map(Error::kind);
        self.closed.push((conn.id(), kind));
    }
}

/// A loop with one connection to be harmed and one bystander.
struct Run {
    lp: Loop,
    echo: Echo,
    peer: Peer,
    bystander: Peer,
    /// The number of the connection to be harmed.
    id: ConnId,
    deadline: Instant,
}

impl Run {
    /// The end that is harmed is a server's, or a client's.
    fn new(config: Config, request: &[u8], at_server: bool) -> Self {
        let mut lp = Loop::new().unwrap();
        let mut echo = Echo::default();
        let server = lp.listen(&server(config.clone())).unwrap();
        let PeerAddr::Tcp(address) = *lp.server_addr(server).unwrap() else {
            panic!("not TCP")
        };
        let deadline = Instant::now() + PATIENCE;
        let mut bystander = Peer::connect(address);
        bystander.send(REQUEST);
        let mut peer = if at_server {
            let mut peer = Peer::connect_small(address);
            peer.send(request);
            peer
        } else {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("ws://{}/", listener.local_addr().unwrap());
            let _ = lp.connect(&url, &client(config)).unwrap();
            let mut peer = Peer::server(listener.accept().unwrap().0);
            while peer.head_len().is_none() {
                lp.poll(Some(ms(5)), &mut echo).unwrap();
                peer.pump();
                assert!(Instant::now() < deadline);
            }
            peer.answer_request("");
            peer
        };
        let is_ready = |peer: &mut Peer| {
            peer.pump();
            peer.head_len().is_some()
        };
        while echo.opened.len() < 2
            || !is_ready(&mut bystander)
            || at_server && !is_ready(&mut peer)
        {
            lp.poll(Some(ms(5)), &mut echo).unwrap();
            assert!(Instant::now() < deadline);
        }
        bystander.take_head();
        if at_server {
            peer.take_head();
        }
        let port = match peer.socket.local_addr().unwrap().as_socket() {
            Some(address) => address.port(),
            None => panic!("not TCP"),
        };
        let is_peer = |id: &&ConnId| lp.conn(**id).peer_addr().map(|a| a.port()) == Some(port);
        let id = *echo.opened.clone().iter().find(is_peer).unwrap();
        Self {
            lp,
            echo,
            peer,
            bystander,
            id,
            deadline,
        }
    }

    fn poll(&mut self) {
        assert!(Instant::now() < self.deadline, "it hangs");
        armed(|| self.lp.poll(Some(ms(2)), &mut self.echo)).unwrap();
    }

    /// Sends all of `bytes`, with the loop taking them in between, unless the connection ends.
    fn feed(&mut self, bytes: &[u8]) {
        let mut sent = 0;
        while sent < bytes.len() && !self.is_over() {
            sent += self.peer.try_send(&bytes[sent..]);
            self.poll();
        }
    }

    fn is_over(&self) -> bool {
        self.echo.closed.iter().any(|(id, _)| *id == self.id)
    }

    /// Reads until the peer has a Close frame or the end, sending a Close first.
    fn close(&mut self) {
        if self.lp.conn(self.id).resume().is_ok() {
            let close = self.peer.frame(CLOSE, &1000u16.to_be_bytes());
            self.feed(&close);
        }
        while self.peer.end.is_none() && !self.is_over() {
            self.poll();
            let closes = self.peer.frames().iter().any(|frame| frame.opcode == CLOSE);
            if closes {
                self.peer.end.get_or_insert(net::peer::End::Fin);
            }
        }
        let _ = self.peer.socket.shutdown(std::net::Shutdown::Both);
        while !self.is_over() {
            self.poll();
        }
    }

    /// The bystander gets its answer.
    fn check_bystander(&mut self) {
        self.bystander.send_frame(TEXT, b"still there?");
        while self.bystander.frames().is_empty() {
            assert!(Instant::now() < self.deadline, "the bystander is harmed");
            self.lp.poll(Some(ms(2)), &mut self.echo).unwrap();
        }
    }
}

type Script = fn(u64, u64) -> Run;

/// Makes a run with these refusals in effect.
fn begin(config: Config, request: &[u8], at_server: bool, nth: u64, times: u64) -> Run {
    let run = Run::new(config, request, at_server);
    REFUSAL.set(Refusal {
        nth,
        times,
        ..NOTHING
    });
    run
}

fn plain(nth: u64, times: u64) -> Run {
    begin(calm(), REQUEST, true, nth, times)
}

fn one_large_message(nth: u64, times: u64) -> Run {
    let mut run = plain(nth, times);
    let frame = run.peer.frame(BINARY, &vec![7; 600_000]);
    run.feed(&frame);
    run
}

fn text_in_fragments(nth: u64, times: u64) -> Run {
    let mut run = plain(nth, times);
    for number in 0..20 {
        let opcode = if number == 0 { TEXT } else { CONTINUATION };
        let frame = run.peer.fragment(number == 19, opcode, &[b'x'; 10_000]);
        run.feed(&frame);
    }
    run
}

/// The echoes stay, because the peer does not read.
fn backlog(nth: u64, times: u64) -> Run {
    let mut run = plain(nth, times);
    let frame = run.peer.frame(BINARY, &vec![7; 50_000]);
    for _ in 0..80 {
        run.feed(&frame);
    }
    run
}

/// Of one echo the kernel takes only a part.
fn large_echo(nth: u64, times: u64) -> Run {
    let mut run = plain(nth, times);
    let frame = run.peer.frame(BINARY, &vec![7; 8 << 20]);
    run.feed(&frame);
    run
}

fn many_pings(nth: u64, times: u64) -> Run {
    let mut run = plain(nth, times);
    let frame = run.peer.frame(PING, &[7; 100]);
    run.feed(&frame.repeat(1500));
    run
}

/// The first message pauses its connection, and those behind it are kept.
fn unread(nth: u64, times: u64) -> Run {
    let mut run = plain(nth, times);
    run.echo.pauses = true;
    let frame = run.peer.frame(BINARY, &[7; 1000]);
    run.feed(&frame.repeat(100));
    run.echo.pauses = false;
    run
}

fn at_a_client(nth: u64, times: u64) -> Run {
    let mut run = begin(calm(), REQUEST, false, nth, times);
    let frame = run.peer.frame(BINARY, &vec![7; 600_000]);
    run.feed(&frame);
    run
}

/// Messages that are compressed, each referring to those before, and so are their echoes.
fn compressed(nth: u64, times: u64) -> Run {
    let config = Config {
        deflate: Some(DeflateOptions {
            min_bytes: 0,
            server_context_takeover: true,
            client_context_takeover: true,
            ..DeflateOptions::default()
        }),
        ..calm()
    };
    let offer = "Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n";
    let request = [&REQUEST[..REQUEST.len() - 2], offer.as_bytes()].concat();
    let mut run = begin(config, &request, true, nth, times);
    // 64 KiB that come in stored blocks (RFC 1951 §3.2.4), which say what they are.
    let mut data = Vec::new();
    for _ in 0..8 {
        let (len, complement) = (8192u16.to_le_bytes(), (!8192u16).to_le_bytes());
        data.extend([&[0][..], &len, &complement, &[b'd'; 8192]].concat());
    }
    // The empty block whose end RFC 7692 §7.2.1 has removed.
    data.push(0);
    let mut frame = run.peer.frame(BINARY, &data);
    frame[0] |= 0x40;
    for _ in 0..3 {
        run.feed(&frame);
    }
    run
}

const SCRIPTS: &[(&str, Script)] = &[
    ("one large message", one_large_message),
    ("text in fragments", text_in_fragments),
    ("a backlog of echoes", backlog),
    ("a large echo", large_echo),
    ("many pings", many_pings),
    ("unread bytes", unread),
    ("at a client", at_a_client),
    ("compressed messages", compressed),
];

struct Judged {
    /// Large allocations.
    seen: u64,
    refused: u64,
    /// Whether the application heard of it.
    harmed: bool,
}

/// Runs a script and judges it.
fn perform((name, script): (&str, Script), nth: u64, times: u64) -> Judged {
    let mut run = script(nth, times);
    run.close();
    let Refusal { seen, refused, .. } = REFUSAL.replace(NOTHING);
    run.check_bystander();
    let what = format!("{name}, refusing {times} from {nth}");
    let ends: Vec<_> = run
        .echo
        .closed
        .iter()
        .filter(|end| end.0 == run.id)
        .collect();
    let [(_, kind)] = ends[..] else {
        panic!("{what}: {ends:?}");
    };
    assert_eq!(run.echo.closed.len(), 1, "{what}");
    let unsent = run.echo.unsent;
    // What ends otherwise ended with the closing handshake, or by the end of the transport behind it:
    // a refusal may have cost no more than the answer to a Close.
    let expected = match kind {
        Some(ErrorKind::NoMemory) => refused > 0,
        None | Some(ErrorKind::Lost) => refused > 0 || unsent == 0,
        _ => false,
    };
    assert!(
        expected,
        "{what}: {kind:?}, {refused} refused, {unsent} unsent"
    );
    let harmed = *kind == Some(ErrorKind::NoMemory) || unsent > 0;
    run.lp.finish(&mut run.echo);
    Judged {
        seen,
        refused,
        harmed,
    }
}

#[test]
fn a_peer_that_makes_memory_run_out_harms_nobody_else() {
    // A panic of zlib-rs, which finds no memory where there was some just before, is caught; but to
    // report it the usual hook needs memory.
    std::panic::set_hook(Box::new(|info| {
        if !REFUSAL.get().armed {
            eprintln!("{info}");
        }
    }));
    let (mut runs, mut all) = (0, 0);
    for &script in SCRIPTS {
        let (mut of_script, mut harms) = (0, 0);
        for times in [1, u64::MAX] {
            let mut nth = 1;
            loop {
                let judged = perform(script, nth, times);
                runs += 1;
                of_script += judged.refused;
                harms += u64::from(judged.harmed);
                if judged.seen < nth {
                    break;
                }
                // Of many in a row only some are worth their time.
                nth += 1 + nth / 6;
            }
        }
        println!("{}: {of_script} refused, {harms} runs harmed", script.0);
        assert!(harms > 0, "{}: nothing was harmed", script.0);
        all += of_script;
    }
    println!("{all} allocations refused in {runs} runs");
}
