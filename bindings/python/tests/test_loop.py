"""The loop: its descriptor, waiting, running, stopping, closing, posted calls and counts."""
import os
import select
import selectors
import threading
import time

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


def test_timeout_is_at_most_the_next_deadline(loop):
    assert loop.timeout() is None
    pair = Pair(loop, {"ping_interval": None, "idle_timeout": 50}, {"ping_interval": None})
    assert 0 < loop.timeout() <= 50
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


# --- a host of one's own -----------------------------------------------------------------------------


class Host:
    """What `set_host` takes, with its calls counted."""

    def __init__(self, takes=True):
        self.scheduled, self.released, self.takes = 0, 0, takes

    def schedule(self):
        self.scheduled += 1
        return self.takes

    def release(self):
        self.released += 1


def test_a_host_is_asked_for_a_flush_once_a_tick(loop):
    pair = Pair(loop)
    host = Host()
    loop.set_host(host)
    for tick in range(1, 4):
        pair.client.send("x")
        pair.remote.send("x")
        assert host.scheduled == tick and pair.client.buffered_amount > 0
        loop.flush()
        assert pair.client.buffered_amount == pair.remote.buffered_amount == 0
    pair.client.send("y")
    assert host.scheduled == 4
    pair.drive(lambda: pair.at_server.messages[-1:] == ["y"])
    pair.client.send("z")
    assert host.scheduled == 5, "a dispatch writes too, and ends the tick"
    assert host.released == 0
    loop.set_host(None)
    pair.client.send("directly")
    assert host.scheduled == 5 and pair.client.buffered_amount == 0


def test_a_host_that_will_not_flush_has_it_written_at_once(loop):
    pair = Pair(loop)
    host = Host(takes=False)
    loop.set_host(host)
    for turn in range(1, 4):
        pair.client.send("x")
        assert host.scheduled == turn and pair.client.buffered_amount == 0


def test_a_host_is_not_asked_inside_of_callbacks(loop):
    host = Host()
    pair = Pair(loop, {"on_message": lambda ws, data: ws.send(data)})
    loop.set_host(host)
    pair.client.send("x")
    assert host.scheduled == 1
    pair.drive(lambda: pair.at_client.messages == ["x"])
    assert host.scheduled == 1


def test_a_host_is_released_when_the_loop_closes():
    loop, host = wsabi.Loop(), Host()
    loop.set_host(host)
    with pytest.raises(wsabi.InvalidState, match="asyncio|host"):
        loop.run_forever()
    loop.close()
    assert host.released == 1


def test_an_exception_of_the_host_comes_out_of_the_send(loop):
    class Failing(Host):
        def schedule(self):
            raise LookupError("host")

    pair = Pair(loop)
    loop.set_host(Failing())
    with pytest.raises(LookupError):
        pair.client.send("x")
    loop.set_host(None)
    pair.client.send("y")
    pair.drive(lambda: pair.at_server.messages[-1:] == ["y"])
