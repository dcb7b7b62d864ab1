'use strict';
// The opening handshake as a client: what is sent, what is accepted, and how failures are told.

const assert = require('node:assert/strict');
const fs = require('node:fs');
const net = require('node:net');
const os = require('node:os');
const path = require('node:path');
const {
  WebSocket, next, rawServer, record, responseHead, startClient, startServer, test, turn, until,
} = require('../support');

/** Connects to a server that answers with `respond`, and waits for the end. */
async function failing(t, respond, ...args) {
  const server = await rawServer(t, { respond });
  const client = startClient(t, server.url, ...args);
  const log = record(client);
  await next(client, 'close');
  await turn();
  return { client, log };
}

function assertFailed({ client, log }, message) {
  assert.equal(client.readyState, WebSocket.CLOSED);
  assert.deepEqual(log.map(([name]) => name), ['error', 'close']);
  const [[, error], [, code, reason]] = log;
  assert.ok(error instanceof Error);
  if (message !== undefined) assert.equal(error.message, message);
  assert.equal(code, 1006);
  assert.ok(Buffer.isBuffer(reason));
  assert.equal(reason.length, 0);
}

test('the request', async (t) => {
  const server = await rawServer(t);
  const client = startClient(t, `${server.url}/chat/room?who=me&x=%20`, ['a', 'b'], {
    headers: { 'X-Custom': 'value', 'X-Number': 5 },
    origin: 'https://example.com',
    perMessageDeflate: false,
  });
  client.on('error', () => {});
  const { request } = await server.next();
  assert.equal(request.first, 'GET /chat/room?who=me&x=%20 HTTP/1.1');
  const { headers } = request;
  assert.equal(headers.host, `127.0.0.1:${server.port}`);
  assert.equal(headers.upgrade, 'websocket');
  assert.equal(headers.connection, 'Upgrade');
  assert.equal(headers['sec-websocket-version'], '13');
  assert.match(headers['sec-websocket-key'], /^[+/0-9A-Za-z]{22}==$/);
  assert.equal(headers['sec-websocket-protocol'].replace(/ /g, ''), 'a,b');
  assert.equal(headers.origin, 'https://example.com');
  assert.equal(headers['x-custom'], 'value');
  assert.equal(headers['x-number'], '5');
  assert.equal(headers['sec-websocket-extensions'], undefined);
  assert.ok(request.fields.some(([name]) => name === 'X-Custom'), 'names keep their case');
});

test('no Origin and no subprotocols unless asked for', async (t) => {
  const server = await rawServer(t);
  startClient(t, server.url);
  const { request } = await server.next();
  assert.equal(request.first, 'GET / HTTP/1.1');
  assert.equal(request.headers.origin, undefined);
  assert.equal(request.headers['sec-websocket-protocol'], undefined);
});

test('every request has a key of its own', async (t) => {
  const server = await rawServer(t);
  const keys = new Set();
  for (let i = 0; i < 5; i++) {
    startClient(t, server.url);
    keys.add((await server.next()).request.headers['sec-websocket-key']);
  }
  assert.equal(keys.size, 5);
});

test('user and password of the URL, percent-decoded', async (t) => {
  const server = await rawServer(t);
  startClient(t, `ws://user:p%40ss@127.0.0.1:${server.port}`);
  const { request } = await server.next();
  const expected = `Basic ${Buffer.from('user:p@ss').toString('base64')}`;
  assert.equal(request.headers.authorization, expected);
});

test('the option auth', async (t) => {
  const server = await rawServer(t);
  startClient(t, server.url, { auth: 'me:secret' });
  const { request } = await server.next();
  assert.equal(request.headers.authorization, `Basic ${Buffer.from('me:secret').toString('base64')}`);
});

test('a host name', async (t) => {
  const server = await startServer(t, { host: 'localhost' });
  const client = startClient(t, `ws://localhost:${server.port}/`);
  const [[, request]] = await Promise.all([next(server, 'connection'), next(client, 'open')]);
  assert.equal(request.headers.host, `localhost:${server.port}`);
});

