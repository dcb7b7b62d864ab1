"""The chat programs of the examples as ours: a server, and clients whose input and lines we have.

Does not know: what is said on the wire.
"""
import itertools
import os
import queue
import re
import subprocess
import sys
import threading
from pathlib import Path

import checkout
from checkout import TARGET, Program

LANGUAGES = {"c": "c", "cpp": "c++", "python": "python", "node": "node", "rust": "rust"}
SECONDS = 30
LOGS = TARGET / "examples" / "chat"
_count = itertools.count()


def _log():
    """No two programs write the same."""
    return LOGS / f"{Path(sys.argv[0]).stem}-{next(_count)}.log"


def server(language, *arguments, port=0):
    argv = checkout.example(language, "chat-server", port, *arguments)
    return Program(argv, _log())


class Member(Program):
    """`examples/run LANGUAGE chat-client URL NAME ...`, with a pipe to its input."""

    def __init__(self, language, url, name, *arguments):
        self.name, self.language = name, language
        self.argv = checkout.example(language, "chat-client", url, name, *arguments)
        self.log = _log()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "wb") as errors:
            self.process = subprocess.Popen(self.argv, stdin=subprocess.PIPE,
                                            stdout=subprocess.PIPE, stderr=errors, env=os.environ)
        self.asked = False
        self._lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def say(self, text):
        self.process.stdin.write(f"{text}\n".encode())
        self.process.stdin.flush()

    def end_input(self):
        self.process.stdin.close()

    def until(self, wanted, seconds=SECONDS):
        """The lines up to the first that `wanted`, a regular expression, matches as a whole."""
        left = checkout.deadline(seconds)
        lines = []
        while not lines or not re.fullmatch(wanted, lines[-1]):
            try:
                line = self.line(left())
            except TimeoutError:
                line = None
            if line is None:
                raise RuntimeError(f"{self.language}'s client prints no line like {wanted!r}, "
                                   f"but {lines[-8:]}{self.tail()}")
            lines.append(line)
        return lines

    def rest(self, seconds=SECONDS):
        """Its exit status, and the lines up to its end."""
        status = self.wait(seconds)
        lines = []
        while (line := self.line(seconds)) is not None:
            lines.append(line)
        return status, lines
