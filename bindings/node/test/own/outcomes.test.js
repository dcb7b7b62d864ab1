'use strict';
// The callbacks of `send` when a connection ends amid what is sent: written, or not, and nothing
// between. `ws` gives what is in Node's queue up without knowing what the system has taken.

const assert = require('node:assert/strict');
const { next, rawClient, rawServer, record, startClient, startServer, testRoles } = require('../support');

const SIZES = [0, 3, 200, 66_000, 300_000];
const MOST_WAITING = 3 << 20;

/** A WebSocket in a role, and its raw peer, which does not read. */
async function meet(t, role) {
  if (role === 'client') {
    const server = await rawServer(t);
    const socket = startClient(t, server.url);
    await next(socket, 'open');
    const { peer } = await server.next();
    peer.socket.pause();
    return { socket, peer };
  }
  const server = await startServer(t);
  const connected = next(server, 'connection');
  const { peer } = await rawClient(t, server.port);
  peer.socket.pause();
  const [socket] = await connected;
  return { socket, peer };
}

/** Sends until much waits; the outcome of each message as it comes. */
function fill(socket) {
  const outcomes = [];
  let count = 0;
  while (socket.bufferedAmount < MOST_WAITING) {
    for (const size of SIZES) {
      const number = count++;
      const settle = (error) => outcomes.push([number, error?.code ?? null]);
      const data = Buffer.alloc(size, 1);
      if (number % 2 === 0) {
        socket.send(data, settle);
      } else {
        socket.send(data.subarray(0, size >> 1), { fin: false });
        socket.ping('amid');
        socket.send(data.subarray(size >> 1), settle);
      }
    }
  }
  return { outcomes, count };
}

/** How many of the messages are written; those after them must not be, and have an error. */
function writtenOf({ outcomes, count }) {
  const written = outcomes.filter(([, code]) => code === null).length;
  const expected = Array.from({ length: count }, (_, number) => [
    number, number < written ? null : 'ERR_STREAM_DESTROYED',
  ]);
  assert.deepEqual(outcomes, expected);
  return written;
}

testRoles('what the peer of an orderly end reads is what was written', async (t, role) => {
  const { socket, peer } = await meet(t, role);
  const log = record(socket, ['error']);
  const sent = fill(socket);
  let atClose;
  socket.on('close', () => { atClose = sent.outcomes.length; });
  peer.socket.end();
  await next(socket, 'close');
  assert.equal(atClose, sent.count, 'every outcome is known before the end');
  const written = writtenOf(sent);
  assert.ok(written > 0 && written < sent.count, `${written} of ${sent.count}`);
  let read = 0;
  peer.socket.resume();
  for (let found = await peer.next(); found !== null; found = await peer.next()) {
    if (found.fin && found.opcode < 8) read++;
  }
  assert.equal(read, written);
  assert.deepEqual(log, []);
});

testRoles('what waits when the peer resets the connection is not written', async (t, role) => {
  const { socket, peer } = await meet(t, role);
  const sent = fill(socket);
  peer.socket.resetAndDestroy();
  await next(socket, 'close');
  const written = writtenOf(sent);
  assert.ok(written < sent.count, `${written} of ${sent.count}`);
});

testRoles('an end that drops messages is not clean', async (t, role) => {
  const { socket, peer } = await meet(t, role);
  const sent = fill(socket);
  const ended = new Promise((resolve) => socket.addEventListener('close', resolve));
  peer.write(peer.close(1000, 'mine'));
  peer.socket.end();
  const { code, reason, wasClean } = await ended;
  assert.deepEqual({ code, reason, wasClean }, { code: 1000, reason: 'mine', wasClean: false });
  assert.ok(writtenOf(sent) < sent.count);
});
