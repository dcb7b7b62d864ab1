//! Everything that may be called from any thread, called from four threads at once, while the loop
//! runs, its connections come and go, and it ends with calls under way.
//!
//! A program and not a list of `#[test]`s: under ThreadSanitizer it must be the only one that
//! starts threads, because the test harness' own hand-overs would be reported. `run.py` beside it
//! builds it so. With the argument `planted-race` it contains a race, to see that one is found.
//!
//! Does not know: what the calls do on the loop's own thread.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    unreachable_pub,
    reason = "this is a test program"
)]

mod board;
mod callers;
mod office;
mod planted;
mod scenes;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

const SCENES: &[(&str, fn())] = &[
    (
        "every_call_while_connections_come_and_go",
        scenes::every_call_while_connections_come_and_go,
    ),
    (
        "the_loop_ends_with_calls_under_way",
        scenes::the_loop_ends_with_calls_under_way,
    ),
    (
        "the_loop_ends_while_names_are_looked_up",
        scenes::the_loop_ends_while_names_are_looked_up,
    ),
    (
        "several_loops_share_a_message",
        scenes::several_loops_share_a_message,
    ),
    (
        "two_loops_command_one_another",
        scenes::two_loops_command_one_another,
    ),
];

fn main() -> ExitCode {
    if std::env::args().any(|argument| argument == "planted-race") {
        planted::race();
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, scene) in SCENES {
        // What it says of itself is on stderr already.
        let ended = catch_unwind(AssertUnwindSafe(scene)).is_ok();
        println!("{} {name}", if ended { "ok   " } else { "FAIL " });
        failed += usize::from(!ended);
    }
    println!(
        "{} passed, {failed} failed, 0 skipped",
        SCENES.len() - failed
    );
    ExitCode::from(u8::from(failed > 0))
}
