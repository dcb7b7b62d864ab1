#!/usr/bin/env python3
"""Hostile peers against the echo servers of the examples, each of which has a bound of memory.

    run.py                          C, Python and Node.js, in the sizes of `make test`
    run.py cpp rust                 some other languages
    run.py --full                   the full sizes (part of `make proof`)
    run.py --only fragments         only attacks with that in their name
    run.py --only request:          only requests, each of which has its answer
    run.py --repeat 3               everything so often, at the same servers

One line for each attack at each language: how much more memory the server had at most than before
any attack (VmHWM, the peak of its resident set) and what it may have; the same of a server whose
allocator gives memory back at once ("steady"), and what stayed there. After each attack an honest
client has to be served. A closing line `N passed, N failed, N skipped`.
"""
import argparse
import sys
import time
from pathlib import Path

import attacks
import handshakes
from attacks import ATTACKS, MIB

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tools"))
import checkout  # noqa: E402
from checkout import TARGET, Program, Unavailable  # noqa: E402

WORK = TARGET / "hostile"
LANGUAGES = ("c", "python", "node")
# What a language takes besides what an attack may cost: the loop's buffer, its pools of buffers for
# messages (8 MiB) and for output (4 MiB); in Node.js also payloads that the collector has not come
# to, of which V8 lets more than 100 MiB come together.
OWN = {"c": 16 * MIB, "cpp": 16 * MIB, "rust": 16 * MIB, "python": 20 * MIB, "node": 160 * MIB}
# glibc gives back what was freed when nothing in use lies above it, and buffers that grow lie
# wherever they began: what stays depends on luck, and is used again. Here every piece of 16 KiB or
# more has a mapping of its own, which goes when it is freed. So what a server holds is measured with
# it, and judged strictly, in a second server beside the one that is started as users do. That one
# may have half as much again in holes.
STEADY = {"MALLOC_MMAP_THRESHOLD_": "16384"}
HOLES = 1.5
# What the steady one may keep of an attack, in smaller pieces, of which Node.js has more. Both use
# again what they keep: no later attack may take more than the greatest before.
KEPT = {"c": 1 / 16, "cpp": 1 / 16, "rust": 1 / 16, "python": 1 / 16, "node": 1 / 4}
SETTLE = 30  # seconds


class Memory:
    """The resident set of a process."""

    def __init__(self, pid):
        self.status = Path(f"/proc/{pid}/status")
        self.marks = Path(f"/proc/{pid}/clear_refs")

    def _read(self, field):
        for line in self.status.read_text().splitlines():
            if line.startswith(field):
                return int(line.split()[1]) << 10
        raise RuntimeError("the server has ended")

    def now(self):
        return self._read("VmRSS:")

    def peak(self):
        return self._read("VmHWM:")

    def forget_peak(self):
        try:
            self.marks.write_text("5")
        except FileNotFoundError:
            raise RuntimeError("the server has ended") from None
        except OSError as why:
            raise Unavailable(f"the peak of a process cannot be reset: {why}") from None


class Target:
    """The echo server of a language."""

    def __init__(self, language, arguments, environment):
        self.language = language
        name = "".join([language, *arguments, "-steady" if environment else ""])
        command = checkout.example(language, "echo-server", 0, *arguments)
        self.program = Program(command, WORK / f"{name}.log", environment)
        self.url = self.program.url()
        self.memory = Memory(self.program.pid)
        # Served once, it has made what it makes for the first connection.
        attacks.honest(self.url)
        self.base = self.memory.now()

    def suffer(self, attack, count):
        """Attacks it; gives how much more memory it had at most than before any attack."""
        self.memory.forget_peak()
        try:
            attack.act(self.url, count)
            attacks.honest(self.url)
        except (AssertionError, OSError, RuntimeError) as why:
            raise AssertionError(f"{why or type(why).__name__}{self.program.tail()}") from None
        return self.memory.peak() - self.base

    def settled(self, most):
        """What stays of it, as soon as that is little enough: a collector takes some connections."""
        deadline = time.monotonic() + SETTLE
        while True:
            kept = self.memory.now() - self.base
            if kept <= most or time.monotonic() > deadline:
                return kept
            attacks.honest(self.url)
            time.sleep(0.1)

    def end(self):
        """Asks it to end, and tells what is wrong with how it does."""
        self.program.terminate()
        status = self.program.wait(30)
        return None if status == 0 else f"it ended with status {status}{self.program.tail()}"


class Report:
    def __init__(self):
        self.passed = self.failed = self.skipped = 0

    def add(self, name, wrong, told=""):
        self.failed += wrong is not None
        self.passed += wrong is None
        words = ": ".join(word for word in (name, wrong, told) if word)
        print(f"{'ok  ' if wrong is None else 'FAIL'}  {words}", flush=True)

    def skip(self, name, why):
        self.skipped += 1
        print(f"SKIP  {name}: {why}", flush=True)


