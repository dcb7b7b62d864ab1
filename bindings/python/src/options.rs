//! From the keyword arguments of `connect` and `serve` to the options of the core. The core says
//! which values make sense; here is what type they have.
//!
//! Does not know: what the options do.

use core::time::Duration;
use std::path::PathBuf;

use pyo3::exceptions::PyOverflowError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyString};
use wsabi::{
    Accept, ClientOptions, Config, DeflateOptions, ListenOn, OriginPolicy, RequestOptions,
    Response, ServerOptions, ServerPolicy, SubprotocolChoice,
};

use crate::errors::{Name, invalid, seconds, wrong_type};

static DEFLATE: Name = Name::new("wsabi._types", "Deflate");
static HEADER_LIST: Name = Name::new("wsabi._types", "header_list");

/// An integer that an application gives.
pub(crate) fn number<'py, T>(name: &str, given: &Bound<'py, PyAny>) -> PyResult<T>
where
    T: for<'a> FromPyObject<'a, 'py, Error = PyErr> + Bounded,
{
    let py = given.py();
    if !given.is_instance_of::<PyInt>() || given.is_instance_of::<PyBool>() {
        return Err(wrong_type(name, "an int", given));
    }
    given.extract().map_err(|error: PyErr| {
        if !error.is_instance_of::<PyOverflowError>(py) {
            return error;
        }
        invalid(py, format!("{name} is {given}; expected 0 to {}", T::MOST))
    })
}

/// The integers that options are.
pub(crate) trait Bounded {
    const MOST: u64;
}

impl Bounded for u16 {
    const MOST: u64 = Self::MAX as u64;
}

impl Bounded for u32 {
    const MOST: u64 = Self::MAX as u64;
}

impl Bounded for u64 {
    const MOST: u64 = Self::MAX;
}

/// The keyword arguments of a call, by name.
pub(crate) struct Options<'a, 'py>(pub(crate) &'a Bound<'py, PyDict>);

