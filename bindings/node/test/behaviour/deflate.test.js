'use strict';
// Compressed messages: which are, what they look like on the wire, and what is made of those that come.

const assert = require('node:assert/strict');
const zlib = require('node:zlib');
const {
  OPCODE, next, once, pair, record, startClient, startPeerClient, startPeerServer, startServer, test, testRoles,
  turn, until, withPeer,
} = require('../support');

const TAIL = Buffer.from([0, 0, 0xff, 0xff]);
const BOTH = 'permessage-deflate; server_no_context_takeover; client_no_context_takeover';
const NONE = { serverNoContextTakeover: true, clientNoContextTakeover: true };

/** A message as one endpoint may compress it: flushed, and without its tail (RFC 7692, section 7.2.1). */
function deflated(data, options) {
  const out = zlib.deflateRawSync(data, { finishFlush: zlib.constants.Z_SYNC_FLUSH, ...options });
  return out.subarray(0, out.length - TAIL.length);
}

function inflated(data, options) {
  return zlib.inflateRawSync(Buffer.concat([data, TAIL]), {
    finishFlush: zlib.constants.Z_SYNC_FLUSH, ...options,
  });
}

/** What remembers earlier messages: `write` gives what comes out for a piece. */
function stream(transform) {
  return {
    write: (data) => new Promise((resolve, reject) => {
      const parts = [];
      const onData = (part) => parts.push(part);
      transform.on('data', onData);
      transform.once('error', reject);
      transform.write(data);
      transform.flush(zlib.constants.Z_SYNC_FLUSH, () => {
        transform.off('data', onData);
        transform.off('error', reject);
        resolve(Buffer.concat(parts));
      });
    }),
  };
}

/** The package under test in one role with compression agreed on. */
function compressing(t, role, { perMessageDeflate = {}, extensions = 'permessage-deflate', ...options } = {}) {
  return withPeer(t, role, { options: { perMessageDeflate, ...options }, extensions });
}

const TEXT = 'All work and no play makes Jack a dull boy. '.repeat(100);

testRoles('a message is compressed', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  subject.send(TEXT);
  const text = await peer.next();
  assert.deepEqual([text.fin, text.rsv, text.opcode], [true, 4, OPCODE.text]);
  assert.ok(text.payload.length < 200);
  assert.equal(inflated(text.payload).toString(), TEXT);
});

testRoles('later messages refer to earlier ones', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  const inflate = stream(zlib.createInflateRaw());
  const random = Buffer.from(Array.from({ length: 3000 }, (_, i) => (i * i * 31 + (i >> 3)) % 251));
  const sizes = [];
  for (let i = 0; i < 3; i++) {
    subject.send(random);
    const { payload, rsv } = await peer.next();
    assert.equal(rsv, 4);
    sizes.push(payload.length);
    assert.ok((await inflate.write(Buffer.concat([payload, TAIL]))).equals(random));
  }
  assert.ok(sizes[1] < sizes[0] / 4 && sizes[2] < sizes[0] / 4, sizes.join());
});

testRoles('without context takeover each message stands alone', async (t, role) => {
  const { subject, peer } = await compressing(t, role, { perMessageDeflate: NONE, extensions: BOTH });
  for (let i = 0; i < 3; i++) {
    subject.send(TEXT);
    assert.equal(inflated((await peer.next()).payload).toString(), TEXT);
  }
});

testRoles('a side that keeps its context compresses short messages too', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  subject.send('short');
  const { rsv, payload } = await peer.next();
  assert.equal(rsv, 4);
  assert.equal(inflated(payload).toString(), 'short');
});

