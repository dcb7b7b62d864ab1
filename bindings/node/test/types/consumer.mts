// What consumers of `@types/ws` write, as an ES module. It compiles against `ws` with `@types/ws`
// and against this package alike; `subject` is mapped to the one or the other.

import { createServer, IncomingMessage } from 'node:http';
import type { Duplex } from 'node:stream';
import WebSocket, { createWebSocketStream, WebSocketServer, WebSocket as Named } from 'subject';
import type { ClientOptions, CloseEvent, Data, ErrorEvent, Event, MessageEvent, RawData, ServerOptions } from 'subject';

// --- clients ---------------------------------------------------------------------------

const options: ClientOptions = {
  protocolVersion: 13,
  headers: { 'X-A': 'b' },
  origin: 'https://example.com',
  handshakeTimeout: 1000,
  maxPayload: 1024,
  maxFragments: 10,
  maxBufferedChunks: 10,
  perMessageDeflate: false,
  followRedirects: false,
  maxRedirects: 3,
  skipUTF8Validation: true,
  autoPong: false,
  allowSynchronousEvents: true,
  localAddress: '127.0.0.1',
  family: 4,
  rejectUnauthorized: true,
  generateMask(mask: Buffer) {
    mask.fill(0);
  },
};

const plain = new WebSocket('ws://localhost');
const fromUrl = new WebSocket(new URL('ws://localhost'), ['a', 'b'], options);
const withOptions = new WebSocket('ws://localhost', { headers: {}, timeout: 5 });
const one: Named = new Named('ws://localhost', 'chat', options);

const states: readonly number[] = [WebSocket.CONNECTING, plain.OPEN, WebSocket.CLOSING, one.CLOSED];
const open: boolean = plain.readyState === WebSocket.OPEN;
const zero: 0 = WebSocket.CONNECTING;
const text: string = plain.url + plain.protocol + plain.extensions;
const waiting: number = plain.bufferedAmount;
const paused: boolean = plain.isPaused;
plain.binaryType = 'arraybuffer';
plain.binaryType = 'nodebuffer';
plain.binaryType = 'fragments';

plain.send('text');
plain.send(Buffer.from('x'), (error?: Error) => console.log(error?.message));
plain.send(new Uint8Array(1), { binary: true, compress: false, fin: true, mask: true }, (error) => error?.stack);
plain.send(new ArrayBuffer(1));
plain.send(new DataView(new ArrayBuffer(1)));
plain.send(new Blob(['x']));
plain.send([1, 2]);
plain.send(5);
plain.ping();
plain.ping('x', true, (error: Error) => console.log(error));
plain.pong(Buffer.from('x'));
plain.close();
plain.close(1000, 'reason');
plain.close(1000, Buffer.from('reason'));
plain.terminate();
plain.pause();
plain.resume();

// --- events ------------------------------------------------------------------------------

plain
  .on('open', () => {})
  .on('message', (data: RawData, isBinary: boolean) => {
    if (Array.isArray(data)) Buffer.concat(data);
    else if (data instanceof ArrayBuffer) data.byteLength.toFixed();
    else data.toString(isBinary ? 'hex' : 'utf8');
  })
  .on('close', function onClose(code: number, reason: Buffer) {
    this.removeAllListeners();
    console.log(code.toFixed(), reason.toString('utf8'));
  })
  .once('error', (error: Error) => error.message)
  .on('ping', (data: Buffer) => data.length)
  .on('pong', (data) => data.subarray(1))
  .on('upgrade', (response: IncomingMessage) => response.headers.upgrade)
  .on('unexpected-response', (request, response) => {
    request.destroy();
    response.resume();
  })
  .off('open', () => {})
  .on('custom', (...args: unknown[]) => args.length);

plain.onopen = (event: Event) => event.target.send('x');
plain.onmessage = ({ data, type }: MessageEvent) => {
  const copy: Data = data;
  console.log(copy, type);
};
plain.onclose = (event: CloseEvent) => [event.code, event.reason, event.wasClean];
plain.onerror = (event: ErrorEvent) => [event.error, event.message];
plain.onerror = null;
plain.addEventListener('message', (event) => event.data, { once: true });
plain.addEventListener('close', { handleEvent(event) { console.log(event.code); } });
plain.removeEventListener('open', () => {});

