//! Servers: where they listen, what they accept, and the table of them.
//!
//! Does not know: what becomes of an accepted connection.

use core::time::Duration;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::Config;
use crate::error::{Error, ErrorKind, Result};
use crate::net::address::bind_addresses;
use crate::net::number::{ConnId, ServerId};
use crate::net::socket::{self, PeerAddr, Socket, fork_count};
use crate::protocol::handshake::server::ServerPolicy;
use crate::time::{Time, earliest};

/// How long a server waits after it could not accept for want of descriptors or memory.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Most addresses of one host that are listened on: the poller's tokens have eight bits for them.
const MAX_SOCKETS: usize = 256;
/// Connections accepted from one socket in one go, so that others get their turn.
pub(crate) const ACCEPT_BATCH: usize = 64;

/// Where a server listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ListenOn {
    /// A TCP port; 0 picks a free one.
    ///
    /// Without a host every address of the machine, IPv6 and IPv4. A host that is a name is
    /// resolved at once, which may block, and every address it has is listened on.
    Tcp {
        /// An address or a name.
        host: Option<String>,
        /// The port.
        port: u16,
    },
    /// A unix socket. A stale socket file is replaced; the file is removed when the server stops.
    Unix(PathBuf),
}

impl Default for ListenOn {
    fn default() -> Self {
        Self::Tcp {
            host: None,
            port: 0,
        }
    }
}

/// What a server is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerOptions {
    /// Where it listens.
    pub on: ListenOn,
    /// Most bytes that the server's connections may hold together: unfinished messages, and output
    /// that waits; `None` is no limit. Default `None`.
    ///
    /// Above it the connections with the largest unfinished messages are not read. After 5 s
    /// without relief the connection that holds most is failed with close code 1013, and then the
    /// next.
    pub max_buffered_bytes: Option<u64>,
    /// Limits and times of its connections.
    pub config: Config,
    /// Subprotocols and origins.
    pub policy: ServerPolicy,
    /// The length of the kernel's queue of connections to accept. Default 4,096.
    pub backlog: u32,
    /// Whether other sockets may listen on the same port, each with its share of the connections
    /// (`SO_REUSEPORT`). Default `false`.
    pub reuse_port: bool,
    /// The application's own number for all connections of this server, as
    /// [`Conn::tag`](crate::net::conn::Conn::tag) tells it. Default 0.
    pub tag: u32,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            on: ListenOn::default(),
            config: Config::default(),
            policy: ServerPolicy::default(),
            backlog: 4096,
            max_buffered_bytes: None,
            reuse_port: false,
            tag: 0,
        }
    }
}

impl ServerOptions {
    /// The defaults, listening on `host` and `port`.
    pub fn tcp(host: &str, port: u16) -> Self {
        Self {
            on: ListenOn::Tcp {
                host: Some(host.to_owned()),
                port,
            },
            ..Self::default()
        }
    }

    /// The defaults, listening on a unix socket.
    pub fn unix(path: impl Into<PathBuf>) -> Self {
        Self {
            on: ListenOn::Unix(path.into()),
            ..Self::default()
        }
    }
}

/// What became of a server's connections when it stopped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopped {
    /// Connections whose closing handshake completed.
    pub clean: u64,
    /// Connections that ended otherwise.
    pub forced: u64,
    /// Messages that were accepted for sending and not wholly written.
    pub messages_dropped: u64,
}

/// What a server's connections hold, and may.
#[derive(Debug)]
pub(crate) struct Budget {
    pub(crate) max: u64,
    pub(crate) held: u64,
    /// Connections that are not read.
    pub(crate) waiting: Vec<ConnId>,
    /// When a connection has to go, if nothing gets better.
    pub(crate) relief_at: Option<Time>,
}

impl Budget {
    pub(crate) const fn new(max: u64) -> Self {
        Self {
            max,
            held: 0,
            waiting: Vec::new(),
            relief_at: None,
        }
    }

