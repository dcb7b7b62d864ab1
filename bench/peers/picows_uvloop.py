"""An echo server: picows' core API on uvloop. It echoes frame by frame, as that API has them."""

import uvloop
from picows import WSListener, WSMsgType, ws_create_server

BINARY, TEXT, CONTINUATION = WSMsgType.BINARY, WSMsgType.TEXT, WSMsgType.CONTINUATION
MAX_FRAME_BYTES = 128 * 1024 * 1024  # more than the load generator sends


class Echo(WSListener):
    def on_ws_connected(self, transport):
        self.transport = transport

    def on_ws_frame(self, transport, frame):
        kind = frame.msg_type
        if kind == BINARY or kind == TEXT or kind == CONTINUATION:
            # A view of the receive buffer: send() copies what the kernel does not take.
            transport.send(kind, frame.get_payload_as_memoryview(), frame.fin)
        elif kind == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()

    def pause_writing(self):
        self.transport.underlying_transport.pause_reading()

    def resume_writing(self):
        self.transport.underlying_transport.resume_reading()


async def main():
    # TCP_NODELAY, no pings and aiofastnet's transports are picows' defaults.
    server = await ws_create_server(lambda request: Echo(), "127.0.0.1", 0, max_frame_size=MAX_FRAME_BYTES)
    print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


uvloop.run(main())
