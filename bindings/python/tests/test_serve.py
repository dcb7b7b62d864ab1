"""Servers: where they listen, who may come, and how they stop."""
import os
import socket
import stat

import pytest

import frames
import wsabi
from support import Notes, Pair, RawClient, drive, serve, settle, url


def test_a_server_listens_when_serve_returns(loop):
    server = serve(loop)
    assert server.address == ("127.0.0.1", server.port)
    assert 1024 <= server.port <= 65535
    socket.create_connection(server.address).close()
    assert server.loop is loop and server.stopped is None and server.connections == []
    assert repr(server) == f"<wsabi.Server {server.address}>"


def test_a_server_of_every_address(loop):
    server = wsabi.serve(loop=loop)
    assert server.port
    with RawClientTo(loop, ("127.0.0.1", server.port)) as raw:
        raw.open()


class RawClientTo(RawClient):
    """A client by hand, to another address than the server's first."""

    def __init__(self, loop, address):
        class Somewhere:
            pass

        somewhere = Somewhere()
        somewhere.address = address
        super().__init__(loop, somewhere)


def test_a_server_of_a_name(loop):
    server = wsabi.serve("localhost", 0, loop=loop)
    notes = Notes()
    wsabi.connect(f"ws://localhost:{server.port}/", loop=loop, **notes.callbacks("on_open"))
    drive(loop, lambda: notes)


def test_a_name_that_cannot_be_resolved(loop):
    with pytest.raises(wsabi.TransportError, match="no-such-host.invalid") as caught:
        wsabi.serve("no-such-host.invalid", 0, loop=loop)
    assert caught.value.kind == "RESOLVE"


def test_an_address_that_is_not_here(loop):
    with pytest.raises(wsabi.TransportError, match=r"192\.0\.2\.1") as caught:
        wsabi.serve("192.0.2.1", 0, loop=loop)
    assert caught.value.kind == "LISTEN" and isinstance(caught.value, OSError)


def test_ipv6(loop):
    try:
        server = wsabi.serve("::1", 0, loop=loop)
    except wsabi.TransportError as error:
        pytest.skip(f"no IPv6 here: {error}")
    assert server.address == ("::1", server.port)
    notes = Notes()
    kept = wsabi.connect(url(server), loop=loop, **notes.callbacks("on_open"))
    drive(loop, lambda: notes)
    assert kept.remote_address == ("::1", server.port)


def test_several_servers_on_one_loop(loop):
    got = []
    servers = [serve(loop, on_message=lambda ws, data, n=n: got.append((n, data))) for n in range(5)]
    for number, server in enumerate(servers):
        wsabi.connect(url(server), loop=loop, on_open=lambda ws, n=number: ws.send(str(n)))
    drive(loop, lambda: len(got) == 5)
    assert sorted(got) == [(n, str(n)) for n in range(5)]


def test_connections_are_those_that_are_open(loop):
    pair = Pair(loop)
    assert pair.server.connections == [pair.remote]
    clients = [wsabi.connect(url(pair.server), loop=loop) for _ in range(3)]
    drive(loop, lambda: len(pair.server.connections) == 4)
    with RawClient(loop, pair.server):
        settle(loop)
        assert len(pair.server.connections) == 4, "no handshake, no connection"
    clients[0].close()
    drive(loop, lambda: len(pair.server.connections) == 3)
    assert all(isinstance(ws, wsabi.WebSocket) for ws in pair.server.connections)
    pair.server.connections.clear()
    assert len(pair.server.connections) == 3, "the list is a copy"


def test_inside_on_close_the_connection_is_not_among_them(loop):
    seen = []
    server = serve(loop, on_close=lambda ws, code, reason: seen.append(
        (ws in server.connections, len(server.connections))))
    clients = [wsabi.connect(url(server), loop=loop) for _ in range(2)]
    drive(loop, lambda: len(server.connections) == 2)
    clients[0].terminate()
    drive(loop, lambda: seen)
    assert seen == [(False, 1)]


# --- unix sockets --------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [str, os.PathLike], ids=["str", "path"])
def test_a_unix_socket(loop, tmp_path, kind):
    path = tmp_path / "socket"
    given = str(path) if kind is str else path
    notes = Notes()
    server = wsabi.serve(loop=loop, unix_path=given, on_message=lambda ws, data: ws.send(data))
    assert stat.S_ISSOCK(path.stat().st_mode)
    assert server.port is None and server.address == str(path)
    ws = wsabi.connect("ws://example.com/chat", loop=loop, unix_path=given,
                       on_open=lambda ws: ws.send("hello"),
                       **notes.callbacks("on_message", "on_close"))
    drive(loop, lambda: notes.messages)
    assert notes.messages == ["hello"]
    assert ws.remote_address == str(path)
    ws.close()
    drive(loop, lambda: notes.closed)
    server.stop()
    loop.run_forever()
    assert not path.exists()


