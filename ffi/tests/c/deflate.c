/* permessage-deflate: what is negotiated, what is compressed, and what a peer cannot do with it. */
#include "sides.h"

static char text[4096]; /* Compresses well. */

static wsabi_deflate on(void) {
  wsabi_deflate d = {0};
  d.enabled = 1;
  return d;
}

/* A loop with a server and an open client that want these. */
static wsabi_loop *start(struct side *s, struct side *c, const wsabi_deflate *server, const wsabi_deflate *client) {
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(s);
  wsabi_client_options co = client_options(c);
  if (server != NULL) so.deflate = *server;
  if (client != NULL) co.deflate = *client;
  start_server(loop, s, &so);
  start_client(s, c, "/", &co);
  WAIT(loop, s->opens == 1 && c->opens == 1);
  return loop;
}

static wsabi_status send_as(wsabi_loop *loop, wsabi_conn conn, uint32_t compress, const void *data, size_t len) {
  wsabi_message m = {.struct_size = sizeof m, .type = WSABI_BINARY};
  m.compress = compress;
  m.data = data;
  m.len = len;
  return wsabi_conn_send(loop, conn, &m);
}

static uint64_t bytes_sent(wsabi_loop *loop) {
  wsabi_stats stats;
  CHECK_OK(wsabi_loop_stats(loop, &stats, sizeof stats));
  return stats.bytes_sent;
}

/* The length of a client's payload on the wire; outside of a dispatch it is written at once. */
static size_t sent_as(wsabi_loop *loop, struct side *s, struct side *c, uint32_t compress, size_t len) {
  uint64_t before = bytes_sent(loop), frame;
  int messages = s->messages;
  CHECK_OK(send_as(loop, c->conn, compress, text, len));
  frame = bytes_sent(loop) - before;
  WAIT(loop, s->messages == messages + 1);
  CHECK_INT(s->len, len);
  return frame - (frame < 126 + 6 ? 6 : 8);
}

static void negotiation(void) {
  static const struct {
    wsabi_deflate server, client;
    wsabi_agreed agreed;
  } rows[] = {
    /* enabled, server bits, client bits, server takeover, client takeover */
    {{1, 0, 0, 0, 0, .level = 0}, {1, 0, 0, 0, 0, .level = 0}, {1, 12, 12, 0, 0}},
    {{1, 0, 0, 1, 1, .level = 0}, {1, 0, 0, 1, 1, .level = 0}, {1, 12, 12, 1, 1}},
    {{1, 0, 0, 1, 0, .level = 0}, {1, 0, 0, 1, 1, .level = 0}, {1, 12, 12, 1, 0}},
    {{1, 0, 0, 1, 1, .level = 0}, {1, 0, 0, 0, 1, .level = 0}, {1, 12, 12, 0, 1}},
    {{1, 15, 15, 0, 0, .level = 0}, {1, 9, 11, 0, 0, .level = 0}, {1, 9, 15, 0, 0}},
    {{1, 9, 10, 0, 0, .level = 0}, {1, 15, 15, 0, 0, .level = 0}, {1, 9, 10, 0, 0}},
    {{1, 15, 15, 1, 1, .level = 0}, {1, 15, 15, 1, 1, .level = 0}, {1, 15, 15, 1, 1}},
    {{0, 0, 0, 0, 0, .level = 0}, {1, 0, 0, 0, 0, .level = 0}, {0, 0, 0, 0, 0}},
    {{1, 0, 0, 0, 0, .level = 0}, {0, 0, 0, 0, 0, .level = 0}, {0, 0, 0, 0, 0}},
  };
  size_t i;
  CHECK(wsabi_features() & WSABI_FEATURE_DEFLATE);
  for (i = 0; i < sizeof rows / sizeof *rows; i++) {
    struct side s = {0}, c = {0}, *sides[] = {&s, &c};
    wsabi_loop *loop = start(&s, &c, &rows[i].server, &rows[i].client);
    int k;
    for (k = 0; k < 2; k++) {
      const wsabi_agreed *wanted = &rows[i].agreed;
      wsabi_agreed got;
      memset(&got, 0x5a, sizeof got);
      CHECK_OK(wsabi_conn_deflate(loop, sides[k]->conn, &got));
      if (memcmp(&got, wanted, sizeof got) != 0) {
        fprintf(stderr, "row %zu: %u %u %u %u %u\n", i, got.enabled, got.server_max_window_bits,
                got.client_max_window_bits, got.server_context_takeover, got.client_context_takeover);
        check_failures++;
      }
    }
    CHECK_OK(send_as(loop, c.conn, WSABI_COMPRESS_ALWAYS, text, 4000));
    CHECK_OK(send_as(loop, s.conn, WSABI_COMPRESS_ALWAYS, text, 4000));
    WAIT(loop, s.messages == 1 && c.messages == 1);
    CHECK(s.len == 4000 && c.len == 4000 && memcmp(s.data, text, 200) == 0);
    CHECK((bytes_sent(loop) < 2000) == (rows[i].agreed.enabled == 1));
    wsabi_loop_free(loop);
  }
}

