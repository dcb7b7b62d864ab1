"""Headless Chromium for Python: `Browser`, and `Tab` with what one does in the chat room's page.

Does not know the room behind the page.
"""
import contextlib
import itertools
import json
import shutil
import socket
import sys
from pathlib import Path

import checkout
from check_examples import expect
from checkout import TARGET, Program

HERE = Path(__file__).resolve().parent
STATE = TARGET / "browser"
SECONDS = 60
NUMBERS = itertools.count(1)  # for names that are used once


def playwright():
    """A node_modules folder that has playwright-core."""
    for tool in ("node", "npm"):
        if shutil.which(tool) is None:
            raise checkout.Unavailable(f"{tool} is missing: install Node.js 20 or newer")
    folder = TARGET / "node-browser"
    lists = [HERE / "package.json", HERE / "package-lock.json"]
    key = checkout.made_from(*(file.read_text() for file in lists))
    with checkout.locked("node-browser"):
        stamp = folder / ".made-from"
        if not (stamp.is_file() and stamp.read_text() == key):
            print("installing npm's playwright-core ...", file=sys.stderr, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(parents=True)
            for file in lists:
                shutil.copy(file, folder)
            checkout.run_quietly(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
                                 cwd=folder)
            stamp.write_text(key)
    return folder / "node_modules"


class Browser:
    """Chromium, by way of driver.mjs: one question, one answer."""

    def __init__(self, chromium):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(SECONDS)
            self.program = Program(["node", HERE / "driver.mjs", listener.getsockname()[1], chromium],
                                   STATE / "driver.log", env={"NODE_PATH": str(playwright())})
            try:
                self.socket, _ = listener.accept()
            except TimeoutError:
                self.program.kill()
                raise RuntimeError(f"the driver did not start{self.program.tail()}") from None
        self.socket.settimeout(SECONDS)
        self.stream = self.socket.makefile("rw", encoding="utf-8")

    def do(self, page, action, *arguments):
        self.stream.write(json.dumps({"page": page, "do": action, "with": arguments}) + "\n")
        self.stream.flush()
        try:
            line = self.stream.readline()
        except TimeoutError:  # what it would answer now belongs to no question any more
            self.program.kill()
            raise RuntimeError(f"no answer to {action}{self.program.tail()}") from None
        if not line:
            raise RuntimeError(f"the driver ended during {action}{self.program.tail()}")
        answer = json.loads(line)
        if "error" in answer:
            raise RuntimeError(f"{page}: {action}: {answer['error']}")
        return answer["result"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self.stream.close()
            self.socket.close()
        with contextlib.suppress(TimeoutError):
            self.program.wait(SECONDS)
        self.program.kill()


# Functions for the expressions below, which are evaluated in the page.
PAGE = """
const $ = (selector) => document.querySelector(selector);
const all = (selector) => [...document.querySelectorAll(selector)];
const texts = (selector) => all(selector).map((element) => element.textContent);
const box = (element) => element.getBoundingClientRect();
const state = () => $('#state').dataset.state;
const said = (name, text) => all('#log .bubble').find((bubble) => bubble.textContent === text
  && bubble.closest('.group').querySelector('.name').textContent === name);
const note = (text) => texts('#log .note').some((one) => one.startsWith(text));
const atEnd = () => $('#scroller').scrollHeight - $('#scroller').clientHeight - $('#scroller').scrollTop < 2;
"""


class Tab:
    """One tab of a profile of its own. Whatever it complained about fails the check."""

    def __init__(self, browser, url, **options):
        self.browser, self.name, self.tolerated = browser, f"tab{next(NUMBERS)}", ()
        self.do("open", url, options)

    def do(self, action, *arguments):
        return self.browser.do(self.name, action, *arguments)

    def get(self, expression):
        return self.do("evaluate", f"(() => {{ {PAGE}; return {expression}; }})()")

    def until(self, expression):
        return self.do("until", f"(() => {{ {PAGE}; return {expression}; }})()", expression)

    def join(self, name):
        self.until("$('#join').open")
        self.do("fill", "#name", name)
        self.do("key", "Enter")

    def joins(self, name):
        self.join(name)
        self.until("state() === 'joined' && !$('#join').open")

    def say(self, text):
        self.do("fill", "#text", text)
        self.do("key", "Enter")

    def hears(self, name, text):
        self.until(f"said({json.dumps(name)}, {json.dumps(text)})")

    def __enter__(self):
        return self

    def __exit__(self, error, *_):
        problems = [p for p in self.do("problems") if not any(t in p for t in self.tolerated)]
        self.do("close")
        expect(error or not problems, f"the browser complains: {problems}")
