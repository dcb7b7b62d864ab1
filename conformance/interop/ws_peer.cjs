// npm's `ws` as the foreign peer; NODE_PATH names the folder that holds it.
//
//     ws_peer.cjs drive CASES URL              a client that tests an echo server
//     ws_peer.cjs judge CASES                  a server that tests an echo client
//     ws_peer.cjs echo-server PORT
//     ws_peer.cjs echo-client URL
//
// The twin of peer.py: same modes, flags, cases and output.
'use strict';

const { readFileSync } = require('node:fs');
const { createCipheriv } = require('node:crypto');
const { once } = require('node:events');
const { parseArgs } = require('node:util');
const { WebSocket, WebSocketServer } = require('ws');

const DEADLINE = 60; // seconds for one case
const TEXT_PATTERN = Buffer.from('wsabi größer ∮ 漢字 😀 ');
const BINARY_PATTERN = Buffer.from(Array.from({ length: 251 }, (_, i) => (i * 7 + 3) % 256));
const NO_CODE = 1005; // what a Close frame without a code is reported as

const say = (fields) => process.stdout.write(JSON.stringify(fields) + '\n');

// --- what is sent ------------------------------------------------------------------

function noise(size, index) {
  const iv = Buffer.alloc(16);
  iv.writeUInt32BE(index + 1);
  return createCipheriv('aes-128-ctr', Buffer.alloc(16), iv).update(Buffer.alloc(size));
}

function payload(kind, size, index = 0) {
  if (kind === 'noise') return noise(size, index);
  const head = Buffer.from(`${index}|`).subarray(0, size);
  const body = Buffer.alloc(size - head.length, kind === 'text' ? TEXT_PATTERN : BINARY_PATTERN);
  if (kind === 'text') {
    // Whole characters only: the last one may have been cut.
    let start = body.length - 1;
    while (start > 0 && (body[start] & 0xc0) === 0x80) start -= 1;
    const lead = start >= 0 ? body[start] : 0;
    const length = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (start >= 0 && start + length > body.length) body.fill('.', start);
  }
  return Buffer.concat([head, body]);
}

function* expand(messages) {
  for (const message of messages) {
    for (let index = 0; index < (message.count ?? 1); index += 1) {
      yield [message, payload(message.type, message.size, index)];
    }
  }
}

// Resolves when the socket has taken it.
function sendFrame(ws, data, options) {
  return new Promise((resolve, reject) => {
    ws.send(data, options, (error) => (error ? reject(error) : resolve()));
  });
}

async function send(ws, message, data, pings) {
  const binary = message.type !== 'text';
  const count = message.fragments ?? 1;
  for (let i = 0; i < count; i += 1) {
    if (i === 1 && message.ping_between !== undefined) {
      pings.push(payload('binary', message.ping_between));
      ws.ping(pings.at(-1));
    }
    const piece = data.subarray(
      Math.floor((data.length * i) / count),
      Math.floor((data.length * (i + 1)) / count),
    );
    await sendFrame(ws, piece, { binary, fin: i === count - 1 });
  }
}

// --- one connection ------------------------------------------------------------------

// What a connection receives, in order, to be awaited one by one.
class Inbox {
  constructor(ws) {
    this.items = [];
    this.waiting = null;
    const put = (item) => {
      this.items.push(item);
      this.waiting?.();
    };
    ws.on('message', (data, binary) => put({ message: data, type: binary ? 'binary' : 'text' }));
    ws.on('pong', (data) => put({ pong: data }));
    ws.on('close', (code, reason) => put({ code, reason: reason.toString() }));
    ws.on('error', () => {}); // 'close' follows
  }

  async next() {
    while (this.items.length === 0) {
      await new Promise((resolve) => {
        this.waiting = resolve;
      });
    }
    this.waiting = null;
    return this.items.shift();
  }
}

function describe(item) {
  if (item.pong) return `a pong of ${item.pong.length} bytes`;
  if (item.message) return `a ${item.type} message of ${item.message.length} bytes`;
  return `the end of the connection with ${item.code}`;
}

