/* driver: C's part behind the relay. It reads orders from stdin and writes events to stdout, one a
 * line; README.md lists them. Stdin and the loop's descriptor are watched by one poll(2). */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "../matrix/crc32.h"
#include "wsabi.h"

enum { TAG = 16, LARGEST = 200000, OFFSETS = 4096, MOST_ATTEMPTS = 100, LINE = 1 << 16 };
enum { PATIENT, HASTY };

typedef struct {
  size_t size;
  unsigned fragments;
  int text;
} message;

/* A connection, or an attempt at one. */
typedef struct attempt {
  struct attempt *next_attempt;
  struct task *task;
  wsabi_conn conn;
  char name[32];
  int open, closed, closing, blocked, paused, ack_due;
  uint64_t resume_at;
  size_t next;    /* the message to send */
  unsigned piece; /* and the fragment of it */
  size_t accepted, received;
} attempt;

/* What one side is to do, over one connection or, in a session, as many as it takes. */
typedef struct task {
  struct task *next_task;
  unsigned number;
  int session, hasty, client;
  unsigned port, tries;
  message *messages;
  size_t count, turn, want;
  long pause_after, pause_ms;
  char close[8];
  size_t acknowledged, received, duplicates;
  char *told;
  size_t told_len, told_size;
  attempt *current;
} task;

static wsabi_loop *loop;
static wsabi_server servers[2];
static int server_count, stopped;
static task *tasks;
static attempt *attempts;
static char pattern[OFFSETS + LARGEST];
static char scratch[LARGEST + 64];

