// Types of the package, compatible with those of `@types/ws`.

/// <reference types="node" />

import { EventEmitter } from 'node:events';
import {
  Agent, ClientRequest, ClientRequestArgs, IncomingMessage, OutgoingHttpHeaders, Server as HTTPServer,
} from 'node:http';
import { Server as HTTPSServer } from 'node:https';
import { createConnection } from 'node:net';
import { Duplex, DuplexOptions } from 'node:stream';
import { SecureContextOptions } from 'node:tls';
import { ZlibOptions } from 'node:zlib';

/** What `send` takes: text, bytes in any form, and what `Buffer.from` takes. */
type BufferLike =
  | string
  | number
  | ArrayBuffer
  | SharedArrayBuffer
  | ArrayBufferView
  | Blob
  | readonly any[]
  | { valueOf(): ArrayBuffer | SharedArrayBuffer | Uint8Array | readonly number[] | string }
  | { [Symbol.toPrimitive](hint: string): string };

/** What can be prepared: what `send` takes, but no Blob, which is read later. */
type PreparableData = Exclude<BufferLike, Blob>;

/** The arguments of a WebSocket's events. */
interface ClientEvents {
  open: [];
  message: [data: WebSocket.RawData, isBinary: boolean];
  /** With the option `stream`, instead of 'message'. */
  chunk: [data: Buffer, isBinary: boolean, part: WebSocket.ChunkPart];
  ping: [data: Buffer];
  pong: [data: Buffer];
  /** With the option `highWaterBytes`: what waits to be written was more than that, and is little again. */
  drain: [];
  error: [error: Error];
  close: [code: number, reason: Buffer];
  upgrade: [response: IncomingMessage];
  /** Not emitted yet. */
  redirect: [url: string, request: ClientRequest];
  /** Not emitted yet: another status than 101 is an 'error'. */
  'unexpected-response': [request: ClientRequest, response: IncomingMessage];
}

/** The arguments of a server's events. */
interface ServerEvents<Socket, Request> {
  listening: [];
  connection: [socket: Socket, request: Request];
  headers: [headers: string[], request: Request];
  wsClientError: [error: Error, socket: Duplex, request: Request];
  error: [error: Error];
  close: [];
}

declare class WebSocket extends EventEmitter {
  static readonly CONNECTING: 0;
  static readonly OPEN: 1;
  static readonly CLOSING: 2;
  static readonly CLOSED: 3;

  readonly CONNECTING: 0;
  readonly OPEN: 1;
  readonly CLOSING: 2;
  readonly CLOSED: 3;

  /** How the data of a binary message comes; `blob` works too. */
  binaryType: 'nodebuffer' | 'arraybuffer' | 'fragments';
  /** Bytes that were sent and that the kernel has not taken, with their framing. */
  readonly bufferedAmount: number;
  /** What was agreed on about compression; `null` if there is none. Never absent, but with a WebSocket of `ws`. */
  readonly deflate?: WebSocket.AgreedDeflate | null;
  /** `permessage-deflate`, or an empty string. */
  readonly extensions: string;
  readonly isPaused: boolean;
  /** The subprotocol, or an empty string. */
  readonly protocol: string;
  readonly readyState: 0 | 1 | 2 | 3;
  /** The URL of a client. */
  readonly url: string;

  onopen: ((event: WebSocket.Event) => void) | null;
  onmessage: ((event: WebSocket.MessageEvent) => void) | null;
  onerror: ((event: WebSocket.ErrorEvent) => void) | null;
  onclose: ((event: WebSocket.CloseEvent) => void) | null;

  constructor(address: null);
  constructor(address: string | URL, options?: WebSocket.ClientOptions | ClientRequestArgs);
  constructor(
    address: string | URL,
    protocols?: string | string[],
    options?: WebSocket.ClientOptions | ClientRequestArgs,
  );

  /** Makes a message that is sent to many: copied and compressed once. */
  static prepare(data: PreparableData, options?: WebSocket.PrepareOptions): WebSocket.PreparedMessage;

