"""Raw peers: many connections at once that send what they like, and read only when they want to.

Does not know: which attacks there are, or what a server may take.
"""
import itertools
import selectors
import socket
import sys
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools"))
import websocket  # noqa: E402

SECONDS = 30  # for one event; the machine may be busy with something else
# Without a writable socket for so long, the server has stopped reading. A busy machine makes an
# attack milder by this, never a check fail.
QUIET = 1.5
# Small buffers in the kernel: what a peer does not take is the server's, and not the kernel's.
SMALL = 32 << 10
SEGMENT = 1400


def connect(url, small=False):
    """A connection on which nothing was sent."""
    parts = urlsplit(url)
    peer = socket.socket()
    try:
        if small:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
            # The kernel of a loopback would take megabytes for each connection otherwise.
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, SEGMENT)
        peer.settimeout(SECONDS)
        peer.connect((parts.hostname, parts.port))
    except OSError:
        peer.close()
        raise
    return peer


def read_head(peer):
    """An HTTP response's head, and what came behind it."""
    got = b""
    while b"\r\n\r\n" not in got:
        more = peer.recv(1 << 16)
        if not more:
            raise ConnectionError(f"the connection ended after {got[:200]!r}")
        got += more
    head, _, rest = got.partition(b"\r\n\r\n")
    return head, rest


def status(head):
    return int(head.split(b" ", 2)[1])


class Crowd:
    """Connections that are held together, and closed together."""

    def __init__(self, url):
        self.url = url
        self.peers = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for peer in self.peers:
            peer.close()

    def join(self, count=1, first=b"", small=False):
        """More of them, that send something at once."""
        for _ in range(count):
            peer = connect(self.url, small)
            self.peers.append(peer)
            if first:
                peer.sendall(first)
        return self.peers[-count:]

    def open(self, count=1, small=False, fields=()):
        """More of them, with their opening handshake done."""
        request = websocket.request(self.url, *fields)
        # In groups, none of which the server's queue of connections is too short for.
        for at in range(0, count, 100):
            for peer in self.join(min(100, count - at), request, small):
                head, rest = read_head(peer)
                if status(head) != 101 or rest:
                    raise ConnectionError(f"the handshake was answered with {head!r} {rest!r}")
        return self.peers[-count:]


def push(peers, data, most):
    """Sends `data` over and over, at all peers at once and reading nothing, until each has sent
    `most` bytes or has ended, or no server takes any more. Tells how much was sent in all."""
    view = memoryview(data)
    left = dict.fromkeys(peers, most)
    with selectors.DefaultSelector() as waiting:
        for peer in peers:
            peer.setblocking(False)
            waiting.register(peer, selectors.EVENT_WRITE)
        while waiting.get_map():
            ready = waiting.select(QUIET)
            if not ready:
                break
            for key, _ in ready:
                peer = key.fileobj
                at = (most - left[peer]) % len(data)
                try:
                    left[peer] -= peer.send(view[at:at + left[peer]])
                except BlockingIOError:
                    continue
                except OSError:
                    waiting.unregister(peer)
                    continue
                if left[peer] == 0:
                    waiting.unregister(peer)
    return sum(most - rest for rest in left.values())


def push_and_sip(peer, data, most, expected):
    """Sends `data` over and over, `most` bytes in all, and reads only when the server takes no
    more; what comes has to be `expected` over and over. Gives how much came when all was sent."""
    view, pattern = memoryview(data), memoryview(expected * 2)
    sent = came = 0
    peer.setblocking(False)
    with selectors.DefaultSelector() as waiting:
        waiting.register(peer, selectors.EVENT_READ | selectors.EVENT_WRITE)
        while sent < most:
            ready = waiting.select(SECONDS)
            if not ready:
                raise TimeoutError(f"the server neither takes nor gives anything after {sent} bytes")
            if ready[0][1] & selectors.EVENT_WRITE:
                at = sent % len(data)
                try:
                    sent += peer.send(view[at:at + most - sent])
                    continue
                except BlockingIOError:
                    pass
            came += take(peer, pattern, len(expected), came)
    return came


def take(peer, pattern, period, came):
    """Reads a piece, which has to go on where `came` bytes of the pattern end."""
    try:
        got = peer.recv(min(1 << 16, period))
    except BlockingIOError:
        return 0
    if not got:
        raise ConnectionError(f"the connection ended after {came} bytes")
    at = came % period
    if pattern[at:at + len(got)] != got:
        raise AssertionError(f"what came back is changed, behind byte {came}")
    return len(got)


def take_rest(peer, expected, came, most):
    """Reads what is left of `most` bytes of `expected` over and over."""
    peer.settimeout(SECONDS)
    pattern = memoryview(expected * 2)
    while came < most:
        came += take(peer, pattern, len(expected), came)


def frames(peer):
    """What a server sends, frame by frame: (first octet, payload)."""
    peer.settimeout(SECONDS)
    got = b""
    while True:
        size, head = got[1] if len(got) > 1 else 0, 2
        if size > 125:
            head = 4 if size == 126 else 10
            size = int.from_bytes(got[2:head], "big")
        if len(got) >= head + size:
            yield got[0], got[head:head + size]
            got = got[head + size:]
            continue
        more = peer.recv(1 << 18)
        if not more:
            raise ConnectionError("the connection ended")
        got += more


def read_frames(peer, count):
    """So many frames, of which the last is the last that comes."""
    return list(itertools.islice(frames(peer), count))


def close_code(peer):
    """The code of the Close frame that comes, whatever comes before it."""
    return next(int.from_bytes(payload[:2], "big") for first, payload in frames(peer)
                if first & 15 == websocket.CLOSE)