impl<'py> Options<'_, 'py> {
    fn get(&self, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.0.get_item(name)
    }

    /// The value of an option that may be `None`, which is the same as not there.
    pub(crate) fn given(&self, name: &str) -> PyResult<Option<Bound<'py, PyAny>>> {
        Ok(self.get(name)?.filter(|value| !value.is_none()))
    }

    fn number<T>(&self, name: &str, value: &mut T) -> PyResult<()>
    where
        T: for<'b> FromPyObject<'b, 'py, Error = PyErr> + Bounded,
    {
        if let Some(given) = self.get(name)? {
            *value = number(name, &given)?;
        }
        Ok(())
    }

    fn time(&self, name: &str, value: &mut Duration) -> PyResult<()> {
        if let Some(given) = self.get(name)? {
            *value = seconds(self.0.py(), name, &given)?;
        }
        Ok(())
    }

    fn optional_time(&self, name: &str, value: &mut Option<Duration>) -> PyResult<()> {
        if let Some(given) = self.get(name)? {
            *value = match given.is_none() {
                true => None,
                false => Some(seconds(self.0.py(), name, &given)?),
            };
        }
        Ok(())
    }

    fn flag(&self, name: &str, value: &mut bool) -> PyResult<()> {
        if let Some(given) = self.get(name)? {
            *value = given
                .cast::<PyBool>()
                .map_err(|_| wrong_type(name, "a bool", &given))?
                .is_true();
        }
        Ok(())
    }

    fn text(&self, name: &str) -> PyResult<Option<String>> {
        match self.given(name)? {
            None => Ok(None),
            Some(given) if given.is_instance_of::<PyString>() => given.extract().map(Some),
            Some(given) => Err(wrong_type(name, "a str", &given)),
        }
    }

    fn texts(&self, name: &str) -> PyResult<Vec<String>> {
        match self.get(name)? {
            None => Ok(Vec::new()),
            Some(given) => texts(name, &given),
        }
    }

    fn path(&self, name: &str) -> PyResult<Option<PathBuf>> {
        match self.given(name)? {
            None => Ok(None),
            Some(given) => match given.extract() {
                Ok(path) => Ok(Some(path)),
                Err(_) => Err(wrong_type(name, "a path", &given)),
            },
        }
    }

    fn config(&self) -> PyResult<Config> {
        let mut config = Config::default();
        let (low, most) = (config.low_water_bytes, config.max_backlog_bytes);
        self.number("max_message_bytes", &mut config.max_message_bytes)?;
        self.number("max_fragments", &mut config.max_fragments)?;
        self.number("max_handshake_bytes", &mut config.max_handshake_bytes)?;
        self.number("max_handshake_headers", &mut config.max_handshake_headers)?;
        self.time("handshake_timeout", &mut config.handshake_timeout)?;
        self.time("hold_timeout", &mut config.hold_timeout)?;
        self.optional_time("ping_interval", &mut config.ping_interval)?;
        self.time("ping_timeout", &mut config.ping_timeout)?;
        self.optional_time("idle_timeout", &mut config.idle_timeout)?;
        self.time("close_timeout", &mut config.close_timeout)?;
        self.number("max_pending_handshakes", &mut config.max_pending_handshakes)?;
        self.number("high_water_bytes", &mut config.high_water_bytes)?;
        self.number("low_water_bytes", &mut config.low_water_bytes)?;
        self.number("max_backlog_bytes", &mut config.max_backlog_bytes)?;
        self.flag("no_delay", &mut config.no_delay)?;
        self.flag("stream_messages", &mut config.stream_messages)?;
        if let Some(given) = self.given("deflate")? {
            config.deflate = deflate(&given)?;
        }
        // A high water beyond the defaults of the others is meant to move them along.
        if config.low_water_bytes == low {
            config.low_water_bytes = low.min(config.high_water_bytes);
        }
        if config.max_backlog_bytes == most {
            config.max_backlog_bytes = most.max(config.high_water_bytes);
        }
        Ok(config)
    }

    /// The options of a client whose connection has that number in the table.
    pub(crate) fn client(&self) -> PyResult<ClientOptions> {
        Ok(ClientOptions {
            config: self.config()?,
            request: RequestOptions {
                subprotocols: self.texts("subprotocols")?,
                origin: self.text("origin")?,
                headers: match self.get("headers")? {
                    Some(given) => headers(&given)?,
                    None => Vec::new(),
                },
                ..RequestOptions::default()
            },
            unix_path: self.path("unix_path")?,
            user: 0,
            tag: 0,
        })
    }

    pub(crate) fn server(&self) -> PyResult<ServerOptions> {
        let py = self.0.py();
        let host = self.text("host")?;
        let mut port: u16 = 0;
        self.number("port", &mut port)?;
        let mut options = ServerOptions {
            on: match self.path("unix_path")? {
                None => ListenOn::Tcp { host, port },
                Some(_) if host.is_some() || port != 0 => {
                    let detail = "unix_path is given together with a host or port; expected one";
                    return Err(invalid(py, detail.to_owned()));
                }
                Some(path) => ListenOn::Unix(path),
            },
            config: self.config()?,
            policy: ServerPolicy {
                subprotocols: self.texts("subprotocols")?,
                origins: match self.get("origins")? {
                    Some(given) => origins(&given)?,
                    None => OriginPolicy::default(),
                },
            },
            ..ServerOptions::default()
        };
        self.number("backlog", &mut options.backlog)?;
        self.flag("reuse_port", &mut options.reuse_port)?;
        if let Some(given) = self.given("max_buffered_bytes")? {
            options.max_buffered_bytes = Some(number("max_buffered_bytes", &given)?);
        }
        Ok(options)
    }
}

/// What a `wsabi.Deflate` says, or `True` or `False`.
fn deflate(given: &Bound<'_, PyAny>) -> PyResult<Option<DeflateOptions>> {
    let mut options = DeflateOptions::default();
    if let Ok(flag) = given.cast::<PyBool>() {
        return Ok(flag.is_true().then_some(options));
    }
    if !given.is_instance(DEFLATE.get(given.py())?)? {
        return Err(wrong_type("deflate", "a bool or a wsabi.Deflate", given));
    }
    let bits = |name: &str, value: &mut u8| -> PyResult<()> {
        let wide: u32 = number(name, &given.getattr(name)?)?;
        // The core refuses what does not fit, by name.
        *value = u8::try_from(wide).unwrap_or(u8::MAX);
        Ok(())
    };
    bits(
        "server_max_window_bits",
        &mut options.server_max_window_bits,
    )?;
    bits(
        "client_max_window_bits",
        &mut options.client_max_window_bits,
    )?;
    bits("level", &mut options.level)?;
    bits("mem_level", &mut options.mem_level)?;
    for (name, value) in [
        (
            "server_context_takeover",
            &mut options.server_context_takeover,
        ),
        (
            "client_context_takeover",
            &mut options.client_context_takeover,
        ),
    ] {
        let flag = given.getattr(name)?;
        *value = flag
            .cast::<PyBool>()
            .map_err(|_| wrong_type(name, "a bool", &flag))?
            .is_true();
    }
    options.min_bytes = number("min_bytes", &given.getattr("min_bytes")?)?;
    let ratio = given.getattr("max_ratio")?;
    options.max_ratio = match ratio.is_none() {
        true => None,
        false => Some(number("max_ratio", &ratio)?),
    };
    Ok(Some(options))
}

