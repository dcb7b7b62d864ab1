#!/usr/bin/env python3
"""Every language's client against every language's server.

    run.py                                   all 25 pairs (part of `make test`)
    run.py --client c node --server python   some of them
    run.py --client ws                       npm's ws as well, as a sixth language
    run.py --case 'close 1000'               only cases with that in their name
    run.py --list                            the cases

The cases are in cases.py. One line for each case that fails, a table of what passed for each pair,
and a closing line `N passed, N failed, N skipped`. Exit code 0 when something passed and nothing
failed.
"""
import argparse
import http.client
import re
import sys
import threading
import time
import zlib
from concurrent.futures import ThreadPoolExecutor

import cases
from drivers import BUILD, PAYLOADS, SECONDS, Broken, Driver, Unavailable, WORK, checkout

OWN = [language for language in BUILD if language != "ws"]
TEXT_PATTERN = "wsabi größer ∮ 漢字 😀 ".encode()
GIVE_UP = 5  # failures of one pair, each of which may have waited for an event in vain
BINARY_PATTERN = bytes((i * 7 + 3) % 256 for i in range(251))


class Mismatch(Exception):
    """Something else happened than the case says."""


# --- payloads ----------------------------------------------------------------------------


def payload(name):
    """What `@name` stands for in a case."""
    match = re.fullmatch(r"([tb])(\d+)(?:\.(\d+)of(\d+))?", name)
    if match is None:
        return name.encode()
    pattern, size = TEXT_PATTERN if match[1] == "t" else BINARY_PATTERN, int(match[2])
    data = (pattern * (size // len(pattern) + 1))[:size]
    if match[1] == "t":  # whole characters only
        whole = data.decode("utf-8", "ignore").encode()
        data = whole + b"." * (size - len(whole))
    if match[3] is not None:
        piece, count = int(match[3]), int(match[4])
        data = data[size * (piece - 1) // count:size * piece // count]
    return data


class Payloads:
    """Length and CRC-32 of every payload that cases name, which all have files."""

    def __init__(self, table):
        PAYLOADS.mkdir(parents=True, exist_ok=True)
        texts = [text for case in table for text in (*case.steps, case.server, case.client)]
        self.told = {}
        for name in sorted({name for text in texts for name in re.findall(r"@([\w.-]+)", text)}):
            data = payload(name)
            self.told[name] = f"{len(data)} {zlib.crc32(data):08x}"
            file = PAYLOADS / name
            if not file.is_file() or file.read_bytes() != data:
                file.write_bytes(data)


# --- one case ----------------------------------------------------------------------------


class Run:
    """A case between two drivers."""

    def __init__(self, case, client, server, payloads):
        self.case, self.payloads = case, payloads
        self.sides = {"client": client, "server": server}
        self.numbers = {}

    def run(self):
        for driver in self.sides.values():
            driver.start()
        server = self.sides["server"]
        self.at = "the server listens"
        self.port = server.port(self.case.server.replace("@", ""))
        self.order("client", f"connect {self.port} {self.case.target} {self.case.client}".strip())
        for self.at in self.case.steps:
            self.step(*self.at.split(" ", 2))
        self.at = "nothing more comes"
        for side in self.sides:
            self.order(side, "sync")
            self.expect(side, "synced")

    def step(self, subject, verb, rest):
        if subject == "wire":
            self.compare("wire", rest, self.refusal())
        elif subject not in self.sides:
            number = self.numbers[subject]
            if not (number > int(rest) if verb == ">" else number < int(rest)):
                raise Mismatch(f"it is {number}")
        elif verb == ">":
            self.order(subject, rest)
        elif verb == "!":
            self.sides[subject].signal(rest)
        else:
            event, _, times = rest.partition(" x{")
            for _ in range(self.numbers[times.rstrip("}")] if times else 1):
                self.expect(subject, event)

    def order(self, side, words):
        self.sides[side].order(re.sub(r"(^| )@", r"\1", words) if ">" in self.at else words)

    def expect(self, side, event):
        while True:
            got = self.sides[side].event()
            try:
                return self.compare(side, event, got)
            except Mismatch:
                if got.split(" ")[0] not in self.case.ignoring:
                    raise

    def compare(self, side, event, got):
        match = re.fullmatch(self.pattern(side, event), got)
        if match is None:
            raise Mismatch(f"the {side}'s event is `{got}`")
        self.numbers.update({name: int(value) for name, value in match.groupdict().items()})

    def pattern(self, side, event):
        """What the driver of that side writes for an event of a case, as a regular expression."""
        can = cases.LANGUAGES[self.sides[side].language] if side in self.sides else {"body"}
        peer = self.sides["server" if side == "client" else "client"]
        repeats = "repeats reasons" in cases.LANGUAGES[peer.language]
        event = re.sub(r" \[(.*)\]$", r" \1" if repeats else "", event)
        return " ".join(self.word(word, event, can) for word in event.split(" ")) \
            .replace(" .*", "(?: .*)?")

    def word(self, word, event, can):
        if word.startswith("@"):
            told = self.payloads.told[word[1:]]
            return told if not event.startswith("refused") or "body" in can else f"(?:{told}|- -)"
        if word == "*":
            return r"\S+" if not event.endswith(word) else ".*"
        if match := re.fullmatch(r"\{(\w+)\}", word):
            return rf"(?P<{match[1]}>\d+)"
        if re.fullmatch(r"[A-Z_]{3,}", word) and "kinds" not in can:
            return "-"
        return re.escape(word)

    def refusal(self):
        """What a request that the server refuses is answered by, as a driver would tell it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        connection.request("GET", self.case.target, headers={
            "Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "bWF0cml4IG9mIHdzYWJpIQ=="})
        response = connection.getresponse()
        body = response.read()
        connection.close()
        return f"refused {response.status} {len(body)} {zlib.crc32(body):08x}"


# --- all pairs ---------------------------------------------------------------------------


class Matrix:
    def __init__(self, table):
        self.table = table
        self.payloads = Payloads(table)
        self.passed, self.failed = {}, {}  # by pair
        self.ending = threading.Event()
        self.others = [0, 0]  # passed and failed that belong to no pair
        self.skipped = 0

    def fail(self, where, name, why):
        if not self.ending.is_set():
            print(f"FAIL  {where}: {name}: {why}\n", end="", flush=True)

    def skip(self, where, why, count):
        self.skipped += count
        if not self.ending.is_set():
            print(f"SKIP  {where}: {why} ({count} cases)\n", end="", flush=True)

    def pair(self, client, server):
        where = f"{client.language} -> {server.language}"
        table = [case for case in self.table if case.applies(client.language, server.language)]
        passed = failed = 0
        for case in table:
            if self.ending.is_set() or failed == GIVE_UP:
                break
            run = Run(case, client, server, self.payloads)
            try:
                run.run()
            except (Mismatch, EOFError, OSError, RuntimeError, http.client.HTTPException) as error:
                failed += 1
                self.fail(where, case.name, f"at `{run.at}`: {error or type(error).__name__}")
                # Whatever they are in the middle of ends with them; the next case starts others.
                client.kill()
                server.kill()
            else:
                passed += 1
        if passed + failed < len(table):
            self.skip(where, f"given up after {failed} failures", len(table) - passed - failed)
        self.passed[client.language, server.language] = passed
        self.failed[client.language, server.language] = failed

    def run(self, clients, servers):
        """Rounds of pairs that have no driver in common, side by side: much of it is waiting."""
        size = max(len(clients), len(servers), 1)
        with ThreadPoolExecutor(size) as pool:
            for shift in range(size):
                pairs = [(clients[i], servers[(i + shift) % size]) for i in range(len(clients))
                         if (i + shift) % size < len(servers)]
                try:
                    list(pool.map(lambda pair: self.pair(*pair), pairs))
                except BaseException:
                    # Whoever waits for an event gets to see the end of it.
                    self.ending.set()
                    for driver in (*clients, *servers):
                        driver.interrupt()
                    raise

    def finish(self, drivers):
        for driver in drivers:
            if driver.process is None:
                continue
            why = driver.finish()
            self.others[why is not None] += 1
            if why is not None:
                self.fail(f"{driver.language} as {driver.role}", "ends with 0 when its input does",
                          why)

    def print_table(self, clients, servers):
        corner = "client\\server"
        print(f"{corner:14}" + "".join(f"{s:>9}" for s in servers))
        for client in clients:
            cells = []
            for server in servers:
                passed = self.passed.get((client, server))
                failed = self.failed.get((client, server))
                cells.append("-" if passed is None else f"{failed} FAIL" if failed else str(passed))
            print(f"{client:14}" + "".join(f"{cell:>9}" for cell in cells))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for role in ("client", "server"):
        parser.add_argument(f"--{role}", nargs="+", choices=list(BUILD), metavar="LANGUAGE",
                            help=f"languages of {role}s, of {', '.join(BUILD)}")
    parser.add_argument("--case", default="", metavar="TEXT", help="only cases with TEXT in them")
    parser.add_argument("--list", action="store_true", help="only print the cases")
    args = parser.parse_args()
    args.table = [case for case in cases.all_cases() if args.case in case.name]
    if not args.table:
        parser.error(f"no case has {args.case!r} in its name; --list prints them")
    for role in ("client", "server"):
        # No language twice: a driver plays one part at a time.
        setattr(args, role, list(dict.fromkeys(getattr(args, role) or OWN)))
    return args


def build(args, matrix):
    """How the driver of each language is started; those that cannot be are told."""
    argv = {}
    for language in BUILD:
        if language not in args.client + args.server:
            continue
        try:
            argv[language] = BUILD[language]()
        except (Broken, Unavailable) as why:
            lost = sum(case.applies(client, server) for case in args.table
                       for client in args.client for server in args.server
                       if language in (client, server))
            matrix.skip(language, why, lost)
            if isinstance(why, Broken):
                matrix.others[1] += 1
                matrix.fail(language, "builds", why)
    return argv


def main():
    args = arguments()
    if args.list:
        print("\n".join(case.name for case in args.table))
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        with checkout.locked("matrix"):
            return run(args)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def run(args):
    matrix = Matrix(args.table)
    argv = build(args, matrix)
    clients = [Driver(name, "client", argv[name]) for name in args.client if name in argv]
    servers = [Driver(name, "server", argv[name]) for name in args.server if name in argv]
    started = time.monotonic()
    try:
        matrix.run(clients, servers)
        matrix.finish([*clients, *servers])
    finally:
        for driver in (*clients, *servers):
            driver.kill()
    matrix.print_table(args.client, args.server)
    passed = sum(matrix.passed.values()) + matrix.others[0]
    failed = sum(matrix.failed.values()) + matrix.others[1]
    print(f"{len(matrix.passed)} pairs in {time.monotonic() - started:.0f} s")
    print(f"{passed} passed, {failed} failed, {matrix.skipped} skipped")
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
