/* wsabi: WebSocket (RFC 6455) for clients and servers, with one file descriptor.
 *
 * Generated from ffi/src by cbindgen; `make header` does it. SPDX: MIT OR Apache-2.0
 *
 * Rules that hold for everything here
 * - A function returns WSABI_OK, something positive to know, or a negative error; then
 *   wsabi_last_error() says for this thread what was wrong. Outputs come last and are written only
 *   on success, if nothing else is said.
 * - What is to be freed are loops and prepared messages, each by its own function; nothing else that
 *   is returned.
 * - Option structs begin with struct_size, which is to be set to their sizeof; zeros are defaults.
 *   Initialise them with {0}. Everything in them is copied.
 * - (data, len) views that a callback gets live until it returns.
 * - A loop belongs to one thread. Functions with "Thread: any" may be called from every other too,
 *   until the loop is freed.
 * - Callbacks come only inside wsabi_loop_dispatch, _poll, _run and _free, never under a lock, and
 *   must not throw or unwind. Inside them every function may be called but _dispatch, _poll, _run
 *   and _timeout_ms. The log callback and free hooks may come inside any call, and may call nothing.
 * - A NULL where a pointer is needed, a number that is stale, a wrong thread: each is an error,
 *   never undefined. Pointers that are not NULL must be valid.
 * - No signal handlers, no threads but for resolving names, no SIGPIPE. After fork() the child's
 *   calls answer WSABI_E_FORKED.
 */


#ifndef WSABI_H
#define WSABI_H

#include <stddef.h>
#include <stdint.h>

/**
 * Success.
 */
#define WSABI_OK 0

/**
 * Sent, but the backlog is above high water: pause what feeds this connection until on_drain.
 */
#define WSABI_BACKPRESSURE 1

/**
 * An argument is not allowed; the text names it and says what is expected.
 */
#define WSABI_E_INVALID (-1)

/**
 * The connection, server or loop is closed, or its number is stale.
 */
#define WSABI_E_CLOSED (-2)

/**
 * Refused because a limit of queued bytes is reached; nothing was queued.
 */
#define WSABI_E_FULL (-3)

/**
 * The call belongs to the loop's thread and came from another.
 */
#define WSABI_E_THREAD (-4)

/**
 * The loop was asked to dispatch inside one of its own callbacks.
 */
#define WSABI_E_REENTRANT (-5)

/**
 * The right object at the wrong moment.
 */
#define WSABI_E_STATE (-6)

/**
 * Not supported by this build or platform.
 */
#define WSABI_E_UNSUPPORTED (-7)

/**
 * The process has forked; the loop belongs to the parent.
 */
#define WSABI_E_FORKED (-8)

/**
 * A defect inside wsabi was caught.
 */
#define WSABI_E_PANIC (-9)

/**
 * Memory could not be had.
 */
#define WSABI_E_NO_MEMORY (-10)

/**
 * The operating system refused or failed.
 */
#define WSABI_E_IO (-20)

/**
 * A server could not listen; the text names the address.
 */
#define WSABI_E_LISTEN (-21)

/**
 * A host name could not be resolved.
 */
#define WSABI_E_RESOLVE (-22)

/**
 * No address of the host accepted a connection.
 */
#define WSABI_E_CONNECT (-23)

/**
 * The transport ended without a Close frame.
 */
#define WSABI_E_LOST (-24)

/**
 * The peer broke a rule of RFC 6455 (close code 1002).
 */
#define WSABI_E_PROTOCOL (-30)

/**
 * The peer sent text that is not UTF-8 (close code 1007).
 */
#define WSABI_E_INVALID_TEXT (-31)

/**
 * The peer sent a message above max_message_bytes (close code 1009).
 */
#define WSABI_E_MESSAGE_TOO_BIG (-32)

/**
 * The peer cut a message into more than max_fragments (close code 1008).
 */
#define WSABI_E_TOO_MANY_FRAGMENTS (-33)

/**
 * The peer sent compressed data that is damaged (close code 1007).
 */
#define WSABI_E_INVALID_DEFLATE (-34)

/**
 * The server's connections hold more than max_buffered_bytes, and this one the most (close code
 * 1013).
 */
#define WSABI_E_OVER_BUDGET (-35)

/**
 * The opening handshake's request or response is not valid.
 */
#define WSABI_E_HANDSHAKE (-40)

/**
 * The opening handshake exceeds max_handshake_bytes or max_handshake_headers.
 */
#define WSABI_E_HANDSHAKE_TOO_LARGE (-41)

/**
 * The request's Origin is not allowed by the server's policy.
 */
#define WSABI_E_ORIGIN (-42)

/**
 * The server answered the opening handshake with another status than 101.
 */
#define WSABI_E_REFUSED (-43)

/**
 * More opening handshakes were pending than max_pending_handshakes; the oldest was dropped.
 */
#define WSABI_E_OVERLOADED (-44)

/**
 * The opening handshake took too long.
 */
#define WSABI_E_HANDSHAKE_TIMEOUT (-50)

/**
 * The peer gave no sign of life after a ping (close code 1011).
 */
#define WSABI_E_KEEPALIVE_TIMEOUT (-51)

/**
 * Nothing was received for the idle timeout (close code 1011).
 */
#define WSABI_E_IDLE_TIMEOUT (-52)

/**
 * The closing handshake took too long.
 */
#define WSABI_E_CLOSE_TIMEOUT (-53)

/**
 * This side terminated the connection.
 */
#define WSABI_E_TERMINATED (-60)

/**
 * The server's stop deadline passed, or the loop was freed.
 */
#define WSABI_E_STOPPED (-61)

/**
 * A message type: UTF-8 text.
 */
#define WSABI_TEXT 1

/**
 * A message type: bytes.
 */
#define WSABI_BINARY 2

/**
 * Compress a message from min_bytes of wsabi_deflate on, if compression was agreed on. Of a
 * message that is sent in fragments the length is not known, and it is compressed.
 */
#define WSABI_COMPRESS_AUTO 0

/**
 * Compress a message whatever its length, if compression was agreed on.
 */
#define WSABI_COMPRESS_ALWAYS 1

/**
 * Do not compress a message: it is compressed already, or mixes a secret with what a stranger has
 * chosen.
 */
#define WSABI_COMPRESS_NEVER 2

/**
 * A flag of a chunk: a message begins with it.
 */
#define WSABI_CHUNK_FIRST 1

/**
 * A flag of a chunk: the message ends with it.
 */
#define WSABI_CHUNK_LAST 2

/**
 * An answer of on_upgrade: accept, with the server's own choice of subprotocol.
 */
#define WSABI_ACCEPT 0

/**
 * An answer of on_upgrade: refuse with status 403.
 */
#define WSABI_REFUSE 1

/**
 * An answer of on_upgrade: wsabi_conn_accept or wsabi_conn_respond follows, from any thread,
 * within hold_timeout_ms.
 */
