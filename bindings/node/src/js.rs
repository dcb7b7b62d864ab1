//! Node-API in a form that is hard to misuse: values made, functions called, scopes closed.
//!
//! Does not know: loops, connections, or what the functions are for.

use core::ffi::{CStr, c_char, c_void};
use core::ptr;

use napi::sys::{self, Status, napi_env, napi_ref, napi_value};

/// Values made while it lives are freed when it is dropped.
pub(crate) struct Scope {
    env: napi_env,
    scope: sys::napi_handle_scope,
}

impl Scope {
    /// `None` if the environment is ending.
    pub(crate) fn open(env: napi_env) -> Option<Self> {
        let mut scope = ptr::null_mut();
        // SAFETY: the environment is alive as long as the host is, whose thread this is.
        let status = unsafe { sys::napi_open_handle_scope(env, &raw mut scope) };
        (status == Status::napi_ok).then_some(Self { env, scope })
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        // SAFETY: the scope was opened in this environment, and scopes end in the order of their
        // nesting, as Rust's do.
        unsafe { sys::napi_close_handle_scope(self.env, self.scope) };
    }
}

/// Makes a value by a call of Node-API; null, which the callee sees as `undefined`, if it fails.
fn made(make: impl FnOnce(*mut napi_value) -> sys::napi_status) -> napi_value {
    let mut value = ptr::null_mut();
    if make(&raw mut value) == Status::napi_ok {
        value
    } else {
        ptr::null_mut()
    }
}

pub(crate) fn uint(env: napi_env, number: u32) -> napi_value {
    // SAFETY: see `Scope::open`; so everywhere in this file.
    made(|value| unsafe { sys::napi_create_uint32(env, number, value) })
}

pub(crate) fn int(env: napi_env, number: i32) -> napi_value {
    // SAFETY: see `uint`.
    made(|value| unsafe { sys::napi_create_int32(env, number, value) })
}

pub(crate) fn double(env: napi_env, number: f64) -> napi_value {
    // SAFETY: see `uint`.
    made(|value| unsafe { sys::napi_create_double(env, number, value) })
}

pub(crate) fn text(env: napi_env, text: &str) -> napi_value {
    let (data, len) = (text.as_ptr().cast::<c_char>(), text.len() as isize);
    // SAFETY: see `uint`; `data` has `len` bytes.
    made(|value| unsafe { sys::napi_create_string_utf8(env, data, len, value) })
}

/// A string of these octets, one character each, as Node has the values of header fields.
pub(crate) fn latin1(env: napi_env, octets: &[u8]) -> napi_value {
    let (data, len) = (octets.as_ptr().cast::<c_char>(), octets.len() as isize);
    // SAFETY: see `text`.
    made(|value| unsafe { sys::napi_create_string_latin1(env, data, len, value) })
}

pub(crate) fn boolean(env: napi_env, truth: bool) -> napi_value {
    // SAFETY: see `uint`.
    made(|value| unsafe { sys::napi_get_boolean(env, truth, value) })
}

pub(crate) fn null(env: napi_env) -> napi_value {
    // SAFETY: see `uint`.
    made(|value| unsafe { sys::napi_get_null(env, value) })
}

/// An array of strings.
pub(crate) fn list<'a>(
    env: napi_env,
    items: impl ExactSizeIterator<Item = &'a [u8]>,
) -> napi_value {
    // SAFETY: see `uint`.
    let array =
        made(|value| unsafe { sys::napi_create_array_with_length(env, items.len(), value) });
    for (index, item) in (0..).zip(items) {
        // SAFETY: see `uint`; both values are of this scope.
        unsafe { sys::napi_set_element(env, array, index, latin1(env, item)) };
    }
    array
}

/// The value behind a reference.
pub(crate) fn value_of(env: napi_env, reference: napi_ref) -> napi_value {
    // SAFETY: see `uint`; references are kept as long as the host is.
    made(|value| unsafe { sys::napi_get_reference_value(env, reference, value) })
}

/// A reference that keeps `value`.
pub(crate) fn keep(env: napi_env, value: napi_value) -> Option<napi_ref> {
    let mut reference = ptr::null_mut();
    // SAFETY: see `uint`.
    let status = unsafe { sys::napi_create_reference(env, value, 1, &raw mut reference) };
    (status == Status::napi_ok).then_some(reference)
}

