/* x87 loads, stores, exchanges and moves: everything that brings values onto and off the stack.
 *
 * What is exact is done here on general registers: copies of registers and of 80-bit values, loads of
 * normal float and double values and of integers. Rounding is the helpers'. */
#include "lift/x87/x87.h"

static void copy_slot(Lift *l, unsigned to, unsigned from) {
  IrVec value = ir_vector_temp(&l->b);
  ir_load_state_vector(&l->b, 16, value, x87_slot_offset(from));
  ir_store_state_vector(&l->b, 16, value, x87_slot_offset(to));
}

/* What is known of slot `from` is known of `to`. */
static void know_copy(Lift *l, unsigned to, unsigned from) {
  l->x87.ordinary = (uint8_t)((l->x87.ordinary & ~(1u << to)) | (l->x87.ordinary >> from & 1u) << to);
}

static IrReg new_temp(Lift *l) { return ir_temp(&l->b); }

/* --- Loads ---------------------------------------------------------------------------------------- */

/* Float and double in place, where they are ordinary; zeros and, by the helper, denormals, infinities and NaNs are loaded out
 * of line and go on out of the region, since others follow that want to know. */
static void load_ieee(Lift *l, const X86Insn *insn) {
  unsigned size = insn->operands[0].size;
  IrReg bits = new_temp(l), other = new_temp(l);
  IrLabel cold = ir_label(&l->b), helper = ir_label(&l->b), join = ir_label(&l->b);
  ir_load(&l->b, size, IR_EXTEND_ZERO, bits, lift_address(l, insn, size));
  x87_require_room(l, LIFT_HELPER_X87_OVERFLOW, 0);
  x87_push_later(l);
  X87Value v = x87_value_of_bits(l, bits, size, cold);
  x87_store_slot(l, l->x87.top, v);
  x87_clear_c1(l);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, cold);
  x87_settle_aside(l);
  ir_lsl_imm(&l->b, size, other, bits, 1);
  ir_cbnz(&l->b, 8, other, helper);
  ir_lsr_imm(&l->b, size, other, bits, size * 8 - 16);
  ir_store_state_pair(&l->b, IR_ZERO, other, x87_slot_offset(l->x87.top));
  ir_store_state(&l->b, 8, IR_ZERO, X87_FIELD(c1));
  x87_leave(l);
  ir_bind(&l->b, helper);
  x87_note(l, lift_address_register(l, insn));
  lift_plain_helper(l, size == 4 ? LIFT_HELPER_X87_FLD_M32 : LIFT_HELPER_X87_FLD_M64, bits);
  x87_rejoin(l, 1u << l->x87.top, join);
  ir_cold_end(&l->b);
  ir_bind(&l->b, join);
}

static void load_extended(Lift *l, const X86Insn *insn) {
  IrReg base = lift_address_register(l, insn), significand = new_temp(l), exponent = new_temp(l);
  ir_load(&l->b, 8, IR_EXTEND_ZERO, significand, lift_address_offset(l, base, 0, 8));
  ir_load(&l->b, 2, IR_EXTEND_ZERO, exponent, lift_address_offset(l, base, 8, 2));
  x87_require_room(l, LIFT_HELPER_X87_OVERFLOW, 0);
  x87_push_later(l);
  x87_store_slot(l, l->x87.top, (X87Value){significand, exponent, false});
  x87_clear_c1(l);
}

static void load_register(Lift *l, unsigned i) {
  unsigned from = x87_slot(l, (int)i), to = x87_slot(l, -1);
  x87_require(l, 1u << from, 1u << to | X87_FAULT_PUSHES);
  x87_require_room(l, LIFT_HELPER_X87_OVERFLOW, 0);
  bool held = x87_is_held(l, from);
  if (held) ir_store_state_pair(&l->b, l->x87.held_significand, l->x87.held_sign_exponent, x87_slot_offset(to));
  else copy_slot(l, to, from);
  x87_push_later(l);
  know_copy(l, to, from);
  if (held) x87_hold(l, to);
  x87_clear_c1(l);
}

/* FLD */
void lift_x87_load(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_begin(l);
  if (!lift_is_memory(insn, 0)) load_register(l, insn->operands[0].reg);
  else if (insn->operands[0].size == 10) load_extended(l, insn);
  else load_ieee(l, insn);
}

