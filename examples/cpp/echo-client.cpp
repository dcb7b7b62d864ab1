// echo-client URL [--agent NAME] [--max-message BYTES]
// The client of the Autobahn test suite: asks URL/getCaseCount how many cases there are, runs them
// one after another by URL/runCase, echoing all, and asks for the report by URL/updateReports.
#include <cstdlib>
#include <iostream>
#include <string>

#include "wsabi.hpp"

// Connects, and comes back when the connection is over, for then the loop has nothing left.
static void visit(wsabi::Loop& loop, const std::string& url, wsabi::ClientOptions& options) {
  bool opened = false;
  options.handlers.on_open = [&](wsabi::Conn, const wsabi::Handshake&) { opened = true; };
  options.handlers.on_close = [&](wsabi::Conn, const wsabi::Close& close) {
    if (!opened) std::cerr << "echo-client: " << url << ": " << close.detail << "\n";
  };
  loop.connect(url, options);
  loop.run();
}

static int run(const std::string& url, const std::string& agent, wsabi::ClientOptions& options) {
  wsabi::Loop loop;
  int cases = 0;
  options.handlers.on_message = [&](wsabi::Conn, const wsabi::Message& message) {
    cases = std::atoi(std::string(message.data).c_str());
  };
  visit(loop, url + "/getCaseCount", options);
  if (cases == 0) {
    std::cerr << "echo-client: " << url << "/getCaseCount named no cases\n";
    return 1;
  }
  // A server that does not take its replies is not read from until it has.
  options.handlers.on_message = [](wsabi::Conn conn, const wsabi::Message& message) {
    wsabi::Status status = message.type == wsabi::MessageType::text
                               ? conn.send_text(message.data)
                               : conn.send_binary(message.data);
    if (status == wsabi::Status::backpressure) conn.pause();
  };
  options.handlers.on_drain = [](wsabi::Conn conn) { conn.resume(); };
  for (int i = 1; i <= cases; i++) {
    visit(loop, url + "/runCase?case=" + std::to_string(i) + "&agent=" + agent, options);
  }
  visit(loop, url + "/updateReports?agent=" + agent, options);
  return 0;
}

int main(int argc, char** argv) {
  wsabi::ClientOptions options;
  std::string agent = "wsabi-cpp";
  int i = 2;
  for (; i + 1 < argc; i += 2) {
    std::string flag = argv[i];
    if (flag == "--agent") {
      agent = argv[i + 1];
    } else if (flag == "--max-message") {
      options.limits.max_message_bytes = std::strtoull(argv[i + 1], nullptr, 10);
    } else {
      break;
    }
  }
  if (argc < 2 || i != argc) {
    std::cerr << "usage: echo-client URL [--agent NAME] [--max-message BYTES]\n";
    return 2;
  }
  try {
    return run(argv[1], agent, options);
  } catch (const wsabi::Error& error) {
    std::cerr << "echo-client: " << error.what() << "\n";
    return 1;
  }
}
