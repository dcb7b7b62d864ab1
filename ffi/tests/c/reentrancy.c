/* The matrix: every call that ends or sends something, inside every callback, each in a loop of its own.
 * A cell drives a server and a client until the callback in question comes, acts there once, and
 * then brings everything to its end. Whatever the action was: what opened is closed exactly once,
 * nothing is called after the loop is gone, and dispatching inside a callback is refused. */
#include "sides.h"

enum action { CLOSE, TERMINATE, SEND, SEND_OWNED, SEND_PREPARED, BROADCAST, PAUSE, STOP, FREE, ACTIONS };
enum callback { UPGRADE, HTTP, OPEN, MESSAGE, CHUNK, DRAIN, PING, PONG, CLOSED, ERROR, STOPPED, CALLBACKS };
static const char *const ACTION[] = {"close", "terminate", "send", "send owned", "send prepared",
                                     "broadcast", "pause", "stop", "free"};
static const char *const CALLBACK[] = {"on_upgrade", "on_http", "on_open", "on_message",
                                       "on_chunk", "on_drain", "on_ping", "on_pong",
                                       "on_close", "on_error", "on_stopped"};

struct cell {
  enum action action;
  enum callback callback;
  int on_client; /* Whose callback acts. */
  int acted, freed, gone;
  int after; /* Callbacks that came after the loop was gone. */
  int seen_after_pause;
  int posted, connected; /* Taken after the loop was freed. */
  int owned, released;   /* Payloads that were taken, and let go. */
  struct side s, c, late;
};
static struct cell *cell;

static char big[3 << 20];

static void posted(wsabi_loop *l, void *user) { (void)l, (void)user, cell->posted--; }
static void dropped(void *user) { (void)user, cell->posted--; }

static void released(void *user) { (void)user, cell->released++; }

static wsabi_status send_owned(wsabi_loop *loop, wsabi_conn conn) {
  wsabi_message m = {.struct_size = sizeof m, .type = WSABI_BINARY, .data = big, .len = sizeof big};
  wsabi_status status;
  m.free_hook = released;
  status = wsabi_conn_send(loop, conn, &m);
  cell->owned += status >= 0;
  return status;
}

/* To one, or to the one, to all of the server's and to the client's; freed at once. */
static wsabi_status send_prepared(wsabi_loop *loop, wsabi_conn conn, int broadcast) {
  wsabi_message m = {.struct_size = sizeof m, .type = WSABI_BINARY, .data = big, .len = sizeof big};
  wsabi_conn all[2] = {conn, cell->c.conn};
  wsabi_prepared *prepared = NULL;
  wsabi_reached reached;
  wsabi_status status;
  m.free_hook = released;
  CHECK_OK(wsabi_prepared_new(&m, &prepared));
  cell->owned++;
  if (broadcast) {
    status = wsabi_server_broadcast(loop, cell->s.server, prepared, 0, &reached);
    if (cell->callback == STOPPED)
      CHECK_STATUS(status, WSABI_E_CLOSED);
    else
      CHECK_OK(status);
    CHECK_OK(wsabi_broadcast(loop, prepared, all, 2, &reached));
    CHECK(reached.sent + reached.refused <= 2);
  } else {
    status = wsabi_conn_send_prepared(loop, conn, prepared);
  }
  wsabi_prepared_free(prepared);
  return status;
}

/* The loop is there until the dispatch ends, and takes calls; what it takes it also ends. */
static void act_after_free(wsabi_loop *loop, wsabi_conn conn) {
  wsabi_client_options co = client_options(&cell->late);
  wsabi_status status;
  char url[64];
  wsabi_loop_free(loop); /* Once more changes nothing. */
  status = wsabi_conn_send_text(loop, conn, "x", 1);
  CHECK(status >= 0 || status == WSABI_E_CLOSED || status == WSABI_E_STATE || status == WSABI_E_FULL);
  status = send_owned(loop, conn);
  CHECK(status >= 0 || status == WSABI_E_CLOSED || status == WSABI_E_STATE || status == WSABI_E_FULL);
  status = wsabi_loop_post(loop, posted, dropped, NULL);
  CHECK(status == WSABI_OK || status == WSABI_E_CLOSED);
  cell->posted = status == WSABI_OK;
  snprintf(url, sizeof url, "ws://127.0.0.1:%u/", cell->s.port);
  status = wsabi_connect(loop, url, &co, &conn);
  CHECK(status == WSABI_OK || status == WSABI_E_CLOSED);
  cell->connected = status == WSABI_OK;
}

