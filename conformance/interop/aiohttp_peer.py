"""Python's `aiohttp` as the foreign peer; runs inside the virtual environment. See peer.py.

It has no fragments and no Close without a code. Its client lets the window be chosen that the
server has, its server nothing.
"""
import contextlib
import socket
import sys

from aiohttp import ClientSession, WSMsgType, WSServerHandshakeError, web

import peer

NAME = "aiohttp"


class Link:
    """One connection, in the words of peer.py."""

    def __init__(self, ws, extensions, session=None):
        self.ws = ws
        self.extensions = extensions
        self.session = session

    async def send(self, data, text):
        with closed():
            await self.ws.send_frame(data, WSMsgType.TEXT if text else WSMsgType.BINARY)

    async def next(self):
        message = await self.ws.receive()
        if message.type is WSMsgType.PING:
            await self.ws.pong(message.data)
        elif message.type is WSMsgType.CLOSE:
            raise peer.Closed(message.data)
        elif message.type not in (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PONG):
            raise peer.Closed(1006)
        return message

    async def receive(self):
        while True:
            message = await self.next()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                return message.data

    async def ping(self, data):
        """To be awaited: the pong."""
        async def pong():
            while True:
                message = await self.next()
                if message.type is WSMsgType.PONG and message.data == data:
                    return
        await self.ws.ping(data)
        return pong()

    async def pong(self, data):
        await self.ws.pong(data)

    async def close(self, code, reason):
        """The code of the peer's Close frame; its reason is not told."""
        await self.ws.close(code=code, message=reason.encode())
        return (None if self.ws.close_code == 1006 else self.ws.close_code), ""

    async def cut_off(self):
        if sock := self.ws.get_extra_info("socket"):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        if self.session:
            await self.session.close()

    def received(self):
        return peer.received(self.ws)


@contextlib.contextmanager
def closed():
    try:
        yield
    except ConnectionError:
        raise peer.Closed(1006) from None


async def connect(url, args, origin=None):
    session = ClientSession()
    try:
        ws = await session.ws_connect(
            url, origin=origin, autoping=False, max_msg_size=args.max_message or 0,
            compress=(args.deflate_window_bits or 15) if args.deflate else 0)
    except WSServerHandshakeError as e:
        await session.close()
        raise peer.Refused(e.status) from None
    except BaseException:
        await session.close()
        raise
    return Link(ws, ws._response.headers.get("Sec-WebSocket-Extensions", ""), session)


@contextlib.asynccontextmanager
async def listen(port, args, refuse, on_link):
    links = set()

    async def handle(request):
        status = refuse(request.path_qs, request.headers)
        if status is not None:
            return web.Response(status=status, text="refused by the test\n")
        ws = web.WebSocketResponse(autoping=False, compress=args.deflate,
                                   max_msg_size=args.max_message or 0)
        await ws.prepare(request)
        link = Link(ws, ws.headers.get("Sec-WebSocket-Extensions", ""))
        links.add(link)
        try:
            await on_link(link, request.path_qs)
        finally:
            links.discard(link)
        return ws

    runner = web.ServerRunner(web.Server(handle))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", port).start()
    try:
        yield runner.addresses[0][1]
    finally:
        for link in list(links):
            await link.close(1001, "")
        await runner.cleanup()


if __name__ == "__main__":
    peer.main(sys.modules[__name__])
