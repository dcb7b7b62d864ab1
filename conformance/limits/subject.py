"""A driver of ../matrix whose limits are looked at, and the raw peers of it.

Does not know: which limits there are.
"""
import re
import socket
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
for folder in ("matrix", "hostile"):
    sys.path.insert(0, str(HERE.parent / folder))
import peers  # noqa: E402
import websocket  # noqa: E402
from drivers import BUILD, PAYLOADS, SECONDS, Driver, Unavailable  # noqa: E402, F401

LANGUAGES = ("c", "python", "node")
# What a limit of the core is called there.
NODE = {
    "max_message_bytes": "maxPayload", "max_fragments": "maxFragments",
    "max_handshake_bytes": "maxHandshakeBytes", "max_handshake_headers": "maxHandshakeHeaders",
    "handshake_timeout": "handshakeTimeout", "hold_timeout": "holdTimeout",
    "ping_timeout": "pingTimeout", "idle_timeout": "idleTimeout", "close_timeout": "closeTimeout",
    "max_pending_handshakes": "maxPendingHandshakes", "max_buffered_bytes": "maxBufferedBytes",
    "max_ratio": "maxRatio", "max_backlog_bytes": "maxBacklogBytes",
}


class Subject:
    def __init__(self, language):
        self.language = language
        self.driver = Driver(language, "limits", BUILD[language]())
        self.start, self.kill, self.finish = (
            self.driver.start, self.driver.kill, self.driver.finish)
        self.order = self.driver.order

    def option(self, name):
        """What a limit is called in this language."""
        if self.language == "node":
            return NODE[name]
        return name + ("_ms" if self.language == "c" and name.endswith("_timeout") else "")

    def payload(self, size):
        """The name of a file of so many bytes, as orders have it."""
        name = f"b{size}"
        if not (PAYLOADS / name).is_file():
            (PAYLOADS / name).write_bytes(bytes(size))
        return name

    # --- events ------------------------------------------------------------------------

    def until(self, pattern):
        """The next event that looks so."""
        seen = []
        while True:
            event = self.driver.event()
            if match := re.fullmatch(pattern, event):
                return match
            seen.append(event)
            if event.startswith("error ") or len(seen) > 10_000:
                raise AssertionError(f"waiting for `{pattern}`, it said {seen[-3:]}")

    def settle(self):
        self.order("sync")
        self.until("synced")

    def explains(self, kind, name, value, of_ws=None):
        """It has heard an error of that kind that names the option and its value; or what `ws`
        says, in Node.js."""
        if self.language != "node":
            match = self.until(rf"why {kind} (.*)")
        elif of_ws is not None:
            match = self.until(r"why - (.*)")
            expect(match[1] == of_ws, f"it heard `{match[1]}` and not `{of_ws}`")
            return
        else:
            match = self.until(r"why - (.*)")
        self.names(match[1], name, value)

    def names(self, text, name, value):
        wanted = rf"\b{self.option(name)}(, |, is ){value}\b"
        expect(re.search(wanted, text), f"it heard `{text}`, without `{self.option(name)}, {value}`")

    def hears_of_handshake(self, kind, name, value):
        """A server has heard of an opening handshake that failed."""
        if self.language != "node":
            return self.explains(kind, name, value)
        # No event, as with `ws`; but there for whoever asks.
        deadline = time.monotonic() + SECONDS
        wanted = re.compile(rf"^WSABI \d+: 127\.0\.0\.1:\d+: .*\b{self.option(name)}, {value}\b", re.M)
        while not wanted.search(self.driver.log.read_text("utf-8", "replace")):
            expect(time.monotonic() < deadline, f"no line names {self.option(name)}, {value}"
                   + self.driver.tail())
            time.sleep(0.02)

    def fails(self, kind):
        """A connection that was open has ended so."""
        self.until(rf"close 1006 unclean ({kind}|-)(?: .*)?")

    # --- raw peers ---------------------------------------------------------------------

    def url(self, **limits):
        """Where it listens with these limits."""
        options = " ".join(f"{name}={value}" for name, value in {"explain": 1, **limits}.items())
        ports = self.driver.ports
        if options not in ports:
            self.order(f"listen {options}")
            ports[options] = self.until(r"listening (\d+)")[1]
        return f"ws://127.0.0.1:{ports[options]}/"

    def accepts(self, fields=(), **limits):
        """A raw client with an open connection to it."""
        crowd = peers.Crowd(self.url(**limits))
        [peer] = crowd.open(small=True, fields=fields)
        self.until("open - /")
        return peer

    def connects(self, respond, **limits):
        """It connects to a raw server that answers as `respond` makes it of its request."""
        words = " ".join(f"{name}={value}" for name, value in limits.items())
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(SECONDS)
            self.order(f"connect {listener.getsockname()[1]} / explain=1 {words}".strip())
            peer, _ = listener.accept()
        peer.settimeout(SECONDS)
        request, _ = peers.read_head(peer)
        if (response := respond(request)) is not None:
            peer.sendall(response)
        return peer


def expect(condition, words):
    if not condition:
        raise AssertionError(words)


def response(request, *fields):
    """A server's response that completes the opening handshake."""
    key = re.search(rb"(?im)^sec-websocket-key: *(\S+)", request)[1]
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade",
             f"Sec-WebSocket-Accept: {websocket.accept_value(key)}", *fields]
    return "".join(f"{line}\r\n" for line in (*lines, "")).encode()
