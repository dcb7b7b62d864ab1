//! WebSocket without input or output: bytes go in, events and bytes come out.
//!
//! Does not know: sockets, clocks, threads, or a random source of its own; time and randomness
//! are arguments.

pub(crate) mod close_code;
pub mod connection;
pub mod deflate;
pub mod extension;
pub(crate) mod frame;
pub mod handshake;
pub mod head;
pub mod mask;
pub mod message;
pub mod prepared;
pub mod receive;
pub mod send;
pub(crate) mod utf8;
