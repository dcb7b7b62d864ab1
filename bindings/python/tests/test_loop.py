"""The loop: its descriptor, waiting, running, stopping, closing, posted calls and counts."""
import gc
import os
import select
import selectors
import threading
import time
import weakref

import pytest

import frames
import wsabi
from support import Notes, Pair, RawClient, drive, serve, url


def readable(loop, seconds=0):
    return bool(select.select([loop.fileno()], [], [], seconds)[0])


# --- the descriptor ------------------------------------------------------------------------


def test_the_descriptor_is_the_same_all_the_time(loop):
    fd = loop.fileno()
    assert isinstance(fd, int) and fd > 2
    Pair(loop)
    assert loop.fileno() == fd
    assert not os.get_inheritable(fd)


def test_the_descriptor_is_quiet_when_there_is_nothing_to_do(loop):
    pair = Pair(loop)
    pair.settle()
    assert not readable(loop, 0.1)


def test_the_descriptor_tells_of_what_came(loop):
    pair = Pair(loop)
    pair.settle()
    pair.client.send("hello")
    assert readable(loop, 20)
    loop.dispatch()
    assert pair.at_server.messages == ["hello"]


def test_the_descriptor_tells_of_deadlines(loop):
    notes = Notes()
    server = serve(loop, handshake_timeout=0.05, **notes.callbacks())
    with RawClient(loop, server) as raw:
        drive(loop, lambda: loop.stats().pending_handshakes)
        assert readable(loop, 20)
        drive(loop, lambda: notes.errors, raw)


def test_the_descriptor_tells_of_other_threads(loop):
    called = []
    thread = threading.Thread(target=loop.call_soon_threadsafe, args=(called.append, 1))
    thread.start()
    assert readable(loop, 20)
    thread.join()
    loop.dispatch()
    assert called == [1]
    assert not readable(loop)


@pytest.mark.parametrize("kind", ["SelectSelector", "PollSelector", "EpollSelector"])
def test_any_selector_can_be_the_host(kind):
    with wsabi.Loop() as loop, getattr(selectors, kind)() as selector:
        selector.register(loop, selectors.EVENT_READ)  # by its fileno()
        notes = Notes()
        server = serve(loop, on_message=lambda ws, data: ws.send(data))
        ws = wsabi.connect(url(server), loop=loop, on_open=lambda ws: ws.send("hello"),
                           **notes.callbacks("on_message", "on_close"))
        end = time.monotonic() + 30
        while not notes.closed:
            assert time.monotonic() < end
            if selector.select(1):
                loop.dispatch()
            if notes.messages and ws.state == wsabi.State.OPEN:
                ws.close()
        assert notes.messages == ["hello"]


def test_a_quiet_second_wakes_nobody(loop):
    pair = Pair(loop)
    pair.settle()
    assert not readable(loop, 1.0)


# --- waiting -------------------------------------------------------------------------------


def test_poll_without_time_does_not_wait(loop):
    serve(loop)
    start = time.monotonic()
    assert loop.poll(0) is False
    assert loop.poll(0.0) is False
    assert time.monotonic() - start < 10


def test_poll_waits_as_long_as_it_is_told(loop):
    serve(loop)
    start = time.monotonic()
    loop.poll(0.05)
    assert time.monotonic() - start >= 0.045


def test_poll_ends_when_something_came(loop):
    pair = Pair(loop)
    pair.client.send("hello")
    while not pair.at_server.messages:
        loop.poll(20)
    pair.settle()


def test_poll_without_end_is_ended_by_another_thread(loop):
    serve(loop)
    called = []
    timer = threading.Timer(0.05, lambda: loop.call_soon_threadsafe(called.append, 1))
    timer.start()
    while not called:
        loop.poll(None)
    timer.join()


@pytest.mark.parametrize("bad, error", [
    ("1", TypeError), (b"1", TypeError), ([], TypeError), (True, TypeError),
    (-1, wsabi.InvalidArgument), (float("nan"), wsabi.InvalidArgument),
    (-0.5, wsabi.InvalidArgument)], ids=repr)
def test_poll_refuses_what_is_no_time(loop, bad, error):
    with pytest.raises(error, match="timeout"):
        loop.poll(bad)


def test_poll_takes_a_time_beyond_all_measure(loop):
    loop.call_soon_threadsafe(int)
    loop.poll(1e12)  # the call ends it


def test_timeout_tells_the_next_deadline(loop):
    assert loop.timeout() is None
    pair = Pair(loop, {"ping_interval": None, "idle_timeout": 50}, {"ping_interval": None})
    assert 40 < loop.timeout() <= 50
    loop.call_soon_threadsafe(int)
    assert loop.timeout() == 0
    loop.dispatch()
    assert loop.timeout() > 0
    pair.client.terminate()


