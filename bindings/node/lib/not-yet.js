'use strict';
// What `ws` exports and wsabi does not have yet: here to say so.

const { notSupported } = require('./errors');

function createWebSocketStream() {
  throw notSupported('createWebSocketStream()');
}

class Receiver {
  constructor() {
    throw notSupported('The class Receiver');
  }
}

class Sender {
  constructor() {
    throw notSupported('The class Sender');
  }

  static frame() {
    throw notSupported('Sender.frame()');
  }
}

module.exports = { Receiver, Sender, createWebSocketStream };
