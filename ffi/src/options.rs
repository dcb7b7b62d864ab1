//! From the structs an application fills to the options of the crate, with every string and number
//! checked.
//!
//! Does not know: loops or connections.

use core::ffi::{CStr, c_char};
use core::mem::MaybeUninit;
use core::slice;
use core::time::Duration;
use std::path::PathBuf;

use wsabi::{
    Accept, ClientOptions, Config, DeflateOptions, Error, ErrorKind, ListenOn, OriginPolicy,
    RequestOptions, Response, Result, ServerOptions, ServerPolicy, SubprotocolChoice,
};

use crate::messages::{wsabi_deflate, wsabi_message};
use crate::types::{
    WSABI_OFF, WSABI_ORIGIN_ANY, WSABI_ORIGIN_LIST, WSABI_ORIGIN_SAME, wsabi_accept_options,
    wsabi_client_options, wsabi_handlers, wsabi_header, wsabi_limits, wsabi_loop_options,
    wsabi_response, wsabi_server_options, wsabi_str,
};

/// Structs this large are not made by any version.
const MAX_STRUCT: usize = 64 << 10;

/// A struct that begins with its size and whose zeros are defaults.
///
/// # Safety
/// The struct begins with a `usize` that is its size, and all its bytes may be zero.
pub(crate) unsafe trait Options: Copy {}

// SAFETY: `struct_size` comes first, and everything is numbers, pointers and optional functions.
unsafe impl Options for wsabi_loop_options {}
// SAFETY: as above.
unsafe impl Options for wsabi_server_options {}
// SAFETY: as above.
unsafe impl Options for wsabi_client_options {}
// SAFETY: as above.
unsafe impl Options for wsabi_accept_options {}
// SAFETY: as above.
unsafe impl Options for wsabi_response {}
// SAFETY: as above.
unsafe impl Options for wsabi_message {}

pub(crate) fn invalid(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Invalid, detail.into())
}

/// Copies a struct of any version into this version's, with zeros for what an older one lacks.
///
/// # Safety
/// `given` is null or points to as many bytes as its `struct_size` says.
pub(crate) unsafe fn read_options<T: Options>(given: *const T, name: &str) -> Result<T> {
    let mut known = MaybeUninit::<T>::zeroed();
    if !given.is_null() {
        // SAFETY: the struct begins with its size.
        let size = unsafe { given.cast::<usize>().read() };
        if size < size_of::<usize>() || size > MAX_STRUCT {
            return Err(invalid(format!(
                "struct_size is {size}; expected sizeof({name}), {}",
                size_of::<T>()
            )));
        }
        let bytes = given.cast::<u8>();
        let common = size.min(size_of::<T>());
        // SAFETY: the caller's promise covers `size` bytes, and `known` has `size_of::<T>()`.
        let rest = unsafe {
            core::ptr::copy_nonoverlapping(bytes, known.as_mut_ptr().cast::<u8>(), common);
            slice::from_raw_parts(bytes.add(common), size - common)
        };
        if rest.iter().any(|&octet| octet != 0) {
            return Err(Error::new(
                ErrorKind::Unsupported,
                format!("{name} has a field set that this version of wsabi does not know"),
            ));
        }
    }
    // SAFETY: all bytes are initialised, and zeros are valid for every field.
    Ok(unsafe { known.assume_init() })
}

/// The text of a NUL-terminated string; `None` for NULL.
///
/// # Safety
/// The pointer is null or points to a NUL-terminated string.
pub(crate) unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<Option<&'a str>> {
    if pointer.is_null() {
        return Ok(None);
    }
    // SAFETY: the caller's promise.
    let bytes = unsafe { CStr::from_ptr(pointer) };
    bytes
        .to_str()
        .map(Some)
        .map_err(|_| invalid(format!("{name} is not UTF-8")))
}

/// # Safety
/// The pointer is null or points to `count` pointers to NUL-terminated strings.
unsafe fn texts(pointer: *const *const c_char, count: usize, name: &str) -> Result<Vec<String>> {
    // SAFETY: the caller's promise.
    let pointers = unsafe { array(pointer, count, MAX_STRUCT, name) }?;
    let mut all = Vec::with_capacity(pointers.len());
    for (i, &pointer) in pointers.iter().enumerate() {
        // SAFETY: the caller's promise.
        match unsafe { text(pointer, &format!("{name}[{i}]")) }? {
            Some(text) => all.push(text.to_owned()),
            None => return Err(invalid(format!("{name}[{i}] is NULL"))),
        }
    }
    Ok(all)
}

