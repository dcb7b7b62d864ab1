'use strict';
// The shape of the package: what `require` and `import` give, constants, accessors.

const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const { EventEmitter } = require('node:events');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { promisify } = require('node:util');
const { SUBJECT, WebSocket, WebSocketServer, test } = require('../support');

const STATES = ['CONNECTING', 'OPEN', 'CLOSING', 'CLOSED'];

/** A folder where the package under test has the name `subject`. */
function consumer(t) {
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'wsabi-consumer-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  fs.mkdirSync(path.join(folder, 'node_modules'));
  fs.symlinkSync(SUBJECT, path.join(folder, 'node_modules', 'subject'));
  return folder;
}

async function runModule(t, name, source) {
  const folder = consumer(t);
  const file = path.join(folder, name);
  fs.writeFileSync(file, source);
  const { stdout } = await promisify(execFile)(process.execPath, [file]);
  return JSON.parse(stdout);
}

test('require gives the class, which carries the others', () => {
  assert.equal(typeof WebSocket, 'function');
  assert.equal(WebSocket.name, 'WebSocket');
  assert.equal(WebSocket.WebSocket, WebSocket);
  assert.equal(WebSocketServer.name, 'WebSocketServer');
  assert.equal(WebSocket.Server, WebSocketServer);
  assert.equal(typeof WebSocket.createWebSocketStream, 'function');
  assert.ok(WebSocket.prototype instanceof EventEmitter);
  assert.ok(WebSocketServer.prototype instanceof EventEmitter);
});

test('require by the name of the package', async (t) => {
  const shape = await runModule(t, 'main.cjs', `
    const WebSocket = require('subject');
    const { WebSocket: Named, WebSocketServer, Server, createWebSocketStream } = require('subject');
    console.log(JSON.stringify([
      typeof WebSocket, Named === WebSocket, Server === WebSocketServer, typeof createWebSocketStream,
      typeof require('subject/package.json').version,
    ]));
  `);
  assert.deepEqual(shape, ['function', true, true, 'function', 'string']);
});

test('import gives the class as default, and names', async (t) => {
  const shape = await runModule(t, 'main.mjs', `
    import { createRequire } from 'node:module';
    import WebSocket, { WebSocket as Named, WebSocketServer, createWebSocketStream } from 'subject';
    import * as all from 'subject';
    const required = createRequire(import.meta.url)('subject');
    console.log(JSON.stringify([
      WebSocket === required, Named === WebSocket, WebSocketServer === WebSocket.Server,
      createWebSocketStream === WebSocket.createWebSocketStream, Object.keys(all).includes('default'),
    ]));
  `);
  assert.deepEqual(shape, [true, true, true, true, true]);
});

test('both kinds of import have the same names', async (t) => {
  const shape = await runModule(t, 'main.mjs', `
    import { createRequire } from 'node:module';
    import * as all from 'subject';
    const required = createRequire(import.meta.url)('subject');
    const odd = Object.keys(all).filter((name) => name !== 'default' && all[name] !== required[name]);
    console.log(JSON.stringify(odd));
  `);
  assert.deepEqual(shape, []);
});

test('inner files are not reachable by name', async (t) => {
  const codes = await runModule(t, 'main.cjs', `
    const codes = ['subject/index.js', 'subject/lib/websocket.js', 'subject/lib/websocket'].map((name) => {
      try { require(name); return 'found'; } catch (error) { return error.code; }
    });
    console.log(JSON.stringify(codes));
  `);
  assert.deepEqual(codes, Array(3).fill('ERR_PACKAGE_PATH_NOT_EXPORTED'));
});

test('the classes cannot be called without new', () => {
  assert.throws(() => WebSocket('ws://localhost'), TypeError);
  assert.throws(() => WebSocketServer({ port: 0 }), TypeError);
});

test('ready states are constants of the class and of its prototype', () => {
  STATES.forEach((name, value) => {
    for (const owner of [WebSocket, WebSocket.prototype]) {
      assert.deepEqual(
        Object.getOwnPropertyDescriptor(owner, name),
        { value, enumerable: true, writable: false, configurable: false },
      );
    }
  });
});

test('attributes are enumerable accessors of the prototype', () => {
  const readonly = ['bufferedAmount', 'extensions', 'isPaused', 'protocol', 'readyState', 'url'];
  const writable = ['binaryType', 'onclose', 'onerror', 'onmessage', 'onopen'];
  for (const name of [...readonly, ...writable]) {
    const found = Object.getOwnPropertyDescriptor(WebSocket.prototype, name);
    assert.ok(found, name);
    assert.equal(found.enumerable, true, name);
    assert.equal(typeof found.get, 'function', name);
    assert.equal(typeof found.set, writable.includes(name) ? 'function' : 'undefined', name);
  }
});

test('methods exist', () => {
  const client = ['addEventListener', 'close', 'pause', 'ping', 'pong', 'removeEventListener',
    'resume', 'send', 'terminate'];
  for (const name of client) assert.equal(typeof WebSocket.prototype[name], 'function', name);
  const server = ['address', 'close', 'handleUpgrade', 'shouldHandle'];
  for (const name of server) assert.equal(typeof WebSocketServer.prototype[name], 'function', name);
});
