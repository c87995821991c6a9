// See text.h.
#include "text.h"

#include <stdlib.h>
#include <string.h>

size_t text_utf8_length(const uint8_t *bytes, size_t size) {
  static const struct {
    uint8_t first_min, first_max, second_min, second_max, length;
  } forms[] = {
      {0x00, 0x7f, 0, 0, 1},       {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
      {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
      {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
  };
  for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
    if (bytes[0] < forms[i].first_min || bytes[0] > forms[i].first_max) continue;
    if (forms[i].length > size) return 0;
    if (forms[i].length == 1) return 1;
    if (bytes[1] < forms[i].second_min || bytes[1] > forms[i].second_max) return 0;
    for (size_t k = 2; k < forms[i].length; k++)
      if ((bytes[k] & 0xc0) != 0x80) return 0;
    return forms[i].length;
  }
  return 0;
}

static uint32_t decode(const uint8_t *bytes, size_t length) {
  if (length == 1) return bytes[0];
  uint32_t code = bytes[0] & (0x7fu >> length);
  for (size_t i = 1; i < length; i++) code = code << 6 | (bytes[i] & 0x3f);
  return code;
}

bool text_is_plain(uint32_t code) {
  static const struct {
    uint32_t first, last;
  } steering[] = {
      {0x00, 0x1f},       {0x7f, 0x9f},     // C0; DEL and C1
      {0x61c, 0x61c},     {0x200e, 0x200f}, // marks of direction
      {0x2028, 0x202e},                     // line and paragraph separators, embeddings and overrides
      {0x2066, 0x2069},                     // isolates
      {0xfeff, 0xfeff},   {0xfff9, 0xfffb}, // byte order mark; annotations
      {0xe0000, 0xe007f},                   // tags
  };
  for (size_t i = 0; i < sizeof steering / sizeof *steering; i++)
    if (code >= steering[i].first && code <= steering[i].last) return false;
  return true;
}

bool text_all_plain(const char *text) {
  const uint8_t *at = (const uint8_t *)text, *end = at + strlen(text);
  for (size_t length; at < end; at += length) {
    length = text_utf8_length(at, (size_t)(end - at));
    if (!length || !text_is_plain(decode(at, length))) return false;
  }
  return true;
}

// Bytes of the escape sequence at an ESC: a control sequence up to its final byte, or a command string (OSC, DCS, SOS,
// PM, APC) up to BEL or ST; 1, the ESC alone, for anything else or without an end.
static size_t escape_length(const uint8_t *at, size_t size) {
  size_t i = 2;
  if (size < 2) return 1;
  if (at[1] == '[') {
    while (i < size && at[i] >= 0x20 && at[i] <= 0x3f) i++;
    return i < size && at[i] >= 0x40 && at[i] <= 0x7e ? i + 1 : 1;
  }
  if (!strchr("]PX^_", at[1]) || !at[1]) return 1;
  for (; i < size && i < 4096; i++) {
    if (at[i] == '\a') return i + 1;
    if (at[i] == 0x1b) return i + 1 < size && at[i + 1] == '\\' ? i + 2 : 1;
  }
  return 1;
}

char *text_clean(const char *text, size_t size) {
  static const char replacement[] = "\xef\xbf\xbd";
  const uint8_t *at = (const uint8_t *)text, *end = at + size;
  char *clean = malloc(3 * size + 1), *to = clean; // a byte becomes at most U+FFFD
  if (!clean) return NULL;
  while (at < end) {
    size_t length = text_utf8_length(at, (size_t)(end - at));
    if (*at == 0x1b) {
      at += escape_length(at, (size_t)(end - at));
    } else if (!length) {
      memcpy(to, replacement, 3);
      to += 3;
      at++;
    } else {
      if (*at == '\n' || *at == '\t' || text_is_plain(decode(at, length))) {
        memcpy(to, at, length);
        to += length;
      }
      at += length;
    }
  }
  *to = 0;
  return clean;
}
