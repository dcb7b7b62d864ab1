/* Calls from other threads: what they may do, in which order it arrives, and what is refused. */
#include <pthread.h>
#include <sched.h>

#include "sides.h"

enum { THREADS = 4, MESSAGES = 5000 };

static wsabi_loop *loop;

struct sender {
  pthread_t thread;
  wsabi_conn conn;
  int number, accepted, full, failed;
};

/* Sends "thread message", over again when the answer is "full". */
static void *send_all(void *user) {
  struct sender *me = user;
  char text[64];
  while (me->accepted < MESSAGES) {
    int len = snprintf(text, sizeof text, "%d %d", me->number, me->accepted);
    wsabi_status status = wsabi_conn_send_text(loop, me->conn, text, (size_t)len);
    if (status >= 0) {
      me->accepted++;
    } else if (status == WSABI_E_FULL) {
      me->full++;
      sched_yield();
    } else {
      me->failed++;
      break;
    }
  }
  return NULL;
}

static int next_of[THREADS], out_of_order, arrived;
static void on_numbered(wsabi_loop *l, wsabi_conn c, const wsabi_message *m, void *user) {
  char text[64];
  int thread = -1, number = -1;
  (void)l, (void)c, (void)user;
  copy_text(text, sizeof text, m->data, m->len);
  if (sscanf(text, "%d %d", &thread, &number) != 2 || thread < 0 || thread >= THREADS ||
      number != next_of[thread])
    out_of_order++;
  else
    next_of[thread]++;
  arrived++;
}

static void sends_arrive_in_order(uint64_t max_inbox_bytes) {
  struct side s = {0}, c = {0};
  struct sender senders[THREADS] = {0};
  wsabi_loop_options lo = {.struct_size = sizeof lo};
  wsabi_server_options so = server_options(&s);
  wsabi_client_options co = client_options(&c);
  int i;
  lo.max_inbox_bytes = max_inbox_bytes;
  CHECK_OK(wsabi_loop_new(&lo, &loop));
  memset(next_of, 0, sizeof next_of);
  out_of_order = arrived = 0;
  so.handlers.on_message = on_numbered;
  start_server(loop, &s, &so);
  start_client(&s, &c, "/", &co);
  WAIT(loop, s.opens == 1 && c.opens == 1);
  for (i = 0; i < THREADS; i++) {
    senders[i].conn = c.conn;
    senders[i].number = i;
    CHECK(pthread_create(&senders[i].thread, NULL, send_all, &senders[i]) == 0);
  }
  WAIT(loop, arrived == THREADS * MESSAGES);
  for (i = 0; i < THREADS; i++) {
    pthread_join(senders[i].thread, NULL);
    CHECK(senders[i].accepted == MESSAGES && senders[i].failed == 0 && next_of[i] == MESSAGES);
  }
  CHECK_INT(out_of_order, 0);
  wsabi_loop_free(loop);
  CHECK_INT(arrived, THREADS * MESSAGES);
}

static void sends_from_4_threads(void) { sends_arrive_in_order(0); }
static void sends_from_4_threads_through_a_small_inbox(void) { sends_arrive_in_order(2000); }

/* With nobody dispatching the inbox fills up; what it took arrives, what it refused does not. */
static void *send_until_full(void *user) {
  struct sender *me = user;
  char block[1000] = {0};
  while (me->full == 0 && me->failed == 0 && me->accepted < 1000000) {
    wsabi_status status = wsabi_conn_send_binary(loop, me->conn, block, sizeof block);
    if (status >= 0) me->accepted++;
    if (status == WSABI_E_FULL) me->full++;
    if (status < 0 && status != WSABI_E_FULL) me->failed++;
  }
  return NULL;
}

