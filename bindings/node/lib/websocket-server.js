'use strict';
// The class WebSocketServer.

const { createHash } = require('node:crypto');
const { EventEmitter } = require('node:events');
const { STATUS_CODES } = require('node:http');
const { debuglog } = require('node:util');
const { deflateOf } = require('./deflate-options');
const { BAD_OFFER, KIND, inOwnWords, notSupported, requestError, systemError } = require('./errors');
const { addon, connections, flushSoon, servers, start } = require('./native');
const { DEFAULTS, bytesOf, limitsOf, refuseNotYet } = require('./options');
const { Compression, PerMessageDeflate, negotiate } = require('./permessage-deflate');
const { PreparedMessage } = require('./prepared');
const { makeRequest } = require('./request');
const { ConnectionSocket } = require('./socket');
const WebSocket = require('./websocket');

/** What is no event can be seen with NODE_DEBUG=wsabi in the environment. */
const debug = debuglog('wsabi');

const RUNNING = 0;
const CLOSING = 1;
const CLOSED = 2;

/** RFC 6455 §1.3. */
const GUID = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11';
/** Fields of the response that are wsabi's own. */
const OWN_FIELDS = ['upgrade', 'connection', 'sec-websocket-accept', 'sec-websocket-extensions', 'sec-websocket-protocol'];

class WebSocketServer extends EventEmitter {
  constructor(options, callback) {
    super();
    options = {
      ...DEFAULTS,
      perMessageDeflate: false,
      handleProtocols: null,
      clientTracking: true,
      verifyClient: null,
      noServer: false,
      backlog: null,
      server: null,
      host: null,
      path: null,
      port: null,
      WebSocket,
      ...options,
    };
    const { noServer, port, server } = options;
    if ([port !== null && port !== undefined, server, noServer].filter(Boolean).length !== 1) {
      throw new TypeError('One and only one of the "port", "server", or "noServer" options must be specified');
    }
    refuseNotYet('server', options);
    if (options.perMessageDeflate === true) options.perMessageDeflate = {};
    this.options = options;
    this._compression = deflateOf(options.perMessageDeflate);
    this._state = RUNNING;
    this._number = 0;
    this._address = null;
    this._isDualStack = false;
    if (options.clientTracking) this.clients = new Set();
    if (callback) this.once('listening', callback);
    this._listen();
  }

  _listen() {
    const { host, backlog, reusePort } = this.options;
    const port = portOf(this.options.port);
    const listening = {
      port,
      limits: limitsOf(this.options, this._compression),
      maxBufferedBytes: bytesOf('maxBufferedBytes', this.options.maxBufferedBytes),
    };
    if (host) listening.host = String(host);
    if (typeof backlog === 'number' && backlog > 0) listening.backlog = backlog;
    if (reusePort) listening.reusePort = true;
    start();
    const outcome = addon.listen(listening);
    if (outcome.kind !== 0) {
      process.nextTick(() => this.emit('error', listenError(outcome, host, port)));
      return;
    }
    this._number = outcome.index + outcome.generation * 2 ** 32;
    servers.set(this._number, this);
    this._address = addon.serverAddress(this._number);
    this._isDualStack = !host && this._address?.family === 'IPv6';
    process.nextTick(() => {
      if (this._state === RUNNING) this.emit('listening');
    });
  }

  address() {
    if (this._address === null || this._state !== RUNNING) return null;
    const { address, family, port } = this._address;
    return { address, family, port };
  }

  close(cb) {
    if (this._state === CLOSED) {
      if (cb) this.once('close', () => cb(new Error('The server is not running')));
      process.nextTick(() => this._emitClose());
      return;
    }
    if (cb) this.once('close', cb);
    if (this._state === CLOSING) return;
    this._state = CLOSING;
    if (this._number === 0) {
      process.nextTick(() => this._emitClose());
      return;
    }
    if (addon.closeServer(this._number).wantsFlush) flushSoon();
  }

  /**
   * Sends a message to all clients, or all but one, and tells how many have accepted it, how many of
   * those have much to write, and how many have refused it, because their backlog is full or they
   * wait for the rest of another.
   */
  broadcast(data, options) {
    const { except, ...how } = options ?? {};
    if (except !== undefined && except !== null && !(except instanceof WebSocket)) {
      throw new TypeError('The option "except" is not a WebSocket');
    }
    const message = data instanceof PreparedMessage ? data : new PreparedMessage(data, how);
    const clients = [];
    const numbers = [];
    let behind = 0;
    for (const client of this.clients ?? connections) {
      if (client === except || client?._server !== this || client.readyState !== WebSocket.OPEN) continue;
      if (client._outgoing !== null) {
        // It follows a Blob that is being read.
        client.send(message);
        behind += 1;
        continue;
      }
      clients.push(client);
      numbers.push(client._index, client._generation);
    }
    const pairs = new Uint32Array(numbers);
    const reached = new Uint32Array(3);
    const answer = start().broadcast(PreparedMessage._handleOf(message), pairs, reached);
    if (answer > 0) flushSoon();
    else if (answer < 0) throw new Error(`wsabi cannot broadcast: error ${answer}`);
    clients.forEach((client, at) => {
      client._messagesSent += pairs[2 * at + 1];
    });
    const [sent, backpressure, refused] = reached;
    return { sent: sent + behind, backpressure, refused };
  }

