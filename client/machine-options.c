// See machine-options.h.
#include "machine-options.h"

#include <string.h>

MachineOptions machine_options;

gboolean machine_options_read_size(const char *text, guint64 *ret_bytes) {
  char *end = NULL;
  guint64 value = g_ascii_isdigit(*text) ? g_ascii_strtoull(text, &end, 10) : 0;
  static const char units[] = "kmgt";
  const char *unit = end && *end ? strchr(units, g_ascii_tolower(*end)) : NULL;
  int shift = unit ? 10 * (int)(unit - units + 1) : 0;
  gboolean whole = end && (*end == 0 || (unit && (end[1] == 0 || g_ascii_strcasecmp(end + 1, "b") == 0 ||
                                                  g_ascii_strcasecmp(end + 1, "ib") == 0)));
  if (!whole || value == 0 || value > (guint64)G_MAXINT64 >> shift) return FALSE;
  *ret_bytes = value << shift;
  return TRUE;
}

static gboolean check_size(Session *session, const char *option, const char *text) {
  guint64 ignored;
  if (text == NULL || machine_options_read_size(text, &ignored)) return TRUE;
  g_autofree char *message = g_strdup_printf("--%s takes a size like 512M or 2G, not '%s'", option, text);
  print_error(session, NULL, EXIT_USAGE, message);
  return FALSE;
}

gboolean machine_options_check(Session *session) {
  if (machine_options.cpus < 0) print_error(session, NULL, EXIT_USAGE, "--cpus takes a number");
  return machine_options.cpus >= 0 && exec_check_environment(session, machine_options.env) &&
         check_size(session, "memory", machine_options.memory) && check_size(session, "disk", machine_options.disk);
}

static void append(GPtrArray *words, const char *const *more) {
  for (; more && *more; more++) g_ptr_array_add(words, (gpointer)*more);
}

// The texts are the description's and the command's own.
const char **machine_options_argv(GVariant *description, const char *const *command) {
  g_autofree const char **entrypoint = lookup_strings(description, "entrypoint"),
                        **cmd = lookup_strings(description, "cmd");
  const char *const given[] = {machine_options.entrypoint, NULL};
  GPtrArray *words = g_ptr_array_new();
  append(words, machine_options.entrypoint ? given : (const char *const *)entrypoint);
  // An entry point of one's own makes the image's Cmd, which was written for the other, meaningless.
  append(words, *command || machine_options.entrypoint ? command : (const char *const *)cmd);
  g_ptr_array_add(words, NULL);
  return (const char **)g_ptr_array_free(words, FALSE);
}

GPtrArray *machine_options_env(GVariant *description) {
  g_autofree const char **env = lookup_strings(description, "env");
  GPtrArray *all = g_ptr_array_new_with_free_func(g_free);
  for (const char **entry = env; entry && *entry; entry++)
    if (strchr(*entry, '=')) g_ptr_array_add(all, g_strdup(*entry));
  g_autoptr(GPtrArray) own = exec_environment(machine_options.env);
  for (guint i = 0; i < own->len; i++) g_ptr_array_add(all, g_strdup(own->pdata[i]));
  return all;
}

static const char *named(const char *text) {
  return text && *text ? text : NULL;
}

const char *machine_options_user(GVariant *description) {
  return machine_options.user ? machine_options.user : named(lookup_string(description, "user"));
}

const char *machine_options_cwd(GVariant *description) {
  return machine_options.directory ? machine_options.directory : named(lookup_string(description, "cwd"));
}

static void add_text(GVariantBuilder *builder, const char *key, const char *text) {
  if (text && *text) g_variant_builder_add(builder, "{sv}", key, g_variant_new_string(text));
}

static void add_size(GVariantBuilder *builder, const char *key, const char *text) {
  guint64 bytes;
  if (text && machine_options_read_size(text, &bytes))
    g_variant_builder_add(builder, "{sv}", key, g_variant_new_uint64(bytes));
}

// A share's directory on the host may be said from here.
GVariant *machine_options_shares(char **given) {
  GVariantBuilder shares;
  g_variant_builder_init(&shares, G_VARIANT_TYPE("as"));
  for (char **share = given; share && *share; share++) {
    gsize length = strcspn(*share, ":");
    g_autofree char *source = g_strndup(*share, length), *path = g_canonicalize_filename(source, NULL);
    g_variant_builder_add_value(&shares, g_variant_new_take_string(g_strconcat(path, *share + length, NULL)));
  }
  return g_variant_builder_end(&shares);
}

void machine_options_begin(GVariantBuilder *builder, GVariant *description) {
  g_variant_builder_init(builder, G_VARIANT_TYPE_VARDICT);
  if (machine_options.cpus)
    g_variant_builder_add(builder, "{sv}", "cpus", g_variant_new_uint32((guint)machine_options.cpus));
  add_size(builder, "memory", machine_options.memory);
  add_size(builder, "disk", machine_options.disk);
  add_text(builder, "hostname", machine_options.hostname);
  if (machine_options.shares)
    g_variant_builder_add(builder, "{sv}", "shares", machine_options_shares(machine_options.shares));
  if (machine_options.ports)
    g_variant_builder_add(builder, "{sv}", "ports", g_variant_new_strv((const char *const *)machine_options.ports, -1));
}

void machine_options_add_command(GVariantBuilder *builder, GVariant *description, const char *const *argv) {
  g_autoptr(GPtrArray) env = machine_options_env(description);
  g_variant_builder_add(builder, "{sv}", "argv", g_variant_new_strv(argv, -1));
  g_variant_builder_add(builder, "{sv}", "env", g_variant_new_strv((const char *const *)env->pdata, env->len));
  add_text(builder, "user", machine_options_user(description));
  add_text(builder, "cwd", machine_options_cwd(description));
  add_text(builder, "stop-signal", lookup_string(description, "stop-signal"));
}
