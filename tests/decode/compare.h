/* One byte string decoded by us and by Zydis, and where the two disagree. */
#ifndef STELE_TESTS_DECODE_COMPARE_H
#define STELE_TESTS_DECODE_COMPARE_H

#include <stddef.h>
#include <stdint.h>

enum {
  ASPECT_VALIDITY = 1, /* one decodes, the other does not */
  ASPECT_LENGTH = 2,
  ASPECT_MNEMONIC = 4,
  ASPECT_OPERANDS = 8, /* kinds, registers, sizes, accesses, memory parts, immediates */
  ASPECT_FLAGS = 16,   /* read, written, undefined */
  ASPECT_PREFIXES = 32 /* LOCK and the repeat prefixes */
};

typedef struct Difference {
  unsigned aspect; /* ASPECT_*, or 0: they agree */
  char what[120];  /* names the instruction and the fact, the same text for the same cause */
} Difference;

void compare_setup(void);

/* `available` is at least 15. Returns how many bytes the instruction has by our account. Differences listed
 * as deliberate (differences.c) are counted there and not reported. */
size_t compare_decoders(const uint8_t *bytes, size_t available, Difference *ret_difference);

/* Prints the mnemonics that no byte string so far decoded to, and returns their number. */
unsigned compare_report_unmet(void);

#endif
