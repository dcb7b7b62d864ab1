//! The loop: sockets, timers and names beneath, connections as numbers in the middle, the
//! application's callbacks above.
//!
//! Does not know: the rules of RFC 6455; they are in [`protocol`](crate::protocol).

pub(crate) mod address;
pub mod broadcast;
mod budget;
pub mod commands;
pub mod conn;
pub mod connector;
pub mod context;
mod dialing;
pub mod handle;
pub mod handler;
mod lifecycle;
pub mod listener;
pub mod r#loop;
pub mod number;
pub(crate) mod output;
pub(crate) mod poller;
pub(crate) mod random;
mod reading;
pub(crate) mod resolver;
mod serving;
pub mod slot;
pub mod socket;
#[cfg(wsabi_faults)]
pub mod sys;
#[cfg(not(wsabi_faults))]
pub(crate) mod sys;
pub(crate) mod timers;
pub mod writing;
