#!/usr/bin/env python3
"""Runs the program beside this under ThreadSanitizer, and sees that a planted race is found.

    core/tests/threads/run.py

Without ThreadSanitizer the program is one of `cargo test`'s. Builds below target/tsan. The last line
is "N passed, N failed, N skipped".
"""
import json
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))
import sanitizers  # noqa: E402
from checkout import Unavailable  # noqa: E402

# The slowest machine's, several times over.
STUCK_SECONDS = 900


def build():
    """The program's path; cargo's words go to stderr."""
    link = [f"-Clink-arg={argument}" for argument in sanitizers.tsan_link()]
    done = subprocess.run(
        ["cargo", "rustc", "-p", "wsabi", "--test", "threads", "--target", sanitizers.host(),
         "--target-dir", sanitizers.folder("thread"), "--message-format=json-render-diagnostics",
         "--", *link],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env={**os.environ, **sanitizers.environment("thread")})
    if done.returncode:
        sys.exit("run.py: the program cannot be built")
    for line in done.stdout.splitlines():
        message = json.loads(line)
        if message.get("target", {}).get("name") == "threads" and message.get("executable"):
            return message["executable"]
    sys.exit("run.py: cargo names no program")


def run(program, *arguments):
    """Its status and output."""
    try:
        done = subprocess.run([program, *arguments], stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                              errors="replace", timeout=STUCK_SECONDS,
                              env={**os.environ, **sanitizers.tsan_options()})
    except subprocess.TimeoutExpired as late:
        return 124, (late.output or b"").decode(errors="replace") + f"\nnot done after {STUCK_SECONDS} s"
    return done.returncode, done.stdout


def check(name, passed, text, counts):
    print(f"{'ok   ' if passed else 'FAIL '} {name}", flush=True)
    counts[0 if passed else 1] += 1
    if not passed:
        print(text[-20_000:], flush=True)


def main():
    try:
        sanitizers.probe("thread")
        program = build()
    except Unavailable as error:
        print(f"SKIP  ThreadSanitizer: {error}\n0 passed, 0 failed, 1 skipped")
        return 0
    counts = [0, 0]
    status, text = run(program, "planted-race")
    found = status == sanitizers.FOUND and "data race" in text and "add_without_a_lock" in text
    check("a planted race is reported", found, text, counts)
    status, text = run(program)
    closing = re.search(r"^(\d+) passed, 0 failed, 0 skipped$", text, re.M)
    for line in text.splitlines():
        if line.startswith("# "):
            print(f"      {line[2:]}")
    races = text.count("WARNING: ThreadSanitizer")
    check(f"{closing[1] if closing else 'not all'} scenes without a report",
          status == 0 and closing is not None and races == 0, text, counts)
    print(f"{counts[0]} passed, {counts[1]} failed, 0 skipped")
    return 1 if counts[1] else 0


if __name__ == "__main__":
    sys.exit(main())
