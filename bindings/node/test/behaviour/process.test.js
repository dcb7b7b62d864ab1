'use strict';
// The life of a process: what keeps it, what ends it, and errors that nobody listens to.

const assert = require('node:assert/strict');
const { next, rawClient, rawServer, startPeerServer, test, until } = require('../support');
const { program } = require('../support/child');

const OK = { code: 0, signal: null };

async function endsWell(running) {
  const { code, signal, stderr, lines } = await running.exited;
  assert.deepEqual({ code, signal }, OK, stderr);
  assert.equal(stderr, '');
  return lines;
}

test('loading keeps nothing alive', async (t) => {
  await endsWell(program(t, ''));
});

test('a server keeps the process, until it is closed', async (t) => {
  const running = program(t, `
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => say(server.address().port));
    // Comes only if something else keeps the process.
    setTimeout(() => say('alive'), 200).unref();
    server.on('connection', (socket) => socket.on('close', () => {
      server.close(() => say('closed'));
    }));
  `);
  const port = await running.line();
  assert.equal(await running.line(), 'alive');
  const { peer } = await rawClient(t, port);
  peer.write(peer.close(1000));
  await peer.nextClose();
  peer.socket.end();
  assert.equal(await running.line(), 'closed');
  await endsWell(running);
});

test('a connection of a server keeps the process when the server is closed', async (t) => {
  const running = program(t, `
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => say(server.address().port));
    server.on('connection', (socket) => {
      server.close();
      setTimeout(() => say('alive'), 200).unref();
      socket.on('close', (code) => say(code));
    });
  `);
  const { peer } = await rawClient(t, await running.line());
  assert.equal(await running.line(), 'alive');
  peer.write(peer.close(1000));
  await peer.nextClose();
  peer.socket.end();
  assert.equal(await running.line(), 1000);
  await endsWell(running);
});

test('a client keeps the process, until it is closed', async (t) => {
  const server = await rawServer(t);
  const running = program(t, `
    const client = new WebSocket('${server.url}');
    client.on('open', () => say('open'));
    client.on('close', (code) => say(code));
    setTimeout(() => say('alive'), 300).unref();
  `);
  const { peer } = await server.next();
  assert.equal(await running.line(), 'open');
  assert.equal(await running.line(), 'alive');
  peer.write(peer.close(4000));
  await peer.nextClose();
  peer.socket.end();
  assert.equal(await running.line(), 4000);
  await endsWell(running);
});

test('a client that is connecting keeps the process', async (t) => {
  const server = await rawServer(t, { respond: () => null });
  const running = program(t, `
    const client = new WebSocket('${server.url}');
    client.on('error', (error) => say(error.message));
    setTimeout(() => { say('alive'); client.terminate(); }, 200).unref();
  `);
  assert.equal(await running.line(), 'alive');
  assert.equal(await running.line(), 'WebSocket was closed before the connection was established');
  await endsWell(running);
});

test('a client that fails ends with its process', async (t) => {
  const running = program(t, `
    const client = new WebSocket('ws://127.0.0.1:1/');
    client.on('error', (error) => say(error.code));
    client.on('close', (code) => say(code));
  `);
  assert.equal(await running.line(), 'ECONNREFUSED');
  assert.equal(await running.line(), 1006);
  await endsWell(running);
});

test('both ends in one process, closed by themselves', async (t) => {
  const running = program(t, `
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => {
      const client = new WebSocket('ws://127.0.0.1:' + server.address().port);
      client.on('open', () => client.send('x'));
      client.on('message', (data) => { say(String(data)); client.close(); server.close(); });
    });
    server.on('connection', (socket) => socket.on('message', (data) => socket.send(data, { binary: false })));
  `);
  assert.equal(await running.line(), 'x');
  await endsWell(running);
});

test('an error that nobody listens to ends the process', async (t) => {
  const running = program(t, "new WebSocket('ws://127.0.0.1:1/');");
  const { code, stderr } = await running.exited;
  assert.equal(code, 1);
  assert.match(stderr, /ECONNREFUSED/);
});

test('a server that cannot listen and has no listener of error ends the process', async (t) => {
  const server = await startPeerServer(t);
  const running = program(t, `new WebSocketServer({ port: ${server.port}, host: '127.0.0.1' });`);
  const { code, stderr } = await running.exited;
  assert.equal(code, 1);
  assert.match(stderr, /EADDRINUSE/);
});

test('an error in a frame that nobody listens to ends the process', async (t) => {
  const running = program(t, `
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => say(server.address().port));
  `);
  const { peer } = await rawClient(t, await running.line());
  peer.write(peer.text('x', { rsv: 2 }));
  const { code, stderr } = await running.exited;
  assert.equal(code, 1);
  assert.match(stderr, /WS_ERR_UNEXPECTED_RSV_2_3/);
});

