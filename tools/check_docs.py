#!/usr/bin/env python3
"""Tries what README.md, docs/ and the Node.js package's page say: every block of code, command, link,
name and table. (The Python package's page is tried by check_examples.py.)

    check_docs.py                     everything
    check_docs.py README.md docs/c.md only what is in some of the pages

What a block is tried by stands behind its language:

    test: echoes            a program: a server at port 8080 that sends everything back
    test: client "TEXT"     a program: talks with an echo server at port 8080, prints TEXT, ends with 0
    test: prints "TEXT"     a program: prints TEXT and ends with 0
    test: scene NAME        a program: a server at port 8080; `scene_NAME` is what it must do
    test: host [PACKAGE]    a C function `run` that drives the loop of an echo server; PACKAGE is
                            what pkg-config has to know
    test: compiles          statements inside a function
    test: crate             the [dependencies] that the Rust programs are built with
    test: cmake             lines of a CMakeLists.txt that has a C program called `program`

The port is a free one here. One line for each check, and a closing line
`N passed, N failed, N skipped`.
"""
import concurrent.futures
import contextlib
import hashlib
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import checkout
import docs_facts
from check_examples import Checks, expect
from checkout import ROOT, TARGET, Program
from python_readme import free_port
from websocket import BINARY, CLOSE, TEXT, Client

WORK = TARGET / "docs"
PYTHON = TARGET / "venv-examples" / "bin" / "python"
LIBRARY = TARGET / "release" / "libwsabi_ffi.a"
SYSTEM = "-lgcc_s -lutil -lrt -lpthread -lm -ldl -lc".split()
WARNINGS = "-O1 -Wall -Wextra -Werror -Wno-unused-parameter".split()
SECONDS = 30
PORT = "8080"
NODE_README = ROOT / "bindings" / "node" / "README.md"


class Skip(Exception):
    """What this machine lacks; the text says what, and how to get it."""


@dataclass
class Block:
    page: Path
    line: int
    number: int
    language: str
    verb: str
    argument: str
    code: str

    @property
    def name(self):
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def slug(self):
        page = self.page.relative_to(ROOT).with_suffix("")
        return re.sub(r"\W", "_", f"{page}_{self.number}").lower()


def blocks(page):
    """The fenced blocks of a page."""
    text = page.read_text("utf-8")
    for number, match in enumerate(re.finditer(r"^```(\w*)([^\n]*)\n(.*?)^```$", text, re.M | re.S)):
        language, info, code = match.groups()
        test = re.fullmatch(r" test: (\w+) ?(.*)", info)
        verb, argument = test.groups() if test else ("", info.strip())
        argument = argument.strip('"').replace("\\n", "\n")
        line = text.count("\n", 0, match.start()) + 1
        yield Block(page, line, number, language, verb, argument, code)


def blocks_of_the_node_package():
    """The blocks of its page, which npm shows: in their order they are a server and a client."""
    verbs = iter([("echoes", ""), ("client", "hello")])
    for block in blocks(NODE_README):
        if block.language == "js":
            block.verb, block.argument = next(verbs, ("", ""))
            block.language = "mjs" if re.search("^import ", block.code, re.M) else "js"
            yield block
    if missing := list(verbs):
        sys.exit(f"{NODE_README} has no block that is the {missing[0][0]} test's")


# --- building --------------------------------------------------------------------------------


# The port comes from the environment, so that a program is built once. Only declared, so that no
# header is there that a block has forgotten.
C_FRAME = "unsigned short docs_port(void);\nconst char *docs_url(const char *path);\n"
C_FRAME_SOURCE = """\
#include <stdio.h>
#include <stdlib.h>
unsigned short docs_port(void) { return (unsigned short)atoi(getenv("PORT")); }
const char *docs_url(const char *path) {
  static char url[64];
  snprintf(url, sizeof url, "ws://127.0.0.1:%s%s", getenv("PORT"), path);
  return url;
}
"""
HOST_FRAME = """
#include <stdio.h>
static void host_on_message(wsabi_loop *loop, wsabi_conn conn, const wsabi_message *m, void *user) {
  wsabi_conn_send_fragment(loop, conn, m->type, m->data, m->len, 1);
}
int main(void) {
  wsabi_loop *loop;
  wsabi_server server;
  wsabi_server_options options = {.struct_size = sizeof options, .host = "127.0.0.1"};
  options.port = docs_port();
  options.handlers.on_message = host_on_message;
  if (wsabi_loop_new(NULL, &loop) < 0 || wsabi_listen(loop, &options, &server) < 0) return 1;
  run(loop);
  return 1;
}
"""


