//! Sending messages: whole, in fragments, from the application's own memory.
//!
//! From the loop's thread they are sent at once; from another they go through its inbox.
//!
//! Does not know: how anything is sent.

use core::ffi::{c_char, c_void};

use wsabi::{Bytes, MessageType, Sent};

use crate::conn::{command, conn_id};
use crate::host::wsabi_loop;
use crate::messages::{WSABI_COMPRESS_AUTO, wsabi_message};
use crate::options::{bytes, invalid};
use crate::payload::{Outgoing, Payload, compress, message_type, outgoing};
use crate::status::{WSABI_E_PANIC, boundary, sent, wsabi_status};
use crate::types::wsabi_conn;

/// # Safety
/// The pointers are null or valid, `data` for `len` bytes, and the loop was not freed.
#[inline]
unsafe fn send(
    pointer: *mut wsabi_loop,
    conn: wsabi_conn,
    message_type: MessageType,
    data: *const u8,
    len: usize,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        sent(unsafe { wsabi_loop::get(pointer) }.and_then(|host| {
            let id = conn_id(conn)?;
            // SAFETY: the caller's promise.
            let payload = unsafe { bytes(data, len, "data") }?;
            if host.is_home() {
                command(host, id, |conn| conn.send(message_type, payload))
            } else {
                host.handle()
                    .send(id, message_type, payload)
                    .map(|()| Sent::Ok)
            }
        }))
    })
}

/// Sends a text message. A send is accepted whatever its size while the backlog is below
/// high_water_bytes, and above that while the backlog stays within max_backlog_bytes.
///
/// data: UTF-8, copied; may be NULL if len is 0.
/// Thread: any. From another than the loop's it is queued, in order for each thread, and what the
/// connection answers is not told. Inside callbacks: yes; nothing is called before it returns.
/// Returns WSABI_OK, or WSABI_BACKPRESSURE (accepted; pause until on_drain).
/// Errors: WSABI_E_FULL (nothing queued), WSABI_E_CLOSED, WSABI_E_INVALID (text that is not UTF-8
/// too), WSABI_E_STATE before on_open and amid a fragmented message, WSABI_E_FORKED.
///
/// # Safety
/// The pointers are null or valid, `data` for `len` bytes, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_send_text(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
    data: *const c_char,
    len: usize,
) -> wsabi_status {
    // SAFETY: the caller's promise.
    unsafe { send(r#loop, conn, MessageType::Text, data.cast(), len) }
}

/// Sends a binary message.
///
/// data: copied; may be NULL if len is 0. Everything else as wsabi_conn_send_text.
///
/// # Safety
/// The pointers are null or valid, `data` for `len` bytes, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_send_binary(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
    data: *const c_void,
    len: usize,
) -> wsabi_status {
    // SAFETY: the caller's promise.
    unsafe { send(r#loop, conn, MessageType::Binary, data.cast(), len) }
}

/// Sends a message of either type, compressed or not as it says, and, with a free_hook, from the
/// application's own memory. What on_message was given can be sent as it is.
///
/// message: must not be NULL. Its payload is copied; or else, with a free_hook, it is kept without a
/// copy until it is written or the connection has ended, and free_hook is then called on the loop's
/// thread (that of wsabi_loop_free, if the loop is freed first), maybe before this returns. If this
/// fails, the payload stays the caller's, and free_hook is not called.
/// Everything else as wsabi_conn_send_text.
///
/// # Safety
/// The pointers are null or valid, those in `message` too, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_send(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
    message: *const wsabi_message,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        sent(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let id = conn_id(conn)?;
            // SAFETY: the caller's promise.
            let outgoing = unsafe { outgoing(message) }?;
            let Outgoing {
                message_type,
                compress,
                payload,
            } = outgoing;
            if host.is_home() {
                return command(host, id, |conn| match payload {
                    Payload::Borrowed(data) => conn.send_with(message_type, data, compress),
                    Payload::Given(given) => {
                        given.lend(|data| conn.send_owned(message_type, data, compress))
                    }
                });
            }
            let send = |data| {
                host.handle()
                    .send_owned(id, message_type, data, compress)
                    .map(|()| Sent::Ok)
            };
            match payload {
                Payload::Borrowed(data) => send(Bytes::copy_from_slice(data)),
                Payload::Given(given) => given.hand_over(send),
            }
        }))
    })
}

/// Sends a fragment of a message.
///
/// type: WSABI_TEXT or WSABI_BINARY, the same for all fragments of a message. data: copied; text
/// may be cut within a character. fin: 1 for the last fragment, else 0.
/// Everything else as wsabi_conn_send_text.
///
/// # Safety
/// The pointers are null or valid, `data` for `len` bytes, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_send_fragment(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
    r#type: u32,
    data: *const c_void,
    len: usize,
    fin: u32,
) -> wsabi_status {
    // SAFETY: the caller's promise.
    unsafe { fragment(r#loop, conn, r#type, data, len, fin, WSABI_COMPRESS_AUTO) }
}

/// Sends a fragment of a message, and says with the first whether the message is compressed.
///
/// compress: WSABI_COMPRESS_AUTO, _ALWAYS or _NEVER; counts in a message's first fragment only.
/// Everything else as wsabi_conn_send_fragment.
///
/// # Safety
/// The pointers are null or valid, `data` for `len` bytes, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_send_fragment_with(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
    r#type: u32,
    data: *const c_void,
    len: usize,
    fin: u32,
    compress: u32,
) -> wsabi_status {
    // SAFETY: the caller's promise.
    unsafe { fragment(r#loop, conn, r#type, data, len, fin, compress) }
}

/// # Safety
/// The pointers are null or valid, `data` for `len` bytes, and the loop was not freed.
unsafe fn fragment(
    pointer: *mut wsabi_loop,
    conn: wsabi_conn,
    r#type: u32,
    data: *const c_void,
    len: usize,
    fin: u32,
    compress: u32,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        sent(unsafe { wsabi_loop::get(pointer) }.and_then(|host| {
            let (id, message_type) = (conn_id(conn)?, message_type(r#type)?);
            let compress = self::compress(compress)?;
            if fin > 1 {
                return Err(invalid(format!("fin is {fin}; expected 0 or 1")));
            }
            // SAFETY: the caller's promise.
            let payload = unsafe { bytes(data.cast(), len, "data") }?;
            if host.is_home() {
                command(host, id, |conn| {
                    conn.send_fragment_with(message_type, payload, fin == 1, compress)
                })
            } else {
                host.handle()
                    .send_fragment_with(id, message_type, payload, fin == 1, compress)
                    .map(|()| Sent::Ok)
            }
        }))
    })
}
