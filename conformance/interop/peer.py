"""What the foreign peers in Python share: their modes, and how a case is run over a `Link`.

    PEER drive CASES URL              a client that tests an echo server
    PEER judge CASES                  a server that tests an echo client
    PEER echo-server PORT
    PEER echo-client URL

All take the flags of wsabi's echo examples: [--max-message BYTES]
[--deflate [--deflate-window-bits N] [--context-takeover]]. Without a window, compression is as the
library has it by default.

`drive` and `judge` print one JSON object per case, {"case": NAME, "why": null or a sentence}, and
one per connection that opened, {"agreed": the response's Sec-WebSocket-Extensions}. The two echo
peers stand in for wsabi's when the cases themselves are tested.
"""
import argparse
import asyncio
import json
import logging
import random
import signal
import socket
import struct
import sys
from urllib.parse import parse_qs, urlsplit

DEADLINE = 60  # seconds for one case
TEXT_PATTERN = "wsabi größer ∮ 漢字 😀 ".encode()
BINARY_PATTERN = bytes((i * 7 + 3) % 256 for i in range(251))
PATHS = ("/getCaseCount", "/runCase", "/updateReports")


class Wrong(Exception):
    """The peer did something else than the case asks for."""


class Closed(Exception):
    """The connection is over; `code` is 1006 where no Close frame came."""

    def __init__(self, code):
        super().__init__(f"the connection ended with {code}")
        self.code = code


class Refused(Exception):
    """The server answered the opening handshake with `status`."""

    def __init__(self, status):
        super().__init__(f"refused with {status}")
        self.status = status


def say(**fields):
    print(json.dumps(fields), flush=True)


def received(transport):
    """How many bytes have come on this connection; None where the system does not tell."""
    sock = transport.get_extra_info("socket")
    if sock is None or not sys.platform.startswith("linux"):
        return None
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 192)
    return struct.unpack_from("=Q", info, 128)[0]  # tcpi_bytes_received


# --- what is sent ------------------------------------------------------------------


