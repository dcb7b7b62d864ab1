/* A client and a server in one loop: everything that passes between them. */
#include <pthread.h>

#include "sides.h"

static void messages(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  CHECK_OK(wsabi_conn_send_text(loop, c.conn, "gr\xc3\xbc\xc3\x9f", 6));
  WAIT(loop, s.messages == 1);
  CHECK_INT(s.type, WSABI_TEXT);
  CHECK_STR(s.data, "gr\xc3\xbc\xc3\x9f");
  CHECK_OK(wsabi_conn_send_binary(loop, s.conn, "\0\xff\0", 3));
  WAIT(loop, c.messages == 1);
  CHECK_INT(c.type, WSABI_BINARY);
  CHECK_INT(c.len, 3);
  CHECK(memcmp(c.data, "\0\xff\0", 3) == 0);
  CHECK_OK(wsabi_conn_send_binary(loop, s.conn, NULL, 0));
  WAIT(loop, c.messages == 2);
  CHECK_INT(c.len, 0);
  wsabi_loop_free(loop);
  CHECK(s.closes == 1 && c.closes == 1);
  CHECK_STATUS(c.why, WSABI_E_STOPPED);
}

static void fragments(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  CHECK_OK(wsabi_conn_send_fragment(loop, c.conn, WSABI_TEXT, "\xe4\xb8", 2, 0));
  CHECK_OK(wsabi_conn_ping(loop, c.conn, "between", 7));
  WAIT(loop, c.pongs == 1);
  CHECK_STR(c.pong, "between");
  CHECK_STR(s.ping, "between");
  CHECK_INT(s.messages, 0);
  CHECK_OK(wsabi_conn_send_fragment(loop, c.conn, WSABI_TEXT, NULL, 0, 0));
  CHECK_OK(wsabi_conn_send_fragment(loop, c.conn, WSABI_TEXT, "\x96!", 2, 1));
  WAIT(loop, s.messages == 1);
  CHECK_INT(s.type, WSABI_TEXT);
  CHECK_STR(s.data, "\xe4\xb8\x96!");
  CHECK_OK(wsabi_conn_send_fragment(loop, s.conn, WSABI_BINARY, "a", 1, 0));
  CHECK_OK(wsabi_conn_send_fragment(loop, s.conn, WSABI_BINARY, "b", 1, 1));
  WAIT(loop, c.messages == 1);
  CHECK_INT(c.type, WSABI_BINARY);
  CHECK_STR(c.data, "ab");
  wsabi_loop_free(loop);
}

static void pings_and_pongs(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  CHECK_OK(wsabi_conn_ping(loop, s.conn, "ping\0!", 6));
  WAIT(loop, s.pongs == 1 && c.pings == 1);
  CHECK(memcmp(s.pong, "ping\0!", 6) == 0);
  CHECK_OK(wsabi_conn_pong(loop, c.conn, "unasked", 7));
  WAIT(loop, s.pongs == 2);
  CHECK_STR(s.pong, "unasked");
  CHECK_INT(c.pongs, 0);
  wsabi_loop_free(loop);
}

static void close_by(int by_server, uint16_t code, const char *reason) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  struct side *near = by_server ? &s : &c, *far = by_server ? &c : &s;
  CHECK_OK(wsabi_conn_close(loop, near->conn, code, reason, strlen(reason)));
  CHECK_INT(near->closes, 0);
  CHECK_INT(wsabi_conn_state(loop, near->conn), WSABI_STATE_CLOSING);
  CHECK_STATUS(wsabi_conn_send_text(loop, near->conn, "late", 4), WSABI_E_CLOSED);
  WAIT(loop, s.closes == 1 && c.closes == 1);
  CHECK_INT(far->code, code == 0 ? 1005 : code);
  CHECK_STR(far->reason, reason);
  CHECK_INT(near->code, code == 0 ? 1005 : code); /* The peer answers with the code it got. */
  CHECK(near->clean && far->clean);
  CHECK_OK(near->why);
  CHECK_OK(far->why);
  CHECK_STR(far->detail, "");
  CHECK_INT(wsabi_conn_state(loop, near->conn), WSABI_STATE_CLOSED);
  wsabi_loop_free(loop);
  CHECK(s.closes == 1 && c.closes == 1);
}