test('a unix socket', async (t) => {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'wsabi-unix-'));
  t.after(() => fs.rmSync(folder, { recursive: true, force: true }));
  const socketPath = path.join(folder, 'socket');
  const server = await rawServer(t, { listen: { path: socketPath } });
  const client = startClient(t, `ws+unix:${socketPath}:/chat?x=1`);
  const [{ request }] = await Promise.all([server.next(), next(client, 'open')]);
  assert.equal(request.first, 'GET /chat?x=1 HTTP/1.1');
  assert.equal(request.headers.host, 'localhost');
  assert.equal(client.url, `ws+unix:${socketPath}:/chat?x=1`);
});

test('the subprotocol that the server chose', async (t) => {
  const server = await rawServer(t, {
    respond: (request) => responseHead(request, { headers: { 'Sec-WebSocket-Protocol': 'b' } }),
  });
  const client = startClient(t, server.url, ['a', 'b']);
  await next(client, 'open');
  assert.equal(client.protocol, 'b');
  assert.equal(client.readyState, WebSocket.OPEN);
});

test('a response in pieces', async (t) => {
  const server = await rawServer(t, { respond: () => null });
  const client = startClient(t, server.url);
  const { request, socket } = await server.next();
  const opened = next(client, 'open');
  for (const octet of responseHead(request)) {
    socket.write(octet);
    await turn();
  }
  await opened;
});

test('upgrade tells the response before open', async (t) => {
  const server = await rawServer(t, {
    respond: (request) => responseHead(request, { headers: { 'X-Info': 'seen', 'Set-Cookie': 'a=b' } }),
  });
  const client = startClient(t, server.url);
  const log = record(client, ['upgrade', 'open']);
  await next(client, 'open');
  assert.deepEqual(log.map(([name]) => name), ['upgrade', 'open']);
  const [[, response]] = log;
  assert.equal(response.statusCode, 101);
  assert.equal(response.headers.upgrade, 'websocket');
  assert.equal(response.headers['x-info'], 'seen');
  assert.deepEqual(response.headers['set-cookie'], ['a=b']);
});

test('closing in a listener of upgrade', async (t) => {
  const server = await rawServer(t);
  const client = startClient(t, server.url);
  const log = record(client);
  client.on('upgrade', () => client.terminate());
  await next(client, 'close');
  assertFailed({ client, log }, 'WebSocket was closed before the connection was established');
});

test('the response has no or another Upgrade', async (t) => {
  const respond = (request) => responseHead(request, { headers: { Upgrade: 'foo' } });
  assertFailed(await failing(t, respond), 'Invalid Upgrade header');
});

test('the response has no or a wrong Sec-WebSocket-Accept', async (t) => {
  const message = 'Invalid Sec-WebSocket-Accept header';
  const wrong = (request) => responseHead(request, { headers: { 'Sec-WebSocket-Accept': 'CxYS6+NgJSBG74mdgLvGscRvpns=' } });
  assertFailed(await failing(t, wrong), message);
  const none = (request) => responseHead(request, { without: ['Sec-WebSocket-Accept'] });
  assertFailed(await failing(t, none), message);
});

test('the response and subprotocols', async (t) => {
  const answering = (name) => (request) => responseHead(request, { headers: { 'Sec-WebSocket-Protocol': name } });
  assertFailed(await failing(t, answering('a')), 'Server sent a subprotocol but none was requested');
  assertFailed(await failing(t, answering('c'), ['a', 'b']), 'Server sent an invalid subprotocol');
  assertFailed(await failing(t, (request) => responseHead(request), ['a']), 'Server sent no subprotocol');
});

