//! Extensions in the opening handshake (RFC 6455 §9.1), and what permessage-deflate says there
//! (RFC 7692 §7.1): offers, answers, and the rules for declining either.
//!
//! Does not know: how anything is compressed, or the rest of a handshake.

use crate::config::DeflateOptions;
use crate::error::{Error, Result as Outcome};
use crate::event::Role;
use crate::protocol::head::is_token_octet;

/// The one extension there is.
const PERMESSAGE_DEFLATE: &str = "permessage-deflate";
/// Most extensions or parameters that are looked at; nobody speaks so many.
const MAX_ELEMENTS: usize = 64;
/// The largest window, which is meant where none is named.
const MAX_BITS: u8 = 15;

/// What two endpoints have agreed on (RFC 7692 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Agreed {
    /// Window of what the server sends, as the logarithm of its size: 8 to 15.
    pub server_max_window_bits: u8,
    /// Window of what the client sends: 8 to 15.
    pub client_max_window_bits: u8,
    /// Whether the server's messages may refer back to earlier ones.
    pub server_context_takeover: bool,
    /// Whether the client's messages may refer back to earlier ones.
    pub client_context_takeover: bool,
}

impl Agreed {
    /// The window, and whether it lasts, of what the endpoint with this role sends.
    pub(crate) const fn sender(&self, role: Role) -> (u8, bool) {
        match role {
            Role::Client => (self.client_max_window_bits, self.client_context_takeover),
            Role::Server => (self.server_max_window_bits, self.server_context_takeover),
        }
    }

    /// The server's answer, which names everything that is not as it would be without being named.
    fn answer(&self, params: &Params) -> String {
        let mut answer = String::from(PERMESSAGE_DEFLATE);
        if !self.server_context_takeover {
            answer.push_str("; server_no_context_takeover");
        }
        if !self.client_context_takeover {
            answer.push_str("; client_no_context_takeover");
        }
        // RFC 7692 §7.1.2.1: an offer with this parameter is accepted by naming it.
        if self.server_max_window_bits < MAX_BITS || params.server_max_window_bits.is_some() {
            push_bits(
                &mut answer,
                "server_max_window_bits",
                self.server_max_window_bits,
            );
        }
        // RFC 7692 §7.1.2.2: only where the offer has it, which a smaller window says here.
        if self.client_max_window_bits < MAX_BITS {
            push_bits(
                &mut answer,
                "client_max_window_bits",
                self.client_max_window_bits,
            );
        }
        answer
    }
}

fn push_bits(text: &mut String, name: &str, bits: u8) {
    text.push_str("; ");
    text.push_str(name);
    text.push('=');
    text.push_str(&bits.to_string());
}

/// What a Sec-WebSocket-Extensions header may not look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// One extension with its parameters, as it is written.
#[derive(Debug)]
struct Extension<'a> {
    name: &'a [u8],
    params: Vec<(&'a [u8], Option<Vec<u8>>)>,
}

/// Why an offer or an answer is not accepted.
#[derive(Debug, PartialEq, Eq)]
struct Declined(String);

/// The parameters of permessage-deflate.
#[derive(Debug, Default)]
struct Params {
    server_no_context_takeover: bool,
    client_no_context_takeover: bool,
    server_max_window_bits: Option<u8>,
    /// The parameter, and its value if it has one.
    client_max_window_bits: Option<Option<u8>>,
}

impl Params {
    /// RFC 7692 §7.1: unknown, repeated and malformed parameters decline an offer and fail an
    /// answer.
    fn read(extension: &Extension<'_>) -> Result<Self, Declined> {
        let mut params = Self::default();
        for (name, value) in &extension.params {
            let name = core::str::from_utf8(name).unwrap_or_default();
            let repeated = match name {
                "server_no_context_takeover" | "client_no_context_takeover" => {
                    if value.is_some() {
                        return Err(Declined(format!("{name} has a value")));
                    }
                    let flag = if name.starts_with('s') {
                        &mut params.server_no_context_takeover
                    } else {
                        &mut params.client_no_context_takeover
                    };
                    core::mem::replace(flag, true)
                }
                "server_max_window_bits" => {
                    let bits = window_bits(name, value.as_deref())?;
                    params.server_max_window_bits.replace(bits).is_some()
                }
                "client_max_window_bits" => {
                    let bits = match value {
                        None => None,
                        Some(value) => Some(window_bits(name, Some(value))?),
                    };
                    params.client_max_window_bits.replace(bits).is_some()
                }
                _ => return Err(Declined(format!("{name:?} is not one of its parameters"))),
            };
            if repeated {
                return Err(Declined(format!("{name} is repeated")));
            }
        }
        Ok(params)
    }
}

