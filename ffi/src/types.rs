//! The structs and function types of the ABI.
//!
//! Structs that an application fills begin with their size, have only zeros as defaults, and grow
//! at their end; structs that the library fills are read through pointers it gives.
//!
//! Does not know: what the values do.

#![allow(dead_code, reason = "some constants are for applications only")]

use core::ffi::{c_char, c_void};

use crate::host::wsabi_loop;
use crate::messages::{wsabi_deflate, wsabi_message};
use crate::status::wsabi_status;

/// The peer's part of an opening handshake: a client's request at a server, a server's response at
/// a client. It and all it gives live until the callback that was given it returns.
pub struct wsabi_handshake {
    _private: [u8; 0],
}

/// The number of a connection, valid with its loop. 0 is never a connection. A number whose
/// on_close has returned is stale: calls with it answer WSABI_E_CLOSED, and no other connection
/// ever gets it.
pub type wsabi_conn = u64;

/// The number of a server, valid with its loop. 0 is never a server; stale after on_stopped.
pub type wsabi_server = u64;

/// Bytes that are not NUL-terminated; data may be NULL when len is 0.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_str {
    /// The first byte.
    pub data: *const c_char,
    /// How many bytes.
    pub len: usize,
}

/// A header field.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_header {
    /// The name; upper and lower case are the same.
    pub name: wsabi_str,
    /// The value.
    pub value: wsabi_str,
}

/// How a connection ended.
#[repr(C)]
pub struct wsabi_close {
    /// The code of the peer's Close frame; 1005 if it had none, 1006 if no Close frame came.
    pub code: u16,
    /// At a client whose opening handshake was refused: the HTTP status. Else 0.
    pub http_status: u16,
    /// 1 if the closing handshake completed and no message was dropped, else 0.
    pub clean: u32,
    /// WSABI_OK if it completed, else what ended the connection.
    pub status: wsabi_status,
    /// errno, if the system was the cause, else 0.
    pub os_error: i32,
    /// The reason of the peer's Close frame.
    pub reason: wsabi_str,
    /// What ended the connection in words, for logs; empty if the closing handshake completed.
    pub detail: wsabi_str,
    /// Messages that sending has accepted and that were not wholly handed to the system: the last
    /// ones. All before them were, which does not mean that the peer has read them.
    pub messages_dropped: u64,
}

/// What a server is told of an opening handshake that failed, or of a failure to accept.
#[repr(C)]
pub struct wsabi_error {
    /// What went wrong.
    pub status: wsabi_status,
    /// errno, if the system was the cause, else 0.
    pub os_error: i32,
    /// In words, for logs.
    pub detail: wsabi_str,
    /// The peer, such as "127.0.0.1:4711"; empty if there is none.
    pub peer: wsabi_str,
}

/// What became of a server's connections when it stopped.
#[repr(C)]
pub struct wsabi_stopped {
    /// Connections whose closing handshake completed.
    pub clean: u64,
    /// Connections that ended otherwise.
    pub forced: u64,
    /// Messages that were accepted for sending and not wholly written.
    pub messages_dropped: u64,
}

/// An answer of on_upgrade: accept, with the server's own choice of subprotocol.
pub const WSABI_ACCEPT: i32 = 0;
/// An answer of on_upgrade: refuse with status 403.
pub const WSABI_REFUSE: i32 = 1;
/// An answer of on_upgrade: wsabi_conn_accept or wsabi_conn_respond follows, from any thread,
/// within hold_timeout_ms.
pub const WSABI_LATER: i32 = 2;

/// A client asks a server for a WebSocket, with a request that is valid and allowed by the Origin
/// policy. Returns WSABI_ACCEPT, WSABI_REFUSE or WSABI_LATER; what it returns does not count if it
/// has called wsabi_conn_accept or wsabi_conn_respond.
pub type wsabi_on_upgrade = Option<
    unsafe extern "C" fn(
        r#loop: *mut wsabi_loop,
        conn: wsabi_conn,
        request: *const wsabi_handshake,
        user: *mut c_void,
    ) -> i32,
>;

/// A client asks a server for something else than a WebSocket. Answered by wsabi_conn_respond, now
/// or within hold_timeout_ms. Without this callback the answer is status 426.
pub type wsabi_on_http = Option<
    unsafe extern "C" fn(
        r#loop: *mut wsabi_loop,
        conn: wsabi_conn,
        request: *const wsabi_handshake,
        user: *mut c_void,
    ),
>;