/* FILD: every integer is exact; after 0, which is not ordinary, it goes on elsewhere. */
void lift_x87_load_integer(Lift *l, const X86Insn *insn, uint32_t argument) {
  enum { EXPONENT = 0x403e }; /* of 2^63 */
  unsigned size = insn->operands[0].size;
  IrReg value = new_temp(l), sign = new_temp(l), magnitude = new_temp(l), zeros = new_temp(l);
  IrLabel zero = ir_label(&l->b);
  x87_begin(l);
  ir_load(&l->b, size, size == 8 ? IR_EXTEND_ZERO : IR_EXTEND_SIGN64, value, lift_address(l, insn, size));
  x87_require_room(l, LIFT_HELPER_X87_OVERFLOW, 0);
  x87_push_later(l);
  ir_cbz(&l->b, 8, value, zero);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, zero);
  x87_store_slot(l, l->x87.top, (X87Value){IR_ZERO, IR_ZERO, false});
  ir_store_state(&l->b, 8, IR_ZERO, X87_FIELD(c1));
  x87_settle_aside(l);
  x87_leave(l);
  ir_cold_end(&l->b);
  ir_asr_imm(&l->b, 8, sign, value, 63);
  ir_rrr(&l->b, IR_EOR, 8, magnitude, value, sign);
  ir_rrr(&l->b, IR_SUB, 8, magnitude, magnitude, sign);
  ir_rr(&l->b, IR_CLZ, 8, zeros, magnitude);
  ir_rrr(&l->b, IR_LSLV, 8, magnitude, magnitude, zeros);
  ir_logic_imm(&l->b, IR_AND, 4, sign, sign, 0x8000);
  ir_logic_imm(&l->b, IR_ORR, 4, sign, sign, EXPONENT);
  ir_rrr(&l->b, IR_SUB, 4, sign, sign, zeros);
  x87_store_slot(l, l->x87.top, (X87Value){magnitude, sign, true});
  x87_clear_c1(l);
}

/* FBLD */
void lift_x87_load_bcd(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_begin(l);
  IrReg base = lift_address_register(l, insn), low = new_temp(l), high = new_temp(l);
  ir_load(&l->b, 8, IR_EXTEND_ZERO, low, lift_address_offset(l, base, 0, 8));
  ir_load(&l->b, 2, IR_EXTEND_ZERO, high, lift_address_offset(l, base, 8, 2));
  x87_require_room(l, LIFT_HELPER_X87_OVERFLOW, 0);
  ir_store_state(&l->b, 8, low, X87_FIELD(transfer[0]));
  x87_push(l);
  lift_plain_helper(l, LIFT_HELPER_X87_FBLD, high);
}

/* FLD1, FLDZ, …: the argument is the row of the constant. */
void lift_x87_load_constant(Lift *l, const X86Insn *insn, uint32_t argument) {
  enum { ONE = 0, ZERO = 6 };
  x87_begin(l);
  x87_require_room(l, LIFT_HELPER_X87_OVERFLOW, 0);
  if (argument == ONE || argument == ZERO) x87_push_later(l);
  else x87_push(l);
  if (argument == ONE || argument == ZERO) {
    IrReg significand = IR_ZERO, exponent = IR_ZERO;
    if (argument == ONE) {
      significand = new_temp(l), exponent = new_temp(l);
      ir_const(&l->b, significand, UINT64_C(1) << 63);
      ir_const(&l->b, exponent, 0x3fff);
    }
    x87_store_slot(l, l->x87.top, (X87Value){significand, exponent, argument == ONE});
    x87_clear_c1(l);
  } else {
    lift_plain_helper_imm(l, LIFT_HELPER_X87_FLD_CONSTANT, argument);
  }
}

/* --- Stores --------------------------------------------------------------------------------------- */

static void store_register(Lift *l, unsigned i, unsigned pops) {
  unsigned from = x87_slot(l, 0), to = x87_slot(l, (int)i);
  x87_require(l, 1u << from, 1u << to | (uint64_t)pops << X87_FAULT_POPS_SHIFT);
  if (from != to) {
    copy_slot(l, to, from);
    know_copy(l, to, from);
    x87_fill_slot(l, to);
  }
  x87_pop_later(l, pops);
  x87_clear_c1(l);
}

/* A store that will not be made may fault: the size - 1 bytes behind `base`, too. */
static void probe_store(Lift *l, IrReg base, unsigned size) {
  IrReg behind = new_temp(l);
  ir_const(&l->b, behind, size - 1);
  ir_store_state(&l->b, 4, behind, X87_FIELD(transfer_more));
  lift_plain_helper(l, LIFT_HELPER_X87_STORE_PROBE, base);
}

