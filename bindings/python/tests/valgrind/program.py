"""A short life of the package, for valgrind to watch: a server and clients in one process, messages
of many sizes both ways, every way in which a connection ends, exceptions, other threads, the end of
the loop with everything open.

    program.py              that
    program.py PLANTED      something wrong on purpose, inside the native module

Does not know: who watches. A plain assertion fails it.
"""
import asyncio
import ctypes
import gc
import logging
import sys
import threading
import time

import wsabi

DEADLINE = 60.0
SIZES = [0, 1, 125, 126, 4000, 65535, 65536, 300_000]


def until(loop, condition):
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, "nothing came of it"
        loop.poll(0.05)


def echo_server(loop, **options):
    """Sends everything back, as it came."""
    return wsabi.serve("127.0.0.1", loop=loop, on_message=lambda ws, data: ws.send(data), **options)


def opened(loop, server, **options):
    come = []
    ws = wsabi.connect(server.url, loop=loop, on_open=come.append, **options)
    until(loop, lambda: come)
    return ws


def messages():
    """Text and binary of every size, whole and in fragments, from three kinds of buffers."""
    loop, come = wsabi.Loop(), []
    server = echo_server(loop)
    ws = opened(loop, server, on_message=lambda ws, data: come.append(data))
    sent = []
    for size in SIZES:
        sent += ["ä" * (size // 2), bytes(range(256)) * (size // 256)]
        ws.send(sent[-2])
        ws.send(bytearray(sent[-1]) if size % 2 else memoryview(sent[-1]))
    fragments = ["eins ", "zwei ", "drei"]
    for index, fragment in enumerate(fragments):
        ws.send_fragment(fragment, fin=index == 2)
    sent.append("".join(fragments))
    until(loop, lambda: len(come) == len(sent))
    assert come == sent
    pongs = []
    ws.on_pong = lambda ws, data: pongs.append(data)
    ws.ping(b"payload")
    ws.pong(b"unasked")
    until(loop, lambda: pongs)
    loop.close()


def ends():
    """Close from either side, terminate from either side, a server that stops."""
    loop, closes = wsabi.Loop(), []
    at_server = []
    server = echo_server(loop, on_open=at_server.append,
                         on_close=lambda ws, code, reason: closes.append(code))
    note = {"on_close": lambda ws, code, reason: closes.append(code)}
    opened(loop, server, **note).close(4001, "grüße")
    until(loop, lambda: len(closes) == 2)
    opened(loop, server, **note)
    at_server[-1].close()
    until(loop, lambda: len(closes) == 4)
    opened(loop, server, **note).terminate()
    until(loop, lambda: len(closes) == 6)
    opened(loop, server, **note)
    at_server[-1].terminate()
    until(loop, lambda: len(closes) == 8)
    opened(loop, server, **note)
    server.stop()
    until(loop, lambda: server.stopped is not None and len(closes) == 10)
    assert closes[:4] == [4001, 4001, 1000, 1000] and closes[8:] == [1001, 1001]
    loop.close()


def exceptions():
    """In a callback of a server and of a client, with a handler and with the logger; one that
    leaves the loop."""
    loop, errors, closes = wsabi.Loop(), [], []

    def fail(ws, data):
        raise ValueError(data)

    server = wsabi.serve("127.0.0.1", loop=loop, on_message=fail,
                         on_error=lambda ws, error: errors.append(error))
    ws = opened(loop, server, on_close=lambda ws, code, reason: closes.append(code))
    ws.send("at the server")
    until(loop, lambda: closes)
    assert closes == [1011] and str(errors[0]) == "at the server"
    server.stop(0)
    server = echo_server(loop)
    ws = opened(loop, server, on_message=fail, on_close=lambda ws, code, reason: closes.append(code))
    ws.send("at the client")
    until(loop, lambda: len(closes) == 2)

    def leave(ws, data):
        raise SystemExit("out")

    opened(loop, server, on_message=leave).send("x")
    try:
        until(loop, lambda: False)
    except SystemExit as out:
        assert str(out) == "out"
    ws = opened(loop, server)
    for wrong in (lambda: ws.send(1), lambda: ws.close(1005), lambda: ws.ping(b"x" * 126),
                  lambda: wsabi.connect("ftp://x", loop=loop),
                  lambda: wsabi.connect("ws://x", loop=loop, headers=[("a\n", "b")])):
        try:
            wrong()
        except (TypeError, wsabi.WebSocketError):
            continue
        raise AssertionError("it was not refused")
    loop.close()


def requests():
    """Headers and subprotocols, a refusal, an answer that comes later, plain HTTP."""
    loop, later, opens, closes = wsabi.Loop(), [], [], []

    def on_upgrade(request):
        if request.path == "/later":
            later.append(request)
            return wsabi.LATER
        if request.path == "/no":
            return wsabi.Response(403, "no", headers={"X-Why": "so"})
        return wsabi.Accept(subprotocol="chat", headers={"X-Seen": request.headers["X-Mine"]})

    server = wsabi.serve("127.0.0.1", loop=loop, on_upgrade=on_upgrade, subprotocols=["chat"])
    note = {"loop": loop, "on_open": opens.append, "subprotocols": ["chat"],
            "headers": {"X-Mine": "ä" * 100},
            "on_close": lambda ws, code, reason: closes.append(code), "on_error": lambda ws, error: None}
    for path in ("/yes", "/no", "/later"):
        wsabi.connect(server.url + path, **note)
    until(loop, lambda: later and closes)
    later[0].accept()
    until(loop, lambda: len(opens) == 2)
    loop.close()


def threads():
    """Calls from another thread, some of which come after the end."""
    loop, come = wsabi.Loop(), []
    server = echo_server(loop)
    ws = opened(loop, server, on_message=lambda ws, data: come.append(data))
    made = []

    def elsewhere():
        for number in range(200):
            ws.send(f"{number}")
            if number % 10 == 0:
                loop.call_soon_threadsafe(made.append, number)
        loop.stop()

    thread = threading.Thread(target=elsewhere)
    thread.start()
    until(loop, lambda: len(come) == 200 and len(made) == 20)
    thread.join()
    loop.call_soon_threadsafe(made.append, "never")
    loop.close()
    assert len(made) == 20


def loops_that_are_dropped():
    """Nobody closes them: connections, backlog and requests are open, and refer to one another."""
    for _ in range(3):
        loop = wsabi.Loop()
        server = wsabi.serve("127.0.0.1", loop=loop, on_upgrade=lambda request: wsabi.LATER)
        other = echo_server(loop)
        ws = opened(loop, other)
        ws.pause()
        ws.mine = ws, loop, server
        wsabi.connect(server.url, loop=loop)
        ws.send(b"x" * 5_000_000)
        loop.poll(0.01)
        del loop, server, other, ws
        gc.collect()


def in_asyncio():
    async def main():
        done = asyncio.get_running_loop().create_future()
        server = echo_server(None)
        ws = wsabi.connect(server.url, on_open=lambda ws: ws.send("x" * 100_000),
                           on_message=lambda ws, data: done.set_result(len(data)))
        assert await asyncio.wait_for(done, DEADLINE) == 100_000
        ws.close()

    asyncio.run(main())


def use_after_free():
    """A buffer whose memory was freed, given to `send`."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    loop = wsabi.Loop()
    ws = opened(loop, echo_server(loop))
    memory = libc.malloc(1000)
    data = (ctypes.c_char * 1000).from_address(memory)
    libc.free(ctypes.c_void_p(memory))
    ws.send(memoryview(data))
    loop.close()


def leak():
    """A message of the native module's making that nobody gives back."""
    loop, come = wsabi.Loop(), []

    def keep(ws, data):
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(data))
        come.append(len(data))

    ws = opened(loop, echo_server(loop), on_message=keep)
    ws.send(b"x" * 1234)
    until(loop, lambda: come)
    loop.close()


LIFE = [messages, ends, exceptions, requests, threads, loops_that_are_dropped, in_asyncio]
PLANTED = {"use-after-free": use_after_free, "leak": leak}


def main():
    # What the logger is told is part of it, but not of the output.
    logging.getLogger("wsabi").addHandler(logging.NullHandler())
    logging.getLogger("wsabi").propagate = False
    chosen = [PLANTED[sys.argv[1]]] if len(sys.argv) > 1 else LIFE
    for scene in chosen:
        scene()
        gc.collect()
        print(f"# {scene.__name__}", flush=True)


if __name__ == "__main__":
    main()
