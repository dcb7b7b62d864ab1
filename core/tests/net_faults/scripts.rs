//! The scripts: what programs do with a loop, each to an end of its own.
//!
//! A script returns `Ok` when it has come where it wanted, and the error that kept it from that
//! otherwise.
//!
//! Does not know: which calls fail.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use wsabi::{
    Accept, Answer, ClientOptions, Error, ErrorKind, ListenOn, MessageType, Response, Result,
    Sent as Taken, ServerOptions,
};

use super::run::{Run, Script, said, say};
use crate::net::app::Told;
use crate::net::ms;
use crate::net::peer::{self, Peer};

use MessageType::{Binary, Text};

/// All scripts, by name.
pub const SCRIPTS: &[(&str, Script)] = &[
    ("echo small messages", echo_small),
    ("echo large messages", echo_large),
    ("echo fragmented messages", echo_fragmented),
    ("echo over IPv6 or both", echo_dual_stack),
    ("echo compressed messages", echo_compressed),
    ("echo by name", echo_by_name),
    ("echo at the second address", second_address),
    ("echo over a unix socket", echo_unix),
    ("many clients at once", many_clients),
    ("the server speaks first", server_speaks),
    ("backlog and drain", backlog_and_drain),
    ("pause and resume", pause_and_resume),
    ("pause until the peer is gone", pause_until_gone),
    ("deferred writes", deferred_writes),
    ("payloads that are lent", lent_payloads),
    ("one message for many", broadcast),
    ("answered later", answered_later),
    ("refused later", refused_later),
    ("refused at once", refused_at_once),
    ("plain HTTP", plain_http),
    ("no request in time", no_request),
    ("nobody listens", nobody_listens),
    ("the server closes", server_closes),
    ("the client terminates", client_terminates),
    ("the server terminates", server_terminates),
    ("stopping with grace", stop_with_grace),
    ("closing a server", close_server),
    ("sends of another thread", other_thread),
    ("keepalive", keepalive),
    ("idle for too long", idle),
    ("pings and pongs", pings),
    ("a broken frame", broken_frame),
    ("a peer that resets", peer_resets),
    ("a peer that half closes", peer_half_closes),
    ("waiting apart from dispatching", wait_apart),
    ("a watched descriptor", watched),
    ("freeing amid traffic", free_amid),
];

/// Has the server send everything back, and the client send these messages one after the other,
/// then close.
fn echo(run: &mut Run, base: &str, payloads: Vec<(MessageType, Vec<u8>)>) -> Result<()> {
    echo_hook(run, payloads);
    let id = run.connect(base, "/echo")?;
    run.open(id)?;
    run.ended(id)?;
    clean(run, id)
}

fn echo_hook(run: &mut Run, payloads: Vec<(MessageType, Vec<u8>)>) {
    let (sent, mut next) = (run.sent.clone(), std::collections::HashMap::new());
    run.app.hook(move |conn, told| {
        let at_server = conn.server().is_some();
        match told {
            Told::Message(_, message_type, payload) if at_server => {
                say(&sent, conn, *message_type, payload);
            }
            Told::Open(_) | Told::Message(..) if !at_server => {
                let next = next.entry(conn.id()).or_insert(0);
                match payloads.get(*next) {
                    Some((message_type, payload)) => say(&sent, conn, *message_type, payload),
                    None => drop(conn.close(Some(1000), "enough")),
                }
                *next += 1;
            }
            _ => {}
        }
    });
}

/// What a script wanted, if this connection ended with the closing handshake.
fn clean(run: &Run, id: wsabi::ConnId) -> Result<()> {
    match run.app.closed(id) {
        Some(closed) if closed.is_clean() => Ok(()),
        Some(closed) => Err(closed.error.clone().expect("not clean, with an error")),
        None => Err(missed("it has not ended")),
    }
}

fn missed(what: &'static str) -> Error {
    Error::new(ErrorKind::Lost, what)
}

fn small() -> Vec<(MessageType, Vec<u8>)> {
    let texts = ["one", "two, a little longer", ""];
    let mut all: Vec<_> = texts.map(|text| (Text, text.as_bytes().to_vec())).into();
    all.push((Binary, vec![0xfe; 300]));
    all
}

