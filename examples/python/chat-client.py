"""chat-client URL NAME [--from X] [--say TEXT]... [--await N] [--once]

Joins the chat room at URL, such as ws://127.0.0.1:9000/chat, and says what comes from stdin, line by
line, until that ends. What is said there is described in examples/chat.md. A lost connection is made
again, with `--once` not; `--await` leaves after N messages of others, whether or not stdin has ended.
"""

import argparse
import asyncio
import contextlib
import json
import random
import re
import signal
import sys
import threading
from typing import Any

import wsabi

MAX_MESSAGE_BYTES = 4096


def show(line: str) -> None:
    """Prints a line. What others have sent cannot end it, turn its direction, nor give commands to
    the terminal."""
    unwanted = "[\0-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]"
    print(re.sub(unwanted, "\N{REPLACEMENT CHARACTER}", line), flush=True)


def label(who: dict[str, Any]) -> str:
    return f"{who['name']} [{who['from']}]" if who.get("from") else f"{who['name']}"


class Client:
    """A member of the room, across its connections."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.args = args
        self.ws = wsabi.WebSocket()
        self.joined = asyncio.Event()  # Whether we are in the room,
        self.name = ""  # and our name there, which is none until we have been.
        self.to_say: list[str] = args.say
        self.leaving = False
        self.refusal = ""
        self.heard = 0  # Messages of others.
        self.last = 0  # The time of the latest event.
        self.attempts = 0
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    def connect(self) -> None:
        self.refusal = ""
        self.ws = wsabi.connect(
            self.args.url,
            on_open=lambda ws: self.send("join", name=self.args.name, **{"from": self.args.speaks_from}),
            on_message=lambda ws, data: self.receive(json.loads(data)),
            on_error=self.on_error,
            on_close=self.on_close,
        )

    def send(self, kind: str, **fields: str) -> None:
        text = json.dumps({"type": kind, **fields}, ensure_ascii=False)
        if len(text.encode()) > MAX_MESSAGE_BYTES:
            show("! that is too long, and was not said")
        else:
            with contextlib.suppress(wsabi.ConnectionClosed):  # on_close is about to come.
                self.ws.send(text)

    def receive(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "welcome":
            self.on_welcome(event)
        elif kind == "error":
            show(f"! {event['text']}")
            if not self.joined.is_set():
                self.refusal = event["text"]
                self.ws.close(1000)
        elif kind in ("said", "joined", "left"):
            self.tell(event)
            if kind == "said" and event["name"] != self.name:
                self.heard += 1
                if self.heard == self.args.await_:
                    self.leave()

    def on_welcome(self, event: dict[str, Any]) -> None:
        self.name = event["name"]
        self.attempts = 0
        show(f"+ joined as {self.name}, {', '.join(m['name'] for m in event['members'])} here")
        seen = self.last  # Before the connection was lost.
        for past in event["history"]:
            if past["time"] > seen:
                self.tell(past)
        for text in self.to_say:
            self.send("say", text=text)
        self.to_say = []
        self.joined.set()

    def tell(self, event: dict[str, Any]) -> None:
        self.last = max(self.last, event["time"])
        if event["type"] == "said":
            show(f"{label(event)}: {event['text']}")
        else:
            show(f"* {label(event)} {event['type']}")

    def on_error(self, ws: wsabi.WebSocket, error: Exception) -> None:
        if not isinstance(error, wsabi.WebSocketError):  # Which on_close tells.
            print(f"chat-client: what the server sent makes no sense: {error!r}", file=sys.stderr)

    def on_close(self, ws: wsabi.WebSocket, code: int, reason: str) -> None:
        self.joined.clear()
        if self.leaving:
            self.end(0)
            return
        why = self.refusal or (str(ws.error) if ws.error else f"{code} {reason}".strip())
        refused = isinstance(ws.error, wsabi.HandshakeRefused) and 400 <= ws.error.status < 500
        if self.args.once or refused or (self.refusal and not self.name):
            show(f"- disconnected: {why}")
            self.end(1)
            return
        delay = min(0.5 * 2**self.attempts, 10) * random.uniform(1, 1.5)
        self.attempts += 1
        show(f"- disconnected: {why}; again in {delay:.1f} s")
        asyncio.get_running_loop().call_later(delay, self.connect)

    async def say(self, line: str) -> None:
        await self.joined.wait()
        if line:
            self.send("say", text=line)

    async def on_input_end(self) -> None:
        await self.joined.wait()
        if self.args.await_ is None:
            self.leave()

    def leave(self) -> None:
        """Leaves, with a closing handshake if there is a connection."""
        if self.ws.state is wsabi.State.CLOSED:
            self.end(0)
        elif not self.leaving:
            self.leaving = True
            self.ws.close(1000)

    def on_signal(self) -> None:
        if self.leaving:  # A second one does not wait for the server.
            self.end(1)
        self.leave()

    def end(self, status: int) -> None:
        if not self.ended.done():
            if self.name and status == 0:
                show("+ left")
            self.ended.set_result(status)


def read_input(client: Client, loop: asyncio.AbstractEventLoop) -> None:
    """Says the lines of stdin, each when the one before it was said. In a thread of its own, for a
    terminal, a file and a pipe are not waited for in the same way."""
    with contextlib.suppress(RuntimeError, asyncio.CancelledError):  # The loop has ended.
        with open(0, encoding="utf-8", errors="replace", closefd=False) as lines:
            for line in lines:
                asyncio.run_coroutine_threadsafe(client.say(line.rstrip("\r\n")), loop).result()
        asyncio.run_coroutine_threadsafe(client.on_input_end(), loop).result()


async def run(args: argparse.Namespace) -> int:
    client = Client(args)
    client.connect()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, client.on_signal)
    threading.Thread(target=read_input, args=[client, loop], daemon=True).start()
    return await client.ended


def count(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a number of messages")
    return number


def main() -> int:
    parser = argparse.ArgumentParser(prog="chat-client", description="A member of a chat room.")
    parser.add_argument("url", help="of the room, such as ws://127.0.0.1:9000/chat")
    parser.add_argument("name", help="to join as")
    parser.add_argument("--from", dest="speaks_from", default="python", metavar="X",
                        help="what others are told you speak from")
    parser.add_argument("--say", action="append", default=[], metavar="TEXT",
                        help="say this after joining; may be repeated")
    parser.add_argument("--await", dest="await_", type=count, metavar="N",
                        help="leave after N messages of others")
    parser.add_argument("--once", action="store_true", help="do not connect again")
    try:
        return asyncio.run(run(parser.parse_args()))
    except wsabi.WebSocketError as error:
        print(f"chat-client: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
