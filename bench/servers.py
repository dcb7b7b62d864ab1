"""The servers that can take part, and what makes each ready to be started.

Foreign peers are installed into the build folder, in the versions that `peers/` pins, and found
there the next time.

Does not know: how they are measured and shown.
"""

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
from checkout import Unavailable  # noqa: E402
from measure import say  # noqa: E402

FLOOR = "floor"
LANGUAGES = ("c", "python", "node")
VENV = "venv-bench"
NODE = checkout.TARGET / "node-bench"


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
        "picows": Candidate("python", lambda: python_peer("picows_uvloop.py")),
        "websockets": Candidate("python", lambda: python_peer("websockets_uvloop.py")),
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


def environment():
    """The interpreter that has the peers, all of them or none."""
    return checkout.environment(VENV, (PEERS / "requirements.txt").read_text())


def python_peer(script):
    return [str(environment()), str(PEERS / script)]


def wsabi_uvloop():
    """Our wheel, built anew where a source has changed, in the environment that has uvloop."""
    command = python_peer("wsabi_uvloop.py")
    build = [sys.executable, checkout.ROOT / "bindings" / "python" / "build.py", "--venv", checkout.TARGET / VENV]
    if subprocess.run(build, stdout=subprocess.DEVNULL).returncode:
        raise NotBuilt("bindings/python/build.py failed; what it said is on stderr")
    return command


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
            say(f"bench: installing {', '.join(names)} ...")
            shutil.rmtree(NODE, ignore_errors=True)
            NODE.mkdir(parents=True)
            shutil.copy(manifest, NODE)
            shutil.copy(lock, NODE)
            # Its last line says nothing, so all is shown.
            npm = ["npm", "ci", "--no-audit", "--no-fund", "--ignore-scripts"]
            if subprocess.run(npm, cwd=NODE, stdin=subprocess.DEVNULL, stdout=sys.stderr).returncode:
                raise Unavailable("npm ci failed; what it said is on stderr")
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
