"""Memory: what is collected when, and what does not grow."""
import gc
import weakref

import pytest

import wsabi
from scene import Scene
from support import CALLBACKS, Notes, Pair, Tracked, drive, fds, serve, settle, url


# --- what keeps what -------------------------------------------------------------------------


def test_connections_servers_and_loops_take_weak_references(loop):
    pair = Pair(loop)
    for thing in (pair.client, pair.remote, pair.server, loop):
        assert weakref.ref(thing)() is thing


def test_an_open_connection_needs_nobody_to_keep_it(loop, collected):
    server = serve(loop, on_message=lambda ws, data: ws.send(data))
    got = []
    ref = weakref.ref(wsabi.connect(url(server), loop=loop, on_open=lambda ws: ws.send("x"),
                                    on_message=lambda ws, data: got.append(data)))
    collected()
    drive(loop, lambda: got)
    collected()
    assert ref() is not None and ref().state == wsabi.State.OPEN


def test_a_running_server_needs_nobody_to_keep_it(loop, collected):
    address = serve(loop, on_open=lambda ws: ws.send("x")).address
    collected()
    got = []
    wsabi.connect(f"ws://{address[0]}:{address[1]}/", loop=loop,
                  on_message=lambda ws, data: got.append(data))
    drive(loop, lambda: got)


@pytest.mark.parametrize("how", ["close", "terminate", "refused"])
def test_an_ended_connection_is_freed_without_the_collector(loop, collected, how):
    server = serve(loop, on_upgrade=lambda request: how != "refused")
    gc.disable()
    try:
        ws = wsabi.connect(url(server), loop=loop, factory=Tracked, on_error=lambda ws, e: None)
        ref = weakref.ref(ws)
        if how != "refused":
            drive(loop, lambda: ws.state == wsabi.State.OPEN)
            getattr(ws, how)()
        drive(loop, lambda: ws.close_code)
        del ws
        settle(loop)
        assert ref() is None
    finally:
        gc.enable()


@pytest.mark.parametrize("callback", CALLBACKS)
def test_a_callback_is_let_go_with_its_connection(loop, collected, callback):
    def function(ws, *arguments):
        pass

    ref = weakref.ref(function)
    pair = Pair(loop, client_options={callback: function})
    del function
    collected()
    assert ref() is not None
    pair.client.terminate()
    drive(loop, lambda: pair.client.close_code and pair.remote.close_code)
    collected()
    # The object is still held by the pair, its callbacks are not held by the object.
    assert ref() is None


@pytest.mark.parametrize("callback", ["on_upgrade", "on_http", "on_stopped", "factory", *CALLBACKS])
def test_the_callbacks_of_a_server_are_let_go_when_it_has_stopped(loop, collected, callback):
    def function(*arguments):
        return wsabi.WebSocket() if callback == "factory" else None

    ref = weakref.ref(function)
    server = serve(loop, **{callback: function})
    del function
    collected()
    assert ref() is not None
    server.stop()
    loop.run_forever()
    collected()
    assert ref() is None


# --- cycles ------------------------------------------------------------------------------------


def abandoned(build):
    """Builds something on a loop of its own, lets go of it, and tells whether it is collected."""
    loop = wsabi.Loop()
    refs = [weakref.ref(loop), *map(weakref.ref, build(loop))]
    del loop
    gc.collect()
    gc.collect()
    return [ref() for ref in refs] == [None] * len(refs)


def open_pair(loop, **options):
    pair = Pair(loop, client_options=options)
    return pair.client, pair.remote, pair.server


def through_callbacks(loop):
    kept = []
    server = serve(loop, on_message=lambda ws, data: kept.append(server))
    client = wsabi.connect(url(server), loop=loop, on_open=lambda ws: kept.append((client, loop)))
    drive(loop, lambda: kept)
    return client, server


def through_attributes(loop):
    client, remote, server = open_pair(loop)
    client.other, remote.other, server.all = remote, client, [client, remote, server, loop]
    return client, remote, server


def through_assigned_callbacks(loop):
    client, remote, server = open_pair(loop)
    client.on_message = lambda ws, data: client.send(data)
    remote.on_message = client.send_text
    return client, remote, server


