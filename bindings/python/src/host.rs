//! The loop as Python holds it: which thread it belongs to, whether it is busy, how a call gets at
//! it, from a callback or from outside, and how it waits.
//!
//! Does not know: what the calls do.

use core::cell::{Cell, RefCell, UnsafeCell};
use core::ptr;
use core::time::Duration;
use std::collections::{HashMap, VecDeque};

use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::types::PyTuple;
use wsabi::{ConnId, Context, Error, ErrorKind, Handle, Handshake, Result};

use crate::connection::WebSocketBase;
use crate::driver::Driver;
use crate::errors::{OrRaise, is_exit, raise};
use crate::guard::Guarded;
use crate::server::ServerBase;
use crate::signals::Wakeup;
use crate::table::Table;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    /// Neither dispatching nor waiting.
    Idle,
    Busy,
    /// Busy, and to be closed when that ends.
    Doomed,
    Closed,
    /// A defect was caught while something was going on: nothing is done with the loop any more.
    Broken,
}

/// A loop for any number of servers and clients, on one file descriptor.
///
/// It belongs to the thread that made it until its first dispatch, and from then on to the thread
/// of that dispatch. Other threads may call `stop` and `call_soon_threadsafe`, and what connections
/// and servers allow them.
///
/// :param max_events: callbacks in one dispatch, after which others get their turn.
/// :param max_inbox_bytes: bytes that calls from other threads may hold until the loop takes them.
/// :param logger: where its log goes; default ``logging.getLogger("wsabi")``. What is logged is
///     decided by the logger's level when the loop is made.
#[pyclass(frozen, weakref, module = "wsabi")]
pub(crate) struct Loop {
    handle: Handle,
    inner: Guarded<Inner>,
}

pub(crate) struct Inner {
    state: Cell<State>,
    thread: Cell<usize>,
    /// Whether the thread is final.
    bound: Cell<bool>,
    /// Kept apart, because any thread may ask for it.
    fd: i32,
    /// The context of the callback that is being made; null outside of callbacks.
    current: Cell<*mut Context>,
    /// Whether a command is being carried out, in which a logger could call again.
    commanding: Cell<bool>,
    pub(crate) stopping: Cell<bool>,
    /// What has to leave the dispatch that is under way: `KeyboardInterrupt`, `SystemExit`.
    pending: RefCell<Option<PyErr>>,
    pub(crate) connections: RefCell<Table<Py<WebSocketBase>>>,
    pub(crate) servers: RefCell<Table<Py<ServerBase>>>,
    /// Requests that were accepted or will be answered later, until their connection opens.
    pub(crate) requests: RefCell<HashMap<ConnId, Py<PyAny>>>,
    /// Calls from other threads, in their order.
    pub(crate) posted: RefCell<VecDeque<(Py<PyAny>, Py<PyTuple>)>>,
    /// The handshake that `on_open` may look at, while it is called.
    pub(crate) handshake: Cell<Option<(ConnId, *const Handshake<'static>)>>,
    /// The asyncio loop that watches the descriptor.
    host: RefCell<Option<Py<PyAny>>>,
    /// Whether the host has been asked to flush.
    flush_scheduled: Cell<bool>,
    pub(crate) wakeup: RefCell<Option<Wakeup>>,
    event_loop: UnsafeCell<Option<wsabi::Loop>>,
}

/// Makes `current` the context of a callback, for as long as it is made.
pub(crate) struct Entered<'a> {
    host: &'a Inner,
    before: *mut Context,
}

impl<'a> Entered<'a> {
    pub(crate) fn new(host: &'a Inner, context: &mut Context) -> Self {
        Self {
            host,
            before: host.current.replace(context),
        }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.host.current.set(self.before);
    }
}

fn this_thread() -> usize {
    // SAFETY: the function has no preconditions.
    unsafe { libc::pthread_self() as usize }
}

impl Inner {
    /// Whether the calling thread is the loop's.
    #[inline]
    pub(crate) fn is_home(&self) -> bool {
        self.thread.get() == this_thread()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.state.get() == State::Closed
    }

