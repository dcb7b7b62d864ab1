//! The exported functions of a loop: making, dispatching, asking, freeing.
//!
//! Does not know: servers or connections.

use core::cell::Cell;
use core::ffi::c_void;
use core::sync::atomic::Ordering;
use core::time::Duration;

use wsabi::{Context, Error, ErrorKind, LogLevel, Loop, LoopOptions, Result};

use crate::host::{BUSY, Callback, DOOMED, IDLE, free_now, wrong_thread, wsabi_loop};
use crate::options::read_options;
use crate::status::{WSABI_E_PANIC, boundary, fail, status, wsabi_status};
use crate::types::{WSABI_LOG_DEBUG, WSABI_LOG_ERROR, wsabi_log, wsabi_loop_options, wsabi_stats};

/// Makes a loop.
///
/// options: NULL for the defaults. out: receives the loop; not written on failure.
/// Ownership: the caller's, to be freed by wsabi_loop_free.
/// Thread: any; see wsabi_loop. Inside callbacks: yes.
/// Errors: WSABI_E_INVALID, WSABI_E_UNSUPPORTED, WSABI_E_IO.
///
/// # Safety
/// The pointers are null or valid.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_loop_new(
    options: *const wsabi_loop_options,
    out: *mut *mut wsabi_loop,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { new_loop(options, out) })
    })
}

/// # Safety
/// The pointers are null or valid.
unsafe fn new_loop(options: *const wsabi_loop_options, out: *mut *mut wsabi_loop) -> Result<()> {
    if out.is_null() {
        return Err(Error::new(ErrorKind::Invalid, "out is NULL"));
    }
    // SAFETY: the caller's promise.
    let given = unsafe { read_options::<wsabi_loop_options>(options, "wsabi_loop_options") }?;
    let defaults = LoopOptions::default();
    let event_loop = Loop::with_options(LoopOptions {
        max_events: if given.max_events == 0 {
            defaults.max_events
        } else {
            given.max_events
        },
        max_inbox_bytes: if given.max_inbox_bytes == 0 {
            defaults.max_inbox_bytes
        } else {
            given.max_inbox_bytes
        },
        log: log_sink(&given)?,
    })?;
    let host = Box::new(wsabi_loop::new(event_loop));
    // SAFETY: `out` is not null and, by the caller's promise, valid.
    unsafe { out.write(Box::into_raw(host)) };
    Ok(())
}

/// A user's pointer, which the user has promised to be good on the loop's thread.
struct User(*mut c_void);

// SAFETY: the pointer is only handed back to the functions it was given with, whose documentation
// says on which thread they are called.
unsafe impl Send for User {}

fn log_sink(given: &wsabi_loop_options) -> Result<Option<(LogLevel, wsabi::LogSink)>> {
    let level = match given.log_level {
        0 | 2 => LogLevel::Warn,
        1 => LogLevel::Error,
        3 => LogLevel::Info,
        WSABI_LOG_DEBUG => LogLevel::Debug,
        other => {
            return Err(Error::new(
                ErrorKind::Invalid,
                format!(
                    "log_level is {other}; expected 0, or {WSABI_LOG_ERROR} to {WSABI_LOG_DEBUG}"
                ),
            ));
        }
    };
    let (log, user): (wsabi_log, User) = (given.log, User(given.log_user));
    Ok(log.map(|log| {
        let sink: wsabi::LogSink = Box::new(move |level, text| {
            let user = &user;
            // SAFETY: the function and its user pointer were given together, to be called so.
            unsafe { log(level as u32, text.as_ptr().cast(), text.len(), user.0) };
        });
        (level, sink)
    }))
}

