"""The relay: connections between a client and a server that are cut at one byte.

Does not know: plans, drivers, or what is right.
"""
import selectors
import socket
import struct

from streams import Stream

CHUNK = 1 << 16
NARROW = 64 << 10  # the buffers of a narrow connection, so that backlogs come about
AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: a reset instead of an orderly end
READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
SIDES = ("client", "server")
PEER = {"client": "server", "server": "client"}


class Kill:
    """How and where a connection is to be cut."""

    def __init__(self, kind, phase, source, offset, resets=()):
        self.kind = kind  # rst, fin, silence
        self.phase = phase  # handshake, messages, closing
        self.source = source  # whose bytes are counted
        self.offset = offset  # how many of them go through, from the beginning of the phase
        self.resets = resets  # which sides a reset is sent to; the others see an orderly end

    def __str__(self):
        kind = f"{self.kind} to {' and '.join(self.resets)}" if self.resets else self.kind
        return f"{kind} after {self.offset} bytes of {self.phase} from the {self.source}"


class Flow:
    """One direction: from `source` to its peer."""

    def __init__(self, source):
        self.source = source
        self.stream = Stream()
        self.sent = 0  # bytes that went through
        self.pending = b""  # what the receiver's socket does not take yet
        self.due = False  # the kill is to follow what is pending
        self.frozen = False  # nothing is read until the source has told its end
        self.cut = False  # nothing goes through any more; what comes is counted only
        self.through = None  # messages that went through before it was cut
        self.broken = False  # the source was found to be gone, which reading does not tell again
        self.end = None  # eof or reset, as the source has ended
        self.delivered = False  # everything and the end of the stream went through