def with_port(code, url, port):
    code = re.sub(rf'"ws://127\.0\.0\.1:{PORT}(/?)"', lambda match: url % match[1], code)
    return code.replace(PORT, port)


def output(argv, what):
    done = subprocess.run([str(word) for word in argv], capture_output=True, text=True,
                          errors="replace", cwd=ROOT)
    words = f"{done.stdout}{done.stderr}".strip()
    expect(done.returncode == 0, f"{what} fails:\n{words}")
    return done.stdout


class Native:
    """C and C++: a program for each block, built again when something it is made of has changed."""

    def __init__(self):
        WORK.mkdir(parents=True, exist_ok=True)
        (WORK / "frame.h").write_text('#ifdef __cplusplus\nextern "C" {\n#endif\n' + C_FRAME
                                      + "#ifdef __cplusplus\n}\n#endif\n")
        (WORK / "frame.c").write_text(C_FRAME_SOURCE)
        output([*shlex.split(os.environ.get("CC") or "cc"), "-c", WORK / "frame.c", "-o",
                WORK / "frame.o"], "the frame")
        made = LIBRARY.stat()
        self.made_from = "".join(path.read_text() for path in sorted((ROOT / "include").iterdir()))
        self.made_from += f"{made.st_mtime_ns} {made.st_size}"

    def compiler(self, language):
        if language == "c":
            return [*shlex.split(os.environ.get("CC") or "cc"), "-std=gnu99"]
        return [*shlex.split(os.environ.get("CXX") or "c++"), "-std=c++17"]

    def build(self, block):
        code = with_port(block.code, 'docs_url("%s")', "docs_port()")
        packages = []
        if block.verb == "compiles":
            header = "wsabi.h" if block.language == "c" else "wsabi.hpp"
            unused = "" if block.language == "c" else "[[maybe_unused]] "
            code = f"#include <{header}>\n{unused}void fragment(void) {{\n{code}\n(void)options;\n}}\n"
        if block.verb == "host":
            code += HOST_FRAME
            packages = package_flags(block.argument)
        return self.compile(block, code, packages)

    def compile(self, block, code, packages):
        product = WORK / block.language / block.slug
        source = product.with_suffix(f".{block.language}")
        argv = [*self.compiler(block.language), *WARNINGS, "-include", WORK / "frame.h",
                "-I", ROOT / "include", source]
        if block.verb == "compiles":
            argv += ["-c", "-o", product]
        else:
            argv += [WORK / "frame.o", LIBRARY, "-o", product, *SYSTEM]
        argv += packages
        key = checkout.made_from(code, " ".join(map(str, argv)), self.made_from)
        stamp = product.with_suffix(".key")
        if not (product.exists() and stamp.is_file() and stamp.read_text() == key):
            source.parent.mkdir(parents=True, exist_ok=True)
            source.write_text(code)
            output(argv, "compiling it")
            stamp.write_text(key)
        return [product]


def package_flags(package):
    if not package:
        return []
    if shutil.which("pkg-config") is None:
        raise Skip("pkg-config is missing (apt-get install pkg-config)")
    if subprocess.run(["pkg-config", "--exists", package]).returncode:
        raise Skip(f"{package} is missing (make deps-apt)")
    return output(["pkg-config", "--cflags", "--libs", package], "pkg-config").split()


RUST_MAIN = """\
fn port() -> u16 {
    std::env::var("PORT").expect("PORT is set").parse().expect("it is a port")
}

fn url(path: &str) -> String {
    format!("ws://127.0.0.1:{}{path}", port())
}

fn main() -> std::process::ExitCode {
    match std::env::args().nth(1).as_deref() {
%s        _ => std::process::ExitCode::FAILURE,
    }
}
"""


