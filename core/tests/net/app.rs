//! An application that notes what it is told, and refuses to be told anything out of order.
//!
//! Does not know: what a test wants to hear.

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use wsabi::{
    Answer, Chunk, Closed, Conn, ConnId, Context, Error, Handler, Handshake, Message, MessageType,
    PeerAddr, Request, Response, ServerId, State, Stopped,
};

/// A callback, and what it was told.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// With the request's target.
    Upgrade(ConnId, String),
    /// With the request's method and target.
    Http(ConnId, String),
    Open(ConnId),
    Message(ConnId, MessageType, Vec<u8>),
    /// With whether it is the first and the last.
    Chunk(ConnId, Vec<u8>, bool, bool),
    Drain(ConnId),
    Ping(ConnId, Vec<u8>),
    Pong(ConnId, Vec<u8>),
    Close(ConnId, Closed),
    Error(ServerId, Error, Option<PeerAddr>),
    Stopped(ServerId, Stopped),
}

impl Told {
    /// The connection it was about.
    pub fn id(&self) -> Option<ConnId> {
        match self {
            Self::Upgrade(id, _)
            | Self::Http(id, _)
            | Self::Open(id)
            | Self::Message(id, ..)
            | Self::Chunk(id, ..)
            | Self::Drain(id)
            | Self::Ping(id, _)
            | Self::Pong(id, _)
            | Self::Close(id, _) => Some(*id),
            Self::Error(..) | Self::Stopped(..) => None,
        }
    }

    fn name(&self) -> &'static str {
        match self {
            Self::Upgrade(..) => "upgrade",
            Self::Http(..) => "http",
            Self::Open(_) => "open",
            Self::Message(..) => "message",
            Self::Chunk(..) => "chunk",
            Self::Drain(_) => "drain",
            Self::Ping(..) => "ping",
            Self::Pong(..) => "pong",
            Self::Close(..) => "close",
            Self::Error(..) => "error",
            Self::Stopped(..) => "stopped",
        }
    }
}

/// What a test does inside callbacks.
type Hook = Box<dyn FnMut(&mut Conn<'_>, &Told)>;
type ContextHook = Box<dyn FnMut(&mut Context, &Told)>;
type OnUpgrade = Box<dyn FnMut(&mut Conn<'_>, &Request<'_>) -> Answer>;
type OnMessage = Box<dyn FnMut(&mut Conn<'_>, Message<'_>)>;
type OnHttp = Box<dyn FnMut(&mut Conn<'_>, &Request<'_>) -> Option<Response>>;

#[derive(Default)]
pub struct App {
    pub told: Vec<Told>,
    /// Whether servers send every message back.
    pub echo: bool,
    /// Gets messages as they lie in the loop's buffer, before they are noted.
    pub raw_message: Option<OnMessage>,
    pub hook: Option<Hook>,
    pub context_hook: Option<ContextHook>,
    pub upgrade: Option<OnUpgrade>,
    pub http: Option<OnHttp>,
    /// Messages told.
    pub messages: u64,
    /// Connections that were opened.
    pub established: u64,
    open: HashSet<ConnId>,
    closed: HashMap<ConnId, Closed>,
}

impl App {
    pub fn hook(&mut self, hook: impl FnMut(&mut Conn<'_>, &Told) + 'static) {
        self.hook = Some(Box::new(hook));
    }

    /// Whether `on_open` has come and `on_close` has not.
    pub fn is_open(&self, id: ConnId) -> bool {
        self.open.contains(&id)
    }

    pub fn closed(&self, id: ConnId) -> Option<&Closed> {
        self.closed.get(&id)
    }

    /// Everything about one connection from `on_open` on, by name.
    pub fn names(&self, id: ConnId) -> Vec<&'static str> {
        let about = self.told.iter().filter(|told| told.id() == Some(id));
        let names = about.map(Told::name);
        names.filter(|&name| name != "upgrade").collect()
    }

    pub fn count(&self, name: &str) -> usize {
        self.told.iter().filter(|told| told.name() == name).count()
    }

    /// The payloads of a connection's messages.
    pub fn messages_of(&self, wanted: ConnId) -> Vec<&[u8]> {
        let payload = |told: &'_ Told| match told {
            Told::Message(id, ..) => *id == wanted,
            _ => false,
        };
        self.told
            .iter()
            .filter(|told| payload(told))
            .filter_map(|told| match told {
                Told::Message(_, _, payload) => Some(&payload[..]),
                _ => None,
            })
            .collect()
    }

    /// The text messages of a connection.
    pub fn texts_of(&self, id: ConnId) -> Vec<String> {
        let text = |payload: &&[u8]| String::from_utf8(payload.to_vec()).unwrap();
        self.messages_of(id).iter().map(text).collect()
    }

    /// What servers were told of failed handshakes.
    pub fn errors(&self) -> Vec<&Error> {
        let error = |told: &'_ Told| matches!(told, Told::Error(..));
        let all = self.told.iter().filter(|told| error(told));
        all.filter_map(|told| match told {
            Told::Error(_, error, _) => Some(error),
            _ => None,
        })
        .collect()
    }

    /// The counts with which a server stopped, once it has.
    pub fn stopped(&self, server: ServerId) -> Option<Stopped> {
        self.told.iter().find_map(|told| match told {
            Told::Stopped(id, counts) if *id == server => Some(*counts),
            _ => None,
        })
    }

    pub fn check_all_closed(&self) {
        assert!(self.open.is_empty(), "without on_close: {:?}", self.open);
    }

    /// The latest that was told, in few words.
    pub fn summary(&self) -> String {
        let mut text = format!("{} were told", self.told.len());
        for told in self.told.iter().rev().take(12).rev() {
            let line: String = format!("{told:?}").chars().take(200).collect();
            let _ = write!(text, "\n  {line}");
        }
        text
    }

    fn note(&mut self, conn: &mut Conn<'_>, told: Told) {
        let id = conn.id();
        assert!(!self.closed.contains_key(&id), "after on_close: {told:?}");
        assert!(conn.is_known(), "stale inside {told:?}");
        match &told {
            Told::Upgrade(..) | Told::Http(..) => {
                assert!(!self.open.contains(&id) && conn.server().is_some());
                assert_eq!(conn.state(), State::Connecting);
            }
            Told::Open(_) => {
                assert!(self.open.insert(id), "opened twice");
                self.established += 1;
            }
            Told::Close(_, closed) => {
                let opened = self.open.remove(&id);
                assert!(
                    opened || conn.server().is_none(),
                    "on_close without on_open"
                );
                assert_eq!(conn.state(), State::Closed);
                self.closed.insert(id, closed.clone());
            }
            _ => assert!(self.open.contains(&id), "before on_open: {told:?}"),
        }
        if matches!(told, Told::Message(..) | Told::Chunk(_, _, _, true)) {
            self.messages += 1;
        }
        if let Some(hook) = &mut self.hook {
            hook(conn, &told);
        }
        self.told.push(told);
    }
}

