// chat-client URL NAME [--from X] [--say TEXT]... [--await N] [--once] [--quit]
// Joins the chat room at URL, such as ws://127.0.0.1:9000/chat, and says what comes from stdin,
// line by line, until that ends; see examples/chat.md. A lost connection is made again, with --once
// not. --await leaves after N messages of others, whether or not stdin has ended; --quit leaves
// when all TEXTs are said. One poll(2) waits for stdin, signals and the loop.
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <initializer_list>
#include <iostream>
#include <new>
#include <optional>
#include <random>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "../c/json.h"
#include "wsabi.hpp"

using namespace std::chrono_literals;
using Clock = std::chrono::steady_clock;
using Milliseconds = std::chrono::milliseconds;

static constexpr std::size_t max_message_bytes = 4096;

struct Arguments {
  std::string url, name, from = "c++";
  std::vector<std::string> say;
  long await = 0;  // 0: without end
  bool once = false, quit = false;
};

// A JSON value of a message; it lives as long as the message.
class Value {
 public:
  explicit Value(std::string_view message) : json_(json_parse(message.data(), message.size())) {}

  Value operator[](const char* key) const { return Value(json_get(json_, key)); }
  bool is(const std::string& text) const { return json_equals(json_, text.c_str()) != 0; }
  std::int64_t integer() const { return json_integer(json_); }
  // "" for what is no string.
  std::string text() const {
    std::string text(json_.len + 1, '\0');
    std::size_t len = 0;
    json_text(json_, text.data(), text.size(), &len);
    text.resize(len);
    return text;
  }
  std::vector<Value> items() const {
    std::vector<Value> all;
    json key{}, item{};
    while (json_next(json_, &key, &item)) all.push_back(Value(item));
    return all;
  }

 private:
  explicit Value(json value) : json_(value) {}
  json json_;
};

// A message to the server: its type, and fields with their texts.
static std::string message(std::initializer_list<std::pair<const char*, std::string_view>> fields) {
  json_writer writer{};
  json_open(&writer, "{");
  for (const auto& [key, text] : fields) json_field(&writer, key, text.data(), text.size());
  json_close(&writer, "}");
  std::string all(writer.failed ? "" : writer.data, writer.failed ? 0 : writer.len);
  std::free(writer.data);
  if (all.empty()) throw std::bad_alloc();
  return all;
}

// Prints a line. What others have written cannot end it, nor give commands to the terminal: control
// characters, line separators and turns of direction become U+FFFD.
static void show(std::string_view line) {
  std::string clean;
  for (std::size_t i = 0; i < line.size();) {
    auto at = [&](std::size_t n) { return i + n < line.size() ? (unsigned char)line[i + n] : 0; };
    std::size_t bad = at(0) < 0x20 || at(0) == 0x7F ? 1 : 0;
    if (at(0) == 0xC2 && at(1) < 0xA0) bad = 2;
    if (at(0) == 0xE2 && at(1) == 0x80 && at(2) >= 0xA8 && at(2) <= 0xAE) bad = 3;
    if (at(0) == 0xE2 && at(1) == 0x81 && at(2) >= 0xA6 && at(2) <= 0xA9) bad = 3;
    clean += bad != 0 ? "\xEF\xBF\xBD" : std::string(1, line[i]);
    i += std::max<std::size_t>(bad, 1);
  }
  std::cout << clean << std::endl;
}

// A member of the room, across its connections.
class Client {
 public:
  explicit Client(Arguments arguments) : arguments_(std::move(arguments)) {}

  // Until the room is left; answers the exit status. Input is read when it can be said.
  int run(int signals) {
    connect();
    while (!result_) {
      pollfd fds[] = {{loop_.fd(), POLLIN, 0},
                      {signals, POLLIN, 0},
                      {can_say() && !input_ended_ ? STDIN_FILENO : -1, POLLIN, 0}};
      if (poll(fds, 3, wait()) < 0) {
        if (errno == EINTR) continue;
        throw std::system_error(errno, std::generic_category(), "poll");
      }
      if (fds[0].revents != 0) check(loop_.dispatch());
      if (fds[1].revents != 0) on_signal(signals);
      if (fds[2].revents != 0 && can_say()) read_input();
      if (!result_ && !conn_ && Clock::now() >= connect_at_) connect();
    }
    return *result_;
  }

 private:
  static void check(wsabi::Status status) {
    if (!wsabi::ok(status)) throw wsabi::Error(status, wsabi::last_error());
  }
  bool can_say() const { return joined_ && !leaving_ && !blocked_; }

