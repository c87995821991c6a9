/* x87 arithmetic, comparisons and functions: operands are checked here, values are the helpers'. */
#include "lift/x87/x87.h"

/* A memory operand's bits as the helpers take them: integers sign-extended. */
static IrReg load_operand(Lift *l, const X86Insn *insn, bool integer) {
  unsigned size = insn->operands[1].size;
  IrReg value = ir_temp(&l->b);
  ir_load(&l->b, size, integer ? IR_EXTEND_SIGN64 : IR_EXTEND_ZERO, value, lift_address(l, insn, size));
  return value;
}

/* A helper's rows are: registers, m32, m64, integer (lift/x87/helpers.def). */
static LiftHelper memory_helper(const X86Insn *insn, uint32_t argument) {
  unsigned form = argument & X87_INTEGER ? 3 : insn->operands[1].size == 4 ? 1 : 2;
  return (LiftHelper)(x87_helper(argument) + form);
}

/* What follows code in place: its slow way, calling the helper. `memory` is the instruction where it has a
 * memory operand, otherwise NULL. Comes back where the slots of `claims` are what they are known to be. */
static void slow_way(Lift *l, X87Ways ways, IrReg flags, const X86Insn *memory, LiftHelper helper, IrReg value,
                     uint64_t argument, unsigned claims) {
  IrLabel done = ir_label(&l->b);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, ways.slow);
  lift_flags_restore(l, flags);
  x87_settle_aside(l);
  x87_note(l, memory ? lift_address_register(l, memory) : IR_NO_REG);
  if (value.id == IR_NONE) lift_plain_helper_imm(l, helper, argument);
  else lift_plain_helper(l, helper, value);
  x87_rejoin(l, claims, done);
  ir_bind(&l->b, ways.leave);
  lift_flags_restore(l, flags);
  x87_settle_aside(l);
  x87_leave(l);
  ir_cold_end(&l->b);
  ir_bind(&l->b, done);
}

/* A helper has written the slot, and may have left an exception. */
static void made_by_helper(Lift *l, unsigned slot) {
  l->x87.maybe_pending = true;
  l->x87.ordinary &= (uint8_t)~(1u << slot);
}

static void arithmetic_memory(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned slot = x87_slot(l, 0);
  bool integer = argument & X87_INTEGER;
  IrReg value = load_operand(l, insn, integer);
  x87_require(l, 1u << slot, 1u << slot);
  /* Flags to keep would be one register more than there are. */
  if (!integer && x87_can_inline(x87_helper(argument)) && !lift_flags_busy(l)) {
    X87Ways ways = {ir_label(&l->b), ir_label(&l->b), false};
    X87Value m = x87_value_of_bits(l, value, insn->operands[1].size, ways.slow);
    x87_inline(l, x87_helper(argument), slot, x87_load_slot(l, slot), m, ways);
    slow_way(l, ways, IR_NO_REG, insn, memory_helper(insn, argument), value, 0, 1u << slot);
  } else {
    x87_note(l, lift_address_register(l, insn));
    lift_plain_helper(l, memory_helper(insn, argument), value);
    made_by_helper(l, slot);
  }
}

/* In place, the helper being called out of line. Where the source stays, it is known to be ordinary afterwards. */
static void registers_inline(Lift *l, LiftHelper helper, unsigned d, unsigned s, uint64_t slots, unsigned pops) {
  X87Ways ways = {ir_label(&l->b), ir_label(&l->b), !pops};
  if (d == s && helper == LIFT_HELPER_X87_FADD && !pops) {
    x87_double_inline(l, d, ways);
    slow_way(l, ways, IR_NO_REG, NULL, helper, IR_NO_REG, slots, 1u << d);
    return;
  }
  IrReg flags = lift_flags_save(l);
  X87Value dv = x87_load_slot(l, d);
  x87_inline(l, helper, d, dv, x87_load_slot(l, s), ways);
  if (!pops) l->x87.ordinary |= (uint8_t)(1u << s);
  lift_flags_restore(l, flags);
  slow_way(l, ways, flags, NULL, helper, IR_NO_REG, slots, 1u << d | (pops ? 0 : 1u << s));
}

/* FADD, FSUB, … in all forms; with X87_POP the pop comes before the helper, which takes it back where an
 * unmasked exception keeps the instruction from completing. */
