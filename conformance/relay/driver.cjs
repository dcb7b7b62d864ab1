// driver: Node.js' part behind the relay; the first argument is the module. It reads orders from
// stdin and writes events to stdout, one a line; README.md lists them.
'use strict';

const { createInterface } = require('node:readline');
const { crc32 } = require('node:zlib');

const WebSocket = require(process.argv[2]);

const TAG = 16;
const LARGEST = 200_000;
const OFFSETS = 4096;
const MOST_ATTEMPTS = 100;
/** What of bufferedAmount this driver takes for backpressure: `send` does not tell. */
const HIGH_WATER = 64 << 10;
const PATIENCE = { closeTimeout: 20_000 };
const HASTE = { pingInterval: 500, pingTimeout: 2000, closeTimeout: 1000, handshakeTimeout: 3000 };

const PATTERN = Buffer.alloc(OFFSETS + LARGEST);
for (let j = 0; j < PATTERN.length; j += 1) {
  PATTERN[j] = 33 + ((Math.imul(j, 0x9e3779b1) >>> 16) % 94);
}

const tasks = new Map();

function say(...words) {
  process.stdout.write(`${words.join(' ')}\n`);
}

function hex(number, digits) {
  return number.toString(16).padStart(digits, '0');
}

function readMessage(word) {
  const [, size, kind, fragments] = /^(\d+)([tb])(\d+)$/.exec(word);
  return { size: Number(size), isText: kind === 't', fragments: Number(fragments) };
}

/** What one side is to do, over one connection or, in a session, as many as it takes. */
class Task {
  constructor(isClient, words) {
    const [number, port, kind, haste, messages, turn, after, pause, close, want] = words;
    this.isClient = isClient;
    this.number = Number(number);
    this.port = port;
    this.isSession = kind === 'session';
    this.options = haste === 'hasty' ? HASTE : PATIENCE;
    this.messages = messages === '-' ? [] : messages.split(',').map(readMessage);
    this.turn = Number(turn);
    this.pauseAfter = Number(after);
    this.pause = Number(pause);
    this.close = close;
    this.want = Number(want);
    this.tries = 0;
    this.acknowledged = 0;
    this.duplicates = 0;
    this.told = [];
    this.current = null;
    this.attempts = [];
  }

  content(index, size) {
    const tag = Buffer.from(`${hex(this.number, 8)}${this.isClient ? 'c' : 's'}${hex(index, 7)}`);
    const begin = (index * 31 + this.number * 17) % OFFSETS;
    const rest = PATTERN.subarray(begin, begin + Math.max(0, size - TAG));
    const content = [tag.subarray(0, size), rest];
    return Buffer.concat(this.isSession ? [Buffer.from(`D${hex(index, 8)} `), ...content] : content);
  }

  tell(data, isBinary) {
    this.told.push(`${isBinary ? 'b' : 't'}${hex(crc32(data), 8)}`);
  }

  words() {
    return this.told.join(',') || '-';
  }

  report() {
    say('session', this.number, `attempts=${this.tries}`, `duplicates=${this.duplicates}`,
      `told=${this.words()}`);
  }

  start() {
    const name = this.isSession ? `${this.number}.${this.tries}` : `${this.number}`;
    this.tries += 1;
    const socket = new WebSocket(`ws://127.0.0.1:${this.port}/${name}`, this.options);
    const attempt = new Attempt(this, name, socket);
    socket.on('open', () => attempt.onOpen());
  }
}

/** A connection, or an attempt at one. */
class Attempt {
  constructor(task, name, socket) {
    Object.assign(this, { task, name, socket });
    this.isOpen = false;
    this.hasEnded = false;
    this.isClosing = false;
    this.isBlocked = false;
    this.isPaused = false;
    this.isScheduled = false;
    this.ackDue = false;
    this.next = 0;
    this.accepted = 0;
    this.handed = 0;
    this.dropped = 0;
    this.received = 0;
    task.attempts.push(this);
    socket.on('message', (data, isBinary) => this.onMessage(data, isBinary));
    socket.on('error', () => this.check('error')); // 'close' follows
    socket.addEventListener('close', (event) => this.onClose(event));
  }

  check(event) {
    if (this.hasEnded) say('late', this.name, event);
  }

  // Sending

  isReady() {
    return this.isOpen && !this.hasEnded && !this.isClosing && !this.isBlocked
      && this.socket.readyState === WebSocket.OPEN
      && (this.next < this.task.messages.length || this.ackDue);
  }

  /** Sends a message, in fragments; its callback is its outcome. */
  send(content, isText, fragments) {
    const number = this.accepted;
    this.accepted += 1;
    for (let piece = 0; piece < fragments; piece += 1) {
      const begin = Math.floor((content.length * piece) / fragments);
      const end = Math.floor((content.length * (piece + 1)) / fragments);
      const fin = piece + 1 === fragments;
      const settle = fin ? (error) => this.onOutcome(number, error) : undefined;
      this.socket.send(content.subarray(begin, end), { binary: !isText, fin }, settle);
    }
    if (this.socket.bufferedAmount > HIGH_WATER) this.isBlocked = true;
  }

  onOutcome(number, error) {
    if (error?.message.startsWith('WebSocket is not open')) {
      // Refused: the end was there before the message.
      this.accepted -= 1;
      return;
    }
    this.check('outcome');
    if (number !== this.handed + this.dropped) {
      say(`error outcomes of ${this.name}: that of ${number} comes after ${this.handed + this.dropped} others`);
    }
    if (error) {
      this.dropped += 1;
      return;
    }
    if (this.dropped > 0) say(`error outcomes of ${this.name}: ${number} is written, and one before it is not`);
    this.handed += 1;
    if (this.isBlocked && this.socket.bufferedAmount <= HIGH_WATER / 4) {
      this.isBlocked = false;
      this.pump();
    }
  }

