//! From the core's events to Python's callbacks.
//!
//! Does not know: how events come about, or what callbacks do.

use pyo3::prelude::*;
use wsabi::{
    Answer, Chunk, Closed, Conn, ConnId, Context, Error, ErrorKind, Handler, Handshake, Message,
    PeerAddr, Request, Response, ServerId, Stopped,
};

use crate::connection::WebSocketBase;
use crate::errors::{Name, is_exit, object, value, wrong_type};
use crate::handlers::On;
use crate::host::{Entered, Inner, Loop};
use crate::request::{http_answer, make, upgrade_answer};
use crate::server::{OnServer, ServerBase, stopped_object};
use crate::text::{bytes, string};

static CALLBACK_FAILED: Name = Name::new("wsabi._log", "callback_failed");
static CONNECTION_FAILED: Name = Name::new("wsabi._log", "connection_failed");

/// Requests that are kept before those of connections that are gone are looked for.
const KEPT_REQUESTS: usize = 64;

/// Calls an application's callbacks.
pub(crate) struct Driver<'a, 'py> {
    py: Python<'py>,
    host: &'a Bound<'py, Loop>,
    inner: &'a Inner,
}

impl<'a, 'py> Driver<'a, 'py> {
    pub(crate) fn new(host: &'a Bound<'py, Loop>) -> Self {
        let py = host.py();
        Self {
            py,
            host,
            inner: host.get().inner(py),
        }
    }

