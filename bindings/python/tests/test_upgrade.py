"""What servers answer to requests: on_upgrade, on_http, and the policy of origins."""
import threading

import pytest

import frames
import wsabi
from support import Notes, RawClient, drive, serve, settle, url


def ask(loop, on_upgrade, request=None, **options):
    """A server with this on_upgrade, and the response of a request to it."""
    notes = Notes()
    server = serve(loop, on_upgrade=on_upgrade, **{**notes.callbacks(), **options})
    raw = RawClient(loop, server)
    raw.write(request or frames.request())
    response = raw.head()
    return notes, raw, response


@pytest.mark.parametrize("answer", [None, True, wsabi.Accept()], ids=repr)
def test_answers_that_accept(loop, answer):
    notes, raw, response = ask(loop, lambda request: answer)
    with raw:
        assert response.status == 101
        raw.send(frames.TEXT, "x")
        raw.drive(lambda: notes.messages)
        assert notes == [("on_open",), ("on_message", "x")]


def test_false_refuses_with_403(loop):
    notes, raw, response = ask(loop, lambda request: False)
    with raw:
        assert response.status == 403
        raw.rest()
    settle(loop)
    assert notes == [], "a refusal of the application's own is no error"


@pytest.mark.parametrize("status", [200, 302, 401, 404, 426, 500, 503, 599])
def test_a_response_refuses_with_that(loop, status):
    answer = wsabi.Response(status, "no, thanks", {"X-Why": "because"})
    notes, raw, response = ask(loop, lambda request: answer)
    with raw:
        assert response.status == status and response.get("X-Why") == "because"
        assert response.get("Content-Length") == "10"
        assert raw.rest() == b"no, thanks"
    assert notes == []


@pytest.mark.parametrize("answer", [0, 1, "yes", b"", 403, [], {}, (403, "no"), wsabi.Response,
                                    wsabi.State.OPEN, object()], ids=repr)
@pytest.mark.parametrize("listening", [True, False], ids=["on_error", "logger"])
def test_a_wrong_answer_is_500_and_an_error(loop, log, answer, listening):
    options = {} if listening else {"on_error": None}
    notes, raw, response = ask(loop, lambda request: answer, **options)
    with raw:
        assert response.status == 500
        assert b"Traceback" not in raw.rest()
    if listening:
        drive(loop, lambda: notes.errors)
        (error,) = notes.errors
    else:
        settle(loop)
        (record,) = [record for record in log.take() if record.levelname == "ERROR"]
        error = record.exc_info[1]
    assert isinstance(error, TypeError)
    assert "on_upgrade" in str(error) and type(answer).__name__ in str(error)


def test_an_exception_is_500_and_an_error(loop):
    notes, raw, response = ask(loop, lambda request: 1 / 0)
    with raw:
        assert response.status == 500
        assert b"division" not in raw.rest(), "what is wrong inside is not for strangers"
    drive(loop, lambda: notes.errors)
    assert isinstance(notes.errors[0], ZeroDivisionError)
    assert notes.count("on_open") == 0


def test_an_accept_chooses_the_subprotocol_and_adds_headers(loop):
    answer = wsabi.Accept("b", {"X-Session": "1", "Set-Cookie": "a=b"})
    _, raw, response = ask(loop, lambda request: answer, subprotocols=["a"],
                           request=frames.request(Sec_WebSocket_Protocol="a, b"))
    raw.close()
    assert response.status == 101
    assert response.get("Sec-WebSocket-Protocol") == "b"
    assert (response.get("X-Session"), response.get("Set-Cookie")) == ("1", "a=b")


@pytest.mark.parametrize("given, expected", [(None, "a"), ("", None), ("c", "c")])
def test_which_subprotocol_an_accept_means(loop, given, expected):
    _, raw, response = ask(loop, lambda request: wsabi.Accept(given), subprotocols=["x", "a"],
                           request=frames.request(Sec_WebSocket_Protocol="c, a"))
    raw.close()
    assert response.get("Sec-WebSocket-Protocol") == expected


