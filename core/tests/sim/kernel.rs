//! A kernel without a machine: sockets, their readiness, the clock, and everything that goes wrong
//! between two ends of a connection.
//!
//! One thread has one kernel at a time, as a program has one; the loop's rooms beneath call it.
//!
//! Does not know: what the bytes mean, or who is at either end.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};

use crate::chance::{self, Chance, Fault};
use crate::memory;
use crate::pipe::Pipe;
use crate::watching::Watcher;

/// How often faults happen, in 1000 cases, and how long they last.
#[derive(Clone, Debug, Default)]
pub(crate) struct Weather {
    pub(crate) chunk: u64,
    pub(crate) short_write: u64,
    pub(crate) again: u64,
    pub(crate) again_ms: u64,
    pub(crate) duplicate: u64,
    pub(crate) spurious: u64,
    pub(crate) accept_fails: u64,
}

/// How a connect ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connect {
    Made,
    Refused,
    Unanswered,
}

/// How a link is killed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kill {
    Reset,
    Fin,
    /// Nothing arrives any more; in both directions, if so.
    Silence {
        both: bool,
    },
}

/// What becomes of a link.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) connect: Connect,
    /// Least and most time a parcel takes.
    pub(crate) latency: (u64, u64),
    pub(crate) capacity: [usize; 2],
    /// Which side's byte of which number brings what.
    pub(crate) kill: Option<(usize, u64, Kill)>,
}

/// The side of a link that connected, and the one that accepted.
pub(crate) const CLIENT: usize = 0;
pub(crate) const SERVER: usize = 1;

/// A connection, with both of its ends.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) plan: Plan,
    /// On which each side writes.
    pub(crate) pipes: [Pipe; 2],
    closed: [bool; 2],
    pub(crate) made: bool,
    decided_at: u64,
    address: SocketAddr,
    pub(crate) error: [Option<i32>; 2],
    /// Until when each side is told that reading, or writing, would block.
    pub(crate) blocked_until: [[u64; 2]; 2],
    /// What each side has written and nobody has looked at.
    taps: [Vec<u8>; 2],
    /// Whether it was killed.
    pub(crate) killed: bool,
}

#[derive(Debug)]
pub(crate) enum Entry {
    Listener {
        address: SocketAddr,
        queue: VecDeque<usize>,
    },
    Stream {
        link: usize,
        side: usize,
    },
}

pub(crate) const FIRST_FD: i32 = 3;
const READ: usize = 0;
const WRITE: usize = 1;

/// The kernel.
#[derive(Debug)]
pub(crate) struct Kernel {
    pub(crate) now: u64,
    pub(crate) chance: Chance,
    pub(crate) keys: Chance,
    pub(crate) weather: Weather,
    pub(crate) entries: Vec<Option<Entry>>,
    pub(crate) links: Vec<Link>,
    /// The plan of the next link.
    pub(crate) next_plan: Option<Plan>,
    pub(crate) watchers: Vec<Watcher>,
    /// Writes left before bytes are lost, or doubled if so: a planted defect.
    pub(crate) sabotage: Option<(u64, bool)>,
    /// Counts everything that moves; a loop that is woken without end while this stands spins.
    pub(crate) progress: u64,
}

thread_local! {
    static KERNEL: RefCell<Kernel> = RefCell::new(Kernel::new(0, Weather::default()));
}

/// Boots a kernel in the place of the one before.
pub(crate) fn boot(seed: u64, weather: Weather) {
    KERNEL.set(Kernel::new(seed, weather));
    chance::set_clock(0);
}

pub(crate) fn with<T>(act: impl FnOnce(&mut Kernel) -> T) -> T {
    let _owner = memory::of_simulator();
    KERNEL.with_borrow_mut(act)
}

pub(crate) fn failure(number: i32) -> io::Error {
    io::Error::from_raw_os_error(number)
}

impl Kernel {
    fn new(seed: u64, weather: Weather) -> Self {
        Self {
            now: 0,
            chance: Chance::new(seed, 1),
            keys: Chance::new(seed, 2),
            weather,
            entries: Vec::new(),
            links: Vec::new(),
            next_plan: None,
            watchers: Vec::new(),
            sabotage: None,
            progress: 0,
        }
    }

    /// The lowest free number, as a system gives it.
    fn open(&mut self, entry: Entry) -> i32 {
        let index = match self.entries.iter().position(Option::is_none) {
            Some(index) => index,
            None => {
                self.entries.push(None);
                self.entries.len() - 1
            }
        };
        self.entries[index] = Some(entry);
        self.progress += 1;
        FIRST_FD + index as i32
    }

