//! The model: for each end of each connection the list of messages that were accepted, how far the
//! other end has come in it, and what has to hold at every step.
//!
//! Everything is a list or a number that is compared; nothing is clever.
//!
//! Does not know: the kernel, or who decides what is sent.

use std::fmt::Write as _;

use wsabi::{Config, ErrorKind, Role};

use crate::chance::{self, Fault};
use crate::config::Compress;
use crate::protocol::extension::Agreed;

use crate::kernel::{CLIENT, SERVER};
use crate::model::Seen;
use crate::protocol::connection::{Closed, KEEPALIVE_PAYLOAD};
use crate::wire::{Wire, Written};

/// A message that `send` has accepted; its content follows from its place.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Accepted {
    pub(crate) key: u64,
    pub(crate) is_text: bool,
    pub(crate) len: usize,
    /// Fragments after the first.
    pub(crate) continued: u32,
}

/// A message of which fragments were accepted.
#[derive(Debug)]
pub(crate) struct Unfinished {
    pub(crate) key: u64,
    pub(crate) compress: Compress,
    pub(crate) is_text: bool,
    pub(crate) payload: Vec<u8>,
    pub(crate) sent: usize,
    pub(crate) fragments: u32,
}

/// One end of a connection, as its application should see it.
#[derive(Debug)]
pub(crate) struct End {
    side: usize,
    pub(crate) config: Config,
    /// Whether it is the library; the other is a raw peer then, or the library too.
    pub(crate) is_ours: bool,
    pub(crate) opened: bool,
    pub(crate) closed: Option<Closed>,
    pub(crate) accepted: Vec<Accepted>,
    /// How many of the other end's messages have come.
    pub(crate) received: usize,
    pub(crate) unfinished: Option<Unfinished>,
    pub(crate) wire: Wire,
    /// How many messages were handed to the kernel, whole.
    pub(crate) handed: usize,
    /// The status written by a server, or 0.
    pub(crate) status: u16,
    /// The Close frame that was handed to the kernel.
    pub(crate) sent_close: Option<(u16, Vec<u8>)>,
    /// The peer's Close frame, as it was announced.
    pub(crate) heard_close: bool,
    /// Whether it was told to have closed since its server was stopped.
    pub(crate) closed_since_stop: bool,
    pub(crate) failed: Option<ErrorKind>,
    pub(crate) paused: bool,
    pub(crate) called_close: bool,
    pub(crate) called_terminate: bool,
    /// Backpressure or a refusal was told, and no drain since.
    pub(crate) owed_drain: bool,
    /// Whether a drain may come: a broadcast does not tell who is pressed.
    pub(crate) may_drain: bool,
    pub(crate) agreed: Option<Agreed>,
    /// What has come of a message that is given out in chunks.
    chunks: Option<(bool, Vec<u8>)>,
    /// The answer to a ping was announced, and the ping itself not yet.
    pub(crate) announced: bool,
    pub(crate) pings: u64,
    pub(crate) pongs: u64,
    pings_heard: u64,
    /// One more than the number of the latest ping that was answered.
    answers_heard: u64,
    pongs_heard: u64,
    /// What a raw peer's frames came to.
    pub(crate) seen: Vec<Seen>,
}

/// A connection with both of its ends.
#[derive(Debug)]
pub(crate) struct Talk {
    pub(crate) ends: [End; 2],
}

pub(crate) type Verdict = Result<(), String>;

macro_rules! hold {
    ($condition:expr, $($text:tt)*) => {
        if !$condition {
            return Err(format!($($text)*));
        }
    };
}
pub(crate) use hold;

