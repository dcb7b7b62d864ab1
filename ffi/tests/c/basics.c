/* Arguments: what is refused, by which words, and that nothing is written then. */
#include <limits.h>
#include <stddef.h>

#include "sides.h"

static wsabi_loop *const NO_LOOP = NULL;

static void names_of_statuses(void) {
  CHECK_STR(wsabi_status_name(WSABI_OK), "WSABI_OK");
  CHECK_STR(wsabi_status_name(WSABI_BACKPRESSURE), "WSABI_BACKPRESSURE");
  CHECK_STR(wsabi_status_name(WSABI_E_INVALID), "WSABI_E_INVALID");
  CHECK_STR(wsabi_status_name(WSABI_E_CLOSED), "WSABI_E_CLOSED");
  CHECK_STR(wsabi_status_name(WSABI_E_NO_MEMORY), "WSABI_E_NO_MEMORY");
  CHECK_STR(wsabi_status_name(WSABI_E_LOST), "WSABI_E_LOST");
  CHECK_STR(wsabi_status_name(WSABI_E_TOO_MANY_FRAGMENTS), "WSABI_E_TOO_MANY_FRAGMENTS");
  CHECK_STR(wsabi_status_name(WSABI_E_OVERLOADED), "WSABI_E_OVERLOADED");
  CHECK_STR(wsabi_status_name(WSABI_E_CLOSE_TIMEOUT), "WSABI_E_CLOSE_TIMEOUT");
  CHECK_STR(wsabi_status_name(WSABI_E_STOPPED), "WSABI_E_STOPPED");
  CHECK_STR(wsabi_status_name(4711), "WSABI_E_?");
  CHECK_STR(wsabi_status_name(INT32_MIN), "WSABI_E_?");
}

static void version(void) {
  unsigned major, minor, patch;
  CHECK(sscanf(wsabi_version_text(), "%u.%u.%u", &major, &minor, &patch) == 3);
  CHECK_INT(wsabi_version(), major << 16 | minor << 8 | patch);
}

static void struct_sizes(void) {
  struct {
    wsabi_loop_options options;
    uint64_t tail[4];
  } larger;
  wsabi_loop_options options = {.struct_size = 0};
  wsabi_loop *loop = (wsabi_loop *)&options;

  CHECK_INVALID(wsabi_loop_new(&options, &loop), "struct_size");
  CHECK(loop == (wsabi_loop *)&options);
  options.struct_size = sizeof(size_t) - 1;
  CHECK_INVALID(wsabi_loop_new(&options, &loop), "struct_size");
  options.struct_size = SIZE_MAX;
  CHECK_INVALID(wsabi_loop_new(&options, &loop), "struct_size");
  CHECK(loop == (wsabi_loop *)&options);

  /* A program built against a later header, that uses nothing of it. */
  memset(&larger, 0, sizeof larger);
  larger.options.struct_size = sizeof larger;
  CHECK_OK(wsabi_loop_new(&larger.options, &loop));
  wsabi_loop_free(loop);
  larger.tail[3] = (uint64_t)1 << 63;
  loop = NULL;
  CHECK_STATUS(wsabi_loop_new(&larger.options, &loop), WSABI_E_UNSUPPORTED);
  CHECK(strstr(wsabi_last_error(), "wsabi_loop_options") != NULL);
  CHECK(loop == NULL);

  /* A program built against an earlier header: what lies behind its struct is not read. */
  options.struct_size = offsetof(wsabi_loop_options, log_level);
  options.log_level = 4711;
  options.max_events = UINT32_MAX;
  CHECK_OK(wsabi_loop_new(&options, &loop));
  wsabi_loop_free(loop);
}

static void earlier_server_options(void) {
  struct side s = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options o = server_options(&s);
  o.struct_size = offsetof(wsabi_server_options, origin_policy);
  o.origin_policy = 4711;
  o.reuse_port = 4711;
  start_server(loop, &s, &o);
  wsabi_loop_free(loop);
}