fn echo_small(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    echo(run, &base, small())
}

fn echo_large(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    let large = |octet: u8, len: usize| (Binary, vec![octet; len]);
    let all = vec![large(1, 70_000), large(2, 400_000)];
    echo(run, &base, all)
}

fn echo_fragmented(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    let sent = run.sent.clone();
    run.app.hook(move |conn, told| match told {
        Told::Open(_) if conn.server().is_none() => {
            for (round, len) in [3, 200, 70_000].into_iter().enumerate() {
                let part = vec![round as u8; len];
                let whole = part.repeat(3);
                let parts = (0..3).map(|i| conn.send_fragment(Binary, &part, i == 2).is_ok());
                if parts.fold(true, |all, one| all && one) {
                    said(&sent, conn.id(), &whole);
                }
            }
        }
        Told::Message(_, message_type, payload) if conn.server().is_some() => {
            say(&sent, conn, *message_type, payload);
        }
        Told::Message(_, _, payload) if payload.len() == 210_000 => {
            let _ = conn.close(Some(1000), "");
        }
        _ => {}
    });
    let id = run.connect(&base, "/fragments")?;
    run.ended(id)?;
    clean(run, id)
}

fn echo_compressed(run: &mut Run) -> Result<()> {
    run.config.deflate = Some(wsabi::DeflateOptions {
        min_bytes: 0,
        server_context_takeover: true,
        client_context_takeover: true,
        ..wsabi::DeflateOptions::default()
    });
    let base = run.serve()?;
    let text = |words: &str| (Text, words.repeat(500).into_bytes());
    echo(
        run,
        &base,
        vec![text("again "), text("and again "), text("")],
    )
}

fn echo_dual_stack(run: &mut Run) -> Result<()> {
    let options = ServerOptions {
        on: ListenOn::Tcp {
            host: None,
            port: 0,
        },
        config: run.config.clone(),
        reuse_port: true,
        ..ServerOptions::default()
    };
    run.listen(&options)?;
    let base = format!("ws://127.0.0.1:{}", run.port());
    echo(run, &base, small())
}

fn echo_by_name(run: &mut Run) -> Result<()> {
    let options = ServerOptions {
        config: run.config.clone(),
        ..ServerOptions::tcp("localhost", 0)
    };
    run.listen(&options)?;
    let base = format!("ws://localhost:{}", run.port());
    echo(run, &base, small())
}

/// The name's first address refuses, because nobody listens there.
fn second_address(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    let port = run.port();
    let addresses = ["127.0.0.2", "127.0.0.1"];
    let addresses = addresses.map(|host| (host.parse::<std::net::IpAddr>().unwrap(), port).into());
    wsabi::net::sys::faults::resolve_to(addresses.into());
    let base = base.replace("127.0.0.1", "localhost");
    echo(run, &base, small())
}

fn echo_unix(run: &mut Run) -> Result<()> {
    let options = listen_unix(run)?;
    echo_hook(run, small());
    let id = run.connect_with("ws://localhost", "/unix", &options)?;
    run.ended(id)?;
    clean(run, id)
}

fn many_clients(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    echo_hook(run, small());
    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(run.connect(&base, &format!("/{number}"))?);
    }
    for &id in &ids {
        run.ended(id)?;
    }
    ids.iter().try_for_each(|&id| clean(run, id))
}

fn server_speaks(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    let sent = run.sent.clone();
    run.app.hook(move |conn, told| match told {
        Told::Open(_) if conn.server().is_some() => {
            for text in ["welcome", "to", "this place"] {
                say(&sent, conn, Text, text.as_bytes());
            }
        }
        Told::Message(_, _, payload) if payload == b"this place" => {
            let _ = conn.close(None, "");
        }
        _ => {}
    });
    let id = run.connect(&base, "/speech")?;
    run.ended(id)?;
    // A close without a code is answered with none, which is told as 1005.
    match run.app.messages_of(id).len() {
        3 => clean(run, id),
        _ => Err(missed("not all was heard")),
    }
}

