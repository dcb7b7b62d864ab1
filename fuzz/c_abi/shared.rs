//! Calls with payloads that stay the caller's until a hook says otherwise, and with prepared
//! messages. Each payload has memory of its own, which its hook frees, so that the sanitizer sees
//! every use that comes too late.
//!
//! Does not know: what comes back in callbacks.

use core::ffi::c_void;
use core::ptr;

use crate::calls::{check_send, pick};
use crate::conn::{wsabi_conn_server, wsabi_conn_state};
use crate::host::wsabi_loop;
use crate::messages::{WSABI_TEXT, wsabi_message, wsabi_prepared, wsabi_reached};
use crate::prepared::{
    wsabi_broadcast, wsabi_conn_send_prepared, wsabi_prepared_free, wsabi_prepared_new,
    wsabi_server_broadcast,
};
use crate::send::wsabi_conn_send;
use crate::status::{WSABI_E_CLOSED, WSABI_OK};
use crate::types::WSABI_STATE_OPEN;
use crate::world::{Prepared, World, check};

/// A payload that was given away, until its hook is called.
struct Given {
    world: *const World<'static>,
    payload: Vec<u8>,
}

unsafe extern "C" fn hook(given: *mut c_void) {
    // SAFETY: it came from `Box::into_raw` in `message`, and the hook is called once.
    let given = unsafe { Box::from_raw(given.cast::<Given>()) };
    // SAFETY: the world outlives its loops and prepared messages.
    let world = unsafe { &*given.world };
    world.given_back.set(world.given_back.get() + 1);
}

/// A message of the input, with a hook or without, and what belongs to it.
fn message(world: &World<'_>) -> (wsabi_message, Vec<u8>, *mut Given) {
    let (payload, choice) = (world.payload(), world.next::<u8>());
    let given = Box::new(Given {
        world: ptr::from_ref(world).cast(),
        payload: payload.clone(),
    });
    let (data, len) = (given.payload.as_ptr().cast(), given.payload.len());
    let (given, hooked) = (Box::into_raw(given), choice & 64 != 0);
    let message = wsabi_message {
        struct_size: size_of::<wsabi_message>(),
        r#type: 1 + u32::from(choice & 1),
        compress: u32::from(choice >> 1) % 4,
        data,
        len,
        free_hook: hooked.then_some(hook as _),
        free_arg: if hooked {
            given.cast()
        } else {
            ptr::null_mut()
        },
    };
    (message, payload, given)
}

