// steled's error domain: the rows of common/api-errors.h as GError codes. A GError of this domain
// that reaches a D-Bus reply gets its stable name there; the message is what the user sees.
#pragma once

#include <gio/gio.h>
#include "api-errors.h"

#define STELE_ERROR (stele_error_quark())
GQuark stele_error_quark(void);

typedef enum SteleError {
#define ROW(enumerator, name, exit_code) STELE_ERROR_##enumerator,
  STELE_API_ERRORS(ROW)
#undef ROW
} SteleError;

// Sets the error, its text cleaned for terminals (text.h): names in it may be strangers'. Returns FALSE.
gboolean stele_refuse(GError **error, SteleError code, const char *format, ...) G_GNUC_PRINTF(3, 4);
