/* Shifts, rotates and double shifts.
 *
 * x86 masks the count to 5 bits (6 for 64-bit operands) as AArch64's 32- and 64-bit shifts do; narrow
 * operands are shifted in 32 bits. A count of zero leaves all flags, so where flags are wanted of a count in
 * CL, the flag part is branched over. OF is defined for a count of one only; hardware gives the same formula's
 * value for other counts, and so do we (Intel SDM, SAL/SAR/SHL/SHR, RCL/RCR/ROL/ROR). */
#include "lift/internal.h"

typedef enum Shift { SHIFT_ROL, SHIFT_ROR, SHIFT_RCL, SHIFT_RCR, SHIFT_SHL, SHIFT_SHR, SHIFT_SAR } Shift;

enum { WANT_CF_OF = X86_F_CF | X86_F_OF | X86_F_LT, WANT_ANY = X86_F_STATUS | X86_F_LT };

static unsigned width_of(unsigned size) { return size < 4 ? 4 : size; }

/* The operand as the shift needs it: narrow ones zero- or sign-extended, in a register that stays. */
static IrReg prepare(Lift *l, const X86Insn *insn, unsigned size, Shift op, IrAddress *ret_address) {
  IrReg value;
  if (lift_is_memory(insn, 0)) {
    *ret_address = lift_address(l, insn, size);
    value = ir_temp(&l->b);
    ir_load(&l->b, size, size < 4 && op == SHIFT_SAR ? IR_EXTEND_SIGN32 : IR_EXTEND_ZERO, value, *ret_address);
    return value;
  }
  value = lift_read(l, insn, 0);
  if (size < 4 && op == SHIFT_SAR) {
    IrReg extended = ir_temp(&l->b);
    ir_sbfx(&l->b, 4, extended, value, 0, size * 8);
    value = extended;
  }
  return value;
}

static void write_back(Lift *l, const X86Insn *insn, unsigned size, IrReg result, IrAddress address) {
  if (lift_is_memory(insn, 0)) ir_store(&l->b, size, result, address);
  else lift_write_register(l, &insn->operands[0], result);
}

/* d := bit `position` of value, which may lie above the operand (then 0). */
static IrReg bit_of(Lift *l, IrReg value, unsigned position) {
  IrReg bit = ir_temp(&l->b);
  ir_ubfx(&l->b, 8, bit, value, position, 1);
  return bit;
}

/* --- Constant counts --------------------------------------------------------------------------------- */

static IrReg carry_of_shift(Lift *l, Shift op, unsigned size, IrReg value, unsigned count) {
  unsigned bits = size * 8;
  if (op == SHIFT_SHL) return count > bits ? IR_ZERO : bit_of(l, value, bits - count);
  if (op == SHIFT_SHR) return count > bits ? IR_ZERO : bit_of(l, value, count - 1);
  unsigned position = count > (size < 4 ? 32u : bits) ? bits - 1 : count - 1;
  return bit_of(l, value, position);
}

/* Hardware's OF: SHL: CF ^ sign of the result; SHR: sign of the operand shifted by count - 1; SAR: 0. */
static IrReg overflow_of_shift(Lift *l, Shift op, unsigned size, IrReg value, IrReg result, IrReg carry,
                               unsigned count) {
  unsigned bits = size * 8;
  if (op == SHIFT_SAR) return IR_ZERO;
  if (op == SHIFT_SHR) {
    if (count > 1) return IR_ZERO;
    return bit_of(l, value, bits - 1);
  }
  IrReg overflow = bit_of(l, result, bits - 1);
  ir_rrr(&l->b, IR_EOR, 4, overflow, overflow, carry);
  return overflow;
}

static void shift_value(Lift *l, Shift op, unsigned size, IrReg d, IrReg value, unsigned count) {
  unsigned width = width_of(size);
  if (op == SHIFT_SHL) ir_lsl_imm(&l->b, width, d, value, count);
  else if (op == SHIFT_SHR) ir_lsr_imm(&l->b, width, d, value, count);
  else ir_asr_imm(&l->b, width, d, value, count);
}

/* SHR and SAR of a register's low bytes: a field of it. */
static IrReg narrow_field(Lift *l, Shift op, unsigned size, IrReg value, unsigned count) {
  unsigned bits = size * 8;
  IrReg result = ir_temp(&l->b);
  if (op == SHIFT_SAR) {
    unsigned lsb = count < bits ? count : bits - 1;
    ir_sbfx(&l->b, 4, result, value, lsb, bits - lsb);
    return result;
  }
  if (count >= bits) return IR_ZERO;
  ir_ubfx(&l->b, 4, result, value, count, bits - count);
  return result;
}

