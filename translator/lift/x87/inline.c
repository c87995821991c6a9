/* FADD, FSUB, FMUL, FDIV, FCOMI and conversions from and to float, double and integers on general registers, for operands
 * of ordinary size; and what is simple with a zero.
 *
 * What is done here: both operands ordinary, which is normal and a good way from both ends of the range (2^-11263 to 2^11264,
 * so that no result of an addition leaves it), rounding to nearest and 64 bits, PE masked. All else
 * goes to the helper that knows everything (x87/arithmetic.c), out of line and with nothing changed yet. A
 * value is its significand and, as in the register, its sign and exponent in one; sums and differences of
 * those carry the sign along.
 *
 * Code in line tests for the middle half of the range (2^-8191 to 2^8192), which takes the fewest instructions; what is
 * ordinary beyond it comes back from out of line.
 *
 * A value that is known to be ordinary has passed a test, or come out of operations that may have moved its exponent
 * by one each since: multiplication and division test what they make, so that a block's worth of those does no harm. */
#include "lift/x87/x87.h"

/* Bits 14 and 13 of an exponent differ in the middle half. */
enum { MIDDLE_BIT = 14, SIGN_BIT = 15, SIGN = 0x8000, BIAS = 16383, EXPONENT = 0x7fff };
/* Exponents are ordinary from 0x1400 to 0x6bff: LEAST or more from either end. Within 0x1000 to 0x6fff, which leaves a block's
 * additions enough room, no product's or quotient's exponent that wraps around gets into the middle half. */
enum { LEAST = 0x1400, MIDDLE = 0x2000, MIDDLE_LSB = 13 };
#define INTEGER_BIT (UINT64_C(1) << 63)

static IrReg binary(Lift *l, IrOp op, unsigned size, IrReg n, IrReg m) {
  IrReg d = ir_temp(&l->b);
  ir_rrr(&l->b, op, size, d, n, m);
  return d;
}

bool x87_is_held(const Lift *l, unsigned slot) {
  return l->x87.held == slot + 1 && l->x87.held_index + 1 == l->index;
}

void x87_hold(Lift *l, unsigned slot) {
  l->x87.held = (uint8_t)(slot + 1);
  l->x87.held_index = l->index;
}

static void load_pair(Lift *l, unsigned slot, X87Value v) {
  ir_load_state_pair(&l->b, v.significand, v.sign_exponent, x87_slot_offset(slot));
}

X87Value x87_load_slot(Lift *l, unsigned slot) {
  bool is_ordinary = l->x87.ordinary >> slot & 1;
  if (x87_is_held(l, slot)) {
    l->x87.held = 0;
    return (X87Value){l->x87.held_significand, l->x87.held_sign_exponent, is_ordinary};
  }
  X87Value v = {ir_temp(&l->b), ir_temp(&l->b), is_ordinary};
  load_pair(l, slot, v);
  return v;
}

void x87_store_slot(Lift *l, unsigned slot, X87Value v) {
  ir_store_state_pair(&l->b, v.significand, v.sign_exponent, x87_slot_offset(slot));
  l->x87.ordinary = (uint8_t)((l->x87.ordinary & ~(1u << slot)) | (unsigned)v.ordinary << slot);
  l->x87.held = 0;
  if (v.significand.id == IR_ZERO.id) return;
  l->x87.held_significand = v.significand;
  l->x87.held_sign_exponent = v.sign_exponent;
  x87_hold(l, slot);
}

/* Compares 32 bits with a number below 4096. */
static void compare_imm(Lift *l, IrReg n, unsigned value) {
  ir_emit(&l->b, IR_SUBSI, 4, IR_ZERO.id, n.id, IR_NONE, (int64_t)value << 10);
}

/* Bit MIDDLE_BIT tells whether the exponent is in the middle half. */
static IrReg middle(Lift *l, IrReg sign_exponent) {
  IrReg t = ir_temp(&l->b);
  ir_rrr_shift(&l->b, IR_EOR, 4, t, sign_exponent, sign_exponent, 0, 1);
  return t;
}

/* Whether v is ordinary and in the middle half, as bit MIDDLE_BIT. */
static IrReg ordinary(Lift *l, X87Value v) {
  IrReg t = middle(l, v.sign_exponent);
  ir_rrr_shift(&l->b, IR_AND, 8, t, t, v.significand, 1, 63 - MIDDLE_BIT);
  return t;
}

/* The exponent's distance from the nearer end is bits 13-0, and what is added takes LEAST to the middle half. */
static void require_ordinary_exponent(Lift *l, IrReg sign_exponent, IrLabel other) {
  IrReg t = ir_temp(&l->b);
  ir_sbfx(&l->b, 4, t, sign_exponent, MIDDLE_BIT, 1);
  ir_rrr(&l->b, IR_EOR, 4, t, t, sign_exponent);
  ir_add_imm(&l->b, 4, t, t, MIDDLE - LEAST);
  ir_ubfx(&l->b, 4, t, t, MIDDLE_LSB, SIGN_BIT - MIDDLE_LSB);
  ir_cbz(&l->b, 4, t, other);
}

/* Goes to `other` unless v is ordinary; out of line, where the middle half is not all that counts. */
static void require_ordinary(Lift *l, X87Value v, IrLabel other) {
  require_ordinary_exponent(l, v.sign_exponent, other);
  ir_tbz(&l->b, v.significand, 63, other);
}

