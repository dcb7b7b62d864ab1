//! HTTP/1.1 message heads (RFC 9112 §2): finding where one ends, reading it, and the grammar of
//! what may be written into one.
//!
//! Everything here walks its input once: a head that arrives octet by octet costs no more than one
//! that arrives whole.
//!
//! Does not know: WebSocket's rules for the headers, or who sends a head.

use core::fmt;

/// Collects a head from the pieces in which it arrives.
#[derive(Debug, Default)]
pub struct HeadReader {
    bytes: Vec<u8>,
    /// Everything before this index has been searched; `scanned <= bytes.len()`.
    scanned: usize,
    /// Where the line that is being searched begins; `line <= scanned`.
    line: usize,
}

/// Why a head cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeadError {
    /// More bytes than the limit without an end.
    TooManyBytes {
        /// The limit that was exceeded.
        limit: usize,
    },
    /// More header fields than the limit.
    TooManyHeaders {
        /// The limit that was exceeded.
        limit: usize,
    },
    /// Not an HTTP head; the text says why.
    Malformed(&'static str),
}

impl fmt::Display for HeadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyBytes { limit } => {
                write!(f, "the head is longer than max_handshake_bytes, {limit}")
            }
            Self::TooManyHeaders { limit } => {
                write!(
                    f,
                    "the head has more header fields than max_handshake_headers, {limit}"
                )
            }
            Self::Malformed(why) => f.write_str(why),
        }
    }
}

impl HeadReader {
    /// Takes bytes from `input` up to the end of the head.
    ///
    /// Returns how many were taken and whether the head is complete; what is not taken follows
    /// the head.
    ///
    /// # Errors
    /// The head is longer than `limit` or cannot be one.
    pub fn feed(&mut self, input: &[u8], limit: usize) -> Result<(usize, bool), HeadError> {
        let before = self.bytes.len();
        let room = limit.saturating_sub(before);
        self.bytes
            .extend_from_slice(&input[..input.len().min(room)]);
        if before == 0 {
            check_first_octet(input)?;
        }
        if let Some(end) = self.find_end()? {
            self.bytes.truncate(end);
            return Ok((end - before, true));
        }
        if input.len() > room {
            return Err(HeadError::TooManyBytes { limit });
        }
        Ok((input.len(), false))
    }

    /// The bytes of the head so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The bytes of the head, for as long as they are needed.
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn find_end(&mut self) -> Result<Option<usize>, HeadError> {
        for (i, &octet) in self.bytes.iter().enumerate().skip(self.scanned) {
            if octet != b'\n' {
                continue;
            }
            // Stricter than RFC 9112 §2.2, which lets a recipient accept a bare LF: proxies that
            // disagree on line ends disagree on where a message ends.
            if i == self.line || self.bytes[i - 1] != b'\r' {
                return Err(HeadError::Malformed("a line of the head ends without CR"));
            }
            if i == self.line + 1 {
                return Ok(Some(i + 1));
            }
            self.line = i + 1;
        }
        self.scanned = self.bytes.len();
        Ok(None)
    }
}

fn check_first_octet(input: &[u8]) -> Result<(), HeadError> {
    match input.first() {
        // A TLS record of type handshake (RFC 8446 §5.1).
        Some(0x16) => Err(HeadError::Malformed(
            "this looks like TLS; expected plain HTTP here",
        )),
        Some(&octet) if !is_token_octet(octet) => Err(HeadError::Malformed(
            "the first octet does not begin an HTTP message",
        )),
        _ => Ok(()),
    }
}

/// The header fields of a head, in order, as they came.
#[derive(Clone, Debug, Default)]
pub struct Headers<'a>(Vec<(&'a str, &'a [u8])>);

impl<'a> Headers<'a> {
    /// The value of the first field called `name`, in any case.
    pub fn get(&self, name: &str) -> Option<&'a [u8]> {
        self.all(name).next()
    }

    /// The values of all fields called `name`, in any case.
    pub fn all(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        self.0
            .iter()
            .filter(move |(field, _)| field.eq_ignore_ascii_case(name))
            .map(|&(_, value)| value)
    }

    /// Every field as name and value.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&'a str, &'a [u8])> {
        self.0.iter().copied()
    }

    /// How many fields there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether a field called `name` lists `token`, in any case.
    pub(crate) fn lists(&self, name: &str, token: &str) -> bool {
        self.all(name)
            .flat_map(elements)
            .any(|element| element.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The value of the only field called `name`; an error tells whether there is none or several.
    pub(crate) fn single(&self, name: &str) -> Result<&'a [u8], NotSingle> {
        let mut values = self.all(name);
        match (values.next(), values.next()) {
            (Some(value), None) => Ok(value),
            (None, _) => Err(NotSingle::Missing),
            (Some(_), Some(_)) => Err(NotSingle::Repeated),
        }
    }
}

/// Why there is no single value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotSingle {
    Missing,
    Repeated,
}

