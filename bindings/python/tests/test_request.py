"""Requests, responses and headers as values."""
import pytest

import wsabi
from support import RawClient, drive, serve, url
from wsabi import _types


def request(target="/", fields=()):
    return wsabi.Request(None, 1, "GET", target, "1.1", list(fields), ("127.0.0.1", 4711))


# --- headers -----------------------------------------------------------------------------


HEADERS = wsabi.Headers([("Host", "a"), ("X-Two", "1"), ("host", "b"), ("x-two", "2")])


def test_names_have_no_case():
    assert HEADERS["HOST"] == HEADERS["host"] == "a"
    assert "x-TWO" in HEADERS and "X-Three" not in HEADERS and 5 not in HEADERS
    assert HEADERS.get("none") is None and HEADERS.get("none", "x") == "x"


def test_a_name_may_come_several_times():
    assert HEADERS.get_all("x-two") == ["1", "2"]
    assert HEADERS.get_all("none") == []
    assert len(HEADERS) == 2 and list(HEADERS) == ["Host", "X-Two"]
    assert list(wsabi.Headers([("A", "1"), ("A", "2"), ("a", "3"), ("A", "4")])) == ["A"]
    assert list(HEADERS.raw_items()) == [
        ("Host", "a"), ("X-Two", "1"), ("host", "b"), ("x-two", "2")]


def test_a_missing_name_is_a_key_error():
    with pytest.raises(KeyError, match="Nothing"):
        HEADERS["Nothing"]


def test_headers_are_a_mapping():
    assert dict(HEADERS) == {"Host": "a", "X-Two": "1"}
    assert dict(HEADERS.items()) == dict(HEADERS)
    assert "Host" in repr(HEADERS) and "'2'" in repr(HEADERS)
    assert wsabi.Headers(HEADERS).get_all("Host") == ["a", "b"]
    assert wsabi.Headers({"A": "1"}) == {"A": "1"}


@pytest.mark.parametrize("bad, error", [
    ("A: b", TypeError), (b"A: b", TypeError), ([("a",)], TypeError), ([("a", "b", "c")], TypeError),
    ([1], TypeError), ({"a": 1}, TypeError), (5, TypeError)], ids=repr)
def test_headers_refuse_what_is_none(bad, error):
    with pytest.raises(error):
        wsabi.Headers(bad)


# --- requests ------------------------------------------------------------------------------


@pytest.mark.parametrize("target, path, query", [
    ("/", "/", ""), ("/chat?room=1", "/chat", "room=1"), ("/?", "/", ""), ("/a?b?c", "/a", "b?c"),
    ("http://host/chat?x=1", "/chat", "x=1"), ("http://host", "/", ""), ("http://host?x", "/", "x"),
    ("/a%20b", "/a%20b", ""), ("/x?url=http://host/y", "/x", "url=http://host/y")])
def test_path_and_query(target, path, query):
    assert (request(target).path, request(target).query) == (path, query)
    assert request(target).target == target


@pytest.mark.parametrize("fields, expected", [
    ([], []), ([("Sec-WebSocket-Protocol", "a, b ,c")], ["a", "b", "c"]),
    ([("Sec-WebSocket-Protocol", "a"), ("sec-websocket-protocol", "b")], ["a", "b"]),
    ([("Sec-WebSocket-Protocol", ",, a,")], ["a"])])
def test_subprotocols(fields, expected):
    assert request(fields=fields).subprotocols == expected


def test_origin():
    assert request().origin is None
    assert request(fields=[("ORIGIN", "https://a")]).origin == "https://a"


def test_a_request_takes_attributes():
    asked = request()
    asked.user = "somebody"
    assert asked.user == "somebody"
    assert repr(request("/chat")) == "<wsabi.Request GET /chat>"


def test_a_request_as_a_server_gets_it(loop):
    seen = []

    def on_upgrade(request):
        seen.append(request)
        request.mine = "kept"

    def on_open(ws):
        assert ws.request is seen[0] and ws.request.mine == "kept"
        assert ws.response is None, "that is a client's"
        seen.append(ws)

    server = serve(loop, on_upgrade=on_upgrade, on_open=on_open, subprotocols=["b"])
    client = wsabi.connect(url(server, "/chat?room=1"), loop=loop, subprotocols=["a", "b"],
                           headers=[("X-A", "1"), ("X-A", "2")], origin=f"http://127.0.0.1:{server.port}")
    drive(loop, lambda: len(seen) == 2)
    asked, ws = seen
    assert isinstance(asked, wsabi.Request)
    assert (asked.method, asked.target, asked.http_version) == ("GET", "/chat?room=1", "1.1")
    assert (asked.path, asked.query) == ("/chat", "room=1")
    assert asked.headers["host"] == f"127.0.0.1:{server.port}"
    assert asked.headers.get_all("X-A") == ["1", "2"]
    assert asked.subprotocols == ["a", "b"] and ws.subprotocol == "b"
    assert asked.origin == f"http://127.0.0.1:{server.port}"
    assert asked.remote_address == client.local_address
    assert ws.request is None, "it lives until on_open has returned"


