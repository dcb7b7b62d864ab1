//! Octets where a server expects a request: the verdict is the same however they are cut, agrees
//! with the rules of RFC 6455 §4.2.1 read off the head the slow way, and what is answered is a
//! well-formed response, that a client accepts if the server did.
//!
//! The first three octets of an input are the settings, the rest is what the client sends.
//!
//! Does not know: sockets, or applications.

#![no_main]

#[path = "../common/mod.rs"]
mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use common::Pieces;
use common::extensions::{self, Extensions};
use common::heads::{Head, split};
use libfuzzer_sys::fuzz_target;
use wsabi::protocol::handshake::client::{RequestOptions, request};
use wsabi::protocol::handshake::server::{Asked, Refusal, Upgrade, examine};
use wsabi::protocol::head::{HeadReader, Request, ResponseHead};
use wsabi::protocol::mask::Random;
use wsabi::{Accept, DeflateOptions, OriginPolicy, ServerPolicy, SubprotocolChoice};

const MAX_BYTES: usize = 1500;
const MAX_FIELDS: usize = 20;

/// What a server makes of an input.
#[derive(Debug, PartialEq)]
enum Verdict {
    NoEnd,
    Asked(Asked, usize),
    Refused(Refusal),
}

fn judge(
    input: &[u8],
    pieces: Pieces,
    policy: &ServerPolicy,
    deflate: Option<&DeflateOptions>,
) -> Verdict {
    let (mut reader, mut taken) = (HeadReader::default(), 0);
    for piece in pieces.of(input) {
        match reader.feed(piece, MAX_BYTES) {
            Ok((count, complete)) => {
                assert!(complete || count == piece.len());
                taken += count;
                assert_eq!(reader.bytes(), &input[..taken], "what was taken is kept");
                if !complete {
                    continue;
                }
            }
            Err(error) => return Verdict::Refused(Refusal::unreadable(&error)),
        }
        return match Request::parse(reader.bytes(), MAX_FIELDS) {
            Err(error) => Verdict::Refused(Refusal::unreadable(&error)),
            Ok(request) => match examine(&request, policy, deflate) {
                Ok(asked) => Verdict::Asked(asked, taken),
                Err(refusal) => Verdict::Refused(refusal),
            },
        };
    }
    Verdict::NoEnd
}

/// A random source that gives what a request has as its nonce.
struct Nonce(Vec<u8>);

impl Random for Nonce {
    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.0);
    }
}

/// The rules that a request for a WebSocket keeps, whatever the policy.
fn check_upgrade(head: &Head<'_>, policy: &ServerPolicy) {
    let line = std::str::from_utf8(head.first).expect("a request line is ASCII or UTF-8");
    let words: Vec<&str> = line.split(' ').collect();
    assert_eq!((words.len(), words[0], words[2]), (3, "GET", "HTTP/1.1"));
    assert!(!words[1].contains('#'));
    assert!(head.only("host").is_some());
    assert!(head.lists("upgrade", "websocket") && head.lists("connection", "upgrade"));
    assert_eq!(head.only("sec-websocket-version"), Some(&b"13"[..]));
    assert!(head.all("transfer-encoding").is_empty());
    assert!(
        head.all("content-length")
            .iter()
            .all(|length| *length == b"0")
    );
    assert!(head.fields.len() <= MAX_FIELDS);
    assert!(head.fields.iter().all(|(name, value)| {
        let control = |octet: &u8| *octet < b' ' && *octet != b'\t' || *octet == 0x7f;
        !name.is_empty()
            && !name.iter().any(|o| *o <= b' ' || *o >= 0x7f)
            && !value.iter().any(control)
    }));
    if let OriginPolicy::List(list) = &policy.origins {
        let listed = |origin: &&[u8]| {
            list.iter()
                .any(|l| l.as_bytes().eq_ignore_ascii_case(origin))
        };
        assert!(head.all("origin").iter().all(listed));
    }
}

/// Whether a head is a request that nobody could refuse. It says no where it is unsure.
fn is_perfect(head: &Head<'_>, size: usize, policy: &ServerPolicy) -> bool {
    let token = |text: &[u8]| {
        !text.is_empty() && text.iter().all(|o| o.is_ascii_alphanumeric() || *o == b'-')
    };
    let plain = |text: &[u8]| text.iter().all(|o| (b' '..=b'~').contains(o));
    let words: Vec<&[u8]> = head.first.split(|&octet| octet == b' ').collect();
    let [b"GET", [b'/', path @ ..], b"HTTP/1.1"] = words[..] else {
        return false;
    };
    let mut offered = head.elements("sec-websocket-protocol");
    let count = offered.len();
    let tokens = offered.iter().all(|name| token(name));
    offered.sort_unstable();
    offered.dedup();
    let key = head.only("sec-websocket-key").is_some_and(|key| {
        key.len() == 24 && STANDARD.decode(key).is_ok_and(|nonce| nonce.len() == 16)
    });
    let origin = head.all("origin").is_empty()
        || policy.origins == OriginPolicy::Any && head.only("origin").is_some();
    path.iter().all(u8::is_ascii_alphanumeric)
        && head
            .fields
            .iter()
            .all(|(name, value)| token(name) && plain(value))
        && head.fields.len() <= MAX_FIELDS
        && size <= MAX_BYTES
        && head.only("host").is_some_and(token)
        && head.lists("upgrade", "websocket")
        && head.lists("connection", "upgrade")
        && head.only("sec-websocket-version") == Some(b"13")
        && head.all("sec-websocket-extensions").is_empty()
        && head.all("transfer-encoding").is_empty()
        && head.all("content-length").is_empty()
        && (key && tokens && origin && count <= 64 && offered.len() == count)
}

