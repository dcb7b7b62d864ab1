//! Status codes, the text of a thread's last error, and the boundary no panic crosses.
//!
//! Does not know: what failed.

use std::borrow::Cow;
use std::cell::RefCell;
use std::ffi::{CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

use wsabi::{Error, ErrorKind, Result, Sent};

/// What a function answers: 0 is success, positive is success with something to know, negative is
/// an error. Numbers are never reused or changed.
pub type wsabi_status = i32;

/// Success.
pub const WSABI_OK: i32 = 0;
/// Sent, but the backlog is above high water: pause what feeds this connection until on_drain.
pub const WSABI_BACKPRESSURE: i32 = 1;
/// An argument is not allowed; the text names it and says what is expected.
pub const WSABI_E_INVALID: i32 = -1;
/// The connection, server or loop is closed, or its number is stale.
pub const WSABI_E_CLOSED: i32 = -2;
/// Refused because a limit of queued bytes is reached; nothing was queued.
pub const WSABI_E_FULL: i32 = -3;
/// The call belongs to the loop's thread and came from another.
pub const WSABI_E_THREAD: i32 = -4;
/// The loop was asked to dispatch inside one of its own callbacks.
pub const WSABI_E_REENTRANT: i32 = -5;
/// The right object at the wrong moment.
pub const WSABI_E_STATE: i32 = -6;
/// Not supported by this build or platform.
pub const WSABI_E_UNSUPPORTED: i32 = -7;
/// The process has forked; the loop belongs to the parent.
pub const WSABI_E_FORKED: i32 = -8;
/// A defect inside wsabi was caught.
pub const WSABI_E_PANIC: i32 = -9;
/// Memory could not be had.
pub const WSABI_E_NO_MEMORY: i32 = -10;
/// The operating system refused or failed.
pub const WSABI_E_IO: i32 = -20;
/// A server could not listen; the text names the address.
pub const WSABI_E_LISTEN: i32 = -21;
/// A host name could not be resolved.
pub const WSABI_E_RESOLVE: i32 = -22;
/// No address of the host accepted a connection.
pub const WSABI_E_CONNECT: i32 = -23;
/// The transport ended without a Close frame.
pub const WSABI_E_LOST: i32 = -24;
/// The peer broke a rule of RFC 6455 (close code 1002).
pub const WSABI_E_PROTOCOL: i32 = -30;
/// The peer sent text that is not UTF-8 (close code 1007).
pub const WSABI_E_INVALID_TEXT: i32 = -31;
/// The peer sent a message above max_message_bytes (close code 1009).
pub const WSABI_E_MESSAGE_TOO_BIG: i32 = -32;
/// The peer cut a message into more than max_fragments (close code 1008).
pub const WSABI_E_TOO_MANY_FRAGMENTS: i32 = -33;
/// The peer sent compressed data that is damaged (close code 1007).
pub const WSABI_E_INVALID_DEFLATE: i32 = -34;
/// The server's connections hold more than max_buffered_bytes, and this one the most (close code
/// 1013).
pub const WSABI_E_OVER_BUDGET: i32 = -35;
/// The opening handshake's request or response is not valid.
pub const WSABI_E_HANDSHAKE: i32 = -40;
/// The opening handshake exceeds max_handshake_bytes or max_handshake_headers.
pub const WSABI_E_HANDSHAKE_TOO_LARGE: i32 = -41;
/// The request's Origin is not allowed by the server's policy.
pub const WSABI_E_ORIGIN: i32 = -42;
/// The server answered the opening handshake with another status than 101.
pub const WSABI_E_REFUSED: i32 = -43;
/// More opening handshakes were pending than max_pending_handshakes; the oldest was dropped.
pub const WSABI_E_OVERLOADED: i32 = -44;
/// The opening handshake took too long.
pub const WSABI_E_HANDSHAKE_TIMEOUT: i32 = -50;
/// The peer gave no sign of life after a ping (close code 1011).
pub const WSABI_E_KEEPALIVE_TIMEOUT: i32 = -51;
/// Nothing was received for the idle timeout (close code 1011).
pub const WSABI_E_IDLE_TIMEOUT: i32 = -52;
/// The closing handshake took too long.
pub const WSABI_E_CLOSE_TIMEOUT: i32 = -53;
/// This side terminated the connection.
pub const WSABI_E_TERMINATED: i32 = -60;
/// The server's stop deadline passed, or the loop was freed.
pub const WSABI_E_STOPPED: i32 = -61;

thread_local! {
    static LAST_ERROR: RefCell<CString> = RefCell::default();
}

/// The status of an error.
pub(crate) fn status_of(kind: ErrorKind) -> wsabi_status {
    kind as wsabi_status
}

/// What the core calls the times that C has in milliseconds, and names so.
const TIMES: [&str; 6] = [
    "handshake_timeout",
    "hold_timeout",
    "ping_interval",
    "ping_timeout",
    "idle_timeout",
    "close_timeout",
];

/// The detail of an error, in which options have the names that they have in the header.
pub(crate) fn detail(error: &Error) -> Cow<'_, str> {
    let detail = error.detail();
    match TIMES.iter().find(|&name| detail.contains(name)) {
        Some(name) if !detail.contains("_ms") => detail.replace(name, &format!("{name}_ms")).into(),
        _ => detail.into(),
    }
}

