"""chat-server PORT [--host H] [--page FILE]

A chat room; what is spoken in it is described in examples/chat.md. The page for browsers is at `/`,
the WebSocket at `/chat`. PORT 0 picks one. SIGINT and SIGTERM end it.
"""

import argparse
import asyncio
import json
import signal
import sys
import time
import unicodedata
from collections import deque
from pathlib import Path
from typing import Any

import wsabi

PAGE = Path(__file__).resolve().parent.parent / "browser" / "index.html"
MAX_MEMBERS = 1000
MAX_HISTORY = 50
MAX_BACKLOG_BYTES = 256 * 1024
SECONDS_TO_JOIN = 10
SAYS, SAYS_SECONDS = 30, 3

encode = json.JSONEncoder(ensure_ascii=False).encode


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def parse(data: str | bytes) -> dict[str, Any] | None:
    """The JSON object of a text message, or None."""
    try:
        message = json.loads(data, parse_constant=refuse) if isinstance(data, str) else None
        encode(message).encode()  # Half a surrogate pair, which is no character, fails here.
    except (ValueError, RecursionError):
        return None
    return message if isinstance(message, dict) else None


def is_name(name: str) -> bool:
    """Whether all are letters, digits, hyphens, underscores and dots. Marks are what the letters of
    many scripts are written with; they follow one."""
    kinds = [unicodedata.category(c) for c in name]
    return 1 <= len(name) <= 20 and not kinds[0].startswith("M") and all(
        kind[0] in "LM" or kind == "Nd" or c in "-_." for kind, c in zip(kinds, name)
    )


def is_label(speaks_from: object) -> bool:
    return isinstance(speaks_from, str) and len(speaks_from) <= 16 and speaks_from.isprintable()


class Room(wsabi.Server):
    """Who is in it, and what was said."""

    def __init__(self, page: Path) -> None:
        self.page = page
        self.members: dict[str, Member] = {}  # By their keys, in the order of joining.
        self.history: deque[dict[str, Any]] = deque(maxlen=MAX_HISTORY)
        self.ended = asyncio.get_running_loop().create_future()

    def on_upgrade(self, request: wsabi.Request) -> wsabi.Response | None:
        if request.path != "/chat":
            return wsabi.Response(404, "the chat room is at /chat\n")
        if len(self.connections) >= MAX_MEMBERS:
            return wsabi.Response(503, "the room is full\n")
        return None

    def on_http(self, request: wsabi.Request) -> wsabi.Response | None:
        if request.path == "/chat":
            return None  # It is for WebSocket only: status 426.
        if request.method not in ("GET", "HEAD"):
            return wsabi.Response(405, "only GET and HEAD\n", {"Allow": "GET, HEAD"})
        if request.path == "/health":
            return wsabi.Response(200, "ok\n")
        if request.path != "/":
            return wsabi.Response(404, "there is nothing here; the page is at /\n")
        try:
            page = self.page.read_bytes()
        except OSError as error:
            return wsabi.Response(404, f"cannot read the page: {error.strerror}; see --page\n")
        return wsabi.Response(200, page, {"Content-Type": "text/html; charset=utf-8"})

    def tell(self, event: dict[str, Any], but: "Member | None" = None) -> None:
        """Tells the members. Who does not keep up leaves, which the others are told, too."""
        events = deque([event])
        while events:
            self.history.append(events[0])
            text = encode(events.popleft())
            for member in [member for member in self.members.values() if member is not but]:
                if not member.tell(text):
                    del self.members[member.key]
                    events.append(member.event("left"))
            but = None

    def remove(self, member: "Member") -> None:
        if self.members.get(member.key) is member:
            del self.members[member.key]
            self.tell(member.event("left"))

    def leave(self) -> None:
        self.members.clear()  # All at once, so nobody is told who left.
        self.stop(grace=3)

    def on_stopped(self, stopped: wsabi.Stopped) -> None:
        self.ended.set_result(None)


