// wsabi.hpp: that it says what C says, owns what it should, and lets go of it.
#include "wsabi.hpp"

#include <sys/wait.h>

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <unordered_set>

#include "../c/check.h"

using namespace std::chrono_literals;
using wsabi::Status;

// Captured by handlers, it tells whether they are still there.
using Token = std::shared_ptr<int>;
static Token token() { return std::make_shared<int>(0); }

static void wait(wsabi::Loop& loop, const std::function<bool()>& come, int line) {
  auto end = std::chrono::steady_clock::now() + 60s;
  while (!come() && std::chrono::steady_clock::now() < end) CHECK(wsabi::ok(loop.poll(50ms)));
  if (!come()) {
    fprintf(stderr, "%s:%d: did not come\n", __FILE__, line);
    check_failures++;
  }
}
#define COMES(loop, ...) wait(loop, [&] { return __VA_ARGS__; }, __LINE__)

static wsabi::ServerOptions local() {
  wsabi::ServerOptions options;
  options.host = "127.0.0.1";
  return options;
}
static std::string url(const wsabi::Server& server, const char* path = "/") {
  return "ws://" + server.address() + path;
}

// Runs `call`, which must throw an Error of that status whose text has `words`.
template <class Call>
static void throws(Status status, const char* words, Call call, int line) {
  try {
    call();
  } catch (const wsabi::Error& error) {
    if (error.status() == status && std::string(error.what()).find(words) != std::string::npos) return;
    fprintf(stderr, "%s:%d: threw %s \"%s\"\n", __FILE__, line, wsabi::name(error.status()), error.what());
    check_failures++;
    return;
  }
  fprintf(stderr, "%s:%d: threw nothing\n", __FILE__, line);
  check_failures++;
}
#define THROWS(status, words, ...) throws(status, words, [&] { __VA_ARGS__; }, __LINE__)

static void mistakes_throw() {
  wsabi::Loop loop;
  std::weak_ptr<int> held;
  {
    wsabi::ServerOptions server = local();
    Token mine = token();
    held = mine;
    server.handlers.on_open = [mine](wsabi::Conn, const wsabi::Handshake&) {};
    server.subprotocols = {"not a token"};
    THROWS(Status::invalid, "subprotocol", loop.listen(server));
    server.subprotocols = {std::string("a\0b", 3)};
    THROWS(Status::invalid, "subprotocol", loop.listen(server));
    server = local();
    server.host = std::string("127.0.0.1\0x", 11);
    THROWS(Status::invalid, "host", loop.listen(server));
    server = local();
    server.limits.ping_interval = -1ms;
    THROWS(Status::invalid, "ping_interval", loop.listen(server));
    server.limits.ping_interval = std::chrono::hours(24 * 50);
    THROWS(Status::invalid, "ping_interval", loop.listen(server));
    wsabi::ClientOptions client;
    client.handlers.on_close = [mine](wsabi::Conn, const wsabi::Close&) {};
    THROWS(Status::invalid, "URL", loop.connect("ftp://localhost", client));
    client.headers = {{"X-A", "b\r\nX-C: d"}};
    THROWS(Status::invalid, "header", loop.connect("ws://localhost", client));
  }
  CHECK(held.expired());  // A refused listen or connect keeps no handlers.
  wsabi::LoopOptions options;
  options.log_level = static_cast<wsabi::LogLevel>(9);
  THROWS(Status::invalid, "log_level", wsabi::Loop bad(options));
  THROWS(Status::closed, "", wsabi::Server(loop.raw(), 0).port());
  THROWS(Status::closed, "", wsabi::Conn(loop.raw(), 0).peer());
  CHECK(wsabi::Conn().send_text("x") == Status::invalid);
}

