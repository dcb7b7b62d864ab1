'use strict';
// What the connections of a server may hold together: `maxBufferedBytes`.

const assert = require('node:assert/strict');
const { WebSocketServer, next, rawClient, record, startClient, startServer, test, until } = require('../support');

test('who holds most of what is too much goes, and the others do not notice', async (t) => {
  const server = await startServer(t, { maxBufferedBytes: 200_000 });
  const sides = [];
  server.on('connection', (socket) => {
    socket.log = record(socket);
    socket.on('message', (data) => socket.send(data));
    sides.push(socket);
  });
  const { peer } = await rawClient(t, server.port);
  const small = startClient(t, server.url);
  await next(small, 'open');
  peer.write(peer.binary(Buffer.alloc(1 << 20), { fin: false }));
  small.send('in between');
  assert.equal((await next(small, 'message'))[0].toString(), 'in between');
  const { code } = await peer.nextClose();
  assert.equal(code, 1013);
  peer.socket.end();
  await until(() => sides[0].readyState === 3);
  const [[name, error], [last, closed]] = sides[0].log;
  assert.deepEqual([name, error.code, last, closed], ['error', 'WSABI_ERR_OVER_BUDGET', 'close', 1006]);
  assert.match(error.message, /maxBufferedBytes/);
  small.send('and after');
  assert.equal((await next(small, 'message'))[0].toString(), 'and after');
}, { timeout: 40_000 });

test('who does not take what waits goes too', async (t) => {
  const server = await startServer(t, { maxBufferedBytes: 4 << 20, closeTimeout: 100 });
  const connected = next(server, 'connection');
  const { peer } = await rawClient(t, server.port);
  const [side] = await connected;
  const log = record(side);
  peer.socket.pause();
  for (let i = 0; i < 24; i++) side.send(Buffer.alloc(1 << 20));
  await until(() => log.some(([name]) => name === 'error'));
  assert.equal(log[0][1].code, 'WSABI_ERR_OVER_BUDGET');
  await until(() => log.length === 2);
  assert.deepEqual(log[1], ['close', 1006, Buffer.alloc(0)]);
}, { timeout: 40_000 });

test('what is less than the budget goes on', async (t) => {
  const server = await startServer(t, { maxBufferedBytes: 3 << 20 });
  const connected = next(server, 'connection');
  const client = startClient(t, server.url);
  const [side] = await connected;
  const got = next(side, 'message');
  client.on('open', () => client.send(Buffer.alloc(1 << 20)));
  assert.equal((await got)[0].length, 1 << 20);
});

test('values that make no sense', () => {
  for (const [maxBufferedBytes, name, message] of [
    ['1', 'TypeError', 'The option "maxBufferedBytes" is string; expected a number'],
    [0, 'RangeError', /The option "maxBufferedBytes" is 0; expected 1 to/],
    [NaN, 'RangeError', /is NaN/],
    [-1, 'RangeError', /is -1/],
  ]) {
    assert.throws(() => new WebSocketServer({ port: 0, maxBufferedBytes }), { name, message });
  }
});