static void shift_narrow(Lift *l, const X86Insn *insn, Shift op, unsigned size, unsigned count) {
  unsigned bits = size * 8;
  IrReg value = lift_gpr(insn->operands[0].reg), result, carry = IR_NO_REG, overflow = IR_NO_REG;
  if (op == SHIFT_SHL) shift_value(l, op, size, result = ir_temp(&l->b), value, count);
  else result = narrow_field(l, op, size, value, count);
  if (l->live_flags & WANT_CF_OF)
    carry = carry_of_shift(l, op, size, value, op == SHIFT_SAR && count > bits ? bits : count);
  if (l->live_flags & (X86_F_OF | X86_F_LT)) overflow = overflow_of_shift(l, op, size, value, result, carry, count);
  write_back(l, insn, size, result, (IrAddress){0});
  if (l->live_flags & WANT_ANY) lift_flags_result(l, size, result, carry, overflow);
}

static void shift_constant(Lift *l, const X86Insn *insn, Shift op, unsigned size, unsigned count) {
  if (size < 4 && insn->operands[0].kind == X86_OPERAND_GPR) {
    shift_narrow(l, insn, op, size, count);
    return;
  }
  IrAddress address = {0};
  IrReg value = prepare(l, insn, size, op, &address);
  bool in_place = !lift_is_memory(insn, 0) && size >= 4 && !(l->live_flags & WANT_CF_OF);
  IrReg result = in_place ? lift_gpr(insn->operands[0].reg) : ir_temp(&l->b);
  shift_value(l, op, size, result, value, count);
  if (!(l->live_flags & WANT_ANY)) {
    if (!in_place) write_back(l, insn, size, result, address);
    return;
  }
  IrReg carry = IR_NO_REG, overflow = IR_NO_REG;
  if (l->live_flags & WANT_CF_OF) carry = carry_of_shift(l, op, size, value, count);
  if (l->live_flags & (X86_F_OF | X86_F_LT)) overflow = overflow_of_shift(l, op, size, value, result, carry, count);
  if (!in_place) write_back(l, insn, size, result, address);
  lift_flags_result(l, size, result, carry, overflow);
}

/* --- Counts in CL ------------------------------------------------------------------------------------ */

static IrReg masked_count(Lift *l, unsigned size) {
  IrReg count = ir_temp(&l->b);
  ir_logic_imm(&l->b, IR_AND, 4, count, lift_gpr(X86_RCX), size == 8 ? 63 : 31);
  return count;
}

static IrOp variable_op(Shift op) {
  return op == SHIFT_SHL ? IR_LSLV : op == SHIFT_SHR ? IR_LSRV : IR_ASRV;
}

/* CF of a count (1 or more) in a register, from a double-width shift's last step. */
static IrReg variable_carry(Lift *l, Shift op, unsigned size, IrReg value, IrReg count) {
  IrReg carry = ir_temp(&l->b), by = ir_temp(&l->b);
  unsigned bits = size * 8;
  if (op == SHIFT_SHL) {
    if (size == 8) {
      ir_rrr(&l->b, IR_SUB, 4, by, IR_ZERO, count); /* bit 64 - count */
      ir_rrr(&l->b, IR_LSRV, 8, carry, value, by);
    } else {
      ir_rrr(&l->b, IR_LSLV, 8, carry, value, count); /* CF ends up at bit `bits` */
      ir_lsr_imm(&l->b, 8, carry, carry, bits);
    }
  } else {
    ir_add_imm(&l->b, 4, by, count, -1);
    ir_rrr(&l->b, op == SHIFT_SAR ? IR_ASRV : IR_LSRV, width_of(size), carry, value, by);
  }
  ir_logic_imm(&l->b, IR_AND, 4, carry, carry, 1);
  return carry;
}

static IrReg variable_overflow(Lift *l, Shift op, unsigned size, IrReg value, IrReg result, IrReg carry,
                               IrReg count) {
  IrReg overflow = ir_temp(&l->b);
  if (op == SHIFT_SAR) return IR_ZERO;
  if (op == SHIFT_SHL) {
    ir_ubfx(&l->b, 8, overflow, result, size * 8 - 1, 1);
    ir_rrr(&l->b, IR_EOR, 4, overflow, overflow, carry);
    return overflow;
  }
  IrReg by = ir_temp(&l->b); /* sign of value >> (count - 1) */
  ir_add_imm(&l->b, 4, by, count, -1);
  ir_rrr(&l->b, IR_LSRV, width_of(size), overflow, value, by);
  ir_ubfx(&l->b, 8, overflow, overflow, size * 8 - 1, 1);
  return overflow;
}

