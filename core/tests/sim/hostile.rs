//! Raw peers: when they speak, whether they read, and how they stop.
//!
//! Does not know: what is broken in what they say, or what the library makes of it.

use std::collections::VecDeque;

use wsabi::{Config, ErrorKind, Role};

use crate::broken::{broken, compressed, request, response, valid};
use crate::chance::{self, Chance, Fault};
use crate::kernel::{CLIENT, Kernel, SERVER};
use crate::model::{Frame, encode};

#[derive(Debug)]
enum Act {
    Write(Vec<u8>),
    Wait(u64),
    /// Closes its direction, and reads on.
    Fin,
    Reset,
}

impl Act {
    /// Bytes it writes.
    fn len(&self) -> usize {
        match self {
            Self::Write(bytes) => bytes.len(),
            Self::Wait(_) | Self::Fin | Self::Reset => 0,
        }
    }
}

/// What is expected of a broken opening handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    /// It is not broken.
    Open,
    /// A server answers with this status.
    Status(u16),
    /// A client ends with this.
    Kind(ErrorKind),
}

/// A raw peer.
#[derive(Debug)]
pub(crate) struct Raw {
    pub(crate) fd: i32,
    pub(crate) link: usize,
    pub(crate) side: usize,
    script: VecDeque<Act>,
    next_at: u64,
    pending: Vec<u8>,
    reads: bool,
    got: Vec<u8>,
    /// What the kernel has taken.
    pub(crate) sent: Vec<u8>,
    /// How much of that is the head.
    pub(crate) head: usize,
    pub(crate) expected: Expected,
    /// How much of what it sent the model can judge: not what is compressed, which comes last.
    pub(crate) plain: Option<usize>,
    /// Whether it may compress.
    deflates: bool,
    /// Whether it has reset the connection, so that what it sent may be lost.
    pub(crate) has_reset: bool,
    /// A server that has not answered yet.
    answer: Option<(Chance, Config)>,
    pub(crate) is_done: bool,
    /// Whether the kernel has taken everything it had to say.
    pub(crate) has_said_all: bool,
}

impl Raw {
    /// A raw client on a descriptor that is being connected.
    pub(crate) fn client(
        fd: i32,
        link: usize,
        now: u64,
        config: &Config,
        mut chance: Chance,
    ) -> Self {
        let deflates = config.deflate.is_some() && chance.coin();
        let (head, expected) = request(&mut chance, config, deflates);
        let mut this = Self::new(fd, link, CLIENT, now, expected, &mut chance);
        this.deflates = deflates;
        this.head = head.len();
        this.say(head, config, &mut chance);
        this
    }

    /// A raw server on a descriptor that was accepted.
    pub(crate) fn server(
        fd: i32,
        link: usize,
        now: u64,
        config: &Config,
        mut chance: Chance,
    ) -> Self {
        let mut this = Self::new(fd, link, SERVER, now, Expected::Open, &mut chance);
        this.answer = Some((chance, config.clone()));
        this
    }

    fn new(
        fd: i32,
        link: usize,
        side: usize,
        now: u64,
        expected: Expected,
        chance: &mut Chance,
    ) -> Self {
        Self {
            fd,
            link,
            side,
            script: VecDeque::new(),
            next_at: now,
            pending: Vec::new(),
            reads: !chance.hits(150),
            got: Vec::new(),
            sent: Vec::new(),
            head: 0,
            expected,
            plain: None,
            deflates: false,
            has_reset: false,
            answer: None,
            is_done: false,
            has_said_all: false,
        }
    }

    /// Plans what is said: the head, frames if it is valid, and how it ends.
    fn say(&mut self, head: Vec<u8>, config: &Config, chance: &mut Chance) {
        let sender = if self.side == CLIENT {
            Role::Client
        } else {
            Role::Server
        };
        if chance.hits(700) {
            self.script.push_back(Act::Write(head));
        } else {
            let (first, rest) = head.split_at(chance.below(head.len() as u64) as usize);
            self.script.push_back(Act::Write(first.to_vec()));
            self.script.push_back(Act::Wait(chance.scale(200)));
            self.script.push_back(Act::Write(rest.to_vec()));
        }
        if self.expected == Expected::Open {
            self.speak(config, sender, chance);
        } else {
            chance::hit(Fault::HostileHandshake);
            if chance.hits(300) {
                self.script
                    .push_back(Act::Write(b"\x81\x85\0\0\0\0hello".to_vec()));
            }
        }
        self.script.push_back(Act::Wait(chance.scale(500)));
        match chance.below(4) {
            0 => self.script.push_back(Act::Reset),
            1 | 2 => self.script.push_back(Act::Fin),
            _ => {}
        }
    }

