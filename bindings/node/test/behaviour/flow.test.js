'use strict';
// Backpressure: pause and resume, bufferedAmount, and callbacks when a peer does not read.

const assert = require('node:assert/strict');
const {
  WebSocket, next, pair, rawServer, record, startClient, test, testRoles, turn, until, withPeer,
} = require('../support');

testRoles('pause and resume lose nothing', async (t, role) => {
  const { client, serverSide } = await pair(t);
  const [subject, far] = role === 'client' ? [client, serverSide] : [serverSide, client];
  const log = record(subject, ['message', 'ping']);
  subject.pause();
  assert.equal(subject.isPaused, true);
  for (let i = 0; i < 50; i++) far.send(String(i));
  far.ping('p');
  await new Promise((resolve) => far.send('last', resolve));
  for (let i = 0; i < 20; i++) await turn();
  assert.deepEqual(log, []);
  subject.resume();
  assert.equal(subject.isPaused, false);
  await until(() => log.length === 52);
  assert.deepEqual(
    log.map(([, data]) => data.toString()),
    [...Array.from({ length: 50 }, (_, i) => String(i)), 'p', 'last'],
  );
});

testRoles('pause inside of a listener: all come, in order, once', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const got = [];
  subject.on('message', (data) => {
    got.push(data.toString());
    if (got.length % 7 === 0) {
      subject.pause();
      setImmediate(() => subject.resume());
    }
  });
  const sent = Array.from({ length: 500 }, (_, i) => String(i));
  peer.write(...sent.slice(0, 250).map((text) => peer.text(text)));
  peer.write(...sent.slice(250).map((text) => peer.text(text)));
  await until(() => got.length >= 500);
  await turn();
  assert.deepEqual(got, sent);
});

testRoles('pause and resume in the same listener', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const got = [];
  subject.on('message', (data) => {
    subject.pause();
    got.push(data.toString());
    subject.resume();
  });
  peer.write(peer.text('1'), peer.text('2'), peer.text('3'));
  await until(() => got.length === 3);
  assert.deepEqual(got, ['1', '2', '3']);
  assert.equal(subject.isPaused, false);
});

for (const [end, write] of [
  ['a Close', (peer) => { peer.write(peer.text('1'), peer.text('2'), peer.text('3'), peer.close(1000)); }],
  ['the end', (peer) => {
    peer.write(peer.text('1'), peer.text('2'), peer.text('3'));
    peer.socket.end();
  }],
]) {
  testRoles(`pause inside of a listener, with ${end} behind the messages`, async (t, role) => {
    const { subject, peer } = await withPeer(t, role);
    const log = record(subject);
    subject.on('message', () => {
      subject.pause();
      setTimeout(() => subject.resume(), 20);
    });
    write(peer);
    await peer.nextClose();
    peer.socket.end();
    await until(() => log.length === 4);
    await turn();
    assert.deepEqual(log.map(([name, data]) => [name, String(data)]), [
      ['message', '1'], ['message', '2'], ['message', '3'], ['close', end === 'a Close' ? '1000' : '1006'],
    ]);
  });
}

testRoles('a paused WebSocket sends and answers to nothing that it does not read', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.pause();
  peer.write(peer.ping('unseen'));
  subject.send('still sends');
  const { payload } = await peer.next();
  assert.equal(payload.toString(), 'still sends');
  subject.resume();
  assert.equal((await peer.next()).payload.toString(), 'unseen');
});

testRoles('a paused WebSocket keeps its peer from sending without bound', async (t, role) => {
  const { client, serverSide } = await pair(t);
  const [subject, far] = role === 'client' ? [client, serverSide] : [serverSide, client];
  subject.pause();
  const chunk = Buffer.alloc(1 << 20);
  let done = 0;
  for (let i = 0; i < 32; i++) far.send(chunk, () => { done += 1; });
  for (let i = 0; i < 100; i++) await turn();
  assert.ok(done < 32, 'some of it waits at the peer');
  assert.ok(far.bufferedAmount > 0);
  const log = record(subject, ['message']);
  subject.resume();
  await until(() => log.length === 32 && done === 32);
  assert.equal(far.bufferedAmount, 0);
});

test('pause and resume do nothing before and after', async (t) => {
  const server = await rawServer(t, { respond: () => null });
  const client = startClient(t, server.url);
  client.pause();
  assert.equal(client.isPaused, false);
  client.resume();
  assert.equal(client.readyState, WebSocket.CONNECTING);
  const { client: other } = await pair(t);
  other.close();
  await next(other, 'close');
  other.pause();
  assert.equal(other.isPaused, false);
  other.resume();
});

