//! The commands to a loop: servers, clients, and the way to a connection.
//!
//! Does not know: callbacks, other threads, or how anything is read.

use std::sync::Arc;
use std::time::Duration;

use crate::error::{Error, ErrorKind, Result};
use crate::net::conn::Conn;
use crate::net::connector::ClientOptions;
use crate::net::context::{Context, LogLevel, Stats};
use crate::net::listener::ServerOptions;
use crate::net::number::ConnId;
use crate::net::number::ServerId;
use crate::net::poller::Interest;
use crate::net::serving::{listener_token, server_closed};
use crate::net::slot::{Opening, Pending, Stage};
use crate::net::socket::PeerAddr;

/// The time a server's connections have to close when none is given.
pub const DEFAULT_GRACE: Duration = Duration::from_secs(10);

impl Context {
    /// Starts a server.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for options that make no sense, [`ErrorKind::Resolve`] and
    /// [`ErrorKind::Listen`], which name the address.
    pub fn listen(&mut self, options: &ServerOptions) -> Result<ServerId> {
        self.check_alive()?;
        let id = self.servers.listen(options)?;
        let Some(server) = self.servers.get(id) else {
            return Err(server_closed());
        };
        for (number, socket) in server.sockets.iter().enumerate() {
            if let Err(error) =
                self.poller
                    .add(socket.fd(), listener_token(id, number), Interest::READ)
            {
                self.servers.remove(id);
                return Err(Error::from_io(
                    ErrorKind::Listen,
                    "cannot watch the listening socket",
                    &error,
                ));
            }
        }
        let address = server.address.clone();
        self.log(LogLevel::Info, || format!("listening on {address}"));
        Ok(id)
    }

    /// The address of a server; the first, if its host has several.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if it has stopped.
    pub fn server_addr(&self, server: ServerId) -> Result<&PeerAddr> {
        self.servers
            .peek(server)
            .map(|server| &server.address)
            .ok_or_else(server_closed)
    }

    /// Stops a server: it accepts no more, closes its connections with code 1001, and ends those
    /// that are left after `grace`. `on_stopped` is its last callback.
    ///
    /// # Errors
    /// [`ErrorKind::Closed`] if it has stopped, [`ErrorKind::State`] if it is stopping.
    pub fn stop_server(&mut self, server: ServerId, grace: Duration) -> Result<()> {
        self.check_fork()?;
        self.refresh_now();
        self.begin_stop(server, Some(self.now.after(grace)))?;
        self.settle();
        Ok(())
    }

    /// Lets a server accept no more, while its connections go on for as long as they want; requests
    /// that wait are refused with 503. `on_stopped` is its last callback, once nothing belongs to it.
    ///
    /// # Errors
    /// As [`stop_server`](Self::stop_server), which may follow.
    pub fn close_server(&mut self, server: ServerId) -> Result<()> {
        self.check_fork()?;
        self.refresh_now();
        self.begin_stop(server, None)?;
        self.settle();
        Ok(())
    }

    /// Starts to connect to `url`, such as `ws://example.com/chat`. Exactly one `on_close` follows,
    /// whether or not the connection opens before.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a URL or options that make no sense, [`ErrorKind::Unsupported`]
    /// for `wss`. Everything else is told by `on_close`.
    pub fn connect(&mut self, url: &str, options: &ClientOptions) -> Result<ConnId> {
        self.check_alive()?;
        let target = options.target(url)?;
        self.refresh_now();
        let deadline = self.now.after(options.config.handshake_timeout);
        let request = Some(Box::new((target, options.request.clone())));
        let pending = Pending {
            opening: Opening::Resolving,
            deadline,
            request,
        };
        let stage = Stage::Opening(Box::new(pending));
        let Some(id) = self.slots.insert(Arc::new(options.config.clone()), stage) else {
            return Err(Error::new(
                ErrorKind::NoMemory,
                "no memory for one more connection",
            ));
        };
        let slot = self.slots.at(id.index());
        slot.user = options.user;
        slot.tag = options.tag;
        self.arm(id);
        match &options.unix_path {
            Some(path) => self.connect_unix(id, path),
            None => self.resolve_and_connect(id),
        }
        self.settle();
        Ok(id)
    }

    /// The connection with this number, for commands. A stale number is fine: the commands answer
    /// [`ErrorKind::Closed`].
    #[inline]
    pub const fn conn(&mut self, id: ConnId) -> Conn<'_> {
        Conn { context: self, id }
    }

    /// Writes everything that waits, as far as the kernel takes it.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`].
    pub fn flush_all(&mut self) -> Result<()> {
        self.check_fork()?;
        self.refresh_now();
        self.flush_dirty();
        self.settle();
        Ok(())
    }

    /// Lets sends outside of a dispatch wait for [`flush_all`](Self::flush_all) or the next
    /// dispatch, instead of writing each at once. For hosts that send many and know when they are
    /// done.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`].
    pub fn defer_writes(&mut self, on: bool) -> Result<()> {
        self.check_fork()?;
        self.deferring = on;
        self.settle();
        Ok(())
    }

    /// Counts and amounts.
    pub fn stats(&self) -> Stats {
        Stats {
            pending_handshakes: self.servers.pending(),
            buffered_bytes: self.outputs.buffered(),
            ..self.stats
        }
    }

    /// Bytes handed to the kernel, as [`stats`](Self::stats) tells them among others.
    #[inline]
    pub const fn bytes_sent(&self) -> u64 {
        self.stats.bytes_sent
    }

    /// Whether there is neither a server nor a connection, nor anything to be told.
    pub fn is_idle(&self) -> bool {
        self.servers.is_empty() && self.slots.is_empty() && self.notices.is_empty()
    }
}
