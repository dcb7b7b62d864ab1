#!/usr/bin/env python3
"""Compares WebSocket echo servers by CPU time per message, against a bare epoll server (the floor).

Builds the floor and the load generator, starts the servers, drives them in turn with the same load,
and prints Markdown tables. The README beside this file says how to read them.
"""

import argparse
import contextlib
import json
import os
import platform
import re
import resource
import select
import shlex
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
BUILD = HERE / "build"
ROOT = HERE.parent
FLOOR = "floor"
SERVERS = {
    FLOOR: [str(BUILD / "floor"), "0"],
    "wsabi": [str(ROOT / "examples" / "run"), "c", "echo-server", "0"],
}
DEFAULT_CELLS = "32x64x1,32x64x16,1Kx64x4,16Kx32x4,1Mx4x1"
READY = re.compile(r"listening on (ws://\S+)")
READY_SECONDS = 300  # a launcher may have to build its server first
STOP_SECONDS = 5
SETTLE_SECONDS = 5
DISTURBED = 0.1  # share of a round that the server was ready to run and another process had its CPU


class Misbehaviour(Exception):
    """A server, or the load generator on its behalf, did not do what it must."""


@dataclass(frozen=True)
class Cell:
    """One kind of load: message size, connections, messages in flight on each."""

    size: int
    connections: int
    in_flight: int
    text: bool = False

    @classmethod
    def parse(cls, word):
        match = re.fullmatch(r"(\d+)([KM]?)x(\d+)x(\d+)(:text)?", word)
        if not match:
            raise argparse.ArgumentTypeError(
                f"expected SIZExCONNECTIONSxIN_FLIGHT with an optional :text, such as 16Kx32x4, got {word!r}"
            )
        size, unit, connections, in_flight, text = match.groups()
        scale = {"": 1, "K": 1024, "M": 1024 * 1024}[unit]
        return cls(int(size) * scale, int(connections), int(in_flight), bool(text))

    def __str__(self):
        for unit, scale in (("MiB", 1024 * 1024), ("KiB", 1024), ("B", 1)):
            if self.size >= scale and self.size % scale == 0 or scale == 1:
                size = f"{self.size // scale} {unit}"
                break
        return f"{size}{' text' if self.text else ''} × {self.connections} × {self.in_flight}"

    def options(self):
        options = ["--size", self.size, "--connections", self.connections, "--in-flight", self.in_flight]
        return [str(o) for o in options] + (["--text"] if self.text else [])


@dataclass
class Results:
    """Every measurement: `rounds[cell][server]` is a list of the load generator's reports."""

    rounds: dict = field(default_factory=dict)
    idle: dict = field(default_factory=dict)
    failures: list = field(default_factory=list)


def say(text):
    print(text, file=sys.stderr, flush=True)


@contextlib.contextmanager
def pinned(cpu):
    """Lets what is started inside inherit this CPU."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def end(process):
    """Ends a process of ours with all of its group, which it leads, and waits for it."""
    if process.poll() is not None:
        return
    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(STOP_SECONDS)
    except BaseException as error:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if not isinstance(error, subprocess.TimeoutExpired):
            raise


class Server:
    """A running server; as a context manager it is ended at the exit."""

    def __init__(self, name, command, cpu):
        self.name = name
        self.errors = tempfile.TemporaryFile()
        try:
            with pinned(cpu):
                self.process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=self.errors,
                    start_new_session=True,
                )
        except OSError as error:
            self.errors.close()
            raise Misbehaviour(f"{name}: cannot start {shlex.join(command)}: {error}") from error
        try:
            self.url = self._wait_until_ready()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)
        self.process.stdout.close()
        self.errors.close()

    @property
    def pid(self):
        return self.process.pid

    def _wait_until_ready(self):
        deadline = time.monotonic() + READY_SECONDS
        output = self.process.stdout
        text = b""
        while time.monotonic() < deadline:
            if not select.select([output], [], [], 1)[0]:
                continue
            chunk = os.read(output.fileno(), 4096)
            text += chunk
            match = READY.search(text.decode(errors="replace"))
            if match and b"\n" in text[match.end() :]:
                return match.group(1)
            if not chunk:
                raise Misbehaviour(
                    f"{self.name}: ended before it printed 'listening on ws://…'{self.last_words()}"
                )
        raise Misbehaviour(f"{self.name}: no 'listening on ws://…' within {READY_SECONDS} s{self.last_words()}")

    def last_words(self):
        self.errors.seek(0)
        words = self.errors.read().decode(errors="replace").strip()
        return f"; its last words:\n{words[-2000:]}" if words else ""

    def seconds_waited_for_cpu(self):
        """How long its first thread has been ready to run without running; 0 where the kernel does not tell."""
        with contextlib.suppress(OSError, IndexError):
            return int(Path(f"/proc/{self.pid}/schedstat").read_text().split()[1]) / 1e9
        return 0

    def resident_bytes(self):
        """The process's resident memory, exactly where the kernel offers that."""
        for file, key in (("smaps_rollup", "Rss"), ("status", "VmRSS")):
            with contextlib.suppress(OSError):
                match = re.search(rf"^{key}:\s+(\d+) kB", Path(f"/proc/{self.pid}/{file}").read_text(), re.M)
                if match:
                    return int(match.group(1)) * 1024
        raise Misbehaviour(f"{self.name}: its memory cannot be read; has it ended?{self.last_words()}")

    def settled_bytes(self):
        """The resident memory once it has stood still for a while."""
        deadline = time.monotonic() + SETTLE_SECONDS
        last, same = self.resident_bytes(), 0
        while same < 4 and time.monotonic() < deadline:
            time.sleep(0.05)
            size = self.resident_bytes()
            same = same + 1 if size == last else 0
            last = size
        return last