#define WSABI_LATER 2

/**
 * In a time of wsabi_limits: never.
 */
#define WSABI_OFF UINT32_MAX

/**
 * In a size of wsabi_limits: no limit.
 */
#define WSABI_UNLIMITED UINT64_MAX

/**
 * An Origin policy: the Origin's host and port must be those of the Host header. The default.
 */
#define WSABI_ORIGIN_SAME 0

/**
 * An Origin policy: the Origin must be one of origins.
 */
#define WSABI_ORIGIN_LIST 1

/**
 * An Origin policy: every Origin, "null" too.
 */
#define WSABI_ORIGIN_ANY 2

/**
 * A log level: failures that need attention.
 */
#define WSABI_LOG_ERROR 1

/**
 * A log level: and what is wrong and was dealt with.
 */
#define WSABI_LOG_WARN 2

/**
 * A log level: and starts and stops.
 */
#define WSABI_LOG_INFO 3

/**
 * A log level: and every connection's fate.
 */
#define WSABI_LOG_DEBUG 4

/**
 * A state: ended, or the number is stale.
 */
#define WSABI_STATE_CLOSED 0

/**
 * A state: the opening handshake is under way.
 */
#define WSABI_STATE_CONNECTING 1

/**
 * A state: messages can be sent.
 */
#define WSABI_STATE_OPEN 2

/**
 * A state: the closing handshake is under way.
 */
#define WSABI_STATE_CLOSING 3

/**
 * A part of this build: permessage-deflate (RFC 7692).
 */
#define WSABI_FEATURE_DEFLATE 1

/**
 * The peer's part of an opening handshake: a client's request at a server, a server's response at
 * a client. It and all it gives live until the callback that was given it returns.
 */
typedef struct wsabi_handshake wsabi_handshake;

/**
 * A loop for any number of servers and clients, with one file descriptor. Freed by wsabi_loop_free.
 *
 * It belongs to the thread that made it until its first dispatch, and from then on to the thread
 * of that dispatch.
 */
typedef struct wsabi_loop wsabi_loop;

/**
 * A message that was made to be sent to many: from one copy of its payload, which is compressed
 * once for each way in which connections compress. Belongs to no loop and to no thread. Freed by
 * wsabi_prepared_free.
 */
typedef struct wsabi_prepared wsabi_prepared;

/**
 * What a function answers: 0 is success, positive is success with something to know, negative is
 * an error. Numbers are never reused or changed.
 */
typedef int32_t wsabi_status;

/**
 * Receives a line for a log. Called on the loop's thread, inside a dispatch or any other call; it
 * must not call into the loop, which answers WSABI_E_REENTRANT.
 */
typedef void (*wsabi_log)(uint32_t level, const char *text, size_t len, void *user);

/**
 * What a loop is made of. Zeros are defaults; set struct_size.
 */
typedef struct wsabi_loop_options {
  /**
   * sizeof(wsabi_loop_options).
   */
  size_t struct_size;
  /**
   * Receives log lines.
   */
  wsabi_log log;
  /**
   * Given to log as it is.
   */
  void *log_user;
  /**
   * The least important level to log. 0: WSABI_LOG_WARN.
   */
  uint32_t log_level;
  /**
   * Callbacks in one dispatch, after which others get their turn. Default 4096.
   */
  uint32_t max_events;
  /**
   * Bytes that calls from other threads may hold before they answer WSABI_E_FULL. Default
   * 16 MiB.
   */
  uint64_t max_inbox_bytes;
} wsabi_loop_options;

/**
 * Counts of a loop since it was made, and what it holds now.
 */
typedef struct wsabi_stats {
  /**
   * Connections that are established now.
   */
  uint64_t connections;
  /**
   * Opening handshakes that servers are waiting for now.
   */
  uint64_t pending_handshakes;
  /**
   * Bytes that wait to be written now.
   */
  uint64_t buffered_bytes;
  /**
   * Bytes received.
   */
  uint64_t bytes_received;
  /**
   * Bytes handed to the kernel.
   */
  uint64_t bytes_sent;
  /**
   * Messages received.
   */
  uint64_t messages_received;
  /**
   * Messages accepted for sending.
   */
  uint64_t messages_sent;
  /**
   * Connections whose closing handshake completed.
   */
  uint64_t closes_clean;
  /**
   * Connections whose transport was lost, or that failed on this side.
   */
  uint64_t closes_lost;
  /**
   * Connections failed because the peer broke a rule or a limit.
   */
  uint64_t closes_protocol;
  /**
   * Connections that ended by a deadline.
   */
  uint64_t closes_timeout;
  /**
   * Connections this side terminated.
   */
  uint64_t closes_local;
  /**
   * Opening handshakes that failed.
   */
  uint64_t handshakes_failed;
} wsabi_stats;

/**
 * The number of a connection, valid with its loop. 0 is never a connection. A number whose
 * on_close has returned is stale: calls with it answer WSABI_E_CLOSED, and no other connection
 * ever gets it.
 */
typedef uint64_t wsabi_conn;

/**
 * A client asks a server for a WebSocket, with a request that is valid and allowed by the Origin
 * policy. Returns WSABI_ACCEPT, WSABI_REFUSE or WSABI_LATER; what it returns does not count if it
 * has called wsabi_conn_accept or wsabi_conn_respond.
 */
typedef int32_t (*wsabi_on_upgrade)(struct wsabi_loop *loop,
                                    wsabi_conn conn,
                                    const struct wsabi_handshake *request,
                                    void *user);

/**
 * A client asks a server for something else than a WebSocket. Answered by wsabi_conn_respond, now
 * or within hold_timeout_ms. Without this callback the answer is status 426.
 */
typedef void (*wsabi_on_http)(struct wsabi_loop *loop,
                              wsabi_conn conn,
                              const struct wsabi_handshake *request,
                              void *user);

/**
 * A connection is open.
 */
typedef void (*wsabi_on_open)(struct wsabi_loop *loop,
                              wsabi_conn conn,
                              const struct wsabi_handshake *handshake,
                              void *user);

/**
 * Tells that a payload is not needed any more. The standard library's free is one.
 *
 * Called exactly once for each call that took the payload, and never for one that failed. It must
 * not call into the loop, which answers WSABI_E_REENTRANT.
 */
typedef void (*wsabi_free_hook)(void *arg);

/**
 * A whole message: what on_message is given, and what wsabi_conn_send and wsabi_prepared_new take.
 * Zeros are defaults; set struct_size and type.
 *
 * What on_message is given has struct_size, type, data and len set and else zeros, so that it can
 * be sent as it is.
 */
