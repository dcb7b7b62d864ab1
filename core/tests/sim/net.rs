//! The loop as it is, room by room, but for the three that speak to the machine: sockets, poller and
//! random source are the simulated kernel's.
//!
//! Does not know: anything; it only says where the rooms are.

#[path = "../../src/net/address.rs"]
pub(crate) mod address;
#[path = "../../src/net/broadcast.rs"]
pub mod broadcast;
#[path = "../../src/net/budget.rs"]
mod budget;
#[path = "../../src/net/commands.rs"]
pub mod commands;
#[path = "../../src/net/conn.rs"]
pub mod conn;
#[path = "../../src/net/connector.rs"]
pub mod connector;
#[path = "../../src/net/context.rs"]
pub mod context;
#[path = "../../src/net/dialing.rs"]
mod dialing;
#[path = "../../src/net/handle.rs"]
pub mod handle;
#[path = "../../src/net/handler.rs"]
pub mod handler;
#[path = "../../src/net/lifecycle.rs"]
mod lifecycle;
#[path = "../../src/net/listener.rs"]
pub mod listener;
#[path = "../../src/net/loop.rs"]
pub mod r#loop;
#[path = "../../src/net/number.rs"]
pub mod number;
#[path = "../../src/net/output.rs"]
pub(crate) mod output;
#[path = "poller.rs"]
pub(crate) mod poller;
#[path = "random.rs"]
pub(crate) mod random;
#[path = "../../src/net/reading.rs"]
mod reading;
#[path = "../../src/net/resolver.rs"]
pub(crate) mod resolver;
#[path = "../../src/net/serving.rs"]
mod serving;
#[path = "../../src/net/slot.rs"]
pub mod slot;
#[path = "socket.rs"]
pub mod socket;
#[path = "../../src/net/sys.rs"]
pub(crate) mod sys;
#[path = "../../src/net/socket.rs"]
mod system_socket;
#[path = "../../src/net/timers.rs"]
pub(crate) mod timers;
#[path = "../../src/net/writing.rs"]
pub mod writing;
