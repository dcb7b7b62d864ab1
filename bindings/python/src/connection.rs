//! A connection as Python holds it: its number, its callbacks, what is left of it in the end, and
//! how a call gets from it to its loop.
//!
//! Does not know: how it comes to life, or when its callbacks are called.

use core::cell::{Cell, RefCell};

use pyo3::PyTraverseError;
use pyo3::prelude::*;
use wsabi::{ConnId, Error, ErrorKind, Handshake, PeerAddr, Result, Sent};

use crate::errors::{OrRaise, raise};
use crate::guard::Guarded;
use crate::handlers::{Handlers, On};
use crate::host::{Loop, wrong_thread};
use crate::server::ServerBase;
use crate::text::address;

/// The native part of `WebSocket`.
#[pyclass(frozen, subclass, weakref, module = "wsabi._wsabi")]
pub(crate) struct WebSocketBase(Guarded<Inner>);

#[derive(Default)]
pub(crate) struct Inner {
    /// The number it has, or had.
    pub(crate) id: Cell<Option<ConnId>>,
    pub(crate) host: RefCell<Option<Py<Loop>>>,
    handlers: RefCell<Option<Py<Handlers>>>,
    pub(crate) server: RefCell<Option<Py<ServerBase>>>,
    /// Set by the last callback.
    closed: Cell<bool>,
    pub(crate) opened: Cell<bool>,
    /// A bit for each callback that was assigned `None`.
    silenced: Cell<u8>,
    pub(crate) rest: RefCell<Rest>,
}

/// What few look at.
#[derive(Default)]
pub(crate) struct Rest {
    pub(crate) url: Option<Py<PyAny>>,
    /// Until `on_open` has returned.
    pub(crate) request: Option<Py<PyAny>>,
    pub(crate) response: Option<Py<PyAny>>,
    pub(crate) subprotocol: Option<Box<str>>,
    pub(crate) remote: Option<Py<PyAny>>,
    pub(crate) local: Option<Py<PyAny>>,
    pub(crate) code: Option<u16>,
    pub(crate) reason: Option<Box<str>>,
    pub(crate) messages_dropped: u64,
    pub(crate) error: Option<Py<PyAny>>,
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the connection is closed")
}

impl WebSocketBase {
    /// One that belongs to no loop.
    pub(crate) fn unused() -> Self {
        Self(Guarded::new(Inner::default()))
    }

    #[inline]
    pub(crate) const fn inner<'py>(&'py self, py: Python<'py>) -> &'py Inner {
        self.0.get(py)
    }

    #[inline]
    pub(crate) fn callback(&self, py: Python<'_>, on: On) -> Option<Py<PyAny>> {
        let handlers = self.inner(py).handlers.borrow();
        let callback = handlers.as_ref()?.get().of(on)?;
        Some(callback.clone_ref(py))
    }

    /// Whether it belongs to a loop, or did.
    pub(crate) fn is_used(&self, py: Python<'_>) -> bool {
        self.inner(py).host.borrow().is_some()
    }

    /// Gives it a loop, and those callbacks that its owner has not assigned.
    pub(crate) fn attach(
        &self,
        host: &Bound<'_, Loop>,
        server: Option<&Bound<'_, ServerBase>>,
        handlers: &Bound<'_, Handlers>,
    ) -> PyResult<()> {
        let py = host.py();
        let inner = self.inner(py);
        let assigned = inner.handlers.borrow().as_ref().map(|h| h.clone_ref(py));
        let handlers = match assigned {
            None => handlers.clone().unbind(),
            Some(assigned) => Handlers::gather(py, |on| {
                let own = assigned.get().of(on);
                let silent = inner.silenced.get() & 1 << on as u8 != 0;
                let own = own.or_else(|| handlers.get().of(on).filter(|_| !silent));
                Ok(own.map(|callback| callback.clone_ref(py)))
            })?,
        };
        inner.host.replace(Some(host.clone().unbind()));
        inner.server.replace(server.map(|s| s.clone().unbind()));
        let before = inner.handlers.replace(Some(handlers));
        drop(before);
        Ok(())
    }

    /// Takes back [`attach`](Self::attach).
    pub(crate) fn detach(&self, py: Python<'_>) {
        let inner = self.inner(py);
        let before = (
            inner.host.take(),
            inner.server.take(),
            inner.handlers.take(),
        );
        drop(before);
    }

    /// Notes its number.
    pub(crate) fn begin(&self, py: Python<'_>, id: ConnId, url: Option<&Bound<'_, PyAny>>) {
        let inner = self.inner(py);
        inner.id.set(Some(id));
        inner.rest.borrow_mut().url = url.map(|url| url.clone().unbind());
    }

