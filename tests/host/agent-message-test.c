// What a guest's agent says in JSON: what is refused, what counts as missing, and what reaches people.
#include <criterion/criterion.h>
#include <string.h>
#include "agent-message.h"
#include "errors.h"

static const struct {
  const char *text;
  gsize size;
} no_objects[] = {
    {"", 0},
    {"[1]", 3},
    {"{", 1},
    {"{\"a\":}", 6},
    {"\xff{}", 3},
    {"nonsense", 8},
    {"{\"a\":\"\xc3\"}", 8},
    {"{}\0{}", 5},
    {"{}//\n", 5},
    {"{'\"':1}", 7},
};

Test(agent_message, refuses) {
  for (size_t i = 0; i < G_N_ELEMENTS(no_objects); i++) {
    AgentStatus status;
    GError *error = NULL;
    cr_expect_not(agent_message_read_status(no_objects[i].text, no_objects[i].size, &status), "row %zu", i);
    cr_expect_not(agent_message_read_error(no_objects[i].text, no_objects[i].size, &error), "row %zu", i);
    cr_expect_not(agent_message_read_reply(no_objects[i].text, no_objects[i].size, &error), "row %zu", i);
    cr_expect_null(error);
  }
}

// Quotes and comments must not hide it from whoever counts.
Test(agent_message, refuses_deep_nesting) {
  static const char *const starts[] = {
      "{\"a\":", "{\"'\\\"'\":", "{\"\\\"\":\"'\",\"a\":", "/*\"*/{\"a\":", "{\"a\":'\"',"};
  for (size_t i = 0; i < G_N_ELEMENTS(starts); i++) {
    g_autofree char *deep = g_strnfill(65536, '[');
    memcpy(deep, starts[i], strlen(starts[i]));
    AgentStatus status;
    cr_expect_not(agent_message_read_status(deep, 65536, &status), "%s", starts[i]);
  }
}

Test(agent_message, wrong_types_count_as_missing) {
  static const char text[] =
      "{\"version\":7,\"state\":{\"state\":\"ready\"},\"message\":[],\"ready-ms\":\"5\",\"command\":true}";
  AgentStatus status;
  cr_assert(agent_message_read_status(text, strlen(text), &status));
  cr_expect_str_eq(status.version, "");
  cr_expect_str_eq(status.state, "");
  cr_expect_str_eq(status.message, "");
  cr_expect_eq(status.ready_ms, 0);
  cr_expect_not(status.command_ended);
  agent_message_clear_status(&status);
}

Test(agent_message, status) {
  static const char text[] =
      "{\"version\":\"1\",\"state\":\"ready\",\"message\":\"a\\u001b]0;title\\u0007b\\u009bc\\u202ed\","
      "\"ready-ms\":5,\"command\":{\"signalled\":true,\"value\":9}}";
  AgentStatus status;
  cr_assert(agent_message_read_status(text, strlen(text), &status));
  cr_expect_str_eq(status.state, "ready");
  cr_expect_str_eq(status.message, "abcd");
  cr_expect(status.ready_ms == 5 && status.command_ended);
  cr_expect(status.command_signalled && status.command_value == 9);
  agent_message_clear_status(&status);
}

Test(agent_message, long_texts_are_cut) {
  g_autofree char *text = g_strnfill(60000, 'x');
  memcpy(text, "{\"message\":\"", 12);
  memcpy(text + 59998, "\"}", 2);
  AgentStatus status;
  cr_assert(agent_message_read_status(text, 60000, &status));
  cr_expect_leq(strlen(status.message), 1024);
  agent_message_clear_status(&status);
}
