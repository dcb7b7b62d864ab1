"""Other threads: what they may do, in which order, and how the rest is refused."""
import sys
import threading
import time

import pytest

import wsabi
from support import DEADLINE, Notes, Pair, RawClient, drive, serve, settle, url


def in_thread(call):
    """Calls it in another thread; what it returned, or the exception it raised."""
    result = []

    def run():
        try:
            result.append(call())
        except BaseException as error:
            result.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    return result[0]


@pytest.mark.parametrize("call, check", [
    (lambda ws: ws.send("x"), lambda notes: notes.messages == ["x"]),
    (lambda ws: ws.send(b"x"), lambda notes: notes.messages == [b"x"]),
    (lambda ws: ws.send(memoryview(b"x")), lambda notes: notes.messages == [b"x"]),
    (lambda ws: ws.send_text(b"x"), lambda notes: notes.messages == ["x"]),
    (lambda ws: ws.send_binary(b"x"), lambda notes: notes.messages == [b"x"]),
    (lambda ws: ws.send_fragment("x", False) and ws.send_fragment("y", True),
     lambda notes: notes.messages == ["xy"]),
    (lambda ws: ws.ping(b"p"), lambda notes: notes.named("on_ping") == [("on_ping", b"p")]),
    (lambda ws: ws.pong(b"p"), lambda notes: notes.named("on_pong") == [("on_pong", b"p")])],
    ids=["text", "bytes", "view", "send_text", "send_binary", "fragments", "ping", "pong"])
def test_sending_from_another_thread(loop, call, check):
    pair = Pair(loop)
    assert in_thread(lambda: call(pair.client)) is True
    pair.drive(lambda: check(pair.at_server))


def test_closing_from_another_thread(loop):
    pair = Pair(loop)
    assert in_thread(lambda: pair.client.close(4000, "elsewhere")) is None
    pair.until_closed()
    assert (pair.remote.close_code, pair.remote.close_reason) == (4000, "elsewhere")
    assert in_thread(pair.client.close) is None
    assert isinstance(in_thread(lambda: pair.client.send("x")), wsabi.ConnectionClosed)


def test_terminating_from_another_thread(loop):
    pair = Pair(loop)
    assert in_thread(pair.client.terminate) is None
    pair.until_closed()
    assert pair.client.error.kind == "TERMINATED"


def test_stopping_a_server_from_another_thread(loop):
    pair = Pair(loop)
    assert in_thread(lambda: pair.server.stop(grace=20)) is None
    loop.run_forever()
    assert pair.server.stopped == (1, 0, 0)
    assert in_thread(pair.server.stop) is None


@pytest.mark.parametrize("call", [
    lambda pair: pair.client.state, lambda pair: pair.client.buffered_amount,
    lambda pair: pair.client.subprotocol, lambda pair: pair.client.remote_address,
    lambda pair: pair.client.local_address, lambda pair: pair.client.pause(),
    lambda pair: pair.client.resume(), lambda pair: pair.client.flush(),
    lambda pair: pair.server.connections, lambda pair: pair.loop.dispatch(),
    lambda pair: pair.loop.poll(0), lambda pair: pair.loop.run_forever(),
    lambda pair: pair.loop.timeout(), lambda pair: pair.loop.flush(), lambda pair: pair.loop.stats(),
    lambda pair: pair.loop.close(), lambda pair: serve(pair.loop),
    lambda pair: wsabi.connect(url(pair.server), loop=pair.loop)],
    ids=["state", "buffered_amount", "subprotocol", "remote_address", "local_address", "pause",
         "resume", "flush", "connections", "dispatch", "poll", "run_forever", "timeout", "loop.flush",
         "stats", "close", "serve", "connect"])
def test_the_rest_is_of_the_loops_thread(loop, call):
    pair = Pair(loop)
    error = in_thread(lambda: call(pair))
    assert isinstance(error, wsabi.WrongThread) and isinstance(error, RuntimeError), error
    assert error.kind == "THREAD" and "thread" in str(error)
    pair.client.send("fine")
    pair.drive(lambda: pair.at_server.messages == ["fine"])


@pytest.mark.parametrize("name", ["id", "loop", "server", "url", "close_code", "close_reason", "error",
                                  "request", "response"])
def test_what_every_thread_may_look_at(loop, name):
    pair = Pair(loop)
    for ws in (pair.client, pair.remote):
        assert in_thread(lambda: getattr(ws, name)) == getattr(ws, name)