/// A request head.
#[derive(Clone, Debug)]
pub struct Request<'a> {
    /// The method, such as `GET`.
    pub method: &'a str,
    /// The request target as it was sent, such as `/chat?room=1`.
    pub target: &'a str,
    /// The minor version: 1 for HTTP/1.1.
    pub minor_version: u8,
    /// The header fields.
    pub headers: Headers<'a>,
}

impl<'a> Request<'a> {
    /// Reads a complete head of at most `max_headers` fields.
    ///
    /// # Errors
    /// It is not a request head, or has too many fields.
    pub fn parse(head: &'a [u8], max_headers: usize) -> Result<Self, HeadError> {
        let mut fields = vec![httparse::EMPTY_HEADER; max_headers.min(head.len())];
        let mut request = httparse::Request::new(&mut fields);
        complete(request.parse(head), max_headers)?;
        let (Some(method), Some(target), Some(minor_version)) =
            (request.method, request.path, request.version)
        else {
            return Err(HeadError::Malformed("the request line is incomplete"));
        };
        Ok(Self {
            method,
            target,
            minor_version,
            headers: collect(request.headers),
        })
    }

    /// The first header field called `name`, in any case.
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.get(name)
    }

    /// The first header field called `name`, if it is UTF-8.
    pub fn header_text(&self, name: &str) -> Option<&'a str> {
        self.header(name)
            .and_then(|value| core::str::from_utf8(value).ok())
    }

    /// The path of the target, without the query.
    pub fn path(&self) -> &'a str {
        self.resource()
            .split_once('?')
            .map_or(self.resource(), |(path, _)| path)
    }

    /// The query of the target, without the question mark; empty if there is none.
    pub fn query(&self) -> &'a str {
        self.resource()
            .split_once('?')
            .map_or("", |(_, query)| query)
    }

    /// The subprotocols the client offers, in its order of preference.
    pub fn subprotocols(&self) -> impl Iterator<Item = &'a str> {
        self.headers
            .all("sec-websocket-protocol")
            .flat_map(elements)
            .filter_map(|element| core::str::from_utf8(element).ok())
    }

    /// The target in origin-form: an absolute-form target (RFC 9112 §3.2.2) loses its scheme and
    /// authority.
    fn resource(&self) -> &'a str {
        let Some((_, rest)) = self
            .target
            .split_once("://")
            .filter(|_| !self.target.starts_with('/'))
        else {
            return self.target;
        };
        rest.find('/').map_or("/", |slash| &rest[slash..])
    }
}

/// A response head.
#[derive(Clone, Debug)]
pub struct ResponseHead<'a> {
    /// The status code, such as 101.
    pub status: u16,
    /// The reason phrase, often empty.
    pub reason: &'a str,
    /// The header fields.
    pub headers: Headers<'a>,
}

impl<'a> ResponseHead<'a> {
    /// Reads a complete head of at most `max_headers` fields.
    ///
    /// # Errors
    /// It is not a response head, or has too many fields.
    pub fn parse(head: &'a [u8], max_headers: usize) -> Result<Self, HeadError> {
        let mut fields = vec![httparse::EMPTY_HEADER; max_headers.min(head.len())];
        let mut response = httparse::Response::new(&mut fields);
        complete(response.parse(head), max_headers)?;
        if response.version != Some(1) {
            return Err(HeadError::Malformed("the response is not HTTP/1.1"));
        }
        let Some(status) = response.code else {
            return Err(HeadError::Malformed("the status line is incomplete"));
        };
        Ok(Self {
            status,
            reason: response.reason.unwrap_or(""),
            headers: collect(response.headers),
        })
    }
}

fn complete(
    parsed: Result<httparse::Status<usize>, httparse::Error>,
    max_headers: usize,
) -> Result<(), HeadError> {
    Err(HeadError::Malformed(match parsed {
        Ok(httparse::Status::Complete(_)) => return Ok(()),
        Ok(httparse::Status::Partial) => "the head is empty or cut",
        Err(httparse::Error::TooManyHeaders) => {
            return Err(HeadError::TooManyHeaders { limit: max_headers });
        }
        Err(httparse::Error::HeaderName) => "a header field's name is not a token",
        Err(httparse::Error::HeaderValue) => "a header field's value has a forbidden octet",
        Err(httparse::Error::NewLine) => "a line of the head does not end with CR LF",
        Err(httparse::Error::Status) => "the status code is not three digits",
        Err(httparse::Error::Token) => "the first line has a forbidden octet",
        Err(httparse::Error::Version) => "the HTTP version is not 1.0 or 1.1",
    }))
}

fn collect<'a>(fields: &[httparse::Header<'a>]) -> Headers<'a> {
    Headers(
        fields
            .iter()
            .map(|field| (field.name, field.value))
            .collect(),
    )
}

/// The elements of a comma-separated list, without white space around them; empty ones are left
/// out (RFC 9110 §5.6.1.2).
pub(crate) fn elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&octet| octet == b',')
        .map(<[u8]>::trim_ascii)
        .filter(|element| !element.is_empty())
}