/// The key of the message with this number.
pub(crate) fn key(link: usize, side: usize, number: usize) -> u64 {
    let place = (link as u64 * 2 + side as u64 + 1) << 48;
    place ^ (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// The content of a message: it follows from the key, and whatever is changed in it is seen. Half of
/// them are noise, the others compress well, and all begin differently.
pub(crate) fn fill(key: u64, is_text: bool, len: usize) -> Vec<u8> {
    let mut word = key;
    let step = if key & 2 == 0 { 1 } else { 32 };
    let mut payload = vec![0; len];
    for (number, octets) in payload.chunks_mut(8).enumerate() {
        if number < 2 || number % step == 0 {
            word = (word ^ (word >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) | 1;
        }
        octets.copy_from_slice(&(word ^ (word >> 32)).to_le_bytes()[..octets.len()]);
    }
    if is_text {
        // ASCII, and now and then a character of two and one of four octets.
        for octet in &mut payload {
            *octet = b'0' + (*octet & 63);
        }
        for block in payload.chunks_exact_mut(24) {
            block[7..9].copy_from_slice("é".as_bytes());
            block[17..21].copy_from_slice("😀".as_bytes());
        }
    }
    payload
}

impl End {
    pub(crate) fn new(side: usize, config: &Config, is_ours: bool) -> Self {
        Self {
            side,
            config: config.clone(),
            is_ours,
            opened: false,
            closed: None,
            accepted: Vec::new(),
            received: 0,
            unfinished: None,
            wire: Wire::new(side == CLIENT),
            handed: 0,
            status: 0,
            sent_close: None,
            heard_close: false,
            closed_since_stop: false,
            failed: None,
            paused: false,
            called_close: false,
            called_terminate: false,
            owed_drain: false,
            may_drain: false,
            agreed: None,
            chunks: None,
            announced: false,
            pings: 0,
            pongs: 0,
            pings_heard: 0,
            answers_heard: 0,
            pongs_heard: 0,
            seen: Vec::new(),
        }
    }

    /// Whether anything but the end may be told now.
    fn may_hear(&self, what: &str) -> Verdict {
        hold!(self.opened, "{what} before on_open");
        hold!(self.closed.is_none(), "{what} after on_close");
        hold!(!self.called_terminate, "{what} after terminate");
        hold!(self.failed.is_none(), "{what} after the connection failed");
        Ok(())
    }

    /// Whether anything of the peer may be told now.
    fn may_receive(&self, what: &str) -> Verdict {
        self.may_hear(what)?;
        // An event whose reply was announced is told, even if the announcement was answered by a pause.
        hold!(!self.paused || self.announced, "{what} while paused");
        hold!(!self.heard_close, "{what} after the peer's Close");
        Ok(())
    }

    /// Whether the peer's message with this number is above a limit of this end.
    fn refuses(&self, message: &Accepted) -> bool {
        message.len as u64 > self.config.max_message_bytes
            || message.continued > self.config.max_fragments
    }

    pub(crate) fn on_open(&mut self, agreed: Option<Agreed>) -> Verdict {
        hold!(!self.opened, "on_open twice");
        hold!(self.closed.is_none(), "on_open after on_close");
        self.opened = true;
        self.learn(agreed)
    }

    /// Takes note of what was agreed on about compression.
    pub(crate) fn learn(&mut self, agreed: Option<Agreed>) -> Verdict {
        if let Some(agreed) = agreed
            && self.agreed.is_none()
        {
            chance::hit(Fault::Deflate);
            hold!(
                self.config.deflate.is_some(),
                "compression was agreed on by one who does not want it"
            );
            self.agreed = Some(agreed);
            let role = if self.side == CLIENT {
                Role::Client
            } else {
                Role::Server
            };
            let (bits, takeover) = agreed.sender(role);
            self.wire.expect_deflate(bits, takeover);
        }
        Ok(())
    }

    pub(crate) fn on_drain(&mut self) -> Verdict {
        self.may_hear("on_drain")?;
        hold!(
            self.owed_drain || self.may_drain,
            "on_drain without backpressure"
        );
        self.owed_drain = false;
        self.may_drain = false;
        Ok(())
    }

    /// What has to hold when nothing waits to be written and nothing to be told.
    pub(crate) fn is_drained(&self) -> bool {
        let may_hear = self.opened && self.closed.is_none() && self.failed.is_none();
        !(may_hear && self.owed_drain && !self.called_terminate)
    }

    pub(crate) fn on_failing(&mut self, kind: ErrorKind) -> Verdict {
        self.may_hear("a failure")?;
        self.failed = Some(kind);
        Ok(())
    }
}

impl Talk {
    /// An end and the one opposite.
    fn pair(&mut self, side: usize) -> (&mut End, &mut End) {
        let [client, server] = &mut self.ends;
        match side {
            CLIENT => (client, server),
            _ => (server, client),
        }
    }

    pub(crate) fn on_message(&mut self, side: usize, is_text: bool, payload: &[u8]) -> Verdict {
        let (end, peer) = self.pair(side);
        end.may_receive("a message")?;
        if !peer.is_ours {
            end.seen
                .push(Seen::message(if is_text { 1 } else { 2 }, payload.to_vec()));
            return Ok(());
        }
        let number = end.received;
        let Some(message) = peer.accepted.get(number) else {
            return Err(format!("message {number} was received and never sent"));
        };
        hold!(
            !end.refuses(message),
            "message {number} is above a limit and was delivered"
        );
        hold!(
            message.is_text == is_text,
            "message {number} has the wrong type"
        );
        let expected = fill(message.key, is_text, message.len);
        hold!(
            expected == payload,
            "message {number} differs: {} bytes were sent, {} received",
            message.len,
            payload.len()
        );
        end.received += 1;
        Ok(())
    }

    /// A chunk of a message; the last makes it a message.
    pub(crate) fn on_chunk(
        &mut self,
        side: usize,
        is_text: bool,
        data: &[u8],
        (first, last): (bool, bool),
    ) -> Result<Option<Vec<u8>>, String> {
        let (end, _) = self.pair(side);
        end.may_receive("a chunk")?;
        hold!(end.config.stream_messages, "a chunk that nobody wants");
        hold!(last || !data.is_empty(), "a chunk with nothing in it");
        let (began_as_text, mut all) = match (first, end.chunks.take()) {
            (true, None) => (is_text, Vec::new()),
            (false, Some(begun)) => begun,
            (_, begun) => return Err(format!("first: {first}, but begun: {}", begun.is_some())),
        };
        hold!(began_as_text == is_text, "a chunk of the wrong type");
        all.extend_from_slice(data);
        hold!(
            all.len() as u64 <= end.config.max_message_bytes,
            "a message above the limit is given out in chunks"
        );
        if last {
            return Ok(Some(all));
        }
        end.chunks = Some((is_text, all));
        Ok(None)
    }

    pub(crate) fn on_ping(&mut self, side: usize, payload: &[u8]) -> Verdict {
        let (end, peer) = self.pair(side);
        end.may_receive("a ping")?;
        hold!(
            std::mem::take(&mut end.announced),
            "a ping whose answer was not announced"
        );
        if !peer.is_ours {
            end.seen.push(Seen::Ping(payload.to_vec()));
        } else if payload == KEEPALIVE_PAYLOAD {
            hold!(
                peer.config.ping_interval.is_some(),
                "a keepalive ping that is not wanted"
            );
        } else {
            let expected = ping_payload(b'p', end.pings_heard);
            hold!(
                payload == expected,
                "the ping {payload:?} came in the place of {expected:?}"
            );
            hold!(end.pings_heard < peer.pings, "a ping that was never sent");
            end.pings_heard += 1;
        }
        Ok(())
    }

    pub(crate) fn on_pong(&mut self, side: usize, payload: &[u8]) -> Verdict {
        let (end, peer) = self.pair(side);
        end.may_receive("a pong")?;
        if !peer.is_ours {
            end.seen.push(Seen::Pong(payload.to_vec()));
            return Ok(());
        }
        if payload == KEEPALIVE_PAYLOAD {
            hold!(
                end.config.ping_interval.is_some(),
                "a keepalive pong without a ping"
            );
            return Ok(());
        }
        let number = payload
            .get(1..9)
            .and_then(|octets| octets.try_into().ok())
            .map(u64::from_be_bytes);
        match (payload.first(), number) {
            // Of several pings that waited only the latest is answered (RFC 6455 §5.5.3).
            (Some(b'p'), Some(number)) => {
                hold!(payload == ping_payload(b'p', number), "a pong was changed");
                hold!(
                    number < end.pings,
                    "a pong to the ping {number}, which was never sent"
                );
                hold!(
                    number >= end.answers_heard,
                    "a pong to the ping {number} again"
                );
                end.answers_heard = number + 1;
            }
            (Some(b'u'), Some(number)) => {
                hold!(payload == ping_payload(b'u', number), "a pong was changed");
                hold!(
                    number == end.pongs_heard && number < peer.pongs,
                    "the pong {number} is out of order"
                );
                end.pongs_heard += 1;
            }
            _ => return Err(format!("a pong {payload:?}, which nobody has sent")),
        }
        Ok(())
    }

    pub(crate) fn on_answering(&mut self, side: usize) -> Verdict {
        let (end, _) = self.pair(side);
        end.may_receive("the answer to a ping")?;
        end.announced = true;
        Ok(())
    }

    pub(crate) fn on_peer_close(&mut self, side: usize, code: u16, reason: &str) -> Verdict {
        let (end, peer) = self.pair(side);
        end.may_receive("a Close")?;
        end.heard_close = true;
        if !peer.is_ours {
            end.seen.push(Seen::Close(code, reason.as_bytes().to_vec()));
        }
        Ok(())
    }

    /// The end of a connection: the last that is told, once, and everything that it promises.
    pub(crate) fn on_close(&mut self, side: usize, closed: &Closed, is_rough: bool) -> Verdict {
        let (end, peer) = self.pair(side);
        hold!(end.closed.is_none(), "on_close twice");
        hold!(
            side == CLIENT || end.opened,
            "on_close without on_open at a server"
        );
        end.closed = Some(closed.clone());
        let code = closed.code.as_u16();
        // Who terminates before its own Close is written does not close cleanly.
        let (heard, dropped) = (end.heard_close, closed.messages_dropped);
        hold!(
            heard == (code != 1006) || end.called_terminate,
            "code {code}, but the peer's Close was heard: {heard}"
        );
        hold!(
            closed.is_clean() == (heard && dropped == 0) || end.called_terminate,
            "clean: {}, but {dropped} messages were dropped",
            closed.is_clean()
        );
        // Every message that was accepted has one outcome, and it is told.
        hold!(
            end.accepted.len() as u64 == end.handed as u64 + dropped,
            "of {} accepted messages {} were handed over and {dropped} dropped",
            end.accepted.len(),
            end.handed
        );
        if let Some(kind) = closed.error.as_ref().map(|error| error.kind()) {
            hold!(is_rough, "ended for {kind:?} though nothing was done to it");
            end.may_end_for(kind, peer)?;
        }
        if !heard || code == 1006 {
            return Ok(());
        }
        if peer.is_ours {
            let Some((sent, reason)) = &peer.sent_close else {
                return Err("the peer's Close was heard and never sent".to_owned());
            };
            hold!(
                *sent == code && reason == closed.reason.as_bytes(),
                "the Close {sent} was heard as {code}"
            );
            hold!(
                end.received == peer.accepted.len(),
                "after a clean close {} of {} messages have come",
                end.received,
                peer.accepted.len()
            );
        }
        Ok(())
    }

    /// Reads what a side has handed to the kernel.
    pub(crate) fn on_written(&mut self, side: usize, bytes: &[u8]) -> Verdict {
        let end = &mut self.ends[side];
        let End {
            wire,
            handed,
            accepted,
            status,
            sent_close,
            config,
            ..
        } = end;
        wire.feed(bytes, |written| {
            match written {
                Written::Head(number) => *status = number,
                Written::Message {
                    is_text,
                    payload,
                    continued,
                } => {
                    let number = *handed;
                    let Some(message) = accepted.get(number) else {
                        return Err(format!("message {number} was written and never accepted"));
                    };
                    hold!(
                        message.is_text == is_text
                            && message.continued == continued
                            && *payload == fill(message.key, is_text, message.len),
                        "message {number} was written otherwise than it was accepted"
                    );
                    *handed += 1;
                }
                Written::Ping(payload) => {
                    hold!(
                        payload != KEEPALIVE_PAYLOAD || config.ping_interval.is_some(),
                        "a keepalive ping that is not wanted"
                    );
                }
                Written::Pong(_) => {}
                Written::Close(code, reason) => {
                    *sent_close = Some((code.unwrap_or(1005), reason.to_vec()))
                }
            }
            Ok(())
        })
    }
}

impl End {
    /// Whether this end may have ended for this, given what it has done and what its peer is.
    fn may_end_for(&self, kind: ErrorKind, peer: &Self) -> Verdict {
        let peer_broke = !peer.is_ours;
        let over_limit = peer
            .accepted
            .iter()
            .position(|message| self.refuses(message));
        let possible = match kind {
            ErrorKind::Terminated => self.called_terminate || (self.called_close && !self.opened),
            ErrorKind::KeepaliveTimeout => self.config.ping_interval.is_some(),
            ErrorKind::IdleTimeout => self.config.idle_timeout.is_some(),
            ErrorKind::OverBudget => self.side == SERVER,
            ErrorKind::CloseTimeout | ErrorKind::Lost | ErrorKind::Stopped => true,
            ErrorKind::Protocol | ErrorKind::InvalidText | ErrorKind::InvalidDeflate => peer_broke,
            ErrorKind::MessageTooBig | ErrorKind::TooManyFragments => {
                peer_broke || over_limit == Some(self.received) || peer.breaks_amid(self)
            }
            ErrorKind::HandshakeTimeout | ErrorKind::Connect => self.side == CLIENT && !self.opened,
            ErrorKind::Refused => {
                self.side == CLIENT && (peer_broke || !matches!(peer.status, 0 | 101))
            }
            ErrorKind::Handshake | ErrorKind::HandshakeTooLarge => peer_broke && !self.opened,
            _ => false,
        };
        hold!(possible, "ended for {kind:?}, which nothing explains");
        Ok(())
    }

    /// Whether a message that is not finished is already above a limit of `receiver`, which has
    /// received everything before it.
    fn breaks_amid(&self, receiver: &Self) -> bool {
        self.accepted.len() == receiver.received
            && self.unfinished.as_ref().is_some_and(|message| {
                message.sent as u64 > receiver.config.max_message_bytes
                    || message.fragments.saturating_sub(1) > receiver.config.max_fragments
            })
    }

    /// In a few words, for reports.
    pub(crate) fn summary(&self) -> String {
        let mut text = format!(
            "accepted {} handed {} received {}",
            self.accepted.len(),
            self.handed,
            self.received
        );
        if let Some(closed) = &self.closed {
            let _ = write!(text, ", closed {} {:?}", closed.code, closed.error);
        }
        text
    }
}

/// The payload of a ping or pong with a number.
pub(crate) fn ping_payload(mark: u8, number: u64) -> Vec<u8> {
    let mut payload = vec![mark];
    payload.extend_from_slice(&number.to_be_bytes());
    payload.resize(9 + (number * 37 % 117) as usize, mark);
    payload
}

/// The code with which a connection is failed (RFC 6455 §7.4.1).
pub(crate) const fn code_for(kind: ErrorKind) -> u16 {
    match kind {
        ErrorKind::Protocol => 1002,
        ErrorKind::InvalidText | ErrorKind::InvalidDeflate => 1007,
        ErrorKind::TooManyFragments => 1008,
        ErrorKind::MessageTooBig => 1009,
        _ => 1011,
    }
}

/// The other side.
pub(crate) const fn other(side: usize) -> usize {
    match side {
        CLIENT => SERVER,
        _ => CLIENT,
    }
}