def test_header_octets_that_are_not_utf8_are_kept(loop):
    seen = []
    server = serve(loop, on_upgrade=lambda request: seen.append(request.headers["X-Raw"]))
    with RawClient(loop, server) as raw:
        raw.open(X_Raw="a\udcff\udc80b")
    assert seen == ["a\udcff\udc80b"]
    assert seen[0].encode("utf-8", "surrogateescape") == b"a\xff\x80b"


@pytest.mark.parametrize("method, arguments", [
    ("accept", ()), ("refuse", ()), ("respond", (wsabi.Response(200),))])
def test_a_request_that_does_not_wait_cannot_be_answered(loop, method, arguments):
    seen = []
    server = serve(loop, on_upgrade=seen.append)
    ws = wsabi.connect(url(server), loop=loop)
    drive(loop, lambda: ws.state == wsabi.State.OPEN)
    with pytest.raises((wsabi.InvalidState, wsabi.ConnectionClosed)):
        getattr(seen[0], method)(*arguments)
    ws.close()
    server.stop()
    loop.run_forever()
    with pytest.raises((wsabi.ConnectionClosed, wsabi.InvalidState)):
        getattr(seen[0], method)(*arguments)


# --- responses -----------------------------------------------------------------------------


def test_a_response_has_defaults():
    response = wsabi.Response()
    assert (response.status, response.body, dict(response.headers)) == (200, b"", {})
    assert repr(wsabi.Response(404, "äh")) == "<wsabi.Response 404, 3 bytes>"


def test_text_is_labelled_unless_it_is_already():
    assert wsabi.Response(200, "ä").body == "ä".encode()
    assert wsabi.Response(200, "x").headers["Content-Type"] == "text/plain; charset=utf-8"
    labelled = wsabi.Response(200, "<p>", {"content-type": "text/html"})
    assert labelled.headers.get_all("Content-Type") == ["text/html"]
    assert "Content-Type" not in wsabi.Response(200, b"x").headers


@pytest.mark.parametrize("body", [b"abc", bytearray(b"abc"), memoryview(b"abc")])
def test_bodies_are_bytes_like(body):
    assert wsabi.Response(200, body).body == b"abc"


@pytest.mark.parametrize("status", [199, 600, 0, -1, 101, 1 << 40])
def test_a_status_is_200_to_599(status):
    with pytest.raises(wsabi.InvalidArgument, match="status.*200 to 599"):
        wsabi.Response(status)


@pytest.mark.parametrize("bad, name", [
    (dict(status="200"), "status"), (dict(status=200.0), "status"), (dict(body=5), "body"),
    (dict(body=None), "body"), (dict(headers="x"), "headers"), (dict(headers=[("a", 1)]), "headers")],
    ids=repr)
def test_a_response_has_types(bad, name):
    with pytest.raises(TypeError, match=name):
        wsabi.Response(**bad)


@pytest.mark.parametrize("headers", [
    {"Connection": "close"}, {"content-length": "5"}, {"Transfer-Encoding": "chunked"}, {"a b": "c"},
    {"X": "a\r\nb"}, {"Sec-WebSocket-Accept": "x"}], ids=repr)
def test_headers_of_a_response_have_rules(headers):
    with pytest.raises(wsabi.InvalidArgument, match="header"):
        wsabi.Response(200, headers=headers)


def test_accept_has_types():
    assert wsabi.Accept().subprotocol is None
    assert "chat" in repr(wsabi.Accept("chat", {"X": "1"}))
    with pytest.raises(TypeError, match="subprotocol.*int"):
        wsabi.Accept(5)
    with pytest.raises(TypeError, match="headers"):
        wsabi.Accept(headers="x")


def test_later_shows_its_name():
    assert repr(wsabi.LATER) == "wsabi.LATER"
    assert wsabi.LATER is wsabi.Later.LATER is _types.LATER


def test_states_are_ordered():
    assert list(wsabi.State) == [0, 1, 2, 3]
    assert wsabi.State.CONNECTING < wsabi.State.OPEN < wsabi.State.CLOSING < wsabi.State.CLOSED
