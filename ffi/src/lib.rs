//! libwsabi: the C ABI of wsabi, thin over the crate `wsabi`.
//!
//! Every function checks its pointers, turns panics into a status, and leaves a text for its
//! thread when it fails. `include/wsabi.h` is generated from here.
//!
//! Does not know: the protocol, or how anything is read or written.

#![allow(
    non_camel_case_types,
    reason = "cbindgen copies names as they are, and C writes them so"
)]
#![allow(
    unreachable_pub,
    reason = "what is public is exported to C, not to other crates"
)]

// The order in which the header shows them.
mod status;

mod messages;

mod types;

mod library;

mod host;

mod r#loop;

mod server;

mod handshake;

mod send;

mod prepared;

mod conn;

mod driver;
mod options;
mod payload;
