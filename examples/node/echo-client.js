// echo-client URL [--agent NAME] [--max-message BYTES]
//   [--deflate [--deflate-window-bits N] [--context-takeover]]
// The client of the Autobahn test suite: asks URL/getCaseCount how many cases there are, runs them
// one after another by URL/runCase, echoing all, and asks for the report by URL/updateReports.
'use strict';

const { parseArgs } = require('node:util');
// Outside of this checkout: require('wsabi').
const WebSocket = require('../../bindings/node');

const USAGE = 'usage: echo-client URL [--agent NAME] [--max-message BYTES] '
  + '[--deflate [--deflate-window-bits N] [--context-takeover]]';
const HIGH_WATER = 1 << 20;
// The suite sends messages of so many; the default is that of `ws`, 16,384.
const MAX_FRAGMENTS = 65_537;
// As in the other languages; that of `ws` is 100 MiB.
const MAX_MESSAGE = String(16 << 20);

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
      agent: { type: 'string', default: 'wsabi-node' },
      'max-message': { type: 'string', default: MAX_MESSAGE },
      deflate: { type: 'boolean', default: false },
      'deflate-window-bits': { type: 'string' },
      'context-takeover': { type: 'boolean', default: false },
    },
  });
  if (positionals.length !== 1) throw new Error('expected one argument, URL');
  if (!/^\d+$/.test(values['max-message'])) throw new Error('--max-message is not a number');
  const options = {
    maxFragments: MAX_FRAGMENTS,
    maxPayload: Number(values['max-message']),
    perMessageDeflate: compression(values),
  };
  return { url: positionals[0].replace(/\/+$/, ''), agent: values.agent, options };
}

function echo(socket, data, isBinary) {
  if (socket.bufferedAmount > HIGH_WATER) {
    // A server that does not take its replies is not read from until it has.
    socket.pause();
    socket.send(data, { binary: isBinary }, () => socket.resume());
  } else {
    socket.send(data, { binary: isBinary });
  }
}

/** Connects, and comes back when the connection is over; tells whether it was open. */
function visit(url, options, onMessage) {
  return new Promise((resolve) => {
    let isOpen = false;
    const socket = new WebSocket(url, options);
    socket.on('open', () => {
      isOpen = true;
    });
    socket.on('message', (data, isBinary) => onMessage(socket, data, isBinary));
    socket.on('error', (error) => {
      // Later errors are what the cases are about.
      if (!isOpen) console.error(`echo-client: ${url}: ${error.message}`);
    });
    socket.on('close', () => resolve(isOpen));
  });
}

async function main() {
  let parsed;
  try {
    parsed = parse();
  } catch {
    console.error(USAGE);
    return 2;
  }
  const { url, options } = parsed;
  const agent = encodeURIComponent(parsed.agent);
  let cases = 0;
  const counted = await visit(`${url}/getCaseCount`, options, (_, data) => {
    cases = Number(data);
  });
  if (!counted) return 1;
  for (let number = 1; number <= cases; number += 1) {
    await visit(`${url}/runCase?case=${number}&agent=${agent}`, options, echo);
  }
  await visit(`${url}/updateReports?agent=${agent}`, options, echo);
  return 0;
}

main().then(
  (status) => {
    process.exitCode = status;
  },
  (error) => {
    console.error(`echo-client: ${error.message}`);
    process.exitCode = 1;
  },
);
