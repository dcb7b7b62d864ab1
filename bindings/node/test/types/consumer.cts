// What consumers of `@types/ws` write, as a CommonJS module.

import WebSocket = require('subject');
import http = require('node:http');

const { WebSocketServer } = WebSocket;

const server: WebSocket.Server = new WebSocket.Server({ port: 0 });
const other: WebSocket.WebSocketServer = new WebSocketServer({ port: 0 });
const client: WebSocket = new WebSocket('ws://localhost', [], { origin: 'x' } satisfies WebSocket.ClientOptions);
const named: WebSocket.WebSocket = new WebSocket.WebSocket('ws://localhost');

server.on('connection', (socket: WebSocket, request: http.IncomingMessage) => {
  socket.on('message', (data: WebSocket.RawData) => socket.send(data.toString()));
  socket.onmessage = (event: WebSocket.MessageEvent) => {
    const data: WebSocket.Data = event.data;
    socket.send(data as string);
  };
  socket.onclose = (event: WebSocket.CloseEvent) => event.code;
  socket.onerror = (event: WebSocket.ErrorEvent) => event.message;
  socket.onopen = (event: WebSocket.Event) => event.type;
  request.socket.remotePort?.toFixed();
});

const verify: WebSocket.VerifyClientCallbackSync = (info) => info.origin === 'x';
const verifyLater: WebSocket.VerifyClientCallbackAsync = (info, callback) => callback(true);
const options: WebSocket.ServerOptions = { port: 0, verifyClient: verify };
const address: WebSocket.AddressInfo | string | null = server.address();
const deflate: WebSocket.PerMessageDeflateOptions = { threshold: 10 };
const events: keyof WebSocket.WebSocketEventMap = 'open';
const once: WebSocket.EventListenerOptions = { once: true };
const finish: WebSocket.FinishRequestCallback = (request) => request.end();
const cert: WebSocket.CertMeta = 'x';
const stream = WebSocket.createWebSocketStream(client);
stream.end();

export = { address, cert, client, deflate, events, finish, named, once, options, other, verifyLater };
