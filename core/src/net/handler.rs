//! What an application is told, and what it may answer.
//!
//! Does not know: how anything comes about.

use crate::error::Error;
use crate::event::{Chunk, CloseFrame, Message};
use crate::net::conn::Conn;
use crate::net::context::Context;
use crate::net::listener::Stopped;
use crate::net::number::ServerId;
use crate::net::socket::PeerAddr;
use crate::protocol::connection::Closed;
use crate::protocol::handshake::response::Response;
use crate::protocol::handshake::server::Accept;
use crate::protocol::head::{Headers, Request, ResponseHead};

/// How a request for a WebSocket is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// By accepting it.
    Accept(Accept),
    /// By an HTTP response.
    Refuse(Response),
    /// Later, by [`Conn::accept`] or [`Conn::respond`], within the hold timeout. Also the answer of
    /// a handler that has called one of them already.
    Later,
}

impl Answer {
    /// Accepts with the server's own choice of subprotocol and no additional headers.
    pub fn accept() -> Self {
        Self::Accept(Accept::default())
    }

    /// Refuses with a status and a line of text.
    pub fn refuse(status: u16, text: &str) -> Self {
        Self::Refuse(Response::text(status, text))
    }
}

/// The peer's part of an opening handshake.
#[derive(Clone, Copy, Debug)]
pub enum Handshake<'a> {
    /// What the client asked, at a server.
    Request(&'a Request<'a>),
    /// What the server answered, at a client.
    Response(&'a ResponseHead<'a>),
}

impl<'a> Handshake<'a> {
    /// The header fields.
    pub const fn headers(&self) -> &'a Headers<'a> {
        match self {
            Self::Request(request) => &request.headers,
            Self::Response(response) => &response.headers,
        }
    }

    /// The request, at a server.
    pub const fn request(&self) -> Option<&'a Request<'a>> {
        match self {
            Self::Request(request) => Some(request),
            Self::Response(_) => None,
        }
    }
}

/// What wsabi is about to send by itself, because of what a peer has sent.
#[derive(Clone, Copy, Debug)]
pub enum Reply<'a> {
    /// The pong that answers a ping.
    Pong,
    /// The Close frame that answers this one of the peer's.
    Close(&'a CloseFrame<'a>),
    /// The Close frame that fails the connection, for this error.
    Fail(&'a Error),
}

/// What an application does with what it is told. Every method has a default that does nothing
/// remarkable.
///
/// All are called on the loop's thread, inside a dispatch. What is borrowed lives until the method
/// returns. A method may give any command to any connection, to the one that is calling it too.
#[allow(
    unused_variables,
    reason = "the names of the parameters document what the defaults ignore"
)]
pub trait Handler {
    /// A client asks a server for a WebSocket, with a request that is valid and allowed by the
    /// Origin policy. The default accepts.
    fn on_upgrade(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Answer {
        Answer::accept()
    }

    /// A client asks a server for something else than a WebSocket. `None` answers later, by
    /// [`Conn::respond`]. The default refuses with status 426.
    fn on_http(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Option<Response> {
        Some(Response::upgrade_required(
            "this server speaks WebSocket only",
        ))
    }

    /// A server is about to refuse a request for a WebSocket that is not valid, or whose Origin it
    /// does not allow. Tells whether it shall; if not, the application answers by
    /// [`Conn::respond`], and hears no [`on_error`](Self::on_error). The default lets it refuse.
    fn on_refusal(&mut self, conn: &mut Conn<'_>, request: &Request<'_>, error: &Error) -> bool {
        true
    }

    /// A connection is open.
    fn on_open(&mut self, conn: &mut Conn<'_>, handshake: Handshake<'_>) {}

    /// A message has arrived.
    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {}

    /// A part of a message has come, with
    /// [`Config::stream_messages`](crate::Config::stream_messages); [`on_message`](Self::on_message)
    /// is not called then.
    fn on_chunk(&mut self, conn: &mut Conn<'_>, chunk: Chunk<'_>) {}

    /// After backpressure, or a send that was refused as full, the backlog has fallen to low water.
    fn on_drain(&mut self, conn: &mut Conn<'_>) {}

    /// A ping has arrived, and is answered.
    fn on_ping(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {}

    /// A pong has arrived; keepalive's own have the payload
    /// [`KEEPALIVE_PAYLOAD`](crate::protocol::connection::KEEPALIVE_PAYLOAD).
    fn on_pong(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {}

    /// wsabi is about to answer what the peer has sent, after everything that came before it was
    /// given; what is sent in here goes out before the answer. Tells whether wsabi shall answer,
    /// which only a pong can be spared. For hosts that gather messages and hand them over together.
    /// The default lets it answer.
    fn on_reply(&mut self, conn: &mut Conn<'_>, reply: Reply<'_>) -> bool {
        true
    }

    /// All that this dispatch has to give was given, and what was sent is written next. For hosts
    /// that gather messages and hand them over together.
    fn on_given(&mut self, context: &mut Context) {}

    /// The kernel has taken something of a backlog; [`Conn::buffered`] tells what is left.
    fn on_written(&mut self, conn: &mut Conn<'_>) {}

    /// A connection has ended: the last call with it. Comes once for everything that was opened,
    /// and once for every [`connect`](Context::connect), opened or not.
    fn on_close(&mut self, conn: &mut Conn<'_>, closed: &Closed) {}

    /// An opening handshake has failed, or a connection could not be accepted.
    fn on_error(
        &mut self,
        context: &mut Context,
        server: ServerId,
        error: &Error,
        peer: Option<&PeerAddr>,
    ) {
    }

    /// A server that was told to stop has no connections left: the last call with it.
    fn on_stopped(&mut self, context: &mut Context, server: ServerId, counts: Stopped) {}
}