/// Frees a loop. Every connection that is left gets its on_close, every server its on_stopped.
///
/// NULL is fine. Inside a callback, and from another thread while the loop is dispatching, it is
/// put off to the end of the dispatch, which then answers WSABI_E_CLOSED; until then calls work. A
/// loop that answers WSABI_E_PANIC is leaked, since nothing in it can be trusted. Other threads
/// must not use the loop any more.
/// Thread: the loop's; any, once that does not use it any more. Inside callbacks: yes.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_loop_free(r#loop: *mut wsabi_loop) {
    boundary((), || {
        // SAFETY: the caller's promise.
        let Ok(host) = (unsafe { wsabi_loop::get(r#loop) }) else {
            return;
        };
        if host.is_home() && host.is_commanding() {
            // A log callback; what it was called from is not done with the loop.
            fail(&Error::new(
                ErrorKind::Reentrant,
                "a log callback cannot free the loop",
            ));
            return;
        }
        match host
            .state()
            .compare_exchange(IDLE, BUSY, Ordering::Acquire, Ordering::Relaxed)
        {
            // SAFETY: no dispatch is under way, and the caller gives the pointer up.
            Ok(_) => unsafe { free_now(r#loop) },
            Err(_) => {
                // Fails only if it is doomed already.
                let _ = host.state().compare_exchange(
                    BUSY,
                    DOOMED,
                    Ordering::AcqRel,
                    Ordering::Relaxed,
                );
                // In the child of a fork there is no dispatch to be ended.
                let _ = host.handle().stop();
            }
        }
    });
}

/// The file descriptor that is readable exactly when wsabi_loop_dispatch has work, timers
/// included; -1 where the platform has none. Watch it level-triggered for reading; do not read
/// from it or close it.
///
/// Ownership: the loop's. Thread: any. Inside callbacks: yes.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_loop_fd(r#loop: *const wsabi_loop) -> i32 {
    boundary(-1, || {
        // SAFETY: the caller's promise.
        match unsafe { wsabi_loop::get(r#loop) } {
            Ok(host) => host.fd(),
            Err(error) => {
                fail(&error);
                -1
            }
        }
    })
}

/// Milliseconds until something may be due, 0 if there is work now, -1 if nothing is. A deadline far
/// ahead may need a step on the way, with nothing to do. Only
/// for hosts that cannot watch the fd, which tells of deadlines too.
///
/// Thread: the loop's. Inside callbacks: no (answers -1).
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_loop_timeout_ms(r#loop: *const wsabi_loop) -> i64 {
    boundary(-1, || {
        // SAFETY: the caller's promise.
        let timeout = unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            if !host.is_home() {
                return Err(wrong_thread());
            }
            if host.state().load(Ordering::Relaxed) != IDLE || host.is_commanding() {
                return Err(Error::new(ErrorKind::Reentrant, "the loop is dispatching"));
            }
            // SAFETY: no dispatch and no command is under way on the loop's thread, which is this.
            Ok(unsafe { &*host.event_loop() }.timeout())
        });
        match timeout {
            Ok(Some(timeout)) => timeout.as_millis().try_into().unwrap_or(i64::MAX),
            Ok(None) => -1,
            Err(error) => {
                fail(&error);
                -1
            }
        }
    })
}

/// Does what there is to do, without waiting, with callbacks.
///
/// more: NULL, or receives 1 if work is left after max_events callbacks, else 0; while it is left
/// the fd stays readable.
/// Thread: the loop's. Inside callbacks: no.
/// Errors: WSABI_E_REENTRANT, WSABI_E_THREAD, WSABI_E_FORKED, WSABI_E_IO; WSABI_E_PANIC after a
/// defect, from then on; WSABI_E_CLOSED if the loop was freed in a callback.
///
/// # Safety
/// The pointers are null or valid, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_loop_dispatch(
    r#loop: *mut wsabi_loop,
    more: *mut u32,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        let result = unsafe { wsabi_loop::get(r#loop) }.and_then(|_| unsafe {
            wsabi_loop::drive(r#loop, |event_loop, driver| event_loop.dispatch(driver))
        });
        status(result.map(|left| {
            if !more.is_null() {
                // SAFETY: it is not null and, by the caller's promise, valid.
                unsafe { more.write(u32::from(left)) };
            }
        }))
    })
}

/// Waits until there is something to do, at most timeout_ms (-1: without end), and does it.
///
/// Thread, callbacks and errors: as wsabi_loop_dispatch.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_loop_poll(r#loop: *mut wsabi_loop, timeout_ms: i64) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        let timeout = u64::try_from(timeout_ms).ok().map(Duration::from_millis);
        // SAFETY: the caller's promise.
        let result = unsafe { wsabi_loop::get(r#loop) }.and_then(|_| unsafe {
            wsabi_loop::drive(r#loop, |event_loop, driver| {
                event_loop.poll(timeout, driver)
            })
        });
        status(result.map(drop))
    })
}

/// Dispatches until wsabi_loop_stop, or until no server, connection or posted call is left.
///
/// Thread, callbacks and errors: as wsabi_loop_dispatch.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_loop_run(r#loop: *mut wsabi_loop) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        let result = unsafe { wsabi_loop::get(r#loop) }.and_then(|_| unsafe {
            wsabi_loop::drive(r#loop, |event_loop, driver| event_loop.run(driver))
        });
        status(result)
    })
}

/// Makes wsabi_loop_run return after the dispatch that is under way, or at once when it is called
/// next. Connections stay as they are.
///
/// Thread: any. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_FORKED.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_loop_stop(r#loop: *mut wsabi_loop) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| host.handle().stop()))
    })
}

thread_local! {
    /// Whether this thread is handing over a call, so that one that is dropped was not accepted.
    static POSTING: Cell<bool> = const { Cell::new(false) };
}

