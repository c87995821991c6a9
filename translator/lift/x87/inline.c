/* FADD, FSUB, FMUL, FDIV, FCOMI and stores of doubles on general registers, for operands of ordinary size.
 *
 * What is done here: both operands normal with exponents in the middle half of the range (2^-8191 to 2^8192,
 * so that no result of an addition leaves the range), rounding to nearest and 64 bits, PE masked. All else
 * goes to the helper that knows everything (x87/arithmetic.c), out of line and with nothing changed yet. A
 * value is its significand and, as in the register, its sign and exponent in one; sums and differences of
 * those carry the sign along. */
#include "lift/x87/x87.h"

/* Bits 14 and 13 of an exponent differ in the middle half. */
enum { MIDDLE_BIT = 14, SIGN_BIT = 15, SIGN = 0x8000, BIAS = 16383 };
#define INTEGER_BIT (UINT64_C(1) << 63)

static IrReg binary(Lift *l, IrOp op, unsigned size, IrReg n, IrReg m) {
  IrReg d = ir_temp(&l->b);
  ir_rrr(&l->b, op, size, d, n, m);
  return d;
}

X87Value x87_load_slot(Lift *l, unsigned slot) {
  X87Value v = {ir_temp(&l->b), ir_temp(&l->b), false};
  ir_load_state(&l->b, 8, v.significand, x87_slot_offset(slot));
  ir_load_state(&l->b, 2, v.sign_exponent, x87_exponent_offset(slot));
  return v;
}

/* Bit MIDDLE_BIT tells whether the exponent is in the middle half. */
static IrReg middle(Lift *l, IrReg sign_exponent) {
  IrReg t = ir_temp(&l->b);
  ir_rrr_shift(&l->b, IR_EOR, 4, t, sign_exponent, sign_exponent, 0, 1);
  return t;
}

void x87_require_ordinary(Lift *l, X87Value a, X87Value b, IrLabel slow) {
  if (b.ordinary) {
    IrReg one = middle(l, a.sign_exponent);
    ir_rrr_shift(&l->b, IR_AND, 8, one, one, a.significand, 1, 63 - MIDDLE_BIT);
    ir_tbz(&l->b, one, MIDDLE_BIT, slow);
    return;
  }
  IrReg t = middle(l, a.sign_exponent), u = middle(l, b.sign_exponent);
  ir_rrr(&l->b, IR_AND, 8, t, t, u);
  ir_rrr(&l->b, IR_AND, 8, u, a.significand, b.significand);
  ir_rrr_shift(&l->b, IR_AND, 8, t, t, u, 1, 63 - MIDDLE_BIT);
  ir_tbz(&l->b, t, MIDDLE_BIT, slow);
}

void x87_require_usual(Lift *l, IrLabel slow) {
  IrReg unusual = ir_temp(&l->b);
  ir_load_state(&l->b, 1, unusual, X87_FIELD(unusual));
  ir_cbnz(&l->b, 4, unusual, slow);
}

/* Rounds significand.rest to nearest and even and stores it. A carry out of the significand is slow. */
static void round_and_store(Lift *l, unsigned slot, X87Value v, IrReg rest, IrLabel slow) {
  IrReg odd = ir_temp(&l->b), half = ir_temp(&l->b);
  IrLabel exact = ir_label(&l->b);
  ir_logic_imm(&l->b, IR_AND, 8, odd, v.significand, 1);
  ir_const(&l->b, half, INTEGER_BIT);
  ir_rrr(&l->b, IR_SUB, 8, half, half, odd);
  ir_rrr(&l->b, IR_SUBS, 8, IR_ZERO, rest, half);
  ir_csel(&l->b, IR_CSINC, 8, v.significand, v.significand, v.significand, A64_LS);
  ir_cset(&l->b, 4, odd, A64_HI);
  ir_cbz(&l->b, 8, v.significand, slow);
  ir_store_state(&l->b, 8, v.significand, x87_slot_offset(slot));
  ir_store_state(&l->b, 2, v.sign_exponent, x87_exponent_offset(slot));
  ir_store_state(&l->b, 1, odd, X87_FIELD(c1));
  ir_cbz(&l->b, 8, rest, exact);
  ir_store_state(&l->b, 8, rest, X87_FIELD(inexact));
  ir_bind(&l->b, exact);
}

