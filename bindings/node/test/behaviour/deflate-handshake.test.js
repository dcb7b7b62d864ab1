'use strict';
// permessage-deflate in the opening handshake: what is offered, answered, accepted and refused.

const assert = require('node:assert/strict');
const {
  WebSocket, WebSocketServer, next, once, pair, rawClient, rawServer, responseHead, startClient, startServer, test,
  withPeer,
} = require('../support');

const { PerMessageDeflate } = WebSocket;

const OFFERS = [
  [undefined, 'permessage-deflate; client_max_window_bits'],
  [true, 'permessage-deflate; client_max_window_bits'],
  [{}, 'permessage-deflate; client_max_window_bits'],
  [{ clientMaxWindowBits: true }, 'permessage-deflate; client_max_window_bits'],
  [{ clientMaxWindowBits: false }, 'permessage-deflate'],
  [{ clientMaxWindowBits: 8 }, 'permessage-deflate; client_max_window_bits=8'],
  [{ clientNoContextTakeover: false, serverNoContextTakeover: false }, 'permessage-deflate; client_max_window_bits'],
  [{ threshold: 0, concurrencyLimit: 2, zlibDeflateOptions: { level: 9, memLevel: 1, chunkSize: 1024 } },
    'permessage-deflate; client_max_window_bits'],
  [
    {
      clientMaxWindowBits: 15, clientNoContextTakeover: true, serverMaxWindowBits: 9, serverNoContextTakeover: true,
    },
    'permessage-deflate; server_no_context_takeover; client_no_context_takeover; server_max_window_bits=9; '
      + 'client_max_window_bits=15',
  ],
];

for (const [perMessageDeflate, offer] of OFFERS) {
  test(`a client with ${JSON.stringify(perMessageDeflate)} offers ${offer}`, async (t) => {
    const server = await rawServer(t);
    startClient(t, server.url, perMessageDeflate === undefined ? {} : { perMessageDeflate });
    const { request } = await server.next();
    assert.equal(request.headers['sec-websocket-extensions'], offer);
  });
}

test('a client without compression offers nothing', async (t) => {
  const server = await rawServer(t);
  for (const perMessageDeflate of [false, null, 0]) {
    startClient(t, server.url, { perMessageDeflate });
    assert.equal((await server.next()).request.headers['sec-websocket-extensions'], undefined);
  }
});