static void closing_handshakes(void) {
  char reason[124];
  memset(reason, 'r', 123);
  reason[123] = '\0';
  close_by(0, 1000, "done");
  close_by(1, 1001, "going away");
  close_by(0, 4711, "\xc3\xbc");
  close_by(1, 3000, reason);
  close_by(0, 0, "");
  close_by(1, 0, "");
}

static void terminate(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  CHECK_OK(wsabi_conn_terminate(loop, c.conn));
  CHECK_INT(c.closes, 0);
  WAIT(loop, c.closes == 1 && s.closes == 1);
  CHECK_STATUS(c.why, WSABI_E_TERMINATED);
  CHECK_STATUS(s.why, WSABI_E_LOST);
  CHECK(s.code == 1006 && !s.clean && s.detail[0] != '\0');
  wsabi_loop_free(loop);
}

/* What a server reads of a request, and answers. */
static wsabi_loop *later_loop;
static int handshake_checks;
static int32_t inspecting_upgrade(wsabi_loop *l, wsabi_conn c, const wsabi_handshake *h, void *user) {
  struct side *s = user;
  wsabi_accept_options accept = {.struct_size = sizeof accept};
  wsabi_header extra = {{"X-Answer", 8}, {"42", 2}}, found;
  wsabi_str offered;
  size_t i, hosts = 0;
  s->upgrades++;
  CHECK_STR(text_of(wsabi_handshake_method(h)), "GET");
  CHECK_STR(text_of(wsabi_handshake_target(h)), "/chat?room=1&x=%20");
  CHECK_STR(text_of(wsabi_handshake_path(h)), "/chat");
  CHECK_STR(text_of(wsabi_handshake_query(h)), "room=1&x=%20");
  CHECK_INT(wsabi_handshake_status(h), 0);
  CHECK_STR(text_of(wsabi_handshake_header(h, "x-question")), "six times seven");
  CHECK_STR(text_of(wsabi_handshake_header(h, "Upgrade")), "websocket");
  CHECK(wsabi_handshake_header(h, "X-None").data == NULL);
  for (i = 0; i < wsabi_handshake_header_count(h); i++) {
    CHECK_OK(wsabi_handshake_header_at(h, i, &found));
    hosts += strcasecmp(text_of(found.name), "host") == 0;
  }
  CHECK_INT(hosts, 1);
  CHECK_INVALID(wsabi_handshake_header_at(h, i, &found), "index");
  CHECK_INT(wsabi_handshake_subprotocol_count(h), 2);
  CHECK_OK(wsabi_handshake_subprotocol_at(h, 0, &offered));
  CHECK_STR(text_of(offered), "old");
  CHECK_OK(wsabi_handshake_subprotocol_at(h, 1, &offered));
  CHECK_STR(text_of(offered), "new");
  CHECK_INVALID(wsabi_handshake_subprotocol_at(h, 2, &offered), "index");
  accept.headers = &extra;
  accept.header_count = 1;
  CHECK_OK(wsabi_conn_accept(l, c, &accept));
  handshake_checks++;
  return WSABI_ACCEPT;
}
static void inspecting_open(wsabi_loop *l, wsabi_conn c, const wsabi_handshake *h, void *user) {
  (void)l, (void)c;
  CHECK_INT(wsabi_handshake_status(h), 101);
  CHECK_STR(text_of(wsabi_handshake_header(h, "x-answer")), "42");
  CHECK_STR(text_of(wsabi_handshake_method(h)), "");
  handshake_checks++;
  ((struct side *)user)->opens++;
}