/* The product's exponent: signs add up to the sign, since the sum of exponents stays within its bits. */
static void multiply(Lift *l, unsigned slot, X87Value a, X87Value b, IrLabel slow) {
  IrReg high = binary(l, IR_UMULH, 8, a.significand, b.significand), low = ir_temp(&l->b);
  IrLabel normal = ir_label(&l->b);
  ir_rrrr(&l->b, IR_MADD, 8, low, a.significand, b.significand, IR_ZERO);
  IrReg se = binary(l, IR_ADD, 4, a.sign_exponent, b.sign_exponent);
  ir_rrr_shift(&l->b, IR_ADD, 8, se, se, high, 1, 63);
  ir_add_imm(&l->b, 4, se, se, -BIAS);
  ir_tbz(&l->b, middle(l, se), MIDDLE_BIT, slow);
  ir_tbnz(&l->b, high, 63, normal);
  ir_extr(&l->b, 8, high, high, low, 63);
  ir_lsl_imm(&l->b, 8, low, low, 1);
  ir_bind(&l->b, normal);
  round_and_store(l, slot, (X87Value){high, se, true}, low, slow);
}

/* rest := what leaves `value` when it is shifted right by distance (0-63). */
static void align(Lift *l, IrReg rest, IrReg value, IrReg distance) {
  IrReg other = ir_temp(&l->b);
  ir_rrr(&l->b, IR_ORN, 4, other, IR_ZERO, distance);
  ir_lsl_imm(&l->b, 8, rest, value, 1);
  ir_rrr(&l->b, IR_LSLV, 8, rest, rest, other);
  ir_rrr(&l->b, IR_LSRV, 8, value, value, distance);
}

/* With 64 places or more between them the smaller operand only counts in rounding: out of line, and only
 * from 66 on, where it cannot but leave the larger (minus all but nothing, when subtracted). */
static void far_apart(Lift *l, IrReg distance, IrReg larger, IrReg rest, bool subtract, IrLabel slow, IrLabel done) {
  IrReg t = ir_temp(&l->b);
  IrLabel far = ir_label(&l->b);
  ir_lsr_imm(&l->b, 4, t, distance, 6);
  ir_cbnz(&l->b, 4, t, far);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, far);
  ir_add_imm(&l->b, 4, t, distance, -66);
  ir_tbnz(&l->b, t, 31, slow);
  if (subtract) {
    ir_add_imm(&l->b, 8, t, larger, -1);
    ir_tbz(&l->b, t, 63, slow);
    ir_mov(&l->b, 8, larger, t);
  }
  ir_const(&l->b, rest, subtract ? UINT64_MAX : 1);
  ir_branch(&l->b, done);
  ir_cold_end(&l->b);
}

/* Operands of unlike sign: the larger keeps its own. Leaves the difference in a and b's significand, which
 * is the rest; `small` is a temporary. */
static void subtract_magnitudes(Lift *l, X87Value a, X87Value b, IrReg small, IrLabel slow, IrLabel done) {
  IrReg rest = b.significand;
  IrReg be = ir_temp(&l->b), distance = ir_temp(&l->b);
  ir_logic_imm(&l->b, IR_EOR, 4, be, b.sign_exponent, SIGN);
  ir_rrr(&l->b, IR_SUB, 4, distance, a.sign_exponent, be);
  ir_rrr(&l->b, IR_SUBS, 8, IR_ZERO, a.significand, b.significand);
  ir_rrr(&l->b, IR_SBCS, 4, IR_ZERO, a.sign_exponent, be);
  ir_csel(&l->b, IR_CSNEG, 4, distance, distance, distance, A64_CS);
  ir_csel(&l->b, IR_CSEL, 4, a.sign_exponent, a.sign_exponent, b.sign_exponent, A64_CS);
  ir_csel(&l->b, IR_CSEL, 8, small, b.significand, a.significand, A64_CS);
  ir_csel(&l->b, IR_CSEL, 8, a.significand, a.significand, b.significand, A64_CS);
  far_apart(l, distance, a.significand, rest, true, slow, done);
  align(l, rest, small, distance);
  ir_rrr(&l->b, IR_SUBS, 8, rest, IR_ZERO, rest);
  ir_rrr(&l->b, IR_SBC, 8, a.significand, a.significand, small);
  ir_tbnz(&l->b, a.significand, 63, done);
  ir_cbz(&l->b, 8, a.significand, slow);
  ir_rr(&l->b, IR_CLZ, 8, distance, a.significand);
  ir_rrr(&l->b, IR_SUB, 4, small, IR_ZERO, distance);
  ir_rrr(&l->b, IR_LSRV, 8, small, rest, small);
  ir_rrr(&l->b, IR_LSLV, 8, a.significand, a.significand, distance);
  ir_rrr(&l->b, IR_ORR, 8, a.significand, a.significand, small);
  ir_rrr(&l->b, IR_LSLV, 8, rest, rest, distance);
  ir_rrr(&l->b, IR_SUB, 4, a.sign_exponent, a.sign_exponent, distance);
}