/* An empty register's FSTP m80, out of line: the store of the default NaN comes first, since it may fault, and where the
 * exception is not masked, so that there is none, a look at whether it might. The values of the straight way become the NaN's. */
static void store_empty_extended(Lift *l, unsigned slot, IrReg base, IrReg significand, IrReg exponent, IrLabel join) {
  IrReg control = new_temp(l);
  IrLabel unmasked = ir_label(&l->b), stored = ir_label(&l->b);
  ir_const(&l->b, significand, UINT64_C(0xc000000000000000));
  ir_const(&l->b, exponent, 0xffff);
  ir_load_state(&l->b, 2, control, X87_FIELD(control));
  ir_tbz(&l->b, control, 0, unmasked);
  ir_store(&l->b, 8, significand, lift_address_offset(l, base, 0, 8));
  ir_store(&l->b, 2, exponent, lift_address_offset(l, base, 8, 2));
  ir_branch(&l->b, stored);
  ir_bind(&l->b, unmasked);
  probe_store(l, base, 10);
  ir_bind(&l->b, stored);
  x87_note(l, base);
  lift_plain_helper_imm(l, LIFT_HELPER_X87_UNDERFLOW, 1u << slot | X87_FAULT_MARKS);
  x87_leave_if_pending(l, join);
}

/* FSTP m80 rounds nothing and raises nothing but a stack fault, which stores the default NaN. */
static void store_extended(Lift *l, const X86Insn *insn) {
  unsigned slot = x87_slot(l, 0);
  IrReg base = lift_address_register(l, insn), significand = new_temp(l), exponent = new_temp(l);
  IrReg valid = new_temp(l);
  IrLabel fault = ir_label(&l->b), join = ir_label(&l->b);
  bool check = !(l->x87.valid >> slot & 1);
  if (check) ir_load_state(&l->b, 1, valid, X87_FIELD(valid));
  ir_load_state_pair(&l->b, significand, exponent, x87_slot_offset(slot));
  if (check) {
    ir_tbz(&l->b, valid, slot, fault);
    ir_cold_begin(&l->b);
    ir_bind(&l->b, fault);
    store_empty_extended(l, slot, base, significand, exponent, join);
    ir_cold_end(&l->b);
    ir_bind(&l->b, join);
  }
  ir_store(&l->b, 8, significand, lift_address_offset(l, base, 0, 8));
  ir_store(&l->b, 2, exponent, lift_address_offset(l, base, 8, 2));
  x87_know_valid(l, slot);
  x87_pop(l, 1);
  /* Whatever follows: a store to code leaves the region behind its instruction. */
  ir_store_state(&l->b, 8, IR_ZERO, X87_FIELD(c1));
}

enum { STAGED_C1_BIT = 9, STAGED_PENDING_BIT = 30, STAGED_ABORT_BIT = 31, STAGED_STATUS = 0x7f };

/* The store helpers' second half (x87/convert.c): the value to memory, the pop, then the exceptions. */
static void finish_store(Lift *l, const X86Insn *insn, unsigned pops) {
  unsigned size = insn->operands[0].size;
  IrReg value = new_temp(l), staged = new_temp(l), status = new_temp(l);
  IrLabel abort = ir_label(&l->b), aborted = ir_label(&l->b), pending = ir_label(&l->b), done = ir_label(&l->b);
  ir_load_state(&l->b, 4, staged, X87_FIELD(transfer[1]));
  ir_load_state(&l->b, 8, value, X87_FIELD(transfer[0]));
  ir_tbnz(&l->b, staged, STAGED_ABORT_BIT, abort);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, abort);
  probe_store(l, lift_address_register(l, insn), size);
  lift_plain_helper_imm(l, LIFT_HELPER_X87_STORE_EXCEPTIONS, 0);
  x87_leave_if_pending(l, aborted);
  ir_cold_end(&l->b);
  ir_bind(&l->b, aborted);
  if (size == 10) {
    IrReg base = lift_address_register(l, insn);
    ir_store(&l->b, 8, value, lift_address_offset(l, base, 0, 8));
    ir_load_state(&l->b, 2, value, X87_FIELD(transfer[2]));
    ir_store(&l->b, 2, value, lift_address_offset(l, base, 8, 2));
  } else {
    ir_store(&l->b, size, value, lift_address(l, insn, size));
  }
  if (pops) x87_fill_slot(l, x87_slot(l, 0)); /* an empty one is popped as well */
  x87_pop(l, pops);
  ir_tbnz(&l->b, staged, STAGED_PENDING_BIT, pending);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, pending);
  lift_plain_helper_imm(l, LIFT_HELPER_X87_STORE_EXCEPTIONS, 0);
  x87_leave_if_pending(l, done);
  ir_cold_end(&l->b);
  ir_sbfx(&l->b, 8, value, staged, STAGED_C1_BIT, 1);
  ir_store_state(&l->b, 8, value, X87_FIELD(c1));
  ir_logic_imm(&l->b, IR_AND, 4, staged, staged, STAGED_STATUS);
  ir_load_state(&l->b, 2, status, X87_FIELD(status));
  ir_rrr(&l->b, IR_ORR, 4, status, status, staged);
  ir_store_state(&l->b, 2, status, X87_FIELD(status));
  ir_bind(&l->b, done);
}

