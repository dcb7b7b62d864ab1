//! The callbacks of a connection, found once and kept together.
//!
//! Does not know: when they are called.

use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::types::PyType;

use crate::errors::Name;

/// What a connection's callbacks are about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum On {
    Open,
    Message,
    Close,
    Error,
    Ping,
    Pong,
    Drain,
    Chunk,
}

impl On {
    pub(crate) const ALL: [Self; 8] = [
        Self::Open,
        Self::Message,
        Self::Close,
        Self::Error,
        Self::Ping,
        Self::Pong,
        Self::Drain,
        Self::Chunk,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Open => "on_open",
            Self::Message => "on_message",
            Self::Close => "on_close",
            Self::Error => "on_error",
            Self::Ping => "on_ping",
            Self::Pong => "on_pong",
            Self::Drain => "on_drain",
            Self::Chunk => "on_chunk",
        }
    }

    /// The one with this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|on| on.name() == name)
    }
}

type Callbacks = [Option<Py<PyAny>>; On::ALL.len()];

/// The callbacks of connections that have the same ones. An object of its own, so that the
/// collector of cycles counts it once, however many share it.
#[pyclass(frozen, module = "wsabi._wsabi", name = "Handlers")]
pub(crate) struct Handlers {
    callbacks: Callbacks,
}

#[pymethods]
impl Handlers {
    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.callbacks
            .iter()
            .try_for_each(|callback| visit.call(callback))
    }
}

impl Handlers {
    /// Callbacks that `find` knows, with the connection as their first argument.
    pub(crate) fn gather(
        py: Python<'_>,
        mut find: impl FnMut(On) -> PyResult<Option<Py<PyAny>>>,
    ) -> PyResult<Py<Self>> {
        let mut callbacks = Callbacks::default();
        for on in On::ALL {
            callbacks[on as usize] = find(on)?;
        }
        Py::new(py, Self { callbacks })
    }

    #[inline]
    pub(crate) fn of(&self, on: On) -> Option<&Py<PyAny>> {
        self.callbacks[on as usize].as_ref()
    }

    /// The same, with another callback in one place.
    pub(crate) fn with(
        &self,
        py: Python<'_>,
        on: On,
        callback: Option<Py<PyAny>>,
    ) -> PyResult<Py<Self>> {
        let mut callback = Some(callback);
        Self::gather(py, |other| {
            Ok(if other == on {
                callback.take().flatten()
            } else {
                self.of(other).map(|callback| callback.clone_ref(py))
            })
        })
    }
}

static CHECK: Name = Name::new("wsabi._api", "check_callback");
static WEB_SOCKET: Name = Name::new("wsabi._api", "WebSocket");
static SERVER: Name = Name::new("wsabi._api", "Server");

/// Refuses what cannot be a callback.
pub(crate) fn check(name: &str, given: &Bound<'_, PyAny>) -> PyResult<()> {
    CHECK.get(given.py())?.call1((name, given)).map(drop)
}

/// A callback that an application gives; `None` is none.
pub(crate) fn checked(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Option<Py<PyAny>>> {
    if given.is_none() {
        return Ok(None);
    }
    check(name, given)?;
    Ok(Some(given.clone().unbind()))
}

/// The method of that name, if the class overrides that of `WebSocket`.
pub(crate) fn method_of_class(class: &Bound<'_, PyType>, on: On) -> PyResult<Option<Py<PyAny>>> {
    let base = WEB_SOCKET.get(class.py())?;
    if class.is(base) {
        return Ok(None);
    }
    let method = class.getattr(on.name())?;
    if method.is(base.getattr(on.name())?) {
        return Ok(None);
    }
    checked(on.name(), &method)
}

/// The bound method of that name, if the server's class overrides that of `Server`.
pub(crate) fn method_of_server(
    server: &Bound<'_, PyAny>,
    name: &str,
) -> PyResult<Option<Py<PyAny>>> {
    let base = SERVER.get(server.py())?;
    let class = server.get_type();
    if class.is(base) || class.getattr(name)?.is(base.getattr(name)?) {
        return Ok(None);
    }
    checked(name, &server.getattr(name)?)
}
