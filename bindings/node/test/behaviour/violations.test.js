'use strict';
// What breaks RFC 6455 or a limit: the error, its code, the Close frame for the peer, and the end.

const assert = require('node:assert/strict');
const { OPCODE, WebSocket, next, record, test, testRoles, turn, until, withPeer } = require('../support');

const INVALID = 'Invalid WebSocket frame: ';

/** `bytes` gets the peer; `only` is the role of the package under test, both without it. */
const violations = [
  {
    name: 'RSV2', bytes: (peer) => peer.text('x', { rsv: 2 }),
    code: 'WS_ERR_UNEXPECTED_RSV_2_3', message: `${INVALID}RSV2 and RSV3 must be clear`, close: 1002,
  },
  {
    name: 'RSV3', bytes: (peer) => peer.ping('x', { rsv: 1 }),
    code: 'WS_ERR_UNEXPECTED_RSV_2_3', message: `${INVALID}RSV2 and RSV3 must be clear`, close: 1002,
  },
  {
    name: 'RSV1 of a message', bytes: (peer) => peer.text('x', { rsv: 4 }),
    code: 'WS_ERR_UNEXPECTED_RSV_1', message: `${INVALID}RSV1 must be clear`, close: 1002,
  },
  {
    name: 'RSV1 of a continuation',
    bytes: (peer) => Buffer.concat([peer.text('x', { fin: false }), peer.continuation('y', { rsv: 4 })]),
    code: 'WS_ERR_UNEXPECTED_RSV_1', message: `${INVALID}RSV1 must be clear`, close: 1002,
  },
  {
    name: 'RSV1 of a ping', bytes: (peer) => peer.ping('x', { rsv: 4 }),
    code: 'WS_ERR_UNEXPECTED_RSV_1', message: `${INVALID}RSV1 must be clear`, close: 1002,
  },
  {
    name: 'a continuation of nothing', bytes: (peer) => peer.continuation('x'),
    code: 'WS_ERR_INVALID_OPCODE', message: `${INVALID}invalid opcode 0`, close: 1002,
  },
  {
    name: 'a text frame inside of a message',
    bytes: (peer) => Buffer.concat([peer.text('x', { fin: false }), peer.text('y')]),
    code: 'WS_ERR_INVALID_OPCODE', message: `${INVALID}invalid opcode 1`, close: 1002,
  },
  {
    name: 'a binary frame inside of a message',
    bytes: (peer) => Buffer.concat([peer.binary('x', { fin: false }), peer.binary('y', { fin: false })]),
    code: 'WS_ERR_INVALID_OPCODE', message: `${INVALID}invalid opcode 2`, close: 1002,
  },
  ...[3, 7, 11, 15].map((opcode) => ({
    name: `opcode ${opcode}`, bytes: (peer) => peer.frame(opcode, ''),
    code: 'WS_ERR_INVALID_OPCODE', message: `${INVALID}invalid opcode ${opcode}`, close: 1002,
  })),
  ...['ping', 'pong', 'close'].map((kind) => ({
    name: `a ${kind} in fragments`, bytes: (peer) => peer.frame(OPCODE[kind], '', { fin: false }),
    code: 'WS_ERR_EXPECTED_FIN', message: `${INVALID}FIN must be set`, close: 1002,
  })),
  {
    name: 'a frame without a mask', bytes: (peer) => peer.text('x', { masked: false }), only: 'server',
    code: 'WS_ERR_EXPECTED_MASK', message: `${INVALID}MASK must be set`, close: 1002,
  },
  {
    name: 'a frame with a mask', bytes: (peer) => peer.text('x', { masked: true }), only: 'client',
    code: 'WS_ERR_UNEXPECTED_MASK', message: `${INVALID}MASK must be clear`, close: 1002,
  },
  {
    name: 'a ping of 126 octets', bytes: (peer) => peer.ping(Buffer.alloc(126)),
    code: 'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH', message: `${INVALID}invalid payload length 126`, close: 1002,
  },
  {
    name: 'a pong of 65,536 octets', bytes: (peer) => peer.pong(Buffer.alloc(65536)),
    code: 'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH', message: `${INVALID}invalid payload length 127`, close: 1002,
  },
  {
    name: 'a Close of one octet', bytes: (peer) => peer.frame(OPCODE.close, [3]),
    code: 'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH', message: `${INVALID}invalid payload length 1`, close: 1002,
  },
  ...[0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000].map((code) => ({
    name: `close code ${code}`, bytes: (peer) => peer.close(code),
    code: 'WS_ERR_INVALID_CLOSE_CODE', message: `${INVALID}invalid status code ${code}`, close: 1002,
  })),
  {
    name: 'text that is no UTF-8', bytes: (peer) => peer.text([0xce, 0xba, 0xe1, 0xbd, 0xff]), class: Error,
    code: 'WS_ERR_INVALID_UTF8', message: `${INVALID}invalid UTF-8 sequence`, close: 1007,
  },
  {
    name: 'a long text that is no UTF-8', class: Error,
    bytes: (peer) => peer.text(Buffer.concat([Buffer.alloc(70_000, 'a'), Buffer.from([0xc0, 0x80])])),
    code: 'WS_ERR_INVALID_UTF8', message: `${INVALID}invalid UTF-8 sequence`, close: 1007,
  },
  {
    name: 'a text that ends inside of a character', class: Error,
    bytes: (peer) => Buffer.concat([peer.text('x', { fin: false }), peer.continuation([0xe2, 0x82])]),
    code: 'WS_ERR_INVALID_UTF8', message: `${INVALID}invalid UTF-8 sequence`, close: 1007,
  },
  {
    name: 'a text with a surrogate in fragments', class: Error,
    bytes: (peer) => Buffer.concat([peer.text([0xed], { fin: false }), peer.continuation([0xa0, 0x80])]),
    code: 'WS_ERR_INVALID_UTF8', message: `${INVALID}invalid UTF-8 sequence`, close: 1007,
  },
  {
    name: 'a reason that is no UTF-8', class: Error,
    bytes: (peer) => peer.close(1000, Buffer.from([0x61, 0xff])),
    code: 'WS_ERR_INVALID_UTF8', message: `${INVALID}invalid UTF-8 sequence`, close: 1007,
  },
  {
    name: 'a message above maxPayload', options: { maxPayload: 20 }, bytes: (peer) => peer.binary(Buffer.alloc(21)),
    code: 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', message: 'Max payload size exceeded', close: 1009,
  },
  {
    name: 'a header that declares more than maxPayload', options: { maxPayload: 20 },
    bytes: (peer) => peer.binary('', { length: 70_000 }),
    code: 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', message: 'Max payload size exceeded', close: 1009,
  },
  {
    name: 'fragments above maxPayload', options: { maxPayload: 20 },
    bytes: (peer) => Buffer.concat([peer.text('x'.repeat(20), { fin: false }), peer.continuation('y')]),
    code: 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', message: 'Max payload size exceeded', close: 1009,
  },
  {
    name: 'a header that declares more than the default of 100 MiB',
    bytes: (peer) => peer.binary('', { length: 100 * 1024 * 1024 + 1 }),
    code: 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH', message: 'Max payload size exceeded', close: 1009,
  },
  {
    name: 'a length of 2^53', bytes: (peer) => peer.binary('', { length: 2n ** 53n }),
    code: 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH',
    message: 'Unsupported WebSocket frame: payload length > 2^53 - 1', close: 1009,
  },
  {
    name: 'more fragments than maxFragments', options: { maxFragments: 3 },
    bytes: (peer) => Buffer.concat([
      peer.text('1', { fin: false }), peer.continuation('2', { fin: false }),
      peer.continuation('3', { fin: false }), peer.continuation('4'),
    ]),
    code: 'WS_ERR_TOO_MANY_BUFFERED_PARTS', message: 'Too many message fragments', close: 1008,
  },
];