  // How long poll may wait.
  int wait() const {
    if (conn_) return -1;
    auto left = std::chrono::ceil<Milliseconds>(connect_at_ - Clock::now());
    return static_cast<int>(std::max(left, 0ms).count());
  }

  // A second signal does not wait for the server.
  void on_signal(int signals) {
    char bytes[16];
    if (read(signals, bytes, sizeof bytes) < 0) return;
    if (leaving_) end(1);
    leave();
  }

  void connect() {
    wsabi::ClientOptions options;
    options.limits.max_message_bytes = 1024 * 1024;
    options.handlers.on_open = [this](wsabi::Conn, const wsabi::Handshake&) {
      std::string join =
          message({{"type", "join"}, {"name", arguments_.name}, {"from", arguments_.from}});
      std::string problem = send(join);
      if (!problem.empty()) give_up(problem);
    };
    options.handlers.on_message = [this](wsabi::Conn, const wsabi::Message& message) {
      on_event(Value(message.data));
    };
    options.handlers.on_drain = [this](wsabi::Conn) { blocked_ = false; };
    options.handlers.on_close = [this](wsabi::Conn, const wsabi::Close& close) { on_close(close); };
    refusal_.clear();
    conn_ = loop_.connect(arguments_.url, options);
  }

  // Answers what was wrong, or "".
  std::string send(const std::string& text) {
    if (text.size() > max_message_bytes) return "that is too long";
    wsabi::Status status = conn_.send_text(text);
    if (status == wsabi::Status::backpressure) blocked_ = true;
    return wsabi::ok(status) ? "" : wsabi::last_error();
  }

  void say(std::string_view text) {
    std::string problem = send(message({{"type", "say"}, {"text", text}}));
    if (!problem.empty()) show("! " + problem + ", and was not said");
  }

  // We cannot join, and so there is nothing to do here.
  void give_up(const std::string& why) {
    refusal_ = why;
    conn_.close(1000);
  }

  // Reads once, and says the lines that are complete, and at the end of input the one that is not.
  void read_input() {
    char bytes[max_message_bytes];
    ssize_t count = read(STDIN_FILENO, bytes, sizeof bytes);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
    input_ended_ = count <= 0;
    if (count > 0) input_.append(bytes, static_cast<std::size_t>(count));
    if (input_ended_ && !input_.empty()) input_ += '\n';
    std::size_t start = 0, end;
    for (; (end = input_.find('\n', start)) != std::string::npos; start = end + 1) {
      std::string_view line(input_.data() + start, end - start);
      if (!line.empty() && line.back() == '\r') line.remove_suffix(1);
      if (!line.empty()) say(line);
    }
    input_.erase(0, start);
    // More of a line than can be said is enough to know that it is too long.
    if (input_.size() > max_message_bytes) input_.resize(max_message_bytes);
    if (input_ended_ && arguments_.await == 0) leave();
  }

  void on_event(const Value& event) {
    Value type = event["type"];
    if (type.is("welcome")) {
      on_welcome(event);
    } else if (type.is("error")) {
      std::string text = event["text"].text();
      show("! " + text);
      if (joined_ || leaving_) return;
      give_up(text.empty() ? "the server does not want us" : text);
    } else if (type.is("said") || type.is("joined") || type.is("left")) {
      tell(event);
      if (type.is("said") && !event["name"].is(own_name_) && ++heard_ == arguments_.await) leave();
    }
  }

  void on_welcome(const Value& welcome) {
    std::string name = welcome["name"].text();
    if (name.empty()) return;
    own_name_ = name;
    std::string line = "+ joined as " + own_name_;
    for (const Value& member : welcome["members"].items()) line += ", " + member["name"].text();
    show(line + " here");
    // Not again what was there before the connection was lost.
    std::int64_t seen = last_time_;
    for (const Value& event : welcome["history"].items()) {
      if (event["time"].integer() > seen) tell(event);
    }
    joined_ = true;
    attempts_ = 0;
    for (const std::string& text : std::exchange(arguments_.say, {})) say(text);
    if (arguments_.quit) leave();
  }

  void tell(const Value& event) {
    last_time_ = std::max(last_time_, event["time"].integer());
    std::string who = event["name"].text(), from = event["from"].text();
    if (!from.empty()) who += " [" + from + "]";
    if (event["type"].is("said")) {
      show(who + ": " + event["text"].text());
    } else {
      show("* " + who + " " + event["type"].text());
    }
  }

