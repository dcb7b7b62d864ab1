#!/usr/bin/env python3
"""Builds every example through `examples/run`, and tries what its users are told it does.

    check_examples.py             every language there is
    check_examples.py python c    some of them

One line for each check, and a closing line `N passed, N failed, N skipped`.
"""
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import checkout
import python_readme
from checkout import ROOT, TARGET, Program
from websocket import BINARY, TEXT, Client, frame

RUN = str(ROOT / "examples" / "run")
STATE = TARGET / "examples"
LOG = STATE / "check.log"


class Checks:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def __call__(self, name, check, *arguments):
        try:
            check(*arguments)
        except (AssertionError, OSError, RuntimeError, subprocess.TimeoutExpired) as e:
            self.failed += 1
            print(f"FAIL  {name}: {e or type(e).__name__}", flush=True)
        else:
            self.passed += 1
            print(f"ok    {name}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        print(f"SKIP  {name}: {why}", flush=True)


def expect(condition, words):
    if not condition:
        raise AssertionError(words)


def call(*arguments, seconds=30):
    done = subprocess.run([RUN, *arguments], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=seconds)
    return done.returncode, done.stdout, done.stderr


# --- examples/run itself ---------------------------------------------------------------


def lists_what_there_is(found):
    status, out, _ = call()
    expect(status == 0 and out.startswith("usage:"), f"status {status}, {out!r}")
    for language, names in found.items():
        expect(all(f"{language} " in out and name in out for name in names), out)


def refuses(arguments, word):
    status, out, err = call(*arguments)
    expect(status == 2 and not out, f"status {status}, printed {out!r}")
    expect(word in err and "echo-server" in err, f"it says {err!r}")


def builds(language, name):
    expect(checkout.build_example(language, name), "the build failed")


def says_nothing_when_current(language, name):
    status, out, err = call("--build", language, name)
    expect((status, out, err) == (0, "", ""), f"status {status}, {out!r}, {err!r}")


# Where examples/run keeps what it made of an example: (stamp, product). The examples of the
# interpreted languages share one product, the package.
MADE = {
    "rust": lambda name: (STATE / "rust" / f"{name}.stamp", TARGET / "release" / name),
    "python": lambda name: (STATE / "python" / ".package.stamp",
                            TARGET / "venv-examples" / "bin" / "python"),
    "node": lambda name: (STATE / "node" / ".package.stamp",
                          next((ROOT / "bindings" / "node").glob("wsabi.*.node"))),
}
INTERPRETED = {"python": ".py", "node": ".js"}


def made(language, name):
    default = STATE / language
    return MADE.get(language, lambda n: (default / f"{n}.stamp", default / n))(name)


def rebuilds_what_is_older_than_its_source(language, name):
    os.utime(made(language, name)[0], (0, 0))
    status, _, err = call("--build", language, name, seconds=600)
    expect(status == 0 and "building" in err, f"status {status}, {err!r}")


def starts_at_the_same_time(language):
    """The program is not there, and four want it at once."""
    made(language, "echo-server")[1].unlink()
    servers = [Program(checkout.example(language, "echo-server", 0), f"{LOG}.{i}") for i in range(4)]
    try:
        urls = {server.url(300) for server in servers}
        expect(len(urls) == 4, f"they listen on {urls}")
    finally:
        for server in servers:
            server.kill()


# --- echo-server -------------------------------------------------------------------------


def server(language, *arguments):
    return Program(checkout.example(language, "echo-server", *arguments), LOG)


def echoes(url):
    with Client(url) as client:
        for opcode, payload in [(TEXT, "größer ∮ 漢字".encode()), (BINARY, bytes(range(256)) * 300),
                                (TEXT, b""), (BINARY, b"\0")]:
            client.send(opcode, payload)
            expect(client.receive() == (opcode, payload), f"{len(payload)} bytes came back changed")
        expect(client.close() == 1000, "Close was not answered with 1000")


def serves(language):
    with server(language, 0) as program:
        url = program.url()
        expect(url.startswith("ws://127.0.0.1:") and not url.endswith(":0"), f"it listens on {url}")
        echoes(url)


def runs_under_the_pid_it_was_started_with(language):
    with server(language, 0) as program:
        program.url()
        with open(f"/proc/{program.pid}/cmdline", "rb") as file:
            words = [os.path.basename(word) for word in file.read().decode().split("\0")]
        if language in INTERPRETED:
            running, wanted = words[1], "echo-server" + INTERPRETED[language]
        else:
            running, wanted = words[0], "echo-server"
        expect(running == wanted, f"the process is {words}")


def ends_well(language, number):
    with server(language, 0) as program, Client(program.url()) as client:
        client.send(TEXT, b"here")
        client.receive()
        program.process.send_signal(number)
        expect(client.close_code() == 1001, "not 1001 to the client")
        client.socket.close()
        status = program.wait(15)
        expect(status == 0, f"status {status}{program.tail()}")


def takes_a_port_and_a_host(language):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    host = "127.0.0.2" if sys.platform == "linux" else "127.0.0.1"
    with server(language, port, "--host", host) as program:
        url = program.url()
        expect(url == f"ws://{host}:{port}", f"it listens on {url}")
        echoes(url)


def says_that_a_port_is_taken(language):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = str(s.getsockname()[1])
        status, out, err = call(language, "echo-server", port)
        expect(status != 0 and not out, f"status {status}, {out!r}")
        expect(port in err and "Traceback" not in err,
               f"the error does not name the address: {err!r}")


def has_a_limit(language):
    with server(language, 0, "--max-message", 100) as program:
        url = program.url()
        with Client(url) as client:
            client.send(BINARY, b"x" * 100)
            expect(client.receive() == (BINARY, b"x" * 100), "100 bytes came back changed")
            client.send(BINARY, b"x" * 101)
            code = client.close_code()
            expect(code == 1009, f"closed with {code}, not 1009")


def explains_itself(language, name, *arguments):
    status, out, err = call(language, name, *arguments)
    expect(status not in (0, 101) and status > 0 and not out, f"status {status}, {out!r}")
    expect("usage" in err and "Traceback" not in err, f"it says {err!r}")


def stops_reading_from_a_peer_that_does_not_read(language):
    message = frame(BINARY, b"m" * 65536)
    most = 64 << 20
    with server(language, 0) as program, Client(program.url()) as client:
        client.socket.setblocking(False)
        sent = 0
        # Writable again within 3 s means that the server still reads.
        while sent < most and select.select([], [client.socket], [], 3)[1]:
            sent += client.socket.send(message[sent % len(message):])
        expect(sent < most, f"it took {sent >> 20} MiB from a peer that reads nothing")
        # From here on the peer reads, and everything comes.
        client.socket.settimeout(20)
        rest = message[sent % len(message):] if sent % len(message) else b""
        sender = threading.Thread(target=client.socket.sendall, args=(rest,), daemon=True)
        sender.start()
        for number in range((sent + len(rest)) // len(message)):
            expect(client.receive() == (BINARY, b"m" * 65536), f"echo {number} is changed")
        sender.join()
        expect(client.close() == 1000, "Close was not answered with 1000")


# --- minimal, asyncio-clock ----------------------------------------------------------------


def echoes_minimally(language):
    with Program(checkout.example(language, "minimal", 0), LOG) as program:
        echoes(program.url())


def tells_the_time():
    with Program(checkout.example("python", "asyncio-clock", 0), LOG) as program:
        url = program.url()
        with Client(url) as first, Client(url) as second:
            for client in (first, second, first, second):
                opcode, text = client.receive()
                expect(opcode == TEXT, f"opcode {opcode}")
                time.strptime(text.decode(), "%H:%M:%S")
            first.send(TEXT, b"what time is it?")
            expect(first.close_code() == 1003, "a message was not answered with Close 1003")
            expect(second.receive()[0] == TEXT, "the clock stopped for the other one")
            program.terminate()
            expect(second.close_code() == 1001, "not 1001 to the client")
        status = program.wait(15)
        expect(status == 0, f"status {status}{program.tail()}")


# --- the clients -----------------------------------------------------------------------------


def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def fails_without_a_server(language, name, *arguments):
    status, _, err = call(language, name, f"ws://127.0.0.1:{closed_port()}", *arguments)
    expect(status > 0 and status != 101, f"status {status}")
    expect(err.strip() and "Traceback" not in err, f"it says {err!r}")


def says_hello(language):
    with server("c" if language != "c" else "cpp", 0) as program:
        status, out, err = call(language, "demo-client", program.url(), "me")
        expect(status == 0, f"status {status}, {out!r}, {err!r}")
        sent = [line.partition(" -> ")[2] for line in out.splitlines() if " -> " in line]
        got = [line.partition(" <- ")[2] for line in out.splitlines() if " <- " in line]
        expect(len(sent) == 3 and sent == got, f"it printed {out!r}")


def check_language(check, language, names):
    for name in names:
        check(f"{language} {name}: builds", builds, language, name)
        check(f"{language} {name}: is built once", says_nothing_when_current, language, name)
    if "echo-server" in names:
        what = f"{language} echo-server"
        check(f"{what}: is built anew when its source changed",
              rebuilds_what_is_older_than_its_source, language, "echo-server")
        if shutil.which("flock"):
            check(f"{what}: is built once for many", starts_at_the_same_time, language)
        else:
            check.skip(f"{what}: is built once for many", "flock is missing (apt-get install util-linux)")
        check(f"{what}: echoes", serves, language)
        if sys.platform == "linux":
            check(f"{what}: keeps its pid", runs_under_the_pid_it_was_started_with, language)
        check(f"{what}: port and --host", takes_a_port_and_a_host, language)
        check(f"{what}: a port that is taken", says_that_a_port_is_taken, language)
        check(f"{what}: --max-message", has_a_limit, language)
        check(f"{what}: pauses", stops_reading_from_a_peer_that_does_not_read, language)
        check(f"{what}: SIGTERM", ends_well, language, signal.SIGTERM)
        check(f"{what}: SIGINT", ends_well, language, signal.SIGINT)
        check(f"{what}: no port", explains_itself, language, "echo-server")
        check(f"{what}: a bad port", explains_itself, language, "echo-server", "http")
        check(f"{what}: an unknown flag", explains_itself, language, "echo-server", "0", "--nope")
    if "minimal" in names:
        check(f"{language} minimal: echoes", echoes_minimally, language)
    if "asyncio-clock" in names:
        check("python asyncio-clock: tells the time", tells_the_time)
    if "echo-client" in names:
        what = f"{language} echo-client"
        check(f"{what}: no URL", explains_itself, language, "echo-client")
        check(f"{what}: no server", fails_without_a_server, language, "echo-client")
    if "demo-client" in names:
        what = f"{language} demo-client"
        check(f"{what}: says hello", says_hello, language)
        check(f"{what}: no server", fails_without_a_server, language, "demo-client", "me")


def main():
    check = Checks()
    found = checkout.examples()
    wanted = sys.argv[1:] or list(found)
    if unknown := set(wanted) - set(found):
        sys.exit(f"no language {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    check("examples/run: lists what there is", lists_what_there_is, found)
    check("examples/run: an unknown language", refuses, ("cobol", "echo-server"), "cobol")
    check("examples/run: an unknown example", refuses, ("c", "no-such"), "no-such")
    check("examples/run: a name outside its folder", refuses, ("c", "../c/echo-server"), "../c")
    check("examples/run: no name", refuses, ("c",), "which example")
    for language in wanted:
        if not found[language]:
            check(f"{language}: has examples", expect, False, f"no example in {language}")
        check_language(check, language, found[language])
    if "python" in wanted:
        for what, readme_check in python_readme.checks():
            check(f"bindings/python/README.md: {what}", readme_check)
    print(f"{check.passed} passed, {check.failed} failed, {check.skipped} skipped")
    return 1 if check.failed or not check.passed else 0


if __name__ == "__main__":
    sys.exit(main())
