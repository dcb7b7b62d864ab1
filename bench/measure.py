"""Starts servers, drives them in turn with the load generator, and reads what they cost.

Does not know: which servers there are, how results are shown.
"""

import argparse
import contextlib
import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

BUILD = Path(__file__).resolve().parent / "build"
READY = re.compile(r"listening on (ws://\S+)")
READY_SECONDS = 300  # a launcher may have to build its server first
STOP_SECONDS = 5
SETTLE_SECONDS = 5


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
    """Every measurement: `rounds[cell][server]` is a list of the load generator's reports.

    `left_out[server]` says why a server did not take part.
    """

    rounds: dict = field(default_factory=dict)
    idle: dict = field(default_factory=dict)
    failures: list = field(default_factory=list)
    left_out: dict = field(default_factory=dict)


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

    def seconds_disturbed(self):
        """How long its first thread has been ready to run while another process ran.

        Threads of its own (a garbage collector's) have the same CPU, and what they used does not
        count. 0 where the kernel does not tell.
        """
        waited = used_by_others = 0
        with contextlib.suppress(OSError, IndexError):
            for task in Path(f"/proc/{self.pid}/task").iterdir():
                ran, delayed = (task / "schedstat").read_text().split()[:2]
                if task.name == str(self.pid):
                    waited = int(delayed)
                else:
                    used_by_others += int(ran)
        return (waited - used_by_others) / 1e9

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
    started, disturbed = time.monotonic(), server.seconds_disturbed()
    load = start_load(server, [*options, "--server-pid", str(server.pid)], args.load_cpu)
    try:
        report = report_of(load, server, args.seconds + args.warmup + 120)
    finally:
        end(load)
    disturbed = server.seconds_disturbed() - disturbed
    report["disturbed_share"] = max(0, disturbed) / (time.monotonic() - started)
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
