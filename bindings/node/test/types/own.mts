// What this package has beyond `ws`.

import WebSocket, { WebSocketServer } from 'subject';
import type { AgreedDeflate, ChunkPart, PreparedMessage, Reached } from 'subject';

const server = new WebSocketServer({
  port: 0, stream: true, maxBufferedBytes: 64 << 20, highWaterBytes: 1 << 20, lowWaterBytes: 0, maxBacklogBytes: 16 << 20, perMessageDeflate: { maxRatio: 200 },
});
const message: PreparedMessage = WebSocket.prepare('text', { binary: true, compress: false });
const length: number = message.byteLength + (message.isBinary ? 1 : 0);

server.on('connection', (socket) => {
  socket.on('chunk', (data: Buffer, isBinary: boolean, { first, last }: ChunkPart) => {
    if (first) socket.send(data, { binary: isBinary, fin: last, copy: false }, (error) => error?.message);
    const reached: Reached = server.broadcast(data, { except: socket, binary: isBinary, compress: true });
    const total: number = reached.sent + reached.backpressure + reached.refused;
    return total;
  });
  socket.on('drain', () => socket.resume());
  const agreed: AgreedDeflate | null = socket.deflate ?? null;
  if (agreed?.serverContextTakeover) agreed.clientMaxWindowBits.toFixed();
  socket.send(message, (error) => error?.message);
  socket.send(message, { compress: true });
});
server.broadcast(message);
server.broadcast(new Uint8Array(1), { except: null });
new WebSocket('ws://localhost', { stream: true, maxBacklogBytes: 1 << 20, perMessageDeflate: { maxRatio: 100, threshold: 0 } });
const offer = new WebSocket.PerMessageDeflate({ isServer: false, clientMaxWindowBits: 10 }).offer();

// @ts-expect-error: read later
WebSocket.prepare(new Blob(['x']));
// @ts-expect-error: not a WebSocket
server.broadcast('x', { except: {} });
// @ts-expect-error: made by `prepare`
message.byteLength = 1;

export { length, offer };
