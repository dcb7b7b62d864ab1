'use strict';
// What is different from `ws` on purpose, as README.md has it.

const assert = require('node:assert/strict');
const {
  OPCODE, next, once, pair, rawServer, record, startClient, startServer, test, testRoles, turn, until, withPeer,
} = require('../support');

test('a response other than 101 is an error, whoever listens to unexpected-response', async (t) => {
  const server = await rawServer(t, { respond: () => 'HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno' });
  const client = startClient(t, server.url);
  const log = record(client, ['unexpected-response', 'error', 'close']);
  await next(client, 'close');
  assert.deepEqual(log.map(([name, argument]) => [name, argument.message]), [
    ['error', 'Unexpected server response: 404'], ['close', undefined],
  ]);
});

testRoles('pause inside of a listener: nothing more comes until resume', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject, ['message', 'ping']);
  subject.once('message', () => subject.pause());
  peer.write(peer.text('1'), peer.text('2'), peer.ping('3'), peer.text('4'));
  await until(() => log.length === 1);
  for (let i = 0; i < 20; i++) await turn();
  assert.equal(log.length, 1);
  subject.resume();
  await until(() => log.length === 4);
  assert.deepEqual(log.map(([, data]) => data.toString()), ['1', '2', '3', '4']);
});

testRoles('of the pongs that wait for a peer which does not read, the latest is kept', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  peer.socket.pause();
  const chunk = Buffer.alloc(1 << 20);
  for (let i = 0; i < 16; i++) subject.send(chunk);
  let pings = 0;
  subject.on('ping', () => { pings += 1; });
  peer.write(...Array.from({ length: 500 }, (_, i) => peer.ping(String(i))));
  await until(() => pings === 500);
  assert.equal(subject.readyState, 1);
  peer.socket.resume();
  for (let i = 0; i < 16; i++) assert.equal((await peer.next()).opcode, OPCODE.binary);
  subject.send('end');
  const pongs = [];
  for (let frame = await peer.next(); frame.opcode === OPCODE.pong; frame = await peer.next()) {
    pongs.push(frame.payload.toString());
  }
  assert.deepEqual(pongs, ['499']);
});

testRoles('fragments of a received message come as one part', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.binaryType = 'fragments';
  peer.write(peer.binary('a', { fin: false }), peer.continuation('b', { fin: false }), peer.continuation('c'));
  assert.deepEqual((await next(subject, 'message'))[0], [Buffer.from('abc')]);
});

test('text is UTF-8', async (t) => {
  const { client, serverSide } = await pair(t);
  assert.throws(() => client.send(Buffer.from([0xff]), { binary: false }), { name: 'TypeError', message: /UTF-8/ });
  client.send('after it');
  assert.equal((await next(serverSide, 'message'))[0].toString(), 'after it');
});

testRoles('a length that is not in its shortest form', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const failed = next(subject, 'error');
  const masked = role === 'server' ? 0x80 : 0;
  peer.write(Buffer.from([0x82, masked | 126, 0, 5]), Buffer.alloc(masked ? 4 : 0), Buffer.from('12345'));
  assert.ok((await failed)[0] instanceof RangeError);
  assert.equal((await peer.nextClose()).code, 1002);
});

test('masks are not for the user to choose (RFC 6455, section 5.3)', async (t) => {
  const { client, serverSide } = await pair(t);
  client.send('as it has to be', { mask: true });
  assert.equal((await next(serverSide, 'message'))[0].toString(), 'as it has to be');
  assert.throws(() => client.send('x', { mask: false }), /unmasked/);
  assert.throws(() => serverSide.send('x', { mask: true }), /Masking/);
  assert.throws(() => client.ping('x', false), /unmasked/);
});

test('the socket of a connection is not for writing', async (t) => {
  const { client, request } = await pair(t);
  for (const socket of [request.socket, client._socket]) {
    assert.throws(() => socket.write('x'), { code: 'WSABI_ERR_NOT_SUPPORTED' });
  }
});

test('the memory of small messages cannot be taken from the others', async (t) => {
  const { client, serverSide } = await pair(t);
  client.send(Buffer.from('small'));
  const [data] = await next(serverSide, 'message');
  try {
    structuredClone(data.buffer, { transfer: [data.buffer] });
  } catch (error) {
    // Node.js 20 copies what may not be transferred, later versions refuse it.
    assert.equal(error.name, 'DataCloneError');
  }
  assert.equal(data.toString(), 'small');
});

test('servers that share a port with reusePort', async (t) => {
  const first = await startServer(t, { reusePort: true });
  const second = await startServer(t, { reusePort: true, port: first.port });
  assert.equal(second.port, first.port);
  await once(startClient(t, first.url), 'open');
});

test('a SharedArrayBuffer is sent as it is at the time of the call', async (t) => {
  const { client, serverSide } = await pair(t);
  const shared = new SharedArrayBuffer(2);
  const view = new Uint8Array(shared);
  view.set([7, 8]);
  client.send(shared);
  view.set([0, 0]);
  assert.deepEqual((await next(serverSide, 'message'))[0], Buffer.from([7, 8]));
});
