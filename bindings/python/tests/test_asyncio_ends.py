"""How things end inside asyncio and uvloop: exceptions, interrupts, closed and forgotten loops."""
import asyncio
import gc
import threading
import weakref

import pytest

import wsabi
from hosted import echo_pair, until
from support import DEADLINE, url
from wsabi import _loops


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
