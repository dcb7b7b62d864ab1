//! Rust's part in the matrix: reads orders from stdin and writes events to stdout, one a line, as
//! the matrix' README.md lists them. The loop watches stdin itself.
//!
//! Does not know: the cases.

use std::error::Error;
use std::io::{BufRead as _, stdin};
use std::time::Duration;

use wsabi::{
    Answer, ClientOptions, Closed, Config, Conn, ConnId, ErrorKind, Handler, Handshake, Loop,
    Message, MessageType, Request, Response, Sent, ServerOptions,
};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const MOST_FILLED: u32 = 4096;
const STDIN: i32 = 0;

fn tell(event: &str, data: &[u8]) {
    println!("{event} {} {:08x}", data.len(), crc32fast::hash(data));
}

/// What connections tell, and what they need for it.
#[derive(Default)]
struct Teller {
    /// What orders are for: the latest.
    current: Option<ConnId>,
    opened: bool,
    /// What servers refuse requests with; a connection's tag is the place of its server's.
    refusals: Vec<Option<Response>>,
}

impl Handler for Teller {
    fn on_upgrade(&mut self, conn: &mut Conn<'_>, _: &Request<'_>) -> Answer {
        match &self.refusals[conn.tag() as usize] {
            Some(response) => Answer::Refuse(response.clone()),
            None => Answer::accept(),
        }
    }

    fn on_open(&mut self, conn: &mut Conn<'_>, handshake: Handshake<'_>) {
        self.current = Some(conn.id());
        self.opened = true;
        let target = handshake.request().map_or("-", |request| request.target);
        println!("open {} {target}", conn.subprotocol().unwrap_or("-"));
    }

    fn on_message(&mut self, _: &mut Conn<'_>, message: Message<'_>) {
        let event = match message {
            Message::Text(_) => "message text",
            Message::Binary(_) => "message binary",
        };
        tell(event, message.as_bytes());
    }

    fn on_drain(&mut self, _: &mut Conn<'_>) {
        println!("drain");
    }

    fn on_ping(&mut self, _: &mut Conn<'_>, payload: &[u8]) {
        tell("ping", payload);
    }

    fn on_pong(&mut self, _: &mut Conn<'_>, payload: &[u8]) {
        tell("pong", payload);
    }

    fn on_close(&mut self, _: &mut Conn<'_>, closed: &Closed) {
        let kind = closed.error.as_ref().map(|error| error.kind());
        let symbol = kind.map_or("OK", |kind| kind.symbol().trim_start_matches("WSABI_E_"));
        if self.opened {
            let clean = if closed.is_clean() {
                "clean"
            } else {
                "unclean"
            };
            println!(
                "close {} {clean} {symbol} {}",
                closed.code.as_u16(),
                closed.reason
            );
        } else if kind == Some(ErrorKind::Refused) {
            println!("refused {} - -", closed.http_status);
        } else {
            println!("failed {symbol}");
        }
    }
}

/// What the `KEY=VALUE` words of an order say.
#[derive(Default)]
struct Settings {
    config: Config,
    subprotocols: Vec<String>,
    refusal: Option<Response>,
}

impl Settings {
    fn read<'a>(words: impl Iterator<Item = &'a str>) -> Result<Self> {
        let mut to = Self::default();
        for word in words {
            let (key, value) = word.split_once('=').ok_or(word)?;
            let time = || value.parse().map(Duration::from_millis);
            match key {
                "ping_interval" => to.config.ping_interval = Some(time()?),
                "ping_timeout" => to.config.ping_timeout = time()?,
                "close_timeout" => to.config.close_timeout = time()?,
                "max_message" => to.config.max_message_bytes = value.parse()?,
                "max_backlog" => to.config.max_backlog_bytes = value.parse()?,
                "subprotocols" => to.subprotocols = value.split(',').map(str::to_owned).collect(),
                "refuse" => to.refusal = Some(Response::text(value.parse()?, "")),
                "body" => {
                    to.refusal.as_mut().ok_or("body without refuse")?.body = std::fs::read(value)?
                }
                _ => return Err(key.into()),
            }
        }
        Ok(to)
    }
}

struct Driver {
    event_loop: Loop,
    teller: Teller,
}