/* Goes to `other` unless v is a zero. */
static void require_zero(Lift *l, X87Value v, IrLabel other) {
  IrReg t = ir_temp(&l->b);
  ir_rrr_shift(&l->b, IR_ORR, 8, t, v.significand, v.sign_exponent, 0, 64 - SIGN_BIT);
  ir_cbnz(&l->b, 8, t, other);
}

void x87_require_middle(Lift *l, X87Value a, X87Value b, IrLabel slow) {
  if (a.ordinary && b.ordinary) return;
  if (a.ordinary || b.ordinary) {
    ir_tbz(&l->b, ordinary(l, a.ordinary ? b : a), MIDDLE_BIT, slow);
    return;
  }
  IrReg t = middle(l, a.sign_exponent), u = middle(l, b.sign_exponent);
  ir_rrr(&l->b, IR_AND, 8, t, t, u);
  ir_rrr(&l->b, IR_AND, 8, u, a.significand, b.significand);
  ir_rrr_shift(&l->b, IR_AND, 8, t, t, u, 1, 63 - MIDDLE_BIT);
  ir_tbz(&l->b, t, MIDDLE_BIT, slow);
}

void x87_require_usual(Lift *l, IrLabel slow) {
  if (l->x87.usual) return;
  IrReg unusual = ir_temp(&l->b);
  ir_load_state(&l->b, 1, unusual, X87_FIELD(unusual));
  ir_cbnz(&l->b, 4, unusual, slow);
}

void x87_rejoin(Lift *l, unsigned claims, IrLabel label) {
  IrLabel leave = ir_label(&l->b);
  IrReg field = ir_temp(&l->b);
  ir_load_state(&l->b, 1, field, X87_FIELD(top));
  ir_tbnz(&l->b, field, 7, leave);
  if (l->x87.usual) {
    ir_load_state(&l->b, 1, field, X87_FIELD(unusual));
    ir_cbnz(&l->b, 4, field, leave);
  }
  for (unsigned slot = 0; slot < 8; slot++) {
    if (!(claims & l->x87.ordinary & 1u << slot)) continue;
    X87Value v = {ir_temp(&l->b), ir_temp(&l->b), false};
    if (l->x87.held == slot + 1 && l->x87.held_index == l->index)
      v = (X87Value){l->x87.held_significand, l->x87.held_sign_exponent, false};
    load_pair(l, slot, v);
    require_ordinary(l, v, leave);
  }
  x87_unsettle_aside(l);
  ir_branch(&l->b, label);
  ir_bind(&l->b, leave);
  x87_leave(l);
}

/* Where a result is rounded and stored. */
typedef struct Rounding {
  IrLabel exact; /* with nothing to round, out of line */
  bool often;    /* no rest is nothing rare */
} Rounding;

/* Rounds significand.rest to nearest and even and stores it. A carry out of the significand is slow. The rest tells C1, too
 * (guest/state.h): more than a half is rounded up, and a half becomes more where the significand is odd. */
static void round_and_store(Lift *l, unsigned slot, X87Value v, IrReg rest, Rounding to, IrLabel slow) {
  IrLabel even = ir_label(&l->b), rounded = ir_label(&l->b), store = ir_label(&l->b);
  IrReg odd = ir_temp(&l->b);
  if (to.often) ir_cbz(&l->b, 8, rest, to.exact);
  ir_rrr(&l->b, IR_ADDS, 8, IR_ZERO, rest, rest); /* C: at least a half; Z: just that, or nothing */
  ir_branch_cond(&l->b, A64_EQ, even);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, even);
  if (!to.often) ir_cbz(&l->b, 8, rest, to.exact);
  ir_logic_imm(&l->b, IR_AND, 8, odd, v.significand, 1);
  ir_rrr(&l->b, IR_ORR, 8, rest, rest, odd);
  ir_rrr(&l->b, IR_ADD, 8, v.significand, v.significand, odd);
  ir_cbnz(&l->b, 8, v.significand, rounded);
  ir_branch(&l->b, slow);
  ir_bind(&l->b, to.exact);
  x87_clear_c1(l);
  ir_branch(&l->b, store);
  ir_cold_end(&l->b);
  ir_csel(&l->b, IR_CSINC, 8, v.significand, v.significand, v.significand, A64_CC);
  ir_cbz(&l->b, 8, v.significand, slow);
  ir_bind(&l->b, rounded);
  x87_note_rounding(l, rest);
  ir_bind(&l->b, store);
  x87_store_slot(l, slot, v);
}

/* Out of line: stores an exact result that is not what the slot will be known to hold, or whose other operand is not. */
static void store_aside(Lift *l, unsigned slot, X87Value v, X87Ways ways) {
  ir_store_state_pair(&l->b, v.significand, v.sign_exponent, x87_slot_offset(slot));
  ir_store_state(&l->b, 8, IR_ZERO, X87_FIELD(c1));
  ir_branch(&l->b, ways.leave);
}

/* --- Exponents of products and quotients ---------------------------------------------------------------- */

/* The exponent of a product (`op` IR_ADD) or quotient (IR_SUB), with `bias` to be added: signs add up to the sign, as long as
 * the sum of exponents stays within its bits, as it does in the middle half. Out of line, where it is not there, the two are
 * made apart. To `slow` where the result would not be ordinary. */
