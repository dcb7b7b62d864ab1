'use strict';
// `new WebSocket(address, protocols, options)`: what is refused at once, and what it is before it
// is open.

const assert = require('node:assert/strict');
const { WebSocket, next, rawServer, record, startClient, startServer, test } = require('../support');

test('an address that is no URL', () => {
  for (const address of ['', 'localhost', 'ws:', 'ws://', 'ws://[::1', '/path']) {
    assert.throws(() => new WebSocket(address), { name: 'SyntaxError', message: `Invalid URL: ${address}` });
  }
});

test('a URL with another scheme', () => {
  for (const address of ['ftp://localhost', 'about:blank', new URL('mailto:a@b')]) {
    assert.throws(() => new WebSocket(address), {
      name: 'SyntaxError',
      message: 'The URL\'s protocol must be one of "ws:", "wss:", "http:", "https:", or "ws+unix:"',
    });
  }
});

test('a URL with a fragment', () => {
  for (const address of ['ws://localhost/#a', new URL('ws://localhost/path?x=1#b')]) {
    assert.throws(() => new WebSocket(address), {
      name: 'SyntaxError',
      message: 'The URL contains a fragment identifier',
    });
  }
});

test('a unix URL without a path', () => {
  assert.throws(() => new WebSocket('ws+unix:'), {
    name: 'SyntaxError',
    message: "The URL's pathname is empty",
  });
});

test('subprotocols that are invalid or twice there', () => {
  const bad = [[null], [''], ['a b'], ['a,b'], ['a\r\n'], ['é'], ['chat', 'chat'], [1], 'a/b', '', null];
  for (const protocols of bad) {
    assert.throws(() => new WebSocket('ws://127.0.0.1:9', protocols), {
      name: 'SyntaxError',
      message: 'An invalid or duplicated subprotocol was specified',
    });
  }
  assert.throws(() => new WebSocket('ws://127.0.0.1:9', { protocols: ['a', 'a'] }), {
    name: 'SyntaxError',
    message: 'An invalid or duplicated subprotocol was specified',
  });
});

test('a protocol version that does not exist', () => {
  for (const protocolVersion of [1000, 0, '13', null]) {
    assert.throws(() => new WebSocket('ws://127.0.0.1:9', { protocolVersion }), {
      name: 'RangeError',
      message: `Unsupported protocol version: ${protocolVersion} (supported versions: 8, 13)`,
    });
  }
});

test('headers that would break the request', () => {
  const bad = [
    [{ 'X-Bad': 'a\r\nX-Injected: b' }, 'ERR_INVALID_CHAR'],
    [{ 'X-Bad': 'a\0' }, 'ERR_INVALID_CHAR'],
    [{ 'X Bad': 'a' }, 'ERR_INVALID_HTTP_TOKEN'],
    [{ '': 'a' }, 'ERR_INVALID_HTTP_TOKEN'],
    [{ 'X-Bad': undefined }, 'ERR_HTTP_INVALID_HEADER_VALUE'],
    [{ 'X-Bad': '\u20ac' }, 'ERR_INVALID_CHAR'],
  ];
  for (const [headers, code] of bad) {
    assert.throws(() => new WebSocket('ws://127.0.0.1:9', { headers }), { name: 'TypeError', code });
  }
  assert.throws(() => new WebSocket('ws://127.0.0.1:9', { origin: 'a\r\nb' }), {
    name: 'TypeError',
    code: 'ERR_INVALID_CHAR',
  });
});

test('what a client is before it is open', async (t) => {
  const server = await rawServer(t, { respond: () => null });
  const client = startClient(t, server.url, 'chat');
  assert.equal(client.readyState, WebSocket.CONNECTING);
  assert.equal(client.binaryType, 'nodebuffer');
  assert.equal(client.bufferedAmount, 0);
  assert.equal(client.extensions, '');
  assert.equal(client.isPaused, false);
  assert.equal(client.protocol, '');
  assert.equal(client.url, `${server.url}/`);
  for (const name of ['onopen', 'onmessage', 'onerror', 'onclose']) assert.equal(client[name], null);
});

