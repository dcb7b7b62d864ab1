// SPDX-License-Identifier: MIT OR Apache-2.0
//
// wsabi.hpp: the C++17 face of wsabi.h. Header-only; link the same library.
//
//   wsabi::Loop loop;
//   wsabi::ServerOptions options;
//   options.port = 8080;
//   options.handlers.on_message = [](wsabi::Conn conn, const wsabi::Message& message) {
//     conn.send_text(message.data);
//   };
//   loop.listen(options);
//   loop.run();
//
// Ownership: a Loop owns everything that listens or connects on it, and the handlers. Those of a
// server live until its on_stopped has returned, those of a client until its on_close has
// returned, and none longer than the loop. Conn and Server are numbers with their loop: copy them
// freely; a stale one answers Status::closed as long as the Loop lives, and must not be used after
// that.
// Threads: as in wsabi.h. Functions marked [any thread] may be called from any; all others belong
// to the thread that dispatches the loop.
// Exceptions: Loop(), listen and connect throw wsabi::Error; so do functions that answer a value
// and have none. Everything else answers a Status. A handler must not throw: an exception that
// leaves one ends in std::terminate, since C frames lie below.
// Names: those of wsabi.h; "_ms" is dropped where the type carries the unit.
#ifndef WSABI_HPP
#define WSABI_HPP

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "wsabi.h"

namespace wsabi {

/// What a call answers, and why a connection ended.
enum class Status : std::int32_t {
  ok = WSABI_OK,
  backpressure = WSABI_BACKPRESSURE,  ///< Accepted, but the backlog is above high water.
  // Mistakes of the program.
  invalid = WSABI_E_INVALID, closed = WSABI_E_CLOSED,
  full = WSABI_E_FULL,  ///< Refused; nothing was queued.
  thread = WSABI_E_THREAD, reentrant = WSABI_E_REENTRANT, state = WSABI_E_STATE,
  unsupported = WSABI_E_UNSUPPORTED, forked = WSABI_E_FORKED, panic = WSABI_E_PANIC,
  no_memory = WSABI_E_NO_MEMORY,
  // The system and the network.
  io = WSABI_E_IO, listen = WSABI_E_LISTEN, resolve = WSABI_E_RESOLVE, connect = WSABI_E_CONNECT,
  lost = WSABI_E_LOST,
  // The peer broke a rule or a limit.
  protocol = WSABI_E_PROTOCOL, invalid_text = WSABI_E_INVALID_TEXT,
  message_too_big = WSABI_E_MESSAGE_TOO_BIG, too_many_fragments = WSABI_E_TOO_MANY_FRAGMENTS,
  invalid_deflate = WSABI_E_INVALID_DEFLATE, over_budget = WSABI_E_OVER_BUDGET,
  // The opening handshake.
  handshake = WSABI_E_HANDSHAKE, handshake_too_large = WSABI_E_HANDSHAKE_TOO_LARGE,
  origin = WSABI_E_ORIGIN, refused = WSABI_E_REFUSED, overloaded = WSABI_E_OVERLOADED,
  // Deadlines.
  handshake_timeout = WSABI_E_HANDSHAKE_TIMEOUT, keepalive_timeout = WSABI_E_KEEPALIVE_TIMEOUT,
  idle_timeout = WSABI_E_IDLE_TIMEOUT, close_timeout = WSABI_E_CLOSE_TIMEOUT,
  // Ended by this side.
  terminated = WSABI_E_TERMINATED, stopped = WSABI_E_STOPPED,
};

/// True for Status::ok and Status::backpressure.
constexpr bool ok(Status status) noexcept { return static_cast<std::int32_t>(status) >= 0; }
/// The status' name in C, "WSABI_E_CLOSED".
inline const char* name(Status status) noexcept {
  return wsabi_status_name(static_cast<wsabi_status>(status));
}
/// This thread's last error in words; "" if there was none.
inline const char* last_error() noexcept { return wsabi_last_error(); }
/// The library's version, "0.1.0".
inline const char* version_text() noexcept { return wsabi_version_text(); }

/// The parts of the library, WSABI_FEATURE_DEFLATE.
inline std::uint64_t features() noexcept { return wsabi_features(); }

/// Thrown by Loop(), listen, connect and by getters without an answer.
class Error : public std::runtime_error {
 public:
  /// An error with its status and its text.
  Error(Status status, const std::string& text) : std::runtime_error(text), status_(status) {}
  /// Which error it is.
  Status status() const noexcept { return status_; }

