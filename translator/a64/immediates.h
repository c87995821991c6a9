/* Which constants AArch64 instructions can hold (Arm ARM C3.3, J1 DecodeBitMasks). */
#ifndef STELE_A64_IMMEDIATES_H
#define STELE_A64_IMMEDIATES_H

#include <stdbool.h>
#include <stdint.h>

/* True when `value`, taken as 32 or 64 bits (size 4 or 8), is a bitmask immediate; *ret_field is then
 * N << 22 | immr << 16 | imms << 10. */
bool a64_logical_immediate(uint64_t value, unsigned size, uint32_t *ret_field);

#endif
