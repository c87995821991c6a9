/* F16C: conversions between single and half precision. Both sides quiet a NaN and keep its sign and upper fraction;
 * halves are denormal whatever MXCSR says of denormals. */
#include "lift/vector/vex.h"

/* VCVTPH2PS: four or eight halves to singles. */
void vex_lift_from_half_precision(Lift *l, const X86Insn *insn, uint32_t argument) {
  l->settled = false;
  bool wide = vex_is_wide(insn, 0);
  IrVec m = lift_read_vector(l, insn, 1, insn->operands[1].size);
  VexPair d = {{{IR_NONE}, IR_VECTOR_ZERO}};
  if (wide) d.half[1] = sse_vv(l, IR_FCVTL2_4S, m);
  d.half[0] = sse_vv(l, IR_FCVTL_4S, m);
  vex_write(l, insn, d);
}

/* FPCR with the rounding mode of the immediate's low bits, and what it was before; IR_NO_REG where MXCSR's is meant. */
static IrReg change_rounding(Lift *l, unsigned imm) {
  enum { CURRENT = 4, MODE_AT = 22, MODE_BITS = 2 };
  if (imm & CURRENT) return IR_NO_REG;
  IrReg before = ir_temp(&l->b), mode = ir_temp(&l->b), changed = ir_temp(&l->b);
  ir_emit(&l->b, IR_MRS_FPCR, 8, before.id, IR_NONE, IR_NONE, 0);
  ir_mov(&l->b, 8, changed, before);
  ir_const(&l->b, mode, (imm & 1) << 1 | (imm >> 1 & 1)); /* down 1, up 2 on x86; up 1, down 2 on AArch64 */
  ir_bfi(&l->b, 8, changed, mode, MODE_AT, MODE_BITS);
  ir_emit(&l->b, IR_MSR_FPCR, 8, changed.id, IR_NONE, IR_NONE, 0);
  return before;
}

/* VCVTPS2PH: to a register or to memory, rounded as the immediate says. */
void vex_lift_to_half_precision(Lift *l, const X86Insn *insn, uint32_t argument) {
  l->settled = false;
  bool wide = vex_is_wide(insn, 1);
  VexPair m = vex_read(l, insn, 1);
  IrReg before = change_rounding(l, (unsigned)insn->imm);
  IrVec d = sse_vv(l, IR_FCVTN_4H, m.half[0]);
  if (wide) ir_vv(&l->b, IR_FCVTN2_8H, d, m.half[1]);
  if (before.id != IR_NONE) ir_emit(&l->b, IR_MSR_FPCR, 8, before.id, IR_NONE, IR_NONE, 0);
  if (sse_is_memory(insn, 0)) {
    ir_store_vector(&l->b, wide ? 16 : 8, d, lift_vector_address(l, insn, wide ? 16 : 8));
    return;
  }
  unsigned number = insn->operands[0].reg;
  sse_write(l, number, d);
  if (!wide) sse_know_zero_above(l, number, 8);
  ymm_zero_upper(l, number);
}