static wsabi_agreed early, late;
static wsabi_status late_status;
static int32_t asking_upgrade(wsabi_loop *l, wsabi_conn c, const wsabi_handshake *h, void *user) {
  (void)h, (void)user;
  CHECK_OK(wsabi_conn_deflate(l, c, &early));
  return WSABI_ACCEPT;
}
static void asking_close(wsabi_loop *l, wsabi_conn c, const wsabi_close *close, void *user) {
  late_status = wsabi_conn_deflate(l, c, &late);
  side_close(l, c, close, user);
}

static void asked_at_other_times(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  wsabi_client_options co = client_options(&c);
  so.deflate = co.deflate = on();
  so.handlers.on_upgrade = asking_upgrade;
  so.handlers.on_close = asking_close;
  memset(&early, 0x5a, sizeof early);
  memset(&late, 0x5a, sizeof late);
  start_server(loop, &s, &so);
  start_client(&s, &c, "/", &co);
  WAIT(loop, c.opens == 1);
  CHECK_INT(early.enabled, 0);
  CHECK_INT(early.server_max_window_bits, 0);
  CHECK_INVALID(wsabi_conn_deflate(loop, c.conn, NULL), "out");
  CHECK_OK(wsabi_conn_close(loop, c.conn, 1000, NULL, 0));
  WAIT(loop, s.closes == 1 && c.closes == 1);
  CHECK_STATUS(late_status, WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_deflate(loop, c.conn, &late), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_deflate(loop, 0, &late), WSABI_E_CLOSED);
  CHECK_INT(late.enabled, 0x5a5a5a5a);
  wsabi_loop_free(loop);
}

static void what_is_compressed(void) {
  struct side s = {0}, c = {0};
  wsabi_deflate d = on();
  wsabi_loop *loop = start(&s, &c, &d, &d);
  CHECK_INT(sent_as(loop, &s, &c, WSABI_COMPRESS_AUTO, 1023), 1023);
  CHECK(sent_as(loop, &s, &c, WSABI_COMPRESS_AUTO, 1024) < 100);
  CHECK(sent_as(loop, &s, &c, WSABI_COMPRESS_AUTO, 1025) < 100);
  CHECK(sent_as(loop, &s, &c, WSABI_COMPRESS_ALWAYS, 1023) < 100);
  CHECK(sent_as(loop, &s, &c, WSABI_COMPRESS_ALWAYS, 50) < 50);
  CHECK_INT(sent_as(loop, &s, &c, WSABI_COMPRESS_NEVER, 4000), 4000);
  CHECK_INT(sent_as(loop, &s, &c, WSABI_COMPRESS_AUTO, 0), 0);
  wsabi_loop_free(loop);
}

static void min_bytes(void) {
  struct side s = {0}, c = {0}, c2 = {0};
  wsabi_deflate d = on();
  wsabi_client_options co = client_options(&c2);
  wsabi_loop *loop;
  d.min_bytes = 100;
  loop = start(&s, &c, &d, &d);
  CHECK_INT(sent_as(loop, &s, &c, WSABI_COMPRESS_AUTO, 99), 99);
  CHECK(sent_as(loop, &s, &c, WSABI_COMPRESS_AUTO, 100) < 90);
  CHECK(sent_as(loop, &s, &c, WSABI_COMPRESS_AUTO, 101) < 90);
  d.min_bytes = 1;
  co.deflate = d;
  start_client(&s, &c2, "/", &co);
  WAIT(loop, c2.opens == 1);
  CHECK(sent_as(loop, &s, &c2, WSABI_COMPRESS_AUTO, 30) < 30);
  CHECK_INT(sent_as(loop, &s, &c2, WSABI_COMPRESS_AUTO, 0), 0);
  wsabi_loop_free(loop);
}

