/* What every operation is: the rows of ops.def as data, and as text for dumps. */
#include "ir/ir.h"

enum {
  N = IR_KIND_N,
  GD = IR_KIND_G | IR_KIND_D,
  GU = IR_KIND_G | IR_KIND_U,
  GB = IR_KIND_G | IR_KIND_D | IR_KIND_U,
  VD = IR_KIND_V | IR_KIND_D,
  VU = IR_KIND_V | IR_KIND_U,
  VB = IR_KIND_V | IR_KIND_D | IR_KIND_U,
  RF = IR_EFFECT_RF, WF = IR_EFFECT_WF, LD = IR_EFFECT_LD, ST = IR_EFFECT_ST,
  SB = IR_EFFECT_SB, CT = IR_EFFECT_CT, CL = IR_EFFECT_CL
};

const IrOpInfo ir_op_info[IR_OP_COUNT] = {
#define IR_A64(name, text, encoding, sf, rd, rn, rm, ra, effects) \
  [IR_##name] = {encoding, sf, {rd, rn, rm, ra}, effects, false},
#define IR_PSEUDO(name, text, rd, rn, rm, ra, effects) \
  [IR_##name] = {0, 0, {rd, rn, rm, ra}, effects, true},
#include "ir/ops.def"
#include "ir/ops-vector.def"
#undef IR_A64
#undef IR_PSEUDO
};

/* One string with every name, so that a position-independent build needs no relocations. */
static const char op_texts[] =
#define IR_A64(name, text, ...) text "\0"
#define IR_PSEUDO(name, text, ...) text "\0"
#include "ir/ops.def"
#include "ir/ops-vector.def"
#undef IR_A64
#undef IR_PSEUDO
    ;

const char *ir_op_text(IrOp op) {
  const char *text = op_texts;
  for (unsigned i = 0; i < (unsigned)op; i++)
    while (*text++) {}
  return text;
}

static const char *check_operand(const IrBuilder *b, const IrInsn *insn, unsigned i) {
  unsigned kind = ir_op_info[insn->op].kind[i], id = insn->reg[i];
  if (kind == N) return id == IR_NONE ? NULL : "operand where the operation takes none";
  if (id == IR_NONE) return ir_op_info[insn->op].pseudo ? NULL : "missing operand";
  unsigned limit = kind & IR_KIND_G ? b->next_temp : b->next_vector_temp;
  return id < limit ? NULL : "temporary that was never made";
}

/* Register 31 is the stack pointer in the immediate and extended forms (Arm ARM C1.2.5). */
static bool names_stack_pointer(const IrInsn *insn) {
  switch ((IrOp)insn->op) {
  case IR_ADDI:
  case IR_SUBI:
  case IR_ADDX:
  case IR_SUBX: return insn->reg[0] == A64_REG_ZERO || insn->reg[1] == A64_REG_ZERO;
  case IR_ADDSI:
  case IR_SUBSI: return insn->reg[1] == A64_REG_ZERO;
  case IR_ANDI:
  case IR_ORRI:
  case IR_EORI: return insn->reg[0] == A64_REG_ZERO;
  default: return false;
  }
}

const char *ir_verify(const IrBuilder *b) {
  for (uint32_t i = 0; i < b->count; i++) {
    const IrInsn *insn = &b->insns[i];
    if (insn->op >= IR_OP_COUNT) return "unknown operation";
    if (ir_op_info[insn->op].sf && insn->size != 4 && insn->size != 8) return "size is not 4 or 8";
    for (unsigned operand = 0; operand < 4; operand++) {
      const char *problem = check_operand(b, insn, operand);
      if (problem) return problem;
    }
    if (names_stack_pointer(insn)) return "register 31, which is the stack pointer here";
    IrInsn noted = *insn;
    ir_note_temps(&noted);
    if (noted.temps != insn->temps) return "registers were changed without ir_note_temps()";
  }
  return NULL;
}
