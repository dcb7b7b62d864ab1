'use strict';
// The browser's way to listen: onopen and its kind, addEventListener, event objects.

const assert = require('node:assert/strict');
const { once } = require('node:events');
const {
  WebSocket, next, pair, rawServer, record, startClient, startServer, test, testRoles, turn, until, withPeer,
} = require('../support');

test('onopen, onmessage and onclose', async (t) => {
  const server = await startServer(t);
  server.on('connection', (socket) => {
    socket.send('text');
    socket.send(Buffer.from('binary'));
    socket.close(4000, 'done');
  });
  const client = startClient(t, server.url);
  const log = [];
  for (const name of ['onopen', 'onmessage', 'onerror', 'onclose']) {
    client[name] = function listener(event) { log.push([name, this === client, event]); };
  }
  await next(client, 'close');
  assert.deepEqual(log.map(([name, isThis]) => [name, isThis]), [
    ['onopen', true], ['onmessage', true], ['onmessage', true], ['onclose', true],
  ]);
  const [open, text, binary, close] = log.map(([, , event]) => event);
  assert.deepEqual([open.type, open.target], ['open', client]);
  assert.deepEqual([text.type, text.target, text.data], ['message', client, 'text']);
  assert.deepEqual([binary.type, binary.data], ['message', Buffer.from('binary')]);
  assert.deepEqual(
    [close.type, close.target, close.code, close.reason, close.wasClean],
    ['close', client, 4000, 'done', true],
  );
});

test('the classes of event objects', async (t) => {
  const { client, serverSide } = await pair(t);
  const events = [];
  client.onmessage = (event) => events.push(event);
  client.onclose = (event) => events.push(event);
  serverSide.send('x');
  serverSide.close();
  await next(client, 'close');
  assert.deepEqual(events.map((event) => event.constructor.name), ['MessageEvent', 'CloseEvent']);
  const base = Object.getPrototypeOf(events[0].constructor);
  assert.equal(base.name, 'Event');
  assert.equal(Object.getPrototypeOf(events[1].constructor), base);
  const keys = (event) => {
    const names = [];
    for (const name in event) names.push(name);
    return names.sort();
  };
  assert.deepEqual(keys(events[0]), ['data', 'target', 'type']);
  assert.deepEqual(keys(events[1]), ['code', 'reason', 'target', 'type', 'wasClean']);
  assert.throws(() => { events[0].data = 'other'; }, TypeError);
});

test('a close event without a Close is not clean', async (t) => {
  const { subject, peer } = await withPeer(t, 'client');
  const closed = new Promise((resolve) => { subject.onclose = resolve; });
  peer.socket.end();
  const { code, reason, wasClean } = await closed;
  assert.deepEqual([code, reason, wasClean], [1006, '', false]);
});

test('an error event', async (t) => {
  const server = await rawServer(t, { respond: () => 'HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n' });
  const client = startClient(t, server.url);
  const log = [];
  client.onerror = (event) => log.push(event);
  client.onclose = (event) => log.push(event);
  await until(() => log.length === 2);
  const [error, close] = log;
  assert.equal(error.constructor.name, 'ErrorEvent');
  assert.equal(error.type, 'error');
  assert.equal(error.target, client);
  assert.equal(error.message, 'Unexpected server response: 500');
  assert.ok(error.error instanceof Error);
  assert.equal(error.error.message, error.message);
  assert.deepEqual([close.code, close.wasClean], [1006, false]);
});

testRoles('data of binary messages by binaryType, text as string', async (t, role) => {
  const { subject, peer } = await withPeer(t, role);
  subject.binaryType = 'arraybuffer';
  const data = [];
  subject.addEventListener('message', (event) => data.push(event.data));
  peer.write(peer.text('\u20ac'), peer.binary('ab'), peer.text(''));
  await until(() => data.length === 3);
  assert.equal(data[0], '\u20ac');
  assert.ok(data[1] instanceof ArrayBuffer);
  assert.equal(data[2], '');
});

test('attributes give what was set, and replace it', async (t) => {
  const { subject, peer } = await withPeer(t, 'client');
  const log = [];
  const first = () => log.push('first');
  const second = () => log.push('second');
  assert.equal(subject.onmessage, null);
  subject.onmessage = first;
  assert.equal(subject.onmessage, first);
  subject.onmessage = second;
  assert.equal(subject.onmessage, second);
  assert.equal(subject.listenerCount('message'), 1);
  peer.write(peer.text('x'), peer.ping());
  await next(subject, 'ping');
  assert.deepEqual(log, ['second']);
  for (const nothing of [null, undefined, 'text', {}]) {
    subject.onmessage = second;
    subject.onmessage = nothing;
    assert.equal(subject.onmessage, null);
    assert.equal(subject.listenerCount('message'), 0);
  }
});

test('attributes leave other listeners alone', async (t) => {
  const { subject } = await withPeer(t, 'client');
  const listener = () => {};
  subject.on('message', listener);
  subject.addEventListener('message', listener);
  subject.onmessage = listener;
  assert.equal(subject.listenerCount('message'), 3);
  subject.onmessage = null;
  assert.equal(subject.listenerCount('message'), 2);
  subject.removeEventListener('message', listener);
  assert.deepEqual(subject.listeners('message'), [listener]);
});