function size(data: WebSocket.RawData): number {
  return Array.isArray(data) ? data.length : data.byteLength;
}

// --- servers -------------------------------------------------------------------------------

const serverOptions: ServerOptions = {
  port: 0,
  host: '127.0.0.1',
  backlog: 10,
  path: '/chat',
  clientTracking: true,
  maxPayload: 1 << 20,
  perMessageDeflate: false,
  skipUTF8Validation: false,
  handleProtocols: (protocols: Set<string>, request) => (request.url ? [...protocols][0] ?? false : false),
  verifyClient: ({ origin, secure, req }: { origin: string; secure: boolean; req: IncomingMessage }) => origin.length > 0 && !secure && req.method === 'GET',
};

const later: ServerOptions = {
  server: createServer(),
  verifyClient: (info, callback) => {
    if (info.req.headers.cookie) callback(true);
    else callback(false, 401, 'no cookie', { 'WWW-Authenticate': 'Basic' });
  },
};

const server = new WebSocketServer(serverOptions, () => {
  const address = server.address();
  if (address && typeof address !== 'string') address.port.toFixed();
});

server
  .on('connection', (socket, request) => {
    socket.send(request.socket.remoteAddress ?? '');
    request.headers['x-forwarded-for'];
  })
  .on('headers', (headers: string[], request: IncomingMessage) => headers.push(request.url ?? ''))
  .on('listening', () => {})
  .on('close', () => {})
  .on('error', (error: Error) => error.message)
  .on('wsClientError', (error: Error, socket: Duplex, request: IncomingMessage) => {
    socket.end(error.message + request.url);
  });

server.clients.forEach((client) => {
  if (client.readyState === WebSocket.OPEN) client.send('x');
});
server.close((error?: Error) => error?.message);
const used: ServerOptions = server.options;

// --- compression ----------------------------------------------------------------------------

const deflate: WebSocket.PerMessageDeflateOptions = {
  serverNoContextTakeover: true,
  clientNoContextTakeover: true,
  serverMaxWindowBits: 10,
  clientMaxWindowBits: 10,
  threshold: 100,
  concurrencyLimit: 4,
  zlibDeflateOptions: { level: 3, memLevel: 7, chunkSize: 1024 },
  zlibInflateOptions: { chunkSize: 10 * 1024 },
};
const compressed: ServerOptions = { port: 0, perMessageDeflate: deflate };
const compressing: ClientOptions = { perMessageDeflate: { ...deflate, threshold: 0 } };
const agreed: boolean = plain.extensions === 'permessage-deflate';

// --- extending ------------------------------------------------------------------------------

class Player extends WebSocket {
  score = 0;
}

class Request extends IncomingMessage {
  user = '';
}

const game = new WebSocketServer<typeof Player, typeof Request>({ noServer: true, WebSocket: Player });
game.on('connection', (player, request) => {
  player.score += 1;
  player.send(request.user);
});
for (const player of game.clients) player.score.toFixed();

class Lobby extends WebSocketServer {
  override shouldHandle(request: IncomingMessage): boolean {
    return request.url === '/lobby';
  }
}

function upgrade(request: IncomingMessage, socket: Duplex, head: Buffer): void {
  new Lobby({ noServer: true }).handleUpgrade(request, socket, head, (client, same) => {
    client.send(same.url ?? '');
  });
}

const stream: Duplex = createWebSocketStream(plain, { encoding: 'utf8' });

// --- what has to stay an error ------------------------------------------------------------------

// @ts-expect-error: no address
new WebSocket();
// @ts-expect-error: nothing to send
plain.send();
// @ts-expect-error: read-only
plain.readyState = 1;
// @ts-expect-error: read-only
WebSocket.OPEN = 2;
// @ts-expect-error: no such type of data
plain.binaryType = 'text';
// @ts-expect-error: no such option
new WebSocketServer({ prot: 8080 });
// @ts-expect-error: not a number
plain.close('1000');

export { Lobby, agreed, compressed, compressing, fromUrl, later, open, options, paused, size, states, stream, text, upgrade, used, waiting, withOptions, zero };
