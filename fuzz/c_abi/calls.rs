//! The calls, one after another as the input says, right and wrong ones.
//!
//! Does not know: what comes back in callbacks.

use core::ffi::{CStr, c_char, c_void};
use core::ptr;
use std::ffi::CString;
use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::UnixStream;

use crate::callbacks::{dropped, handlers, posted};
use crate::conn::*;
use crate::host::wsabi_loop;
use crate::r#loop::*;
use crate::messages::*;
use crate::send::*;
use crate::server::*;
use crate::shared;
use crate::status::*;
use crate::types::*;
use crate::world::{End, Owner, Server, World, check};

pub(crate) const EMPTY: wsabi_str = wsabi_str {
    data: ptr::null(),
    len: 0,
};

/// Struct sizes that no version has, or that cut fields off.
const SIZES: [usize; 6] = [0, 7, 8, 24, usize::MAX, 1 << 20];

/// Makes the next call.
pub(crate) fn call(world: &World<'_>) {
    let at = world.below(2);
    let Some(pointer) = world.usable(at) else {
        return;
    };
    match world.next::<u8>() % 36 {
        32 | 33 => shared::send(world, at, pointer),
        34 | 35 => shared::prepared(world, at, pointer),
        0..=4 => dispatch(world, at),
        5..=7 => send(world, at, pointer),
        8 => fragment(world, at, pointer),
        9 => control(world, at, pointer),
        10 => close(world, at, pointer),
        11 => command(world, at, |conn| {
            // SAFETY: the loop is alive.
            unsafe { wsabi_conn_terminate(pointer, conn) }
        }),
        12 => command(world, at, |conn| {
            // SAFETY: the loop is alive.
            unsafe { wsabi_conn_pause(pointer, conn) }
        }),
        13 | 14 => command(world, at, |conn| {
            // SAFETY: the loop is alive.
            unsafe { wsabi_conn_resume(pointer, conn) }
        }),
        15 => command(world, at, |conn| {
            // SAFETY: the loop is alive.
            unsafe { wsabi_conn_flush(pointer, conn) }
        }),
        16 => ask(world, at, pointer),
        17 => accept(world, at, pointer),
        18 => respond(world, at, pointer),
        19..=23 => connect(world, at, pointer),
        24 => listen(world, at, pointer),
        25 => stop_server(world, at, pointer),
        26 => post(world, pointer),
        27 => write_late(world, pointer),
        28 => ask_loop(world, at, pointer),
        29 => nonsense(world, pointer),
        30 => raw(world),
        _ if world.next::<u8>() < 32 => world.free(at),
        _ => run(world, at),
    }
}

/// A connection's number: mostly of this loop, perhaps stale, perhaps never given.
pub(crate) fn pick(world: &World<'_>, at: usize) -> u64 {
    let index = world.below(24);
    let ends = world.ends.borrow();
    let own: Vec<u64> = ends
        .iter()
        .filter(|end| end.at == at)
        .map(|end| end.id)
        .collect();
    match index {
        23 => world.next(),
        22 => 0,
        21 => u64::MAX,
        _ if own.is_empty() => world.next(),
        _ => own[own.len() - 1 - index % own.len()],
    }
}

/// Whether a number is that of a connection that has had its last callback.
fn is_stale(world: &World<'_>, at: usize, conn: u64) -> bool {
    let place = world.find(at, conn);
    place.is_some_and(|place| world.ends.borrow()[place].closed)
}

fn state(pointer: *mut wsabi_loop, conn: u64) -> u32 {
    // SAFETY: the loop is alive.
    unsafe { wsabi_conn_state(pointer, conn) }
}

fn buffered(pointer: *mut wsabi_loop, conn: u64) -> Option<u64> {
    let mut amount = u64::MAX;
    // SAFETY: the loop is alive, and the place valid.
    let status = check(unsafe { wsabi_conn_buffered(pointer, conn, &raw mut amount) });
    assert_eq!(
        status == WSABI_OK,
        amount != u64::MAX,
        "written exactly on success"
    );
    (status == WSABI_OK).then_some(amount)
}

