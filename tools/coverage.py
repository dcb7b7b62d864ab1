#!/usr/bin/env python3
"""Which lines of the protocol no test of the core runs: `make coverage`.

    tools/coverage.py                     core/src/protocol, at least 98 % of its lines
    tools/coverage.py --floor 90 core/src another folder, another floor
    tools/coverage.py --only wsabi splits some of the test programs, for a quick look

Builds the core's tests with rustc's own instrumentation, runs them, and lists every line that
none of them ran. Tests do not count as lines. Exit code 1 below the floor or when a test fails,
2 when a tool is missing.

The profiles are read by LLVM's tools of the rustc at hand, or of Debian's packages when they are
as new as that rustc's LLVM.
"""
import argparse
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from checkout import ROOT, TARGET

FLOOR = 98.0
FOLDER = "core/src/protocol"
BUILD = TARGET / "coverage"
HOW = "rustup component add llvm-tools, or apt-get install llvm-22 or what is as new as rustc's LLVM"


def rustc(*arguments):
    return subprocess.run(["rustc", *arguments], capture_output=True, text=True, check=True).stdout


def llvm_major():
    return int(re.search(r"^LLVM version: (\d+)", rustc("-vV"), re.M)[1])


def host():
    return re.search(r"^host: (\S+)", rustc("-vV"), re.M)[1]


def llvm_tools():
    """(llvm-profdata, llvm-cov) that read this rustc's profiles; None when there are none."""
    names, major = ("llvm-profdata", "llvm-cov"), llvm_major()
    own = Path(rustc("--print", "sysroot").strip()) / "lib" / "rustlib" / host() / "bin"
    if all((own / name).exists() for name in names):
        return [str(own / name) for name in names]
    # A newer LLVM reads an older one's profiles, not the other way round.
    for version in range(major, major + 10):
        found = [shutil.which(f"{name}-{version}") for name in names]
        if all(found):
            return found
    found = [shutil.which(name) for name in names]
    if all(found):
        words = subprocess.run([found[1], "--version"], capture_output=True, text=True).stdout
        version = re.search(r"LLVM version (\d+)", words)
        if version and int(version[1]) >= major:
            return found
    return None


def build(only):
    """The core's test programs, built with instrumentation."""
    chosen = [word for name in only
              for word in (["--lib"] if name == "wsabi" else ["--test", name])] or ["--tests"]
    # With a target named, what runs while building is not instrumented.
    done = subprocess.run(["cargo", "test", "-p", "wsabi", *chosen, "--no-run", "--message-format",
                           "json-render-diagnostics", "--target-dir", str(BUILD), "--target", host()],
                          cwd=ROOT,
                          stdout=subprocess.PIPE, text=True,
                          env={**os.environ, "RUSTFLAGS": "-Cinstrument-coverage"})
    if done.returncode:
        sys.exit(1)
    messages = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return [m["executable"] for m in messages
            if m.get("reason") == "compiler-artifact" and m.get("executable") and m["profile"]["test"]]


def run(programs, raw):
    """Runs them; True when all passed."""
    good = True
    for program in programs:
        # One file for each process, because tests start processes of their own.
        env = {**os.environ, "LLVM_PROFILE_FILE": str(raw / "%p-%m.profraw"),
               "CARGO_MANIFEST_DIR": str(ROOT / "core")}
        print(f"--- {Path(program).name}", flush=True)
        done = subprocess.run([program, "--quiet"], cwd=ROOT / "core", env=env, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        if done.returncode:
            print(done.stdout)
            good = False
    return good


def tests_begin(lines):
    """The index of the line at which a file's own tests begin."""
    for i, line in enumerate(lines[:-1]):
        if line == "#[cfg(test)]" and re.match(r"mod tests\b", lines[i + 1]):
            return i
    return len(lines)


def counts(lcov):
    """{file: {line: times}} of a report."""
    found, current = {}, None
    for line in lcov.splitlines():
        if line.startswith("SF:"):
            current = found.setdefault(Path(line[3:]), {})
        elif match := re.match(r"DA:(\d+),(\d+)", line):
            number, times = int(match[1]), int(match[2])
            current[number] = max(times, current.get(number, 0))
    return found


def report(found, folder):
    """Prints a table and the lines; (lines, lines that nothing ran)."""
    total, missed, listed = 0, 0, []
    print(f"\n{'file':42}{'lines':>8}{'missed':>8}{'%':>8}")
    for path in sorted(folder.rglob("*.rs")):
        source = path.read_text().splitlines()
        end = tests_begin(source)
        known = {n: times for n, times in found.get(path, {}).items() if n <= end}
        bad = sorted(n for n, times in known.items() if times == 0)
        name = path.relative_to(ROOT)
        if known:
            share = 100 * (len(known) - len(bad)) / len(known)
            print(f"{str(name):42}{len(known):8}{len(bad):8}{share:8.1f}")
        listed += [f"{name}:{n}: {source[n - 1].strip()}" for n in bad]
        total, missed = total + len(known), missed + len(bad)
    if listed:
        print("\nrun by no test:")
        print(*("  " + line for line in listed), sep="\n")
    return total, missed


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", default=FOLDER)
    parser.add_argument("--floor", type=float, default=FLOOR, metavar="PERCENT")
    parser.add_argument("--only", nargs="+", default=[], metavar="NAME")
    args = parser.parse_args()
    folder = (ROOT / args.folder).resolve()
    if not folder.is_dir():
        parser.error(f"{args.folder} is no folder of this checkout")
    tools = llvm_tools()
    if tools is None:
        print(f"missing: llvm-cov and llvm-profdata ({HOW})", file=sys.stderr)
        return 2
    profdata, cov = tools
    programs = build(args.only)
    raw, merged = BUILD / "raw", BUILD / "all.profdata"
    shutil.rmtree(raw, ignore_errors=True)
    raw.mkdir(parents=True)
    good = run(programs, raw)
    profiles = sorted(str(p) for p in raw.glob("*.profraw"))
    # A process that a test kills leaves an incomplete file.
    subprocess.run([profdata, "merge", "--failure-mode=all", "-sparse", "-o", str(merged), *profiles],
                   check=True, stderr=subprocess.DEVNULL)
    objects = [word for program in programs[1:] for word in ("-object", program)]
    lcov = subprocess.run([cov, "export", "-format=lcov", f"-instr-profile={merged}", programs[0],
                           *objects, "-sources", str(folder)],
                          check=True, capture_output=True, text=True).stdout
    total, missed = report(counts(lcov), folder)
    if total == 0:
        print(f"no line of {args.folder} was found in the report")
        return 1
    share = 100 * (total - missed) / total
    print(f"\n{args.folder}: {share:.2f} % of {total} lines, {missed} of them run by no test "
          f"(at least {args.floor:g} %)")
    if not good:
        print("FAIL  a test failed under instrumentation")
    if share < args.floor:
        print(f"FAIL  less than {args.floor:g} %" + (" by some of the tests" if args.only else ""))
    return 0 if good and share >= args.floor else 1


if __name__ == "__main__":
    sys.exit(main())
