'use strict';
// The class WebSocket, client and server side.

const { EventEmitter } = require('node:events');
const { BINARY, BINARY_TYPES, CHUNK, CLOSED, CLOSING, CONNECTING, EMPTY_BUFFER, OPEN, PING, READY_STATES, TEXT } = require('./constants');
const { clientOf } = require('./client');
const {
  BAD_EXTENSIONS, KIND, commandError, fullError, handshakeError, inOwnWords, notSupported, receiveError,
} = require('./errors');
const { addEventTarget } = require('./events');
const { Outgoing, isBlob, lengthOf, toBytes } = require('./outgoing');
const { IS_WAITING, addon, awaitWrite, connections, flushSoon, guarded, records, start } = require('./native');
const { Compression, PerMessageDeflate, negotiate } = require('./permessage-deflate');
const { PreparedMessage } = require('./prepared');
const { makeResponse } = require('./request');
const { ConnectionSocket } = require('./socket');

/** The flags of a send, as `src/commands.rs` has them. */
const FLAG_TEXT = 1;
const FLAG_FRAGMENT = 2;
const FLAG_FIN = 4;
const FLAG_COMPRESS = 8;
const FLAG_LENT = 16;
/** These are not the addon's. */
const FLAG_PREPARED = 32;
const FLAG_FIRST = 64;

/** Smaller payloads are copied in any case. */
const LEAST_LENT = 4096;

/** The third argument of 'chunk', by its first and last bits. */
const PARTS = [0, 1, 2, 3].map((bits) => Object.freeze({ first: (bits & 1) !== 0, last: (bits & 2) !== 0 }));

/** The addon's commands, from the first WebSocket on. */
let commands = null;

function notOpen(state) {
  return new Error(`WebSocket is not open: readyState ${state} (${READY_STATES[state]})`);
}

function listOf(protocols) {
  if (protocols === undefined) return [];
  return Array.isArray(protocols) ? [...protocols] : [protocols];
}

class WebSocket extends EventEmitter {
  constructor(address, protocols, options) {
    super();
    this._readyState = CONNECTING;
    this._index = 0;
    this._generation = 0;
    this._isServer = address === null;
    this._server = null;
    this._binaryType = 'nodebuffer';
    this._protocol = '';
    // How this side compresses, if that is agreed on.
    this._compression = null;
    this._url = undefined;
    this._paused = false;
    this._isTerminated = false;
    this._isSynchronous = true;
    this._autoPong = true;
    // What was received and waits for `resume`, and whether somebody sees to it.
    this._held = null;
    this._isReleasing = false;
    this._errorEmitted = false;
    this._closeFrameReceived = false;
    this._closeFrameSent = false;
    this._facade = null;
    this._client = null;
    // What is sent and cannot go to the addon at once, and the callbacks of what did.
    this._outgoing = null;
    this._fragmented = false;
    this._fragmentFlags = 0;
    // Of each callback how much was sent, how many messages have to be written for it, and itself.
    this._callbacks = null;
    this._messagesSent = 0;
    this._isAwaiting = false;
    this._lateBytes = 0;
    commands ??= start();
    if (this._isServer) {
      if (options !== undefined) this._setUp(options);
      return;
    }
    if (typeof protocols === 'object' && protocols !== null && !Array.isArray(protocols)) {
      options = protocols;
      protocols = undefined;
    }
    this._connect(address, listOf(protocols === undefined ? options?.protocols : protocols), options);
  }

  _setUp(options) {
    this._autoPong = Boolean(options.autoPong);
    this._isSynchronous = Boolean(options.allowSynchronousEvents);
  }

  _connect(address, subprotocols, given) {
    const { href, place, options, connecting, deflate, isDeflateOff } = clientOf(address, subprotocols, given);
    this._url = href;
    this._setUp(options);
    this._client = { place, isOffering: subprotocols.length > 0, deflate, isDeflateOff };
    const outcome = addon.connect(connecting);
    if (outcome.kind !== 0) {
      if (outcome.kind === KIND.INVALID) throw new SyntaxError(outcome.detail);
      throw new Error(outcome.detail);
    }
    this._index = outcome.index;
    this._generation = outcome.generation;
    connections[outcome.index] = this;
  }

  /** A server has accepted a connection. */
  _attach(index, generation, server, protocol, facade, compression) {
    this._index = index;
    this._generation = generation;
    this._server = server;
    this._protocol = protocol;
    this._facade = facade;
    this._compression = compression;
    connections[index] = this;
  }

  get binaryType() {
    return this._binaryType;
  }

  set binaryType(type) {
    if (BINARY_TYPES.includes(type)) this._binaryType = type;
  }

