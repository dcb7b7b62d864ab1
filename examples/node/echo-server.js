// echo-server PORT [--host H] [--max-message BYTES]
//   [--deflate [--deflate-window-bits N] [--context-takeover]]
// Sends every message back. PORT 0 picks one. SIGINT and SIGTERM end it.
'use strict';

const { parseArgs } = require('node:util');
// Outside of this checkout: require('wsabi').
const { WebSocketServer } = require('../../bindings/node');

const USAGE = 'usage: echo-server PORT [--host H] [--max-message BYTES] '
  + '[--deflate [--deflate-window-bits N] [--context-takeover]]';
const HIGH_WATER = 1 << 20;
// The Autobahn test suite sends messages of so many; the default is that of `ws`, 16,384.
const MAX_FRAGMENTS = 65_537;
// As in the other languages; that of `ws` is 100 MiB.
const MAX_MESSAGE = String(16 << 20);

/** Refuses the scripts of other servers' pages, which `ws` leaves to its users. */
function verifyClient({ origin, req }, answer) {
  const isAllowed = origin === undefined || (URL.canParse(origin) && new URL(origin).host === req.headers.host);
  answer(isAllowed, 403);
}

/** permessage-deflate, if it is asked for: windows of 2 to the power of `bits` bytes, of both sides. */
function compression({ deflate, 'deflate-window-bits': bits, 'context-takeover': takeover }) {
  if (!deflate) return false;
  if (bits !== undefined && !/^(9|1[0-5])$/.test(bits)) throw new Error('--deflate-window-bits is not 9 to 15');
  const windows = bits === undefined ? {} : { serverMaxWindowBits: Number(bits), clientMaxWindowBits: Number(bits) };
  // Not `false`, which refuses a peer that does without.
  const contexts = takeover ? {} : { serverNoContextTakeover: true, clientNoContextTakeover: true };
  return { ...windows, ...contexts };
}

function parse() {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      host: { type: 'string', default: '127.0.0.1' },
      'max-message': { type: 'string', default: MAX_MESSAGE },
      deflate: { type: 'boolean', default: false },
      'deflate-window-bits': { type: 'string' },
      'context-takeover': { type: 'boolean', default: false },
    },
  });
  const number = (text) => {
    if (!/^\d+$/.test(text)) throw new Error(`${text} is not a number`);
    return Number(text);
  };
  if (positionals.length !== 1) throw new Error('expected one argument, PORT');
  const options = {
    port: number(positionals[0]),
    host: values.host,
    closeTimeout: 10_000,
    maxFragments: MAX_FRAGMENTS,
    maxPayload: number(values['max-message']),
    perMessageDeflate: compression(values),
    verifyClient,
  };
  return options;
}

let options;
try {
  options = parse();
} catch {
  console.error(USAGE);
  process.exit(2);
}

const server = new WebSocketServer(options);

server.on('listening', () => {
  const { address, family, port } = server.address();
  console.log(`listening on ws://${family === 'IPv6' ? `[${address}]` : address}:${port}`);
});

server.on('error', (error) => {
  console.error(`echo-server: ${error.message}`);
  process.exitCode = 1;
});

server.on('connection', (socket) => {
  socket.on('error', () => {}); // What the peer did wrong; 'close' follows.
  socket.on('message', (data, isBinary) => {
    if (socket.bufferedAmount > HIGH_WATER) {
      // A peer that does not take its replies is not read from until it has.
      socket.pause();
      socket.send(data, { binary: isBinary }, () => socket.resume());
    } else {
      socket.send(data, { binary: isBinary });
    }
  });
});

for (const signal of ['SIGINT', 'SIGTERM']) {
  process.once(signal, () => {
    server.close();
    for (const client of server.clients) client.close(1001, 'the server is stopping');
  });
}
