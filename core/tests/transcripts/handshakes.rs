//! Replays opening handshakes: a request or response, changed in one way or another, and its
//! verdict.
//!
//! Does not know: frames.

use wsabi::protocol::handshake::client::{ClientHandshake, RequestOptions, request, unreadable};
use wsabi::protocol::handshake::server::{Accept, Asked, Refusal, SubprotocolChoice, examine};
use wsabi::protocol::head::{HeadReader, Request, ResponseHead};
use wsabi::protocol::mask::Random;
use wsabi::{Config, OriginPolicy, ServerPolicy};

use crate::notation::{
    SAMPLE_REQUEST, SAMPLE_RESPONSE, Section, all_octets, block, cell_lines, changed, head, list,
    tokens,
};
use crate::{kind_of, replays};

/// The nonce of RFC 6455 §1.3.
struct SampleNonce;

impl Random for SampleNonce {
    fn fill(&mut self, buffer: &mut [u8]) {
        buffer.copy_from_slice(b"the sample nonce");
    }
}

/// What follows a head and does not belong to it.
const BEHIND: &[u8] = b"\x81\x85\r\n\r\n";

/// Runs the rows of a section; `run` takes an input and its cuts, and writes down the outcome.
fn rows(
    section: &Section,
    base: &[String],
    expected: impl Fn(&str) -> String,
    run: impl Fn(&[u8], &[usize]) -> String,
) -> (usize, Vec<String>) {
    let mut problems = Vec::new();
    for (place, row) in &section.rows {
        let input = changed(base, &row[0]);
        let expected = expected(&row[1]);
        for cuts in replays(input.len()) {
            let outcome = run(&input, &cuts);
            if outcome != expected {
                let cuts = &cuts[..cuts.len().min(3)];
                problems.push(format!(
                    "{place}: {}\n  cut at {cuts:?}\n{outcome}\n  expected\n{expected}",
                    row[0]
                ));
                break;
            }
        }
    }
    (section.rows.len(), problems)
}

/// Reads a head that comes in pieces, followed by what is not part of it.
fn read_head(
    input: &[u8],
    cuts: &[usize],
    limit: usize,
) -> Result<Option<Vec<u8>>, wsabi::protocol::head::HeadError> {
    let mut reader = HeadReader::default();
    let mut start = 0;
    for end in cuts.iter().copied().chain([input.len()]) {
        let is_last = end == input.len();
        let mut piece = input[start..end].to_vec();
        if is_last && input.ends_with(b"\r\n\r\n") {
            piece.extend_from_slice(BEHIND);
        }
        match reader.feed(&piece, limit)? {
            (taken, true) => {
                assert_eq!(start + taken, input.len(), "the head ends elsewhere");
                assert_eq!(reader.bytes(), input, "the head is not what came");
                return Ok(Some(reader.into_bytes()));
            }
            (taken, false) => assert_eq!(taken, piece.len(), "an unfinished head takes everything"),
        }
        start = end;
    }
    Ok(None)
}

pub(crate) fn server(section: &Section) -> (usize, Vec<String>) {
    let base = block(section, "request").unwrap_or_else(|| list(SAMPLE_REQUEST));
    let mut config = Config::default();
    let (mut policy, mut choice) = (ServerPolicy::default(), SubprotocolChoice::Preferred);
    for (name, value) in &section.settings {
        match name.as_str() {
            "subprotocols" => policy.subprotocols = list(value),
            "origins" if value == "any" => policy.origins = OriginPolicy::Any,
            "origins" => policy.origins = OriginPolicy::List(list(value)),
            "choose" if value == "none" => choice = SubprotocolChoice::None,
            "choose" => choice = SubprotocolChoice::Name(value.clone()),
            "max_handshake_bytes" => config.max_handshake_bytes = value.parse().unwrap(),
            "max_handshake_headers" => config.max_handshake_headers = value.parse().unwrap(),
            other => panic!("{}: unknown setting {other:?}", section.place),
        }
    }
    policy.validate().unwrap();
    let accept = Accept {
        subprotocol: choice,
        headers: Vec::new(),
    };
    rows(section, &base, server_outcome, |input, cuts| {
        let refused = |refusal: Refusal| {
            let mut out = Vec::new();
            refusal.response.encode(false, &mut out);
            format!(
                "{:?}\n{}",
                refusal.error.kind(),
                String::from_utf8(out).unwrap()
            )
        };
        let head = match read_head(input, cuts, config.max_handshake_bytes as usize) {
            Ok(Some(head)) => head,
            Ok(None) => return "no end".into(),
            Err(error) => return refused(Refusal::unreadable(&error)),
        };
        let request = match Request::parse(&head, config.max_handshake_headers as usize) {
            Ok(request) => request,
            Err(error) => return refused(Refusal::unreadable(&error)),
        };
        match examine(&request, &policy, config.deflate.as_ref()) {
            Ok(Asked::Http) => "http".into(),
            Ok(Asked::Upgrade(upgrade)) => {
                let mut out = Vec::new();
                match upgrade.accept(&accept, &mut out) {
                    Ok(_) => String::from_utf8(out).unwrap(),
                    Err(error) => format!("{error}"),
                }
            }
            Err(refusal) => refused(refusal),
        }
    })
}

