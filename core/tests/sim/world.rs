//! One run: loops on a simulated kernel, the application, raw peers, and a clock that goes on when
//! nothing is left to do.
//!
//! Does not know: which runs there are, or what a violation costs.

use std::net::SocketAddr;
use std::time::Duration;

use wsabi::Config;

use crate::app::{App, Live, client_options};
use crate::chance::{self, Chance, Counts, Fault};
use crate::hostile::Raw;
use crate::kernel::{self, CLIENT, SERVER, name};
use crate::memory;
use crate::net::context::deadline_of;
use crate::net::listener::ServerOptions;
use crate::net::r#loop::{Loop, LoopOptions};
use crate::net::number::ServerId;
use crate::net::slot::Stage;
use crate::oracle::{End, Talk};
use crate::plant::{Plant, Planted};
use crate::setup::{Setup, Start, config};

/// What a run came to.
pub(crate) struct Outcome {
    pub(crate) hash: u64,
    pub(crate) counts: Counts,
    pub(crate) violation: Option<String>,
    pub(crate) ends: u64,
    pub(crate) messages: u64,
}

pub(crate) const SERVER_ADDRESS: &str = "10.0.0.1";
const RAW_ADDRESS: &str = "10.0.0.2";
/// Most steps of a run.
const STEPS: u64 = 300_000;
/// Dispatches in one moment that may move nothing.
const IDLE_DISPATCHES: u32 = 40;
/// How long after its beginning the end may take, besides the times of the configurations.
const ENDING: u64 = 3_600_000;

pub(crate) struct World {
    pub(crate) setup: Setup,
    pub(crate) chance: Chance,
    pub(crate) app: App,
    pub(crate) loops: Vec<Loop>,
    /// Until when each loop is kept from its turn.
    pub(crate) asleep: Vec<u64>,
    pub(crate) idle: Vec<(u64, u32)>,
    /// Whether each loop has waited and found something, and was not dispatched since.
    pub(crate) waited: Vec<bool>,
    pub(crate) server: Option<ServerId>,
    pub(crate) raw_listener: i32,
    pub(crate) raws: Vec<Raw>,
    /// The raw ones of the links that lead to the raw server, in the order of their coming.
    pub(crate) started: usize,
    pub(crate) next_command: u64,
    /// When the server is stopped at the latest, once everything comes to its end.
    pub(crate) stop_by: u64,
    pub(crate) memory_base: i64,
    pub(crate) owned_base: i64,
    /// What a planted defect keeps.
    pub(crate) hoard: Vec<Vec<u8>>,
    pub(crate) is_freed: bool,
}

/// Runs one seed.
pub(crate) fn run(seed: u64, shown: bool, plant: Option<Plant>) -> Outcome {
    chance::begin(shown);
    let mut chance = Chance::new(seed, 0);
    let setup = Setup::new(&mut chance);
    chance::line(|| format!("{setup:?}"));
    kernel::boot(seed, setup.weather.clone());
    let mut world = World::new(seed, setup, chance, plant);
    world.begin();
    let mut violation = world.go().err();
    violation = violation.or_else(|| world.app.violation.take());
    let ends = world.app.talks.len() as u64;
    let messages = world
        .app
        .talks
        .iter()
        .flat_map(|talk| &talk.ends)
        .map(|end| end.received as u64)
        .sum();
    let wavers = world.app.planted.strikes(Plant::Wavers);
    let late = world.tear_down();
    let violation = violation.or(late.err());
    if wavers {
        use std::sync::atomic::{AtomicU64, Ordering};
        static RUNS: AtomicU64 = AtomicU64::new(0);
        chance::number(RUNS.fetch_add(1, Ordering::Relaxed));
    }
    let (hash, counts) = chance::finish();
    Outcome {
        hash,
        counts,
        violation,
        ends,
        messages,
    }
}

/// What the plant leaks.
#[allow(
    clippy::vec_box,
    reason = "each box is what is leaked; the list around them is the test's"
)]
static LOST: std::sync::Mutex<Vec<Box<[u8; 64]>>> = std::sync::Mutex::new(Vec::new());

