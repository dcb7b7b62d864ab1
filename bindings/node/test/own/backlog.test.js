'use strict';
// wsabi's own limits of what waits to be sent, with a peer that does not read.

const assert = require('node:assert/strict');
const {
  OPCODE, WebSocket, WebSocketServer, next, rawServer, record, test, testRoles, turn, until, withPeer,
} = require('../support');

const MiB = 1 << 20;
const PART = 50_000;

/** How many bytes a frame has. */
function frameLength(role, payload) {
  const extended = payload < 126 ? 0 : payload < 65_536 ? 2 : 8;
  return 2 + extended + (role === 'client' ? 4 : 0) + payload;
}

/** A payload whose frame has so many bytes. */
function exactly(role, size) {
  const length = [0, 2, 8].map((extended) => size - frameLength(role, 0) - extended)
    .find((payload) => frameLength(role, payload) === size);
  return Buffer.alloc(length);
}

/** A WebSocket whose peer does not read yet, and of whose output less than 4 MiB waits. */
async function clogged(t, role, options) {
  const made = await withPeer(t, role, { options });
  const { subject, peer } = made;
  const log = record(subject, ['error', 'drain', 'close']);
  peer.socket.pause();
  // What the kernel still takes from one to the next is not there to be counted.
  for (let waiting = 0, untouched = 0; untouched < 3;) {
    subject.send(Buffer.alloc(PART));
    await turn();
    const now = subject.bufferedAmount;
    untouched = now - waiting === frameLength(role, PART) ? untouched + 1 : 0;
    waiting = now;
    assert.ok(waiting < 4 * MiB, 'the kernel takes more and more');
  }
  return { ...made, log };
}

/** Sends until exactly so many bytes wait. */
function fill(subject, role, size) {
  subject.send(exactly(role, size - subject.bufferedAmount));
  assert.equal(subject.bufferedAmount, size);
}

/** Sends, and tells the error that the callback gets before a turn is over, if it is called at all. */
async function refusal(send) {
  let error;
  send((why) => { error = why; });
  assert.equal(error, undefined, 'the callback was called before send had returned');
  await turn();
  return error;
}

function assertFull(error, limit, waiting) {
  assert.equal(error?.code, 'WSABI_ERR_BACKLOG_FULL');
  assert.ok(error instanceof Error);
  assert.equal(error.message, `${waiting} bytes wait to be written and the message would exceed maxBacklogBytes, ${limit}`);
}

/** Lets the peer read, and gives the messages behind those that clogged it, up to a text 'last'. */
async function readAll(subject, peer) {
  peer.socket.resume();
  await until(() => subject.bufferedAmount === 0);
  subject.send('last');
  const messages = [];
  for (;;) {
    const { opcode, payload, fin } = await peer.next();
    if (payload.toString('latin1', 0, 4) === 'last') return messages;
    if (payload.length !== PART) messages.push([opcode, payload.length, fin]);
  }
}

for (const [how, above] of [['one below', -1], ['at it', 0], ['one above', 1]]) {
  testRoles(`maxBacklogBytes, ${how}`, async (t, role) => {
    const limit = 8 * MiB;
    const { subject, peer, log } = await clogged(t, role, { highWaterBytes: 4 * MiB, maxBacklogBytes: limit });
    fill(subject, role, 4 * MiB);
    // What counts is the payload.
    const data = Buffer.alloc(limit + above - 4 * MiB);
    const error = await refusal((cb) => subject.send(data, cb));
    if (above > 0) {
      assertFull(error, limit, 4 * MiB);
      subject.send(data); // nothing is thrown, and no event tells
      assert.equal(subject.bufferedAmount, 4 * MiB);
    } else {
      assert.equal(error, undefined);
      assert.equal(subject.bufferedAmount, 4 * MiB + frameLength(role, data.length));
    }
    const messages = await readAll(subject, peer);
    assert.equal(messages.length, above > 0 ? 1 : 2);
    // Of a refused one it is told, too, when there is room again.
    assert.deepEqual(log, [['drain']]);
  });

  testRoles(`highWaterBytes, ${how}`, async (t, role) => {
    const low = 300_000;
    const { subject, peer, log } = await clogged(t, role, { highWaterBytes: 4 * MiB, lowWaterBytes: low });
    let most = 0;
    subject.on('drain', () => { most = Math.max(most, subject.bufferedAmount); });
    fill(subject, role, 4 * MiB + above);
    if (above > 0) {
      // However often it is above.
      for (let i = 0; i < 5; i++) subject.send(Buffer.alloc(100_000));
    }
    await turn();
    assert.deepEqual(log, []);
    await readAll(subject, peer);
    assert.deepEqual(log, above > 0 ? [['drain']] : []);
    assert.ok(most <= low, `drain came with ${most} bytes in the backlog`);
  });
}

