//! The scenes: a loop, its application, and callers, brought to an end in which every account has
//! to be settled.
//!
//! Does not know: how the calls are made.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wsabi::{
    Bytes, Closed, Compress, Conn, ConnId, Handle, Handler, Handshake, Loop, LoopOptions, Message,
    MessageType, Prepared,
};

use crate::board::{Board, Lent, Tally, Token};
use crate::callers::{CALLERS, Caller, Counts, PATIENCE, Until, missing};
use crate::office::{Office, client, open_client, open_server, payload};

const CLIENTS: u64 = 8;

fn limited(max_inbox_bytes: u64) -> Loop {
    Loop::with_options(LoopOptions {
        max_inbox_bytes,
        ..LoopOptions::default()
    })
    .unwrap()
}

/// A loop with a server and some clients on their way.
fn populated(max_inbox_bytes: u64) -> (Loop, Office) {
    let mut event_loop = limited(max_inbox_bytes);
    let office = Office::new(Arc::default());
    open_server(&mut event_loop, &office.board, true);
    for number in 0..CLIENTS {
        open_client(&mut event_loop, &office.board, number);
    }
    (event_loop, office)
}

/// A message for many, whose payload is lent.
fn prepared(tally: &Arc<Tally>) -> Prepared {
    let lent = Bytes::from_owner(Lent {
        payload: payload(0, 5000),
        _token: Token::new(tally),
    });
    Prepared::new(MessageType::Text, lent, Compress::Auto).unwrap()
}

fn start_callers(
    event_loop: &Loop,
    office: &Office,
    until: Until,
) -> (Vec<thread::JoinHandle<Counts>>, Arc<Tally>) {
    let tally = Arc::<Tally>::default();
    let prepared = prepared(&tally);
    let callers = (0..CALLERS)
        .map(|number| {
            let handle = event_loop.handle();
            Caller::new(number, handle, &office.board, &tally, &prepared).start(until)
        })
        .collect();
    (callers, tally)
}

/// Waits for the callers; every call they posted and every payload they lent must be gone by then.
fn settle(callers: Vec<thread::JoinHandle<Counts>>, tally: &Tally) -> Vec<Counts> {
    let counts = callers
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    let [out, made, gone] =
        [&tally.out, &tally.made, &tally.gone].map(|count| count.load(Ordering::SeqCst));
    assert_eq!(gone, out, "each is gone, once");
    assert!(made <= out);
    counts
}

pub fn every_call_while_connections_come_and_go() {
    for max_inbox_bytes in [50_000, 16 << 20] {
        let (mut event_loop, mut office) = populated(max_inbox_bytes);
        office.board.refill.store(true, Ordering::SeqCst);
        let (callers, tally) = start_callers(&event_loop, &office, Until::Enough);
        let deadline = Instant::now() + PATIENCE;
        while office.board.done.load(Ordering::SeqCst) < CALLERS {
            // Comes back at each "stop", of which the callers send one as their last.
            event_loop.run(&mut office).unwrap();
            let seen = (office.opened, office.messages, office.stopped);
            if seen.0 >= 60 && seen.1 >= 1000 && seen.2 >= 3 {
                office.board.enough.store(true, Ordering::SeqCst);
            }
            assert!(Instant::now() < deadline, "too little is seen: {seen:?}");
        }
        office.board.refill.store(false, Ordering::SeqCst);
        event_loop.finish(&mut office);
        office.check_all_closed();
        let counts = settle(callers, &tally);
        assert!(missing(&counts).is_empty(), "{:?}", missing(&counts));
        println!(
            "# {} connections opened, {} messages, {} servers stopped, {} calls refused as full",
            office.opened,
            office.messages,
            office.stopped,
            counts.iter().map(|one| one.full).sum::<u64>()
        );
    }
}

pub fn the_loop_ends_with_calls_under_way() {
    for round in 0..30 {
        let (mut event_loop, mut office) = populated(1 << 20);
        let (callers, tally) = start_callers(&event_loop, &office, Until::Gone);
        let deadline = Instant::now() + PATIENCE;
        while office.opened < 1 + round % 5 {
            event_loop
                .poll(Some(Duration::from_millis(20)), &mut office)
                .unwrap();
            assert!(Instant::now() < deadline, "nothing opens");
        }
        match round % 3 {
            0 => drop(event_loop),
            1 => {
                event_loop.finish(&mut office);
                office.check_all_closed();
            }
            // On another thread than the one it ran on.
            _ => thread::spawn(move || drop(event_loop)).join().unwrap(),
        }
        settle(callers, &tally);
    }
}

