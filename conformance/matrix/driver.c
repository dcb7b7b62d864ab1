/* driver: C's part in the matrix. It reads orders from stdin and writes events to stdout, one a
 * line; README.md lists them. Stdin and the loop's descriptor are watched by one poll(2). */
#include <poll.h>
#include <string.h>
#include <unistd.h>

#include "payload.h"
#include "wsabi.h"

enum { MOST_NAMES = 8, MOST_SERVERS = 64, MOST_FILLED = 4096 };
/* What the KEY=VALUE words of an order say; a server's callbacks get it. */
typedef struct {
  wsabi_limits limits;
  wsabi_deflate deflate;
  uint64_t max_buffered;
  const char *subprotocols[MOST_NAMES];
  size_t subprotocol_count;
  uint16_t refuse;
  uint16_t hold;
  payload body;
} settings;

static wsabi_loop *loop;
static settings servers[MOST_SERVERS];
static size_t server_count;
/* The connection that orders are for: the latest. */
static wsabi_conn current;
static int opened;
/* Whether the texts of errors are told. */
static int explains;

static void fail(const char *order, const char *why) { printf("error %s: %s\n", order, why); }

static void check(const char *order, wsabi_status status) {
  if (status < 0) fail(order, wsabi_last_error());
}

/* ---- events ---- */

static void tell(const char *event, const void *data, size_t len) {
  printf("%s %zu %08x\n", event, len, crc32_of(data, len));
}

static const char *kind(wsabi_status status) {
  const char *name = wsabi_status_name(status);
  return name + strlen(status < 0 ? "WSABI_E_" : "WSABI_");
}

static void explain(wsabi_status status, wsabi_str detail) {
  if (explains && status != WSABI_OK)
    printf("why %s %.*s\n", kind(status), (int)detail.len, detail.data);
}

static void on_error(wsabi_loop *l, wsabi_server server, const wsabi_error *error, void *user) {
  (void)l, (void)server, (void)user;
  explain(error->status, error->detail);
}

static int32_t on_upgrade(wsabi_loop *l, wsabi_conn conn, const wsabi_handshake *request,
                          void *user) {
  const settings *given = user;
  wsabi_response response = {.struct_size = sizeof response, .status = given->refuse};
  (void)request;
  if (given->hold) return WSABI_LATER;
  if (given->refuse == 0) return WSABI_ACCEPT;
  response.body = given->body.data;
  response.body_len = given->body.len;
  check("refuse", wsabi_conn_respond(l, conn, &response));
  return WSABI_REFUSE;
}

static void on_open(wsabi_loop *l, wsabi_conn conn, const wsabi_handshake *handshake, void *user) {
  wsabi_str name = {0}, target = wsabi_handshake_target(handshake);
  (void)user;
  current = conn;
  opened = 1;
  check("open", wsabi_conn_subprotocol(l, conn, &name));
  if (name.len == 0) name = (wsabi_str){"-", 1};
  if (target.len == 0) target = (wsabi_str){"-", 1};
  printf("open %.*s %.*s\n", (int)name.len, name.data, (int)target.len, target.data);
}

static void on_message(wsabi_loop *l, wsabi_conn conn, const wsabi_message *message, void *user) {
  (void)l, (void)conn, (void)user;
  tell(message->type == WSABI_TEXT ? "message text" : "message binary", message->data,
       message->len);
}

static void on_drain(wsabi_loop *l, wsabi_conn conn, void *user) {
  (void)l, (void)conn, (void)user;
  printf("drain\n");
}

static void on_ping(wsabi_loop *l, wsabi_conn conn, const uint8_t *data, size_t len, void *user) {
  (void)l, (void)conn, (void)user;
  tell("ping", data, len);
}

static void on_pong(wsabi_loop *l, wsabi_conn conn, const uint8_t *data, size_t len, void *user) {
  (void)l, (void)conn, (void)user;
  tell("pong", data, len);
}

static void on_close(wsabi_loop *l, wsabi_conn conn, const wsabi_close *close, void *user) {
  (void)l, (void)conn, (void)user;
  explain(close->status, close->detail);
  if (opened)
    printf("close %u %s %s %.*s\n", close->code, close->clean ? "clean" : "unclean",
           kind(close->status), (int)close->reason.len, close->reason.data);
  else if (close->status == WSABI_E_REFUSED)
    printf("refused %u - -\n", close->http_status);
  else
    printf("failed %s\n", kind(close->status));
}

