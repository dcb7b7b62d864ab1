"""What has to hold for a connection, whatever was done to it.

- Every message that a send accepts has one outcome before the end: it was handed to the system, or
  it was dropped; and what was dropped is the last of it.
- What a receiver gets is the beginning of what was sent: no gap, no message twice, none changed.
- It gets no more than was handed over, and after a clean end it gets everything.
- There is one end for each connection, and nothing after it.

Does not know: how anything is run.
"""
from plan import KINDS, PHASES
from relay import PEER, SIDES

# The ends that the peer or the network cause, not one of the timers.
UNTIMED = ("OK", "LOST", "-")


class Report:
    """What a driver tells at the end of a connection."""

    def __init__(self, words):
        fields = dict(word.split("=", 1) for word in words)
        self.kind = fields["kind"]
        self.code = int(fields["code"])
        self.is_open, self.clean = fields["open"] == "1", fields["clean"] == "1"
        numbers = ("accepted", "handed", "dropped", "received")
        self.accepted, self.handed, self.dropped, self.received = (int(fields[n]) for n in numbers)
        self.told = told_of(fields["told"])

    def __str__(self):
        return (f"{'clean' if self.clean else 'unclean'} {self.code} {self.kind}, {self.accepted} "
                f"accepted, {self.handed} handed over, {self.dropped} dropped, {self.received} "
                f"received")


def told_of(words):
    return [] if words == "-" else words.split(",")


