/* Multiplication and division. */
#include "lift/internal.h"

LiftFunction lift_multiply_wide;

enum { WANT_CF_OF = X86_F_CF | X86_F_OF | X86_F_LT };

/* CF = OF = `overflow`; SF, ZF, PF, AF are undefined. */
static void multiply_flags(Lift *l, IrReg low, IrReg overflow) {
  if (overflow.id != IR_NONE) lift_flags_result(l, 4, low, overflow, overflow);
}

/* 1 when `high` is not what `expected` says an unoverflowed product has there. */
static IrReg differs(Lift *l, unsigned size, IrReg high, IrReg expected) {
  IrReg overflow = ir_temp(&l->b);
  ir_rrr(&l->b, IR_SUBS, size, IR_ZERO, high, expected);
  ir_cset(&l->b, 4, overflow, A64_NE);
  return overflow;
}

/* Signed product truncated to the operands' size: two- and three-operand IMUL. */
static void multiply_truncated(Lift *l, const X86Insn *insn) {
  unsigned size = insn->operands[0].size, a = insn->operand_count == 3 ? 1 : 0, b = a + 1;
  bool flags = l->live_flags & WANT_CF_OF;
  const X86Operand *d = &insn->operands[0];
  if (!flags && size >= 4) {
    IrReg n = lift_read_raw(l, insn, a), m = lift_read_raw(l, insn, b);
    ir_rrrr(&l->b, IR_MADD, size, lift_gpr(d->reg), n, m, IR_ZERO);
    return;
  }
  IrReg n = lift_read_signed(l, insn, a), m = lift_read_signed(l, insn, b), product = ir_temp(&l->b);
  IrReg overflow = IR_NO_REG;
  if (size == 8) {
    ir_rrrr(&l->b, IR_MADD, 8, product, n, m, IR_ZERO);
    if (flags) {
      IrReg high = ir_temp(&l->b), sign = ir_temp(&l->b);
      ir_rrr(&l->b, IR_SMULH, 8, high, n, m);
      ir_asr_imm(&l->b, 8, sign, product, 63);
      overflow = differs(l, 8, high, sign);
    }
  } else {
    ir_rrrr(&l->b, IR_MADD, 8, product, n, m, IR_ZERO);
    if (flags) {
      IrReg truncated = ir_temp(&l->b);
      ir_sbfx(&l->b, 8, truncated, product, 0, size * 8);
      overflow = differs(l, 8, product, truncated);
    }
  }
  lift_write_register(l, d, product);
  multiply_flags(l, product, overflow);
}

/* RDX:RAX (or AX) := accumulator * operand. */
void lift_multiply_wide(Lift *l, const X86Insn *insn, uint32_t is_signed) {
  unsigned size = insn->operands[0].size, bits = size * 8;
  bool flags = l->live_flags & WANT_CF_OF;
  IrReg rax = lift_gpr(X86_RAX), rdx = lift_gpr(X86_RDX), overflow = IR_NO_REG;
  if (size == 8) {
    IrReg m = lift_read_raw(l, insn, 0), high = ir_temp(&l->b), low = ir_temp(&l->b);
    ir_rrr(&l->b, is_signed ? IR_SMULH : IR_UMULH, 8, high, rax, m);
    ir_rrrr(&l->b, IR_MADD, 8, low, rax, m, IR_ZERO);
    ir_mov(&l->b, 8, rdx, high);
    ir_mov(&l->b, 8, rax, low);
  } else if (size == 4) {
    IrReg m = lift_read_raw(l, insn, 0), product = ir_temp(&l->b);
    ir_rrr(&l->b, is_signed ? IR_SMULL : IR_UMULL, 8, product, rax, m);
    ir_lsr_imm(&l->b, 8, rdx, product, 32);
    ir_mov(&l->b, 4, rax, product);
  } else {
    IrReg m = is_signed ? lift_read_signed(l, insn, 0) : lift_read(l, insn, 0);
    IrReg n = ir_temp(&l->b), product = ir_temp(&l->b);
    if (is_signed) ir_sbfx(&l->b, 8, n, rax, 0, bits);
    else ir_ubfx(&l->b, 8, n, rax, 0, bits);
    ir_rrrr(&l->b, IR_MADD, 8, product, n, m, IR_ZERO);
    ir_bfi(&l->b, 8, rax, product, 0, 16);
    if (size == 2) {
      IrReg high = ir_temp(&l->b);
      ir_lsr_imm(&l->b, 8, high, product, 16);
      ir_bfi(&l->b, 8, rdx, high, 0, 16);
    }
    if (flags) {
      IrReg truncated = ir_temp(&l->b);
      if (is_signed) ir_sbfx(&l->b, 8, truncated, product, 0, bits);
      else ir_ubfx(&l->b, 8, truncated, product, 0, bits);
      overflow = differs(l, 8, product, truncated);
      multiply_flags(l, product, overflow);
    }
    return;
  }
  if (!flags) return;
  IrReg expected = IR_ZERO;
  if (is_signed) {
    expected = ir_temp(&l->b);
    ir_asr_imm(&l->b, size, expected, rax, bits - 1);
  }
  overflow = differs(l, size, rdx, expected);
  multiply_flags(l, rax, overflow);
}