@pytest.mark.parametrize("answer, word", [
    (wsabi.Accept("unasked"), "unasked"), (wsabi.Accept(headers={"a b": "c"}), "a b"),
    (wsabi.Accept(headers={"Upgrade": "x"}), "Upgrade"), (wsabi.Accept(headers={"X": "a\nb"}), "X")])
def test_an_accept_that_cannot_be_is_500(loop, answer, word):
    notes, raw, response = ask(loop, lambda request: answer)
    raw.close()
    assert response.status == 500
    drive(loop, lambda: notes.errors)
    assert isinstance(notes.errors[0], wsabi.InvalidArgument) and word in str(notes.errors[0])


def test_the_server_s_choice_is_by_its_own_order(loop):
    _, raw, response = ask(loop, None, subprotocols=["z", "b", "a"],
                           request=frames.request(Sec_WebSocket_Protocol="a, b"))
    raw.close()
    assert response.get("Sec-WebSocket-Protocol") == "b"


# --- later ---------------------------------------------------------------------------------


class Held:
    """A server that answers later, and a client by hand that waits."""

    def __init__(self, loop, request=None, **options):
        self.requests, self.notes = [], Notes()
        self.loop = loop

        def on_upgrade(request):
            self.requests.append(request)
            return wsabi.LATER

        self.server = serve(loop, **{**self.notes.callbacks(), "on_upgrade": on_upgrade, **options})
        self.raw = RawClient(loop, self.server)
        self.raw.write(request or frames.request(Sec_WebSocket_Protocol="a, b"))
        drive(loop, lambda: self.requests)
        self.request = self.requests[0]
        settle(loop)
        assert not self.raw.incoming

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.raw.close()


@pytest.mark.parametrize("how, status", [
    (lambda request: request.accept(), 101),
    (lambda request: request.accept("b", {"X-A": "1"}), 101),
    (lambda request: request.refuse(), 403),
    (lambda request: request.refuse(404, "gone", {"X-A": "1"}), 404),
    (lambda request: request.respond(wsabi.Response(503)), 503)],
    ids=["accept", "accept with more", "refuse", "refuse with more", "respond"])
@pytest.mark.parametrize("where", ["same thread", "other thread", "posted call"])
def test_an_answer_may_come_later(loop, how, status, where):
    with Held(loop) as held:
        if where == "same thread":
            how(held.request)
        elif where == "posted call":
            loop.call_soon_threadsafe(how, held.request)
        else:
            thread = threading.Thread(target=how, args=(held.request,))
            thread.start()
            thread.join()
        response = held.raw.head()
        assert response.status == status
        if status == 101:
            drive(loop, lambda: held.notes)
            assert held.notes == [("on_open",)]
            held.raw.send(frames.TEXT, "x")
            drive(loop, lambda: held.notes.messages, held.raw)
            if response.get("X-A"):
                assert response.get("Sec-WebSocket-Protocol") == "b"


def test_the_request_of_a_held_upgrade_is_the_connection_s(loop):
    same = []
    with Held(loop, on_open=lambda ws: same.append(ws.request)) as held:
        held.request.accept()
        held.raw.head()
        drive(loop, lambda: same)
        assert same == [held.request]


@pytest.mark.parametrize("first", ["accept", "refuse"])
@pytest.mark.parametrize("second", ["accept", "refuse"])
def test_a_second_answer_is_refused(loop, first, second):
    with Held(loop) as held:
        getattr(held.request, first)()
        with pytest.raises((wsabi.InvalidState, wsabi.ConnectionClosed)):
            getattr(held.request, second)()
        assert held.raw.head().status == (101 if first == "accept" else 403)