/// Whether a message can be sent by who may send.
fn is_valid(message: &wsabi_message, payload: &[u8]) -> bool {
    message.compress < 3 && (message.r#type != WSABI_TEXT || std::str::from_utf8(payload).is_ok())
}

/// A call with a message is over: the payload is the library's if there is a hook and it was taken.
fn over(world: &World<'_>, message: &wsabi_message, given: *mut Given, taken: bool) {
    if taken && message.free_hook.is_some() {
        world.given.set(world.given.get() + 1);
    } else {
        // SAFETY: it came from `Box::into_raw`, and nobody has taken it.
        drop(unsafe { Box::from_raw(given) });
    }
}

pub(crate) fn send(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let conn = pick(world, at);
    let (message, payload, given) = message(world);
    let valid = is_valid(&message, &payload) && !is_amid(world, at, conn);
    let place = check_send(world, at, pointer, conn, valid, || {
        // SAFETY: the loop is alive, and the message valid.
        unsafe { wsabi_conn_send(pointer, conn, &raw const message) }
    });
    over(world, &message, given, place.is_some());
    if let Some(place) = place {
        world.ends.borrow_mut()[place]
            .sent
            .push((message.r#type, payload));
    }
}

fn is_amid(world: &World<'_>, at: usize, conn: u64) -> bool {
    let place = world.find(at, conn);
    place.is_some_and(|place| world.ends.borrow()[place].unfinished.is_some())
}

/// Makes a prepared message, or sends one, or frees one.
pub(crate) fn prepared(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let choice = world.below(8);
    let chosen = {
        let all = world.prepared.borrow();
        let index = world.below(4).min(all.len().saturating_sub(1));
        all.get(index)
            .map(|p| (p.pointer, p.kind, p.payload.clone(), index))
    };
    let Some((message, kind, payload, index)) = chosen.filter(|_| choice > 1) else {
        return prepare(world);
    };
    match choice {
        2 => {
            world.prepared.borrow_mut().remove(index);
            // SAFETY: it was not freed, and what was sent of it keeps what it needs.
            unsafe { wsabi_prepared_free(message) };
        }
        3 | 4 => {
            let conn = pick(world, at);
            let valid = !is_amid(world, at, conn);
            let place = check_send(world, at, pointer, conn, valid, || {
                // SAFETY: the loop is alive, and so is the message.
                unsafe { wsabi_conn_send_prepared(pointer, conn, message) }
            });
            if let Some(place) = place {
                world.ends.borrow_mut()[place].sent.push((kind, payload));
            }
        }
        5 => broadcast_to_one(world, at, pointer, message, (kind, payload)),
        _ => broadcast_to_server(world, at, pointer, message, (kind, payload)),
    }
}

fn prepare(world: &World<'_>) {
    let (message, payload, given) = message(world);
    let mut made: *mut wsabi_prepared = ptr::null_mut();
    // SAFETY: the message and the place are valid.
    let status = check(unsafe { wsabi_prepared_new(&raw const message, &raw mut made) });
    assert_eq!(status == WSABI_OK, is_valid(&message, &payload));
    assert_eq!(
        status == WSABI_OK,
        !made.is_null(),
        "written exactly on success"
    );
    over(world, &message, given, status == WSABI_OK);
    if status == WSABI_OK {
        let kind = message.r#type;
        world.prepared.borrow_mut().push(Prepared {
            pointer: made,
            kind,
            payload,
        });
    }
}

const NOBODY: wsabi_reached = wsabi_reached {
    sent: 0,
    backpressure: 0,
    refused: 0,
};

/// To one connection and several that are none.
fn broadcast_to_one(
    world: &World<'_>,
    at: usize,
    pointer: *mut wsabi_loop,
    message: *const wsabi_prepared,
    sent: (u32, Vec<u8>),
) {
    let conn = pick(world, at);
    let (conns, mut reached) = ([0, conn, u64::MAX], NOBODY);
    // SAFETY: the loop is alive, and so is the message; the places are valid.
    unsafe {
        let open = wsabi_conn_state(pointer, conn) == WSABI_STATE_OPEN;
        let status = wsabi_broadcast(pointer, message, conns.as_ptr(), 3, &raw mut reached);
        assert_eq!(check(status), WSABI_OK);
        assert_eq!(reached.sent + reached.refused, open.into());
    }
    if reached.sent == 1 {
        let place = world
            .find(at, conn)
            .expect("an open connection was told of");
        assert!(!is_amid(world, at, conn), "a whole message amid fragments");
        world.ends.borrow_mut()[place].sent.push(sent);
    }
}

fn broadcast_to_server(
    world: &World<'_>,
    at: usize,
    pointer: *mut wsabi_loop,
    message: *const wsabi_prepared,
    sent: (u32, Vec<u8>),
) {
    let server = {
        let servers = world.servers.borrow();
        let found = servers.iter().rev().find(|server| server.at == at);
        found.map_or(1 << 40, |server| server.id)
    };
    let (except, mut reached) = (pick(world, at), NOBODY);
    let mut meant = Vec::new();
    for (place, end) in world.ends.borrow().iter().enumerate() {
        let mut own = 0;
        // SAFETY: the loop is alive, and the place valid.
        unsafe {
            let open = end.at == at && wsabi_conn_state(pointer, end.id) == WSABI_STATE_OPEN;
            if open
                && wsabi_conn_server(pointer, end.id, &raw mut own) == WSABI_OK
                && own == server
                && end.id != except
            {
                meant.push(place);
            }
        }
    }
    // SAFETY: the loop is alive, and so is the message; the place is valid.
    let status = check(unsafe {
        wsabi_server_broadcast(pointer, server, message, except, &raw mut reached)
    });
    assert!(matches!(status, WSABI_OK | WSABI_E_CLOSED));
    if status == WSABI_OK {
        assert_eq!(reached.sent + reached.refused, meant.len() as u64);
        assert!(reached.backpressure <= reached.sent);
    }
    for place in meant.iter().filter(|_| reached.sent > 0) {
        let end = &mut world.ends.borrow_mut()[*place];
        // Which of them have refused it is not told.
        end.unsure |= reached.refused > 0;
        end.sent.push(sent.clone());
    }
}
