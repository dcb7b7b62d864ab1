"""Frames and opening handshakes by hand, for peers that do what no library would.

Does not know: sockets, or wsabi.
"""
import base64
import hashlib
import os
import struct
from typing import NamedTuple

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Frame(NamedTuple):
    opcode: int
    payload: bytes
    fin: bool = True
    rsv: int = 0
    masked: bool = False

    @property
    def close(self):
        """The code and the reason of a Close frame."""
        assert self.opcode == CLOSE, self
        if not self.payload:
            return None, ""
        return struct.unpack("!H", self.payload[:2])[0], self.payload[2:].decode()


def encode(opcode, payload=b"", *, fin=True, rsv=0, mask=False, length=None):
    """A frame's octets; `length` declares another length than the payload's."""
    payload = payload.encode() if isinstance(payload, str) else bytes(payload)
    size = len(payload) if length is None else length
    first = (0x80 if fin else 0) | rsv << 4 | opcode
    bit = 0x80 if mask else 0
    if size < 126:
        head = struct.pack("!BB", first, bit | size)
    elif size < 65536:
        head = struct.pack("!BBH", first, bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, bit | 127, size)
    if not mask:
        return head + payload
    key = os.urandom(4)
    return head + key + masked(payload, key)


def masked(payload, key):
    size = len(payload)
    repeated = int.from_bytes((key * (size // 4 + 1))[:size], "big")
    return (int.from_bytes(payload, "big") ^ repeated).to_bytes(size, "big")


def close_payload(code, reason=""):
    return struct.pack("!H", code) + reason.encode()


def decode(data):
    """The first frame of `data` and how long it is; None if it is not whole."""
    if len(data) < 2:
        return None
    size, at = data[1] & 0x7F, 2
    if size == 126:
        if len(data) < 4:
            return None
        size, at = struct.unpack_from("!H", data, 2)[0], 4
    elif size == 127:
        if len(data) < 10:
            return None
        size, at = struct.unpack_from("!Q", data, 2)[0], 10
    has_mask = bool(data[1] & 0x80)
    key = bytes(data[at:at + 4])
    at += 4 if has_mask else 0
    if len(data) < at + size:
        return None
    payload = bytes(data[at:at + size])
    if has_mask:
        payload = masked(payload, key)
    first = data[0]
    return Frame(first & 0xF, payload, bool(first & 0x80), first >> 4 & 7, has_mask), at + size


def request(target="/", *, host="127.0.0.1", method="GET", version="1.1", drop=(), **fields):
    """A request for a WebSocket. `fields` are header fields, with _ for -; None is not sent."""
    header = {
        "Host": host, "Upgrade": "websocket", "Connection": "Upgrade",
        "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        "Sec-WebSocket-Version": "13",
    }
    header.update({name.replace("_", "-"): value for name, value in fields.items()})
    lines = [f"{method} {target} HTTP/{version}"]
    lines += [f"{name}: {value}" for name, value in header.items()
              if value is not None and name not in drop]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")


def http(target="/", method="GET", **fields):
    """A request for something else."""
    return request(target, method=method,
                   drop=("Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version"),
                   **fields)


def accept_value(key):
    return base64.b64encode(hashlib.sha1((key + GUID).encode()).digest()).decode()


class Head(NamedTuple):
    """The head of a request or response."""

    first: str
    fields: list

    @property
    def status(self):
        return int(self.first.split()[1])

    def get(self, name, default=None):
        return next((v for n, v in self.fields if n.lower() == name.lower()), default)


def head(data):
    """The head at the start of `data` and how long it is; None if it is not whole."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return None
    first, *lines = bytes(data[:end]).decode("latin-1").split("\r\n")
    fields = [tuple(part.strip() for part in line.split(":", 1)) for line in lines]
    return Head(first, fields), end + 4
