'use strict';
// The opening handshake as a server: requests, responses, verifyClient, handleProtocols, headers,
// and what `connection` gives.

const assert = require('node:assert/strict');
const {
  WebSocket, acceptValue, next, rawClient, record, startClient, startPeerClient, startServer, test, turn, until,
} = require('../support');

test('the response', async (t) => {
  const server = await startServer(t);
  const { first, fields, headers, key } = await rawClient(t, server.port);
  assert.equal(first, 'HTTP/1.1 101 Switching Protocols');
  assert.equal(headers.upgrade, 'websocket');
  assert.equal(headers.connection, 'Upgrade');
  assert.equal(headers['sec-websocket-accept'], acceptValue(key));
  assert.deepEqual(
    fields.map(([name]) => name).sort(),
    ['Connection', 'Sec-WebSocket-Accept', 'Upgrade'],
    'and nothing else',
  );
});

test('no extension is agreed on with perMessageDeflate: false', async (t) => {
  const server = await startServer(t, { perMessageDeflate: false });
  const { status, headers } = await rawClient(t, server.port, {
    headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; client_max_window_bits' },
  });
  assert.equal(status, 101);
  assert.equal(headers['sec-websocket-extensions'], undefined);
});

test('requests that are no opening handshake', async (t) => {
  const server = await startServer(t);
  const log = record(server, ['connection', 'error', 'wsClientError'].slice(0, 2));
  const cases = [
    [405, { method: 'POST' }],
    [400, { headers: { Upgrade: 'foo' } }],
    [400, { without: ['Sec-WebSocket-Key'] }],
    [400, { headers: { 'Sec-WebSocket-Key': 'short' } }],
    [400, { headers: { 'Sec-WebSocket-Key': 'dGhlIHNhbXBsZSBub25jZQ=' } }],
    [400, { headers: { 'Sec-WebSocket-Protocol': 'a b' } }],
    [400, { headers: { 'Sec-WebSocket-Protocol': 'a,a' } }],
  ];
  for (const [status, options] of cases) {
    const response = await rawClient(t, server.port, options);
    assert.equal(response.status, status, JSON.stringify(options));
    assert.equal(response.headers.connection, 'close');
    assert.ok(response.body.length > 0, 'says why');
    assert.equal(Number(response.headers['content-length']), response.body.length);
  }
  assert.deepEqual(log, [], 'is no event of the server');
});

test('a version that is not spoken is told which are', async (t) => {
  const server = await startServer(t);
  for (const options of [{ headers: { 'Sec-WebSocket-Version': '12' } }, { without: ['Sec-WebSocket-Version'] }]) {
    const response = await rawClient(t, server.port, options);
    // RFC 6455 §4.4 suggests 426, `ws` says 400.
    assert.ok([400, 426].includes(response.status), `status ${response.status}`);
    assert.match(response.headers['sec-websocket-version'], /\b13\b/);
  }
});

test('names of header fields and values in any case', async (t) => {
  const server = await startServer(t);
  const { status } = await rawClient(t, server.port, {
    without: ['Upgrade', 'Connection'],
    headers: { uPGRADE: 'WebSocket', CONNECTION: 'keep-alive, upgrade' },
  });
  assert.equal(status, 101);
});

test('any Origin is welcome', async (t) => {
  const server = await startServer(t);
  for (const origin of ['https://somewhere.example', 'null', 'http://localhost']) {
    const { status } = await rawClient(t, server.port, { headers: { Origin: origin } });
    assert.equal(status, 101, origin);
  }
});

test('wsClientError', async (t) => {
  const server = await startServer(t);
  const seen = [];
  server.on('wsClientError', (error, socket, request) => {
    seen.push([error, request]);
    socket.end('HTTP/1.1 418 Teapot\r\nContent-Length: 5\r\nConnection: close\r\n\r\nshort');
  });
  const response = await rawClient(t, server.port, { path: '/x', headers: { 'Sec-WebSocket-Key': 'no' } });
  assert.equal(response.status, 418);
  assert.equal(response.body, 'short');
  const [[error, request]] = seen;
  assert.ok(error instanceof Error);
  assert.equal(error.message, 'Missing or invalid Sec-WebSocket-Key header');
  assert.equal(request.url, '/x');
});