static IrReg make_exponent(Lift *l, IrOp op, X87Value a, X87Value b, int bias, IrLabel slow) {
  IrReg se = binary(l, op, 4, a.sign_exponent, b.sign_exponent);
  IrLabel wide = ir_label(&l->b), made = ir_label(&l->b);
  ir_add_imm(&l->b, 4, se, se, bias);
  ir_tbz(&l->b, middle(l, se), MIDDLE_BIT, wide);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, wide);
  IrReg t = ir_temp(&l->b);
  ir_logic_imm(&l->b, IR_AND, 4, se, a.sign_exponent, EXPONENT);
  ir_logic_imm(&l->b, IR_AND, 4, t, b.sign_exponent, EXPONENT);
  ir_rrr(&l->b, op, 4, se, se, t);
  ir_add_imm(&l->b, 4, se, se, bias);
  ir_lsr_imm(&l->b, 4, t, se, SIGN_BIT);
  ir_cbnz(&l->b, 4, t, slow);
  require_ordinary_exponent(l, se, slow);
  ir_rrr(&l->b, IR_EOR, 4, t, a.sign_exponent, b.sign_exponent);
  ir_logic_imm(&l->b, IR_AND, 4, t, t, SIGN);
  ir_rrr(&l->b, IR_ORR, 4, se, se, t);
  ir_branch(&l->b, made);
  ir_cold_end(&l->b);
  ir_bind(&l->b, made);
  return se;
}

/* --- Multiplication ------------------------------------------------------------------------------- */

/* 2^14 is taken off the exponent where the bias would be 1 less; the product of significands is that much more, or 2, where
 * its highest bit is set. */
static void multiply(Lift *l, unsigned slot, X87Value a, X87Value b, IrLabel slow) {
  IrReg high = binary(l, IR_UMULH, 8, a.significand, b.significand), low = ir_temp(&l->b);
  IrLabel above = ir_label(&l->b), normal = ir_label(&l->b);
  ir_rrrr(&l->b, IR_MADD, 8, low, a.significand, b.significand, IR_ZERO);
  IrReg se = make_exponent(l, IR_ADD, a, b, -(BIAS + 1), slow);
  ir_tbnz(&l->b, high, 63, above);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, above);
  ir_add_imm(&l->b, 4, se, se, 2);
  ir_branch(&l->b, normal);
  ir_cold_end(&l->b);
  ir_rrr(&l->b, IR_ADDS, 8, low, low, low);
  ir_rrr(&l->b, IR_ADC, 8, high, high, high);
  ir_add_imm(&l->b, 4, se, se, 1);
  ir_bind(&l->b, normal);
  ir_logic_imm(&l->b, IR_AND, 4, se, se, 0xffff);
  round_and_store(l, slot, (X87Value){high, se, true}, low, (Rounding){ir_label(&l->b), false}, slow);
}

/* --- Addition ------------------------------------------------------------------------------------- */

/* An addition under way. Operands are `a` and `b`; where the sum is made, it and its rest are in a and b's significand. */
typedef struct Addition {
  X87Value a, b;
  IrReg distance, small;
  IrLabel slow;
  IrLabel round; /* the sum is normal */
  IrLabel zero;  /* nothing is left */
} Addition;

/* The ways of adding magnitudes, of operands with the same sign, or of subtracting b's from a's. */
typedef struct Magnitudes {
  bool subtract;
  IrLabel swapped; /* b's exponent is the larger one */
  IrLabel made;    /* the sum is to be made normal */
  IrLabel negative, general, outside; /* a difference below 0; one that has lost more than one bit; to a range that is not usual */
  IrLabel far;     /* the exponents are not near each other */
} Magnitudes;

static Magnitudes magnitudes(Lift *l, bool subtract) {
  return (Magnitudes){subtract, ir_label(&l->b), ir_label(&l->b), ir_label(&l->b), ir_label(&l->b), ir_label(&l->b), ir_label(&l->b)};
}

/* Distances that are aligned in place: the rest then has two zeros below it. */
enum { NEAR = 62, FAR = 66 };

/* distance := n - m of the exponents, to `other` unless 0-NEAR: also where the signs are not the same. */
static void require_near(Lift *l, const Addition *s, X87Value n, X87Value m, IrLabel other) {
  ir_rrr(&l->b, IR_SUB, 4, s->distance, n.sign_exponent, m.sign_exponent);
  compare_imm(l, s->distance, NEAR);
  ir_branch_cond(&l->b, A64_HI, other);
}

/* small.rest := value shifted right by the distance; the rest may be made in place of value or distance. */
static void align(Lift *l, const Addition *s, IrReg value, IrReg rest) {
  ir_rrr(&l->b, IR_LSRV, 8, s->small, value, s->distance);
  ir_rrr(&l->b, IR_RORV, 8, rest, value, s->distance);
  ir_rrr(&l->b, IR_EOR, 8, rest, rest, s->small);
}

/* The sum's carry is in C. */
static void carry_into_exponent(Lift *l, const Addition *s) {
  IrReg sum = s->a.significand, rest = s->b.significand, se = s->a.sign_exponent;
  ir_branch_cond(&l->b, A64_CC, s->round);
  ir_extr(&l->b, 8, rest, sum, rest, 1);
  ir_lsr_imm(&l->b, 8, sum, sum, 1);
  ir_logic_imm(&l->b, IR_ORR, 8, sum, sum, INTEGER_BIT);
  ir_add_imm(&l->b, 4, se, se, 1);
}

