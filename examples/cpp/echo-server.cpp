// echo-server PORT [--host H] [--max-message BYTES]
//             [--deflate [--deflate-window-bits N] [--context-takeover]]
// Sends every message back. PORT 0 picks one. SIGINT and SIGTERM end it.
#include <csignal>
#include <iostream>
#include <string>
#include <thread>

#include "wsabi.hpp"

// False if the arguments are not understood.
static bool parse(int argc, char** argv, wsabi::ServerOptions& options) try {
  if (argc < 2) return false;
  bool deflate = false;
  wsabi::Deflate wanted;
  options.host = "127.0.0.1";
  unsigned long port = std::stoul(argv[1]);
  if (port > 65535) return false;
  options.port = static_cast<std::uint16_t>(port);
  for (int i = 2; i < argc; i++) {
    std::string flag = argv[i];
    if (flag == "--deflate") {
      deflate = true;
    } else if (flag == "--context-takeover") {
      wanted.server_context_takeover = wanted.client_context_takeover = true;
    } else if (++i == argc) {
      return false;
    } else if (flag == "--host") {
      options.host = argv[i];
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
  wsabi::ServerOptions options;
  if (!parse(argc, argv, options)) {
    std::cerr << "usage: echo-server PORT [--host H] [--max-message BYTES]\n"
                 "                   [--deflate [--deflate-window-bits N] [--context-takeover]]\n"
                 "  --deflate                offer or accept permessage-deflate\n"
                 "  --deflate-window-bits N  window of both sides, 9 to 15; default 12\n"
                 "  --context-takeover       messages of both sides refer to earlier ones\n";
    return 2;
  }
  // A peer that does not take its replies is not read from until it has.
  options.handlers.on_message = [](wsabi::Conn conn, const wsabi::Message& message) {
    if (conn.send(message.type, message.data) == wsabi::Status::backpressure) conn.pause();
  };
  options.handlers.on_drain = [](wsabi::Conn conn) { conn.resume(); };

  // Signals go to a thread that waits for them: stopping a server is not for signal handlers, but
  // for any thread. run() ends when the server has stopped.
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  try {
    wsabi::Loop loop;
    wsabi::Server server = loop.listen(options);
    std::cout << "listening on ws://" << server.address() << std::endl;
    std::thread waiter([&signals, server] {
      int number;
      sigwait(&signals, &number);
      server.stop();
    });
    wsabi::Status status = loop.run();
    if (!wsabi::ok(status)) {
      waiter.detach();
      throw wsabi::Error(status, wsabi::last_error());
    }
    waiter.join();
  } catch (const wsabi::Error& error) {
    std::cerr << "echo-server: " << error.what() << "\n";
    return 1;
  }
}
