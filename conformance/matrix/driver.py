"""driver: Python's part in the matrix. It reads orders from stdin and writes events to stdout, one
a line; README.md lists them. asyncio watches stdin and the loop's descriptor.
"""
import asyncio
import sys
import zlib
from pathlib import Path

import wsabi

MOST_FILLED = 4096
HIGH_WATER = 1 << 20  # the default
INTEGERS = {"max_message": "max_message_bytes", "max_backlog": "max_backlog_bytes",
            "high_water": "high_water_bytes", "low_water": "low_water_bytes",
            "max_buffered": "max_buffered_bytes",
            **{name: name for name in ("max_fragments", "max_handshake_bytes",
                                       "max_handshake_headers", "max_pending_handshakes")}}
MILLISECONDS = ("handshake_timeout", "hold_timeout", "ping_interval", "ping_timeout",
                "idle_timeout", "close_timeout")


def say(*words):
    print(*words, flush=True)


def tell(event, data):
    data = data.encode() if isinstance(data, str) else data
    say(event, len(data), f"{zlib.crc32(data):08x}")


def settings(words):
    """Options of `connect` and `serve`, and how a server answers requests, if not with 101."""
    options, refusal = {}, {}
    answer = None
    for word in words:
        key, _, value = word.partition("=")
        if key in INTEGERS:
            options[INTEGERS[key]] = int(value)
        elif key in MILLISECONDS:
            options[key] = int(value) / 1000
        elif key == "subprotocols":
            options[key] = value.split(",")
        elif key == "deflate":
            options[key] = options.get(key, True) if value != "0" else False
        elif key == "max_ratio":
            options["deflate"] = wsabi.Deflate(max_ratio=int(value))
        elif key == "refuse":
            refusal["status"] = int(value)
        elif key == "body":
            refusal["body"] = Path(value).read_bytes()
        elif key == "hold":
            answer = wsabi.LATER
        elif key == "explain":
            Connection.explains = value != "0"
        else:
            raise ValueError(key)
    return options, wsabi.Response(**refusal) if refusal else answer


def explain(error):
    if Connection.explains and isinstance(error, wsabi.WebSocketError):
        say("why", error.kind, error)


class Connection(wsabi.WebSocket):
    latest = None  # what orders are for
    opened = False
    explains = False  # whether the texts of errors are told

    def on_open(self):
        self.opened = True
        Connection.latest = self
        say("open", self.subprotocol or "-", self.request.target if self.request else "-")

    def on_message(self, data):
        tell("message text" if isinstance(data, str) else "message binary", data)

    def on_drain(self):
        say("drain")

    def on_ping(self, data):
        tell("ping", data)

    def on_pong(self, data):
        tell("pong", data)

    def on_close(self, code, reason):
        kind = self.error.kind if self.error else "OK"
        explain(self.error)
        if self.opened:
            say("close", code, "unclean" if self.error else "clean", kind, reason)
        elif kind == "REFUSED":
            say("refused", self.error.status, "- -")
        else:
            say("failed", kind)

    def on_error(self, error):
        if not isinstance(error, wsabi.WebSocketError):
            say("error in a callback:", repr(error))


class Driver:
    def __init__(self):
        self.ended = asyncio.Event()
        self.input = b""

    def read(self):
        more = sys.stdin.buffer.raw.read(65536)
        *lines, self.input = (self.input + more).split(b"\n")
        for line in lines:
            order, _, rest = line.decode().partition(" ")
            try:
                getattr(self, f"order_{order}", self.unknown)(rest)
            except (OSError, TypeError, ValueError, wsabi.WebSocketError) as error:
                say("error", f"{order}:", error or type(error).__name__)
        if not more:
            self.ended.set()

    def on_error(self, ws, error):
        if ws is None:
            explain(error)  # an opening handshake that failed
        else:
            Connection.on_error(ws, error)

    def unknown(self, rest):
        raise ValueError("no such order")

    def order_sync(self, rest):
        say("synced")

    def order_listen(self, rest):
        options, answer = settings(rest.split())
        server = wsabi.serve("127.0.0.1", 0, factory=Connection, on_error=self.on_error,
                             on_upgrade=lambda request: answer, **options)
        say("listening", server.port)

    def order_connect(self, rest):
        port, target, *words = rest.split()
        options, _ = settings(words)
        Connection.latest = wsabi.connect(f"ws://127.0.0.1:{port}{target}", factory=Connection,
                                          **options)

    def order_send(self, name):
        data = Path(name).read_bytes()
        Connection.latest.send(data.decode() if name.startswith("t") else data)

    def order_fragment(self, rest):
        name, how = rest.split()
        Connection.latest.send_fragment(Path(name).read_bytes(), how == "last",
                                        text=name.startswith("t"))

    def order_fill(self, rest):
        """Sends one message again and again until sending answers what is waited for."""
        name, until = rest.split()
        ws, data = Connection.latest, Path(name).read_bytes()
        send = ws.send_text if name.startswith("t") else ws.send_binary
        for count in range(MOST_FILLED):
            try:
                pressed = not send(data)
            except wsabi.BufferFull:
                return say("filled", count, ws.buffered_amount)
            if pressed and until == "backpressure":
                # It would be written at the end of the tick; what counts is what waits then.
                ws.flush()
                if ws.buffered_amount > HIGH_WATER:
                    return say("filled", count + 1, ws.buffered_amount)
        raise ValueError("the backlog does not grow")

    def order_try(self, size):
        """Sends a message of so many bytes, and tells how that went and how much waits."""
        ws = Connection.latest
        try:
            how, why = "OK" if ws.send(bytes(int(size))) else "BACKPRESSURE", ""
        except wsabi.BufferFull as error:
            how, why = error.kind, error
        ws.flush()
        say("tried", how, ws.buffered_amount, why)

    def order_ping(self, name):
        Connection.latest.ping(Path(name).read_bytes())

    def order_pong(self, name):
        Connection.latest.pong(Path(name).read_bytes())

    def order_pause(self, rest):
        Connection.latest.pause()

    def order_resume(self, rest):
        Connection.latest.resume()

    def order_close(self, rest):
        code, _, reason = rest.partition(" ")
        Connection.latest.close(int(code) or None, reason)

    def order_terminate(self, rest):
        Connection.latest.terminate()


async def main():
    driver = Driver()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), driver.read)
    await driver.ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