static void act_on(wsabi_loop *loop, wsabi_conn conn) {
  wsabi_status status = WSABI_OK;
  switch (cell->action) {
    case CLOSE: status = wsabi_conn_close(loop, conn, 1000, "bye", 3); break;
    case TERMINATE: status = wsabi_conn_terminate(loop, conn); break;
    case SEND: status = wsabi_conn_send_binary(loop, conn, big, 100000); break;
    case SEND_OWNED: status = send_owned(loop, conn); break;
    case SEND_PREPARED: status = send_prepared(loop, conn, 0); break;
    case BROADCAST: send_prepared(loop, conn, 1); return;
    case PAUSE: status = wsabi_conn_pause(loop, conn); break;
    case STOP:
      status = wsabi_server_stop(loop, cell->s.server, 200);
      if (cell->callback == STOPPED)
        CHECK_STATUS(status, WSABI_E_CLOSED);
      else
        CHECK_OK(status);
      return;
    case FREE:
      wsabi_loop_free(loop);
      cell->freed = 1;
      act_after_free(loop, conn);
      return;
    case ACTIONS: break;
  }
  /* A connection may be too young or too old for the call; it must say so and no more. */
  if (cell->callback == CLOSED)
    CHECK_STATUS(status, WSABI_E_CLOSED);
  else if (cell->callback == STOPPED)
    CHECK(status == WSABI_OK || status == WSABI_E_CLOSED);
  else if (status != WSABI_OK && status != WSABI_BACKPRESSURE && status != WSABI_E_STATE)
    CHECK_STATUS(status, WSABI_OK);
}

/* Comes first in every callback. `conn` is 0 where the callback names none. */
static void in(enum callback callback, wsabi_loop *loop, wsabi_conn conn, void *user) {
  int on_client = user == &cell->c;
  if (cell->gone) cell->after++;
  if (cell->acted && cell->action == PAUSE && on_client == cell->on_client && callback == MESSAGE)
    cell->seen_after_pause++;
  if (cell->acted || callback != cell->callback || on_client != cell->on_client) return;
  cell->acted = 1;
  CHECK_STATUS(wsabi_loop_dispatch(loop, NULL), WSABI_E_REENTRANT);
  CHECK_STATUS(wsabi_loop_poll(loop, 0), WSABI_E_REENTRANT);
  CHECK_STATUS(wsabi_loop_run(loop), WSABI_E_REENTRANT);
  act_on(loop, conn != 0 ? conn : cell->s.conn != 0 ? cell->s.conn : cell->c.conn);
  if (cell->action != FREE) CHECK_STATUS(wsabi_loop_dispatch(loop, NULL), WSABI_E_REENTRANT);
}