    pub(crate) fn set_request(&self, py: Python<'_>, request: Option<Py<PyAny>>) {
        let before = {
            let mut rest = self.inner(py).rest.borrow_mut();
            let response = rest.response.take();
            (std::mem::replace(&mut rest.request, request), response)
        };
        drop(before);
    }

    /// Notes how it has ended; the callbacks are still there.
    pub(crate) fn end(
        &self,
        py: Python<'_>,
        closed: &wsabi::Closed,
        subprotocol: Option<&str>,
        error: Option<Py<PyAny>>,
    ) {
        let inner = self.inner(py);
        inner.closed.set(true);
        let mut rest = inner.rest.borrow_mut();
        rest.subprotocol = subprotocol.map(Box::from);
        rest.code = Some(closed.code.as_u16());
        rest.reason = Some(closed.reason.clone());
        rest.messages_dropped = closed.messages_dropped;
        rest.error = error;
    }

    /// Lets go of the callbacks after the last one, and with them of what they refer to.
    pub(crate) fn release(&self, py: Python<'_>) {
        let before = self.inner(py).handlers.take();
        drop(before);
    }

    /// Whether it came to that server and has not ended.
    pub(crate) fn is_of(&self, server: &Bound<'_, ServerBase>) -> bool {
        let inner = self.inner(server.py());
        let own = inner.server.borrow();
        own.as_ref().is_some_and(|own| own.is(server)) && !inner.closed.get()
    }

    /// Its loop and number, until it has ended.
    pub(crate) fn place(&self, py: Python<'_>) -> Option<(Py<Loop>, ConnId)> {
        let inner = self.inner(py);
        let host = inner.host.borrow();
        match (&*host, inner.id.get(), inner.closed.get()) {
            (Some(host), Some(id), false) => Some((host.clone_ref(py), id)),
            _ => None,
        }
    }

    pub(crate) fn url(&self, py: Python<'_>) -> Option<Py<PyAny>> {
        let rest = self.inner(py).rest.borrow();
        rest.url.as_ref().map(|url| url.clone_ref(py))
    }

