/* Passes over a region's IR. Each leaves the program's meaning, and the rule that guest registers are precise
 * at every access that may fault. */
#ifndef STELE_OPT_OPT_H
#define STELE_OPT_OPT_H

#include "ir/ir.h"

/* All passes in their order. `ordered`: accesses keep x86 order and are not merged. */
void opt_run(IrBuilder *b, bool ordered);

/* Bytes are not merged into registers whose other bits are or become zero (bytes.c). */
void opt_bytes(IrBuilder *b);

/* Results are made in the registers they would be moved to (moves.c). */
void opt_moves(IrBuilder *b);

/* Copies of registers that are then changed are not made (copies.c). */
void opt_copies(IrBuilder *b);

/* Runs of pushes and pops become pair stores and loads (pairs.c). */
void opt_pairs(IrBuilder *b);

#endif
