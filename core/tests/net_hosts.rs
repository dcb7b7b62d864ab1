//! What is there for hosts: gathering messages and handing them over together, leaving pongs and
//! refusals to the application, hearing of writes, and closing a server without its connections.
//!
//! Does not know: any host.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

mod net;

use std::time::Instant;

use net::peer::{self, CLOSE, Frame, PING, PONG, Peer, TEXT};
use net::{PATIENCE, World, calm, client, ms, server};
use wsabi::{
    Config, Conn, ConnId, Context, Error, ErrorKind, Handler, Handshake, Loop, Message, PeerAddr,
    Reply, Request, Response, Sent, ServerId, Stopped,
};

/// Gathers messages, and echoes them when it has to.
#[derive(Default)]
struct Host {
    gathered: Vec<(ConnId, String)>,
    /// Whether pongs are left to `on_ping`, and whether that answers.
    leaves_pongs: bool,
    answers: bool,
    takes_refusals: bool,
    open: Vec<ConnId>,
    failures: Vec<ErrorKind>,
    errors: Vec<ErrorKind>,
    given: usize,
    /// What was left each time the kernel had taken something.
    left: Vec<u64>,
    /// Whether the connection is ended by who hears that a ping is about to be answered.
    ends_at_pong: bool,
    pings: usize,
    /// What is sent when a backlog is gone, once.
    refill: Option<Vec<u8>>,
    /// What waited each time a drain was told.
    at_drain: Vec<u64>,
    stopped: bool,
}

impl Host {
    fn echo(&mut self, context: &mut Context) {
        for (id, text) in self.gathered.drain(..) {
            let _ = context.conn(id).send_text(&text);
        }
    }
}

impl Handler for Host {
    fn on_refusal(&mut self, conn: &mut Conn<'_>, request: &Request<'_>, error: &Error) -> bool {
        if !self.takes_refusals {
            return true;
        }
        let text = format!("{}: {}", request.target, error.detail());
        conn.respond(&Response::text(418, &text)).unwrap();
        false
    }

    fn on_open(&mut self, conn: &mut Conn<'_>, _: Handshake<'_>) {
        self.open.push(conn.id());
    }

    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        let text = message.text().unwrap().to_owned();
        self.gathered.push((conn.id(), text));
    }

    fn on_ping(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {
        self.pings += 1;
        if self.leaves_pongs && self.answers {
            self.echo(conn.context());
            conn.answer_ping(payload).unwrap();
        }
    }

    fn on_reply(&mut self, conn: &mut Conn<'_>, reply: Reply<'_>) -> bool {
        match reply {
            Reply::Pong if self.leaves_pongs => return false,
            Reply::Pong if self.ends_at_pong => conn.terminate().unwrap(),
            Reply::Pong => {}
            Reply::Close(close) => assert_eq!(close.reason, "why"),
            Reply::Fail(error) => self.failures.push(error.kind()),
        }
        self.echo(conn.context());
        true
    }

    fn on_given(&mut self, context: &mut Context) {
        self.given += 1;
        self.echo(context);
    }

    fn on_written(&mut self, conn: &mut Conn<'_>) {
        self.left.push(conn.buffered());
        if conn.buffered() == 0
            && let Some(refill) = self.refill.take()
        {
            assert_eq!(conn.send_binary(&refill).unwrap(), Sent::Backpressure);
        }
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>) {
        self.at_drain.push(conn.buffered());
    }

    fn on_error(&mut self, _: &mut Context, _: ServerId, error: &Error, _: Option<&PeerAddr>) {
        self.errors.push(error.kind());
    }

    fn on_stopped(&mut self, _: &mut Context, _: ServerId, _: Stopped) {
        self.stopped = true;
    }
}

/// A loop with a server, and a raw client that is connected.
struct Setting {
    event_loop: Loop,
    host: Host,
    server: ServerId,
    peer: Peer,
}

impl Setting {
    fn new(host: Host) -> Self {
        let mut event_loop = Loop::new().unwrap();
        let server = event_loop.listen(&server(calm())).unwrap();
        let PeerAddr::Tcp(address) = *event_loop.server_addr(server).unwrap() else {
            panic!("not a TCP server");
        };
        let mut setting = Self {
            event_loop,
            host,
            server,
            peer: Peer::connect(address),
        };
        setting.peer.send(peer::REQUEST);
        setting.until(|setting| {
            setting.peer.pump();
            setting.peer.head_len().is_some()
        });
        setting.peer.take_head();
        setting
    }