/// The server sends to a client that does not read until the backlog is high, and goes on when it
/// has drained. Over a unix socket, because little fits into it.
fn backlog_and_drain(run: &mut Run) -> Result<()> {
    const EACH: [u8; 64 << 10] = [7; 64 << 10];
    const ALL: u32 = 16;
    run.config.high_water_bytes = 128 << 10;
    run.config.low_water_bytes = 32 << 10;
    let options = listen_unix(run)?;
    let sent = run.sent.clone();
    let (full, left) = (Rc::new(Cell::new(false)), Cell::new(ALL));
    let tell = full.clone();
    run.app.hook(move |conn, told| match told {
        Told::Open(_) if conn.server().is_none() => drop(conn.pause()),
        Told::Open(_) | Told::Drain(_) => {
            while left.get() > 0 {
                let answer = conn.send_binary(&EACH);
                if answer.is_ok() {
                    said(&sent, conn.id(), &EACH);
                    left.set(left.get() - 1);
                }
                if !matches!(answer, Ok(Taken::Ok)) {
                    return tell.set(true);
                }
            }
            let _ = conn.close(Some(1000), "");
        }
        _ => {}
    });
    let id = run.connect_with("ws://localhost", "/backlog", &options)?;
    run.open(id)?;
    // The paused client hears of the server's end only when it reads again.
    run.until(|run| full.get() || run.lp.stats().connections == 1)?;
    run.lp.conn(id).resume()?;
    run.ended(id)?;
    clean(run, id)
}

/// A server on a unix socket, and the options of its clients.
fn listen_unix(run: &mut Run) -> Result<ClientOptions> {
    let options = ServerOptions {
        config: run.config.clone(),
        ..ServerOptions::unix(&run.socket_file.0)
    };
    run.listen(&options)?;
    Ok(ClientOptions {
        config: run.config.clone(),
        unix_path: Some(run.socket_file.0.clone()),
        ..ClientOptions::default()
    })
}

fn pause_and_resume(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    let sent = run.sent.clone();
    run.app.hook(move |conn, told| match told {
        Told::Open(_) if conn.server().is_some() => {
            for text in ["first", "second", "third"] {
                say(&sent, conn, Text, text.as_bytes());
            }
        }
        Told::Message(_, _, payload) if payload == b"third" => {
            let _ = conn.close(Some(1000), "");
        }
        Told::Message(..) if conn.server().is_none() => drop(conn.pause()),
        _ => {}
    });
    let id = run.connect(&base, "/pauses")?;
    for count in [1, 2] {
        run.until(|run| run.app.messages_of(id).len() == count)?;
        run.lp.conn(id).resume()?;
    }
    run.ended(id)?;
    clean(run, id)
}

/// A paused client hears of the end only after it has read what came before.
fn pause_until_gone(run: &mut Run) -> Result<()> {
    // The server's close timeout is what ends it.
    let calm = std::mem::replace(&mut run.config.close_timeout, ms(50));
    let base = run.serve()?;
    run.config.close_timeout = calm;
    let sent = run.sent.clone();
    run.app.hook(move |conn, told| match told {
        Told::Open(_) if conn.server().is_some() => {
            say(&sent, conn, Text, b"goodbye");
            let _ = conn.close(Some(1001), "");
        }
        Told::Open(_) => drop(conn.pause()),
        _ => {}
    });
    let id = run.connect(&base, "/gone")?;
    run.open(id)?;
    run.until(|run| {
        run.far("/gone")
            .is_some_and(|far| run.app.closed(far).is_some())
    })?;
    // Now the transport is hung up, and nothing is told of it.
    run.poll(ms(10));
    run.lp.conn(id).resume()?;
    run.ended(id)
}

fn deferred_writes(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    let sent = run.sent.clone();
    run.app.hook(move |conn, told| match told {
        Told::Message(_, message_type, payload) if conn.server().is_some() => {
            say(&sent, conn, *message_type, payload);
        }
        _ => {}
    });
    let id = run.connect(&base, "/deferred")?;
    run.open(id)?;
    run.lp.defer_writes(true)?;
    for number in 0..3 {
        let text = format!("message {number}");
        let _ = run.lp.conn(id).send_text(&text)?;
        said(&run.sent, id, text.as_bytes());
    }
    run.lp.flush_all()?;
    run.lp.defer_writes(false)?;
    run.until(|run| run.app.messages_of(id).len() == 3)?;
    run.lp.conn(id).close(Some(1000), "")?;
    run.ended(id)?;
    clean(run, id)
}

