/* Payloads that are not copied: their free hook is called exactly once, on the loop's thread, when
 * they are not needed any more, and not at all when the call failed. */
#include <pthread.h>
#include <sys/wait.h>

#include "sides.h"

enum { LARGE = 100000, HUGE = 12 << 20 };

static wsabi_loop *loop;
static struct side s, c;

/* A payload and how often it was freed. */
struct owned {
  char *data;
  size_t len;
  int freed;
  pthread_t where;
};

static void hook(void *arg) {
  struct owned *o = arg;
  o->freed++;
  o->where = pthread_self();
  free(o->data); /* What still uses it is found by AddressSanitizer. */
  o->data = NULL;
}

static struct owned make(size_t len) {
  struct owned o = {.len = len};
  o.data = malloc(len + 1);
  memset(o.data, 'o', len + 1);
  return o;
}

static wsabi_message message_of(struct owned *o) {
  wsabi_message m = {.struct_size = sizeof m, .type = WSABI_TEXT};
  m.data = o->data;
  m.len = o->len;
  m.free_hook = hook;
  m.free_arg = o;
  return m;
}

static wsabi_status give(wsabi_conn conn, struct owned *o) {
  wsabi_message m = message_of(o);
  wsabi_status status = wsabi_conn_send(loop, conn, &m);
  memset(&m, 0x5a, sizeof m); /* The struct itself is not kept. */
  return status;
}

/* What was refused is still the caller's. */
static void is_mine(struct owned *o) {
  CHECK_INT(o->freed, 0);
  CHECK(o->data != NULL && o->data[0] == 'o');
  free(o->data);
}

static void start(int deflate) {
  wsabi_server_options so;
  wsabi_client_options co;
  memset(&s, 0, sizeof s);
  memset(&c, 0, sizeof c);
  so = server_options(&s);
  co = client_options(&c);
  so.deflate.enabled = co.deflate.enabled = (uint32_t)deflate;
  loop = new_loop();
  start_server(loop, &s, &so);
  start_client(&s, &c, "/", &co);
  WAIT(loop, s.opens == 1 && c.opens == 1);
}

static void written_at_once(void) {
  static const size_t sizes[] = {0, 1, 4095, 4096, 65535, 65536, LARGE};
  size_t i;
  start(0);
  for (i = 0; i < sizeof sizes / sizeof *sizes; i++) {
    struct owned o = make(sizes[i]), masked = make(sizes[i]);
    CHECK_OK(give(s.conn, &o));
    WAIT(loop, c.messages == (int)i + 1 && o.freed > 0);
    CHECK(c.len == sizes[i] && c.type == WSABI_TEXT && (sizes[i] == 0 || c.data[0] == 'o'));
    CHECK_INT(o.freed, 1);
    CHECK_OK(give(c.conn, &masked));
    CHECK_INT(masked.freed, 1); /* Masked into a copy. */
    WAIT(loop, s.messages == (int)i + 1);
    CHECK(s.len == sizes[i]);
  }
  wsabi_loop_free(loop);
}

static void compressed(void) {
  struct owned o;
  start(1);
  o = make(LARGE);
  CHECK_OK(give(s.conn, &o));
  CHECK_INT(o.freed, 1);
  WAIT(loop, c.messages == 1);
  CHECK(c.len == LARGE && c.data[0] == 'o');
  wsabi_loop_free(loop);
}

/* Fills the way to a client that does not read, with one payload. */
static void fill(struct owned *o) {
  CHECK_OK(wsabi_conn_pause(loop, c.conn));
  CHECK_STATUS(give(s.conn, o), WSABI_BACKPRESSURE);
  CHECK_OK(wsabi_loop_poll(loop, 0));
  CHECK_INT(o->freed, 0);
}

static void written_later(void) {
  struct owned o = make(HUGE), behind = make(LARGE);
  start(0);
  fill(&o);
  CHECK_STATUS(give(s.conn, &behind), WSABI_BACKPRESSURE);
  CHECK_INT(behind.freed, 0);
  CHECK_OK(wsabi_conn_resume(loop, c.conn));
  WAIT(loop, c.messages == 2);
  CHECK(c.len == LARGE);
  WAIT(loop, s.drains == 1);
  CHECK(o.freed == 1 && behind.freed == 1);
  CHECK(pthread_equal(o.where, pthread_self()));
  wsabi_loop_free(loop);
}

