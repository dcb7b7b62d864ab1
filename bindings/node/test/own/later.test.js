'use strict';
// What `ws` has and this package does not have yet is refused by name, and never ignored.

const assert = require('node:assert/strict');
const http = require('node:http');
const net = require('node:net');
const {
  WebSocket, WebSocketServer, next, pair, rawServer, startClient, startServer, test, testRoles, withPeer,
} = require('../support');
const { program } = require('../support/child');

const URL_OF_NOBODY = 'ws://127.0.0.1:9';

function refuses(name, run) {
  assert.throws(run, (error) => {
    assert.ok(error instanceof Error);
    assert.match(error.message, new RegExp(`\\b${name}\\b`), 'it is named');
    assert.doesNotMatch(error.message, /is not a (constructor|function)|Cannot read/);
    return true;
  }, name);
}

/** Either the option does what it does in `ws`, or it is refused by name. */
async function obeyedOrRefused(name, run) {
  try {
    await run();
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error;
    assert.match(error.message, new RegExp(`\\b${name}\\b`));
  }
}

test('options of a client', () => {
  const cases = {
    agent: new http.Agent(),
    createConnection: net.connect,
    finishRequest: () => {},
    followRedirects: true,
    lookup: () => {},
  };
  for (const [name, value] of Object.entries(cases)) {
    refuses(name, () => new WebSocket(URL_OF_NOBODY, { [name]: value }));
    refuses(name, () => new WebSocket(URL_OF_NOBODY, ['a'], { [name]: value }));
  }
});

test('options of a server', () => {
  refuses('server', () => new WebSocketServer({ server: http.createServer() }));
  refuses('noServer', () => new WebSocketServer({ noServer: true }));
});

test('TLS', () => {
  for (const address of ['wss://localhost:9', 'https://localhost:9', new URL('wss://localhost:9/x')]) {
    refuses('wss', () => new WebSocket(address));
  }
});

test('functions and classes', async (t) => {
  const { client, server } = await pair(t);
  refuses('createWebSocketStream', () => WebSocket.createWebSocketStream(client));
  refuses('handleUpgrade', () => server.handleUpgrade({}, {}, Buffer.alloc(0), () => {}));
  for (const name of ['Receiver', 'Sender']) refuses(name, () => new WebSocket[name]());
});

test('what switches these things off is accepted', async (t) => {
  const server = await startServer(t, {
    noServer: false, perMessageDeflate: false, server: null, verifyClient: null, handleProtocols: null, path: null,
  });
  const client = startClient(t, server.url, {
    agent: undefined, createConnection: undefined, finishRequest: undefined, followRedirects: false,
    lookup: undefined, maxRedirects: 10, perMessageDeflate: false,
  });
  await next(client, 'open');
});

testRoles('skipUTF8Validation', async (t, role) => {
  await obeyedOrRefused('skipUTF8Validation', async () => {
    const { subject, peer } = await withPeer(t, role, { options: { skipUTF8Validation: true } });
    peer.write(peer.text([0x61, 0xff]));
    assert.deepEqual(await next(subject, 'message'), [Buffer.from([0x61, 0xff]), false]);
  });
});

test('a refused constructor leaves nothing behind', async (t) => {
  const running = program(t, `
    const tries = [
      () => new WebSocketServer({ port: 0, perMessageDeflate: { serverMaxWindowBits: 16 } }),
      () => new WebSocketServer({ port: 0, noServer: true }),
      () => new WebSocket('ws://127.0.0.1:9', { followRedirects: true }),
      () => new WebSocket('wss://127.0.0.1:9'),
    ];
    for (const each of tries) {
      try { each(); say('accepted'); } catch { say('refused'); }
    }
  `);
  for (let i = 0; i < 4; i++) assert.equal(await running.line(), 'refused');
  assert.equal((await running.exited).code, 0);
});

test('no option of a client is ignored that changes what it does', async (t) => {
  const server = await rawServer(t);
  const request = async (options) => {
    const client = startClient(t, server.url, options);
    client.on('error', () => {});
    return (await server.next()).request;
  };
  await obeyedOrRefused('protocolVersion', async () => {
    const { headers } = await request({ protocolVersion: 8, origin: 'http://a.example' });
    assert.equal(headers['sec-websocket-version'], '8');
    assert.equal(headers['sec-websocket-origin'], 'http://a.example');
  });
  await obeyedOrRefused('localAddress', async () => {
    const client = startClient(t, server.url, { localAddress: '127.0.0.2' });
    client.on('error', () => {});
    const { socket } = await server.next();
    assert.equal(socket.remoteAddress, '127.0.0.2');
  });
  await obeyedOrRefused('Host', async () => {
    const { headers } = await request({ headers: { Host: 'example.org' } });
    assert.equal(headers.host, 'example.org');
  });
  await obeyedOrRefused('generateMask', async () => {
    let calls = 0;
    const client = startClient(t, server.url, { generateMask: (mask) => { calls += 1; mask.fill(1); } });
    const { peer } = await server.next();
    await next(client, 'open');
    client.send('x');
    await peer.next();
    assert.equal(calls, 1);
  });
});
