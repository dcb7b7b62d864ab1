#!/usr/bin/env python3
"""Run the Autobahn WebSocket testsuite against a server or a client and judge it.

    run.py server --start './echo-server {port}'
    run.py server --url ws://127.0.0.1:9001
    run.py client --command './echo-client {url}'

Exit codes: 0 passed, 1 a case failed (--strict: or is not OK/INFORMATIONAL, or the
peer program itself ended badly), 2 the suite did not run, or not every selected case
has a result. See README.md.
"""
from __future__ import annotations

import argparse
import ast
import collections
import html
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
from pathlib import Path

PASSED, FAILED, NOT_RUN = 0, 1, 2

COLUMNS = ["OK", "NON-STRICT", "INFORMATIONAL", "UNIMPLEMENTED", "FAILED"]
GROUPS = {
    1: "framing",
    2: "ping and pong",
    3: "reserved bits",
    4: "opcodes",
    5: "fragmentation",
    6: "UTF-8",
    7: "closing",
    9: "limits and performance",
    10: "auto-fragmentation",
    12: "deflate: payloads",
    13: "deflate: parameters",
}
# What the closing part of a case may say. UNCLEAN, WRONG CODE, FAILED BY CLIENT and
# FAILED all mean that the connection was not closed as the case requires.
GOOD_CLOSE = {"OK", "INFORMATIONAL"}


class NotRun(Exception):
    """The suite could not give a verdict."""


# --- child processes -------------------------------------------------------------


class Child:
    """A program in a session of its own, its output in a file; ended by its id."""

    def __init__(self, name, argv, log, cwd=None):
        self.name = name
        self.log = Path(log)
        env = dict(os.environ, PYTHONUNBUFFERED="1")
        with open(self.log, "wb") as out:
            try:
                self.process = subprocess.Popen(
                    argv, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                    cwd=cwd, env=env, start_new_session=True)
            except OSError as e:
                raise NotRun(f"cannot start the {name}: {e}") from e

    def poll(self):
        return self.process.poll()

    def _signal(self, number):
        try:
            os.killpg(self.process.pid, number)  # the group we made, and only that
        except (ProcessLookupError, PermissionError):
            pass

    def stop(self, grace=5):
        """End it and whatever it started; returns the exit status it had by itself."""
        status = self.process.poll()
        if status is None:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(grace)
            except subprocess.TimeoutExpired:
                pass
        self._signal(signal.SIGKILL)
        self.process.wait()
        return status

    def tail(self, lines=15):
        text = self.log.read_text("utf-8", "replace").splitlines()[-lines:]
        return "".join(f"    | {line}\n" for line in text)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def listening(host, port):
    try:
        with socket.create_connection((host, port), timeout=2):
            return True
    except OSError:
        return False


def wait_listening(host, port, seconds, child=None):
    end = time.monotonic() + seconds
    while not listening(host, port):
        if child is not None and child.poll() is not None:
            raise NotRun(f"the {child.name} ended (status {child.poll()}) before it "
                         f"listened on port {port}\n{child.tail()}")
        if time.monotonic() > end:
            raise NotRun(f"nothing listens on {host}:{port} after {seconds:g} s"
                         + (f"\n{child.tail()}" if child else ""))
        time.sleep(0.05)


# --- the suite -------------------------------------------------------------------


