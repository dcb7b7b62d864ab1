// chat-client URL NAME [--from X] [--say TEXT]... [--await N] [--once]
// Joins the chat room at URL, such as ws://127.0.0.1:9000/chat, and says what comes from stdin,
// line by line, until that ends. What is said there is described in examples/chat.md. A lost
// connection is made again, with --once not; --await leaves after N messages of others, whether or
// not stdin has ended.
'use strict';

const { once, EventEmitter } = require('node:events');
const { createInterface } = require('node:readline');
const { parseArgs } = require('node:util');
// Outside of this checkout: require('wsabi').
const WebSocket = require('../../bindings/node');

const USAGE = 'usage: chat-client URL NAME [--from X] [--say TEXT]... [--await N] [--once]';
const MAX_MESSAGE_BYTES = 4096;

/**
 * Prints a line. What others have sent cannot end it, turn its direction, nor give commands to the
 * terminal.
 */
function show(line) {
  console.log(line.replace(/[\p{Cc}\u2028-\u202E\u2066-\u2069]/gu, '\uFFFD'));
}

function label({ name, from }) {
  return from ? `${name} [${from}]` : name;
}

/** A member of the room, across its connections. Emits 'joined' and 'ended'. */
class Client extends EventEmitter {
  constructor({ url, name, from, say, count, isOnce }) {
    super();
    Object.assign(this, { url, wantedName: name, from, toSay: say, count, isOnce });
    this.isJoined = false;
    this.name = null; // In the room, once we have been there.
    this.isLeaving = false;
    this.heard = 0; // Messages of others.
    this.last = 0; // The time of the latest event.
    this.attempts = 0;
    this.timer = null;
    this.connect();
  }

  connect() {
    this.timer = null;
    this.refusal = null;
    this.error = null;
    this.socket = new WebSocket(this.url, { pingInterval: 20_000 });
    this.socket.on('open', () => this.send({ type: 'join', name: this.wantedName, from: this.from }));
    this.socket.on('message', (data) => this.receive(data));
    this.socket.on('error', (error) => {
      this.error = error; // 'close' follows.
    });
    this.socket.on('close', (code, reason) => this.onClose(code, reason.toString()));
  }

  send(message) {
    const text = JSON.stringify(message);
    if (Buffer.byteLength(text) > MAX_MESSAGE_BYTES) show('! that is too long, and was not said');
    else this.socket.send(text);
  }

  receive(data) {
    try {
      this.take(JSON.parse(data));
    } catch (error) {
      console.error(`chat-client: what the server sent makes no sense: ${error.message}`);
      this.socket.close(1003);
    }
  }

  take(event) {
    if (event.type === 'welcome') {
      this.onWelcome(event);
    } else if (event.type === 'error') {
      show(`! ${event.text}`);
      if (!this.isJoined) {
        this.refusal = event.text;
        this.socket.close(1000);
      }
    } else if (['said', 'joined', 'left'].includes(event.type)) {
      this.tell(event);
      if (event.type === 'said' && event.name !== this.name) {
        this.heard += 1;
        if (this.heard === this.count) this.leave();
      }
    }
  }

  onWelcome({ name, members, history }) {
    this.name = name;
    this.attempts = 0;
    show(`+ joined as ${name}, ${members.map((member) => member.name).join(', ')} here`);
    const seen = this.last; // Before the connection was lost.
    for (const event of history) {
      if (event.time > seen) this.tell(event);
    }
    for (const text of this.toSay.splice(0)) this.send({ type: 'say', text });
    this.isJoined = true;
    this.emit('joined');
  }

  tell(event) {
    this.last = Math.max(this.last, event.time);
    if (event.type === 'said') show(`${label(event)}: ${event.text}`);
    else show(`* ${label(event)} ${event.type}`);
  }

  onClose(code, reason) {
    this.isJoined = false;
    if (this.isLeaving) {
      this.end(0);
      return;
    }
    const why = this.refusal ?? this.error?.message ?? `${code} ${reason}`.trimEnd();
    const isRefused = /^Unexpected server response: 4\d\d$/.test(this.error?.message);
    if (this.isOnce || isRefused || (this.refusal !== null && this.name === null)) {
      show(`- disconnected: ${why}`);
      this.end(1);
      return;
    }
    const delay = Math.min(0.5 * 2 ** this.attempts, 10) * (1 + Math.random() / 2);
    this.attempts += 1;
    show(`- disconnected: ${why}; again in ${delay.toFixed(1)} s`);
    this.timer = setTimeout(() => this.connect(), delay * 1000);
  }

  /** Leaves, with a closing handshake if there is a connection. */
  leave() {
    if (this.timer !== null) {
      clearTimeout(this.timer);
      this.end(0);
    } else if (!this.isLeaving) {
      this.isLeaving = true;
      this.socket.close(1000);
    }
  }

  end(status) {
    if (this.name !== null && status === 0) show('+ left');
    this.emit('ended', status);
  }
}

/** Says the lines of stdin, each when the one before it was said. */
async function readInput(client) {
  for await (const line of createInterface({ input: process.stdin })) {
    if (!client.isJoined) await once(client, 'joined');
    if (line !== '') client.send({ type: 'say', text: line });
  }
  if (!client.isJoined) await once(client, 'joined');
  if (client.count === null) client.leave();
}

function parse() {
  const { positionals, values } = parseArgs({
    allowPositionals: true,
    options: {
      from: { type: 'string', default: 'node' },
      say: { type: 'string', multiple: true, default: [] },
      await: { type: 'string' },
      once: { type: 'boolean', default: false },
    },
  });
  if (positionals.length !== 2) throw new Error('expected two arguments, URL and NAME');
  const [url, name] = positionals;
  const count = values.await === undefined ? null : Number(values.await);
  if (count !== null && !(Number.isInteger(count) && count > 0)) {
    throw new Error(`--await is ${values.await}; expected a number of messages`);
  }
  return { url, name, from: values.from, say: values.say, count, isOnce: values.once };
}

let options;
try {
  options = parse();
} catch (error) {
  console.error(`chat-client: ${error.message}\n${USAGE}`);
  process.exit(2);
}
try {
  const client = new Client(options);
  // What is left of stdin is nobody's any more.
  client.on('ended', (status) => process.exit(status));
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => client.leave());
  readInput(client);
} catch (error) {
  console.error(`chat-client: ${error.message}`);
  process.exitCode = 1;
}
