"""An echo server: wsabi's callbacks inside asyncio, on uvloop."""

import asyncio

import uvloop
import wsabi


def on_message(ws, data):
    """A peer that does not take its replies is not read from until it has."""
    if not ws.send(data):
        ws.pause()


def on_drain(ws):
    ws.resume()


async def main():
    server = wsabi.serve("127.0.0.1", 0, on_message=on_message, on_drain=on_drain)
    print(f"listening on ws://127.0.0.1:{server.port}", flush=True)
    await asyncio.Event().wait()


uvloop.run(main())
