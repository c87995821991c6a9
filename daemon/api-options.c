// See api-options.h.
#include "api-options.h"

#include "errors.h"

void api_reply(GVariant *result, const GError *error, gpointer user_data) {
  GDBusMethodInvocation *invocation = user_data;
  if (error)
    g_dbus_method_invocation_return_gerror(invocation, error);
  else
    g_dbus_method_invocation_return_value(invocation, result ? g_variant_new_tuple(&result, 1) : NULL);
}

static gboolean store_option(const ApiOption *row, GVariant *value) {
  if (!g_variant_is_of_type(value, G_VARIANT_TYPE(row->type))) return FALSE;
  if (*row->type == 'b') *(gboolean *)row->target = g_variant_get_boolean(value);
  if (*row->type == 't') *(guint64 *)row->target = g_variant_get_uint64(value);
  if (*row->type == 'u') *(guint *)row->target = g_variant_get_uint32(value);
  if (*row->type == 's') *(const char **)row->target = g_variant_get_string(value, NULL);
  if (*row->type == 'a') g_free(*(const char ***)row->target); // said twice: the last one counts
  if (*row->type == 'a') *(const char ***)row->target = g_variant_get_strv(value, NULL);
  return TRUE;
}

gboolean api_read_options(GDBusMethodInvocation *invocation, GVariant *options, const ApiOption *rows, gsize count) {
  GVariantIter iterator;
  const char *key;
  GVariant *value;
  gboolean good = TRUE;
  g_variant_iter_init(&iterator, options);
  while (good && g_variant_iter_next(&iterator, "{&sv}", &key, &value)) {
    gsize i = 0;
    while (i < count && !g_str_equal(rows[i].name, key)) i++;
    good = i < count && store_option(&rows[i], value);
    g_variant_unref(value);
    if (!good)
      g_dbus_method_invocation_return_error(invocation, STELE_ERROR, STELE_ERROR_INVALID_ARGUMENT,
                                            i < count ? "option '%s' has the wrong type" : "there is no option '%s'",
                                            key);
  }
  return good;
}