static void a_conversation() {
  wsabi::Loop loop;
  std::string seen, pinged, ponged;
  int opens = 0, closes = 0;
  wsabi::Conn far;
  wsabi::ServerOptions so = local();
  so.subprotocols = {"chat"};
  so.handlers.on_upgrade = [&](wsabi::Conn conn, const wsabi::Handshake& request) {
    CHECK(request.method() == "GET" && request.path() == "/room" && request.query() == "n=1");
    CHECK(request.header("x-hello") == "world" && !request.header("X-None"));
    CHECK(request.subprotocols() == (std::vector<std::string_view>{"other", "chat"}));
    CHECK(request.headers().size() >= 6 && request.status() == 0 && request.target() == "/room?n=1");
    wsabi::AcceptOptions accept;
    accept.headers = {{"X-Answer", "42"}};
    CHECK(conn.accept(accept) == Status::ok);
    return wsabi::Upgrade::accept;
  };
  so.handlers.on_open = [&](wsabi::Conn conn, const wsabi::Handshake&) { far = conn; };
  so.handlers.on_message = [&](wsabi::Conn conn, const wsabi::Message& message) {
    CHECK(message.type == wsabi::MessageType::text);
    CHECK(conn.send_binary(message.data) == Status::ok);
  };
  so.handlers.on_ping = [&](wsabi::Conn, std::string_view data) { pinged = data; };
  wsabi::Server server = loop.listen(so);
  wsabi::ClientOptions co;
  co.subprotocols = {"other", "chat"};
  co.headers = {{"X-Hello", "world"}};
  co.conn_user = &opens;
  co.handlers.on_open = [&](wsabi::Conn conn, const wsabi::Handshake& response) {
    CHECK(response.status() == 101 && response.header("x-answer") == "42");
    CHECK(conn.user() == &opens && conn.set_user(&closes) == Status::ok && conn.user() == &closes);
    opens++;
  };
  co.handlers.on_message = [&](wsabi::Conn, const wsabi::Message& message) {
    CHECK(message.type == wsabi::MessageType::binary);
    seen += message.data;
  };
  co.handlers.on_pong = [&](wsabi::Conn, std::string_view data) { ponged = data; };
  co.handlers.on_close = [&](wsabi::Conn, const wsabi::Close& close) {
    CHECK(close.clean && close.code == 4000 && close.reason == "enough" && close.status == Status::ok);
    CHECK(close.messages_dropped == 0);
    closes++;
  };
  wsabi::Conn conn = loop.connect(url(server, "/room?n=1"), co);
  CHECK(conn && !wsabi::Conn() && conn.state() == wsabi::State::connecting);
  COMES(loop, opens == 1 && far);
  CHECK(conn.subprotocol() == "chat" && conn.state() == wsabi::State::open);
  CHECK(conn.peer() == server.address() && conn.buffered() == 0);
  CHECK(conn.send_text("one,") == Status::ok);
  CHECK(conn.send_fragment(wsabi::MessageType::text, "tw", false) == Status::ok);
  CHECK(conn.ping("p") == Status::ok);
  CHECK(conn.send_fragment(wsabi::MessageType::text, "o", true) == Status::ok);
  CHECK(conn.send_text("\xff") == Status::invalid);
  COMES(loop, seen == "one,two" && pinged == "p" && ponged == "p");
  std::unordered_set<wsabi::Conn> set{conn, far};
  CHECK(set.size() == 2 && set.count(conn) == 1 && conn != far);
  CHECK(loop.stats().messages_received == 4 && far.close(4000, "enough") == Status::ok);
  COMES(loop, closes == 1);
  CHECK(conn.send_text("x") == Status::closed && conn.state() == wsabi::State::closed && !conn.user());
}

