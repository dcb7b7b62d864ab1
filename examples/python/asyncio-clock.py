"""asyncio-clock [PORT]

A WebSocket server and another task side by side in one asyncio program: whoever connects to it is
told the time, each second. Nothing in it is a thread; the asyncio loop drives the connections.

    python asyncio-clock.py 8080
    python -m websockets ws://127.0.0.1:8080    # for example, to listen to it

PORT is 8080 if none is given; 0 picks one. SIGINT and SIGTERM end it.
"""

import argparse
import asyncio
import signal
import time

import wsabi


def on_message(ws: wsabi.WebSocket, data: str | bytes) -> None:
    ws.close(1003, "this is a clock, it does not listen")


async def tick(server: wsabi.Server) -> None:
    """The other task. It sends as any code on the loop's thread may, outside of callbacks too."""
    while True:
        now = time.strftime("%H:%M:%S")
        for ws in server.connections:
            # Who has not taken the last one yet is spared this one; who is closing, every one.
            if ws.state == wsabi.State.OPEN and ws.buffered_amount == 0:
                ws.send(now)
        await asyncio.sleep(1)


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    stopped: asyncio.Future[wsabi.Stopped] = loop.create_future()
    server = wsabi.serve("127.0.0.1", port, on_message=on_message, on_stopped=stopped.set_result)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, server.stop)
    print(f"listening on ws://127.0.0.1:{server.port}", flush=True)

    ticking = asyncio.create_task(tick(server))
    await stopped
    ticking.cancel()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="asyncio-clock", description="Tells the time.")
    parser.add_argument("port", type=int, nargs="?", default=8080, help="0 picks one")
    asyncio.run(main(parser.parse_args().port))
