/* The CRC-32 of zlib and PNG, by which drivers in C and C++ tell of messages. */
#ifndef MATRIX_CRC32_H
#define MATRIX_CRC32_H

#include <stddef.h>
#include <stdint.h>

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
