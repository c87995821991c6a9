/* Packed integer arithmetic, comparison, logic and shifts, for XMM and MMX registers alike. */
#include "lift/vector/sse.h"

/* One operation, lane by lane: the upper half of an MMX operand does not disturb the lower. */
void sse_lift_binary(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0), d = sse_result(l, insn);
  ir_vvv(&l->b, (IrOp)argument, d, n, m);
  sse_finish(l, insn, d);
}

/* The same with the operands exchanged: ANDN, and UNPCK-like operations of two halves. */
void sse_lift_binary_reversed(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0), d = sse_result(l, insn);
  ir_vvv(&l->b, (IrOp)argument, d, m, n);
  sse_finish(l, insn, d);
}

/* PABSB and others of one source. */
void sse_lift_unary(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec n = sse_source(l, insn, 1), d = sse_result(l, insn);
  ir_vv(&l->b, (IrOp)argument, d, n);
  sse_finish(l, insn, d);
}

static bool same_register(const Lift *l, const X86Insn *insn) {
  if (l->vex.active) return l->vex.source[0].id == l->vex.source[1].id;
  return insn->operands[1].kind == insn->operands[0].kind &&
         insn->operands[1].reg == insn->operands[0].reg;
}

/* PXOR, XORPS, PSUB, PCMPGT: a register with itself gives zero. */
void sse_lift_zeroing(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!same_register(l, insn)) {
    sse_lift_binary(l, insn, argument);
    return;
  }
  IrVec d = sse_result(l, insn);
  ir_v_raw(&l->b, IR_MOVI_2D, d, 0);
  sse_finish(l, insn, d);
  if (!sse_is_mmx(insn, 0)) sse_know_zero_above(l, insn->operands[0].reg, 4);
}

/* PCMPEQ: a register with itself gives ones. */
void sse_lift_compare_equal(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!same_register(l, insn)) {
    sse_lift_binary(l, insn, argument);
    return;
  }
  IrVec d = sse_result(l, insn);
  ir_v_raw(&l->b, IR_MOVI_2D, d, ir_imm8(0xff));
  sse_finish(l, insn, d);
}

/* Horizontal: the argument is the operation for XMM and, in the high half, for MMX registers. */
void sse_lift_binary_mmx(Lift *l, const X86Insn *insn, uint32_t argument) {
  sse_lift_binary(l, insn, sse_is_mmx(insn, 0) ? sse_high(argument) : sse_low(argument));
}

static void horizontal(Lift *l, const X86Insn *insn, IrOp op, IrOp even, IrOp odd) {
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  IrVec evens = sse_vvv(l, even, n, m), odds = sse_vvv(l, odd, n, m), d = sse_result(l, insn);
  ir_vvv(&l->b, op, d, evens, odds);
  sse_finish(l, insn, d);
}

/* PHADDSW, PHSUBW, PHSUBSW: even lanes op odd lanes, of the destination and then of the source. */
void sse_lift_horizontal_word(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (sse_is_mmx(insn, 0)) horizontal(l, insn, (IrOp)argument, IR_UZP1_4H, IR_UZP2_4H);
  else horizontal(l, insn, (IrOp)argument, IR_UZP1_8H, IR_UZP2_8H);
}

/* PHSUBD. */
void sse_lift_horizontal_dword(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (sse_is_mmx(insn, 0)) horizontal(l, insn, (IrOp)argument, IR_UZP1_2S, IR_UZP2_2S);
  else horizontal(l, insn, (IrOp)argument, IR_UZP1_4S, IR_UZP2_4S);
}

/* PSIGN: negated where the second operand is negative, zero where it is zero. argument: 0 bytes, 1 words,
 * 2 doublewords. */
