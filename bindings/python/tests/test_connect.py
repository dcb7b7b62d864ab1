"""Clients: opening, failing to open, and what a client's connection tells of itself."""
import socket

import pytest

import frames
import wsabi
from support import Notes, Pair, RawServer, answer, drive, serve, url


def test_connect_returns_before_anything_happens(loop):
    notes = Notes()
    server = serve(loop)
    ws = wsabi.connect(url(server), loop=loop, **notes.callbacks())
    assert isinstance(ws, wsabi.WebSocket)
    assert ws.state is wsabi.State.CONNECTING
    assert notes == []
    drive(loop, lambda: notes)
    assert notes == [("on_open",)]
    assert ws.state is wsabi.State.OPEN


def test_nothing_can_be_sent_before_open(loop):
    with RawServer(loop) as peer:
        ws = wsabi.connect(peer.url, loop=loop, on_error=lambda ws, error: None)
        for call in (lambda: ws.send("x"), lambda: ws.send_binary(b""), lambda: ws.ping(),
                     lambda: ws.send_fragment("x", False), ws.pause, ws.resume):
            with pytest.raises(wsabi.InvalidState, match="open") as caught:
                call()
            assert caught.value.kind == "STATE"
        assert ws.buffered_amount == 0 and ws.subprotocol is None
        ws.terminate()


def test_the_request_is_what_was_asked_for(loop):
    with RawServer(loop) as peer:
        wsabi.connect(peer.url + "chat?room=1&x=%20", loop=loop, subprotocols=["a", "b"],
                      origin="https://example.com", on_error=lambda ws, error: None,
                      headers=[("X-Twice", "1"), ("X-Twice", "2"), ("User-Agent", "test")])
        with peer.accept() as raw:
            request = raw.request
            assert request.first == "GET /chat?room=1&x=%20 HTTP/1.1"
            assert request.get("Host") == peer.url.split("/")[2]
            assert request.get("Upgrade").lower() == "websocket"
            assert request.get("Connection").lower() == "upgrade"
            assert request.get("Sec-WebSocket-Version") == "13"
            assert request.get("Sec-WebSocket-Protocol") == "a, b"
            assert request.get("Origin") == "https://example.com"
            assert request.get("User-Agent") == "test"
            assert [v for n, v in request.fields if n == "X-Twice"] == ["1", "2"]
            assert request.get("Sec-WebSocket-Extensions") is None


def test_a_plain_request_has_nothing_that_was_not_asked_for(loop):
    with RawServer(loop) as peer:
        wsabi.connect(peer.url, loop=loop, on_error=lambda ws, error: None)
        with peer.accept() as raw:
            names = {name.lower() for name, _ in raw.request.fields}
            assert names <= {"host", "upgrade", "connection", "sec-websocket-key",
                             "sec-websocket-version", "user-agent"}


@pytest.mark.parametrize("headers", [
    {"X-A": "1"}, [("X-A", "1")], (("X-A", "1"),), wsabi.Headers({"X-A": "1"}), [["X-A", "1"]],
    iter([("X-A", "1")])], ids=lambda headers: type(headers).__name__)
def test_headers_are_given_in_many_ways(loop, headers):
    with RawServer(loop) as peer:
        wsabi.connect(peer.url, loop=loop, headers=headers, on_error=lambda ws, error: None)
        with peer.accept() as raw:
            assert raw.request.get("X-A") == "1"


def test_headers_may_be_other_than_ascii(loop):
    seen = []
    server = serve(loop, on_upgrade=lambda request: seen.append(request.headers["X-Name"]))
    wsabi.connect(url(server), loop=loop, headers={"X-Name": "Grüße 語"})
    drive(loop, lambda: seen)
    assert seen == ["Grüße 語"]


def test_the_response_lives_while_on_open_runs(loop):
    seen = []

    def on_open(ws):
        seen.append(ws.response)
        assert ws.request is None, "that is a server's"

    with RawServer(loop) as peer:
        ws = wsabi.connect(peer.url, loop=loop, subprotocols=["b", "a"], on_open=on_open,
                           on_error=lambda ws, error: None)
        assert ws.response is None
        with peer.open(X_Extra="one", Sec_WebSocket_Protocol="a"):
            drive(loop, lambda: seen)
            (response,) = seen
            assert isinstance(response, wsabi.ServerResponse)
            assert (response.status, response.reason) == (101, "Switching Protocols")
            assert response.headers["x-extra"] == "one"
            assert ws.response is None
            assert ws.subprotocol == "a"


def test_without_a_subprotocol_it_is_none(loop):
    pair = Pair(loop)
    assert pair.client.subprotocol is None and pair.remote.subprotocol is None


