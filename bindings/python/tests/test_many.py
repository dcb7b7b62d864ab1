"""Messages for many, messages in chunks, and memory that is lent instead of copied."""
import array
import gc
import os
import sys
import threading
import weakref

import pytest

import frames
import wsabi
from support import Notes, Pair, RawClient, drive, serve, url


def connected(loop, server, count, **options):
    """That many clients of a server, open, and what each hears."""
    notes = [Notes() for _ in range(count)]
    clients = [wsabi.connect(url(server), loop=loop, **each.callbacks(), **options)
               for each in notes]
    drive(loop, lambda: all(each.count("on_open") for each in notes))
    return clients, notes


# --- prepared messages and broadcast -----------------------------------------------------


@pytest.mark.parametrize("data", ["text", b"binary", "ä" * 3000, bytes(70_000), ""],
                         ids=["text", "binary", "long", "large", "empty"])
def test_a_prepared_message_can_be_sent_as_often_as_one_likes(loop, data):
    deflates = (None, True, wsabi.Deflate(9, 9), wsabi.Deflate(15, 15, True, True))
    message = wsabi.Prepared(data)
    assert message.text == isinstance(data, str)
    assert len(message) == len(data.encode() if isinstance(data, str) else data)
    assert repr(message).startswith("<wsabi.Prepared ")
    for deflate in deflates:
        pair = Pair(loop, {"deflate": deflate}, {"deflate": deflate})
        for ws in (pair.client, pair.remote) * 3:
            ws.send("between " * 300)
            assert ws.send(message) is True
        pair.drive(lambda: len(pair.at_server.messages) == len(pair.at_client.messages) == 6)
        assert pair.at_server.messages == pair.at_client.messages == ["between " * 300, data] * 3


def test_what_a_prepared_message_may_be():
    assert wsabi.Prepared(b"text", text=True).text
    assert not wsabi.Prepared("text", text=False).text
    with pytest.raises(wsabi.InvalidArgument, match="UTF-8"):
        wsabi.Prepared(b"\xff", text=True)
    for wrong in (1, None, [], object()):
        with pytest.raises(TypeError):
            wsabi.Prepared(wrong)
    with pytest.raises(TypeError, match="compress must be a bool or None"):
        wsabi.Prepared("", compress="yes")


def test_options_belong_to_the_prepared_message(loop):
    pair = Pair(loop)
    message = wsabi.Prepared("text")
    for options in ({"compress": True}, {"copy": False}):
        with pytest.raises(TypeError, match="Prepared"):
            pair.client.send(message, **options)
    with pytest.raises(TypeError, match="Prepared"):
        pair.server.broadcast(message, compress=True)


@pytest.mark.parametrize("make", [lambda data: data, wsabi.Prepared], ids=["plain", "prepared"])
def test_a_broadcast_reaches_all_but_one(loop, make):
    server = serve(loop)
    clients, notes = connected(loop, server, 5)
    excluded = server.connections[2]
    reached = server.broadcast(make("to all"))
    assert reached == wsabi.Reached(5, 0, 0) and reached.sent == 5
    assert server.broadcast(make(b"but one"), exclude=excluded).sent == 4
    some = server.connections[:2]
    assert wsabi.broadcast(some, make("two")).sent == 2
    assert wsabi.broadcast(clients, make("from clients")).sent == 5
    assert wsabi.broadcast([], "nobody") == (0, 0, 0)
    drive(loop, lambda: sum(len(each.messages) for each in notes) == 5 + 4 + 2)
    heard = sorted(each.messages for each in notes)
    assert sum(b"but one" in messages for messages in heard) == 4
    assert sum("two" in messages for messages in heard) == 2


def test_who_is_gone_or_full_is_told_by_the_counts(loop):
    server = serve(loop, high_water_bytes=1000, low_water_bytes=0, max_backlog_bytes=2000)
    with RawClient(loop, server, receive_buffer=4096) as slow:
        slow.open()
        slow.reading = False
        clients, notes = connected(loop, server, 3)
        clients[0].terminate()
        drive(loop, lambda: notes[0].closed and len(server.connections) == 3)
        refused = 0
        for _ in range(3000):
            reached = server.broadcast(b"x" * 5000)
            assert reached.sent + reached.refused == 3
            refused = reached.refused
            if refused:
                break
            loop.dispatch()
        assert refused == 1
        assert wsabi.broadcast([clients[0], clients[1]], "x").sent == 1
    server.stop(grace=0)
    drive(loop, lambda: server.stopped)
    assert server.broadcast("nobody") is None


