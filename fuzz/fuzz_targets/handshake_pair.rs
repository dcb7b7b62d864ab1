//! What applications on both sides ask for, as arbitrary strings: either it is refused before
//! anything is written, or both sides agree and read exactly what was meant. No string can add a
//! line to a head.
//!
//! Does not know: octets that no endpoint of ours would send.

#![no_main]

#[path = "../common/mod.rs"]
mod common;

use arbitrary::Arbitrary;
use common::Counter;
use common::heads::Head;
use libfuzzer_sys::fuzz_target;
use wsabi::protocol::handshake::client::{RequestOptions, request};
use wsabi::protocol::handshake::server::{Asked, examine};
use wsabi::protocol::head::{Request, ResponseHead};
use wsabi::{
    Accept, Config, DeflateOptions, ErrorKind, OriginPolicy, Response, ServerPolicy,
    SubprotocolChoice,
};

#[derive(Arbitrary, Debug)]
struct Wishes {
    offered: Vec<String>,
    origin: Option<String>,
    request_headers: Vec<(String, String)>,
    spoken: Vec<String>,
    choice: Choice,
    response_headers: Vec<(String, String)>,
    deflate_offer: Option<String>,
    client_deflate: Option<Deflate>,
    server_deflate: Option<Deflate>,
    refusal: Option<(u16, Vec<u8>)>,
    to_head: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
struct Deflate {
    server_bits: u8,
    client_bits: u8,
    server_takeover: bool,
    client_takeover: bool,
    level: u8,
    max_ratio: Option<u32>,
}

impl Deflate {
    fn options(self) -> DeflateOptions {
        DeflateOptions {
            // A few too many and too few.
            server_max_window_bits: 8 + self.server_bits % 9,
            client_max_window_bits: 8 + self.client_bits % 9,
            server_context_takeover: self.server_takeover,
            client_context_takeover: self.client_takeover,
            level: self.level % 11,
            max_ratio: self.max_ratio,
            ..DeflateOptions::default()
        }
    }
}

/// Both options as the configuration lets them pass.
fn checked(wish: Option<Deflate>) -> Result<Option<DeflateOptions>, wsabi::Error> {
    let deflate = wish.map(Deflate::options);
    let config = Config {
        deflate: deflate.clone(),
        ..Config::default()
    };
    config.validate()?;
    let windows = |d: &DeflateOptions| [d.server_max_window_bits, d.client_max_window_bits];
    let valid = |d: &DeflateOptions| {
        windows(d).iter().all(|bits| (9..=15).contains(bits)) && d.level != 0 && d.level != 10
    };
    assert!(deflate.as_ref().is_none_or(valid));
    Ok(deflate)
}

#[derive(Arbitrary, Debug)]
enum Choice {
    Preferred,
    None,
    Name(String),
    Offered(usize),
}

/// Whether every field is there, with its value.
fn has_all(head: &Head<'_>, headers: &[(String, String)]) -> bool {
    headers.iter().all(|(name, value)| {
        head.fields
            .iter()
            .any(|(n, v)| *n == name.as_bytes() && *v == value.as_bytes())
    })
}

/// A refusal by the application is refused itself, or means what it says.
fn respond(wishes: Wishes, (status, body): (u16, Vec<u8>)) {
    let response = Response {
        status,
        headers: wishes.response_headers,
        body,
    };
    if let Err(error) = response.validate() {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        return;
    }
    let mut bytes = Vec::new();
    response.encode(wishes.to_head, &mut bytes);
    let (head, body) = common::heads::split(&bytes).expect("a response has a head");
    let bodyless = wishes.to_head || matches!(status, 204 | 304);
    assert_eq!(
        body,
        if bodyless {
            &[][..]
        } else {
            &response.body[..]
        }
    );
    let head = Head::read(head).expect("a response has lines");
    let own = if status == 204 { 1 } else { 2 };
    assert_eq!(head.fields.len(), response.headers.len() + own);
    assert!(has_all(&head, &response.headers));
}

fuzz_target!(|wishes: Wishes| {
    if let Some(refusal) = wishes.refusal.clone() {
        return respond(wishes, refusal);
    }
    let options = RequestOptions {
        subprotocols: wishes.offered,
        origin: wishes.origin,
        headers: wishes.request_headers,
        deflate_offer: wishes.deflate_offer,
    };
    let policy = ServerPolicy {
        subprotocols: wishes.spoken,
        origins: OriginPolicy::Any,
    };
    if let Err(error) = options.validate().and_then(|()| policy.validate()) {
        assert_eq!(error.kind(), ErrorKind::Invalid);
        return;
    }
    let (client, server) = match (
        checked(wishes.client_deflate),
        checked(wishes.server_deflate),
    ) {
        (Ok(client), Ok(server)) => (client, server),
        (Err(error), _) | (_, Err(error)) => {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            return;
        }
    };
    let mut bytes = Vec::new();
    let handshake = request(
        "a.example:81",
        "/chat?a=b",
        &options,
        client.as_ref(),
        &mut Counter::default(),
        &mut bytes,
    );
    let head = Head::read(&bytes).expect("a request has lines");
    assert_eq!(head.first, b"GET /chat?a=b HTTP/1.1");
    let own = 5
        + usize::from(options.origin.is_some())
        + usize::from(!options.subprotocols.is_empty())
        + usize::from(client.is_some());
    assert_eq!(head.fields.len(), own + options.headers.len());
    assert!(has_all(&head, &options.headers));
    assert_eq!(
        head.only("origin"),
        options.origin.as_deref().map(str::as_bytes)
    );
    let parsed = Request::parse(&bytes, head.fields.len()).expect("a server reads it");
    assert!(
        parsed
            .subprotocols()
            .eq(options.subprotocols.iter().map(String::as_str))
    );
    let upgrade = match examine(&parsed, &policy, server.as_ref()) {
        Ok(Asked::Upgrade(upgrade)) => upgrade,
        Err(_) if options.subprotocols.len() > 64 => return,
        other => panic!("a request of ours is not accepted: {other:?}"),
    };
    let choice = match wishes.choice {
        Choice::Preferred => SubprotocolChoice::Preferred,
        Choice::None => SubprotocolChoice::None,
        Choice::Name(name) => SubprotocolChoice::Name(name),
        Choice::Offered(index) => match options.subprotocols.get(index) {
            Some(name) => SubprotocolChoice::Name(name.clone()),
            None => SubprotocolChoice::Preferred,
        },
    };
    let accept = Accept {
        subprotocol: choice,
        headers: wishes.response_headers,
    };
    let mut answer = Vec::new();
    let agreed = match upgrade.accept(&accept, &mut answer) {
        Ok(agreed) => agreed,
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::Invalid);
            assert!(answer.is_empty(), "what is refused writes nothing");
            return;
        }
    };
    let head = Head::read(&answer).expect("a response has lines");
    assert_eq!(
        head.fields.len(),
        3 + usize::from(agreed.subprotocol.is_some())
            + usize::from(agreed.deflate.is_some())
            + accept.headers.len()
    );
    assert!(has_all(&head, &accept.headers));
    assert_eq!(
        agreed.deflate.is_some(),
        client.is_some() && server.is_some()
    );
    let parsed = ResponseHead::parse(&answer, head.fields.len()).expect("a client reads it");
    assert_eq!(handshake.check(&parsed), Ok(agreed));
});