    pub(crate) const fn deadline(&self) -> Option<Time> {
        self.relief_at
    }

    pub(crate) const fn is_over(&self) -> bool {
        self.held > self.max
    }
}

/// A server.
pub(crate) struct Server {
    pub(crate) id: ServerId,
    pub(crate) tag: u32,
    pub(crate) sockets: Vec<Socket>,
    pub(crate) config: Arc<Config>,
    pub(crate) policy: ServerPolicy,
    pub(crate) address: PeerAddr,
    pub(crate) stopped: Stopped,
    /// When connections that are left are ended; set while the server stops.
    pub(crate) stop_deadline: Option<Time>,
    /// When accepting goes on after descriptors ran out.
    pub(crate) accept_again: Option<Time>,
    /// The error with which accepting has failed and the application was told of, until everybody
    /// who waited has been accepted.
    pub(crate) short_of: Option<Option<i32>>,
    /// Connections that belong to it, whatever their stage.
    pub(crate) connections: usize,
    /// Opening handshakes whose request is being read.
    pub(crate) pending: u32,
    /// These in the order of their coming, among others that are not pending any more.
    pub(crate) pending_order: VecDeque<ConnId>,
    /// What its connections may hold together.
    pub(crate) budget: Option<Box<Budget>>,
    /// Whether its end has been announced.
    pub(crate) announced: bool,
    /// The socket file to remove, as it was when it was made.
    file: Option<(PathBuf, FileId)>,
    /// The process that listens: a child after a fork leaves the file alone.
    forks: u32,
}

impl Server {
    /// The oldest pending handshake, if there are as many as may be.
    pub(crate) fn crowded_out(
        &mut self,
        mut is_pending: impl FnMut(ConnId) -> bool,
    ) -> Option<ConnId> {
        if self.pending < self.config.max_pending_handshakes {
            return None;
        }
        while let Some(id) = self.pending_order.pop_front() {
            if is_pending(id) {
                return Some(id);
            }
        }
        None
    }

    /// Notes a handshake that has become pending.
    pub(crate) fn add_pending(&mut self, id: ConnId, is_pending: impl FnMut(ConnId) -> bool) {
        self.pending += 1;
        // Those that are no longer pending are cleared out when they are most of the list.
        if self.pending_order.len() > 2 * self.pending as usize + 64 {
            let mut is_pending = is_pending;
            self.pending_order.retain(|&id| is_pending(id));
        }
        self.pending_order.push_back(id);
    }

    /// Stops to listen.
    pub(crate) fn close_sockets(&mut self) {
        self.sockets.clear();
        self.accept_again = None;
        if let Some((path, made)) = self.file.take()
            && self.forks == fork_count()
            && file_id(&path) == Some(made)
        {
            // Gone in this moment: nothing to be done about it.
            let _ = std::fs::remove_file(path);
        }
    }

    /// When something is to be done about this server.
    pub(crate) fn deadline(&self) -> Option<Time> {
        let relief = self.budget.as_ref().and_then(|budget| budget.deadline());
        earliest(relief, earliest(self.stop_deadline, self.accept_again))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.close_sockets();
    }
}

/// All servers of a loop: few, so that walking them is cheap.
#[derive(Default)]
pub(crate) struct Servers {
    all: Vec<Server>,
    made: u64,
}

