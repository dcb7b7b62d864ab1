/* chat-client URL NAME [--from X] [--say TEXT]... [--await N] [--once] [--quit]
 * Joins the chat room at URL, such as ws://127.0.0.1:9000/chat, and says what comes from stdin,
 * line by line, until that ends; see examples/chat.md. A lost connection is made again, with --once
 * not. --await leaves after N messages of others, whether or not stdin has ended; --quit leaves
 * when all TEXTs are said. One poll(2) waits for stdin, signals and the loop. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "json.h"
#include "wsabi.h"

#define MESSAGE_BYTES 4096
#define WELCOME_BYTES (1024 * 1024)

static const char *url, *name, *from = "c";
static char **to_say;
static size_t to_say_count;
static long await; /* 0: without end */
static int once, quit;

static wsabi_loop *loop;
static wsabi_conn conn; /* 0 while there is none */
static int joined, leaving, blocked, input_ended;
static int result = -1; /* the exit status, when it has come to that */
static char own_name[256];
static char refusal[512]; /* why we could not join */
static long heard;
static int64_t last_time; /* of the latest event, by the server's clock */
static int64_t connect_at;
static unsigned attempts;
static int signals[2]; /* a pipe */

/* --- Printing --- */

/* Prints what others have written. It cannot end the line, nor give commands to the terminal:
 * control characters, line separators and turns of direction become U+FFFD. */
static void print(const char *text, size_t len) {
  const unsigned char *at = (const unsigned char *)text, *end = at + len;
  while (at < end) {
    size_t size = 1, bad = *at < 0x20 || *at == 0x7F;
    if (end - at >= 2 && at[0] == 0xC2 && at[1] < 0xA0) bad = size = 2;
    if (end - at >= 3 && at[0] == 0xE2 && at[1] == 0x80 && at[2] >= 0xA8 && at[2] <= 0xAE)
      bad = size = 3;
    if (end - at >= 3 && at[0] == 0xE2 && at[1] == 0x81 && at[2] >= 0xA6 && at[2] <= 0xA9)
      bad = size = 3;
    fwrite(bad ? "\xEF\xBF\xBD" : (const char *)at, 1, bad ? 3 : 1, stdout);
    at += size;
  }
}

/* Prints the text of a string, if it is one and no longer than 1,000 characters can be in JSON. */
static void print_json(struct json string) {
  char text[12 * 1024];
  size_t len;
  if (json_text(string, text, sizeof text, &len)) print(text, len);
}

static void end_line(const char *words) {
  printf("%s\n", words);
  fflush(stdout);
}

static void print_event(struct json event) {
  struct json speaks_from = json_get(event, "from"), text = json_get(event, "text");
  int64_t time = json_integer(json_get(event, "time"));
  int said = json_equals(json_get(event, "type"), "said");
  if (time > last_time) last_time = time;
  if (!said) printf("* ");
  print_json(json_get(event, "name"));
  if (json_is(speaks_from, '"') && !json_equals(speaks_from, "")) {
    printf(" [");
    print_json(speaks_from);
    printf("]");
  }
  if (said) {
    printf(": ");
    print_json(text);
    end_line("");
  } else {
    end_line(json_equals(json_get(event, "type"), "left") ? " left" : " joined");
  }
}

/* --- Saying and leaving --- */

static void end(int status) {
  if (status == 0 && own_name[0] != '\0') end_line("+ left");
  result = status;
}

static void leave(void) {
  if (leaving) return;
  leaving = 1;
  if (conn == 0)
    end(0);
  else
    wsabi_conn_close(loop, conn, 1000, NULL, 0);
}

/* Sends a message, and frees it. Answers what was wrong, or NULL. */
static const char *send_json(struct json_writer *message) {
  wsabi_status status = WSABI_E_NO_MEMORY;
  int failed = message->failed;
  json_close(message, "}");
  if (!failed && message->len <= MESSAGE_BYTES)
    status = wsabi_conn_send_text(loop, conn, message->data, message->len);
  if (status == WSABI_BACKPRESSURE) blocked = 1;
  failed |= message->failed;
  free(message->data);
  if (status >= 0) return NULL;
  if (failed) return "memory has run out";
  return message->len > MESSAGE_BYTES ? "that is too long" : wsabi_last_error();
}

static void say(const char *text, size_t len) {
  struct json_writer message = {0};
  const char *problem;
  json_open(&message, "{");
  json_field(&message, "type", "say", 3);
  json_field(&message, "text", text, len);
  problem = send_json(&message);
  if (problem == NULL) return;
  printf("! %s", problem);
  end_line(", and was not said");
}