def test_a_broadcast_from_another_thread(loop):
    server = serve(loop)
    _, notes = connected(loop, server, 3)
    answers = []
    thread = threading.Thread(target=lambda: answers.append(server.broadcast("from afar")))
    thread.start()
    drive(loop, lambda: all(each.messages for each in notes))
    thread.join()
    assert answers == [None] and [each.messages for each in notes] == [["from afar"]] * 3


def test_broadcast_wants_connections(loop):
    with pytest.raises(TypeError, match="connections must be an iterable of wsabi.WebSocket"):
        wsabi.broadcast(["ws"], "x")
    with pytest.raises(TypeError):
        wsabi.broadcast(3, "x")


# --- chunks ----------------------------------------------------------------------------------


def test_text_comes_in_whole_characters_and_all_of_it(loop):
    chunks = []
    notes = Notes()
    server = serve(loop, **notes.callbacks(), stream_messages=True,
                   on_chunk=lambda ws, data, last: chunks.append((data, last)))
    text = "aä€😀" * 100
    with RawClient(loop, server) as raw:
        raw.open()
        encoded = frames.encode(frames.TEXT, text, mask=True)
        for start in range(0, len(encoded), 7):
            before = loop.stats().bytes_received
            raw.write(encoded[start:start + 7])
            raw.drive(lambda before=before: loop.stats().bytes_received > before)
        raw.drive(lambda: chunks and chunks[-1][1])
    assert "".join(data for data, _ in chunks) == text
    assert [last for _, last in chunks] == [False] * (len(chunks) - 1) + [True]
    assert len(chunks) > 50 and notes.messages == []


@pytest.mark.parametrize("deflate", [None, True], ids=str)
def test_a_large_message_in_chunks_takes_little_memory(loop, deflate):
    size, total, largest = 0, 200 << 20, 0
    ended = []

    def on_chunk(ws, data, last):
        nonlocal size, largest
        size += len(data)
        largest = max(largest, len(data))
        if last:
            ended.append(size)

    pair = Pair(loop, {"on_chunk": on_chunk, "stream_messages": True, "max_message_bytes": total,
                       "deflate": deflate}, {"deflate": deflate})
    piece = os.urandom(1 << 18) + bytes(768 << 10)
    for number in range(total >> 20):
        last = number + 1 == total >> 20
        pair.client.send_fragment(piece, last)
        pair.drive(lambda: pair.client.buffered_amount == 0)
    pair.drive(lambda: ended)
    assert ended == [total] and largest <= 1 << 20


def test_methods_and_assigned_functions_are_called_too(loop):
    seen = []

    class Mine(wsabi.WebSocket):
        def on_chunk(self, data, last):
            seen.append((data, last))

    pair = Pair(loop, {"factory": Mine, "stream_messages": True},
                {"stream_messages": True})
    pair.client.on_chunk = lambda ws, data, last: seen.append(("client", data, last))
    pair.client.send("up")
    pair.remote.send(b"down")
    pair.drive(lambda: len(seen) == 2)
    assert sorted(map(str, seen)) == ["('client', b'down', True)", "('up', True)"]


def test_on_chunk_needs_stream_messages(loop):
    for start in (lambda **o: serve(loop, **o),
                  lambda **o: wsabi.connect("ws://127.0.0.1:1/", loop=loop, **o)):
        with pytest.raises(wsabi.InvalidArgument, match="stream_messages=True"):
            start(on_chunk=lambda ws, data, last: None)


def test_an_exception_in_on_chunk_costs_its_connection(loop):
    def fail(ws, data, last):
        raise LookupError("chunk")

    pair = Pair(loop, {"on_chunk": fail, "stream_messages": True})
    pair.client.send("x")
    pair.until_closed()
    assert pair.at_client.named("on_close") == [("on_close", 1011, "internal error")]
    assert isinstance(pair.at_server.errors[0], LookupError)


# --- lent memory -----------------------------------------------------------------------------


def slow_peer(loop, **options):
    """A server's connection whose peer reads nothing."""
    opened = []
    server = serve(loop, on_open=opened.append, **options)
    raw = RawClient(loop, server, receive_buffer=4096)
    raw.open()
    raw.reading = False
    drive(loop, lambda: opened)
    return raw, opened[0]


def fill(loop, ws):
    """Gives the kernel as much as it takes."""
    while ws.send(b"x" * (4 << 20)):
        loop.dispatch()



@pytest.mark.parametrize("end", ["written", "terminated", "closed loop"])
def test_large_bytes_are_kept_until_they_are_written_or_dropped(loop, end):
    raw, ws = slow_peer(loop)
    fill(loop, ws)
    data = os.urandom(1 << 20)
    before = sys.getrefcount(data)
    ws.send(data)
    assert sys.getrefcount(data) == before + 1, "not copied"
    if end == "written":
        raw.reading = True
        frame = raw.frame()
        while frame.payload != data:
            frame = raw.frame()
    elif end == "terminated":
        ws.terminate()
    else:
        loop.close()
    assert sys.getrefcount(data) == before
    raw.close()