    pub(crate) fn is_hosted(&self) -> bool {
        self.host.borrow().is_some()
    }

    /// Carries out a command on the loop's thread.
    #[inline]
    pub(crate) fn command<T>(&self, act: impl FnOnce(&mut Context) -> Result<T>) -> Result<T> {
        if !self.is_home() {
            return Err(wrong_thread());
        }
        if self.commanding.replace(true) {
            return Err(self.busy());
        }
        let unwound = Unwound(self);
        let result = self.command_unguarded(act);
        core::mem::forget(unwound);
        self.commanding.set(false);
        result
    }

    #[inline]
    fn command_unguarded<T>(&self, act: impl FnOnce(&mut Context) -> Result<T>) -> Result<T> {
        let current = self.current.get();
        if !current.is_null() {
            // SAFETY: `current` is not null only while a callback is being made on this thread. It
            // comes from the exclusive reference that the callback's maker holds and does not use
            // meanwhile; `commanding` sees to it that only one command uses it at a time.
            return act(unsafe { &mut *current });
        }
        if self.state.get() != State::Idle {
            return Err(self.busy());
        }
        // SAFETY: nothing is under way, and this is the loop's thread, so nothing else refers to the
        // loop; `commanding` keeps it so until the command is done.
        match unsafe { &mut *self.event_loop.get() } {
            Some(event_loop) => act(event_loop),
            None => Err(closed()),
        }
    }

    /// Why the loop cannot be had just now.
    #[cold]
    fn busy(&self) -> Error {
        match self.state.get() {
            State::Closed => closed(),
            State::Broken => Error::new(
                ErrorKind::Panic,
                "a defect was caught earlier; the loop cannot be used further",
            ),
            State::Idle | State::Busy | State::Doomed => Error::new(
                ErrorKind::Reentrant,
                "the loop is busy: a callback cannot dispatch, and a logging handler cannot call",
            ),
        }
    }

    /// Refuses to go on unless the loop can be taken by this thread.
    pub(crate) fn check_free(&self) -> Result<()> {
        if self.bound.get() && !self.is_home() {
            return Err(wrong_thread());
        }
        if self.commanding.get() || self.state.get() != State::Idle {
            return Err(self.busy());
        }
        Ok(())
    }

    /// Takes the loop for itself on its thread: for a dispatch, or a wait.
    fn take<T>(&self, act: impl FnOnce(&mut wsabi::Loop) -> Result<T>) -> Result<T> {
        self.check_free()?;
        if !self.bound.replace(true) {
            self.thread.set(this_thread());
        }
        self.state.set(State::Busy);
        let unwound = Unwound(self);
        // SAFETY: the state went from idle to busy on the loop's thread, so nothing else refers to
        // the loop; callbacks reach it through the context they are given.
        let result = match unsafe { &mut *self.event_loop.get() } {
            Some(event_loop) => act(event_loop),
            None => Err(closed()),
        };
        core::mem::forget(unwound);
        if self.state.get() == State::Busy {
            self.state.set(State::Idle);
        }
        result
    }

    /// Keeps what has to leave the dispatch, and ends that.
    pub(crate) fn leave(&self, context: &mut Context, error: PyErr) {
        context.yield_dispatch();
        let mut pending = self.pending.borrow_mut();
        if pending.is_none() {
            *pending = Some(error);
        } else {
            // What goes with it may run code that gets here again.
            drop(pending);
            drop(error);
        }
    }

    /// After a call that may have queued output outside of a dispatch: has the host write it at the
    /// end of its tick.
    #[inline]
    pub(crate) fn schedule_flush(&self, py: Python<'_>) -> PyResult<()> {
        if self.host.borrow().is_none()
            || !self.current.get().is_null()
            || self.flush_scheduled.replace(true)
        {
            return Ok(());
        }
        self.ask_host(py)
    }