void sse_lift_psign(Lift *l, const X86Insn *insn, uint32_t argument) {
  static const uint16_t less[] = {IR_CMLT0_16B, IR_CMLT0_8H, IR_CMLT0_4S};
  static const uint16_t equal[] = {IR_CMEQ0_16B, IR_CMEQ0_8H, IR_CMEQ0_4S};
  static const uint16_t negate[] = {IR_NEG_16B, IR_NEG_8H, IR_NEG_4S};
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  IrVec value = sse_vv(l, (IrOp)less[argument], m);
  IrVec zero = sse_vv(l, (IrOp)equal[argument], m);
  IrVec negated = sse_vv(l, (IrOp)negate[argument], n);
  ir_vvv(&l->b, IR_BSL_16B, value, negated, n);
  IrVec d = sse_result(l, insn);
  ir_vvv(&l->b, IR_BIC_16B, d, value, zero);
  sse_finish(l, insn, d);
}

/* Products of halfwords into two vectors of words. */
typedef struct Products {
  IrVec low, high;
} Products;

static Products multiply_words(Lift *l, const X86Insn *insn, IrOp low, IrOp high) {
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  return (Products){sse_vvv(l, low, n, m), sse_vvv(l, high, n, m)};
}

/* PMADDWD. */
void sse_lift_pmaddwd(Lift *l, const X86Insn *insn, uint32_t argument) {
  Products p = multiply_words(l, insn, IR_SMULL_4S, IR_SMULL2_4S);
  IrVec d = sse_result(l, insn);
  ir_vvv(&l->b, IR_ADDP_4S, d, p.low, p.high);
  sse_finish(l, insn, d);
}

/* PMULHW, PMULHUW. argument: 1 when unsigned. */
void sse_lift_pmulh(Lift *l, const X86Insn *insn, uint32_t argument) {
  Products p = argument ? multiply_words(l, insn, IR_UMULL_4S, IR_UMULL2_4S)
                        : multiply_words(l, insn, IR_SMULL_4S, IR_SMULL2_4S);
  IrVec d = sse_result(l, insn);
  ir_vvv(&l->b, IR_UZP2_8H, d, p.low, p.high);
  sse_finish(l, insn, d);
}

/* PMULHRSW: (product + 2^14) >> 15. */
void sse_lift_pmulhrsw(Lift *l, const X86Insn *insn, uint32_t argument) {
  Products p = multiply_words(l, insn, IR_SMULL_4S, IR_SMULL2_4S);
  IrVec d = sse_result(l, insn);
  ir_vv_raw(&l->b, IR_RSHRN_4H, d, p.low, ir_shift_right(16, 15));
  ir_vv_raw(&l->b, IR_RSHRN2_8H, d, p.high, ir_shift_right(16, 15));
  sse_finish(l, insn, d);
}

/* PMULUDQ, PMULDQ: the even doublewords. argument: the widening multiplication. */
void sse_lift_pmul_even(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  if (!sse_is_mmx(insn, 0)) {
    bool same = m.id == n.id;
    n = sse_vv(l, IR_XTN_2S, n);
    m = same ? n : sse_vv(l, IR_XTN_2S, m);
  }
  IrVec d = sse_result(l, insn);
  ir_vvv(&l->b, (IrOp)argument, d, n, m);
  sse_finish(l, insn, d);
}

/* PMADDUBSW: unsigned bytes of the destination times signed bytes of the source; even and odd products fit
 * a halfword and are added with saturation. */
void sse_lift_pmaddubsw(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  IrVec even = sse_vv_raw(l, IR_SHL_8H, n, ir_shift_left(8));
  IrVec even_signed = sse_vv_raw(l, IR_SHL_8H, m, ir_shift_left(8));
  IrVec odd = sse_vv_raw(l, IR_USHR_8H, n, ir_shift_right(16, 8));
  IrVec odd_signed = sse_vv_raw(l, IR_SSHR_8H, m, ir_shift_right(16, 8));
  ir_vv_raw(&l->b, IR_USHR_8H, even, even, ir_shift_right(16, 8));
  ir_vv_raw(&l->b, IR_SSHR_8H, even_signed, even_signed, ir_shift_right(16, 8));
  ir_vvv(&l->b, IR_MUL_8H, even, even, even_signed);
  ir_vvv(&l->b, IR_MUL_8H, odd, odd, odd_signed);
  IrVec d = sse_result(l, insn);
  ir_vvv(&l->b, IR_SQADD_8H, d, even, odd);
  sse_finish(l, insn, d);
}

