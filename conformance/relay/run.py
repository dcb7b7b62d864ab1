#!/usr/bin/env python3
"""Nothing lost: connections that are cut at any byte, between drivers in C, Python and Node.js.

    run.py                             300 kills (part of `make test`)
    run.py --kills 20000               more (part of `make proof`)
    run.py --seed 7 --languages c      what a seed has found, with fewer languages
    run.py --seed 7 --plans 3          prints the first plans of a seed
    run.py --verbose                   orders and events, as they go

One line for each fault, with the connection's number, tables of the kills, and a closing line
`N passed, N failed, N skipped`, in which a kill, a clean end and a session are one each. Exit code
0 when something passed and nothing failed.
"""
import argparse
import os
import random
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "matrix"))
import drivers  # noqa: E402
from drivers import Broken, Unavailable, checkout  # noqa: E402

from judge import Judge, Report, told_of  # noqa: E402
from plan import Plans, fingerprint  # noqa: E402
from relay import Connection, PEER, READ, Relay, SIDES, WRITE  # noqa: E402

LANGUAGES = ("c", "python", "node")
WORK = checkout.TARGET / "relay"
SECONDS = 120  # for one connection; the machine may be busy with something else
MOST_MISSED = 0.05
GIVE_UP = 20  # faults
PROGRESS = 2000  # kills, after which a long run tells how far it is


class Wrong(Exception):
    """It cannot go on; the text says why."""


def build(language):
    if language == "c":
        return drivers.native("c", HERE / "driver.c", drivers.words_of("CC", "cc"),
                              ["-std=gnu99", *drivers.words_of("CFLAGS")], name="relay")
    if language == "python":
        return [drivers.python()[0], HERE / "driver.py"]
    program, _, module = drivers.node()
    return [program, HERE / "driver.cjs", module]


class Peer:
    """A driver in its own process, whose lines come by the relay's loop; ended by its own id."""

    def __init__(self, run, language, side, argv):
        self.run, self.language, self.side = run, language, side
        self.log = WORK / f"{language}-{side}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen([str(a) for a in argv], bufsize=0, stderr=log,
                                            stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.input, self.output = b"", b""
        self.ports = {}
        self.has_stopped = False
        for pipe in (self.process.stdin, self.process.stdout):
            os.set_blocking(pipe.fileno(), False)
        run.relay.watch(self.process.stdout, 0, READ, (self, "output"))
        self.is_writing = False

    def order(self, line):
        if self.run.verbose:
            print(f"{self.language} {self.side} > {line}")
        self.output += f"{line}\n".encode()
        self.flush()

    def flush(self):
        try:
            self.output = self.output[self.process.stdin.write(self.output) or 0:]
        except BlockingIOError:
            pass
        except BrokenPipeError:
            raise Wrong(f"{self} has ended{self.tail()}") from None
        wanted = bool(self.output)
        self.run.relay.watch(self.process.stdin, WRITE * self.is_writing, WRITE * wanted,
                             (self, "input"))
        self.is_writing = wanted

    def on_ready(self, which, _):
        if which == "input":
            return self.flush()
        more = self.process.stdout.read(1 << 16)
        if more is None:
            return
        if not more:
            raise Wrong(f"{self} has ended{self.tail()}")
        *lines, self.input = (self.input + more).split(b"\n")
        for line in lines:
            if self.run.verbose:
                print(f"{self.language} {self.side} < {line.decode()}")
            self.run.on_event(self, line.decode("utf-8", "replace"))

    def finish(self):
        """Ends its input, and tells what is wrong with how it ends."""
        self.run.relay.watch(self.process.stdout, READ, 0, None)
        self.process.stdin.close()
        try:
            status = self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            return "is still running after its input has ended"
        return None if status == 0 else f"ended with status {status}{self.tail()}"

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()

    def tail(self):
        text = self.log.read_text("utf-8", "replace").splitlines()[-10:]
        return "".join(f"\n    | {line}" for line in text)

    def __str__(self):
        return f"{self.language}'s {self.side}"