static void null_loop(void) {
  char buf[8];
  uint32_t more = 7;
  uint16_t port = 7;
  uint64_t number = 7;
  size_t len = 7;
  wsabi_str str = {"x", 1};
  wsabi_stats stats;
  wsabi_server_options so = {.struct_size = sizeof so};

  CHECK_INVALID(wsabi_loop_new(NULL, NULL), "out");
  wsabi_loop_free(NULL);
  CHECK_INT(wsabi_loop_fd(NO_LOOP), -1);
  CHECK_INT(wsabi_loop_timeout_ms(NO_LOOP), -1);
  CHECK_INVALID(wsabi_loop_dispatch(NO_LOOP, &more), "loop");
  CHECK_INVALID(wsabi_loop_poll(NO_LOOP, 0), "loop");
  CHECK_INVALID(wsabi_loop_run(NO_LOOP), "loop");
  CHECK_INVALID(wsabi_loop_stop(NO_LOOP), "loop");
  CHECK_INVALID(wsabi_loop_post(NO_LOOP, NULL, NULL, NULL), "loop");
  CHECK_INVALID(wsabi_loop_defer(NO_LOOP, 1), "loop");
  CHECK_INVALID(wsabi_loop_flush(NO_LOOP), "loop");
  CHECK_INVALID(wsabi_loop_stats(NO_LOOP, &stats, sizeof stats), "loop");
  CHECK_INVALID(wsabi_listen(NO_LOOP, &so, &number), "loop");
  CHECK_INVALID(wsabi_server_port(NO_LOOP, 1, &port), "loop");
  CHECK_INVALID(wsabi_server_address(NO_LOOP, 1, buf, sizeof buf, &len), "loop");
  CHECK_INVALID(wsabi_server_stop(NO_LOOP, 1, 0), "loop");
  CHECK_INVALID(wsabi_connect(NO_LOOP, "ws://localhost", NULL, &number), "loop");
  CHECK_INVALID(wsabi_conn_accept(NO_LOOP, 1, NULL), "loop");
  CHECK_INVALID(wsabi_conn_respond(NO_LOOP, 1, NULL), "loop");
  CHECK_INVALID(wsabi_conn_send_text(NO_LOOP, 1, "x", 1), "loop");
  CHECK_INVALID(wsabi_conn_send_binary(NO_LOOP, 1, "x", 1), "loop");
  CHECK_INVALID(wsabi_conn_send_fragment(NO_LOOP, 1, WSABI_TEXT, "x", 1, 1), "loop");
  CHECK_INVALID(wsabi_conn_ping(NO_LOOP, 1, "x", 1), "loop");
  CHECK_INVALID(wsabi_conn_pong(NO_LOOP, 1, "x", 1), "loop");
  CHECK_INVALID(wsabi_conn_close(NO_LOOP, 1, 1000, NULL, 0), "loop");
  CHECK_INVALID(wsabi_conn_terminate(NO_LOOP, 1), "loop");
  CHECK_INVALID(wsabi_conn_pause(NO_LOOP, 1), "loop");
  CHECK_INVALID(wsabi_conn_resume(NO_LOOP, 1), "loop");
  CHECK_INVALID(wsabi_conn_flush(NO_LOOP, 1), "loop");
  CHECK_INVALID(wsabi_conn_buffered(NO_LOOP, 1, &number), "loop");
  CHECK_INT(wsabi_conn_state(NO_LOOP, 1), WSABI_STATE_CLOSED);
  CHECK_INVALID(wsabi_conn_set_user(NO_LOOP, 1, buf), "loop");
  CHECK(wsabi_conn_user(NO_LOOP, 1) == NULL);
  CHECK_INVALID(wsabi_conn_server(NO_LOOP, 1, &number), "loop");
  CHECK_INVALID(wsabi_conn_subprotocol(NO_LOOP, 1, &str), "loop");
  CHECK_INVALID(wsabi_conn_peer(NO_LOOP, 1, buf, sizeof buf, &len), "loop");
  CHECK(more == 7 && port == 7 && number == 7 && str.len == 1);
}

static void null_handshake(void) {
  wsabi_header header;
  wsabi_str str;
  CHECK_INT(wsabi_handshake_method(NULL).len, 0);
  CHECK_INT(wsabi_handshake_target(NULL).len, 0);
  CHECK_INT(wsabi_handshake_path(NULL).len, 0);
  CHECK_INT(wsabi_handshake_query(NULL).len, 0);
  CHECK_INT(wsabi_handshake_status(NULL), 0);
  CHECK(wsabi_handshake_header(NULL, "Host").data == NULL);
  CHECK_INT(wsabi_handshake_header_count(NULL), 0);
  CHECK_INT(wsabi_handshake_subprotocol_count(NULL), 0);
  CHECK_INVALID(wsabi_handshake_header_at(NULL, 0, &header), "h");
  CHECK_INVALID(wsabi_handshake_subprotocol_at(NULL, 0, &str), "h");
}