void lift_x87_arithmetic(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned pops = x87_pops(argument);
  x87_begin(l);
  if (lift_is_memory(insn, 1)) {
    arithmetic_memory(l, insn, argument);
    return;
  }
  unsigned d = x87_slot(l, insn->operands[0].reg), s = x87_slot(l, insn->operands[1].reg);
  LiftHelper helper = x87_helper(argument);
  x87_require(l, 1u << d | 1u << s, 1u << d | (uint64_t)pops << X87_FAULT_POPS_SHIFT);
  x87_pop_later(l, pops);
  registers_inline(l, helper, d, s, x87_slot_argument(d) | x87_slot_argument(s) << 8 | pops, pops);
}

/* Functions of ST(0), or of ST(0) and ST(1), that replace ST(0). */
void lift_x87_function(Lift *l, const X86Insn *insn, uint32_t argument) {
  LiftHelper helper = x87_helper(argument);
  bool two = argument & X87_TWO_OPERANDS;
  x87_begin(l);
  unsigned d = x87_slot(l, 0), s = x87_slot(l, two ? 1 : 0);
  x87_require(l, 1u << d | 1u << s, 1u << d | (argument & X87_CLEARS_C2 ? X87_FAULT_REDUCES : 0));
  x87_note(l, IR_NO_REG);
  lift_plain_helper_imm(l, helper, x87_slot_argument(d) | x87_slot_argument(s) << 8);
  made_by_helper(l, d);
}

/* Functions of ST(0) and ST(1) whose result replaces both: FPATAN, FYL2X, FYL2XP1. */
void lift_x87_function_pop(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_begin(l);
  unsigned s = x87_slot(l, 0), d = x87_slot(l, 1);
  x87_require(l, 1u << d | 1u << s, 1u << d | 1 << X87_FAULT_POPS_SHIFT);
  x87_note(l, IR_NO_REG);
  x87_pop(l, 1);
  lift_plain_helper_imm(l, x87_helper(argument), x87_slot_argument(d) | x87_slot_argument(s) << 8 | 1);
  made_by_helper(l, d);
}

/* Functions of ST(0) with two results, one pushed: FXTRACT, and FPTAN and FSINCOS, which push nothing where
 * the operand is out of range: then nothing is known of the stack afterwards. */
void lift_x87_function_push(Lift *l, const X86Insn *insn, uint32_t argument) {
  enum { ARGUMENT_PUSHED = 4 };
  x87_begin(l);
  unsigned s = x87_slot(l, 0), d = x87_slot(l, -1);
  bool clears_c2 = argument & X87_CLEARS_C2;
  x87_require(l, 1u << s, 1u << s | 1u << d | X87_FAULT_PUSHES | (clears_c2 ? X87_FAULT_REDUCES : 0));
  x87_require_room(l, LIFT_HELPER_X87_OVERFLOW_TWO, clears_c2);
  x87_note(l, IR_NO_REG);
  x87_push(l);
  lift_plain_helper_imm(l, x87_helper(argument), x87_slot_argument(d) | x87_slot_argument(s) << 8 | ARGUMENT_PUSHED);
  made_by_helper(l, s);
  if (x87_helper(argument) != LIFT_HELPER_X87_FXTRACT) x87_forget(l, l->x87.top);
}

/* --- Comparisons ---------------------------------------------------------------------------------- */

static void compare_memory(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned slot = x87_slot(l, 0), pops = x87_pops(argument);
  IrReg value = load_operand(l, insn, argument & X87_INTEGER);
  x87_require(l, 1u << slot, X87_FAULT_COMPARES | (uint64_t)pops << X87_FAULT_POPS_SHIFT);
  x87_note(l, lift_address_register(l, insn));
  lift_plain_helper(l, memory_helper(insn, argument), value);
  if (pops) {
    IrLabel leave = ir_label(&l->b), on = ir_label(&l->b);
    IrReg top = ir_temp(&l->b);
    ir_load_state(&l->b, 1, top, X87_FIELD(top));
    ir_tbnz(&l->b, top, 7, leave);
    ir_cold_begin(&l->b);
    ir_bind(&l->b, leave);
    x87_leave_if_pending(l, on);
    ir_cold_end(&l->b);
    ir_bind(&l->b, on);
    x87_pop(l, pops);
  } else {
    l->x87.maybe_pending = true;
  }
}

