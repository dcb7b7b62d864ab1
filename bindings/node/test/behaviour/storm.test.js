'use strict';
// Random calls inside of random listeners. What has to hold whatever happens: messages in order, none
// twice, each connection ends once, each callback is called once.

const assert = require('node:assert/strict');
const { WebSocket, next, once, startServer, test, turn, until } = require('../support');

/** Numbers that a seed determines (mulberry32). */
function random(seed) {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let value = Math.imul(state ^ (state >>> 15), 1 | state);
    value = (value + Math.imul(value ^ (value >>> 7), 61 | value)) ^ value;
    return ((value ^ (value >>> 14)) >>> 0) % below;
  };
}

const CLIENTS = 40;
const STEPS = 12_000;

for (const seed of [1, 2, 3, 4, 5, 6]) {
  test(`seed ${seed}`, async (t) => {
    const pick = random(seed);
    const wrong = [];
    const all = [];
    let budget = STEPS;
    let callbacks = 0;
    let called = 0;
    const server = await startServer(t);

    function act() {
      if (budget-- <= 0) return;
      const end = all[pick(all.length)];
      const { socket } = end;
      if (socket.readyState === WebSocket.CONNECTING) return;
      const choice = pick(100);
      if (choice < 60) {
        const size = pick(20) === 0 ? pick(200_000) : pick(300);
        const payload = Buffer.alloc(4 + size, end.sent);
        payload.writeUInt32BE(end.sent);
        if (socket.readyState === WebSocket.OPEN) end.sent += 1;
        let calls = 0;
        callbacks += 1;
        socket.send(payload, () => {
          calls += 1;
          called += 1;
          if (calls > 1) wrong.push('a callback was called twice');
          if (pick(4) === 0) act();
        });
      } else if (choice < 75) {
        socket.ping(String(choice));
      } else if (choice < 83) {
        socket.pause();
        setTimeout(() => socket.resume(), pick(5));
      } else if (choice < 90) {
        socket.resume();
      } else if (choice < 91) {
        socket.close(1000 + pick(4), 'x'.repeat(pick(50)));
      } else if (choice < 92) {
        if (pick(3) === 0) socket.terminate();
      } else {
        setImmediate(act);
        process.nextTick(act);
        Promise.resolve().then(act);
      }
    }

    function watch(socket) {
      const end = { socket, sent: 0, received: 0, closes: 0 };
      all.push(end);
      const check = (name) => {
        if (end.closes > 0) wrong.push(`${name} after close`);
        if (socket.readyState === WebSocket.CONNECTING) wrong.push(`${name} while connecting`);
      };
      socket.on('message', (data) => {
        check('message');
        const number = data.readUInt32BE();
        if (number !== end.received) wrong.push(`message ${number} instead of ${end.received}`);
        if (data.length > 4 && data.at(-1) !== (number & 0xff)) wrong.push('a message with another\'s payload');
        end.received += 1;
        act();
        if (pick(3) === 0) act();
      });
      socket.on('ping', () => { check('ping'); act(); });
      socket.on('pong', () => { check('pong'); act(); });
      socket.on('error', (error) => wrong.push(error.message));
      socket.on('close', () => {
        check('close');
        end.closes += 1;
        act();
      });
      return end;
    }

    server.on('connection', (socket) => { watch(socket); act(); });
    const clients = [];
    for (let i = 0; i < CLIENTS; i++) {
      const client = new WebSocket(server.url, { perMessageDeflate: false });
      clients.push(client);
      watch(client);
      await once(client, 'open');
      act();
    }
    const end = Date.now() + 10_000;
    while (budget > 0 && Date.now() < end && all.some(({ socket }) => socket.readyState === WebSocket.OPEN)) {
      act();
      await turn();
    }
    budget = 0;
    for (const { socket } of all) socket.resume();
    for (const client of clients) client.close();
    await until(() => all.every(({ socket }) => socket.readyState === WebSocket.CLOSED || socket.isPaused === false));
    const closed = next(server, 'close');
    server.close();
    // One that closes while its peer has paused waits for it; such a pair is ended by force.
    await Promise.race([closed, new Promise((resolve) => setTimeout(resolve, 2000).unref())]);
    for (const { socket } of all) socket.terminate();
    await closed;
    await until(() => all.every(({ closes }) => closes === 1));
    await until(() => called === callbacks);
    await turn();
    assert.deepEqual(wrong, []);
    assert.ok(all.every(({ closes }) => closes === 1));
    assert.equal(server.clients.size, 0);
    assert.ok(all.some(({ received }) => received > 5), 'something has happened');
  });
}