    fn speak(&mut self, config: &Config, sender: Role, chance: &mut Chance) {
        if chance.hits(100) {
            chance::hit(Fault::HostileFlood);
            self.reads = chance.hits(200);
            let ping = Frame {
                first: 0x89,
                payload: vec![b'!'; chance.below(126) as usize],
            };
            let flood: Vec<Frame> = vec![ping; chance.between(50, 400) as usize];
            let keys = std::iter::repeat([1, 2, 3, 4]);
            self.script
                .push_back(Act::Write(encode(&flood, sender, keys)));
            return;
        }
        for _ in 0..chance.below(5) {
            let frames = valid(config, chance);
            self.script.push_back(Act::Write(encode(
                &frames,
                sender,
                std::iter::repeat([9, 8, 7, 6]),
            )));
            if chance.hits(300) {
                self.script.push_back(Act::Wait(chance.scale(300)));
            }
        }
        if self.deflates {
            chance::hit(Fault::HostileDeflate);
            let before = self.script.iter().map(Act::len).sum();
            self.plain = Some(before);
            let frames = compressed(chance);
            self.script.push_back(Act::Write(encode(
                &frames,
                sender,
                std::iter::repeat([5, 5, 0, 1]),
            )));
            return;
        }
        if chance.hits(850) {
            chance::hit(Fault::HostileFrames);
            self.script
                .push_back(Act::Write(broken(config, sender, chance)));
        }
        if chance.hits(300) {
            let frames = valid(config, chance);
            self.script.push_back(Act::Write(encode(
                &frames,
                sender,
                std::iter::repeat([0; 4]),
            )));
        }
    }

    /// When it does something next by itself.
    pub(crate) fn next(&self) -> Option<u64> {
        // What the kernel did not take waits for others, not for a time.
        let idle = self.is_done || self.script.is_empty() || !self.pending.is_empty();
        (!idle).then_some(self.next_at)
    }

    /// Does what there is to do now.
    pub(crate) fn step(&mut self, kernel: &mut Kernel) {
        if self.is_done {
            return;
        }
        self.read(kernel);
        while !self.is_done && self.next_at <= kernel.now {
            if !self.pending.is_empty() {
                match kernel.send(self.fd, &self.pending) {
                    Ok(Some(count)) => {
                        self.sent.extend(self.pending.drain(..count));
                        continue;
                    }
                    Ok(None) => return,
                    Err(_) => return self.close(kernel, false),
                }
            }
            match self.script.pop_front() {
                Some(Act::Write(bytes)) => self.pending = bytes,
                Some(Act::Wait(ms)) => self.next_at = kernel.now + ms,
                Some(Act::Fin) => {
                    self.reads = true;
                    let _ = kernel.shutdown(self.fd);
                }
                Some(Act::Reset) => return self.close(kernel, true),
                None => break,
            }
        }
        self.has_said_all |=
            self.answer.is_none() && self.script.is_empty() && self.pending.is_empty();
    }

    pub(crate) fn close(&mut self, kernel: &mut Kernel, resets: bool) {
        self.has_reset |= resets;
        self.is_done = true;
        self.script.clear();
        self.pending.clear();
        kernel.close(self.fd, resets);
    }

    fn read(&mut self, kernel: &mut Kernel) {
        let mut buffer = [0; 4096];
        while self.reads || self.answer.is_some() {
            match kernel.recv(self.fd, &mut buffer) {
                Ok(Some(0)) | Err(_) => return self.close(kernel, false),
                Ok(Some(count)) => {
                    if self.answer.is_some() {
                        self.got.extend_from_slice(&buffer[..count]);
                        self.answer_request(kernel.now);
                    }
                }
                Ok(None) => return,
            }
        }
    }

    fn answer_request(&mut self, now: u64) {
        if !self.got.ends_with(b"\r\n\r\n") {
            return;
        }
        let Some((mut chance, config)) = self.answer.take() else {
            return;
        };
        let (head, expected) = response(&mut chance, &config, &self.got);
        self.expected = expected;
        self.head = head.len();
        self.next_at = now + chance.scale(50);
        self.say(head, &config, &mut chance);
    }
}
