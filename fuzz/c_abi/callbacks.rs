//! The callbacks: they check what they are given and go on with the sequence of calls.
//!
//! Does not know: which calls are made.

use core::ffi::c_void;
use core::ptr;
use core::slice;

use crate::calls;
use crate::conn::{wsabi_conn_server, wsabi_conn_state};
use crate::handshake::{
    wsabi_handshake_header, wsabi_handshake_header_at, wsabi_handshake_header_count,
    wsabi_handshake_method, wsabi_handshake_path, wsabi_handshake_query, wsabi_handshake_status,
    wsabi_handshake_subprotocol_at, wsabi_handshake_subprotocol_count, wsabi_handshake_target,
};
use crate::host::wsabi_loop;
use crate::messages::{WSABI_CHUNK_FIRST, WSABI_CHUNK_LAST, WSABI_TEXT, wsabi_message};
use crate::types::{
    WSABI_STATE_CONNECTING, WSABI_STATE_OPEN, wsabi_close, wsabi_conn, wsabi_error, wsabi_handlers,
    wsabi_handshake, wsabi_header, wsabi_server, wsabi_stopped, wsabi_str,
};
use crate::world::{End, Owner, World, check, user};

pub(crate) fn handlers(owner: *const Owner, is_server: bool, chunks: bool) -> wsabi_handlers {
    wsabi_handlers {
        on_upgrade: is_server.then_some(on_upgrade as _),
        on_http: is_server.then_some(on_http as _),
        on_open: Some(on_open),
        on_message: Some(on_message),
        on_chunk: chunks.then_some(on_chunk as _),
        on_drain: Some(on_drain),
        on_ping: Some(on_ping),
        on_pong: Some(on_pong),
        on_close: Some(on_close),
        on_error: is_server.then_some(on_error as _),
        on_stopped: is_server.then_some(on_stopped as _),
        reserved: [ptr::null_mut(); 5],
        user: user(owner),
    }
}

/// Whose callback it is; it is one of a loop that is dispatching.
///
/// # Safety
/// `user` came from [`World::owner`], and the world lives.
unsafe fn enter<'a>(
    pointer: *mut wsabi_loop,
    user: *mut c_void,
) -> (&'a World<'static>, &'a Owner) {
    // SAFETY: the caller's promise.
    let owner = unsafe { &*user.cast::<Owner>() };
    // SAFETY: as above.
    let world = unsafe { &*owner.world };
    let state = &world.loops[owner.at];
    assert_eq!(state.pointer, pointer, "a callback of another loop");
    assert!(state.depth.get() > 0, "a callback outside of a dispatch");
    assert!(!owner.ended.get(), "a callback after the last");
    (world, owner)
}

/// Some calls out of a callback.
fn go_on(world: &World<'_>) {
    for _ in 0..world.below(4) {
        if world.may_call() {
            calls::call(world);
        }
    }
}

/// The octets of a view, all of them read.
///
/// # Safety
/// The view points to as many octets as it says.
unsafe fn octets(view: wsabi_str) -> Vec<u8> {
    if view.len == 0 {
        return Vec::new();
    }
    // SAFETY: the caller's promise.
    unsafe { slice::from_raw_parts(view.data.cast::<u8>(), view.len) }.to_vec()
}

