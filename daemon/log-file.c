// See log-file.h.
#include "log-file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "text.h"

static char *older(const char *path) {
  return g_strconcat(path, ".1", NULL);
}

static char *former(const char *path) {
  return g_strconcat(path, ".before", NULL);
}

static void remove_run(const char *path) {
  g_autofree char *before = older(path);
  unlink(path);
  unlink(before);
}

void log_file_remove(const char *path) {
  g_autofree char *run_before = former(path);
  remove_run(path);
  unlink(run_before);
}

void log_file_move(const char *from, const char *to) {
  char *(*const pieces[])(const char *) = {g_strdup, older, former};
  log_file_remove(to);
  for (gsize i = 0; i < G_N_ELEMENTS(pieces); i++) {
    g_autofree char *piece = pieces[i](from), *target = pieces[i](to);
    if (rename(piece, target) < 0) unlink(piece);
  }
}

// Whoever put something else there (a link, a device) gets nothing done to it.
static int open_regular(const char *path, int flags, struct stat *ret_status) {
  int fd = open(path, flags | O_CLOEXEC | O_NONBLOCK | O_NOFOLLOW);
  if (fd < 0) return -1;
  if (fstat(fd, ret_status) == 0 && S_ISREG(ret_status->st_mode)) return fd;
  close(fd);
  return -1;
}

// Appends at most the last `bytes` bytes of a file.
static void append_end(GByteArray *text, const char *path, gsize bytes) {
  struct stat status;
  int fd = open_regular(path, O_RDONLY, &status);
  if (fd < 0) return;
  gsize size = MIN((gsize)status.st_size, bytes), start = text->len;
  g_byte_array_set_size(text, (guint)(start + size));
  ssize_t n = pread(fd, text->data + start, size, status.st_size - (off_t)size);
  g_byte_array_set_size(text, (guint)(start + (gsize)MAX(n, 0)));
  close(fd);
}

// Written aside, so that nobody sees half of it. A disk that is full loses the older text, not the room.
static void write_aside(const char *path, const void *text, gsize size) {
  if (!g_file_set_contents_full(path, text, (gssize)size, G_FILE_SET_CONTENTS_CONSISTENT, 0600, NULL)) unlink(path);
}

static void keep_end(const char *path) {
  g_autofree char *before = older(path);
  GByteArray *text = g_byte_array_new();
  append_end(text, path, LOG_FILE_MAX);
  write_aside(before, text->data, text->len);
  g_byte_array_unref(text);
}

gboolean log_file_rotate(const char *path) {
  struct stat status;
  int fd = open_regular(path, O_WRONLY, &status);
  if (fd < 0) return FALSE;
  gboolean large = status.st_size > LOG_FILE_MAX;
  if (large) keep_end(path);
  large = large && ftruncate(fd, 0) == 0;
  close(fd);
  return large;
}

GBytes *log_file_read(const char *path, gsize bytes) {
  g_autofree char *before = older(path);
  GByteArray *now = g_byte_array_new(), *text = g_byte_array_new();
  append_end(now, path, bytes);
  if (now->len < bytes) append_end(text, before, bytes - now->len);
  g_byte_array_append(text, now->data, now->len);
  g_byte_array_unref(now);
  return g_byte_array_free_to_bytes(text);
}

void log_file_begin(const char *path) {
  g_autofree char *run_before = former(path);
  g_autoptr(GBytes) text = log_file_read(path, LOG_FILE_MAX);
  gsize size;
  const void *bytes = g_bytes_get_data(text, &size);
  if (size > 0)
    write_aside(run_before, bytes, size);
  else
    unlink(run_before);
  remove_run(path);
}

GBytes *log_file_read_before(const char *path, gsize bytes) {
  g_autofree char *run_before = former(path);
  GByteArray *text = g_byte_array_new();
  append_end(text, run_before, bytes);
  return g_byte_array_free_to_bytes(text);
}

char *log_file_read_tail(const char *path, gsize bytes) {
  g_autoptr(GBytes) read = log_file_read(path, bytes);
  gsize size;
  const char *text = g_bytes_get_data(read, &size);
  if (size == 0) return g_strdup("");
  const char *line = size == bytes ? memchr(text, '\n', size) : NULL; // the first line is cut off
  const char *from = line ? line + 1 : text;
  char *clean = text_clean(from, (gsize)(text + size - from));
  return clean ? g_strchomp(clean) : g_strdup("");
}
