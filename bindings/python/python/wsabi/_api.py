"""The public classes and functions, with every option, its type and its default.

Does not know: how anything is carried out; that is Rust's.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeVar, Union

from . import _loops, _wsabi
from ._errors import InvalidArgument, WrongThread
from ._types import Accept, Deflate, HeadersLike, Later, Request, Response, Stopped

if TYPE_CHECKING:
    import asyncio

    from typing_extensions import TypeVar as DefaultTypeVar

    from ._wsabi import Loop, ServerBase, WebSocketBase

    W = DefaultTypeVar("W", bound="WebSocket", default="WebSocket")
    S = DefaultTypeVar("S", bound="Server", default="Server")
else:
    from ._wsabi import ServerBase, WebSocketBase

    W = TypeVar("W")
    S = TypeVar("S")

__all__ = ["Server", "WebSocket", "check_callback", "connect", "serve"]

Data = Union[str, bytes]
#: What ``on_upgrade`` may return: ``None`` and ``True`` accept, ``False`` refuses with 403.
UpgradeAnswer = Union[None, bool, Accept, Response, Later]
#: What ``on_http`` may return; ``None`` answers 426, "this server speaks WebSocket only".
HttpAnswer = Union[None, Response, Later]


class WebSocket(WebSocketBase):
    """A connection, as client or server.

    :func:`connect` returns one, and servers' callbacks are given them. It may be kept as long as
    one likes: after its end every call says that it is closed. It takes attributes of the
    application's own.

    Callbacks are given to :func:`connect` and :func:`serve` as arguments, or are methods of a
    subclass that is given there as ``factory``, or are assigned (``ws.on_message = function``;
    assigned and given functions get the connection as their first argument). They are called on
    the loop's thread. An exception in one goes to ``on_error``, or to the logger ``wsabi`` without
    one, and closes the connection with code 1011.
    """

    def on_open(self) -> None:
        """The connection is open. ``self.request`` (at a server) and ``self.response`` (at a
        client) have the peer's part of the opening handshake, until this returns."""

    def on_message(self, data: Data) -> None:
        """A message has arrived: text as str, binary as bytes."""

    def on_chunk(self, data: Data, last: bool) -> None:
        """A part of a message has come, with ``stream_messages``: text as str, cut between
        characters, binary as bytes. ``last`` ends the message, and may come with nothing.
        :meth:`on_message` is not called then."""

    def on_close(self, code: int, reason: str) -> None:
        """The connection has ended: the last call with it. Comes once for everything that was
        opened, and once for every :func:`connect`, opened or not.

        :param code: the code of the peer's Close frame; 1005 if it had none, 1006 if no Close frame
            came. ``self.error`` tells why, then.
        :param reason: the reason in the peer's Close frame, or ``""``.
        """

    def on_error(self, error: Exception) -> None:
        """A callback has raised an exception, or a client's connection could not be opened."""

    def on_ping(self, data: bytes) -> None:
        """A ping has arrived, and is answered."""

    def on_pong(self, data: bytes) -> None:
        """A pong has arrived; those that answer keepalive pings carry
        :data:`KEEPALIVE_PAYLOAD`."""

    def on_drain(self) -> None:
        """After a send that returned False or raised :exc:`BufferFull`: the backlog has fallen to
        low water."""

    def __repr__(self) -> str:
        try:
            state = self.state.name.lower()
            peer = self.url or self.remote_address or ""
        except WrongThread:
            state, peer = "of another thread", self.url or ""
        return f"<wsabi.WebSocket {state} {peer}>".replace(" >", ">")


