"""demo-client URL NAME

Sends two text messages and a binary one to an echo server, one after the other, and says under NAME
what was sent and what came back.
"""

import sys

import wsabi

LINES: list[str | bytes] = ["Hello from Python", "Grüße, 世界 🌍", b"\x00\x01\xfe\xff"]


def shown(data: str | bytes) -> str:
    return f'"{data}"' if isinstance(data, str) else f"{len(data)} bytes"


class Client(wsabi.WebSocket):
    """The conversation of one connection; its callbacks are methods."""

    name = ""
    echoed = 0
    good = False

    def send_next(self) -> None:
        if self.echoed == len(LINES):
            self.close()
            return
        line = LINES[self.echoed]
        print(f"{self.name} -> {shown(line)}", flush=True)
        self.send(line)

    def on_open(self) -> None:
        self.send_next()

    def on_message(self, data: str | bytes) -> None:
        print(f"{self.name} <- {shown(data)}", flush=True)
        if self.echoed == len(LINES) or data != LINES[self.echoed]:
            print("demo-client: that is not what was sent", file=sys.stderr)
            self.terminate()
            return
        self.echoed += 1
        self.send_next()

    def on_error(self, error: Exception) -> None:
        print(f"demo-client: {error}", file=sys.stderr)

    def on_close(self, code: int, reason: str) -> None:
        self.good = code == 1000 and self.echoed == len(LINES)
        if not self.good:
            print(f"demo-client: closed with {code} {reason}".rstrip(), file=sys.stderr)


def main() -> int:
    if len(sys.argv) != 3:
        print("usage: demo-client URL NAME", file=sys.stderr)
        return 2
    url, name = sys.argv[1:]
    try:
        # No byte from the server for 10 s ends the connection.
        client = wsabi.connect(url, factory=Client, idle_timeout=10)
    except wsabi.WebSocketError as error:
        print(f"demo-client: {error}", file=sys.stderr)
        return 1
    client.name = name
    wsabi.run_forever()
    return 0 if client.good else 1


if __name__ == "__main__":
    sys.exit(main())
