/* Vector moves: whole registers, halves, lanes, between the register files, masks of signs. */
#include "lift/vector/sse.h"

static void store(Lift *l, const X86Insn *insn, IrVec value) {
  unsigned size = insn->operands[0].size;
  ir_store_vector(&l->b, size, value, lift_vector_address(l, insn, size));
}

/* A load that zeroes the rest of the register. */
static void load(Lift *l, const X86Insn *insn) {
  unsigned size = insn->operands[1].size, number = insn->operands[0].reg;
  ir_load_vector(&l->b, size, lift_xmm(number), lift_vector_address(l, insn, size));
  sse_know_zero_above(l, number, size);
}

/* MOVAPS, MOVDQU, MOVNTPS, LDDQU …: 16 bytes. Alignment is checked before, with exact flags (lift/region.c): otherwise a
 * misaligned MOVAPS, which raises #GP on hardware, works. */
void sse_lift_move(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (sse_is_memory(insn, 0)) {
    store(l, insn, lift_xmm(insn->operands[1].reg));
  } else if (sse_is_memory(insn, 1)) {
    load(l, insn);
  } else {
    LiftVectors *v = &l->vectors;
    unsigned d = insn->operands[0].reg, s = insn->operands[1].reg;
    unsigned zero = (v->zero_above4 >> s & 1) ? 4 : (v->zero_above8 >> s & 1) ? 8 : 16;
    sse_write(l, d, lift_xmm(s));
    sse_know_zero_above(l, d, zero);
  }
}

/* MOVSS, MOVSD: between registers the upper part stays, loads zero it. argument: bytes. */
void sse_lift_move_scalar(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (sse_is_memory(insn, 0)) {
    store(l, insn, lift_xmm(insn->operands[1].reg));
  } else if (sse_is_memory(insn, 1)) {
    load(l, insn);
  } else {
    sse_write_scalar(l, insn->operands[0].reg, argument, lift_xmm(insn->operands[1].reg));
  }
}

static IrVec vector_from_general(Lift *l, const X86Insn *insn, IrVec d) {
  bool wide = insn->operands[1].size == 8;
  ir_vr_raw(&l->b, wide ? IR_FMOV_DX : IR_FMOV_SW, wide ? 8 : 4, d, lift_read(l, insn, 1), 0);
  return d;
}

/* MOVD, MOVQ into a vector register; the rest becomes zero. */
static void move_in(Lift *l, const X86Insn *insn) {
  bool mmx = sse_is_mmx(insn, 0);
  unsigned size = insn->operands[1].size, number = insn->operands[0].reg;
  IrVec d = mmx ? ir_vector_temp(&l->b) : lift_xmm(number);
  switch (insn->operands[1].kind) {
  case X86_OPERAND_GPR: vector_from_general(l, insn, d); break;
  case X86_OPERAND_MEM: ir_load_vector(&l->b, size, d, lift_vector_address(l, insn, size)); break;
  case X86_OPERAND_MMX: d = lift_read_mmx(l, insn->operands[1].reg); break;
  default: ir_vv(&l->b, IR_FMOV_D, d, lift_xmm(insn->operands[1].reg)); break;
  }
  if (mmx) lift_write_mmx(l, number, d);
  else sse_know_zero_above(l, number, size);
}

/* MOVD, MOVQ between any two kinds. */
void sse_lift_movq(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned to = insn->operands[0].kind;
  if (to == X86_OPERAND_XMM || to == X86_OPERAND_MMX) {
    move_in(l, insn);
    return;
  }
  IrVec value = sse_is_mmx(insn, 1) ? lift_read_mmx(l, insn->operands[1].reg)
                                    : lift_xmm(insn->operands[1].reg);
  if (to == X86_OPERAND_MEM) {
    store(l, insn, value);
    return;
  }
  unsigned size = insn->operands[0].size == 8 ? 8 : 4;
  ir_rv_raw(&l->b, size == 8 ? IR_FMOV_XD : IR_FMOV_WS, size, lift_gpr(insn->operands[0].reg), value,
            0);
}

/* MOVNTQ. */
void sse_lift_movntq(Lift *l, const X86Insn *insn, uint32_t argument) {
  store(l, insn, lift_read_mmx(l, insn->operands[1].reg));
}

/* MOVQ2DQ, MOVDQ2Q. */
void sse_lift_movq2dq(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned number = insn->operands[0].reg;
  IrVec value = lift_read_mmx(l, insn->operands[1].reg);
  ir_vv(&l->b, IR_FMOV_D, lift_xmm(number), value);
  sse_know_zero_above(l, number, 8);
}

