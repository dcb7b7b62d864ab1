/* Messages made once for many: to one, to a list, to a server's connections, and who is passed over. */
#include <pthread.h>

#include "sides.h"

enum { CLIENTS = 24, LEN = 20000 };

static wsabi_loop *loop;
static struct side s, c[CLIENTS];
static char text[LEN];
static int whole; /* Messages that came as they were sent. */

static wsabi_message message_of(const void *data, size_t len, uint32_t compress) {
  wsabi_message m = {.struct_size = sizeof m, .type = WSABI_TEXT};
  m.compress = compress;
  m.data = data;
  m.len = len;
  return m;
}

static wsabi_prepared *prepare(const void *data, size_t len, uint32_t compress) {
  wsabi_message m = message_of(data, len, compress);
  wsabi_prepared *prepared = NULL;
  CHECK_OK(wsabi_prepared_new(&m, &prepared));
  return prepared;
}

static void compare(wsabi_loop *l, wsabi_conn conn, const wsabi_message *m, void *user) {
  side_message(l, conn, m, user);
  whole += m->type == WSABI_TEXT && m->len == LEN && memcmp(m->data, text, LEN) == 0;
}

static int opened(void) {
  int i, n = 0;
  for (i = 0; i < CLIENTS; i++) n += c[i].opens;
  return n;
}
static int received(void) {
  int i, n = 0;
  for (i = 0; i < CLIENTS; i++) n += c[i].messages;
  return n;
}

/* The numbers of the server's connections, in the order of the clients. */
static wsabi_conn served[CLIENTS];
static int served_count;
static void remember(wsabi_loop *l, wsabi_conn conn, const wsabi_handshake *h, void *user) {
  wsabi_str query = wsabi_handshake_query(h);
  side_open(l, conn, h, user);
  served[atoi(text_of(query)) % CLIENTS] = conn;
  served_count++;
}

/* A server whose clients compress in every way, or, with `alike`, not at all. */
static void start(int clients, int alike) {
  wsabi_server_options so;
  char path[16];
  int i;
  memset(&s, 0, sizeof s);
  memset(c, 0, sizeof c);
  memset(served, 0, sizeof served);
  served_count = whole = 0;
  so = server_options(&s);
  so.handlers.on_open = remember;
  so.deflate.enabled = !alike;
  if (!alike) {
    so.deflate.server_max_window_bits = so.deflate.client_max_window_bits = 15;
    so.deflate.server_context_takeover = so.deflate.client_context_takeover = 1;
  }
  so.limits.high_water_bytes = 100000;
  so.limits.low_water_bytes = 1000;
  so.limits.max_backlog_bytes = 200000;
  loop = new_loop();
  start_server(loop, &s, &so);
  for (i = 0; i < clients; i++) {
    wsabi_client_options co = client_options(&c[i]);
    co.handlers.on_message = compare;
    if (!alike && i % 5 != 0) {
      co.deflate.enabled = 1;
      co.deflate.server_max_window_bits = 9 + (uint32_t)i % 7;
      co.deflate.server_context_takeover = i % 2;
    }
    snprintf(path, sizeof path, "/?%d", i);
    start_client(&s, &c[i], path, &co);
  }
  WAIT(loop, opened() == clients && served_count == clients);
}

static void to_one(void) {
  wsabi_prepared *p = prepare(text, LEN, WSABI_COMPRESS_AUTO);
  start(2, 0);
  CHECK_OK(wsabi_conn_send_prepared(loop, served[1], p));
  CHECK_OK(wsabi_conn_send_prepared(loop, c[0].conn, p));
  wsabi_prepared_free(p);
  WAIT(loop, c[1].messages == 1 && s.messages == 1);
  CHECK(whole == 1 && s.len == LEN && s.type == WSABI_TEXT);
  wsabi_loop_free(loop);
}