/// A connection is open.
pub type wsabi_on_open = Option<
    unsafe extern "C" fn(
        r#loop: *mut wsabi_loop,
        conn: wsabi_conn,
        handshake: *const wsabi_handshake,
        user: *mut c_void,
    ),
>;

/// A message has arrived.
pub type wsabi_on_message = Option<
    unsafe extern "C" fn(
        r#loop: *mut wsabi_loop,
        conn: wsabi_conn,
        message: *const wsabi_message,
        user: *mut c_void,
    ),
>;

/// A part of a message has come; it has nothing to do with the frames it came in. With this callback
/// set all messages come so, none is held whole, and on_message is not called;
/// max_message_bytes still counts the whole message.
///
/// type: WSABI_TEXT or WSABI_BINARY, the same for all chunks of a message. data: not NUL-terminated,
/// never NULL; text is valid UTF-8, cut between characters. len: 0 only in a last chunk.
/// flags: WSABI_CHUNK_FIRST, WSABI_CHUNK_LAST, both, or 0.
pub type wsabi_on_chunk = Option<
    unsafe extern "C" fn(
        r#loop: *mut wsabi_loop,
        conn: wsabi_conn,
        r#type: u32,
        data: *const c_void,
        len: usize,
        flags: u32,
        user: *mut c_void,
    ),
>;

/// After WSABI_BACKPRESSURE, or after WSABI_E_FULL on the loop's thread: the backlog has fallen to
/// low water.
pub type wsabi_on_drain =
    Option<unsafe extern "C" fn(r#loop: *mut wsabi_loop, conn: wsabi_conn, user: *mut c_void)>;

/// A ping has arrived, and is answered.
pub type wsabi_on_ping = Option<
    unsafe extern "C" fn(
        r#loop: *mut wsabi_loop,
        conn: wsabi_conn,
        data: *const u8,
        len: usize,
        user: *mut c_void,
    ),
>;

/// A pong has arrived. Those that answer keepalive pings have the payload "wsabi-keepalive".
pub type wsabi_on_pong = Option<
    unsafe extern "C" fn(
        r#loop: *mut wsabi_loop,
        conn: wsabi_conn,
        data: *const u8,
        len: usize,
        user: *mut c_void,
    ),
>;

/// A connection has ended: its last callback. Comes exactly once for each connection that was
/// open, and for each wsabi_connect, opened or not. wsabi_conn_user still answers in it.
pub type wsabi_on_close = Option<
    unsafe extern "C" fn(
        r#loop: *mut wsabi_loop,
        conn: wsabi_conn,
        close: *const wsabi_close,
        user: *mut c_void,
    ),
>;

/// An opening handshake at a server has failed, or a connection could not be accepted.
pub type wsabi_on_error = Option<
    unsafe extern "C" fn(
        r#loop: *mut wsabi_loop,
        server: wsabi_server,
        error: *const wsabi_error,
        user: *mut c_void,
    ),
>;

/// A server that was told to stop has no connections left: its last callback.
pub type wsabi_on_stopped = Option<
    unsafe extern "C" fn(
        r#loop: *mut wsabi_loop,
        server: wsabi_server,
        counts: *const wsabi_stopped,
        user: *mut c_void,
    ),
>;

/// The callbacks of a server or client; each may be NULL.
///
/// All are called on the loop's thread, inside wsabi_loop_dispatch, _poll, _run or _free, and
/// never under a lock. In each, every function may be called but wsabi_loop_dispatch, _poll, _run
/// and _timeout_ms. They must not throw or unwind.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_handlers {
    /// Servers only.
    pub on_upgrade: wsabi_on_upgrade,
    /// Servers only.
    pub on_http: wsabi_on_http,
    /// Servers and clients.
    pub on_open: wsabi_on_open,
    /// Servers and clients.
    pub on_message: wsabi_on_message,
    /// Servers and clients; instead of on_message, if set.
    pub on_chunk: wsabi_on_chunk,
    /// Servers and clients.
    pub on_drain: wsabi_on_drain,
    /// Servers and clients.
    pub on_ping: wsabi_on_ping,
    /// Servers and clients.
    pub on_pong: wsabi_on_pong,
    /// Servers and clients.
    pub on_close: wsabi_on_close,
    /// Servers only.
    pub on_error: wsabi_on_error,
    /// Servers only.
    pub on_stopped: wsabi_on_stopped,
    /// NULL: room for callbacks to come.
    pub reserved: [*mut c_void; 5],
    /// Given to every callback as it is.
    pub user: *mut c_void,
}

