//! The commands that come with options: listening, connecting, answering requests.
//!
//! JavaScript has checked the types; what the values mean is checked by the crate, whose errors go
//! back as numbers and sentences for JavaScript to make Errors of.
//!
//! Does not know: where the options come from.

use std::net::SocketAddr;
use std::time::Duration;

use napi::bindgen_prelude::{Buffer, Env};
use napi_derive::napi;
use wsabi::{
    Accept, ClientOptions, Config, ConnId, Context, DeflateOptions, Error, ErrorKind, ListenOn,
    OriginPolicy, PeerAddr, RequestOptions, Response, ServerId, ServerOptions, ServerPolicy,
    SubprotocolChoice,
};

use crate::host::Host;
use crate::host_of;

/// Limits and times; what is absent is wsabi's default.
#[napi(object)]
#[derive(Default)]
pub struct Limits {
    /// `max_message_bytes`.
    pub max_message_bytes: Option<f64>,
    /// `max_fragments`.
    pub max_fragments: Option<f64>,
    /// `max_handshake_bytes`.
    pub max_handshake_bytes: Option<f64>,
    /// `max_handshake_headers`.
    pub max_handshake_headers: Option<f64>,
    /// `handshake_timeout` in milliseconds; so the other times.
    pub handshake_timeout: Option<f64>,
    /// `hold_timeout`.
    pub hold_timeout: Option<f64>,
    /// `ping_interval`; absent is none.
    pub ping_interval: Option<f64>,
    /// `ping_timeout`.
    pub ping_timeout: Option<f64>,
    /// `idle_timeout`; absent is none.
    pub idle_timeout: Option<f64>,
    /// `close_timeout`.
    pub close_timeout: Option<f64>,
    /// `max_pending_handshakes`.
    pub max_pending_handshakes: Option<f64>,
    /// `high_water_bytes`; absent is wsabi's default, and then JavaScript is not told of drains.
    pub high_water_bytes: Option<f64>,
    /// `low_water_bytes`.
    pub low_water_bytes: Option<f64>,
    /// `max_backlog_bytes`; absent is none.
    pub max_backlog_bytes: Option<f64>,
    /// `no_delay`.
    pub no_delay: Option<bool>,
    /// `stream_messages`.
    pub stream: Option<bool>,
    /// `deflate`; absent is none.
    pub deflate: Option<Deflate>,
}

/// How messages are compressed. Windows and context takeover are JavaScript's to negotiate.
#[napi(object)]
#[derive(Clone, Copy, Default)]
pub struct Deflate {
    /// `level`.
    pub level: Option<f64>,
    /// `mem_level`.
    pub mem_level: Option<f64>,
    /// `min_bytes`.
    pub min_bytes: Option<f64>,
    /// `max_ratio`; absent is none.
    pub max_ratio: Option<f64>,
}

/// What a server is made of.
#[napi(object)]
pub struct Listening {
    /// The port.
    pub port: u32,
    /// The host, if not all of the machine's addresses.
    pub host: Option<String>,
    /// The length of the kernel's queue.
    pub backlog: Option<f64>,
    /// `reuse_port`.
    pub reuse_port: Option<bool>,
    /// `max_buffered_bytes`; absent is none.
    pub max_buffered_bytes: Option<f64>,
    /// Limits and times.
    pub limits: Limits,
}

/// What a client is made of.
#[napi(object)]
pub struct Connecting {
    /// The URL.
    pub url: String,
    /// The path of a unix socket, if it is one.
    pub unix_path: Option<String>,
    /// The subprotocols to offer.
    pub subprotocols: Vec<String>,
    /// The value of the Origin header.
    pub origin: Option<String>,
    /// Names and values of additional headers in turn.
    pub headers: Vec<String>,
    /// How permessage-deflate is offered, if it is.
    pub deflate_offer: Option<String>,
    /// Limits and times.
    pub limits: Limits,
}

/// How a command went.
#[napi(object)]
#[derive(Default)]
pub struct Outcome {
    /// The kind of error, or 0.
    pub kind: i32,
    /// The system's number of the error, or 0.
    pub os_error: i32,
    /// What was wrong.
    pub detail: String,
    /// The number of the server or connection that was made: its lower half.
    pub index: u32,
    /// The upper half.
    pub generation: u32,
    /// Whether JavaScript has to see to a flush.
    pub wants_flush: bool,
}

