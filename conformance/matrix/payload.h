/* Payloads, for the drivers in C and C++: they come from files, and are told by their CRC-32. */
#ifndef MATRIX_PAYLOAD_H
#define MATRIX_PAYLOAD_H

#include <stdio.h>
#include <stdlib.h>

#include "crc32.h"

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

#endif