/* PSADBW: the sum of eight absolute differences in each half. */
void sse_lift_psadbw(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  IrVec sum = sse_vvv(l, IR_UABD_16B, n, m);
  ir_vv(&l->b, IR_UADDLP_8H, sum, sum);
  ir_vv(&l->b, IR_UADDLP_4S, sum, sum);
  IrVec d = sse_result(l, insn);
  ir_vv(&l->b, IR_UADDLP_2D, d, sum);
  sse_finish(l, insn, d);
}

/* MPSADBW: sums over four bytes at eight successive positions of the destination (from byte 0 or 4) of the
 * differences to one doubleword of the source. */
void sse_lift_mpsadbw(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned start = (unsigned)insn->imm & 4, block = ((unsigned)insn->imm & 3) * 4;
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0), sum = {IR_NONE};
  for (unsigned k = 0; k < 4; k++) {
    IrVec window = start + k ? sse_vvv_raw(l, IR_EXT_16B, n, n, ir_ext(start + k)) : n;
    IrVec byte = sse_vv_raw(l, IR_DUP_16B, m, ir_lane(1, block + k));
    if (k == 0) sum = sse_vvv(l, IR_UABDL_8H, window, byte);
    else ir_vvv(&l->b, IR_UABAL_8H, sum, window, byte);
  }
  sse_write(l, insn->operands[0].reg, sum);
}

/* PHMINPOSUW: the least halfword and the index of its first occurrence. */
void sse_lift_phminposuw(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrBuilder *b = &l->b;
  IrVec n = sse_source(l, insn, 1);
  IrVec least = sse_vv(l, IR_UMINV_8H, n);
  IrVec equal = sse_vv_raw(l, IR_DUP_8H, least, 0);
  ir_vvv(b, IR_CMEQ_8H, equal, equal, n);
  ir_vv(b, IR_XTN_8B, equal, equal);
  IrReg index = ir_temp(b), value = ir_temp(b);
  ir_rv_raw(b, IR_FMOV_XD, 8, index, equal, 0);
  ir_rr(b, IR_RBIT, 8, index, index);
  ir_rr(b, IR_CLZ, 8, index, index); /* eight times the index */
  ir_lsr_imm(b, 8, index, index, 3);
  ir_rv_raw(b, IR_UMOV_H, 4, value, least, 0);
  ir_bfi(b, 4, value, index, 16, 16);
  ir_vr_raw(b, IR_FMOV_SW, 4, sse_result(l, insn), value, 0);
  sse_know_zero_above(l, insn->operands[0].reg, 4);
}

/* PTEST: ZF when no common bit, CF when the source has no bit outside the destination. */
static IrReg any_bit(Lift *l, IrVec value) {
  IrVec folded = sse_vvv(l, IR_UMAXP_4S, value, value);
  IrReg bits = ir_temp(&l->b);
  ir_rv_raw(&l->b, IR_FMOV_XD, 8, bits, folded, 0);
  return bits;
}

void sse_lift_ptest(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  IrReg common = any_bit(l, m.id == n.id ? n : sse_vvv(l, IR_AND_16B, n, m)), carry = IR_NO_REG;
  if (l->live_flags & X86_F_CF) {
    carry = ir_temp(&l->b);
    if (m.id == n.id) {
      ir_const(&l->b, carry, 1);
    } else {
      IrReg outside = any_bit(l, sse_vvv(l, IR_BIC_16B, m, n));
      ir_rr(&l->b, IR_CLZ, 8, carry, outside);
      ir_lsr_imm(&l->b, 8, carry, carry, 6);
    }
  }
  lift_flags_zero_carry(l, 8, common, carry);
}

/* --- Shifts --- */

typedef struct ShiftRow {
  uint16_t immediate, by_register;
  uint8_t bits;
  bool right, arithmetic;
} ShiftRow;

