"""What hostile peers do to an echo server, and how much memory it may take for that.

An attack is done to a server with the defaults of `examples/`, which are those of wsabi: 16 MiB a
message, 65,536 fragments, 16 KiB a request, 1,024 pending handshakes, backpressure above 1 MiB.

Does not know: how servers are started, or how memory is measured.
"""
import os
import zlib
from dataclasses import dataclass

import peers
import websocket
from peers import Crowd
from websocket import BINARY, PING, TEXT

MIB = 1 << 20
HIGH_WATER = 1 * MIB
READ = 256 << 10  # what is read at once; what of it is not delivered is kept
CONTINUATION = 0
KEY = b"\x9d\x02\x5e\xb1"


@dataclass(frozen=True)
class Attack:
    name: str
    act: object  # (url, count) -> None; raises when the server answers what it should not
    count: int  # in `make test`
    full: int  # in `make proof`
    bound: object  # (count) -> bytes that wsabi may hold at once because of it
    why: str
    arguments: tuple = ()  # of the echo server


def fragment(payload, fin, opcode=CONTINUATION):
    masked = bytes(octet ^ KEY[at % 4] for at, octet in enumerate(payload))
    return websocket.header(opcode, len(payload), fin) + KEY + masked


def expect(condition, words):
    if not condition:
        raise AssertionError(words)


# --- what comes back, and is not read -------------------------------------------------------


def never_reads(url, count):
    """Sends so many MiB, and reads nothing. The server has to stop reading, too."""
    with Crowd(url) as crowd:
        sent = peers.push(crowd.open(), websocket.frame(BINARY, os.urandom(MIB)), count * MIB)
        expect(sent < min(count, 64) * MIB, f"{sent / MIB:.0f} MiB were taken from one who reads nothing")


def reads_slowly(url, count):
    """Sends so many MiB, reads only when nothing is taken, and wants everything back."""
    payload = os.urandom(MIB)
    sent = websocket.frame(BINARY, payload)
    back = websocket.header(BINARY, len(payload), masked=False) + payload
    with Crowd(url) as crowd:
        [peer] = crowd.open()
        came = peers.push_and_sip(peer, sent, len(sent) * count, back)
        peers.take_rest(peer, back, came, len(back) * count)


def slow_readers(url, count):
    """So many at a time that want 8 MiB each back, and read nothing."""
    with Crowd(url) as crowd:
        crowd.open(count, small=True)
        message = websocket.frame(BINARY, os.urandom(64 << 10))
        sent = peers.push(crowd.peers, message, 8 * MIB)
        expect(sent < count * 5 * MIB, f"{sent / count / MIB:.1f} MiB were taken from each")
        # The attack is one only if there is a backlog for each of them.
        expect(sent > count * HIGH_WATER, f"only {sent / count / MIB:.2f} MiB were taken from each")


# --- fragments, pings -----------------------------------------------------------------------


def many_fragments(url, count):
    """A message in so many fragments of one byte: one too many, and the connection is failed."""
    with Crowd(url) as crowd:
        [peer] = crowd.open()
        first, more = fragment(b"a", False, TEXT), fragment(b"b", False)
        peers.push([peer], first, len(first))
        peers.push([peer], more * 1000, len(more) * count)
        code = peers.close_code(peer)
        expect(code == 1008, f"closed with {code}, not 1008")


def allowed_fragments(url, count):
    """A message in 60,000 fragments of one byte comes back; so many others never end theirs."""
    further = 60_000
    first, more, last = fragment(b"a", False, TEXT), fragment(b"b", False), fragment(b"c", True)
    with Crowd(url) as crowd:
        crowd.open(count)
        expect(peers.push(crowd.peers, first + more * further, len(first) + len(more) * further)
               == count * (len(first) + len(more) * further), "not everything was taken")
        with websocket.Client(url, peers.SECONDS) as client:
            client.socket.sendall(first + more * further + last)
            expect(client.receive() == (TEXT, b"a" + b"b" * further + b"c"), "the echo is changed")


