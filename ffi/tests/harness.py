"""What the suites of run.py share: the count, running commands, the paths, building."""

import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", "target"))
TARGET = TARGET if TARGET.is_absolute() else ROOT / TARGET
BUILD = TARGET / "ctest"
INCLUDE = ROOT / "include"
CC = shlex.split(os.environ.get("CC", "cc"))
CXX = shlex.split(os.environ.get("CXX", "c++"))
NATIVE_LIBS = ["-lgcc_s", "-lutil", "-lrt", "-lpthread", "-lm", "-ldl", "-lc"]
STRICT = ["-Wall", "-Wextra", "-Werror"]
TIMEOUT_S = 600

CLOSING_LINE = re.compile(r"^(\d+) passed, (\d+) failed, (\d+) skipped$", re.M)


class Results:
    """The count, and one line for each thing counted."""

    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def ok(self, name, count=1):
        self.passed += count
        print(f"ok    {name}" + (f" ({count} tests)" if count != 1 else ""), flush=True)

    def fail(self, name, output="", count=1):
        self.failed += count
        print(f"FAIL  {name}", flush=True)
        for line in output.rstrip().splitlines()[-60:]:
            print(f"      {line}", flush=True)

    def skip(self, name, tool, package):
        self.skipped += 1
        print(f"SKIP  {name}: {tool} is missing (Debian: apt-get install {package})", flush=True)

    def check(self, name, condition, output=""):
        if condition:
            self.ok(name)
        else:
            self.fail(name, output)

    def command(self, name, command, **options):
        """Counts a command as one test. Answers whether it succeeded."""
        code, output = run(command, **options)
        if code == 0:
            self.ok(name)
        else:
            self.fail(name, f"$ {shlex.join(map(str, command))}\n{output}\nended with {ended(code)}")
        return code == 0

    def program(self, name, command, **options):
        """Runs a test program and takes over the counts of its closing line."""
        code, output = run(command, **options)
        closing = CLOSING_LINE.findall(output)
        passed, failed, skipped = map(int, closing[-1]) if closing else (0, 0, 0)
        self.skipped += skipped
        if failed or code != 0 or not closing:
            self.passed += passed
            lines = [line for line in output.splitlines() if not line.startswith("ok ")]
            self.fail(name, "\n".join(lines) + f"\nended with {ended(code)}", max(failed, 1))
        else:
            for line in output.splitlines():
                if line.startswith("# "):
                    print(f"      {line[2:]}", flush=True)
            self.ok(name, passed)


def ended(code):
    return f"signal {-code}" if code < 0 else f"status {code}"


def run(command, timeout=TIMEOUT_S, env=None, cwd=ROOT):
    """Answers (status, output); the status is negative for a signal, 124 for a missed deadline."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            env={**os.environ, **(env or {})},
            cwd=cwd,
        )
    except subprocess.TimeoutExpired as late:
        return 124, (late.output or b"").decode(errors="replace") + f"\nnot done after {timeout} s"
    except OSError as error:
        return 127, str(error)
    return done.returncode, done.stdout.decode(errors="replace")


def missing(tool):
    return shutil.which(tool) is None


def pkg_config(*arguments, env=None):
    """The answer of pkg-config as a list, or None if it knows no such package."""
    code, output = run(["pkg-config", *arguments], env=env)
    return shlex.split(output) if code == 0 else None


def compile_c(source, output, library, flags=()):
    """A C test program with the static library. Answers (status, output)."""
    output.parent.mkdir(parents=True, exist_ok=True)
    return run(
        [*CC, "-D_GNU_SOURCE", "-std=gnu11", "-g", "-O1", *STRICT, *flags, f"-I{INCLUDE}"]
        + [source, "-o", output, library, *late_flags(flags), *NATIVE_LIBS]
    )


def late_flags(flags):
    """Libraries among the flags: the linker wants them behind what uses them."""
    return [flag for flag in flags if flag.startswith("-l")]


def compile_cxx(source, output, library, flags=()):
    """A C++ test program with the static library. Answers (status, output)."""
    output.parent.mkdir(parents=True, exist_ok=True)
    return run(
        [*CXX, "-std=c++17", "-g", "-O1", *STRICT, "-Wpedantic", *flags, f"-I{INCLUDE}"]
        + [source, "-o", output, library, *NATIVE_LIBS]
    )


def build_release():
    """Builds the libraries users get. Answers (static, shared), or exits with cargo's words."""
    code, output = run(["cargo", "build", "--release", "-p", "wsabi-ffi"], timeout=None)
    if code != 0:
        raise SystemExit(f"{output}\ncargo build --release -p wsabi-ffi failed")
    return TARGET / "release" / "libwsabi_ffi.a", TARGET / "release" / "libwsabi_ffi.so"
