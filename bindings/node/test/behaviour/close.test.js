'use strict';
// The closing handshake, and connections that end without one.

const assert = require('node:assert/strict');
const {
  OPCODE, WebSocket, next, pair, record, test, testRoles, turn, until, withPeer,
} = require('../support');

const EMPTY = Buffer.alloc(0);

/** Both ends, the one that acts first. */
async function ends(t, role) {
  const { client, serverSide, server } = await pair(t);
  return role === 'client' ? [client, serverSide, server] : [serverSide, client, server];
}

testRoles('close without a code', async (t, role) => {
  const [near, far] = await ends(t, role);
  const logs = [record(near), record(far)];
  near.close();
  assert.equal(near.readyState, WebSocket.CLOSING);
  assert.deepEqual(logs[0], [], 'nothing inside of the call');
  await Promise.all([next(near, 'close'), next(far, 'close')]);
  for (const log of logs) assert.deepEqual(log, [['close', 1005, EMPTY]]);
  assert.equal(near.readyState, WebSocket.CLOSED);
  assert.equal(far.readyState, WebSocket.CLOSED);
});

testRoles('close with a code and a reason', async (t, role) => {
  const cases = [
    [[1000], 1000, ''],
    [[1001, 'going'], 1001, 'going'],
    [[3000, Buffer.from('buffer')], 3000, 'buffer'],
    [[4999, Uint8Array.from([0x61, 0x62])], 4999, 'ab'],
    [[1000, ''], 1000, ''],
    [[1000, undefined], 1000, ''],
    [[1008, '\u20ac'.repeat(41)], 1008, '\u20ac'.repeat(41)],
  ];
  for (const [args, code, reason] of cases) {
    const [near, far] = await ends(t, role);
    const both = Promise.all([next(near, 'close'), next(far, 'close')]);
    near.close(...args);
    for (const [gotCode, gotReason] of await both) {
      assert.equal(gotCode, code);
      assert.ok(Buffer.isBuffer(gotReason));
      assert.equal(gotReason.toString(), reason);
    }
  }
});

test('codes that may be sent', async (t) => {
  const allowed = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999];
  for (const code of allowed) {
    const [near, far] = await ends(t, 'server');
    near.close(code);
    assert.equal((await next(far, 'close'))[0], code);
  }
});

test('codes that may not be sent', async (t) => {
  const [near, far] = await ends(t, 'client');
  const bad = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535, 65536, -1, NaN, '1000', '', true];
  for (const code of bad) {
    assert.throws(() => near.close(code), {
      name: 'TypeError',
      message: 'First argument must be a valid error code number',
    }, String(code));
    assert.equal(near.readyState, WebSocket.OPEN);
  }
  near.send('still open');
  assert.equal((await next(far, 'message'))[0].toString(), 'still open');
});

test('reasons that may not be sent', async (t) => {
  const [near, far] = await ends(t, 'client');
  for (const reason of ['x'.repeat(124), '\u20ac'.repeat(42), Buffer.alloc(124)]) {
    assert.throws(() => near.close(1000, reason), {
      name: 'RangeError',
      message: 'The message must not be greater than 123 bytes',
    });
  }
  assert.equal(near.readyState, WebSocket.OPEN);
  near.send('still open');
  assert.equal((await next(far, 'message'))[0].toString(), 'still open');
});

testRoles('the frames of a closing handshake that we begin', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  subject.close(4001, 'bye');
  const { opcode, masked, payload } = await peer.next();
  assert.deepEqual([opcode, masked], [OPCODE.close, role === 'client']);
  assert.deepEqual([payload.readUInt16BE(), payload.toString('utf8', 2)], [4001, 'bye']);
  peer.write(peer.close(4002, 'bye yourself'));
  peer.socket.end();
  await next(subject, 'close');
  assert.deepEqual(log, [['close', 4002, Buffer.from('bye yourself')]], 'the code of the peer');
  await peer.closed;
});

