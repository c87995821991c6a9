/* Bytes that need not be merged into the register they are part of.
 *
 * xor ecx, ecx; cmp …; setcc cl: the other bits are known to be zero.
 * setcc cl; movzx ecx, cl: they are zero one instruction later, and nothing between can look.
 * movzx ecx, …; setcc cl: lifting has known that they are zero (IR_MERGE_BARE).
 * In all the merge (BFM) becomes a move of the byte, which opt_moves() takes further. */
#include "opt/opt.h"

enum { REACH = 16, LOW_BYTE = 7 << 10 /* immr 0, imms 7 */ };

static bool merges_byte(const IrInsn *insn) {
  return insn->op == IR_BFM && insn->size == 8 && insn->imm == (1 << 22 | LOW_BYTE) && insn->temps == 2;
}

/* Whether the merged temporary is 0 or 1: made by CSET shortly before. */
static bool is_bit(const IrBuilder *b, uint32_t at) {
  for (uint32_t i = at; i > 0 && at - i < 3; i--) {
    const IrInsn *insn = &b->insns[i - 1];
    if (!(ir_op_info[insn->op].kind[0] & IR_KIND_G) || insn->reg[0] != b->insns[at].reg[1]) continue;
    return insn->op == IR_CSINC && insn->reg[1] == A64_REG_ZERO && insn->reg[2] == A64_REG_ZERO;
  }
  return false;
}

/* The merge has become a move (opt_moves()). */
static void note_move(IrBuilder *b, uint32_t at) {
  unsigned i = b->move_count;
  if (i == IR_MAX_MOVES) return;
  for (; i > 0 && b->moves[i - 1] > at; i--) b->moves[i] = b->moves[i - 1];
  b->moves[i] = (uint16_t)at;
  b->move_count++;
}

static void replace(IrBuilder *b, uint32_t at) {
  IrInsn *merge = &b->insns[at];
  bool bit = is_bit(b, at);
  if (bit) note_move(b, at);
  merge->op = bit ? IR_MOV : IR_UBFM;
  merge->size = 4;
  merge->imm = bit ? 0 : LOW_BYTE;
}

/* MOVZX of the same register follows: it is done at once. */
static bool widened_next(IrBuilder *b, uint32_t at) {
  if (at + 2 >= b->count || b->insns[at + 1].op != IR_GUEST) return false;
  IrInsn *next = &b->insns[at + 2];
  unsigned home = b->insns[at].reg[0];
  if (next->op != IR_UBFM || next->size != 4 || next->imm != LOW_BYTE || next->reg[0] != home || next->reg[1] != home)
    return false;
  opt_drop(next);
  return true;
}

/* A zero that the merge at `to` makes, too. From there to it is one boundary: whoever leaves code that has changed goes on
 * at the next, and would do without. */
static void drop_zero(IrBuilder *b, uint32_t zero, uint32_t to) {
  opt_drop(&b->insns[zero]);
  for (uint32_t i = zero + 1; i < to; i++)
    if (b->insns[i].op == IR_GUEST) opt_drop(&b->insns[i]);
}

/* The register was set to zero before and not touched since. The zero is dropped where no fault could show it
 * missing. */
static bool known_zero(IrBuilder *b, uint32_t at) {
  unsigned home = b->insns[at].reg[0];
  bool may_fault = false;
  for (uint32_t i = at; i > 0 && at - i < REACH; i--) {
    IrInsn *insn = &b->insns[i - 1];
    if (insn->op == IR_CONST && insn->reg[0] == home) {
      bool zero = insn->imm == 0;
      if (zero && !may_fault) drop_zero(b, i - 1, at);
      return zero;
    }
    uint8_t effects = ir_op_info[insn->op].effects;
    if (insn->op != IR_GUEST && effects & (IR_EFFECT_SB | IR_EFFECT_CT | IR_EFFECT_CL)) return false;
    if (opt_touches(insn, home)) return false;
    may_fault |= (effects & (IR_EFFECT_LD | IR_EFFECT_ST)) != 0;
  }
  return false;
}

void opt_bytes(IrBuilder *b) {
  for (unsigned i = 0; i < b->merge_count; i++) {
    uint32_t at = b->merges[i];
    if (merges_byte(&b->insns[at]) && (widened_next(b, at) || known_zero(b, at) || b->insns[at].cond == IR_MERGE_BARE))
      replace(b, at);
  }
}