    fn until(&mut self, mut done: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        while !done(self) {
            assert!(Instant::now() < deadline, "in vain");
            self.event_loop.poll(Some(ms(5)), &mut self.host).unwrap();
        }
    }

    /// The next frames, as opcode and payload.
    fn frames(&mut self, count: usize) -> Vec<(u8, String)> {
        let mut all: Vec<Frame> = Vec::new();
        self.until(|setting| {
            all.extend(setting.peer.frames());
            all.len() >= count
        });
        all.into_iter()
            .map(|frame| {
                (
                    frame.opcode,
                    String::from_utf8_lossy(&frame.payload).into_owned(),
                )
            })
            .collect()
    }

    /// Sends frames in one write.
    fn send(&mut self, frames: &[(u8, &[u8])]) {
        let bytes: Vec<u8> = frames
            .iter()
            .flat_map(|(opcode, payload)| self.peer.frame(*opcode, payload))
            .collect();
        self.peer.send(&bytes);
    }
}

fn texts(expected: &[(u8, &str)]) -> Vec<(u8, String)> {
    expected
        .iter()
        .map(|&(opcode, text)| (opcode, text.to_owned()))
        .collect()
}

#[test]
fn what_was_gathered_is_answered_before_wsabi_answers() {
    let mut setting = Setting::new(Host::default());
    let close = peer::close_payload(1000, "why");
    setting.send(&[(TEXT, b"1"), (PING, b"2"), (TEXT, b"3"), (CLOSE, &close)]);
    let frames = setting.frames(4);
    assert_eq!(frames[..3], texts(&[(TEXT, "1"), (PONG, "2"), (TEXT, "3")]));
    assert_eq!(frames[3].0, CLOSE);
}

#[test]
fn what_was_gathered_is_answered_before_a_violation_is() {
    let mut setting = Setting::new(Host::default());
    setting.send(&[(TEXT, b"1"), (TEXT, b"2"), (3, b"")]);
    let frames = setting.frames(3);
    assert_eq!(frames[..2], texts(&[(TEXT, "1"), (TEXT, "2")]));
    assert_eq!(frames[2].0, CLOSE);
    assert_eq!(setting.host.failures, [ErrorKind::Protocol]);
}

#[test]
fn what_is_gathered_goes_out_when_a_dispatch_has_given_everything() {
    let mut setting = Setting::new(Host::default());
    setting.send(&[(TEXT, b"1"), (TEXT, b"2")]);
    assert_eq!(setting.frames(2), texts(&[(TEXT, "1"), (TEXT, "2")]));
    assert!(setting.host.given > 0);
}

#[test]
fn a_pong_can_be_left_to_the_application() {
    for answers in [true, false] {
        let mut setting = Setting::new(Host {
            leaves_pongs: true,
            answers,
            ..Host::default()
        });
        setting.send(&[(TEXT, b"1"), (PING, b"2"), (TEXT, b"3")]);
        let expected: &[(u8, &str)] = if answers {
            &[(TEXT, "1"), (PONG, "2"), (TEXT, "3")]
        } else {
            &[(TEXT, "1"), (TEXT, "3")]
        };
        assert_eq!(setting.frames(expected.len()), texts(expected));
        let id = setting.host.open[0];
        let error = setting.event_loop.conn(id).answer_ping(&[0; 126]);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Invalid);
    }
}

#[test]
fn a_refusal_can_be_left_to_the_application() {
    for takes_refusals in [true, false] {
        let mut setting = Setting::new(Host {
            takes_refusals,
            ..Host::default()
        });
        let PeerAddr::Tcp(address) = *setting.event_loop.server_addr(setting.server).unwrap()
        else {
            panic!("not a TCP server");
        };
        let mut peer = Peer::connect(address);
        peer.send(b"GET /bad HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\r\n");
        setting.until(|_| {
            peer.pump();
            peer.end.is_some()
        });
        let response = String::from_utf8_lossy(&peer.got).into_owned();
        if takes_refusals {
            assert!(response.starts_with("HTTP/1.1 418 "), "{response}");
            assert!(
                response.contains("/bad: the Sec-WebSocket-Key"),
                "{response}"
            );
            assert_eq!(setting.host.errors, []);
        } else {
            assert!(response.starts_with("HTTP/1.1 400 "), "{response}");
            assert_eq!(setting.host.errors, [ErrorKind::Handshake]);
        }
    }
}

