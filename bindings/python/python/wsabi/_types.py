"""What is told and answered: states, headers, requests, responses, counts.

Does not know: connections and loops, but for the request that is answered later.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Union

from . import _wsabi
from ._errors import Address

__all__ = [
    "LATER",
    "Accept",
    "Agreed",
    "Deflate",
    "HeaderList",
    "Headers",
    "HeadersLike",
    "Later",
    "Reached",
    "Request",
    "Response",
    "ServerResponse",
    "State",
    "Stats",
    "Stopped",
]

HeaderList = list[tuple[str, str]]
#: Header fields as an application gives them: a mapping, or pairs of name and value.
HeadersLike = Union[Mapping[str, str], Iterable[tuple[str, str]]]


class State(enum.IntEnum):
    """How far a connection has come."""

    CONNECTING = 0
    OPEN = 1
    CLOSING = 2
    CLOSED = 3


@dataclass(frozen=True)
class Deflate:
    """How messages are compressed, if both sides agree on permessage-deflate (RFC 7692).

    A server takes a client's offer as far as these allow; a client offers these. Without context
    takeover a loop has one compressor and one decompressor for all its connections. With it, a
    connection keeps the window of the side it receives from (2 to the power of its window bits,
    4 KiB at 12), and, for the side it sends from, a compressor of its own: some 265 KiB at 12 bits
    and ``mem_level`` 8. That one is freed when nothing was compressed for 30 s.
    """

    #: Window of what the server sends, as the logarithm of its size: 9 to 15.
    server_max_window_bits: int = 12
    #: Window of what the client sends: 9 to 15.
    client_max_window_bits: int = 12
    #: Whether the server's messages may refer back to earlier ones.
    server_context_takeover: bool = False
    #: Whether the client's messages may refer back to earlier ones.
    client_context_takeover: bool = False
    #: 1, fast, to 9, small.
    level: int = 6
    #: Memory of a compressor: 1 to 9.
    mem_level: int = 8
    #: Messages shorter than this are sent as they are.
    min_bytes: int = 1024
    #: How many times larger than what came a message may become; one above it fails the connection
    #: with 1009. ``None`` is no limit besides ``max_message_bytes``.
    max_ratio: int | None = None


class Agreed(NamedTuple):
    """What the opening handshake has agreed on about compression."""

    #: Window of what the server sends, as the logarithm of its size: 8 to 15.
    server_max_window_bits: int
    #: Window of what the client sends.
    client_max_window_bits: int
    #: Whether the server's messages may refer back to earlier ones.
    server_context_takeover: bool
    #: Whether the client's messages may refer back to earlier ones.
    client_context_takeover: bool


class Reached(NamedTuple):
    """To how many connections a broadcast went."""

    #: Connections that accepted it.
    sent: int
    #: Of those, connections whose backlog is above high water.
    backpressure: int
    #: Connections that refused it as full, or amid a fragmented message.
    refused: int


class Later(enum.Enum):
    """The type of :data:`LATER`."""

    LATER = "later"

    def __repr__(self) -> str:
        return "wsabi.LATER"


#: What ``on_upgrade`` and ``on_http`` return to answer later, by a method of the request.
LATER = Later.LATER


class Headers(Mapping[str, str]):
    """Header fields, whose names have no case. A name may come several times.

    ``headers[name]`` is the first value of that name; :meth:`get_all` has all of them. Octets
    that are not UTF-8 are kept as surrogate escapes.
    """

    __slots__ = ("_fields",)

    def __init__(self, fields: HeadersLike = ()) -> None:
        self._fields: HeaderList = header_list(fields)

    def __getitem__(self, name: str) -> str:
        wanted = name.lower()
        for known, value in self._fields:
            if known.lower() == wanted:
                return value
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        """The names as they came, each once."""
        seen = set()
        for name, _ in self._fields:
            if name.lower() not in seen:
                seen.add(name.lower())
                yield name

    def __len__(self) -> int:
        return len({name.lower() for name, _ in self._fields})

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and any(
            known.lower() == name.lower() for known, _ in self._fields
        )

    def get_all(self, name: str) -> list[str]:
        """All values of a name, in order."""
        wanted = name.lower()
        return [value for known, value in self._fields if known.lower() == wanted]

    def raw_items(self) -> Iterator[tuple[str, str]]:
        """Every field as it came."""
        return iter(self._fields)

    def __repr__(self) -> str:
        return f"Headers({self._fields!r})"


def header_list(headers: HeadersLike) -> HeaderList:
    """Header fields as a list of pairs of text; whether they may be sent is the core's to say."""
    if isinstance(headers, Headers):
        return list(headers.raw_items())
    pairs: Iterable[tuple[str, str]]
    if isinstance(headers, Mapping):
        pairs = headers.items()
    elif isinstance(headers, Iterable) and not isinstance(headers, (str, bytes)):
        pairs = headers
    else:
        raise TypeError(
            f"headers must be a mapping or pairs of name and value, not {type(headers).__name__}"
        )
    fields = []
    for pair in pairs:
        if not (isinstance(pair, (tuple, list)) and len(pair) == 2):
            raise TypeError(f"headers has {pair!r}; expected a pair of name and value")
        name, value = pair
        if not (isinstance(name, str) and isinstance(value, str)):
            raise TypeError(f"headers has {pair!r}; expected a name and a value of type str")
        fields.append((name, value))
    return fields