/// The property of an object.
pub(crate) fn property(env: napi_env, object: napi_value, name: &CStr) -> napi_value {
    // SAFETY: see `uint`; the name ends with NUL.
    made(|value| unsafe { sys::napi_get_named_property(env, object, name.as_ptr(), value) })
}

/// A function of JavaScript that calls `callback` with `data`.
pub(crate) fn function(
    env: napi_env,
    name: &CStr,
    callback: extern "C" fn(napi_env, sys::napi_callback_info) -> napi_value,
    data: *mut c_void,
) -> napi_value {
    let len = name.to_bytes().len() as isize;
    // SAFETY: see `uint`; the name has `len` bytes.
    made(|value| unsafe {
        sys::napi_create_function(env, name.as_ptr(), len, Some(callback), data, value)
    })
}

/// Throws an Error; the function of JavaScript that is being carried out has to return.
pub(crate) fn throw(env: napi_env, message: &str) -> napi_value {
    let (message, mut error) = (text(env, message), ptr::null_mut());
    // SAFETY: see `uint`.
    unsafe {
        if sys::napi_create_error(env, ptr::null_mut(), message, &raw mut error) == Status::napi_ok
        {
            sys::napi_throw(env, error);
        }
    }
    ptr::null_mut()
}

/// Lets an Error be an uncaught exception, as one is that a callback throws.
pub(crate) fn uncaught(env: napi_env, message: &str) {
    let (message, mut error) = (text(env, message), ptr::null_mut());
    // SAFETY: see `uint`.
    unsafe {
        if sys::napi_create_error(env, ptr::null_mut(), message, &raw mut error) == Status::napi_ok
        {
            sys::napi_fatal_exception(env, error);
        }
    }
}

/// The arguments of a call, and the data of the function.
pub(crate) fn arguments<const N: usize>(
    env: napi_env,
    info: sys::napi_callback_info,
) -> ([napi_value; N], *mut c_void) {
    let (mut values, mut count, mut data) = ([ptr::null_mut(); N], N, ptr::null_mut());
    // SAFETY: see `uint`; `values` has room for `count`, and those that are missing are undefined.
    unsafe {
        sys::napi_get_cb_info(
            env,
            info,
            &raw mut count,
            values.as_mut_ptr(),
            ptr::null_mut(),
            &raw mut data,
        );
    }
    (values, data)
}

/// A number as an integer; 0 for what is no number.
#[inline]
pub(crate) fn to_uint(env: napi_env, value: napi_value) -> u32 {
    let mut number = 0;
    // SAFETY: see `uint`.
    unsafe { sys::napi_get_value_uint32(env, value, &raw mut number) };
    number
}

/// The memory of a Buffer or another view, and its length; none of an empty one.
pub(crate) fn view(env: napi_env, value: napi_value) -> Option<(*mut u8, usize)> {
    let (mut data, mut len) = (ptr::null_mut(), 0);
    // SAFETY: see `uint`.
    let status = unsafe { sys::napi_get_buffer_info(env, value, &raw mut data, &raw mut len) };
    (status == Status::napi_ok && !data.is_null() && len > 0).then_some((data.cast(), len))
}

/// The octets of a Buffer or another view.
///
/// # Safety
/// No JavaScript runs as long as the slice is used.
#[inline]
pub(crate) unsafe fn to_bytes<'a>(env: napi_env, value: napi_value) -> Option<&'a [u8]> {
    let (mut data, mut len) = (ptr::null_mut(), 0);
    // SAFETY: see `uint`.
    let status = unsafe { sys::napi_get_buffer_info(env, value, &raw mut data, &raw mut len) };
    if status != Status::napi_ok {
        return None;
    }
    if len == 0 || data.is_null() {
        return Some(&[]);
    }
    // SAFETY: the view has `len` octets at `data`, and nothing changes them meanwhile, which is the
    // caller's promise.
    Some(unsafe { core::slice::from_raw_parts(data.cast(), len) })
}

/// The memory of an ArrayBuffer; of one that was detached, none.
pub(crate) fn memory(env: napi_env, value: napi_value) -> Option<(*mut u8, usize)> {
    let (mut data, mut len) = (ptr::null_mut(), 0);
    // SAFETY: see `uint`.
    let status = unsafe { sys::napi_get_arraybuffer_info(env, value, &raw mut data, &raw mut len) };
    (status == Status::napi_ok && !data.is_null()).then_some((data.cast(), len))
}

/// Room for a string at first.
const ROOM: usize = 16 << 10;
/// What is kept of it afterwards.
const KEPT: usize = 256 << 10;
/// Octets that one UTF-16 unit can become, and the NUL that Node-API writes.
const SLACK: usize = 4;