/// At most `most` values.
///
/// # Safety
/// The pointer is null or points to `count` values.
pub(crate) unsafe fn array<'a, T>(
    pointer: *const T,
    count: usize,
    most: usize,
    name: &str,
) -> Result<&'a [T]> {
    if count == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() {
        return Err(invalid(format!("{name} is NULL, but its count is {count}")));
    }
    let most = most.min(isize::MAX as usize / size_of::<T>());
    if count > most {
        return Err(invalid(format!(
            "the count of {name} is {count}; expected at most {most}"
        )));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { slice::from_raw_parts(pointer, count) })
}

/// The bytes of a pointer and a length.
///
/// # Safety
/// The pointer is null or points to `len` bytes.
#[inline]
pub(crate) unsafe fn bytes<'a>(pointer: *const u8, len: usize, name: &str) -> Result<&'a [u8]> {
    if len == 0 {
        return Ok(&[]);
    }
    if pointer.is_null() || len > isize::MAX as usize {
        return Err(bad_bytes(pointer, len, name));
    }
    // SAFETY: the caller's promise.
    Ok(unsafe { slice::from_raw_parts(pointer, len) })
}

#[cold]
fn bad_bytes(pointer: *const u8, len: usize, name: &str) -> Error {
    if pointer.is_null() {
        return invalid(format!("{name} is NULL, but len is {len}"));
    }
    invalid(format!("len is {len}, more than any object has"))
}

/// # Safety
/// The string's pointer is null or points to as many bytes as it says.
unsafe fn string(given: wsabi_str, name: &str) -> Result<String> {
    // SAFETY: the caller's promise.
    let bytes = unsafe { bytes(given.data.cast(), given.len, name) }?;
    String::from_utf8(bytes.to_vec()).map_err(|_| invalid(format!("{name} is not UTF-8")))
}

/// # Safety
/// The pointer is null or points to `count` headers whose strings are valid.
unsafe fn headers(pointer: *const wsabi_header, count: usize) -> Result<Vec<(String, String)>> {
    // SAFETY: the caller's promise.
    let given = unsafe { array(pointer, count, MAX_STRUCT, "headers") }?;
    let mut all = Vec::with_capacity(given.len());
    for (i, header) in given.iter().enumerate() {
        // SAFETY: the caller's promise.
        let name = unsafe { string(header.name, &format!("headers[{i}].name")) }?;
        // SAFETY: the caller's promise.
        let value = unsafe { string(header.value, &format!("headers[{i}].value")) }?;
        all.push((name, value));
    }
    Ok(all)
}

fn config(
    handlers: &wsabi_handlers,
    limits: &wsabi_limits,
    deflate: &wsabi_deflate,
    no_delay_off: u32,
) -> Result<Config> {
    unset(limits.reserved == [0; 8], "limits.reserved")?;
    let defaults = Config::default();
    let number = |given: u32, default: u32| if given == 0 { default } else { given };
    let size = |given: u64, default: u64| if given == 0 { default } else { given };
    let time = |given: u32, default: Duration, name: &str| match given {
        0 => Ok(default),
        WSABI_OFF => Err(invalid(format!(
            "{name} cannot be WSABI_OFF; expected a time"
        ))),
        ms => Ok(Duration::from_millis(ms.into())),
    };
    let optional = |given: u32, default: Option<Duration>| match given {
        0 => default,
        WSABI_OFF => None,
        ms => Some(Duration::from_millis(ms.into())),
    };
    let high_water_bytes = size(limits.high_water_bytes, defaults.high_water_bytes);
    let config = Config {
        max_message_bytes: size(limits.max_message_bytes, defaults.max_message_bytes),
        max_fragments: number(limits.max_fragments, defaults.max_fragments),
        max_handshake_bytes: number(limits.max_handshake_bytes, defaults.max_handshake_bytes),
        max_handshake_headers: number(limits.max_handshake_headers, defaults.max_handshake_headers),
        handshake_timeout: time(
            limits.handshake_timeout_ms,
            defaults.handshake_timeout,
            "handshake_timeout_ms",
        )?,
        hold_timeout: time(
            limits.hold_timeout_ms,
            defaults.hold_timeout,
            "hold_timeout_ms",
        )?,
        ping_interval: optional(limits.ping_interval_ms, defaults.ping_interval),
        ping_timeout: time(
            limits.ping_timeout_ms,
            defaults.ping_timeout,
            "ping_timeout_ms",
        )?,
        idle_timeout: optional(limits.idle_timeout_ms, defaults.idle_timeout),
        close_timeout: time(
            limits.close_timeout_ms,
            defaults.close_timeout,
            "close_timeout_ms",
        )?,
        max_pending_handshakes: number(
            limits.max_pending_handshakes,
            defaults.max_pending_handshakes,
        ),
        high_water_bytes,
        // A high water below the default low water is meant to lower both.
        low_water_bytes: size(
            limits.low_water_bytes,
            defaults.low_water_bytes.min(high_water_bytes),
        ),
        max_backlog_bytes: size(
            limits.max_backlog_bytes,
            defaults.max_backlog_bytes.max(high_water_bytes),
        ),
        stream_messages: handlers.on_chunk.is_some(),
        deflate: deflate_options(deflate)?,
        no_delay: flag(no_delay_off, "no_delay_off")? == 0,
    };
    config.validate()?;
    Ok(config)
}