/* A difference that has lost more than one bit. Where all are lost there is no rest either: of exponents that differ, the
 * smaller one's highest bit stands below the larger one's, and one place is all that a difference of 1 leaves below. */
static void normalise_difference(Lift *l, const Addition *s, const Magnitudes *m) {
  IrReg sum = s->a.significand, rest = s->b.significand, se = s->a.sign_exponent;
  IrReg zeros = s->distance, t = s->small;
  ir_bind(&l->b, m->general);
  ir_cbz(&l->b, 8, sum, s->zero);
  ir_rr(&l->b, IR_CLZ, 8, zeros, sum);
  ir_rrr(&l->b, IR_SUB, 4, t, IR_ZERO, zeros);
  ir_rrr(&l->b, IR_LSRV, 8, t, rest, t);
  ir_rrr(&l->b, IR_LSLV, 8, sum, sum, zeros);
  ir_rrr(&l->b, IR_ORR, 8, sum, sum, t);
  ir_rrr(&l->b, IR_LSLV, 8, rest, rest, zeros);
  ir_rrr(&l->b, IR_SUB, 4, se, se, zeros);
  ir_rrr_shift(&l->b, IR_EOR, 4, t, se, se, 0, 1);
  ir_tbnz(&l->b, t, MIDDLE_BIT, s->round);
  require_ordinary_exponent(l, se, s->slow);
  ir_branch(&l->b, s->round);
}

/* The exponents are 63 places or more apart, the signs the same: the smaller one only counts in rounding. From 66 on,
 * where it cannot but leave the larger (minus all but nothing, when subtracted); before that the helper does it. */
static void far_apart(Lift *l, const Addition *s, bool subtract) {
  IrReg sum = s->a.significand, rest = s->b.significand, se = s->a.sign_exponent, t = s->small;
  IrLabel larger = ir_label(&l->b);
  ir_rrr(&l->b, IR_SUB, 4, s->distance, se, s->b.sign_exponent);
  ir_tbz(&l->b, s->distance, 31, larger);
  ir_rrr(&l->b, IR_SUB, 4, s->distance, IR_ZERO, s->distance);
  ir_mov(&l->b, 8, sum, rest);
  if (subtract) ir_logic_imm(&l->b, IR_EOR, 4, se, s->b.sign_exponent, SIGN);
  else ir_mov(&l->b, 8, se, s->b.sign_exponent);
  ir_bind(&l->b, larger);
  ir_add_imm(&l->b, 4, t, s->distance, -FAR);
  ir_tbnz(&l->b, t, 31, s->slow);
  if (subtract) {
    ir_add_imm(&l->b, 8, sum, sum, -1);
    ir_tbz(&l->b, sum, 63, s->slow);
  }
  ir_const(&l->b, rest, subtract ? UINT64_MAX : 4);
  ir_branch(&l->b, s->round);
}

/* Where b's exponent is not above a's. Falls out of it where the result is normal, or goes to s->round. */
static void add_near(Lift *l, const Addition *s, const Magnitudes *m) {
  X87Value a = s->a, b = s->b;
  require_near(l, s, a, b, m->swapped);
  align(l, s, b.significand, b.significand);
  ir_rrr(&l->b, IR_ADDS, 8, a.significand, a.significand, s->small);
  ir_bind(&l->b, m->made);
  carry_into_exponent(l, s);
}

/* The other way round; leads to the other ways. */
static void add_swapped(Lift *l, const Addition *s, const Magnitudes *m) {
  X87Value a = s->a, b = s->b;
  require_near(l, s, b, a, m->far);
  align(l, s, a.significand, s->distance);
  ir_mov(&l->b, 8, a.sign_exponent, b.sign_exponent);
  ir_rrr(&l->b, IR_ADDS, 8, a.significand, b.significand, s->small);
  ir_mov(&l->b, 8, b.significand, s->distance);
  ir_branch(&l->b, m->made);
}

static void subtract_near(Lift *l, const Addition *s, const Magnitudes *m) {
  X87Value a = s->a, b = s->b;
  IrReg sum = a.significand, rest = b.significand;
  require_near(l, s, a, b, m->swapped);
  align(l, s, rest, rest);
  ir_rrr(&l->b, IR_SUBS, 8, rest, IR_ZERO, rest);
  ir_rrr(&l->b, IR_SBCS, 8, sum, sum, s->small);
  ir_branch_cond(&l->b, A64_CC, m->negative);
  ir_bind(&l->b, m->made);
  ir_tbnz(&l->b, sum, 63, s->round);
  ir_rrr(&l->b, IR_ADDS, 8, rest, rest, rest);
  ir_rrr(&l->b, IR_ADC, 8, sum, sum, sum);
  ir_add_imm(&l->b, 4, a.sign_exponent, a.sign_exponent, -1);
  ir_tbz(&l->b, sum, 63, m->general);
}

static void subtract_swapped(Lift *l, const Addition *s, const Magnitudes *m) {
  X87Value a = s->a, b = s->b;
  IrReg sum = a.significand, rest = b.significand;
  require_near(l, s, b, a, m->far);
  align(l, s, sum, s->distance);
  ir_logic_imm(&l->b, IR_EOR, 4, a.sign_exponent, b.sign_exponent, SIGN);
  ir_rrr(&l->b, IR_SUBS, 8, s->distance, IR_ZERO, s->distance);
  ir_rrr(&l->b, IR_SBC, 8, sum, b.significand, s->small);
  ir_mov(&l->b, 8, rest, s->distance);
  ir_branch(&l->b, m->made);
  ir_bind(&l->b, m->negative); /* of equal exponents: no rest */
  ir_rrr(&l->b, IR_SUB, 8, sum, IR_ZERO, sum);
  ir_logic_imm(&l->b, IR_EOR, 4, a.sign_exponent, a.sign_exponent, SIGN);
  ir_branch(&l->b, m->made);
  normalise_difference(l, s, m);
}

