"""permessage-deflate: what is agreed on, what is compressed, and what peers may not do."""
import itertools
import os
import zlib

import pytest

import frames
import wsabi
from support import Notes, Pair, RawClient, RawServer, answer, drive, serve

FULL = wsabi.Deflate(server_max_window_bits=15, client_max_window_bits=15,
                     server_context_takeover=True, client_context_takeover=True)
RSV1 = 4


def deflated(data, bits=15):
    made = zlib.compressobj(wbits=-bits)
    return (made.compress(data) + made.flush(zlib.Z_SYNC_FLUSH))[:-4]


def inflated(data):
    return zlib.decompressobj(wbits=-15).decompress(data + b"\0\0\xff\xff")


def opened_raw(loop, notes, deflate=True, offer="permessage-deflate", **options):
    """A server that compresses, and a client by hand that has offered to."""
    server = serve(loop, **notes.callbacks(), deflate=deflate, **options)
    raw = RawClient(loop, server)
    response = raw.open(Sec_WebSocket_Extensions=offer)
    return raw, response.get("Sec-WebSocket-Extensions")


@pytest.mark.parametrize("at_server", [None, False, True, wsabi.Deflate(), FULL], ids=str)
@pytest.mark.parametrize("at_client", [None, True, FULL], ids=str)
def test_both_sides_agree_on_the_same_or_on_nothing(loop, at_server, at_client):
    pair = Pair(loop, {"deflate": at_server}, {"deflate": at_client})
    assert pair.client.deflate == pair.remote.deflate
    assert (pair.client.deflate is None) == (not at_server or not at_client)
    if pair.client.deflate:
        own, offered = (12 if d in (True, wsabi.Deflate()) else 15 for d in (at_server, at_client))
        takeover = at_server is FULL and at_client is FULL
        assert pair.client.deflate == wsabi.Agreed(min(own, offered), own, takeover, takeover)
    for text in ("", "short", "ä" * 5000, "x" * 100_000):
        pair.client.send(text)
        pair.remote.send(text.encode())
    pair.drive(lambda: len(pair.at_server.messages) == len(pair.at_client.messages) == 4)
    assert pair.at_server.messages == ["", "short", "ä" * 5000, "x" * 100_000]
    assert pair.at_client.messages == [text.encode() for text in pair.at_server.messages]
    pair.client.close()
    pair.until_closed()
    assert pair.client.deflate is None


@pytest.mark.parametrize("bits", range(9, 16))
def test_every_window_and_takeover(loop, bits):
    for server_takes, client_takes in itertools.product([False, True], repeat=2):
        deflate = wsabi.Deflate(bits, 24 - bits, server_takes, client_takes, level=1, mem_level=1)
        pair = Pair(loop, {"deflate": deflate}, {"deflate": deflate})
        assert pair.remote.deflate == (bits, 24 - bits, server_takes, client_takes)
        wanted = [os.urandom(2000) * n for n in (1, 3, 9)] * 2
        for data in wanted:
            pair.client.send(data)
            pair.remote.send(data)
        pair.drive(lambda: len(pair.at_server.messages) == len(pair.at_client.messages) == 6)
        assert pair.at_server.messages == pair.at_client.messages == wanted


@pytest.mark.parametrize("compress, size, is_compressed", [
    (None, 1023, False), (None, 1024, True), (None, 1025, True),
    (True, 100, True), (False, 5000, False)])
def test_which_messages_are_compressed(loop, compress, size, is_compressed):
    seen = []
    server = serve(loop, deflate=True,
                   on_message=lambda ws, data: seen.append(ws.send("a" * size, compress=compress)))
    with RawClient(loop, server) as raw:
        raw.open(Sec_WebSocket_Extensions="permessage-deflate")
        raw.send(frames.TEXT, b"hello")
        frame = raw.frame()
    assert seen == [True]
    assert frame.rsv == (RSV1 if is_compressed else 0)
    assert (inflated(frame.payload) if is_compressed else frame.payload) == b"a" * size


def test_fragments_are_compressed_unless_the_first_says_no(loop):
    for compress in (None, True, False):
        def answer(ws, data, compress=compress):
            ws.send_fragment("abc" * 1000, False, compress=compress)
            ws.send_fragment("def" * 1000, True)
        server = serve(loop, deflate=True, on_message=answer)
        with RawClient(loop, server) as raw:
            raw.open(Sec_WebSocket_Extensions="permessage-deflate")
            raw.send(frames.TEXT, b"go")
            first, second = raw.frame(), raw.frame()
        assert (first.rsv, second.rsv) == (0 if compress is False else RSV1, 0)
        both = first.payload + second.payload
        plain = b"abc" * 1000 + b"def" * 1000
        assert (both if compress is False else inflated(both)) == plain


@pytest.mark.parametrize("offer, expected", [
    ("permessage-deflate", "permessage-deflate; server_no_context_takeover; "
                           "client_no_context_takeover; server_max_window_bits=12"),
    ("permessage-deflate; unknown", None),
    ("permessage-deflate; server_max_window_bits=16", None),
    ("permessage-deflate; server_max_window_bits=16, permessage-deflate; server_max_window_bits=9",
     "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
     "server_max_window_bits=9"),
    ("x-other", None)])
def test_a_server_s_answer(loop, offer, expected):
    raw, answered = opened_raw(loop, Notes(), offer=offer)
    with raw:
        assert answered == expected


def test_a_malformed_offer_is_400(loop):
    server = serve(loop, deflate=True)
    with RawClient(loop, server) as raw:
        raw.write(frames.request("/", Sec_WebSocket_Extensions="permessage-deflate; ;"))
        assert raw.head().status == 400


