"""Calls inside of callbacks, posted calls, and closing a loop."""
import gc
import os
import weakref

import pytest

import wsabi
from support import Pair, serve


# --- inside of callbacks -----------------------------------------------------------------------


@pytest.mark.parametrize("call", [
    lambda loop: loop.dispatch(), lambda loop: loop.poll(0), lambda loop: loop.run_forever()],
    ids=["dispatch", "poll", "run_forever"])
@pytest.mark.parametrize("where", ["posted call", "callback"])
def test_dispatching_inside_is_refused(loop, call, where):
    caught = []

    def inside(*_):
        with pytest.raises(wsabi.InvalidState, match="callback") as error:
            call(loop)
        caught.append(error.value.kind)

    if where == "posted call":
        loop.call_soon_threadsafe(inside)
        loop.run_forever()
    else:
        pair = Pair(loop, {"on_message": inside})
        pair.client.send("x")
        pair.drive(lambda: caught)
        assert pair.remote.state == wsabi.State.OPEN
    assert caught == ["REENTRANT"]


def test_another_loop_may_be_dispatched_inside(loop):
    with wsabi.Loop() as other:
        seen = []
        other.call_soon_threadsafe(seen.append, "other")
        loop.call_soon_threadsafe(other.run_forever)
        loop.run_forever()
        assert seen == ["other"]


def test_the_module_s_run_forever_is_refused_inside(default):
    caught = []

    def inside():
        try:
            wsabi.run_forever()
        except wsabi.InvalidState as error:
            caught.append(error)

    default.call_soon_threadsafe(inside)
    wsabi.run_forever()
    assert caught


# --- posted calls --------------------------------------------------------------------------------


def test_posted_calls_come_in_order_with_their_arguments(loop):
    called = []
    for number in range(100):
        loop.call_soon_threadsafe(lambda *args: called.append(args), number, str(number))
    assert called == [], "they come in a dispatch"
    loop.dispatch()
    assert called == [(number, str(number)) for number in range(100)]


@pytest.mark.parametrize("bad", [None, 1, "print"], ids=repr)
def test_a_posted_call_is_callable(loop, bad):
    with pytest.raises(TypeError, match=rf"callback.*{type(bad).__name__}"):
        loop.call_soon_threadsafe(bad)
    with pytest.raises(TypeError):
        loop.call_soon_threadsafe()


def test_a_coroutine_function_is_no_posted_call(loop):
    async def call():
        pass

    with pytest.raises(TypeError, match="coroutine"):
        loop.call_soon_threadsafe(call)


def test_an_exception_in_a_posted_call_is_logged_and_ends_nothing(loop, log):
    called = []
    loop.call_soon_threadsafe(lambda: 1 / 0)
    loop.call_soon_threadsafe(called.append, 1)
    loop.run_forever()
    assert called == [1]
    (record,) = [record for record in log.take() if record.levelname == "ERROR"]
    assert record.exc_info[0] is ZeroDivisionError


def test_keyboard_interrupt_in_a_posted_call_comes_out_and_loses_nothing(loop):
    called = []

    def interrupted():
        raise KeyboardInterrupt

    for call in (lambda: called.append(1), interrupted, lambda: called.append(2)):
        loop.call_soon_threadsafe(call)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    loop.run_forever()
    assert called == [1, 2]


# --- closing ---------------------------------------------------------------------------------------


def test_close_ends_everything_with_its_last_callbacks():
    loop = wsabi.Loop()
    stopped = []
    pair = Pair(loop, {"on_stopped": stopped.append})
    loop.close()
    assert loop.closed
    assert pair.at_client.named("on_close") == pair.at_server.named("on_close") == [
        ("on_close", 1006, "")]
    assert pair.client.error.kind == pair.remote.error.kind == "STOPPED"
    assert len(stopped) == 1 and stopped[0].forced == 1
    assert pair.server.stopped == stopped[0]


def test_close_is_idempotent_and_frees_the_descriptor():
    loop = wsabi.Loop()
    fd = loop.fileno()
    loop.close()
    loop.close()
    with pytest.raises(OSError):
        os.fstat(fd)


@pytest.mark.parametrize("call", [
    "dispatch", "poll", "run_forever", "fileno", "timeout", "stats"])
def test_a_closed_loop_refuses(call):
    loop = wsabi.Loop()
    loop.close()
    with pytest.raises(wsabi.ConnectionClosed, match="loop"):
        getattr(loop, call)()


def test_a_closed_loop_starts_nothing():
    loop = wsabi.Loop()
    loop.close()
    with pytest.raises(wsabi.ConnectionClosed):
        serve(loop)
    with pytest.raises(wsabi.ConnectionClosed):
        wsabi.connect("ws://127.0.0.1:9/", loop=loop)
    with pytest.raises(wsabi.ConnectionClosed):
        loop.call_soon_threadsafe(int)
    loop.flush()  # there is nothing to write
    loop.stop()


def test_the_context_manager_closes():
    with wsabi.Loop() as loop:
        assert not loop.closed
    assert loop.closed
    with pytest.raises(ZeroDivisionError), wsabi.Loop() as loop:
        1 / 0
    assert loop.closed


@pytest.mark.parametrize("how", ["dispatch", "run_forever"])
def test_close_inside_a_callback_is_put_off_to_the_end_of_the_dispatch(how):
    loop = wsabi.Loop()
    seen = []

    def inside(ws, data):
        loop.close()
        seen.append(ws.state)

    pair = Pair(loop, {"on_message": inside})
    pair.client.send("x")
    if how == "run_forever":
        loop.run_forever()
    else:
        pair.drive(lambda: seen)
    assert loop.closed
    assert seen == [wsabi.State.OPEN]
    assert pair.at_client.closed and pair.at_server.closed


def test_callbacks_of_closing_may_command():
    loop = wsabi.Loop()
    caught = []

    def on_close(ws, code, reason):
        for call in (lambda: ws.send("x"), ws.close, lambda: serve(loop), loop.dispatch):
            try:
                call()
            except wsabi.WebSocketError as error:
                caught.append(type(error).__name__)
            else:
                caught.append(None)

    Pair(loop, {"on_close": on_close})
    loop.close()
    # close() of what is closed is no error; the others are.
    assert caught == ["ConnectionClosed", None, "ConnectionClosed", "InvalidState"]


def test_dispatch_after_close_inside_a_callback():
    loop = wsabi.Loop()
    caught = []

    def inside(ws, data):
        loop.close()
        for call in (loop.dispatch, lambda: loop.poll(0), loop.run_forever, loop.close):
            try:
                call()
            except wsabi.InvalidState:
                caught.append("refused")
        caught.append(loop.closed)
        caught.append(ws.send("still here"))

    pair = Pair(loop, {"on_message": inside})
    pair.client.send("x")
    pair.drive(lambda: caught)
    assert caught == ["refused", "refused", "refused", False, True]
    assert loop.closed and pair.at_client.closed and pair.at_server.closed


def test_posted_calls_are_dropped_with_the_loop(collected):
    class Thing:
        pass

    loop = wsabi.Loop()
    thing = Thing()
    gone = weakref.ref(thing)
    loop.call_soon_threadsafe(print, thing)
    del thing
    loop.close()
    gc.collect()
    assert gone() is None
