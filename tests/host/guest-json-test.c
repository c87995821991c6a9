// JSON and text from a guest: what is refused, and what reaches a terminal.
#include <criterion/criterion.h>
#include <string.h>
#include "guest-json.h"

static const struct {
  const char *text;
  gsize size;
} bad[] = {
    {"", 0},
    {"[1]", 3},
    {"{", 1},
    {"{\"a\":}", 6},
    {"\xff{}", 3},
    {"nonsense", 8},
    {"{\"a\":\"\xc3\"}", 8},
    {"{}\0{}", 5},
};

Test(guest_json, refuses) {
  for (size_t i = 0; i < G_N_ELEMENTS(bad); i++)
    cr_expect_null(guest_json_parse(bad[i].text, bad[i].size, NULL), "row %zu", i);
}

Test(guest_json, refuses_deep_nesting) {
  g_autofree char *deep = g_strnfill(60000, '[');
  memcpy(deep, "{\"a\":", 5);
  cr_expect_null(guest_json_parse(deep, strlen(deep), NULL));
  // Brackets in a string are no nesting, quotes in it may be escaped.
  g_autoptr(JsonObject) text = guest_json_parse("{\"a\":\"\\\"[[[[[[[[[[[[[[[[[[[[[[\"}", 32, NULL);
  cr_assert_not_null(text);
  cr_expect_str_eq(guest_json_string(text, "a", ""), "\"[[[[[[[[[[[[[[[[[[[[[[");
}

Test(guest_json, members_of_another_type_count_as_missing) {
  const char *text = "{\"s\":\"x\",\"i\":7,\"o\":{\"s\":\"y\"},\"l\":[],\"n\":null}";
  g_autoptr(JsonObject) object = guest_json_parse(text, strlen(text), NULL);
  cr_assert_not_null(object);
  cr_expect_str_eq(guest_json_string(object, "s", "-"), "x");
  cr_expect_eq(guest_json_int(object, "i", -1), 7);
  cr_expect_str_eq(guest_json_string(guest_json_object(object, "o"), "s", "-"), "y");
  static const char *const others[] = {"i", "o", "l", "n", "missing"};
  for (size_t i = 0; i < G_N_ELEMENTS(others); i++)
    cr_expect_str_eq(guest_json_string(object, others[i], "-"), "-", "%s", others[i]);
  cr_expect_eq(guest_json_int(object, "s", -1), -1);
  cr_expect_null(guest_json_object(object, "l"));
}

Test(guest_json, text_cannot_steer_a_terminal) {
  const char *text = "one\r\n\033[2Jtwo\a\x9b\x80\tthree";
  g_autofree char *clean = guest_text_clean(text, strlen(text));
  for (const char *c = clean; *c; c++)
    cr_expect(*c == '\n' || *c == '\t' || (unsigned char)*c >= ' ', "%x", *c);
  cr_expect_not_null(strstr(clean, "one\n[2Jtwo"));
  cr_expect_not_null(strstr(clean, "\tthree"));
}
