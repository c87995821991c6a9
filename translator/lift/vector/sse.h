/* What the files lifting SSE share: reading sources, writing results, constants, NaN-exact arithmetic.
 *
 * A lift function reads all its sources (which may fault), computes in temporaries and writes the
 * destination last, through sse_result() or a sse_write_*() function, which keep LiftVectors right.
 * MMX forms run the same 128-bit operations with upper halves of zero.
 *
 * VEX forms are lifted by the functions of their SSE relatives, once for each half (vex.c): while Lift.vex is active,
 * the functions below take sources from it and leave the result there, whatever register is named. */
#ifndef STELE_LIFT_SSE_H
#define STELE_LIFT_SSE_H

#include "ir/vector.h"
#include "lift/lift.h"
#include "lift/vector/helpers.h"

static inline bool sse_is_double(SseFormat format) { return format & 1; }
static inline bool sse_is_scalar(SseFormat format) { return format & 2; }
static inline unsigned sse_bytes(SseFormat format) { return sse_is_double(format) ? 8 : 4; }

/* Row arguments made of two parts. */
#define SSE_ARGUMENT(low, high) ((uint32_t)(low) | (uint32_t)(high) << 16)
static inline unsigned sse_low(uint32_t argument) { return argument & 0xffff; }
static inline unsigned sse_high(uint32_t argument) { return argument >> 16; }

/* Arguments of sse_lift_shift. */
enum {
  SSE_PSLLW, SSE_PSLLD, SSE_PSLLQ, SSE_PSRLW, SSE_PSRLD, SSE_PSRLQ, SSE_PSRAW, SSE_PSRAD,
  SSE_SHIFT_COUNT
};

static inline bool sse_is_mmx(const X86Insn *insn, unsigned operand) {
  return insn->operands[operand].kind == X86_OPERAND_MMX;
}
static inline bool sse_is_memory(const X86Insn *insn, unsigned operand) {
  return insn->operands[operand].kind == X86_OPERAND_MEM;
}

/* XMM, MMX or memory operand; what comes from MMX or memory has zeros above. Not to be written. */
IrVec sse_source(Lift *l, const X86Insn *insn, unsigned operand);

/* The XMM register that `number` was copied from shortly before, if both still hold the same; else `number`. */
unsigned sse_original(const Lift *l, unsigned number);

/* Where the result for operand 0 is computed: the XMM register itself, which sse_source() of other operands
 * may alias (so write it once, last), or a temporary for an MMX register. sse_finish() follows. */
IrVec sse_result(Lift *l, const X86Insn *insn);
void sse_finish(Lift *l, const X86Insn *insn, IrVec result);

/* The same where the destination's old value, the first source, is changed in part: it is there already. */
IrVec sse_changed(Lift *l, const X86Insn *insn);

/* The whole XMM register `number` := value; a temporary is not to be used any more. */
void sse_write(Lift *l, unsigned number, IrVec value);
/* XMM register `number` is being given a value with zeros above its low `bytes`. */
void sse_know_zero_above(Lift *l, unsigned number, unsigned bytes);
/* True when bytes `bytes` and up of the register are known to be zero. */
bool sse_is_zero_above(const Lift *l, unsigned number, unsigned bytes);
/* For an operation that zeroes above its result: the register itself if it is zero there already, otherwise
 * a temporary; then sse_write_scalar(). */
IrVec sse_scalar_target(Lift *l, unsigned number, unsigned bytes);
/* The low `bytes` of XMM register `number` := value, whose upper part is zero. The rest stays. */
void sse_write_scalar(Lift *l, unsigned number, unsigned bytes, IrVec value);

/* The same where the upper part is not known to be zero, of the value and of the register. */
void sse_merge_scalar(Lift *l, unsigned number, unsigned bytes, IrVec value);
/* The low part of XMM register `number` has been written in another way. */
void sse_forget_scalar(Lift *l, unsigned number);
/* Operand as a scalar of `bytes`: only that low part counts. */
IrVec sse_scalar_source(Lift *l, const X86Insn *insn, unsigned operand, unsigned bytes);

/* MMX registers, for all that lifts instructions using them. Both make the x87 unit MMX. */
IrVec lift_read_mmx(Lift *l, unsigned number);
void lift_write_mmx(Lift *l, unsigned number, IrVec value);

/* New temporaries holding constants. */
IrVec sse_const64(Lift *l, uint64_t value);             /* in the low half */
IrVec sse_const128(Lift *l, uint64_t low, uint64_t high);
IrVec sse_copy(Lift *l, IrVec value);

/* One operation into a new temporary. */
IrVec sse_vv(Lift *l, IrOp op, IrVec n);
IrVec sse_vv_raw(Lift *l, IrOp op, IrVec n, uint32_t raw);
IrVec sse_vvv(Lift *l, IrOp op, IrVec n, IrVec m);
IrVec sse_vvv_raw(Lift *l, IrOp op, IrVec n, IrVec m, uint32_t raw);

/* Passing vectors to helpers and back: GuestCpu.operand. */
void sse_store_operand(Lift *l, unsigned slot, IrVec value);
void sse_load_operand(Lift *l, unsigned slot, IrVec d);

/* a op b in a new temporary (scalar: zeros above); its NaNs become x86's by the end of the group. `op` is
 * IR_FADD_4S and the like of the same format, IR_FSQRT_* for one operand (then a is b). float.c. */
IrVec sse_arithmetic(Lift *l, IrOp op, SseFormat format, IrVec a, IrVec b);

/* Clears the host's invalid flag, and where it is `noted` adds it to the guest's MXCSR first. */
void sse_clear_invalid(Lift *l, bool noted);

/* Low half of `value`: lane 0 of doublewords `control` & 3 and so on. shuffle.c. */
IrVec sse_shuffle4(Lift *l, IrVec value, unsigned control, unsigned bytes);

/* The functions of sse.def. */
#define LIFT(mnemonic, function, argument) LiftFunction function;
#include "lift/vector/sse.def"
#undef LIFT

#endif