static void compare_registers(Lift *l, unsigned i, uint32_t argument, uint64_t underflow) {
  unsigned a = x87_slot(l, 0), b = x87_slot(l, (int)i), pops = x87_pops(argument);
  x87_require(l, 1u << a | 1u << b, underflow | (uint64_t)pops << X87_FAULT_POPS_SHIFT);
  x87_note(l, IR_NO_REG);
  x87_pop(l, pops);
  lift_plain_helper_imm(l, x87_helper(argument), x87_slot_argument(a) | x87_slot_argument(b) << 8 | pops);
  l->x87.maybe_pending = true;
}

/* FCOM, FUCOM and their popping forms. FCOMPP and FUCOMPP have no operands: ST(1). */
void lift_x87_compare(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_begin(l);
  if (insn->operand_count == 2 && lift_is_memory(insn, 1)) compare_memory(l, insn, argument);
  else compare_registers(l, insn->operand_count == 2 ? insn->operands[1].reg : 1, argument, X87_FAULT_COMPARES);
}

/* FTST */
void lift_x87_test(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_begin(l);
  compare_registers(l, 0, argument, X87_FAULT_COMPARES);
}

/* CF and ZF from C (inverted) and Z of a comparison in place; the others are 0. */
static void flags_of_order(Lift *l) {
  enum { NZCV_ZC = 0x60000000 };
  if (l->live_flags & (X86_F_SF | X86_F_OF | X86_F_LT)) {
    IrReg nzcv = ir_temp(&l->b);
    ir_emit(&l->b, IR_MRS_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
    ir_logic_imm(&l->b, IR_AND, 4, nzcv, nzcv, NZCV_ZC);
    ir_emit(&l->b, IR_MSR_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
  }
  if (l->live_flags & (X86_F_PF | X86_F_AF)) { /* odd parity, no auxiliary carry */
    ir_const(&l->b, LIFT_FLAG_RESULT, 1);
    ir_const(&l->b, LIFT_FLAG_AUX, 1);
  }
  l->form = FLAGS_CANONICAL;
}

/* The helper's NZCV, in transfer[0], is as FCMP leaves it; brought into the form of the code in place. */
static void flags_of_helper(Lift *l) {
  IrReg nzcv = ir_temp(&l->b);
  ir_load_state(&l->b, 8, nzcv, X87_FIELD(transfer[0]));
  ir_emit(&l->b, IR_MSR_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
  lift_flags_fcmp(l);
  lift_flags_canonical(l, l->live_flags | X86_F_CF | X86_F_ZF);
}

/* FCOMI, FUCOMI. Stack faults give flags too, through transfer[0]. */
void lift_x87_compare_flags(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_begin(l);
  unsigned a = x87_slot(l, 0), b = x87_slot(l, insn->operands[1].reg), pops = x87_pops(argument);
  IrLabel fault = ir_label(&l->b), slow = ir_label(&l->b), known = ir_label(&l->b), done = ir_label(&l->b);
  x87_require_or(l, 1u << a | 1u << b, (uint64_t)pops << X87_FAULT_POPS_SHIFT, fault);
  x87_pop_later(l, pops);
  X87Value va = x87_load_slot(l, a);
  x87_compare_inline(l, va, x87_load_slot(l, b), slow);
  flags_of_order(l);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, slow);
  x87_settle_aside(l);
  x87_note(l, IR_NO_REG);
  lift_plain_helper_imm(l, x87_helper(argument), x87_slot_argument(a) | x87_slot_argument(b) << 8 | pops);
  x87_leave_if_pending(l, known);
  ir_bind(&l->b, known);
  x87_unsettle_aside(l);
  flags_of_helper(l);
  ir_branch(&l->b, done);
  ir_bind(&l->b, fault);
  flags_of_helper(l);
  x87_leave(l);
  ir_cold_end(&l->b);
  ir_bind(&l->b, done);
}

/* FXAM looks at empty registers too. */
void lift_x87_examine(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_begin(l);
  lift_plain_helper_imm(l, LIFT_HELPER_X87_FXAM, 0);
}