testRoles('threshold', async (t, role) => {
  const open = (threshold) => compressing(t, role, {
    perMessageDeflate: { ...NONE, ...(threshold === undefined ? {} : { threshold }) }, extensions: BOTH,
  });
  for (const [threshold, at] of [[undefined, 1024], [10, 10]]) {
    const { subject, peer } = await open(threshold);
    for (const [data, rsv] of [
      ['x'.repeat(at - 1), 0], ['x'.repeat(at), 4], [Buffer.alloc(at - 1), 0], [Buffer.alloc(at), 4],
      [new ArrayBuffer(at), 4], [new ArrayBuffer(at - 1), 0],
      // In bytes, not in characters.
      ['\u00e4'.repeat(at / 2), 4], [`${'\u00e4'.repeat(at / 2 - 1)}x`, 0],
    ]) {
      subject.send(data);
      assert.equal((await peer.next()).rsv, rsv, `${data.length ?? data.byteLength} of ${at}`);
    }
  }
  const { subject, peer } = await open(0);
  subject.send('aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa');
  assert.equal((await peer.next()).rsv, 4);
});

testRoles('compress', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  for (const [options, rsv] of [
    [{ compress: false }, 0], [{ compress: true }, 4], [{}, 4], [undefined, 4], [{ compress: undefined }, 0],
    [{ compress: 0 }, 0], [{ binary: true }, 4],
  ]) {
    subject.send(TEXT, options);
    assert.equal((await peer.next()).rsv, rsv, JSON.stringify(options));
  }
});

testRoles('compress without compression', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.send(TEXT, { compress: true });
  const { rsv, payload } = await peer.next();
  assert.equal(rsv, 0);
  assert.equal(payload.toString(), TEXT);
});

testRoles('control frames are not compressed', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  subject.ping('p'.repeat(125));
  subject.pong('q'.repeat(125));
  subject.close(1000, 'r'.repeat(123));
  for (const opcode of [OPCODE.ping, OPCODE.pong, OPCODE.close]) {
    const frame = await peer.next();
    assert.deepEqual([frame.opcode, frame.rsv], [opcode, 0]);
  }
});

testRoles('fragments are compressed as the first one says', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  const inflate = stream(zlib.createInflateRaw());
  subject.send('one and ', { fin: false });
  subject.ping('between');
  subject.send('', { fin: false, compress: false });
  subject.send('two', { fin: true });
  subject.send('plain ', { fin: false, compress: false });
  subject.send('and plain', { compress: true });
  subject.send('again');
  const frames = [];
  for (let i = 0; i < 7; i++) frames.push(await peer.next());
  const data = frames.filter(({ opcode }) => opcode !== OPCODE.ping);
  assert.equal(data.length, 6);
  assert.deepEqual(data.map(({ rsv }) => rsv), [4, 0, 0, 0, 0, 4]);
  assert.deepEqual(data.map(({ fin }) => fin), [false, false, true, false, true, true]);
  assert.deepEqual(data.map(({ opcode }) => opcode), [1, 0, 0, 1, 0, 1]);
  const first = Buffer.concat([...data.slice(0, 3).map(({ payload }) => payload), TAIL]);
  assert.equal((await inflate.write(first)).toString(), 'one and two');
  assert.equal(Buffer.concat(data.slice(3, 5).map(({ payload }) => payload)).toString(), 'plain and plain');
  assert.equal((await inflate.write(Buffer.concat([data[5].payload, TAIL]))).toString(), 'again');
});

testRoles('of fragments the first one is held against the threshold', async (t, role) => {
  const { subject, peer } = await compressing(t, role, {
    perMessageDeflate: { ...NONE, threshold: 10 }, extensions: BOTH,
  });
  subject.send('123456789', { fin: false });
  subject.send('x'.repeat(1000));
  subject.send('1234567890', { fin: false });
  subject.send('x');
  const frames = [];
  for (let i = 0; i < 4; i++) frames.push(await peer.next());
  assert.deepEqual(frames.map(({ rsv }) => rsv), [0, 0, 4, 0]);
  assert.equal(inflated(Buffer.concat([frames[2].payload, frames[3].payload])).toString(), '1234567890x');
});