/// Keeps an error's text for the calling thread and gives its status.
pub(crate) fn fail(error: &Error) -> wsabi_status {
    let text: Vec<u8> = detail(error).bytes().filter(|&octet| octet != 0).collect();
    // A thread that is ending has no place for the text any more; the status still tells.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = CString::new(text).unwrap_or_default());
    status_of(error.kind())
}

/// The status of a result, with the text kept if it is an error.
#[inline]
pub(crate) fn status(result: Result<()>) -> wsabi_status {
    match result {
        Ok(()) => WSABI_OK,
        Err(error) => fail(&error),
    }
}

/// The status of a send.
#[inline]
pub(crate) fn sent(result: Result<Sent>) -> wsabi_status {
    match result {
        Ok(Sent::Ok) => WSABI_OK,
        Ok(Sent::Backpressure) => WSABI_BACKPRESSURE,
        Err(error) => fail(&error),
    }
}

/// Runs the body of an exported function, and turns a panic into `otherwise`.
#[inline]
pub(crate) fn boundary<T>(otherwise: T, body: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(value) => value,
        Err(_) => {
            fail(&Error::new(
                ErrorKind::Panic,
                "a defect inside wsabi was caught; the loop cannot be used further",
            ));
            otherwise
        }
    }
}

/// The text of the calling thread's last error: what was wrong and what was expected. Empty if
/// there was none.
///
/// Ownership: the library's; the text lives until this thread's next failing call.
/// Thread: any. Inside callbacks: yes.
#[unsafe(no_mangle)]
pub extern "C" fn wsabi_last_error() -> *const c_char {
    LAST_ERROR
        .try_with(|last| last.borrow().as_ptr())
        .unwrap_or(c"".as_ptr())
}