static void null_arguments(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  wsabi_stats stats;
  char small[4];
  size_t len = 0;

  CHECK_INVALID(wsabi_loop_post(loop, NULL, NULL, NULL), "call");
  CHECK_INVALID(wsabi_loop_stats(loop, NULL, sizeof stats), "out");
  CHECK_INVALID(wsabi_listen(loop, NULL, &s.server), "options");
  CHECK_INVALID(wsabi_server_port(loop, s.server, NULL), "out");
  CHECK_INVALID(wsabi_server_address(loop, s.server, NULL, 10, &len), "buf");
  CHECK_INVALID(wsabi_server_address(loop, s.server, small, sizeof small, &len), "size");
  CHECK(len >= strlen("127.0.0.1:1"));
  CHECK_INVALID(wsabi_connect(loop, NULL, NULL, &c.conn), "url");
  CHECK_INVALID(wsabi_conn_respond(loop, c.conn, NULL), "response");
  CHECK_INVALID(wsabi_conn_send_text(loop, c.conn, NULL, 1), "data");
  CHECK_INVALID(wsabi_conn_send_binary(loop, c.conn, NULL, 1), "data");
  CHECK_INVALID(wsabi_conn_send_fragment(loop, c.conn, WSABI_BINARY, NULL, 1, 1), "data");
  CHECK_INVALID(wsabi_conn_ping(loop, c.conn, NULL, 1), "data");
  CHECK_INVALID(wsabi_conn_pong(loop, c.conn, NULL, 1), "data");
  CHECK_INVALID(wsabi_conn_close(loop, c.conn, 1000, NULL, 1), "reason");
  CHECK_INVALID(wsabi_conn_buffered(loop, c.conn, NULL), "out");
  CHECK_INVALID(wsabi_conn_server(loop, c.conn, NULL), "out");
  CHECK_INVALID(wsabi_conn_subprotocol(loop, c.conn, NULL), "out");
  CHECK_INVALID(wsabi_conn_peer(loop, c.conn, NULL, 10, &len), "buf");
  CHECK_INT(wsabi_conn_state(loop, c.conn), WSABI_STATE_OPEN);
  CHECK_OK(wsabi_conn_send_text(loop, c.conn, NULL, 0));
  WAIT(loop, s.messages == 1);
  CHECK_INT(s.len, 0);
  wsabi_loop_free(loop);
}

static void refused_to_send(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  char text[126];
  memset(text, 'x', sizeof text);

  CHECK_INVALID(wsabi_conn_send_text(loop, c.conn, "\xc3(", 2), "UTF-8");
  CHECK_INVALID(wsabi_conn_send_text(loop, c.conn, "\xed\xa0\x80", 3), "UTF-8");
  CHECK_INVALID(wsabi_conn_ping(loop, c.conn, text, 126), "125");
  CHECK_INVALID(wsabi_conn_pong(loop, c.conn, text, 126), "125");
  CHECK_INVALID(wsabi_conn_send_fragment(loop, c.conn, 3, "x", 1, 1), "type");
  CHECK_INVALID(wsabi_conn_send_fragment(loop, c.conn, 0, "x", 1, 1), "type");
  CHECK_INVALID(wsabi_conn_close(loop, c.conn, 1000, text, 124), "123");
  CHECK_INVALID(wsabi_conn_close(loop, c.conn, 1000, "\xff", 1), "UTF-8");
  CHECK_INVALID(wsabi_conn_close(loop, c.conn, 0, "x", 1), "reason");
  CHECK_INVALID(wsabi_conn_close(loop, c.conn, 999, NULL, 0), "code");
  CHECK_INVALID(wsabi_conn_close(loop, c.conn, 1004, NULL, 0), "code");
  CHECK_INVALID(wsabi_conn_close(loop, c.conn, 1005, NULL, 0), "code");
  CHECK_INVALID(wsabi_conn_close(loop, c.conn, 1006, NULL, 0), "code");
  CHECK_INVALID(wsabi_conn_close(loop, c.conn, 1015, NULL, 0), "code");
  CHECK_INVALID(wsabi_conn_close(loop, c.conn, 1016, NULL, 0), "code");
  CHECK_INVALID(wsabi_conn_close(loop, c.conn, 2999, NULL, 0), "code");
  CHECK_INVALID(wsabi_conn_close(loop, c.conn, 5000, NULL, 0), "code");
  CHECK_STATUS(wsabi_conn_accept(loop, c.conn, NULL), WSABI_E_STATE);

  /* Fragments of one message are of one type, and whole messages do not come between them. */
  CHECK_OK(wsabi_conn_send_fragment(loop, c.conn, WSABI_TEXT, "a", 1, 0));
  CHECK_STATUS(wsabi_conn_send_fragment(loop, c.conn, WSABI_BINARY, "b", 1, 1), WSABI_E_STATE);
  CHECK_STATUS(wsabi_conn_send_text(loop, c.conn, "b", 1), WSABI_E_STATE);
  CHECK_OK(wsabi_conn_send_fragment(loop, c.conn, WSABI_TEXT, "c", 1, 1));

  WAIT(loop, s.messages == 1);
  CHECK_STR(s.data, "ac");
  CHECK_INT(s.pings + s.pongs + s.closes, 0);
  wsabi_loop_free(loop);
}

