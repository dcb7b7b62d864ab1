//! The HTTP response that ends its connection: a refusal, or the answer to plain HTTP.
//!
//! Does not know: what it answers, or the 101 that opens a connection.

use crate::error::{Error, Result};
use crate::protocol::handshake::{ExtraHeaders, check_headers, write_header, write_headers};

/// The fields that wsabi writes itself in every response.
pub(crate) fn is_framing(name: &str) -> bool {
    matches!(name, "connection" | "content-length" | "transfer-encoding")
}

/// An HTTP response that ends its connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code, 200 to 599.
    pub status: u16,
    /// Header fields, besides `Connection` and `Content-Length`, which are written by wsabi.
    pub headers: ExtraHeaders,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// A response with a line of text as its body.
    pub fn text(status: u16, text: &str) -> Self {
        Self {
            status,
            headers: vec![(
                "Content-Type".to_owned(),
                "text/plain; charset=utf-8".to_owned(),
            )],
            body: format!("{text}\n").into_bytes(),
        }
    }

    /// The response to a request that should have asked for a WebSocket (RFC 9110 §15.5.22, RFC
    /// 6455 §4.4).
    pub fn upgrade_required(text: &str) -> Self {
        let mut response = Self::text(426, text);
        response
            .headers
            .push(("Upgrade".to_owned(), "websocket".to_owned()));
        response
            .headers
            .push(("Sec-WebSocket-Version".to_owned(), "13".to_owned()));
        response
    }

    /// Checks a response that an application gives.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::error::ErrorKind::Invalid), naming what is wrong.
    pub fn validate(&self) -> Result<()> {
        if !(200..=599).contains(&self.status) {
            return Err(Error::invalid(format!(
                "status is {}; expected 200 to 599",
                self.status
            )));
        }
        check_headers(&self.headers, |name| {
            // A 426 names the protocol and the version to come back with.
            let of_upgrade = matches!(
                name,
                "sec-websocket-accept" | "sec-websocket-extensions" | "sec-websocket-protocol"
            );
            is_framing(name) || of_upgrade
        })
    }

    /// Appends the response to `out`; `to_head` leaves the body out, as the answer to a HEAD
    /// request has to (RFC 9110 §9.3.2).
    pub fn encode(&self, to_head: bool, out: &mut Vec<u8>) {
        let upgrade = self
            .headers
            .iter()
            .any(|(name, _)| name.eq_ignore_ascii_case("upgrade"));
        out.extend_from_slice(
            format!(
                "HTTP/1.1 {} {}\r\n",
                self.status,
                reason_phrase(self.status)
            )
            .as_bytes(),
        );
        write_headers(out, &self.headers);
        // RFC 9110 §7.8: a sender of Upgrade also names it in Connection.
        write_header(
            out,
            "Connection",
            if upgrade { "close, Upgrade" } else { "close" },
        );
        // RFC 9110 §8.6: no Content-Length in a 204.
        if self.status != 204 {
            write_header(out, "Content-Length", &self.body.len().to_string());
        }
        out.extend_from_slice(b"\r\n");
        if !to_head && self.status != 204 && self.status != 304 {
            out.extend_from_slice(&self.body);
        }
    }
}

/// The reason phrase of the statuses in use; others have none, which RFC 9112 §4 allows.
fn reason_phrase(status: u16) -> &'static str {
    match status {
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        204 => "No Content",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        413 => "Content Too Large",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

    #[test]
    fn responses_are_complete_and_end_the_connection() {
        let mut out = Vec::new();
        Response::upgrade_required("no").encode(false, &mut out);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "HTTP/1.1 426 Upgrade Required\r\nContent-Type: text/plain; charset=utf-8\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nConnection: close, Upgrade\r\nContent-Length: 3\r\n\r\nno\n"
        );
    }

    #[test]
    fn statuses_have_the_phrases_of_their_registry_or_none() {
        // RFC 9110 §15, RFC 6585.
        let phrases = [
            (200, "OK"),
            (201, "Created"),
            (202, "Accepted"),
            (204, "No Content"),
            (301, "Moved Permanently"),
            (302, "Found"),
            (303, "See Other"),
            (304, "Not Modified"),
            (307, "Temporary Redirect"),
            (308, "Permanent Redirect"),
            (400, "Bad Request"),
            (401, "Unauthorized"),
            (403, "Forbidden"),
            (404, "Not Found"),
            (405, "Method Not Allowed"),
            (408, "Request Timeout"),
            (409, "Conflict"),
            (410, "Gone"),
            (413, "Content Too Large"),
            (422, "Unprocessable Content"),
            (426, "Upgrade Required"),
            (429, "Too Many Requests"),
            (431, "Request Header Fields Too Large"),
            (500, "Internal Server Error"),
            (501, "Not Implemented"),
            (502, "Bad Gateway"),
            (503, "Service Unavailable"),
            (504, "Gateway Timeout"),
        ];
        for status in 200..600 {
            let found = phrases.iter().find(|(known, _)| *known == status);
            let phrase = found.map_or("", |(_, phrase)| phrase);
            let mut out = Vec::new();
            Response::text(status, "why").encode(false, &mut out);
            let text = String::from_utf8(out).unwrap();
            let (line, rest) = text.split_once("\r\n").unwrap();
            assert_eq!(line, format!("HTTP/1.1 {status} {phrase}"));
            // RFC 9110 §8.6, §15.4.5: no length in a 204, and no body in a 204 or 304.
            assert_eq!(!rest.contains("Content-Length: 4\r\n"), status == 204);
            assert_eq!(
                !rest.ends_with("\r\n\r\nwhy\n"),
                matches!(status, 204 | 304)
            );
        }
    }

    #[test]
    fn applications_cannot_inject_headers() {
        for (name, value) in [
            ("X-A", "a\r\nb: c"),
            ("X A", "b"),
            ("", "b"),
            ("Connection", "x"),
            ("Sec-WebSocket-Extensions", "x"),
            ("X", "a\0"),
        ] {
            let response = Response {
                status: 403,
                headers: vec![(name.into(), value.into())],
                body: Vec::new(),
            };
            assert_eq!(
                response.validate().unwrap_err().kind(),
                ErrorKind::Invalid,
                "{name:?}: {value:?}"
            );
        }
        assert_eq!(Response::upgrade_required("no").validate(), Ok(()));
        for status in [0, 101, 199, 600] {
            assert!(
                Response {
                    status,
                    headers: Vec::new(),
                    body: Vec::new()
                }
                .validate()
                .is_err()
            );
        }
    }
}
