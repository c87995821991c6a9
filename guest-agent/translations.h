// The stores of translations that are made in this machine: a directory of root's alone, in which each file
// STORE_PREFIX and a number is what stele-aot has made of one program or library, or of several such stores. A store is
// written aside and renamed; the directory is bounded, those made first go first.
//
// What is translated is anybody's. So stele-aot is given nothing but the file, opened for it, and a directory of its
// own; it runs as a user without privileges, at the lowest priority. All of this is done in a process of
// its own for each file, since opening or reading it may take for ever.
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

typedef struct Translations {
  int directory;
  int program;        // stele-aot
  char features[16];  // of this processor, as stele-aot takes them
  const char *memory; // plain, ordered, both: likewise
  uint64_t limit;     // bytes of all stores
  size_t most;        // stores, from which on the newest are joined; at least 2
} Translations;

// Numbers of the stores there are, ascending, at most `max`; how many. What was left half done is removed.
size_t translations_list(const Translations *translations, unsigned long *ret_numbers, size_t max);

// Opens one; -1 with errno.
int translations_open(const Translations *translations, unsigned long number);

// Has the file translated that is mapped at `address` of a process, and writes to `out`: a line "opened" once the
// process is no longer needed, then a line "+NUMBER" for a store that has come and "-NUMBER" for one that has gone.
// Blocks, for minutes perhaps; never returns.
_Noreturn void translations_make(const Translations *translations, pid_t process, uint64_t address, int out);
