#!/usr/bin/env python3
"""The demo (`make demo`): builds everything there is, starts the C chat server, and lets clients in
five languages join its room, talk in turn and leave. Exit code 0 when each saw what every other said.

    demo.py           or  make demo
    demo.py --keep    or  make demo KEEP=1    leaves the room open, for a browser too, until Ctrl-C
"""
import argparse
import contextlib
import os
import re
import signal
import subprocess
import sys
import threading
import time

import checkout
from chat.programs import LANGUAGES, SECONDS, Member, server
from checkout import ROOT, TARGET
from test import BASE, NEEDS

# What examples/run builds once for all examples of a language.
PACKAGES = {"python": "the Python package (the first time takes a minute)",
            "node": "the Node.js package (the first time takes a minute)"}
NAMES = {"c": "cora", "cpp": "paul", "python": "pia", "node": "nora", "rust": "rosa"}
COLOURS = {"c": 34, "c++": 36, "python": 33, "node": 32, "rust": 31}
CONVERSATION = [
    ("rust", "Hello! The WebSocket is written in my language, once."),
    ("c", "I have it as libwsabi: a header, a library, three callbacks. This room is a C program, too."),
    ("cpp", "I include wsabi.hpp: the same loop, and nothing to free by hand."),
    ("python", "import wsabi, and asyncio drives it. Grüße, 世界 🌍"),
    ("node", "And I am used to the API of ws, so that is what I call."),
    ("c", "What do you wait with? I poll(2) stdin and one descriptor."),
    ("cpp", "So do I."),
    ("python", "asyncio watches the same descriptor for me."),
    ("node", "libuv does, and no thread stands in between."),
    ("rust", "I just run the loop that is behind it. See you!"),
]


@contextlib.contextmanager
def progress(what):
    """One line that shows that something is being done, and how long it took."""
    begin, done, tty = time.monotonic(), threading.Event(), sys.stdout.isatty()

    def tick():
        while not done.wait(1 if tty else 10):
            if tty:
                print(f"\r  {what} ... {time.monotonic() - begin:.0f} s", end="", flush=True)
            else:
                print(f"  {what} ... {time.monotonic() - begin:.0f} s", flush=True)

    print(f"  {what} ...", end="" if tty else "\n", flush=True)
    ticker = threading.Thread(target=tick, daemon=True)
    ticker.start()
    try:
        yield
    finally:
        done.set()
        ticker.join()
        print(f"{chr(13) if tty else ''}  {what}: {time.monotonic() - begin:.1f} s      ", flush=True)


def quietly(argv):
    done = subprocess.run([str(a) for a in argv], cwd=ROOT, stdin=subprocess.DEVNULL,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                          errors="replace")
    if done.returncode:
        sys.exit(f"\n{done.stdout}\ndemo: building failed")


def build(examples):
    """Builds what the demo starts; the languages whose client there is."""
    missing = [NEEDS[name] for name in BASE if not NEEDS[name].found()]
    for need in missing:
        print(f"demo: {need.name} is missing: {need.how()}", file=sys.stderr)
    if missing:
        sys.exit(2)
    if "chat-server" not in examples.get("c", []):
        sys.exit("demo: there is no examples/c/chat-server.c")
    print("building")
    with progress("the crates (the first time takes a minute or two)"):
        quietly(["cargo", "build", "--release", "--target-dir", TARGET])
    languages = [language for language in LANGUAGES if "chat-client" in examples.get(language, [])]
    for language, name in [("c", "chat-server"), *((language, "chat-client") for language in languages)]:
        with progress(PACKAGES.get(language, f"{name} in {LANGUAGES[language]}")):
            quietly([ROOT / "examples" / "run", "--build", language, name])
    return languages


