//! A simulator: whole connections, clients and servers of the library and raw peers, in one thread, on
//! a kernel and a clock that are simulated, with every fault that a seed brings about, and a model that
//! says what has to hold. The same seed is the same run.
//!
//! The sources of the crate are compiled in here as they are, but for sockets, poller and random
//! source, in whose place `sim/` has its own: what is simulated is the kernel, not the loop.
//!
//!     cargo test -p wsabi --test sim -- [--seeds N] [--from S] [--seconds T] [--threads T]
//!     cargo test -p wsabi --test sim -- --seed X --trace
//!
//! Does not know: real sockets, clocks, or threads inside a run.

#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test, and half of the crate's interface is not called from here"
)]

// What the property tests' model calls the library by is here this crate.
extern crate self as wsabi;

#[path = "../src/config.rs"]
pub mod config;
#[path = "../src/error.rs"]
pub mod error;
#[path = "../src/event.rs"]
pub mod event;
#[path = "sim/net.rs"]
pub mod net;
#[path = "../src/protocol/mod.rs"]
pub mod protocol;
#[path = "../src/time.rs"]
pub mod time;

pub use crate::config::Config;
pub use crate::error::{Error, ErrorKind, Result};
pub use crate::event::{Message, MessageType, Role};
pub use crate::net::r#loop::Loop;

#[path = "sim/app.rs"]
mod app;
#[path = "sim/broken.rs"]
mod broken;
#[path = "sim/chance.rs"]
mod chance;
#[path = "sim/commands.rs"]
mod commands;
#[path = "sim/hostile.rs"]
mod hostile;
#[path = "sim/judge.rs"]
mod judge;
#[path = "sim/kernel.rs"]
mod kernel;
#[path = "sim/memory.rs"]
mod memory;
#[path = "splits/model.rs"]
mod model;
#[path = "sim/oracle.rs"]
mod oracle;
#[path = "sim/pipe.rs"]
mod pipe;
#[path = "sim/plant.rs"]
mod plant;
#[path = "sim/runner.rs"]
mod runner;
#[path = "sim/setup.rs"]
mod setup;
#[path = "sim/watching.rs"]
mod watching;
#[path = "sim/wire.rs"]
mod wire;
#[path = "sim/world.rs"]
mod world;

#[global_allocator]
static LEDGER: memory::Ledger = memory::Ledger;

fn main() -> std::process::ExitCode {
    runner::main()
}