static int32_t on_upgrade(wsabi_loop *l, wsabi_conn c, const wsabi_handshake *h, void *user) {
  in(UPGRADE, l, c, user);
  return side_upgrade(l, c, h, user);
}
static void on_http(wsabi_loop *l, wsabi_conn c, const wsabi_handshake *h, void *user) {
  wsabi_response response = {.struct_size = sizeof response, .status = 200};
  (void)h;
  in(HTTP, l, c, user);
  cell->s.https++;
  wsabi_conn_respond(l, c, &response); /* Too late after some of the actions. */
}
static void on_open(wsabi_loop *l, wsabi_conn c, const wsabi_handshake *h, void *user) {
  side_open(l, c, h, user);
  in(OPEN, l, c, user);
}
static void on_message(wsabi_loop *l, wsabi_conn c, const wsabi_message *m, void *user) {
  side_message(l, c, m, user);
  in(MESSAGE, l, c, user);
}
static void on_chunk(wsabi_loop *l, wsabi_conn c, uint32_t type, const void *data, size_t len, uint32_t flags,
                     void *user) {
  (void)type, (void)data, (void)len;
  ((struct side *)user)->messages += (flags & WSABI_CHUNK_LAST) != 0;
  in(CHUNK, l, c, user);
}
static void on_drain(wsabi_loop *l, wsabi_conn c, void *user) {
  side_drain(l, c, user);
  in(DRAIN, l, c, user);
}
static void on_ping(wsabi_loop *l, wsabi_conn c, const uint8_t *data, size_t len, void *user) {
  side_ping(l, c, data, len, user);
  in(PING, l, c, user);
}
static void on_pong(wsabi_loop *l, wsabi_conn c, const uint8_t *data, size_t len, void *user) {
  side_pong(l, c, data, len, user);
  in(PONG, l, c, user);
}
static void on_close(wsabi_loop *l, wsabi_conn c, const wsabi_close *close, void *user) {
  side_close(l, c, close, user);
  in(CLOSED, l, c, user);
}
static void on_error(wsabi_loop *l, wsabi_server server, const wsabi_error *error, void *user) {
  side_error(l, server, error, user);
  in(ERROR, l, 0, user);
}
static void on_stopped(wsabi_loop *l, wsabi_server server, const wsabi_stopped *n, void *user) {
  side_stopped(l, server, n, user);
  in(STOPPED, l, 0, user);
}

static wsabi_handlers acting_handlers(struct side *side) {
  wsabi_handlers h = {0};
  h.on_open = on_open;
  h.on_message = on_message;
  if (cell->callback == CHUNK) h.on_chunk = on_chunk;
  h.on_drain = on_drain;
  h.on_ping = on_ping;
  h.on_pong = on_pong;
  h.on_close = on_close;
  if (side == &cell->s) {
    h.on_upgrade = on_upgrade;
    h.on_http = on_http;
    h.on_error = on_error;
    h.on_stopped = on_stopped;
  }
  h.user = side;
  return h;
}

/* One poll; false when the loop is gone. */
static int step(wsabi_loop *loop) {
  wsabi_status status;
  if (cell->freed) return 0;
  status = wsabi_loop_poll(loop, 50);
  if (cell->freed)
    cell->gone = 1;
  else
    CHECK(status >= 0);
  return !cell->freed;
}