 private:
  Status status_;
};

enum class MessageType : std::uint32_t { text = WSABI_TEXT, binary = WSABI_BINARY };
/// Whether a message is compressed, where compression was agreed on.
enum class Compress : std::uint32_t {
  automatic = WSABI_COMPRESS_AUTO,  ///< From Deflate::min_bytes on.
  always = WSABI_COMPRESS_ALWAYS,
  never = WSABI_COMPRESS_NEVER,
};
enum class State : std::uint32_t {
  closed = WSABI_STATE_CLOSED, connecting = WSABI_STATE_CONNECTING,
  open = WSABI_STATE_OPEN, closing = WSABI_STATE_CLOSING,
};
/// What on_upgrade answers.
enum class Upgrade : std::int32_t {
  accept = WSABI_ACCEPT, refuse = WSABI_REFUSE, later = WSABI_LATER,
};
enum class OriginPolicy : std::uint32_t {
  same = WSABI_ORIGIN_SAME, list = WSABI_ORIGIN_LIST, any = WSABI_ORIGIN_ANY,
};
enum class LogLevel : std::uint32_t {
  standard = 0,  ///< warn
  error = WSABI_LOG_ERROR, warn = WSABI_LOG_WARN, info = WSABI_LOG_INFO,
  debug = WSABI_LOG_DEBUG,
};

/// A message; `data` lives until the handler returns.
struct Message {
  MessageType type;
  std::string_view data;
};

/// A part of a message, as it has come; `data` lives until the handler returns. Text is cut between
/// characters.
struct Chunk {
  MessageType type;
  std::string_view data;  ///< Empty only in a last chunk.
  bool first;             ///< A message begins with it.
  bool last;              ///< The message ends with it.
};

/// How a connection ended; the texts live until on_close returns.
struct Close {
  std::uint16_t code;         ///< The peer's code; 1005: none in its Close; 1006: no Close came.
  std::uint16_t http_status;  ///< Of a refused handshake (clients), else 0.
  bool clean;                 ///< The closing handshake completed, no message was dropped.
  Status status;              ///< Status::ok when clean, else why it ended.
  int os_error;
  std::string_view reason;  ///< The peer's.
  std::string_view detail;  ///< English, for logs.
  std::uint64_t messages_dropped;  ///< Accepted by sends, not wholly handed to the system.
};

/// What a server's on_error tells; the texts live until it returns.
struct ServerError {
  Status status;
  int os_error;
  std::string_view detail;
  std::string_view peer;
};

/// The counts of a stopped server.
using Stopped = ::wsabi_stopped;
/// The counts of a loop.
using Stats = ::wsabi_stats;

/// To how many connections a message went: sent, of those backpressure, and refused.
using Reached = ::wsabi_reached;

/// How messages are compressed, if both sides agree on permessage-deflate; 0 is the default named
/// beside it. wsabi_deflate tells what it costs in memory.
struct Deflate {
  std::uint32_t server_max_window_bits = 0;  ///< Of what the server sends, 9 to 15: 12
  std::uint32_t client_max_window_bits = 0;  ///< Of what the client sends, 9 to 15: 12
  bool server_context_takeover = false;      ///< The server's messages may refer to earlier ones.
  bool client_context_takeover = false;      ///< The client's messages may refer to earlier ones.
  std::uint32_t level = 0;                   ///< 1, fast, to 9, small: 6
  std::uint32_t mem_level = 0;               ///< 1 to 9: 8
  std::uint32_t max_ratio = 0;               ///< How many times larger a message may become: any
  std::optional<std::uint64_t> min_bytes;    ///< Shorter messages are sent as they are: 1024
};

/// What was agreed on about compression.
struct Agreed {
  std::uint32_t server_max_window_bits;
  std::uint32_t client_max_window_bits;
  bool server_context_takeover;
  bool client_context_takeover;
};

/// A header to send.
struct Header {
  std::string name;
  std::string value;
};

/// How to accept a request; see Conn::accept.
struct AcceptOptions {
  std::optional<std::string> subprotocol;  ///< Unset: the server's own choice; "": none.
  std::vector<Header> headers;
};

/// An HTTP answer; see Conn::respond.
struct Response {
  std::uint16_t status = 200;
  std::vector<Header> headers;
  std::string body;
};

namespace detail {

inline std::string_view view(wsabi_str s) noexcept {
  return s.len == 0 ? std::string_view() : std::string_view(s.data, s.len);
}

inline void check(wsabi_status status) {
  if (status < 0) throw Error(static_cast<Status>(status), wsabi_last_error());
}

inline wsabi_str str(const std::string& s) noexcept { return wsabi_str{s.data(), s.size()}; }

inline std::vector<wsabi_header> headers(const std::vector<Header>& from) {
  std::vector<wsabi_header> to;
  to.reserve(from.size());
  for (const Header& h : from) to.push_back(wsabi_header{str(h.name), str(h.value)});
  return to;
}

// A C string ends at its first NUL, so a longer std::string would be cut in silence.
inline const char* c_str(const std::string& s, const char* field) {
  if (s.find('\0') != std::string::npos) {
    throw Error(Status::invalid, std::string(field) + " contains a NUL byte");
  }
  return s.c_str();
}

inline std::vector<const char*> c_strs(const std::vector<std::string>& from, const char* field) {
  std::vector<const char*> to;
  to.reserve(from.size());
  for (const std::string& s : from) to.push_back(c_str(s, field));
  return to;
}

template <class Call>
std::string text_from(Call call) {
  std::string text(64, '\0');
  std::size_t len = 0;
  wsabi_status status = call(&text[0], text.size(), &len);
  if (status == WSABI_E_INVALID && len >= text.size()) {
    text.resize(len + 1);
    status = call(&text[0], text.size(), &len);
  }
  check(status);
  text.resize(len);
  return text;
}

template <class T>
constexpr bool is_shared = false;
template <class T>
constexpr bool is_shared<std::shared_ptr<T>> = true;

// The bytes of a std::string, a std::vector of bytes, or a std::shared_ptr to either.
template <class T>
std::pair<const void*, std::size_t> bytes_of(const T& payload) noexcept {
  if constexpr (is_shared<T>) {
    return payload ? bytes_of(*payload) : std::pair<const void*, std::size_t>(nullptr, 1);
  } else {
    static_assert(sizeof(*payload.data()) == 1, "a payload is of bytes");
    return {payload.data(), payload.size()};
  }
}

inline wsabi_message message(MessageType type, const void* data, std::size_t len,
                             Compress compress) noexcept {
  wsabi_message raw{};
  raw.struct_size = sizeof raw;
  raw.type = static_cast<std::uint32_t>(type);
  raw.compress = static_cast<std::uint32_t>(compress);
  raw.data = data;
  raw.len = len;
  return raw;
}

// Moves the payload to where it stays, and gives it back if `take` refuses it.
template <class T, class Take>
wsabi_status give(MessageType type, T& payload, Compress compress, Take take) {
  auto kept = std::make_unique<T>(std::move(payload));
  auto [data, len] = bytes_of(*kept);
  wsabi_message raw = message(type, data, len, compress);
  raw.free_hook = [](void* arg) noexcept { delete static_cast<T*>(arg); };
  raw.free_arg = kept.get();
  T* mine = kept.release();
  wsabi_status status = take(raw);
  if (status < 0) {
    kept.reset(mine);
    payload = std::move(*kept);
  }
  return status;
}

}  // namespace detail

/// A message made once to be sent to many, from one copy of its payload, which is compressed once
/// for each way in which connections compress. Belongs to no loop and no thread. Move-only.
class Prepared {
 public:
  /// Copies the payload. Throws Error for text that is not UTF-8.
  Prepared(MessageType type, std::string_view data, Compress compress = Compress::automatic) {
    wsabi_message message = detail::message(type, data.data(), data.size(), compress);
    detail::check(wsabi_prepared_new(&message, &raw_));
  }
  /// Takes over a std::string, a std::vector of bytes, or a std::shared_ptr to one, instead of
  /// copying it. It is destroyed on the thread that has it last. Throws Error, and gives it back.
  template <class T>
  static Prepared owned(MessageType type, T&& payload, Compress compress = Compress::automatic) {
    static_assert(!std::is_lvalue_reference_v<T>, "std::move what is to be taken over");
    Prepared prepared;
    detail::check(detail::give(type, payload, compress, [&](const wsabi_message& message) {
      return wsabi_prepared_new(&message, &prepared.raw_);
    }));
    return prepared;
  }
  ~Prepared() { wsabi_prepared_free(raw_); }
  Prepared(Prepared&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Prepared& operator=(Prepared&& other) noexcept {
    if (this != &other) {
      wsabi_prepared_free(raw_);
      raw_ = std::exchange(other.raw_, nullptr);
    }
    return *this;
  }
  Prepared(const Prepared&) = delete;
  Prepared& operator=(const Prepared&) = delete;
  /// The C object, which stays this one's.
  const wsabi_prepared* raw() const noexcept { return raw_; }

 private:
  Prepared() noexcept = default;

  wsabi_prepared* raw_ = nullptr;
};

/// A request (servers) or response (clients). Lives, with all its texts, until the handler returns.
class Handshake {
 public:
  explicit Handshake(const wsabi_handshake* raw) noexcept : raw_(raw) {}
  /// The request's method; empty for a response.
  std::string_view method() const noexcept { return detail::view(wsabi_handshake_method(raw_)); }
  /// The request's target as sent, "/chat?room=1".
  std::string_view target() const noexcept { return detail::view(wsabi_handshake_target(raw_)); }
  /// The target's path, "/chat".
  std::string_view path() const noexcept { return detail::view(wsabi_handshake_path(raw_)); }
  /// The target's query, "room=1".
  std::string_view query() const noexcept { return detail::view(wsabi_handshake_query(raw_)); }
  /// The response's status; 0 for a request.
  std::uint16_t status() const noexcept { return wsabi_handshake_status(raw_); }
  /// The first header of that name, in any case.
  std::optional<std::string_view> header(const char* name) const noexcept {
    wsabi_str value = wsabi_handshake_header(raw_, name);
    if (value.data == nullptr) return std::nullopt;
    return std::string_view(value.data, value.len);
  }
  /// All headers in the order they came.
  std::vector<std::pair<std::string_view, std::string_view>> headers() const {
    std::vector<std::pair<std::string_view, std::string_view>> all;
    wsabi_header h;
    for (std::size_t i = 0; wsabi_handshake_header_at(raw_, i, &h) == WSABI_OK; ++i) {
      all.emplace_back(detail::view(h.name), detail::view(h.value));
    }
    return all;
  }
  /// The subprotocols the client offers, in its order.
  std::vector<std::string_view> subprotocols() const {
    std::vector<std::string_view> all;
    wsabi_str s;
    for (std::size_t i = 0; wsabi_handshake_subprotocol_at(raw_, i, &s) == WSABI_OK; ++i) {
      all.push_back(detail::view(s));
    }
    return all;
  }
  /// The C object.
  const wsabi_handshake* raw() const noexcept { return raw_; }