def start_load(server, options, cpu):
    command = [str(BUILD / "load"), "--url", server.url, *options]
    with pinned(cpu):
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )


def report_of(load, server, patience):
    """Waits for the load generator's end and returns its report; raises when it has errors to tell."""
    try:
        output, errors = load.communicate(timeout=patience)
    except subprocess.TimeoutExpired:
        raise Misbehaviour(f"{server.name}: the load generator did not end within {patience:.0f} s") from None
    if not output.strip():
        raise Misbehaviour(f"{server.name}: {errors.strip()}{server.last_words()}")
    report = json.loads(output.splitlines()[-1])
    if report["errors"] or load.returncode:
        raise Misbehaviour(
            f"{server.name}: errors in echoes: {report['errors']}, the first: {report['error']}{server.last_words()}"
        )
    return report


def drive(server, cell, args):
    """One round of one server under the load of one cell."""
    options = [*cell.options(), "--seconds", str(args.seconds), "--warmup", str(args.warmup)]
    started, waited = time.monotonic(), server.seconds_waited_for_cpu()
    load = start_load(server, [*options, "--server-pid", str(server.pid)], args.load_cpu)
    try:
        report = report_of(load, server, args.seconds + args.warmup + 120)
    finally:
        end(load)
    waited = server.seconds_waited_for_cpu() - waited
    report["cpu_wait_share"] = waited / (time.monotonic() - started)
    if not report["messages"]:
        raise Misbehaviour(f"{server.name}: no message was echoed in {args.seconds} s")
    if report["server_cpu_seconds"] < 0.01 * report["client_cpu_seconds"]:
        raise Misbehaviour(
            f"{server.name}: process {server.pid} used no CPU time, so it is not the server itself; "
            "the command must exec the server"
        )
    report["us_per_message"] = report["server_cpu_seconds"] * 1e6 / report["messages"]
    return report


def measure_cell(cell, servers, args, results):
    """Runs the servers in turn, starting from another one in each round; all wait idle otherwise."""
    with contextlib.ExitStack() as stack:
        running = []
        for name, command in servers.items():
            try:
                running.append(stack.enter_context(Server(name, command, args.server_cpu)))
            except Misbehaviour as error:
                fail(results, cell, name, error)
        rounds = {server.name: [] for server in running}
        for number in range(args.rounds):
            turn = number % len(running) if running else 0
            for server in running[turn:] + running[:turn]:
                if server.name not in rounds:
                    continue
                try:
                    report = drive(server, cell, args)
                except Misbehaviour as error:
                    fail(results, cell, server.name, error)
                    del rounds[server.name]
                    continue
                rounds[server.name].append(report)
                say(f"  {cell}, round {number + 1}: {server.name} {report['us_per_message']:.3f} µs/message")
        results.rounds[cell] = rounds


def fail(results, what, name, error):
    say(f"bench: {what}: {error}")
    results.failures.append({"what": str(what), "server": name, "error": str(error)})


def measure_idle(name, command, args):
    """Bytes of resident memory that one open connection adds.

    A first connection, opened and closed before the count starts, takes what a server allocates once.
    """
    with Server(name, command, args.server_cpu) as server:
        held = hold(server, 1, args)
        release(held, server)
        before = server.settled_bytes()
        held = hold(server, args.idle_connections, args)
        try:
            growth = server.settled_bytes() - before
        finally:
            release(held, server)
        return {"bytes_per_connection": growth / args.idle_connections, "before_bytes": before}


