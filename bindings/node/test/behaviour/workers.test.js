'use strict';
// worker_threads: work in a worker, and ends of workers at any moment.

const assert = require('node:assert/strict');
const { Worker } = require('node:worker_threads');
const { next, once, pair, rawClient, startPeerClient, startServer, test, until } = require('../support');
const { PRELUDE } = require('../support/child');

function worker(t, source) {
  const started = new Worker(`${PRELUDE}
    const { parentPort } = require('node:worker_threads');
    ${source}
  `, { eval: true });
  t.after(() => started.terminate());
  return started;
}

const ECHO_SERVER = `
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => {
    parentPort.postMessage(server.address().port);
  });
  server.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
`;

test('a server in a worker, and its end', async (t) => {
  const running = worker(t, `${ECHO_SERVER}
    parentPort.once('message', () => {
      for (const client of server.clients) client.close(1001);
      server.close();
    });
  `);
  const [port] = await once(running, 'message');
  const client = startPeerClient(t, `ws://127.0.0.1:${port}`);
  await once(client, 'open');
  client.send('hello');
  assert.equal((await next(client, 'message'))[0].toString(), 'hello');
  const exited = once(running, 'exit');
  running.postMessage('stop');
  assert.equal((await next(client, 'close'))[0], 1001);
  assert.deepEqual(await exited, [0]);
});

test('workers and the main thread at the same time', async (t) => {
  const main = await pair(t);
  const ports = await Promise.all(Array.from({ length: 4 }, async () => {
    const [port] = await once(worker(t, ECHO_SERVER), 'message');
    return port;
  }));
  await Promise.all(ports.map(async (port) => {
    const client = startPeerClient(t, `ws://127.0.0.1:${port}`);
    await once(client, 'open');
    const got = [];
    client.on('message', (data) => got.push(data.toString()));
    for (let i = 0; i < 200; i++) client.send(`${port} ${i}`);
    await until(() => got.length === 200);
    assert.deepEqual(got, Array.from({ length: 200 }, (_, i) => `${port} ${i}`));
  }));
  main.client.send('main');
  assert.equal((await next(main.serverSide, 'message'))[0].toString(), 'main');
});

test('terminate with open connections, many times', async (t) => {
  for (let i = 0; i < 20; i++) {
    const running = worker(t, ECHO_SERVER);
    const [port] = await once(running, 'message');
    const clients = await Promise.all([rawClient(t, port), rawClient(t, port), rawClient(t, port)]);
    await running.terminate();
    await Promise.all(clients.map(({ peer }) => peer.closed));
  }
});

test('terminate while messages come in', async (t) => {
  for (let i = 0; i < 10; i++) {
    const running = worker(t, `${ECHO_SERVER}
      server.on('connection', (socket) => socket.once('message', () => parentPort.postMessage('busy')));
    `);
    const [port] = await once(running, 'message');
    const { peer } = await rawClient(t, port);
    const frames = Buffer.concat(Array.from({ length: 2000 }, () => peer.text('x'.repeat(100))));
    peer.socket.resume();
    const busy = once(running, 'message');
    peer.write(frames);
    await busy;
    peer.write(frames);
    await running.terminate();
    await peer.closed;
  }
});

test('terminate while a listener never returns', async (t) => {
  const running = worker(t, `
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => {
      parentPort.postMessage(server.address().port);
    });
    server.on('connection', (socket) => socket.on('message', () => {
      parentPort.postMessage('stuck');
      for (;;);
    }));
  `);
  const [port] = await once(running, 'message');
  const { peer } = await rawClient(t, port);
  peer.write(peer.text('1'), peer.text('2'));
  await once(running, 'message');
  await running.terminate();
  await peer.closed;
});

test('terminate while clients of the worker connect', async (t) => {
  const server = await startServer(t);
  for (let i = 0; i < 5; i++) {
    const running = worker(t, `
      for (let i = 0; i < 20; i++) {
        const client = new WebSocket('${server.url}');
        client.on('error', () => {});
        client.on('open', () => parentPort.postMessage('open'));
      }
    `);
    await once(running, 'message');
    await running.terminate();
  }
  await until(() => server.clients.size === 0);
});

test('process.exit inside of a worker with open connections', async (t) => {
  const running = worker(t, `${ECHO_SERVER}
    server.on('connection', (socket) => socket.on('message', () => process.exit(3)));
  `);
  const [port] = await once(running, 'message');
  const { peer } = await rawClient(t, port);
  peer.write(peer.text('go'), peer.text('on'));
  assert.deepEqual(await once(running, 'exit'), [3]);
  await peer.closed;
});

test('what a listener throws in a worker is the error of the worker', async (t) => {
  const running = worker(t, `${ECHO_SERVER}
    server.on('connection', (socket) => socket.on('message', () => { throw new Error('thrown in a worker'); }));
  `);
  const [port] = await once(running, 'message');
  const { peer } = await rawClient(t, port);
  const failed = next(running, 'error');
  peer.write(peer.text('go'));
  const [error] = await failed;
  assert.equal(error.message, 'thrown in a worker');
  await peer.closed;
});

test('a worker ends by itself when nothing is open', async (t) => {
  const running = worker(t, `
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => {
      const client = new WebSocket('ws://127.0.0.1:' + server.address().port);
      client.on('open', () => {
        client.close();
        server.close();
      });
    });
  `);
  assert.deepEqual(await once(running, 'exit'), [0]);
});
