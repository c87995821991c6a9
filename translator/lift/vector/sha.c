/* SHA extensions by AArch64's SHA instructions, which do four rounds where SHA256RNDS2 does two.
 *
 * The registers of SHA256RNDS2 hold the state as (F, E, B, A) and (H, G, D, C) from the low lane up;
 * SHA256H and SHA256H2 want (A, B, C, D) and (E, F, G, H). After four rounds C, D, G, H are what A, B, E, F were
 * after two. So each RNDS2 does four rounds and takes the result of two from them, whatever the other two's
 * constants were; and when XMM0's upper half is brought down for a second RNDS2 with the registers exchanged, as it
 * always is, that one finds its result done, and the next four rounds their state. */
#include "lift/vector/sse.h"

enum { LOOK_AHEAD = 8 };

/* CPUID offers the instructions only where the host has FEAT_SHA1 and FEAT_SHA256. */
static bool available(Lift *l, const X86Insn *insn) {
  uint32_t needed = A64_HAS_SHA1 | A64_HAS_SHA2;
  if ((l->features & needed) != needed) lift_undefined(l, insn, 0);
  return (l->features & needed) == needed;
}

static bool writes_xmm(const X86Insn *insn, unsigned number) {
  const X86Operand *d = &insn->operands[0];
  return d->kind == X86_OPERAND_XMM && d->reg == number && d->access & X86_ACCESS_W;
}

static bool brings_down_xmm0(const X86Insn *insn) {
  return insn->mnemonic == X86_PSHUFD && insn->operands[0].reg == 0 &&
         insn->operands[1].kind == X86_OPERAND_XMM && insn->operands[1].reg == 0 && (insn->imm & 0xff) == 0x0e;
}

/* The index of the RNDS2 that continues the one being lifted, of registers d and s; 0 when there is none. */
static uint32_t find_second(const Lift *l, unsigned d, unsigned s) {
  const LiftRegion *region = l->region;
  bool down = false;
  if (!region || d == 0 || s == 0 || d == s) return 0;
  for (uint32_t i = l->index + 1; i < region->count && i <= l->index + LOOK_AHEAD; i++) {
    const RegionInsn *r = &region->insns[i];
    if (!r[-1].adjacent || r->leader || r->decode != X86_DECODE_OK || r->insn.flow != X86_FLOW_NEXT) return 0;
    if (r->insn.mnemonic == X86_SHA256RNDS2)
      return down && r->insn.operands[0].reg == s && r->insn.operands[1].kind == X86_OPERAND_XMM &&
                     r->insn.operands[1].reg == d
                 ? i
                 : 0;
    if (brings_down_xmm0(&r->insn) && !down) down = true;
    else if (writes_xmm(&r->insn, 0) || writes_xmm(&r->insn, d) || writes_xmm(&r->insn, s)) return 0;
  }
  return 0;
}

/* True when the state in temporaries is that of registers `cdgh` and `abef`. */
static bool state_stands(const Lift *l, unsigned cdgh, unsigned abef) {
  const LiftRegion *region = l->region;
  if (!region || !l->sha.done || l->sha.cdgh != cdgh || l->sha.abef != abef) return false;
  for (uint32_t i = l->sha.done; i < l->index; i++) {
    const RegionInsn *r = &region->insns[i];
    if (!r->adjacent || r[1].leader) return false;
    if (i > l->sha.done && (writes_xmm(&r->insn, cdgh) || writes_xmm(&r->insn, abef))) return false;
  }
  return true;
}

/* From the registers' order to AArch64's. */
static void load_state(Lift *l, const X86Insn *insn, IrVec n, IrVec m) {
  bool in_registers = !sse_is_memory(insn, 1);
  unsigned cdgh = insn->operands[0].reg, abef = in_registers ? insn->operands[1].reg : 0;
  if (in_registers && state_stands(l, cdgh, abef)) return;
  l->sha.abcd = sse_vvv(l, IR_ZIP2_2D, m, n);
  l->sha.efgh = sse_vvv(l, IR_ZIP1_2D, m, n);
  ir_vv(&l->b, IR_REV64_4S, l->sha.abcd, l->sha.abcd);
  ir_vv(&l->b, IR_REV64_4S, l->sha.efgh, l->sha.efgh);
}

