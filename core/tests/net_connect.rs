//! How clients come to a connection, and how they do not.
//!
//! Does not know: what is said once a connection is open.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use net::app::Told;
use net::peer::{self, Peer};
use net::{PATIENCE, QUIET, TempPath, World, calm, client, ms, server};
use socket2::{Domain, Socket, Type};
use wsabi::{
    ClientOptions, CloseCode, Config, ConnId, ErrorKind, ListenOn, PeerAddr, RequestOptions,
    ServerOptions, State,
};

/// Greets over a new connection, and hears the greeting back.
fn echoes(world: &mut World, id: ConnId) {
    world.until("the client is open", |world| world.app.is_open(id));
    world.lp.conn(id).send_text("grüße").unwrap();
    world.until("the echo comes", |world| {
        world.app.texts_of(id) == ["grüße"]
    });
}

/// A client that cannot open; gives how it ended.
fn fails(world: &mut World, id: ConnId) -> wsabi::Closed {
    let closed = world.ended(id);
    assert_eq!(world.app.names(id), ["close"]);
    assert_eq!((closed.code, &*closed.reason), (CloseCode::ABNORMAL, ""));
    assert!(!closed.is_clean());
    closed
}

fn kind(closed: &wsabi::Closed) -> ErrorKind {
    closed.error.as_ref().expect("an error").kind()
}

fn detail(closed: &wsabi::Closed) -> &str {
    closed.error.as_ref().expect("an error").detail()
}

/// A listener that answers nothing and whose queue is full, so that no connection is made.
struct Deaf {
    listener: Socket,
    _queued: Vec<Socket>,
}

impl Deaf {
    fn new() -> Self {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener
            .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
            .unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap();
        let queued = |_| {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
            socket.set_nonblocking(true).unwrap();
            let _ = socket.connect(&address);
            socket
        };
        Self {
            _queued: (0..8).map(queued).collect(),
            listener,
        }
    }

    fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap().as_socket().unwrap()
    }
}

#[test]
fn both_families_echo() {
    for host in ["127.0.0.1", "::1", "[::1]"] {
        let mut world = World::new();
        world.app.echo = true;
        let (_, address) = world.serve(&ServerOptions::tcp(host, 0));
        assert_ne!(address.port(), 0);
        let (near, far) = world.pair(address, &ClientOptions::default());
        echoes(&mut world, near);
        let far_peer = world.lp.conn(far).peer_addr();
        assert_eq!(world.lp.conn(near).local_addr(), far_peer);
        assert_eq!(
            world.lp.conn(near).peer_addr(),
            Some(PeerAddr::Tcp(address))
        );
        world.end();
    }
}

#[test]
fn without_a_host_both_families_come_in() {
    let mut world = World::new();
    world.app.echo = true;
    let (_, address) = world.serve(&ServerOptions::default());
    for host in ["127.0.0.1", "[::1]"] {
        let url = format!("ws://{host}:{}/", address.port());
        let id = world.lp.connect(&url, &ClientOptions::default()).unwrap();
        echoes(&mut world, id);
        let ours = world.lp.conn(id).local_addr();
        let far = world.app.told.iter().find_map(|told| match told {
            Told::Open(far) if *far != id => Some(*far),
            _ => None,
        });
        // An IPv4 peer of a dual-stack socket has its IPv4 address.
        assert_eq!(world.lp.conn(far.unwrap()).peer_addr(), ours);
        world.lp.conn(id).close(Some(1000), "").unwrap();
        world.ended(id);
        world.until("the server's end has ended", |world| {
            world.lp.stats().connections == 0
        });
        world.app.told.clear();
    }
    world.end();
}

