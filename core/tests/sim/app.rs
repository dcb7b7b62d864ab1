//! The application: it listens to the loop, gives commands by chance, inside callbacks and outside,
//! and tells the model of everything it gave and was told.
//!
//! Does not know: the kernel's faults, or when a run ends.

use wsabi::{ErrorKind, Message};

use crate::chance::{self, Chance, Fault};
use crate::error::Error;
use crate::event::MessageType;
use crate::kernel::{self, CLIENT, SERVER};
use crate::memory;
use crate::net::conn::{Conn, State};
use crate::net::context::Context;
use crate::net::handler::{Answer, Handler, Handshake, Reply};
use crate::net::listener::Stopped;
use crate::net::number::{ConnId, ServerId};
use crate::net::socket::PeerAddr;
use crate::net::writing::Sent;
use crate::oracle::{Accepted, Talk, Unfinished, Verdict, fill, hold, ping_payload};
use crate::plant::{Plant, Planted};
use crate::protocol::connection::Closed;
use crate::protocol::handshake::response::Response;
use crate::protocol::handshake::server::Accept;
use crate::protocol::head::Request;

/// How an application behaves in a run.
#[derive(Clone, Debug)]
pub(crate) struct Temper {
    /// Whether it does, or suffers, what loses messages.
    pub(crate) is_rough: bool,
    /// In how many of 1000 callbacks it gives commands.
    pub(crate) storm: u64,
    /// The largest message.
    pub(crate) largest: u64,
    pub(crate) over_limit: u64,
    pub(crate) hold: u64,
    pub(crate) refuse: u64,
}

/// A connection that callbacks may be given for, and commands too.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Live {
    pub(crate) in_loop: usize,
    pub(crate) id: ConnId,
    pub(crate) link: usize,
    pub(crate) side: usize,
    /// Whether its request waits for an answer.
    pub(crate) is_held: bool,
}

pub(crate) struct App {
    pub(crate) chance: Chance,
    pub(crate) temper: Temper,
    pub(crate) talks: Vec<Talk>,
    pub(crate) live: Vec<Live>,
    /// The loop that is dispatching.
    pub(crate) active: usize,
    /// Commands left.
    pub(crate) budget: u32,
    /// From here on everything comes to its end.
    pub(crate) is_ending: bool,
    pub(crate) stop_began: bool,
    pub(crate) stopped: u32,
    /// Server ends that closed since the stop began.
    pub(crate) closed_since_stop: u64,
    /// Of those, the ones that had ended before it.
    pub(crate) over_before_stop: u64,
    /// The loops are being freed.
    pub(crate) is_freed: bool,
    pub(crate) callbacks: u64,
    pub(crate) violation: Option<String>,
    pub(crate) planted: Planted,
}

/// What belongs to the connection a command is given to.
fn place(conn: &Conn<'_>) -> Option<(usize, usize)> {
    let user = conn.user().checked_sub(1)? as usize;
    Some((user / 2, user % 2))
}

/// The application's number for an end of a link.
pub(crate) const fn user_number(link: usize, side: usize) -> u64 {
    (link * 2 + side + 1) as u64
}

fn of_library<T>(call: impl FnOnce() -> T) -> T {
    let _owner = memory::of_library();
    call()
}

impl App {
    /// Notes what was told, and that something in it is wrong, if so.
    fn told(
        &mut self,
        conn: &Conn<'_>,
        what: &str,
        judge: impl FnOnce(&mut Self, usize, usize) -> Verdict,
    ) {
        self.callbacks += 1;
        let Some((link, side)) = place(conn) else {
            return self.violate(format!("{what} for a connection that nobody knows"));
        };
        chance::number(user_number(link, side));
        chance::line(|| format!("{} {what}", kernel::name(link, side)));
        if let Err(error) = judge(self, link, side) {
            self.violate(format!("{}: {error}", kernel::name(link, side)));
        }
    }

    pub(crate) fn violate(&mut self, violation: String) {
        chance::line(|| format!("VIOLATION {violation}"));
        self.violation.get_or_insert(violation);
    }

    /// Commands, maybe, from inside a callback.
    fn storm(&mut self, conn: &mut Conn<'_>) {
        if self.is_ending || self.budget == 0 || !self.chance.hits(self.temper.storm) {
            return;
        }
        for _ in 0..self.chance.between(1, 5) {
            if self.live.is_empty() {
                return;
            }
            if self.chance.hits(600) {
                chance::hit(Fault::StormOnSelf);
                self.command(conn, true);
            } else {
                let live = *self.chance.pick(&self.live);
                if live.in_loop == self.active && live.id != conn.id() {
                    chance::hit(Fault::StormOnOthers);
                    let mut other = conn.context().conn(live.id);
                    self.command(&mut other, true);
                }
            }
        }
    }