class Rust:
    """One crate with a module for each block; which one runs is its argument."""

    def __init__(self, found):
        self.folder = WORK / "rust"
        self.found = found
        self.crate = next((block for block in found if block.verb == "crate"), None)

    def build(self):
        expect(self.crate is not None, "no block says what the crate depends on (test: crate)")
        modules, arms = [], []
        for block in self.found:
            if block.verb == "crate":
                continue
            code = with_port(block.code, '&crate::url("%s")', "crate::port()")
            if block.verb == "compiles":
                code = f"#![allow(unused, dead_code)]\npub fn fragment() {{\n{code}\n}}\n"
            else:
                code += ("\npub fn start() -> std::process::ExitCode {\n"
                         "    std::process::Termination::report(main())\n}\n")
                arms.append(f'        Some("{block.slug}") => {block.slug}::start(),\n')
            modules.append(f"mod {block.slug};\n")
            self.write(self.folder / "src" / f"{block.slug}.rs", code)
        self.write(self.folder / "src" / "main.rs",
                   "#![deny(warnings)]\n" + "".join(modules) + "\n" + RUST_MAIN % "".join(arms))
        manifest = self.crate.code.replace('"../wsabi/', f'"{ROOT}/')
        self.write(self.folder / "Cargo.toml",
                   '[package]\nname = "docs"\nversion = "0.0.0"\nedition = "2024"\n'
                   f"publish = false\n\n[workspace]\n\n{manifest}"
                   'libc = "0.2"\nsignal-hook = "0.4"\n')
        # The same versions as everywhere else; what this crate does not need is left out.
        lock, ours = self.folder / "Cargo.lock", (ROOT / "Cargo.lock").read_text()
        if self.write(self.folder / "made-from.lock", ours) or not lock.exists():
            lock.write_text(ours)
        output(["cargo", "build", "--quiet", "--manifest-path", self.folder / "Cargo.toml",
                "--target-dir", self.folder / "target"], "cargo build")
        return self.folder / "target" / "debug" / "docs"

    def write(self, path, text):
        """Leaves a file alone that has this text already; tells whether it did not."""
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.is_file() and path.read_text() == text:
            return False
        path.write_text(text)
        return True


class Bench:
    """What blocks are run with: compilers, interpreters, an echo server."""

    def __init__(self, found, pages):
        self.knows_statuses = docs_facts.ERRORS in pages
        self.languages = {block.language for block in found if block.verb}
        if pages & docs_facts.NEED_PYTHON:
            self.languages.add("python")
        self.needs_echo = self.knows_statuses or any(block.verb == "client" for block in found)
        self.rust = Rust([block for block in found if block.language == "rust"
                          or block.verb == "crate"])
        self.native = self.rust_program = None

    def prepare(self):
        wanted = [("c", "echo-server")] if self.languages & {"c", "cpp"} or self.needs_echo else []
        wanted += [(language, "minimal") for language, of in
                   [("python", {"python"}), ("node", {"js", "mjs"})] if self.languages & of]
        for language, name in wanted:
            expect(checkout.build_example(language, name), f"building what {language} needs failed")
        if self.languages & {"c", "cpp"}:
            self.native = Native()
        if self.languages & {"js", "mjs"}:
            modules = WORK / "js" / "node_modules"
            modules.mkdir(parents=True, exist_ok=True)
            if not (modules / "wsabi").is_symlink():
                (modules / "wsabi").symlink_to(ROOT / "bindings" / "node")

    @contextlib.contextmanager
    def echo(self):
        with Program(checkout.example("c", "echo-server", 0), WORK / "echo.log") as server:
            yield int(server.url().rpartition(":")[2])

    def program(self, block, port):
        """The command that runs a block with this port in the place of 8080."""
        if block.language in ("c", "cpp"):
            return self.native.build(block)
        if block.language == "rust":
            expect(self.rust_program, "the Rust programs were not built")
            return [self.rust_program, block.slug]
        source = WORK / block.language / f"{block.slug}.{SUFFIXES[block.language]}"
        if block.language == "mjs":  # Where node_modules is.
            source = WORK / "js" / source.name
        source.parent.mkdir(parents=True, exist_ok=True)
        source.write_text(block.code.replace(PORT, str(port)), "utf-8")
        if block.language == "python":
            return [PYTHON, "-X", "dev", "-W", "error", source]
        return ["node", source]


SUFFIXES = {"python": "py", "js": "js", "mjs": "mjs"}


# --- trying ----------------------------------------------------------------------------------


def environment(port):
    return {"PORT": str(port), "PYTHONIOENCODING": "utf-8"}


@contextlib.contextmanager
def running(bench, block):
    """Runs a block that is a server; yields its port, and looks at what it complained of."""
    port = free_port()
    argv = bench.program(block, port)
    end = time.monotonic() + SECONDS
    with Program(argv, WORK / "logs" / f"{block.slug}.log", environment(port)) as program:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            expect(program.process.poll() is None, f"it ended{program.tail()}")
            expect(time.monotonic() < end, "it does not listen")
            time.sleep(0.02)
        yield program, port
        expect(not program.tail(), f"it complained{program.tail()}")


