'use strict';
// Options: those of `ws` with its defaults, wsabi's own, and those that are not there yet.

const { constants } = require('node:buffer');
const { notSupported } = require('./errors');

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
function bytesOf(name, value, least = 1) {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== 'number') throw new TypeError(`The option "${name}" is ${typeof value}; expected a number`);
  if (!(value >= least && value <= Number.MAX_SAFE_INTEGER)) {
    throw new RangeError(`The option "${name}" is ${value}; expected ${least} to ${Number.MAX_SAFE_INTEGER}`);
  }
  return value;
}

/** A limit of `ws`: an integer of 32 bits, of which 0 and less is no limit. */
function limit(value, none) {
  return (value | 0) > 0 ? value | 0 : none;
}

/** How much may wait to be sent, and from where on and until when that is much. */
function backlogOf(options) {
  const highWaterBytes = bytesOf('highWaterBytes', options.highWaterBytes);
  const lowWaterBytes = bytesOf('lowWaterBytes', options.lowWaterBytes, 0);
  const maxBacklogBytes = bytesOf('maxBacklogBytes', options.maxBacklogBytes);
  if (lowWaterBytes !== undefined && highWaterBytes === undefined) {
    throw new TypeError('The option "lowWaterBytes" has no meaning without "highWaterBytes"');
  }
  const above = (low, value, high, most) => new RangeError(
    `The option "${low}" is ${value}, which is more than "${high}", ${most}; expected at most that`,
  );
  if (lowWaterBytes > highWaterBytes) throw above('lowWaterBytes', lowWaterBytes, 'highWaterBytes', highWaterBytes);
  if (highWaterBytes > maxBacklogBytes) throw above('highWaterBytes', highWaterBytes, 'maxBacklogBytes', maxBacklogBytes);
  return { highWaterBytes, lowWaterBytes, maxBacklogBytes };
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
    ...backlogOf(options),
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

module.exports = { DEFAULTS, bytesOf, limitsOf, refuseNotYet };