static void requests_and_subprotocols(void) {
  static const char *served[] = {"newest", "new", "old"}, *offered[] = {"old", "new"};
  static const wsabi_header question = {{"X-Question", 10}, {"six times seven", 15}};
  struct side s = {0}, c = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  wsabi_client_options co = client_options(&c);
  wsabi_str chosen;
  char peer[64];
  wsabi_server server;
  so.handlers.on_upgrade = inspecting_upgrade;
  so.subprotocols = served;
  so.subprotocol_count = 3;
  co.handlers.on_open = inspecting_open;
  co.subprotocols = offered;
  co.subprotocol_count = 2;
  co.headers = &question;
  co.header_count = 1;
  co.conn_user = &c;
  handshake_checks = 0;
  start_server(loop, &s, &so);
  start_client(&s, &c, "/chat?room=1&x=%20", &co);
  WAIT(loop, s.opens == 1 && c.opens == 1);
  CHECK_INT(handshake_checks, 2);
  CHECK_OK(wsabi_conn_subprotocol(loop, c.conn, &chosen));
  CHECK_STR(text_of(chosen), "new"); /* The server's preference among what is offered. */
  CHECK_OK(wsabi_conn_subprotocol(loop, s.conn, &chosen));
  CHECK_STR(text_of(chosen), "new");
  CHECK(wsabi_conn_user(loop, c.conn) == &c && wsabi_conn_user(loop, s.conn) == NULL);
  CHECK_OK(wsabi_conn_server(loop, s.conn, &server));
  CHECK(server == s.server);
  CHECK_OK(wsabi_conn_server(loop, c.conn, &server));
  CHECK_INT(server, 0);
  CHECK_OK(wsabi_conn_peer(loop, c.conn, peer, sizeof peer, NULL));
  CHECK(strncmp(peer, "127.0.0.1:", 10) == 0 && atoi(peer + 10) == s.port);
  wsabi_loop_free(loop);
}

/* Refusals. */
static int32_t refusing_upgrade(wsabi_loop *l, wsabi_conn c, const wsabi_handshake *h, void *user) {
  static const wsabi_header retry = {{"Retry-After", 11}, {"7", 1}};
  wsabi_response r = {.struct_size = sizeof r, .status = 429};
  struct side *s = user;
  (void)h;
  s->upgrades++;
  r.headers = &retry;
  r.header_count = 1;
  r.body = "too many";
  r.body_len = 8;
  CHECK_OK(wsabi_conn_respond(l, c, &r));
  CHECK_STATUS(wsabi_conn_respond(l, c, &r), WSABI_E_CLOSED);
  return WSABI_ACCEPT; /* Of no effect, as the request is answered. */
}

static void refusals(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  wsabi_client_options co = client_options(&c);
  char answer[2048];
  int fd;
  so.handlers.on_upgrade = refusing_upgrade;
  start_server(loop, &s, &so);
  start_client(&s, &c, "/", &co);
  WAIT(loop, c.closes == 1);
  CHECK_STATUS(c.why, WSABI_E_REFUSED);
  CHECK_INT(c.http_status, 429);
  CHECK(strstr(c.detail, "429") != NULL);
  fd = raw_connect(s.port);
  raw_write(fd, RAW_UPGRADE);
  raw_read(loop, fd, answer, sizeof answer, NULL);
  CHECK(strncmp(answer, "HTTP/1.1 429 ", 13) == 0);
  CHECK(strcasestr(answer, "\r\nretry-after: 7\r\n") != NULL);
  CHECK(strstr(answer, "\r\n\r\ntoo many") != NULL);
  close(fd);
  CHECK(c.opens == 0 && s.opens == 0 && s.closes == 0);
  wsabi_loop_free(loop);
  CHECK_INT(c.closes, 1);
}

static void refusal_by_return(void) {
  struct side s = {.answer = WSABI_REFUSE}, c = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  wsabi_client_options co = client_options(&c);
  start_server(loop, &s, &so);
  start_client(&s, &c, "/", &co);
  WAIT(loop, c.closes == 1);
  CHECK_INT(c.http_status, 403);
  s.answer = 77; /* Not an answer: the request must not get through. */
  start_client(&s, &c, "/", &co);
  WAIT(loop, c.closes == 2);
  CHECK(c.http_status >= 400);
  CHECK(c.opens == 0 && s.opens == 0);
  s.answer = WSABI_ACCEPT;
  co.origin = "http://elsewhere.example";
  start_client(&s, &c, "/", &co);
  WAIT(loop, c.closes == 3);
  CHECK_INT(c.http_status, 403);
  CHECK_STATUS(s.error, WSABI_E_ORIGIN);
  CHECK_INT(s.upgrades, 2);
  wsabi_loop_free(loop);
}

