//! One run of a script under a plan of faults, and the judgement of it.
//!
//! Does not know: the scripts, or which faults there are.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::rc::Rc;
use std::time::{Duration, Instant};

use wsabi::net::sys::faults::{self, Plan};
use wsabi::{
    ClientOptions, Config, Conn, ConnId, Error, ErrorKind, Loop, MessageType, Result, ServerId,
    ServerOptions,
};

use crate::net::app::{App, Told};
use crate::net::peer::Peer;
use crate::net::{PATIENCE, TempPath, calm, kind, ms};

/// Polls in a row that may come to nothing, before their time was up.
const FRUITLESS: usize = 40;

/// What may become of a script when one call fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// The application sees nothing of it.
    None,
    /// All goes well in the end, and the application is told: by an error of the call or of the
    /// server.
    Told,
    /// Whatever it suffers ends as it should.
    Harm,
}

/// What every connection sent, whole messages only.
pub type Sent = Rc<RefCell<HashMap<ConnId, Vec<Vec<u8>>>>>;

/// What became of every connection, by the target of its request.
pub type Outcome = BTreeMap<String, Vec<String>>;

/// A loop amid a script.
pub struct Run {
    /// For messages: the script and the plan.
    what: String,
    pub lp: Loop,
    pub app: App,
    pub sent: Sent,
    pub config: Config,
    pub socket_file: TempPath,
    /// Whether something may be wrong for good.
    harmed: bool,
    clients: Vec<(ConnId, String)>,
    servers: Vec<ServerId>,
    /// Errors of polls.
    failed_polls: usize,
    fruitless: usize,
    deadline: Instant,
    begun: Instant,
}

pub type Script = fn(&mut Run) -> Result<()>;

/// Sends a message and notes that it was accepted.
pub fn say(sent: &Sent, conn: &mut Conn<'_>, message_type: MessageType, payload: &[u8]) {
    if conn.send(message_type, payload).is_ok() {
        said(sent, conn.id(), payload);
    }
}

/// Notes a message that was accepted.
pub fn said(sent: &Sent, id: ConnId, payload: &[u8]) {
    let mut all = sent.borrow_mut();
    all.entry(id).or_default().push(payload.to_vec());
}

/// Runs a script without faults, or under a plan, and judges what can be judged alone.
pub fn perform(name: &str, script: Script, plan: Option<Plan>, effect: Effect) -> Outcome {
    let what = format!("{name} under {plan:?}");
    let before = descriptors();
    // The socket file is not the loop's.
    faults::plan(plan);
    let outcome = match Run::new(what.clone(), effect == Effect::Harm) {
        Ok(mut run) => run.go(script, effect),
        Err(error) => {
            assert!(
                plan.is_some() && effect == Effect::Harm,
                "{what}: no loop: {error}"
            );
            Outcome::new()
        }
    };
    let deadline = Instant::now() + PATIENCE;
    // A thread that resolved a name may not be gone yet.
    while descriptors() != before {
        assert!(Instant::now() < deadline, "{what}: descriptors are left");
        std::thread::yield_now();
    }
    outcome
}

/// The calling thread's, which has a table of its own.
fn descriptors() -> usize {
    std::fs::read_dir("/proc/thread-self/fd").unwrap().count()
}

impl Run {
    fn new(what: String, harmed: bool) -> Result<Self> {
        let mut config = calm();
        if harmed {
            config.handshake_timeout = ms(150);
            config.hold_timeout = ms(150);
            config.close_timeout = ms(150);
        }
        let now = Instant::now();
        Ok(Self {
            what,
            lp: Loop::new()?,
            app: App::default(),
            sent: Sent::default(),
            config,
            socket_file: TempPath::new(),
            harmed,
            clients: Vec::new(),
            servers: Vec::new(),
            failed_polls: 0,
            fruitless: 0,
            deadline: now + PATIENCE,
            begun: now,
        })
    }

    fn go(&mut self, script: Script, effect: Effect) -> Outcome {
        let what = self.what.clone();
        let result = script(self);
        if let Err(error) = &result {
            // Times are short then, and on a busy machine they may run out without any fault.
            let allowed = effect == Effect::Harm;
            let summary = self.app.summary();
            assert!(allowed, "{what}: {error}; {summary}");
        }
        self.wind_up(&what);
        let shortages = self.app.errors().into_iter();
        let shortages = shortages.filter(|error| error.kind() == ErrorKind::Io);
        let told = self.failed_polls + shortages.count();
        if effect == Effect::Told && faults::struck() > 0 {
            assert_eq!(told, 1, "{what}: {}", self.app.summary());
        }
        self.check_order(&what);
        self.outcome()
    }

