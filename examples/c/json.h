/* JSON (RFC 8259) as far as the chat needs it, for C and C++.
 *
 * Reading: json_parse checks a whole text once, and what the other functions give are views into
 * it. Writing: commas come by themselves, and memory that runs out is remembered in `failed`. */
#ifndef CHAT_JSON_H
#define CHAT_JSON_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How deep arrays and objects may be inside of one another; deeper texts are refused. */
#define JSON_DEPTH 512

/* One value as it stands in a text that json_parse has checked; data is NULL if there is none. */
struct json {
  const char *data;
  size_t len;
};

/* --- Checking: each function answers where its value ends, or NULL if it is none. --- */

static inline const char *json_space(const char *at, const char *end) {
  while (at < end && (*at == ' ' || *at == '\t' || *at == '\n' || *at == '\r')) at++;
  return at;
}

static inline int json_hex(const char *at) {
  int value = 0, i;
  for (i = 0; i < 4; i++) {
    char c = at[i];
    int digit = c >= '0' && c <= '9'   ? c - '0'
                : c >= 'a' && c <= 'f' ? c - 'a' + 10
                : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                       : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

/* An escape behind its backslash. Half a surrogate pair is refused: it is no character, and UTF-8
 * has no form for it. */
static inline const char *json_check_escape(const char *at, const char *end) {
  int unit;
  if (at == end || *at == '\0') return NULL;
  if (*at != 'u') return strchr("\"\\/bfnrt", *at) == NULL ? NULL : at + 1;
  if (end - at < 5 || (unit = json_hex(at + 1)) < 0) return NULL;
  if (unit < 0xD800 || unit > 0xDFFF) return at + 5;
  if (unit > 0xDBFF || end - at < 11 || at[5] != '\\' || at[6] != 'u') return NULL;
  unit = json_hex(at + 7);
  return unit < 0xDC00 || unit > 0xDFFF ? NULL : at + 11;
}

static inline const char *json_check_string(const char *at, const char *end) {
  if (at == end || *at++ != '"') return NULL;
  while (at < end) {
    if (*at == '"') return at + 1;
    if ((unsigned char)*at < 0x20) return NULL;
    if (*at++ == '\\' && (at = json_check_escape(at, end)) == NULL) return NULL;
  }
  return NULL;
}

static inline const char *json_digits(const char *at, const char *end) {
  const char *start = at;
  while (at < end && *at >= '0' && *at <= '9') at++;
  return at > start ? at : NULL;
}

static inline const char *json_check_number(const char *at, const char *end) {
  if (at < end && *at == '-') at++;
  if (at < end && *at == '0')
    at++;
  else if ((at = json_digits(at, end)) == NULL)
    return NULL;
  if (at < end && *at == '.' && (at = json_digits(at + 1, end)) == NULL) return NULL;
  if (at == end || (*at != 'e' && *at != 'E')) return at;
  at++;
  if (at < end && (*at == '+' || *at == '-')) at++;
  return json_digits(at, end);
}

static inline const char *json_check_word(const char *at, const char *end, const char *word) {
  size_t len = strlen(word);
  return (size_t)(end - at) >= len && memcmp(at, word, len) == 0 ? at + len : NULL;
}

static inline const char *json_check(const char *at, const char *end, int depth) {
  int object;
  char close;
  if (at == end) return NULL;
  if (*at == '"') return json_check_string(at, end);
  if (*at == 't') return json_check_word(at, end, "true");
  if (*at == 'f') return json_check_word(at, end, "false");
  if (*at == 'n') return json_check_word(at, end, "null");
  if (*at != '{' && *at != '[') return json_check_number(at, end);
  if (depth == 0) return NULL;
  object = *at == '{';
  close = object ? '}' : ']';
  at = json_space(at + 1, end);
  if (at < end && *at == close) return at + 1;
  for (;;) {
    if (object) {
      if ((at = json_check_string(at, end)) == NULL) return NULL;
      at = json_space(at, end);
      if (at == end || *at != ':') return NULL;
      at = json_space(at + 1, end);
    }
    if ((at = json_check(at, end, depth - 1)) == NULL) return NULL;
    at = json_space(at, end);
    if (at == end) return NULL;
    if (*at == close) return at + 1;
    if (*at != ',') return NULL;
    at = json_space(at + 1, end);
  }
}

/* --- Reading --- */

/* Takes a text apart that is one value and nothing else. The answer's data is NULL if it is not. */
static inline struct json json_parse(const char *data, size_t len) {
  struct json value = {NULL, 0};
  const char *end = data + len, *start = json_space(data, end);
  const char *stop = json_check(start, end, JSON_DEPTH);
  if (stop == NULL || json_space(stop, end) != end) return value;
  value.data = start;
  value.len = (size_t)(stop - start);
  return value;
}

static inline int json_is(struct json value, char first) {
  return value.data != NULL && value.data[0] == first;
}

/* The value at a place of a checked text. */
static inline struct json json_at(const char *start, const char *end) {
  struct json value = {NULL, 0};
  const char *at = start;
  size_t depth = 0;
  do {
    if (*at == '"')
      at = json_check_string(at, end);
    else if (*at == '{' || *at == '[')
      depth++, at++;
    else if (*at == '}' || *at == ']')
      depth--, at++;
    else if (depth > 0)
      at++;
    else
      while (at < end && strchr(" \t\n\r,]}", *at) == NULL) at++;
  } while (depth > 0);
  value.data = start;
  value.len = (size_t)(at - start);
  return value;
}

/* Goes to the next item of an array, or member of an object, of which it tells the name too.
 * Starts where item->data is NULL. Answers 0 at the end, and at once for other values. */
static inline int json_next(struct json list, struct json *name, struct json *item) {
  const char *at, *end = list.data + list.len;
  if (!json_is(list, '{') && !json_is(list, '[')) return 0;
  at = json_space(item->data == NULL ? list.data + 1 : item->data + item->len, end);
  if (*at == ',') at = json_space(at + 1, end);
  if (*at == '}' || *at == ']') return 0;
  if (*list.data == '{') {
    *name = json_at(at, end);
    at = json_space(json_space(name->data + name->len, end) + 1, end);
  }
  *item = json_at(at, end);
  return 1;
}

static inline char *json_utf8(char *out, unsigned long c) {
  if (c < 0x80) {
    *out++ = (char)c;
    return out;
  }
  if (c < 0x800) {
    *out++ = (char)(0xC0 | c >> 6);
  } else {
    if (c < 0x10000) {
      *out++ = (char)(0xE0 | c >> 12);
    } else {
      *out++ = (char)(0xF0 | c >> 18);
      *out++ = (char)(0x80 | (c >> 12 & 0x3F));
    }
    *out++ = (char)(0x80 | (c >> 6 & 0x3F));
  }
  *out++ = (char)(0x80 | (c & 0x3F));
  return out;
}

/* The character of "uXXXX" at *at, or of a pair of them; *at goes to the last digit. */
static inline unsigned long json_escape(const char **at) {
  unsigned long high = (unsigned long)json_hex(*at + 1), low;
  *at += 4;
  if (high < 0xD800 || high > 0xDFFF) return high;
  low = (unsigned long)json_hex(*at + 3);
  *at += 6;
  return 0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00);
}

/* Copies the text of a string to out, and its length without the NUL behind it to len. Answers 0
 * if the value is no string, or longer in JSON than out may be; the text is never longer. */
static inline int json_text(struct json value, char *out, size_t size, size_t *len) {
  const char *at, *end;
  char *start = out;
  if (!json_is(value, '"') || value.len > size) return 0;
  end = value.data + value.len - 1;
  for (at = value.data + 1; at < end; at++) {
    if (*at != '\\') {
      *out++ = *at;
      continue;
    }
    switch (*++at) {
      case 'b': *out++ = '\b'; break;
      case 'f': *out++ = '\f'; break;
      case 'n': *out++ = '\n'; break;
      case 'r': *out++ = '\r'; break;
      case 't': *out++ = '\t'; break;
      case 'u': out = json_utf8(out, json_escape(&at)); break;
      default: *out++ = *at;
    }
  }
  *out = '\0';
  *len = (size_t)(out - start);
  return 1;
}

/* Tells whether a value is this string, of at most 20 characters. */
static inline int json_equals(struct json value, const char *text) {
  char copy[256];
  size_t len;
  return json_text(value, copy, sizeof copy, &len) && len == strlen(text) &&
         memcmp(copy, text, len) == 0;
}

/* The member of an object by its name, the last one if there are several; data is NULL if there is
 * none, or if the value is no object. */
static inline struct json json_get(struct json object, const char *wanted) {
  struct json name = {NULL, 0}, item = {NULL, 0}, found = {NULL, 0};
  if (!json_is(object, '{')) return found;
  while (json_next(object, &name, &item))
    if (json_equals(name, wanted)) found = item;
  return found;
}

/* The value of a number without fraction; 0 for what is none, or too large. */
static inline int64_t json_integer(struct json value) {
  char digits[20];
  if (value.data == NULL || value.len >= sizeof digits) return 0;
  memcpy(digits, value.data, value.len);
  digits[value.len] = '\0';
  return strtoll(digits, NULL, 10);
}

/* How many characters a text in UTF-8 has. */
static inline size_t json_characters(const char *text, size_t len) {
  size_t count = 0;
  while (len-- > 0) count += ((unsigned char)*text++ & 0xC0) != 0x80;
  return count;
}

/* --- Writing --- */

/* Starts as zeros; data belongs to who has made it, and goes to free(). */
struct json_writer {
  char *data;
  size_t len, size;
  int failed;
};

static inline void json_clear(struct json_writer *w) {
  w->len = 0;
  w->failed = 0;
}

static inline void json_put(struct json_writer *w, const char *data, size_t len) {
  if (len == 0) return;
  if (w->size - w->len < len) {
    size_t size = (w->len + len) * 2;
    char *grown = (char *)realloc(w->data, size);
    if (grown == NULL) {
      w->failed = 1;
      return;
    }
    w->data = grown;
    w->size = size;
  }
  memcpy(w->data + w->len, data, len);
  w->len += len;
}

/* Puts a value that is JSON already, after a comma if one is due. */
static inline void json_value(struct json_writer *w, const char *data, size_t len) {
  if (w->len > 0 && strchr("{[:", w->data[w->len - 1]) == NULL) json_put(w, ",", 1);
  json_put(w, data, len);
}

static inline void json_open(struct json_writer *w, const char *bracket) {
  json_value(w, bracket, 1);
}

static inline void json_close(struct json_writer *w, const char *bracket) {
  json_put(w, bracket, 1);
}

static inline void json_string(struct json_writer *w, const char *text, size_t len) {
  char escaped[8];
  size_t i, done = 0;
  json_value(w, "\"", 1);
  for (i = 0; i < len; i++) {
    unsigned char c = (unsigned char)text[i];
    if (c >= 0x20 && c != '"' && c != '\\') continue;
    json_put(w, text + done, i - done);
    done = i + 1;
    if (c >= 0x20)
      snprintf(escaped, sizeof escaped, "\\%c", c);
    else
      snprintf(escaped, sizeof escaped, "\\u%04x", (unsigned)c);
    json_put(w, escaped, strlen(escaped));
  }
  json_put(w, text + done, len - done);
  json_put(w, "\"", 1);
}

static inline void json_key(struct json_writer *w, const char *name) {
  json_string(w, name, strlen(name));
  json_put(w, ":", 1);
}

static inline void json_field(struct json_writer *w, const char *name, const char *text,
                              size_t len) {
  json_key(w, name);
  json_string(w, text, len);
}

static inline void json_number(struct json_writer *w, const char *name, int64_t number) {
  char digits[24];
  json_key(w, name);
  snprintf(digits, sizeof digits, "%lld", (long long)number);
  json_value(w, digits, strlen(digits));
}

#endif