/// RFC 7692 §7.1.2: a decimal number from 8 to 15, without leading zeros.
fn window_bits(name: &str, value: Option<&[u8]>) -> Result<u8, Declined> {
    match value {
        Some([digit @ b'8'..=b'9']) => Ok(digit - b'0'),
        Some([b'1', digit @ b'0'..=b'5']) => Ok(10 + digit - b'0'),
        Some(other) => Err(Declined(format!(
            "{name} is {:?}, not 8 to 15",
            String::from_utf8_lossy(other)
        ))),
        None => Err(Declined(format!("{name} has no value"))),
    }
}

/// What a client has offered, as far as the answer is judged by it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Offered {
    server_no_context_takeover: bool,
    client_context_takeover: bool,
    server_max_window_bits: u8,
    /// Absent if the server was not told that it may limit it.
    client_max_window_bits: Option<u8>,
}

impl Offered {
    /// What [`offer`] offers.
    pub(crate) const fn of(options: &DeflateOptions) -> Self {
        Self {
            server_no_context_takeover: !options.server_context_takeover,
            client_context_takeover: options.client_context_takeover,
            // RFC 7692 §7.1.2.1: the answer to the second offer may name any window.
            server_max_window_bits: MAX_BITS,
            client_max_window_bits: Some(MAX_BITS),
        }
    }

    /// What an offer says that somebody else has written.
    ///
    /// # Errors
    /// [`ErrorKind::Invalid`](crate::error::ErrorKind::Invalid) for what is not one valid offer of
    /// permessage-deflate.
    pub(crate) fn read(offer: &str) -> Outcome<Self> {
        let params = read_own(offer)?;
        Ok(Self {
            server_no_context_takeover: params.server_no_context_takeover,
            client_context_takeover: !params.client_no_context_takeover,
            server_max_window_bits: params.server_max_window_bits.unwrap_or(MAX_BITS),
            client_max_window_bits: params
                .client_max_window_bits
                .map(|bits| bits.unwrap_or(MAX_BITS)),
        })
    }
}

/// What an answer means that somebody else has written, for the server that sends it.
///
/// # Errors
/// [`ErrorKind::Invalid`](crate::error::ErrorKind::Invalid) for what is not a valid answer of
/// permessage-deflate.
pub(crate) fn read_answer(answer: &str) -> Outcome<Agreed> {
    let params = read_own(answer)?;
    if params.client_max_window_bits == Some(None) {
        return Err(not_valid(answer, "client_max_window_bits has no value"));
    }
    Ok(Agreed {
        server_max_window_bits: params.server_max_window_bits.unwrap_or(MAX_BITS),
        client_max_window_bits: params.client_max_window_bits.flatten().unwrap_or(MAX_BITS),
        server_context_takeover: !params.server_no_context_takeover,
        client_context_takeover: !params.client_no_context_takeover,
    })
}

fn read_own(value: &str) -> Outcome<Params> {
    let extensions = parse(core::iter::once(value.as_bytes()))
        .map_err(|Malformed| not_valid(value, "it is malformed"))?;
    match &extensions[..] {
        [extension] if extension.name == PERMESSAGE_DEFLATE.as_bytes() => {
            Params::read(extension).map_err(|Declined(why)| not_valid(value, &why))
        }
        _ => Err(not_valid(
            value,
            "expected permessage-deflate, once, and no other extension",
        )),
    }
}

fn not_valid(value: &str, why: &str) -> Error {
    Error::invalid(format!(
        "the extension {value:?} cannot be offered or answered: {why}"
    ))
}

/// The values of a client's Sec-WebSocket-Extensions headers: a first choice and, where that asks
/// the server for something it may not know, a second.
pub(crate) fn offer(options: &DeflateOptions) -> String {
    let mut rest = String::new();
    if !options.server_context_takeover {
        rest.push_str("; server_no_context_takeover");
    }
    if !options.client_context_takeover {
        rest.push_str("; client_no_context_takeover");
    }
    // Without a value: a smaller window than is agreed on needs no agreement, and there are servers
    // that answer a value with a larger one.
    rest.push_str("; client_max_window_bits");
    let second = format!("{PERMESSAGE_DEFLATE}{rest}");
    if options.server_max_window_bits == MAX_BITS {
        return second;
    }
    let mut first = second.clone();
    push_bits(
        &mut first,
        "server_max_window_bits",
        options.server_max_window_bits,
    );
    format!("{first}, {second}")
}

