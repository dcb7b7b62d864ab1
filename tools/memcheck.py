"""Runs a program under valgrind, and judges the reports in which one library has a part.

Standard library only. An interpreter has reports of its own, which are not ours to judge; one is
ours when a frame of any of its stacks lies in the library: where it happened, where the memory was
freed or made, where a value was left undefined.

Does not know: what the program does.
"""
import os
import re
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent))
from checkout import Unavailable  # noqa: E402

MISSING = "valgrind is missing (Debian: apt-get install valgrind libc6-dbg)"
FRAMES_SHOWN = 25


class Report:
    """One of valgrind's errors."""

    def __init__(self, element):
        self.kind = element.findtext("kind")
        self.what = element.findtext("what") or element.findtext("xwhat/text") or "?"
        self.stacks = [[Frame(frame) for frame in stack.findall("frame")]
                       for stack in element.findall("stack")]
        self.notes = [note.text or "" for note in element.findall("auxwhat")]

    def passes_through(self, library):
        return any(frame.library == library for stack in self.stacks for frame in stack)

    def mentions(self, pattern):
        return any(re.search(pattern, frame.function) for stack in self.stacks for frame in stack)

    def __str__(self):
        lines = [f"{self.kind}: {self.what}"]
        for number, stack in enumerate(self.stacks):
            if number:
                lines.append(f"  {self.notes[number - 1] if number <= len(self.notes) else 'and'}")
            lines += [f"    {frame}" for frame in stack[:FRAMES_SHOWN]]
        return "\n".join(lines)


class Frame:
    def __init__(self, element):
        self.library = os.path.basename(element.findtext("obj") or "")
        self.function = element.findtext("fn") or "?"
        line = element.findtext("line")
        self.place = f"{element.findtext('file')}:{line}" if line else self.library

    def __str__(self):
        return f"{self.function} ({self.place})"


class Watched:
    """What came of a program."""

    def __init__(self, status, output, reports):
        self.status, self.output, self.reports = status, output, reports


def needs_valgrind():
    """Asked before anything is built for it."""
    if shutil.which("valgrind") is None:
        raise Unavailable(MISSING)


def watch(argv, library, *, env, seconds=600, leaks=True, options=()):
    """Runs it with this environment. `library` is the base name of the file whose part in reports
    is looked for."""
    needs_valgrind()
    with tempfile.TemporaryDirectory(prefix="wsabi-memcheck-") as folder:
        told = Path(folder) / "told.xml"
        # Children have no part in this: an interpreter may ask a shell for something.
        command = ["valgrind", "--xml=yes", f"--xml-file={told}", "--child-silent-after-fork=yes",
                   "--num-callers=60", "--error-limit=no",
                   f"--leak-check={'full' if leaks else 'no'}", "--show-leak-kinds=definite",
                   *options, *map(str, argv)]
        try:
            done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, text=True, errors="replace",
                                  timeout=seconds, env=env)
        except subprocess.TimeoutExpired as late:
            output = (late.output or b"").decode(errors="replace")
            return Watched(124, f"{output}\nnot done after {seconds} s", [])
        try:
            root = ElementTree.parse(told).getroot()
        except (OSError, ElementTree.ParseError) as error:
            return Watched(done.returncode or 1, f"{done.stdout}\nvalgrind's words: {error}", [])
    reports = [Report(element) for element in root.findall("error")]
    return Watched(done.returncode, done.stdout,
                   [report for report in reports if report.passes_through(library)])


class Checks:
    """The count, and a line for each thing counted."""

    def __init__(self):
        self.passed = self.failed = 0

    def check(self, name, passed, watched):
        print(f"{'ok   ' if passed else 'FAIL '} {name}", flush=True)
        self.passed += passed
        self.failed += not passed
        if not passed:
            print("\n".join([watched.output[-10_000:], f"ended with status {watched.status}",
                             *map(str, watched.reports)]), flush=True)

    def life(self, watched, library):
        """A program that tells of its scenes by lines with a #."""
        scenes = sum(line.startswith("# ") for line in watched.output.splitlines())
        self.check(f"{scenes} scenes without a report in which {library} has a part",
                   watched.status == 0 and scenes > 0 and not watched.reports, watched)

    def planted(self, watched, library, what, kind):
        found = any(report.kind == kind for report in watched.reports)
        self.check(f"valgrind reports a planted {what} in {library}", found, watched)

    def close(self):
        print(f"{self.passed} passed, {self.failed} failed, 0 skipped")
        return 1 if self.failed or not self.passed else 0


def main(act):
    """Runs `act`, which is given Checks; a missing tool is a SKIP."""
    checks = Checks()
    try:
        act(checks)
    except Unavailable as why:
        print(f"SKIP  valgrind: {why}\n{checks.passed} passed, {checks.failed} failed, 1 skipped")
        return 0
    return checks.close()