fn deflate_options(given: &wsabi_deflate) -> Result<Option<DeflateOptions>> {
    if flag(given.enabled, "deflate.enabled")? == 0 {
        let zeros = [
            ("server_max_window_bits", given.server_max_window_bits),
            ("client_max_window_bits", given.client_max_window_bits),
            ("server_context_takeover", given.server_context_takeover),
            ("client_context_takeover", given.client_context_takeover),
            ("level", given.level),
            ("mem_level", given.mem_level),
            ("max_ratio", given.max_ratio),
            ("min_bytes", u32::from(given.min_bytes != 0)),
            ("reserved", u32::from(given.reserved != [0; 4])),
        ];
        return match zeros.iter().find(|(_, value)| *value != 0) {
            Some((name, _)) => Err(invalid(format!(
                "deflate.{name} is set, but deflate.enabled is 0; expected 1"
            ))),
            None => Ok(None),
        };
    }
    unset(given.reserved == [0; 4], "deflate.reserved")?;
    let defaults = DeflateOptions::default();
    let number = |value: u32, default: u8, name: &str, range: core::ops::RangeInclusive<u8>| {
        match u8::try_from(value) {
            Ok(0) => Ok(default),
            Ok(value) if range.contains(&value) => Ok(value),
            _ => Err(invalid(format!(
                "deflate.{name} is {value}; expected {} to {}",
                range.start(),
                range.end()
            ))),
        }
    };
    Ok(Some(DeflateOptions {
        server_max_window_bits: number(
            given.server_max_window_bits,
            defaults.server_max_window_bits,
            "server_max_window_bits",
            9..=15,
        )?,
        client_max_window_bits: number(
            given.client_max_window_bits,
            defaults.client_max_window_bits,
            "client_max_window_bits",
            9..=15,
        )?,
        server_context_takeover: flag(
            given.server_context_takeover,
            "deflate.server_context_takeover",
        )? == 1,
        client_context_takeover: flag(
            given.client_context_takeover,
            "deflate.client_context_takeover",
        )? == 1,
        level: number(given.level, defaults.level, "level", 1..=9)?,
        mem_level: number(given.mem_level, defaults.mem_level, "mem_level", 1..=9)?,
        min_bytes: match given.min_bytes {
            0 => defaults.min_bytes,
            bytes => bytes,
        },
        max_ratio: Some(given.max_ratio).filter(|&ratio| ratio != 0),
    }))
}

fn flag(given: u32, name: &str) -> Result<u32> {
    if given > 1 {
        return Err(invalid(format!("{name} is {given}; expected 0 or 1")));
    }
    Ok(given)
}

/// Refuses what later versions may give a meaning.
fn unset(is_zero: bool, name: &str) -> Result<()> {
    if is_zero {
        Ok(())
    } else {
        Err(invalid(format!("{name} is set; expected zeros")))
    }
}

fn check_handlers(handlers: &wsabi_handlers, at_client: bool) -> Result<()> {
    if handlers.reserved.iter().any(|pointer| !pointer.is_null()) {
        return Err(Error::new(
            ErrorKind::Unsupported,
            "handlers has a callback set that this version of wsabi does not know",
        ));
    }
    let for_servers = [
        ("on_upgrade", handlers.on_upgrade.is_some()),
        ("on_http", handlers.on_http.is_some()),
        ("on_error", handlers.on_error.is_some()),
        ("on_stopped", handlers.on_stopped.is_some()),
    ];
    match for_servers.iter().find(|(_, set)| *set) {
        Some((name, _)) if at_client => Err(invalid(format!(
            "{name} is for servers only; expected NULL"
        ))),
        _ => Ok(()),
    }
}

