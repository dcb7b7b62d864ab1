// An echo server: npm's `ws`, which takes `bufferutil` when it finds it. NODE_PATH names the
// folder that holds them.
'use strict';

const { WebSocketServer } = require('ws');

const server = new WebSocketServer({
  host: '127.0.0.1',
  port: 0,
  perMessageDeflate: false,
  clientTracking: false,
});

server.on('connection', (ws) => {
  ws.on('error', (error) => console.error(error));
  ws.on('message', (data, isBinary) => ws.send(data, { binary: isBinary }));
});
server.on('listening', () => console.log(`listening on ws://127.0.0.1:${server.address().port}`));