class Server(ServerBase):
    """A server, as :func:`serve` returns it.

    A subclass may have the callbacks as methods; those about a connection get it as their first
    argument after ``self``. An instance of the subclass is given to :func:`serve` as ``server``.
    """

    @property
    def url(self) -> str | None:
        """The address as a URL, such as ``"ws://127.0.0.1:8080"``; ``None`` for a unix socket."""
        address = self.address
        if not isinstance(address, tuple):
            return None
        host, port = address
        return f"ws://[{host}]:{port}" if ":" in host else f"ws://{host}:{port}"

    def on_upgrade(self, request: Request) -> UpgradeAnswer:
        """A client asks for a WebSocket, with a request that is valid and allowed by ``origins``.

        ``None`` and ``True`` accept, an :class:`Accept` does so with more to say, ``False`` refuses
        with 403, a :class:`Response` refuses with that, and :data:`LATER` leaves the answer to the
        request's methods.
        """
        return None

    def on_http(self, request: Request) -> HttpAnswer:
        """A client asks for something else than a WebSocket. ``None`` answers 426."""
        return None

    def on_open(self, ws: Any) -> None:
        """See :meth:`WebSocket.on_open`."""

    def on_message(self, ws: Any, data: Data) -> None:
        """See :meth:`WebSocket.on_message`."""

    def on_chunk(self, ws: Any, data: Data, last: bool) -> None:
        """See :meth:`WebSocket.on_chunk`."""

    def on_close(self, ws: Any, code: int, reason: str) -> None:
        """See :meth:`WebSocket.on_close`."""

    def on_error(self, ws: Any, error: Exception) -> None:
        """A callback has raised an exception, or an opening handshake has failed: then ``ws`` is
        ``None``, and ``error.remote_address`` tells whose."""

    def on_ping(self, ws: Any, data: bytes) -> None:
        """See :meth:`WebSocket.on_ping`."""

    def on_pong(self, ws: Any, data: bytes) -> None:
        """See :meth:`WebSocket.on_pong`."""

    def on_drain(self, ws: Any) -> None:
        """See :meth:`WebSocket.on_drain`."""

    def on_stopped(self, stopped: Stopped) -> None:
        """A server that was told to stop has no connections left: the last call with it."""

    def __repr__(self) -> str:
        if self.stopped is not None:
            return "<wsabi.Server stopped>"
        return f"<wsabi.Server {self.address}>"


def check_callback(name: str, callback: Any) -> None:
    """Refuses what cannot be a callback."""
    if not callable(callback):
        raise TypeError(f"{name} must be callable or None, not {type(callback).__name__}")
    if inspect.iscoroutinefunction(callback):
        raise TypeError(
            f"{name} must be a plain function, not a coroutine function: nobody would await it. "
            "Inside asyncio, let it start a task"
        )


