#!/usr/bin/env python3
"""The one test command: `make test`.

    tools/test.py                   every suite
    tools/test.py --only rust c     some of them
    tools/test.py --proof           what takes long (`make proof`)
    tools/test.py --list            the suites, what they need, and what is missing
    tools/test.py --apt-packages    what `make deps-apt` installs

Ends with a table, the reasons of what was skipped, and the line
`N passed, N failed, N skipped`. Exit code 1 when something failed or nothing ran, 2 when
a base tool is missing. With CI=true in the environment a skip counts as a failure too.
"""
import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass, field

if sys.version_info < (3, 10):
    sys.exit("tools/test.py: Python 3.10 or newer is needed, this is " + sys.version.split()[0])

import coverage  # noqa: E402
from checkout import ROOT, TARGET, examples  # noqa: E402

CI = os.environ.get("CI", "").lower() not in ("", "0", "false")
# A skip that CI puts up with: browsers are not part of a minimal machine.
TOLERATED = re.compile("chromium", re.I)


# --- what suites need ----------------------------------------------------------------


@dataclass
class Need:
    name: str
    found: object  # () -> bool
    packages: tuple = ()  # Debian's
    otherwise: str = ""  # how to get it without apt

    def how(self):
        return self.otherwise or f"apt-get install {' '.join(self.packages)}, or make deps-apt"


def on_path(*names):
    return lambda: all(shutil.which(name) for name in names)


def succeeds(*argv):
    def check():
        try:
            return subprocess.run(argv, cwd=ROOT, capture_output=True).returncode == 0
        except OSError:
            return False
    return check


def tool(variable, default):
    return shlex.split(os.environ.get(variable) or default)[0]


NEEDS = {need.name: need for need in [
    Need("cargo", on_path("cargo", "rustc"), otherwise="https://rustup.rs"),
    Need("cc", on_path(tool("CC", "cc")), ("gcc", "libc6-dev")),
    Need("c++", on_path(tool("CXX", "c++")), ("g++",)),
    Need("make", on_path("make"), ("make",)),
    Need("python3 with venv", succeeds(sys.executable, "-c", "import venv, ensurepip"),
         ("python3-venv",)),
    Need("node and npm", on_path("node", "npm"), otherwise="Node.js 20 or newer, https://nodejs.org"),
    Need("rustfmt", succeeds("cargo", "fmt", "--version"), otherwise="rustup component add rustfmt"),
    Need("clippy", succeeds("cargo", "clippy", "--version"), otherwise="rustup component add clippy"),
    Need("git", on_path("git"), ("git",)),
    Need("flock", on_path("flock"), ("util-linux",)),
    Need("nm and readelf", on_path("nm", "readelf"), ("binutils",)),
    Need("pkg-config", on_path("pkg-config"), ("pkg-config",)),
    Need("cmake", on_path("cmake"), ("cmake",)),
    Need("valgrind", on_path("valgrind"), ("valgrind", "libc6-dbg")),
    Need("libuv", succeeds("pkg-config", "--exists", "libuv"), ("libuv1-dev",)),
    Need("chromium", on_path("chromium"), ("chromium",)),
    Need("glib", succeeds("pkg-config", "--exists", "glib-2.0"), ("libglib2.0-dev",)),
    Need("go", on_path("go"), ("golang-go",)),
    Need("cargo-fuzz", on_path("cargo-fuzz"), otherwise="cargo install cargo-fuzz --locked"),
    # No package of Debian's: which one fits depends on the rustc at hand.
    Need("llvm-cov", lambda: coverage.llvm_tools() is not None, otherwise=coverage.HOW),
]}
BASE = ["cargo", "cc", "c++", "make", "python3 with venv", "node and npm"]


# --- the suites ------------------------------------------------------------------------


@dataclass
class Suite:
    name: str
    commands: list  # run in order; the first that fails ends the suite
    needs: tuple = ()  # without these it is skipped
    uses: tuple = ()  # without these its own runner skips a part
    prepare: list = field(default_factory=list)  # installs; when it fails the suite is skipped
    env: dict = field(default_factory=dict)


PYTHON = sys.executable


# Of the cases about compression one of each kind; all of them take half an hour a peer.
CASES = [*(f"{group}.*" for group in (1, 2, 3, 4, 5, 6, 7, 9, 10)),
         *(f"12.{kind}.1" for kind in range(1, 6)), *(f"13.{kind}.1" for kind in range(1, 8))]