def test_the_url_gives_the_host_of_a_unix_socket(loop, tmp_path):
    seen = []
    wsabi.serve(loop=loop, unix_path=tmp_path / "s",
                on_upgrade=lambda request: seen.append((request.headers["Host"], request.target,
                                                        request.remote_address)))
    wsabi.connect("ws://example.com/chat", loop=loop, unix_path=tmp_path / "s")
    drive(loop, lambda: seen)
    assert seen[0][:2] == ("example.com", "/chat")
    assert seen[0][2] in (None, "")


def test_a_stale_unix_socket_is_replaced_and_a_live_one_is_not(loop, tmp_path):
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(path))
    first = wsabi.serve(loop=loop, unix_path=path)
    with pytest.raises(wsabi.TransportError, match="socket"):
        wsabi.serve(loop=loop, unix_path=path)
    assert first.stopped is None and path.exists()


def test_a_file_that_is_no_socket_is_left_alone(loop, tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(wsabi.TransportError, match="file"):
        wsabi.serve(loop=loop, unix_path=path)
    assert path.read_text() == "precious"


def test_a_unix_socket_where_nobody_listens(loop, tmp_path):
    notes = Notes()
    ws = wsabi.connect("ws://localhost/", loop=loop, unix_path=tmp_path / "none",
                       **notes.callbacks())
    drive(loop, lambda: notes.closed)
    assert ws.error.kind == "CONNECT" and ws.error.errno == 2 and "none" in str(ws.error)


# --- stopping --------------------------------------------------------------------------------


def test_stop_closes_all_with_1001(loop):
    stopped = []
    pair = Pair(loop, {"on_stopped": stopped.append})
    address = pair.server.address
    pair.server.stop()
    pair.until_closed()
    drive(loop, lambda: stopped)
    assert pair.client.close_code == 1001
    assert stopped == [wsabi.Stopped(clean=1, forced=0, messages_dropped=0)]
    assert pair.server.stopped == stopped[0]
    assert repr(pair.server) == "<wsabi.Server stopped>"
    assert pair.server.connections == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address)


def test_stop_with_nobody_there(loop):
    stopped = []
    server = serve(loop, on_stopped=stopped.append)
    server.stop()
    assert stopped == [] and server.stopped is None, "nothing is called before it returns"
    loop.run_forever()
    assert stopped == [wsabi.Stopped(0, 0, 0)] == [server.stopped]


def test_after_the_grace_what_is_left_is_ended(loop):
    stopped = []
    server = serve(loop, on_stopped=stopped.append)
    with RawClient(loop, server) as deaf, RawClient(loop, server) as polite:
        deaf.open(), polite.open()
        server.stop(grace=0.2)
        frame = polite.frame()
        assert frame.close[0] == 1001
        polite.send(frames.CLOSE, frame.payload)
        drive(loop, lambda: stopped)
        assert stopped == [wsabi.Stopped(clean=1, forced=1, messages_dropped=0)]


def test_messages_that_were_not_written_are_counted(loop):
    stopped = []
    kept = []
    server = serve(loop, on_stopped=stopped.append, on_open=kept.append)
    with RawClient(loop, server, receive_buffer=4096) as raw:
        raw.open()
        raw.reading = False
        drive(loop, lambda: kept)
        for _ in range(3):
            kept[0].send(b"x" * (4 << 20))
        server.stop(grace=0.1)
        drive(loop, lambda: stopped)
    (counts,) = stopped
    assert (counts.clean, counts.forced) == (0, 1)
    assert 1 <= counts.messages_dropped <= 3


def test_a_second_stop_changes_nothing(loop):
    stopped = []
    pair = Pair(loop, {"on_stopped": stopped.append})
    pair.server.stop()
    pair.server.stop(grace=0.001)
    loop.run_forever()
    pair.server.stop()
    loop.run_forever()
    assert stopped == [wsabi.Stopped(1, 0, 0)], "the second grace does not cut the first short"


@pytest.mark.parametrize("bad, error", [
    ("1", TypeError), (True, TypeError), (-1, wsabi.InvalidArgument),
    (float("nan"), wsabi.InvalidArgument)], ids=repr)
