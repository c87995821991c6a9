// Whether a root directory can run x86-64 programs: found out on the host before a machine is
// booted, so that the answer is a sentence and not a dead guest. Paths are resolved inside the
// root; the files in it are not trusted (a root may come from anywhere), so every offset read from
// them is checked.
#pragma once

#include <gio/gio.h>

// Checks that `program` in `root` can be executed: found (through PATH when it has no '/'), an
// x86-64 ELF file or a script whose interpreter is one, and its loader is there.
// STELE_ERROR_UNUSABLE_ROOT says what lacks; STELE_ERROR_MISSING_FILE when `root` is no directory.
gboolean root_check_program(const char *root, const char *program, GError **error);