/// Reads everything of a handshake, and gives the path.
///
/// # Safety
/// It is the handshake of the callback that is being made.
unsafe fn read(handshake: *const wsabi_handshake) -> Vec<u8> {
    // SAFETY: the caller's promise; what is written to is valid.
    unsafe {
        let target = octets(wsabi_handshake_target(handshake));
        let path = octets(wsabi_handshake_path(handshake));
        let query = octets(wsabi_handshake_query(handshake));
        let method = octets(wsabi_handshake_method(handshake));
        let is_request = wsabi_handshake_status(handshake) == 0;
        assert_eq!(
            (is_request, is_request),
            (!method.is_empty(), !path.is_empty())
        );
        assert!(target.len() >= query.len());
        let mut header = wsabi_header {
            name: calls::EMPTY,
            value: calls::EMPTY,
        };
        let count = wsabi_handshake_header_count(handshake);
        for index in 0..count {
            assert_eq!(
                wsabi_handshake_header_at(handshake, index, &raw mut header),
                0
            );
            let mut name = octets(header.name);
            assert!(!name.is_empty());
            name.push(0);
            let found = wsabi_handshake_header(handshake, name.as_ptr().cast());
            assert!(!found.data.is_null() || header.value.len == 0);
            octets(header.value);
        }
        assert_eq!(
            wsabi_handshake_header_at(handshake, count, &raw mut header),
            -1
        );
        let count = wsabi_handshake_subprotocol_count(handshake);
        let mut name = calls::EMPTY;
        for index in 0..count {
            assert_eq!(
                wsabi_handshake_subprotocol_at(handshake, index, &raw mut name),
                0
            );
            assert!(!octets(name).is_empty());
        }
        assert_eq!(
            wsabi_handshake_subprotocol_at(handshake, count, &raw mut name),
            -1
        );
        path
    }
}

unsafe extern "C" fn on_upgrade(
    pointer: *mut wsabi_loop,
    conn: wsabi_conn,
    request: *const wsabi_handshake,
    user: *mut c_void,
) -> i32 {
    // SAFETY: the library gives what it was given, and the request of this callback.
    let ((world, owner), path) = unsafe { (enter(pointer, user), read(request)) };
    assert!(world.find(owner.at, conn).is_none(), "a number comes once");
    // SAFETY: the loop is alive.
    assert_eq!(
        unsafe { wsabi_conn_state(pointer, conn) },
        WSABI_STATE_CONNECTING
    );
    let mut ends = world.ends.borrow_mut();
    let own = format!("/{}/", world.run);
    let peer = path.strip_prefix(own.as_bytes());
    let peer = peer.and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
    let place = ends.len();
    ends.push(End {
        at: owner.at,
        id: conn,
        is_server: true,
        peer,
        ..End::default()
    });
    if let Some(peer) = peer {
        let other: &mut End = &mut ends[peer];
        assert!(!other.is_server && other.peer.is_none());
        other.peer = Some(place);
    }
    drop(ends);
    go_on(world);
    match world.next::<u8>() {
        0..=199 => 0,
        200..=219 => 1,
        220..=249 => 2,
        other => i32::from(other),
    }
}

unsafe extern "C" fn on_http(
    pointer: *mut wsabi_loop,
    conn: wsabi_conn,
    request: *const wsabi_handshake,
    user: *mut c_void,
) {
    // SAFETY: as in `on_upgrade`.
    let ((world, owner), _) = unsafe { (enter(pointer, user), read(request)) };
    assert!(world.find(owner.at, conn).is_none(), "a number comes once");
    let end = End {
        at: owner.at,
        id: conn,
        is_server: true,
        ..End::default()
    };
    world.ends.borrow_mut().push(end);
    go_on(world);
}

unsafe extern "C" fn on_open(
    pointer: *mut wsabi_loop,
    conn: wsabi_conn,
    handshake: *const wsabi_handshake,
    user: *mut c_void,
) {
    // SAFETY: as in `on_upgrade`.
    let ((world, owner), _) = unsafe { (enter(pointer, user), read(handshake)) };
    // SAFETY: the loop is alive.
    assert_eq!(unsafe { wsabi_conn_state(pointer, conn) }, WSABI_STATE_OPEN);
    let mut server = u64::MAX;
    // SAFETY: as above, and the place is valid.
    assert_eq!(
        unsafe { wsabi_conn_server(pointer, conn, &raw mut server) },
        0
    );
    assert_eq!(server != 0, owner.is_server);
    let place = world.find(owner.at, conn).expect("it was told of before");
    {
        let end = &mut world.ends.borrow_mut()[place];
        assert!(!end.opened && !end.closed && end.is_server == owner.is_server);
        end.opened = true;
    }
    go_on(world);
}