/// What a server agrees to of a client's offers, the first that is acceptable, and its answer.
pub(crate) fn accept<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    options: Option<&DeflateOptions>,
) -> Result<Option<(Agreed, String)>, Malformed> {
    let mut accepted = None;
    for extension in parse(values)? {
        if let Some(options) = options
            && accepted.is_none()
            && extension.name == PERMESSAGE_DEFLATE.as_bytes()
            && let Ok(params) = Params::read(&extension)
        {
            let agreed = accept_one(&params, options);
            accepted = Some((agreed, agreed.answer(&params)));
        }
    }
    Ok(accepted)
}

fn accept_one(offer: &Params, options: &DeflateOptions) -> Agreed {
    Agreed {
        server_max_window_bits: offer
            .server_max_window_bits
            .unwrap_or(MAX_BITS)
            .min(options.server_max_window_bits),
        // RFC 7692 §7.1.2.2: a client that does not offer it cannot be told to limit its window.
        client_max_window_bits: match offer.client_max_window_bits {
            Some(bits) => bits.unwrap_or(MAX_BITS).min(options.client_max_window_bits),
            None => MAX_BITS,
        },
        server_context_takeover: options.server_context_takeover
            && !offer.server_no_context_takeover,
        client_context_takeover: options.client_context_takeover
            && !offer.client_no_context_takeover,
    }
}

/// What a client has agreed to by a server's answer.
///
/// # Errors
/// Why the answer is not one to what was offered: the connection is to be failed.
pub(crate) fn agree<'a>(
    values: impl Iterator<Item = &'a [u8]>,
    offered: Option<&Offered>,
) -> Result<Option<Agreed>, String> {
    let extensions = parse(values)
        .map_err(|Malformed| "the response's Sec-WebSocket-Extensions is malformed")?;
    let [extension] = &extensions[..] else {
        return match extensions[..] {
            [] => Ok(None),
            _ => Err("the response names more than one extension".into()),
        };
    };
    let (Some(offered), b"permessage-deflate") = (offered, extension.name) else {
        return Err(format!(
            "the response names an extension that was not offered, {:?}",
            String::from_utf8_lossy(extension.name)
        ));
    };
    Params::read(extension)
        .and_then(|params| agree_to(&params, offered))
        .map(Some)
        .map_err(|Declined(why)| format!("the response's permessage-deflate is not valid: {why}"))
}

fn agree_to(answer: &Params, offered: &Offered) -> Result<Agreed, Declined> {
    // RFC 7692 §7.1.1.1: offered, it is accepted by being named.
    if offered.server_no_context_takeover && !answer.server_no_context_takeover {
        return Err(Declined(
            "server_no_context_takeover was offered and is missing".into(),
        ));
    }
    let client_most = offered.client_max_window_bits.unwrap_or(MAX_BITS);
    let client_bits = match answer.client_max_window_bits {
        // The server knows the offer, so its own window is limited by what was offered.
        None => client_most,
        Some(None) => return Err(Declined("client_max_window_bits has no value".into())),
        // RFC 7692 §7.1.2.2: only where the offer has it.
        Some(Some(_)) if offered.client_max_window_bits.is_none() => {
            return Err(Declined("client_max_window_bits was not offered".into()));
        }
        Some(Some(bits)) => bits,
    };
    let limits = [
        ("client_max_window_bits", client_bits, client_most),
        (
            "server_max_window_bits",
            // A server that names none has taken our second offer.
            answer.server_max_window_bits.unwrap_or(0),
            offered.server_max_window_bits,
        ),
    ];
    for (name, value, most) in limits {
        if value > most {
            return Err(Declined(format!(
                "{name} is {value}, more than the {most} that was offered"
            )));
        }
    }
    Ok(Agreed {
        server_max_window_bits: answer.server_max_window_bits.unwrap_or(MAX_BITS),
        client_max_window_bits: client_bits,
        server_context_takeover: !answer.server_no_context_takeover,
        client_context_takeover: offered.client_context_takeover
            && !answer.client_no_context_takeover,
    })
}