/// # Safety
/// All pointers in `given` are null or valid.
pub(crate) unsafe fn server_options(given: &wsabi_server_options) -> Result<ServerOptions> {
    check_handlers(&given.handlers, false)?;
    unset(given.reserved16 == [0; 3], "reserved16")?;
    // SAFETY: the caller's promise.
    let (host, unix_path) = unsafe {
        (
            text(given.host, "host")?,
            text(given.unix_path, "unix_path")?,
        )
    };
    let on = match (unix_path, host) {
        (Some(_), Some(_)) => return Err(invalid("host and unix_path are both set; expected one")),
        (Some(path), None) => ListenOn::Unix(PathBuf::from(path)),
        (None, host) => ListenOn::Tcp {
            host: host.map(str::to_owned),
            port: given.port,
        },
    };
    // SAFETY: the caller's promise.
    let origins = unsafe { texts(given.origins, given.origin_count, "origins") }?;
    let origins = match given.origin_policy {
        WSABI_ORIGIN_LIST => OriginPolicy::List(origins),
        _ if !origins.is_empty() => {
            return Err(invalid(
                "origins is given, but origin_policy is not WSABI_ORIGIN_LIST",
            ));
        }
        WSABI_ORIGIN_SAME => OriginPolicy::SameHost,
        WSABI_ORIGIN_ANY => OriginPolicy::Any,
        other => {
            return Err(invalid(format!(
                "origin_policy is {other}; expected WSABI_ORIGIN_SAME, _LIST or _ANY"
            )));
        }
    };
    // SAFETY: the caller's promise.
    let subprotocols =
        unsafe { texts(given.subprotocols, given.subprotocol_count, "subprotocols") }?;
    let defaults = ServerOptions::default();
    Ok(ServerOptions {
        on,
        config: config(
            &given.handlers,
            &given.limits,
            &given.deflate,
            given.no_delay_off,
        )?,
        policy: ServerPolicy {
            subprotocols,
            origins,
        },
        backlog: if given.backlog == 0 {
            defaults.backlog
        } else {
            given.backlog
        },
        max_buffered_bytes: Some(given.max_buffered_bytes).filter(|&bytes| bytes != 0),
        reuse_port: flag(given.reuse_port, "reuse_port")? == 1,
        tag: 0,
    })
}

/// # Safety
/// All pointers in `given` are null or valid.
pub(crate) unsafe fn client_options(given: &wsabi_client_options) -> Result<ClientOptions> {
    check_handlers(&given.handlers, true)?;
    unset(given.reserved32 == 0, "reserved32")?;
    // SAFETY: the caller's promise.
    let (origin, unix_path) = unsafe {
        (
            text(given.origin, "origin")?,
            text(given.unix_path, "unix_path")?,
        )
    };
    // SAFETY: the caller's promise.
    let subprotocols =
        unsafe { texts(given.subprotocols, given.subprotocol_count, "subprotocols") }?;
    // SAFETY: the caller's promise.
    let headers = unsafe { headers(given.headers, given.header_count) }?;
    Ok(ClientOptions {
        config: config(
            &given.handlers,
            &given.limits,
            &given.deflate,
            given.no_delay_off,
        )?,
        request: RequestOptions {
            subprotocols,
            origin: origin.map(str::to_owned),
            headers,
            ..RequestOptions::default()
        },
        unix_path: unix_path.map(PathBuf::from),
        user: given.conn_user as u64,
        tag: 0,
    })
}

/// # Safety
/// `given` is null or valid, with all its pointers.
pub(crate) unsafe fn accept_options(given: *const wsabi_accept_options) -> Result<Accept> {
    // SAFETY: the caller's promise.
    let given = unsafe { read_options(given, "wsabi_accept_options") }?;
    // SAFETY: the caller's promise.
    let subprotocol = match unsafe { text(given.subprotocol, "subprotocol") }? {
        None => SubprotocolChoice::Preferred,
        Some("") => SubprotocolChoice::None,
        Some(name) => SubprotocolChoice::Name(name.to_owned()),
    };
    // SAFETY: the caller's promise.
    let headers = unsafe { headers(given.headers, given.header_count) }?;
    Ok(Accept {
        subprotocol,
        headers,
    })
}

/// # Safety
/// `given` is null or valid, with all its pointers.
pub(crate) unsafe fn response(given: *const wsabi_response) -> Result<Response> {
    if given.is_null() {
        return Err(invalid("response is NULL"));
    }
    // SAFETY: the caller's promise.
    let given = unsafe { read_options(given, "wsabi_response") }?;
    unset(given.reserved16 == [0; 3], "reserved16")?;
    // SAFETY: the caller's promise.
    let body = unsafe { bytes(given.body.cast(), given.body_len, "body") }?.to_vec();
    // SAFETY: the caller's promise.
    let headers = unsafe { headers(given.headers, given.header_count) }?;
    let response = Response {
        status: given.status,
        headers,
        body,
    };
    response.validate()?;
    Ok(response)
}