testRoles('the frames of a closing handshake that the peer begins', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  peer.write(peer.close(4003, 'first'));
  assert.deepEqual(await peer.nextClose(), { code: 4003, reason: 'first' }, 'is echoed');
  peer.socket.end();
  await next(subject, 'close');
  assert.deepEqual(log, [['close', 4003, Buffer.from('first')]]);
});

testRoles('an empty Close is echoed as one', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const closed = next(subject, 'close');
  peer.write(peer.close());
  assert.deepEqual(await peer.nextClose(), { code: undefined, reason: '' });
  peer.socket.end();
  assert.deepEqual(await closed, [1005, EMPTY]);
});

test('a server ends the transport after the closing handshake', async (t) => {
  const { subject, peer } = await withPeer(t, 'server');
  peer.write(peer.close(1000));
  await peer.nextClose();
  await peer.ended;
  peer.socket.end();
  await next(subject, 'close');
});

testRoles('close twice, and after the end', async (t, role) => {
  const [near, far] = await ends(t, role);
  const logs = [record(near), record(far)];
  near.close(1000, 'once');
  near.close(1001, 'twice');
  near.close();
  await Promise.all([next(near, 'close'), next(far, 'close')]);
  near.close();
  near.close(1000);
  near.terminate();
  await turn();
  for (const log of logs) assert.deepEqual(log, [['close', 1000, Buffer.from('once')]]);
});

test('close after the end does not look at its arguments', async (t) => {
  const [near] = await ends(t, 'client');
  near.close();
  await next(near, 'close');
  near.close(5, 'x'.repeat(200));
});

testRoles('both ends close at once', async (t, role) => {
  const [near, far] = await ends(t, role);
  const logs = [record(near), record(far)];
  near.close(1000, 'near');
  far.close(1000, 'far');
  await Promise.all([next(near, 'close'), next(far, 'close')]);
  assert.deepEqual(logs, [
    [['close', 1000, Buffer.from('far')]],
    [['close', 1000, Buffer.from('near')]],
  ]);
});

testRoles('messages that were sent before close arrive', async (t, role) => {
  const [near, far] = await ends(t, role);
  const log = record(far);
  for (let i = 0; i < 100; i++) near.send(Buffer.alloc(20_000, i));
  near.close(1000, 'end');
  await next(far, 'close');
  assert.equal(log.length, 101);
  log.slice(0, 100).forEach(([, data], i) => assert.ok(data.equals(Buffer.alloc(20_000, i))));
  assert.deepEqual(log[100], ['close', 1000, Buffer.from('end')]);
});

testRoles('messages of the peer go on after close until its Close', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  subject.close(1000);
  await peer.nextClose();
  peer.write(peer.text('one more'), peer.ping('p'), peer.close(1000));
  peer.socket.end();
  await next(subject, 'close');
  assert.deepEqual(log, [
    ['message', Buffer.from('one more'), false], ['ping', Buffer.from('p')], ['close', 1000, EMPTY],
  ]);
});

testRoles('close inside of a message listener: those in the same segment still come', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  subject.once('message', () => subject.close(1000));
  peer.write(peer.text('1'), peer.text('2'), peer.text('3'));
  await peer.nextClose();
  peer.write(peer.close(1000));
  peer.socket.end();
  await next(subject, 'close');
  assert.deepEqual(log.map(([name, data]) => [name, String(data)]), [
    ['message', '1'], ['message', '2'], ['message', '3'], ['close', '1000'],
  ]);
});

testRoles('what comes after the Close of the peer is ignored', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  peer.write(peer.text('before'), peer.close(1000), peer.text('after'), Buffer.from([0xff, 0xff, 0xff]));
  await peer.nextClose();
  peer.socket.end();
  await next(subject, 'close');
  assert.deepEqual(log, [['message', Buffer.from('before'), false], ['close', 1000, EMPTY]]);
});

