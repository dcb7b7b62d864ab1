'use strict';
// `new WebSocketServer(options, callback)`: options, listening, addresses, closing.

const assert = require('node:assert/strict');
const http = require('node:http');
const net = require('node:net');
const {
  WebSocket, WebSocketServer, next, once, pair, rawClient, record, startClient, startServer, test, turn, ws,
} = require('../support');

const ipv6 = Object.values(require('node:os').networkInterfaces()).flat()
  .some(({ address }) => address === '::1');

test('exactly one of port, server and noServer', () => {
  const server = http.createServer();
  const bad = [
    undefined, null, {}, { host: '127.0.0.1' }, { port: null }, { port: 0, server }, { port: 0, noServer: true },
    { server, noServer: true }, { port: 0, server, noServer: true },
  ];
  for (const options of bad) {
    assert.throws(() => new WebSocketServer(options), {
      name: 'TypeError',
      message: 'One and only one of the "port", "server", or "noServer" options must be specified',
    });
  }
});

test('a port that is none', () => {
  for (const port of [-1, 65536, 1.5]) {
    assert.throws(() => new WebSocketServer({ port }), { name: 'RangeError', code: 'ERR_SOCKET_BAD_PORT' });
  }
});

test('the callback and the event listening', async (t) => {
  const log = [];
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => log.push('callback'));
  t.after(() => server.close());
  server.on('listening', () => log.push('listening'));
  assert.deepEqual(log, [], 'not inside of the constructor');
  await once(server, 'listening');
  await turn();
  assert.deepEqual(log.sort(), ['callback', 'listening']);
});

test('address', async (t) => {
  const server = await startServer(t);
  const address = server.address();
  assert.deepEqual(Object.keys(address).sort(), ['address', 'family', 'port']);
  assert.equal(address.address, '127.0.0.1');
  assert.equal(address.family, 'IPv4');
  assert.ok(Number.isInteger(address.port) && address.port > 0);
  await new Promise((resolve) => server.close(resolve));
  assert.equal(server.address(), null);
});

test('without a host both families are served', async (t) => {
  if (!ipv6) return t.skip('no IPv6 on loopback');
  const server = await startServer(t, { host: undefined });
  assert.deepEqual(server.address(), { address: '::', family: 'IPv6', port: server.port });
  // An IPv4 address may be written in either family.
  for (const [url, addresses] of [['ws://127.0.0.1', ['127.0.0.1', '::ffff:127.0.0.1']], ['ws://[::1]', ['::1']]]) {
    const connected = next(server, 'connection');
    startClient(t, `${url}:${server.port}`);
    const [, request] = await connected;
    const { remoteAddress, remoteFamily } = request.socket;
    assert.ok(addresses.includes(remoteAddress), remoteAddress);
    assert.equal(remoteFamily, `IPv${net.isIP(remoteAddress)}`);
  }
});

test('a port and a backlog, as number and as string', async (t) => {
  const first = await startServer(t, { backlog: 16 });
  const { port } = first;
  await new Promise((resolve) => first.close(resolve));
  const second = await startServer(t, { port: String(port) });
  assert.equal(second.address().port, port);
});

test('a port that is taken', async (t) => {
  const holder = net.createServer();
  t.after(() => holder.close());
  await new Promise((resolve) => holder.listen(0, '127.0.0.1', resolve));
  const { port } = holder.address();
  const server = new WebSocketServer({ port, host: '127.0.0.1' });
  const log = record(server, ['listening', 'error', 'close']);
  const [error] = await next(server, 'error');
  await turn();
  assert.equal(error.message, `listen EADDRINUSE: address already in use 127.0.0.1:${port}`);
  assert.equal(error.code, 'EADDRINUSE');
  assert.equal(error.syscall, 'listen');
  assert.equal(error.address, '127.0.0.1');
  assert.equal(error.port, port);
  assert.deepEqual(log.map(([name]) => name), ['error']);
  await new Promise((resolve) => server.close(resolve));
  assert.equal(server.address(), null);
});

test('options are readable, with their defaults', async (t) => {
  const server = await startServer(t, { path: '/chat' });
  const { options } = server;
  assert.equal(options.path, '/chat');
  assert.equal(options.port, 0);
  assert.equal(options.maxPayload, 100 * 1024 * 1024);
  assert.equal(options.clientTracking, true);
  assert.equal(options.perMessageDeflate, false);
  assert.equal(options.skipUTF8Validation, false);
  assert.equal(options.autoPong, true);
  assert.equal(options.allowSynchronousEvents, true);
  assert.equal(options.closeTimeout, 30_000);
  assert.equal(options.WebSocket, WebSocket);
});

test('clients', async (t) => {
  const { server, serverSide, client } = await pair(t);
  assert.ok(server.clients instanceof Set);
  assert.deepEqual([...server.clients], [serverSide]);
  const connected = next(server, 'connection');
  startClient(t, server.url);
  const [second] = await connected;
  assert.deepEqual([...server.clients], [serverSide, second]);
  client.close();
  await next(serverSide, 'close');
  await turn();
  assert.deepEqual([...server.clients], [second]);
});

test('a connection is in clients when it is told, and no more when it is closed', async (t) => {
  const server = await startServer(t);
  const seen = [];
  server.on('connection', (socket) => {
    seen.push(server.clients.has(socket));
    socket.on('close', () => seen.push(server.clients.has(socket)));
  });
  const client = startClient(t, server.url);
  await next(client, 'open');
  client.close();
  await next(client, 'close');
  while (seen.length < 2) await turn();
  assert.deepEqual(seen, [true, false]);
});

