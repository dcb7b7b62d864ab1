//! In the steady state a small message costs no allocation: neither in the protocol nor in the
//! loop. A counting allocator watches; each thread has its own count, so that neither the tests'
//! other threads nor a foreign client count.
//!
//! Does not know: what happens while connections come and go.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use wsabi::event::Event;
use wsabi::protocol::connection::{Connection, Tools};
use wsabi::protocol::deflate::Compressors;
use wsabi::protocol::mask::Random;
use wsabi::protocol::message::Buffers;
use wsabi::protocol::receive::Receive;
use wsabi::protocol::send::Send;
use wsabi::time::Time;
use wsabi::{Config, Conn, Handler, Loop, Message, Role, ServerOptions};

struct Counting;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

/// How often this thread has asked for memory.
fn count() -> u64 {
    COUNT.get()
}

fn note() {
    // Not counted: what a thread does while it ends.
    let _ = COUNT.try_with(|count| count.set(count.get() + 1));
}

// SAFETY: every call goes on to the system's allocator as it is; counting touches no memory of the
// heap, because the counter needs no initialisation and has no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller keeps the contract of `alloc`, which is the same there.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: as in `alloc`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, old: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note();
        // SAFETY: `old` came from one of these functions, thus from `System`, with this layout.
        unsafe { System.realloc(old, layout, size) }
    }

    unsafe fn dealloc(&self, old: *mut u8, layout: Layout) {
        // SAFETY: as in `realloc`.
        unsafe { System.dealloc(old, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// How many allocations `act` makes.
fn allocations<T>(act: impl FnOnce() -> T) -> (u64, T) {
    let before = count();
    let result = act();
    (count() - before, result)
}

const MESSAGES: usize = 10_000;

#[derive(Default)]
struct Counter(u32);

impl Random for Counter {
    fn fill(&mut self, buffer: &mut [u8]) {
        self.0 += 1;
        buffer.copy_from_slice(&self.0.to_be_bytes()[..buffer.len()]);
    }
}

#[test]
fn the_allocator_counts() {
    let (made, _) = allocations(|| {
        let mut text = String::from("one");
        text.push_str(&"two".repeat(100));
        (text, vec![0u8; 100])
    });
    assert!(made >= 4, "{made}");
    let (made, _) = allocations(|| thread::spawn(|| vec![0u8; 100]).join().unwrap().len());
    let (more, _) = allocations(|| {
        let many = || {
            (0..1000)
                .map(|i| vec![0u8; i + 1])
                .collect::<Vec<_>>()
                .len()
        };
        thread::spawn(many).join().unwrap()
    });
    assert!(
        more < made + 100,
        "what another thread allocates was counted: {made}, {more}"
    );
}

/// Sends to itself through both halves: everything a connection does for a message.
fn exchange(sender: Role, receiver: Role) {
    let config = Config::default();
    let (mut send, mut random) = (Send::new(sender), Counter::default());
    let mut connection = Connection::new(receiver, &config, Time::ORIGIN);
    let (mut receive, mut buffers) = (Receive::new(receiver), Buffers::default());
    let (mut wire, mut out, mut compressors) = (Vec::new(), Vec::new(), Compressors::default());
    let payload = [b'a'; 1000];
    let mut round = |number: usize| {
        let len = number % payload.len();
        wire.clear();
        let mut tools = Tools {
            now: Time::ORIGIN,
            config: &config,
            random: &mut random,
            compressors: &mut compressors,
            out: &mut wire,
        };
        send.text(std::str::from_utf8(&payload[..len]).unwrap(), &mut tools)
            .unwrap();
        send.binary(&payload[len..], &mut tools).unwrap();
        send.ping(b"ping", &mut random, &mut wire).unwrap();
        let mut input = wire.as_mut_slice();
        let mut tools = Tools {
            now: Time::ORIGIN,
            config: &config,
            random: &mut Counter(0),
            compressors: &mut compressors,
            out: &mut out,
        };
        let mut seen = 0;
        while let Some(event) =
            connection.next_event(&mut receive, &mut input, &mut buffers, &mut tools)
        {
            seen += match event {
                Event::Message(message) => message.as_bytes().len(),
                Event::Ping(payload) => payload.len(),
                Event::Chunk(_) | Event::Pong(_) | Event::Close(_) => {
                    panic!("nobody sent {event:?}")
                }
            };
        }
        assert_eq!(seen, payload.len() + 4);
        // The pong, with its header and perhaps a key.
        assert!(out.len() >= 6);
        out.clear();
    };
    (0..1000).for_each(&mut round);
    let (made, ()) = allocations(|| (0..MESSAGES).for_each(&mut round));
    assert_eq!(
        made, 0,
        "allocations for {MESSAGES} rounds from {sender:?} to {receiver:?}"
    );
}

#[test]
fn a_small_message_costs_the_protocol_no_allocation() {
    exchange(Role::Client, Role::Server);
    exchange(Role::Server, Role::Client);
}

/// Sends back what comes.
struct Echo {
    messages: usize,
}

impl Handler for Echo {
    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        self.messages += 1;
        let _ = conn
            .send(message.message_type(), message.as_bytes())
            .unwrap();
    }
}

/// A frame of a client, masked with zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let header = [first, 0x80 | payload.len() as u8, 0, 0, 0, 0];
    [&header[..], payload].concat()
}

/// A client without a library: sends `burst` messages at once and waits for their echoes.
fn client(port: u16, bursts: usize, burst: usize) -> thread::JoinHandle<usize> {
    thread::spawn(move || {
        let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(20)))
            .unwrap();
        stream
            .write_all(
                b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                  Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            )
            .unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut octet = [0];
            stream.read_exact(&mut octet).unwrap();
            head.push(octet[0]);
        }
        let head = String::from_utf8(head).unwrap();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        let (text, binary) = ([b'a'; 20], [0xff; 30]);
        let pair = [frame(0x81, &text), frame(0x82, &binary)].concat();
        let echo = [&[0x81, 20][..], &text, &[0x82, 30], &binary].concat();
        let (request, expected) = (pair.repeat(burst / 2), echo.repeat(burst / 2));
        let mut answer = vec![0; expected.len()];
        for _ in 0..bursts {
            stream.write_all(&request).unwrap();
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(answer, expected);
        }
        stream
            .write_all(&frame(0x88, &1000u16.to_be_bytes()))
            .unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert_eq!(rest, [0x88, 2, 0x03, 0xe8]);
        bursts * burst
    })
}

