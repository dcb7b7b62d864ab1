/* Masking (RFC 6455 §5.3), for the floor and the load generator. Does not know: frames. */
#ifndef BENCH_MASK_H
#define BENCH_MASK_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__x86_64__) && defined(__GLIBC__) && defined(__has_attribute)
#if __has_attribute(target_clones)
#define FOR_EACH_CPU __attribute__((target_clones("avx2", "default")))
#endif
#endif
#ifndef FOR_EACH_CPU
#define FOR_EACH_CPU
#endif

/* The key as it applies from payload byte `offset` on. */
static inline uint32_t key_at(uint32_t key, size_t offset)
{
    uint8_t bytes[4], turned[4];
    memcpy(bytes, &key, 4);
    for (size_t i = 0; i < 4; i++)
        turned[i] = bytes[(offset + i) & 3];
    memcpy(&key, turned, 4);
    return key;
}

typedef uint32_t mask_lanes __attribute__((vector_size(32)));

/* Applies the key to whole 64-byte blocks; see apply_mask. */
FOR_EACH_CPU static void apply_mask_blocks(uint8_t *to, const uint8_t *from, size_t n, uint32_t key)
{
    mask_lanes keys = {key, key, key, key, key, key, key, key};
    for (size_t i = 0; i < n; i += 64) {
        mask_lanes a, b;
        memcpy(&a, from + i, sizeof a);
        memcpy(&b, from + i + 32, sizeof b);
        a ^= keys;
        b ^= keys;
        memcpy(to + i, &a, sizeof a);
        memcpy(to + i + 32, &b, sizeof b);
    }
}

/* Writes n bytes of `from`, masked or unmasked, to `to`. They may overlap when to <= from. */
static inline void apply_mask(uint8_t *to, const uint8_t *from, size_t n, uint32_t key)
{
    if (n >= 128) {
        size_t blocks = n & ~(size_t)63;
        apply_mask_blocks(to, from, blocks, key);
        to += blocks;
        from += blocks;
        n -= blocks;
    }
    uint64_t wide = (uint64_t)key << 32 | key;
    for (; n >= 8; n -= 8, to += 8, from += 8) {
        uint64_t x;
        memcpy(&x, from, 8);
        x ^= wide;
        memcpy(to, &x, 8);
    }
    uint8_t bytes[4];
    memcpy(bytes, &key, 4);
    for (size_t i = 0; i < n; i++)
        to[i] = from[i] ^ bytes[i & 3];
}

#endif
