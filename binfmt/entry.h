/* What binfmt_misc says of a registration: reading it, and whether it takes x86-64 programs. Text alone; no system calls,
 * so that unit tests run on any machine. */
#ifndef STELE_BINFMT_ENTRY_H
#define STELE_BINFMT_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { BINFMT_PATH_MAX = 4096, BINFMT_HEAD = 256 /* BINPRM_BUF_SIZE: how much of a file the kernel compares */ };

typedef struct BinfmtEntry {
  bool enabled, by_magic; /* by_magic false: by the file's name */
  char interpreter[BINFMT_PATH_MAX];
  char flags[8];
  size_t offset, length; /* of the magic */
  uint8_t magic[BINFMT_HEAD], mask[BINFMT_HEAD];
} BinfmtEntry;

/* Reads the text of a file below binfmt_misc's mount point (Linux, fs/binfmt_misc.c). False where it is none of a
 * registration. */
bool binfmt_entry_parse(const char *text, BinfmtEntry *ret_entry);

/* Whether the kernel would hand some x86-64 ELF program to it: executables (ET_EXEC) or those at any address (ET_DYN). */
bool binfmt_entry_takes_x86_64(const BinfmtEntry *entry);

#endif
