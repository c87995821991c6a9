/* AES, carry-less multiplication, Galois field arithmetic and CRC32, by the host's instructions where it has them. */
#include "lift/vector/sse.h"

/* Slots 0 and 1 to a helper, slot 2 to the destination. */
static void by_helper(Lift *l, const X86Insn *insn, LiftHelper helper, uint64_t argument, IrVec n, IrVec m) {
  sse_store_operand(l, 0, n);
  sse_store_operand(l, 1, m);
  lift_plain_helper_imm(l, helper, argument);
  sse_load_operand(l, 2, sse_result(l, insn));
}

/* AESENC and relatives: AESE and AESD add their key before substituting, x86 after mixing: theirs is zero.
 * argument: SseAes. */
void sse_lift_aes(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec key = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  if (!(l->features & A64_HAS_AES)) {
    by_helper(l, insn, LIFT_HELPER_SSE_AES, argument, n, key);
    return;
  }
  bool decrypt = argument == SSE_AESDEC || argument == SSE_AESDECLAST;
  bool last = argument == SSE_AESENCLAST || argument == SSE_AESDECLAST;
  IrVec zero = IR_VECTOR_ZERO, state = key.id == n.id ? sse_copy(l, n) : sse_changed(l, insn);
  ir_vv(&l->b, decrypt ? IR_AESD_16B : IR_AESE_16B, state, zero);
  if (!last) ir_vv(&l->b, decrypt ? IR_AESIMC_16B : IR_AESMC_16B, state, state);
  ir_vvv(&l->b, IR_EOR_16B, sse_result(l, insn), state, key);
}

void sse_lift_aesimc(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec m = sse_source(l, insn, 1);
  if (l->features & A64_HAS_AES) ir_vv(&l->b, IR_AESIMC_16B, sse_result(l, insn), m);
  else by_helper(l, insn, LIFT_HELPER_SSE_AES, SSE_AESIMC, m, m);
}

/* AESKEYGENASSIST: SubWord of doublewords 1 and 3, each also rotated and with the round constant added. AESE with
 * a zero key substitutes, but shifts rows; the table undoes that and rotates. */
void sse_lift_aeskeygenassist(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned round = (unsigned)insn->imm & 0xff;
  IrVec m = sse_source(l, insn, 1);
  if (!(l->features & A64_HAS_AES)) {
    by_helper(l, insn, LIFT_HELPER_SSE_AES, SSE_AESKEYGEN | round << 8, m, m);
    return;
  }
  IrVec state = sse_copy(l, m);
  ir_vv(&l->b, IR_AESE_16B, state, IR_VECTOR_ZERO);
  /* Byte (row, column) of the source is at column - row after AESE. */
  IrVec table = sse_const128(l, UINT64_C(0x040b0e010b0e0104), UINT64_C(0x0c0306090306090c));
  IrVec words = sse_vvv(l, IR_TBL_16B, state, table);
  if (round) {
    IrVec constant = sse_const64(l, (uint64_t)round << 32);
    ir_vv(&l->b, IR_DUP_2D, constant, constant);
    words = sse_vvv(l, IR_EOR_16B, words, constant);
  }
  sse_write(l, insn->operands[0].reg, words);
}

/* PCLMULQDQ: imm bit 0 chooses the half of the destination, bit 4 of the source. */
void sse_lift_pclmulqdq(Lift *l, const X86Insn *insn, uint32_t argument) {
  bool n_high = insn->imm & 1, m_high = insn->imm & 16;
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  bool native = l->features & A64_HAS_PMULL;
  if (native && n_high && m_high) {
    ir_vvv(&l->b, IR_PMULL2_1Q, sse_result(l, insn), n, m);
    return;
  }
  if (n_high) n = sse_vv_raw(l, IR_DUP_D, n, ir_lane(8, 1));
  if (m_high) m = sse_vv_raw(l, IR_DUP_D, m, ir_lane(8, 1));
  if (native) ir_vvv(&l->b, IR_PMULL_1Q, sse_result(l, insn), n, m);
  else by_helper(l, insn, LIFT_HELPER_SSE_CLMUL, 0, n, m);
}

/* GF2P8MULB, GF2P8AFFINEQB, GF2P8AFFINEINVQB. argument: SseGalois. */
void sse_lift_galois(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrVec m = sse_source(l, insn, 1), n = sse_source(l, insn, 0);
  by_helper(l, insn, LIFT_HELPER_SSE_GALOIS, argument | ((uint64_t)insn->imm & 0xff) << 8, n, m);
}

/* CRC32: the result's upper half is zero with a 64-bit destination too. */
void sse_lift_crc32(Lift *l, const X86Insn *insn, uint32_t argument) {
  IrBuilder *b = &l->b;
  unsigned size = insn->operands[1].size;
  IrReg data = lift_read(l, insn, 1), crc = lift_gpr(insn->operands[0].reg);
  if (l->features & A64_HAS_CRC32) {
    IrOp op = size == 1 ? IR_CRC32CB : size == 2 ? IR_CRC32CH : size == 4 ? IR_CRC32CW : IR_CRC32CX;
    ir_rrr(b, op, size == 8 ? 8 : 4, crc, crc, data);
    return;
  }
  size_t slot = offsetof(GuestCpu, operand);
  ir_store_state(b, 8, crc, slot);
  ir_store_state(b, 8, data, slot + 8);
  lift_plain_helper_imm(l, LIFT_HELPER_SSE_CRC32, size);
  ir_load_state(b, 4, crc, slot);
}
