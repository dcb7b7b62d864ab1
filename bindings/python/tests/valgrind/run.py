#!/usr/bin/env python3
"""The native module inside CPython, watched by valgrind: the life that `program.py` leads.

    bindings/python/tests/valgrind/run.py

Uses the wheel and the virtual environment of `bindings/python/tests/run.py`. Something wrong on
purpose has to be reported first. The last line is "N passed, N failed, N skipped".
"""
import os
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[3]
sys.path.insert(0, str(ROOT / "tools"))
sys.path.insert(0, str(HERE.parent))
import memcheck  # noqa: E402
import run as tests  # noqa: E402
from checkout import Unavailable  # noqa: E402

# Tables of a class, which pyo3 makes once when the module is imported and keeps with the class.
KEPT = r"PyTypeBuilder|create_type_object"
# How a report says what program.py does wrong.
PLANTED = {"use-after-free": "InvalidRead", "leak": "Leak_DefinitelyLost"}


def library():
    """The base name of the native module."""
    done = subprocess.run([tests.PYTHON, "-c", "import wsabi._wsabi as m; print(m.__file__)"],
                          cwd=HERE, capture_output=True, text=True, check=True)
    return os.path.basename(done.stdout.strip())


def environment():
    settings = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    # Every object has memory of its own, of which valgrind then knows.
    return settings | {"PYTHONMALLOC": "malloc", "PYTHONDONTWRITEBYTECODE": "1"}


def judged(name, *arguments):
    watched = memcheck.watch([tests.PYTHON, HERE / "program.py", *arguments], name,
                             env=environment(), options=["--track-origins=yes"])
    watched.reports = [report for report in watched.reports
                       if not (report.kind.startswith("Leak_") and report.mentions(KEPT))]
    return watched


def main():
    counts = [0, 0]

    def check(name, passed, text):
        print(f"{'ok   ' if passed else 'FAIL '} {name}", flush=True)
        counts[0 if passed else 1] += 1
        if not passed:
            print(text, flush=True)

    try:
        memcheck.needs_valgrind()
        tests.make_venv()
        tests.install_wheel()
        name = library()
        for what, kind in PLANTED.items():
            watched = judged(name, what)
            text = "\n".join([watched.output, *map(str, watched.reports)])
            check(f"valgrind reports a planted {what} in {name}",
                  any(report.kind == kind for report in watched.reports), text)
        watched = judged(name)
        text = "\n".join([watched.output, *map(str, watched.reports)])
        scenes = sum(line.startswith("# ") for line in watched.output.splitlines())
        check(f"{scenes} scenes without a report in which {name} has a part",
              watched.status == 0 and scenes > 0 and not watched.reports, text)
    except Unavailable as why:
        print(f"SKIP  valgrind: {why}\n0 passed, 0 failed, 1 skipped")
        return 0
    print(f"{counts[0]} passed, {counts[1]} failed, 0 skipped")
    return 1 if counts[1] else 0


if __name__ == "__main__":
    sys.exit(main())