    fn entry(&mut self, fd: i32) -> Option<&mut Entry> {
        self.entries.get_mut((fd - FIRST_FD) as usize)?.as_mut()
    }

    /// Which link a descriptor belongs to, and which of its sides it is.
    pub(crate) fn stream(&mut self, fd: i32) -> Option<(usize, usize)> {
        match self.entry(fd) {
            Some(Entry::Stream { link, side }) => Some((*link, *side)),
            _ => None,
        }
    }

    /// How many descriptors are open.
    pub(crate) fn open_count(&self) -> usize {
        self.entries.iter().flatten().count()
    }

    fn latency(&mut self, link: usize) -> u64 {
        let (least, most) = self.links[link].plan.latency;
        let latency = self.chance.between(least, most);
        if latency > 0 {
            chance::hit(Fault::Delay);
        }
        self.now + latency
    }

    pub(crate) fn listen(&mut self, address: SocketAddr) -> i32 {
        self.open(Entry::Listener {
            address,
            queue: VecDeque::new(),
        })
    }

    pub(crate) fn connect(&mut self, address: SocketAddr) -> i32 {
        let plan = self
            .next_plan
            .take()
            .expect("every connect has been planned");
        let link = self.links.len();
        self.links.push(Link {
            pipes: [Pipe::new(plan.capacity[0]), Pipe::new(plan.capacity[1])],
            closed: [false; 2],
            made: false,
            decided_at: 0,
            address,
            error: [None; 2],
            blocked_until: [[0; 2]; 2],
            taps: [Vec::new(), Vec::new()],
            killed: false,
            plan,
        });
        self.links[link].decided_at = match self.links[link].plan.connect {
            Connect::Unanswered => {
                chance::hit(Fault::ConnectSilent);
                u64::MAX
            }
            _ => self.latency(link),
        };
        self.open(Entry::Stream { link, side: CLIENT })
    }

    /// Decides a connect whose time has come.
    fn decide(&mut self, link: usize) {
        let address = self.links[link].address;
        self.links[link].decided_at = u64::MAX;
        let refused = self.links[link].plan.connect == Connect::Refused;
        let queue = self
            .entries
            .iter_mut()
            .flatten()
            .find_map(|entry| match entry {
                Entry::Listener {
                    address: listening,
                    queue,
                } if *listening == address && !refused => Some(queue),
                _ => None,
            });
        match queue {
            Some(queue) => {
                queue.push_back(link);
                self.links[link].made = true;
            }
            None => {
                chance::hit(Fault::ConnectRefused);
                self.links[link].error[CLIENT] = Some(libc::ECONNREFUSED);
                self.links[link].closed[SERVER] = true;
            }
        }
        self.progress += 1;
    }

    pub(crate) fn accept(&mut self, fd: i32) -> io::Result<Option<i32>> {
        let fails = self.weather.accept_fails;
        let fails = self.chance.hits(fails);
        let Some(Entry::Listener { queue, .. }) = self.entry(fd) else {
            return Err(failure(libc::EBADF));
        };
        if fails && !queue.is_empty() {
            chance::hit(Fault::AcceptFails);
            self.progress += 1;
            return Err(failure(libc::EMFILE));
        }
        Ok(self.take_waiting(fd))
    }

    /// Takes a connection that waits at a listener.
    pub(crate) fn take_waiting(&mut self, fd: i32) -> Option<i32> {
        let Some(Entry::Listener { queue, .. }) = self.entry(fd) else {
            return None;
        };
        let link = queue.pop_front()?;
        Some(self.open(Entry::Stream { link, side: SERVER }))
    }

    /// The address at the other end of a made connection: the listener's, or one that tells the link.
    pub(crate) fn peer(&mut self, fd: i32) -> Option<SocketAddr> {
        let (link, side) = self.stream(fd)?;
        let address = match side {
            CLIENT => self.links[link].address,
            _ => SocketAddr::from((Ipv4Addr::new(10, 9, 0, 0), link as u16 + 1)),
        };
        self.links[link].made.then_some(address)
    }

    /// Where a listener listens.
    pub(crate) fn local(&mut self, fd: i32) -> Option<SocketAddr> {
        match self.entry(fd) {
            Some(Entry::Listener { address, .. }) => Some(*address),
            _ => None,
        }
    }

    pub(crate) fn take_error(&mut self, fd: i32) -> Option<i32> {
        let (link, side) = self.stream(fd)?;
        self.links[link].error[side].take()
    }