    /// Ends what is left, which has to work whatever happened before.
    fn wind_up(&mut self, what: &str) {
        for (id, _) in self.clients.clone() {
            // Most are closed.
            let _ = self.lp.conn(id).close(Some(1001), "winding up");
        }
        for server in self.servers.clone() {
            // A script may have stopped it.
            let _ = self.lp.stop_server(server, ms(150));
        }
        while !self.lp.is_done() {
            self.check_time("winding up");
            self.poll(ms(100));
        }
        // The last may have left something that nobody needs any more.
        self.poll(Duration::ZERO);
        assert_eq!(self.lp.timeout(), None, "{what}: a timer is left");
        let stats = self.lp.stats();
        let left = (
            stats.connections,
            stats.pending_handshakes,
            stats.buffered_bytes,
        );
        assert_eq!(left, (0, 0, 0), "{what}: {stats:?}");
        for (id, target) in &self.clients {
            assert!(self.app.closed(*id).is_some(), "{what}: no end of {target}");
        }
        self.app.check_all_closed();
        let closes = stats.closes_clean
            + stats.closes_lost
            + stats.closes_protocol
            + stats.closes_timeout
            + stats.closes_local;
        assert_eq!(closes, self.app.established, "{what}: {stats:?}");
        assert_eq!(stats.messages_received, self.app.messages, "{what}");
    }

    fn check_time(&self, when: &str) {
        assert!(
            Instant::now() < self.deadline,
            "{}: it hangs {when}; {}",
            self.what,
            self.app.summary()
        );
    }

    /// One poll, which may fail, but not come to nothing all the time.
    pub fn poll(&mut self, wait: Duration) {
        let state = |run: &Self| (run.app.told.len(), run.lp.stats(), faults::struck());
        let (before, begun) = (state(self), Instant::now());
        if let Err(error) = self.lp.poll(Some(wait), &mut self.app) {
            assert_eq!(error.kind(), ErrorKind::Io, "{error}");
            self.failed_polls += 1;
            assert!(self.failed_polls < 10, "{error}");
        }
        if state(self) != before || begun.elapsed() >= wait {
            self.fruitless = 0;
        }
        self.fruitless += 1;
        assert!(
            self.fruitless < FRUITLESS,
            "{}: it spins; {}",
            self.what,
            self.app.summary()
        );
    }

    /// Runs until `done`, or until nothing is left that could bring it about.
    pub fn until(&mut self, done: impl Fn(&Self) -> bool) -> Result<()> {
        while !done(self) {
            if self.is_over() {
                return Err(Error::new(ErrorKind::Lost, "it ended before"));
            }
            self.check_time("until something happens");
            self.poll(ms(100));
        }
        Ok(())
    }

    /// Whether every connection has ended, or those that wait for a raw peer have waited enough.
    fn is_over(&self) -> bool {
        let mut ended = self
            .clients
            .iter()
            .map(|(id, _)| self.app.closed(*id).is_some());
        if self.clients.is_empty() {
            return self.harmed && self.begun.elapsed() > ms(400);
        }
        ended.all(|ended| ended) && self.lp.stats().connections == 0
    }

    /// Runs until a raw peer has seen the end of its connection.
    pub fn until_end(&mut self, peer: &mut Peer) -> Result<()> {
        loop {
            peer.pump();
            if peer.end.is_some() {
                return Ok(());
            }
            self.wait_for_peer()?;
        }
    }

    /// Runs for a moment on behalf of a raw peer, unless it has waited enough.
    pub fn wait_for_peer(&mut self) -> Result<()> {
        if self.is_over() {
            return Err(Error::new(ErrorKind::Lost, "the peer was left alone"));
        }
        self.check_time("waiting for a peer");
        self.poll(ms(2));
        Ok(())
    }

    /// Runs until a raw peer's connection is open.
    pub fn wait_open(&mut self) -> Result<()> {
        while self.app.established == 0 {
            self.wait_for_peer()?;
        }
        Ok(())
    }

