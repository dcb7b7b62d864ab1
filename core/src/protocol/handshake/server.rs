//! The server's side of the opening handshake (RFC 6455 §4.2): judging a request and writing the
//! response.
//!
//! Does not know: how a request arrives, or what an application decides.

use core::time::Duration;

use crate::config::{DeflateOptions, OriginPolicy};
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::extension::{self, Agreed, Malformed};
use crate::protocol::handshake::key::{AcceptValue, accept_value, is_key};
use crate::protocol::handshake::response::{Response, is_framing};
use crate::protocol::handshake::{
    ExtraHeaders, Settled, check_headers, check_subprotocols, write_header, write_headers,
};
use crate::protocol::head::{HeadError, NotSingle, Request, elements, is_token};

/// What a server accepts in an opening handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerPolicy {
    /// The subprotocols the server speaks, in its order of preference.
    pub subprotocols: Vec<String>,
    /// Which Origins may connect.
    pub origins: OriginPolicy,
}

impl ServerPolicy {
    /// Checks subprotocols and origins.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], naming the value that is wrong.
    pub fn validate(&self) -> Result<()> {
        check_subprotocols(&self.subprotocols)?;
        let OriginPolicy::List(origins) = &self.origins else {
            return Ok(());
        };
        for origin in origins {
            if origin != "null" && split_origin(origin.as_bytes()).is_none() {
                return Err(Error::invalid(format!(
                    "origin {origin:?} is not scheme://host or scheme://host:port"
                )));
            }
        }
        Ok(())
    }
}

/// What a valid request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// A WebSocket.
    Upgrade(Upgrade),
    /// Plain HTTP: nothing in the request speaks of WebSocket.
    Http,
}

/// A request that the server refuses: the response to send, and the error to report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What the client is told.
    pub response: Response,
    /// What the server is told.
    pub error: Error,
}

impl Refusal {
    fn new(status: u16, kind: ErrorKind, detail: String) -> Self {
        Self {
            response: Response::text(status, &detail),
            error: Error::new(kind, detail),
        }
    }

    fn bad(detail: impl Into<String>) -> Self {
        Self::new(400, ErrorKind::Handshake, detail.into())
    }

    fn with_header(mut self, name: &str, value: &str) -> Self {
        self.response
            .headers
            .push((name.to_owned(), value.to_owned()));
        self
    }

    /// The refusal of a head that cannot be read.
    pub fn unreadable(error: &HeadError) -> Self {
        match error {
            HeadError::Malformed(why) => Self::bad(*why),
            // RFC 6585 §5.
            HeadError::TooManyBytes { .. } | HeadError::TooManyHeaders { .. } => {
                Self::new(431, ErrorKind::HandshakeTooLarge, error.to_string())
            }
        }
    }

    /// The refusal of a request that did not arrive in time.
    pub fn timeout(limit: Duration) -> Self {
        Self::new(
            408,
            ErrorKind::HandshakeTimeout,
            format!("the request did not arrive within handshake_timeout, {limit:?}"),
        )
    }

    /// The refusal of a request that the application did not answer in time.
    pub fn unanswered(limit: Duration) -> Self {
        Self::new(
            503,
            ErrorKind::HandshakeTimeout,
            format!("the application did not answer the request within hold_timeout, {limit:?}"),
        )
    }

    /// The refusal of a request that is pending while the server stops.
    pub fn stopping() -> Self {
        Self::new(503, ErrorKind::Stopped, "the server is stopping".into())
    }
}

/// Judges a request: what it asks for, or why it is refused. `deflate` is how the server compresses,
/// if it does.
///
/// # Errors
/// The refusal, ready to be sent.
pub fn examine(
    request: &Request<'_>,
    policy: &ServerPolicy,
    deflate: Option<&DeflateOptions>,
) -> Result<Asked, Refusal> {
    let host = check_framing(request)?;
    if !speaks_of_websocket(request) {
        return Ok(Asked::Http);
    }
    // RFC 6455 §4.1: "The method of the request MUST be GET, and the HTTP version MUST be at
    // least 1.1."
    if request.method != "GET" {
        let detail = format!(
            "the method of an opening handshake is GET, not {}",
            request.method
        );
        return Err(Refusal::new(405, ErrorKind::Handshake, detail).with_header("Allow", "GET"));
    }
    if request.minor_version == 0 {
        return Err(Refusal::bad(
            "the opening handshake came as HTTP/1.0; it needs HTTP/1.1 (a proxy in between has to speak 1.1 upstream)",
        ));
    }
    check_tokens(request)?;
    check_version(request)?;
    let key = check_key(request)?;
    check_origin(request, host, &policy.origins)?;
    let offered = check_offer(request)?;
    let preferred = policy
        .subprotocols
        .iter()
        .find(|name| offered.contains(name))
        .cloned();
    // RFC 6455 §9.1: what does not have the grammar fails the connection; what is only not accepted
    // is declined.
    let values = request.headers.all("sec-websocket-extensions");
    let deflate = extension::accept(values, deflate)
        .map_err(|Malformed| Refusal::bad("Sec-WebSocket-Extensions is malformed"))?;
    Ok(Asked::Upgrade(Upgrade {
        accept: accept_value(key),
        offered,
        preferred,
        deflate,
    }))
}

