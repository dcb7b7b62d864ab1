'use strict';
// Options: those of `ws` with its defaults, wsabi's own, and those that are not there yet.

const { constants } = require('node:buffer');
const { notSupported } = require('./errors');
const { THRESHOLD } = require('./permessage-deflate');

/** The numbers of a record have 32 bits. */
const MOST = Math.min(constants.MAX_LENGTH, 2 ** 32 - 1);

const DEFAULTS = {
  allowSynchronousEvents: true,
  autoPong: true,
  closeTimeout: 30_000,
  maxBufferedChunks: 256 * 1024,
  maxFragments: 16 * 1024,
  maxPayload: 100 * 1024 * 1024,
  maxPendingAutoPongs: 60,
  skipUTF8Validation: false,
};

/** Options that are accepted when they are off, as `ws` has them by default. */
const NOT_YET = {
  both: ['skipUTF8Validation'],
  server: ['server', 'noServer'],
  client: [
    'agent', 'createConnection', 'family', 'finishRequest', 'followRedirects', 'generateMask',
    'hints', 'localAddress', 'localPort', 'lookup',
  ],
};

function refuseNotYet(role, options) {
  for (const name of [...NOT_YET[role], ...NOT_YET.both]) {
    if (options[name]) throw notSupported(`The option "${name}"`);
  }
}

/** wsabi's own limits, and the least value of each. */
const OWN = [
  ['handshakeTimeout', 1],
  ['holdTimeout', 1],
  ['idleTimeout', 1],
  ['maxHandshakeBytes', 256],
  ['maxHandshakeHeaders', 1],
  ['maxPendingHandshakes', 1],
  ['pingInterval', 1],
  ['pingTimeout', 1],
];

/** The bytes that a number may say, as the addon takes them. */
function bytesOf(name, value) {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number') throw new TypeError(`The option "${name}" is ${typeof value}; expected a number`);
  if (!(value >= 1 && value <= Number.MAX_SAFE_INTEGER)) {
    throw new RangeError(`The option "${name}" is ${value}; expected 1 to ${Number.MAX_SAFE_INTEGER}`);
  }
  return value;
}

/** An option of compression: a whole number of a range, or absent. */
function deflateNumber(name, value, least, most) {
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
  if (typeof clientMaxWindowBits !== 'boolean') deflateNumber('clientMaxWindowBits', clientMaxWindowBits, 8, 15);
  if (serverMaxWindowBits !== false) deflateNumber('serverMaxWindowBits', serverMaxWindowBits, 8, 15);
  for (const [name, zlib] of Object.entries({ zlibDeflateOptions, zlibInflateOptions })) {
    // Both sides would have to have it, and no answer says so.
    if (zlib?.dictionary) throw notSupported(`The option "perMessageDeflate.${name}.dictionary"`);
  }
  const level = deflateNumber('zlibDeflateOptions.level', zlibDeflateOptions?.level, -1, 9);
  const least = Number(threshold === undefined ? THRESHOLD : threshold);
  return {
    options,
    isOff: level === 0,
    settings: {
      level: level > 0 ? level : undefined,
      memLevel: deflateNumber('zlibDeflateOptions.memLevel', zlibDeflateOptions?.memLevel, 1, 9),
      // Nothing is as long as what is no number.
      minBytes: level === 0 || Number.isNaN(least) ? Infinity : least,
      maxRatio: deflateNumber('maxRatio', options.maxRatio, 1, 2 ** 32 - 1),
    },
  };
}

/** A limit of `ws`: an integer of 32 bits, of which 0 and less is no limit. */
function limit(value, none) {
  return (value | 0) > 0 ? value | 0 : none;
}

/** The limits of connections as the addon takes them; `deflate` is what `deflateOf` makes. */
function limitsOf(options, deflate) {
  const limits = {
    deflate: deflate?.settings,
    stream: Boolean(options.stream),
    autoPong: Boolean(options.autoPong),
    closeTimeout: Math.max(1, Number(options.closeTimeout) || 0),
    maxMessageBytes: limit(options.maxPayload, MOST),
    // The crate counts those that follow the first.
    maxFragments: Math.max(1, limit(options.maxFragments, 2 ** 32) - 1),
    noDelay: true,
  };
  for (const [name, least] of OWN) {
    const value = options[name];
    if (value === undefined || value === null) continue;
    // As with `ws` there is no time limit then but wsabi's own.
    if (name === 'handshakeTimeout' && value === 0) continue;
    if (typeof value !== 'number') {
      throw new TypeError(`The option "${name}" is ${typeof value}; expected a number`);
    }
    if (!(value >= least && value <= 2 ** 32 - 1)) {
      throw new RangeError(`The option "${name}" is ${value}; expected ${least} to ${2 ** 32 - 1}`);
    }
    limits[name] = value;
  }
  return limits;
}

module.exports = { DEFAULTS, bytesOf, deflateOf, limitsOf, refuseNotYet };