static const wsabi_handlers handlers = {
    .on_open = on_open, .on_message = on_message, .on_drain = on_drain,
    .on_ping = on_ping, .on_pong = on_pong,       .on_close = on_close,
};

/* ---- orders ---- */

static int read_setting(const char *key, char *value, settings *to) {
  unsigned number = (unsigned)strtoul(value, NULL, 10);
  char *name;
  wsabi_limits *limits = &to->limits;
  const struct {
    const char *key;
    uint32_t *small;
    uint64_t *large;
  } limit[] = {
      {"max_message", NULL, &limits->max_message_bytes},
      {"max_fragments", &limits->max_fragments, NULL},
      {"max_handshake_bytes", &limits->max_handshake_bytes, NULL},
      {"max_handshake_headers", &limits->max_handshake_headers, NULL},
      {"handshake_timeout", &limits->handshake_timeout_ms, NULL},
      {"hold_timeout", &limits->hold_timeout_ms, NULL},
      {"ping_interval", &limits->ping_interval_ms, NULL},
      {"ping_timeout", &limits->ping_timeout_ms, NULL},
      {"idle_timeout", &limits->idle_timeout_ms, NULL},
      {"close_timeout", &limits->close_timeout_ms, NULL},
      {"max_pending_handshakes", &limits->max_pending_handshakes, NULL},
      {"high_water", NULL, &limits->high_water_bytes},
      {"low_water", NULL, &limits->low_water_bytes},
      {"max_backlog", NULL, &limits->max_backlog_bytes},
      {"max_buffered", NULL, &to->max_buffered},
      {"deflate", &to->deflate.enabled, NULL},
      {"max_ratio", &to->deflate.max_ratio, NULL},
  };
  for (size_t i = 0; i < sizeof limit / sizeof *limit; i++) {
    if (strcmp(key, limit[i].key) != 0) continue;
    if (limit[i].small != NULL) *limit[i].small = number;
    if (limit[i].large != NULL) *limit[i].large = number;
    return 1;
  }
  if (strcmp(key, "explain") == 0) return explains = number != 0, 1;
  if (strcmp(key, "hold") == 0) return to->hold = number != 0, 1;
  if (strcmp(key, "refuse") == 0) return to->refuse = (uint16_t)number, 1;
  if (strcmp(key, "body") == 0) return read_payload(value, &to->body);
  if (strcmp(key, "subprotocols") != 0) return 0;
  while ((name = strsep(&value, ",")) != NULL && to->subprotocol_count < MOST_NAMES)
    to->subprotocols[to->subprotocol_count++] = name;
  return 1;
}

static int read_settings(const char *order, char *rest, settings *to) {
  char *value;
  while ((value = strsep(&rest, " ")) != NULL) {
    const char *key = strsep(&value, "=");
    if (value == NULL || !read_setting(key, value, to)) return fail(order, key), 0;
  }
  return 1;
}

static void order_listen(char *rest) {
  settings *given = &servers[server_count];
  wsabi_server_options options = {.struct_size = sizeof options, .host = "127.0.0.1"};
  wsabi_server server;
  uint16_t port;
  if (server_count + 1 == MOST_SERVERS) return fail("listen", "too many servers");
  if (!read_settings("listen", rest, given)) return;
  server_count++;
  options.limits = given->limits;
  options.deflate = given->deflate;
  options.max_buffered_bytes = given->max_buffered;
  options.subprotocols = given->subprotocols;
  options.subprotocol_count = given->subprotocol_count;
  options.handlers = handlers;
  options.handlers.on_upgrade = on_upgrade;
  options.handlers.on_error = on_error;
  options.handlers.user = given;
  if (wsabi_listen(loop, &options, &server) < 0 || wsabi_server_port(loop, server, &port) < 0)
    return fail("listen", wsabi_last_error());
  printf("listening %u\n", port);
}

static void order_connect(const char *port, char *rest) {
  settings given = {0};
  wsabi_client_options options = {.struct_size = sizeof options};
  char url[256];
  const char *target = strsep(&rest, " ");
  if (target == NULL) return fail("connect", "expected PORT TARGET");
  if (!read_settings("connect", rest, &given)) return;
  snprintf(url, sizeof url, "ws://127.0.0.1:%s%s", port, target);
  options.limits = given.limits;
  options.deflate = given.deflate;
  options.subprotocols = given.subprotocols;
  options.subprotocol_count = given.subprotocol_count;
  options.handlers = handlers;
  opened = 0;
  check("connect", wsabi_connect(loop, url, &options, &current));
}