/** Options of a server, an offer, and the answer; none is no extension, null a refusal. */
const ANSWERS = [
  [true, 'permessage-deflate', 'permessage-deflate'],
  [{}, 'permessage-deflate; client_max_window_bits', 'permessage-deflate'],
  [{}, 'permessage-deflate; client_max_window_bits=10', 'permessage-deflate; client_max_window_bits=10'],
  [{}, 'permessage-deflate; server_max_window_bits=8', 'permessage-deflate; server_max_window_bits=8'],
  [{}, 'permessage-deflate; server_max_window_bits="1\\0"', 'permessage-deflate; server_max_window_bits=10'],
  [{}, 'permessage-deflate ;\tclient_no_context_takeover', 'permessage-deflate; client_no_context_takeover'],
  [{}, 'permessage-deflate; server_no_context_takeover', 'permessage-deflate; server_no_context_takeover'],
  [{}, 'x-webkit-deflate-frame, permessage-deflate', 'permessage-deflate'],
  [{}, 'x-webkit-deflate-frame; a=b', undefined],
  [{ serverNoContextTakeover: true }, 'permessage-deflate', 'permessage-deflate; server_no_context_takeover'],
  [{ clientNoContextTakeover: true }, 'permessage-deflate', 'permessage-deflate; client_no_context_takeover'],
  [{ serverMaxWindowBits: 10 }, 'permessage-deflate', 'permessage-deflate; server_max_window_bits=10'],
  [{ serverMaxWindowBits: 15 }, 'permessage-deflate', 'permessage-deflate; server_max_window_bits=15'],
  [{ serverMaxWindowBits: 10 }, 'permessage-deflate; server_max_window_bits=12', 'permessage-deflate; server_max_window_bits=10'],
  [{ clientMaxWindowBits: 10 }, 'permessage-deflate; client_max_window_bits', 'permessage-deflate; client_max_window_bits=10'],
  [{ clientMaxWindowBits: 10 }, 'permessage-deflate; client_max_window_bits=12', 'permessage-deflate; client_max_window_bits=10'],
  [{ clientMaxWindowBits: false }, 'permessage-deflate; client_max_window_bits=12', 'permessage-deflate'],
  [{ clientMaxWindowBits: true }, 'permessage-deflate; client_max_window_bits', 'permessage-deflate'],
  // The first that is acceptable.
  [{ serverNoContextTakeover: false },
    'permessage-deflate; server_no_context_takeover, permessage-deflate; client_max_window_bits=9',
    'permessage-deflate; client_max_window_bits=9'],
  [{ serverNoContextTakeover: false }, 'permessage-deflate; server_no_context_takeover', null],
  [{ serverMaxWindowBits: 10 }, 'permessage-deflate; server_max_window_bits=9', null],
  [{ serverMaxWindowBits: false }, 'permessage-deflate; server_max_window_bits=9', null],
  [{ clientMaxWindowBits: 10 }, 'permessage-deflate; client_max_window_bits=9', null],
  [{ clientMaxWindowBits: 10 }, 'permessage-deflate', null],
  [{}, 'permessage-deflate; unknown', null],
  [{}, 'permessage-deflate; server_no_context_takeover=1', null],
  [{}, 'permessage-deflate; client_no_context_takeover; client_no_context_takeover', null],
  [{}, 'permessage-deflate; server_max_window_bits', null],
  [{}, 'permessage-deflate; server_max_window_bits=7', null],
  [{}, 'permessage-deflate; server_max_window_bits=16', null],
  [{}, 'permessage-deflate; client_max_window_bits=16', null],
  [{}, 'permessage-deflate; client_max_window_bits=x', null],
  // One that cannot be read refuses them all.
  [{}, 'permessage-deflate, permessage-deflate; unknown', null],
  [{}, 'permessage-deflate;', null],
  [{}, 'permessage-deflate,', null],
  [{}, 'permessage deflate', null],
  [{}, 'permessage-deflate; server_max_window_bits="10', null],
  [{}, 'permessage-deflate; server_max_window_bits=1 0', null],
];

for (const [perMessageDeflate, offer, answer] of ANSWERS) {
  test(`a server with ${JSON.stringify(perMessageDeflate)} that is offered ${offer}`, async (t) => {
    const server = await startServer(t, { perMessageDeflate });
    const connected = next(server, 'connection');
    const { body, headers, status } = await rawClient(t, server.port, { headers: { 'Sec-WebSocket-Extensions': offer } });
    if (answer === null) {
      assert.equal(status, 400);
      assert.equal(body, 'Invalid or unacceptable Sec-WebSocket-Extensions header');
      return;
    }
    assert.equal(status, 101);
    assert.equal(headers['sec-websocket-extensions'], answer);
    const [socket] = await connected;
    assert.equal(socket.extensions, answer === undefined ? '' : 'permessage-deflate');
  });
}

test('a server without compression passes offers over', async (t) => {
  for (const options of [{}, { perMessageDeflate: false }]) {
    const server = await startServer(t, options);
    assert.equal(server.options.perMessageDeflate, false);
    const { headers, status } = await rawClient(t, server.port, {
      headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; server_no_context_takeover=1' },
    });
    assert.equal(status, 101);
    assert.equal(headers['sec-websocket-extensions'], undefined);
  }
});

test('offers in several headers', async (t) => {
  const server = await startServer(t, { perMessageDeflate: { serverNoContextTakeover: false } });
  const { headers } = await rawClient(t, server.port, {
    headers: {
      'Sec-WebSocket-Extensions': ['permessage-deflate; server_no_context_takeover', 'permessage-deflate; client_no_context_takeover'],
    },
  });
  assert.equal(headers['sec-websocket-extensions'], 'permessage-deflate; client_no_context_takeover');
});

