//! Clients: what they ask for, and how they come from a URL to a socket.
//!
//! Does not know: what becomes of a connected socket.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::net::address::{Host, Target};
use crate::net::number::ConnId;
use crate::net::poller::Waker;
use crate::net::resolver::Resolver;
use crate::protocol::handshake::client::RequestOptions;

/// What a client is made of, besides the URL.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientOptions {
    /// Limits and times of the connection.
    pub config: Config,
    /// Subprotocols, Origin and additional headers.
    pub request: RequestOptions,
    /// A unix socket to connect to instead of the URL's host, which still gives the Host header.
    pub unix_path: Option<PathBuf>,
    /// The application's own number for the connection, as
    /// [`Conn::user`](crate::net::conn::Conn::user) tells it.
    pub user: u64,
    /// The application's own number for connections of one kind, as
    /// [`Conn::tag`](crate::net::conn::Conn::tag) tells it.
    pub tag: u32,
}

impl ClientOptions {
    /// Checks the options and reads the URL.
    pub(crate) fn target(&self, url: &str) -> Result<Target> {
        self.config.validate()?;
        self.request.validate()?;
        let target = Target::parse(url)?;
        if target.secure {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!(
                    "cannot connect to {url:?}: wss:// needs TLS, which this version of wsabi does not have"
                ),
            ));
        }
        Ok(target)
    }
}

/// The addresses of a resolved name, and whose question it was.
pub(crate) type Resolution = (ConnId, io::Result<Vec<SocketAddr>>);

/// Resolves names and keeps the answers until the loop takes them.
pub(crate) struct Connector {
    resolver: Resolver,
    answers: Arc<Mutex<Vec<Resolution>>>,
    waker: Waker,
}

impl Connector {
    pub(crate) fn new(waker: Waker) -> Self {
        Self {
            resolver: Resolver::new(),
            answers: Arc::default(),
            waker,
        }
    }

    /// The addresses of a host that is one; else starts to resolve its name for `id`.
    pub(crate) fn resolve(&self, id: ConnId, target: &Target) -> Option<VecDeque<SocketAddr>> {
        match &target.host {
            Host::Ip(address) => Some(VecDeque::from([SocketAddr::new(*address, target.port)])),
            Host::Name(name) => {
                let (answers, waker) = (Arc::clone(&self.answers), self.waker.clone());
                let done = move |answer| {
                    answers
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push((id, answer));
                    waker.wake();
                };
                self.resolver
                    .resolve(name.clone(), target.port, Box::new(done));
                None
            }
        }
    }

    /// The answers that have come.
    pub(crate) fn take_answers(&self) -> Vec<Resolution> {
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }
}