class Pair:
    """A server as users start it, and a steady one."""

    def __init__(self, language, arguments):
        self.own, self.kept = OWN[language], KEPT[language]
        self.greatest = 0  # cost of the attacks so far
        self.targets = []
        try:
            self.usual = self.start(language, arguments, {})
            self.steady = self.start(language, arguments, STEADY)
        except BaseException:
            self.kill()
            raise

    def start(self, language, arguments, environment):
        self.targets.append(Target(language, arguments, environment))
        return self.targets[-1]

    def suffer(self, attack, count):
        """What is wrong, and what there is to tell."""
        begin = time.monotonic()
        cost = attack.bound(count)
        self.greatest = max(self.greatest, cost)
        usual_most, usual = self.own + int(self.greatest * HOLES), self.usual.suffer(attack, count)
        # The steady one has what it kept of former attacks.
        most = self.own + max(cost, int(self.greatest * self.kept))
        peak = self.steady.suffer(attack, count)
        most_kept = self.own + int(self.greatest * self.kept)
        kept = self.steady.settled(most_kept)
        wrong = [word for word, is_wrong in [("too much memory", usual > usual_most),
                                             ("too much memory in the steady one", peak > most),
                                             ("memory does not come back", kept > most_kept)]
                 if is_wrong]
        return "; ".join(wrong) or None, (
            f"peak {mib(usual)} of {mib(usual_most)}; steady {mib(peak)} of {mib(most)}, "
            f"{mib(kept)} of {mib(most_kept)} stay; {time.monotonic() - begin:.1f} s")

    def has_ended(self):
        return any(target.program.process.poll() is not None for target in self.targets)

    def kill(self):
        for target in self.targets:
            target.program.kill()


def mib(size):
    return f"{size / MIB:.1f} MiB"


def judge_requests(language, target, only, report):
    """Requests that are to be answered in one way and no other."""
    table = [(f"request: {name}", handshakes.check, (make, right))
             for name, make, right in handshakes.REQUESTS]
    table.append(("request: octet by octet", handshakes.check_octets, ()))
    failed = report.failed
    table = [row for row in table if only in row[0]]
    for name, check, arguments in table:
        try:
            check(target.url, *arguments)
        except (AssertionError, LookupError, OSError, ValueError) as why:
            report.add(f"{language}: {name}", f"{why or type(why).__name__}")
        else:
            report.passed += 1
    if table and report.failed == failed:
        print(f"ok    {language}: {len(table)} requests answered as they have to be", flush=True)


def attack_all(language, chosen, args, report):
    if not checkout.build_example(language, "echo-server"):
        return report.add(language, "the echo server does not build")
    try:
        for arguments in dict.fromkeys(attack.arguments for attack in ATTACKS):
            group = [attack for attack in chosen if attack.arguments == arguments]
            is_plain = not arguments and args.only.startswith("request:")
            if group or is_plain:
                attack_pair(language, arguments, group, args, report)
    except Unavailable as why:
        report.skip(language, why)


def attack_pair(language, arguments, group, args, report):
    """Attacks servers that were started with these arguments."""
    what = " ".join([language, *arguments])
    try:
        pair = Pair(language, arguments)
    except RuntimeError as why:
        return report.add(f"{what}: starts", str(why))
    try:
        print(f"{what}: {mib(pair.usual.base)} before", flush=True)
        for attack in group * args.repeat:
            count = attack.full if args.full else attack.count
            name = f"{language}: {attack.name.format(f'{count:,}')}"
            try:
                report.add(name, *pair.suffer(attack, count))
            except (AssertionError, RuntimeError) as why:
                report.add(name, str(why))
                if pair.has_ended():
                    return report.add(f"{what}: echo-server", "it has ended")
        if not arguments:
            judge_requests(language, pair.usual, args.only, report)
        for target in pair.targets:
            report.add(f"{what}: ends well", target.end())
    finally:
        pair.kill()


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("languages", nargs="*", metavar="LANGUAGE", help=f"of {', '.join(OWN)}")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--only", default="", metavar="TEXT")
    parser.add_argument("--repeat", type=int, default=1, metavar="TIMES")
    args = parser.parse_args()
    if unknown := set(args.languages) - set(OWN):
        parser.error(f"no language {', '.join(sorted(unknown))}; there are {', '.join(OWN)}")
    return parser, args


def main():
    parser, args = arguments()
    chosen = [attack for attack in ATTACKS if args.only in attack.name]
    if not chosen and "request" not in args.only:
        parser.error("no attack has that in its name; there are\n  "
                     + "\n  ".join(attack.name for attack in ATTACKS))
    report = Report()
    for language in args.languages or LANGUAGES:
        if sys.platform != "linux":
            report.skip(language, "the resident set is read from /proc, which is Linux'")
        else:
            attack_all(language, chosen, args, report)
    print(f"{report.passed} passed, {report.failed} failed, {report.skipped} skipped")
    return 0 if report.passed and not report.failed else 1


if __name__ == "__main__":
    sys.exit(main())
