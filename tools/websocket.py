"""The least WebSocket client that can check an echo: blocking, one frame per message.

For checks of the examples only; `conformance/` has real peers.
"""
import base64
import os
import socket
import struct
from urllib.parse import urlsplit

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10


class Client:
    def __init__(self, url, seconds=20):
        parts = urlsplit(url)
        self.socket = socket.create_connection((parts.hostname, parts.port), timeout=seconds)
        self._buffer = b""
        target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        key = base64.b64encode(os.urandom(16)).decode()
        self.socket.sendall(
            (f"GET {target} HTTP/1.1\r\nHost: {parts.netloc}\r\nUpgrade: websocket\r\n"
             f"Connection: Upgrade\r\nSec-WebSocket-Key: {key}\r\n"
             "Sec-WebSocket-Version: 13\r\n\r\n").encode())
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, self._buffer = self._buffer.split(b"\r\n\r\n", 1)
        if not head.startswith(b"HTTP/1.1 101 "):
            raise ConnectionError(f"the handshake was answered with {head.splitlines()[0]!r}")

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
        """(opcode, payload) of the next frame that is neither ping nor pong."""
        while True:
            first, second = self._take(2)
            size = second & 127
            if size > 125:
                size = int.from_bytes(self._take(2 if size == 126 else 8), "big")
            payload = self._take(size)
            if first & 0x80 == 0 or first & 0x70 or second & 0x80:
                raise ConnectionError(f"an unexpected frame header {first:#x} {second:#x}")
            if first & 15 not in (PING, PONG):
                return first & 15, payload

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


def frame(opcode, payload):
    size = len(payload)
    if size < 126:
        head = bytes([0x80 | opcode, 0x80 | size])
    elif size < 1 << 16:
        head = struct.pack("!BBH", 0x80 | opcode, 0xFE, size)
    else:
        head = struct.pack("!BBQ", 0x80 | opcode, 0xFF, size)
    key = os.urandom(4)
    pad = key * (size // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad[:size], "big")
    return head + key + masked.to_bytes(size, "big")
