// driver: Node.js' part in the matrix; the first argument is the module, wsabi's or npm's ws. It
// reads orders from stdin and writes events to stdout, one a line; README.md lists them.
'use strict';

const { createInterface } = require('node:readline');
const { readFileSync } = require('node:fs');
const { crc32 } = require('node:zlib');
const { setImmediate: nextTurn } = require('node:timers/promises');

const WebSocket = require(process.argv[2]);

const MOST_FILLED = 4096;
// What of bufferedAmount this driver takes for backpressure: `send` does not tell.
const HIGH_WATER = 1 << 20;
const NUMBERS = {
  high_water: 'highWaterBytes',
  low_water: 'lowWaterBytes',
  max_backlog: 'maxBacklogBytes',
  close_timeout: 'closeTimeout',
  handshake_timeout: 'handshakeTimeout',
  hold_timeout: 'holdTimeout',
  idle_timeout: 'idleTimeout',
  max_buffered: 'maxBufferedBytes',
  max_fragments: 'maxFragments',
  max_handshake_bytes: 'maxHandshakeBytes',
  max_handshake_headers: 'maxHandshakeHeaders',
  max_message: 'maxPayload',
  max_pending_handshakes: 'maxPendingHandshakes',
  ping_interval: 'pingInterval',
  ping_timeout: 'pingTimeout',
};

/** What orders are for: the latest, and its options. */
let current = null;
let currentOptions = null;
/** Whether the texts of errors are told. */
let explains = false;

function say(...words) {
  process.stdout.write(`${words.join(' ')}\n`);
}

function tell(event, data) {
  say(event, data.length, crc32(data).toString(16).padStart(8, '0'));
}

/** What would answer requests that are held. */
const held = [];

function settings(words) {
  const options = {};
  const more = { subprotocols: [], status: 0, body: '', isHeld: false };
  for (const word of words) {
    const [key, value] = word.split('=');
    if (key in NUMBERS) options[NUMBERS[key]] = Number(value);
    else if (key === 'subprotocols') more.subprotocols = value.split(',');
    else if (key === 'deflate') options.perMessageDeflate ??= value !== '0';
    else if (key === 'max_ratio') options.perMessageDeflate = { maxRatio: Number(value) };
    else if (key === 'refuse') more.status = Number(value);
    else if (key === 'hold') more.isHeld = true;
    else if (key === 'explain') explains = value !== '0';
    else if (key === 'body') more.body = readFileSync(value, 'utf8');
    else throw new Error(key);
  }
  // 'drain' comes to who has asked for it.
  if (options.maxBacklogBytes !== undefined) options.highWaterBytes ??= HIGH_WATER;
  return { options, ...more };
}

function watch(socket, options) {
  current = socket;
  currentOptions = options;
  socket.on('drain', () => say('drain'));
  socket.on('message', (data, isBinary) => tell(isBinary ? 'message binary' : 'message text', data));
  socket.on('ping', (data) => tell('ping', data));
  socket.on('pong', (data) => tell('pong', data));
}

function explain(text) {
  if (explains && text) say('why -', text);
}

/** Sends, and gives the error if that is refused because too much waits. */
async function attempt(data, options) {
  let refusal = null;
  current.send(data, options, (error) => {
    if (error?.code === 'WSABI_ERR_BACKLOG_FULL') refusal = error;
  });
  // What is sent is written at the end of the turn.
  await nextTurn();
  return refusal;
}

function onClose({ code, reason, wasClean }) {
  if (!wasClean) explain(reason);
  say('close', code, wasClean ? 'clean OK' : 'unclean -', reason);
}

function refused(status, body) {
  if (body === null) say('refused', status, '- -');
  else tell(`refused ${status}`, body);
}

