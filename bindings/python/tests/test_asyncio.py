"""Inside asyncio and uvloop: hosting, ticks, exceptions, ends; no threads and no idle wake-ups."""
import asyncio
import gc
import threading
import weakref

import pytest
import uvloop

import wsabi
from support import DEADLINE, Notes, serve, url
from wsabi import _loops


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request):
    """Runs a coroutine function in a new event loop of each kind."""
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def run(main):
        loop = factory()
        try:
            return loop.run_until_complete(asyncio.wait_for(main(), DEADLINE))
        finally:
            ours = _loops._of_asyncio.get(loop)
            if ours is not None:
                ours.close()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
    return run


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


async def echo_pair(**options):
    """A server that sends all back, and an open client, whose messages go into a queue."""
    server = wsabi.serve("127.0.0.1", 0, on_message=lambda ws, data: ws.send(data), **options)
    queue = asyncio.Queue()
    opened = asyncio.get_running_loop().create_future()
    client = wsabi.connect(url(server), on_open=opened.set_result,
                           on_message=lambda ws, data: queue.put_nowait(data))
    assert await opened is client
    return server, client, queue


def test_connect_and_serve_use_the_running_loop(run):
    async def main():
        server, client, queue = await echo_pair()
        assert client.loop is server.loop
        assert _loops._of_asyncio[asyncio.get_running_loop()] is client.loop
        client.send("hello")
        assert await queue.get() == "hello"
        assert threading.active_count() == 1
        client.close(4000, "bye")
        await until(lambda: client.close_code)
        assert client.close_code == 4000
        server.stop()
        await until(lambda: server.stopped)

    run(main)


def test_the_loop_may_be_given(run):
    async def main():
        running = asyncio.get_running_loop()
        server = wsabi.serve("127.0.0.1", 0, loop=running)
        client = wsabi.connect(url(server), loop=running)
        assert server.loop is client.loop is _loops._of_asyncio[running]
        await until(lambda: client.state == wsabi.State.OPEN)

    run(main)


def test_a_loop_of_its_own_is_left_alone(run):
    async def main():
        with wsabi.Loop() as own:
            server = serve(own)
            assert server.loop is own
            await asyncio.sleep(0.01)
            own.dispatch()
        assert asyncio.get_running_loop() not in _loops._of_asyncio

    run(main)


def test_something_else_runs_side_by_side(run):
    async def main():
        server, client, queue = await echo_pair()
        ticks = []

        async def ticker():
            while True:
                ticks.append(1)
                await asyncio.sleep(0)

        task = asyncio.create_task(ticker())
        for number in range(50):
            client.send(str(number))
            assert await queue.get() == str(number)
        task.cancel()
        assert len(ticks) > 50

    run(main)


def test_what_is_sent_in_a_tick_is_written_at_its_end(run):
    async def main():
        server, client, queue = await echo_pair()
        sent = client.loop.stats().bytes_sent
        for number in range(10):
            client.send(str(number))
        assert client.buffered_amount > 0 and client.loop.stats().bytes_sent == sent
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert client.buffered_amount == 0 and client.loop.stats().bytes_sent > sent
        assert [await queue.get() for _ in range(10)] == [str(number) for number in range(10)]

    run(main)


def test_one_flush_is_scheduled_for_a_tick(run):
    async def main():
        server, client, queue = await echo_pair()
        running = asyncio.get_running_loop()
        host = client.loop
        scheduled = []

        class Host:
            def schedule(self):
                scheduled.append(1)
                running.call_soon(host.flush)
                return True

            def release(self):
                pass

        running.remove_reader(host.fileno())
        host.set_host(Host())
        running.add_reader(host.fileno(), host.dispatch)
        for number in range(10):
            client.send(str(number))
        assert len(scheduled) == 1
        assert [await queue.get() for _ in range(10)]
        client.send("again")
        assert len(scheduled) == 2
        assert await queue.get() == "again"
        running.remove_reader(host.fileno())

    run(main)