#[test]
fn a_name_is_resolved_off_the_loop_and_all_its_addresses_are_tried() {
    // Whichever family comes first, one of the two servers is found by the second address only.
    for host in ["127.0.0.1", "::1"] {
        let mut world = World::new();
        world.app.echo = true;
        let (_, address) = world.serve(&ServerOptions::tcp(host, 0));
        let url = format!("ws://localhost:{}/", address.port());
        let resolves_to = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", address.port()));
        if !resolves_to.unwrap().any(|found| found == address) {
            // A machine whose localhost has one family.
            continue;
        }
        let id = world.lp.connect(&url, &ClientOptions::default()).unwrap();
        assert_eq!(world.lp.conn(id).state(), State::Connecting);
        echoes(&mut world, id);
        world.end();
    }
}

#[test]
fn a_server_on_a_name_listens_on_all_its_addresses_with_one_port() {
    let mut world = World::new();
    world.app.echo = true;
    let (_, address) = world.serve(&ServerOptions::tcp("localhost", 0));
    let found = std::net::ToSocketAddrs::to_socket_addrs(&("localhost", address.port())).unwrap();
    for address in found {
        let id = world.connect(address, &ClientOptions::default());
        echoes(&mut world, id);
    }
    world.end();
}

#[test]
fn unix_sockets_echo_and_their_file_comes_and_goes() {
    let path = TempPath::new();
    let mut world = World::new();
    world.app.echo = true;
    let id = world.lp.listen(&ServerOptions::unix(&path.0)).unwrap();
    let expected = PeerAddr::Unix(Some(path.0.clone()));
    assert_eq!(world.lp.server_addr(id).unwrap(), &expected);
    assert!(path.0.exists());
    let options = ClientOptions {
        unix_path: Some(path.0.clone()),
        ..ClientOptions::default()
    };
    let near = world.lp.connect("ws://whatever/chat?x", &options).unwrap();
    echoes(&mut world, near);
    assert!(matches!(&world.app.told[0], Told::Upgrade(_, target) if target == "/chat?x"));

    let error = World::new()
        .lp
        .listen(&ServerOptions::unix(&path.0))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Listen);
    let name = format!("unix:{}", path.0.display());
    assert!(error.detail().contains(&name), "{error}");
    assert!(path.0.exists(), "a live server keeps its file");

    world.lp.stop_server(id, PATIENCE).unwrap();
    assert!(!path.0.exists(), "the file goes when accepting ends");
    world.until("it stops", |world| world.app.stopped(id).is_some());
    world.end();
}

#[test]
fn a_stale_unix_socket_is_replaced_and_other_files_are_not() {
    let path = TempPath::new();
    drop(UnixListener::bind(&path.0).unwrap());
    assert!(path.0.exists(), "std leaves the file");
    let mut world = World::new();
    world.lp.listen(&ServerOptions::unix(&path.0)).unwrap();
    world.end();
    assert!(!path.0.exists(), "finishing removes it too");

    std::fs::write(&path.0, "precious").unwrap();
    let error = World::new()
        .lp
        .listen(&ServerOptions::unix(&path.0))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Listen);
    assert_eq!(std::fs::read_to_string(&path.0).unwrap(), "precious");
}

#[test]
fn a_dropped_loop_removes_the_unix_socket() {
    let path = TempPath::new();
    let mut world = World::new();
    world.lp.listen(&ServerOptions::unix(&path.0)).unwrap();
    drop(world);
    assert!(!path.0.exists());
}

#[test]
fn nobody_there_is_told_with_the_address() {
    let mut world = World::new();
    // Bound, so that nobody else gets the port, but not listening.
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    bound
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    let address = bound.local_addr().unwrap().as_socket().unwrap();
    for host in ["127.0.0.1", "localhost"] {
        let url = format!("ws://{host}:{}/", address.port());
        let id = world.lp.connect(&url, &ClientOptions::default()).unwrap();
        let closed = fails(&mut world, id);
        assert_eq!(kind(&closed), ErrorKind::Connect);
        let place = format!("{host}:{}", address.port());
        assert!(detail(&closed).contains(&place), "{closed:?}");
    }
    let options = ClientOptions {
        unix_path: Some("/nonexistent/wsabi".into()),
        ..ClientOptions::default()
    };
    let told = world.app.told.len();
    let id = world.lp.connect("ws://h/", &options).unwrap();
    assert_eq!(world.app.told.len(), told, "never before connect returns");
    let closed = fails(&mut world, id);
    assert_eq!(kind(&closed), ErrorKind::Connect);
    assert!(
        detail(&closed).contains("unix:/nonexistent/wsabi"),
        "{closed:?}"
    );
    world.end();
}