testRoles('empty messages', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  subject.send('');
  subject.send(Buffer.alloc(0));
  const inflate = stream(zlib.createInflateRaw());
  for (const opcode of [OPCODE.text, OPCODE.binary]) {
    const frame = await peer.next();
    assert.equal(frame.opcode, opcode);
    assert.equal((await inflate.write(Buffer.concat([frame.payload, TAIL]))).length, 0);
  }
  const log = record(subject, ['message']);
  peer.write(peer.text([0], { rsv: 4 }), peer.binary([0], { rsv: 4 }), peer.text(''));
  await until(() => log.length === 3);
  assert.deepEqual(log.map(([, data]) => data.length), [0, 0, 0]);
});

testRoles('a Blob is compressed', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  subject.send(new Blob([TEXT]));
  subject.send('after');
  const inflate = stream(zlib.createInflateRaw());
  const got = [];
  for (let i = 0; i < 2; i++) {
    const { payload, rsv } = await peer.next();
    assert.equal(rsv, 4);
    got.push((await inflate.write(Buffer.concat([payload, TAIL]))).toString());
  }
  assert.deepEqual(got, [TEXT, 'after']);
});

testRoles('what comes compressed', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  const log = record(subject, ['message', 'ping']);
  const whole = deflated(TEXT);
  peer.write(
    peer.text(whole, { rsv: 4 }),
    peer.binary(whole.subarray(0, 1), { rsv: 4, fin: false }),
    peer.continuation(whole.subarray(1, 20), { fin: false }),
    peer.ping('between'),
    peer.continuation(whole.subarray(20)),
    peer.text('plain'),
    // RFC 7692, sections 7.2.3.3 to 7.2.3.5: blocks that are not compressed, and several.
    peer.text([0x00, 0x05, 0x00, 0xfa, 0xff, 0x48, 0x65, 0x6c, 0x6c, 0x6f, 0x00], { rsv: 4 }),
    peer.text([0xf2, 0x48, 0x05, 0x00, 0x00, 0x00, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0x00], { rsv: 4 }),
  );
  await until(() => log.length === 6);
  assert.deepEqual(log.map(([name, data, isBinary]) => [name, data.toString(), isBinary]), [
    ['message', TEXT, false], ['ping', 'between', undefined], ['message', TEXT, true], ['message', 'plain', false],
    ['message', 'Hello', false], ['message', 'Hello', false],
  ]);
});

testRoles('what comes refers to what came', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  const log = record(subject, ['message']);
  const deflate = stream(zlib.createDeflateRaw());
  const sent = Array.from({ length: 20 }, (_, i) => `${TEXT.slice(0, 500 + i)} ${i}`);
  for (const text of sent) {
    const out = await deflate.write(text);
    peer.write(peer.text(out.subarray(0, out.length - 4), { rsv: 4 }));
    // Not compressed, not to be referred to.
    peer.write(peer.text('plain'));
  }
  await until(() => log.length === 40);
  assert.deepEqual(log.filter((_, i) => i % 2 === 0).map(([, data]) => data.toString()), sent);
});

testRoles('a reference to what is not there any more', async (t, role) => {
  const { subject, peer } = await compressing(t, role, { perMessageDeflate: NONE, extensions: BOTH });
  const deflate = stream(zlib.createDeflateRaw());
  const log = record(subject);
  for (let i = 0; i < 2; i++) {
    const out = await deflate.write('the quick brown fox jumps over the lazy dog');
    peer.write(peer.text(out.subarray(0, out.length - 4), { rsv: 4 }));
  }
  assert.equal((await peer.nextClose()).code, 1007);
  peer.socket.end();
  await next(subject, 'close');
  assert.deepEqual(log.map(([name]) => name), ['message', 'error', 'close']);
});

