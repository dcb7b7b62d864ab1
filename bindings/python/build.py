#!/usr/bin/env python3
"""Builds the wheel of the Python package for the interpreter that runs this.

    build.py                  the wheel, in target/wheels/; its path is the last line printed
    build.py --sdist          the source distribution as well
    build.py --venv FOLDER    the wheel, installed into a virtual environment (made if need be)

Needs Rust's cargo, and a way to PyPI: maturin, which drives the build, is installed into the build
folder (`target/`, or CARGO_TARGET_DIR). There is one wheel for an interpreter, built anew only when
its sources, RUSTFLAGS or the interpreter have changed; otherwise the path is all there is to do.
"""
import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent / "tools"))
import checkout  # noqa: E402
from checkout import ROOT, TARGET, Unavailable  # noqa: E402

MATURIN = "maturin==1.16.0"
OLDEST = (3, 10)
WHEELS = TARGET / "wheels"
SOURCES = [*(ROOT / name for name in ("Cargo.toml", "Cargo.lock", "core/Cargo.toml", "core/src",
                                      "LICENSE-APACHE", "LICENSE-MIT")),
           *(HERE / name for name in ("Cargo.toml", "pyproject.toml", "README.md", "build.py",
                                      "build.rs", "src", "python"))]
NO_SOURCES = {".pyc", ".so"}
# Its own place, so that a virtual environment of it does not make a difference.
INTERPRETER = os.path.realpath(sys.executable)


def say(words):
    print(f"build.py: {words}", file=sys.stderr, flush=True)


# --- what is built from what ------------------------------------------------------------


def interpreter():
    """The tags of this interpreter, as they stand in a wheel's name."""
    if platform.python_implementation() != "CPython" or sys.version_info < OLDEST:
        raise Unavailable(f"CPython {OLDEST[0]}.{OLDEST[1]} or newer is needed, this is "
                          f"{platform.python_implementation()} {platform.python_version()}")
    version = f"cp{sys.version_info[0]}{sys.version_info[1]}"
    return f"{version}-{version}{'t' if sysconfig.get_config_var('Py_GIL_DISABLED') else ''}"


def source_files():
    for path in SOURCES:
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file() and file.suffix not in NO_SOURCES:
                yield file


def fingerprint(tags):
    """Of all that a wheel is made from."""
    digest = hashlib.sha256(checkout.made_from(
        tags, sys.version, INTERPRETER, MATURIN, os.environ.get("RUSTFLAGS", "")).encode())
    for file in source_files():
        data = file.read_bytes()
        digest.update(f"\0{file.relative_to(ROOT)}\0{len(data)}\0".encode())
        digest.update(data)
    return digest.hexdigest()


# --- building -----------------------------------------------------------------------------


def maturin(*arguments):
    """Runs it; what it says goes to stderr."""
    if shutil.which("cargo") is None:
        raise Unavailable("cargo is missing: install Rust, https://rustup.rs")
    program = checkout.environment("venv-maturin", MATURIN).parent / "maturin"
    settings = {name: value for name, value in os.environ.items() if name != "CARGO_BUILD_TARGET"}
    command = [str(program), *map(str, arguments), "-m", str(HERE / "Cargo.toml")]
    if subprocess.run(command, cwd=ROOT, env=settings, stdout=sys.stderr).returncode:
        raise Unavailable(f"maturin {arguments[0]} failed, see above")


def only_product(folder, pattern):
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise Unavailable(f"maturin left {[f.name for f in found]} instead of one {pattern}")
    return found[0]


def replace_by(product, pattern):
    """Puts a product into the folder of wheels, and takes away those of the same kind."""
    final = WHEELS / product.name
    os.replace(product, final)
    for old in WHEELS.glob(pattern):
        if old != final:
            old.unlink()
    return final


def build(pattern, *arguments):
    """Lets maturin make a product, beside the folder of wheels until it is whole."""
    making = WHEELS / ".making"
    shutil.rmtree(making, ignore_errors=True)
    try:
        maturin(*arguments, "-o", making)
        return replace_by(only_product(making, pattern), pattern)
    finally:
        shutil.rmtree(making, ignore_errors=True)


def wheel():
    """The path of the wheel, built if it is not there or older than its sources."""
    tags = interpreter()
    pattern = f"wsabi-*-{tags}-*.whl"
    stamp = WHEELS / f".{tags}.made-from"
    key = fingerprint(tags)
    found = list(WHEELS.glob(pattern))
    if len(found) == 1 and stamp.is_file() and stamp.read_text() == key:
        return found[0]
    stamp.unlink(missing_ok=True)
    say("building the wheel (the first time takes a minute) ...")
    built = build(pattern, "build", "--release", "--locked", "-i", INTERPRETER,
                  "--target-dir", TARGET / "python")
    stamp.write_text(key)
    return built


# --- installing -----------------------------------------------------------------------------


def install(built, folder):
    """Makes the virtual environment if need be, and installs the wheel if it is another one."""
    python = folder / "bin" / "python"
    stamp = folder / ".wsabi"
    key = checkout.made_from(sys.version, INTERPRETER, str(folder),
                             hashlib.sha256(built.read_bytes()).hexdigest())
    if python.exists() and stamp.is_file() and stamp.read_text() == key:
        return
    if folder.exists() and not (folder / "pyvenv.cfg").is_file() and any(folder.iterdir()):
        raise Unavailable(f"{folder} is not empty, and is no virtual environment")
    say(f"installing {built.name} ...")
    stamp.unlink(missing_ok=True)
    if not is_environment_of_this(folder):
        checkout.run_quietly([INTERPRETER, "-m", "venv", "--clear", folder])
    checkout.run_quietly([python, "-m", "pip", "install", "--quiet", "--no-input",
                          "--disable-pip-version-check", "--force-reinstall", built])
    stamp.write_text(key)


def is_environment_of_this(folder):
    """Whether there is a virtual environment that was made by this very interpreter."""
    try:
        asked = subprocess.run([folder / "bin" / "python", "-c", "import pip, sys; "
                                "print(sys.version, sys.base_prefix, sys.prefix, sep='\\n')"],
                               capture_output=True, text=True)
    except OSError:
        return False
    return asked.stdout == f"{sys.version}\n{sys.base_prefix}\n{folder}\n"


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sdist", action="store_true", help="build the source distribution too")
    parser.add_argument("--venv", type=Path, metavar="FOLDER",
                        help="install the wheel into this virtual environment")
    return parser.parse_args()


def main():
    args = arguments()
    try:
        with checkout.locked("wheels"):
            built = wheel()
            if args.sdist:
                print(build("wsabi-*.tar.gz", "sdist"))
            if args.venv:
                install(built, args.venv.resolve())
    except (Unavailable, OSError) as error:
        sys.exit(f"build.py: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
    print(built)


if __name__ == "__main__":
    main()