/// In a time of wsabi_limits: never.
pub const WSABI_OFF: u32 = u32::MAX;
/// In a size of wsabi_limits: no limit.
pub const WSABI_UNLIMITED: u64 = u64::MAX;

/// Limits and times of connections. 0 is the default that each names. All limits are inclusive.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_limits {
    /// Largest message accepted, decompressed. Default 16 MiB; close code 1009 above it.
    pub max_message_bytes: u64,
    /// Most fragments after the first one of a message. Default 65536; close code 1008 above it.
    pub max_fragments: u32,
    /// Most bytes of the opening handshake's head. Default 16384; status 431 above it.
    pub max_handshake_bytes: u32,
    /// Most header fields of the opening handshake. Default 100; status 431 above it.
    pub max_handshake_headers: u32,
    /// Total time for the opening handshake, connecting included. Default 10000; status 408.
    pub handshake_timeout_ms: u32,
    /// Additional time for a request that is answered later. Default 10000; status 503.
    pub hold_timeout_ms: u32,
    /// Time between keepalive pings. Default 20000; WSABI_OFF sends none.
    pub ping_interval_ms: u32,
    /// How long after a ping the peer may give no sign of life. Default 20000; close code 1011.
    pub ping_timeout_ms: u32,
    /// Longest time without a received byte. Default WSABI_OFF; close code 1011.
    pub idle_timeout_ms: u32,
    /// Longest time for the closing handshake. Default 5000; the transport is reset then.
    pub close_timeout_ms: u32,
    /// Most opening handshakes pending at a server. Default 1024; the oldest is dropped.
    pub max_pending_handshakes: u32,
    /// Backlog above which a send answers WSABI_BACKPRESSURE. Default 1 MiB.
    pub high_water_bytes: u64,
    /// Backlog at or below which on_drain follows. Default 256 KiB.
    pub low_water_bytes: u64,
    /// Backlog a send may not exceed once the backlog is at high water. Default 16 MiB;
    /// WSABI_E_FULL.
    pub max_backlog_bytes: u64,
    /// 0: room for limits to come.
    pub reserved: [u64; 8],
}

/// An Origin policy: the Origin's host and port must be those of the Host header. The default.
pub const WSABI_ORIGIN_SAME: u32 = 0;
/// An Origin policy: the Origin must be one of origins.
pub const WSABI_ORIGIN_LIST: u32 = 1;
/// An Origin policy: every Origin, "null" too.
pub const WSABI_ORIGIN_ANY: u32 = 2;

/// What a server is made of. Zeros are defaults; set struct_size. Everything is copied.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_server_options {
    /// sizeof(wsabi_server_options).
    pub struct_size: usize,
    /// The callbacks.
    pub handlers: wsabi_handlers,
    /// Limits and times.
    pub limits: wsabi_limits,
    /// Compression.
    pub deflate: wsabi_deflate,
    /// Most bytes that the server's connections may hold together: unfinished messages, and output
    /// that waits. Default no limit. Above it the connections with the largest unfinished messages
    /// are not read; after 5 s without relief the connection that holds most is failed with close
    /// code 1013, and then the next.
    pub max_buffered_bytes: u64,
    /// An address, or a name, which is resolved at once. NULL: every address, IPv6 and IPv4.
    pub host: *const c_char,
    /// A unix socket to listen on instead of host and port.
    pub unix_path: *const c_char,
    /// Subprotocols in the server's order of preference.
    pub subprotocols: *const *const c_char,
    /// How many.
    pub subprotocol_count: usize,
    /// With WSABI_ORIGIN_LIST: origins such as "https://example.com".
    pub origins: *const *const c_char,
    /// How many.
    pub origin_count: usize,
    /// WSABI_ORIGIN_SAME, _LIST or _ANY.
    pub origin_policy: u32,
    /// The length of the kernel's queue of connections to accept. Default 4096.
    pub backlog: u32,
    /// 1 lets other sockets listen on the same port too (SO_REUSEPORT).
    pub reuse_port: u32,
    /// 1 leaves Nagle's algorithm on.
    pub no_delay_off: u32,
    /// The port; 0 picks a free one, which wsabi_server_port tells.
    pub port: u16,
    /// 0.
    pub reserved16: [u16; 3],
}

