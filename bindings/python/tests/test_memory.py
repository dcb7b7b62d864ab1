"""Memory over time: reference counts, objects, descriptors and bytes do not grow."""
import gc
import os
import sys
import weakref

import pytest

import wsabi
from support import Pair, Tracked, drive, fds, serve, url


def rss():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


# --- reference counts ----------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["text", "ä", b"bytes"], ids=["ascii", "text", "bytes"])
def test_reference_counts_stay_the_same(loop, data):
    count = 0

    def on_message(ws, data):
        nonlocal count
        count += 1
        ws.send(data)

    pair = Pair(loop, {"on_message": on_message}, {"on_message": on_message})

    def counts():
        settled = [on_message, pair.client, pair.remote, pair.server, loop, None, True, str, bytes]
        return [sys.getrefcount(thing) for thing in settled]

    pair.client.send(data)
    pair.drive(lambda: count > 100)
    before = counts()
    pair.drive(lambda: count > 20000)
    after = counts()
    for had, has in zip(before, after):
        assert abs(has - had) < 50, (before, after)


def test_what_was_sent_is_not_kept(loop):
    pair = Pair(loop)
    data, text = bytes(100000), "ä" * 1000
    before = sys.getrefcount(data), sys.getrefcount(text)
    for _ in range(100):
        pair.client.send(data), pair.client.send(text), pair.client.send_fragment(text, True)
        with pytest.raises(TypeError):
            pair.client.send([data])
    assert (sys.getrefcount(data), sys.getrefcount(text)) == before
    pair.client.terminate()


def test_refused_calls_keep_nothing(loop):
    pair = Pair(loop)
    thing = object()
    before = sys.getrefcount(thing)
    for _ in range(100):
        for call in (lambda: pair.client.send(thing), lambda: wsabi.connect(thing, loop=loop),
                     lambda: serve(loop, factory=thing), lambda: loop.call_soon_threadsafe(thing),
                     lambda: serve(loop, max_fragments=thing), lambda: serve(loop, on_open=thing)):
            with pytest.raises(TypeError):
                call()
    gc.collect()
    assert sys.getrefcount(thing) == before


def test_refused_connects_keep_nothing(loop, collected):
    class Mine(Tracked):
        made = []

        def __init__(self):
            super().__init__()
            Mine.made.append(weakref.ref(self))

    for options in ({"url": "nonsense"}, {"url": "wss://a/"}, {"headers": {"Host": "x"}},
                    {"max_fragments": 0}, {"on_open": 5}, {"max_message_bytes": "x"}):
        with pytest.raises((wsabi.WebSocketError, TypeError)):
            wsabi.connect(options.pop("url", "ws://127.0.0.1:9/"), loop=loop, factory=Mine, **options)
    assert len(Mine.made) == 6
    assert [ref() for ref in Mine.made] == [None] * 6


# --- much ------------------------------------------------------------------------------------------


def test_ten_thousand_connections_leave_nothing(loop, collected):
    ended = 0

    def on_close(ws, code, reason):
        nonlocal ended
        ended += 1

    server = serve(loop, factory=Tracked, on_message=lambda ws, data: ws.send(data),
                   on_close=on_close)

    def turn(count, together=50):
        nonlocal ended
        for _ in range(count // together):
            ended = 0
            for number in range(together):
                wsabi.connect(url(server), loop=loop, factory=Tracked,
                              on_open=lambda ws: ws.send("x"), on_close=on_close,
                              on_message=lambda ws, data: ws.terminate()
                              if number % 5 == 0 else ws.close())
            drive(loop, lambda: ended == 2 * together)

    turn(1000)
    collected()
    objects, descriptors, memory = len(gc.get_objects()), fds(), rss()
    turn(9000)
    collected()
    assert abs(len(gc.get_objects()) - objects) < 200
    assert not [thing for thing in gc.get_objects() if isinstance(thing, Tracked)]
    assert fds() == descriptors
    assert rss() - memory < 8 << 20
    assert server.connections == []


def test_loops_leave_nothing(collected):
    def turn(count):
        for _ in range(count):
            with wsabi.Loop() as loop:
                pair = Pair(loop)
                pair.client.send("x")
                pair.drive(lambda: pair.at_server.messages)
                loop.call_soon_threadsafe(print)

    turn(20)
    collected()
    objects, descriptors, memory = len(gc.get_objects()), fds(), rss()
    turn(300)
    collected()
    assert abs(len(gc.get_objects()) - objects) < 200
    assert fds() == descriptors
    assert rss() - memory < 8 << 20


def test_messages_leave_nothing(loop, collected):
    pair = Pair(loop, {"on_message": lambda ws, data: ws.send(data)},
                {"on_message": lambda ws, data: None})

    def turn(count):
        for number in range(count):
            pair.client.send("ä" * (number % 3000))
            pair.client.send(bytes(number % 3000))
            if number % 500 == 0:
                pair.drive(lambda: not pair.client.buffered_amount)

    turn(2000)
    pair.settle()
    collected()
    objects, memory = len(gc.get_objects()), rss()
    turn(20000)
    pair.settle()
    collected()
    assert abs(len(gc.get_objects()) - objects) < 100
    assert rss() - memory < 8 << 20