def test_repr_and_fileno_from_another_thread(loop):
    pair = Pair(loop)
    assert in_thread(loop.fileno) == loop.fileno()
    assert in_thread(lambda: pair.server.port) == pair.server.port
    assert isinstance(in_thread(lambda: repr(pair.client)), str), "for a logger, say"
    assert isinstance(in_thread(lambda: repr(pair.server)), str)
    assert isinstance(in_thread(lambda: repr(loop)), str)


def test_attributes_and_callbacks_from_another_thread(loop):
    pair = Pair(loop)
    got = []

    def assign():
        pair.client.mine = 1
        pair.client.on_message = lambda ws, data: got.append(data)

    assert in_thread(assign) is None
    pair.remote.send("x")
    pair.drive(lambda: got == ["x"])
    assert pair.client.mine == 1


def test_a_wrong_argument_is_told_to_the_thread_that_gave_it(loop):
    pair = Pair(loop)
    assert isinstance(in_thread(lambda: pair.client.send(5)), TypeError)
    assert isinstance(in_thread(lambda: pair.client.send_text(b"\xff")), wsabi.InvalidArgument)
    assert isinstance(in_thread(lambda: pair.client.ping(b"x" * 126)), wsabi.InvalidArgument)
    assert isinstance(in_thread(lambda: pair.client.close(1005)), wsabi.InvalidArgument)
    assert isinstance(in_thread(lambda: pair.server.stop(-1)), wsabi.InvalidArgument)


def test_each_threads_order_is_kept(loop):
    pair = Pair(loop)
    count, threads = 500, 4

    def send(name):
        for number in range(count):
            while True:
                try:
                    pair.client.send(f"{name} {number}")
                    break
                except wsabi.BufferFull:
                    time.sleep(0.001)

    workers = [threading.Thread(target=send, args=(name,)) for name in range(threads)]
    for worker in workers:
        worker.start()
    pair.drive(lambda: len(pair.at_server.messages) == count * threads)
    for worker in workers:
        worker.join()
    for name in range(threads):
        own = [m for m in pair.at_server.messages if m.startswith(f"{name} ")]
        assert own == [f"{name} {number}" for number in range(count)]


def test_sends_and_calls_of_one_thread_are_in_order(loop):
    pair = Pair(loop)
    seen = []

    def act():
        pair.client.send("1")
        loop.call_soon_threadsafe(lambda: seen.append(loop.stats().messages_sent))
        pair.client.send("2")
        loop.call_soon_threadsafe(lambda: seen.append(loop.stats().messages_sent))

    in_thread(act)
    pair.drive(lambda: len(seen) == 2)
    assert seen[1] == seen[0] + 1


def test_the_inbox_has_a_limit():
    with wsabi.Loop(max_inbox_bytes=10000) as loop:
        pair = Pair(loop)

        def fill():
            for number in range(10000):
                try:
                    pair.client.send(bytes(1000))
                except wsabi.BufferFull as error:
                    return number, error
            return None

        number, error = in_thread(fill)
        assert 5 <= number <= 10
        assert "max_inbox_bytes" in str(error) and "10000" in str(error)
        for call in (lambda: pair.client.ping(), lambda: loop.call_soon_threadsafe(int),
                     pair.client.close, pair.client.terminate, pair.server.stop):
            assert isinstance(in_thread(call), wsabi.BufferFull), "nothing is lost in silence"
        assert in_thread(loop.stop) is None, "which needs no room"
        pair.drive(lambda: len(pair.at_server.messages) == number)
        assert in_thread(lambda: pair.client.send("again")) is True
        pair.drive(lambda: pair.at_server.messages[-1] == "again")


def test_a_message_that_its_connection_cannot_take_is_logged_only(loop, log):
    kept = []
    server = serve(loop, on_open=kept.append, high_water_bytes=1000, low_water_bytes=0,
                   max_backlog_bytes=10000)
    raw = RawClient(loop, server, receive_buffer=4096)
    raw.open()
    raw.reading = False
    drive(loop, lambda: kept)
    kept[0].send(bytes(8 << 20))
    with pytest.raises(wsabi.BufferFull):
        kept[0].send(bytes(10000))
    assert in_thread(lambda: kept[0].send(bytes(10000))) is True
    settle(loop)
    assert kept[0].state == wsabi.State.OPEN


def test_a_loop_belongs_to_the_thread_of_its_first_dispatch():
    loop = wsabi.Loop()
    assert in_thread(loop.dispatch) is False
    for call in (loop.dispatch, loop.close, lambda: serve(loop)):
        with pytest.raises(wsabi.WrongThread):
            call()
    # Its thread is gone, so nobody can close it: collecting it does.


