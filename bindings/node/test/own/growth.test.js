'use strict';
// Connections leave nothing behind: no memory, no descriptors, no handles.

const assert = require('node:assert/strict');
const { test } = require('../support');
const { program } = require('../support/child');

const ROUNDS = `
  const fs = require('node:fs');
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  server.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  /** One connection: an echo, and one of several ends. */
  function connection(url, i) {
    return new Promise((resolve, reject) => {
      const client = new WebSocket(url);
      client.on('error', reject);
      client.on('open', () => client.send('x'.repeat(i % 3000)));
      client.on('message', () => {
        if (i % 3 === 0) client.terminate();
        else client.close(1000, 'done');
      });
      client.on('close', resolve);
    });
  }
  async function round(count) {
    const url = 'ws://127.0.0.1:' + server.address().port;
    for (let done = 0; done < count; done += 100) {
      await Promise.all(Array.from({ length: 100 }, (_, i) => connection(url, done + i)));
    }
    while (server.clients.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    for (let i = 0; i < 5; i++) {
      await new Promise((resolve) => setImmediate(resolve));
      gc();
    }
    return {
      // Without the heap of JavaScript, whose size is its own business.
      native: process.memoryUsage().rss - process.memoryUsage().heapTotal,
      heap: process.memoryUsage().heapUsed + process.memoryUsage().external,
      descriptors: fs.existsSync('/proc/self/fd') ? fs.readdirSync('/proc/self/fd').length : 0,
      resources: process.getActiveResourcesInfo().sort(),
    };
  }
`;

test('ten thousand connections, and three times five thousand', async (t) => {
  const running = program(t, `${ROUNDS}
    server.on('listening', async () => {
      // The first thousands fill pools and caches, which are allowed to stay.
      for (const count of [10_000, 5000, 5000, 5000]) say(await round(count));
      server.close(() => {
        setImmediate(() => say(process.getActiveResourcesInfo()));
      });
    });
  `, { args: ['--expose-gc'] });
  const rounds = [];
  for (let i = 0; i < 4; i++) rounds.push(await running.line());
  const none = await running.line();
  if (none === null) assert.fail((await running.exited).stderr);
  for (const { descriptors, resources } of rounds.slice(1)) {
    assert.equal(descriptors, rounds[0].descriptors);
    assert.deepEqual(resources, rounds[0].resources);
  }
  // What leaks does so in each round; what allocators and collectors do is not the same twice.
  for (const [name, most] of [['heap', 60], ['native', 500]]) {
    const growth = Math.min(...[1, 2, 3].map((i) => (rounds[i][name] - rounds[i - 1][name]) / 5000));
    assert.ok(growth < most, `${growth} octets of memory (${name}) stay for each connection`);
  }
  assert.ok(!none.some((name) => /TCP|Poll/i.test(name)), none.join());
  assert.equal((await running.exited).code, 0);
}, { timeout: 100_000 });

test('a closed WebSocket can be collected', async (t) => {
  const running = program(t, `${ROUNDS}
    server.on('listening', async () => {
      const gone = [];
      server.on('connection', (socket) => gone.push(new WeakRef(socket)));
      const url = 'ws://127.0.0.1:' + server.address().port;
      for (let i = 0; i < 20; i++) {
        await new Promise((resolve) => {
          const client = new WebSocket(url);
          gone.push(new WeakRef(client));
          client.on('open', () => client.close());
          client.on('close', resolve);
        });
      }
      while (server.clients.size > 0) await new Promise((resolve) => setTimeout(resolve, 5));
      const end = Date.now() + 15000;
      while (gone.some((ref) => ref.deref()) && Date.now() < end) {
        await new Promise((resolve) => setTimeout(resolve, 10));
        gc();
      }
      say(gone.filter((ref) => ref.deref()).length);
      server.close();
    });
  `, { args: ['--expose-gc'] });
  assert.equal(await running.line(), 0);
  assert.equal((await running.exited).code, 0);
});

test('small messages that are kept do not keep what they came with', async (t) => {
  const running = program(t, `
    const kept = [];
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => {
      const client = new WebSocket('ws://127.0.0.1:' + server.address().port);
      client.on('open', () => {
        const filler = Buffer.alloc(60_000);
        for (let i = 0; i < 2000; i++) {
          client.send('small');
          client.send(filler);
        }
        client.close();
      });
    });
    server.on('connection', (socket) => {
      socket.on('message', (data) => { if (data.length === 5) kept.push(data); });
      socket.on('close', () => {
        gc();
        say([kept.length, kept.every((data) => data.toString() === 'small'), process.memoryUsage().arrayBuffers]);
        server.close();
      });
    });
  `, { args: ['--expose-gc'] });
  const [count, intact, held] = await running.line();
  assert.equal(count, 2000);
  assert.equal(intact, true);
  // 120 MB came; what 2000 views of five octets hold is bounded by a few slabs' worth.
  assert.ok(held < 40e6, `${held} octets are held by 10,000 octets of messages`);
});