test('a refused offer is a wsClientError, before verifyClient', async (t) => {
  let verified = 0;
  const server = await startServer(t, { perMessageDeflate: true, verifyClient: () => { verified += 1; return true; } });
  const failed = next(server, 'wsClientError');
  const socket = rawClient(t, server.port, { headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate; x' } });
  socket.catch(() => {});
  const [error, stream] = await failed;
  assert.equal(error.message, 'Invalid or unacceptable Sec-WebSocket-Extensions header');
  stream.destroy();
  assert.equal(verified, 0);
});

test('options.perMessageDeflate', (t) => {
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: true });
  t.after(() => server.close());
  assert.deepEqual(server.options.perMessageDeflate, {});
});

test("the answer is among the lines of 'headers'", async (t) => {
  const server = await startServer(t, { perMessageDeflate: { serverMaxWindowBits: 11 } });
  server.on('headers', (lines) => lines.push('X-More: 1'));
  const told = next(server, 'headers');
  const { headers } = await rawClient(t, server.port, { headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate' } });
  assert.ok((await told)[0].includes('Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=11'));
  assert.equal(headers['x-more'], '1');
});

test('both ends know', async (t) => {
  const both = await pair(t, { server: { perMessageDeflate: true } });
  assert.deepEqual([both.client.extensions, both.serverSide.extensions], ['permessage-deflate', 'permessage-deflate']);
  const one = await pair(t, { server: { perMessageDeflate: true }, client: { perMessageDeflate: false } });
  assert.deepEqual([one.client.extensions, one.serverSide.extensions], ['', '']);
});

const INVALID = 'Invalid Sec-WebSocket-Extensions header';
const UNASKED = 'Server sent a Sec-WebSocket-Extensions header but no extension was requested';
const OTHER = 'Server indicated an extension that was not requested';

/** Options of a client and an answer of the server; then the error, if it is one. */
const RESPONSES = [
  [true, 'permessage-deflate'],
  [true, 'permessage-deflate; client_max_window_bits=9; server_max_window_bits=10; server_no_context_takeover'],
  [{ clientMaxWindowBits: 10 }, 'permessage-deflate'],
  [{ clientMaxWindowBits: 10 }, 'permessage-deflate; client_max_window_bits=10'],
  [{ clientNoContextTakeover: true }, 'permessage-deflate'],
  [{ clientNoContextTakeover: true }, 'permessage-deflate; client_no_context_takeover'],
  [{ serverNoContextTakeover: true }, 'permessage-deflate; server_no_context_takeover'],
  [false, 'permessage-deflate', UNASKED],
  [false, 'foo', UNASKED],
  [false, '=', UNASKED],
  [true, 'foo', OTHER],
  [true, 'permessage-deflate, foo', OTHER],
  [true, 'permessage-deflate;', INVALID],
  [true, 'permessage-deflate; foo', INVALID],
  [true, 'permessage-deflate; client_max_window_bits', INVALID],
  [true, 'permessage-deflate; client_max_window_bits=16', INVALID],
  [true, 'permessage-deflate; server_max_window_bits', INVALID],
  [true, 'permessage-deflate; server_no_context_takeover; server_no_context_takeover', INVALID],
  [{ clientMaxWindowBits: 10 }, 'permessage-deflate; client_max_window_bits=11', INVALID],
  [{ clientMaxWindowBits: false }, 'permessage-deflate; client_max_window_bits=11', INVALID],
  [{ clientNoContextTakeover: false }, 'permessage-deflate; client_no_context_takeover', INVALID],
];

for (const [perMessageDeflate, answer, message] of RESPONSES) {
  test(`a client with ${JSON.stringify(perMessageDeflate)} that is answered ${answer}`, async (t) => {
    const server = await rawServer(t, {
      respond: (request) => responseHead(request, { headers: { 'Sec-WebSocket-Extensions': answer } }),
    });
    const client = startClient(t, server.url, { perMessageDeflate });
    if (message === undefined) {
      await once(client, 'open');
      assert.equal(client.extensions, 'permessage-deflate');
      return;
    }
    const [[error], closed] = await Promise.all([next(client, 'error'), next(client, 'close')]);
    assert.equal(error.message, message);
    assert.deepEqual(closed, [1006, Buffer.alloc(0)]);
    assert.equal(client.extensions, '');
  });
}

test('a server that declines is a connection without compression', async (t) => {
  const { subject, peer } = await withPeer(t, 'client', { options: { perMessageDeflate: true } });
  assert.equal(subject.extensions, '');
  subject.send('x'.repeat(2000));
  assert.deepEqual(await peer.next(), {
    fin: true, rsv: 0, opcode: 1, masked: true, payload: Buffer.from('x'.repeat(2000)),
  });
});

test('the class PerMessageDeflate offers', () => {
  assert.equal(PerMessageDeflate.extensionName, 'permessage-deflate');
  assert.deepEqual(new PerMessageDeflate().offer(), { client_max_window_bits: true });
  assert.deepEqual(
    new PerMessageDeflate({ serverMaxWindowBits: 9, clientMaxWindowBits: false, clientNoContextTakeover: true }).offer(),
    { client_no_context_takeover: true, server_max_window_bits: 9 },
  );
});

/** What a server or client is told, and what it says to that. */
const REFUSED = [
  [{}, { server_no_context_takeover: [true, true] }, Error, 'Parameter "server_no_context_takeover" must have only a single value'],
  [{}, { server_max_window_bits: ['16'] }, TypeError, 'Invalid value for parameter "server_max_window_bits": 16'],
  [{}, { server_max_window_bits: ['7'] }, TypeError, 'Invalid value for parameter "server_max_window_bits": 7'],
  [{}, { client_max_window_bits: ['16'] }, TypeError, 'Invalid value for parameter "client_max_window_bits": 16'],
  [{}, { client_max_window_bits: [true] }, TypeError, 'Invalid value for parameter "client_max_window_bits": true'],
  [{}, { client_no_context_takeover: ['10'] }, TypeError, 'Invalid value for parameter "client_no_context_takeover": 10'],
  [{}, { foo: [true] }, Error, 'Unknown parameter "foo"'],
  [{ clientNoContextTakeover: false }, { client_no_context_takeover: [true] }, Error, 'Unexpected parameter "client_no_context_takeover"'],
  [{ clientMaxWindowBits: 10 }, { client_max_window_bits: ['11'] }, Error, 'Unexpected or invalid parameter "client_max_window_bits"'],
  [{ isServer: true, serverNoContextTakeover: false }, { server_no_context_takeover: [true] }, Error, 'None of the extension offers can be accepted'],
  [{ isServer: true, clientMaxWindowBits: 10 }, {}, Error, 'None of the extension offers can be accepted'],
];

for (const [options, params, Type, message] of REFUSED) {
  test(`the class PerMessageDeflate: ${message}`, () => {
    assert.throws(() => new PerMessageDeflate(options).accept([params]), (error) => {
      assert.deepEqual([error.constructor, error.message], [Type, message]);
      return true;
    });
  });
}

test('the class PerMessageDeflate accepts', () => {
  const deflate = new PerMessageDeflate({ isServer: true, serverMaxWindowBits: 10 });
  assert.deepEqual({ ...deflate.accept([{ client_max_window_bits: [true], server_max_window_bits: ['12'] }]) }, {
    server_max_window_bits: 10,
  });
  assert.deepEqual({ ...deflate.params }, { server_max_window_bits: 10 });
  const client = new PerMessageDeflate({ clientMaxWindowBits: 10 });
  assert.deepEqual({ ...client.accept([{ server_max_window_bits: ['12'] }]) }, {
    client_max_window_bits: 10, server_max_window_bits: 12,
  });
});