static void a_full_inbox(void) {
  struct side s = {0}, c = {0};
  struct sender sender = {0};
  wsabi_loop_options lo = {.struct_size = sizeof lo};
  wsabi_server_options so = server_options(&s);
  wsabi_client_options co = client_options(&c);
  lo.max_inbox_bytes = 100000;
  CHECK_OK(wsabi_loop_new(&lo, &loop));
  start_server(loop, &s, &so);
  start_client(&s, &c, "/", &co);
  WAIT(loop, s.opens == 1 && c.opens == 1);
  sender.conn = c.conn;
  CHECK(pthread_create(&sender.thread, NULL, send_until_full, &sender) == 0);
  pthread_join(sender.thread, NULL);
  CHECK(sender.full == 1 && sender.failed == 0);
  CHECK(sender.accepted > 10 && sender.accepted <= 100);
  WAIT(loop, s.messages == sender.accepted);
  CHECK_OK(wsabi_conn_send_text(loop, c.conn, "last", 4));
  WAIT(loop, s.messages > sender.accepted);
  CHECK_INT(s.messages, sender.accepted + 1);
  CHECK_INT(s.type, WSABI_TEXT);
  wsabi_loop_free(loop);
}

/* What belongs to the loop's thread says so elsewhere, and does nothing. */
static struct side *wrong_s, *wrong_c;
static void *call_from_the_wrong_thread(void *user) {
  wsabi_server_options so = server_options(wrong_s);
  wsabi_stats stats;
  wsabi_server server = 4711;
  wsabi_conn conn = 4711;
  uint64_t bytes = 4711;
  uint16_t port = 4711;
  uint32_t more = 4711;
  char text[64];
  wsabi_str str = {"x", 1};
  wsabi_agreed agreed = {4711, 0, 0, 0, 0};
  (void)user;
  CHECK_STATUS(wsabi_conn_deflate(loop, wrong_c->conn, &agreed), WSABI_E_THREAD);
  CHECK_INT(agreed.enabled, 4711);
  CHECK_STATUS(wsabi_loop_dispatch(loop, &more), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_loop_poll(loop, 0), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_loop_run(loop), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_loop_defer(loop, 1), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_loop_flush(loop), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_loop_stats(loop, &stats, sizeof stats), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_listen(loop, &so, &server), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_server_port(loop, wrong_s->server, &port), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_server_address(loop, wrong_s->server, text, sizeof text, NULL), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_connect(loop, "ws://127.0.0.1:9", NULL, &conn), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_conn_pause(loop, wrong_c->conn), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_conn_resume(loop, wrong_c->conn), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_conn_flush(loop, wrong_c->conn), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_conn_buffered(loop, wrong_c->conn, &bytes), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_conn_set_user(loop, wrong_c->conn, text), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_conn_server(loop, wrong_c->conn, &server), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_conn_subprotocol(loop, wrong_c->conn, &str), WSABI_E_THREAD);
  CHECK_STATUS(wsabi_conn_peer(loop, wrong_c->conn, text, sizeof text, NULL), WSABI_E_THREAD);
  CHECK(wsabi_conn_user(loop, wrong_c->conn) == NULL);
  CHECK(server == 4711 && conn == 4711 && bytes == 4711 && port == 4711 && more == 4711);
  return NULL;
}

static void the_wrong_thread(void) {
  struct side s = {0}, c = {0};
  pthread_t thread;
  loop = start_pair(&s, &c);
  wrong_s = &s;
  wrong_c = &c;
  CHECK_OK(wsabi_conn_set_user(loop, c.conn, &c));
  CHECK(pthread_create(&thread, NULL, call_from_the_wrong_thread, NULL) == 0);
  pthread_join(thread, NULL);
  CHECK(wsabi_conn_user(loop, c.conn) == &c);
  CHECK_OK(wsabi_conn_send_text(loop, c.conn, "fine", 4));
  WAIT(loop, s.messages == 1);
  wsabi_loop_free(loop);
}

/* Everything else that other threads may call. */
static void *act_elsewhere(void *user) {
  wsabi_status *statuses = user;
  statuses[0] = wsabi_conn_ping(loop, wrong_c->conn, "far", 3);
  statuses[1] = wsabi_conn_pong(loop, wrong_c->conn, "far", 3);
  statuses[2] = wsabi_conn_send_fragment(loop, wrong_c->conn, WSABI_TEXT, "a", 1, 0);
  statuses[3] = wsabi_conn_send_fragment(loop, wrong_c->conn, WSABI_TEXT, "b", 1, 1);
  statuses[4] = wsabi_conn_close(loop, wrong_c->conn, 1000, "far", 3);
  return NULL;
}
static void *terminate_elsewhere(void *user) {
  *(wsabi_status *)user = wsabi_conn_terminate(loop, wrong_s->conn);
  return NULL;
}
static void *stop_elsewhere(void *user) {
  *(wsabi_status *)user = wsabi_server_stop(loop, wrong_s->server, 0);
  return NULL;
}
static void *stop_loop_elsewhere(void *user) {
  *(wsabi_status *)user = wsabi_loop_stop(loop);
  return NULL;
}
static void *send_to_the_stale_elsewhere(void *user) {
  *(wsabi_status *)user = wsabi_conn_send_text(loop, wrong_c->conn, "x", 1);
  return NULL;
}