  shouldHandle(request) {
    const { path } = this.options;
    if (!path) return true;
    const query = request.url.indexOf('?');
    return (query === -1 ? request.url : request.url.slice(0, query)) === path;
  }

  handleUpgrade() {
    throw notSupported('handleUpgrade()');
  }

  _emitClose() {
    this._state = CLOSED;
    this.emit('close');
  }

  /**
   * A client asks for a WebSocket; `refusal` says why the addon is to refuse it, if it is. Tells
   * whether the request is answered here.
   */
  _onUpgrade(index, generation, refusal, ...request) {
    const socket = new ConnectionSocket(index, generation, this._isDualStack);
    const pending = { index, generation, socket, request: makeRequest(socket, ...request) };
    if (refusal !== '') {
      const error = requestError(refusal);
      if (error.message !== BAD_OFFER) return this._onBadRequest(pending, error);
      this._refuse(pending, error);
      return true;
    }
    try {
      this._judge(pending);
    } catch (error) {
      respond(pending, 500);
      throw error;
    }
    return true;
  }

  /** A listener of 'wsClientError' answers by writing a response to the socket. */
  _onBadRequest(pending, error) {
    if (this.listenerCount('wsClientError') === 0) return false;
    const { request, socket } = pending;
    socket._answer = (bytes) => respondWith(pending, bytes);
    this.emit('wsClientError', error, socket, request);
    return true;
  }

  /** Refuses a request that is not valid with what `ws` says of it, unless a listener answers. */
  _refuse(pending, error) {
    if (!this._onBadRequest(pending, error)) respond(pending, 400, error.message);
  }

  _judge(pending) {
    const { request } = pending;
    if (!this.shouldHandle(request)) {
      respond(pending, 400);
      return;
    }
    const offered = offeredBy(request);
    if (offered === null) {
      this._refuse(pending, requestError('Sec-WebSocket-Protocol'));
      return;
    }
    pending.offered = offered;
    if (!this._negotiate(pending)) {
      this._refuse(pending, new Error(BAD_OFFER));
      return;
    }
    if (!this.options.verifyClient) {
      this._accept(pending);
      return;
    }
    const info = { origin: request.headers.origin, secure: false, req: request };
    if (this.options.verifyClient.length !== 2) {
      if (this.options.verifyClient(info)) this._accept(pending);
      else respond(pending, 401);
      return;
    }
    let isAnswered = false;
    this.options.verifyClient(info, (verified, code, message, headers) => {
      if (isAnswered) return;
      isAnswered = true;
      if (verified) this._accept(pending);
      else respond(pending, code || 401, message || undefined, headers);
    });
  }

  /** Judges what a client offers of compression; tells whether the request is acceptable. */
  _negotiate(pending) {
    pending.deflate = null;
    const header = pending.request.headers['sec-websocket-extensions'];
    if (this._compression === null || header === undefined) return true;
    const deflate = new PerMessageDeflate({ ...this._compression.options, isServer: true });
    try {
      if (negotiate(deflate, header)) pending.deflate = deflate;
      return true;
    } catch {
      return false;
    }
  }

  _accept(pending) {
    const { index, generation, offered, deflate, request, socket } = pending;
    if (this._state !== RUNNING) {
      respond(pending, 503);
      return;
    }
    const websocket = new this.options.WebSocket(null, undefined, this.options);
    let subprotocol = '';
    if (offered.size > 0) {
      const chosen = this.options.handleProtocols
        ? this.options.handleProtocols(offered, request)
        : offered.values().next().value;
      if (chosen) subprotocol = String(chosen);
      if (chosen && !offered.has(subprotocol)) {
        // A client could bring this about, so it is no exception. It would have to fail (RFC 6455
        // §4.1), and is told why.
        respond(pending, 500, `The server chose the subprotocol ${subprotocol}, which was not offered`);
        return;
      }
    }
    const extension = deflate?._header() ?? null;
    const fields = this._moreFields(request, subprotocol, extension);
    const outcome = addon.accept(index, generation, subprotocol === '' ? null : subprotocol, fields, extension);
    if (outcome.kind !== 0) {
      // The client has gone while it was verified, or was refused meanwhile.
      if (outcome.kind !== KIND.INVALID) return;
      throw new Error(outcome.detail);
    }
    if (outcome.wantsFlush) flushSoon();
    const compression = deflate && new Compression(deflate, this._compression.isOff);
    websocket._attach(index, generation, this, subprotocol, socket, compression);
    websocket._opened();
    this.clients?.add(websocket);
    this.emit('connection', websocket, request);
  }