static void shift_by_cl(Lift *l, const X86Insn *insn, Shift op, unsigned size) {
  IrAddress address = {0};
  IrReg value = prepare(l, insn, size, op, &address);
  unsigned width = width_of(size);
  bool flags = l->live_flags & WANT_ANY;
  if (!flags && size >= 4 && !lift_is_memory(insn, 0)) {
    IrReg home = lift_gpr(insn->operands[0].reg);
    ir_rrr(&l->b, variable_op(op), width, home, value, lift_gpr(X86_RCX));
    return;
  }
  IrReg result = ir_temp(&l->b);
  IrReg count = size == 8 && !flags ? lift_gpr(X86_RCX) : masked_count(l, size);
  ir_rrr(&l->b, variable_op(op), width, result, value, count);
  if (!flags) {
    write_back(l, insn, size, result, address);
    return;
  }
  value = lift_copy(l, value);
  write_back(l, insn, size, result, address);
  /* Both ways must leave the flags in the same form. */
  lift_flags_canonical(l, l->live_flags);
  IrLabel skip = ir_label(&l->b);
  ir_cbz(&l->b, 4, count, skip);
  IrReg carry = IR_NO_REG, overflow = IR_NO_REG;
  if (l->live_flags & WANT_CF_OF) carry = variable_carry(l, op, size, value, count);
  if (l->live_flags & (X86_F_OF | X86_F_LT)) overflow = variable_overflow(l, op, size, value, result, carry, count);
  lift_flags_result(l, size, result, carry, overflow);
  lift_flags_canonical(l, l->live_flags);
  ir_bind(&l->b, skip);
}

/* The count operand: an immediate, the constant 1, or CL. */
static bool constant_count(const X86Insn *insn, unsigned size, unsigned *ret_count) {
  const X86Operand *o = &insn->operands[1];
  if (o->kind == X86_OPERAND_GPR) return false;
  *ret_count = (unsigned)insn->imm & (size == 8 ? 63 : 31);
  return true;
}

void lift_shift(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned size = insn->operands[0].size, count;
  Shift op = (Shift)argument;
  if (!constant_count(insn, size, &count)) {
    shift_by_cl(l, insn, op, size);
    return;
  }
  if (count) {
    shift_constant(l, insn, op, size, count);
  } else if (size == 4 && !lift_is_memory(insn, 0)) {
    ir_mov(&l->b, 4, lift_gpr(insn->operands[0].reg), lift_gpr(insn->operands[0].reg)); /* zero-extends */
  } else if (lift_is_memory(insn, 0)) {
    lift_read(l, insn, 0); /* may fault */
  }
}

/* --- Rotates ----------------------------------------------------------------------------------------- */

/* The narrow operand repeated through 32 bits, so that a 32-bit rotate rotates each copy. */
static IrReg replicate(Lift *l, unsigned size, IrReg value) {
  if (size >= 4) return value;
  IrReg wide = ir_temp(&l->b);
  ir_mov(&l->b, 4, wide, value);
  if (size == 1) ir_bfi(&l->b, 4, wide, wide, 8, 8);
  ir_bfi(&l->b, 4, wide, wide, 16, 16);
  return wide;
}

/* CF and OF of a rotation by a count that is not 0, from its result. */
static void rotate_flags(Lift *l, Shift op, unsigned size, IrReg result) {
  if (!(l->live_flags & WANT_CF_OF)) return;
  unsigned bits = size * 8;
  IrReg carry = bit_of(l, result, op == SHIFT_ROL ? 0 : bits - 1), overflow = IR_NO_REG;
  if (l->live_flags & (X86_F_OF | X86_F_LT)) {
    overflow = bit_of(l, result, op == SHIFT_ROL ? bits - 1 : bits - 2);
    ir_rrr(&l->b, IR_EOR, 4, overflow, overflow, carry);
  }
  lift_flags_set_carry(l, carry, overflow);
}