void sse_lift_movdq2q(Lift *l, const X86Insn *insn, uint32_t argument) {
  lift_write_mmx(l, insn->operands[0].reg, lift_xmm(insn->operands[1].reg));
}

/* MOVLPS, MOVHPS, MOVHLPS, MOVLHPS and the PD forms. argument: the half (0 low, 1 high) of the XMM register
 * that is loaded, stored or written; between registers the source's other half goes there. */
void sse_lift_move_half(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (sse_is_memory(insn, 0)) {
    IrVec value = lift_xmm(insn->operands[1].reg);
    if (argument) value = sse_vv_raw(l, IR_DUP_D, value, ir_lane(8, 1));
    store(l, insn, value);
    return;
  }
  unsigned number = insn->operands[0].reg, from = sse_is_memory(insn, 1) ? 0 : !argument;
  if (l->vex.active) {
    ir_vv_raw(&l->b, IR_INS_D, sse_changed(l, insn), sse_source(l, insn, 1), ir_lanes(8, argument, from));
    return;
  }
  IrVec value = lift_read_vector(l, insn, 1, 8);
  ir_vv_raw(&l->b, IR_INS_D, lift_xmm(number), value, ir_lanes(8, argument, from));
  sse_forget_scalar(l, number);
  if (argument) sse_know_zero_above(l, number, 16);
  else l->vectors.zero_above4 &= (uint16_t)~(1u << number);
}

/* MOVDDUP, MOVSLDUP, MOVSHDUP. */
void sse_lift_movddup(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec value = sse_source(l, insn, 1);
  ir_vv(&l->b, IR_DUP_2D, sse_result(l, insn), value);
}

void sse_lift_movdup_single(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec value = sse_source(l, insn, 1);
  ir_vvv(&l->b, (IrOp)argument, sse_result(l, insn), value, value);
}

/* PEXTRB … PEXTRQ, EXTRACTPS. argument: bytes of a lane. */
void sse_lift_extract(Lift *l, const X86Insn *insn, uint32_t argument) {
  static const uint16_t op[] = {[1] = IR_UMOV_B, [2] = IR_UMOV_H, [4] = IR_UMOV_S, [8] = IR_UMOV_D};
  bool mmx = sse_is_mmx(insn, 1);
  unsigned lanes = (mmx ? 8 : 16) / argument, lane = (unsigned)insn->imm & (lanes - 1);
  IrVec value = sse_source(l, insn, 1);
  IrReg d = ir_temp(&l->b);
  ir_rv_raw(&l->b, (IrOp)op[argument], argument == 8 ? 8 : 4, d, value, ir_lane(argument, lane));
  lift_write(l, insn, 0, d);
}

/* PINSRB … PINSRQ. argument: bytes of a lane. */
void sse_lift_insert(Lift *l, const X86Insn *insn, uint32_t argument) {
  static const uint16_t op[] = {[1] = IR_INS_BG, [2] = IR_INS_HG, [4] = IR_INS_SG, [8] = IR_INS_DG};
  bool mmx = sse_is_mmx(insn, 0);
  unsigned lanes = (mmx ? 8 : 16) / argument, lane = (unsigned)insn->imm & (lanes - 1);
  IrReg value = lift_read(l, insn, 1);
  IrVec d = mmx ? lift_read_mmx(l, insn->operands[0].reg) : sse_changed(l, insn);
  ir_vr_raw(&l->b, (IrOp)op[argument], argument == 8 ? 8 : 4, d, value, ir_lane(argument, lane));
  sse_finish(l, insn, d);
}

/* INSERTPS: imm 7:6 source lane (registers only), 5:4 destination lane, 3:0 lanes to clear. */
void sse_lift_insertps(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned imm = (unsigned)insn->imm, from = sse_is_memory(insn, 1) ? 0 : imm >> 6 & 3;
  unsigned to = imm >> 4 & 3;
  IrVec value = sse_source(l, insn, 1), d = sse_changed(l, insn);
  if (!(imm >> to & 1)) ir_vv_raw(&l->b, IR_INS_S, d, value, ir_lanes(4, to, from));
  for (unsigned lane = 0; lane < 4; lane++)
    if (imm >> lane & 1) ir_vr_raw(&l->b, IR_INS_SG, 4, d, IR_ZERO, ir_lane(4, lane));
}

