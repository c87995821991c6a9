/* SHA-1 and SHA-256 by the host's instructions (Intel SDM volume 2, SHA1* and SHA256*; Arm ARM C7.2, SHA1*,
 * SHA256*). CPUID offers them only where the host has FEAT_SHA1 and FEAT_SHA256.
 *
 * x86 keeps the state in vectors whose highest lane is the first word, and does two SHA-256 rounds at a time; the
 * host keeps words ascending and does four rounds. After two rounds the new A, B, E, F are what four rounds
 * leave as C, D, G, H, whatever the last two rounds added: so four are done, and the other half is kept. */
#include "lift/sse.h"

static bool available(Lift *l, const X86Insn *insn) {
  bool ok = (l->features & (A64_HAS_SHA1 | A64_HAS_SHA2)) == (A64_HAS_SHA1 | A64_HAS_SHA2);
  if (!ok) lift_undefined(l, insn, 0);
  return ok;
}

/* The four words in the other order. */
static IrVec reversed(Lift *l, IrVec value) {
  IrVec pairs = sse_vv_raw(l, IR_REV64_4S, value, 0);
  return sse_vvv_raw(l, IR_EXT_16B, pairs, pairs, 8 << 11);
}

static void finish(Lift *l, const X86Insn *insn, IrVec value) { sse_write(l, insn->operands[0].reg, value); }

/* --- SHA-256 -------------------------------------------------------------------------------------- */

/* Operand 0: H G D C (lane 0 first), operand 1: F E B A, XMM0: two words with their constants added. */
void sse_lift_sha256rnds2(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  IrVec cdgh = sse_vv_raw(l, IR_REV64_4S, lift_xmm(insn->operands[0].reg), 0);
  IrVec abef = sse_vv_raw(l, IR_REV64_4S, sse_source(l, insn, 1), 0);
  IrVec abcd = sse_vvv(l, IR_ZIP2_2D, abef, cdgh), efgh = sse_vvv(l, IR_ZIP1_2D, abef, cdgh);
  IrVec before = sse_copy(l, abcd);
  ir_vvv(&l->b, IR_SHA256H, abcd, efgh, lift_xmm(0));
  ir_vvv(&l->b, IR_SHA256H2, efgh, before, lift_xmm(0));
  IrVec kept = sse_vvv(l, IR_ZIP2_2D, efgh, abcd);
  finish(l, insn, sse_vv_raw(l, IR_REV64_4S, kept, 0));
}

void sse_lift_sha256msg1(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  IrVec words = sse_copy(l, lift_xmm(insn->operands[0].reg));
  ir_vv(&l->b, IR_SHA256SU0, words, sse_source(l, insn, 1));
  finish(l, insn, words);
}

/* The host's instruction also adds the four words from one further on, which x86 leaves to the program: zeros.
 * Its last source's lowest lane would be one of them. */
void sse_lift_sha256msg2(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  IrVec words = sse_copy(l, lift_xmm(insn->operands[0].reg)), recent = sse_copy(l, sse_source(l, insn, 1));
  ir_vr_raw(&l->b, IR_INS_SG, 4, recent, IR_ZERO, 0);
  ir_vvv(&l->b, IR_SHA256SU1, words, sse_zero(l), recent);
  finish(l, insn, words);
}

/* --- SHA-1 ---------------------------------------------------------------------------------------- */

/* Four rounds with function and constant by the immediate. E has been added to the first word already. */
void sse_lift_sha1rnds4(Lift *l, const X86Insn *insn, uint32_t argument) {
  static const uint32_t constants[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6};
  static const uint16_t functions[] = {IR_SHA1C, IR_SHA1P, IR_SHA1M, IR_SHA1P};
  if (!available(l, insn)) return;
  unsigned function = insn->imm & 3;
  IrVec state = reversed(l, lift_xmm(insn->operands[0].reg)), words = reversed(l, sse_source(l, insn, 1));
  IrVec constant = sse_const64(l, constants[function]);
  ir_vv(&l->b, IR_DUP_4S, constant, constant);
  ir_vvv(&l->b, IR_ADD_4S, words, words, constant);
  ir_vvv(&l->b, (IrOp)functions[function], state, sse_zero(l), words);
  finish(l, insn, reversed(l, state));
}

/* x rotated left by one bit in each word. */
static IrVec rotated(Lift *l, IrVec x) {
  IrVec result = sse_vv_raw(l, IR_SHL_4S, x, 1 << 16);
  ir_vv_raw(&l->b, IR_SRI_4S, result, x, (32 - 31) << 16);
  return result;
}

/* The next E, A rotated by 30, added to the first word. */
void sse_lift_sha1nexte(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  IrVec a = sse_vv_raw(l, IR_DUP_S, lift_xmm(insn->operands[0].reg), ir_lane(4, 3));
  IrVec e = sse_vv_raw(l, IR_SHA1H, a, 0);
  IrVec high = sse_vvv_raw(l, IR_EXT_16B, sse_zero(l), e, 4 << 11);
  finish(l, insn, sse_vvv(l, IR_ADD_4S, sse_source(l, insn, 1), high));
}

void sse_lift_sha1msg1(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  IrVec first = lift_xmm(insn->operands[0].reg), second = sse_source(l, insn, 1);
  IrVec later = sse_vvv_raw(l, IR_EXT_16B, second, first, 8 << 11);
  finish(l, insn, sse_vvv(l, IR_EOR_16B, first, later));
}

/* The last word depends on the first new one. */
void sse_lift_sha1msg2(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  IrVec zero = sse_zero(l);
  IrVec earlier = sse_vvv_raw(l, IR_EXT_16B, zero, sse_source(l, insn, 1), 12 << 11);
  IrVec words = rotated(l, sse_vvv(l, IR_EOR_16B, lift_xmm(insn->operands[0].reg), earlier));
  IrVec first = sse_vvv_raw(l, IR_EXT_16B, rotated(l, words), zero, 12 << 11);
  finish(l, insn, sse_vvv(l, IR_EOR_16B, words, first));
}