/** What breaks a rule or a limit. */
const VIOLATIONS = [
  ['damaged data', (peer) => peer.text([0x07, 0xff, 0xff], { rsv: 4 }), Error, 'Z_DATA_ERROR', undefined, 1007],
  ['text that is no UTF-8', (peer) => peer.text(deflated(Buffer.from([0xce, 0xff])), { rsv: 4 }), Error,
    'WS_ERR_INVALID_UTF8', 'Invalid WebSocket frame: invalid UTF-8 sequence', 1007],
  ['RSV1 of a continuation',
    (peer) => Buffer.concat([
      peer.text(deflated('x').subarray(0, 1), { rsv: 4, fin: false }), peer.continuation(deflated('x').subarray(1), { rsv: 4 }),
    ]),
    RangeError, 'WS_ERR_UNEXPECTED_RSV_1', 'Invalid WebSocket frame: RSV1 must be clear', 1002],
  ['RSV1 of a ping', (peer) => peer.ping('x', { rsv: 4 }), RangeError, 'WS_ERR_UNEXPECTED_RSV_1',
    'Invalid WebSocket frame: RSV1 must be clear', 1002],
  ['RSV2', (peer) => peer.text('x', { rsv: 6 }), RangeError, 'WS_ERR_UNEXPECTED_RSV_2_3',
    'Invalid WebSocket frame: RSV2 and RSV3 must be clear', 1002],
  ['a compressed message above maxPayload', (peer) => peer.binary(deflated(Buffer.alloc(1001)), { rsv: 4 }), RangeError,
    'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', 'Max payload size exceeded', 1009],
  ['a bomb', (peer) => peer.binary(deflated(Buffer.alloc(64 << 20)), { rsv: 4 }), RangeError,
    'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', 'Max payload size exceeded', 1009],
  ['compressed fragments above maxPayload',
    (peer) => {
      const whole = deflated(Buffer.alloc(1001, 'ab'));
      return Buffer.concat([
        peer.binary(whole.subarray(0, 5), { rsv: 4, fin: false }), peer.continuation(whole.subarray(5)),
      ]);
    },
    RangeError, 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', 'Max payload size exceeded', 1009],
];

for (const [name, bytes, Type, code, message, close] of VIOLATIONS) {
  testRoles(name, async (t, role) => {
    const { subject, peer } = await compressing(t, role, { maxPayload: 1000 });
    const log = record(subject);
    peer.write(peer.text(deflated('good'), { rsv: 4 }), bytes(peer), peer.text('never seen'));
    assert.equal((await peer.nextClose()).code, close);
    peer.socket.end();
    await next(subject, 'close');
    await turn();
    assert.deepEqual(log.map(([event]) => event), ['message', 'error', 'close']);
    const [, error] = log[1];
    assert.deepEqual([error.constructor, error.code], [Type, code]);
    if (message !== undefined) assert.equal(error.message, message);
    if (code === 'Z_DATA_ERROR') assert.equal(error.errno, -3);
  });
}

testRoles('maxPayload counts what a message becomes', async (t, role) => {
  const { subject, peer } = await compressing(t, role, { maxPayload: 1000 });
  const log = record(subject);
  peer.write(
    peer.binary(deflated(Buffer.alloc(999)), { rsv: 4 }), peer.binary(deflated(Buffer.alloc(1000)), { rsv: 4 }),
  );
  await until(() => log.length === 2);
  assert.deepEqual(log.map(([name, data]) => [name, data.length]), [['message', 999], ['message', 1000]]);
});

testRoles('callbacks come in order, when everything before is written', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  const done = [];
  for (let i = 0; i < 20; i++) {
    const data = Buffer.alloc(1 + i * 5000, i);
    subject.send(data, { compress: i % 3 !== 0 }, (error) => done.push([i, error ?? null]));
  }
  await until(() => done.length === 20);
  assert.deepEqual(done, Array.from({ length: 20 }, (_, i) => [i, null]));
  assert.equal(subject.bufferedAmount, 0);
  for (let i = 0; i < 20; i++) assert.notEqual(await peer.next(), null);
});

