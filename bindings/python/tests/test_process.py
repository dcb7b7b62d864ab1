"""Processes: exits with everything open, forks, sub-interpreters, what is printed."""
import asyncio
import gc
import os
import sys
import weakref

import pytest

import wsabi
from support import Pair, drive, script, serve, url

OPENING = """
import gc, os, sys, threading, time
import wsabi

server = wsabi.serve("127.0.0.1", 0, on_message=lambda ws, data: ws.send(data))
loop = wsabi.default_loop()
url = f"ws://127.0.0.1:{server.port}/"
opened = []
ws = wsabi.connect(url, on_open=opened.append)
while not opened:
    loop.poll()
"""

FLAGS = [("-W", "error"), ("-X", "dev", "-W", "error"), ("-I",)]
flags = pytest.mark.parametrize("flags", FLAGS, ids=" ".join)


# --- exits ---------------------------------------------------------------------------------


@flags
@pytest.mark.parametrize("end", [
    "", "sys.exit(0)", "loop.close()", "del loop, ws, server, opened", "gc.disable()",
    "ws.send(bytes(8 << 20))", "loop.call_soon_threadsafe(print, 'never')",
    "ws.mine = ws; server.mine = server; loop_mine = [loop]",
    "loop.call_soon_threadsafe(sys.exit); wsabi.run_forever()",
    "wsabi.connect('ws://localhost:1/', on_error=lambda ws, error: None)"],
    ids=["plain", "exit", "close", "del", "no gc", "backlog", "posted", "cycles", "in a callback",
         "resolving"])
def test_an_exit_is_clean(flags, end):
    assert script(OPENING + end, flags=flags) == ""


@flags
def test_an_exit_with_a_subclass_and_a_destructor_is_clean(flags):
    out = script(OPENING + """
class Mine(wsabi.WebSocket):
    def on_message(self, data): pass
    def on_close(self, code, reason): print("never")
    def __del__(self): self.close(); self.terminate()
mine = wsabi.connect(url, factory=Mine)
while mine.state.name != "OPEN":
    loop.poll()
""", flags=flags)
    assert out == ""


@flags
def test_an_exit_with_a_daemon_thread_that_runs_a_loop_is_clean(flags):
    assert script("""
        import threading, time, wsabi
        ready = threading.Event()
        def there():
            with wsabi.Loop() as loop:
                wsabi.serve("127.0.0.1", 0, loop=loop)
                loop.call_soon_threadsafe(ready.set)
                loop.run_forever()
        threading.Thread(target=there, daemon=True).start()
        ready.wait(30)
        print("exiting")
    """, flags=flags) == "exiting\n"


@flags
def test_an_exit_with_threads_that_send_is_clean(flags):
    assert script(OPENING + """
def send():
    while True:
        try:
            ws.send("x")
        except wsabi.WebSocketError:
            time.sleep(0.0001)
for _ in range(4):
    threading.Thread(target=send, daemon=True).start()
for _ in range(100):
    loop.poll(0.001)
""", flags=flags) == ""


@flags
@pytest.mark.parametrize("runner", ["asyncio", "uvloop"])
def test_an_exit_inside_asyncio_is_clean(flags, runner):
    assert script(f"""
        import asyncio, {runner}, wsabi
        async def main():
            server = wsabi.serve("127.0.0.1", 0, on_message=lambda ws, data: ws.send(data))
            got = asyncio.get_running_loop().create_future()
            wsabi.connect(server.url, on_open=lambda ws: ws.send("x"),
                          on_message=lambda ws, data: got.set_result(data))
            print(await got)
        {runner}.run(main())
    """, flags=flags) == "x\n"


def test_an_exit_from_atexit_is_clean():
    assert script(OPENING + """
import atexit
def bye():
    server.stop(1)
    wsabi.run_forever()
    print("stopped", server.stopped.clean, ws.close_code)
atexit.register(bye)
""") == "stopped 1 1001\n"


def test_nothing_is_printed_in_normal_life():
    out = script(OPENING + """
import logging
ws.close()
other = wsabi.connect(url)
while other.state.name != "OPEN":
    loop.poll()
other.terminate()
import socket
raw = socket.create_connection(server.address)
raw.sendall(b"nonsense\\r\\n\\r\\n")
raw.close()
loop.poll(0.1)
server.stop()
wsabi.run_forever()
""")
    assert out == ""


def test_exceptions_are_printed_where_logging_is_not_set_up():
    with pytest.raises(AssertionError, match="ZeroDivisionError"):
        script(OPENING + """
ws.on_message = lambda ws, data: 1 / 0
ws.send("x")
while ws.close_code is None:
    loop.poll()
""")


# --- forks -----------------------------------------------------------------------------------