static wsabi_status send_message(int text, payload data) {
  return text ? wsabi_conn_send_text(loop, current, data.data, data.len)
              : wsabi_conn_send_binary(loop, current, data.data, data.len);
}

/* Sends one message again and again until sending answers `until`. */
static void fill(int text, payload data, wsabi_status until) {
  uint64_t buffered = 0;
  for (unsigned count = 0; count < MOST_FILLED; count++) {
    wsabi_status status = send_message(text, data);
    if (status < 0 && status != until) return check("fill", status);
    if (status != until) continue;
    check("fill", wsabi_conn_buffered(loop, current, &buffered));
    return (void)printf("filled %u %llu\n", count + (status >= 0), (unsigned long long)buffered);
  }
  fail("fill", "the backlog does not grow");
}

/* Sends a message of so many bytes, and tells how that went and how much waits. */
static void try_to_send(size_t len) {
  uint64_t buffered = 0;
  payload data = {calloc(len + 1, 1), len};
  wsabi_status status = send_message(0, data);
  free(data.data);
  check("try", wsabi_conn_buffered(loop, current, &buffered));
  printf("tried %s %llu %s\n", kind(status), (unsigned long long)buffered,
         status < 0 ? wsabi_last_error() : "");
}

/* ORDER FILE [HOW], where files of text have names that begin with t. */
static int order_with_payload(const char *order, const char *name, const char *how) {
  int text = *name == 't', last = how != NULL && strcmp(how, "last") == 0;
  wsabi_status until = how != NULL && strcmp(how, "full") == 0 ? WSABI_E_FULL : WSABI_BACKPRESSURE;
  payload data;
  if (!read_payload(name, &data)) return 0;
  if (strcmp(order, "send") == 0)
    check(order, send_message(text, data));
  else if (strcmp(order, "fragment") == 0)
    check(order, wsabi_conn_send_fragment(loop, current, text ? WSABI_TEXT : WSABI_BINARY,
                                          data.data, data.len, last));
  else if (strcmp(order, "ping") == 0)
    check(order, wsabi_conn_ping(loop, current, data.data, data.len));
  else if (strcmp(order, "pong") == 0)
    check(order, wsabi_conn_pong(loop, current, data.data, data.len));
  else if (strcmp(order, "fill") == 0)
    fill(text, data, until);
  else
    fail(order, "no such order");
  free(data.data);
  return 1;
}

static void obey(char *line) {
  char *rest = line;
  const char *order = strsep(&rest, " "), *first;
  if (strcmp(order, "sync") == 0) {
    printf("synced\n");
  } else if (strcmp(order, "terminate") == 0) {
    check(order, wsabi_conn_terminate(loop, current));
  } else if (strcmp(order, "pause") == 0) {
    check(order, wsabi_conn_pause(loop, current));
  } else if (strcmp(order, "resume") == 0) {
    check(order, wsabi_conn_resume(loop, current));
  } else if (strcmp(order, "listen") == 0) {
    order_listen(rest);
  } else if ((first = strsep(&rest, " ")) == NULL) {
    fail(order, "not understood");
  } else if (strcmp(order, "try") == 0) {
    try_to_send(strtoul(first, NULL, 10));
  } else if (strcmp(order, "connect") == 0) {
    order_connect(first, rest);
  } else if (strcmp(order, "close") == 0) {
    check(order, wsabi_conn_close(loop, current, (uint16_t)atoi(first), rest,
                                  rest == NULL ? 0 : strlen(rest)));
  } else if (!order_with_payload(order, first, rest)) {
    fail(order, "cannot read the payload");
  }
}

int main(void) {
  struct pollfd watched[2] = {{STDIN_FILENO, POLLIN, 0}, {-1, POLLIN, 0}};
  char line[4096];
  setvbuf(stdout, NULL, _IOLBF, 0);
  /* Nothing that was read stays where poll(2) does not see it. */
  setvbuf(stdin, NULL, _IONBF, 0);
  if (wsabi_loop_new(NULL, &loop) < 0) return fprintf(stderr, "%s\n", wsabi_last_error()), 1;
  watched[1].fd = wsabi_loop_fd(loop);
  while (poll(watched, 2, -1) > 0) {
    if (watched[0].revents != 0) {
      if (fgets(line, sizeof line, stdin) == NULL) break;
      line[strcspn(line, "\n")] = '\0';
      obey(line);
    }
    if (watched[1].revents != 0) check("dispatch", wsabi_loop_dispatch(loop, NULL));
  }
  wsabi_loop_free(loop);
  return 0;
}
