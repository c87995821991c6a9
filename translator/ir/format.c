/* IR operations as text, for STELE_DUMP and golden files. */
#include "ir/ir.h"

#include "base/print.h"

static void put_register(BaseText *t, unsigned kind, unsigned size, unsigned id) {
  char letter = kind & IR_KIND_V ? 'v' : size == 4 ? 'w' : 'x';
  if (id >= IR_TEMP_FIRST) base_text_printf(t, "%c%%%u", letter, id - IR_TEMP_FIRST);
  else if (id == A64_REG_ZERO && !(kind & IR_KIND_V)) base_text_printf(t, "%czr", letter);
  else base_text_printf(t, "%c%u", letter, id);
}

int ir_format(const IrInsn *insn, char *text, size_t size) {
  BaseText t = base_text(text, size);
  base_text_printf(&t, "%s", ir_op_text(insn->op));
  if (insn->cond) base_text_printf(&t, ".%u", insn->cond);
  const char *separator = " ";
  for (unsigned i = 0; i < 4; i++) {
    unsigned kind = ir_op_info[insn->op].kind[i];
    if (kind == IR_KIND_N || insn->reg[i] == IR_NONE) continue;
    base_text_printf(&t, "%s", separator);
    put_register(&t, kind, insn->size, insn->reg[i]);
    separator = ", ";
  }
  if (insn->imm || ir_op_info[insn->op].pseudo)
    base_text_printf(&t, "%s#0x%lx", separator, (unsigned long)insn->imm);
  return (int)t.length;
}
