'use strict';
// `message`: types of data, fragments, order, and that what was given stays as it was.

const assert = require('node:assert/strict');
const {
  OPCODE, WebSocket, next, once, pair, rawServer, record, responseHead, startClient, startServer, test, testRoles,
  turn, until, withPeer,
} = require('../support');

testRoles('text and binary both come as Buffer', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  peer.write(peer.text('text'), peer.binary('binary'), peer.text(''), peer.binary(''));
  await until(() => log.length === 4);
  assert.deepEqual(log, [
    ['message', Buffer.from('text'), false],
    ['message', Buffer.from('binary'), true],
    ['message', Buffer.alloc(0), false],
    ['message', Buffer.alloc(0), true],
  ]);
  for (const [, data] of log) assert.ok(Buffer.isBuffer(data));
});

testRoles('a listener is called on the WebSocket with two arguments', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const called = new Promise((resolve) => {
    subject.on('message', function onMessage(...args) { resolve([this, args.length]); });
  });
  peer.write(peer.text('x'));
  assert.deepEqual(await called, [subject, 2]);
});

testRoles('binaryType arraybuffer', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.binaryType = 'arraybuffer';
  const log = record(subject, ['message']);
  peer.write(
    peer.binary([1, 2, 3]), peer.text('text'), peer.binary(''),
    peer.binary([4], { fin: false }), peer.continuation([5, 6]),
  );
  await until(() => log.length === 4);
  const [[, whole], [, text], [, empty], [, joined]] = log;
  assert.ok(whole instanceof ArrayBuffer);
  assert.deepEqual(Buffer.from(whole), Buffer.from([1, 2, 3]));
  assert.deepEqual(text, Buffer.from('text'), 'text is a Buffer always');
  assert.ok(empty instanceof ArrayBuffer);
  assert.equal(empty.byteLength, 0);
  assert.ok(joined instanceof ArrayBuffer);
  assert.deepEqual(Buffer.from(joined), Buffer.from([4, 5, 6]));
});

testRoles('binaryType fragments', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.binaryType = 'fragments';
  const log = record(subject, ['message']);
  peer.write(
    peer.binary('whole'), peer.binary('a', { fin: false }), peer.continuation('bc', { fin: false }),
    peer.continuation('d'), peer.text('te', { fin: false }), peer.continuation('xt'),
  );
  await until(() => log.length === 3);
  for (const [, data, isBinary] of log.slice(0, 2)) {
    assert.ok(Array.isArray(data));
    assert.ok(data.every((part) => Buffer.isBuffer(part)));
    assert.equal(isBinary, true);
  }
  assert.equal(Buffer.concat(log[0][1]).toString(), 'whole');
  assert.equal(Buffer.concat(log[1][1]).toString(), 'abcd');
  assert.deepEqual(log[2], ['message', Buffer.from('text'), false]);
});

testRoles('binaryType blob', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.binaryType = 'blob';
  const log = record(subject, ['message']);
  peer.write(peer.binary('whole'), peer.text('text'), peer.binary('a', { fin: false }), peer.continuation('b'));
  await until(() => log.length === 3);
  assert.ok(log[0][1] instanceof Blob);
  assert.equal(await log[0][1].text(), 'whole');
  assert.deepEqual(log[1], ['message', Buffer.from('text'), false]);
  assert.ok(log[2][1] instanceof Blob);
  assert.equal(await log[2][1].text(), 'ab');
});

testRoles('binaryType may change between messages', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject, ['message']);
  subject.on('message', () => {
    subject.binaryType = ['arraybuffer', 'fragments', 'nodebuffer'][log.length - 1] ?? 'nodebuffer';
  });
  peer.write(peer.binary('1'), peer.binary('2'), peer.binary('3'), peer.binary('4'));
  await until(() => log.length === 4);
  const kinds = log.map(([, data]) => (Array.isArray(data) ? 'Array' : data.constructor.name));
  assert.deepEqual(kinds, ['Buffer', 'ArrayBuffer', 'Array', 'Buffer']);
});

