//! A server as Python holds it: its number, its callbacks, and what makes its connections' objects.
//!
//! Does not know: when its callbacks are called.

use core::cell::{Cell, RefCell};
use core::time::Duration;

use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple, PyType};
use wsabi::{ErrorKind, ServerId, Stopped};

use crate::connection::WebSocketBase;
use crate::errors::{Name, OrRaise, raise, seconds, wrong_state};
use crate::guard::Guarded;
use crate::handlers::{Handlers, On, checked, method_of_class, method_of_server};
use crate::host::{Loop, wrong_thread};
use crate::options::Options;
use crate::prepared::{message_of, optional_flag, reached_object};
use crate::text::address;

static STOPPED: Name = Name::new("wsabi._types", "Stopped");

/// Most classes of connections whose callbacks a server remembers; more are looked up each time.
const REMEMBERED: usize = 16;

/// The native part of `Server`.
#[pyclass(frozen, subclass, weakref, module = "wsabi._wsabi")]
pub(crate) struct ServerBase(Guarded<Inner>);

#[derive(Default)]
pub(crate) struct Inner {
    id: Cell<Option<ServerId>>,
    host: RefCell<Option<Py<Loop>>>,
    address: RefCell<Option<Py<PyAny>>>,
    stopped: Cell<Option<Stopped>>,
    callbacks: RefCell<Callbacks>,
}

/// What is called, and with what.
#[derive(Default)]
struct Callbacks {
    factory: Option<Py<PyAny>>,
    /// Those about connections, given or methods of the server.
    connections: Option<Py<Handlers>>,
    upgrade: Option<Py<PyAny>>,
    http: Option<Py<PyAny>>,
    stopped: Option<Py<PyAny>>,
    /// Those of each class of connections, completed by the class's methods.
    of_class: Vec<(Py<PyType>, Py<Handlers>)>,
}

/// The callbacks that are about servers.
#[derive(Clone, Copy)]
pub(crate) enum OnServer {
    Upgrade,
    Http,
    Stopped,
}

impl ServerBase {
    const fn inner<'py>(&'py self, py: Python<'py>) -> &'py Inner {
        self.0.get(py)
    }

    pub(crate) fn is(&self, py: Python<'_>, server: ServerId) -> bool {
        self.inner(py).id.get() == Some(server)
    }

    pub(crate) fn callback(&self, py: Python<'_>, on: OnServer) -> Option<Py<PyAny>> {
        let callbacks = self.inner(py).callbacks.borrow();
        let callback = match on {
            OnServer::Upgrade => &callbacks.upgrade,
            OnServer::Http => &callbacks.http,
            OnServer::Stopped => &callbacks.stopped,
        };
        callback.as_ref().map(|callback| callback.clone_ref(py))
    }

    /// The server's own `on_error`, for what has no connection.
    pub(crate) fn on_error(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let callbacks = self.inner(py).callbacks.borrow();
        let handlers = callbacks.connections.as_ref()?.get();
        handlers
            .of(On::Error)
            .map(|callback| callback.clone_ref(py))
    }

    pub(crate) fn factory(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let callbacks = self.inner(py).callbacks.borrow();
        callbacks.factory.as_ref().map(|f| f.clone_ref(py))
    }

    /// The callbacks of connections of a class.
    pub(crate) fn handlers<'py>(
        &self,
        class: &Bound<'py, PyType>,
    ) -> PyResult<Bound<'py, Handlers>> {
        let py = class.py();
        let own = {
            let callbacks = self.inner(py).callbacks.borrow();
            let known = callbacks.of_class.iter().find(|(known, _)| known.is(class));
            if let Some((_, handlers)) = known {
                return Ok(handlers.bind(py).clone());
            }
            callbacks.connections.as_ref().map(|own| own.clone_ref(py))
        };
        let made = Handlers::gather(py, |on| {
            match own.as_ref().and_then(|own| own.get().of(on)) {
                Some(callback) => Ok(Some(callback.clone_ref(py))),
                None => method_of_class(class, on),
            }
        })?;
        let mut callbacks = self.inner(py).callbacks.borrow_mut();
        if callbacks.of_class.len() < REMEMBERED {
            let entry = (class.clone().unbind(), made.clone_ref(py));
            callbacks.of_class.push(entry);
        }
        Ok(made.into_bound(py))
    }

    /// Notes how it ended, and lets go of the callbacks.
    pub(crate) fn end(&self, py: Python<'_>, stopped: Stopped) {
        let inner = self.inner(py);
        inner.stopped.set(Some(stopped));
        let before = inner.callbacks.take();
        drop(before);
    }
}

