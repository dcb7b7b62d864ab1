//! From the loop's events to JavaScript's functions.
//!
//! Messages, pings and pongs of one connection are gathered and handed over in one call: when
//! another connection has something, when something else is to be told, when wsabi is about to
//! answer the peer, and when the dispatch has nothing more to give.
//!
//! Does not know: how events come about, or what JavaScript makes of them.

use napi::sys::{napi_env, napi_value};
use wsabi::{
    Answer, Chunk, CloseCode, Closed, Conn, Context, Error, ErrorKind, Handler, Handshake, Message,
    MessageType, PeerAddr, Reply, Request, Response, ServerId, Stopped,
};

use crate::batch::Kind;
use crate::commands;
use crate::host::{Callback, Host};
use crate::js;

/// Output of this size is written as soon as JavaScript has made it: it is in the processor's cache.
const LARGE_OUTPUT: u64 = 16 << 10;

/// Tells JavaScript.
pub(crate) struct Driver<'a> {
    host: &'a Host,
}

impl<'a> Driver<'a> {
    pub(crate) const fn new(host: &'a Host) -> Self {
        Self { host }
    }

    /// Hands over what was gathered.
    fn deliver(&self, context: &mut Context) {
        let is_waiting = |id| commands::is_waiting(&context.conn(id));
        let Some(id) = self.host.batch.borrow_mut().seal(is_waiting) else {
            return;
        };
        self.host
            .tell(context, Callback::Messages, Some(id), |_| []);
        self.host.batch.borrow_mut().clear();
        let mut conn = context.conn(id);
        if conn.buffered() >= LARGE_OUTPUT {
            // Fails only for a connection that has ended.
            let _ = conn.flush();
        }
    }

    #[inline]
    fn gather(&self, conn: &mut Conn<'_>, kind: Kind, payload: &[u8]) {
        let id = conn.id();
        if !self.host.batch.borrow().takes(id) {
            self.deliver(conn.context());
        }
        let added = self
            .host
            .batch
            .borrow_mut()
            .add(id, kind, payload, &|len, shared| {
                self.host.allocate(len, shared)
            });
        if added.is_none() {
            // There is no memory for what has come, and it cannot be left out.
            let _ = conn.terminate();
        }
        if self.host.is_ending() {
            conn.context().yield_dispatch();
        }
    }

    /// Tells something about a connection, after what came before it, and what JavaScript says to
    /// that.
    fn tell<const N: usize>(
        &self,
        conn: &mut Conn<'_>,
        callback: Callback,
        arguments: impl FnOnce(napi_env) -> [napi_value; N],
    ) -> bool {
        let id = conn.id();
        self.deliver(conn.context());
        self.host
            .tell(conn.context(), callback, Some(id), arguments)
    }
}

impl Driver<'_> {
    /// Tells why a connection is about to end.
    fn fail(&self, conn: &mut Conn<'_>, kind: ErrorKind, detail: &str) {
        let index = index(conn);
        self.tell(conn, Callback::Failed, |env| {
            [
                js::uint(env, index),
                js::int(env, kind as i32),
                js::text(env, detail),
            ]
        });
    }

    /// Has JavaScript answer a request, and tells whether it does; `refusal` says why it is to be
    /// refused, if it is.
    fn ask(&self, conn: &mut Conn<'_>, request: &Request<'_>, refusal: &str) -> bool {
        let server = conn.server().map_or(0, ServerId::as_u64);
        let (index, generation) = (index(conn), generation(conn));
        self.tell(conn, Callback::Upgrade, |env| {
            [
                js::double(env, server as f64),
                js::uint(env, index),
                js::uint(env, generation),
                js::text(env, refusal),
                js::text(env, request.method),
                js::text(env, request.target),
                js::uint(env, u32::from(request.minor_version)),
                raw_headers(env, &Handshake::Request(request)),
            ]
        })
    }
}

/// The index of a connection, by which JavaScript finds its object.
fn index(conn: &Conn<'_>) -> u32 {
    conn.id().as_u64() as u32
}

fn generation(conn: &Conn<'_>) -> u32 {
    (conn.id().as_u64() >> 32) as u32
}

/// Header fields as Node has them: names and values in turn.
fn raw_headers(env: napi_env, handshake: &Handshake<'_>) -> napi_value {
    let flat: Vec<&[u8]> = handshake
        .headers()
        .iter()
        .flat_map(|(name, value)| [name.as_bytes(), value])
        .collect();
    js::list(env, flat.into_iter())
}