fn dispatch(world: &World<'_>, at: usize) {
    let (inside, poll) = (world.loops[at].depth.get() > 0, world.next::<bool>());
    let status = world.drive(at, |pointer| {
        let mut more = 2;
        // SAFETY: the loop is alive, and the place valid.
        let status = check(unsafe {
            if poll {
                wsabi_loop_poll(pointer, 0)
            } else {
                wsabi_loop_dispatch(pointer, &raw mut more)
            }
        });
        assert_eq!(
            more < 2,
            status == WSABI_OK && !poll,
            "written exactly on success"
        );
        status
    });
    match status {
        Some(WSABI_E_REENTRANT) => assert!(inside),
        Some(WSABI_OK | WSABI_E_CLOSED) => assert!(!inside),
        other => panic!("a dispatch answers {other:?}"),
    }
}

/// Runs until it is stopped, which was asked for before.
fn run(world: &World<'_>, at: usize) {
    world.drive(at, |pointer| {
        // SAFETY: the loop is alive.
        unsafe {
            assert_eq!(check(wsabi_loop_stop(pointer)), WSABI_OK);
            check(wsabi_loop_run(pointer))
        }
    });
}

/// What a send has to answer, and that nothing is queued when it is refused.
pub(crate) fn check_send(
    world: &World<'_>,
    at: usize,
    pointer: *mut wsabi_loop,
    conn: u64,
    valid: bool,
    send: impl FnOnce() -> i32,
) -> Option<usize> {
    let (state, before) = (state(pointer, conn), buffered(pointer, conn));
    let status = check(send());
    if status < 0 {
        assert_eq!(
            buffered(pointer, conn).filter(|_| before.is_some()),
            before,
            "nothing is queued"
        );
    }
    match (state, valid) {
        (WSABI_STATE_OPEN, true) => assert!(
            matches!(status, WSABI_OK | WSABI_BACKPRESSURE | WSABI_E_FULL),
            "a send answers {status}"
        ),
        (WSABI_STATE_OPEN, false) => assert!(matches!(status, WSABI_E_INVALID | WSABI_E_STATE)),
        (WSABI_STATE_CONNECTING, _) => assert!(matches!(status, WSABI_E_STATE | WSABI_E_INVALID)),
        _ => assert!(matches!(
            status,
            WSABI_E_CLOSED | WSABI_E_INVALID | WSABI_E_STATE
        )),
    }
    if is_stale(world, at, conn) {
        assert!(matches!(status, WSABI_E_CLOSED | WSABI_E_INVALID));
    }
    (status >= 0).then(|| {
        world
            .find(at, conn)
            .expect("an open connection was told of")
    })
}

fn amid_fragments(world: &World<'_>, at: usize, conn: u64) -> Option<(u32, Vec<u8>)> {
    let place = world.find(at, conn)?;
    world.ends.borrow()[place].unfinished.clone()
}

fn send(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let (conn, text, payload) = (pick(world, at), world.next::<bool>(), world.payload());
    let is_text = std::str::from_utf8(&payload).is_ok();
    let valid = (!text || is_text) && amid_fragments(world, at, conn).is_none();
    let (data, len) = (payload.as_ptr(), payload.len());
    let place = check_send(world, at, pointer, conn, valid, || {
        // SAFETY: the loop is alive, and the payload valid.
        unsafe {
            if text {
                wsabi_conn_send_text(pointer, conn, data.cast(), len)
            } else {
                wsabi_conn_send_binary(pointer, conn, data.cast(), len)
            }
        }
    });
    if let Some(place) = place {
        let kind = if text { WSABI_TEXT } else { WSABI_BINARY };
        world.ends.borrow_mut()[place].sent.push((kind, payload));
    }
}