def autobahn(role, language, name):
    run = [PYTHON, "conformance/autobahn/run.py", role, "--strict", "--cases", *CASES,
           "--agent", f"wsabi-{language}", "--out", str(TARGET / "autobahn" / f"{role}-{language}")]
    if role == "server":
        run += ["--start", f"examples/run {language} echo-server {{port}} --deflate"]
    else:
        run += ["--command", f"examples/run {language} echo-client {{url}} --deflate"]
    return Suite(name, [["examples/run", "--build", language, f"echo-{role}"], run],
                 prepare=["conformance/autobahn/install.sh"],
                 env={"AUTOBAHN_VENV": str(TARGET / "venv-autobahn")})


def simulator(*options):
    # Optimized, or seeds take ten times as long; debug assertions stay on.
    return Suite("simulator", [["cargo", "test", "-p", "wsabi", "--test", "sim",
                                "--target-dir", str(TARGET / "sim"), "--", *options]],
                 env={"CARGO_PROFILE_DEV_OPT_LEVEL": "3", "CARGO_PROFILE_TEST_OPT_LEVEL": "3"})


def everyday():
    return [
        Suite("lint", [["cargo", "fmt", "--all", "--check"],
                       ["cargo", "clippy", "--workspace", "--all-targets", "--", "-D", "warnings"],
                       ["cargo", "doc", "--quiet", "--no-deps", "-p", "wsabi"]],
              needs=("rustfmt", "clippy"), env={"RUSTDOCFLAGS": "-D warnings"}),
        Suite("scripts", [[PYTHON, "tools/check_scripts.py"]], needs=("git",)),
        # The bindings' tests are Python's and JavaScript's.
        Suite("rust", [["cargo", "test", "--no-fail-fast"]]),
        Suite("mio", [["cargo", "test", "-p", "wsabi", "--no-fail-fast",
                       "--target-dir", str(TARGET / "mio")]], env={"RUSTFLAGS": "--cfg wsabi_mio"}),
        simulator("--seconds", "60"),
        Suite("threads", [[PYTHON, "core/tests/threads/run.py"]], needs=("nm and readelf",)),
        Suite("c", [[PYTHON, "ffi/tests/run.py", "--unwatched"]],
              uses=("nm and readelf", "pkg-config", "cmake", "libuv", "glib")),
        Suite("c-watched", [[PYTHON, "ffi/tests/run.py", "--watched"]],
              uses=("nm and readelf", "valgrind")),
        # Optimized a little: tens of thousands of runs.
        Suite("faults", [["cargo", "test", "-p", "wsabi", "--test", "net_faults",
                          "--target-dir", str(TARGET / "faults"), "--", "--nocapture"]],
              env={"RUSTFLAGS": "--cfg wsabi_faults", "CARGO_PROFILE_TEST_OPT_LEVEL": "1",
                   "CARGO_PROFILE_DEV_OPT_LEVEL": "1"}),
        Suite("examples", [[PYTHON, "tools/check_examples.py"]], uses=("flock",)),
        autobahn("server", "c", "autobahn-server"),
        autobahn("client", "c", "autobahn-client"),
        Suite("python", [[PYTHON, "bindings/python/tests/run.py"]]),
        autobahn("server", "python", "autobahn-server-python"),
        autobahn("client", "python", "autobahn-client-python"),
        Suite("python-watched", [[PYTHON, "bindings/python/tests/valgrind/run.py"]],
              needs=("valgrind",)),
        Suite("node", [["node", "bindings/node/test/run.mjs"]]),
        Suite("node-watched", [[PYTHON, "bindings/node/test/valgrind/run.py"]],
              needs=("valgrind",)),
        autobahn("server", "node", "autobahn-server-node"),
        autobahn("client", "node", "autobahn-client-node"),
        Suite("docs", [[PYTHON, "tools/check_docs.py"]],
              uses=("pkg-config", "cmake", "libuv", "glib")),
        Suite("chat", [[PYTHON, "tools/check_chat.py"]]),
        Suite("browser", [[PYTHON, "tools/check_browser.py"]], uses=("chromium",)),
        Suite("matrix", [[PYTHON, "conformance/matrix/run.py"]]),
        Suite("relay", [[PYTHON, "conformance/relay/run.py"]]),
        Suite("interop", [[PYTHON, "conformance/interop/run.py"]], uses=("go",)),
        Suite("limits", [[PYTHON, "conformance/limits/run.py"]]),
        Suite("hostile", [[PYTHON, "conformance/hostile/run.py"]]),
        Suite("fuzz", [[PYTHON, "fuzz/run.py", "--smoke"]], needs=("cargo-fuzz",)),
    ]


