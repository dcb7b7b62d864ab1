/* Messages that are given out in chunks, as they come. */
#include "sides.h"

/* What on_chunk has seen. */
struct seen {
  struct side side; /* First: the other callbacks get it. */
  int chunks, firsts, lasts, whole, open;
  uint32_t type;
  size_t len, largest, room;
  char *data;
  int pause, terminate;
};

static int is_utf8(const unsigned char *p, size_t n) {
  size_t i = 0;
  while (i < n) {
    size_t more = p[i] < 0x80 ? 0 : p[i] >= 0xf0 ? 3 : p[i] >= 0xe0 ? 2 : p[i] >= 0xc2 ? 1 : 99;
    if (more > n - i - 1) return 0;
    for (i++; more > 0; more--, i++)
      if ((p[i] & 0xc0) != 0x80) return 0;
  }
  return 1;
}

static void on_chunk(wsabi_loop *l, wsabi_conn c, uint32_t type, const void *data, size_t len, uint32_t flags,
                     void *user) {
  struct seen *seen = user;
  int first = (flags & WSABI_CHUNK_FIRST) != 0, last = (flags & WSABI_CHUNK_LAST) != 0;
  CHECK((flags & ~(WSABI_CHUNK_FIRST | WSABI_CHUNK_LAST)) == 0);
  CHECK(data != NULL && (len > 0 || last));
  CHECK(first == !seen->open);
  CHECK(type == WSABI_BINARY || is_utf8(data, len));
  if (first) {
    seen->type = type;
    seen->len = 0;
    seen->firsts++;
  }
  CHECK_INT(type, seen->type);
  CHECK(seen->len + len <= seen->room);
  if (seen->len + len <= seen->room && len > 0) memcpy(seen->data + seen->len, data, len);
  seen->len += len;
  if (len > seen->largest) seen->largest = len;
  seen->open = !last;
  seen->chunks++;
  if (last) {
    seen->lasts++;
    seen->side.messages++;
  }
  if (seen->pause) CHECK_OK(wsabi_conn_pause(l, c));
  if (seen->terminate) CHECK_OK(wsabi_conn_terminate(l, c));
}
static void not_called(wsabi_loop *l, wsabi_conn c, const wsabi_message *m, void *user) {
  (void)l, (void)c, (void)m;
  ((struct seen *)user)->whole++;
}

enum { SIZE = 3 << 20 };
static char big[SIZE], room[SIZE + 10];

/* A loop whose server takes messages in chunks. */
static wsabi_loop *start(struct seen *seen, struct side *c, uint64_t max_message_bytes, int deflate) {
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&seen->side);
  wsabi_client_options co = client_options(c);
  so.handlers.on_chunk = on_chunk;
  so.handlers.on_message = not_called;
  so.handlers.user = seen;
  so.limits.max_message_bytes = max_message_bytes;
  so.deflate.enabled = co.deflate.enabled = (uint32_t)deflate;
  seen->data = room;
  seen->room = sizeof room;
  start_server(loop, &seen->side, &so);
  start_client(&seen->side, c, "/", &co);
  WAIT(loop, seen->side.opens == 1 && c->opens == 1);
  return loop;
}

static void large_messages(int deflate) {
  struct seen seen = {0};
  struct side c = {0};
  wsabi_loop *loop = start(&seen, &c, 0, deflate);
  CHECK(wsabi_conn_send_binary(loop, c.conn, big, sizeof big) >= 0);
  WAIT(loop, seen.side.messages == 1);
  CHECK(seen.len == sizeof big && memcmp(room, big, sizeof big) == 0);
  CHECK(seen.chunks > 2 && seen.largest < sizeof big / 2);
  CHECK(seen.type == WSABI_BINARY);
  CHECK_OK(wsabi_conn_send_text(loop, c.conn, "after", 5));
  WAIT(loop, seen.side.messages == 2);
  CHECK(seen.type == WSABI_TEXT && seen.len == 5 && memcmp(room, "after", 5) == 0);
  CHECK(seen.firsts == 2 && seen.lasts == 2 && seen.whole == 0);
  wsabi_loop_free(loop);
}
static void a_large_message(void) { large_messages(0); }
static void a_large_message_compressed(void) { large_messages(1); }

static void small_ones(void) {
  struct seen seen = {0};
  struct side c = {0};
  wsabi_loop *loop = start(&seen, &c, 0, 0);
  CHECK_OK(wsabi_conn_send_text(loop, c.conn, "whole", 5));
  WAIT(loop, seen.chunks == 1);
  CHECK(seen.lasts == 1 && seen.len == 5);
  CHECK_OK(wsabi_conn_send_binary(loop, c.conn, NULL, 0));
  WAIT(loop, seen.chunks == 2);
  CHECK(seen.lasts == 2 && seen.len == 0 && seen.type == WSABI_BINARY);
  wsabi_loop_free(loop);
}

