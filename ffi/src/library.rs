//! The library itself: its version and what it can do.
//!
//! Does not know: loops.

use core::ffi::c_char;

/// The version as a number: 0x00MMmmpp, of major, minor and patch.
///
/// Thread: any. Inside callbacks: yes.
#[unsafe(no_mangle)]
pub const extern "C" fn wsabi_version() -> u32 {
    number(env!("CARGO_PKG_VERSION_MAJOR")) << 16
        | number(env!("CARGO_PKG_VERSION_MINOR")) << 8
        | number(env!("CARGO_PKG_VERSION_PATCH"))
}

const fn number(digits: &str) -> u32 {
    let (mut rest, mut value) = (digits.as_bytes(), 0);
    while let [digit, tail @ ..] = rest {
        value = value * 10 + (*digit - b'0') as u32;
        rest = tail;
    }
    value
}

/// The version as text, such as "0.1.0".
///
/// Ownership: static. Thread: any. Inside callbacks: yes.
#[unsafe(no_mangle)]
pub const extern "C" fn wsabi_version_text() -> *const c_char {
    concat!(env!("CARGO_PKG_VERSION"), "\0").as_ptr().cast()
}

/// A part of this build: permessage-deflate (RFC 7692).
pub const WSABI_FEATURE_DEFLATE: u64 = 1;

/// The optional parts of this build, a bit each: WSABI_FEATURE_DEFLATE.
///
/// Thread: any. Inside callbacks: yes.
#[unsafe(no_mangle)]
pub const extern "C" fn wsabi_features() -> u64 {
    WSABI_FEATURE_DEFLATE
}