  acknowledge() {
    if (!this.ackDue || !this.isReady()) return;
    this.ackDue = false;
    this.send(Buffer.from(`A${this.task.told.length}`), true, 1);
  }

  pump() {
    const { task } = this;
    this.acknowledge();
    for (let sent = 0; sent < task.turn && this.isReady() && this.next < task.messages.length; sent += 1) {
      const { size, isText, fragments } = task.messages[this.next];
      const content = task.content(this.next, size);
      this.next += 1;
      this.send(content, isText, fragments);
    }
    this.acknowledge();
    this.closeIfDone();
    if (this.isReady() && !this.isScheduled) {
      this.isScheduled = true;
      setTimeout(() => {
        this.isScheduled = false;
        if (this.isReady()) this.pump();
      }, 1);
    }
  }

  closeIfDone() {
    const { task } = this;
    const own = this.next === task.messages.length;
    const everything = own && task.told.length >= task.want;
    let isDone = task.close === 'own' ? own : task.close === 'all' && everything;
    if (task.isSession) {
      isDone = task.isClient && everything && task.acknowledged === task.messages.length;
    }
    if (!this.isOpen || this.isClosing || !isDone) return;
    this.isClosing = true;
    this.socket.close(1000, 'done');
  }

  // Events

  onOpen() {
    const { task } = this;
    this.check('open');
    this.isOpen = true;
    if (task.isSession) {
      task.current?.socket.terminate();
      task.current = this;
      // Everything after the last acknowledged message once more.
      this.next = task.acknowledged;
      this.ackDue = true;
    }
    say('open', this.name);
    this.pauseIfPlanned();
    this.pump();
  }

  pauseIfPlanned() {
    if (this.received !== this.task.pauseAfter || this.isPaused) return;
    this.isPaused = true;
    this.socket.pause();
    setTimeout(() => this.socket.resume(), this.task.pause);
  }

  onMessage(data, isBinary) {
    this.check('message');
    this.received += 1;
    if (this.task.isSession) this.receiveInSession(data, isBinary);
    else this.task.tell(data, isBinary);
    this.pauseIfPlanned();
    this.pump();
  }

  /** A message of a session: an acknowledgement, or one with its number. */
  receiveInSession(data, isBinary) {
    const { task } = this;
    if (data[0] === 0x41) {
      task.acknowledged = Math.max(task.acknowledged, Number(data.toString('latin1', 1)));
      return;
    }
    const index = Number.parseInt(data.toString('latin1', 1, 9), 16);
    const known = task.told.length;
    this.ackDue = true;
    if (index > known) say(`error message ${index} of ${this.name} came before message ${known}`);
    else if (index < known) task.duplicates += 1;
    else task.tell(data.subarray(10), isBinary);
  }

  onClose({ code, wasClean }) {
    const { task } = this;
    this.check('close');
    this.hasEnded = true;
    say('close', this.name, `open=${Number(this.isOpen)}`, `clean=${Number(wasClean)}`, `code=${code}`,
      `kind=${wasClean ? 'OK' : '-'}`, `accepted=${this.accepted}`, `handed=${this.handed}`,
      `dropped=${this.dropped}`, `received=${this.received}`,
      `told=${task.isSession ? '-' : task.words()}`);
    if (task.current === this) task.current = null;
    if (!task.isSession || !task.isClient) return;
    if (wasClean && task.told.length === task.want && task.acknowledged === task.messages.length) {
      task.report();
    } else if (task.tries === MOST_ATTEMPTS) {
      say('error session: too many attempts');
    } else {
      task.start();
    }
  }
}

const servers = [];

const orders = {
  listen() {
    for (const [name, options] of [['patient', PATIENCE], ['hasty', HASTE]]) {
      const server = new WebSocket.WebSocketServer({ ...options, host: '127.0.0.1', port: 0 });
      servers.push(server);
      server.on('listening', () => say('listening', name, server.address().port));
      server.on('error', (error) => say('error listen:', error.message));
      server.on('connection', (socket, request) => {
        const attempt = new Attempt(tasks.get(Number.parseInt(request.url.slice(1), 10)),
          request.url.slice(1), socket);
        attempt.task.tries += 1;
        attempt.onOpen();
      });
    }
  },

  connect(...words) {
    const task = new Task(true, words);
    tasks.set(task.number, task);
    task.start();
  },

  expect(...words) {
    const task = new Task(false, words);
    tasks.set(task.number, task);
    say('expected', task.number);
  },

  report(number) {
    tasks.get(Number(number)).report();
  },

  forget(number) {
    for (const { hasEnded, name } of tasks.get(Number(number)).attempts) {
      if (!hasEnded) say('error forget:', name, 'has not ended');
    }
    tasks.delete(Number(number));
  },

  stop() {
    let left = servers.length;
    if (left === 0) say('stopped');
    for (const server of servers) {
      for (const socket of server.clients) socket.close(1001);
      server.close(() => {
        left -= 1;
        if (left === 0) say('stopped');
      });
    }
  },
};

const input = createInterface({ input: process.stdin });
input.on('line', (line) => {
  const [order, ...words] = line.split(' ');
  try {
    if (!Object.hasOwn(orders, order)) throw new Error('no such order');
    orders[order](...words);
  } catch (error) {
    say(`error ${order}: ${error.message}`);
  }
});
input.on('close', () => process.exit(0));