def connect(
    url: str,
    *,
    loop: Loop | asyncio.AbstractEventLoop | None = None,
    factory: Callable[[], W] = WebSocket,  # type: ignore[assignment]
    on_open: Callable[[W], object] | None = None,
    on_message: Callable[[W, Any], object] | None = None,
    on_chunk: Callable[[W, Any, bool], object] | None = None,
    on_close: Callable[[W, int, str], object] | None = None,
    on_error: Callable[[W, Exception], object] | None = None,
    on_ping: Callable[[W, bytes], object] | None = None,
    on_pong: Callable[[W, bytes], object] | None = None,
    on_drain: Callable[[W], object] | None = None,
    subprotocols: Sequence[str] = (),
    origin: str | None = None,
    headers: HeadersLike = (),
    unix_path: str | PathLike[str] | None = None,
    max_message_bytes: int = 16777216,
    max_fragments: int = 65536,
    max_handshake_bytes: int = 16384,
    max_handshake_headers: int = 100,
    handshake_timeout: float = 10.0,
    ping_interval: float | None = 20.0,
    ping_timeout: float = 20.0,
    idle_timeout: float | None = None,
    close_timeout: float = 5.0,
    high_water_bytes: int = 1048576,
    low_water_bytes: int = 262144,
    max_backlog_bytes: int = 16777216,
    no_delay: bool = True,
    stream_messages: bool = False,
    deflate: bool | Deflate | None = None,
) -> W:
    """Starts to connect to a server, and returns at once: the connection is not open yet.

    Exactly one ``on_close`` follows, whether or not ``on_open`` comes before it. Why a connection
    could not be opened is told to ``on_error`` (or to the logger ``wsabi``), and is ``ws.error``.

    :param url: such as ``ws://example.com/chat``.
    :param loop: what drives the connection: a :class:`Loop`, or an asyncio loop. Default: the
        running asyncio loop, else the thread's own (see :func:`run_forever`).
    :param factory: makes the object of the connection; a subclass of :class:`WebSocket`, for
        example.
    :param on_open, on_message, on_chunk, on_close, on_error, on_ping, on_pong, on_drain: called as
        :class:`WebSocket` describes, with the connection first.
    :param subprotocols: offered to the server, in order of preference.
    :param origin: the value of the Origin header, which only browsers have to send.
    :param headers: further header fields of the request.
    :param unix_path: a unix socket to connect to instead of the URL's host.
    :param max_message_bytes: largest message accepted; one above fails the connection with 1009.
    :param max_fragments: most fragments after a message's first; one more fails it with 1008.
    :param max_handshake_bytes, max_handshake_headers: limits of the server's response.
    :param handshake_timeout: seconds for connecting and the opening handshake together.
    :param ping_interval: seconds between keepalive pings; ``None`` sends none.
    :param ping_timeout: seconds after a ping within which the peer must give a sign of life.
    :param idle_timeout: longest time without a received byte, in seconds; ``None`` is no limit.
    :param close_timeout: seconds for the closing handshake.
    :param high_water_bytes: backlog above which ``send`` returns False.
    :param low_water_bytes: backlog at or below which ``on_drain`` follows; lowered along with
        ``high_water_bytes`` if it is not given.
    :param max_backlog_bytes: backlog that a send may not exceed once it is at high water; raised
        along with ``high_water_bytes`` if it is not given.
    :param no_delay: whether ``TCP_NODELAY`` is set.
    :param stream_messages: whether messages are given to ``on_chunk`` as they come, instead of whole
        to ``on_message``. ``max_message_bytes`` still counts the whole.
    :param deflate: whether to compress (permessage-deflate), and how: ``True`` for the defaults of
        :class:`Deflate`, or one of those. ``ws.deflate`` tells what was agreed on.
    :raises InvalidArgument: a URL or an option that makes no sense; also a ``ValueError``.
    :raises TypeError: an option of the wrong type.
    :raises Unsupported: ``wss://``, which this version does not have.
    """
    options = dict(locals())
    for name in ("url", "loop", "factory"):
        del options[name]
    _check_chunks(options)
    ws = _make(factory)
    _wsabi.connect(_loops.choose(loop), ws, url, options)
    return ws