static void terminated(void) {
  struct owned o = make(HUGE);
  start(0);
  fill(&o);
  CHECK_OK(wsabi_conn_terminate(loop, s.conn));
  WAIT(loop, s.closes == 1);
  CHECK_INT(o.freed, 1);
  wsabi_loop_free(loop);
  CHECK_INT(o.freed, 1);
}

static void lost(void) {
  struct owned o = make(HUGE);
  start(0);
  fill(&o);
  CHECK_OK(wsabi_conn_terminate(loop, c.conn));
  WAIT(loop, s.closes == 1);
  CHECK_STATUS(s.why, WSABI_E_LOST);
  CHECK_INT(o.freed, 1);
  wsabi_loop_free(loop);
}

static void closed(void) {
  struct owned o = make(HUGE), late = make(LARGE);
  start(0);
  fill(&o);
  CHECK_OK(wsabi_conn_close(loop, s.conn, 1000, NULL, 0));
  CHECK_STATUS(give(s.conn, &late), WSABI_E_CLOSED);
  is_mine(&late);
  CHECK_OK(wsabi_conn_resume(loop, c.conn));
  WAIT(loop, s.closes == 1 && c.closes == 1);
  CHECK(c.messages == 1 && c.len == HUGE && c.clean);
  CHECK_INT(o.freed, 1);
  wsabi_loop_free(loop);
}

static void server_stopped(void) {
  struct owned o = make(HUGE);
  start(0);
  fill(&o);
  CHECK_OK(wsabi_server_stop(loop, s.server, 1));
  WAIT(loop, s.stops == 1);
  CHECK_INT(s.counts.forced, 1);
  CHECK_INT(o.freed, 1);
  wsabi_loop_free(loop);
}

static void loop_freed(void) {
  struct owned o = make(HUGE);
  start(0);
  fill(&o);
  wsabi_loop_free(loop);
  CHECK_INT(o.freed, 1);
  CHECK_INT(s.closes, 1);
}

static void full(void) {
  struct owned all[4] = {make(HUGE), make(HUGE), make(HUGE), make(HUGE)};
  int i, taken = 0;
  start(0);
  fill(&all[0]);
  for (i = 1; i < 4; i++) {
    wsabi_status status = give(s.conn, &all[i]);
    if (status >= 0) {
      taken++;
    } else {
      CHECK_STATUS(status, WSABI_E_FULL);
      is_mine(&all[i]);
      all[i].freed = 1;
    }
  }
  CHECK(taken < 3);
  wsabi_loop_free(loop);
  for (i = 0; i < 4; i++) CHECK_INT(all[i].freed, 1);
}

#define REFUSES(status, words, change)               \
  do {                                               \
    struct owned o_ = make(8);                       \
    wsabi_message m = message_of(&o_);               \
    wsabi_conn conn = s.conn;                        \
    wsabi_loop *l = loop;                            \
    change;                                          \
    CHECK_STATUS(wsabi_conn_send(l, conn, &m), status); \
    CHECK(strstr(wsabi_last_error(), words) != NULL); \
    is_mine(&o_);                                    \
  } while (0)

static void refused(void) {
  struct owned o = make(8);
  wsabi_message m = message_of(&o);
  start(0);
  REFUSES(WSABI_E_INVALID, "loop", l = NULL);
  REFUSES(WSABI_E_CLOSED, "", conn = 0);
  REFUSES(WSABI_E_CLOSED, "", conn += (wsabi_conn)1 << 40);
  REFUSES(WSABI_E_INVALID, "struct_size", m.struct_size = 0);
  REFUSES(WSABI_E_INVALID, "type", m.type = 0);
  REFUSES(WSABI_E_INVALID, "type", m.type = 3);
  REFUSES(WSABI_E_INVALID, "compress", m.compress = 3);
  REFUSES(WSABI_E_INVALID, "data", m.data = NULL);
  REFUSES(WSABI_E_INVALID, "len", m.len = SIZE_MAX);
  REFUSES(WSABI_E_INVALID, "free_arg", m.free_hook = NULL);
  REFUSES(WSABI_E_INVALID, "UTF-8", ((char *)m.data)[3] = '\xff');
  CHECK_INVALID(wsabi_conn_send(loop, s.conn, NULL), "message");
  /* Amid a message of fragments. */
  CHECK_OK(wsabi_conn_send_fragment(loop, s.conn, WSABI_TEXT, "a", 1, 0));
  REFUSES(WSABI_E_STATE, "", (void)0);
  /* An earlier header's struct, which ends before the hook: the payload is copied. */
  m.struct_size = offsetof(wsabi_message, free_hook);
  CHECK_OK(wsabi_conn_send(loop, c.conn, &m));
  WAIT(loop, s.messages == 1);
  is_mine(&o);
  wsabi_loop_free(loop);
}

