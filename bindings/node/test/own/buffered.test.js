'use strict';
// `bufferedAmount` often answers without the addon. It must say what the addon would have said.

const assert = require('node:assert/strict');
const { next, startClient, startServer, test, turn } = require('../support');
const { start } = require('../../lib/native');

const MESSAGES = 1500;
const SIZES = [0, 10, 700, 9000, 20_000, 70_000];

test('bufferedAmount says what the addon says, whether or not the peer reads', async (t) => {
  const commands = start();
  let waiting = 0;
  function check(socket) {
    const amount = socket.bufferedAmount;
    assert.equal(amount, commands.buffered(socket._index, socket._generation));
    if (amount > 0) waiting++;
  }
  const server = await startServer(t);
  server.on('connection', (socket) => {
    socket.on('message', (data) => {
      check(socket);
      socket.send(data);
      check(socket);
      socket.ping('x');
      check(socket);
      socket.send('é'.repeat(data.length >> 2));
      check(socket);
      Promise.resolve().then(() => {
        check(socket);
        socket.send('late');
        check(socket);
      });
    });
  });
  const client = startClient(t, server.url);
  await next(client, 'open');
  client.pause();
  let received = 0;
  const all = new Promise((resolve) => {
    client.on('message', () => {
      check(client);
      if (++received === 3 * MESSAGES) resolve();
    });
  });
  for (let sent = 0; sent < MESSAGES; sent++) {
    client.send(Buffer.alloc(SIZES[sent % SIZES.length], 1));
    if (sent % 40 === 0) await turn();
  }
  client.resume();
  await all;
  assert.ok(waiting > 0, 'nothing ever had to wait');
});
