'use strict';
// The package as npm gives it: tarballs, installed into an empty folder outside of the checkout.

const assert = require('node:assert/strict');
const { execFile, execFileSync } = require('node:child_process');
const fs = require('node:fs');
const os = require('node:os');
const path = require('node:path');
const { promisify } = require('node:util');
const { PACKAGE, ROOT, SUBJECT, TARGET, test } = require('../support');

const ECHO = `
const server = new WebSocketServer({ port: 0, host: '127.0.0.1' }, () => {
  const client = new WebSocket('ws://127.0.0.1:' + server.address().port);
  client.on('open', () => client.send('through the tarball'));
  client.on('message', (data, isBinary) => {
    console.log(JSON.stringify([String(data), isBinary]));
    client.close();
    server.close();
  });
});
server.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
`;

/** The newest tarballs; made first, which takes no time when nothing has changed. */
function tarballs() {
  execFileSync(path.join(PACKAGE, 'pack.sh'), { cwd: ROOT, stdio: ['ignore', 'ignore', 'inherit'] });
  const folder = path.join(TARGET, 'npm');
  return fs.readdirSync(folder).filter((name) => name.endsWith('.tgz')).map((name) => path.join(folder, name));
}

test('install, require, import, echo', async (t) => {
  if (SUBJECT !== PACKAGE) return t.skip('another package than that of the checkout is tested');
  const files = tarballs();
  assert.equal(files.length, 2, `one tarball for all and one for this platform: ${files}`);
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'wsabi-installed-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  fs.writeFileSync(path.join(folder, 'package.json'), '{ "name": "consumer", "private": true }\n');
  const run = (command, ...args) => promisify(execFile)(command, args, { cwd: folder });
  await run('npm', 'install', '--offline', '--ignore-scripts', '--no-audit', '--no-fund', ...files);

  fs.writeFileSync(path.join(folder, 'main.cjs'), `
    const WebSocket = require('wsabi');
    const { WebSocketServer } = WebSocket;
    ${ECHO}
  `);
  fs.writeFileSync(path.join(folder, 'main.mjs'), `
    import WebSocket, { WebSocketServer } from 'wsabi';
    ${ECHO}
  `);
  for (const main of ['main.cjs', 'main.mjs']) {
    const { stdout } = await run(process.execPath, main);
    assert.deepEqual(JSON.parse(stdout), ['through the tarball', false], main);
  }

  const installed = path.join(folder, 'node_modules', 'wsabi');
  const manifest = JSON.parse(fs.readFileSync(path.join(installed, 'package.json'), 'utf8'));
  assert.equal(manifest.name, 'wsabi');
  for (const hook of ['preinstall', 'install', 'postinstall', 'prepare']) {
    assert.equal(manifest.scripts?.[hook], undefined, `no script at ${hook}`);
  }
  assert.ok(Object.keys(manifest.optionalDependencies).length > 0);
  for (const name of ['index.js', 'index.d.ts', 'README.md', 'package.json']) {
    assert.ok(fs.existsSync(path.join(installed, name)), name);
  }
  const all = fs.readdirSync(installed, { recursive: true }).map(String);
  assert.deepEqual(all.filter((name) => /\.(rs|node|test\.js)$|(^|\/)test(\/|$)/.test(name)), [], 'nothing else in it');
}, { timeout: 100_000 });

test('without the addon of the platform, loading says what is missing', async (t) => {
  if (SUBJECT !== PACKAGE) return t.skip('another package than that of the checkout is tested');
  const root = tarballs().find((file) => /wsabi-\d/.test(path.basename(file)));
  const folder = fs.mkdtempSync(path.join(os.tmpdir(), 'wsabi-installed-'));
  t.after(() => fs.rmSync(folder, { recursive: true }));
  fs.writeFileSync(path.join(folder, 'package.json'), '{ "name": "consumer", "private": true }\n');
  const run = (command, ...args) => promisify(execFile)(command, args, { cwd: folder });
  await run('npm', 'install', '--offline', '--ignore-scripts', '--omit=optional', '--no-audit', '--no-fund', root);
  await assert.rejects(run(process.execPath, '-e', "require('wsabi')"), ({ stderr }) => {
    assert.match(stderr, /Error: .*wsabi/);
    assert.ok(stderr.includes(process.platform) && stderr.includes(process.arch), stderr);
    return true;
  });
}, { timeout: 60_000 });