static void near_magnitudes(Lift *l, const Addition *s, const Magnitudes *m) {
  if (m->subtract) subtract_near(l, s, m);
  else add_near(l, s, m);
}

/* Out of line: all but near_magnitudes(), and where the signs are unlike, to that. */
static void other_magnitudes(Lift *l, const Addition *s, const Magnitudes *m, const IrLabel *unlike) {
  ir_bind(&l->b, m->swapped);
  if (unlike) {
    ir_rrr(&l->b, IR_EOR, 4, s->small, s->a.sign_exponent, s->b.sign_exponent);
    ir_tbnz(&l->b, s->small, SIGN_BIT, *unlike);
  }
  if (m->subtract) subtract_swapped(l, s, m);
  else add_swapped(l, s, m);
  ir_bind(&l->b, m->far);
  far_apart(l, s, m->subtract);
}

/* a + b, or a - b. Signs are taken to be the same, for which there is code in line; otherwise b's is turned around and it
 * is the other operation, out of line. */
static void add(Lift *l, unsigned slot, X87Value a, X87Value b, bool subtract, IrLabel exact, X87Ways ways) {
  Addition s = {a, b, ir_temp(&l->b), ir_temp(&l->b), ways.slow, ir_label(&l->b), ir_label(&l->b)};
  Magnitudes like = magnitudes(l, subtract), turned = magnitudes(l, !subtract);
  IrLabel unlike = ir_label(&l->b);
  near_magnitudes(l, &s, &like);
  ir_cold_begin(&l->b);
  other_magnitudes(l, &s, &like, &unlike);
  ir_bind(&l->b, unlike);
  ir_logic_imm(&l->b, IR_EOR, 4, b.sign_exponent, b.sign_exponent, SIGN);
  near_magnitudes(l, &s, &turned);
  ir_branch(&l->b, s.round);
  other_magnitudes(l, &s, &turned, NULL);
  ir_bind(&l->b, s.zero);
  store_aside(l, slot, (X87Value){IR_ZERO, IR_ZERO, false}, ways);
  ir_cold_end(&l->b);
  ir_bind(&l->b, s.round);
  a.ordinary = true;
  round_and_store(l, slot, a, b.significand, (Rounding){exact, true}, ways.slow);
}

/* --- Division ------------------------------------------------------------------------------------- */

/* One 32-bit digit of high:low / divisor, high < divisor, whose upper half is `upper`: the digit, and in `high` the
 * remainder. `low` may be IR_ZERO. The estimate from the divisor's upper half is at most 2 too large (Knuth 4.3.1), and 2^32 at most. */
static IrReg divide_digit(Lift *l, IrReg high, IrReg low, IrReg divisor, IrReg upper, IrLabel slow) {
  IrReg t = ir_temp(&l->b), digit = ir_temp(&l->b);
  IrLabel large = ir_label(&l->b), right = ir_label(&l->b);
  ir_rrr(&l->b, IR_UDIV, 8, digit, high, upper);
  ir_rrrr(&l->b, IR_MSUB, 8, high, digit, upper, high);
  ir_tbnz(&l->b, digit, 32, slow);
  ir_rrr_shift(&l->b, IR_ORR, 8, high, low, high, 0, 32);
  ir_rrr(&l->b, IR_UMULL, 8, t, digit, divisor);
  ir_rrr(&l->b, IR_SUBS, 8, high, high, t);
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

/* Rounds a quotient: up where more than half the divisor is left; exactly half cannot be, and nor can a carry. */
static void round_quotient(Lift *l, unsigned slot, X87Value quotient, IrReg remainder, IrReg divisor) {
  IrLabel exact = ir_label(&l->b), store = ir_label(&l->b);
  IrReg twice = ir_temp(&l->b);
  ir_cbz(&l->b, 8, remainder, exact);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, exact);
  x87_clear_c1(l);
  ir_branch(&l->b, store);
  ir_cold_end(&l->b);
  ir_rrr(&l->b, IR_SUB, 8, twice, divisor, remainder);
  ir_rrr(&l->b, IR_SUBS, 8, IR_ZERO, remainder, twice);
  ir_csel(&l->b, IR_CSINC, 8, quotient.significand, quotient.significand, quotient.significand, A64_LS);
  if (x87_c1_is_seen(l)) ir_csel(&l->b, IR_CSINV, 8, remainder, remainder, IR_ZERO, A64_LS);
  x87_note_rounding(l, remainder);
  ir_bind(&l->b, store);
  x87_store_slot(l, slot, quotient);
}

