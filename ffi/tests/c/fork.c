/* After fork the loop is the parent's: the child's calls are refused and change nothing. */
#include <sys/wait.h>

#include "sides.h"

static void nothing(wsabi_loop *l, void *user) { (void)l, (void)user; }

static int childs_calls(wsabi_loop *loop, struct side *s, struct side *c) {
  wsabi_server_options so = server_options(s);
  wsabi_server server;
  wsabi_conn conn;
  wsabi_message message = {.struct_size = sizeof message, .type = WSABI_TEXT, .data = "child", .len = 5};
  wsabi_prepared *prepared;
  check_failures = 0;
  CHECK_STATUS(wsabi_loop_dispatch(loop, NULL), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_loop_poll(loop, 0), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_loop_run(loop), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_loop_stop(loop), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_loop_post(loop, nothing, NULL, NULL), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_loop_flush(loop), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_listen(loop, &so, &server), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_server_stop(loop, s->server, 0), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_connect(loop, "ws://127.0.0.1:9", NULL, &conn), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_conn_send_text(loop, c->conn, "child", 5), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_conn_send(loop, c->conn, &message), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_conn_send_fragment_with(loop, c->conn, WSABI_TEXT, "child", 5, 1, 0), WSABI_E_FORKED);
  CHECK_OK(wsabi_prepared_new(&message, &prepared));
  CHECK_STATUS(wsabi_conn_send_prepared(loop, c->conn, prepared), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_broadcast(loop, prepared, &c->conn, 1, NULL), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_server_broadcast(loop, s->server, prepared, 0, NULL), WSABI_E_FORKED);
  wsabi_prepared_free(prepared);
  CHECK_STATUS(wsabi_conn_ping(loop, c->conn, NULL, 0), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_conn_close(loop, c->conn, 1000, NULL, 0), WSABI_E_FORKED);
  CHECK_STATUS(wsabi_conn_terminate(loop, c->conn), WSABI_E_FORKED);
  wsabi_loop_free(loop); /* Gives back the child's copy, and leaves the parent's connections alone. */
  return check_failures;
}

static void the_childs_calls_are_refused(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  int status;
  pid_t child = fork();
  if (child == 0) _exit(childs_calls(loop, &s, &c) == 0 && s.closes + c.closes == 0 ? 0 : 1);
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  CHECK_OK(wsabi_conn_send_text(loop, c.conn, "parent", 6));
  WAIT(loop, s.messages == 1);
  CHECK_STR(s.data, "parent");
  CHECK(s.closes == 0 && c.closes == 0 && s.pings == 0);
  CHECK_OK(wsabi_conn_close(loop, c.conn, 1000, NULL, 0));
  WAIT(loop, s.closes == 1 && c.closes == 1);
  CHECK(s.clean && c.clean);
  wsabi_loop_free(loop);
}

/* A child may have loops of its own. */
static void a_loop_made_by_the_child(void) {
  int status;
  pid_t child = fork();
  if (child == 0) {
    struct side s = {0}, c = {0};
    wsabi_loop *loop = start_pair(&s, &c);
    CHECK_OK(wsabi_conn_send_text(loop, c.conn, "child", 5));
    WAIT(loop, s.messages == 1);
    wsabi_loop_free(loop);
    _exit(check_failures == 0 ? 0 : 1);
  }
  CHECK(waitpid(child, &status, 0) == child);
  CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

int main(void) {
  RUN(the_childs_calls_are_refused);
  RUN(a_loop_made_by_the_child);
  return finish();
}