/* Stores through a helper that is given the slot and the width. */
static void store_by_helper(Lift *l, const X86Insn *insn, LiftHelper helper, bool integer, unsigned pops) {
  unsigned slot = x87_slot(l, 0), width = insn->operands[0].size * 8u;
  IrLabel fault = ir_label(&l->b), join = ir_label(&l->b);
  x87_note(l, lift_address_register(l, insn));
  if (!(l->x87.valid >> slot & 1)) {
    IrReg valid = new_temp(l);
    ir_load_state(&l->b, 1, valid, X87_FIELD(valid));
    ir_tbz(&l->b, valid, slot, fault);
    ir_cold_begin(&l->b);
    ir_bind(&l->b, fault);
    lift_plain_helper_imm(l, LIFT_HELPER_X87_UNDERFLOW_STORE,
                    (uint64_t)width << 16 | integer);
    ir_branch(&l->b, join);
    ir_cold_end(&l->b);
  }
  lift_plain_helper_imm(l, helper, x87_slot_argument(slot) | (uint64_t)width << 16);
  ir_bind(&l->b, join);
  finish_store(l, insn, pops);
}

/* In place where that is what it takes; what is known of the stack afterwards is what holds on both ways. */
static void store_inline(Lift *l, const X86Insn *insn, LiftHelper helper, unsigned pops) {
  unsigned slot = x87_slot(l, 0), size = insn->operands[0].size;
  bool integer = helper == LIFT_HELPER_X87_FIST || helper == LIFT_HELPER_X87_FISTTP;
  IrLabel slow = ir_label(&l->b), keep = ir_label(&l->b), exact = ir_label(&l->b), done = ir_label(&l->b);
  LiftX87 before = l->x87;
  IrReg flags = lift_flags_save(l);
  if (!(l->x87.valid >> slot & 1)) {
    IrReg valid = new_temp(l);
    ir_load_state(&l->b, 1, valid, X87_FIELD(valid));
    ir_tbz(&l->b, valid, slot, keep);
    x87_know_valid(l, slot);
  }
  X87Value v = x87_load_slot(l, slot);
  X87Narrow n = integer ? x87_integer_inline(l, v, size, helper == LIFT_HELPER_X87_FISTTP, slow)
                        : x87_narrow_inline(l, v, size, slow);
  lift_flags_restore(l, flags);
  ir_store(&l->b, size, n.bits, lift_address(l, insn, size));
  x87_pop(l, pops);
  ir_store_state(&l->b, 8, n.c1, X87_FIELD(c1));
  ir_cbz(&l->b, 8, n.rest, exact);
  ir_store_state(&l->b, 8, n.rest, X87_FIELD(inexact));
  ir_bind(&l->b, exact);
  ir_branch(&l->b, done);
  l->x87 = before;
  ir_bind(&l->b, slow);
  lift_flags_restore(l, flags);
  ir_bind(&l->b, keep);
  store_by_helper(l, insn, helper, integer, pops);
  ir_bind(&l->b, done);
}

/* FST, FSTP */
void lift_x87_store(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned pops = x87_pops(argument);
  x87_begin(l);
  if (!lift_is_memory(insn, 0)) store_register(l, insn->operands[0].reg, pops);
  else if (insn->operands[0].size == 10) store_extended(l, insn);
  else store_inline(l, insn, insn->operands[0].size == 4 ? LIFT_HELPER_X87_FST_M32 : LIFT_HELPER_X87_FST_M64, pops);
}