/// A list of texts; one text is not one.
fn texts(name: &str, given: &Bound<'_, PyAny>) -> PyResult<Vec<String>> {
    let wrong = || wrong_type(name, "a list of str", given);
    if given.is_instance_of::<PyString>() || given.is_instance_of::<PyBytes>() {
        return Err(wrong());
    }
    let mut all = Vec::new();
    for (i, item) in given.try_iter().map_err(|_| wrong())?.enumerate() {
        let item = item?;
        if !item.is_instance_of::<PyString>() {
            return Err(wrong_type(&format!("{name}[{i}]"), "a str", &item));
        }
        all.push(item.extract()?);
    }
    Ok(all)
}

fn origins(given: &Bound<'_, PyAny>) -> PyResult<OriginPolicy> {
    let Ok(word) = given.cast::<PyString>() else {
        return Ok(OriginPolicy::List(texts("origins", given)?));
    };
    match word.to_str()? {
        "same-host" => Ok(OriginPolicy::SameHost),
        "any" => Ok(OriginPolicy::Any),
        other => Err(invalid(
            given.py(),
            format!("origins is {other:?}; expected \"same-host\", \"any\" or a list of origins"),
        )),
    }
}

/// Header fields that an application gives: a mapping, or pairs.
fn headers(given: &Bound<'_, PyAny>) -> PyResult<Vec<(String, String)>> {
    HEADER_LIST.get(given.py())?.call1((given,))?.extract()
}

/// What a `wsabi.Accept` says.
pub(crate) fn accept(given: &Bound<'_, PyAny>) -> PyResult<Accept> {
    let subprotocol: Option<String> = given.getattr("subprotocol")?.extract()?;
    Ok(Accept {
        subprotocol: match subprotocol {
            None => SubprotocolChoice::Preferred,
            Some(name) if name.is_empty() => SubprotocolChoice::None,
            Some(name) => SubprotocolChoice::Name(name),
        },
        headers: headers(&given.getattr("headers")?)?,
    })
}

/// What a `wsabi.Response` says.
pub(crate) fn response(given: &Bound<'_, PyAny>) -> PyResult<Response> {
    Ok(Response {
        status: given.getattr("status")?.extract()?,
        headers: headers(&given.getattr("headers")?)?,
        body: given
            .getattr("body")?
            .cast::<PyBytes>()?
            .as_bytes()
            .to_vec(),
    })
}

/// The defaults of the options, by name, as they are in Python; times are in seconds.
pub(crate) fn defaults(py: Python<'_>) -> PyResult<Bound<'_, PyDict>> {
    let (config, server, event_loop) = (
        Config::default(),
        ServerOptions::default(),
        wsabi::LoopOptions::default(),
    );
    let seconds = |time: Duration| time.as_secs_f64();
    let all = PyDict::new(py);
    all.set_item("max_message_bytes", config.max_message_bytes)?;
    all.set_item("max_fragments", config.max_fragments)?;
    all.set_item("max_handshake_bytes", config.max_handshake_bytes)?;
    all.set_item("max_handshake_headers", config.max_handshake_headers)?;
    all.set_item("handshake_timeout", seconds(config.handshake_timeout))?;
    all.set_item("hold_timeout", seconds(config.hold_timeout))?;
    all.set_item("ping_interval", config.ping_interval.map(seconds))?;
    all.set_item("ping_timeout", seconds(config.ping_timeout))?;
    all.set_item("idle_timeout", config.idle_timeout.map(seconds))?;
    all.set_item("close_timeout", seconds(config.close_timeout))?;
    all.set_item("max_pending_handshakes", config.max_pending_handshakes)?;
    all.set_item("high_water_bytes", config.high_water_bytes)?;
    all.set_item("low_water_bytes", config.low_water_bytes)?;
    all.set_item("max_backlog_bytes", config.max_backlog_bytes)?;
    all.set_item("no_delay", config.no_delay)?;
    all.set_item("stream_messages", config.stream_messages)?;
    all.set_item("deflate", py.None())?;
    all.set_item("max_buffered_bytes", server.max_buffered_bytes)?;
    all.set_item("backlog", server.backlog)?;
    all.set_item("reuse_port", server.reuse_port)?;
    all.set_item("max_events", event_loop.max_events)?;
    all.set_item("max_inbox_bytes", event_loop.max_inbox_bytes)?;
    all.set_item("grace", seconds(wsabi::DEFAULT_GRACE))?;
    Ok(all)
}
