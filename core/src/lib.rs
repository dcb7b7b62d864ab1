//! WebSocket (RFC 6455) for clients and servers: a protocol without input or output, and an event
//! loop with one file descriptor that any program can embed.
//!
//! # A server
//!
//! An application is a [`Handler`]; a [`Loop`] calls it. This echo server, on a port the system
//! picks, talks with a client on the same loop:
//!
//! ```
//! use wsabi::{ClientOptions, Closed, Conn, Handler, Handshake, Loop, Message, ServerOptions};
//!
//! struct Echo {
//!     heard: Vec<String>,
//! }
//!
//! impl Handler for Echo {
//!     fn on_open(&mut self, conn: &mut Conn<'_>, _: Handshake<'_>) {
//!         if conn.server().is_none() {
//!             conn.send_text("hello").expect("the connection is open");
//!         }
//!     }
//!
//!     fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
//!         if conn.server().is_some() {
//!             // At the server: send it back.
//!             let _ = conn.send(message.message_type(), message.as_bytes());
//!         } else {
//!             // At the client: that was the echo.
//!             self.heard.extend(message.text().map(str::to_owned));
//!             let _ = conn.close(Some(1000), "thanks");
//!         }
//!     }
//!
//!     fn on_close(&mut self, conn: &mut Conn<'_>, closed: &Closed) {
//!         assert!(closed.is_clean());
//!         if let Some(server) = conn.server() {
//!             let _ = conn.context().stop_server(server, std::time::Duration::from_secs(1));
//!         }
//!     }
//! }
//!
//! fn main() -> wsabi::Result<()> {
//!     let mut echo = Echo { heard: Vec::new() };
//!     let mut event_loop = Loop::new()?;
//!     let server = event_loop.listen(&ServerOptions::tcp("127.0.0.1", 0))?;
//!     let url = format!("ws://{}/", event_loop.server_addr(server)?);
//!     event_loop.connect(&url, &ClientOptions::default())?;
//!     event_loop.run(&mut echo)?; // until nothing is left
//!     assert_eq!(echo.heard, ["hello"]);
//!     Ok(())
//! }
//! ```
//!
//! # In another event loop
//!
//! [`Loop::fd`] is readable exactly when [`Loop::dispatch`] has work, timers included. Watch it,
//! level-triggered, with whatever loop the program has:
//!
//! ```no_run
//! # use wsabi::{Handler, Loop};
//! # struct App; impl Handler for App {}
//! # fn watch(fd: i32, readable: impl FnMut()) {}
//! # fn main() -> wsabi::Result<()> {
//! let mut app = App;
//! let mut event_loop = Loop::new()?;
//! let fd = event_loop.fd().expect("Linux has one");
//! watch(fd, move || {
//!     event_loop.dispatch(&mut app).expect("the loop works");
//! });
//! # Ok(()) }
//! ```
//!
//! # Without a loop
//!
//! [`protocol`] is WebSocket alone: bytes in, events and bytes out, with time and randomness as
//! arguments. See [`Connection`](protocol::connection::Connection).
//!
//! # Limits
//!
//! Everything that one connection's peer can make grow has a limit: see [`Config`] for them and
//! their defaults.
//!
//! Does not know: any language but Rust; the C ABI and the bindings stand on this crate.

pub mod config;
pub mod error;
pub mod event;
pub mod net;
pub mod protocol;
pub mod time;

pub use crate::config::{Compress, Config, DeflateOptions, OriginPolicy};
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::event::{Chunk, CloseFrame, Message, MessageType, Role};
pub use crate::net::broadcast::Reached;
pub use crate::net::commands::DEFAULT_GRACE;
pub use crate::net::conn::{Conn, State};
pub use crate::net::connector::ClientOptions;
pub use crate::net::context::{Context, LogLevel, LogSink, Stats};
pub use crate::net::handle::Handle;
pub use crate::net::handler::{Answer, Handler, Handshake, Reply};
pub use crate::net::listener::{ListenOn, ServerOptions, Stopped};
pub use crate::net::r#loop::{Loop, LoopOptions};
pub use crate::net::number::{ConnId, ServerId};
pub use crate::net::socket::PeerAddr;
pub use crate::net::writing::Sent;
pub use crate::protocol::close_code::CloseCode;
pub use crate::protocol::connection::Closed;
pub use crate::protocol::extension::Agreed;
pub use crate::protocol::handshake::client::RequestOptions;
pub use crate::protocol::handshake::response::Response;
pub use crate::protocol::handshake::server::{Accept, ServerPolicy, SubprotocolChoice};
pub use crate::protocol::head::{Request, ResponseHead};
pub use crate::protocol::prepared::Prepared;
pub use bytes::Bytes;

/// The version of this crate, such as `0.1.0`.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
