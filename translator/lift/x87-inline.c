/* FADD, FSUB, FMUL on general registers, for operands and results of ordinary size.
 *
 * What is done here: both operands normal with exponents in the middle half of the range (2^-8191 to 2^8192,
 * so that no result of an addition leaves the range), rounding to nearest and 64 bits, PE masked. All else
 * goes to the helper that knows everything (x87/arithmetic.c), out of line and with nothing changed yet. A
 * value is its significand and, as in the register, its sign and exponent in one; sums and differences of
 * those carry the sign along. */
#include "lift/x87-lift.h"

/* Bits 14 and 13 of an exponent differ in the middle half. */
enum { MIDDLE_BIT = 14, SIGN_BIT = 15, SIGN = 0x8000, BIAS = 16383 };
#define INTEGER_BIT (UINT64_C(1) << 63)

static IrReg binary(Lift *l, IrOp op, unsigned size, IrReg n, IrReg m) {
  IrReg d = ir_temp(&l->b);
  ir_rrr(&l->b, op, size, d, n, m);
  return d;
}

X87Value x87_load_slot(Lift *l, unsigned slot) {
  X87Value v = {ir_temp(&l->b), ir_temp(&l->b)};
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
  round_and_store(l, slot, (X87Value){high, se}, low, slow);
}

/* rest := what leaves `value` when it is shifted right by distance (0-63). */
static void align(Lift *l, IrReg rest, IrReg value, IrReg distance) {
  IrReg other = ir_temp(&l->b);
  ir_rrr(&l->b, IR_ORN, 4, other, IR_ZERO, distance);
  ir_lsl_imm(&l->b, 8, rest, value, 1);
  ir_rrr(&l->b, IR_LSLV, 8, rest, rest, other);
  ir_rrr(&l->b, IR_LSRV, 8, value, value, distance);
}

static void require_near(Lift *l, IrReg distance, IrLabel slow) {
  IrReg far = ir_temp(&l->b);
  ir_lsr_imm(&l->b, 4, far, distance, 6);
  ir_cbnz(&l->b, 4, far, slow);
}

/* Operands of unlike sign: the larger keeps its own. Leaves the difference in a and `rest`. */
static void subtract_magnitudes(Lift *l, X87Value a, X87Value b, IrReg rest, IrLabel slow, IrLabel done) {
  IrReg be = ir_temp(&l->b), distance = ir_temp(&l->b);
  ir_logic_imm(&l->b, IR_EOR, 4, be, b.sign_exponent, SIGN);
  ir_rrr(&l->b, IR_SUB, 4, distance, a.sign_exponent, be);
  ir_rrr(&l->b, IR_SUBS, 8, IR_ZERO, a.significand, b.significand);
  ir_rrr(&l->b, IR_SBCS, 4, IR_ZERO, a.sign_exponent, be);
  ir_csel(&l->b, IR_CSNEG, 4, distance, distance, distance, A64_CS);
  ir_csel(&l->b, IR_CSEL, 4, a.sign_exponent, a.sign_exponent, b.sign_exponent, A64_CS);
  ir_csel(&l->b, IR_CSEL, 8, rest, b.significand, a.significand, A64_CS);
  ir_csel(&l->b, IR_CSEL, 8, a.significand, a.significand, b.significand, A64_CS);
  ir_mov(&l->b, 8, b.significand, rest);
  require_near(l, distance, slow);
  align(l, rest, b.significand, distance);
  ir_rrr(&l->b, IR_SUBS, 8, rest, IR_ZERO, rest);
  ir_rrr(&l->b, IR_SBC, 8, a.significand, a.significand, b.significand);
  ir_tbnz(&l->b, a.significand, 63, done);
  ir_cbz(&l->b, 8, a.significand, slow);
  ir_rr(&l->b, IR_CLZ, 8, distance, a.significand);
  ir_rrr(&l->b, IR_SUB, 4, b.significand, IR_ZERO, distance);
  ir_rrr(&l->b, IR_LSRV, 8, b.significand, rest, b.significand);
  ir_rrr(&l->b, IR_LSLV, 8, a.significand, a.significand, distance);
  ir_rrr(&l->b, IR_ORR, 8, a.significand, a.significand, b.significand);
  ir_rrr(&l->b, IR_LSLV, 8, rest, rest, distance);
  ir_rrr(&l->b, IR_SUB, 4, a.sign_exponent, a.sign_exponent, distance);
  ir_branch(&l->b, done);
}

