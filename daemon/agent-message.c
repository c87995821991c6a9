// See agent-message.h.
#include "agent-message.h"

#include <stdlib.h>
#include <string.h>
#include "errors.h"
#include "guest-protocol.h"
#include "json.h"
#include "text.h"

#define TEXT_MAX 1024 // bytes of a text for people

// --- reading -------------------------------------------------------------------------------------

static gboolean parse_object(JsonDocument *ret_document, const char *json, gsize size) {
  if (json_parse(ret_document, json, size) < 0) return FALSE;
  if (ret_document->nodes->type == JSON_OBJECT) return TRUE;
  json_free(ret_document);
  return FALSE;
}

// A member as text that may be shown; "" when there is none.
static char *dup_text(const JsonDocument *document, const JsonNode *object, const char *name) {
  char *text = NULL;
  if (json_get_string(document, json_member(document, object, name), &text) < 0) return g_strdup("");
  char *clean = text_clean(text, MIN(strlen(text), TEXT_MAX));
  free(text);
  return clean ? g_strchomp(clean) : g_strdup("");
}

gboolean agent_message_read_status(const char *json, gsize size, AgentStatus *ret_status) {
  JsonDocument document;
  int64_t ready_ms = 0, value = 0;
  bool signalled = false;
  if (!parse_object(&document, json, size)) return FALSE;
  const JsonNode *root = document.nodes, *command = json_member(&document, root, "command");
  json_get_integer(&document, json_member(&document, root, "ready-ms"), &ready_ms);
  if (command && json_get_integer(&document, json_member(&document, command, "value"), &value) < 0) value = 0;
  if (command) json_get_boolean(&document, json_member(&document, command, "signalled"), &signalled);
  *ret_status = (AgentStatus){.version = dup_text(&document, root, "version"),
                              .state = dup_text(&document, root, "state"),
                              .message = dup_text(&document, root, "message"),
                              .ready_ms = MAX(ready_ms, 0),
                              .command_ended = command && command->type == JSON_OBJECT,
                              .command_signalled = signalled,
                              .command_value = (guint)CLAMP(value, 0, 255)};
  json_free(&document);
  return TRUE;
}

void agent_message_clear_status(AgentStatus *status) {
  g_free(status->version);
  g_free(status->state);
  g_free(status->message);
}

static const struct {
  const char *code;
  SteleError error;
} stream_errors[] = {
    {STELE_STREAM_ERROR_NOT_FOUND, STELE_ERROR_PROGRAM_NOT_FOUND},
    {STELE_STREAM_ERROR_DENIED, STELE_ERROR_PROGRAM_NOT_EXECUTABLE},
    {STELE_STREAM_ERROR_FORMAT, STELE_ERROR_PROGRAM_NOT_EXECUTABLE},
    {STELE_STREAM_ERROR_INVALID, STELE_ERROR_INVALID_ARGUMENT},
    {STELE_STREAM_ERROR_BUSY, STELE_ERROR_GUEST_ERROR},
};

gboolean agent_message_read_error(const char *json, gsize size, GError **ret_error) {
  JsonDocument document;
  if (!parse_object(&document, json, size)) return FALSE;
  const JsonNode *code = json_member(&document, document.nodes, "code");
  g_autofree char *message = dup_text(&document, document.nodes, "message");
  SteleError error = STELE_ERROR_GUEST_ERROR;
  for (size_t i = 0; i < G_N_ELEMENTS(stream_errors); i++)
    if (json_equals(&document, code, stream_errors[i].code)) error = stream_errors[i].error;
  g_set_error(ret_error, STELE_ERROR, error, "%s", *message ? message : "the guest gave no reason");
  json_free(&document);
  return TRUE;
}

gboolean agent_message_read_reply(const char *json, gsize size, GError **ret_error) {
  JsonDocument document;
  if (!parse_object(&document, json, size)) return FALSE;
  const JsonNode *root = document.nodes;
  g_autofree char *why = dup_text(&document, json_member(&document, root, "error"), "desc");
  if (json_member(&document, root, "return") == NULL)
    g_set_error(ret_error, STELE_ERROR, STELE_ERROR_GUEST_ERROR, "the guest's agent refused: %s",
                *why ? why : "it gave no reason");
  json_free(&document);
  return TRUE;
}

// --- writing -------------------------------------------------------------------------------------

char *agent_message_write_exec(const AgentExecRequest *request) {
  Buffer json = {.limit = STELE_FRAME_PAYLOAD_MAX};
  json_open(&json, '{');
  json_member_strings(&json, "argv", request->argv);
  json_member_strings(&json, "env", request->env);
  if (request->cwd) json_member_string(&json, "cwd", request->cwd);
  if (request->user) json_member_string(&json, "user", request->user);
  json_member_boolean(&json, "tty", request->tty);
  json_member_integer(&json, "rows", request->rows);
  json_member_integer(&json, "cols", request->columns);
  json_close(&json, '}');
  char *text = json.error ? NULL : g_strndup((const char *)json.data, json.size);
  buffer_clear(&json);
  return text;
}
