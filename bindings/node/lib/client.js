'use strict';
// From the arguments of `new WebSocket` to what the addon connects with; everything is checked here,
// with the errors of `ws` and of Node's http.

const { validateHeaderName, validateHeaderValue } = require('node:http');
const querystring = require('node:querystring');
const { deflateOf } = require('./deflate-options');
const { notSupported } = require('./errors');
const { DEFAULTS, limitsOf, refuseNotYet } = require('./options');
const { PerMessageDeflate } = require('./permessage-deflate');

const TOKEN = /^[!#$%&'*+\-.0-9A-Z^_`|a-z~]+$/;
/** Fields that an opening handshake has in any case; `ws` puts its own in the place of these. */
const OWN_FIELDS = new Set(['connection', 'upgrade', 'sec-websocket-key', 'sec-websocket-version']);

function parseUrl(address) {
  let url;
  if (address instanceof URL) {
    url = address;
  } else {
    try {
      url = new URL(address);
    } catch {
      throw new SyntaxError(`Invalid URL: ${address}`);
    }
  }
  if (url.protocol === 'http:' || url.protocol === 'https:') {
    url = new URL(url);
    url.protocol = url.protocol === 'http:' ? 'ws:' : 'wss:';
  }
  if (!['ws:', 'wss:', 'ws+unix:'].includes(url.protocol)) {
    throw new SyntaxError('The URL\'s protocol must be one of "ws:", "wss:", "http:", "https:", or "ws+unix:"');
  }
  if (url.protocol === 'ws+unix:' && url.pathname === '') {
    throw new SyntaxError("The URL's pathname is empty");
  }
  if (url.hash !== '') throw new SyntaxError('The URL contains a fragment identifier');
  if (url.protocol === 'wss:') throw notSupported('The URL scheme "wss:"');
  return url;
}

function checkSubprotocols(subprotocols) {
  const seen = new Set();
  for (const name of subprotocols) {
    if (typeof name !== 'string' || !TOKEN.test(name) || seen.has(name)) {
      throw new SyntaxError('An invalid or duplicated subprotocol was specified');
    }
    seen.add(name);
  }
}

/** Header fields as names and values in turn, and the value of Origin, which is apart. */
function fieldsOf(options, url) {
  const fields = [];
  let origin;
  let isAuthorized = false;
  for (const [name, given] of Object.entries(options.headers ?? {})) {
    validateHeaderName(name);
    for (const value of Array.isArray(given) ? given : [given]) {
      validateHeaderValue(name, value);
      const lower = name.toLowerCase();
      if (OWN_FIELDS.has(lower)) continue;
      if (lower === 'host' || lower.startsWith('sec-websocket-')) throw notSupported(`The header "${name}"`);
      if (lower === 'origin') origin = String(value).trim();
      else fields.push(name, String(value).trim());
      isAuthorized ||= lower === 'authorization';
    }
  }
  if (options.origin) {
    validateHeaderValue('Origin', options.origin);
    origin = String(options.origin).trim();
  }
  let { auth } = options;
  if (url.username !== '' || url.password !== '') {
    auth = `${querystring.unescape(url.username)}:${querystring.unescape(url.password)}`;
  }
  if (auth && !isAuthorized) fields.push('Authorization', `Basic ${Buffer.from(auth).toString('base64')}`);
  return { fields, origin };
}

/** Where to: a URL as the crate reads it, the path of a unix socket, and the place for errors. */
function targetOf(url) {
  const resource = url.pathname + url.search;
  if (url.protocol !== 'ws+unix:') {
    const place = { address: url.hostname.replace(/^\[|\]$/g, ''), port: Number(url.port || 80) };
    return { url: `ws://${url.host}${resource}`, unixPath: undefined, place };
  }
  const colon = resource.indexOf(':');
  const unixPath = colon === -1 ? resource : resource.slice(0, colon);
  const path = colon === -1 ? '/' : resource.slice(colon + 1);
  return {
    url: `ws://localhost${path.startsWith('/') ? '' : '/'}${path}`,
    unixPath,
    place: { address: unixPath },
  };
}

/** Everything about a client that its constructor was given. */
function clientOf(address, subprotocols, given) {
  const options = {
    protocolVersion: 13, maxRedirects: 10, perMessageDeflate: true, ...DEFAULTS, ...given,
  };
  if (options.protocolVersion !== 8 && options.protocolVersion !== 13) {
    throw new RangeError(`Unsupported protocol version: ${options.protocolVersion} (supported versions: 8, 13)`);
  }
  const url = parseUrl(address);
  if (options.protocolVersion === 8) throw notSupported('The option "protocolVersion" with the value 8');
  checkSubprotocols(subprotocols);
  refuseNotYet('client', options);
  const compression = deflateOf(options.perMessageDeflate);
  const deflate = compression && new PerMessageDeflate(compression.options);
  const { fields, origin } = fieldsOf(options, url);
  const { place, ...target } = targetOf(url);
  return {
    href: url.href,
    place,
    options,
    deflate,
    isDeflateOff: compression !== null && compression.isOff,
    connecting: {
      ...target,
      subprotocols,
      origin,
      headers: fields,
      deflateOffer: deflate?._header(),
      limits: limitsOf(options, compression),
    },
  };
}

module.exports = { clientOf };
