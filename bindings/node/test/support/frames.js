'use strict';
// Frames as octets (RFC 6455 §5.2), valid or not: what a peer without a library writes and reads.

const { randomBytes } = require('node:crypto');

const OPCODE = { continuation: 0x0, text: 0x1, binary: 0x2, close: 0x8, ping: 0x9, pong: 0xa };

function lengthField(length, masked) {
  const bit = masked ? 0x80 : 0;
  if (length < 126) return Buffer.from([bit | length]);
  if (length < 65536) {
    const field = Buffer.from([bit | 126, 0, 0]);
    field.writeUInt16BE(length, 1);
    return field;
  }
  const field = Buffer.alloc(9);
  field[0] = bit | 127;
  field.writeBigUInt64BE(BigInt(length), 1);
  return field;
}

function applyMask(payload, key) {
  const masked = Buffer.allocUnsafe(payload.length);
  for (let i = 0; i < payload.length; i++) masked[i] = payload[i] ^ key[i & 3];
  return masked;
}

/**
 * One frame. `rsv` is 4, 2 and 1 for RSV1 to RSV3; `length` declares another length than the
 * payload has.
 */
function frame(opcode, payload = '', { fin = true, rsv = 0, masked = false, length } = {}) {
  const data = Buffer.from(payload);
  const parts = [
    Buffer.from([(fin ? 0x80 : 0) | (rsv << 4) | opcode]),
    lengthField(length ?? data.length, masked),
  ];
  if (masked) {
    const key = randomBytes(4);
    parts.push(key, applyMask(data, key));
  } else {
    parts.push(data);
  }
  return Buffer.concat(parts);
}

function closePayload(code, reason = '') {
  if (code === undefined) return Buffer.alloc(0);
  const number = Buffer.alloc(2);
  number.writeUInt16BE(code);
  return Buffer.concat([number, Buffer.from(reason)]);
}

/** Takes octets as they come and gives the frames that are complete. */
class FrameReader {
  #chunks = [];
  #size = 0;

  push(chunk) {
    this.#chunks.push(chunk);
    this.#size += chunk.length;
  }

  next() {
    const header = this.#header();
    if (header === null || this.#size < header.size + header.length) return null;
    const all = this.#joined();
    const key = all.subarray(header.size - 4, header.size);
    const payload = all.subarray(header.size, header.size + header.length);
    this.#keep(all.subarray(header.size + header.length));
    return {
      fin: header.fin,
      rsv: header.rsv,
      opcode: header.opcode,
      masked: header.masked,
      payload: header.masked ? applyMask(payload, key) : payload,
    };
  }

  #header() {
    if (this.#size < 2) return null;
    if (this.#chunks[0].length < 14) this.#joined();
    const bytes = this.#chunks[0];
    const masked = (bytes[1] & 0x80) !== 0;
    let length = bytes[1] & 0x7f;
    let size = 2;
    if (length === 126) {
      if (bytes.length < 4) return null;
      length = bytes.readUInt16BE(2);
      size = 4;
    } else if (length === 127) {
      if (bytes.length < 10) return null;
      length = Number(bytes.readBigUInt64BE(2));
      size = 10;
    }
    return {
      fin: (bytes[0] & 0x80) !== 0,
      rsv: (bytes[0] >> 4) & 7,
      opcode: bytes[0] & 0x0f,
      masked,
      length,
      size: masked ? size + 4 : size,
    };
  }

  #joined() {
    if (this.#chunks.length > 1) this.#chunks = [Buffer.concat(this.#chunks)];
    return this.#chunks[0];
  }

  #keep(rest) {
    this.#chunks = rest.length > 0 ? [rest] : [];
    this.#size = rest.length;
  }
}

module.exports = { OPCODE, FrameReader, closePayload, frame };