class Response:
    """An HTTP response that ends its connection: a refusal, or the answer to plain HTTP.

    :param status: 200 to 599.
    :param body: text, which is sent as UTF-8, or bytes. Text without a ``Content-Type`` field is
        labelled ``text/plain; charset=utf-8``.
    :param headers: further fields; ``Connection`` and ``Content-Length`` are written by wsabi.
    """

    __slots__ = ("body", "headers", "status")

    def __init__(
        self, status: int = 200, body: str | bytes = b"", headers: HeadersLike = ()
    ) -> None:
        if not isinstance(status, int):
            raise TypeError(f"status must be an int, not {type(status).__name__}")
        fields = header_list(headers)
        if isinstance(body, str):
            if not any(name.lower() == "content-type" for name, _ in fields):
                fields.append(("Content-Type", "text/plain; charset=utf-8"))
            body = body.encode()
        elif not isinstance(body, (bytes, bytearray, memoryview)):
            raise TypeError(f"body must be str or bytes, not {type(body).__name__}")
        _wsabi.check_response(status, bytes(body), fields)
        self.status = status
        self.body = bytes(body)
        self.headers = Headers(fields)

    def __repr__(self) -> str:
        return f"<wsabi.Response {self.status}, {len(self.body)} bytes>"


class ServerResponse(NamedTuple):
    """What a server answered to a client's opening handshake."""

    status: int
    reason: str
    headers: Headers


class Accept:
    """How ``on_upgrade`` accepts a request in another way than by default.

    :param subprotocol: one of those the client offers; ``""`` for none; ``None`` for the first of
        the server's that the client offers, if there is one.
    :param headers: further fields of the response.
    """

    __slots__ = ("headers", "subprotocol")

    def __init__(self, subprotocol: str | None = None, headers: HeadersLike = ()) -> None:
        if not (subprotocol is None or isinstance(subprotocol, str)):
            raise TypeError(f"subprotocol must be a str, not {type(subprotocol).__name__}")
        self.subprotocol = subprotocol
        self.headers = Headers(headers)

    def __repr__(self) -> str:
        return f"Accept(subprotocol={self.subprotocol!r}, headers={self.headers!r})"


