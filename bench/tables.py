"""Shows what was measured: Markdown tables, and JSON.

Does not know: how it was measured.
"""

import contextlib
import json
import platform
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

from measure import Cell
from servers import FLOOR, LANGUAGES

DISTURBED = 0.1  # share of a round in which the server was ready to run and another process ran
TITLES = {"c": "C", "python": "Python", "node": "Node and Bun"}
OTHERS = "others"  # the group of what --peer brings


@dataclass(frozen=True)
class Aims:
    """What wsabi is meant to cost at most: CPU to the floor's by cell, and per idle connection."""

    ratios: dict
    idle: str
    idle_bytes: int


def standard(*ratios):
    words = ("32x64x1", "32x64x16", "1Kx64x4", "16Kx32x4", "1Mx4x1")
    return {Cell.parse(word): ratio for word, ratio in zip(words, ratios, strict=True)}


AIMS = {
    "python": Aims(standard(1.15, 1.8, 1.5, 1.6, 1.1), "≤ 2,000", 2000),
    "node": Aims(standard(1.10, 1.4, 1.2, 1.5, 1.0), "≤ 1,000 beyond the JS objects", 1000),
}


def ratios(rounds, name):
    """Per round, the server's CPU per message divided by the floor's."""
    return [s["us_per_message"] / f["us_per_message"] for f, s in zip(rounds[FLOOR], rounds[name])]


def is_disturbed(reports):
    return any(r["disturbed_share"] > DISTURBED for r in reports)


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


def print_cells(rounds_of):
    print("| size × connections × in flight | server | µs/message (min–max) | CPU to floor's (min–max) "
          "| messages/s | CPU busy: server / load |")
    print("|---|---|---|---|---|---|")
    for cell, rounds in rounds_of.items():
        for row in cell_rows(cell, rounds):
            print(row)


def summary_ratio(rounds, name):
    """The median ratio of one server in one cell, in short."""
    if name not in rounds or FLOOR not in rounds:
        return "–"
    mark = " \\*" if is_disturbed(rounds[name]) else ""
    return f"{statistics.median(ratios(rounds, name)):.2f}{mark}"


def summary_rows(names, aims, results):
    """One row for each server, a column for each cell and one for the idle connections."""
    for name in names:
        row = [summary_ratio(rounds, name) for rounds in results.rounds.values()]
        if results.idle:
            idle = results.idle.get(name)
            row.append(f"{idle['bytes_per_connection']:,.0f}" if idle else "–")
        yield name, row
    if aims:
        row = [f"≤ {aims.ratios[cell]:.2f}" if cell in aims.ratios else "–" for cell in results.rounds]
        yield "*wsabi's aim*", row + ([aims.idle] if results.idle else [])


def print_summary(results, languages, args):
    """A table for each language: every server's CPU to the floor's, wsabi's aims below."""
    measured = set(results.idle).union(*results.rounds.values())
    columns = [str(cell) for cell in results.rounds]
    if results.idle:
        columns.append(f"bytes per idle connection, at {args.idle_connections:,}")
    for group in (*LANGUAGES, OTHERS):
        names = [name for name, language in languages.items() if language == group and name in measured]
        if not names:
            continue
        print(f"\n| {TITLES.get(group, 'Others')}: CPU to floor's | {' | '.join(columns)} |")
        print("|---" * (len(columns) + 1) + "|")
        for name, row in summary_rows(names, AIMS.get(group), results):
            print(f"| {name} | {' | '.join(row)} |")


def print_tables(results, languages, args):
    if results.rounds:
        print_cells(results.rounds)
    print_summary(results, languages, args)
    if any(is_disturbed(reports) for rounds in results.rounds.values() for reports in rounds.values()):
        print("\n\\* Other processes took more than "
              f"{DISTURBED:.0%} of the server's CPU in some round: measure again on a quiet machine.")
    for name, reason in results.left_out.items():
        print(f"\nLeft out: {name}: {reason}")
    for failure in results.failures:
        print(f"\nFailed: {failure['what']}: {failure['error']}")


def processor():
    with contextlib.suppress(OSError):
        match = re.search(r"^model name\s*:\s*(.+)$", Path("/proc/cpuinfo").read_text(), re.M)
        if match:
            return match.group(1)
    return platform.machine()


def ratio_aim(cell, ratio):
    return {"size": cell.size, "connections": cell.connections, "in_flight": cell.in_flight, "ratio": ratio}


def write_json(path, results, languages, args):
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
        "languages": languages,
        "aims": [
            {
                "language": language,
                "ratios": [ratio_aim(cell, ratio) for cell, ratio in aims.ratios.items()],
                "idle_bytes": aims.idle_bytes,
            }
            for language, aims in AIMS.items()
        ],
        "left_out": results.left_out,
        "failures": results.failures,
    }
    Path(path).write_text(json.dumps(document, indent=2) + "\n")
