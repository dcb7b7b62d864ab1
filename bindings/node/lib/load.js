'use strict';
// Finds the native addon: one for each platform, in an optional package of its own.

const fs = require('node:fs');
const path = require('node:path');
const { platformName } = require('./platform');

const ROOT = path.join(__dirname, '..');

function load() {
  if (process.versions.bun) {
    // Its libuv functions are there, and end the process when they are called.
    throw new Error('wsabi needs libuv, which Bun does not have; expected Node.js 20 or later');
  }
  // The variable is that of napi-rs's loaders.
  const override = process.env.NAPI_RS_NATIVE_LIBRARY_PATH;
  if (override) return require(path.resolve(override));
  const platform = platformName();
  const local = path.join(ROOT, `wsabi.${platform}.node`);
  if (fs.existsSync(local)) return require(local);
  const name = `wsabi-${platform}`;
  try {
    return require(name);
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND' || !String(error.message).includes(name)) throw error;
    const wanted = Object.keys(require('../package.json').optionalDependencies ?? {});
    const why = wanted.includes(name)
      ? `its package ${name} is not installed; npm leaves optional packages out with --omit=optional ` +
        'and when a lock file was made on another platform'
      : `there is none for ${platform}; there are ${wanted.join(', ') || 'none in this checkout'}`;
    throw new Error(`wsabi cannot find its native addon: ${why}`, { cause: error });
  }
}

module.exports = { load };