void lift_imul_any(Lift *l, const X86Insn *insn, uint32_t argument) {
  (void)argument;
  if (insn->operand_count == 1) lift_multiply_wide(l, insn, true);
  else multiply_truncated(l, insn);
}

/* --- Division ---------------------------------------------------------------------------------------- */

/* Narrow division, in 64 bits: the dividend fits, and the quotient is checked against its size. */
static void divide_narrow(Lift *l, const X86Insn *insn, unsigned size, bool is_signed) {
  unsigned bits = size * 8;
  IrReg rax = lift_gpr(X86_RAX), rdx = lift_gpr(X86_RDX);
  IrReg divisor = is_signed ? lift_read_signed(l, insn, 0) : lift_read(l, insn, 0);
  IrReg dividend = ir_temp(&l->b), quotient = ir_temp(&l->b), remainder = ir_temp(&l->b), check = ir_temp(&l->b);
  if (size == 1) {
    if (is_signed) ir_sbfx(&l->b, 8, dividend, rax, 0, 16);
    else ir_ubfx(&l->b, 8, dividend, rax, 0, 16);
  } else if (size == 2) {
    ir_ubfx(&l->b, 8, dividend, rax, 0, 16);
    ir_bfi(&l->b, 8, dividend, rdx, 16, 16);
    if (is_signed) ir_sbfx(&l->b, 8, dividend, dividend, 0, 32);
  } else {
    ir_mov(&l->b, 4, dividend, rax);
    ir_bfi(&l->b, 8, dividend, rdx, 32, 32);
    if (!is_signed && insn->operands[0].kind == X86_OPERAND_GPR) {
      IrReg wide = ir_temp(&l->b); /* a 32-bit register's upper half may not be read */
      ir_mov(&l->b, 4, wide, divisor);
      divisor = wide;
    }
  }
  lift_raise_if_zero(l, 8, divisor, 0);
  ir_rrr(&l->b, is_signed ? IR_SDIV : IR_UDIV, 8, quotient, dividend, divisor);
  if (is_signed) {
    ir_sbfx(&l->b, 8, check, quotient, 0, bits);
    ir_rrr(&l->b, IR_EOR, 8, check, check, quotient);
  } else {
    ir_lsr_imm(&l->b, 8, check, quotient, bits);
  }
  lift_raise_if_not_zero(l, 8, check, 0);
  ir_rrrr(&l->b, IR_MSUB, 8, remainder, quotient, divisor, dividend);
  if (size == 1) {
    ir_bfi(&l->b, 8, quotient, remainder, 8, 8);
    ir_bfi(&l->b, 8, rax, quotient, 0, 16);
  } else if (size == 2) {
    ir_bfi(&l->b, 8, rax, quotient, 0, 16);
    ir_bfi(&l->b, 8, rdx, remainder, 0, 16);
  } else {
    ir_mov(&l->b, 4, rax, quotient);
    ir_mov(&l->b, 4, rdx, remainder);
  }
}

