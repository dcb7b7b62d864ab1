//! Commands from other threads: a queue with a limit in bytes, worked off by the loop.
//!
//! Does not know: what the commands do.

use core::time::Duration;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::config::Compress;
use crate::error::{Error, ErrorKind, Result};
use crate::event::MessageType;
use crate::net::context::{Context, forked};
use crate::net::number::ConnId;
use crate::net::number::ServerId;
use crate::net::poller::Waker;
use crate::net::socket::fork_count;
use crate::protocol::handshake::response::Response;
use crate::protocol::handshake::server::Accept;
use crate::protocol::prepared::Prepared;
use crate::protocol::send::check_close;
use crate::protocol::utf8::check;

/// A call to be made on the loop's thread.
pub type Call = Box<dyn FnOnce(&mut Context) + Send>;

/// Bytes every command counts for, besides its payload: about what it costs to keep.
const COMMAND_BYTES: u64 = 128;

pub(crate) enum Command {
    Send {
        id: ConnId,
        message_type: MessageType,
        payload: Bytes,
        compress: Compress,
    },
    Prepared {
        id: ConnId,
        message: Prepared,
    },
    Broadcast {
        server: ServerId,
        message: Prepared,
        except: Option<ConnId>,
    },
    Fragment {
        id: ConnId,
        message_type: MessageType,
        payload: Box<[u8]>,
        fin: bool,
        compress: Compress,
    },
    Ping {
        id: ConnId,
        payload: Box<[u8]>,
    },
    Pong {
        id: ConnId,
        payload: Box<[u8]>,
    },
    Close {
        id: ConnId,
        code: Option<u16>,
        reason: Box<str>,
    },
    Terminate(ConnId),
    Accept {
        id: ConnId,
        accept: Box<Accept>,
    },
    Respond {
        id: ConnId,
        response: Box<Response>,
    },
    StopServer {
        server: ServerId,
        grace: Duration,
    },
    Post(Call),
}

#[derive(Default)]
struct Queue {
    commands: VecDeque<(u64, Command)>,
    bytes: u64,
    closed: bool,
    stop: bool,
}

/// The queue between other threads and a loop.
pub(crate) struct Inbox {
    queue: Mutex<Queue>,
    max_bytes: u64,
    waker: Waker,
    forks: u32,
}

impl Inbox {
    pub(crate) fn new(max_bytes: u64, waker: Waker) -> Self {
        Self {
            queue: Mutex::default(),
            max_bytes,
            waker,
            forks: fork_count(),
        }
    }

    /// Refuses calls in the child of a fork, whose queue nobody works off, and whose waker would
    /// wake the parent.
    fn check_fork(&self) -> Result<()> {
        if self.forks == fork_count() {
            Ok(())
        } else {
            Err(forked())
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No code that can panic runs under the lock, so it cannot be poisoned; if it were, the
        // queue would still be whole.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, payload: usize, command: Command) -> Result<()> {
        self.check_fork()?;
        let bytes = payload as u64 + COMMAND_BYTES;
        let mut queue = self.lock();
        if queue.closed {
            return Err(Error::new(ErrorKind::Closed, "the loop is gone"));
        }
        if queue.bytes >= self.max_bytes {
            return Err(Error::new(
                ErrorKind::Full,
                format!(
                    "commands from other threads hold {} bytes; the limit, max_inbox_bytes, is {}",
                    queue.bytes, self.max_bytes
                ),
            ));
        }
        queue.bytes += bytes;
        queue.commands.push_back((bytes, command));
        let first = queue.commands.len() == 1;
        drop(queue);
        if first {
            self.waker.wake();
        }
        Ok(())
    }

    /// All that has come so far.
    pub(crate) fn take(&self) -> VecDeque<(u64, Command)> {
        let mut queue = self.lock();
        queue.bytes = 0;
        std::mem::take(&mut queue.commands)
    }

    /// Whether nothing waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.lock().commands.is_empty()
    }

    /// Whether the loop was told to stop, which is forgotten by this.
    pub(crate) fn take_stop(&self) -> bool {
        std::mem::take(&mut self.lock().stop)
    }

    /// Takes no more commands; those that wait are dropped.
    pub(crate) fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        let dropped = std::mem::take(&mut queue.commands);
        drop(queue);
        drop(dropped);
    }
}

/// Commands a loop from any thread.
///
/// Commands of one thread are carried out in its order. A command is accepted while those that
/// wait are within the limit; what its connection answers is not told: a stale number or a full
/// backlog drops it, and the log says so.
#[derive(Clone)]
pub struct Handle(Arc<Inbox>);

impl Handle {
    pub(crate) const fn new(inbox: Arc<Inbox>) -> Self {
        Self(inbox)
    }

    /// Sends a message.
    ///
    /// # Errors
    /// [`ErrorKind::Full`], [`ErrorKind::Closed`] if the loop is gone, [`ErrorKind::Invalid`] for
    /// text that is not UTF-8.
    pub fn send(&self, id: ConnId, message_type: MessageType, payload: &[u8]) -> Result<()> {
        self.send_owned(
            id,
            message_type,
            Bytes::copy_from_slice(payload),
            Compress::Auto,
        )
    }

