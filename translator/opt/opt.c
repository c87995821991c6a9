/* The order of the passes. */
#include "opt/opt.h"

void opt_run(IrBuilder *b, bool ordered) {
  (void)ordered;
  opt_bytes(b);
  opt_moves(b);
  opt_pairs(b);
}