fn fragment(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let (conn, payload, kind) = (pick(world, at), world.payload(), world.next::<u8>());
    let (kind, fin) = (u32::from(kind % 4), u32::from(kind >> 4) % 3);
    let (begun, mut whole) = amid_fragments(world, at, conn).unwrap_or((kind, Vec::new()));
    whole.extend_from_slice(&payload);
    let fails = |error: std::str::Utf8Error| fin == 1 || error.error_len().is_some();
    let is_text = !std::str::from_utf8(&whole).is_err_and(fails);
    let valid = matches!(kind, WSABI_TEXT | WSABI_BINARY)
        && fin < 2
        && begun == kind
        && (kind == WSABI_BINARY || is_text);
    let place = check_send(world, at, pointer, conn, valid, || {
        // SAFETY: the loop is alive, and the payload valid.
        unsafe {
            wsabi_conn_send_fragment(
                pointer,
                conn,
                kind,
                payload.as_ptr().cast(),
                payload.len(),
                fin,
            )
        }
    });
    if let Some(place) = place {
        let end: &mut End = &mut world.ends.borrow_mut()[place];
        if fin == 1 {
            end.unfinished = None;
            end.sent.push((kind, whole));
        } else {
            end.unfinished = Some((kind, whole));
        }
    }
}

fn control(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let (conn, ping, payload) = (pick(world, at), world.next::<bool>(), world.payload());
    check_send(world, at, pointer, conn, payload.len() <= 125, || {
        let (data, len) = (payload.as_ptr().cast(), payload.len());
        // SAFETY: the loop is alive, and the payload valid.
        unsafe {
            if ping {
                wsabi_conn_ping(pointer, conn, data, len)
            } else {
                wsabi_conn_pong(pointer, conn, data, len)
            }
        }
    });
}

fn close(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let conn = pick(world, at);
    let code = match world.next::<u8>() {
        0..=99 => 1000,
        100..=149 => 0,
        _ => world.next::<u16>(),
    };
    let reason = if world.next::<bool>() {
        world.payload()
    } else {
        Vec::new()
    };
    let open = state(pointer, conn) == WSABI_STATE_OPEN;
    // SAFETY: the loop is alive, and the reason valid.
    let status = check(unsafe {
        wsabi_conn_close(pointer, conn, code, reason.as_ptr().cast(), reason.len())
    });
    let known = matches!(code, 0 | 1000..=1003 | 1007..=1014 | 3000..=4999);
    let fits = reason.len() <= 123 && (code != 0 || reason.is_empty());
    let valid = known && fits && std::str::from_utf8(&reason).is_ok();
    if open {
        assert_eq!(status, if valid { WSABI_OK } else { WSABI_E_INVALID });
        assert!(!valid || state(pointer, conn) != WSABI_STATE_OPEN);
    }
}

/// A command without arguments.
fn command(world: &World<'_>, at: usize, act: impl FnOnce(u64) -> i32) {
    let conn = pick(world, at);
    let status = check(act(conn));
    assert!(
        matches!(status, WSABI_OK | WSABI_E_CLOSED | WSABI_E_STATE),
        "{status}"
    );
    if is_stale(world, at, conn) || conn == 0 {
        assert_eq!(status, WSABI_E_CLOSED);
    }
}

/// Questions about a connection.
fn ask(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let conn = pick(world, at);
    let (mut server, mut subprotocol) = (u64::MAX, EMPTY);
    let (size, mut len) = (world.below(64), usize::MAX);
    let mut buf = vec![1 as c_char; size];
    let mark = conn as *mut c_void;
    // SAFETY: the loop is alive, and the places are valid.
    unsafe {
        let status = check(wsabi_conn_server(pointer, conn, &raw mut server));
        assert_eq!(status == WSABI_OK, server != u64::MAX);
        check(wsabi_conn_subprotocol(pointer, conn, &raw mut subprotocol));
        let status = check(wsabi_conn_peer(
            pointer,
            conn,
            buf.as_mut_ptr(),
            size,
            &raw mut len,
        ));
        if status == WSABI_OK {
            let text = CStr::from_ptr(buf.as_ptr());
            assert!(text.to_bytes().len() == len && text.to_bytes().starts_with(b"unix:"));
        }
        if check(wsabi_conn_set_user(pointer, conn, mark)) == WSABI_OK {
            assert_eq!(wsabi_conn_user(pointer, conn), mark);
        }
    }
    if is_stale(world, at, conn) && world.loops[at].depth.get() == 0 {
        assert_eq!(
            (state(pointer, conn), buffered(pointer, conn)),
            (WSABI_STATE_CLOSED, None)
        );
    }
}