test('no clients with clientTracking: false', async (t) => {
  const server = await startServer(t, { clientTracking: false });
  assert.equal(server.clients, undefined);
  const client = startClient(t, server.url);
  const [[serverSide]] = await Promise.all([next(server, 'connection'), next(client, 'open')]);
  const closed = next(server, 'close');
  server.close();
  client.close();
  await Promise.all([closed, next(serverSide, 'close')]);
});

test('WebSocket: a class of the user', async (t) => {
  class Chatter extends WebSocket {
    greet() {
      this.send('hello');
    }
  }
  const server = await startServer(t, { WebSocket: Chatter });
  server.on('connection', (socket) => socket.greet());
  const client = startClient(t, server.url);
  const connected = next(server, 'connection');
  const [data] = await next(client, 'message');
  assert.equal(data.toString(), 'hello');
  const [serverSide] = await connected;
  assert.ok(serverSide instanceof Chatter);
  assert.ok(server.clients.has(serverSide));
});

test('a subclass of WebSocket as client', async (t) => {
  class Counting extends WebSocket {
    constructor(...args) {
      super(...args);
      this.count = 0;
      this.on('message', () => { this.count += 1; });
    }
  }
  const server = await startServer(t);
  server.on('connection', (socket) => socket.send('one'));
  const client = new Counting(server.url);
  t.after(() => client.terminate());
  await next(client, 'message');
  assert.equal(client.count, 1);
});

test('a subclass of WebSocketServer overrides shouldHandle', async (t) => {
  class Picky extends WebSocketServer {
    shouldHandle(request) {
      return request.url === '/yes' && super.shouldHandle(request);
    }
  }
  const server = new Picky({ port: 0, host: '127.0.0.1' });
  t.after(() => server.close());
  await once(server, 'listening');
  const { port } = server.address();
  assert.equal((await rawClient(t, port, { path: '/no' })).status, 400);
  const accepted = await rawClient(t, port, { path: '/yes' });
  assert.equal(accepted.status, 101);
  accepted.socket.destroy();
});

test('close tells its callback and emits close, once', async (t) => {
  const server = await startServer(t);
  const log = record(server, ['close']);
  const result = await new Promise((resolve) => {
    const returned = server.close((...args) => resolve(args));
    assert.equal(returned, undefined);
    assert.deepEqual(log, [], 'not inside of the call');
  });
  assert.equal(result[0], undefined);
  await turn();
  assert.deepEqual(log, [['close']]);
});

test('close while it is closing waits for the same end', async (t) => {
  const server = await startServer(t);
  const results = await Promise.all([
    new Promise((resolve) => server.close(resolve)),
    new Promise((resolve) => server.close(resolve)),
  ]);
  assert.deepEqual(results, [undefined, undefined]);
});

test('close when it is closed is an error', async (t) => {
  const server = await startServer(t);
  await new Promise((resolve) => server.close(resolve));
  const error = await new Promise((resolve) => server.close(resolve));
  assert.ok(error instanceof Error);
  assert.equal(error.message, 'The server is not running');
  server.close();
});

test('close leaves connections alone, and waits for them', async (t) => {
  const { server, client, serverSide } = await pair(t);
  let closed = false;
  const closing = new Promise((resolve) => server.close(resolve)).then(() => { closed = true; });
  await assert.rejects(new Promise((resolve, reject) => {
    net.connect(server.port, '127.0.0.1').on('connect', resolve).on('error', reject);
  }), { code: 'ECONNREFUSED' });
  serverSide.send('still here');
  const [data] = await next(client, 'message');
  assert.equal(data.toString(), 'still here');
  client.send('me too');
  assert.equal((await next(serverSide, 'message'))[0].toString(), 'me too');
  await turn();
  assert.equal(closed, false);
  client.close();
  await closing;
});

test('close with connections that nobody has closed, then terminate', async (t) => {
  const { server, client } = await pair(t);
  const closing = new Promise((resolve) => server.close(resolve));
  for (const each of server.clients) each.terminate();
  await Promise.all([closing, next(client, 'close')]);
  assert.equal(server.clients.size, 0);
});

test('close before it listens', async () => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1' });
  await new Promise((resolve) => server.close(resolve));
});

test('the port is free after close', async (t) => {
  for (let port = 0, i = 0; i < 5; i++) {
    const server = await startServer(t, { port });
    ({ port } = server);
    const client = startClient(t, server.url);
    await next(client, 'open');
    client.close();
    await new Promise((resolve) => server.close(resolve));
  }
});

test('plain HTTP is answered with 426', async (t) => {
  const server = await startServer(t);
  const response = await new Promise((resolve, reject) => {
    http.get({ port: server.port, host: '127.0.0.1', agent: false }, resolve).on('error', reject);
  });
  assert.equal(response.statusCode, 426);
  let body = '';
  for await (const chunk of response) body += chunk;
  assert.ok(body.length > 0);
  assert.equal(Number(response.headers['content-length']), body.length);
});

test('several servers at once', async (t) => {
  const servers = await Promise.all(Array.from({ length: 5 }, () => startServer(t)));
  await Promise.all(servers.map(async (server, i) => {
    server.on('connection', (socket) => socket.send(String(i)));
    const client = startClient(t, server.url);
    const [data] = await next(client, 'message');
    assert.equal(data.toString(), String(i));
  }));
});

test('listeners may be added to the server at any time', async (t) => {
  const server = await startServer(t);
  const first = new ws.WebSocket(server.url);
  await next(first, 'open');
  const connected = next(server, 'connection');
  const second = new ws.WebSocket(server.url);
  await Promise.all([connected, next(second, 'open')]);
  first.terminate();
  second.terminate();
});