impl Outcome {
    fn of(result: wsabi::Result<u64>) -> Self {
        match result {
            Ok(number) => Self {
                index: number as u32,
                generation: (number >> 32) as u32,
                wants_flush: true,
                ..Self::default()
            },
            Err(error) => Self {
                kind: error.kind() as i32,
                os_error: error.os_error(),
                detail: error.detail().to_owned(),
                ..Self::default()
            },
        }
    }
}

/// An address as Node has it.
#[napi(object)]
pub struct Address {
    /// The address, or the path of a unix socket.
    pub address: String,
    /// `IPv4`, `IPv6` or `pipe`.
    pub family: String,
    /// The port.
    pub port: u32,
}

fn limit(value: Option<f64>, default: u64) -> u64 {
    // Casting saturates, and turns what is no number into 0.
    value.map_or(default, |value| value as u64)
}

fn small_limit(value: Option<f64>, default: u32) -> u32 {
    value.map_or(default, |value| value as u32)
}

fn time(value: Option<f64>) -> Option<Duration> {
    value.map(|ms| Duration::from_millis(ms as u64))
}

impl Deflate {
    fn options(self) -> DeflateOptions {
        let default = DeflateOptions::default();
        let small = |value: Option<f64>, default| value.map_or(default, |value| value as u8);
        DeflateOptions {
            server_max_window_bits: 15,
            client_max_window_bits: 15,
            server_context_takeover: true,
            client_context_takeover: true,
            level: small(self.level, default.level),
            mem_level: small(self.mem_level, default.mem_level),
            min_bytes: limit(self.min_bytes, default.min_bytes),
            max_ratio: self.max_ratio.map(|ratio| ratio as u32),
        }
    }
}

impl Limits {
    fn config(&self) -> Config {
        let default = Config::default();
        // As with `ws` everything is accepted unless there is a limit; the waters' defaults go along
        // with what is given.
        let max_backlog_bytes = limit(self.max_backlog_bytes, u64::MAX);
        let high_water_bytes = limit(
            self.high_water_bytes,
            default.high_water_bytes.min(max_backlog_bytes),
        );
        let low_water_bytes = limit(
            self.low_water_bytes,
            default.low_water_bytes.min(high_water_bytes),
        );
        Config {
            stream_messages: self.stream.unwrap_or(default.stream_messages),
            deflate: self.deflate.map(Deflate::options),
            max_message_bytes: limit(self.max_message_bytes, default.max_message_bytes),
            max_fragments: small_limit(self.max_fragments, default.max_fragments),
            max_handshake_bytes: small_limit(self.max_handshake_bytes, default.max_handshake_bytes),
            max_handshake_headers: small_limit(
                self.max_handshake_headers,
                default.max_handshake_headers,
            ),
            handshake_timeout: time(self.handshake_timeout).unwrap_or(default.handshake_timeout),
            hold_timeout: time(self.hold_timeout).unwrap_or(default.hold_timeout),
            ping_interval: time(self.ping_interval),
            ping_timeout: time(self.ping_timeout).unwrap_or(default.ping_timeout),
            idle_timeout: time(self.idle_timeout),
            close_timeout: time(self.close_timeout).unwrap_or(default.close_timeout),
            max_pending_handshakes: small_limit(
                self.max_pending_handshakes,
                default.max_pending_handshakes,
            ),
            no_delay: self.no_delay.unwrap_or(default.no_delay),
            high_water_bytes,
            low_water_bytes,
            max_backlog_bytes,
        }
    }

    /// What connections are marked with: whether JavaScript is told when their backlog has drained.
    fn tag(&self) -> u32 {
        u32::from(self.high_water_bytes.is_some())
    }
}

/// Carries out a command in the host of this environment.
fn run(env: Env, act: impl FnOnce(&mut Context) -> wsabi::Result<u64>) -> Outcome {
    let Some(host) = host_of(env.raw()) else {
        return Outcome::of(Err(Error::new(ErrorKind::State, "start was not called")));
    };
    let outcome = Outcome::of(host.command(act));
    host.update_alive();
    outcome
}

fn connection(index: u32, generation: u32) -> wsabi::Result<ConnId> {
    ConnId::from_u64(u64::from(generation) << 32 | u64::from(index))
        .ok_or_else(|| Error::new(ErrorKind::Closed, "there is no such connection"))
}