def serve(
    host: str | None = None,
    port: int = 0,
    *,
    loop: Loop | asyncio.AbstractEventLoop | None = None,
    server: S | None = None,
    factory: Callable[[], W] = WebSocket,  # type: ignore[assignment]
    on_upgrade: Callable[[Request], UpgradeAnswer] | None = None,
    on_http: Callable[[Request], HttpAnswer] | None = None,
    on_open: Callable[[W], object] | None = None,
    on_message: Callable[[W, Any], object] | None = None,
    on_chunk: Callable[[W, Any, bool], object] | None = None,
    on_close: Callable[[W, int, str], object] | None = None,
    on_error: Callable[[Any, Exception], object] | None = None,
    on_ping: Callable[[W, bytes], object] | None = None,
    on_pong: Callable[[W, bytes], object] | None = None,
    on_drain: Callable[[W], object] | None = None,
    on_stopped: Callable[[Stopped], object] | None = None,
    unix_path: str | PathLike[str] | None = None,
    subprotocols: Sequence[str] = (),
    origins: Literal["same-host", "any"] | Iterable[str] = "same-host",
    backlog: int = 4096,
    reuse_port: bool = False,
    max_buffered_bytes: int | None = None,
    max_message_bytes: int = 16777216,
    max_fragments: int = 65536,
    max_handshake_bytes: int = 16384,
    max_handshake_headers: int = 100,
    max_pending_handshakes: int = 1024,
    handshake_timeout: float = 10.0,
    hold_timeout: float = 10.0,
    ping_interval: float | None = 20.0,
    ping_timeout: float = 20.0,
    idle_timeout: float | None = None,
    close_timeout: float = 5.0,
    high_water_bytes: int = 1048576,
    low_water_bytes: int = 262144,
    max_backlog_bytes: int = 16777216,
    no_delay: bool = True,
    stream_messages: bool = False,
    deflate: bool | Deflate | None = None,
) -> S:
    """Starts a server. It listens when this returns; connections are accepted as the loop runs.

    :param host: an address, or a name, which is resolved at once; ``None`` for every address of
        this machine, IPv6 and IPv4.
    :param port: 0 picks a free one, which ``server.port`` tells.
    :param loop: what drives the server: a :class:`Loop`, or an asyncio loop. Default: the running
        asyncio loop, else the thread's own (see :func:`run_forever`).
    :param server: an instance of a subclass of :class:`Server`, whose methods are callbacks.
    :param factory: makes the object of each connection; a subclass of :class:`WebSocket`, for
        example.
    :param on_upgrade: ``on_upgrade(request)``, see :meth:`Server.on_upgrade`. Without it every
        request that is valid and passes ``origins`` is accepted.
    :param on_http: ``on_http(request)``, see :meth:`Server.on_http`.
    :param on_open, on_message, on_chunk, on_close, on_error, on_ping, on_pong, on_drain: called as
        :class:`WebSocket` describes, with the connection first. ``on_error`` is also told of
        opening handshakes that failed, with ``None`` for the connection.
    :param on_stopped: ``on_stopped(stopped)``, see :meth:`Server.on_stopped`.
    :param unix_path: a unix socket to listen on instead of host and port.
    :param subprotocols: those the server speaks, in its order of preference.
    :param origins: which pages' scripts may connect: ``"same-host"``, those whose Origin equals the
        request's Host; ``"any"``; or a list such as ``["https://example.com"]``. Requests without
        an Origin do not come from browsers and are always accepted.
    :param backlog: length of the kernel's queue of connections to accept.
    :param reuse_port: whether other sockets may listen on the same port (``SO_REUSEPORT``).
    :param max_buffered_bytes: most bytes that its connections may hold together, in unfinished
        messages and backlogs. Above it large unfinished messages are not read; after 5 s without
        relief the connection that holds most is closed with 1013, and then the next. ``None`` is
        no limit.
    :param max_pending_handshakes: the oldest pending opening handshake is dropped for one more.
    :param hold_timeout: further seconds for a request that is answered later.

    The other options are as for :func:`connect`, for each connection.

    :raises InvalidArgument: an option that makes no sense; also a ``ValueError``.
    :raises TypeError: an option of the wrong type.
    :raises TransportError: the address cannot be listened on; also an ``OSError``.
    """
    options = dict(locals())
    for name in ("loop", "server"):
        del options[name]
    _check_chunks(options)
    if server is None:
        server = Server()  # type: ignore[assignment]
    elif not isinstance(server, Server):
        raise TypeError(
            f"server must be an instance of wsabi.Server, not {type(server).__name__}"
        )
    _check_factory(factory)
    assert server is not None
    _wsabi.serve(_loops.choose(loop), server, options)
    return server


def _check_chunks(options: dict[str, Any]) -> None:
    if options["on_chunk"] is None:
        return
    check_callback("on_chunk", options["on_chunk"])
    if options["stream_messages"] is False:
        raise InvalidArgument(
            "on_chunk is given without stream_messages=True, and would never be called"
        )


def _check_factory(factory: Any) -> None:
    if not callable(factory):
        raise TypeError(f"factory must be callable, not {type(factory).__name__}")


def _make(factory: Callable[[], W]) -> W:
    """The object of a client's connection."""
    _check_factory(factory)
    ws = factory()
    if not isinstance(ws, WebSocket):
        raise TypeError(f"factory must make a wsabi.WebSocket, not {type(ws).__name__}")
    return ws