/// Reads the values of Sec-WebSocket-Extensions headers (RFC 6455 §9.1).
fn parse<'a>(values: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Extension<'a>>, Malformed> {
    let mut extensions = Vec::new();
    for value in values {
        let mut rest = skip_space(value);
        loop {
            // RFC 9110 §5.6.1: empty elements of a list are passed over.
            while let [b',', more @ ..] = rest {
                rest = skip_space(more);
            }
            if rest.is_empty() {
                break;
            }
            if extensions.len() == MAX_ELEMENTS {
                return Err(Malformed);
            }
            let extension;
            (extension, rest) = parse_one(rest)?;
            extensions.push(extension);
            if !matches!(rest, [] | [b',', ..]) {
                return Err(Malformed);
            }
        }
    }
    Ok(extensions)
}

fn parse_one(text: &[u8]) -> Result<(Extension<'_>, &[u8]), Malformed> {
    let (name, mut rest) = token(text)?;
    let mut params = Vec::new();
    while let [b';', more @ ..] = rest {
        if params.len() == MAX_ELEMENTS {
            return Err(Malformed);
        }
        let name;
        (name, rest) = token(skip_space(more))?;
        let mut value = None;
        if let [b'=', more @ ..] = rest {
            let found;
            (found, rest) = param_value(skip_space(more))?;
            value = Some(found);
        }
        params.push((name, value));
    }
    Ok((Extension { name, params }, rest))
}

/// A token or a quoted string, which unquoted has to be a token.
fn param_value(text: &[u8]) -> Result<(Vec<u8>, &[u8]), Malformed> {
    let [b'"', quoted @ ..] = text else {
        let (value, rest) = token(text)?;
        return Ok((value.to_vec(), rest));
    };
    let (mut value, mut rest) = (Vec::new(), quoted);
    loop {
        match rest {
            [b'"', more @ ..] if !value.is_empty() => return Ok((value, skip_space(more))),
            [b'\\', octet, more @ ..] | [octet, more @ ..] if is_token_octet(*octet) => {
                value.push(*octet);
                rest = more;
            }
            _ => return Err(Malformed),
        }
    }
}

/// A token at the beginning of `text`, and what follows it and the white space behind.
fn token(text: &[u8]) -> Result<(&[u8], &[u8]), Malformed> {
    let end = text
        .iter()
        .position(|&octet| !is_token_octet(octet))
        .unwrap_or(text.len());
    let (token, rest) = text.split_at(end);
    if token.is_empty() {
        return Err(Malformed);
    }
    Ok((token, skip_space(rest)))
}

