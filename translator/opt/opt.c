/* The order of the passes. */
#include "opt/opt.h"

void opt_run(IrBuilder *b) {
  if (b->merge_count) opt_bytes(b);
  if (b->move_count || b->merge_count) opt_moves(b); /* a byte's merge may have become a move */
  if (b->copy_count) opt_copies(b);
  if (b->stack_count > 1) opt_pairs(b);
  if (b->step_count) opt_steps(b);
}