def test_the_subprotocol_stays_known(loop):
    pair = Pair(loop, {"subprotocols": ["x", "a"]}, {"subprotocols": ["a", "x"]})
    assert pair.client.subprotocol == pair.remote.subprotocol == "x"
    pair.client.close()
    pair.until_closed()
    assert pair.client.subprotocol == "x"


def test_addresses_are_each_other_s(loop):
    pair = Pair(loop)
    assert pair.client.remote_address == pair.remote.local_address == pair.server.address
    assert pair.client.local_address == pair.remote.remote_address
    host, port = pair.client.local_address
    assert host == "127.0.0.1" and isinstance(port, int)
    assert pair.client.url == url(pair.server) and pair.remote.url is None
    assert pair.client.server is None and pair.remote.server is pair.server
    assert pair.client.loop is pair.remote.loop is loop


def test_addresses_of_what_is_not_connected_are_unknown(loop):
    ws = wsabi.connect("ws://127.0.0.1:9/", loop=loop, on_error=lambda ws, error: None)
    drive(loop, lambda: ws.state == wsabi.State.CLOSED)
    assert ws.remote_address is None and ws.local_address is None


def test_ids_are_unlike(loop):
    pair = Pair(loop)
    assert isinstance(pair.client.id, int)
    assert pair.client.id != pair.remote.id
    assert pair.client.id == pair.client.id


def test_a_websocket_nobody_has_connected_says_so():
    ws = wsabi.WebSocket()
    assert ws.loop is None and ws.url is None and ws.server is None
    assert ws.close_code is None and ws.error is None
    with pytest.raises((wsabi.ConnectionClosed, wsabi.InvalidState)):
        ws.send("x")
    assert "WebSocket" in repr(ws)


def test_repr_tells_the_state_and_the_peer(loop):
    pair = Pair(loop)
    assert repr(pair.client) == f"<wsabi.WebSocket open {url(pair.server)}>"
    assert repr(pair.remote).startswith("<wsabi.WebSocket open ('127.0.0.1', ")
    pair.client.close()
    pair.until_closed()
    assert "closed" in repr(pair.client) and "closed" in repr(pair.remote)


def test_names_are_resolved(loop):
    notes = Notes()
    server = serve(loop)
    ws = wsabi.connect(f"ws://localhost:{server.port}/", loop=loop, **notes.callbacks())
    drive(loop, lambda: notes)
    assert notes == [("on_open",)]
    ws.close()


def test_a_name_that_does_not_exist(loop):
    notes = Notes()
    ws = wsabi.connect("ws://no-such-host.invalid/", loop=loop, **notes.callbacks())
    drive(loop, lambda: notes.closed)
    assert [note[0] for note in notes] == ["on_error", "on_close"]
    assert isinstance(ws.error, wsabi.TransportError) and ws.error.kind == "RESOLVE"
    assert "no-such-host.invalid" in str(ws.error)


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


def test_a_port_where_nobody_listens(loop):
    notes = Notes()
    port = free_port()
    ws = wsabi.connect(f"ws://127.0.0.1:{port}/", loop=loop, **notes.callbacks())
    drive(loop, lambda: notes.closed)
    (error,) = notes.errors
    assert error is ws.error
    assert isinstance(error, wsabi.TransportError) and isinstance(error, OSError)
    assert error.kind == "CONNECT" and error.errno == 111 and str(port) in str(error)
    assert notes == [("on_error", error), ("on_close", 1006, "")]
    assert (ws.close_code, ws.close_reason) == (1006, "")


def test_without_on_error_the_logger_is_told(loop, log):
    ws = wsabi.connect(f"ws://127.0.0.1:{free_port()}/", loop=loop)
    drive(loop, lambda: ws.state == wsabi.State.CLOSED)
    records = [record for record in log.take() if record.levelno >= 30]
    assert len(records) == 1 and "127.0.0.1" in records[0].getMessage()


@pytest.mark.parametrize("status, reason", [
    (403, "Forbidden"), (404, "Not Found"), (200, "OK"), (301, "Moved Permanently"), (503, "Busy")])
def test_a_refusal_tells_the_status(loop, status, reason):
    notes = Notes()
    with RawServer(loop) as peer:
        ws = wsabi.connect(peer.url, loop=loop, **notes.callbacks())
        with peer.accept() as raw:
            raw.write(f"HTTP/1.1 {status} {reason}\r\nContent-Length: 0\r\n\r\n".encode())
            drive(loop, lambda: notes.closed)
    assert [note[0] for note in notes] == ["on_error", "on_close"]
    assert isinstance(ws.error, wsabi.HandshakeRefused)
    assert (ws.error.kind, ws.error.status) == ("REFUSED", status)
    assert str(status) in str(ws.error) and reason in str(ws.error)


