"""Requests that others took for what they are not, and what a server has to answer.

A refusal is one response and the end of the connection, whatever comes behind the request.

Does not know: who serves.
"""
import peers
import websocket

HIDDEN = b"GET /hidden HTTP/1.1\r\nHost: hidden\r\n\r\n"


def plain(url):
    return websocket.request(url)


def with_fields(*fields):
    """A request with further header fields, which are bytes."""
    def make(url):
        more = b"".join(field + b"\r\n" for field in fields)
        return websocket.request(url)[:-2] + more + b"\r\n"
    return make


def changed(old, new):
    """A request of which a part is something else."""
    def make(url):
        request = websocket.request(url)
        if old not in request:
            raise AssertionError(f"{old!r} is not in the request")
        return request.replace(old, new)
    return make


def raw(data):
    return lambda url: data


def behind(make, rest):
    return lambda url: make(url) + rest


# (name, request, the statuses that are right)
REQUESTS = [
    ("a plain one", plain, {101}),
    # Bodies and second requests, taken for frames.
    ("Content-Length of 0", with_fields(b"Content-Length: 0"), {101}),
    ("a body", behind(with_fields(b"Content-Length: 5"), b"hello"), {400, 413}),
    ("a body in chunks", behind(with_fields(b"Transfer-Encoding: chunked"), b"0\r\n\r\n"), {400}),
    ("both lengths of a body", with_fields(b"Content-Length: 0", b"Transfer-Encoding: chunked"), {400}),
    ("two lengths", with_fields(b"Content-Length: 0", b"Content-Length: 6"), {400, 413}),
    ("a second request behind one that is refused",
     behind(changed(b"Version: 13", b"Version: 8"), HIDDEN), {426}),
    ("frames behind one that is refused",
     behind(changed(b"Version: 13", b"Version: 8"), websocket.frame(websocket.TEXT, b"x") * 50), {426}),
    # What a proxy in front does not take for an upgrade.
    ("HTTP/1.0", behind(changed(b"HTTP/1.1", b"HTTP/1.0"), HIDDEN), {400}),
    ("HTTP/2.0", changed(b"HTTP/1.1", b"HTTP/2.0"), {400, 505}),
    ("POST", changed(b"GET", b"POST"), {405}),
    ("no Upgrade", changed(b"Upgrade: websocket\r\n", b""), {400, 426}),
    ("no Connection", changed(b"Connection: Upgrade\r\n", b""), {400, 426}),
    ("a draft's version", changed(b"Version: 13", b"Version: 0"), {426}),
    ("no version", changed(b"Sec-WebSocket-Version: 13\r\n", b""), {400, 426}),
    ("version 013", changed(b"Version: 13", b"Version: 013"), {400, 426}),
    ("two versions", with_fields(b"Sec-WebSocket-Version: 13"), {400, 426}),
    ("lines that end with LF", lambda url: plain(url).replace(b"\r\n", b"\n"), {400}),
    ("a target that is no path", changed(b"GET /", b"GET ../"), {400}),
    # Fields that are not what they should be.
    ("no Host", lambda url: plain(url).replace(b"Host:", b"X-Host:"), {400}),
    ("two Hosts", with_fields(b"Host: other"), {400}),
    ("a Host that is none", lambda url: plain(url).replace(b"Host: ", b"Host: \xff\xfe<>"), {400}),
    ("a key that is none", lambda url: plain(url).replace(b"==\r\n", b"=\r\n"), {400}),
    ("two keys", with_fields(b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="), {400}),
    ("a NUL in a value", with_fields(b"X-A: a\0b"), {400}),
    ("a CR in a value", with_fields(b"X-A: a\rb"), {400}),
    ("a value that goes on in the next line", with_fields(b"X-A: a\r\n b"), {400}),
    ("a space before the colon", with_fields(b"X-A : a"), {400}),
    ("values of bytes that are no text",
     with_fields(b"X-A: " + bytes(range(0x80, 0x100)), b"Cookie: a=\xff\xfe", b"User-Agent: \xc3"), {101}),
    ("names that objects of JavaScript have",
     with_fields(b"constructor: a", b"__proto__: b", b"hasOwnProperty: c", b"toString: d"), {101}),
    # Lists that cost others quadratic time.
    ("15,000 spaces in Connection",
     changed(b"Connection: Upgrade", b"Connection: Upgrade," + b" " * 15_000 + b"x"), {101}),
    ("7,000 elements of Connection",
     changed(b"Connection: Upgrade", b"Connection: Upgrade" + b",x" * 7000), {101, 400}),
    ("15,000 spaces in Sec-WebSocket-Protocol",
     with_fields(b"Sec-WebSocket-Protocol: a" + b" " * 15_000 + b"b"), {400}),
    ("7,000 subprotocols", with_fields(b"Sec-WebSocket-Protocol: a" + b",b" * 7000), {400}),
    ("15,000 spaces in Sec-WebSocket-Extensions",
     with_fields(b"Sec-WebSocket-Extensions: a" + b" " * 15_000 + b"b"), {101, 400}),
    ("7,000 parameters of an extension",
     with_fields(b"Sec-WebSocket-Extensions: permessage-deflate" + b";a" * 7000), {101, 400}),
    ("a quoted string that does not end",
     with_fields(b'Sec-WebSocket-Extensions: a;b="' + b"\\a" * 7000), {101, 400}),
    ("720 offers of compression",
     with_fields(*[b"Sec-WebSocket-Extensions: " + b"permessage-deflate," * 60 + b"x"] * 12), {101, 400}),
    # Where it comes from.
    ("another page's Origin", with_fields(b"Origin: https://evil.example"), {403}),
    ("the Origin null", with_fields(b"Origin: null"), {403}),
    ("two Origins", with_fields(b"Origin: https://evil.example", b"Origin: http://127.0.0.1"), {400, 403}),
    # Too much, and no HTTP at all.
    ("101 header fields", with_fields(*[b"X-A: a"] * 96), {431}),
    ("17,000 bytes", with_fields(b"X-A: " + b"a" * 17_000), {431}),
    ("a name of 17,000 bytes", with_fields(b"a" * 17_000 + b": a"), {431}),
    ("a target of 17,000 bytes", changed(b"GET /", b"GET /" + b"a" * 17_000), {431}),
    ("no end", raw(b"a" * 20_000), {400, 431}),
    ("a TLS client's hello", raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100), {400}),
    ("a PROXY header", behind(raw(b"PROXY TCP4 1.2.3.4 1.2.3.4 5 6\r\n"), HIDDEN), {400}),
    ("HTTP/2's preface", raw(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"), {400, 405, 505}),
    ("frames", raw(websocket.frame(websocket.TEXT, b"x" * 100) + b"\r\n\r\n"), {400}),
]


def check(url, make, right, octets=False):
    """Sends a request; the answer has one of these statuses, and a refusal is the end."""
    with peers.connect(url) as peer:
        request = make(url)
        for at in range(0, len(request), 1 if octets else len(request)):
            peer.sendall(request[at:at + (1 if octets else len(request))])
        head, rest = peers.read_head(peer)
        status = peers.status(head)
        if status not in right:
            raise AssertionError(f"answered with {status}, not {' or '.join(map(str, sorted(right)))}")
        if status == 101:
            return
        peer.shutdown(peers.socket.SHUT_WR)
        while more := peer.recv(1 << 16):
            rest += more
        fields = dict(line.lower().split(b":", 1) for line in head.split(b"\r\n")[1:])
        if b"close" not in fields.get(b"connection", b""):
            raise AssertionError("a refusal does not say that the connection ends")
        if len(rest) != int(fields[b"content-length"]):
            raise AssertionError(f"behind the head of a refusal came {rest[:200]!r}")


def check_octets(url):
    """The longest request there may be, octet by octet."""
    fill = b"X-A: " + b"a" * (16_000 - len(plain(url)))
    check(url, with_fields(fill), {101}, octets=True)
