/* Prints every machine operation of the IR as a line "WORD ROW-TEXT", with registers 1, 2, 3, 4 in its operand
 * fields (a register read as two operands, as in MOV, gets the same number); tests/a64/encodings compares
 * the words with what the disassembler makes of them. */
#include <stdio.h>

#include "ir/ir.h"

static const unsigned shifts[4] = {0, 5, 16, 10};

int main(void) {
  for (unsigned op = 0; op < IR_OP_COUNT; op++) {
    const IrOpInfo *info = &ir_op_info[op];
    if (info->pseudo) continue;
    uint32_t word = info->encoding; /* the 32-bit form where sizes differ by bit 31 */
    for (unsigned i = 0; i < 4; i++)
      if (info->kind[i] != IR_KIND_N) word |= (op == IR_MOV_16B && i == 2 ? 2 : i + 1) << shifts[i];
    printf("%08x %s\n", word, ir_op_text((IrOp)op));
  }
  return 0;
}
