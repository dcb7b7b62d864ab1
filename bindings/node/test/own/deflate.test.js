'use strict';
// Compression where wsabi has more to say than `ws`, and where it is stricter.

const assert = require('node:assert/strict');
const zlib = require('node:zlib');
const {
  WebSocket, WebSocketServer, next, once, pair, rawClient, rawServer, responseHead, startClient, startServer, test,
  testRoles, until, withPeer,
} = require('../support');
const { program } = require('../support/child');

test('deflate tells what was agreed on', async (t) => {
  const { client, serverSide } = await pair(t, {
    server: { perMessageDeflate: { serverMaxWindowBits: 10, clientNoContextTakeover: true } },
    client: { perMessageDeflate: { clientMaxWindowBits: 11 } },
  });
  const agreed = {
    serverMaxWindowBits: 10, clientMaxWindowBits: 11, serverContextTakeover: true, clientContextTakeover: false,
  };
  assert.deepEqual(client.deflate, agreed);
  assert.deepEqual(serverSide.deflate, agreed);
  assert.throws(() => { client.deflate = null; }, TypeError);
  const none = await pair(t);
  assert.equal(none.client.deflate, null);
  assert.equal(none.serverSide.deflate, null);
});

test('options that make no sense are refused', () => {
  const cases = [
    [{ serverMaxWindowBits: 16 }, RangeError, 'The option "perMessageDeflate.serverMaxWindowBits" is 16; expected 8 to 15'],
    [{ serverMaxWindowBits: 7 }, RangeError, /7; expected 8 to 15/],
    [{ clientMaxWindowBits: 9.5 }, RangeError, /clientMaxWindowBits" is 9.5/],
    [{ clientMaxWindowBits: '10' }, TypeError, /clientMaxWindowBits" is string; expected a number/],
    [{ serverMaxWindowBits: true }, TypeError, /serverMaxWindowBits" is boolean/],
    [{ zlibDeflateOptions: { level: 10 } }, RangeError, /zlibDeflateOptions.level" is 10; expected -1 to 9/],
    [{ zlibDeflateOptions: { memLevel: 0 } }, RangeError, /zlibDeflateOptions.memLevel" is 0; expected 1 to 9/],
    [{ maxRatio: 0 }, RangeError, /maxRatio" is 0; expected 1 to/],
    [{ zlibDeflateOptions: { dictionary: Buffer.from('x') } }, Error, /zlibDeflateOptions.dictionary" is not supported/],
    [{ zlibInflateOptions: { dictionary: Buffer.from('x') } }, Error, /zlibInflateOptions.dictionary" is not supported/],
  ];
  for (const [perMessageDeflate, Type, message] of cases) {
    const expected = { name: Type.name, message };
    assert.throws(() => new WebSocket('ws://127.0.0.1:9', { perMessageDeflate }), expected);
    assert.throws(() => new WebSocketServer({ port: 0, perMessageDeflate }), expected);
  }
});

testRoles('what has no meaning here is accepted', async (t, role) => {
  const perMessageDeflate = {
    concurrencyLimit: 1,
    zlibDeflateOptions: { chunkSize: 64, strategy: 1, finishFlush: 2 },
    zlibInflateOptions: { chunkSize: 64, windowBits: 9 },
  };
  const { subject, peer } = await withPeer(t, role, { options: { perMessageDeflate }, extensions: 'permessage-deflate' });
  subject.send('x'.repeat(5000));
  assert.equal((await peer.next()).rsv, 4);
});

testRoles('levels', async (t, role) => {
  const data = Buffer.from(Array.from({ length: 60_000 }, (_, i) => (i * i * 7 + (i >> 5)) % 61));
  const sizes = [];
  for (const level of [1, 9, -1]) {
    const { subject, peer } = await withPeer(t, role, {
      options: { perMessageDeflate: { zlibDeflateOptions: { level, memLevel: 9 } } }, extensions: 'permessage-deflate',
    });
    subject.send(data);
    const { payload, rsv } = await peer.next();
    assert.equal(rsv, 4);
    sizes.push(payload.length);
  }
  assert.ok(sizes[1] < sizes[0], sizes.join());
});

testRoles('level 0 compresses nothing, and reads what is compressed', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, {
    options: { perMessageDeflate: { zlibDeflateOptions: { level: 0 } } }, extensions: 'permessage-deflate',
  });
  subject.send('x'.repeat(5000));
  subject.send('y'.repeat(5000), { compress: true });
  assert.deepEqual([(await peer.next()).rsv, (await peer.next()).rsv], [0, 0]);
  const got = next(subject, 'message');
  peer.write(peer.text(zlib.deflateRawSync('there', { finishFlush: 2 }).subarray(0, -4), { rsv: 4 }));
  assert.equal((await got)[0].toString(), 'there');
});

testRoles('maxRatio', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, {
    options: { perMessageDeflate: { maxRatio: 20 } }, extensions: 'permessage-deflate',
  });
  const failed = next(subject, 'error');
  peer.write(peer.binary(zlib.deflateRawSync(Buffer.alloc(1 << 20), { finishFlush: 2 }).subarray(0, -4), { rsv: 4 }));
  const [error] = await failed;
  assert.equal(error.code, 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH');
  assert.match(error.message, /maxRatio, 20, times as large/);
  assert.equal((await peer.nextClose()).code, 1009);
});

testRoles('a compressed message that ends too early is damaged', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, {
    options: { perMessageDeflate: true }, extensions: 'permessage-deflate',
  });
  const failed = next(subject, 'error');
  const whole = zlib.deflateRawSync('some text that is not a repetition of itself', { finishFlush: 2 });
  peer.write(peer.text(whole.subarray(0, 10), { rsv: 4 }));
  const [error] = await failed;
  assert.deepEqual([error.code, error.errno], ['Z_DATA_ERROR', -3]);
  assert.equal((await peer.nextClose()).code, 1007);
});

test('a server that passes a parameter over fails the connection (RFC 7692, section 7.1.1.1)', async (t) => {
  for (const [perMessageDeflate, answer] of [
    [{ serverNoContextTakeover: true }, 'permessage-deflate'],
    [{ serverMaxWindowBits: 10 }, 'permessage-deflate; server_max_window_bits=11'],
    [true, 'permessage-deflate, permessage-deflate'],
  ]) {
    const server = await rawServer(t, {
      respond: (request) => responseHead(request, { headers: { 'Sec-WebSocket-Extensions': answer } }),
    });
    const [error] = await next(startClient(t, server.url, { perMessageDeflate }), 'error');
    assert.match(error.message, /^(Invalid Sec-WebSocket-Extensions header|Server indicated an extension .*)$/);
  }
});

test('offers that cannot be read are refused, by a server without compression too', async (t) => {
  const server = await startServer(t);
  const { status } = await rawClient(t, server.port, { headers: { 'Sec-WebSocket-Extensions': 'permessage-deflate;' } });
  assert.equal(status, 400);
});

test("the answer is not a listener's of 'headers' to change", async (t) => {
  const running = program(t, `
    process.on('uncaughtException', (error) => { say(error.message); server.close(); });
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: true }, () => {
      const client = new WebSocket('ws://127.0.0.1:' + server.address().port);
      client.on('error', (error) => say(error.message));
    });
    server.on('headers', (lines) => { lines[lines.length - 1] += '; server_no_context_takeover'; });
  `);
  assert.match(await running.line(), /permessage-deflate; server_no_context_takeover/);
  assert.equal(await running.line(), 'Unexpected server response: 500');
  assert.equal((await running.exited).code, 0);
});

test('PerMessageDeflate compresses nothing by itself', () => {
  const deflate = new WebSocket.PerMessageDeflate();
  for (const name of ['compress', 'decompress']) {
    assert.throws(() => deflate[name](Buffer.alloc(1), true, () => {}), { code: 'WSABI_ERR_NOT_SUPPORTED' });
  }
  deflate.cleanup();
});

test('a compressor that was not used for long, and one that is', async (t) => {
  const { client, serverSide } = await pair(t, { server: { perMessageDeflate: true } });
  const got = [];
  serverSide.on('message', (data) => got.push(data.toString()));
  // A prepared message between makes the next one begin anew.
  const prepared = WebSocket.prepare('prepared '.repeat(500));
  for (let i = 0; i < 6; i++) {
    client.send('mine '.repeat(500));
    client.send(prepared);
  }
  await until(() => got.length === 12);
  assert.deepEqual(got, Array.from({ length: 12 }, (_, i) => (i % 2 === 0 ? 'mine ' : 'prepared ').repeat(500)));
  assert.equal(client.readyState, WebSocket.OPEN);
  client.close();
  await once(client, 'close');
});