/* Operands of the same sign, which the exponents' difference then does not show. */
static void add_magnitudes(Lift *l, X87Value a, X87Value b, IrReg small, IrLabel slow, IrLabel done) {
  IrReg rest = b.significand;
  IrReg distance = ir_temp(&l->b);
  ir_rrr(&l->b, IR_SUBS, 4, distance, a.sign_exponent, b.sign_exponent);
  ir_csel(&l->b, IR_CSEL, 4, a.sign_exponent, a.sign_exponent, b.sign_exponent, A64_CS);
  ir_csel(&l->b, IR_CSNEG, 4, distance, distance, distance, A64_CS);
  ir_csel(&l->b, IR_CSEL, 8, small, b.significand, a.significand, A64_CS);
  ir_csel(&l->b, IR_CSEL, 8, a.significand, a.significand, b.significand, A64_CS);
  far_apart(l, distance, a.significand, rest, false, slow, done);
  align(l, rest, small, distance);
  ir_rrr(&l->b, IR_ADDS, 8, a.significand, a.significand, small);
  ir_branch_cond(&l->b, A64_CC, done);
  ir_logic_imm(&l->b, IR_AND, 8, small, rest, 1);
  ir_rrr_shift(&l->b, IR_ORR, 8, rest, small, rest, 1, 1);
  ir_rrr_shift(&l->b, IR_ORR, 8, rest, rest, a.significand, 0, 63);
  ir_lsr_imm(&l->b, 8, a.significand, a.significand, 1);
  ir_logic_imm(&l->b, IR_ORR, 8, a.significand, a.significand, INTEGER_BIT);
  ir_add_imm(&l->b, 4, a.sign_exponent, a.sign_exponent, 1);
}

static void add(Lift *l, unsigned slot, X87Value a, X87Value b, IrLabel slow) {
  IrReg signs = binary(l, IR_EOR, 4, a.sign_exponent, b.sign_exponent), small = ir_temp(&l->b);
  IrLabel unlike = ir_label(&l->b), round = ir_label(&l->b);
  ir_tbnz(&l->b, signs, SIGN_BIT, unlike);
  add_magnitudes(l, a, b, small, slow, round);
  ir_branch(&l->b, round);
  ir_bind(&l->b, unlike);
  subtract_magnitudes(l, a, b, small, slow, round);
  ir_bind(&l->b, round);
  round_and_store(l, slot, a, b.significand, slow);
}

/* One 32-bit digit of high:low / divisor, high < divisor: the digit, and in `high` the remainder. `low` may
 * be IR_ZERO. The estimate from the divisor's upper half is at most 2 too large (Knuth 4.3.1). */
static IrReg divide_digit(Lift *l, IrReg high, IrReg low, IrReg divisor, IrLabel slow) {
  IrReg upper = ir_temp(&l->b), digit = ir_temp(&l->b);
  IrLabel large = ir_label(&l->b), right = ir_label(&l->b);
  ir_lsr_imm(&l->b, 8, upper, divisor, 32);
  ir_rrr(&l->b, IR_UDIV, 8, digit, high, upper);
  ir_rrrr(&l->b, IR_MSUB, 8, high, digit, upper, high);
  ir_lsr_imm(&l->b, 8, upper, digit, 32);
  ir_cbnz(&l->b, 8, upper, slow);
  ir_rrr_shift(&l->b, IR_ORR, 8, high, low, high, 0, 32);
  ir_mov(&l->b, 4, upper, divisor);
  ir_rrrr(&l->b, IR_MADD, 8, upper, digit, upper, IR_ZERO);
  ir_rrr(&l->b, IR_SUBS, 8, high, high, upper);
  ir_branch_cond(&l->b, A64_CC, large);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, large);
  ir_add_imm(&l->b, 8, digit, digit, -1);
  ir_rrr(&l->b, IR_ADDS, 8, high, high, divisor);
  ir_branch_cond(&l->b, A64_CS, right);
  ir_add_imm(&l->b, 8, digit, digit, -1);
  ir_rrr(&l->b, IR_ADD, 8, high, high, divisor);
  ir_branch(&l->b, right);
  ir_cold_end(&l->b);
  ir_bind(&l->b, right);
  return digit;
}

