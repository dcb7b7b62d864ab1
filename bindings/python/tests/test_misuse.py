"""Each callback, and everything that should not be done in it, or rather should be possible."""
import gc
import logging
import threading
import weakref

import pytest

import frames
import wsabi
from scene import EVERY, Bystander, Scene
from support import Notes, Pair, RawClient, drive, serve, settle, url

every = pytest.mark.parametrize("side, callback", EVERY)


@every
def test_an_exception_goes_to_on_error_and_costs_its_connection(loop, log, side, callback):
    def act(ws):
        raise ValueError("mine")

    bystander = Bystander(loop)
    scene = Scene(loop, side, callback, act)
    scene.provoke()
    scene.until_over()
    errors = [error for error in scene.own.errors if isinstance(error, ValueError)]
    if callback == "on_error":
        # There is nobody else to tell, so the logger is; the first error is the second's context.
        assert errors == [] and len(scene.own.errors) == 1
        (record,) = [record for record in log.take() if record.levelname == "ERROR"]
        assert record.exc_info[0] is ValueError
        assert isinstance(record.exc_info[1].__context__, LookupError)
    else:
        assert len(errors) == 1 and errors[0].__traceback__ is not None
    assert scene.other.errors == []
    if callback != "on_close":
        assert scene.peer.close_code == 1011
        assert "mine" not in scene.peer.close_reason, "what is wrong inside is not for strangers"
    assert scene.own[-1][0] == "on_close" or callback == "on_close"
    bystander.check()


@pytest.mark.parametrize("side, callback", [case for case in EVERY if case[1] != "on_error"])
def test_an_exception_without_on_error_goes_to_the_logger(loop, log, side, callback):
    def act(ws):
        raise ValueError("mine")

    scene = Scene(loop, side, callback, act)
    scene.own_options["on_error"] = None
    scene.start()
    scene.provoke()
    scene.until_over()
    (record,) = [record for record in log.take() if record.levelname == "ERROR"]
    assert record.name == "wsabi" and callback in record.getMessage()
    assert record.exc_info[1].args == ("mine",)
    assert "in act" in logging.Formatter().formatException(record.exc_info)
    assert scene.own.errors == []


@every
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit],
                         ids=lambda error: error.__name__)
def test_what_ends_programs_comes_out_of_dispatch(loop, side, callback, error):
    def act(ws):
        raise error("out")

    bystander = Bystander(loop)
    scene = Scene(loop, side, callback, act)
    with pytest.raises(error, match="out"):
        scene.provoke()
    settle(loop)
    assert not [e for e in scene.own.errors if not isinstance(e, LookupError)]
    if callback not in ("on_close", "on_error"):
        assert scene.ws.state == wsabi.State.OPEN, "it is no fault of the connection"
    bystander.check()
    scene.finish()


@every
def test_closing_inside(loop, side, callback):
    bystander = Bystander(loop)
    scene = Scene(loop, side, callback, lambda ws: ws.close(4000, "inside"))
    scene.provoke()
    scene.until_over()
    if callback not in ("on_close", "on_error"):
        assert (scene.peer.close_code, scene.peer.close_reason) == (4000, "inside")
        assert scene.ws.close_code == 4000, "which the peer has answered with"
    elif callback == "on_error":
        assert scene.peer.close_code == 4000, "the first to close decides"
    bystander.check()


@every
def test_terminating_inside(loop, side, callback):
    bystander = Bystander(loop)
    scene = Scene(loop, side, callback, lambda ws: (ws.terminate(), ws.state))
    scene.provoke()
    scene.until_over()
    assert scene.result[0][1] == wsabi.State.CLOSED
    assert scene.own[-1][0] == "on_close"
    if callback != "on_close":
        assert scene.own.named("on_close") == [("on_close", 1006, "")]
        assert scene.ws.error.kind == "TERMINATED"
        assert isinstance(scene.ws.error, wsabi.ConnectionClosed)
    bystander.check()


@every
def test_pausing_inside(loop, side, callback):
    def act(ws):
        try:
            ws.pause()
        except wsabi.ConnectionClosed:
            assert callback in ("on_close", "on_error")

    bystander = Bystander(loop)
    scene = Scene(loop, side, callback, act)
    scene.provoke()
    if callback not in ("on_close", "on_error"):
        drive(loop, lambda: scene.other.count("on_open"))
        seen = len(scene.own)
        scene.peer.send("while paused")
        settle(loop)
        bystander.check()
        # What was given out in the same go may have come; nothing else does.
        assert "while paused" not in scene.own.messages and len(scene.own) <= seen + 1
        scene.ws.resume()
        drive(loop, lambda: "while paused" in scene.own.messages)
    scene.finish()


@every
def test_sending_inside(loop, side, callback):
    def act(ws):
        try:
            return ws.send("from inside"), ws.ping(b"p"), ws.buffered_amount
        except wsabi.ConnectionClosed:
            return None

    scene = Scene(loop, side, callback, act)
    scene.provoke()
    if callback == "on_close":
        assert scene.result == [None]
    else:
        assert scene.result[0][0] is True and scene.result[0][2] > 0
        drive(loop, lambda: "from inside" in scene.other.messages)
        assert scene.other.count("on_ping") == 1
    scene.finish()


@every
def test_sending_to_another_inside(loop, side, callback):
    bystander = Bystander(loop)
    scene = Scene(loop, side, callback, lambda ws: bystander.pair.remote.send("from elsewhere"))
    scene.provoke()
    drive(loop, lambda: bystander.pair.at_client.messages)
    assert bystander.pair.at_client.messages == ["from elsewhere"]
    scene.finish()