@pytest.mark.parametrize("action", ["flush", "ping", "close", "terminate", "resume"])
def test_other_commands_outside_of_callbacks_are_written_too(run, action):
    async def main():
        notes = Notes()
        server = wsabi.serve("127.0.0.1", 0, **notes.callbacks())
        client = wsabi.connect(url(server))
        await until(lambda: client.state == wsabi.State.OPEN and notes)
        if action == "resume":
            server.connections[0].pause()
            client.send("x")
            await asyncio.sleep(0.01)
            assert notes.messages == []
            server.connections[0].resume()
            await until(lambda: notes.messages)
        elif action == "flush":
            client.send("x")
            client.flush()
            assert client.buffered_amount == 0
            await until(lambda: notes.messages)
        else:
            getattr(client, action)()
            await until(lambda: notes.count({"ping": "on_ping"}.get(action, "on_close")))

    run(main)


def test_a_send_in_a_callback_of_asyncio(run):
    async def main():
        server, client, queue = await echo_pair()
        asyncio.get_running_loop().call_later(0.01, client.send, "later")
        assert await queue.get() == "later"

    run(main)


def test_a_quiet_second_has_no_dispatch(run):
    async def main():
        server, client, queue = await echo_pair()
        client.send("x")
        await queue.get()
        await asyncio.sleep(0.05)
        running = asyncio.get_running_loop()
        count = 0
        dispatch = client.loop.dispatch

        def counting():
            nonlocal count
            count += 1
            dispatch()

        running.remove_reader(client.loop.fileno())
        running.add_reader(client.loop.fileno(), counting)
        await asyncio.sleep(1)
        assert count == 0
        client.send("y")
        assert await queue.get() == "y"
        assert 0 < count < 10

    run(main)


def test_timers_run(run):
    async def main():
        notes = Notes()
        server = wsabi.serve("127.0.0.1", 0, idle_timeout=0.05, **notes.callbacks())
        client = wsabi.connect(url(server))
        await until(lambda: client.close_code)
        assert client.close_code == 1011

    run(main)


def test_other_threads_wake_the_loop(run):
    async def main():
        server, client, queue = await echo_pair()
        thread = threading.Thread(target=client.send, args=("from a thread",))
        thread.start()
        assert await queue.get() == "from a thread"
        thread.join()
        future = asyncio.get_running_loop().create_future()
        thread = threading.Thread(target=client.loop.call_soon_threadsafe,
                                  args=(future.set_result, 5))
        thread.start()
        assert await future == 5
        thread.join()

    run(main)


def test_a_held_request_is_answered_by_a_task(run):
    async def main():
        tasks = []

        async def decide(request):
            await asyncio.sleep(0.01)
            request.accept(headers={"X-User": "somebody"})

        def on_upgrade(request):
            tasks.append(asyncio.create_task(decide(request)))
            return wsabi.LATER

        server = wsabi.serve("127.0.0.1", 0, on_upgrade=on_upgrade)
        seen = []
        wsabi.connect(url(server), on_open=lambda ws: seen.append(ws.response.headers["X-User"]))
        await until(lambda: seen)
        assert seen == ["somebody"]
        await tasks[0]

    run(main)


@pytest.mark.parametrize("call", [
    lambda ws: wsabi.run_forever(), lambda ws: ws.loop.run_forever()], ids=["module", "loop"])
def test_run_forever_is_refused(run, call):
    async def main():
        server, client, queue = await echo_pair()
        with pytest.raises(wsabi.InvalidState, match="asyncio"):
            call(client)
        client.send("fine")
        assert await queue.get() == "fine"

    run(main)


def test_an_exception_in_a_callback_is_no_business_of_asyncio(run, log):
    async def main():
        asyncio.get_running_loop().set_exception_handler(
            lambda loop, context: pytest.fail(str(context)))
        server = wsabi.serve("127.0.0.1", 0, on_message=lambda ws, data: 1 / 0)
        client = wsabi.connect(url(server), on_open=lambda ws: ws.send("x"))
        await until(lambda: client.close_code)
        assert client.close_code == 1011

    run(main)
    assert [record.exc_info[0] for record in log.take() if record.levelname == "ERROR"] == [
        ZeroDivisionError]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_what_ends_programs_comes_out_of_the_run(run, error):
    async def main():
        def on_message(ws, data):
            raise error("out")

        server = wsabi.serve("127.0.0.1", 0, on_message=on_message)
        wsabi.connect(url(server), on_open=lambda ws: ws.send("x"))
        await asyncio.sleep(DEADLINE)

    with pytest.raises(error, match="out"):
        run(main)


