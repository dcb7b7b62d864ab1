// demo-client URL NAME
// Sends two text messages and a binary one to an echo server, one after the other, and says under
// NAME what was sent and what came back.
#include <iostream>
#include <string>
#include <vector>

#include "wsabi.hpp"

using wsabi::MessageType;

struct Line {
  MessageType type;
  std::string data;
};

static std::string shown(MessageType type, std::string_view data) {
  if (type == MessageType::text) return '"' + std::string(data) + '"';
  return std::to_string(data.size()) + " bytes";
}

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: demo-client URL NAME\n";
    return 2;
  }
  const std::string name = argv[2];
  const std::vector<Line> lines = {{MessageType::text, "Hello from C++"},
                                   {MessageType::text, "Grüße, 世界 🌍"},
                                   {MessageType::binary, std::string("\x00\x01\xfe\xff", 4)}};
  std::size_t next = 0;
  bool good = false;

  auto send_next = [&](wsabi::Conn conn) {
    if (next == lines.size()) {
      conn.close(1000);
      return;
    }
    const Line& line = lines[next];
    std::cout << name << " -> " << shown(line.type, line.data) << std::endl;
    if (line.type == MessageType::text) {
      conn.send_text(line.data);
    } else {
      conn.send_binary(line.data);
    }
  };
  wsabi::ClientOptions options;
  options.handlers.on_open = [&](wsabi::Conn conn, const wsabi::Handshake&) { send_next(conn); };
  options.handlers.on_message = [&](wsabi::Conn conn, const wsabi::Message& message) {
    std::cout << name << " <- " << shown(message.type, message.data) << std::endl;
    if (next == lines.size() || message.type != lines[next].type || message.data != lines[next].data) {
      std::cerr << "demo-client: that is not what was sent\n";
      conn.terminate();
      return;
    }
    ++next;
    send_next(conn);
  };
  options.handlers.on_close = [&](wsabi::Conn, const wsabi::Close& close) {
    good = close.clean && close.code == 1000 && next == lines.size();
    if (!good) std::cerr << "demo-client: " << close.detail << "\n";
  };
  // No byte from the server for 10 s ends the connection.
  options.limits.handshake_timeout = options.limits.idle_timeout = std::chrono::seconds(10);

  try {
    wsabi::Loop loop;
    loop.connect(argv[1], options);
    loop.run();
  } catch (const wsabi::Error& error) {
    std::cerr << "demo-client: " << error.what() << "\n";
  }
  return good ? 0 : 1;
}
