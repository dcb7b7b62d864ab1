/* chat-server PORT [--host HOST] [--page FILE]
 * The chat room of examples/chat.md: a WebSocket at /chat, the page FILE for browsers at /, and
 * /health. PORT 0 picks one. SIGINT and SIGTERM end it. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "chat-names.h"
#include "json.h"
#include "wsabi.h"

#define MEMBERS 1000
#define MESSAGE_BYTES 4096
#define TEXT_CHARACTERS 1000
#define HISTORY 50
#define JOIN_MS 10000
#define RATE_SAYS 30 /* within RATE_MS */
#define RATE_MS 3000
#define BACKLOG_BYTES (256 * 1024)
#define PAGE_BYTES (4 * 1024 * 1024)
#define STOP_MS 3000

/* A text that JSON holds in MESSAGE_BYTES. */
struct text {
  char data[MESSAGE_BYTES];
  size_t len;
};

/* A connection at /chat. It is in one of the lists until the room has done with it. */
struct member {
  wsabi_conn conn;
  struct list *list;
  struct member *previous, *next;
  char *name, *from; /* once it has joined */
  wint_t folded[NAME_CHARACTERS + 1]; /* the name without cases, ended by 0 */
  int64_t opened;
  int64_t said[RATE_SAYS]; /* when the last ones were said, a ring */
  unsigned next_said;
  uint64_t welcome; /* bytes of the welcome, while some of them may wait */
};

struct list {
  struct member *first, *last;
  size_t count;
};

static wsabi_loop *loop;
static wsabi_server server;
static struct list hall;    /* not joined yet, the longest there first */
static struct list room;    /* joined, in the order of joining */
static struct list leaving; /* joined, and the room does not know yet that they are gone */
static char *history[HISTORY];
static size_t history_count; /* of all times; the oldest that is kept is at its remainder */
static struct json_writer event, reply;
static const char *page;
static int stopping, stopped;

