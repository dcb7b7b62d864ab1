//! The C ABI as a sequence of calls: two loops of one thread, servers and clients between them over
//! unix sockets, calls from callbacks, stale numbers, null pointers, structs of wrong sizes, loops
//! freed in their own callbacks.
//!
//! Every status is a known one and no defect; what is refused writes nothing; messages arrive in
//! order and whole; each connection and server has its one last callback; no descriptor is left.
//!
//! Does not know: the crate `wsabi`; everything goes through the exported functions.

#![no_main]
#![allow(non_camel_case_types, reason = "the library's types have C's names")]
#![allow(
    dead_code,
    unreachable_pub,
    reason = "the library exports what is not called here"
)]

// The library's own files in a crate of this one: as a dependency they would be private.
#[path = "../../ffi/src/conn.rs"]
mod conn;
#[path = "../../ffi/src/driver.rs"]
mod driver;
#[path = "../../ffi/src/handshake.rs"]
mod handshake;
#[path = "../../ffi/src/host.rs"]
mod host;
#[path = "../../ffi/src/library.rs"]
mod library;
#[path = "../../ffi/src/loop.rs"]
mod r#loop;
#[path = "../../ffi/src/messages.rs"]
mod messages;
#[path = "../../ffi/src/options.rs"]
mod options;
#[path = "../../ffi/src/payload.rs"]
mod payload;
#[path = "../../ffi/src/prepared.rs"]
mod prepared;
#[path = "../../ffi/src/send.rs"]
mod send;
#[path = "../../ffi/src/server.rs"]
mod server;
#[path = "../../ffi/src/status.rs"]
mod status;
#[path = "../../ffi/src/types.rs"]
mod types;

#[path = "../c_abi/callbacks.rs"]
mod callbacks;
#[path = "../c_abi/calls.rs"]
mod calls;
#[path = "../c_abi/shared.rs"]
mod shared;
#[path = "../c_abi/world.rs"]
mod world;

use libfuzzer_sys::fuzz_target;
use world::World;

/// Calls in one input, those of callbacks included.
const CALLS: u32 = 200;

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, Iterator::count)
}

fuzz_target!(|input: &[u8]| {
    let before = descriptors();
    let world = World::new(input, CALLS);
    while world.may_call() {
        calls::call(&world);
    }
    world.settle();
    drop(world);
    assert_eq!(descriptors(), before, "descriptors are left behind");
});