    /// Sends a message whose payload is kept until it is written, as
    /// [`Conn::send_owned`](crate::Conn::send_owned) does.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_owned(
        &self,
        id: ConnId,
        message_type: MessageType,
        payload: Bytes,
        compress: Compress,
    ) -> Result<()> {
        if message_type == MessageType::Text && check(&payload).is_err() {
            return Err(Error::invalid("the text is not UTF-8"));
        }
        self.0.push(
            payload.len(),
            Command::Send {
                id,
                message_type,
                payload,
                compress,
            },
        )
    }

    /// Sends a message that others get too.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_prepared(&self, id: ConnId, message: &Prepared) -> Result<()> {
        let message = message.clone();
        self.0
            .push(message.payload().len(), Command::Prepared { id, message })
    }

    /// Sends a message to all open connections of a server, but for one.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn broadcast_server(
        &self,
        server: ServerId,
        message: &Prepared,
        except: Option<ConnId>,
    ) -> Result<()> {
        let message = message.clone();
        self.0.push(
            message.payload().len(),
            Command::Broadcast {
                server,
                message,
                except,
            },
        )
    }

    /// Sends a fragment of a message. Whether text is UTF-8 is checked by the loop.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_fragment(
        &self,
        id: ConnId,
        message_type: MessageType,
        payload: &[u8],
        fin: bool,
    ) -> Result<()> {
        self.send_fragment_with(id, message_type, payload, fin, Compress::Auto)
    }

    /// As [`send_fragment`](Self::send_fragment), and says with a message's first fragment whether
    /// it is compressed where that was agreed on.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_fragment_with(
        &self,
        id: ConnId,
        message_type: MessageType,
        payload: &[u8],
        fin: bool,
        compress: Compress,
    ) -> Result<()> {
        self.0.push(
            payload.len(),
            Command::Fragment {
                id,
                message_type,
                payload: Box::from(payload),
                fin,
                compress,
            },
        )
    }

    /// Sends a ping.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ErrorKind::Invalid`] above 125 bytes.
    pub fn ping(&self, id: ConnId, payload: &[u8]) -> Result<()> {
        check_control(payload)?;
        self.0.push(
            payload.len(),
            Command::Ping {
                id,
                payload: Box::from(payload),
            },
        )
    }

    /// Sends an unsolicited pong.
    ///
    /// # Errors
    /// As [`ping`](Self::ping).
    pub fn pong(&self, id: ConnId, payload: &[u8]) -> Result<()> {
        check_control(payload)?;
        self.0.push(
            payload.len(),
            Command::Pong {
                id,
                payload: Box::from(payload),
            },
        )
    }

    /// Starts the closing handshake.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for a code or reason that cannot be sent, else as
    /// [`send`](Self::send).
    pub fn close(&self, id: ConnId, code: Option<u16>, reason: &str) -> Result<()> {
        check_close(code, reason)?;
        self.0.push(
            reason.len(),
            Command::Close {
                id,
                code,
                reason: Box::from(reason),
            },
        )
    }

    /// Ends a connection at once.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn terminate(&self, id: ConnId) -> Result<()> {
        self.0.push(0, Command::Terminate(id))
    }

    /// Accepts a request that was to be answered later.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn accept(&self, id: ConnId, accept: Accept) -> Result<()> {
        self.0.push(
            0,
            Command::Accept {
                id,
                accept: Box::new(accept),
            },
        )
    }

    /// Answers a request with an HTTP response.
    ///
    /// # Errors
    /// As [`send`](Self::send), and [`ErrorKind::Invalid`] for a response that cannot be sent.
    pub fn respond(&self, id: ConnId, response: Response) -> Result<()> {
        response.validate()?;
        self.0.push(
            response.body.len(),
            Command::Respond {
                id,
                response: Box::new(response),
            },
        )
    }

    /// Stops a server.
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn stop_server(&self, server: ServerId, grace: Duration) -> Result<()> {
        self.0.push(0, Command::StopServer { server, grace })
    }

    /// Makes a call on the loop's thread.
    ///
    /// # Errors
    /// As [`send`](Self::send); the call is dropped.
    pub fn post(&self, call: impl FnOnce(&mut Context) + Send + 'static) -> Result<()> {
        self.0.push(0, Command::Post(Box::new(call)))
    }

    /// Makes [`Loop::run`](crate::Loop::run) return after the dispatch that is under
    /// way, or at once when it is called next.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`].
    pub fn stop(&self) -> Result<()> {
        self.0.check_fork()?;
        self.0.lock().stop = true;
        self.0.waker.wake();
        Ok(())
    }

    /// Makes the loop's fd readable, and ends a wait.
    ///
    /// # Errors
    /// [`ErrorKind::Forked`].
    pub fn wake(&self) -> Result<()> {
        self.0.check_fork()?;
        self.0.waker.wake();
        Ok(())
    }
}

fn check_control(payload: &[u8]) -> Result<()> {
    if payload.len() > crate::protocol::frame::MAX_CONTROL {
        return Err(Error::invalid(format!(
            "the payload of a ping or pong has {} bytes; expected at most 125",
            payload.len()
        )));
    }
    Ok(())
}