  /**
   * Sends a message; text if it is a string, unless `binary` says otherwise. `cb` is called when
   * the kernel has it, or with an Error: its code is `WSABI_ERR_BACKLOG_FULL` if `maxBacklogBytes`
   * leaves no room for the message, which is not sent then.
   */
  send(data: BufferLike | WebSocket.PreparedMessage, cb?: (error?: Error) => void): void;
  send(
    data: BufferLike | WebSocket.PreparedMessage,
    options: {
      binary?: boolean | undefined;
      /** Whether it is compressed, where that is agreed on. Default `true`. */
      compress?: boolean | undefined;
      /**
       * `false`: the data is not copied, and may not be changed until `cb` is called. Taking its
       * memory away, by a transfer, ends the connection.
       */
      copy?: boolean | undefined;
      fin?: boolean | undefined;
      mask?: boolean | undefined;
    },
    cb?: (error?: Error) => void,
  ): void;
  ping(data?: any, mask?: boolean, cb?: (error: Error) => void): void;
  pong(data?: any, mask?: boolean, cb?: (error: Error) => void): void;

  /** Starts the closing handshake. */
  close(code?: number, data?: string | Buffer): void;
  /** Ends the connection at once. */
  terminate(): void;
  /** Emits no 'message', 'ping' and 'pong' until `resume`, and does not read meanwhile. */
  pause(): void;
  resume(): void;

  addEventListener<K extends keyof WebSocket.WebSocketEventMap>(
    type: K,
    listener:
      | ((event: WebSocket.WebSocketEventMap[K]) => void)
      | { handleEvent(event: WebSocket.WebSocketEventMap[K]): void },
    options?: WebSocket.EventListenerOptions,
  ): void;
  removeEventListener<K extends keyof WebSocket.WebSocketEventMap>(
    type: K,
    listener:
      | ((event: WebSocket.WebSocketEventMap[K]) => void)
      | { handleEvent(event: WebSocket.WebSocketEventMap[K]): void },
  ): void;

  on<K extends keyof ClientEvents>(
    event: K,
    listener: (this: WebSocket, ...args: ClientEvents[K]) => void,
  ): this;
  on(event: string | symbol, listener: (this: WebSocket, ...args: any[]) => void): this;
  once<K extends keyof ClientEvents>(
    event: K,
    listener: (this: WebSocket, ...args: ClientEvents[K]) => void,
  ): this;
  once(event: string | symbol, listener: (this: WebSocket, ...args: any[]) => void): this;
  off<K extends keyof ClientEvents>(
    event: K,
    listener: (this: WebSocket, ...args: ClientEvents[K]) => void,
  ): this;
  off(event: string | symbol, listener: (this: WebSocket, ...args: any[]) => void): this;
  addListener<K extends keyof ClientEvents>(
    event: K,
    listener: (this: WebSocket, ...args: ClientEvents[K]) => void,
  ): this;
  addListener(event: string | symbol, listener: (this: WebSocket, ...args: any[]) => void): this;
  removeListener<K extends keyof ClientEvents>(
    event: K,
    listener: (this: WebSocket, ...args: ClientEvents[K]) => void,
  ): this;
  removeListener(event: string | symbol, listener: (this: WebSocket, ...args: any[]) => void): this;
}

declare const WebSocketAlias: typeof WebSocket;
interface WebSocketAlias extends WebSocket {}

declare namespace WebSocket {
  /** The data of a 'message' event. */
  type RawData = Buffer | ArrayBuffer | Buffer[];

  /** The data of a MessageEvent. */
  type Data = string | Buffer | ArrayBuffer | Buffer[];

  type CertMeta = string | string[] | Buffer | Buffer[];

  type VerifyClientCallbackSync<Request extends IncomingMessage = IncomingMessage> = (info: {
    origin: string;
    secure: boolean;
    req: Request;
  }) => boolean;

  type VerifyClientCallbackAsync<Request extends IncomingMessage = IncomingMessage> = (
    info: { origin: string; secure: boolean; req: Request },
    callback: (verified: boolean, code?: number, message?: string, headers?: OutgoingHttpHeaders) => void,
  ) => void;

  type FinishRequestCallback = (request: ClientRequest, websocket: WebSocket) => void;