testRoles('drain comes again when the backlog was high again', async (t, role) => {
  const { subject, peer, log } = await clogged(t, role, { highWaterBytes: MiB, lowWaterBytes: 0 });
  for (let times = 1; times <= 2; times++) {
    peer.socket.pause();
    subject.send(Buffer.alloc(16 * MiB));
    peer.socket.resume();
    await until(() => log.length === times);
    assert.equal(subject.bufferedAmount, 0);
  }
  await readAll(subject, peer);
  assert.deepEqual(log, [['drain'], ['drain']]);
});

testRoles('without these options everything is accepted, and there is no drain', async (t, role) => {
  const { subject, peer, log } = await clogged(t, role, {});
  for (let i = 0; i < 3; i++) assert.equal(await refusal((cb) => subject.send(Buffer.alloc(10 * MiB), cb)), undefined);
  assert.equal((await readAll(subject, peer)).length, 3);
  assert.deepEqual(log, []);
});

/** A WebSocket whose peer does not read yet, and whose backlog is full. */
async function full(t, role, options) {
  const made = await withPeer(t, role, { options });
  made.peer.socket.pause();
  for (let tries = 0; await refusal((cb) => made.subject.send(Buffer.alloc(PART), cb)) === undefined; tries++) {
    assert.ok(tries < 10_000, 'the backlog does not get full');
  }
  return made;
}

testRoles('maxBacklogBytes alone takes high water along, and brings no drain', async (t, role) => {
  const { subject, peer } = await full(t, role, { maxBacklogBytes: 1000 });
  const log = record(subject, ['error', 'drain', 'close']);
  const waiting = subject.bufferedAmount;
  // It was below 1000 before the last one that was accepted.
  assert.ok(waiting >= 1000 && waiting < 1000 + frameLength(role, PART), `${waiting} bytes wait`);
  assertFull(await refusal((cb) => subject.send('text', cb)), 1000, waiting);
  assertFull(await refusal((cb) => subject.send(WebSocket.prepare('prepared'), cb)), 1000, waiting);
  assertFull(await refusal((cb) => subject.send(Buffer.alloc(5000), { copy: false }, cb)), 1000, waiting);
  assertFull(await refusal((cb) => subject.ping('ping', undefined, cb)), 1000, waiting);
  assertFull(await refusal((cb) => subject.pong('pong', undefined, cb)), 1000, waiting);
  assert.deepEqual(await readAll(subject, peer), []);
  assert.deepEqual(log, []);
});

testRoles('a message in parts of which the first is refused is not begun', async (t, role) => {
  const { subject, peer } = await full(t, role, { maxBacklogBytes: MiB });
  assert.ok(await refusal((cb) => subject.send('first', { fin: false }, cb)));
  peer.socket.resume();
  await until(() => subject.bufferedAmount === 0);
  subject.send(Buffer.from('whole'));
  assert.deepEqual(await readAll(subject, peer), [[OPCODE.binary, 5, true]]);
});

