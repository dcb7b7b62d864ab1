#!/bin/sh
# Install the Autobahn WebSocket testsuite into a virtual environment of its own.
#
#   install.sh [FOLDER]      default: $AUTOBAHN_VENV, else target/venv-autobahn of the checkout
#
# Needs Python >= 3.9 (PYTHON=... chooses one) and the PyPI registry. The release on
# PyPI is Python 2 only; port_py3.py, beside this script, makes it run on Python 3.
# Does nothing when FOLDER already holds what this version of the script installs.
set -eu

here=$(CDPATH= cd -- "$(dirname -- "$0")" && pwd)
dest=${1:-${AUTOBAHN_VENV:-$(CDPATH= cd -- "$here/../.." && pwd)/target/venv-autobahn}}
python=${PYTHON:-python3}
stamp="$dest/.installed"

"$python" -c 'import sys; sys.exit(sys.version_info < (3, 9))' || {
    echo "install.sh: $python is too old, 3.9 or newer is needed" >&2
    exit 1
}

# What is installed is named by this script, the port and the Python.
want=$(cat "$here/install.sh" "$here/port_py3.py" | cksum; "$python" -V)
if [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$want" ] && [ -x "$dest/bin/wstest" ]; then
    echo "$dest: already there"
    exit 0
fi
if [ -e "$dest" ] && [ ! -f "$dest/pyvenv.cfg" ] && [ -n "$(ls -A "$dest")" ]; then
    echo "install.sh: $dest exists and is not a virtual environment" >&2
    exit 1
fi

mkdir -p "$dest"
lists=$(mktemp -d)
trap 'rm -rf "$lists"' EXIT
trap 'exit 1' HUP INT TERM
rm -f "$stamp"
"$python" -m venv --clear "$dest"

# Python 2 era sources; fixed by hash, since port_py3.py edits two of them.
cat > "$lists/sources.txt" <<'REQ'
autobahntestsuite==25.10.1 --hash=sha256:b083d6e15330fc16f3e5f0975cce2b15f21bfa0c6db09547316b1852c6dbd6df
autobahn==0.10.9 --hash=sha256:3fecc1e2a26a0421128ddcfb4e577f0bc669dd65d0e0fdad1c773965cbcef75a
txaio==2.1.0 --hash=sha256:b94e3dbc83760b68955160fc61a2c34e2798f7a90c41672560f40dfd2946a864
REQ
cat > "$lists/wheels.txt" <<'REQ'
appdirs==1.4.4
attrs==24.3.0
Automat==24.8.1
constantly==23.10.4
fissix==24.4.24
hyperlink==21.0.0
idna==3.10
incremental==24.7.2
packaging==24.2
setuptools==75.8.0
six==1.17.0
Twisted==24.11.0
tomli==2.2.1; python_version < "3.11"
typing_extensions==4.12.2
wheel==0.45.1
wsaccel==0.6.7
zope.interface==7.2
REQ

pip() {
    "$dest/bin/python" -m pip --disable-pip-version-check --no-input "$@"
}
pip install --quiet --no-deps --prefer-binary -r "$lists/wheels.txt"
# No cache: a wheel cached from a patched or foreign build must not be taken.
pip install --quiet --no-deps --no-cache-dir --no-build-isolation --use-pep517 \
    --no-binary :all: --require-hashes -r "$lists/sources.txt"
pip check
"$dest/bin/python" "$here/port_py3.py"

# The whole set must load: 517 cases.
"$dest/bin/python" -W ignore -c '
from autobahntestsuite import fuzzing
n = len(fuzzing.Cases)
assert n == 517, n
'
"$dest/bin/python" "$dest/bin/wstest" --help > /dev/null
printf '%s\n' "$want" > "$stamp"
echo "$dest: installed"