@every
@pytest.mark.parametrize("call", ["dispatch", "poll", "run_forever"])
def test_dispatching_inside(loop, side, callback, call):
    def act(ws):
        with pytest.raises(wsabi.InvalidState):
            getattr(loop, call)()
        return "refused"

    bystander = Bystander(loop)
    scene = Scene(loop, side, callback, act)
    scene.provoke()
    assert scene.result == ["refused"]
    bystander.check()
    scene.finish()


@every
def test_closing_the_loop_inside(side, callback):
    loop = wsabi.Loop()
    scene = Scene(loop, side, callback, lambda ws: (loop.close(), loop.closed))
    scene.provoke()
    assert scene.result == [(None, False)], "it is put off to the end of the dispatch"
    assert loop.closed
    for notes in (scene.own, scene.other):
        if notes.count("on_open"):
            assert notes.closed and notes[-1][0] == "on_close"
    assert len(scene.stopped) == 1


@every
def test_stopping_the_server_inside(loop, side, callback):
    scene = Scene(loop, side, callback, lambda ws: scene.server.stop(grace=30))
    scene.provoke()
    drive(loop, lambda: scene.stopped)
    scene.until_over()
    assert scene.stopped[0].forced == 0
    loop.run_forever()


@every
def test_dropping_the_last_references_inside(loop, side, callback):
    def act(ws):
        scene.connections.clear()
        scene.server = None
        gc.collect()
        return weakref.ref(ws)

    scene = Scene(loop, side, callback, act)
    scene.provoke()
    ref = scene.result[0]
    scene.connections.update(client=None, server=None)
    if callback not in ("on_close", "on_error"):
        assert ref() is not None, "an open connection needs nobody to keep it"
        ref().terminate()
    drive(loop, lambda: scene.own.closed and scene.other.closed or not scene.own.count("on_open"))
    settle(loop)
    scene.own.clear()  # An error's traceback has the connection in its frames.
    gc.collect()
    assert ref() is None


@every
def test_assigning_another_callback_inside(loop, side, callback):
    again = []

    def act(ws):
        setattr(ws, callback, lambda ws, *arguments: again.append(arguments))

    scene = Scene(loop, side, callback, act)
    scene.provoke()
    if callback in ("on_message", "on_ping", "on_pong"):
        getattr(scene, "_" + callback)()
        drive(loop, lambda: again)
        assert scene.own.count(callback) == 1
    scene.finish()


@every
def test_starting_threads_and_joining_them_inside(loop, side, callback):
    def act(ws):
        done = []
        thread = threading.Thread(target=lambda: done.append(loop.call_soon_threadsafe(done.append, 2)))
        thread.start()
        thread.join()
        return done

    scene = Scene(loop, side, callback, act)
    scene.provoke()
    drive(loop, lambda: scene.result[0] == [None, 2])
    scene.finish()


@every
def test_connecting_and_serving_inside(loop, side, callback):
    notes = Notes()

    def act(ws):
        server = serve(loop)
        wsabi.connect(url(server), loop=loop, **notes.callbacks("on_open"))

    scene = Scene(loop, side, callback, act)
    scene.provoke()
    drive(loop, lambda: notes)
    scene.finish()


# --- callbacks that are no connection's ----------------------------------------------------------


@pytest.mark.parametrize("callback", ["on_upgrade", "on_http"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_programs_comes_out_of_requests(loop, callback, error):
    turns = [error]

    def ask(request):
        if turns:
            raise turns.pop()

    server = serve(loop, **{callback: ask})
    data = frames.request() if callback == "on_upgrade" else frames.http()
    raw = RawClient(loop, server)
    with pytest.raises(error):
        raw.write(data)
        raw.head()
    assert raw.head().status == 500
    again = RawClient(loop, server)
    again.write(data)
    assert again.head().status == (101 if callback == "on_upgrade" else 426)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_raising_in_on_stopped(loop, log, error):
    def on_stopped(stopped):
        raise error("mine")

    server = serve(loop, on_stopped=on_stopped)
    server.stop()
    if error is ValueError:
        loop.run_forever()
        assert [r.exc_info[0] for r in log.take() if r.levelname == "ERROR"] == [ValueError]
    else:
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        loop.run_forever()
    assert server.stopped == (0, 0, 0)


def test_serving_again_in_on_stopped(loop):
    ports = []

    def on_stopped(stopped):
        ports.append(server.port)
        if len(ports) < 3:
            again()

    def again():
        nonlocal server
        server = wsabi.serve("127.0.0.1", ports[0] if ports else 0, loop=loop, on_stopped=on_stopped)
        server.stop()

    server = None
    again()
    loop.run_forever()
    assert len(ports) == 3


def test_an_exception_in_the_servers_on_error(loop, log):
    def on_error(ws, error):
        raise LookupError("mine")

    server = serve(loop, on_error=on_error)
    raw = RawClient(loop, server)
    raw.write(b"nonsense\r\n\r\n")
    assert raw.head().status == 400
    settle(loop)
    (record,) = [record for record in log.take() if record.levelname == "ERROR"]
    assert record.exc_info[0] is LookupError
    assert isinstance(record.exc_info[1].__context__, wsabi.HandshakeError)


def test_the_messages_behind_an_interrupt_come_with_the_next_run(loop):
    got = []

    def on_message(ws, data):
        got.append(data)
        if int(data) % 7 == 3:
            raise KeyboardInterrupt

    pair = Pair(loop, {"on_message": on_message})
    for number in range(50):
        pair.client.send(str(number))
    interrupts = 0
    while len(got) < 50:
        try:
            loop.poll(20)
        except KeyboardInterrupt:
            interrupts += 1
    assert got == [str(number) for number in range(50)], "none is lost, none comes twice"
    assert interrupts == 7
    assert pair.remote.state == wsabi.State.OPEN
