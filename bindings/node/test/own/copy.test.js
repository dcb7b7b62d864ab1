'use strict';
// Data that is sent from where it is: `send(data, { copy: false })`.

const assert = require('node:assert/strict');
const { OPCODE, next, pair, record, test, testRoles, turn, until, withPeer } = require('../support');
const { program } = require('../support/child');

const MEGABYTE = 1 << 20;

testRoles('what is sent is what comes', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const text = Buffer.from('\u00e4'.repeat(5000));
  for (const [data, options, payload] of [
    [Buffer.alloc(0), {}, Buffer.alloc(0)],
    [Buffer.from('small'), {}, Buffer.from('small')],
    [Buffer.alloc(4096, 'a'), {}, Buffer.alloc(4096, 'a')],
    [new Uint8Array(100_000).fill(7), {}, Buffer.alloc(100_000, 7)],
    [new Float64Array(10_000).subarray(5), {}, Buffer.alloc(79_960)],
    [new DataView(new ArrayBuffer(50_000), 10), {}, Buffer.alloc(49_990)],
    [new ArrayBuffer(50_000), {}, Buffer.alloc(50_000)],
    [new SharedArrayBuffer(50_000), {}, Buffer.alloc(50_000)],
    [text, { binary: false }, text],
    ['a string', {}, Buffer.from('a string')],
    [new Blob([text]), {}, text],
  ]) {
    await new Promise((resolve, reject) => {
      subject.send(data, { ...options, copy: false }, (error) => (error ? reject(error) : resolve()));
    });
    assert.ok((await peer.next()).payload.equals(payload));
  }
});

test('while the peer does not read, too, and in order with others', async (t) => {
  const { subject, peer } = await withPeer(t, 'server');
  peer.socket.pause();
  let done = 0;
  for (let i = 0; i < 100; i++) {
    subject.send(Buffer.alloc(300_000, i), { copy: i % 3 === 0 }, () => { done += 1; });
    subject.send(`after ${i}`);
  }
  await turn();
  assert.ok(done < 100);
  assert.ok(subject.bufferedAmount > 10 * MEGABYTE);
  global.gc?.();
  peer.socket.resume();
  for (let i = 0; i < 100; i++) {
    assert.ok((await peer.next()).payload.equals(Buffer.alloc(300_000, i)));
    assert.equal((await peer.next()).payload.toString(), `after ${i}`);
  }
  await until(() => done === 100 && subject.bufferedAmount === 0);
});

test('a buffer that many have', async (t) => {
  const { client, serverSide } = await pair(t);
  const data = Buffer.alloc(MEGABYTE, 'shared');
  const got = [];
  client.on('message', (each) => got.push(each));
  for (let i = 0; i < 20; i++) serverSide.send(data, { copy: false });
  await until(() => got.length === 20);
  assert.ok(got.every((each) => each.equals(data)));
});

test('what is compressed is not sent from where it is', async (t) => {
  const { client, serverSide } = await pair(t, { server: { perMessageDeflate: true } });
  const data = Buffer.alloc(100_000, 'a');
  serverSide.send(data, { copy: false });
  data.fill('b');
  assert.ok((await next(client, 'message'))[0].equals(Buffer.alloc(100_000, 'a')));
});

test('text is checked', async (t) => {
  const { client, serverSide } = await pair(t);
  const bad = Buffer.alloc(10_000, 0xff);
  assert.throws(() => serverSide.send(bad, { copy: false, binary: false }), { name: 'TypeError', message: /UTF-8/ });
  serverSide.send('after it');
  assert.equal((await next(client, 'message'))[0].toString(), 'after it');
});

test('fragments are copied', async (t) => {
  const { client, serverSide } = await pair(t);
  const data = Buffer.alloc(50_000, 'a');
  serverSide.send(data, { copy: false, fin: false });
  data.fill('b');
  serverSide.send(data, { copy: false, fin: true });
  assert.ok((await next(client, 'message'))[0].equals(Buffer.concat([Buffer.alloc(50_000, 'a'), data])));
});

/** Ways to take memory away from a view. */
const AWAY = [
  ['transferred', 'structuredClone(buffer, { transfer: [buffer] })', 'new ArrayBuffer(SIZE)'],
  ['sent to a worker', 'new MessageChannel().port1.postMessage(buffer, [buffer])', 'new ArrayBuffer(SIZE)'],
  ['made smaller', 'buffer.resize(10)', 'new ArrayBuffer(SIZE, { maxByteLength: SIZE })'],
];

