// JSON and text from the guest, which may be anything: bounds that the general parser does not
// have, and text made safe to show on a terminal.
#pragma once

#include <json-glib/json-glib.h>

// Parses one JSON object. NULL with STELE_ERROR_GUEST_ERROR when it is not UTF-8, not JSON, not an
// object, or nested deeper than anything of the protocol.
JsonObject *guest_json_parse(const char *text, gsize size, GError **error);

// Members of any object, whatever type they have there: the fallback when missing or of another
// type.
const char *guest_json_string(JsonObject *object, const char *name, const char *fallback);
gint64 guest_json_int(JsonObject *object, const char *name, gint64 fallback);
JsonObject *guest_json_object(JsonObject *object, const char *name); // or NULL

// A copy of at most `size` bytes as UTF-8 without control characters (new lines and tabs stay), so
// that what a guest prints cannot steer the terminal that shows it.
char *guest_text_clean(const char *text, gsize size);
