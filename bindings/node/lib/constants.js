'use strict';
// Words that several files share.

module.exports = {
  CONNECTING: 0,
  OPEN: 1,
  CLOSING: 2,
  CLOSED: 3,
  READY_STATES: ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'],
  BINARY_TYPES: ['nodebuffer', 'arraybuffer', 'fragments', 'blob'],
  EMPTY_BUFFER: Buffer.alloc(0),
  // The kinds of records, as `src/batch.rs` has them.
  BINARY: 0,
  TEXT: 1,
  PING: 2,
  PONG: 3,
  // Parts of messages: this, with one bit each for text, the first part, the last part.
  CHUNK: 8,
};
