/* What the files lifting VEX-encoded vector instructions share.
 *
 * A 256-bit operation is two of 128 bits. The lower halves are the XMM registers in their homes; the upper ones live in
 * GuestCpu.upper, and those that a region uses most in host registers while it runs (uppers.c). Which of them are zero is
 * known in LiftVectors, so that VEX.128 forms and VZEROUPPER mostly cost nothing. Code without VEX has nothing to do with
 * any of that. */
#ifndef STELE_LIFT_VEX_H
#define STELE_LIFT_VEX_H

#include "lift/vector/sse.h"

/* How the operands of a VEX form are those of its SSE relative (vex_lift). */
typedef enum VexShape {
  VEX_BINARY,  /* d, n, m [, imm] */
  VEX_UNARY,   /* d, m [, imm] */
  VEX_SELF,    /* d, m [, imm]; the relative is given m twice */
  VEX_SHIFT,   /* d, n, m: m are 128 bits for both halves; or d, n, imm */
  VEX_BLEND,   /* d, n, m, mask */
  VEX_WIDEN,   /* d, m: lanes of half the width or less of the result's */
  VEX_NARROW,  /* d, m: the halves' results side by side */
  VEX_SCALAR4, VEX_SCALAR8,   /* d, n, m [, imm]: the result's lowest lane (bytes), of n the rest */
  VEX_GENERAL4, VEX_GENERAL8, /* the same with an integer for m, which the relative reads */
  VEX_INSERT,  /* d, n, integer, imm */
  VEX_SAME     /* as the relative; what it writes of a vector register becomes zero above */
} VexShape;

/* Row argument: the relative, the shape, and by how many bits the immediate is shifted for the upper half. */
#define VEX_ARGUMENT(relative, shape, shift)                                                                           \
  ((uint32_t)(relative) | (uint32_t)(shape) << 16 | (uint32_t)(shift) << 24)

static inline bool vex_is_wide(const X86Insn *insn, unsigned operand) { return insn->operands[operand].size == 32; }

/* Lifts a VEX form by its SSE relative. argument: VEX_ARGUMENT. */
LiftFunction vex_lift;
/* The mnemonic whose operation a VEX form does; the instruction's own where it has no relative. */
unsigned vex_relative(unsigned mnemonic);

/* Both halves of a vector. */
typedef struct VexPair {
  IrVec half[2];
} VexPair;

/* Where upper halves live: in GuestCpu, and in this host register where the region has that as a home for it. */
static inline size_t ymm_upper_offset(unsigned number) { return offsetof(GuestCpu, upper) + 16 * number; }
static inline IrVec ymm_home(unsigned number) { return (IrVec){(uint16_t)a64_upper_home(number)}; }

/* The upper half of YMM register `number`, not to be written. Good until it is. */
IrVec ymm_upper(Lift *l, unsigned number);
/* It becomes `value`, which is not to be changed after, or zero. */
void ymm_write_upper(Lift *l, unsigned number, IrVec value);
void ymm_zero_upper(Lift *l, unsigned number);
/* It becomes what the lower half is. */
void ymm_spread(Lift *l, unsigned number);
/* It is about to be read or changed in parts, in GuestCpu.upper. */
void ymm_forget_register(Lift *l, unsigned number);

/* A vector operand's halves; of 16 bytes or less the lower alone. Memory is read. */
VexPair vex_read(Lift *l, const X86Insn *insn, unsigned operand);
/* Operand 0, a register, becomes `value`; what is above its size becomes zero. No access that may fault follows. */
void vex_write(Lift *l, const X86Insn *insn, VexPair value);

/* Runs `make` and has NaNs mended if any of the arithmetic in it needs that: sse_arithmetic()'s results are temporaries,
 * and so are those of `make`, of which there are `halves`. */
typedef VexPair VexMake(Lift *l, const X86Insn *insn, const void *context);
VexPair vex_checked(Lift *l, const X86Insn *insn, unsigned halves, VexMake *make, const void *context);

/* Has the host's invalid flag set if results of FMA in these registers, which nothing has looked at, are NaNs. */
void vex_signal_nans(Lift *l, uint16_t numbers);
static inline void vex_signal_pending(Lift *l, uint16_t numbers) {
  if (l->group.pending & numbers) vex_signal_nans(l, l->group.pending & numbers);
}

/* Whether it is arithmetic on 256 bits whose NaNs are looked at. */
bool vex_may_make_nans(const X86Insn *insn);

/* The host's invalid flag is clear from here on: what it has said is in MXCSR. */
void vex_settle(Lift *l);

/* 32 bytes from or to memory, in the region's order. */
VexPair vex_load(Lift *l, const X86Insn *insn);
void vex_store(Lift *l, const X86Insn *insn, VexPair value);

/* Lanes `n_lane` of n and `m_lane` of m, doublewords of 64 bits, in a new temporary. */
IrVec vex_join(Lift *l, IrVec n, unsigned n_lane, IrVec m, unsigned m_lane);

/* The functions of avx.def. */
#define VEX(mnemonic, relative, shape, shift)
#define LIFT(mnemonic, function, argument) LiftFunction function;
#include "lift/vector/avx.def"
#undef LIFT
#undef VEX

#endif