fn lent_payloads(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    let sent = run.sent.clone();
    let large = wsabi::Bytes::from(vec![9; 40_000]);
    run.app.hook(move |conn, told| match told {
        Told::Open(_) if conn.server().is_some() => {
            for part in [10, 20_000, 40_000] {
                let payload = large.slice(..part);
                if conn
                    .send_owned(Binary, &payload, wsabi::Compress::Never)
                    .is_ok()
                {
                    said(&sent, conn.id(), &payload);
                }
            }
            let _ = conn.close(Some(1000), "");
        }
        _ => {}
    });
    let id = run.connect(&base, "/lent")?;
    run.ended(id)?;
    clean(run, id)
}

fn broadcast(run: &mut Run) -> Result<()> {
    let ids = two_clients(run)?;
    let message = wsabi::Prepared::new(Binary, vec![5; 30_000], wsabi::Compress::Never)?;
    let server = run.last_server();
    let _ = run.lp.broadcast_server(server, &message, None)?;
    for target in ["/1", "/2"] {
        if let Some(far) = run.far(target) {
            said(&run.sent, far, &[5; 30_000]);
        }
    }
    for id in ids {
        run.until(|run| run.app.messages_of(id).len() == 2 || run.app.closed(id).is_some())?;
        run.lp.conn(id).close(Some(1000), "")?;
        run.ended(id)?;
        clean(run, id)?;
    }
    Ok(())
}

fn hold(run: &mut Run, target: &str) -> Result<(wsabi::ConnId, wsabi::ConnId)> {
    let base = run.serve()?;
    run.app.upgrade = Some(Box::new(|_, _| Answer::Later));
    echo_hook(run, small());
    let id = run.connect(&base, target)?;
    run.until(|run| run.far(target).is_some())?;
    let far = run.far(target).ok_or_else(|| missed("no request"))?;
    run.poll(ms(5));
    Ok((id, far))
}

fn answered_later(run: &mut Run) -> Result<()> {
    let (id, far) = hold(run, "/held")?;
    run.lp.conn(far).accept(&Accept::default())?;
    run.ended(id)?;
    clean(run, id)
}

fn refused_later(run: &mut Run) -> Result<()> {
    let (id, far) = hold(run, "/held")?;
    run.lp
        .conn(far)
        .respond(&Response::text(404, "no such place"))?;
    refused(run, id, 404)
}

fn refused(run: &mut Run, id: wsabi::ConnId, status: u16) -> Result<()> {
    run.ended(id)?;
    match run.app.closed(id) {
        Some(closed) if closed.http_status == status => Ok(()),
        _ => Err(missed("the refusal did not arrive")),
    }
}

fn refused_at_once(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    run.app.upgrade = Some(Box::new(|_, _| Answer::refuse(403, "not you")));
    let id = run.connect(&base, "/refused")?;
    refused(run, id, 403)
}

/// A raw client of a server, with what it sends at once.
fn raw(run: &mut Run, bytes: &[u8]) -> Result<Peer> {
    run.serve()?;
    let mut peer = Peer::connect(([127, 0, 0, 1], run.port()).into());
    peer.send(bytes);
    Ok(peer)
}

fn plain_http(run: &mut Run) -> Result<()> {
    let mut peer = raw(run, b"GET /page HTTP/1.1\r\nHost: test\r\n\r\n")?;
    run.app.http = Some(Box::new(|_, _| Some(Response::text(200, "a page"))));
    run.until_end(&mut peer)?;
    let answer = String::from_utf8_lossy(&peer.got).into_owned();
    match answer.starts_with("HTTP/1.1 200") && answer.contains("\r\n\r\na page") {
        true => Ok(()),
        false => Err(missed("the page did not come")),
    }
}

