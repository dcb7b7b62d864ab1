/* echo-client URL [--agent NAME] [--max-message BYTES]
 *             [--deflate [--deflate-window-bits N] [--context-takeover]]
 * The client of the Autobahn test suite: asks URL/getCaseCount how many cases there are, runs them
 * one after another by URL/runCase, echoing all, and asks for the report by URL/updateReports. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wsabi.h"

static wsabi_loop *loop;
static wsabi_client_options options;
static long cases;

static void on_count(wsabi_loop *l, wsabi_conn conn, const wsabi_message *message, void *user) {
  char text[32] = {0};
  (void)l, (void)conn, (void)user;
  if (message->len < sizeof text) memcpy(text, message->data, message->len);
  cases = strtol(text, NULL, 10);
}

/* A server that does not take its replies is not read from until it has. */
static void on_message(wsabi_loop *l, wsabi_conn conn, const wsabi_message *message, void *user) {
  (void)user;
  if (wsabi_conn_send(l, conn, message) == WSABI_BACKPRESSURE) wsabi_conn_pause(l, conn);
}

static void on_drain(wsabi_loop *l, wsabi_conn conn, void *user) {
  (void)user;
  wsabi_conn_resume(l, conn);
}

/* The user pointer of a connection is its URL until it has opened. */
static void on_open(wsabi_loop *l, wsabi_conn conn, const wsabi_handshake *response, void *user) {
  (void)response, (void)user;
  wsabi_conn_set_user(l, conn, NULL);
}

static void on_close(wsabi_loop *l, wsabi_conn conn, const wsabi_close *close, void *user) {
  const char *url = wsabi_conn_user(l, conn);
  (void)user;
  if (url != NULL)
    fprintf(stderr, "echo-client: %s: %.*s\n", url, (int)close->detail.len, close->detail.data);
}

/* Connects, and comes back when the connection is over, for then the loop has nothing left. */
static int visit(char *url, wsabi_on_message handler) {
  wsabi_conn conn;
  options.conn_user = url;
  options.handlers.on_message = handler;
  if (wsabi_connect(loop, url, &options, &conn) < 0 || wsabi_loop_run(loop) < 0) {
    fprintf(stderr, "echo-client: %s: %s\n", url, wsabi_last_error());
    return -1;
  }
  return 0;
}

static int usage(void) {
  fprintf(stderr,
          "usage: echo-client URL [--agent NAME] [--max-message BYTES]\n"
          "                   [--deflate [--deflate-window-bits N] [--context-takeover]]\n"
          "  --deflate                offer or accept permessage-deflate\n"
          "  --deflate-window-bits N  window of both sides, 9 to 15; default 12\n"
          "  --context-takeover       messages of both sides refer to earlier ones\n");
  return 2;
}

int main(int argc, char **argv) {
  const char *agent = "wsabi-c";
  char url[1024];
  long i;

  if (argc < 2) return usage();
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
    if (strcmp(argv[i], "--agent") == 0)
      agent = value;
    else if (strcmp(argv[i], "--max-message") == 0)
      options.limits.max_message_bytes = strtoull(value, NULL, 10);
    else if (strcmp(argv[i], "--deflate-window-bits") == 0)
      options.deflate.server_max_window_bits = options.deflate.client_max_window_bits =
          (uint32_t)strtoul(value, NULL, 10);
    else
      return usage();
    i++;
  }
  options.struct_size = sizeof options;
  options.handlers.on_open = on_open;
  options.handlers.on_drain = on_drain;
  options.handlers.on_close = on_close;
  if (wsabi_loop_new(NULL, &loop) < 0) {
    fprintf(stderr, "echo-client: %s\n", wsabi_last_error());
    return 1;
  }

  snprintf(url, sizeof url, "%s/getCaseCount", argv[1]);
  if (visit(url, on_count) < 0 || cases == 0) {
    fprintf(stderr, "echo-client: %s named no cases\n", url);
    return 1;
  }
  for (i = 1; i <= cases; i++) {
    snprintf(url, sizeof url, "%s/runCase?case=%ld&agent=%s", argv[1], i, agent);
    visit(url, on_message);
  }
  snprintf(url, sizeof url, "%s/updateReports?agent=%s", argv[1], agent);
  visit(url, on_message);
  wsabi_loop_free(loop);
  return 0;
}
