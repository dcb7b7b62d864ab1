"""A user's program, for mypy --strict: what it may write, and what the checker must refuse.

A line that must be refused says so with an ignore; one that need not be is an error by
`--warn-unused-ignores`. It is not run.
"""

from __future__ import annotations

import asyncio
import logging
import selectors
from array import array
from pathlib import Path
from typing import Any

from typing_extensions import assert_type

import wsabi


class Session(wsabi.WebSocket):
    """A connection with state of its own."""

    def __init__(self, name: str = "nobody") -> None:
        super().__init__()
        self.name = name

    def on_open(self) -> None:
        request = self.request
        if request is not None:
            assert_type(request.headers["Host"], str)
            assert_type(request.subprotocols, list[str])
            assert_type(request.origin, "str | None")
        if self.response is not None:
            assert_type(self.response.status, int)

    def on_message(self, data: str | bytes) -> None:
        assert_type(self.send(data), bool)

    def on_close(self, code: int, reason: str) -> None:
        error = self.error
        if error is not None:
            assert_type(error.kind, str)
            assert_type(error.number, int)
            assert_type(error.status, int)


class Chat(wsabi.Server):
    """A server with callbacks as methods."""

    def on_upgrade(self, request: wsabi.Request) -> bool:
        return request.path == "/chat"

    def on_http(self, request: wsabi.Request) -> wsabi.Response | None:
        return wsabi.Response(200, "fine", {"X-A": "1"}) if request.path == "/health" else None

    def on_message(self, ws: Session, data: str | bytes) -> None:
        for other in self.connections:
            assert_type(other, wsabi.WebSocket)
            other.send(f"{ws.name}: {data!r}")

    def on_error(self, ws: Session | None, error: Exception) -> None:
        logging.error("%s", error)

    def on_stopped(self, stopped: wsabi.Stopped) -> None:
        assert_type(stopped.clean, int)


def on_text(ws: wsabi.WebSocket, data: str) -> None:
    ws.send(data)


def on_session(ws: Session, data: str | bytes) -> None:
    ws.name = str(data)


def clients() -> None:
    ws = wsabi.connect("ws://127.0.0.1/", on_message=on_text)
    assert_type(ws, wsabi.WebSocket)
    session = wsabi.connect("ws://127.0.0.1/", factory=lambda: Session("me"), on_message=on_session)
    assert_type(session, Session)
    wsabi.connect("ws://127.0.0.1/", factory=Session, subprotocols=["a"], origin="https://a.example",
                  headers={"A": "b"}, unix_path=Path("socket"), ping_interval=None,
                  idle_timeout=1, max_message_bytes=1 << 20, no_delay=False)
    wsabi.connect("ws://127.0.0.1/", headers=[("A", "b")], unix_path="socket")
    assert_type(ws.state, wsabi.State)
    assert_type(ws.remote_address, "tuple[str, int] | str | None")
    assert_type(ws.subprotocol, "str | None")
    assert_type(ws.close_code, "int | None")
    assert_type(ws.buffered_amount, int)
    assert_type(ws.server, "wsabi.Server | None")
    for data in ("text", b"bytes", bytearray(1), memoryview(b"x"), array("b")):
        ws.send(data)
    ws.send_text("text")
    ws.send_binary(b"bytes")
    ws.send_fragment("a", False)
    ws.send_fragment(b"a", True, text=True)
    ws.ping()
    ws.pong(b"x")
    ws.close(1000, "bye")
    ws.close(None)
    ws.on_message = lambda ws, data: None  # type: ignore

    wsabi.connect(5)  # type: ignore[arg-type]
    wsabi.connect("ws://a/", on_open=5)  # type: ignore[arg-type]
    wsabi.connect("ws://a/", on_close=on_text)  # type: ignore[arg-type]
    wsabi.connect("ws://a/", max_message_bytes="1")  # type: ignore[arg-type]
    wsabi.connect("ws://a/", max_mesage_bytes=1)  # type: ignore[call-arg]
    wsabi.connect("ws://a/", None)  # type: ignore[call-arg]
    ws.send(5)  # type: ignore[arg-type]
    ws.send_binary("text")  # type: ignore[arg-type]
    ws.send_fragment("text")  # type: ignore[call-arg]
    ws.close("1000")  # type: ignore[arg-type]
    ws.id = 5  # type: ignore[misc]


