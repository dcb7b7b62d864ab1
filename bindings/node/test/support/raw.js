'use strict';
// Peers without a WebSocket library: plain sockets that say exactly what a test wants to be said.

const { createHash, randomBytes } = require('node:crypto');
const net = require('node:net');
const { OPCODE, FrameReader, closePayload, frame } = require('./frames');

const HEAD_END = Buffer.from('\r\n\r\n');

function acceptValue(key) {
  return createHash('sha1').update(key + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
}

/** An HTTP head: its first line, and its fields as they were written and by lower-case name. */
function parseHead(text) {
  const [first, ...lines] = text.split('\r\n');
  const fields = lines.filter(Boolean).map((line) => {
    const colon = line.indexOf(':');
    return [line.slice(0, colon), line.slice(colon + 1).trim()];
  });
  const headers = {};
  for (const [name, value] of fields) headers[name.toLowerCase()] ??= value;
  return { first, fields, headers };
}

/** Reads until a head is complete; what came behind it is `rest`. */
function readHead(socket) {
  return new Promise((resolve, reject) => {
    let bytes = Buffer.alloc(0);
    const stop = () => {
      socket.removeListener('data', onData);
      socket.removeListener('close', onClose);
    };
    const onData = (chunk) => {
      bytes = Buffer.concat([bytes, chunk]);
      const end = bytes.indexOf(HEAD_END);
      if (end === -1) return;
      stop();
      socket.pause();
      resolve({ ...parseHead(bytes.toString('latin1', 0, end)), rest: bytes.subarray(end + 4) });
    };
    const onClose = () => {
      stop();
      reject(new Error(`closed before the end of a head, after ${JSON.stringify(bytes.toString('latin1'))}`));
    };
    socket.on('data', onData);
    socket.on('close', onClose);
  });
}

/** One end of an established connection, in frames. A client's frames are masked by themselves. */
class Peer {
  #frames = [];
  #waiting = [];
  #reader = new FrameReader();

  constructor(socket, role, rest = Buffer.alloc(0)) {
    this.socket = socket;
    this.role = role;
    this.closed = new Promise((resolve) => socket.on('close', resolve));
    this.ended = new Promise((resolve) => {
      socket.on('end', resolve);
      socket.on('close', resolve);
    });
    socket.on('data', (chunk) => this.#take(chunk));
    this.closed.then(() => this.#give(null));
    this.ended.then(() => this.#give(null));
    if (rest.length > 0) this.#take(rest);
    socket.resume();
  }

  #take(chunk) {
    this.#reader.push(chunk);
    for (let next = this.#reader.next(); next !== null; next = this.#reader.next()) this.#give(next);
  }

  #give(next) {
    const waiting = this.#waiting.shift();
    if (waiting) waiting(next);
    else this.#frames.push(next);
  }

  frame(opcode, payload, options) {
    return frame(opcode, payload, { masked: this.role === 'client', ...options });
  }

  text(payload, options) {
    return this.frame(OPCODE.text, payload, options);
  }

  binary(payload, options) {
    return this.frame(OPCODE.binary, payload, options);
  }

  continuation(payload, options) {
    return this.frame(OPCODE.continuation, payload, options);
  }

  ping(payload, options) {
    return this.frame(OPCODE.ping, payload, options);
  }

  pong(payload, options) {
    return this.frame(OPCODE.pong, payload, options);
  }

  close(code, reason, options) {
    return this.frame(OPCODE.close, closePayload(code, reason), options);
  }

  /** Writes all of it at once: small frames travel in one segment. */
  write(...frames) {
    return this.socket.write(Buffer.concat(frames));
  }

  /** The next frame, or null when there will be none. */
  next() {
    if (this.#frames.length > 0) return Promise.resolve(this.#frames.shift());
    return new Promise((resolve) => this.#waiting.push(resolve));
  }

  /** The next frame of one kind; those before it are passed over. */
  async nextOf(opcode) {
    for (;;) {
      const found = await this.next();
      if (found === null || found.opcode === opcode) return found;
    }
  }

  /** The code and the reason of the Close frame that comes. */
  async nextClose() {
    const found = await this.nextOf(OPCODE.close);
    if (found === null) return null;
    const { payload } = found;
    return {
      code: payload.length < 2 ? undefined : payload.readUInt16BE(0),
      reason: payload.subarray(2).toString(),
    };
  }
}

function track(t, socket) {
  socket.setNoDelay(true);
  socket.on('error', () => {}); // a reset is what some tests want
  t.after(() => socket.destroy());
  return socket;
}

function requestHead({ path = '/', method = 'GET', host = 'localhost', key, headers = {}, without = [] }) {
  const all = {
    Host: host,
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Key': key,
    'Sec-WebSocket-Version': '13',
    ...headers,
  };
  const lines = Object.entries(all)
    .filter(([name]) => !without.includes(name))
    .flatMap(([name, value]) => [value].flat().map((each) => `${name}: ${each}\r\n`));
  return `${method} ${path} HTTP/1.1\r\n${lines.join('')}\r\n`;
}

/**
 * A client that has sent its request, followed by what `after` makes, in one segment. Resolves to
 * the head of the response and, unless it is a 101, its body.
 */
async function rawClient(t, port, options = {}) {
  const key = randomBytes(16).toString('base64');
  const socket = track(t, net.connect({ port, host: options.address ?? '127.0.0.1' }));
  const write = options.after?.((opcode, payload, more) => frame(opcode, payload, { masked: true, ...more }));
  socket.write(Buffer.concat([
    Buffer.from(options.raw ?? requestHead({ key, ...options }), 'latin1'),
    write ?? Buffer.alloc(0),
  ]));
  const head = await readHead(socket);
  const status = Number(head.first.split(' ')[1]);
  if (status === 101) {
    return { ...head, status, key, peer: new Peer(socket, 'client', head.rest), socket };
  }
  const parts = [head.rest];
  socket.on('data', (chunk) => parts.push(chunk));
  const ended = new Promise((resolve) => {
    socket.on('end', resolve);
    socket.on('close', resolve);
  });
  socket.resume();
  await ended;
  return { ...head, status, key, body: Buffer.concat(parts).toString(), socket };
}

function responseHead(request, { headers = {}, without = [], status = '101 Switching Protocols' } = {}) {
  const all = {
    Upgrade: 'websocket',
    Connection: 'Upgrade',
    'Sec-WebSocket-Accept': acceptValue(request.headers['sec-websocket-key'] ?? ''),
    ...headers,
  };
  const lines = Object.entries(all)
    .filter(([name]) => !without.includes(name))
    .map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status}\r\n${lines.join('')}\r\n`;
}

/**
 * A server whose responses are `respond(request, socket)`: a string (latin1) or a Buffer, or
 * nothing when the test answers by itself. `next()` is the next connection as `{ request, peer }`.
 */
async function rawServer(t, { respond = (request) => responseHead(request), listen } = {}) {
  const arrived = [];
  const waiting = [];
  const server = net.createServer(async (socket) => {
    track(t, socket);
    let request;
    try {
      request = await readHead(socket);
    } catch {
      return; // it left without a request
    }
    const response = respond(request, socket);
    if (response) socket.write(response, 'latin1');
    const connection = { request, socket, peer: new Peer(socket, 'server', request.rest) };
    const next = waiting.shift();
    if (next) next(connection);
    else arrived.push(connection);
  });
  await new Promise((resolve) => server.listen(listen ?? { port: 0, host: '127.0.0.1' }, resolve));
  t.after(() => server.close());
  return {
    server,
    port: server.address().port,
    url: `ws://127.0.0.1:${server.address().port}`,
    next: () => (arrived.length > 0
      ? Promise.resolve(arrived.shift())
      : new Promise((resolve) => waiting.push(resolve))),
  };
}

module.exports = { Peer, acceptValue, rawClient, rawServer, responseHead };