/// Dispatches until `messages` have come.
fn run(event_loop: &mut Loop, echo: &mut Echo, messages: usize) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while echo.messages < messages {
        event_loop.poll(Some(Duration::from_secs(1)), echo).unwrap();
        assert!(
            Instant::now() < deadline,
            "{} of {messages} messages came",
            echo.messages
        );
    }
}

#[test]
fn a_small_message_costs_the_loop_no_allocation() {
    let mut event_loop = Loop::new().unwrap();
    let server = event_loop
        .listen(&ServerOptions::tcp("127.0.0.1", 0))
        .unwrap();
    let port = event_loop.server_addr(server).unwrap().port();
    let mut echo = Echo { messages: 0 };
    // A text and a binary message for each readiness, then eight of each.
    for burst in [2, 16] {
        echo.messages = 0;
        let client = client(port, MESSAGES / burst, burst);
        run(&mut event_loop, &mut echo, MESSAGES / 10);
        let (made, ()) = allocations(|| run(&mut event_loop, &mut echo, MESSAGES));
        assert_eq!(
            made, 0,
            "allocations for messages that came {burst} at a time"
        );
        let sent = finish(client, &mut event_loop, &mut echo);
        assert_eq!((sent, echo.messages), (MESSAGES, MESSAGES));
    }
}

/// Dispatches until the client is done.
fn finish(client: thread::JoinHandle<usize>, event_loop: &mut Loop, echo: &mut Echo) -> usize {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !client.is_finished() {
        event_loop
            .poll(Some(Duration::from_millis(10)), echo)
            .unwrap();
        assert!(Instant::now() < deadline, "the client does not end");
    }
    client.join().unwrap()
}