    /// One command, whichever.
    pub(crate) fn command(&mut self, conn: &mut Conn<'_>, inside: bool) {
        let Some((link, side)) = place(conn) else {
            return;
        };
        self.budget = self.budget.saturating_sub(1);
        let before = conn.state();
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
            940..960 => self.answer(conn),
            // Closing what is not open yet terminates it.
            960..965 if rough || before == State::Open && self.temper.storm % 2 == 0 => {
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
        let payload = fill(link, side, number, is_text, len as usize);
        let message_type = if is_text {
            MessageType::Text
        } else {
            MessageType::Binary
        };
        let (before, state) = (conn.buffered(), conn.state());
        let sent = of_library(|| conn.send(message_type, &payload));
        chance::line(|| {
            format!(
                "{} sends {len} as {number}: {sent:?}",
                kernel::name(link, side)
            )
        });
        let amid = self.talks[link].ends[side].unfinished.is_some();
        if sent.is_ok() {
            hold!(!amid, "a message was accepted amid a fragmented one");
            self.planted.note_accepted(
                &mut self.talks[link].ends[side].accepted,
                Accepted {
                    is_text,
                    len: len as usize,
                    continued: 0,
                },
            );
        }
        self.judge_sent(conn, link, side, (before, state), len, amid, sent)
    }

    /// What every call that sends promises.
    fn judge_sent(
        &mut self,
        conn: &Conn<'_>,
        link: usize,
        side: usize,
        (before, state): (u64, State),
        len: u64,
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
                    before < high.max(1) || before + len <= most,
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
                        before >= high.max(1) && before + len > most,
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
            self.talks[link].ends[side].unfinished = Some(Unfinished {
                is_text,
                payload: fill(link, side, number, is_text, len),
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
        let message_type = if message.is_text {
            MessageType::Text
        } else {
            MessageType::Binary
        };
        let part = &message.payload[message.sent..message.sent + count];
        let (before, state) = (conn.buffered(), conn.state());
        let sent = of_library(|| conn.send_fragment(message_type, part, fin));
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
                    is_text: message.is_text,
                    len: message.payload.len(),
                    continued: message.fragments - 1,
                },
            );
        }
        self.judge_sent(conn, link, side, (before, state), count as u64, false, sent)
    }