    /// Carries out a command here or, from another thread, by the loop's handle.
    #[inline]
    pub(crate) fn send_or_post(
        &self,
        py: Python<'_>,
        here: impl FnOnce(&mut wsabi::Conn<'_>) -> Result<Sent>,
        there: impl FnOnce(&wsabi::Handle, ConnId) -> Result<()>,
    ) -> PyResult<bool> {
        let inner = self.inner(py);
        let host = inner.host.borrow();
        let (Some(host), Some(id), false) = (&*host, inner.id.get(), inner.closed.get()) else {
            return Err(raise(py, &closed()));
        };
        let host = host.get();
        if !host.inner(py).is_home() {
            return there(host.handle(), id).map(|()| true).or_raise(py);
        }
        match host
            .inner(py)
            .command(|context| here(&mut context.conn(id)))
        {
            Ok(sent) => {
                host.inner(py).schedule_flush(py)?;
                Ok(sent == Sent::Ok)
            }
            Err(error) => Err(raise(py, &error)),
        }
    }

    /// As [`send_or_post`](Self::send_or_post), for what is no error at the end.
    pub(crate) fn end_or_post(
        &self,
        py: Python<'_>,
        here: impl FnOnce(&mut wsabi::Conn<'_>) -> Result<()>,
        there: impl FnOnce(&wsabi::Handle, ConnId) -> Result<()>,
    ) -> PyResult<()> {
        let inner = self.inner(py);
        let host = inner.host.borrow();
        let (Some(host), Some(id), false) = (&*host, inner.id.get(), inner.closed.get()) else {
            return Ok(());
        };
        let host = host.get();
        let ended = if host.inner(py).is_home() {
            let ended = host
                .inner(py)
                .command(|context| here(&mut context.conn(id)));
            host.inner(py).schedule_flush(py)?;
            ended
        } else {
            there(host.handle(), id)
        };
        match ended {
            Err(error) if error.kind() == ErrorKind::Closed => Ok(()),
            other => other.or_raise(py),
        }
    }

    /// Carries out a command that only the loop's thread may give.
    pub(crate) fn command<T>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut wsabi::Conn<'_>) -> Result<T>,
    ) -> PyResult<T> {
        let inner = self.inner(py);
        let host = inner.host.borrow();
        let (Some(host), Some(id), false) = (&*host, inner.id.get(), inner.closed.get()) else {
            return Err(raise(py, &closed()));
        };
        let host = host.get().inner(py);
        let result = host
            .command(|context| act(&mut context.conn(id)))
            .or_raise(py)?;
        host.schedule_flush(py)?;
        Ok(result)
    }

    /// Asks the loop, if there is one and this is its thread.
    pub(crate) fn ask<T>(
        &self,
        py: Python<'_>,
        ask: impl FnOnce(&mut wsabi::Conn<'_>) -> T,
    ) -> PyResult<Option<T>> {
        let inner = self.inner(py);
        let host = inner.host.borrow();
        let (Some(host), Some(id), false) = (&*host, inner.id.get(), inner.closed.get()) else {
            return Ok(None);
        };
        let host = host.get().inner(py);
        if !host.is_home() {
            return Err(raise(py, &wrong_thread()));
        }
        if host.is_closed() {
            return Ok(None);
        }
        host.command(|context| Ok(Some(ask(&mut context.conn(id)))))
            .or_raise(py)
    }

    pub(crate) fn cached_address<'py>(
        slf: &Bound<'py, Self>,
        slot: impl Fn(&mut Rest) -> &mut Option<Py<PyAny>>,
        ask: impl FnOnce(&mut wsabi::Conn<'_>) -> Option<PeerAddr>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let this = slf.get();
        if let Some(known) = slot(&mut this.inner(py).rest.borrow_mut()) {
            return Ok(known.bind(py).clone());
        }
        let Some(Some(found)) = this.ask(py, ask)? else {
            return Ok(py.None().into_bound(py));
        };
        let made = address(py, Some(&found))?;
        *slot(&mut this.inner(py).rest.borrow_mut()) = Some(made.clone().unbind());
        Ok(made)
    }

    /// The handshake that `on_open` is being called with.
    pub(crate) fn handshake<T>(
        &self,
        py: Python<'_>,
        read: impl FnOnce(&Bound<'_, Loop>, ConnId, &Handshake<'_>) -> PyResult<T>,
    ) -> PyResult<Option<T>> {
        let inner = self.inner(py);
        let host = inner.host.borrow().as_ref().map(|host| host.clone_ref(py));
        let (Some(host), Some(id)) = (host, inner.id.get()) else {
            return Ok(None);
        };
        match host.get().inner(py).handshake.get() {
            Some((of, handshake)) if of == id => {
                // SAFETY: the pointer is there while the driver's `on_open`, which borrows the
                // handshake, waits for the callback.
                read(host.bind(py), id, unsafe { &*handshake }).map(Some)
            }
            _ => Ok(None),
        }
    }

    /// Puts another callback in one place, of this connection only. `silent` says that none is what
    /// is wanted, whatever callbacks it is given later.
    pub(crate) fn assign(
        &self,
        py: Python<'_>,
        on: On,
        callback: Option<Py<PyAny>>,
        silent: bool,
    ) -> PyResult<()> {
        let inner = self.inner(py);
        if inner.closed.get() {
            return Ok(());
        }
        let others = inner.silenced.get() & !(1 << on as u8);
        inner.silenced.set(others | u8::from(silent) << on as u8);
        let before = inner.handlers.borrow().as_ref().map(|h| h.clone_ref(py));
        let handlers = match &before {
            Some(before) => before.get().with(py, on, callback)?,
            None => {
                let mut callback = Some(callback);
                Handlers::gather(py, |other| {
                    Ok(if other == on {
                        callback.take().flatten()
                    } else {
                        None
                    })
                })?
            }
        };
        inner.handlers.replace(Some(handlers));
        Ok(())
    }

    pub(crate) fn traverse(
        &self,
        visit: pyo3::PyVisit<'_>,
    ) -> std::result::Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the lock held.
        let inner = unsafe { self.0.get_collecting() };
        // What is borrowed just now is collected later.
        if let Ok(host) = inner.host.try_borrow() {
            visit.call(&*host)?;
        }
        if let Ok(handlers) = inner.handlers.try_borrow() {
            visit.call(&*handlers)?;
        }
        if let Ok(server) = inner.server.try_borrow() {
            visit.call(&*server)?;
        }
        if let Ok(rest) = inner.rest.try_borrow() {
            for object in [&rest.url, &rest.request, &rest.response, &rest.error] {
                visit.call(object)?;
            }
        }
        Ok(())
    }

    pub(crate) fn clear(&self, py: Python<'_>) {
        self.detach(py);
        let rest = self.inner(py).rest.take();
        drop(rest);
    }
}
