//! The commands that the application gives, and what each call has promised by its result.
//!
//! Does not know: when a command is given, or what comes of it later.

use std::cell::Cell;

use wsabi::ErrorKind;

use crate::app::{App, Live, of_library, place};
use crate::chance::{self, Fault};
use crate::config::Compress;
use crate::error::Error;
use crate::event::MessageType;
use crate::kernel::{self, SERVER};
use crate::net::conn::{Conn, State};
use crate::net::writing::Sent;
use crate::oracle::{Accepted, Unfinished, Verdict, fill, hold, key, ping_payload};
use crate::protocol::handshake::response::Response;
use crate::protocol::handshake::server::Accept;
use crate::protocol::prepared::Prepared;
use bytes::Bytes;

const COMPRESS: &[Compress] = &[Compress::Auto, Compress::Always, Compress::Never];

const fn type_of(is_text: bool) -> MessageType {
    if is_text {
        MessageType::Text
    } else {
        MessageType::Binary
    }
}

thread_local! {
    static OWNED: Cell<i64> = const { Cell::new(0) };
}

/// A payload with an owner, which is to be let go of once.
struct Owned(Vec<u8>);

impl Owned {
    fn new(payload: Vec<u8>) -> Self {
        OWNED.set(OWNED.get() + 1);
        Self(payload)
    }
}

impl AsRef<[u8]> for Owned {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Owned {
    fn drop(&mut self) {
        OWNED.set(OWNED.get() - 1);
    }
}

/// Payloads of this thread that were given to the library, and that it has not let go of.
pub(crate) fn owned() -> i64 {
    OWNED.get()
}

impl App {
    /// One command, whichever.
    pub(crate) fn command(&mut self, conn: &mut Conn<'_>, inside: bool) {
        let Some((link, side)) = place(conn) else {
            return;
        };
        self.budget = self.budget.saturating_sub(1);
        let before = conn.state();
        if let Err(error) = self.talks[link].ends[side].learn(conn.deflate()) {
            self.violate(error);
        }
        let choice = self.chance.below(1000);
        chance::number(choice);
        let rough = self.temper.is_rough;
        let result = match choice {
            0..480 => self.send(conn, link, side),
            480..640 => self.fragment(conn, link, side),
            640..720 => self.ping(conn, link, side),
            720..760 => self.pong(conn, link, side),
            760..820 => self.pause(conn, link, side),
            820..900 => self.resume(conn, link, side),
            900..940 => {
                // What only lingers is closed for everything else, and can be flushed.
                let flushed = of_library(|| conn.flush());
                hold_result(
                    flushed.or_else(|error| {
                        if before == State::Closed {
                            Ok(())
                        } else {
                            Err(error)
                        }
                    }),
                    true,
                )
            }
            940..948 => self.answer(conn),
            948..953 => {
                chance::hit(Fault::Yield);
                conn.context().yield_dispatch();
                Ok(())
            }
            969..1000 => self.broadcast(conn),
            // Closing what is not open yet terminates it.
            960..965 if rough || before == State::Open && self.temper.closes => {
                if inside {
                    chance::hit(Fault::CloseInside);
                }
                self.close(conn, link, side)
            }
            965..969 if rough => {
                if inside {
                    chance::hit(Fault::TerminateInside);
                }
                self.terminate(conn, link, side)
            }
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.violate(format!("{}: {error}", kernel::name(link, side)));
        }
    }

