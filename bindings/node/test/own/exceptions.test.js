'use strict';
// Listeners that throw: the error reaches `uncaughtException`, and nothing after it is lost or
// comes twice. With `ws` a listener that throws leaves the connection stuck.

const assert = require('node:assert/strict');
const { rawClient, startPeerServer, test } = require('../support');
const { program } = require('../support/child');

const SERVER = `
  process.on('uncaughtException', (error) => say('! ' + error.message));
  const server = new WebSocketServer({ port: 0, host: '127.0.0.1', ...OPTIONS }, () => say(server.address().port));
`;

function serverProgram(t, source, options = '{}') {
  return program(t, `const OPTIONS = ${options}; ${SERVER} ${source}`);
}

async function take(running, count) {
  const lines = [];
  for (let i = 0; i < count; i++) lines.push(await running.line());
  return lines;
}

test('in message: the rest of the segment comes, once', async (t) => {
  const running = serverProgram(t, `
    server.on('connection', (socket) => {
      socket.on('message', (data) => {
        say(String(data));
        if (Number(data) % 2 === 0) throw new Error('at ' + data);
      });
      socket.on('ping', (data) => { say('ping ' + data); throw new Error('at ping'); });
      socket.on('close', (code) => say(code));
    });
  `);
  const { peer } = await rawClient(t, await running.line());
  const names = ['1', '2', '3', '4', '5', '6'];
  peer.write(...names.map((name) => peer.text(name)), peer.ping('p'), peer.text('7'));
  const lines = await take(running, 12);
  assert.deepEqual(lines.filter((line) => !line.startsWith('!')), [...names, 'ping p', '7']);
  assert.deepEqual(lines.filter((line) => line.startsWith('!')), ['! at 2', '! at 4', '! at 6', '! at ping']);
  peer.write(peer.text('8'), peer.close(1000));
  assert.deepEqual((await take(running, 3)).sort(), ['! at 8', '8', 1000].sort());
});

for (const options of ['{ allowSynchronousEvents: false }', '{}']) {
  test(`in message, with a pause in each and ${options}: all come, once`, async (t) => {
    const running = serverProgram(t, `
      server.on('connection', (socket) => {
        socket.on('message', (data) => {
          socket.pause();
          setImmediate(() => socket.resume());
          say(String(data));
          throw new Error('at ' + data);
        });
        socket.on('close', (code) => say(code));
      });
    `, options);
    const { peer } = await rawClient(t, await running.line());
    peer.write(...['1', '2', '3', '4'].map((name) => peer.text(name)), peer.close(1000));
    const lines = await take(running, 9);
    assert.deepEqual(lines.filter((line) => !String(line).startsWith('!')), ['1', '2', '3', '4', 1000]);
    assert.equal(lines.filter((line) => String(line).startsWith('!')).length, 4);
  });
}

test('in message: other connections of the same turn are served', async (t) => {
  const running = serverProgram(t, `
    let total = 0;
    server.on('connection', (socket) => socket.on('message', (data) => {
      total += 1;
      if (total === 200) setImmediate(() => setImmediate(() => say(total)));
      throw new Error('each');
    }));
  `);
  const port = await running.line();
  const peers = [];
  for (let i = 0; i < 10; i++) peers.push((await rawClient(t, port)).peer);
  for (const peer of peers) peer.write(...Array.from({ length: 20 }, () => peer.text('x')));
  const lines = await take(running, 201);
  assert.equal(lines.filter((line) => line === '! each').length, 200);
  assert.ok(lines.includes(200));
});

test('in connection: it is open all the same, and others follow', async (t) => {
  const running = serverProgram(t, `
    server.on('connection', (socket, { url }) => {
      socket.on('message', (data) => socket.send(data));
      throw new Error('connection ' + url);
    });
  `);
  const port = await running.line();
  for (const path of ['/1', '/2']) {
    const { peer } = await rawClient(t, port, { path });
    assert.equal(await running.line(), `! connection ${path}`);
    peer.write(peer.text('echo'));
    assert.equal((await peer.next()).payload.toString(), 'echo');
  }
});

