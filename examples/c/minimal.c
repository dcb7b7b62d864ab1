/* An echo server in its shortest form.
 * cc minimal.c $(pkg-config --cflags --libs wsabi) -o minimal && ./minimal 8080 */
#include <stdio.h>
#include <stdlib.h>
#include <wsabi.h>

static void on_message(wsabi_loop *loop, wsabi_conn conn, const wsabi_message *message,
                       void *user) {
  (void)user;
  if (message->type == WSABI_TEXT)
    wsabi_conn_send_text(loop, conn, (const char *)message->data, message->len);
  else
    wsabi_conn_send_binary(loop, conn, message->data, message->len);
}

int main(int argc, char **argv) {
  wsabi_loop *loop;
  wsabi_server server;
  wsabi_server_options options = {.struct_size = sizeof options};
  char address[64];
  options.host = "127.0.0.1";
  options.port = argc > 1 ? (uint16_t)atoi(argv[1]) : 8080;
  options.handlers.on_message = on_message;
  if (wsabi_loop_new(NULL, &loop) < 0 || wsabi_listen(loop, &options, &server) < 0 ||
      wsabi_server_address(loop, server, address, sizeof address, NULL) < 0) {
    fprintf(stderr, "minimal: %s\n", wsabi_last_error());
    return 1;
  }
  printf("listening on ws://%s\n", address);
  fflush(stdout);
  return wsabi_loop_run(loop) < 0;
}
