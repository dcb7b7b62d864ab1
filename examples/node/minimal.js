// An echo server in its shortest form.
//
// npm install wsabi && node minimal.js 8080
'use strict';

// Outside of this checkout: require('wsabi').
const { WebSocketServer } = require('../../bindings/node');

const port = Number(process.argv[2] ?? 8080);
const server = new WebSocketServer({ host: '127.0.0.1', port });

server.on('connection', (socket) => {
  socket.on('message', (data, isBinary) => socket.send(data, { binary: isBinary }));
});
server.on('listening', () => console.log(`listening on ws://127.0.0.1:${server.address().port}`));