def payload(kind, size, index=0):
    if kind == "noise":
        return random.Random(index).randbytes(size)
    head = f"{index}|".encode()[:size]
    pattern = TEXT_PATTERN if kind == "text" else BINARY_PATTERN
    room = size - len(head)
    body = (pattern * (room // len(pattern) + 1))[:room]
    if kind == "text":  # whole characters only
        whole = body.decode("utf-8", "ignore").encode()
        body = whole + b"." * (room - len(whole))
    return head + body


def expand(messages):
    for message in messages:
        for index in range(message.get("count", 1)):
            yield message, payload(message["type"], message["size"], index)


def pieces(data, count):
    cuts = [len(data) * i // count for i in range(count + 1)]
    return [data[a:b] for a, b in zip(cuts, cuts[1:])]


async def send(link, message, data, pongs):
    text = message["type"] == "text"
    if not message.get("fragments"):
        return await link.send(data, text)

    async def fragments():
        for i, piece in enumerate(pieces(data, message["fragments"])):
            if i == 1 and "ping_between" in message:
                pongs.append(await link.ping(payload("binary", message["ping_between"])))
            yield piece

    await link.send_fragments(fragments(), text)


# --- one connection ------------------------------------------------------------------


def compare(message, want, got):
    kind = "text" if isinstance(got, str) else "binary"
    got = got.encode() if isinstance(got, str) else got
    if (kind == "text") != (message["type"] == "text"):
        raise Wrong(f"the echo is {kind}, not {message['type']}")
    if len(got) != len(want):
        raise Wrong(f"the echo has {len(got)} bytes, not {len(want)}")
    if got != want:
        at = next(i for i, (a, b) in enumerate(zip(got, want)) if a != b)
        raise Wrong(f"the echo differs at byte {at}")


async def echoes(link, messages):
    pongs = []

    async def send_all():
        for message, data in expand(messages):
            await send(link, message, data, pongs)

    async def receive_all():
        for message, data in expand(messages):
            compare(message, data, await link.receive())

    await asyncio.gather(send_all(), receive_all())
    for pong in pongs:
        await pong


def squeezed(link, messages):
    """That what came back was in fact compressed."""
    came = link.received()
    total = sum(m["size"] * m.get("count", 1) for m in messages)
    if link.extensions and came is not None and came > total // 2:
        raise Wrong(f"{came} bytes came for {total}: they were not compressed")


async def run_case(link, case, on_stop=None):
    if "pong" in case:
        await link.pong(payload("binary", case["pong"]))
    if "pings" in case:
        # A pong answers its ping and those before it (RFC 6455 §5.5.3).
        *_, last = [await link.ping(payload("binary", size)) for size in case["pings"]]
        await last
    messages = case.get("messages", [])
    await echoes(link, messages)
    if "squeezed" in case:
        squeezed(link, messages)
    if "stop" in case:
        on_stop()
    if "expect_close" in case:
        await expect_close(link, case)
    else:
        await close(link, case.get("close", {"code": 1000, "reason": ""}))


async def expect_close(link, case):
    async def send_all():
        if "invalid_utf8" in case:
            await link.send(b"not UTF-8: \xc3\x28", True)
        for message, data in expand([case["oversize"]] if "oversize" in case else []):
            await send(link, message, data, [])

    # The peer may close before it has all of it: what counts is how.
    sending = asyncio.create_task(send_all())
    try:
        got = await link.receive()
        raise Wrong(f"a message of {len(got)} came instead of Close {case['expect_close']}")
    except Closed as e:
        if e.code != case["expect_close"]:
            raise Wrong(f"{e}, not {case['expect_close']}") from None
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)


async def close(link, wanted):
    code, reason = wanted.get("code"), wanted.get("reason", "")
    got, why = await link.close(code, reason)
    if got is None:
        raise Wrong("no Close frame came in reply to ours")
    if got != (code or 1005):
        raise Wrong(f"the reply to Close {code or 'without a code'} has the code {got}")
    if why not in ("", reason):
        raise Wrong(f"the reply to Close has the reason {why!r}, ours was {reason!r}")


async def verdict(coroutine):
    """None, or what went wrong."""
    try:
        async with asyncio.timeout(DEADLINE):
            await coroutine
    except Wrong as e:
        return str(e)
    except TimeoutError:
        return f"not finished after {DEADLINE} s"
    except Exception as e:  # also what the library itself trips over
        return f"{type(e).__name__}: {e}"
    return None


# --- a client that tests a server ------------------------------------------------------


async def drive_case(library, args, case):
    origin = case.get("origin", "").replace("{host}", urlsplit(args.url).netloc) or None
    status = case.get("expect_status")
    try:
        link = await library.connect(args.url, args, origin)
    except Refused as e:
        if e.status != status:
            raise Wrong(f"{e}, not {status}" if status else str(e)) from None
        return
    try:
        say(agreed=link.extensions)
        if status:
            raise Wrong(f"the handshake was accepted, not refused with {status}")
        if "cut" in case:
            await link.send(b"cut off after this", True)
        else:
            await run_case(link, case, lambda: say(stop=True))
    finally:
        await link.cut_off()
    if "cut" in case:
        again = await library.connect(args.url, args)
        try:
            await run_case(again, {"messages": [{"type": "text", "size": 10}]})
        finally:
            await again.cut_off()


async def drive(library, args):
    for case in args.cases:
        say(case=case["name"], why=await verdict(drive_case(library, args, case)))


# --- a server that tests a client --------------------------------------------------------


class Judge:
    """The paths of Autobahn's fuzzing server, over our own table of cases."""

    def __init__(self, cases):
        self.cases = cases
        self.pending = None  # a case that passes when the client comes back

    def case_of(self, target):
        parts = urlsplit(target)
        if parts.path != "/runCase":
            return parts.path, None
        try:
            number = int(parse_qs(parts.query)["case"][0])
            if not parse_qs(parts.query).get("agent") or not 1 <= number <= len(self.cases):
                raise ValueError
        except (KeyError, ValueError):
            return parts.path, None
        return parts.path, self.cases[number - 1]

    def refuse(self, target, headers):
        """The status that this request is to be refused with, or None."""
        if self.pending:
            say(case=self.pending, why=None)
            self.pending = None
        path, case = self.case_of(target)
        if path not in PATHS or (path == "/runCase" and case is None):
            say(note=f"the client asked for {target}")
            return 404
        if case and "refuse" in case:
            self.pending = case["name"]
            return case["refuse"]
        return None

    async def serve(self, link, target):
        path, case = self.case_of(target)
        if path == "/getCaseCount":
            await link.send(str(len(self.cases)).encode(), True)
            await link.close(1000, "")
        elif path == "/updateReports":
            await link.close(1000, "")
            say(done=True)
        elif "cut" in case:
            self.pending = case["name"]
            await link.cut_off()
        else:
            say(agreed=link.extensions)
            say(case=case["name"], why=await verdict(run_case(link, case)))
            await link.cut_off()


async def judge(library, args):
    judge = Judge(args.cases)
    async with library.listen(0, args, judge.refuse, judge.serve) as port:
        say(url=f"ws://127.0.0.1:{port}")
        await terminated()


# --- echo peers ----------------------------------------------------------------------------


async def terminated():
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()


async def echo(link, target=None):
    try:
        while True:
            data = await link.receive()
            text = isinstance(data, str)
            await link.send(data.encode() if text else data, text)
    except Closed:
        pass


def other_origin(target, headers):
    origin = headers.get("Origin")
    return 403 if origin is not None and urlsplit(origin).netloc != headers["Host"] else None


async def echo_server(library, args):
    async with library.listen(args.port, args, other_origin, echo) as port:
        print(f"listening on ws://127.0.0.1:{port}", flush=True)
        await terminated()


async def echo_client(library, args):
    agent = library.NAME
    link = await library.connect(args.url + "/getCaseCount", args)
    count = int(await link.receive())
    await link.cut_off()
    for number in range(1, count + 1):
        try:
            link = await library.connect(f"{args.url}/runCase?case={number}&agent={agent}", args)
        except (Refused, OSError) as e:
            print(f"case {number}: {e}", file=sys.stderr)
            continue
        await echo(link)
        await link.cut_off()
    link = await library.connect(f"{args.url}/updateReports?agent={agent}", args)
    await echo(link)
    await link.cut_off()


# --- the command line ------------------------------------------------------------------------


def table(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def main(library):
    parser = argparse.ArgumentParser(description=library.__doc__.splitlines()[0])
    modes = parser.add_subparsers(dest="mode", required=True)
    for name, run, arguments in [("drive", drive, ("cases", "url")), ("judge", judge, ("cases",)),
                                 ("echo-server", echo_server, ("port",)),
                                 ("echo-client", echo_client, ("url",))]:
        mode = modes.add_parser(name)
        mode.set_defaults(run=run)
        for argument in arguments:
            mode.add_argument(argument, type={"cases": table, "port": int}.get(argument, str))
        mode.add_argument("--max-message", type=int, metavar="BYTES",
                          default=None if "cases" in arguments else 16 * 1024 * 1024)
        mode.add_argument("--deflate", action="store_true")
        mode.add_argument("--deflate-window-bits", type=int, metavar="N")
        mode.add_argument("--context-takeover", action="store_true")
    logging.disable(logging.CRITICAL)  # a verdict says what went wrong
    args = parser.parse_args()
    asyncio.run(args.run(library, args))
