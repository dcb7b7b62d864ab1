/* glib as the host: g_unix_fd_add. */
#include <glib-unix.h>

#include "embed.h"

static gboolean on_readable(gint fd, GIOCondition condition, gpointer main_loop) {
  (void)fd;
  CHECK(condition == G_IO_IN);
  embed_wake();
  if (embed_done()) g_main_loop_quit(main_loop);
  return G_SOURCE_CONTINUE;
}

static gboolean on_timer(gpointer main_loop) {
  g_main_loop_quit(main_loop);
  return G_SOURCE_CONTINUE;
}

static void host_run(int fd, unsigned ms) {
  GMainLoop *main_loop = g_main_loop_new(NULL, FALSE);
  guint watch = g_unix_fd_add(fd, G_IO_IN, on_readable, main_loop);
  guint timer = g_timeout_add(ms, on_timer, main_loop);
  if (!embed_done()) g_main_loop_run(main_loop);
  g_source_remove(watch);
  g_source_remove(timer);
  g_main_loop_unref(main_loop);
}

int main(void) { return embed_main(); }
