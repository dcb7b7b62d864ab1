'use strict';
// `send`: what may be sent, as what it arrives, and what its callback says.

const assert = require('node:assert/strict');
const {
  OPCODE, WebSocket, next, pair, rawServer, record, startClient, test, testRoles, turn, until, withPeer,
} = require('../support');

const bytes = Uint8Array.from([1, 2, 3, 250, 251, 252, 253, 254]);

test('what arrives for each type of data', async (t) => {
  const { client, serverSide } = await pair(t);
  const cases = [
    ['text', 'text', false],
    ['', '', false],
    ['\u20ac\u{1f600}', '\u20ac\u{1f600}', false],
    ['\u00e9\u00ff', '\u00e9\u00ff', false],
    ['a\0b', 'a\0b', false],
    ['half \ud800 a pair', 'half \ufffd a pair', false],
    ['\u{1f600}'.repeat(5000), '\u{1f600}'.repeat(5000), false],
    [0, '0', false],
    [-1.5, '-1.5', false],
    [undefined, '', true],
    [null, '', true],
    [false, '', true],
    [Buffer.from('buffer'), 'buffer', true],
    [Buffer.alloc(0), '', true],
    [bytes, Buffer.from(bytes), true],
    [bytes.subarray(2, 5), Buffer.from([3, 250, 251]), true],
    [new DataView(bytes.buffer, 1, 2), Buffer.from([2, 3]), true],
    [new Uint16Array(bytes.buffer, 4, 1), Buffer.from([251, 252]), true],
    [new Float64Array([1]), Buffer.from(new Float64Array([1]).buffer), true],
    [bytes.buffer, Buffer.from(bytes), true],
    [[1, 2, 300], Buffer.from([1, 2, 44]), true],
    [new Blob(['blob']), 'blob', true],
  ];
  for (const [sender, receiver] of [[client, serverSide], [serverSide, client]]) {
    const log = record(receiver, ['message']);
    for (const [data] of cases) sender.send(data);
    await until(() => log.length === cases.length);
    cases.forEach(([data, expected, isBinary], i) => {
      const [, received, binary] = log[i];
      assert.ok(Buffer.isBuffer(received));
      assert.deepEqual(received, Buffer.from(expected), `data ${i}: ${String(data)}`);
      assert.equal(binary, isBinary, `data ${i}: ${String(data)}`);
    });
  }
});

test('what cannot be sent is a TypeError of send', async (t) => {
  const { client, serverSide } = await pair(t);
  for (const data of [true, {}, Symbol('x'), () => {}]) {
    assert.throws(() => client.send(data), TypeError);
  }
  client.send('after');
  assert.equal((await next(serverSide, 'message'))[0].toString(), 'after');
});

test('binary chooses the type of message', async (t) => {
  const { client, serverSide } = await pair(t);
  const log = record(serverSide, ['message']);
  client.send('text as binary', { binary: true });
  client.send(Buffer.from('buffer as text'), { binary: false });
  client.send(bytes.subarray(0, 1), {});
  client.send('plain', { compress: true });
  await until(() => log.length === 4);
  assert.deepEqual(log.map(([, data, isBinary]) => [data.toString('latin1'), isBinary]), [
    ['text as binary', true], ['buffer as text', false], ['\u0001', true], ['plain', false],
  ]);
});

testRoles('frames: opcode, FIN, and masks of clients only', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.send('text');
  subject.send(Buffer.from('binary'));
  subject.send('');
  const frames = [await peer.next(), await peer.next(), await peer.next()];
  assert.deepEqual(
    frames.map(({ fin, rsv, opcode, masked, payload }) => [fin, rsv, opcode, masked, payload.toString()]),
    [
      [true, 0, OPCODE.text, role === 'client', 'text'],
      [true, 0, OPCODE.binary, role === 'client', 'binary'],
      [true, 0, OPCODE.text, role === 'client', ''],
    ],
  );
});