/// The name of a status, such as "WSABI_E_CLOSED"; "WSABI_E_?" for a number that is none.
///
/// Ownership: static. Thread: any. Inside callbacks: yes.
#[unsafe(no_mangle)]
pub extern "C" fn wsabi_status_name(status: wsabi_status) -> *const c_char {
    let name = match status {
        WSABI_OK => c"WSABI_OK",
        WSABI_BACKPRESSURE => c"WSABI_BACKPRESSURE",
        WSABI_E_INVALID => c"WSABI_E_INVALID",
        WSABI_E_CLOSED => c"WSABI_E_CLOSED",
        WSABI_E_FULL => c"WSABI_E_FULL",
        WSABI_E_THREAD => c"WSABI_E_THREAD",
        WSABI_E_REENTRANT => c"WSABI_E_REENTRANT",
        WSABI_E_STATE => c"WSABI_E_STATE",
        WSABI_E_UNSUPPORTED => c"WSABI_E_UNSUPPORTED",
        WSABI_E_FORKED => c"WSABI_E_FORKED",
        WSABI_E_PANIC => c"WSABI_E_PANIC",
        WSABI_E_NO_MEMORY => c"WSABI_E_NO_MEMORY",
        WSABI_E_IO => c"WSABI_E_IO",
        WSABI_E_LISTEN => c"WSABI_E_LISTEN",
        WSABI_E_RESOLVE => c"WSABI_E_RESOLVE",
        WSABI_E_CONNECT => c"WSABI_E_CONNECT",
        WSABI_E_LOST => c"WSABI_E_LOST",
        WSABI_E_PROTOCOL => c"WSABI_E_PROTOCOL",
        WSABI_E_INVALID_TEXT => c"WSABI_E_INVALID_TEXT",
        WSABI_E_MESSAGE_TOO_BIG => c"WSABI_E_MESSAGE_TOO_BIG",
        WSABI_E_TOO_MANY_FRAGMENTS => c"WSABI_E_TOO_MANY_FRAGMENTS",
        WSABI_E_INVALID_DEFLATE => c"WSABI_E_INVALID_DEFLATE",
        WSABI_E_OVER_BUDGET => c"WSABI_E_OVER_BUDGET",
        WSABI_E_HANDSHAKE => c"WSABI_E_HANDSHAKE",
        WSABI_E_HANDSHAKE_TOO_LARGE => c"WSABI_E_HANDSHAKE_TOO_LARGE",
        WSABI_E_ORIGIN => c"WSABI_E_ORIGIN",
        WSABI_E_REFUSED => c"WSABI_E_REFUSED",
        WSABI_E_OVERLOADED => c"WSABI_E_OVERLOADED",
        WSABI_E_HANDSHAKE_TIMEOUT => c"WSABI_E_HANDSHAKE_TIMEOUT",
        WSABI_E_KEEPALIVE_TIMEOUT => c"WSABI_E_KEEPALIVE_TIMEOUT",
        WSABI_E_IDLE_TIMEOUT => c"WSABI_E_IDLE_TIMEOUT",
        WSABI_E_CLOSE_TIMEOUT => c"WSABI_E_CLOSE_TIMEOUT",
        WSABI_E_TERMINATED => c"WSABI_E_TERMINATED",
        WSABI_E_STOPPED => c"WSABI_E_STOPPED",
        _ => c"WSABI_E_?",
    };
    name.as_ptr()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    #[test]
    fn every_kind_of_error_has_its_name_and_number() {
        for &kind in ErrorKind::ALL {
            // SAFETY: the function gives a static string.
            let name = unsafe { CStr::from_ptr(wsabi_status_name(status_of(kind))) };
            assert_eq!(name.to_str(), Ok(kind.symbol()));
        }
    }

    #[test]
    fn times_have_the_names_of_the_header() {
        let error = |detail| Error::new(ErrorKind::HandshakeTimeout, detail);
        for (core, header) in [
            (
                "not within hold_timeout, 1s",
                "not within hold_timeout_ms, 1s",
            ),
            ("close_timeout_ms cannot be", "close_timeout_ms cannot be"),
            (
                "more than max_message_bytes, 5",
                "more than max_message_bytes, 5",
            ),
        ] {
            assert_eq!(detail(&error(core)), header);
        }
    }

    #[test]
    fn a_panic_becomes_a_status_with_a_text() {
        let status = boundary(WSABI_E_PANIC, || panic!("on purpose"));
        assert_eq!(status, WSABI_E_PANIC);
        // SAFETY: the function gives a string that lives until the next failing call.
        let text = unsafe { CStr::from_ptr(wsabi_last_error()) };
        assert!(text.to_str().is_ok_and(|text| text.contains("defect")));
    }
}