#[pymethods]
impl ServerBase {
    #[new]
    #[pyo3(signature = (*args, **kwargs))]
    fn new(args: &Bound<'_, PyTuple>, kwargs: Option<&Bound<'_, PyDict>>) -> Self {
        // A subclass's `__init__` takes what it likes.
        let _ = (args, kwargs);
        Self(Guarded::new(Inner::default()))
    }

    /// The loop that drives it; ``None`` before :func:`serve`.
    #[getter]
    #[pyo3(name = "loop")]
    fn host(&self, py: Python<'_>) -> Option<Py<Loop>> {
        let host = self.inner(py).host.borrow();
        host.as_ref().map(|host| host.clone_ref(py))
    }

    /// Where it listens: ``(host, port)``, or the path of a unix socket; the first address, if its
    /// host has several.
    #[getter]
    fn address(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let known = self.inner(py).address.borrow();
        known.as_ref().map(|address| address.clone_ref(py))
    }

    /// The port; ``None`` for a unix socket.
    #[getter]
    fn port(&self, py: Python<'_>) -> PyResult<Option<u16>> {
        match &*self.inner(py).address.borrow() {
            Some(address) => match address.bind(py).cast::<PyTuple>() {
                Ok(pair) => pair.get_item(1)?.extract().map(Some),
                Err(_) => Ok(None),
            },
            None => Ok(None),
        }
    }

    /// What became of its connections, once it has stopped; ``None`` before.
    #[getter]
    fn stopped<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.inner(py)
            .stopped
            .get()
            .map(|stopped| stopped_object(py, stopped))
            .transpose()
    }

    /// Its connections that are open, or closing. On the loop's thread.
    #[getter]
    fn connections(slf: &Bound<'_, Self>) -> PyResult<Vec<Py<PyAny>>> {
        let py = slf.py();
        let host = slf.get().host(py);
        let Some(host) = host else {
            return Ok(Vec::new());
        };
        let inner = host.get().inner(py);
        if !inner.is_home() {
            return Err(raise(py, &wrong_thread()));
        }
        let all: Vec<_> = {
            let connections = inner.connections.borrow();
            connections.iter().map(|ws| ws.clone_ref(py)).collect()
        };
        Ok(all
            .into_iter()
            .filter(|ws| ws.get().is_of(slf))
            .map(Py::into_any)
            .collect())
    }

    /// Sends a message to all its open connections. From any thread.
    ///
    /// :param data: str, a bytes-like object, or a :class:`Prepared`.
    /// :param exclude: a connection that does not get it.
    /// :returns: to how many it went, a :class:`Reached`; ``None`` from another thread, and of a
    ///     server that has stopped.
    #[pyo3(signature = (data, *, exclude = None, compress = None))]
    fn broadcast<'py>(
        &self,
        data: &Bound<'py, PyAny>,
        exclude: Option<&Bound<'py, WebSocketBase>>,
        compress: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Option<Bound<'py, PyAny>>> {
        let py = data.py();
        let message = message_of(data, optional_flag("compress", compress)?)?;
        let except = exclude.and_then(|ws| ws.get().inner(py).id.get());
        let inner = self.inner(py);
        let host = inner.host.borrow().as_ref().map(|host| host.clone_ref(py));
        let (Some(host), Some(id), None) = (host, inner.id.get(), inner.stopped.get()) else {
            return Ok(None);
        };
        let host = host.get();
        if !host.inner(py).is_home() {
            let posted = host.handle().broadcast_server(id, &message, except);
            return posted.map(|()| None).or_raise(py);
        }
        let reached = host
            .inner(py)
            .command(|context| context.broadcast_server(id, &message, except))
            .or_raise(py)?;
        host.inner(py).schedule_flush(py)?;
        reached_object(py, reached).map(Some)
    }

    /// Stops the server: it accepts no more, closes its connections with code 1001, and ends those
    /// that are left after ``grace`` seconds. ``on_stopped`` follows. If it is stopping or stopped
    /// already, nothing happens. From any thread.
    #[pyo3(signature = (grace = None), text_signature = "($self, grace=10.0)")]
    fn stop(&self, py: Python<'_>, grace: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
        let grace = match grace {
            Some(given) => seconds(py, "grace", given)?,
            None => wsabi::DEFAULT_GRACE,
        };
        self.stop_within(py, grace)
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the lock held.
        let inner = unsafe { self.0.get_collecting() };
        // What is borrowed just now is collected later.
        if let Ok(host) = inner.host.try_borrow() {
            visit.call(&*host)?;
        }
        let Ok(callbacks) = inner.callbacks.try_borrow() else {
            return Ok(());
        };
        let own = [
            &callbacks.factory,
            &callbacks.upgrade,
            &callbacks.http,
            &callbacks.stopped,
        ];
        own.into_iter()
            .try_for_each(|callback| visit.call(callback))?;
        visit.call(&callbacks.connections)?;
        for (class, handlers) in &callbacks.of_class {
            visit.call(class)?;
            visit.call(handlers)?;
        }
        Ok(())
    }

    fn __clear__(&self, py: Python<'_>) {
        let inner = self.inner(py);
        let before = (inner.host.take(), inner.callbacks.take());
        drop(before);
    }
}

