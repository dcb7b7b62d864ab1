//! Messages for many: `Prepared`, `broadcast`, and payloads that are not copied.
//!
//! Does not know: how a single message is sent.

use core::ffi::c_char;

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyString};
use wsabi::{Bytes, Compress, ConnId, MessageType, Reached};

use crate::connection::WebSocketBase;
use crate::errors::{Name, OrRaise, wrong_type};
use crate::host::Loop;
use crate::text::{Buffer, Payload};

static REACHED: Name = Name::new("wsabi._types", "Reached");

/// A message that is sent to many connections, from one copy of its payload, which is compressed
/// once for each way in which connections compress. May be made and sent from any thread, and as
/// often as one likes.
///
/// :param data: str for text, a bytes-like object for binary.
/// :param text: whether the message is text; default: whether ``data`` is a str.
/// :param compress: as for :meth:`WebSocket.send`.
#[pyclass(frozen, weakref, module = "wsabi")]
pub(crate) struct Prepared(pub(crate) wsabi::Prepared);

#[pymethods]
impl Prepared {
    #[new]
    #[pyo3(signature = (data, *, text = None, compress = None))]
    fn new(
        data: &Bound<'_, PyAny>,
        text: Option<&Bound<'_, PyAny>>,
        compress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let text = optional_flag("text", text)?;
        let compress = optional_flag("compress", compress)?;
        Self::make(data, text, compress)
    }

    /// Whether it is a text message.
    #[getter]
    fn text(&self) -> bool {
        self.0.message_type() == MessageType::Text
    }

    fn __len__(&self) -> usize {
        self.0.payload().len()
    }

    fn __repr__(&self) -> String {
        let word = if self.text() { "text" } else { "binary" };
        format!("<wsabi.Prepared {word}, {} bytes>", self.__len__())
    }
}

impl Prepared {
    fn make(data: &Bound<'_, PyAny>, text: Option<bool>, compress: Option<bool>) -> PyResult<Self> {
        let payload = Payload::of(data)?;
        let message_type = match text {
            Some(true) => MessageType::Text,
            Some(false) => MessageType::Binary,
            None => payload.message_type(),
        };
        let bytes = match lasting(data, &payload) {
            Some(bytes) => bytes,
            None => Bytes::copy_from_slice(payload.bytes()),
        };
        wsabi::Prepared::new(message_type, bytes, compression(compress))
            .map(Self)
            .or_raise(data.py())
    }
}

/// What `compress` says.
pub(crate) const fn compression(given: Option<bool>) -> Compress {
    match given {
        None => Compress::Auto,
        Some(true) => Compress::Always,
        Some(false) => Compress::Never,
    }
}

/// A payload this large is not copied, if it cannot change.
pub(crate) const LASTING: usize = 64 << 10;

/// The memory of a `bytes`, or of the UTF-8 of a `str`, which lasts as long as the object.
struct Lasting {
    _object: Py<PyAny>,
    data: *const c_char,
    len: usize,
}

// SAFETY: the memory is never written, and the object is only kept and let go of; pyo3 lets go of
// objects on threads that are not attached to the interpreter, too.
unsafe impl Send for Lasting {}

impl AsRef<[u8]> for Lasting {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: this memory is the object's, which is kept, and does not change or move.
        unsafe { core::slice::from_raw_parts(self.data.cast(), self.len) }
    }
}

/// The payload without a copy, if it is large and the object's type says that it cannot change.
pub(crate) fn lasting(object: &Bound<'_, PyAny>, payload: &Payload<'_>) -> Option<Bytes> {
    let data = match payload {
        Payload::Bytes(data) => *data,
        Payload::Text(text) => text.as_bytes(),
        Payload::Buffer(_) => return None,
    };
    let is_exact = object.is_exact_instance_of::<PyBytes>() || object.is_instance_of::<PyString>();
    (is_exact && data.len() >= LASTING).then(|| {
        Bytes::from_owner(Lasting {
            _object: object.clone().unbind(),
            data: data.as_ptr().cast(),
            len: data.len(),
        })
    })
}

/// The payload without a copy, whatever it is: its owner has promised to leave it alone.
pub(crate) fn lent(object: &Bound<'_, PyAny>) -> PyResult<Bytes> {
    if let Ok(bytes) = object.cast_exact::<PyBytes>() {
        let data = bytes.as_bytes();
        return Ok(Bytes::from_owner(Lasting {
            _object: object.clone().unbind(),
            data: data.as_ptr().cast(),
            len: data.len(),
        }));
    }
    Ok(Bytes::from_owner(Buffer::of(object)?))
}

/// What is broadcast: a message that is prepared, or is now.
pub(crate) fn message_of(
    data: &Bound<'_, PyAny>,
    compress: Option<bool>,
) -> PyResult<wsabi::Prepared> {
    match data.cast::<Prepared>() {
        Ok(prepared) if compress.is_none() => Ok(prepared.get().0.clone()),
        Ok(_) => Err(PyTypeError::new_err(
            "compress is given with a Prepared, which has its own",
        )),
        Err(_) => Prepared::make(data, None, compress).map(|prepared| prepared.0),
    }
}

/// Counts of a broadcast as Python sees them.
pub(crate) fn reached_object(py: Python<'_>, reached: Reached) -> PyResult<Bound<'_, PyAny>> {
    REACHED
        .get(py)?
        .call1((reached.sent, reached.backpressure, reached.refused))
}

/// Sends a message to all of these connections. Those that are not open are passed over. On the
/// loop's thread, if they have one; several loops of one thread are all served.
///
/// :param connections: an iterable of :class:`WebSocket`.
/// :param data: str, a bytes-like object, or a :class:`Prepared`.
/// :returns: to how many it went, a :class:`Reached`.
#[pyfunction]
#[pyo3(signature = (connections, data, *, compress = None))]
pub(crate) fn broadcast<'py>(
    connections: &Bound<'py, PyAny>,
    data: &Bound<'py, PyAny>,
    compress: Option<&Bound<'py, PyAny>>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = data.py();
    let compress = optional_flag("compress", compress)?;
    let message = message_of(data, compress)?;
    // One entry for each loop; nearly always there is one.
    let mut groups: Vec<(Py<Loop>, Vec<ConnId>)> = Vec::new();
    for ws in connections.try_iter()? {
        let ws = ws?;
        let Ok(ws) = ws.cast::<WebSocketBase>() else {
            return Err(wrong_type(
                "connections",
                "an iterable of wsabi.WebSocket",
                &ws,
            ));
        };
        let Some((host, id)) = ws.get().place(py) else {
            continue;
        };
        match groups.iter_mut().find(|(known, _)| known.is(&host)) {
            Some((_, ids)) => ids.push(id),
            None => groups.push((host, vec![id])),
        }
    }
    let mut all = Reached::default();
    for (host, ids) in groups {
        let inner = host.get().inner(py);
        let reached = inner
            .command(|context| context.broadcast(&message, &ids))
            .or_raise(py)?;
        inner.schedule_flush(py)?;
        all.sent += reached.sent;
        all.backpressure += reached.backpressure;
        all.refused += reached.refused;
    }
    reached_object(py, all)
}

/// A bool, or `None`.
pub(crate) fn optional_flag(
    name: &str,
    given: Option<&Bound<'_, PyAny>>,
) -> PyResult<Option<bool>> {
    match given.filter(|given| !given.is_none()) {
        None => Ok(None),
        Some(given) => match given.cast::<PyBool>() {
            Ok(flag) => Ok(Some(flag.is_true())),
            Err(_) => Err(wrong_type(name, "a bool or None", given)),
        },
    }
}