impl World {
    fn new(seed: u64, setup: Setup, chance: Chance, plant: Option<Plant>) -> Self {
        let app = App {
            chance: Chance::new(seed, 3),
            temper: setup.temper.clone(),
            talks: Vec::new(),
            live: Vec::new(),
            active: 0,
            budget: setup.budget,
            is_ending: false,
            stop_began: false,
            stopped: 0,
            closed_since_stop: 0,
            over_before_stop: 0,
            is_freed: false,
            broadcasts: 0,
            spare: None,
            server_config: setup.server.clone(),
            scratch: Vec::new(),
            callbacks: 0,
            violation: None,
            planted: Planted::new(plant, seed),
        };
        Self {
            app,
            loops: Vec::new(),
            asleep: Vec::new(),
            idle: Vec::new(),
            waited: Vec::new(),
            server: None,
            raw_listener: 0,
            raws: Vec::new(),
            started: 0,
            next_command: 0,
            stop_by: u64::MAX,
            memory_base: memory::live(),
            owned_base: crate::commands::owned(),
            hoard: Vec::new(),
            is_freed: false,
            setup,
            chance,
        }
    }

    /// Makes the loops and the servers.
    fn begin(&mut self) {
        memory::take_peak();
        if self.setup.max_events < 100 {
            chance::hit(Fault::SmallBudget);
        }
        for _ in 0..if self.setup.one_loop { 1 } else { 2 } {
            let options = LoopOptions {
                max_events: self.setup.max_events,
                ..LoopOptions::default()
            };
            let made = {
                let _owner = memory::of_library();
                Loop::with_options(options)
            };
            let mut made = made.expect("a simulated loop");
            made.defer_writes(self.setup.defers).expect("it is ours");
            self.loops.push(made);
            self.asleep.push(0);
            self.idle.push((0, 0));
            self.waited.push(false);
        }
        let mut options = ServerOptions::tcp(SERVER_ADDRESS, 80);
        options.config = self.setup.server.clone();
        options.max_buffered_bytes = self.setup.server_budget;
        let listening = {
            let _owner = memory::of_library();
            self.loops[0].listen(&options)
        };
        match listening {
            Ok(server) => self.server = Some(server),
            Err(error) => self.app.violate(format!("listen: {error}")),
        }
        let raw: SocketAddr = SocketAddr::from(([10, 0, 0, 2], 80));
        self.raw_listener = kernel::with(|kernel| {
            let plant = self.app.planted.plant;
            if let Some(Plant::DropsBytes | Plant::DoublesBytes) = plant {
                kernel.sabotage = Some((3, plant == Some(Plant::DoublesBytes)));
            }
            kernel.listen(raw)
        });
    }

    /// Runs until nothing is left, or something is violated.
    fn go(&mut self) -> Result<(), String> {
        let mut ends_by = u64::MAX;
        for _ in 0..STEPS {
            let moved = self.step()?;
            if let Some(violation) = self.app.violation.take() {
                return Err(violation);
            }
            if self.is_over() {
                return self.judge_end();
            }
            let now = kernel::with(|kernel| kernel.now);
            if self.app.is_ending && ends_by == u64::MAX && self.setup.jump_at.is_none() {
                ends_by = now + ENDING;
            }
            if now > ends_by {
                return Err(format!("it does not end: {}", self.leftovers()));
            }
            if !moved {
                self.advance()?;
            }
        }
        Err(format!(
            "it takes more than {STEPS} steps: {}",
            self.leftovers()
        ))
    }

    /// Does what there is to do at this moment; tells whether anything was.
    fn step(&mut self) -> Result<bool, String> {
        let now = kernel::with(|kernel| {
            kernel.deliver();
            kernel.now
        });
        let mut moved = self.start(now);
        self.raw_peers(now);
        moved |= self.timed(now);
        moved |= self.command_outside(now);
        let mut order = [0, 1];
        if self.chance.coin() {
            order.swap(0, 1);
        }
        for which in order {
            if which < self.loops.len() {
                moved |= self.turn(which, now)?;
            }
        }
        self.app.look_at_wires()?;
        self.look_at_memory()?;
        Ok(moved)
    }

    /// Connects those whose time has come.
    fn start(&mut self, now: u64) -> bool {
        let mut moved = false;
        while let Some(&(at, start)) = self.setup.starts.get(self.started)
            && at <= now
            && !self.is_freed
        {
            self.started += 1;
            moved = true;
            let plan = self.setup.plan(&mut self.chance);
            let client = config(&mut self.chance, &self.setup.temper);
            chance::line(|| format!("{start:?} {plan:?} {client:?}"));
            kernel::with(|kernel| kernel.next_plan = Some(plan));
            let link = self.app.talks.len();
            let ours = [start != Start::RawClient, start != Start::ToRawServer];
            self.app.talks.push(Talk {
                ends: [
                    End::new(CLIENT, &client, ours[CLIENT]),
                    End::new(SERVER, &self.setup.server, ours[SERVER]),
                ],
            });
            if start == Start::RawClient {
                self.start_raw(link, now);
            } else {
                self.start_client(link, start, client);
            }
        }
        moved
    }