/* Operands of the same sign, which the exponents' difference then does not show. */
static void add_magnitudes(Lift *l, X87Value a, X87Value b, IrReg rest, IrLabel slow, IrLabel done) {
  IrReg distance = ir_temp(&l->b);
  ir_rrr(&l->b, IR_SUBS, 4, distance, a.sign_exponent, b.sign_exponent);
  ir_csel(&l->b, IR_CSEL, 4, a.sign_exponent, a.sign_exponent, b.sign_exponent, A64_CS);
  ir_csel(&l->b, IR_CSNEG, 4, distance, distance, distance, A64_CS);
  ir_csel(&l->b, IR_CSEL, 8, rest, b.significand, a.significand, A64_CS);
  ir_csel(&l->b, IR_CSEL, 8, a.significand, a.significand, b.significand, A64_CS);
  ir_mov(&l->b, 8, b.significand, rest);
  require_near(l, distance, slow);
  align(l, rest, b.significand, distance);
  ir_rrr(&l->b, IR_ADDS, 8, a.significand, a.significand, b.significand);
  ir_branch_cond(&l->b, A64_CC, done);
  ir_logic_imm(&l->b, IR_AND, 8, b.significand, rest, 1);
  ir_rrr_shift(&l->b, IR_ORR, 8, rest, b.significand, rest, 1, 1);
  ir_rrr_shift(&l->b, IR_ORR, 8, rest, rest, a.significand, 0, 63);
  ir_lsr_imm(&l->b, 8, a.significand, a.significand, 1);
  ir_logic_imm(&l->b, IR_ORR, 8, a.significand, a.significand, INTEGER_BIT);
  ir_add_imm(&l->b, 4, a.sign_exponent, a.sign_exponent, 1);
}

static void add(Lift *l, unsigned slot, X87Value a, X87Value b, IrLabel slow) {
  IrReg signs = binary(l, IR_EOR, 4, a.sign_exponent, b.sign_exponent), rest = ir_temp(&l->b);
  IrLabel unlike = ir_label(&l->b), round = ir_label(&l->b);
  ir_tbnz(&l->b, signs, SIGN_BIT, unlike);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, unlike);
  subtract_magnitudes(l, a, b, rest, slow, round);
  ir_cold_end(&l->b);
  add_magnitudes(l, a, b, rest, slow, round);
  ir_bind(&l->b, round);
  round_and_store(l, slot, a, rest, slow);
}

bool x87_can_inline(const Lift *l, LiftHelper helper) {
  return helper == LIFT_HELPER_X87_FADD || helper == LIFT_HELPER_X87_FSUB || helper == LIFT_HELPER_X87_FSUBR ||
         helper == LIFT_HELPER_X87_FMUL;
}

void x87_inline(Lift *l, LiftHelper helper, unsigned slot, X87Value d, X87Value s, IrLabel slow) {
  x87_require_ordinary(l, d, s, slow);
  x87_require_usual(l, slow);
  if (helper == LIFT_HELPER_X87_FMUL) {
    multiply(l, slot, d, s, slow);
    return;
  }
  IrReg negated = helper == LIFT_HELPER_X87_FSUB ? s.sign_exponent : d.sign_exponent;
  if (helper != LIFT_HELPER_X87_FADD) ir_logic_imm(&l->b, IR_EOR, 4, negated, negated, SIGN);
  add(l, slot, d, s, slow);
}
