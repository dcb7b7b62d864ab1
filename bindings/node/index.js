'use strict';
// The package for `require`: the class WebSocket, which carries the others, as with `ws`.

const notYet = require('./lib/not-yet');
const { PerMessageDeflate } = require('./lib/permessage-deflate');
const WebSocket = require('./lib/websocket');
const WebSocketServer = require('./lib/websocket-server');

WebSocket.WebSocket = WebSocket;
WebSocket.WebSocketServer = WebSocketServer;
WebSocket.Server = WebSocketServer;
WebSocket.createWebSocketStream = notYet.createWebSocketStream;
WebSocket.PerMessageDeflate = PerMessageDeflate;
WebSocket.Receiver = notYet.Receiver;
WebSocket.Sender = notYet.Sender;

module.exports = WebSocket;
