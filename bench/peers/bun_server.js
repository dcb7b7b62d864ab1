// An echo server: the one built into Bun, run by Bun. What a callback sends, Bun gathers by itself.
const LARGE = 128 * 1024 * 1024; // more than the load generator has in flight on one connection

const server = Bun.serve({
  hostname: '127.0.0.1',
  port: 0,
  fetch: (request, server) =>
    server.upgrade(request) ? undefined : new Response('WebSocket only\n', { status: 426 }),
  websocket: {
    perMessageDeflate: false,
    sendPings: false,
    idleTimeout: 0,
    maxPayloadLength: LARGE,
    backpressureLimit: LARGE,
    message: (ws, message) => {
      ws.send(message);
    },
  },
});

console.log(`listening on ws://127.0.0.1:${server.port}`);
