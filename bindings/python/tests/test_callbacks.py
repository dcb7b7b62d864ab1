"""How callbacks are given: as arguments, as methods, by assignment; and which of them is called."""
import functools

import pytest

import frames
import wsabi
from scene import EVERY, SIDES, Scene
from support import CALLBACKS, Notes, Pair, RawClient, drive, serve, settle, url

every = pytest.mark.parametrize("side, callback", EVERY)

ARGUMENTS = {"on_open": [], "on_message": [str], "on_close": [int, str], "on_error": [LookupError],
             "on_ping": [bytes], "on_pong": [bytes], "on_drain": []}


@every
def test_every_callback_gets_the_connection_and_its_arguments(loop, side, callback):
    scene = Scene(loop, side, callback, lambda ws: ws)
    scene.provoke()
    assert scene.result == [scene.ws]
    got = scene.own.named(callback)[-1][1:] if callback != "on_drain" else ()
    assert [type(argument) for argument in got] == ARGUMENTS[callback]
    assert {"on_message": ("provoke",), "on_ping": (b"provoke",), "on_pong": (b"provoke",),
            "on_close": (1000, "bye")}.get(callback, got) == got
    scene.finish()


class Provoked(Scene):
    """A scene whose acting side has the callback somewhere else than in its arguments."""

    def __init__(self, loop, side, callback):
        super().__init__(loop, side, callback, lambda ws: None)
        self.called = self.own_options.pop(callback)
        if callback == "on_error":
            self.own_options["on_message"] = self.failing


@every
@pytest.mark.parametrize("kind", ["function", "method", "builtin", "partial", "object", "static"])
def test_any_callable_will_do(loop, side, callback, kind):
    got = []

    class Other:
        def method(self, *arguments):
            got.append(arguments)

        @staticmethod
        def static(*arguments):
            got.append(arguments)

        __call__ = method

    def function(*arguments):
        got.append(arguments)

    class Many(list):
        def append(self, *arguments):
            got.append(arguments)

    callbacks = {"function": function, "method": Other().method, "object": Other(),
                 "partial": functools.partial(function), "static": Other.static,
                 "builtin": lambda *arguments: got.append(arguments)}
    if kind == "builtin" and callback in ("on_open", "on_drain"):
        callbacks["builtin"] = Many().append
    scene = Provoked(loop, side, callback)
    scene.own_options[callback] = callbacks[kind]
    scene.start()
    scene.own_options = {}
    if callback not in ("on_open",):
        drive(loop, lambda: scene.connections["server"] and
              scene.connections["client"].state == wsabi.State.OPEN)
        getattr(scene, "_" + callback)()
    drive(loop, lambda: got)
    assert got[0][0] is scene.ws
    for ws in scene.connections.values():
        ws.terminate()
    settle(loop)


def subclass(base, callbacks, notes):
    """A subclass of WebSocket or Server that notes these callbacks."""
    def method(name):
        if base is wsabi.WebSocket:
            def noting(self, *arguments):
                notes.append((name, "method", self, *arguments))
        else:
            def noting(self, ws, *arguments):
                notes.append((name, "server", ws, *arguments))
        return noting

    return type("Sub", (base,), {name: method(name) for name in callbacks})


def exercise(loop, notes, *, factory=wsabi.WebSocket, server=None, **options):
    """Has every callback of a server's connection called, and notes what the options note."""
    server = wsabi.serve("127.0.0.1", 0, loop=loop, factory=factory, server=server,
                         high_water_bytes=1 << 16, max_message_bytes=100, **options)
    raw = RawClient(loop, server)
    raw.open()
    raw.send(frames.TEXT, "m")
    raw.send(frames.PING, b"p")
    raw.send(frames.PONG, b"q")
    drive(loop, lambda: server.connections, raw)
    settle(loop, raw)
    while server.connections[0].send(b"x" * (4 << 20)):
        pass
    drive(loop, lambda: any(note[0] == "on_drain" for note in notes) or not notes, raw)
    raw.incoming.clear()
    raw.send(frames.CLOSE, frames.close_payload(1000, "bye"))
    raw.rest()
    raw.close()
    drive(loop, lambda: not server.connections, raw)
    settle(loop)
    return server


EXERCISED = tuple(name for name in CALLBACKS if name != "on_error")


def argument_notes(notes):
    def noting(name):
        return lambda ws, *arguments: notes.append((name, "argument", ws, *arguments))
    return noting


def check(notes, source):
    names = [note[0] for note in notes]
    assert names == ["on_open", "on_message", "on_ping", "on_pong", "on_drain", "on_close"]
    assert {note[1] for note in notes} == {source}
    assert notes[1][3:] == ("m",) and notes[2][3:] == (b"p",) and notes[3][3:] == (b"q",)
    assert notes[5][3:] == (1000, "bye")
    assert all(isinstance(note[2], wsabi.WebSocket) for note in notes)


