//! The application: it listens to the loop, gives commands by chance inside callbacks, and tells the
//! model of everything it was told.
//!
//! Does not know: the kernel's faults, what the commands are, or when a run ends.

use wsabi::{Config, ErrorKind, Message};

use crate::chance::{self, Chance, Fault};
use crate::error::Error;
use crate::event::Chunk;
use crate::kernel::{self, CLIENT, Plan, SERVER};
use crate::memory;
use crate::net::conn::{Conn, State};
use crate::net::connector::ClientOptions;
use crate::net::context::Context;
use crate::net::handler::{Answer, Handler, Handshake, Reply};
use crate::net::listener::Stopped;
use crate::net::number::{ConnId, ServerId};
use crate::net::socket::PeerAddr;
use crate::oracle::{End, Talk, Verdict, hold};
use crate::plant::{Plant, Planted};
use crate::protocol::connection::Closed;
use crate::protocol::handshake::response::Response;
use crate::protocol::head::Request;
use crate::world::SERVER_ADDRESS;

/// How an application behaves in a run.
#[derive(Clone, Debug)]
pub(crate) struct Temper {
    /// Whether it does, or suffers, what loses messages.
    pub(crate) is_rough: bool,
    /// Whether both sides compress.
    pub(crate) deflates: bool,
    /// In how many of 1000 callbacks it gives commands.
    pub(crate) storm: u64,
    /// Whether it closes amid everything.
    pub(crate) closes: bool,
    /// The largest message.
    pub(crate) largest: u64,
    pub(crate) over_limit: u64,
    pub(crate) hold: u64,
    pub(crate) refuse: u64,
    /// Whether it answers pings itself, or not.
    pub(crate) leaves_pongs: bool,
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
    /// What the next connection is that is made inside a callback.
    pub(crate) spare: Option<(Plan, Config)>,
    pub(crate) server_config: Config,
    pub(crate) scratch: Vec<u8>,
    pub(crate) broadcasts: u64,
    pub(crate) violation: Option<String>,
    pub(crate) planted: Planted,
}

/// What belongs to the connection a command is given to.
pub(crate) fn place(conn: &Conn<'_>) -> Option<(usize, usize)> {
    let user = conn.user().checked_sub(1)? as usize;
    Some((user / 2, user % 2))
}

/// The application's number for an end of a link.
pub(crate) const fn user_number(link: usize, side: usize) -> u64 {
    (link * 2 + side + 1) as u64
}

pub(crate) fn of_library<T>(call: impl FnOnce() -> T) -> T {
    let _owner = memory::of_library();
    call()
}

impl Live {
    pub(crate) const fn client(in_loop: usize, id: ConnId, link: usize) -> Self {
        Self {
            in_loop,
            id,
            link,
            side: CLIENT,
            is_held: false,
        }
    }
}

/// What a client connects with.
pub(crate) fn client_options(link: usize, config: Config, offers: bool) -> ClientOptions {
    let mut options = ClientOptions {
        config,
        user: user_number(link, CLIENT),
        ..ClientOptions::default()
    };
    if offers {
        options.request.subprotocols = vec!["a".to_owned(), "b".to_owned()];
    }
    options
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

    /// Connects again, from inside a callback.
    fn reconnect(&mut self, conn: &mut Conn<'_>) {
        if self.is_ending || self.is_freed || !self.chance.hits(300) {
            return;
        }
        let Some((plan, config)) = self.spare.take() else {
            return;
        };
        chance::hit(Fault::ConnectInside);
        kernel::with(|kernel| kernel.next_plan = Some(plan));
        let link = self.talks.len();
        let ends = [
            End::new(CLIENT, &config, true),
            End::new(SERVER, &self.server_config, true),
        ];
        self.talks.push(Talk { ends });
        let options = client_options(link, config, false);
        let url = format!("ws://{SERVER_ADDRESS}/{link}");
        match of_library(|| conn.context().connect(&url, &options)) {
            Ok(id) => self.live.push(Live::client(self.active, id, link)),
            Err(error) => self.violate(format!("connect inside a callback: {error}")),
        }
    }

    /// Reads what every end of the library has handed to the kernel.
    pub(crate) fn look_at_wires(&mut self) -> Verdict {
        for link in 0..self.talks.len() {
            for side in [CLIENT, SERVER] {
                kernel::with(|kernel| kernel.take_tap(link, side, &mut self.scratch));
                if !self.scratch.is_empty() && self.talks[link].ends[side].is_ours {
                    let written = self.talks[link].on_written(side, &self.scratch);
                    written.map_err(|error| format!("{}: {error}", kernel::name(link, side)))?;
                }
            }
        }
        Ok(())
    }

    /// The counts of a server that has stopped are those of the model.
    fn judge_stopped(&mut self, counts: Stopped) -> Verdict {
        self.look_at_wires()?;
        let told = self.closed_since_stop.saturating_sub(self.over_before_stop);
        hold!(
            counts.clean + counts.forced == told,
            "on_stopped counts {counts:?}, but {told} connections were closed since"
        );
        let ends = self.talks.iter().map(|talk| &talk.ends[SERVER]);
        let since = ends.filter(|end| end.closed_since_stop);
        let dropped: u64 = since
            .map(|end| (end.accepted.len() - end.handed) as u64)
            .sum();
        let is_exact = self.over_before_stop == 0;
        hold!(
            counts.messages_dropped == dropped || (!is_exact && counts.messages_dropped < dropped),
            "on_stopped counts {counts:?}, but {dropped} messages were dropped"
        );
        Ok(())
    }

    /// A message has come, whole or in chunks.
    fn message(&mut self, conn: &Conn<'_>, is_text: bool, payload: &[u8]) {
        chance::bytes(payload);
        for payload in self.planted.messages(payload) {
            self.told(conn, "on_message", |this, link, side| {
                let place = kernel::name(link, side);
                chance::line(|| format!("{place} message of {}", payload.len()));
                this.talks[link].on_message(side, is_text, &payload)
            });
        }
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
        let agreed = conn.deflate();
        self.told(conn, "on_open", |this, link, side| {
            this.talks[link].ends[side].on_open(agreed)
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
        self.message(conn, message.text().is_some(), message.as_bytes());
        self.storm(conn);
    }

    fn on_chunk(&mut self, conn: &mut Conn<'_>, chunk: Chunk<'_>) {
        let _owner = memory::of_simulator();
        let (is_text, data) = (chunk.data.text().is_some(), chunk.data.as_bytes());
        let mut whole = None;
        self.told(conn, "on_chunk", |this, link, side| {
            let flags = (chunk.first, chunk.last);
            whole = this.talks[link].on_chunk(side, is_text, data, flags)?;
            Ok(())
        });
        if !chunk.last {
            chance::hit(Fault::Chunks);
        }
        if let Some(whole) = whole {
            self.message(conn, is_text, &whole);
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
        if self.temper.leaves_pongs && self.chance.hits(800) {
            // It may be closed meanwhile.
            let _ = of_library(|| conn.answer_ping(payload));
        }
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
        !self.temper.leaves_pongs
    }

    fn on_close(&mut self, conn: &mut Conn<'_>, closed: &Closed) {
        let _owner = memory::of_simulator();
        if let Err(error) = self.look_at_wires() {
            self.violate(error);
        }
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
                    this.talks[link].ends[side].closed_since_stop = true;
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
        self.reconnect(conn);
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
        if !self.is_freed
            && let Err(error) = self.judge_stopped(counts)
        {
            self.violate(error);
        }
    }
}
