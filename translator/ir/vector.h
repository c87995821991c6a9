/* The raw fields of the rows of ops-vector.def: lanes, shift amounts, immediates (Arm ARM C7.2). */
#ifndef STELE_IR_VECTOR_H
#define STELE_IR_VECTOR_H

#include <stdint.h>

/* SHL, SLI: `amount` below the lane's bits. */
static inline uint32_t ir_shift_left(unsigned amount) { return amount << 16; }

/* USHR, SSHR, USRA, SRI, SHRN, RSHRN: 1 to the (narrow) lane's bits. */
static inline uint32_t ir_shift_right(unsigned bits, unsigned amount) {
  return (bits - amount) << 16;
}

/* DUP of an element, UMOV and INS_*G: the lane of an element of `bytes`. */
static inline uint32_t ir_lane(unsigned bytes, unsigned lane) {
  return (lane * 2 * bytes) << 16;
}

/* INS_B, INS_H, INS_S, INS_D: lane `to` of the destination from lane `from` of the source. */
static inline uint32_t ir_lanes(unsigned bytes, unsigned to, unsigned from) {
  return (to * 2 * bytes) << 16 | (from * bytes) << 11;
}

/* EXT: the result begins at byte `position` of the first source. */
static inline uint32_t ir_ext(unsigned position) { return position << 11; }

/* MOVI, FMOV: abcdefgh. */
static inline uint32_t ir_imm8(unsigned value) { return (value >> 5) << 16 | (value & 31) << 5; }
enum { IR_IMM8_ONE = 0x70 }; /* FMOV: 1.0 */

#endif
