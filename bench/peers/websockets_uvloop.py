"""An echo server: the asyncio API of `websockets` on uvloop."""

import uvloop
from websockets.asyncio.server import serve

WRITE_LIMIT = 1024 * 1024


async def echo(ws):
    async for message in ws:
        await ws.send(message)


async def main():
    # TCP_NODELAY is uvloop's default.
    async with serve(
        echo,
        "127.0.0.1",
        0,
        compression=None,
        ping_interval=None,
        max_size=None,
        max_queue=None,
        write_limit=WRITE_LIMIT,
    ) as server:
        print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await server.serve_forever()


uvloop.run(main())
