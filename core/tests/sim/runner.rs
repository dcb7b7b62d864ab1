//! The command line: which seeds are run, on how many threads, and what is printed about them.
//!
//! Does not know: what a run does.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::chance::{Counts, Fault};
use crate::plant::Plant;
use crate::world::{self, Outcome};

/// Seeds that have failed once; they are always run. What a seed means changes with `setup.rs`: who
/// changes that looks for others, or the list is only a sample.
const REGRESSIONS: &[u64] = &[
    // A drain was told that backpressure had overtaken, or twice.
    68, 85, 130, 227, 258, //
    // A ping was told after its announcement was answered by terminate.
    1640, 1754, 2505, //
    // Room was made for what had not come, and a server's budget did not know.
    1518463,
];
/// One seed of so many is run twice, and has to come to the same.
const SAMPLE: u64 = 64;
/// Within so many seeds every planted defect has to be found, and every fault to be injected.
const ENOUGH: u64 = 400;

const HELP: &str = "\
usage: sim [OPTIONS]
  --seeds N     how many seeds to run (default 500)
  --from S      the first of them (default 1)
  --seconds T   stop after so many seconds, whatever --seeds says
  --threads T   on how many threads (default: one for each processor)
  --seed X      run this seed only
  --trace       and print what happens in it
  --keep-going  do not stop at the first seed that fails";

struct Options {
    seeds: u64,
    from: u64,
    seconds: Option<u64>,
    threads: usize,
    seed: Option<u64>,
    trace: bool,
    keep_going: bool,
}

fn options() -> Result<Option<Options>, String> {
    let mut options = Options {
        seeds: 500,
        from: 1,
        seconds: None,
        threads: std::thread::available_parallelism().map_or(1, Into::into),
        seed: None,
        trace: false,
        keep_going: false,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || {
            let value = arguments
                .next()
                .ok_or(format!("{argument} needs a number"))?;
            value
                .parse::<u64>()
                .map_err(|_| format!("{argument} needs a number, not {value:?}"))
        };
        match argument.as_str() {
            "--seeds" => options.seeds = number()?,
            "--from" => options.from = number()?,
            "--seconds" => {
                options.seconds = Some(number()?);
                options.seeds = u64::MAX / 2;
            }
            "--threads" => options.threads = number()?.clamp(1, 1024) as usize,
            "--seed" => options.seed = Some(number()?),
            "--trace" => options.trace = true,
            "--keep-going" => options.keep_going = true,
            "--help" | "-h" => {
                println!("{HELP}");
                return Ok(None);
            }
            // What `cargo test` gives to every test program.
            "--nocapture" | "--no-capture" | "--quiet" | "-q" | "--exact" | "--include-ignored" => {
            }
            other if other.starts_with("--test-threads") || other.starts_with("--color") => {}
            other if other.starts_with('-') => {
                return Err(format!("unknown option {other}\n{HELP}"));
            }
            // A filter that means other tests.
            other if !"sim".contains(other) => return Ok(None),
            _ => {}
        }
    }
    Ok(Some(options))
}

pub(crate) fn main() -> ExitCode {
    let options = match options() {
        Ok(Some(options)) => options,
        Ok(None) => return ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sim: {error}");
            return ExitCode::from(2);
        }
    };
    catch_messages();
    if let Some(seed) = options.seed {
        return run_one(seed, options.trace);
    }
    run_many(&options)
}

