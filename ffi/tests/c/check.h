/* What every test program needs: checks, waiting with a deadline, and raw peers.
 * A program is a list of RUN(test) in main, closed by `return finish();`. */
#ifndef CHECK_H
#define CHECK_H
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "wsabi.h"

static int check_failures; /* of the running test */
static int check_passed, check_failed;

#define CHECK(condition)                                                              \
  do {                                                                                \
    if (!(condition)) {                                                               \
      fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition);       \
      check_failures++;                                                               \
    }                                                                                 \
  } while (0)

#define CHECK_INT(got, expected)                                                      \
  do {                                                                                \
    long long got_ = (long long)(got), expected_ = (long long)(expected);             \
    if (got_ != expected_) {                                                          \
      fprintf(stderr, "%s:%d: %s is %lld, expected %s = %lld\n", __FILE__, __LINE__,  \
              #got, got_, #expected, expected_);                                      \
      check_failures++;                                                               \
    }                                                                                 \
  } while (0)

#define CHECK_STR(got, expected)                                                      \
  do {                                                                                \
    const char *got_ = (got), *expected_ = (expected);                                \
    if (strcmp(got_, expected_) != 0) {                                               \
      fprintf(stderr, "%s:%d: %s is \"%s\", expected \"%s\"\n", __FILE__, __LINE__,   \
              #got, got_, expected_);                                                 \
      check_failures++;                                                               \
    }                                                                                 \
  } while (0)

/* Statuses print as names, and with the library's text. */
#define CHECK_STATUS(got, expected)                                                   \
  do {                                                                                \
    wsabi_status got_ = (got), expected_ = (expected);                                \
    if (got_ != expected_) {                                                          \
      fprintf(stderr, "%s:%d: %s is %s (%s), expected %s\n", __FILE__, __LINE__,      \
              #got, wsabi_status_name(got_), wsabi_last_error(),                      \
              wsabi_status_name(expected_));                                          \
      check_failures++;                                                               \
    }                                                                                 \
  } while (0)
#define CHECK_OK(got) CHECK_STATUS(got, WSABI_OK)

/* A refused argument: the text names the field. */
#define CHECK_INVALID(got, field)                                                     \
  do {                                                                                \
    CHECK_STATUS(got, WSABI_E_INVALID);                                               \
    if (strstr(wsabi_last_error(), field) == NULL) {                                  \
      fprintf(stderr, "%s:%d: the text of %s does not name %s: \"%s\"\n", __FILE__,   \
              __LINE__, #got, field, wsabi_last_error());                             \
      check_failures++;                                                               \
    }                                                                                 \
  } while (0)

static inline double now_s(void) {
  struct timespec t;
  clock_gettime(CLOCK_MONOTONIC, &t);
  return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

#define DEADLINE_S 60.0

/* Polls the loop until the condition holds; a missed deadline is a failure and goes on. */
#define WAIT(loop, condition)                                                         \
  do {                                                                                \
    double end_ = now_s() + DEADLINE_S;                                               \
    while (!(condition) && now_s() < end_)                                            \
      if (wsabi_loop_poll((loop), 50) < 0) {                                          \
        fprintf(stderr, "%s:%d: poll: %s\n", __FILE__, __LINE__, wsabi_last_error()); \
        check_failures++;                                                             \
        break;                                                                        \
      }                                                                               \
    if (!(condition)) {                                                               \
      fprintf(stderr, "%s:%d: did not come: %s\n", __FILE__, __LINE__, #condition);   \
      check_failures++;                                                               \
    }                                                                                 \
  } while (0)

static inline void check_ran(const char *name) {
  printf("%s %s\n", check_failures == 0 ? "ok" : "FAIL", name);
  fflush(stdout);
  if (check_failures == 0)
    check_passed++;
  else
    check_failed++;
  check_failures = 0;
}

#define RUN(test)     \
  do {                \
    test();           \
    check_ran(#test); \
  } while (0)

static inline int finish(void) {
  printf("%d passed, %d failed, 0 skipped\n", check_passed, check_failed);
  return check_failed == 0 && check_passed > 0 ? 0 : 1;
}

/* A peer of bare sockets, for what a proper one never does. */
static inline int raw_connect(uint16_t port) {
  struct sockaddr_in a;
  int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  memset(&a, 0, sizeof a);
  a.sin_family = AF_INET;
  a.sin_port = htons(port);
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
  return fd;
}

static inline int raw_connect_unix(const char *path) {
  struct sockaddr_un a;
  int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  memset(&a, 0, sizeof a);
  a.sun_family = AF_UNIX;
  strncpy(a.sun_path, path, sizeof a.sun_path - 1);
  CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof a) == 0);
  return fd;
}

static inline void raw_write(int fd, const char *text) {
  CHECK(send(fd, text, strlen(text), MSG_NOSIGNAL) == (ssize_t)strlen(text));
}

__attribute__((unused))
static const char RAW_UPGRADE[] =
    "GET /raw HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";

/* Polls the loop until the peer has read `needle`, or its end when that is NULL. Answers the bytes
 * read, which `buf` holds with a NUL behind them. */
static inline size_t raw_read(wsabi_loop *loop, int fd, char *buf, size_t size, const char *needle) {
  double end = now_s() + DEADLINE_S;
  size_t len = 0;
  buf[0] = '\0';
  while (now_s() < end) {
    ssize_t n = recv(fd, buf + len, size - 1 - len, MSG_DONTWAIT);
    if (n > 0) {
      len += (size_t)n;
      buf[len] = '\0';
      if (needle != NULL && memmem(buf, len, needle, strlen(needle)) != NULL) return len;
    } else if (n == 0 || errno != EAGAIN) {
      if (needle == NULL) return len;
      break;
    } else {
      CHECK(wsabi_loop_poll(loop, 10) >= 0);
    }
  }
  fprintf(stderr, "raw_read: \"%s\" did not come; \"%s\" did\n", needle ? needle : "end", buf);
  check_failures++;
  return len;
}

#endif
