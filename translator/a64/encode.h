/* AArch64 instructions as words: whoever makes, patches or recognises host code takes them from here.
 *
 * Registers are typed, so that a general register in a vector register's place does not compile. An encoder
 * returns 0 for what its instruction cannot hold (0 is no instruction that is ever wanted: UDF), so that a
 * fallback is one `if`. Machine operations of the IR have their words in ir/ops.def and ir/ops-vector.def; here is
 * what is made without a row. Sizes are in bytes: 4 or 8 of registers, 1 to 16 of memory. Encodings: Arm ARM C4.1
 * and C6.2. */
#ifndef STELE_A64_ENCODE_H
#define STELE_A64_ENCODE_H

#include <stdbool.h>
#include <stdint.h>

#include "a64/immediates.h"
#include "a64/registers.h"
#include "guest/state.h"

typedef struct A64Reg { unsigned number; } A64Reg; /* general; 31 is the zero register or SP, by instruction */
typedef struct A64Vec { unsigned number; } A64Vec;

#define A64_X(n) ((A64Reg){n})

/* --- Fields --------------------------------------------------------------------------------------------- */

static inline uint32_t a64_d(A64Reg r) { return r.number; }
static inline uint32_t a64_n(A64Reg r) { return r.number << 5; }
static inline uint32_t a64_t2(A64Reg r) { return r.number << 10; }
static inline uint32_t a64_m(A64Reg r) { return r.number << 16; }
static inline uint32_t a64_sf(unsigned size) { return size == 8 ? UINT32_C(1) << 31 : 0; }
static inline unsigned a64_log2(unsigned size) { return (unsigned)__builtin_ctz(size); }
static inline uint32_t a64_memory_size(unsigned size) { return (uint32_t)a64_log2(size) << 30; }

/* A distance in bytes as a field of `width` bits at `lsb` that counts words, with its other bits; 0: out of reach. */
static inline uint32_t a64_with_distance(uint32_t word, unsigned lsb, unsigned width, int64_t distance) {
  int64_t words = distance >> 2, limit = INT64_C(1) << (width - 1);
  if ((uint64_t)(words + limit) >= (uint64_t)limit * 2) return 0;
  uint32_t mask = ((1u << width) - 1) << lsb;
  return (word & ~mask) | ((uint32_t)words << lsb & mask);
}

/* --- Data processing ------------------------------------------------------------------------------------- */

static inline uint32_t a64_add(unsigned size, A64Reg d, A64Reg n, A64Reg m) {
  return 0x0b000000u | a64_sf(size) | a64_m(m) | a64_n(n) | a64_d(d);
}
static inline uint32_t a64_sub(unsigned size, A64Reg d, A64Reg n, A64Reg m) {
  return 0x4b000000u | a64_sf(size) | a64_m(m) | a64_n(n) | a64_d(d);
}
/* n plus `value`, of less than 4096 either way. */
static inline uint32_t a64_add_signed(unsigned size, A64Reg d, A64Reg n, int32_t value) {
  uint32_t magnitude = (uint32_t)(value < 0 ? -value : value);
  return (value < 0 ? 0x51000000u : 0x11000000u) | a64_sf(size) | magnitude << 10 | a64_n(n) | a64_d(d);
}
static inline uint32_t a64_bic(unsigned size, A64Reg d, A64Reg n, A64Reg m) {
  return 0x0a200000u | a64_sf(size) | a64_m(m) | a64_n(n) | a64_d(d);
}
static inline uint32_t a64_orr(unsigned size, A64Reg d, A64Reg n, A64Reg m) {
  return 0x2a000000u | a64_sf(size) | a64_m(m) | a64_n(n) | a64_d(d);
}
static inline uint32_t a64_eor(unsigned size, A64Reg d, A64Reg n, A64Reg m) {
  return 0x4a000000u | a64_sf(size) | a64_m(m) | a64_n(n) | a64_d(d);
}
static inline uint32_t a64_mov(unsigned size, A64Reg d, A64Reg m) {
  return a64_orr(size, d, A64_X(A64_REG_ZERO), m);
}

/* d := field << 16 * position, and its complement. */
static inline uint32_t a64_movz(unsigned size, A64Reg d, uint32_t field, unsigned position) {
  return 0x52800000u | a64_sf(size) | (uint32_t)position << 21 | (field & 0xffff) << 5 | a64_d(d);
}
static inline uint32_t a64_movn(unsigned size, A64Reg d, uint32_t field, unsigned position) {
  return 0x12800000u | a64_sf(size) | (uint32_t)position << 21 | (field & 0xffff) << 5 | a64_d(d);
}

/* d := value, a bitmask immediate (ORR). */
static inline uint32_t a64_mov_bitmask(unsigned size, A64Reg d, uint64_t value) {
  uint32_t field;
  if (!a64_logical_immediate(value, size, &field)) return 0;
  return 0x32000000u | a64_sf(size) | field | a64_n(A64_X(A64_REG_ZERO)) | a64_d(d);
}

