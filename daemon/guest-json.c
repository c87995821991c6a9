// See guest-json.h. json-glib recurses for each level of nesting without a limit, so depth is
// checked on the text before the parser sees it.
#include "guest-json.h"

#include <string.h>
#include "errors.h"

#define DEPTH_MAX 16

static gboolean nesting_is_shallow(const char *text, gsize size) {
  int depth = 0;
  gboolean in_string = FALSE;
  for (gsize i = 0; i < size; i++) {
    if (in_string && text[i] == '\\')
      i++;
    else if (text[i] == '"')
      in_string = !in_string;
    else if (!in_string && (text[i] == '{' || text[i] == '[') && ++depth > DEPTH_MAX)
      return FALSE;
    else if (!in_string && (text[i] == '}' || text[i] == ']'))
      depth--;
  }
  return TRUE;
}

JsonObject *guest_json_parse(const char *text, gsize size, GError **error) {
  g_autoptr(JsonParser) parser = json_parser_new_immutable();
  gboolean parsed = g_utf8_validate(text, (gssize)size, NULL) && nesting_is_shallow(text, size) &&
                    json_parser_load_from_data(parser, text, (gssize)size, NULL);
  JsonNode *root = parsed ? json_parser_get_root(parser) : NULL;
  if (root && JSON_NODE_HOLDS_OBJECT(root)) return json_node_dup_object(root);
  g_set_error(error, STELE_ERROR, STELE_ERROR_GUEST_ERROR,
              "the guest agent sent something that is no JSON object");
  return NULL;
}

static JsonNode *member(JsonObject *object, const char *name, GType type) {
  JsonNode *node = object ? json_object_get_member(object, name) : NULL;
  return node && JSON_NODE_HOLDS_VALUE(node) && json_node_get_value_type(node) == type ? node
                                                                                       : NULL;
}

const char *guest_json_string(JsonObject *object, const char *name, const char *fallback) {
  JsonNode *node = member(object, name, G_TYPE_STRING);
  return node ? json_node_get_string(node) : fallback;
}

gint64 guest_json_int(JsonObject *object, const char *name, gint64 fallback) {
  JsonNode *node = member(object, name, G_TYPE_INT64);
  return node ? json_node_get_int(node) : fallback;
}

JsonObject *guest_json_object(JsonObject *object, const char *name) {
  JsonNode *node = object ? json_object_get_member(object, name) : NULL;
  return node && JSON_NODE_HOLDS_OBJECT(node) ? json_node_get_object(node) : NULL;
}

char *guest_text_clean(const char *text, gsize size) {
  g_autofree char *valid = g_utf8_make_valid(text, (gssize)size);
  g_autoptr(GString) clean = g_string_new(NULL);
  for (const char *c = valid; *c; c = g_utf8_next_char(c)) {
    gunichar letter = g_utf8_get_char(c);
    if (letter == '\n' || letter == '\t' || !g_unichar_iscntrl(letter))
      g_string_append_unichar(clean, letter);
  }
  return g_string_free(g_steal_pointer(&clean), FALSE);
}
