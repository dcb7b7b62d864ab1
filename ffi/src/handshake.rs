//! Looking at the peer's part of an opening handshake.
//!
//! Does not know: what is decided about it.

use core::ffi::c_char;
use core::ptr;

use wsabi::{Error, ErrorKind, Handshake, Request, Result};

use crate::driver::view;
use crate::options::text;
use crate::status::{WSABI_E_PANIC, boundary, status, wsabi_status};
use crate::types::{wsabi_handshake, wsabi_header, wsabi_str};

/// The handle of a handshake, for the duration of a callback.
pub(crate) const fn as_pointer(handshake: &Handshake<'_>) -> *const wsabi_handshake {
    ptr::from_ref(handshake).cast()
}

const NOTHING: wsabi_str = wsabi_str {
    data: ptr::null(),
    len: 0,
};

const fn bytes_view(bytes: &[u8]) -> wsabi_str {
    wsabi_str {
        data: bytes.as_ptr().cast(),
        len: bytes.len(),
    }
}

/// # Safety
/// The pointer is null, or came from [`as_pointer`] to a callback that has not returned.
unsafe fn get<'a>(handshake: *const wsabi_handshake) -> Result<&'a Handshake<'a>> {
    // SAFETY: the caller's promise.
    unsafe { handshake.cast::<Handshake<'a>>().as_ref() }
        .ok_or_else(|| Error::new(ErrorKind::Invalid, "handshake is NULL"))
}

/// # Safety
/// As [`get`].
unsafe fn request_view(
    handshake: *const wsabi_handshake,
    pick: fn(&Request<'static>) -> wsabi_str,
) -> wsabi_str {
    boundary(NOTHING, || {
        // SAFETY: the caller's promise. The views point to what the handshake borrows, which lives
        // as long as the callback; 'static is never seen outside.
        unsafe { get::<'static>(handshake) }
            .ok()
            .and_then(Handshake::request)
            .map_or(NOTHING, pick)
    })
}

/// The method of a request, such as "GET"; empty for a response and for NULL.
///
/// Ownership: the handshake's, until the callback returns. Thread: the loop's.
///
/// # Safety
/// The pointer is null or a callback's, which has not returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_handshake_method(handshake: *const wsabi_handshake) -> wsabi_str {
    // SAFETY: the caller's promise.
    unsafe { request_view(handshake, |request| view(request.method)) }
}

/// The target of a request as it was sent, such as "/chat?room=1"; empty for a response and NULL.
///
/// Ownership: the handshake's, until the callback returns. Thread: the loop's.
///
/// # Safety
/// The pointer is null or a callback's, which has not returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_handshake_target(handshake: *const wsabi_handshake) -> wsabi_str {
    // SAFETY: the caller's promise.
    unsafe { request_view(handshake, |request| view(request.target)) }
}

/// The path of a request, without the query; empty for a response and for NULL.
///
/// Ownership: the handshake's, until the callback returns. Thread: the loop's.
///
/// # Safety
/// The pointer is null or a callback's, which has not returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_handshake_path(handshake: *const wsabi_handshake) -> wsabi_str {
    // SAFETY: the caller's promise.
    unsafe { request_view(handshake, |request| view(request.path())) }
}

/// The query of a request, without the question mark; empty if there is none.
///
/// Ownership: the handshake's, until the callback returns. Thread: the loop's.
///
/// # Safety
/// The pointer is null or a callback's, which has not returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_handshake_query(handshake: *const wsabi_handshake) -> wsabi_str {
    // SAFETY: the caller's promise.
    unsafe { request_view(handshake, |request| view(request.query())) }
}

/// The status of a response, such as 101; 0 for a request and for NULL.
///
/// Thread: the loop's.
///
/// # Safety
/// The pointer is null or a callback's, which has not returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_handshake_status(handshake: *const wsabi_handshake) -> u16 {
    boundary(0, || {
        // SAFETY: the caller's promise.
        match unsafe { get(handshake) } {
            Ok(Handshake::Response(response)) => response.status,
            Ok(Handshake::Request(_)) | Err(_) => 0,
        }
    })
}