/// What an outcome in a table stands for: the whole response.
fn server_outcome(outcome: &str) -> String {
    let mut parts = cell_lines(outcome).into_iter();
    let words = tokens(&parts.next().unwrap());
    let fields: String = parts.map(|field| format!("{}\r\n", field.trim())).collect();
    match words[0].as_str() {
        "http" | "no" => outcome.to_owned(),
        "101" => {
            let subprotocol = words
                .get(1)
                .map(|name| format!("Sec-WebSocket-Protocol: {name}\r\n"));
            format!(
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                 Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{}\r\n",
                subprotocol.unwrap_or_default()
            )
        }
        "error" => String::from_utf8(all_octets(&words[1..])).unwrap(),
        status => {
            let phrase = match status {
                "400" => "Bad Request",
                "403" => "Forbidden",
                "405" => "Method Not Allowed",
                "413" => "Content Too Large",
                "426" => "Upgrade Required",
                "431" => "Request Header Fields Too Large",
                other => panic!("unknown status {other:?}"),
            };
            let text = String::from_utf8(all_octets(&words[2..])).unwrap();
            let connection = if fields.contains("Upgrade:") {
                "close, Upgrade"
            } else {
                "close"
            };
            format!(
                "{:?}\nHTTP/1.1 {status} {phrase}\r\nContent-Type: text/plain; charset=utf-8\r\n{fields}\
                 Connection: {connection}\r\nContent-Length: {}\r\n\r\n{text}\n",
                kind_of(&words[1]),
                text.len() + 1
            )
        }
    }
}

pub(crate) fn client(section: &Section) -> (usize, Vec<String>) {
    let base = block(section, "response").unwrap_or_else(|| list(SAMPLE_RESPONSE));
    let mut config = Config::default();
    let mut options = RequestOptions::default();
    let (mut host, mut resource) = ("server.example.com".to_owned(), "/chat".to_owned());
    for (name, value) in &section.settings {
        match name.as_str() {
            "subprotocols" => options.subprotocols = list(value),
            "origin" => options.origin = Some(value.clone()),
            "host" => host.clone_from(value),
            "resource" => resource.clone_from(value),
            "header" => {
                let (name, value) = value.split_once(": ").unwrap();
                options.headers.push((name.to_owned(), value.to_owned()));
            }
            "max_handshake_bytes" => config.max_handshake_bytes = value.parse().unwrap(),
            "max_handshake_headers" => config.max_handshake_headers = value.parse().unwrap(),
            other => panic!("{}: unknown setting {other:?}", section.place),
        }
    }
    options.validate().unwrap();
    let mut sent = Vec::new();
    let handshake = request(
        &host,
        &resource,
        &options,
        config.deflate.as_ref(),
        &mut SampleNonce,
        &mut sent,
    );
    let (mut count, mut problems) = rows(section, &base, client_outcome, |input, cuts| {
        client_verdict(&handshake, input, cuts, &config)
    });
    if let Some(lines) = block(section, "request") {
        count += 1;
        let lines: Vec<Vec<u8>> = lines.iter().map(|line| line.clone().into_bytes()).collect();
        if sent != head(&lines) {
            problems.push(format!(
                "{}: the request is\n{}",
                section.place,
                String::from_utf8_lossy(&sent)
            ));
        }
    }
    (count, problems)
}

fn client_verdict(
    handshake: &ClientHandshake,
    input: &[u8],
    cuts: &[usize],
    config: &Config,
) -> String {
    let error_of = |error: wsabi::Error| format!("{:?} {}", error.kind(), error.detail());
    let head = match read_head(input, cuts, config.max_handshake_bytes as usize) {
        Ok(Some(head)) => head,
        Ok(None) => return "no end".into(),
        Err(error) => return error_of(unreadable(&error)),
    };
    let response = match ResponseHead::parse(&head, config.max_handshake_headers as usize) {
        Ok(response) => response,
        Err(error) => return error_of(unreadable(&error)),
    };
    match handshake.check(&response) {
        Ok(settled) => match settled.subprotocol {
            None => "open".into(),
            Some(subprotocol) => format!("open {subprotocol}"),
        },
        Err(error) => error_of(error),
    }
}

fn client_outcome(outcome: &str) -> String {
    let words = tokens(outcome);
    if ["open", "no"].contains(&words[0].as_str()) {
        return words.join(" ");
    }
    let text = String::from_utf8(all_octets(&words[1..])).unwrap();
    format!("{:?} {text}", kind_of(&words[0]))
}
