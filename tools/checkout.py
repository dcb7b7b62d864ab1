"""What the scripts of this checkout share: its folders, its examples, foreign peers.

Standard library only. Everything made here lies in the build folder (`target/`, or
CARGO_TARGET_DIR), keyed by what it was made from, so a second run finds it.
"""
import contextlib
import fcntl
import hashlib
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR") or ROOT / "target").resolve()
INTEROP = ROOT / "conformance" / "interop"


class Unavailable(Exception):
    """Something this machine lacks; the text says what, and how to get it."""


# --- examples -----------------------------------------------------------------------


def examples():
    """{language: [name, ...]} of what `examples/run` can start, in its order."""
    usage = subprocess.run([ROOT / "examples" / "run"], capture_output=True, text=True,
                           check=True).stdout
    found = {}
    for language, names in re.findall(r"^  (\w+) +(.*)$", usage, re.M):
        found[language] = [n for n in names.split() if n != "(none)"]
    return found


def example(language, name, *arguments):
    return [str(ROOT / "examples" / "run"), language, name, *map(str, arguments)]


def build_example(language, name):
    """Builds it; the build's own words go to stderr. False when that failed."""
    return subprocess.run([ROOT / "examples" / "run", "--build", language, name],
                          stdout=sys.stderr).returncode == 0


# --- programs that run beside us --------------------------------------------------------


class Program:
    """A program whose lines are read with a deadline; ended by its own id."""

    def __init__(self, argv, log, env=None):
        self.argv = [str(a) for a in argv]
        self.log = Path(log)
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "wb") as errors:
            self.process = subprocess.Popen(
                self.argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **(env or {})})
        self.asked = False
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self._lines.put(line.decode("utf-8", "replace").rstrip("\n"))
        self._lines.put(None)

    @property
    def pid(self):
        return self.process.pid

    def line(self, seconds):
        """The next line; None at the end. TimeoutError when none came."""
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            raise TimeoutError(f"no line from it for {seconds:g} s") from None
        if line is None:
            self._lines.put(None)  # the end stays
        return line

    def url(self, seconds=60):
        """Where a server says it listens."""
        line = self.line(seconds)
        match = re.fullmatch(r"listening on (ws://\S+)", line or "")
        if not match:
            raise RuntimeError(f"its first line is not 'listening on ws://...' but {line!r}"
                               + self.tail())
        return match[1]

    def wait(self, seconds):
        """Its exit status. TimeoutError when it is still running."""
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise TimeoutError(f"still running after {seconds:g} s") from None

    def terminate(self):
        """Asks it to end, once: a second request may find it in the middle of ending."""
        if self.process.poll() is None and not self.asked:
            self.asked = True
            self.process.send_signal(signal.SIGTERM)

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def tail(self, lines=10):
        text = self.log.read_text("utf-8", "replace").splitlines()[-lines:]
        return "".join(f"\n    | {line}" for line in text)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.kill()


# --- foreign peers --------------------------------------------------------------------


@contextlib.contextmanager
def locked(name):
    """One at a time, also among processes."""
    TARGET.mkdir(parents=True, exist_ok=True)
    with open(TARGET / f".{name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def made_from(*parts):
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def run_quietly(argv, **options):
    done = subprocess.run([str(a) for a in argv], capture_output=True, text=True, **options)
    if done.returncode:
        last = ((done.stderr or done.stdout).strip().splitlines() or ["no output"])[-1]
        raise Unavailable(f"{' '.join(map(str, argv[:4]))} ... failed: {last}")


def environment(name, requirements):
    """The interpreter of a virtual environment in the build folder that has these packages, pinned
    and with no others."""
    folder = TARGET / name
    python = folder / "bin" / "python"
    # The interpreter's own place, whichever virtual environment it is called from.
    key = made_from(requirements, sys.version, os.path.realpath(sys.executable), str(folder))
    with locked(name):
        stamp = folder / ".made-from"
        if not (python.exists() and stamp.is_file() and stamp.read_text() == key):
            print(f"installing {', '.join(requirements.split())} ...", file=sys.stderr, flush=True)
            run_quietly([sys.executable, "-m", "venv", "--clear", folder])
            run_quietly([python, "-m", "pip", "install", "--quiet", "--no-input",
                         "--disable-pip-version-check", "--no-deps", *requirements.split()])
            stamp.write_text(key)
    return python


def interop_python():
    """The interpreter of a virtual environment that has Python's `websockets` and `aiohttp`."""
    if sys.version_info < (3, 11):
        raise Unavailable(f"the peer in Python needs Python >= 3.11, this is {sys.version.split()[0]}")
    return environment("venv-interop", (INTEROP / "requirements.txt").read_text())


def tungstenite():
    """The program that drives Rust's `tungstenite`."""
    folder = TARGET / "tungstenite"
    with locked("tungstenite"):
        run_quietly(["cargo", "build", "--release", "--locked", "--quiet", "--manifest-path",
                     INTEROP / "tungstenite" / "Cargo.toml", "--target-dir", folder])
    return folder / "release" / "wsabi-interop-tungstenite"


def gorilla():
    """The program that drives Go's gorilla/websocket."""
    if shutil.which("go") is None:
        raise Unavailable("go is missing: apt-get install golang-go, or make deps-apt")
    program = TARGET / "gorilla" / "gorilla"
    with locked("gorilla"):
        run_quietly(["go", "build", "-mod=readonly", "-o", program, "."], cwd=INTEROP / "gorilla")
    return program


def node_modules():
    """A node_modules folder that has npm's `ws`."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is missing: install Node.js 20 or newer")
    folder = TARGET / "node-interop"
    lock = INTEROP / "package-lock.json"
    manifest = INTEROP / "package.json"
    key = made_from(manifest.read_text(), lock.read_text())
    with locked("node-interop"):
        stamp = folder / ".made-from"
        if not (stamp.is_file() and stamp.read_text() == key):
            print("installing npm's ws ...", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            shutil.copy(manifest, folder)
            shutil.copy(lock, folder)
            run_quietly(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=folder)
            stamp.write_text(key)
    return folder / "node_modules"


def deadline(seconds):
    """A function that says how many seconds are left, never less than a little."""
    end = time.monotonic() + seconds
    return lambda: max(0.01, end - time.monotonic())
