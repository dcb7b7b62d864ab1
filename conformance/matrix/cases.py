"""The table of cases: what is said between a client and a server, step by step.

A step is one of

    SIDE > ORDER        tells that side's driver to do something
    SIDE < EVENT        the next event of that side
    SIDE ! SIGNAL       sends its process a signal
    NAME > NUMBER       what an event told as {NAME} is more than that (< for less)

where SIDE is `client` or `server`; `wire` is a plain HTTP client of the runner's, at the same
server. README.md lists orders and events. In both, `@t65536` is a text of 65,536 bytes, `@b65536`
as many bytes that are no text, `@t1000.2of3` the second third of one; `@` and anything else is that
word itself. In events, `*` is anything, `{NAME}` a number to be kept, `[TEXT]` comes only from
peers that repeat reasons, and ` x{NAME}` at the end is that event so many times.

A side whose language cannot tell something leaves a dash in its place; a case that a language has
no interface for names what it `needs`, and is no case for the others.
"""
from dataclasses import dataclass, field

SIZES = (0, 1, 125, 126, 127, 65535, 65536, 1 << 20, 16 << 20)
BOTH_WAYS = (("client", "server"), ("server", "client"))
KINDS = {"t": "text", "b": "binary"}

# What the languages' interfaces have beyond what all have.
LANGUAGES = {
    "c": {"kinds", "keepalive", "full", "takes no subprotocol"},
    "cpp": {"kinds", "keepalive", "full", "takes no subprotocol"},
    "rust": {"kinds", "keepalive", "full", "takes no subprotocol"},
    "python": {"kinds", "keepalive", "full", "takes no subprotocol"},
    "node": {"keepalive", "full", "repeats reasons", "wants a subprotocol"},
    "ws": {"body", "repeats reasons", "wants a subprotocol"},
}

OPEN = ("server < open - /", "client < open - -")


@dataclass(frozen=True)
class Case:
    name: str
    steps: tuple
    server: str = ""  # options of `listen`
    client: str = ""  # options of `connect`
    target: str = "/"
    ignoring: tuple = ()  # events that may come at any time
    needs: dict = field(default_factory=dict)  # side: what its language must have

    def applies(self, client, server):
        of = {"client": LANGUAGES[client], "server": LANGUAGES[server]}
        return all(need in of[side] for side, need in self.needs.items())


def closing(side, peer, code, reason="", sent=None):
    """One side closes with a code and a reason; the other answers with the code."""
    words = f" {reason}" if reason else ""
    return (f"{side} > close {code if sent is None else sent}{words}",
            f"{peer} < close {code} clean OK{words}",
            f"{side} < close {code} clean OK{f' [{reason}]' if reason else ''}")


CLOSED = closing("client", "server", 1000)


def messages():
    for letter, kind in KINDS.items():
        for size in SIZES:
            name = f"@{letter}{size}"
            yield Case(f"{kind} of {size} bytes, both ways", (
                *OPEN,
                f"client > send {name}", f"server < message {kind} {name}",
                f"server > send {name}", f"client < message {kind} {name}",
                *CLOSED), ignoring=("drain",) if size > 1 << 20 else ())
    for side, peer in BOTH_WAYS:
        many = [f"@{letter}{size}" for size in (0, 3, 125, 126, 4000, 65536) for letter in KINDS] * 4
        yield Case(f"48 messages in a row, from the {side}", (
            *OPEN,
            *(f"{side} > send {name}" for name in many),
            *(f"{peer} < message {KINDS[name[1]]} {name}" for name in many),
            *CLOSED))


def fragments():
    cuts = [("in three fragments", "1000", 3), ("in fragments of one byte", "60", 60),
            ("of 1 MiB in 16 fragments", str(1 << 20), 16),
            ("of no bytes in two fragments", "0", 2)]
    for side, peer in BOTH_WAYS:
        for letter, kind in KINDS.items():
            for what, size, count in cuts:
                name = f"@{letter}{size}"
                orders = [f"{side} > fragment {name}.{i}of{count} {'last' if i == count else 'more'}"
                          for i in range(1, count + 1)]
                yield Case(f"{kind} {what}, from the {side}", (
                    *OPEN, *orders, f"{peer} < message {kind} {name}", *CLOSED))
            yield Case(f"{kind} with empty fragments around it, from the {side}", (
                *OPEN,
                f"{side} > fragment @{letter}0 more", f"{side} > fragment @{letter}9 more",
                f"{side} > fragment @{letter}0 last", f"{peer} < message {kind} @{letter}9",
                *CLOSED))
        yield Case(f"a ping and a pong amid fragments, from the {side}", (
            *OPEN,
            f"{side} > fragment @t700.1of2 more",
            f"{side} > ping @b125", f"{peer} < ping @b125", f"{side} < pong @b125",
            f"{side} > pong @b2", f"{peer} < pong @b2",
            f"{peer} > send @b5", f"{side} < message binary @b5",
            f"{side} > fragment @t700.2of2 last", f"{peer} < message text @t700",
            *CLOSED))


def control():
    for side, peer in BOTH_WAYS:
        for size in (0, 1, 124, 125):
            yield Case(f"a ping of {size} bytes, from the {side}", (
                *OPEN,
                f"{side} > ping @b{size}", f"{peer} < ping @b{size}", f"{side} < pong @b{size}",
                *CLOSED))
        yield Case(f"a pong that nobody asked for, from the {side}", (
            *OPEN,
            f"{side} > pong @t7", f"{peer} < pong @t7",
            f"{side} > pong @b0", f"{peer} < pong @b0",
            *CLOSED))