class Suite:
    """wstest with a specification, and what its log says so far."""

    def __init__(self, args, mode, spec, out):
        launcher = Path(args.venv) / "bin" / "wstest"
        python = Path(args.venv) / "bin" / "python"
        if not launcher.is_file() or not python.exists():
            raise NotRun(f"no testsuite in {args.venv}: run install.sh, or give --venv")
        spec_file = out / f"{mode}.json"
        spec_file.write_text(json.dumps(spec, indent=2))
        self.child = Child("testsuite", [str(python), str(launcher), "-m", mode, "-s",
                                         str(spec_file)], out / "wstest.log")
        self.selected = None
        self.started = 0
        self.last = None
        self.moved = time.monotonic()
        self.harness_errors = 0
        self._offset = 0
        self._rest = b""

    def read(self):
        """Take in what the log has gained."""
        with open(self.child.log, "rb") as f:
            f.seek(self._offset)
            data = f.read()
        self._offset += len(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            line = line.decode("utf-8", "replace")
            if line.startswith("Cases = [") and self.selected is None:
                self.selected = ast.literal_eval(line[len("Cases = "):])
            elif line.startswith("Running test case ID "):
                self.started += 1
                self.last = line.split()[4]
                self.moved = time.monotonic()
            elif line.startswith("HARNESS ERROR"):
                self.harness_errors += 1

    def wait_selected(self):
        end = time.monotonic() + 60
        while self.selected is None:
            status = self.child.poll()
            self.read()
            if self.selected is None and (status is not None or time.monotonic() > end):
                raise NotRun(f"the testsuite did not start (status {status})\n"
                             + self.child.tail())
            time.sleep(0.05)
        if not self.selected:
            raise NotRun("no case matches --cases and --exclude")

    def wait_for(self, child, args):
        """Until child ends or a time limit is reached; says which, '' when it ended."""
        end = time.monotonic() + args.timeout
        shown = None
        while child.poll() is None:
            self.read()
            now = time.monotonic()
            if now > end:
                return f"stopped: not finished after {args.timeout:g} s (--timeout)"
            if now - self.moved > args.stall:
                return (f"stopped: no new case for {args.stall:g} s (--stall), "
                        f"the last one started is {self.last}")
            if self.child.poll() is not None:
                return ""  # finish() says so
            if sys.stderr.isatty() and self.last != shown:
                shown = self.last
                print(f"\r{self.started}/{len(self.selected)} {shown}      ", end="",
                      file=sys.stderr)
            time.sleep(0.1)
        self.read()
        return ""

    def finish(self, notes, served):
        """End it: it writes the reports of what was run. served: it runs until ended."""
        status = self.child.stop(grace=120)
        self.read()
        if status or (status == 0 and served):
            notes.append(f"the testsuite ended early (status {status})\n"
                         + self.child.tail().rstrip("\n"))


# --- the two modes -----------------------------------------------------------------


def patterns(values):
    return [p for value in values for p in re.split(r"[,\s]+", value) if p]


def command(template, **values):
    for key, value in values.items():
        template = template.replace("{" + key + "}", str(value))
    return shlex.split(template)


def test_server(args, out):
    host, port = "127.0.0.1", None
    url = args.url
    if url is None:
        if not args.start:
            raise NotRun("give --url, --start, or both")
        if "{port}" not in args.start:
            raise NotRun("--start needs {port} in it, or --url to say where it listens")
        url = "ws://127.0.0.1:{port}"
    if "{port}" in url:
        port = free_port()
        url = url.replace("{port}", str(port))
    parts = urllib.parse.urlsplit(url)
    if parts.scheme != "ws":
        raise NotRun(f"{url}: only ws:// is supported")
    host, port = parts.hostname or host, parts.port or 80
    server = suite = None
    notes = []
    try:
        if args.start:
            if listening(host, port):
                raise NotRun(f"something else listens on port {port} already")
            server = Child("server", command(args.start, port=port, url=url),
                           out / "peer.log")
        wait_listening(host, port, args.wait, server)
        suite = Suite(args, "fuzzingclient", {
            "outdir": str(out),
            "servers": [{"agent": args.agent, "url": url}],
            "cases": patterns(args.cases),
            "exclude-cases": patterns(args.exclude),
            "exclude-agent-cases": {},
        }, out)
        suite.wait_selected()
        why = suite.wait_for(suite.child, args)
        if why:
            notes.append(why)
        suite.finish(notes, served=bool(why))
        crashed = None
        if server is not None and server.poll() is not None:
            crashed = f"the server ended by itself (status {server.poll()})"
            notes.append(crashed + "\n" + server.tail().rstrip("\n"))
        return suite, notes, crashed is not None
    finally:
        for child in (suite and suite.child, server):
            if child:
                child.stop()


def test_client(args, out):
    if "{url}" not in args.command and "{port}" not in args.command:
        raise NotRun("--command needs {url} (or {port}) in it")
    suite = client = None
    notes = []
    try:
        for attempt in range(3):
            port = free_port()
            url = f"ws://127.0.0.1:{port}"
            suite = Suite(args, "fuzzingserver", {
                "url": url,
                "outdir": str(out),
                "cases": patterns(args.cases),
                "exclude-cases": patterns(args.exclude),
                "exclude-agent-cases": {},
            }, out)
            try:
                suite.wait_selected()
                wait_listening("127.0.0.1", port, 30, suite.child)
                break
            except NotRun:
                suite.child.stop()  # the port may have been taken meanwhile
                if attempt == 2 or suite.selected == []:
                    raise
        client = Child("client", command(args.command, url=url, port=port,
                                         agent=args.agent), out / "peer.log")
        suite.moved = time.monotonic()
        why = suite.wait_for(client, args)
        if why:
            notes.append(why)
        status = client.stop()
        if status:
            notes.append(f"the client ended with status {status}\n"
                         + client.tail().rstrip("\n"))
        suite.finish(notes, served=True)
        return suite, notes, bool(status)
    finally:
        for child in (client, suite and suite.child):
            if child:
                child.stop()


# --- the verdict -----------------------------------------------------------------


def order(case):
    return tuple(int(n) for n in case.split("."))


def verdict(result):
    """One of COLUMNS for a case, its closing included."""
    behavior = result.get("behavior")
    if behavior not in COLUMNS or result.get("behaviorClose") not in GOOD_CLOSE:
        return "FAILED"
    return behavior


def short(text, limit=100):
    text = html.unescape(re.sub(r"<[^>]*>", " ", str(text)))
    text = " ".join(text.split())
    return text if len(text) <= limit else text[: limit - 4] + " ..."


def events(items):
    shown = []
    for item in items:
        kind, *rest = item
        shown.append(f"{kind}({', '.join(short(repr(r), 60) for r in rest)})")
    return ", ".join(shown) or "(no events)"


def describe(out, case, result, full):
    """What a case wanted and what it got, from its detail file."""
    print(f"  {case}  {result.get('behavior')}, closing {result.get('behaviorClose')}, "
          f"close code received {result.get('remoteCloseCode')}")
    try:
        detail = json.loads((out / result["reportfile"]).read_text("utf-8"))
    except (OSError, ValueError, KeyError) as e:
        print(f"      no details: {e}")
        return
    print(f"      case:     {short(detail.get('description'), 160)}")
    if full:
        print(f"      wants:    {short(detail.get('expectation'), 160)}")
    for name, expected in detail.get("expected", {}).items():
        print(f"      expected: {short(events(expected), 160)} [{name}]")
    print(f"      received: {short(events(detail.get('received', [])), 160)}")
    if full:
        print(f"      result:   {short(detail.get('result'), 160)}")
        print(f"      closing:  {short(detail.get('resultClose'), 160)}")


def print_table(title, results, missing):
    groups = collections.defaultdict(collections.Counter)
    spent = collections.Counter()
    for case, result in results.items():
        group = order(case)[0]
        groups[group][verdict(result)] += 1
        milliseconds = result.get("duration") or 0
        if milliseconds < 10**9:  # counted from 1970 when the handshake failed
            spent[group] += milliseconds
    for case in missing:
        groups[order(case)[0]]["MISSING"] += 1
    columns = COLUMNS + (["MISSING"] if missing else [])
    print(f"{title}\n{'group':30}{'cases':>6}"
          + "".join(f"{c.lower():>15}" for c in columns) + f"{'seconds':>10}")
    total = collections.Counter()
    for group in sorted(groups):
        counts = groups[group]
        total += counts
        name = f"{group}.* {GROUPS.get(group, '')}"
        print(f"{name:30}{sum(counts.values()):6}"
              + "".join(f"{counts[c] or '-':>15}" for c in columns)
              + f"{spent[group] / 1000:10.1f}")
    print(f"{'total':30}{sum(total.values()):6}"
          + "".join(f"{total[c] or '-':>15}" for c in columns)
          + f"{sum(spent.values()) / 1000:10.1f}")
    return total


def judge(args, out, suite, notes, crashed, wall):
    try:
        index = json.loads((out / "index.json").read_text("utf-8"))
    except (OSError, ValueError) as e:
        index = {}
        notes.append(f"no usable result index: {e}")
    index = {agent: cases for agent, cases in index.items() if cases}
    selected = suite.selected or []
    failed = loose = incomplete = False
    summary = {"cases": len(selected), "wall_seconds": round(wall, 1), "agents": {}}
    for agent, results in sorted(index.items()):
        missing = sorted(set(selected) - set(results), key=order)
        total = print_table(f"\nAgent {agent}", results, missing)
        by = collections.defaultdict(list)
        for case in sorted(results, key=order):
            by[verdict(results[case])].append(case)
        for name in ("FAILED", "NON-STRICT"):
            if by[name]:
                print(f"\n{name}: {len(by[name])}")
                for case in by[name][:args.show]:
                    describe(out, case, results[case], name == "FAILED")
                if len(by[name]) > args.show:
                    print("  also: " + " ".join(by[name][args.show:]))
        for name in ("INFORMATIONAL", "UNIMPLEMENTED"):
            if by[name]:
                print(f"\n{name}: {len(by[name])}: " + " ".join(by[name]))
        if missing:
            print(f"\nWITHOUT A RESULT: {len(missing)}: " + " ".join(missing))
        failed |= bool(by["FAILED"])
        loose |= bool(by["NON-STRICT"] or by["UNIMPLEMENTED"])
        incomplete |= bool(missing)
        summary["agents"][agent] = {
            "counts": {c: total[c] for c in COLUMNS + ["MISSING"]},
            **{c: by[c] for c in COLUMNS[1:]}, "MISSING": missing}
    ran = sum(len(results) for results in index.values())
    if suite.harness_errors:
        notes.append(f"{suite.harness_errors} error(s) inside the testsuite, "
                     f"see {suite.child.log}")
    print(f"\n{ran} of {len(selected)} cases run in {wall:.0f} s, reports in {out}")
    for note in notes:
        print(f"note: {note}")
    if not ran:
        code, text = NOT_RUN, "NOT RUN: no case was run"
    elif incomplete:
        code, text = NOT_RUN, "INCOMPLETE: not every selected case has a result"
        if failed:
            text += ", and some of those run failed"
    elif failed:
        code, text = FAILED, "FAILED"
    elif crashed:
        code, text = FAILED, "FAILED: the peer program ended badly"
    elif args.strict and loose:
        code, text = FAILED, "FAILED (strict)"
    else:
        code, text = PASSED, "PASSED (strict)" if args.strict else "PASSED"
    summary.update(exit_code=code, verdict=text, notes=notes)
    (out / "summary.json").write_text(json.dumps(summary, indent=2))
    print(text)
    print_counts(index, len(selected), args.strict)
    return code


def print_counts(index, selected, strict):
    """The line that tools/test.py adds up. An agent without a result counts as none."""
    good = {"OK", "INFORMATIONAL"} | (set() if strict else {"NON-STRICT", "UNIMPLEMENTED"})
    verdicts = [verdict(result) for cases in index.values() for result in cases.values()]
    passed = sum(v in good for v in verdicts)
    print(f"{passed} passed, {max(selected * len(index), selected) - passed} failed, 0 skipped")


def default_venv():
    checkout = Path(__file__).resolve().parents[2]
    return os.environ.get("AUTOBAHN_VENV") or str(checkout / "target" / "venv-autobahn")


def parse(argv):
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--cases", nargs="+", default=["*"], metavar="PATTERN",
                        help="cases to run, like 6.* or 12.1.3 (default: all)")
    common.add_argument("--exclude", nargs="+", default=[], metavar="PATTERN",
                        help="cases to leave out")
    common.add_argument("--agent", default="wsabi", help="name of the peer in the reports")
    common.add_argument("--out", help="folder for reports and logs (default: a new one)")
    common.add_argument("--strict", action="store_true",
                        help="NON-STRICT and UNIMPLEMENTED fail too")
    common.add_argument("--venv", default=default_venv(), help="where install.sh put it")
    common.add_argument("--timeout", type=float, default=1800, metavar="S",
                        help="for the whole run (default: %(default)g)")
    common.add_argument("--stall", type=float, default=180, metavar="S",
                        help="without a new case (default: %(default)g)")
    common.add_argument("--show", type=int, default=40, metavar="N",
                        help="describe at most N cases per verdict (default: %(default)s)")
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    server = modes.add_parser("server", parents=[common], help="test an echo server")
    server.add_argument("--url", help="where it listens; may hold {port}")
    server.add_argument("--start", metavar="COMMAND",
                        help="starts the echo server; {port} and {url} are filled in")
    server.add_argument("--wait", type=float, default=30, metavar="S",
                        help="for it to listen (default: %(default)g)")
    client = modes.add_parser("client", parents=[common], help="test an echo client")
    client.add_argument("--command", required=True,
                        help="runs all cases; {url} (or {port}) and {agent} are filled in")
    return parser.parse_args(argv)


def main(argv=None):
    args = parse(argv)  # argparse exits with 2 as well

    def on_signal(number, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, on_signal)
    try:
        out = Path(args.out or tempfile.mkdtemp(prefix="autobahn-")).resolve()
        out.mkdir(parents=True, exist_ok=True)
        for old in [*out.glob("*_case_*.json"), *out.glob("*_case_*.html"),
                    out / "index.json", out / "index.html", out / "summary.json"]:
            old.unlink(missing_ok=True)  # an old result must not look like a new one
        begin = time.monotonic()
        test = test_server if args.mode == "server" else test_client
        suite, notes, crashed = test(args, out)
        return judge(args, out, suite, notes, crashed, time.monotonic() - begin)
    except NotRun as e:
        print(f"NOT RUN: {e}")
        return NOT_RUN
    except KeyboardInterrupt:
        print("NOT RUN: interrupted")
        return NOT_RUN


if __name__ == "__main__":
    sys.exit(main())
