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


def act(checks):
    memcheck.needs_valgrind()
    tests.make_venv()
    tests.install_wheel()
    name = library()
    for what, kind in PLANTED.items():
        checks.planted(judged(name, what), name, what, kind)
    checks.life(judged(name), name)


if __name__ == "__main__":
    sys.exit(memcheck.main(act))