  get bufferedAmount() {
    const waiting = this._outgoing === null ? 0 : this._outgoing.bytes;
    const isNothing = records[IS_WAITING] === 0 && records[0] === this._index;
    const queued = isNothing ? 0 : commands.buffered(this._index, this._generation);
    return this._lateBytes + waiting + queued;
  }

  /** What was agreed on about compression, or null. */
  get deflate() {
    return this._compression === null ? null : this._compression.agreed;
  }

  get extensions() {
    return this._compression === null ? '' : PerMessageDeflate.extensionName;
  }

  /** Makes a message that can be sent to many, compressed once. */
  static prepare(data, options) {
    return new PreparedMessage(data, options);
  }

  get isPaused() {
    return this._paused;
  }

  get protocol() {
    return this._protocol;
  }

  get readyState() {
    return this._readyState;
  }

  get url() {
    return this._url;
  }

  get _socket() {
    if (this._facade === null && this._readyState !== CONNECTING && this._generation !== 0) {
      this._facade = new ConnectionSocket(this._index, this._generation);
    }
    return this._facade;
  }

  setSocket() {
    throw notSupported('setSocket()');
  }

  send(data, options, cb) {
    if (this._readyState === CONNECTING) throw notOpen(CONNECTING);
    if (typeof options === 'function') {
      cb = options;
      options = undefined;
    }
    if (typeof data === 'number') data = data.toString();
    if (this._readyState !== OPEN) {
      this._sendLate(data, cb);
      return;
    }
    let flags = typeof data === 'string' ? FLAG_TEXT : 0;
    if (options || this._fragmented || this._compression !== null) {
      flags = this._flagsOf(flags, options || {}, data || EMPTY_BUFFER);
    }
    this._queueOrSend(flags, data || EMPTY_BUFFER, cb);
  }

  _flagsOf(flags, options, data) {
    this._checkMask(options.mask);
    // It was prepared with the others.
    if (data instanceof PreparedMessage) return FLAG_PREPARED;
    if ('binary' in options) flags = options.binary ? 0 : FLAG_TEXT;
    const isLast = !('fin' in options) || Boolean(options.fin);
    let first = 0;
    if (this._fragmented) {
      flags = this._fragmentFlags;
    } else {
      first = FLAG_FIRST;
      if (this._compression !== null && this._isCompressed(options, data)) flags |= FLAG_COMPRESS;
      if (isLast) return this._isLent(flags, options, data) ? flags | FLAG_LENT : flags;
    }
    this._fragmentFlags = flags;
    this._fragmented = !isLast;
    return flags | first | FLAG_FRAGMENT | (isLast ? FLAG_FIN : 0);
  }

  /** Whether a message is compressed, or the fragments of one that begins with this. */
  _isCompressed(options, data) {
    return (!('compress' in options) || Boolean(options.compress)) && this._compression.applies(data, lengthOf);
  }

  /** Whether data need not be copied; what is masked or compressed is written anew in any case. */
  _isLent(flags, options, data) {
    return options.copy === false && this._isServer && (flags & FLAG_COMPRESS) === 0
      && typeof data !== 'string' && lengthOf(data) >= LEAST_LENT;
  }

  ping(data, mask, cb) {
    this._control('ping', data, mask, cb);
  }

  pong(data, mask, cb) {
    this._control('pong', data, mask, cb);
  }

  _control(name, data, mask, cb) {
    if (this._readyState === CONNECTING) throw notOpen(CONNECTING);
    if (typeof data === 'function') {
      cb = data;
      data = mask = undefined;
    } else if (typeof mask === 'function') {
      cb = mask;
      mask = undefined;
    }
    if (typeof data === 'number') data = data.toString();
    if (this._readyState !== OPEN) {
      this._sendLate(data, cb);
      return;
    }
    this._checkMask(mask);
    if (!data) data = EMPTY_BUFFER;
    else if (typeof data === 'string') data = Buffer.from(data);
    else if (!isBlob(data)) data = toBytes(data);
    if (lengthOf(data) > 125) throw new RangeError('The data size must not be greater than 125 bytes');
    this._queueOrSend(name, data, cb);
  }

  /** RFC 6455 §5.3 leaves no choice. */
  _checkMask(mask) {
    if (mask !== undefined && Boolean(mask) === this._isServer) {
      throw notSupported(this._isServer ? 'Masking frames as a server' : 'Leaving frames unmasked as a client');
    }
  }

