'use strict';
// A message that is made once and sent to many.

const { KIND, commandError } = require('./errors');
const { start } = require('./native');
const { isBlob, toBytes } = require('./outgoing');

/** The flags of `prepare`, as `src/prepared.rs` has them. */
const FLAG_TEXT = 1;
const FLAG_ALWAYS = 8;
const FLAG_NEVER = 16;

class PreparedMessage {
  #handle;

  constructor(data, options) {
    const { binary, compress } = options ?? {};
    if (typeof data === 'number') data = data.toString();
    if (isBlob(data)) throw new TypeError('A Blob cannot be prepared; expected its arrayBuffer()');
    const isText = binary === undefined ? typeof data === 'string' : !binary;
    const bytes = typeof data === 'string' ? data : toBytes(data ?? '');
    let flags = isText ? FLAG_TEXT : 0;
    if (compress !== undefined) flags |= compress ? FLAG_ALWAYS : FLAG_NEVER;
    const made = start().prepare(bytes, flags);
    if (made === KIND.INVALID) throw commandError('The data of a text message is not UTF-8');
    if (typeof made === 'number') throw new Error('There is no memory for the message');
    this.#handle = made;
    this.isBinary = !isText;
    this.byteLength = typeof bytes === 'string' ? Buffer.byteLength(bytes) : bytes.byteLength;
    Object.freeze(this);
  }

  /** What the addon knows it by. */
  static _handleOf(message) {
    return message.#handle;
  }
}

module.exports = { PreparedMessage };