#[test]
fn writes_of_a_backlog_are_told() {
    let mut setting = Setting::new(Host::default());
    let id = setting.host.open[0];
    assert!(!setting.event_loop.conn(id).is_blocked());
    let large = vec![7; 32 << 20];
    setting.event_loop.conn(id).send_binary(&large).unwrap();
    let mut conn = setting.event_loop.conn(id);
    assert!(conn.is_blocked());
    let waiting = conn.buffered();
    conn.flush().unwrap();
    assert!(waiting > 0);
    setting.until(|setting| {
        setting.peer.pump();
        !setting.event_loop.conn(id).is_blocked()
    });
    let left = &setting.host.left;
    assert!(left[0] < waiting);
    assert!(left.is_sorted_by(|earlier, later| earlier >= later));
    assert_eq!(left.last(), Some(&0));
}

#[test]
fn a_pong_behind_a_backlog_is_written_before_the_write_is_told() {
    let mut setting = Setting::new(Host::default());
    let id = setting.host.open[0];
    let large = vec![7; 32 << 20];
    setting.event_loop.conn(id).send_binary(&large).unwrap();
    let received = setting.event_loop.stats().bytes_received;
    setting.send(&[(PING, b"behind")]);
    setting.until(|setting| setting.event_loop.stats().bytes_received > received);
    assert!(setting.event_loop.conn(id).is_blocked());
    // Whoever waits for everything to be written is told of writes, and hears of none after this.
    setting.until(|setting| {
        setting.peer.pump();
        !setting.event_loop.conn(id).is_blocked()
    });
    assert_eq!(setting.host.left.last(), Some(&0));
}

#[test]
fn one_drain_is_told_of_two_backlogs_without_a_moment_between() {
    let large = vec![7; 32 << 20];
    let mut setting = Setting::new(Host {
        refill: Some(large.clone()),
        ..Host::default()
    });
    let id = setting.host.open[0];
    let sent = setting.event_loop.conn(id).send_binary(&large).unwrap();
    assert_eq!(sent, Sent::Backpressure);
    setting.until(|setting| {
        setting.peer.pump();
        setting.host.refill.is_none() && !setting.event_loop.conn(id).is_blocked()
    });
    setting.until(|setting| !setting.host.at_drain.is_empty());
    setting
        .event_loop
        .poll(Some(ms(5)), &mut setting.host)
        .unwrap();
    // Whatever the kernel left of it, it was little.
    let [left] = setting.host.at_drain[..] else {
        panic!("{:?}", setting.host.at_drain);
    };
    assert!(left <= Config::default().low_water_bytes, "{left}");
}

#[test]
fn who_ends_a_connection_before_an_answer_hears_no_more_of_it() {
    let mut setting = Setting::new(Host {
        ends_at_pong: true,
        ..Host::default()
    });
    setting.send(&[(PING, b"1"), (TEXT, b"2")]);
    setting.until(|setting| {
        setting.peer.pump();
        setting.peer.end.is_some()
    });
    assert_eq!((setting.host.pings, setting.host.gathered.len()), (0, 0));
}

#[test]
fn a_server_is_closed_without_its_connections() {
    let mut setting = Setting::new(Host::default());
    let PeerAddr::Tcp(address) = *setting.event_loop.server_addr(setting.server).unwrap() else {
        panic!("not a TCP server");
    };
    setting.event_loop.close_server(setting.server).unwrap();
    let again = setting.event_loop.close_server(setting.server);
    assert_eq!(again.unwrap_err().kind(), ErrorKind::State);
    assert!(std::net::TcpStream::connect(address).is_err());

    setting.send(&[(TEXT, b"still here")]);
    assert_eq!(setting.frames(1), texts(&[(TEXT, "still here")]));
    assert!(!setting.host.stopped);
    let close = peer::close_payload(1000, "why");
    setting.send(&[(CLOSE, &close)]);
    setting.frames(1);
    setting.peer.shutdown_write();
    setting.until(|setting| setting.host.stopped);
    assert!(setting.event_loop.is_done());
}

#[test]
fn a_closed_server_can_still_be_stopped() {
    let mut world = World::new();
    let (id, address) = world.serve(&server(calm()));
    let (near, far) = world.pair(address, &client(calm()));
    world.lp.close_server(id).unwrap();
    world.lp.stop_server(id, PATIENCE).unwrap();
    assert_eq!(world.ended(near).code.as_u16(), 1001);
    assert!(world.ended(far).is_clean());
    world.until("the server has stopped", |world| {
        world.app.stopped(id).is_some()
    });
    world.end();
}
