"""The least WebSocket client that can check an echo: blocking, one frame per message.

For checks of the examples only; `conformance/` has real peers.
"""
import base64
import hashlib
import os
import socket
import struct
from urllib.parse import urlsplit

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10


def accept_value(key):
    """The Sec-WebSocket-Accept that answers a Sec-WebSocket-Key (RFC 6455 §4.2.2)."""
    digest = hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
    return base64.b64encode(digest).decode()


def request(url, *fields):
    """The head of an opening handshake, with further header fields."""
    parts = urlsplit(url)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    key = base64.b64encode(os.urandom(16)).decode()
    lines = [f"GET {target} HTTP/1.1", f"Host: {parts.netloc}", "Upgrade: websocket",
             "Connection: Upgrade", f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13",
             *fields]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()


class Client:
    def __init__(self, url, seconds=20, fields=()):
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=seconds)
        self._buffer = b""
        self.socket.sendall(request(url, *fields))
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        self.head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        if not self.head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(f"the handshake was answered with {self.head.splitlines()[0]!r}")

    def _more(self):
        data = self.socket.recv(1 << 16)
        if not data:
            raise ConnectionError("the connection ended")
        self._buffer += data

    def _take(self, count):
        while len(self._buffer) < count:
            self._more()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def send(self, opcode, payload):
        self.socket.sendall(frame(opcode, payload))

    def receive(self):
        """(opcode, payload) of the next message, whole, or of a Close; pings and pongs are passed over."""
        message, parts = None, []
        while True:
            first, second = self._take(2)
            size = second & 127
            if size > 125:
                size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
            payload = self._take(size)
            opcode, fin = first & 15, first & 0x80
            is_control = opcode & 8
            continues = not is_control and (opcode == CONTINUATION) == (message is not None)
            if first & 0x70 or second & 0x80 or not (fin if is_control else continues):
                raise ConnectionError(f"an unexpected frame header {first:#x} {second:#x}")
            if opcode == CLOSE:
                return opcode, payload
            if is_control:
                continue
            message = message or opcode
            parts.append(payload)
            if fin:
                return message, b"".join(parts)

    def close(self, code=1000):
        """The code of the server's reply."""
        self.send(CLOSE, struct.pack("!H", code))
        return self.close_code()

    def close_code(self):
        opcode, payload = self.receive()
        if opcode != CLOSE:
            raise ConnectionError(f"a frame with opcode {opcode} came instead of Close")
        return struct.unpack("!H", payload[:2])[0] if payload else 1005

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()


def header(opcode, size, fin=True, rsv1=False, masked=True):
    """A frame's header up to its masking key."""
    first = opcode | (0x80 if fin else 0) | (0x40 if rsv1 else 0)
    mask = 0x80 if masked else 0
    if size < 126:
        return bytes([first, mask | size])
    if size < 1 << 16:
        return struct.pack("!BBH", first, mask | 126, size)
    return struct.pack("!BBQ", first, mask | 127, size)


def frame(opcode, payload, fin=True, rsv1=False):
    size = len(payload)
    head = header(opcode, size, fin, rsv1)
    key = os.urandom(4)
    pad = key * (size // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad[:size], "big")
    return head + key + masked.to_bytes(size, "big")