fn pairs(flat: Vec<String>) -> Vec<(String, String)> {
    let mut flat = flat.into_iter();
    core::iter::from_fn(|| Some((flat.next()?, flat.next()?))).collect()
}

/// Starts a server.
#[napi]
pub(crate) fn listen(env: Env, options: Listening) -> Outcome {
    let server = ServerOptions {
        on: ListenOn::Tcp {
            host: options.host,
            port: u16::try_from(options.port).unwrap_or(0),
        },
        config: options.limits.config(),
        policy: ServerPolicy {
            subprotocols: Vec::new(),
            origins: OriginPolicy::Any,
        },
        backlog: small_limit(options.backlog, ServerOptions::default().backlog),
        reuse_port: options.reuse_port.unwrap_or(false),
        max_buffered_bytes: options.max_buffered_bytes.map(|bytes| bytes as u64),
        tag: options.limits.tag(),
    };
    run(env, |context| context.listen(&server).map(ServerId::as_u64))
}

/// Lets a server accept no more.
#[napi]
pub(crate) fn close_server(env: Env, server: f64) -> Outcome {
    run(env, |context| {
        let id = ServerId::from_u64(server as u64)
            .ok_or_else(|| Error::new(ErrorKind::Closed, "there is no such server"))?;
        context.close_server(id).map(|()| 0)
    })
}

/// Starts to connect.
#[napi]
pub(crate) fn connect(env: Env, options: Connecting) -> Outcome {
    let client = ClientOptions {
        config: options.limits.config(),
        request: RequestOptions {
            subprotocols: options.subprotocols,
            origin: options.origin,
            headers: pairs(options.headers),
            deflate_offer: options.deflate_offer,
        },
        unix_path: options.unix_path.map(Into::into),
        user: 0,
        tag: options.limits.tag(),
    };
    run(env, |context| {
        context.connect(&options.url, &client).map(ConnId::as_u64)
    })
}

/// Accepts the request of a connection; `extension` is the answer to what it offers, if any.
#[napi]
pub(crate) fn accept(
    env: Env,
    index: u32,
    generation: u32,
    subprotocol: Option<String>,
    headers: Vec<String>,
    extension: Option<String>,
) -> Outcome {
    let accept = Accept {
        subprotocol: subprotocol.map_or(SubprotocolChoice::None, SubprotocolChoice::Name),
        headers: pairs(headers),
    };
    run(env, |context| {
        let id = connection(index, generation)?;
        let mut conn = context.conn(id);
        conn.accept_answering(&accept, extension.as_deref())
            .map(|()| 0)
    })
}

/// Answers the request of a connection with an HTTP response.
#[napi]
pub(crate) fn respond(
    env: Env,
    index: u32,
    generation: u32,
    status: u32,
    headers: Vec<String>,
    body: Buffer,
) -> Outcome {
    let response = Response {
        status: u16::try_from(status).unwrap_or(0),
        headers: pairs(headers),
        body: body.to_vec(),
    };
    run(env, |context| {
        let id = connection(index, generation)?;
        context.conn(id).respond(&response).map(|()| 0)
    })
}

/// The address of a server.
#[napi]
pub(crate) fn server_address(env: Env, server: f64) -> Option<Address> {
    let host = host_of(env.raw())?;
    let id = ServerId::from_u64(server as u64)?;
    host.command(|context| context.server_addr(id).cloned())
        .ok()
        .map(|address| shown(&address))
}

/// The addresses of a connection: its peer's or our own, while the transport is there.
#[napi]
pub(crate) fn connection_address(
    env: Env,
    index: u32,
    generation: u32,
    local: bool,
) -> Option<Address> {
    let host: &Host = host_of(env.raw())?;
    let id = connection(index, generation).ok()?;
    let address = host.command(|context| {
        let conn = context.conn(id);
        Ok(if local {
            conn.local_addr()
        } else {
            conn.peer_addr()
        })
    });
    address.ok().flatten().map(|address| shown(&address))
}

fn shown(address: &PeerAddr) -> Address {
    match address {
        PeerAddr::Tcp(address) => Address {
            address: address.ip().to_string(),
            family: match address {
                SocketAddr::V4(_) => "IPv4",
                SocketAddr::V6(_) => "IPv6",
            }
            .to_owned(),
            port: u32::from(address.port()),
        },
        PeerAddr::Unix(path) => Address {
            address: path
                .as_ref()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            family: "pipe".to_owned(),
            port: 0,
        },
    }
}
