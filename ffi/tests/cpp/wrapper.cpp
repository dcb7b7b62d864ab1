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

static void compression() {
  wsabi::Loop loop;
  wsabi::Conn far;
  std::string heard;
  wsabi::ServerOptions so = local();
  so.deflate = wsabi::Deflate{};
  so.deflate->server_max_window_bits = 15;
  so.deflate->client_context_takeover = true;
  so.max_buffered_bytes = 64 << 20;
  so.handlers.on_open = [&](wsabi::Conn conn, const wsabi::Handshake&) { far = conn; };
  so.handlers.on_message = [&](wsabi::Conn conn, const wsabi::Message& message) {
    CHECK(conn.send(message.type, message.data) == Status::ok);
  };
  wsabi::Server server = loop.listen(so);
  wsabi::ClientOptions co;
  co.handlers.on_message = [&](wsabi::Conn, const wsabi::Message& message) { heard = message.data; };
  wsabi::Conn plain = loop.connect(url(server), co);
  COMES(loop, plain.state() == wsabi::State::open && far.state() == wsabi::State::open);
  CHECK(!plain.deflate() && !far.deflate());
  co.deflate = wsabi::Deflate{};
  co.deflate->client_context_takeover = true;
  co.deflate->min_bytes = 0;
  far = wsabi::Conn();
  wsabi::Conn conn = loop.connect(url(server), co);
  CHECK(!conn.deflate());
  COMES(loop, conn.state() == wsabi::State::open && far.state() == wsabi::State::open);
  std::optional<wsabi::Agreed> agreed = conn.deflate();
  CHECK(agreed && agreed->server_max_window_bits == 12 && agreed->client_max_window_bits == 12);
  CHECK(agreed && !agreed->server_context_takeover && agreed->client_context_takeover);
  CHECK(far.deflate() && (wsabi::features() & WSABI_FEATURE_DEFLATE) != 0);
  std::string text(100, 'a');
  std::uint64_t sent = loop.stats().bytes_sent;
  CHECK(conn.send(wsabi::MessageType::text, text) == Status::ok);
  CHECK(loop.stats().bytes_sent - sent < 50);
  COMES(loop, heard == text);
  sent = loop.stats().bytes_sent;
  CHECK(conn.send(wsabi::MessageType::text, text, wsabi::Compress::never) == Status::ok);
  CHECK(conn.send_fragment(wsabi::MessageType::text, text, false, wsabi::Compress::never) == Status::ok);
  CHECK(conn.send_fragment(wsabi::MessageType::text, "!", true) == Status::ok);
  CHECK(loop.stats().bytes_sent - sent > 200);
  COMES(loop, heard == text + "!");
  co.deflate->level = 10;
  THROWS(Status::invalid, "deflate.level", loop.connect(url(server), co));
  so.deflate->mem_level = 10;
  THROWS(Status::invalid, "deflate.mem_level", loop.listen(so));
}

static void chunks() {
  wsabi::Loop loop;
  std::string heard;
  int firsts = 0, lasts = 0, pieces = 0;
  wsabi::ServerOptions so = local();
  so.handlers.on_message = [](wsabi::Conn, const wsabi::Message&) { CHECK(false); };
  so.handlers.on_chunk = [&](wsabi::Conn, const wsabi::Chunk& chunk) {
    CHECK(chunk.type == wsabi::MessageType::binary && chunk.first == (firsts == lasts));
    heard += chunk.data;
    firsts += chunk.first;
    lasts += chunk.last;
    pieces++;
  };
  wsabi::Conn conn = loop.connect(url(loop.listen(so)));
  COMES(loop, conn.state() == wsabi::State::open);
  std::string large(3 << 20, 'c');
  CHECK(wsabi::ok(conn.send_binary(large)));
  COMES(loop, lasts == 1);
  CHECK(heard == large && firsts == 1 && pieces > 2);
}