function compare(message, want, got) {
  if (!got.message) throw new Error(`${describe(got)} came instead of an echo`);
  if ((got.type === 'text') !== (message.type === 'text')) {
    throw new Error(`the echo is ${got.type}, not ${message.type}`);
  }
  if (got.message.length !== want.length) {
    throw new Error(`the echo has ${got.message.length} bytes, not ${want.length}`);
  }
  if (!got.message.equals(want)) {
    const at = want.findIndex((byte, i) => byte !== got.message[i]);
    throw new Error(`the echo differs at byte ${at}`);
  }
}

async function echoes(ws, inbox, messages) {
  const pings = [];
  const sending = (async () => {
    for (const [message, data] of expand(messages)) await send(ws, message, data, pings);
  })();
  const receiving = (async () => {
    const pongs = [];
    for (const [message, data] of expand(messages)) {
      let got = await inbox.next();
      for (; got.pong; got = await inbox.next()) pongs.push(got.pong);
      compare(message, data, got);
    }
    return pongs;
  })();
  const [, pongs] = await Promise.all([sending, receiving]);
  for (const ping of pings) {
    const got = pongs.shift() ?? (await inbox.next()).pong;
    if (!got?.equals(ping)) throw new Error('no pong with the payload of our ping');
  }
}

// RFC 6455 §5.5.3: a pong may answer only the latest of several pings.
async function pings(ws, inbox, sizes) {
  const sent = sizes.map((size) => payload('binary', size));
  for (const data of sent) ws.ping(data);
  for (;;) {
    const got = await inbox.next();
    if (!got.pong) throw new Error(`${describe(got)} came instead of a pong`);
    const index = sent.findIndex((data) => data.equals(got.pong));
    if (index < 0) throw new Error('a pong came with another payload than our ping had');
    sent.splice(0, index + 1);
    if (sent.length === 0) return;
  }
}

// That what came back was in fact compressed.
function squeezed({ socket, extensions }, messages) {
  const total = messages.reduce((sum, { size, count = 1 }) => sum + size * count, 0);
  if (extensions && socket.bytesRead > total / 2) {
    throw new Error(`${socket.bytesRead} bytes came for ${total}: they were not compressed`);
  }
}

async function runCase({ ws, inbox, wire }, test, onStop) {
  if (test.pong !== undefined) ws.pong(payload('binary', test.pong));
  if (test.pings) await pings(ws, inbox, test.pings);
  const messages = test.messages ?? [];
  await echoes(ws, inbox, messages);
  if (test.squeezed) squeezed(wire, messages);
  if (test.stop) onStop();
  if (test.expect_close) await expectClose(ws, inbox, test);
  else await close(ws, inbox, test.close ?? { code: 1000, reason: '' });
}

async function expectClose(ws, inbox, test) {
  // The peer may close before it has all of it: what counts is how.
  const ignore = () => {};
  if (test.invalid_utf8) {
    const bytes = Buffer.concat([Buffer.from('not UTF-8: '), Buffer.from([0xc3, 0x28])]);
    sendFrame(ws, bytes, { binary: false }).catch(ignore);
  }
  if (test.oversize) {
    for (const [message, data] of expand([test.oversize])) send(ws, message, data, []).catch(ignore);
  }
  const got = await inbox.next();
  if (got.code !== test.expect_close) {
    throw new Error(`${describe(got)} came instead of Close ${test.expect_close}`);
  }
}

async function close(ws, inbox, { code, reason = '' }) {
  if (code === undefined) ws.close();
  else ws.close(code, reason);
  const got = await inbox.next();
  if (got.code === 1006) throw new Error('no Close frame came in reply to ours');
  if (got.code !== (code ?? NO_CODE)) {
    throw new Error(`the reply to Close ${code ?? 'without a code'} is ${describe(got)}`);
  }
  if (got.reason !== '' && got.reason !== reason) {
    throw new Error(`the reply to Close has the reason ${got.reason}, ours was ${reason}`);
  }
}