  /** Options of both roles. */
  interface CommonOptions {
    /** `false` lets ticks and microtasks run between events. Default `true`. */
    allowSynchronousEvents?: boolean | undefined;
    /** Whether pings are answered. Default `true`. */
    autoPong?: boolean | undefined;
    /** Milliseconds that a closing handshake may take. Default 30,000. */
    closeTimeout?: number | undefined;
    /** Milliseconds that an opening handshake may take. Default 10,000. */
    handshakeTimeout?: number | undefined;
    /** Bytes waiting to be written above which 'drain' follows, if this is given. Default 1 MiB. */
    highWaterBytes?: number | undefined;
    /** Milliseconds without a byte from the peer after which a connection is closed with 1011. Default none. */
    idleTimeout?: number | undefined;
    /** Bytes waiting to be written at which 'drain' comes; only with `highWaterBytes`. Default 256 KiB. */
    lowWaterBytes?: number | undefined;
    /**
     * Bytes that may wait to be written: from `highWaterBytes` on, a message that would exceed this
     * is not sent, and its callback gets an Error with the code `WSABI_ERR_BACKLOG_FULL`. Default no
     * limit.
     */
    maxBacklogBytes?: number | undefined;
    /** Without meaning: a message grows in one buffer. */
    maxBufferedChunks?: number | undefined;
    /** Frames of one message; 0 is no limit. Default 16,384. */
    maxFragments?: number | undefined;
    /** Bytes of the opening handshake. Default 16,384. */
    maxHandshakeBytes?: number | undefined;
    /** Header fields of the opening handshake. Default 100. */
    maxHandshakeHeaders?: number | undefined;
    /** Bytes of a message; 0 is no limit. Default 100 MiB. */
    maxPayload?: number | undefined;
    /** Without meaning: of the pongs that wait only the latest is kept. */
    maxPendingAutoPongs?: number | undefined;
    /** Compression (RFC 7692). Default `true` for clients, `false` for servers. */
    perMessageDeflate?: boolean | PerMessageDeflateOptions | undefined;
    /** Milliseconds between keepalive pings. Default none. */
    pingInterval?: number | undefined;
    /** Milliseconds after a keepalive ping in which the peer has to show signs of life. Default 20,000. */
    pingTimeout?: number | undefined;
    /** Only `false` yet. */
    skipUTF8Validation?: boolean | undefined;
    /** Whether messages come in parts, as 'chunk' events, instead of whole. Default `false`. */
    stream?: boolean | undefined;
  }

  interface ClientOptions extends SecureContextOptions, CommonOptions {
    /** Not supported yet. */
    agent?: Agent | undefined;
    checkServerIdentity?(servername: string, cert: CertMeta): boolean;
    /** Not supported yet. */
    createConnection?: typeof createConnection | undefined;
    /** Not supported yet. */
    family?: number | undefined;
    /** Not supported yet. */
    finishRequest?: FinishRequestCallback | undefined;
    /** Only `false` yet. */
    followRedirects?: boolean | undefined;
    /** Not supported yet. */
    generateMask?(mask: Buffer): void;
    /** Header fields of the request. */
    headers?: { [key: string]: string } | undefined;
    host?: string | undefined;
    /** Not supported yet. */
    localAddress?: string | undefined;
    maxRedirects?: number | undefined;
    /** The value of the header Origin. */
    origin?: string | undefined;
    protocol?: string | undefined;
    /** Subprotocols to offer, unless the second argument has them. */
    protocols?: string | string[] | undefined;
    /** Only 13 yet. */
    protocolVersion?: number | undefined;
    rejectUnauthorized?: boolean | undefined;
  }

