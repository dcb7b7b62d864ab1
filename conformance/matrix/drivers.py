"""The drivers: how each is built and started, and how one is talked to.

Does not know: cases.
"""
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tools"))
import checkout  # noqa: E402
from checkout import ROOT, TARGET, Unavailable  # noqa: E402

WORK = TARGET / "matrix"
PAYLOADS = WORK / "payloads"
# What libwsabi.a needs, as examples/run has it.
LIBRARIES = ("-liconv -lm" if sys.platform == "darwin" else
             "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc").split()
SECONDS = 20  # for one event; the machine may be busy with something else


class Broken(Exception):
    """A driver cannot be built; the text says why."""


# --- building --------------------------------------------------------------------------


def step(what, argv, **options):
    """Runs a build step, whose words go to stderr."""
    print(f"matrix: {what} ...", file=sys.stderr, flush=True)
    settings = {name: value for name, value in os.environ.items() if name != "CARGO_BUILD_TARGET"}
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.DEVNULL, env=settings,
                          **options)
    if done.returncode:
        raise Broken(f"{what} failed, see above")


def native(language, source, compiler, flags, name="driver"):
    """Compiles a driver against the checkout's libwsabi."""
    if shutil.which(compiler[0]) is None:
        raise Unavailable(f"{compiler[0]} is missing: install gcc and g++")
    # The library is what examples stand on; it is built with the first of them.
    if not checkout.build_example(language, "echo-server"):
        raise Broken("libwsabi does not build, see above")
    library = TARGET / "release" / "libwsabi_ffi.a"
    product, stamp = WORK / f"{name}-{language}", WORK / f"{name}-{language}.made-from"
    command = [*compiler, *flags, "-O2", "-g", "-Wall", "-Wextra", "-I", ROOT / "include",
               HERE / source, library, *shlex.split(os.environ.get("LDFLAGS", "")), *LIBRARIES]
    sources = [HERE / source, HERE / "payload.h", HERE / "crc32.h", ROOT / "include" / "wsabi.h",
               ROOT / "include" / "wsabi.hpp"]
    key = checkout.made_from(*map(str, command), *(path.read_text("utf-8") for path in sources),
                             repr(library.stat().st_mtime_ns))
    if not (product.is_file() and stamp.is_file() and stamp.read_text() == key):
        step(f"compiling {source}", [*command, "-o", f"{product}.new"])
        os.replace(f"{product}.new", product)
        stamp.write_text(key)
    return [product]


def words_of(variable, default=""):
    return shlex.split(os.environ.get(variable) or default)


def c():
    return native("c", "driver.c", words_of("CC", "cc"), ["-std=gnu99", *words_of("CFLAGS")])


def cpp():
    return native("cpp", "driver.cpp", words_of("CXX", "c++"),
                  ["-std=c++17", *words_of("CXXFLAGS")])


def rust():
    if shutil.which("cargo") is None:
        raise Unavailable("cargo is missing: install Rust, https://rustup.rs")
    step("building the driver in Rust", ["cargo", "build", "--quiet", "--release", "--target-dir",
                                         TARGET, "-p", "wsabi-matrix"], cwd=ROOT)
    return [TARGET / "release" / "matrix-driver"]


def python():
    environment = TARGET / "venv-matrix"
    step("building the package for Python", [sys.executable, ROOT / "bindings/python/build.py",
                                             "--venv", environment])
    return [environment / "bin" / "python", HERE / "driver.py"]


def node_driver(module):
    if shutil.which("node") is None:
        raise Unavailable("node is missing: install Node.js 20.15 or newer, https://nodejs.org")
    asked = subprocess.run(["node", "-p", "typeof zlib.crc32 + process.version"],
                           capture_output=True, text=True).stdout.strip()
    if not asked.startswith("function"):
        raise Unavailable(f"Node.js 20.15 or newer is needed for zlib.crc32, this is {asked[9:]}")
    return ["node", HERE / "driver.cjs", module]


def node():
    argv = node_driver(ROOT / "bindings" / "node")
    step("building the addon for Node.js", [ROOT / "bindings/node/build.sh", "--quiet"])
    return argv


def ws():
    return node_driver(checkout.node_modules() / "ws")


BUILD = {"c": c, "cpp": cpp, "rust": rust, "python": python, "node": node, "ws": ws}


# --- talking ---------------------------------------------------------------------------


class Driver:
    """A driver as client or server, whose lines are read with a deadline; ended by its own id."""

    def __init__(self, language, role, argv):
        self.language, self.role, self.argv = language, role, [str(a) for a in argv]
        self.log = WORK / f"{language}-{role}.log"
        self.process = None
        self.buffer = b""
        self.ports = {}

    def start(self):
        """Starts it, unless it runs."""
        if self.process is not None:
            return
        self.buffer, self.ports = b"", {}
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(self.argv, bufsize=0, cwd=PAYLOADS, stderr=log,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def order(self, line):
        try:
            self.process.stdin.write(f"{line}\n".encode())
        except BrokenPipeError:
            raise EOFError(f"it has ended{self.tail()}") from None

    def event(self, seconds=SECONDS):
        """The next line. EOFError at the end, TimeoutError when none came."""
        end = time.monotonic() + seconds
        output = self.process.stdout.fileno()
        while b"\n" not in self.buffer:
            if not select.select([output], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"nothing came for {seconds:g} s{self.tail()}")
            more = os.read(output, 1 << 16)
            if not more:
                raise EOFError(f"it has ended{self.tail()}")
            self.buffer += more
        line, _, self.buffer = self.buffer.partition(b"\n")
        return line.decode("utf-8", "replace").rstrip(" ")

    def port(self, options):
        """Where a server with these options listens."""
        if options not in self.ports:
            self.order(f"listen {options}".strip())
            line = self.event()
            match = re.fullmatch(r"listening (\d+)", line)
            if match is None:
                raise RuntimeError(f"`listen {options}` was answered by `{line}`")
            self.ports[options] = int(match[1])
        return self.ports[options]

    def signal(self, name):
        self.process.send_signal(signal.Signals[name])

    def finish(self):
        """Ends its input, and tells what is wrong with how it ends."""
        if self.process is None:
            return None
        self.process.stdin.close()
        try:
            status = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            return f"still running {SECONDS} s after its input ended"
        finally:
            self.kill()
        return None if status == 0 else f"it ended with status {status}{self.tail()}"

    def interrupt(self):
        """Ends it while another thread may be waiting for it."""
        if (process := self.process) is not None:
            process.kill()

    def kill(self):
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process.stdin.close()
            self.process.stdout.close()
            self.process = None

    def tail(self):
        text = self.log.read_text("utf-8", "replace").splitlines()[-10:]
        return "".join(f"\n    | {line}" for line in text)
