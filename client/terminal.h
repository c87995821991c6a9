// The user's terminal in raw mode, and plain copying between descriptors: what console, exec and
// shell share.
#pragma once

#include <glib.h>

// Raw mode if standard input is a terminal; undone by terminal_restore(), also at exit and on fatal
// signals.
void terminal_make_raw(void);
void terminal_restore(void);

// Whether both standard input and output are terminals.
gboolean terminal_is_interactive(void);

// Rows and columns of the terminal; 0 when there is none.
void terminal_get_size(guint *ret_rows, guint *ret_columns);

// Writes all of it to a blocking descriptor; FALSE when it cannot.
gboolean write_all(int fd, const void *bytes, gsize size);
