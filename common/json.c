// See json.h. The reader is a loop over tokens with an explicit stack of open containers; what may come
// next is one of a few states, so that no input makes it recurse or guess.
#include "json.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "text.h"

typedef struct Reader {
  const uint8_t *text;
  uint32_t size, at;
  JsonNode *nodes;
  uint32_t count, capacity;
  uint32_t open[JSON_DEPTH_MAX]; // containers we are inside of
  uint32_t depth;
} Reader;

// What the grammar allows next.
typedef enum Expect {
  EXPECT_VALUE,
  EXPECT_VALUE_OR_END, // after '['
  EXPECT_KEY,
  EXPECT_KEY_OR_END, // after '{'
  EXPECT_COMMA_OR_END,
  EXPECT_NOTHING,
} Expect;

static int add_node(Reader *reader, JsonType type, uint32_t start, uint32_t end) {
  if (reader->count == JSON_NODES_MAX) return -E2BIG;
  if (reader->count == reader->capacity) {
    uint32_t capacity = reader->capacity ? reader->capacity * 2 : 16;
    JsonNode *grown = realloc(reader->nodes, capacity * sizeof *grown);
    if (!grown) return -ENOMEM;
    reader->nodes = grown;
    reader->capacity = capacity;
  }
  reader->nodes[reader->count] = (JsonNode){type, start, end, reader->count + 1};
  reader->count++;
  return 0;
}

static void skip_space(Reader *reader) {
  while (reader->at < reader->size && strchr(" \t\r\n", reader->text[reader->at]) && reader->text[reader->at])
    reader->at++;
}

// Four hexadecimal digits, or -1.
static int32_t hex4(const uint8_t *text, size_t size) {
  int32_t value = 0;
  if (size < 4) return -1;
  for (int i = 0; i < 4; i++) {
    uint8_t c = text[i];
    int digit = c >= '0' && c <= '9' ? c - '0' : (c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1;
    if (digit < 0) return -1;
    value = value << 4 | digit;
  }
  return value;
}

// Decodes the escape behind a backslash: its code point in *ret_code, the length it took, 0 if invalid.
static size_t read_escape(const uint8_t *text, size_t size, uint32_t *ret_code) {
  static const char names[] = "\"\\/bfnrt", values[] = "\"\\/\b\f\n\r\t";
  if (size < 1 || !text[0]) return 0;
  const char *name = strchr(names, text[0]);
  if (name) return *ret_code = (uint8_t)values[name - names], 1;
  if (text[0] != 'u') return 0;
  int32_t high = hex4(text + 1, size - 1);
  if (high <= 0 || (high >= 0xdc00 && high <= 0xdfff)) return 0; // NUL ends C strings: refused
  *ret_code = (uint32_t)high;
  if (high < 0xd800 || high > 0xdbff) return 5;
  if (size < 11 || text[5] != '\\' || text[6] != 'u') return 0;
  int32_t low = hex4(text + 7, size - 7);
  if (low < 0xdc00 || low > 0xdfff) return 0;
  *ret_code = 0x10000 + (((uint32_t)high - 0xd800) << 10) + ((uint32_t)low - 0xdc00);
  return 11;
}

static int read_string(Reader *reader) {
  uint32_t start = ++reader->at, code;
  while (reader->at < reader->size) {
    const uint8_t *here = reader->text + reader->at;
    size_t left = reader->size - reader->at, taken;
    if (*here == '"') return reader->at++, add_node(reader, JSON_STRING, start, reader->at - 1);
    if (*here < 0x20) return -EINVAL;
    if (*here == '\\')
      taken = read_escape(here + 1, left - 1, &code), taken += taken != 0;
    else
      taken = text_utf8_length(here, left);
    if (!taken) return -EINVAL;
    reader->at += (uint32_t)taken;
  }
  return -EINVAL;
}

static uint32_t skip_digits(Reader *reader) {
  uint32_t start = reader->at;
  while (reader->at < reader->size && reader->text[reader->at] >= '0' && reader->text[reader->at] <= '9') reader->at++;
  return reader->at - start;
}

static bool skip_one_of(Reader *reader, const char *set) {
  if (reader->at >= reader->size || !reader->text[reader->at] || !strchr(set, reader->text[reader->at])) return false;
  reader->at++;
  return true;
}

static int read_number(Reader *reader) {
  uint32_t start = reader->at;
  skip_one_of(reader, "-");
  bool zero = reader->at < reader->size && reader->text[reader->at] == '0';
  uint32_t digits = skip_digits(reader);
  if (!digits || (zero && digits > 1)) return -EINVAL;
  if (skip_one_of(reader, ".") && !skip_digits(reader)) return -EINVAL;
  if (skip_one_of(reader, "eE")) {
    skip_one_of(reader, "+-");
    if (!skip_digits(reader)) return -EINVAL;
  }
  return add_node(reader, JSON_NUMBER, start, reader->at);
}

static int read_word(Reader *reader) {
  static const struct {
    const char *text;
    JsonType type;
  } words[] = {{"null", JSON_NULL}, {"false", JSON_FALSE}, {"true", JSON_TRUE}};
  for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
    uint32_t length = (uint32_t)strlen(words[i].text);
    if (reader->size - reader->at < length || memcmp(reader->text + reader->at, words[i].text, length)) continue;
    reader->at += length;
    return add_node(reader, words[i].type, reader->at - length, reader->at);
  }
  return -EINVAL;
}

