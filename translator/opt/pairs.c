/* PUSH a; PUSH b → STP b, a, [rsp, #-16]!   POP a; POP b → LDP a, b, [rsp], #16
 *
 * Only the marker of the second guest instruction may stand between. A fault reports the first instruction with
 * RSP where it was before it; both accesses are then repeated, which changes nothing. */
#include "opt/opt.h"

static bool pairable(const IrInsn *first, const IrInsn *second) {
  if (first->op != second->op || first->reg[1] != second->reg[1]) return false;
  if (first->op == IR_PUSH) return first->reg[0] != first->reg[1] && second->reg[0] != first->reg[1];
  return first->op == IR_POP && first->reg[0] != second->reg[0];
}

static void make_pair(IrInsn *first, IrInsn *second) {
  bool push = first->op == IR_PUSH;
  IrInsn pair = *first;
  pair.op = push ? IR_STORE_PAIR : IR_LOAD_PAIR;
  pair.cond = push ? IR_INDEX_PRE : IR_INDEX_POST;
  pair.reg[0] = push ? second->reg[0] : first->reg[0];
  pair.reg[2] = push ? first->reg[0] : second->reg[0];
  pair.imm = push ? -16 : 16;
  ir_note_temps(&pair);
  *first = pair;
  opt_drop(second);
}

void opt_pairs(IrBuilder *b) {
  for (unsigned i = 0; i + 1 < b->stack_count; i++) {
    IrInsn *first = &b->insns[b->stack[i]], *second = &b->insns[b->stack[i + 1]];
    if (second != first + 2 || first[1].op != IR_GUEST || !pairable(first, second)) continue;
    make_pair(first, second);
    i++;
  }
}