  /** Fields that listeners of 'headers' add to the response: names and values in turn. */
  _moreFields(request, subprotocol, extension) {
    if (this.listenerCount('headers') === 0) return [];
    const key = request.headers['sec-websocket-key'];
    const lines = [
      'HTTP/1.1 101 Switching Protocols',
      'Upgrade: websocket',
      'Connection: Upgrade',
      `Sec-WebSocket-Accept: ${createHash('sha1').update(key + GUID).digest('base64')}`,
    ];
    if (subprotocol !== '') lines.push(`Sec-WebSocket-Protocol: ${subprotocol}`);
    if (extension !== null) lines.push(`Sec-WebSocket-Extensions: ${extension}`);
    const own = new Set(lines);
    this.emit('headers', lines, request);
    const fields = [];
    for (const line of lines) {
      if (own.has(line)) continue;
      const colon = line.indexOf(':');
      const name = colon === -1 ? line : line.slice(0, colon);
      if (colon === -1 || OWN_FIELDS.includes(name.toLowerCase())) {
        throw new Error(`A listener of 'headers' has made the line ${JSON.stringify(line)}; expected new lines of the form "Name: value"`);
      }
      fields.push(name, line.slice(colon + 1).trim());
    }
    return fields;
  }

  /** A WebSocket of this server is closed. */
  _forget(websocket) {
    this.clients?.delete(websocket);
  }

  /** Connections cannot be accepted, or an opening handshake failed before there was a request. */
  _onRefused(kind, osError, detail, peer) {
    debug('%s: %s', peer, inOwnWords(detail));
    // Those that failed are no event, as with `ws`; and those that cannot be accepted wait: a server
    // that nobody watches is not ended for that.
    if (kind === KIND.IO && this.listenerCount('error') > 0) {
      this.emit('error', systemError('accept', osError, detail, { address: peer }));
    }
  }

  _onStopped() {
    this._emitClose();
  }
}

/** The subprotocols that a request offers; null if there is an empty one among them, which `ws` refuses. */
function offeredBy(request) {
  const value = request.headers['sec-websocket-protocol'];
  if (value === undefined) return new Set();
  const names = value.split(',').map((name) => name.trim());
  return names.includes('') ? null : new Set(names);
}

/** Answers a request with a status. */
function respond({ index, generation, socket }, status, message = STATUS_CODES[status] ?? '', headers = {}) {
  socket._answer = null;
  const fields = new Map([['content-type', ['Content-Type', 'text/html']]]);
  for (const [name, value] of Object.entries(headers)) {
    const lower = name.toLowerCase();
    // The addon ends the connection and counts the body in any case.
    if (lower === 'connection' || lower === 'content-length') continue;
    const values = Array.isArray(value) ? value : [value];
    fields.set(lower, values.flatMap((one) => [name, String(one).trim()]));
  }
  const flat = [...fields.values()].flat();
  const body = Buffer.isBuffer(message) ? message : Buffer.from(String(message));
  const outcome = addon.respond(index, generation, status, flat, body);
  if (outcome.wantsFlush) flushSoon();
  if (outcome.kind === KIND.INVALID) {
    addon.respond(index, generation, 500, [], Buffer.alloc(0));
    throw new Error(outcome.detail);
  }
}

/** Answers a request with the bytes of a response, as code for `ws` writes them to the socket. */
function respondWith(pending, bytes) {
  const text = bytes.toString('latin1');
  const end = text.indexOf('\r\n\r\n');
  const [first, ...lines] = text.slice(0, end === -1 ? text.length : end).split('\r\n');
  const status = /^HTTP\/1\.[01] ([2-5]\d\d)(?: |$)/.exec(first)?.[1];
  if (status === undefined) {
    pending.socket.destroy();
    return;
  }
  const headers = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    if (colon > 0) headers[line.slice(0, colon)] = line.slice(colon + 1);
  }
  respond(pending, Number(status), end === -1 ? '' : bytes.subarray(end + 4), headers);
}

function portOf(port) {
  const number = typeof port === 'string' && port.trim() !== '' ? Number(port) : port;
  if (!Number.isInteger(number) || number < 0 || number > 65535) {
    const error = new RangeError(`options.port should be >= 0 and < 65536. Received ${String(port)}.`);
    error.code = 'ERR_SOCKET_BAD_PORT';
    throw error;
  }
  return number;
}

function listenError({ kind, osError, detail }, host, port) {
  if (kind === KIND.RESOLVE) {
    return Object.assign(new Error(`getaddrinfo ENOTFOUND ${host}`), {
      code: 'ENOTFOUND', errno: -3008, syscall: 'getaddrinfo', hostname: host,
    });
  }
  if (osError === 0) return new Error(detail);
  return systemError('listen', osError, detail, { address: host ?? '::', port });
}

module.exports = WebSocketServer;
