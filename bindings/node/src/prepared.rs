//! Messages that are made once and sent to many, as bare Node-API functions.
//!
//! To JavaScript one is a value that it can only hand back.
//!
//! Does not know: who the many are.

use core::ffi::c_void;
use core::ptr;

use napi::sys::{self, Status, napi_callback_info, napi_env, napi_value};
use wsabi::{
    Bytes, Compress, Context, Error, ErrorKind, MessageType, Prepared, Reached, Result, Sent, State,
};

use crate::commands::{self, TEXT};
use crate::host::Host;
use crate::js;

/// Whether a message is compressed: neither is from the server's or client's threshold on.
const ALWAYS: u32 = 8;
const NEVER: u32 = 16;

/// `prepare(data, flags)`: gives the message, or the number of an error.
pub(crate) extern "C" fn prepare(env: napi_env, info: napi_callback_info) -> napi_value {
    commands::enter(env, info, |host, [data, flags]: [napi_value; 2]| {
        let flags = js::to_uint(env, flags);
        match made(host, data, flags).and_then(|message| value_of(env, message)) {
            Ok(value) => value,
            Err(error) => js::int(env, error.kind() as i32),
        }
    })
}

fn made(host: &Host, data: napi_value, flags: u32) -> Result<Prepared> {
    let env = host.env();
    let no_memory = || Error::new(ErrorKind::NoMemory, "no memory for the message");
    let copy = |octets: &[u8]| {
        let mut payload = Vec::new();
        payload
            .try_reserve_exact(octets.len())
            .map_err(|_| no_memory())?;
        payload.extend_from_slice(octets);
        Ok(Bytes::from(payload))
    };
    // SAFETY: no JavaScript runs before the octets are copied.
    let payload = match unsafe { js::to_bytes(env, data) } {
        Some(octets) => copy(octets)?,
        None => {
            let mut buffer = host.text.borrow_mut();
            let payload = js::read_text(env, data, &mut buffer)
                .ok_or_else(no_memory)
                .and_then(copy);
            js::reuse(&mut buffer);
            payload?
        }
    };
    let message_type = if flags & TEXT == 0 {
        MessageType::Binary
    } else {
        MessageType::Text
    };
    let compress = match (flags & ALWAYS, flags & NEVER) {
        (0, 0) => Compress::Auto,
        (0, _) => Compress::Never,
        _ => Compress::Always,
    };
    Prepared::new(message_type, payload, compress)
}

/// A value of JavaScript's that keeps the message.
fn value_of(env: napi_env, message: Prepared) -> Result<napi_value> {
    let len = message.payload().len() as i64;
    let data: *mut c_void = Box::into_raw(Box::new(message)).cast();
    let (mut value, mut total) = (ptr::null_mut(), 0);
    // SAFETY: the message is given up to the value, whose end calls `drop_message`.
    let status = unsafe {
        sys::napi_create_external(
            env,
            data,
            Some(drop_message),
            ptr::null_mut(),
            &raw mut value,
        )
    };
    if status != Status::napi_ok {
        // SAFETY: no value has taken the message.
        drop(unsafe { Box::from_raw(data.cast::<Prepared>()) });
        return Err(Error::new(ErrorKind::NoMemory, "no memory for the message"));
    }
    // SAFETY: the environment is the one that is calling.
    unsafe { sys::napi_adjust_external_memory(env, len, &raw mut total) };
    Ok(value)
}

/// JavaScript has no more use for a message.
///
/// # Safety
/// `data` is what `value_of` has given to a value, and this is called once for it.
unsafe extern "C" fn drop_message(env: napi_env, data: *mut c_void, _: *mut c_void) {
    // SAFETY: see above.
    let message = unsafe { Box::from_raw(data.cast::<Prepared>()) };
    let mut total = 0;
    // SAFETY: the environment calls this, so it is there.
    unsafe {
        sys::napi_adjust_external_memory(env, -(message.payload().len() as i64), &raw mut total)
    };
}

/// The message that a value keeps.
fn message_of(env: napi_env, value: napi_value) -> Result<Prepared> {
    let mut data = ptr::null_mut();
    // SAFETY: what is no such value is refused.
    let status = unsafe { sys::napi_get_value_external(env, value, &raw mut data) };
    if status != Status::napi_ok || data.is_null() {
        return Err(Error::new(
            ErrorKind::Invalid,
            "this is no prepared message",
        ));
    }
    // SAFETY: the package's JavaScript gives out no such value and takes none that it has not from
    // `prepare`.
    Ok(unsafe { &*data.cast_const().cast::<Prepared>() }.clone())
}

/// `sendPrepared(index, generation, message)`.
pub(crate) extern "C" fn send_prepared(env: napi_env, info: napi_callback_info) -> napi_value {
    commands::enter(env, info, |host, values: [napi_value; 3]| {
        let result = commands::connection(host, &values).and_then(|id| {
            let message = message_of(env, values[2])?;
            host.command(|context| {
                commands::counted(host, context, id, |conn| {
                    conn.send_prepared(&message).map(drop)
                })
            })
        });
        host.answer(result)
    })
}

/// `broadcast(message, connections, reached)`: sends to the connections whose two numbers are in the
/// Uint32Array `connections`, in turn, and writes into it in the place of each second one whether that
/// connection has accepted it. Into the Uint32Array `reached` goes how many have, how many of those
/// have much to write, and how many have refused it.
pub(crate) extern "C" fn broadcast(env: napi_env, info: napi_callback_info) -> napi_value {
    commands::enter(env, info, |host, values: [napi_value; 3]| {
        let result = message_of(env, values[0]).and_then(|message| {
            // SAFETY: both arrays are the package's own, are seen by nobody else meanwhile, and are
            // two.
            let (connections, reached) = unsafe {
                (
                    js::to_numbers(env, values[1]),
                    js::to_numbers(env, values[2]),
                )
            };
            host.command(|context| {
                let reached_by = broadcast_to(host, context, &message, connections);
                let counts = [reached_by.sent, reached_by.backpressure, reached_by.refused];
                for (place, count) in reached.iter_mut().zip(counts) {
                    *place = u32::try_from(count).unwrap_or(u32::MAX);
                }
                Ok(())
            })
        });
        host.answer(result)
    })
}

/// As [`Context::broadcast`], but counts for each connection what was sent.
fn broadcast_to(
    host: &Host,
    context: &mut Context,
    message: &Prepared,
    connections: &mut [u32],
) -> Reached {
    let mut reached = Reached::default();
    for pair in connections.chunks_exact_mut(2) {
        let (index, generation) = (pair[0], std::mem::take(&mut pair[1]));
        let Some(id) = commands::id_of(index, generation) else {
            continue;
        };
        let mut backpressure = false;
        let sent = commands::counted(host, context, id, |conn| {
            backpressure = conn.send_prepared(message)? == Sent::Backpressure;
            Ok(())
        });
        match sent {
            Ok(()) => {
                pair[1] = 1;
                reached.sent += 1;
                reached.backpressure += u64::from(backpressure);
            }
            // Of one that is open: its backlog is full, it is amid a fragmented message, or there is
            // no memory to compress.
            Err(_) if context.conn(id).state() == State::Open => reached.refused += 1,
            Err(_) => {}
        }
    }
    reached
}
