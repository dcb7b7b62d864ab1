#!/usr/bin/env python3
"""The tests of the C and C++ side: header, C ABI, embedding, memory, installation.

    ffi/tests/run.py                 everything
    ffi/tests/run.py --only echo …   only suites and programs of these names
    ffi/tests/run.py --watched       only those programs with somebody watching: asan tsan valgrind
    ffi/tests/run.py --unwatched     everything else
    ffi/tests/run.py --bless         write include/wsabi.symbols from the library

Standard library only. Builds below target/ctest. The last line is "N passed, N failed, N skipped";
a SKIP names the missing tool and the package that has it.
"""

import argparse
import sys

import checkers
import header
import installed
from harness import BUILD, NATIVE_LIBS, ROOT, Results, build_release
from harness import compile_c, compile_cxx, missing, pkg_config

C_TESTS = ROOT / "ffi" / "tests" / "c"
WRAPPER = ROOT / "ffi" / "tests" / "cpp" / "wrapper.cpp"
PROGRAMS = ["basics", "echo", "deflate", "chunks", "owned", "prepared", "reentrancy", "stale", "sigpipe"]
PROGRAMS += ["threads", "fork"]
HOSTS = {"poll": None, "uv": ("libuv", "libuv1-dev"), "glib": ("glib-2.0", "libglib2.0-dev")}
WATCHED = ["asan", "tsan", "valgrind"]
SUITES = ["header", *PROGRAMS, "wrapper", "embed", *WATCHED, "install"]


def c_program(results, name, library, flags=()):
    """Builds a test program from ffi/tests/c, and runs it."""
    binary = BUILD / "plain" / name
    code, output = compile_c(C_TESTS / f"{name}.c", binary, library, flags)
    if code != 0:
        results.fail(f"{name}: build", output)
        return
    results.program(name, [binary], cwd=binary.parent)


def wrapper(results, library):
    """The test program of wsabi.hpp."""
    binary = BUILD / "plain" / "wrapper"
    code, output = compile_cxx(WRAPPER, binary, library)
    if code != 0:
        results.fail("wrapper: build", output)
        return
    results.program("wrapper", [binary], cwd=binary.parent)


def embedding(results, library):
    """The one descriptor, driven by foreign loops."""
    for host, needs in HOSTS.items():
        flags = []
        if needs is not None:
            package, debian = needs
            if missing("pkg-config"):
                results.skip(f"embed_{host}", "pkg-config", "pkg-config")
                continue
            flags = pkg_config("--cflags", "--libs", package)
            if flags is None:
                results.skip(f"embed_{host}", package, debian)
                continue
        c_program(results, f"embed_{host}", library, flags)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--watched", dest="only", action="store_const", const=WATCHED)
    parser.add_argument("--unwatched", dest="only", action="store_const",
                        const=[name for name in SUITES if name not in WATCHED])
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=SUITES, help=f"of: {', '.join(SUITES)}")
    parser.add_argument("--bless", action="store_true", help="write include/wsabi.symbols and end")
    options = parser.parse_args()
    wanted = options.only or SUITES
    static = shared = None
    if options.bless or set(wanted) - {"asan", "tsan"}:  # These have libraries of their own.
        static, shared = build_release()
    if options.bless:
        header.bless(shared)
        return 0
    results = Results()
    if "header" in wanted:
        header.compile_gates(results)
        header.two_units(results, static, NATIVE_LIBS)
        header.symbol_gates(results, shared)
    for name in PROGRAMS:
        if name in wanted:
            c_program(results, name, static)
    if "wrapper" in wanted:
        wrapper(results, static)
    if "embed" in wanted:
        embedding(results, static)
    programs = [*PROGRAMS, "embed_poll"]
    if "asan" in wanted:
        checkers.suite(results, checkers.Addresses, programs)
    if "tsan" in wanted:
        checkers.suite(results, checkers.Threads, programs)
    if "valgrind" in wanted:
        checkers.suite(results, lambda: checkers.Valgrind(static), programs)
    if "install" in wanted:
        installed.suite(results)
    print(f"{results.passed} passed, {results.failed} failed, {results.skipped} skipped")
    return 1 if results.failed or not results.passed + results.skipped else 0


if __name__ == "__main__":
    sys.exit(main())