fn no_request(run: &mut Run) -> Result<()> {
    run.config.handshake_timeout = ms(20);
    let mut peer = raw(run, b"GET / HTTP/1.1\r\n")?;
    run.until_end(&mut peer)?;
    match peer.got.starts_with(b"HTTP/1.1 408") {
        true => Ok(()),
        false => Err(missed("the refusal did not come")),
    }
}

fn nobody_listens(run: &mut Run) -> Result<()> {
    let deaf = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    let any: std::net::SocketAddr = ([127, 0, 0, 1], 0).into();
    deaf.bind(&any.into()).unwrap();
    let port = deaf.local_addr().unwrap().as_socket().unwrap().port();
    let id = run.connect(&format!("ws://127.0.0.1:{port}"), "/nobody")?;
    run.ended(id)
}

fn server_closes(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    let sent = run.sent.clone();
    run.app.hook(move |conn, told| {
        if let (Told::Open(_), true) = (told, conn.server().is_some()) {
            say(&sent, conn, Text, b"that is all");
            let _ = conn.close(Some(4000), "done");
        }
    });
    let id = run.connect(&base, "/brief")?;
    run.ended(id)?;
    clean(run, id)
}

/// Lets one end terminate when the other's first message has come.
fn terminate(run: &mut Run, at_server: bool) -> Result<()> {
    let base = run.serve()?;
    let sent = run.sent.clone();
    run.app.hook(move |conn, told| match told {
        Told::Open(_) if conn.server().is_some() != at_server => {
            say(&sent, conn, Text, b"hello");
        }
        Told::Message(..) => drop(conn.terminate()),
        _ => {}
    });
    let id = run.connect(&base, "/cut")?;
    run.ended(id)?;
    run.until(|run| run.lp.stats().connections == 0)
}

fn client_terminates(run: &mut Run) -> Result<()> {
    terminate(run, false)
}

fn server_terminates(run: &mut Run) -> Result<()> {
    terminate(run, true)
}

/// Two clients that are open, and a message for each on its way.
fn two_clients(run: &mut Run) -> Result<[wsabi::ConnId; 2]> {
    let base = run.serve()?;
    let sent = run.sent.clone();
    run.app.hook(move |conn, told| match told {
        Told::Open(_) if conn.server().is_some() => say(&sent, conn, Text, b"here"),
        _ => {}
    });
    let ids = [run.connect(&base, "/1")?, run.connect(&base, "/2")?];
    let heard = |run: &Run, id| run.app.messages_of(id).len() == 1;
    let ended = |run: &Run, id| run.app.closed(id).is_some();
    run.until(|run| ids.iter().all(|&id| heard(run, id) || ended(run, id)))?;
    match ids.iter().all(|&id| heard(run, id)) {
        true => Ok(ids),
        false => Err(missed("a client ended before")),
    }
}

fn stop_with_grace(run: &mut Run) -> Result<()> {
    let ids = two_clients(run)?;
    let server = run.last_server();
    run.lp.stop_server(server, Duration::from_secs(10))?;
    run.until(|run| run.app.stopped(server).is_some())?;
    for id in ids {
        run.ended(id)?;
        clean(run, id)?;
    }
    Ok(())
}

fn close_server(run: &mut Run) -> Result<()> {
    let ids = two_clients(run)?;
    let server = run.last_server();
    run.lp.close_server(server)?;
    for id in ids {
        let _ = run.lp.conn(id).send_text("still here")?;
        said(&run.sent, id, b"still here");
        run.lp.conn(id).close(Some(1000), "")?;
        run.ended(id)?;
        clean(run, id)?;
    }
    run.until(|run| run.app.stopped(server).is_some())
}

fn other_thread(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    let id = run.connect(&base, "/thread")?;
    run.open(id)?;
    let handle = run.lp.handle();
    let sender = std::thread::spawn(move || {
        for number in 0..20 {
            handle.send(id, Text, format!("number {number}").as_bytes())?;
        }
        handle.close(id, Some(1000), "")
    });
    for number in 0..20 {
        said(&run.sent, id, format!("number {number}").as_bytes());
    }
    run.ended(id)?;
    sender.join().expect("no panic")?;
    clean(run, id)
}