test('the response has an extension that was not asked for', async (t) => {
  const respond = (request) => responseHead(request, { headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate' } });
  assertFailed(
    await failing(t, respond, { perMessageDeflate: false }),
    'Server sent a Sec-WebSocket-Extensions header but no extension was requested',
  );
});

test('a response with another status', async (t) => {
  for (const status of ['200 OK', '401 Unauthorized', '404 Not Found', '503 Service Unavailable']) {
    const respond = () => `HTTP/1.1 ${status}\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno`;
    assertFailed(await failing(t, respond), `Unexpected server response: ${status.slice(0, 3)}`);
  }
});

test('a redirect is not followed unless asked for', async (t) => {
  const respond = () => 'HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n';
  assertFailed(await failing(t, respond), 'Unexpected server response: 302');
});

test('what is no HTTP', async (t) => {
  assertFailed(await failing(t, () => 'SSH-2.0-OpenSSH_9.0\r\n\r\n'));
});

test('the server leaves without a response', async (t) => {
  const failed = await failing(t, (request, socket) => { socket.end(); });
  assertFailed(failed);
  assert.equal(failed.log[0][1].code, 'ECONNRESET');
});

test('nobody listens', async (t) => {
  const holder = net.createServer();
  await new Promise((resolve) => holder.listen(0, '127.0.0.1', resolve));
  const { port } = holder.address();
  await new Promise((resolve) => holder.close(resolve));
  const client = startClient(t, `ws://127.0.0.1:${port}`);
  const log = record(client);
  await next(client, 'close');
  assertFailed({ client, log });
  const [[, error]] = log;
  assert.equal(error.code, 'ECONNREFUSED');
  assert.equal(error.syscall, 'connect');
  assert.equal(error.address, '127.0.0.1');
  assert.equal(error.port, port);
});

test('a name that does not resolve', async (t) => {
  const client = startClient(t, 'ws://does-not-exist.invalid:9/');
  const log = record(client);
  await next(client, 'close');
  assertFailed({ client, log });
  const [[, error]] = log;
  assert.match(error.code, /^(ENOTFOUND|EAI_AGAIN)$/);
  assert.equal(error.syscall, 'getaddrinfo');
  assert.equal(error.hostname, 'does-not-exist.invalid');
});

test('handshakeTimeout', async (t) => {
  assertFailed(
    await failing(t, () => null, { handshakeTimeout: 50 }),
    'Opening handshake has timed out',
  );
});

for (const method of ['close', 'terminate']) {
  test(`${method} while connecting`, async (t) => {
    const server = await rawServer(t, { respond: () => null });
    const client = startClient(t, server.url);
    const log = record(client);
    client[method]();
    assert.equal(client.readyState, WebSocket.CLOSING);
    assert.deepEqual(log, [], 'not inside of the call');
    await next(client, 'close');
    assertFailed({ client, log }, 'WebSocket was closed before the connection was established');
  });

  test(`${method} while connecting, when the request is there`, async (t) => {
    const server = await rawServer(t, { respond: () => null });
    const client = startClient(t, server.url);
    const log = record(client);
    const { peer } = await server.next();
    client[method]();
    await Promise.all([next(client, 'close'), peer.closed]);
    assertFailed({ client, log }, 'WebSocket was closed before the connection was established');
  });
}

test('error comes before close, in states CLOSING and CLOSED', async (t) => {
  const server = await rawServer(t, { respond: () => 'HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n' });
  const client = startClient(t, server.url);
  const states = [];
  client.on('error', () => states.push(client.readyState));
  client.on('close', () => states.push(client.readyState));
  await until(() => states.length === 2);
  assert.deepEqual(states, [WebSocket.CLOSING, WebSocket.CLOSED]);
});

test('messages in the segment of the response', async (t) => {
  const server = await rawServer(t, { respond: () => null });
  const client = startClient(t, server.url);
  const log = record(client);
  const { request, peer } = await server.next();
  peer.socket.write(Buffer.concat([
    Buffer.from(responseHead(request), 'latin1'), peer.text('first'), peer.ping('p'), peer.text('second'),
  ]));
  await until(() => log.length === 4);
  assert.deepEqual(log.map(([name, data]) => [name, data?.toString()]), [
    ['open', undefined], ['message', 'first'], ['ping', 'p'], ['message', 'second'],
  ]);
});
