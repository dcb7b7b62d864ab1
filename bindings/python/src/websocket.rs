//! The methods of `WebSocket`.
//!
//! Does not know: how a call gets to the loop.

use pyo3::PyTraverseError;
use pyo3::exceptions::PyTypeError;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString, PyTuple};
use wsabi::{Bytes, Compress, ConnId, Handshake, MessageType, State};

use crate::connection::WebSocketBase;
use crate::errors::{Name, OrRaise, invalid, wrong_type};
use crate::handlers::{On, checked, method_of_class};
use crate::host::Loop;
use crate::prepared::{LASTING, Prepared, compression, lasting, lent, optional_flag};
use crate::server::ServerBase;
use crate::text::{Payload, header_pairs};

static STATE: Name = Name::new("wsabi._types", "State");
static SERVER_RESPONSE: Name = Name::new("wsabi._types", "ServerResponse");
static METHOD: Name = Name::new("types", "MethodType");
static AGREED: Name = Name::new("wsabi._types", "Agreed");
static HEADERS: Name = Name::new("wsabi._types", "Headers");

#[pymethods]
impl WebSocketBase {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        // A subclass's `__init__` takes what it likes.
        let _ = (args, kwargs);
        Self::unused()
    }

    /// The connection's number in its loop, the same in every language; 0 before it has one.
    #[getter]
    fn id(&self, py: Python<'_>) -> u64 {
        self.inner(py).id.get().map_or(0, ConnId::as_u64)
    }

    /// The loop that drives it; ``None`` before it has one.
    #[getter]
    #[pyo3(name = "loop")]
    fn host(&self, py: Python<'_>) -> Option<Py<Loop>> {
        let host = self.inner(py).host.borrow();
        host.as_ref().map(|host| host.clone_ref(py))
    }

    /// The server it came to; ``None`` at a client.
    #[getter]
    fn server(&self, py: Python<'_>) -> Option<Py<ServerBase>> {
        let server = self.inner(py).server.borrow();
        server.as_ref().map(|server| server.clone_ref(py))
    }

    /// The URL that was given to :func:`connect`; ``None`` at a server.
    #[getter]
    #[pyo3(name = "url")]
    fn get_url(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        self.url(py)
    }

    /// How far the connection has come. On the loop's thread.
    #[getter]
    fn state<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let state = self.ask(py, |conn| conn.state())?;
        STATE.get(py)?.call1((match state {
            Some(State::Connecting) => 0,
            Some(State::Open) => 1,
            Some(State::Closing) => 2,
            Some(State::Closed) | None => 3,
        },))
    }

    /// Bytes that wait to be written. On the loop's thread.
    #[getter]
    fn buffered_amount(&self, py: Python<'_>) -> PyResult<u64> {
        Ok(self.ask(py, |conn| conn.buffered())?.unwrap_or(0))
    }

    /// The subprotocol in use; ``None`` if there is none. On the loop's thread.
    #[getter]
    fn subprotocol(&self, py: Python<'_>) -> PyResult<Option<String>> {
        if let Some(known) = self.inner(py).rest.borrow().subprotocol.as_deref() {
            return Ok(Some(known.to_owned()));
        }
        Ok(self
            .ask(py, |conn| conn.subprotocol().map(str::to_owned))?
            .flatten())
    }

    /// What the opening handshake has agreed on about compression; ``None`` if there is none, and
    /// while the connection is not open. On the loop's thread.
    #[getter]
    fn deflate<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let agreed = self.ask(py, |conn| conn.deflate())?.flatten();
        agreed
            .map(|agreed| {
                AGREED.get(py)?.call1((
                    agreed.server_max_window_bits,
                    agreed.client_max_window_bits,
                    agreed.server_context_takeover,
                    agreed.client_context_takeover,
                ))
            })
            .transpose()
    }

    /// The peer's address: ``(host, port)``, the path of a unix socket (often empty), or ``None``
    /// if it is not known: not yet, or the transport was gone when it was first asked for. On the
    /// loop's thread.
    #[getter]
    fn remote_address<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::cached_address(slf, |rest| &mut rest.remote, |conn| conn.peer_addr())
    }

    /// Our own address, as :attr:`remote_address`.
    #[getter]
    fn local_address<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        Self::cached_address(slf, |rest| &mut rest.local, |conn| conn.local_addr())
    }

    /// At a server, until ``on_open`` has returned: what the client asked for. The same object as
    /// in ``on_upgrade``.
    #[getter]
    fn request<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(request) = &self.inner(py).rest.borrow().request {
            return Ok(Some(request.bind(py).clone()));
        }
        let made = self.handshake(py, |host, id, handshake| match handshake.request() {
            Some(request) => {
                let peer = self.ask(py, |conn| conn.peer_addr())?.flatten();
                crate::request::make(host, id, request, peer.as_ref()).map(Some)
            }
            None => Ok(None),
        })?;
        let Some(request) = made.flatten() else {
            return Ok(None);
        };
        self.inner(py).rest.borrow_mut().request = Some(request.clone_ref(py));
        Ok(Some(request.into_bound(py)))
    }

    /// At a client, until ``on_open`` has returned: what the server answered.
    #[getter]
    fn response<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        if let Some(response) = &self.inner(py).rest.borrow().response {
            return Ok(Some(response.bind(py).clone()));
        }
        let made = self.handshake(py, |_, _, handshake| match handshake {
            Handshake::Response(response) => {
                let headers = HEADERS
                    .get(py)?
                    .call1((header_pairs(py, &response.headers)?,))?;
                SERVER_RESPONSE
                    .get(py)?
                    .call1((response.status, response.reason, headers))
                    .map(|made| Some(made.unbind()))
            }
            Handshake::Request(_) => Ok(None),
        })?;
        let Some(response) = made.flatten() else {
            return Ok(None);
        };
        self.inner(py).rest.borrow_mut().response = Some(response.clone_ref(py));
        Ok(Some(response.into_bound(py)))
    }

    /// The code ``on_close`` is called with; ``None`` before.
    #[getter]
    fn close_code(&self, py: Python<'_>) -> Option<u16> {
        self.inner(py).rest.borrow().code
    }

    /// The reason ``on_close`` is called with; ``None`` before.
    #[getter]
    fn close_reason(&self, py: Python<'_>) -> Option<String> {
        let rest = self.inner(py).rest.borrow();
        rest.reason.as_deref().map(str::to_owned)
    }

    /// How many messages that sends have accepted were not wholly handed to the system: the last
    /// ones. All before them were, which does not mean that the peer has read them. 0 until the
    /// connection has ended. What another thread has sent counts from when the loop takes it.
    #[getter]
    fn messages_dropped(&self, py: Python<'_>) -> u64 {
        self.inner(py).rest.borrow().messages_dropped
    }

    /// What ended the connection, as an exception; ``None`` if the closing handshake completed and
    /// no message was dropped, or the connection has not ended.
    #[getter]
    fn error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let rest = self.inner(py).rest.borrow();
        rest.error.as_ref().map(|error| error.clone_ref(py))
    }

    /// Sends a message: str as text, a bytes-like object (contiguous) as binary, or a
    /// :class:`Prepared`. From any thread.
    ///
    /// :param compress: where permessage-deflate is agreed on, ``True`` compresses, ``False`` does
    ///     not, and ``None`` does from ``min_bytes`` on.
    /// :param copy: ``False`` promises that the object's memory is not changed until it is written:
    ///     then it is not copied. What cannot change, large str and bytes, is not copied anyway.
    /// :returns: True; False if the message was accepted and the backlog is above high water: then
    ///     ``on_drain`` follows. From another thread always True.
    /// :raises BufferFull: the backlog is at its limit; nothing was sent, and ``on_drain`` follows.
    /// :raises ConnectionClosed: the connection is closing or closed.
    /// :raises InvalidState: the connection is not open yet, or amid a fragmented message.
    #[inline]
    #[pyo3(signature = (data, *, compress = None, copy = true))]
    fn send(
        &self,
        data: &Bound<'_, PyAny>,
        compress: Option<&Bound<'_, PyAny>>,
        copy: bool,
    ) -> PyResult<bool> {
        let how = How::given(compress, copy)?;
        match Payload::of(data) {
            Ok(payload) => self.send_payload(data, payload.message_type(), &payload, how),
            Err(error) => match data.cast::<Prepared>() {
                Ok(prepared) => self.send_prepared(prepared, how),
                Err(_) => Err(error),
            },
        }
    }

    /// Sends a text message: str, or a bytes-like object that is UTF-8. See :meth:`send`.
    ///
    /// :raises InvalidArgument: the bytes are not UTF-8.
    #[pyo3(signature = (data, *, compress = None, copy = true))]
    fn send_text(
        &self,
        data: &Bound<'_, PyAny>,
        compress: Option<&Bound<'_, PyAny>>,
        copy: bool,
    ) -> PyResult<bool> {
        let how = How::given(compress, copy)?;
        self.send_payload(data, MessageType::Text, &Payload::of(data)?, how)
    }

    /// Sends a binary message. See :meth:`send`.
    #[pyo3(signature = (data, *, compress = None, copy = true))]
    fn send_binary(
        &self,
        data: &Bound<'_, PyAny>,
        compress: Option<&Bound<'_, PyAny>>,
        copy: bool,
    ) -> PyResult<bool> {
        if data.is_instance_of::<PyString>() {
            return Err(wrong_type("data", "a bytes-like object", data));
        }
        let how = How::given(compress, copy)?;
        self.send_payload(data, MessageType::Binary, &Payload::of(data)?, how)
    }

    /// Sends a fragment of a message; ``fin`` marks the last. From any thread; see :meth:`send`.
    ///
    /// :param text: whether the message is text; default: whether ``data`` is a str. All fragments
    ///     of a message have its type. Text given as bytes may be cut within a character.
    /// :param compress: counts with a message's first fragment; ``None`` compresses, because how
    ///     long the message becomes is not known.
    #[pyo3(signature = (data, fin, *, text = None, compress = None))]
    fn send_fragment(
        &self,
        data: &Bound<'_, PyAny>,
        fin: bool,
        text: Option<bool>,
        compress: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<bool> {
        let payload = Payload::of(data)?;
        let message_type = match text {
            Some(true) => MessageType::Text,
            Some(false) => MessageType::Binary,
            None => payload.message_type(),
        };
        let compress = compression(optional_flag("compress", compress)?);
        let bytes = payload.bytes();
        self.send_or_post(
            data.py(),
            |conn| conn.send_fragment_with(message_type, bytes, fin, compress),
            |handle, id| handle.send_fragment_with(id, message_type, bytes, fin, compress),
        )
    }

    /// Sends a ping of at most 125 bytes. Keepalive pings are sent without asking. From any thread;
    /// see :meth:`send`.
    #[pyo3(signature = (data = Given(None)), text_signature = "($self, data=b'')")]
    fn ping(&self, py: Python<'_>, data: Given<'_>) -> PyResult<bool> {
        let payload = data.0.as_ref().map(Payload::of).transpose()?;
        let bytes = payload.as_ref().map_or(&[][..], Payload::bytes);
        self.send_or_post(
            py,
            |conn| conn.ping(bytes),
            |handle, id| handle.ping(id, bytes),
        )
    }

    /// Sends an unsolicited pong of at most 125 bytes. Pings are answered without asking. From any
    /// thread; see :meth:`send`.
    #[pyo3(signature = (data = Given(None)), text_signature = "($self, data=b'')")]
    fn pong(&self, py: Python<'_>, data: Given<'_>) -> PyResult<bool> {
        let payload = data.0.as_ref().map(Payload::of).transpose()?;
        let bytes = payload.as_ref().map_or(&[][..], Payload::bytes);
        self.send_or_post(
            py,
            |conn| conn.pong(bytes),
            |handle, id| handle.pong(id, bytes),
        )
    }

    /// Starts the closing handshake; messages keep coming until the peer's Close does. One that is
    /// not open yet is terminated. If it is closing or closed already, nothing happens. From any
    /// thread.
    ///
    /// :param code: 1000 to 1014 as far as they may be sent, or 3000 to 4999; ``None`` sends none.
    /// :param reason: at most 123 bytes as UTF-8.
    /// :raises InvalidArgument: a code that may not be sent, or a reason that is too long.
    #[pyo3(signature = (code = Some(1000), reason = ""),
           text_signature = "($self, code=1000, reason='')")]
    fn close(&self, py: Python<'_>, code: Option<i64>, reason: &str) -> PyResult<()> {
        let code = match code.map(u16::try_from).transpose() {
            Ok(code) => code,
            Err(_) => {
                let code = code.unwrap_or_default();
                let detail = format!("close code {code} may not be sent; expected 1000 to 4999");
                return Err(invalid(py, detail));
            }
        };
        let checked = wsabi::protocol::send::check_close(code, reason);
        checked.or_raise(py)?;
        self.end_or_post(
            py,
            |conn| conn.close(code, reason),
            |handle, id| handle.close(id, code, reason),
        )
    }

    /// Ends the connection at once, without a closing handshake; only ``on_close`` follows. From
    /// any thread.
    fn terminate(&self, py: Python<'_>) -> PyResult<()> {
        self.end_or_post(
            py,
            |conn| conn.terminate(),
            |handle, id| handle.terminate(id),
        )
    }

    /// Stops reading: nothing the peer sends is looked at until :meth:`resume`. On the loop's
    /// thread.
    fn pause(&self, py: Python<'_>) -> PyResult<()> {
        self.command(py, |conn| conn.pause())
    }

    /// Reads again; what was read before comes first. On the loop's thread.
    fn resume(&self, py: Python<'_>) -> PyResult<()> {
        self.command(py, |conn| conn.resume())
    }

    /// Writes what waits, as far as the kernel takes it, without waiting for the end of the turn.
    /// On the loop's thread.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.command(py, |conn| conn.flush())
    }

    fn __setattr__(
        slf: &Bound<'_, Self>,
        name: &Bound<'_, PyString>,
        value: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let assigned = match On::named(name.to_str()?) {
            Some(on) => Some((on, checked(on.name(), &own_method(slf, value)?)?)),
            None => None,
        };
        set_attribute(slf, name, Some(value))?;
        match assigned {
            Some((on, callback)) => slf.get().assign(slf.py(), on, callback, value.is_none()),
            None => Ok(()),
        }
    }

    fn __delattr__(slf: &Bound<'_, Self>, name: &Bound<'_, PyString>) -> PyResult<()> {
        set_attribute(slf, name, None)?;
        match On::named(name.to_str()?) {
            Some(on) => {
                let method = method_of_class(&slf.get_type(), on)?;
                slf.get().assign(slf.py(), on, method, false)
            }
            None => Ok(()),
        }
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> std::result::Result<(), PyTraverseError> {
        self.traverse(visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        self.clear(py);
    }
}

/// How a message is sent.
#[derive(Clone, Copy)]
struct How {
    compress: Compress,
    /// Whether anything but the default was asked for.
    special: bool,
    copy: bool,
}

impl How {
    #[inline]
    fn given(compress: Option<&Bound<'_, PyAny>>, copy: bool) -> PyResult<Self> {
        let compress = match compress {
            None => Compress::Auto,
            Some(_) => compression(optional_flag("compress", compress)?),
        };
        Ok(Self {
            compress,
            special: compress != Compress::Auto || !copy,
            copy,
        })
    }
}

impl WebSocketBase {
    #[inline]
    fn send_payload(
        &self,
        data: &Bound<'_, PyAny>,
        message_type: MessageType,
        payload: &Payload<'_>,
        how: How,
    ) -> PyResult<bool> {
        let bytes = payload.bytes();
        if how.special || bytes.len() >= LASTING {
            return self.send_specially(data, message_type, payload, how);
        }
        self.send_or_post(
            data.py(),
            |conn| match (message_type, payload) {
                // A `str` gave valid UTF-8.
                (MessageType::Text, Payload::Text(text)) => conn.send_text(text),
                _ => conn.send(message_type, bytes),
            },
            |handle, id| handle.send(id, message_type, bytes),
        )
    }

    /// Sends without a copy, or with an opinion about compression.
    #[inline(never)]
    fn send_specially(
        &self,
        data: &Bound<'_, PyAny>,
        message_type: MessageType,
        payload: &Payload<'_>,
        how: How,
    ) -> PyResult<bool> {
        let kept = match (payload, how.copy) {
            (Payload::Bytes(_) | Payload::Buffer(_), false) => Some(lent(data)?),
            _ => lasting(data, payload),
        };
        let (compress, bytes) = (how.compress, payload.bytes());
        let for_later = || {
            let copy = || Bytes::copy_from_slice(bytes);
            kept.clone().unwrap_or_else(copy)
        };
        self.send_or_post(
            data.py(),
            |conn| match &kept {
                Some(kept) => conn.send_owned(message_type, kept, compress),
                None => conn.send_with(message_type, bytes, compress),
            },
            |handle, id| handle.send_owned(id, message_type, for_later(), compress),
        )
    }

    fn send_prepared(&self, prepared: &Bound<'_, Prepared>, how: How) -> PyResult<bool> {
        if how.special {
            return Err(PyTypeError::new_err(
                "compress or copy is given with a Prepared, which has its own",
            ));
        }
        let message = &prepared.get().0;
        self.send_or_post(
            prepared.py(),
            |conn| conn.send_prepared(message),
            |handle, id| handle.send_prepared(id, message),
        )
    }
}

/// A method of the connection itself as a function of it, so that it is called like all others:
/// with the connection as its first argument.
fn own_method<'py>(
    ws: &Bound<'py, WebSocketBase>,
    value: &Bound<'py, PyAny>,
) -> PyResult<Bound<'py, PyAny>> {
    if value.is_exact_instance(METHOD.get(ws.py())?) && value.getattr("__self__")?.is(ws) {
        return value.getattr("__func__");
    }
    Ok(value.clone())
}

/// Sets or deletes an attribute as every object does.
fn set_attribute(
    ws: &Bound<'_, WebSocketBase>,
    name: &Bound<'_, PyString>,
    value: Option<&Bound<'_, PyAny>>,
) -> PyResult<()> {
    let value = value.map_or(core::ptr::null_mut(), |value| value.as_ptr());
    // SAFETY: the object and the name are valid, and the value is, or is null, which deletes.
    let result = unsafe { ffi::PyObject_GenericSetAttr(ws.as_ptr(), name.as_ptr(), value) };
    if result == 0 {
        return Ok(());
    }
    Err(PyErr::take(ws.py()).unwrap_or_else(|| PyTypeError::new_err("cannot set the attribute")))
}

/// An argument that was given; `None` too is one.
struct Given<'py>(Option<Bound<'py, PyAny>>);

impl<'py> FromPyObject<'_, 'py> for Given<'py> {
    type Error = PyErr;

    fn extract(given: pyo3::Borrowed<'_, 'py, PyAny>) -> PyResult<Self> {
        Ok(Self(Some(given.to_owned())))
    }
}
