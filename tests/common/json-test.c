// The JSON reader and writer. A case is a row: a text, and what becomes of it.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "json.h"

static const struct {
  const char *text;
  int result;
} texts[] = {
    {"{}", 0},
    {" [ ] ", 0},
    {"{\"execute\":\"guest-ping\"}", 0},
    {"{\"a\":[1,-2,3.5e+7,true,false,null,\"x\"],\"b\":{}}", 0},
    {"\"\\u00e9\\ud83d\\ude00\\n\\/\"", 0},
    {"-0", 0},
    {"", -EINVAL},
    {"{", -EINVAL},
    {"}", -EINVAL},
    {"[1,]", -EINVAL},
    {"[,1]", -EINVAL},
    {"[1 2]", -EINVAL},
    {"{\"a\"}", -EINVAL},
    {"{\"a\":}", -EINVAL},
    {"{\"a\":1,}", -EINVAL},
    {"{a:1}", -EINVAL},
    {"{1:1}", -EINVAL},
    {"[}", -EINVAL},
    {"{]", -EINVAL},
    {"[1]]", -EINVAL},
    {"1 2", -EINVAL},
    {"01", -EINVAL},
    {"-", -EINVAL},
    {"1.", -EINVAL},
    {".5", -EINVAL},
    {"1e", -EINVAL},
    {"+1", -EINVAL},
    {"nul", -EINVAL},
    {"True", -EINVAL},
    {"\"open", -EINVAL},
    {"\"\\x\"", -EINVAL},
    {"\"\\u12\"", -EINVAL},
    {"\"\\u0000\"", -EINVAL},          // would end a C string
    {"\"\\ud83d\"", -EINVAL},          // half a surrogate pair
    {"\"\\ude00\\ud83d\"", -EINVAL},   // the wrong way round
    {"\"\t\"", -EINVAL},               // a control character
    {"\"\xc3\"", -EINVAL},             // UTF-8: truncated
    {"\"\xc0\x80\"", -EINVAL},         // overlong
    {"\"\xed\xa0\x80\"", -EINVAL},     // a surrogate
    {"\"\xf4\x90\x80\x80\"", -EINVAL}, // beyond U+10FFFF
};

Test(json, accepts_and_refuses) {
  for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
    JsonDocument document;
    int r = json_parse(&document, texts[i].text, strlen(texts[i].text));
    cr_expect(r == texts[i].result, "'%s' gives %d instead of %d", texts[i].text, r, texts[i].result);
    if (r == 0) json_free(&document);
  }
}

Test(json, embedded_nul_is_refused) {
  JsonDocument document;
  cr_expect(json_parse(&document, "[1]\0", 4) == -EINVAL);
  cr_expect(json_parse(&document, "\"\0\"", 3) == -EINVAL);
}

Test(json, depth_and_size_are_bounded) {
  char text[2 * JSON_NODES_MAX + 16];
  JsonDocument document;
  memset(text, '[', 2 * JSON_DEPTH_MAX);
  cr_expect(json_parse(&document, text, 2 * JSON_DEPTH_MAX) == -E2BIG);
  text[0] = '[';
  text[1] = '0';
  for (int i = 2; i < 2 * JSON_NODES_MAX + 8; i += 2) memcpy(text + i, ",1", 2);
  cr_expect(json_parse(&document, text, 2 * JSON_NODES_MAX + 8) == -E2BIG);
}

// Every prefix of a valid text is either refused or valid; none reads past its end (the sanitizer).
Test(json, prefixes_do_no_harm) {
  static const char text[] = "{\"a\\u00e9\":[1.5e3,{\"b\":\"\\ud83d\\ude00\xf0\x9f\x98\x80\"},true,null],\"c\":-7}";
  for (size_t size = 0; size < sizeof text - 1; size++) {
    char *copy = malloc(size ? size : 1);
    JsonDocument document;
    cr_assert(copy != NULL);
    memcpy(copy, text, size);
    cr_expect(json_parse(&document, copy, size) < 0, "a prefix of %zu bytes was accepted", size);
    free(copy);
  }
}