#[test]
fn a_unix_listener_whose_queue_is_full_is_told() {
    let path = TempPath::new();
    let address = socket2::SockAddr::unix(&path.0).unwrap();
    let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
    listener.bind(&address).unwrap();
    listener.listen(0).unwrap();
    let mut queued = Vec::new();
    loop {
        let socket = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        if socket.connect(&address).is_err() {
            break;
        }
        queued.push(socket);
    }
    let mut world = World::new();
    let options = ClientOptions {
        unix_path: Some(path.0.clone()),
        ..client(calm())
    };
    let id = world.lp.connect("ws://h/", &options).unwrap();
    assert_eq!(kind(&fails(&mut world, id)), ErrorKind::Connect);
    world.end();
}

#[test]
fn a_name_that_is_none_is_told() {
    let mut world = World::new();
    // A label longer than DNS allows (RFC 1035 §2.3.4) is refused without asking any server.
    let url = format!("ws://{}/", "x".repeat(64));
    match world.lp.connect(&url, &ClientOptions::default()) {
        Ok(id) => {
            let closed = fails(&mut world, id);
            assert_eq!(kind(&closed), ErrorKind::Resolve);
        }
        Err(error) => assert_eq!(error.kind(), ErrorKind::Invalid),
    }
    world.end();
}

#[test]
fn bad_arguments_start_nothing() {
    let mut world = World::new();
    let plain = ClientOptions::default();
    let no_time = client(Config {
        handshake_timeout: Duration::ZERO,
        ..Config::default()
    });
    let injecting = ClientOptions {
        request: RequestOptions {
            headers: vec![("X".into(), "a\r\nb: c".into())],
            ..RequestOptions::default()
        },
        ..ClientOptions::default()
    };
    for (url, options, kind) in [
        ("ftp://127.0.0.1/", &plain, ErrorKind::Invalid),
        ("ws://127.0.0.1:0/", &plain, ErrorKind::Invalid),
        ("wss://127.0.0.1/", &plain, ErrorKind::Unsupported),
        ("ws://127.0.0.1/", &no_time, ErrorKind::Invalid),
        ("ws://127.0.0.1/", &injecting, ErrorKind::Invalid),
    ] {
        let error = world.lp.connect(url, options).unwrap_err();
        assert_eq!(error.kind(), kind, "{url}: {error}");
    }
    assert!(world.lp.is_idle());
    world.end();
}

#[test]
fn every_stage_of_a_handshake_has_the_deadline() {
    let mut world = World::new();
    let options = client(Config {
        handshake_timeout: ms(150),
        ..calm()
    });
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let waiting = world.connect(silent.local_addr().unwrap(), &options);
    let closed = fails(&mut world, waiting);
    assert_eq!(kind(&closed), ErrorKind::HandshakeTimeout);
    assert!(detail(&closed).contains("response"), "{closed:?}");

    let deaf = Deaf::new();
    let connecting = world.connect(deaf.address(), &options);
    let closed = fails(&mut world, connecting);
    assert_eq!(kind(&closed), ErrorKind::HandshakeTimeout);
    assert!(detail(&closed).contains("connecting"), "{closed:?}");
    world.end();
}

