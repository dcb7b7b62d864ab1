"""Signals, in processes of their own: Ctrl-C wherever the loop may be, SIGTERM, wakeup descriptors."""
import signal
import sys

import pytest

from support import SERVER, Script, script

def interrupted(body, *arguments, status=0, kill=signal.SIGINT):
    """Runs a program until it prints `ready`, sends it a signal, and tells what else it printed."""
    with Script(SERVER + body, *arguments) as program:
        line = program.line()
        assert line == "ready", (line, program.process.stderr.read() if not line else "")
        program.process.send_signal(kill)
        code, out, err = program.finish()
    assert (code, err) == (status, ""), (code, out, err)
    return out


WAYS = {
    "run_forever": "wsabi.run_forever()",
    "loop.run_forever": "loop.run_forever()",
    "poll": "while True: loop.poll()",
    "poll with a time": "while True: loop.poll(1000)",
    "many polls": "while True: loop.poll(0.001)",
    "dispatch": "while True: loop.dispatch()",
}


@pytest.mark.parametrize("way", WAYS)
def test_ctrl_c_while_idle(way):
    out = interrupted(f"""
try:
    print("ready")
    {WAYS[way]}
except KeyboardInterrupt:
    print("interrupted", server.stopped)
""")
    assert out == "interrupted None\n"


def test_ctrl_c_while_busy():
    out = interrupted("""
got = 0
def on_message(ws, data):
    global got
    got += 1
    ws.send(data)
    if got == 100:
        print("ready")
ws = wsabi.connect(url, on_open=lambda ws: ws.send("x"), on_message=on_message)
try:
    wsabi.run_forever()
except KeyboardInterrupt:
    print("interrupted", got >= 100)
before = got
try:
    # Running goes on where it was left, but for the send that the signal may have hit.
    ws.send("x")
    threading.Timer(0.05, loop.stop).start()
    wsabi.run_forever()
finally:
    print(got > before)
""")
    assert out == "interrupted True\nTrue\n"


@pytest.mark.parametrize("body", [
    "time.sleep(1000)", "\n    while True: pass", "threading.Event().wait(1000)"])
def test_ctrl_c_in_a_callback(body):
    out = interrupted(f"""
def on_open(ws):
    print("ready")
    {body}
ws = wsabi.connect(url, on_open=on_open)
try:
    wsabi.run_forever()
except KeyboardInterrupt:
    print("interrupted", ws.state.name)
ws.close()
server.stop()
wsabi.run_forever()
print(ws.close_code, server.stopped)
""")
    assert out == "interrupted OPEN\n1001 Stopped(clean=1, forced=0, messages_dropped=0)\n"


def test_ctrl_c_that_nobody_catches_ends_the_process_as_it_should():
    with Script(SERVER + 'print("ready")\nwsabi.run_forever()\n') as program:
        assert program.line() == "ready"
        program.process.send_signal(signal.SIGINT)
        code, _, err = program.finish()
    assert code == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_with_a_closed_loop_and_a_context_manager():
    out = interrupted("""
with wsabi.Loop() as mine:
    wsabi.serve("127.0.0.1", 0, loop=mine)
    try:
        print("ready")
        mine.run_forever()
    except KeyboardInterrupt:
        print("interrupted")
print(mine.closed)
""")
    assert out == "interrupted\nTrue\n"


@pytest.mark.parametrize("kill", [signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP])
def test_a_handler_of_the_program_stops_the_server(kill):
    out = interrupted("""
ws = wsabi.connect(url, on_open=lambda ws: print("ready"),
                   on_close=lambda ws, code, reason: print("closed", code))
def stop(number, frame):
    print("handler", signal.Signals(number).name)
    server.stop(grace=20)
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGHUP):
    signal.signal(number, stop)
wsabi.run_forever()
print("ran", server.stopped.clean)
""", kill=kill)
    assert out == f"handler {kill.name}\nclosed 1001\nran 1\n"