/// Whether `octet` may stand in a token (RFC 9110 §5.6.2).
pub(crate) const fn is_token_octet(octet: u8) -> bool {
    matches!(octet, b'!' | b'#'..=b'\'' | b'*' | b'+' | b'-' | b'.' | b'^'..=b'`' | b'|' | b'~')
        || octet.is_ascii_alphanumeric()
}

/// Whether `text` is a token (RFC 9110 §5.6.2).
pub(crate) fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().copied().all(is_token_octet)
}

/// Whether `text` may be the value of a header field (RFC 9110 §5.5): no control characters, and
/// no white space at either end.
pub(crate) fn is_field_value(text: &[u8]) -> bool {
    text.iter()
        .all(|&octet| octet == b'\t' || (octet >= b' ' && octet != 0x7f))
        && text.trim_ascii() == text
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &[u8] =
        b"GET /chat?a=b HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, , Upgrade\r\n\r\n";

    #[test]
    fn finds_the_end_at_every_split() {
        for cut in 0..=HEAD.len() {
            let mut reader = HeadReader::default();
            let first = reader.feed(&HEAD[..cut], 1000).unwrap();
            assert_eq!(first, (cut, cut == HEAD.len()));
            let mut rest = HEAD[cut..].to_vec();
            rest.extend_from_slice(b"\x81\x00");
            if cut < HEAD.len() {
                assert_eq!(reader.feed(&rest, 1000), Ok((HEAD.len() - cut, true)));
            }
            assert_eq!(reader.bytes(), HEAD);
        }
    }

    #[test]
    fn the_limit_of_bytes_is_inclusive() {
        assert_eq!(
            HeadReader::default().feed(HEAD, HEAD.len()),
            Ok((HEAD.len(), true))
        );
        let limit = HEAD.len() - 1;
        assert_eq!(
            HeadReader::default().feed(HEAD, limit),
            Err(HeadError::TooManyBytes { limit })
        );
    }

    #[test]
    fn the_limit_of_headers_is_inclusive() {
        assert_eq!(Request::parse(HEAD, 2).unwrap().headers.len(), 2);
        assert_eq!(
            Request::parse(HEAD, 1).unwrap_err(),
            HeadError::TooManyHeaders { limit: 1 }
        );
    }

    #[test]
    fn refuses_what_is_no_head_at_once() {
        for (input, word) in [
            (&b"\x16\x03\x01"[..], "TLS"),
            (b"\x00", "first octet"),
            (b" GET / HTTP/1.1\r\n", "first octet"),
            (b"GET / HTTP/1.1\nHost: a\n\n", "without CR"),
            (b"\n", "first octet"),
        ] {
            let error = HeadReader::default().feed(input, 1000).unwrap_err();
            assert!(error.to_string().contains(word), "{input:?}: {error}");
        }
    }

    #[test]
    fn a_head_that_is_empty_or_cut_is_none() {
        for cut in [0, 1, HEAD.len() - 1] {
            let error = Request::parse(&HEAD[..cut], 10).unwrap_err();
            assert!(error.to_string().contains("empty or cut"), "{error}");
        }
        let bare = Request::parse(b"GET / HTTP/1.1\r\n\r\n", 10).unwrap();
        assert!(bare.headers.is_empty());
        assert!(!Request::parse(HEAD, 10).unwrap().headers.is_empty());
    }

    #[test]
    fn reads_paths_queries_and_lists() {
        let request = Request::parse(HEAD, 10).unwrap();
        assert_eq!((request.path(), request.query()), ("/chat", "a=b"));
        assert!(request.headers.lists("connection", "upgrade"));
        assert!(!request.headers.lists("connection", "up"));
        assert_eq!(request.headers.single("host"), Ok(&b"a"[..]));
        assert_eq!(request.headers.single("origin"), Err(NotSingle::Missing));
        for (target, path, query) in [
            ("http://a.example/x?y", "/x", "y"),
            ("ws://a.example", "/", ""),
            ("/x?u=http://b/c", "/x", "u=http://b/c"),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\n\r\n");
            let request = Request::parse(head.as_bytes(), 10).unwrap();
            assert_eq!((request.path(), request.query()), (path, query));
        }
    }

    #[test]
    fn knows_tokens_and_values() {
        assert!(is_token(b"chat.v2"));
        for bad in [
            &b""[..],
            b"a b",
            b"a,b",
            b"a\r\n",
            b"\xc3\xa9",
            b"a\"",
            b"(a)",
            b"a/b",
        ] {
            assert!(!is_token(bad), "{bad:?}");
        }
        assert!(is_field_value(b"text/plain; charset=utf-8"));
        assert!(is_field_value(b"\xc3\xa9"));
        for bad in [&b"a\r\nb"[..], b"a\0", b"a\x7f", b" a", b"a\n"] {
            assert!(!is_field_value(bad), "{bad:?}");
        }
    }
}