def test_what_may_change_is_copied(loop):
    raw, ws = slow_peer(loop)
    fill(loop, ws)
    data = bytearray(b"before" * 50_000)
    ws.send(data)
    data[:] = b"after!" * 50_000
    data.append(1)  # Nobody holds the buffer.
    raw.reading = True
    payload = b""
    while len(payload) != 300_000:
        payload = raw.frame().payload
    assert payload == b"before" * 50_000
    raw.close()


@pytest.mark.parametrize("end", ["written", "terminated", "closed loop"])
@pytest.mark.parametrize("make", [bytearray, lambda data: memoryview(bytearray(data)),
                                  lambda data: array.array("B", data)],
                         ids=["bytearray", "memoryview", "array"])
def test_a_lent_buffer_is_held_until_it_is_written_or_dropped(loop, end, make):
    raw, ws = slow_peer(loop)
    fill(loop, ws)
    data = make(b"12345678" * 20_000)
    ws.send(data, copy=False)
    if isinstance(data, bytearray):
        with pytest.raises(BufferError):
            data.append(1)
    if end == "written":
        raw.reading = True
        while raw.frame().payload != b"12345678" * 20_000:
            pass
    elif end == "terminated":
        ws.terminate()
    else:
        loop.close()
    if isinstance(data, memoryview):
        data.release()
    elif isinstance(data, bytearray):
        data.append(1)
    else:
        data.append(1)
    raw.close()


def test_a_refused_send_holds_nothing(loop):
    raw, ws = slow_peer(loop, high_water_bytes=1000, low_water_bytes=0, max_backlog_bytes=5000)
    fill(loop, ws)
    data = bytearray(1 << 20)
    with pytest.raises(wsabi.BufferFull):
        ws.send(data, copy=False)
    data.append(1)
    raw.close()


def test_lent_memory_from_another_thread(loop):
    pair = Pair(loop)
    data = [os.urandom(100_000), bytearray(os.urandom(100_000)), "ä" * 100_000]

    def send():
        pair.client.send(data[0])
        pair.client.send(data[1], copy=False)
        pair.client.send(data[2])
        pair.client.send(wsabi.Prepared(data[0]))

    thread = threading.Thread(target=send)
    thread.start()
    pair.drive(lambda: len(pair.at_server.messages) == 4)
    thread.join()
    assert pair.at_server.messages == [data[0], bytes(data[1]), data[2], data[0]]
    data[1].append(1)


def test_nothing_is_left_of_messages_for_many(loop):
    pair = Pair(loop, {"deflate": True}, {"deflate": True})

    class Marked:
        pass

    marks = []
    for _ in range(50):
        mark = Marked()
        marks.append(weakref.ref(mark))
        message = wsabi.Prepared("x" * 100_000)
        pair.remote.send(message)
        pair.server.broadcast(message)
        del mark, message
    pair.drive(lambda: len(pair.at_client.messages) == 100)
    gc.collect()
    assert not any(mark() for mark in marks)
    assert pair.remote.buffered_amount == 0


# --- the budget of a server --------------------------------------------------------------


def test_the_largest_goes_when_the_budget_is_exceeded(loop, log):
    gone = []
    server = serve(loop, max_buffered_bytes=1 << 20,
                   on_close=lambda ws, code, reason: gone.append((code, ws.error)))
    with RawClient(loop, server) as large, RawClient(loop, server) as small:
        large.open()
        small.open()
        large.send(frames.BINARY, b"x" * 1_500_000, length=8 << 20)
        small.send(frames.BINARY, b"x" * 10, fin=False)
        drive(loop, lambda: gone, large, small)
        assert [(code, error.kind) for code, error in gone] == [(1006, "OVER_BUDGET")]
        assert isinstance(gone[0][1], wsabi.ConnectionClosed)
        assert "max_buffered_bytes, 1048576" in str(gone[0][1])
        assert large.frame().close[0] == 1013
    [record] = log.take()
    assert "over budget" in record.getMessage()


@pytest.mark.parametrize("given, error", [(-1, wsabi.InvalidArgument), ("x", TypeError),
                                          (1.5, TypeError), (True, TypeError)])
def test_a_budget_is_a_number(loop, given, error):
    with pytest.raises(error, match="max_buffered_bytes"):
        serve(loop, max_buffered_bytes=given)
