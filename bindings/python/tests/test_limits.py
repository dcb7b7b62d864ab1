"""The effect of each limit: one below it, at it, one above it."""
import logging
import os
import socket

import pytest

import frames
import wsabi
from support import Notes, Pair, RawClient, RawServer, answer, drive, serve, url


def opened_raw(loop, notes, **options):
    """A server with these options, and a client by hand that is connected to it."""
    server = serve(loop, **notes.callbacks(), **options)
    raw = RawClient(loop, server)
    raw.open()
    return raw


def close_code(raw):
    frame = raw.frame()
    while frame.opcode != frames.CLOSE:
        frame = raw.frame()
    return frame.close[0]


# --- messages ----------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 99, 100])
def test_a_message_within_max_message_bytes_is_accepted(loop, size):
    notes = Notes()
    with opened_raw(loop, notes, max_message_bytes=100) as raw:
        raw.send(frames.BINARY, b"x" * size)
        raw.drive(lambda: notes.messages)
        assert notes.messages == [b"x" * size]


@pytest.mark.parametrize("split", [False, True], ids=["whole", "fragmented"])
def test_a_message_above_max_message_bytes_is_1009(loop, split):
    notes = Notes()
    with opened_raw(loop, notes, max_message_bytes=100) as raw:
        if split:
            raw.send(frames.BINARY, b"x" * 100, fin=False)
            raw.send(frames.CONTINUATION, b"x")
        else:
            raw.send(frames.BINARY, b"x" * 101)
        assert close_code(raw) == 1009
        raw.close()
        drive(loop, lambda: notes.closed)
        assert notes.messages == []
        assert notes.named("on_close") == [("on_close", 1006, "")]


def test_max_message_bytes_of_a_client(loop):
    pair = Pair(loop, client_options={"max_message_bytes": 5})
    pair.remote.send("12345")
    pair.remote.send("123456")
    pair.until_closed()
    assert pair.at_client.messages == ["12345"]
    assert pair.client.error.kind == "MESSAGE_TOO_BIG"
    assert isinstance(pair.client.error, wsabi.ProtocolError)
    assert pair.remote.close_code == 1009


def test_max_message_bytes_of_zero_accepts_empty_messages_only(loop):
    pair = Pair(loop, {"max_message_bytes": 0})
    pair.client.send("")
    pair.client.send("1")
    pair.until_closed()
    assert pair.at_server.messages == [""]


def fragments(raw, count):
    raw.send(frames.TEXT, "a", fin=False)
    for number in range(count):
        raw.send(frames.CONTINUATION, "", fin=number == count - 1)


@pytest.mark.parametrize("further", [2, 3])
def test_fragments_within_max_fragments_are_accepted(loop, further):
    notes = Notes()
    with opened_raw(loop, notes, max_fragments=3) as raw:
        fragments(raw, further)
        raw.drive(lambda: notes.messages)
        assert notes.messages == ["a"]


def test_one_fragment_above_max_fragments_is_1008(loop):
    notes = Notes()
    with opened_raw(loop, notes, max_fragments=3) as raw:
        fragments(raw, 4)
        assert close_code(raw) == 1008
        assert notes.messages == []


# --- the opening handshake ---------------------------------------------------------------


def request_of(size):
    """A request of so many bytes."""
    short = len(frames.request(X_Fill=""))
    data = frames.request(X_Fill="f" * (size - short))
    assert len(data) == size
    return data


@pytest.mark.parametrize("size, status", [(511, 101), (512, 101), (513, 431)])
def test_max_handshake_bytes_of_a_server(loop, size, status):
    notes = Notes()
    server = serve(loop, max_handshake_bytes=512, **notes.callbacks())
    with RawClient(loop, server) as raw:
        raw.write(request_of(size))
        assert raw.head().status == status
        if status == 431:
            drive(loop, lambda: notes.errors)
            assert notes.errors[0].kind == "HANDSHAKE_TOO_LARGE"
            assert "512" in str(notes.errors[0])
        else:
            drive(loop, lambda: notes.count("on_open"))


@pytest.mark.parametrize("count, status", [(9, 101), (10, 101), (11, 431)])
def test_max_handshake_headers_of_a_server(loop, count, status):
    server = serve(loop, max_handshake_headers=10)
    with RawClient(loop, server) as raw:
        raw.write(frames.request(**{f"X_{n}": "1" for n in range(count - 5)}))
        assert raw.head().status == status


@pytest.mark.parametrize("limit, extra, kind", [
    ({"max_handshake_headers": 5}, 1, None), ({"max_handshake_headers": 5}, 2, None),
    ({"max_handshake_headers": 5}, 3, "HANDSHAKE_TOO_LARGE")])
