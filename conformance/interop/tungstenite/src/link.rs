//! A connection that sends and receives at once, from one thread: what is sent waits in the
//! library's buffer, and reading and writing take turns with short timeouts.
//!
//! Does not know: cases.

use std::fmt;
use std::io::ErrorKind;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use tungstenite::protocol::frame::coding::{Data, OpCode};
use tungstenite::protocol::frame::{CloseFrame, Frame};
use tungstenite::protocol::{Message, WebSocketConfig};
use tungstenite::{Error, WebSocket};

use crate::Outcome;

/// For one case.
pub const DEADLINE: Duration = Duration::from_secs(60);
/// What a Close frame without a code is reported as.
pub const NO_CODE: u16 = 1005;
const TURN: Duration = Duration::from_millis(2);

/// What can come.
pub enum Received {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close(u16, String),
    End(String),
}

impl fmt::Display for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(data) => write!(f, "a text of {} bytes", data.len()),
            Self::Binary(data) => write!(f, "a binary message of {} bytes", data.len()),
            Self::Pong(data) => write!(f, "a pong of {} bytes", data.len()),
            Self::Close(code, reason) => write!(f, "Close {code} {reason:?}"),
            Self::End(why) => write!(f, "the end of the connection ({why})"),
        }
    }
}

/// No limits, and nothing written before it is asked for.
pub fn config() -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(None)
        .max_frame_size(None)
        .write_buffer_size(usize::MAX - 1)
        .max_write_buffer_size(usize::MAX)
}

pub struct Link {
    ws: WebSocket<TcpStream>,
    deadline: Instant,
}

impl Link {
    pub fn new(ws: WebSocket<TcpStream>) -> Outcome<Self> {
        let stream = ws.get_ref();
        stream
            .set_read_timeout(Some(TURN))
            .and_then(|()| stream.set_write_timeout(Some(TURN)))
            .and_then(|()| stream.set_nodelay(true))
            .map_err(|e| e.to_string())?;
        Ok(Self {
            ws,
            deadline: Instant::now() + DEADLINE,
        })
    }

    fn write(&mut self, message: Message) -> Outcome {
        self.ws.write(message).map_err(|e| e.to_string())
    }

    pub fn frame(&mut self, data: &[u8], is_text: bool, first: bool, last: bool) -> Outcome {
        let opcode = match (first, is_text) {
            (false, _) => Data::Continue,
            (true, true) => Data::Text,
            (true, false) => Data::Binary,
        };
        self.write(Message::Frame(Frame::message(
            data.to_vec(),
            OpCode::Data(opcode),
            last,
        )))
    }

    pub fn ping(&mut self, data: Vec<u8>) -> Outcome {
        self.write(Message::Ping(data.into()))
    }

    pub fn pong(&mut self, data: Vec<u8>) -> Outcome {
        self.write(Message::Pong(data.into()))
    }

    pub fn close(&mut self, code: Option<u16>, reason: &str) -> Outcome {
        let frame = code.map(|code| CloseFrame {
            code: code.into(),
            reason: reason.into(),
        });
        match self.ws.close(frame) {
            Err(e) if !is_turn_over(&e) => Err(e.to_string()),
            _ => Ok(()),
        }
    }

    /// What comes next, while what waits is written.
    pub fn next(&mut self) -> Outcome<Received> {
        while Instant::now() < self.deadline {
            // A peer that has closed takes no more; what it has sent is still to be read.
            drop(self.ws.flush());
            return Ok(match self.ws.read() {
                Ok(Message::Text(data)) => Received::Text(data.as_bytes().to_vec()),
                Ok(Message::Binary(data)) => Received::Binary(data.to_vec()),
                Ok(Message::Pong(data)) => Received::Pong(data.to_vec()),
                Ok(Message::Close(None)) => Received::Close(NO_CODE, String::new()),
                Ok(Message::Close(Some(frame))) => {
                    Received::Close(frame.code.into(), frame.reason.to_string())
                }
                Ok(Message::Ping(_) | Message::Frame(_)) => continue,
                Err(e) if is_turn_over(&e) => continue,
                Err(e) => Received::End(e.to_string()),
            });
        }
        Err(format!("not finished after {} s", DEADLINE.as_secs()))
    }

    /// Ends the connection without a Close frame.
    pub fn cut_off(&mut self) {
        while let Err(e) = self.ws.flush() {
            if !is_turn_over(&e) || Instant::now() > self.deadline {
                break;
            }
        }
        drop(self.ws.get_ref().shutdown(Shutdown::Both));
    }
}

fn is_turn_over(e: &Error) -> bool {
    matches!(e, Error::Io(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut))
}