static void divide(Lift *l, unsigned slot, X87Value a, X87Value b, IrLabel slow) {
  IrReg se = binary(l, IR_SUB, 4, a.sign_exponent, b.sign_exponent), not_below = ir_temp(&l->b);
  ir_rrr(&l->b, IR_SUBS, 8, IR_ZERO, a.significand, b.significand);
  ir_cset(&l->b, 4, not_below, A64_CS);
  ir_add_imm(&l->b, 4, se, se, BIAS - 1);
  ir_rrr(&l->b, IR_ADD, 4, se, se, not_below);
  ir_tbz(&l->b, middle(l, se), MIDDLE_BIT, slow);
  IrReg low = binary(l, IR_AND, 8, a.significand, not_below);
  ir_lsl_imm(&l->b, 8, low, low, 31);
  ir_rrr(&l->b, IR_LSRV, 8, a.significand, a.significand, not_below);
  IrReg first = divide_digit(l, a.significand, low, b.significand, slow);
  IrReg quotient = divide_digit(l, a.significand, IR_ZERO, b.significand, slow);
  ir_rrr_shift(&l->b, IR_ORR, 8, quotient, quotient, first, 0, 32);
  /* More than half a unit is left, or something; exactly half cannot be. */
  IrReg rest = binary(l, IR_SUB, 8, b.significand, a.significand), some = ir_temp(&l->b);
  ir_rrr(&l->b, IR_SUBS, 8, IR_ZERO, a.significand, rest);
  ir_cset(&l->b, 8, rest, A64_HI);
  ir_rrr(&l->b, IR_SUBS, 8, IR_ZERO, a.significand, IR_ZERO);
  ir_cset(&l->b, 8, some, A64_NE);
  ir_rrr_shift(&l->b, IR_ORR, 8, rest, some, rest, 0, 63);
  round_and_store(l, slot, (X87Value){quotient, se, true}, rest, slow);
}

bool x87_can_inline(const Lift *l, LiftHelper helper) {
  return helper == LIFT_HELPER_X87_FADD || helper == LIFT_HELPER_X87_FSUB || helper == LIFT_HELPER_X87_FSUBR ||
         helper == LIFT_HELPER_X87_FMUL || helper == LIFT_HELPER_X87_FDIV || helper == LIFT_HELPER_X87_FDIVR;
}

void x87_inline(Lift *l, LiftHelper helper, unsigned slot, X87Value d, X87Value s, IrLabel slow) {
  x87_require_ordinary(l, d, s, slow);
  x87_require_usual(l, slow);
  if (helper == LIFT_HELPER_X87_FMUL) {
    multiply(l, slot, d, s, slow);
  } else if (helper == LIFT_HELPER_X87_FDIV) {
    divide(l, slot, d, s, slow);
  } else if (helper == LIFT_HELPER_X87_FDIVR) {
    divide(l, slot, s, d, slow);
  } else {
    IrReg negated = helper == LIFT_HELPER_X87_FSUB ? s.sign_exponent : d.sign_exponent;
    if (helper != LIFT_HELPER_X87_FADD) ir_logic_imm(&l->b, IR_EOR, 4, negated, negated, SIGN);
    add(l, slot, d, s, slow);
  }
}