/* Extension of the low `from` bytes (1, 2 or 4) to `size`. */
static inline uint32_t a64_sign_extend(unsigned size, unsigned from, A64Reg d, A64Reg n) {
  return (size == 8 ? 0x93400000u : 0x13000000u) | (from * 8 - 1) << 10 | a64_n(n) | a64_d(d);
}
static inline uint32_t a64_zero_extend(unsigned from, A64Reg d, A64Reg n) { /* UBFM Wd */
  return 0x53000000u | (from * 8 - 1) << 10 | a64_n(n) | a64_d(d);
}

/* The low `width` bits of n into those of d from `lsb` (1-63) on, 64 bits. */
static inline uint32_t a64_bfi(A64Reg d, A64Reg n, unsigned lsb, unsigned width) {
  if (lsb < 1 || width < 1 || lsb + width > 64) return 0;
  return 0xb3400000u | (64 - lsb) << 16 | (width - 1) << 10 | a64_n(n) | a64_d(d);
}

/* d := the address of this instruction and `distance`, here a multiple of 4. */
static inline uint32_t a64_adr(A64Reg d, int64_t distance) {
  return a64_with_distance(0x10000000u | a64_d(d), 5, 19, distance);
}

/* --- Loads and stores -------------------------------------------------------------------------------------- */

/* What an access does: the opc field. */
typedef enum A64Opc { A64_STORE, A64_LOAD, A64_LOAD_SIGN64, A64_LOAD_SIGN32 } A64Opc;

/* An access of a register lacking its address, which one of the a64_at_*() gives it. */
typedef struct A64Transfer { uint32_t word; } A64Transfer;

static inline A64Transfer a64_transfer(unsigned size, A64Opc opc, A64Reg t) {
  return (A64Transfer){0x38000000u | a64_memory_size(size) | (uint32_t)opc << 22 | a64_d(t)};
}
/* opc: A64_STORE or A64_LOAD. */
static inline A64Transfer a64_transfer_vector(unsigned size, A64Opc opc, A64Vec t) {
  return (A64Transfer){0x3c000000u | (a64_log2(size) & 3) << 30 | ((size == 16 ? 2u : 0u) | opc) << 22 | t.number};
}

/* [n, #offset], an unsigned multiple of the size (LDR, STR). */
static inline uint32_t a64_at_scaled(A64Transfer transfer, A64Reg n, unsigned size, int64_t offset) {
  if (offset < 0 || offset & (size - 1) || offset >> a64_log2(size) >= 4096) return 0;
  return transfer.word | 0x01000000u | (uint32_t)(offset >> a64_log2(size)) << 10 | a64_n(n);
}
/* STR Qt to GuestCpu.upper[number]. */
static inline uint32_t a64_store_upper(unsigned number, unsigned t) {
  return a64_at_scaled(a64_transfer_vector(16, A64_STORE, (A64Vec){t}), A64_X(A64_REG_CPU), 16,
                       (int64_t)(offsetof(GuestCpu, upper) + 16 * number));
}

/* [n, #offset], 9 bits with a sign (LDUR, STUR). */
static inline bool a64_fits_unscaled(int64_t offset) { return (uint64_t)offset + 256 < 512; }
static inline uint32_t a64_at_unscaled(A64Transfer transfer, A64Reg n, int64_t offset) {
  if (!a64_fits_unscaled(offset)) return 0;
  return transfer.word | ((uint32_t)offset & 0x1ff) << 12 | a64_n(n);
}
/* [n, #offset]! and [n], #offset. */
static inline uint32_t a64_at_pre(A64Transfer transfer, A64Reg n, int64_t offset) {
  uint32_t word = a64_at_unscaled(transfer, n, offset);
  return word ? word | 0xc00u : 0;
}
static inline uint32_t a64_at_post(A64Transfer transfer, A64Reg n, int64_t offset) {
  uint32_t word = a64_at_unscaled(transfer, n, offset);
  return word ? word | 0x400u : 0;
}
/* [n, m], m shifted by the size's log2 where `scaled`. */
static inline uint32_t a64_at_index(A64Transfer transfer, A64Reg n, A64Reg m, bool scaled) {
  return transfer.word | 0x00206800u | (uint32_t)scaled << 12 | a64_m(m) | a64_n(n);
}

/* LDP and STP of 64-bit registers: at [n, #offset], [n, #offset]!, [n], #offset. */
typedef enum A64PairIndex { A64_PAIR_POST = 1, A64_PAIR_OFFSET, A64_PAIR_PRE } A64PairIndex;
static inline uint32_t a64_pair(bool load, A64PairIndex index, A64Reg t, A64Reg t2, A64Reg n, int64_t offset) {
  if (offset & 7 || (uint64_t)(offset + 512) >= 1024) return 0;
  return 0xa8000000u | (uint32_t)index << 23 | (uint32_t)load << 22 | ((uint32_t)(offset / 8) & 0x7f) << 15 | a64_t2(t2) |
         a64_n(n) | a64_d(t);
}

/* LDR Xt of a literal `distance` bytes ahead. */
static inline uint32_t a64_load_literal(A64Reg t, int64_t distance) {
  return a64_with_distance(0x58000000u | a64_d(t), 5, 19, distance);
}
static inline bool a64_is_load_literal(uint32_t word) { return (word & 0xff000000u) == 0x58000000u; }