def test_an_answer_after_the_client_has_gone(loop):
    with Held(loop) as held:
        held.raw.reset()
        drive(loop, lambda: held.notes.errors)
        with pytest.raises(wsabi.ConnectionClosed):
            held.request.accept()


def test_an_answer_after_the_time_is_over(loop):
    with Held(loop, hold_timeout=0.05, handshake_timeout=0.05) as held:
        assert held.raw.head().status == 503
        with pytest.raises((wsabi.ConnectionClosed, wsabi.InvalidState)):
            held.request.accept()


@pytest.mark.parametrize("bad, error", [
    (lambda request: request.accept("unasked"), wsabi.InvalidArgument),
    (lambda request: request.accept(5), TypeError),
    (lambda request: request.accept(headers={"Connection": "x"}), wsabi.InvalidArgument),
    (lambda request: request.refuse(101), wsabi.InvalidArgument),
    (lambda request: request.respond("no"), TypeError),
    (lambda request: request.respond(None), TypeError)],
    ids=["subprotocol", "type", "header", "status", "text", "nothing"])
def test_a_wrong_later_answer_leaves_the_request_waiting(loop, bad, error):
    with Held(loop) as held:
        with pytest.raises(error):
            bad(held.request)
        held.request.accept("a")
        assert held.raw.head().get("Sec-WebSocket-Protocol") == "a"


def test_a_held_request_that_is_forgotten_is_answered_in_time(loop):
    with Held(loop, hold_timeout=0.05, handshake_timeout=0.05) as held:
        held.requests.clear()
        held.request = None
        assert held.raw.head().status == 503


def test_answering_inside_and_returning_later(loop):
    def on_upgrade(request):
        request.accept("b")
        return wsabi.LATER

    notes, raw, response = ask(loop, on_upgrade,
                               request=frames.request(Sec_WebSocket_Protocol="a, b"))
    with raw:
        assert (response.status, response.get("Sec-WebSocket-Protocol")) == (101, "b")
        drive(loop, lambda: notes)
        assert notes == [("on_open",)]


# --- plain HTTP ----------------------------------------------------------------------------


def get(loop, on_http, method="GET", **options):
    notes = Notes()
    server = serve(loop, on_http=on_http, **{**notes.callbacks(), **options})
    raw = RawClient(loop, server)
    raw.write(frames.http("/status?x=1", method))
    response = raw.head()
    return notes, response, raw.rest()


@pytest.mark.parametrize("on_http", [None, lambda request: None], ids=["absent", "None"])
def test_without_an_answer_plain_http_is_426(loop, on_http):
    notes, response, _ = get(loop, on_http)
    assert response.status == 426
    assert response.get("Upgrade") == "websocket" and response.get("Sec-WebSocket-Version") == "13"
    assert notes == []


def test_plain_http_may_be_answered(loop):
    seen = []

    def on_http(request):
        seen.append(request)
        return wsabi.Response(200, "fine\n", {"X-A": "1"})

    notes, response, body = get(loop, on_http)
    assert (response.status, body, response.get("X-A")) == (200, b"fine\n", "1")
    assert response.get("Content-Type") == "text/plain; charset=utf-8"
    assert isinstance(seen[0], wsabi.Request) and seen[0].path == "/status"
    assert notes == []


def test_the_answer_to_head_has_no_body(loop):
    _, response, body = get(loop, lambda request: wsabi.Response(200, "fine"), method="HEAD")
    assert (response.get("Content-Length"), body) == ("4", b"")


@pytest.mark.parametrize("answer", [True, False, 200, "fine", b"x", wsabi.Accept()], ids=repr)
def test_a_wrong_answer_to_plain_http_is_500(loop, answer):
    notes, response, _ = get(loop, lambda request: answer)
    assert response.status == 500
    drive(loop, lambda: notes.errors)
    assert isinstance(notes.errors[0], TypeError) and "on_http" in str(notes.errors[0])


