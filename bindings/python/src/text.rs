//! Between Python's objects and the core's bytes, texts and addresses.
//!
//! Does not know: connections.

use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyString};
use wsabi::protocol::head::Headers;
use wsabi::{MessageType, PeerAddr};

use crate::errors::wrong_type;

/// What an application gives to be sent, borrowed from its object.
pub(crate) enum Payload<'a> {
    /// Text.
    Text(&'a str),
    /// The content of a `bytes`.
    Bytes(&'a [u8]),
    /// The content of another object with a buffer.
    Buffer(Buffer),
}

impl<'a> Payload<'a> {
    /// Borrows from `data`. Text with lone surrogates is a `UnicodeEncodeError`.
    #[inline]
    pub(crate) fn of(data: &'a Bound<'_, PyAny>) -> PyResult<Self> {
        if let Ok(bytes) = data.cast_exact::<PyBytes>() {
            return Ok(Self::Bytes(bytes.as_bytes()));
        }
        if let Ok(text) = data.cast::<PyString>() {
            return Ok(Self::Text(text.to_str()?));
        }
        Self::of_buffer(data)
    }

    #[cold]
    fn of_buffer(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        // SAFETY: the object is valid.
        if unsafe { ffi::PyObject_CheckBuffer(data.as_ptr()) } == 0 {
            return Err(wrong_type("data", "str or a bytes-like object", data));
        }
        Buffer::of(data).map(Self::Buffer)
    }

    /// The type of message that this is by itself.
    pub(crate) const fn message_type(&self) -> MessageType {
        match self {
            Self::Text(_) => MessageType::Text,
            Self::Bytes(_) | Self::Buffer(_) => MessageType::Binary,
        }
    }

    /// The bytes. They are to be used at once: Python code that runs meanwhile could change them.
    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Text(text) => text.as_bytes(),
            Self::Bytes(bytes) => bytes,
            Self::Buffer(buffer) => buffer.bytes(),
        }
    }
}

/// The contiguous memory of an object, borrowed from it until this is dropped.
pub(crate) struct Buffer(Box<ffi::Py_buffer>);

// SAFETY: a view is released by a thread that is attached to the interpreter, whichever it is.
unsafe impl Send for Buffer {}

impl AsRef<[u8]> for Buffer {
    fn as_ref(&self) -> &[u8] {
        self.bytes()
    }
}

impl Buffer {
    /// What is not contiguous is a `BufferError`.
    pub(crate) fn of(data: &Bound<'_, PyAny>) -> PyResult<Self> {
        let mut view = Box::new(ffi::Py_buffer::new());
        // SAFETY: the object and the view are valid.
        let failed =
            unsafe { ffi::PyObject_GetBuffer(data.as_ptr(), &raw mut *view, ffi::PyBUF_SIMPLE) };
        match failed {
            0 => Ok(Self(view)),
            _ => Err(PyErr::fetch(data.py())),
        }
    }

    fn bytes(&self) -> &[u8] {
        if self.0.len <= 0 {
            return &[];
        }
        // SAFETY: the exporter keeps this many bytes in place while they are borrowed, and the lock
        // is held for as long as the slice is used, so that no Python code writes to them meanwhile.
        unsafe { core::slice::from_raw_parts(self.0.buf.cast(), self.0.len.unsigned_abs()) }
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // One that is lent to a connection may be let go of anywhere; when the interpreter is gone,
        // so is the exporter.
        let _ = Python::try_attach(|_| {
            // SAFETY: the view was filled by `PyObject_GetBuffer` and is released once, by a thread
            // that is attached.
            unsafe { ffi::PyBuffer_Release(&raw mut *self.0) };
        });
    }
}

/// A `str` of a message's text. What is ASCII is copied; the interpreter would look at every octet
/// again.
#[inline]
pub(crate) fn string<'py>(py: Python<'py>, text: &str) -> PyResult<Bound<'py, PyString>> {
    if !text.is_ascii() {
        // Not `PyString::new`, which panics where memory cannot be had.
        // SAFETY: the pointer and the length are those of the text.
        let made = unsafe {
            ffi::PyUnicode_FromStringAndSize(text.as_ptr().cast(), text.len() as ffi::Py_ssize_t)
        };
        // SAFETY: the function returns a new reference to a string, or null with an exception.
        return unsafe { Ok(Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked()) };
    }
    // SAFETY: a new string of this length, whose content is written before anybody sees it; null
    // with an exception is passed on.
    unsafe {
        let made = Bound::from_owned_ptr_or_err(
            py,
            ffi::PyUnicode_New(text.len() as ffi::Py_ssize_t, 127),
        )?;
        let content = ffi::PyUnicode_DATA(made.as_ptr()).cast::<u8>();
        core::ptr::copy_nonoverlapping(text.as_ptr(), content, text.len());
        Ok(made.cast_into_unchecked())
    }
}

/// The `bytes` of a payload.
#[inline]
pub(crate) fn bytes<'py>(py: Python<'py>, payload: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
    // Not `PyBytes::new`, which panics where memory cannot be had.
    // SAFETY: the pointer and the length are those of the payload; the function returns a new
    // reference to a `bytes`, or null with an exception.
    unsafe {
        let made = ffi::PyBytes_FromStringAndSize(
            payload.as_ptr().cast(),
            payload.len() as ffi::Py_ssize_t,
        );
        Ok(Bound::from_owned_ptr_or_err(py, made)?.cast_into_unchecked())
    }
}

/// The text of a header's value; octets that are not UTF-8 become surrogate escapes.
fn header_text<'py>(py: Python<'py>, value: &[u8]) -> PyResult<Bound<'py, PyAny>> {
    // SAFETY: the pointer and the length are those of the value, the name of the error handler ends
    // with NUL; the function returns a new reference, or null with an exception.
    unsafe {
        let made = ffi::PyUnicode_DecodeUTF8(
            value.as_ptr().cast(),
            value.len() as ffi::Py_ssize_t,
            c"surrogateescape".as_ptr(),
        );
        Bound::from_owned_ptr_or_err(py, made)
    }
}

/// Header fields as pairs of text.
pub(crate) fn header_pairs<'py>(
    py: Python<'py>,
    headers: &Headers<'_>,
) -> PyResult<Vec<(String, Bound<'py, PyAny>)>> {
    headers
        .iter()
        .map(|(name, value)| Ok((name.to_owned(), header_text(py, value)?)))
        .collect()
}

/// An address: a pair of host and port, a path, or None.
pub(crate) fn address<'py>(
    py: Python<'py>,
    address: Option<&PeerAddr>,
) -> PyResult<Bound<'py, PyAny>> {
    match address {
        Some(PeerAddr::Tcp(address)) => {
            let pair = (address.ip().to_string(), address.port());
            Ok(pair.into_pyobject(py)?.into_any())
        }
        Some(PeerAddr::Unix(path)) => {
            let path = path.as_deref().unwrap_or(std::path::Path::new(""));
            Ok(path.to_string_lossy().into_pyobject(py)?.into_any())
        }
        None => Ok(py.None().into_bound(py)),
    }
}
