// See vmctl.h.
#include "vmctl.h"

#include <errno.h>
#include <json-glib/json-glib.h>
#include <poll.h>
#include <string.h>
#include <unistd.h>
#include "terminal.h"
#include "text.h"

#define PROGRESS_AFTER_US (1 * G_USEC_PER_SEC)
#define PROGRESS_EVERY_MS 200
#define PROGRESS_WIDTH    70

// What is not plain can only be inside a string, where an escape means the same (RFC 8259, 7).
static char *escape_json(const char *json) {
  g_autoptr(GString) escaped = g_string_new(NULL);
  for (const char *c = json; *c; c = g_utf8_next_char(c)) {
    gunichar letter = g_utf8_get_char(c);
    glong units = 0;
    if (text_is_plain(letter)) {
      g_string_append_unichar(escaped, letter);
      continue;
    }
    g_autofree gunichar2 *utf16 = g_ucs4_to_utf16(&letter, 1, NULL, &units, NULL);
    for (glong i = 0; i < units; i++) g_string_append_printf(escaped, "\\u%04x", utf16[i]);
  }
  return g_string_free(g_steal_pointer(&escaped), FALSE);
}

static char *to_json(GVariant *value) {
  g_autoptr(JsonNode) node = json_gvariant_serialize(value);
  g_autofree char *text = json_to_string(node, FALSE);
  return escape_json(text);
}

// --- standard output -----------------------------------------------------------------------------

static int output_error; // the first that was met

static gboolean output_write(const void *text, gsize size) {
  if (output_error == 0 && !write_all(STDOUT_FILENO, text, size)) output_error = errno;
  return output_error == 0;
}

static void print_out(const char *text) {
  output_write(text, strlen(text));
}

void output_open(void) {
  g_set_print_handler(print_out);
}

gboolean output_is_lost(void) {
  struct pollfd output = {.fd = STDOUT_FILENO};
  return output_error != 0 || (poll(&output, 1, 0) == 1 && output.revents & POLLERR);
}

int output_finish(Session *session, int code) {
  if (output_error == 0 || output_error == EPIPE) return code;
  g_autofree char *message = g_strdup_printf("cannot write to standard output: %s", g_strerror(output_error));
  print_error(session, NULL, EXIT_OTHER, message);
  return code == EXIT_OK ? EXIT_OTHER : code;
}

void print_json(GVariant *value) {
  g_autofree char *text = to_json(value);
  g_print("%s\n", text);
}

void print_json_result(const char *key, GVariant *result) {
  g_autoptr(GVariant) value = g_variant_get_child_value(result, 0);
  GVariantBuilder fields;
  g_variant_builder_init(&fields, G_VARIANT_TYPE_VARDICT);
  g_variant_builder_add(&fields, "{sv}", key, value);
  g_autoptr(GVariant) object = g_variant_ref_sink(g_variant_builder_end(&fields));
  print_json(object);
}

void print_error(Session *session, const char *name, int code, const char *message) {
  if (!session->json) {
    g_autofree char *lines = printable_lines(message);
    g_printerr("vmctl: %s\n", lines);
    return;
  }
  g_autofree char *valid = g_utf8_make_valid(message, -1);
  GVariantBuilder fields;
  g_variant_builder_init(&fields, G_VARIANT_TYPE_VARDICT);
  if (name) g_variant_builder_add(&fields, "{sv}", "name", g_variant_new_string(name));
  g_variant_builder_add(&fields, "{sv}", "code", g_variant_new_int32(code));
  g_variant_builder_add(&fields, "{sv}", "message", g_variant_new_string(valid));
  g_autoptr(GVariant) error = g_variant_ref_sink(g_variant_new("{s@a{sv}}", "error", g_variant_builder_end(&fields)));
  GVariantBuilder whole;
  g_variant_builder_init(&whole, G_VARIANT_TYPE("a{sa{sv}}"));
  g_variant_builder_add_value(&whole, error);
  g_autoptr(GVariant) object = g_variant_ref_sink(g_variant_builder_end(&whole));
  g_autofree char *text = to_json(object);
  g_printerr("%s\n", text);
}

gboolean print_text(const void *text, gsize size) {
  if (!isatty(STDOUT_FILENO)) return output_write(text, size);
  g_autofree char *clean = text_clean(text, size);
  return clean && output_write(clean, strlen(clean));
}

const char *lookup_string(GVariant *dictionary, const char *key) {
  const char *text = "";
  g_variant_lookup(dictionary, key, "&s", &text);
  return text;
}

char *printable(const char *text) {
  char *clean = text_clean(text, strlen(text));
  if (clean == NULL) g_error("no memory");
  return g_strdelimit(clean, "\n\t", ' ');
}

char *printable_lines(const char *text) {
  char *clean = text_clean(text, strlen(text));
  if (clean == NULL) g_error("no memory");
  return clean;
}

void print_table(const GPtrArray *cells, guint columns) {
  g_autofree glong *widths = g_new0(glong, columns);
  for (guint i = 0; i < cells->len; i++)
    widths[i % columns] = MAX(widths[i % columns], g_utf8_strlen(cells->pdata[i], -1));
  for (guint i = 0; i < cells->len; i++) {
    gboolean last = i % columns == columns - 1;
    int padding = last ? 0 : (int)(widths[i % columns] - g_utf8_strlen(cells->pdata[i], -1) + 2);
    g_print("%s%*s%s", (char *)cells->pdata[i], padding, "", last ? "\n" : "");
  }
}

// --- progress ------------------------------------------------------------------------------------

struct Progress {
  gint64 started;
  guint timer;
  gboolean shown;
  char *message;
};

static gboolean on_tick(gpointer user_data) {
  Progress *progress = user_data;
  gint64 passed = g_get_monotonic_time() - progress->started;
  if (passed < PROGRESS_AFTER_US) return G_SOURCE_CONTINUE;
  g_printerr("\r\033[K%.*s … %d s", PROGRESS_WIDTH, progress->message, (int)(passed / G_USEC_PER_SEC));
  progress->shown = TRUE;
  return G_SOURCE_CONTINUE;
}

Progress *progress_new(void) {
  if (!isatty(STDERR_FILENO)) return NULL;
  Progress *progress = g_new0(Progress, 1);
  progress->started = g_get_monotonic_time();
  progress->message = g_strdup("waiting for steled");
  progress->timer = g_timeout_add(PROGRESS_EVERY_MS, on_tick, progress);
  return progress;
}

void progress_say(Progress *progress, const char *message) {
  if (progress == NULL) return;
  g_free(progress->message);
  progress->message = printable(message);
}

void progress_free(Progress *progress) {
  if (progress == NULL) return;
  if (progress->shown) g_printerr("\r\033[K");
  g_source_remove(progress->timer);
  g_free(progress->message);
  g_free(progress);
}