/* Reads once, and says the lines that are complete, and at the end of input the one that is not. */
static void read_input(void) {
  static char input[2 * MESSAGE_BYTES];
  static size_t used;
  static int too_long;
  char *line = input, *newline;
  ssize_t count = read(STDIN_FILENO, input + used, sizeof input - used - 1);
  if (count < 0 && (errno == EINTR || errno == EAGAIN)) return;
  input_ended = count <= 0;
  if (count > 0) used += (size_t)count;
  if (input_ended && used > 0) input[used++] = '\n';
  while ((newline = memchr(line, '\n', used - (size_t)(line - input))) != NULL) {
    size_t len = (size_t)(newline - line);
    if (len > 0 && line[len - 1] == '\r') len--;
    if (too_long)
      end_line("! that is too long, and was not said");
    else if (len > 0)
      say(line, len);
    too_long = 0;
    line = newline + 1;
  }
  used -= (size_t)(line - input);
  memmove(input, line, used);
  if (used == sizeof input - 1) {
    used = 0;
    too_long = 1;
  }
  if (input_ended && await == 0) leave();
}

/* --- The connection --- */

/* We cannot join, and so there is nothing to do here. */
static void give_up(const char *why) {
  snprintf(refusal, sizeof refusal, "%s", why);
  wsabi_conn_close(loop, conn, 1000, NULL, 0);
}

static void on_open(wsabi_loop *l, wsabi_conn c, const wsabi_handshake *response, void *user) {
  struct json_writer message = {0};
  const char *problem;
  (void)l, (void)c, (void)response, (void)user;
  json_open(&message, "{");
  json_field(&message, "type", "join", 4);
  json_field(&message, "name", name, strlen(name));
  json_field(&message, "from", from, strlen(from));
  problem = send_json(&message);
  if (problem != NULL) give_up(problem);
}

static void on_welcome(struct json welcome) {
  struct json members = json_get(welcome, "members"), history = json_get(welcome, "history");
  struct json key, item = {NULL, 0};
  int64_t seen = last_time;
  size_t len, i;
  if (!json_text(json_get(welcome, "name"), own_name, sizeof own_name, &len)) return;
  printf("+ joined as ");
  print(own_name, len);
  while (json_next(members, &key, &item)) {
    printf(", ");
    print_json(json_get(item, "name"));
  }
  end_line(" here");
  /* Not again what was there before the connection was lost. */
  item.data = NULL;
  while (json_next(history, &key, &item))
    if (json_integer(json_get(item, "time")) > seen) print_event(item);
  joined = 1;
  attempts = 0;
  for (i = 0; i < to_say_count; i++) say(to_say[i], strlen(to_say[i]));
  to_say_count = 0;
  if (quit) leave();
}

static void on_error(struct json text) {
  char why[sizeof refusal];
  size_t len;
  printf("! ");
  print_json(text);
  end_line("");
  if (!joined && !leaving)
    give_up(json_text(text, why, sizeof why, &len) ? why : "the server does not want us");
}

static void on_message(wsabi_loop *l, wsabi_conn c, const wsabi_message *message, void *user) {
  struct json event = json_parse((const char *)message->data, message->len);
  struct json type = json_get(event, "type");
  int said = json_equals(type, "said");
  (void)l, (void)c, (void)user;
  if (json_equals(type, "welcome")) {
    on_welcome(event);
  } else if (json_equals(type, "error")) {
    on_error(json_get(event, "text"));
  } else if (said || json_equals(type, "joined") || json_equals(type, "left")) {
    print_event(event);
    if (said && !json_equals(json_get(event, "name"), own_name) && ++heard == await) leave();
  }
}

static void on_drain(wsabi_loop *l, wsabi_conn c, void *user) {
  (void)l, (void)c, (void)user;
  blocked = 0;
}