/// The rules that hold for every request: one Host (RFC 9112 §3.2), a target this server can mean,
/// and no body, which could otherwise be taken for frames.
fn check_framing<'a>(request: &Request<'a>) -> Result<&'a [u8], Refusal> {
    let host = match request.headers.single("host") {
        Ok(host) => host,
        Err(NotSingle::Missing) if request.minor_version == 0 => b"",
        Err(NotSingle::Missing) => return Err(Refusal::bad("the Host header is missing")),
        Err(NotSingle::Repeated) => return Err(Refusal::bad("there is more than one Host header")),
    };
    if !host.is_empty() && split_authority(host).is_none() {
        return Err(Refusal::bad("the Host header is not host or host:port"));
    }
    let target = request.target;
    let absolute = ["http://", "https://", "ws://", "wss://"]
        .iter()
        .any(|scheme| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        });
    if !(target.starts_with('/') || absolute) || target.contains('#') {
        return Err(Refusal::bad(
            "the request target is neither a path nor a URL without fragment",
        ));
    }
    if request.headers.get("transfer-encoding").is_some() {
        return Err(Refusal::bad(
            "the request has a Transfer-Encoding; wsabi reads no request bodies",
        ));
    }
    for length in request.headers.all("content-length") {
        if length != b"0" {
            let detail = "the request has a body; wsabi reads no request bodies".to_owned();
            let status = if length.iter().all(u8::is_ascii_digit) && !length.is_empty() {
                413
            } else {
                400
            };
            return Err(Refusal::new(status, ErrorKind::Handshake, detail));
        }
    }
    Ok(host)
}

fn speaks_of_websocket(request: &Request<'_>) -> bool {
    request.headers.lists("upgrade", "websocket")
        || request.headers.iter().any(|(name, _)| {
            name.get(..14)
                .is_some_and(|start| start.eq_ignore_ascii_case("sec-websocket-"))
        })
}

/// RFC 6455 §4.2.1 items 3 and 4.
fn check_tokens(request: &Request<'_>) -> Result<(), Refusal> {
    for (name, token) in [("Upgrade", "websocket"), ("Connection", "Upgrade")] {
        if request.headers.lists(name, token) {
            continue;
        }
        let problem = if request.headers.get(name).is_none() {
            "is missing"
        } else {
            "does not list it"
        };
        return Err(Refusal::bad(format!(
            "an opening handshake needs the header \"{name}: {token}\"; {name} {problem} (a proxy in between has to pass it on)"
        )));
    }
    Ok(())
}

/// RFC 6455 §4.4: another version is answered with the one that is spoken.
fn check_version(request: &Request<'_>) -> Result<(), Refusal> {
    if request.headers.single("sec-websocket-version") == Ok(b"13") {
        return Ok(());
    }
    Err(Refusal {
        response: Response::upgrade_required("Sec-WebSocket-Version has to be 13"),
        error: Error::new(
            ErrorKind::Handshake,
            "Sec-WebSocket-Version is missing or not 13",
        ),
    })
}

/// RFC 6455 §4.2.1 item 5.
fn check_key<'a>(request: &Request<'a>) -> Result<&'a [u8], Refusal> {
    match request.headers.single("sec-websocket-key") {
        Ok(key) if is_key(key) => Ok(key),
        Ok(_) => Err(Refusal::bad(
            "Sec-WebSocket-Key is not the base64 of 16 octets",
        )),
        Err(NotSingle::Missing) => Err(Refusal::bad("the Sec-WebSocket-Key header is missing")),
        Err(NotSingle::Repeated) => Err(Refusal::bad(
            "there is more than one Sec-WebSocket-Key header",
        )),
    }
}