// null, or what went wrong.
async function verdict(promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not finished after ${DEADLINE} s`)), DEADLINE * 1000);
  });
  try {
    await Promise.race([promise, late]);
    return null;
  } catch (error) {
    return error.message || String(error.code);
  } finally {
    clearTimeout(timer);
  }
}

// --- a client that tests a server ------------------------------------------------------

function connect(url, settings, options = {}) {
  const ws = new WebSocket(url, { ...settings, ...options });
  const inbox = new Inbox(ws);
  let wire;
  ws.on('upgrade', ({ socket, headers }) => {
    wire = { socket, extensions: headers['sec-websocket-extensions'] ?? '' };
  });
  return new Promise((resolve, reject) => {
    ws.on('open', () => resolve({ ws, inbox, wire }));
    ws.on('error', reject);
    ws.on('unexpected-response', (request, response) => {
      request.destroy();
      reject(Object.assign(new Error(`refused with ${response.statusCode}`), { response }));
    });
  });
}

async function expectStatus(url, settings, origin, status) {
  let opened;
  try {
    opened = await connect(url, settings, { origin });
  } catch (error) {
    if (error.response?.statusCode === status) return;
    throw error;
  }
  opened.ws.terminate();
  throw new Error(`the handshake was accepted, not refused with ${status}`);
}

async function driveCase(url, settings, test) {
  const origin = test.origin?.replace('{host}', new URL(url).host);
  if (test.expect_status) {
    await expectStatus(url, settings, origin, test.expect_status);
    return;
  }
  const link = await connect(url, settings, origin ? { origin } : {});
  say({ agreed: link.wire.extensions });
  try {
    if (!test.cut) {
      await runCase(link, test, () => say({ stop: true }));
      return;
    }
    await sendFrame(link.ws, 'cut off after this', {});
  } finally {
    link.ws.terminate();
  }
  await runCase(await connect(url, settings), { messages: [{ type: 'text', size: 10 }] });
}

async function drive(cases, url, settings) {
  for (const test of cases) {
    say({ case: test.name, why: await verdict(driveCase(url, settings, test)) });
  }
}

// --- a server that tests a client --------------------------------------------------------

// The paths of Autobahn's fuzzing server, over our own table of cases.
class Judge {
  constructor(cases) {
    this.cases = cases;
    this.pending = null; // a case that passes when the client comes back
    this.answers = new WeakMap(); // the extensions that each request was answered with
  }

  note(request, headers) {
    const [, extensions = ''] = headers.join('\n').match(/^sec-websocket-extensions: (.*)$/im) ?? [];
    this.answers.set(request, extensions);
  }

  caseOf(request) {
    const { pathname, searchParams } = new URL(request.url, 'ws://localhost');
    const number = Number(searchParams.get('case'));
    const test = searchParams.get('agent') ? this.cases[number - 1] : undefined;
    return [pathname, pathname === '/runCase' ? test : undefined];
  }

  admit({ req: request }, answer) {
    if (this.pending) say({ case: this.pending, why: null });
    this.pending = null;
    const [path, test] = this.caseOf(request);
    if (!['/getCaseCount', '/runCase', '/updateReports'].includes(path) || (path === '/runCase' && !test)) {
      say({ note: `the client asked for ${request.url}` });
      answer(false, 404);
    } else if (test?.refuse) {
      this.pending = test.name;
      answer(false, test.refuse);
    } else {
      answer(true);
    }
  }

  async serve(ws, request) {
    const inbox = new Inbox(ws);
    const [path, test] = this.caseOf(request);
    if (path === '/getCaseCount') {
      ws.send(String(this.cases.length));
      ws.close(1000);
    } else if (path === '/updateReports') {
      ws.close(1000);
      await inbox.next();
      say({ done: true });
    } else if (test.cut) {
      this.pending = test.name;
      ws.terminate();
    } else {
      const wire = { socket: request.socket, extensions: this.answers.get(request) };
      say({ agreed: wire.extensions });
      say({ case: test.name, why: await verdict(runCase({ ws, inbox, wire }, test)) });
      ws.terminate();
    }
  }
}

async function judge(cases, settings) {
  const judge = new Judge(cases);
  const server = new WebSocketServer({
    host: '127.0.0.1',
    port: 0,
    ...settings,
    verifyClient: (info, answer) => judge.admit(info, answer),
  });
  server.on('headers', (headers, request) => judge.note(request, headers));
  server.on('connection', (ws, request) => judge.serve(ws, request));
  await once(server, 'listening');
  say({ url: `ws://127.0.0.1:${server.address().port}` });
  process.on('SIGTERM', () => process.exit(0));
}

