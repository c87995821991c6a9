/* LDR t, [n]; ADD n, n, #k → LDR t, [n], #k     LDR t, [n, #k]; ADD n, n, #k → LDR t, [n, #k]!
 *
 * A load that faults moves nothing, so the guest instruction that moves the base can become part of the one that loads.
 * Stores stay as they are: where one changes code, the region is left in front of the next guest instruction. */
#include "opt/opt.h"

enum { REACH = 256 /* of the offset, in bytes */ };

/* The operation before `at`; what has been left out does not count. */
static IrInsn *before(const IrBuilder *b, const IrInsn *at) {
  do {
    if (at == b->insns) return NULL;
    at--;
  } while (at->op == IR_NOP);
  return (IrInsn *)at;
}

/* Whether the guest instruction that `step` belongs to ends with it: what else it does would be taken for the load's. */
static bool ends(const IrBuilder *b, const IrInsn *step) {
  const IrInsn *next = step + 1, *end = b->insns + b->count;
  while (next < end && next->op == IR_NOP) next++;
  return next < end && (next->op == IR_GUEST || next->op == IR_BLOCK);
}

/* Whether `load` is one whose base can be moved by `distance` in it. */
static bool fits(const IrInsn *load, unsigned base, int64_t distance) {
  if ((load->op != IR_LOAD && load->op != IR_LOADV) || load->reg[1] != base || load->reg[2] != IR_NONE) return false;
  if (load->op == IR_LOAD && load->reg[0] == base) return false; /* what is loaded is moved */
  return load->imm == 0 || load->imm == distance;
}

void opt_steps(IrBuilder *b) {
  for (unsigned i = 0; i < b->step_count; i++) {
    IrInsn *step = &b->insns[b->steps[i]];
    if ((step->op != IR_ADDI && step->op != IR_SUBI) || step->size != 8 || step->reg[0] != step->reg[1]) continue;
    int64_t distance = step->imm >> 10;
    if (distance >= REACH) continue; /* or shifted by 12 */
    if (step->op == IR_SUBI) distance = -distance;
    IrInsn *mark = before(b, step), *load = mark ? before(b, mark) : NULL;
    if (!load || mark->op != IR_GUEST || !fits(load, step->reg[0], distance) || !ends(b, step)) continue;
    load->op = load->op == IR_LOAD ? IR_LOAD_MOVING : IR_LOADV_MOVING;
    load->shift = load->imm ? IR_INDEX_PRE : IR_INDEX_POST;
    load->imm = distance;
    opt_drop(mark);
    opt_drop(step);
  }
}
