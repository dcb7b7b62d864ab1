"""The servers that can take part, and what makes each ready to be started.

Foreign peers are installed into the build folder, in the versions that `peers/` pins, and found
there the next time.

Does not know: measuring, tables.
"""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

HERE = Path(__file__).resolve().parent
PEERS = HERE / "peers"
sys.path.insert(0, str(HERE.parent / "tools"))
import checkout  # noqa: E402
from checkout import Unavailable, run_quietly  # noqa: E402

FLOOR = "floor"
LANGUAGES = ("c", "python", "node")
VENV = checkout.TARGET / "venv-bench"
NODE = checkout.TARGET / "node-bench"
WHEELS = checkout.TARGET / "wheels"


class NotBuilt(Exception):
    """A server of this repository that could not be built; the text says why."""


@dataclass(frozen=True)
class Candidate:
    """A server that may take part.

    `prepare` returns the command that starts it. It raises NotBuilt, or Unavailable for what this
    machine lacks or cannot install.
    """

    language: str
    prepare: Callable[[], list]


def candidates():
    """Every server, in the order of the tables."""
    return {
        FLOOR: Candidate("c", lambda: [str(HERE / "build" / "floor"), "0"]),
        "wsabi": Candidate("c", lambda: example("c")),
        "wsabi-python": Candidate("python", lambda: example("python")),
        "wsabi-uvloop": Candidate("python", wsabi_uvloop),
        "picows": Candidate("python", lambda: python_peer("picows")),
        "websockets": Candidate("python", lambda: python_peer("websockets")),
        "wsabi-node": Candidate("node", lambda: example("node", "node", "npm")),
        "ws": Candidate("node", ws),
        "bun": Candidate("node", bun),
    }


def need(*tools):
    for tool in tools:
        if shutil.which(tool) is None:
            raise Unavailable(f"{tool} is missing: install Node.js 20 or newer")


def example(language, *tools):
    """Our echo server in that language, built."""
    need(*tools)
    if "echo-server" not in checkout.examples().get(language, []):
        raise Unavailable(f"examples/run knows no {language} echo-server")
    if not checkout.build_example(language, "echo-server"):
        raise NotBuilt(f"examples/run --build {language} echo-server failed")
    return checkout.example(language, "echo-server", 0)


# --- Python ---------------------------------------------------------------------------------


def is_stamped(name, key):
    stamp = VENV / f".{name}.made-from"
    return stamp.is_file() and stamp.read_text() == key


def put_stamp(name, key):
    (VENV / f".{name}.made-from").write_text(key)


def pip(*arguments):
    run_quietly([VENV / "bin" / "python", "-m", "pip", "install", "--quiet", "--no-input",
                 "--disable-pip-version-check", *arguments])


def make_environment():
    key = checkout.made_from(sys.version, sys.executable, str(VENV))
    if is_stamped("environment", key):
        return
    print(f"bench: making {VENV} ...", file=sys.stderr, flush=True)
    run_quietly([sys.executable, "-m", "venv", "--clear", VENV])
    put_stamp("environment", key)


def install(package):
    """Installs a pinned package with what it needs; wheels only, for a build would take minutes."""
    make_environment()
    pins = PEERS / "requirements.txt"
    key = checkout.made_from(pins.read_text())
    if is_stamped(package, key):
        return
    print(f"bench: installing {package} ...", file=sys.stderr, flush=True)
    pip("--only-binary", ":all:", "--constraint", pins, package)
    put_stamp(package, key)


def python_server(script):
    return [str(VENV / "bin" / "python"), str(PEERS / script)]


def python_peer(package):
    with checkout.locked(VENV.name):
        install("uvloop")
        install(package)
    return python_server(f"{package}_uvloop.py")


def make_wheel():
    """For this interpreter; what the build says is shown only if it fails."""
    command = [os.environ.get("MAKE", "make"), "--no-print-directory", "wheel", f"PYTHON={sys.executable}"]
    try:
        made = subprocess.run(command, cwd=checkout.ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    except OSError as error:
        raise NotBuilt(f"make wheel: {error}") from error
    if made.returncode:
        sys.stderr.write(made.stdout.decode(errors="replace"))
        raise NotBuilt("make wheel failed")


def wsabi_uvloop():
    """wsabi's wheel, built anew where a source has changed."""
    with checkout.locked(VENV.name):
        install("uvloop")
        print("bench: make wheel ...", file=sys.stderr, flush=True)
        make_wheel()
        try:
            wheels = sorted(WHEELS.glob("wsabi-*.whl"))
            key = checkout.made_from(*(hashlib.sha256(wheel.read_bytes()).hexdigest() for wheel in wheels))
            if not is_stamped("wsabi", key):
                pip("--no-index", "--find-links", WHEELS, "--force-reinstall", "--no-deps", "wsabi")
                put_stamp("wsabi", key)
        except Unavailable as error:
            raise NotBuilt(str(error)) from error
    return python_server("wsabi_uvloop.py")


# --- Node and Bun -----------------------------------------------------------------------------


def node_modules():
    """The folder with the packages of `peers/package.json`; no install scripts are run."""
    need("node", "npm")
    manifest, lock = PEERS / "package.json", PEERS / "package-lock.json"
    key = checkout.made_from(manifest.read_text(), lock.read_text())
    with checkout.locked(NODE.name):
        stamp = NODE / ".made-from"
        if not (stamp.is_file() and stamp.read_text() == key):
            names = re.findall(r'"(\w+)": "[\d.]+"', manifest.read_text())
            print(f"bench: installing {', '.join(names)} ...", file=sys.stderr, flush=True)
            shutil.rmtree(NODE, ignore_errors=True)
            NODE.mkdir(parents=True)
            shutil.copy(manifest, NODE)
            shutil.copy(lock, NODE)
            run_quietly(["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"], cwd=NODE)
            stamp.write_text(key)
    return NODE / "node_modules"


def ws():
    return ["env", f"NODE_PATH={node_modules()}", "node", str(PEERS / "ws_server.js")]


def bun():
    """Of the programs that npm put there for this machine, the first that runs."""
    for program in sorted(node_modules().glob("@oven/bun-*/bin/bun")):
        try:
            if subprocess.run([program, "--version"], capture_output=True).returncode == 0:
                return [str(program), str(PEERS / "bun_server.js")]
        except OSError:
            continue
    raise Unavailable("npm's bun has no program that runs on this machine")