static Expect after_value(const Reader *reader) {
  return reader->depth ? EXPECT_COMMA_OR_END : EXPECT_NOTHING;
}

static int open_container(Reader *reader, JsonType type) {
  if (reader->depth == JSON_DEPTH_MAX) return -E2BIG;
  int r = add_node(reader, type, reader->at, reader->at);
  if (r < 0) return r;
  reader->open[reader->depth++] = reader->count - 1;
  reader->at++;
  return 0;
}

static int close_container(Reader *reader, uint8_t bracket) {
  JsonNode *node = &reader->nodes[reader->open[reader->depth - 1]];
  if (bracket != (node->type == JSON_OBJECT ? '}' : ']')) return -EINVAL;
  reader->at++;
  reader->depth--;
  node->end = reader->at;
  node->next = reader->count;
  return 0;
}

static int read_value(Reader *reader, Expect *ret_next) {
  uint8_t c = reader->text[reader->at];
  if (c == '{' || c == '[') {
    *ret_next = c == '{' ? EXPECT_KEY_OR_END : EXPECT_VALUE_OR_END;
    return open_container(reader, c == '{' ? JSON_OBJECT : JSON_ARRAY);
  }
  *ret_next = after_value(reader);
  if (c == '"') return read_string(reader);
  return c == '-' || (c >= '0' && c <= '9') ? read_number(reader) : read_word(reader);
}

static int read_key(Reader *reader, Expect *ret_next) {
  if (reader->text[reader->at] != '"') return -EINVAL;
  int r = read_string(reader);
  if (r < 0) return r;
  skip_space(reader);
  *ret_next = EXPECT_VALUE;
  return skip_one_of(reader, ":") ? 0 : -EINVAL;
}

static int read_comma(Reader *reader, Expect *ret_next) {
  if (!skip_one_of(reader, ",")) return -EINVAL;
  bool object = reader->nodes[reader->open[reader->depth - 1]].type == JSON_OBJECT;
  *ret_next = object ? EXPECT_KEY : EXPECT_VALUE;
  return 0;
}

static int read_next(Reader *reader, Expect *expect) {
  uint8_t c = reader->text[reader->at];
  bool may_end = *expect == EXPECT_VALUE_OR_END || *expect == EXPECT_KEY_OR_END || *expect == EXPECT_COMMA_OR_END;
  if (may_end && (c == '}' || c == ']')) {
    int r = close_container(reader, c);
    *expect = after_value(reader);
    return r;
  }
  if (*expect == EXPECT_NOTHING) return -EINVAL;
  if (*expect == EXPECT_COMMA_OR_END) return read_comma(reader, expect);
  if (*expect == EXPECT_KEY || *expect == EXPECT_KEY_OR_END) return read_key(reader, expect);
  return read_value(reader, expect);
}

int json_parse(JsonDocument *ret_document, const char *text, size_t size) {
  if (size > INT32_MAX) return -E2BIG;
  Reader reader = {.text = (const uint8_t *)text, .size = (uint32_t)size};
  Expect expect = EXPECT_VALUE;
  int r = 0;
  for (skip_space(&reader); r == 0 && reader.at < reader.size; skip_space(&reader)) r = read_next(&reader, &expect);
  if (r == 0 && expect != EXPECT_NOTHING) r = -EINVAL;
  if (r < 0) {
    free(reader.nodes);
    return r;
  }
  *ret_document = (JsonDocument){text, reader.nodes, reader.count};
  return 0;
}

void json_free(JsonDocument *document) {
  free(document->nodes);
  *document = (JsonDocument){0};
}

const JsonNode *json_first(const JsonDocument *document, const JsonNode *array) {
  if (!array || (array->type != JSON_ARRAY && array->type != JSON_OBJECT)) return NULL;
  const JsonNode *first = array + 1;
  return first < document->nodes + array->next ? first : NULL;
}

const JsonNode *json_next(const JsonDocument *document, const JsonNode *array, const JsonNode *element) {
  return element->next < array->next ? document->nodes + element->next : NULL;
}

const JsonNode *json_member(const JsonDocument *document, const JsonNode *object, const char *name) {
  const JsonNode *found = NULL, *value;
  if (!object || object->type != JSON_OBJECT) return NULL;
  for (const JsonNode *key = json_first(document, object); key; key = json_next(document, object, value)) {
    value = document->nodes + key->next;
    if (json_equals(document, key, name)) found = value;
  }
  return found;
}