#[test]
fn dripping_a_response_does_not_put_the_deadline_off() {
    let mut world = World::new();
    let options = client(Config {
        handshake_timeout: ms(200),
        ..calm()
    });
    let (mut peer, id) = world.asked(&options);
    let response = peer.response();
    let mut rest = response.as_bytes()[..response.len() - 1].iter();
    world.until("the client gives up", |world| {
        if let Some(octet) = rest.next() {
            peer.try_send(&[*octet]);
        }
        world.app.closed(id).is_some()
    });
    assert_eq!(
        kind(world.app.closed(id).unwrap()),
        ErrorKind::HandshakeTimeout
    );
    world.end();
}

#[test]
fn answers_that_are_no_upgrade_end_the_client() {
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\n";
    let cases: [(String, ErrorKind, u16); 8] = [
        (String::new(), ErrorKind::Lost, 0),
        (
            "SSH-2.0-OpenSSH_9.2\r\n\r\n".into(),
            ErrorKind::Handshake,
            0,
        ),
        ("\0\x01\x02\r\n\r\n".into(), ErrorKind::Handshake, 0),
        (
            "HTTP/1.1 404 Not Found\r\n\r\n".into(),
            ErrorKind::Refused,
            404,
        ),
        ("HTTP/1.1 200 OK\r\n\r\n".into(), ErrorKind::Refused, 200),
        (
            format!(
                "HTTP/1.1 101 X\r\n{upgrade}Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n"
            ),
            ErrorKind::Handshake,
            0,
        ),
        (
            format!("HTTP/1.1 101 X\r\n{upgrade}\r\n"),
            ErrorKind::Handshake,
            0,
        ),
        (
            format!("HTTP/1.1 200 OK\r\nX: {}\r\n\r\n", "x".repeat(20_000)),
            ErrorKind::HandshakeTooLarge,
            0,
        ),
    ];
    for (answer, expected, status) in cases {
        let mut world = World::new();
        let (mut peer, id) = world.asked(&client(calm()));
        if answer.is_empty() {
            drop(peer);
        } else {
            peer.send(answer.as_bytes());
        }
        let closed = fails(&mut world, id);
        assert_eq!(
            (kind(&closed), closed.http_status),
            (expected, status),
            "{answer:.60}"
        );
        world.end();
    }
}

#[test]
fn interim_responses_are_passed_over_and_nothing_behind_the_final_one_is_lost() {
    let mut world = World::new();
    let (mut peer, id) = world.asked(&client(calm()));
    let response = peer.response();
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let mut all = [interim.as_bytes(), response.as_bytes()].concat();
    all.extend(peer.frame(peer::TEXT, b"first"));
    all.extend(peer.frame(peer::PING, b"p"));
    all.extend(peer.frame(peer::TEXT, b"second"));
    all.extend(&peer.frame(peer::TEXT, b"third")[..4]);
    peer.send(&all);
    world.until("two messages come", |world| world.app.messages == 2);
    assert_eq!(world.app.names(id), ["open", "message", "ping", "message"]);
    peer.send(&peer.frame(peer::TEXT, b"third")[4..]);
    world.until("the third comes", |world| world.app.messages == 3);
    assert_eq!(world.app.texts_of(id), ["first", "second", "third"]);
    let mut frames = Vec::new();
    world.until("the pong comes", |_| {
        frames.extend(peer.frames());
        !frames.is_empty()
    });
    assert_eq!(
        (frames[0].opcode, &frames[0].payload[..]),
        (peer::PONG, &b"p"[..])
    );
    assert!(frames[0].masked);
    world.end();
}

#[test]
fn the_response_may_come_in_any_pieces() {
    let mut world = World::new();
    let (mut peer, id) = world.asked(&client(calm()));
    let response = peer.response();
    let message = peer.frame(peer::TEXT, b"behind");
    for octet in [response.as_bytes(), &message].concat() {
        peer.send(&[octet]);
        world.turn(ms(1));
    }
    world.until("the message comes", |world| world.app.messages == 1);
    assert_eq!(world.app.names(id), ["open", "message"]);
    world.end();
}