static void fragments(void) {
  struct side s = {0}, c = {0};
  wsabi_deflate d = on();
  wsabi_loop *loop = start(&s, &c, &d, &d);
  static const struct {
    uint32_t first, then;
    int small;
  } rows[] = {
    {WSABI_COMPRESS_AUTO, WSABI_COMPRESS_AUTO, 1},
    {WSABI_COMPRESS_ALWAYS, WSABI_COMPRESS_NEVER, 1}, /* The first one decides. */
    {WSABI_COMPRESS_NEVER, WSABI_COMPRESS_ALWAYS, 0},
  };
  int i;
  for (i = 0; i < 3; i++) {
    uint64_t before = bytes_sent(loop);
    CHECK_OK(wsabi_conn_send_fragment_with(loop, c.conn, WSABI_TEXT, text, 2000, 0, rows[i].first));
    CHECK_OK(wsabi_conn_send_fragment_with(loop, c.conn, WSABI_TEXT, text, 1000, 0, rows[i].then));
    CHECK_OK(wsabi_conn_send_fragment_with(loop, c.conn, WSABI_TEXT, NULL, 0, 1, rows[i].then));
    CHECK((bytes_sent(loop) - before < 500) == rows[i].small);
    WAIT(loop, s.messages == i + 1);
    CHECK(s.len == 3000 && s.type == WSABI_TEXT);
  }
  CHECK_OK(wsabi_conn_send_fragment(loop, s.conn, WSABI_BINARY, text, 2000, 0));
  CHECK_OK(wsabi_conn_send_fragment(loop, s.conn, WSABI_BINARY, text, 2000, 1));
  WAIT(loop, c.messages == 1);
  CHECK(c.len == 4000 && c.type == WSABI_BINARY);
  CHECK_INVALID(wsabi_conn_send_fragment_with(loop, c.conn, WSABI_TEXT, text, 1, 1, 3), "compress");
  CHECK_INVALID(wsabi_conn_send_fragment_with(loop, c.conn, WSABI_TEXT, text, 1, 2, 0), "fin");
  wsabi_loop_free(loop);
}

/* A message that repeats the one before it is cheap with takeover only, and takeover of one side
 * is not that of the other. */
static void context_takeover(void) {
  static unsigned char noise[2000];
  unsigned seed = 1;
  size_t i;
  int takeover;
  for (i = 0; i < sizeof noise; i++) noise[i] = (unsigned char)((seed = seed * 1103515245 + 12345) >> 16);
  for (takeover = 0; takeover < 4; takeover++) {
    struct side s = {0}, c = {0};
    wsabi_deflate d = on();
    wsabi_loop *loop;
    uint64_t before, first, second;
    d.server_context_takeover = takeover & 1;
    d.client_context_takeover = takeover >> 1;
    loop = start(&s, &c, &d, &d);
    for (i = 0; i < 2; i++) {
      struct side *from = i == 0 ? &s : &c, *to = i == 0 ? &c : &s;
      int lasts = i == 0 ? takeover & 1 : takeover >> 1;
      before = bytes_sent(loop);
      CHECK_OK(send_as(loop, from->conn, WSABI_COMPRESS_AUTO, noise, sizeof noise));
      first = bytes_sent(loop) - before;
      CHECK_OK(send_as(loop, from->conn, WSABI_COMPRESS_AUTO, noise, sizeof noise));
      second = bytes_sent(loop) - before - first;
      CHECK(first > 1900);
      CHECK(lasts ? second < 200 : second == first);
      WAIT(loop, to->messages == 2);
      CHECK(to->len == sizeof noise && memcmp(to->data, noise, 200) == 0);
    }
    wsabi_loop_free(loop);
  }
}