testRoles('callbacks wait while the peer does not read', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  peer.socket.pause();
  const data = Buffer.alloc(1 << 20);
  for (let i = 0; i < data.length; i += 4) data.writeUInt32LE((i * 2654435761) >>> 0, i);
  let done = 0;
  for (let i = 0; i < 16; i++) {
    subject.send(data, { compress: false });
    subject.send('a'.repeat(100_000), { compress: true }, () => { done += 1; });
  }
  await new Promise((resolve) => setTimeout(resolve, 200));
  assert.ok(done < 16, `${done} are called`);
  assert.ok(subject.bufferedAmount > 1 << 20);
  peer.socket.resume();
  await until(() => done === 16 && subject.bufferedAmount === 0);
  for (let i = 0; i < 32; i++) assert.equal((await peer.next()).rsv, i % 2 === 0 ? 0 : 4);
});

testRoles('every callback is called when the connection ends', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  peer.socket.pause();
  let called = 0;
  for (let i = 0; i < 50; i++) subject.send(Buffer.alloc(200_000, i), () => { called += 1; });
  subject.terminate();
  await next(subject, 'close');
  await until(() => called === 50);
});

testRoles('close after compressed messages', async (t, role) => {
  const { subject, peer } = await compressing(t, role);
  for (let i = 0; i < 5; i++) subject.send(TEXT);
  subject.close(1000, 'all sent');
  for (let i = 0; i < 5; i++) assert.equal((await peer.next()).opcode, OPCODE.text);
  assert.deepEqual(await peer.nextClose(), { code: 1000, reason: 'all sent' });
});

/** Many messages there and back between this package and the other, or itself. */
async function echoes(client, server) {
  server.on('message', (data, isBinary) => server.send(data, { binary: isBinary }));
  const got = [];
  client.on('message', (data, isBinary) => got.push(isBinary ? data : data.toString()));
  const sent = [];
  for (let i = 0; i < 60; i++) {
    const size = (i * i * 37) % 40_000;
    sent.push(i % 2 === 0 ? `${i} `.repeat(size / 3) : Buffer.alloc(size, `${i} is the number`));
  }
  for (const [i, data] of sent.entries()) client.send(data, { compress: i % 7 !== 0 });
  await until(() => got.length === sent.length);
  assert.deepEqual(got, sent);
}

const WINDOWS = [9, 12, 15].flatMap((bits) => [true, false].map((none) => ({
  serverMaxWindowBits: bits, clientMaxWindowBits: bits, serverNoContextTakeover: none, clientNoContextTakeover: none,
  threshold: 0,
})));

for (const perMessageDeflate of WINDOWS) {
  const { serverMaxWindowBits: bits, serverNoContextTakeover: none } = perMessageDeflate;
  const name = `windows of ${bits} bits, ${none ? 'without' : 'with'} context takeover`;

  test(`${name}: with itself`, async (t) => {
    const { client, serverSide } = await pair(t, { server: { perMessageDeflate }, client: { perMessageDeflate } });
    assert.equal(client.extensions, 'permessage-deflate');
    await echoes(client, serverSide);
  });

  test(`${name}: with a server of ws`, async (t) => {
    const server = await startPeerServer(t, { perMessageDeflate });
    const connected = next(server, 'connection');
    const client = startClient(t, server.url, { perMessageDeflate });
    await once(client, 'open');
    assert.equal(client.extensions, 'permessage-deflate');
    await echoes(client, (await connected)[0]);
  });

  test(`${name}: with a client of ws`, async (t) => {
    const server = await startServer(t, { perMessageDeflate });
    const connected = next(server, 'connection');
    const client = startPeerClient(t, server.url, { perMessageDeflate });
    await once(client, 'open');
    assert.equal(client.extensions, 'permessage-deflate');
    await echoes(client, (await connected)[0]);
  });
}