    #[cold]
    fn ask_host(&self, py: Python<'_>) -> PyResult<()> {
        let host = self.host.borrow().as_ref().map(|host| host.clone_ref(py));
        let Some(host) = host else { return Ok(()) };
        let scheduled = host.call_method0(py, "schedule")?.is_truthy(py)?;
        if !scheduled {
            self.flush(py)?;
        }
        Ok(())
    }

    pub(crate) fn flush(&self, py: Python<'_>) -> PyResult<()> {
        self.flush_scheduled.set(false);
        self.command(Context::flush_all).or_raise(py)
    }
}

/// Breaks the loop if what is done with it panics.
struct Unwound<'a>(&'a Inner);

impl Drop for Unwound<'_> {
    fn drop(&mut self) {
        self.0.state.set(State::Broken);
    }
}

#[cold]
fn closed() -> Error {
    Error::new(ErrorKind::Closed, "the loop is closed")
}

#[cold]
pub(crate) fn wrong_thread() -> Error {
    Error::new(
        ErrorKind::Thread,
        "this call belongs to the loop's thread; it came from another",
    )
}

impl Loop {
    pub(crate) fn make(event_loop: wsabi::Loop) -> Self {
        Self {
            handle: event_loop.handle(),
            inner: Guarded::new(Inner {
                state: Cell::new(State::Idle),
                thread: Cell::new(this_thread()),
                bound: Cell::new(false),
                fd: event_loop.fd().unwrap_or(-1),
                current: Cell::new(ptr::null_mut()),
                commanding: Cell::new(false),
                stopping: Cell::new(false),
                pending: RefCell::default(),
                connections: RefCell::default(),
                servers: RefCell::default(),
                requests: RefCell::default(),
                posted: RefCell::default(),
                handshake: Cell::new(None),
                host: RefCell::default(),
                flush_scheduled: Cell::new(false),
                wakeup: RefCell::default(),
                event_loop: UnsafeCell::new(Some(event_loop)),
            }),
        }
    }

    #[inline]
    pub(crate) const fn inner<'py>(&'py self, py: Python<'py>) -> &'py Inner {
        self.inner.get(py)
    }

    /// The handle for calls from other threads.
    pub(crate) const fn handle(&self) -> &Handle {
        &self.handle
    }

    pub(crate) fn fd(&self, py: Python<'_>) -> PyResult<i32> {
        let inner = self.inner(py);
        if inner.is_closed() {
            return Err(raise(py, &closed()));
        }
        Ok(inner.fd)
    }

    /// Runs a dispatch, closes the loop afterwards if that was asked for meanwhile, and raises what
    /// has to leave. Tells whether more is left.
    pub(crate) fn dispatch_once(slf: &Bound<'_, Self>) -> PyResult<bool> {
        let py = slf.py();
        let inner = slf.get().inner(py);
        inner.check_free().or_raise(py)?;
        let result = inner.take(|event_loop| event_loop.dispatch(&mut Driver::new(slf)));
        inner.flush_scheduled.set(false);
        if inner.state.get() == State::Doomed {
            Self::close_now(slf);
        }
        if let Some(error) = inner.pending.take() {
            return Err(error);
        }
        Ok(result.or_raise(py)? && !inner.is_closed())
    }

    /// Waits until there is work, without the interpreter's lock if that takes time. Tells whether
    /// there is work.
    pub(crate) fn wait(slf: &Bound<'_, Self>, timeout: Option<Duration>) -> PyResult<bool> {
        let py = slf.py();
        let inner = slf.get().inner(py);
        inner
            .take(|event_loop| {
                let found = event_loop.wait(Some(Duration::ZERO))?;
                if found || timeout == Some(Duration::ZERO) {
                    return Ok(found);
                }
                py.detach(|| event_loop.wait(timeout))
            })
            .or_raise(py)
    }

    /// Whether nothing is left that could call back.
    pub(crate) fn is_done(&self, py: Python<'_>) -> bool {
        let inner = self.inner(py);
        // SAFETY: on the loop's thread outside of a dispatch, as in `command`.
        inner.state.get() != State::Idle
            || unsafe { &*inner.event_loop.get() }
                .as_ref()
                .is_none_or(wsabi::Loop::is_done)
    }

