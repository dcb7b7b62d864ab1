//! The application: tells the callers of what there is, replaces clients that end, and judges what
//! arrives.
//!
//! Does not know: which calls were made.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use wsabi::{
    Answer, ClientOptions, Closed, Config, Conn, ConnId, Context, DeflateOptions, Handler,
    Handshake, Message, Request, ServerId, ServerOptions, Stopped,
};

use crate::board::Board;

/// Short times, so that what a caller leaves hanging ends within the scene.
pub fn config() -> Config {
    Config {
        hold_timeout: Duration::from_millis(200),
        close_timeout: Duration::from_millis(500),
        deflate: Some(DeflateOptions {
            server_context_takeover: true,
            ..DeflateOptions::default()
        }),
        ..Config::default()
    }
}

pub fn server() -> ServerOptions {
    ServerOptions {
        config: config(),
        ..ServerOptions::tcp("127.0.0.1", 0)
    }
}

/// Every third client does not compress, and the others do so in two ways.
pub fn client(number: u64) -> ClientOptions {
    let mut config = config();
    match number % 3 {
        0 => config.deflate = None,
        1 => config.deflate = Some(DeflateOptions::default()),
        _ => {}
    }
    ClientOptions {
        config,
        ..ClientOptions::default()
    }
}

/// The payload of a caller: nothing but its own letter.
pub fn payload(caller: u64, len: usize) -> Vec<u8> {
    vec![b'a' + caller as u8; len]
}

/// Starts a server, and tells the callers.
pub fn open_server(context: &mut Context, board: &Board, stays: bool) -> u16 {
    let id = context.listen(&server()).unwrap();
    let wsabi::PeerAddr::Tcp(address) = *context.server_addr(id).unwrap() else {
        panic!("not a TCP server");
    };
    if stays {
        board.port.store(address.port(), Ordering::SeqCst);
        *board.server.lock().unwrap() = Some(id);
    } else {
        board.servers.put(id);
        board.ports.put(address.port());
    }
    address.port()
}

/// Starts a client. Every other one is held at its server; one in eight goes to a server that may
/// be gone.
pub fn open_client(context: &mut Context, board: &Board, number: u64) {
    let passing = board
        .ports
        .pick(number)
        .filter(|_| number.is_multiple_of(8));
    let port = passing.unwrap_or_else(|| board.port.load(Ordering::SeqCst));
    let path = if number.is_multiple_of(2) {
        "later"
    } else {
        "now"
    };
    let url = format!("ws://127.0.0.1:{port}/{path}");
    context.connect(&url, &client(number)).unwrap();
}

pub struct Office {
    pub board: Arc<Board>,
    pub messages: u64,
    pub opened: u64,
    pub stopped: u64,
    open: HashSet<ConnId>,
    clients: u64,
}

impl Office {
    pub fn new(board: Arc<Board>) -> Self {
        Self {
            board,
            messages: 0,
            opened: 0,
            stopped: 0,
            open: HashSet::new(),
            clients: 0,
        }
    }

    /// Fails if a connection that opened was not closed.
    pub fn check_all_closed(&self) {
        assert!(self.open.is_empty(), "without on_close: {:?}", self.open);
    }
}

impl Handler for Office {
    fn on_upgrade(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Answer {
        if request.target == "/later" {
            self.board.held.put(conn.id());
            return Answer::Later;
        }
        Answer::accept()
    }

    fn on_open(&mut self, conn: &mut Conn<'_>, _: Handshake<'_>) {
        assert!(self.open.insert(conn.id()), "opened twice");
        self.opened += 1;
        self.board.connections.put(conn.id());
    }

    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        assert!(self.open.contains(&conn.id()), "not open");
        let bytes = message.as_bytes();
        // Fragments of several callers may have become one message.
        let foreign = bytes.iter().find(|byte| !(b'a'..=b'd').contains(*byte));
        assert_eq!(foreign, None, "nobody has sent this");
        self.messages += 1;
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, _: &Closed) {
        let is_client = conn.server().is_none();
        let opened = self.open.remove(&conn.id());
        assert!(opened || is_client, "closed twice, or never opened");
        if is_client && self.board.refill.load(Ordering::SeqCst) {
            self.clients += 1;
            open_client(conn.context(), &self.board, self.clients);
        }
    }

    fn on_stopped(&mut self, _: &mut Context, _: ServerId, _: Stopped) {
        self.stopped += 1;
    }
}