# --- running ---------------------------------------------------------------------------------


def test_run_forever_with_nothing_to_run_returns(loop):
    loop.run_forever()
    loop.run_forever()


def test_run_forever_returns_when_nothing_is_left(loop):
    notes = Notes()
    server = serve(loop, on_message=lambda ws, data: ws.send(data),
                   on_close=lambda ws, code, reason: server.stop())
    wsabi.connect(url(server), loop=loop, on_open=lambda ws: ws.send("x"),
                  **{**notes.callbacks("on_close"), "on_message": lambda ws, data: ws.close()})
    loop.run_forever()
    assert notes.closed
    assert server.stopped == (1, 0, 0) or server.stopped.forced == 0


def test_stop_ends_run_forever_and_leaves_connections_alone(loop):
    pair = Pair(loop)
    pair.client.send("1")
    pair.remote.on_message = lambda ws, data: loop.stop()
    loop.run_forever()
    assert pair.client.state == pair.remote.state == wsabi.State.OPEN
    pair.remote.on_message = lambda ws, data: ws.send(data)
    pair.client.send("2")
    pair.drive(lambda: pair.at_client.messages == ["2"])


def test_stop_before_run_forever_ends_it_at_once(loop):
    serve(loop)
    loop.stop()
    loop.run_forever()


def test_stop_from_another_thread(loop):
    serve(loop)
    timer = threading.Timer(0.05, loop.stop)
    timer.start()
    loop.run_forever()
    timer.join()


def test_a_posted_call_keeps_run_forever_running(loop):
    called = []

    def call(left):
        called.append(left)
        if left:
            loop.call_soon_threadsafe(call, left - 1)

    loop.call_soon_threadsafe(call, 3)
    loop.run_forever()
    assert called == [3, 2, 1, 0]


def test_the_default_loop_is_one_per_thread(default):
    assert wsabi.default_loop() is default
    others = []
    thread = threading.Thread(target=lambda: others.append(wsabi.default_loop()))
    thread.start()
    thread.join()
    assert others[0] is not default


def test_a_closed_default_loop_is_replaced(default):
    default.close()
    fresh = wsabi.default_loop()
    assert fresh is not default and not fresh.closed
    fresh.close()


def test_module_functions_use_the_default_loop(default):
    server = wsabi.serve("127.0.0.1", 0, on_open=lambda ws: wsabi.stop())
    ws = wsabi.connect(url(server))
    assert server.loop is ws.loop is default
    wsabi.run_forever()
    assert ws.state in (wsabi.State.OPEN, wsabi.State.CONNECTING)


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


# --- counts ------------------------------------------------------------------------------------------


def test_stats_count(loop):
    assert loop.stats() == wsabi.Stats(*[0] * 13)
    pair = Pair(loop)
    pair.client.send("hello")
    pair.remote.send(b"12345678")
    pair.drive(lambda: pair.at_server.messages and pair.at_client.messages)
    stats = loop.stats()
    assert isinstance(stats, wsabi.Stats)
    assert (stats.connections, stats.messages_received, stats.messages_sent) == (2, 2, 2)
    assert stats.buffered_bytes == 0 and stats.pending_handshakes == 0
    assert stats.bytes_received == stats.bytes_sent > 200
    pair.client.close()
    pair.until_closed()
    assert (loop.stats().connections, loop.stats().closes_clean) == (0, 2)


@pytest.mark.parametrize("end, field", [
    ("terminate", "closes_local"), ("reset", "closes_lost"), ("protocol", "closes_protocol"),
    ("timeout", "closes_timeout"), ("handshake", "handshakes_failed")])
def test_stats_count_by_cause(loop, end, field):
    notes = Notes()
    server = serve(loop, idle_timeout=0.3 if end == "timeout" else None, **notes.callbacks())
    with RawClient(loop, server) as raw:
        if end == "handshake":
            raw.write(b"nonsense\r\n\r\n")
            raw.rest()
        else:
            raw.open()
            drive(loop, lambda: server.connections)
        if end == "terminate":
            server.connections[0].terminate()
        elif end == "reset":
            raw.reset()
        elif end == "protocol":
            raw.send(frames.TEXT, "unmasked", mask=False)
            raw.frame()
            raw.close()
        elif end == "timeout":
            raw.frame()
            raw.close()
        drive(loop, lambda: getattr(loop.stats(), field))
        assert getattr(loop.stats(), field) == 1
    notes.clear()


def test_flush_writes_at_once(loop):
    pair = Pair(loop)
    pair.client.send("x")
    loop.flush()
    assert pair.client.buffered_amount == 0


def test_repr_tells_the_state(loop):
    assert "Loop" in repr(loop)


def test_a_loop_takes_no_attributes_that_are_none(loop):
    with pytest.raises(AttributeError):
        loop.closed = True