static wsabi_loop *the_loop;
static wsabi_server a_server;
static wsabi_conn a_conn;

#define LISTEN_ANSWERS(status, words, change)                          \
  do {                                                                 \
    static struct side side_; /* Outlives a call that wrongly succeeds. */ \
    wsabi_server_options o = server_options(&side_);                   \
    change;                                                            \
    a_server = 4711;                                                   \
    CHECK_STATUS(wsabi_listen(the_loop, &o, &a_server), status);       \
    CHECK(strstr(wsabi_last_error(), words) != NULL);                  \
    CHECK_INT(a_server, 4711);                                         \
  } while (0)
#define LISTEN_REFUSES(field, change) LISTEN_ANSWERS(WSABI_E_INVALID, field, change)

static void refused_to_listen(void) {
  static const char *not_tokens[] = {"a b"};
  static const char *empty[] = {""};
  static const char *nothing[] = {NULL};
  static const char *twice[] = {"chat", "chat"};
  static const char *not_origins[] = {"https://example.com/path"};
  char long_path[200];
  memset(long_path, 'x', sizeof long_path);
  long_path[sizeof long_path - 1] = '\0';
  the_loop = new_loop();
  LISTEN_ANSWERS(WSABI_E_RESOLVE, "not a host", o.host = "not a host");
  LISTEN_ANSWERS(WSABI_E_LISTEN, "xxx", (o.host = NULL, o.unix_path = long_path));
  LISTEN_ANSWERS(WSABI_E_UNSUPPORTED, "handlers", o.handlers.reserved[2] = &o);
  LISTEN_REFUSES("subprotocol", (o.subprotocols = not_tokens, o.subprotocol_count = 1));
  LISTEN_REFUSES("subprotocol", (o.subprotocols = empty, o.subprotocol_count = 1));
  LISTEN_REFUSES("subprotocol", (o.subprotocols = nothing, o.subprotocol_count = 1));
  LISTEN_REFUSES("subprotocol", (o.subprotocols = twice, o.subprotocol_count = 2));
  LISTEN_REFUSES("subprotocol", o.subprotocol_count = 1);
  LISTEN_REFUSES("origin_policy", o.origin_policy = 3);
  LISTEN_REFUSES("origin", (o.origin_policy = WSABI_ORIGIN_LIST, o.origins = not_origins,
                             o.origin_count = 1));
  LISTEN_REFUSES("origin", (o.origin_policy = WSABI_ORIGIN_LIST, o.origin_count = 1));
  LISTEN_REFUSES("unix_path", o.unix_path = "beside a host");
  LISTEN_REFUSES("reserved", o.reserved16[1] = 1);
  LISTEN_REFUSES("reuse_port", o.reuse_port = 2);
  LISTEN_REFUSES("no_delay_off", o.no_delay_off = 2);
  LISTEN_REFUSES("low_water_bytes", (o.limits.low_water_bytes = 2000, o.limits.high_water_bytes = 1000));
  LISTEN_REFUSES("struct_size", o.struct_size = 0);
  wsabi_loop_free(the_loop);
}

#define CONNECT_REFUSES(field, url, change)                            \
  do {                                                                 \
    static struct side side_; /* Outlives a call that wrongly succeeds. */ \
    wsabi_client_options o = client_options(&side_);                   \
    change;                                                            \
    a_conn = 4711;                                                     \
    CHECK_INVALID(wsabi_connect(the_loop, url, &o, &a_conn), field);   \
    CHECK_INT(a_conn, 4711);                                           \
  } while (0)
#define HEADER(n, v) \
  (h.name.data = n, h.name.len = sizeof n - 1, h.value.data = v, h.value.len = sizeof v - 1, \
   o.headers = &h, o.header_count = 1)

