//! The methods of `Loop`.
//!
//! Does not know: connections and servers.

use core::time::Duration;
use std::time::Instant;

use pyo3::PyTraverseError;
use pyo3::prelude::*;
use pyo3::types::{PyTuple, PyWeakrefReference};
use wsabi::{Context, LogLevel, LogSink, LoopOptions};

use crate::driver::report_posted;
use crate::errors::{Name, OrRaise, raise, seconds, wrong_state};
use crate::handlers::check;
use crate::host::{Entered, Loop};
use crate::options::number;
use crate::signals::Watching;

static LOG_TO: Name = Name::new("wsabi._log", "log_to");
static LEVEL: Name = Name::new("wsabi._log", "level");
static STATS: Name = Name::new("wsabi._types", "Stats");

#[pymethods]
impl Loop {
    #[new]
    #[pyo3(signature = (*, max_events = None, max_inbox_bytes = None, logger = None),
           text_signature = "(*, max_events=4096, max_inbox_bytes=16777216, logger=None)")]
    fn new(
        py: Python<'_>,
        max_events: Option<&Bound<'_, PyAny>>,
        max_inbox_bytes: Option<&Bound<'_, PyAny>>,
        logger: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let mut options = LoopOptions::default();
        if let Some(given) = max_events {
            options.max_events = number("max_events", given)?;
        }
        if let Some(given) = max_inbox_bytes {
            options.max_inbox_bytes = number("max_inbox_bytes", given)?;
        }
        options.log = log(py, logger)?;
        wsabi::Loop::with_options(options)
            .map(Self::make)
            .or_raise(py)
    }

    /// Whether :meth:`close` was called.
    #[getter]
    fn closed(&self, py: Python<'_>) -> bool {
        self.inner(py).is_closed()
    }

    /// A descriptor that is readable exactly when :meth:`dispatch` has work, timers included. Any
    /// event loop can watch it, level-triggered. From any thread.
    ///
    /// :raises ConnectionClosed: the loop is closed.
    fn fileno(&self, py: Python<'_>) -> PyResult<i32> {
        self.fd(py)
    }

    /// Does what there is to do, without waiting, and tells whether more is left; then the
    /// descriptor is readable.
    ///
    /// ``KeyboardInterrupt`` and ``SystemExit`` that a callback raises leave it; what was not done
    /// yet is done by the next one.
    ///
    /// :raises InvalidState: inside a callback.
    /// :raises WrongThread: from another thread than that of the first dispatch.
    fn dispatch(slf: &Bound<'_, Self>) -> PyResult<bool> {
        Self::dispatch_once(slf)
    }

    /// Waits until there is something to do, but not longer than ``timeout`` seconds, and does it;
    /// tells whether more is left. ``None`` waits without end.
    ///
    /// :raises InvalidState: inside a callback.
    /// :raises WrongThread: from another thread than that of the first dispatch.
    #[pyo3(signature = (timeout = None))]
    fn poll(slf: &Bound<'_, Self>, timeout: Option<&Bound<'_, PyAny>>) -> PyResult<bool> {
        let timeout = match timeout {
            Some(given) => Some(seconds(slf.py(), "timeout", given)?),
            None => None,
        };
        // What does not wait needs no watching.
        if Self::wait(slf, Some(Duration::ZERO))? {
            return Self::dispatch_once(slf);
        }
        if timeout == Some(Duration::ZERO) {
            return slf.py().check_signals().map(|()| false);
        }
        // A time that no clock reaches is no limit.
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        let watching = Watching::start(slf)?;
        loop {
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            let found = Self::wait(slf, left)?;
            watching.handle_signals()?;
            if found {
                return Self::dispatch_once(slf);
            }
            if left == Some(Duration::ZERO) {
                return Ok(false);
            }
        }
    }

    /// Seconds until something may be due, ``None`` if nothing is; for hosts that cannot watch the
    /// descriptor, which tells it too. A deadline far ahead may need a step on the way.
    ///
    /// :raises InvalidState: inside a callback.
    fn timeout(&self, py: Python<'_>) -> PyResult<Option<f64>> {
        self.with_loop(py, |event_loop| Ok(event_loop.timeout()))
            .map(|timeout| timeout.map(|timeout| timeout.as_secs_f64()))
    }

    /// Runs until :meth:`stop`, or until nothing is left: no server, no connection, no posted call.
    ///
    /// Ctrl-C ends it at once, with ``KeyboardInterrupt``; connections stay as they are, and
    /// running can go on. While it waits other threads run.
    ///
    /// :raises InvalidState: inside a callback, or if an asyncio loop drives this one.
    /// :raises WrongThread: from another thread than that of the first dispatch.
    fn run_forever(slf: &Bound<'_, Self>) -> PyResult<()> {
        let py = slf.py();
        let this = slf.get();
        let inner = this.inner(py);
        inner.check_free().or_raise(py)?;
        if inner.is_hosted() {
            return Err(wrong_state(
                py,
                "an asyncio loop drives this loop, which only has to go on running",
            ));
        }
        let watching = Watching::start(slf)?;
        loop {
            if inner.stopping.take() || this.is_done(py) {
                return Ok(());
            }
            let found = Self::wait(slf, None)?;
            watching.handle_signals()?;
            if found && !inner.is_closed() {
                Self::dispatch_once(slf)?;
            }
        }
    }

    /// Makes :meth:`run_forever` return after the dispatch that is under way, or at once when it is
    /// called next. Connections stay as they are. From any thread.
    fn stop(&self, py: Python<'_>) -> PyResult<()> {
        self.inner(py).stopping.set(true);
        self.handle().wake().or_raise(py)
    }

    /// Calls ``callback(*args)`` on the loop's thread, soon. From any thread, in each thread's
    /// order. An exception goes to the logger ``wsabi``.
    ///
    /// :raises BufferFull: calls from other threads hold more than ``max_inbox_bytes``.
    /// :raises ConnectionClosed: the loop is closed.
    #[pyo3(signature = (callback, *args))]
    fn call_soon_threadsafe(
        slf: &Bound<'_, Self>,
        callback: &Bound<'_, PyAny>,
        args: &Bound<'_, PyTuple>,
    ) -> PyResult<()> {
        check("callback", callback)?;
        let py = slf.py();
        // The inbox gets a mark only, and the call is kept where the collector of cycles sees it: a
        // call that waits must not keep its loop alive.
        let weak = PyWeakrefReference::new(slf)?.unbind();
        let mark = move |context: &mut Context| {
            Python::attach(|py| {
                if let Ok(Some(host)) = weak.bind(py).upgrade_as::<Self>() {
                    run_posted(&host, context);
                }
            });
        };
        let call = (callback.clone().unbind(), args.clone().unbind());
        let inner = slf.get().inner(py);
        inner.posted.borrow_mut().push_back(call);
        slf.get().handle().post(mark).map_err(|error| {
            let refused = inner.posted.borrow_mut().pop_back();
            drop(refused);
            raise(py, &error)
        })
    }

    /// Writes everything that waits, as far as the kernel takes it, without waiting for the end of
    /// the turn.
    fn flush(&self, py: Python<'_>) -> PyResult<()> {
        if self.inner(py).is_closed() {
            return Ok(());
        }
        self.inner(py).flush(py)
    }

    /// Counts and amounts.
    fn stats<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let stats = self
            .inner(py)
            .command(|context| Ok(context.stats()))
            .or_raise(py)?;
        STATS.get(py)?.call1(PyTuple::new(
            py,
            [
                stats.connections,
                stats.pending_handshakes,
                stats.buffered_bytes,
                stats.bytes_received,
                stats.bytes_sent,
                stats.messages_received,
                stats.messages_sent,
                stats.closes_clean,
                stats.closes_lost,
                stats.closes_protocol,
                stats.closes_timeout,
                stats.closes_local,
                stats.handshakes_failed,
            ],
        )?)
    }

    /// Ends every connection and server at once, with their last callbacks, and closes the
    /// descriptor. Inside a callback it does so after the dispatch. A second time it does nothing.
    ///
    /// :raises WrongThread: from another thread than the loop's.
    fn close(slf: &Bound<'_, Self>) -> PyResult<()> {
        Self::close_or_doom(slf)
    }

    /// Lets a host drive this loop: an object with ``schedule()``, which has :meth:`flush` called at
    /// the end of the tick and tells whether it will be, and ``release()``, which is called when the
    /// loop closes.
    #[pyo3(signature = (host))]
    fn set_host(&self, py: Python<'_>, host: Option<Py<PyAny>>) -> PyResult<()> {
        self.put_host(py, host)
    }

    fn __enter__(slf: Bound<'_, Self>) -> Bound<'_, Self> {
        slf
    }

    #[pyo3(signature = (kind, error, traceback))]
    fn __exit__(
        slf: &Bound<'_, Self>,
        kind: &Bound<'_, PyAny>,
        error: &Bound<'_, PyAny>,
        traceback: &Bound<'_, PyAny>,
    ) -> PyResult<()> {
        let _ = (kind, error, traceback);
        Self::close_or_doom(slf)
    }

    fn __repr__(&self, py: Python<'_>) -> String {
        if self.inner(py).is_closed() {
            return "<wsabi.Loop closed>".to_owned();
        }
        format!("<wsabi.Loop fd={}>", self.fd(py).unwrap_or(-1))
    }

    fn __traverse__(&self, visit: pyo3::PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.traverse(visit)
    }

    fn __clear__(&self, py: Python<'_>) {
        self.clear(py);
    }
}

