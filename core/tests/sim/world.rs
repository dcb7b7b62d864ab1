//! One run: loops on a simulated kernel, the application, raw peers, and a clock that goes on when
//! nothing is left to do.
//!
//! Does not know: which runs there are, or what a violation costs.

use std::net::SocketAddr;
use std::time::Duration;

use wsabi::{Config, ErrorKind, Role};

use crate::app::{App, Live, client_options};
use crate::chance::{self, Chance, Counts, Fault};
use crate::hostile::{Expected, Raw};
use crate::kernel::{self, CLIENT, SERVER, name};
use crate::memory;
use crate::model::{Seen, judge};
use crate::net::context::deadline_of;
use crate::net::listener::ServerOptions;
use crate::net::r#loop::{Loop, LoopOptions};
use crate::net::number::ServerId;
use crate::net::slot::Stage;
use crate::oracle::{End, Talk, code_for};
use crate::plant::{Plant, Planted};
use crate::protocol::connection::Phase;
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

struct World {
    setup: Setup,
    chance: Chance,
    app: App,
    loops: Vec<Loop>,
    /// Until when each loop is kept from its turn.
    asleep: Vec<u64>,
    idle: Vec<(u64, u32)>,
    /// Whether each loop has waited and found something, and was not dispatched since.
    waited: Vec<bool>,
    server: Option<ServerId>,
    raw_listener: i32,
    raws: Vec<Raw>,
    /// The raw ones of the links that lead to the raw server, in the order of their coming.
    started: usize,
    next_command: u64,
    /// When the server is stopped at the latest, once everything comes to its end.
    stop_by: u64,
    memory_base: i64,
    owned_base: i64,
    /// What a planted defect keeps.
    hoard: Vec<Vec<u8>>,
    is_freed: bool,
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
            lost_before_stop: false,
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
        let loops = &self.loops[0];
        self.app.lost_before_stop = loops.slots.ids().into_iter().any(|id| {
            let slot = loops.slots.peek(id);
            slot.is_some_and(|slot| slot.server.is_some() && slot.flags.broken)
        });
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
            let _owner = memory::of_library();
            std::hint::black_box(Box::leak(std::hint::black_box(Box::new([0u8; 64]))));
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

    /// What a server's budget knows is what its connections hold.
    fn look_at_budget(&mut self, which: usize) -> Result<(), String> {
        let this = &self.loops[which];
        let server = self.server.filter(|_| which == 0);
        let Some(server) = server.and_then(|server| this.servers.peek(server)) else {
            return Ok(());
        };
        let Some(budget) = &server.budget else {
            return Ok(());
        };
        if budget.is_over() {
            chance::hit(Fault::OverBudget);
        }
        let (mut sum, mut known) = (0, 0);
        for id in this.slots.ids() {
            let Some(slot) = this.slots.peek(id).filter(|slot| slot.server.is_some()) else {
                continue;
            };
            known += slot.held;
            if let Stage::Open(open) = &slot.stage {
                sum += open.receive.held() as u64 + this.backlog(slot);
                sum += slot
                    .unread
                    .as_ref()
                    .map_or(0, |unread| unread.capacity() as u64);
            }
        }
        if (budget.held, known) == (sum, sum) {
            return Ok(());
        }
        Err(format!(
            "a server's connections hold {sum} bytes; its budget counts {}, they {known}",
            budget.held
        ))
    }

