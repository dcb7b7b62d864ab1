"""echo-client URL [--agent NAME] [--max-message BYTES]
            [--deflate [--deflate-window-bits N] [--context-takeover]]

The client of the Autobahn test suite: asks URL/getCaseCount how many cases there are, runs them one
after another by URL/runCase, echoing all, and asks for the report by URL/updateReports.
"""

import argparse
import sys
from collections.abc import Callable

import wsabi


def echo(ws: wsabi.WebSocket, data: str | bytes) -> None:
    # A server that does not take its replies is not read from until it has.
    if not ws.send(data):
        ws.pause()


def visit(
    url: str,
    on_message: Callable[[wsabi.WebSocket, str | bytes], None],
    limit: int,
    deflate: wsabi.Deflate | None,
) -> bool:
    """Connects, and comes back when the connection is over, for then the loop has nothing left."""
    errors = []
    wsabi.connect(
        url,
        on_message=on_message,
        on_drain=lambda ws: ws.resume(),
        on_error=lambda ws, error: errors.append(error),
        max_message_bytes=limit,
        deflate=deflate,
    )
    wsabi.run_forever()
    for error in errors:
        print(f"echo-client: {url}: {error}", file=sys.stderr)
    return not errors


def run(url: str, agent: str, limit: int, deflate: wsabi.Deflate | None) -> int:
    cases = 0

    def count(ws: wsabi.WebSocket, data: str | bytes) -> None:
        nonlocal cases
        cases = int(data)

    if not visit(f"{url}/getCaseCount", count, limit, deflate):
        return 1
    for case in range(1, cases + 1):
        visit(f"{url}/runCase?case={case}&agent={agent}", echo, limit, deflate)
    visit(f"{url}/updateReports?agent={agent}", echo, limit, deflate)
    return 0


def deflate(args: argparse.Namespace) -> wsabi.Deflate | None:
    if not args.deflate:
        return None
    return wsabi.Deflate(
        server_max_window_bits=args.deflate_window_bits,
        client_max_window_bits=args.deflate_window_bits,
        server_context_takeover=args.context_takeover,
        client_context_takeover=args.context_takeover,
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="echo-client", description="The client of the Autobahn test suite."
    )
    parser.add_argument("url", help="of the fuzzing server, such as ws://127.0.0.1:9001")
    parser.add_argument("--agent", default="wsabi-python", metavar="NAME")
    parser.add_argument("--max-message", type=int, default=16 << 20, metavar="BYTES")
    parser.add_argument("--deflate", action="store_true", help="offer permessage-deflate")
    parser.add_argument("--deflate-window-bits", type=int, default=12, metavar="N", help="9 to 15")
    parser.add_argument("--context-takeover", action="store_true")
    args = parser.parse_args()
    try:
        return run(args.url.rstrip("/"), args.agent, args.max_message, deflate(args))
    except wsabi.WebSocketError as error:
        print(f"echo-client: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
