//! Connections: pinging, closing, pausing, answering and asking.
//!
//! Those that may come from any thread are carried out at once on the loop's thread, and go
//! through its inbox from another.
//!
//! Does not know: how anything is sent.

use core::ffi::{c_char, c_void};

use wsabi::{Agreed, Conn, ConnId, Error, ErrorKind, Result, Sent, State};

use crate::driver::view;
use crate::host::wsabi_loop;
use crate::messages::wsabi_agreed;
use crate::options::{accept_options, bytes, invalid, response};
use crate::server::copy_text;
use crate::status::{WSABI_E_PANIC, boundary, sent, status, wsabi_status};
use crate::types::{
    WSABI_STATE_CLOSED, WSABI_STATE_CLOSING, WSABI_STATE_CONNECTING, WSABI_STATE_OPEN,
    wsabi_accept_options, wsabi_conn, wsabi_response, wsabi_server, wsabi_str,
};

#[inline]
pub(crate) fn conn_id(conn: wsabi_conn) -> Result<ConnId> {
    ConnId::from_u64(conn).ok_or_else(never)
}

#[cold]
fn never() -> Error {
    Error::new(ErrorKind::Closed, "0 is never a connection")
}

fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the connection is closed")
}

/// Carries out a command on the loop's thread.
#[inline]
pub(crate) fn command<T>(
    host: &wsabi_loop,
    id: ConnId,
    act: impl FnOnce(&mut Conn<'_>) -> Result<T>,
) -> Result<T> {
    host.command(|context| act(&mut context.conn(id)))
}

/// Sends a ping. Keepalive pings are sent without asking.
///
/// data: at most 125 bytes, copied. Everything else as wsabi_conn_send_text.
///
/// # Safety
/// The pointers are null or valid, `data` for `len` bytes, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_ping(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
    data: *const c_void,
    len: usize,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        sent(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let id = conn_id(conn)?;
            // SAFETY: the caller's promise.
            let payload = unsafe { bytes(data.cast(), len, "data") }?;
            if host.is_home() {
                command(host, id, |conn| conn.ping(payload))
            } else {
                host.handle().ping(id, payload).map(|()| Sent::Ok)
            }
        }))
    })
}

/// Sends an unsolicited pong. Pings are answered without asking.
///
/// data: at most 125 bytes, copied. Everything else as wsabi_conn_send_text.
///
/// # Safety
/// The pointers are null or valid, `data` for `len` bytes, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_pong(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
    data: *const c_void,
    len: usize,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        sent(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let id = conn_id(conn)?;
            // SAFETY: the caller's promise.
            let payload = unsafe { bytes(data.cast(), len, "data") }?;
            if host.is_home() {
                command(host, id, |conn| conn.pong(payload))
            } else {
                host.handle().pong(id, payload).map(|()| Sent::Ok)
            }
        }))
    })
}

/// Starts the closing handshake. Messages keep coming until the peer's Close does, then on_close.
/// A connection that is not open yet is terminated.
///
/// code: 1000 to 1003, 1007 to 1014 or 3000 to 4999; 0 sends none. reason: UTF-8 of at most 123
/// bytes, copied; needs a code.
/// Thread: any, as wsabi_conn_send_text. Inside callbacks: yes; nothing is called before it
/// returns. Errors: WSABI_E_INVALID, WSABI_E_CLOSED if it is closing already, WSABI_E_FULL from
/// another thread, WSABI_E_FORKED.
///
/// # Safety
/// The pointers are null or valid, `reason` for `len` bytes, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_close(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
    code: u16,
    reason: *const c_char,
    len: usize,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let id = conn_id(conn)?;
            // SAFETY: the caller's promise.
            let reason = unsafe { bytes(reason.cast(), len, "reason") }?;
            let reason =
                core::str::from_utf8(reason).map_err(|_| invalid("reason is not UTF-8"))?;
            let code = if code == 0 { None } else { Some(code) };
            if host.is_home() {
                command(host, id, |conn| conn.close(code, reason))
            } else {
                host.handle().close(id, code, reason)
            }
        }))
    })
}

/// Ends the connection at once, without a closing handshake. Only on_close follows.
///
/// Thread: any, as wsabi_conn_send_text. Inside callbacks: yes; nothing is called before it
/// returns. Errors: WSABI_E_INVALID, WSABI_E_CLOSED, WSABI_E_FULL from another thread,
/// WSABI_E_FORKED.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_terminate(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let id = conn_id(conn)?;
            if host.is_home() {
                command(host, id, |conn| conn.terminate())
            } else {
                host.handle().terminate(id)
            }
        }))
    })
}