testRoles('fragments with control frames between them', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  peer.write(
    peer.text('one ', { fin: false }), peer.ping('ping'), peer.continuation('', { fin: false }),
    peer.pong('pong'), peer.continuation('message'), peer.binary('', { fin: false }), peer.continuation(''),
  );
  await until(() => log.length === 4);
  assert.deepEqual(log, [
    ['ping', Buffer.from('ping')],
    ['pong', Buffer.from('pong')],
    ['message', Buffer.from('one message'), false],
    ['message', Buffer.alloc(0), true],
  ]);
});

testRoles('octet by octet', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject, ['message', 'ping']);
  const stream = Buffer.concat([
    peer.text('\u20ac'), peer.ping('p'), peer.binary(Buffer.alloc(130, 1), { fin: false }), peer.continuation('end'),
  ]);
  for (const octet of stream) {
    peer.socket.write(Buffer.from([octet]));
    await turn();
  }
  await until(() => log.length === 3);
  assert.deepEqual(log, [
    ['message', Buffer.from('\u20ac'), false],
    ['ping', Buffer.from('p')],
    ['message', Buffer.concat([Buffer.alloc(130, 1), Buffer.from('end')]), true],
  ]);
});

testRoles('a character that is split over fragments', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const euro = Buffer.from('\u20ac');
  peer.write(
    peer.text(euro.subarray(0, 1), { fin: false }), peer.continuation(euro.subarray(1, 2), { fin: false }),
    peer.continuation(euro.subarray(2)),
  );
  assert.deepEqual(await next(subject, 'message'), [euro, false]);
});

testRoles('many messages in few segments: all, once, in order', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const got = [];
  subject.on('message', (data) => got.push(data.toString()));
  const expected = Array.from({ length: 20_000 }, (_, i) => `message ${i}`);
  for (let i = 0; i < expected.length; i += 1000) {
    peer.write(...expected.slice(i, i + 1000).map((text) => peer.text(text)));
  }
  await until(() => got.length >= expected.length);
  assert.deepEqual(got, expected);
});

testRoles('what was given stays as it was', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const kept = [];
  subject.on('message', (data) => kept.push(data));
  subject.on('ping', (data) => kept.push(data));
  const payload = (i) => Buffer.alloc(i % 700, i);
  const count = 3000;
  for (let i = 0; i < count; i++) {
    peer.socket.write(i % 10 === 9 ? peer.ping(payload(i).subarray(0, 125)) : peer.binary(payload(i)));
  }
  await until(() => kept.length === count);
  for (let i = 0; i < count; i++) {
    const expected = i % 10 === 9 ? payload(i).subarray(0, 125) : payload(i);
    assert.ok(kept[i].equals(expected), `message ${i}`);
  }
});

testRoles('data may be written to without a trace in others', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject, ['message']);
  subject.on('message', (data) => data.fill(0xff));
  peer.write(...Array.from({ length: 50 }, () => peer.binary('untouched')));
  const copies = [];
  subject.prependListener('message', (data) => copies.push(data.toString()));
  await until(() => log.length === 50);
  assert.deepEqual(new Set(copies), new Set(['untouched']));
});

testRoles('an ArrayBuffer belongs to its message alone', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.binaryType = 'arraybuffer';
  const log = record(subject, ['message']);
  peer.write(peer.binary('first'), peer.binary('second'), peer.binary('third'));
  await until(() => log.length === 3);
  const buffers = log.map(([, data]) => data);
  assert.deepEqual(buffers.map(({ byteLength }) => byteLength), [5, 6, 5]);
  structuredClone(buffers[0], { transfer: [buffers[0]] });
  assert.equal(buffers[0].byteLength, 0);
  assert.equal(Buffer.from(buffers[1]).toString(), 'second');
});

