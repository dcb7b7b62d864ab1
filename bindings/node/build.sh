#!/usr/bin/env bash
# Builds the addon for this platform and puts it where index.js of this checkout finds it.
#
#   bindings/node/build.sh             in release mode
#   bindings/node/build.sh --quiet     says nothing unless it fails
#
# CARGO_TARGET_DIR is respected; the build has a folder of its own in it, `node`, so that it waits
# for no other build.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$(dirname -- "$here")")
target=${CARGO_TARGET_DIR:-$root/target}
[[ $target == /* ]] || target=$PWD/$target
target=$target/node

quiet=()
case ${1-} in
    '') ;;
    --quiet) quiet=(--quiet) ;;
    *)
        echo "build.sh: unknown argument '$1'; expected --quiet or none" >&2
        exit 2
        ;;
esac

(cd "$root" && env -u CARGO_BUILD_TARGET cargo build "${quiet[@]}" --release --package wsabi-node --target-dir "$target")

case $(uname -s) in
    Darwin) library=libwsabi_node.dylib ;;
    *) library=libwsabi_node.so ;;
esac
platform=$(node -p "require('$here/lib/platform.js').platformName()")
built=$target/release/$library
addon=$here/wsabi.$platform.node
if [[ ! -f $addon || $built -nt $addon ]]; then
    # A process that has the old one keeps it: the name gets a new file.
    cp "$built" "$addon.new"
    mv -f "$addon.new" "$addon"
fi