static int64_t milliseconds(void) {
  struct timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* What a request was refused with does not change by asking again, nor a name at the first try. */
static void on_close(wsabi_loop *l, wsabi_conn c, const wsabi_close *close, void *user) {
  int refused = close->http_status >= 400 && close->http_status < 500;
  long delay = attempts < 5 ? 500L << attempts : 10000;
  (void)l, (void)c, (void)user;
  if (result >= 0) return;
  conn = 0;
  joined = blocked = 0;
  if (leaving) {
    end(0);
    return;
  }
  printf("- disconnected: ");
  if (refusal[0] != '\0') {
    print(refusal, strlen(refusal));
  } else if (close->detail.len > 0) {
    print(close->detail.data, close->detail.len);
  } else {
    printf("%d%s", close->code, close->reason.len > 0 ? " " : "");
    print(close->reason.data, close->reason.len);
  }
  if (once || refused || (refusal[0] != '\0' && own_name[0] == '\0')) {
    end_line("");
    end(1);
    return;
  }
  delay += random() % (delay / 2 + 1);
  attempts++;
  connect_at = milliseconds() + delay;
  printf("; again in %.1f s", (double)delay / 1000);
  end_line("");
}

static int connect_now(void) {
  wsabi_client_options options = {.struct_size = sizeof options};
  options.limits.max_message_bytes = WELCOME_BYTES;
  options.handlers.on_open = on_open;
  options.handlers.on_message = on_message;
  options.handlers.on_drain = on_drain;
  options.handlers.on_close = on_close;
  refusal[0] = '\0';
  return wsabi_connect(loop, url, &options, &conn);
}

/* --- The program --- */

static void on_signal(int number) {
  int before = errno;
  (void)number;
  if (write(signals[1], "", 1) < 0) errno = before;
}

/* A second signal does not wait for the server. */
static void read_signal(void) {
  char bytes[16];
  if (read(signals[0], bytes, sizeof bytes) < 0) return;
  if (leaving) end(1);
  leave();
}

/* Input is read when it can be said. */
static int run(void) {
  if (connect_now() < 0) return -1;
  while (result < 0) {
    struct pollfd fds[3] = {{wsabi_loop_fd(loop), POLLIN, 0}, {signals[0], POLLIN, 0}};
    int64_t wait = conn == 0 ? connect_at - milliseconds() : -1;
    fds[2].fd = joined && !leaving && !blocked && !input_ended ? STDIN_FILENO : -1;
    fds[2].events = POLLIN;
    if (conn == 0 && wait < 0) wait = 0;
    if (poll(fds, 3, (int)wait) < 0) {
      if (errno == EINTR) continue;
      perror("chat-client: poll");
      return 1;
    }
    if (fds[0].revents != 0 && wsabi_loop_dispatch(loop, NULL) < 0) return -1;
    if (fds[1].revents != 0) read_signal();
    if (fds[2].revents != 0 && joined && !leaving) read_input();
    if (result < 0 && conn == 0 && milliseconds() >= connect_at && connect_now() < 0) return -1;
  }
  return result;
}

static int usage(void) {
  fprintf(stderr,
          "usage: chat-client URL NAME [--from X] [--say TEXT]... [--await N] [--once] [--quit]\n"
          "  URL       of the room, such as ws://127.0.0.1:9000/chat\n"
          "  NAME      to join as\n"
          "  --from    what others are told you speak from (c)\n"
          "  --say     say this after joining; may be repeated\n"
          "  --await   leave after N messages of others\n"
          "  --once    do not connect again\n"
          "  --quit    leave when all is said, and do not read stdin\n");
  return 2;
}

static long parse_count(const char *text) {
  char *stop;
  long count = strtol(text, &stop, 10);
  return count > 0 && *stop == '\0' ? count : -1;
}

static int parse(int argc, char **argv) {
  int i;
  for (i = 1; i < argc; i++) {
    int is_last = i + 1 == argc;
    if (strcmp(argv[i], "--once") == 0)
      once = 1;
    else if (strcmp(argv[i], "--quit") == 0)
      quit = 1;
    else if (strcmp(argv[i], "--from") == 0 && !is_last)
      from = argv[++i];
    else if (strcmp(argv[i], "--say") == 0 && !is_last)
      to_say[to_say_count++] = argv[++i];
    else if (strcmp(argv[i], "--await") == 0 && !is_last)
      await = parse_count(argv[++i]);
    else if (strncmp(argv[i], "--", 2) == 0 || name != NULL)
      return 0;
    else
      *(url == NULL ? &url : &name) = argv[i];
  }
  return name != NULL && await >= 0;
}

int main(int argc, char **argv) {
  struct sigaction action;
  int status;
  to_say = calloc((size_t)argc, sizeof *to_say);
  if (to_say == NULL || !parse(argc, argv)) return usage();
  if (pipe(signals) != 0) {
    perror("chat-client: pipe");
    return 1;
  }
  memset(&action, 0, sizeof action);
  action.sa_handler = on_signal;
  sigaction(SIGINT, &action, NULL);
  sigaction(SIGTERM, &action, NULL);
  srandom((unsigned)time(NULL) ^ (unsigned)getpid());
  status = wsabi_loop_new(NULL, &loop) < 0 ? -1 : run();
  if (status < 0) fprintf(stderr, "chat-client: %s\n", wsabi_last_error());
  if (result < 0) result = 1;
  wsabi_loop_free(loop);
  free(to_say);
  return result;
}