/// Header fields, some of which are not allowed.
fn headers(world: &World<'_>) -> Vec<(Vec<u8>, Vec<u8>)> {
    let few = world.below(3);
    let header = || match world.below(4) {
        0 => (b"X-Mark".to_vec(), b"1".to_vec()),
        1 => (b"X-Long".to_vec(), vec![b'x'; 300]),
        _ => (world.payload(), world.payload()),
    };
    std::iter::repeat_with(header).take(few).collect()
}

fn views(headers: &[(Vec<u8>, Vec<u8>)]) -> Vec<wsabi_header> {
    let view = |text: &[u8]| wsabi_str {
        data: text.as_ptr().cast(),
        len: text.len(),
    };
    let header = |(name, value): &(Vec<u8>, Vec<u8>)| wsabi_header {
        name: view(name),
        value: view(value),
    };
    headers.iter().map(header).collect()
}

/// A C string of the input, without what would end it early.
fn c_string(octets: Vec<u8>) -> CString {
    CString::new(
        octets
            .into_iter()
            .filter(|&octet| octet != 0)
            .collect::<Vec<u8>>(),
    )
    .expect("the zeros are gone")
}

/// The size for a struct: mostly its own.
fn size_of_struct<T>(world: &World<'_>) -> usize {
    match world.below(32) {
        index @ 0..6 if index != 5 && index != 4 => SIZES[index].min(size_of::<T>()),
        _ => size_of::<T>(),
    }
}

fn answered(world: &World<'_>, at: usize, conn: u64, status: i32) {
    let expected = [
        WSABI_OK,
        WSABI_E_INVALID,
        WSABI_E_STATE,
        WSABI_E_CLOSED,
        WSABI_E_UNSUPPORTED,
    ];
    assert!(expected.contains(&status), "an answer is answered {status}");
    let opened = world
        .find(at, conn)
        .is_some_and(|place| world.ends.borrow()[place].opened);
    assert!(
        !opened || status != WSABI_OK,
        "what is open is not answered any more"
    );
}

fn accept(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let (conn, headers) = (pick(world, at), headers(world));
    let (views, subprotocol) = (views(&headers), c_string(world.payload()));
    let options = wsabi_accept_options {
        struct_size: size_of_struct::<wsabi_accept_options>(world),
        subprotocol: match world.below(4) {
            0 => subprotocol.as_ptr(),
            1 => c"chat".as_ptr(),
            _ => ptr::null(),
        },
        headers: views.as_ptr(),
        header_count: views.len(),
    };
    let options = if world.next::<bool>() {
        ptr::null()
    } else {
        &raw const options
    };
    // SAFETY: the loop is alive, and the options valid.
    answered(
        world,
        at,
        conn,
        check(unsafe { wsabi_conn_accept(pointer, conn, options) }),
    );
}

fn respond(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let (conn, headers, body) = (pick(world, at), headers(world), world.payload());
    let views = views(&headers);
    let response = wsabi_response {
        struct_size: size_of_struct::<wsabi_response>(world),
        headers: views.as_ptr(),
        header_count: views.len(),
        body: body.as_ptr().cast(),
        body_len: body.len(),
        status: 200 + u16::from(world.next::<u8>()) * 2,
        reserved16: [0; 3],
    };
    let response = if world.below(16) == 0 {
        ptr::null()
    } else {
        &raw const response
    };
    // SAFETY: the loop is alive, and the response valid.
    answered(
        world,
        at,
        conn,
        check(unsafe { wsabi_conn_respond(pointer, conn, response) }),
    );
}