static void rotate_constant(Lift *l, const X86Insn *insn, Shift op, unsigned size, unsigned count) {
  IrAddress address = {0};
  if (size == 2 && count % 16 == 8 && insn->operands[0].kind == X86_OPERAND_GPR) { /* swaps the bytes */
    IrReg swapped = ir_temp(&l->b);
    ir_rr(&l->b, IR_REV16, 4, swapped, lift_gpr(insn->operands[0].reg));
    write_back(l, insn, size, swapped, address);
    rotate_flags(l, op, size, swapped);
    return;
  }
  IrReg value = prepare(l, insn, size, op, &address), result = ir_temp(&l->b);
  unsigned width = width_of(size), right = op == SHIFT_ROL ? width * 8 - count % (width * 8) : count;
  ir_ror_imm(&l->b, width, result, replicate(l, size, value), right % (width * 8));
  write_back(l, insn, size, result, address);
  rotate_flags(l, op, size, result);
}

static void rotate_by_cl(Lift *l, const X86Insn *insn, Shift op, unsigned size) {
  IrAddress address = {0};
  IrReg value = prepare(l, insn, size, op, &address), result = ir_temp(&l->b);
  unsigned width = width_of(size);
  IrReg count = masked_count(l, size), right = count;
  if (op == SHIFT_ROL) {
    right = ir_temp(&l->b);
    ir_rrr(&l->b, IR_SUB, 4, right, IR_ZERO, count);
  }
  ir_rrr(&l->b, IR_RORV, width, result, replicate(l, size, value), right);
  write_back(l, insn, size, result, address);
  if (!(l->live_flags & WANT_CF_OF)) return;
  lift_flags_canonical(l, l->live_flags);
  IrLabel skip = ir_label(&l->b);
  ir_cbz(&l->b, 4, count, skip);
  rotate_flags(l, op, size, result);
  lift_flags_canonical(l, l->live_flags);
  ir_bind(&l->b, skip);
}

/* --- Rotates through carry ----------------------------------------------------------------------------- */

/* By one: what compilers and multi-word shifts use. */
static void rotate_carry_one(Lift *l, const X86Insn *insn, Shift op, unsigned size) {
  IrAddress address = {0};
  IrReg value = lift_copy(l, prepare(l, insn, size, op, &address));
  IrReg carry_in = lift_carry(l), result = ir_temp(&l->b), carry = ir_temp(&l->b), overflow = IR_NO_REG;
  unsigned width = width_of(size), bits = size * 8;
  if (op == SHIFT_RCL) {
    ir_rrr_shift(&l->b, IR_ORR, width, result, carry_in, value, 0, 1);
    ir_ubfx(&l->b, 8, carry, value, bits - 1, 1);
  } else {
    ir_lsr_imm(&l->b, width, result, value, 1);
    ir_bfi(&l->b, width, result, carry_in, bits - 1, 1);
    ir_ubfx(&l->b, 8, carry, value, 0, 1);
  }
  write_back(l, insn, size, result, address);
  if (l->live_flags & (X86_F_OF | X86_F_LT)) {
    overflow = bit_of(l, result, bits - 1);
    IrReg other = op == SHIFT_RCL ? carry : bit_of(l, result, bits - 2);
    ir_rrr(&l->b, IR_EOR, 4, overflow, overflow, other);
  }
  lift_flags_set_carry(l, carry, overflow);
}

/* By any count: a loop of single steps, in temporaries. The flags stay untouched when it is zero. */
static void rotate_carry_many(Lift *l, const X86Insn *insn, Shift op, unsigned size, IrReg count) {
  IrAddress address = {0};
  IrReg value = lift_copy(l, prepare(l, insn, size, op, &address));
  IrReg carry = lift_carry(l), left = ir_temp(&l->b), next = ir_temp(&l->b), first = ir_temp(&l->b);
  unsigned width = width_of(size), bits = size * 8;
  IrLabel again = ir_label(&l->b), done = ir_label(&l->b), skip = ir_label(&l->b);
  IrReg result = ir_temp(&l->b);
  ir_mov(&l->b, 8, result, value);
  ir_mov(&l->b, 4, left, count);
  ir_bind(&l->b, again);
  ir_cbz(&l->b, 4, left, done);
  if (op == SHIFT_RCL) {
    ir_ubfx(&l->b, 8, next, result, bits - 1, 1);
    ir_rrr_shift(&l->b, IR_ORR, width, result, carry, result, 0, 1);
  } else {
    ir_ubfx(&l->b, 8, next, result, 0, 1);
    ir_lsr_imm(&l->b, width, result, result, 1);
    ir_bfi(&l->b, width, result, carry, bits - 1, 1);
  }
  ir_mov(&l->b, 4, carry, next);
  ir_add_imm(&l->b, 4, left, left, -1);
  ir_branch(&l->b, again);
  ir_loop_end(&l->b, again);
  ir_bind(&l->b, done);
  write_back(l, insn, size, result, address);
  if (!(l->live_flags & WANT_CF_OF)) return;
  lift_flags_canonical(l, l->live_flags);
  ir_cbz(&l->b, 4, count, skip);
  ir_ubfx(&l->b, 8, first, result, bits - 1, 1);
  IrReg other = op == SHIFT_RCL ? carry : bit_of(l, result, bits - 2);
  ir_rrr(&l->b, IR_EOR, 4, first, first, other);
  lift_flags_set_carry(l, carry, first);
  lift_flags_canonical(l, l->live_flags);
  ir_bind(&l->b, skip);
}

