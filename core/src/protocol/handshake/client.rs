//! The client's side of the opening handshake (RFC 6455 §4.1): writing the request and judging
//! the response.
//!
//! Does not know: how a response arrives, or where the server is.

use crate::config::DeflateOptions;
use crate::error::{Error, ErrorKind, Result};
use crate::protocol::extension::{self, Offered};
use crate::protocol::handshake::key::{AcceptValue, accept_value, encode_key};
use crate::protocol::handshake::{
    ExtraHeaders, Settled, check_headers, check_subprotocols, write_header, write_headers,
};
use crate::protocol::head::{HeadError, NotSingle, ResponseHead, is_field_value};
use crate::protocol::mask::Random;

/// What a client's request says besides where it goes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestOptions {
    /// The subprotocols to offer, in order of preference.
    pub subprotocols: Vec<String>,
    /// The value of the Origin header, which only browsers have to send.
    pub origin: Option<String>,
    /// Additional header fields.
    pub headers: ExtraHeaders,
    /// How permessage-deflate is offered, as the value of Sec-WebSocket-Extensions, instead of as
    /// [`Config::deflate`](crate::Config::deflate) says, without which nothing is offered. For hosts
    /// whose options say it in another way.
    pub deflate_offer: Option<String>,
}

impl RequestOptions {
    /// Checks everything that goes on the wire.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`], naming the value that is wrong.
    pub fn validate(&self) -> Result<()> {
        check_subprotocols(&self.subprotocols)?;
        if let Some(origin) = self
            .origin
            .as_deref()
            .filter(|origin| !is_field_value(origin.as_bytes()))
        {
            return Err(Error::invalid(format!(
                "origin has a control character, or white space at an end: {origin:?}"
            )));
        }
        if let Some(offer) = &self.deflate_offer {
            Offered::read(offer)?;
        }
        check_headers(&self.headers, |name| {
            let ours = [
                "host",
                "upgrade",
                "connection",
                "origin",
                "content-length",
                "transfer-encoding",
            ];
            ours.contains(&name) || name.starts_with("sec-websocket-")
        })
    }
}

/// A request that was sent and waits for its response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientHandshake {
    expected: AcceptValue,
    offered: Vec<String>,
    deflate: Option<Offered>,
}

/// Appends a request for `resource` (path and query) at `authority` (the Host header) to `out`, which
/// offers permessage-deflate with the options of `deflate`.
///
/// The strings were checked before: `options` by [`RequestOptions::validate`], the others by
/// whoever took them from a URL.
pub fn request(
    authority: &str,
    resource: &str,
    options: &RequestOptions,
    deflate: Option<&DeflateOptions>,
    random: &mut dyn Random,
    out: &mut Vec<u8>,
) -> ClientHandshake {
    // RFC 6455 §4.1 item 7: a nonce of 16 octets, chosen anew for each connection.
    let mut nonce = [0; 16];
    random.fill(&mut nonce);
    let key = encode_key(nonce);
    for part in ["GET ", resource, " HTTP/1.1\r\n"] {
        out.extend_from_slice(part.as_bytes());
    }
    write_header(out, "Host", authority);
    write_header(out, "Upgrade", "websocket");
    write_header(out, "Connection", "Upgrade");
    write_header(out, "Sec-WebSocket-Key", &key);
    write_header(out, "Sec-WebSocket-Version", "13");
    if let Some(origin) = &options.origin {
        write_header(out, "Origin", origin);
    }
    if !options.subprotocols.is_empty() {
        write_header(
            out,
            "Sec-WebSocket-Protocol",
            &options.subprotocols.join(", "),
        );
    }
    let deflate = deflate.map(|deflate| match &options.deflate_offer {
        // It was validated, so it can be read.
        Some(offer) => (
            offer.clone(),
            Offered::read(offer).unwrap_or_else(|_| Offered::of(deflate)),
        ),
        None => (extension::offer(deflate), Offered::of(deflate)),
    });
    if let Some((offer, _)) = &deflate {
        write_header(out, "Sec-WebSocket-Extensions", offer);
    }
    write_headers(out, &options.headers);
    out.extend_from_slice(b"\r\n");
    ClientHandshake {
        expected: accept_value(key.as_bytes()),
        offered: options.subprotocols.clone(),
        deflate: deflate.map(|(_, offered)| offered),
    }
}

impl ClientHandshake {
    /// Judges the response (RFC 6455 §4.1, the numbered list at its end) and returns what it
    /// settles.
    ///
    /// # Errors
    /// [`ErrorKind::Refused`] for a status other than 101, else [`ErrorKind::Handshake`].
    pub fn check(&self, response: &ResponseHead<'_>) -> Result<Settled> {
        if response.status != 101 {
            return Err(Error::new(
                ErrorKind::Refused,
                format!(
                    "the server answered {} {}; expected 101",
                    response.status, response.reason
                ),
            ));
        }
        for (name, token) in [("Upgrade", "websocket"), ("Connection", "Upgrade")] {
            if !response.headers.lists(name, token) {
                return Err(bad(format!(
                    "the response lacks the header \"{name}: {token}\""
                )));
            }
        }
        match response.headers.single("sec-websocket-accept") {
            Ok(value) if value == self.expected => {}
            Ok(_) => {
                return Err(bad(
                    "the response's Sec-WebSocket-Accept does not fit the request's key",
                ));
            }
            Err(NotSingle::Missing) => return Err(bad("the response lacks Sec-WebSocket-Accept")),
            Err(NotSingle::Repeated) => {
                return Err(bad("the response has more than one Sec-WebSocket-Accept"));
            }
        }
        // RFC 6455 §4.1 item 5: an extension that was not asked for fails the connection.
        let values = response.headers.all("sec-websocket-extensions");
        let deflate = extension::agree(values, self.deflate.as_ref()).map_err(bad)?;
        Ok(Settled {
            subprotocol: self.check_subprotocol(response)?,
            deflate,
        })
    }

