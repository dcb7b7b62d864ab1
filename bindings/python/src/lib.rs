//! The native part of the Python package: `wsabi._wsabi`.
//!
//! The public names are in `python/wsabi`, which documents them; here is what carries them out, on
//! the core's loop, with no thread between a socket and a callback.
//!
//! Does not know: the protocol's internals, or any other language.

mod client;
mod connection;
mod driver;
mod errors;
mod guard;
mod handlers;
mod host;
mod r#loop;
mod options;
mod prepared;
mod request;
mod server;
mod signals;
mod table;
mod text;
mod websocket;

/// The module. It relies on the interpreter's lock: an interpreter that can do without turns it on.
#[pyo3::pymodule(gil_used = true)]
mod _wsabi {
    use core::sync::atomic::{AtomicI64, Ordering};

    use pyo3::exceptions::PyImportError;
    use pyo3::ffi;
    use pyo3::prelude::*;
    use pyo3::types::PyBytes;
    use wsabi::ErrorKind;
    use wsabi::protocol::connection::KEEPALIVE_PAYLOAD;

    #[pymodule_export]
    use crate::client::connect;
    #[pymodule_export]
    use crate::connection::WebSocketBase;
    #[pymodule_export]
    use crate::host::Loop;
    #[pymodule_export]
    use crate::prepared::{Prepared, broadcast};
    #[pymodule_export]
    use crate::request::{answer, check_response};
    #[pymodule_export]
    use crate::server::{ServerBase, serve};

    /// The interpreter that has imported the module; -1 before.
    static INTERPRETER: AtomicI64 = AtomicI64::new(-1);

    /// Refuses further interpreters, which would share objects with the first.
    fn check_interpreter() -> PyResult<()> {
        // SAFETY: this thread is attached to an interpreter.
        let id = unsafe { ffi::PyInterpreterState_GetID(ffi::PyInterpreterState_Get()) };
        match INTERPRETER.compare_exchange(-1, id, Ordering::Relaxed, Ordering::Relaxed) {
            Err(other) if other != id => Err(PyImportError::new_err(
                "wsabi cannot be used in several interpreters of a process; another has imported it",
            )),
            _ => Ok(()),
        }
    }

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        check_interpreter()?;
        let py = module.py();
        module.add("__version__", wsabi::VERSION)?;
        module.add("KEEPALIVE_PAYLOAD", PyBytes::new(py, KEEPALIVE_PAYLOAD))?;
        module.add("DEFAULTS", crate::options::defaults(py)?)?;
        let kinds: Vec<_> = ErrorKind::ALL
            .iter()
            .map(|&kind| (crate::errors::name(kind), kind as i32))
            .collect();
        module.add("ERROR_KINDS", kinds)
    }
}
