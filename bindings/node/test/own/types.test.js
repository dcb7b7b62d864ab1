'use strict';
// The types: what consumers of `@types/ws` write compiles against both, and the declarations name
// what the code has.

const assert = require('node:assert/strict');
const { execFile } = require('node:child_process');
const fs = require('node:fs');
const path = require('node:path');
const { INSTALLED, MODULES, SUBJECT, WebSocket, WebSocketServer, startServer, test } = require('../support');

const SOURCES = path.join(__dirname, '..', 'types');

/** Compiles files in a folder where `subject` is the package in `folder`; what tsc says. */
function compile(t, folder, files) {
  fs.mkdirSync(path.join(INSTALLED, 'types'), { recursive: true });
  const place = fs.mkdtempSync(path.join(INSTALLED, 'types', 'consumer-'));
  t.after(() => fs.rmSync(place, { recursive: true }));
  fs.mkdirSync(path.join(place, 'node_modules'));
  fs.symlinkSync(folder, path.join(place, 'node_modules', 'subject'));
  for (const [name, text] of Object.entries(files)) fs.writeFileSync(path.join(place, name), text);
  fs.symlinkSync(path.join(MODULES, '@types'), path.join(place, 'node_modules', '@types'));
  fs.writeFileSync(path.join(place, 'tsconfig.json'), JSON.stringify({
    compilerOptions: {
      strict: true, noEmit: true, noImplicitOverride: true, exactOptionalPropertyTypes: true, target: 'es2022',
      lib: ['es2022'], module: 'nodenext', types: ['node'], typeRoots: [path.join(MODULES, '@types')],
    },
    include: ['*.ts', '*.mts', '*.cts'],
  }));
  const tsc = path.join(MODULES, 'typescript', 'bin', 'tsc');
  return new Promise((resolve) => {
    execFile(process.execPath, [tsc, '-p', place], (error, stdout) => resolve(error ? stdout : ''));
  });
}

const consumers = Object.fromEntries(['consumer.mts', 'consumer.cts'].map((name) => (
  [name, fs.readFileSync(path.join(SOURCES, name), 'utf8')]
)));

test('the samples compile against @types/ws', async (t) => {
  assert.equal(await compile(t, path.join(MODULES, '@types', 'ws'), consumers), '');
});

test('the samples compile against this package', async (t) => {
  assert.equal(await compile(t, SUBJECT, consumers), '');
});

test('what is only in this package compiles', async (t) => {
  const text = fs.readFileSync(path.join(SOURCES, 'own.mts'), 'utf8');
  assert.equal(await compile(t, SUBJECT, { 'own.mts': text }), '');
});

test('values of this package go where those of @types/ws are expected', async (t) => {
  assert.equal(await compile(t, SUBJECT, { 'main.mts': `
    import WebSocket, { WebSocketServer } from 'subject';
    import type * as Ws from 'ws';
    declare function takes(client: Ws.WebSocket, server: Ws.WebSocketServer, data: Ws.RawData): void;
    const client = new WebSocket('ws://localhost', {} satisfies Ws.ClientOptions);
    const server = new WebSocketServer({ port: 0 } satisfies Ws.ServerOptions);
    client.on('message', (data) => takes(client, server, data));
  ` }), '');
});

test('the declarations themselves compile', async (t) => {
  const file = path.join(SUBJECT, 'index.d.ts');
  assert.ok(fs.existsSync(file));
  assert.equal(await compile(t, SUBJECT, { 'main.mts': "export * from 'subject';\n" }), '');
});

test('every export is declared', async (t) => {
  const esm = Object.keys(await import(pathToMain()));
  const statics = Object.keys(WebSocket);
  const lines = ["import WebSocket, * as all from 'subject';"];
  for (const name of esm) if (name !== 'default') lines.push(`all.${name};`);
  for (const name of statics) lines.push(`WebSocket.${name};`);
  assert.equal(await compile(t, SUBJECT, { 'main.mts': `${lines.join('\n')}\n` }), '');
  const required = ["import WebSocket = require('subject');", ...statics.map((name) => `WebSocket.${name};`)];
  assert.equal(await compile(t, SUBJECT, { 'main.cts': `${required.join('\n')}\n` }), '');
});

function pathToMain() {
  const manifest = JSON.parse(fs.readFileSync(path.join(SUBJECT, 'package.json'), 'utf8'));
  const entry = manifest.exports['.'].import;
  return path.join(SUBJECT, typeof entry === 'string' ? entry : entry.default);
}

test('every public member is declared', async (t) => {
  const lines = ["import WebSocket, { WebSocketServer } from 'subject';", 'declare const client: WebSocket;',
    'declare const server: WebSocketServer;'];
  const names = (prototype) => Object.getOwnPropertyNames(prototype)
    .filter((name) => !name.startsWith('_') && name !== 'constructor');
  for (const name of names(WebSocket.prototype)) lines.push(`client.${name};`);
  for (const name of names(WebSocketServer.prototype)) lines.push(`server.${name};`);
  lines.push('server.clients;', 'server.options;');
  const said = await compile(t, SUBJECT, { 'main.mts': `${lines.join('\n')}\n` });
  // Private to the two classes, as in `ws`.
  const internal = /'(setSocket|emitClose|completeUpgrade)'/;
  assert.equal(said.split('\n').filter((line) => !internal.test(line)).join('\n').trim(), '');
});

test('every option that the code reads is declared', async (t) => {
  const server = await startServer(t);
  const lib = path.join(SUBJECT, 'lib');
  const read = new Set(Object.keys(server.options));
  const codeOf = (name) => fs.readFileSync(path.join(lib, name), 'utf8').replace(/\/\*[^]*?\*\/|\/\/.*$/gm, '');
  for (const [, option] of codeOf('options.js').matchAll(/'([a-z]\w+)'/g)) read.add(option);
  for (const name of fs.readdirSync(lib)) {
    const text = codeOf(name);
    for (const [, option] of text.matchAll(/\b(?:options|opts)\??\.([a-z]\w*)/gi)) read.add(option);
  }
  assert.ok(read.size > 15, `found only ${[...read]}`);
  const lines = [
    "import type { ClientOptions, PerMessageDeflateOptions, ServerOptions } from 'subject';",
    "import type { ClientRequestArgs } from 'node:http';",
    'type Known = keyof ClientOptions | keyof ServerOptions | keyof ClientRequestArgs | keyof PerMessageDeflateOptions',
    "  | 'number' | 'binary' | 'compress' | 'fin' | 'mask' | 'copy' | 'once' | 'code' | 'reason' | 'wasClean' | 'data' | 'error' | 'message';",
    ...[...read].map((name) => `({}) as { k: '${name}' } satisfies { k: Known };`),
  ];
  assert.equal(await compile(t, SUBJECT, { 'main.mts': `${lines.join('\n')}\nexport {};\n` }), '');
});
