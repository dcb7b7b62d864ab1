"""What the tests share: driving loops, noting calls, pairs of connections, peers by hand.

Does not know: what any test is about.
"""
import os
import select
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import frames
import wsabi

#: How long anything may take before its test fails. Nobody waits for it to pass.
DEADLINE = 40.0
CHECKOUT = Path(__file__).resolve().parents[3]

CALLBACKS = ("on_open", "on_message", "on_close", "on_error", "on_ping", "on_pong", "on_drain")


def drive(loop, condition, *others):
    """Dispatches `loop` whenever its descriptor is readable, until `condition()` is true.

    `others` are peers by hand, which read and write meanwhile.
    """
    end = time.monotonic() + DEADLINE
    loops = loop if isinstance(loop, (list, tuple)) else [loop]
    while not condition():
        left = end - time.monotonic()
        assert left > 0, f"nothing came of it within {DEADLINE:g} s"
        poll = select.poll()
        for each in loops:
            if not each.closed:
                poll.register(each.fileno(), select.POLLIN)
        for other in others:
            other.register(poll)
        # A condition may come true by another thread's doing, which wakes nobody here.
        poll.poll(min(left, 0.2) * 1000)
        for each in loops:
            if not each.closed:
                each.dispatch()
        for other in others:
            other.pump()


def settle(loop, *others, rounds=3):
    """Dispatches until there is nothing to do at the moment."""
    quiet = 0
    end = time.monotonic() + DEADLINE
    while quiet < rounds:
        assert time.monotonic() < end, "it does not come to rest"
        ready = select.poll()
        ready.register(loop.fileno(), select.POLLIN)
        busy = bool(ready.poll(5))
        loop.dispatch()
        for other in others:
            before = len(other.incoming), len(other.outgoing), other.ended
            other.pump()
            busy = busy or before != (len(other.incoming), len(other.outgoing), other.ended)
        quiet = 0 if busy else quiet + 1


class Notes(list):
    """A list of calls: tuples of a callback's name and its arguments without the connection."""

    def callbacks(self, *names):
        """Functions for the callbacks with these names (all, if none is given) that note them."""
        return {name: self._noting(name) for name in names or CALLBACKS}

    def _noting(self, name):
        def note(ws, *arguments):
            self.append((name, *arguments))
        return note

    def named(self, name):
        return [note for note in self if note[0] == name]

    def count(self, name):
        return len(self.named(name))

    @property
    def messages(self):
        return [note[1] for note in self.named("on_message")]

    @property
    def closed(self):
        """Whether on_close came; it comes only once."""
        assert self.count("on_close") <= 1, self
        return self.count("on_close") == 1

    @property
    def errors(self):
        return [note[1] for note in self.named("on_error")]


def url(server, path="/"):
    host, port = server.address
    return f"ws://[{host}]:{port}{path}" if ":" in host else f"ws://{host}:{port}{path}"


def serve(loop, **options):
    """A server on loopback, on a free port."""
    return wsabi.serve("127.0.0.1", 0, loop=loop, **options)


class Pair:
    """A client and the server's connection with it, both open, both on one loop."""

    def __init__(self, loop, server_options=None, client_options=None, path="/"):
        self.loop = loop
        self.at_server, self.at_client = Notes(), Notes()
        self.remote = None
        server_options = {**self.at_server.callbacks(), **(server_options or {})}
        opened = server_options["on_open"]

        def on_open(ws):
            self.remote = ws
            return opened(ws)

        server_options["on_open"] = on_open
        self.server = serve(loop, **server_options)
        self.client = wsabi.connect(
            url(self.server, path), loop=loop,
            **{**self.at_client.callbacks(), **(client_options or {})})
        self.drive(lambda: self.remote is not None and self.client.state != wsabi.State.CONNECTING)

    def drive(self, condition, *others):
        drive(self.loop, condition, *others)

    def settle(self):
        settle(self.loop)

    def until_closed(self):
        self.drive(lambda: self.client.state == self.remote.state == wsabi.State.CLOSED
                   and self.at_client.closed and self.at_server.closed)


class Tracked(wsabi.WebSocket):
    """A connection that is looked for after its end."""


def fds():
    """How many descriptors this process has."""
    return len(os.listdir("/proc/self/fd"))


#: What a test has opened by hand, closed when it is over.
opened = []