def hold(server, connections, args):
    """Opens idle connections and returns the load generator that holds them."""
    load = start_load(server, ["--idle", "--connections", str(connections)], args.load_cpu)
    try:
        if not load.stdout.readline().startswith("idle "):
            report_of(load, server, STOP_SECONDS)
            raise Misbehaviour(f"{server.name}: the load generator ended early")
    except BaseException:
        end(load)
        raise
    return load


def release(load, server):
    try:
        report_of(load, server, 60)
    finally:
        end(load)


def raise_file_limit(connections):
    """For servers that take the limit as they find it; one too low shows as a failure of theirs."""
    needed = connections + 256
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft >= needed or soft == resource.RLIM_INFINITY:
        return
    for limits in ((needed, max(hard, needed)), (hard, hard)):
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
            break
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < needed:
        say(f"bench: the limit of open files is {hard}, below {needed}: expect failures at {connections} connections")


def build():
    compiler = shlex.split(os.environ.get("CC", "cc"))
    BUILD.mkdir(exist_ok=True)
    for name in ("floor", "load"):
        target, sources = BUILD / name, [HERE / f"{name}.c", *HERE.glob("*.h")]
        # The stamp makes another compiler build again, as a newer source does.
        stamp = BUILD / f"{name}.cc"
        fresh = target.exists() and stamp.exists() and stamp.read_text() == shlex.join(compiler)
        if fresh and all(target.stat().st_mtime > source.stat().st_mtime for source in sources):
            continue
        command = [*compiler, "-O3", "-Wall", "-Wextra", "-o", str(target), str(sources[0])]
        say(shlex.join(command))
        try:
            subprocess.run(command, check=True, stdout=sys.stderr)
        except (OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"bench: cannot build {name}: {error}")
        stamp.write_text(shlex.join(compiler))


def ratios(rounds, name):
    """Per round, the server's CPU per message divided by the floor's."""
    return [s["us_per_message"] / f["us_per_message"] for f, s in zip(rounds[FLOOR], rounds[name])]


def is_disturbed(reports):
    return any(r["cpu_wait_share"] > DISTURBED for r in reports)


def cell_rows(cell, rounds):
    for name, reports in rounds.items():
        costs = [r["us_per_message"] for r in reports]
        ratio = "–"
        if FLOOR in rounds:
            own = ratios(rounds, name)
            ratio = f"{statistics.median(own):.2f} ({min(own):.2f}–{max(own):.2f})"
        speed = statistics.median(r["messages"] / r["seconds"] for r in reports)
        busy = [
            statistics.median(r[key] / r["seconds"] for r in reports)
            for key in ("server_cpu_seconds", "client_cpu_seconds")
        ]
        mark = " \\*" if is_disturbed(reports) else ""
        cost = f"{statistics.median(costs):.3g} ({min(costs):.3g}–{max(costs):.3g})"
        yield f"| {cell} | {name} | {cost} | {ratio} | {speed:,.0f} | {busy[0]:.0%} / {busy[1]:.0%}{mark} |"


def print_tables(results, args):
    if results.rounds:
        print("| size × connections × in flight | server | µs/message (min–max) | CPU to floor's (min–max) "
              "| messages/s | CPU busy: server / load |")
        print("|---|---|---|---|---|---|")
        for cell, rounds in results.rounds.items():
            for row in cell_rows(cell, rounds):
                print(row)
        if any(is_disturbed(reports) for rounds in results.rounds.values() for reports in rounds.values()):
            print("\n\\* Other processes took more than "
                  f"{DISTURBED:.0%} of the server's CPU in some round: measure again on a quiet machine.")
    if results.idle:
        print(f"\n| server | bytes per idle connection, at {args.idle_connections:,} |")
        print("|---|---|")
        for name, idle in results.idle.items():
            print(f"| {name} | {idle['bytes_per_connection']:,.0f} |")
    for failure in results.failures:
        print(f"\nFailed: {failure['what']}: {failure['error']}")


def processor():
    with contextlib.suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if match:
            return match.group(1)
    return platform.machine()


