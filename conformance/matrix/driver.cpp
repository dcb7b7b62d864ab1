// driver: C++'s part in the matrix. It reads orders from stdin and writes events to stdout, one a
// line; README.md lists them. Stdin and the loop's descriptor are watched by one poll(2).
#include <poll.h>
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <iostream>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "payload.h"
#include "wsabi.hpp"

namespace {

constexpr unsigned most_filled = 4096;

std::string read_file(const std::string& name) {
  payload read;
  if (!read_payload(name.c_str(), &read)) throw std::runtime_error("cannot read the payload");
  std::string data(read.data, read.len);
  std::free(read.data);
  return data;
}

// What the KEY=VALUE words of an order say.
struct Settings {
  wsabi::Limits limits;
  std::vector<std::string> subprotocols;
  wsabi::Response refusal;
  bool refuses = false;

  explicit Settings(std::istream& words) {
    for (std::string word; words >> word;) {
      std::size_t equals = word.find('=');
      if (equals == std::string::npos) throw std::runtime_error(word);
      set(word.substr(0, equals), word.substr(equals + 1));
    }
  }

  void set(const std::string& key, const std::string& value) {
    if (key == "subprotocols") {
      std::istringstream names(value);
      for (std::string name; std::getline(names, name, ',');) subprotocols.push_back(name);
    } else if (key == "refuse") {
      refuses = true;
      refusal.status = static_cast<std::uint16_t>(std::stoul(value));
    } else if (key == "body") {
      refusal.body = read_file(value);
    } else if (key == "ping_interval") {
      limits.ping_interval = std::chrono::milliseconds(std::stoul(value));
    } else if (key == "ping_timeout") {
      limits.ping_timeout = std::chrono::milliseconds(std::stoul(value));
    } else if (key == "close_timeout") {
      limits.close_timeout = std::chrono::milliseconds(std::stoul(value));
    } else if (key == "max_message") {
      limits.max_message_bytes = std::stoul(value);
    } else if (key == "max_backlog") {
      limits.max_backlog_bytes = std::stoul(value);
    } else {
      throw std::runtime_error(key);
    }
  }
};

class Driver {
 public:
  void run();

 private:
  void obey(const std::string& line);
  void listen(std::istream& words);
  void connect(std::istream& words);
  void with_payload(const std::string& order, std::istream& words);
  void fill(bool is_text, const std::string& data, wsabi::Status until);
  void add_handlers(wsabi::ClientHandlers& to);
  wsabi::Status send(bool is_text, const std::string& data) const {
    return is_text ? current_.send_text(data) : current_.send_binary(data);
  }

