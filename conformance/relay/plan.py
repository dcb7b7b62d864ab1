"""What each connection is to do and where it is cut, all from one seed.

Does not know: sockets, languages' interfaces, or results.
"""
import hashlib
import random
import zlib

from relay import Kill, PEER, SIDES

KINDS = ("rst", "fin", "silence")
PHASES = ("handshake", "messages", "closing")
# How often each phase has its turn: most of the time there are messages.
WEIGHTS = {"handshake": 1, "messages": 4, "closing": 1}
SHORTEST_HEAD = 129  # a response with nothing but what has to be there
LONGEST_CLOSE = {"client": 12, "server": 8}  # header, masking key of a client, code, "done"
LARGEST = 200_000
RESETS = (("client",), ("server",), SIDES)
SESSION_KILLS = 4
SHARE_OF_SESSIONS = 5  # every which kill is one of a session
TAG = 16  # how much of a message tells which it is
PATTERN = bytes(33 + ((j * 0x9E3779B1 & 0xFFFFFFFF) >> 16) % 94 for j in range(4096 + LARGEST))


def content(name, side, index, size):
    """A message of `size` bytes. All drivers make the same."""
    number = int(name.partition(".")[0])
    tag = b"%08x%c%07x" % (number, ord(side[0]), index)
    begin = (index * 31 + number * 17) % 4096
    return (tag + PATTERN[begin:begin + max(0, size - TAG)])[:size]


