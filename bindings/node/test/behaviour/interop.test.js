'use strict';
// The other library as the peer, in both directions.

const assert = require('node:assert/strict');
const {
  WebSocket, next, once, record, startClient, startPeerClient, startPeerServer, startServer, test, until,
} = require('../support');

const payloads = [
  '', 'text', '\u20ac\u{1f600}', 'x'.repeat(125), 'x'.repeat(126), 'x'.repeat(65_536), Buffer.alloc(0),
  Buffer.from([0, 255]), Buffer.alloc(65_535, 1), Buffer.alloc(300_000, 2),
];

async function echoes(client) {
  const log = record(client, ['message']);
  for (const payload of payloads) client.send(payload);
  await until(() => log.length === payloads.length);
  payloads.forEach((payload, i) => {
    assert.ok(log[i][1].equals(Buffer.from(payload)), `echo ${i}`);
    assert.equal(log[i][2], typeof payload !== 'string');
  });
  const pong = next(client, 'pong');
  client.ping('ping');
  assert.equal((await pong)[0].toString(), 'ping');
}

const echo = (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
};

for (const perMessageDeflate of [false, true]) {
  test(`our server, their client, which offers ${perMessageDeflate ? 'compression' : 'nothing'}`, async (t) => {
    const server = await startServer(t);
    server.on('connection', echo);
    const client = startPeerClient(t, server.url, { perMessageDeflate });
    await once(client, 'open');
    assert.equal(client.extensions, '');
    await echoes(client);
    const [serverSide] = [...server.clients];
    const closed = Promise.all([next(serverSide, 'close'), next(client, 'close')]);
    client.close(4321, 'over');
    for (const [code, reason] of await closed) assert.deepEqual([code, reason.toString()], [4321, 'over']);
  });

  test(`their server, which ${perMessageDeflate ? 'compresses' : 'does not compress'}, our client`, async (t) => {
    const server = await startPeerServer(t, { perMessageDeflate });
    server.on('connection', echo);
    const client = startClient(t, server.url, { perMessageDeflate: false });
    await once(client, 'open');
    assert.equal(client.extensions, '');
    await echoes(client);
    const [serverSide] = [...server.clients];
    const closed = Promise.all([next(serverSide, 'close'), next(client, 'close')]);
    serverSide.close(1001, 'going');
    for (const [code, reason] of await closed) assert.deepEqual([code, reason.toString()], [1001, 'going']);
    assert.equal(client.readyState, WebSocket.CLOSED);
  });
}

test('subprotocols, headers and paths', async (t) => {
  const theirs = await startPeerServer(t, { handleProtocols: (protocols) => [...protocols].at(-1), path: '/p' });
  const connected = next(theirs, 'connection');
  const client = startClient(t, `${theirs.url}/p?q`, ['a', 'b'], { headers: { 'X-Y': 'z' } });
  await once(client, 'open');
  const [, request] = await connected;
  assert.equal(client.protocol, 'b');
  assert.equal(request.url, '/p?q');
  assert.equal(request.headers['x-y'], 'z');
  const lost = startClient(t, `${theirs.url}/elsewhere`);
  await assert.rejects(once(lost, 'open'), { message: 'Unexpected server response: 400' });

  const ours = await startServer(t, { handleProtocols: (protocols) => [...protocols].at(-1), path: '/p' });
  const peer = startPeerClient(t, `${ours.url}/p`, ['a', 'b']);
  await once(peer, 'open');
  assert.equal(peer.protocol, 'b');
});

test('their client terminates, our server hears it', async (t) => {
  const server = await startServer(t);
  const client = startPeerClient(t, server.url);
  await once(client, 'open');
  const [serverSide] = [...server.clients];
  client.terminate();
  assert.deepEqual(await next(serverSide, 'close'), [1006, Buffer.alloc(0)]);
});