test('url is the normalized URL', async (t) => {
  const { port } = await rawServer(t, { respond: () => null });
  const cases = [
    [`ws://127.0.0.1:${port}`, `ws://127.0.0.1:${port}/`],
    [`WS://LOCALHOST:${port}/A?b=c d`, `ws://localhost:${port}/A?b=c%20d`],
    [`http://127.0.0.1:${port}/x`, `ws://127.0.0.1:${port}/x`],
    [new URL(`http://127.0.0.1:${port}/y`), `ws://127.0.0.1:${port}/y`],
    [new URL(`ws://127.0.0.1:${port}/z?`), `ws://127.0.0.1:${port}/z?`],
    [`ws://127.0.0.1:${port}/a/../b`, `ws://127.0.0.1:${port}/b`],
  ];
  for (const [address, url] of cases) assert.equal(startClient(t, address).url, url);
});

test('attributes cannot be set', async (t) => {
  const server = await rawServer(t, { respond: () => null });
  const client = startClient(t, server.url);
  for (const name of ['bufferedAmount', 'extensions', 'isPaused', 'protocol', 'readyState', 'url']) {
    assert.throws(() => { client[name] = 1; }, TypeError);
  }
});

test('binaryType takes what it knows and ignores the rest', async (t) => {
  const server = await rawServer(t, { respond: () => null });
  const client = startClient(t, server.url);
  for (const type of ['arraybuffer', 'fragments', 'blob', 'nodebuffer']) {
    client.binaryType = type;
    assert.equal(client.binaryType, type);
  }
  for (const type of ['', 'text', 'Blob', undefined, null, 1]) {
    client.binaryType = type;
    assert.equal(client.binaryType, 'nodebuffer');
  }
});

test('the places of protocols and options', async (t) => {
  const seen = [];
  const server = await startServer(t, {
    handleProtocols: (protocols, request) => {
      seen.push([request.url, [...protocols]]);
      return protocols.values().next().value;
    },
  });
  const headers = { 'X-There': 'yes' };
  const cases = [
    ['1', ['a', { headers }], ['a']],
    ['2', [['a', 'b'], { headers }], ['a', 'b']],
    ['3', [{ headers, protocols: 'a' }], ['a']],
    ['4', [{ headers, protocols: ['a', 'b'] }], ['a', 'b']],
    ['5', [undefined, { headers, protocols: ['a'] }], ['a']],
    ['6', ['b', { headers, protocols: ['a'] }], ['b']],
    ['7', [[], { headers }], null],
    ['8', [{ headers }], null],
    ['9', [[], { headers, protocols: ['a'] }], null],
    ['10', [undefined, { headers }], null],
  ];
  for (const [path, args, offered] of cases) {
    const connected = next(server, 'connection');
    const client = startClient(t, `${server.url}/${path}`, ...args);
    const [[serverSide, request]] = await Promise.all([connected, next(client, 'open')]);
    assert.equal(request.headers['x-there'], 'yes', path);
    const found = seen.find(([url]) => url === `/${path}`);
    assert.deepEqual(found?.[1] ?? null, offered, path);
    assert.equal(client.protocol, offered?.[0] ?? '', path);
    assert.equal(serverSide.protocol, offered?.[0] ?? '', path);
  }
});

test('options that are null or undefined', async (t) => {
  const server = await startServer(t);
  for (const args of [[undefined, undefined], [[], null], ['a', null], [undefined, null]]) {
    await next(startClient(t, server.url, ...args), 'open');
  }
});

test('options and headers are left as they were', async (t) => {
  const server = await startServer(t);
  const options = Object.freeze({ headers: Object.freeze({ 'X-A': 'b' }), origin: 'http://x.test' });
  const protocols = Object.freeze(['a']);
  await next(startClient(t, server.url, protocols, options), 'open');
});

test('nothing is emitted before the constructor has returned', async (t) => {
  const server = await startServer(t);
  const client = startClient(t, server.url);
  const log = record(client);
  assert.deepEqual(log, []);
  await next(client, 'open');
  assert.deepEqual(log, [['open']]);
});