/// Limits, some of them small; no times, because nothing waits here.
fn limits(world: &World<'_>) -> wsabi_limits {
    // SAFETY: the struct is numbers only, of which all may be zero.
    let mut limits: wsabi_limits = unsafe { core::mem::zeroed() };
    match world.next::<u8>() {
        0..=99 => {}
        100..=129 => limits.max_message_bytes = world.next::<u8>().into(),
        130..=149 => limits.max_fragments = world.next::<u8>().into(),
        150..=199 => {
            limits.high_water_bytes = world.next::<u8>().into();
            limits.low_water_bytes = u64::from(world.next::<u8>()) >> 4;
            limits.max_backlog_bytes = world.next::<u16>().into();
        }
        200..=219 => limits.max_handshake_headers = world.next::<u8>().into(),
        220..=239 => limits.max_pending_handshakes = 1,
        _ => limits.reserved[usize::from(world.next::<u8>() % 8)] = world.next::<u8>().into(),
    }
    limits
}

/// How messages are compressed: not, by default, or in some other way, which may be refused.
fn deflate(world: &World<'_>) -> wsabi_deflate {
    // SAFETY: the struct is numbers only, of which all may be zero.
    let mut deflate: wsabi_deflate = unsafe { core::mem::zeroed() };
    let choice = world.next::<u8>();
    deflate.enabled = u32::from(choice > 100);
    if choice > 150 {
        deflate.server_max_window_bits = 8 + u32::from(choice % 8);
        deflate.client_max_window_bits = 15;
        deflate.server_context_takeover = u32::from(choice >> 1 & 1);
        deflate.client_context_takeover = u32::from(choice >> 2 & 1);
        deflate.min_bytes = 1;
        deflate.mem_level = 1;
    }
    deflate
}

fn listen(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let owner = world.owner(at, true);
    let number = world.owners.borrow().len();
    let path = world.path(number);
    let c_path = CString::new(path.as_os_str().as_bytes()).expect("a path has no zeros");
    let subprotocols = [c"chat".as_ptr(), c"superchat".as_ptr(), ptr::null()];
    let count = world.below(4);
    // SAFETY: zeros are the defaults.
    let mut options: wsabi_server_options = unsafe { core::mem::zeroed() };
    options.struct_size = size_of_struct::<wsabi_server_options>(world);
    options.handlers = handlers(owner, true, world.next());
    options.limits = limits(world);
    options.deflate = deflate(world);
    options.unix_path = c_path.as_ptr();
    options.subprotocols = subprotocols.as_ptr();
    options.subprotocol_count = count;
    options.origin_policy = u32::from(world.next::<u8>() / 80);
    let mut server = 0;
    // SAFETY: the loop is alive, and options and place are valid.
    let status = check(unsafe { wsabi_listen(pointer, &raw const options, &raw mut server) });
    assert_eq!(
        status == WSABI_OK,
        server != 0,
        "written exactly on success"
    );
    if status == WSABI_OK {
        let complete = options.struct_size == size_of::<wsabi_server_options>();
        assert!(count < 3 || !complete, "a NULL subprotocol is refused");
        if complete {
            let mut port = 1;
            // SAFETY: the loop is alive, and the place valid.
            assert_eq!(
                unsafe { wsabi_server_port(pointer, server, &raw mut port) },
                WSABI_OK
            );
            assert_eq!(port, 0, "a unix socket has none");
        } else {
            // It listens on a port that nobody knows, without callbacks.
            end_owner(owner);
        }
        world.servers.borrow_mut().push(Server {
            at,
            id: server,
            path,
            owner,
        });
    } else {
        end_owner(owner);
    }
}

/// There was nothing made that could call back.
fn end_owner(owner: *const Owner) {
    // SAFETY: owners live as long as the world.
    unsafe { &*owner }.ended.set(true);
}

