//! Requests for servers as Python sees them, and the answers to them.
//!
//! Does not know: when a request is told.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use wsabi::{Answer, ConnId, PeerAddr, Request, Response};

use crate::errors::{Name, OrRaise, invalid};
use crate::host::Loop;
use crate::options;
use crate::text::{address, header_pairs};

static REQUEST: Name = Name::new("wsabi._types", "Request");
static ACCEPT: Name = Name::new("wsabi._types", "Accept");
static RESPONSE: Name = Name::new("wsabi._types", "Response");
static LATER: Name = Name::new("wsabi._types", "LATER");

/// A request as an object that may be kept.
pub(crate) fn make(
    host: &Bound<'_, Loop>,
    id: ConnId,
    request: &Request<'_>,
    peer: Option<&PeerAddr>,
) -> PyResult<Py<PyAny>> {
    let py = host.py();
    let made = REQUEST.get(py)?.call1((
        host,
        id.as_u64(),
        request.method,
        request.target,
        format!("1.{}", request.minor_version),
        header_pairs(py, &request.headers)?,
        address(py, peer)?,
    ))?;
    Ok(made.unbind())
}

/// What `on_upgrade` has returned.
pub(crate) fn upgrade_answer(given: &Bound<'_, PyAny>) -> PyResult<Answer> {
    let py = given.py();
    if given.is_none() {
        return Ok(Answer::accept());
    }
    if let Ok(yes) = given.cast::<pyo3::types::PyBool>() {
        return Ok(match yes.is_true() {
            true => Answer::accept(),
            false => Answer::refuse(403, "the server refuses this request"),
        });
    }
    if given.is(LATER.get(py)?) {
        return Ok(Answer::Later);
    }
    if given.is_instance(ACCEPT.get(py)?)? {
        return options::accept(given).map(Answer::Accept);
    }
    if given.is_instance(RESPONSE.get(py)?)? {
        return options::response(given).map(Answer::Refuse);
    }
    Err(wrong_answer(
        "on_upgrade",
        "None, a bool, an Accept, a Response or LATER",
        given,
    ))
}

/// What `on_http` has returned; the core's own answer for `None` is `default`.
pub(crate) fn http_answer(
    given: &Bound<'_, PyAny>,
    default: Response,
) -> PyResult<Option<Response>> {
    let py = given.py();
    if given.is_none() {
        return Ok(Some(default));
    }
    if given.is(LATER.get(py)?) {
        return Ok(None);
    }
    if given.is_instance(RESPONSE.get(py)?)? {
        return options::response(given).map(Some);
    }
    Err(wrong_answer("on_http", "None, a Response or LATER", given))
}

fn wrong_answer(name: &str, expected: &str, given: &Bound<'_, PyAny>) -> PyErr {
    let given = given
        .get_type()
        .name()
        .map_or_else(|_| "something else".to_owned(), |name| name.to_string());
    PyTypeError::new_err(format!("{name} must return {expected}, not {given}"))
}

/// Answers a request that was to be answered later, from any thread.
#[pyfunction]
pub(crate) fn answer(
    host: &Bound<'_, Loop>,
    number: u64,
    request: &Bound<'_, PyAny>,
    answer: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let py = host.py();
    let Some(id) = ConnId::from_u64(number) else {
        return Err(invalid(py, "the request has no number".to_owned()));
    };
    let (handle, inner) = (host.get().handle(), host.get().inner(py));
    if answer.is_instance(RESPONSE.get(py)?)? {
        let response = options::response(answer)?;
        if !inner.is_home() {
            return handle.respond(id, response).or_raise(py);
        }
        inner
            .command(|context| context.conn(id).respond(&response))
            .or_raise(py)?;
    } else {
        let accept = options::accept(answer)?;
        if !inner.is_home() {
            return handle.accept(id, accept).or_raise(py);
        }
        inner
            .command(|context| context.conn(id).accept(&accept))
            .or_raise(py)?;
        let before = {
            let mut requests = inner.requests.borrow_mut();
            requests.insert(id, request.clone().unbind())
        };
        drop(before);
    }
    inner.schedule_flush(py)
}

/// Refuses a response that could not be sent.
#[pyfunction]
pub(crate) fn check_response(
    py: Python<'_>,
    status: i64,
    body: Vec<u8>,
    headers: Vec<(String, String)>,
) -> PyResult<()> {
    let Ok(status) = u16::try_from(status) else {
        let detail = format!("status is {status}; expected 200 to 599");
        return Err(invalid(py, detail));
    };
    let response = Response {
        status,
        headers,
        body,
    };
    response.validate().or_raise(py)
}
