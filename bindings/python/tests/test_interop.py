"""Against Python's `websockets`, in both directions, by threads and by asyncio."""
import asyncio
import threading

import pytest
import websockets.asyncio.client
import websockets.asyncio.server
import websockets.exceptions
import websockets.sync.client
import websockets.sync.server

import wsabi
from support import DEADLINE, Notes, drive, serve, url

MESSAGES = ["", "hello", "ä日😀", b"", b"\0\xff", "x" * 70000, b"y" * 200000]




def test_their_threaded_client_with_our_server(loop):
    server = serve(loop, on_message=lambda ws, data: ws.send(data), subprotocols=["chat"],
                   on_close=lambda ws, code, reason: loop.stop())
    result = []

    def client():
        with websockets.sync.client.connect(url(server), subprotocols=["chat"],
                                            compression=None) as ws:
            for message in MESSAGES:
                ws.send(message)
                result.append(ws.recv(DEADLINE))
            ws.send(["frag", "ment", "ed"])
            result.append(ws.recv(DEADLINE))
            assert ws.ping(b"latency").wait(DEADLINE)
            result.append(ws.subprotocol)
            ws.close(4000, "done")

    thread = threading.Thread(target=client)
    thread.start()
    loop.run_forever()
    thread.join(DEADLINE)
    assert result == [*MESSAGES, "fragmented", "chat"]


def test_our_client_with_their_threaded_server(loop):
    def handler(ws):
        for message in ws:
            ws.send(message)

    server = websockets.sync.server.serve(handler, "127.0.0.1", 0, compression=None)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        notes = Notes()
        port = server.socket.getsockname()[1]
        ws = wsabi.connect(f"ws://127.0.0.1:{port}/", loop=loop, **notes.callbacks())
        drive(loop, lambda: notes)
        for message in MESSAGES:
            ws.send(message)
        ws.send_fragment("frag", False)
        ws.send_fragment("mented", True)
        ws.ping(b"p")
        drive(loop, lambda: len(notes.messages) == len(MESSAGES) + 1 and notes.count("on_pong"))
        assert notes.messages == [*MESSAGES, "fragmented"]
        ws.close(1000, "done")
        drive(loop, lambda: notes.closed)
        assert ws.close_code == 1000 and ws.error is None
    finally:
        server.shutdown()
        thread.join(DEADLINE)


def test_their_asyncio_client_with_our_server():
    async def main():
        server = wsabi.serve("127.0.0.1", 0, on_message=lambda ws, data: ws.send(data))
        async with websockets.asyncio.client.connect(url(server)) as ws:
            for message in MESSAGES:
                await ws.send(message)
            got = [await ws.recv() for _ in MESSAGES]
            await (await ws.ping())
        assert ws.close_code == 1000
        server.loop.close()
        return got

    assert asyncio.run(asyncio.wait_for(main(), DEADLINE)) == MESSAGES


def test_our_client_with_their_asyncio_server():
    async def main():
        async def handler(ws):
            async for message in ws:
                await ws.send(message)

        async with websockets.asyncio.server.serve(handler, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            got = asyncio.Queue()
            ended = asyncio.Event()
            ws = wsabi.connect(f"ws://127.0.0.1:{port}/",
                               on_open=lambda ws: [ws.send(m) for m in MESSAGES],
                               on_message=lambda ws, data: got.put_nowait(data),
                               on_close=lambda ws, code, reason: ended.set())
            answers = [await got.get() for _ in MESSAGES]
            ws.close(1000, "done")
            await ended.wait()
            ws.loop.close()
            return answers, ws.close_code

    assert asyncio.run(asyncio.wait_for(main(), DEADLINE)) == (MESSAGES, 1000)


@pytest.mark.parametrize("status", [401, 404, 503])
def test_their_client_hears_our_refusal(loop, status):
    server = serve(loop, on_upgrade=lambda request: wsabi.Response(status, "sorry", {"X-Why": "a"}))
    result = []

    def client():
        try:
            websockets.sync.client.connect(url(server), proxy=None)
        except websockets.exceptions.InvalidStatus as error:
            result.append(error.response)
        loop.stop()

    thread = threading.Thread(target=client)
    thread.start()
    loop.run_forever()
    thread.join(DEADLINE)
    (response,) = result
    assert (response.status_code, response.body, response.headers["X-Why"]) == (
        status, b"sorry", "a")


def test_our_close_codes_reach_them(loop):
    server = serve(loop, on_message=lambda ws, data: ws.close(4123, "ä reason"),
                   on_close=lambda ws, code, reason: loop.stop())
    result = []

    def client():
        with websockets.sync.client.connect(url(server), proxy=None) as ws:
            ws.send("x")
            try:
                ws.recv(DEADLINE)
            except websockets.exceptions.ConnectionClosed as error:
                result.append((error.rcvd.code, error.rcvd.reason))

    thread = threading.Thread(target=client)
    thread.start()
    loop.run_forever()
    thread.join(DEADLINE)
    assert result == [(4123, "ä reason")]


def test_one_server_many_of_their_clients(loop):
    ended = []
    server = serve(loop, on_message=lambda ws, data: ws.send(data),
                   on_close=lambda ws, code, reason: (ended.append(code),
                                                      len(ended) == 8 and loop.stop()))
    results = []

    def client(number):
        with websockets.sync.client.connect(url(server), proxy=None) as ws:
            for turn in range(20):
                ws.send(f"{number}.{turn}")
                results.append(ws.recv(DEADLINE) == f"{number}.{turn}")

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    loop.run_forever()
    for thread in threads:
        thread.join(DEADLINE)
    assert results == [True] * 160
    assert ended == [1000] * 8
