//! Payloads that an application gives: borrowed for the length of a call, or handed over with a hook
//! that tells when they are not needed any more.
//!
//! Does not know: who sends them.

use core::cell::Cell;
use core::ffi::c_void;
use core::slice;

use wsabi::{Bytes, Compress, MessageType, Result};

use crate::messages::{
    WSABI_BINARY, WSABI_COMPRESS_ALWAYS, WSABI_COMPRESS_AUTO, WSABI_COMPRESS_NEVER, WSABI_TEXT,
    wsabi_message,
};
use crate::options::{bytes, invalid, read_options};

/// A message that an application gives.
pub(crate) struct Outgoing<'a> {
    pub(crate) message_type: MessageType,
    pub(crate) compress: Compress,
    pub(crate) payload: Payload<'a>,
}

pub(crate) enum Payload<'a> {
    Borrowed(&'a [u8]),
    Given(Given),
}

/// A payload with a hook, which is not called before somebody has taken the payload.
#[derive(Clone, Copy)]
pub(crate) struct Given {
    data: *const u8,
    len: usize,
    hook: unsafe extern "C" fn(*mut c_void),
    arg: *mut c_void,
}

/// A payload that was taken.
struct Owned(Given);

// SAFETY: whoever gives a payload away promises that it can be read, and its hook be called, on the
// threads that the functions taking it document.
unsafe impl Send for Owned {}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `outgoing` checked the pointer and the length; the application leaves the payload
        // as it is until the hook is called.
        unsafe { slice::from_raw_parts(self.0.data, self.0.len) }
    }
}

thread_local! {
    /// Whether what this thread drops is a payload that was refused.
    static REFUSING: Cell<bool> = const { Cell::new(false) };
}

impl Drop for Owned {
    fn drop(&mut self) {
        if !REFUSING.get() {
            // SAFETY: the function was given to be called with this pointer, once.
            unsafe { (self.0.hook)(self.0.arg) };
        }
    }
}

/// The time in which payloads are dropped that were refused; it also ends by a panic.
struct Refusing;

impl Refusing {
    fn begin() -> Self {
        REFUSING.set(true);
        Self
    }
}

impl Drop for Refusing {
    fn drop(&mut self) {
        REFUSING.set(false);
    }
}

impl Given {
    /// Hands the payload over to `take`, which drops it if it fails; it is the application's then,
    /// and the hook is not called. `take` drops no other payload on this thread.
    pub(crate) fn hand_over<T>(self, take: impl FnOnce(Bytes) -> Result<T>) -> Result<T> {
        let _refusing = Refusing::begin();
        take(Bytes::from_owner(Owned(self)))
    }

    /// Lends the payload to `take`, which keeps a share of it if it succeeds, and may drop other
    /// payloads meanwhile.
    pub(crate) fn lend<T>(self, take: impl FnOnce(&Bytes) -> Result<T>) -> Result<T> {
        let payload = Bytes::from_owner(Owned(self));
        let result = take(&payload);
        let _refusing = result.is_err().then(Refusing::begin);
        drop(payload);
        result
    }
}

pub(crate) fn message_type(r#type: u32) -> Result<MessageType> {
    match r#type {
        WSABI_TEXT => Ok(MessageType::Text),
        WSABI_BINARY => Ok(MessageType::Binary),
        other => Err(invalid(format!(
            "type is {other}; expected WSABI_TEXT or WSABI_BINARY"
        ))),
    }
}

pub(crate) fn compress(compress: u32) -> Result<Compress> {
    match compress {
        WSABI_COMPRESS_AUTO => Ok(Compress::Auto),
        WSABI_COMPRESS_ALWAYS => Ok(Compress::Always),
        WSABI_COMPRESS_NEVER => Ok(Compress::Never),
        other => Err(invalid(format!(
            "compress is {other}; expected WSABI_COMPRESS_AUTO, _ALWAYS or _NEVER"
        ))),
    }
}

/// # Safety
/// `message` is null or points to as many bytes as its `struct_size` says, with all its pointers
/// null or valid.
pub(crate) unsafe fn outgoing<'a>(message: *const wsabi_message) -> Result<Outgoing<'a>> {
    if message.is_null() {
        return Err(invalid("message is NULL"));
    }
    // SAFETY: the caller's promise.
    let given = unsafe { read_options(message, "wsabi_message") }?;
    // SAFETY: the caller's promise.
    let data = unsafe { bytes(given.data.cast(), given.len, "data") }?;
    let payload = match given.free_hook {
        None if !given.free_arg.is_null() => {
            return Err(invalid("free_arg is set, but free_hook is NULL"));
        }
        None => Payload::Borrowed(data),
        Some(hook) => Payload::Given(Given {
            data: data.as_ptr(),
            len: data.len(),
            hook,
            arg: given.free_arg,
        }),
    };
    Ok(Outgoing {
        message_type: message_type(given.r#type)?,
        compress: compress(given.compress)?,
        payload,
    })
}