  // What a request was refused with does not change by asking again, nor a name at the first try.
  void on_close(const wsabi::Close& close) {
    if (result_) return;
    conn_ = wsabi::Conn();
    joined_ = blocked_ = false;
    if (leaving_) return end(0);
    std::string why = refusal_;
    if (why.empty()) why = close.detail;
    if (why.empty()) {
      why = std::to_string(close.code);
      if (!close.reason.empty()) why += " " + std::string(close.reason);
    }
    bool refused = close.http_status >= 400 && close.http_status < 500;
    if (arguments_.once || refused || (!refusal_.empty() && own_name_.empty())) {
      show("- disconnected: " + why);
      return end(1);
    }
    Milliseconds delay = attempts_ < 5 ? 500ms * (1 << attempts_) : 10s;
    delay += Milliseconds(random_() % static_cast<unsigned long>(delay.count() / 2 + 1));
    ++attempts_;
    connect_at_ = Clock::now() + delay;
    char seconds[16];
    std::snprintf(seconds, sizeof seconds, "%.1f", std::chrono::duration<double>(delay).count());
    show("- disconnected: " + why + "; again in " + seconds + " s");
  }

  void leave() {
    if (std::exchange(leaving_, true)) return;
    if (conn_) {
      conn_.close(1000);
    } else {
      end(0);
    }
  }

  void end(int status) {
    if (status == 0 && !own_name_.empty()) show("+ left");
    result_ = status;
  }

  Arguments arguments_;
  wsabi::Conn conn_;  // Empty while there is none.
  bool joined_ = false, leaving_ = false, blocked_ = false, input_ended_ = false;
  std::optional<int> result_;
  std::string input_, own_name_;
  std::string refusal_;  // Why we could not join.
  long heard_ = 0;
  std::int64_t last_time_ = 0;  // Of the latest event, by the server's clock.
  Clock::time_point connect_at_;
  unsigned attempts_ = 0;
  std::minstd_rand random_{std::random_device()()};
  wsabi::Loop loop_;  // Last, so that its handlers go before what they use.
};

// False if the arguments are not understood.
static bool parse(int argc, char** argv, Arguments& arguments) try {
  std::vector<std::string> names;
  for (int i = 1; i < argc; ++i) {
    std::string flag = argv[i];
    if (flag == "--once") {
      arguments.once = true;
    } else if (flag == "--quit") {
      arguments.quit = true;
    } else if (flag == "--from" && i + 1 < argc) {
      arguments.from = argv[++i];
    } else if (flag == "--say" && i + 1 < argc) {
      arguments.say.push_back(argv[++i]);
    } else if (flag == "--await" && i + 1 < argc) {
      std::size_t used = 0;
      arguments.await = std::stol(argv[++i], &used);
      if (arguments.await < 1 || argv[i][used] != '\0') return false;
    } else if (flag.compare(0, 2, "--") == 0) {
      return false;
    } else {
      names.push_back(flag);
    }
  }
  if (names.size() != 2) return false;
  arguments.url = names[0];
  arguments.name = names[1];
  return true;
} catch (const std::logic_error&) {  // A number that is none.
  return false;
}

static int signal_pipe[2];

int main(int argc, char** argv) {
  Arguments arguments;
  if (!parse(argc, argv, arguments)) {
    std::cerr
        << "usage: chat-client URL NAME [--from X] [--say TEXT]... [--await N] [--once] [--quit]\n"
           "  URL       of the room, such as ws://127.0.0.1:9000/chat\n"
           "  NAME      to join as\n"
           "  --from    what others are told you speak from (c++)\n"
           "  --say     say this after joining; may be repeated\n"
           "  --await   leave after N messages of others\n"
           "  --once    do not connect again\n"
           "  --quit    leave when all is said, and do not read stdin\n";
    return 2;
  }
  try {
    if (pipe(signal_pipe) != 0) throw std::system_error(errno, std::generic_category(), "pipe");
    for (int number : {SIGINT, SIGTERM}) {
      std::signal(number, [](int) {
        int before = errno;
        if (write(signal_pipe[1], "", 1) < 0) errno = before;
      });
    }
    return Client(std::move(arguments)).run(signal_pipe[0]);
  } catch (const std::exception& error) {
    std::cerr << "chat-client: " << error.what() << "\n";
    return 1;
  }
}