impl Driver {
    fn conn(&mut self) -> Result<Conn<'_>> {
        let id = self.teller.current.ok_or("there is no connection")?;
        Ok(self.event_loop.conn(id))
    }

    fn obey(&mut self, line: &str) -> Result<()> {
        let (order, rest) = line.split_once(' ').unwrap_or((line, ""));
        match order {
            "sync" => println!("synced"),
            "listen" => self.listen(rest)?,
            "connect" => self.connect(rest)?,
            "pause" => self.conn()?.pause()?,
            "resume" => self.conn()?.resume()?,
            "terminate" => self.conn()?.terminate()?,
            "close" => {
                let (code, reason) = rest.split_once(' ').unwrap_or((rest, ""));
                let code = code.parse().map(|code| (code != 0).then_some(code))?;
                self.conn()?.close(code, reason)?;
            }
            "send" | "fragment" | "fill" | "ping" | "pong" => self.with_payload(order, rest)?,
            _ => return Err("no such order".into()),
        }
        Ok(())
    }

    fn listen(&mut self, rest: &str) -> Result<()> {
        let given = Settings::read(rest.split_terminator(' '))?;
        let mut options = ServerOptions::tcp("127.0.0.1", 0);
        options.config = given.config;
        options.policy.subprotocols = given.subprotocols;
        options.tag = u32::try_from(self.teller.refusals.len())?;
        let server = self.event_loop.listen(&options)?;
        self.teller.refusals.push(given.refusal);
        let address = self.event_loop.server_addr(server)?.to_string();
        let (_, port) = address.rsplit_once(':').ok_or("no port")?;
        println!("listening {port}");
        Ok(())
    }

    fn connect(&mut self, rest: &str) -> Result<()> {
        let mut words = rest.split(' ');
        let (port, target) = words
            .next()
            .zip(words.next())
            .ok_or("expected PORT TARGET")?;
        let given = Settings::read(words)?;
        let mut options = ClientOptions {
            config: given.config,
            ..ClientOptions::default()
        };
        options.request.subprotocols = given.subprotocols;
        self.teller.opened = false;
        let url = format!("ws://127.0.0.1:{port}{target}");
        self.teller.current = Some(self.event_loop.connect(&url, &options)?);
        Ok(())
    }

    /// `ORDER FILE [HOW]`, where files of text have names that begin with t.
    fn with_payload(&mut self, order: &str, rest: &str) -> Result<()> {
        let (name, how) = rest.split_once(' ').unwrap_or((rest, ""));
        let data = std::fs::read(name)?;
        let kind = if name.starts_with('t') {
            MessageType::Text
        } else {
            MessageType::Binary
        };
        let mut conn = self.conn()?;
        match order {
            "send" => conn.send(kind, &data).map(drop)?,
            "fragment" => conn.send_fragment(kind, &data, how == "last").map(drop)?,
            "ping" => conn.ping(&data).map(drop)?,
            "pong" => conn.pong(&data).map(drop)?,
            _ => fill(&mut conn, kind, &data, how == "full")?,
        }
        Ok(())
    }

    fn run(&mut self) -> Result<()> {
        self.event_loop.watch(STDIN)?;
        let mut input = Vec::new();
        loop {
            self.event_loop.poll(None, &mut self.teller)?;
            if !self.event_loop.take_watched() {
                continue;
            }
            let mut stdin = stdin().lock();
            let more = stdin.fill_buf()?.to_vec();
            if more.is_empty() {
                return Ok(());
            }
            stdin.consume(more.len());
            input.extend(more);
            while let Some(end) = input.iter().position(|&octet| octet == b'\n') {
                let line = String::from_utf8(input.drain(..=end).collect())?;
                let line = line.trim_end_matches('\n');
                if let Err(error) = self.obey(line) {
                    println!("error {line}: {error}");
                }
            }
        }
    }
}

/// Sends one message again and again until that is answered by backpressure, or refused as full.
fn fill(conn: &mut Conn<'_>, kind: MessageType, data: &[u8], until_full: bool) -> Result<()> {
    for count in 0..MOST_FILLED {
        let filled = match conn.send(kind, data) {
            Ok(Sent::Backpressure) if !until_full => count + 1,
            Err(error) if until_full && error.kind() == ErrorKind::Full => count,
            Ok(_) => continue,
            Err(error) => return Err(error.into()),
        };
        println!("filled {filled} {}", conn.buffered());
        return Ok(());
    }
    Err("the backlog does not grow".into())
}

fn main() -> Result<()> {
    let (event_loop, teller) = (Loop::new()?, Teller::default());
    Driver { event_loop, teller }.run()
}