/// Reads a string as UTF-8 into `buffer`; a surrogate without its other half becomes U+FFFD.
pub(crate) fn read_text(env: napi_env, value: napi_value, buffer: &mut Vec<u8>) -> Option<&[u8]> {
    if buffer.capacity() < ROOM {
        buffer.reserve_exact(ROOM);
    }
    let mut len = copy_text(env, value, buffer)?;
    if len + SLACK >= buffer.capacity() {
        // It may have been cut: ask how long it is.
        // SAFETY: see `uint`; without a buffer the length alone is told.
        let status = unsafe {
            sys::napi_get_value_string_utf8(env, value, ptr::null_mut(), 0, &raw mut len)
        };
        if status != Status::napi_ok {
            return None;
        }
        buffer.try_reserve_exact(len + SLACK).ok()?;
        len = copy_text(env, value, buffer)?;
    }
    // SAFETY: `copy_text` has written `len` octets.
    unsafe { buffer.set_len(len) };
    Some(buffer)
}

/// Empties a buffer of [`read_text`], and frees it if it has become large.
pub(crate) fn reuse(buffer: &mut Vec<u8>) {
    buffer.clear();
    if buffer.capacity() > KEPT {
        buffer.shrink_to(ROOM);
    }
}

fn copy_text(env: napi_env, value: napi_value, buffer: &mut Vec<u8>) -> Option<usize> {
    buffer.clear();
    let mut len = 0;
    // SAFETY: see `uint`; the buffer has room for its capacity, the NUL included.
    let status = unsafe {
        sys::napi_get_value_string_utf8(
            env,
            value,
            buffer.as_mut_ptr().cast(),
            buffer.capacity(),
            &raw mut len,
        )
    };
    (status == Status::napi_ok).then_some(len)
}

/// Lets go of what [`keep`] kept.
pub(crate) fn forget(env: napi_env, reference: napi_ref) {
    // SAFETY: see `uint`; nobody uses the reference afterwards.
    unsafe { sys::napi_delete_reference(env, reference) };
}

/// The memory of a Uint32Array, and its length.
pub(crate) fn numbers(env: napi_env, value: napi_value) -> Option<(*mut u32, usize)> {
    let (mut kind, mut len, mut data) = (0, 0, ptr::null_mut());
    // SAFETY: see `uint`.
    let status = unsafe {
        sys::napi_get_typedarray_info(
            env,
            value,
            &raw mut kind,
            &raw mut len,
            &raw mut data,
            ptr::null_mut(),
            ptr::null_mut(),
        )
    };
    let is_u32 = kind == sys::TypedarrayType::uint32_array;
    (status == Status::napi_ok && is_u32 && !data.is_null()).then_some((data.cast(), len))
}

/// The elements of a Uint32Array; none of anything else.
///
/// # Safety
/// Nobody else sees the array as long as the slice is used.
pub(crate) unsafe fn to_numbers<'a>(env: napi_env, value: napi_value) -> &'a mut [u32] {
    match numbers(env, value) {
        // SAFETY: the array has `len` elements there, and nobody else sees them, which is the
        // caller's promise.
        Some((data, len)) => unsafe { core::slice::from_raw_parts_mut(data, len) },
        None => &mut [],
    }
}

/// An element of an array.
pub(crate) fn element(env: napi_env, array: napi_value, index: u32) -> napi_value {
    // SAFETY: see `uint`.
    made(|value| unsafe { sys::napi_get_element(env, array, index, value) })
}

pub(crate) fn object(env: napi_env) -> napi_value {
    // SAFETY: see `uint`.
    made(|value| unsafe { sys::napi_create_object(env, value) })
}

/// Whether a value is an object, and not `undefined`.
pub(crate) fn is_object(env: napi_env, value: napi_value) -> bool {
    let mut kind = 0;
    // SAFETY: see `uint`.
    let status = unsafe { sys::napi_typeof(env, value, &raw mut kind) };
    status == Status::napi_ok && kind == sys::ValueType::napi_object
}

/// Whether a value is `true`.
pub(crate) fn is_true(env: napi_env, value: napi_value) -> bool {
    let mut answer = false;
    // SAFETY: see `uint`; what is no boolean is refused and leaves the answer.
    let status = unsafe { sys::napi_get_value_bool(env, value, &raw mut answer) };
    status == Status::napi_ok && answer
}