def test_callbacks_as_methods_of_a_connection(loop):
    notes = []
    exercise(loop, notes, factory=subclass(wsabi.WebSocket, EXERCISED, notes))
    check(notes, "method")


def test_callbacks_as_methods_of_a_server(loop):
    notes = []
    exercise(loop, notes, server=subclass(wsabi.Server, EXERCISED, notes)())
    check(notes, "server")


def test_a_method_of_the_server_comes_before_one_of_the_connection(loop):
    notes = []
    exercise(loop, notes, server=subclass(wsabi.Server, EXERCISED, notes)(),
             factory=subclass(wsabi.WebSocket, EXERCISED, notes))
    check(notes, "server")


def test_an_argument_comes_before_methods(loop):
    notes = []
    noting = argument_notes(notes)
    exercise(loop, notes, server=subclass(wsabi.Server, EXERCISED, notes)(),
             factory=subclass(wsabi.WebSocket, EXERCISED, notes),
             **{name: noting(name) for name in EXERCISED})
    check(notes, "argument")


def test_sources_mix_callback_by_callback(loop):
    notes = []
    noting = argument_notes(notes)
    exercise(loop, notes, server=subclass(wsabi.Server, ["on_message", "on_ping"], notes)(),
             factory=subclass(wsabi.WebSocket, EXERCISED, notes), on_ping=noting("on_ping"))
    sources = {note[0]: note[1] for note in notes}
    assert sources == {"on_open": "method", "on_message": "server", "on_ping": "argument",
                       "on_pong": "method", "on_drain": "method", "on_close": "method"}


def test_an_assigned_callback_comes_before_all_others(loop):
    notes = []
    noting = argument_notes(notes)

    class Sub(subclass(wsabi.WebSocket, EXERCISED, notes)):
        def __init__(self):
            super().__init__()
            for name in EXERCISED:
                setattr(self, name, lambda ws, *arguments, name=name:
                        notes.append((name, "assigned", ws, *arguments)))

    exercise(loop, notes, factory=Sub, server=subclass(wsabi.Server, EXERCISED, notes)(),
             **{name: noting(name) for name in EXERCISED})
    check(notes, "assigned")


def test_a_callback_assigned_later_counts_from_then_on(loop):
    pair = Pair(loop)
    got = []
    pair.client.on_message = lambda ws, data: got.append((ws, data))
    pair.remote.send("1")
    pair.drive(lambda: got)
    assert got == [(pair.client, "1")] and pair.at_client.messages == []
    assert callable(pair.client.on_message)


@pytest.mark.parametrize("side", SIDES)
def test_none_silences_and_del_gives_the_method_back(loop, side):
    notes = Notes()

    class Sub(wsabi.WebSocket):
        def on_message(self, data):
            notes.append(("method", data))

    server = serve(loop, factory=Sub)
    client = wsabi.connect(url(server), loop=loop, factory=Sub)
    drive(loop, lambda: server.connections and client.state == wsabi.State.OPEN)
    remote = server.connections[0]
    ws, peer = (client, remote) if side == "client" else (remote, client)
    ws.on_message = None
    peer.send("silence")
    settle(loop)
    ws.on_message = lambda ws, data: notes.append(("function", data))
    peer.send("1")
    settle(loop)
    del ws.on_message
    peer.send("2")
    settle(loop)
    assert notes == [("function", "1"), ("method", "2")]
    with pytest.raises(AttributeError):
        del ws.on_message


def test_none_assigned_before_connecting_silences_too(loop):
    notes = Notes()

    class Sub(wsabi.WebSocket):
        def __init__(self):
            super().__init__()
            self.on_message = None

        def on_message(self, data):
            notes.append(("method", data))

        def on_ping(self, data):
            notes.append(("ping", data))

    server = serve(loop, on_open=lambda ws: (ws.send("x"), ws.ping(b"after")))
    wsabi.connect(url(server), loop=loop, factory=Sub, **notes.callbacks("on_message"))
    drive(loop, lambda: notes)
    assert notes == [("ping", b"after")]


@pytest.mark.parametrize("callback", CALLBACKS)
def test_what_cannot_be_a_callback_cannot_be_assigned(loop, callback):
    async def coroutine(ws):
        pass

    for ws in (wsabi.WebSocket(), Pair(loop).client):
        for bad, given in ((5, "int"), ("x", "str"), (coroutine, "coroutine")):
            with pytest.raises(TypeError, match=rf"{callback}.*{given}"):
                setattr(ws, callback, bad)
        assert callback not in vars(ws)


