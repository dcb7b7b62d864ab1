#!/usr/bin/env python3
"""wsabi's echo examples against foreign WebSocket libraries, in both directions.

    run.py                                   every example there is, with a choice of the rest
    run.py --all                             each with each, in every combination of compression
    run.py --language c --role server --peer ws --case 16
    run.py --self                            the peers against one another
    run.py --server-command 'PROGRAM 0'      another echo server (prints `listening on URL`)
    run.py --client-command 'PROGRAM {url}'  another echo client

The cases are in cases.json. One line for each case and direction, and a closing line
`N passed, N failed, N skipped`. Exit code 0 when something passed and nothing failed.
"""
import argparse
import contextlib
import json
import os
import shlex
import shutil
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tools"))
import agreement  # noqa: E402
import checkout  # noqa: E402
from checkout import Program, Unavailable  # noqa: E402

STALL = 90  # seconds without a line; more than a case may take
WORK = checkout.TARGET / "interop" / str(os.getpid())  # of this run only; gone at its end
COMPRESSED = ("c", "python", "node")  # the other languages' examples use the same two APIs
FIRST = "c"  # and all of them use the same core
WINDOWS = (9, 12, 15)


@dataclass(frozen=True)
class Compression:
    """What an endpoint is told of permessage-deflate; as its library has it without a window."""
    bits: int | None = None
    takeover: bool = True

    def flags(self):
        if self.bits is None:
            return ["--deflate"]
        return ["--deflate", "--deflate-window-bits", str(self.bits),
                *(["--context-takeover"] if self.takeover else [])]

    def __str__(self):
        return ("default" if self.bits is None
                else f"{self.bits} {'with' if self.takeover else 'without'} takeover")


# Of the example and of the peer: alike, one narrower than the other, and the peers' defaults.
COMBINATIONS = [(Compression(bits, takeover),) * 2 for takeover in (False, True)
                for bits in WINDOWS] + [
    (Compression(9, False), Compression(15, True)),
    (Compression(15, True), Compression(9, False)),
    (Compression(12, True), Compression()),
]


class Report:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def case(self, where, name, why, detail=""):
        if why is None:
            self.passed += 1
            print(f"ok    {where}: {name}", flush=True)
        else:
            self.failed += 1
            print(f"FAIL  {where}: {name}: {why}{detail}", flush=True)

    def skip(self, where, count, why):
        self.skipped += count
        print(f"SKIP  {where}: {why} ({count} cases)", flush=True)


# --- who takes part ------------------------------------------------------------------


def python_peer(name):
    return [checkout.interop_python(), HERE / f"{name}_peer.py"], {}


def ws_peer(name):
    return ["node", HERE / "ws_peer.cjs"], {"NODE_PATH": str(checkout.node_modules())}


def tungstenite_peer(name):
    return [checkout.tungstenite()], {}


def gorilla_peer(name):
    return [checkout.gorilla()], {}


@dataclass(frozen=True)
class Library:
    start: object  # name -> (argv, environment)
    deflate: bool = True
    echoes: bool = True  # has an echo server and client
    few: bool = False  # without --all, only the first language is tested without compression
    lacks: tuple = ()  # what cases need that it cannot do: keys of a case or of its messages


PEERS = {
    "websockets": Library(python_peer),
    "ws": Library(ws_peer),
    "aiohttp": Library(python_peer, lacks=("fragments", "close without a code"), few=True),
    "tungstenite": Library(tungstenite_peer, deflate=False, echoes=False, few=True),
    "gorilla": Library(gorilla_peer, deflate=False, echoes=False, few=True,
                       lacks=("fragments",)),
}


class Peer:
    """A foreign library: how its modes are started."""

    def __init__(self, name):
        self.name = name
        self.library = PEERS[name]
        self.start, self.env = self.library.start(name)

    def can(self, case):
        needs = {key for message in [*case.get("messages", []), case.get("oversize", {})]
                 for key in message} | {case["name"]}
        return needs.isdisjoint(self.library.lacks)

    def run(self, log, *arguments):
        return Program([*self.start, *arguments], log, self.env)


class Subject:
    """An echo peer under test; `argv` gets its flags appended, `{url}` filled in."""

    def __init__(self, name, argv, env=None, example=None):
        self.name = name
        self.argv = argv
        self.env = env or {}
        self.example = example

    def run(self, log, flags, url=""):
        return Program([str(a).replace("{url}", url) for a in self.argv] + flags, log, self.env)