/// The value of the first header field with this name, in any case; data is NULL if there is none.
/// A value is bytes, mostly but not surely ASCII.
///
/// name: NUL-terminated. Ownership: the handshake's, until the callback returns. Thread: the
/// loop's.
///
/// # Safety
/// The pointers are null or valid, the handshake a callback's, which has not returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_handshake_header(
    handshake: *const wsabi_handshake,
    name: *const c_char,
) -> wsabi_str {
    boundary(NOTHING, || {
        // SAFETY: the caller's promise.
        match unsafe { (get(handshake), text(name, "name")) } {
            (Ok(handshake), Ok(Some(name))) => {
                handshake.headers().get(name).map_or(NOTHING, bytes_view)
            }
            _ => NOTHING,
        }
    })
}

/// How many header fields there are; 0 for NULL.
///
/// Thread: the loop's.
///
/// # Safety
/// The pointer is null or a callback's, which has not returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_handshake_header_count(handshake: *const wsabi_handshake) -> usize {
    boundary(0, || {
        // SAFETY: the caller's promise.
        unsafe { get(handshake) }.map_or(0, |handshake| handshake.headers().len())
    })
}

/// The header field at an index, in the order in which they came.
///
/// out: receives it; not written on failure. Ownership: the handshake's, until the callback
/// returns. Thread: the loop's. Errors: WSABI_E_INVALID.
///
/// # Safety
/// The pointers are null or valid, the handshake a callback's, which has not returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_handshake_header_at(
    handshake: *const wsabi_handshake,
    index: usize,
    out: *mut wsabi_header,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { get(handshake) }.and_then(|handshake| {
            let headers = handshake.headers();
            let found = headers.iter().nth(index);
            let header = found.map(|(name, value)| wsabi_header {
                name: view(name),
                value: bytes_view(value),
            });
            // SAFETY: the caller's promise.
            unsafe { write_at(header, index, headers.len(), out) }
        }))
    })
}

/// How many subprotocols the client offers; 0 for a response and for NULL.
///
/// Thread: the loop's.
///
/// # Safety
/// The pointer is null or a callback's, which has not returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_handshake_subprotocol_count(
    handshake: *const wsabi_handshake,
) -> usize {
    boundary(0, || {
        // SAFETY: the caller's promise.
        let request = unsafe { get(handshake) }.ok().and_then(Handshake::request);
        request.map_or(0, |request| request.subprotocols().count())
    })
}

/// The subprotocol at an index, in the client's order of preference.
///
/// out: receives it; not written on failure. Ownership: the handshake's, until the callback
/// returns. Thread: the loop's. Errors: WSABI_E_INVALID.
///
/// # Safety
/// The pointers are null or valid, the handshake a callback's, which has not returned.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_handshake_subprotocol_at(
    handshake: *const wsabi_handshake,
    index: usize,
    out: *mut wsabi_str,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { get(handshake) }.and_then(|handshake| {
            let names: Vec<&str> = handshake
                .request()
                .map(|request| request.subprotocols().collect())
                .unwrap_or_default();
            // SAFETY: the caller's promise.
            unsafe {
                write_at(
                    names.get(index).map(|name| view(name)),
                    index,
                    names.len(),
                    out,
                )
            }
        }))
    })
}

/// # Safety
/// `out` is null or valid.
unsafe fn write_at<T>(found: Option<T>, index: usize, count: usize, out: *mut T) -> Result<()> {
    if out.is_null() {
        return Err(Error::new(ErrorKind::Invalid, "out is NULL"));
    }
    let Some(found) = found else {
        return Err(Error::new(
            ErrorKind::Invalid,
            format!("index is {index}; expected less than the count, {count}"),
        ));
    };
    // SAFETY: it is not null and, by the caller's promise, valid.
    unsafe { out.write(found) };
    Ok(())
}