def test_a_handler_that_does_nothing_does_not_end_the_run():
    out = interrupted("""
count = 0
def handler(number, frame):
    global count
    count += 1
    print("handler", count)
    if count == 3:
        loop.stop()
    else:
        signal.raise_signal(signal.SIGUSR1)
signal.signal(signal.SIGUSR1, handler)
print("ready")
wsabi.run_forever()
print("ran")
""", kill=signal.SIGUSR1)
    assert out == "handler 1\nhandler 2\nhandler 3\nran\n"


def test_the_wakeup_descriptor_of_the_program_is_given_back():
    out = script(SERVER + """
import socket
mine, theirs = socket.socketpair()
mine.setblocking(False)
theirs.setblocking(False)
signal.set_wakeup_fd(mine.fileno())
threading.Timer(0.01, loop.stop).start()
loop.run_forever()
print(signal.set_wakeup_fd(mine.fileno()) == mine.fileno())
loop.poll(0.01)
print(signal.set_wakeup_fd(mine.fileno()) == mine.fileno())
signal.signal(signal.SIGUSR1, lambda *a: None)
def interrupt():
    raise KeyboardInterrupt
loop.call_soon_threadsafe(interrupt)
try:
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
print(signal.set_wakeup_fd(-1) == mine.fileno())
mine.close()
theirs.close()
""")
    assert out == "True\nTrue\ninterrupted\nTrue\n"


def test_handlers_of_signals_are_left_alone():
    out = script("""
import signal
before = {number: signal.getsignal(number) for number in signal.valid_signals()}
import wsabi
server = wsabi.serve("127.0.0.1", 0)
wsabi.default_loop().poll(0.01)
after = {number: signal.getsignal(number) for number in signal.valid_signals()}
print(before == after)
""")
    assert out == "True\n"


def test_sigpipe_does_not_kill():
    out = script(SERVER + """
import socket
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
kept = []
server2 = wsabi.serve("127.0.0.1", 0, on_open=kept.append)
ws = wsabi.connect(f"ws://127.0.0.1:{server2.port}/")
while not kept:
    loop.poll()
ws.terminate()
for _ in range(100):
    try:
        kept[0].send(bytes(100000))
        kept[0].flush()
    except wsabi.ConnectionClosed:
        break
print("alive")
""")
    assert out == "alive\n"


def test_ctrl_c_in_asyncio():
    out = script("""
import asyncio, os, signal, sys
import wsabi

async def main():
    server = wsabi.serve("127.0.0.1", 0)
    def on_open(ws):
        os.kill(os.getpid(), signal.SIGINT)
    wsabi.connect(f"ws://127.0.0.1:{server.port}/", on_open=on_open)
    await asyncio.sleep(1000)

try:
    asyncio.run(main())
except KeyboardInterrupt:
    print("interrupted")
""")
    assert out == "interrupted\n"


def test_a_run_in_another_thread_leaves_signals_to_the_main_one():
    out = interrupted("""
def there():
    mine = wsabi.Loop()
    wsabi.serve("127.0.0.1", 0, loop=mine)
    loops.append(mine)
    mine.run_forever()
    mine.close()
loops = []
thread = threading.Thread(target=there)
thread.start()
while not loops:
    time.sleep(0.001)
try:
    print("ready")
    loop.run_forever()
except KeyboardInterrupt:
    print("interrupted")
loops[0].stop()
thread.join()
print("joined")
""")
    assert out == "interrupted\njoined\n"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_run_forever_waits_and_does_not_spin():
    out = script(SERVER + """
wsabi.connect(url)
loop.poll(0.1)
threading.Timer(1, loop.stop).start()
before = time.process_time()
loop.run_forever()
print(time.process_time() - before < 0.3)
""")
    assert out == "True\n"


def test_a_signal_that_was_handled_leaves_nothing_to_wake_up_for():
    out = script(SERVER + """
import select
handled = []
signal.signal(signal.SIGUSR1, lambda *arguments: handled.append(1))
def call():
    signal.raise_signal(signal.SIGUSR1)
    loop.stop()
loop.call_soon_threadsafe(call)
loop.run_forever()
loop.dispatch()
print(handled, select.select([loop], [], [], 0.05)[0])
""")
    assert out == "[1] []\n"