class Connection:
    """A client's connection and the one to the server that belongs to it."""

    def __init__(self, relay, client, server_port, kill, narrow, stalled):
        self.relay = relay
        self.kill = kill
        self.stalled = stalled  # whether the other direction waits for the kill
        self.told = set()  # sides that have told their end
        self.killed = False
        self.silent = False
        self.done = False
        self.flows = {side: Flow(side) for side in SIDES}
        server = socket.socket()
        self.sockets = {"client": client, "server": server}
        self.connecting = True
        for own in self.sockets.values():
            own.setblocking(False)
            own.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if narrow:
                own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
                own.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, NARROW)
        self.watched = dict.fromkeys(SIDES, 0)
        server.connect_ex(("127.0.0.1", server_port))
        self.watch()

    # --- readiness ---

    def on_ready(self, side, events):
        if events & WRITE:
            if self.connecting and side == "server":
                self.connecting = False
                if self.sockets[side].getsockopt(socket.SOL_SOCKET, socket.SO_ERROR):
                    return self.close()
            self.write(self.flows[PEER[side]])
        if events & READ and not self.done:
            self.read(self.flows[side])
        self.watch()

    def watch(self):
        """Watches each socket for what is wanted of it."""
        if self.done:
            return
        for side, own in self.sockets.items():
            wanted = 0
            if own is not None and not self.silent:
                flow, back = self.flows[side], self.flows[PEER[side]]
                if self.may_read(flow) and not self.connecting:
                    wanted |= READ
                if back.pending or (self.connecting and side == "server"):
                    wanted |= WRITE
            self.relay.watch(own, self.watched[side], wanted, (self, side))
            self.watched[side] = wanted

    def may_read(self, flow):
        if flow.end is not None or flow.pending or flow.frozen:
            return False
        if not self.stalled or self.killed or flow.source == self.kill.source:
            return True
        counted = self.flows[self.kill.source]
        return flow.stream.head_end is None or counted.cut or counted.end is not None

    def read(self, flow):
        own = self.sockets[flow.source]
        if own is None or self.silent or not self.may_read(flow):
            return
        try:
            data = own.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            flow.end = "reset"
            data = b""
        if not data:
            flow.end = "reset" if flow.broken else flow.end or "eof"
            return self.finish(flow)
        before = flow.stream.at
        ends = flow.stream.feed(data)
        if flow.cut:
            return
        target = self.target(flow)
        if target is not None and target <= flow.stream.at:
            data = data[:target - before]
            flow.due = flow.cut = True
            flow.through = flow.stream.messages - sum(end > target for end in ends)
        flow.pending = data
        self.write(flow)

    def target(self, flow):
        if self.kill is None or self.killed or self.kill.source != flow.source:
            return None
        return flow.stream.position(self.kill.phase, self.kill.offset)

    def write(self, flow):
        own = self.sockets[PEER[flow.source]]
        if flow.pending and own is not None:
            try:
                taken = own.send(flow.pending)
                flow.sent += taken
                flow.pending = flow.pending[taken:]
            except BlockingIOError:
                return
            except OSError:
                # The receiver is gone: the rest is counted only.
                flow.pending = b""
                flow.due = False
                self.flows[PEER[flow.source]].broken = True
                self.stop(flow)
        if flow.pending:
            return
        if flow.due:
            flow.due = False
            self.carry_out()
        elif flow.end is not None:
            self.finish(flow)

    def stop(self, flow):
        """Nothing goes through in this direction any more."""
        if not flow.cut:
            flow.cut, flow.through = True, flow.stream.messages

    def finish(self, flow):
        """The source has ended; its peer is told when everything before has gone through."""
        if flow.pending:
            return
        if not flow.cut and not flow.delivered:
            flow.delivered = flow.end == "eof"
            self.shut(PEER[flow.source])
        if all(flow.end is not None or self.sockets[flow.source] is None
               for flow in self.flows.values()):
            self.close()

    def shut(self, side):
        if self.sockets[side] is not None:
            try:
                self.sockets[side].shutdown(socket.SHUT_WR)
            except OSError:
                pass  # it has ended itself

    # --- the kill ---

    def carry_out(self):
        self.killed = True
        flow = self.flows[self.kill.source]
        if self.kill.kind == "silence":
            self.silent = True
        elif self.kill.kind == "fin":
            # The other direction goes on until the receiver has ended.
            self.freeze(flow.source)
            self.shut(PEER[flow.source])
        else:
            for flow in self.flows.values():
                self.stop(flow)
                flow.pending = b""
            for side in SIDES:
                if side in self.kill.resets:
                    self.reset(side)
                else:
                    self.freeze(side)
                    self.shut(side)
            if all(own is None for own in self.sockets.values()):
                self.close()

    def freeze(self, side):
        """Reads nothing more until that side has told its end: what it has handed to the system is
        counted then, and what it has not stays where it is."""
        if self.kill.phase != "handshake" and side not in self.told:
            self.flows[side].frozen = True

    def ended(self, side):
        """A side has told its end."""
        self.told.add(side)
        self.flows[side].frozen = False
        self.watch()

    def reset(self, side):
        own = self.sockets[side]
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, AT_ONCE)
        self.drop(side)

    def drop(self, side):
        own = self.sockets[side]
        if own is not None:
            self.relay.watch(own, self.watched[side], 0, None)
            self.watched[side] = 0
            self.sockets[side] = None
            own.close()

    def settle(self):
        """Nobody waits for anything of this connection any more."""
        if not self.done:
            self.close()

    def close(self):
        for side in SIDES:
            self.drop(side)
        self.done = True


class Relay:
    """The loop of everything: sockets here, and what else is given to `watch`."""

    def __init__(self):
        self.selector = selectors.DefaultSelector()

    def watch(self, file, before, wanted, data):
        if wanted == before:
            return
        if not before:
            self.selector.register(file, wanted, data)
        elif not wanted:
            self.selector.unregister(file)
        else:
            self.selector.modify(file, wanted, data)

    def listen(self, narrow, target):
        """A listening socket of its own; `target` is told when somebody connects."""
        listener = socket.socket()
        if narrow:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, NARROW)
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        listener.setblocking(False)
        self.watch(listener, 0, READ, (target, None))
        return listener

    def forget(self, listener):
        self.watch(listener, READ, 0, None)
        listener.close()

    def turn(self, seconds):
        for key, events in self.selector.select(seconds):
            target, side = key.data
            # Something before it in this turn may have closed it.
            if key.fileobj.fileno() >= 0:
                target.on_ready(side, events)
