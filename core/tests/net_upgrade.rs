//! What an application answers to requests: for a WebSocket, and for plain HTTP.
//!
//! Does not know: requests that never reach an application.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::cell::RefCell;
use std::rc::Rc;

use net::app::Told;
use net::peer::{self, End, Peer};
use net::{PATIENCE, World, calm, client, ms, server};
use wsabi::{
    Accept, Answer, ClientOptions, CloseCode, Config, ConnId, Context, DeflateOptions, ErrorKind,
    RequestOptions, Response, ServerOptions, ServerPolicy, State, SubprotocolChoice,
};

/// Waits until the server has closed its direction; gives everything it said.
fn said(world: &mut World, peer: &mut Peer) -> String {
    world.until("the server has answered and closed", |_| {
        peer.pump();
        peer.end.is_some()
    });
    assert_eq!(
        peer.end,
        Some(End::Fin),
        "a reset could overtake the answer"
    );
    String::from_utf8(std::mem::take(&mut peer.got)).unwrap()
}

/// Sends a request and gives the answer, which is the last thing said.
fn ask(world: &mut World, address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut peer = Peer::connect(address);
    peer.send(request);
    said(world, &mut peer)
}

fn on_upgrade(
    world: &mut World,
    upgrade: impl FnMut(&mut wsabi::Conn<'_>, &wsabi::Request<'_>) -> Answer + 'static,
) {
    world.app.upgrade = Some(Box::new(upgrade));
}

/// A request that the application keeps, and its number.
fn held(world: &mut World, address: std::net::SocketAddr) -> (Peer, ConnId) {
    on_upgrade(world, |_, _| Answer::Later);
    let mut peer = Peer::connect(address);
    peer.send(peer::REQUEST);
    let before = world.app.told.len();
    world.until("the application is asked", |world| {
        world.app.told.len() > before
    });
    let Some(Told::Upgrade(id, _)) = world.app.told.last() else {
        panic!("{}", world.app.summary());
    };
    (peer, *id)
}

#[test]
fn a_request_is_seen_and_accepted_with_headers_and_a_subprotocol() {
    let mut world = World::new();
    let (_, address) = world.serve(&ServerOptions {
        policy: ServerPolicy {
            subprotocols: vec!["v3".into(), "v2".into()],
            ..ServerPolicy::default()
        },
        ..server(calm())
    });
    for (choice, agreed) in [
        (SubprotocolChoice::Preferred, Some("v2")),
        (SubprotocolChoice::None, None),
        (SubprotocolChoice::Name("v1".into()), Some("v1")),
    ] {
        let chosen = choice.clone();
        on_upgrade(&mut world, move |conn, request| {
            assert_eq!(
                (request.method, request.path(), request.query()),
                ("GET", "/a", "b=c")
            );
            assert_eq!(request.header_text("Cookie"), Some("k=v"));
            assert_eq!(request.subprotocols().collect::<Vec<_>>(), ["v1", "v2"]);
            assert!(conn.peer_addr().is_some() && conn.local_addr().is_some());
            Answer::Accept(Accept {
                subprotocol: chosen.clone(),
                headers: vec![("Set-Cookie".into(), "a=b".into())],
            })
        });
        let options = ClientOptions {
            request: RequestOptions {
                subprotocols: vec!["v1".into(), "v2".into()],
                headers: vec![("Cookie".into(), "k=v".into())],
                ..RequestOptions::default()
            },
            ..client(calm())
        };
        let url = format!("ws://{address}/a?b=c");
        let near = world.lp.connect(&url, &options).unwrap();
        world.until("it opens", |world| world.app.is_open(near));
        assert_eq!(world.lp.conn(near).subprotocol(), agreed);
        let far = world.app.told.iter().rev().find_map(|told| match told {
            Told::Open(id) if *id != near => Some(*id),
            _ => None,
        });
        assert_eq!(
            world.lp.conn(far.unwrap()).subprotocol(),
            agreed,
            "{choice:?}"
        );
    }
    world.end();
}

