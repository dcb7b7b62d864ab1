//! chat-client URL NAME [--from X] [--say TEXT]... [--await N] [--once]
//! Joins the chat room at URL, such as ws://127.0.0.1:9000/chat, and says what comes from stdin,
//! line by line, until that ends. What is said there is described in examples/chat.md. A lost
//! connection is made again, with --once not; --await leaves after N messages of others, whether or
//! not stdin has ended.

use std::io::{BufRead, Write};
use std::process::exit;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wsabi::{
    ClientOptions, Closed, Conn, ConnId, Context, Handle, Handler, Handshake, Loop, Message,
};

const USAGE: &str = "usage: chat-client URL NAME [--from X] [--say TEXT]... [--await N] [--once]";
const MAX_MESSAGE_BYTES: usize = 4096;

/// What comes from the terminal.
enum Input {
    Line(String),
    End,
}

#[derive(Default)]
struct Arguments {
    url: String,
    name: String,
    from: String,
    say: Vec<String>,
    count: Option<u64>,
    once: bool,
}

/// A member of the room, across its connections.
#[derive(Default)]
struct Client {
    args: Arguments,
    conn: Option<ConnId>,
    /// Whether we are in the room, and our name there, once we have been.
    joined: bool,
    name: Option<String>,
    refusal: Option<String>,
    leaving: bool,
    /// Messages of others.
    heard: u64,
    /// The time of the latest event.
    last: u64,
    attempts: i32,
    again: Option<Instant>,
    status: Option<i32>,
}

/// Prints a line. What others have sent cannot end it, turn its direction, nor give commands to the
/// terminal.
fn show(line: &str) {
    let is_unwanted =
        |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}');
    let line = line.replace(is_unwanted, "\u{FFFD}");
    if writeln!(std::io::stdout(), "{line}").is_err() {
        exit(1); // Nobody reads it any more.
    }
}

/// A field that is text, or nothing.
fn text<'a>(event: &'a Value, field: &str) -> &'a str {
    event[field].as_str().unwrap_or_default()
}

impl Client {
    fn connect(&mut self, context: &mut Context) -> wsabi::Result<()> {
        (self.again, self.refusal) = (None, None);
        self.conn = Some(context.connect(&self.args.url, &ClientOptions::default())?);
        Ok(())
    }

    fn send(conn: &mut Conn<'_>, message: &Value) {
        let message = message.to_string();
        if message.len() > MAX_MESSAGE_BYTES {
            show("! that is too long, and was not said");
        } else {
            let _ = conn.send_text(&message); // If it is closed, on_close is about to come.
        }
    }

    fn say(conn: &mut Conn<'_>, text: &str) {
        Self::send(conn, &json!({"type": "say", "text": text}));
    }

    fn welcome(&mut self, conn: &mut Conn<'_>, event: &Value) {
        let members = event["members"].as_array().into_iter().flatten();
        let names: Vec<&str> = members.map(|member| text(member, "name")).collect();
        let name = text(event, "name");
        show(&format!("+ joined as {name}, {} here", names.join(", ")));
        (self.joined, self.attempts, self.name) = (true, 0, Some(name.to_owned()));
        let seen = self.last; // Before the connection was lost.
        for past in event["history"].as_array().into_iter().flatten() {
            if past["time"].as_u64() > Some(seen) {
                self.tell(past);
            }
        }
        for text in std::mem::take(&mut self.args.say) {
            Self::say(conn, &text);
        }
    }

    fn tell(&mut self, event: &Value) {
        self.last = self.last.max(event["time"].as_u64().unwrap_or(0));
        let label = match (text(event, "name"), text(event, "from")) {
            (name, "") => name.to_owned(),
            (name, from) => format!("{name} [{from}]"),
        };
        match text(event, "type") {
            "said" => show(&format!("{label}: {}", text(event, "text"))),
            kind => show(&format!("* {label} {kind}")),
        }
    }

    /// Leaves, with a closing handshake if there is a connection.
    fn leave(&mut self, context: &mut Context) {
        self.leaving = true;
        let closed = match self.conn {
            Some(id) if self.again.is_none() => context.conn(id).close(Some(1000), ""),
            _ => return self.end(0),
        };
        let _ = closed; // If it is closed, on_close is about to come.
    }

    fn end(&mut self, status: i32) {
        if status == 0 && self.name.is_some() {
            show("+ left");
        }
        self.status = Some(status);
    }

    /// Does what the terminal, signals and the clock ask for.
    fn go_on(&mut self, context: &mut Context, input: &Receiver<Input>) -> wsabi::Result<()> {
        if self.again.is_some_and(|at| at <= Instant::now()) {
            self.connect(context)?;
        }
        while let (true, false, Some(id)) = (self.joined, self.leaving, self.conn) {
            match input.try_recv() {
                Ok(Input::Line(line)) if line.is_empty() => {}
                Ok(Input::Line(line)) => Self::say(&mut context.conn(id), &line),
                Ok(Input::End) if self.args.count.is_none() => self.leave(context),
                Ok(Input::End) | Err(_) => break,
            }
        }
        Ok(())
    }
}

