/* Formatted text into a fixed buffer, without a C library: what dumps, logs and fatal messages need. */
#ifndef STELE_BASE_PRINT_H
#define STELE_BASE_PRINT_H

#include <stdarg.h>
#include <stddef.h>

typedef struct BaseText {
  char *data;
  size_t size;   /* of data; the text is always terminated when it is not 0 */
  size_t length; /* what the whole text would have taken, without the terminator */
} BaseText;

/* An empty text over `data`. */
BaseText base_text(char *data, size_t size);

/* Appends; what does not fit is counted but dropped. Understands %s %c %d %i %u %x %o %p %% with flags 0 and
 * '-', width (also '*'), precision for %s (also '*'), and the lengths l, ll and z. */
void base_text_printf(BaseText *text, const char *format, ...) __attribute__((format(printf, 2, 3)));
void base_text_vprintf(BaseText *text, const char *format, va_list arguments);

#endif