/// Ends a client in the stage that `begin` brings it to, in both ways, inside and outside of a
/// dispatch.
fn ended_by_us(begin: impl Fn(&mut World) -> (ConnId, Option<Peer>)) {
    for way in 0..4 {
        let mut world = World::new();
        let (id, _peer) = begin(&mut world);
        assert_eq!(world.lp.conn(id).state(), State::Connecting);
        let error = world.lp.conn(id).send_text("too early").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        for early in [world.lp.conn(id).pause(), world.lp.conn(id).resume()] {
            assert_eq!(early.unwrap_err().kind(), ErrorKind::State);
        }
        match way {
            0 => world.lp.conn(id).terminate().unwrap(),
            1 => world.lp.conn(id).close(Some(1000), "").unwrap(),
            2 => world.lp.handle().terminate(id).unwrap(),
            _ => {
                let call = move |context: &mut wsabi::Context| {
                    context.conn(id).close(None, "").unwrap();
                };
                world.lp.handle().post(call).unwrap();
            }
        }
        assert!(world.app.told.is_empty(), "no callback before a dispatch");
        let closed = fails(&mut world, id);
        assert_eq!(kind(&closed), ErrorKind::Terminated);
        world.turns_in(QUIET / 4);
        assert_eq!(world.app.names(id), ["close"]);
        assert!(world.lp.is_idle());
        world.end();
    }
}

#[test]
fn a_client_can_be_ended_while_its_host_is_resolved() {
    ended_by_us(|world| {
        let options = ClientOptions::default();
        (
            world.lp.connect("ws://localhost:9/", &options).unwrap(),
            None,
        )
    });
}

#[test]
fn a_client_can_be_ended_while_it_connects() {
    let deaf = Deaf::new();
    ended_by_us(|world| {
        let id = world.connect(deaf.address(), &client(calm()));
        world.turns_in(ms(20));
        (id, None)
    });
}

#[test]
fn a_client_can_be_ended_while_it_waits_for_the_response() {
    ended_by_us(|world| {
        let (peer, id) = world.asked(&client(calm()));
        (id, Some(peer))
    });
}

#[test]
fn a_client_ended_in_on_open_ends_once() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    world.app.hook(|conn, told| {
        if matches!(told, Told::Open(_)) && conn.server().is_none() {
            conn.terminate().unwrap();
        }
    });
    let id = world.connect(address, &client(calm()));
    let closed = world.ended(id);
    assert_eq!(kind(&closed), ErrorKind::Terminated);
    assert_eq!(world.app.names(id), ["open", "close"]);
    world.end();
}

#[test]
fn connecting_inside_callbacks_works() {
    let mut world = World::new();
    let (_, address) = world.serve(&ServerOptions {
        on: ListenOn::Tcp {
            host: Some("127.0.0.1".into()),
            port: 0,
        },
        ..server(calm())
    });
    let mut left = 3;
    world.app.hook(move |conn, told| {
        let opened = matches!(told, Told::Close(_, closed) if closed.is_clean());
        if opened && conn.server().is_none() && left > 0 {
            left -= 1;
            let url = format!("ws://{address}/{left}");
            conn.context().connect(&url, &client(calm())).unwrap();
            let nowhere = ClientOptions {
                unix_path: Some(Path::new("/nonexistent/wsabi").into()),
                ..client(calm())
            };
            conn.context().connect("ws://h/", &nowhere).unwrap();
        } else if matches!(told, Told::Open(_)) && conn.server().is_none() {
            conn.close(Some(1000), "").unwrap();
        }
    });
    world.connect(address, &client(calm()));
    world.until("all have come and gone", |world| {
        world.app.count("close") == 4 + 3 + 4 && world.lp.stats().connections == 0
    });
    world.end();
}
