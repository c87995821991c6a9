/* Instruction to text, Intel syntax, for STELE_DUMP and error messages. */
#ifndef STELE_X86_FORMAT_H
#define STELE_X86_FORMAT_H

#include "x86/decode.h"

/* Writes `insn`, which stands at guest address `pc`, to `text` of `size` bytes, always terminated.
 * Returns the length it would have had. Branch targets and RIP-relative addresses come out absolute. */
int x86_format(const X86Insn *insn, uint64_t pc, char *text, size_t size);

/* Name of a mnemonic in lower case ("add"); "invalid" for numbers that are none. */
const char *x86_mnemonic_name(unsigned mnemonic);

#endif
