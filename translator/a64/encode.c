/* Branch instructions that stand already, pointed elsewhere. */
#include "a64/encode.h"

/* The immediate field of a branch: first bit and width (Arm ARM C4.1.65). */
static void branch_field(uint32_t word, unsigned *ret_lsb, unsigned *ret_width) {
  *ret_lsb = 5;
  if ((word & 0x7c000000u) == 0x14000000u) {
    *ret_lsb = 0;
    *ret_width = 26;
  } else if ((word & 0x7e000000u) == 0x36000000u) {
    *ret_width = 14;
  } else {
    *ret_width = 19;
  }
}

uint32_t a64_retarget(uint32_t word, int64_t distance) {
  unsigned lsb, width;
  branch_field(word, &lsb, &width);
  return a64_with_distance(word, lsb, width, distance);
}

int64_t a64_branch_distance(uint32_t word) {
  unsigned lsb, width;
  branch_field(word, &lsb, &width);
  return (int64_t)((uint64_t)(word >> lsb) << (64 - width)) >> (64 - width) << 2;
}
