"""echo-server PORT [--host H] [--max-message BYTES]
            [--deflate [--deflate-window-bits N] [--context-takeover]]

Sends every message back. PORT 0 picks one. SIGINT and SIGTERM end it.
"""

import argparse
import signal
import sys

import wsabi


def on_message(ws: wsabi.WebSocket, data: str | bytes) -> None:
    try:
        # A peer that does not take its replies is not read from until it has.
        if not ws.send(data):
            ws.pause()
    except wsabi.ConnectionClosed:
        pass  # The server stops, and this message was on its way.


def on_drain(ws: wsabi.WebSocket) -> None:
    ws.resume()


def deflate(args: argparse.Namespace) -> wsabi.Deflate | None:
    if not args.deflate:
        return None
    return wsabi.Deflate(
        server_max_window_bits=args.deflate_window_bits,
        client_max_window_bits=args.deflate_window_bits,
        server_context_takeover=args.context_takeover,
        client_context_takeover=args.context_takeover,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="echo-server", description="Sends every message back.")
    parser.add_argument("port", type=int, help="0 picks one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--max-message", type=int, default=16 << 20, metavar="BYTES")
    parser.add_argument("--deflate", action="store_true", help="accept permessage-deflate")
    parser.add_argument("--deflate-window-bits", type=int, default=12, metavar="N", help="9 to 15")
    parser.add_argument("--context-takeover", action="store_true")
    args = parser.parse_args()
    try:
        server = wsabi.serve(
            args.host,
            args.port,
            on_message=on_message,
            on_drain=on_drain,
            max_message_bytes=args.max_message,
            deflate=deflate(args),
        )
    except wsabi.WebSocketError as error:
        sys.exit(f"echo-server: {error}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: server.stop())
    host = f"[{args.host}]" if ":" in args.host else args.host
    print(f"listening on ws://{host}:{server.port}", flush=True)
    wsabi.run_forever()  # Until the server has stopped.


if __name__ == "__main__":
    main()