typedef struct wsabi_message {
  /**
   * sizeof(wsabi_message).
   */
  size_t struct_size;
  /**
   * WSABI_TEXT or WSABI_BINARY. Text is valid UTF-8.
   */
  uint32_t type;
  /**
   * WSABI_COMPRESS_AUTO, _ALWAYS or _NEVER.
   */
  uint32_t compress;
  /**
   * The payload; not NUL-terminated. Never NULL in on_message; may be NULL if len is 0.
   */
  const void *data;
  /**
   * How many bytes.
   */
  size_t len;
  /**
   * NULL: the payload is copied. Else it stays the application's, unchanged, until this is
   * called, and is copied only where it has to be masked (at a client) or compressed, or where
   * it is small.
   */
  wsabi_free_hook free_hook;
  /**
   * Given to free_hook.
   */
  void *free_arg;
} wsabi_message;

/**
 * A message has arrived.
 */
typedef void (*wsabi_on_message)(struct wsabi_loop *loop,
                                 wsabi_conn conn,
                                 const struct wsabi_message *message,
                                 void *user);

/**
 * A part of a message has come; it has nothing to do with the frames it came in. With this callback
 * set all messages come so, none is held whole, and on_message is not called;
 * max_message_bytes still counts the whole message.
 *
 * type: WSABI_TEXT or WSABI_BINARY, the same for all chunks of a message. data: not NUL-terminated,
 * never NULL; text is valid UTF-8, cut between characters. len: 0 only in a last chunk.
 * flags: WSABI_CHUNK_FIRST, WSABI_CHUNK_LAST, both, or 0.
 */
typedef void (*wsabi_on_chunk)(struct wsabi_loop *loop,
                               wsabi_conn conn,
                               uint32_t type,
                               const void *data,
                               size_t len,
                               uint32_t flags,
                               void *user);

/**
 * After WSABI_BACKPRESSURE, or after WSABI_E_FULL on the loop's thread: the backlog has fallen to
 * low water.
 */
typedef void (*wsabi_on_drain)(struct wsabi_loop *loop, wsabi_conn conn, void *user);

/**
 * A ping has arrived, and is answered.
 */
typedef void (*wsabi_on_ping)(struct wsabi_loop *loop,
                              wsabi_conn conn,
                              const uint8_t *data,
                              size_t len,
                              void *user);

/**
 * A pong has arrived. Those that answer keepalive pings have the payload "wsabi-keepalive".
 */
typedef void (*wsabi_on_pong)(struct wsabi_loop *loop,
                              wsabi_conn conn,
                              const uint8_t *data,
                              size_t len,
                              void *user);

/**
 * Bytes that are not NUL-terminated; data may be NULL when len is 0.
 */
typedef struct wsabi_str {
  /**
   * The first byte.
   */
  const char *data;
  /**
   * How many bytes.
   */
  size_t len;
} wsabi_str;

/**
 * How a connection ended.
 */
typedef struct wsabi_close {
  /**
   * The code of the peer's Close frame; 1005 if it had none, 1006 if no Close frame came.
   */
  uint16_t code;
  /**
   * At a client whose opening handshake was refused: the HTTP status. Else 0.
   */
  uint16_t http_status;
  /**
   * 1 if the closing handshake completed and no message was dropped, else 0.
   */
  uint32_t clean;
  /**
   * WSABI_OK if it completed, else what ended the connection.
   */
  wsabi_status status;
  /**
   * errno, if the system was the cause, else 0.
   */
  int32_t os_error;
  /**
   * The reason of the peer's Close frame.
   */
  struct wsabi_str reason;
  /**
   * What ended the connection in words, for logs; empty if the closing handshake completed.
   */
  struct wsabi_str detail;
  /**
   * Messages that sending has accepted and that were not wholly handed to the system: the last
   * ones. All before them were, which does not mean that the peer has read them.
   */
  uint64_t messages_dropped;
} wsabi_close;

/**
 * A connection has ended: its last callback. Comes exactly once for each connection that was
 * open, and for each wsabi_connect, opened or not. wsabi_conn_user still answers in it.
 */
typedef void (*wsabi_on_close)(struct wsabi_loop *loop,
                               wsabi_conn conn,
                               const struct wsabi_close *close,
                               void *user);

/**
 * The number of a server, valid with its loop. 0 is never a server; stale after on_stopped.
 */
typedef uint64_t wsabi_server;

/**
 * What a server is told of an opening handshake that failed, or of a failure to accept.
 */
typedef struct wsabi_error {
  /**
   * What went wrong.
   */
  wsabi_status status;
  /**
   * errno, if the system was the cause, else 0.
   */
  int32_t os_error;
  /**
   * In words, for logs.
   */
  struct wsabi_str detail;
  /**
   * The peer, such as "127.0.0.1:4711"; empty if there is none.
   */
  struct wsabi_str peer;
} wsabi_error;

/**
 * An opening handshake at a server has failed, or a connection could not be accepted.
 */
typedef void (*wsabi_on_error)(struct wsabi_loop *loop,
                               wsabi_server server,
                               const struct wsabi_error *error,
                               void *user);

/**
 * What became of a server's connections when it stopped.
 */
typedef struct wsabi_stopped {
  /**
   * Connections whose closing handshake completed.
   */
  uint64_t clean;
  /**
   * Connections that ended otherwise.
   */
  uint64_t forced;
  /**
   * Messages that were accepted for sending and not wholly written.
   */
  uint64_t messages_dropped;
} wsabi_stopped;

/**
 * A server that was told to stop has no connections left: its last callback.
 */
typedef void (*wsabi_on_stopped)(struct wsabi_loop *loop,
                                 wsabi_server server,
                                 const struct wsabi_stopped *counts,
                                 void *user);

/**
 * The callbacks of a server or client; each may be NULL.
 *
 * All are called on the loop's thread, inside wsabi_loop_dispatch, _poll, _run or _free, and
 * never under a lock. In each, every function may be called but wsabi_loop_dispatch, _poll, _run
 * and _timeout_ms. They must not throw or unwind.
 */
typedef struct wsabi_handlers {
  /**
   * Servers only.
   */
  wsabi_on_upgrade on_upgrade;
  /**
   * Servers only.
   */
  wsabi_on_http on_http;
  /**
   * Servers and clients.
   */
  wsabi_on_open on_open;
  /**
   * Servers and clients.
   */
  wsabi_on_message on_message;
  /**
   * Servers and clients; instead of on_message, if set.
   */
  wsabi_on_chunk on_chunk;
  /**
   * Servers and clients.
   */
  wsabi_on_drain on_drain;
  /**
   * Servers and clients.
   */
  wsabi_on_ping on_ping;
  /**
   * Servers and clients.
   */
  wsabi_on_pong on_pong;
  /**
   * Servers and clients.
   */
  wsabi_on_close on_close;
  /**
   * Servers only.
   */
  wsabi_on_error on_error;
  /**
   * Servers only.
   */
  wsabi_on_stopped on_stopped;
  /**
   * NULL: room for callbacks to come.
   */
  void *reserved[5];
  /**
   * Given to every callback as it is.
   */
  void *user;
} wsabi_handlers;