#[test]
fn a_refusal_arrives_whole_and_a_client_learns_the_status() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let body = "x".repeat(3 << 20);
    let answer = Response {
        status: 401,
        headers: vec![("WWW-Authenticate".into(), "Basic realm=\"a\"".into())],
        body: body.clone().into_bytes(),
    };
    on_upgrade(&mut world, move |_, _| Answer::Refuse(answer.clone()));
    let near = world.connect(address, &client(calm()));
    let closed = world.ended(near);
    assert_eq!(closed.http_status, 401);
    assert_eq!(closed.error.unwrap().kind(), ErrorKind::Refused);
    assert_eq!(world.app.names(near), ["close"]);
    let text = ask(&mut world, address, peer::REQUEST);
    assert!(
        text.starts_with("HTTP/1.1 401 Unauthorized\r\n"),
        "{text:.100}"
    );
    assert!(text.contains("\r\nWWW-Authenticate: Basic realm=\"a\"\r\n"));
    assert!(text.contains("\r\nConnection: close\r\n"));
    assert!(text.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
    assert!(text.ends_with(&format!("\r\n\r\n{body}")));
    assert_eq!(world.app.count("open") + world.app.count("error"), 0);
    world.end();
}

#[test]
fn an_answer_that_cannot_be_sent_is_a_500_and_reported() {
    let bad_header = || vec![("X".to_owned(), "a\r\nb: c".to_owned())];
    let answers = [
        Answer::Accept(Accept {
            headers: bad_header(),
            ..Accept::default()
        }),
        Answer::Accept(Accept {
            headers: vec![("Sec-WebSocket-Accept".into(), "x".into())],
            ..Accept::default()
        }),
        Answer::Accept(Accept {
            subprotocol: SubprotocolChoice::Name("never-offered".into()),
            ..Accept::default()
        }),
        Answer::refuse(101, "not a refusal"),
        Answer::refuse(99, "not a status"),
        Answer::Refuse(Response {
            headers: bad_header(),
            ..Response::text(403, "")
        }),
    ];
    for answer in answers {
        let mut world = World::new();
        let (id, address) = world.serve(&server(calm()));
        let answered = answer.clone();
        on_upgrade(&mut world, move |_, _| answered.clone());
        let text = ask(&mut world, address, peer::REQUEST);
        assert!(text.starts_with("HTTP/1.1 500 "), "{text}");
        let reported = world.app.told.iter().any(|told| {
            matches!(told, Told::Error(server, error, Some(_)) if *server == id && error.kind() == ErrorKind::Invalid)
        });
        assert!(reported, "{}", world.app.summary());
        world.end();
    }
}

#[test]
fn an_answer_given_by_command_counts_and_the_returned_one_does_not() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    on_upgrade(&mut world, |conn, _| {
        conn.accept(&Accept::default()).unwrap();
        assert_eq!(conn.state(), State::Open);
        let again = conn.accept(&Accept::default()).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::State);
        let again = conn.respond(&Response::text(403, "")).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::State);
        let _ = conn.send_text("early").unwrap();
        Answer::refuse(403, "ignored")
    });
    let near = world.connect(address, &client(calm()));
    world.until("the message comes", |world| {
        world.app.texts_of(near) == ["early"]
    });
    on_upgrade(&mut world, |conn, _| {
        conn.respond(&Response::text(418, "")).unwrap();
        assert_eq!(conn.state(), State::Closed);
        let again = conn.accept(&Accept::default()).unwrap_err();
        assert_eq!(again.kind(), ErrorKind::Closed);
        Answer::accept()
    });
    let near = world.connect(address, &client(calm()));
    assert_eq!(world.ended(near).http_status, 418);
    world.end();
}

#[test]
fn a_request_can_be_dropped_without_an_answer() {
    for close in [false, true] {
        let mut world = World::new();
        let (id, address) = world.serve(&server(calm()));
        on_upgrade(&mut world, move |conn, _| {
            if close {
                conn.close(None, "").unwrap();
            } else {
                conn.terminate().unwrap();
            }
            assert!(!conn.is_known());
            // Another may take its slot at once.
            let next = conn
                .context()
                .connect("ws://127.0.0.1:9/", &client(calm()))
                .unwrap();
            assert_ne!(next, conn.id());
            conn.context().conn(next).terminate().unwrap();
            Answer::accept()
        });
        let mut peer = Peer::connect(address);
        peer.send(peer::REQUEST);
        world.until("the transport ends", |_| {
            peer.pump();
            peer.end.is_some()
        });
        assert_eq!(peer.got, b"");
        assert_eq!(world.app.count("open"), 0);
        let kinds: Vec<_> = world
            .app
            .errors()
            .iter()
            .map(|error| error.kind())
            .collect();
        assert_eq!(kinds, [ErrorKind::Terminated]);
        world.lp.stop_server(id, PATIENCE).unwrap();
        world.until("it stops", |world| world.app.stopped(id).is_some());
        world.end();
    }
}

