//! echo-client URL [--agent NAME] [--max-message BYTES]
//!             [--deflate [--deflate-window-bits N] [--context-takeover]]
//! The client of the Autobahn test suite: asks URL/getCaseCount how many cases there are, runs them
//! one after another by URL/runCase, echoing all, and asks for the report by URL/updateReports.

use wsabi::{ClientOptions, Closed, Conn, DeflateOptions, Handler, Handshake, Loop, Message, Sent};

const USAGE: &str = "\
usage: echo-client URL [--agent NAME] [--max-message BYTES]
                   [--deflate [--deflate-window-bits N] [--context-takeover]]
  --deflate                offer or accept permessage-deflate
  --deflate-window-bits N  window of both sides, 9 to 15; default 12
  --context-takeover       messages of both sides refer to earlier ones";

/// Echoes, or takes the number of cases.
#[derive(Default)]
struct Client {
    counting: bool,
    cases: u32,
    opened: bool,
    failure: Option<String>,
}

impl Handler for Client {
    fn on_open(&mut self, _: &mut Conn<'_>, _: Handshake<'_>) {
        self.opened = true;
    }

    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        if self.counting {
            self.cases = message
                .text()
                .and_then(|text| text.parse().ok())
                .unwrap_or(0);
        } else if let Ok(Sent::Backpressure) = conn.send(message.message_type(), message.as_bytes())
        {
            // A server that does not take its replies is not read from until it has.
            let _ = conn.pause();
        }
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>) {
        let _ = conn.resume();
    }

    fn on_close(&mut self, _: &mut Conn<'_>, closed: &Closed) {
        if let (false, Some(error)) = (self.opened, &closed.error) {
            self.failure = Some(error.to_string());
        }
    }
}

struct Arguments {
    url: String,
    agent: String,
    options: ClientOptions,
}

fn parse(args: &mut impl Iterator<Item = String>) -> Option<Arguments> {
    let url = args.next().filter(|url| !url.starts_with('-'))?;
    let mut parsed = Arguments {
        url,
        agent: "wsabi-rust".to_owned(),
        options: ClientOptions::default(),
    };
    let (mut deflate, mut wanted) = (false, DeflateOptions::default());
    while let Some(flag) = args.next() {
        match flag.as_str() {
            "--agent" => parsed.agent = args.next()?,
            "--max-message" => {
                parsed.options.config.max_message_bytes = args.next()?.parse().ok()?
            }
            "--deflate" => deflate = true,
            "--deflate-window-bits" => {
                let bits = args.next()?.parse().ok()?;
                wanted.server_max_window_bits = bits;
                wanted.client_max_window_bits = bits;
            }
            "--context-takeover" => {
                wanted.server_context_takeover = true;
                wanted.client_context_takeover = true;
            }
            _ => return None,
        }
    }
    if !deflate && wanted != DeflateOptions::default() {
        return None;
    }
    parsed.options.config.deflate = deflate.then_some(wanted);
    Some(parsed)
}

/// Connects, and comes back when the connection is over, for then the loop has nothing left.
fn visit(event_loop: &mut Loop, client: &mut Client, url: &str, options: &ClientOptions) -> bool {
    (client.opened, client.failure) = (false, None);
    let result = event_loop
        .connect(url, options)
        .and_then(|_| event_loop.run(client));
    let failure = client
        .failure
        .take()
        .or(result.err().map(|error| error.to_string()));
    if let Some(failure) = &failure {
        eprintln!("echo-client: {url}: {failure}");
    }
    failure.is_none()
}

fn main() {
    let Some(Arguments {
        url,
        agent,
        options,
    }) = parse(&mut std::env::args().skip(1))
    else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    let mut event_loop = match Loop::new() {
        Ok(event_loop) => event_loop,
        Err(error) => {
            eprintln!("echo-client: {error}");
            std::process::exit(1);
        }
    };
    let url = url.trim_end_matches('/');
    let mut client = Client {
        counting: true,
        ..Client::default()
    };
    if !visit(
        &mut event_loop,
        &mut client,
        &format!("{url}/getCaseCount"),
        &options,
    ) {
        std::process::exit(1);
    }
    client.counting = false;
    for case in 1..=client.cases {
        visit(
            &mut event_loop,
            &mut client,
            &format!("{url}/runCase?case={case}&agent={agent}"),
            &options,
        );
    }
    visit(
        &mut event_loop,
        &mut client,
        &format!("{url}/updateReports?agent={agent}"),
        &options,
    );
}
