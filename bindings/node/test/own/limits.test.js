'use strict';
// wsabi's own limits and deadlines: of the opening handshake, which `ws` leaves to node:http, and of
// silence, which it leaves to the user.

const assert = require('node:assert/strict');
const net = require('node:net');
const {
  OPCODE, WebSocket, WebSocketServer, next, rawClient, rawServer, record, responseHead, startClient,
  startServer, test, testRoles, turn, withPeer,
} = require('../support');

test('a request of more than 16 KiB is refused with 431', async (t) => {
  const server = await startServer(t);
  const { status } = await rawClient(t, server.port, { headers: { 'X-Big': 'x'.repeat(17_000) } });
  assert.equal(status, 431);
});

test('a request of a little less is served', async (t) => {
  const server = await startServer(t);
  const { status } = await rawClient(t, server.port, { headers: { 'X-Big': 'x'.repeat(15_000) } });
  assert.equal(status, 101);
});

test('more than 100 header fields are refused with 431', async (t) => {
  const server = await startServer(t);
  const many = (count) => Object.fromEntries(Array.from({ length: count }, (_, i) => [`X-${i}`, 'x']));
  assert.equal((await rawClient(t, server.port, { headers: many(101) })).status, 431);
  assert.equal((await rawClient(t, server.port, { headers: many(90) })).status, 101);
});

test('a request that does not end is refused with 408', async (t) => {
  const server = await startServer(t, { handshakeTimeout: 50 });
  const { status } = await rawClient(t, server.port, { raw: 'GET / HTTP/1.1\r\nHost: x\r\n' });
  assert.equal(status, 408);
});

test('a response of more than 16 KiB fails the client', async (t) => {
  const server = await rawServer(t, {
    respond: (request) => responseHead(request, { headers: { 'X-Big': 'x'.repeat(17_000) } }),
  });
  const client = startClient(t, server.url);
  const log = record(client);
  await next(client, 'close');
  assert.deepEqual(log.map(([name]) => name), ['error', 'close']);
});

test('maxHandshakeBytes and maxHandshakeHeaders', async (t) => {
  const few = await startServer(t, { maxHandshakeBytes: 300, maxHandshakeHeaders: 6 });
  assert.equal((await rawClient(t, few.port)).status, 101);
  assert.equal((await rawClient(t, few.port, { headers: { 'X-A': 'x'.repeat(300) } })).status, 431);
  assert.equal((await rawClient(t, few.port, { headers: { 'X-A': '1', 'X-B': '2' } })).status, 431);
});

test('maxPendingHandshakes drops the oldest', async (t) => {
  const server = await startServer(t, { maxPendingHandshakes: 2 });
  const pending = [];
  for (let i = 0; i < 2; i++) {
    const socket = net.connect(server.port, '127.0.0.1');
    t.after(() => socket.destroy());
    socket.resume();
    socket.on('error', () => {}); // one of them is reset
    await next(socket, 'connect');
    pending.push(socket);
  }
  const first = next(pending[0], 'close');
  assert.equal((await rawClient(t, server.port)).status, 101);
  await first;
});

test('a verifyClient that does not answer within holdTimeout: 503', async (t) => {
  const server = await startServer(t, { holdTimeout: 50, verifyClient: (info, callback) => { server.late = callback; } });
  assert.equal((await rawClient(t, server.port)).status, 503);
  server.late(true);
});

test('garbage is refused with 400 and is no event of the server', async (t) => {
  const server = await startServer(t);
  const log = record(server, ['connection', 'error']);
  const { status } = await rawClient(t, server.port, { raw: 'EHLO mail\r\n\r\n' });
  assert.equal(status, 400);
  await turn();
  assert.deepEqual(log, []);
});

test('a version of HTTP that cannot upgrade is refused', async (t) => {
  const server = await startServer(t);
  const { status } = await rawClient(t, server.port, {
    raw: 'GET / HTTP/1.0\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
      + 'Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n',
  });
  assert.equal(status, 400);
});

testRoles('pingInterval sends pings', async (t, role) => {
  const { peer } = await withPeer(t, role, { options: { pingInterval: 30 } });
  for (let i = 0; i < 3; i++) {
    const { opcode, payload } = await peer.next();
    assert.equal(opcode, OPCODE.ping);
    peer.write(peer.pong(payload));
  }
});

testRoles('a peer that does not answer within pingTimeout is dead', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, { options: { pingInterval: 30, pingTimeout: 30 } });
  const log = record(subject, ['error', 'close']);
  assert.equal((await peer.next()).opcode, OPCODE.ping);
  assert.deepEqual(await peer.nextClose(), { code: 1011, reason: 'keepalive ping timeout' });
  peer.socket.end();
  await next(subject, 'close');
  assert.equal(log.at(-1)[0], 'close');
  assert.equal(log.at(-1)[1], 1006);
});

testRoles('idleTimeout ends a connection on which nothing comes', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, { options: { idleTimeout: 50 } });
  assert.deepEqual(await peer.nextClose(), { code: 1011, reason: 'idle timeout' });
  peer.socket.end();
  assert.equal((await next(subject, 'close'))[0], 1006);
});

test('values that these limits cannot have are refused by name', async (t) => {
  const { url } = await rawServer(t, { respond: () => null });
  const names = [
    'handshakeTimeout', 'holdTimeout', 'idleTimeout', 'maxHandshakeBytes', 'maxHandshakeHeaders',
    'maxPendingHandshakes', 'pingInterval', 'pingTimeout',
  ];
  for (const name of names) {
    for (const [value, type] of [['5', TypeError], [{}, TypeError], [-1, RangeError], [NaN, RangeError]]) {
      const refused = (error) => {
        assert.equal(error.constructor, type, `${name} ${String(value)}`);
        assert.match(error.message, new RegExp(`\\b${name}\\b`));
        return true;
      };
      assert.throws(() => new WebSocketServer({ port: 0, [name]: value }), refused);
      assert.throws(() => new WebSocket(url, { [name]: value }), refused);
    }
  }
});