/* MOVMSKPS: the signs of lanes 0, 1 come together in the low doubleword, those of 2, 3 in the third. */
void sse_lift_movmskps(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrBuilder *b = &l->b;
  IrVec signs = sse_vv_raw(l, IR_USHR_4S, sse_source(l, insn, 1), ir_shift_right(32, 31));
  ir_vv_raw(b, IR_USRA_2D, signs, signs, ir_shift_right(64, 31));
  IrReg d = lift_gpr(insn->operands[0].reg), low = ir_temp(b), high = ir_temp(b);
  ir_rv_raw(b, IR_FMOV_WS, 4, low, signs, 0);
  ir_rv_raw(b, IR_UMOV_S, 4, high, signs, ir_lane(4, 2));
  ir_rrr_shift(b, IR_ORR, 4, d, low, high, 0, 2);
}

void sse_lift_movmskpd(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrBuilder *b = &l->b;
  IrVec value = sse_source(l, insn, 1);
  IrReg d = lift_gpr(insn->operands[0].reg), low = ir_temp(b), high = ir_temp(b);
  ir_rv_raw(b, IR_FMOV_XD, 8, low, value, 0);
  ir_rv_raw(b, IR_UMOV_D, 8, high, value, ir_lane(8, 1));
  ir_lsr_imm(b, 8, high, high, 63);
  ir_extr(b, 8, d, high, low, 63);
}

/* PMOVMSKB: the sign bits are gathered by shifted additions, twice as many in each step: 2 in a
 * halfword, 4 in a word, 8 in a doubleword. */
void sse_lift_pmovmskb(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrBuilder *b = &l->b;
  bool mmx = sse_is_mmx(insn, 1);
  IrVec bits = sse_vv_raw(l, IR_USHR_16B, sse_source(l, insn, 1), ir_shift_right(8, 7));
  ir_vv_raw(b, IR_USRA_8H, bits, bits, ir_shift_right(16, 7));
  ir_vv_raw(b, IR_USRA_4S, bits, bits, ir_shift_right(32, 14));
  ir_vv_raw(b, IR_USRA_2D, bits, bits, ir_shift_right(64, 28));
  IrReg d = lift_gpr(insn->operands[0].reg), low = ir_temp(b), high = ir_temp(b);
  ir_rv_raw(b, IR_UMOV_B, 4, mmx ? d : low, bits, 0);
  if (mmx) return;
  ir_rv_raw(b, IR_UMOV_B, 4, high, bits, ir_lane(1, 8));
  ir_rrr_shift(b, IR_ORR, 4, d, low, high, 0, 8);
}

/* MASKMOVDQU, MASKMOVQ: bytes whose mask has its sign set go to [RDI]; no other byte is touched. */
void sse_lift_maskmov(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrBuilder *b = &l->b;
  unsigned bytes = sse_is_mmx(insn, 0) ? 8 : 16;
  IrVec value = sse_source(l, insn, 0), mask = sse_source(l, insn, 1);
  IrReg base = lift_gpr(X86_RDI);
  if (insn->prefixes & X86_PREFIX_ADDR32) {
    base = ir_temp(b);
    ir_mov(b, 4, base, lift_gpr(X86_RDI));
  }
  if (insn->mem.segment == X86_SEG_FS || insn->mem.segment == X86_SEG_GS) {
    IrReg segment = ir_temp(b), sum = ir_temp(b);
    ir_load_state(b, 8, segment,
                  insn->mem.segment == X86_SEG_FS ? offsetof(GuestCpu, fs_base)
                                                  : offsetof(GuestCpu, gs_base));
    ir_rrr(b, IR_ADD, 8, sum, base, segment);
    base = sum;
  }
  for (unsigned i = 0; i < bytes; i++) {
    IrLabel skip = ir_label(b);
    IrReg bit = ir_temp(b), byte = ir_temp(b);
    ir_rv_raw(b, IR_UMOV_B, 4, bit, mask, ir_lane(1, i));
    ir_rv_raw(b, IR_UMOV_B, 4, byte, value, ir_lane(1, i));
    ir_tbz(b, bit, 7, skip);
    ir_store(b, 1, byte, lift_address_offset(l, base, i, 1));
    ir_bind(b, skip);
  }
}

/* MOVNTI. */
void sse_lift_movnti(Lift *l, const X86Insn *insn, uint32_t argument) {
  lift_write(l, insn, 0, lift_read(l, insn, 1));
}
