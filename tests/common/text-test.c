// Text of strangers: a case is a row, what comes in and what a terminal is given.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>
#include "text.h"

static const struct {
  const char *given, *clean;
} rows[] = {
    {"plain, grün, 日本語, 🙂", "plain, grün, 日本語, 🙂"},
    {"one\r\ntwo\tthree\a\b", "one\ntwo\tthree"},
    {"\033[2J\033[1;31mred\033[0m", "red"},
    {"\033]0;title\atext", "text"},
    {"\033]0;title\033\\text", "text"},
    {"\033P1$r0m\033\\text", "text"},
    {"\033ctext", "ctext"},
    {"\033]never ends", "]never ends"},
    {"\033[12", "[12"},
    {"\033", ""},
    {"\302\2332J", "2J"}, // U+009B, a C1 control sequence introducer in UTF-8
    {"\2332J", "\xef\xbf\xbd"
               "2J"}, // and as a single byte
    {"a\xe2\x80\xae"
     "b",
     "ab"}, // U+202E, right-to-left override
    {"a\xe2\x81\xa6"
     "b\xe2\x81\xa9"
     "c",
     "abc"}, // U+2066 and U+2069, isolates
    {"a\xe2\x80\xa8"
     "b",
     "ab"}, // U+2028, line separator
    {"a\xf3\xa0\x81\x81"
     "b",
     "ab"}, // U+E0041, a tag
    {"\xc3", "\xef\xbf\xbd"},
    {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"}, // a surrogate
    {"\x7f", ""},
};

Test(text, clean) {
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
    char *clean = text_clean(rows[i].given, strlen(rows[i].given));
    cr_expect_str_eq(clean, rows[i].clean, "row %zu: %s", i, clean);
    cr_expect_eq(text_all_plain(rows[i].given), strcmp(rows[i].given, rows[i].clean) == 0, "row %zu", i);
    free(clean);
  }
}

Test(text, nul_bytes_go) {
  char *clean = text_clean("a\0b", 3);
  cr_expect_str_eq(clean, "ab");
  free(clean);
}

// Whatever comes in, what comes out is UTF-8 and plain but for new lines and tabs.
Test(text, random_bytes) {
  srandom(3);
  for (int round = 0; round < 20000; round++) {
    char bytes[40], *clean;
    size_t size = (size_t)random() % sizeof bytes;
    for (size_t i = 0; i < size; i++)
      bytes[i] = (char)(random() % 3 ? random() : "\033[]P\\\302\342\200"[random() % 8]);
    clean = text_clean(bytes, size);
    for (char *c = clean; *c; c++)
      if (*c == '\n' || *c == '\t') *c = ' ';
    cr_assert(text_all_plain(clean), "round %d", round);
    free(clean);
  }
}
