"""driver: Python's part behind the relay. It reads orders from stdin and writes events to stdout,
one a line; README.md lists them. asyncio watches stdin and the loop's descriptor.
"""
import asyncio
import sys
import zlib

import wsabi

TAG, LARGEST, OFFSETS, MOST_ATTEMPTS = 16, 200_000, 4096, 100
PATTERN = bytes(33 + ((j * 0x9E3779B1 & 0xFFFFFFFF) >> 16) % 94 for j in range(OFFSETS + LARGEST))
LIMITS = {"high_water_bytes": 64 << 10, "low_water_bytes": 16 << 10, "max_backlog_bytes": 400 << 10,
          "close_timeout": 20}
HASTE = {"ping_interval": 0.5, "ping_timeout": 2, "close_timeout": 1, "handshake_timeout": 3}

tasks = {}


def say(*words):
    # Flushed at the end of the turn.
    sys.stdout.write(" ".join(map(str, words)) + "\n")


def limits(hasty):
    return LIMITS | HASTE if hasty else LIMITS


class Task:
    """What one side is to do, over one connection or, in a session, as many as it takes."""

    def __init__(self, is_client, words):
        number, self.port, kind, haste, messages, turn, after, pause, self.close, want = words
        self.is_client = is_client
        self.number = int(number)
        self.is_session, self.hasty = kind == "session", haste == "hasty"
        self.messages = [self.message(word) for word in messages.split(",")] if messages != "-" else []
        self.turn, self.want = int(turn), int(want)
        self.pause_after, self.pause = int(after), int(pause) / 1000
        self.tries = self.acknowledged = self.duplicates = 0
        self.told = []
        self.current = None
        self.attempts = []

    @staticmethod
    def message(word):
        kind = "t" if "t" in word else "b"
        size, _, fragments = word.partition(kind)
        return int(size), kind == "t", int(fragments)

    def content(self, index, size):
        tag = b"%08x%c%07x" % (self.number, ord("c" if self.is_client else "s"), index)
        begin = (index * 31 + self.number * 17) % OFFSETS
        content = (tag + PATTERN[begin:begin + max(0, size - TAG)])[:size]
        return b"D%08x " % index + content if self.is_session else content

    def tell(self, data, offset=0):
        raw = data.encode() if isinstance(data, str) else data
        crc = zlib.crc32(memoryview(raw)[offset:])
        self.told.append(f"{'t' if isinstance(data, str) else 'b'}{crc:08x}")

    def words(self):
        return ",".join(self.told) or "-"

    def report(self):
        say("session", self.number, f"attempts={self.tries} duplicates={self.duplicates} "
            f"told={self.words()}")

    def start(self):
        name = f"{self.number}.{self.tries}" if self.is_session else str(self.number)
        self.tries += 1
        ws = wsabi.connect(f"ws://127.0.0.1:{self.port}/{name}", factory=Attempt,
                           **limits(self.hasty))
        ws.begin(self, name)


