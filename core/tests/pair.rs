//! Two connections, a client and a server, on a virtual clock: everything that has to do with
//! time. Keeping alive, idling, the closing handshake, failing the connection.
//!
//! Does not know: sockets, or the loop; `pair/world.rs` has the transport between the two.

#![allow(clippy::unwrap_used, clippy::panic, reason = "these are tests")]

#[path = "pair/closing.rs"]
mod closing;
#[path = "pair/keepalive.rs"]
mod keepalive;
#[path = "pair/storm.rs"]
mod storm;
#[path = "pair/world.rs"]
mod world;