test('in close: it is no member of clients any more, and the server can close', async (t) => {
  const running = serverProgram(t, `
    server.on('connection', (socket) => socket.on('close', () => {
      setImmediate(() => { say(server.clients.size); server.close(() => say('closed')); });
      throw new Error('in close');
    }));
  `);
  const { peer } = await rawClient(t, await running.line());
  peer.socket.end();
  assert.deepEqual(await take(running, 3), ['! in close', 0, 'closed']);
  assert.equal((await running.exited).code, 0);
});

test('in open of a client: messages come after it', async (t) => {
  const server = await startPeerServer(t);
  server.on('connection', (socket) => socket.send('hello'));
  const running = program(t, `
    process.on('uncaughtException', (error) => say('! ' + error.message));
    const client = new WebSocket('${server.url}');
    client.on('open', () => { throw new Error('in open'); });
    client.on('message', (data) => { say(String(data)); client.close(); });
    client.on('close', (code) => say(code));
  `);
  assert.deepEqual(await take(running, 3), ['! in open', 'hello', 1005]);
  assert.equal((await running.exited).code, 0);
});

test('in error, which comes before close', async (t) => {
  const running = program(t, `
    process.on('uncaughtException', (error) => say('! ' + error.message));
    const client = new WebSocket('ws://127.0.0.1:1');
    client.on('error', () => { throw new Error('in error'); });
    client.on('close', (code) => say(code));
  `);
  assert.deepEqual(await take(running, 2), ['! in error', 1006]);
  assert.equal((await running.exited).code, 0);
});

test('in a callback of send: those of others are called', async (t) => {
  const running = serverProgram(t, `
    server.on('connection', (socket) => {
      for (let i = 0; i < 5; i++) socket.send('x', () => { say(i); throw new Error('at ' + i); });
    });
  `);
  await rawClient(t, await running.line());
  const lines = await take(running, 10);
  assert.deepEqual(lines.filter(Number.isInteger), [0, 1, 2, 3, 4]);
  assert.deepEqual(lines.filter((line) => typeof line === 'string'), [0, 1, 2, 3, 4].map((i) => `! at ${i}`));
});

for (const [hook, options, source] of [
  ['verifyClient', '{ verifyClient: throwOnce }', ''],
  ['verifyClient with a callback', '{ verifyClient: (info, callback) => { throwOnce(); callback(true); } }', ''],
  ['handleProtocols', '{ handleProtocols: () => throwOnce() && "a" }', ''],
  ['headers', '{}', "server.on('headers', throwOnce);"],
]) {
  test(`in ${hook}: the client is not left waiting, and the server goes on`, async (t) => {
    const running = serverProgram(t, source, `(() => {
      let thrown = 0;
      globalThis.throwOnce = () => {
        thrown += 1;
        if (thrown === 1) throw new Error('thrown here');
        return true;
      };
      return ${options};
    })()`);
    const port = await running.line();
    const headers = { 'Sec-WebSocket-Protocol': 'a' };
    const first = await rawClient(t, port, { headers }).catch(() => null);
    assert.equal(await running.line(), '! thrown here');
    assert.ok(first === null || first.status >= 400, 'refused, or the transport is ended');
    const second = await rawClient(t, port, { headers });
    assert.equal(second.status, 101);
  });
}

test('an exception and process.exit in its handler', async (t) => {
  const running = program(t, `
    process.on('uncaughtException', () => process.exit(9));
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => say(server.address().port));
    server.on('connection', (socket) => socket.on('message', () => { throw new Error('x'); }));
  `);
  const { peer } = await rawClient(t, await running.line());
  peer.write(peer.text('1'), peer.text('2'));
  assert.equal((await running.exited).code, 9);
});

test('rejections of async listeners are unhandledRejection, and nothing else', async (t) => {
  const running = program(t, `
    process.on('unhandledRejection', (error) => say('? ' + error.message));
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => say(server.address().port));
    server.on('connection', (socket) => socket.on('message', async (data) => {
      await null;
      socket.send(data);
      throw new Error('late ' + data);
    }));
  `);
  const { peer } = await rawClient(t, await running.line());
  peer.write(peer.text('1'), peer.text('2'));
  assert.deepEqual((await take(running, 2)), ['? late 1', '? late 2']);
  assert.equal((await peer.next()).payload.toString(), '1');
  assert.equal((await peer.next()).payload.toString(), '2');
  running.child.kill();
});