def through_methods_of_itself(loop):
    client, remote, server = open_pair(loop)
    client.on_message, client.on_close = client.send_text, client.close
    client.on_ping = type(client).ping.__get__(client)
    return client, remote, server


def through_subclasses(loop):
    class Server(wsabi.Server):
        def on_message(self, ws, data):
            self.last = ws

    class Client(wsabi.WebSocket):
        def on_open(self):
            self.me = self
            self.send("x")

    server = wsabi.serve("127.0.0.1", 0, loop=loop, server=Server())
    client = wsabi.connect(url(server), loop=loop, factory=Client)
    drive(loop, lambda: hasattr(server, "last"))
    return client, server.last, server


def through_posted_calls(loop):
    client, remote, server = open_pair(loop)
    loop.call_soon_threadsafe(lambda: (client, loop))
    loop.call_soon_threadsafe(client.send, server)
    return client, remote, server


def through_requests(loop):
    held = []

    def on_upgrade(request):
        held.append(request)
        request.loop, request.held = loop, held
        return wsabi.LATER

    server = serve(loop, on_upgrade=on_upgrade)
    client = wsabi.connect(url(server), loop=loop)
    drive(loop, lambda: held)
    return client, server, held[0]


def through_errors(loop):
    kept = []
    ws = wsabi.connect("ws://127.0.0.1:9/", loop=loop, on_error=lambda ws, error: kept.append(error))
    drive(loop, lambda: kept)
    kept[0].ws, ws.kept = ws, kept
    return (ws,)


def through_ended_connections(loop):
    client, remote, server = open_pair(loop)
    client.terminate()
    drive(loop, lambda: client.close_code and remote.close_code)
    client.mine, remote.mine = remote, client
    return client, remote, server


def with_a_backlog(loop):
    client, remote, server = open_pair(loop)
    client.send(bytes(8 << 20))
    return client, remote, server


@pytest.mark.parametrize("build", [
    open_pair, through_callbacks, through_attributes, through_assigned_callbacks,
    through_methods_of_itself, through_subclasses, through_posted_calls, through_requests,
    through_errors, through_ended_connections, with_a_backlog], ids=lambda f: f.__name__)
def test_abandoned_loops_are_collected(collected, build):
    before = fds()
    assert abandoned(build)
    assert fds() == before


def test_an_abandoned_loop_calls_nobody_when_it_is_collected(collected):
    notes = Notes()

    def build():
        loop = wsabi.Loop()
        server = serve(loop, **notes.callbacks())
        wsabi.connect(url(server), loop=loop, **notes.callbacks())
        drive(loop, lambda: notes.count("on_open") == 2)

    build()
    collected()
    # Callbacks out of the collector would come at any moment, on any thread.
    assert notes == [("on_open",)] * 2


def test_cycles_of_ended_connections_are_collected_while_their_loop_lives(loop, collected):
    server = serve(loop)
    refs = []
    for _ in range(20):
        ws = wsabi.connect(url(server), loop=loop, factory=Tracked)
        ws.me, ws.on_message = ws, lambda ws, data, me=ws: me
        refs.append(weakref.ref(ws))
        ws.terminate()
    drive(loop, lambda: all(ref() is None or ref().close_code for ref in refs))
    del ws
    collected()
    assert [ref() for ref in refs] == [None] * 20


def test_requests_that_never_open_are_let_go(loop, collected):
    refs = []

    def on_upgrade(request):
        refs.append(weakref.ref(request))
        return wsabi.LATER

    server = serve(loop, on_upgrade=on_upgrade)
    for turn in range(300):
        ws = wsabi.connect(url(server), loop=loop, on_error=lambda ws, error: None)
        drive(loop, lambda: len(refs) == turn + 1)
        ws.terminate()
        drive(loop, lambda: ws.close_code)
    settle(loop)
    collected()
    assert sum(ref() is not None for ref in refs) <= 130, "not all of them are kept"
    loop.close()
    collected()
    assert all(ref() is None for ref in refs)


@pytest.mark.parametrize("callback", [name for name in CALLBACKS if name != "on_error"])
@pytest.mark.parametrize("side", ["client", "server"])
def test_collecting_inside_a_callback(loop, side, callback):
    scene = Scene(loop, side, callback, lambda ws: gc.collect())
    scene.provoke()
    scene.finish()