class Attempt:
    """One connection of a task: what the relay and both sides have of it."""

    def __init__(self, name, kill, relayed):
        self.name, self.kill, self.relayed = name, kill, relayed
        self.opened = set()
        self.reports = {side: [] for side in SIDES}

    def is_over(self):
        """Whether both sides have told its end, and the relay has read it. A server that was cut off before it had the whole
        request has nothing to tell; one that has it yet to read will, before it stops."""
        if not self.reports["client"] or not (self.relayed.done or self.relayed.silent):
            return False
        if self.reports["server"]:
            return True
        cut_early = self.kill is not None and self.kill.phase == "handshake"
        return "server" not in self.opened and (cut_early or not self.reports["client"][0].is_open)

    def is_settled(self):
        """Whether the server has told its end, or cannot have been asked for a connection."""
        flow = self.relayed.flows["client"]
        head_end = flow.stream.head_end
        return bool(self.reports["server"]) or head_end is None or flow.sent < head_end


class Task:
    """A plan that is being carried out."""

    def __init__(self, run, plan):
        self.run, self.plan = run, plan
        self.peers = {"client": run.peers[plan.client, "client"],
                      "server": run.peers[plan.server, "server"]}
        self.attempts = {}
        self.results = {}
        self.began = time.monotonic()
        self.listener = run.relay.listen(plan.narrow, self)
        self.order("server", "expect", 0)

    def order(self, side, order, port):
        plan = self.plan
        mode = f"{'session' if plan.is_session else 'single'} {'hasty' if plan.hasty else 'patient'}"
        words = plan.sides[side].words(plan.sides[PEER[side]])
        self.peers[side].order(f"{order} {plan.number} {port} {mode} {words}")

    def on_expected(self):
        """The server knows what to do when the client comes."""
        self.order("client", "connect", self.listener.getsockname()[1])

    def on_ready(self, *_):
        self.accept()

    def accept(self):
        """Takes the connections that wait."""
        if self.listener.fileno() < 0:
            return
        try:
            while True:
                self.add(self.listener.accept()[0])
        except OSError:
            pass  # there is none, or it is gone already

    def add(self, client):
        number = len(self.attempts)
        name = f"{self.plan.number}.{number}" if self.plan.is_session else str(self.plan.number)
        kill = self.plan.kills[number] if number < len(self.plan.kills) else None
        ports = self.peers["server"].ports
        relayed = Connection(self.run.relay, client, ports["hasty" if self.plan.hasty else "patient"],
                             kill, self.plan.narrow, self.plan.stalled and kill is not None)
        self.attempts[name] = Attempt(name, kill, relayed)

    def is_over(self):
        if not self.attempts or not all(attempt.is_over() for attempt in self.attempts.values()):
            return False
        if not self.plan.is_session:
            return True
        if "client" in self.results and "server" not in self.results:
            self.results["server"] = None  # is asked for
            self.peers["server"].order(f"report {self.plan.number}")
        return all(self.results.get(side) for side in SIDES)

    def kills(self):
        return sum(attempt.relayed.killed for attempt in self.attempts.values())

    def end(self):
        self.run.relay.forget(self.listener)
        for attempt in self.attempts.values():
            attempt.relayed.settle()