bool json_equals(const JsonDocument *document, const JsonNode *node, const char *text) {
  if (!node || node->type != JSON_STRING) return false;
  size_t length = node->end - node->start;
  return length == strlen(text) && memcmp(document->text + node->start, text, length) == 0;
}

static char *put_utf8(char *to, uint32_t code) {
  static const uint8_t lead[] = {0, 0xc0, 0xe0, 0xf0};
  int more = code < 0x80 ? 0 : code < 0x800 ? 1 : code < 0x10000 ? 2 : 3;
  *to++ = (char)(lead[more] | code >> 6 * more);
  while (more--) *to++ = (char)(0x80 | ((code >> 6 * more) & 0x3f));
  return to;
}

int json_get_string(const JsonDocument *document, const JsonNode *node, char **ret_string) {
  if (!node || node->type != JSON_STRING) return -EINVAL;
  const uint8_t *from = (const uint8_t *)document->text + node->start;
  const uint8_t *end = (const uint8_t *)document->text + node->end;
  char *string = malloc((size_t)(end - from) + 1), *to = string; // decoding never lengthens
  if (!string) return -ENOMEM;
  while (from < end) {
    uint32_t code;
    if (*from != '\\') {
      *to++ = (char)*from++;
      continue;
    }
    from += 1 + read_escape(from + 1, (size_t)(end - from) - 1, &code);
    to = put_utf8(to, code);
  }
  *to = 0;
  *ret_string = string;
  return 0;
}

int json_get_integer(const JsonDocument *document, const JsonNode *node, int64_t *ret_value) {
  if (!node || node->type != JSON_NUMBER) return -EINVAL;
  const char *at = document->text + node->start, *end = document->text + node->end;
  bool negative = *at == '-';
  int64_t value = 0;
  for (at += negative; at < end; at++) {
    if (*at < '0' || *at > '9') return -ERANGE;
    int digit = *at - '0';
    if (__builtin_mul_overflow(value, 10, &value)) return -ERANGE;
    if (negative ? __builtin_sub_overflow(value, digit, &value) : __builtin_add_overflow(value, digit, &value))
      return -ERANGE;
  }
  *ret_value = value;
  return 0;
}

int json_get_boolean(const JsonDocument *document, const JsonNode *node, bool *ret_value) {
  if (!node || (node->type != JSON_TRUE && node->type != JSON_FALSE)) return -EINVAL;
  *ret_value = node->type == JSON_TRUE;
  return 0;
}

void json_get_text(const JsonDocument *document, const JsonNode *node, const char **ret_text, size_t *ret_size) {
  uint32_t quote = node->type == JSON_STRING;
  *ret_text = document->text + node->start - quote;
  *ret_size = node->end - node->start + 2 * quote;
}

// A comma is due unless something was just opened or named, or nothing was written yet.
static void put_comma(Buffer *buffer) {
  if (buffer->size && !strchr("{[:\n", buffer->data[buffer->size - 1])) buffer_append(buffer, ",", 1);
}

void json_open(Buffer *buffer, char bracket) {
  put_comma(buffer);
  buffer_append(buffer, &bracket, 1);
}

void json_close(Buffer *buffer, char bracket) {
  buffer_append(buffer, &bracket, 1);
}

void json_put_string(Buffer *buffer, const char *string) {
  const uint8_t *at = (const uint8_t *)string;
  size_t left = strlen(string);
  put_comma(buffer);
  buffer_append(buffer, "\"", 1);
  while (left) {
    size_t length = text_utf8_length(at, left);
    if (!length)
      buffer_append(buffer, "\xef\xbf\xbd", 3), length = 1;
    else if (*at == '"' || *at == '\\')
      buffer_printf(buffer, "\\%c", *at);
    else if (*at < 0x20)
      buffer_printf(buffer, "\\u%04x", *at);
    else
      buffer_append(buffer, at, length);
    at += length;
    left -= length;
  }
  buffer_append(buffer, "\"", 1);
}

void json_key(Buffer *buffer, const char *name) {
  json_put_string(buffer, name);
  buffer_append(buffer, ":", 1);
}

void json_put_integer(Buffer *buffer, int64_t value) {
  put_comma(buffer);
  buffer_printf(buffer, "%lld", (long long)value);
}

void json_put_boolean(Buffer *buffer, bool value) {
  put_comma(buffer);
  buffer_printf(buffer, "%s", value ? "true" : "false");
}

void json_member_string(Buffer *buffer, const char *name, const char *string) {
  json_key(buffer, name);
  json_put_string(buffer, string);
}

void json_member_integer(Buffer *buffer, const char *name, int64_t value) {
  json_key(buffer, name);
  json_put_integer(buffer, value);
}

void json_member_boolean(Buffer *buffer, const char *name, bool value) {
  json_key(buffer, name);
  json_put_boolean(buffer, value);
}

void json_member_strings(Buffer *buffer, const char *name, const char *const *strings) {
  json_key(buffer, name);
  json_open(buffer, '[');
  for (; strings && *strings; strings++) json_put_string(buffer, *strings);
  json_close(buffer, ']');
}
