/* Which names a member of the chat may have, and when two of them are the same. The letters of all
 * scripts are those of the C library's tables. */
#ifndef CHAT_NAMES_H
#define CHAT_NAMES_H

#include <locale.h>
#include <stddef.h>
#include <wctype.h>

#define NAME_CHARACTERS 20
#define FROM_CHARACTERS 16

/* Answers 0 if there is no locale for Unicode, so that letters are those of ASCII. */
static inline int know_letters(void) {
  static const char *const locales[] = {"C.UTF-8", "en_US.UTF-8", ""};
  size_t i;
  for (i = 0; i < sizeof locales / sizeof locales[0]; i++)
    if (setlocale(LC_CTYPE, locales[i]) != NULL && iswalpha(0x434)) return 1;
  return 0;
}

/* The character at *at of a text that is valid UTF-8. */
static inline wint_t next_character(const char **at) {
  unsigned char lead = (unsigned char)*(*at)++;
  wint_t c = lead < 0x80 ? lead : lead < 0xE0 ? lead & 0x1F : lead < 0xF0 ? lead & 0x0F : lead & 7;
  while (((unsigned char)**at & 0xC0) == 0x80) c = c << 6 | ((unsigned char)*(*at)++ & 0x3F);
  return c;
}

/* Marks belong to the letters of many scripts. Not those that spell a letter in a second way, or
 * are not seen: two names would look the same. */
static inline int is_mark(wint_t c) {
  return iswctype(c, wctype("combining")) && !(c >= 0x300 && c <= 0x36F) &&
         !(c >= 0xFE00 && c <= 0xFE0F) && c < 0xE0000;
}

/* Writes a name without cases, which are removed in both directions, since sigma has two lower
 * ones; a 0 follows. Answers 0 if the name is not allowed. */
static inline int fold_name(const char *name, size_t len, wint_t *folded) {
  const char *at = name, *end = at + len;
  size_t count = 0;
  while (at < end) {
    wint_t c = next_character(&at);
    if (count == NAME_CHARACTERS) return 0;
    if (!iswalnum(c) && c != '-' && c != '_' && c != '.' && !(count > 0 && is_mark(c))) return 0;
    folded[count++] = towlower(towupper(c));
  }
  folded[count] = 0;
  return count > 0;
}

/* Whether members may say that they speak from this. */
static inline int is_label(const char *from, size_t len) {
  const char *at = from, *end = at + len;
  size_t count = 0;
  for (; at < end; count++)
    if (!iswprint(next_character(&at))) return 0;
  return count <= FROM_CHARACTERS;
}

#endif