fn stop_server(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let server = {
        let servers = world.servers.borrow();
        let index = world.below(8);
        servers
            .iter()
            .rev()
            .filter(|s| s.at == at)
            .nth(index)
            .map_or(index as u64, |s| s.id)
    };
    // SAFETY: the loop is alive.
    let status = check(unsafe { wsabi_server_stop(pointer, server, world.below(2) as u32 * 1000) });
    assert!(matches!(status, WSABI_OK | WSABI_E_CLOSED | WSABI_E_STATE));
}

fn connect(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let owner = world.owner(at, false);
    let place = world.ends.borrow().len();
    let own = format!("ws://a/{}/{place}", world.run);
    let url = match world.below(16) {
        0 => c_string(world.payload()),
        1 => c_string([b"ws://a".to_vec(), world.payload()].concat()),
        _ => c_string(own.into_bytes()),
    };
    let path = {
        let servers = world.servers.borrow();
        let index = world.below(4);
        let server = servers.iter().rev().nth(index).or(servers.last());
        server.map_or_else(|| world.path(0), |server| server.path.clone())
    };
    let c_path = CString::new(path.as_os_str().as_bytes()).expect("a path has no zeros");
    let subprotocols = [c"chat".as_ptr(), c"superchat".as_ptr(), c"chat".as_ptr()];
    let count = world.below(4);
    let headers = headers(world);
    let views = views(&headers);
    // SAFETY: zeros are the defaults.
    let mut options: wsabi_client_options = unsafe { core::mem::zeroed() };
    options.struct_size = size_of::<wsabi_client_options>();
    options.handlers = handlers(owner, false, world.next());
    options.limits = limits(world);
    options.deflate = deflate(world);
    // Without it a URL could name a host, which would be looked up.
    options.unix_path = c_path.as_ptr();
    options.subprotocols = subprotocols.as_ptr();
    options.subprotocol_count = count;
    options.headers = views.as_ptr();
    options.header_count = views.len();
    let mut conn = 0;
    // SAFETY: the loop is alive; url, options and place are valid.
    let status =
        check(unsafe { wsabi_connect(pointer, url.as_ptr(), &raw const options, &raw mut conn) });
    assert_eq!(status == WSABI_OK, conn != 0, "written exactly on success");
    if status == WSABI_OK {
        assert!(count < 3, "a subprotocol that is given twice is refused");
        assert!(world.find(at, conn).is_none(), "a number comes once");
        world.ends.borrow_mut().push(End {
            at,
            id: conn,
            ..End::default()
        });
    } else {
        end_owner(owner);
    }
}

fn post(world: &World<'_>, pointer: *mut wsabi_loop) {
    let user = ptr::from_ref(world).cast_mut().cast();
    // SAFETY: the loop is alive, and the world outlives it.
    let status = check(unsafe { wsabi_loop_post(pointer, Some(posted), Some(dropped), user) });
    match status {
        WSABI_OK => world.posted.set(world.posted.get() + 1),
        other => assert!(matches!(other, WSABI_E_FULL | WSABI_E_CLOSED)),
    }
}

fn write_late(world: &World<'_>, pointer: *mut wsabi_loop) {
    let on = world.below(4) as u32;
    // SAFETY: the loop is alive.
    unsafe {
        assert_eq!(check(wsabi_loop_defer(pointer, on)) == WSABI_OK, on < 2);
        assert_eq!(check(wsabi_loop_flush(pointer)), WSABI_OK);
    }
}

fn ask_loop(world: &World<'_>, at: usize, pointer: *mut wsabi_loop) {
    let size = world.below(256);
    let mut stats = vec![0xffu8; size];
    // SAFETY: the loop is alive, and the place has as many octets.
    unsafe {
        assert_eq!(
            check(wsabi_loop_stats(pointer, stats.as_mut_ptr().cast(), size)),
            WSABI_OK
        );
        assert!(wsabi_loop_fd(pointer) >= 0);
        let timeout = wsabi_loop_timeout_ms(pointer);
        assert!(timeout >= -1 && (world.loops[at].depth.get() == 0 || timeout == -1));
    }
    let known = size.min(size_of::<wsabi_stats>());
    assert!(
        stats[known..].iter().all(|&octet| octet == 0),
        "what is not known is zeroed"
    );
}

