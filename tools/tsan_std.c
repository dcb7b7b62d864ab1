/* What ThreadSanitizer has to be told of Rust's standard library, which comes compiled without it.
 *
 * Linked into programs under ThreadSanitizer only, by --wrap (tools/sanitizers.py). Both functions
 * say what std guarantees and the tool cannot see; neither silences a report.
 *
 * Does not know: anything of wsabi. */
#define JOIN_(a, b) a##b
#define JOIN(a, b) JOIN_(a, b)

void __tsan_acquire(void *address);

/* A mutex that is free is locked in code that the compiler inlines and instruments; one that is not,
 * in a function of std, LOCK_CONTENDED. When that returns, the lock is held: what the holder before
 * has done is seen. */
void JOIN(__real_, LOCK_CONTENDED)(void *mutex);
void JOIN(__wrap_, LOCK_CONTENDED)(void *mutex);
void JOIN(__wrap_, LOCK_CONTENDED)(void *mutex) {
  JOIN(__real_, LOCK_CONTENDED)(mutex);
  __tsan_acquire(mutex);
}

/* Who drops the last Arc sees what the others have done: by a fence, which the tool does not follow.
 * wsabi has no fetch_sub of its own, which the stronger order could make look right. */
typedef unsigned long long u64;
u64 __real___tsan_atomic64_fetch_sub(volatile u64 *value, u64 amount, int order);
u64 __wrap___tsan_atomic64_fetch_sub(volatile u64 *value, u64 amount, int order);
u64 __wrap___tsan_atomic64_fetch_sub(volatile u64 *value, u64 amount, int order) {
  if (order == __ATOMIC_RELEASE) order = __ATOMIC_ACQ_REL;
  return __real___tsan_atomic64_fetch_sub(value, amount, order);
}
