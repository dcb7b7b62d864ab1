// demo-client URL NAME
// Sends two text messages and a binary one to an echo server, one after the other, and says under
// NAME what was sent and what came back.
'use strict';

// Outside of this checkout: require('wsabi').
const WebSocket = require('../../bindings/node');

const LINES = ['Hello from Node.js', 'Grüße, 世界 🌍', Buffer.from([0x00, 0x01, 0xfe, 0xff])];

function shown(line) {
  return typeof line === 'string' ? `"${line}"` : `${line.length} bytes`;
}

function isSame(line, data) {
  return typeof line === 'string' ? line === data : Buffer.isBuffer(data) && data.equals(line);
}

function talk(url, name) {
  let echoed = 0;
  // No byte from the server for 10 s ends the connection.
  const socket = new WebSocket(url, { idleTimeout: 10_000 });

  const sendNext = () => {
    if (echoed === LINES.length) {
      socket.close(1000);
      return;
    }
    console.log(`${name} -> ${shown(LINES[echoed])}`);
    socket.send(LINES[echoed]);
  };

  socket.on('open', sendNext);
  socket.on('message', (data, isBinary) => {
    const line = isBinary ? data : data.toString();
    console.log(`${name} <- ${shown(line)}`);
    if (!isSame(LINES[echoed], line)) {
      console.error('demo-client: that is not what was sent');
      socket.terminate();
      return;
    }
    echoed += 1;
    sendNext();
  });
  socket.on('error', (error) => console.error(`demo-client: ${error.message}`));
  socket.on('close', (code, reason) => {
    if (code === 1000 && echoed === LINES.length) return;
    console.error(`demo-client: closed with ${code} ${reason}`.trimEnd());
    process.exitCode = 1;
  });
}

const [url, name, ...rest] = process.argv.slice(2);
if (name === undefined || rest.length > 0) {
  console.error('usage: demo-client URL NAME');
  process.exit(2);
}
try {
  talk(url, name);
} catch (error) {
  console.error(`demo-client: ${error.message}`);
  process.exitCode = 1;
}