/// Calls that are wrong whatever the state.
fn nonsense(world: &World<'_>, pointer: *mut wsabi_loop) {
    let (no_loop, conn) = (ptr::null_mut::<wsabi_loop>(), pick(world, 0));
    let (mut number, none) = (7u64, ptr::null::<c_void>());
    let sized = SIZES[world.below(SIZES.len())];
    // SAFETY: the loop is alive; null pointers are refused before they are used.
    unsafe {
        let mut options: wsabi_server_options = core::mem::zeroed();
        options.struct_size = sized.max(size_of::<wsabi_server_options>() + 1);
        let invalid = [
            wsabi_loop_dispatch(no_loop, ptr::null_mut()),
            wsabi_loop_new(ptr::null(), ptr::null_mut()),
            wsabi_loop_stats(pointer, ptr::null_mut(), 8),
            wsabi_loop_post(pointer, None, None, ptr::null_mut()),
            wsabi_conn_send(pointer, u64::MAX, ptr::null()),
            wsabi_conn_deflate(pointer, conn, ptr::null_mut()),
            wsabi_conn_send_text(no_loop, conn, c"a".as_ptr(), 1),
            wsabi_conn_send_fragment(no_loop, conn, WSABI_TEXT, none, 0, 1),
            wsabi_conn_ping(no_loop, conn, none, 0),
            wsabi_conn_close(no_loop, conn, 0, ptr::null(), 0),
            wsabi_conn_terminate(no_loop, conn),
            wsabi_conn_buffered(pointer, conn, ptr::null_mut()),
            wsabi_listen(pointer, ptr::null(), &raw mut number),
            wsabi_connect(pointer, ptr::null(), ptr::null(), &raw mut number),
            wsabi_connect(pointer, c"ws://a".as_ptr(), ptr::null(), ptr::null_mut()),
            wsabi_server_stop(no_loop, 1, 0),
        ];
        assert!(
            invalid
                .into_iter()
                .map(check)
                .all(|status| status == WSABI_E_INVALID)
        );
        if sized > 1 << 16 {
            let status = wsabi_listen(pointer, &raw const options, &raw mut number);
            assert_eq!(check(status), WSABI_E_INVALID);
        }
        let status = check(wsabi_conn_send_binary(pointer, conn, none, 1));
        assert!(matches!(status, WSABI_E_INVALID | WSABI_E_CLOSED));
        assert_eq!(wsabi_conn_user(no_loop, conn), ptr::null_mut());
        assert_eq!(wsabi_loop_fd(no_loop), -1);
        wsabi_loop_free(no_loop);
    }
    assert_eq!(number, 7, "what is refused writes nothing");
}

/// A client that is none of ours writes what the input says.
fn raw(world: &World<'_>) {
    let mut raw = world.raw.borrow_mut();
    if let Some(mut stream) = raw.pop_if(|_| world.below(4) != 0) {
        // What the peer has answered, or that it is gone, does not matter.
        write(&stream, &world.payload());
        let _ = stream.read(&mut [0; 4096]);
        if world.below(4) != 0 {
            raw.insert(0, stream);
        }
        return;
    }
    let servers = world.servers.borrow();
    let Some(server) = servers.last() else {
        return;
    };
    let Ok(stream) = UnixStream::connect(&server.path) else {
        return;
    };
    stream
        .set_nonblocking(true)
        .expect("a socket can be non-blocking");
    if world.below(4) != 0 {
        let head = b"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        write(&stream, head);
    }
    write(&stream, &world.payload());
    raw.push(stream);
}

/// Writes without the signal that std's `write` would raise when the peer is gone.
fn write(stream: &UnixStream, octets: &[u8]) {
    // SAFETY: the descriptor is open, and the octets are valid.
    unsafe {
        libc::send(
            stream.as_raw_fd(),
            octets.as_ptr().cast(),
            octets.len(),
            libc::MSG_NOSIGNAL,
        );
    }
}