static void mistakes(void) {
  wsabi_message m = message_of(text, LEN, 0);
  wsabi_prepared *p = (wsabi_prepared *)&m, *q;
  wsabi_conn conns[1] = {0};
  wsabi_reached reached;
  start(1, 0);
  CHECK_INVALID(wsabi_prepared_new(NULL, &p), "message");
  CHECK_INVALID(wsabi_prepared_new(&m, NULL), "out");
  m.type = 7;
  CHECK_INVALID(wsabi_prepared_new(&m, &p), "type");
  m = message_of("\xff", 1, 0);
  CHECK_INVALID(wsabi_prepared_new(&m, &p), "UTF-8");
  m = message_of(text, LEN, 4);
  CHECK_INVALID(wsabi_prepared_new(&m, &p), "compress");
  m = message_of(NULL, 1, 0);
  CHECK_INVALID(wsabi_prepared_new(&m, &p), "data");
  CHECK(p == (wsabi_prepared *)&m);
  wsabi_prepared_free(NULL);
  q = prepare(text, LEN, 0);
  memset(&reached, 0x5a, sizeof reached);
  CHECK_INVALID(wsabi_conn_send_prepared(NULL, served[0], q), "loop");
  CHECK_INVALID(wsabi_conn_send_prepared(loop, served[0], NULL), "prepared");
  CHECK_STATUS(wsabi_conn_send_prepared(loop, 0, q), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_send_prepared(loop, served[0] + ((wsabi_conn)9 << 32), q), WSABI_E_CLOSED);
  CHECK_INVALID(wsabi_broadcast(NULL, q, conns, 1, &reached), "loop");
  CHECK_INVALID(wsabi_broadcast(loop, NULL, conns, 1, &reached), "prepared");
  CHECK_INVALID(wsabi_broadcast(loop, q, NULL, 1, &reached), "conns");
  CHECK_INVALID(wsabi_broadcast(loop, q, conns, SIZE_MAX / 8, &reached), "conns");
  CHECK_INVALID(wsabi_server_broadcast(NULL, s.server, q, 0, &reached), "loop");
  CHECK_INVALID(wsabi_server_broadcast(loop, s.server, NULL, 0, &reached), "prepared");
  CHECK_STATUS(wsabi_server_broadcast(loop, 0, q, 0, &reached), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_server_broadcast(loop, s.server + 1, q, 0, &reached), WSABI_E_CLOSED);
  CHECK(reached.sent == 0x5a5a5a5a5a5a5a5a);
  CHECK_OK(wsabi_broadcast(loop, q, NULL, 0, &reached));
  CHECK(reached.sent == 0 && reached.refused == 0 && reached.backpressure == 0);
  wsabi_prepared_free(q);
  wsabi_loop_free(loop);
}

/* Every way of compressing at once, between messages of their own, whose context goes on. */
static void to_all_ways(void) {
  wsabi_prepared *p = prepare(text, LEN, WSABI_COMPRESS_AUTO);
  wsabi_prepared *plain = prepare(text, LEN, WSABI_COMPRESS_NEVER);
  wsabi_reached reached;
  wsabi_stats before, after;
  int i, round;
  start(CLIENTS, 0);
  for (round = 0; round < 3; round++) {
    memset(&reached, 0x5a, sizeof reached);
    CHECK_OK(wsabi_loop_stats(loop, &before, sizeof before));
    CHECK_OK(wsabi_broadcast(loop, p, served, CLIENTS, &reached));
    CHECK(reached.sent == CLIENTS && reached.refused == 0 && reached.backpressure == 0);
    CHECK_OK(wsabi_loop_stats(loop, &after, sizeof after));
    CHECK(after.bytes_sent - before.bytes_sent < CLIENTS * LEN / 2);
    for (i = 0; i < CLIENTS; i++) CHECK_OK(wsabi_conn_send_text(loop, served[i], text, LEN));
    CHECK_OK(wsabi_server_broadcast(loop, s.server, plain, 0, NULL));
    WAIT(loop, received() == CLIENTS * 3 * (round + 1));
    CHECK_INT(whole, CLIENTS * 3 * (round + 1));
  }
  wsabi_prepared_free(plain);
  wsabi_prepared_free(p);
  wsabi_loop_free(loop);
}