class Run:
    def __init__(self, args):
        self.verbose = args.verbose
        self.wanted = args.kills
        self.at_once = args.at_once
        self.relay = Relay()
        self.judge = Judge()
        self.plans = Plans(args.seed, args.languages)
        self.peers = {}
        self.tasks = {}  # under way, and those of which a server may still tell
        self.loose = {}
        self.loose_kills = 0
        self.faults_told = 0
        self.began, self.next_line = time.monotonic(), PROGRESS
        self.passed = 0

    # --- events ---

    def on_event(self, peer, line):
        event, _, rest = line.partition(" ")
        words = rest.split(" ")
        if event == "listening":
            peer.ports[words[0]] = int(words[1])
        elif event == "stopped":
            peer.has_stopped = True
        elif event == "expected":
            self.tasks[int(words[0])].on_expected()
        elif event in ("open", "close"):
            self.on_attempt(peer, event, words)
        elif event == "session":
            fields = dict(word.split("=", 1) for word in words[1:])
            self.tasks[int(words[0])].results[peer.side] = (
                int(fields["attempts"]), int(fields["duplicates"]), told_of(fields["told"]))
        else:
            self.judge.faults.append(f"{peer}: {line}")

    def on_attempt(self, peer, event, words):
        number = int(words[0].partition(".")[0])
        task = self.tasks.get(number) or self.loose.get(number)
        if task is not None and words[0] not in task.attempts:
            # A client may have ended before the relay has accepted its connection.
            task.accept()
        attempt = task and task.attempts.get(words[0])
        if attempt is None or task.peers[peer.side] is not peer:
            self.judge.faults.append(f"{peer}: {event} of {words[0]}, which nobody knows")
        elif event == "open":
            attempt.opened.add(peer.side)
        else:
            attempt.reports[peer.side].append(Report(words[1:]))
            attempt.relayed.ended(peer.side)

    # --- the whole ---

    def go(self, argv):
        for side in SIDES:
            for language, command in argv.items():
                self.peers[language, side] = Peer(self, language, side, command)
        servers = [peer for peer in self.peers.values() if peer.side == "server"]
        for peer in servers:
            peer.order("listen")
        self.until(lambda: all(len(peer.ports) == 2 for peer in servers), "the servers listen")
        while self.is_wanting() or self.tasks:
            while self.is_wanting() and len(self.tasks) < self.at_once:
                plan = self.plans.next()
                self.tasks[plan.number] = Task(self, plan)
            self.relay.turn(0.05)
            self.sweep()
        for peer in self.peers.values():
            peer.order("stop")
        self.until(lambda: all(peer.has_stopped for peer in self.peers.values()), "everybody stops")
        for task in list(self.loose.values()):
            self.conclude(task)
        for peer in self.peers.values():
            if (why := peer.finish()) is not None:
                self.judge.faults.append(f"{peer} {why}")

    def is_wanting(self):
        """Whether there are to be more connections: kills that are under way count as done."""
        under_way = sum(len(task.plan.kills) for task in self.tasks.values())
        return self.judge.total() + under_way + self.loose_kills < self.wanted

    def sweep(self):
        now = time.monotonic()
        for number, task in list(self.tasks.items()):
            if task.is_over():
                del self.tasks[number]
                task.end()
                if all(attempt.is_settled() for attempt in task.attempts.values()):
                    self.conclude(task)
                else:
                    self.loose[number] = task
                    self.loose_kills += task.kills()
            elif now - task.began > SECONDS:
                states = "; ".join(f"{a.name}: {sorted(a.opened)} opened, ended: "
                                   f"{[side for side in SIDES if a.reports[side]]}, "
                                   f"{'killed' if a.relayed.killed else 'not killed'} {a.kill}"
                                   for a in task.attempts.values())
                raise Wrong(f"{task.plan.number} ({task.plan.client}-{task.plan.server}) has not "
                            f"ended after {SECONDS} s: {states or 'it was never accepted'}")
        for fault in self.judge.faults[self.faults_told:]:
            print(f"FAIL  {fault}", flush=True)
        self.faults_told = len(self.judge.faults)
        if self.faults_told >= GIVE_UP:
            raise Wrong(f"given up after {self.faults_told} faults")

    def conclude(self, task):
        before = len(self.judge.faults)
        for attempt in task.attempts.values():
            self.judge.connection(task.plan, attempt.name, attempt.kill, attempt.reports,
                                  attempt.relayed)
        if task.plan.is_session:
            self.judge.session(task.plan, task.results)
        self.passed += len(self.judge.faults) == before
        if self.loose.pop(task.plan.number, None) is not None:
            self.loose_kills -= task.kills()
        self.tell_progress()
        for peer in task.peers.values():
            peer.order(f"forget {task.plan.number}")

    def tell_progress(self):
        if self.judge.total() >= self.next_line:
            self.next_line += PROGRESS
            print(f"{self.judge.total()} kills after {time.monotonic() - self.began:.0f} s", flush=True)

    def until(self, condition, what):
        end = time.monotonic() + SECONDS
        while not condition():
            self.relay.turn(0.05)
            if time.monotonic() > end:
                raise Wrong(f"{what}: not within {SECONDS} s")

    def check_counts(self):
        judge = self.judge
        missing = [" ".join(cell) for cell, count in judge.kills.items() if count == 0]
        if self.wanted >= 100:
            if missing:
                judge.faults.append(f"no kill of these kinds: {', '.join(missing)}")
            for name in ("exact", "exact_with_drops", "whole", "clean", "sessions", "duplicates"):
                if not getattr(judge, name):
                    judge.faults.append(f"nothing of the kind: {name}")
        if judge.missed > MOST_MISSED * judge.connections + 2:
            judge.faults.append(f"{judge.missed} connections ended before their kill")
        for word, count in judge.messages.items():
            if not count and self.wanted >= 100:
                judge.faults.append(f"no message was {word}")


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=300, metavar="N")
    parser.add_argument("--seed", type=int, help="of what was found; a new one if not given")
    parser.add_argument("--languages", nargs="+", default=LANGUAGES, choices=LANGUAGES,
                        metavar="LANGUAGE", help=f"of {', '.join(LANGUAGES)}")
    parser.add_argument("--at-once", type=int, default=64, metavar="N", help="connections, 64")
    parser.add_argument("--plans", type=int, metavar="N", help="only print the first plans")
    parser.add_argument("--verbose", action="store_true", help="print orders and events")
    args = parser.parse_args()
    if args.kills < 1 or args.at_once < 1:
        parser.error("--kills and --at-once must be at least 1")
    args.languages = list(dict.fromkeys(args.languages))
    if args.seed is None:
        args.seed = random.SystemRandom().randrange(1 << 32)
    return args