    /// The object of a connection.
    #[inline]
    fn object_of(&self, conn: &Conn<'_>) -> Option<Bound<'py, WebSocketBase>> {
        let connections = self.inner.connections.borrow();
        let ws = connections.get(conn.user() as usize)?;
        Some(ws.bind(self.py).clone())
    }

    fn server_of(&self, conn: &Conn<'_>) -> Option<Bound<'py, ServerBase>> {
        let servers = self.inner.servers.borrow();
        Some(servers.get(conn.tag() as usize)?.bind(self.py).clone())
    }

    /// The object of a server, and its number in the table.
    fn server(&self, server: ServerId) -> Option<(usize, Bound<'py, ServerBase>)> {
        let servers = self.inner.servers.borrow();
        let (tag, found) = servers.find(|known| known.get().is(self.py, server))?;
        Some((tag, found.bind(self.py).clone()))
    }

    /// Makes a callback of a connection; `argument` is made within it.
    #[inline]
    fn call(
        &self,
        conn: &mut Conn<'_>,
        on: On,
        argument: impl FnOnce() -> PyResult<Bound<'py, PyAny>>,
    ) {
        let Some(ws) = self.object_of(conn) else {
            return;
        };
        let Some(callback) = ws.get().callback(self.py, on) else {
            return;
        };
        let called = {
            let _entered = Entered::new(self.inner, conn.context());
            argument().and_then(|argument| callback.bind(self.py).call1((&ws, argument)))
        };
        if let Err(error) = called {
            self.failed(conn, on.name(), &ws, error);
        }
    }

    /// Makes a callback of a connection that has no argument but the connection.
    fn call_alone(&self, conn: &mut Conn<'_>, on: On, ws: &Bound<'py, WebSocketBase>) {
        let Some(callback) = ws.get().callback(self.py, on) else {
            return;
        };
        let called = {
            let _entered = Entered::new(self.inner, conn.context());
            callback.bind(self.py).call1((ws,))
        };
        if let Err(error) = called {
            self.failed(conn, on.name(), ws, error);
        }
    }

    /// A callback of a connection has raised an exception.
    #[cold]
    fn failed(
        &self,
        conn: &mut Conn<'_>,
        name: &str,
        ws: &Bound<'py, WebSocketBase>,
        error: PyErr,
    ) {
        if is_exit(self.py, &error) {
            return self.inner.leave(conn.context(), error);
        }
        let on_error = ws.get().callback(self.py, On::Error);
        self.report(conn.context(), name, on_error, ws.as_any(), error);
        if name != On::Close.name() {
            // One that is closing or closed already is left alone.
            let _ = conn.close(Some(1011), "internal error");
        }
    }

    /// Tells `on_error`, or the logger if there is none or it fails itself.
    fn report(
        &self,
        context: &mut Context,
        name: &str,
        on_error: Option<Py<PyAny>>,
        about: &Bound<'py, PyAny>,
        error: PyErr,
    ) {
        let entered = Entered::new(self.inner, context);
        let (name, error) = match on_error {
            None => (name, error),
            Some(on_error) => {
                let Err(second) = on_error.call1(self.py, (about, value(self.py, &error))) else {
                    return;
                };
                // The first is not lost: it is the second's context.
                second.set_context(self.py, Some(error));
                (On::Error.name(), second)
            }
        };
        let error = match is_exit(self.py, &error) {
            true => error,
            false => match log_failure(self.py, name, &error) {
                Ok(()) => return,
                Err(error) => error,
            },
        };
        drop(entered);
        self.inner.leave(context, error);
    }

    /// Makes the object of a connection that has come to a server.
    fn adopt(&self, conn: &mut Conn<'_>) -> PyResult<Option<Bound<'py, WebSocketBase>>> {
        let py = self.py;
        let (Some(server), id) = (self.server_of(conn), conn.id()) else {
            return Ok(None);
        };
        let request = self.inner.requests.borrow_mut().remove(&id);
        let ws = {
            let _entered = Entered::new(self.inner, conn.context());
            let Some(factory) = server.get().factory(py) else {
                return Ok(None);
            };
            let made = factory.bind(py).call0()?;
            let ws = made.cast_into::<WebSocketBase>().map_err(|error| {
                let given = error.into_inner();
                wrong_type("what factory makes", "a wsabi.WebSocket", &given)
            })?;
            if ws.get().is_used(py) {
                return Err(crate::errors::wrong_state(
                    py,
                    "factory has returned a WebSocket that is in use; it must make a new one",
                ));
            }
            let handlers = server.get().handlers(&ws.get_type())?;
            ws.get().attach(self.host, Some(&server), &handlers)?;
            ws.get().begin(py, id, None);
            ws.get().set_request(py, request);
            ws
        };
        let number = self.inner.connections.borrow_mut().add(ws.clone().unbind());
        // Not stale: it is being opened.
        let _ = conn.set_user(number.get() as u64);
        Ok(Some(ws))
    }

    /// Keeps a request until its connection opens, and lets go of those that will not open.
    fn keep_request(&self, context: &mut Context, id: ConnId, request: Py<PyAny>) {
        let mut gone = Vec::new();
        let mut requests = self.inner.requests.borrow_mut();
        if requests.len() >= KEPT_REQUESTS && requests.len().is_power_of_two() {
            let dead: Vec<_> = requests
                .keys()
                .filter(|&&id| !context.conn(id).is_known())
                .copied()
                .collect();
            gone.extend(dead.iter().filter_map(|id| requests.remove(id)));
        }
        gone.extend(requests.insert(id, request));
        drop(requests);
        drop(gone);
    }
}

#[cold]
fn log_failure(py: Python<'_>, name: &str, error: &PyErr) -> PyResult<()> {
    CALLBACK_FAILED
        .get(py)?
        .call1((name, value(py, error)))
        .map(drop)
}

/// A posted call has raised an exception.
#[cold]
pub(crate) fn report_posted(host: &Bound<'_, Loop>, context: &mut Context, error: PyErr) {
    let driver = Driver::new(host);
    let nobody = host.py().None().into_bound(host.py());
    if is_exit(host.py(), &error) {
        return driver.inner.leave(context, error);
    }
    driver.report(context, "a posted call", None, &nobody, error);
}

/// Whether a connection's end is a failure to open that its application has not caused.
fn failed_to_open(closed: &Closed) -> bool {
    closed
        .error
        .as_ref()
        .is_some_and(|error| !matches!(error.kind(), ErrorKind::Terminated | ErrorKind::Stopped))
}

impl Handler for Driver<'_, '_> {
    fn on_upgrade(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Answer {
        let Some(server) = self.server_of(conn) else {
            return Answer::refuse(500, "internal error");
        };
        let Some(callback) = server.get().callback(self.py, OnServer::Upgrade) else {
            return Answer::accept();
        };
        let (id, peer) = (conn.id(), conn.peer_addr());
        let answered = {
            let _entered = Entered::new(self.inner, conn.context());
            make(self.host, id, request, peer.as_ref()).and_then(|request| {
                let given = callback.bind(self.py).call1((&request,))?;
                Ok((upgrade_answer(&given)?, request))
            })
        };
        match answered {
            Ok((answer, request)) => {
                if !matches!(answer, Answer::Refuse(_)) {
                    self.keep_request(conn.context(), id, request);
                }
                answer
            }
            Err(error) => {
                self.upgrade_failed(conn, &server, "on_upgrade", error);
                Answer::refuse(500, "internal error")
            }
        }
    }

    fn on_http(&mut self, conn: &mut Conn<'_>, request: &Request<'_>) -> Option<Response> {
        let default = Response::upgrade_required("this server speaks WebSocket only");
        let Some(server) = self.server_of(conn) else {
            return Some(default);
        };
        let Some(callback) = server.get().callback(self.py, OnServer::Http) else {
            return Some(default);
        };
        let (id, peer) = (conn.id(), conn.peer_addr());
        let answered = {
            let _entered = Entered::new(self.inner, conn.context());
            make(self.host, id, request, peer.as_ref()).and_then(|request| {
                http_answer(&callback.bind(self.py).call1((request,))?, default)
            })
        };
        answered.unwrap_or_else(|error| {
            self.upgrade_failed(conn, &server, "on_http", error);
            Some(Response::text(500, "internal error"))
        })
    }

    fn on_open(&mut self, conn: &mut Conn<'_>, handshake: Handshake<'_>) {
        let ws = match conn.server() {
            None => self.object_of(conn),
            Some(_) => match self.adopt(conn) {
                Ok(ws) => ws,
                Err(error) => return self.adoption_failed(conn, error),
            },
        };
        let Some(ws) = ws else { return };
        ws.get().inner(self.py).opened.set(true);
        let pointer = (&raw const handshake).cast::<Handshake<'static>>();
        let before = self.inner.handshake.replace(Some((conn.id(), pointer)));
        self.call_alone(conn, On::Open, &ws);
        self.inner.handshake.set(before);
        let _entered = Entered::new(self.inner, conn.context());
        ws.get().set_request(self.py, None);
    }

    #[inline]
    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        let py = self.py;
        match message {
            Message::Text(text) => {
                self.call(conn, On::Message, || string(py, text).map(Bound::into_any))
            }
            Message::Binary(data) => {
                self.call(conn, On::Message, || bytes(py, data).map(Bound::into_any))
            }
        }
    }

    fn on_chunk(&mut self, conn: &mut Conn<'_>, chunk: Chunk<'_>) {
        let py = self.py;
        let Some(ws) = self.object_of(conn) else {
            return;
        };
        let Some(callback) = ws.get().callback(py, On::Chunk) else {
            return;
        };
        let called = {
            let _entered = Entered::new(self.inner, conn.context());
            let data = match chunk.data {
                Message::Text(text) => string(py, text).map(Bound::into_any),
                Message::Binary(data) => bytes(py, data).map(Bound::into_any),
            };
            data.and_then(|data| callback.bind(py).call1((&ws, data, chunk.last)))
        };
        if let Err(error) = called {
            self.failed(conn, On::Chunk.name(), &ws, error);
        }
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>) {
        if let Some(ws) = self.object_of(conn) {
            self.call_alone(conn, On::Drain, &ws);
        }
    }

    fn on_ping(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {
        let py = self.py;
        self.call(conn, On::Ping, || bytes(py, payload).map(Bound::into_any));
    }

    fn on_pong(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {
        let py = self.py;
        self.call(conn, On::Pong, || bytes(py, payload).map(Bound::into_any));
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, closed: &Closed) {
        let py = self.py;
        let number = conn.user() as usize;
        let Some(ws) = self.object_of(conn) else {
            return;
        };
        let subprotocol = conn.subprotocol().map(str::to_owned);
        let error = {
            let _entered = Entered::new(self.inner, conn.context());
            let error = closed.error.as_ref();
            error.and_then(|error| object(py, error, closed.http_status, None).ok())
        };
        let kept = error.clone().map(Bound::unbind);
        ws.get().end(py, closed, subprotocol.as_deref(), kept);
        if let Some(error) = error
            && !ws.get().inner(py).opened.get()
            && failed_to_open(closed)
        {
            self.connection_failed(conn, &ws, error);
        }
        if let Some(callback) = ws.get().callback(py, On::Close) {
            let called = {
                let _entered = Entered::new(self.inner, conn.context());
                callback
                    .bind(py)
                    .call1((&ws, closed.code.as_u16(), &*closed.reason))
            };
            if let Err(error) = called {
                self.failed(conn, On::Close.name(), &ws, error);
            }
        }
        let _entered = Entered::new(self.inner, conn.context());
        let entry = self.inner.connections.borrow_mut().remove(number);
        ws.get().release(py);
        drop(entry);
        drop(ws);
    }

    fn on_error(
        &mut self,
        context: &mut Context,
        server: ServerId,
        error: &Error,
        peer: Option<&PeerAddr>,
    ) {
        let Some((_, server)) = self.server(server) else {
            return;
        };
        // Without one it is the core's log that tells.
        let Some(on_error) = server.get().on_error(self.py) else {
            return;
        };
        let made = {
            let _entered = Entered::new(self.inner, context);
            object(self.py, error, 0, peer)
        };
        let error = match made {
            Ok(error) => PyErr::from_value(error),
            Err(failure) => failure,
        };
        let nobody = self.py.None().into_bound(self.py);
        self.report(context, "on_error", Some(on_error), &nobody, error);
    }

    fn on_stopped(&mut self, context: &mut Context, server: ServerId, counts: Stopped) {
        let Some((tag, server)) = self.server(server) else {
            return;
        };
        let callback = server.get().callback(self.py, OnServer::Stopped);
        let on_error = server.get().on_error(self.py);
        let called = {
            let _entered = Entered::new(self.inner, context);
            let entry = self.inner.servers.borrow_mut().remove(tag);
            drop(entry);
            server.get().end(self.py, counts);
            match callback {
                Some(callback) => stopped_object(self.py, counts)
                    .and_then(|counts| callback.bind(self.py).call1((counts,))),
                None => return,
            }
        };
        if let Err(error) = called {
            if is_exit(self.py, &error) {
                return self.inner.leave(context, error);
            }
            let nobody = self.py.None().into_bound(self.py);
            self.report(context, "on_stopped", on_error, &nobody, error);
        }
    }
}

impl<'py> Driver<'_, 'py> {
    /// `on_upgrade` or `on_http` has raised an exception, or returned something else.
    #[cold]
    fn upgrade_failed(
        &self,
        conn: &mut Conn<'_>,
        server: &Bound<'py, ServerBase>,
        name: &str,
        error: PyErr,
    ) {
        if is_exit(self.py, &error) {
            return self.inner.leave(conn.context(), error);
        }
        let nobody = self.py.None().into_bound(self.py);
        let on_error = server.get().on_error(self.py);
        self.report(conn.context(), name, on_error, &nobody, error);
    }

    /// There is no object for a connection that has opened.
    #[cold]
    fn adoption_failed(&self, conn: &mut Conn<'_>, error: PyErr) {
        let Some(server) = self.server_of(conn) else {
            return;
        };
        self.upgrade_failed(conn, &server, "factory", error);
        let _ = conn.close(Some(1011), "internal error");
    }

    /// A client's connection could not be opened.
    #[cold]
    fn connection_failed(
        &self,
        conn: &mut Conn<'_>,
        ws: &Bound<'py, WebSocketBase>,
        error: Bound<'py, PyAny>,
    ) {
        let py = self.py;
        if let Some(on_error) = ws.get().callback(py, On::Error) {
            let error = PyErr::from_value(error);
            return self.report(
                conn.context(),
                "on_error",
                Some(on_error),
                ws.as_any(),
                error,
            );
        }
        let logged = {
            let _entered = Entered::new(self.inner, conn.context());
            CONNECTION_FAILED
                .get(py)
                .and_then(|log| log.call1((ws.get().url(py), error)))
        };
        if let Err(error) = logged {
            self.inner.leave(conn.context(), error);
        }
    }
}
