//! One message for many, payloads that are lent, compression and chunks, through the loop.
//!
//! Does not know: how messages are compressed, which `deflate.rs` tests.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use net::app::Told;
use net::peer::{self, Peer};
use net::{World, calm, client, kind, server};
use wsabi::{
    Bytes, Compress, Config, ConnId, DeflateOptions, ErrorKind, MessageType, Prepared, Sent,
};

/// A payload that counts how many of its kind there are.
struct Lent {
    data: Vec<u8>,
    alive: Arc<AtomicUsize>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.data
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lend(data: Vec<u8>, alive: &Arc<AtomicUsize>) -> Bytes {
    alive.fetch_add(1, Ordering::Relaxed);
    Bytes::from_owner(Lent {
        data,
        alive: Arc::clone(alive),
    })
}

fn deflate(bits: u8, takeover: bool) -> Config {
    Config {
        deflate: Some(DeflateOptions {
            server_max_window_bits: bits,
            client_max_window_bits: bits,
            server_context_takeover: takeover,
            client_context_takeover: takeover,
            ..DeflateOptions::default()
        }),
        ..calm()
    }
}

fn text(number: usize, len: usize) -> String {
    format!("message {number}, ").repeat(len / 10 + 1)[..len].to_owned()
}

/// Messages of one connection, all of which is text.
fn heard(world: &World, id: ConnId) -> Vec<Vec<u8>> {
    world
        .app
        .messages_of(id)
        .into_iter()
        .map(<[u8]>::to_vec)
        .collect()
}

#[test]
fn a_broadcast_reaches_every_open_connection_in_its_own_form() {
    let mut world = World::new();
    let (plain, plain_address) = world.serve(&server(calm()));
    let (fifteen, address) = world.serve(&server(deflate(15, true)));
    let configs = [
        calm(),
        deflate(9, false),
        deflate(12, false),
        deflate(15, true),
        deflate(10, true),
    ];
    let mut ends = Vec::new();
    for config in &configs {
        for at in [plain_address, address] {
            ends.push((world.pair(at, &client(config.clone())), at == address));
        }
    }
    let agreed = |world: &mut World, id| world.lp.conn(id).deflate();
    for ((near, far), deflating) in &ends {
        assert_eq!(agreed(&mut world, *near), agreed(&mut world, *far));
        assert!(*deflating || agreed(&mut world, *near).is_none());
    }
    let compressing = ends
        .iter()
        .filter(|((near, _), _)| agreed(&mut world, *near).is_some());
    assert_eq!(compressing.count(), 4);
    let mut expected = Vec::new();
    for (number, len) in [
        (0, 0),
        (1, 10),
        (2, 1023),
        (3, 1024),
        (4, 5000),
        (5, 300_000),
    ] {
        // What each connection sends by itself in between keeps its own context going.
        for ((_, far), _) in &ends {
            let own = text(100 + number, 3000);
            world.lp.conn(*far).send_text(&own).unwrap();
        }
        expected.push(text(100 + number, 3000).into_bytes());
        let payload = text(number, len);
        let message = Prepared::new(
            MessageType::Text,
            payload.clone().into_bytes(),
            Compress::Auto,
        )
        .unwrap();
        expected.push(payload.into_bytes());
        for server in [plain, fifteen] {
            let reached = world.lp.broadcast_server(server, &message, None).unwrap();
            assert_eq!((reached.sent, reached.refused), (configs.len() as u64, 0));
        }
    }
    let left_out = ends[0].0;
    let last = Prepared::new(MessageType::Binary, vec![7; 9000], Compress::Never).unwrap();
    let reached = world
        .lp
        .broadcast_server(plain, &last, Some(left_out.1))
        .unwrap();
    assert_eq!(reached.sent, configs.len() as u64 - 1);
    let ids: Vec<ConnId> = ends.iter().map(|((_, far), _)| *far).collect();
    let reached = world.lp.broadcast(&last, &ids).unwrap();
    assert_eq!(reached.sent, ids.len() as u64);
    for ((near, far), deflating) in &ends {
        let copies = if *deflating || *near == left_out.0 {
            1
        } else {
            2
        };
        let mut wanted = expected.clone();
        wanted.extend(vec![vec![7; 9000]; copies]);
        world.until("all messages come", |world| {
            heard(world, *near).len() >= wanted.len()
        });
        assert!(heard(&world, *near) == wanted, "{far}");
    }
    // From clients, which mask.
    for ((near, far), _) in &ends {
        world.lp.conn(*near).send_prepared(&last).unwrap();
        let before = heard(&world, *far).len();
        world.until("it comes", |world| heard(world, *far).len() > before);
        assert_eq!(heard(&world, *far).last().unwrap(), &vec![7; 9000]);
    }
    // Those that are gone are passed over.
    world.lp.conn(ids[0]).terminate().unwrap();
    let reached = world.lp.broadcast(&last, &ids).unwrap();
    assert_eq!(reached.sent, ids.len() as u64 - 1);
    world.end();
}

#[test]
fn what_is_refused_is_counted_and_what_is_shared_is_let_go() {
    let alive = Arc::new(AtomicUsize::new(0));
    let config = Config {
        high_water_bytes: 100_000,
        low_water_bytes: 0,
        max_backlog_bytes: 200_000,
        ..calm()
    };
    let mut world = World::new();
    let (id, address) = world.serve(&server(config));
    let (slow, slow_id) = world.upgraded(Peer::connect_small(address));
    let (mut quick, quick_id) = world.raw_client(address);
    let message = lend(vec![1; 50_000], &alive);
    let message = Prepared::new(MessageType::Binary, message, Compress::Auto).unwrap();
    let (mut refused, mut pressed) = (0, 0);
    for _ in 0..2000 {
        let reached = world.lp.broadcast_server(id, &message, None).unwrap();
        assert_eq!(reached.sent + reached.refused, 2);
        refused += reached.refused;
        pressed += reached.backpressure;
        quick.pump();
        quick.got.clear();
        if refused == 3 {
            break;
        }
        world.turn(net::ms(1));
    }
    assert!(refused == 3 && pressed > 0, "{refused} {pressed}");
    let buffered = world.lp.conn(slow_id).buffered();
    assert!((100_000..=250_000).contains(&buffered), "{buffered}");
    drop(message);
    assert_eq!(
        alive.load(Ordering::Relaxed),
        1,
        "the slow one's backlog has it"
    );
    let _ = quick_id;
    world.lp.conn(slow_id).terminate().unwrap();
    world.ended(slow_id);
    // The quick one may still wait for some of it.
    world.until("all is written", |world| {
        quick.pump();
        quick.got.clear();
        world.lp.conn(quick_id).buffered() == 0
    });
    assert_eq!(alive.load(Ordering::Relaxed), 0);
    drop(slow);
    world.end();
}

#[test]
fn a_lent_payload_arrives_and_is_let_go_once_whatever_happens() {
    let alive = Arc::new(AtomicUsize::new(0));
    let count = || alive.load(Ordering::Relaxed);
    let mut world = World::new();
    for config in [calm(), deflate(12, false), deflate(12, true)] {
        let (_, address) = world.serve(&server(config.clone()));
        let (near, far) = world.pair(address, &client(config));
        for (from, to) in [(near, far), (far, near)] {
            let sizes = [0, 100, 4095, 4096, 100_000, 3_000_000];
            for len in sizes {
                let payload = lend(text(len, len).into_bytes(), &alive);
                for compress in [Compress::Auto, Compress::Always, Compress::Never] {
                    world
                        .lp
                        .conn(from)
                        .send_owned(MessageType::Text, &payload, compress)
                        .unwrap();
                }
            }
            let before = heard(&world, to).len();
            let wanted: Vec<_> = sizes
                .iter()
                .flat_map(|&len| vec![text(len, len).into_bytes(); 3])
                .collect();
            world.until("all come", |world| heard(world, to).len() >= wanted.len());
            assert!(heard(&world, to)[..] == wanted[..], "{before}");
            world.until("all is let go", |world| {
                world.lp.conn(from).buffered() == 0 && count() == 0
            });
        }
    }
    // From another thread, and to who does not exist.
    let (_, address) = world.serve(&server(calm()));
    let (near, far) = world.pair(address, &client(calm()));
    let handle = world.lp.handle();
    for id in [far, near] {
        let payload = lend(vec![5; 20_000], &alive);
        handle
            .send_owned(id, MessageType::Binary, payload, Compress::Auto)
            .unwrap();
    }
    world.until("both come", |world| {
        heard(world, near).len() == 1 && heard(world, far).len() == 1
    });
    world.lp.conn(near).terminate().unwrap();
    world.ended(near);
    let payload = lend(vec![5; 20_000], &alive);
    handle
        .send_owned(near, MessageType::Binary, payload.clone(), Compress::Auto)
        .unwrap();
    let refused = world
        .lp
        .conn(near)
        .send_owned(MessageType::Binary, &payload, Compress::Auto);
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Closed);
    drop(payload);
    world.until("it is dropped", |_| count() == 0);
    let refused = world.lp.conn(far).send_owned(
        MessageType::Text,
        &Bytes::from_static(b"\xff"),
        Compress::Auto,
    );
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    // A loop that goes with a backlog.
    let (_peer, id) = world.upgraded(Peer::connect_small(address));
    while world.lp.conn(id).send_owned(
        MessageType::Binary,
        &lend(vec![3; 100_000], &alive),
        Compress::Auto,
    ) == Ok(Sent::Ok)
    {}
    assert!(count() > 5);
    world.end();
    assert_eq!(count(), 0);
}