static uint64_t now_ms(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

static void *allocate(void *old, size_t size) {
  void *made = realloc(old, size);
  if (made == NULL) {
    fprintf(stderr, "no memory\n");
    exit(1);
  }
  return made;
}

static void fail(const char *what, const char *why) { printf("error %s: %s\n", what, why); }

static task *find(unsigned number) {
  task *at = tasks;
  while (at != NULL && at->number != number) at = at->next_task;
  return at;
}

/* ---- messages ---- */

/* Message `index` of a task, which begins at `to`. */
static void write_content(const task *of, size_t index, size_t size, char *to) {
  char tag[TAG + 1];
  snprintf(tag, sizeof tag, "%08x%c%07x", of->number, of->client ? 'c' : 's', (unsigned)index);
  memcpy(to, tag, size < TAG ? size : TAG);
  if (size > TAG) memcpy(to + TAG, pattern + (index * 31 + of->number * 17) % OFFSETS, size - TAG);
}

static void tell(task *of, int text, const void *data, size_t len) {
  if (of->told_size - of->told_len < 16) {
    of->told_size = 2 * of->told_size + 64;
    of->told = allocate(of->told, of->told_size);
  }
  of->told_len += (size_t)snprintf(of->told + of->told_len, 16, "%s%c%08x", of->told_len ? "," : "",
                                   text ? 't' : 'b', crc32_of(data, len));
}

static const char *told_of(const task *of) { return of->told_len ? of->told : "-"; }

/* ---- sending ---- */

/* Sees to the answer of a send, and tells whether it was accepted. */
static int accepted(attempt *at, wsabi_status status) {
  if (status == WSABI_BACKPRESSURE || status == WSABI_E_FULL) at->blocked = 1;
  if (status == WSABI_E_CLOSED) at->closing = 1;
  if (status < 0 && status != WSABI_E_FULL && status != WSABI_E_CLOSED)
    fail("send", wsabi_last_error());
  return status >= 0;
}

static wsabi_status send_piece(attempt *at, const message *what) {
  task *of = at->task;
  size_t header = of->session ? 10 : 0, size = what->size + header;
  size_t begin = size * at->piece / what->fragments, end = size * (at->piece + 1) / what->fragments;
  if (header) {
    char words[16];
    snprintf(words, sizeof words, "D%08x ", (unsigned)at->next);
    memcpy(scratch, words, header);
  }
  write_content(of, at->next, what->size, scratch + header);
  if (what->fragments > 1)
    return wsabi_conn_send_fragment(loop, at->conn, what->text ? WSABI_TEXT : WSABI_BINARY,
                                    scratch + begin, end - begin, at->piece + 1 == what->fragments);
  return what->text ? wsabi_conn_send_text(loop, at->conn, scratch, size)
                    : wsabi_conn_send_binary(loop, at->conn, scratch, size);
}

static void close_if_done(attempt *at) {
  const task *of = at->task;
  int own = at->next == of->count && at->piece == 0, all = own && of->received >= of->want;
  if (at->closing || !at->open) return;
  if (of->session ? !(of->client && all && of->acknowledged == of->count)
                  : strcmp(of->close, "own") == 0 ? !own
                                                  : strcmp(of->close, "all") != 0 || !all)
    return;
  at->closing = 1;
  if (wsabi_conn_close(loop, at->conn, 1000, "done", 4) == WSABI_E_INVALID)
    fail("close", wsabi_last_error());
}

/* Whether there is something to send now. */
static int is_ready(const attempt *at) {
  return at->open && !at->closed && !at->closing && !at->blocked &&
         (at->next < at->task->count || at->ack_due);
}

/* Acknowledges everything received, amid no fragmented message. */
static void acknowledge(attempt *at) {
  char words[32];
  int len = snprintf(words, sizeof words, "A%zu", at->task->received);
  if (!at->ack_due || at->piece != 0 || !is_ready(at)) return;
  if (accepted(at, wsabi_conn_send_text(loop, at->conn, words, (size_t)len))) {
    at->ack_due = 0;
    at->accepted++;
  }
}

static void pump(attempt *at) {
  task *of = at->task;
  size_t sent = 0;
  acknowledge(at);
  while (sent < of->turn && is_ready(at) && at->next < of->count) {
    const message *what = &of->messages[at->next];
    if (!accepted(at, send_piece(at, what))) break;
    if (++at->piece < what->fragments) continue;
    at->piece = 0;
    at->next++;
    at->accepted++;
    sent++;
  }
  acknowledge(at);
  close_if_done(at);
}

static void pause_if_planned(attempt *at) {
  if ((long)at->received != at->task->pause_after || at->paused) return;
  at->paused = 1;
  at->resume_at = now_ms() + (uint64_t)at->task->pause_ms;
  if (wsabi_conn_pause(loop, at->conn) == WSABI_E_INVALID) fail("pause", wsabi_last_error());
}

/* ---- events ---- */

/* The connection's own; tells of what comes after its end. */
static attempt *of_user(wsabi_loop *l, wsabi_conn conn, const char *event) {
  attempt *at = wsabi_conn_user(l, conn);
  if (at == NULL)
    fail(event, "of a connection that nobody knows");
  else if (at->closed)
    printf("late %s %s\n", at->name, event);
  return at;
}

static attempt *add_attempt(task *of, const char *name) {
  attempt *made = allocate(NULL, sizeof *made);
  *made = (attempt){.task = of, .next_attempt = attempts};
  snprintf(made->name, sizeof made->name, "%s", name);
  return attempts = made;
}

static void opened(attempt *at) {
  task *of = at->task;
  at->open = 1;
  if (of->session) {
    if (of->current != NULL && of->current != at) wsabi_conn_terminate(loop, of->current->conn);
    of->current = at;
    /* Everything after the last acknowledged message once more. */
    at->next = of->acknowledged;
    at->ack_due = 1;
  }
  printf("open %s\n", at->name);
  pause_if_planned(at);
  pump(at);
}

static void on_open(wsabi_loop *l, wsabi_conn conn, const wsabi_handshake *handshake, void *user) {
  wsabi_str path = wsabi_handshake_path(handshake);
  attempt *at;
  char name[32];
  task *of;
  if (*(int *)user == 0) {
    if ((at = of_user(l, conn, "open")) != NULL) opened(at);
    return;
  }
  snprintf(name, sizeof name, "%.*s", (int)path.len - 1, path.data + 1);
  if ((of = find((unsigned)strtoul(name, NULL, 10))) == NULL) return fail("open", name);
  at = add_attempt(of, name);
  at->conn = conn;
  of->tries++;
  wsabi_conn_set_user(l, conn, at);
  opened(at);
}

/* A message of a session: an acknowledgement, or one with its number. */
static void receive_in_session(attempt *at, const wsabi_message *what) {
  task *of = at->task;
  const char *data = (const char *)what->data;
  char words[16] = "";
  memcpy(words, data, what->len < 10 ? what->len : 10);
  if (words[0] == 'A') {
    size_t count = strtoul(words + 1, NULL, 10);
    if (count > of->acknowledged) of->acknowledged = count;
    return;
  }
  size_t index = strtoul(words + 1, NULL, 16);
  at->ack_due = 1;
  if (what->len < 10 || words[0] != 'D' || index > of->received)
    printf("error message %zu of %s came before message %zu\n", index, at->name, of->received);
  else if (index < of->received)
    of->duplicates++;
  else {
    of->received++;
    tell(of, what->type == WSABI_TEXT, data + 10, what->len - 10);
  }
}

static void on_message(wsabi_loop *l, wsabi_conn conn, const wsabi_message *what, void *user) {
  attempt *at = of_user(l, conn, "message");
  (void)user;
  if (at == NULL) return;
  at->received++;
  if (at->task->session) {
    receive_in_session(at, what);
  } else {
    at->task->received++;
    tell(at->task, what->type == WSABI_TEXT, what->data, what->len);
  }
  pause_if_planned(at);
  pump(at);
}

static void on_drain(wsabi_loop *l, wsabi_conn conn, void *user) {
  attempt *at = of_user(l, conn, "drain");
  (void)user;
  if (at == NULL) return;
  at->blocked = 0;
  pump(at);
}

static void start(task *of);

static void on_close(wsabi_loop *l, wsabi_conn conn, const wsabi_close *close, void *user) {
  attempt *at = of_user(l, conn, "close");
  task *of;
  (void)user;
  if (at == NULL) return;
  of = at->task;
  at->closed = 1;
  printf("close %s open=%d clean=%u code=%u kind=%s accepted=%zu handed=%lld dropped=%llu "
         "received=%zu told=%s\n",
         at->name, at->open, close->clean, close->code,
         wsabi_status_name(close->status) + strlen(close->status < 0 ? "WSABI_E_" : "WSABI_"),
         at->accepted, (long long)at->accepted - (long long)close->messages_dropped,
         (unsigned long long)close->messages_dropped, at->received,
         of->session ? "-" : told_of(of));
  if (of->current == at) of->current = NULL;
  if (!of->session || !of->client) return;
  if (close->clean && of->received == of->want && of->acknowledged == of->count) {
    printf("session %u attempts=%u duplicates=%zu told=%s\n", of->number, of->tries,
           of->duplicates, told_of(of));
  } else if (of->tries == MOST_ATTEMPTS) {
    fail("session", "too many attempts");
  } else {
    start(of);
  }
}

static void on_stopped(wsabi_loop *l, wsabi_server server, const wsabi_stopped *counts, void *user) {
  (void)l, (void)server, (void)counts, (void)user;
  if (++stopped == server_count) printf("stopped\n");
}

static int is_server = 1, is_client = 0;

static wsabi_handlers handlers_of(int *role) {
  return (wsabi_handlers){.on_open = on_open, .on_message = on_message, .on_drain = on_drain,
                          .on_close = on_close, .on_stopped = role == &is_server ? on_stopped : NULL,
                          .user = role};
}

static wsabi_limits limits_of(int hasty) {
  wsabi_limits limits = {.high_water_bytes = 64 << 10, .low_water_bytes = 16 << 10,
                         .max_backlog_bytes = 400 << 10, .close_timeout_ms = 20000};
  if (hasty) {
    limits.ping_interval_ms = 500;
    limits.ping_timeout_ms = 2000;
    limits.close_timeout_ms = 1000;
    limits.handshake_timeout_ms = 3000;
  }
  return limits;
}

static void start(task *of) {
  wsabi_client_options options = {.struct_size = sizeof options};
  char url[64], name[32];
  attempt *at;
  options.limits = limits_of(of->hasty);
  options.handlers = handlers_of(&is_client);
  snprintf(name, sizeof name, of->session ? "%u.%u" : "%u", of->number, of->tries++);
  snprintf(url, sizeof url, "ws://127.0.0.1:%u/%s", of->port, name);
  at = add_attempt(of, name);
  if (wsabi_connect(loop, url, &options, &at->conn) < 0) return fail("connect", wsabi_last_error());
  wsabi_conn_set_user(loop, at->conn, at);
}

/* ---- orders ---- */

static void order_listen(void) {
  for (int hasty = PATIENT; hasty <= HASTY; hasty++) {
    wsabi_server_options options = {.struct_size = sizeof options, .host = "127.0.0.1"};
    uint16_t port;
    options.limits = limits_of(hasty);
    options.handlers = handlers_of(&is_server);
    if (wsabi_listen(loop, &options, &servers[hasty]) < 0 ||
        wsabi_server_port(loop, servers[hasty], &port) < 0)
      return fail("listen", wsabi_last_error());
    server_count++;
    printf("listening %s %u\n", hasty ? "hasty" : "patient", port);
  }
}

/* MESSAGES TURN PAUSE_AFTER PAUSE_MS CLOSE WANT */
static int read_task(task *of, char *rest) {
  char *list = strsep(&rest, " "), *word;
  if (rest == NULL || sscanf(rest, "%zu %ld %ld %7s %zu", &of->turn, &of->pause_after,
                             &of->pause_ms, of->close, &of->want) != 5)
    return 0;
  while (*list != '-' && (word = strsep(&list, ",")) != NULL) {
    message what = {0};
    char type;
    if (sscanf(word, "%zu%c%u", &what.size, &type, &what.fragments) != 3 || what.size > LARGEST ||
        what.fragments == 0)
      return 0;
    what.text = type == 't';
    of->messages = allocate(of->messages, (of->count + 1) * sizeof what);
    of->messages[of->count++] = what;
    if (list == NULL) break;
  }
  return 1;
}

/* NUMBER PORT single|session patient|hasty TASK, where a server has no use for the port. */
static void order_task(int client, char *rest) {
  task *made = allocate(NULL, sizeof *made);
  char session[16], hasty[16];
  int used = 0;
  *made = (task){.client = client, .next_task = tasks};
  if (sscanf(rest, "%u %u %15s %15s %n", &made->number, &made->port, session, hasty, &used) != 4 ||
      used == 0 || !read_task(made, rest + used))
    return fail("task", "not understood");
  made->session = strcmp(session, "session") == 0;
  made->hasty = strcmp(hasty, "hasty") == 0;
  tasks = made;
  if (client)
    start(made);
  else
    printf("expected %u\n", made->number);
}

static void order_report(unsigned number) {
  const task *of = find(number);
  if (of == NULL) return fail("report", "no such task");
  printf("session %u attempts=%u duplicates=%zu told=%s\n", of->number, of->tries,
         of->duplicates, told_of(of));
}

static void order_forget(unsigned number) {
  task *of = find(number), **at = &tasks;
  if (of == NULL) return fail("forget", "no such task");
  for (attempt **known = &attempts; *known != NULL;) {
    attempt *this = *known;
    if (this->task != of) {
      known = &this->next_attempt;
      continue;
    }
    if (!this->closed) printf("error forget: %s has not ended\n", this->name);
    *known = this->next_attempt;
    free(this);
  }
  while (*at != of) at = &(*at)->next_task;
  *at = of->next_task;
  free(of->messages);
  free(of->told);
  free(of);
}

static void order_stop(void) {
  if (server_count == 0) printf("stopped\n");
  for (int i = 0; i < server_count; i++)
    if (wsabi_server_stop(loop, servers[i], 5000) < 0) fail("stop", wsabi_last_error());
}

static void obey(char *line) {
  char *rest = line;
  const char *order = strsep(&rest, " ");
  if (rest == NULL) rest = line + strlen(line);
  if (strcmp(order, "listen") == 0)
    order_listen();
  else if (strcmp(order, "connect") == 0)
    order_task(1, rest);
  else if (strcmp(order, "expect") == 0)
    order_task(0, rest);
  else if (strcmp(order, "report") == 0)
    order_report((unsigned)strtoul(rest, NULL, 10));
  else if (strcmp(order, "forget") == 0)
    order_forget((unsigned)strtoul(rest, NULL, 10));
  else if (strcmp(order, "stop") == 0)
    order_stop();
  else
    fail(order, "no such order");
}

/* ---- the loop ---- */

/* Sends on all connections that have something to send; how long to wait for more to do. */
static int go_on(void) {
  int timeout = -1;
  uint64_t now = now_ms();
  for (attempt *at = attempts, *next; at != NULL; at = next) {
    next = at->next_attempt;
    if (at->closed || !at->open) continue;
    if (at->paused && at->resume_at != 0 && at->resume_at <= now) {
      at->resume_at = 0;
      wsabi_conn_resume(loop, at->conn);
    }
    if (is_ready(at)) pump(at);
    if (is_ready(at))
      timeout = 1;
    else if (at->paused && at->resume_at != 0 && timeout < 0)
      timeout = 5;
  }
  return timeout;
}

/* Reads what there is of stdin and obeys whole lines; 0 at its end. */
static int read_orders(void) {
  static char buffer[LINE];
  static size_t len;
  char *end;
  ssize_t count = read(STDIN_FILENO, buffer + len, sizeof buffer - len);
  if (count <= 0) return count < 0 && errno == EINTR;
  len += (size_t)count;
  while ((end = memchr(buffer, '\n', len)) != NULL) {
    size_t used = (size_t)(end - buffer) + 1;
    *end = '\0';
    obey(buffer);
    memmove(buffer, buffer + used, len - used);
    len -= used;
  }
  return len < sizeof buffer;
}

int main(void) {
  struct pollfd watched[2] = {{STDIN_FILENO, POLLIN, 0}, {-1, POLLIN, 0}};
  int timeout = -1;
  for (uint32_t j = 0; j < sizeof pattern; j++)
    pattern[j] = (char)(33 + ((j * UINT32_C(0x9e3779b1)) >> 16) % 94);
  setvbuf(stdout, NULL, _IOFBF, LINE);
  if (wsabi_loop_new(NULL, &loop) < 0) return fprintf(stderr, "%s\n", wsabi_last_error()), 1;
  watched[1].fd = wsabi_loop_fd(loop);
  for (;;) {
    if (poll(watched, 2, timeout) < 0 && errno != EINTR) break;
    if (watched[0].revents != 0 && !read_orders()) break;
    if (watched[1].revents != 0 && wsabi_loop_dispatch(loop, NULL) < 0)
      fail("dispatch", wsabi_last_error());
    timeout = go_on();
    fflush(stdout);
  }
  wsabi_loop_free(loop);
  return 0;
}