class Attempt(wsabi.WebSocket):
    """A connection, or an attempt at one."""

    def __init__(self):
        super().__init__()
        self.task = None
        self.is_open = self.has_ended = self.closing = self.blocked = False
        self.paused = self.ack_due = self.scheduled = False
        self.next = self.piece = self.accepted = self.received = 0

    def begin(self, task, name):
        self.task, self.name = task, name
        task.attempts.append(self)

    def check(self, event):
        if self.has_ended:
            say("late", self.name, event)

    # --- sending ---

    def is_ready(self):
        return (self.is_open and not self.has_ended and not self.closing and not self.blocked
                and (self.next < len(self.task.messages) or self.ack_due))

    def sending(self, send, *arguments, **more):
        """Sends, and tells whether it was accepted."""
        try:
            self.blocked |= not send(*arguments, **more)
        except wsabi.BufferFull:
            self.blocked = True
            return False
        except wsabi.ConnectionClosed:
            self.closing = True
            return False
        return True

    def send_piece(self):
        size, is_text, fragments = self.task.messages[self.next]
        content = self.task.content(self.next, size)
        if fragments == 1:
            return self.sending(self.send_text if is_text else self.send_binary, content)
        begin = len(content) * self.piece // fragments
        end = len(content) * (self.piece + 1) // fragments
        return self.sending(self.send_fragment, content[begin:end], self.piece + 1 == fragments,
                            text=is_text)

    def acknowledge(self):
        """Acknowledges everything received, amid no fragmented message."""
        if not self.ack_due or self.piece or not self.is_ready():
            return
        if self.sending(self.send_text, f"A{len(self.task.told)}"):
            self.ack_due = False
            self.accepted += 1

    def pump(self):
        task, sent = self.task, 0
        self.acknowledge()
        while sent < task.turn and self.is_ready() and self.next < len(task.messages):
            if not self.send_piece():
                break
            self.piece += 1
            if self.piece < task.messages[self.next][2]:
                continue
            self.piece = 0
            self.next += 1
            self.accepted += 1
            sent += 1
        self.acknowledge()
        self.close_if_done()
        if self.is_ready() and not self.scheduled:
            self.scheduled = True
            asyncio.get_running_loop().call_later(0.001, self.go_on)

    def go_on(self):
        self.scheduled = False
        if self.is_ready():
            self.pump()

    def close_if_done(self):
        task = self.task
        own = self.next == len(task.messages) and not self.piece
        everything = own and len(task.told) >= task.want
        if task.is_session:
            done = task.is_client and everything and task.acknowledged == len(task.messages)
        else:
            done = own if task.close == "own" else task.close == "all" and everything
        if self.is_open and not self.closing and done:
            self.closing = True
            self.close(1000, "done")

    # --- events ---

    def on_open(self):
        if self.task is None:
            name = self.request.path[1:]
            self.begin(tasks[int(name.partition(".")[0])], name)
            self.task.tries += 1
        self.check("open")
        task = self.task
        self.is_open = True
        if task.is_session:
            if task.current is not None:
                task.current.terminate()
            task.current = self
            # Everything after the last acknowledged message once more.
            self.next = task.acknowledged
            self.ack_due = True
        say("open", self.name)
        self.pause_if_planned()
        self.pump()

    def pause_if_planned(self):
        if self.received == self.task.pause_after and not self.paused:
            self.paused = True
            self.pause()
            asyncio.get_running_loop().call_later(self.task.pause, self.resume_reading)

    def resume_reading(self):
        if not self.has_ended:
            try:
                self.resume()
            except wsabi.ConnectionClosed:
                pass  # its end is about to be told

    def on_message(self, data):
        self.check("message")
        self.received += 1
        if self.task.is_session:
            self.receive_in_session(data)
        else:
            self.task.tell(data)
        self.pause_if_planned()
        self.pump()

    def receive_in_session(self, data):
        """A message of a session: an acknowledgement, or one with its number."""
        task = self.task
        if data[0] == "A":
            task.acknowledged = max(task.acknowledged, int(data[1:]))
            return
        index, known = int(data[1:9], 16), len(task.told)
        self.ack_due = True
        if index > known:
            say("error", f"message {index} of {self.name} came before message {known}")
        elif index < known:
            task.duplicates += 1
        else:
            task.tell(data, 10)

    def on_drain(self):
        self.check("drain")
        self.blocked = False
        self.pump()

    def on_close(self, code, reason):
        self.check("close")
        task = self.task
        self.has_ended = True
        clean = self.error is None
        dropped = self.messages_dropped
        say("close", self.name, f"open={int(self.is_open)} clean={int(clean)} code={code} "
            f"kind={'OK' if clean else self.error.kind} accepted={self.accepted} "
            f"handed={self.accepted - dropped} dropped={dropped} received={self.received} "
            f"told={'-' if task.is_session else task.words()}")
        if task.current is self:
            task.current = None
        if not (task.is_session and task.is_client):
            return
        if clean and len(task.told) == task.want and task.acknowledged == len(task.messages):
            task.report()
        elif task.tries == MOST_ATTEMPTS:
            say("error session: too many attempts")
        else:
            task.start()

    def on_error(self, error):
        # A client that cannot connect is told by on_close, too.
        if not isinstance(error, wsabi.WebSocketError):
            say("error in a callback:", repr(error))


class Driver:
    def __init__(self):
        self.ended = asyncio.Event()
        self.input = b""
        self.servers = []
        self.stopped = 0

    def read(self):
        more = sys.stdin.buffer.raw.read(65536)
        *lines, self.input = (self.input + more).split(b"\n")
        for line in lines:
            order, *words = line.decode().split(" ")
            try:
                getattr(self, f"order_{order}", self.unknown)(*words)
            except (KeyError, TypeError, ValueError, wsabi.WebSocketError) as error:
                say("error", f"{order}:", repr(error))
        if not more:
            self.ended.set()

    def unknown(self, *words):
        raise ValueError("no such order")

    def order_listen(self):
        for name in ("patient", "hasty"):
            server = wsabi.serve("127.0.0.1", 0, factory=Attempt, on_stopped=self.on_stopped,
                                 on_error=self.on_error, **limits(name == "hasty"))
            self.servers.append(server)
            say("listening", name, server.port)

    def on_error(self, ws, error):
        if ws is not None:
            ws.on_error(error)
        elif not isinstance(error, wsabi.WebSocketError):
            say("error in a callback:", repr(error))

    def order_connect(self, number, *words):
        tasks[int(number)] = Task(True, (number, *words))
        tasks[int(number)].start()

    def order_expect(self, number, *words):
        tasks[int(number)] = Task(False, (number, *words))
        say("expected", number)

    def order_report(self, number):
        tasks[int(number)].report()

    def order_forget(self, number):
        for attempt in tasks.pop(int(number)).attempts:
            if not attempt.has_ended:
                say("error forget:", attempt.name, "has not ended")

    def order_stop(self):
        if not self.servers:
            say("stopped")
        for server in self.servers:
            server.stop(5)

    def on_stopped(self, counts):
        self.stopped += 1
        if self.stopped == len(self.servers):
            say("stopped")


async def main():
    driver = Driver()
    loop = asyncio.get_running_loop()
    loop.add_reader(sys.stdin.fileno(), driver.read)

    def flush():
        sys.stdout.flush()
        loop.call_later(0.002, flush)

    flush()
    await driver.ended.wait()


if __name__ == "__main__":
    asyncio.run(main())
