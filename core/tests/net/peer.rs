//! A raw peer: bytes over a socket, and an independent reading and writing of frames (RFC 6455
//! §5.2).
//!
//! Does not know: the loop; nothing in here waits.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use base64::Engine;
use sha1::{Digest, Sha1};
use socket2::{Domain, Socket, Type};

/// A request with the key of RFC 6455 §1.3.
pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: test\r\nUpgrade: websocket\r\n\
    Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
/// What the response to it contains.
pub const ACCEPT: &str = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";

pub const CONTINUATION: u8 = 0;
pub const TEXT: u8 = 1;
pub const BINARY: u8 = 2;
pub const CLOSE: u8 = 8;
pub const PING: u8 = 9;
pub const PONG: u8 = 10;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub fin: bool,
    pub opcode: u8,
    pub masked: bool,
    pub payload: Vec<u8>,
}

/// How the peer's stream came to an end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    Fin,
    Reset,
}

pub struct Peer {
    pub socket: Socket,
    /// What has come and was not taken.
    pub got: Vec<u8>,
    pub end: Option<End>,
    /// Whether it is a client, which masks its frames.
    masks: bool,
}

impl Peer {
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the kernel completes the connection");
        Self::new(Socket::from(stream), true)
    }

    /// A client whose kernel takes little before it is read from.
    pub fn connect_small(address: SocketAddr) -> Self {
        Self::connect_with(address, 4096)
    }

    /// A client whose kernel keeps about this many bytes that were not read.
    pub fn connect_with(address: SocketAddr, buffer: usize) -> Self {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(buffer).unwrap();
        socket.connect(&address.into()).unwrap();
        Self::new(socket, true)
    }

    pub fn server(stream: TcpStream) -> Self {
        Self::new(Socket::from(stream), false)
    }

    pub fn new(socket: Socket, masks: bool) -> Self {
        socket.set_nonblocking(true).unwrap();
        Self {
            socket,
            got: Vec::new(),
            end: None,
            masks,
        }
    }

    /// Sends all of `bytes`; the kernel has room for them.
    pub fn send(&mut self, bytes: &[u8]) {
        assert_eq!(
            self.try_send(bytes),
            bytes.len(),
            "the kernel takes no more"
        );
    }

    /// Sends what the kernel takes; nothing to one that has reset.
    pub fn try_send(&mut self, mut bytes: &[u8]) -> usize {
        let all = bytes.len();
        while !bytes.is_empty() {
            match (&self.socket).write(bytes) {
                Ok(count) => bytes = &bytes[count..],
                Err(_) => break,
            }
        }
        all - bytes.len()
    }

    /// Reads everything that has come.
    pub fn pump(&mut self) {
        let mut buffer = [0; 65536];
        while self.end.is_none() && self.read(&mut buffer) > 0 {}
    }

    /// Reads once.
    pub fn read(&mut self, buffer: &mut [u8]) -> usize {
        match (&self.socket).read(buffer) {
            Ok(0) => self.end = Some(End::Fin),
            Ok(count) => {
                self.got.extend_from_slice(&buffer[..count]);
                return count;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(_) => self.end = Some(End::Reset),
        }
        0
    }

    /// The length of the head that has come, if it is complete.
    pub fn head_len(&self) -> Option<usize> {
        let end = self.got.windows(4).position(|four| four == b"\r\n\r\n")?;
        Some(end + 4)
    }

    pub fn take_head(&mut self) -> String {
        let len = self.head_len().expect("a complete head");
        String::from_utf8(self.got.drain(..len).collect()).unwrap()
    }

    /// Accepts the request that has come, with these bytes behind the response.
    pub fn answer_request(&mut self, behind: &str) {
        let response = self.response();
        self.send(&[response.as_bytes(), behind.as_bytes()].concat());
    }

    /// The response that accepts the request that has come.
    pub fn response(&mut self) -> String {
        let head = self.take_head();
        let key = head
            .lines()
            .find_map(|line| line.strip_prefix("Sec-WebSocket-Key: "))
            .expect("a key");
        let hash = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
        let accept = base64::engine::general_purpose::STANDARD.encode(hash);
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )
    }

    /// A whole message or control frame as this peer would send it.
    pub fn frame(&self, opcode: u8, payload: &[u8]) -> Vec<u8> {
        self.fragment(true, opcode, payload)
    }

    pub fn fragment(&self, fin: bool, opcode: u8, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![u8::from(fin) << 7 | opcode];
        let mask = u8::from(self.masks) << 7;
        match payload.len() {
            len @ ..126 => frame.push(mask | len as u8),
            len @ ..65536 => {
                frame.push(mask | 126);
                frame.extend_from_slice(&(len as u16).to_be_bytes());
            }
            len => {
                frame.push(mask | 127);
                frame.extend_from_slice(&(len as u64).to_be_bytes());
            }
        }
        if !self.masks {
            frame.extend_from_slice(payload);
            return frame;
        }
        frame.extend_from_slice(&MASK);
        let masked = payload.iter().zip(MASK.iter().cycle());
        frame.extend(masked.map(|(octet, key)| octet ^ key));
        frame
    }

    pub fn send_frame(&mut self, opcode: u8, payload: &[u8]) {
        let frame = self.frame(opcode, payload);
        self.send(&frame);
    }

    pub fn send_close(&mut self, code: u16, reason: &str) {
        self.send_frame(CLOSE, &close_payload(code, reason));
    }

    /// Reads, and takes the whole frames that have come.
    pub fn frames(&mut self) -> Vec<Frame> {
        self.pump();
        let mut frames = Vec::new();
        let mut at = 0;
        while let Some((frame, len)) = parse(&self.got[at..]) {
            frames.push(frame);
            at += len;
        }
        self.got.drain(..at);
        frames
    }

    pub fn shutdown_write(&self) {
        self.socket.shutdown(Shutdown::Write).unwrap();
    }

    /// Closes with a reset.
    pub fn reset(self) {
        self.socket.set_linger(Some(Duration::ZERO)).unwrap();
    }
}

pub fn close_payload(code: u16, reason: &str) -> Vec<u8> {
    [&code.to_be_bytes(), reason.as_bytes()].concat()
}

/// The first frame and its length, if it has come whole.
fn parse(bytes: &[u8]) -> Option<(Frame, usize)> {
    let (&first, &second) = (bytes.first()?, bytes.get(1)?);
    let masked = second & 0x80 != 0;
    let (len, mut at) = match second & 0x7f {
        126 => (u64::from(u16::from_be_bytes(*bytes[2..].first_chunk()?)), 4),
        127 => (u64::from_be_bytes(*bytes[2..].first_chunk()?), 10),
        len => (u64::from(len), 2),
    };
    let mut key = [0; 4];
    if masked {
        key = *bytes.get(at..)?.first_chunk()?;
        at += 4;
    }
    let payload = bytes.get(at..at + len as usize)?;
    let frame = Frame {
        fin: first & 0x80 != 0,
        opcode: first & 0x0f,
        masked,
        payload: payload
            .iter()
            .zip(key.iter().cycle())
            .map(|(octet, key)| octet ^ key)
            .collect(),
    };
    Some((frame, at + len as usize))
}
