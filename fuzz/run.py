#!/usr/bin/env python3
"""Builds the fuzz targets and runs them: `make fuzz SECONDS=60`.

    run.py --seconds 60           every target so long, two at a time; what is found is kept
    run.py --smoke                every committed corpus and some seconds more (part of `make test`)
    run.py --only frames utf8     some of them
    run.py --merge                no fuzzing: what was found into the committed corpora, reduced
    run.py --seeds                no fuzzing: the cases of the transcripts into the committed seeds
    run.py --list                 the targets

Needs cargo-fuzz (`cargo install cargo-fuzz --locked`) and any rustc: RUSTC_BOOTSTRAP makes a
stable one take the sanitizer's options. What is found lies in the build folder and is where the
next run begins. One line for each target, and a closing line `N passed, N failed, N skipped`; a
target that fails leaves its input in fuzz/artifacts.
"""
import argparse
import base64
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tools"))
from checkout import ROOT, TARGET  # noqa: E402

FUZZ = ROOT / "fuzz"
BUILD = TARGET / "fuzz"
FINDS = TARGET / "fuzz-finds"
CORPUS = FUZZ / "corpus"  # what fuzzing has found, reduced
SEEDS = FUZZ / "seeds"  # what people have thought of; whole
SMOKE_SECONDS = 5
SLOW = 30  # seconds for one input, on a machine that does something else as well

# Longest input, and most MiB in one allocation: nothing is reserved on a peer's word.
LIMITS = {
    "frames": (4096, 2),
    "utf8": (512, 2),
    "handshake_server": (2048, 2),
    "handshake_client": (2048, 2),
    "handshake_pair": (2048, 2),
    "deflate": (2048, 2),
    "deflate_pair": (2048, 8),
    "connection": (4096, 2),
    "c_abi": (1024, 64),
}


def environment(scratch):
    options = os.environ.get("ASAN_OPTIONS", "")
    return {**os.environ, "RUSTC_BOOTSTRAP": "1", "TMPDIR": str(scratch),
            "ASAN_OPTIONS": ":".join(filter(None, [options, "detect_leaks=1"]))}


def cargo_fuzz(*arguments, **more):
    return subprocess.run(["cargo", "fuzz", *arguments], cwd=ROOT,
                          env={**os.environ, "RUSTC_BOOTSTRAP": "1"}, text=True, **more)


def targets():
    return cargo_fuzz("list", check=True, stdout=subprocess.PIPE).stdout.split()


def build(names):
    """Builds them; the folder of the programs, None when that failed."""
    if len(names) == 1:
        done = cargo_fuzz("build", "--target-dir", str(BUILD), names[0])
    else:
        done = cargo_fuzz("build", "--target-dir", str(BUILD))
    host = re.search(r"^host: (\S+)", subprocess.run(["rustc", "-vV"], check=True, text=True,
                                                     stdout=subprocess.PIPE).stdout, re.M)[1]
    return None if done.returncode else BUILD / host / "release"


def read_inputs(path):
    """The inputs of a file: one a line, in base64."""
    lines = path.read_text().split() if path.exists() else []
    return [base64.b64decode(line, validate=True) for line in lines]


