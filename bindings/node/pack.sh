#!/usr/bin/env bash
# Makes the tarballs of the package: one for all platforms, one with this platform's addon.
#
#   bindings/node/pack.sh     leaves them in target/npm and says their names
#
# CARGO_TARGET_DIR is respected. Needs cargo, node and npm; nothing is fetched but crates.
set -euo pipefail

here=$(CDPATH='' cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
root=$(dirname -- "$(dirname -- "$here")")
target=${CARGO_TARGET_DIR:-$root/target}
[[ $target == /* ]] || target=$PWD/$target
out=$target/npm

"$here/build.sh" --quiet
mkdir -p "$out"
exec 9> "$out/.lock"
! command -v flock > /dev/null || flock 9

sources=("$here"/{README.md,index.js,index.d.ts,index.d.mts,wrapper.mjs,package.json,pack.sh} "$here"/lib
    "$here"/*.node "$root"/LICENSE-*)
if [[ ! -f $out/.stamp || -n $(find "${sources[@]}" -newer "$out/.stamp" -print -quit) ]]; then
    rm -rf "$out"/*.tgz "$out/stage"
    touch "$out/.stamp.new"
    node - "$here" "$root" "$out/stage" <<'SCRIPT'
// Puts the files of both packages into folders.
const fs = require('node:fs');
const path = require('node:path');

const [here, root, stage] = process.argv.slice(2);
const { platformName } = require(path.join(here, 'lib', 'platform.js'));
const manifest = JSON.parse(fs.readFileSync(path.join(here, 'package.json'), 'utf8'));
const platform = platformName();
const name = `wsabi-${platform}`;
if (manifest.optionalDependencies[name] !== manifest.version) {
  throw new Error(`optionalDependencies of package.json has to have ${name} in version ${manifest.version}`);
}
const licences = ['LICENSE-MIT', 'LICENSE-APACHE'];

const main = path.join(stage, 'wsabi');
fs.mkdirSync(main, { recursive: true });
for (const file of ['README.md', 'package.json', 'index.js', 'index.d.ts', 'index.d.mts', 'wrapper.mjs', 'lib']) {
  fs.cpSync(path.join(here, file), path.join(main, file), { recursive: true });
}

const addon = path.join(stage, name);
fs.mkdirSync(addon);
const file = `wsabi.${platform}.node`;
fs.copyFileSync(path.join(here, file), path.join(addon, file));
const [system, processor, libc] = platform.split('-');
fs.writeFileSync(path.join(addon, 'package.json'), `${JSON.stringify({
  name,
  version: manifest.version,
  description: `The native addon of wsabi for ${platform}`,
  license: manifest.license,
  homepage: manifest.homepage,
  repository: manifest.repository,
  engines: manifest.engines,
  os: [system],
  cpu: [processor],
  ...(libc && { libc: [libc === 'gnu' ? 'glibc' : libc] }),
  main: file,
  files: [file, 'LICENSE-*'],
}, null, 2)}\n`);
fs.writeFileSync(path.join(addon, 'README.md'), `# ${name}\n\nThe native addon of [wsabi](${manifest.homepage}) for ${platform}.\nInstall \`wsabi\`, which brings it along.\n`);
for (const folder of [main, addon]) {
  for (const licence of licences) fs.copyFileSync(path.join(root, licence), path.join(folder, licence));
}
SCRIPT
    for package in "$out"/stage/*/; do
        (cd "$out" && npm pack --silent --ignore-scripts --pack-destination "$out" "$package" > /dev/null)
    done
    rm -rf "$out/stage"
    mv -f "$out/.stamp.new" "$out/.stamp"
fi
ls "$out"/*.tgz
