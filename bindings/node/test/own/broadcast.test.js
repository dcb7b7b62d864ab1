'use strict';
// Messages that are made once and sent to many.

const assert = require('node:assert/strict');
const {
  OPCODE, WebSocket, WebSocketServer, next, once, pair, rawClient, startClient, startServer, test, testRoles, turn,
  until, withPeer,
} = require('../support');
const { program } = require('../support/child');

/** A server and open clients of it, whose messages are in `got`. */
async function crowd(t, count, serverOptions, clientOptions = () => ({})) {
  const server = await startServer(t, serverOptions);
  const sides = [];
  server.on('connection', (socket) => sides.push(socket));
  const clients = [];
  for (let i = 0; i < count; i++) {
    const client = startClient(t, server.url, clientOptions(i));
    client.got = [];
    client.on('message', (data, isBinary) => client.got.push(isBinary ? data : data.toString()));
    await once(client, 'open');
    clients.push(client);
  }
  await until(() => sides.length === count);
  return { server, sides, clients };
}

testRoles('a prepared message is sent as what it was prepared from', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  for (const [data, options, opcode, payload] of [
    ['text', undefined, OPCODE.text, 'text'],
    [Buffer.from('bytes'), undefined, OPCODE.binary, 'bytes'],
    ['text', { binary: true }, OPCODE.binary, 'text'],
    [Buffer.from('text'), { binary: false }, OPCODE.text, 'text'],
    [new Uint8Array([65, 66]).buffer, {}, OPCODE.binary, 'AB'],
    [42, {}, OPCODE.text, '42'],
    ['', {}, OPCODE.text, ''],
    ['z'.repeat(100_000), {}, OPCODE.text, 'z'.repeat(100_000)],
  ]) {
    const message = WebSocket.prepare(data, options);
    assert.deepEqual([message.isBinary, message.byteLength], [opcode === OPCODE.binary, payload.length]);
    await new Promise((resolve, reject) => subject.send(message, (error) => (error ? reject(error) : resolve())));
    // The options of a send are not those of what was prepared.
    subject.send(message, { binary: opcode !== OPCODE.binary, compress: true });
    for (let i = 0; i < 2; i++) {
      const frame = await peer.next();
      assert.deepEqual([frame.opcode, frame.rsv, frame.payload.toString()], [opcode, 0, payload]);
    }
  }
});

test('what is prepared is copied', async (t) => {
  const { client, serverSide } = await pair(t);
  const data = Buffer.from('before');
  const message = WebSocket.prepare(data);
  data.write('AFTER!');
  client.send(message);
  assert.equal((await next(serverSide, 'message'))[0].toString(), 'before');
});

test('what cannot be prepared', async (t) => {
  assert.throws(() => WebSocket.prepare(Buffer.from([0xff]), { binary: false }), { name: 'TypeError', message: /UTF-8/ });
  assert.throws(() => WebSocket.prepare(new Blob(['x'])), { name: 'TypeError', message: /Blob/ });
  assert.throws(() => WebSocket.prepare(Symbol('x')), TypeError);
  const { client } = await pair(t);
  const forged = Object.create(Object.getPrototypeOf(WebSocket.prepare('x')));
  assert.throws(() => client.send(forged), TypeError);
  client.send('whole');
});

testRoles('amid a fragmented message there is no place for one', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const message = WebSocket.prepare('prepared');
  subject.send('a', { fin: false });
  assert.throws(() => subject.send(message), /fragmented message/);
  assert.throws(() => subject.send(message, { fin: true }), /fragmented message/);
  subject.send('b', { fin: true });
  subject.send(message);
  const got = [];
  for (let i = 0; i < 3; i++) got.push((await peer.next()).payload.toString());
  assert.deepEqual(got, ['a', 'b', 'prepared']);
});

testRoles('a prepared message waits for a Blob, and is not sent after the end', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const message = WebSocket.prepare('prepared');
  subject.send(new Blob(['blob']));
  subject.send(message);
  assert.deepEqual([(await peer.next()).payload.toString(), (await peer.next()).payload.toString()], ['blob', 'prepared']);
  subject.close();
  const error = await new Promise((resolve) => subject.send(message, resolve));
  assert.match(error.message, /not open/);
  assert.equal(subject.bufferedAmount, message.byteLength);
});