def subjects(args, role, peers):
    given = args.server_command if role == "server" else args.client_command
    last = "0" if role == "server" else "{url}"
    if args.self:
        return [Subject(f"{p.name} echo-{role}", [*p.start, f"echo-{role}", last], p.env)
                for p in peers if p.library.echoes]
    if args.server_command or args.client_command:
        return [Subject(f"echo-{role}", shlex.split(given))] if given else []
    found = checkout.examples()
    wanted = args.language or [lang for lang, names in found.items() if f"echo-{role}" in names]
    return [Subject(f"{lang} echo-{role}", checkout.example(lang, f"echo-{role}", last),
                    example=(lang, f"echo-{role}")) for lang in wanted]


# --- the table ---------------------------------------------------------------------------


@dataclass
class Run:
    """Cases that need the same flags of the echo peer and of the judge."""
    cases: list
    flags: list = field(default_factory=list)  # of the subject
    peer_flags: list = field(default_factory=list)
    about: str = ""
    agreed: object = None  # what both have to agree on; None for no compression

    def file(self):
        file = WORK / "cases.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(self.cases))
        return file


def cases_of(args, role, peer, kinds):
    cases = json.loads((HERE / "cases.json").read_text("utf-8"))
    cases = [c for c in cases if c.get("role", role) == role and args.case in c["name"]
             and c.get("deflate") in kinds and peer.can(c)]
    return sorted(cases, key=lambda c: "last" in c)


def plain_runs(args, role, peer):
    by = {}
    for case in cases_of(args, role, peer, (None, "too")):
        by.setdefault(case.get("max_message"), []).append(case)
    return [Run(group, ["--max-message", str(limit)] if limit else [],
                about=f" --max-message {limit}" if limit else "") for limit, group in by.items()]


def compressed_run(args, role, subject, peer, ours, theirs):
    # Node.js has the options of `ws`, and they mean the same.
    library = "ws" if subject.example[0] == "node" else "wsabi"
    pair = [(library, ours.bits, ours.takeover), (peer.name, theirs.bits, theirs.takeover)]
    run = Run(cases_of(args, role, peer, ("too", "only")), ours.flags(), theirs.flags(),
              f" ({ours}; {peer.name} {theirs})")
    try:
        run.agreed = agreement.agreement(*(pair if role == "client" else reversed(pair)))
    except agreement.Refused:
        # A client learns that at its first connection, and has nothing to go on with.
        run.cases = [] if role == "client" else [
            {"name": "an offer that cannot be accepted gets 400", "expect_status": 400}]
    return run


def compresses(subject, peer):
    return bool(subject.example and subject.example[0] in COMPRESSED and peer.library.deflate)


def runs(args, role, subject, peer, turn):
    """Everything with `--all`; otherwise of the combinations one, the next for each `turn`."""
    few = peer.library.few and not args.all and subject.example and subject.example[0] != FIRST
    found = [] if args.deflate == "only" or few else plain_runs(args, role, peer)
    if args.deflate == "no" or not compresses(subject, peer):
        return found
    # Both roles of an example get different ones, and all of them get their turn in each role.
    turn += role == "client" and 4
    chosen = COMBINATIONS if args.all else [COMBINATIONS[turn % len(COMBINATIONS)]]
    return found + [compressed_run(args, role, subject, peer, *pair) for pair in chosen]


def next_line(program, beside):
    """A line of `program`'s, which soon has nothing to say once `beside` has ended."""
    end = time.monotonic() + STALL
    while time.monotonic() < end:
        alive = beside.process.poll() is None
        with contextlib.suppress(TimeoutError):
            return program.line(2 if alive else 20)
        if not alive:
            raise TimeoutError(f"{beside.argv[0]} has ended")
    raise TimeoutError(f"no line from it for {STALL} s")


def results(program, beside, agreed, on_other=lambda message: False):
    """(case, why) as they come, until the program ends or `on_other` says so; into `agreed`, what
    the responses said of extensions."""
    while True:
        try:
            line = next_line(program, beside)
        except TimeoutError as e:
            print(f"note: {program.argv[0]} was ended: {e}")
            return
        if line is None:
            return
        message = json.loads(line)
        if "case" in message:
            yield message["case"], message["why"]
        elif "agreed" in message:
            agreed.add(message["agreed"])
        elif "note" in message:
            print(f"note: {message['note']}")
        elif on_other(message):
            return


