/* The one descriptor inside a foreign loop. The host supplies `host_run`: it watches wsabi_loop_fd
 * for reading, calls `embed_wake` whenever it is readable, and comes back when `embed_done` says so
 * (asked after each wake) or after `ms` milliseconds by a timer of its own.
 *
 * Phase 1: bursts through a dispatch capped at a few callbacks, sends from another thread, pings by
 * timer, a handshake that times out. Phase 2: one connection open, nothing to do: the host's timer
 * passes without a single wake-up. */
#ifndef EMBED_H
#define EMBED_H
#include <pthread.h>

#include "sides.h"

static void host_run(int fd, unsigned ms);

enum { BURST = 500, FROM_THREAD = 500, MAX_EVENTS = 3 };

static struct {
  wsabi_loop *loop;
  struct side s, c;
  struct side pinging_s, pinging_c;
  int (*done)(void);
  long wakes, empty; /* empty: nothing was called, read, written, accepted or left. */
  int most; /* Callbacks in one dispatch. */
} embed;

static int embed_done(void) { return embed.done(); }

static int callbacks_so_far(void) {
  const struct side *all[] = {&embed.s, &embed.c, &embed.pinging_s, &embed.pinging_c};
  int sum = 0, i;
  for (i = 0; i < 4; i++)
    sum += all[i]->upgrades + all[i]->opens + all[i]->messages + all[i]->drains + all[i]->pings +
           all[i]->pongs + all[i]->closes + all[i]->errors + all[i]->stops;
  return sum;
}

static void embed_wake(void) {
  struct pollfd again = {wsabi_loop_fd(embed.loop), POLLIN, 0};
  wsabi_stats before, after;
  uint32_t more = 7;
  int called = callbacks_so_far();
  CHECK_OK(wsabi_loop_stats(embed.loop, &before, sizeof before));
  CHECK_OK(wsabi_loop_dispatch(embed.loop, &more));
  CHECK_OK(wsabi_loop_stats(embed.loop, &after, sizeof after));
  CHECK(more <= 1);
  /* Work that is left shows on the descriptor, so that the host need not ask. */
  if (more) CHECK(poll(&again, 1, 0) == 1 && (again.revents & POLLIN));
  called = callbacks_so_far() - called;
  if (called > embed.most) embed.most = called;
  embed.wakes++;
  if (called == 0 && !more && memcmp(&before, &after, sizeof before) == 0) embed.empty++;
}

static void *send_from_thread(void *user) {
  int *sent = user;
  while (*sent < FROM_THREAD && wsabi_conn_send_text(embed.loop, embed.c.conn, "thread", 6) >= 0) ++*sent;
  return NULL;
}

static int both_open(void) {
  return embed.c.opens == 1 && embed.s.opens == 1 && embed.pinging_c.opens == 1 && embed.pinging_s.opens == 1;
}
static int busy_phase_over(void) {
  return embed.s.messages == BURST + FROM_THREAD && embed.pinging_c.pings >= 3 &&
         embed.pinging_s.pongs >= 3 && embed.pinging_s.errors == 1;
}
static int pinging_ones_closed(void) { return embed.pinging_c.closes == 1 && embed.pinging_s.stops == 1; }
static int never(void) { return 0; }

static void run_until(int (*done)(void), unsigned ms) {
  embed.done = done;
  host_run(wsabi_loop_fd(embed.loop), ms);
}

static void embed_set_up(void) {
  wsabi_loop_options lo = {.struct_size = sizeof lo};
  wsabi_server_options so = server_options(&embed.s), pinging = server_options(&embed.pinging_s);
  wsabi_client_options co = client_options(&embed.c), pinged = client_options(&embed.pinging_c);
  lo.max_events = MAX_EVENTS;
  CHECK_OK(wsabi_loop_new(&lo, &embed.loop));
  pinging.limits.ping_interval_ms = 40;
  pinging.limits.handshake_timeout_ms = 120;
  start_server(embed.loop, &embed.s, &so);
  start_server(embed.loop, &embed.pinging_s, &pinging);
  start_client(&embed.s, &embed.c, "/", &co);
  start_client(&embed.pinging_s, &embed.pinging_c, "/", &pinged);
  run_until(both_open, 60000);
  CHECK(both_open());
}

static void busy(void) {
  int sent = 0, i, silent;
  pthread_t thread;
  embed_set_up();
  silent = raw_connect(embed.pinging_s.port); /* Its handshake will time out. */
  CHECK(pthread_create(&thread, NULL, send_from_thread, &sent) == 0);
  for (i = 0; i < BURST; i++) CHECK(wsabi_conn_send_text(embed.loop, embed.c.conn, "burst", 5) >= 0);
  run_until(busy_phase_over, 60000);
  pthread_join(thread, NULL);
  close(silent);
  CHECK_INT(sent, FROM_THREAD);
  CHECK_INT(embed.s.messages, BURST + FROM_THREAD);
  CHECK_STATUS(embed.pinging_s.error, WSABI_E_HANDSHAKE_TIMEOUT);
  CHECK(embed.pinging_c.pings >= 3 && embed.pinging_s.pongs >= 3);
  CHECK(embed.most <= MAX_EVENTS);
  /* A wake-up without work may happen (a timer that was moved), a spin may not. */
  printf("# %ld wake-ups, %ld of them without work; at most %d callbacks in one\n", embed.wakes,
         embed.empty, embed.most);
  CHECK(embed.empty <= 20 + embed.wakes / 10);
}

static void idle(void) {
  long before = -1;
  int window;
  CHECK_OK(wsabi_server_stop(embed.loop, embed.pinging_s.server, 0));
  run_until(pinging_ones_closed, 60000);
  CHECK(pinging_ones_closed());
  /* The tail of what was going on may wake a few windows, a tick or a spin wakes all of them. */
  for (window = 0; window < 10 && before != embed.wakes; window++) {
    before = embed.wakes;
    run_until(never, 200);
  }
  CHECK_INT(embed.wakes, before);
  CHECK_INT(wsabi_conn_state(embed.loop, embed.c.conn), WSABI_STATE_OPEN);
  CHECK_OK(wsabi_conn_send_text(embed.loop, embed.c.conn, "awake", 5));
  embed.s.messages = BURST + FROM_THREAD - 1;
  run_until(busy_phase_over, 60000);
  CHECK_STR(embed.s.data, "awake");
  wsabi_loop_free(embed.loop);
  CHECK(embed.s.closes == 1 && embed.c.closes == 1);
}

static int embed_main(void) {
  RUN(busy);
  RUN(idle);
  return finish();
}

#endif