static void who_is_passed_over(void) {
  wsabi_prepared *p = prepare(text, LEN, WSABI_COMPRESS_AUTO);
  wsabi_conn to[8];
  wsabi_reached reached;
  start(5, 1);
  CHECK_OK(wsabi_conn_terminate(loop, c[0].conn));
  WAIT(loop, s.closes == 1);
  CHECK_OK(wsabi_conn_pause(loop, c[1].conn)); /* So that it does not answer the Close. */
  CHECK_OK(wsabi_conn_close(loop, served[1], 1000, NULL, 0));
  CHECK_OK(wsabi_conn_send_fragment(loop, served[2], WSABI_TEXT, "begun", 5, 0));
  to[0] = 0;
  to[1] = served[0]; /* stale */
  to[2] = served[1]; /* closing */
  to[3] = served[2]; /* amid a message of fragments */
  to[4] = served[3];
  to[5] = served[3]; /* twice, if somebody wants it */
  to[6] = c[4].conn; /* a client's */
  to[7] = UINT64_MAX;
  CHECK_OK(wsabi_broadcast(loop, p, to, 8, &reached));
  CHECK_INT(reached.sent, 3);
  CHECK_INT(reached.refused, 1);
  CHECK_INT(reached.backpressure, 0);
  WAIT(loop, c[3].messages == 2 && s.messages == 1);
  CHECK_OK(wsabi_server_broadcast(loop, s.server, p, served[3], &reached));
  CHECK_INT(reached.sent, 1); /* served[4] */
  CHECK_INT(reached.refused, 1);
  WAIT(loop, c[4].messages == 1);
  CHECK_OK(wsabi_conn_send_fragment(loop, served[2], WSABI_TEXT, "!", 1, 1));
  WAIT(loop, c[2].messages == 1);
  CHECK_STR(c[2].data, "begun!");
  CHECK(c[0].messages == 0 && c[1].messages == 0 && c[3].messages == 2);
  CHECK_OK(wsabi_server_stop(loop, s.server, 100));
  WAIT(loop, s.stops == 1);
  CHECK_STATUS(wsabi_server_broadcast(loop, s.server, p, 0, &reached), WSABI_E_CLOSED);
  wsabi_prepared_free(p);
  wsabi_loop_free(loop);
}

/* One slow receiver holds up nobody, and what it has not been given it was refused. */
static void a_slow_one(void) {
  static char big[90000];
  wsabi_prepared *p;
  wsabi_reached reached = {0};
  uint64_t refused = 0, accepted = 0;
  int i, rounds = 0;
  memset(big, 'b', sizeof big);
  p = prepare(big, sizeof big, WSABI_COMPRESS_AUTO);
  start(3, 1);
  CHECK_OK(wsabi_conn_pause(loop, c[0].conn));
  while (refused < 3 && rounds < 1000) {
    CHECK_OK(wsabi_server_broadcast(loop, s.server, p, 0, &reached));
    CHECK_INT(reached.sent + reached.refused, 3);
    CHECK(reached.sent >= 2 && reached.backpressure <= 1);
    accepted += reached.sent;
    refused += reached.refused;
    rounds++;
    WAIT(loop, c[1].messages == rounds && c[2].messages == rounds);
  }
  CHECK_INT(refused, 3);
  wsabi_prepared_free(p);
  CHECK_OK(wsabi_conn_resume(loop, c[0].conn));
  WAIT(loop, received() == (int)accepted);
  CHECK(c[0].len == sizeof big && c[0].data[0] == 'b');
  WAIT(loop, s.drains == 1);
  for (i = 0; i < 3; i++) CHECK_INT(c[i].closes, 0);
  wsabi_loop_free(loop);
}

static int freed;
static void hook(void *arg) {
  freed++;
  free(arg);
}