@pytest.mark.parametrize("callback", CALLBACKS)
@pytest.mark.parametrize("base", [wsabi.WebSocket, wsabi.Server])
def test_a_coroutine_method_is_refused(loop, callback, base):
    async def method(self, *arguments):
        pass

    sub = type("Sub", (base,), {callback: method})
    with pytest.raises(TypeError, match=rf"{callback}.*coroutine"):
        if base is wsabi.Server:
            wsabi.serve("127.0.0.1", 0, loop=loop, server=sub())
        else:
            wsabi.connect("ws://127.0.0.1:9/", loop=loop, factory=sub)
    loop.run_forever()


@pytest.mark.parametrize("callback", ["on_upgrade", "on_http", "on_stopped"])
def test_a_coroutine_method_of_a_server_is_refused(loop, callback):
    async def method(self, *arguments):
        pass

    with pytest.raises(TypeError, match=rf"{callback}.*coroutine"):
        wsabi.serve("127.0.0.1", 0, loop=loop,
                    server=type("Sub", (wsabi.Server,), {callback: method})())
    loop.run_forever()


def test_the_servers_own_callbacks_as_methods(loop):
    class Sub(wsabi.Server):
        def __init__(self):
            super().__init__()
            self.notes = []

        def on_upgrade(self, request):
            self.notes.append(("upgrade", request.path))
            return request.path == "/yes"

        def on_http(self, request):
            self.notes.append(("http", request.path))
            return wsabi.Response(204)

        def on_error(self, ws, error):
            self.notes.append(("error", ws, type(error)))

        def on_stopped(self, stopped):
            self.notes.append(("stopped", stopped))

    server = wsabi.serve("127.0.0.1", 0, loop=loop, server=Sub())
    assert isinstance(server, Sub)
    for data, status in ((frames.request("/yes"), 101), (frames.request("/no"), 403),
                         (frames.http("/plain"), 204), (b"nonsense\r\n\r\n", 400)):
        raw = RawClient(loop, server)
        raw.write(data)
        assert raw.head().status == status
        raw.close()
    settle(loop)
    server.stop()
    loop.run_forever()
    assert server.notes == [("upgrade", "/yes"), ("upgrade", "/no"), ("http", "/plain"),
                            ("error", None, wsabi.HandshakeError), ("stopped", (0, 0, 0))]


def test_a_clients_methods_are_called(loop):
    class Client(wsabi.WebSocket):
        def __init__(self):
            super().__init__()
            self.notes = []

        def on_open(self):
            self.notes.append("open")
            self.send("hello")

        def on_message(self, data):
            self.notes.append(data)
            self.close(1000, "done")

        def on_close(self, code, reason):
            self.notes.append((code, reason))

    server = serve(loop, on_message=lambda ws, data: ws.send(data),
                   on_close=lambda ws, code, reason: server.stop())
    ws = wsabi.connect(url(server), loop=loop, factory=Client)
    loop.run_forever()
    assert ws.notes == ["open", "hello", (1000, "")]


def test_a_method_of_itself_may_be_assigned(loop):
    class Client(wsabi.WebSocket):
        def __init__(self):
            super().__init__()
            self.got = []
            self.on_message = self.handle

        def handle(self, data):
            self.got.append(data)

    server = serve(loop, on_open=lambda ws: ws.send("x"))
    ws = wsabi.connect(url(server), loop=loop, factory=Client)
    drive(loop, lambda: ws.got)
    assert ws.got == ["x"]


def test_super_reaches_the_base(loop):
    class Client(wsabi.WebSocket):
        def on_message(self, data):
            assert super().on_message(data) is None
            self.last = data

    server = serve(loop, on_open=lambda ws: ws.send("x"))
    ws = wsabi.connect(url(server), loop=loop, factory=Client)
    drive(loop, lambda: getattr(ws, "last", None) == "x")


def test_without_callbacks_everything_is_fine(loop):
    pair = Pair(loop, dict.fromkeys(CALLBACKS[1:]), dict.fromkeys(CALLBACKS))
    for send in (pair.client.send, pair.remote.send, pair.client.ping, pair.remote.ping):
        send(b"x")
    pair.settle()
    assert pair.client.state == pair.remote.state == wsabi.State.OPEN


def test_return_values_do_not_matter(loop):
    pair = Pair(loop, {"on_message": lambda ws, data: False, "on_open": lambda ws: object()})
    pair.client.send("1")
    pair.client.send("2")
    pair.settle()
    assert pair.remote.state == wsabi.State.OPEN


def test_the_wrong_number_of_parameters_is_an_error(loop):
    pair = Pair(loop, {"on_message": lambda data: None})
    pair.client.send("x")
    pair.until_closed()
    assert isinstance(pair.at_server.errors[0], TypeError)
    assert pair.client.close_code == 1011