def test_looking_at_a_loop_does_not_bind_it():
    loop = wsabi.Loop()
    assert loop.timeout() is None and loop.stats().connections == 0
    assert in_thread(lambda: (loop.dispatch(), loop.close())) == (False, None)
    assert loop.closed


def test_a_loop_made_here_and_run_there():
    made = []

    def there():
        loop = wsabi.Loop()
        server = serve(loop, on_message=lambda ws, data: ws.send(data.upper()),
                       on_close=lambda ws, code, reason: server.stop())
        made.append(server)
        loop.run_forever()
        loop.close()
        return "ran"

    thread = threading.Thread(target=lambda: made.append(in_thread(there)))
    thread.start()
    end = time.monotonic() + DEADLINE
    while not made:
        assert time.monotonic() < end
        time.sleep(0.001)
    with wsabi.Loop() as loop:
        notes = Notes()
        wsabi.connect(url(made[0]), loop=loop, on_open=lambda ws: ws.send("x"),
                      on_message=lambda ws, data: (notes.append(data), ws.close()))
        loop.run_forever()
        assert notes == ["X"]
    thread.join(DEADLINE)
    assert made[1] == "ran"


def test_threads_have_default_loops_of_their_own(default):
    def there():
        server = wsabi.serve("127.0.0.1", 0, on_message=lambda ws, data: ws.send(data))
        got = []
        wsabi.connect(url(server), on_open=lambda ws: ws.send("x"),
                      on_message=lambda ws, data: (got.append(data), server.stop()))
        wsabi.run_forever()
        wsabi.default_loop().close()
        return got

    assert in_thread(there) == ["x"]
    assert default.stats().connections == 0


def test_stop_ends_a_run_in_another_thread():
    loops = []

    def there():
        with wsabi.Loop() as loop:
            serve(loop)
            loops.append(loop)
            loop.run_forever()

    threads = [threading.Thread(target=there) for _ in range(4)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + DEADLINE
    while len(loops) < 4:
        assert time.monotonic() < end
        time.sleep(0.001)
    for loop in loops:
        loop.stop()
    for thread in threads:
        thread.join(DEADLINE)
        assert not thread.is_alive()


def test_close_of_a_waiting_loop_from_another_thread_is_refused(loop):
    serve(loop)
    result = []
    thread = threading.Thread(target=lambda: (result.append(in_thread(loop.close)), loop.stop()))
    thread.start()
    loop.run_forever()
    thread.join()
    assert isinstance(result[0], wsabi.WrongThread)
    assert not loop.closed


# --- the interpreter's lock ----------------------------------------------------------------


def test_while_a_loop_waits_other_threads_run(loop):
    serve(loop)
    counted = []

    def count():
        for number in range(200000):
            if number % 1000 == 0:
                counted.append(number)
        loop.stop()

    thread = threading.Thread(target=count)
    thread.start()
    loop.run_forever()
    thread.join()
    assert len(counted) == 200


def test_a_busy_thread_does_not_starve_the_loop(loop):
    pair = Pair(loop, {"on_message": lambda ws, data: ws.send(data)})
    stop = threading.Event()

    def busy():
        while not stop.is_set():
            sum(range(1000))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for number in range(20):
            pair.client.send(str(number))
            pair.drive(lambda: len(pair.at_client.messages) == number + 1)
    finally:
        stop.set()
        thread.join()
    assert sys.getswitchinterval() < 1


@pytest.mark.parametrize("call", [lambda loop: loop.dispatch(), lambda loop: loop.poll(0)],
                         ids=["dispatch", "poll"])
def test_what_does_not_wait_keeps_the_interpreters_lock(loop, call):
    """Giving it away costs milliseconds where another thread is busy."""
    serve(loop)
    call(loop)
    before = sys.getswitchinterval()
    seen = []
    for _ in range(10):
        order, gate = [], threading.Lock()
        gate.acquire()

        def pass_the_gate(order=order, gate=gate):
            with gate:
                order.append("thread")

        thread = threading.Thread(target=pass_the_gate)
        sys.setswitchinterval(1000)
        try:
            thread.start()  # It keeps the lock until it stands at the gate.
            gate.release()
            end = time.monotonic() + 0.01  # It wakes up, and waits for the lock.
            while time.monotonic() < end:
                pass
            call(loop)
            seen += order
        finally:
            sys.setswitchinterval(before)
            thread.join()
    assert seen == []