  /** `what` is the flags of a message, or the name of a control frame. */
  _queueOrSend(what, data, cb) {
    if (typeof data !== 'string' && !ArrayBuffer.isView(data) && !isBlob(data)) {
      if (data instanceof PreparedMessage) what = FLAG_PREPARED;
      else data = toBytes(data);
    }
    if (this._outgoing === null) {
      if (!isBlob(data)) {
        this._send(what, data, cb);
        return;
      }
      this._outgoing = new Outgoing(this);
    }
    this._outgoing.add(what, data, cb);
  }

  _send(what, data, cb) {
    let answer;
    if (typeof what === 'string') answer = commands[what](this._index, this._generation, data);
    else if (typeof data === 'string') answer = commands.sendText(this._index, this._generation, data, what);
    else if (what === FLAG_PREPARED) answer = commands.sendPrepared(this._index, this._generation, PreparedMessage._handleOf(data));
    else answer = commands.sendBytes(this._index, this._generation, data, what);
    if (answer !== undefined && !this._onAnswer(answer, what, data, cb)) return;
    const isMessage = typeof what === 'number' && (what & (FLAG_FRAGMENT | FLAG_FIN)) !== FLAG_FRAGMENT;
    if (isMessage) this._messagesSent += 1;
    if (typeof cb === 'function') {
      // What is no whole message is surely written when the next message is.
      const messages = isMessage ? this._messagesSent : this._messagesSent + 1;
      (this._callbacks ??= []).push(commands.progress(this._index, this._generation, 1), messages, cb);
      awaitWrite(this);
    }
  }

  /** Sees to the answer of a command to send, and tells whether it was accepted. */
  _onAnswer(answer, what, data, cb) {
    if (answer > 0) {
      flushSoon();
      return true;
    }
    if (answer === KIND.CLOSED) {
      // The addon knows of the end before its event.
      this._readyState = CLOSING;
      this._sendLate(data, cb);
      return false;
    }
    if (typeof answer === 'string') {
      this._onFull(fullError(answer), what, cb);
      return false;
    }
    if (answer === KIND.INVALID) throw commandError('The data of a text message is not UTF-8');
    if (answer === KIND.STATE) throw new Error('A prepared message cannot be sent before the fragmented message is finished');
    throw new Error(`wsabi cannot send: error ${answer}`);
  }

  /** Too much waits for this to be sent, too. */
  _onFull(error, what, cb) {
    if (typeof cb === 'function') process.nextTick(cb, error);
    if ((what & FLAG_FRAGMENT) === 0) return;
    // As if this part had not been sent: it can be sent again. Not if others are queued behind it.
    if (this._outgoing === null) this._fragmented = (what & FLAG_FIRST) === 0;
    else this._onUnreadable(error);
  }

  _sendLate(data, cb) {
    if (data) this._lateBytes += lengthOf(data);
    if (typeof cb === 'function') process.nextTick(cb, notOpen(this._readyState));
  }

  /** Calls the callbacks of what is in the kernel's hands. */
  _settleCallbacks() {
    if (this._callbacks === null) return;
    this._callDone(0, commands.progress(this._index, this._generation, 0));
  }

  /**
   * The connection has ended, and all but the last messages were written. Those of a broadcast are
   * not counted when they are sent, so where some of them were dropped this may take a message of our
   * own for unwritten that was written, never the other way round.
   */
  _settleLastCallbacks(isClean, dropped) {
    if (this._callbacks === null) return;
    this._callDone(1, isClean ? Infinity : this._messagesSent - dropped);
  }

  /** Calls the callbacks whose number at `column` is not above `most`. */
  _callDone(column, most) {
    const callbacks = this._callbacks;
    let done = 0;
    while (done < callbacks.length && callbacks[done + column] <= most) done += 3;
    if (done === 0) return;
    this._callbacks = done === callbacks.length ? null : callbacks.slice(done);
    for (let at = 2; at < done; at += 3) guarded(callbacks[at]);
  }

  _failCallbacks() {
    const waiting = [];
    if (this._callbacks !== null) {
      for (let at = 2; at < this._callbacks.length; at += 3) waiting.push(this._callbacks[at]);
      this._callbacks = null;
    }
    if (this._outgoing !== null) waiting.push(...this._outgoing.end());
    if (waiting.length === 0) return;
    const error = new Error('The connection was closed before the data was written');
    error.code = 'ERR_STREAM_DESTROYED';
    for (const cb of waiting) guarded(cb, error);
  }