impl Handler for App {
    fn on_upgrade(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Answer {
        self.note(conn, Told::Upgrade(conn.id(), request.target.to_owned()));
        match &mut self.upgrade {
            Some(upgrade) => upgrade(conn, request),
            None => Answer::accept(),
        }
    }

    fn on_http(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Option<Response> {
        let asked = format!("{} {}", request.method, request.target);
        self.note(conn, Told::Http(conn.id(), asked));
        match &mut self.http {
            Some(http) => http(conn, request),
            None => Some(Response::upgrade_required(
                "this server speaks WebSocket only",
            )),
        }
    }

    fn on_open(&mut self, conn: &mut Conn<'_>, handshake: Handshake<'_>) {
        assert_eq!(handshake.request().is_some(), conn.server().is_some());
        self.note(conn, Told::Open(conn.id()));
    }

    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        if self.echo && conn.server().is_some() {
            // Refused when the connection is closing.
            let _ = conn.send(message.message_type(), message.as_bytes());
        }
        if let Some(raw_message) = &mut self.raw_message {
            raw_message(conn, message);
        }
        let payload = message.as_bytes().to_vec();
        self.note(
            conn,
            Told::Message(conn.id(), message.message_type(), payload),
        );
    }

    fn on_chunk(&mut self, conn: &mut Conn<'_>, chunk: Chunk<'_>) {
        let data = chunk.data.as_bytes().to_vec();
        self.note(conn, Told::Chunk(conn.id(), data, chunk.first, chunk.last));
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>) {
        self.note(conn, Told::Drain(conn.id()));
    }

    fn on_ping(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {
        self.note(conn, Told::Ping(conn.id(), payload.to_vec()));
    }

    fn on_pong(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {
        self.note(conn, Told::Pong(conn.id(), payload.to_vec()));
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, closed: &Closed) {
        self.note(conn, Told::Close(conn.id(), closed.clone()));
    }

    fn on_error(
        &mut self,
        context: &mut Context,
        server: ServerId,
        error: &Error,
        peer: Option<&PeerAddr>,
    ) {
        let told = Told::Error(server, error.clone(), peer.cloned());
        if let Some(hook) = &mut self.context_hook {
            hook(context, &told);
        }
        self.told.push(told);
    }

    fn on_stopped(&mut self, context: &mut Context, server: ServerId, counts: Stopped) {
        assert_eq!(self.stopped(server), None, "stopped twice");
        let told = Told::Stopped(server, counts);
        if let Some(hook) = &mut self.context_hook {
            hook(context, &told);
        }
        self.told.push(told);
    }
}
