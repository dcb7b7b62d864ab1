"""Runs every block of Python in `bindings/python/README.md`, as a reader would.

A block under a heading has a check by that heading's name; a block without one fails. What the
blocks call port 8080 is a free port here.
"""
import contextlib
import os
import re
import socket
import subprocess
import time

import checkout
from checkout import ROOT, TARGET, Program
from websocket import BINARY, TEXT, Client

README = ROOT / "bindings" / "python" / "README.md"
WORK = TARGET / "examples" / "readme"
PYTHON = TARGET / "venv-examples" / "bin" / "python"
SECONDS = 20


def blocks():
    """(heading, code) of each block, in order."""
    heading = None
    for match in re.finditer(r"^#+ ([^\n]+)$|^```python\n(.*?)^```$", README.read_text("utf-8"),
                             re.M | re.S):
        if match[1]:
            heading = match[1]
        else:
            yield heading, match[2]


def script(heading, code, port):
    """The block as a file, with warnings as errors."""
    if "8080" not in code:
        raise AssertionError("the block does not use port 8080")
    path = WORK / f"{re.sub('[^a-z]+', '-', heading.lower())}.py"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(code.replace("8080", str(port)), "utf-8")
    return [str(PYTHON), "-X", "dev", "-W", "error", str(path)]


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def expect(condition, words):
    if not condition:
        raise AssertionError(words)


@contextlib.contextmanager
def serving(heading, code):
    """Runs a block that is a server; yields its URL, and looks at what it complained of."""
    port = free_port()
    end = time.monotonic() + SECONDS
    with Program(script(heading, code, port), WORK / "server.log") as program:
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            expect(program.process.poll() is None, f"it ended{program.tail()}")
            expect(time.monotonic() < end, "it does not listen")
            time.sleep(0.02)
        yield f"ws://127.0.0.1:{port}"
        expect(program.process.poll() is None, f"it ended{program.tail()}")
        expect(not program.tail(), f"it complained{program.tail()}")


def prints(heading, code, wanted):
    """Runs a block that is a client, against an echo server."""
    with Program(checkout.example("python", "echo-server", 0), WORK / "echo.log") as server:
        port = int(server.url().rpartition(":")[2])
        done = subprocess.run(script(heading, code, port), capture_output=True, text=True,
                              stdin=subprocess.DEVNULL, timeout=SECONDS,
                              env={**os.environ, "PYTHONIOENCODING": "utf-8"})
    expect((done.returncode, done.stdout, done.stderr) == (0, f"{wanted}\n", ""),
           f"status {done.returncode}, {done.stdout!r}, {done.stderr!r}")


# --- a check for each heading ---------------------------------------------------------------


def echoes(heading, code):
    with serving(heading, code) as url, Client(url) as client:
        for opcode, payload in [(TEXT, "größer".encode()), (BINARY, bytes(range(256)) * 300)]:
            client.send(opcode, payload)
            expect(client.receive() == (opcode, payload), "the echo is changed")
        expect(client.close() == 1000, "Close was not answered with 1000")


def is_a_client(heading, code):
    prints(heading, code, "hello")


def is_a_chat(heading, code):
    with serving(heading, code) as url:
        try:
            Client(f"{url}/other")
        except ConnectionError as error:
            expect("404" in str(error), str(error))
        else:
            raise AssertionError("/other was not refused")
        with Client(f"{url}/chat?ann") as ann, Client(f"{url}/chat") as other:
            other.send(TEXT, b"hello")
            for client in (ann, other):
                expect(client.receive() == (TEXT, b"somebody: hello"), "not what was said")
            ann.send(TEXT, b"hi")
            for client in (ann, other):
                expect(client.receive() == (TEXT, b"ann: hi"), "not what was said")


def asks(heading, code):
    prints(heading, code, "what time is it?")


def works_in_a_thread(heading, code):
    with serving(heading, code) as url, Client(url) as client:
        for number in range(3):
            wanted = (TEXT, f"result {number}".encode())
            expect(client.receive() == wanted, "not the results in order")
        expect(client.close_code() == 1000, "not closed with 1000")


CHECKS = {
    "A server": echoes,
    "A client": is_a_client,
    "Callbacks": is_a_chat,
    "asyncio and uvloop": asks,
    "Other event loops": echoes,
    "Sending faster than the peer reads": echoes,
    "Threads": works_in_a_thread,
}


def has_no_check(heading, code):
    raise AssertionError("there is no check for a block under this heading")


def has_no_block():
    raise AssertionError("there is no block under this heading")


def checks():
    """(heading, function without arguments) for each block, and for each heading without one."""
    found = list(blocks())
    for heading, code in found:
        check = CHECKS.get(heading, has_no_check)
        yield heading, lambda check=check, heading=heading, code=code: check(heading, code)
    for heading in CHECKS:
        if heading not in dict(found):
            yield heading, has_no_block