/**
 * Limits and times of connections. 0 is the default that each names. All limits are inclusive.
 */
typedef struct wsabi_limits {
  /**
   * Largest message accepted, decompressed. Default 16 MiB; close code 1009 above it.
   */
  uint64_t max_message_bytes;
  /**
   * Most fragments after the first one of a message. Default 65536; close code 1008 above it.
   */
  uint32_t max_fragments;
  /**
   * Most bytes of the opening handshake's head. Default 16384; status 431 above it.
   */
  uint32_t max_handshake_bytes;
  /**
   * Most header fields of the opening handshake. Default 100; status 431 above it.
   */
  uint32_t max_handshake_headers;
  /**
   * Total time for the opening handshake, connecting included. Default 10000; status 408.
   */
  uint32_t handshake_timeout_ms;
  /**
   * Additional time for a request that is answered later. Default 10000; status 503.
   */
  uint32_t hold_timeout_ms;
  /**
   * Time between keepalive pings. Default 20000; WSABI_OFF sends none.
   */
  uint32_t ping_interval_ms;
  /**
   * How long after a ping the peer may give no sign of life. Default 20000; close code 1011.
   */
  uint32_t ping_timeout_ms;
  /**
   * Longest time without a received byte. Default WSABI_OFF; close code 1011.
   */
  uint32_t idle_timeout_ms;
  /**
   * Longest time for the closing handshake. Default 5000; the transport is reset then.
   */
  uint32_t close_timeout_ms;
  /**
   * Most opening handshakes pending at a server. Default 1024; the oldest is dropped.
   */
  uint32_t max_pending_handshakes;
  /**
   * Backlog above which a send answers WSABI_BACKPRESSURE. Default 1 MiB.
   */
  uint64_t high_water_bytes;
  /**
   * Backlog at or below which on_drain follows. Default 256 KiB.
   */
  uint64_t low_water_bytes;
  /**
   * Backlog a send may not exceed once the backlog is at high water. Default 16 MiB;
   * WSABI_E_FULL.
   */
  uint64_t max_backlog_bytes;
  /**
   * 0: room for limits to come.
   */
  uint64_t reserved[8];
} wsabi_limits;

/**
 * Whether and how messages are compressed, if both sides agree on permessage-deflate (RFC 7692).
 * 0 is the default that each names: no compression.
 *
 * A server takes a client's offer as far as these allow; a client offers these.
 *
 * Without context takeover a loop has one compressor and one decompressor for all its connections.
 * With it, a connection keeps the window of the side it receives from (2 to the power of its window
 * bits, 4 KiB at 12), and, for the side it sends from, a compressor of its own: some 265 KiB at 12
 * bits and memory level 8. That one is freed when nothing was compressed for 30 s.
 */
typedef struct wsabi_deflate {
  /**
   * 1 offers or accepts permessage-deflate; with 0, the default, all others must be 0.
   */
  uint32_t enabled;
  /**
   * Window of what the server sends, as the logarithm of its size: 9 to 15. Default 12.
   */
  uint32_t server_max_window_bits;
  /**
   * Window of what the client sends: 9 to 15. Default 12.
   */
  uint32_t client_max_window_bits;
  /**
   * 1 lets the server's messages refer back to earlier ones.
   */
  uint32_t server_context_takeover;
  /**
   * 1 lets the client's messages refer back to earlier ones.
   */
  uint32_t client_context_takeover;
  /**
   * Compression level: 1, fast, to 9, small. Default 6.
   */
  uint32_t level;
  /**
   * Memory of a compressor: 1 to 9. Default 8.
   */
  uint32_t mem_level;
  /**
   * How many times larger than what came a message may become; close code 1009 above it. Default
   * no limit besides max_message_bytes. Harmless text reaches 200 and more.
   */
  uint32_t max_ratio;
  /**
   * Messages shorter than this are sent as they are. Default 1024; 1 is no minimum,
   * for empty ones always are.
   */
  uint64_t min_bytes;
  /**
   * 0: room for what is to come.
   */
  uint32_t reserved[4];
} wsabi_deflate;

/**
 * What a server is made of. Zeros are defaults; set struct_size. Everything is copied.
 */
typedef struct wsabi_server_options {
  /**
   * sizeof(wsabi_server_options).
   */
  size_t struct_size;
  /**
   * The callbacks.
   */
  struct wsabi_handlers handlers;
  /**
   * Limits and times.
   */
  struct wsabi_limits limits;
  /**
   * Compression.
   */
  struct wsabi_deflate deflate;
  /**
   * Most bytes that the server's connections may hold together: unfinished messages, and output
   * that waits. Default no limit. Above it the connections with the largest unfinished messages
   * are not read; after 5 s without relief the connection that holds most is failed with close
   * code 1013, and then the next.
   */
  uint64_t max_buffered_bytes;
  /**
   * An address, or a name, which is resolved at once. NULL: every address, IPv6 and IPv4.
   */
  const char *host;
  /**
   * A unix socket to listen on instead of host and port.
   */
  const char *unix_path;
  /**
   * Subprotocols in the server's order of preference.
   */
  const char *const *subprotocols;
  /**
   * How many.
   */
  size_t subprotocol_count;
  /**
   * With WSABI_ORIGIN_LIST: origins such as "https://example.com".
   */
  const char *const *origins;
  /**
   * How many.
   */
  size_t origin_count;
  /**
   * WSABI_ORIGIN_SAME, _LIST or _ANY.
   */
  uint32_t origin_policy;
  /**
   * The length of the kernel's queue of connections to accept. Default 4096.
   */
  uint32_t backlog;
  /**
   * 1 lets other sockets listen on the same port too (SO_REUSEPORT).
   */
  uint32_t reuse_port;
  /**
   * 1 leaves Nagle's algorithm on.
   */
  uint32_t no_delay_off;
  /**
   * The port; 0 picks a free one, which wsabi_server_port tells.
   */
  uint16_t port;
  /**
   * 0.
   */
  uint16_t reserved16[3];
} wsabi_server_options;

/**
 * A header field.
 */
typedef struct wsabi_header {
  /**
   * The name; upper and lower case are the same.
   */
  struct wsabi_str name;
  /**
   * The value.
   */
  struct wsabi_str value;
} wsabi_header;

/**
 * What a client is made of, besides its URL. Zeros are defaults; set struct_size. Everything is
 * copied.
 */
