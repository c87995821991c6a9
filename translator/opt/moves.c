/* op t, …; MOV home, t → op home, …
 *
 * Lifting computes into a temporary and moves the result to the guest register when nothing can fault any more. Where
 * the temporary is used by that move alone, and nothing stands between that could fault, branch or touch the register,
 * the operation makes the register at once. What the upper end of a temporary is shifted down for, to be merged into a
 * register as its low byte or word, is merged from where it is (BFM). */
#include "opt/opt.h"

enum { REACH = 6 /* operations looked at before a move */ };

/* Whether nothing but two operations names a temporary. */
static bool appears_twice(const IrBuilder *b, unsigned temporary) {
  unsigned appearances = 0;
  for (const IrInsn *insn = b->insns, *end = insn + b->count; insn < end && appearances < 3; insn++)
    for (unsigned temps = insn->temps; temps; temps &= temps - 1) {
      unsigned k = (unsigned)__builtin_ctz(temps);
      appearances += insn->reg[k] == temporary && ir_op_info[insn->op].kind[k] & IR_KIND_G;
    }
  return appearances == 2;
}

/* Whether bits 32-63 of what `insn` makes are zero. */
static bool makes_word(const IrInsn *insn) {
  if (ir_op_info[insn->op].sf) return insn->size == 4;
  switch ((IrOp)insn->op) {
  case IR_MOV: return insn->size == 4;
  case IR_CONST: return (uint64_t)insn->imm <= UINT32_MAX;
  case IR_LOAD: return insn->size <= 4 && insn->cond != IR_EXTEND_SIGN64;
  case IR_UMOV_B:
  case IR_UMOV_H:
  case IR_UMOV_S:
  case IR_FMOV_WS: return true;
  default: return false;
  }
}

/* Whether `insn` makes the temporary and nothing else (POP moves its base as well). */
static bool makes(const IrInsn *insn, unsigned temporary) {
  const IrOpInfo *info = &ir_op_info[insn->op];
  return info->kind[0] == (IR_KIND_G | IR_KIND_D) && insn->reg[0] == temporary &&
         !((info->kind[1] | info->kind[2]) & IR_KIND_D) &&
         !(info->effects & (IR_EFFECT_ST | IR_EFFECT_SB | IR_EFFECT_CT | IR_EFFECT_CL));
}

/* The operation before the move at `at` that makes its source and may make its destination; NULL: there is none. */
static IrInsn *find_maker(const IrBuilder *b, uint32_t at) {
  const IrInsn *move = &b->insns[at];
  for (uint32_t i = at; i > 0 && at - i < REACH; i--) {
    IrInsn *insn = &b->insns[i - 1];
    if (makes(insn, move->reg[1])) return move->size == 8 || makes_word(insn) ? insn : NULL;
    if (ir_op_info[insn->op].effects & ~(IR_EFFECT_RF | IR_EFFECT_WF) || opt_touches(insn, move->reg[0])) return NULL;
  }
  return NULL;
}

/* LSR t, n, 32 - bits; BFXIL home, t, 0, bits → BFXIL home, n, 32 - bits, bits. Right behind each other alone. */
static void merge_from_above(IrBuilder *b, uint32_t at) {
  if (at == 0) return;
  IrInsn *merge = &b->insns[at], *shift = merge - 1;
  unsigned last = (unsigned)merge->imm >> 10 & 63; /* imms; immr is 0 */
  if (merge->op != IR_BFM || merge->temps != 2 || merge->size != 8) return;
  if (merge->imm != (1 << 22 | (int64_t)last << 10) || last >= 31) return;
  if (shift->op != IR_UBFM || shift->size != 4 || shift->reg[0] != merge->reg[1]) return;
  if (shift->imm != ((int64_t)(31 - last) << 16 | 31 << 10) || !appears_twice(b, merge->reg[1])) return;
  merge->reg[1] = shift->reg[1];
  merge->imm = 1 << 22 | (int64_t)(31 - last) << 16 | 31 << 10;
  ir_note_temps(merge);
  opt_drop(shift);
}

void opt_moves(IrBuilder *b) {
  for (unsigned i = 0; i < b->merge_count; i++) merge_from_above(b, b->merges[i]);
  for (unsigned i = 0; i < b->move_count; i++) {
    IrInsn *move = &b->insns[b->moves[i]];
    if (move->op != IR_MOV || move->temps != 2) continue;
    IrInsn *maker = find_maker(b, b->moves[i]);
    if (!maker || !appears_twice(b, move->reg[1])) continue;
    maker->reg[0] = move->reg[0];
    ir_note_temps(maker);
    opt_drop(move);
  }
}