def servers() -> None:
    server = wsabi.serve("127.0.0.1", 8080, on_message=on_text)
    assert_type(server, wsabi.Server)
    chat = wsabi.serve(server=Chat(), factory=Session, unix_path=Path("socket"), origins="any")
    assert_type(chat, Chat)
    wsabi.serve(None, 0, factory=Session, on_message=on_session, origins=["https://a.example"],
                on_upgrade=lambda request: wsabi.Accept("a") if request.query else wsabi.LATER)
    wsabi.serve(on_upgrade=lambda request: None, on_http=lambda request: None,
                on_stopped=lambda stopped: print(stopped.forced))
    assert_type(server.port, "int | None")
    assert_type(server.stopped, "wsabi.Stopped | None")
    server.stop()
    server.stop(grace=1)

    wsabi.serve("127.0.0.1", "8080")  # type: ignore[arg-type]
    wsabi.serve(on_upgrade=lambda request: 5)  # type: ignore[arg-type, return-value]
    wsabi.serve(origins=5)  # type: ignore[arg-type]
    server.stop("1")  # type: ignore[arg-type]


def requests(request: wsabi.Request) -> None:
    request.accept("a", {"A": "b"})
    request.refuse(404, "no", [("A", "b")])
    request.respond(wsabi.Response(200, b"body"))
    request.respond("no")  # type: ignore[arg-type]
    request.accept(5)  # type: ignore[arg-type]


def loops() -> None:
    with wsabi.Loop(max_events=100, logger=logging.getLogger("mine")) as loop:
        assert_type(loop, wsabi.Loop)
        assert_type(loop.fileno(), int)
        assert_type(loop.dispatch(), bool)
        assert_type(loop.poll(0.5), bool)
        assert_type(loop.timeout(), "float | None")
        assert_type(loop.stats().connections, int)
        loop.call_soon_threadsafe(print, 1, "a")
        loop.call_soon_threadsafe(loop.stop)
        with selectors.DefaultSelector() as selector:
            selector.register(loop, selectors.EVENT_READ)
        wsabi.serve(loop=loop)
        wsabi.connect("ws://a/", loop=loop)
        loop.run_forever()
    wsabi.default_loop().run_forever()
    wsabi.run_forever()
    wsabi.stop()

    wsabi.Loop(100)  # type: ignore[call-arg]
    loop.poll("1")  # type: ignore[arg-type]
    wsabi.serve(loop=5)  # type: ignore[arg-type]


async def inside_asyncio() -> None:
    opened: asyncio.Future[wsabi.WebSocket] = asyncio.get_running_loop().create_future()
    queue: asyncio.Queue[str | bytes] = asyncio.Queue()

    def on_message(ws: wsabi.WebSocket, data: str | bytes) -> None:
        queue.put_nowait(data)

    wsabi.connect("ws://a/", on_open=opened.set_result, on_message=on_message,
                  loop=asyncio.get_running_loop())
    ws = await opened
    ws.send("hello")
    assert_type(await queue.get(), "str | bytes")


def errors() -> None:
    try:
        clients()
    except wsabi.BufferFull as error:
        assert_type(error.kind, str)
    except wsabi.TransportError as error:
        assert_type(error.errno, "int | None")
    except wsabi.WebSocketError as error:
        assert_type(error.remote_address, "tuple[str, int] | str | None")
    headers = wsabi.Headers({"A": "b"})
    assert_type(headers.get("A"), "str | None")
    assert_type(headers.get_all("A"), list[str])
    everything: list[Any] = [wsabi.KEEPALIVE_PAYLOAD, wsabi.__version__, wsabi.ServerResponse]
    assert everything