/* FIST, FISTP, FISTTP, FBSTP */
void lift_x87_store_integer(Lift *l, const X86Insn *insn, uint32_t argument) {
  LiftHelper helper = x87_helper(argument);
  x87_begin(l);
  if (helper == LIFT_HELPER_X87_FBSTP) store_by_helper(l, insn, helper, true, x87_pops(argument));
  else store_inline(l, insn, helper, x87_pops(argument));
}

/* --- Exchanges and moves -------------------------------------------------------------------------- */

/* What was in slot `from`, which may be held, is so where it is then. */
static void exchange_slots(Lift *l, unsigned from, unsigned to) {
  IrVec other = ir_vector_temp(&l->b), moved = ir_vector_temp(&l->b);
  bool held = x87_is_held(l, from);
  ir_load_state_vector(&l->b, 16, other, x87_slot_offset(to));
  if (!held) ir_load_state_vector(&l->b, 16, moved, x87_slot_offset(from));
  if (held) ir_store_state_pair(&l->b, l->x87.held_significand, l->x87.held_sign_exponent, x87_slot_offset(to));
  else ir_store_state_vector(&l->b, 16, moved, x87_slot_offset(to));
  ir_store_state_vector(&l->b, 16, other, x87_slot_offset(from));
  unsigned differ = (l->x87.ordinary >> from ^ l->x87.ordinary >> to) & 1u;
  l->x87.ordinary ^= (uint8_t)(differ << from | differ << to);
  if (held) x87_hold(l, to);
}

/* FXCH: empty registers become the default NaN first. */
void lift_x87_exchange(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_begin(l);
  unsigned a = x87_slot(l, 0), b = x87_slot(l, insn->operands[1].reg);
  x87_require(l, 1u << a | 1u << b, 1u << a | 1u << b | X87_FAULT_EXCHANGES);
  if (a != b) {
    if (x87_is_held(l, b)) exchange_slots(l, b, a);
    else exchange_slots(l, a, b);
  }
  x87_clear_c1(l);
}

/* FCMOVcc: the argument is the x86 condition. */
void lift_x87_move_if(Lift *l, const X86Insn *insn, uint32_t condition) {
  x87_begin(l);
  unsigned to = x87_slot(l, 0), from = x87_slot(l, insn->operands[1].reg);
  IrLabel skip = ir_label(&l->b);
  LiftCondition c = lift_condition(l, condition);
  x87_require(l, 1u << to | 1u << from, 1u << to);
  if (!c.is_register) ir_branch_cond(&l->b, (A64Condition)(c.cond ^ 1), skip);
  else if (c.inverted) ir_tbnz(&l->b, c.reg, 0, skip);
  else ir_tbz(&l->b, c.reg, 0, skip);
  copy_slot(l, to, from);
  ir_bind(&l->b, skip);
  if (!(l->x87.ordinary >> from & 1)) l->x87.ordinary &= (uint8_t)~(1u << to);
}

/* FABS, FCHS: argument 0, 1. */
void lift_x87_sign(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_begin(l);
  unsigned slot = x87_slot(l, 0);
  IrReg exponent = new_temp(l);
  x87_require(l, 1u << slot, 1u << slot);
  ir_load_state(&l->b, 2, exponent, x87_exponent_offset(slot));
  if (argument) ir_logic_imm(&l->b, IR_EOR, 4, exponent, exponent, 0x8000);
  else ir_logic_imm(&l->b, IR_AND, 4, exponent, exponent, 0x7fff);
  ir_store_state(&l->b, 2, exponent, x87_exponent_offset(slot));
  x87_clear_c1(l);
}

/* FFREE, and FFREEP with a pop */
void lift_x87_free(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_begin(l);
  x87_free_slot(l, x87_slot(l, insn->operands[0].reg));
  x87_clear_c1(l);
  if (x87_pops(argument)) {
    x87_free_slot(l, x87_slot(l, 0));
    x87_turn(l, 1);
  }
}

/* FINCSTP, FDECSTP: argument 1, 7. */
void lift_x87_turn(Lift *l, const X86Insn *insn, uint32_t argument) {
  x87_begin(l);
  x87_turn(l, (int)argument);
  x87_clear_c1(l);
}