class Message:
    def __init__(self, size, is_text, fragments):
        self.size, self.is_text, self.fragments = size, is_text, fragments

    def __str__(self):
        return f"{self.size}{'t' if self.is_text else 'b'}{self.fragments}"

    def told(self, name, side, index):
        """As a driver tells of it: its type and CRC-32."""
        crc = zlib.crc32(content(name, side, index, self.size))
        return f"{'t' if self.is_text else 'b'}{crc:08x}"

    def frames(self, side):
        """How many bytes it is on the wire (RFC 6455 §5.2)."""
        total = 0
        for piece in range(self.fragments):
            size = (self.size * (piece + 1) // self.fragments) - (self.size * piece // self.fragments)
            total += 2 + (0 if size < 126 else 2 if size < 65536 else 8) + size
        return total + (4 * self.fragments if side == "client" else 0)


class Side:
    """What one side of a connection is to do."""

    def __init__(self, messages, turn, pause, close):
        self.messages = messages
        self.turn = turn  # messages sent in one go
        self.pause = pause  # after how many received messages it stops reading, and for how long
        self.close = close  # own: after its last message; all: after the peer's last, too; never

    def words(self, peer):
        return (f"{','.join(map(str, self.messages)) or '-'} {self.turn} {self.pause[0]} "
                f"{self.pause[1]} {self.close} {len(peer.messages)}")


class Plan:
    def __init__(self, number, client, server, kills, is_session=False):
        self.number = number
        self.client, self.server = client, server  # languages
        self.kills = kills
        self.is_session = is_session
        self.sides = {}
        self.narrow = False
        self.stalled = False  # what the peer of the counted side sends waits for the kill

    @property
    def hasty(self):
        """Whether somebody's timers have to end it."""
        return self.is_session or any(kill.kind == "silence" for kill in self.kills)

    def __str__(self):
        sides = " | ".join(f"{side}: {self.sides[side].words(self.sides[PEER[side]])}"
                           for side in SIDES)
        return (f"{self.number} {self.client}-{self.server}{' session' if self.is_session else ''}"
                f"{' narrow' if self.narrow else ''}{' stalled' if self.stalled else ''} [{'; '.join(map(str, self.kills))}] {sides}")


def fingerprint(seed, languages, kills):
    """Of what is planned for that many kills: the same wherever and whenever they are carried out."""
    plans, digest = Plans(seed, languages), hashlib.sha256()
    while kills > 0:
        plan = plans.next()
        kills -= len(plan.kills)
        digest.update(str(plan).encode())
    return digest.hexdigest()[:16]


class Plans:
    """An endless row of plans; the same for the same seed."""

    def __init__(self, seed, languages):
        self.random = random.Random(seed)
        self.languages = languages
        self.number = 0
        self.cells, self.pairs = [], []

    def next(self):
        self.number += 1
        client, server = self.pair()
        if self.number % 10 == 0:
            plan = self.clean(client, server)
        elif self.number % (SESSION_KILLS * SHARE_OF_SESSIONS) == 7:
            plan = self.session(client, server)
        else:
            plan = self.single(client, server)
        return plan

    def pair(self):
        if not self.pairs:
            self.pairs = [(client, server) for client in self.languages for server in self.languages]
            self.random.shuffle(self.pairs)
        return self.pairs.pop()

    def cell(self):
        """Kind, phase and source of the next kill: each has its turn."""
        if not self.cells:
            self.cells = [(kind, phase, source) for kind in KINDS for phase in PHASES
                          for source in SIDES for _ in range(WEIGHTS[phase])]
            self.random.shuffle(self.cells)
        return self.cells.pop()

    # --- what is said ---

    def size(self):
        most = self.random.choices((0, 20, 300, 5_000, 40_000, LARGEST), (3, 12, 40, 30, 12, 3))[0]
        return self.random.randint(0, most)

    def message(self):
        fragments = self.random.choice((1, 1, 1, 1, 1, 1, 2, 3, 7))
        return Message(self.size(), self.random.random() < 0.4, fragments)

    def side(self, close):
        count = self.random.choice((0, 1, 10, 60, 150, 400))
        messages = [self.message() for _ in range(count)]
        pause = (-1, 0)
        if self.random.random() < 0.4:
            pause = (self.random.choice((0, 1, 10)), self.random.randint(20, 200))
        return Side(messages, self.random.choice((1, 4, 1000)), pause, close)

    def offset(self, phase, source, messages):
        if phase == "handshake":
            return self.random.randrange(SHORTEST_HEAD)
        if phase == "closing":
            return self.random.randrange(LONGEST_CLOSE[source] + 1)
        return self.random.randrange(sum(message.frames(source) for message in messages) + 1)

    def kill(self, cell, messages):
        kind, phase, source = cell
        resets = self.random.choice(RESETS) if kind == "rst" else ()
        return Kill(kind, phase, source, self.offset(phase, source, messages), resets)

    def closing(self):
        """Which side closes, and when: often while messages of the other are on their way."""
        return self.random.choice((("all", "never"), ("never", "all"), ("own", "never"),
                                   ("never", "own"), ("all", "all"), ("own", "own")))

    def clean(self, client, server):
        """One that is not cut, and ends by itself."""
        plan = Plan(self.number, client, server, [])
        plan.narrow = self.random.random() < 0.6
        plan.sides = {side: self.side(close) for side, close in zip(SIDES, self.closing())}
        return plan

    def single(self, client, server):
        cell = self.cell()
        _, phase, source = cell
        plan = Plan(self.number, client, server, [])
        plan.narrow = self.random.random() < 0.6
        closing = dict(zip(SIDES, self.closing()))
        if phase == "messages" and closing[PEER[source]] == "own":
            # An early Close of the receiver would spare it some of the bytes that are counted.
            closing = {source: "own", PEER[source]: "never"}
        plan.sides = {side: self.side(closing[side]) for side in SIDES}
        if phase == "messages" and self.random.random() < 0.3:
            self.stall(plan, source)
        elif phase == "closing" and self.random.random() < 0.5:
            self.interrupt(plan, source)
        plan.kills = [self.kill(cell, plan.sides[source].messages)]
        return plan

    def stall(self, plan, source):
        """Has the other side send more than the system takes, none of which goes through before."""
        sending = plan.sides[PEER[source]]
        plan.narrow = plan.stalled = True
        sending.turn = 1000
        sending.messages = [Message(LARGEST, False, 1) for _ in range(20)] + sending.messages

    def interrupt(self, plan, source):
        """Has one side close early, and read nothing before, while the other has much to send."""
        closing, sending = plan.sides[source], plan.sides[PEER[source]]
        self.stall(plan, source)
        closing.close, closing.turn, closing.pause = "own", 1000, (0, 200)
        closing.messages = closing.messages[:5]
        sending.close, sending.pause = "never", (-1, 0)

    def session(self, client, server):
        """Cut again and again, until all is there. Each part of the messages' bytes is counted from
        the first frame of its connection, and what is left is enough for it."""
        plan = Plan(self.number, client, server, [], is_session=True)
        plan.narrow = self.random.random() < 0.6
        plan.sides = {side: self.side("all") for side in SIDES}
        source = self.random.choice(SIDES)
        messages = plan.sides[source].messages or [self.message() for _ in range(20)]
        plan.sides[source].messages = messages
        for phase in ("messages", "handshake", "messages", "closing"):
            kill = self.kill((self.random.choice(KINDS), phase, source), messages)
            if phase == "messages":
                kill.offset //= 3
            plan.kills.append(kill)
        return plan