    /// Whether a side is told, for a while, that it would block.
    fn blocks(&mut self, link: usize, side: usize, direction: usize) -> bool {
        if self.links[link].blocked_until[side][direction] > self.now {
            return true;
        }
        let (again, most) = (self.weather.again, self.weather.again_ms);
        if !self.chance.hits(again) {
            return false;
        }
        chance::hit([Fault::AgainRead, Fault::AgainWrite][direction]);
        let wait = self.chance.between(1, most.max(1));
        self.links[link].blocked_until[side][direction] = self.now + wait;
        true
    }

    /// Reads; `None` would block, 0 is the end of the stream.
    pub(crate) fn recv(&mut self, fd: i32, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let Some((link, side)) = self.stream(fd) else {
            return Err(failure(libc::EBADF));
        };
        if self.blocks(link, side, READ) {
            return Ok(None);
        }
        let waiting = self.links[link].pipes[1 - side].waiting();
        if waiting == 0 {
            let link = &mut self.links[link];
            let pipe = &link.pipes[1 - side];
            return match link.error[side].take() {
                Some(number) => Err(failure(number)),
                None if pipe.finished || pipe.reset => Ok(Some(0)),
                None => Ok(None),
            };
        }
        let mut count = waiting.min(buffer.len());
        let chunk = self.weather.chunk;
        if count > 1 && self.chance.hits(chunk) {
            count = 1 + self.chance.scale(count as u64 - 1) as usize;
        }
        if count < waiting.min(buffer.len()) {
            chance::hit(Fault::Chunk);
        }
        self.links[link].pipes[1 - side].read(&mut buffer[..count]);
        chance::number(link as u64 * 2 + side as u64);
        chance::bytes(&buffer[..count]);
        chance::line(|| format!("{} reads {count}", name(link, side)));
        self.progress += 1;
        Ok(Some(count))
    }

    /// Writes; `None` would block.
    pub(crate) fn send(&mut self, fd: i32, data: &[u8]) -> io::Result<Option<usize>> {
        let Some((link, side)) = self.stream(fd) else {
            return Err(failure(libc::EBADF));
        };
        if let Some(number) = self.links[link].error[side].take() {
            return Err(failure(number));
        }
        if self.links[link].pipes[1 - side].reset || self.links[link].pipes[side].shut {
            return Err(failure(libc::EPIPE));
        }
        if self.blocks(link, side, WRITE) {
            return Ok(None);
        }
        let room = self.links[link].pipes[side].room();
        if room == 0 {
            chance::hit(Fault::FullPipe);
            return Ok(None);
        }
        let mut count = room.min(data.len());
        let short = self.weather.short_write;
        if count > 1 && self.chance.hits(short) {
            count = 1 + self.chance.scale(count as u64 - 1) as usize;
        }
        if count < data.len() {
            chance::hit(Fault::ShortWrite);
        }
        let data = &data[..count];
        chance::number(link as u64 * 2 + side as u64);
        chance::bytes(data);
        chance::line(|| format!("{} writes {count}", name(link, side)));
        self.links[link].taps[side].extend_from_slice(data);
        self.put(link, side, data);
        self.progress += 1;
        Ok(Some(count))
    }

    /// Puts bytes on their way, up to the one that kills the link.
    fn put(&mut self, link: usize, side: usize, data: &[u8]) {
        let at = self.latency(link);
        let written = self.links[link].pipes[side].written;
        let kill = self.links[link].plan.kill;
        let fatal =
            kill.filter(|&(victim, byte, _)| victim == side && byte <= written + data.len() as u64);
        let Some((_, byte, kill)) = fatal else {
            return self.put_whole(link, side, at, data);
        };
        let before = &data[..byte.saturating_sub(written) as usize];
        self.links[link].plan.kill = None;
        self.links[link].killed = true;
        self.links[link].pipes[side].write(at, before);
        chance::line(|| format!("{} is killed: {kill:?}", name(link, side)));
        let back = self.latency(link);
        let purges = self.chance.coin();
        let pipes = &mut self.links[link].pipes;
        match kill {
            Kill::Reset => {
                chance::hit(Fault::Reset);
                let kept = pipes[side].in_flight();
                pipes[side].break_off(at, kept, purges);
                let kept = self.chance.below(pipes[1 - side].in_flight() as u64 + 1);
                pipes[1 - side].break_off(back, kept as usize, purges);
            }
            Kill::Fin => {
                chance::hit(Fault::Fin);
                pipes[side].shut(at);
                pipes[side].shut = false;
                pipes[side].cut = true;
            }
            Kill::Silence { both } => {
                chance::hit(Fault::Silence);
                pipes[side].silent = true;
                pipes[1 - side].silent |= both;
            }
        }
    }