const fn skip_space(text: &[u8]) -> &[u8] {
    let mut text = text;
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options() -> DeflateOptions {
        DeflateOptions {
            server_max_window_bits: 15,
            client_max_window_bits: 15,
            server_context_takeover: true,
            client_context_takeover: true,
            ..DeflateOptions::default()
        }
    }

    fn answer(offers: &str, options: &DeflateOptions) -> Result<Option<String>, Malformed> {
        accept([offers.as_bytes()].into_iter(), Some(options))
            .map(|accepted| accepted.map(|(_, answer)| answer))
    }

    #[test]
    fn a_server_answers_what_it_was_offered() {
        let small = DeflateOptions::default();
        for (offers, options, expected) in [
            ("permessage-deflate", options(), "permessage-deflate"),
            (
                "permessage-deflate",
                small.clone(),
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12",
            ),
            (
                "permessage-deflate; client_max_window_bits",
                small.clone(),
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=12; client_max_window_bits=12",
            ),
            (
                "permessage-deflate; client_max_window_bits=9",
                options(),
                "permessage-deflate; client_max_window_bits=9",
            ),
            (
                "permessage-deflate; server_max_window_bits=15",
                options(),
                "permessage-deflate; server_max_window_bits=15",
            ),
            (
                "permessage-deflate; server_max_window_bits=8; client_max_window_bits=8",
                options(),
                "permessage-deflate; server_max_window_bits=8; client_max_window_bits=8",
            ),
            (
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
                options(),
                "permessage-deflate; server_no_context_takeover; client_no_context_takeover",
            ),
            (
                "x-webkit-deflate-frame, permessage-deflate ; server_max_window_bits = \"1\\0\" ,",
                options(),
                "permessage-deflate; server_max_window_bits=10",
            ),
            // RFC 7692 §5: the first acceptable one of several.
            (
                "permessage-deflate; server_max_window_bits=16, permessage-deflate; server_max_window_bits=11, permessage-deflate",
                options(),
                "permessage-deflate; server_max_window_bits=11",
            ),
        ] {
            assert_eq!(
                answer(offers, &options),
                Ok(Some(expected.into())),
                "{offers}"
            );
        }
    }

    #[test]
    fn a_server_declines_what_it_may_not_accept() {
        for params in [
            "unknown",
            "unknown=1",
            "server_no_context_takeover=1",
            "client_no_context_takeover=\"1\"",
            "server_no_context_takeover; server_no_context_takeover",
            "client_no_context_takeover; client_no_context_takeover",
            "server_max_window_bits",
            "server_max_window_bits=7",
            "server_max_window_bits=16",
            "server_max_window_bits=08",
            "server_max_window_bits=1",
            "server_max_window_bits=100",
            "server_max_window_bits=ten",
            "server_max_window_bits=10; server_max_window_bits=10",
            "client_max_window_bits=7",
            "client_max_window_bits=16",
            "client_max_window_bits=09",
            "client_max_window_bits; client_max_window_bits=10",
            "Server_max_window_bits=10",
        ] {
            let offer = format!("permessage-deflate; {params}");
            assert_eq!(answer(&offer, &options()), Ok(None), "{offer}");
        }
        assert_eq!(answer("Permessage-Deflate", &options()), Ok(None));
        assert_eq!(
            accept([&b"permessage-deflate"[..]].into_iter(), None),
            Ok(None)
        );
    }

    #[test]
    fn what_is_not_a_list_of_extensions_is_malformed() {
        for value in [
            "permessage-deflate;",
            "permessage-deflate; ;",
            "; permessage-deflate",
            "permessage-deflate; =10",
            "permessage-deflate; a=",
            "permessage-deflate; a=\"",
            "permessage-deflate; a=\"\"",
            "permessage-deflate; a=\"b c\"",
            "permessage-deflate; a=\"b\\",
            "permessage-deflate; a=b c",
            "permessage-deflate a",
            "permessage deflate",
            "permessage-deflate; a==b",
            "\u{e9}",
        ] {
            assert_eq!(answer(value, &options()), Err(Malformed), "{value}");
        }
        let many = ["a"; MAX_ELEMENTS + 1].join(", ");
        assert_eq!(answer(&many, &options()), Err(Malformed));
        assert_eq!(answer(&many[3..], &options()), Ok(None));
        let many = ["a"; MAX_ELEMENTS + 2].join("; ");
        assert_eq!(answer(&many, &options()), Err(Malformed));
        assert_eq!(answer(&many[3..], &options()), Ok(None));
        assert_eq!(answer(" , ,", &options()), Ok(None));
    }

    #[test]
    fn a_client_offers_its_options_and_a_way_out() {
        assert_eq!(
            offer(&options()),
            "permessage-deflate; client_max_window_bits"
        );
        assert_eq!(
            offer(&DeflateOptions::default()),
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits; server_max_window_bits=12, \
             permessage-deflate; server_no_context_takeover; client_no_context_takeover; client_max_window_bits"
        );
    }

    #[test]
    fn a_client_judges_the_answer() {
        let judge = |answer: &str, options: &DeflateOptions| {
            agree([answer.as_bytes()].into_iter(), Some(&Offered::of(options)))
        };
        let both = Agreed {
            server_max_window_bits: 15,
            client_max_window_bits: 15,
            server_context_takeover: true,
            client_context_takeover: true,
        };
        assert_eq!(judge("permessage-deflate", &options()), Ok(Some(both)));
        assert_eq!(judge("", &options()), Ok(None));
        assert_eq!(
            judge(
                "permessage-deflate; server_max_window_bits=8; client_max_window_bits=9; client_no_context_takeover",
                &options()
            ),
            Ok(Some(Agreed {
                server_max_window_bits: 8,
                client_max_window_bits: 9,
                server_context_takeover: true,
                client_context_takeover: false,
            }))
        );
        let small = DeflateOptions::default();
        // The second offer asks for no window, and its answer may name one all the same.
        for (window, server_max_window_bits) in [
            ("", 15),
            ("; server_max_window_bits=15", 15),
            ("; server_max_window_bits=13", 13),
        ] {
            let answer = format!("permessage-deflate; server_no_context_takeover{window}");
            assert_eq!(
                judge(&answer, &small),
                Ok(Some(Agreed {
                    server_max_window_bits,
                    client_max_window_bits: 15,
                    server_context_takeover: false,
                    client_context_takeover: false,
                }))
            );
        }
        for (answer, options, word) in [
            ("permessage-deflate", &small, "server_no_context_takeover"),
            (
                "permessage-deflate; client_max_window_bits",
                &options(),
                "no value",
            ),
            (
                "permessage-deflate; server_max_window_bits",
                &options(),
                "no value",
            ),
            (
                "permessage-deflate; server_max_window_bits=16",
                &options(),
                "not 8 to 15",
            ),
            (
                "permessage-deflate; other",
                &options(),
                "not one of its parameters",
            ),
            (
                "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
                &options(),
                "repeated",
            ),
            (
                "permessage-deflate, permessage-deflate",
                &options(),
                "more than one",
            ),
            ("other", &options(), "not offered"),
            ("permessage-deflate;", &options(), "malformed"),
        ] {
            let error = judge(answer, options).unwrap_err();
            assert!(error.contains(word), "{answer}: {error}");
        }
        assert!(
            agree([&b"permessage-deflate"[..]].into_iter(), None)
                .unwrap_err()
                .contains("not offered")
        );
    }

    #[test]
    fn every_offer_of_ours_is_accepted_by_us_and_the_answer_agreed_to() {
        for bits in 9..=15 {
            for takeover in 0..4 {
                let client = DeflateOptions {
                    server_max_window_bits: bits,
                    client_max_window_bits: 24 - bits,
                    server_context_takeover: takeover & 1 != 0,
                    client_context_takeover: takeover & 2 != 0,
                    ..DeflateOptions::default()
                };
                for server in [DeflateOptions::default(), options()] {
                    let offer = offer(&client);
                    let (there, answer) = accept([offer.as_bytes()].into_iter(), Some(&server))
                        .unwrap()
                        .unwrap();
                    let here = agree([answer.as_bytes()].into_iter(), Some(&Offered::of(&client)));
                    assert_eq!(here, Ok(Some(there)), "{offer}: {answer}");
                }
            }
        }
    }

    #[test]
    fn an_offer_of_the_application_is_what_the_answer_is_judged_by() {
        let judge = |offer: &str, answer: &str| {
            let offered = Offered::read(offer).unwrap();
            agree([answer.as_bytes()].into_iter(), Some(&offered))
        };
        let limited = judge(
            "permessage-deflate; client_max_window_bits=10; client_no_context_takeover",
            "permessage-deflate; server_max_window_bits=8",
        );
        assert_eq!(
            limited,
            Ok(Some(Agreed {
                server_max_window_bits: 8,
                client_max_window_bits: 10,
                server_context_takeover: true,
                client_context_takeover: false,
            }))
        );
        for (offer, answer, word) in [
            (
                "permessage-deflate",
                "permessage-deflate; client_max_window_bits=15",
                "was not offered",
            ),
            (
                "permessage-deflate; server_max_window_bits=9",
                "permessage-deflate; server_max_window_bits=10",
                "more than the 9",
            ),
            (
                "permessage-deflate; server_no_context_takeover",
                "permessage-deflate",
                "server_no_context_takeover",
            ),
        ] {
            let error = judge(offer, answer).unwrap_err();
            assert!(error.contains(word), "{offer}: {error}");
        }
    }

    #[test]
    fn an_answer_of_the_application_means_what_it_says() {
        assert_eq!(
            read_answer("permessage-deflate; client_no_context_takeover; server_max_window_bits=8")
                .unwrap(),
            Agreed {
                server_max_window_bits: 8,
                client_max_window_bits: 15,
                server_context_takeover: true,
                client_context_takeover: false,
            }
        );
        for (value, word) in [
            ("", "once"),
            ("other", "once"),
            ("permessage-deflate, permessage-deflate", "once"),
            ("permessage-deflate;", "malformed"),
            (
                "permessage-deflate; server_max_window_bits=16",
                "not 8 to 15",
            ),
            ("permessage-deflate\r\nX: y", "malformed"),
        ] {
            for error in [
                read_answer(value).unwrap_err(),
                Offered::read(value).unwrap_err(),
            ] {
                assert!(error.detail().contains(word), "{value:?}: {error}");
            }
        }
        let unvalued = read_answer("permessage-deflate; client_max_window_bits").unwrap_err();
        assert!(unvalued.detail().contains("no value"));
    }
}