testRoles('fin: false sends a message in fragments', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.send('fra', { fin: false });
  subject.send('gmen', { fin: false });
  subject.ping('between');
  subject.send('ted', { fin: true });
  subject.send(Buffer.from('b'), { fin: false });
  subject.send('', { fin: true });
  subject.send('whole');
  const seen = [];
  for (let i = 0; i < 7; i++) {
    const { fin, opcode, payload } = await peer.next();
    seen.push([fin, opcode, payload.toString()]);
  }
  assert.deepEqual(seen, [
    [false, OPCODE.text, 'fra'],
    [false, OPCODE.continuation, 'gmen'],
    [true, OPCODE.ping, 'between'],
    [true, OPCODE.continuation, 'ted'],
    [false, OPCODE.binary, 'b'],
    [true, OPCODE.continuation, ''],
    [true, OPCODE.text, 'whole'],
  ]);
});

test('sizes around the borders of the length field', async (t) => {
  const { client, serverSide } = await pair(t);
  const sizes = [0, 1, 124, 125, 126, 127, 65534, 65535, 65536, 65537, 200_000];
  for (const [sender, receiver] of [[client, serverSide], [serverSide, client]]) {
    const log = record(receiver, ['message']);
    for (const size of sizes) sender.send(Buffer.alloc(size, size % 251));
    for (const size of sizes) sender.send('x'.repeat(size));
    await until(() => log.length === 2 * sizes.length);
    sizes.forEach((size, i) => {
      assert.ok(log[i][1].equals(Buffer.alloc(size, size % 251)), `${size} octets`);
      assert.equal(log[sizes.length + i][1].toString(), 'x'.repeat(size));
    });
  }
});

test('the data of the user is not written to', async (t) => {
  const { client, serverSide } = await pair(t);
  const buffer = Buffer.from('do not mask me');
  const array = Uint8Array.from([1, 2, 3]);
  const log = record(serverSide, ['message', 'ping']);
  client.send(buffer);
  client.send(array);
  client.send(array.buffer);
  client.ping(buffer);
  await until(() => log.length === 4);
  assert.equal(buffer.toString(), 'do not mask me');
  assert.deepEqual([...array], [1, 2, 3]);
});

test('data that a client changes after send', async (t) => {
  const { client, serverSide } = await pair(t);
  const buffer = Buffer.alloc(1000, 'a');
  client.send(buffer);
  buffer.fill('b');
  assert.equal((await next(serverSide, 'message'))[0].toString(), 'a'.repeat(1000));
});

test('a Blob keeps its place', async (t) => {
  const { client, serverSide } = await pair(t);
  const log = record(serverSide, ['message', 'ping']);
  const called = [];
  client.send('1', () => called.push('1'));
  client.send(new Blob(['2']), () => called.push('2'));
  client.send('3', () => called.push('3'));
  client.ping('4');
  client.send(new Blob(['5', '6']), { binary: false }, () => called.push('5'));
  client.send('7', () => called.push('7'));
  await until(() => log.length === 6 && called.length === 5);
  assert.deepEqual(log.map(([, data]) => data.toString()), ['1', '2', '3', '4', '56', '7']);
  assert.deepEqual(log.map(([, , isBinary]) => isBinary), [false, true, false, undefined, false, false]);
  assert.deepEqual(called, ['1', '2', '3', '5', '7']);
});

test('close after a Blob waits for it', async (t) => {
  const { client, serverSide } = await pair(t);
  const log = record(serverSide, ['message', 'close']);
  client.send(new Blob(['last']));
  client.close(1000, 'done');
  await until(() => log.length === 2);
  assert.deepEqual(log, [['message', Buffer.from('last'), true], ['close', 1000, Buffer.from('done')]]);
});

test('terminate while a Blob is read', async (t) => {
  const { client, serverSide } = await pair(t);
  const log = record(serverSide, ['message', 'close']);
  const heard = [];
  client.send(new Blob(['1']), (error) => heard.push(error));
  client.send('2', (error) => heard.push(error));
  client.terminate();
  await Promise.all([next(client, 'close'), next(serverSide, 'close')]);
  await until(() => heard.length === 2);
  await turn();
  assert.equal(heard.length, 2, 'each once');
  for (const error of heard) assert.ok(error instanceof Error);
  assert.deepEqual(log, [['close', 1006, Buffer.alloc(0)]]);
});