testRoles('the peer leaves without a Close', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  peer.write(peer.text('last'));
  peer.socket.end();
  await next(subject, 'close');
  assert.deepEqual(log, [['message', Buffer.from('last'), false], ['close', 1006, EMPTY]]);
  assert.equal(subject.readyState, WebSocket.CLOSED);
});

testRoles('the peer leaves in the middle of a frame', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  peer.write(peer.text('only a part of it').subarray(0, 10));
  peer.socket.end();
  await next(subject, 'close');
  assert.deepEqual(log, [['close', 1006, EMPTY]]);
});

testRoles('the peer resets the connection', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  peer.socket.resetAndDestroy();
  await next(subject, 'close');
  assert.deepEqual(log, [['close', 1006, EMPTY]], 'which is no error');
});

testRoles('terminate', async (t, role) => {
  const [near, far] = await ends(t, role);
  const logs = [record(near), record(far)];
  near.terminate();
  assert.equal(near.readyState, WebSocket.CLOSING);
  assert.deepEqual(logs[0], [], 'nothing inside of the call');
  await Promise.all([next(near, 'close'), next(far, 'close')]);
  for (const log of logs) assert.deepEqual(log, [['close', 1006, EMPTY]]);
  near.terminate();
  await turn();
  assert.equal(logs[0].length, 1);
});

testRoles('terminate while closing', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  subject.close(1000);
  await peer.nextClose();
  subject.terminate();
  await Promise.all([next(subject, 'close'), peer.closed]);
  assert.deepEqual(log, [['close', 1006, EMPTY]]);
});

testRoles('terminate inside of a message listener', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject, ['message', 'error', 'close']);
  subject.on('message', () => subject.terminate());
  peer.write(peer.text('1'), peer.text('2'));
  await Promise.all([next(subject, 'close'), peer.closed]);
  assert.deepEqual(log[0], ['message', Buffer.from('1'), false]);
  assert.deepEqual(log.at(-1), ['close', 1006, EMPTY]);
  assert.ok(log.slice(0, -1).every(([name]) => name === 'message'));
});

testRoles('closeTimeout', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, { options: { closeTimeout: 50 } });
  const log = record(subject);
  subject.close(1000);
  await Promise.all([next(subject, 'close'), peer.closed]);
  assert.deepEqual(log, [['close', 1006, EMPTY]]);
});

testRoles('closing inside of a listener of close', async (t, role) => {
  const [near, far] = await ends(t, role);
  let calls = 0;
  near.on('close', () => {
    calls += 1;
    near.close();
    near.terminate();
    assert.equal(near.readyState, WebSocket.CLOSED);
  });
  far.close();
  await next(near, 'close');
  await turn();
  assert.equal(calls, 1);
});

testRoles('the state when the peer has begun to close', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const states = [];
  subject.on('message', () => states.push(subject.readyState));
  subject.on('close', () => states.push(subject.readyState));
  peer.write(peer.text('x'), peer.close(1000));
  await peer.nextClose();
  assert.ok(subject.readyState >= WebSocket.CLOSING);
  peer.socket.end();
  await until(() => states.length === 2);
  assert.deepEqual(states, [WebSocket.OPEN, WebSocket.CLOSED]);
});

testRoles('the reason does not change when it is kept', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const closed = next(subject, 'close');
  peer.write(peer.binary(Buffer.alloc(500)), peer.close(1000, 'keep this'));
  await peer.nextClose();
  peer.socket.end();
  const [, reason] = await closed;
  assert.equal(reason.toString(), 'keep this');
  assert.equal(reason.buffer.byteLength, reason.length, 'and keeps nothing else in memory');
});

test('a listener of error is not called for any of this', async (t) => {
  const [near, far] = await ends(t, 'client');
  const log = [near, far].map((socket) => record(socket, ['error']));
  near.close();
  await Promise.all([next(near, 'close'), next(far, 'close')]);
  assert.deepEqual(log, [[], []]);
});
