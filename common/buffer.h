// A growing byte buffer whose every growth can fail and says so. PID 1 must outlive a full memory, so
// errors are sticky: after one failed append the buffer takes no more and `error` holds the reason,
// and the caller checks once, at the end.
#pragma once

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

typedef struct Buffer {
  uint8_t *data;
  size_t size, capacity;
  size_t limit; // growing beyond is -E2BIG; 0 is no limit
  int error;    // negative errno of the first failed append, or 0
} Buffer;

// Appends bytes. Returns 0, or the sticky error (-ENOMEM, -E2BIG).
int buffer_append(Buffer *buffer, const void *bytes, size_t size);

// Appends formatted text, without its NUL.
int buffer_printf(Buffer *buffer, const char *format, ...) __attribute__((format(printf, 2, 3)));

// Makes room for `size` more bytes at the end and returns where, or NULL with `error` set.
uint8_t *buffer_reserve(Buffer *buffer, size_t size);

// Removes bytes from the front.
void buffer_consume(Buffer *buffer, size_t size);

// Frees the memory and clears the error; the limit stays.
void buffer_clear(Buffer *buffer);