/* The payload lives as long as anything of it waits, and the message as long as it is not freed. */
static void owned_payloads(void) {
  wsabi_message m = {.struct_size = sizeof m, .type = WSABI_BINARY, .free_hook = hook};
  wsabi_prepared *p = NULL;
  int way;
  for (way = 0; way < 3; way++) {
    char *mine = calloc(8 << 20, 1);
    start(2, 1);
    m.data = m.free_arg = mine;
    m.len = 8 << 20;
    freed = 0;
    CHECK_OK(wsabi_prepared_new(&m, &p));
    CHECK_OK(wsabi_conn_pause(loop, c[0].conn));
    if (way < 2) CHECK_OK(wsabi_server_broadcast(loop, s.server, p, 0, NULL));
    if (way == 0) {
      wsabi_prepared_free(p);
      WAIT(loop, c[1].messages == 1);
      CHECK_INT(freed, 0);
      CHECK_OK(wsabi_conn_resume(loop, c[0].conn));
      WAIT(loop, c[0].messages == 1 && freed == 1);
      wsabi_loop_free(loop);
    } else {
      wsabi_loop_free(loop);
      CHECK_INT(freed, 0);
      wsabi_prepared_free(p);
    }
    CHECK_INT(freed, 1);
  }
  {
    char bad[] = "\xff";
    m = message_of(bad, 1, 0);
    m.free_hook = hook;
    m.free_arg = bad;
    freed = 0;
    CHECK_INVALID(wsabi_prepared_new(&m, &p), "UTF-8");
    CHECK_INT(freed, 0);
  }
}

/* Other threads make, send, broadcast and free; what came of it they are not told. */
static void *work_elsewhere(void *arg) {
  wsabi_prepared *p = prepare(text, LEN, WSABI_COMPRESS_ALWAYS);
  wsabi_reached reached = {7, 7, 7};
  (void)arg;
  CHECK_OK(wsabi_conn_send_prepared(loop, served[1], p));
  CHECK_OK(wsabi_server_broadcast(loop, s.server, p, served[2], NULL));
  CHECK_STATUS(wsabi_server_broadcast(loop, s.server, p, 0, &reached), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_broadcast(loop, p, served, 3, &reached), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_broadcast(loop, p, served, 3, NULL), WSABI_E_THREAD);
  CHECK_OK(wsabi_server_broadcast(loop, s.server + 1, p, 0, NULL)); /* That it is stale the loop finds out. */
  wsabi_prepared_free(p);
  CHECK(reached.sent == 7);
  return NULL;
}
static void from_another_thread(void) {
  pthread_t thread;
  start(3, 0);
  CHECK(pthread_create(&thread, NULL, work_elsewhere, NULL) == 0);
  pthread_join(thread, NULL);
  WAIT(loop, received() == 3);
  CHECK(whole == 3 && c[0].messages == 1 && c[1].messages == 2 && c[2].messages == 0);
  wsabi_loop_free(loop);
}

/* One message for the connections of two loops. */
static void in_two_loops(void) {
  wsabi_prepared *p = prepare(text, LEN, WSABI_COMPRESS_AUTO);
  struct side s2 = {0}, c2 = {0};
  wsabi_loop *other = start_pair(&s2, &c2);
  start(2, 0);
  CHECK_OK(wsabi_server_broadcast(loop, s.server, p, 0, NULL));
  CHECK_OK(wsabi_conn_send_prepared(other, s2.conn, p));
  WAIT(loop, received() == 2);
  wsabi_loop_free(loop);
  wsabi_prepared_free(p);
  WAIT(other, c2.messages == 1);
  CHECK(c2.len == LEN);
  wsabi_loop_free(other);
}

int main(void) {
  unsigned seed = 1;
  size_t i;
  for (i = 0; i < LEN; i++) text[i] = (char)('a' + ((seed = seed * 1103515245 + 12345) >> 20 & 3));
  RUN(to_one);
  RUN(mistakes);
  RUN(to_all_ways);
  RUN(who_is_passed_over);
  RUN(a_slow_one);
  RUN(owned_payloads);
  RUN(from_another_thread);
  RUN(in_two_loops);
  return finish();
}
