"""Python's `websockets` as the foreign peer; runs inside the virtual environment.

    websockets_peer.py drive CASES URL              a client that tests an echo server
    websockets_peer.py judge CASES                  a server that tests an echo client
    websockets_peer.py echo-server PORT [--max-message BYTES]
    websockets_peer.py echo-client URL [--max-message BYTES]

`drive` and `judge` print one JSON object per case: {"case": NAME, "why": null or a
sentence}. The two echo peers stand in for wsabi's when the cases themselves are tested.
"""
import argparse
import asyncio
import json
import logging
import signal
import sys
from urllib.parse import parse_qs, urlsplit

from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidStatus

DEADLINE = 60  # seconds for one case
OPEN = dict(compression=None, ping_interval=None)
TEXT_PATTERN = "wsabi größer ∮ 漢字 😀 ".encode()
BINARY_PATTERN = bytes((i * 7 + 3) % 256 for i in range(251))


class Wrong(Exception):
    """The peer did something else than the case asks for."""


def say(**fields):
    print(json.dumps(fields), flush=True)


# --- what is sent ------------------------------------------------------------------


def payload(kind, size, index=0):
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


async def send(ws, message, data, pongs):
    text = message["type"] == "text"
    if not message.get("fragments"):
        return await ws.send(data, text=text)

    async def fragments():
        for i, piece in enumerate(pieces(data, message["fragments"])):
            if i == 1 and "ping_between" in message:
                pongs.append(await ws.ping(payload("binary", message["ping_between"])))
            yield piece

    await ws.send(fragments(), text=text)


# --- one connection ------------------------------------------------------------------


def compare(message, want, got):
    kind = "text" if isinstance(got, str) else "binary"
    got = got.encode() if isinstance(got, str) else got
    if kind != message["type"]:
        raise Wrong(f"the echo is {kind}, not {message['type']}")
    if len(got) != len(want):
        raise Wrong(f"the echo has {len(got)} bytes, not {len(want)}")
    if got != want:
        at = next(i for i, (a, b) in enumerate(zip(got, want)) if a != b)
        raise Wrong(f"the echo differs at byte {at}")


async def echoes(ws, messages):
    pongs = []

    async def send_all():
        for message, data in expand(messages):
            await send(ws, message, data, pongs)

    async def receive_all():
        for message, data in expand(messages):
            compare(message, data, await ws.recv())

    await asyncio.gather(send_all(), receive_all())
    for pong in pongs:
        await pong


async def run_case(ws, case, on_stop):
    if "pong" in case:
        await ws.pong(payload("binary", case["pong"]))
    if "pings" in case:
        # A pong answers its ping and those before it (RFC 6455 §5.5.3).
        *_, last = [await ws.ping(payload("binary", size)) for size in case["pings"]]
        await last
    await echoes(ws, case.get("messages", []))
    if "stop" in case:
        on_stop()
    if "expect_close" in case:
        await expect_close(ws, case)
    else:
        await close(ws, case.get("close", {"code": 1000, "reason": ""}))


async def expect_close(ws, case):
    async def send_all():
        if "invalid_utf8" in case:
            await ws.send(b"not UTF-8: \xc3\x28", text=True)
        for message, data in expand([case["oversize"]] if "oversize" in case else []):
            await send(ws, message, data, [])

    # The peer may close before it has all of it: what counts is how.
    sending = asyncio.create_task(send_all())
    try:
        got = await ws.recv()
        raise Wrong(f"a message of {len(got)} came instead of Close {case['expect_close']}")
    except ConnectionClosed as e:
        code = e.rcvd.code if e.rcvd else 1006
    finally:
        sending.cancel()
        await asyncio.gather(sending, return_exceptions=True)
    if code != case["expect_close"]:
        raise Wrong(f"the connection ended with {code}, not {case['expect_close']}")


async def close(ws, wanted):
    code, reason = wanted.get("code"), wanted.get("reason", "")
    if code is None:
        try:
            async with ws.send_context():
                ws.protocol.send_close()
        except ConnectionClosed:
            pass
    else:
        await ws.close(code, reason)
    got = ws.protocol.close_rcvd
    if got is None:
        raise Wrong("no Close frame came in reply to ours")
    if got.code != (code or 1005):
        raise Wrong(f"the reply to Close {code or 'without a code'} has the code {got.code}")
    if got.reason not in ("", reason):
        raise Wrong(f"the reply to Close has the reason {got.reason!r}, ours was {reason!r}")


async def cut_off(ws):
    """Ends the transport, unless it has ended: then asyncio's must not be touched."""
    if not ws.connection_lost_waiter.done():
        ws.transport.abort()
    await ws.wait_closed()


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


