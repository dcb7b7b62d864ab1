"""Programs inside asyncio and uvloop.

Does not know: what any test is about.
"""
import asyncio

import wsabi
from support import url


async def until(condition):
    while not condition():
        await asyncio.sleep(0.001)


async def echo_pair(**options):
    """A server that sends all back, and an open client, whose messages go into a queue."""
    server = wsabi.serve("127.0.0.1", 0, on_message=lambda ws, data: ws.send(data), **options)
    queue = asyncio.Queue()
    opened = asyncio.get_running_loop().create_future()
    client = wsabi.connect(url(server), on_open=opened.set_result,
                           on_message=lambda ws, data: queue.put_nowait(data))
    assert await opened is client
    return server, client, queue