def test_an_exception_in_on_http_is_500(loop):
    notes, response, _ = get(loop, lambda request: 1 / 0)
    assert response.status == 500
    drive(loop, lambda: notes.errors)
    assert isinstance(notes.errors[0], ZeroDivisionError)


def test_plain_http_may_be_answered_later(loop):
    held = []

    def on_http(request):
        held.append(request)
        return wsabi.LATER

    server = serve(loop, on_http=on_http)
    with RawClient(loop, server) as raw:
        raw.write(frames.http())
        drive(loop, lambda: held)
        with pytest.raises(wsabi.InvalidState):
            held[0].accept()
        thread = threading.Thread(target=held[0].respond, args=(wsabi.Response(200, b"late"),))
        thread.start()
        thread.join()
        assert raw.head().status == 200
        assert raw.rest() == b"late"


# --- requests that never reach on_upgrade ----------------------------------------------------


@pytest.mark.parametrize("change, status, word", [
    (dict(method="POST"), 405, "GET"), (dict(version="1.0"), 400, "1.1"),
    (dict(Sec_WebSocket_Version="8"), 426, "13"), (dict(Sec_WebSocket_Key="short"), 400, "Key"),
    (dict(drop=("Sec-WebSocket-Key",)), 400, "Key"), (dict(drop=("Host",)), 400, "Host"),
    (dict(drop=("Connection",)), 400, "Connection"), (dict(Content_Length="5"), 413, "body")])
def test_a_wrong_request_is_told_to_on_error_only(loop, change, status, word):
    asked = []
    notes, raw, response = ask(loop, asked.append, request=frames.request(**change))
    with raw:
        assert response.status == status
        drive(loop, lambda: notes.errors)
        (error,) = notes.errors
        assert isinstance(error, wsabi.HandshakeError) and word in str(error)
        assert error.remote_address == raw.sock.getsockname()
        assert asked == [] and notes.count("on_open") == 0


def test_without_on_error_strangers_are_no_business_of_the_log(loop, log):
    server = serve(loop)
    with RawClient(loop, server) as raw:
        raw.write(b"\x16\x03\x01\x02\0\x01\0\x01\xfc\r\n\r\n")
        raw.rest()
    settle(loop)
    assert [record for record in log.take() if record.levelno >= 30] == []


@pytest.mark.parametrize("origins, origin, status", [
    ("same-host", None, 101), ("same-host", "SAME", 101), ("same-host", "https://evil.example", 403),
    ("same-host", "null", 403), ("any", "https://evil.example", 101), ("any", "null", 101),
    (["https://a.example"], "https://a.example", 101), (["https://a.example"], None, 101),
    (["https://a.example"], "HTTPS://A.EXAMPLE", 101), (["https://a.example"], "SAME", 403),
    (["https://a.example", "null"], "null", 101), (["https://a.example"], "http://a.example", 403),
    ([], "https://a.example", 403), ([], None, 101), (("https://a.example",), "https://a.example", 101)])
def test_origins(loop, origins, origin, status):
    notes = Notes()
    server = serve(loop, origins=origins, **notes.callbacks())
    host = f"127.0.0.1:{server.port}"
    if origin == "SAME":
        origin = f"http://{host}"
    with RawClient(loop, server) as raw:
        raw.write(frames.request(host=host, Origin=origin))
        assert raw.head().status == status
        if status == 403:
            assert b"origins" in raw.rest(), "it names the option"
            drive(loop, lambda: notes.errors)
            assert notes.errors[0].kind == "ORIGIN"
            assert isinstance(notes.errors[0], wsabi.HandshakeError)


def test_a_refused_client_of_our_own_hears_the_status(loop):
    notes = Notes()
    server = serve(loop, on_upgrade=lambda request: wsabi.Response(401, "who are you?"))
    ws = wsabi.connect(url(server), loop=loop, **notes.callbacks())
    drive(loop, lambda: notes.closed)
    assert (ws.error.status, ws.error.kind) == (401, "REFUSED")
