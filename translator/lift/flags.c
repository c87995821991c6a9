/* Status flags: made only where someone reads them, kept in NZCV as long as possible.
 *
 * AArch64 computes N, Z, V as x86 does SF, ZF, OF; its carry after a subtraction is x86's inverted. The
 * lifter tracks which way round the carry is (FlagForm) and converts only where a block with several
 * predecessors is entered, or a condition cannot be read otherwise. PF and AF are kept as the operands they
 * derive from (guest/state.h). Operations narrower than 32 bits are done in the upper end of a register,
 * where N, Z, C and V come out right. */
#include "lift/internal.h"

enum { NZCV_N = 1u << 31, NZCV_Z = 1u << 30, NZCV_C = 1u << 29, NZCV_V = 1u << 28 };

static bool want(const Lift *l, uint8_t flags) { return l->live_flags & flags; }

bool lift_flags_busy(const Lift *l) {
  const X86Insn *insn = &l->region->insns[l->index].insn;
  uint8_t kept = (uint8_t)(l->live_flags & ~(insn->flags_written | insn->flags_undefined)) |
                 (l->live_flags & insn->flags_maybe) | insn->flags_read;
  return kept & (l->form == FLAGS_FCMP ? LIVE_NZCV | X86_F_PF : LIVE_NZCV);
}

IrReg lift_flags_save(Lift *l) {
  if (!lift_flags_busy(l)) return IR_NO_REG;
  IrReg saved = ir_temp(&l->b);
  ir_emit(&l->b, IR_MRS_NZCV, 8, saved.id, IR_NONE, IR_NONE, 0);
  return saved;
}

void lift_flags_restore(Lift *l, IrReg saved) {
  if (saved.id != IR_NONE) ir_emit(&l->b, IR_MSR_NZCV, 8, saved.id, IR_NONE, IR_NONE, 0);
}

/* --- Forms ---------------------------------------------------------------------------------------- */

