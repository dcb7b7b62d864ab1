//! Every call of the loop to the system fails in turn: the first, the second, and so on until a
//! script comes to its end without; with each error that the call may have, once and for good.
//!
//! Runs with `RUSTFLAGS="--cfg wsabi_faults"` only, as the suite `faults` of `make test` does.
//!
//! Does not know: what the scripts do, or how a run is judged.

#![cfg(all(target_os = "linux", wsabi_faults, not(wsabi_mio)))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    unreachable_pub,
    reason = "these are tests"
)]

mod net;
#[path = "net_faults/run.rs"]
mod run;
#[path = "net_faults/scripts.rs"]
mod scripts;

use std::collections::BTreeMap;
use std::panic::catch_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use libc::{
    EAGAIN, ECONNABORTED, ECONNRESET, EINTR, EMFILE, ENFILE, ENOBUFS, ENOMEM, ENOSPC, ENOTCONN,
    EPIPE, ETIMEDOUT,
};
use run::{Effect, Outcome, Script, perform};
use scripts::SCRIPTS;
use wsabi::net::sys::Call;
use wsabi::net::sys::faults::{self, Fault, Plan};

/// Failed runs after which no more are made.
const MOST_FAILURES: u64 = 8;
/// For good.
const ALWAYS: u64 = u64::MAX;

/// What fails, how, how often in a row, and what may come of it.
const FAULTS: &[(Call, &[i32], &[u64], Effect)] = &[
    (
        Call::Socket,
        &[EMFILE, ENFILE, ENOBUFS, ENOMEM],
        &[1, ALWAYS],
        Effect::Harm,
    ),
    (
        Call::SetOption,
        &[ENOBUFS, ENOMEM],
        &[1, ALWAYS],
        Effect::Harm,
    ),
    (Call::Bind, &[ENOBUFS, ENOMEM], &[1], Effect::Harm),
    (Call::Listen, &[ENOBUFS, ENOMEM], &[1], Effect::Harm),
    (
        Call::Accept,
        &[EINTR, ECONNABORTED, ECONNRESET, ETIMEDOUT, EAGAIN],
        &[1, 3],
        Effect::None,
    ),
    (
        Call::Accept,
        &[EMFILE, ENFILE, ENOBUFS, ENOMEM],
        &[1],
        Effect::Told,
    ),
    (
        Call::Accept,
        &[EMFILE, ENOMEM, ECONNABORTED],
        &[ALWAYS],
        Effect::Harm,
    ),
    (Call::Connect, &[EINTR], &[1, 3], Effect::None),
    (
        Call::Connect,
        &[EAGAIN, ETIMEDOUT, ECONNRESET, ENOBUFS, ENOMEM],
        &[1, ALWAYS],
        Effect::Harm,
    ),
    (
        Call::Outcome,
        &[ETIMEDOUT, ECONNRESET, ENOBUFS],
        &[1, ALWAYS],
        Effect::Harm,
    ),
    (Call::Recv, &[EINTR, EAGAIN], &[1, 3], Effect::None),
    (
        Call::Recv,
        &[ECONNRESET, ETIMEDOUT, ENOBUFS, ENOMEM],
        &[1, ALWAYS],
        Effect::Harm,
    ),
    (Call::Send, &[EINTR, EAGAIN], &[1, 3], Effect::None),
    (
        Call::Send,
        &[ECONNRESET, EPIPE, ETIMEDOUT, ENOBUFS, ENOMEM],
        &[1, ALWAYS],
        Effect::Harm,
    ),
    (Call::Shutdown, &[EINTR], &[1, 3], Effect::None),
    (
        Call::Shutdown,
        &[ENOTCONN, ENOBUFS],
        &[1, ALWAYS],
        Effect::Harm,
    ),
    (
        Call::EpollCreate,
        &[EMFILE, ENFILE, ENOMEM],
        &[1],
        Effect::Harm,
    ),
    (
        Call::EpollAdd,
        &[ENOMEM, ENOSPC],
        &[1, ALWAYS],
        Effect::Harm,
    ),
    (Call::EpollModify, &[ENOMEM], &[1, ALWAYS], Effect::Harm),
    (Call::EpollWait, &[EINTR], &[1, 3], Effect::None),
    (Call::EpollWait, &[ENOMEM], &[1], Effect::Told),
    (
        Call::TimerCreate,
        &[EMFILE, ENFILE, ENOMEM],
        &[1],
        Effect::Harm,
    ),
    (Call::TimerSet, &[ENOMEM], &[1], Effect::None),
    (Call::TimerRead, &[EINTR, EAGAIN], &[1, 3], Effect::None),
    (
        Call::EventCreate,
        &[EMFILE, ENFILE, ENOMEM],
        &[1],
        Effect::Harm,
    ),
    (Call::EventRead, &[EINTR, EAGAIN], &[1, 3], Effect::None),
    (Call::EventWrite, &[EINTR], &[1, 3], Effect::None),
    (Call::Resolve, &[EAGAIN, ENOMEM], &[1, ALWAYS], Effect::Harm),
    (Call::Thread, &[EAGAIN, ENOMEM], &[1, ALWAYS], Effect::Harm),
    (Call::Random, &[EAGAIN, ENOMEM], &[1], Effect::Harm),
];