impl Servers {
    pub(crate) fn listen(&mut self, options: &ServerOptions) -> Result<ServerId> {
        options.config.validate()?;
        options.policy.validate()?;
        let backlog = i32::try_from(options.backlog).unwrap_or(i32::MAX);
        let (sockets, file) = match &options.on {
            ListenOn::Unix(path) => {
                let socket = socket::listen_unix(path, backlog).map_err(|error| {
                    Error::from_io(
                        ErrorKind::Listen,
                        format_args!("cannot listen on unix:{}", path.display()),
                        &error,
                    )
                })?;
                (vec![socket], file_id(path).map(|made| (path.clone(), made)))
            }
            ListenOn::Tcp { host, port } => (
                listen_tcp(host.as_deref(), *port, backlog, options.reuse_port)?,
                None,
            ),
        };
        let address = sockets
            .first()
            .and_then(Socket::local_addr)
            .unwrap_or(PeerAddr::Unix(None));
        self.made += 1;
        let Some(id) = ServerId::from_u64(self.made) else {
            return Err(Error::invalid("no server numbers are left"));
        };
        self.all.push(Server {
            id,
            tag: options.tag,
            sockets,
            config: Arc::new(options.config.clone()),
            policy: options.policy.clone(),
            address,
            stopped: Stopped::default(),
            stop_deadline: None,
            accept_again: None,
            short_of: None,
            connections: 0,
            pending: 0,
            pending_order: VecDeque::new(),
            budget: options
                .max_buffered_bytes
                .map(|max| Box::new(Budget::new(max))),
            announced: false,
            file,
            forks: fork_count(),
        });
        Ok(id)
    }

    pub(crate) fn get(&mut self, id: ServerId) -> Option<&mut Server> {
        self.all.iter_mut().find(|server| server.id == id)
    }

    pub(crate) fn peek(&self, id: ServerId) -> Option<&Server> {
        self.all.iter().find(|server| server.id == id)
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Server> {
        self.all.iter_mut()
    }

    pub(crate) fn remove(&mut self, id: ServerId) {
        self.all.retain(|server| server.id != id);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        self.all.iter().filter_map(Server::deadline).min()
    }

    pub(crate) fn pending(&self) -> u64 {
        self.all
            .iter()
            .map(|server| u64::from(server.pending))
            .sum()
    }
}

/// What tells a file from another that has taken its path: device and inode.
type FileId = (u64, u64);

fn file_id(path: &Path) -> Option<FileId> {
    let found = std::fs::symlink_metadata(path).ok()?;
    Some((found.dev(), found.ino()))
}

fn listen_tcp(
    host: Option<&str>,
    port: u16,
    backlog: i32,
    reuse_port: bool,
) -> Result<Vec<Socket>> {
    let mut sockets: Vec<Socket> = Vec::new();
    let mut port = port;
    for mut address in bind_addresses(host, port)?.into_iter().take(MAX_SOCKETS) {
        address.set_port(port);
        let socket = match socket::listen_tcp(address, backlog, reuse_port, host.is_none()) {
            // A machine without IPv6 still has every IPv4 address.
            Err(error) if host.is_none() && is_without_ipv6(&error) => {
                address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
                socket::listen_tcp(address, backlog, reuse_port, false)
            }
            other => other,
        };
        let socket = socket.map_err(|error| {
            Error::from_io(
                ErrorKind::Listen,
                format_args!("cannot listen on {address}"),
                &error,
            )
        })?;
        // A picked port is the same for every address of the host.
        if port == 0 {
            port = socket.local_addr().map_or(0, |address| address.port());
        }
        sockets.push(socket);
    }
    Ok(sockets)
}

fn is_without_ipv6(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported
    ) || error.raw_os_error() == Some(libc::EAFNOSUPPORT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_file_is_removed_only_if_it_is_still_ours() {
        let folder = std::env::temp_dir().join(format!("wsabi-listener-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        for taken_over in [false, true] {
            let path = folder.join(format!("socket-{taken_over}"));
            let mut servers = Servers::default();
            let id = servers.listen(&ServerOptions::unix(&path)).unwrap();
            if taken_over {
                // Beside the socket first, so that the file cannot get its inode.
                std::fs::write(folder.join("other"), b"another's").unwrap();
                std::fs::rename(folder.join("other"), &path).unwrap();
            }
            servers.remove(id);
            assert_eq!(path.exists(), taken_over);
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