/// Accepts the request for a WebSocket that on_upgrade was called with, from there or later.
///
/// options: NULL for the defaults; copied.
/// Thread: any, as wsabi_conn_send_text. Inside callbacks: yes; on_open comes after it has
/// returned. Errors: WSABI_E_INVALID (the request still waits), WSABI_E_STATE if there is nothing
/// to answer, WSABI_E_CLOSED, WSABI_E_FULL from another thread, WSABI_E_FORKED.
///
/// # Safety
/// The pointers are null or valid, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_accept(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
    options: *const wsabi_accept_options,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let id = conn_id(conn)?;
            // SAFETY: the caller's promise.
            let accept = unsafe { accept_options(options) }?;
            if host.is_home() {
                command(host, id, |conn| conn.accept(&accept))
            } else {
                host.handle().accept(id, accept)
            }
        }))
    })
}

/// Answers the request that on_upgrade or on_http was called with by an HTTP response, from there
/// or later, which ends the connection.
///
/// response: must not be NULL; copied.
/// Thread, callbacks and errors: as wsabi_conn_accept.
///
/// # Safety
/// The pointers are null or valid, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_respond(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
    response: *const wsabi_response,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let id = conn_id(conn)?;
            // SAFETY: the caller's promise.
            let response = unsafe { self::response(response) }?;
            if host.is_home() {
                command(host, id, |conn| conn.respond(&response))
            } else {
                host.handle().respond(id, response)
            }
        }))
    })
}

/// Stops reading: nothing that the peer sends is looked at until wsabi_conn_resume, its Close and
/// the end of its stream neither. on_drain still comes, and on_close if this side ends the
/// connection. The clocks that watch the peer's silence stand still.
///
/// Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_CLOSED,
/// WSABI_E_STATE before on_open, WSABI_E_THREAD, WSABI_E_FORKED.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_pause(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(
            unsafe { wsabi_loop::get(r#loop) }
                .and_then(|host| command(host, conn_id(conn)?, |conn| conn.pause())),
        )
    })
}

/// Reads again; what was read before comes first.
///
/// Thread, callbacks and errors: as wsabi_conn_pause.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_resume(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(
            unsafe { wsabi_loop::get(r#loop) }
                .and_then(|host| command(host, conn_id(conn)?, |conn| conn.resume())),
        )
    })
}

/// Writes what waits for this connection, as far as the kernel takes it, without waiting for the
/// end of the dispatch.
///
/// Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_CLOSED,
/// WSABI_E_THREAD, WSABI_E_FORKED.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_flush(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(
            unsafe { wsabi_loop::get(r#loop) }
                .and_then(|host| command(host, conn_id(conn)?, |conn| conn.flush())),
        )
    })
}

/// Bytes that wait to be written.
///
/// out: receives them; not written on failure.
/// Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_CLOSED,
/// WSABI_E_THREAD.
///
/// # Safety
/// The pointers are null or valid, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_buffered(
    r#loop: *const wsabi_loop,
    conn: wsabi_conn,
    out: *mut u64,
) -> wsabi_status {
    // SAFETY: the caller's promise.
    unsafe {
        ask(r#loop, conn, out, |conn| match conn.state() {
            State::Closed => Err(closed()),
            State::Connecting | State::Open | State::Closing => Ok(conn.buffered()),
        })
    }
}

/// How far a connection has come: one of WSABI_STATE_CLOSED (also for a stale number and from
/// another thread than the loop's), _CONNECTING, _OPEN and _CLOSING.
///
/// Thread: the loop's. Inside callbacks: yes.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_state(r#loop: *const wsabi_loop, conn: wsabi_conn) -> u32 {
    boundary(WSABI_STATE_CLOSED, || {
        // SAFETY: the caller's promise.
        let state = unsafe { wsabi_loop::get(r#loop) }
            .and_then(|host| command(host, conn_id(conn)?, |conn| Ok(conn.state())));
        match state {
            Ok(State::Connecting) => WSABI_STATE_CONNECTING,
            Ok(State::Open) => WSABI_STATE_OPEN,
            Ok(State::Closing) => WSABI_STATE_CLOSING,
            Ok(State::Closed) | Err(_) => WSABI_STATE_CLOSED,
        }
    })
}

/// Sets the application's own pointer for a connection. The library does not look at it.
///
/// Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_CLOSED,
/// WSABI_E_THREAD.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_set_user(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
    user: *mut c_void,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(
            unsafe { wsabi_loop::get(r#loop) }
                .and_then(|host| command(host, conn_id(conn)?, |conn| conn.set_user(user as u64))),
        )
    })
}