def write_json(path, results, args):
    document = {
        "machine": {"processor": processor(), "system": platform.platform()},
        "seconds": args.seconds,
        "warmup": args.warmup,
        "cells": [
            {
                "size": cell.size,
                "connections": cell.connections,
                "in_flight": cell.in_flight,
                "text": cell.text,
                "servers": {
                    name: {
                        "us_per_message": statistics.median(r["us_per_message"] for r in reports),
                        "ratio": statistics.median(ratios(rounds, name)) if FLOOR in rounds else None,
                        "rounds": reports,
                    }
                    for name, reports in rounds.items()
                },
            }
            for cell, rounds in results.rounds.items()
        ],
        "idle_connections": args.idle_connections,
        "idle": results.idle,
        "failures": results.failures,
    }
    Path(path).write_text(json.dumps(document, indent=2) + "\n")


def peer(word):
    name, separator, command = word.partition("=")
    if not (name and separator and command.strip()):
        raise argparse.ArgumentTypeError(f"expected NAME=COMMAND, got {word!r}")
    return name, shlex.split(command)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Compares WebSocket echo servers by CPU time per message, against a bare epoll server (the floor).",
        epilog="Exit status: 0; 1 when a server misbehaved (never because it is slow); 2 for wrong usage.",
    )
    parser.add_argument("--rounds", type=int, default=3, help="rounds over all servers in each cell (%(default)s)")
    parser.add_argument("--seconds", type=float, default=2, help="measured in each round (%(default)s)")
    parser.add_argument("--warmup", type=float, default=0.5, help="seconds before each (%(default)s)")
    parser.add_argument(
        "--cells",
        default=DEFAULT_CELLS,
        metavar="LIST",
        help="SIZExCONNECTIONSxIN_FLIGHT, commas between; K and M are allowed in a size, ':text' at the end makes "
        "it UTF-8 text (%(default)s; an empty list leaves only the idle connections)",
    )
    parser.add_argument(
        "--peer",
        type=peer,
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another echo server: it prints 'listening on ws://127.0.0.1:PORT', and the process started is "
        "the server itself (so a script must exec it); may be repeated",
    )
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="measure only this server, and the floor; may be repeated",
    )
    parser.add_argument("--json", metavar="FILE", help="also write every figure there")
    parser.add_argument("--no-idle", action="store_true", help="leave out the memory of idle connections")
    parser.add_argument("--idle-connections", type=int, default=10000, metavar="N", help="(%(default)s)")
    parser.add_argument("--server-cpu", type=int, default=0, metavar="CPU", help="(%(default)s)")
    parser.add_argument("--load-cpu", type=int, default=1, metavar="CPU", help="(%(default)s)")
    args = parser.parse_args()

    try:
        args.cells = [Cell.parse(word) for word in args.cells.split(",") if word]
    except argparse.ArgumentTypeError as error:
        parser.error(f"--cells: {error}")
    for name in ("rounds", "seconds", "idle_connections"):
        if getattr(args, name) <= 0:
            parser.error(f"--{name.replace('_', '-')}: expected more than 0, got {getattr(args, name)}")
    if args.warmup < 0:
        parser.error(f"--warmup: expected 0 or more, got {args.warmup}")
    for name, command in args.peer:
        if name in SERVERS:
            parser.error(f"--peer: the name {name!r} is taken")
        SERVERS[name] = command
    for name in args.only or []:
        if name not in SERVERS:
            parser.error(f"--only: expected one of {', '.join(SERVERS)}, got {name!r}")
    cpus = os.sched_getaffinity(0)
    if args.server_cpu == args.load_cpu or not {args.server_cpu, args.load_cpu} <= cpus:
        parser.error(
            "--server-cpu and --load-cpu: expected two different ones of CPUs "
            f"{', '.join(map(str, sorted(cpus)))}, got {args.server_cpu} and {args.load_cpu}"
        )
    return args


def interrupt(*_):
    raise KeyboardInterrupt


def main():
    args = parse_arguments()
    signal.signal(signal.SIGTERM, interrupt)
    servers = {n: c for n, c in SERVERS.items() if not args.only or n == FLOOR or n in args.only}
    build()
    raise_file_limit(0 if args.no_idle else args.idle_connections)
    if os.getloadavg()[0] > 0.5:
        say(f"bench: this machine is busy (load {os.getloadavg()[0]:.1f}): trust the ratios less than usual")

    results = Results()
    for cell in args.cells:
        measure_cell(cell, servers, args, results)
    idle_servers = {} if args.no_idle else servers
    for name, command in idle_servers.items():
        try:
            results.idle[name] = measure_idle(name, command, args)
            say(f"  idle: {name} {results.idle[name]['bytes_per_connection']:.0f} bytes/connection")
        except Misbehaviour as error:
            fail(results, f"{args.idle_connections} idle connections", name, error)
    print_tables(results, args)
    if args.json:
        write_json(args.json, results, args)
    return 1 if results.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
