'use strict';
// The value of Sec-WebSocket-Extensions (RFC 6455 §9.1): a list of extensions with parameters.

/** What may be in a token (RFC 9110 §5.6.2), by character code. */
const TOKEN = new Array(128).fill(false);
for (const character of '!#$%&\'*+-.0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ^_`abcdefghijklmnopqrstuvwxyz|~') {
  TOKEN[character.charCodeAt(0)] = true;
}

/** Reads one header from left to right. */
class Scanner {
  #text;
  #at = 0;

  constructor(text) {
    this.#text = text;
  }

  get isAtEnd() {
    return this.#at === this.#text.length;
  }

  fail() {
    throw new SyntaxError(this.isAtEnd ? 'Unexpected end of input' : `Unexpected character at index ${this.#at}`);
  }

  skipSpace() {
    while (this.#text[this.#at] === ' ' || this.#text[this.#at] === '\t') this.#at += 1;
  }

  /** Takes a character, and the white space around it, if it comes next. */
  takes(character) {
    this.skipSpace();
    if (this.#text[this.#at] !== character) return false;
    this.#at += 1;
    this.skipSpace();
    return true;
  }

  token() {
    const start = this.#at;
    while (TOKEN[this.#text.charCodeAt(this.#at)]) this.#at += 1;
    if (this.#at === start) this.fail();
    return this.#text.slice(start, this.#at);
  }

  /** A token, or a quoted string that is one without its quotes. */
  value() {
    if (this.#text[this.#at] !== '"') return this.token();
    this.#at += 1;
    let value = '';
    while (this.#text[this.#at] !== '"') {
      if (this.#text[this.#at] === '\\') this.#at += 1;
      if (!TOKEN[this.#text.charCodeAt(this.#at)]) this.fail();
      value += this.#text[this.#at];
      this.#at += 1;
    }
    if (value === '') this.fail();
    this.#at += 1;
    return value;
  }
}

function push(object, name, value) {
  (object[name] ??= []).push(value);
}

/**
 * Gives for each extension a list of what was said of it: objects that have a list of values for each
 * parameter, `true` for one without a value.
 */
function parse(header) {
  const extensions = Object.create(null);
  const scanner = new Scanner(header);
  scanner.skipSpace();
  do {
    const name = scanner.token();
    const params = Object.create(null);
    while (scanner.takes(';')) {
      const param = scanner.token();
      push(params, param, scanner.takes('=') ? scanner.value() : true);
    }
    push(extensions, name, params);
  } while (scanner.takes(','));
  if (!scanner.isAtEnd) scanner.fail();
  return extensions;
}

/** Writes an extension with its parameters, of which each has one value. */
function format(name, params) {
  const written = Object.entries(params).map(([param, value]) => (value === true ? param : `${param}=${value}`));
  return [name, ...written].join('; ');
}

module.exports = { format, parse };