def in_child(act):
    """Runs `act` in a fork; what it returned, as text."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            text = str(act())
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"
        os.write(writer, text.encode())
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        text = pipe.read()
    assert os.waitpid(pid, 0)[1] == 0
    return text


needs_fork = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


@needs_fork
@pytest.mark.parametrize("call", [
    lambda pair: pair.loop.dispatch(), lambda pair: pair.loop.poll(0),
    lambda pair: pair.loop.run_forever(), lambda pair: pair.loop.stop(),
    lambda pair: pair.loop.flush(), lambda pair: pair.loop.call_soon_threadsafe(print),
    lambda pair: pair.client.send("x"), lambda pair: pair.client.ping(),
    lambda pair: pair.client.close(), lambda pair: pair.client.terminate(),
    lambda pair: pair.client.pause(), lambda pair: pair.server.stop(), lambda pair: serve(pair.loop),
    lambda pair: wsabi.connect("ws://127.0.0.1:9/", loop=pair.loop)],
    ids=["dispatch", "poll", "run_forever", "stop", "flush", "post", "send", "ping", "close",
         "terminate", "pause", "server.stop", "serve", "connect"])
def test_the_parents_objects_are_refused_in_a_child(loop, call):
    pair = Pair(loop)
    assert in_child(lambda: call(pair)).startswith("Forked: ")
    pair.client.send("the parent goes on")
    pair.drive(lambda: pair.at_server.messages == ["the parent goes on"])


@needs_fork
def test_a_child_may_look_and_close_without_harm_to_the_parent(loop):
    pair = Pair(loop)

    def act():
        pair.loop.close()
        return repr(pair.client), repr(pair.server), pair.server.port, pair.client.url, \
            pair.loop.closed

    told = in_child(act)
    assert str(pair.server.port) in told and "True" in told
    pair.client.send("x")
    pair.drive(lambda: pair.at_server.messages == ["x"])
    assert pair.at_client == [("on_open",)]


@needs_fork
def test_a_child_may_drop_everything(loop):
    pair = Pair(loop)

    def act():
        pair.__dict__.clear()
        gc.collect()
        return "dropped"

    assert in_child(act) == "dropped"
    pair.client.send("x")
    pair.drive(lambda: pair.at_server.messages == ["x"])


@needs_fork
def test_a_closed_loop_of_the_parent_keeps_nothing_in_a_child(loop):
    pair = Pair(loop)
    refs = [weakref.ref(thing) for thing in (pair.client, pair.remote, pair.server)]

    def act():
        loop.close()
        pair.__dict__.clear()
        gc.collect()
        return [ref() for ref in refs]

    assert in_child(act) == "[None, None, None]"
    assert pair.client.state == wsabi.State.OPEN


@needs_fork
@pytest.mark.parametrize("which", ["own", "default", "asyncio"])
def test_a_child_may_start_afresh(default, which):
    server = wsabi.serve("127.0.0.1", 0)
    assert server.loop is default

    def run():
        got = []
        if which == "own":
            with wsabi.Loop() as loop:
                fresh = serve(loop, on_open=lambda ws: ws.send("x"))
                wsabi.connect(url(fresh), loop=loop, on_message=lambda ws, data: got.append(data))
                drive(loop, lambda: got)
        elif which == "default":
            assert wsabi.default_loop() is not default
            fresh = wsabi.serve("127.0.0.1", 0, on_open=lambda ws: ws.send("x"))
            wsabi.connect(url(fresh),
                          on_message=lambda ws, data: (got.append(data), fresh.stop()))
            wsabi.run_forever()
        else:
            async def main():
                fresh = wsabi.serve("127.0.0.1", 0, on_open=lambda ws: ws.send("x"))
                wsabi.connect(url(fresh), on_message=lambda ws, data: got.append(data))
                while not got:
                    await asyncio.sleep(0.001)
            asyncio.run(main())
        return got

    assert in_child(run) == "['x']"
    assert server.stopped is None


@needs_fork
def test_a_fork_inside_a_callback(loop):
    told = []

    def on_message(ws, data):
        def act():
            try:
                ws.send("from the child")
            except wsabi.Forked as error:
                return f"refused {error.kind}"
        told.append(in_child(act))
        ws.send("from the parent")

    pair = Pair(loop, {"on_message": on_message})
    pair.client.send("x")
    pair.drive(lambda: pair.at_client.messages)
    assert told == ["refused FORKED"] and pair.at_client.messages == ["from the parent"]


def test_multiprocessing_with_fork():
    out = script(OPENING + """
import multiprocessing, warnings
warnings.simplefilter("ignore", DeprecationWarning)

def work(number):
    fresh = wsabi.serve("127.0.0.1", 0, on_open=lambda ws: ws.send(str(number)))
    got = []
    wsabi.connect(f"ws://127.0.0.1:{fresh.port}/",
                  on_message=lambda ws, data: (got.append(data), fresh.stop()))
    wsabi.run_forever()
    return got[0]

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        print(pool.map(work, range(6)))
""")
    assert out == "['0', '1', '2', '3', '4', '5']\n"


# --- sub-interpreters ------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="the module is another there")
def test_a_sub_interpreter_is_refused_clearly():
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    out = script(f"import {name} as interpreters\n" + """
import wsabi
number = interpreters.create()
interpreters.run_string(number, '''
try:
    import wsabi
except ImportError as error:
    print("ImportError:", error, flush=True)
else:
    print("imported", flush=True)
''')
print(wsabi.serve("127.0.0.1", 0).port > 0)
""", quiet=False)
    lines = out.splitlines()
    assert lines[0].startswith("ImportError:") and "interpreter" in lines[0]
    assert lines[1] == "True"
