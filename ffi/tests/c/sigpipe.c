/* A host that left SIGPIPE alone: writing to a peer that is gone must not kill it. */
#include <signal.h>
#include <sys/wait.h>

#include "sides.h"

/* A peer that ends its sending half and then resets: Linux answers the next write to it by EPIPE,
 * the error that raises SIGPIPE. */
static void half_close_and_reset(int fd) {
  struct linger at_once = {1, 0};
  CHECK(shutdown(fd, SHUT_WR) == 0);
  CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once) == 0);
  CHECK(close(fd) == 0);
}

/* The control: without care the same situation does kill. */
static void the_situation_is_deadly(void) {
  int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), peer, fd, status;
  struct sockaddr_in a;
  socklen_t len = sizeof a;
  pid_t child;
  memset(&a, 0, sizeof a);
  a.sin_family = AF_INET;
  a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  CHECK(bind(listener, (struct sockaddr *)&a, sizeof a) == 0 && listen(listener, 1) == 0);
  CHECK(getsockname(listener, (struct sockaddr *)&a, &len) == 0);
  peer = raw_connect(ntohs(a.sin_port));
  fd = accept(listener, NULL, NULL);
  CHECK(fd >= 0);
  half_close_and_reset(peer);
  child = fork();
  if (child == 0) _exit(write(fd, "x", 1) < 0 && write(fd, "x", 1) < 0 ? 1 : 0);
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGPIPE);
  close(fd);
  close(listener);
}

static void write_to_the_gone(wsabi_loop *loop, struct side *s) {
  char block[1000];
  int i;
  memset(block, 'x', sizeof block);
  for (i = 0; i < 5; i++) {
    wsabi_status status = wsabi_conn_send_binary(loop, s->conn, block, sizeof block);
    CHECK(status >= 0 || status == WSABI_E_CLOSED);
  }
  CHECK(wsabi_loop_flush(loop) >= 0);
  WAIT(loop, s->closes == 1);
  CHECK_STATUS(s->why, WSABI_E_LOST);
  CHECK_INT(s->code, 1006);
}

static void tcp(int deferred) {
  struct side s = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  char answer[1024];
  int fd;
  start_server(loop, &s, &so);
  fd = raw_connect(s.port);
  raw_write(fd, RAW_UPGRADE);
  raw_read(loop, fd, answer, sizeof answer, "\r\n\r\n");
  WAIT(loop, s.opens == 1);
  CHECK_OK(wsabi_loop_defer(loop, (uint32_t)deferred));
  half_close_and_reset(fd);
  write_to_the_gone(loop, &s);
  wsabi_loop_free(loop);
}

static void written_at_once(void) { tcp(0); }
static void written_by_flush(void) { tcp(1); }

/* Inside a dispatch, the write comes at its end. */
static int closing_fd;
static void reset_then_send(wsabi_loop *l, wsabi_conn c, const wsabi_message *m, void *user) {
  (void)m, (void)user;
  half_close_and_reset(closing_fd);
  CHECK(wsabi_conn_send_text(l, c, "too late", 8) >= 0);
}

static void written_by_dispatch(void) {
  static const char MASKED_TEXT[] = "\x81\x81\0\0\0\0x";
  struct side s = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  char answer[1024];
  so.handlers.on_message = reset_then_send;
  start_server(loop, &s, &so);
  closing_fd = raw_connect(s.port);
  raw_write(closing_fd, RAW_UPGRADE);
  raw_read(loop, closing_fd, answer, sizeof answer, "\r\n\r\n");
  CHECK(send(closing_fd, MASKED_TEXT, sizeof MASKED_TEXT - 1, MSG_NOSIGNAL) == sizeof MASKED_TEXT - 1);
  WAIT(loop, s.closes == 1);
  CHECK_STATUS(s.why, WSABI_E_LOST);
  wsabi_loop_free(loop);
}

static void unix_socket(void) {
  struct side s = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  char folder[] = "wsabi-test-XXXXXX", path[64], answer[1024];
  int fd;
  CHECK(mkdtemp(folder) != NULL);
  snprintf(path, sizeof path, "%s/socket", folder);
  so.host = NULL;
  so.unix_path = path;
  start_server(loop, &s, &so);
  fd = raw_connect_unix(path);
  raw_write(fd, RAW_UPGRADE);
  raw_read(loop, fd, answer, sizeof answer, "\r\n\r\n");
  WAIT(loop, s.opens == 1);
  close(fd); /* The very next write is an EPIPE. */
  write_to_the_gone(loop, &s);
  wsabi_loop_free(loop);
  unlink(path);
  CHECK(rmdir(folder) == 0);
}

int main(void) {
  sigset_t none;
  struct sigaction action;
  signal(SIGPIPE, SIG_DFL);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  RUN(the_situation_is_deadly);
  RUN(written_at_once);
  RUN(written_by_flush);
  RUN(written_by_dispatch);
  RUN(unix_socket);
  CHECK(sigaction(SIGPIPE, NULL, &action) == 0 && action.sa_handler == SIG_DFL);
  check_ran("the disposition of SIGPIPE is the host's own");
  return finish();
}