 private:
  const wsabi_handshake* raw_;
};

/// A connection: a number with its loop. An empty one (Conn()) answers Status::invalid.
class Conn {
 public:
  Conn() noexcept = default;
  Conn(wsabi_loop* loop, wsabi_conn number) noexcept : loop_(loop), number_(number) {}

  /// Accepts a request that on_upgrade holds. [any thread]
  Status accept(const AcceptOptions& options = {}) const {
    std::vector<wsabi_header> headers = detail::headers(options.headers);
    wsabi_accept_options raw{};
    raw.struct_size = sizeof raw;
    if (options.subprotocol) {
      if (options.subprotocol->find('\0') != std::string::npos) return Status::invalid;
      raw.subprotocol = options.subprotocol->c_str();
    }
    raw.headers = headers.data();
    raw.header_count = headers.size();
    return status(wsabi_conn_accept(loop_, number_, &raw));
  }
  /// Answers a request by HTTP: refuses an upgrade, or answers on_http. [any thread]
  Status respond(const Response& response) const {
    std::vector<wsabi_header> headers = detail::headers(response.headers);
    wsabi_response raw{};
    raw.struct_size = sizeof raw;
    raw.headers = headers.data();
    raw.header_count = headers.size();
    raw.body = response.body.data();
    raw.body_len = response.body.size();
    raw.status = response.status;
    return status(wsabi_conn_respond(loop_, number_, &raw));
  }
  /// Sends a text message; it must be UTF-8. [any thread]
  Status send_text(std::string_view text) const noexcept {
    return status(wsabi_conn_send_text(loop_, number_, text.data(), text.size()));
  }
  /// Sends a binary message. [any thread]
  Status send_binary(const void* data, std::size_t len) const noexcept {
    return status(wsabi_conn_send_binary(loop_, number_, data, len));
  }
  /// Sends a binary message. [any thread]
  Status send_binary(std::string_view data) const noexcept {
    return send_binary(data.data(), data.size());
  }
  /// Sends a message of either type. [any thread]
  Status send(MessageType type, std::string_view data,
              Compress compress = Compress::automatic) const noexcept {
    wsabi_message message = detail::message(type, data.data(), data.size(), compress);
    return status(wsabi_conn_send(loop_, number_, &message));
  }
  /// Sends a std::string, a std::vector of bytes, or a std::shared_ptr to one, which is kept until
  /// it is written instead of being copied, and destroyed on the loop's thread then; that must not
  /// call into the loop. `payload` is moved from; if this fails it has its value back. [any thread]
  template <class T>
  Status send_owned(MessageType type, T&& payload,
                    Compress compress = Compress::automatic) const {
    static_assert(!std::is_lvalue_reference_v<T>, "std::move what is to be taken over");
    return status(detail::give(type, payload, compress, [this](const wsabi_message& message) {
      return wsabi_conn_send(loop_, number_, &message);
    }));
  }
  /// Sends a prepared message. [any thread]
  Status send_prepared(const Prepared& message) const noexcept {
    return status(wsabi_conn_send_prepared(loop_, number_, message.raw()));
  }
  /// Sends a fragment of a message; `type` is the same for all of them, `fin` ends it; `compress`
  /// counts in the first. [any thread]
  Status send_fragment(MessageType type, std::string_view data, bool fin,
                       Compress compress = Compress::automatic) const noexcept {
    return status(wsabi_conn_send_fragment_with(
        loop_, number_, static_cast<std::uint32_t>(type), data.data(), data.size(), fin ? 1 : 0,
        static_cast<std::uint32_t>(compress)));
  }
  /// Sends a ping with at most 125 bytes. [any thread]
  Status ping(std::string_view data = {}) const noexcept {
    return status(wsabi_conn_ping(loop_, number_, data.data(), data.size()));
  }
  /// Sends an unsolicited pong with at most 125 bytes. [any thread]
  Status pong(std::string_view data = {}) const noexcept {
    return status(wsabi_conn_pong(loop_, number_, data.data(), data.size()));
  }
  /// Starts the closing handshake; code 0 sends none; `reason` has at most 123 bytes. [any thread]
  Status close(std::uint16_t code = 1000, std::string_view reason = {}) const noexcept {
    return status(wsabi_conn_close(loop_, number_, code, reason.data(), reason.size()));
  }
  /// Drops the transport; only on_close follows. [any thread]
  Status terminate() const noexcept { return status(wsabi_conn_terminate(loop_, number_)); }
  /// Stops reading: nothing that the peer sends is looked at until resume; on_drain still comes.
  Status pause() const noexcept { return status(wsabi_conn_pause(loop_, number_)); }
  /// Reads again.
  Status resume() const noexcept { return status(wsabi_conn_resume(loop_, number_)); }
  /// Writes what is queued without waiting for the end of the dispatch.
  Status flush() const noexcept { return status(wsabi_conn_flush(loop_, number_)); }
  /// Bytes queued and not yet taken by the kernel; 0 when closed.
  std::uint64_t buffered() const noexcept {
    std::uint64_t bytes = 0;
    return wsabi_conn_buffered(loop_, number_, &bytes) < 0 ? 0 : bytes;
  }
  /// Where the connection stands in its life.
  State state() const noexcept { return static_cast<State>(wsabi_conn_state(loop_, number_)); }
  /// The peer's address, "127.0.0.1:4711". Throws Error when closed.
  std::string peer() const {
    return detail::text_from([this](char* buf, std::size_t size, std::size_t* len) {
      return wsabi_conn_peer(loop_, number_, buf, size, len);
    });
  }
  /// The subprotocol agreed on, or empty; lives until the connection's on_close has returned.
  std::string_view subprotocol() const noexcept {
    wsabi_str s{};
    return wsabi_conn_subprotocol(loop_, number_, &s) < 0 ? std::string_view() : detail::view(s);
  }
  /// What was agreed on about compression; nothing if it is not in use, before on_open, and when
  /// closed.
  std::optional<Agreed> deflate() const noexcept {
    wsabi_agreed raw{};
    if (wsabi_conn_deflate(loop_, number_, &raw) < 0 || raw.enabled == 0) return std::nullopt;
    return Agreed{raw.server_max_window_bits, raw.client_max_window_bits,
                  raw.server_context_takeover != 0, raw.client_context_takeover != 0};
  }
  /// Keeps a pointer of yours with the connection; yours to free, at the latest in on_close.
  Status set_user(void* user) const noexcept {
    return status(wsabi_conn_set_user(loop_, number_, user));
  }
  /// The pointer of set_user; nullptr when closed.
  void* user() const noexcept { return wsabi_conn_user(loop_, number_); }