for (const [name, takeAway, make] of AWAY) {
  for (const [when, then] of [
    ['by the next turn', 'setImmediate(() => setImmediate(check));'],
    ['and something is sent at once', 'socket.send("x".repeat(200_000)); setImmediate(check);'],
    ['and it is broadcast at once', 'server.broadcast("x".repeat(200_000)); setImmediate(check);'],
  ]) {
    test(`memory that is ${name} before it is written, ${when}, ends the connection`, async (t) => {
      const running = program(t, `
        const SIZE = 40 << 20;
        const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => {
          const client = new WebSocket('ws://127.0.0.1:' + server.address().port);
          client.on('open', () => client.pause());
          client.on('close', (code) => say(['client', code]));
          client.on('error', () => {});
          const other = new WebSocket('ws://127.0.0.1:' + server.address().port + '/other');
          other.on('open', () => { go(client); });
          other.on('message', (data) => { if (data.toString() === 'still here') { other.close(); server.close(); } });
        });
        const sides = {};
        server.on('connection', (side, request) => { sides[request.url] = side; });
        function go(client) {
          const socket = sides['/'];
          if (!socket || !sides['/other']) return setImmediate(go, client);
          const buffer = ${make};
          const log = [];
          socket.on('error', (error) => log.push(['error', error.message]));
          socket.on('close', (code) => { log.push(['close', code]); say(log); sides['/other'].send('still here'); });
          socket.send(buffer, { copy: false }, (error) => log.push(['sent', error?.code]));
          const check = () => {
            if (!process.argv.includes('never')) { client.resume(); }
          };
          ${takeAway};
          gc();
          ${then}
        }
      `, { args: ['--expose-gc'] });
      const lines = [await running.line(), await running.line()];
      const { code, stderr } = await running.exited;
      assert.equal(code, 0, stderr);
      const log = lines.find((line) => line?.[0]?.[0] !== undefined && Array.isArray(line[0]));
      assert.ok(log, JSON.stringify(lines));
      assert.match(log.find(([event]) => event === 'error')[1], /copy: false/);
      assert.deepEqual(log.filter(([event]) => event !== 'error'), [['sent', 'ERR_STREAM_DESTROYED'], ['close', 1006]]);
    });
  }
}

test('what was written is its owner\'s again', async (t) => {
  const { client, serverSide } = await pair(t);
  const buffer = new ArrayBuffer(MEGABYTE);
  await new Promise((resolve) => serverSide.send(buffer, { copy: false }, resolve));
  await next(client, 'message');
  structuredClone(buffer, { transfer: [buffer] });
  const log = record(serverSide);
  serverSide.send('still open');
  assert.equal((await next(client, 'message'))[0].toString(), 'still open');
  assert.deepEqual(log, []);
});

test('the memory is let go of when it is written, without anything further', async (t) => {
  const running = program(t, `
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => {
      new WebSocket('ws://127.0.0.1:' + server.address().port);
    });
    server.on('connection', (socket) => {
      socket.send(Buffer.allocUnsafeSlow(20 << 20), { copy: false }, async () => {
        for (let i = 0; i < 10; i++) { await new Promise((resolve) => setTimeout(resolve, 20)); gc(); }
        // The client has it, too.
        say(process.memoryUsage().arrayBuffers);
        process.exit();
      });
    });
  `, { args: ['--expose-gc'] });
  const held = await running.line();
  assert.ok(held < 25e6, `${held}`);
});

test('the memory is let go of, however the connection ends', async (t) => {
  const running = program(t, `
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    const url = () => 'ws://127.0.0.1:' + server.address().port;
    function round(i) {
      return new Promise((resolve) => {
        const client = new WebSocket(url());
        client.on('error', () => {});
        server.once('connection', (socket) => {
          for (let n = 0; n < 4; n++) socket.send(Buffer.allocUnsafeSlow(2 << 20).fill(n), { copy: false });
          socket.on('error', () => {});
          socket.on('close', resolve);
          if (i % 3 === 0) socket.terminate();
          if (i % 3 === 1) socket.close();
        });
        let count = 0;
        client.on('message', () => { count += 1; if (count === 4 && i % 3 === 2) client.close(); });
      });
    }
    server.on('listening', async () => {
      for (let i = 0; i < 60; i++) await round(i);
      for (let i = 0; i < 10; i++) { await new Promise((resolve) => setImmediate(resolve)); gc(); }
      say(process.memoryUsage().arrayBuffers);
      server.close();
    });
  `, { args: ['--expose-gc'] });
  // 480 MB were lent.
  const held = await running.line();
  assert.ok(held !== null && held < 40e6, `${held}`);
  assert.equal((await running.exited).code, 0);
}, { timeout: 60_000 });

test('a worker and a process that end with memory lent', async (t) => {
  const running = program(t, `
    const { Worker } = require('node:worker_threads');
    const source = \`
      const { WebSocketServer, WebSocket } = require(\${JSON.stringify(SUBJECT)});
      const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => {
        const client = new WebSocket('ws://127.0.0.1:' + server.address().port);
        client.on('open', () => client.pause());
      });
      server.on('connection', (socket) => {
        for (let i = 0; i < 10; i++) socket.send(Buffer.alloc(4 << 20), { copy: false });
        setTimeout(() => require('node:worker_threads').parentPort?.postMessage('lent') ?? process.exit(0), 50);
      });
    \`;
    const worker = new Worker(source, { eval: true });
    worker.on('message', async () => {
      say(await worker.terminate());
      eval(source);
    });
  `);
  assert.equal(await running.line(), 1);
  assert.equal((await running.exited).code, 0);
});

test('without compression and lending a frame is as it was', async (t) => {
  const { subject, peer } = await withPeer(t, 'server');
  subject.send('x', { copy: true });
  subject.send('y', {});
  for (const payload of ['x', 'y']) {
    const frame = await peer.next();
    assert.deepEqual([frame.opcode, frame.rsv, frame.payload.toString()], [OPCODE.text, 0, payload]);
  }
});