test('broadcast to all, and to all but one', async (t) => {
  const { server, sides, clients } = await crowd(t, 5);
  assert.deepEqual(server.broadcast('to all'), { sent: 5, backpressure: 0, refused: 0 });
  assert.deepEqual(server.broadcast(Buffer.from('bytes'), { except: sides[2] }), { sent: 4, backpressure: 0, refused: 0 });
  assert.deepEqual(server.broadcast(WebSocket.prepare('prepared')), { sent: 5, backpressure: 0, refused: 0 });
  assert.deepEqual(server.broadcast('as bytes', { binary: true, except: null }), { sent: 5, backpressure: 0, refused: 0 });
  await until(() => clients.every(({ got }) => got.length >= 3 && Buffer.from('as bytes').equals(got.at(-1))));
  for (const [i, { got }] of clients.entries()) {
    const bytes = i === 2 ? [] : [Buffer.from('bytes')];
    assert.deepEqual(got, ['to all', ...bytes, 'prepared', Buffer.from('as bytes')]);
  }
});

test('broadcast inside of a listener', async (t) => {
  const { server, sides, clients } = await crowd(t, 3);
  for (const side of sides) {
    side.on('message', (data) => server.broadcast(data.toString(), { except: side }));
  }
  clients[0].send('from 0');
  await until(() => clients[1].got.length + clients[2].got.length === 2);
  assert.deepEqual(clients.map(({ got }) => got), [[], ['from 0'], ['from 0']]);
});

test('a broadcast is compressed for those who have agreed', async (t) => {
  const server = await startServer(t, { perMessageDeflate: true });
  const offers = [
    {}, { 'Sec-WebSocket-Extensions': 'permessage-deflate' },
    { 'Sec-WebSocket-Extensions': 'permessage-deflate; server_max_window_bits=9; server_no_context_takeover' },
  ];
  const peers = [];
  for (const headers of offers) peers.push((await rawClient(t, server.port, { headers })).peer);
  await until(() => server.clients.size === 3);
  const frames = async () => Promise.all(peers.map((peer) => peer.next()));
  server.broadcast('x'.repeat(3000));
  assert.deepEqual((await frames()).map(({ rsv }) => rsv), [0, 4, 4]);
  server.broadcast('x'.repeat(1023));
  assert.deepEqual((await frames()).map(({ rsv }) => rsv), [0, 0, 0], 'below the threshold');
  server.broadcast('x'.repeat(100), { compress: true });
  assert.deepEqual((await frames()).map(({ rsv }) => rsv), [0, 4, 4]);
  server.broadcast('x'.repeat(3000), { compress: false });
  assert.deepEqual((await frames()).map(({ rsv }) => rsv), [0, 0, 0]);
});

test('who is not open is passed over, and who is in the middle of a message refuses', async (t) => {
  const { server, sides, clients } = await crowd(t, 4);
  sides[0].close();
  sides[1].send('begun', { fin: false });
  sides[2].terminate();
  assert.deepEqual(server.broadcast('x'), { sent: 1, backpressure: 0, refused: 1 });
  sides[1].send(' and done', { fin: true });
  await until(() => clients[1].got.length === 1 && clients[3].got.length === 1);
  assert.equal(clients[1].got[0], 'begun and done');
});

test('a broadcast waits for a Blob', async (t) => {
  const { server, sides, clients } = await crowd(t, 2);
  sides[0].send(new Blob(['blob']), { binary: false });
  assert.deepEqual(server.broadcast('after it'), { sent: 2, backpressure: 0, refused: 0 });
  await until(() => clients[0].got.length === 2 && clients[1].got.length === 1);
  assert.deepEqual(clients[0].got, ['blob', 'after it']);
});

test('what a broadcast dropped is not taken for what was sent', async (t) => {
  const { server, sides, clients } = await crowd(t, 1);
  clients[0].pause();
  const outcomes = [];
  sides[0].send('written', (error) => outcomes.push(error?.code ?? null));
  await until(() => outcomes.length === 1);
  for (let i = 0; i < 10; i++) server.broadcast(Buffer.alloc(1 << 20));
  sides[0].send('dropped', (error) => outcomes.push(error?.code ?? null));
  for (let i = 0; i < 10; i++) server.broadcast(Buffer.alloc(1 << 20));
  await turn();
  sides[0].terminate();
  await until(() => outcomes.length === 2);
  assert.deepEqual(outcomes, [null, 'ERR_STREAM_DESTROYED']);
});