static int64_t milliseconds(clockid_t clock) {
  struct timespec now;
  clock_gettime(clock, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static void move_to(struct list *list, struct member *m) {
  struct list *old = m->list;
  if (old != NULL) {
    *(m->previous != NULL ? &m->previous->next : &old->first) = m->next;
    *(m->next != NULL ? &m->next->previous : &old->last) = m->previous;
    old->count--;
  }
  m->list = list;
  m->next = NULL;
  if (list == NULL) return;
  m->previous = list->last;
  *(list->last != NULL ? &list->last->next : &list->first) = m;
  list->last = m;
  list->count++;
}

/* --- Telling --- */

/* The room hears of it when see_off is called, and the connection's on_close comes later. */
static void turn_out(struct member *m, uint16_t code, const char *reason) {
  wsabi_conn_close(loop, m->conn, code, reason, strlen(reason));
  move_to(m->list == &room ? &leaving : NULL, m);
}

/* High water is BACKLOG_BYTES. Within one dispatch everything waits, so that only after a flush the
 * backlog tells of a slow member. A long welcome is not the new member's fault. */
static void tell(struct member *m, const struct json_writer *message) {
  wsabi_status status;
  uint64_t backlog = 0;
  if (message->failed) return;
  status = wsabi_conn_send_text(loop, m->conn, message->data, message->len);
  if (status == WSABI_OK) m->welcome = 0;
  if (status == WSABI_OK || status == WSABI_E_CLOSED) return;
  wsabi_conn_flush(loop, m->conn);
  wsabi_conn_buffered(loop, m->conn, &backlog);
  if (status < 0 || backlog > BACKLOG_BYTES + m->welcome) turn_out(m, 1013, "too slow");
}

static void tell_room(const struct json_writer *message, const struct member *except) {
  struct member *m, *next;
  for (m = room.first; m != NULL; m = next) {
    next = m->next;
    if (m != except) tell(m, message);
  }
}

static void tell_error(struct member *m, const char *text) {
  json_clear(&reply);
  json_open(&reply, "{");
  json_field(&reply, "type", "error", 5);
  json_field(&reply, "text", text, strlen(text));
  json_close(&reply, "}");
  tell(m, &reply);
}

/* Makes an event of a member and keeps it for those who come later. */
static void make_event(const char *type, const struct member *m, const struct text *text) {
  char **kept = &history[history_count % HISTORY];
  json_clear(&event);
  json_open(&event, "{");
  json_field(&event, "type", type, strlen(type));
  json_field(&event, "name", m->name, strlen(m->name));
  json_field(&event, "from", m->from, strlen(m->from));
  if (text != NULL) json_field(&event, "text", text->data, text->len);
  json_number(&event, "time", milliseconds(CLOCK_REALTIME));
  json_close(&event, "}");
  json_put(&event, "", 1);
  if (event.failed) return;
  event.len--;
  free(*kept);
  *kept = strdup(event.data);
  history_count++;
}

/* Telling that one has left may show that another is too slow, who leaves then. */
static void see_off(void) {
  struct member *m;
  while ((m = leaving.first) != NULL) {
    move_to(NULL, m);
    if (stopping) continue;
    make_event("left", m, NULL);
    tell_room(&event, NULL);
  }
}

static void welcome(struct member *m) {
  const struct member *other;
  size_t i;
  json_clear(&reply);
  json_open(&reply, "{");
  json_field(&reply, "type", "welcome", 7);
  json_field(&reply, "name", m->name, strlen(m->name));
  json_key(&reply, "members");
  json_open(&reply, "[");
  for (other = room.first; other != NULL; other = other->next) {
    json_open(&reply, "{");
    json_field(&reply, "name", other->name, strlen(other->name));
    json_field(&reply, "from", other->from, strlen(other->from));
    json_close(&reply, "}");
  }
  json_close(&reply, "]");
  json_key(&reply, "history");
  json_open(&reply, "[");
  for (i = 0; i < HISTORY; i++) {
    const char *kept = history[(history_count + i) % HISTORY];
    if (kept != NULL) json_value(&reply, kept, strlen(kept));
  }
  json_close(&reply, "]");
  json_close(&reply, "}");
  m->welcome = reply.len;
  tell(m, &reply);
}

/* --- Joining and saying --- */

static int is_taken(const wint_t *folded) {
  const struct member *m;
  size_t i;
  for (m = room.first; m != NULL; m = m->next) {
    for (i = 0; folded[i] != 0 && m->folded[i] == folded[i]; i++) continue;
    if (m->folded[i] == folded[i]) return 1;
  }
  return 0;
}

/* Answers what is wrong, or NULL. */
static const char *join(struct member *m, struct json message) {
  struct json label = json_get(message, "from");
  struct text name, from = {{0}, 0};
  if (m->list == &room) return "you have joined already";
  if (!json_text(json_get(message, "name"), name.data, sizeof name.data, &name.len) ||
      !fold_name(name.data, name.len, m->folded))
    return "a name has 1 to 20 letters, digits, \"-\", \"_\" and \".\"; choose another";
  if (label.data != NULL && (!json_text(label, from.data, sizeof from.data, &from.len) ||
                             !is_label(from.data, from.len)))
    return "\"from\" has at most 16 printable characters";
  if (is_taken(m->folded)) return "that name is taken; choose another";
  m->name = strdup(name.data);
  m->from = strdup(from.data);
  if (m->name == NULL || m->from == NULL) {
    turn_out(m, 1011, "out of memory");
    return NULL;
  }
  move_to(&room, m);
  welcome(m);
  make_event("joined", m, NULL);
  tell_room(&event, m);
  return NULL;
}

static const char *say(struct member *m, struct json message) {
  int64_t now = milliseconds(CLOCK_MONOTONIC), *oldest = &m->said[m->next_said];
  struct text text;
  size_t count;
  if (m->list != &room) return "join first";
  if (!json_text(json_get(message, "text"), text.data, sizeof text.data, &text.len) ||
      (count = json_characters(text.data, text.len)) < 1 || count > TEXT_CHARACTERS)
    return "a text has 1 to 1,000 characters";
  if (*oldest != 0 && now - *oldest < RATE_MS) return "too fast; that was not told";
  *oldest = now;
  m->next_said = (m->next_said + 1) % RATE_SAYS;
  make_event("said", m, &text);
  tell_room(&event, NULL);
  return NULL;
}

static void take(struct member *m, struct json message) {
  const char *problem = NULL;
  struct json type = json_get(message, "type");
  if (json_equals(type, "join")) problem = join(m, message);
  if (json_equals(type, "say")) problem = say(m, message);
  if (problem != NULL) tell_error(m, problem);
}

/* --- Connections --- */

#define STR(literal) {literal, sizeof literal - 1}

/* Answers by a text, with one more header field. */
static void respond(wsabi_conn conn, uint16_t status, const char *text, wsabi_header more) {
  wsabi_header headers[2] = {{STR("Content-Type"), STR("text/plain; charset=utf-8")}};
  wsabi_response response = {.struct_size = sizeof response, .headers = headers};
  headers[1] = more;
  response.header_count = 2;
  response.status = status;
  response.body = text;
  response.body_len = strlen(text);
  wsabi_conn_respond(loop, conn, &response);
}

static const wsabi_header plain = {STR("X-Content-Type-Options"), STR("nosniff")};

static int is(wsabi_str text, const char *wanted) {
  return text.len == strlen(wanted) && memcmp(text.data, wanted, text.len) == 0;
}

static int is_full(void) { return hall.count + room.count >= MEMBERS; }

static int32_t on_upgrade(wsabi_loop *l, wsabi_conn conn, const wsabi_handshake *request,
                          void *user) {
  static const wsabi_header retry = {STR("Retry-After"), STR("10")};
  (void)l, (void)user;
  if (!is(wsabi_handshake_path(request), "/chat"))
    respond(conn, 404, "There is nothing here; the chat is at /chat.\n", plain);
  else if (is_full())
    respond(conn, 503, "The room is full; come back later.\n", retry);
  return WSABI_ACCEPT;
}

/* Several may be let in before the first of them is open. */
static void on_open(wsabi_loop *l, wsabi_conn conn, const wsabi_handshake *request, void *user) {
  struct member *m = is_full() ? NULL : calloc(1, sizeof *m);
  (void)request, (void)user;
  if (m == NULL) {
    wsabi_conn_close(l, conn, 1013, "the room is full", 16);
    return;
  }
  m->conn = conn;
  m->opened = milliseconds(CLOCK_MONOTONIC);
  wsabi_conn_set_user(l, conn, m);
  move_to(&hall, m);
}

/* A member that was turned out may go on sending until its Close comes. */
static void on_message(wsabi_loop *l, wsabi_conn conn, const wsabi_message *message, void *user) {
  struct member *m = wsabi_conn_user(l, conn);
  struct json object = json_parse((const char *)message->data, message->len);
  (void)user;
  if (m == NULL || m->list == NULL) return;
  if (message->type == WSABI_TEXT && json_is(object, '{'))
    take(m, object);
  else
    turn_out(m, 1003, "expected a JSON object");
  see_off();
}

static void on_close(wsabi_loop *l, wsabi_conn conn, const wsabi_close *close, void *user) {
  struct member *m = wsabi_conn_user(l, conn);
  (void)close, (void)user;
  if (m == NULL) return;
  if (m->list == &room) move_to(&leaving, m);
  see_off();
  move_to(NULL, m);
  free(m->name);
  free(m->from);
  free(m);
}

/* Answers in how many milliseconds the next one has been in the hall for too long, or -1. */
static int64_t turn_out_the_late(void) {
  int64_t now = milliseconds(CLOCK_MONOTONIC);
  while (hall.first != NULL) {
    if (hall.first->opened + JOIN_MS > now) return hall.first->opened + JOIN_MS - now;
    turn_out(hall.first, 1008, "join first");
  }
  return -1;
}

/* --- Pages --- */

static char *read_page(size_t *len) {
  FILE *file = fopen(page, "rb");
  char *body = file == NULL ? NULL : malloc(PAGE_BYTES);
  if (body != NULL) *len = fread(body, 1, PAGE_BYTES, file);
  if (body == NULL || ferror(file) || *len == PAGE_BYTES) {
    fprintf(stderr, "chat-server: the page %s cannot be read, or is too large\n", page);
    free(body);
    body = NULL;
  }
  if (file != NULL) fclose(file);
  return body;
}

static void respond_page(wsabi_conn conn) {
  static const wsabi_header headers[] = {
      {STR("Content-Type"), STR("text/html; charset=utf-8")},
      {STR("Cache-Control"), STR("no-cache")},
      {STR("X-Content-Type-Options"), STR("nosniff")},
      {STR("Content-Security-Policy"),
       STR("default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; "
           "img-src data:; connect-src 'self' ws: wss:; base-uri 'none'; form-action 'none'; "
           "frame-ancestors 'none'")},
  };
  wsabi_response response = {.struct_size = sizeof response, .headers = headers, .status = 200};
  char *body = read_page(&response.body_len);
  response.header_count = sizeof headers / sizeof headers[0];
  response.body = body;
  if (body != NULL)
    wsabi_conn_respond(loop, conn, &response);
  else
    respond(conn, 404, "The page is missing; start the server with --page FILE.\n", plain);
  free(body);
}

static void on_http(wsabi_loop *l, wsabi_conn conn, const wsabi_handshake *request, void *user) {
  static const wsabi_header allow = {STR("Allow"), STR("GET, HEAD")};
  static const wsabi_header upgrade = {STR("Upgrade"), STR("websocket")};
  wsabi_str method = wsabi_handshake_method(request), path = wsabi_handshake_path(request);
  (void)l, (void)user;
  if (!is(method, "GET") && !is(method, "HEAD"))
    respond(conn, 405, "Only GET and HEAD are allowed.\n", allow);
  else if (is(path, "/"))
    respond_page(conn);
  else if (is(path, "/health"))
    respond(conn, 200, "ok", plain);
  else if (is(path, "/chat"))
    respond(conn, 426, "This is a WebSocket; the page is at /.\n", upgrade);
  else
    respond(conn, 404, "There is nothing here; the page is at /, the chat at /chat.\n", plain);
}

/* --- Starting and stopping --- */

static void on_stopped(wsabi_loop *l, wsabi_server s, const wsabi_stopped *counts, void *user) {
  (void)l, (void)s, (void)counts, (void)user;
  stopped = 1;
}

/* A second signal ends the program at once. */
static void stop(wsabi_loop *l, void *signals) {
  pthread_sigmask(SIG_UNBLOCK, signals, NULL);
  stopping = 1;
  wsabi_server_stop(l, server, STOP_MS);
}

/* Signals go to a thread that waits for them, and that has the loop's thread do the work. */
static void *wait_for_signal(void *signals) {
  int number;
  sigwait(signals, &number);
  wsabi_loop_post(loop, stop, NULL, signals);
  return NULL;
}

static int usage(void) {
  fprintf(stderr, "usage: chat-server PORT [--host HOST] [--page FILE]\n");
  return 2;
}

static int failed(void) {
  fprintf(stderr, "chat-server: %s\n", wsabi_last_error());
  return 1;
}

/* A full room is more than the 1,024 descriptors that many systems start with. */
static void raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return;
  limit.rlim_cur = limit.rlim_max;
  setrlimit(RLIMIT_NOFILE, &limit);
}

/* The page lies beside this source's folder in a checkout. */
static const char *default_page(void) {
  static char path[4096];
  const char *slash = strrchr(__FILE__, '/');
  int folder = slash == NULL ? 0 : (int)(slash + 1 - __FILE__);
  snprintf(path, sizeof path, "%.*s../browser/index.html", folder, __FILE__);
  return path;
}

static int parse(int argc, char **argv, wsabi_server_options *options) {
  unsigned long port;
  char *end;
  int i;
  if (argc < 2 || argc % 2 != 0) return 0;
  port = strtoul(argv[1], &end, 10);
  if (end == argv[1] || *end != '\0' || port > 65535) return 0;
  options->port = (uint16_t)port;
  for (i = 2; i < argc; i += 2) {
    if (strcmp(argv[i], "--host") == 0)
      options->host = argv[i + 1];
    else if (strcmp(argv[i], "--page") == 0)
      page = argv[i + 1];
    else
      return 0;
  }
  return 1;
}

static int serve(const wsabi_server_options *options) {
  char address[128];
  pthread_t thread;
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  sigaddset(&signals, SIGTERM);
  pthread_sigmask(SIG_BLOCK, &signals, NULL);
  if (wsabi_loop_new(NULL, &loop) < 0) return failed();
  if (wsabi_listen(loop, options, &server) < 0) return failed();
  if (wsabi_server_address(loop, server, address, sizeof address, NULL) < 0) return failed();
  printf("listening on ws://%s\n", address);
  fflush(stdout);
  if (pthread_create(&thread, NULL, wait_for_signal, &signals) != 0) return 1;
  while (!stopped)
    if (wsabi_loop_poll(loop, turn_out_the_late()) < 0) return failed();
  pthread_join(thread, NULL);
  wsabi_loop_free(loop);
  return 0;
}

int main(int argc, char **argv) {
  wsabi_server_options options = {.struct_size = sizeof options};
  int status, i;
  page = default_page();
  options.host = "127.0.0.1";
  options.limits.max_message_bytes = MESSAGE_BYTES;
  options.limits.high_water_bytes = BACKLOG_BYTES;
  options.limits.low_water_bytes = BACKLOG_BYTES / 4;
  options.handlers.on_upgrade = on_upgrade;
  options.handlers.on_http = on_http;
  options.handlers.on_open = on_open;
  options.handlers.on_message = on_message;
  options.handlers.on_close = on_close;
  options.handlers.on_stopped = on_stopped;
  if (!parse(argc, argv, &options)) return usage();
  if (!know_letters())
    fprintf(stderr, "chat-server: there is no locale with UTF-8: names are ASCII only\n");
  raise_descriptor_limit();
  status = serve(&options);
  for (i = 0; i < HISTORY; i++) free(history[i]);
  free(event.data);
  free(reply.data);
  return status;
}