const CODES = [
  'WS_ERR_EXPECTED_FIN', 'WS_ERR_EXPECTED_MASK', 'WS_ERR_INVALID_CLOSE_CODE',
  'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH', 'WS_ERR_INVALID_OPCODE', 'WS_ERR_INVALID_UTF8',
  'WS_ERR_TOO_MANY_BUFFERED_PARTS', 'WS_ERR_UNEXPECTED_MASK', 'WS_ERR_UNEXPECTED_RSV_1',
  'WS_ERR_UNEXPECTED_RSV_2_3', 'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH', 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH',
];

test('every code that there is has a violation below', () => {
  assert.deepEqual([...new Set(violations.map(({ code }) => code))].sort(), CODES);
});

/** Sends a good message, the violation, and more. */
async function violates(t, role, violation) {
  const { subject, peer } = await withPeer(t, role, { options: violation.options });
  const log = record(subject);
  const states = [];
  subject.on('error', () => states.push(subject.readyState));
  const bytes = violation.bytes(peer);
  peer.write(peer.text('good'), bytes, peer.text('never seen'));
  assert.equal((await peer.nextClose())?.code, violation.close);
  peer.write(peer.close(violation.close));
  peer.socket.end();
  await next(subject, 'close');
  await turn();
  assert.deepEqual(log.map(([name]) => name), ['message', 'error', 'close']);
  const [, [, error], [, code, reason]] = log;
  assert.deepEqual([error.code, error.constructor], [violation.code, violation.class ?? RangeError]);
  assert.equal(code, 1006);
  assert.deepEqual(reason, Buffer.alloc(0));
  assert.deepEqual(states, [WebSocket.CLOSING]);
}

for (const violation of violations) {
  for (const role of violation.only ? [violation.only] : ['server', 'client']) {
    test(`${violation.name} (${role})`, (t) => violates(t, role, violation));
    test(`${violation.name}, in words (${role})`, async (t) => {
      const { subject, peer } = await withPeer(t, role, { options: violation.options });
      const failed = next(subject, 'error');
      peer.write(violation.bytes(peer));
      const [{ message }] = await failed;
      assert.equal(message, violation.message);
    });
  }
}

testRoles('an error is told when the peer does not answer the Close', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, { options: { closeTimeout: 50 } });
  const log = record(subject);
  peer.write(peer.text('x', { rsv: 2 }));
  await next(subject, 'close');
  assert.deepEqual(log.map(([name]) => name), ['error', 'close']);
});

testRoles('messages at the limit of maxPayload', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, { options: { maxPayload: 20 } });
  const log = record(subject);
  peer.write(
    peer.text('x'.repeat(20)), peer.text('y'.repeat(10), { fin: false }), peer.continuation('z'.repeat(10)),
    peer.ping('p'.repeat(21)),
  );
  await until(() => log.length === 3);
  assert.deepEqual(log.map(([name]) => name), ['message', 'message', 'ping']);
});

testRoles('maxPayload 0 is no limit', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, { options: { maxPayload: 0 } });
  const got = next(subject, 'message');
  peer.write(peer.binary(Buffer.alloc(1 << 20)));
  assert.equal((await got)[0].length, 1 << 20);
});

testRoles('as many fragments as maxFragments', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, { options: { maxFragments: 3 } });
  const log = record(subject);
  for (let i = 0; i < 2; i++) {
    peer.write(
      peer.text('1', { fin: false }), peer.continuation('2', { fin: false }), peer.continuation('3'),
    );
  }
  await until(() => log.length === 2);
  assert.deepEqual(log.map(([, data]) => data.toString()), ['123', '123']);
});