/* Answers that come later, from this thread or another. */
static void *accept_elsewhere(void *user) {
  wsabi_accept_options accept = {.struct_size = sizeof accept, .subprotocol = "late"};
  return (void *)(intptr_t)wsabi_conn_accept(later_loop, ((struct side *)user)->conn, &accept);
}
static void *refuse_elsewhere(void *user) {
  wsabi_response r = {.struct_size = sizeof r, .status = 401};
  return (void *)(intptr_t)wsabi_conn_respond(later_loop, ((struct side *)user)->conn, &r);
}

static void answer_elsewhere(struct side *s, void *(*answer)(void *)) {
  pthread_t thread;
  void *status;
  CHECK(pthread_create(&thread, NULL, answer, s) == 0);
  CHECK(pthread_join(thread, &status) == 0);
  CHECK_OK((wsabi_status)(intptr_t)status);
}

static void answers_later(void) {
  static const char *subprotocols[] = {"late"};
  struct side s = {.answer = WSABI_LATER}, c = {0};
  wsabi_loop *loop = later_loop = new_loop();
  wsabi_server_options so = server_options(&s);
  wsabi_client_options co = client_options(&c);
  wsabi_str chosen;
  so.limits.hold_timeout_ms = 300;
  co.subprotocols = subprotocols;
  co.subprotocol_count = 1;
  start_server(loop, &s, &so);

  start_client(&s, &c, "/", &co);
  WAIT(loop, s.upgrades == 1);
  CHECK_INT(c.opens, 0);
  CHECK_OK(wsabi_conn_accept(loop, s.conn, NULL));
  WAIT(loop, c.opens == 1 && s.opens == 1);

  start_client(&s, &c, "/", &co);
  WAIT(loop, s.upgrades == 2);
  answer_elsewhere(&s, accept_elsewhere);
  WAIT(loop, c.opens == 2 && s.opens == 2);
  CHECK_OK(wsabi_conn_subprotocol(loop, c.conn, &chosen));
  CHECK_STR(text_of(chosen), "late");

  start_client(&s, &c, "/", &co);
  WAIT(loop, s.upgrades == 3);
  answer_elsewhere(&s, refuse_elsewhere);
  WAIT(loop, c.closes == 1);
  CHECK_INT(c.http_status, 401);

  start_client(&s, &c, "/", &co); /* Never answered: the hold timeout does it. */
  WAIT(loop, c.closes == 2);
  CHECK_INT(c.http_status, 503);
  CHECK_STATUS(wsabi_conn_accept(loop, s.conn, NULL), WSABI_E_CLOSED);
  CHECK(s.opens == 2 && s.closes == 0);
  wsabi_loop_free(loop);
}