const orders = {
  sync() {
    say('synced');
  },

  listen(...words) {
    const { options, subprotocols, status, body, isHeld } = settings(words);
    let verifyClient = null;
    if (isHeld) verifyClient = (_, answer) => held.push(answer);
    else if (status !== 0) verifyClient = (_, answer) => answer(false, status, body);
    const server = new WebSocket.WebSocketServer({
      ...options,
      host: '127.0.0.1',
      port: 0,
      handleProtocols: (offered) => subprotocols.find((name) => offered.has(name)) ?? false,
      verifyClient,
    });
    server.on('listening', () => say('listening', server.address().port));
    server.on('error', (error) => say('error listen:', error.message));
    server.on('connection', (socket, request) => {
      watch(socket, options);
      socket.on('error', (error) => explain(error.message)); // 'close' follows
      socket.addEventListener('close', onClose);
      say('open', socket.protocol || '-', request.url);
    });
  },

  connect(port, target, ...words) {
    const { options, subprotocols } = settings(words);
    const socket = new WebSocket(`ws://127.0.0.1:${port}${target}`, subprotocols, options);
    let isOpen = false;
    let failure = null;
    let isTold = false;
    watch(socket, options);
    socket.on('open', () => {
      isOpen = true;
      say('open', socket.protocol || '-', '-');
    });
    socket.on('error', (error) => {
      failure = error;
      explain(error.message);
    });
    // wsabi has no such event yet; its 'error' tells the status.
    socket.on('unexpected-response', (request, response) => {
      const body = [];
      response.on('data', (data) => body.push(data));
      response.on('end', () => {
        isTold = true;
        refused(response.statusCode, Buffer.concat(body));
        socket.terminate();
      });
    });
    socket.addEventListener('close', (event) => {
      const status = /^Unexpected server response: (\d+)$/.exec(failure?.message)?.[1];
      if (isOpen) onClose(event);
      else if (status !== undefined) refused(status, null);
      else if (!isTold) say('failed', '-');
    });
  },

  send(name) {
    current.send(readFileSync(name), { binary: !name.startsWith('t') });
  },

  fragment(name, how) {
    current.send(readFileSync(name), { binary: !name.startsWith('t'), fin: how === 'last' });
  },

  /** Sends one message again and again until it does not go to the kernel any more, or is refused. */
  async fill(name, until) {
    const data = readFileSync(name);
    if (until === 'full') {
      let count = 0;
      while (await attempt(data, { binary: !name.startsWith('t') }) === null) {
        count += 1;
        if (count === MOST_FILLED) throw new Error('the backlog does not get full');
      }
      say('filled', count, current.bufferedAmount);
      return;
    }
    for (let count = 0; count < MOST_FILLED; count += 1) {
      if (current.bufferedAmount > HIGH_WATER) {
        // What is sent is written at the end of the turn.
        await nextTurn();
        if (current.bufferedAmount > HIGH_WATER) {
          const last = { binary: !name.startsWith('t') };
          current.send(data, last, (error) => say(error ? `error fill: ${error.message}` : 'drain'));
          say('filled', count + 1, current.bufferedAmount);
          return;
        }
      }
      current.send(data, { binary: !name.startsWith('t') });
    }
    throw new Error('the backlog does not grow');
  },

  /** Sends a message of so many bytes, and tells how that went and how much waits. */
  async try(size) {
    const refusal = await attempt(Buffer.alloc(Number(size)), {});
    const waiting = current.bufferedAmount;
    // `send` does not tell.
    const how = waiting > (currentOptions.highWaterBytes ?? HIGH_WATER) ? 'BACKPRESSURE' : 'OK';
    say('tried', refusal === null ? how : 'FULL', waiting, refusal?.message ?? '');
  },

  ping(name) {
    current.ping(readFileSync(name));
  },

  pong(name) {
    current.pong(readFileSync(name));
  },

  pause() {
    current.pause();
  },

  resume() {
    current.resume();
  },

  close(code, ...reason) {
    if (code === '0') current.close();
    else current.close(Number(code), reason.join(' '));
  },

  terminate() {
    current.terminate();
  },
};

const input = createInterface({ input: process.stdin });
input.on('line', async (line) => {
  const [order, ...words] = line.split(' ');
  try {
    if (!Object.hasOwn(orders, order)) throw new Error('no such order');
    await orders[order](...words);
  } catch (error) {
    say(`error ${order}: ${error.message}`);
  }
});
input.on('close', () => process.exit(0));
