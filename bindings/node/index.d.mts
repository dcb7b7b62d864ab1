// Types of the package for `import`: those of index.d.ts under the names that wrapper.mjs exports.

import WebSocket = require('./index.js');

export import AddressInfo = WebSocket.AddressInfo;
export import AgreedDeflate = WebSocket.AgreedDeflate;
export import BroadcastOptions = WebSocket.BroadcastOptions;
export import CertMeta = WebSocket.CertMeta;
export import ChunkPart = WebSocket.ChunkPart;
export import ClientOptions = WebSocket.ClientOptions;
export import CloseEvent = WebSocket.CloseEvent;
export import CommonOptions = WebSocket.CommonOptions;
export import Data = WebSocket.Data;
export import ErrorEvent = WebSocket.ErrorEvent;
export import Event = WebSocket.Event;
export import EventListenerOptions = WebSocket.EventListenerOptions;
export import FinishRequestCallback = WebSocket.FinishRequestCallback;
export import MessageEvent = WebSocket.MessageEvent;
export import PerMessageDeflate = WebSocket.PerMessageDeflate;
export import PerMessageDeflateOptions = WebSocket.PerMessageDeflateOptions;
export import PrepareOptions = WebSocket.PrepareOptions;
export import PreparedMessage = WebSocket.PreparedMessage;
export import RawData = WebSocket.RawData;
export import Reached = WebSocket.Reached;
export import Receiver = WebSocket.Receiver;
export import Sender = WebSocket.Sender;
export import Server = WebSocket.Server;
export import ServerOptions = WebSocket.ServerOptions;
export import VerifyClientCallbackAsync = WebSocket.VerifyClientCallbackAsync;
export import VerifyClientCallbackSync = WebSocket.VerifyClientCallbackSync;
export import WebSocketEventMap = WebSocket.WebSocketEventMap;
export import WebSocketServer = WebSocket.WebSocketServer;
export import createWebSocketStream = WebSocket.createWebSocketStream;

export { WebSocket };
export default WebSocket;