/* Each fragment is given when it comes, but for half a character, which waits for the rest. */
static void fragments_and_characters(void) {
  struct seen seen = {0};
  struct side c = {0};
  wsabi_loop *loop = start(&seen, &c, 0, 0);
  CHECK_OK(wsabi_conn_send_fragment(loop, c.conn, WSABI_TEXT, "gr\xc3", 3, 0));
  WAIT(loop, seen.chunks == 1);
  CHECK(seen.len == 2 && seen.open);
  CHECK_OK(wsabi_conn_ping(loop, c.conn, "between", 7));
  WAIT(loop, c.pongs == 1);
  CHECK_OK(wsabi_conn_send_fragment(loop, c.conn, WSABI_TEXT, "\xbc\xc3", 2, 0));
  WAIT(loop, seen.chunks == 2);
  CHECK_OK(wsabi_conn_send_fragment(loop, c.conn, WSABI_TEXT, "\x9f", 1, 1));
  WAIT(loop, seen.lasts == 1);
  CHECK(seen.len == 6 && memcmp(room, "gr\xc3\xbc\xc3\x9f", 6) == 0);
  CHECK(seen.side.pings == 1);
  wsabi_loop_free(loop);
}

/* The whole message counts, not what is held of it. */
static void the_limit(void) {
  struct seen seen = {0};
  struct side c = {0};
  wsabi_loop *loop = start(&seen, &c, 1000, 0);
  CHECK_OK(wsabi_conn_send_binary(loop, c.conn, big, 999));
  CHECK_OK(wsabi_conn_send_binary(loop, c.conn, big, 1000));
  WAIT(loop, seen.side.messages == 2);
  CHECK_OK(wsabi_conn_send_fragment(loop, c.conn, WSABI_BINARY, big, 1000, 0));
  WAIT(loop, seen.firsts == 3);
  CHECK_OK(wsabi_conn_send_fragment(loop, c.conn, WSABI_BINARY, big, 1, 1));
  WAIT(loop, seen.side.closes == 1 && c.closes == 1);
  CHECK_INT(c.code, 1009);
  CHECK_STATUS(seen.side.why, WSABI_E_MESSAGE_TOO_BIG);
  CHECK(seen.lasts == 2 && seen.open);
  wsabi_loop_free(loop);
}

static void bad_text(void) {
  struct seen seen = {0};
  char buf[256];
  struct side c = {0};
  wsabi_loop *loop = start(&seen, &c, 0, 0);
  int fd = raw_connect(seen.side.port);
  raw_write(fd, RAW_UPGRADE);
  raw_read(loop, fd, buf, sizeof buf, "\r\n\r\n");
  CHECK(send(fd, "\x81\x83\0\0\0\0ab\xff", 9, MSG_NOSIGNAL) == 9);
  WAIT(loop, recv(fd, buf, 4, MSG_DONTWAIT | MSG_PEEK) == 4);
  CHECK_INT((unsigned char)buf[2] << 8 | (unsigned char)buf[3], 1007);
  close(fd);
  WAIT(loop, seen.side.closes == 1);
  CHECK_STATUS(seen.side.why, WSABI_E_INVALID_TEXT);
  CHECK_INT(seen.lasts, 0);
  wsabi_loop_free(loop);
}

/* A chunk's receiver may stop the message where it is. */
static void paused_amid_a_message(void) {
  struct seen seen = {0};
  struct side c = {0};
  wsabi_loop *loop = start(&seen, &c, 0, 0);
  double end = now_s() + DEADLINE_S;
  int resumes = 0;
  seen.pause = 1;
  CHECK(wsabi_conn_send_binary(loop, c.conn, big, sizeof big) >= 0);
  while (seen.lasts == 0 && now_s() < end) {
    int before = seen.chunks;
    WAIT(loop, seen.chunks > before);
    CHECK_OK(wsabi_loop_poll(loop, 0));
    CHECK_INT(seen.chunks, before + 1);
    CHECK_OK(wsabi_conn_resume(loop, seen.side.conn));
    resumes++;
  }
  CHECK(resumes > 2 && seen.len == sizeof big && memcmp(room, big, sizeof big) == 0);
  wsabi_loop_free(loop);
}

static void terminated_amid_a_message(void) {
  struct seen seen = {0};
  struct side c = {0};
  wsabi_loop *loop = start(&seen, &c, 0, 0);
  seen.terminate = 1;
  CHECK(wsabi_conn_send_binary(loop, c.conn, big, sizeof big) >= 0);
  WAIT(loop, seen.side.closes == 1 && c.closes == 1);
  CHECK_INT(seen.chunks, 1);
  CHECK_STATUS(seen.side.why, WSABI_E_TERMINATED);
  wsabi_loop_free(loop);
}

int main(void) {
  unsigned seed = 1;
  size_t i;
  for (i = 0; i < sizeof big; i++) big[i] = (char)((seed = seed * 1103515245 + 12345) >> 20 & 15);
  RUN(a_large_message);
  RUN(a_large_message_compressed);
  RUN(small_ones);
  RUN(fragments_and_characters);
  RUN(the_limit);
  RUN(bad_text);
  RUN(paused_amid_a_message);
  RUN(terminated_amid_a_message);
  return finish();
}
