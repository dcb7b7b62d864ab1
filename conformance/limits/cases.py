"""The checks: a limit, what is below, at and above it, and what comes of that.

Does not know: how languages are built or talked to.
"""
import random
import struct
import time
import zlib

from subject import SECONDS, expect, peers, response, websocket
from websocket import BINARY, PING, PONG

CONTINUATION = 0
# The sentences of `ws` for what it has limits for, too.
TOO_BIG = "Max payload size exceeded"
TOO_MANY = "Too many message fragments"
TOO_LATE = "Opening handshake has timed out"


# --- what peers send ---------------------------------------------------------------------


def frames_of(at_server, *parts):
    """Frames to a server, masked, or to a client: (opcode, payload, is the last one)."""
    made = []
    for opcode, payload, fin in parts:
        if at_server:
            made.append(websocket.frame(opcode, payload, fin))
        else:
            made.append(websocket.header(opcode, len(payload), fin, masked=False) + payload)
    return b"".join(made)


def cut(payload, pieces):
    """A message in so many frames."""
    size = len(payload)
    return [(CONTINUATION if i else BINARY, payload[size * i // pieces:size * (i + 1) // pieces],
             i == pieces - 1) for i in range(pieces)]


def opened(subject, at_server, **limits):
    """A raw peer of an open connection."""
    if at_server:
        return subject.accepts(**limits)
    peer = subject.connects(response, **limits)
    subject.until("open - -")
    return peer


def code_of(peer, at_server):
    if at_server:
        return peers.close_code(peer)
    # A client's frames are masked; its Close is all that it sends here.
    peer.settimeout(SECONDS)
    got = b""
    while len(got) < 8:
        more = peer.recv(1 << 16)
        expect(more, "the connection ended without a Close frame")
        got += more
    expect(got[0] == 0x88, f"{got[:8]!r} is no Close frame")
    return struct.unpack("!H", bytes(a ^ b for a, b in zip(got[6:8], got[2:4])))[0]


# --- messages ----------------------------------------------------------------------------


def message_size(at_server, pieces):
    def check(subject):
        for size in (999, 1000, 1001):
            with opened(subject, at_server, max_message=1000) as peer:
                peer.sendall(frames_of(at_server, *cut(b"m" * size, pieces)))
                if size <= 1000:
                    subject.until(rf"message binary {size} .*")
                    continue
                code = code_of(peer, at_server)
                expect(code == 1009, f"closed with {code}, not 1009")
                peer.close()
                subject.explains("MESSAGE_TOO_BIG", "max_message_bytes", 1000, TOO_BIG)
                subject.fails("MESSAGE_TOO_BIG")
    return check


def fragments(at_server):
    def check(subject):
        # `ws` counts the first one too.
        limit = 11 if subject.language == "node" else 10
        for further in (9, 10, 11):
            with opened(subject, at_server, max_fragments=limit) as peer:
                peer.sendall(frames_of(at_server, *cut(b"f" * 40, further + 1)))
                if further <= 10:
                    subject.until(r"message binary 40 .*")
                    continue
                code = code_of(peer, at_server)
                expect(code == 1008, f"closed with {code}, not 1008")
                peer.close()
                subject.explains("TOO_MANY_FRAGMENTS", "max_fragments", limit, TOO_MANY)
                subject.fails("TOO_MANY_FRAGMENTS")
    return check


# --- opening handshakes --------------------------------------------------------------------


def request_of(url, size=None, headers=None):
    """A request of so many bytes, or header fields."""
    if headers is not None:
        plain = websocket.request(url).count(b"\r\n") - 2
        return websocket.request(url, *(f"X-{i}: x" for i in range(headers - plain)))
    short = len(websocket.request(url, "X-Fill: "))
    return websocket.request(url, "X-Fill: " + "f" * (size - short))


def answered(url, request):
    with peers.connect(url) as peer:
        peer.sendall(request)
        head, _ = peers.read_head(peer)
        return peers.status(head)


def request_bytes(subject):
    url = subject.url(max_handshake_bytes=512)
    for size, wanted in ((511, 101), (512, 101), (513, 431)):
        request = request_of(url, size=size)
        expect(len(request) == size, "the request is not as long as it should be")
        status = answered(url, request)
        expect(status == wanted, f"{size} bytes were answered with {status}")
    subject.hears_of_handshake("HANDSHAKE_TOO_LARGE", "max_handshake_bytes", 512)


def request_headers(subject):
    url = subject.url(max_handshake_headers=10)
    for count, wanted in ((9, 101), (10, 101), (11, 431)):
        status = answered(url, request_of(url, headers=count))
        expect(status == wanted, f"{count} header fields were answered with {status}")
    subject.hears_of_handshake("HANDSHAKE_TOO_LARGE", "max_handshake_headers", 10)


def response_bytes(subject):
    def respond(size):
        def make(request):
            short = len(response(request, "X-Fill: "))
            return response(request, "X-Fill: " + "f" * (size - short))
        return make
    for size in (511, 512, 513):
        with subject.connects(respond(size), max_handshake_bytes=512):
            if size <= 512:
                subject.until("open - -")
            else:
                subject.explains("HANDSHAKE_TOO_LARGE", "max_handshake_bytes", 512)
                subject.until("failed (HANDSHAKE_TOO_LARGE|-)")


def response_headers(subject):
    for count in (9, 10, 11):
        more = [f"X-{i}: x" for i in range(count - 3)]
        with subject.connects(lambda request: response(request, *more), max_handshake_headers=10):
            if count <= 10:
                subject.until("open - -")
            else:
                subject.explains("HANDSHAKE_TOO_LARGE", "max_handshake_headers", 10)
                subject.until("failed (HANDSHAKE_TOO_LARGE|-)")


def request_time(subject):
    url = subject.url(handshake_timeout=200)
    status = answered(url, websocket.request(url))
    expect(status == 101, f"a request in time was answered with {status}")
    status = answered(url, websocket.request(url)[:-2])
    expect(status == 408, f"half a request was answered with {status}")
    subject.hears_of_handshake("HANDSHAKE_TIMEOUT", "handshake_timeout", "200ms")


def response_time(subject):
    with subject.connects(lambda request: response(request)[:-2], handshake_timeout=200):
        subject.explains("HANDSHAKE_TIMEOUT", "handshake_timeout", "200ms", TOO_LATE)
        subject.until("failed (HANDSHAKE_TIMEOUT|-)")


def hold_time(subject):
    url = subject.url(hold=1, hold_timeout=200, handshake_timeout=20_000)
    status = answered(url, websocket.request(url))
    expect(status == 503, f"a request that was held was answered with {status}")
    subject.hears_of_handshake("HANDSHAKE_TIMEOUT", "hold_timeout", "200ms")


def pending(subject):
    for count in (2, 3, 4):
        url = subject.url(max_pending_handshakes=3)
        request = websocket.request(url)
        with peers.Crowd(url) as crowd:
            for peer in crowd.join(count, request[:-2]):
                peer.settimeout(SECONDS)
            if count == 4:
                try:
                    got = crowd.peers[0].recv(1)
                except ConnectionResetError:
                    got = b""
                expect(got == b"", "the oldest of four was not dropped")
                subject.hears_of_handshake("OVERLOADED", "max_pending_handshakes", 3)
            for peer in crowd.peers[max(0, count - 3):]:
                peer.sendall(request[-2:])
                head, _ = peers.read_head(peer)
                expect(peers.status(head) == 101, f"one of {count} was answered with {head!r}")
                subject.until("open - /")


# --- compression ---------------------------------------------------------------------------


def deflated(data):
    """A compressed message's payload (RFC 7692 §7.2.1), in a window that any side takes."""
    compress = zlib.compressobj(9, zlib.DEFLATED, -9)
    return (compress.compress(data) + compress.flush(zlib.Z_SYNC_FLUSH)).removesuffix(b"\0\0\xff\xff")


def compressed(at_server, data):
    """A compressed message to a server or a client."""
    payload = deflated(data)
    if at_server:
        return websocket.frame(BINARY, payload, rsv1=True)
    return websocket.header(BINARY, len(payload), rsv1=True, masked=False) + payload


def compressing(subject, at_server, **limits):
    """A raw peer of an open connection that compresses."""
    agreed = "permessage-deflate; server_no_context_takeover; client_no_context_takeover"
    if at_server:
        return subject.accepts([f"Sec-WebSocket-Extensions: {agreed}"], deflate=1, **limits)
    peer = subject.connects(lambda request: response(request, f"Sec-WebSocket-Extensions: {agreed}"),
                            deflate=1, **limits)
    subject.until("open - -")
    return peer


def inflated_size(at_server):
    def check(subject):
        for size in (999, 1000, 1001):
            with compressing(subject, at_server, max_message=1000) as peer:
                peer.sendall(compressed(at_server, bytes(size)))
                if size <= 1000:
                    subject.until(rf"message binary {size} .*")
                    continue
                code = code_of(peer, at_server)
                expect(code == 1009, f"closed with {code}, not 1009")
                peer.close()
                subject.explains("MESSAGE_TOO_BIG", "max_message_bytes", 1000, TOO_BIG)
                subject.fails("MESSAGE_TOO_BIG")
    return check


def with_ratio(ratio, above):
    """Data that is so many times as large as it is compressed, and so many bytes more."""
    for noise in range(60):
        for zeros in range(2000):
            data = bytes(random.Random(noise).randbytes(noise)) + bytes(zeros)
            if len(data) == ratio * len(deflated(data)) + above:
                return data
    raise AssertionError(f"nothing has a ratio of {ratio}")


def ratio(at_server):
    def check(subject):
        for above in (-1, 0, 1):
            data = with_ratio(10, above)
            with compressing(subject, at_server, max_ratio=10) as peer:
                peer.sendall(compressed(at_server, data))
                if above <= 0:
                    subject.until(rf"message binary {len(data)} .*")
                    continue
                code = code_of(peer, at_server)
                expect(code == 1009, f"closed with {code}, not 1009")
                peer.close()
                subject.explains("MESSAGE_TOO_BIG", "max_ratio", 10)
                subject.fails("MESSAGE_TOO_BIG")
    return check


# --- the budget of a server ----------------------------------------------------------------


def budget(subject):
    """Unfinished messages within it are nobody's business; of those above it the largest goes."""
    limit = 1_000_000
    with peers.Crowd(subject.url(max_buffered=limit)) as crowd:
        sizes = [300_000, 200_000, 600_000, 100_000]
        parts = [websocket.frame(BINARY, bytes(size), fin=False) for size in sizes]
        last = websocket.frame(CONTINUATION, b"")
        crowd.open(4)
        for peer, part in zip(crowd.peers[:2], parts):
            peer.sendall(part)
        for peer, size in zip(crowd.peers[:2], sizes):
            peer.sendall(last)
            subject.until(rf"message binary {size} .*")
        # Three at a time are more than it may hold.
        for peer, part in zip(crowd.peers, parts):
            peers.push([peer], part, len(part))
        code = peers.close_code(crowd.peers[2])
        expect(code == 1013, f"the largest was closed with {code}, not 1013")
        crowd.peers[2].close()
        subject.explains("OVER_BUDGET", "max_buffered_bytes", limit)
        subject.fails("OVER_BUDGET")
        for number in (0, 1, 3):
            crowd.peers[number].settimeout(SECONDS)
            crowd.peers[number].sendall(last)
            subject.until(rf"message binary {sizes[number]} .*")


# --- the backlog ---------------------------------------------------------------------------


def header_size(payload):
    return len(websocket.header(BINARY, payload, masked=False))


def exactly(room):
    """A payload whose frame has so many bytes."""
    for header in (10, 4, 2):
        if header_size(room - header) == header:
            return room - header
    raise AssertionError(f"no frame has {room} bytes")


def tries(subject, size):
    subject.order(f"try {size}")
    match = subject.until(r"tried (\w+) (\d+)(?: (.*))?")
    return match[1], int(match[2]), match[3]


def clogged(subject, **limits):
    """A raw client that reads nothing, whose kernel takes no more: something waits."""
    peer = subject.accepts(**limits)
    waiting = 0
    # What the kernel still takes from one try to the next is not there to be counted.
    for _ in range(200):
        answer, now, _ = tries(subject, 50_000)
        expect(answer == "OK", f"{now} bytes were below high water and answered by {answer}")
        if now > waiting > 0 and now - waiting == 50_000 + header_size(50_000):
            return peer, now
        waiting = now
    raise AssertionError("nothing waits")


def high_water(subject):
    limit = 4 << 20
    for above in (-1, 0, 1):
        peer, waiting = clogged(subject, high_water=limit, low_water=1000)
        with peer:
            answer, now, _ = tries(subject, exactly(limit + above - waiting))
            expect(now == limit + above, f"{now} bytes wait, and not {limit + above}")
            wanted = "BACKPRESSURE" if above > 0 else "OK"
            expect(answer == wanted, f"a backlog of {now} bytes was answered by {answer}")
            subject.order("close 1000")
            code = peers.close_code(peer)
            expect(code == 1000, f"closed with {code}, not 1000")
        # In Node.js that is all that tells.
        drained = subject.until("(drain)|close 1006 .*")[1] is not None
        expect(drained == (above > 0), f"drain {'came' if drained else 'did not come'} after {now} bytes")
        if drained:
            subject.until("close 1006 .*")


def max_backlog(subject):
    limit, high = 8 << 20, 4 << 20
    for above in (-1, 0, 1):
        peer, waiting = clogged(subject, max_backlog=limit, high_water=high, low_water=1000)
        with peer:
            answer, waiting, _ = tries(subject, exactly(high - waiting))
            expect((answer, waiting) == ("OK", high), f"{answer} with {waiting} bytes")
            # What counts is the payload: what is announced has to fit.
            answer, now, text = tries(subject, limit + above - waiting)
            if above <= 0:
                expect(answer == "BACKPRESSURE" and now > waiting, f"{answer} with {now} bytes")
            else:
                expect(answer == "FULL" and now == waiting, f"{answer} with {now} bytes")
                subject.names(text, "max_backlog_bytes", limit)
            subject.order("terminate")
            subject.until("close 1006 .*")


def low_water(subject):
    limit = 300_000
    peer, waiting = clogged(subject, high_water=4 << 20, low_water=limit)
    with peer:
        answer, waiting, _ = tries(subject, 4 << 20)
        expect(answer == "BACKPRESSURE", f"{waiting} bytes were answered by {answer}")
        # Bit by bit, and what waits is asked for: no drain above low water.
        peer.settimeout(SECONDS)
        drained = False
        while waiting > limit:
            expect(not drained, f"drain came with {waiting} bytes in the backlog")
            left = 100_000
            while left > 0:
                got = peer.recv(min(left, 1 << 16))
                expect(got, "the connection ended")
                left -= len(got)
            subject.order("try 0")
            match = subject.until(r"(drain)|tried \w+ (\d+).*")
            drained = match[1] is not None
            waiting = int((subject.until(r"tried \w+ (\d+).*") if drained else match)[1 if drained else 2])
        if not drained:
            subject.until("drain")


def one_pong(subject):
    """However many pings come behind a backlog, the latest only is answered."""
    with subject.accepts() as peer:
        subject.order(f"fill {subject.payload(65536)} backpressure")
        count = int(subject.until(r"filled (\d+) \d+")[1])
        for number in range(50):
            peer.sendall(websocket.frame(PING, b"%d" % number))
        for _ in range(50):
            subject.until(r"ping .*")
        got = peers.read_frames(peer, count + 1)
        pongs = [payload for first, payload in got if first & 15 == PONG]
        expect(pongs == [b"49"], f"pongs of {pongs} came, and not of 49 alone")
        peer.sendall(websocket.frame(PING, b"next"))
        got = peers.read_frames(peer, 1)
        expect(got == [(0x80 | PONG, b"next")], f"{got} came, and not the next pong")
        subject.until("drain")


# --- silence -------------------------------------------------------------------------------


def silence(kind, name, limits, wanted):
    def check(subject):
        with subject.accepts(**limits) as peer:
            code = peers.close_code(peer)
            expect(code == 1011, f"closed with {code}, not 1011")
            peer.close()
            subject.explains(kind, name, wanted)
            subject.fails(kind)
    return check


def close_time(subject):
    with subject.accepts(close_timeout=200) as peer:
        begin = time.monotonic()
        subject.order("close 1000")
        code = peers.close_code(peer)
        expect(code == 1000, f"closed with {code}, not 1000")
        if subject.language != "node":  # `ws` has no event for it
            subject.explains("CLOSE_TIMEOUT", "close_timeout", "200ms")
        subject.fails("CLOSE_TIMEOUT")
        expect(time.monotonic() - begin > 0.15, "it did not wait for the peer's Close")


def all_checks():
    """(name, check) of everything."""
    both = (("server", True), ("client", False))
    yield from ((f"max_message, one frame, at the {side}", message_size(at, 1)) for side, at in both)
    yield from ((f"max_message, fragments, at the {side}", message_size(at, 3)) for side, at in both)
    yield from ((f"max_fragments, at the {side}", fragments(at)) for side, at in both)
    yield from [
        ("max_handshake_bytes of a request", request_bytes),
        ("max_handshake_bytes of a response", response_bytes),
        ("max_handshake_headers of a request", request_headers),
        ("max_handshake_headers of a response", response_headers),
        ("handshake_timeout of a request", request_time),
        ("handshake_timeout of a response", response_time),
        ("hold_timeout", hold_time),
        ("max_pending_handshakes", pending),
        ("one pong behind a backlog", one_pong),
        ("high_water of the backlog", high_water),
        ("low_water of the backlog", low_water),
        ("max_backlog", max_backlog),
        *((f"max_message of what was compressed, at the {side}", inflated_size(at)) for side, at in both),
        *((f"max_ratio, at the {side}", ratio(at)) for side, at in both),
        ("max_buffered of a server", budget),
        ("ping_timeout", silence("KEEPALIVE_TIMEOUT", "ping_timeout",
                                 {"ping_interval": 50, "ping_timeout": 200}, "200ms")),
        ("idle_timeout", silence("IDLE_TIMEOUT", "idle_timeout", {"idle_timeout": 200}, "200ms")),
        ("close_timeout", close_time),
    ]