def show(line):
    """Prints a line of the room; on a terminal a colour tells the language."""
    said = re.fullmatch(r"(\S+ \[(.*?)\]): (.*)", line)
    label, text = (f"{said[1]:<14}", said[3]) if said else ("", line)
    if sys.stdout.isatty() and not os.environ.get("NO_COLOR"):
        if said:
            label = f"\x1b[1;{COLOURS.get(said[2], 35)}m{label}\x1b[0m"
        else:
            text = f"\x1b[2m{text}\x1b[0m"
    print(f"  {label}{text}", flush=True)


class Room:
    """The members, in the order of joining; `seen` is how many lines all of them have printed."""

    def __init__(self, url, stack):
        self.url, self.stack = url, stack
        self.members = {}
        self.seen = 0

    def all_see(self, line, members):
        """Shows a line once each of these members has printed it."""
        for member in members:
            member.until(re.escape(line))
        show(line)
        self.seen += bool(members)

    def join(self, language):
        name = NAMES[language]
        others = list(self.members.values())
        member = self.stack.enter_context(
            Member(language, self.url, name, "--from", LANGUAGES[language]))
        member.until(re.escape(f"+ joined as {name}, {', '.join([m.name for m in others] + [name])} here"))
        self.all_see(f"* {name} [{LANGUAGES[language]}] joined", others)
        self.members[language] = member

    def say(self, language, text):
        self.members[language].say(text)
        self.all_see(f"{NAMES[language]} [{LANGUAGES[language]}]: {text}", self.members.values())

    def leave(self, language):
        member = self.members.pop(language)
        member.end_input()
        member.until(re.escape("+ left"))
        if status := member.wait(SECONDS):
            raise RuntimeError(f"the client in {language} has ended with status {status}{member.tail()}")
        self.all_see(f"* {member.name} [{LANGUAGES[language]}] left", self.members.values())

    def keep_open(self):
        """Shows what one member prints, until Ctrl-C."""
        first, *others = self.members.values()
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                with contextlib.suppress(TimeoutError):
                    if (line := first.line(1)) is None:
                        raise RuntimeError(f"the client in {first.language} has ended{first.tail()}")
                    show(line)
                for other in others:  # So that their lines do not pile up.
                    with contextlib.suppress(TimeoutError):
                        while other.line(0) is not None:
                            pass


def close_by_hand(room, program):
    """Ctrl-C has reached the clients and the server, too, if it came from a terminal."""
    everybody = [*room.members.values(), program]
    for one in everybody:
        one.terminate()
    for one in everybody:
        one.wait(SECONDS)
    print("\nthe room is closed")


def main():
    parser = argparse.ArgumentParser(prog="demo.py", description="Five languages in one chat room.")
    parser.add_argument("--keep", action="store_true",
                        default=os.environ.get("KEEP", "") not in ("", "0"),
                        help="leave the room open until Ctrl-C; so does KEEP=1 in the environment")
    keep = parser.parse_args().keep
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    languages = build(checkout.examples())
    with contextlib.ExitStack() as stack:
        program = stack.enter_context(server("c"))
        address = program.url()
        print(f"\nthe C chat server listens on {address}\n", flush=True)
        room = Room(f"{address}/chat", stack)
        for language in languages:
            room.join(language)
        for language, text in CONVERSATION:
            if language in room.members:
                room.say(language, text)
        if keep:
            print(f"\nthe room is open, come in: {address.replace('ws:', 'http:')}/\n"
                  f"or: examples/run python chat-client {room.url} NAME\n"
                  "Ctrl-C closes it.\n", flush=True)
            room.keep_open()
            close_by_hand(room, program)
            return
        for language in languages:
            room.leave(language)
        program.terminate()
        if status := program.wait(SECONDS):
            raise RuntimeError(f"the server has ended with status {status}{program.tail()}")
    print(f"\nthe room is closed: {len(languages)} languages, "
          f"{room.seen} lines, each seen by everybody in the room")


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, TimeoutError, BrokenPipeError) as e:
        sys.exit(f"demo: {e}")
    except KeyboardInterrupt:
        sys.exit(130)