static wsabi_status elsewhere(void *(*what)(void *)) {
  wsabi_status status = WSABI_E_PANIC;
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, what, &status) == 0);
  pthread_join(thread, NULL);
  return status;
}

static void everything_for_any_thread(void) {
  struct side s = {0}, c = {0};
  wsabi_client_options co = client_options(&c);
  wsabi_status statuses[5];
  pthread_t thread;
  wsabi_status late;
  int i;
  loop = start_pair(&s, &c);
  wrong_s = &s;
  wrong_c = &c;
  CHECK(pthread_create(&thread, NULL, act_elsewhere, statuses) == 0);
  pthread_join(thread, NULL);
  for (i = 0; i < 5; i++) CHECK_OK(statuses[i]);
  WAIT(loop, s.closes == 1 && c.closes == 1);
  CHECK(s.pings == 1 && s.pongs == 1 && s.messages == 1 && s.code == 1000);
  CHECK_STR(s.data, "ab");
  CHECK_STR(s.reason, "far");
  /* A stale number from elsewhere is refused, at once or when the loop gets to it. */
  late = elsewhere(send_to_the_stale_elsewhere);
  CHECK(late == WSABI_E_CLOSED || late == WSABI_OK);
  start_client(&s, &c, "/", &co);
  WAIT(loop, s.opens == 2 && c.opens == 2);
  CHECK_INT(s.messages, 1);
  CHECK_OK(elsewhere(terminate_elsewhere));
  WAIT(loop, s.closes == 2 && c.closes == 2);
  CHECK_STATUS(s.why, WSABI_E_TERMINATED);
  CHECK_OK(elsewhere(stop_loop_elsewhere));
  CHECK_OK(wsabi_loop_run(loop)); /* Comes back though a server is left. */
  CHECK_INT(s.stops, 0);
  CHECK_OK(elsewhere(stop_elsewhere));
  WAIT(loop, s.stops == 1);
  wsabi_loop_free(loop);
}

/* Posted calls: on the loop's thread, in order, or dropped when the loop is freed. */
static int called, dropped, wrong_thread, posts_in_order = 1;
static pthread_t loop_thread;
static void posted_call(wsabi_loop *l, void *user) {
  CHECK(l == loop);
  if (!pthread_equal(pthread_self(), loop_thread)) wrong_thread++;
  if ((intptr_t)user != called) posts_in_order = 0;
  called++;
}
static void posted_drop(void *user) {
  (void)user;
  dropped++;
}
static void *post_elsewhere(void *user) {
  wsabi_status *status = user;
  intptr_t i;
  *status = WSABI_OK;
  for (i = 0; i < 1000 && *status == WSABI_OK; i++)
    *status = wsabi_loop_post(loop, posted_call, posted_drop, (void *)i);
  return NULL;
}

static void posts(void) {
  loop = new_loop();
  loop_thread = pthread_self();
  called = dropped = 0;
  CHECK_OK(elsewhere(post_elsewhere));
  WAIT(loop, called == 1000);
  CHECK(posts_in_order && wrong_thread == 0 && dropped == 0);
  called = 0;
  CHECK_OK(elsewhere(post_elsewhere));
  CHECK_INT(called, 0);
  wsabi_loop_free(loop);
  CHECK(called == 0 && dropped == 1000);
}

int main(void) {
  RUN(sends_from_4_threads);
  RUN(sends_from_4_threads_through_a_small_inbox);
  RUN(a_full_inbox);
  RUN(the_wrong_thread);
  RUN(everything_for_any_thread);
  RUN(posts);
  return finish();
}
