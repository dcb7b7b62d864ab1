/* Numbers of what is gone, or never was: the answer is "closed", always. */
#include "sides.h"

static wsabi_prepared *prepared;
static wsabi_message message;

static void expect_closed(wsabi_loop *loop, wsabi_conn conn) {
  wsabi_reached reached = {4711, 4711, 4711};
  wsabi_agreed agreed = {4711, 0, 0, 0, 0};
  wsabi_response response = {.struct_size = sizeof response, .status = 403};
  wsabi_server server = 4711;
  wsabi_str text = {"untouched", 9};
  uint64_t bytes = 4711;
  char peer[64] = "untouched";
  int value;
  CHECK_STATUS(wsabi_conn_accept(loop, conn, NULL), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_respond(loop, conn, &response), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_send_text(loop, conn, "x", 1), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_send_binary(loop, conn, "x", 1), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_send_fragment(loop, conn, WSABI_TEXT, "x", 1, 1), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_send_fragment_with(loop, conn, WSABI_TEXT, "x", 1, 1, 0), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_send(loop, conn, &message), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_send_prepared(loop, conn, prepared), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_deflate(loop, conn, &agreed), WSABI_E_CLOSED);
  CHECK_OK(wsabi_broadcast(loop, prepared, &conn, 1, &reached));
  CHECK(reached.sent == 0 && reached.refused == 0 && agreed.enabled == 4711);
  CHECK_STATUS(wsabi_conn_ping(loop, conn, "x", 1), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_pong(loop, conn, "x", 1), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_close(loop, conn, 1000, NULL, 0), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_terminate(loop, conn), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_pause(loop, conn), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_resume(loop, conn), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_flush(loop, conn), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_buffered(loop, conn, &bytes), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_set_user(loop, conn, &value), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_server(loop, conn, &server), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_subprotocol(loop, conn, &text), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_conn_peer(loop, conn, peer, sizeof peer, NULL), WSABI_E_CLOSED);
  CHECK_INT(wsabi_conn_state(loop, conn), WSABI_STATE_CLOSED);
  CHECK(wsabi_conn_user(loop, conn) == NULL);
  CHECK(bytes == 4711 && server == 4711 && text.len == 9 && strcmp(peer, "untouched") == 0);
}

/* Once open and closed, also when its slot has a new tenant. */
static void closed_connections(void) {
  enum { ROUNDS = 100 };
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  wsabi_client_options co = client_options(&c);
  wsabi_conn old[ROUNDS * 2];
  int i, k;
  for (i = 0; i < ROUNDS; i++) {
    old[2 * i] = c.conn;
    old[2 * i + 1] = s.conn;
    CHECK_OK(i % 2 ? wsabi_conn_terminate(loop, c.conn) : wsabi_conn_close(loop, s.conn, 1000, NULL, 0));
    WAIT(loop, c.closes == i + 1 && s.closes == i + 1);
    expect_closed(loop, old[2 * i]);
    expect_closed(loop, old[2 * i + 1]);
    start_client(&s, &c, "/", &co);
    WAIT(loop, c.opens == i + 2 && s.opens == i + 2);
    for (k = 0; k < 2 * (i + 1); k++) CHECK(old[k] != c.conn && old[k] != s.conn);
  }
  for (k = 0; k < 2 * ROUNDS; k++) expect_closed(loop, old[k]);
  CHECK_INT(wsabi_conn_state(loop, c.conn), WSABI_STATE_OPEN);
  CHECK_INT(wsabi_conn_state(loop, s.conn), WSABI_STATE_OPEN);
  CHECK_INT(s.messages + c.messages, 0);
  wsabi_loop_free(loop);
}

static void invented_numbers(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  uint64_t random = 88172645463325252u;
  unsigned bit;
  int i;
  expect_closed(loop, 0);
  expect_closed(loop, UINT64_MAX);
  /* Neighbours of the numbers in use, and numbers without any kinship. */
  for (bit = 0; bit < 64; bit++) {
    wsabi_conn near = c.conn ^ (uint64_t)1 << bit;
    if (near != s.conn) expect_closed(loop, near);
  }
  for (i = 0; i < 10000; i++) {
    random ^= random << 13, random ^= random >> 7, random ^= random << 17;
    if (random != s.conn && random != c.conn) expect_closed(loop, random);
  }
  CHECK_INT(wsabi_conn_state(loop, c.conn), WSABI_STATE_OPEN);
  wsabi_loop_free(loop);
}

static void expect_no_server(wsabi_loop *loop, wsabi_server server) {
  uint16_t port = 4711;
  char address[64];
  CHECK_STATUS(wsabi_server_port(loop, server, &port), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_server_address(loop, server, address, sizeof address, NULL), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_server_stop(loop, server, 0), WSABI_E_CLOSED);
  CHECK_STATUS(wsabi_server_broadcast(loop, server, prepared, 0, NULL), WSABI_E_CLOSED);
  CHECK_INT(port, 4711);
}

static void servers(void) {
  enum { ROUNDS = 50 };
  wsabi_loop *loop = new_loop();
  wsabi_server old[ROUNDS];
  int i, k;
  expect_no_server(loop, 0);
  expect_no_server(loop, UINT64_MAX);
  for (i = 0; i < ROUNDS; i++) {
    struct side s = {0};
    wsabi_server_options so = server_options(&s);
    start_server(loop, &s, &so);
    for (k = 0; k < i; k++) expect_no_server(loop, old[k]);
    old[i] = s.server;
    CHECK_OK(wsabi_server_stop(loop, s.server, 0));
    WAIT(loop, s.stops == 1);
    expect_no_server(loop, s.server);
  }
  wsabi_loop_free(loop);
}

/* Inside on_close the user pointer and the subprotocol still answer; afterwards nothing does. */
static void *user_in_close;
static int user_checked;
static void close_with_user(wsabi_loop *l, wsabi_conn c, const wsabi_close *close, void *user) {
  wsabi_str subprotocol;
  CHECK(wsabi_conn_user(l, c) == user_in_close);
  CHECK_OK(wsabi_conn_subprotocol(l, c, &subprotocol));
  CHECK(subprotocol.len == 0);
  CHECK_STATUS(wsabi_conn_send_text(l, c, "x", 1), WSABI_E_CLOSED);
  user_checked++;
  side_close(l, c, close, user);
}

static void user_pointers(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options so = server_options(&s);
  wsabi_client_options co = client_options(&c);
  int mine;
  so.handlers.on_close = close_with_user;
  start_server(loop, &s, &so);
  start_client(&s, &c, "/", &co);
  WAIT(loop, s.opens == 1 && c.opens == 1);
  CHECK_OK(wsabi_conn_set_user(loop, s.conn, &mine));
  CHECK(wsabi_conn_user(loop, s.conn) == &mine && wsabi_conn_user(loop, c.conn) == NULL);
  user_in_close = &mine;
  CHECK_OK(wsabi_conn_close(loop, c.conn, 1000, NULL, 0));
  WAIT(loop, s.closes == 1 && c.closes == 1);
  CHECK_INT(user_checked, 1);
  expect_closed(loop, s.conn);
  wsabi_loop_free(loop);
}

int main(void) {
  message.struct_size = sizeof message;
  message.type = WSABI_TEXT;
  message.data = "x";
  message.len = 1;
  CHECK_OK(wsabi_prepared_new(&message, &prepared));
  RUN(closed_connections);
  RUN(invented_numbers);
  RUN(servers);
  RUN(user_pointers);
  wsabi_prepared_free(prepared);
  return finish();
}