    /// As [`poll`](Self::poll), in two steps.
    pub fn wait_and_dispatch(&mut self) {
        self.check_time("waiting apart");
        match self.lp.wait(Some(ms(100))) {
            Ok(_) => self.poll(Duration::ZERO),
            Err(_) => self.failed_polls += 1,
        }
        assert!(self.failed_polls < 10);
    }

    /// A server on a port of IPv4's loopback; what clients put before a target.
    pub fn serve(&mut self) -> Result<String> {
        let options = crate::net::server(self.config.clone());
        let server = self.listen(&options)?;
        Ok(format!("ws://{}", self.lp.server_addr(server)?))
    }

    pub fn listen(&mut self, options: &ServerOptions) -> Result<ServerId> {
        let server = self.lp.listen(options)?;
        self.servers.push(server);
        Ok(server)
    }

    pub fn last_server(&self) -> ServerId {
        *self.servers.last().expect("a server")
    }

    pub fn port(&self) -> u16 {
        let address = self.lp.server_addr(self.last_server());
        address.expect("it listens").port()
    }

    /// A client that asks for `target`, which no other asks for.
    pub fn connect(&mut self, base: &str, target: &str) -> Result<ConnId> {
        let options = crate::net::client(self.config.clone());
        self.connect_with(base, target, &options)
    }

    pub fn connect_with(
        &mut self,
        base: &str,
        target: &str,
        options: &ClientOptions,
    ) -> Result<ConnId> {
        let id = self.lp.connect(&format!("{base}{target}"), options)?;
        self.clients.push((id, target.to_owned()));
        Ok(id)
    }

    /// The server's end of a connection, once its request has come.
    pub fn far(&self, target: &str) -> Option<ConnId> {
        self.app.told.iter().find_map(|told| match told {
            Told::Upgrade(id, asked) if asked == target => Some(*id),
            _ => None,
        })
    }

    pub fn open(&mut self, id: ConnId) -> Result<()> {
        self.until(|run| run.app.is_open(id))
    }

    pub fn ended(&mut self, id: ConnId) -> Result<()> {
        self.until(|run| run.app.closed(id).is_some())
    }

    fn both_ends(&self) -> impl Iterator<Item = (String, ConnId)> {
        let near = self.clients.iter().map(|(id, target)| (target, *id));
        let near = near.map(|(target, id)| (format!("near {target}"), id));
        let far = self.app.told.iter().filter_map(|told| match told {
            Told::Upgrade(id, asked) => Some((format!("far {asked}"), *id)),
            _ => None,
        });
        // Whoever else tries a port of this machine is none of the script's.
        let far = far.filter(|(name, _)| {
            let is_own = |(_, target): &(ConnId, String)| name.strip_prefix("far ") == Some(target);
            self.clients.iter().any(is_own)
        });
        near.chain(far)
    }

    /// What was received is what was sent, without gaps, as far as it came.
    fn check_order(&self, what: &str) {
        let all = self.sent.borrow();
        for (near, target) in &self.clients {
            let Some(far) = self.far(target) else {
                continue;
            };
            for (from, to) in [(*near, far), (far, *near)] {
                let nothing = Vec::new();
                let sent = all.get(&from).unwrap_or(&nothing);
                let received = self.app.messages_of(to);
                let prefix = sent.iter().map(Vec::as_slice).take(received.len());
                assert!(
                    received.len() <= sent.len() && prefix.eq(received.iter().copied()),
                    "{what}: {} messages of {} came of {target}",
                    received.len(),
                    sent.len(),
                );
            }
        }
    }

    fn outcome(&self) -> Outcome {
        let mut outcome = Outcome::new();
        for (name, id) in self.both_ends() {
            let about = self.app.told.iter().filter(|told| told.id() == Some(id));
            let lines = about.filter_map(|told| match told {
                Told::Open(_) => Some("open".to_owned()),
                Told::Message(_, message_type, payload) => {
                    Some(format!("{message_type:?} of {}", payload.len()))
                }
                Told::Close(_, closed) => {
                    let (code, status) = (closed.code, closed.http_status);
                    Some(format!("close {code} {status} {:?}", kind(closed)))
                }
                _ => None,
            });
            outcome.insert(name, lines.collect());
        }
        outcome
    }
}
