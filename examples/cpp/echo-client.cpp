// echo-client URL [--agent NAME] [--max-message BYTES]
//             [--deflate [--deflate-window-bits N] [--context-takeover]]
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
    if (conn.send(message.type, message.data) == wsabi::Status::backpressure) conn.pause();
  };
  options.handlers.on_drain = [](wsabi::Conn conn) { conn.resume(); };
  for (int i = 1; i <= cases; i++) {
    visit(loop, url + "/runCase?case=" + std::to_string(i) + "&agent=" + agent, options);
  }
  visit(loop, url + "/updateReports?agent=" + agent, options);
  return 0;
}

// False if the arguments are not understood.
static bool parse(int argc, char** argv, std::string& agent, wsabi::ClientOptions& options) try {
  if (argc < 2) return false;
  bool deflate = false;
  wsabi::Deflate wanted;
  for (int i = 2; i < argc; i++) {
    std::string flag = argv[i];
    if (flag == "--deflate") {
      deflate = true;
    } else if (flag == "--context-takeover") {
      wanted.server_context_takeover = wanted.client_context_takeover = true;
    } else if (++i == argc) {
      return false;
    } else if (flag == "--agent") {
      agent = argv[i];
    } else if (flag == "--max-message") {
      options.limits.max_message_bytes = std::stoull(argv[i]);
    } else if (flag == "--deflate-window-bits") {
      wanted.server_max_window_bits = wanted.client_max_window_bits =
          static_cast<std::uint32_t>(std::stoul(argv[i]));
    } else {
      return false;
    }
  }
  if (deflate) options.deflate = wanted;
  return deflate || !(wanted.server_context_takeover || wanted.server_max_window_bits != 0);
} catch (const std::logic_error&) {  // A number that is none.
  return false;
}

int main(int argc, char** argv) {
  wsabi::ClientOptions options;
  std::string agent = "wsabi-cpp";
  if (!parse(argc, argv, agent, options)) {
    std::cerr << "usage: echo-client URL [--agent NAME] [--max-message BYTES]\n"
                 "                   [--deflate [--deflate-window-bits N] [--context-takeover]]\n"
                 "  --deflate                offer or accept permessage-deflate\n"
                 "  --deflate-window-bits N  window of both sides, 9 to 15; default 12\n"
                 "  --context-takeover       messages of both sides refer to earlier ones\n";
    return 2;
  }
  try {
    return run(argv[1], agent, options);
  } catch (const wsabi::Error& error) {
    std::cerr << "echo-client: " << error.what() << "\n";
    return 1;
  }
}
