"""A stage for misuse: each callback can be brought about at either side, beside a bystander.

Does not know: what is done in the callback.
"""
import wsabi
from support import CALLBACKS, Notes, Pair, drive, serve, url

BIG = 8 << 20


class Bystander:
    """A pair of its own on the same loop, that nothing may happen to."""

    def __init__(self, loop):
        self.pair = Pair(loop, {"on_message": lambda ws, data: ws.send(data)})
        self.count = 0

    def check(self):
        self.count += 1
        self.pair.client.send(str(self.count))
        self.pair.drive(lambda: len(self.pair.at_client.messages) == self.count)
        assert self.pair.at_client == [("on_open",), *(
            ("on_message", str(n + 1)) for n in range(self.count))]


class Scene:
    """A client and a server's connection; `act(ws)` is done in one callback of one side, once.

    `own` notes the callbacks of the acting side, `other` those of its peer.
    """

    def __init__(self, loop, side, callback, act):
        self.loop, self.side, self.callback = loop, side, callback
        self.own, self.other = Notes(), Notes()
        self.acted = 0
        self.result = []
        self.stopped = []
        self.connections = {"client": None, "server": None}
        own, other = self.own.callbacks(), self.other.callbacks()
        if callback == "on_error":
            own["on_message"] = self.failing
        noted = own[callback]

        def acting(ws, *arguments):
            noted(ws, *arguments)
            self.acted += 1
            if self.acted == 1:
                self.result.append(act(ws))

        own[callback] = acting
        self.own_options, self.other_options = own, other
        self.server = None

    def start(self):
        """Has the two connect."""
        at_server, at_client = self.own_options, self.other_options
        if self.side == "client":
            at_server, at_client = at_client, at_server
        opened = at_server["on_open"]

        def on_open(ws):
            self.connections["server"] = ws
            opened(ws)

        at_server["on_open"] = on_open
        self.server = serve(self.loop, **at_server, on_stopped=self.stopped.append)
        # A low high water has on_drain come about by one big message.
        self.connections["client"] = wsabi.connect(
            url(self.server), loop=self.loop, high_water_bytes=1 << 16, **at_client)

    def failing(self, ws, data):
        self.own.append(("on_message", data))
        raise LookupError("for on_error")

    @property
    def ws(self):
        return self.connections[self.side]

    @property
    def peer(self):
        return self.connections["client" if self.side == "server" else "server"]

    def open(self):
        """Both sides are open, which on_open has been told."""
        drive(self.loop, lambda: self.own.count("on_open") and self.other.count("on_open"))

    def provoke(self):
        """Brings the callback about; what leaves the dispatch comes out."""
        if self.server is None:
            self.start()
        if self.callback != "on_open":
            self.open()
            getattr(self, "_" + self.callback)()
        drive(self.loop, lambda: self.acted)

    def _on_message(self):
        self.peer.send("provoke")

    _on_error = _on_message

    def _on_close(self):
        self.peer.close(1000, "bye")

    def _on_ping(self):
        self.peer.ping(b"provoke")

    def _on_pong(self):
        self.peer.pong(b"provoke")

    def _on_drain(self):
        while self.ws.send(b"x" * BIG):
            pass

    def is_over(self):
        return (self.own.closed or not self.own.count("on_open") and self.ws is None) \
            and self.other.closed

    def until_over(self):
        drive(self.loop, self.is_over)

    def finish(self):
        """Ends what is left, and checks what always holds."""
        for ws in self.connections.values():
            if ws is not None:
                ws.terminate()
        self.until_over()
        for notes in (self.own, self.other):
            assert notes.count("on_open") <= 1
            assert notes[-1][0] == "on_close", notes


SIDES = ("client", "server")
EVERY = [(side, callback) for side in SIDES for callback in CALLBACKS]
