//! Ctrl-C during a wait: a descriptor that the interpreter's signal handler writes to.
//!
//! A system call that a signal interrupts ends by itself, but a signal that comes just before the
//! call would be noticed only after it.
//!
//! Does not know: what the handlers of signals do.

use std::io::{self, Read as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;

use pyo3::exceptions::PyValueError;
use pyo3::prelude::*;
use pyo3::types::IntoPyDict as _;
use wsabi::ErrorKind;

use crate::errors::raise;
use crate::host::Loop;

/// The descriptor's two ends.
pub(crate) struct Wakeup {
    reader: UnixStream,
    writer: UnixStream,
}

impl Wakeup {
    fn new() -> io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        Ok(Self { reader, writer })
    }

    /// Reads what signal handlers have written.
    fn drain(&self) {
        // An error, such as that nothing is left, ends it.
        while matches!((&self.reader).read(&mut [0; 64]), Ok(1..)) {}
    }
}

/// The interpreter's signal handler writing to a loop's descriptor, as long as this lives.
pub(crate) struct Watching<'a, 'py> {
    host: &'a Bound<'py, Loop>,
    /// What it wrote to before; `None` where there are no signals to watch for.
    before: Option<Py<PyAny>>,
}

impl<'a, 'py> Watching<'a, 'py> {
    pub(crate) fn start(host: &'a Bound<'py, Loop>) -> PyResult<Self> {
        let py = host.py();
        let inner = host.get().inner(py);
        if inner.wakeup.borrow().is_none() {
            let wakeup = Wakeup::new().map_err(|error| {
                let what = "cannot make a pair of sockets";
                raise(py, &wsabi::Error::from_io(ErrorKind::Io, what, &error))
            })?;
            let fd = wakeup.reader.as_raw_fd();
            host.get()
                .with_loop(py, |event_loop| event_loop.watch(fd))?;
            *inner.wakeup.borrow_mut() = Some(wakeup);
        }
        let fd = inner.wakeup.borrow().as_ref().map(|w| w.writer.as_raw_fd());
        let quietly = [("warn_on_full_buffer", false)].into_py_dict(py)?;
        let set = py.import("signal")?.getattr("set_wakeup_fd")?;
        let before = match set.call((fd.unwrap_or(-1),), Some(&quietly)) {
            Ok(before) => Some(before.unbind()),
            // Not the main thread, which alone gets signals.
            Err(error) if error.is_instance_of::<PyValueError>(py) => None,
            Err(error) => return Err(error),
        };
        let watching = Self { host, before };
        // Those that came before the descriptor was set.
        py.check_signals()?;
        Ok(watching)
    }

    /// Runs the handlers of the signals that have come. The descriptor is read before, so that the
    /// next wait ends for one that comes meanwhile.
    pub(crate) fn handle_signals(&self) -> PyResult<()> {
        let py = self.host.py();
        let inner = self.host.get().inner(py);
        if self.before.is_some()
            && !inner.is_closed()
            && self
                .host
                .get()
                .with_loop(py, |event_loop| Ok(event_loop.take_watched()))?
            && let Some(wakeup) = &*inner.wakeup.borrow()
        {
            wakeup.drain();
        }
        py.check_signals()
    }
}

impl Drop for Watching<'_, '_> {
    fn drop(&mut self) {
        let py = self.host.py();
        let Some(before) = self.before.take() else {
            return;
        };
        if let Some(wakeup) = &*self.host.get().inner(py).wakeup.borrow() {
            wakeup.drain();
        }
        let restored = py
            .import("signal")
            .and_then(|signal| signal.call_method1("set_wakeup_fd", (before,)));
        if let Err(error) = restored {
            // Its owner has closed the descriptor meanwhile: nobody is to be woken.
            let unset = py
                .import("signal")
                .and_then(|signal| signal.call_method1("set_wakeup_fd", (-1,)));
            if unset.is_err() {
                error.write_unraisable(py, None);
            }
        }
    }
}