test('the callback comes after send has returned, without an error, in order', async (t) => {
  const { client, serverSide } = await pair(t);
  for (const sender of [client, serverSide]) {
    const called = [];
    sender.send('a', (error) => called.push(['a', error == null]));
    sender.send(Buffer.from('b'), {}, (error) => called.push(['b', error == null]));
    sender.send('c', undefined, (error) => called.push(['c', error == null]));
    sender.ping('d', undefined, (error) => called.push(['d', error == null]));
    sender.send('', (error) => called.push(['e', error == null]));
    assert.deepEqual(called, []);
    await until(() => called.length === 5);
    assert.deepEqual(called, ['a', 'b', 'c', 'd', 'e'].map((name) => [name, true]));
  }
});

test('a send inside of a callback', async (t) => {
  const { client, serverSide } = await pair(t);
  const log = record(serverSide, ['message']);
  let left = 100;
  const more = () => { if (left-- > 0) client.send(String(left), more); };
  more();
  await until(() => log.length === 100);
  assert.deepEqual(log.map(([, data]) => Number(data)), Array.from({ length: 100 }, (_, i) => 99 - i));
});

test('while connecting, send throws', async (t) => {
  const server = await rawServer(t, { respond: () => null });
  const client = startClient(t, server.url);
  const message = 'WebSocket is not open: readyState 0 (CONNECTING)';
  let called = 0;
  assert.throws(() => client.send('x', () => { called += 1; }), { name: 'Error', message });
  assert.throws(() => client.ping('x'), { name: 'Error', message });
  assert.throws(() => client.pong('x'), { name: 'Error', message });
  await turn();
  assert.equal(called, 0);
  assert.equal(client.bufferedAmount, 0);
});

for (const [state, number, reach] of [
  ['CLOSING', 2, (socket) => socket.close()],
  ['CLOSED', 3, async (socket) => {
    socket.close();
    await next(socket, 'close');
  }],
]) {
  testRoles(`when ${state}, the callback hears an error`, async (t, role) => {
    const { client, serverSide } = await pair(t);
    const subject = role === 'client' ? client : serverSide;
    await reach(subject);
    assert.equal(subject.readyState, number);
    const heard = [];
    subject.send('x', (error) => heard.push(error));
    subject.send(Buffer.from('y'), {}, (error) => heard.push(error));
    subject.ping('z', undefined, (error) => heard.push(error));
    subject.pong('z', undefined, (error) => heard.push(error));
    subject.send('without a callback');
    assert.deepEqual(heard, [], 'not inside of the call');
    await turn();
    assert.equal(heard.length, 4);
    for (const error of heard) {
      assert.ok(error instanceof Error);
      assert.equal(error.message, `WebSocket is not open: readyState ${number} (${state})`);
    }
  });
}

test('when closed, bufferedAmount counts what is not sent', async (t) => {
  const { client } = await pair(t);
  client.close();
  await next(client, 'close');
  const before = client.bufferedAmount;
  client.send('four');
  client.send(Buffer.alloc(10));
  client.send('\u20ac');
  client.send(5);
  client.send(new Blob(['12']));
  client.send('');
  assert.equal(client.bufferedAmount - before, 4 + 10 + 3 + 1 + 2);
});

testRoles('the callbacks of what could not be written hear an error', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  peer.socket.pause();
  const heard = [];
  const chunk = Buffer.alloc(1 << 20);
  for (let i = 0; i < 30; i++) subject.send(chunk, (error) => heard.push(error));
  await turn();
  assert.ok(subject.bufferedAmount > 0);
  subject.terminate();
  await next(subject, 'close');
  await until(() => heard.length === 30);
  await turn();
  assert.equal(heard.length, 30, 'each once');
  assert.ok(heard.at(-1) instanceof Error);
  const firstError = heard.findIndex((error) => error != null);
  assert.ok(heard.slice(firstError).every((error) => error instanceof Error), 'after one that failed all fail');
  assert.equal(subject.readyState, WebSocket.CLOSED);
});

test('a callback that is no function is ignored when nothing goes wrong', async (t) => {
  const { client, serverSide } = await pair(t);
  client.send('x', undefined, undefined);
  assert.equal((await next(serverSide, 'message'))[0].toString(), 'x');
});