/// A response that ends its connection is read as what it was made of.
fn check_refusal(refusal: &Refusal) {
    let mut bytes = Vec::new();
    refusal.response.encode(false, &mut bytes);
    let (head, body) = split(&bytes).expect("a response has a head");
    assert_eq!(body, refusal.response.body);
    let read = Head::read(head).expect("a response has lines");
    assert_eq!(read.fields.len(), refusal.response.headers.len() + 2);
    assert_eq!(
        read.only("content-length"),
        Some(body.len().to_string().as_bytes())
    );
    assert!(read.lists("connection", "close"));
    let parsed = ResponseHead::parse(head, 20).expect("a client reads it");
    assert_eq!(parsed.status, refusal.response.status);
    assert!((400..600).contains(&parsed.status));
    assert!(!refusal.error.detail().is_empty());
}

/// What the server answers is what the client waits for.
fn check_accept(
    upgrade: &Upgrade,
    head: &Head<'_>,
    policy: &ServerPolicy,
    deflate: Option<&DeflateOptions>,
) {
    let offered = head.elements("sec-websocket-protocol");
    let mut choices = vec![SubprotocolChoice::Preferred, SubprotocolChoice::None];
    let name = |name: &[u8]| SubprotocolChoice::Name(String::from_utf8_lossy(name).into_owned());
    choices.extend(offered.iter().map(|offer| name(offer)));
    let names = |name: &&[u8]| String::from_utf8_lossy(name).into_owned();
    let options = RequestOptions {
        subprotocols: offered.iter().map(names).collect(),
        ..RequestOptions::default()
    };
    let key = head.only("sec-websocket-key").expect("it was accepted");
    // A client that agrees to every answer that is one.
    let any = extensions::options(2);
    // A key with stray bits behind the 16 octets is one that this client would not send.
    let handshake = STANDARD.decode(key).ok().map(|nonce| {
        request(
            "a",
            "/",
            &options,
            any.as_ref(),
            &mut Nonce(nonce),
            &mut Vec::new(),
        )
    });
    for subprotocol in choices {
        let accept = Accept {
            subprotocol: subprotocol.clone(),
            headers: Vec::new(),
        };
        let mut response = Vec::new();
        let settled = upgrade
            .accept(&accept, &mut response)
            .expect("it was offered");
        let agreed = &settled.subprotocol;
        match Extensions::read(head) {
            Extensions::Quoted => {}
            Extensions::Malformed => panic!("malformed extensions were accepted"),
            Extensions::List(list) => {
                let expected = deflate.and_then(|options| extensions::accepted(&list, options));
                assert_eq!(settled.deflate, expected);
            }
        }
        match &subprotocol {
            SubprotocolChoice::Preferred => {
                let both = |name: &&String| offered.iter().any(|offer| *offer == name.as_bytes());
                assert_eq!(
                    agreed.as_deref(),
                    policy.subprotocols.iter().find(both).map(|s| &**s)
                );
            }
            SubprotocolChoice::None => assert_eq!(*agreed, None),
            SubprotocolChoice::Name(name) => assert_eq!(agreed.as_deref(), Some(name.as_str())),
        }
        let parsed = ResponseHead::parse(&response, 20).expect("a client reads it");
        if let Some(handshake) = &handshake {
            assert_eq!(handshake.check(&parsed), Ok(settled));
        }
    }
    let strange = Accept {
        subprotocol: SubprotocolChoice::Name("never offered".to_owned()),
        headers: Vec::new(),
    };
    let mut nothing = Vec::new();
    assert!(upgrade.accept(&strange, &mut nothing).is_err() && nothing.is_empty());
}

fuzz_target!(|input: &[u8]| {
    let Some(([settings, low, high], input)) = input.split_first_chunk() else {
        return;
    };
    let policy = ServerPolicy {
        subprotocols: match settings & 3 {
            0 => Vec::new(),
            _ => vec!["superchat".to_owned(), "chat".to_owned()],
        },
        origins: match settings >> 2 & 3 {
            0 => OriginPolicy::Any,
            1 => OriginPolicy::List(vec!["http://a.example".to_owned(), "null".to_owned()]),
            _ => OriginPolicy::SameHost,
        },
    };
    let deflate = extensions::options(settings >> 4);
    let judge = |pieces| judge(input, pieces, &policy, deflate.as_ref());
    let whole = judge(Pieces::Whole);
    let cut = Pieces::Cut(u16::from_le_bytes([*low, *high]));
    for pieces in [cut, Pieces::Octets] {
        assert_eq!(judge(pieces), whole);
    }
    let found = split(input);
    match &whole {
        Verdict::NoEnd => assert!(found.is_none() && input.len() <= MAX_BYTES),
        Verdict::Refused(refusal) => check_refusal(refusal),
        Verdict::Asked(asked, taken) => {
            let (head, _) = found.expect("what was understood has an end");
            assert_eq!(head.len(), *taken);
            let head = Head::read(head).expect("what was understood has lines");
            match asked {
                Asked::Upgrade(upgrade) => {
                    check_upgrade(&head, &policy);
                    check_accept(upgrade, &head, &policy, deflate.as_ref());
                }
                Asked::Http => {
                    assert!(!head.lists("upgrade", "websocket"));
                    assert!(head.all("sec-websocket-key").is_empty());
                    assert!(head.all("transfer-encoding").is_empty());
                }
            }
        }
    }
    if let Some((head, _)) = found
        && let Some(read) = Head::read(head)
        && is_perfect(&read, head.len(), &policy)
    {
        assert!(
            matches!(whole, Verdict::Asked(Asked::Upgrade(_), _)),
            "a perfect request was not accepted: {whole:?}"
        );
    }
});
