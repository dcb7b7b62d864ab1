'use strict';
// What stands in for a connection's net.Socket: addresses, and its end. The transport itself is the
// addon's.

const { EventEmitter } = require('node:events');
const { addon, flushSoon, start } = require('./native');
const { notSupported } = require('./errors');

const NO_ADDRESS = {};

class ConnectionSocket extends EventEmitter {
  #index;
  #generation;
  #isDualStack;
  #peer = null;
  #local = null;
  #written = [];

  /** `isDualStack` tells that IPv4 peers come to an IPv6 socket, where Node has IPv6 addresses for them. */
  constructor(index, generation, isDualStack = false) {
    super();
    this.#index = index;
    this.#generation = generation;
    this.#isDualStack = isDualStack;
    this.destroyed = false;
    // What answers the request that waits, while one does: a function of the bytes of a response.
    this._answer = null;
  }

  #address(isLocal) {
    const found = addon.connectionAddress(this.#index, this.#generation, isLocal);
    if (!this.#isDualStack || found?.family !== 'IPv4') return found;
    return { address: `::ffff:${found.address}`, family: 'IPv6', port: found.port };
  }

  get #peerAddress() {
    this.#peer ??= this.#address(false);
    return this.#peer ?? NO_ADDRESS;
  }

  get #localAddress() {
    this.#local ??= this.#address(true);
    return this.#local ?? NO_ADDRESS;
  }

  get remoteAddress() {
    return this.#isPipe ? undefined : this.#peerAddress.address;
  }

  get remotePort() {
    return this.#isPipe ? undefined : this.#peerAddress.port;
  }

  get remoteFamily() {
    return this.#isPipe ? undefined : this.#peerAddress.family;
  }

  get localAddress() {
    return this.#isPipe ? undefined : this.#localAddress.address;
  }

  get localPort() {
    return this.#isPipe ? undefined : this.#localAddress.port;
  }

  get localFamily() {
    return this.#isPipe ? undefined : this.#localAddress.family;
  }

  get #isPipe() {
    return this.#peerAddress.family === 'pipe';
  }

  get encrypted() {
    return undefined;
  }

  get authorized() {
    return undefined;
  }

  get readable() {
    return !this.destroyed;
  }

  get writable() {
    return !this.destroyed;
  }

  address() {
    const { address, family, port } = this.#isPipe ? NO_ADDRESS : this.#localAddress;
    return address === undefined ? {} : { address, family, port };
  }

  /** Ends the connection without a closing handshake. */
  destroy() {
    if (!this.destroyed) {
      this.destroyed = true;
      this._answer = null;
      if (start().terminate(this.#index, this.#generation) > 0) flushSoon();
    }
    return this;
  }

  destroySoon() {
    this.destroy();
  }

  /** Writes a part of the response to a request that waits; the transport is otherwise the addon's. */
  write(chunk, encoding) {
    if (this._answer === null) throw notSupported('Writing to the socket of a WebSocket');
    this.#written.push(typeof chunk === 'string' ? Buffer.from(chunk, encoding) : chunk);
    return true;
  }

  /** Answers a request that waits with what was written; otherwise as `destroy`. */
  end(chunk, encoding) {
    if (this._answer === null) return this.destroy();
    if (chunk !== undefined && chunk !== null && typeof chunk !== 'function') this.write(chunk, encoding);
    const answer = this._answer;
    this._answer = null;
    answer(Buffer.concat(this.#written));
    return this;
  }

  // The addon has TCP_NODELAY set, watches for silence itself, and keeps the process alive.
  setNoDelay() {
    return this;
  }

  setKeepAlive() {
    return this;
  }

  setTimeout() {
    return this;
  }

  ref() {
    return this;
  }

  unref() {
    return this;
  }

  /** The connection has ended. */
  _onClosed() {
    this.destroyed = true;
    this.emit('close', false);
  }
}

module.exports = { ConnectionSocket };
