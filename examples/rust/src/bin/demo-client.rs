//! demo-client URL NAME
//! Sends two text messages and a binary one to an echo server, one after the other, and says under
//! NAME what was sent and what came back.

use std::time::Duration;

use wsabi::{ClientOptions, Closed, Conn, Handler, Handshake, Loop, Message};

const LINES: [Message<'static>; 3] = [
    Message::Text("Hello from Rust"),
    Message::Text("Grüße, 世界 🌍"),
    Message::Binary(&[0x00, 0x01, 0xfe, 0xff]),
];

struct Client {
    name: String,
    echoed: usize,
    good: bool,
}

fn shown(message: Message<'_>) -> String {
    match message {
        Message::Text(text) => format!("\"{text}\""),
        Message::Binary(data) => format!("{} bytes", data.len()),
    }
}

impl Client {
    fn send_next(&self, conn: &mut Conn<'_>) {
        let Some(&line) = LINES.get(self.echoed) else {
            let _ = conn.close(Some(1000), "");
            return;
        };
        println!("{} -> {}", self.name, shown(line));
        let _ = conn.send(line.message_type(), line.as_bytes());
    }
}

impl Handler for Client {
    fn on_open(&mut self, conn: &mut Conn<'_>, _: Handshake<'_>) {
        self.send_next(conn);
    }

    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        println!("{} <- {}", self.name, shown(message));
        if LINES.get(self.echoed) != Some(&message) {
            eprintln!("demo-client: that is not what was sent");
            let _ = conn.terminate();
            return;
        }
        self.echoed += 1;
        self.send_next(conn);
    }

    fn on_close(&mut self, _: &mut Conn<'_>, closed: &Closed) {
        self.good = closed.is_clean() && self.echoed == LINES.len();
        if let Some(error) = &closed.error {
            eprintln!("demo-client: {error}");
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [url, name] = args.as_slice() else {
        eprintln!("usage: demo-client URL NAME");
        std::process::exit(2);
    };
    // No byte from the server for 10 s ends the connection.
    let mut options = ClientOptions::default();
    options.config.idle_timeout = Some(Duration::from_secs(10));

    let mut client = Client {
        name: name.clone(),
        echoed: 0,
        good: false,
    };
    let talked = Loop::new().and_then(|mut event_loop| {
        event_loop.connect(url, &options)?;
        event_loop.run(&mut client)
    });
    if let Err(error) = talked {
        eprintln!("demo-client: {error}");
    }
    std::process::exit(i32::from(!client.good));
}