    /// Calls with the loop itself, which is idle.
    pub(crate) fn with_loop<T>(
        &self,
        py: Python<'_>,
        act: impl FnOnce(&mut wsabi::Loop) -> Result<T>,
    ) -> PyResult<T> {
        let inner = self.inner(py);
        let bound = inner.bound.get();
        let result = inner.take(act);
        if !bound {
            // Only a dispatch binds.
            inner.bound.set(false);
        }
        result.or_raise(py)
    }

    /// Puts a host in charge, or takes it out.
    pub(crate) fn put_host(&self, py: Python<'_>, host: Option<Py<PyAny>>) -> PyResult<()> {
        let inner = self.inner(py);
        let deferring = host.is_some();
        inner
            .command(|context| context.defer_writes(deferring))
            .or_raise(py)?;
        let before = inner.host.replace(host);
        drop(before);
        Ok(())
    }

    /// Closes the loop: at once, or after the dispatch that is under way.
    pub(crate) fn close_or_doom(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let inner = slf.get().inner(py);
        match inner.state.get() {
            State::Closed | State::Doomed | State::Broken => return Ok(()),
            _ if !inner.is_home() => return Err(raise(py, &wrong_thread())),
            _ if inner.commanding.get() => return Err(raise(py, &inner.busy())),
            State::Busy => {
                inner.state.set(State::Doomed);
                return Ok(());
            }
            State::Idle => {}
        }
        Self::close_now(slf);
        match inner.pending.take() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Ends all connections with their last callbacks, and closes the loop.
    fn close_now(slf: &Bound<'_, Self>) {
        let py = slf.py();
        let inner = slf.get().inner(py);
        if let Some(host) = inner.host.take()
            && let Err(error) = host.call_method0(py, "release")
        {
            // The host's own trouble, which does not keep the loop from closing.
            if is_exit(py, &error) {
                inner.pending.borrow_mut().get_or_insert(error);
            } else {
                error.write_unraisable(py, Some(host.bind(py)));
            }
        }
        inner.state.set(State::Doomed);
        // SAFETY: no dispatch is under way on the loop's thread, and the state keeps others out.
        let event_loop = unsafe { &mut *inner.event_loop.get() };
        if let Some(event_loop) = event_loop {
            event_loop.finish(&mut Driver::new(slf));
        }
        inner.state.set(State::Closed);
        drop(event_loop.take());
        inner.wakeup.take();
        // What the last callbacks did not take out is of a forked process's parent.
        drop(inner.connections.take());
        drop(inner.servers.take());
        drop(inner.requests.take());
        drop(inner.posted.take());
    }

    pub(crate) fn traverse(&self, visit: pyo3::PyVisit<'_>) -> Result<(), PyTraverseError> {
        // SAFETY: the collector runs with the lock held.
        let inner = unsafe { self.inner.get_collecting() };
        // Nothing else holds a borrow while Python code runs, and so while the collector does; if
        // something did, what it borrows would only be collected later.
        for ws in inner.connections.try_borrow().iter().flat_map(|t| t.iter()) {
            visit.call(ws)?;
        }
        for server in inner.servers.try_borrow().iter().flat_map(|t| t.iter()) {
            visit.call(server)?;
        }
        for request in inner.requests.try_borrow().iter().flat_map(|r| r.values()) {
            visit.call(request)?;
        }
        for (callback, args) in inner.posted.try_borrow().iter().flat_map(|p| p.iter()) {
            visit.call(callback)?;
            visit.call(args)?;
        }
        match inner.host.try_borrow() {
            Ok(host) => visit.call(&*host),
            Err(_) => Ok(()),
        }
    }

    pub(crate) fn clear(&self, py: Python<'_>) {
        let inner = self.inner(py);
        let connections = inner.connections.take();
        let servers = inner.servers.take();
        let requests = inner.requests.take();
        let posted = inner.posted.take();
        let host = inner.host.take();
        drop((connections, servers, requests, posted, host));
    }
}