thread_local! {
    static PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// A panic's place and words go into the report of its seed.
fn catch_messages() {
    std::panic::set_hook(Box::new(|info| {
        PANIC.with_borrow_mut(|text| *text = info.to_string().replace('\n', " "));
    }));
}

fn run(seed: u64, shown: bool, plant: Option<Plant>) -> Outcome {
    let outcome = catch_unwind(AssertUnwindSafe(|| world::run(seed, shown, plant)));
    outcome.unwrap_or_else(|_| Outcome {
        hash: 0,
        counts: Counts::default(),
        violation: Some(PANIC.with_borrow_mut(std::mem::take)),
        ends: 0,
        messages: 0,
    })
}

fn run_one(seed: u64, shown: bool) -> ExitCode {
    let outcome = run(seed, shown, None);
    let again = run(seed, false, None);
    println!("seed {seed}: trace {:#018x}", outcome.hash);
    let differs =
        (outcome.hash != again.hash).then(|| "the same seed gave another trace".to_owned());
    match outcome.violation.or(differs) {
        Some(violation) => {
            println!("FAILED seed {seed}: {violation}");
            ExitCode::FAILURE
        }
        None => {
            println!("ok");
            ExitCode::SUCCESS
        }
    }
}

/// What all runs came to.
#[derive(Default)]
struct Total {
    counts: Counts,
    runs: u64,
    twice: u64,
    connections: u64,
    messages: u64,
    failures: Vec<(u64, String)>,
}

fn run_many(options: &Options) -> ExitCode {
    let begin = Instant::now();
    let mut failed = 0;
    let mut check = |name: &str, result: Result<String, String>| match result {
        Ok(text) => println!("ok    {name}: {text}"),
        Err(text) => {
            println!("FAIL  {name}: {text}");
            failed += 1;
        }
    };
    check("planted defects are found", find_planted());
    let regressions = REGRESSIONS
        .iter()
        .find_map(|&seed| Some((seed, run(seed, false, None).violation?)));
    check(
        "seeds that failed once",
        match regressions {
            Some((seed, violation)) => Err(report(seed, &violation)),
            None => Ok(format!("{} of them", REGRESSIONS.len())),
        },
    );
    let total = spread(options);
    let seconds = begin.elapsed().as_secs_f64();
    println!(
        "{} seeds, {} connections, {} messages, {} seeds run twice, {seconds:.1} s",
        total.runs, total.connections, total.messages, total.twice
    );
    for (name, count) in Fault::NAMES.iter().zip(total.counts.0) {
        println!("{count:>12}  {name}");
    }
    let first = total.failures.iter().min();
    if options.keep_going {
        for (seed, violation) in &total.failures {
            println!("      seed {seed}: {violation}");
        }
    }
    check(
        "every invariant, at every seed",
        match first {
            Some((seed, violation)) => Err(report(*seed, violation)),
            None => Ok(format!("{} seeds from {}", total.runs, options.from)),
        },
    );
    let missing: Vec<&str> = Fault::NAMES
        .iter()
        .zip(total.counts.0)
        .filter(|&(_, count)| count == 0)
        .map(|(name, _)| *name)
        .collect();
    if total.runs >= ENOUGH {
        check(
            "every kind of fault is injected",
            match missing[..] {
                [] => Ok(format!("{} kinds", Fault::NAMES.len())),
                _ => Err(format!("never: {}", missing.join(", "))),
            },
        );
    }
    println!(
        "{} passed, {failed} failed, 0 skipped",
        if total.runs >= ENOUGH {
            4 - failed
        } else {
            3 - failed
        }
    );
    ExitCode::from(u8::from(failed > 0))
}

fn report(seed: u64, violation: &str) -> String {
    format!(
        "seed {seed}: {violation}\n      again: cargo test -p wsabi --test sim -- --seed {seed} --trace"
    )
}

/// Runs the seeds on all threads.
fn spread(options: &Options) -> Total {
    let deadline = options
        .seconds
        .map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let total = Mutex::new(Total::default());
    std::thread::scope(|scope| {
        for _ in 0..options.threads {
            scope.spawn(|| {
                let part = work(options, deadline, &next, &stop);
                let mut total = total.lock().expect("no thread panics with it");
                total.counts.add(&part.counts);
                total.runs += part.runs;
                total.twice += part.twice;
                total.connections += part.connections;
                total.messages += part.messages;
                total.failures.extend(part.failures);
            });
        }
    });
    total.into_inner().expect("no thread panics with it")
}

fn work(
    options: &Options,
    deadline: Option<Instant>,
    next: &AtomicU64,
    stop: &AtomicBool,
) -> Total {
    let mut total = Total::default();
    while !stop.load(Ordering::Relaxed) && deadline.is_none_or(|at| Instant::now() < at) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= options.seeds {
            break;
        }
        let seed = options.from + number;
        let outcome = run(seed, false, None);
        let mut violation = outcome.violation;
        if seed.is_multiple_of(SAMPLE) {
            total.twice += 1;
            if run(seed, false, None).hash != outcome.hash {
                violation =
                    violation.or_else(|| Some("the same seed gave another trace".to_owned()));
            }
        }
        total.runs += 1;
        total.connections += outcome.ends;
        total.messages += outcome.messages;
        total.counts.add(&outcome.counts);
        if let Some(violation) = violation {
            total.failures.push((seed, violation));
            stop.store(!options.keep_going, Ordering::Relaxed);
        }
    }
    total
}

/// Every planted defect has to be seen.
fn find_planted() -> Result<String, String> {
    let mut found = Vec::new();
    for &(plant, name) in Plant::ALL {
        let seen = (1..=ENOUGH).find(|&seed| {
            if run(seed, false, None).violation.is_some() {
                return false;
            }
            let outcome = run(seed, false, Some(plant));
            let again =
                plant == Plant::Wavers && run(seed, false, Some(plant)).hash != outcome.hash;
            outcome.violation.is_some() || again
        });
        match seen {
            Some(seed) => found.push(seed),
            None => return Err(format!("in {ENOUGH} seeds nobody noticed that {name}")),
        }
    }
    Ok(format!(
        "{} of {}, at the seeds {found:?}",
        found.len(),
        Plant::ALL.len()
    ))
}
