//! Servers and clients: starting them, asking for them, stopping them.
//!
//! Does not know: what becomes of their connections.

use core::ffi::c_char;
use core::time::Duration;

use wsabi::{DEFAULT_GRACE, Error, ErrorKind, PeerAddr, Result, ServerId};

use crate::host::wsabi_loop;
use crate::options::{client_options, invalid, read_options, server_options, text};
use crate::status::{WSABI_E_PANIC, boundary, status, wsabi_status};
use crate::types::{wsabi_client_options, wsabi_conn, wsabi_server, wsabi_server_options};

/// The server with this number.
pub(crate) fn server_id(server: wsabi_server) -> Result<ServerId> {
    ServerId::from_u64(server).ok_or_else(|| Error::new(ErrorKind::Closed, "0 is never a server"))
}

/// Copies a text and a NUL into a buffer, if it has room.
///
/// # Safety
/// `buf` is null or valid for `size` bytes, `len` null or valid.
pub(crate) unsafe fn copy_text(
    value: &str,
    buf: *mut c_char,
    size: usize,
    len: *mut usize,
) -> Result<()> {
    if !len.is_null() {
        // SAFETY: the caller's promise.
        unsafe { len.write(value.len()) };
    }
    if buf.is_null() {
        return Err(invalid(format!(
            "buf is NULL; {} bytes are needed",
            value.len() + 1
        )));
    }
    if size <= value.len() {
        return Err(invalid(format!(
            "size is {size}; {} bytes are needed",
            value.len() + 1
        )));
    }
    // SAFETY: the caller's promise, and the size is enough for the text and the NUL.
    unsafe {
        core::ptr::copy_nonoverlapping(value.as_ptr(), buf.cast::<u8>(), value.len());
        buf.add(value.len()).write(0);
    }
    Ok(())
}

/// Starts a server.
///
/// options: must not be NULL; everything in it is copied. out: receives the server's number; not
/// written on failure. Its connections come to the callbacks in options, until on_stopped.
/// A host that is a name is resolved at once, which may block.
/// Thread: the loop's. Inside callbacks: yes.
/// Errors: WSABI_E_INVALID, WSABI_E_UNSUPPORTED, WSABI_E_RESOLVE, WSABI_E_LISTEN (the text names
/// the address), WSABI_E_THREAD, WSABI_E_CLOSED, WSABI_E_FORKED.
///
/// # Safety
/// The pointers are null or valid, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_listen(
    r#loop: *mut wsabi_loop,
    options: *const wsabi_server_options,
    out: *mut wsabi_server,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { listen(r#loop, options, out) })
    })
}

/// # Safety
/// The pointers are null or valid, and the loop was not freed.
unsafe fn listen(
    pointer: *mut wsabi_loop,
    options: *const wsabi_server_options,
    out: *mut wsabi_server,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let host = unsafe { wsabi_loop::get(pointer) }?;
    if options.is_null() {
        return Err(invalid("options is NULL"));
    }
    if out.is_null() {
        return Err(invalid("out is NULL"));
    }
    // SAFETY: the caller's promise.
    let given = unsafe { read_options(options, "wsabi_server_options") }?;
    // SAFETY: the caller's promise.
    let mut options = unsafe { server_options(&given) }?;
    host.command(|context| {
        let mut table = host.table.borrow_mut();
        let tag = table.add(given.handlers);
        options.tag = tag;
        match context.listen(&options) {
            Ok(server) => {
                table.add_server(server, tag);
                // SAFETY: it is not null and, by the caller's promise, valid.
                unsafe { out.write(server.as_u64()) };
                Ok(())
            }
            Err(error) => {
                table.remove(tag);
                Err(error)
            }
        }
    })
}

/// The port a server listens on; 0 for a unix socket.
///
/// out: receives it; not written on failure. Thread: the loop's. Inside callbacks: yes.
/// Errors: WSABI_E_INVALID, WSABI_E_CLOSED, WSABI_E_THREAD.
///
/// # Safety
/// The pointers are null or valid, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_server_port(
    r#loop: *const wsabi_loop,
    server: wsabi_server,
    out: *mut u16,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            if out.is_null() {
                return Err(invalid("out is NULL"));
            }
            let id = server_id(server)?;
            let port = host.command(|context| context.server_addr(id).map(PeerAddr::port))?;
            // SAFETY: it is not null and, by the caller's promise, valid.
            unsafe { out.write(port) };
            Ok(())
        }))
    })
}

