/* The order of the passes. */
#include "opt/opt.h"

enum { BYTES = 1, MOVES = 2, STACK = 4 };

/* Which passes may find something: one look at all operations is cheaper than three. */
static unsigned passes_wanted(const IrBuilder *b) {
  unsigned wanted = 0;
  for (const IrInsn *insn = b->insns, *end = insn + b->count; insn < end; insn++) {
    switch (insn->op) {
    case IR_BFM: wanted |= BYTES; break;
    case IR_MOV: wanted |= insn->temps ? MOVES : 0; break;
    case IR_PUSH:
    case IR_POP: wanted |= STACK; break;
    default: break;
    }
  }
  return wanted & BYTES ? wanted | MOVES : wanted; /* a byte's merge may become a move */
}

void opt_run(IrBuilder *b, bool ordered) {
  (void)ordered;
  unsigned wanted = passes_wanted(b);
  if (wanted & BYTES) opt_bytes(b);
  if (wanted & MOVES) opt_moves(b);
  if (wanted & STACK) opt_pairs(b);
}
