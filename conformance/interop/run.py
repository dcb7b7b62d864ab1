#!/usr/bin/env python3
"""wsabi's echo examples against foreign WebSocket libraries, in both directions.

    run.py                                   every example and peer there is
    run.py --language c --role server --peer ws --case 16
    run.py --self                            the peers against one another
    run.py --server-command 'PROGRAM 0'      another echo server (prints `listening on URL`)
    run.py --client-command 'PROGRAM {url}'  another echo client

The cases are in cases.json. One line for each case and direction, and a closing line
`N passed, N failed, N skipped`. Exit code 0 when something passed and nothing failed.
"""
import argparse
import json
import shlex
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tools"))
import checkout  # noqa: E402
from checkout import Program, Unavailable  # noqa: E402

STALL = 90  # seconds without a line; more than a case may take
WORK = checkout.TARGET / "interop"


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


class Peer:
    """A foreign library: how its four modes are started."""

    def __init__(self, name):
        self.name = name
        self.env = {}
        if name == "websockets":
            self.start = [checkout.websockets_python(), HERE / "websockets_peer.py"]
        else:
            self.env = {"NODE_PATH": str(checkout.node_modules())}
            self.start = ["node", HERE / "ws_peer.cjs"]

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
                for p in peers]
    if args.server_command or args.client_command:
        return [Subject(f"echo-{role}", shlex.split(given))] if given else []
    found = checkout.examples()
    wanted = args.language or [lang for lang, names in found.items() if f"echo-{role}" in names]
    return [Subject(f"{lang} echo-{role}", checkout.example(lang, f"echo-{role}", last),
                    example=(lang, f"echo-{role}")) for lang in wanted]


# --- the table ---------------------------------------------------------------------------


def groups(args, role):
    """The cases in groups that need the same flags of the echo peer."""
    cases = json.loads((HERE / "cases.json").read_text("utf-8"))
    cases = [c for c in cases if c.get("role", role) == role and args.case in c["name"]]
    by = {}
    for case in sorted(cases, key=lambda c: "last" in c):
        by.setdefault(case.get("max_message"), []).append(case)
    for limit, group in by.items():
        file = WORK / f"{role}-{limit or 'default'}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(group))
        yield file, group, ["--max-message", str(limit)] if limit else []


def results(program, on_other=lambda message: False):
    """(case, why) as they come, until the program ends or `on_other` says so."""
    while True:
        try:
            line = program.line(STALL)
        except TimeoutError as e:
            print(f"note: {program.argv[0]} was ended: {e}")
            return
        if line is None:
            return
        message = json.loads(line)
        if "case" in message:
            yield message["case"], message["why"]
        elif "note" in message:
            print(f"note: {message['note']}")
        elif on_other(message):
            return


def settle(report, where, group, got, culprit):
    """One line for each case that was asked for, whatever became of it."""
    for case in group:
        why = got.get(case["name"], ["no result"])
        if len(why) > 1:
            why = [f"run {len(why)} times"]
        report.case(where, case["name"], why[0], culprit.tail() if why[0] else "")


# --- the two directions -------------------------------------------------------------------


def test_server(report, peer, subject, file, group, flags):
    where = f"{peer.name} -> {subject.name}" + (f" {' '.join(flags)}" if flags else "")
    got = {}
    with subject.run(WORK / "server.log", flags) as server:
        try:
            url = server.url()
        except (RuntimeError, TimeoutError) as e:
            for case in group:
                report.case(where, case["name"], f"the server did not start: {e}")
            return

        def on_other(message):
            if message.get("stop"):
                server.terminate()
            return False

        with peer.run(WORK / "driver.log", "drive", file, url) as driver:
            for name, why in results(driver, on_other):
                got.setdefault(name, []).append(why)
            settle(report, where, group, got, server)
        server.terminate()
        report.case(where, "the server ends with 0 when asked to", ended(server, 15))


def test_client(report, peer, subject, file, group, flags):
    where = f"{subject.name} -> {peer.name}" + (f" {' '.join(flags)}" if flags else "")
    got = {}
    with peer.run(WORK / "judge.log", "judge", file) as judge:
        url = json.loads(judge.line(60) or "{}").get("url")
        if url is None:
            raise RuntimeError(f"{peer.name} did not listen{judge.tail()}")
        with subject.run(WORK / "client.log", flags, url) as client:
            for name, why in results(judge, lambda message: message.get("done")):
                got.setdefault(name, []).append(why)
            settle(report, where, group, got, client)
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
    parser.add_argument("--peer", nargs="+", default=["websockets", "ws"],
                        choices=["websockets", "ws"])
    parser.add_argument("--role", nargs="+", default=["server", "client"],
                        choices=["server", "client"], help="of the echo peer under test")
    parser.add_argument("--language", nargs="+", help="of the examples (default: all there are)")
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
        table = list(groups(args, role))
        for subject in subjects(args, role, peers):
            for name, why in missing:
                report.skip(f"{subject.name} with {name}", sum(len(g) for _, g, _ in table), why)
            if subject.example and not checkout.build_example(*subject.example):
                report.case(subject.name, "builds", "see above")
                continue
            test = test_server if role == "server" else test_client
            for peer in peers:
                for file, group, flags in table:
                    test(report, peer, subject, file, group, flags)
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    return 0 if report.passed and not report.failed else 1


if __name__ == "__main__":
    sys.exit(main())