test('path', async (t) => {
  const server = await startServer(t, { path: '/chat' });
  for (const path of ['/', '/chat/', '/Chat', '/chat2', '/?/chat']) {
    assert.equal((await rawClient(t, server.port, { path })).status, 400, path);
  }
  for (const path of ['/chat', '/chat?', '/chat?a=b/c']) {
    assert.equal((await rawClient(t, server.port, { path })).status, 101, path);
  }
});

test('connection comes with the WebSocket and the request', async (t) => {
  const server = await startServer(t);
  const args = [];
  server.on('connection', function onConnection(...all) {
    args.push(this === server, all.length, all[0].readyState, ...all);
  });
  await rawClient(t, server.port);
  await until(() => args.length > 0);
  const [isServer, count, state, socket, request] = args;
  assert.equal(isServer, true);
  assert.equal(count, 2);
  assert.equal(state, WebSocket.OPEN);
  assert.ok(socket instanceof WebSocket);
  assert.equal(socket.binaryType, 'nodebuffer');
  assert.equal(socket.bufferedAmount, 0);
  assert.equal(socket.extensions, '');
  assert.equal(socket.protocol, '');
  assert.equal(socket.isPaused, false);
  assert.equal(socket.url, undefined);
  assert.equal(request.url, '/');
});

test('the request that connection gives', async (t) => {
  const server = await startServer(t);
  const connected = next(server, 'connection');
  const { socket } = await rawClient(t, server.port, {
    path: '/a%20b?c=d',
    headers: {
      'X-Twice': ['one', 'two'],
      Cookie: ['a=1', 'b=2'],
      'User-Agent': 'raw',
      'X-Empty': '',
    },
  });
  const [, request] = await connected;
  assert.equal(request.method, 'GET');
  assert.equal(request.url, '/a%20b?c=d');
  assert.equal(request.httpVersion, '1.1');
  assert.equal(request.httpVersionMajor, 1);
  assert.equal(request.httpVersionMinor, 1);
  const { headers } = request;
  assert.equal(headers.host, 'localhost');
  assert.equal(headers['x-twice'], 'one, two');
  assert.equal(headers.cookie, 'a=1; b=2');
  assert.equal(headers['user-agent'], 'raw');
  assert.equal(headers['x-empty'], '');
  assert.equal(headers.upgrade, 'websocket');
  assert.deepEqual(request.headersDistinct['x-twice'], ['one', 'two']);
  assert.deepEqual(request.headersDistinct.host, ['localhost']);
  const at = request.rawHeaders.indexOf('X-Twice');
  assert.deepEqual(request.rawHeaders.slice(at, at + 4), ['X-Twice', 'one', 'X-Twice', 'two']);
  assert.equal(request.rawHeaders[0], 'Host');
  assert.equal(request.socket.remoteAddress, '127.0.0.1');
  assert.equal(request.socket.remotePort, socket.localPort);
  assert.equal(request.socket.remoteFamily, 'IPv4');
  assert.equal(request.socket.localAddress, '127.0.0.1');
  assert.equal(request.socket.localPort, server.port);
});

test('addresses by way of _socket, as many read them', async (t) => {
  const server = await startServer(t);
  const connected = next(server, 'connection');
  const client = startClient(t, server.url);
  const [[serverSide, request]] = await Promise.all([connected, next(client, 'open')]);
  assert.equal(client._socket.remoteAddress, '127.0.0.1');
  assert.equal(client._socket.remotePort, server.port);
  assert.equal(serverSide._socket.remoteAddress, '127.0.0.1');
  assert.equal(serverSide._socket.remotePort, client._socket.localPort);
  assert.equal(request.socket.remotePort, client._socket.localPort);
  for (const socket of [serverSide._socket, client._socket]) {
    socket.setNoDelay(true);
    socket.setKeepAlive(true, 1000);
  }
});

test('header fields that may be there once only', async (t) => {
  const server = await startServer(t);
  const connected = next(server, 'connection');
  await rawClient(t, server.port, {
    headers: { 'User-Agent': ['first', 'second'], Authorization: ['x', 'y'], 'X-Forwarded-For': ['1.1.1.1', '2.2.2.2'] },
  });
  const [, { headers }] = await connected;
  assert.equal(headers['user-agent'], 'first');
  assert.equal(headers.authorization, 'x');
  assert.equal(headers['x-forwarded-for'], '1.1.1.1, 2.2.2.2');
});