testRoles('a part that was refused can be sent again', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, { options: { highWaterBytes: MiB, maxBacklogBytes: MiB } });
  peer.socket.pause();
  let sent = 0;
  for (const fin of [false, true]) {
    const part = Buffer.alloc(PART + 1);
    while (!await refusal((cb) => subject.send(part, { fin: false }, cb))) sent++;
    assert.ok(await refusal((cb) => subject.send(part, { fin }, cb)));
    const drained = next(subject, 'drain');
    peer.socket.resume();
    await drained;
    peer.socket.pause();
    subject.send(part, { fin });
    sent++;
  }
  const messages = await readAll(subject, peer);
  assert.equal(messages.length, sent);
  messages.forEach(([opcode, length, fin], at) => {
    assert.deepEqual([opcode, length, fin], [at === 0 ? OPCODE.binary : OPCODE.continuation, PART + 1, at === sent - 1]);
  });
});

testRoles('a part that is refused behind a Blob ends the connection: others follow it', async (t, role) => {
  const { subject } = await full(t, role, { maxBacklogBytes: MiB });
  const log = record(subject, ['error', 'close']);
  const heard = [];
  subject.send(new Blob(['first']), { fin: false }, (error) => heard.push(error.code));
  subject.send('last', (error) => heard.push(error instanceof Error));
  await next(subject, 'close');
  assert.deepEqual(heard, ['WSABI_ERR_BACKLOG_FULL', true]);
  assert.deepEqual(log.map(([name, what]) => [name, what.code ?? what]), [['error', 'WSABI_ERR_BACKLOG_FULL'], ['close', 1006]]);
});

test('a broadcast counts who refuses it, and who is above high water', async (t) => {
  const { subject, peer, server } = await clogged(t, 'server', { highWaterBytes: 4 * MiB, maxBacklogBytes: 5 * MiB });
  fill(subject, 'server', 4 * MiB);
  assert.deepEqual(server.broadcast(Buffer.alloc(MiB)), { sent: 1, backpressure: 1, refused: 0 });
  assert.deepEqual(server.broadcast('x'), { sent: 0, backpressure: 0, refused: 1 });
  assert.equal((await readAll(subject, peer)).length, 2);
});

testRoles('no drain comes after terminate', async (t, role) => {
  const { subject, log } = await clogged(t, role, { highWaterBytes: 4 * MiB });
  fill(subject, role, 5 * MiB);
  subject.terminate();
  await next(subject, 'close');
  assert.deepEqual(log.map(([name]) => name), ['close']);
});

test('values that these options cannot have are refused by name', async (t) => {
  const { url } = await rawServer(t, { respond: () => null });
  const refused = (options, type, words) => {
    const check = (error) => {
      assert.equal(error.constructor, type, JSON.stringify(options));
      assert.match(error.message, words);
      return true;
    };
    assert.throws(() => new WebSocketServer({ port: 0, ...options }), check);
    assert.throws(() => new WebSocket(url, options), check);
  };
  for (const name of ['highWaterBytes', 'lowWaterBytes', 'maxBacklogBytes']) {
    const words = new RegExp(`"${name}" is `);
    for (const value of ['5', {}, true]) refused({ [name]: value }, TypeError, words);
    for (const value of [-1, NaN, Infinity, 2 ** 53]) refused({ [name]: value }, RangeError, words);
  }
  refused({ highWaterBytes: 0 }, RangeError, /"highWaterBytes" is 0; expected 1 to/);
  refused({ maxBacklogBytes: 0 }, RangeError, /"maxBacklogBytes" is 0; expected 1 to/);
  refused({ lowWaterBytes: 5 }, TypeError, /"lowWaterBytes" has no meaning without "highWaterBytes"/);
  refused({ lowWaterBytes: 6, highWaterBytes: 5 }, RangeError, /"lowWaterBytes" is 6, which is more than "highWaterBytes", 5/);
  refused({ highWaterBytes: 6, maxBacklogBytes: 5 }, RangeError, /"highWaterBytes" is 6, which is more than "maxBacklogBytes", 5/);
  for (const options of [
    { highWaterBytes: 5, lowWaterBytes: 0, maxBacklogBytes: 5 }, { highWaterBytes: 1 }, { maxBacklogBytes: 2 ** 53 - 1 },
    { highWaterBytes: null, lowWaterBytes: undefined, maxBacklogBytes: null }, { highWaterBytes: 2 ** 40 },
  ]) {
    const client = new WebSocket(url, options);
    client.on('error', () => {});
    client.terminate();
  }
});
