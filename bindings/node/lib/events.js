'use strict';
// The interface of browsers on top of EventEmitter: event objects, `addEventListener`, `onopen` …

const FOR_ATTRIBUTE = Symbol('forAttribute');
const LISTENER = Symbol('listener');

class Event {
  #type;
  #target;

  constructor(type, target = null) {
    this.#type = type;
    this.#target = target;
  }

  get type() {
    return this.#type;
  }

  get target() {
    return this.#target;
  }
}

class MessageEvent extends Event {
  #data;

  constructor(type, target, data) {
    super(type, target);
    this.#data = data;
  }

  get data() {
    return this.#data;
  }
}

class CloseEvent extends Event {
  #code;
  #reason;
  #wasClean;

  constructor(type, target, code, reason, wasClean) {
    super(type, target);
    this.#code = code;
    this.#reason = reason;
    this.#wasClean = wasClean;
  }

  get code() {
    return this.#code;
  }

  get reason() {
    return this.#reason;
  }

  get wasClean() {
    return this.#wasClean;
  }
}

class ErrorEvent extends Event {
  #error;

  constructor(type, target, error) {
    super(type, target);
    this.#error = error;
  }

  get error() {
    return this.#error;
  }

  get message() {
    return this.#error?.message ?? '';
  }
}

for (const [Class, names] of [
  [Event, ['type', 'target']],
  [MessageEvent, ['data']],
  [CloseEvent, ['code', 'reason', 'wasClean']],
  [ErrorEvent, ['error', 'message']],
]) {
  for (const name of names) Object.defineProperty(Class.prototype, name, { enumerable: true });
}

/** From the arguments of an EventEmitter's event to an event object. */
const MAKE = {
  open: (socket) => new Event('open', socket),
  message: (socket, data, isBinary) => new MessageEvent('message', socket, isBinary ? data : data.toString()),
  close: (socket, code, reason) =>
    new CloseEvent('close', socket, code, reason.toString(), socket._closeFrameReceived && socket._closeFrameSent),
  error: (socket, error) => new ErrorEvent('error', socket, error),
};

function add(socket, type, handler, isAttribute, once) {
  const make = Object.hasOwn(MAKE, type) ? MAKE[type] : undefined;
  if (make === undefined) return;
  const known = (listener) => listener[LISTENER] === handler && !listener[FOR_ATTRIBUTE];
  if (!isAttribute && socket.listeners(type).some(known)) return;
  const listener = function onEvent(...args) {
    const event = make(this, ...args);
    if (typeof handler === 'object' && handler.handleEvent) handler.handleEvent(event);
    else handler.call(this, event);
  };
  listener[FOR_ATTRIBUTE] = isAttribute;
  listener[LISTENER] = handler;
  if (once) socket.once(type, listener);
  else socket.on(type, listener);
}

const methods = {
  addEventListener(type, handler, options = {}) {
    add(this, type, handler, false, Boolean(options.once));
  },

  removeEventListener(type, handler) {
    const found = this.listeners(type)
      .find((listener) => listener[LISTENER] === handler && !listener[FOR_ATTRIBUTE]);
    if (found) this.removeListener(type, found);
  },
};

/** Gives a class the methods and the attributes. */
function addEventTarget(prototype) {
  Object.assign(prototype, methods);
  for (const type of Object.keys(MAKE)) {
    Object.defineProperty(prototype, `on${type}`, {
      enumerable: true,
      get() {
        return this.listeners(type).find((listener) => listener[FOR_ATTRIBUTE])?.[LISTENER] ?? null;
      },
      set(handler) {
        const old = this.listeners(type).find((listener) => listener[FOR_ATTRIBUTE]);
        if (old) this.removeListener(type, old);
        if (typeof handler === 'function') add(this, type, handler, true, false);
      },
    });
  }
}

module.exports = { addEventTarget };
