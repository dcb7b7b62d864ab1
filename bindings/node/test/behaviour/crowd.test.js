'use strict';
// Many connections, and calls on one inside of the listeners of another.

const assert = require('node:assert/strict');
const {
  WebSocket, next, once, pair, rawClient, record, startClient, startServer, test, turn, until, withPeer,
} = require('../support');

/** A server with raw peers; the server's sides come in the same order. */
async function crowd(t, count) {
  const server = await startServer(t);
  const sides = [];
  const peers = [];
  for (let i = 0; i < count; i++) {
    const connected = next(server, 'connection');
    peers.push((await rawClient(t, server.port)).peer);
    sides.push((await connected)[0]);
  }
  return { server, sides, peers };
}

const calls = {
  pause: (socket) => socket.pause(),
  resume: (socket) => socket.resume(),
  'pause and resume': (socket) => { socket.pause(); socket.resume(); },
  ping: (socket) => socket.ping(),
  send: (socket) => socket.send('other'),
  'send with a callback': (socket) => socket.send('other', () => {}),
  bufferedAmount: (socket) => socket.bufferedAmount,
  close: (socket) => socket.close(),
  terminate: (socket) => socket.terminate(),
};

for (const [name, call] of Object.entries(calls)) {
  test(`${name} of one connection does not hold a message of another back`, async (t) => {
    const { sides: [first, second], peers: [, peer] } = await crowd(t, 2);
    for (const wait of [turn, () => new Promise((resolve) => process.nextTick(resolve)), async () => {}]) {
      await wait();
      call(first);
      second.send('arrives');
      assert.equal((await peer.next()).payload.toString(), 'arrives');
    }
  });
}

test('a connection that another one terminates tells nothing more than its end', async (t) => {
  const { sides, peers } = await crowd(t, 2);
  for (const side of sides) {
    const other = sides.find((each) => each !== side);
    side.on('message', () => other.terminate());
  }
  const logs = sides.map((side) => record(side));
  for (const peer of peers) peer.write(peer.text('x'));
  await until(() => logs.some((log) => log.length === 1 && log[0][0] === 'close'));
  await turn();
  const [loser, winner] = logs[0][0][0] === 'close' ? logs : [logs[1], logs[0]];
  assert.deepEqual(loser, [['close', 1006, Buffer.alloc(0)]]);
  assert.deepEqual(winner, [['message', Buffer.from('x'), false]]);
});

test('a connection that another one pauses tells nothing until it resumes', async (t) => {
  const { sides, peers } = await crowd(t, 2);
  for (const side of sides) {
    const other = sides.find((each) => each !== side);
    side.once('message', () => other.pause());
  }
  const logs = sides.map((side) => record(side, ['message']));
  for (const peer of peers) peer.write(peer.text('1'), peer.text('2'));
  await until(() => logs.some((log) => log.length === 2));
  for (let i = 0; i < 20; i++) await turn();
  assert.deepEqual(logs.map((log) => log.length).sort(), [0, 2]);
  for (const side of sides) side.resume();
  await until(() => logs.every((log) => log.length === 2));
  for (const log of logs) assert.deepEqual(log.map(([, data]) => data.toString()), ['1', '2']);
});

test('closing all clients inside of a listener of one', async (t) => {
  const { server, sides, peers } = await crowd(t, 5);
  sides[2].on('message', () => {
    for (const client of server.clients) client.close(1001, 'all of you');
  });
  peers[2].write(peers[2].text('go'));
  for (const peer of peers) {
    assert.deepEqual(await peer.nextClose(), { code: 1001, reason: 'all of you' });
    peer.write(peer.close(1001));
    peer.socket.end();
  }
  await until(() => server.clients.size === 0);
});

test('closing the server inside of a message listener', async (t) => {
  const { server, client, serverSide } = await pair(t);
  const closed = new Promise((resolve) => {
    serverSide.on('message', () => server.close(resolve));
  });
  client.send('stop');
  client.send('still heard');
  const log = record(serverSide, ['message']);
  await until(() => log.length === 2);
  client.close();
  assert.equal(await closed, undefined);
});

test('a client that is made inside of a listener', async (t) => {
  const server = await startServer(t);
  server.on('connection', (socket) => socket.send('hello'));
  const heard = new Promise((resolve) => {
    const outer = startClient(t, server.url);
    outer.on('message', () => {
      const inner = startClient(t, server.url);
      inner.on('message', (data) => resolve(data.toString()));
    });
  });
  assert.equal(await heard, 'hello');
});

test('connecting again inside of close, many times', async (t) => {
  const server = await startServer(t);
  server.on('connection', (socket) => socket.close(4000));
  let left = 100;
  await new Promise((resolve, reject) => {
    const connect = () => {
      const client = new WebSocket(server.url);
      client.on('error', reject);
      client.on('close', (code) => {
        assert.equal(code, 4000);
        left -= 1;
        if (left === 0) resolve();
        else connect();
      });
    };
    connect();
  });
});

test('five hundred at once', async (t) => {
  const server = await startServer(t);
  server.on('connection', (socket) => {
    socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
  });
  const clients = [];
  for (let i = 0; i < 500; i += 100) {
    const some = Array.from({ length: 100 }, () => startClient(t, server.url));
    clients.push(...some);
    await Promise.all(some.map((client) => once(client, 'open')));
  }
  await until(() => server.clients.size === 500);
  await Promise.all(clients.map(async (client, i) => {
    client.send(`echo ${i}`);
    assert.equal((await next(client, 'message'))[0].toString(), `echo ${i}`);
  }));
  const closed = Promise.all([...server.clients].map((client) => next(client, 'close')));
  for (const client of clients) client.close(1000);
  for (const [code] of await closed) assert.equal(code, 1000);
});

test('a flood leaves turns to others', async (t) => {
  const { subject, peer } = await withPeer(t, 'server');
  let messages = 0;
  let turns = 0;
  subject.on('message', () => { messages += 1; });
  const many = Buffer.concat(Array.from({ length: 5000 }, () => peer.binary(Buffer.alloc(500))));
  for (let i = 0; i < 20; i++) peer.socket.write(many);
  while (messages < 100_000) {
    await turn();
    turns += 1;
  }
  // 50 MB cannot come in a handful of turns unless one of them took far too much.
  assert.ok(turns > 20, `${turns} turns`);
});

test('two connections of one flood both progress', async (t) => {
  const { sides, peers } = await crowd(t, 2);
  const counts = [0, 0];
  sides.forEach((side, i) => side.on('message', () => { counts[i] += 1; }));
  const many = Buffer.concat(Array.from({ length: 20_000 }, () => peers[0].binary(Buffer.alloc(100))));
  peers[0].socket.write(many);
  peers[1].write(peers[1].text('a word in between'));
  await until(() => counts[1] === 1);
  await until(() => counts[0] === 20_000);
});
