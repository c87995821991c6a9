/* AArch64 words to text: what a64_emit() produces, for STELE_DUMP and golden files. */
#ifndef STELE_A64_DISASSEMBLE_H
#define STELE_A64_DISASSEMBLE_H

#include <stddef.h>
#include <stdint.h>

/* Writes the instruction `word`, which stands at `address`, to `text` of `size` bytes, always terminated.
 * Returns the length it would have had. Preferred aliases as the Arm ARM names them (MOV, CMP, LSL, CSET);
 * branch targets and literals come out absolute. What generated code never holds is ".word 0x…". */
int a64_disassemble(uint32_t word, uint64_t address, char *text, size_t size);

#endif