#[test]
fn a_held_request_is_answered_later_from_anywhere() {
    for posted in [false, true] {
        let mut world = World::new();
        let (_, address) = world.serve(&server(calm()));
        let (mut peer, id) = held(&mut world, address);
        assert_eq!(world.lp.conn(id).state(), State::Connecting);
        let error = world.lp.conn(id).send_text("early").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        // What the client sends meanwhile waits, and is not answered.
        let mut early = peer.frame(peer::PING, b"early");
        early.extend(peer.frame(peer::TEXT, b"early"));
        peer.send(&early);
        world.turns_in(ms(20));
        peer.pump();
        assert_eq!(peer.got, b"");
        // A bad answer leaves the request waiting.
        let bad = Accept {
            subprotocol: SubprotocolChoice::Name("never-offered".into()),
            ..Accept::default()
        };
        let error = world.lp.conn(id).accept(&bad).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        if posted {
            let call = move |context: &mut Context| {
                context.conn(id).accept(&Accept::default()).unwrap();
            };
            world.lp.handle().post(call).unwrap();
        } else {
            world.lp.conn(id).accept(&Accept::default()).unwrap();
        }
        world.until("the message comes", |world| {
            world.app.texts_of(id) == ["early"]
        });
        world.until("the response comes", |_| {
            peer.pump();
            peer.head_len().is_some()
        });
        assert!(peer.take_head().contains(peer::ACCEPT));
        world.until("the pong comes", |_| {
            peer.frames().iter().any(|frame| frame.opcode == peer::PONG)
        });
        world.end();
    }
}

#[test]
fn bytes_behind_a_request_wait_for_the_answer_and_are_forgotten_with_a_refusal() {
    for accepted in [false, true] {
        let mut world = World::new();
        let (_, address) = world.serve(&server(calm()));
        on_upgrade(&mut world, |_, _| Answer::Later);
        let mut peer = Peer::connect(address);
        let mut bytes = peer::REQUEST.to_vec();
        bytes.extend(peer.frame(peer::TEXT, b"behind"));
        bytes.extend(peer.frame(peer::PING, b"p"));
        peer.send(&bytes);
        world.until("the application is asked", |world| {
            world.app.count("upgrade") == 1
        });
        let Some(&Told::Upgrade(id, _)) = world.app.told.first() else {
            panic!("{}", world.app.summary());
        };
        let turns = world.turns_in(ms(60));
        assert!(turns < 5, "{turns} turns while an answer is awaited");
        if accepted {
            world.lp.conn(id).accept(&Accept::default()).unwrap();
            world.until("both come", |world| world.app.names(id).len() == 3);
            assert_eq!(world.app.names(id), ["open", "message", "ping"]);
        } else {
            world
                .lp
                .conn(id)
                .respond(&Response::text(403, "no"))
                .unwrap();
            assert!(said(&mut world, &mut peer).starts_with("HTTP/1.1 403 "));
            assert_eq!(world.app.names(id), [""; 0]);
        }
        world.end();
    }
}

#[test]
fn a_request_that_is_never_answered_is_a_503() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(Config {
        handshake_timeout: 10 * PATIENCE,
        hold_timeout: ms(60),
        ..calm()
    }));
    let (mut peer, id) = held(&mut world, address);
    assert!(said(&mut world, &mut peer).starts_with("HTTP/1.1 503 "));
    assert_eq!(world.app.errors()[0].kind(), ErrorKind::HandshakeTimeout);
    let error = world.lp.conn(id).accept(&Accept::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    drop(peer);
    world.until("nothing is left", |world| !world.lp.conn(id).is_known());
    world.end();
}

#[test]
fn a_held_request_has_time_of_its_own() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(Config {
        handshake_timeout: ms(60),
        hold_timeout: PATIENCE,
        ..calm()
    }));
    let (peer, id) = held(&mut world, address);
    world.turns_in(ms(150));
    world.lp.conn(id).accept(&Accept::default()).unwrap();
    world.turns_in(ms(150));
    assert!(
        world.app.is_open(id),
        "no deadline of the handshake is left"
    );
    drop(peer);
    world.end();
}

