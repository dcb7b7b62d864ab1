//! The commands that JavaScript gives for each message, as bare Node-API functions.
//!
//! A connection is two numbers here, the halves of its own. A command answers nothing, or 1 if
//! JavaScript has to see to a flush, or the negative number of an error, or the text of that of a full
//! backlog.
//!
//! Does not know: what a WebSocket is in JavaScript.

use core::ffi::CStr;
use core::ptr;
use std::panic::{AssertUnwindSafe, catch_unwind};

use napi::sys::{self, napi_callback_info, napi_env, napi_value};
use wsabi::{Compress, Conn, ConnId, Context, Error, ErrorKind, MessageType, Result, State};

use crate::host::Host;
use crate::js;
use crate::prepared::{broadcast, prepare, send_prepared};

/// The flags of a send.
pub(crate) const TEXT: u32 = 1;
const FRAGMENT: u32 = 2;
const FIN: u32 = 4;
/// JavaScript has decided that the message is compressed; without this it is not.
const COMPRESS: u32 = 8;
/// The data need not be copied: it does not change until it is written.
const LENT: u32 = 16;

type Callback = extern "C" fn(napi_env, napi_callback_info) -> napi_value;

/// All commands, with their names.
pub(crate) const ALL: [(&CStr, Callback); 16] = [
    (c"sendText", send_text),
    (c"sendBytes", send_bytes),
    (c"sendPrepared", send_prepared),
    (c"prepare", prepare),
    (c"broadcast", broadcast),
    (c"ping", ping),
    (c"pong", pong),
    (c"answerPing", answer_ping),
    (c"close", close),
    (c"terminate", terminate),
    (c"pause", pause),
    (c"resume", resume),
    (c"buffered", buffered),
    (c"progress", progress),
    (c"flush", flush),
    (c"writeAtOnce", write_at_once),
];

/// Carries out a command with its arguments, inside of a boundary for panics.
#[inline]
pub(crate) fn enter<const N: usize>(
    env: napi_env,
    info: napi_callback_info,
    act: impl FnOnce(&Host, [napi_value; N]) -> napi_value,
) -> napi_value {
    let (values, data) = js::arguments(env, info);
    // SAFETY: the functions are made with a host that lives as long as the environment.
    let host = unsafe { &*data.cast::<Host>() };
    catch_unwind(AssertUnwindSafe(|| act(host, values)))
        .unwrap_or_else(|_| js::throw(env, "a defect in wsabi was caught"))
}

/// The connection of the first two arguments.
#[inline]
pub(crate) fn connection(host: &Host, values: &[napi_value]) -> Result<ConnId> {
    let (index, generation) = (
        js::to_uint(host.env(), values[0]),
        js::to_uint(host.env(), values[1]),
    );
    id_of(index, generation)
        .ok_or_else(|| Error::new(ErrorKind::Closed, "there is no such connection"))
}

#[inline]
pub(crate) fn id_of(index: u32, generation: u32) -> Option<ConnId> {
    ConnId::from_u64(u64::from(generation) << 32 | u64::from(index))
}

/// The octets of a frame: header, masking key of a client, payload.
const fn frame_len(len: usize, masked: bool) -> u64 {
    let extended = match len {
        0..126 => 0,
        126..0x1_0000 => 2,
        _ => 8,
    };
    2 + extended + if masked { 4 } else { 0 } + len as u64
}

/// Lets JavaScript know if output may wait now.
#[inline]
fn see_to_waiting(host: &Host, conn: &Conn<'_>) {
    if is_waiting(conn) {
        host.batch.borrow().wait();
    }
}

/// Counts what was sent, in the connection's own number: see [`progress`]. Sees to what JavaScript
/// knows of what waits, too.
#[inline]
fn count(host: &Host, context: &mut Context, id: ConnId, len: usize) {
    let mut conn = context.conn(id);
    see_to_waiting(host, &conn);
    let sent = conn.user() + frame_len(len, conn.server().is_none());
    // Fails for a stale number only, which has just taken a message.
    let _ = conn.set_user(sent);
}