typedef struct wsabi_client_options {
  /**
   * sizeof(wsabi_client_options).
   */
  size_t struct_size;
  /**
   * The callbacks; those for servers only must be NULL.
   */
  struct wsabi_handlers handlers;
  /**
   * Limits and times.
   */
  struct wsabi_limits limits;
  /**
   * Compression.
   */
  struct wsabi_deflate deflate;
  /**
   * A unix socket to connect to; the URL still gives the Host header and the path.
   */
  const char *unix_path;
  /**
   * The Origin header. NULL: none.
   */
  const char *origin;
  /**
   * Subprotocols to offer, in order of preference.
   */
  const char *const *subprotocols;
  /**
   * How many.
   */
  size_t subprotocol_count;
  /**
   * Additional header fields of the request.
   */
  const struct wsabi_header *headers;
  /**
   * How many.
   */
  size_t header_count;
  /**
   * What wsabi_conn_user answers from the start.
   */
  void *conn_user;
  /**
   * 1 leaves Nagle's algorithm on.
   */
  uint32_t no_delay_off;
  /**
   * 0.
   */
  uint32_t reserved32;
} wsabi_client_options;

/**
 * To how many connections a message went.
 */
typedef struct wsabi_reached {
  /**
   * Connections that accepted it.
   */
  uint64_t sent;
  /**
   * Of those, connections whose backlog is above high water.
   */
  uint64_t backpressure;
  /**
   * Connections that refused it as full, or because a fragmented message is not finished.
   */
  uint64_t refused;
} wsabi_reached;

/**
 * How a request for a WebSocket is accepted. Zeros are defaults; set struct_size.
 */
typedef struct wsabi_accept_options {
  /**
   * sizeof(wsabi_accept_options).
   */
  size_t struct_size;
  /**
   * One of those the client offers; NULL: the server's own choice; "": none.
   */
  const char *subprotocol;
  /**
   * Additional header fields of the response.
   */
  const struct wsabi_header *headers;
  /**
   * How many.
   */
  size_t header_count;
} wsabi_accept_options;

/**
 * An HTTP response that ends its connection. Set struct_size and status.
 */
typedef struct wsabi_response {
  /**
   * sizeof(wsabi_response).
   */
  size_t struct_size;
  /**
   * Header fields, besides Connection and Content-Length.
   */
  const struct wsabi_header *headers;
  /**
   * How many.
   */
  size_t header_count;
  /**
   * The body.
   */
  const void *body;
  /**
   * How many bytes.
   */
  size_t body_len;
  /**
   * 200 to 599.
   */
  uint16_t status;
  /**
   * 0.
   */
  uint16_t reserved16[3];
} wsabi_response;

/**
 * What the opening handshake has agreed on about compression.
 */
typedef struct wsabi_agreed {
  /**
   * 1 if permessage-deflate is in use; else all others are 0.
   */
  uint32_t enabled;
  /**
   * Window of what the server sends, as the logarithm of its size: 8 to 15.
   */
  uint32_t server_max_window_bits;
  /**
   * Window of what the client sends: 8 to 15.
   */
  uint32_t client_max_window_bits;
  /**
   * 1 if the server's messages may refer back to earlier ones.
   */
  uint32_t server_context_takeover;
  /**
   * 1 if the client's messages may refer back to earlier ones.
   */
  uint32_t client_context_takeover;
} wsabi_agreed;

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/**
 * The text of the calling thread's last error: what was wrong and what was expected. Empty if
 * there was none.
 *
 * Ownership: the library's; the text lives until this thread's next failing call.
 * Thread: any. Inside callbacks: yes.
 */
const char *wsabi_last_error(void);

/**
 * The name of a status, such as "WSABI_E_CLOSED"; "WSABI_E_?" for a number that is none.
 *
 * Ownership: static. Thread: any. Inside callbacks: yes.
 */
const char *wsabi_status_name(wsabi_status status);

/**
 * The version as a number: 0x00MMmmpp, of major, minor and patch.
 *
 * Thread: any. Inside callbacks: yes.
 */
uint32_t wsabi_version(void);

/**
 * The version as text, such as "0.1.0".
 *
 * Ownership: static. Thread: any. Inside callbacks: yes.
 */
const char *wsabi_version_text(void);

/**
 * The optional parts of this build, a bit each: WSABI_FEATURE_DEFLATE.
 *
 * Thread: any. Inside callbacks: yes.
 */
uint64_t wsabi_features(void);

/**
 * Makes a loop.
 *
 * options: NULL for the defaults. out: receives the loop; not written on failure.
 * Ownership: the caller's, to be freed by wsabi_loop_free.
 * Thread: any; see wsabi_loop. Inside callbacks: yes.
 * Errors: WSABI_E_INVALID, WSABI_E_UNSUPPORTED, WSABI_E_IO.
 */
wsabi_status wsabi_loop_new(const struct wsabi_loop_options *options, struct wsabi_loop **out);

/**
 * Frees a loop. Every connection that is left gets its on_close, every server its on_stopped.
 *
 * NULL is fine. Inside a callback, and from another thread while the loop is dispatching, it is
 * put off to the end of the dispatch, which then answers WSABI_E_CLOSED; until then calls work. A
 * loop that answers WSABI_E_PANIC is leaked, since nothing in it can be trusted. Other threads
 * must not use the loop any more.
 * Thread: the loop's; any, once that does not use it any more. Inside callbacks: yes.
 */
void wsabi_loop_free(struct wsabi_loop *loop);

/**
 * The file descriptor that is readable exactly when wsabi_loop_dispatch has work, timers
 * included; -1 where the platform has none. Watch it level-triggered for reading; do not read
 * from it or close it.
 *
 * Ownership: the loop's. Thread: any. Inside callbacks: yes.
 */
int32_t wsabi_loop_fd(const struct wsabi_loop *loop);

/**
 * Milliseconds until something may be due, 0 if there is work now, -1 if nothing is. A deadline far
 * ahead may need a step on the way, with nothing to do. Only
 * for hosts that cannot watch the fd, which tells of deadlines too.
 *
 * Thread: the loop's. Inside callbacks: no (answers -1).
 */
int64_t wsabi_loop_timeout_ms(const struct wsabi_loop *loop);

/**
 * Does what there is to do, without waiting, with callbacks.
 *
 * more: NULL, or receives 1 if work is left after max_events callbacks, else 0; while it is left
 * the fd stays readable.
 * Thread: the loop's. Inside callbacks: no.
 * Errors: WSABI_E_REENTRANT, WSABI_E_THREAD, WSABI_E_FORKED, WSABI_E_IO; WSABI_E_PANIC after a
 * defect, from then on; WSABI_E_CLOSED if the loop was freed in a callback.
 */
wsabi_status wsabi_loop_dispatch(struct wsabi_loop *loop, uint32_t *more);

/**
 * Waits until there is something to do, at most timeout_ms (-1: without end), and does it.
 *
 * Thread, callbacks and errors: as wsabi_loop_dispatch.
 */
wsabi_status wsabi_loop_poll(struct wsabi_loop *loop, int64_t timeout_ms);

/**
 * Dispatches until wsabi_loop_stop, or until no server, connection or posted call is left.
 *
 * Thread, callbacks and errors: as wsabi_loop_dispatch.
 */
wsabi_status wsabi_loop_run(struct wsabi_loop *loop);