class Member(wsabi.WebSocket):
    """A connection, and who has joined by it."""

    name = speaks_from = key = ""
    welcome_bytes = 0  # Of which none has to be taken at once.

    def event(self, kind: str, **fields: str) -> dict[str, Any]:
        who = {"name": self.name, "from": self.speaks_from}
        return {"type": kind, **who, **fields, "time": int(time.time() * 1000)}

    def tell(self, text: str) -> bool:
        """Sends; False when so much waits for this member that it was closed."""
        try:
            if self.send(text):
                return True
            # The turn's messages are written at its end; only what the kernel does not take waits.
            self.flush()
            if self.buffered_amount <= MAX_BACKLOG_BYTES + self.welcome_bytes:
                return True
            self.close(1013, "too slow")
            return False
        except wsabi.ConnectionClosed:
            return True  # on_close is about to come.

    def complain(self, text: str) -> None:
        if not self.tell(encode({"type": "error", "text": text})):
            self.room.remove(self)

    def dismiss(self, code: int, reason: str) -> None:
        self.room.remove(self)
        if self.state == wsabi.State.OPEN:
            self.close(code, reason)

    def on_open(self) -> None:
        self.room: Room = self.server  # type: ignore[assignment]
        self.said_at: deque[float] = deque(maxlen=SAYS)
        loop = asyncio.get_running_loop()
        self.to_join = loop.call_later(SECONDS_TO_JOIN, self.dismiss, 1008, "join first")

    def on_message(self, data: str | bytes) -> None:
        if self.state != wsabi.State.OPEN:
            return
        message = parse(data)
        if message is None:
            self.dismiss(1003, "expected a JSON object")
        elif message.get("type") == "join":
            self.join(message.get("name"), message.get("from", ""))
        elif message.get("type") == "say":
            self.say(message.get("text"))

    def join(self, name: Any, speaks_from: Any) -> None:
        name = unicodedata.normalize("NFC", name) if isinstance(name, str) else ""
        key = name.casefold()
        if self.name:
            self.complain(f"you have joined already, as {self.name}")
        elif not is_name(name):
            self.complain('a name has 1 to 20 letters, digits, "-", "_" and "."; choose another')
        elif not is_label(speaks_from):
            self.complain('"from" has at most 16 printable characters')
        elif key in self.room.members:
            self.complain(f"the name {self.room.members[key].name} is taken; choose another")
        else:
            self.to_join.cancel()
            self.name, self.speaks_from, self.key = name, speaks_from, key
            history = list(self.room.history)
            self.room.members[key] = self
            members = [{"name": m.name, "from": m.speaks_from} for m in self.room.members.values()]
            welcome = {"type": "welcome", "name": name, "members": members, "history": history}
            text = encode(welcome)
            self.welcome_bytes = len(text.encode())
            self.tell(text)
            self.room.tell(self.event("joined"), but=self)

    def say(self, text: Any) -> None:
        now = time.monotonic()
        if not self.name:
            self.complain("join first")
        elif not (isinstance(text, str) and 1 <= len(text) <= 1000):
            self.complain("a text has 1 to 1,000 characters")
        elif len(self.said_at) == SAYS and now - self.said_at[0] < SAYS_SECONDS:
            self.complain("too fast; that was not told")
        else:
            self.said_at.append(now)
            self.room.tell(self.event("said", text=text))

    def on_drain(self) -> None:
        self.welcome_bytes = 0

    def on_close(self, code: int, reason: str) -> None:
        self.to_join.cancel()
        self.room.remove(self)


async def serve(host: str, port: int, page: Path) -> None:
    room = wsabi.serve(
        host,
        port,
        server=Room(page),
        factory=Member,
        max_message_bytes=4096,
        high_water_bytes=MAX_BACKLOG_BYTES,
    )
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, room.leave)
    print(f"listening on {room.url}", flush=True)
    await room.ended


def main() -> None:
    parser = argparse.ArgumentParser(prog="chat-server", description="A chat room.")
    parser.add_argument("port", type=int, help="0 picks one")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--page", type=Path, default=PAGE, metavar="FILE", help="served at /")
    args = parser.parse_args()
    try:
        asyncio.run(serve(args.host, args.port, args.page))
    except wsabi.WebSocketError as error:
        sys.exit(f"chat-server: {error}")


if __name__ == "__main__":
    main()