    fn send(&mut self, conn: &mut Conn<'_>, link: usize, side: usize) -> Verdict {
        let talk = &self.talks[link];
        let (end, peer) = (&talk.ends[side], &talk.ends[1 - side]);
        let mut len = self.chance.scale(self.temper.largest);
        if peer.is_ours && len > peer.config.max_message_bytes {
            if self.temper.is_rough && self.chance.hits(self.temper.over_limit) {
                chance::hit(Fault::OverLimit);
            } else {
                len = peer.config.max_message_bytes;
            }
        }
        let (number, is_text) = (end.accepted.len(), self.chance.coin());
        let key = key(link, side, number);
        let payload = fill(key, is_text, len as usize);
        let message_type = type_of(is_text);
        let compress = *self.chance.pick(COMPRESS);
        let (before, state) = (conn.buffered(), conn.state());
        let way = self.chance.below(6);
        let sent = match way {
            0 => {
                chance::hit(Fault::Owned);
                let payload = Bytes::from_owner(Owned::new(payload));
                of_library(|| conn.send_owned(message_type, &payload, compress))
            }
            1 => {
                let prepared = of_library(|| Prepared::new(message_type, payload, compress));
                let prepared =
                    prepared.map_err(|error| format!("a message is refused: {error}"))?;
                of_library(|| conn.send_prepared(&prepared))
            }
            2 => of_library(|| conn.send_with(message_type, &payload, compress)),
            _ => of_library(|| conn.send(message_type, &payload)),
        };
        chance::line(|| {
            let place = kernel::name(link, side);
            format!("{place} sends {len} as {number}, way {way}: {sent:?}")
        });
        let amid = self.talks[link].ends[side].unfinished.is_some();
        if sent.is_ok() {
            hold!(!amid, "a message was accepted amid a fragmented one");
            self.planted.note_accepted(
                &mut self.talks[link].ends[side].accepted,
                Accepted {
                    key,
                    is_text,
                    len: len as usize,
                    continued: 0,
                },
            );
        }
        // What is prepared counts as long as it is when compressed.
        let len = if way == 1 && self.temper.deflates {
            None
        } else {
            Some(len)
        };
        self.judge_sent(conn, (link, side), (before, state), len, amid, sent)
    }

    /// One message to several connections, that of `conn` among them or not.
    fn broadcast(&mut self, conn: &mut Conn<'_>) -> Verdict {
        let (is_text, to_server) = (self.chance.coin(), self.chance.hits(300));
        let mut to: Vec<Live> = self.live.clone();
        to.retain(|live| live.in_loop == self.active && (to_server || self.chance.coin()));
        let server = conn.server();
        if to_server {
            to.retain(|live| live.side == SERVER);
        }
        let most = to
            .iter()
            .map(|live| &self.talks[live.link].ends[1 - live.side]);
        let most = most
            .filter(|peer| peer.is_ours)
            .map(|peer| peer.config.max_message_bytes);
        let len = self
            .chance
            .scale(self.temper.largest)
            .min(most.min().unwrap_or(u64::MAX));
        self.broadcasts += 1;
        let key = self.broadcasts << 52 | 0xbbbb;
        let payload = fill(key, is_text, len as usize);
        let prepared =
            of_library(|| Prepared::new(type_of(is_text), payload, *self.chance.pick(COMPRESS)));
        let prepared = prepared.map_err(|error| format!("a message is refused: {error}"))?;
        let except = self.chance.coin().then(|| conn.id());
        let mut expected = (0, 0);
        let mut getting = Vec::new();
        for live in &to {
            let other = conn.context().conn(live.id);
            let is_left_out = to_server && except == Some(live.id);
            if other.state() != State::Open || is_left_out {
                continue;
            }
            let (before, end) = (other.buffered(), &mut self.talks[live.link].ends[live.side]);
            end.learn(other.deflate())?;
            let high = end.config.high_water_bytes.max(1);
            let is_full = before >= high && before + len > end.config.max_backlog_bytes;
            if is_full && self.temper.deflates {
                // It may fit when compressed, and nothing tells.
                return Ok(());
            }
            if is_full || end.unfinished.is_some() {
                expected.1 += 1;
                end.may_drain |= is_full;
            } else {
                expected.0 += 1;
                end.may_drain = true;
                getting.push((live.link, live.side));
            }
        }
        chance::hit(Fault::Broadcast);
        let ids: Vec<_> = to.iter().map(|live| live.id).collect();
        let reached = match (server, to_server) {
            (Some(server), true) => {
                of_library(|| conn.context().broadcast_server(server, &prepared, except))
            }
            (None, true) => return Ok(()),
            _ => of_library(|| conn.context().broadcast(&prepared, &ids)),
        };
        chance::line(|| format!("broadcast of {len} to {getting:?}: {reached:?}"));
        let reached = match reached {
            Ok(reached) => reached,
            Err(error) if to_server && error.kind() == ErrorKind::Closed => return Ok(()),
            Err(error) => return Err(format!("a broadcast failed: {error}")),
        };
        hold!(
            (reached.sent, reached.refused) == expected,
            "a broadcast says {reached:?}; expected {expected:?}"
        );
        for (link, side) in getting {
            let accepted = &mut self.talks[link].ends[side].accepted;
            accepted.push(Accepted {
                key,
                is_text,
                len: len as usize,
                continued: 0,
            });
        }
        Ok(())
    }