test('header values outside of ASCII are latin1', async (t) => {
  const server = await startServer(t);
  const connected = next(server, 'connection');
  await rawClient(t, server.port, { headers: { 'X-Name': 'J\u00fcrgen' } });
  const [, request] = await connected;
  assert.equal(request.headers['x-name'], 'J\u00fcrgen');
});

test('no header is taken from the prototype of objects', async (t) => {
  const server = await startServer(t);
  const connected = next(server, 'connection');
  await rawClient(t, server.port, { headers: { constructor: 'mine', hasOwnProperty: 'mine too' } });
  const [, request] = await connected;
  assert.equal(request.headers.constructor, 'mine');
  assert.equal(request.headers.hasownproperty, 'mine too');
  assert.equal({}.mine, undefined);
});

test('every connection has a request of its own that stays', async (t) => {
  const server = await startServer(t);
  const requests = [];
  server.on('connection', (socket, request) => requests.push(request));
  for (const path of ['/1', '/2', '/3']) await rawClient(t, server.port, { path, headers: { 'X-P': path } });
  await until(() => requests.length === 3);
  await turn();
  assert.deepEqual(requests.map(({ url }) => url), ['/1', '/2', '/3']);
  assert.deepEqual(requests.map(({ headers }) => headers['x-p']), ['/1', '/2', '/3']);
});

test('messages in the segment of the request', async (t) => {
  const server = await startServer(t);
  const log = [];
  server.on('connection', (socket) => {
    log.push('connection');
    socket.on('message', (data) => log.push(data.toString()));
  });
  await rawClient(t, server.port, {
    after: (frame) => Buffer.concat([frame(1, 'first'), frame(1, 'second')]),
  });
  await until(() => log.length === 3);
  assert.deepEqual(log, ['connection', 'first', 'second']);
});

test('messages sent inside of connection follow the response', async (t) => {
  const server = await startServer(t);
  server.on('connection', (socket) => {
    socket.send('one');
    socket.send(Buffer.from('two'));
    socket.ping('three');
  });
  const { peer } = await rawClient(t, server.port);
  const frames = [await peer.next(), await peer.next(), await peer.next()];
  assert.deepEqual(frames.map(({ opcode, payload }) => [opcode, payload.toString()]), [
    [1, 'one'], [2, 'two'], [9, 'three'],
  ]);
});

test('closing inside of connection', async (t) => {
  const server = await startServer(t);
  server.on('connection', (socket) => socket.close(4000, 'not you'));
  const client = startClient(t, server.url);
  const log = record(client);
  await next(client, 'close');
  assert.deepEqual(log, [['open'], ['close', 4000, Buffer.from('not you')]]);
});

test('terminating inside of connection', async (t) => {
  const server = await startServer(t);
  const closed = new Promise((resolve) => {
    server.on('connection', (socket) => {
      socket.on('close', (...args) => resolve(args));
      socket.terminate();
    });
  });
  const client = startPeerClient(t, server.url);
  client.on('error', () => {});
  await next(client, 'close');
  assert.deepEqual(await closed, [1006, Buffer.alloc(0)]);
});

// --- headers -------------------------------------------------------------------------

test('headers can be seen and changed before they are sent', async (t) => {
  const server = await startServer(t);
  const log = [];
  server.on('headers', (headers, request) => {
    log.push(['headers', headers.slice(0, 4), request.url]);
    headers.push('X-Added: yes', 'Set-Cookie: a=b');
  });
  server.on('connection', (socket, request) => log.push(['connection', request.url]));
  const { fields, key } = await rawClient(t, server.port, { path: '/h' });
  assert.deepEqual(fields.slice(-2), [['X-Added', 'yes'], ['Set-Cookie', 'a=b']]);
  await until(() => log.length === 2);
  assert.deepEqual(log, [
    ['headers', [
      'HTTP/1.1 101 Switching Protocols',
      'Upgrade: websocket',
      'Connection: Upgrade',
      `Sec-WebSocket-Accept: ${acceptValue(key)}`,
    ], '/h'],
    ['connection', '/h'],
  ]);
});