test('removeEventListener does not reach attributes', async (t) => {
  const { subject } = await withPeer(t, 'client');
  const listener = () => {};
  subject.onclose = listener;
  subject.removeEventListener('close', listener);
  assert.equal(subject.onclose, listener);
  subject.addEventListener('close', listener);
  subject.removeEventListener('close', listener);
  assert.equal(subject.onclose, listener);
  assert.equal(subject.listenerCount('close'), 1);
});

test('the same listener counts once for addEventListener', async (t) => {
  const { subject, peer } = await withPeer(t, 'client');
  let calls = 0;
  const listener = () => { calls += 1; };
  subject.addEventListener('message', listener);
  subject.addEventListener('message', listener);
  subject.addEventListener('message', listener, { once: true });
  peer.write(peer.text('1'), peer.text('2'), peer.ping());
  await next(subject, 'ping');
  assert.equal(calls, 2);
});

test('once', async (t) => {
  const { subject, peer } = await withPeer(t, 'client');
  const data = [];
  subject.addEventListener('message', (event) => data.push(event.data), { once: true });
  peer.write(peer.text('1'), peer.text('2'), peer.ping());
  await next(subject, 'ping');
  assert.deepEqual(data, ['1']);
});

test('objects with handleEvent', async (t) => {
  const { subject, peer } = await withPeer(t, 'client');
  const log = [];
  const listener = {
    handleEvent(event) { log.push([this === listener, event.type, event.data]); },
  };
  subject.addEventListener('message', listener);
  peer.write(peer.text('1'), peer.ping());
  await next(subject, 'ping');
  subject.removeEventListener('message', listener);
  peer.write(peer.text('2'), peer.ping());
  await next(subject, 'ping');
  assert.deepEqual(log, [[true, 'message', '1']]);
});

test('listeners of other events are not added', async (t) => {
  const { subject } = await withPeer(t, 'client');
  for (const type of ['ping', 'pong', 'upgrade', 'whatever']) {
    subject.addEventListener(type, () => {});
    assert.equal(subject.listenerCount(type), 0, type);
  }
});

test('all kinds of listeners are called in the order of adding', async (t) => {
  const { subject, peer } = await withPeer(t, 'client');
  const log = [];
  subject.on('message', () => log.push('on'));
  subject.addEventListener('message', () => log.push('addEventListener'));
  subject.onmessage = () => log.push('onmessage');
  subject.prependListener('message', () => log.push('prepended'));
  peer.write(peer.text('x'), peer.ping());
  await next(subject, 'ping');
  assert.deepEqual(log, ['prepended', 'on', 'addEventListener', 'onmessage']);
});

test('a listener that removes another while it is called', async (t) => {
  const { subject, peer } = await withPeer(t, 'client');
  const log = [];
  const second = () => log.push('second');
  subject.addEventListener('message', () => {
    log.push('first');
    subject.removeEventListener('message', second);
  });
  subject.addEventListener('message', second);
  peer.write(peer.text('1'), peer.text('2'), peer.ping());
  await next(subject, 'ping');
  assert.deepEqual(log, ['first', 'second', 'first']);
});

test('events.once and events.on work', async (t) => {
  const { on } = require('node:events');
  const server = await startServer(t);
  const client = startClient(t, server.url);
  assert.deepEqual(await once(client, 'open'), []);
  const [socket] = [...server.clients];
  const stop = new AbortController();
  const messages = on(client, 'message', { signal: stop.signal });
  socket.send('1');
  socket.send('2');
  assert.deepEqual((await messages.next()).value, [Buffer.from('1'), false]);
  assert.deepEqual((await messages.next()).value, [Buffer.from('2'), false]);
  stop.abort();
  const refused = startClient(t, `${server.url}/x`, ['a', 'b'], { protocolVersion: 13 });
  refused.terminate();
  await assert.rejects(once(refused, 'open'), /closed before the connection was established/);
});

test('order of everything in a short life', async (t) => {
  const server = await startServer(t);
  const logs = { server: record(server, ['headers', 'connection']), client: null, serverSide: null };
  server.on('connection', (socket) => {
    logs.serverSide = record(socket);
    socket.send('welcome');
  });
  const client = startClient(t, server.url);
  logs.client = record(client, ['upgrade', 'open', 'message', 'pong', 'error', 'close']);
  client.on('message', () => client.ping('p'));
  client.on('pong', () => client.close(1000, 'bye'));
  await next(client, 'close');
  await until(() => logs.serverSide.length === 2);
  const names = (log) => log.map(([name]) => name);
  assert.deepEqual(names(logs.server), ['headers', 'connection']);
  assert.deepEqual(names(logs.client), ['upgrade', 'open', 'message', 'pong', 'close']);
  assert.deepEqual(names(logs.serverSide), ['ping', 'close']);
  await turn();
  assert.equal(client.readyState, WebSocket.CLOSED);
});