    fn put_whole(&mut self, link: usize, side: usize, at: u64, data: &[u8]) {
        let pipe = &mut self.links[link].pipes[side];
        match &mut self.sabotage {
            Some((0, doubles)) => {
                if *doubles {
                    pipe.write(at, data);
                    pipe.write(at, data);
                } else {
                    pipe.write(at, &data[..data.len() - 1]);
                }
                self.sabotage = None;
            }
            Some((left, _)) => {
                *left -= 1;
                pipe.write(at, data);
            }
            None => pipe.write(at, data),
        }
    }

    pub(crate) fn shutdown(&mut self, fd: i32) -> io::Result<()> {
        let Some((link, side)) = self.stream(fd) else {
            return Err(failure(libc::EBADF));
        };
        if self.links[link].pipes[1 - side].reset {
            return Err(failure(libc::ENOTCONN));
        }
        chance::line(|| format!("{} shuts", name(link, side)));
        let at = self.latency(link);
        self.links[link].pipes[side].shut(at);
        self.progress += 1;
        Ok(())
    }

    /// Closes a descriptor; `reset` throws away what has not left.
    pub(crate) fn close(&mut self, fd: i32, reset: bool) {
        let Some(entry) = self
            .entries
            .get_mut((fd - FIRST_FD) as usize)
            .and_then(Option::take)
        else {
            return;
        };
        for watcher in &mut self.watchers {
            watcher.watched.retain(|&(watched, ..)| watched != fd);
        }
        self.progress += 1;
        match entry {
            Entry::Listener { queue, .. } => {
                for link in queue {
                    self.close_end(link, SERVER, true);
                }
            }
            Entry::Stream { link, side } => self.close_end(link, side, reset),
        }
    }

    fn close_end(&mut self, link: usize, side: usize, reset: bool) {
        let at = self.latency(link);
        self.links[link].closed[side] = true;
        if !self.links[link].made {
            self.links[link].decided_at = u64::MAX;
            return;
        }
        let pipes = &mut self.links[link].pipes;
        // What was not read is answered by a reset too.
        let reset = reset || pipes[1 - side].waiting() > 0;
        chance::line(|| format!("{} closes, reset: {reset}", name(link, side)));
        if reset {
            let kept = self.chance.below(pipes[side].in_flight() as u64 + 1);
            let purges = self.chance.coin();
            pipes[side].break_off(at, kept as usize, purges);
        } else {
            pipes[side].shut(at);
        }
    }

    /// Lets everything happen on the links that is due.
    pub(crate) fn deliver(&mut self) {
        for link in 0..self.links.len() {
            if self.links[link].decided_at <= self.now {
                self.decide(link);
            }
            for side in [CLIENT, SERVER] {
                let now = self.now;
                let delivery = self.links[link].pipes[1 - side].deliver(now);
                let this = &mut self.links[link];
                if delivery.reset {
                    this.error[side] = Some(libc::ECONNRESET);
                    // What this side has written and not left is lost with the connection.
                    this.pipes[side].cut = true;
                }
                // Nobody is there to read: the writer hears of it.
                if delivery.bytes && this.closed[side] && !this.pipes[side].cut {
                    let at = self.latency(link);
                    self.links[link].pipes[side].break_off(at, usize::MAX, false);
                }
            }
        }
    }

    /// When something happens next without anybody's doing.
    pub(crate) fn next(&self) -> Option<u64> {
        let mut next = u64::MAX;
        for link in &self.links {
            next = next.min(link.decided_at);
            for side in [CLIENT, SERVER] {
                next = next.min(link.pipes[side].next().unwrap_or(u64::MAX));
                if !link.closed[side] {
                    for until in link.blocked_until[side] {
                        if until > self.now {
                            next = next.min(until);
                        }
                    }
                }
            }
        }
        (next != u64::MAX).then_some(next)
    }

    /// Whether a side was closed by its owner.
    pub(crate) fn is_closed(&self, link: usize, side: usize) -> bool {
        self.links[link].closed[side]
    }

    /// What a side has written since this was last asked.
    pub(crate) fn take_tap(&mut self, link: usize, side: usize, into: &mut Vec<u8>) {
        into.clear();
        std::mem::swap(into, &mut self.links[link].taps[side]);
    }
}

/// A side of a link, for the trace.
pub(crate) fn name(link: usize, side: usize) -> String {
    format!("{link}{}", ["c", "s"][side])
}
