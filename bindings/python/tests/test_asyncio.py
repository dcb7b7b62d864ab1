"""Inside asyncio and uvloop: hosting and ticks; no threads and no idle wake-ups."""
import asyncio
import threading

import pytest

import wsabi
from hosted import echo_pair, until
from support import DEADLINE, Notes, serve, url
from wsabi import _loops


def test_connect_and_serve_use_the_running_loop(run):
    async def main():
        server, client, queue = await echo_pair()
        assert client.loop is server.loop
        assert _loops.choose(None) is client.loop
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
        assert server.loop is client.loop is _loops.choose(None) is _loops.choose(running)
        await until(lambda: client.state == wsabi.State.OPEN)

    run(main)


def test_a_loop_of_its_own_is_left_alone(run):
    async def main():
        with wsabi.Loop() as own:
            server = serve(own)
            assert server.loop is own
            await asyncio.sleep(0.01)
            own.dispatch()
            assert not asyncio.get_running_loop().remove_reader(own.fileno()), "nobody watches it"

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
