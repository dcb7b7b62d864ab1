'use strict';
// What every test file begins with: the package under test, peers for it, and ways to wait.

const { once } = require('node:events');
const nodeTest = require('node:test');
const path = require('node:path');
const places = require('./places');
const frames = require('./frames');
const raw = require('./raw');

const WebSocket = require(places.SUBJECT);
const { WebSocketServer } = WebSocket;
/** The other library, as a peer. */
const ws = require(path.join(places.MODULES, 'ws'));

// Long enough for a machine that does much else at the same time.
const DEADLINE = 20_000;

/** A test with a deadline. */
function test(name, body, options) {
  nodeTest.test(name, { timeout: DEADLINE, ...options }, body);
}

/** The same test for both roles of the package under test. */
function testRoles(name, body, options) {
  for (const role of ['server', 'client']) {
    test(`${name} (${role})`, (t) => body(t, role), options);
  }
}

/** The arguments of the next event of a name; an 'error' does not matter to it. */
function next(emitter, event) {
  return new Promise((resolve) => {
    emitter.once(event, (...args) => resolve(args));
  });
}

/** Waits until a condition holds that no event tells of. */
async function until(condition) {
  const end = Date.now() + DEADLINE;
  while (!condition()) {
    if (Date.now() > end) throw new Error(`waited in vain until ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** Lets everything run that is ready to. */
function turn() {
  return new Promise((resolve) => setImmediate(resolve));
}

const EVENTS = ['open', 'message', 'ping', 'pong', 'error', 'close'];

/** All events of a WebSocket as they come: arrays of the name and the arguments. */
function record(emitter, events = EVENTS) {
  const log = [];
  for (const name of events) emitter.on(name, (...args) => log.push([name, ...args]));
  return log;
}

function endAfter(t, socket) {
  t.after(() => {
    socket.on('error', () => {});
    socket.terminate();
  });
  return socket;
}

/** A server that listens on loopback and ends with the test. */
async function listen(t, Server, options) {
  const server = new Server({ port: 0, host: '127.0.0.1', ...options });
  const connections = new Set();
  server.on('connection', (socket) => {
    connections.add(socket);
    socket.on('close', () => connections.delete(socket));
  });
  t.after(() => {
    for (const socket of connections) {
      socket.on('error', () => {});
      socket.terminate();
    }
    return new Promise((resolve) => server.close(resolve));
  });
  await once(server, 'listening');
  server.port = server.address().port;
  server.url = `ws://127.0.0.1:${server.port}`;
  return server;
}

/** A server of the package under test. */
const startServer = (t, options) => listen(t, WebSocketServer, options);

/** A server of the other library. */
const startPeerServer = (t, options) => listen(t, ws.WebSocketServer, options);

/** A client of the package under test, which may not be open yet. */
const startClient = (t, ...args) => endAfter(t, new WebSocket(...args));

/** A client of the other library. */
const startPeerClient = (t, ...args) => endAfter(t, new ws.WebSocket(...args));

/**
 * The package under test in one role, open, and a plain socket as its peer. `onSubject` sees the
 * WebSocket before any of its events. `extensions` is what a client as the peer offers, or a server
 * answers.
 */
async function withPeer(t, role, { options = {}, onSubject = () => {}, after, extensions } = {}) {
  const headers = extensions === undefined ? {} : { 'Sec-WebSocket-Extensions': extensions };
  if (role === 'server') {
    const server = await startServer(t, options);
    const connected = new Promise((resolve) => {
      server.on('connection', (subject, request) => {
        onSubject(subject);
        resolve({ subject, request });
      });
    });
    const { peer } = await raw.rawClient(t, server.port, { after, headers });
    return { ...await connected, peer, server };
  }
  const server = await raw.rawServer(t, {
    respond: (request) => Buffer.concat([
      Buffer.from(raw.responseHead(request, { headers }), 'latin1'),
      after?.(frames.frame) ?? Buffer.alloc(0),
    ]),
  });
  const subject = startClient(t, server.url, { perMessageDeflate: false, ...options });
  onSubject(subject);
  const open = once(subject, 'open');
  const { peer, request } = await server.next();
  await open;
  return { subject, peer, request };
}

/** Both ends from the package under test, open. */
async function pair(t, { server: serverOptions, client: clientOptions } = {}) {
  const server = await startServer(t, serverOptions);
  const connected = next(server, 'connection');
  const client = startClient(t, server.url, clientOptions);
  const [[serverSide, request]] = await Promise.all([connected, once(client, 'open')]);
  return { server, client, serverSide, request };
}

module.exports = {
  ...places,
  ...frames,
  ...raw,
  DEADLINE,
  EVENTS,
  WebSocket,
  WebSocketServer,
  next,
  once,
  pair,
  record,
  startClient,
  startPeerClient,
  startPeerServer,
  startServer,
  test,
  testRoles,
  turn,
  until,
  withPeer,
  ws,
};