impl Handler for Driver<'_> {
    fn on_upgrade(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Answer {
        self.ask(conn, request, "");
        Answer::Later
    }

    /// As Node's own HTTP server answers for `ws`.
    fn on_http(&mut self, _: &mut Conn<'_>, _: &Request<'_>) -> Option<Response> {
        let mut response = Response::upgrade_required("");
        response.headers[0].1 = "text/plain".to_owned();
        response.body = b"Upgrade Required".to_vec();
        Some(response)
    }

    fn on_refusal(&mut self, conn: &mut Conn<'_>, request: &Request<'_>, error: &Error) -> bool {
        !self.ask(conn, request, error.detail())
    }

    fn on_open(&mut self, conn: &mut Conn<'_>, handshake: Handshake<'_>) {
        let Handshake::Response(response) = handshake else {
            // JavaScript knows: it has accepted the request.
            return;
        };
        let (index, subprotocol) = (index(conn), conn.subprotocol().map(str::to_owned));
        self.tell(conn, Callback::Opened, |env| {
            [
                js::uint(env, index),
                match &subprotocol {
                    Some(name) => js::text(env, name),
                    None => js::null(env),
                },
                js::uint(env, u32::from(response.status)),
                js::text(env, response.reason),
                raw_headers(env, &handshake),
            ]
        });
    }

    #[inline]
    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        let kind = match message {
            Message::Text(_) => Kind::TEXT,
            Message::Binary(_) => Kind::BINARY,
        };
        self.gather(conn, kind, message.as_bytes());
    }

    fn on_chunk(&mut self, conn: &mut Conn<'_>, chunk: Chunk<'_>) {
        let is_text = chunk.data.message_type() == MessageType::Text;
        let kind = Kind::chunk(is_text, chunk.first, chunk.last);
        self.gather(conn, kind, chunk.data.as_bytes());
    }

    fn on_ping(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {
        self.gather(conn, Kind::PING, payload);
    }

    fn on_pong(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {
        self.gather(conn, Kind::PONG, payload);
    }

    fn on_reply(&mut self, conn: &mut Conn<'_>, reply: Reply<'_>) -> bool {
        let index = index(conn);
        match reply {
            // JavaScript answers when it comes to the ping, after what it sends before.
            Reply::Pong => return false,
            Reply::Close(close) => {
                self.tell(conn, Callback::Closing, |env| [js::uint(env, index)]);
                if close.code != CloseCode::NO_STATUS {
                    // As `ws` answers: with the reason too. Fails if JavaScript has closed already.
                    let _ = conn.close(Some(close.code.as_u16()), close.reason);
                }
            }
            Reply::Fail(error) => self.fail(conn, error.kind(), error.detail()),
        }
        true
    }

    fn on_given(&mut self, context: &mut Context) {
        self.deliver(context);
    }

    fn on_written(&mut self, conn: &mut Conn<'_>) {
        let index = index(conn);
        self.tell(conn, Callback::Written, |env| [js::uint(env, index)]);
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>) {
        // Who has not asked for it is not told.
        if conn.tag() != 0 {
            let index = index(conn);
            self.tell(conn, Callback::Drain, |env| [js::uint(env, index)]);
        }
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, closed: &Closed) {
        let index = index(conn);
        let error = closed.error.as_ref();
        if self.host.take_broken(conn.id()) {
            let detail = "the data of a send with copy: false was transferred or resized before it was written";
            self.fail(conn, ErrorKind::Invalid, detail);
        }
        self.tell(conn, Callback::Closed, |env| {
            [
                js::uint(env, index),
                js::uint(env, u32::from(closed.code.as_u16())),
                js::text(env, &closed.reason),
                js::int(env, error.map_or(0, |error| error.kind() as i32)),
                js::int(env, error.map_or(0, Error::os_error)),
                js::text(env, error.map_or("", Error::detail)),
                js::uint(env, u32::from(closed.http_status)),
                js::double(env, closed.messages_dropped as f64),
            ]
        });
    }

    fn on_error(
        &mut self,
        context: &mut Context,
        server: ServerId,
        error: &Error,
        peer: Option<&PeerAddr>,
    ) {
        let peer = peer.map(ToString::to_string).unwrap_or_default();
        self.deliver(context);
        self.host.tell(context, Callback::Refused, None, |env| {
            [
                js::double(env, server.as_u64() as f64),
                js::int(env, error.kind() as i32),
                js::int(env, error.os_error()),
                js::text(env, error.detail()),
                js::text(env, &peer),
            ]
        });
    }

    fn on_stopped(&mut self, context: &mut Context, server: ServerId, _: Stopped) {
        self.deliver(context);
        self.host.tell(context, Callback::Stopped, None, |env| {
            [js::double(env, server.as_u64() as f64)]
        });
    }
}
