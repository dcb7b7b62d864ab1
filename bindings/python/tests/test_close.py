"""The closing handshake, and every other end: codes, reasons, errors, and what is left."""
import gc
import socket

import pytest

import frames
import wsabi
from support import Notes, Pair, RawClient, RawServer, drive, serve, settle, url

SENDABLE = [1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999]
FORBIDDEN = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535, 65536, 66536, -1,
             -64536, 1 << 40]


@pytest.mark.parametrize("code", SENDABLE)
def test_codes_arrive(loop, code):
    pair = Pair(loop)
    pair.client.close(code, "reason ä")
    pair.until_closed()
    assert pair.at_server.named("on_close") == [("on_close", code, "reason ä")]
    assert (pair.remote.close_code, pair.remote.close_reason) == (code, "reason ä")
    assert pair.client.close_code == code
    assert pair.client.error is None and pair.remote.error is None


@pytest.mark.parametrize("code", FORBIDDEN)
def test_codes_that_may_not_be_sent(loop, code):
    pair = Pair(loop)
    with pytest.raises(wsabi.InvalidArgument, match="close code.*1000") as caught:
        pair.client.close(code)
    assert str(code) in str(caught.value)
    assert pair.client.state == wsabi.State.OPEN


@pytest.mark.parametrize("reason, good", [
    ("x" * 123, True), ("x" * 124, False), ("ä" * 61, True), ("ä" * 62, False), ("", True)],
    ids=["123", "124", "122 octets", "124 octets", "none"])
def test_reasons_have_123_octets(loop, reason, good):
    pair = Pair(loop)
    if good:
        pair.client.close(1000, reason)
        pair.until_closed()
        assert pair.remote.close_reason == reason
    else:
        with pytest.raises(wsabi.InvalidArgument, match="124 bytes.*123"):
            pair.client.close(1000, reason)


def test_close_without_a_code(loop):
    pair = Pair(loop)
    pair.client.close(None)
    pair.until_closed()
    assert pair.at_server.named("on_close") == [("on_close", 1005, "")]
    assert pair.remote.error is None, "it is a closing handshake all the same"


def test_a_reason_needs_a_code(loop):
    pair = Pair(loop)
    with pytest.raises(wsabi.InvalidArgument, match="reason needs a code"):
        pair.client.close(None, "why")


def test_the_default_is_1000(loop):
    pair = Pair(loop)
    pair.remote.close()
    pair.until_closed()
    assert (pair.client.close_code, pair.client.close_reason) == (1000, "")


def test_close_by_name(loop):
    pair = Pair(loop)
    pair.remote.close(code=4001, reason="by name")
    pair.until_closed()
    assert (pair.client.close_code, pair.client.close_reason) == (4001, "by name")


def test_close_calls_nothing_before_it_returns(loop):
    pair = Pair(loop)
    pair.client.close()
    assert pair.client.state == wsabi.State.CLOSING
    assert not pair.at_client.closed
    assert pair.client.close_code is None and pair.client.close_reason is None
    assert pair.remote.state == wsabi.State.OPEN
    pair.until_closed()
    assert pair.client.state == wsabi.State.CLOSED


def test_closing_again_is_nothing(loop):
    pair = Pair(loop)
    pair.client.close(4000, "first")
    pair.client.close(4001, "second")
    pair.client.close()
    pair.until_closed()
    pair.client.close()
    pair.client.terminate()
    assert (pair.remote.close_code, pair.remote.close_reason) == (4000, "first")
    with pytest.raises(wsabi.InvalidArgument):
        pair.client.close(1005)


def test_both_closing_at_once(loop):
    pair = Pair(loop)
    pair.client.close(4001)
    pair.remote.close(4002)
    pair.until_closed()
    assert (pair.client.close_code, pair.remote.close_code) == (4002, 4001)


def test_messages_come_until_the_peers_close(loop):
    notes = Notes()
    server = serve(loop, **notes.callbacks())
    raw = RawClient(loop, server)
    raw.open()
    drive(loop, lambda: server.connections)
    server.connections[0].close(1000)
    assert raw.frame().opcode == frames.CLOSE
    raw.send(frames.TEXT, "late")
    drive(loop, lambda: notes.messages, raw)
    raw.send(frames.CLOSE, frames.close_payload(1000))
    raw.send(frames.TEXT, "too late")
    raw.close()
    drive(loop, lambda: notes.closed)
    assert notes.messages == ["late"]


def test_nothing_can_be_sent_while_closing_and_after(loop):
    pair = Pair(loop)
    pair.client.close()
    for _ in range(2):
        for call in (lambda: pair.client.send("x"), lambda: pair.client.send(b"x"), pair.client.ping,
                     pair.client.pong, lambda: pair.client.send_fragment("x", True)):
            with pytest.raises(wsabi.ConnectionClosed) as caught:
                call()
            assert caught.value.kind == "CLOSED"
        pair.until_closed()


