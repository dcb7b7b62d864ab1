"""The two sides of the chat as frames and nothing else: a `Peer` for the servers, a `Host` and its
`Guest` for the clients.

Does not know: the programs of the examples.
"""
import base64
import contextlib
import hashlib
import json
import os
import re
import socket
import struct
from urllib.parse import urlsplit

from chat.programs import SECONDS
from check_examples import expect
from websocket import CLOSE, TEXT, Client

LONGEST = "\N{GRINNING FACE}" * 1000  # The longest text, in the most bytes.
# Small segments and a small window: the kernels hold little between the server and this one.
NARROW = [(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536), (socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)]


class Refused(Exception):
    """The handshake was answered with this status."""


class Peer(Client):
    """A member made of frames and nothing else."""

    def __init__(self, url, options=()):
        parts = urlsplit(url)
        self.socket = socket.socket()
        self._buffer = b""
        for option in options:
            self.socket.setsockopt(*option)
        self.socket.settimeout(SECONDS)
        self.socket.connect((parts.hostname, parts.port))
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        self.socket.sendall(
            f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
            f"Connection: Upgrade\r\nSec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}"
            "\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        status = int(head.split()[1])
        if status != 101:
            self.socket.close()
            raise Refused(status)

    def put(self, kind, **fields):
        self.send_text(json.dumps({"type": kind, **fields}, ensure_ascii=False))

    def send_text(self, text):
        self.send(TEXT, text.encode())

    def get(self):
        """The next event."""
        opcode, payload = self.receive()
        if opcode == CLOSE:
            raise ConnectionError(f"closed with {self.reason_of(payload)}")
        expect(opcode == TEXT, f"a frame with opcode {opcode}")
        event = json.loads(payload.decode())
        expect(isinstance(event, dict) and isinstance(event.get("type"), str), f"not {event!r}")
        return event

    def until(self, kind, **fields):
        """The events up to the first of that kind with these fields."""
        events = []
        while not events or events[-1]["type"] != kind or any(
                events[-1].get(name) != value for name, value in fields.items()):
            events.append(self.get())
        return events

    def error(self):
        """The next event is an error that says something."""
        event = self.get()
        expect(event["type"] == "error" and event["text"], f"no error but {event}")

    def join(self, name, **fields):
        """Joins; the welcome."""
        self.put("join", name=name, **{"from": "test", **fields})
        event = self.get()
        expect(event["type"] == "welcome", f"{name!r} is not welcome: {event}")
        return event

    def say(self, text):
        self.put("say", text=text)

    @staticmethod
    def reason_of(payload):
        return (struct.unpack("!H", payload[:2])[0] if payload else 1005, payload[2:].decode())

    def closed(self):
        """Code and reason of the server's Close, which is answered."""
        while True:
            opcode, payload = self.receive()
            if opcode == CLOSE:
                with contextlib.suppress(OSError):
                    self.send(CLOSE, payload[:2])
                return self.reason_of(payload)

    def abort(self):
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


@contextlib.contextmanager
def member(url, name, **fields):
    with Peer(url) as peer:
        peer.welcome = peer.join(name, **fields)
        yield peer


def refusal(url):
    try:
        Peer(url).socket.close()
    except Refused as error:
        return error.args[0]
    return 101


class Host:
    """A chat server for one client at a time, that does what a check wants."""

    def __enter__(self):
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(SECONDS)
        self.url = f"ws://127.0.0.1:{self.listener.getsockname()[1]}/chat"
        return self

    def __exit__(self, *_):
        self.listener.close()

    def request(self):
        """The next connection, and the key of its request."""
        connection, _ = self.listener.accept()
        connection.settimeout(SECONDS)
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += connection.recv(1)
        return connection, re.search(rb"(?i)sec-websocket-key: *(\S+)", head)[1]

    def refuse(self, status):
        connection, _ = self.request()
        with connection:
            connection.sendall(f"HTTP/1.1 {status} No\r\nContent-Length: 0\r\n"
                               "Connection: close\r\n\r\n".encode())

    def accept(self):
        """The next connection, open, and the `join` that came by it."""
        connection, key = self.request()
        accept = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
        connection.sendall(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n"
                           b"Connection: Upgrade\r\nSec-WebSocket-Accept: "
                           + base64.b64encode(accept) + b"\r\n\r\n")
        guest = Guest(connection)
        return guest, guest.get()


class Guest:
    """A client that is open at a Host."""

    def __init__(self, connection):
        self.connection = connection

    def frame(self, opcode, payload):
        size = len(payload)
        head = bytes([size]) if size < 126 else b"\x7e" + struct.pack("!H", size)
        self.connection.sendall(bytes([0x80 | opcode]) + head + payload)

    def put(self, **event):
        self.frame(TEXT, json.dumps(event).encode())

    def welcome(self, name, others=(), history=()):
        self.put(type="welcome", name=name, history=list(history), more={"a": [1]},
                 members=[{"name": n, "from": "test", "age": 7} for n in (*others, name)])

    def take(self, size):
        data = b""
        while len(data) < size:
            more = self.connection.recv(size - len(data))
            expect(more, "the client's connection ended")
            data += more
        return data

    def read(self):
        """The next frame that is neither ping nor pong, unmasked."""
        while True:
            first, second = self.take(2)
            size = second & 127
            if size == 126:
                size = int.from_bytes(self.take(2), "big")
            key = self.take(4)
            payload = bytes(octet ^ key[i % 4] for i, octet in enumerate(self.take(size)))
            if first & 15 not in (9, 10):
                return first & 15, payload

    def get(self):
        opcode, payload = self.read()
        expect(opcode == TEXT, f"a frame with opcode {opcode}: {payload}")
        return json.loads(payload.decode())

    def close(self, code, reason=b""):
        with self.connection:
            self.frame(CLOSE, struct.pack("!H", code) + reason)
            while self.read()[0] != CLOSE:
                pass

    def closed(self):
        opcode, payload = self.read()
        expect(opcode == CLOSE, f"a frame with opcode {opcode} instead of Close: {payload}")
        with self.connection:
            self.frame(CLOSE, payload)
        return struct.unpack("!H", payload)[0]