static const ShiftRow shift_rows[SSE_SHIFT_COUNT] = {
    [SSE_PSLLW] = {IR_SHL_8H, IR_USHL_8H, 16, false, false},
    [SSE_PSLLD] = {IR_SHL_4S, IR_USHL_4S, 32, false, false},
    [SSE_PSLLQ] = {IR_SHL_2D, IR_USHL_2D, 64, false, false},
    [SSE_PSRLW] = {IR_USHR_8H, IR_USHL_8H, 16, true, false},
    [SSE_PSRLD] = {IR_USHR_4S, IR_USHL_4S, 32, true, false},
    [SSE_PSRLQ] = {IR_USHR_2D, IR_USHL_2D, 64, true, false},
    [SSE_PSRAW] = {IR_SSHR_8H, IR_SSHL_8H, 16, true, true},
    [SSE_PSRAD] = {IR_SSHR_4S, IR_SSHL_4S, 32, true, true},
};

static void shift_immediate(Lift *l, const X86Insn *insn, const ShiftRow *row) {
  unsigned count = (unsigned)insn->imm & 0xff;
  if (row->arithmetic && count >= row->bits) count = row->bits - 1u;
  IrVec n = sse_source(l, insn, 0), d = sse_result(l, insn);
  if (count == 0) d = n;
  else if (count >= row->bits) ir_v_raw(&l->b, IR_MOVI_2D, d, 0);
  else
    ir_vv_raw(&l->b, (IrOp)row->immediate, d, n,
              row->right ? ir_shift_right(row->bits, count) : ir_shift_left(count));
  sse_finish(l, insn, d);
}

/* The count is the low 64 bits of the source: brought to at most 64 (USHL and SSHL take a signed byte), then
 * into every lane. */
static IrVec shift_count(Lift *l, IrVec source, const ShiftRow *row) {
  static const uint16_t negate[] = {IR_NEG_8H, IR_NEG_4S, IR_NEG_2D};
  static const uint16_t spread[] = {IR_DUP_8H, IR_DUP_4S, IR_DUP_2D};
  unsigned lanes = row->bits == 16 ? 0 : row->bits == 32 ? 1 : 2;
  IrVec count = sse_vv(l, IR_UQXTN_2S, source), limit = ir_vector_temp(&l->b);
  ir_v_raw(&l->b, IR_MOVI_4S, limit, ir_imm8(64));
  ir_vvv(&l->b, IR_UMIN_4S, count, count, limit);
  ir_vv_raw(&l->b, (IrOp)spread[lanes], count, count, 0);
  if (row->right) ir_vv(&l->b, (IrOp)negate[lanes], count, count);
  return count;
}

void sse_lift_shift(Lift *l, const X86Insn *insn, uint32_t argument) {
  const ShiftRow *row = &shift_rows[argument];
  if (insn->operands[1].kind == X86_OPERAND_IMM) {
    shift_immediate(l, insn, row);
    return;
  }
  IrVec count = shift_count(l, sse_source(l, insn, 1), row);
  IrVec n = sse_source(l, insn, 0), d = sse_result(l, insn);
  ir_vvv(&l->b, (IrOp)row->by_register, d, n, count);
  sse_finish(l, insn, d);
}

/* PSRLDQ, PSLLDQ: whole bytes. argument: 1 to the left. */
void sse_lift_shift_bytes(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned count = (unsigned)insn->imm & 0xff, number = insn->operands[0].reg;
  IrVec n = sse_source(l, insn, 0);
  if (count == 0) {
    sse_write(l, number, n);
    return;
  }
  IrVec d = sse_result(l, insn);
  if (count >= 16) {
    ir_v_raw(&l->b, IR_MOVI_2D, d, 0);
    sse_know_zero_above(l, number, 4);
  } else if (argument) {
    ir_vvv_raw(&l->b, IR_EXT_16B, d, IR_VECTOR_ZERO, n, ir_ext(16 - count));
  } else if (count == 8) {
    ir_vv_raw(&l->b, IR_DUP_D, d, n, ir_lane(8, 1));
    sse_know_zero_above(l, number, 8);
  } else {
    ir_vvv_raw(&l->b, IR_EXT_16B, d, n, IR_VECTOR_ZERO, ir_ext(count));
    if (count >= 8) sse_know_zero_above(l, number, count >= 12 ? 4 : 8);
  }
}