/* --- Ordered accesses ---------------------------------------------------------------------------------------- */

/* LDAPUR and its signed forms, STLUR (FEAT_LRCPC2). */
static inline uint32_t a64_ordered_unscaled(unsigned size, A64Opc opc, A64Reg t, A64Reg n, int64_t offset) {
  if (!a64_fits_unscaled(offset)) return 0;
  return 0x19000000u | a64_memory_size(size) | (uint32_t)opc << 22 | ((uint32_t)offset & 0x1ff) << 12 | a64_n(n) | a64_d(t);
}
static inline uint32_t a64_ldapr(unsigned size, A64Reg t, A64Reg n) {
  return 0x38bfc000u | a64_memory_size(size) | a64_n(n) | a64_d(t);
}
static inline uint32_t a64_ldar(unsigned size, A64Reg t, A64Reg n) {
  return 0x08dffc00u | a64_memory_size(size) | a64_n(n) | a64_d(t);
}
static inline uint32_t a64_stlr(unsigned size, A64Reg t, A64Reg n) {
  return 0x089ffc00u | a64_memory_size(size) | a64_n(n) | a64_d(t);
}
static inline uint32_t a64_ldaxr(unsigned size, A64Reg t, A64Reg n) {
  return 0x085ffc00u | a64_memory_size(size) | a64_n(n) | a64_d(t);
}
static inline uint32_t a64_stlxr(unsigned size, A64Reg status, A64Reg t, A64Reg n) {
  return 0x0800fc00u | a64_memory_size(size) | a64_m(status) | a64_n(n) | a64_d(t);
}

/* LSE operations with acquire and release: the word's o3 and opc fields. t gets the old value. */
typedef enum A64Atomic { A64_LDADD, A64_LDCLR, A64_LDEOR, A64_LDSET, A64_SWP = 8 } A64Atomic;
static inline uint32_t a64_atomic(unsigned size, A64Atomic operation, A64Reg operand, A64Reg t, A64Reg n) {
  return 0x38e00000u | a64_memory_size(size) | (uint32_t)operation << 12 | a64_m(operand) | a64_n(n) | a64_d(t);
}
/* CASAL: `expected` gets the old value. */
static inline uint32_t a64_compare_and_swap(unsigned size, A64Reg expected, A64Reg t, A64Reg n) {
  return 0x08e0fc00u | a64_memory_size(size) | a64_m(expected) | a64_n(n) | a64_d(t);
}

#define A64_DMB_ISHLD 0xd50339bfu
#define A64_DMB_ISHST 0xd5033abfu
#define A64_DMB_ISH   0xd5033bbfu

/* --- Branches ------------------------------------------------------------------------------------------------ */

static inline uint32_t a64_b(int64_t distance) { return a64_with_distance(0x14000000u, 0, 26, distance); }
static inline uint32_t a64_bl(int64_t distance) { return a64_with_distance(0x94000000u, 0, 26, distance); }
static inline bool a64_is_b(uint32_t word) { return (word & 0xfc000000u) == 0x14000000u; }
static inline bool a64_is_b_or_bl(uint32_t word) { return (word & 0x7c000000u) == 0x14000000u; }

static inline uint32_t a64_b_cond(unsigned condition, int64_t distance) {
  return a64_with_distance(0x54000000u | condition, 5, 19, distance);
}
static inline uint32_t a64_cbz(unsigned size, A64Reg t, int64_t distance) {
  return a64_with_distance(0x34000000u | a64_sf(size) | a64_d(t), 5, 19, distance);
}
static inline uint32_t a64_cbnz(unsigned size, A64Reg t, int64_t distance) {
  return a64_with_distance(0x35000000u | a64_sf(size) | a64_d(t), 5, 19, distance);
}
static inline uint32_t a64_bit_branch_bit(unsigned bit) {
  return (uint32_t)(bit & 0x20) << 26 | (uint32_t)(bit & 0x1f) << 19;
}
static inline uint32_t a64_tbz(A64Reg t, unsigned bit, int64_t distance) {
  return a64_with_distance(0x36000000u | a64_bit_branch_bit(bit) | a64_d(t), 5, 14, distance);
}
static inline uint32_t a64_tbnz(A64Reg t, unsigned bit, int64_t distance) {
  return a64_with_distance(0x37000000u | a64_bit_branch_bit(bit) | a64_d(t), 5, 14, distance);
}

/* The branch instruction `word` (B, BL, B.cond, CBZ, CBNZ, TBZ, TBNZ) with its target `distance` bytes away;
 * 0 when out of reach. */
uint32_t a64_retarget(uint32_t word, int64_t distance);
/* Distance in bytes of the branch instruction `word`. */
int64_t a64_branch_distance(uint32_t word);

static inline uint32_t a64_br(A64Reg n) { return 0xd61f0000u | a64_n(n); }
static inline uint32_t a64_blr(A64Reg n) { return 0xd63f0000u | a64_n(n); }
static inline uint32_t a64_ret(A64Reg n) { return 0xd65f0000u | a64_n(n); }

#endif
