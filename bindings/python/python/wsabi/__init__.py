"""wsabi: WebSocket (RFC 6455) for clients and servers, with callbacks, on one file descriptor.

A server that sends every message back::

    import wsabi

    wsabi.serve("127.0.0.1", 8080, on_message=lambda ws, data: ws.send(data))
    wsabi.run_forever()

A client::

    import wsabi

    def on_message(ws, data):
        print(data)
        ws.close()

    ws = wsabi.connect("ws://127.0.0.1:8080/", on_open=lambda ws: ws.send("hello"),
                       on_message=on_message)
    wsabi.run_forever()

Inside asyncio (and uvloop) leave ``run_forever`` out: the running loop drives the connections. In
any other event loop watch :meth:`Loop.fileno`, and call :meth:`Loop.dispatch` when it is readable.
"""

from ._api import Server, WebSocket, connect, serve
from ._errors import (
    Address,
    BufferFull,
    ConnectionClosed,
    ConnectionTimeout,
    Forked,
    HandshakeError,
    HandshakeRefused,
    InvalidArgument,
    InvalidState,
    ProtocolError,
    TransportError,
    Unsupported,
    WebSocketError,
    WrongThread,
)
from ._loops import default_loop, run_forever, stop
from ._types import (
    LATER,
    Accept,
    Agreed,
    Deflate,
    Headers,
    Later,
    Reached,
    Request,
    Response,
    ServerResponse,
    State,
    Stats,
    Stopped,
)
from ._wsabi import KEEPALIVE_PAYLOAD, Loop, Prepared, __version__, broadcast

__all__ = [
    "KEEPALIVE_PAYLOAD",
    "LATER",
    "Accept",
    "Address",
    "Agreed",
    "BufferFull",
    "ConnectionClosed",
    "ConnectionTimeout",
    "Deflate",
    "Forked",
    "HandshakeError",
    "HandshakeRefused",
    "Headers",
    "InvalidArgument",
    "InvalidState",
    "Later",
    "Loop",
    "Prepared",
    "ProtocolError",
    "Reached",
    "Request",
    "Response",
    "Server",
    "ServerResponse",
    "State",
    "Stats",
    "Stopped",
    "TransportError",
    "Unsupported",
    "WebSocket",
    "WebSocketError",
    "WrongThread",
    "__version__",
    "broadcast",
    "connect",
    "default_loop",
    "run_forever",
    "serve",
    "stop",
]
