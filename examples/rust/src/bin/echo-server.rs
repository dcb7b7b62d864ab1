//! echo-server PORT [--host H] [--max-message BYTES]
//!             [--deflate [--deflate-window-bits N] [--context-takeover]]
//! Sends every message back. PORT 0 picks one. SIGINT and SIGTERM end it.

use std::error::Error;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use wsabi::{Conn, DEFAULT_GRACE, DeflateOptions, Handler, Loop, Message, Sent, ServerOptions};

const USAGE: &str = "\
usage: echo-server PORT [--host H] [--max-message BYTES]
                   [--deflate [--deflate-window-bits N] [--context-takeover]]
  --deflate                offer or accept permessage-deflate
  --deflate-window-bits N  window of both sides, 9 to 15; default 12
  --context-takeover       messages of both sides refer to earlier ones";

struct Echo;

impl Handler for Echo {
    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        // A peer that does not take its replies is not read from until it has.
        if let Ok(Sent::Backpressure) = conn.send(message.message_type(), message.as_bytes()) {
            let _ = conn.pause();
        }
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>) {
        let _ = conn.resume();
    }
}

fn main() {
    let mut args = std::env::args().skip(1);
    let Some(options) = parse(&mut args) else {
        eprintln!("{USAGE}");
        std::process::exit(2);
    };
    if let Err(error) = serve(&options) {
        eprintln!("echo-server: {error}");
        std::process::exit(1);
    }
}

fn parse(args: &mut impl Iterator<Item = String>) -> Option<ServerOptions> {
    let port = args.next()?.parse().ok()?;
    let (mut host, mut max_message) = ("127.0.0.1".to_owned(), None);
    let (mut deflate, mut wanted) = (false, DeflateOptions::default());
    while let Some(flag) = args.next() {
        match flag.as_str() {
            "--host" => host = args.next()?,
            "--max-message" => max_message = Some(args.next()?.parse().ok()?),
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
    let mut options = ServerOptions::tcp(&host, port);
    if !deflate && wanted != DeflateOptions::default() {
        return None;
    }
    options.config.deflate = deflate.then_some(wanted);
    options.config.max_message_bytes = max_message.unwrap_or(options.config.max_message_bytes);
    Some(options)
}

fn serve(options: &ServerOptions) -> Result<(), Box<dyn Error>> {
    let mut event_loop = Loop::new()?;
    let server = event_loop.listen(options)?;
    println!("listening on ws://{}", event_loop.server_addr(server)?);

    let handle = event_loop.handle();
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    std::thread::spawn(move || {
        if signals.forever().next().is_some() {
            let _ = handle.stop_server(server, DEFAULT_GRACE);
        }
    });
    event_loop.run(&mut Echo)?; // until the server has stopped
    Ok(())
}
