#!/usr/bin/env python3
"""The tests of the Python package, against its installed wheel.

    run.py                          everything: pytest, mypy, stubtest
    run.py -k close -x              arguments are pytest's; mypy and stubtest are left out then

Builds the wheel (`build.py`) and installs it into `target/venv-python`, which is made when it is
missing. Ends with the line `N passed, N failed, N skipped`, in which each of the checkers counts
one. Exit code 0 when something passed and nothing failed.
"""
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

if sys.version_info < (3, 10):
    sys.exit("run.py: Python 3.10 or newer is needed, this is " + sys.version.split()[0])

HERE = Path(__file__).resolve().parent
PACKAGE = HERE.parent
sys.path.insert(0, str(PACKAGE.parent.parent / "tools"))
from checkout import TARGET  # noqa: E402

VENV = TARGET / "venv-python"
PYTHON = VENV / "bin" / "python"
# A test that hangs is ended by its own fixture; this is for one that cannot be.
STUCK_SECONDS = 150


def run(*argv, check=True, **kwargs):
    return subprocess.run([str(a) for a in argv], check=check, **kwargs)


def is_current(stamp, wanted):
    return stamp.is_file() and stamp.read_text() == wanted


def make_venv():
    """The virtual environment, with exactly what requirements.txt names."""
    requirements = HERE / "requirements.txt"
    wanted = sys.version + requirements.read_text()
    stamp = VENV / "requirements.stamp"
    if is_current(stamp, wanted) and PYTHON.exists():
        return
    shutil.rmtree(VENV, ignore_errors=True)
    run(sys.executable, "-m", "venv", VENV)
    run(PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps",
        "-r", requirements)
    stamp.write_text(wanted)


def install_wheel():
    """Builds the wheel and installs it, unless it is the one that is installed."""
    environment = dict(os.environ, PATH=f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}")
    built = run(PYTHON, PACKAGE / "build.py", stdout=subprocess.PIPE, text=True, env=environment)
    wheel = Path(built.stdout.strip().splitlines()[-1])
    wanted = f"{wheel.name} {hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    stamp = VENV / "wheel.stamp"
    if is_current(stamp, wanted):
        return
    stamp.unlink(missing_ok=True)
    run(PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--force-reinstall",
        "--no-deps", wheel)
    stamp.write_text(wanted)


def pytest(arguments, outside):
    """Runs pytest outside of the checkout, and tells (passed, failed, skipped)."""
    # What a user's shell has set is not to decide; the caches stay out of the sources.
    environment = {name: value for name, value in os.environ.items()
                   if not name.startswith(("PYTHON", "PYTEST"))}
    environment["PYTHONPYCACHEPREFIX"] = str(VENV / "pycache")
    named = [a for a in arguments if Path(a.split("::")[0]).exists()]
    arguments = [str(Path(a).resolve()) if a in named and "::" not in a else a for a in arguments]
    process = subprocess.Popen(
        [str(PYTHON), "-m", "pytest", "-c", str(PACKAGE / "pyproject.toml"),
         "--rootdir", str(PACKAGE), "-p", "no:cacheprovider",
         "-o", f"faulthandler_timeout={STUCK_SECONDS}", "-o", "faulthandler_exit_on_timeout=true",
         *arguments, *([] if named else [str(HERE)])],
        cwd=outside, env=environment, stdout=subprocess.PIPE, text=True)
    last = ""
    for line in process.stdout:
        print(line, end="", flush=True)
        last = line if line.strip() else last
    status = process.wait()
    counts = {word: int(number) for number, word in re.findall(r"(\d+) (\w+)", last)}
    failed = counts.get("failed", 0) + counts.get("errors", 0) + counts.get("error", 0)
    if status not in (0, 5) and not failed:
        failed = 1  # It did not come to its closing line.
    return counts.get("passed", 0), failed, counts.get("skipped", 0) + counts.get("xfailed", 0)


def checker(name, *argv, cwd):
    """Runs a checker that is one test: (passed, failed, skipped)."""
    done = run(*argv, check=False, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
               text=True)
    print(f"{'ok   ' if done.returncode == 0 else 'FAIL '} {name}: "
          f"{(done.stdout.strip().splitlines() or ['no output'])[-1]}", flush=True)
    if done.returncode:
        print(done.stdout, end="", flush=True)
        return 0, 1, 0
    return 1, 0, 0


def main():
    make_venv()
    install_wheel()
    cache = VENV / "mypy-cache"
    with tempfile.TemporaryDirectory(prefix="wsabi-pytest-") as outside:
        results = [pytest(sys.argv[1:], outside)]
        if len(sys.argv) == 1:
            mypy = [PYTHON, "-m", "mypy", "--strict", "--cache-dir", cache]
            results += [
                checker("mypy of the package", *mypy, cwd=PACKAGE),
                # Against the installed package, as its users see it.
                checker("mypy of a user's program", *mypy, "--config-file=",
                        "--warn-unreachable", HERE / "typed" / "program.py", cwd=outside),
                checker("stubtest", PYTHON, "-m", "mypy.stubtest", "wsabi", cwd=outside),
            ]
    passed, failed, skipped = (sum(column) for column in zip(*results))
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