// --- echo peers ----------------------------------------------------------------------------

function echo(ws) {
  ws.on('error', () => {});
  ws.on('message', (data, binary) => {
    // A peer that does not take its replies is not read from.
    ws.send(data, { binary }, () => ws.bufferedAmount === 0 && ws.resume());
    if (ws.bufferedAmount > 0) ws.pause();
  });
}

function sameOrigin({ origin, req: request }, answer) {
  if (origin === undefined) return answer(true);
  const host = URL.canParse(origin) ? new URL(origin).host : '';
  return host === request.headers.host ? answer(true) : answer(false, 403);
}

async function echoServer(port, settings) {
  const server = new WebSocketServer({
    host: '127.0.0.1',
    port: Number(port),
    ...settings,
    verifyClient: sameOrigin,
  });
  server.on('connection', echo);
  await once(server, 'listening');
  process.stdout.write(`listening on ws://127.0.0.1:${server.address().port}\n`);
  process.on('SIGTERM', () => {
    server.close();
    for (const ws of server.clients) ws.close(1001);
  });
}

async function echoClient(url, settings) {
  const open = (path) => new WebSocket(url + path, settings);
  const counting = open('/getCaseCount');
  const [count] = await once(counting, 'message');
  await once(counting, 'close');
  for (let number = 1; number <= Number(count); number += 1) {
    const ws = open(`/runCase?case=${number}&agent=ws`);
    echo(ws);
    await new Promise((resolve) => {
      ws.on('close', resolve);
    });
  }
  await once(open('/updateReports?agent=ws'), 'close');
}

// What is absent, not false, is left to the other side: false refuses what it asks for.
function compression({ deflate, 'deflate-window-bits': bits, 'context-takeover': takeover }) {
  if (!deflate) return false;
  if (bits === undefined) return { threshold: 0 };
  return {
    threshold: 0,
    serverMaxWindowBits: Number(bits),
    clientMaxWindowBits: Number(bits),
    serverNoContextTakeover: takeover ? undefined : true,
    clientNoContextTakeover: takeover ? undefined : true,
  };
}

async function main(args) {
  const { positionals, values } = parseArgs({
    args,
    allowPositionals: true,
    options: {
      'max-message': { type: 'string' },
      deflate: { type: 'boolean' },
      'deflate-window-bits': { type: 'string' },
      'context-takeover': { type: 'boolean' },
    },
  });
  const [mode, first, second] = positionals;
  const limit = mode === 'drive' || mode === 'judge' ? 0 : 16 * 1024 * 1024;
  const settings = {
    maxPayload: Number(values['max-message'] ?? limit),
    perMessageDeflate: compression(values),
  };
  const table = (path) => JSON.parse(readFileSync(path, 'utf8'));
  if (mode === 'drive' && second) await drive(table(first), second, settings);
  else if (mode === 'judge' && first) await judge(table(first), settings);
  else if (mode === 'echo-server' && first) await echoServer(first, settings);
  else if (mode === 'echo-client' && first) await echoClient(first, settings);
  else throw new Error('usage: ws_peer.cjs drive CASES URL | judge CASES | echo-server PORT | echo-client URL');
}

main(process.argv.slice(2)).catch((error) => {
  process.stderr.write(`${error.stack}\n`);
  process.exitCode = 1;
});