static void rotate_carry(Lift *l, const X86Insn *insn, Shift op, unsigned size) {
  unsigned count;
  if (!constant_count(insn, size, &count)) {
    rotate_carry_many(l, insn, op, size, masked_count(l, size));
  } else if (count == 1) {
    rotate_carry_one(l, insn, op, size);
  } else {
    IrReg fixed = ir_temp(&l->b);
    ir_const(&l->b, fixed, count);
    rotate_carry_many(l, insn, op, size, fixed);
  }
}

void lift_rotate(Lift *l, const X86Insn *insn, uint32_t argument) {
  unsigned size = insn->operands[0].size, count;
  Shift op = (Shift)argument;
  if (op == SHIFT_RCL || op == SHIFT_RCR) rotate_carry(l, insn, op, size);
  else if (!constant_count(insn, size, &count)) rotate_by_cl(l, insn, op, size);
  else if (count) rotate_constant(l, insn, op, size, count);
  else if (size == 4 && !lift_is_memory(insn, 0))
    ir_mov(&l->b, 4, lift_gpr(insn->operands[0].reg), lift_gpr(insn->operands[0].reg));
}

/* --- SHLD, SHRD -------------------------------------------------------------------------------------- */

/* 64-bit values hold both operands of the 16-bit forms: destination twice around the source, which is what
 * hardware shifts in for counts above 16 (where the manual leaves the result undefined). */
static void double_value(Lift *l, bool left, unsigned size, IrReg result, IrReg value, IrReg source, unsigned count) {
  if (size >= 4) {
    if (left) ir_extr(&l->b, size, result, value, source, size * 8 - count);
    else ir_extr(&l->b, size, result, source, value, count);
    return;
  }
  IrReg wide = ir_temp(&l->b);
  if (left) { /* value:source:value, the top word shifted up */
    ir_ubfx(&l->b, 8, wide, value, 0, 16);
    ir_bfi(&l->b, 8, wide, source, 16, 16);
    ir_bfi(&l->b, 8, wide, value, 32, 16);
    ir_lsr_imm(&l->b, 8, result, wide, 32 - count);
  } else {
    ir_ubfx(&l->b, 8, wide, value, 0, 16);
    ir_bfi(&l->b, 8, wide, source, 16, 16);
    ir_bfi(&l->b, 8, wide, value, 32, 16);
    ir_lsr_imm(&l->b, 8, result, wide, count);
  }
}

static void double_flags(Lift *l, bool left, unsigned size, IrReg value, IrReg result, IrReg carry) {
  IrReg overflow = IR_NO_REG;
  if (l->live_flags & (X86_F_OF | X86_F_LT)) { /* the sign changed */
    overflow = ir_temp(&l->b);
    ir_rrr(&l->b, IR_EOR, 8, overflow, value, result);
    ir_ubfx(&l->b, 8, overflow, overflow, size * 8 - 1, 1);
  }
  lift_flags_result(l, size, result, carry, overflow);
  (void)left;
}

static void double_constant(Lift *l, const X86Insn *insn, bool left, unsigned size, unsigned count) {
  IrAddress address = {0};
  IrReg value = lift_copy(l, prepare(l, insn, size, SHIFT_SHL, &address));
  IrReg source = lift_read(l, insn, 1), result = ir_temp(&l->b), carry = IR_NO_REG;
  double_value(l, left, size, result, value, source, count);
  if (l->live_flags & X86_F_CF) {
    unsigned bits = size * 8;
    if (count <= bits) carry = bit_of(l, value, left ? bits - count : count - 1);
    else carry = bit_of(l, source, left ? 2 * bits - count : count - bits - 1);
  }
  write_back(l, insn, size, result, address);
  if (l->live_flags & WANT_ANY) double_flags(l, left, size, value, result, carry);
}