/// Carries out what sends a message whose frame may have another length than it was given, and counts
/// by what was added to the output.
pub(crate) fn counted(
    host: &Host,
    context: &mut Context,
    id: ConnId,
    act: impl FnOnce(&mut Conn<'_>) -> Result<()>,
) -> Result<()> {
    let before = context.conn(id).buffered() + context.bytes_sent();
    let mut conn = context.conn(id);
    act(&mut conn)?;
    see_to_waiting(host, &conn);
    let (sent, left) = (conn.user(), conn.buffered());
    // Less than before if the transport has turned out to be broken, and then nothing matters.
    let added = (left + context.bytes_sent()).saturating_sub(before);
    let _ = context.conn(id).set_user(sent + added);
    Ok(())
}

const fn type_of(flags: u32) -> MessageType {
    if flags & TEXT == 0 {
        MessageType::Binary
    } else {
        MessageType::Text
    }
}

#[inline]
fn send(host: &Host, id: ConnId, payload: &[u8], flags: u32) -> Result<()> {
    if flags & COMPRESS != 0 {
        return send_compressed(host, id, payload, flags);
    }
    host.command(|context| {
        let mut conn = context.conn(id);
        let (message_type, never) = (type_of(flags), Compress::Never);
        if flags & FRAGMENT == 0 {
            conn.send_with(message_type, payload, never)?;
        } else {
            conn.send_fragment_with(message_type, payload, flags & FIN != 0, never)?;
        }
        count(host, context, id, payload.len());
        Ok(())
    })
}

fn send_compressed(host: &Host, id: ConnId, payload: &[u8], flags: u32) -> Result<()> {
    let (message_type, always) = (type_of(flags), Compress::Always);
    host.command(|context| {
        counted(host, context, id, |conn| {
            if flags & FRAGMENT == 0 {
                conn.send_with(message_type, payload, always)?;
            } else {
                conn.send_fragment_with(message_type, payload, flags & FIN != 0, always)?;
            }
            Ok(())
        })
    })
}

/// Sends a whole message from the memory that its view has, if that can be lent; tells whether.
fn send_lent(host: &Host, id: ConnId, view: napi_value, flags: u32) -> Option<Result<()>> {
    let payload = host.lend(id, view)?;
    Some(host.command(|context| {
        let mut conn = context.conn(id);
        conn.send_owned(type_of(flags), &payload, Compress::Never)?;
        count(host, context, id, payload.len());
        Ok(())
    }))
}

extern "C" fn send_text(env: napi_env, info: napi_callback_info) -> napi_value {
    enter(env, info, |host, values: [napi_value; 4]| {
        let flags = js::to_uint(env, values[3]);
        let mut buffer = host.text.borrow_mut();
        let result = connection(host, &values).and_then(|id| {
            match js::read_text(env, values[2], &mut buffer) {
                Some(payload) => send(host, id, payload, flags),
                None => Err(Error::new(ErrorKind::NoMemory, "no memory for the text")),
            }
        });
        js::reuse(&mut buffer);
        host.answer(result)
    })
}

/// Carries out a command on octets, which are its third argument.
#[inline]
fn with_bytes<const N: usize>(
    env: napi_env,
    info: napi_callback_info,
    act: impl FnOnce(&Host, ConnId, &[u8], [napi_value; N]) -> Result<()>,
) -> napi_value {
    enter(env, info, |host, values: [napi_value; N]| {
        let result = connection(host, &values).and_then(|id| {
            // SAFETY: no command runs JavaScript.
            match unsafe { js::to_bytes(env, values[2]) } {
                Some(payload) => act(host, id, payload, values),
                None => Err(Error::new(ErrorKind::Invalid, "the data is not a view")),
            }
        });
        host.answer(result)
    })
}

extern "C" fn send_bytes(env: napi_env, info: napi_callback_info) -> napi_value {
    with_bytes(env, info, |host, id, payload, values: [napi_value; 4]| {
        let flags = js::to_uint(env, values[3]);
        if flags & LENT != 0
            && let Some(sent) = send_lent(host, id, values[2], flags)
        {
            return sent;
        }
        send(host, id, payload, flags)
    })
}

extern "C" fn ping(env: napi_env, info: napi_callback_info) -> napi_value {
    with_bytes(env, info, |host, id, payload, _: [napi_value; 3]| {
        host.command(|context| {
            context.conn(id).ping(payload)?;
            count(host, context, id, payload.len());
            Ok(())
        })
    })
}

/// Answers a ping: not counted, so that [`progress`] may tell a little less than is written.
extern "C" fn answer_ping(env: napi_env, info: napi_callback_info) -> napi_value {
    with_bytes(env, info, |host, id, payload, _: [napi_value; 3]| {
        host.command(|context| {
            let mut conn = context.conn(id);
            conn.answer_ping(payload)?;
            see_to_waiting(host, &conn);
            Ok(())
        })
    })
}

extern "C" fn pong(env: napi_env, info: napi_callback_info) -> napi_value {
    with_bytes(env, info, |host, id, payload, _: [napi_value; 3]| {
        host.command(|context| {
            context.conn(id).pong(payload)?;
            count(host, context, id, payload.len());
            Ok(())
        })
    })
}

/// Closes with a code, 0 for none, and a reason.
extern "C" fn close(env: napi_env, info: napi_callback_info) -> napi_value {
    enter(env, info, |host, values: [napi_value; 4]| {
        let code = u16::try_from(js::to_uint(env, values[2])).unwrap_or(u16::MAX);
        let mut buffer = host.text.borrow_mut();
        let reason = js::read_text(env, values[3], &mut buffer).unwrap_or_default();
        let reason = String::from_utf8_lossy(reason).into_owned();
        js::reuse(&mut buffer);
        let result = connection(host, &values).and_then(|id| {
            host.command(|context| {
                let mut conn = context.conn(id);
                conn.close((code != 0).then_some(code), &reason)
            })
        });
        host.answer(result)
    })
}

/// Carries out a command that has no arguments.
#[inline]
fn plain(
    env: napi_env,
    info: napi_callback_info,
    act: impl FnOnce(&mut Context, ConnId) -> Result<()>,
) -> napi_value {
    enter(env, info, |host, values: [napi_value; 2]| {
        let result =
            connection(host, &values).and_then(|id| host.command(|context| act(context, id)));
        host.answer(result)
    })
}

extern "C" fn terminate(env: napi_env, info: napi_callback_info) -> napi_value {
    plain(env, info, |context, id| context.conn(id).terminate())
}

extern "C" fn pause(env: napi_env, info: napi_callback_info) -> napi_value {
    enter(env, info, |host, values: [napi_value; 2]| {
        // Nothing is to be written because of it, so there is nothing to answer.
        let _ = connection(host, &values)
            .and_then(|id| host.command(|context| context.conn(id).pause()));
        ptr::null_mut()
    })
}

extern "C" fn resume(env: napi_env, info: napi_callback_info) -> napi_value {
    plain(env, info, |context, id| context.conn(id).resume())
}

/// What is gathered of one turn and is less than this counts as written: `ws` would have written it,
/// and wsabi does not wait with more.
const SOON: u64 = 128 << 10;

/// Whether [`buffered`] has something to tell or to do. While JavaScript is told of messages it
/// knows the answer, so that most of those who ask before they send need no command.
#[inline]
pub(crate) fn is_waiting(conn: &Conn<'_>) -> bool {
    conn.buffered() >= SOON || conn.is_blocked()
}

/// How much waits to be written because the kernel does not take it.
extern "C" fn buffered(env: napi_env, info: napi_callback_info) -> napi_value {
    number(env, info, |context, id| {
        let mut conn = context.conn(id);
        if !is_waiting(&conn) {
            return 0;
        }
        if !conn.is_blocked() {
            // Fails only for a connection that has ended, of which nothing waits.
            let _ = conn.flush();
        }
        conn.buffered()
    })
}

/// How much of what was sent is in the kernel's hands, at least: what waits may also be wsabi's own
/// control frames. With nothing waiting it is everything that [`count`] has counted.
///
/// Of a connection that has ended or cannot be written to it is nothing: what was dropped does not
/// wait any more, and was not written either. Its end tells how much that is.
///
/// With a third argument, how much was sent; and JavaScript is told when it has been written.
extern "C" fn progress(env: napi_env, info: napi_callback_info) -> napi_value {
    enter(env, info, |host, values: [napi_value; 3]| {
        let to_be_told = js::to_uint(env, values[2]) != 0;
        if to_be_told {
            host.watch_writes();
        }
        let result = connection(host, &values).and_then(|id| {
            host.command(|context| {
                let conn = context.conn(id);
                if to_be_told {
                    return Ok(conn.user());
                }
                if conn.is_broken() || conn.state() == State::Closed {
                    return Ok(0);
                }
                Ok(conn.user().saturating_sub(conn.buffered()))
            })
        });
        js::double(env, result.unwrap_or(0) as f64)
    })
}

fn number(
    env: napi_env,
    info: napi_callback_info,
    ask: impl FnOnce(&mut Context, ConnId) -> u64,
) -> napi_value {
    enter(env, info, |host, values: [napi_value; 2]| {
        let answer =
            connection(host, &values).and_then(|id| host.command(|context| Ok(ask(context, id))));
        js::double(env, answer.unwrap_or(0) as f64)
    })
}

extern "C" fn flush(env: napi_env, info: napi_callback_info) -> napi_value {
    enter(env, info, |host, _: [napi_value; 0]| {
        host.flush();
        ptr::null_mut()
    })
}

/// The process is about to exit: writes what was sent, and from now on at once.
extern "C" fn write_at_once(env: napi_env, info: napi_callback_info) -> napi_value {
    enter(env, info, |host, _: [napi_value; 0]| {
        host.flush();
        // Fails as `flush` may.
        let _ = host.command(|context| context.defer_writes(false));
        ptr::null_mut()
    })
}

/// Reports an error that a listener has thrown, as Node reports one of its own callbacks.
///
/// The only function that runs JavaScript, so it is not inside of a command.
pub(crate) extern "C" fn report(env: napi_env, info: napi_callback_info) -> napi_value {
    let ([error], _) = js::arguments(env, info);
    // SAFETY: this is called by JavaScript, on the environment's thread.
    unsafe { sys::napi_fatal_exception(env, error) };
    ptr::null_mut()
}
