"""Python's `websockets` as the foreign peer; runs inside the virtual environment. See peer.py."""
import contextlib
import sys

from websockets.asyncio.client import connect as open_connection
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory, ServerPerMessageDeflateFactory)

import peer

NAME = "websockets"


class Link:
    """One connection, in the words of peer.py."""

    def __init__(self, ws):
        self.ws = ws
        self.extensions = ws.response.headers.get("Sec-WebSocket-Extensions", "")

    async def send(self, data, text):
        with self.closed():
            await self.ws.send(data, text=text)

    async def send_fragments(self, fragments, text):
        with self.closed():
            await self.ws.send(fragments, text=text)

    async def receive(self):
        with self.closed():
            return await self.ws.recv()

    async def ping(self, data):
        """To be awaited: the pong."""
        with self.closed():
            return await self.ws.ping(data)

    async def pong(self, data):
        with self.closed():
            await self.ws.pong(data)

    async def close(self, code, reason):
        """The code and reason of the peer's Close frame."""
        if code is None:
            with contextlib.suppress(ConnectionClosed):
                async with self.ws.send_context():
                    self.ws.protocol.send_close()
        else:
            await self.ws.close(code, reason)
        got = self.ws.protocol.close_rcvd
        return (None, "") if got is None else (got.code, got.reason)

    async def cut_off(self):
        """Ends the transport, unless it has ended: then asyncio's must not be touched."""
        if not self.ws.connection_lost_waiter.done():
            self.ws.transport.abort()
        await self.ws.wait_closed()

    def received(self):
        return peer.received(self.ws.transport)

    @contextlib.contextmanager
    def closed(self):
        try:
            yield
        except ConnectionClosed as e:
            raise peer.Closed(e.rcvd.code if e.rcvd else 1006) from None


def options(args, factory):
    fixed = dict(ping_interval=None, max_size=args.max_message)
    if not args.deflate:
        return dict(fixed, compression=None)
    if args.deflate_window_bits is None:
        return dict(fixed, compression="deflate")
    return dict(fixed, compression=None, extensions=[factory(
        server_no_context_takeover=not args.context_takeover,
        client_no_context_takeover=not args.context_takeover,
        server_max_window_bits=args.deflate_window_bits,
        client_max_window_bits=args.deflate_window_bits)])


async def connect(url, args, origin=None):
    try:
        return Link(await open_connection(url, origin=origin, proxy=None,
                                          **options(args, ClientPerMessageDeflateFactory)))
    except InvalidStatus as e:
        raise peer.Refused(e.response.status_code) from None


@contextlib.asynccontextmanager
async def listen(port, args, refuse, on_link):
    def admit(ws, request):
        status = refuse(request.path, request.headers)
        return None if status is None else ws.respond(status, "refused by the test\n")

    async with serve(lambda ws: on_link(Link(ws), ws.request.path), "127.0.0.1", port,
                     process_request=admit,
                     **options(args, ServerPerMessageDeflateFactory)) as server:
        yield server.sockets[0].getsockname()[1]


if __name__ == "__main__":
    peer.main(sys.modules[__name__])
