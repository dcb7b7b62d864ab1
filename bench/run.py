#!/usr/bin/env python3
"""Compares WebSocket echo servers by CPU time per message, against a bare epoll server (the floor).

Builds the floor and the load generator, prepares the servers, drives them in turn with the same
load, and prints Markdown tables. The README beside this file says how to read them.
"""

import argparse
import contextlib
import os
import resource
import shlex
import signal
import subprocess
import sys
from pathlib import Path

from measure import BUILD, Cell, Misbehaviour, Results, fail, measure_cell, measure_idle, say
from servers import FLOOR, LANGUAGES, Candidate, NotBuilt, Unavailable, candidates
from tables import OTHERS, print_tables, write_json

HERE = Path(__file__).resolve().parent
DEFAULT_CELLS = "32x64x1,32x64x16,1Kx64x4,16Kx32x4,1Mx4x1"
ALL = "all"


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


def peer(word):
    name, separator, command = word.partition("=")
    if not (name and separator and command.strip()):
        raise argparse.ArgumentTypeError(f"expected NAME=COMMAND, got {word!r}")
    return name, shlex.split(command)


def parse_arguments():
    parser = argparse.ArgumentParser(
        description="Compares WebSocket echo servers by CPU time per message, against a bare epoll server (the floor).",
        epilog="Exit status: 0; 1 when a server misbehaved, did not build, or was asked for by its name and cannot be "
        "had (never because it is slow); 2 for wrong usage.",
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
        help="measure only this server, or those of one language, beside the floor; may be repeated: "
        f"{', '.join(candidates())}, the name of a --peer, {', '.join(LANGUAGES)}, {ALL} (everything that can be run)",
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
    args.servers = candidates()
    for name, command in args.peer:
        if name in (*args.servers, *LANGUAGES, ALL):
            parser.error(f"--peer: the name {name!r} is taken")
        args.servers[name] = Candidate(OTHERS, lambda command=command: command)
    for name in args.only or []:
        names = (*args.servers, *LANGUAGES, ALL)
        if name not in names:
            parser.error(f"--only: expected one of {', '.join(names)}, got {name!r}")
    cpus = os.sched_getaffinity(0)
    if args.server_cpu == args.load_cpu or not {args.server_cpu, args.load_cpu} <= cpus:
        parser.error(
            "--server-cpu and --load-cpu: expected two different ones of CPUs "
            f"{', '.join(map(str, sorted(cpus)))}, got {args.server_cpu} and {args.load_cpu}"
        )
    return args


def selected(args):
    """The servers that are asked for; the floor always is."""
    asked = {FLOOR, *(args.only or [ALL])}
    return {n: s for n, s in args.servers.items() if ALL in asked or n in asked or s.language in asked}


def prepare(servers, args, results):
    """Builds and installs, and returns the commands that start the servers.

    What cannot be run here is left out. That is a failure only for a server that was asked for by
    its own name, or that is ours and does not build.
    """
    commands = {}
    for name, server in servers.items():
        try:
            commands[name] = server.prepare()
        except Unavailable as error:
            if name in (args.only or []):
                fail(results, "preparation", name, f"{name}: {error}")
            else:
                say(f"bench: {name} is left out: {error}")
                results.left_out[name] = str(error)
        except NotBuilt as error:
            fail(results, "preparation", name, f"{name}: {error}")
    if set(commands) == {FLOOR} != set(servers):
        fail(results, "preparation", FLOOR, "nothing can be run but the floor")
    return commands


def interrupt(*_):
    raise KeyboardInterrupt


def measure(servers, args, results):
    for cell in args.cells:
        measure_cell(cell, servers, args, results)
    for name, command in ({} if args.no_idle else servers).items():
        try:
            results.idle[name] = measure_idle(name, command, args)
            say(f"  idle: {name} {results.idle[name]['bytes_per_connection']:.0f} bytes/connection")
        except Misbehaviour as error:
            fail(results, f"{args.idle_connections} idle connections", name, error)


def main():
    args = parse_arguments()
    signal.signal(signal.SIGTERM, interrupt)
    if os.getloadavg()[0] > 0.5:
        say(f"bench: this machine is busy (load {os.getloadavg()[0]:.1f}): trust the ratios less than usual")
    results = Results()
    build()
    servers = prepare(selected(args), args, results)
    raise_file_limit(0 if args.no_idle else args.idle_connections)
    if set(servers) != {FLOOR} or not results.failures:
        measure(servers, args, results)
    languages = {name: args.servers[name].language for name in servers}
    print_tables(results, languages, args)
    if args.json:
        write_json(args.json, results, languages, args)
    return 1 if results.failures else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
