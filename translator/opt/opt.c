/* The order of the passes. */
#include "opt/opt.h"

void opt_run(OptScratch *scratch, IrBuilder *b) {
  if (b->has_merges) opt_bytes(b);
  if (b->has_merges || b->has_moves) opt_moves(scratch, b); /* a byte's merge may become a move */
  if (b->copy_count) opt_copies(b);
  if (b->stack_count > 1) opt_pairs(b);
}