testRoles('pause in open holds the first messages back', async (t, role) => {
  let log;
  const { subject, peer } = await withPeer(t, role, {
    onSubject: (socket) => {
      log = record(socket, ['message']);
      if (role === 'server') socket.pause();
      else socket.on('open', () => socket.pause());
    },
  });
  assert.equal(subject.isPaused, true);
  peer.write(peer.text('held'));
  for (let i = 0; i < 20; i++) await turn();
  assert.deepEqual(log, []);
  subject.resume();
  await until(() => log.length === 1);
});

testRoles('a paused WebSocket hears the end when it resumes', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  subject.pause();
  peer.write(peer.text('kept'), peer.close(1000, 'x'));
  for (let i = 0; i < 20; i++) await turn();
  assert.deepEqual(log, []);
  subject.resume();
  await peer.nextClose();
  peer.socket.end();
  await next(subject, 'close');
  assert.deepEqual(log, [['message', Buffer.from('kept'), false], ['close', 1000, Buffer.from('x')]]);
});

testRoles('terminate of a paused WebSocket', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject, ['close']);
  subject.pause();
  peer.write(peer.text('unread'));
  subject.terminate();
  await Promise.all([next(subject, 'close'), peer.closed]);
  assert.deepEqual(log, [['close', 1006, Buffer.alloc(0)]]);
});

testRoles('bufferedAmount is 0 when everything is written', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  assert.equal(subject.bufferedAmount, 0);
  await new Promise((resolve) => subject.send('x'.repeat(1000), resolve));
  assert.equal(subject.bufferedAmount, 0);
  assert.equal((await peer.next()).payload.length, 1000);
});

testRoles('bufferedAmount grows while the peer does not read, and falls when it does', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  peer.socket.pause();
  const chunk = Buffer.alloc(1 << 20);
  let done = 0;
  let last = -1;
  for (let i = 0; i < 24; i++) {
    subject.send(chunk, (error) => {
      assert.equal(error == null, true);
      assert.equal(last, i - 1, 'in order');
      last = i;
      done += 1;
    });
  }
  for (let i = 0; i < 100; i++) await turn();
  const high = subject.bufferedAmount;
  assert.ok(high > 1 << 20, `${high} octets wait`);
  assert.ok(high < 25 << 20, 'the framing is small');
  assert.ok(done < 24);
  subject.send('a little more');
  await turn();
  assert.ok(subject.bufferedAmount >= high + 13);
  peer.socket.resume();
  await until(() => done === 24 && subject.bufferedAmount === 0);
  for (let i = 0; i < 24; i++) assert.equal((await peer.next()).payload.length, 1 << 20);
  assert.equal((await peer.next()).payload.toString(), 'a little more');
});

testRoles('there is no limit of what may wait', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  peer.socket.pause();
  const chunk = Buffer.alloc(4 << 20);
  for (let i = 0; i < 16; i++) subject.send(chunk);
  await turn();
  assert.equal(subject.readyState, WebSocket.OPEN);
  peer.socket.resume();
  for (let i = 0; i < 16; i++) assert.equal((await peer.next()).payload.length, 4 << 20);
});

testRoles('close waits behind what is not written yet', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  peer.socket.pause();
  const chunk = Buffer.alloc(1 << 20, 'z');
  for (let i = 0; i < 12; i++) subject.send(chunk);
  subject.close(1000, 'after all of it');
  await turn();
  peer.socket.resume();
  for (let i = 0; i < 12; i++) assert.ok((await peer.next()).payload.equals(chunk));
  assert.deepEqual(await peer.nextClose(), { code: 1000, reason: 'after all of it' });
  peer.write(peer.close(1000));
  peer.socket.end();
  await next(subject, 'close');
});

test('an echo under pressure in both directions', async (t) => {
  const { client, serverSide } = await pair(t);
  serverSide.on('message', (data, isBinary) => serverSide.send(data, { binary: isBinary }));
  const sizes = Array.from({ length: 400 }, (_, i) => (i * 7919) % 100_000);
  const got = [];
  client.on('message', (data) => got.push(data));
  for (const size of sizes) client.send(Buffer.alloc(size, size % 256));
  await until(() => got.length === sizes.length);
  sizes.forEach((size, i) => assert.ok(got[i].equals(Buffer.alloc(size, size % 256)), `echo ${i}`));
});