def conformance():
    """All cases, in the languages that have a binding of their own."""
    return Suite("conformance", [[PYTHON, "conformance/autobahn/all.py", "--write"]],
                 prepare=["conformance/autobahn/install.sh"],
                 env={"AUTOBAHN_VENV": str(TARGET / "venv-autobahn")})


def proof():
    complete = ("c", "python", "node")
    suites = [autobahn(role, language, f"autobahn-{role}-{language}")
              for language, names in examples().items()
              for role in ("server", "client")
              if f"echo-{role}" in names and language not in complete]
    suites.append(conformance())
    suites.append(Suite("hostile", [[PYTHON, "conformance/hostile/run.py", "--full", "c", "cpp",
                                     "rust", "python", "node"]]))
    suites.append(Suite("rust-watched", [[PYTHON, "core/tests/asan.py"]]))
    # A wheel from the source distribution, as pip makes it where there is none.
    suites.append(Suite("sdist", [
        [PYTHON, "bindings/python/build.py", "--sdist"],
        ["sh", "-c", f"exec {PYTHON} -m pip wheel --no-deps -w {TARGET}/sdist {TARGET}/wheels/*.tar.gz"],
    ]))
    suites.append(Suite("interop", [[PYTHON, "conformance/interop/run.py", "--all"]],
                        uses=("go",)))
    suites.append(Suite("relay", [[PYTHON, "conformance/relay/run.py", "--kills", "20000"]]))
    suites.append(Suite("coverage", [[PYTHON, "tools/coverage.py"]], needs=("llvm-cov",)))
    suites.append(Suite(
        "properties", [["cargo", "test", "-p", "wsabi", "--no-fail-fast",
                        "--target-dir", str(TARGET / "proof")]],
        # Optimized, or twenty thousand cases take an hour; debug assertions stay on.
        env={"PROPTEST_CASES": "20000", "CARGO_PROFILE_DEV_OPT_LEVEL": "2",
             "CARGO_PROFILE_TEST_OPT_LEVEL": "2"}))
    suites.append(simulator("--seeds", "1000000"))
    return suites


# --- running one -------------------------------------------------------------------------


@dataclass
class Result:
    suite: Suite
    passed: int = 0
    failed: int = 0
    skipped: int = 0
    ignored: int = 0
    seconds: float = 0.0
    skips: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    counted: bool = False

    def read(self, line):
        """Takes in a runner's own words."""
        if match := re.match(r"test result: .*?(\d+) passed; (\d+) failed; (\d+) ignored", line):
            passed, failed, ignored = map(int, match.groups())
            self.ignored += ignored
        elif match := re.fullmatch(r"(\d+) passed, (\d+) failed, (\d+) skipped", line):
            passed, failed, skipped = map(int, match.groups())
            self.skipped += skipped
        else:
            if re.match(r"SKIP\b", line):
                self.skips.append(line)
            elif re.match(r"FAIL(ED)?\b|test .* \.\.\. FAILED$|error(\[E\d+\])?:", line):
                self.failures.append(line)
            return
        self.passed += passed
        self.failed += failed
        self.counted = True

    def skip(self, why):
        self.skipped, self.counted = 1, True
        self.skips.append(f"SKIP  {self.suite.name}: {why}")

    def word(self):
        return ("FAILED" if self.failed else "ok" if self.passed
                else "skipped" if self.skipped else "empty")


def show(argv, env):
    words = [os.path.relpath(w, ROOT) if w.startswith(str(ROOT)) else w for w in argv]
    words = ["python3" if w == PYTHON else w for w in argv[:1]] + words[1:]
    return " ".join([f"{k}={shlex.quote(v)}" for k, v in env.items()] + [shlex.quote(w) for w in words])