/**
 * Makes wsabi_loop_run return after the dispatch that is under way, or at once when it is called
 * next. Connections stay as they are.
 *
 * Thread: any. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_FORKED.
 */
wsabi_status wsabi_loop_stop(struct wsabi_loop *loop);

/**
 * Makes a call on the loop's thread, in the next dispatch, in the order of posting.
 *
 * call: must not be NULL. drop: NULL, or called with user instead if the call never will be made,
 * because the loop is freed before; on an error nothing is called.
 * Thread: any. Inside callbacks: yes. Inside call: as inside a callback.
 * Errors: WSABI_E_INVALID, WSABI_E_FULL, WSABI_E_CLOSED, WSABI_E_FORKED.
 */
wsabi_status wsabi_loop_post(struct wsabi_loop *loop,
                             void (*call)(struct wsabi_loop *loop, void *user),
                             void (*drop)(void *user),
                             void *user);

/**
 * Lets sends outside of a dispatch wait for wsabi_loop_flush or the next dispatch, instead of
 * writing each at once. For hosts that send many and know when they are done.
 *
 * on: 1 or 0. Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID,
 * WSABI_E_THREAD, WSABI_E_FORKED.
 */
wsabi_status wsabi_loop_defer(struct wsabi_loop *loop, uint32_t on);

/**
 * Writes everything that waits, as far as the kernel takes it.
 *
 * Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_THREAD,
 * WSABI_E_FORKED.
 */
wsabi_status wsabi_loop_flush(struct wsabi_loop *loop);

/**
 * Counts and amounts.
 *
 * out: receives them. size: sizeof(wsabi_stats) as the caller knows it; later versions add fields
 * at the end, and an older caller gets those it knows.
 * Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_THREAD.
 */
wsabi_status wsabi_loop_stats(const struct wsabi_loop *loop, struct wsabi_stats *out, size_t size);

/**
 * Starts a server.
 *
 * options: must not be NULL; everything in it is copied. out: receives the server's number; not
 * written on failure. Its connections come to the callbacks in options, until on_stopped.
 * A host that is a name is resolved at once, which may block.
 * Thread: the loop's. Inside callbacks: yes.
 * Errors: WSABI_E_INVALID, WSABI_E_UNSUPPORTED, WSABI_E_RESOLVE, WSABI_E_LISTEN (the text names
 * the address), WSABI_E_THREAD, WSABI_E_CLOSED, WSABI_E_FORKED.
 */
wsabi_status wsabi_listen(struct wsabi_loop *loop,
                          const struct wsabi_server_options *options,
                          wsabi_server *out);

/**
 * The port a server listens on; 0 for a unix socket.
 *
 * out: receives it; not written on failure. Thread: the loop's. Inside callbacks: yes.
 * Errors: WSABI_E_INVALID, WSABI_E_CLOSED, WSABI_E_THREAD.
 */
wsabi_status wsabi_server_port(const struct wsabi_loop *loop, wsabi_server server, uint16_t *out);

/**
 * The address a server listens on, such as "127.0.0.1:8080"; the first, if its host has several.
 *
 * buf: receives the address and a NUL, if size is enough. len: NULL, or receives the length
 * without the NUL, also if size is not enough.
 * Thread: the loop's. Inside callbacks: yes.
 * Errors: WSABI_E_INVALID (also for too small a buffer), WSABI_E_CLOSED, WSABI_E_THREAD.
 */
wsabi_status wsabi_server_address(const struct wsabi_loop *loop,
                                  wsabi_server server,
                                  char *buf,
                                  size_t size,
                                  size_t *len);

/**
 * Stops a server: it accepts no more, closes its connections with code 1001, and ends those that
 * are left after grace_ms (0: 10 seconds). on_stopped comes when none is left.
 *
 * Thread: any; from another than the loop's, a stale number is not told. Inside callbacks: yes.
 * Errors: WSABI_E_INVALID, WSABI_E_CLOSED, WSABI_E_STATE if it is stopping already, WSABI_E_FULL
 * from another thread.
 */
wsabi_status wsabi_server_stop(struct wsabi_loop *loop, wsabi_server server, uint32_t grace_ms);

/**
 * Starts to connect to a URL such as "ws://example.com/chat?room=1". Exactly one on_close follows,
 * whether or not on_open comes before; nothing is called before this returns.
 *
 * options: NULL for the defaults; everything in it is copied. out: receives the connection's
 * number; not written on failure. Names are resolved by a thread of the library.
 * Thread: the loop's. Inside callbacks: yes.
 * Errors: WSABI_E_INVALID, WSABI_E_UNSUPPORTED (wss), WSABI_E_THREAD, WSABI_E_CLOSED,
 * WSABI_E_FORKED. What goes wrong later is told by on_close.
 */
wsabi_status wsabi_connect(struct wsabi_loop *loop,
                           const char *url,
                           const struct wsabi_client_options *options,
                           wsabi_conn *out);

/**
 * The method of a request, such as "GET"; empty for a response and for NULL.
 *
 * Ownership: the handshake's, until the callback returns. Thread: the loop's.
 */
struct wsabi_str wsabi_handshake_method(const struct wsabi_handshake *handshake);

/**
 * The target of a request as it was sent, such as "/chat?room=1"; empty for a response and NULL.
 *
 * Ownership: the handshake's, until the callback returns. Thread: the loop's.
 */
struct wsabi_str wsabi_handshake_target(const struct wsabi_handshake *handshake);

/**
 * The path of a request, without the query; empty for a response and for NULL.
 *
 * Ownership: the handshake's, until the callback returns. Thread: the loop's.
 */
struct wsabi_str wsabi_handshake_path(const struct wsabi_handshake *handshake);

/**
 * The query of a request, without the question mark; empty if there is none.
 *
 * Ownership: the handshake's, until the callback returns. Thread: the loop's.
 */
struct wsabi_str wsabi_handshake_query(const struct wsabi_handshake *handshake);

/**
 * The status of a response, such as 101; 0 for a request and for NULL.
 *
 * Thread: the loop's.
 */
uint16_t wsabi_handshake_status(const struct wsabi_handshake *handshake);

/**
 * The value of the first header field with this name, in any case; data is NULL if there is none.
 * A value is bytes, mostly but not surely ASCII.
 *
 * name: NUL-terminated. Ownership: the handshake's, until the callback returns. Thread: the
 * loop's.
 */
struct wsabi_str wsabi_handshake_header(const struct wsabi_handshake *handshake, const char *name);

/**
 * How many header fields there are; 0 for NULL.
 *
 * Thread: the loop's.
 */
size_t wsabi_handshake_header_count(const struct wsabi_handshake *handshake);

/**
 * The header field at an index, in the order in which they came.
 *
 * out: receives it; not written on failure. Ownership: the handshake's, until the callback
 * returns. Thread: the loop's. Errors: WSABI_E_INVALID.
 */