  close(code, data) {
    if (this._readyState === CLOSED || this._readyState === CLOSING) return;
    if (this._readyState === CONNECTING) {
      this._abort('WebSocket was closed before the connection was established');
      return;
    }
    let reason = '';
    if (code !== undefined) {
      if (typeof code !== 'number' || !isCloseCode(code)) {
        throw new TypeError('First argument must be a valid error code number');
      }
      if (data !== undefined && data.length > 0) {
        const bytes = typeof data === 'string' ? Buffer.from(data) : toBytes(data);
        if (bytes.length > 123) throw new RangeError('The message must not be greater than 123 bytes');
        reason = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString();
      }
    }
    this._readyState = CLOSING;
    if (this._outgoing === null) this._close(code, reason);
    else this._outgoing.close(code, reason);
  }

  _close(code, reason) {
    const answer = commands.close(this._index, this._generation, code ?? 0, reason);
    if (answer === undefined || answer > 0) this._closeFrameSent = true;
    if (answer > 0) flushSoon();
  }

  terminate() {
    if (this._readyState === CLOSED) return;
    if (this._readyState === CONNECTING) {
      this._abort('WebSocket was closed before the connection was established');
      return;
    }
    this._readyState = CLOSING;
    this._isTerminated = true;
    this._terminate();
  }

  _terminate() {
    if (commands.terminate(this._index, this._generation) > 0) flushSoon();
  }

  /** Gives an opening handshake up; what becomes of the connection is nobody's business then. */
  _abort(message) {
    this._readyState = CLOSING;
    if (this._generation !== 0) {
      connections[this._index] = undefined;
      this._terminate();
    }
    process.nextTick(() => this._emitErrorAndClose(new Error(message)));
  }

  /** Tells why there is no connection, and that. */
  _emitErrorAndClose(error) {
    this._readyState = CLOSING;
    this._emitError(error, () => this._emitClose(1006, EMPTY_BUFFER));
  }

  pause() {
    if (this._readyState === CONNECTING || this._readyState === CLOSED) return;
    this._paused = true;
    commands.pause(this._index, this._generation);
  }

  resume() {
    if (this._readyState === CONNECTING || this._readyState === CLOSED) return;
    this._paused = false;
    if (this._held === null) this._read();
    else this._releaseSoon();
  }

  _read() {
    if (commands.resume(this._index, this._generation) > 0) flushSoon();
  }

  /** A message, ping or pong has come. */
  _receive(kind, data) {
    if (this._held === null && !this._paused && this._isSynchronous) {
      this._emitReceived(kind, data);
      return;
    }
    if (this._held === null) {
      this._held = [];
      commands.pause(this._index, this._generation);
    }
    this._held.push(kind, data);
    if (!this._paused) this._releaseSoon();
  }

  /** Goes on with what is held, after what is under way. */
  _releaseSoon() {
    if (this._isReleasing) return;
    this._isReleasing = true;
    const release = () => {
      this._isReleasing = false;
      this._release(false);
    };
    if (this._isSynchronous) process.nextTick(release);
    else setImmediate(release);
  }

  _release(isEnd) {
    while (this._held !== null && (isEnd || !this._paused)) {
      const [kind, data] = this._held.splice(0, 2);
      if (this._held.length === 0) this._held = null;
      guarded(() => this._emitReceived(kind, data));
      if (!this._isSynchronous && !isEnd && this._held !== null) {
        if (!this._paused) this._releaseSoon();
        return;
      }
    }
    if (this._held === null && !this._paused && !isEnd) this._read();
  }

  _emitReceived(kind, data) {
    if (kind === TEXT) this.emit('message', data, false);
    else if (kind === BINARY) this.emit('message', this._converted(data), true);
    else if (kind === PING) this._onPing(data);
    else if (kind >= CHUNK) this.emit('chunk', data, (kind & 1) === 0, PARTS[(kind >>> 1) & 3]);
    else this.emit('pong', data);
  }

  _onPing(data) {
    if (this._autoPong && this._readyState === OPEN
      && commands.answerPing(this._index, this._generation, data) > 0) {
      flushSoon();
    }
    this.emit('ping', data);
  }

  _converted(data) {
    switch (this._binaryType) {
      case 'nodebuffer':
        return data;
      case 'arraybuffer':
        return data.buffer.slice(data.byteOffset, data.byteOffset + data.length);
      case 'blob':
        return new Blob([data]);
      default:
        return data.length === 0 ? [] : [data];
    }
  }

  /** The opening handshake of a client is complete. */
  _onOpened(protocol, status, statusMessage, rawHeaders) {
    if (this._readyState !== CONNECTING) return;
    if (this.listenerCount('upgrade') > 0) {
      const facade = this._facade = new ConnectionSocket(this._index, this._generation);
      this.emit('upgrade', makeResponse(facade, status, statusMessage, rawHeaders));
      if (this._readyState !== CONNECTING) return;
    }
    if (protocol === null && this._client.isOffering) {
      this._abort('Server sent no subprotocol');
      return;
    }
    if (this._client.deflate !== null && !this._agree(this._client, rawHeaders)) {
      this._abort(BAD_EXTENSIONS);
      return;
    }
    this._client = null;
    if (protocol !== null) this._protocol = protocol;
    this._opened();
  }

