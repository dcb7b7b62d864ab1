'use strict';
// permessage-deflate (RFC 7692) as the options of `ws` say it: what is offered, what is accepted, and
// which messages are compressed. Compressing itself is the addon's.

const { notSupported } = require('./errors');
const { format, parse } = require('./extension');

const NAME = 'permessage-deflate';
/** Where `ws` begins to compress, in bytes. */
const THRESHOLD = 1024;

/** What may be said of a parameter. */
function normalized(name, value, isServer) {
  switch (name) {
    case 'client_max_window_bits':
      if (value === true && isServer) return true;
      break;
    case 'server_max_window_bits':
      break;
    case 'client_no_context_takeover':
    case 'server_no_context_takeover':
      if (value === true) return true;
      throw new TypeError(`Invalid value for parameter "${name}": ${value}`);
    default:
      throw new Error(`Unknown parameter "${name}"`);
  }
  const bits = value === true ? NaN : Number(value);
  if (!Number.isInteger(bits) || bits < 8 || bits > 15) {
    throw new TypeError(`Invalid value for parameter "${name}": ${value}`);
  }
  return bits;
}

/** The negotiation of one connection. */
class PerMessageDeflate {
  constructor(options) {
    this._options = options || {};
    this._isServer = Boolean(this._options.isServer);
    this._threshold = this._options.threshold === undefined ? THRESHOLD : this._options.threshold;
    /** What was agreed on. */
    this.params = null;
  }

  static get extensionName() {
    return NAME;
  }

  /** The parameters that a client offers. */
  offer() {
    const options = this._options;
    const params = {};
    if (options.serverNoContextTakeover) params.server_no_context_takeover = true;
    if (options.clientNoContextTakeover) params.client_no_context_takeover = true;
    if (options.serverMaxWindowBits) params.server_max_window_bits = options.serverMaxWindowBits;
    const bits = options.clientMaxWindowBits;
    if (bits || bits === undefined || bits === null) params.client_max_window_bits = bits || true;
    return params;
  }

  /** Agrees to one of a client's offers, or to a server's answer; throws if it cannot. */
  accept(configurations) {
    const read = configurations.map((configuration) => {
      const params = {};
      for (const [name, values] of Object.entries(configuration)) {
        if (values.length > 1) throw new Error(`Parameter "${name}" must have only a single value`);
        params[name] = normalized(name, values[0], this._isServer);
      }
      return params;
    });
    this.params = this._isServer ? this.acceptAsServer(read) : this.acceptAsClient(read);
    return this.params;
  }

  acceptAsServer(offers) {
    const options = this._options;
    const accepted = offers.find((offer) => this.#isAcceptable(offer));
    if (accepted === undefined) throw new Error('None of the extension offers can be accepted');
    if (options.serverNoContextTakeover) accepted.server_no_context_takeover = true;
    if (options.clientNoContextTakeover) accepted.client_no_context_takeover = true;
    if (typeof options.serverMaxWindowBits === 'number') {
      accepted.server_max_window_bits = options.serverMaxWindowBits;
    }
    if (typeof options.clientMaxWindowBits === 'number') {
      accepted.client_max_window_bits = options.clientMaxWindowBits;
    } else if (accepted.client_max_window_bits === true || options.clientMaxWindowBits === false) {
      delete accepted.client_max_window_bits;
    }
    return accepted;
  }

  #isAcceptable(offer) {
    const { clientMaxWindowBits, serverMaxWindowBits, serverNoContextTakeover } = this._options;
    if (offer.server_no_context_takeover && serverNoContextTakeover === false) return false;
    if (offer.server_max_window_bits && (serverMaxWindowBits === false
      || (typeof serverMaxWindowBits === 'number' && serverMaxWindowBits > offer.server_max_window_bits))) {
      return false;
    }
    // A client that does not offer it cannot be told to limit its window (RFC 7692 §7.1.2.2).
    if (typeof clientMaxWindowBits !== 'number') return true;
    const bits = offer.client_max_window_bits;
    return bits === true || (bits !== undefined && clientMaxWindowBits <= bits);
  }

  acceptAsClient([answer]) {
    const { clientMaxWindowBits, clientNoContextTakeover } = this._options;
    if (answer.client_no_context_takeover && clientNoContextTakeover === false) {
      throw new Error('Unexpected parameter "client_no_context_takeover"');
    }
    const bits = answer.client_max_window_bits;
    if (bits === undefined) {
      if (typeof clientMaxWindowBits === 'number') answer.client_max_window_bits = clientMaxWindowBits;
    } else if (clientMaxWindowBits === false || (typeof clientMaxWindowBits === 'number' && bits > clientMaxWindowBits)) {
      throw new Error('Unexpected or invalid parameter "client_max_window_bits"');
    }
    return answer;
  }

  compress() {
    throw notSupported('PerMessageDeflate.compress()');
  }

  decompress() {
    throw notSupported('PerMessageDeflate.decompress()');
  }

  cleanup() {}

  /** The header that offers it, or answers with what was agreed on. */
  _header() {
    return format(NAME, this.params ?? this.offer());
  }

  /** What was agreed on, in the words of the other languages. */
  _agreed() {
    const { params } = this;
    return Object.freeze({
      serverMaxWindowBits: params.server_max_window_bits ?? 15,
      clientMaxWindowBits: params.client_max_window_bits ?? 15,
      serverContextTakeover: !params.server_no_context_takeover,
      clientContextTakeover: !params.client_no_context_takeover,
    });
  }
}

/** How one side of a connection decides which of its messages are compressed. */
class Compression {
  #isOff;
  #keepsContext;
  #threshold;

  /** `isOff` tells that this side compresses nothing. */
  constructor(negotiated, isOff) {
    const agreed = this.agreed = negotiated._agreed();
    this.#isOff = isOff;
    this.#keepsContext = negotiated._isServer ? agreed.serverContextTakeover : agreed.clientContextTakeover;
    this.#threshold = negotiated._threshold;
  }

  /** As with `ws`, a side that keeps its context compresses everything; `lengthOf` tells lengths. */
  applies(data, lengthOf) {
    if (this.#isOff || this.#keepsContext) return !this.#isOff;
    if (typeof data !== 'string') return lengthOf(data) >= this.#threshold;
    // A character has one byte at least and three at most.
    return data.length >= this.#threshold
      || (data.length * 3 >= this.#threshold && lengthOf(data) >= this.#threshold);
  }
}

/** Agrees to a server's answer, or to one of a client's offers, as the header has it. */
function negotiate(deflate, header) {
  const said = parse(header)[NAME];
  if (said === undefined) return false;
  deflate.accept(said);
  return true;
}

module.exports = { Compression, PerMessageDeflate, THRESHOLD, negotiate };