/* The message that on_message is given can be sent as it is. */
static void echoing(wsabi_loop *l, wsabi_conn conn, const wsabi_message *m, void *user) {
  (void)user;
  CHECK(m->struct_size == sizeof *m && m->compress == 0 && m->free_hook == NULL && m->free_arg == NULL);
  CHECK_OK(wsabi_conn_send(l, conn, m));
}

static void an_echo(void) {
  wsabi_server_options so;
  wsabi_client_options co;
  memset(&s, 0, sizeof s);
  memset(&c, 0, sizeof c);
  so = server_options(&s);
  co = client_options(&c);
  so.handlers.on_message = echoing;
  loop = new_loop();
  start_server(loop, &s, &so);
  start_client(&s, &c, "/", &co);
  WAIT(loop, c.opens == 1);
  CHECK_OK(wsabi_conn_send_text(loop, c.conn, "text", 4));
  WAIT(loop, c.messages == 1);
  CHECK(c.type == WSABI_TEXT);
  CHECK_STR(c.data, "text");
  CHECK_OK(wsabi_conn_send_binary(loop, c.conn, NULL, 0));
  WAIT(loop, c.messages == 2);
  CHECK(c.type == WSABI_BINARY && c.len == 0);
  wsabi_loop_free(loop);
}

/* From another thread. */
struct errand {
  struct owned *o;
  wsabi_conn conn;
  wsabi_status status;
};
static void *send_elsewhere(void *arg) {
  struct errand *e = arg;
  e->status = give(e->conn, e->o);
  return NULL;
}
static wsabi_status elsewhere(wsabi_conn conn, struct owned *o) {
  struct errand e = {o, conn, WSABI_E_PANIC};
  pthread_t thread;
  CHECK(pthread_create(&thread, NULL, send_elsewhere, &e) == 0);
  pthread_join(thread, NULL);
  return e.status;
}

static void from_another_thread(void) {
  static const size_t sizes[] = {0, 5, LARGE};
  size_t i;
  start(0);
  for (i = 0; i < 3; i++) {
    struct owned o = make(sizes[i]), masked = make(sizes[i]);
    CHECK_OK(elsewhere(s.conn, &o));
    CHECK_INT(o.freed, 0);
    CHECK_OK(elsewhere(c.conn, &masked));
    CHECK_INT(masked.freed, 0);
    WAIT(loop, c.messages == (int)i + 1 && s.messages == (int)i + 1 && o.freed > 0 && masked.freed > 0);
    CHECK(o.freed == 1 && masked.freed == 1 && c.len == sizes[i] && s.len == sizes[i]);
    CHECK(pthread_equal(o.where, pthread_self()) && pthread_equal(masked.where, pthread_self()));
  }
  {
    struct owned stale = make(5), text = make(5), never = make(5);
    CHECK_OK(wsabi_conn_terminate(loop, c.conn));
    WAIT(loop, s.closes == 1 && c.closes == 1);
    CHECK_OK(elsewhere(s.conn, &stale)); /* That it is stale the loop finds out. */
    WAIT(loop, stale.freed > 0);
    CHECK_INT(stale.freed, 1);
    text.data[2] = '\xff';
    CHECK_INVALID(elsewhere(s.conn, &text), "");
    CHECK_INT(text.freed, 0);
    free(text.data);
    CHECK_OK(elsewhere(s.conn, &never));
    wsabi_loop_free(loop);
    CHECK_INT(never.freed, 1); /* Nobody dispatched any more. */
  }
}

static void a_full_inbox(void) {
  struct owned first = make(5000), second = make(5), third = make(5);
  wsabi_loop_options lo = {.struct_size = sizeof lo};
  wsabi_server_options so;
  wsabi_client_options co;
  memset(&s, 0, sizeof s);
  memset(&c, 0, sizeof c);
  so = server_options(&s);
  co = client_options(&c);
  lo.max_inbox_bytes = 1000;
  CHECK_OK(wsabi_loop_new(&lo, &loop));
  start_server(loop, &s, &so);
  start_client(&s, &c, "/", &co);
  WAIT(loop, s.opens == 1 && c.opens == 1);
  CHECK_OK(elsewhere(s.conn, &first));
  CHECK_STATUS(elsewhere(s.conn, &second), WSABI_E_FULL);
  is_mine(&second);
  WAIT(loop, first.freed == 1 && c.messages == 1);
  CHECK_OK(elsewhere(s.conn, &third));
  WAIT(loop, third.freed == 1 && c.messages == 2);
  wsabi_loop_free(loop);
}

