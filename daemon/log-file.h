// Logs that others write (QEMU the guest's console, QEMU and virtiofsd their own words) and that a guest can fill: each
// is kept small. A log is at most its file, looked at once a second, and FILE.1, the end of what was there before; and
// FILE.before, the end of the log of the run before.
// Blocking, but short; no main loop, no machines.
#pragma once

#include <glib.h>

#define LOG_FILE_MAX (1024 * 1024) // bytes; a file found larger is emptied, and FILE.1 keeps as much of its end

// Removes the log, and that of the run before.
void log_file_remove(const char *path);

// A run begins: the log there is becomes that of the run before (FILE.before, at most LOG_FILE_MAX bytes of its end),
// which goes.
void log_file_begin(const char *path);
// The log of the run before, as log_file_read() reads that of this one.
GBytes *log_file_read_before(const char *path, gsize bytes);
// Both go by another name.
void log_file_move(const char *from, const char *to);

// Empties a file that has grown too large, its end going to FILE.1. The writer must append (O_APPEND). What is written
// while this runs may be lost. TRUE when it did.
gboolean log_file_rotate(const char *path);

// At most the last `bytes` bytes, FILE.1 included; "" when there is none. The caller's, to be freed.
GBytes *log_file_read(const char *path, gsize bytes);

// The last whole lines of that as text that may be shown.
char *log_file_read_tail(const char *path, gsize bytes);