#[test]
fn lent_and_copied_payloads_keep_their_order_through_a_backlog() {
    let alive = Arc::new(AtomicUsize::new(0));
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let (mut peer, id) = world.upgraded(Peer::connect_with(address, 16 << 10));
    let mut wanted = Vec::new();
    for number in 0..200usize {
        let payload = vec![number as u8; [10, 5000, 70_000][number % 3] + number];
        let mut conn = world.lp.conn(id);
        if number % 2 == 0 {
            let payload = lend(payload.clone(), &alive);
            conn.send_owned(MessageType::Binary, &payload, Compress::Auto)
                .unwrap();
        } else {
            conn.send_binary(&payload).unwrap();
        }
        if number % 50 == 0 {
            conn.ping(b"ping").unwrap();
        }
        wanted.push(payload);
    }
    let mut got = Vec::new();
    world.until("all frames come", |_| {
        got.extend(
            peer.frames()
                .into_iter()
                .filter(|frame| frame.opcode == peer::BINARY),
        );
        got.len() == wanted.len()
    });
    assert!(
        got.iter()
            .zip(&wanted)
            .all(|(frame, payload)| frame.payload == *payload)
    );
    assert_eq!(alive.load(Ordering::Relaxed), 0);
    world.end();
}

#[test]
fn chunks_come_as_they_come_and_pausing_between_them_holds() {
    for config in [calm(), deflate(15, false), deflate(15, true)] {
        let streaming = Config {
            stream_messages: true,
            max_message_bytes: u64::MAX,
            ..config.clone()
        };
        let mut world = World::new();
        let (_, address) = world.serve(&server(streaming));
        let (near, far) = world.pair(address, &client(config));
        world.app.hook(move |conn, told| {
            if matches!(told, Told::Chunk(..)) {
                conn.pause().unwrap();
            }
        });
        let payload = text(1, 3_000_000);
        world.lp.conn(near).send_text(&payload).unwrap();
        world.lp.conn(near).send_text("").unwrap();
        world.lp.conn(near).send_text("small").unwrap();
        let chunks = |world: &World| -> Vec<(Vec<u8>, bool, bool)> {
            (world.app.told.iter())
                .filter_map(|told| match told {
                    Told::Chunk(id, data, first, last) if *id == far => {
                        Some((data.clone(), *first, *last))
                    }
                    _ => None,
                })
                .collect()
        };
        let mut count = 0;
        world.until("three messages end", |world| {
            let now = chunks(world).len();
            assert!(now <= count + 1, "paused");
            if now > count {
                count = now;
                world.lp.conn(far).resume().unwrap();
            }
            chunks(world).iter().filter(|(_, _, last)| *last).count() == 3
        });
        let all = chunks(&world);
        assert!(all.len() > 10, "{}", all.len());
        let ends: Vec<usize> = (0..all.len()).filter(|&i| all[i].2).collect();
        let begins: Vec<usize> = (0..all.len()).filter(|&i| all[i].1).collect();
        assert_eq!(begins, [0, ends[0] + 1, ends[1] + 1]);
        let first: Vec<u8> = all[..=ends[0]]
            .iter()
            .flat_map(|chunk| chunk.0.clone())
            .collect();
        assert!(first == payload.as_bytes());
        assert_eq!(all[ends[1]].0, b"");
        assert_eq!(all[ends[2]].0, b"small");
        assert_eq!(world.app.count("message"), 0);
        world.end();
    }
}