  wsabi::Conn current_;  // What orders are for: the latest.
  bool opened_ = false;
  wsabi::Loop loop_;
};

void check(wsabi::Status status) {
  if (!wsabi::ok(status)) throw std::runtime_error(wsabi::last_error());
}

void tell(const char* event, std::string_view data) {
  std::printf("%s %zu %08x\n", event, data.size(), crc32_of(data.data(), data.size()));
}

std::string kind(wsabi::Status status) {
  return std::string(wsabi::name(status)).substr(wsabi::ok(status) ? 6 : 8);
}

std::string or_dash(std::string_view text) { return text.empty() ? "-" : std::string(text); }

void Driver::add_handlers(wsabi::ClientHandlers& to) {
  to.on_open = [this](wsabi::Conn conn, const wsabi::Handshake& handshake) {
    current_ = conn;
    opened_ = true;
    std::cout << "open " << or_dash(conn.subprotocol()) << " " << or_dash(handshake.target())
              << std::endl;
  };
  to.on_message = [](wsabi::Conn, const wsabi::Message& message) {
    tell(message.type == wsabi::MessageType::text ? "message text" : "message binary",
         message.data);
  };
  to.on_drain = [](wsabi::Conn) { std::cout << "drain" << std::endl; };
  to.on_ping = [](wsabi::Conn, std::string_view data) { tell("ping", data); };
  to.on_pong = [](wsabi::Conn, std::string_view data) { tell("pong", data); };
  to.on_close = [this](wsabi::Conn, const wsabi::Close& close) {
    if (opened_) {
      std::cout << "close " << close.code << (close.clean ? " clean " : " unclean ")
                << kind(close.status) << " " << close.reason << std::endl;
    } else if (close.status == wsabi::Status::refused) {
      std::cout << "refused " << close.http_status << " - -" << std::endl;
    } else {
      std::cout << "failed " << kind(close.status) << std::endl;
    }
  };
}

void Driver::listen(std::istream& words) {
  Settings given(words);
  wsabi::ServerOptions options;
  options.host = "127.0.0.1";
  options.limits = given.limits;
  options.subprotocols = given.subprotocols;
  add_handlers(options.handlers);
  if (given.refuses) {
    options.handlers.on_upgrade = [refusal = given.refusal](wsabi::Conn conn,
                                                            const wsabi::Handshake&) {
      conn.respond(refusal);
      return wsabi::Upgrade::later;
    };
  }
  std::cout << "listening " << loop_.listen(options).port() << std::endl;
}

void Driver::connect(std::istream& words) {
  std::string port, target;
  words >> port >> target;
  Settings given(words);
  wsabi::ClientOptions options;
  options.limits = given.limits;
  options.subprotocols = given.subprotocols;
  add_handlers(options.handlers);
  opened_ = false;
  current_ = loop_.connect("ws://127.0.0.1:" + port + target, options);
}

// Sends one message again and again until sending answers `until`.
void Driver::fill(bool is_text, const std::string& data, wsabi::Status until) {
  for (unsigned count = 0; count < most_filled; ++count) {
    wsabi::Status status = send(is_text, data);
    if (status == until) {
      std::cout << "filled " << count + (wsabi::ok(status) ? 1 : 0) << " " << current_.buffered()
                << std::endl;
      return;
    }
    check(status);
  }
  throw std::runtime_error("the backlog does not grow");
}

// ORDER FILE [HOW], where files of text have names that begin with t.
void Driver::with_payload(const std::string& order, std::istream& words) {
  std::string name, how;
  words >> name >> how;
  std::string data = read_file(name);
  bool is_text = name[0] == 't';
  wsabi::MessageType type = is_text ? wsabi::MessageType::text : wsabi::MessageType::binary;
  if (order == "send") {
    check(send(is_text, data));
  } else if (order == "fragment") {
    check(current_.send_fragment(type, data, how == "last"));
  } else if (order == "fill") {
    fill(is_text, data, how == "full" ? wsabi::Status::full : wsabi::Status::backpressure);
  } else if (order == "ping") {
    check(current_.ping(data));
  } else if (order == "pong") {
    check(current_.pong(data));
  } else {
    throw std::runtime_error("no such order");
  }
}

void Driver::obey(const std::string& line) {
  std::istringstream words(line);
  std::string order, reason;
  words >> order;
  try {
    if (order == "sync") {
      std::cout << "synced" << std::endl;
    } else if (order == "listen") {
      listen(words);
    } else if (order == "connect") {
      connect(words);
    } else if (order == "close") {
      unsigned code = 0;
      words >> code;
      std::getline(words.ignore(1), reason);
      check(current_.close(static_cast<std::uint16_t>(code), reason));
    } else if (order == "terminate") {
      check(current_.terminate());
    } else if (order == "pause") {
      check(current_.pause());
    } else if (order == "resume") {
      check(current_.resume());
    } else {
      with_payload(order, words);
    }
  } catch (const std::exception& error) {
    std::cout << "error " << order << ": " << error.what() << std::endl;
  }
}

void Driver::run() {
  std::setvbuf(stdout, nullptr, _IOLBF, 0);
  // Nothing that was read stays where poll(2) does not see it.
  std::setvbuf(stdin, nullptr, _IONBF, 0);
  pollfd watched[2] = {{STDIN_FILENO, POLLIN, 0}, {loop_.fd(), POLLIN, 0}};
  while (::poll(watched, 2, -1) > 0) {
    if (watched[0].revents != 0) {
      std::string line;
      if (!std::getline(std::cin, line)) return;
      obey(line);
    }
    if (watched[1].revents != 0) check(loop_.dispatch());
  }
}

}  // namespace

int main() {
  Driver().run();
  return 0;
}
