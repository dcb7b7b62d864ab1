//! Messages that are made once to be sent to many, and sending them.
//!
//! Does not know: how anything is sent.

use wsabi::{Bytes, ConnId, Error, ErrorKind, Prepared, Reached, Result, Sent};

use crate::conn::{command, conn_id};
use crate::host::wsabi_loop;
use crate::messages::{wsabi_message, wsabi_prepared, wsabi_reached};
use crate::options::{array, invalid};
use crate::payload::{Outgoing, Payload, outgoing};
use crate::server::server_id;
use crate::status::{WSABI_E_PANIC, boundary, sent, status, wsabi_status};
use crate::types::{wsabi_conn, wsabi_server};

/// Makes a message that is to be sent to many connections, of one loop or of several.
///
/// message: must not be NULL. Its payload is copied; or else, with a free_hook, it is kept without a
/// copy until the prepared message is freed and everything that was sent of it is written, and
/// free_hook is then called, on the thread that had it last: a loop's, or the one that freed it. If
/// this fails, the payload stays the caller's, and free_hook is not called.
/// out: receives the message, to be freed by wsabi_prepared_free; not written on failure.
/// Thread: any. Inside callbacks: yes. Errors: WSABI_E_INVALID (text that is not UTF-8 too).
///
/// # Safety
/// The pointers are null or valid, those in `message` too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_prepared_new(
    message: *const wsabi_message,
    out: *mut *mut wsabi_prepared,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        if out.is_null() {
            return status(Err(invalid("out is NULL")));
        }
        // SAFETY: the caller's promise.
        status(unsafe { prepare(message) }.map(|message| {
            let prepared = Box::new(wsabi_prepared { message });
            // SAFETY: it is not null and, by the caller's promise, valid.
            unsafe { out.write(Box::into_raw(prepared)) };
        }))
    })
}

/// # Safety
/// As for `outgoing`.
unsafe fn prepare(message: *const wsabi_message) -> Result<Prepared> {
    // SAFETY: the caller's promise.
    let outgoing = unsafe { outgoing(message) }?;
    let Outgoing {
        message_type,
        compress,
        payload,
    } = outgoing;
    let make = |payload| Prepared::new(message_type, payload, compress);
    match payload {
        Payload::Borrowed(data) => make(Bytes::copy_from_slice(data)),
        Payload::Given(given) => given.hand_over(make),
    }
}

/// Frees a prepared message. What was sent of it is not affected.
///
/// prepared: NULL does nothing. Thread: any, but no other call may use it meanwhile or later. Inside
/// callbacks: yes.
///
/// # Safety
/// The pointer is null, or came from `wsabi_prepared_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_prepared_free(prepared: *mut wsabi_prepared) {
    boundary((), || {
        if !prepared.is_null() {
            // SAFETY: it came from `Box::into_raw`, and its owner has given it up.
            drop(unsafe { Box::from_raw(prepared) });
        }
    });
}

/// # Safety
/// The pointer is null, or came from `wsabi_prepared_new` and was not freed.
unsafe fn get<'a>(prepared: *const wsabi_prepared) -> Result<&'a Prepared> {
    // SAFETY: the caller's promise.
    let prepared = unsafe { prepared.as_ref() };
    prepared
        .map(|prepared| &prepared.message)
        .ok_or_else(|| invalid("prepared is NULL"))
}

/// Sends a prepared message.
///
/// prepared: must not be NULL; may be freed as soon as this returns.
/// Everything else as wsabi_conn_send_text.
///
/// # Safety
/// The pointers are null or valid, and neither the loop nor the message was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_conn_send_prepared(
    r#loop: *mut wsabi_loop,
    conn: wsabi_conn,
    prepared: *const wsabi_prepared,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        sent(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let id = conn_id(conn)?;
            // SAFETY: the caller's promise.
            let message = unsafe { get(prepared) }?;
            if host.is_home() {
                command(host, id, |conn| conn.send_prepared(message))
            } else {
                host.handle().send_prepared(id, message).map(|()| Sent::Ok)
            }
        }))
    })
}

/// Sends a prepared message to these connections. Those that are not open are passed over: stale
/// numbers, 0, closing ones, and those before on_open.
///
/// prepared: must not be NULL; may be freed as soon as this returns. conns: may be NULL if count is
/// 0; servers' and clients' connections of this loop. out: NULL, or receives to how many it went;
/// not written on failure.
/// Thread: the loop's. Inside callbacks: yes; nothing is called before it returns.
/// Errors: WSABI_E_INVALID, WSABI_E_NO_MEMORY for compressing, WSABI_E_THREAD, WSABI_E_FORKED.
///
/// # Safety
/// The pointers are null or valid, `conns` for `count` numbers, and neither the loop nor the message
/// was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_broadcast(
    r#loop: *mut wsabi_loop,
    prepared: *const wsabi_prepared,
    conns: *const wsabi_conn,
    count: usize,
    out: *mut wsabi_reached,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            // SAFETY: the caller's promise.
            let (message, conns) =
                unsafe { (get(prepared)?, array(conns, count, usize::MAX, "conns")?) };
            let conns: Vec<ConnId> = conns.iter().copied().filter_map(ConnId::from_u64).collect();
            let reached = host.command(|context| context.broadcast(message, &conns))?;
            // SAFETY: the caller's promise.
            unsafe { tell(reached, out) };
            Ok(())
        }))
    })
}

/// Sends a prepared message to all open connections of a server, but for one.
///
/// prepared: must not be NULL; may be freed as soon as this returns. except: 0 for none. out: NULL,
/// or receives to how many it went; not written on failure.
/// Thread: any; from another than the loop's it is queued as by wsabi_conn_send_text, and out must be
/// NULL, for it is not known yet. Inside callbacks: yes; nothing is called before it returns.
/// Errors: WSABI_E_INVALID, WSABI_E_CLOSED if the server has stopped, WSABI_E_NO_MEMORY for
/// compressing, WSABI_E_FULL from another thread, WSABI_E_THREAD if out is not NULL there,
/// WSABI_E_FORKED.
///
/// # Safety
/// The pointers are null or valid, and neither the loop nor the message was freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_server_broadcast(
    r#loop: *mut wsabi_loop,
    server: wsabi_server,
    prepared: *const wsabi_prepared,
    except: wsabi_conn,
    out: *mut wsabi_reached,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let (id, except) = (server_id(server)?, ConnId::from_u64(except));
            // SAFETY: the caller's promise.
            let message = unsafe { get(prepared) }?;
            if !host.is_home() {
                if !out.is_null() {
                    return Err(Error::new(
                        ErrorKind::Thread,
                        "out is not NULL; how many are reached is told on the loop's thread only",
                    ));
                }
                return host.handle().broadcast_server(id, message, except);
            }
            let reached = host.command(|context| context.broadcast_server(id, message, except))?;
            // SAFETY: the caller's promise.
            unsafe { tell(reached, out) };
            Ok(())
        }))
    })
}

/// # Safety
/// The pointer is null or valid.
unsafe fn tell(reached: Reached, out: *mut wsabi_reached) {
    if !out.is_null() {
        let reached = wsabi_reached {
            sent: reached.sent,
            backpressure: reached.backpressure,
            refused: reached.refused,
        };
        // SAFETY: the caller's promise.
        unsafe { out.write(reached) };
    }
}
