#!/usr/bin/env python3
"""The tests of the C and C++ side: header, C ABI, embedding, memory, installation.

    ffi/tests/run.py                 everything
    ffi/tests/run.py --only echo …   only suites and programs of these names
    ffi/tests/run.py --bless         write include/wsabi.symbols from the library

Standard library only. Builds below target/ctest. The last line is "N passed, N failed, N skipped";
a SKIP names the missing tool and the package that has it.
"""

import argparse
import sys

import header
import installed
from harness import BUILD, CC, NATIVE_LIBS, ROOT, Results, build_asan, build_release
from harness import compile_c, compile_cxx, missing, pkg_config, run

C_TESTS = ROOT / "ffi" / "tests" / "c"
WRAPPER = ROOT / "ffi" / "tests" / "cpp" / "wrapper.cpp"
PROGRAMS = ["basics", "echo", "deflate", "chunks", "owned", "prepared", "reentrancy", "stale", "sigpipe"]
PROGRAMS += ["threads", "fork"]
HOSTS = {"poll": None, "uv": ("libuv", "libuv1-dev"), "glib": ("glib-2.0", "libglib2.0-dev")}
SUITES = ["header", *PROGRAMS, "wrapper", "embed", "asan", "valgrind", "install"]
ASAN = ["-fsanitize=address", "-fno-omit-frame-pointer"]


def c_program(results, name, library, flags=(), kind="", command=(), env=None):
    """Builds a test program from ffi/tests/c, and runs it."""
    binary = BUILD / (kind or "plain") / name
    label = f"{name}, {kind}" if kind else name
    code, output = compile_c(C_TESTS / f"{name}.c", binary, library, flags)
    if code != 0:
        results.fail(f"{label}: build", output)
        return
    results.program(label, [*command, binary], env=env, cwd=binary.parent)


def wrapper(results, library, flags=(), kind="", env=None):
    """The test program of wsabi.hpp."""
    binary = BUILD / (kind or "plain") / "wrapper"
    label = f"wrapper, {kind}" if kind else "wrapper"
    code, output = compile_cxx(WRAPPER, binary, library, flags)
    if code != 0:
        results.fail(f"{label}: build", output)
        return
    results.program(label, [binary], env=env, cwd=binary.parent)


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


def address_sanitizer(results, selected):
    """The same programs, with the library and themselves under AddressSanitizer."""
    probe = BUILD / "asan" / "probe.c"
    probe.parent.mkdir(parents=True, exist_ok=True)
    probe.write_text("int main(void) { return 0; }\n")
    code, output = run([*CC, *ASAN, probe, "-o", probe.with_suffix("")])
    if code != 0:
        results.skip("AddressSanitizer", "the compiler's libasan", "gcc libasan8")
        return
    library, output = build_asan()
    if library is None:
        results.fail("AddressSanitizer: build the library", output)
        return
    env = {"ASAN_OPTIONS": "detect_leaks=1:abort_on_error=0"}
    for name in selected:
        c_program(results, name, library, ASAN, "asan", env=env)
    wrapper(results, library, ASAN, "asan", env=env)


def valgrind(results, library):
    if missing("valgrind"):
        results.skip("echo, valgrind", "valgrind", "valgrind")
        return
    command = ["valgrind", "--quiet", "--error-exitcode=99", "--leak-check=full"]
    command += ["--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"]
    c_program(results, "echo", library, kind="valgrind", command=command)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME", choices=SUITES, help=f"of: {', '.join(SUITES)}")
    parser.add_argument("--bless", action="store_true", help="write include/wsabi.symbols and end")
    options = parser.parse_args()
    wanted = options.only or SUITES
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
    if "asan" in wanted:
        address_sanitizer(results, PROGRAMS)
    if "valgrind" in wanted:
        valgrind(results, static)
    if "install" in wanted:
        installed.suite(results)
    print(f"{results.passed} passed, {results.failed} failed, {results.skipped} skipped")
    return 1 if results.failed or not results.passed else 0


if __name__ == "__main__":
    sys.exit(main())