/* The dividend is made less than the divisor, so that the quotient has 64 bits. */
static void divide(Lift *l, unsigned slot, X87Value a, X87Value b, IrLabel slow) {
  IrLabel not_below = ir_label(&l->b), below = ir_label(&l->b);
  IrReg se = make_exponent(l, IR_SUB, a, b, BIAS + 1, slow), low = ir_temp(&l->b);
  ir_rrr(&l->b, IR_SUBS, 8, IR_ZERO, a.significand, b.significand);
  ir_branch_cond(&l->b, A64_CS, not_below);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, not_below);
  ir_logic_imm(&l->b, IR_AND, 8, low, a.significand, 1);
  ir_lsl_imm(&l->b, 8, low, low, 31);
  ir_lsr_imm(&l->b, 8, a.significand, a.significand, 1);
  ir_add_imm(&l->b, 4, se, se, -1);
  ir_branch(&l->b, below);
  ir_cold_end(&l->b);
  ir_mov(&l->b, 8, low, IR_ZERO);
  ir_add_imm(&l->b, 4, se, se, -2);
  ir_bind(&l->b, below);
  ir_logic_imm(&l->b, IR_AND, 4, se, se, 0xffff);
  IrReg upper = ir_temp(&l->b);
  ir_lsr_imm(&l->b, 8, upper, b.significand, 32);
  IrReg first = divide_digit(l, a.significand, low, b.significand, upper, slow);
  IrReg quotient = divide_digit(l, a.significand, IR_ZERO, b.significand, upper, slow);
  ir_rrr_shift(&l->b, IR_ORR, 8, quotient, quotient, first, 0, 32);
  round_quotient(l, slot, (X87Value){quotient, se, true}, a.significand, b.significand);
}

/* --- What others call ----------------------------------------------------------------------------- */

bool x87_can_inline(LiftHelper helper) {
  return helper == LIFT_HELPER_X87_FADD || helper == LIFT_HELPER_X87_FSUB || helper == LIFT_HELPER_X87_FSUBR ||
         helper == LIFT_HELPER_X87_FMUL || helper == LIFT_HELPER_X87_FDIV || helper == LIFT_HELPER_X87_FDIVR;
}

/* --- Zeros ---------------------------------------------------------------------------------------- */

/* A zero times an ordinary number, or divided by it: a zero. */
static void zero_product(Lift *l, unsigned slot, X87Value zero, X87Value s, X87Ways ways, IrLabel other) {
  IrReg sign = ir_temp(&l->b);
  require_zero(l, zero, other);
  require_ordinary(l, s, ways.slow);
  ir_rrr(&l->b, IR_EOR, 4, sign, zero.sign_exponent, s.sign_exponent);
  ir_logic_imm(&l->b, IR_AND, 4, sign, sign, SIGN);
  store_aside(l, slot, (X87Value){IR_ZERO, sign, false}, ways);
}

/* A sum of a zero and an ordinary number is that number, in a. `d_is_a`: the other one is s, which has to be ordinary where it
 * stays. */
static void zero_sum(Lift *l, unsigned slot, X87Value a, X87Value b, bool subtract, bool d_is_a, IrLabel exact, X87Ways ways,
                     IrLabel other) {
  IrLabel second = ir_label(&l->b);
  require_zero(l, a, second);
  require_ordinary(l, b, ways.slow);
  ir_mov(&l->b, 8, a.significand, b.significand);
  if (subtract) ir_logic_imm(&l->b, IR_EOR, 4, a.sign_exponent, b.sign_exponent, SIGN);
  else ir_mov(&l->b, 8, a.sign_exponent, b.sign_exponent);
  if (ways.source_stays && !d_is_a) store_aside(l, slot, a, ways);
  else ir_branch(&l->b, exact);
  ir_bind(&l->b, second);
  require_zero(l, b, other);
  require_ordinary(l, a, ways.slow);
  if (ways.source_stays && d_is_a) store_aside(l, slot, a, ways);
  else ir_branch(&l->b, exact);
}

/* Out of line, where not both operands are in the middle half: what is simple with one zero; or back to `ordinary` where they
 * are ordinary all the same. */
static void other_operands(Lift *l, LiftHelper helper, unsigned slot, X87Value d, X87Value s, X87Ways ways, IrLabel odd,
                           IrLabel ordinary, IrLabel exact) {
  IrLabel next = ir_label(&l->b), other = ir_label(&l->b);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, odd);
  switch (helper) {
  case LIFT_HELPER_X87_FDIV: zero_product(l, slot, d, s, ways, other); break;
  case LIFT_HELPER_X87_FDIVR: zero_product(l, slot, s, d, ways, other); break;
  case LIFT_HELPER_X87_FMUL:
    zero_product(l, slot, d, s, ways, next);
    ir_bind(&l->b, next);
    zero_product(l, slot, s, d, ways, other);
    break;
  case LIFT_HELPER_X87_FSUBR: zero_sum(l, slot, s, d, true, false, exact, ways, other); break;
  default: zero_sum(l, slot, d, s, helper == LIFT_HELPER_X87_FSUB, true, exact, ways, other);
  }
  ir_bind(&l->b, other);
  require_ordinary(l, d, ways.slow);
  require_ordinary(l, s, ways.slow);
  ir_branch(&l->b, ordinary);
  ir_cold_end(&l->b);
}

/* --- Operations ----------------------------------------------------------------------------------- */