/// RFC 6455 §4.2.1 item 8, with the grammar of §4.3: tokens, each once.
fn check_offer(request: &Request<'_>) -> Result<Vec<String>, Refusal> {
    let mut offered: Vec<String> = Vec::new();
    for element in request
        .headers
        .all("sec-websocket-protocol")
        .flat_map(elements)
    {
        let Some(name) = core::str::from_utf8(element)
            .ok()
            .filter(|name| is_token(name.as_bytes()))
        else {
            return Err(Refusal::bad(
                "Sec-WebSocket-Protocol has an element that is not a token",
            ));
        };
        // Bounds the comparison below; nobody speaks so many.
        if offered.len() == 64 {
            return Err(Refusal::bad(
                "Sec-WebSocket-Protocol has more than 64 elements",
            ));
        }
        if offered.iter().any(|earlier| earlier == name) {
            return Err(Refusal::bad(format!(
                "Sec-WebSocket-Protocol lists {name} twice"
            )));
        }
        offered.push(name.to_owned());
    }
    Ok(offered)
}

/// RFC 6455 §10.2: a server that is not for every page's scripts checks where they come from.
fn check_origin(request: &Request<'_>, host: &[u8], policy: &OriginPolicy) -> Result<(), Refusal> {
    let origin = match request.headers.single("origin") {
        Ok(origin) => origin,
        Err(NotSingle::Missing) => return Ok(()),
        Err(NotSingle::Repeated) => {
            return Err(Refusal::bad("there is more than one Origin header"));
        }
    };
    let allowed = match policy {
        OriginPolicy::Any => true,
        OriginPolicy::List(list) => list
            .iter()
            .any(|entry| entry.as_bytes().eq_ignore_ascii_case(origin)),
        OriginPolicy::SameHost => is_same_host(origin, host),
    };
    if allowed {
        return Ok(());
    }
    let expected = match policy {
        OriginPolicy::List(_) => "is not in the server's list",
        OriginPolicy::SameHost | OriginPolicy::Any => "is not the host of this server",
    };
    let detail = format!(
        "Origin {:?} {expected} (Host {:?}); the server's origin policy decides: its option is origins",
        String::from_utf8_lossy(origin),
        String::from_utf8_lossy(host),
    );
    Err(Refusal::new(403, ErrorKind::Origin, detail))
}

fn is_same_host(origin: &[u8], host: &[u8]) -> bool {
    let (Some((default_port, origin_host, origin_port)), Some((host, port))) =
        (split_origin(origin), split_authority(host))
    else {
        return false;
    };
    // A Host without a port means the default of the scheme that the browser used, which only the
    // Origin tells: TLS may end in front of this server.
    origin_host.eq_ignore_ascii_case(host) && origin_port.or(default_port) == port.or(default_port)
}

/// The default port of the scheme, the host, and the port of an Origin.
fn split_origin(origin: &[u8]) -> Option<(Option<u16>, &[u8], Option<u16>)> {
    let colon = origin.windows(3).position(|window| window == b"://")?;
    let (scheme, authority) = (&origin[..colon], &origin[colon + 3..]);
    if !is_token(scheme) {
        return None;
    }
    let default_port = match scheme.to_ascii_lowercase().as_slice() {
        b"http" | b"ws" => Some(80),
        b"https" | b"wss" => Some(443),
        _ => None,
    };
    let (host, port) = split_authority(authority)?;
    Some((default_port, host, port))
}

/// The host and the port of `host`, `host:port`, `[v6]` or `[v6]:port` (RFC 3986 §3.2, without
/// userinfo).
fn split_authority(authority: &[u8]) -> Option<(&[u8], Option<u16>)> {
    let host_end = match authority.iter().position(|&octet| octet == b']') {
        Some(bracket) if authority.first() == Some(&b'[') => bracket + 1,
        Some(_) => return None,
        None => authority
            .iter()
            .position(|&octet| octet == b':')
            .unwrap_or(authority.len()),
    };
    let (host, rest) = authority.split_at(host_end);
    let valid = match host {
        [b'[', address @ .., b']'] => core::str::from_utf8(address)
            .is_ok_and(|text| text.parse::<core::net::Ipv6Addr>().is_ok()),
        _ => {
            !host.is_empty()
                && host.iter().all(|&octet| {
                    octet.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=%".contains(&octet)
                })
        }
    };
    let port = match rest {
        [] | [b':'] => None,
        [b':', digits @ ..] if digits.iter().all(u8::is_ascii_digit) => {
            Some(core::str::from_utf8(digits).ok()?.parse().ok()?)
        }
        _ => return None,
    };
    valid.then_some((host, port))
}