#[test]
fn a_client_that_goes_while_it_is_held_is_told_or_found_by_the_answer() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let (peer, id) = held(&mut world, address);
    peer.reset();
    world.until("it is reported", |world| !world.app.errors().is_empty());
    assert_eq!(world.app.errors()[0].kind(), ErrorKind::Lost);
    let error = world.lp.conn(id).accept(&Accept::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);

    let (peer, id) = held(&mut world, address);
    drop(peer);
    let turns = world.turns_in(ms(60));
    assert!(turns < 5, "{turns} turns while an answer is awaited");
    world.lp.conn(id).accept(&Accept::default()).unwrap();
    let closed = world.ended(id);
    assert_eq!(closed.code, CloseCode::ABNORMAL);
    assert_eq!(world.app.names(id), ["open", "close"]);
    world.end();
}

const GET: &[u8] = b"GET /health?x HTTP/1.1\r\nHost: h\r\n\r\n";

#[test]
fn plain_http_is_a_426_unless_the_application_has_an_answer() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    let text = ask(&mut world, address, GET);
    assert!(
        text.starts_with("HTTP/1.1 426 Upgrade Required\r\n"),
        "{text}"
    );
    assert!(text.contains("\r\nSec-WebSocket-Version: 13\r\n"), "{text}");
    world.app.http = Some(Box::new(|conn, request| {
        assert_eq!(conn.state(), State::Connecting);
        let error = conn.accept(&Accept::default()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::State);
        Some(Response {
            headers: vec![("X-Path".into(), request.path().into())],
            ..Response::text(200, "alive")
        })
    }));
    let text = ask(&mut world, address, GET);
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("\r\nX-Path: /health\r\n") && text.ends_with("\r\n\r\nalive\n"));
    let head = [b"HEAD", &GET[3..]].concat();
    let text = ask(&mut world, address, &head);
    assert!(
        text.contains("\r\nContent-Length: 6\r\n") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
    // A second request on the same transport is not read.
    let twice = [GET, GET].concat();
    let text = ask(&mut world, address, &twice);
    assert_eq!(text.matches("HTTP/1.1").count(), 1);
    assert_eq!(world.app.count("http"), 4);
    assert!(world.app.errors().is_empty());
    world.end();
}

#[test]
fn plain_http_can_be_answered_later_or_not_at_all() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(Config {
        hold_timeout: ms(80),
        ..calm()
    }));
    let asked = Rc::new(RefCell::new(None));
    let note = Rc::clone(&asked);
    world.app.http = Some(Box::new(move |conn, _| {
        *note.borrow_mut() = Some(conn.id());
        None
    }));
    let mut peer = Peer::connect(address);
    peer.send(GET);
    world.until("the application is asked", |_| asked.borrow().is_some());
    let id = asked.borrow_mut().take().unwrap();
    world
        .lp
        .handle()
        .respond(id, Response::text(202, "later"))
        .unwrap();
    let text = said(&mut world, &mut peer);
    assert!(
        text.starts_with("HTTP/1.1 202 ") && text.ends_with("later\n"),
        "{text}"
    );

    // A refusal before the application is asked is one too.
    let upgrade_by_head = b"HEAD / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    let text = ask(&mut world, address, upgrade_by_head);
    assert!(
        text.starts_with("HTTP/1.1 405 ") && text.ends_with("\r\n\r\n"),
        "{text}"
    );
    // The answer to HEAD has no body, whoever gives it (RFC 9110 §9.3.2).
    for method in [&b"GET"[..], b"HEAD"] {
        let text = ask(&mut world, address, &[method, &GET[3..]].concat());
        assert!(text.starts_with("HTTP/1.1 503 "), "{text}");
        assert_eq!(text.ends_with("\r\n\r\n"), method == b"HEAD", "{text}");
    }
    world.end();
}

#[test]
fn a_bad_answer_to_plain_http_is_a_500() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    world.app.http = Some(Box::new(|_, _| Some(Response::text(600, ""))));
    assert!(ask(&mut world, address, GET).starts_with("HTTP/1.1 500 "));
    assert_eq!(world.app.errors()[0].kind(), ErrorKind::Invalid);
    world.end();
}

#[test]
fn one_who_keeps_the_transport_after_an_answer_is_let_go_in_time() {
    let mut world = World::new();
    let (_, address) = world.serve(&server(Config {
        close_timeout: ms(60),
        ..calm()
    }));
    let mut peer = Peer::connect(address);
    peer.send(GET);
    assert!(said(&mut world, &mut peer).starts_with("HTTP/1.1 426 "));
    // It goes on talking, and is cut off all the same.
    world.until("it is reset", |_| peer.try_send(b"and another thing") == 0);
    world.end();
}

