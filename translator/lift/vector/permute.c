/* AVX and AVX2 permutations without an SSE relative: broadcasts, lanes across halves, permutations and shifts by
 * another vector's lanes. */
#include "lift/vector/vex.h"

IrVec vex_join(Lift *l, IrVec n, unsigned n_lane, IrVec m, unsigned m_lane) {
  if (n_lane == m_lane) return sse_vvv(l, n_lane ? IR_ZIP2_2D : IR_ZIP1_2D, n, m);
  if (n_lane) return sse_vvv_raw(l, IR_EXT_16B, n, m, ir_ext(8));
  IrVec d = sse_copy(l, n);
  ir_vv_raw(&l->b, IR_INS_D, d, m, ir_lanes(8, 1, 1));
  return d;
}

/* VBROADCASTSS, VPBROADCASTB …: argument: the operation that spreads a lane; MOV_16B for 128 bits,
 * which come from memory. */
void vex_lift_broadcast(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned number = insn->operands[0].reg;
  IrVec d = lift_xmm(number);
  if (argument == IR_MOV_16B) ir_load_vector(&l->b, 16, d, lift_vector_address(l, insn, 16));
  else ir_vv(&l->b, (IrOp)argument, d, lift_read_vector(l, insn, 1, insn->operands[1].size));
  sse_know_zero_above(l, number, 16);
  if (vex_is_wide(insn, 0)) ymm_spread(l, number);
  else ymm_zero_upper(l, number);
}

/* VPERM2F128, VPERM2I128: for each half of the result two bits choose, of the first and the second source's, one; a
 * third makes it zero. */
void vex_lift_permute_halves(Lift *l, const X86Insn *insn, uint32_t argument) {
  VexPair m = vex_read(l, insn, 2), n = vex_read(l, insn, 1), d;
  for (unsigned k = 0; k < 2; k++) {
    unsigned control = (unsigned)insn->imm >> (4 * k);
    IrVec half = (control & 2 ? m : n).half[control & 1];
    d.half[k] = control & 8 ? IR_VECTOR_ZERO : half;
  }
  vex_write(l, insn, d);
}

void vex_lift_insert_half(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec value = lift_read_vector(l, insn, 2, 16);
  VexPair d = vex_read(l, insn, 1);
  d.half[insn->imm & 1] = value;
  vex_write(l, insn, d);
}

void vex_lift_extract_half(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned number = insn->operands[1].reg;
  IrVec value = insn->imm & 1 ? ymm_upper(l, number) : lift_xmm(number);
  if (sse_is_memory(insn, 0)) {
    ir_store_vector(&l->b, 16, value, lift_vector_address(l, insn, 16));
    return;
  }
  unsigned d = insn->operands[0].reg;
  sse_know_zero_above(l, d, 16);
  if (value.id != d) ir_vvv(&l->b, IR_MOV_16B, lift_xmm(d), value, value);
  ymm_zero_upper(l, d);
}

/* VPERMQ, VPERMPD: any of the four doublewords of 64 bits for each of the result's. */
void vex_lift_permute_quadwords(Lift *l, const X86Insn *insn, uint32_t argument) {
  VexPair m = vex_read(l, insn, 1), d;
  for (unsigned k = 0; k < 2; k++) {
    unsigned low = (unsigned)insn->imm >> (4 * k) & 3, high = (unsigned)insn->imm >> (4 * k + 2) & 3;
    d.half[k] = vex_join(l, m.half[low >> 1], low & 1, m.half[high >> 1], high & 1);
  }
  vex_write(l, insn, d);
}

/* The bytes that make up lanes of 32 bits, from the lanes' numbers in the low bits of `lanes`: of four, or of eight. */
static IrVec byte_numbers(Lift *l, IrVec lanes, unsigned count) {
  IrVec keep = ir_vector_temp(&l->b), scale = ir_vector_temp(&l->b);
  ir_v_raw(&l->b, IR_MOVI_4S, keep, ir_imm8(count - 1));
  ir_v_raw(&l->b, IR_MOVI_16B, scale, ir_imm8(4));
  IrVec bytes = sse_vvv(l, IR_AND_16B, lanes, keep);
  ir_vvv(&l->b, IR_MUL_4S, bytes, bytes, scale);
  return sse_vvv(l, IR_ADD_16B, bytes, sse_const128(l, UINT64_C(0x0302010003020100), UINT64_C(0x0302010003020100)));
}

