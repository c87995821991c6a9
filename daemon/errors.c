// The error domain, registered with GDBus so that codes and D-Bus names map both ways. See
// errors.h.
#include "errors.h"

#include <string.h>

#include "text.h"

static const GDBusErrorEntry entries[] = {
#define ROW(enumerator, name, exit_code) {STELE_ERROR_##enumerator, STELE_ERROR_PREFIX name},
    STELE_API_ERRORS(ROW)
#undef ROW
};

GQuark stele_error_quark(void) {
  static gsize quark;
  g_dbus_error_register_error_domain("stele-error-quark", &quark, entries, G_N_ELEMENTS(entries));
  return (GQuark)quark;
}

gboolean stele_refuse(GError **error, SteleError code, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  g_autofree char *message = g_strdup_vprintf(format, arguments), *clean = text_clean(message, strlen(message));
  va_end(arguments);
  g_set_error_literal(error, STELE_ERROR, code, clean ? clean : "no memory");
  return FALSE;
}
