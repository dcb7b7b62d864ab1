#!/usr/bin/env python3
"""The addon inside Node.js, watched by valgrind: the life that `program.js` leads.

    bindings/node/test/valgrind/run.py

Something wrong on purpose has to be reported first. The last line is "N passed, N failed,
N skipped".
"""
import os
import shlex
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parents[1]
ROOT = PACKAGE.parents[1]
sys.path.insert(0, str(ROOT / "tools"))
import memcheck  # noqa: E402
from checkout import TARGET, Unavailable, run_quietly  # noqa: E402

# Without compiled JavaScript, which valgrind would have to translate once more.
NODE = ["node", "--jitless", "--expose-gc"]


# V8's own search of the whole stack, in which it also finds what was never written.
SEARCHED = r"IteratePointersInStack"


def build():
    """The addon's base name, and the path of what goes wrong."""
    if subprocess.run([PACKAGE / "build.sh", "--quiet"], cwd=ROOT, stdout=sys.stderr).returncode:
        raise Unavailable("the addon cannot be built, see above")
    platform = subprocess.run(
        ["node", "-p", "require('./lib/platform.js').platformName()"], cwd=PACKAGE,
        capture_output=True, text=True, check=True).stdout.strip()
    freed = TARGET / "node" / "freed.node"
    run_quietly([*shlex.split(os.environ.get("CC", "cc")), "-shared", "-fPIC", "-O1", "-g",
                 HERE / "freed.c", "-o", freed])
    return f"wsabi.{platform}.node", freed


def judged(name, *arguments):
    settings = {key: value for key, value in os.environ.items() if not key.startswith("NODE_")}
    watched = memcheck.watch([*NODE, HERE / "program.js", *arguments], name, env=settings)
    watched.reports = [report for report in watched.reports if not report.mentions(SEARCHED)]
    return watched


def act(checks):
    memcheck.needs_valgrind()
    name, freed = build()
    checks.planted(judged(name, freed), name, "use-after-free", "InvalidRead")
    checks.life(judged(name), name)


if __name__ == "__main__":
    sys.exit(memcheck.main(act))