def test_terminate_is_at_once(loop):
    pair = Pair(loop)
    pair.client.terminate()
    assert pair.client.state == wsabi.State.CLOSED and not pair.at_client.closed
    pair.until_closed()
    assert pair.at_client.named("on_close") == pair.at_server.named("on_close") == [
        ("on_close", 1006, "")]
    assert pair.client.error.kind == "TERMINATED" and isinstance(pair.client.error,
                                                                 wsabi.ConnectionClosed)
    assert pair.remote.error.kind == "LOST" and isinstance(pair.remote.error, wsabi.TransportError)
    assert pair.at_client.errors == pair.at_server.errors == [], "an end is no error of the program"
    pair.client.terminate()


@pytest.mark.parametrize("side", ["client", "server"])
@pytest.mark.parametrize("data, kind, code, error", [
    (dict(opcode=frames.TEXT, payload=b"\xff"), "INVALID_TEXT", 1007, wsabi.ProtocolError),
    (dict(opcode=0x3), "PROTOCOL", 1002, wsabi.ProtocolError),
    (dict(opcode=frames.TEXT, payload=b"x", rsv=4), "PROTOCOL", 1002, wsabi.ProtocolError),
    (dict(opcode=frames.CONTINUATION, payload=b"x"), "PROTOCOL", 1002, wsabi.ProtocolError),
    (dict(opcode=frames.PING, payload=b"x" * 126), "PROTOCOL", 1002, wsabi.ProtocolError),
    (dict(opcode=frames.CLOSE, payload=b"\x03"), "PROTOCOL", 1002, wsabi.ProtocolError),
    (dict(opcode=frames.CLOSE, payload=frames.close_payload(1005)), "PROTOCOL", 1002,
     wsabi.ProtocolError),
    (dict(opcode=frames.BINARY, length=1 << 40), "MESSAGE_TOO_BIG", 1009, wsabi.ProtocolError)],
    ids=["text", "opcode", "rsv", "continuation", "long ping", "short close", "close 1005", "big"])
def test_a_peer_that_breaks_the_rules(loop, side, data, kind, code, error):
    notes = Notes()
    if side == "server":
        server = serve(loop, **notes.callbacks())
        raw = RawClient(loop, server)
        raw.open()
        drive(loop, lambda: server.connections)
        ws = server.connections[0]
    else:
        peer = RawServer(loop)
        ws = wsabi.connect(peer.url, loop=loop, **notes.callbacks())
        raw = peer.open()
        drive(loop, lambda: notes)
    raw.send(**data)
    assert raw.frame().close[0] == code
    raw.close()
    drive(loop, lambda: notes.closed)
    assert notes == [("on_open",), ("on_close", 1006, "")], "on_error is for the program's own"
    assert type(ws.error) is error and ws.error.kind == kind and str(ws.error)
    assert (ws.close_code, ws.close_reason) == (1006, "")


def test_an_unmasked_client_and_a_masked_server(loop):
    notes = Notes()
    server = serve(loop, **notes.callbacks())
    raw = RawClient(loop, server)
    raw.open()
    raw.send(frames.TEXT, "x", mask=False)
    assert raw.frame().close[0] == 1002
    peer = RawServer(loop)
    ws = wsabi.connect(peer.url, loop=loop, **notes.callbacks("on_close"))
    raw = peer.open()
    raw.send(frames.TEXT, "x", mask=True)
    assert raw.frame().close[0] == 1002
    raw.close()
    drive(loop, lambda: ws.error)
    assert ws.error.kind == "PROTOCOL" and "mask" in str(ws.error)


@pytest.mark.parametrize("how", ["reset", "close"])
def test_a_peer_that_goes_without_a_word(loop, how):
    notes = Notes()
    server = serve(loop, **notes.callbacks())
    raw = RawClient(loop, server)
    raw.open()
    drive(loop, lambda: server.connections)
    ws = server.connections[0]
    getattr(raw, how)()
    drive(loop, lambda: notes.closed)
    assert notes == [("on_open",), ("on_close", 1006, "")]
    assert ws.error.kind == "LOST" and isinstance(ws.error, OSError)
    if how == "reset":
        assert ws.error.errno == 104


@pytest.mark.parametrize("payload, code, reason", [
    (b"", 1005, ""), (frames.close_payload(1000), 1000, ""),
    (frames.close_payload(4999, "x" * 123), 4999, "x" * 123),
    (frames.close_payload(1001, "日本"), 1001, "日本")])