/* What a message becomes is counted, not what it came in. */
static void message_limit(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  wsabi_client_options co = client_options(&c);
  so.deflate = co.deflate = on();
  so.limits.max_message_bytes = 2000;
  start_server(loop, &s, &so);
  start_client(&s, &c, "/", &co);
  WAIT(loop, c.opens == 1);
  CHECK(sent_as(loop, &s, &c, WSABI_COMPRESS_AUTO, 1999) < 100);
  CHECK(sent_as(loop, &s, &c, WSABI_COMPRESS_AUTO, 2000) < 100);
  CHECK_OK(send_as(loop, c.conn, WSABI_COMPRESS_AUTO, text, 2001));
  WAIT(loop, s.closes == 1 && c.closes == 1);
  CHECK_INT(s.messages, 2);
  CHECK_INT(c.code, 1009);
  CHECK_STATUS(s.why, WSABI_E_MESSAGE_TOO_BIG);
  CHECK(strstr(s.detail, "max_message_bytes") != NULL);
  wsabi_loop_free(loop);
}

static void a_bomb(void) {
  struct side s = {0}, c = {0};
  wsabi_deflate d = on();
  wsabi_loop *loop;
  size_t size = 64 << 20;
  char *zeros = calloc(size, 1);
  d.client_max_window_bits = 15;
  loop = start(&s, &c, &d, &d);
  CHECK(send_as(loop, c.conn, WSABI_COMPRESS_AUTO, zeros, size) >= 0);
  WAIT(loop, s.closes == 1 && c.closes == 1);
  CHECK_INT(s.messages, 0);
  CHECK_INT(c.code, 1009);
  CHECK_STATUS(s.why, WSABI_E_MESSAGE_TOO_BIG);
  wsabi_loop_free(loop);
  free(zeros);
}

/* The ratio of what a message becomes to what it came in, at the limit and above it. */
static void max_ratio(void) {
  struct side s = {0}, c = {0};
  wsabi_deflate d = on();
  wsabi_loop *loop = start(&s, &c, &d, &d);
  size_t len, ratio = 0, came = 0;
  int above;
  for (len = 900; len < 1200 && ratio == 0; len++) {
    came = sent_as(loop, &s, &c, WSABI_COMPRESS_ALWAYS, len);
    if (len % came == 0 && sent_as(loop, &s, &c, WSABI_COMPRESS_ALWAYS, len + 1) == came) ratio = len / came;
  }
  len--;
  CHECK(ratio > 1);
  wsabi_loop_free(loop);
  d.max_ratio = (uint32_t)ratio;
  for (above = 0; above < 2; above++) {
    struct side s2 = {0}, c2 = {0};
    wsabi_deflate plain = on();
    loop = start(&s2, &c2, &d, &plain);
    CHECK_INT(sent_as(loop, &s2, &c2, WSABI_COMPRESS_ALWAYS, len - 1), came);
    CHECK_OK(send_as(loop, c2.conn, WSABI_COMPRESS_ALWAYS, text, len + (size_t)above));
    if (above) {
      WAIT(loop, s2.closes == 1 && c2.closes == 1);
      CHECK_INT(c2.code, 1009);
      CHECK_STATUS(s2.why, WSABI_E_MESSAGE_TOO_BIG);
      CHECK(strstr(s2.detail, "max_ratio") != NULL);
    } else {
      WAIT(loop, s2.messages == 2);
      CHECK_INT(s2.closes, 0);
    }
    wsabi_loop_free(loop);
  }
}

/* A peer of bare sockets that has agreed on compression; `frame` is masked with zeros. */
static void raw_frame(int with_extension, const char *frame, size_t len, uint16_t code, wsabi_status why) {
  struct side s = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  char request[1024], answer[2048];
  size_t come;
  int fd;
  so.deflate = on();
  start_server(loop, &s, &so);
  fd = raw_connect(s.port);
  snprintf(request, sizeof request, "%.*s%s\r\n", (int)(strlen(RAW_UPGRADE) - 2), RAW_UPGRADE,
           with_extension ? "Sec-WebSocket-Extensions: permessage-deflate\r\n" : "");
  raw_write(fd, request);
  raw_read(loop, fd, answer, sizeof answer, "\r\n\r\n");
  CHECK((strstr(answer, "permessage-deflate") != NULL) == with_extension);
  CHECK(send(fd, frame, len, MSG_NOSIGNAL) == (ssize_t)len);
  WAIT(loop, s.messages + s.closes > 0 || recv(fd, answer, 1, MSG_DONTWAIT | MSG_PEEK) > 0);
  if (code != 0) {
    shutdown(fd, SHUT_WR);
    come = raw_read(loop, fd, answer, sizeof answer, NULL);
    CHECK(come >= 4 && (unsigned char)answer[0] == 0x88);
    CHECK_INT((unsigned char)answer[2] << 8 | (unsigned char)answer[3], code);
    WAIT(loop, s.closes == 1);
    CHECK_STATUS(s.why, why);
    CHECK_INT(s.messages, 0);
  } else {
    CHECK_INT(s.messages, 1);
    CHECK_STR(s.data, "Hello");
  }
  close(fd);
  wsabi_loop_free(loop);
}