testRoles('listeners that come and go between messages', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = [];
  subject.once('message', (data) => {
    log.push(['once', data.toString()]);
    subject.on('message', (later) => log.push(['later', later.toString()]));
  });
  peer.write(peer.text('1'), peer.text('2'), peer.text('3'));
  await until(() => log.length === 3);
  assert.deepEqual(log, [['once', '1'], ['later', '2'], ['later', '3']]);
  subject.removeAllListeners('message');
  peer.write(peer.text('4'), peer.ping('5'));
  await next(subject, 'ping');
  assert.equal(log.length, 3);
});

test('messages without a listener are gone', async (t) => {
  const { subject, peer } = await withPeer(t, 'server');
  peer.write(peer.text('nobody listens'), peer.ping('now'));
  await next(subject, 'ping');
  const log = record(subject, ['message']);
  peer.write(peer.text('heard'));
  await until(() => log.length > 0);
  assert.deepEqual(log, [['message', Buffer.from('heard'), false]]);
});

test('a listener that is added in open hears the first message', async (t) => {
  const server = await rawServer(t, {
    respond: (request) => Buffer.concat([
      Buffer.from(responseHead(request), 'latin1'), Buffer.from([0x81, 2]), Buffer.from('hi'),
    ]),
  });
  const client = startClient(t, server.url);
  const heard = new Promise((resolve) => {
    client.on('open', () => client.on('message', (data) => resolve(data.toString())));
  });
  assert.equal(await heard, 'hi');
});

testRoles('sends inside of a listener', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.on('message', (data, isBinary) => subject.send(data, { binary: isBinary }));
  peer.write(peer.text('a'), peer.binary('b'), peer.text('c'));
  const echoes = [await peer.next(), await peer.next(), await peer.next()];
  assert.deepEqual(echoes.map(({ opcode, payload }) => [opcode, payload.toString()]), [
    [OPCODE.text, 'a'], [OPCODE.binary, 'b'], [OPCODE.text, 'c'],
  ]);
});

test('16 MiB in one frame, and in fragments, both ways', async (t) => {
  const { client, serverSide } = await pair(t);
  const big = Buffer.alloc(16 << 20);
  for (let i = 0; i < big.length; i += 4) big.writeUInt32LE(i, i);
  for (const [sender, receiver] of [[client, serverSide], [serverSide, client]]) {
    const whole = next(receiver, 'message');
    sender.send(big);
    const [data, isBinary] = await whole;
    assert.equal(isBinary, true);
    assert.ok(data.equals(big));
    const text = next(receiver, 'message');
    const quarter = 'abcd'.repeat(1 << 20);
    for (let i = 0; i < 4; i++) sender.send(quarter, { fin: i === 3 });
    const [joined, joinedIsBinary] = await text;
    assert.equal(joinedIsBinary, false);
    assert.equal(joined.length, 16 << 20);
    assert.ok(joined.equals(Buffer.from(quarter.repeat(4))));
  }
});

test('several clients do not mix', async (t) => {
  const server = await startServer(t);
  server.on('connection', (socket, request) => {
    socket.on('message', (data) => socket.send(`${request.url} ${data}`));
  });
  await Promise.all(Array.from({ length: 20 }, async (_, i) => {
    const client = startClient(t, `${server.url}/${i}`);
    await once(client, 'open');
    const log = record(client, ['message']);
    for (let j = 0; j < 50; j++) client.send(String(j));
    await until(() => log.length === 50);
    assert.deepEqual(log.map(([, data]) => data.toString()), Array.from({ length: 50 }, (__, j) => `/${i} ${j}`));
  }));
});

test('a broadcast', async (t) => {
  const server = await startServer(t);
  const clients = Array.from({ length: 10 }, () => startClient(t, server.url));
  await Promise.all(clients.map((client) => once(client, 'open')));
  await until(() => server.clients.size === 10);
  const heard = Promise.all(clients.map((client) => next(client, 'message')));
  for (const each of server.clients) {
    if (each.readyState === WebSocket.OPEN) each.send('to all');
  }
  for (const [data] of await heard) assert.equal(data.toString(), 'to all');
});
