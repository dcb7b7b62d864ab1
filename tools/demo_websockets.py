"""Python's `websockets` in the demo: demo_websockets.py URL NAME. Same words as demo-client."""
import asyncio
import sys

from websockets.asyncio.client import connect

MESSAGES = ["Hello from Python's websockets", "Grüße, 世界 🌍", bytes([0, 1, 254, 255])]


def shown(message):
    return f'"{message}"' if isinstance(message, str) else f"{len(message)} bytes"


async def main(url, name):
    async with connect(url, compression=None, proxy=None) as ws:
        for message in MESSAGES:
            print(f"{name} -> {shown(message)}", flush=True)
            await ws.send(message)
            got = await asyncio.wait_for(ws.recv(), 10)
            print(f"{name} <- {shown(got)}", flush=True)
            if got != message or type(got) is not type(message):
                sys.exit("that is not what was sent")


asyncio.run(main(*sys.argv[1:]))
