/* One side of a conversation and what it has seen: handlers that record everything. */
#ifndef SIDES_H
#define SIDES_H
#include "check.h"

struct side {
  wsabi_loop *loop;
  wsabi_server server; /* 0: a client */
  wsabi_conn conn;     /* the latest */
  uint16_t port;
  int32_t answer; /* of on_upgrade */
  int upgrades, https, opens, messages, drains, pings, pongs, closes, errors, stops;
  uint32_t type; /* the latest message */
  size_t len;
  char data[256];
  char pong[128], ping[128];
  uint16_t code, http_status; /* the latest close */
  uint32_t clean;
  uint64_t dropped; /* messages, of all connections */
  wsabi_status why;
  char reason[128], detail[512];
  wsabi_status error; /* the latest on_error */
  char error_detail[512];
  wsabi_stopped counts;
};

static inline void copy_text(char *to, size_t size, const void *from, size_t len) {
  if (len > size - 1) len = size - 1;
  if (len > 0) memcpy(to, from, len);
  to[len] = '\0';
}

/* The text of a wsabi_str, for CHECK_STR. */
static inline const char *text_of(wsabi_str s) {
  static char buffers[4][512];
  static unsigned turn;
  char *buffer = buffers[turn++ % 4];
  copy_text(buffer, sizeof buffers[0], s.data, s.len);
  return buffer;
}

static int32_t side_upgrade(wsabi_loop *l, wsabi_conn c, const wsabi_handshake *h, void *user) {
  struct side *s = user;
  (void)l, (void)h;
  s->upgrades++;
  s->conn = c;
  return s->answer;
}
static void side_http(wsabi_loop *l, wsabi_conn c, const wsabi_handshake *h, void *user) {
  struct side *s = user;
  wsabi_response response = {.struct_size = sizeof response, .status = 200};
  (void)h;
  s->https++;
  response.body = "hello";
  response.body_len = 5;
  CHECK_OK(wsabi_conn_respond(l, c, &response));
}
static void side_open(wsabi_loop *l, wsabi_conn c, const wsabi_handshake *h, void *user) {
  struct side *s = user;
  (void)l, (void)h;
  s->opens++;
  s->conn = c;
}
static void side_message(wsabi_loop *l, wsabi_conn c, const wsabi_message *m, void *user) {
  struct side *s = user;
  (void)l, (void)c;
  s->messages++;
  s->type = m->type;
  s->len = m->len;
  copy_text(s->data, sizeof s->data, m->data, m->len);
}
static void side_drain(wsabi_loop *l, wsabi_conn c, void *user) {
  (void)l, (void)c;
  ((struct side *)user)->drains++;
}
static void side_ping(wsabi_loop *l, wsabi_conn c, const uint8_t *data, size_t len, void *user) {
  struct side *s = user;
  (void)l, (void)c;
  s->pings++;
  copy_text(s->ping, sizeof s->ping, data, len);
}
static void side_pong(wsabi_loop *l, wsabi_conn c, const uint8_t *data, size_t len, void *user) {
  struct side *s = user;
  (void)l, (void)c;
  s->pongs++;
  copy_text(s->pong, sizeof s->pong, data, len);
}
static void side_close(wsabi_loop *l, wsabi_conn c, const wsabi_close *close, void *user) {
  struct side *s = user;
  (void)l, (void)c;
  s->closes++;
  s->code = close->code;
  s->http_status = close->http_status;
  s->clean = close->clean;
  s->dropped += close->messages_dropped;
  s->why = close->status;
  copy_text(s->reason, sizeof s->reason, close->reason.data, close->reason.len);
  copy_text(s->detail, sizeof s->detail, close->detail.data, close->detail.len);
}
static void side_error(wsabi_loop *l, wsabi_server server, const wsabi_error *error, void *user) {
  struct side *s = user;
  (void)l, (void)server;
  s->errors++;
  s->error = error->status;
  copy_text(s->error_detail, sizeof s->error_detail, error->detail.data, error->detail.len);
}
static void side_stopped(wsabi_loop *l, wsabi_server server, const wsabi_stopped *n, void *user) {
  struct side *s = user;
  (void)l;
  CHECK(server == s->server);
  s->stops++;
  s->counts = *n;
}

static inline wsabi_server_options server_options(struct side *s) {
  wsabi_server_options o = {.struct_size = sizeof o};
  o.host = "127.0.0.1";
  o.handlers.on_upgrade = side_upgrade;
  o.handlers.on_http = side_http;
  o.handlers.on_open = side_open;
  o.handlers.on_message = side_message;
  o.handlers.on_drain = side_drain;
  o.handlers.on_ping = side_ping;
  o.handlers.on_pong = side_pong;
  o.handlers.on_close = side_close;
  o.handlers.on_error = side_error;
  o.handlers.on_stopped = side_stopped;
  o.handlers.user = s;
  return o;
}

static inline wsabi_client_options client_options(struct side *s) {
  wsabi_client_options o = {.struct_size = sizeof o};
  o.handlers.on_open = side_open;
  o.handlers.on_message = side_message;
  o.handlers.on_drain = side_drain;
  o.handlers.on_ping = side_ping;
  o.handlers.on_pong = side_pong;
  o.handlers.on_close = side_close;
  o.handlers.user = s;
  return o;
}

static inline wsabi_loop *new_loop(void) {
  wsabi_loop *loop = NULL;
  CHECK_OK(wsabi_loop_new(NULL, &loop));
  if (loop == NULL) exit(1);
  return loop;
}

static inline void start_server(wsabi_loop *loop, struct side *s, const wsabi_server_options *o) {
  s->loop = loop;
  CHECK_OK(wsabi_listen(loop, o, &s->server));
  CHECK_OK(wsabi_server_port(loop, s->server, &s->port));
}

static inline void start_client(struct side *server, struct side *s, const char *path,
                                const wsabi_client_options *o) {
  char url[256];
  snprintf(url, sizeof url, "ws://127.0.0.1:%u%s", server->port, path);
  s->loop = server->loop;
  CHECK_OK(wsabi_connect(s->loop, url, o, &s->conn));
  CHECK(s->conn != 0);
}

/* A loop with a server and an open client, with default options. */
static inline wsabi_loop *start_pair(struct side *server, struct side *client) {
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(server);
  wsabi_client_options co = client_options(client);
  start_server(loop, server, &so);
  start_client(server, client, "/", &co);
  WAIT(loop, server->opens == 1 && client->opens == 1);
  return loop;
}

#endif