pub fn the_loop_ends_while_names_are_looked_up() {
    for round in 0..10 {
        let mut event_loop = limited(1 << 20);
        let mut office = Office::new(Arc::default());
        let port = open_server(&mut event_loop, &office.board, true);
        for _ in 0..CLIENTS {
            let url = format!("ws://localhost:{port}/");
            event_loop.connect(&url, &client(round)).unwrap();
        }
        let deadline = Instant::now() + PATIENCE;
        while office.opened < round % 4 {
            event_loop
                .poll(Some(Duration::from_millis(20)), &mut office)
                .unwrap();
            assert!(Instant::now() < deadline, "nothing opens");
        }
    }
}

/// One of two applications: what comes at its own end, it has the other loop answer from there,
/// so that it comes here again.
struct Neighbour {
    mine: Arc<AtomicU64>,
    other: Arc<AtomicU64>,
    /// Of the other loop.
    handle: Handle,
    come: u64,
}

const EXCHANGES: u64 = 500;

impl Handler for Neighbour {
    fn on_open(&mut self, conn: &mut Conn<'_>, _: Handshake<'_>) {
        self.mine.store(conn.id().as_u64(), Ordering::SeqCst);
        conn.send_text("0").unwrap();
    }

    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        assert_eq!(message.text(), Some(self.come.to_string().as_str()));
        self.come += 1;
        if self.come == EXCHANGES {
            conn.close(Some(1000), "enough").unwrap();
            return;
        }
        let other = ConnId::from_u64(self.other.load(Ordering::SeqCst));
        let next = self.come.to_string();
        // The other one may have had enough, and be gone.
        let _ = self
            .handle
            .send(other.unwrap(), message.message_type(), next.as_bytes());
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, _: &Closed) {
        if let Some(server) = conn.server() {
            let context = conn.context();
            context.stop_server(server, Duration::ZERO).unwrap();
        }
    }
}

pub fn two_loops_command_one_another() {
    let ids = [Arc::<AtomicU64>::default(), Arc::<AtomicU64>::default()];
    let mut loops = [limited(1 << 20), limited(1 << 20)];
    let port = open_server(&mut loops[0], &Board::default(), true);
    let url = format!("ws://127.0.0.1:{port}/");
    loops[1].connect(&url, &client(0)).unwrap();
    let handles = [loops[0].handle(), loops[1].handle()];
    let threads: Vec<_> = loops
        .into_iter()
        .enumerate()
        .map(|(index, mut event_loop)| {
            let mut app = Neighbour {
                mine: Arc::clone(&ids[index]),
                other: Arc::clone(&ids[1 - index]),
                handle: handles[1 - index].clone(),
                come: 0,
            };
            // Until the connection has ended, and with it the server.
            thread::spawn(move || {
                event_loop.run(&mut app).unwrap();
                app.come
            })
        })
        .collect();
    let come: Vec<_> = threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect();
    assert_eq!(come.iter().max(), Some(&EXCHANGES), "{come:?}");
}

/// Loops of several threads compress and send one message, and whoever has it last frees it.
pub fn several_loops_share_a_message() {
    for round in 0..10 {
        let tally = Arc::<Tally>::default();
        let message = prepared(&tally);
        let threads: Vec<_> = (0..CALLERS)
            .map(|number| {
                let message = message.clone();
                thread::spawn(move || {
                    let (mut event_loop, mut office) = populated(1 << 20);
                    let deadline = Instant::now() + PATIENCE;
                    let mut sent = 0;
                    while office.messages < 1 + (number + round) % 4 {
                        event_loop
                            .poll(Some(Duration::from_millis(20)), &mut office)
                            .unwrap();
                        if office.opened > sent {
                            sent = office.opened;
                            let server = office.board.server.lock().unwrap().unwrap();
                            event_loop.broadcast_server(server, &message, None).unwrap();
                        }
                        assert!(Instant::now() < deadline, "nothing comes");
                    }
                })
            })
            .collect();
        drop(message);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(tally.gone.load(Ordering::SeqCst), 1);
    }
}