  /// The loop's C object.
  wsabi_loop* loop() const noexcept { return loop_; }
  /// The connection's number in C.
  wsabi_conn number() const noexcept { return number_; }
  /// False for Conn(); true says nothing about being open.
  explicit operator bool() const noexcept { return number_ != 0; }
  friend bool operator==(const Conn& a, const Conn& b) noexcept {
    return a.loop_ == b.loop_ && a.number_ == b.number_;
  }
  friend bool operator!=(const Conn& a, const Conn& b) noexcept { return !(a == b); }

 private:
  static Status status(wsabi_status raw) noexcept { return static_cast<Status>(raw); }

  wsabi_loop* loop_ = nullptr;
  wsabi_conn number_ = 0;
};

/// A server: a number with its loop, which owns it.
class Server {
 public:
  Server() noexcept = default;
  Server(wsabi_loop* loop, wsabi_server number) noexcept : loop_(loop), number_(number) {}
  /// The port it listens on; 0 for a unix socket. Throws Error when stopped.
  std::uint16_t port() const {
    std::uint16_t port = 0;
    detail::check(wsabi_server_port(loop_, number_, &port));
    return port;
  }
  /// The address it listens on, "127.0.0.1:8080". Throws Error when stopped.
  std::string address() const {
    return detail::text_from([this](char* buf, std::size_t size, std::size_t* len) {
      return wsabi_server_address(loop_, number_, buf, size, len);
    });
  }
  /// Stops accepting, sends 1001 to all, resets what is left after `grace` (0: 10 s), then
  /// on_stopped. [any thread]
  Status stop(std::chrono::milliseconds grace = std::chrono::milliseconds(0)) const noexcept {
    if (grace.count() < 0 || grace.count() > std::int64_t{UINT32_MAX}) return Status::invalid;
    return static_cast<Status>(
        wsabi_server_stop(loop_, number_, static_cast<std::uint32_t>(grace.count())));
  }
  /// Sends a message to all open connections but one. [any thread], but for `reached`, which tells
  /// to how many it went, on the loop's thread only.
  Status broadcast(const Prepared& message, Conn except = {},
                   Reached* reached = nullptr) const noexcept {
    return static_cast<Status>(
        wsabi_server_broadcast(loop_, number_, message.raw(), except.number(), reached));
  }
  /// The loop's C object.
  wsabi_loop* loop() const noexcept { return loop_; }
  /// The server's number in C.
  wsabi_server number() const noexcept { return number_; }