    fn ping(&mut self, conn: &mut Conn<'_>, link: usize, side: usize) -> Verdict {
        let payload = ping_payload(b'p', self.talks[link].ends[side].pings);
        let (before, state) = (conn.buffered(), conn.state());
        let sent = of_library(|| conn.ping(&payload));
        self.talks[link].ends[side].pings += u64::from(sent.is_ok());
        self.judge_sent(
            conn,
            link,
            side,
            (before, state),
            payload.len() as u64,
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
            link,
            side,
            (before, state),
            payload.len() as u64,
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

    /// Takes in a server's connection that is heard of for the first time.
    fn adopt(&mut self, conn: &mut Conn<'_>) {
        let id = conn.id();
        let socket = conn
            .context()
            .slots
            .get(id)
            .and_then(|slot| slot.socket.as_ref().map(|socket| socket.fd()));
        let stream = socket.and_then(|fd| kernel::with(|kernel| kernel.stream(fd)));
        let Some((link, SERVER)) = stream else {
            return self.violate("a server's connection without a socket of its own".to_owned());
        };
        let _ = conn.set_user(user_number(link, SERVER));
        self.live.push(Live {
            in_loop: self.active,
            id,
            link,
            side: SERVER,
            is_held: false,
        });
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

impl Handler for App {
    fn on_upgrade(&mut self, conn: &mut Conn<'_>, _: &Request<'_>) -> Answer {
        let _owner = memory::of_simulator();
        self.adopt(conn);
        self.told(conn, "on_upgrade", |_, _, _| Ok(()));
        self.storm(conn);
        if self.is_ending || !self.temper.is_rough && self.temper.hold == 0 {
            return Answer::accept();
        }
        if self.chance.hits(self.temper.hold) {
            chance::hit(Fault::Held);
            let id = conn.id();
            if let Some(live) = self
                .live
                .iter_mut()
                .find(|live| live.id == id && live.in_loop == self.active)
            {
                live.is_held = true;
            }
            return Answer::Later;
        }
        if self.chance.hits(self.temper.refuse) {
            chance::hit(Fault::Refused);
            return Answer::refuse(403, "not you");
        }
        Answer::accept()
    }

    fn on_refusal(&mut self, conn: &mut Conn<'_>, _: &Request<'_>, _: &Error) -> bool {
        let _owner = memory::of_simulator();
        self.adopt(conn);
        self.told(conn, "on_refusal", |_, _, _| Ok(()));
        true
    }

    fn on_http(&mut self, conn: &mut Conn<'_>, _: &Request<'_>) -> Option<Response> {
        let _owner = memory::of_simulator();
        self.adopt(conn);
        self.told(conn, "on_http", |_, _, _| Ok(()));
        Some(Response::upgrade_required("WebSocket only"))
    }

    fn on_open(&mut self, conn: &mut Conn<'_>, _: Handshake<'_>) {
        let _owner = memory::of_simulator();
        self.told(conn, "on_open", |this, link, side| {
            this.talks[link].ends[side].on_open()
        });
        if let Some(live) = self
            .live
            .iter_mut()
            .find(|live| live.id == conn.id() && live.in_loop == self.active)
        {
            live.is_held = false;
        }
        if self.is_ending
            && let Some((link, side)) = place(conn)
            && side == CLIENT
        {
            // May have ended in the moment it opened.
            let _ = self.close(conn, link, side);
        }
        self.storm(conn);
    }

    fn on_message(&mut self, conn: &mut Conn<'_>, message: Message<'_>) {
        let _owner = memory::of_simulator();
        chance::bytes(message.as_bytes());
        let is_text = message.text().is_some();
        for payload in self.planted.messages(message.as_bytes()) {
            self.told(conn, "on_message", |this, link, side| {
                chance::line(|| {
                    format!("{} message of {}", kernel::name(link, side), payload.len())
                });
                this.talks[link].on_message(link, side, is_text, &payload)
            });
        }
        self.storm(conn);
    }

    fn on_drain(&mut self, conn: &mut Conn<'_>) {
        let _owner = memory::of_simulator();
        self.told(conn, "on_drain", |this, link, side| {
            this.talks[link].ends[side].on_drain()
        });
        self.storm(conn);
    }

    fn on_ping(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {
        let _owner = memory::of_simulator();
        self.told(conn, "on_ping", |this, link, side| {
            this.talks[link].on_ping(side, payload)
        });
        self.storm(conn);
    }

    fn on_pong(&mut self, conn: &mut Conn<'_>, payload: &[u8]) {
        let _owner = memory::of_simulator();
        self.told(conn, "on_pong", |this, link, side| {
            this.talks[link].on_pong(side, payload)
        });
        self.storm(conn);
    }

    fn on_reply(&mut self, conn: &mut Conn<'_>, reply: Reply<'_>) -> bool {
        let _owner = memory::of_simulator();
        match reply {
            Reply::Pong => self.told(conn, "answers a ping", |this, link, side| {
                this.talks[link].on_answering(side)
            }),
            Reply::Close(close) => {
                let (code, reason) = (close.code.as_u16(), close.reason.to_owned());
                self.told(conn, "hears Close", |this, link, side| {
                    this.talks[link].on_peer_close(side, code, &reason)
                });
            }
            Reply::Fail(error) => {
                let kind = error.kind();
                self.told(conn, "fails", |this, link, side| {
                    this.talks[link].ends[side].on_failing(kind)
                });
            }
        }
        if !matches!(reply, Reply::Fail(_)) {
            self.storm(conn);
        }
        true
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, closed: &Closed) {
        let _owner = memory::of_simulator();
        for _ in 0..self.planted.times(Plant::OmitsClose, Plant::DoublesClose) {
            self.told(conn, "on_close", |this, link, side| {
                chance::line(|| {
                    format!(
                        "{} closed {} {:?}",
                        kernel::name(link, side),
                        closed.code,
                        closed.error
                    )
                });
                if side == SERVER && this.stop_began {
                    this.closed_since_stop += 1;
                }
                let rough = this.temper.is_rough;
                this.talks[link].on_close(side, closed, rough)
            });
        }
        let id = conn.id();
        self.live
            .retain(|live| live.id != id || live.in_loop != self.active);
        if conn.state() != State::Closed || of_library(|| conn.send_text("late")).is_ok() {
            self.violate("a connection takes messages inside on_close".to_owned());
        }
        self.storm(conn);
    }

    fn on_error(&mut self, _: &mut Context, _: ServerId, error: &Error, _: Option<&PeerAddr>) {
        let _owner = memory::of_simulator();
        self.callbacks += 1;
        chance::number(error.kind() as u64);
        chance::line(|| format!("on_error {error}"));
        if matches!(
            error.kind(),
            ErrorKind::Panic | ErrorKind::NoMemory | ErrorKind::Invalid
        ) {
            self.violate(format!("on_error: {error}"));
        }
    }

    fn on_stopped(&mut self, _: &mut Context, _: ServerId, counts: Stopped) {
        let _owner = memory::of_simulator();
        self.callbacks += 1;
        self.stopped += 1;
        chance::line(|| format!("on_stopped {counts:?}"));
        let told = self.closed_since_stop - self.over_before_stop.min(self.closed_since_stop);
        if counts.clean + counts.forced != told && !self.is_freed {
            self.violate(format!(
                "on_stopped counts {counts:?}, but {told} connections were closed since"
            ));
        }
    }
}