fn keepalive(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    run.config.ping_interval = Some(ms(4));
    let pongs = Cell::new(0);
    run.app.hook(move |conn, told| {
        if let Told::Pong(..) = told {
            pongs.set(pongs.get() + 1);
            if pongs.get() == 3 {
                let _ = conn.close(Some(1000), "");
            }
        }
    });
    let id = run.connect(&base, "/alive")?;
    run.ended(id)?;
    clean(run, id)
}

fn idle(run: &mut Run) -> Result<()> {
    run.config.idle_timeout = Some(ms(10));
    let base = run.serve()?;
    run.config.idle_timeout = None;
    let id = run.connect(&base, "/idle")?;
    run.ended(id)
}

fn pings(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    run.app.hook(move |conn, told| match told {
        Told::Open(_) if conn.server().is_none() => drop(conn.ping(b"are you there?")),
        Told::Pong(_, payload) if payload == b"are you there?" => {
            let _ = conn.pong(b"good");
            let _ = conn.close(Some(1000), "");
        }
        _ => {}
    });
    let id = run.connect(&base, "/pings")?;
    run.ended(id)?;
    clean(run, id)
}

/// A raw client with a WebSocket, that sends these bytes with its request.
fn raw_open(run: &mut Run, behind: &[u8]) -> Result<Peer> {
    raw(run, &[peer::REQUEST, behind].concat())
}

fn broken_frame(run: &mut Run) -> Result<()> {
    // An unmasked frame (RFC 6455 §5.1).
    let mut peer = raw_open(run, &[0x81, 1, b'x'])?;
    let read_close = |peer: &mut Peer| {
        peer.pump();
        peer.got
            .windows(4)
            .any(|four| four[2..] == 1002u16.to_be_bytes() && four[0] == 0x88)
    };
    while !read_close(&mut peer) && peer.end.is_none() {
        if run.app.established == 1 && run.lp.stats().connections == 0 {
            return Err(missed("it ended before"));
        }
        run.wait_for_peer()?;
    }
    // Refused if the server has reset.
    let _ = peer.socket.shutdown(std::net::Shutdown::Write);
    run.until_end(&mut peer)
}

fn peer_resets(run: &mut Run) -> Result<()> {
    let peer = raw_open(run, &[])?;
    run.wait_open()?;
    peer.reset();
    run.until(|run| run.lp.stats().connections == 0)
}

fn peer_half_closes(run: &mut Run) -> Result<()> {
    let mut peer = raw_open(run, &[0x81, 0x85, 0, 0, 0, 0, b'h', b'a'])?;
    run.wait_open()?;
    // Refused if the server has reset.
    let _ = peer.socket.shutdown(std::net::Shutdown::Write);
    run.until_end(&mut peer)
}

fn wait_apart(run: &mut Run) -> Result<()> {
    let base = run.serve()?;
    echo_hook(run, small());
    let id = run.connect(&base, "/apart")?;
    while run.app.closed(id).is_none() {
        // Interrupted waits find nothing, as those whose time is up.
        run.wait_and_dispatch();
    }
    clean(run, id)
}

fn watched(run: &mut Run) -> Result<()> {
    use std::os::fd::AsRawFd;
    let (near, far) = std::os::unix::net::UnixStream::pair().unwrap();
    run.lp.watch(near.as_raw_fd())?;
    std::io::Write::write_all(&mut &far, b"x").unwrap();
    while !run.lp.take_watched() {
        run.poll(ms(100));
    }
    std::io::Read::read_exact(&mut &near, &mut [0]).unwrap();
    run.lp.unwatch(near.as_raw_fd())
}

fn free_amid(run: &mut Run) -> Result<()> {
    let ids = two_clients(run)?;
    for id in ids {
        let _ = run.lp.conn(id).send_binary(&[1; 5000])?;
        said(&run.sent, id, &[1; 5000]);
    }
    run.lp.finish(&mut run.app);
    match ids.iter().all(|&id| run.app.closed(id).is_some()) {
        true => Ok(()),
        false => Err(missed("an end")),
    }
}