/* 128 by 64 bits: nearly always RDX holds nothing but zeros or the sign; else a helper divides in full. */
static void divide_wide(Lift *l, const X86Insn *insn, bool is_signed) {
  IrReg rax = lift_gpr(X86_RAX), rdx = lift_gpr(X86_RDX);
  IrReg divisor = lift_read_raw(l, insn, 0);
  IrReg quotient = ir_temp(&l->b), remainder = ir_temp(&l->b), high = ir_temp(&l->b);
  IrLabel full = ir_label(&l->b), done = ir_label(&l->b);
  lift_raise_if_zero(l, 8, divisor, 0);
  if (is_signed) { /* RDX is RAX's sign, and not -2^63 / -1 (excluded with every other divisor of -1) */
    IrReg minus_one = ir_temp(&l->b);
    ir_rrr_shift(&l->b, IR_EOR, 8, high, rdx, rax, 2, 63);
    ir_cbnz(&l->b, 8, high, full);
    ir_add_imm(&l->b, 8, minus_one, divisor, 1);
    ir_cbz(&l->b, 8, minus_one, full);
  } else {
    ir_cbnz(&l->b, 8, rdx, full);
  }
  ir_cold_begin(&l->b);
  ir_bind(&l->b, full);
  ir_store_state(&l->b, 8, divisor, offsetof(GuestCpu, scratch));
  lift_helper_imm(l, is_signed ? LIFT_HELPER_DIVIDE_SIGNED : LIFT_HELPER_DIVIDE_UNSIGNED, 0);
  IrReg failed = ir_temp(&l->b);
  ir_load_state(&l->b, 8, failed, offsetof(GuestCpu, scratch) + 8);
  ir_cbz(&l->b, 8, failed, done);
  lift_raise(l, 0);
  ir_cold_end(&l->b);
  ir_rrr(&l->b, is_signed ? IR_SDIV : IR_UDIV, 8, quotient, rax, divisor);
  ir_rrrr(&l->b, IR_MSUB, 8, remainder, quotient, divisor, rax);
  ir_mov(&l->b, 8, rax, quotient);
  ir_mov(&l->b, 8, rdx, remainder);
  ir_bind(&l->b, done);
}

/* #DE for a divisor of 0, and where the lowest number is divided by -1. */
static void raise_unless_divisible(Lift *l, unsigned size, IrReg divisor) {
  IrReg next = ir_temp(&l->b), difference = ir_temp(&l->b);
  IrLabel special = ir_label(&l->b), bad = ir_label(&l->b), good = ir_label(&l->b);
  ir_add_imm(&l->b, size, next, divisor, 1);
  ir_lsr_imm(&l->b, size, next, next, 1);
  ir_cbz(&l->b, size, next, special); /* 0 or -1 */
  ir_cold_begin(&l->b);
  ir_bind(&l->b, special);
  ir_cbz(&l->b, size, divisor, bad);
  ir_logic_imm(&l->b, IR_EOR, size, difference, lift_gpr(X86_RAX), UINT64_C(1) << (size * 8 - 1));
  ir_cbnz(&l->b, size, difference, good);
  ir_bind(&l->b, bad);
  lift_raise(l, 0);
  ir_cold_end(&l->b);
  ir_bind(&l->b, good);
}

/* RDX holds nothing but RAX's extension, as behind CDQ, CQO or XOR EDX, EDX: the dividend is RAX. */
static void divide_extended(Lift *l, const X86Insn *insn, unsigned size, bool is_signed) {
  IrReg rax = lift_gpr(X86_RAX), divisor = lift_read_raw(l, insn, 0), quotient = ir_temp(&l->b);
  if (is_signed) raise_unless_divisible(l, size, divisor);
  else lift_raise_if_zero(l, size, divisor, 0);
  ir_rrr(&l->b, is_signed ? IR_SDIV : IR_UDIV, size, quotient, rax, divisor);
  ir_rrrr(&l->b, IR_MSUB, size, lift_gpr(X86_RDX), quotient, divisor, rax);
  ir_mov(&l->b, size, rax, quotient);
}

static bool rdx_extends_rax(const Lift *l, unsigned size, bool is_signed) {
  LiftKnown known = lift_known(l, X86_RDX);
  if (!is_signed) return size >= 4 && known == KNOWN_ZERO;
  return (size == 4 && known == KNOWN_RAX_SIGN32) || (size == 8 && known == KNOWN_RAX_SIGN64);
}

void lift_divide(Lift *l, const X86Insn *insn, uint32_t is_signed) {
  unsigned size = insn->operands[0].size;
  if (rdx_extends_rax(l, size, is_signed)) divide_extended(l, insn, size, is_signed);
  else if (size == 8) divide_wide(l, insn, is_signed);
  else divide_narrow(l, insn, size, is_signed);
}