    fn start_raw(&mut self, link: usize, now: u64) {
        let address = SocketAddr::from(([10, 0, 0, 1], 80));
        let fd = kernel::with(|kernel| kernel.connect(address));
        let chance = Chance::new(self.chance.next(), 5);
        self.raws
            .push(Raw::client(fd, link, now, &self.setup.server, chance));
    }

    fn start_client(&mut self, link: usize, start: Start, config: Config) {
        let which = self.loops.len() - 1;
        let host = match start {
            Start::ToRawServer => RAW_ADDRESS,
            Start::Client | Start::RawClient => SERVER_ADDRESS,
        };
        let options = client_options(link, config, self.chance.hits(200));
        let url = format!("ws://{host}/{link}");
        let connected = {
            let _owner = memory::of_library();
            self.loops[which].connect(&url, &options)
        };
        match connected {
            Ok(id) => self.app.live.push(Live::client(which, id, link)),
            Err(error) => self.app.violate(format!("connect: {error}")),
        }
    }

    /// Sees to it that the application has connections to make inside callbacks.
    fn spare_connections(&mut self) {
        if self.app.spare.is_none() && self.setup.reconnects > 0 {
            self.setup.reconnects -= 1;
            let plan = self.setup.plan(&mut self.chance);
            let client = config(&mut self.chance, &self.setup.temper);
            self.app.spare = Some((plan, client));
        }
    }

    fn raw_peers(&mut self, now: u64) {
        kernel::with(|kernel| {
            while let Some(fd) = kernel.take_waiting(self.raw_listener) {
                let Some((link, _)) = kernel.stream(fd) else {
                    continue;
                };
                let chance = Chance::new(self.chance.next(), 6);
                let config = &self.app.talks[link].ends[CLIENT].config;
                self.raws.push(Raw::server(fd, link, now, config, chance));
            }
            for raw in &mut self.raws {
                raw.step(kernel);
            }
        });
    }

    /// What the setup has planned for certain times.
    fn timed(&mut self, now: u64) -> bool {
        let due = |at: Option<u64>| at.is_some_and(|at| at <= now);
        if due(self.setup.jump_at) && self.started > 0 {
            self.setup.jump_at = None;
            chance::hit(Fault::ClockJump);
            kernel::with(|kernel| kernel.now += 3_600_000);
            chance::set_clock(now + 3_600_000);
            return true;
        }
        if due(self.setup.free_at) {
            self.setup.free_at = None;
            self.free();
            return true;
        }
        if due(self.setup.stop_at.map(|(at, _)| at)) && !self.app.is_ending {
            let (_, grace) = self.setup.stop_at.take().unwrap_or_default();
            chance::hit(Fault::Stop);
            self.stop(grace);
            return true;
        }
        let all_started = self.started == self.setup.starts.len();
        let is_time = now >= self.setup.ending_at
            && (self.app.budget == 0 || now >= 2 * self.setup.ending_at + 500);
        if !self.app.is_ending
            && all_started
            && is_time
            && (self.setup.temper.is_rough || self.all_open())
        {
            self.end_everything();
            return true;
        }
        if self.app.is_ending && !self.app.stop_began {
            // Those of a server that never opened are told no end.
            let loops = &self.loops;
            self.app
                .live
                .retain(|live| loops[live.in_loop].slots.peek(live.id).is_some());
            let is_late = self.setup.temper.is_rough && now >= self.stop_by;
            if self.app.live.is_empty() || is_late {
                self.stop(Duration::from_secs(1));
                return true;
            }
        }
        false
    }

    /// Whether every connection is open at both ends, or was.
    fn all_open(&self) -> bool {
        let mut ends = self.app.talks.iter().flat_map(|talk| &talk.ends);
        ends.all(|end| !end.is_ours || end.opened || end.closed.is_some())
    }