def test_max_handshake_headers_of_a_client(loop, limit, extra, kind):
    notes = Notes()
    with RawServer(loop) as peer:
        ws = wsabi.connect(peer.url, loop=loop, **notes.callbacks(), **limit)
        with peer.open(**{f"X_{n}": "1" for n in range(extra)}):
            drive(loop, lambda: notes)
            assert (ws.error and ws.error.kind) == kind or not notes.closed
            assert notes[0][0] == ("on_open" if kind is None else "on_error")


@pytest.mark.parametrize("size, kind", [(399, None), (400, None), (401, "HANDSHAKE_TOO_LARGE")])
def test_max_handshake_bytes_of_a_client(loop, size, kind):
    notes = Notes()
    with RawServer(loop) as peer:
        ws = wsabi.connect(peer.url, loop=loop, max_handshake_bytes=400, **notes.callbacks())
        with peer.accept() as raw:
            short = len(answer(raw.request, X_Fill=""))
            raw.write(answer(raw.request, X_Fill="f" * (size - short)))
            drive(loop, lambda: notes.closed or notes.count("on_open"))
            assert (ws.error.kind if ws.error else None) == kind


@pytest.mark.parametrize("waiting", [1, 2])
def test_max_pending_handshakes_drops_the_oldest(loop, waiting):
    notes = Notes()
    server = serve(loop, max_pending_handshakes=waiting, **notes.callbacks())
    clients = [RawClient(loop, server) for _ in range(waiting)]
    drive(loop, lambda: loop.stats().pending_handshakes == waiting)
    assert notes == []
    with RawClient(loop, server) as last:
        drive(loop, lambda: notes.errors)
        assert [error.kind for error in notes.errors] == ["OVERLOADED"]
        assert clients[0].rest() == b""
        last.open()
    for client in clients:
        client.close()


# --- times -------------------------------------------------------------------------------


def test_handshake_timeout_of_a_server_is_408(loop):
    notes = Notes()
    server = serve(loop, handshake_timeout=0.05, **notes.callbacks())
    with RawClient(loop, server) as raw:
        raw.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
        assert raw.head().status == 408
        drive(loop, lambda: notes.errors)
        (error,) = notes.errors
        assert error.kind == "HANDSHAKE_TIMEOUT" and isinstance(error, wsabi.ConnectionTimeout)
        assert error.remote_address == raw.sock.getsockname()


def test_handshake_timeout_of_a_client(loop):
    notes = Notes()
    with RawServer(loop) as peer:
        ws = wsabi.connect(peer.url, loop=loop, handshake_timeout=0.05, **notes.callbacks())
        drive(loop, lambda: notes.closed)
        assert [note[0] for note in notes] == ["on_error", "on_close"]
        assert isinstance(ws.error, wsabi.ConnectionTimeout) and isinstance(ws.error, TimeoutError)
        assert ws.error.kind == "HANDSHAKE_TIMEOUT" and "handshake_timeout" in str(ws.error)


def test_hold_timeout_is_503(loop):
    notes = Notes()
    server = serve(loop, hold_timeout=0.05, handshake_timeout=0.05,
                   on_upgrade=lambda request: wsabi.LATER, **notes.callbacks())
    with RawClient(loop, server) as raw:
        raw.write(frames.request())
        assert raw.head().status == 503
        drive(loop, lambda: notes.errors)
        assert notes.errors[0].kind == "HANDSHAKE_TIMEOUT"
        assert "hold_timeout" in str(notes.errors[0])


def test_ping_interval_sends_pings(loop):
    notes = Notes()
    with opened_raw(loop, notes, ping_interval=0.02) as raw:
        for _ in range(3):
            frame = raw.frame()
            assert (frame.opcode, frame.payload) == (frames.PING, wsabi.KEEPALIVE_PAYLOAD)
            raw.send(frames.PONG, frame.payload)
        raw.drive(lambda: notes.count("on_pong") == 3)
        assert set(notes.named("on_pong")) == {("on_pong", wsabi.KEEPALIVE_PAYLOAD)}


def test_without_ping_interval_there_are_no_pings(loop):
    with opened_raw(loop, Notes(), ping_interval=None):
        assert loop.timeout() is None
    with opened_raw(loop, Notes()):
        assert 0 < loop.timeout() <= 20


def test_ping_timeout_is_1011(loop):
    notes = Notes()
    with opened_raw(loop, notes, ping_interval=0.02, ping_timeout=0.1) as raw:
        while (frame := raw.frame()).opcode == frames.PING:
            pass
        assert frame.close == (1011, "keepalive ping timeout")
        raw.close()
        drive(loop, lambda: notes.closed)
        assert notes.named("on_close") == [("on_close", 1006, "")]


def test_ping_timeout_counts_any_byte_as_life(loop):
    notes = Notes()
    with opened_raw(loop, notes, ping_interval=0.05, ping_timeout=0.3) as raw:
        for _ in range(12):
            assert raw.frame().opcode == frames.PING
            raw.send(frames.TEXT, "not a pong")
        assert not notes.closed