def settle(report, where, run, got, agreed, culprit):
    """One line for each case that was asked for, whatever became of it."""
    if agreed or run.agreed:
        report.case(where, f"agreed on {run.agreed or 'no compression'}",
                    disagreement(run.agreed, agreed))
    for case in run.cases:
        why = got.get(case["name"], ["no result"])
        if len(why) > 1:
            why = [f"run {len(why)} times"]
        report.case(where, case["name"], why[0], culprit.tail() if why[0] else "")


def disagreement(wanted, headers):
    """Why the responses' headers are not what was to be agreed on, or None."""
    try:
        wrong = [h for h in headers if agreement.read(h) != wanted]
    except ValueError as e:
        return str(e)
    if not headers:
        return "no connection opened"
    return f"the response said {wrong[0] or 'nothing'!r}" if wrong else None


# --- the two directions -------------------------------------------------------------------


def test_server(report, peer, subject, run):
    where = f"{peer.name} -> {subject.name}{run.about}"
    got, agreed = {}, set()
    with subject.run(WORK / "server.log", run.flags) as server:
        try:
            url = server.url()
        except (RuntimeError, TimeoutError) as e:
            for case in run.cases:
                report.case(where, case["name"], f"the server did not start: {e}")
            return

        def on_other(message):
            if message.get("stop"):
                server.terminate()
            return False

        with peer.run(WORK / "driver.log", "drive", run.file(), url, *run.peer_flags) as driver:
            for name, why in results(driver, server, agreed, on_other):
                got.setdefault(name, []).append(why)
            settle(report, where, run, got, agreed, server)
        server.terminate()
        report.case(where, "the server ends with 0 when asked to", ended(server, 15))


def test_client(report, peer, subject, run):
    where = f"{subject.name} -> {peer.name}{run.about}"
    got, agreed = {}, set()
    with peer.run(WORK / "judge.log", "judge", run.file(), *run.peer_flags) as judge:
        url = json.loads(judge.line(60) or "{}").get("url")
        if url is None:
            raise RuntimeError(f"{peer.name} did not listen{judge.tail()}")
        with subject.run(WORK / "client.log", run.flags, url) as client:
            for name, why in results(judge, client, agreed, lambda message: message.get("done")):
                got.setdefault(name, []).append(why)
            settle(report, where, run, got, agreed, client)
            report.case(where, "the client ends with 0 after /updateReports", ended(client, 30))


def ended(program, seconds):
    try:
        status = program.wait(seconds)
    except TimeoutError as e:
        return str(e)
    return None if status == 0 else f"status {status}{program.tail()}"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer", nargs="+", default=[*PEERS], choices=[*PEERS])
    parser.add_argument("--role", nargs="+", default=["server", "client"],
                        choices=["server", "client"], help="of the echo peer under test")
    parser.add_argument("--language", nargs="+", help="of the examples (default: all there are)")
    parser.add_argument("--deflate", choices=["also", "only", "no"], default="also",
                        help="with compression, only with it, or without (default: also)")
    parser.add_argument("--all", action="store_true",
                        help="each example with each peer, in all combinations of compression's "
                             "parameters")
    parser.add_argument("--case", default="", metavar="TEXT", help="only cases with TEXT in them")
    parser.add_argument("--self", action="store_true", help="the foreign peers test one another")
    parser.add_argument("--server-command", metavar="COMMAND")
    parser.add_argument("--client-command", metavar="COMMAND")
    return parser.parse_args()


def main():
    args = arguments()
    report = Report()
    peers, missing = [], []
    for name in args.peer:
        try:
            peers.append(Peer(name))
        except Unavailable as e:
            missing.append((name, e))
    for role in args.role:
        test = test_server if role == "server" else test_client
        turn = 0
        for subject in subjects(args, role, peers):
            for name, why in missing:
                report.skip(f"{subject.name} with {name}", 1, why)
            if subject.example and not checkout.build_example(*subject.example):
                report.case(subject.name, "builds", "see above")
                continue
            for peer in peers:
                for run in runs(args, role, subject, peer, turn):
                    if run.cases:
                        begin = time.monotonic()
                        test(report, peer, subject, run)
                        print(f"      {time.monotonic() - begin:.1f} s", flush=True)
                turn += compresses(subject, peer)
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    return 0 if report.passed and not report.failed else 1


if __name__ == "__main__":
    try:
        sys.exit(main())
    finally:
        shutil.rmtree(WORK, ignore_errors=True)