def try_echoes(bench, block):
    with running(bench, block) as (program, port):
        with Client(f"ws://127.0.0.1:{port}") as client:
            for opcode, payload in [(TEXT, "größer".encode()), (BINARY, bytes(range(256)) * 300),
                                    (TEXT, b""), (BINARY, b"\0")]:
                client.send(opcode, payload)
                expect(client.receive() == (opcode, payload), "the echo is changed")
            expect(client.close() == 1000, "Close was not answered with 1000")
        expect(program.process.poll() is None, f"it ended{program.tail()}")


def try_client(bench, block):
    with bench.echo() as port:
        prints(bench, block, port)


def try_prints(bench, block):
    prints(bench, block, free_port())


def prints(bench, block, port):
    done = subprocess.run([str(word) for word in bench.program(block, port)], capture_output=True,
                          text=True, stdin=subprocess.DEVNULL, timeout=SECONDS,
                          env={**os.environ, **environment(port)})
    expect((done.returncode, done.stdout, done.stderr) == (0, f"{block.argument}\n", ""),
           f"status {done.returncode}, {done.stdout!r}, {done.stderr!r}")


def try_compiles(bench, block):
    if block.language == "rust":
        expect(bench.rust_program, "the Rust programs were not built")
    else:
        bench.native.build(block)


def try_crate(bench, block):
    expect(bench.rust_program, "the Rust programs were not built")


def try_cmake(bench, block):
    if shutil.which("cmake") is None:
        raise Skip("cmake is missing (apt-get install cmake)")
    folder, prefix = WORK / "cmake", WORK / "prefix"
    output([ROOT / "ffi" / "install.sh", "install", prefix], "ffi/install.sh")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "program.c").write_text("#include <wsabi.h>\nint main(void) { return wsabi_version() == 0; }\n")
    (folder / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.13)\nproject(docs C)\nadd_executable(program program.c)\n"
        + block.code)
    output(["cmake", "-S", folder, "-B", folder / "build", f"-DCMAKE_PREFIX_PATH={prefix}"], "cmake")
    output(["cmake", "--build", folder / "build"], "cmake --build")
    output([folder / "build" / "program"], "the program")


def try_scene(bench, block):
    scene = globals().get(f"scene_{block.argument}")
    expect(scene is not None, f"there is no scene {block.argument!r}")
    with running(bench, block) as (program, port):
        scene(program, port)


def try_nothing(bench, block):
    raise AssertionError(f"a block of {block.language or 'no language'} says no test: nobody tries it")


TRIALS = {"echoes": try_echoes, "host": try_echoes, "client": try_client, "prints": try_prints,
          "compiles": try_compiles, "crate": try_crate, "cmake": try_cmake, "scene": try_scene}


# --- scenes ----------------------------------------------------------------------------------


def asked(port, target, *fields, upgrade=True, method="GET", version=13):
    """(status, what came behind the response's head) of a request."""
    lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", *fields]
    if upgrade:
        lines += ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Version: {version}",
                  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="]
    answer = b""
    with socket.create_connection(("127.0.0.1", port), timeout=SECONDS) as s:
        s.sendall("\r\n".join([*lines, "", ""]).encode())
        while data := s.recv(65536):
            answer += data
            head, _, rest = answer.partition(b"\r\n\r\n")
            if head.startswith(b"HTTP/1.1 101 ") and len(rest) > 2:
                break
    head, _, rest = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), rest


def scene_door(program, port):
    with Client(f"ws://127.0.0.1:{port}/chat?room=1") as client:
        expect(client.receive() == (TEXT, b"room=1"), "the query did not come back")
    expect(asked(port, "/other")[0] == 404, "/other was not refused")
    status, body = asked(port, "/health", upgrade=False)
    expect((status, body.strip()) == (200, b"ok"), f"/health is {status}, {body!r}")
    expect(asked(port, "/", upgrade=False)[0] == 404, "/ was not refused")


def scene_later(program, port):
    status, body = asked(port, "/")
    expect((status, body.strip()) == (401, b"who are you?"), f"{status}, {body!r}")
    status, frame = asked(port, "/", "Authorization: Bearer secret")
    expect((status, frame) == (101, b"\x81\x07welcome"), f"{status}, {frame!r}")


def scene_origins(program, port):
    status, body = asked(port, "/chat", "Origin: https://elsewhere.example")
    expect((status, body) == (403, b"not from there"), f"{status}, {body!r}")
    status, frame = asked(port, "/chat?a", "Origin: https://example.com")
    expect((status, frame) == (101, b"\x81\x07/chat?a"), f"{status}, {frame!r}")
    with Client(f"ws://127.0.0.1:{port}/chat") as client:
        expect(client.receive() == (TEXT, b"/chat"), "without an Origin it is not accepted")
    expect(asked(port, "/other")[0] == 400, "/other was not refused")