def test_what_a_peers_close_says(loop, payload, code, reason):
    notes = Notes()
    server = serve(loop, **notes.callbacks())
    raw = RawClient(loop, server)
    raw.open()
    drive(loop, lambda: server.connections)
    ws = server.connections[0]
    raw.send(frames.CLOSE, payload)
    answer = raw.frame()
    assert answer.close == (None if code == 1005 else code, "")
    assert raw.rest() == b"", "the server closes first"
    raw.close()
    drive(loop, lambda: notes.closed)
    assert notes[-1] == ("on_close", code, reason)
    assert (ws.close_code, ws.close_reason, ws.error) == (code, reason, None)


def test_inside_on_close_everything_is_known(loop):
    seen = []

    def on_close(ws, code, reason):
        seen.append((ws.state, ws.close_code, ws.close_reason, ws.error, ws.subprotocol,
                     ws.server is not None, ws.loop is loop, ws.mine))

    pair = Pair(loop, {"on_close": on_close, "subprotocols": ["a"]}, {"subprotocols": ["a"]})
    pair.remote.mine = "mine"
    pair.client.close(4000, "why")
    pair.drive(lambda: seen)
    assert seen == [(wsabi.State.CLOSED, 4000, "why", None, "a", True, True, "mine")]


def test_objects_outlive_their_connection_and_their_loop():
    loop = wsabi.Loop()
    pair = Pair(loop)
    pair.client.mine = ["kept"]
    pair.client.close(4000, "why")
    pair.until_closed()
    client, remote, server = pair.client, pair.remote, pair.server
    addresses = pair.server.address
    del pair
    loop.close()
    gc.collect()
    for ws in (client, remote):
        assert ws.state == wsabi.State.CLOSED and ws.close_code == 4000
        assert ws.buffered_amount == 0 and ws.request is None and ws.response is None
        with pytest.raises(wsabi.ConnectionClosed):
            ws.send("x")
        with pytest.raises(wsabi.ConnectionClosed):
            ws.pause()
        ws.close()
        ws.terminate()
        assert "closed" in repr(ws)
    assert client.mine == ["kept"]
    assert server.connections == [] and server.address == addresses
    assert server.stopped == (0, 0, 0)
    server.stop()
    del loop
    gc.collect()
    assert client.loop.closed and repr(client.loop)


def test_a_connection_of_a_closed_loop():
    loop = wsabi.Loop()
    pair = Pair(loop)
    loop.close()
    assert pair.client.state == wsabi.State.CLOSED
    assert pair.client.error.kind == "STOPPED"
    with pytest.raises(wsabi.ConnectionClosed):
        pair.client.send("x")
    assert pair.server.connections == []


def test_on_error_of_a_client_that_never_opened_comes_before_on_close(loop):
    notes = Notes()
    wsabi.connect("ws://127.0.0.1:9/", loop=loop, **notes.callbacks())
    drive(loop, lambda: notes.closed)
    settle(loop)
    assert [note[0] for note in notes] == ["on_error", "on_close"]


def test_the_close_callback_is_the_last(loop):
    pair = Pair(loop)
    for number in range(100):
        pair.client.send(str(number))
    pair.client.close()
    pair.until_closed()
    assert pair.at_server[-1][0] == "on_close"
    assert pair.at_server.messages == [str(number) for number in range(100)]
    pair.settle()
    assert pair.at_server[-1][0] == "on_close"


def test_a_number_is_not_used_again(loop):
    server = serve(loop)
    numbers = set()
    for _ in range(200):
        ws = wsabi.connect(url(server), loop=loop)
        numbers.add(ws.id)
        ws.terminate()
        drive(loop, lambda: ws.close_code)
    assert len(numbers) == 200


def test_what_was_not_written_is_counted_at_the_end(loop):
    server = serve(loop, on_open=(kept := []).append)
    with RawClient(loop, server, receive_buffer=4096) as raw:
        raw.open()
        raw.reading = False
        drive(loop, lambda: kept)
        (ws,) = kept
        while ws.buffered_amount < 2 << 20:
            for size in (0, 3, 200, 66_000):
                ws.send(b"x" * size)
        sent = loop.stats().messages_sent
        assert ws.messages_dropped == 0
        raw.send(frames.CLOSE, (1000).to_bytes(2, "big"))
        raw.sock.shutdown(socket.SHUT_WR)
        drive(loop, lambda: ws.close_code)
        # The peer has said Close; ours was not written, nor was all before it.
        assert (ws.close_code, ws.error.kind) == (1000, "LOST")
        assert 0 < ws.messages_dropped < sent
        raw.reading = True
        received = raw.rest()
    read = 0
    while found := frames.decode(received):
        read += 1
        received = received[found[1]:]
    assert read + ws.messages_dropped == sent


def test_a_clean_end_drops_nothing(loop):
    pair = Pair(loop)
    for size in (0, 66_000, 4 << 20):
        pair.client.send(b"x" * size)
    pair.client.close()
    pair.until_closed()
    assert pair.client.error is None
    assert pair.client.messages_dropped == pair.remote.messages_dropped == 0
    assert len(pair.at_server.messages) == 3
