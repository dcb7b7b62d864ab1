'use strict';
// Messages in parts, as they come: the option `stream` and the event 'chunk'.

const assert = require('node:assert/strict');
const zlib = require('node:zlib');
const { next, once, pair, record, startServer, test, testRoles, turn, until, withPeer } = require('../support');
const { program } = require('../support/child');

const STREAM = { options: { stream: true } };

/** Puts chunks together again, and checks that their marks fit. */
function collect(socket) {
  const messages = [];
  let open = null;
  socket.on('chunk', (data, isBinary, { first, last }) => {
    assert.ok(Buffer.isBuffer(data));
    assert.equal(first, open === null);
    assert.ok(last || data.length > 0, 'only the last may be empty');
    open ??= { isBinary, parts: [] };
    assert.equal(isBinary, open.isBinary);
    if (!isBinary) assert.equal(data.toString().includes('\ufffd'), false, 'text is cut between characters');
    open.parts.push(data);
    if (last) {
      messages.push([Buffer.concat(open.parts), isBinary, open.parts.length]);
      open = null;
    }
  });
  return messages;
}

testRoles('whole messages are one chunk', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, STREAM);
  const log = record(subject, ['chunk', 'message']);
  peer.write(peer.text('text'), peer.binary('bytes'), peer.text(''));
  await until(() => log.length === 3);
  const whole = { first: true, last: true };
  assert.deepEqual(log, [
    ['chunk', Buffer.from('text'), false, whole], ['chunk', Buffer.from('bytes'), true, whole],
    ['chunk', Buffer.alloc(0), false, whole],
  ]);
});

testRoles('a chunk comes before its message is complete', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, STREAM);
  const messages = collect(subject);
  const first = next(subject, 'chunk');
  peer.write(peer.text('the beginning, ', { fin: false }));
  const [data, isBinary, part] = await first;
  assert.deepEqual([data.toString(), isBinary, part], ['the beginning, ', false, { first: true, last: false }]);
  const second = next(subject, 'chunk');
  peer.write(peer.continuation('the middle, ', { fin: false }));
  assert.deepEqual((await second)[2], { first: false, last: false });
  assert.equal(messages.length, 0);
  peer.write(peer.ping('between'), peer.continuation('the end'));
  await until(() => messages.length === 1);
  assert.equal(messages[0][0].toString(), 'the beginning, the middle, the end');
});

testRoles('text that is cut within a character', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, STREAM);
  const messages = collect(subject);
  const bytes = Buffer.from('\u{1f600}\u20ac\u{1f600}\u00e4');
  const frames = [...bytes].map((octet, i) => (
    i === 0 ? peer.text([octet], { fin: false }) : peer.continuation([octet], { fin: i === bytes.length - 1 })
  ));
  for (const frame of frames) {
    peer.write(frame);
    await turn();
  }
  await until(() => messages.length === 1);
  assert.ok(messages[0][0].equals(bytes));
});

testRoles('large messages come in many chunks, which are what was sent', async (t, role) => {
  for (const perMessageDeflate of [false, true]) {
    const { client, serverSide } = await pair(t, {
      server: { stream: true, perMessageDeflate }, client: { stream: true, perMessageDeflate },
    });
    const [subject, far] = role === 'client' ? [client, serverSide] : [serverSide, client];
    const messages = collect(subject);
    const data = Buffer.alloc(8 << 20);
    for (let i = 0; i < data.length; i += 8) data.writeUInt32LE((i * 2654435761) >>> 0, i);
    far.send(data);
    far.send('small');
    await until(() => messages.length === 2);
    assert.ok(messages[0][0].equals(data));
    assert.ok(messages[0][2] > 10, `${messages[0][2]} chunks`);
    assert.equal(messages[1][0].toString(), 'small');
  }
});

testRoles('pause and resume amid a message', async (t, role) => {
  const { client, serverSide } = await pair(t, { server: { stream: true }, client: { stream: true } });
  const [subject, far] = role === 'client' ? [client, serverSide] : [serverSide, client];
  const messages = collect(subject);
  let chunks = 0;
  let isPaused = false;
  subject.on('chunk', () => {
    assert.equal(isPaused, false, 'nothing comes while it is paused');
    chunks += 1;
    if (chunks % 5 !== 0) return;
    isPaused = true;
    subject.pause();
    setTimeout(() => {
      isPaused = false;
      subject.resume();
    }, 2);
  });
  far.send(Buffer.alloc(3 << 20, 'abc'));
  await until(() => messages.length === 1);
  assert.ok(messages[0][0].equals(Buffer.alloc(3 << 20, 'abc')));
});