wsabi_status wsabi_handshake_header_at(const struct wsabi_handshake *handshake,
                                       size_t index,
                                       struct wsabi_header *out);

/**
 * How many subprotocols the client offers; 0 for a response and for NULL.
 *
 * Thread: the loop's.
 */
size_t wsabi_handshake_subprotocol_count(const struct wsabi_handshake *handshake);

/**
 * The subprotocol at an index, in the client's order of preference.
 *
 * out: receives it; not written on failure. Ownership: the handshake's, until the callback
 * returns. Thread: the loop's. Errors: WSABI_E_INVALID.
 */
wsabi_status wsabi_handshake_subprotocol_at(const struct wsabi_handshake *handshake,
                                            size_t index,
                                            struct wsabi_str *out);

/**
 * Sends a text message. A send is accepted whatever its size while the backlog is below
 * high_water_bytes, and above that while the backlog stays within max_backlog_bytes.
 *
 * data: UTF-8, copied; may be NULL if len is 0.
 * Thread: any. From another than the loop's it is queued, in order for each thread, and what the
 * connection answers is not told. Inside callbacks: yes; nothing is called before it returns.
 * Returns WSABI_OK, or WSABI_BACKPRESSURE (accepted; pause until on_drain).
 * Errors: WSABI_E_FULL (nothing queued), WSABI_E_CLOSED, WSABI_E_INVALID (text that is not UTF-8
 * too), WSABI_E_STATE before on_open and amid a fragmented message, WSABI_E_FORKED.
 */
wsabi_status wsabi_conn_send_text(struct wsabi_loop *loop,
                                  wsabi_conn conn,
                                  const char *data,
                                  size_t len);

/**
 * Sends a binary message.
 *
 * data: copied; may be NULL if len is 0. Everything else as wsabi_conn_send_text.
 */
wsabi_status wsabi_conn_send_binary(struct wsabi_loop *loop,
                                    wsabi_conn conn,
                                    const void *data,
                                    size_t len);

/**
 * Sends a message of either type, compressed or not as it says, and, with a free_hook, from the
 * application's own memory. What on_message was given can be sent as it is.
 *
 * message: must not be NULL. Its payload is copied; or else, with a free_hook, it is kept without a
 * copy until it is written or the connection has ended, and free_hook is then called on the loop's
 * thread (that of wsabi_loop_free, if the loop is freed first), maybe before this returns. If this
 * fails, the payload stays the caller's, and free_hook is not called.
 * Everything else as wsabi_conn_send_text.
 */
wsabi_status wsabi_conn_send(struct wsabi_loop *loop,
                             wsabi_conn conn,
                             const struct wsabi_message *message);

/**
 * Sends a fragment of a message.
 *
 * type: WSABI_TEXT or WSABI_BINARY, the same for all fragments of a message. data: copied; text
 * may be cut within a character. fin: 1 for the last fragment, else 0.
 * Everything else as wsabi_conn_send_text.
 */
wsabi_status wsabi_conn_send_fragment(struct wsabi_loop *loop,
                                      wsabi_conn conn,
                                      uint32_t type,
                                      const void *data,
                                      size_t len,
                                      uint32_t fin);

/**
 * Sends a fragment of a message, and says with the first whether the message is compressed.
 *
 * compress: WSABI_COMPRESS_AUTO, _ALWAYS or _NEVER; counts in a message's first fragment only.
 * Everything else as wsabi_conn_send_fragment.
 */
wsabi_status wsabi_conn_send_fragment_with(struct wsabi_loop *loop,
                                           wsabi_conn conn,
                                           uint32_t type,
                                           const void *data,
                                           size_t len,
                                           uint32_t fin,
                                           uint32_t compress);

/**
 * Makes a message that is to be sent to many connections, of one loop or of several.
 *
 * message: must not be NULL. Its payload is copied; or else, with a free_hook, it is kept without a
 * copy until the prepared message is freed and everything that was sent of it is written, and
 * free_hook is then called, on the thread that had it last: a loop's, or the one that freed it. If
 * this fails, the payload stays the caller's, and free_hook is not called.
 * out: receives the message, to be freed by wsabi_prepared_free; not written on failure.
 * Thread: any. Inside callbacks: yes. Errors: WSABI_E_INVALID (text that is not UTF-8 too).
 */
wsabi_status wsabi_prepared_new(const struct wsabi_message *message, struct wsabi_prepared **out);

/**
 * Frees a prepared message. What was sent of it is not affected.
 *
 * prepared: NULL does nothing. Thread: any, but no other call may use it meanwhile or later. Inside
 * callbacks: yes.
 */
void wsabi_prepared_free(struct wsabi_prepared *prepared);

/**
 * Sends a prepared message.
 *
 * prepared: must not be NULL; may be freed as soon as this returns.
 * Everything else as wsabi_conn_send_text.
 */
wsabi_status wsabi_conn_send_prepared(struct wsabi_loop *loop,
                                      wsabi_conn conn,
                                      const struct wsabi_prepared *prepared);

/**
 * Sends a prepared message to these connections. Those that are not open are passed over: stale
 * numbers, 0, closing ones, and those before on_open.
 *
 * prepared: must not be NULL; may be freed as soon as this returns. conns: may be NULL if count is
 * 0; servers' and clients' connections of this loop. out: NULL, or receives to how many it went;
 * not written on failure.
 * Thread: the loop's. Inside callbacks: yes; nothing is called before it returns.
 * Errors: WSABI_E_INVALID, WSABI_E_NO_MEMORY for compressing, WSABI_E_THREAD, WSABI_E_FORKED.
 */
wsabi_status wsabi_broadcast(struct wsabi_loop *loop,
                             const struct wsabi_prepared *prepared,
                             const wsabi_conn *conns,
                             size_t count,
                             struct wsabi_reached *out);

/**
 * Sends a prepared message to all open connections of a server, but for one.
 *
 * prepared: must not be NULL; may be freed as soon as this returns. except: 0 for none. out: NULL,
 * or receives to how many it went; not written on failure.
 * Thread: any; from another than the loop's it is queued as by wsabi_conn_send_text, and out must be
 * NULL, for it is not known yet. Inside callbacks: yes; nothing is called before it returns.
 * Errors: WSABI_E_INVALID, WSABI_E_CLOSED if the server has stopped, WSABI_E_NO_MEMORY for
 * compressing, WSABI_E_FULL from another thread, WSABI_E_THREAD if out is not NULL there,
 * WSABI_E_FORKED.
 */
wsabi_status wsabi_server_broadcast(struct wsabi_loop *loop,
                                    wsabi_server server,
                                    const struct wsabi_prepared *prepared,
                                    wsabi_conn except,
                                    struct wsabi_reached *out);

/**
 * Sends a ping. Keepalive pings are sent without asking.
 *
 * data: at most 125 bytes, copied. Everything else as wsabi_conn_send_text.
 */
