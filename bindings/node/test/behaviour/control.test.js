'use strict';
// Pings and pongs.

const assert = require('node:assert/strict');
const {
  OPCODE, next, pair, record, test, testRoles, until, withPeer,
} = require('../support');

for (const method of ['ping', 'pong']) {
  test(`${method}: what arrives for each type of data`, async (t) => {
    const { client, serverSide } = await pair(t);
    const cases = [
      [undefined, ''], [null, ''], ['text', 'text'], [0, '0'], [12, '12'], [Buffer.from('buffer'), 'buffer'],
      [Uint8Array.from([1, 2]), '\u0001\u0002'], [new Uint8Array([1]).buffer, '\u0001'], ['\u20ac', '\u20ac'],
      [[1, 2], '\u0001\u0002'],
    ];
    for (const [sender, receiver] of [[client, serverSide], [serverSide, client]]) {
      const log = record(receiver, [method]);
      for (const [data] of cases) sender[method](data);
      await until(() => log.length === cases.length);
      assert.deepEqual(log.map(([, data]) => data.toString()), cases.map(([, expected]) => expected));
      assert.ok(log.every(([, data, ...more]) => Buffer.isBuffer(data) && more.length === 0));
    }
  });

  test(`${method}: the places of its arguments`, async (t) => {
    const { client, serverSide } = await pair(t);
    const log = record(serverSide, [method]);
    const called = [];
    client[method]((error) => called.push(['alone', error == null]));
    client[method]('a', (error) => called.push(['second', error == null]));
    client[method]('b', true, (error) => called.push(['third', error == null]));
    client[method]('c', undefined, (error) => called.push(['fourth', error == null]));
    client[method]();
    assert.deepEqual(called, []);
    await until(() => log.length === 5 && called.length === 4);
    assert.deepEqual(log.map(([, data]) => data.toString()), ['', 'a', 'b', 'c', '']);
    assert.deepEqual(called, [['alone', true], ['second', true], ['third', true], ['fourth', true]]);
  });

  test(`${method}: at most 125 octets`, async (t) => {
    const { client, serverSide } = await pair(t);
    for (const data of [Buffer.alloc(126), 'x'.repeat(126), '\u20ac'.repeat(42)]) {
      assert.throws(() => client[method](data), {
        name: 'RangeError',
        message: 'The data size must not be greater than 125 bytes',
      });
    }
    client[method](Buffer.alloc(125, 'x'));
    const [data] = await next(serverSide, method);
    assert.equal(data.toString(), 'x'.repeat(125));
  });

  testRoles(`${method}: its frame`, async (t, role) => {
    const { subject, peer } = await withPeer(t, role);
    subject[method]('data');
    const { fin, rsv, opcode, masked, payload } = await peer.next();
    assert.deepEqual(
      [fin, rsv, opcode, masked, payload.toString()],
      [true, 0, OPCODE[method], role === 'client', 'data'],
    );
  });

  testRoles(`${method} has its event`, async (t, role) => {
    const { subject, peer } = await withPeer(t, role);
    const log = record(subject);
    peer.write(peer[method]('one'), peer[method](''), peer.text('end'));
    await until(() => log.length === 3);
    assert.deepEqual(log, [
      [method, Buffer.from('one')], [method, Buffer.alloc(0)], ['message', Buffer.from('end'), false],
    ]);
  });
}

testRoles('a ping is answered', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  peer.write(peer.ping('hello'));
  const { opcode, payload, masked } = await peer.next();
  assert.deepEqual([opcode, payload.toString(), masked], [OPCODE.pong, 'hello', role === 'client']);
  assert.equal(subject.readyState, 1);
});

testRoles('the answer goes out before what a listener of ping sends', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.on('ping', () => subject.send('pinged'));
  peer.write(peer.ping('hello'));
  assert.equal((await peer.next()).opcode, OPCODE.pong);
  assert.equal((await peer.next()).opcode, OPCODE.text);
});

testRoles('autoPong: false leaves the answer to the user', async (t, role) => {
  const { subject, peer } = await withPeer(t, role, { options: { autoPong: false } });
  subject.once('ping', () => subject.send('no pong'));
  peer.write(peer.ping('hello'));
  assert.equal((await peer.next()).opcode, OPCODE.text);
  subject.once('ping', (data) => subject.pong(data));
  peer.write(peer.ping('again'));
  const { opcode, payload } = await peer.next();
  assert.deepEqual([opcode, payload.toString()], [OPCODE.pong, 'again']);
});

testRoles('a pong that nobody asked for', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  const log = record(subject);
  peer.write(peer.pong('why not'), peer.text('x'));
  await until(() => log.length === 2);
  assert.deepEqual(log.map(([name]) => name), ['pong', 'message']);
});

testRoles('a round trip of ping and pong', async (t, role) => {
  const { client, serverSide } = await pair(t);
  const [near, far] = role === 'client' ? [client, serverSide] : [serverSide, client];
  const log = [];
  far.on('ping', (data) => log.push(['ping', data.toString()]));
  near.on('pong', (data) => log.push(['pong', data.toString()]));
  near.ping('there and back');
  await next(near, 'pong');
  assert.deepEqual(log, [['ping', 'there and back'], ['pong', 'there and back']]);
});
