'use strict';
// The option `perMessageDeflate`: what of it is for the addon, and what is refused.

const { notSupported } = require('./errors');
const { THRESHOLD } = require('./permessage-deflate');

/** An option of compression: a whole number of a range, or absent. */
function numberOf(name, value, least, most) {
  if (value === undefined || value === null) return undefined;
  const full = `perMessageDeflate.${name}`;
  if (typeof value !== 'number') throw new TypeError(`The option "${full}" is ${typeof value}; expected a number`);
  if (!(Number.isInteger(value) && value >= least && value <= most)) {
    throw new RangeError(`The option "${full}" is ${value}; expected ${least} to ${most}`);
  }
  return value;
}

/**
 * How messages are compressed, from the option `perMessageDeflate`; null if they are not. `settings`
 * is for the addon, but for a level of 0, which means that this side compresses nothing.
 */
function deflateOf(given) {
  if (!given) return null;
  const options = typeof given === 'object' ? given : {};
  const { clientMaxWindowBits, serverMaxWindowBits, zlibDeflateOptions, zlibInflateOptions, threshold } = options;
  if (typeof clientMaxWindowBits !== 'boolean') numberOf('clientMaxWindowBits', clientMaxWindowBits, 8, 15);
  if (serverMaxWindowBits !== false) numberOf('serverMaxWindowBits', serverMaxWindowBits, 8, 15);
  for (const [name, zlib] of Object.entries({ zlibDeflateOptions, zlibInflateOptions })) {
    // Both sides would have to have it, and no answer says so.
    if (zlib?.dictionary) throw notSupported(`The option "perMessageDeflate.${name}.dictionary"`);
  }
  const level = numberOf('zlibDeflateOptions.level', zlibDeflateOptions?.level, -1, 9);
  const least = Number(threshold === undefined ? THRESHOLD : threshold);
  return {
    options,
    isOff: level === 0,
    settings: {
      level: level > 0 ? level : undefined,
      memLevel: numberOf('zlibDeflateOptions.memLevel', zlibDeflateOptions?.memLevel, 1, 9),
      // Nothing is as long as what is no number.
      minBytes: level === 0 || Number.isNaN(least) ? Infinity : least,
      maxRatio: numberOf('maxRatio', options.maxRatio, 1, 2 ** 32 - 1),
    },
  };
}

module.exports = { deflateOf };