X87Value x87_value_of_bits(Lift *l, IrReg bits, unsigned size, IrLabel slow) {
  unsigned f_bits = size == 4 ? 23 : 52, e_bits = size == 4 ? 8 : 11;
  X87Value v = {ir_temp(&l->b), ir_temp(&l->b), true};
  ir_ubfx(&l->b, size, v.sign_exponent, bits, f_bits, e_bits);
  ir_add_imm(&l->b, 4, v.significand, v.sign_exponent, 1);
  ir_logic_imm(&l->b, IR_AND, 4, v.significand, v.significand, (1u << e_bits) - 2); /* 0: zeros or ones */
  ir_cbz(&l->b, 4, v.significand, slow);
  ir_lsr_imm(&l->b, size, v.significand, bits, f_bits + e_bits);
  ir_rrr_shift(&l->b, IR_ORR, 4, v.sign_exponent, v.sign_exponent, v.significand, 0, SIGN_BIT);
  ir_add_imm(&l->b, 4, v.sign_exponent, v.sign_exponent, BIAS - ((1 << (e_bits - 1)) - 1));
  ir_lsl_imm(&l->b, 8, v.significand, bits, 63 - f_bits);
  ir_logic_imm(&l->b, IR_ORR, 8, v.significand, v.significand, INTEGER_BIT);
  return v;
}

/* Makes the value an 80-bit integer with the same order. */
static void make_ordered(Lift *l, X87Value v) {
  IrReg sign = ir_temp(&l->b);
  ir_sbfx(&l->b, 8, sign, v.sign_exponent, SIGN_BIT, 1);
  ir_rrr(&l->b, IR_EOR, 8, v.significand, v.significand, sign);
  ir_logic_imm(&l->b, IR_ORR, 8, sign, sign, SIGN);
  ir_rrr(&l->b, IR_EOR, 4, v.sign_exponent, v.sign_exponent, sign);
  ir_logic_imm(&l->b, IR_AND, 4, v.sign_exponent, v.sign_exponent, 0xffff);
}

void x87_compare_inline(Lift *l, X87Value a, X87Value b, IrLabel slow) {
  IrLabel differ = ir_label(&l->b);
  x87_require_ordinary(l, a, b, slow);
  make_ordered(l, a);
  make_ordered(l, b);
  ir_rrr(&l->b, IR_SUBS, 4, IR_ZERO, a.sign_exponent, b.sign_exponent);
  ir_branch_cond(&l->b, A64_NE, differ);
  ir_rrr(&l->b, IR_SUBS, 8, IR_ZERO, a.significand, b.significand);
  ir_bind(&l->b, differ);
}

X87Narrow x87_narrow_inline(Lift *l, X87Value v, unsigned size, IrLabel slow) {
  unsigned f_bits = size == 4 ? 23 : 52, e_bits = size == 4 ? 8 : 11;
  int bias_change = BIAS - ((1 << (e_bits - 1)) - 1);
  X87Narrow r = {ir_temp(&l->b), ir_temp(&l->b), ir_temp(&l->b)};
  IrReg exponent = r.up, half = ir_temp(&l->b);
  ir_tbz(&l->b, v.significand, 63, slow);
  ir_logic_imm(&l->b, IR_AND, 4, exponent, v.sign_exponent, 0x7fff);
  ir_add_imm(&l->b, 4, exponent, exponent, -bias_change);
  ir_add_imm(&l->b, 4, half, exponent, -1);
  ir_const(&l->b, r.rest, (1u << e_bits) - 3); /* up to what rounding up leaves finite */
  ir_rrr(&l->b, IR_SUBS, 4, IR_ZERO, half, r.rest);
  ir_branch_cond(&l->b, A64_CS, slow);
  x87_require_usual(l, slow);
  ir_ubfx(&l->b, 8, r.bits, v.significand, 63 - f_bits, f_bits);
  ir_bfi(&l->b, 8, r.bits, exponent, f_bits, e_bits);
  ir_lsr_imm(&l->b, 4, v.sign_exponent, v.sign_exponent, SIGN_BIT);
  ir_bfi(&l->b, 8, r.bits, v.sign_exponent, f_bits + e_bits, 1);
  ir_lsl_imm(&l->b, 8, r.rest, v.significand, f_bits + 1);
  ir_logic_imm(&l->b, IR_AND, 8, v.significand, r.bits, 1);
  ir_const(&l->b, half, INTEGER_BIT);
  ir_rrr(&l->b, IR_SUB, 8, half, half, v.significand);
  ir_rrr(&l->b, IR_SUBS, 8, IR_ZERO, r.rest, half);
  ir_csel(&l->b, IR_CSINC, 8, r.bits, r.bits, r.bits, A64_LS);
  ir_cset(&l->b, 4, r.up, A64_HI);
  return r;
}