wsabi_status wsabi_conn_ping(struct wsabi_loop *loop,
                             wsabi_conn conn,
                             const void *data,
                             size_t len);

/**
 * Sends an unsolicited pong. Pings are answered without asking.
 *
 * data: at most 125 bytes, copied. Everything else as wsabi_conn_send_text.
 */
wsabi_status wsabi_conn_pong(struct wsabi_loop *loop,
                             wsabi_conn conn,
                             const void *data,
                             size_t len);

/**
 * Starts the closing handshake. Messages keep coming until the peer's Close does, then on_close.
 * A connection that is not open yet is terminated.
 *
 * code: 1000 to 1003, 1007 to 1014 or 3000 to 4999; 0 sends none. reason: UTF-8 of at most 123
 * bytes, copied; needs a code.
 * Thread: any, as wsabi_conn_send_text. Inside callbacks: yes; nothing is called before it
 * returns. Errors: WSABI_E_INVALID, WSABI_E_CLOSED if it is closing already, WSABI_E_FULL from
 * another thread, WSABI_E_FORKED.
 */
wsabi_status wsabi_conn_close(struct wsabi_loop *loop,
                              wsabi_conn conn,
                              uint16_t code,
                              const char *reason,
                              size_t len);

/**
 * Ends the connection at once, without a closing handshake. Only on_close follows.
 *
 * Thread: any, as wsabi_conn_send_text. Inside callbacks: yes; nothing is called before it
 * returns. Errors: WSABI_E_INVALID, WSABI_E_CLOSED, WSABI_E_FULL from another thread,
 * WSABI_E_FORKED.
 */
wsabi_status wsabi_conn_terminate(struct wsabi_loop *loop, wsabi_conn conn);

/**
 * Accepts the request for a WebSocket that on_upgrade was called with, from there or later.
 *
 * options: NULL for the defaults; copied.
 * Thread: any, as wsabi_conn_send_text. Inside callbacks: yes; on_open comes after it has
 * returned. Errors: WSABI_E_INVALID (the request still waits), WSABI_E_STATE if there is nothing
 * to answer, WSABI_E_CLOSED, WSABI_E_FULL from another thread, WSABI_E_FORKED.
 */
wsabi_status wsabi_conn_accept(struct wsabi_loop *loop,
                               wsabi_conn conn,
                               const struct wsabi_accept_options *options);

/**
 * Answers the request that on_upgrade or on_http was called with by an HTTP response, from there
 * or later, which ends the connection.
 *
 * response: must not be NULL; copied.
 * Thread, callbacks and errors: as wsabi_conn_accept.
 */
wsabi_status wsabi_conn_respond(struct wsabi_loop *loop,
                                wsabi_conn conn,
                                const struct wsabi_response *response);

/**
 * Stops reading: nothing that the peer sends is looked at until wsabi_conn_resume, its Close and
 * the end of its stream neither. on_drain still comes, and on_close if this side ends the
 * connection. The clocks that watch the peer's silence stand still.
 *
 * Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_CLOSED,
 * WSABI_E_STATE before on_open, WSABI_E_THREAD, WSABI_E_FORKED.
 */
wsabi_status wsabi_conn_pause(struct wsabi_loop *loop, wsabi_conn conn);

/**
 * Reads again; what was read before comes first.
 *
 * Thread, callbacks and errors: as wsabi_conn_pause.
 */
wsabi_status wsabi_conn_resume(struct wsabi_loop *loop, wsabi_conn conn);

/**
 * Writes what waits for this connection, as far as the kernel takes it, without waiting for the
 * end of the dispatch.
 *
 * Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_CLOSED,
 * WSABI_E_THREAD, WSABI_E_FORKED.
 */
wsabi_status wsabi_conn_flush(struct wsabi_loop *loop, wsabi_conn conn);

/**
 * Bytes that wait to be written.
 *
 * out: receives them; not written on failure.
 * Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_CLOSED,
 * WSABI_E_THREAD.
 */
wsabi_status wsabi_conn_buffered(const struct wsabi_loop *loop, wsabi_conn conn, uint64_t *out);

/**
 * How far a connection has come: one of WSABI_STATE_CLOSED (also for a stale number and from
 * another thread than the loop's), _CONNECTING, _OPEN and _CLOSING.
 *
 * Thread: the loop's. Inside callbacks: yes.
 */
uint32_t wsabi_conn_state(const struct wsabi_loop *loop, wsabi_conn conn);

/**
 * Sets the application's own pointer for a connection. The library does not look at it.
 *
 * Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_CLOSED,
 * WSABI_E_THREAD.
 */
wsabi_status wsabi_conn_set_user(struct wsabi_loop *loop, wsabi_conn conn, void *user);

/**
 * The application's own pointer for a connection; NULL until it is set, for a stale number, and
 * from another thread than the loop's. Still answers inside on_close.
 *
 * Thread: the loop's. Inside callbacks: yes.
 */
void *wsabi_conn_user(const struct wsabi_loop *loop, wsabi_conn conn);

/**
 * The server a connection came to; 0 for a client's connection.
 *
 * out: receives it; not written on failure.
 * Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID, WSABI_E_CLOSED,
 * WSABI_E_THREAD.
 */
wsabi_status wsabi_conn_server(const struct wsabi_loop *loop, wsabi_conn conn, wsabi_server *out);

/**
 * The subprotocol in use; empty if there is none, and before the connection is open.
 *
 * out: receives it; not written on failure. Ownership: the library's, until the connection's
 * on_close has returned. Thread: the loop's. Inside callbacks: yes, on_close too.
 * Errors: WSABI_E_INVALID, WSABI_E_CLOSED for a stale number, WSABI_E_THREAD.
 */
wsabi_status wsabi_conn_subprotocol(const struct wsabi_loop *loop,
                                    wsabi_conn conn,
                                    struct wsabi_str *out);

/**
 * What the opening handshake has agreed on about compression; enabled is 0 if it is not in use, and
 * before the connection is open.
 *
 * out: receives it; not written on failure. Thread: the loop's. Inside callbacks: yes.
 * Errors: WSABI_E_INVALID, WSABI_E_CLOSED (inside on_close too), WSABI_E_THREAD.
 */
wsabi_status wsabi_conn_deflate(const struct wsabi_loop *loop,
                                wsabi_conn conn,
                                struct wsabi_agreed *out);

/**
 * The peer's address, such as "127.0.0.1:4711" or "unix:".
 *
 * buf: receives the address and a NUL, if size is enough. len: NULL, or receives the length
 * without the NUL, also if size is not enough.
 * Thread: the loop's. Inside callbacks: yes. Errors: WSABI_E_INVALID (also for too small a
 * buffer), WSABI_E_CLOSED when the transport is gone, WSABI_E_THREAD.
 */
wsabi_status wsabi_conn_peer(const struct wsabi_loop *loop,
                             wsabi_conn conn,
                             char *buf,
                             size_t size,
                             size_t *len);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* WSABI_H */
