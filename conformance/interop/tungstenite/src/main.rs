//! `tungstenite` as the foreign peer of wsabi's echo examples, without compression, which it has
//! not: `tungstenite drive CASES URL` tests a server, `tungstenite judge CASES` tests a client.
//!
//! The twin of `peer.py`: same cases, same output.
//!
//! Does not know: which example it talks to.

mod link;

use std::net::{TcpListener, TcpStream};
use std::time::Duration;
use std::{env, fs, process};

use link::{Link, Received};
use serde_json::{Value, json};
use tungstenite::client::{IntoClientRequest, client_with_config};
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::StatusCode;
use tungstenite::http::header::{HeaderValue, ORIGIN};
use tungstenite::{Error, HandshakeError, accept_hdr_with_config};

const PATHS: [&str; 3] = ["/getCaseCount", "/runCase", "/updateReports"];

/// What went wrong, in a sentence.
type Outcome<T = ()> = Result<T, String>;

fn say(fields: &Value) {
    println!("{fields}");
}

fn number(value: &Value, key: &str) -> Option<usize> {
    value[key].as_u64().and_then(|n| usize::try_from(n).ok())
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

// --- what is sent -----------------------------------------------------------------------

fn payload(is_text: bool, size: usize, index: usize) -> Vec<u8> {
    let mut data = format!("{index}|").into_bytes();
    data.truncate(size);
    let head = data.len();
    if is_text {
        data.extend("wsabi größer ∮ 漢字 😀 ".bytes().cycle().take(size - head));
        // Whole characters only.
        if let Err(cut) = std::str::from_utf8(&data) {
            let whole = cut.valid_up_to();
            data[whole..].fill(b'.');
        }
    } else {
        let pattern = (0..251_usize).map(|i| ((i * 7 + 3) % 256) as u8);
        data.extend(pattern.cycle().take(size - head));
    }
    data
}

/// Each message of the case with its payload.
fn expand(messages: &Value) -> impl Iterator<Item = (&Value, Vec<u8>)> {
    messages
        .as_array()
        .into_iter()
        .flatten()
        .flat_map(|message| {
            (0..number(message, "count").unwrap_or(1)).map(move |index| {
                let size = number(message, "size").unwrap_or(0);
                (
                    message,
                    payload(text(message, "type") == "text", size, index),
                )
            })
        })
}

fn send(link: &mut Link, message: &Value, data: &[u8], pings: &mut Vec<Vec<u8>>) -> Outcome {
    let is_text = text(message, "type") == "text";
    let count = number(message, "fragments").unwrap_or(1);
    for i in 0..count {
        if let Some(size) = number(message, "ping_between").filter(|_| i == 1) {
            pings.push(payload(false, size, 0));
            link.ping(pings[pings.len() - 1].clone())?;
        }
        let piece = &data[data.len() * i / count..data.len() * (i + 1) / count];
        link.frame(piece, is_text, i == 0, i + 1 == count)?;
    }
    Ok(())
}

// --- one connection ---------------------------------------------------------------------

fn compare(message: &Value, want: &[u8], got: &Received) -> Outcome {
    let (kind, got) = match got {
        Received::Text(data) => ("text", data),
        Received::Binary(data) => ("binary", data),
        other => return Err(format!("{other} came instead of an echo")),
    };
    if kind != text(message, "type") {
        return Err(format!("the echo is {kind}, not {}", text(message, "type")));
    }
    if got.len() != want.len() {
        return Err(format!(
            "the echo has {} bytes, not {}",
            got.len(),
            want.len()
        ));
    }
    match want.iter().zip(got).position(|(a, b)| a != b) {
        Some(at) => Err(format!("the echo differs at byte {at}")),
        None => Ok(()),
    }
}

fn echoes(link: &mut Link, messages: &Value) -> Outcome {
    let mut pings = Vec::new();
    for (message, data) in expand(messages) {
        send(link, message, &data, &mut pings)?;
    }
    for (message, data) in expand(messages) {
        let got = loop {
            match link.next()? {
                Received::Pong(data) if pings.first() == Some(&data) => drop(pings.remove(0)),
                got => break got,
            }
        };
        compare(message, &data, &got)?;
    }
    for ping in pings {
        match link.next()? {
            Received::Pong(data) if data == ping => {}
            other => return Err(format!("{other} came instead of the pong to our ping")),
        }
    }
    Ok(())
}

/// RFC 6455 §5.5.3: a pong may answer only the latest of several pings.
fn ping_all(link: &mut Link, sizes: &[Value]) -> Outcome {
    let mut sent = Vec::new();
    for size in sizes.iter().filter_map(Value::as_u64) {
        sent.push(payload(false, size as usize, 0));
        link.ping(sent[sent.len() - 1].clone())?;
    }
    while !sent.is_empty() {
        let got = link.next()?;
        let answered = match &got {
            Received::Pong(data) => sent.iter().position(|ping| ping == data),
            _ => None,
        };
        let Some(index) = answered else {
            return Err(format!("{got} came instead of a pong to one of our pings"));
        };
        sent.drain(..=index);
    }
    Ok(())
}

fn run_case(link: &mut Link, case: &Value) -> Outcome {
    if let Some(size) = number(case, "pong") {
        link.pong(payload(false, size, 0))?;
    }
    if let Some(sizes) = case["pings"].as_array() {
        ping_all(link, sizes)?;
    }
    echoes(link, &case["messages"])?;
    if case["stop"] == true {
        say(&json!({"stop": true}));
    }
    match number(case, "expect_close") {
        Some(code) => expect_close(link, case, code),
        None if case["close"].is_null() => close(link, &json!({"code": 1000})),
        None => close(link, &case["close"]),
    }
}

fn expect_close(link: &mut Link, case: &Value, code: usize) -> Outcome {
    if case["invalid_utf8"] == true {
        link.frame(b"not UTF-8: \xc3\x28", true, true, true)?;
    }
    for (message, data) in expand(&json!([case["oversize"]])) {
        if !message.is_null() {
            send(link, message, &data, &mut Vec::new())?;
        }
    }
    match link.next()? {
        Received::Close(got, _) if usize::from(got) == code => Ok(()),
        other => Err(format!("{other} came instead of Close {code}")),
    }
}

fn close(link: &mut Link, wanted: &Value) -> Outcome {
    let code = number(wanted, "code").map(|code| code as u16);
    let reason = text(wanted, "reason");
    link.close(code, reason)?;
    match link.next()? {
        Received::Close(got, _) if got != code.unwrap_or(link::NO_CODE) => {
            Err(format!("the reply to Close {code:?} has the code {got}"))
        }
        Received::Close(_, why) if !why.is_empty() && why != reason => Err(format!(
            "the reply to Close has the reason {why:?}, ours was {reason:?}"
        )),
        Received::Close(..) => Ok(()),
        other => Err(format!("{other} came in reply to our Close")),
    }
}

fn verdict(case: &Value, outcome: Outcome) {
    say(&json!({"case": case["name"], "why": outcome.err()}));
}

// --- a client that tests a server -------------------------------------------------------

/// The connection, or the status of a refusal.
fn connect(url: &str, origin: Option<&str>) -> Outcome<Result<Link, u16>> {
    let sentence = |e: &dyn std::fmt::Display| e.to_string();
    let mut request = url.into_client_request().map_err(|e| sentence(&e))?;
    let host = request
        .uri()
        .authority()
        .ok_or("the URL names no host")?
        .to_string();
    if let Some(origin) = origin {
        let value = HeaderValue::from_str(&origin.replace("{host}", &host));
        request
            .headers_mut()
            .insert(ORIGIN, value.map_err(|e| sentence(&e))?);
    }
    let stream = TcpStream::connect(&host).map_err(|e| sentence(&e))?;
    stream
        .set_read_timeout(Some(link::DEADLINE))
        .map_err(|e| sentence(&e))?;
    match client_with_config(request, stream, Some(link::config())) {
        Ok((ws, _)) => Link::new(ws).map(Ok),
        Err(HandshakeError::Failure(Error::Http(response))) => Ok(Err(response.status().as_u16())),
        Err(e) => Err(e.to_string()),
    }
}

fn drive_case(url: &str, case: &Value) -> Outcome {
    let expected = number(case, "expect_status");
    let mut link = match (connect(url, case["origin"].as_str())?, expected) {
        (Err(status), Some(expected)) if usize::from(status) == expected => return Ok(()),
        (Err(status), _) => return Err(format!("refused with {status}")),
        (Ok(_), Some(expected)) => {
            return Err(format!(
                "the handshake was accepted, not refused with {expected}"
            ));
        }
        (Ok(link), None) => link,
    };
    if case["cut"] != true {
        return run_case(&mut link, case);
    }
    link.frame(b"cut off after this", true, true, true)?;
    link.cut_off();
    match connect(url, None)? {
        Ok(mut again) => run_case(
            &mut again,
            &json!({"messages": [{"type": "text", "size": 10}]}),
        ),
        Err(status) => Err(format!("refused with {status}")),
    }
}

// --- a server that tests a client -------------------------------------------------------

/// The paths of Autobahn's fuzzing server, over our own table of cases.
struct Judge {
    cases: Vec<Value>,
    /// A case that passes when the client comes back.
    pending: Option<Value>,
}

impl Judge {
    /// The case that a request asks for, if it asks for one that there is.
    fn case_of(&self, request: &Request) -> Option<Value> {
        let query = request.uri().query()?;
        let value = |key: &str| {
            let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
            pairs
                .find(|(name, value)| *name == key && !value.is_empty())
                .map(|(_, value)| value)
        };
        value("agent")?;
        let number: usize = value("case")?.parse().ok()?;
        self.cases.get(number.checked_sub(1)?).cloned()
    }

    /// The status that a request is to be refused with.
    fn refuse(&mut self, request: &Request) -> Option<StatusCode> {
        if let Some(case) = self.pending.take() {
            verdict(&case, Ok(()));
        }
        let path = request.uri().path();
        let case = self.case_of(request).filter(|_| path == "/runCase");
        if !PATHS.contains(&path) || (path == "/runCase" && case.is_none()) {
            say(&json!({"note": format!("the client asked for {}", request.uri())}));
            return Some(StatusCode::NOT_FOUND);
        }
        let case = case?;
        let status = StatusCode::from_u16(case["refuse"].as_u64()? as u16).ok()?;
        self.pending = Some(case);
        Some(status)
    }

    fn serve(&mut self, stream: TcpStream) -> Outcome {
        let sentence = |e: &dyn std::fmt::Display| e.to_string();
        stream
            .set_read_timeout(Some(Duration::from_secs(10)))
            .map_err(|e| sentence(&e))?;
        let mut asked = None;
        // The callback's types are the library's.
        #[allow(clippy::result_large_err)]
        let admit = |request: &Request, response: Response| match self.refuse(request) {
            Some(status) => {
                let mut refusal = ErrorResponse::new(Some("refused by the test\n".into()));
                *refusal.status_mut() = status;
                Err(refusal)
            }
            None => {
                asked = Some((request.uri().path().to_owned(), self.case_of(request)));
                Ok(response)
            }
        };
        let ws = match accept_hdr_with_config(stream, admit, Some(link::config())) {
            Ok(ws) => ws,
            Err(HandshakeError::Failure(Error::Http(_))) => return Ok(()), // refused
            Err(e) => return Err(e.to_string()),
        };
        let mut link = Link::new(ws)?;
        match asked {
            Some((path, Some(case))) if path == "/runCase" => {
                if case["cut"] == true {
                    self.pending = Some(case);
                    link.cut_off();
                } else {
                    let outcome = run_case(&mut link, &case);
                    verdict(&case, outcome);
                }
            }
            Some((path, _)) if path == "/getCaseCount" => {
                link.frame(self.cases.len().to_string().as_bytes(), true, true, true)?;
                close(&mut link, &json!({"code": 1000}))?;
            }
            _ => {
                close(&mut link, &json!({"code": 1000}))?;
                say(&json!({"done": true}));
            }
        }
        Ok(())
    }
}

fn judge(cases: Vec<Value>) -> Outcome {
    let sentence = |e: std::io::Error| e.to_string();
    let listener = TcpListener::bind("127.0.0.1:0").map_err(sentence)?;
    say(&json!({"url": format!("ws://{}", listener.local_addr().map_err(sentence)?)}));
    let mut judge = Judge {
        cases,
        pending: None,
    };
    loop {
        let (stream, _) = listener.accept().map_err(sentence)?;
        if let Err(e) = judge.serve(stream) {
            say(&json!({"note": e}));
        }
    }
}

fn run() -> Outcome {
    let args: Vec<String> = env::args().skip(1).collect();
    let table = |path: &str| -> Outcome<Vec<Value>> {
        let text = fs::read_to_string(path).map_err(|e| format!("{path}: {e}"))?;
        serde_json::from_str(&text).map_err(|e| format!("{path}: {e}"))
    };
    match args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["drive", cases, url] => {
            for case in table(cases)? {
                verdict(&case, drive_case(url, &case));
            }
            Ok(())
        }
        ["judge", cases] => judge(table(cases)?),
        _ => Err("usage: drive CASES URL | judge CASES".into()),
    }
}

fn main() {
    if let Err(e) = run() {
        eprintln!("{e}");
        process::exit(1);
    }
}