impl ServerBase {
    fn stop_within(&self, py: Python<'_>, grace: Duration) -> PyResult<()> {
        let inner = self.inner(py);
        let host = inner.host.borrow().as_ref().map(|host| host.clone_ref(py));
        let (Some(host), Some(id), None) = (host, inner.id.get(), inner.stopped.get()) else {
            return Ok(());
        };
        let host = host.get();
        let stopped = if host.inner(py).is_home() {
            let stopped = host
                .inner(py)
                .command(|context| context.stop_server(id, grace));
            host.inner(py).schedule_flush(py)?;
            stopped
        } else {
            host.handle().stop_server(id, grace)
        };
        match stopped {
            Err(error) if matches!(error.kind(), ErrorKind::Closed | ErrorKind::State) => Ok(()),
            other => other.or_raise(py),
        }
    }
}

/// Starts a server with what `serve` was given.
#[pyfunction]
pub(crate) fn serve(
    host: &Bound<'_, Loop>,
    server: &Bound<'_, ServerBase>,
    options: &Bound<'_, PyDict>,
) -> PyResult<()> {
    let py = host.py();
    let (this, loop_inner) = (server.get().inner(py), host.get().inner(py));
    if this.host.borrow().is_some() {
        return Err(wrong_state(py, "this server has been started before"));
    }
    let given = Options(options);
    let mut core_options = given.server()?;
    let callback = |name: &str| match given.given(name)? {
        Some(callback) => checked(name, &callback),
        None => method_of_server(server.as_any(), name),
    };
    let callbacks = Callbacks {
        factory: given.given("factory")?.map(Bound::unbind),
        connections: Some(Handlers::gather(py, |on| callback(on.name()))?),
        upgrade: callback("on_upgrade")?,
        http: callback("on_http")?,
        stopped: callback("on_stopped")?,
        of_class: Vec::new(),
    };
    let tag = loop_inner.servers.borrow_mut().add(server.clone().unbind());
    core_options.tag = tag.get() as u32;
    let started = loop_inner.command(|context| {
        let id = context.listen(&core_options)?;
        Ok((id, context.server_addr(id)?.clone()))
    });
    let (id, listening) = match started {
        Ok(started) => started,
        Err(error) => {
            let entry = loop_inner.servers.borrow_mut().remove(tag.get());
            drop(entry);
            return Err(raise(py, &error));
        }
    };
    this.id.set(Some(id));
    this.host.replace(Some(host.clone().unbind()));
    this.address
        .replace(Some(address(py, Some(&listening))?.unbind()));
    this.callbacks.replace(callbacks);
    Ok(())
}

/// Counts of a stop as Python sees them.
pub(crate) fn stopped_object(py: Python<'_>, stopped: Stopped) -> PyResult<Bound<'_, PyAny>> {
    STOPPED
        .get(py)?
        .call1((stopped.clean, stopped.forced, stopped.messages_dropped))
}