/// A valid request for a WebSocket, waiting for an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upgrade {
    accept: AcceptValue,
    offered: Vec<String>,
    preferred: Option<String>,
    /// What is agreed to about compression, and the answer that says so.
    deflate: Option<(Agreed, String)>,
}

/// Which subprotocol the response names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum SubprotocolChoice {
    /// The first of the server's list that the client offers, if any.
    #[default]
    Preferred,
    /// None.
    None,
    /// This one, which the client must have offered.
    Name(String),
}

/// How a request for a WebSocket is accepted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accept {
    /// The subprotocol.
    pub subprotocol: SubprotocolChoice,
    /// Additional header fields of the response.
    pub headers: ExtraHeaders,
}

impl Upgrade {
    /// Answers the client's offers of extensions with `answer`, the value of
    /// Sec-WebSocket-Extensions, or without it accepts none, whatever the server's options make of
    /// them.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] for what is not a valid answer of permessage-deflate.
    pub fn answer_extensions(&mut self, answer: Option<&str>) -> Result<()> {
        self.deflate = match answer {
            Some(answer) => Some((extension::read_answer(answer)?, answer.to_owned())),
            None => None,
        };
        Ok(())
    }

    /// Appends the 101 response to `out` and returns what it settles (RFC 6455 §4.2.2 step 5).
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`] if the subprotocol was not offered or a header field is not allowed;
    /// then nothing is written.
    pub fn accept(&self, accept: &Accept, out: &mut Vec<u8>) -> Result<Settled> {
        check_headers(&accept.headers, |name| {
            is_framing(name) || name == "upgrade" || name.starts_with("sec-websocket-")
        })?;
        let subprotocol = match &accept.subprotocol {
            SubprotocolChoice::Preferred => self.preferred.as_deref(),
            SubprotocolChoice::None => None,
            SubprotocolChoice::Name(name) if self.offered.contains(name) => Some(name.as_str()),
            SubprotocolChoice::Name(name) => {
                return Err(Error::invalid(format!(
                    "subprotocol {name:?} is not among those the client offers: {:?}",
                    self.offered
                )));
            }
        };
        out.extend_from_slice(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ",
        );
        out.extend_from_slice(&self.accept);
        out.extend_from_slice(b"\r\n");
        if let Some(name) = subprotocol {
            write_header(out, "Sec-WebSocket-Protocol", name);
        }
        if let Some((_, answer)) = &self.deflate {
            write_header(out, "Sec-WebSocket-Extensions", answer);
        }
        write_headers(out, &accept.headers);
        out.extend_from_slice(b"\r\n");
        Ok(Settled {
            subprotocol: subprotocol.map(Box::from),
            deflate: self.deflate.as_ref().map(|(agreed, _)| *agreed),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_host_is_host_and_effective_port() {
        for (origin, host, same) in [
            ("http://example.com", "example.com", true),
            ("https://example.com", "example.com", true),
            ("https://EXAMPLE.com", "example.COM:443", true),
            ("http://example.com:80", "example.com", true),
            ("http://example.com", "example.com:8080", false),
            ("http://example.com:8080", "example.com:8080", true),
            ("https://example.com", "example.com:80", false),
            ("http://example.com.evil.org", "example.com", false),
            ("http://[::1]:9000", "[::1]:9000", true),
            ("http://[::1]", "[::1]:80", true),
            ("http://[::1", "[::1", false),
            ("http://a]", "a]", false),
            ("http://[::g]", "[::g]", false),
            ("http://[::1]x", "[::1]x", false),
            ("ht tp://example.com", "example.com", false),
            ("null", "example.com", false),
            ("http://", "example.com", false),
            ("http://example.com/path", "example.com", false),
            ("http://user@example.com", "example.com", false),
            ("custom://example.com", "example.com", true),
        ] {
            assert_eq!(
                is_same_host(origin.as_bytes(), host.as_bytes()),
                same,
                "{origin} at {host}"
            );
        }
    }
}