def ping_flood(url, count):
    """So many MB of pings, 125 bytes each, from one who reads nothing."""
    ping = websocket.frame(PING, os.urandom(125))
    with Crowd(url) as crowd:
        [peer] = crowd.open(small=True)
        most = count * 1_000_000 // len(ping) * len(ping)
        sent = peers.push([peer], ping * 1000, most)
        # Pongs cost nothing, so there is no reason to stop reading.
        expect(sent == most, f"only {sent} of {most} bytes were taken")


# --- handshakes -----------------------------------------------------------------------------


def half_requests(url, count):
    """So many halves of a request, and as many who only connect."""
    request = websocket.request(url, "X-Fill: " + "f" * 15_000)
    with Crowd(url) as crowd:
        crowd.join(count, request[:-2])
        crowd.join(count)
        honest(url)
        # They are still there: it is not by dropping them that memory was saved.
        request = crowd.peers[0]
        request.sendall(b"\r\n")
        head, _ = peers.read_head(request)
        expect(peers.status(head) == 101, f"a late half of a request was answered with {head!r}")


def large_heads(url, count):
    """So many requests at a time with a head of 1 MB."""
    head = websocket.request(url, "X-Fill: " + "f" * 1_000_000)
    with Crowd(url) as crowd:
        crowd.join(count)
        peers.push(crowd.peers, head, len(head))
        for peer in crowd.peers:
            peer.settimeout(peers.SECONDS)
            answer, _ = peers.read_head(peer)
            expect(peers.status(answer) == 431, f"answered with {answer!r}, not 431")


# --- declared lengths -----------------------------------------------------------------------


def declared_beyond(url, count):
    """So many messages at a time that are declared to have 2^62 bytes."""
    with Crowd(url) as crowd:
        for peer in crowd.open(count):
            peer.sendall(websocket.header(BINARY, 1 << 62) + KEY)
        for peer in crowd.peers:
            code = peers.close_code(peer)
            expect(code == 1009, f"closed with {code}, not 1009")


def declared_within(url, count):
    """So many messages at a time that are declared to have 16 MiB, of which 100 bytes come."""
    with Crowd(url) as crowd:
        for peer in crowd.open(count):
            peer.sendall(websocket.header(BINARY, 16 * MIB) + KEY + b"x" * 100)
        honest(url)


# --- compression ---------------------------------------------------------------------------


OFFER = ["Sec-WebSocket-Extensions: permessage-deflate"]


def bomb():
    """1 GiB of zeros as some 1 MB (RFC 7692 §7.2.1): a block of 1 MiB that stands for itself, 1,024
    times."""
    compress = zlib.compressobj(9, zlib.DEFLATED, -9)
    block = compress.compress(bytes(MIB)) + compress.flush(zlib.Z_FULL_FLUSH)
    return websocket.frame(BINARY, (block * 1024).removesuffix(b"\0\0\xff\xff"), rsv1=True)


def bombs(url, count):
    """So many bombs at a time; each has to be stopped at the limit of a message."""
    data = bomb()
    with Crowd(url) as crowd:
        peers.push(crowd.open(count, fields=OFFER), data, len(data))
        for peer in crowd.peers:
            code = peers.close_code(peer)
            expect(code == 1009, f"a bomb was answered by {code}, not 1009")


def compressing(url, count):
    """So many connections that compress, have had their echo, and stay."""
    text = b"".join(b'{"number": %d, "name": "somebody", "square": %d}' % (i, i * i)
                    for i in range(1000))
    compress = zlib.compressobj(9, zlib.DEFLATED, -9)
    payload = (compress.compress(text) + compress.flush(zlib.Z_SYNC_FLUSH))[:-4]
    with Crowd(url) as crowd:
        for peer in crowd.open(count, fields=OFFER):
            peer.sendall(websocket.frame(TEXT, payload, rsv1=True))
            [(first, echo)] = peers.read_frames(peer, 1)
            if first & 0x40:
                echo = zlib.decompressobj(-15).decompress(echo + b"\0\0\xff\xff")
            expect(echo == text, "the echo is changed")
        honest(url)