  interface PerMessageDeflateOptions {
    /** Whether the server's messages may not refer to earlier ones; `false` lets a server refuse to agree to that. */
    serverNoContextTakeover?: boolean | undefined;
    /** Whether the client's messages may not refer to earlier ones; `false` lets a client refuse to agree to that. */
    clientNoContextTakeover?: boolean | undefined;
    /** Window of what the server sends, as the logarithm of its size: 8 to 15. */
    serverMaxWindowBits?: number | undefined;
    /** Window of what the client sends: 8 to 15. */
    clientMaxWindowBits?: number | undefined;
    /** `level`, 0 to 9 or -1, and `memLevel`, 1 to 9; the others have no meaning, and `dictionary` is refused. */
    zlibDeflateOptions?:
      | (Omit<ZlibOptions, 'dictionary'> & {
          dictionary?: Buffer | Buffer[] | DataView | undefined;
        })
      | undefined;
    /** Without meaning; `dictionary` is refused. */
    zlibInflateOptions?: ZlibOptions | undefined;
    /** Bytes from which on messages are compressed, if this side keeps no context. Default 1024. */
    threshold?: number | undefined;
    /** Without meaning: messages are compressed in the order of their sends, at once. */
    concurrencyLimit?: number | undefined;
    /** How many times larger than what came a message may become (1009). Default no limit but `maxPayload`. */
    maxRatio?: number | undefined;
  }

  /** What an opening handshake has agreed on about compression. */
  interface AgreedDeflate {
    readonly serverMaxWindowBits: number;
    readonly clientMaxWindowBits: number;
    readonly serverContextTakeover: boolean;
    readonly clientContextTakeover: boolean;
  }

  /** Where a chunk is in its message. */
  interface ChunkPart {
    readonly first: boolean;
    readonly last: boolean;
  }

  interface PrepareOptions {
    /** Whether it is a binary message. Default: unless the data is a string. */
    binary?: boolean | undefined;
    /** Whether it is compressed, where that is agreed on. Default: from the `threshold` on. */
    compress?: boolean | undefined;
  }

  interface BroadcastOptions extends PrepareOptions {
    /** The client that does not get it. */
    except?: WebSocket | null | undefined;
  }

  /** A message that is made once and sent to many, by `WebSocket.prepare`. */
  interface PreparedMessage {
    readonly isBinary: boolean;
    readonly byteLength: number;
  }

  /** How many clients a broadcast has reached. */
  interface Reached {
    /** Who have accepted it. */
    sent: number;
    /** Of those, who have more than `highWaterBytes`, 1 MiB by default, to write. */
    backpressure: number;
    /** Who have refused it, because of `maxBacklogBytes` or amid a fragmented message. */
    refused: number;
  }

  interface Event {
    type: string;
    target: WebSocket;
  }

  interface ErrorEvent extends Event {
    error: any;
    message: string;
  }

  interface CloseEvent extends Event {
    wasClean: boolean;
    code: number;
    reason: string;
  }

  interface MessageEvent extends Event {
    data: Data;
  }

  interface WebSocketEventMap {
    open: Event;
    error: ErrorEvent;
    close: CloseEvent;
    message: MessageEvent;
  }

  interface EventListenerOptions {
    once?: boolean | undefined;
  }

  interface ServerOptions<
    Socket extends typeof WebSocket.WebSocket = typeof WebSocket.WebSocket,
    Request extends typeof IncomingMessage = typeof IncomingMessage,
  > extends CommonOptions {
    /** The length of the kernel's queue of connections. */
    backlog?: number | undefined;
    /** Whether the server has `clients`. Default `true`. */
    clientTracking?: boolean | undefined;
    /** Chooses the subprotocol; the default is the first that the client offers. */
    handleProtocols?: (protocols: Set<string>, request: InstanceType<Request>) => string | false;
    /** Milliseconds that `verifyClient` may take in addition to `handshakeTimeout`. Default 10,000. */
    holdTimeout?: number | undefined;
    /** The address to listen on. Default all. */
    host?: string | undefined;
    /**
     * Bytes that the connections may hold together, of unfinished messages and of what waits to be
     * written; who holds most is not read, and then closed with 1013. Default no limit.
     */
    maxBufferedBytes?: number | undefined;
    /** Opening handshakes that may be under way; a further one drops the oldest. Default 1,024. */
    maxPendingHandshakes?: number | undefined;
    /** Not supported yet. */
    noServer?: boolean | undefined;
    /** The only path that is served. Default any. */
    path?: string | undefined;
    /** The port to listen on; 0 picks one. */
    port?: number | undefined;
    /** Whether other processes may listen on the same port (`SO_REUSEPORT`). Default `false`. */
    reusePort?: boolean | undefined;
    /** Not supported yet. */
    server?: HTTPServer<Request> | HTTPSServer<Request> | undefined;
    /** Accepts or refuses a request. */
    verifyClient?:
      | VerifyClientCallbackAsync<InstanceType<Request>>
      | VerifyClientCallbackSync<InstanceType<Request>>
      | undefined;
    /** The class of the server's WebSockets. */
    WebSocket?: Socket | undefined;
  }