/// The place of an open connection in the list.
fn open_end(world: &World<'_>, owner: &Owner, conn: wsabi_conn) -> usize {
    let place = world.find(owner.at, conn).expect("it was told of before");
    let end = &world.ends.borrow()[place];
    assert!(
        end.opened && !end.closed,
        "a callback before the first or after the last"
    );
    place
}

unsafe extern "C" fn on_message(
    pointer: *mut wsabi_loop,
    conn: wsabi_conn,
    message: *const wsabi_message,
    user: *mut c_void,
) {
    // SAFETY: as in `on_upgrade`, and the message lives.
    let ((world, owner), message) = unsafe { (enter(pointer, user), &*message) };
    let place = open_end(world, owner, conn);
    assert!(!message.data.is_null() && message.struct_size == size_of::<wsabi_message>());
    // SAFETY: the message has as many octets.
    let payload = unsafe { slice::from_raw_parts(message.data.cast::<u8>(), message.len) };
    heard(world, place, message.r#type, payload);
    go_on(world);
}

/// A whole message has arrived: the next of the peer's.
fn heard(world: &World<'_>, place: usize, kind: u32, payload: &[u8]) {
    assert!(kind != WSABI_TEXT || std::str::from_utf8(payload).is_ok());
    let mut ends = world.ends.borrow_mut();
    let heard = ends[place].heard;
    ends[place].heard += 1;
    let sure = |peer: &usize| !ends[*peer].unsure;
    if let Some(peer) = ends[place].peer.filter(sure) {
        let (sent_kind, sent) = ends[peer].sent.get(heard).expect("it was sent");
        assert!(
            (*sent_kind, sent.as_slice()) == (kind, payload),
            "another message"
        );
    }
}

unsafe extern "C" fn on_chunk(
    pointer: *mut wsabi_loop,
    conn: wsabi_conn,
    kind: u32,
    data: *const c_void,
    len: usize,
    flags: u32,
    user: *mut c_void,
) {
    // SAFETY: as in `on_upgrade`.
    let (world, owner) = unsafe { enter(pointer, user) };
    let place = open_end(world, owner, conn);
    let (first, last) = (
        flags & WSABI_CHUNK_FIRST != 0,
        flags & WSABI_CHUNK_LAST != 0,
    );
    assert!(!data.is_null() && flags < 4 && (len > 0 || last));
    // SAFETY: the chunk has as many octets.
    let payload = unsafe { slice::from_raw_parts(data.cast::<u8>(), len) };
    assert!(
        kind != WSABI_TEXT || std::str::from_utf8(payload).is_ok(),
        "text is cut in a character"
    );
    let begun = world.ends.borrow_mut()[place].begun.take();
    assert_eq!(begun.is_none(), first);
    let (begun, mut whole) = begun.unwrap_or((kind, Vec::new()));
    assert_eq!(begun, kind);
    whole.extend_from_slice(payload);
    if last {
        heard(world, place, kind, &whole);
    } else {
        world.ends.borrow_mut()[place].begun = Some((kind, whole));
    }
    go_on(world);
}

unsafe extern "C" fn on_drain(pointer: *mut wsabi_loop, conn: wsabi_conn, user: *mut c_void) {
    // SAFETY: as in `on_upgrade`.
    let (world, owner) = unsafe { enter(pointer, user) };
    open_end(world, owner, conn);
    go_on(world);
}

unsafe extern "C" fn on_ping(
    pointer: *mut wsabi_loop,
    conn: wsabi_conn,
    data: *const u8,
    len: usize,
    user: *mut c_void,
) {
    // SAFETY: as in `on_upgrade`.
    let (world, owner) = unsafe { enter(pointer, user) };
    open_end(world, owner, conn);
    assert!(len <= 125);
    // SAFETY: the payload has as many octets.
    unsafe { slice::from_raw_parts(data, len) }.to_vec();
    go_on(world);
}

unsafe extern "C" fn on_pong(
    pointer: *mut wsabi_loop,
    conn: wsabi_conn,
    data: *const u8,
    len: usize,
    user: *mut c_void,
) {
    // SAFETY: as in `on_ping`.
    unsafe { on_ping(pointer, conn, data, len, user) };
}

unsafe extern "C" fn on_close(
    pointer: *mut wsabi_loop,
    conn: wsabi_conn,
    close: *const wsabi_close,
    user: *mut c_void,
) {
    // SAFETY: as in `on_upgrade`, and the close lives.
    let ((world, owner), close) = unsafe { (enter(pointer, user), &*close) };
    let place = world.find(owner.at, conn).expect("it was told of before");
    {
        let mut ends = world.ends.borrow_mut();
        let end = &mut ends[place];
        assert!(!end.closed, "the last callback comes once");
        assert!(
            end.opened || !end.is_server,
            "a server is told of what has opened"
        );
        end.closed = true;
        end.dropped = close.messages_dropped;
        assert!(end.opened || close.clean == 0);
        if close.clean == 1
            && let Some(peer) = end.peer
        {
            let heard = end.heard;
            assert!(heard <= ends[peer].sent.len());
        }
    }
    check(close.status);
    assert!(close.clean == 0 || (close.status == 0 && close.messages_dropped == 0));
    assert!(close.clean == 0 || close.code != 1006);
    // SAFETY: the views live as long as the callback.
    let (reason, detail) = unsafe { (octets(close.reason), octets(close.detail)) };
    assert!(reason.len() <= 123 && std::str::from_utf8(&reason).is_ok());
    assert_eq!(close.status == 0, detail.is_empty());
    go_on(world);
    if !owner.is_server {
        owner.ended.set(true);
    }
}

unsafe extern "C" fn on_error(
    pointer: *mut wsabi_loop,
    _: wsabi_server,
    error: *const wsabi_error,
    user: *mut c_void,
) {
    // SAFETY: as in `on_upgrade`, and the error lives.
    let ((world, _), error) = unsafe { (enter(pointer, user), &*error) };
    assert!(check(error.status) < 0);
    // SAFETY: the views live as long as the callback.
    assert!(unsafe { !octets(error.detail).is_empty() });
    go_on(world);
}

unsafe extern "C" fn on_stopped(
    pointer: *mut wsabi_loop,
    server: wsabi_server,
    counts: *const wsabi_stopped,
    user: *mut c_void,
) {
    // SAFETY: as in `on_upgrade`, and the counts live.
    let ((world, owner), counts) = unsafe { (enter(pointer, user), &*counts) };
    let servers = world.servers.borrow();
    let mut known = servers
        .iter()
        .filter(|s| s.at == owner.at && s.id == server);
    assert!(known.next().is_some_and(|s| ptr::eq(s.owner, owner)));
    drop(servers);
    let all = world
        .ends
        .borrow()
        .iter()
        .filter(|end| end.is_server && end.opened)
        .count();
    assert!(counts.clean + counts.forced <= all as u64);
    go_on(world);
    owner.ended.set(true);
}

/// A call that was posted.
pub(crate) unsafe extern "C" fn posted(pointer: *mut wsabi_loop, user: *mut c_void) {
    // SAFETY: the library gives what it was given: a world that lives.
    let world = unsafe { &*user.cast::<World<'static>>() };
    let state = world.loops.iter().find(|state| state.pointer == pointer);
    assert!(state.is_some_and(|state| state.depth.get() > 0));
    world.made_or_dropped.set(world.made_or_dropped.get() + 1);
    go_on(world);
}

/// A call that was posted and is not made.
pub(crate) unsafe extern "C" fn dropped(user: *mut c_void) {
    // SAFETY: as in `posted`.
    let world = unsafe { &*user.cast::<World<'static>>() };
    world.made_or_dropped.set(world.made_or_dropped.get() + 1);
}