/// Many bombs at once: each stops at the limit, and nobody else waits for them.
#[test]
fn bombs_fail_with_1009_and_others_go_on() {
    let mut world = World::new();
    let options = Config {
        max_message_bytes: 1 << 20,
        ..deflate(15, false)
    };
    let (_, address) = world.serve(&server(options));
    let big = Config {
        max_message_bytes: u64::MAX,
        ..deflate(15, false)
    };
    let bomb = vec![0; 16 << 20];
    let pairs: Vec<_> = (0..4)
        .map(|_| world.pair(address, &client(big.clone())))
        .collect();
    let honest = world.pair(address, &client(big));
    let bomb = Prepared::new(MessageType::Binary, bomb, Compress::Always).unwrap();
    for (near, _) in &pairs {
        world.lp.conn(*near).send_prepared(&bomb).unwrap();
    }
    world.lp.conn(honest.0).send_text("honest").unwrap();
    world.until("the honest one is heard", |world| {
        heard(world, honest.1) == [b"honest"]
    });
    for (near, far) in pairs {
        let closed = world.ended(near);
        assert_eq!(closed.code.as_u16(), 1009);
        assert!(
            closed.reason.contains("max_message_bytes, 1048576"),
            "{}",
            closed.reason
        );
        assert_eq!(kind(&world.ended(far)), Some(ErrorKind::MessageTooBig));
    }
    world.end();
}