def empty_blocks(url, count):
    """So many MB of empty blocks in one message each cost their time once, and the message comes."""
    block = b"\0\0\0\xff\xff"
    message = block * (1_000_000 // len(block) * count) + b"\x01\x05\0\xfa\xffhello"
    with Crowd(url) as crowd:
        [peer] = crowd.open(fields=OFFER)
        peer.settimeout(peers.SECONDS)
        peer.sendall(websocket.frame(BINARY, message, rsv1=True))
        [(_, echo)] = peers.read_frames(peer, 1)
        expect(echo == b"hello", f"the echo is {echo[:50]!r}")


# --- everybody else -------------------------------------------------------------------------


def honest(url):
    """A client that keeps to the rules is served as if nothing had happened."""
    with websocket.Client(url, peers.SECONDS) as client:
        for opcode, payload in [(TEXT, "größer ∮ 漢字".encode()), (BINARY, os.urandom(300_000)),
                                (TEXT, b"")]:
            client.send(opcode, payload)
            expect(client.receive() == (opcode, payload), f"{len(payload)} bytes came back changed")
        code = client.close()
        expect(code == 1000, f"Close was answered with {code}")


ATTACKS = [
    Attack("a slow reader that wants {} MiB back and never reads", never_reads, 256, 1024,
           lambda count: HIGH_WATER + 2 * MIB + READ,
           "a backlog at high water, one message beyond it, one half come, and what is undelivered"),
    Attack("a slow reader that wants {} MiB back and reads when it must", reads_slowly, 128, 1024,
           lambda count: HIGH_WATER + 2 * MIB + READ, "the same"),
    Attack("a message in {} fragments of one byte", many_fragments, 300_000, 300_000,
           lambda count: 0, "nothing: one buffer"),
    Attack("{} unfinished messages of 60,000 fragments, and one whole", allowed_fragments, 20, 200,
           lambda count: count * (64 << 10), "64 KiB for each message"),
    Attack("{} MB of pings from one who does not read", ping_flood, 20, 100,
           lambda count: 0, "nothing: one pong waits"),
    Attack("{} halves of requests, and as many who only connect", half_requests, 500, 500,
           lambda count: count * (32 << 10), "twice 16 KiB for each request"),
    Attack("{} requests of 1 MB at a time", large_heads, 50, 200,
           lambda count: count * (32 << 10), "twice 16 KiB for each request"),
    Attack("{} messages declared with 2^62 bytes", declared_beyond, 200, 1000,
           lambda count: count * (2 << 10), "2 KiB for each connection"),
    Attack("{} messages declared with 16 MiB, of which 100 bytes come", declared_within, 200, 1000,
           lambda count: count * (64 << 10), "64 KiB for each message"),
    Attack("{} slow readers at a time", slow_readers, 100, 1000,
           lambda count: count * (HIGH_WATER + 2 * (64 << 10) + READ + (8 << 10)),
           "for each a backlog at high water, two messages beyond it, what is undelivered, and 8 KiB"),
    Attack("{} bombs of 1 GiB in 1 MB at a time", bombs, 20, 200,
           lambda count: 32 * MIB, "a message at the limit, and its buffer before it grew",
           ("--deflate",)),
    Attack("{} MB of empty blocks in a compressed message", empty_blocks, 1, 10,
           lambda count: 0, "nothing", ("--deflate",)),
    Attack("{} connections that compress", compressing, 100, 1000,
           lambda count: count * (4 << 10), "4 KiB for each", ("--deflate",)),
    Attack("{} connections that compress with context takeover", compressing, 100, 1000,
           lambda count: count * (288 << 10), "for each a window of 4 KiB and a compressor of 265",
           ("--deflate", "--context-takeover")),
]
