#!/usr/bin/env python3
"""The demo (`make demo`): builds everything there is, starts the C echo server, and lets
clients in other languages, one of them foreign, talk with it. Exit code 0 when all did."""
import contextlib
import subprocess
import sys
import threading
import time

import checkout
from checkout import ROOT, TARGET, Program, Unavailable

NAMES = {"c": "c", "cpp": "c++", "rust": "rust", "python": "python", "node": "node"}
# What examples/run builds once for all examples of a language.
PACKAGES = {"python": "the Python package (the first time takes a minute)",
            "node": "the Node.js package (the first time takes a minute)"}


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
    print("building")
    with progress("the crates (the first time takes a minute or two)"):
        quietly(["cargo", "build", "--release", "--target-dir", TARGET])
    for language, names in examples.items():
        package = PACKAGES.get(language)
        for name in names[:1] if package else names:
            with progress(package or f"{NAMES.get(language, language)} {name}"):
                quietly([ROOT / "examples" / "run", "--build", language, name])
    with progress("a virtual environment with Python's websockets"):
        try:
            return checkout.websockets_python()
        except Unavailable as e:
            sys.exit(f"\ndemo: {e}")


def clients(examples, python, url):
    for language, names in examples.items():
        if "demo-client" in names:
            name = NAMES.get(language, language)
            yield name, checkout.example(language, "demo-client", url, f"{name:<10}")
    yield "websockets", [python, ROOT / "tools" / "demo_websockets.py", url, f"{'websockets':<10}"]


def main():
    examples = checkout.examples()
    if "echo-server" not in examples.get("c", []):
        sys.exit("demo: there is no examples/c/echo-server.c")
    python = build(examples)
    failed = []
    with Program(checkout.example("c", "echo-server", 0), TARGET / "demo.log") as server:
        url = server.url()
        print(f"\nthe C echo server: listening on {url}\n", flush=True)
        for name, argv in clients(examples, python, url):
            try:
                status = subprocess.run([str(a) for a in argv], timeout=30).returncode
            except subprocess.TimeoutExpired:
                status = "none: it did not end within 30 s"
            if status:
                failed.append(f"{name} (exit status {status})")
            print(flush=True)
        server.terminate()
        status = server.wait(15)
        if status:
            failed.append(f"the server (exit status {status}){server.tail()}")
    if failed:
        sys.exit(f"demo: failed: {', '.join(failed)}")
    print("the server has stopped, every message came back as it was sent")


if __name__ == "__main__":
    try:
        main()
    except (RuntimeError, TimeoutError) as e:
        sys.exit(f"demo: {e}")
    except KeyboardInterrupt:
        sys.exit(130)