/// What a client is made of, besides its URL. Zeros are defaults; set struct_size. Everything is
/// copied.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_client_options {
    /// sizeof(wsabi_client_options).
    pub struct_size: usize,
    /// The callbacks; those for servers only must be NULL.
    pub handlers: wsabi_handlers,
    /// Limits and times.
    pub limits: wsabi_limits,
    /// Compression.
    pub deflate: wsabi_deflate,
    /// A unix socket to connect to; the URL still gives the Host header and the path.
    pub unix_path: *const c_char,
    /// The Origin header. NULL: none.
    pub origin: *const c_char,
    /// Subprotocols to offer, in order of preference.
    pub subprotocols: *const *const c_char,
    /// How many.
    pub subprotocol_count: usize,
    /// Additional header fields of the request.
    pub headers: *const wsabi_header,
    /// How many.
    pub header_count: usize,
    /// What wsabi_conn_user answers from the start.
    pub conn_user: *mut c_void,
    /// 1 leaves Nagle's algorithm on.
    pub no_delay_off: u32,
    /// 0.
    pub reserved32: u32,
}

/// How a request for a WebSocket is accepted. Zeros are defaults; set struct_size.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_accept_options {
    /// sizeof(wsabi_accept_options).
    pub struct_size: usize,
    /// One of those the client offers; NULL: the server's own choice; "": none.
    pub subprotocol: *const c_char,
    /// Additional header fields of the response.
    pub headers: *const wsabi_header,
    /// How many.
    pub header_count: usize,
}

/// An HTTP response that ends its connection. Set struct_size and status.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_response {
    /// sizeof(wsabi_response).
    pub struct_size: usize,
    /// Header fields, besides Connection and Content-Length.
    pub headers: *const wsabi_header,
    /// How many.
    pub header_count: usize,
    /// The body.
    pub body: *const c_void,
    /// How many bytes.
    pub body_len: usize,
    /// 200 to 599.
    pub status: u16,
    /// 0.
    pub reserved16: [u16; 3],
}

/// A log level: failures that need attention.
pub const WSABI_LOG_ERROR: u32 = 1;
/// A log level: and what is wrong and was dealt with.
pub const WSABI_LOG_WARN: u32 = 2;
/// A log level: and starts and stops.
pub const WSABI_LOG_INFO: u32 = 3;
/// A log level: and every connection's fate.
pub const WSABI_LOG_DEBUG: u32 = 4;

/// Receives a line for a log. Called on the loop's thread, inside a dispatch or any other call; it
/// must not call into the loop, which answers WSABI_E_REENTRANT.
pub type wsabi_log =
    Option<unsafe extern "C" fn(level: u32, text: *const c_char, len: usize, user: *mut c_void)>;

/// What a loop is made of. Zeros are defaults; set struct_size.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_loop_options {
    /// sizeof(wsabi_loop_options).
    pub struct_size: usize,
    /// Receives log lines.
    pub log: wsabi_log,
    /// Given to log as it is.
    pub log_user: *mut c_void,
    /// The least important level to log. 0: WSABI_LOG_WARN.
    pub log_level: u32,
    /// Callbacks in one dispatch, after which others get their turn. Default 4096.
    pub max_events: u32,
    /// Bytes that calls from other threads may hold before they answer WSABI_E_FULL. Default
    /// 16 MiB.
    pub max_inbox_bytes: u64,
}

/// Counts of a loop since it was made, and what it holds now.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_stats {
    /// Connections that are established now.
    pub connections: u64,
    /// Opening handshakes that servers are waiting for now.
    pub pending_handshakes: u64,
    /// Bytes that wait to be written now.
    pub buffered_bytes: u64,
    /// Bytes received.
    pub bytes_received: u64,
    /// Bytes handed to the kernel.
    pub bytes_sent: u64,
    /// Messages received.
    pub messages_received: u64,
    /// Messages accepted for sending.
    pub messages_sent: u64,
    /// Connections whose closing handshake completed.
    pub closes_clean: u64,
    /// Connections whose transport was lost, or that failed on this side.
    pub closes_lost: u64,
    /// Connections failed because the peer broke a rule or a limit.
    pub closes_protocol: u64,
    /// Connections that ended by a deadline.
    pub closes_timeout: u64,
    /// Connections this side terminated.
    pub closes_local: u64,
    /// Opening handshakes that failed.
    pub handshakes_failed: u64,
}

/// A state: ended, or the number is stale.
pub const WSABI_STATE_CLOSED: u32 = 0;
/// A state: the opening handshake is under way.
pub const WSABI_STATE_CONNECTING: u32 = 1;
/// A state: messages can be sent.
pub const WSABI_STATE_OPEN: u32 = 2;
/// A state: the closing handshake is under way.
pub const WSABI_STATE_CLOSING: u32 = 3;