void x87_inline(Lift *l, LiftHelper helper, unsigned slot, X87Value d, X87Value s, X87Ways ways) {
  IrLabel slow = ways.slow, exact = ir_label(&l->b);
  x87_require_usual(l, slow);
  l->x87.usual = true;
  if (!d.ordinary || !s.ordinary) {
    IrLabel odd = ir_label(&l->b), ordinary = ir_label(&l->b);
    x87_require_middle(l, d, s, odd);
    other_operands(l, helper, slot, d, s, ways, odd, ordinary, exact);
    ir_bind(&l->b, ordinary);
  }
  switch (helper) {
  case LIFT_HELPER_X87_FMUL: multiply(l, slot, d, s, slow); break;
  case LIFT_HELPER_X87_FDIV: divide(l, slot, d, s, slow); break;
  case LIFT_HELPER_X87_FDIVR: divide(l, slot, s, d, slow); break;
  case LIFT_HELPER_X87_FSUB: add(l, slot, d, s, true, exact, ways); break;
  case LIFT_HELPER_X87_FSUBR: add(l, slot, s, d, true, exact, ways); break;
  default: add(l, slot, d, s, false, exact, ways); break;
  }
}

/* Twice as much is exact. */
void x87_double_inline(Lift *l, unsigned slot, X87Ways ways) {
  X87Value v = x87_load_slot(l, slot);
  IrLabel odd = ir_label(&l->b), on = ir_label(&l->b);
  x87_require_usual(l, ways.slow);
  l->x87.usual = true;
  if (!v.ordinary) {
    ir_tbz(&l->b, ordinary(l, v), MIDDLE_BIT, odd);
    ir_cold_begin(&l->b);
    ir_bind(&l->b, odd);
    require_ordinary(l, v, ways.slow);
    ir_branch(&l->b, on);
    ir_cold_end(&l->b);
    ir_bind(&l->b, on);
  }
  ir_add_imm(&l->b, 4, v.sign_exponent, v.sign_exponent, 1);
  v.ordinary = true;
  x87_clear_c1(l);
  x87_store_slot(l, slot, v);
}

/* A float or double as two formats have it: the exponent in the middle half of its range, e_bits - 1 wide below the
 * highest bit, is the low bits of the x87 exponent; the bits above those are the inverse of that highest one. */
typedef struct Layout {
  unsigned f_bits, low_bits;
} Layout;
static Layout layout_of(unsigned size) { return size == 4 ? (Layout){23, 7} : (Layout){52, 10}; }

X87Value x87_value_of_bits(Lift *l, IrReg bits, unsigned size, IrLabel slow) {
  Layout f = layout_of(size);
  X87Value v = {ir_temp(&l->b), ir_temp(&l->b), true};
  IrReg t = ir_temp(&l->b);
  ir_rrr_shift(&l->b, IR_EOR, size, t, bits, bits, 0, 1);
  ir_tbz(&l->b, t, f.f_bits + f.low_bits, slow);
  ir_lsr_imm(&l->b, size, v.sign_exponent, bits, size * 8 - 16);
  ir_sbfx(&l->b, size, t, bits, f.f_bits, f.low_bits);
  ir_bfi(&l->b, 4, v.sign_exponent, t, 0, MIDDLE_BIT);
  ir_lsl_imm(&l->b, 8, v.significand, bits, 63 - f.f_bits);
  ir_logic_imm(&l->b, IR_ORR, 8, v.significand, v.significand, INTEGER_BIT);
  return v;
}

/* The order of a and b by sign, exponent and significand as unsigned numbers. */
static void compare_bits(Lift *l, X87Value a, X87Value b, IrLabel done) {
  ir_rrr(&l->b, IR_SUBS, 4, IR_ZERO, a.sign_exponent, b.sign_exponent);
  ir_branch_cond(&l->b, A64_NE, done);
  ir_rrr(&l->b, IR_SUBS, 8, IR_ZERO, a.significand, b.significand);
}

/* Goes to `slow` unless v is ordinary or a zero, which becomes the positive one. */
static void require_comparable(Lift *l, X87Value v, IrLabel slow) {
  IrLabel on = ir_label(&l->b), zero = ir_label(&l->b);
  require_ordinary(l, v, zero);
  ir_branch(&l->b, on);
  ir_bind(&l->b, zero);
  require_zero(l, v, slow);
  ir_mov(&l->b, 8, v.sign_exponent, IR_ZERO);
  ir_bind(&l->b, on);
}

void x87_compare_inline(Lift *l, X87Value a, X87Value b, IrLabel slow) {
  IrLabel odd = ir_label(&l->b), comparable = ir_label(&l->b);
  IrLabel negative = ir_label(&l->b), done = ir_label(&l->b);
  x87_require_middle(l, a, b, odd);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, odd);
  require_comparable(l, a, slow);
  require_comparable(l, b, slow);
  ir_branch(&l->b, comparable);
  ir_cold_end(&l->b);
  ir_bind(&l->b, comparable);
  ir_tbnz(&l->b, binary(l, IR_ORR, 4, a.sign_exponent, b.sign_exponent), SIGN_BIT, negative);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, negative); /* one or both: the order is the other way round */
  compare_bits(l, b, a, done);
  ir_branch(&l->b, done);
  ir_cold_end(&l->b);
  compare_bits(l, a, b, done);
  ir_bind(&l->b, done);
}

/* The other way of a store: a zero, as float or double of `size` bytes. */
static void narrow_zero(Lift *l, X87Value v, X87Narrow r, unsigned size, IrLabel odd, IrLabel made, IrLabel slow) {
  ir_cold_begin(&l->b);
  ir_bind(&l->b, odd);
  require_zero(l, v, slow);
  ir_lsl_imm(&l->b, 8, r.bits, v.sign_exponent, size * 8 - 16);
  ir_mov(&l->b, 8, r.rest, IR_ZERO);
  ir_mov(&l->b, 8, r.c1, IR_ZERO);
  ir_branch(&l->b, made);
  ir_cold_end(&l->b);
}

