#!/usr/bin/env python3
"""Runs all tests of the crate `wsabi` under AddressSanitizer and LeakSanitizer.

    core/tests/asan.py [ARGUMENTS OF cargo test]

Two little programs with something wrong have to be reported first. Builds below target/asan.
The closing line counts them; cargo's own lines count the tests.
"""
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import sanitizers  # noqa: E402
from checkout import Unavailable  # noqa: E402

PLANTED = {
    "use-after-free": ("heap-use-after-free", """
        fn main() {
            let freed = Box::into_raw(Box::new(1u8));
            unsafe { drop(Box::from_raw(freed)) };
            println!("{}", unsafe { std::hint::black_box(*freed) });
        }"""),
    "leak": ("detected memory leaks", """
        #[inline(never)]
        fn lose() { std::hint::black_box(Box::leak(Box::new([1u8; 100]))); }
        fn main() { lose(); std::hint::black_box([0usize; 100]); }"""),
}


def environment():
    # Optimized a little, or the tests' own deadlines are missed; the checks stay in.
    return {**os.environ, **sanitizers.environment("address"),
            "CARGO_PROFILE_DEV_OPT_LEVEL": "1", "CARGO_PROFILE_TEST_OPT_LEVEL": "1",
            "ASAN_OPTIONS": f"detect_leaks=1:detect_stack_use_after_return=1:exitcode={sanitizers.FOUND}"}


def planted():
    """How many were reported, and how many not."""
    reported = missed = 0
    folder = sanitizers.folder("address")
    for what, (words, text) in PLANTED.items():
        program = folder / f"planted-{what}"
        subprocess.run(["rustc", "--target", sanitizers.host(), *sanitizers.FLAGS["address"].split(),
                        "--crate-name", "planted", "-o", program, "-"],
                       input=text, text=True, check=True, env=environment())
        done = subprocess.run([program], capture_output=True, text=True, env=environment())
        seen = done.returncode == sanitizers.FOUND and words in done.stderr
        print(f"{'ok   ' if seen else 'FAIL '} a planted {what} is reported")
        if not seen:
            print(done.stdout + done.stderr)
        reported, missed = reported + seen, missed + (not seen)
    print(f"{reported} passed, {missed} failed, 0 skipped", flush=True)
    return missed


def main():
    try:
        sanitizers.probe("address")
    except Unavailable as error:
        print(f"SKIP  AddressSanitizer: {error}\n0 passed, 0 failed, 1 skipped")
        return 0
    missed = planted()
    # Documentation's examples are built by rustdoc, which would need the flags again.
    status = subprocess.run(
        ["cargo", "test", "-p", "wsabi", "--no-fail-fast", "--target", sanitizers.host(),
         "--target-dir", sanitizers.folder("address"), *(sys.argv[1:] or ["--lib", "--tests"])],
        cwd=ROOT, env=environment()).returncode
    return 1 if missed or status else 0


if __name__ == "__main__":
    sys.exit(main())