/// A call that was posted: made once, or else dropped.
struct Posted {
    host: *mut wsabi_loop,
    call: unsafe extern "C" fn(r#loop: *mut wsabi_loop, user: *mut c_void),
    drop: Option<unsafe extern "C" fn(user: *mut c_void)>,
    user: *mut c_void,
}

// SAFETY: the pointers are used on the loop's thread, or when it is gone, as wsabi_loop_post
// documents.
unsafe impl Send for Posted {}

impl Posted {
    fn make(mut self, context: &mut Context) {
        self.drop = None;
        // SAFETY: calls are made in a dispatch of the loop, which is alive then.
        let host = unsafe { &*self.host };
        let _callback = Callback::enter(host, context);
        // SAFETY: the function was given to be called so.
        unsafe { (self.call)(self.host, self.user) };
    }
}

impl Drop for Posted {
    fn drop(&mut self) {
        if let Some(drop) = self.drop.take()
            && !POSTING.get()
        {
            // SAFETY: the function was given to be called with this pointer if the call is not made.
            unsafe { drop(self.user) };
        }
    }
}

/// Makes a call on the loop's thread, in the next dispatch, in the order of posting.
///
/// call: must not be NULL. drop: NULL, or called with user instead if the call never will be made,
/// because the loop is freed before; on an error nothing is called.
/// Thread: any. Inside callbacks: yes. Inside call: as inside a callback.
/// Errors: WSABI_E_INVALID, WSABI_E_FULL, WSABI_E_CLOSED, WSABI_E_FORKED.
///
/// # Safety
/// The loop pointer is null, or came from `wsabi_loop_new` and was not freed; the functions accept
/// `user`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_loop_post(
    r#loop: *mut wsabi_loop,
    call: Option<unsafe extern "C" fn(r#loop: *mut wsabi_loop, user: *mut c_void)>,
    drop: Option<unsafe extern "C" fn(user: *mut c_void)>,
    user: *mut c_void,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            let Some(call) = call else {
                return Err(Error::new(ErrorKind::Invalid, "call is NULL"));
            };
            let posted = Posted {
                host: r#loop,
                call,
                drop,
                user,
            };
            POSTING.set(true);
            let accepted = host.handle().post(move |context| posted.make(context));
            POSTING.set(false);
            accepted
        }))
    })
}

/// Lets sends outside of a dispatch wait for wsabi_loop_flush or the next dispatch, instead of
/// writing each at once. For hosts that send many and know when they are done.
///
/// on: 1 or 0. Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID,
/// WSABI_E_THREAD, WSABI_E_FORKED.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_loop_defer(r#loop: *mut wsabi_loop, on: u32) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            if on > 1 {
                return Err(Error::new(
                    ErrorKind::Invalid,
                    format!("on is {on}; expected 0 or 1"),
                ));
            }
            host.command(|context| context.defer_writes(on == 1))
        }))
    })
}

/// Writes everything that waits, as far as the kernel takes it.
///
/// Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_THREAD,
/// WSABI_E_FORKED.
///
/// # Safety
/// The pointer is null, or came from `wsabi_loop_new` and was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_loop_flush(r#loop: *mut wsabi_loop) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(
            unsafe { wsabi_loop::get(r#loop) }
                .and_then(|host| host.command(|context| context.flush_all())),
        )
    })
}

/// Counts and amounts.
///
/// out: receives them. size: sizeof(wsabi_stats) as the caller knows it; later versions add fields
/// at the end, and an older caller gets those it knows.
/// Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_THREAD.
///
/// # Safety
/// The pointers are null or valid, `out` for `size` bytes, and the loop was not freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn wsabi_loop_stats(
    r#loop: *const wsabi_loop,
    out: *mut wsabi_stats,
    size: usize,
) -> wsabi_status {
    boundary(WSABI_E_PANIC, || {
        // SAFETY: the caller's promise.
        status(unsafe { wsabi_loop::get(r#loop) }.and_then(|host| {
            if out.is_null() {
                return Err(Error::new(ErrorKind::Invalid, "out is NULL"));
            }
            let stats = host.command(|context| Ok(context.stats()))?;
            let stats = wsabi_stats {
                connections: stats.connections,
                pending_handshakes: stats.pending_handshakes,
                buffered_bytes: stats.buffered_bytes,
                bytes_received: stats.bytes_received,
                bytes_sent: stats.bytes_sent,
                messages_received: stats.messages_received,
                messages_sent: stats.messages_sent,
                closes_clean: stats.closes_clean,
                closes_lost: stats.closes_lost,
                closes_protocol: stats.closes_protocol,
                closes_timeout: stats.closes_timeout,
                closes_local: stats.closes_local,
                handshakes_failed: stats.handshakes_failed,
            };
            let known = size.min(size_of::<wsabi_stats>());
            // SAFETY: `out` is not null and, by the caller's promise, valid for `size` bytes, of
            // which what this version does not know is zeroed.
            unsafe {
                core::ptr::copy_nonoverlapping(
                    (&raw const stats).cast::<u8>(),
                    out.cast::<u8>(),
                    known,
                );
                out.cast::<u8>().add(known).write_bytes(0, size - known);
            }
            Ok(())
        }))
    })
}