def test_a_client_s_offer_and_an_answer_to_something_else(loop):
    notes = Notes()
    with RawServer(loop) as listening:
        wsabi.connect(listening.url, loop=loop, deflate=True, **notes.callbacks())
        raw = listening.accept()
        offers = raw.request.get("Sec-WebSocket-Extensions")
        assert offers.split(", ")[0] == (
            "permessage-deflate; server_no_context_takeover; client_no_context_takeover; "
            "client_max_window_bits; server_max_window_bits=12")
        raw.write(answer(raw.request, Sec_WebSocket_Extensions="permessage-deflate"))
        drive(loop, lambda: notes.closed, raw)
    assert "server_no_context_takeover" in str(notes.errors[0])
    assert isinstance(notes.errors[0], wsabi.HandshakeError)


@pytest.mark.parametrize("payload, kind, code", [
    (b"\x07", "INVALID_DEFLATE", 1007),
    (deflated(b"abcdefgh" * 100)[:-3], "INVALID_DEFLATE", 1007),
    (deflated(b"\xff"), "INVALID_TEXT", 1007),
])
def test_damaged_data(loop, payload, kind, code):
    errors = []
    notes = Notes()
    server = serve(loop, deflate=True, **{**notes.callbacks(), "on_close": lambda ws, *_: errors.append(ws.error)})
    with RawClient(loop, server) as raw:
        raw.open(Sec_WebSocket_Extensions="permessage-deflate")
        raw.send(frames.TEXT, payload, rsv=RSV1)
        assert raw.frame().close[0] == code
        raw.close()
        drive(loop, lambda: errors)
    assert errors[0].kind == kind and isinstance(errors[0], wsabi.ProtocolError)
    assert notes.messages == []


@pytest.mark.parametrize("size, fits", [(9_999, True), (10_000, True), (10_001, False)])
def test_max_message_bytes_counts_what_it_becomes(loop, size, fits):
    notes = Notes()
    raw, _ = opened_raw(loop, notes, max_message_bytes=10_000)
    with raw:
        raw.send(frames.BINARY, deflated(b"a" * size), rsv=RSV1)
        if fits:
            raw.drive(lambda: notes.messages)
            assert notes.messages == [b"a" * size]
        else:
            code, reason = raw.frame().close
            assert code == 1009 and "max_message_bytes, 10000" in reason


def test_a_bomb_is_1009(loop):
    notes = Notes()
    raw, _ = opened_raw(loop, notes)
    with raw:
        raw.send(frames.BINARY, deflated(bytes(200 << 20)), rsv=RSV1)
        assert raw.frame().close[0] == 1009
    assert notes.messages == []


def test_max_ratio(loop):
    payload = deflated(b"a" * 10_000)
    ratio = -(-10_000 // len(payload))
    for max_ratio, fits in ((ratio + 1, True), (ratio, True), (ratio - 1, False)):
        notes = Notes()
        raw, _ = opened_raw(loop, notes, deflate=wsabi.Deflate(max_ratio=max_ratio))
        with raw:
            raw.send(frames.BINARY, payload, rsv=RSV1)
            if fits:
                raw.drive(lambda: notes.messages)
            else:
                code, reason = raw.frame().close
                assert code == 1009 and f"max_ratio, {max_ratio}," in reason


@pytest.mark.parametrize("options, text", [
    ({"server_max_window_bits": 8}, "server_max_window_bits is 8; expected 9 to 15"),
    ({"client_max_window_bits": 16}, "client_max_window_bits is 16; expected 9 to 15"),
    ({"level": 0}, "level is 0; expected 1 to 9"),
    ({"mem_level": 10}, "mem_level is 10; expected 1 to 9"),
    ({"max_ratio": 0}, "max_ratio is 0; expected at least 1"),
    ({"level": 1 << 40}, "level is"),
    ({"min_bytes": -1}, "min_bytes is -1"),
])
def test_values_that_make_no_sense(loop, options, text):
    for start in (lambda d: serve(loop, deflate=d),
                  lambda d: wsabi.connect("ws://127.0.0.1:1/", loop=loop, deflate=d)):
        with pytest.raises(wsabi.InvalidArgument, match=text):
            start(wsabi.Deflate(**options))


@pytest.mark.parametrize("given", [1, "yes", {}, wsabi.Deflate])
def test_what_is_no_deflate(loop, given):
    with pytest.raises(TypeError, match="deflate must be a bool or a wsabi.Deflate"):
        serve(loop, deflate=given)


@pytest.mark.parametrize("name, given", [("level", "6"), ("level", True), ("min_bytes", 1.5),
                                         ("server_context_takeover", 1), ("max_ratio", "2")])
def test_fields_of_the_wrong_type(loop, name, given):
    with pytest.raises(TypeError, match=name):
        serve(loop, deflate=wsabi.Deflate(**{name: given}))


def test_compress_is_a_bool_or_none(loop):
    pair = Pair(loop)
    for call in (pair.client.send, pair.client.send_text, lambda d, **k: pair.client.send_binary(b"", **k)):
        with pytest.raises(TypeError, match="compress must be a bool or None"):
            call("x", compress=1)
    pair.client.send("x", compress=True)  # Without effect where nothing is agreed on.
    pair.drive(lambda: pair.at_server.messages == ["x"])


def test_the_options_are_a_value():
    assert wsabi.Deflate() == wsabi.Deflate(server_max_window_bits=12)
    assert "level=3" in repr(wsabi.Deflate(level=3))
    with pytest.raises(AttributeError):
        wsabi.Deflate().level = 3  # type: ignore[misc]

