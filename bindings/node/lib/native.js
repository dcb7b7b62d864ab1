'use strict';
// Between the classes and the addon: which number is which object, the records of what was
// received, and when what was sent is written.

const { markAsUntransferable } = require('node:worker_threads');
const { load } = require('./load');
const { EMPTY_BUFFER } = require('./constants');

const addon = load();
const FastBuffer = Buffer[Symbol.species];

/** Records that fit into one call; `src/batch.rs` has their form. */
const MOST_RECORDS = 1024;
const SLABS = 3;
const HEADER = 3 + SLABS;
/** The number that is 0 while nothing of the records' connection waits to be written, surely. */
const IS_WAITING = 2;
const RECORD = 3;
const records = new Uint32Array(HEADER + RECORD * MOST_RECORDS);

/** The ArrayBuffers of the records; the first ones are slabs that several calls share. */
const buffers = [null, null, null];

/** WebSockets by the index of their connection. */
const connections = [];
/** Servers by their number. */
const servers = new Map();

/** WebSockets whose send callbacks wait for a write. */
let awaiting = [];

const settled = Promise.resolve();

let commands = null;

/** Calls a listener's caller; what it throws is an uncaught exception, and this goes on. */
function guarded(call, ...args) {
  try {
    call(...args);
  } catch (error) {
    commands.report(error);
  }
}

/** What the addon calls. Nothing that an application's code throws leaves these. */
const callbacks = {
  allocate(size, isShared) {
    try {
      // Uninitialised, and not of Node's pool.
      const { buffer } = Buffer.allocUnsafeSlow(size);
      // Messages that have nothing to do with one another are in it, as in Node's pool.
      if (isShared) markAsUntransferable(buffer);
      buffers.push(buffer);
      return buffer;
    } catch {
      return undefined;
    }
  },

  messages() {
    const socket = connections[records[0]];
    const end = HEADER + RECORD * records[1];
    // One that another connection's listener has terminated tells nothing more. In its own listener
    // what was received with the message goes on, as with `ws`.
    if (socket !== undefined && !socket._isTerminated) {
      for (let at = HEADER; at < end; at += RECORD) {
        const head = records[at];
        const length = records[at + 2];
        try {
          // Throws if a listener has just detached the memory that this message shares.
          const data = length === 0
            ? EMPTY_BUFFER
            : new FastBuffer(buffers[head >>> 4], records[at + 1], length);
          socket._receive(head & 15, data);
        } catch (error) {
          commands.report(error);
        }
      }
    }
    if (buffers.length > SLABS) {
      for (let slab = 0; slab < SLABS; slab++) buffers[slab] = buffers[records[3 + slab]];
      buffers.length = SLABS;
    }
  },

  upgrade(server, index, generation, ...request) {
    try {
      return servers.get(server)?._onUpgrade(index, generation, ...request) ?? false;
    } catch (error) {
      commands.report(error);
      return true;
    }
  },

  opened(index, ...response) {
    const socket = connections[index];
    if (socket !== undefined) guarded(() => socket._onOpened(...response));
  },

  closing(index) {
    connections[index]?._onClosing();
  },

  failed(index, kind, detail) {
    const socket = connections[index];
    if (socket !== undefined) guarded(() => socket._onFailed(kind, detail));
  },

  closed(index, ...closed) {
    const socket = connections[index];
    connections[index] = undefined;
    if (socket !== undefined) socket._onClosed(...closed);
  },

  refused(server, ...refusal) {
    const target = servers.get(server);
    if (target !== undefined) guarded(() => target._onRefused(...refusal));
  },

  stopped(server) {
    const target = servers.get(server);
    servers.delete(server);
    if (target !== undefined) guarded(() => target._onStopped());
  },

  written(index) {
    connections[index]?._settleCallbacks();
  },

  drain(index) {
    const socket = connections[index];
    if (socket !== undefined) guarded(() => socket.emit('drain'));
  },

  flushed() {
    settleAwaiting();
  },
};

/** Gives the commands; the loop is made when the first WebSocket or server is. */
function start() {
  if (commands === null) {
    commands = addon.start(callbacks, records, connections);
    // No microtask runs any more after this event.
    process.once('exit', commands.writeAtOnce);
  }
  return commands;
}

function settleAwaiting() {
  const sockets = awaiting;
  awaiting = [];
  for (const socket of sockets) {
    socket._isAwaiting = false;
    socket._settleCallbacks();
  }
}

function flush() {
  commands.flush();
  if (awaiting.length > 0) settleAwaiting();
}

/** Sees to it that what was sent outside of the addon's callbacks is written when the microtasks end. */
function flushSoon() {
  settled.then(flush);
}

/** Looks after the callbacks of a WebSocket once what was sent until now is written. */
function awaitWrite(socket) {
  if (socket._isAwaiting) return;
  socket._isAwaiting = true;
  awaiting.push(socket);
}

// Who has these files loaded anew, as test runners do, has the same addon, and so the same of these.
module.exports = addon.shared ??= {
  IS_WAITING, addon, awaitWrite, connections, flushSoon, guarded, records, servers, start,
};