static void handlers_live_as_long_as_needed() {
  wsabi::Loop loop;
  Token s = token(), c = token();
  std::weak_ptr<int> server_held = s, client_held = c;
  int opens = 0, closes = 0, stops = 0;
  wsabi::Server server;
  wsabi::Conn conn;
  {
    wsabi::ServerOptions so = local();
    so.handlers.on_open = [&opens, s](wsabi::Conn, const wsabi::Handshake&) { opens += 1 + *s; };
    so.handlers.on_stopped = [&stops, s](wsabi::Server, const wsabi::Stopped& counts) {
      stops += 1 + *s;
      CHECK(counts.clean == 0 && counts.forced == 0);
    };
    server = loop.listen(so);
    wsabi::ClientOptions co;
    co.handlers.on_close = [&closes, c](wsabi::Conn, const wsabi::Close&) { closes += 1 + *c; };
    conn = loop.connect(url(server), co);
  }
  s.reset();
  c.reset();
  COMES(loop, opens == 1 && conn.state() == wsabi::State::open);
  CHECK(!server_held.expired() && !client_held.expired());
  CHECK(conn.close() == Status::ok);
  COMES(loop, closes == 1 && loop.stats().connections == 0);
  CHECK(client_held.expired() && !server_held.expired());
  CHECK(server.stop() == Status::ok);
  COMES(loop, stops == 1);
  CHECK(server_held.expired());
  // With no handlers at all they are let go of, too.
  wsabi::Server silent = loop.listen(local());
  loop.connect(url(silent)).close();
  CHECK(silent.stop(100ms) == Status::ok && loop.run() == Status::ok);
}

static void handlers_end_with_the_loop() {
  Token mine = token();
  std::weak_ptr<int> held = mine;
  int closes = 0, opens = 0;
  {
    wsabi::Loop loop;
    wsabi::ServerOptions so = local();
    so.handlers.on_open = [&opens, mine](wsabi::Conn, const wsabi::Handshake&) { opens++; };
    wsabi::ClientOptions co;
    co.handlers.on_open = [&opens, mine](wsabi::Conn, const wsabi::Handshake&) { opens++; };
    co.handlers.on_close = [&closes, mine](wsabi::Conn, const wsabi::Close& close) {
      CHECK(close.status == Status::stopped);
      closes++;
    };
    loop.connect(url(loop.listen(so)), co);
    mine.reset();
    COMES(loop, opens == 2);
  }
  CHECK(closes == 1 && held.expired());
}

static void a_loop_destroyed_by_its_own_handler() {
  Token mine = token();
  std::weak_ptr<int> held = mine;
  auto loop = std::make_unique<wsabi::Loop>();
  int closes = 0;
  {
    wsabi::ServerOptions so = local();
    so.handlers.on_open = [&loop, mine](wsabi::Conn, const wsabi::Handshake&) { loop.reset(); };
    so.handlers.on_close = [&closes, mine](wsabi::Conn, const wsabi::Close&) { closes++; };
    wsabi::ClientOptions co;
    co.handlers.on_close = [&closes, mine](wsabi::Conn, const wsabi::Close&) { closes++; };
    loop->connect(url(loop->listen(so)), co);
  }
  mine.reset();
  auto end = std::chrono::steady_clock::now() + 60s;
  while (loop && std::chrono::steady_clock::now() < end) loop->poll(50ms);
  CHECK(!loop && closes == 2 && held.expired());
}

static void a_loop_moves() {
  wsabi::Loop first;
  int opens = 0;
  wsabi::ServerOptions so = local();
  so.handlers.on_open = [&](wsabi::Conn, const wsabi::Handshake&) { opens++; };
  wsabi::Server server = first.listen(so);
  wsabi::Loop second = std::move(first), third;
  third = std::move(second);
  third.connect(url(server));
  COMES(third, opens == 1);
  CHECK(third.fd() >= 0 && third.timeout().has_value());
  bool more = true;
  CHECK(third.dispatch(&more) == Status::ok);
}

struct Counted {
  std::atomic<int>* gone;
  explicit Counted(std::atomic<int>& count) : gone(&count) {}
  ~Counted() { ++*gone; }
};

static void posts() {
  std::atomic<int> gone{0};
  int called = 0;
  auto loop = std::make_unique<wsabi::Loop>();
  std::thread::id here = std::this_thread::get_id();
  std::thread elsewhere([&] {
    for (int i = 0; i < 100; i++) {
      CHECK(loop->post([&called, here, mine = std::make_unique<Counted>(gone)] {
        CHECK(std::this_thread::get_id() == here);
        called++;
      }) == Status::ok);
    }
  });
  elsewhere.join();
  CHECK(called == 0 && gone == 0);
  COMES(*loop, called == 100);
  CHECK(gone == 100);
  loop->post([&called, mine = std::make_unique<Counted>(gone)] { called++; });
  loop.reset();
  CHECK(called == 100 && gone == 101);  // Destroyed, not called.
}