void sse_lift_sha256rnds2(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  unsigned number = insn->operands[0].reg;
  IrBuilder *b = &l->b;
  if (l->region && l->sha.index == l->index && l->sha.index) {
    l->sha.index = 0;
    l->sha.done = l->index;
    IrVec four = sse_vvv(l, IR_ZIP1_2D, l->sha.efgh, l->sha.abcd);
    ir_vv(b, IR_REV64_4S, sse_result(l, insn), four);
    return;
  }
  IrVec m = sse_source(l, insn, 1), n = lift_xmm(number);
  load_state(l, insn, n, m);
  l->sha.done = 0;
  IrVec abcd = l->sha.abcd, efgh = l->sha.efgh, before = sse_copy(l, abcd);
  ir_vvv(b, IR_SHA256H, abcd, efgh, lift_xmm(0));
  ir_vvv(b, IR_SHA256H2, efgh, before, lift_xmm(0));
  l->sha.index = sse_is_memory(insn, 1) ? 0 : find_second(l, number, insn->operands[1].reg);
  if (l->sha.index) {
    l->sha.cdgh = (uint8_t)number;
    l->sha.abef = insn->operands[1].reg;
  }
  IrVec two = sse_vvv(l, IR_ZIP2_2D, efgh, abcd);
  ir_vv(b, IR_REV64_4S, sse_result(l, insn), two);
}

void sse_lift_sha256msg1(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  IrVec m = sse_source(l, insn, 1);
  ir_vv(&l->b, IR_SHA256SU0, sse_result(l, insn), m);
}

/* SHA256SU1 also adds the words seven steps back, which on x86 have been added: three of them are taken as zero,
 * the fourth, its third operand's lowest, is subtracted before. */
void sse_lift_sha256msg2(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  IrVec m = sse_source(l, insn, 1), n = lift_xmm(insn->operands[0].reg);
  IrVec zero = IR_VECTOR_ZERO, lowest = sse_vvv_raw(l, IR_EXT_16B, zero, m, ir_ext(4));
  IrVec words = sse_vvv(l, IR_SUB_4S, n, lowest);
  ir_vvv(&l->b, IR_SHA256SU1, words, zero, m);
  sse_write(l, insn->operands[0].reg, words);
}

static IrVec reverse_words(Lift *l, IrVec value) {
  IrVec pairs = sse_vv(l, IR_REV64_4S, value);
  return sse_vvv_raw(l, IR_EXT_16B, pairs, pairs, ir_ext(8));
}

/* SHA1RNDS4: four rounds of function and constant `imm`; E has been added to the first word. */
void sse_lift_sha1rnds4(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  static const uint16_t op[] = {IR_SHA1C, IR_SHA1P, IR_SHA1M, IR_SHA1P};
  static const uint32_t constant[] = {0x5a827999, 0x6ed9eba1, 0x8f1bbcdc, 0xca62c1d6}; /* FIPS 180-4, 4.2.1 */
  unsigned rounds = (unsigned)insn->imm & 3;
  IrVec m = sse_source(l, insn, 1), n = lift_xmm(insn->operands[0].reg);
  IrVec words = reverse_words(l, m), state = reverse_words(l, n);
  uint64_t both = constant[rounds] | (uint64_t)constant[rounds] << 32;
  ir_vvv(&l->b, IR_ADD_4S, words, words, sse_const128(l, both, both));
  ir_vvv(&l->b, (IrOp)op[rounds], state, IR_VECTOR_ZERO, words);
  sse_write(l, insn->operands[0].reg, reverse_words(l, state));
}

void sse_lift_sha1nexte(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  IrVec m = sse_source(l, insn, 1), n = lift_xmm(insn->operands[0].reg);
  IrVec e = sse_vv_raw(l, IR_DUP_S, n, ir_lane(4, 3));
  ir_vv(&l->b, IR_SHA1H, e, e);
  IrVec top = sse_vvv_raw(l, IR_EXT_16B, IR_VECTOR_ZERO, e, ir_ext(4));
  ir_vvv(&l->b, IR_ADD_4S, sse_result(l, insn), m, top);
}

void sse_lift_sha1msg1(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  IrVec m = sse_source(l, insn, 1), n = lift_xmm(insn->operands[0].reg);
  IrVec later = sse_vvv_raw(l, IR_EXT_16B, m, n, ir_ext(8));
  ir_vvv(&l->b, IR_EOR_16B, sse_result(l, insn), n, later);
}

static IrVec rotate_by_one(Lift *l, IrVec value) {
  IrVec d = sse_vv_raw(l, IR_SHL_4S, value, ir_shift_left(1));
  ir_vv_raw(&l->b, IR_SRI_4S, d, value, ir_shift_right(32, 31));
  return d;
}

/* SHA1MSG2: the last word needs the first of the new ones, rotated once more. */
void sse_lift_sha1msg2(Lift *l, const X86Insn *insn, uint32_t argument) {
  if (!available(l, insn)) return;
  IrVec m = sse_source(l, insn, 1), n = lift_xmm(insn->operands[0].reg), zero = IR_VECTOR_ZERO;
  IrVec words = sse_vvv_raw(l, IR_EXT_16B, zero, m, ir_ext(12));
  ir_vvv(&l->b, IR_EOR_16B, words, words, n);
  words = rotate_by_one(l, words);
  IrVec first = rotate_by_one(l, words);
  first = sse_vvv_raw(l, IR_EXT_16B, first, zero, ir_ext(12));
  ir_vvv(&l->b, IR_EOR_16B, sse_result(l, insn), words, first);
}
