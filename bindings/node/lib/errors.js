'use strict';
// From the crate's errors, a number and a sentence, to Errors as users of `ws` know them.

const { getSystemErrorMap } = require('node:util');

/** The numbers of `ErrorKind` in the crate. */
const KIND = {
  INVALID: -1,
  CLOSED: -2,
  STATE: -6,
  FORKED: -8,
  NO_MEMORY: -10,
  IO: -20,
  LISTEN: -21,
  RESOLVE: -22,
  CONNECT: -23,
  LOST: -24,
  PROTOCOL: -30,
  INVALID_TEXT: -31,
  MESSAGE_TOO_BIG: -32,
  TOO_MANY_FRAGMENTS: -33,
  INVALID_DEFLATE: -34,
  OVER_BUDGET: -35,
  HANDSHAKE: -40,
  HANDSHAKE_TOO_LARGE: -41,
  REFUSED: -43,
  OVERLOADED: -44,
  HANDSHAKE_TIMEOUT: -50,
  KEEPALIVE_TIMEOUT: -51,
  IDLE_TIMEOUT: -52,
};

/** The rules of RFC 6455 by what the crate says of them: the code, and what `ws` says. */
const RULES = [
  [/reserved bit RSV1/, 'WS_ERR_UNEXPECTED_RSV_1', 'RSV1 must be clear'],
  [/reserved bit/, 'WS_ERR_UNEXPECTED_RSV_2_3', 'RSV2 and RSV3 must be clear'],
  [/opcode is reserved: (\d+)/, 'WS_ERR_INVALID_OPCODE', 'invalid opcode $1'],
  [/without a message to continue/, 'WS_ERR_INVALID_OPCODE', 'invalid opcode 0'],
  [/new message, of text/, 'WS_ERR_INVALID_OPCODE', 'invalid opcode 1'],
  [/new message, binary/, 'WS_ERR_INVALID_OPCODE', 'invalid opcode 2'],
  [/client's frame is not masked/, 'WS_ERR_EXPECTED_MASK', 'MASK must be set'],
  [/server's frame is masked/, 'WS_ERR_UNEXPECTED_MASK', 'MASK must be clear'],
  [/control frame is fragmented/, 'WS_ERR_EXPECTED_FIN', 'FIN must be set'],
  [/its length field is (\d+)/, 'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH', 'invalid payload length $1'],
  [/half a code/, 'WS_ERR_INVALID_CONTROL_PAYLOAD_LENGTH', 'invalid payload length 1'],
  [/Close frame has the code (\d+)/, 'WS_ERR_INVALID_CLOSE_CODE', 'invalid status code $1'],
];

/** What limits and times that the crate's sentences name are called here. */
const OPTIONS = {
  max_message_bytes: 'maxPayload',
  max_fragments: 'maxFragments',
  max_handshake_bytes: 'maxHandshakeBytes',
  max_handshake_headers: 'maxHandshakeHeaders',
  handshake_timeout: 'handshakeTimeout',
  hold_timeout: 'holdTimeout',
  ping_timeout: 'pingTimeout',
  idle_timeout: 'idleTimeout',
  close_timeout: 'closeTimeout',
  max_pending_handshakes: 'maxPendingHandshakes',
  max_backlog_bytes: 'maxBacklogBytes',
  max_buffered_bytes: 'maxBufferedBytes',
  max_ratio: 'maxRatio',
};

/** A sentence of the crate, in which options have their names of here. */
function inOwnWords(detail) {
  return detail.replace(/\b[a-z]+(?:_[a-z]+)+\b/g, (name) => (Object.hasOwn(OPTIONS, name) ? OPTIONS[name] : name));
}

function coded(Type, message, code) {
  const error = new Type(message);
  error.code = code;
  return error;
}

/** A message above a limit, or above what a number of JavaScript can say. */
function tooBig(detail) {
  // This limit is wsabi's own.
  if (detail.includes('max_ratio')) {
    return coded(RangeError, inOwnWords(detail), 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH');
  }
  const length = Number(/at least (\d+) bytes/.exec(detail)?.[1]);
  if (length > Number.MAX_SAFE_INTEGER) {
    return coded(
      RangeError,
      'Unsupported WebSocket frame: payload length > 2^53 - 1',
      'WS_ERR_UNSUPPORTED_DATA_PAYLOAD_LENGTH',
    );
  }
  return coded(RangeError, 'Max payload size exceeded', 'WS_ERR_UNSUPPORTED_MESSAGE_LENGTH');
}

function violation(detail) {
  for (const [pattern, code, words] of RULES) {
    const match = pattern.exec(detail);
    if (match !== null) {
      return coded(RangeError, `Invalid WebSocket frame: ${words.replace('$1', match[1])}`, code);
    }
  }
  // wsabi is stricter than `ws` in a few places, such as lengths that are not in their shortest form.
  return coded(RangeError, `Invalid WebSocket frame: ${detail}`, 'WS_ERR_PROTOCOL');
}

/** Why a connection was failed for what its peer has sent. */
function receiveError(kind, detail) {
  switch (kind) {
    case KIND.INVALID_TEXT:
      return coded(Error, 'Invalid WebSocket frame: invalid UTF-8 sequence', 'WS_ERR_INVALID_UTF8');
    case KIND.MESSAGE_TOO_BIG:
      return tooBig(detail);
    case KIND.TOO_MANY_FRAGMENTS:
      return coded(RangeError, 'Too many message fragments', 'WS_ERR_TOO_MANY_BUFFERED_PARTS');
    case KIND.PROTOCOL:
      return violation(detail);
    case KIND.INVALID_DEFLATE:
      // As zlib reports it to `ws`.
      return Object.assign(coded(Error, detail, 'Z_DATA_ERROR'), { errno: -3 });
    case KIND.OVER_BUDGET:
      return coded(Error, inOwnWords(detail), 'WSABI_ERR_OVER_BUDGET');
    default:
      return new Error(inOwnWords(detail));
  }
}

/** An error of the system, as Node's own sockets report it. */
function systemError(syscall, osError, detail, place) {
  const [code, words] = getSystemErrorMap().get(-osError) ?? [];
  if (code === undefined) return Object.assign(new Error(detail), { syscall, ...place });
  const where = place.port === undefined ? place.address : `${place.address}:${place.port}`;
  const what = syscall === 'listen' ? `${code}: ${words}` : code;
  return Object.assign(new Error(`${syscall} ${what} ${where}`), {
    errno: -osError, code, syscall, ...place,
  });
}

const BAD_EXTENSIONS = 'Invalid Sec-WebSocket-Extensions header';

/** What `ws` says of a response that is not valid, by a word of the crate's sentence. */
const RESPONSES = [
  ['"Upgrade: websocket"', 'Invalid Upgrade header'],
  ['Sec-WebSocket-Accept', 'Invalid Sec-WebSocket-Accept header'],
  ['extension', 'Server indicated an extension that was not requested'],
  ['Sec-WebSocket-Extensions', BAD_EXTENSIONS],
  ['permessage-deflate', BAD_EXTENSIONS],
];

const EXTENSION_WORDS = /extension|Sec-WebSocket-Extensions|permessage-deflate/;

const BAD_OFFER = 'Invalid or unacceptable Sec-WebSocket-Extensions header';

/** What `ws` says of a request that is not valid, by a word of the crate's sentence. */
const REQUESTS = [
  ['method', 'Invalid HTTP method'],
  ['Sec-WebSocket-Key', 'Missing or invalid Sec-WebSocket-Key header'],
  ['Sec-WebSocket-Version', 'Missing or invalid Sec-WebSocket-Version header'],
  ['Sec-WebSocket-Protocol', 'Invalid Sec-WebSocket-Protocol header'],
  ['Sec-WebSocket-Extensions', BAD_OFFER],
  ['"Upgrade: websocket"', 'Invalid Upgrade header'],
];

/** Why a server refuses a request. */
function requestError(detail) {
  return new Error(REQUESTS.find(([word]) => detail.includes(word))?.[1] ?? detail);
}

/** Why an opening handshake as a client failed, that had subprotocols and compression to offer or not. */
function handshakeError(kind, osError, detail, status, { place, isOffering, deflate }) {
  switch (kind) {
    case KIND.REFUSED:
      return new Error(`Unexpected server response: ${status}`);
    case KIND.HANDSHAKE_TIMEOUT:
      return new Error('Opening handshake has timed out');
    case KIND.LOST:
      return osError === 0
        ? coded(Error, 'socket hang up', 'ECONNRESET')
        : systemError('read', osError, detail, place);
    case KIND.CONNECT:
      return systemError('connect', osError, detail, place);
    case KIND.RESOLVE:
      return Object.assign(new Error(`getaddrinfo ENOTFOUND ${place.address}`, { cause: new Error(detail) }), {
        code: 'ENOTFOUND', errno: -3008, syscall: 'getaddrinfo', hostname: place.address,
      });
    case KIND.HANDSHAKE:
      if (detail.includes('subprotocol')) {
        return new Error(isOffering
          ? 'Server sent an invalid subprotocol'
          : 'Server sent a subprotocol but none was requested');
      }
      if (deflate === null && EXTENSION_WORDS.test(detail)) {
        return new Error('Server sent a Sec-WebSocket-Extensions header but no extension was requested');
      }
      return new Error(RESPONSES.find(([word]) => detail.includes(word))?.[1] ?? detail);
    default:
      return new Error(inOwnWords(detail));
  }
}

/** A command's error that only a wrong argument can bring about. */
function commandError(detail) {
  return new TypeError(detail);
}

/** Why a message is not sent whose connection has too much to write. */
function fullError(detail) {
  return coded(Error, inOwnWords(detail), 'WSABI_ERR_BACKLOG_FULL');
}

function notSupported(what) {
  return coded(Error, `${what} is not supported by wsabi yet`, 'WSABI_ERR_NOT_SUPPORTED');
}

module.exports = {
  BAD_EXTENSIONS, BAD_OFFER, KIND, commandError, fullError, handshakeError, inOwnWords,
  notSupported, receiveError, requestError, systemError,
};