/* Many at once, while the loop works: none is freed twice, or on the wrong thread. */
enum { MANY = 20000 };
static int many_freed, many_misplaced, many_full;
static pthread_t home;
static void many_hook(void *arg) {
  (void)arg;
  many_freed++; /* Without a lock: all on one thread. */
  if (!pthread_equal(pthread_self(), home)) many_misplaced++;
}
static void *send_many(void *arg) {
  static const char text[5000];
  wsabi_message m = {.struct_size = sizeof m, .type = WSABI_BINARY, .data = text, .free_hook = many_hook};
  int sent = 0;
  (void)arg;
  while (sent < MANY) {
    m.len = sent % 2 ? sizeof text : 10;
    if (wsabi_conn_send(loop, s.conn, &m) >= 0)
      sent++;
    else
      many_full++;
  }
  return NULL;
}
static void many_from_another_thread(void) {
  pthread_t thread;
  start(0);
  home = pthread_self();
  CHECK(pthread_create(&thread, NULL, send_many, NULL) == 0);
  WAIT(loop, many_freed == MANY);
  pthread_join(thread, NULL);
  wsabi_loop_free(loop);
  CHECK_INT(many_freed, MANY);
  CHECK_INT(many_misplaced, 0);
}

/* A hook may not call, and is told so. */
static int calls, calls_refused;
static void calling_hook(void *arg) {
  wsabi_status status = wsabi_conn_send_text(loop, s.conn, "no", 2);
  calls++;
  calls_refused += status == WSABI_E_REENTRANT;
  CHECK_STATUS(wsabi_loop_dispatch(loop, NULL), WSABI_E_REENTRANT);
  CHECK_INT(wsabi_loop_timeout_ms(loop), -1);
  hook(arg);
}
static wsabi_status give_calling(wsabi_conn conn, struct owned *o) {
  wsabi_message m = message_of(o);
  m.free_hook = calling_hook;
  return wsabi_conn_send(loop, conn, &m);
}
static void hooks_that_call(void) {
  struct owned o[4] = {make(10), make(LARGE), make(HUGE), make(HUGE)};
  int i;
  start(0);
  CHECK_OK(give_calling(s.conn, &o[0]));
  CHECK_OK(give_calling(c.conn, &o[1]));
  CHECK_OK(wsabi_conn_pause(loop, c.conn));
  CHECK_STATUS(give_calling(s.conn, &o[2]), WSABI_BACKPRESSURE);
  CHECK_OK(wsabi_conn_resume(loop, c.conn));
  WAIT(loop, o[2].freed);
  CHECK_OK(wsabi_conn_pause(loop, c.conn));
  CHECK(give_calling(s.conn, &o[3]) >= 0);
  wsabi_loop_free(loop);
  for (i = 0; i < 4; i++) CHECK_INT(o[i].freed, 1);
  CHECK(calls == 4 && calls_refused == 4);
}

static void in_a_forked_child(void) {
  struct owned o = make(HUGE), child_o = make(10);
  int status;
  pid_t child;
  start(0);
  fill(&o);
  child = fork();
  if (child == 0) {
    check_failures = 0;
    CHECK_STATUS(give(s.conn, &child_o), WSABI_E_FORKED);
    CHECK_STATUS(elsewhere(s.conn, &child_o), WSABI_E_FORKED);
    is_mine(&child_o);
    wsabi_loop_free(loop); /* The child's copy of the payload is let go. */
    CHECK_INT(o.freed, 1);
    _exit(check_failures == 0 ? 0 : 1);
  }
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_INT(o.freed, 0);
  free(child_o.data);
  CHECK_OK(wsabi_conn_resume(loop, c.conn));
  WAIT(loop, c.messages == 1 && o.freed == 1);
  wsabi_loop_free(loop);
}

int main(void) {
  RUN(written_at_once);
  RUN(compressed);
  RUN(written_later);
  RUN(terminated);
  RUN(lost);
  RUN(closed);
  RUN(server_stopped);
  RUN(loop_freed);
  RUN(full);
  RUN(refused);
  RUN(an_echo);
  RUN(from_another_thread);
  RUN(a_full_inbox);
  RUN(many_from_another_thread);
  RUN(hooks_that_call);
  RUN(in_a_forked_child);
  return finish();
}