static void owned_sends() {
  wsabi::Loop loop;
  wsabi::Conn far;
  std::uint64_t heard = 0;
  int messages = 0;
  wsabi::ServerOptions so = local();
  so.handlers.on_open = [&](wsabi::Conn conn, const wsabi::Handshake&) { far = conn; };
  wsabi::ClientOptions co;
  co.handlers.on_message = [&](wsabi::Conn, const wsabi::Message& message) {
    CHECK(message.data.find_first_not_of('o') == std::string_view::npos);
    heard += message.data.size();
    messages++;
  };
  wsabi::Conn conn = loop.connect(url(loop.listen(so)), co);
  COMES(loop, bool(far) && conn.state() == wsabi::State::open);
  const auto text = wsabi::MessageType::text;
  std::string string(100000, 'o');
  CHECK(far.send_owned(text, std::move(string)) == Status::ok);
  CHECK(far.send_owned(text, std::string("oo")) == Status::ok);
  CHECK(far.send_owned(text, std::vector<unsigned char>(50000, 'o')) == Status::ok);
  CHECK(far.send_owned(text, std::vector<char>()) == Status::ok);
  auto shared = std::make_shared<const std::string>(8 << 20, 'o');
  std::weak_ptr<const std::string> watch = shared;
  COMES(loop, messages == 4);
  CHECK(heard == 150002);
  conn.pause();
  CHECK(wsabi::ok(far.send_owned(text, std::shared_ptr<const std::string>(shared))));
  CHECK(shared.use_count() == 2);
  shared.reset();
  CHECK(!watch.expired());
  conn.resume();
  COMES(loop, messages == 5 && watch.expired());
  CHECK(heard == 150002 + (8 << 20));
  // From another thread; what is refused is given back.
  std::thread([far, text] { CHECK(far.send_owned(text, std::string(5000, 'o')) == Status::ok); }).join();
  COMES(loop, messages == 6);
  std::string bad = "kept\xff";
  CHECK(far.send_owned(text, std::move(bad)) == Status::invalid);
  CHECK(bad == "kept\xff");
  auto kept = std::make_shared<std::string>("kept");
  CHECK(wsabi::Conn().send_owned(text, std::move(kept)) == Status::invalid);
  CHECK(kept && *kept == "kept" && kept.use_count() == 1);
  CHECK(far.send_owned(text, std::shared_ptr<std::string>()) == Status::invalid);
}

static void broadcasts() {
  wsabi::Loop loop, other;
  std::vector<wsabi::Conn> near, far;
  std::unordered_set<wsabi::Conn> ready;
  int messages = 0;
  wsabi::ServerOptions so = local();
  so.deflate = wsabi::Deflate{};
  so.handlers.on_open = [&](wsabi::Conn conn, const wsabi::Handshake&) { far.push_back(conn); };
  wsabi::Server server = loop.listen(so);
  wsabi::ClientOptions co;
  co.handlers.on_open = [&](wsabi::Conn conn, const wsabi::Handshake&) { ready.insert(conn); };
  co.handlers.on_message = [&](wsabi::Conn, const wsabi::Message& message) {
    CHECK(message.data == std::string(5000, 'p'));
    messages++;
  };
  for (int i = 0; i < 6; i++) {
    if (i == 3) co.deflate = wsabi::Deflate{};
    near.push_back(loop.connect(url(server), co));
  }
  COMES(loop, far.size() == 6 && ready.size() == 6);
  wsabi::Prepared prepared(wsabi::MessageType::text, std::string(5000, 'p'));
  CHECK(loop.broadcast(prepared, far).sent == 6);
  COMES(loop, messages == 6);
  std::unordered_set<wsabi::Conn> some = {far[0], wsabi::Conn(other.raw(), far[1].number()), wsabi::Conn()};
  wsabi::Reached reached = loop.broadcast(prepared, some);
  CHECK(reached.sent == 1 && reached.backpressure == 0 && reached.refused == 0);
  COMES(loop, messages == 7);
  CHECK(server.broadcast(prepared, far[2], &reached) == Status::ok && reached.sent == 5);
  COMES(loop, messages == 12);
  CHECK(far[2].send_prepared(prepared) == Status::ok);
  COMES(loop, messages == 13);
  // Moved, and from another thread.
  wsabi::Prepared moved = std::move(prepared);
  std::vector<char> bytes(5000, 'p');
  moved = wsabi::Prepared::owned(wsabi::MessageType::binary, std::move(bytes));
  std::thread([&] {
    CHECK(server.broadcast(moved) == Status::ok);
    CHECK(server.broadcast(moved, wsabi::Conn(), &reached) == Status::thread);
    THROWS(Status::thread, "", loop.broadcast(moved, far));
  }).join();
  COMES(loop, messages == 19);
  THROWS(Status::invalid, "UTF-8", wsabi::Prepared bad(wsabi::MessageType::text, "\xff"));
  std::string kept = "kept\xff";
  THROWS(Status::invalid, "UTF-8", wsabi::Prepared::owned(wsabi::MessageType::text, std::move(kept)));
  CHECK(kept == "kept\xff");
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
  RUN(compression);
  RUN(chunks);
  RUN(owned_sends);
  RUN(broadcasts);
  return finish();
}