/// The address a server listens on, such as "127.0.0.1:8080"; the first, if its host has several.
///
/// buf: receives the address and a NUL, if size is enough. len: NULL, or receives the length
/// without the NUL, also if size is not enough.
/// Thread: the loop's. Inside callbacks: yes.
/// Errors: WSABI_E_INVALID (also for too small a buffer), WSABI_E_CLOSED, WSABI_E_THREAD.
///
/// # Safety
/// The pointers are null or valid, `buf` for `size` bytes, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_server_address(
    r#loop: *const wsabi_loop,
    server: wsabi_server,
    buf: *mut c_char,
    size: usize,
    len: *mut usize,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let id = server_id(server)?;
            let address =
                host.command(|context| context.server_addr(id).map(ToString::to_string))?;
            // SAFETY: the caller's promise.
            unsafe { copy_text(&address, buf, size, len) }
        }))
    })
}

/// Stops a server: it accepts no more, closes its connections with code 1001, and ends those that
/// are left after grace_ms (0: 10 seconds). on_stopped comes when none is left.
///
/// Thread: any; from another than the loop's, a stale number is not told. Inside callbacks: yes.
/// Errors: WSABI_E_INVALID, WSABI_E_CLOSED, WSABI_E_STATE if it is stopping already, WSABI_E_FULL
/// from another thread.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_server_stop(
    r#loop: *mut wsabi_loop,
    server: wsabi_server,
    grace_ms: u32,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let id = server_id(server)?;
            let grace = if grace_ms == 0 {
                DEFAULT_GRACE
            } else {
                Duration::from_millis(grace_ms.into())
            };
            if host.is_home() {
                host.command(|context| context.stop_server(id, grace))
            } else {
                host.handle().stop_server(id, grace)
            }
        }))
    })
}

/// Starts to connect to a URL such as "ws://example.com/chat?room=1". Exactly one on_close follows,
/// whether or not on_open comes before; nothing is called before this returns.
///
/// options: NULL for the defaults; everything in it is copied. out: receives the connection's
/// number; not written on failure. Names are resolved by a thread of the library.
/// Thread: the loop's. Inside callbacks: yes.
/// Errors: WSABI_E_INVALID, WSABI_E_UNSUPPORTED (wss), WSABI_E_THREAD, WSABI_E_CLOSED,
/// WSABI_E_FORKED. What goes wrong later is told by on_close.
///
/// # Safety
/// The pointers are null or valid, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_connect(
    r#loop: *mut wsabi_loop,
    url: *const c_char,
    options: *const wsabi_client_options,
    out: *mut wsabi_conn,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { connect(r#loop, url, options, out) })
    })
}

/// # Safety
/// The pointers are null or valid, and the loop was not freed.
unsafe fn connect(
    pointer: *mut wsabi_loop,
    url: *const c_char,
    options: *const wsabi_client_options,
    out: *mut wsabi_conn,
) -> Result<()> {
    // SAFETY: the caller's promise.
    let host = unsafe { wsabi_loop::get(pointer) }?;
    if out.is_null() {
        return Err(invalid("out is NULL"));
    }
    // SAFETY: the caller's promise.
    let url = unsafe { text(url, "url") }?.ok_or_else(|| invalid("url is NULL"))?;
    // SAFETY: the caller's promise.
    let given = unsafe { read_options(options, "wsabi_client_options") }?;
    // SAFETY: the caller's promise.
    let mut options = unsafe { client_options(&given) }?;
    host.command(|context| {
        let mut table = host.table.borrow_mut();
        options.tag = table.add(given.handlers);
        match context.connect(url, &options) {
            Ok(conn) => {
                // SAFETY: it is not null and, by the caller's promise, valid.
                unsafe { out.write(conn.as_u64()) };
                Ok(())
            }
            Err(error) => {
                table.remove(options.tag);
                Err(error)
            }
        }
    })
}
