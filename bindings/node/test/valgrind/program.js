'use strict';
// A short life of the package, for valgrind to watch: a server and clients in one process, messages
// of many sizes both ways, every way in which a connection ends, exceptions in listeners, a worker
// that is ended with everything open, and the exit of the process with everything open.
//
//   node program.js                  that
//   node program.js ADDON            something wrong on purpose, inside the addon of the package:
//                                    ADDON, made of freed.c, gives away memory that it has freed

const assert = require('node:assert/strict');
const { once } = require('node:events');
const { Worker, isMainThread, parentPort, workerData } = require('node:worker_threads');

const PACKAGE = require('node:path').resolve(__dirname, '..', '..');
const { WebSocket, WebSocketServer } = require(PACKAGE);

const SIZES = [0, 1, 125, 126, 4000, 65535, 65536, 300_000];

/** A server that sends everything back, as it came. */
async function echoServer(options) {
  const server = new WebSocketServer({ host: '127.0.0.1', port: 0, ...options });
  await once(server, 'listening');
  server.on('connection', (socket) => {
    socket.on('error', () => {});
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  return server;
}

async function opened(server, protocols, options) {
  const client = new WebSocket(`ws://127.0.0.1:${server.address().port}/`, protocols, options);
  client.on('error', () => {});
  await once(client, 'open');
  return client;
}

async function ended(server) {
  for (const client of server.clients) client.terminate();
  const closed = once(server, 'close');
  server.close();
  await closed;
}

/** Text and binary of every size, whole and in fragments, in the forms in which they are received. */
async function messages() {
  const server = await echoServer();
  for (const binaryType of ['nodebuffer', 'arraybuffer', 'fragments', 'blob']) {
    const client = await opened(server);
    client.binaryType = binaryType;
    const sent = [];
    for (const size of SIZES) sent.push('ä'.repeat(size / 2), Buffer.alloc(size, 'binary'));
    const come = new Promise((resolve) => {
      let left = sent.length;
      client.on('message', () => { left -= 1; if (left === 0) resolve(); });
    });
    let written = 0;
    for (const data of sent) client.send(data, () => { written += 1; });
    await come;
    assert.equal(written, sent.length);
    const whole = once(client, 'message');
    client.send('eins ', { fin: false });
    client.send('zwei ', { fin: false });
    client.send('drei', { fin: true });
    assert.equal(Buffer.from((await whole)[0].toString()).toString(), 'eins zwei drei');
    const pong = once(client, 'pong');
    client.ping('payload');
    client.pong('unasked');
    assert.equal((await pong)[0].toString(), 'payload');
  }
  await ended(server);
}

/** Close and terminate from either side, a backlog that is dropped, an upgrade that is refused. */
async function ends() {
  const server = await echoServer({
    verifyClient: ({ req }, answer) => setImmediate(answer, req.url === '/', 403, 'no'),
    handleProtocols: (protocols) => [...protocols][0],
  });
  const acts = [
    (near) => near.close(4001, 'grüße'),
    (near, far) => far.close(),
    (near) => near.terminate(),
    (near, far) => far.terminate(),
    (near, far) => {
      far.pause();
      near.send(Buffer.alloc(5_000_000));
      near.terminate();
      setImmediate(() => far.resume());
    },
  ];
  for (const act of acts) {
    const connected = once(server, 'connection');
    const near = await opened(server, ['chat'], { headers: { 'X-Mine': 'x'.repeat(100) } });
    const [far] = await connected;
    const both = Promise.all([once(near, 'close'), once(far, 'close')]);
    act(near, far);
    await both;
  }
  const refused = new WebSocket(`ws://127.0.0.1:${server.address().port}/no`);
  await once(refused, 'error');
  assert.throws(() => new WebSocket('ftp://x'), SyntaxError);
  const near = await opened(server);
  assert.throws(() => near.close(1005));
  assert.throws(() => near.ping('x'.repeat(126)));
  await ended(server);
}

/** In a listener at the server and at a client; whoever is behind is told all the same. */
async function exceptions() {
  const server = await echoServer();
  const caught = [];
  const note = (error) => caught.push(error.message);
  process.on('uncaughtException', note);
  const client = await opened(server);
  const come = new Promise((resolve) => {
    client.on('message', (data) => {
      if (data.toString() === 'last') resolve();
      throw new Error(`at ${data}`);
    });
  });
  for (const text of ['first', 'second', 'last']) client.send(text);
  await come;
  await new Promise(setImmediate);
  assert.deepEqual(caught, ['at first', 'at second', 'at last']);
  process.off('uncaughtException', note);
  await ended(server);
}

/** An environment of its own that ends with everything open. */
async function worker() {
  const running = new Worker(__filename, { workerData: 'crowd' });
  running.on('error', (error) => { throw error; });
  await once(running, 'message');
  await running.terminate();
}

async function crowd() {
  const server = await echoServer();
  const clients = [];
  for (let number = 0; number < 4; number += 1) clients.push(await opened(server));
  for (const client of clients) {
    client.pause();
    for (let round = 0; round < 20; round += 1) client.send(Buffer.alloc(50_000));
  }
  new WebSocket(`ws://127.0.0.1:${server.address().port}/`);
}

async function life() {
  for (const scene of [messages, ends, exceptions, worker, crowd]) {
    await scene();
    globalThis.gc?.();
    console.log(`# ${scene.name}`);
  }
  // With the crowd as it is.
  process.exit(0);
}

/** A buffer whose memory is freed already, given to `send`. */
async function planted(addon) {
  const server = await echoServer();
  const client = await opened(server);
  client.send(require(addon));
  process.exit(0);
}

if (!isMainThread && workerData === 'crowd') {
  crowd().then(() => parentPort.postMessage('there'));
} else if (process.argv.length > 2) {
  planted(process.argv[2]);
} else {
  life();
}