/// The application's own pointer for a connection; NULL until it is set, for a stale number, and
/// from another thread than the loop's. Still answers inside on_close.
///
/// Thread: the loop's. Inside callbacks: yes.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_user(
    r#loop: *const wsabi_loop,
    conn: wsabi_conn,
) -> *mut c_void {
    boundary(core::ptr::null_mut(), || {
        // SAFETY: the caller's promise.
        let user = unsafe { wsabi_loop::get(r#loop) }
            .and_then(|host| command(host, conn_id(conn)?, |conn| Ok(conn.user())));
        user.map_or(core::ptr::null_mut(), |user| user as *mut c_void)
    })
}

/// The server a connection came to; 0 for a client's connection.
///
/// out: receives it; not written on failure.
/// Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_CLOSED,
/// WSABI_E_THREAD.
///
/// # Safety
/// The pointers are null or valid, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_server(
    r#loop: *const wsabi_loop,
    conn: wsabi_conn,
    out: *mut wsabi_server,
) -> wsabi_status {
    // SAFETY: the caller's promise.
    unsafe {
        ask(r#loop, conn, out, |conn| {
            if !conn.is_known() {
                return Err(closed());
            }
            Ok(conn.server().map_or(0, wsabi::ServerId::as_u64))
        })
    }
}

/// The subprotocol in use; empty if there is none, and before the connection is open.
///
/// out: receives it; not written on failure. Ownership: the library's, until the connection's
/// on_close has returned. Thread: the loop's. Inside callbacks: yes, on_close too.
/// Errors: WSABI_E_INVALID, WSABI_E_CLOSED for a stale number, WSABI_E_THREAD.
///
/// # Safety
/// The pointers are null or valid, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_subprotocol(
    r#loop: *const wsabi_loop,
    conn: wsabi_conn,
    out: *mut wsabi_str,
) -> wsabi_status {
    // SAFETY: the caller's promise.
    unsafe {
        ask(r#loop, conn, out, |conn| {
            if !conn.is_known() {
                return Err(closed());
            }
            Ok(view(conn.subprotocol().unwrap_or("")))
        })
    }
}

/// What the opening handshake has agreed on about compression; enabled is 0 if it is not in use, and
/// before the connection is open.
///
/// out: receives it; not written on failure. Thread: the loop's. Inside callbacks: yes.
/// Errors: WSABI_E_INVALID, WSABI_E_CLOSED (inside on_close too), WSABI_E_THREAD.
///
/// # Safety
/// The pointers are null or valid, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_deflate(
    r#loop: *const wsabi_loop,
    conn: wsabi_conn,
    out: *mut wsabi_agreed,
) -> wsabi_status {
    // SAFETY: the caller's promise.
    unsafe {
        ask(r#loop, conn, out, |conn| {
            if conn.state() == State::Closed {
                return Err(closed());
            }
            Ok(agreed(conn.deflate()))
        })
    }
}

fn agreed(agreed: Option<Agreed>) -> wsabi_agreed {
    match agreed {
        None => wsabi_agreed {
            enabled: 0,
            server_max_window_bits: 0,
            client_max_window_bits: 0,
            server_context_takeover: 0,
            client_context_takeover: 0,
        },
        Some(agreed) => wsabi_agreed {
            enabled: 1,
            server_max_window_bits: agreed.server_max_window_bits.into(),
            client_max_window_bits: agreed.client_max_window_bits.into(),
            server_context_takeover: agreed.server_context_takeover.into(),
            client_context_takeover: agreed.client_context_takeover.into(),
        },
    }
}

/// The peer's address, such as "127.0.0.1:4711" or "unix:".
///
/// buf: receives the address and a NUL, if size is enough. len: NULL, or receives the length
/// without the NUL, also if size is not enough.
/// Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID (also for too small a
/// buffer), WSABI_E_CLOSED when the transport is gone, WSABI_E_THREAD.
///
/// # Safety
/// The pointers are null or valid, `buf` for `size` bytes, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_peer(
    r#loop: *const wsabi_loop,
    conn: wsabi_conn,
    buf: *mut c_char,
    size: usize,
    len: *mut usize,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let peer = command(host, conn_id(conn)?, |conn| {
                conn.peer_addr().ok_or_else(closed)
            })?;
            // SAFETY: the caller's promise.
            unsafe { copy_text(&peer.to_string(), buf, size, len) }
        }))
    })
}

/// # Safety
/// The pointers are null or valid, and the loop was not freed.
unsafe fn ask<T>(
    pointer: *const wsabi_loop,
    conn: wsabi_conn,
    out: *mut T,
    question: impl FnOnce(&mut Conn<'_>) -> Result<T>,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(pointer) }.and_then(|host| {
            if out.is_null() {
                return Err(invalid("out is NULL"));
            }
            let answer = command(host, conn_id(conn)?, question)?;
            // SAFETY: it is not null and, by the caller's promise, valid.
            unsafe { out.write(answer) };
            Ok(())
        }))
    })
}