    fn stop(&mut self, grace: Duration) {
        self.app.stop_began = true;
        // What has ended before is told later, and counts for nothing.
        let over = self.loops[0].slots.ids().into_iter().filter(|id| {
            let slot = self.loops[0].slots.peek(*id);
            slot.is_some_and(|slot| slot.server.is_some() && matches!(slot.stage, Stage::Ended(_)))
        });
        self.app.over_before_stop = over.count() as u64;
        if let (Some(server), false) = (self.server, self.is_freed) {
            chance::line(|| format!("the server is stopped, grace {grace:?}"));
            let _owner = memory::of_library();
            if let Err(error) = self.loops[0].stop_server(server, grace) {
                self.app.violate(format!("stop_server: {error}"));
            }
        }
    }

    /// Frees the loops, amid everything.
    fn free(&mut self) {
        self.is_freed = true;
        self.app.is_freed = true;
        self.app.is_ending = true;
        chance::line(|| "the loops are freed".to_owned());
        for (which, this) in self.loops.iter_mut().enumerate() {
            self.app.active = which;
            let _owner = memory::of_library();
            this.finish(&mut self.app);
        }
    }

    /// Everybody reads again and closes; requests are answered.
    fn end_everything(&mut self) {
        chance::line(|| "everything comes to its end".to_owned());
        self.app.is_ending = true;
        self.stop_by = kernel::with(|kernel| kernel.now) + self.chance.scale(8000);
        for this in &mut self.loops {
            let _ = this.defer_writes(false);
        }
        for live in self.app.live.clone() {
            self.app.active = live.in_loop;
            let mut conn = self.loops[live.in_loop].conn(live.id);
            if conn.user() == 0 {
                continue;
            }
            let _ = self.app.resume(&mut conn, live.link, live.side);
            let _ = self.app.answer(&mut conn);
            if live.side == CLIENT || self.chance.coin() {
                let _ = self.app.close(&mut conn, live.link, live.side);
            }
        }
    }

    fn command_outside(&mut self, now: u64) -> bool {
        if self.app.is_ending
            || self.app.budget == 0
            || now < self.next_command
            || self.app.live.is_empty()
        {
            return false;
        }
        self.next_command = now + self.chance.scale(150);
        let live = *self.chance.pick(&self.app.live);
        self.app.active = live.in_loop;
        let this = &mut self.loops[live.in_loop];
        for _ in 0..self.chance.between(1, 4) {
            let mut conn = this.conn(live.id);
            self.app.command(&mut conn, false);
        }
        if self.setup.defers && self.chance.coin() {
            let _owner = memory::of_library();
            let _ = this.flush_all();
        }
        true
    }

    /// Gives a loop its turn, if it has something to do and is not kept from it.
    fn turn(&mut self, which: usize, now: u64) -> Result<bool, String> {
        if self.asleep[which] > now || self.is_freed {
            return Ok(false);
        }
        let (ready, timer, progress) =
            kernel::with(|kernel| (kernel.is_ready(which), kernel.timer(which), kernel.progress));
        if !ready && !self.waited[which] {
            if self.chance.hits(self.setup.spurious_dispatch) {
                chance::hit(Fault::SpuriousDispatch);
                self.dispatch(which)?;
            }
            return Ok(false);
        }
        if self.chance.hits(self.setup.late.0) {
            self.asleep[which] = now + 1 + self.chance.scale(self.setup.late.1);
            return Ok(false);
        }
        if !self.waited[which] && self.chance.hits(self.setup.waits) {
            chance::hit(Fault::Wait);
            let _owner = memory::of_library();
            let waited = self.loops[which].wait(Some(Duration::ZERO));
            self.waited[which] = waited.map_err(|error| format!("wait: {error}"))?;
            return Ok(true);
        }
        if timer.is_some_and(|at| at < now) {
            chance::hit(Fault::LateTimer);
        }
        if timer.is_some_and(|at| at <= now) {
            self.count_simultaneous(which, now);
        }
        let callbacks = self.app.callbacks;
        self.dispatch(which)?;
        let progress_after = kernel::with(|kernel| kernel.progress);
        let idle = &mut self.idle[which];
        let moved = progress != progress_after || callbacks != self.app.callbacks;
        *idle = if moved || idle.0 != now {
            (now, 0)
        } else {
            (now, idle.1 + 1)
        };
        if idle.1 > IDLE_DISPATCHES {
            return Err(format!(
                "the loop spins: {IDLE_DISPATCHES} dispatches moved nothing, and it is ready"
            ));
        }
        Ok(true)
    }