def write_inputs(path, inputs):
    """The smallest first, so that a change of the file can be read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [base64.b64encode(i).decode() + "\n" for i in sorted(set(inputs), key=lambda i: (len(i), i))]
    path.write_text("".join(lines))
    return f"{len(lines)} inputs, {path.stat().st_size:,} bytes"


def expand(folder, inputs):
    """The inputs as the files that libFuzzer reads; how many."""
    folder.mkdir(parents=True, exist_ok=True)
    for data in inputs:
        (folder / hashlib.sha1(data).hexdigest()).write_bytes(data)
    return len(set(inputs))


def contents(folder):
    return [path.read_bytes() for path in folder.iterdir() if path.is_file()]


def seeds():
    """Writes the seeds anew."""
    with tempfile.TemporaryDirectory(prefix="wsabi-fuzz-") as scratch:
        done = subprocess.run(["cargo", "run", "--quiet", "--manifest-path", str(FUZZ / "Cargo.toml"),
                               "--target-dir", str(TARGET / "fuzz-seeds"), "--example", "seeds", "--",
                               scratch], cwd=ROOT)
        if done.returncode:
            return 1
        for folder in sorted(Path(scratch).iterdir()):
            print(f"{folder.name}: {write_inputs(SEEDS / f'{folder.name}.txt', contents(folder))}")
    return 0


class Run:
    """One target's run, or its corpus' reduction."""

    def __init__(self, name, program):
        self.name, self.program = name, program
        self.longest, self.mebibytes = LIMITS.get(name, (4096, 64))
        self.artifacts = FUZZ / "artifacts" / name

    def command(self, *options):
        dictionary = FUZZ / "dictionaries" / f"{self.name}.dict"
        return [str(self.program), f"-max_len={self.longest}", f"-timeout={SLOW}",
                f"-malloc_limit_mb={self.mebibytes}", "-rss_limit_mb=4096",
                f"-artifact_prefix={self.artifacts}/", "-print_final_stats=1",
                *([f"-dict={dictionary}"] if dictionary.exists() else []), *options]

    def start(self, *options):
        self.artifacts.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="wsabi-fuzz-") as scratch:
            return subprocess.run(self.command(*options), cwd=scratch, env=environment(scratch),
                                  stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                                  encoding="utf-8", errors="replace")

    def fuzz(self, seconds, finds, least=0):
        """Runs it, with at least so many inputs to begin with; (passed, text)."""
        finds.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="wsabi-fuzz-") as known:
            own = expand(Path(known), self.known())
            done = self.start(f"-max_total_time={seconds}", str(finds), known)
        count = re.search(r"stat::number_of_executed_units: (\d+)", done.stdout)
        cover = re.findall(r"\bcov: (\d+)", done.stdout)
        count = int(count[1]) if count else 0
        if done.returncode == 0 and count > own >= least:
            return True, (f"PASS  {self.name}: {count:,} executions, {cover[-1] if cover else '?'} "
                          f"places reached, {own} inputs to begin with")
        if done.returncode == 0:
            return False, f"FAIL  {self.name}: {count} executions, {own} inputs to begin with"
        left = re.findall(r"Test unit written to (\S+)", done.stdout)
        lines = done.stdout.splitlines()
        # What went wrong comes before the trace of the sanitizer.
        begin = next((i for i, line in enumerate(lines) if re.search(r"panicked at|^==\d+==", line)),
                     max(0, len(lines) - 60))
        words = [f"FAIL  {self.name}: exit status {done.returncode}", *lines[begin:begin + 60]]
        again = ["cargo", "fuzz", "run", "--target-dir", os.path.relpath(BUILD, ROOT), self.name]
        for path in left:
            once = shlex.join([*again, os.path.relpath(path, ROOT)])
            words.append(f"again: RUSTC_BOOTSTRAP=1 {once}")
        return False, "\n".join(words)

    def known(self):
        file = f"{self.name}.txt"
        return read_inputs(CORPUS / file) + read_inputs(SEEDS / file)

    def merge(self):
        """Reduces corpus and finds to inputs that each reach a place no other does."""
        finds = FINDS / self.name
        finds.mkdir(parents=True, exist_ok=True)
        with (tempfile.TemporaryDirectory(prefix="wsabi-fuzz-") as fresh,
              tempfile.TemporaryDirectory(prefix="wsabi-fuzz-") as known):
            expand(Path(known), self.known())
            # Places only, not how often each: a tenth of the inputs.
            done = self.start("-merge=1", "-use_counters=0", fresh, known, str(finds))
            if done.returncode:
                return False, "\n".join([f"FAIL  {self.name}: merging", *done.stdout.splitlines()[-30:]])
            seeds = set(read_inputs(SEEDS / f"{self.name}.txt"))
            kept = [data for data in contents(Path(fresh)) if data not in seeds]
            return True, f"PASS  {self.name}: {write_inputs(CORPUS / f'{self.name}.txt', kept)}"


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60, metavar="N")
    parser.add_argument("--jobs", type=int, default=2, metavar="N")
    parser.add_argument("--only", nargs="+", metavar="TARGET")
    parser.add_argument("--smoke", action="store_true")
    parser.add_argument("--merge", action="store_true")
    parser.add_argument("--seeds", action="store_true")
    parser.add_argument("--list", action="store_true")
    args = parser.parse_args()
    if args.seconds < 1 or args.jobs < 1:
        parser.error("--seconds and --jobs have to be at least 1")
    if args.seeds:
        return seeds()
    if shutil.which("cargo-fuzz") is None:
        print("SKIP  fuzz: cargo-fuzz is missing (cargo install cargo-fuzz --locked)")
        print("0 passed, 0 failed, 1 skipped")
        return 0
    names = targets()
    if unknown := set(args.only or ()) - set(names):
        parser.error(f"no target {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    names = [name for name in names if not args.only or name in args.only]
    if args.list:
        print(*names, sep="\n")
        return 0
    folder = build(names)
    if folder is None:
        print("FAIL  the targets cannot be built")
        print(f"0 passed, {len(names)} failed, 0 skipped")
        return 1

    def work(name):
        run = Run(name, folder / name)
        if args.merge:
            good, text = run.merge()
        elif args.smoke:
            with tempfile.TemporaryDirectory(prefix="wsabi-fuzz-") as finds:
                good, text = run.fuzz(SMOKE_SECONDS, Path(finds), least=1)
        else:
            good, text = run.fuzz(args.seconds, FINDS / name)
        print(text, flush=True)
        return good

    with ThreadPoolExecutor(args.jobs) as pool:
        results = list(pool.map(work, names))
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed, 0 skipped")
    return 0 if passed == len(results) else 1


if __name__ == "__main__":
    sys.exit(main())
