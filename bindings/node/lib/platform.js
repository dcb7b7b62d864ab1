'use strict';
// What this platform is called.

const fs = require('node:fs');

/** Whether this process uses musl and not glibc. */
function usesMusl() {
  try {
    return fs.readFileSync('/usr/bin/ldd', 'latin1').includes('musl');
  } catch {
    // Not everywhere: then what Node says of itself, which takes longer.
    return process.report?.getReport?.().header.glibcVersionRuntime === undefined;
  }
}

/** The platform's name as in the names of the packages, such as `linux-x64-gnu`. */
function platformName() {
  const name = `${process.platform}-${process.arch}`;
  if (process.platform !== 'linux') return name;
  return `${name}-${usesMusl() ? 'musl' : 'gnu'}`;
}

module.exports = { platformName };