@pytest.mark.parametrize("fields, word", [
    ({"Sec_WebSocket_Accept": "bm9uc2Vuc2U="}, "Accept"), ({"Sec_WebSocket_Accept": None}, "Accept"),
    ({"Upgrade": None}, "Upgrade"), ({"Upgrade": "h2c"}, "Upgrade"),
    ({"Connection": "close"}, "Connection"), ({"Sec_WebSocket_Protocol": "unasked"}, "rotocol"),
    ({"Sec_WebSocket_Extensions": "permessage-deflate"}, "xtension")])
def test_a_wrong_response_fails(loop, fields, word):
    notes = Notes()
    with RawServer(loop) as peer:
        ws = wsabi.connect(peer.url, loop=loop, **notes.callbacks())
        with peer.open(**fields):
            drive(loop, lambda: notes.closed)
    assert [note[0] for note in notes] == ["on_error", "on_close"]
    assert type(ws.error) is wsabi.HandshakeError and ws.error.kind == "HANDSHAKE"
    assert word in str(ws.error)


@pytest.mark.parametrize("data", [b"", b"SSH-2.0-OpenSSH\r\n\r\n", b"HTTP/1.1 101"])
def test_a_peer_that_speaks_something_else(loop, data):
    notes = Notes()
    with RawServer(loop) as peer:
        ws = wsabi.connect(peer.url, loop=loop, **notes.callbacks())
        with peer.accept() as raw:
            raw.write(data)
        drive(loop, lambda: notes.closed)
    assert notes.count("on_error") == 1 and notes.count("on_open") == 0
    assert isinstance(ws.error, (wsabi.HandshakeError, wsabi.TransportError))


@pytest.mark.parametrize("how", ["close", "terminate"])
def test_ending_before_open(loop, how):
    notes = Notes()
    with RawServer(loop) as peer:
        ws = wsabi.connect(peer.url, loop=loop, **notes.callbacks())
        getattr(ws, how)()
        assert notes == [], "nothing is called before it returns"
        assert ws.state == wsabi.State.CLOSED
        drive(loop, lambda: notes.closed)
    assert notes.named("on_close") == [("on_close", 1006, "")]
    assert notes.count("on_open") == 0
    assert ws.error.kind == "TERMINATED"


def test_a_message_right_behind_the_response_is_not_lost(loop):
    notes = Notes()
    with RawServer(loop) as peer:
        wsabi.connect(peer.url, loop=loop, **notes.callbacks())
        with peer.accept() as raw:
            raw.write(answer(raw.request) + frames.encode(frames.TEXT, "early"))
            drive(loop, lambda: notes.messages)
            assert notes[:2] == [("on_open",), ("on_message", "early")]


def test_connecting_again_in_on_close(loop):
    notes = Notes()
    server = serve(loop, on_open=lambda ws: ws.close(1000))
    left = [3]

    def on_close(ws, code, reason):
        notes.append(("on_close", code))
        if left[0]:
            left[0] -= 1
            wsabi.connect(url(server), loop=loop, on_close=on_close)
        else:
            server.stop()

    wsabi.connect(url(server), loop=loop, on_close=on_close)
    loop.run_forever()
    assert notes == [("on_close", 1000)] * 4


def test_a_subclass_has_state_of_its_own(loop):
    class Client(wsabi.WebSocket):
        def __init__(self, name):
            super().__init__()
            self.name = name

        def on_open(self):
            self.send(self.name)

    server = serve(loop, on_message=lambda ws, data: ws.send(data * 2))
    got = []
    ws = wsabi.connect(url(server), loop=loop, factory=lambda: Client("me"),
                       on_message=lambda ws, data: got.append((ws.name, data)))
    assert isinstance(ws, Client)
    drive(loop, lambda: got)
    assert got == [("me", "meme")]


def test_an_object_connects_once(loop):
    server = serve(loop)
    ws = wsabi.connect(url(server), loop=loop)
    with pytest.raises(wsabi.InvalidState, match="connected before"):
        wsabi.connect(url(server), loop=loop, factory=lambda: ws)
    drive(loop, lambda: ws.state == wsabi.State.OPEN)


@pytest.mark.parametrize("bad", [lambda: None, lambda: object(), dict, wsabi.Server])
def test_a_factory_makes_a_websocket(loop, bad):
    with pytest.raises(TypeError, match="factory must make a wsabi.WebSocket, not"):
        wsabi.connect("ws://127.0.0.1:9/", loop=loop, factory=bad)
    loop.run_forever()


def test_an_exception_of_the_factory_comes_out(loop):
    with pytest.raises(ZeroDivisionError):
        wsabi.connect("ws://127.0.0.1:9/", loop=loop, factory=lambda: 1 / 0)
    loop.run_forever()