    /// RFC 6455 §4.1 item 6.
    fn check_subprotocol(&self, response: &ResponseHead<'_>) -> Result<Option<Box<str>>> {
        match response.headers.single("sec-websocket-protocol") {
            Err(NotSingle::Missing) => Ok(None),
            Err(NotSingle::Repeated) => {
                Err(bad("the response has more than one Sec-WebSocket-Protocol"))
            }
            Ok(value) => match self.offered.iter().find(|name| name.as_bytes() == value) {
                Some(name) => Ok(Some(Box::from(name.as_str()))),
                None => Err(bad(format!(
                    "the response names the subprotocol {:?}, which was not offered",
                    String::from_utf8_lossy(value)
                ))),
            },
        }
    }
}

/// The error of a response head that cannot be read.
pub fn unreadable(error: &HeadError) -> Error {
    match error {
        HeadError::Malformed(why) => bad(format!("the response is not valid: {why}")),
        HeadError::TooManyBytes { .. } | HeadError::TooManyHeaders { .. } => Error::new(
            ErrorKind::HandshakeTooLarge,
            format!("the response is too large: {error}"),
        ),
    }
}

fn bad(detail: impl Into<String>) -> Error {
    Error::new(ErrorKind::Handshake, detail.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(options: &RequestOptions) -> String {
        let error = options.validate().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        error.detail().to_owned()
    }

    #[test]
    fn nothing_that_an_application_gives_can_add_a_line() {
        for origin in ["http://a\r\nX: y", "http://a\0", " http://a", "http://a\t"] {
            let options = RequestOptions {
                origin: Some(origin.to_owned()),
                ..RequestOptions::default()
            };
            let detail = refused(&options);
            assert!(detail.starts_with("origin") && detail.contains(&format!("{origin:?}")));
        }
        for (subprotocols, words) in [
            (vec!["a b"], "not a token"),
            (vec!["a\r\nX:y"], "not a token"),
            (vec![""], "not a token"),
            (vec!["chat", "v2", "chat"], "\"chat\" is given twice"),
        ] {
            let options = RequestOptions {
                subprotocols: subprotocols.into_iter().map(str::to_owned).collect(),
                ..RequestOptions::default()
            };
            assert!(refused(&options).contains(words));
        }
        for name in ["Host", "sec-websocket-key", "X Y", "Upgrade"] {
            let options = RequestOptions {
                headers: vec![(name.to_owned(), "y".to_owned())],
                ..RequestOptions::default()
            };
            assert!(refused(&options).contains(name));
        }
        let fine = RequestOptions {
            subprotocols: vec!["chat".to_owned(), "v2.chat".to_owned()],
            origin: Some("https://a.example".to_owned()),
            headers: vec![("X-Y".to_owned(), "é, ok".to_owned())],
            deflate_offer: None,
        };
        assert_eq!(fine.validate(), Ok(()));
    }

    #[test]
    fn an_offer_that_an_application_has_written_is_read_before_it_is_sent() {
        let options = |offer: &str| RequestOptions {
            deflate_offer: Some(offer.to_owned()),
            ..RequestOptions::default()
        };
        refused(&options("permessage-deflate; server_max_window_bits=7"));
        refused(&options("permessage-deflate\r\nX: y"));
        let offer = "permessage-deflate; server_no_context_takeover";
        let (options, mut out) = (options(offer), Vec::new());
        assert_eq!(options.validate(), Ok(()));
        let deflate = DeflateOptions::default();
        let handshake = request("a", "/", &options, Some(&deflate), &mut Zeros, &mut out);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains(&format!("Sec-WebSocket-Extensions: {offer}\r\n")));
        let accept = String::from_utf8(handshake.expected.to_vec()).unwrap();
        for (answer, opens) in [
            (offer, true),
            ("permessage-deflate", false),
            (
                "permessage-deflate; server_no_context_takeover; client_max_window_bits=9",
                false,
            ),
        ] {
            let head = format!(
                "HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Extensions: {answer}\r\n\r\n"
            );
            let response = ResponseHead::parse(head.as_bytes(), 10).unwrap();
            assert_eq!(handshake.check(&response).is_ok(), opens, "{answer}");
        }
    }

    struct Zeros;

    impl Random for Zeros {
        fn fill(&mut self, buffer: &mut [u8]) {
            buffer.fill(0);
        }
    }
}