async def drive_case(url, case):
    origin = case.get("origin", "").replace("{host}", urlsplit(url).netloc) or None
    opening = connect(url, origin=origin, max_size=None, proxy=None, **OPEN)
    if "expect_status" in case:
        try:
            async with opening:
                raise Wrong(f"the handshake was accepted, not refused with {case['expect_status']}")
        except InvalidStatus as e:
            if e.response.status_code != case["expect_status"]:
                raise Wrong(f"refused with {e.response.status_code}, not {case['expect_status']}")
            return
    ws = await opening
    try:
        if "cut" in case:
            await ws.send("cut off after this")
        else:
            await run_case(ws, case, lambda: say(stop=True))
    finally:
        await cut_off(ws)
    if "cut" in case:
        async with connect(url, proxy=None, **OPEN) as ws:
            await run_case(ws, {"messages": [{"type": "text", "size": 10}]}, None)


async def drive(args):
    for case in args.cases:
        say(case=case["name"], why=await verdict(drive_case(args.url, case)))


# --- a server that tests a client --------------------------------------------------------


class Judge:
    """The paths of Autobahn's fuzzing server, over our own table of cases."""

    def __init__(self, cases):
        self.cases = cases
        self.pending = None  # a case that passes when the client comes back

    def case_of(self, request):
        parts = urlsplit(request.path)
        if parts.path != "/runCase":
            return parts.path, None
        try:
            number = int(parse_qs(parts.query)["case"][0])
            if not parse_qs(parts.query).get("agent") or not 1 <= number <= len(self.cases):
                raise ValueError
        except (KeyError, ValueError):
            return parts.path, None
        return parts.path, self.cases[number - 1]

    def refuse(self, ws, request):
        if self.pending:
            say(case=self.pending, why=None)
            self.pending = None
        path, case = self.case_of(request)
        if path not in ("/getCaseCount", "/runCase", "/updateReports") or (
                path == "/runCase" and case is None):
            say(note=f"the client asked for {request.path}")
            return ws.respond(404, "no such path\n")
        if case and "refuse" in case:
            self.pending = case["name"]
            return ws.respond(case["refuse"], "refused by the case\n")
        return None

    async def serve(self, ws):
        path, case = self.case_of(ws.request)
        if path == "/getCaseCount":
            await ws.send(str(len(self.cases)))
        elif path == "/updateReports":
            await ws.close()
            say(done=True)
        elif "cut" in case:
            self.pending = case["name"]
            await cut_off(ws)
        else:
            say(case=case["name"], why=await verdict(run_case(ws, case, None)))
            await cut_off(ws)


async def judge(args):
    judge = Judge(args.cases)
    async with serve(judge.serve, "127.0.0.1", 0, process_request=judge.refuse,
                     max_size=None, **OPEN) as server:
        say(url=f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        await terminated()


# --- echo peers ----------------------------------------------------------------------------


async def terminated():
    end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, end.set)
    await end.wait()


async def echo(ws):
    try:
        async for message in ws:
            await ws.send(message)
    except ConnectionClosed:
        pass


def same_origin(ws, request):
    origin = request.headers.get("Origin")
    if origin is not None and urlsplit(origin).netloc != request.headers["Host"]:
        return ws.respond(403, f"Origin {origin} is not this server's\n")
    return None


async def echo_server(args):
    async with serve(echo, "127.0.0.1", args.port, process_request=same_origin,
                     max_size=args.max_message, **OPEN) as server:
        print(f"listening on ws://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
        await terminated()


async def echo_client(args):
    def open(path):
        return connect(args.url + path, max_size=args.max_message, proxy=None, **OPEN)

    agent = "websockets"
    async with open("/getCaseCount") as ws:
        count = int(await ws.recv())
    for number in range(1, count + 1):
        try:
            async with open(f"/runCase?case={number}&agent={agent}") as ws:
                await echo(ws)
        except (InvalidHandshake, OSError) as e:
            print(f"case {number}: {e}", file=sys.stderr)
    async with open(f"/updateReports?agent={agent}") as ws:
        await ws.wait_closed()


def table(path):
    with open(path, encoding="utf-8") as f:
        return json.load(f)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    modes = parser.add_subparsers(dest="mode", required=True)
    for name, run, arguments in [("drive", drive, ("cases", "url")), ("judge", judge, ("cases",)),
                                 ("echo-server", echo_server, ("port",)),
                                 ("echo-client", echo_client, ("url",))]:
        mode = modes.add_parser(name)
        mode.set_defaults(run=run)
        for argument in arguments:
            mode.add_argument(argument, type={"cases": table, "port": int}.get(argument, str))
        mode.add_argument("--max-message", type=int, default=16 * 1024 * 1024)
    logging.disable(logging.CRITICAL)  # a verdict says what went wrong
    args = parser.parse_args()
    asyncio.run(args.run(args))


if __name__ == "__main__":
    main()
