/* A host that is nothing but poll(2). */
#include "embed.h"

static void host_run(int fd, unsigned ms) {
  double end = now_s() + ms / 1e3;
  while (!embed_done()) {
    struct pollfd watched = {fd, POLLIN, 0};
    double left = end - now_s();
    if (left <= 0) return;
    CHECK(poll(&watched, 1, (int)(left * 1e3) + 1) >= 0);
    if (watched.revents != 0) embed_wake();
  }
}

int main(void) { return embed_main(); }