    fn dispatch(&mut self, which: usize) -> Result<(), String> {
        self.app.active = which;
        self.waited[which] = false;
        self.spare_connections();
        let dispatched = {
            let _owner = memory::of_library();
            self.loops[which].dispatch(&mut self.app)
        };
        if self.app.planted.strikes(Plant::LeaksMemory) {
            let leaked = {
                let _owner = memory::of_library();
                std::hint::black_box(Box::new([0u8; 64]))
            };
            // Where a leak checker does not look for what was lost on purpose.
            LOST.lock().unwrap().push(leaked);
        }
        if self.app.planted.plant == Some(Plant::HoardsMemory) {
            let _owner = memory::of_library();
            self.hoard.push(vec![0; 200_000]);
        }
        if self.app.planted.plant == Some(Plant::NeverEnds) {
            kernel::with(|kernel| kernel.wake(which));
        }
        self.look_at_budget(which)?;
        let more = dispatched.map_err(|error| format!("dispatch: {error}"))?;
        if !more {
            self.look_for_drains(which)?;
        }
        Ok(())
    }

    /// Counts a moment at which several deadlines have passed.
    fn count_simultaneous(&mut self, which: usize, now: u64) {
        let this = &mut self.loops[which];
        let ids = this.slots.ids();
        let due = ids.iter().filter(|id| {
            let slot = this.slots.at(id.index());
            deadline_of(&slot.stage, &slot.config).is_some_and(|at| at.as_millis() <= now)
        });
        if due.count() > 1 {
            chance::hit(Fault::Simultaneous);
        }
    }

    /// Lets time pass until something happens.
    fn advance(&mut self) -> Result<(), String> {
        let (now, mut next) = kernel::with(|kernel| (kernel.now, kernel.next()));
        let mut at = |time: Option<u64>| next = next.into_iter().chain(time).min();
        at(self.setup.starts.get(self.started).map(|&(at, _)| at));
        for raw in &self.raws {
            at(raw.next());
        }
        for which in 0..self.loops.len() {
            let (ready, timer) =
                kernel::with(|kernel| (kernel.is_ready(which), kernel.timer(which)));
            if (ready || self.waited[which]) && !self.is_freed {
                at(Some(self.asleep[which]));
            } else if !self.is_freed {
                at(timer);
            }
        }
        at(self.setup.jump_at);
        if self.app.is_ending && !self.app.stop_began && self.setup.temper.is_rough {
            at(Some(self.stop_by));
        }
        at(self.setup.free_at);
        if !self.app.is_ending {
            at(self.setup.stop_at.map(|(at, _)| at));
            at((self.app.budget > 0 && !self.app.live.is_empty()).then_some(self.next_command));
            at(Some(if now < self.setup.ending_at {
                self.setup.ending_at
            } else {
                2 * self.setup.ending_at + 500
            })
            .filter(|&at| at > now));
        }
        let Some(next) = next else {
            return Err(format!(
                "nothing will ever happen again: {}",
                self.leftovers()
            ));
        };
        // Nothing that is due now is left, or the step would have done it.
        let next = next.max(now + 1);
        kernel::with(|kernel| kernel.now = next);
        chance::set_clock(next);
        Ok(())
    }

    fn is_over(&mut self) -> bool {
        let idle = self.loops.iter().all(Loop::is_done);
        idle && self.app.is_ending && (self.is_freed || self.started == self.setup.starts.len())
    }

    fn leftovers(&mut self) -> String {
        let mut text = String::new();
        for live in &self.app.live {
            let end = &self.app.talks[live.link].ends[live.side];
            text += &format!("{} ({}); ", name(live.link, live.side), end.summary());
        }
        text
    }

    /// Takes everything down; nothing may be left.
    fn tear_down(mut self) -> Result<(), String> {
        let leaks = self.app.planted.strikes(Plant::LeaksDescriptor);
        {
            let _owner = memory::of_library();
            drop(std::mem::take(&mut self.loops));
        }
        self.hoard.clear();
        let (open, watched) = kernel::with(|kernel| {
            for raw in &mut self.raws {
                if !raw.is_done {
                    raw.close(kernel, false);
                }
            }
            if !leaks {
                kernel.close(self.raw_listener, false);
            }
            (kernel.open_count(), kernel.watched())
        });
        if open > 0 || watched > 0 {
            return Err(format!(
                "{open} descriptors are left open, {watched} are watched"
            ));
        }
        if crate::commands::owned() != self.owned_base {
            return Err("payloads that the library was given are still held".to_owned());
        }
        let left = memory::live() - self.memory_base;
        if left != 0 {
            return Err(format!("{left} bytes of the library were not given back"));
        }
        Ok(())
    }
}