    /// What every call that sends promises.
    fn judge_sent(
        &mut self,
        conn: &Conn<'_>,
        (link, side): (usize, usize),
        (before, state): (u64, State),
        len: Option<u64>,
        may_be_amid: bool,
        sent: Result<Sent, Error>,
    ) -> Verdict {
        let end = &mut self.talks[link].ends[side];
        let (high, most) = (end.config.high_water_bytes, end.config.max_backlog_bytes);
        let after = conn.buffered();
        match sent {
            Ok(sent) => {
                hold!(state == State::Open, "a send was accepted while {state:?}");
                hold!(
                    !end.called_terminate && end.closed.is_none(),
                    "a send was accepted after the end"
                );
                hold!(
                    before < high.max(1) || len.is_none_or(|len| before + len <= most),
                    "a send was accepted above the backlog's limit"
                );
                let is_pressed = sent == Sent::Backpressure;
                hold!(
                    is_pressed == (after > high),
                    "{after} bytes wait, high water is {high}: {sent:?}"
                );
                if is_pressed {
                    chance::hit(Fault::Backpressure);
                    end.owed_drain = true;
                }
            }
            Err(error) => match error.kind() {
                ErrorKind::Full => {
                    chance::hit(Fault::RefusedFull);
                    hold!(before == after, "a refused send changed the backlog");
                    hold!(
                        before >= high.max(1) && len.is_none_or(|len| before + len > most),
                        "refused as full with {before} bytes waiting"
                    );
                    end.owed_drain = true;
                }
                ErrorKind::Closed => hold!(
                    state != State::Open,
                    "a send was refused as closed while open"
                ),
                ErrorKind::State => hold!(
                    state == State::Connecting || (may_be_amid && state == State::Open),
                    "a send was refused for its state while {state:?}"
                ),
                kind => return Err(format!("a send was refused: {kind:?}")),
            },
        }
        Ok(())
    }

    fn fragment(&mut self, conn: &mut Conn<'_>, link: usize, side: usize) -> Verdict {
        if self.talks[link].ends[side].unfinished.is_none() {
            let most = self.talks[link].ends[1 - side].config.max_message_bytes;
            let len = self.chance.scale(self.temper.largest).min(most) as usize;
            let number = self.talks[link].ends[side].accepted.len();
            let is_text = self.chance.coin();
            let key = key(link, side, number);
            self.talks[link].ends[side].unfinished = Some(Unfinished {
                key,
                compress: *self.chance.pick(COMPRESS),
                is_text,
                payload: fill(key, is_text, len),
                sent: 0,
                fragments: 0,
            });
        }
        let limit = self.talks[link].ends[1 - side].config.max_fragments;
        let end = &mut self.talks[link].ends[side];
        let Some(message) = &mut end.unfinished else {
            return Ok(());
        };
        let left = message.payload.len() - message.sent;
        let may_go_on = self.temper.is_rough || message.fragments < limit;
        let (count, fin) = if self.chance.hits(350) || !may_go_on {
            (left, true)
        } else {
            (self.chance.scale(left as u64) as usize, false)
        };
        let (message_type, compress) = (type_of(message.is_text), message.compress);
        let part = &message.payload[message.sent..message.sent + count];
        let (before, state) = (conn.buffered(), conn.state());
        let sent = of_library(|| conn.send_fragment_with(message_type, part, fin, compress));
        chance::line(|| {
            format!(
                "{} sends a fragment of {count}, fin {fin}: {sent:?}",
                kernel::name(link, side)
            )
        });
        let begun = message.fragments > 0;
        if sent.is_ok() {
            message.sent += count;
            message.fragments += 1;
        } else if !begun {
            end.unfinished = None;
        }
        if let Some(message) = end.unfinished.take_if(|_| fin && sent.is_ok()) {
            if message.fragments > 1 {
                chance::hit(Fault::Fragments);
            }
            self.planted.note_accepted(
                &mut end.accepted,
                Accepted {
                    key: message.key,
                    is_text: message.is_text,
                    len: message.payload.len(),
                    continued: message.fragments - 1,
                },
            );
        }
        self.judge_sent(
            conn,
            (link, side),
            (before, state),
            Some(count as u64),
            false,
            sent,
        )
    }