/* VPERMD, VPERMPS: TBL gives zeros for numbers that are not its register's, and the two tables' results are joined. */
void vex_lift_permute_lanes(Lift *l, const X86Insn *insn, uint32_t argument) {
  VexPair m = vex_read(l, insn, 2), lanes = vex_read(l, insn, 1), d;
  IrVec beyond = ir_vector_temp(&l->b);
  ir_v_raw(&l->b, IR_MOVI_16B, beyond, ir_imm8(16));
  for (unsigned k = 2; k-- > 0;) {
    IrVec bytes = byte_numbers(l, lanes.half[k], 8), low = sse_vvv(l, IR_TBL_16B, m.half[0], bytes);
    IrVec high = sse_vvv(l, IR_TBL_16B, m.half[1], sse_vvv(l, IR_SUB_16B, bytes, beyond));
    d.half[k] = sse_vvv(l, IR_ORR_16B, low, high);
  }
  vex_write(l, insn, d);
}

static IrVec permute_singles(Lift *l, IrVec n, IrVec lanes) {
  return sse_vvv(l, IR_TBL_16B, n, byte_numbers(l, lanes, 4));
}

/* Bit 1 of each doubleword of 64 bits chooses. */
static IrVec permute_doubles(Lift *l, IrVec n, IrVec lanes) {
  IrVec low = sse_vv(l, IR_DUP_2D, n), high = sse_vv_raw(l, IR_DUP_2D, n, ir_lane(8, 1));
  IrVec choice = sse_vv_raw(l, IR_SHL_2D, lanes, ir_shift_left(62));
  ir_vv(&l->b, IR_CMLT0_2D, choice, choice);
  ir_vvv(&l->b, IR_BSL_16B, choice, high, low);
  return choice;
}

/* VPERMILPS, VPERMILPD: within halves, by an immediate or by lanes. argument: PSHUFD or SHUFPD. */
void vex_lift_permute_within(Lift *l, const X86Insn *insn, uint32_t relative) {
  bool doubles = relative == X86_SHUFPD;
  if (insn->operands[2].kind == X86_OPERAND_IMM) {
    vex_lift(l, insn, VEX_ARGUMENT(relative, doubles ? VEX_SELF : VEX_UNARY, doubles ? 2 : 0));
    return;
  }
  VexPair lanes = vex_read(l, insn, 2), n = vex_read(l, insn, 1), d = {{{IR_NONE}, IR_VECTOR_ZERO}};
  for (unsigned k = vex_is_wide(insn, 0) ? 2 : 1; k-- > 0;)
    d.half[k] = doubles ? permute_doubles(l, n.half[k], lanes.half[k]) : permute_singles(l, n.half[k], lanes.half[k]);
  vex_write(l, insn, d);
}

/* --- Shifts by lanes ------------------------------------------------------------------------------ */

typedef enum LaneShift { LEFT, RIGHT, ARITHMETIC } LaneShift;

/* USHL and SSHL take the low byte of a count, negative to the right; they shift everything out from 32 on. */
static IrVec shift_32(Lift *l, LaneShift kind, IrVec n, IrVec m) {
  IrVec most = ir_vector_temp(&l->b), count;
  ir_v_raw(&l->b, IR_MOVI_4S, most, ir_imm8(kind == ARITHMETIC ? 31 : 32));
  count = sse_vvv(l, IR_UMIN_4S, m, most);
  if (kind != LEFT) ir_vv(&l->b, IR_NEG_4S, count, count);
  return sse_vvv(l, kind == ARITHMETIC ? IR_SSHL_4S : IR_USHL_4S, n, count);
}

static IrVec shift_64(Lift *l, LaneShift kind, IrVec n, IrVec m) {
  IrVec most = sse_const128(l, 63, 63), beyond = sse_vvv(l, IR_CMHI_2D, m, most);
  IrVec count = kind == LEFT ? m : sse_vv(l, IR_NEG_2D, m), shifted = sse_vvv(l, IR_USHL_2D, n, count);
  return sse_vvv(l, IR_BIC_16B, shifted, beyond);
}

/* VPSLLVD, VPSRLVQ, VPSRAVD …: argument: LaneShift; 4 for 64 bits. */
void vex_lift_shift_lanes(Lift *l, const X86Insn *insn, uint32_t argument) {
  LaneShift kind = (LaneShift)(argument & 3);
  VexPair m = vex_read(l, insn, 2), n = vex_read(l, insn, 1), d = {{{IR_NONE}, IR_VECTOR_ZERO}};
  for (unsigned k = vex_is_wide(insn, 0) ? 2 : 1; k-- > 0;)
    d.half[k] = argument & 4 ? shift_64(l, kind, n.half[k], m.half[k]) : shift_32(l, kind, n.half[k], m.half[k]);
  vex_write(l, insn, d);
}
