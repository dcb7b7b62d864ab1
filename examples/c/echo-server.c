/* echo-server PORT [--host H] [--max-message BYTES]
 *             [--deflate [--deflate-window-bits N] [--context-takeover]]
 * Sends every message back. PORT 0 picks one. SIGINT and SIGTERM end it. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wsabi.h"

static wsabi_loop *loop;
static wsabi_server server;

/* A peer that does not take its replies is not read from until it has. */
static void on_message(wsabi_loop *l, wsabi_conn conn, const wsabi_message *message, void *user) {
  (void)user;
  if (wsabi_conn_send(l, conn, message) == WSABI_BACKPRESSURE) wsabi_conn_pause(l, conn);
}

static void on_drain(wsabi_loop *l, wsabi_conn conn, void *user) {
  (void)user;
  wsabi_conn_resume(l, conn);
}

/* Signals go to a thread that waits for them: stopping a server is not for signal handlers, but
 * for any thread. wsabi_loop_run ends when the server has stopped. */
static void *wait_for_signal(void *signals) {
  int number;
  sigwait(signals, &number);
  wsabi_server_stop(loop, server, 0);
  return NULL;
}

static int usage(void) {
  fprintf(stderr,
          "usage: echo-server PORT [--host H] [--max-message BYTES]\n"
          "                   [--deflate [--deflate-window-bits N] [--context-takeover]]\n"
          "  --deflate                offer or accept permessage-deflate\n"
          "  --deflate-window-bits N  window of both sides, 9 to 15; default 12\n"
          "  --context-takeover       messages of both sides refer to earlier ones\n");
  return 2;
}

static int failed(void) {
  fprintf(stderr, "echo-server: %s\n", wsabi_last_error());
  return 1;
}

int main(int argc, char **argv) {
  wsabi_server_options options = {0};
  char address[128], *end;
  unsigned long port;
  pthread_t thread;
  sigset_t signals;
  int i;

  options.struct_size = sizeof options;
  options.host = "127.0.0.1";
  options.handlers.on_message = on_message;
  options.handlers.on_drain = on_drain;
  if (argc < 2) return usage();
  port = strtoul(argv[1], &end, 10);
  if (end == argv[1] || *end != '\0' || port > 65535) return usage();
  options.port = (uint16_t)port;
  for (i = 2; i < argc; i++) {
    const char *value = i + 1 < argc ? argv[i + 1] : NULL;
    if (strcmp(argv[i], "--deflate") == 0) {
      options.deflate.enabled = 1;
      continue;
    }
    if (strcmp(argv[i], "--context-takeover") == 0) {
      options.deflate.server_context_takeover = options.deflate.client_context_takeover = 1;
      continue;
    }
    if (value == NULL) return usage();
    if (strcmp(argv[i], "--host") == 0)
      options.host = value;
    else if (strcmp(argv[i], "--max-message") == 0)
      options.limits.max_message_bytes = strtoull(value, NULL, 10);
    else if (strcmp(argv[i], "--deflate-window-bits") == 0)
      options.deflate.server_max_window_bits = options.deflate.client_max_window_bits =
          (uint32_t)strtoul(value, NULL, 10);
    else
      return usage();
    i++;
  }

  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);
  if (wsabi_loop_new(NULL, &loop) < 0) return failed();
  if (wsabi_listen(loop, &options, &server) < 0) return failed();
  if (wsabi_server_address(loop, server, address, sizeof address, NULL) < 0) return failed();
  printf("listening on ws://%s\n", address);
  fflush(stdout);

  if (pthread_create(&thread, NULL, wait_for_signal, &signals) != 0) return 1;
  if (wsabi_loop_run(loop) < 0) return failed();
  pthread_join(thread, NULL);
  wsabi_loop_free(loop);
  return 0;
}