def scene_results(program, port):
    with Client(f"ws://127.0.0.1:{port}") as client:
        for number in range(3):
            wanted = (TEXT, f"result {number}".encode())
            expect(client.receive() == wanted, "not the results in order")
        expect(client.close_code() == 1000, "not closed with 1000")


def scene_broadcast(program, port):
    with Client(f"ws://127.0.0.1:{port}") as one, Client(f"ws://127.0.0.1:{port}") as other:
        for opcode, payload in [(TEXT, b"hello"), (BINARY, b"\0\1")]:
            one.send(opcode, payload)
            for client in (one, other):
                expect(client.receive() == (opcode, payload), "not what was said")


def scene_upload(program, port):
    with Client(f"ws://127.0.0.1:{port}") as client:
        for size in (0, 1000, 70_000):
            client.send(BINARY, b"x" * size)
            expect(client.receive() == (TEXT, b"%d bytes" % size), "not as many as there were")


def scene_stops(program, port):
    with Client(f"ws://127.0.0.1:{port}") as client:
        program.process.send_signal(signal.SIGTERM)
        expect(client.close_code() == 1001, "not 1001 to the client")
        client.send(CLOSE, (1001).to_bytes(2, "big"))
        line = program.line(SECONDS)
    expect(line == "1 clean, 0 forced", f"it says {line!r}")
    status = program.wait(SECONDS)
    expect(status == 0, f"status {status}{program.tail()}")


def the_statuses_are_a_servers(bench):
    """What docs/errors.md says that a server answers with."""
    with bench.echo() as port:
        for status, fields, how in [
                (400, ["Upgrade: websocket"], {"upgrade": False}),
                (405, [], {"method": "POST"}),
                (413, ["Content-Length: 1"], {}),
                (426, [], {"version": 8}),
                (426, [], {"upgrade": False}),
                (431, [f"Cookie: {'a' * 17000}"], {}),
                (403, ["Origin: https://elsewhere.example"], {})]:
            got, body = asked(port, "/", *fields, **how)
            expect(got == status, f"{fields} {how} is answered with {got}, not {status}: {body!r}")
        words = [b"elsewhere.example", f"127.0.0.1:{port}".encode(), b"origins"]
        expect(all(word in body for word in words), f"the body of 403 is {body!r}")


# --- all of it -------------------------------------------------------------------------------


def outcome(function, *arguments):
    try:
        function(*arguments)
    except Skip as why:
        return "skip", str(why)
    except (AssertionError, OSError, RuntimeError, LookupError, ValueError,
            subprocess.SubprocessError) as error:
        return "fail", str(error) or type(error).__name__
    return "ok", ""


def report(check, name, result):
    word, why = result
    if word == "skip":
        check.skip(name, why)
    else:
        check(name, expect, word == "ok", why)


def main():
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), NODE_README]
    wanted = [Path(name).resolve() for name in sys.argv[1:]] or pages
    if unknown := [str(page) for page in wanted if page not in pages]:
        sys.exit(f"no page {', '.join(unknown)}; there are "
                 + ", ".join(str(page.relative_to(ROOT)) for page in pages))
    check = Checks()
    found = [block for page in wanted if page != NODE_README for block in blocks(page)
             if block.language != "sh"]
    if NODE_README in wanted:
        found += blocks_of_the_node_package()
    # The [dependencies] of the Rust programs stand on one page only.
    crate = [b for page in pages if page not in wanted for b in blocks(page) if b.verb == "crate"]
    bench = Bench(found + crate, set(wanted))
    with checkout.locked("docs"):
        bench.prepare()
        for name, function in docs_facts.checks(wanted):
            report(check, name, outcome(function))
        try_all(check, bench, found)
    print(f"{check.passed} passed, {check.failed} failed, {check.skipped} skipped")
    return 1 if check.failed or not check.passed else 0


def try_all(check, bench, found):
    if "rust" in bench.languages:
        def build():
            bench.rust_program = bench.rust.build()
        report(check, "the Rust programs: build", outcome(build))
    if bench.knows_statuses:
        report(check, "docs/errors.md: the statuses are those of a server",
               outcome(the_statuses_are_a_servers, bench))
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        trials = [(b, pool.submit(outcome, TRIALS.get(b.verb, try_nothing), bench, b))
                  for b in found]
        for block, trial in trials:
            what = f"{block.language} {block.verb} {block.argument}".strip().replace("\n", " ")
            report(check, f"{block.name}: {what}", trial.result())


if __name__ == "__main__":
    sys.exit(main())