def stream(argv, env, take):
    """Runs it, its output line by line to ours and to `take`; its exit status."""
    try:
        process = subprocess.Popen(argv, cwd=ROOT, env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT)
    except OSError as e:
        print(f"cannot start {argv[0]}: {e}", flush=True)
        return 127
    with process:
        try:
            for raw in process.stdout:
                line = raw.decode("utf-8", "replace").rstrip("\n")
                print(line, flush=True)
                take(line)
        except KeyboardInterrupt:
            try:
                process.wait(15)  # it was interrupted as well, and cleans up
            except subprocess.TimeoutExpired:
                process.kill()
            raise
    return process.returncode


def run(suite):
    result = Result(suite)
    begin = time.monotonic()
    missing = [NEEDS[name] for name in suite.needs if not NEEDS[name].found()]
    print(f"\n=== {suite.name}", flush=True)
    if missing:
        result.skip("; ".join(f"{need.name} is missing ({need.how()})" for need in missing))
        print(result.skips[-1])
    elif suite.prepare and stream(suite.prepare, suite.env, lambda line: None):
        result.skip(f"{' '.join(suite.prepare)} failed, see its output (it downloads packages)")
        print(result.skips[-1])
    else:
        for argv in suite.commands:
            print(f"--- {show(argv, suite.env)}", flush=True)
            status = stream(argv, suite.env, result.read)
            if status:
                # A failure that no count tells of: a build, a crash, a runner gone wrong.
                result.failed = max(result.failed, 1)
                result.failures.append(f"exit status {status}: {show(argv, suite.env)}")
                break
        else:
            if not result.counted:
                result.passed = 1
    result.seconds = time.monotonic() - begin
    return result


# --- the end --------------------------------------------------------------------------------


def summary(results):
    print(f"\n=== summary\n{'suite':24}{'result':>9}{'passed':>9}{'failed':>9}{'skipped':>9}"
          f"{'seconds':>9}")
    for r in results:
        note = f"   {r.ignored} ignored" if r.ignored else ""
        print(f"{r.suite.name:24}{r.word():>9}{r.passed:9}{r.failed:9}{r.skipped:9}"
              f"{r.seconds:9.1f}{note}")
    for title, name in (("failed", "failures"), ("skipped", "skips")):
        lines = [(r.suite.name, line) for r in results for line in getattr(r, name)]
        if lines:
            print(f"\n{title}:")
        for suite, line in lines[:60]:
            print(f"  {suite}: {line.removeprefix('SKIP').strip()}")
        if len(lines) > 60:
            print(f"  and {len(lines) - 60} more")
    passed, failed, skipped = (sum(getattr(r, name) for r in results)
                               for name in ("passed", "failed", "skipped"))
    # Without a line that says so, a skip is not a tolerated one.
    tolerated = sum(min(r.skipped, sum(bool(TOLERATED.search(s)) for s in r.skips)) for r in results)
    bad = failed > 0 or passed == 0
    if CI and skipped > tolerated:
        print(f"\nCI: {skipped - tolerated} skipped, which counts as failed here")
        bad = True
    print(f"\n{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if bad else 0


def list_suites(suites):
    for suite in suites:
        print(f"{suite.name:24}{show(suite.commands[-1], suite.env)}")
        for name in suite.needs + suite.uses:
            need = NEEDS[name]
            print(f"{'':24}  {'has' if need.found() else 'LACKS'} {name}"
                  + ("" if need.found() else f": {need.how()}"))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="NAME")
    parser.add_argument("--proof", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--apt-packages", action="store_true")
    return parser, parser.parse_args()


def main():
    parser, args = arguments()
    if args.apt_packages:
        print(*sorted({p for need in NEEDS.values() for p in need.packages}))
        return 0
    suites = proof() if args.proof else everyday()
    if args.only:
        unknown = set(args.only) - {s.name for s in suites}
        if unknown:
            parser.error(f"no suite {', '.join(sorted(unknown))}; there are "
                         + ", ".join(s.name for s in suites))
        suites = [s for s in suites if s.name in args.only]
    if args.list:
        list_suites(suites)
        return 0
    missing = [NEEDS[name] for name in BASE if not NEEDS[name].found()]
    if missing:
        print("missing: " + "; ".join(f"{n.name} ({n.how()})" for n in missing), file=sys.stderr)
        return 2
    try:
        return summary([run(suite) for suite in suites])
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