testRoles('the limits are those of whole messages', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, { options: { stream: true, maxPayload: 20 } });
  const failed = next(subject, 'error');
  const log = record(subject, ['chunk']);
  peer.write(peer.text('x'.repeat(20), { fin: false }), peer.continuation('y'));
  assert.equal((await failed)[0].code, 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH');
  assert.equal((await peer.nextClose()).code, 1009);
  assert.deepEqual(log.map(([, data, , part]) => [data.toString(), part]), [['x'.repeat(20), { first: true, last: false }]]);
});

testRoles('text that is no UTF-8', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, STREAM);
  const failed = next(subject, 'error');
  peer.write(peer.text('good', { fin: false }), peer.continuation([0xff]));
  assert.equal((await failed)[0].code, 'WS_ERR_INVALID_UTF8');
});

testRoles('compressed messages in chunks: a bomb stays small until the limit', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, {
    options: { stream: true, perMessageDeflate: true, maxPayload: 50 << 20 }, extensions: 'permessage-deflate',
  });
  let bytes = 0;
  let largest = 0;
  subject.on('chunk', (data) => {
    bytes += data.length;
    largest = Math.max(largest, data.length);
  });
  const failed = next(subject, 'error');
  peer.write(peer.binary(zlib.deflateRawSync(Buffer.alloc(60 << 20), { finishFlush: 2 }).subarray(0, -4), { rsv: 4 }));
  assert.equal((await failed)[0].code, 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH');
  assert.ok(bytes <= 50 << 20 && bytes > 40 << 20, `${bytes}`);
  assert.ok(largest <= 256 << 10, `${largest}`);
});

test('a message that ends with the connection', async (t) => {
  const { client, serverSide } = await pair(t, { server: { stream: true } });
  const log = record(serverSide, ['chunk', 'close']);
  client.send('begun', { fin: false });
  await until(() => log.length === 1);
  client.terminate();
  await until(() => log.length === 2);
  assert.deepEqual([log[0][3], log[1][0]], [{ first: true, last: false }, 'close']);
});

test('an echo in chunks, as fragments', async (t) => {
  const server = await startServer(t, { stream: true, perMessageDeflate: true });
  server.on('connection', (socket) => {
    socket.on('chunk', (data, isBinary, { last }) => socket.send(data, { binary: isBinary, fin: last }));
  });
  const { WebSocket } = require('../support');
  const client = new WebSocket(server.url);
  t.after(() => client.terminate());
  await once(client, 'open');
  const got = [];
  client.on('message', (data, isBinary) => got.push([data, isBinary]));
  const sent = ['', 'text', 'long '.repeat(100_000), Buffer.alloc(2 << 20, 'xyz')];
  for (const data of sent) client.send(data);
  await until(() => got.length === sent.length);
  for (const [i, data] of sent.entries()) {
    assert.ok(got[i][0].equals(Buffer.from(data)));
    assert.equal(got[i][1], typeof data !== 'string');
  }
});

test('a message that is never whole needs no memory', async (t) => {
  const running = program(t, `
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1', stream: true, maxPayload: 0, maxFragments: 0 }, () => {
      const client = new WebSocket('ws://127.0.0.1:' + server.address().port, { perMessageDeflate: false });
      const part = Buffer.alloc(1 << 20);
      let left = 400;
      const more = () => {
        left -= 1;
        client.send(part, { fin: left === 0 }, left === 0 ? undefined : more);
      };
      client.on('open', more);
    });
    server.on('connection', (socket) => {
      let bytes = 0;
      let highest = 0;
      socket.on('chunk', (data, isBinary, { last }) => {
        bytes += data.length;
        if (bytes % (8 << 20) < data.length) {
          gc();
          highest = Math.max(highest, process.memoryUsage().rss);
        }
        if (!last) return;
        say([bytes, highest]);
        socket.close();
        server.close();
      });
    });
  `, { args: ['--expose-gc'] });
  const [bytes, highest] = await running.line();
  assert.equal(bytes, 400 << 20);
  assert.ok(highest < 250e6, `${highest}`);
  assert.equal((await running.exited).code, 0);
}, { timeout: 60_000 });
