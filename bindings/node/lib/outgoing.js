'use strict';
// What is sent: its bytes, and its order while a Blob is read, which takes its time.

const { guarded } = require('./native');

function isBlob(value) {
  return typeof value !== 'string' && !ArrayBuffer.isView(value) && value instanceof Blob;
}

/** A view of what `send` was given, as `ws` takes it. */
function toBytes(data) {
  if (ArrayBuffer.isView(data)) return data;
  return Buffer.from(data);
}

/** How many bytes data has that is not sent. */
function lengthOf(data) {
  if (isBlob(data)) return data.size;
  return typeof data === 'string' ? Buffer.byteLength(data) : data.byteLength ?? toBytes(data).byteLength;
}

/** What waits for a Blob, in order, the Blob first. */
class Outgoing {
  #socket;
  #entries = [];
  #close = null;

  constructor(socket) {
    this.#socket = socket;
    this.bytes = 0;
  }

  add(what, data, cb) {
    const length = lengthOf(data);
    this.#entries.push({ what, data, cb, length });
    this.bytes += length;
    if (this.#entries.length === 1) this.#read();
  }

  /** Closes when everything before is sent. */
  close(code, reason) {
    this.#close = { code, reason };
  }

  /** The connection has ended; gives the callbacks of what was not sent. */
  end() {
    const callbacks = this.#entries.map((entry) => entry.cb).filter((cb) => typeof cb === 'function');
    this.#entries = [];
    this.bytes = 0;
    return callbacks;
  }

  #read() {
    const [entry] = this.#entries;
    entry.data.arrayBuffer().then(
      (content) => this.#go(entry, Buffer.from(content)),
      (error) => this.#fail(entry, error),
    );
  }

  /** Sends a Blob that was read, and what follows up to the next. */
  #go(blob, content) {
    if (this.#entries[0] !== blob) return;
    blob.data = content;
    while (this.#entries.length > 0) {
      const [{ what, data, cb, length }] = this.#entries;
      if (isBlob(data)) {
        this.#read();
        return;
      }
      this.#entries.shift();
      this.bytes -= length;
      guarded(() => this.#socket._send(what, data, cb));
    }
    this.#socket._outgoing = null;
    if (this.#close !== null) this.#socket._close(this.#close.code, this.#close.reason);
  }

  #fail(entry, error) {
    if (this.#entries[0] !== entry) return;
    const socket = this.#socket;
    socket._outgoing = null;
    for (const cb of this.end()) guarded(cb, error);
    guarded(() => socket._onUnreadable(error));
  }
}

module.exports = { Outgoing, isBlob, lengthOf, toBytes };