#define STEP_UNTIL(loop, condition)                            \
  do {                                                         \
    double end_ = now_s() + DEADLINE_S;                        \
    while (!(condition) && now_s() < end_ && step(loop))       \
      ;                                                        \
    if (!(condition) && !cell->freed) {                        \
      fprintf(stderr, "did not come: %s\n", #condition);       \
      check_failures++;                                        \
    }                                                          \
  } while (0)

/* Brings the callback about: what the two sides, or a raw peer, do for it. */
static int provoke(wsabi_loop *loop) {
  struct side *near = cell->on_client ? &cell->c : &cell->s;
  struct side *far = cell->on_client ? &cell->s : &cell->c;
  wsabi_status status = WSABI_OK;
  int fd = -1, i;
  switch (cell->callback) {
    case HTTP:
      fd = raw_connect(cell->s.port);
      raw_write(fd, "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n");
      break;
    case ERROR:
      fd = raw_connect(cell->s.port);
      raw_write(fd, "garbage\r\n\r\n");
      break;
    case MESSAGE: /* Several at once, so that some are read already when the first is given. */
      for (i = 0; i < 3; i++) CHECK_OK(wsabi_conn_send_text(loop, far->conn, "hello", 5));
      break;
    case CHUNK: /* In chunks, some of which are still to come when the first is given. */
      CHECK(wsabi_conn_send_binary(loop, far->conn, big, sizeof big) >= 0);
      break;
    case DRAIN: /* The kernel takes some megabytes before a backlog begins. */
      for (i = 0; i < 20 && status == WSABI_OK; i++)
        status = wsabi_conn_send_binary(loop, near->conn, big, sizeof big);
      CHECK_STATUS(status, WSABI_BACKPRESSURE);
      break;
    case PING: CHECK_OK(wsabi_conn_ping(loop, far->conn, "p", 1)); break;
    case PONG: CHECK_OK(wsabi_conn_ping(loop, near->conn, "p", 1)); break;
    case CLOSED: CHECK_OK(wsabi_conn_close(loop, far->conn, 1000, NULL, 0)); break;
    case STOPPED: CHECK_OK(wsabi_server_stop(loop, cell->s.server, 2000)); break;
    case UPGRADE:
    case OPEN:
    case CALLBACKS: break;
  }
  return fd;
}

static void end(wsabi_loop *loop) {
  if (cell->freed) return;
  if (cell->s.stops == 0) wsabi_server_stop(loop, cell->s.server, 200);
  STEP_UNTIL(loop, cell->s.stops == 1);
  if (cell->c.closes == 0) wsabi_conn_terminate(loop, cell->c.conn);
  STEP_UNTIL(loop, cell->c.closes == 1);
  if (cell->freed) return;
  cell->freed = 1;
  wsabi_loop_free(loop);
  cell->gone = 1;
}

static void run_cell(void) {
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&cell->s);
  wsabi_client_options co = client_options(&cell->c);
  int fd = -1;
  so.handlers = acting_handlers(&cell->s);
  co.handlers = acting_handlers(&cell->c);
  start_server(loop, &cell->s, &so);
  start_client(&cell->s, &cell->c, "/", &co);
  if (cell->callback != UPGRADE && cell->callback != OPEN) {
    STEP_UNTIL(loop, cell->s.opens == 1 && cell->c.opens == 1);
    fd = provoke(loop);
  }
  STEP_UNTIL(loop, cell->acted);
  if (cell->action == PAUSE && cell->callback == MESSAGE) {
    /* What the other side gets to know is the event that shows the paused one had its chance. */
    struct side *near = cell->on_client ? &cell->c : &cell->s;
    CHECK_OK(wsabi_conn_ping(loop, near->conn, "still", 5));
    STEP_UNTIL(loop, (cell->on_client ? &cell->s : &cell->c)->pings >= 1);
    CHECK_INT(cell->seen_after_pause, 0);
    CHECK_OK(wsabi_conn_resume(loop, near->conn));
    STEP_UNTIL(loop, near->messages == 3);
  }
  end(loop);
  if (fd >= 0) close(fd);
}

static void judge(void) {
  CHECK_INT(cell->acted, 1);
  CHECK_INT(cell->s.closes, cell->s.opens);
  CHECK_INT(cell->c.closes, 1);
  CHECK(cell->c.opens <= 1 && cell->s.opens <= 1);
  CHECK_INT(cell->s.stops, 1);
  CHECK_INT(cell->after, 0);
  CHECK_INT(cell->posted, 0);
  CHECK_INT(cell->released, cell->owned);
  CHECK_INT(cell->late.closes, cell->connected);
  if (cell->action == TERMINATE && cell->callback == UPGRADE) CHECK_INT(cell->s.opens, 0);
  if (cell->action == TERMINATE && cell->callback == MESSAGE)
    CHECK_INT((cell->on_client ? &cell->c : &cell->s)->messages, 1);
}

int main(void) {
  int action, callback, on_client;
  char name[64];
  for (action = 0; action < ACTIONS; action++)
    for (callback = 0; callback < CALLBACKS; callback++)
      for (on_client = 0; on_client < 2; on_client++) {
        if (on_client && (callback == UPGRADE || callback == HTTP || callback == ERROR || callback == STOPPED))
          continue;
        cell = calloc(1, sizeof *cell);
        cell->action = (enum action)action;
        cell->callback = (enum callback)callback;
        cell->on_client = on_client;
        run_cell();
        judge();
        snprintf(name, sizeof name, "%s in %s's %s", ACTION[action],
                 on_client ? "a client" : "a server", CALLBACK[callback]);
        check_ran(name);
        free(cell);
      }
  return finish();
}
