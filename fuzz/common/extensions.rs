//! Sec-WebSocket-Extensions read the slow and obvious way, and the rules of RFC 7692 §7.1 for it.
//!
//! Does not know: the library's reader.

use wsabi::{Agreed, DeflateOptions};

use crate::common::heads::Head;

/// What a head's Sec-WebSocket-Extensions say.
pub(crate) enum Extensions {
    /// There is a quoted string in it, which this reader does not read.
    Quoted,
    Malformed,
    List(Vec<Extension>),
}

/// A name, and parameters with their values.
pub(crate) struct Extension {
    name: String,
    params: Vec<(String, Option<String>)>,
}

fn token(text: &[u8]) -> Option<String> {
    let octet = |o: &u8| o.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(o);
    let text = text.trim_ascii();
    let valid = !text.is_empty() && text.iter().all(octet);
    valid.then(|| String::from_utf8_lossy(text).into_owned())
}

impl Extensions {
    pub(crate) fn read(head: &Head<'_>) -> Self {
        let values = head.all("sec-websocket-extensions");
        if values.iter().any(|value| value.contains(&b'"')) {
            return Self::Quoted;
        }
        let elements = head.elements("sec-websocket-extensions");
        let list: Option<Vec<Extension>> = elements.into_iter().map(Extension::read).collect();
        match list {
            Some(list) if list.len() <= 64 && list.iter().all(|e| e.params.len() <= 64) => {
                Self::List(list)
            }
            _ => Self::Malformed,
        }
    }
}

impl Extension {
    fn read(element: &[u8]) -> Option<Self> {
        let mut parts = element.split(|&octet| octet == b';');
        let name = token(parts.next()?)?;
        let params = parts.map(|part| {
            let mut sides = part.splitn(2, |&octet| octet == b'=');
            let name = token(sides.next()?)?;
            match sides.next() {
                Some(value) => Some((name, Some(token(value)?))),
                None => Some((name, None)),
            }
        });
        let params = params.collect::<Option<_>>()?;
        Some(Self { name, params })
    }

    /// The window bits of a parameter: absent, without value, or a number.
    fn bits(&self, name: &str) -> Option<Option<u8>> {
        let (_, value) = self.params.iter().find(|(param, _)| param == name)?;
        Some(value.as_ref().and_then(|value| value.parse().ok()))
    }

    fn has(&self, name: &str) -> bool {
        self.params.iter().any(|(param, _)| param == name)
    }

    /// Whether it is permessage-deflate as an offer or an answer may say it.
    fn is_valid(&self, answer: bool) -> bool {
        let distinct = (1..self.params.len()).all(|i| {
            self.params[..i]
                .iter()
                .all(|(name, _)| *name != self.params[i].0)
        });
        let numbers = ["8", "9", "10", "11", "12", "13", "14", "15"];
        let known = self.params.iter().all(|(name, value)| {
            let number = value.as_deref().map(|value| numbers.contains(&value));
            match name.as_str() {
                "server_no_context_takeover" | "client_no_context_takeover" => value.is_none(),
                "server_max_window_bits" => number == Some(true),
                "client_max_window_bits" => number.unwrap_or(!answer),
                _ => false,
            }
        });
        self.name == "permessage-deflate" && distinct && known
    }
}

/// What a server with these options agrees to.
pub(crate) fn accepted(offers: &[Extension], options: &DeflateOptions) -> Option<Agreed> {
    let offer = offers.iter().find(|offer| offer.is_valid(false))?;
    let server = offer.bits("server_max_window_bits").flatten().unwrap_or(15);
    let client = offer.bits("client_max_window_bits");
    Some(Agreed {
        server_max_window_bits: server.min(options.server_max_window_bits),
        client_max_window_bits: client.map_or(15, |bits| {
            bits.unwrap_or(15).min(options.client_max_window_bits)
        }),
        server_context_takeover: options.server_context_takeover
            && !offer.has("server_no_context_takeover"),
        client_context_takeover: options.client_context_takeover
            && !offer.has("client_no_context_takeover"),
    })
}

/// What a client with these options makes of an answer: an error, or what is agreed on.
pub(crate) fn agreed(
    answer: &[Extension],
    options: Option<&DeflateOptions>,
) -> Result<Option<Agreed>, ()> {
    let answer = match answer {
        [] => return Ok(None),
        [answer] => answer,
        _ => return Err(()),
    };
    let options = options.ok_or(())?;
    let server = answer.bits("server_max_window_bits").flatten();
    let client = answer.bits("client_max_window_bits").flatten();
    let refused = !answer.is_valid(true)
        || !options.server_context_takeover && !answer.has("server_no_context_takeover")
        || server.is_some_and(|bits| bits > options.server_max_window_bits)
        || client.is_some_and(|bits| bits > options.client_max_window_bits);
    if refused {
        return Err(());
    }
    Ok(Some(Agreed {
        server_max_window_bits: server.unwrap_or(15),
        client_max_window_bits: client.unwrap_or(options.client_max_window_bits),
        server_context_takeover: !answer.has("server_no_context_takeover"),
        client_context_takeover: options.client_context_takeover
            && !answer.has("client_no_context_takeover"),
    }))
}

/// The options of a target's settings: none, the defaults, or whatever the peer likes.
pub(crate) fn options(settings: u8) -> Option<DeflateOptions> {
    match settings % 3 {
        0 => None,
        1 => Some(DeflateOptions::default()),
        _ => Some(DeflateOptions {
            server_max_window_bits: 15,
            client_max_window_bits: 15,
            server_context_takeover: true,
            client_context_takeover: true,
            ..DeflateOptions::default()
        }),
    }
}
