// The package for `import`.

import WebSocket from './index.js';

export const {
  PerMessageDeflate, Receiver, Sender, Server, WebSocketServer, createWebSocketStream,
} = WebSocket;
export { WebSocket };
export default WebSocket;
