/* Payloads, for the drivers in C and C++: they come from files and are told by their CRC-32, that
 * of zlib and PNG. */
#ifndef MATRIX_PAYLOAD_H
#define MATRIX_PAYLOAD_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct {
  char *data;
  size_t len;
} payload;

/* Reads a whole file, to be freed; 0 if that is not possible. */
static int read_payload(const char *name, payload *out) {
  FILE *file = fopen(name, "rb");
  long size = file != NULL && fseek(file, 0, SEEK_END) == 0 ? ftell(file) : -1;
  out->data = size < 0 ? NULL : (char *)malloc((size_t)size + 1);
  out->len = size < 0 ? 0 : (size_t)size;
  if (out->data != NULL) {
    rewind(file);
    if (fread(out->data, 1, out->len, file) != out->len) {
      free(out->data);
      out->data = NULL;
    }
  }
  if (file != NULL) fclose(file);
  return out->data != NULL;
}

static uint32_t crc32_of(const void *data, size_t len) {
  static uint32_t table[256];
  const unsigned char *at = (const unsigned char *)data;
  uint32_t crc = UINT32_MAX;
  if (table[1] == 0) {
    for (uint32_t i = 0; i < 256; i++) {
      uint32_t value = i;
      for (int bit = 0; bit < 8; bit++)
        value = (value & 1) != 0 ? (value >> 1) ^ UINT32_C(0xedb88320) : value >> 1;
      table[i] = value;
    }
  }
  for (size_t i = 0; i < len; i++) crc = (crc >> 8) ^ table[(crc ^ at[i]) & 0xff];
  return ~crc;
}

#endif