static void damage(void) {
  /* RFC 7692 §7.2.3.1 has this compressed "Hello". */
  raw_frame(1, "\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00", 13, 0, WSABI_OK);
  raw_frame(1, "\xc1\x83\0\0\0\0\xff\xff\xff", 9, 1007, WSABI_E_INVALID_DEFLATE);
  raw_frame(1, "\xc1\x83\0\0\0\0\xf2\x48\xcd", 9, 1007, WSABI_E_INVALID_DEFLATE); /* Cut off. */
  raw_frame(0, "\xc1\x87\0\0\0\0\xf2\x48\xcd\xc9\xc9\x07\x00", 13, 1002, WSABI_E_PROTOCOL);
}

#define REFUSES(field, change)                                         \
  do {                                                                 \
    static struct side s_, c_; /* Outlive a call that wrongly succeeds. */ \
    wsabi_server_options so = server_options(&s_);                     \
    wsabi_client_options co = client_options(&c_);                     \
    wsabi_server server = 4711;                                        \
    wsabi_conn conn = 4711;                                            \
    wsabi_deflate d = on();                                            \
    change;                                                            \
    so.deflate = co.deflate = d;                                       \
    CHECK_INVALID(wsabi_listen(loop, &so, &server), field);            \
    CHECK_INVALID(wsabi_connect(loop, "ws://127.0.0.1:9/", &co, &conn), field); \
    CHECK(server == 4711 && conn == 4711);                             \
  } while (0)

static void refused_options(void) {
  wsabi_loop *loop = new_loop();
  struct side s = {0}, s2 = {0};
  wsabi_server_options so = server_options(&s);
  REFUSES("enabled", d.enabled = 2);
  REFUSES("server_max_window_bits", d.server_max_window_bits = 8);
  REFUSES("server_max_window_bits", d.server_max_window_bits = 16);
  REFUSES("server_max_window_bits", d.server_max_window_bits = 256 + 12);
  REFUSES("client_max_window_bits", d.client_max_window_bits = 8);
  REFUSES("client_max_window_bits", d.client_max_window_bits = 16);
  REFUSES("server_context_takeover", d.server_context_takeover = 2);
  REFUSES("client_context_takeover", d.client_context_takeover = 2);
  REFUSES("deflate.level", d.level = 10);
  REFUSES("mem_level", d.mem_level = 10);
  REFUSES("reserved", d.reserved[3] = 1);
  /* Who sets something wants it. */
  REFUSES("enabled", (d.enabled = 0, d.level = 1));
  REFUSES("enabled", (d.enabled = 0, d.min_bytes = (uint64_t)1 << 40));
  so.deflate = on();
  so.deflate.server_max_window_bits = so.deflate.level = so.deflate.mem_level = 9;
  so.deflate.client_max_window_bits = 15;
  start_server(loop, &s, &so);
  so.deflate.level = so.deflate.mem_level = 1;
  so.handlers.user = &s2;
  start_server(loop, &s2, &so);
  wsabi_loop_free(loop);
}

int main(void) {
  memset(text, 'a', sizeof text);
  RUN(negotiation);
  RUN(asked_at_other_times);
  RUN(what_is_compressed);
  RUN(min_bytes);
  RUN(fragments);
  RUN(context_takeover);
  RUN(message_limit);
  RUN(a_bomb);
  RUN(max_ratio);
  RUN(damage);
  RUN(refused_options);
  return finish();
}
