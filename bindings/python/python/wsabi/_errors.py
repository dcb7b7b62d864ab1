"""The exceptions, and which kind of error is told by which.

Does not know: where errors come from.
"""

from __future__ import annotations

from typing import Union

__all__ = [
    "Address",
    "BufferFull",
    "ConnectionClosed",
    "ConnectionTimeout",
    "Forked",
    "HandshakeError",
    "HandshakeRefused",
    "InvalidArgument",
    "InvalidState",
    "ProtocolError",
    "TransportError",
    "Unsupported",
    "WebSocketError",
    "WrongThread",
]

#: ``(host, port)`` of a TCP peer, the path of a unix socket, or ``None`` if it is not known.
Address = Union[tuple[str, int], str, None]


class WebSocketError(Exception):
    """Something went wrong in wsabi. The base of all its exceptions.

    The text says what was wrong and what was expected.
    """

    #: What went wrong, as every language calls it, such as ``"MESSAGE_TOO_BIG"``.
    kind: str = ""
    #: Its number, the same as ``WSABI_E_MESSAGE_TOO_BIG`` in C.
    number: int = 0
    #: The status with which a server refused the opening handshake, or 0.
    status: int = 0
    #: The address of the peer whose opening handshake failed at a server.
    remote_address: Address = None


class ConnectionClosed(WebSocketError):
    """The connection, the server or the loop is closed; nothing was sent."""


class BufferFull(WebSocketError):
    """Too many bytes wait to be written; nothing was sent. ``on_drain`` tells when to go on."""


class InvalidArgument(WebSocketError, ValueError):
    """An argument is not allowed."""


class InvalidState(WebSocketError, RuntimeError):
    """The right call at the wrong moment, such as a send before the connection is open."""


class WrongThread(WebSocketError, RuntimeError):
    """The call belongs to the loop's thread and came from another."""


class Forked(WebSocketError, RuntimeError):
    """The loop was made before this process was forked; it belongs to the parent."""


class Unsupported(WebSocketError):
    """This version or this platform cannot do that."""


class TransportError(WebSocketError, OSError):
    """The operating system, the network or the peer's transport failed; ``errno`` may say how."""


class ProtocolError(WebSocketError):
    """The peer broke a rule of the protocol or one of our limits."""


class HandshakeError(WebSocketError):
    """The opening handshake failed."""


class HandshakeRefused(HandshakeError):
    """The server answered the opening handshake with another status than 101; see ``status``."""


class ConnectionTimeout(WebSocketError, TimeoutError):
    """A handshake, a ping's answer, or any byte at all took too long."""


class _Defect(WebSocketError, RuntimeError):
    """A defect inside wsabi was caught."""


class _NoMemory(WebSocketError, MemoryError):
    """Memory could not be had."""


_CLASSES: dict[str, type[WebSocketError]] = {
    "INVALID": InvalidArgument,
    "CLOSED": ConnectionClosed,
    "FULL": BufferFull,
    "THREAD": WrongThread,
    "REENTRANT": InvalidState,
    "STATE": InvalidState,
    "UNSUPPORTED": Unsupported,
    "FORKED": Forked,
    "PANIC": _Defect,
    "NO_MEMORY": _NoMemory,
    "IO": TransportError,
    "LISTEN": TransportError,
    "RESOLVE": TransportError,
    "CONNECT": TransportError,
    "LOST": TransportError,
    "PROTOCOL": ProtocolError,
    "INVALID_TEXT": ProtocolError,
    "MESSAGE_TOO_BIG": ProtocolError,
    "TOO_MANY_FRAGMENTS": ProtocolError,
    "INVALID_DEFLATE": ProtocolError,
    "OVER_BUDGET": ConnectionClosed,
    "HANDSHAKE": HandshakeError,
    "HANDSHAKE_TOO_LARGE": HandshakeError,
    "ORIGIN": HandshakeError,
    "REFUSED": HandshakeRefused,
    "OVERLOADED": HandshakeError,
    "HANDSHAKE_TIMEOUT": ConnectionTimeout,
    "KEEPALIVE_TIMEOUT": ConnectionTimeout,
    "IDLE_TIMEOUT": ConnectionTimeout,
    "CLOSE_TIMEOUT": ConnectionTimeout,
    "TERMINATED": ConnectionClosed,
    "STOPPED": ConnectionClosed,
}


def make(
    kind: str, number: int, text: str, os_error: int, status: int, peer: Address
) -> WebSocketError:
    """The exception that tells an error of the core."""
    error_class = _CLASSES.get(kind, WebSocketError)
    # An OSError with a number and a text has both as attributes.
    is_os_error = os_error and issubclass(error_class, OSError)
    error = error_class(os_error, text) if is_os_error else error_class(text)
    error.kind, error.number, error.status, error.remote_address = kind, number, status, peer
    return error
