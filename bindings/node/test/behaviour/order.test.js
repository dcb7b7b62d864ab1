'use strict';
// Ticks, microtasks and events: what runs between messages, and between connections.

const assert = require('node:assert/strict');
const {
  next, rawClient, record, startServer, test, testRoles, turn, until, withPeer,
} = require('../support');

/** Notes a name now, in the next tick, and in a microtask. */
function note(log, name) {
  log.push(name);
  process.nextTick(() => log.push(`${name} tick`));
  Promise.resolve().then(() => log.push(`${name} microtask`));
}

testRoles('messages of one segment come together, then ticks, then microtasks', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = [];
  subject.on('message', (data) => note(log, data.toString()));
  peer.write(peer.text('1'), peer.text('2'));
  await until(() => log.length === 6);
  assert.deepEqual(log, ['1', '2', '1 tick', '2 tick', '1 microtask', '2 microtask']);
});

testRoles('a ping between messages keeps its place', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = [];
  subject.on('message', (data) => note(log, data.toString()));
  subject.on('ping', (data) => note(log, data.toString()));
  peer.write(peer.text('1'), peer.ping('2'), peer.text('3'));
  await until(() => log.length === 9);
  assert.deepEqual(log.slice(0, 3), ['1', '2', '3']);
});

test('the ticks and microtasks of one connection run before the messages of the next', async (t) => {
  const server = await startServer(t);
  const log = [];
  server.on('connection', (socket, { url }) => {
    socket.on('message', (data) => note(log, `${url} ${data}`));
  });
  const peers = [];
  for (const path of ['/a', '/b', '/c']) peers.push((await rawClient(t, server.port, { path })).peer);
  for (let round = 0; round < 20; round++) {
    log.length = 0;
    // All of it is written before the loop looks at any socket again.
    for (const peer of peers) peer.write(peer.text('1'), peer.text('2'));
    await until(() => log.length === 18);
    for (let i = 0; i < 18; i += 6) {
      const path = log[i].slice(0, 2);
      assert.deepEqual(log.slice(i, i + 6), [
        `${path} 1`, `${path} 2`, `${path} 1 tick`, `${path} 2 tick`, `${path} 1 microtask`, `${path} 2 microtask`,
      ]);
    }
  }
});

testRoles('allowSynchronousEvents: false runs ticks and microtasks between messages', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, { options: { allowSynchronousEvents: false } });
  const log = [];
  subject.on('message', (data) => note(log, data.toString()));
  subject.on('ping', (data) => note(log, data.toString()));
  peer.write(peer.text('1'), peer.ping('2'), peer.text('3'));
  await until(() => log.length === 9);
  assert.deepEqual(log, ['1', '2', '3'].flatMap((name) => [name, `${name} tick`, `${name} microtask`]));
});

testRoles('allowSynchronousEvents: false, with a Close behind the messages', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, { options: { allowSynchronousEvents: false } });
  const log = record(subject);
  peer.write(peer.text('1'), peer.binary('2'), peer.ping('3'), peer.close(4000));
  peer.socket.end();
  await next(subject, 'close');
  await turn();
  assert.deepEqual(log, [
    ['message', Buffer.from('1'), false], ['message', Buffer.from('2'), true], ['ping', Buffer.from('3')],
    ['close', 4000, Buffer.alloc(0)],
  ]);
});

testRoles('await inside of a listener does not hold the next message back', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = [];
  subject.on('message', async (data) => {
    log.push(`${data} begins`);
    await null;
    log.push(`${data} ends`);
  });
  peer.write(peer.text('1'), peer.text('2'));
  await until(() => log.length === 4);
  assert.deepEqual(log, ['1 begins', '2 begins', '1 ends', '2 ends']);
});

testRoles('sends of one listener arrive in order with those of ticks after them', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.on('message', () => {
    Promise.resolve().then(() => subject.send('microtask'));
    process.nextTick(() => subject.send('tick'));
    setImmediate(() => subject.send('immediate'));
    subject.send('listener');
  });
  peer.write(peer.text('go'));
  const got = [];
  for (let i = 0; i < 4; i++) got.push((await peer.next()).payload.toString());
  assert.deepEqual(got, ['listener', 'tick', 'microtask', 'immediate']);
});

testRoles('events come from the loop only, never inside of a call', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  let inside = false;
  const wrong = [];
  for (const name of ['message', 'ping', 'pong', 'close', 'error']) {
    subject.on(name, () => { if (inside) wrong.push(name); });
  }
  peer.write(peer.text('x'), peer.ping('y'));
  await next(subject, 'ping');
  peer.write(peer.text('more'));
  inside = true;
  subject.pause();
  subject.resume();
  subject.send('x');
  subject.ping('x');
  subject.close(1000);
  inside = false;
  peer.write(peer.close(1000));
  peer.socket.end();
  await next(subject, 'close');
  assert.deepEqual(wrong, []);
});

test('AsyncLocalStorage and the loop', async (t) => {
  const { AsyncLocalStorage } = require('node:async_hooks');
  const storage = new AsyncLocalStorage();
  const server = await startServer(t);
  const { peer } = await rawClient(t, server.port);
  const [socket] = [...server.clients];
  const log = record(socket, ['message']);
  const stores = [];
  socket.on('message', () => stores.push(storage.getStore()));
  storage.run('of the sender', () => socket.send('x'));
  peer.write(peer.text('y'));
  await until(() => log.length === 1);
  await turn();
  assert.deepEqual(stores, [undefined]);
});