def test_a_callback_may_start_tasks(run):
    async def main():
        tasks, done = [], asyncio.Event()

        async def answer(ws, data):
            await asyncio.sleep(0.01)
            ws.send(data[::-1])

        server = wsabi.serve("127.0.0.1", 0, on_message=lambda ws, data: tasks.append(
            asyncio.create_task(answer(ws, data))))
        got = []
        wsabi.connect(url(server), on_open=lambda ws: ws.send("abc"),
                      on_message=lambda ws, data: (got.append(data), done.set()))
        await done.wait()
        assert got == ["cba"]
        await tasks[0]

    run(main)


def test_closing_our_loop_while_hosted(run):
    async def main():
        server, client, queue = await echo_pair()
        ours = client.loop
        fd = ours.fileno()
        client.send("never mind")
        ours.close()
        assert client.close_code == 1006 and server.stopped
        await asyncio.sleep(0.01)
        assert not asyncio.get_running_loop().remove_reader(fd), "it is not watched any more"
        server, client, queue = await echo_pair()
        assert client.loop is not ours
        client.send("anew")
        assert await queue.get() == "anew"

    run(main)


def test_closing_our_loop_in_a_callback(run):
    async def main():
        server = wsabi.serve("127.0.0.1", 0, on_message=lambda ws, data: ws.loop.close())
        client = wsabi.connect(url(server), on_open=lambda ws: ws.send("x"))
        await until(lambda: client.close_code)
        assert client.loop.closed
        await asyncio.sleep(0.01)

    run(main)


def test_several_loops_after_one_another(run):
    async def main():
        server, client, queue = await echo_pair()
        client.send("x")
        return await queue.get()

    for _ in range(5):
        assert run(main) == "x"


def test_loops_in_threads(run):
    async def main():
        server, client, queue = await echo_pair()
        for number in range(20):
            client.send(str(number))
            assert await queue.get() == str(number)
        return True

    results = []
    threads = [threading.Thread(target=lambda: results.append(run(main))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert results == [True] * 3


def test_an_ended_asyncio_loop_lets_go(collected):
    """Connections that are open when asyncio.run ends go with its loop."""
    kept = []

    async def main():
        server, client, queue = await echo_pair()
        kept.extend([weakref.ref(client), weakref.ref(client.loop), weakref.ref(server)])
        client.send("x")
        await queue.get()

    before = len(_loops._of_asyncio)
    asyncio.run(main())
    gc.collect()
    gc.collect()
    assert [ref() for ref in kept] == [None] * 3
    assert len(_loops._of_asyncio) == before


def test_a_connection_kept_beyond_its_asyncio_loop():
    kept = []

    async def main():
        kept.extend(await echo_pair())

    asyncio.run(main())
    server, client, _ = kept
    gc.collect()
    # Nobody drives it any more; it can still be used by hand, and closed.
    assert client.state == wsabi.State.OPEN
    client.send("x")
    assert client.buffered_amount == 0, "there is no tick to wait for"
    client.loop.close()
    assert client.state == wsabi.State.CLOSED and server.stopped


def test_cancelling_a_task_in_a_callback(run):
    async def main():
        async def sleeper():
            await asyncio.sleep(DEADLINE)

        task = asyncio.create_task(sleeper())
        server = wsabi.serve("127.0.0.1", 0, on_message=lambda ws, data: task.cancel())
        wsabi.connect(url(server), on_open=lambda ws: ws.send("x"))
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main)


def test_much_both_ways(run):
    async def main():
        server, client, queue = await echo_pair()
        data = bytes(range(256)) * 16384
        for _ in range(4):
            client.send(data)
        for _ in range(4):
            assert await queue.get() == data

    run(main)


def test_what_is_no_event_loop_is_refused():
    for bad in (5, "asyncio", object(), asyncio):
        with pytest.raises(TypeError, match="loop must be"):
            wsabi.connect("ws://127.0.0.1:9/", loop=bad)


def test_a_given_asyncio_loop_that_does_not_run_yet():
    loop = asyncio.new_event_loop()
    server = wsabi.serve("127.0.0.1", 0, loop=loop)
    opened = loop.create_future()
    wsabi.connect(url(server), loop=loop, on_open=opened.set_result)
    loop.run_until_complete(asyncio.wait_for(opened, DEADLINE))
    server.loop.close()
    loop.close()


def test_a_closed_asyncio_loop_is_refused():
    loop = asyncio.new_event_loop()
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        wsabi.serve("127.0.0.1", 0, loop=loop)
    gc.collect()
