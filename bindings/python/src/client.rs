//! `connect`: from a URL and options to a connection under way.
//!
//! Does not know: what becomes of it.

use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::connection::WebSocketBase;
use crate::errors::{raise, wrong_state};
use crate::handlers::{Handlers, checked, method_of_class};
use crate::host::Loop;
use crate::options::Options;

/// Starts to connect, with what `connect` was given.
#[pyfunction]
pub(crate) fn connect(
    host: &Bound<'_, Loop>,
    ws: &Bound<'_, WebSocketBase>,
    url: &Bound<'_, PyAny>,
    options: &Bound<'_, PyDict>,
) -> PyResult<()> {
    let py = host.py();
    let (this, inner) = (ws.get(), host.get().inner(py));
    if this.is_used(py) {
        return Err(wrong_state(
            py,
            "this WebSocket has been connected before; make another",
        ));
    }
    let Ok(text) = url.extract::<String>() else {
        return Err(crate::errors::wrong_type("url", "a str", url));
    };
    let given = Options(options);
    let mut core_options = given.client()?;
    let class = ws.get_type();
    let handlers = Handlers::gather(py, |on| match given.given(on.name())? {
        Some(callback) => checked(on.name(), &callback),
        None => method_of_class(&class, on),
    })?;
    this.attach(host, None, handlers.bind(py))?;
    let number = inner.connections.borrow_mut().add(ws.clone().unbind());
    core_options.user = number.get() as u64;
    match inner.command(|context| context.connect(&text, &core_options)) {
        Ok(id) => {
            this.begin(py, id, Some(url));
            inner.schedule_flush(py)
        }
        Err(error) => {
            let entry = inner.connections.borrow_mut().remove(number.get());
            drop(entry);
            this.detach(py);
            Err(raise(py, &error))
        }
    }
}