static void plain_http(void) {
  struct side s = {0}, without = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  char answer[2048];
  int fd;
  start_server(loop, &s, &so);
  fd = raw_connect(s.port);
  raw_write(fd, "GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n");
  raw_read(loop, fd, answer, sizeof answer, NULL);
  CHECK(strncmp(answer, "HTTP/1.1 200 ", 13) == 0 && strstr(answer, "\r\n\r\nhello") != NULL);
  CHECK_INT(s.https, 1);
  close(fd);
  so.handlers.on_http = NULL;
  so.handlers.user = &without;
  start_server(loop, &without, &so);
  fd = raw_connect(without.port);
  raw_write(fd, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
  raw_read(loop, fd, answer, sizeof answer, NULL);
  CHECK(strncmp(answer, "HTTP/1.1 426 ", 13) == 0);
  close(fd);
  CHECK(s.https == 1 && s.upgrades + s.opens + s.closes == 0);
  CHECK(without.https + without.upgrades + without.opens + without.closes == 0);
  wsabi_loop_free(loop);
}

static void unix_sockets(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  wsabi_client_options co = client_options(&c);
  char folder[] = "wsabi-test-XXXXXX", path[64], address[128];
  CHECK(mkdtemp(folder) != NULL);
  snprintf(path, sizeof path, "%s/socket", folder);
  so.host = NULL;
  so.unix_path = path;
  co.unix_path = path;
  start_server(loop, &s, &so);
  CHECK_INT(s.port, 0);
  CHECK_OK(wsabi_server_address(loop, s.server, address, sizeof address, NULL));
  CHECK(strstr(address, "socket") != NULL);
  CHECK_OK(wsabi_connect(loop, "ws://localhost/over/unix", &co, &c.conn));
  WAIT(loop, c.opens == 1 && s.opens == 1);
  CHECK_OK(wsabi_conn_send_text(loop, c.conn, "hi", 2));
  WAIT(loop, s.messages == 1);
  CHECK_STR(s.data, "hi");
  wsabi_loop_free(loop);
  unlink(path);
  CHECK(rmdir(folder) == 0);
}

static void stop_counts(void) {
  struct side s = {0}, c[3] = {{0}};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  wsabi_client_options co;
  static char big[4 << 20];
  int i;
  start_server(loop, &s, &so);
  for (i = 0; i < 3; i++) {
    co = client_options(&c[i]);
    start_client(&s, &c[i], "/", &co);
    WAIT(loop, s.opens == i + 1 && c[i].opens == 1);
  }
  /* The third does not read what it is sent, so it cannot take part in a closing handshake. */
  CHECK_OK(wsabi_conn_pause(loop, c[2].conn));
  for (i = 0; i < 2; i++) CHECK(wsabi_conn_send_binary(loop, s.conn, big, sizeof big) >= 0);
  CHECK_OK(wsabi_server_stop(loop, s.server, 300));
  WAIT(loop, s.stops == 1);
  CHECK_INT(s.closes, 3);
  CHECK_INT(s.counts.clean, 2);
  CHECK_INT(s.counts.forced, 1);
  CHECK(s.counts.messages_dropped >= 1 && s.counts.messages_dropped <= 2);
  CHECK_INT(s.dropped, s.counts.messages_dropped);
  CHECK_INT(c[0].dropped + c[1].dropped, 0);
  WAIT(loop, c[0].closes == 1 && c[1].closes == 1);
  CHECK(c[0].code == 1001 && c[0].clean && c[1].code == 1001 && c[1].clean);
  CHECK_STATUS(wsabi_server_stop(loop, s.server, 0), WSABI_E_CLOSED);
  CHECK_INT(c[2].closes, 0); /* It is paused. */
  CHECK_OK(wsabi_conn_resume(loop, c[2].conn));
  WAIT(loop, c[2].closes == 1);
  CHECK(!c[2].clean);
  CHECK_OK(wsabi_loop_run(loop)); /* Comes back, as nothing is left. */
  wsabi_loop_free(loop);
}

static void errors_of_handshakes(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  wsabi_client_options co = client_options(&c);
  char answer[2048];
  int fd;
  so.limits.handshake_timeout_ms = 200;
  start_server(loop, &s, &so);
  fd = raw_connect(s.port);
  raw_write(fd, "\x16\x03\x01 this is no HTTP\r\n\r\n");
  WAIT(loop, s.errors == 1);
  CHECK_STATUS(s.error, WSABI_E_HANDSHAKE);
  CHECK(s.error_detail[0] != '\0');
  raw_read(loop, fd, answer, sizeof answer, NULL);
  CHECK(strncmp(answer, "HTTP/1.1 400 ", 13) == 0);
  close(fd);
  fd = raw_connect(s.port); /* Says nothing at all. */
  WAIT(loop, s.errors == 2);
  CHECK_STATUS(s.error, WSABI_E_HANDSHAKE_TIMEOUT);
  close(fd);
  CHECK(s.opens == 0 && s.closes == 0 && s.upgrades == 0);
  /* The errors of a client come by its on_close. */
  CHECK_OK(wsabi_server_stop(loop, s.server, 0));
  WAIT(loop, s.stops == 1);
  start_client(&s, &c, "/", &co);
  CHECK_INT(c.closes, 0);
  WAIT(loop, c.closes == 1);
  CHECK_STATUS(c.why, WSABI_E_CONNECT);
  CHECK(c.opens == 0 && c.code == 1006);
  wsabi_loop_free(loop);
}

static void a_message_of_16_mib(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  size_t len = 16 << 20;
  char *big = malloc(len + 1);
  uint64_t buffered = 0;
  memset(big, 'm', len + 1);
  CHECK_STATUS(wsabi_conn_send_text(loop, c.conn, big, len), WSABI_BACKPRESSURE);
  CHECK_OK(wsabi_conn_buffered(loop, c.conn, &buffered));
  CHECK(buffered > (1 << 20));
  CHECK_STATUS(wsabi_conn_send_text(loop, c.conn, big, len), WSABI_E_FULL);
  WAIT(loop, s.messages == 1 && c.drains == 1);
  CHECK_INT(s.len, len);
  CHECK(wsabi_conn_send_binary(loop, s.conn, big, len + 1) >= 0);
  WAIT(loop, c.closes == 1 && s.closes == 1);
  CHECK_STATUS(c.why, WSABI_E_MESSAGE_TOO_BIG);
  CHECK_INT(s.code, 1009);
  CHECK_INT(c.messages, 0);
  free(big);
  wsabi_loop_free(loop);
}

/* What a server's connections hold together: at the limit nothing happens, above it the one that
 * holds most has to go, and the others stay. */
static void a_budget(void) {
  static char backlog[6 << 20];
  int above;
  for (above = 0; above < 2; above++) {
    struct side s = {0}, slow = {0}, c = {0};
    wsabi_loop *loop = new_loop();
    wsabi_server_options so = server_options(&s);
    wsabi_client_options co = client_options(&slow), others = client_options(&c);
    uint64_t held = 0;
    so.max_buffered_bytes = above ? sizeof backlog / 8 : sizeof backlog;
    start_server(loop, &s, &so);
    start_client(&s, &slow, "/", &co);
    WAIT(loop, s.opens == 1 && slow.opens == 1);
    CHECK_OK(wsabi_conn_pause(loop, slow.conn));
    CHECK_STATUS(wsabi_conn_send_binary(loop, s.conn, backlog, sizeof backlog), WSABI_BACKPRESSURE);
    CHECK_OK(wsabi_conn_buffered(loop, s.conn, &held));
    CHECK(held > sizeof backlog / 8 && held <= sizeof backlog);
    start_client(&s, &c, "/", &others);
    WAIT(loop, s.opens == 2 && c.opens == 1);
    if (above) {
      WAIT(loop, s.closes == 1);
      CHECK_STATUS(s.why, WSABI_E_OVER_BUDGET);
      CHECK(strstr(s.detail, "max_buffered_bytes") != NULL);
    } else {
      CHECK_OK(wsabi_conn_resume(loop, slow.conn));
      WAIT(loop, slow.messages == 1);
      CHECK_INT(s.closes, 0);
    }
    CHECK_OK(wsabi_conn_send_text(loop, c.conn, "still here", 10));
    WAIT(loop, s.messages == 1);
    wsabi_loop_free(loop);
  }
}

int main(void) {
  RUN(messages);
  RUN(fragments);
  RUN(pings_and_pongs);
  RUN(closing_handshakes);
  RUN(terminate);
  RUN(requests_and_subprotocols);
  RUN(refusals);
  RUN(refusal_by_return);
  RUN(answers_later);
  RUN(plain_http);
  RUN(unix_sockets);
  RUN(stop_counts);
  RUN(errors_of_handshakes);
  RUN(a_message_of_16_mib);
  RUN(a_budget);
  return finish();
}