@pytest.mark.parametrize("side", ["client", "server"])
def test_idle_timeout_is_1011(loop, side):
    pair = Pair(loop, *([{"idle_timeout": 0.05}, {}] if side == "server"
                        else [{}, {"idle_timeout": 0.05}]))
    pair.until_closed()
    timed_out, other = ((pair.remote, pair.client) if side == "server"
                        else (pair.client, pair.remote))
    assert timed_out.error.kind == "IDLE_TIMEOUT"
    assert isinstance(timed_out.error, wsabi.ConnectionTimeout)
    assert (other.close_code, other.close_reason) == (1011, "idle timeout")


def test_close_timeout_ends_what_the_peer_does_not(loop):
    notes = Notes()
    kept = []
    server = serve(loop, close_timeout=0.05, **{**notes.callbacks(), "on_open": kept.append})
    with RawClient(loop, server) as raw:
        raw.open()
        drive(loop, lambda: kept)
        kept[0].close()
        assert raw.frame().close[0] == 1000
        drive(loop, lambda: notes.closed)
        assert kept[0].error.kind == "CLOSE_TIMEOUT"
        assert kept[0].close_code == 1006


# --- what is set on the socket -------------------------------------------------------------


def test_backlog_and_reuse_port_reach_the_socket(loop):
    first = wsabi.serve("127.0.0.1", 0, loop=loop, reuse_port=True, backlog=7)
    second = wsabi.serve("127.0.0.1", first.port, loop=loop, reuse_port=True)
    assert second.port == first.port


def test_without_reuse_port_a_port_is_had_once(loop):
    first = serve(loop)
    with pytest.raises(wsabi.TransportError) as caught:
        wsabi.serve("127.0.0.1", first.port, loop=loop)
    assert caught.value.kind == "LISTEN"
    assert f"127.0.0.1:{first.port}" in str(caught.value)
    assert caught.value.errno


@pytest.mark.parametrize("flag", [True, False])
def test_no_delay_reaches_the_socket(loop, flag):
    pair = Pair(loop, {"no_delay": flag}, {"no_delay": flag})
    ports = {pair.client.local_address[1], pair.remote.local_address[1]}
    seen = []
    for name in os.listdir("/proc/self/fd"):
        try:
            sock = socket.socket(fileno=os.dup(int(name)))
        except OSError:
            continue
        with sock:
            if sock.family == socket.AF_INET and sock.type == socket.SOCK_STREAM:
                try:
                    local, _ = sock.getsockname(), sock.getpeername()
                except OSError:
                    continue
                if local[1] in ports:
                    seen.append(bool(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
    assert seen == [flag, flag]


# --- the loop's own ------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, -1, 1 << 40])
def test_max_events_has_a_least_value(bad):
    with pytest.raises(wsabi.InvalidArgument, match="max_events"):
        wsabi.Loop(max_events=bad)


@pytest.mark.parametrize("option", ["max_events", "max_inbox_bytes"])
@pytest.mark.parametrize("bad", ["1", 1.5, True], ids=repr)
def test_the_loop_s_options_have_types(option, bad):
    with pytest.raises(TypeError, match=rf"{option}.*{type(bad).__name__}"):
        wsabi.Loop(**{option: bad})


def test_max_events_ends_a_dispatch_and_loses_nothing():
    with wsabi.Loop(max_events=3) as loop:
        notes = Notes()
        server = serve(loop, **notes.callbacks("on_message"))
        with RawClient(loop, server) as raw:
            raw.open()
            raw.write(b"".join(frames.encode(frames.TEXT, str(n), mask=True) for n in range(100)))
            drive(loop, lambda: notes.messages, raw)
            rounds = 0
            while notes.count("on_message") < 100:
                before = notes.count("on_message")
                drive(loop, lambda: notes.count("on_message") > before)
                assert notes.count("on_message") - before <= 3
                rounds += 1
            assert notes.messages == [str(n) for n in range(100)]
            assert rounds > 30


def test_dispatch_tells_that_more_is_left():
    with wsabi.Loop(max_events=1) as loop:
        notes = Notes()
        server = serve(loop, **notes.callbacks("on_message"))
        with RawClient(loop, server) as raw:
            raw.open()
            raw.write(b"".join(frames.encode(frames.TEXT, str(n), mask=True) for n in range(5)))
            drive(loop, lambda: notes.messages, raw)
            assert loop.dispatch() is True
            while notes.count("on_message") < 5:
                loop.poll(1)
            drive(loop, lambda: loop.dispatch() is False)


def test_the_logger_of_a_loop_is_a_logger(log):
    with pytest.raises(TypeError, match="logger.*int"):
        wsabi.Loop(logger=5)
    with wsabi.Loop(logger=logging.getLogger("wsabi.mine")) as loop:
        assert url(serve(loop))
