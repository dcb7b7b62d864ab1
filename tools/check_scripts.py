#!/usr/bin/env python3
"""Checks what no compiler sees: scripts parse, and no file names a machine's own places.

One line for each file that is wrong, and a closing line `N passed, N failed, N skipped`.
Does not know what the scripts do: the other suites run them.
"""
import re
import shutil
import subprocess
import sys

from checkout import ROOT

# In pieces, so that this file does not name them itself.
FORBIDDEN = {
    "a path of one machine": r"(?<![\w.])/(wor" r"k|roo" r"t|hom" r"e/\w+|tm" r"p/\w+|op" r"t/wheels)(/|\b)",
    "the host of a registry": r"registry\.npm" r"js|files\.pythonhos" r"ted|index\.crates\." r"io",
    "a note to do something later": r"\b(TO" r"DO|FIX" r"ME|XX" r"X)\b",
}
EXEMPT = {"LICENSE-APACHE", "LICENSE-MIT", "Cargo.lock"}
# What a fuzzer has made says nothing.
EXEMPT_UNDER = "fuzz/corpus/"


def files():
    """What is committed, or would be."""
    listed = subprocess.run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
                            cwd=ROOT, capture_output=True, check=True).stdout
    for name in sorted(set(listed.decode().split("\0")) - {""}):
        path = ROOT / name
        if path.is_file() and not path.is_symlink():
            yield name, path


def parser_of(name, text):
    """The command that parses a script, None when the file is no script."""
    shebang = text.splitlines()[0] if text.startswith("#!") else ""
    if name.endswith((".py", ".pyi")) or "python" in shebang:
        return [sys.executable, "-c", "import ast, sys; ast.parse(open(sys.argv[1], 'rb').read())"]
    if name.endswith((".js", ".cjs", ".mjs")) or "node" in shebang:
        return ["node", "--check"] if shutil.which("node") else None
    if re.search(r"\bbash\b", shebang):
        return ["bash", "-n"]
    if name.endswith(".sh") or re.search(r"\bsh\b", shebang):
        return ["sh", "-n"]
    return None


def parses(command, path):
    done = subprocess.run([*command, path], capture_output=True, text=True)
    last = ((done.stderr or done.stdout).strip().splitlines() or ["?"])[-1]
    return None if done.returncode == 0 else f"does not parse: {last}"


def places(text):
    for what, pattern in FORBIDDEN.items():
        if match := re.search(pattern, text):
            line = text.count("\n", 0, match.start()) + 1
            yield f"line {line}: {what}: {match[0]}"


def main():
    passed = failed = 0
    for name, path in files():
        try:
            text = path.read_bytes().decode("utf-8")
        except UnicodeDecodeError:
            continue
        exempt = name in EXEMPT or name.startswith(EXEMPT_UNDER)
        wrong = [] if exempt else list(places(text))
        command = parser_of(name, text)
        if command and (why := parses(command, path)):
            wrong.append(why)
        for why in wrong:
            print(f"FAIL  {name}: {why}")
        failed += bool(wrong)
        passed += not wrong
    print(f"{passed} passed, {failed} failed, 0 skipped")
    return 1 if failed or not passed else 0


if __name__ == "__main__":
    sys.exit(main())