class Judge:
    """Collects what is wrong, and what was seen."""

    def __init__(self):
        self.faults = []
        self.kills = {(kind, phase, side): 0 for kind in KINDS for phase in PHASES for side in SIDES}
        self.resets = {}
        self.by_language = {}
        self.messages = {"accepted": 0, "handed": 0, "dropped": 0, "received": 0}
        self.connections = self.clean = self.missed = self.exact = self.whole = 0
        self.with_drops = self.exact_with_drops = 0
        self.sessions = self.attempts = self.duplicates = 0

    def check(self, holds, plan, what):
        if not holds:
            self.fault(plan, what)
        return holds

    def fault(self, plan, what):
        self.faults.append(f"{plan.number} ({plan.client}-{plan.server}): {what}")

    # --- one connection ---

    def connection(self, plan, name, kill, reports, relayed):
        """`reports` are lists of what each side has told; `relayed` is the relay's connection."""
        self.connections += 1
        if relayed.killed:
            self.count_kill(plan, kill, relayed)
        elif kill is not None:
            self.missed += 1
        ends = {}
        for side in SIDES:
            expected = 1 if side == "client" or reports[side] else 0
            self.check(len(reports[side]) == expected, plan,
                       f"{name}: the {side} told of {len(reports[side])} ends")
            if reports[side]:
                ends[side] = reports[side][0]
        for side in SIDES:
            if side in ends:
                self.side(plan, name, side, ends, relayed)
        if all(side in ends and ends[side].clean for side in SIDES):
            self.clean += 1
        elif kill is None and not plan.is_session:
            self.check(plan.hasty, plan, f"{name}: it was not cut and did not end cleanly: " +
                       "; ".join(f"{side} {end}" for side, end in ends.items()))

    def count_kill(self, plan, kill, relayed):
        flow = relayed.flows[kill.source]
        position = flow.stream.position(kill.phase, kill.offset)
        self.check(flow.sent == position, plan,
                   f"{kill}: {flow.sent} bytes went through, not {position}")
        self.kills[kill.kind, kill.phase, kill.source] += 1
        if kill.kind == "rst":
            to = " and ".join(kill.resets)
            self.resets[to] = self.resets.get(to, 0) + 1
        for pair in {(plan.client, "client"), (plan.server, "server")}:
            known = self.by_language.setdefault(pair, dict.fromkeys(KINDS, 0))
            known[kill.kind] += 1

    def side(self, plan, name, side, ends, relayed):
        """One direction: what this side has sent, and what its peer has of it."""
        sender, receiver = ends[side], ends.get(PEER[side])
        flow = relayed.flows[side]
        read = flow.stream.messages
        where = f"{name}, from the {side}"
        told = f"{where}: {sender}; the relay read {read}"
        for word in self.messages:
            self.messages[word] += getattr(sender, word)
        self.check(sender.accepted == sender.handed + sender.dropped and sender.handed >= 0, plan,
                   f"{told}: not every message has one outcome")
        self.check(read <= sender.handed, plan, f"{told}: messages that were not handed over")
        self.with_drops += sender.dropped > 0
        if flow.end == "eof":
            # Nothing was lost between the system and the relay.
            self.exact += 1
            self.exact_with_drops += sender.dropped > 0
            self.check(read == sender.handed, plan, f"{told}: fewer than were handed over")
        if sender.clean:
            self.check(sender.dropped == 0, plan, f"{told}: dropped, and the end is clean")
        if receiver is None:
            return
        told += f"; the {PEER[side]} received {receiver.received}"
        most = read if flow.through is None else flow.through
        self.check(receiver.received <= most, plan, f"{told}: more than {most} went through")
        if receiver.clean:
            self.check(receiver.received == sender.accepted, plan,
                       f"{told}: not everything, and the end is clean there")
        if sender.clean and not plan.is_session and plan.sides[PEER[side]].close == "never":
            # The peer's Close has answered ours, so it had read everything before.
            self.check(receiver.received == sender.accepted, plan,
                       f"{told}: not everything, and the end is clean here")
        self.arrived(plan, told, receiver, flow, relayed, most)
        if not plan.is_session:
            self.check(len(receiver.told) == receiver.received, plan, f"{told}: told otherwise")
            self.prefix(plan, where, side, receiver.told, sender.accepted)

    def arrived(self, plan, told, receiver, flow, relayed, most):
        """What has gone through before an orderly end of the stream is all received."""
        cut_in_order = relayed.killed and relayed.kill.kind == "fin" and flow.through is not None
        orderly = flow.delivered or (cut_in_order and flow.source == relayed.kill.source)
        lost = relayed.killed and (relayed.kill.kind == "silence" or
                                   PEER[flow.source] in relayed.kill.resets)
        if orderly and not lost and not plan.hasty and receiver.kind in UNTIMED:
            self.whole += 1
            self.check(receiver.received == most, plan, f"{told}: fewer than {most}, which arrived")

    def prefix(self, plan, where, side, told, accepted):
        """Compares what was received to what was sent, message by message."""
        messages = plan.sides[side].messages
        for index, got in enumerate(told):
            wanted = messages[index].told(str(plan.number), side, index) \
                if index < min(accepted, len(messages)) else None
            if got != wanted:
                all_of_it = [m.told(str(plan.number), side, i) for i, m in enumerate(messages)]
                which = f"message {all_of_it.index(got)}" if got in all_of_it else "none of them"
                return self.fault(plan, f"{where}: received message {index} is {which}, {got}, "
                                        f"instead of {wanted} ({accepted} accepted)")
        return None

    # --- a session ---

    def session(self, plan, results):
        """The transcripts of both sides, after as many attempts as it took."""
        self.sessions += 1
        for side, (attempts, duplicates, told) in results.items():
            wanted = [message.told(str(plan.number), PEER[side], index)
                      for index, message in enumerate(plan.sides[PEER[side]].messages)]
            self.check(told == wanted, plan,
                       f"the transcript of the {side} is not what was sent: {len(told)} messages of "
                       f"{len(wanted)}, equal up to {equal(told, wanted)}")
            self.duplicates += duplicates
            if side == "client":
                self.attempts += attempts
                self.check(attempts >= len(plan.kills), plan, f"only {attempts} attempts")

    # --- the end ---

    def total(self):
        return sum(self.kills.values())

    def summary(self):
        yield f"{'kills':10}" + "".join(f"{p + ' ' + s:>19}" for p in PHASES for s in SIDES)
        for kind in KINDS:
            yield f"{kind:10}" + "".join(f"{self.kills[kind, p, s]:19}" for p in PHASES for s in SIDES)
        yield "resets sent to: " + ", ".join(f"{to} {n}" for to, n in sorted(self.resets.items()))
        for (language, side), known in sorted(self.by_language.items()):
            yield f"{language + ' ' + side:16}" + "  ".join(f"{k} {n}" for k, n in known.items())
        yield (f"{self.connections} connections, {self.clean} clean on both sides, {self.missed} that "
               f"ended before their kill")
        yield "messages: " + ", ".join(f"{n:,} {word}" for word, n in self.messages.items())
        yield (f"directions in which the relay read all that was handed over: {self.exact}; in which "
               f"all that arrived was to be received: {self.whole}")
        yield (f"directions with dropped messages: {self.with_drops}, of which the relay read all that "
               f"was handed over in {self.exact_with_drops}")
        yield (f"{self.sessions} sessions in {self.attempts} connections, "
               f"{self.duplicates} messages came again, all transcripts compared")


def equal(told, wanted):
    for index, (one, other) in enumerate(zip(told, wanted)):
        if one != other:
            return index
    return min(len(told), len(wanted))