Test(json, random_bytes_do_no_harm) {
  static const char alphabet[] = "{}[]:,\"\\u0d8e19.-+ \ntruefalsnl\xc3\xa9\xf0\x9f\xff";
  unsigned seed = 1;
  for (int round = 0; round < 200000; round++) {
    char text[48];
    JsonDocument document;
    size_t size = (size_t)(rand_r(&seed) % (int)sizeof text);
    for (size_t i = 0; i < size; i++) text[i] = alphabet[(size_t)rand_r(&seed) % (sizeof alphabet - 1)];
    if (json_parse(&document, text, size) == 0) json_free(&document);
  }
}

Test(json, members_and_values) {
  static const char text[] =
      "{\"a\":1,\"s\":\"x\\u00e9\\ud83d\\ude00\\n\",\"list\":[10,[20],\"t\"],\"yes\":true,\"a\":2}";
  JsonDocument document;
  cr_assert(json_parse(&document, text, sizeof text - 1) == 0);
  const JsonNode *root = document.nodes, *list = json_member(&document, root, "list");
  int64_t number = 0;
  bool yes = false;
  char *string = NULL;
  cr_expect(json_get_integer(&document, json_member(&document, root, "a"), &number) == 0 && number == 2);
  cr_expect(json_get_boolean(&document, json_member(&document, root, "yes"), &yes) == 0 && yes);
  cr_assert(json_get_string(&document, json_member(&document, root, "s"), &string) == 0);
  cr_expect_str_eq(string, "x\xc3\xa9\xf0\x9f\x98\x80\n");
  free(string);
  cr_expect(json_member(&document, root, "none") == NULL && json_member(&document, list, "a") == NULL);
  int count = 0;
  for (const JsonNode *node = json_first(&document, list); node; node = json_next(&document, list, node)) count++;
  cr_expect(count == 3);
  json_free(&document);
}

static const struct {
  const char *text;
  int result;
  int64_t value;
} integers[] = {
    {"0", 0, 0},
    {"-1", 0, -1},
    {"9223372036854775807", 0, INT64_MAX},
    {"-9223372036854775808", 0, INT64_MIN},
    {"9223372036854775808", -ERANGE, 0},
    {"-9223372036854775809", -ERANGE, 0},
    {"1.0", -ERANGE, 0},
    {"1e3", -ERANGE, 0},
    {"\"1\"", -EINVAL, 0},
};

Test(json, integers) {
  for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
    JsonDocument document;
    int64_t value = 0;
    cr_assert(json_parse(&document, integers[i].text, strlen(integers[i].text)) == 0);
    int r = json_get_integer(&document, document.nodes, &value);
    cr_expect(r == integers[i].result && (r < 0 || value == integers[i].value), "%s", integers[i].text);
    json_free(&document);
  }
}

Test(json, writer_punctuates_and_escapes) {
  Buffer out = {0};
  json_open(&out, '{');
  json_member_string(&out, "s", "a\"\\\n\xff\xc3\xa9");
  json_member_integer(&out, "n", -5);
  json_key(&out, "l");
  json_open(&out, '[');
  json_put_integer(&out, 1);
  json_open(&out, '{');
  json_close(&out, '}');
  json_put_boolean(&out, true);
  json_close(&out, ']');
  json_member_boolean(&out, "b", false);
  json_close(&out, '}');
  static const char expected[] =
      "{\"s\":\"a\\\"\\\\\\u000a\xef\xbf\xbd\xc3\xa9\",\"n\":-5,\"l\":[1,{},true],\"b\":false}";
  cr_expect(out.error == 0 && out.size == sizeof expected - 1 && memcmp(out.data, expected, out.size) == 0, "%.*s",
            (int)out.size, (char *)out.data);
  buffer_clear(&out);
}

Test(buffer, errors_stick) {
  Buffer buffer = {.limit = 10};
  cr_expect(buffer_append(&buffer, "12345678", 8) == 0);
  cr_expect(buffer_append(&buffer, "90a", 3) == -E2BIG);
  cr_expect(buffer_append(&buffer, "9", 1) == -E2BIG && buffer.size == 8);
  buffer_consume(&buffer, 3);
  cr_expect(buffer.size == 5 && memcmp(buffer.data, "45678", 5) == 0);
  buffer_clear(&buffer);
  cr_expect(buffer_append(&buffer, "9", 1) == 0);
  buffer_clear(&buffer);
}