#[test]
fn a_large_answer_has_the_time_that_progress_takes() {
    let mut world = World::new();
    let timeout = ms(400);
    let (_, address) = world.serve(&server(Config {
        close_timeout: timeout,
        ..calm()
    }));
    let body = vec![b'x'; 16 << 20];
    let answer = Response {
        status: 200,
        headers: Vec::new(),
        body: body.clone(),
    };
    world.app.http = Some(Box::new(move |_, _| Some(answer.clone())));
    let mut peer = Peer::connect_with(address, 1 << 20);
    peer.send(GET);
    world.until("the answer begins", |world| {
        world.lp.stats().buffered_bytes > 0
    });
    let mut some = vec![0; 64 << 10];
    let mut pauses = 0;
    while world.lp.stats().buffered_bytes > 0 {
        let wanted = peer.got.len() + (1 << 20);
        world.until("some more comes", |world| {
            while peer.got.len() < wanted && peer.read(&mut some) > 0 {}
            peer.got.len() >= wanted || world.lp.stats().buffered_bytes == 0
        });
        world.turns_in(timeout / 4);
        pauses += 1;
    }
    assert!(pauses > 5, "the backlog was too small for this test");
    assert!(said(&mut world, &mut peer).as_bytes().ends_with(&body));
    world.end();

    // Without progress it has the timeout, and no more.
    let mut world = World::new();
    let (id, address) = world.serve(&server(Config {
        close_timeout: ms(60),
        ..calm()
    }));
    let answer = Response::text(200, &"x".repeat(8 << 20));
    world.app.http = Some(Box::new(move |_, _| Some(answer.clone())));
    let mut peer = Peer::connect_small(address);
    peer.send(GET);
    world.until("the answer begins", |world| {
        world.lp.stats().buffered_bytes > 0
    });
    world.until("it is given up", |world| {
        world.lp.stats().buffered_bytes == 0
    });
    world.lp.stop_server(id, PATIENCE).unwrap();
    world.until("it stops", |world| world.app.stopped(id).is_some());
    world.end();
}

#[test]
fn an_application_negotiates_compression_by_itself() {
    let options = DeflateOptions {
        server_max_window_bits: 15,
        client_max_window_bits: 15,
        server_context_takeover: true,
        client_context_takeover: true,
        min_bytes: 0,
        ..DeflateOptions::default()
    };
    let config = Config {
        deflate: Some(options),
        ..calm()
    };
    let mut world = World::new();
    let (_, address) = world.serve(&server(config.clone()));
    on_upgrade(&mut world, |conn, request| {
        assert_eq!(
            request.header_text("Sec-WebSocket-Extensions"),
            Some("permessage-deflate; client_max_window_bits=8")
        );
        let bad = conn.accept_answering(&Accept::default(), Some("x-other"));
        assert_eq!(bad.unwrap_err().kind(), ErrorKind::Invalid);
        conn.accept_answering(
            &Accept::default(),
            Some("permessage-deflate; server_max_window_bits=10; client_max_window_bits=8"),
        )
        .unwrap();
        let _ = conn.send_text(&"again and ".repeat(9)).unwrap();
        Answer::Later
    });
    let asking = |offer: &str| ClientOptions {
        request: RequestOptions {
            deflate_offer: Some(offer.into()),
            ..RequestOptions::default()
        },
        ..client(config.clone())
    };
    let near = world.connect(
        address,
        &asking("permessage-deflate; client_max_window_bits=8"),
    );
    world.until("the message comes", |world| {
        world.app.texts_of(near) == ["again and ".repeat(9)]
    });
    let agreed = world.lp.conn(near).deflate().unwrap();
    assert_eq!(
        (
            agreed.server_max_window_bits,
            agreed.client_max_window_bits,
            agreed.server_context_takeover
        ),
        (10, 8, true)
    );
    let url = format!("ws://{address}/");
    let refused = world.lp.connect(&url, &asking("permessage-deflate; x"));
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::Invalid);
    world.end();

    let mut world = World::new();
    let (_, address) = world.serve(&server(calm()));
    on_upgrade(&mut world, |conn, _| {
        let without = conn.accept_answering(&Accept::default(), Some("permessage-deflate"));
        assert_eq!(without.unwrap_err().kind(), ErrorKind::Invalid);
        conn.accept_answering(&Accept::default(), None).unwrap();
        Answer::Later
    });
    let near = world.connect(address, &client(config));
    world.until("it opens", |world| world.app.is_open(near));
    assert_eq!(world.lp.conn(near).deflate(), None);
    world.end();
}