    fn ping(&mut self, conn: &mut Conn<'_>, link: usize, side: usize) -> Verdict {
        let payload = ping_payload(b'p', self.talks[link].ends[side].pings);
        let (before, state) = (conn.buffered(), conn.state());
        let sent = of_library(|| conn.ping(&payload));
        self.talks[link].ends[side].pings += u64::from(sent.is_ok());
        self.judge_sent(
            conn,
            (link, side),
            (before, state),
            Some(payload.len() as u64),
            false,
            sent,
        )
    }

    fn pong(&mut self, conn: &mut Conn<'_>, link: usize, side: usize) -> Verdict {
        let payload = ping_payload(b'u', self.talks[link].ends[side].pongs);
        let (before, state) = (conn.buffered(), conn.state());
        let sent = of_library(|| conn.pong(&payload));
        self.talks[link].ends[side].pongs += u64::from(sent.is_ok());
        self.judge_sent(
            conn,
            (link, side),
            (before, state),
            Some(payload.len() as u64),
            false,
            sent,
        )
    }

    fn pause(&mut self, conn: &mut Conn<'_>, link: usize, side: usize) -> Verdict {
        let state = conn.state();
        let paused = of_library(|| conn.pause());
        if paused.is_ok() {
            chance::hit(Fault::SlowReader);
            chance::line(|| format!("{} pauses", kernel::name(link, side)));
            self.talks[link].ends[side].paused = true;
        }
        hold_result(paused, matches!(state, State::Open | State::Closing))
    }

    pub(crate) fn resume(&mut self, conn: &mut Conn<'_>, link: usize, side: usize) -> Verdict {
        let state = conn.state();
        let resumed = of_library(|| conn.resume());
        if resumed.is_ok() {
            chance::line(|| format!("{} resumes", kernel::name(link, side)));
            self.talks[link].ends[side].paused = false;
        }
        hold_result(resumed, matches!(state, State::Open | State::Closing))
    }

    pub(crate) fn close(&mut self, conn: &mut Conn<'_>, link: usize, side: usize) -> Verdict {
        let state = conn.state();
        let code = *self
            .chance
            .pick(&[None, Some(1000), Some(1001), Some(3000), Some(4999)]);
        let reason = code.map_or("", |_| *self.chance.pick(&["", "done", "über"]));
        let closed = of_library(|| conn.close(code, reason));
        chance::line(|| {
            format!(
                "{} calls close {code:?}: {closed:?}",
                kernel::name(link, side)
            )
        });
        if closed.is_ok() {
            self.talks[link].ends[side].called_close = true;
        }
        hold_result(closed, matches!(state, State::Open | State::Connecting))
    }

    fn terminate(&mut self, conn: &mut Conn<'_>, link: usize, side: usize) -> Verdict {
        let state = conn.state();
        let ended = of_library(|| conn.terminate());
        chance::line(|| format!("{} calls terminate: {ended:?}", kernel::name(link, side)));
        if ended.is_ok() {
            self.talks[link].ends[side].called_terminate = true;
        }
        hold_result(ended, state != State::Closed)
    }

    /// Answers a request that was held, if it is one.
    pub(crate) fn answer(&mut self, conn: &mut Conn<'_>) -> Verdict {
        let id = conn.id();
        let Some(live) = self
            .live
            .iter_mut()
            .find(|live| live.id == id && live.in_loop == self.active && live.is_held)
        else {
            return Ok(());
        };
        live.is_held = false;
        if self.chance.hits(self.temper.refuse) {
            chance::hit(Fault::Refused);
            let response = Response::text(503, "not now");
            let _ = of_library(|| conn.respond(&response));
        } else {
            // It may have ended meanwhile.
            let _ = of_library(|| conn.accept(&Accept::default()));
        }
        Ok(())
    }
}

/// A command succeeds exactly when it may.
fn hold_result(result: Result<(), Error>, may: bool) -> Verdict {
    match result {
        Ok(()) => hold!(may, "a command was obeyed that could not be"),
        Err(error) => hold!(!may, "a command was refused: {error}"),
    }
    Ok(())
}