test('backpressure is told', async (t) => {
  const { server, clients } = await crowd(t, 2);
  clients[0].pause();
  const big = WebSocket.prepare(Buffer.alloc(1 << 20, 'b'));
  let last;
  for (let i = 0; i < 24; i++) {
    last = server.broadcast(big);
    await turn();
  }
  assert.equal(last.sent, 2);
  assert.ok(last.backpressure >= 1);
  clients[0].resume();
  await until(() => clients.every(({ got }) => got.length === 24));
});

test('callbacks of sends between broadcasts', async (t) => {
  const { server, sides, clients } = await crowd(t, 1);
  clients[0].pause();
  let done = 0;
  for (let i = 0; i < 20; i++) {
    server.broadcast(Buffer.alloc(1 << 20));
    sides[0].send('x', () => { done += 1; });
  }
  await new Promise((resolve) => setTimeout(resolve, 100));
  assert.ok(done < 20);
  clients[0].resume();
  await until(() => done === 20 && clients[0].got.length === 40);
});

test('a server without clients, without clientTracking, that closes, and that is closed', async (t) => {
  const empty = await startServer(t);
  assert.deepEqual(empty.broadcast('x'), { sent: 0, backpressure: 0, refused: 0 });
  const { server, clients } = await crowd(t, 2, { clientTracking: false });
  assert.deepEqual(server.broadcast('x'), { sent: 2, backpressure: 0, refused: 0 });
  const closed = new Promise((resolve) => server.close(resolve));
  assert.deepEqual(server.broadcast('y'), { sent: 2, backpressure: 0, refused: 0 });
  await until(() => clients.every(({ got }) => got.length === 2));
  for (const client of clients) client.close();
  await closed;
  assert.deepEqual(server.broadcast('z'), { sent: 0, backpressure: 0, refused: 0 });
});

test('what broadcast does not take', async (t) => {
  const { server } = await crowd(t, 1);
  assert.throws(() => server.broadcast('x', { except: {} }), { name: 'TypeError', message: /"except"/ });
  assert.throws(() => server.broadcast(Buffer.from([0xff]), { binary: false }), { name: 'TypeError', message: /UTF-8/ });
  assert.ok(new WebSocketServer({ port: 0, host: '127.0.0.1' }, function close() { this.close(); }));
});

test('prepared messages and broadcasts leave no memory behind', async (t) => {
  const running = program(t, `
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: true });
    const total = () => process.memoryUsage().rss;
    server.on('listening', async () => {
      const clients = [];
      for (let i = 0; i < 5; i++) {
        const client = new WebSocket('ws://127.0.0.1:' + server.address().port, { perMessageDeflate: i % 2 === 0 });
        await new Promise((resolve) => client.on('open', resolve));
        client.count = 0;
        client.on('message', () => { client.count += 1; });
        clients.push(client);
      }
      const filler = Buffer.alloc(100_000);
      let sent = 0;
      async function round() {
        for (let i = 0; i < 200; i++) {
          filler.writeUInt32LE(i, i * 4);
          server.broadcast(filler, { compress: i % 2 === 0 });
          server.broadcast(WebSocket.prepare('text '.repeat(10_000)));
          sent += 2;
          if (i % 20 === 19) {
            while (clients.some(({ count }) => count < sent)) await new Promise((resolve) => setImmediate(resolve));
          }
        }
        for (let i = 0; i < 5; i++) { await new Promise((resolve) => setImmediate(resolve)); gc(); }
        return total();
      }
      for (let i = 0; i < 5; i++) say(await round());
      for (const client of clients) client.close();
      server.close();
    });
  `, { args: ['--expose-gc'] });
  const sizes = [];
  for (let i = 0; i < 5; i++) sizes.push(await running.line());
  assert.equal((await running.exited).code, 0);
  // 30 MB of messages in each round.
  const growth = Math.min(...[2, 3, 4].map((i) => sizes[i] - sizes[i - 1]));
  assert.ok(growth < 8e6, sizes.join());
}, { timeout: 60_000 });
