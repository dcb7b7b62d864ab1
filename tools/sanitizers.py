"""Building with the sanitizers of the stable compiler, for the suites that use them.

Standard library only. AddressSanitizer and LeakSanitizer work as they are. Rust's standard library
comes compiled without ThreadSanitizer, which therefore misses two of its guarantees and would report
races that are none; `tsan_std.c` tells it of them, and SUPPRESSIONS of the last two.

Does not know: what is built with them.
"""
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from checkout import TARGET, Unavailable  # noqa: E402

HERE = Path(__file__).resolve().parent
FLAGS = {
    "address": "-Zsanitizer=address",
    # The mismatch is the one that tsan_std.c is about.
    "thread": "-Zsanitizer=thread -Cunsafe-allow-abi-mismatch=sanitizer",
}
# The status of a program in which something was found.
FOUND = 66
# A thread's own record of its name, dropped by std inside and outside of instrumented code.
SUPPRESSIONS = """\
race:std::sys::thread::unix::set_name
race:alloc::sync::Arc<std::thread::thread::Inner
"""


def output(*command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[-1]
        raise Unavailable(f"{' '.join(map(str, command[:3]))} ... failed: {last}")
    return done.stdout


def host():
    """The platform's name: with it as the target, what runs during a build stays as it is."""
    return re.search(r"^host: (\S+)$", output("rustc", "-vV"), re.M)[1]


def folder(kind):
    """The build folder; what one sanitizer has built is of no use to another."""
    return TARGET / {"address": "asan", "thread": "tsan"}[kind]


def environment(kind):
    """For cargo. RUSTC_BOOTSTRAP lets the stable compiler take the flag."""
    return {"RUSTC_BOOTSTRAP": "1", "RUSTFLAGS": FLAGS[kind]}


def probe(kind):
    """Whether this compiler can do it; Unavailable says why not."""
    place = folder(kind)
    place.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        ["rustc", "--target", host(), "--crate-name", "probe", "--crate-type", "bin",
         *FLAGS[kind].split(), "-o", place / "probe", "-"],
        input="fn main() {}", capture_output=True, text=True,
        env={**os.environ, "RUSTC_BOOTSTRAP": "1"})
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no output"])[0]
        raise Unavailable(f"rustc cannot build with the {kind} sanitizer here: {last}")


def rust_library(pattern):
    """One of those that came with the compiler."""
    folder = Path(output("rustc", "--print", "sysroot").strip()) / "lib" / "rustlib" / host() / "lib"
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise Unavailable(f"rustc has {len(found)} libraries {pattern} in {folder}; expected one")
    return found[0]


def tsan_runtime():
    """Arguments for the linker of a program that is not Rust's."""
    return ["-Wl,--whole-archive", str(rust_library("librustc*_rt.tsan.a")), "-Wl,--no-whole-archive"]


def tsan_link():
    """Arguments for the linker: what tsan_std.c says, and where it is asked."""
    standard = rust_library("libstd-*.rlib")
    # Not nm, which stumbles over the compiler's own data in it.
    symbols = subprocess.run(["readelf", "-sW", standard], capture_output=True, text=True).stdout
    contended = set(re.findall(r" FUNC .* (\S+5mutex5futex\S+14lock_contended\S*)$", symbols, re.M))
    if len(contended) != 1:
        raise Unavailable(f"{standard.name} has {len(contended)} functions named lock_contended; "
                          "expected one, of a mutex made of a futex")
    symbol = contended.pop()
    built = folder("thread") / "tsan_std.o"
    built.parent.mkdir(parents=True, exist_ok=True)
    output(*shlex.split(os.environ.get("CC", "cc")), "-O1", "-c", f"-DLOCK_CONTENDED={symbol}",
           str(HERE / "tsan_std.c"), "-o", str(built))
    return [str(built), f"-Wl,--wrap={symbol}", "-Wl,--wrap=__tsan_atomic64_fetch_sub"]


def tsan_options():
    """The environment of a program under ThreadSanitizer."""
    suppressions = folder("thread") / "suppressions"
    suppressions.write_text(SUPPRESSIONS)
    # How std puts a backtrace into words is not instrumented either.
    return {"RUST_BACKTRACE": "0",
            "TSAN_OPTIONS": f"exitcode={FOUND} suppressions={suppressions} "
                            "report_thread_leaks=0 second_deadlock_stack=1"}