def build_all(args):
    """How the driver of each language is started, and how many could not be built."""
    argv, broken = {}, 0
    for language in list(args.languages):
        try:
            argv[language] = build(language)
        except (Broken, Unavailable) as why:
            broken += isinstance(why, Broken)
            print(f"{'FAIL' if isinstance(why, Broken) else 'SKIP'}  {language}: {why}", flush=True)
    return argv, broken


def main():
    args = arguments()
    if args.plans:
        plans = Plans(args.seed, args.languages)
        for _ in range(args.plans):
            print(plans.next())
        return 0
    WORK.mkdir(parents=True, exist_ok=True)
    drivers.WORK.mkdir(parents=True, exist_ok=True)
    try:
        with checkout.locked("matrix"):
            argv, broken = build_all(args)
        skipped = len(args.languages) - len(argv) - broken
        args.languages = list(argv)
        if not argv:
            print(f"0 passed, {broken} failed, {skipped} skipped")
            return 1
        with checkout.locked("relay"):
            return report(args, argv, broken, skipped)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return 130


def report(args, argv, broken, skipped):
    planned = fingerprint(args.seed, args.languages, args.kills)
    print(f"seed {args.seed}, fingerprint of its plans {planned}", flush=True)
    began = time.monotonic()
    run = Run(args)
    try:
        run.go(argv)
        run.check_counts()
    except Wrong as why:
        run.judge.faults.append(str(why))
    finally:
        for peer in run.peers.values():
            peer.kill()
    for fault in run.judge.faults[run.faults_told:]:
        print(f"FAIL  {fault}")
    print("\n".join(run.judge.summary()))
    seconds = time.monotonic() - began
    print(f"seed {args.seed}, fingerprint {planned}: {run.judge.total()} kills in {seconds:.1f} s")
    failed = len(run.judge.faults) + broken
    print(f"{run.passed} passed, {failed} failed, {skipped} skipped")
    return 0 if run.passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