def closes():
    codes = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014,
             3000, 3999, 4000, 4999)
    reasons = {"in words": "see you tomorrow", "beyond ASCII": "für heute genug: 漢字 😀",
               "of 123 bytes": "größer! " * 12 + "x" * 3}
    assert len(reasons["of 123 bytes"].encode()) == 123
    for side, peer in BOTH_WAYS:
        yield Case(f"close without a code, by the {side}",
                   (*OPEN, *closing(side, peer, 1005, sent=0)))
        for code in codes:
            yield Case(f"close {code}, by the {side}", (*OPEN, *closing(side, peer, code)))
        for what, reason in reasons.items():
            yield Case(f"close with a reason {what}, by the {side}",
                       (*OPEN, *closing(side, peer, 4321, reason)))
        yield Case(f"messages right before a close, by the {side}", (
            *OPEN,
            f"{side} > send @t5", f"{side} > send @b65536", f"{side} > close 1000 done",
            f"{peer} < message text @t5", f"{peer} < message binary @b65536",
            f"{peer} < close 1000 clean OK done", f"{side} < close 1000 clean OK [done]"))
        yield Case(f"the {side} terminates", (
            *OPEN,
            f"{side} > terminate", f"{side} < close 1006 unclean TERMINATED",
            f"{peer} < close 1006 unclean LOST"))
        yield Case(f"a message above the {peer}'s limit", (
            *OPEN,
            f"{side} > send @t1000", f"{peer} < message text @t1000",
            f"{side} > send @b1001", f"{peer} < close 1006 unclean MESSAGE_TOO_BIG",
            f"{side} < close 1009 clean OK *"), **{peer: "max_message=1000"})


def handshakes():
    yield Case("a target with a query", (
        "server < open - /room/%E2%88%AE?name=a%20b&x=", "client < open - -", *CLOSED),
        target="/room/%E2%88%AE?name=a%20b&x=")
    yield Case("the server's first subprotocol of those offered", (
        "server < open b /", "client < open b -", *CLOSED),
        server="subprotocols=x,b,a", client="subprotocols=a,b")
    yield Case("the only subprotocol", (
        "server < open chat.v2 /", "client < open chat.v2 -", *CLOSED),
        server="subprotocols=chat.v2", client="subprotocols=chat.v2")
    yield Case("a server with subprotocols, a client without", (*OPEN, *CLOSED),
               server="subprotocols=a,b")
    yield Case("no subprotocol in common", (*OPEN, *CLOSED),
               server="subprotocols=a,b", client="subprotocols=c,d",
               needs={"client": "takes no subprotocol"})
    yield Case("no subprotocol in common, which the client does not take", (
        "server < open - /", "client < failed HANDSHAKE", "server < close 1006 unclean LOST"),
        server="subprotocols=a,b", client="subprotocols=c,d",
        needs={"client": "wants a subprotocol"})
    for status, size in ((400, 1), (401, 30), (403, 126), (404, 1000), (429, 12), (500, 5),
                         (503, 65536)):
        body = f"@t{size}"
        yield Case(f"refused with {status} and {size} bytes", (
            f"client < refused {status} {body}", f"wire < refused {status} {body}"),
            server=f"refuse={status} body={body}")


def backpressure():
    for side, peer in BOTH_WAYS:
        for letter, size in (("b", 65536), ("t", 1 << 20)):
            name, kind = f"@{letter}{size}", KINDS[letter]
            yield Case(f"backpressure and drain with {kind} of {size} bytes, at the {side}", (
                *OPEN,
                f"{peer} > pause", f"{peer} > sync", f"{peer} < synced",
                f"{side} > fill {name} backpressure",
                f"{side} < filled {{count}} {{waiting}}", f"waiting > {1 << 20}",
                f"{peer} > resume", f"{peer} < message {kind} {name} x{{count}}",
                f"{side} < drain",
                f"{side} > send @t3", f"{peer} < message text @t3",
                *CLOSED))
        yield Case(f"a full backlog, at the {side}", (
            *OPEN,
            f"{peer} > pause", f"{peer} > sync", f"{peer} < synced",
            f"{side} > fill @b65536 full",
            f"{side} < filled {{count}} {{waiting}}",
            f"waiting > {1 << 20}", f"waiting < {(2 << 20) + 1}",
            f"{peer} > resume", f"{peer} < message binary @b65536 x{{count}}",
            f"{side} < drain",
            f"{side} > send @t3", f"{peer} < message text @t3",
            *CLOSED), **{side: f"max_backlog={2 << 20}"}, needs={side: "full"})


def keepalive():
    for side, peer in BOTH_WAYS:
        yield Case(f"a peer that lives is kept by the {side}", (
            *OPEN,
            *(f"{peer} < ping @wsabi-keepalive", f"{side} < pong @wsabi-keepalive") * 2,
            f"{peer} > send @t9", f"{side} < message text @t9",
            *CLOSED), ignoring=("ping", "pong"), needs={side: "keepalive"},
            **{side: "ping_interval=50 ping_timeout=20000"})
        yield Case(f"a peer that hangs is found by the {side}", (
            *OPEN,
            f"{peer} ! SIGSTOP",
            f"{side} < close 1006 unclean KEEPALIVE_TIMEOUT *",
            f"{peer} ! SIGCONT",
            f"{peer} < close 1011 * * keepalive ping timeout"),
            ignoring=("ping", "pong"), needs={side: "keepalive"},
            **{side: "ping_interval=100 ping_timeout=100 close_timeout=100"})


def all_cases():
    groups = (messages, fragments, control, closes, handshakes, backpressure, keepalive)
    cases = [case for group in groups for case in group()]
    assert len({case.name for case in cases}) == len(cases)
    return cases