test('the request is the same object in headers and in connection', async (t) => {
  const server = await startServer(t);
  const seen = new Set();
  server.on('headers', (headers, request) => seen.add(request));
  server.on('connection', (socket, request) => seen.add(request));
  const connected = next(server, 'connection');
  await rawClient(t, server.port);
  await connected;
  assert.equal(seen.size, 1);
});

// --- subprotocols ----------------------------------------------------------------------

test('the first subprotocol that is offered is chosen', async (t) => {
  const server = await startServer(t);
  const connected = next(server, 'connection');
  const { headers } = await rawClient(t, server.port, { headers: { 'Sec-WebSocket-Protocol': 'b, a' } });
  assert.equal(headers['sec-websocket-protocol'], 'b');
  assert.equal((await connected)[0].protocol, 'b');
});

test('handleProtocols chooses', async (t) => {
  const calls = [];
  const server = await startServer(t, {
    handleProtocols: (...args) => {
      calls.push(args);
      return 'a';
    },
  });
  const connected = next(server, 'connection');
  const { headers } = await rawClient(t, server.port, { headers: { 'Sec-WebSocket-Protocol': 'b,a , c' } });
  const [socket, request] = await connected;
  assert.equal(headers['sec-websocket-protocol'], 'a');
  assert.equal(socket.protocol, 'a');
  assert.equal(calls.length, 1);
  const [[protocols, seen]] = calls;
  assert.ok(protocols instanceof Set);
  assert.deepEqual([...protocols], ['b', 'a', 'c']);
  assert.equal(seen, request);
});

test('handleProtocols chooses none, or is not asked', async (t) => {
  let calls = 0;
  const server = await startServer(t, {
    handleProtocols: () => {
      calls += 1;
      return false;
    },
  });
  const { status, headers } = await rawClient(t, server.port, { headers: { 'Sec-WebSocket-Protocol': 'a' } });
  assert.equal(status, 101);
  assert.equal(headers['sec-websocket-protocol'], undefined);
  assert.equal(calls, 1);
  await rawClient(t, server.port);
  assert.equal(calls, 1);
});

test('handleProtocols names what was not offered: the client fails, the server does not', async (t) => {
  const server = await startServer(t, { handleProtocols: () => 'fixed' });
  const client = startClient(t, server.url, ['other']);
  const log = record(client, ['open', 'error', 'close']);
  await next(client, 'close');
  assert.deepEqual(log.map(([name]) => name), ['error', 'close']);
  const { headers } = await rawClient(t, server.port, { headers: { 'Sec-WebSocket-Protocol': 'fixed' } });
  assert.equal(headers['sec-websocket-protocol'], 'fixed');
});

// --- verifyClient -------------------------------------------------------------------------

test('verifyClient sees the request', async (t) => {
  const infos = [];
  const server = await startServer(t, {
    verifyClient: (info) => {
      infos.push(info);
      return true;
    },
  });
  const connected = next(server, 'connection');
  await rawClient(t, server.port, { path: '/v', headers: { Origin: 'https://here.example' } });
  const [, request] = await connected;
  const [{ origin, secure, req }] = infos;
  assert.equal(origin, 'https://here.example');
  assert.equal(secure, false);
  assert.equal(req, request);
  await rawClient(t, server.port);
  assert.equal(infos[1].origin, undefined);
});

test('verifyClient refuses', async (t) => {
  const server = await startServer(t, { verifyClient: () => false });
  const log = record(server, ['connection']);
  const response = await rawClient(t, server.port);
  assert.equal(response.first, 'HTTP/1.1 401 Unauthorized');
  assert.equal(response.body, 'Unauthorized');
  assert.equal(response.headers.connection, 'close');
  assert.deepEqual(log, []);
});

test('verifyClient with a callback: accepts now and later', async (t) => {
  const server = await startServer(t, {
    verifyClient: ({ req }, callback) => {
      if (req.url === '/now') callback(true);
      else setImmediate(callback, true);
    },
  });
  for (const path of ['/now', '/later']) {
    const connected = next(server, 'connection');
    const { status } = await rawClient(t, server.port, { path });
    assert.equal(status, 101);
    assert.equal((await connected)[1].url, path);
  }
});