    /// Who was pressed and has nothing waiting any more was told so.
    fn look_for_drains(&mut self, which: usize) -> Result<(), String> {
        for live in self.app.live.iter().filter(|live| live.in_loop == which) {
            let this = &self.loops[which];
            // Of one that has failed only the end is told.
            let is_alive = this
                .slots
                .peek(live.id)
                .is_some_and(|slot| match &slot.stage {
                    Stage::Open(open) => {
                        open.connection.phase() != Phase::Failed && this.backlog(slot) == 0
                    }
                    _ => false,
                });
            if is_alive && !self.app.talks[live.link].ends[live.side].is_drained() {
                let place = name(live.link, live.side);
                return Err(format!("{place}: nothing waits, and no drain came"));
            }
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

    /// The library's memory is bounded by the limits of the connections there were.
    fn look_at_memory(&mut self) -> Result<(), String> {
        // A loop has a receive buffer, and a few compressors and decompressors with their room.
        let shared = if self.setup.temper.deflates {
            4_000_000
        } else {
            400_000
        };
        let mut bound = shared * self.loops.len() as u64;
        for (link, talk) in self.app.talks.iter().enumerate() {
            for (side, end) in talk.ends.iter().enumerate().filter(|(_, end)| end.is_ours) {
                let config = &end.config;
                let largest = self.setup.temper.largest + config.high_water_bytes;
                let backlog = config.max_backlog_bytes.max(largest) + 1024;
                let written = kernel::with(|kernel| kernel.links[link].pipes[side].written);
                let output = 2 * (backlog + backlog.max(written.min(65_536)));
                let unread =
                    2 * kernel::with(|kernel| kernel.links[link].plan.capacity[1 - side] as u64);
                let head = 4 * u64::from(config.max_handshake_bytes)
                    + 64 * u64::from(config.max_handshake_headers);
                let own = if config.deflate.is_some() {
                    400_000
                } else {
                    4096
                };
                bound += output + unread + head + 2 * config.max_message_bytes + own;
            }
        }
        let held = memory::take_peak() - self.memory_base;
        chance::line(|| format!("the library holds {held} bytes, may hold {bound}"));
        if held > bound as i64 {
            return Err(format!(
                "the library holds {held} bytes; all limits together are {bound}"
            ));
        }
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

    /// What has to hold when everything has ended.
    fn judge_end(&mut self) -> Result<(), String> {
        self.app.look_at_wires()?;
        if self.app.stopped != 1 {
            return Err(format!("on_stopped came {} times", self.app.stopped));
        }
        for (link, talk) in self.app.talks.iter().enumerate() {
            for (side, end) in talk.ends.iter().enumerate().filter(|(_, end)| end.is_ours) {
                let place = name(link, side);
                let expects_close = side == CLIENT || end.opened;
                if expects_close != end.closed.is_some() {
                    return Err(format!(
                        "{place}: on_close is due: {expects_close}; {}",
                        end.summary()
                    ));
                }
                if end.handed > end.accepted.len() {
                    return Err(format!(
                        "{place}: more was handed over than accepted; {}",
                        end.summary()
                    ));
                }
                let is_whole = end.closed.as_ref().is_some_and(|closed| closed.is_clean());
                if !self.setup.temper.is_rough && !is_whole {
                    return Err(format!(
                        "{place}: nothing was done to it, and it did not close; {}",
                        end.summary()
                    ));
                }
            }
        }
        for this in &mut self.loops {
            let (stats, timer) = (this.stats(), this.timers.next());
            if stats.connections + stats.pending_handshakes + stats.buffered_bytes > 0
                || timer.is_some()
            {
                return Err(format!("left behind: {stats:?}, timer {timer:?}"));
            }
        }
        self.raws
            .iter()
            .try_for_each(|raw| judge_raw(raw, &self.app.talks[raw.link]))
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

/// What has to hold for an end of the library whose peer was raw.
fn judge_raw(raw: &Raw, talk: &Talk) -> Result<(), String> {
    let side = 1 - raw.side;
    let (end, place) = (&talk.ends[side], name(raw.link, side));
    let (killed, all_sent) = (
        kernel::with(|kernel| kernel.links[raw.link].killed),
        raw.head <= raw.sent.len(),
    );
    match raw.expected {
        Expected::Status(status) => {
            if end.opened {
                return Err(format!("{place}: a broken request opened a connection"));
            }
            // It may have been too late, or one too many, or the server was stopping.
            if !matches!(end.status, 0 | 408 | 503) && end.status != status {
                return Err(format!(
                    "{place}: the status was {}; expected {status}",
                    end.status
                ));
            }
            return Ok(());
        }
        Expected::Kind(_) if end.opened => {
            return Err(format!("{place}: a broken response opened a connection"));
        }
        Expected::Kind(expected) => {
            let kind = end
                .closed
                .as_ref()
                .and_then(|closed| closed.error.as_ref())
                .map(|error| error.kind());
            let elsewhere = [
                ErrorKind::Lost,
                ErrorKind::HandshakeTimeout,
                ErrorKind::Terminated,
                ErrorKind::Stopped,
            ];
            if kind != Some(expected) && !kind.is_some_and(|kind| elsewhere.contains(&kind)) {
                return Err(format!(
                    "{place}: ended for {kind:?}; expected {expected:?}"
                ));
            }
            return Ok(());
        }
        Expected::Open if !all_sent || !end.opened => return Ok(()),
        Expected::Open => {}
    }
    let role = if side == SERVER {
        Role::Server
    } else {
        Role::Client
    };
    let plain = raw.plain.unwrap_or(raw.sent.len()).min(raw.sent.len());
    let mut verdict = judge(&raw.sent[raw.head..plain], role, &end.config);
    let is_packed = raw.sent.len() > plain;
    if is_packed {
        let after = end.seen.get(verdict.seen.len());
        let hello = Seen::Text(b"Hello".to_vec());
        // No octets at all are an empty message.
        let is_fine = matches!(after, Some(Seen::Binary(_)))
            || [Some(&hello), Some(&Seen::Text(Vec::new()))].contains(&after);
        verdict.seen.extend(after.filter(|_| is_fine).cloned());
    }
    if !verdict.seen.starts_with(&end.seen) {
        return Err(format!(
            "{place}: heard {:?}; expected {:?}",
            end.seen, verdict.seen
        ));
    }
    let kind = end
        .closed
        .as_ref()
        .and_then(|closed| closed.error.as_ref())
        .map(|error| error.kind());
    let is_of_peer = matches!(
        kind,
        Some(
            ErrorKind::Protocol
                | ErrorKind::InvalidText
                | ErrorKind::InvalidDeflate
                | ErrorKind::MessageTooBig
                | ErrorKind::TooManyFragments
        )
    );
    if is_of_peer && !is_packed && (kind != verdict.failure || end.seen != verdict.seen) {
        return Err(format!(
            "{place}: failed for {kind:?} after {:?}; expected {verdict:?}",
            end.seen
        ));
    }
    let lost_for_nothing =
        kind == Some(ErrorKind::Lost) && !killed && !raw.has_reset && end.failed.is_none();
    if lost_for_nothing && verdict.failure.is_some() && raw.has_said_all {
        return Err(format!(
            "{place}: lost after {:?}; expected {verdict:?}",
            end.seen
        ));
    }
    let spoke_before = end.called_close || end.heard_close;
    if let (Some(kind), Some((code, _)), false) = (end.failed, &end.sent_close, spoke_before) {
        // A server that is stopping has sent 1001 before.
        if *code != code_for(kind) && *code != 1001 {
            return Err(format!(
                "{place}: failed for {kind:?} with the close code {code}"
            ));
        }
    }
    Ok(())
}