static void invert_carry(Lift *l) {
  if (l->features & A64_HAS_FLAGM) {
    ir_emit(&l->b, IR_CFINV, 4, IR_NONE, IR_NONE, IR_NONE, 0);
    return;
  }
  IrReg nzcv = ir_temp(&l->b);
  ir_emit(&l->b, IR_MRS_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
  ir_logic_imm(&l->b, IR_EOR, 8, nzcv, nzcv, NZCV_C);
  ir_emit(&l->b, IR_MSR_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
}

/* From FCMP's result to x86's: unordered sets ZF and CF, and SF = OF = 0 (Arm ARM AXFLAG). */
static void canonical_from_fcmp(Lift *l) {
  if (l->features & A64_HAS_FLAGM2) {
    ir_emit(&l->b, IR_AXFLAG, 4, IR_NONE, IR_NONE, IR_NONE, 0);
    return;
  }
  IrReg nzcv = ir_temp(&l->b), v = ir_temp(&l->b);
  ir_emit(&l->b, IR_MRS_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
  ir_logic_imm(&l->b, IR_AND, 4, v, nzcv, NZCV_V);
  ir_rrr_shift(&l->b, IR_ORR, 4, nzcv, nzcv, v, 0, 2);
  ir_rrr_shift(&l->b, IR_BIC, 4, nzcv, nzcv, v, 0, 1);
  ir_logic_imm(&l->b, IR_AND, 4, nzcv, nzcv, NZCV_Z | NZCV_C);
  ir_emit(&l->b, IR_MSR_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
}

/* PF := unordered, AF := 0, in their own registers. */
static void parity_from_fcmp(Lift *l) {
  ir_cset(&l->b, 4, LIFT_FLAG_RESULT, A64_VC);
  ir_mov(&l->b, 4, LIFT_FLAG_AUX, LIFT_FLAG_RESULT);
}

void lift_flags_canonical(Lift *l, uint8_t needed) {
  switch ((FlagForm)l->form) {
  case FLAGS_CANONICAL: return;
  case FLAGS_DIRECT:
  case FLAGS_LOGIC:
    if (needed & X86_F_CF) invert_carry(l);
    break;
  case FLAGS_FCMP:
    if (needed & LIVE_PARITY) parity_from_fcmp(l);
    if (needed & LIVE_NZCV) canonical_from_fcmp(l);
    break;
  }
  l->form = FLAGS_CANONICAL;
}

bool lift_flags_are_canonical(const Lift *l, uint8_t needed) {
  if (l->form == FLAGS_CANONICAL) return true;
  return !(needed & (l->form == FLAGS_FCMP ? LIVE_PARITY | LIVE_NZCV : X86_F_CF));
}

void lift_flags_fcmp(Lift *l) { l->form = FLAGS_FCMP; }

/* --- Addition and subtraction ---------------------------------------------------------------------- */

static void note_aux(Lift *l, IrReg n, LiftSource source) {
  if (!want(l, X86_F_AF)) return;
  if (source.is_immediate) ir_logic_imm(&l->b, IR_EOR, 4, LIFT_FLAG_AUX, n, (uint32_t)source.immediate & 0x10);
  else ir_rrr(&l->b, IR_EOR, 4, LIFT_FLAG_AUX, n, source.reg);
}

/* n ^ immediate needs bit 4 only; an immediate without it is a plain copy. */
static void note_aux_source(Lift *l, IrReg n, LiftSource source) {
  if (source.is_immediate && !(source.immediate & 0x10)) {
    if (want(l, X86_F_AF)) ir_mov(&l->b, 4, LIFT_FLAG_AUX, n);
    return;
  }
  note_aux(l, n, source);
}

static void note_result(Lift *l, IrReg result) {
  if (want(l, LIVE_PARITY) && result.id != A64_REG_FLAG_RESULT) ir_mov(&l->b, 4, LIFT_FLAG_RESULT, result);
}

static IrReg source_register(Lift *l, unsigned size, LiftSource source) {
  if (!source.is_immediate) return source.reg;
  uint64_t value = size == 4 ? (uint32_t)source.immediate : (uint64_t)source.immediate;
  if (value == 0) return IR_ZERO;
  IrReg reg = ir_temp(&l->b);
  ir_const(&l->b, reg, value);
  return reg;
}

/* ADDS/SUBS with an immediate; the opposite operation on the negated immediate sets the same flags, but
 * for zero (whose carry differs). */
static bool set_flags_immediate(Lift *l, unsigned size, IrReg d, IrReg n, int64_t value, bool subtract) {
  if (!ir_fits_add(value)) return false;
  if (value < 0) subtract = !subtract;
  uint64_t magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;
  uint32_t field = magnitude < 4096 ? (uint32_t)magnitude << 10 : (uint32_t)(magnitude >> 12) << 10 | 1u << 22;
  ir_emit(&l->b, subtract ? IR_SUBSI : IR_ADDSI, size, d.id, n.id, IR_NONE, field);
  return true;
}

static void add_or_subtract(Lift *l, unsigned size, IrReg d, IrReg n, LiftSource source, bool subtract) {
  note_aux_source(l, n, source);
  if (d.id == A64_REG_ZERO && want(l, LIVE_PARITY)) d = LIFT_FLAG_RESULT;
  if (want(l, LIVE_NZCV)) {
    if (!source.is_immediate || n.id == A64_REG_ZERO ||
        !set_flags_immediate(l, size, d, n, source.immediate, subtract))
      ir_rrr(&l->b, subtract ? IR_SUBS : IR_ADDS, size, d, n, source_register(l, size, source));
    l->form = subtract ? FLAGS_CANONICAL : FLAGS_DIRECT;
  } else if (source.is_immediate && n.id != A64_REG_ZERO) {
    if (d.id != A64_REG_ZERO)
      ir_add_imm(&l->b, size, d, n, subtract ? (int64_t)-(uint64_t)source.immediate : source.immediate);
  } else {
    ir_rrr(&l->b, subtract ? IR_SUB : IR_ADD, size, d, n, source_register(l, size, source));
  }
  note_result(l, d);
}

void lift_add(Lift *l, unsigned size, IrReg d, IrReg n, LiftSource source) {
  add_or_subtract(l, size, d, n, source, false);
}

void lift_subtract(Lift *l, unsigned size, IrReg d, IrReg n, LiftSource source) {
  add_or_subtract(l, size, d, n, source, true);
}

/* In the upper end of a 32-bit register the narrow operation's flags come out right. */
static IrReg narrow(Lift *l, unsigned size, IrReg n, IrReg m, bool subtract, bool wanted) {
  note_aux(l, n, (LiftSource){.reg = m});
  unsigned shift = 32 - size * 8;
  IrReg result = ir_temp(&l->b);
  if (want(l, LIVE_NZCV)) {
    IrReg high = ir_temp(&l->b), shifted = n;
    if (n.id != A64_REG_ZERO) ir_lsl_imm(&l->b, 4, shifted = high, n, shift);
    ir_rrr_shift(&l->b, subtract ? IR_SUBS : IR_ADDS, 4, high, shifted, m, 0, shift);
    l->form = subtract ? FLAGS_CANONICAL : FLAGS_DIRECT;
    if (!wanted && !want(l, LIVE_PARITY)) return IR_NO_REG;
    ir_lsr_imm(&l->b, 4, result, high, shift);
  } else {
    ir_rrr(&l->b, subtract ? IR_SUB : IR_ADD, 4, result, n, m);
  }
  note_result(l, result);
  return result;
}

IrReg lift_add_narrow(Lift *l, unsigned size, IrReg n, IrReg m) { return narrow(l, size, n, m, false, true); }
IrReg lift_subtract_narrow(Lift *l, unsigned size, IrReg n, IrReg m) { return narrow(l, size, n, m, true, true); }

void lift_compare_narrow(Lift *l, unsigned size, IrReg n, IrReg m) {
  if (l->live_flags) narrow(l, size, n, m, true, false);
}

/* --- With carry ----------------------------------------------------------------------------------- */

/* Brings C into the sense ADCS (direct) or SBCS (inverted, as canonical) consumes. */
static void carry_in(Lift *l, bool subtract) {
  if (l->form == FLAGS_FCMP) lift_flags_canonical(l, X86_F_CF);
  bool inverted = l->form == FLAGS_CANONICAL;
  if (inverted != subtract) invert_carry(l);
}

static void carry_out(Lift *l, IrReg n, IrReg m, IrReg result, bool subtract) {
  note_aux(l, n, (LiftSource){.reg = m});
  note_result(l, result);
  l->form = subtract ? FLAGS_CANONICAL : FLAGS_DIRECT;
}

/* One and two bytes: computed in 32 bits, each flag then by itself. */
static IrReg narrow_carry(Lift *l, unsigned size, IrReg n, IrReg m, bool subtract) {
  unsigned bits = size * 8;
  IrReg a = ir_temp(&l->b), c = lift_carry(l), b = ir_temp(&l->b), result = ir_temp(&l->b);
  ir_ubfx(&l->b, 4, a, n, 0, bits);
  ir_ubfx(&l->b, 4, b, m, 0, bits);
  note_aux(l, a, (LiftSource){.reg = b});
  ir_rrr(&l->b, subtract ? IR_SUB : IR_ADD, 4, result, a, b);
  ir_rrr(&l->b, subtract ? IR_SUB : IR_ADD, 4, result, result, c);
  note_result(l, result);
  if (!want(l, LIVE_NZCV)) return result;
  /* Overflow: both inputs (the second negated when subtracting) differ in sign from the result. */
  IrReg overflow = ir_temp(&l->b), other = ir_temp(&l->b), carry = ir_temp(&l->b);
  ir_rrr(&l->b, IR_EOR, 4, overflow, a, result);
  if (subtract) ir_rrr(&l->b, IR_EOR, 4, other, a, b);
  else ir_rrr(&l->b, IR_EOR, 4, other, b, result);
  ir_rrr(&l->b, IR_AND, 4, overflow, overflow, other);
  ir_ubfx(&l->b, 4, overflow, overflow, bits - 1, 1);
  ir_ubfx(&l->b, 4, carry, result, bits, 1);
  lift_flags_result(l, size, result, carry, overflow);
  return result;
}

IrReg lift_add_carry(Lift *l, unsigned size, IrReg n, IrReg m, bool subtract) {
  if (size < 4) return narrow_carry(l, size, n, m, subtract);
  IrReg result = ir_temp(&l->b);
  carry_in(l, subtract);
  bool flags = want(l, LIVE_NZCV);
  IrOp op = subtract ? (flags ? IR_SBCS : IR_SBC) : (flags ? IR_ADCS : IR_ADC);
  ir_rrr(&l->b, op, size, result, n, m);
  carry_out(l, n, m, result, subtract);
  return result;
}

IrReg lift_carry(Lift *l) {
  IrReg carry = ir_temp(&l->b);
  switch ((FlagForm)l->form) {
  case FLAGS_LOGIC: ir_const(&l->b, carry, 0); break;
  case FLAGS_DIRECT: ir_cset(&l->b, 4, carry, A64_CS); break;
  case FLAGS_CANONICAL: ir_cset(&l->b, 4, carry, A64_CC); break;
  case FLAGS_FCMP: ir_cset(&l->b, 4, carry, A64_LT); break;
  }
  return carry;
}

IrReg lift_carry_mask(Lift *l, unsigned size) {
  static const uint8_t unless[] = { /* CF is clear */
      [FLAGS_DIRECT] = A64_CC, [FLAGS_CANONICAL] = A64_CS, [FLAGS_FCMP] = A64_GE};
  IrReg mask = ir_temp(&l->b);
  if (l->form == FLAGS_LOGIC) ir_const(&l->b, mask, 0);
  else ir_csel(&l->b, IR_CSINV, size, mask, IR_ZERO, IR_ZERO, (A64Condition)unless[l->form]);
  return mask;
}

IrReg lift_carry_for(Lift *l, FlagForm form) {
  if (form == FLAGS_DIRECT) return lift_carry(l);
  IrReg carry = ir_temp(&l->b);
  switch ((FlagForm)l->form) {
  case FLAGS_LOGIC: ir_const(&l->b, carry, 1); break;
  case FLAGS_DIRECT: ir_cset(&l->b, 4, carry, A64_CC); break;
  case FLAGS_CANONICAL: ir_cset(&l->b, 4, carry, A64_CS); break;
  case FLAGS_FCMP: ir_cset(&l->b, 4, carry, A64_GE); break;
  }
  return carry;
}

/* --- Logic ---------------------------------------------------------------------------------------- */

/* SF, ZF, CF = 0 and OF = 0 of a value of 4 or 8 bytes: as of a comparison with zero, which has the carry as it will be
 * wanted where blocks join. */
static void compare_with_zero(Lift *l, unsigned size, IrReg value) {
  if (value.id == A64_REG_ZERO) ir_rrr(&l->b, IR_SUBS, size, IR_ZERO, IR_ZERO, IR_ZERO); /* the other's 31 is SP */
  else ir_emit(&l->b, IR_SUBSI, size, A64_REG_ZERO, value.id, IR_NONE, 0);
  l->form = FLAGS_CANONICAL;
}

void lift_logic(Lift *l, IrOp op, unsigned size, IrReg d, IrReg n, LiftSource source) {
  bool flags = want(l, LIVE_NZCV);
  if (d.id == A64_REG_ZERO && want(l, X86_F_PF)) d = LIFT_FLAG_RESULT;
  if (d.id == A64_REG_ZERO && !flags) return; /* and register 31 of AND with an immediate is SP */
  if (op == IR_AND && d.id == A64_REG_ZERO && !source.is_immediate && source.reg.id == n.id) {
    compare_with_zero(l, size, n);
    return;
  }
  IrOp with_flags = op == IR_AND && flags ? IR_ANDS : op;
  if (source.is_immediate && source.immediate != 0)
    ir_logic_imm(&l->b, with_flags, size, d, n, size == 4 ? (uint32_t)source.immediate : (uint64_t)source.immediate);
  else ir_rrr(&l->b, with_flags, size, d, n, source_register(l, size, source));
  if (flags && op != IR_AND) compare_with_zero(l, size, d);
  else if (flags) l->form = FLAGS_LOGIC;
  if (want(l, X86_F_PF)) note_result(l, d);
}

/* Whether a narrow value's 32 bits have its sign, or nothing above it where its sign is not asked for. */
static bool is_extended(const Lift *l, unsigned size, IrReg value) {
  if (value.id >= A64_REG_EXIT0) return false;
  if (lift_known_sign_extended(l, value.id, size)) return true;
  return !(l->live_flags & (X86_F_SF | X86_F_LT)) && lift_known_zero_extended(l, value.id, size);
}

/* In the register's upper end when the value is narrow. */
static void test_value(Lift *l, unsigned size, IrReg value) {
  if (size >= 4 || is_extended(l, size, value)) {
    compare_with_zero(l, size < 4 ? 4 : size, value);
  } else if (!(l->live_flags & (X86_F_SF | X86_F_LT))) {
    ir_logic_imm(&l->b, IR_ANDS, 4, IR_ZERO, value, size == 1 ? 0xff : 0xffff);
    l->form = FLAGS_LOGIC;
  } else {
    IrReg high = ir_temp(&l->b);
    ir_lsl_imm(&l->b, 4, high, value, 32 - size * 8);
    compare_with_zero(l, 4, high);
  }
}

void lift_flags_logic(Lift *l, unsigned size, IrReg value) {
  if (want(l, LIVE_NZCV)) test_value(l, size, value);
  if (want(l, X86_F_PF)) note_result(l, value);
}

/* --- Flags by bits -------------------------------------------------------------------------------- */

/* Inserts bit 0 of `bit` as the NZCV flag of register bit `position` (28-31). */
static void insert_flag(Lift *l, IrReg bit, unsigned position) {
  unsigned flag = position - 28; /* RMIF's mask bit and target position */
  if (l->features & A64_HAS_FLAGM) {
    ir_emit(&l->b, IR_RMIF, 8, IR_NONE, bit.id, IR_NONE, (int64_t)((64 - flag) % 64) << 15 | 1 << flag);
    return;
  }
  IrReg nzcv = ir_temp(&l->b);
  ir_emit(&l->b, IR_MRS_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
  ir_bfi(&l->b, 8, nzcv, bit, position, 1);
  ir_emit(&l->b, IR_MSR_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
}

void lift_flags_result(Lift *l, unsigned size, IrReg value, IrReg carry, IrReg overflow) {
  lift_flags_logic(l, size, value);
  if (!want(l, LIVE_NZCV)) return;
  if (carry.id != IR_NONE && want(l, X86_F_CF)) {
    insert_flag(l, carry, 29);
    l->form = FLAGS_DIRECT;
  }
  if (overflow.id != IR_NONE && want(l, X86_F_OF | X86_F_LT)) {
    insert_flag(l, overflow, 28);
    if (l->form == FLAGS_LOGIC) l->form = FLAGS_DIRECT;
  }
}

void lift_flags_put_carry(Lift *l, IrReg carry, FlagForm form) {
  if (l->form != form) {
    IrReg inverted = ir_temp(&l->b);
    ir_logic_imm(&l->b, IR_EOR, 4, inverted, carry, 1);
    carry = inverted;
  }
  insert_flag(l, carry, 29);
}

void lift_flags_set_carry(Lift *l, IrReg carry, IrReg overflow) {
  if (l->form == FLAGS_FCMP) lift_flags_canonical(l, l->live_flags & ~X86_F_CF);
  if (want(l, X86_F_CF)) {
    if (l->form == FLAGS_CANONICAL && want(l, LIVE_NZCV & ~X86_F_CF)) {
      IrReg inverted = ir_temp(&l->b);
      ir_logic_imm(&l->b, IR_EOR, 4, inverted, carry, 1);
      insert_flag(l, inverted, 29);
    } else {
      insert_flag(l, carry, 29);
      l->form = FLAGS_DIRECT;
    }
  }
  if (overflow.id != IR_NONE && want(l, X86_F_OF | X86_F_LT)) {
    insert_flag(l, overflow, 28);
    if (l->form == FLAGS_LOGIC) l->form = FLAGS_DIRECT;
  }
}

void lift_flags_set_overflow(Lift *l, IrReg overflow) {
  if (l->form == FLAGS_FCMP) lift_flags_canonical(l, l->live_flags & ~X86_F_OF);
  if (!want(l, X86_F_OF | X86_F_LT)) return;
  insert_flag(l, overflow, 28);
  if (l->form == FLAGS_LOGIC) l->form = FLAGS_DIRECT;
}

void lift_flags_nzcv(Lift *l, IrReg nzcv) {
  if (want(l, LIVE_NZCV)) ir_emit(&l->b, IR_MSR_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
  l->form = FLAGS_CANONICAL;
  if (want(l, LIVE_PARITY)) {
    ir_const(&l->b, LIFT_FLAG_RESULT, 1); /* odd: PF = 0 */
    ir_const(&l->b, LIFT_FLAG_AUX, 1);
  }
}

void lift_flags_zero_carry(Lift *l, unsigned size, IrReg value, IrReg carry) {
  if (want(l, LIVE_NZCV)) {
    ir_emit(&l->b, IR_SUBSI, size, A64_REG_ZERO, value.id, IR_NONE, 0); /* Z, with C set and V clear */
    if (want(l, X86_F_SF | X86_F_LT)) {
      IrReg nzcv = ir_temp(&l->b);
      ir_emit(&l->b, IR_MRS_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
      ir_logic_imm(&l->b, IR_AND, 4, nzcv, nzcv, NZCV_Z | NZCV_C);
      ir_emit(&l->b, IR_MSR_NZCV, 8, nzcv.id, IR_NONE, IR_NONE, 0);
    }
    l->form = FLAGS_CANONICAL;
    if (carry.id != IR_NONE && want(l, X86_F_CF)) {
      IrReg inverted = ir_temp(&l->b);
      ir_logic_imm(&l->b, IR_EOR, 4, inverted, carry, 1);
      insert_flag(l, inverted, 29);
    }
  }
  if (want(l, LIVE_PARITY)) {
    ir_const(&l->b, LIFT_FLAG_RESULT, 1);
    ir_const(&l->b, LIFT_FLAG_AUX, 1);
  }
}

/* --- Conditions ----------------------------------------------------------------------------------- */

/* PF out of flag_result: its low byte folded, so that bit 0 is clear when PF is set. */
static LiftCondition parity_condition(Lift *l, bool odd) {
  IrReg fold = ir_temp(&l->b);
  ir_rrr_shift(&l->b, IR_EOR, 4, fold, LIFT_FLAG_RESULT, LIFT_FLAG_RESULT, 1, 4);
  ir_rrr_shift(&l->b, IR_EOR, 4, fold, fold, fold, 1, 2);
  ir_rrr_shift(&l->b, IR_EOR, 4, fold, fold, fold, 1, 1);
  return (LiftCondition){.is_register = true, .inverted = !odd, .reg = fold};
}

/* By condition pairs O B Z BE S P L LE; the odd numbers negate. 0xff: not expressible in this form. */
static const uint8_t condition_by_form[4][8] = {
  [FLAGS_CANONICAL] = {A64_VS, A64_CC, A64_EQ, A64_LS, A64_MI, 0xff, A64_LT, A64_LE},
  [FLAGS_DIRECT] = {A64_VS, A64_CS, A64_EQ, 0xff, A64_MI, 0xff, A64_LT, A64_LE},
  [FLAGS_FCMP] = {0xff, A64_LT, 0xff, A64_LE, 0xff, A64_VS, 0xff, 0xff},
  [FLAGS_LOGIC] = {A64_VS, A64_CS, A64_EQ, A64_EQ, A64_MI, 0xff, A64_LT, A64_LE},
};

LiftCondition lift_condition(Lift *l, unsigned condition) {
  enum { PARITY = 5 };
  unsigned pair = condition >> 1 & 7, negate = condition & 1;
  if (pair == PARITY && l->form != FLAGS_FCMP) return parity_condition(l, negate);
  if (condition_by_form[l->form][pair] == 0xff) {
    const X86Insn *insn = &l->region->insns[l->index].insn;
    lift_flags_canonical(l, l->live_flags | insn->flags_read | X86_F_CF);
  }
  return (LiftCondition){.cond = (A64Condition)(condition_by_form[l->form][pair] ^ negate)};
}

IrReg lift_condition_value(Lift *l, unsigned condition) {
  LiftCondition c = lift_condition(l, condition);
  IrReg value = ir_temp(&l->b);
  if (!c.is_register) {
    ir_cset(&l->b, 4, value, c.cond);
    return value;
  }
  ir_logic_imm(&l->b, IR_AND, 4, value, c.reg, 1);
  if (c.inverted) ir_logic_imm(&l->b, IR_EOR, 4, value, value, 1);
  return value;
}