test('verifyClient with a callback: refuses', async (t) => {
  const answers = {
    '/': [false],
    '/403': [false, 403],
    '/404': [false, 404, 'nothing here'],
    '/503': [false, 503, 'come back', { 'Retry-After': 120, 'X-Why': 'full' }],
  };
  const server = await startServer(t, {
    verifyClient: ({ req }, callback) => { setImmediate(callback, ...answers[req.url]); },
  });
  const got = {};
  for (const path of Object.keys(answers)) got[path] = await rawClient(t, server.port, { path });
  assert.equal(got['/'].first, 'HTTP/1.1 401 Unauthorized');
  assert.equal(got['/403'].first, 'HTTP/1.1 403 Forbidden');
  assert.equal(got['/403'].body, 'Forbidden');
  assert.equal(got['/404'].first, 'HTTP/1.1 404 Not Found');
  assert.equal(got['/404'].body, 'nothing here');
  assert.equal(got['/503'].first, 'HTTP/1.1 503 Service Unavailable');
  assert.equal(got['/503'].body, 'come back');
  assert.equal(got['/503'].headers['retry-after'], '120');
  assert.equal(got['/503'].headers['x-why'], 'full');
});

test('verifyClient: the client leaves before the answer', async (t) => {
  const server = await startServer(t, {
    verifyClient: (info, callback) => server.emit('held', callback),
  });
  const log = record(server, ['error']);
  // Its end may be noticed before it is told or after.
  server.on('connection', (socket) => socket.on('close', (code) => log.push(['close', code])));
  const held = next(server, 'held');
  const client = startPeerClient(t, server.url);
  client.on('error', () => {});
  const [callback] = await held;
  client.terminate();
  await next(client, 'close');
  for (let i = 0; i < 20; i++) await turn();
  callback(true);
  assert.equal((await rawClient(t, server.port, { method: 'POST' })).status, 405, 'it still serves');
  await until(() => server.clients.size === 0);
  assert.ok(log.every(([name, code]) => name === 'close' && code === 1006), JSON.stringify(log));
});

test('verifyClient knows the address', async (t) => {
  const addresses = [];
  const server = await startServer(t, {
    verifyClient: ({ req }) => addresses.push(req.socket.remoteAddress, req.socket.remotePort),
  });
  const { socket } = await rawClient(t, server.port);
  assert.deepEqual(addresses, ['127.0.0.1', socket.localPort]);
});

test('the socket of the request', async (t) => {
  const server = await startServer(t);
  const log = [];
  server.on('connection', (socket, request) => {
    request.socket.on('close', () => log.push('socket'));
    socket.on('close', (code) => log.push(code));
    setImmediate(() => request.socket.destroy());
  });
  const { peer } = await rawClient(t, server.port);
  await peer.closed;
  await until(() => log.length === 2);
  assert.deepEqual(log, ['socket', 1006]);
});

test('the order of hooks and events', async (t) => {
  const log = [];
  const server = await startServer(t, {
    verifyClient: () => log.push('verifyClient'),
    handleProtocols: () => { log.push('handleProtocols'); return 'a'; },
  });
  server.on('headers', () => log.push('headers'));
  server.on('connection', () => log.push('connection'));
  await rawClient(t, server.port, { headers: { 'Sec-WebSocket-Protocol': 'a' } });
  await until(() => log.length === 4);
  assert.deepEqual(log, ['verifyClient', 'handleProtocols', 'headers', 'connection']);
});

test('messages that come while verifyClient thinks are kept', async (t) => {
  const server = await startServer(t, {
    verifyClient: (info, callback) => { setTimeout(callback, 30, true); },
  });
  const log = [];
  server.on('connection', (socket) => socket.on('message', (data) => log.push(data.toString())));
  await rawClient(t, server.port, { after: (frame) => Buffer.concat([frame(1, 'a'), frame(2, 'b')]) });
  await until(() => log.length === 2);
  assert.deepEqual(log, ['a', 'b']);
});

test('a server that is closed while verifyClient thinks answers 503', async (t) => {
  const server = await startServer(t, {
    verifyClient: (info, callback) => {
      server.close();
      setImmediate(callback, true);
    },
  });
  const log = record(server, ['connection']);
  assert.equal((await rawClient(t, server.port)).status, 503);
  assert.deepEqual(log, []);
});