static void answers_later() {
  wsabi::Loop loop;
  wsabi::Conn held;
  std::uint16_t http_status = 0;
  int errors = 0;
  wsabi::ServerOptions so = local();
  so.handlers.on_upgrade = [&](wsabi::Conn conn, const wsabi::Handshake&) {
    held = conn;
    return wsabi::Upgrade::later;
  };
  so.handlers.on_error = [&](wsabi::Server, const wsabi::ServerError& error) {
    CHECK(error.status == Status::handshake && !error.detail.empty());
    errors++;
  };
  wsabi::Server server = loop.listen(so);
  wsabi::ClientOptions co;
  co.handlers.on_close = [&](wsabi::Conn, const wsabi::Close& close) { http_status = close.http_status; };
  loop.connect(url(server), co);
  COMES(loop, bool(held));
  std::thread([held] {
    wsabi::Response response;
    response.status = 418;
    response.headers = {{"X-Pot", "tea"}};
    response.body = "short and stout";
    CHECK(held.respond(response) == Status::ok);
  }).join();
  COMES(loop, http_status == 418);
  int fd = raw_connect(server.port());
  raw_write(fd, "garbage\r\n\r\n");
  COMES(loop, errors == 1);
  close(fd);
}

static void a_throwing_handler_terminates() {
  pid_t child = fork();
  if (child == 0) {
    std::set_terminate([] { _exit(42); });
    wsabi::Loop loop;
    wsabi::ServerOptions so = local();
    so.handlers.on_open = [](wsabi::Conn, const wsabi::Handshake&) { throw 1; };
    try {
      loop.connect(url(loop.listen(so)));
      loop.run();
    } catch (int) {
      _exit(1);
    }
    _exit(2);
  }
  int status = 0;
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 42);
}

static void a_guard_stops_its_server() {
  wsabi::Loop loop;
  int stopped = 0;
  wsabi::ServerOptions so = local();
  so.handlers.on_stopped = [&](wsabi::Server, const wsabi::Stopped&) { stopped++; };
  wsabi::Server free;
  {
    wsabi::ServerGuard kept(loop.listen(so));
    wsabi::ServerGuard moved(std::move(kept));
    CHECK(moved->port() != 0 && kept->number() == 0);
    wsabi::ServerGuard given_up(loop.listen(so));
    free = given_up.release();
  }
  COMES(loop, stopped == 1);
  CHECK(free.port() != 0);
  CHECK(free.stop() == wsabi::Status::ok);
  COMES(loop, stopped == 2);
}

static void logs() {
  int lines = 0;
  wsabi::LoopOptions options;
  options.log_level = wsabi::LogLevel::debug;
  options.log = [&](wsabi::LogLevel level, std::string_view text) {
    CHECK(level != wsabi::LogLevel::standard && !text.empty());
    lines++;
  };
  wsabi::Loop loop(options);
  wsabi::Server server = loop.listen(local());
  bool closed = false;
  wsabi::ClientOptions co;
  co.handlers.on_open = [](wsabi::Conn conn, const wsabi::Handshake&) { conn.close(); };
  co.handlers.on_close = [&](wsabi::Conn, const wsabi::Close&) { closed = true; };
  loop.connect(url(server), co);
  COMES(loop, closed);
  CHECK(lines > 0);
}

int main() {
  RUN(mistakes_throw);
  RUN(a_conversation);
  RUN(handlers_live_as_long_as_needed);
  RUN(handlers_end_with_the_loop);
  RUN(a_loop_destroyed_by_its_own_handler);
  RUN(a_loop_moves);
  RUN(posts);
  RUN(answers_later);
  RUN(a_throwing_handler_terminates);
  RUN(a_guard_stops_its_server);
  RUN(logs);
  return finish();
}