  /** Takes note of what a server has answered about compression; tells whether that is acceptable. */
  _agree({ deflate, isDeflateOff }, rawHeaders) {
    const values = rawHeaders.filter((_, at) => at % 2 === 1
      && rawHeaders[at - 1].toLowerCase() === 'sec-websocket-extensions');
    if (values.length === 0) return true;
    try {
      // The addon has read it already, and goes by the rules of the RFC; these are the options'.
      if (negotiate(deflate, values.join(', '))) this._compression = new Compression(deflate, isDeflateOff);
      return true;
    } catch {
      return false;
    }
  }

  _opened() {
    this._readyState = OPEN;
    this.emit('open');
  }

  /** The peer's Close frame has come, and is about to be answered. */
  _onClosing() {
    this._closeFrameReceived = true;
    this._closeFrameSent = true;
    if (this._readyState === OPEN) this._readyState = CLOSING;
  }

  /** The peer broke a rule or a limit; the connection is about to be failed. */
  _onFailed(kind, detail) {
    // What came before it comes before it, even to one that is paused: there is nothing after.
    this._release(true);
    this._readyState = CLOSING;
    this._emitError(receiveError(kind, detail));
  }

  /** Of a Blob that was to be sent something is missing, and cannot be made up for. */
  _onUnreadable(error) {
    if (this._readyState === CLOSED) return;
    this._readyState = CLOSING;
    this._terminate();
    this._emitError(error);
  }

  /** The connection has ended. */
  _onClosed(code, reason, kind, osError, detail, status, dropped) {
    // What was received and is held comes before the end, to one that is paused too, as with `ws`.
    if (this._client === null) this._readyState = CLOSING;
    this._release(true);
    if (this._client !== null) {
      const error = handshakeError(kind, osError, detail, status, this._client);
      this._emitErrorAndClose(error);
      return;
    }
    let text = reason;
    if (kind === KIND.KEEPALIVE_TIMEOUT || kind === KIND.IDLE_TIMEOUT) text = inOwnWords(detail);
    this._closeFrameReceived = kind === 0;
    this._closeFrameSent = kind === 0;
    this._settleLastCallbacks(kind === 0, dropped);
    const emitClose = () => this._emitClose(code, text === '' ? EMPTY_BUFFER : ownBytes(text));
    // Not for what the peer has sent last, so nothing was told yet.
    if (kind === KIND.OVER_BUDGET) this._emitError(receiveError(kind, detail), emitClose);
    else guarded(emitClose);
  }

  /** Emits an error, and does what follows. */
  _emitError(error, follow = () => {}) {
    if (this._errorEmitted) {
      follow();
      return;
    }
    this._errorEmitted = true;
    if (this.listenerCount('error') > 0) {
      guarded(() => this.emit('error', error));
      guarded(follow);
      return;
    }
    // Thrown from a callback of Node's own, where the report of an error that nobody listens to
    // says so.
    setImmediate(() => {
      setImmediate(follow);
      this.emit('error', error);
    });
  }

  _emitClose(code, reason) {
    const { _facade: facade, _server: server } = this;
    this._readyState = CLOSED;
    this._client = null;
    // No command finds a connection of these numbers.
    this._index = this._generation = 0;
    this._failCallbacks();
    if (facade !== null) guarded(() => facade._onClosed());
    if (server !== null) server._forget(this);
    this.emit('close', code, reason);
  }
}

/** The codes that may be sent (RFC 6455 §7.4). */
function isCloseCode(code) {
  return Number.isInteger(code) && (
    (code >= 1000 && code <= 1014 && ![1004, 1005, 1006].includes(code)) || (code >= 3000 && code <= 4999)
  );
}

/** Bytes that are not of Node's pool, which a WebSocket that is kept would keep. */
function ownBytes(text) {
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text));
  bytes.write(text);
  return bytes;
}

READY_STATES.forEach((name, value) => {
  Object.defineProperty(WebSocket, name, { enumerable: true, value });
  Object.defineProperty(WebSocket.prototype, name, { enumerable: true, value });
});
for (const name of ['binaryType', 'bufferedAmount', 'deflate', 'extensions', 'isPaused', 'protocol', 'readyState', 'url']) {
  Object.defineProperty(WebSocket.prototype, name, { enumerable: true });
}
addEventTarget(WebSocket.prototype);

module.exports = WebSocket;