/// Reads and writes of this many bytes at most.
const SHORT: &[(Call, usize)] = &[
    (Call::Recv, 1),
    (Call::Recv, 1500),
    (Call::Send, 1),
    (Call::Send, 1500),
];

#[derive(Default)]
struct Tally {
    runs: u64,
    failed: u64,
    /// Injected faults.
    struck: BTreeMap<(Call, Fault), u64>,
}

impl Tally {
    fn add(&mut self, other: Self) {
        self.runs += other.runs;
        self.failed += other.failed;
        for (what, count) in other.struck {
            *self.struck.entry(what).or_default() += count;
        }
    }

    /// One run; tells whether it made the call that was to fail.
    fn run(
        &mut self,
        (name, script): (&str, Script),
        plan: Plan,
        effect: Effect,
        usual: &Outcome,
    ) -> bool {
        let judged = catch_unwind(|| {
            let outcome = perform(name, script, Some(plan), effect);
            if effect != Effect::Harm {
                assert_eq!(&outcome, usual, "{name} under {plan:?}");
            }
        });
        self.runs += 1;
        let struck = faults::struck();
        *self.struck.entry((plan.call, plan.fault)).or_default() += struck;
        self.failed += u64::from(judged.is_err());
        assert!(self.failed < MOST_FAILURES, "too many runs failed");
        // Another call to come has another number.
        faults::made(plan.call) >= plan.nth && judged.is_ok()
    }

    /// Fails the first call of a kind, the second, and so on, until a run is clean.
    fn run_all(
        &mut self,
        script: (&str, Script),
        (call, fault, times): (Call, Fault, u64),
        effect: Effect,
        usual: &Outcome,
    ) {
        let mut nth = 1;
        let plan = |nth| Plan {
            call,
            nth,
            times,
            fault,
        };
        while self.run(script, plan(nth), effect, usual) {
            // Of hundreds of calls in a row only some are worth their time.
            nth += 1 + nth / 16;
        }
    }
}

/// One script under every fault.
fn torture(tally: &mut Tally, (name, script): (&str, Script)) {
    let begun = (Instant::now(), tally.runs);
    let usual = perform(name, script, None, Effect::None);
    for &(call, errnos, times, effect) in FAULTS {
        let pairs = errnos
            .iter()
            .flat_map(|errno| times.iter().map(move |times| (errno, times)));
        for (&errno, &times) in pairs {
            let order = (call, Fault::Errno(errno), times);
            tally.run_all((name, script), order, effect, &usual);
        }
    }
    for &(call, most) in SHORT {
        let order = (call, Fault::Short(most), 1);
        tally.run_all((name, script), order, Effect::None, &usual);
    }
    let (runs, time) = (tally.runs - begun.1, begun.0.elapsed());
    println!("{name}: {runs} runs in {time:.1?}");
}

/// Takes scripts until none is left. Its thread gets a table of descriptors of its own, so that it
/// can count them.
fn work(next: &AtomicUsize, scripts: &[(&str, Script)]) -> Tally {
    // SAFETY: the thread goes on with a copy of the table; whatever it has open stays open.
    assert_eq!(unsafe { libc::unshare(libc::CLONE_FILES) }, 0);
    let mut tally = Tally::default();
    while let Some(&script) = scripts.get(next.fetch_add(1, Ordering::Relaxed)) {
        torture(&mut tally, script);
    }
    tally
}

#[test]
fn every_call_of_every_script_can_fail() {
    let only = std::env::var("WSABI_SCRIPT").unwrap_or_default();
    let wanted = SCRIPTS.iter().filter(|(name, _)| name.contains(&only));
    let wanted: Vec<_> = wanted.copied().collect();
    let (next, mut all) = (AtomicUsize::new(0), Tally::default());
    // More than there are processors, because much of a run's time is waiting.
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| work(&next, &wanted)))
            .collect();
        for worker in workers {
            all.add(worker.join().expect("its panics are caught"));
        }
    });
    for ((call, fault), count) in &all.struck {
        println!("{call:?} {}: {count}", shown(*fault));
    }
    let faults: u64 = all.struck.values().sum();
    println!(
        "{faults} faults in {} runs of {} scripts",
        all.runs,
        wanted.len()
    );
    assert_eq!(all.failed, 0, "runs failed, see above");
    let never: Vec<_> = all
        .struck
        .iter()
        .filter(|(_, count)| **count == 0)
        .collect();
    assert!(
        !only.is_empty() || never.is_empty(),
        "never injected: {never:?}"
    );
}

fn shown(fault: Fault) -> String {
    match fault {
        Fault::Errno(errno) => std::io::Error::from_raw_os_error(errno).to_string(),
        Fault::Short(most) => format!("{most} bytes at most"),
    }
}