 private:
  wsabi_loop* loop_ = nullptr;
  wsabi_server number_ = 0;
};

/// Owns a server: stops it when it is destroyed, so that its connections get 1001 from the
/// dispatches that follow. Declare it after its Loop, which it must not outlive.
class ServerGuard {
 public:
  explicit ServerGuard(Server server) noexcept : server_(server) {}
  ~ServerGuard() { stop(); }
  ServerGuard(ServerGuard&& other) noexcept : server_(other.release()) {}
  ServerGuard& operator=(ServerGuard&& other) noexcept {
    if (this != &other) {
      stop();
      server_ = other.release();
    }
    return *this;
  }
  ServerGuard(const ServerGuard&) = delete;
  ServerGuard& operator=(const ServerGuard&) = delete;
  /// The server, for its address and port.
  const Server& operator*() const noexcept { return server_; }
  const Server* operator->() const noexcept { return &server_; }
  /// Gives the server up: it goes on until it is stopped otherwise.
  Server release() noexcept { return std::exchange(server_, Server()); }

 private:
  // One that has stopped by itself answers closed, which is as well.
  void stop() noexcept {
    if (server_.number() != 0) server_.stop();
  }
  Server server_;
};

/// The handlers of a client; leave empty what does not matter.
struct ClientHandlers {
  std::function<void(Conn, const Handshake&)> on_open;
  std::function<void(Conn, const Message&)> on_message;
  std::function<void(Conn, const Chunk&)> on_chunk;  ///< Instead of on_message, if set.
  std::function<void(Conn)> on_drain;
  std::function<void(Conn, std::string_view)> on_ping;
  std::function<void(Conn, std::string_view)> on_pong;
  std::function<void(Conn, const Close&)> on_close;
};

/// The handlers of a server: a client's and four of its own.
struct ServerHandlers : ClientHandlers {
  std::function<Upgrade(Conn, const Handshake&)> on_upgrade;
  std::function<void(Conn, const Handshake&)> on_http;
  std::function<void(Server, const ServerError&)> on_error;
  std::function<void(Server, const Stopped&)> on_stopped;
};

/// Turns a deadline off, where that is allowed.
inline constexpr std::chrono::milliseconds off{WSABI_OFF};
/// Lifts a limit in bytes, where that is allowed.
inline constexpr std::uint64_t unlimited = WSABI_UNLIMITED;

/// Limits and deadlines of a connection; 0 is the default named beside it.
struct Limits {
  std::uint64_t max_message_bytes = 0;               ///< 16 MiB
  std::uint32_t max_fragments = 0;                   ///< 65536
  std::uint32_t max_handshake_bytes = 0;             ///< 16384
  std::uint32_t max_handshake_headers = 0;           ///< 100
  std::chrono::milliseconds handshake_timeout{0};    ///< 10 s
  std::chrono::milliseconds hold_timeout{0};         ///< 10 s
  std::chrono::milliseconds ping_interval{0};        ///< 20 s
  std::chrono::milliseconds ping_timeout{0};         ///< 20 s
  std::chrono::milliseconds idle_timeout{0};         ///< off
  std::chrono::milliseconds close_timeout{0};        ///< 5 s
  std::uint32_t max_pending_handshakes = 0;          ///< 1024
  std::uint64_t high_water_bytes = 0;                ///< 1 MiB
  std::uint64_t low_water_bytes = 0;                 ///< 256 KiB
  std::uint64_t max_backlog_bytes = 0;               ///< 16 MiB
};

/// What Loop::listen takes.
struct ServerOptions {
  ServerHandlers handlers;
  Limits limits;
  std::optional<Deflate> deflate;        ///< Unset: no compression.
  std::uint64_t max_buffered_bytes = 0;  ///< Of all connections together; 0: no limit.
  std::string host;       ///< Empty: every address, IPv6 and IPv4.
  std::string unix_path;  ///< A unix socket instead of host and port.
  std::vector<std::string> subprotocols;
  std::vector<std::string> origins;  ///< With OriginPolicy::list.
  OriginPolicy origin_policy = OriginPolicy::same;
  std::uint32_t backlog = 0;  ///< Of listen(2): 4096.
  bool reuse_port = false;
  bool no_delay_off = false;
  std::uint16_t port = 0;  ///< 0 picks one; see Server::port.
};

/// What Loop::connect takes beside the URL.
struct ClientOptions {
  ClientHandlers handlers;
  Limits limits;
  std::optional<Deflate> deflate;  ///< Unset: no compression.
  std::string unix_path;  ///< Connects to this unix socket; the URL still gives Host and path.
  std::string origin;
  std::vector<std::string> subprotocols;
  std::vector<Header> headers;
  void* conn_user = nullptr;
  bool no_delay_off = false;
};

/// What Loop() takes.
struct LoopOptions {
  std::function<void(LogLevel, std::string_view)> log;  ///< Must not call into the loop.
  LogLevel log_level = LogLevel::standard;              ///< The least important level to log.
  std::uint32_t max_events = 0;                         ///< Handler calls per dispatch: 4096.
  std::uint64_t max_inbox_bytes = 0;                    ///< From other threads: 16 MiB.
};

namespace detail {

struct LoopState;

// The handlers of one listen or connect; the C library holds a pointer to it as `user`.
struct Box {
  explicit Box(LoopState& owner) : state(owner) {}
  LoopState& state;
  ServerHandlers handlers;
  std::list<Box>::iterator self;
};

// What a Loop owns. It has an address of its own, so that a Loop can move, and it outlives a Loop
// that is destroyed inside one of its own handlers, until that dispatch ends.
struct LoopState {
  wsabi_loop* raw = nullptr;
  std::function<void(LogLevel, std::string_view)> log;
  std::list<Box> boxes;
  unsigned depth = 0;
  bool orphan = false;
};

// Takes the box from its loop, to be destroyed with the answered list.
inline std::list<Box> take(Box& box) noexcept {
  std::list<Box> mine;
  mine.splice(mine.begin(), box.state.boxes, box.self);
  return mine;
}

inline Box& box_of(void* user) noexcept { return *static_cast<Box*>(user); }

inline std::string_view view(const void* data, std::size_t len) noexcept {
  return view(wsabi_str{static_cast<const char*>(data), len});
}

inline Close close_info(const wsabi_close& c) noexcept {
  return Close{c.code,     c.http_status,  c.clean != 0,  static_cast<Status>(c.status),
               c.os_error, view(c.reason), view(c.detail), c.messages_dropped};
}

// The trampolines are noexcept: an exception ends in std::terminate instead of crossing C frames.
// Only what is set is given to C, where an absent handler has its own meaning.
inline void fill(wsabi_handlers& to, Box& box) noexcept {
  const ServerHandlers& from = box.handlers;
  to.user = &box;
  if (from.on_open) {
    to.on_open = [](wsabi_loop* l, wsabi_conn c, const wsabi_handshake* h, void* user) noexcept {
      box_of(user).handlers.on_open(Conn(l, c), Handshake(h));
    };
  }
  if (from.on_message) {
    to.on_message = [](wsabi_loop* l, wsabi_conn c, const wsabi_message* m, void* user) noexcept {
      Message message{static_cast<MessageType>(m->type), view(m->data, m->len)};
      box_of(user).handlers.on_message(Conn(l, c), message);
    };
  }
  if (from.on_chunk) {
    to.on_chunk = [](wsabi_loop* l, wsabi_conn c, std::uint32_t type, const void* data,
                     std::size_t len, std::uint32_t flags, void* user) noexcept {
      Chunk chunk{static_cast<MessageType>(type), view(data, len),
                  (flags & WSABI_CHUNK_FIRST) != 0, (flags & WSABI_CHUNK_LAST) != 0};
      box_of(user).handlers.on_chunk(Conn(l, c), chunk);
    };
  }
  if (from.on_drain) {
    to.on_drain = [](wsabi_loop* l, wsabi_conn c, void* user) noexcept {
      box_of(user).handlers.on_drain(Conn(l, c));
    };
  }
  if (from.on_ping) {
    to.on_ping = [](wsabi_loop* l, wsabi_conn c, const std::uint8_t* data, std::size_t len,
                    void* user) noexcept {
      box_of(user).handlers.on_ping(Conn(l, c), view(data, len));
    };
  }
  if (from.on_pong) {
    to.on_pong = [](wsabi_loop* l, wsabi_conn c, const std::uint8_t* data, std::size_t len,
                    void* user) noexcept {
      box_of(user).handlers.on_pong(Conn(l, c), view(data, len));
    };
  }
}

// A client's on_close is the last call its handlers get.
inline void fill_client(wsabi_handlers& to, Box& box) noexcept {
  fill(to, box);
  to.on_close = [](wsabi_loop* l, wsabi_conn c, const wsabi_close* close, void* user) noexcept {
    std::list<Box> last = take(box_of(user));
    const ServerHandlers& handlers = last.front().handlers;
    if (handlers.on_close) handlers.on_close(Conn(l, c), close_info(*close));
  };
}

// A server's on_stopped is the last call its handlers get.
inline void fill_server(wsabi_handlers& to, Box& box) noexcept {
  const ServerHandlers& from = box.handlers;
  fill(to, box);
  if (from.on_upgrade) {
    to.on_upgrade = [](wsabi_loop* l, wsabi_conn c, const wsabi_handshake* h, void* user) noexcept {
      return static_cast<std::int32_t>(box_of(user).handlers.on_upgrade(Conn(l, c), Handshake(h)));
    };
  }
  if (from.on_http) {
    to.on_http = [](wsabi_loop* l, wsabi_conn c, const wsabi_handshake* h, void* user) noexcept {
      box_of(user).handlers.on_http(Conn(l, c), Handshake(h));
    };
  }
  if (from.on_close) {
    to.on_close = [](wsabi_loop* l, wsabi_conn c, const wsabi_close* close, void* user) noexcept {
      box_of(user).handlers.on_close(Conn(l, c), close_info(*close));
    };
  }
  if (from.on_error) {
    to.on_error = [](wsabi_loop* l, wsabi_server s, const wsabi_error* e, void* user) noexcept {
      Status status = static_cast<Status>(e->status);
      ServerError error{status, e->os_error, view(e->detail), view(e->peer)};
      box_of(user).handlers.on_error(Server(l, s), error);
    };
  }
  to.on_stopped = [](wsabi_loop* l, wsabi_server s, const wsabi_stopped* n, void* user) noexcept {
    std::list<Box> last = take(box_of(user));
    const ServerHandlers& handlers = last.front().handlers;
    if (handlers.on_stopped) handlers.on_stopped(Server(l, s), *n);
  };
}

inline std::uint32_t ms(std::chrono::milliseconds value, const char* field) {
  if (value.count() < 0 || value.count() > std::int64_t{UINT32_MAX}) {
    throw Error(Status::invalid, std::string(field) + " is " + std::to_string(value.count()) +
                                     " ms; expected 0 to 4294967294, or wsabi::off");
  }
  return static_cast<std::uint32_t>(value.count());
}

inline wsabi_limits limits(const Limits& from) {
  wsabi_limits to{};
  to.max_message_bytes = from.max_message_bytes;
  to.max_fragments = from.max_fragments;
  to.max_handshake_bytes = from.max_handshake_bytes;
  to.max_handshake_headers = from.max_handshake_headers;
  to.handshake_timeout_ms = ms(from.handshake_timeout, "handshake_timeout");
  to.hold_timeout_ms = ms(from.hold_timeout, "hold_timeout");
  to.ping_interval_ms = ms(from.ping_interval, "ping_interval");
  to.ping_timeout_ms = ms(from.ping_timeout, "ping_timeout");
  to.idle_timeout_ms = ms(from.idle_timeout, "idle_timeout");
  to.close_timeout_ms = ms(from.close_timeout, "close_timeout");
  to.max_pending_handshakes = from.max_pending_handshakes;
  to.high_water_bytes = from.high_water_bytes;
  to.low_water_bytes = from.low_water_bytes;
  to.max_backlog_bytes = from.max_backlog_bytes;
  return to;
}

inline wsabi_deflate deflate(const std::optional<Deflate>& from) noexcept {
  wsabi_deflate to{};
  if (!from) return to;
  to.enabled = 1;
  to.server_max_window_bits = from->server_max_window_bits;
  to.client_max_window_bits = from->client_max_window_bits;
  to.server_context_takeover = from->server_context_takeover ? 1 : 0;
  to.client_context_takeover = from->client_context_takeover ? 1 : 0;
  to.level = from->level;
  to.mem_level = from->mem_level;
  to.max_ratio = from->max_ratio;
  if (from->min_bytes) to.min_bytes = *from->min_bytes == 0 ? 1 : *from->min_bytes;
  return to;
}

}  // namespace detail

/// The loop: owns its servers, connections and handlers. Move-only.
/// Dispatch it through this object only, not by the C functions on raw().
class Loop {
 public:
  /// Makes a loop. Throws Error.
  explicit Loop(const LoopOptions& options = {}) : state_(new detail::LoopState) {
    wsabi_loop_options raw{};
    raw.struct_size = sizeof raw;
    if (options.log) {
      state_->log = options.log;
      raw.log = [](std::uint32_t level, const char* text, std::size_t len, void* user) noexcept {
        static_cast<detail::LoopState*>(user)->log(static_cast<LogLevel>(level), {text, len});
      };
      raw.log_user = state_.get();
    }
    raw.log_level = static_cast<std::uint32_t>(options.log_level);
    raw.max_events = options.max_events;
    raw.max_inbox_bytes = options.max_inbox_bytes;
    detail::check(wsabi_loop_new(&raw, &state_->raw));
  }
  /// Every open connection gets on_close first, with Status::stopped; to connect anew there throws.
  /// Inside a handler all this waits for the end of the dispatch.
  ~Loop() { free(); }
  Loop(Loop&& other) noexcept = default;
  Loop& operator=(Loop&& other) noexcept {
    if (this != &other) {
      free();
      state_ = std::move(other.state_);
    }
    return *this;
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  /// Listens; the answered Server is a handle, the loop owns the server. Throws Error.
  Server listen(const ServerOptions& options) {
    wsabi_server_options raw{};
    raw.struct_size = sizeof raw;
    raw.limits = detail::limits(options.limits);
    raw.deflate = detail::deflate(options.deflate);
    raw.max_buffered_bytes = options.max_buffered_bytes;
    if (!options.host.empty()) raw.host = detail::c_str(options.host, "host");
    if (!options.unix_path.empty()) raw.unix_path = detail::c_str(options.unix_path, "unix_path");
    std::vector<const char*> subprotocols = detail::c_strs(options.subprotocols, "subprotocols");
    std::vector<const char*> origins = detail::c_strs(options.origins, "origins");
    raw.subprotocols = subprotocols.data();
    raw.subprotocol_count = subprotocols.size();
    raw.origins = origins.data();
    raw.origin_count = origins.size();
    raw.origin_policy = static_cast<std::uint32_t>(options.origin_policy);
    raw.backlog = options.backlog;
    raw.reuse_port = options.reuse_port ? 1 : 0;
    raw.no_delay_off = options.no_delay_off ? 1 : 0;
    raw.port = options.port;
    std::list<detail::Box> box = make_box(options.handlers);
    detail::fill_server(raw.handlers, box.front());
    wsabi_server number = 0;
    detail::check(wsabi_listen(state_->raw, &raw, &number));
    state_->boxes.splice(state_->boxes.begin(), box);
    return Server(state_->raw, number);
  }
  /// Connects; on_close comes exactly once, also if on_open never did. Throws Error.
  Conn connect(const std::string& url, const ClientOptions& options = {}) {
    wsabi_client_options raw{};
    raw.struct_size = sizeof raw;
    raw.limits = detail::limits(options.limits);
    raw.deflate = detail::deflate(options.deflate);
    if (!options.unix_path.empty()) raw.unix_path = detail::c_str(options.unix_path, "unix_path");
    if (!options.origin.empty()) raw.origin = detail::c_str(options.origin, "origin");
    std::vector<const char*> subprotocols = detail::c_strs(options.subprotocols, "subprotocols");
    std::vector<wsabi_header> headers = detail::headers(options.headers);
    raw.subprotocols = subprotocols.data();
    raw.subprotocol_count = subprotocols.size();
    raw.headers = headers.data();
    raw.header_count = headers.size();
    raw.conn_user = options.conn_user;
    raw.no_delay_off = options.no_delay_off ? 1 : 0;
    ServerHandlers handlers;
    static_cast<ClientHandlers&>(handlers) = options.handlers;
    std::list<detail::Box> box = make_box(std::move(handlers));
    detail::fill_client(raw.handlers, box.front());
    wsabi_conn number = 0;
    detail::check(wsabi_connect(state_->raw, detail::c_str(url, "url"), &raw, &number));
    state_->boxes.splice(state_->boxes.begin(), box);
    return Conn(state_->raw, number);
  }

  /// Sends a message to these connections, any range of Conn. Those that are not open, or are
  /// another loop's, are passed over. Throws Error.
  template <class Conns>
  Reached broadcast(const Prepared& message, const Conns& conns) {
    std::vector<wsabi_conn> numbers;
    for (const Conn& conn : conns) {
      if (conn.loop() == state_->raw) numbers.push_back(conn.number());
    }
    Reached reached{};
    detail::check(wsabi_broadcast(state_->raw, message.raw(), numbers.data(), numbers.size(),
                                  &reached));
    return reached;
  }

  /// The one descriptor to watch for reading; -1 where there is none.
  int fd() const noexcept { return wsabi_loop_fd(state_->raw); }
  /// Until the next deadline; for hosts that cannot watch the descriptor.
  std::optional<std::chrono::milliseconds> timeout() const noexcept {
    std::int64_t ms = wsabi_loop_timeout_ms(state_->raw);
    if (ms < 0) return std::nullopt;
    return std::chrono::milliseconds(ms);
  }
  /// Does what is due, without waiting; `more`: work is left (the descriptor is readable, too).
  Status dispatch(bool* more = nullptr) noexcept {
    std::uint32_t left = 0;
    Status status = inside([&left](wsabi_loop* raw) { return wsabi_loop_dispatch(raw, &left); });
    if (more != nullptr) *more = left != 0;
    return status;
  }
  /// Waits without limit for something to do, then dispatches.
  Status poll() noexcept {
    return inside([](wsabi_loop* raw) { return wsabi_loop_poll(raw, -1); });
  }
  /// Waits at most `timeout`, then dispatches.
  Status poll(std::chrono::milliseconds timeout) noexcept {
    return inside([timeout](wsabi_loop* raw) { return wsabi_loop_poll(raw, timeout.count()); });
  }
  /// Dispatches until stop, or until nothing is left to do.
  Status run() noexcept {
    return inside([](wsabi_loop* raw) { return wsabi_loop_run(raw); });
  }
  /// Ends run. [any thread]
  Status stop() const noexcept { return static_cast<Status>(wsabi_loop_stop(state_->raw)); }
  /// Calls `f()` on the loop's thread; or destroys it, if the loop is freed first. [any thread]
  template <class F>
  Status post(F f) const {
    auto posted = std::make_unique<F>(std::move(f));
    auto call = [](wsabi_loop*, void* user) noexcept {
      (*std::unique_ptr<F>(static_cast<F*>(user)))();
    };
    auto drop = [](void* user) noexcept { delete static_cast<F*>(user); };
    wsabi_status status = wsabi_loop_post(state_->raw, call, drop, posted.get());
    if (status >= 0) static_cast<void>(posted.release());
    return static_cast<Status>(status);
  }
  /// With true, sends outside a dispatch wait for flush or the next dispatch.
  Status defer(bool on) noexcept {
    return static_cast<Status>(wsabi_loop_defer(state_->raw, on ? 1 : 0));
  }
  /// Writes what defer held back.
  Status flush() noexcept { return static_cast<Status>(wsabi_loop_flush(state_->raw)); }
  /// The loop's counts. Throws Error on another thread.
  Stats stats() const {
    Stats stats{};
    detail::check(wsabi_loop_stats(state_->raw, &stats, sizeof stats));
    return stats;
  }
  /// The C object, which stays the Loop's.
  wsabi_loop* raw() const noexcept { return state_->raw; }

 private:
  std::list<detail::Box> make_box(ServerHandlers handlers) {
    std::list<detail::Box> box;
    box.emplace_back(*state_);
    box.front().self = box.begin();
    box.front().handlers = std::move(handlers);
    return box;
  }
  // A handler may destroy this Loop, so nothing but the local pointer is touched after the call.
  template <class Call>
  Status inside(Call call) noexcept {
    detail::LoopState* state = state_.get();
    ++state->depth;
    Status status = static_cast<Status>(call(state->raw));
    if (--state->depth == 0 && state->orphan) delete state;
    return status;
  }
  void free() noexcept {
    if (!state_) return;
    wsabi_loop_free(state_->raw);
    if (state_->depth == 0) {
      state_.reset();
    } else {
      state_->orphan = true;
      static_cast<void>(state_.release());
    }
  }

  std::unique_ptr<detail::LoopState> state_;
};

}  // namespace wsabi

/// Lets a Conn be a key of std::unordered_map.
template <>
struct std::hash<wsabi::Conn> {
  std::size_t operator()(const wsabi::Conn& conn) const noexcept {
    return std::hash<wsabi_conn>()(conn.number()) ^ std::hash<wsabi_loop*>()(conn.loop());
  }
};

#endif  // WSABI_HPP