impl Handler for Client {
    fn on_open(&mut self, conn: &mut Conn<'_>, _: Handshake<'_>) {
        let join = json!({"type": "join", "name": self.args.name, "from": self.args.from});
        Self::send(conn, &join);
    }

    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        let Ok(event) = serde_json::from_slice::<Value>(message.as_bytes()) else {
            let _ = conn.close(Some(1003), "expected JSON");
            return;
        };
        match text(&event, "type") {
            "welcome" => self.welcome(conn, &event),
            "error" => {
                show(&format!("! {}", text(&event, "text")));
                if !self.joined {
                    self.refusal = Some(text(&event, "text").to_owned());
                    let _ = conn.close(Some(1000), "");
                }
            }
            "joined" | "left" => self.tell(&event),
            "said" => {
                self.tell(&event);
                self.heard += u64::from(event["name"].as_str() != self.name.as_deref());
                if self.args.count.is_some_and(|count| self.heard >= count) {
                    self.leave(conn.context());
                }
            }
            _ => {}
        }
    }

    fn on_close(&mut self, _: &mut Conn<'_>, closed: &Closed) {
        self.joined = false;
        if self.leaving {
            return self.end(0);
        }
        let is_name_refused = self.refusal.is_some() && self.name.is_none();
        let why = match (self.refusal.take(), &closed.error) {
            (Some(refusal), _) => refusal,
            (None, Some(error)) => error.to_string(),
            (None, None) => format!("{} {}", closed.code, closed.reason),
        };
        if self.args.once || is_name_refused || (400..500).contains(&closed.http_status) {
            show(&format!("- disconnected: {why}"));
            return self.end(1);
        }
        let delay = (0.5 * 2_f64.powi(self.attempts)).min(10.0) * (1.0 + random() / 2.0);
        self.attempts += 1;
        self.again = Some(Instant::now() + Duration::from_secs_f64(delay));
        show(&format!(
            "- disconnected: {}; again in {delay:.1} s",
            why.trim_end()
        ));
    }
}

/// A number from 0 to 1.
fn random() -> f64 {
    f64::from(getrandom::u32().unwrap_or(0)) / f64::from(u32::MAX)
}

/// Hands on the lines of stdin, of which one waits at most.
fn read_input(lines: &SyncSender<Input>, handle: &Handle) {
    let hand_on = |input| lines.send(input).is_ok() && handle.wake().is_ok();
    for line in std::io::stdin().lock().split(b'\n').map_while(Result::ok) {
        let line = String::from_utf8_lossy(&line);
        if !hand_on(Input::Line(line.trim_end_matches('\r').to_owned())) {
            return;
        }
    }
    hand_on(Input::End);
}

fn run(args: Arguments) -> Result<i32, Box<dyn std::error::Error>> {
    let mut client = Client {
        args,
        ..Client::default()
    };
    let mut event_loop = Loop::new()?;
    client.connect(&mut event_loop)?;

    let (lines, input) = sync_channel(1);
    let handle = event_loop.handle();
    std::thread::spawn(move || read_input(&lines, &handle));
    let (signalled, signals) = sync_channel(1);
    let handle = event_loop.handle();
    let mut caught = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        for signal in caught.forever() {
            let _ = (signalled.try_send(signal), handle.wake());
        }
    });

    loop {
        if let Some(status) = client.status {
            return Ok(status);
        }
        let wait = client
            .again
            .map(|at| at.saturating_duration_since(Instant::now()));
        event_loop.poll(wait, &mut client)?;
        if signals.try_recv().is_ok() {
            if client.leaving {
                client.end(1); // A second one does not wait for the server.
            }
            client.leave(&mut event_loop);
        }
        client.go_on(&mut event_loop, &input)?;
    }
}

fn parse(args: &mut impl Iterator<Item = String>) -> Option<Arguments> {
    let mut parsed = Arguments {
        from: "rust".to_owned(),
        ..Arguments::default()
    };
    let mut positional = Vec::new();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--from" => parsed.from = args.next()?,
            "--say" => parsed.say.push(args.next()?),
            "--await" => parsed.count = Some(args.next()?.parse().ok().filter(|&n| n > 0)?),
            "--once" => parsed.once = true,
            flag if flag.starts_with("--") => return None,
            _ => positional.push(arg),
        }
    }
    [parsed.url, parsed.name] = positional.try_into().ok()?;
    Some(parsed)
}

fn main() {
    let Some(args) = parse(&mut std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        exit(2);
    };
    match run(args) {
        Ok(status) => exit(status),
        Err(error) => {
            eprintln!("chat-client: {error}");
            exit(1);
        }
    }
}