static void refused_to_connect(void) {
  static const char *not_tokens[] = {"chat", "no\r\nway"};
  static const char URL[] = "ws://127.0.0.1:9/";
  wsabi_header h;
  the_loop = new_loop();
  CONNECT_REFUSES("URL", "ftp://127.0.0.1/", (void)o);
  CONNECT_REFUSES("URL", "", (void)o);
  CONNECT_REFUSES("URL", "ws://", (void)o);
  CONNECT_REFUSES("URL", "ws://127.0.0.1:99999/", (void)o);
  CONNECT_REFUSES("URL", "ws://127.0.0.1/a\r\nb", (void)o);
  CONNECT_REFUSES("URL", "ws://127.0.0.1/#part", (void)o);
  CONNECT_REFUSES("subprotocol", URL, (o.subprotocols = not_tokens, o.subprotocol_count = 2));
  CONNECT_REFUSES("origin", URL, o.origin = "https://a\r\nX: y");
  CONNECT_REFUSES("header", URL, HEADER("X-A", "b\r\nX-C: d"));
  CONNECT_REFUSES("header", URL, HEADER("X-A", "b\nc"));
  CONNECT_REFUSES("header", URL, HEADER("X-A", "b\0c"));
  CONNECT_REFUSES("header", URL, HEADER("X A", "b"));
  CONNECT_REFUSES("header", URL, HEADER("", "b"));
  CONNECT_REFUSES("header", URL, HEADER("Sec-WebSocket-Key", "b"));
  CONNECT_REFUSES("header", URL, o.header_count = 1);
  CONNECT_REFUSES("on_upgrade", URL, o.handlers.on_upgrade = side_upgrade);
  CONNECT_REFUSES("on_http", URL, o.handlers.on_http = side_http);
  CONNECT_REFUSES("on_error", URL, o.handlers.on_error = side_error);
  CONNECT_REFUSES("on_stopped", URL, o.handlers.on_stopped = side_stopped);
  CONNECT_REFUSES("no_delay_off", URL, o.no_delay_off = 2);
  CONNECT_REFUSES("reserved", URL, o.reserved32 = 1);
  CONNECT_REFUSES("struct_size", URL, o.struct_size = 3);
  wsabi_loop_free(the_loop);
}

static void tls_is_not_there(void) {
  wsabi_loop *loop = new_loop();
  wsabi_conn conn = 4711;
  CHECK_STATUS(wsabi_connect(loop, "wss://127.0.0.1:9/", NULL, &conn), WSABI_E_UNSUPPORTED);
  CHECK_INT(conn, 4711);
  wsabi_loop_free(loop);
}

static void loop_options(void) {
  wsabi_loop_options o = {.struct_size = sizeof o};
  wsabi_loop *loop = NULL;
  o.log_level = 5;
  CHECK_INVALID(wsabi_loop_new(&o, &loop), "log_level");
  CHECK(loop == NULL);
}

static void listen_names_the_address(void) {
  struct side first = {0}, second = {0};
  wsabi_loop *loop = new_loop();
  wsabi_server_options o = server_options(&first);
  char port[16];
  start_server(loop, &first, &o);
  o = server_options(&second);
  o.port = first.port;
  snprintf(port, sizeof port, "127.0.0.1:%u", first.port);
  CHECK_STATUS(wsabi_listen(loop, &o, &second.server), WSABI_E_LISTEN);
  CHECK(strstr(wsabi_last_error(), port) != NULL);
  CHECK_INT(second.server, 0);
  wsabi_loop_free(loop);
}

static void stats_of_an_earlier_header(void) {
  wsabi_loop *loop = new_loop();
  wsabi_stats stats;
  memset(&stats, 0x5a, sizeof stats);
  CHECK_OK(wsabi_loop_stats(loop, &stats, offsetof(wsabi_stats, bytes_received)));
  CHECK_INT(stats.connections, 0);
  CHECK(stats.bytes_received == 0x5a5a5a5a5a5a5a5a);
  wsabi_loop_free(loop);
}

int main(void) {
  RUN(names_of_statuses);
  RUN(version);
  RUN(struct_sizes);
  RUN(earlier_server_options);
  RUN(null_loop);
  RUN(null_handshake);
  RUN(null_arguments);
  RUN(refused_to_send);
  RUN(refused_to_listen);
  RUN(refused_to_connect);
  RUN(tls_is_not_there);
  RUN(loop_options);
  RUN(listen_names_the_address);
  RUN(stats_of_an_earlier_header);
  return finish();
}
