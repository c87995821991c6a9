/* The deliberate differences from Zydis, each with its reason. */
#ifndef STELE_TESTS_DECODE_DIFFERENCES_H
#define STELE_TESTS_DECODE_DIFFERENCES_H

#include <Zydis/Zydis.h>
#include <stdbool.h>
#include <stdint.h>

/* Whether `ours` and `zydis` name the same instruction. */
bool differences_same_name(const char *ours, const char *zydis);

/* Whether an instruction that Zydis knows is deliberately none to us. */
bool differences_left_out(const ZydisDecodedInstruction *zydis);

/* Whether a disagreement, in the words of Difference.what, is listed. */
bool differences_expected(const char *what, const uint8_t *bytes);

/* Prints each listed difference with how often it was met. Returns the number never met. */
unsigned differences_report(void);

#endif