/* count in a register, not zero: both halves shifted and joined. */
static IrReg double_variable_value(Lift *l, bool left, unsigned size, IrReg value, IrReg source, IrReg count) {
  IrReg result = ir_temp(&l->b), rest = ir_temp(&l->b), by = ir_temp(&l->b);
  if (size < 4) {
    IrReg wide = ir_temp(&l->b);
    ir_ubfx(&l->b, 8, wide, value, 0, 16);
    ir_bfi(&l->b, 8, wide, source, 16, 16);
    ir_bfi(&l->b, 8, wide, value, 32, 16);
    if (left) {
      ir_const(&l->b, by, 32);
      ir_rrr(&l->b, IR_SUB, 4, by, by, count);
    } else {
      ir_mov(&l->b, 4, by, count);
    }
    ir_rrr(&l->b, IR_LSRV, 8, result, wide, by);
    return result;
  }
  ir_rrr(&l->b, left ? IR_LSLV : IR_LSRV, size, result, value, count);
  ir_rrr(&l->b, IR_SUB, 4, by, IR_ZERO, count); /* modulo the width: width - count */
  ir_rrr(&l->b, left ? IR_LSRV : IR_LSLV, size, rest, source, by);
  ir_rrr(&l->b, IR_ORR, size, result, result, rest);
  return result;
}

static IrReg double_variable_carry(Lift *l, bool left, unsigned size, IrReg value, IrReg source, IrReg count) {
  IrReg carry = ir_temp(&l->b), by = ir_temp(&l->b), base = value;
  if (size < 4) {
    base = ir_temp(&l->b);
    ir_ubfx(&l->b, 8, base, left ? source : value, 0, 16);
    ir_bfi(&l->b, 8, base, left ? value : source, 16, 16);
  }
  if (left) { /* bit (width - count) of the value, or of value:source for the narrow form */
    ir_const(&l->b, by, size < 4 ? 32 : size * 8);
    ir_rrr(&l->b, IR_SUB, 4, by, by, count);
  } else {
    ir_add_imm(&l->b, 4, by, count, -1);
  }
  ir_rrr(&l->b, IR_LSRV, size == 4 ? 4 : 8, carry, base, by);
  ir_logic_imm(&l->b, IR_AND, 4, carry, carry, 1);
  return carry;
}

static void double_by_cl(Lift *l, const X86Insn *insn, bool left, unsigned size) {
  IrAddress address = {0};
  IrReg value = lift_copy(l, prepare(l, insn, size, SHIFT_SHL, &address));
  IrReg source = lift_read(l, insn, 1), count = masked_count(l, size), result = ir_temp(&l->b);
  if (l->live_flags & WANT_ANY) source = lift_copy(l, source);
  IrLabel zero = ir_label(&l->b), done = ir_label(&l->b);
  lift_flags_canonical(l, l->live_flags);
  ir_mov(&l->b, 8, result, value);
  ir_cbz(&l->b, 4, count, zero);
  ir_mov(&l->b, 8, result, double_variable_value(l, left, size, value, source, count));
  ir_bind(&l->b, zero);
  write_back(l, insn, size, result, address);
  if (!(l->live_flags & WANT_ANY)) return;
  ir_cbz(&l->b, 4, count, done);
  IrReg carry = l->live_flags & X86_F_CF ? double_variable_carry(l, left, size, value, source, count) : IR_NO_REG;
  double_flags(l, left, size, value, result, carry);
  lift_flags_canonical(l, l->live_flags);
  ir_bind(&l->b, done);
}

void lift_double_shift(Lift *l, const X86Insn *insn, uint32_t left) {
  unsigned size = insn->operands[0].size;
  if (insn->operands[2].kind == X86_OPERAND_GPR) {
    double_by_cl(l, insn, left, size);
    return;
  }
  unsigned count = (unsigned)insn->imm & (size == 8 ? 63 : 31);
  if (count) double_constant(l, insn, left, size, count);
  else if (size == 4 && !lift_is_memory(insn, 0))
    ir_mov(&l->b, 4, lift_gpr(insn->operands[0].reg), lift_gpr(insn->operands[0].reg));
}
