//! Everything that is left to chance in a run, all of it from one seed; the kinds of faults, counted;
//! and the trace of what happened, as a hash and, if wanted, as lines.
//!
//! Does not know: what the numbers decide.

use std::cell::{Cell, RefCell};

/// A generator of numbers: the same seed and purpose, the same numbers.
#[derive(Clone, Debug)]
pub(crate) struct Chance(u64);

impl Chance {
    pub(crate) fn new(seed: u64, purpose: u64) -> Self {
        let mut chance = Self(seed ^ purpose.wrapping_mul(0xd1b5_4a32_d192_ed03));
        chance.next();
        chance
    }

    /// SplitMix64.
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, or 0.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    pub(crate) fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// A number up to `last`, of which small ones are as likely as large ones.
    pub(crate) fn scale(&mut self, last: u64) -> u64 {
        let bits = u64::from(last.max(1).ilog2()) + 1;
        let width = self.below(bits + 1) as u32;
        self.below((1u64 << width).min(last + 1))
    }

    /// Whether something happens that happens in `per_mille` of 1000 cases.
    pub(crate) fn hits(&mut self, per_mille: u64) -> bool {
        per_mille != 0 && self.below(1000) < per_mille
    }

    pub(crate) fn coin(&mut self) -> bool {
        self.next() & 1 == 0
    }

    pub(crate) fn pick<'a, T>(&mut self, all: &'a [T]) -> &'a T {
        &all[self.below(all.len() as u64) as usize]
    }

    pub(crate) fn shuffle<T>(&mut self, all: &mut [T]) {
        for i in (1..all.len()).rev() {
            all.swap(i, self.below(i as u64 + 1) as usize);
        }
    }
}

macro_rules! faults {
    ($($name:ident = $text:literal,)*) => {
        /// What is done to a run. The words are those of the table that is printed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub(crate) enum Fault { $($name,)* }

        impl Fault {
            pub(crate) const NAMES: &'static [&'static str] = &[$($text,)*];
        }
    };
}

faults! {
    Chunk = "input cut into pieces",
    Coalesce = "writes read together",
    ShortWrite = "short write",
    FullPipe = "full pipe",
    AgainRead = "EAGAIN while reading",
    AgainWrite = "EAGAIN while writing",
    Delay = "delay",
    HalfClose = "half close with data in flight",
    Reset = "reset at a byte",
    ResetPurges = "reset that drops what had arrived",
    Fin = "FIN at a byte",
    Silence = "peer gone silent",
    LateTimer = "timer late",
    Simultaneous = "timers simultaneous",
    ClockJump = "clock jump of an hour",
    DuplicateReadiness = "readiness reported twice",
    SpuriousReadiness = "readiness without cause",
    SpuriousDispatch = "dispatch without cause",
    ConnectRefused = "connect refused",
    ConnectSilent = "connect unanswered",
    AcceptFails = "accept without descriptors",
    StormOnSelf = "commands to the calling connection",
    StormOnOthers = "commands to others inside a callback",
    TerminateInside = "terminate inside a callback",
    CloseInside = "close inside a callback",
    SlowReader = "reader paused",
    Backpressure = "backpressure",
    RefusedFull = "send refused as full",
    OverLimit = "message above the peer's limit",
    Fragments = "fragmented message",
    Held = "request answered later",
    Refused = "request refused by the application",
    OverBudget = "server over its budget",
    Stop = "server stopped amid traffic",
    Wait = "waiting apart from dispatching",
    Yield = "dispatch ended by a callback",
    ConnectInside = "connect inside a callback",
    SmallBudget = "few events per dispatch",
    Chunks = "message given out in chunks",
    Owned = "payload lent to the library",
    Broadcast = "broadcast",
    Deflate = "connection with compression",
    HostileHandshake = "broken handshake",
    HostileFrames = "broken frames",
    HostileDeflate = "raw compressed message",
    HostileFlood = "flood without reading",
}

const KINDS: usize = Fault::NAMES.len();

/// How often each kind of fault was injected.
#[derive(Clone, Debug)]
pub(crate) struct Counts(pub(crate) [u64; KINDS]);

impl Default for Counts {
    fn default() -> Self {
        Self([0; KINDS])
    }
}

impl Counts {
    pub(crate) fn add(&mut self, other: &Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum += count;
        }
    }
}

#[derive(Default)]
struct Trace {
    hash: u64,
    shown: bool,
    counts: Counts,
}

thread_local! {
    static TRACE: RefCell<Trace> = RefCell::default();
    static NOW: Cell<u64> = const { Cell::new(0) };
}

/// Begins the trace of a run; `shown` prints it too.
pub(crate) fn begin(shown: bool) {
    TRACE.with_borrow_mut(|trace| {
        *trace = Trace {
            shown,
            ..Trace::default()
        }
    });
}

/// The hash of everything noted, and the counts.
pub(crate) fn finish() -> (u64, Counts) {
    TRACE.with_borrow_mut(|trace| (trace.hash, std::mem::take(&mut trace.counts)))
}

/// The time that lines of the trace begin with.
pub(crate) fn set_clock(now: u64) {
    NOW.set(now);
    number(now);
}

pub(crate) fn hit(fault: Fault) {
    TRACE.with_borrow_mut(|trace| trace.counts.0[fault as usize] += 1);
}

pub(crate) fn number(number: u64) {
    TRACE.with_borrow_mut(|trace| trace.hash = mix(trace.hash, number));
}

pub(crate) fn bytes(bytes: &[u8]) {
    let (words, rest) = bytes.as_chunks::<8>();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    TRACE.with_borrow_mut(|trace| {
        let hash = words.iter().fold(trace.hash, |hash, word| {
            mix(hash, u64::from_ne_bytes(*word))
        });
        trace.hash = mix(hash, u64::from_ne_bytes(last) ^ (bytes.len() as u64) << 56);
    });
}

/// A line of the trace, made only if it is shown; what is to be compared has to be noted too.
pub(crate) fn line(text: impl FnOnce() -> String) {
    if TRACE.with_borrow(|trace| trace.shown) {
        println!("{:>9} {}", NOW.get(), text());
    }
}

const fn mix(hash: u64, number: u64) -> u64 {
    (hash ^ number)
        .rotate_left(29)
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
}