  interface AddressInfo {
    address: string;
    family: string;
    port: number;
  }

  class Server<
    Socket extends typeof WebSocket.WebSocket = typeof WebSocket.WebSocket,
    Request extends typeof IncomingMessage = typeof IncomingMessage,
  > extends EventEmitter {
    options: ServerOptions<Socket, Request>;
    path: string;
    clients: Set<InstanceType<Socket>>;

    constructor(options?: ServerOptions<Socket, Request>, callback?: () => void);

    address(): AddressInfo | string | null;
    /** Sends a message to all clients, or all but one. */
    broadcast(data: PreparableData | PreparedMessage, options?: BroadcastOptions): Reached;
    /** Accepts no more; 'close' and `cb` come when the last client is gone. */
    close(cb?: (error?: Error) => void): void;
    /** Not supported yet. */
    handleUpgrade(
      request: InstanceType<Request>,
      socket: Duplex,
      upgradeHead: Buffer,
      callback: (client: InstanceType<Socket>, request: InstanceType<Request>) => void,
    ): void;
    shouldHandle(request: InstanceType<Request>): boolean | Promise<boolean>;

    on<K extends keyof ServerEvents<any, any>>(
      event: K,
      listener: (this: Server<Socket>, ...args: ServerEvents<InstanceType<Socket>, InstanceType<Request>>[K]) => void,
    ): this;
    on(event: string | symbol, listener: (this: Server<Socket>, ...args: any[]) => void): this;
    once<K extends keyof ServerEvents<any, any>>(
      event: K,
      listener: (this: Server<Socket>, ...args: ServerEvents<InstanceType<Socket>, InstanceType<Request>>[K]) => void,
    ): this;
    once(event: string | symbol, listener: (this: Server<Socket>, ...args: any[]) => void): this;
    off<K extends keyof ServerEvents<any, any>>(
      event: K,
      listener: (this: Server<Socket>, ...args: ServerEvents<InstanceType<Socket>, InstanceType<Request>>[K]) => void,
    ): this;
    off(event: string | symbol, listener: (this: Server<Socket>, ...args: any[]) => void): this;
    addListener<K extends keyof ServerEvents<any, any>>(
      event: K,
      listener: (this: Server<Socket>, ...args: ServerEvents<InstanceType<Socket>, InstanceType<Request>>[K]) => void,
    ): this;
    addListener(event: string | symbol, listener: (this: Server<Socket>, ...args: any[]) => void): this;
    removeListener<K extends keyof ServerEvents<any, any>>(
      event: K,
      listener: (this: Server<Socket>, ...args: ServerEvents<InstanceType<Socket>, InstanceType<Request>>[K]) => void,
    ): this;
    removeListener(event: string | symbol, listener: (this: Server<Socket>, ...args: any[]) => void): this;
  }

  const WebSocketServer: typeof Server;
  interface WebSocketServer extends Server {}
  const WebSocket: typeof WebSocketAlias;
  interface WebSocket extends WebSocketAlias {}

  /** Not supported yet. */
  function createWebSocketStream(websocket: WebSocket, options?: DuplexOptions): Duplex;

  /** The negotiation of compression; it compresses nothing by itself. */
  class PerMessageDeflate {
    static readonly extensionName: 'permessage-deflate';
    params: Record<string, boolean | number> | null;
    constructor(options?: PerMessageDeflateOptions & { isServer?: boolean | undefined });
    /** The parameters that a client offers. */
    offer(): Record<string, boolean | number>;
    /** Agrees to an offer or an answer, as read from the header; throws if it cannot. */
    accept(configurations: Record<string, (boolean | string)[]>[]): Record<string, boolean | number>;
  }

  /** Not supported yet. */
  class Receiver {}

  /** Not supported yet. */
  class Sender {}
}

export = WebSocket;