class Request:
    """What a client asks a server for.

    It may be kept, and takes attributes of the application's own; the same object is ``ws.request``
    in ``on_open``.
    """

    def __init__(
        self,
        loop: _wsabi.Loop,
        number: int,
        method: str,
        target: str,
        http_version: str,
        fields: HeaderList,
        remote_address: Address,
    ) -> None:
        self._loop = loop
        self._number = number
        #: The method, such as ``"GET"``.
        self.method = method
        #: The request target as it was sent, such as ``"/chat?room=1"``.
        self.target = target
        #: ``"1.1"``, for example.
        self.http_version = http_version
        #: The header fields.
        self.headers = Headers(fields)
        #: The client's address.
        self.remote_address = remote_address

    @property
    def path(self) -> str:
        """The path of the target, without the query, as it was sent (not decoded)."""
        return self._parts()[0]

    @property
    def query(self) -> str:
        """The query of the target, without the question mark; empty if there is none."""
        return self._parts()[1]

    def _parts(self) -> tuple[str, str]:
        target = self.target
        if not target.startswith("/") and "://" in target:
            # The absolute form (RFC 9112 section 3.2.2).
            rest = target.split("://", 1)[1]
            cut = min((i for i in (rest.find("/"), rest.find("?")) if i >= 0), default=len(rest))
            target = rest[cut:] if rest[cut:].startswith("/") else "/" + rest[cut:]
        path, _, query = target.partition("?")
        return path, query

    @property
    def origin(self) -> str | None:
        """The page a browser's script comes from; ``None`` if the client is not a browser."""
        return self.headers.get("Origin")

    @property
    def subprotocols(self) -> list[str]:
        """The subprotocols the client offers, in its order of preference."""
        return [
            name.strip()
            for value in self.headers.get_all("Sec-WebSocket-Protocol")
            for name in value.split(",")
            if name.strip()
        ]

    def accept(self, subprotocol: str | None = None, headers: HeadersLike = ()) -> None:
        """Accepts, after ``on_upgrade`` has returned :data:`LATER`. From any thread.

        See :class:`Accept` for the parameters.

        :raises ConnectionClosed: the client is gone, or the request was not answered in time.
        :raises InvalidState: there is nothing to answer (any more).
        :raises InvalidArgument: the subprotocol was not offered, or a header is not allowed; the
            request still waits.
        """
        answer = Accept(subprotocol, headers)
        _wsabi.answer(self._loop, self._number, self, answer)

    def respond(self, response: Response) -> None:
        """Answers with an HTTP response, after :data:`LATER` was returned. From any thread.

        :raises ConnectionClosed: the client is gone, or the request was not answered in time.
        :raises InvalidState: there is nothing to answer (any more).
        """
        if not isinstance(response, Response):
            raise TypeError(f"response must be a wsabi.Response, not {type(response).__name__}")
        _wsabi.answer(self._loop, self._number, self, response)

    def refuse(
        self, status: int = 403, body: str | bytes = b"", headers: HeadersLike = ()
    ) -> None:
        """Refuses, after :data:`LATER` was returned. From any thread. See :class:`Response`."""
        self.respond(Response(status, body, headers))

    def __repr__(self) -> str:
        return f"<wsabi.Request {self.method} {self.target}>"


class Stopped(NamedTuple):
    """What became of a server's connections when it stopped."""

    #: Connections whose closing handshake completed.
    clean: int
    #: Connections that ended otherwise.
    forced: int
    #: Messages that were accepted for sending and not wholly written.
    messages_dropped: int


class Stats(NamedTuple):
    """Counts of a loop since it was made, and what it holds now."""

    #: Connections that are established now.
    connections: int
    #: Opening handshakes that servers are waiting for now.
    pending_handshakes: int
    #: Bytes that wait to be written now.
    buffered_bytes: int
    #: Bytes received.
    bytes_received: int
    #: Bytes handed to the kernel.
    bytes_sent: int
    #: Messages received.
    messages_received: int
    #: Messages accepted for sending.
    messages_sent: int
    #: Connections whose closing handshake completed.
    closes_clean: int
    #: Connections whose transport was lost, or that failed on this side.
    closes_lost: int
    #: Connections failed because the peer broke a rule or a limit.
    closes_protocol: int
    #: Connections that ended by a deadline.
    closes_timeout: int
    #: Connections this side terminated.
    closes_local: int
    #: Opening handshakes that failed.
    handshakes_failed: int