class Raw:
    """A socket that is read and written by hand, beside a loop that `drive` dispatches."""

    def __init__(self, loop, sock, mask):
        self.loop, self.sock, self.mask = loop, sock, mask
        self.sock.setblocking(False)
        opened.append(self)
        self.incoming, self.outgoing = bytearray(), bytearray()
        self.ended = False  # the peer has closed its direction
        self.was_reset = False
        self.reading = True

    def register(self, poll):
        wanted = select.POLLIN if self.reading and not self.ended else 0
        wanted |= select.POLLOUT if self.outgoing else 0
        if wanted and self.sock.fileno() >= 0:
            poll.register(self.sock, wanted)

    def pump(self):
        if self.sock.fileno() < 0:
            return
        try:
            while self.outgoing:
                del self.outgoing[:self.sock.send(memoryview(self.outgoing)[:1 << 20].tobytes())]
        except BlockingIOError:
            pass
        except OSError:
            self.outgoing.clear()
        while self.reading and not self.ended:
            try:
                data = self.sock.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                self.was_reset = self.ended = True
                return
            self.incoming += data
            self.ended = not data

    def drive(self, condition):
        drive(self.loop, condition, self)

    def write(self, data):
        self.outgoing += data
        self.drive(lambda: not self.outgoing)

    def send(self, opcode, payload=b"", **options):
        self.write(frames.encode(opcode, payload, **{"mask": self.mask, **options}))

    def frame(self):
        """The next frame from the peer."""
        self.drive(lambda: self.ended or frames.decode(self.incoming))
        found = frames.decode(self.incoming)
        assert found, f"the peer ended amid {bytes(self.incoming[:80])!r}"
        del self.incoming[:found[1]]
        return found[0]

    def head(self):
        self.drive(lambda: self.ended or frames.head(self.incoming))
        found = frames.head(self.incoming)
        assert found, f"the peer ended amid {bytes(self.incoming[:80])!r}"
        del self.incoming[:found[1]]
        return found[0]

    def rest(self):
        """All that comes until the peer ends."""
        self.drive(lambda: self.ended)
        return bytes(self.incoming)

    def reset(self):
        """Ends at once, by a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
        self.sock.close()

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class RawClient(Raw):
    """A client by hand; `open` has it ask for a WebSocket."""

    def __init__(self, loop, server, receive_buffer=None):
        sock = socket.socket(socket.AF_UNIX if isinstance(server.address, str) else socket.AF_INET)
        if receive_buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        address = server.address
        sock.connect(address.removeprefix("unix:") if isinstance(address, str) else address)
        super().__init__(loop, sock, mask=True)

    def open(self, target="/", **fields):
        self.write(frames.request(target, **fields))
        response = self.head()
        assert response.status == 101, response
        return response


class RawServer:
    """A listening socket by hand."""

    def __init__(self, loop, receive_buffer=None):
        self.loop = loop
        self.listener = socket.socket()
        if receive_buffer:
            self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.listener.bind(("127.0.0.1", 0))
        self.listener.listen(16)
        opened.append(self)
        self.url = f"ws://127.0.0.1:{self.listener.getsockname()[1]}/"

    def accept(self):
        """The next connection, with the request's head read."""
        ready = select.poll()
        ready.register(self.listener, select.POLLIN)
        drive(self.loop, lambda: ready.poll(0))
        raw = Raw(self.loop, self.listener.accept()[0], mask=False)
        raw.request = raw.head()
        return raw

    def open(self, **fields):
        """The next connection, opened."""
        raw = self.accept()
        raw.write(answer(raw.request, **fields))
        return raw

    def close(self):
        self.listener.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def answer(request, status="101 Switching Protocols", **fields):
    """A server's response to a request for a WebSocket."""
    header = {"Upgrade": "websocket", "Connection": "Upgrade",
              "Sec-WebSocket-Accept": frames.accept_value(request.get("Sec-WebSocket-Key"))}
    header.update({name.replace("_", "-"): value for name, value in fields.items()})
    lines = [f"HTTP/1.1 {status}"]
    lines += [f"{name}: {value}" for name, value in header.items() if value is not None]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


# --- programs ----------------------------------------------------------------------------


#: How programs about a server begin.
SERVER = """
import signal, sys, threading, time
import wsabi

def echo(ws, data):
    ws.send(data)

server = wsabi.serve("127.0.0.1", 0, on_message=echo)
loop = wsabi.default_loop()
url = f"ws://127.0.0.1:{server.port}/"
"""


def script(code, *arguments, flags=("-W", "error"), status=0, quiet=True):
    """Runs a program of its own; what it printed to standard output."""
    done = subprocess.run([sys.executable, *flags, "-c", textwrap.dedent(code), *arguments],
                          capture_output=True, text=True, timeout=DEADLINE)
    assert done.returncode == status, (done.returncode, done.stdout, done.stderr)
    if quiet:
        assert done.stderr == "", done.stderr
    return done.stdout


class Script:
    """A program that runs beside the test, and is ended with it."""

    def __init__(self, code, *arguments, flags=("-W", "error")):
        self.process = subprocess.Popen(
            [sys.executable, *flags, "-u", "-c", textwrap.dedent(code), *arguments],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def line(self):
        """Its next line; an empty one at its end."""
        return self.process.stdout.readline().rstrip("\n")

    def finish(self):
        """Its exit status and what else it printed, to standard output and error."""
        late = threading.Timer(DEADLINE, self.process.kill)
        late.start()
        try:
            # Not `communicate`, which does not know what `line` has buffered.
            out, err = self.process.stdout.read(), self.process.stderr.read()
            return self.process.wait(), out, err
        finally:
            late.cancel()
            late.join()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            pipe.close()
        self.process.wait()
