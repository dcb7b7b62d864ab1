/* Misuse on purpose, one kind for each argument: the tool that watches must report it. Each goes
 * wrong inside the library, so that its own code is seen to be watched, and not this program only. */
#include <pthread.h>
#include <stdatomic.h>

#include "sides.h"

/* A loop that nobody frees, and nobody can: its pointer is gone. */
static void __attribute__((noinline)) leak(void) {
  wsabi_loop *volatile loop = new_loop();
  loop = NULL;
  (void)loop;
}

/* A call to a loop that was freed. */
static void use_after_free(void) {
  wsabi_loop *loop = new_loop();
  wsabi_loop_free(loop);
  printf("%d\n", wsabi_loop_fd(loop));
}

/* A message that is said to be longer than it is. */
static void overflow(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  char *data = malloc(1000);
  memset(data, 'x', 1000);
  CHECK_OK(wsabi_conn_send_binary(loop, c.conn, data, 1001));
  free(data);
  wsabi_loop_free(loop);
}

/* A message of which a part was never written: the library judges whether it is UTF-8. */
static void uninitialised(void) {
  struct side s = {0}, c = {0};
  wsabi_loop *loop = start_pair(&s, &c);
  char *volatile data = malloc(1000);
  memset(data, 'x', 500);
  printf("%d\n", wsabi_conn_send_text(loop, c.conn, data, 1000));
  free(data);
  wsabi_loop_free(loop);
}

/* A message that, as far as anybody can tell, another thread is still writing. */
static char data_of_two[1000];
static atomic_int written;
static void *write_some(void *user) {
  (void)user;
  data_of_two[500] = 'x';
  atomic_store_explicit(&written, 1, memory_order_relaxed); /* Orders nothing. */
  return NULL;
}
static void race(void) {
  struct side s = {0}, c = {0};
  pthread_t thread;
  wsabi_loop *loop = start_pair(&s, &c);
  CHECK(pthread_create(&thread, NULL, write_some, NULL) == 0);
  while (!atomic_load_explicit(&written, memory_order_relaxed)) usleep(1000);
  CHECK_OK(wsabi_conn_send_binary(loop, c.conn, data_of_two, sizeof data_of_two));
  pthread_join(thread, NULL);
  wsabi_loop_free(loop);
}

int main(int argc, char **argv) {
  static const struct {
    const char *name;
    void (*act)(void);
  } ALL[] = {{"leak", leak}, {"use-after-free", use_after_free}, {"overflow", overflow},
             {"uninitialised", uninitialised}, {"race", race}};
  size_t i;
  for (i = 0; i < sizeof ALL / sizeof *ALL; i++)
    if (argc == 2 && strcmp(argv[1], ALL[i].name) == 0) {
      ALL[i].act();
      printf("did it: %s\n", ALL[i].name);
      return 0;
    }
  fprintf(stderr, "usage: planted leak|use-after-free|overflow|uninitialised|race\n");
  return 2;
}
