/* printf's common part, written for a place that has no C library. */
#include "base/print.h"

#include "base/base.h"

BaseText base_text(char *data, size_t size) {
  if (size) data[0] = '\0';
  return (BaseText){data, size, 0};
}

static void put(BaseText *t, char c) {
  if (t->length + 1 < t->size) {
    t->data[t->length] = c;
    t->data[t->length + 1] = '\0';
  }
  t->length++;
}

typedef struct Spec {
  bool zero, left;
  int width, precision; /* precision -1: none */
  unsigned longs;
} Spec;

static void put_padded(BaseText *t, const Spec *spec, const char *text, size_t length) {
  size_t padding = (size_t)spec->width > length ? (size_t)spec->width - length : 0;
  if (!spec->left)
    for (; padding; padding--) put(t, spec->zero ? '0' : ' ');
  for (size_t i = 0; i < length; i++) put(t, text[i]);
  for (; padding; padding--) put(t, ' ');
}

static void put_number(BaseText *t, const Spec *spec, uint64_t value, unsigned base, bool negative) {
  char digits[24];
  size_t at = sizeof digits;
  do digits[--at] = "0123456789abcdef"[value % base];
  while (value /= base);
  Spec rest = *spec;
  if (negative && spec->zero) {
    put(t, '-');
    if (rest.width) rest.width--;
  } else if (negative) {
    digits[--at] = '-';
  }
  put_padded(t, &rest, digits + at, sizeof digits - at);
}

static const char *parse_spec(const char *f, Spec *spec, va_list *arguments) {
  *spec = (Spec){.precision = -1};
  for (;; f++) {
    if (*f == '0') spec->zero = true;
    else if (*f == '-') spec->left = true;
    else if (*f != '#' && *f != '+' && *f != ' ') break;
  }
  if (*f == '*') {
    spec->width = va_arg(*arguments, int);
    f++;
  }
  for (; *f >= '0' && *f <= '9'; f++) spec->width = spec->width * 10 + (*f - '0');
  if (*f == '.') {
    spec->precision = 0;
    f++;
    if (*f == '*') {
      spec->precision = va_arg(*arguments, int);
      f++;
    }
    for (; *f >= '0' && *f <= '9'; f++) spec->precision = spec->precision * 10 + (*f - '0');
  }
  for (; *f == 'l' || *f == 'z'; f++) spec->longs++;
  return f;
}

static void put_string(BaseText *t, const Spec *spec, const char *text) {
  if (!text) text = "(null)";
  size_t length = 0;
  while ((spec->precision < 0 || length < (size_t)spec->precision) && text[length]) length++;
  put_padded(t, spec, text, length);
}

void base_text_vprintf(BaseText *t, const char *format, va_list given) {
  va_list arguments;
  va_copy(arguments, given);
  for (const char *f = format; *f; f++) {
    if (*f != '%') {
      put(t, *f);
      continue;
    }
    Spec spec;
    f = parse_spec(f + 1, &spec, &arguments);
    switch (*f) {
    case 'd':
    case 'i': {
      int64_t value = spec.longs ? va_arg(arguments, int64_t) : va_arg(arguments, int);
      put_number(t, &spec, value < 0 ? -(uint64_t)value : (uint64_t)value, 10, value < 0);
      break;
    }
    case 'u':
      put_number(t, &spec, spec.longs ? va_arg(arguments, uint64_t) : va_arg(arguments, unsigned), 10, false);
      break;
    case 'x':
      put_number(t, &spec, spec.longs ? va_arg(arguments, uint64_t) : va_arg(arguments, unsigned), 16, false);
      break;
    case 'o':
      put_number(t, &spec, spec.longs ? va_arg(arguments, uint64_t) : va_arg(arguments, unsigned), 8, false);
      break;
    case 'p':
      put(t, '0');
      put(t, 'x');
      put_number(t, &spec, (uintptr_t)va_arg(arguments, void *), 16, false);
      break;
    case 's': put_string(t, &spec, va_arg(arguments, const char *)); break;
    case 'c': {
      char c = (char)va_arg(arguments, int);
      put_padded(t, &spec, &c, 1);
      break;
    }
    case '\0': f--; break;
    default: put(t, *f); break;
    }
  }
  va_end(arguments);
}

void base_text_printf(BaseText *t, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  base_text_vprintf(t, format, arguments);
  va_end(arguments);
}

size_t base_format_list(char *buffer, size_t size, const char *format, va_list arguments) {
  BaseText text = base_text(buffer, size);
  base_text_vprintf(&text, format, arguments);
  return text.length;
}

size_t base_format(char *buffer, size_t size, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  size_t length = base_format_list(buffer, size, format, arguments);
  va_end(arguments);
  return length;
}
