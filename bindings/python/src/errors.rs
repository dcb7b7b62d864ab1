//! From the core's errors to Python's exceptions, whose classes are in `_errors.py`.
//!
//! Does not know: where errors come from.

use pyo3::exceptions::{PyTypeError, PyValueError};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use wsabi::{Error, ErrorKind, PeerAddr};

use crate::text::address;

/// A name of a module of the package, looked up once.
pub(crate) struct Name {
    module: &'static str,
    name: &'static str,
    value: PyOnceLock<Py<PyAny>>,
}

impl Name {
    pub(crate) const fn new(module: &'static str, name: &'static str) -> Self {
        Self {
            module,
            name,
            value: PyOnceLock::new(),
        }
    }

    pub(crate) fn get<'py>(&self, py: Python<'py>) -> PyResult<&Bound<'py, PyAny>> {
        self.value
            .get_or_try_init(py, || {
                Ok(py.import(self.module)?.getattr(self.name)?.unbind())
            })
            .map(|value| value.bind(py))
    }
}

static MAKE: Name = Name::new("wsabi._errors", "make");

/// What every language calls a kind of error, such as `CLOSED`.
pub(crate) fn name(kind: ErrorKind) -> &'static str {
    let symbol = kind.symbol();
    symbol.strip_prefix("WSABI_E_").unwrap_or(symbol)
}

/// An exception that was raised, with its traceback.
pub(crate) fn value<'py>(py: Python<'py>, error: &PyErr) -> Bound<'py, PyAny> {
    error.clone_ref(py).into_value(py).into_bound(py).into_any()
}

/// The exception for an error, as an object.
pub(crate) fn object<'py>(
    py: Python<'py>,
    error: &Error,
    http_status: u16,
    peer: Option<&PeerAddr>,
) -> PyResult<Bound<'py, PyAny>> {
    let os_error = error.os_error();
    // `OSError` says the number by itself.
    let text = error
        .detail()
        .replace(&format!(" (os error {os_error})"), "");
    MAKE.get(py)?.call1((
        name(error.kind()),
        error.kind() as i32,
        text,
        os_error,
        http_status,
        address(py, peer)?,
    ))
}

/// The exception for an error, to be raised.
#[cold]
pub(crate) fn raise(py: Python<'_>, error: &Error) -> PyErr {
    match object(py, error, 0, None) {
        Ok(exception) => PyErr::from_value(exception),
        Err(failure) => failure,
    }
}

/// Raises an error of the core.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for wsabi::Result<T> {
    #[inline]
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|error| raise(py, &error))
    }
}

/// A refused argument.
pub(crate) fn invalid(py: Python<'_>, detail: String) -> PyErr {
    raise(py, &Error::new(ErrorKind::Invalid, detail))
}

/// A call at the wrong moment.
pub(crate) fn wrong_state(py: Python<'_>, detail: &'static str) -> PyErr {
    raise(py, &Error::new(ErrorKind::State, detail))
}

/// An argument of the wrong type.
pub(crate) fn wrong_type(name: &str, expected: &str, given: &Bound<'_, PyAny>) -> PyErr {
    let given = given
        .get_type()
        .name()
        .map_or_else(|_| "something else".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{name} must be {expected}, not {given}"))
}

/// Whether an exception is one that ends programs rather than connections.
pub(crate) fn is_exit(py: Python<'_>, error: &PyErr) -> bool {
    !error.is_instance_of::<pyo3::exceptions::PyException>(py)
}

/// A time that an application gives in seconds.
pub(crate) fn seconds(
    py: Python<'_>,
    name: &str,
    given: &Bound<'_, PyAny>,
) -> PyResult<core::time::Duration> {
    let is_bool = given.is_instance_of::<pyo3::types::PyBool>();
    let number: f64 = match given.extract() {
        Ok(number) if !is_bool => number,
        Err(error) if error.is_instance_of::<PyValueError>(py) => return Err(error),
        _ => return Err(wrong_type(name, "a number of seconds", given)),
    };
    core::time::Duration::try_from_secs_f64(number).map_err(|_| {
        invalid(
            py,
            format!("{name} is {number}; expected seconds, 0 or more"),
        )
    })
}