/// Makes the call that was posted first.
fn run_posted(host: &Bound<'_, Loop>, context: &mut Context) {
    let py = host.py();
    let inner = host.get().inner(py);
    let Some((callback, args)) = inner.posted.borrow_mut().pop_front() else {
        return;
    };
    let called = {
        let _entered = Entered::new(inner, context);
        let called = callback.call1(py, args.bind(py));
        drop((callback, args));
        called
    };
    if let Err(error) = called {
        report_posted(host, context, error);
    }
}

/// The receiver of log lines: a method of a logger, and the least important level it wants.
fn log(py: Python<'_>, logger: Option<&Bound<'_, PyAny>>) -> PyResult<Option<(LogLevel, LogSink)>> {
    let (logger, level): (Py<PyAny>, u8) = LEVEL.get(py)?.call1((logger,))?.extract()?;
    let level = match level {
        0 => return Ok(None),
        1 => LogLevel::Error,
        2 => LogLevel::Warn,
        3 => LogLevel::Info,
        _ => LogLevel::Debug,
    };
    let sink = move |level: LogLevel, line: &str| {
        Python::attach(|py| {
            let logged = LOG_TO
                .get(py)
                .and_then(|log_to| log_to.call1((&logger, level as u8, line)));
            match logged {
                Ok(_) => {}
                Err(error) if error.is_instance_of::<pyo3::exceptions::PyKeyboardInterrupt>(py) => {
                    // The line is the core's, which cannot be left here: the signal comes again.
                    // SAFETY: the function has no preconditions.
                    unsafe { pyo3::ffi::PyErr_SetInterrupt() };
                }
                Err(error) => error.write_unraisable(py, Some(logger.bind(py))),
            }
        });
    };
    Ok(Some((level, Box::new(sink))))
}
