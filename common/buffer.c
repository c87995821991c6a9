// See buffer.h.
#include "buffer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SMALLEST = 256 };

uint8_t *buffer_reserve(Buffer *buffer, size_t size) {
  if (buffer->error) return NULL;
  size_t limit = buffer->limit ? buffer->limit : SIZE_MAX / 4;
  if (size > limit || buffer->size > limit - size) {
    buffer->error = -E2BIG;
    return NULL;
  }
  size_t needed = buffer->size + size;
  if (needed > buffer->capacity) {
    size_t capacity = buffer->capacity ? buffer->capacity : SMALLEST;
    while (capacity < needed) capacity *= 2;
    uint8_t *grown = realloc(buffer->data, capacity);
    if (!grown) {
      buffer->error = -ENOMEM;
      return NULL;
    }
    buffer->data = grown;
    buffer->capacity = capacity;
  }
  return buffer->data + buffer->size;
}

int buffer_append(Buffer *buffer, const void *bytes, size_t size) {
  if (size == 0) return buffer->error;
  uint8_t *to = buffer_reserve(buffer, size);
  if (!to) return buffer->error;
  memcpy(to, bytes, size);
  buffer->size += size;
  return 0;
}

int buffer_printf(Buffer *buffer, const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  int length = vsnprintf(NULL, 0, format, arguments);
  va_end(arguments);
  if (length < 0) return buffer->error = -EINVAL;
  char *to = (char *)buffer_reserve(buffer, (size_t)length + 1);
  if (!to) return buffer->error;
  va_start(arguments, format);
  vsnprintf(to, (size_t)length + 1, format, arguments);
  va_end(arguments);
  buffer->size += (size_t)length;
  return 0;
}

void buffer_consume(Buffer *buffer, size_t size) {
  if (size > buffer->size) size = buffer->size;
  buffer->size -= size;
  memmove(buffer->data, buffer->data + size, buffer->size);
}

void buffer_clear(Buffer *buffer) {
  free(buffer->data);
  buffer->data = NULL;
  buffer->size = buffer->capacity = 0;
  buffer->error = 0;
}
