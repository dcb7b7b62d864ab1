"""Which loop a connection or server runs on: one given, the running asyncio loop, or the thread's.

Does not know: connections.
"""

from __future__ import annotations

import os
import sys
import threading
import weakref
from typing import TYPE_CHECKING

from ._errors import InvalidState
from ._wsabi import Loop

if TYPE_CHECKING:
    import asyncio

__all__ = ["choose", "default_loop", "run_forever", "stop"]

_of_thread = threading.local()
# Weak on both sides: callbacks that ours keeps may refer to the asyncio loop, which keeps ours by
# watching it.
_of_asyncio: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, weakref.ref[Loop]] = (
    weakref.WeakKeyDictionary()
)


def _forget_parents() -> None:
    """In the child of a fork: the loops are the parent's, so new ones are made when needed."""
    global _of_thread, _of_asyncio
    _of_thread = threading.local()
    _of_asyncio = weakref.WeakKeyDictionary()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parents)


class AsyncioHost:
    """An asyncio loop that watches the descriptor of one of ours.

    Holds the asyncio loop weakly: that one holds us, and is closed whenever its owner likes.
    """

    def __init__(self, host: asyncio.AbstractEventLoop, loop: Loop) -> None:
        self._host = weakref.ref(host)
        self._fd = loop.fileno()
        self._flush = loop.flush
        host.add_reader(self._fd, loop.dispatch)

    def schedule(self) -> bool:
        """Has what was sent in this tick written at its end; tells whether somebody will."""
        host = self._host()
        if host is None or host.is_closed():
            return False
        host.call_soon(self._flush)
        return True

    def release(self) -> None:
        """Ends the watching."""
        host = self._host()
        if host is not None and not host.is_closed():
            host.remove_reader(self._fd)


def default_loop() -> Loop:
    """The calling thread's own loop, made when it is first asked for.

    It is what :func:`connect` and :func:`serve` use outside of asyncio when no loop is given.
    """
    loop: Loop | None = getattr(_of_thread, "loop", None)
    if loop is None or loop.closed:
        loop = _of_thread.loop = Loop()
    return loop


def run_forever() -> None:
    """Runs the calling thread's loop until nothing is left, or until :func:`stop`.

    Nothing is left when there is no server, no connection and no posted call. A ``KeyboardInterrupt``
    (Ctrl-C) ends it at once; connections stay as they are, and running can go on.

    :raises InvalidState: inside asyncio, whose loop drives the connections, or inside a callback.
    """
    if _running() is not None:
        raise InvalidState(
            "run_forever() inside asyncio: connections made here are driven by the asyncio loop, "
            "which only has to go on running"
        )
    default_loop().run_forever()


def stop() -> None:
    """Makes the calling thread's :func:`run_forever` return; connections stay as they are.

    To stop another thread's loop call its :meth:`Loop.stop`.
    """
    default_loop().stop()


def _running() -> asyncio.AbstractEventLoop | None:
    if "asyncio" not in sys.modules:  # Then no loop of it can be running.
        return None
    import asyncio

    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None


def choose(loop: Loop | asyncio.AbstractEventLoop | None) -> Loop:
    """The loop that a connection or server given ``loop=`` runs on."""
    if isinstance(loop, Loop):
        return loop
    if loop is None:
        loop = _running()
        if loop is None:
            return default_loop()
    elif not hasattr(loop, "add_reader"):
        raise TypeError(
            f"loop must be a wsabi.Loop, an asyncio loop or None, not {type(loop).__name__}"
        )
    return _hosted(loop)


def _hosted(host: asyncio.AbstractEventLoop) -> Loop:
    known = _of_asyncio.get(host)
    loop = known() if known is not None else None
    if loop is None or loop.closed:
        loop = Loop()
        loop.set_host(AsyncioHost(host, loop))
        _of_asyncio[host] = weakref.ref(loop)
    return loop
