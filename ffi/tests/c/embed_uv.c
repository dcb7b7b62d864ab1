/* libuv as the host: uv_poll_t. */
#include <uv.h>

#include "embed.h"

static void on_readable(uv_poll_t *handle, int status, int events) {
  CHECK(status == 0 && events == UV_READABLE);
  embed_wake();
  if (embed_done()) uv_stop(handle->loop);
}

static void on_timer(uv_timer_t *timer) { uv_stop(timer->loop); }

static void host_run(int fd, unsigned ms) {
  uv_loop_t uv;
  uv_poll_t watch;
  uv_timer_t timer;
  CHECK(uv_loop_init(&uv) == 0);
  CHECK(uv_poll_init(&uv, &watch, fd) == 0);
  CHECK(uv_timer_init(&uv, &timer) == 0);
  CHECK(uv_timer_start(&timer, on_timer, ms, 0) == 0);
  CHECK(uv_poll_start(&watch, UV_READABLE, on_readable) == 0);
  if (!embed_done()) uv_run(&uv, UV_RUN_DEFAULT);
  uv_close((uv_handle_t *)&watch, NULL);
  uv_close((uv_handle_t *)&timer, NULL);
  uv_run(&uv, UV_RUN_DEFAULT);
  CHECK(uv_loop_close(&uv) == 0);
}

int main(void) { return embed_main(); }
