'use strict';
// HTTP messages of the opening handshake as Node's own http has them.

const { IncomingMessage } = require('node:http');

function incoming(socket, minorVersion, rawHeaders) {
  const message = new IncomingMessage(socket);
  message.httpVersionMajor = 1;
  message.httpVersionMinor = minorVersion;
  message.httpVersion = `1.${minorVersion}`;
  // Undocumented, and what Node's parser calls: `headers` and its kin come from it.
  message._addHeaderLines(rawHeaders, rawHeaders.length);
  // There is no body.
  message.complete = true;
  message.push(null);
  return message;
}

/** A client's request. */
function makeRequest(socket, method, url, minorVersion, rawHeaders) {
  const request = incoming(socket, minorVersion, rawHeaders);
  request.method = method;
  request.url = url;
  request.upgrade = true;
  return request;
}

/** A server's response. */
function makeResponse(socket, statusCode, statusMessage, rawHeaders) {
  const response = incoming(socket, 1, rawHeaders);
  response.statusCode = statusCode;
  response.statusMessage = statusMessage;
  response.upgrade = true;
  return response;
}

module.exports = { makeRequest, makeResponse };
