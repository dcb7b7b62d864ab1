/* Messages of one size, built and masked beforehand, one after another in memory: a run of frames
 * that wraps around is contiguous too, because the first ones stand again behind the last.
 * Does not know: sockets, connections. */
#ifndef BENCH_RING_H
#define BENCH_RING_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mask.h"

/* Small enough to stay in the client's cache, many enough that an echo out of order is noticed. */
enum { RING_BYTES = 256 * 1024, RING_MIN = 4, RING_MAX = 256 };

struct ring {
    size_t size;        /* payload bytes of a message */
    size_t frame_bytes; /* of a masked frame */
    uint32_t count;     /* distinct messages */
    uint8_t *frames;    /* count frames, then copies of the first ones */
    uint8_t *payloads;  /* count payloads, not masked */
    uint8_t header[10]; /* of every echo: FIN, opcode, shortest length */
    uint8_t header_bytes;
};

static uint64_t random_state = 0x9E3779B97F4A7C15;

/* xorshift64*: repeatable, and good enough for keys that only have to vary. */
static uint64_t random_bits(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return random_state * 0x2545F4914F6CDD1D;
}

/* Fills n bytes with valid UTF-8: words of one to four byte characters, none cut at the end. */
static void fill_text(uint8_t *p, size_t n)
{
    static const char *const characters[] = {"e", "t", "a", "o", " ", "n", "\xC3\xA9", "r",
                                             "\xE8\xAA\x9E", "s", "\xE2\x82\xAC", "i", " ", "l",
                                             "\xF0\x9F\x98\x80", "d"};
    while (n > 0) {
        const char *next = characters[random_bits() >> 60];
        size_t bytes = strlen(next);
        if (bytes > n) {
            next = "x";
            bytes = 1;
        }
        memcpy(p, next, bytes);
        p += bytes;
        n -= bytes;
    }
}

static void fill_binary(uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t)(random_bits() >> 56);
}

static void write_frame_header(uint8_t *header, uint8_t bytes, uint8_t opcode, size_t size)
{
    header[0] = 0x80 | opcode;
    header[1] = bytes == 2 ? (uint8_t)size : bytes == 4 ? 126 : 127;
    for (int i = bytes - 1; i >= 2; i--, size >>= 8)
        header[i] = (uint8_t)size;
}

/* Builds the ring for messages of `size` bytes, up to `run` of which are sent in one go.
 * False: out of memory. */
static bool build_ring(struct ring *r, size_t size, uint32_t run, bool text)
{
    r->size = size;
    r->header_bytes = size < 126 ? 2 : size < 65536 ? 4 : 10;
    r->frame_bytes = r->header_bytes + 4 + size;
    size_t count = RING_BYTES / r->frame_bytes;
    r->count = count < RING_MIN ? RING_MIN : count > RING_MAX ? RING_MAX : (uint32_t)count;
    r->frames = calloc((size_t)r->count + run, r->frame_bytes);
    r->payloads = calloc(r->count, size ? size : 1);
    if (!r->frames || !r->payloads)
        return false;
    write_frame_header(r->header, r->header_bytes, text ? 0x1 : 0x2, size);

    for (uint32_t i = 0; i < r->count; i++) {
        uint8_t *payload = r->payloads + i * size;
        uint8_t *frame = r->frames + i * r->frame_bytes;
        uint32_t key = (uint32_t)(random_bits() >> 32);
        if (text)
            fill_text(payload, size);
        else
            fill_binary(payload, size);
        memcpy(frame, r->header, r->header_bytes);
        frame[1] |= 0x80;
        memcpy(frame + r->header_bytes, &key, 4);
        apply_mask(frame + r->header_bytes + 4, payload, size, key);
    }
    for (uint32_t i = 0; i < run; i++)
        memcpy(r->frames + (r->count + i) * r->frame_bytes,
               r->frames + i % r->count * r->frame_bytes, r->frame_bytes);
    return true;
}

#endif
