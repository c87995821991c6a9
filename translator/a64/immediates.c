/* Bitmask immediates: a run of ones, rotated, repeated over elements of 2 to 64 bits. The inverse of the
 * Arm ARM's DecodeBitMasks(). */
#include "a64/immediates.h"

static uint64_t low_mask(unsigned bits) { return bits == 64 ? UINT64_MAX : (UINT64_C(1) << bits) - 1; }

/* The smallest element size whose repetition makes `value`. */
static unsigned element_size(uint64_t value) {
  unsigned bits = 64;
  while (bits > 2) {
    unsigned half = bits / 2;
    if ((value & low_mask(half)) != ((value >> half) & low_mask(half))) break;
    bits = half;
  }
  return bits;
}

bool a64_logical_immediate(uint64_t value, unsigned size, uint32_t *ret_field) {
  if (size == 4) value = (value & UINT32_MAX) | value << 32;
  if (value == 0 || value == UINT64_MAX) return false;

  unsigned bits = element_size(value);
  uint64_t mask = low_mask(bits), element = value & mask;
  /* Rotate so that the run of ones starts at bit 0. */
  unsigned rotation = 0;
  if (element & 1) {
    unsigned leading = (unsigned)__builtin_clzll(~(element << (64 - bits)));
    rotation = leading < bits ? leading : 0;
  } else {
    rotation = bits - (unsigned)__builtin_ctzll(element);
  }
  uint64_t run = rotation ? ((element << rotation) | (element >> (bits - rotation))) & mask : element;
  if (run & (run + 1)) return false;

  /* Not __builtin_popcountll(): libgcc's uses v0, which is a guest register. */
  unsigned ones = 64 - (unsigned)__builtin_clzll(run);
  uint32_t imms = ((~(bits * 2 - 1)) & 0x3f) | (ones - 1);
  *ret_field = (uint32_t)(bits == 64) << 22 | (uint32_t)rotation << 16 | imms << 10;
  return true;
}
