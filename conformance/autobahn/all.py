#!/usr/bin/env python3
"""All 517 cases against the echo server and the echo client of each language (`make conformance`).

    all.py                       C, Python and Node.js, both roles: six runs
    all.py --only server-c       one of them
    all.py --write               and puts the results into conformance/README.md

Two runs at a time, because the testsuite is what takes the time. Ends with the line
`N passed, N failed, N skipped`, which counts cases; exit code 1 when one is not OK or INFORMATIONAL.
"""
from __future__ import annotations

import argparse
import collections
import concurrent.futures
import json
import os
import re
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
sys.path.insert(0, str(HERE))
import run as suite  # noqa: E402

README = HERE.parent / "README.md"
LANGUAGES = {"c": "C", "python": "Python", "node": "Node.js"}
RUNS = [f"{role}-{language}" for language in LANGUAGES for role in ("server", "client")]
COUNTS = re.compile(r"^(\d+) passed, (\d+) failed, \d+ skipped$", re.M)
BEGIN, END = "<!-- made by autobahn/all.py -->", "<!-- end -->"


def folder(name):
    target = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target")
    return target / "autobahn" / f"full-{name}"


def one(name, timeout):
    """Runs the suite once; its exit code and what it printed."""
    role, language = name.split("-")
    peer = f"examples/run {language} echo-{role}"
    argv = [sys.executable, str(HERE / "run.py"), role, "--strict", "--agent", f"wsabi-{language}",
            "--out", str(folder(name)), "--timeout", str(timeout)]
    if role == "server":
        argv += ["--start", f"{peer} {{port}} --deflate"]
    else:
        argv += ["--command", f"{peer} {{url}} --deflate"]
    done = subprocess.run(argv, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    return name, done.returncode, done.stdout


def table(names):
    """Rows of groups, a column for each run: OK and INFORMATIONAL of all."""
    counts = {}
    for name in names:
        index = json.loads((folder(name) / "index.json").read_text())
        (results,) = index.values()
        counts[name] = collections.defaultdict(collections.Counter)
        for case, result in results.items():
            counts[name][suite.order(case)[0]][suite.verdict(result)] += 1
    titles = [f"{LANGUAGES[name.split('-')[1]]} {name.split('-')[0]}" for name in names]
    lines = ["| group | cases | " + " | ".join(titles) + " |", "|---|---|" + "---|" * len(names)]
    total = collections.defaultdict(collections.Counter)
    groups = sorted(set().union(*counts.values()))
    for group in [*groups, None]:
        cells = []
        for name in names:
            found = total[name] if group is None else counts[name][group]
            if group is not None:
                total[name] += found
            cells.append(", ".join(f"{found[word]} {word}" for word in suite.COLUMNS if found[word]))
        cases = max(sum(c.values()) for c in ([counts[n][group] for n in names] if group is not None
                                              else total.values()))
        label = "total" if group is None else f"{group}.\\* {suite.GROUPS.get(group, '')}"
        lines.append(f"| {label} | {cases} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def write(names):
    text = README.read_text()
    before, rest = text.split(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{table(names)}\n{END}{rest.split(END)[1]}")
    print(f"wrote {README.relative_to(ROOT)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=RUNS, default=RUNS, metavar="RUN",
                        help=", ".join(RUNS))
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--timeout", type=float, default=3600, metavar="S", help="for each run")
    parser.add_argument("--write", action="store_true")
    args = parser.parse_args()
    if args.write and args.only != RUNS:
        parser.error("--write needs all runs")
    for name in args.only:
        role, language = name.split("-")
        subprocess.run(["examples/run", "--build", language, f"echo-{role}"], cwd=ROOT, check=True)
    passed = failed = 0
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        for done in concurrent.futures.as_completed(
                pool.submit(one, name, args.timeout) for name in args.only):
            name, status, output = done.result()
            found = COUNTS.findall(output)
            # Its count is part of the one at the end.
            print(f"--- {name}\n{COUNTS.sub('', output)}", flush=True)
            # A run that came to no count has failed as a whole.
            good, bad = map(int, found[-1]) if found else (0, 1)
            passed, failed = passed + good, failed + max(bad, int(status != 0 and not bad))
    if args.write and not failed:
        write(args.only)
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
