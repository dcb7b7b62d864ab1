//! The structs of the ABI about messages: whole ones, chunks, broadcasts, and how they are
//! compressed.
//!
//! Does not know: what the values do.

#![allow(dead_code, reason = "some constants are for applications only")]

use core::ffi::c_void;

/// A message type: UTF-8 text.
pub const WSABI_TEXT: u32 = 1;
/// A message type: bytes.
pub const WSABI_BINARY: u32 = 2;

/// Compress a message from min_bytes of wsabi_deflate on, if compression was agreed on. Of a
/// message that is sent in fragments the length is not known, and it is compressed.
pub const WSABI_COMPRESS_AUTO: u32 = 0;
/// Compress a message whatever its length, if compression was agreed on.
pub const WSABI_COMPRESS_ALWAYS: u32 = 1;
/// Do not compress a message: it is compressed already, or mixes a secret with what a stranger has
/// chosen.
pub const WSABI_COMPRESS_NEVER: u32 = 2;

/// Tells that a payload is not needed any more. The standard library's free is one.
///
/// Called exactly once for each call that took the payload, and never for one that failed. It must
/// not call into the loop, which answers WSABI_E_REENTRANT.
pub type wsabi_free_hook = Option<unsafe extern "C" fn(arg: *mut c_void)>;

/// A whole message: what on_message is given, and what wsabi_conn_send and wsabi_prepared_new take.
/// Zeros are defaults; set struct_size and type.
///
/// What on_message is given has struct_size, type, data and len set and else zeros, so that it can
/// be sent as it is.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_message {
    /// sizeof(wsabi_message).
    pub struct_size: usize,
    /// WSABI_TEXT or WSABI_BINARY. Text is valid UTF-8.
    pub r#type: u32,
    /// WSABI_COMPRESS_AUTO, _ALWAYS or _NEVER.
    pub compress: u32,
    /// The payload; not NUL-terminated. Never NULL in on_message; may be NULL if len is 0.
    pub data: *const c_void,
    /// How many bytes.
    pub len: usize,
    /// NULL: the payload is copied. Else it stays the application's, unchanged, until this is
    /// called, and is copied only where it has to be masked (at a client) or compressed, or where
    /// it is small.
    pub free_hook: wsabi_free_hook,
    /// Given to free_hook.
    pub free_arg: *mut c_void,
}

/// A flag of a chunk: a message begins with it.
pub const WSABI_CHUNK_FIRST: u32 = 1;
/// A flag of a chunk: the message ends with it.
pub const WSABI_CHUNK_LAST: u32 = 2;

/// A message that was made to be sent to many: from one copy of its payload, which is compressed
/// once for each way in which connections compress. Belongs to no loop and to no thread. Freed by
/// wsabi_prepared_free.
pub struct wsabi_prepared {
    pub(crate) message: wsabi::Prepared,
}

/// To how many connections a message went.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_reached {
    /// Connections that accepted it.
    pub sent: u64,
    /// Of those, connections whose backlog is above high water.
    pub backpressure: u64,
    /// Connections that refused it as full, or because a fragmented message is not finished.
    pub refused: u64,
}

/// Whether and how messages are compressed, if both sides agree on permessage-deflate (RFC 7692).
/// 0 is the default that each names: no compression.
///
/// A server takes a client's offer as far as these allow; a client offers these.
///
/// Without context takeover a loop has one compressor and one decompressor for all its connections.
/// With it, a connection keeps the window of the side it receives from (2 to the power of its window
/// bits, 4 KiB at 12), and, for the side it sends from, a compressor of its own: some 265 KiB at 12
/// bits and memory level 8. That one is freed when nothing was compressed for 30 s.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_deflate {
    /// 1 offers or accepts permessage-deflate; with 0, the default, all others must be 0.
    pub enabled: u32,
    /// Window of what the server sends, as the logarithm of its size: 9 to 15. Default 12.
    pub server_max_window_bits: u32,
    /// Window of what the client sends: 9 to 15. Default 12.
    pub client_max_window_bits: u32,
    /// 1 lets the server's messages refer back to earlier ones.
    pub server_context_takeover: u32,
    /// 1 lets the client's messages refer back to earlier ones.
    pub client_context_takeover: u32,
    /// Compression level: 1, fast, to 9, small. Default 6.
    pub level: u32,
    /// Memory of a compressor: 1 to 9. Default 8.
    pub mem_level: u32,
    /// How many times larger than what came a message may become; close code 1009 above it. Default
    /// no limit besides max_message_bytes. Harmless text reaches 200 and more.
    pub max_ratio: u32,
    /// Messages shorter than this are sent as they are. Default 1024; 1 is no minimum,
    /// for empty ones always are.
    pub min_bytes: u64,
    /// 0: room for what is to come.
    pub reserved: [u32; 4],
}

/// What the opening handshake has agreed on about compression.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct wsabi_agreed {
    /// 1 if permessage-deflate is in use; else all others are 0.
    pub enabled: u32,
    /// Window of what the server sends, as the logarithm of its size: 8 to 15.
    pub server_max_window_bits: u32,
    /// Window of what the client sends: 8 to 15.
    pub client_max_window_bits: u32,
    /// 1 if the server's messages may refer back to earlier ones.
    pub server_context_takeover: u32,
    /// 1 if the client's messages may refer back to earlier ones.
    pub client_context_takeover: u32,
}
