/* Passes over a region's IR. Each leaves the program's meaning, and the rule that guest registers are precise
 * at every access that may fault. */
#ifndef STELE_OPT_OPT_H
#define STELE_OPT_OPT_H

#include "ir/ir.h"

/* --- What passes share --- */

/* Leaves out an operation; its place in the list stays. */
static inline void opt_drop(IrInsn *insn) {
  *insn = (IrInsn){.op = IR_NOP, .reg = {IR_NONE, IR_NONE, IR_NONE, IR_NONE}};
}

/* Whether the operation reads or writes the general register. */
static inline bool opt_touches(const IrInsn *insn, unsigned home) {
  for (unsigned k = 0; k < 4; k++)
    if (ir_op_info[insn->op].kind[k] & IR_KIND_G && insn->reg[k] == home) return true;
  return false;
}

/* --- The passes --- */

/* All passes in their order. */
void opt_run(IrBuilder *b);

/* Bytes are not merged into registers whose other bits are or become zero (bytes.c). */
void opt_bytes(IrBuilder *b);

/* Results are made in the registers they would be moved to (moves.c). */
void opt_moves(IrBuilder *b);

/* Copies of registers that are then changed are not made (copies.c). */
void opt_copies(IrBuilder *b);

/* Runs of pushes and pops become pair stores and loads (pairs.c). */
void opt_pairs(IrBuilder *b);

/* Loads move their base along (steps.c). */
void opt_steps(IrBuilder *b);

#endif