for (const [place, source] of [
  ['message', "server.on('connection', (socket) => socket.on('message', () => { throw new Error('thrown here'); }));"],
  ['ping', "server.on('connection', (socket) => socket.on('ping', () => { throw new Error('thrown here'); }));"],
  ['connection', "server.on('connection', () => { throw new Error('thrown here'); });"],
  ['headers', "server.on('headers', () => { throw new Error('thrown here'); });"],
]) {
  test(`what a listener of ${place} throws ends the process`, async (t) => {
    const running = program(t, `
      const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => say(server.address().port));
      ${source}
    `);
    const after = (frame) => Buffer.concat([frame(1, 'x'), frame(9, 'y')]);
    rawClient(t, await running.line(), { after }).catch(() => {});
    const { code, stderr } = await running.exited;
    assert.equal(code, 1);
    assert.match(stderr, /Error: thrown here/);
  });
}

for (const [place, source] of [
  ['open', "client.on('open', () => { throw new Error('thrown here'); });"],
  ['message', "client.onmessage = () => { throw new Error('thrown here'); };"],
  ['close', "client.on('open', () => client.close()); client.on('close', () => { throw new Error('thrown here'); });"],
  ['a callback of send', "client.on('open', () => client.send('x', () => { throw new Error('thrown here'); }));"],
]) {
  test(`what a client's listener of ${place} throws ends the process`, async (t) => {
    const server = await startPeerServer(t);
    server.on('connection', (socket) => socket.send('hello'));
    const running = program(t, `const client = new WebSocket('${server.url}'); ${source}`);
    const { code, stderr } = await running.exited;
    assert.equal(code, 1);
    assert.match(stderr, /Error: thrown here/);
  });
}

for (const place of ['connection', 'message', 'close']) {
  test(`process.exit inside of ${place}, with connections open`, async (t) => {
    const running = program(t, `
      const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => say(server.address().port));
      const leave = () => process.exit(7);
      server.on('connection', (socket, { url }) => {
        if (url !== '/leave') return;
        if ('${place}' === 'connection') leave();
        socket.on('${place}', leave);
      });
    `);
    const port = await running.line();
    const others = await Promise.all(Array.from({ length: 10 }, () => rawClient(t, port)));
    rawClient(t, port, { path: '/leave' }).then(({ peer }) => {
      peer.write(peer.text('go'), peer.text('on'));
      peer.socket.end();
    }, () => {});
    const { code, signal, stderr } = await running.exited;
    assert.deepEqual({ code, signal, stderr }, { code: 7, signal: null, stderr: '' });
    await Promise.all(others.map(({ peer }) => peer.closed));
  });
}

for (const [ending, source, code, when] of [
  ['process.exit', 'process.exit(0);', 0, 'setImmediate'],
  ['an exception', "throw new Error('the end');", 1, 'setImmediate'],
  ['process.exit inside of a listener', 'process.exit(0);', 0, 'now'],
  ['an exception inside of a listener', "throw new Error('the end');", 1, 'now'],
]) {
  test(`small messages that were sent just before ${ending} arrive`, async (t) => {
    const server = await startPeerServer(t);
    const log = [];
    server.on('connection', (socket) => {
      socket.on('message', (data) => log.push(data.toString()));
      socket.on('close', (closeCode) => log.push(closeCode));
    });
    const running = program(t, `
      const client = new WebSocket('${server.url}');
      const now = (call) => call();
      client.on('open', () => ${when}(() => {
        client.send('last');
        client.send('words');
        client.close(1001);
        ${source}
      }));
    `);
    assert.equal((await running.exited).code, code);
    await until(() => Number.isInteger(log.at(-1)));
    assert.deepEqual(log, ['last', 'words', 1001]);
  });
}

test('SIGTERM ends it as any other process', async (t) => {
  const running = program(t, `
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => say(server.address().port));
  `);
  const port = await running.line();
  const { peer } = await rawClient(t, port);
  running.child.kill('SIGTERM');
  const { signal } = await running.exited;
  assert.equal(signal, 'SIGTERM');
  await peer.closed;
});

test('the package can be loaded more than once', async (t) => {
  const running = program(t, `
    for (const file of Object.keys(require.cache)) if (!file.endsWith('.node')) delete require.cache[file];
    const Again = require(SUBJECT);
    const first = new WebSocketServer({ port: 0, host: '127.0.0.1' });
    first.on('listening', () => {
      const client = new Again('ws://127.0.0.1:' + first.address().port);
      client.on('open', () => { client.close(); first.close(); });
      client.on('close', (code) => say([Again !== WebSocket, code]));
    });
  `);
  assert.deepEqual(await running.line(), [true, 1005]);
  await endsWell(running);
});

test('an exit hook sees open connections', async (t) => {
  const server = await startPeerServer(t);
  const running = program(t, `
    const client = new WebSocket('${server.url}');
    process.on('exit', () => say([client.readyState, client.url]));
    client.on('open', () => process.exit());
  `);
  const connected = next(server, 'connection');
  assert.deepEqual(await running.line(), [1, `${server.url}/`]);
  await connected;
  await endsWell(running);
});