X87Narrow x87_narrow_inline(Lift *l, X87Value v, unsigned size, IrLabel slow) {
  Layout f = layout_of(size);
  X87Narrow r = {ir_temp(&l->b), ir_temp(&l->b), ir_temp(&l->b)};
  IrReg t = r.c1;
  IrLabel odd = ir_label(&l->b), made = ir_label(&l->b);
  if (!v.ordinary) ir_tbz(&l->b, v.significand, 63, odd);
  ir_rrr_shift(&l->b, IR_EOR, 4, t, v.sign_exponent, v.sign_exponent, 0, 1);
  ir_ubfx(&l->b, 4, t, t, f.low_bits, 15 - f.low_bits);
  compare_imm(l, t, 1u << (MIDDLE_BIT - f.low_bits));
  ir_branch_cond(&l->b, A64_NE, slow);
  x87_require_usual(l, slow);
  if (!v.ordinary) narrow_zero(l, v, r, size, odd, made, slow);
  ir_ubfx(&l->b, 8, r.bits, v.significand, 63 - f.f_bits, f.f_bits);
  ir_bfi(&l->b, 8, r.bits, v.sign_exponent, f.f_bits, f.low_bits);
  ir_lsr_imm(&l->b, 4, v.sign_exponent, v.sign_exponent, MIDDLE_BIT);
  ir_bfi(&l->b, 8, r.bits, v.sign_exponent, f.f_bits + f.low_bits, 2);
  ir_lsl_imm(&l->b, 8, r.rest, v.significand, f.f_bits + 1);
  ir_logic_imm(&l->b, IR_AND, 8, t, r.bits, 1);
  ir_rrr(&l->b, IR_ORR, 8, t, t, r.rest);
  ir_rrr(&l->b, IR_ADDS, 8, IR_ZERO, t, t);
  ir_csel(&l->b, IR_CSINC, 8, r.bits, r.bits, r.bits, A64_LS);
  ir_bind(&l->b, made);
  return r;
}

/* Rounds bits.rest as RC in `rounding` says: to nearest, or, out of line, to zero; to `slow` otherwise. */
static void round_integer(Lift *l, X87Narrow r, IrReg rounding, IrLabel slow) {
  enum { RC_ZERO = 3 };
  IrLabel cut = ir_label(&l->b), made = ir_label(&l->b);
  ir_cbnz(&l->b, 4, rounding, cut);
  ir_cold_begin(&l->b);
  ir_bind(&l->b, cut);
  ir_logic_imm(&l->b, IR_EOR, 4, rounding, rounding, RC_ZERO);
  ir_cbnz(&l->b, 4, rounding, slow);
  ir_mov(&l->b, 8, r.c1, IR_ZERO);
  ir_branch(&l->b, made);
  ir_cold_end(&l->b);
  ir_logic_imm(&l->b, IR_AND, 8, r.c1, r.bits, 1);
  ir_rrr(&l->b, IR_ORR, 8, r.c1, r.c1, r.rest);
  ir_rrr(&l->b, IR_ADDS, 8, IR_ZERO, r.c1, r.c1);
  ir_csel(&l->b, IR_CSINC, 8, r.bits, r.bits, r.bits, A64_LS);
  ir_bind(&l->b, made);
}

X87Narrow x87_integer_inline(Lift *l, X87Value v, unsigned size, bool truncate, IrLabel slow) {
  enum { PE_MASK_BIT = 5, RC_LSB = 10, RC_BITS = 2 };
  unsigned least = 66 - size * 8; /* places: what is left is rounded to less than half of the integers' range */
  X87Narrow r = {ir_temp(&l->b), ir_temp(&l->b), ir_temp(&l->b)};
  IrReg places = ir_temp(&l->b), rounding = ir_temp(&l->b);
  IrLabel positive = ir_label(&l->b);
  if (!v.ordinary) ir_tbz(&l->b, ordinary(l, v), MIDDLE_BIT, slow);
  ir_logic_imm(&l->b, IR_AND, 4, places, v.sign_exponent, EXPONENT);
  ir_const(&l->b, rounding, BIAS + 63);
  ir_rrr(&l->b, IR_SUB, 4, places, rounding, places);
  ir_add_imm(&l->b, 4, rounding, places, -(int64_t)least);
  compare_imm(l, rounding, 63 - least);
  ir_branch_cond(&l->b, A64_HI, slow);
  ir_load_state(&l->b, 2, rounding, X87_FIELD(control));
  ir_tbz(&l->b, rounding, PE_MASK_BIT, slow);
  ir_ubfx(&l->b, 4, rounding, rounding, RC_LSB, RC_BITS);
  ir_rrr(&l->b, IR_LSRV, 8, r.bits, v.significand, places);
  ir_rrr(&l->b, IR_RORV, 8, r.rest, v.significand, places);
  ir_rrr(&l->b, IR_EOR, 8, r.rest, r.rest, r.bits);
  if (truncate) ir_mov(&l->b, 8, r.c1, IR_ZERO);
  else round_integer(l, r, rounding, slow);
  ir_tbz(&l->b, v.sign_exponent, SIGN_BIT, positive);
  ir_rrr(&l->b, IR_SUB, 8, r.bits, IR_ZERO, r.bits);
  ir_bind(&l->b, positive);
  return r;
}