def test_the_grace_is_a_time(loop, bad, error):
    server = serve(loop)
    with pytest.raises(error, match="grace"):
        server.stop(bad)
    with pytest.raises(error, match="grace"):
        server.stop(grace=bad)
    server.stop(0.5)


def test_a_server_nobody_has_started_says_so():
    server = wsabi.Server()
    assert server.port is None and server.connections == [] and server.loop is None
    assert server.stopped is None and server.address is None


def test_a_server_starts_once(loop):
    server = wsabi.serve("127.0.0.1", 0, loop=loop, server=wsabi.Server())
    with pytest.raises(wsabi.InvalidState, match="server|started|already|used"):
        wsabi.serve("127.0.0.1", 0, loop=loop, server=server)
    assert server.stopped is None


def test_a_port_that_could_not_be_had_leaves_the_server_usable(loop):
    taken = serve(loop)
    server = wsabi.Server()
    with pytest.raises(wsabi.TransportError):
        wsabi.serve("127.0.0.1", taken.port, loop=loop, server=server)
    assert wsabi.serve("127.0.0.1", 0, loop=loop, server=server) is server
    assert server.port


def test_a_stopped_server_frees_its_port(loop):
    server = serve(loop)
    port = server.port
    server.stop()
    loop.run_forever()
    again = wsabi.serve("127.0.0.1", port, loop=loop)
    assert again.port == port


def test_a_request_while_stopping_is_503(loop):
    held = []

    def on_upgrade(request):
        held.append(request)
        return wsabi.LATER

    server = serve(loop, on_upgrade=on_upgrade, on_error=lambda ws, error: held.append(error))
    with RawClient(loop, server) as raw:
        raw.write(frames.request())
        drive(loop, lambda: held)
        server.stop()
        assert raw.head().status == 503
        raw.rest()
    loop.run_forever()
    assert held[1].kind == "STOPPED"
    with pytest.raises(wsabi.ConnectionClosed):
        held[0].accept()


# --- factories ---------------------------------------------------------------------------------


def test_a_factory_makes_each_connection(loop):
    class Session(wsabi.WebSocket):
        made = 0

        def __init__(self):
            super().__init__()
            Session.made += 1
            self.number = Session.made

        def on_message(self, data):
            self.send(f"{self.number}: {data}")

    server = serve(loop, factory=Session)
    notes = Notes()
    for _ in range(3):
        wsabi.connect(url(server), loop=loop, on_open=lambda ws: ws.send("hi"),
                      **notes.callbacks("on_message"))
    drive(loop, lambda: len(notes) == 3)
    assert sorted(notes.messages) == ["1: hi", "2: hi", "3: hi"]


@pytest.mark.parametrize("bad, error", [
    (lambda: None, TypeError), (object, TypeError), (lambda: 1 / 0, ZeroDivisionError)],
    ids=["None", "object", "raises"])
@pytest.mark.parametrize("listening", [True, False], ids=["on_error", "logger"])
def test_a_factory_that_fails_costs_its_connection_only(loop, log, bad, error, listening):
    turns = [bad, wsabi.WebSocket]
    notes = Notes()

    def factory():
        assert len(turns) > 0, "one call for each connection"
        return turns.pop(0)()

    server = serve(loop, factory=factory,
                   **(notes.callbacks("on_error") if listening else {}))
    with RawClient(loop, server) as raw:
        raw.open()
        assert raw.frame().close[0] == 1011
    if listening:
        drive(loop, lambda: notes.errors)
        assert isinstance(notes.errors[0], error)
        if error is TypeError:
            assert "factory" in str(notes.errors[0])
            assert type(bad()).__name__ in str(notes.errors[0])
    else:
        settle(loop)
        (record,) = [record for record in log.take() if record.levelname == "ERROR"]
        assert issubclass(record.exc_info[0], error)
    with RawClient(loop, server) as raw:
        raw.open()


def test_a_factory_that_returns_a_used_object(loop):
    pair = Pair(loop)
    notes = Notes()
    server = serve(loop, factory=lambda: pair.client, **notes.callbacks("on_error"))
    with RawClient(loop, server) as raw:
        raw.open()
        assert raw.frame().close[0] == 1011
    drive(loop, lambda: notes.errors)
    assert isinstance(notes.errors[0], wsabi.InvalidState)
    assert pair.client.state == wsabi.State.OPEN
    pair.client.send("still fine")
    pair.drive(lambda: pair.at_server.messages == ["still fine"])
