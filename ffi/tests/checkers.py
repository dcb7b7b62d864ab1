"""The test programs of run.py once more, with somebody watching: AddressSanitizer with
LeakSanitizer, ThreadSanitizer, valgrind.

Each of them first has to report what ffi/tests/c/planted.c does wrong on purpose, inside the
library: that shows that the library is watched too, and not its caller only.

Does not know: what the programs test.
"""

import sys

from harness import BUILD, CC, CXX, NATIVE_LIBS, ROOT, STRICT, compile_c, compile_cxx, missing, run

sys.path.insert(0, str(ROOT / "tools"))
import sanitizers  # noqa: E402
from checkout import Unavailable  # noqa: E402

C_TESTS = ROOT / "ffi" / "tests" / "c"
WRAPPER = ROOT / "ffi" / "tests" / "cpp" / "wrapper.cpp"
FOUND = sanitizers.FOUND


class Watched:
    """One way of being watched."""

    kind = ""
    # What planted.c does: words of the report, one a line, all of which must be there.
    planted = {}
    # Before the program's own name.
    command = ()
    env = {}

    def compile(self, source, binary):
        """Answers (status, output)."""
        raise NotImplementedError

    def binary(self, source):
        return BUILD / self.kind / source.stem

    def see_planted(self, results):
        source = C_TESTS / "planted.c"
        code, output = self.compile(source, self.binary(source))
        if code != 0:
            results.fail(f"planted, {self.kind}: build", output)
            return
        for what, words in self.planted.items():
            code, output = run([*self.command, self.binary(source), what], env=self.env)
            absent = [word for word in words if word not in output]
            seen = code == FOUND and not absent
            results.check(f"{self.kind} reports a planted {what}", seen,
                          f"{output}\nended with status {code}, expected {FOUND}; absent: {absent}")

    def run(self, results, programs):
        self.see_planted(results)
        for source in [*(C_TESTS / f"{name}.c" for name in programs), WRAPPER]:
            binary = self.binary(source)
            code, output = self.compile(source, binary)
            if code != 0:
                results.fail(f"{source.stem}, {self.kind}: build", output)
                continue
            results.program(f"{source.stem}, {self.kind}", [*self.command, binary], env=self.env,
                            cwd=binary.parent)


class Instrumented(Watched):
    """By what the compiler has put in; with debug assertions and overflow checks besides."""

    sanitizer = ""

    def cargo(self, command, *for_rustc):
        environment = sanitizers.environment(self.sanitizer) | {
            "CARGO_PROFILE_DEV_DEBUG_ASSERTIONS": "true",
            "CARGO_PROFILE_DEV_OVERFLOW_CHECKS": "true",
        }
        place = ["--target", sanitizers.host(), "--target-dir", sanitizers.folder(self.sanitizer)]
        code, output = run(["cargo", *command.split(), *place, *for_rustc], timeout=None,
                           env=environment)
        if code != 0:
            raise SystemExit(f"{output}\ncargo {command} with the {self.sanitizer} sanitizer failed")
        return output

    def build_library(self):
        """The static library."""
        sanitizers.probe(self.sanitizer)
        self.cargo("build -p wsabi-ffi")
        return sanitizers.folder(self.sanitizer) / sanitizers.host() / "debug" / "libwsabi_ffi.a"

    def see_planted(self, results):
        settings = self.cargo("rustc -q -p wsabi-ffi --lib", "--", "--print=cfg").split()
        wanted = {"debug_assertions", "overflow_checks", f'sanitize="{self.sanitizer}"'}
        results.check(f"the library for {self.kind} has debug assertions and overflow checks",
                      wanted <= set(settings), f"absent: {wanted - set(settings)}")
        super().see_planted(results)


class Addresses(Instrumented):
    kind = "asan"
    sanitizer = "address"
    planted = {
        "leak": ["LeakSanitizer: detected memory leaks", "in wsabi_loop_new"],
        "use-after-free": ["AddressSanitizer: heap-use-after-free", "ffi/src/host.rs"],
        "overflow": ["AddressSanitizer: heap-buffer-overflow", "core/src/protocol"],
    }
    flags = ["-fsanitize=address", "-fno-omit-frame-pointer"]
    env = {"ASAN_OPTIONS": f"detect_leaks=1:detect_stack_use_after_return=1:exitcode={FOUND}",
           "LSAN_OPTIONS": f"exitcode={FOUND}"}

    def __init__(self):
        probe = BUILD / self.kind / "probe.c"
        probe.parent.mkdir(parents=True, exist_ok=True)
        probe.write_text("int main(void) { return 0; }\n")
        if run([*CC, *self.flags, probe, "-o", probe.with_suffix("")])[0] != 0:
            raise Unavailable("the C compiler's libasan is missing (Debian: apt-get install gcc libasan8)")
        self.library = self.build_library()

    def compile(self, source, binary):
        by = compile_cxx if source.suffix == ".cpp" else compile_c
        return by(source, binary, self.library, self.flags)


class Threads(Instrumented):
    kind = "tsan"
    sanitizer = "thread"
    planted = {"race": ["ThreadSanitizer: data race", "wsabi::protocol::", "write_some"]}

    def __init__(self):
        if missing("readelf"):
            raise Unavailable("readelf is missing (Debian: apt-get install binutils)")
        self.library = self.build_library()
        self.link = [*sanitizers.tsan_runtime(), *sanitizers.tsan_link()]
        self.env = sanitizers.tsan_options()

    def compile(self, source, binary):
        binary.parent.mkdir(parents=True, exist_ok=True)
        is_cxx = source.suffix == ".cpp"
        standard = ["-std=c++17", "-Wpedantic"] if is_cxx else ["-D_GNU_SOURCE", "-std=gnu11"]
        compiler, part = CXX if is_cxx else CC, binary.with_suffix(".o")
        code, output = run([*compiler, *standard, "-g", "-O1", *STRICT, "-fsanitize=thread",
                            f"-I{ROOT / 'include'}", "-c", source, "-o", part])
        if code != 0:
            return code, output
        # Without the compiler's own runtime, which may be older than what rustc expects.
        return run([*compiler, part, "-o", binary, self.library, *self.link, *NATIVE_LIBS])


class Valgrind(Watched):
    """Over the library that users get."""

    kind = "valgrind"
    planted = {
        "leak": ["definitely lost", "wsabi_loop"],
        "use-after-free": ["Invalid read", "wsabi_loop_fd"],
        "uninitialised": ["depends on uninitialised value", "wsabi_conn_send_text"],
    }
    command = ["valgrind", "--quiet", f"--error-exitcode={FOUND}", "--leak-check=full",
               "--errors-for-leak-kinds=definite", "--show-leak-kinds=definite"]

    def __init__(self, library):
        if missing("valgrind"):
            raise Unavailable("valgrind is missing (Debian: apt-get install valgrind)")
        self.library = library

    def compile(self, source, binary):
        by = compile_cxx if source.suffix == ".cpp" else compile_c
        return by(source, binary, self.library)


def suite(results, make, programs):
    try:
        watched = make()
    except Unavailable as why:
        results.skipped += 1
        print(f"SKIP  {why}", flush=True)
        return
    watched.run(results, programs)
