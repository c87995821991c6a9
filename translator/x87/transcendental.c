/* F2XM1, FYL2X, FYL2XP1, FPATAN, FSIN, FCOS, FSINCOS, FPTAN.
 *
 * Series on 128 bits, rounded once: within half a unit in the last place and about 2^-40 more, where the
 * manual allows one (SDM volume 1, 8.3.10). As in hardware, angles are reduced by a pi of 66 bits (8.3.8),
 * and every result that is not a zero, an infinity or a NaN counts as inexact. */
#include "x87/real.h"

/* --- 128-bit arithmetic --------------------------------------------------------------------------- */

/* floor(remainder * 2^64 / b), and what is left, for remainder < b, b's highest bit set. The estimate from b's upper half is
 * at most 2 too large (Knuth 4.3.1). */
static uint64_t divide_digit(X87Wide *remainder, X87Wide b) {
  uint64_t upper = (uint64_t)(b >> 64), lower = (uint64_t)b, high = (uint64_t)(*remainder >> 64), digit, left;
  bool beyond = false; /* left has 65 bits */
  if (high >= upper) {
    digit = UINT64_MAX;
    beyond = __builtin_add_overflow((uint64_t)*remainder, upper, &left);
  } else {
    digit = x87_divide_wide(high, (uint64_t)*remainder, upper, &left);
  }
  while (!beyond && (X87Wide)digit * lower > (X87Wide)left << 64) {
    digit--;
    beyond = __builtin_add_overflow(left, upper, &left);
  }
  *remainder = ((X87Wide)left << 64) - (X87Wide)digit * lower;
  return digit;
}

Real real_divide(Real a, Real b) {
  X87Wide remainder = a.significand;
  bool below = remainder < b.significand;
  if (!below) remainder -= b.significand;
  X87Wide upper = (X87Wide)divide_digit(&remainder, b.significand) << 64;
  X87Wide quotient = upper | divide_digit(&remainder, b.significand);
  int32_t exponent = a.exponent - b.exponent;
  return below ? (Real){quotient, exponent - 1} : (Real){(X87Wide)1 << 127 | quotient >> 1, exponent};
}

X87Wide fixed_polynomial(const X87Wide *c, unsigned count, X87Wide x, bool alternating) {
  X87Wide sum = c[count - 1];
  for (unsigned i = count - 1; i-- > 0;) {
    X87Wide product = fixed_multiply(sum, x);
    sum = alternating ? c[i] - product : c[i] + product;
  }
  return sum;
}

static const Real ln_2 = {X87_WIDE(0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af), -1};
static const Real log2_e = {X87_WIDE(0xb8aa3b295c17f0bb, 0xbe87fed0691d3e89), 0};
static const Real pi = {X87_WIDE(0xc90fdaa22168c234, 0xc4c6628b80dc1cd1), 1};

/* --- Operands and results ------------------------------------------------------------------------- */

static Real real_of(const X87Number *n) {
  return (Real){(X87Wide)n->significand << 64, n->exponent - X87_BIAS};
}

/* Stores a result that counts as inexact; `exact` says that the real is the result itself. */
static void store_real(GuestX87 *x, GuestX87Register *d, uint32_t sign, Real r, bool exact) {
  bool tiny = r.exponent + X87_BIAS <= 0;
  x87_round_full(x, d, sign, r.exponent + X87_BIAS, (uint64_t)(r.significand >> 64),
                 (uint64_t)r.significand | !exact);
  x87_raise(x, X87_PE | (exact && tiny ? X87_UE : 0));
}

static void store_zero(GuestX87Register *d, uint32_t sign) {
  x87_store(d, 0, sign);
}

static void store_infinity(GuestX87Register *d, uint32_t sign) {
  x87_store(d, X87_INTEGER_BIT, sign | X87_EXPONENT);
}

/* A NaN or unsupported operand of a function of one: true where it settles the result. */
static bool one_operand_special(GuestX87 *x, GuestX87Register *d, const X87Number *n, uint64_t argument) {
  x87_set_c1(x, 0);
  if (n->class == X87_UNSUPPORTED) {
    x87_invalid(x, d, argument);
    return true;
  }
  if (n->class >= X87_QNAN) {
    if (!x87_raise_before(x, n->class == X87_SNAN ? X87_IE : 0, argument))
      x87_store(d, n->significand | X87_QUIET_BIT, n->sign | X87_EXPONENT);
    return true;
  }
  return n->class == X87_DENORMAL && x87_raise_before(x, X87_DE, argument);
}

/* The same for two, the result going to `d`. */
static bool two_operand_special(GuestX87 *x, GuestX87Register *d, const X87Number *a, const X87Number *b,
                                bool invalid, uint64_t argument) {
  unsigned flags = 0;
  x87_set_c1(x, 0);
  if (a->class == X87_UNSUPPORTED || b->class == X87_UNSUPPORTED) {
    x87_invalid(x, d, argument);
  } else if (a->class >= X87_QNAN || b->class >= X87_QNAN) {
    X87Number nan = x87_pick_nan(a, b, &flags);
    if (!x87_raise_before(x, flags, argument)) x87_store(d, nan.significand, nan.sign | X87_EXPONENT);
  } else if (invalid) {
    x87_invalid(x, d, argument);
  } else {
    bool denormal = a->class == X87_DENORMAL || b->class == X87_DENORMAL;
    return denormal && x87_raise_before(x, X87_DE, argument);
  }
  return true;
}

/* --- F2XM1 ---------------------------------------------------------------------------------------- */

/* 1/(n+1)! */
static const X87Wide exp_terms[] = {
    X87_WIDE(0x1000000000000000, 0x0000000000000000), X87_WIDE(0x0800000000000000, 0x0000000000000000),
    X87_WIDE(0x02aaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaab), X87_WIDE(0x00aaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaab),
    X87_WIDE(0x0022222222222222, 0x2222222222222222), X87_WIDE(0x0005b05b05b05b05, 0xb05b05b05b05b05b),
    X87_WIDE(0x0000d00d00d00d00, 0xd00d00d00d00d00d), X87_WIDE(0x00001a01a01a01a0, 0x1a01a01a01a01a02),
    X87_WIDE(0x000002e3bc74aad8, 0xe671f5583911ca00), X87_WIDE(0x00000049f93edde2, 0x7d71cbbc05b4fa9a),
    X87_WIDE(0x00000006b99159fd, 0x5138e3f9d1f92e0e), X87_WIDE(0x000000008f76c77f, 0xc6c4bdaa26d4c3d6),
    X87_WIDE(0x000000000b092309, 0xd43684be51c198e9), X87_WIDE(0x0000000000c9cba5, 0x4603e4e905d6f8a3),
    X87_WIDE(0x00000000000d73f9, 0xf399dc0f88ec32b6), X87_WIDE(0x000000000000d73f, 0x9f399dc0f88ec32b),
    X87_WIDE(0x0000000000000ca9, 0x63b81856a5359303), X87_WIDE(0x00000000000000b4, 0x13c31dcbecbbdd80),
    X87_WIDE(0x0000000000000009, 0x7a4da340a0ab9265), X87_WIDE(0x0000000000000000, 0x7950ae900808941f),
    X87_WIDE(0x0000000000000000, 0x05c6e3bdb73d5c63), X87_WIDE(0x0000000000000000, 0x004338e5b6dfe14a),
    X87_WIDE(0x0000000000000000, 0x0002ec368262c703), X87_WIDE(0x0000000000000000, 0x00001f2cf01972f5),
    X87_WIDE(0x0000000000000000, 0x0000013f3ccdd166),
};

/* 2^a - 1 = t (1 + t/2! + t^2/3! …), t = a ln 2, a at most 1; for negative a the signs alternate. */
static Real exp2_minus_1(Real a, bool negative) {
  Real t = real_multiply(a, ln_2);
  X87Wide sum = fixed_polynomial(exp_terms, sizeof exp_terms / sizeof *exp_terms, real_to_fixed(t), negative);
  return real_multiply(t, real_from_fixed(sum));
}

void x87_f2xm1(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *d = x87_destination(x, argument);
  X87Number n = x87_unpack(d->significand, d->sign_exponent);
  if (one_operand_special(x, d, &n, argument) || n.class == X87_ZERO) return;
  if (n.class == X87_INFINITY) {
    if (n.sign) x87_store(d, X87_INTEGER_BIT, X87_SIGN | X87_BIAS);
  } else if (n.exponent > X87_BIAS || (n.exponent == X87_BIAS && n.significand != X87_INTEGER_BIT)) {
    x87_raise(x, X87_PE); /* out of range: undefined by the manual */
  } else {
    store_real(x, d, n.sign, exp2_minus_1(real_of(&n), n.sign != 0), false);
  }
}

/* --- Logarithms ----------------------------------------------------------------------------------- */

/* 1/(2n+1) */
static const X87Wide odd_reciprocals[] = {
    X87_WIDE(0x1000000000000000, 0x0000000000000000), X87_WIDE(0x0555555555555555, 0x5555555555555555),
    X87_WIDE(0x0333333333333333, 0x3333333333333333), X87_WIDE(0x0249249249249249, 0x2492492492492492),
    X87_WIDE(0x01c71c71c71c71c7, 0x1c71c71c71c71c72), X87_WIDE(0x01745d1745d1745d, 0x1745d1745d1745d1),
    X87_WIDE(0x013b13b13b13b13b, 0x13b13b13b13b13b1), X87_WIDE(0x0111111111111111, 0x1111111111111111),
    X87_WIDE(0x00f0f0f0f0f0f0f0, 0xf0f0f0f0f0f0f0f1), X87_WIDE(0x00d79435e50d7943, 0x5e50d79435e50d79),
    X87_WIDE(0x00c30c30c30c30c3, 0x0c30c30c30c30c31), X87_WIDE(0x00b21642c8590b21, 0x642c8590b21642c8),
    X87_WIDE(0x00a3d70a3d70a3d7, 0x0a3d70a3d70a3d71), X87_WIDE(0x0097b425ed097b42, 0x5ed097b425ed097b),
    X87_WIDE(0x008d3dcb08d3dcb0, 0x8d3dcb08d3dcb08d), X87_WIDE(0x0084210842108421, 0x0842108421084211),
    X87_WIDE(0x007c1f07c1f07c1f, 0x07c1f07c1f07c1f0), X87_WIDE(0x0075075075075075, 0x0750750750750750),
};

/* log2((1 + z) / (1 - z)) = 2 log2(e) (z + z^3/3 + z^5/5 …), z below 0.18. */
static Real log2_of_ratio(Real z) {
  X87Wide square = real_to_fixed(real_multiply(z, z));
  X87Wide sum = fixed_polynomial(odd_reciprocals, sizeof odd_reciprocals / sizeof *odd_reciprocals, square, false);
  Real r = real_multiply(real_multiply(z, real_from_fixed(sum)), log2_e);
  r.exponent++;
  return r;
}

/* |log2 r| and its sign, for r positive and not 1. */
static Real log2_of(Real r, uint32_t *ret_sign) {
  const X87Wide root_2 = X87_WIDE(0xb504f333f9de6484, 0), one = (X87Wide)1 << 100;
  int32_t e = r.exponent;
  X87Wide m = r.significand >> 27; /* 1.0 is bit 100 */
  if (r.significand > root_2) m >>= 1, e++;
  bool below = m < one;
  Real fraction = {0, 0};
  if (m != one) {
    Real difference = real_normalise(below ? one - m : m - one, 127 - 100);
    fraction = log2_of_ratio(real_divide(difference, real_normalise(m + one, 127 - 100)));
  }
  *ret_sign = e < 0 || (e == 0 && below) ? X87_SIGN : 0;
  if (e == 0) return fraction;
  Real integer = real_normalise((X87Wide)(uint32_t)(e < 0 ? -e : e), 127);
  return below == (e < 0) || !fraction.significand ? real_add(integer, fraction)
                                                   : real_subtract(integer, fraction);
}

/* FYL2X at zeros, infinities and one: true where that settles it. */
static bool log_special(GuestX87 *x, GuestX87Register *d, const X87Number *y, const X87Number *a,
                        uint64_t argument) {
  bool one = a->class == X87_NORMAL && a->exponent == X87_BIAS && a->significand == X87_INTEGER_BIT;
  bool below_one = a->exponent < X87_BIAS;
  if (a->class == X87_ZERO) {
    uint32_t sign = y->sign ^ X87_SIGN;
    if (y->class != X87_INFINITY && x87_raise_before(x, X87_ZE, argument)) return true;
    store_infinity(d, sign);
  } else if (a->class == X87_INFINITY) {
    store_infinity(d, y->sign);
  } else if (y->class == X87_INFINITY) {
    store_infinity(d, y->sign ^ (below_one ? X87_SIGN : 0));
  } else if (y->class == X87_ZERO || one) {
    store_zero(d, y->sign ^ (below_one ? X87_SIGN : 0));
  } else {
    return false;
  }
  return true;
}

void x87_fyl2x(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *d = x87_destination(x, argument), *s = x87_source(x, argument);
  X87Number y = x87_unpack(d->significand, d->sign_exponent), a = x87_unpack(s->significand, s->sign_exponent);
  bool one = a.class == X87_NORMAL && a.exponent == X87_BIAS && a.significand == X87_INTEGER_BIT;
  bool invalid = (a.sign && a.class != X87_ZERO) || (a.class == X87_ZERO && y.class == X87_ZERO) ||
                 (one && y.class == X87_INFINITY) || (a.class == X87_INFINITY && y.class == X87_ZERO);
  bool zero_divide = a.class == X87_ZERO && y.class == X87_DENORMAL; /* and not a denormal operand */
  if (zero_divide) y.class = X87_NORMAL;
  if (two_operand_special(x, d, &y, &a, invalid, argument) || log_special(x, d, &y, &a, argument)) return;
  uint32_t sign;
  Real log = log2_of(real_of(&a), &sign);
  bool exact = !(uint64_t)log.significand && a.significand == X87_INTEGER_BIT;
  store_real(x, d, sign ^ y.sign, real_multiply(log, real_of(&y)), exact);
}

/* log2(1 + a), near 1 by z = a / (2 + a), and its sign; a is above -1. */
static Real log2_of_1_plus(const X87Number *a, uint32_t *ret_sign) {
  Real r = real_of(a), one = {(X87Wide)1 << 127, 0}, two = {(X87Wide)1 << 127, 1};
  *ret_sign = a->sign;
  if (a->exponent >= X87_BIAS - 2) return log2_of(a->sign ? real_subtract(one, r) : real_add(one, r), ret_sign);
  return log2_of_ratio(real_divide(r, a->sign ? real_subtract(two, r) : real_add(two, r)));
}

void x87_fyl2xp1(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *d = x87_destination(x, argument), *s = x87_source(x, argument);
  X87Number y = x87_unpack(d->significand, d->sign_exponent), a = x87_unpack(s->significand, s->sign_exponent);
  bool invalid = (a.class == X87_ZERO && y.class == X87_INFINITY) ||
                 (a.class == X87_INFINITY && (a.sign || y.class == X87_ZERO));
  if (two_operand_special(x, d, &y, &a, invalid, argument)) return;
  uint32_t sign = y.sign ^ a.sign;
  if (a.class == X87_INFINITY || y.class == X87_INFINITY) {
    store_infinity(d, sign);
  } else if (a.class == X87_ZERO || y.class == X87_ZERO) {
    store_zero(d, sign);
  } else if (a.sign && a.exponent >= X87_BIAS) { /* undefined by the manual */
    x87_store(d, a.significand, a.sign | (uint32_t)a.exponent);
    x87_raise(x, X87_PE);
  } else {
    Real log = log2_of_1_plus(&a, &sign);
    store_real(x, d, sign ^ y.sign, real_multiply(log, real_of(&y)), false);
  }
}

/* --- FPATAN --------------------------------------------------------------------------------------- */

/* atan(k/16) */
static const X87Wide arctangents[17] = {
    X87_WIDE(0x0000000000000000, 0x0000000000000000), X87_WIDE(0x00ffaaddb967ef4e, 0x36cb2792dc0e2e0d),
    X87_WIDE(0x01fd5ba9aac2f6dc, 0x65912f313e7d111d), X87_WIDE(0x02f72f6979cb6044, 0xd1ec2d3e207271d2),
    X87_WIDE(0x03eb6ebf25901bac, 0x55b71e7bd7de885f), X87_WIDE(0x04d89dcdc1faf2f3, 0x4e2d5da4c693d799),
    X87_WIDE(0x05bd86507937bc23, 0x9c55190916e7f224), X87_WIDE(0x06993bb0f308ff2d, 0xb213e4af4800f389),
    X87_WIDE(0x076b19c1586ed3da, 0x2b7f222f65e1d468), X87_WIDE(0x0832bf4a6d9867e2, 0xa4b6a09cb61a515c),
    X87_WIDE(0x08f005d5ef7f59f9, 0xb5c835e1665c4374), X87_WIDE(0x09a2f80e671bdda2, 0x04226f8e2204ff3b),
    X87_WIDE(0x0a4bc7d1934f7092, 0x419a87f2a457dac9), X87_WIDE(0x0aeac4c38b4d8c08, 0x014725e2f3e52070),
    X87_WIDE(0x0b8053e2bc2319e7, 0x3cb2da55210a4443), X87_WIDE(0x0c0ce85b8ac52664, 0x089dd62c46e92fa2),
    X87_WIDE(0x0c90fdaa22168c23, 0x4c4c6628b80dc1cd),
};

/* r - r^3/3 + r^5/5 … */
static Real small_arctangent(Real r) {
  X87Wide square = real_to_fixed(real_multiply(r, r));
  X87Wide sum = fixed_polynomial(odd_reciprocals, sizeof odd_reciprocals / sizeof *odd_reciprocals, square, true);
  return real_multiply(r, real_from_fixed(sum - 1)); /* below r, however small r is */
}

/* atan(a / b) for 0 < a <= b: with c = k/16 near it, atan(c) + atan((a - c b) / (b + c a)). */
static Real arctangent(Real a, Real b) {
  Real ratio = real_divide(a, b);
  unsigned k = ratio.exponent < -5 ? 0 : (unsigned)((real_to_fixed(ratio) >> (FIXED_BITS - 5)) + 1) >> 1;
  if (k == 0) return small_arctangent(ratio);
  Real c = real_normalise((X87Wide)k << (FIXED_BITS - 4), 127 - FIXED_BITS);
  Real cb = real_multiply(c, b), sum = real_add(b, real_multiply(c, a));
  Real base = real_from_fixed(arctangents[k]);
  bool below = a.exponent < cb.exponent || (a.exponent == cb.exponent && a.significand < cb.significand);
  Real difference = below ? real_subtract(cb, a) : real_subtract(a, cb);
  if (!difference.significand) return base;
  Real rest = small_arctangent(real_divide(difference, sum));
  return below ? real_subtract(base, rest) : real_add(base, rest);
}

/* The angle of infinities and zeros, in eighths of a turn: -1 where it has to be computed. */
static int trivial_angle(const X87Number *y, const X87Number *a) {
  if (y->class == X87_INFINITY && a->class == X87_INFINITY) return a->sign ? 3 : 1;
  if (y->class == X87_INFINITY) return 2;
  if (a->class == X87_INFINITY || y->class == X87_ZERO) return a->sign ? 4 : 0;
  return a->class == X87_ZERO ? 2 : -1;
}

static Real eighths(unsigned n) {
  Real r = pi;
  r.exponent -= n == 4 ? 0 : n == 2 ? 1 : 2;
  return n == 3 ? real_multiply(r, (Real){(X87Wide)3 << 126, 1}) : r;
}

/* |atan(y/a)| in the quadrant that a's sign says. */
static Real angle(const X87Number *y, const X87Number *a) {
  Real ry = real_of(y), ra = real_of(a);
  bool steep = ry.exponent > ra.exponent || (ry.exponent == ra.exponent && ry.significand > ra.significand);
  Real small = steep ? arctangent(ra, ry) : arctangent(ry, ra);
  if (!steep) return a->sign ? real_subtract(pi, small) : small;
  return a->sign ? real_add(eighths(2), small) : real_subtract(eighths(2), small);
}

void x87_fpatan(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *d = x87_destination(x, argument), *s = x87_source(x, argument);
  X87Number y = x87_unpack(d->significand, d->sign_exponent), a = x87_unpack(s->significand, s->sign_exponent);
  if (two_operand_special(x, d, &y, &a, false, argument)) return;
  int trivial = trivial_angle(&y, &a);
  if (trivial == 0) store_zero(d, y.sign);
  else store_real(x, d, y.sign, trivial > 0 ? eighths((unsigned)trivial) : angle(&y, &a), false);
}

/* --- Sine, cosine, tangent ------------------------------------------------------------------------ */

/* 1/(2n+1)! and 1/(2n)! */
static const X87Wide sine_terms[] = {
    X87_WIDE(0x1000000000000000, 0x0000000000000000), X87_WIDE(0x02aaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaab),
    X87_WIDE(0x0022222222222222, 0x2222222222222222), X87_WIDE(0x0000d00d00d00d00, 0xd00d00d00d00d00d),
    X87_WIDE(0x000002e3bc74aad8, 0xe671f5583911ca00), X87_WIDE(0x00000006b99159fd, 0x5138e3f9d1f92e0e),
    X87_WIDE(0x000000000b092309, 0xd43684be51c198e9), X87_WIDE(0x00000000000d73f9, 0xf399dc0f88ec32b6),
    X87_WIDE(0x0000000000000ca9, 0x63b81856a5359303), X87_WIDE(0x0000000000000009, 0x7a4da340a0ab9265),
    X87_WIDE(0x0000000000000000, 0x05c6e3bdb73d5c63), X87_WIDE(0x0000000000000000, 0x0002ec368262c703),
    X87_WIDE(0x0000000000000000, 0x0000013f3ccdd166), X87_WIDE(0x0000000000000000, 0x00000000746ac70b),
};
static const X87Wide cosine_terms[] = {
    X87_WIDE(0x1000000000000000, 0x0000000000000000), X87_WIDE(0x0800000000000000, 0x0000000000000000),
    X87_WIDE(0x00aaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaab), X87_WIDE(0x0005b05b05b05b05, 0xb05b05b05b05b05b),
    X87_WIDE(0x00001a01a01a01a0, 0x1a01a01a01a01a02), X87_WIDE(0x00000049f93edde2, 0x7d71cbbc05b4fa9a),
    X87_WIDE(0x000000008f76c77f, 0xc6c4bdaa26d4c3d6), X87_WIDE(0x0000000000c9cba5, 0x4603e4e905d6f8a3),
    X87_WIDE(0x000000000000d73f, 0x9f399dc0f88ec32b), X87_WIDE(0x00000000000000b4, 0x13c31dcbecbbdd80),
    X87_WIDE(0x0000000000000000, 0x7950ae900808941f), X87_WIDE(0x0000000000000000, 0x004338e5b6dfe14a),
    X87_WIDE(0x0000000000000000, 0x00001f2cf01972f5), X87_WIDE(0x0000000000000000, 0x0000000c4742fe35),
};

typedef struct Angle {
  Real rest;         /* at most pi/4 */
  uint32_t sign;     /* of rest */
  unsigned quadrant; /* the angle is quadrant * pi/2 + rest */
} Angle;

/* Exact for the hardware's pi: pi/2 is M * 2^-65. */
static Angle reduce_angle(const X87Number *n) {
  const X87Wide half_pi = X87_WIDE(0x3, 0x243f6a8885a308d3);
  int32_t e = n->exponent - X87_BIAS;
  if (e < -2) return (Angle){real_of(n), n->sign, 0};
  X87Wide r = n->significand;
  unsigned quadrant = 0;
  for (int32_t shift = e + 2; shift; shift--) {
    r <<= 1;
    quadrant <<= 1;
    if (r >= half_pi) r -= half_pi, quadrant++;
  }
  uint32_t sign = n->sign;
  if (r > half_pi >> 1) {
    r = half_pi - r;
    sign ^= X87_SIGN;
    quadrant++;
  }
  if (n->sign) quadrant = -quadrant;
  return (Angle){real_normalise(r, 127 - 65), sign, quadrant & 3};
}

/* Both are made to stay below r and 1, however small r is. */
static Real sine_of(Real r) {
  X87Wide square = real_to_fixed(real_multiply(r, r));
  return real_multiply(r, real_from_fixed(fixed_polynomial(sine_terms, 14, square, true) - 1));
}

static Real cosine_of(Real r) {
  X87Wide square = real_to_fixed(real_multiply(r, r));
  return real_from_fixed(fixed_polynomial(cosine_terms, 14, square, true) - 1);
}

/* Stores the sine of an angle, or with turn 1 its cosine. */
static void store_sine(GuestX87 *x, GuestX87Register *d, const Angle *a, unsigned turn) {
  unsigned quadrant = (a->quadrant + turn) & 3;
  uint32_t sign = quadrant & 2 ? X87_SIGN : 0;
  if (quadrant & 1) {
    store_real(x, d, sign, cosine_of(a->rest), false);
  } else if (a->rest.significand) {
    store_real(x, d, sign ^ a->sign, sine_of(a->rest), false);
  } else {
    store_zero(d, sign);
    x87_raise(x, X87_PE);
  }
}

static void store_tangent(GuestX87 *x, GuestX87Register *d, const Angle *a) {
  Real sine = sine_of(a->rest), cosine = cosine_of(a->rest);
  if (a->quadrant & 1) store_real(x, d, a->sign ^ X87_SIGN, real_divide(cosine, sine), false);
  else store_real(x, d, a->sign, real_divide(sine, cosine), false);
}

/* What the four have in common before they compute. C2 says that the operand is out of range. */
static bool angle_special(GuestX87 *x, GuestX87Register *d, const X87Number *n, uint64_t argument,
                          bool *ret_out_of_range) {
  x->status &= ~X87_C2;
  *ret_out_of_range = false;
  if (n->class == X87_INFINITY) {
    x87_invalid(x, d, argument);
    return true;
  }
  if (n->class == X87_NORMAL && n->exponent >= X87_BIAS + 63) {
    x87_set_c1(x, 0);
    x->status |= X87_C2;
    *ret_out_of_range = true;
    return true;
  }
  return one_operand_special(x, d, n, argument);
}

static void sine_or_cosine(GuestCpu *cpu, uint64_t argument, unsigned turn) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *d = x87_destination(x, argument);
  X87Number n = x87_unpack(d->significand, d->sign_exponent);
  bool out_of_range;
  if (angle_special(x, d, &n, argument, &out_of_range)) return;
  if (n.class == X87_ZERO) {
    if (turn) x87_store(d, X87_INTEGER_BIT, X87_BIAS);
    return;
  }
  Angle a = reduce_angle(&n);
  store_sine(x, d, &a, turn);
}

void x87_fsin(GuestCpu *cpu, uint64_t argument) {
  sine_or_cosine(cpu, argument, 0);
}

void x87_fcos(GuestCpu *cpu, uint64_t argument) {
  sine_or_cosine(cpu, argument, 1);
}

/* Takes back the push of lifted code, for operands out of range. */
static void unpush(GuestX87 *x) {
  x->valid &= ~(1 << (x->top & 7));
  x->top = (uint8_t)((x->top & GUEST_X87_PENDING) | ((x->top + 1) & 7));
}

/* For FSINCOS and FPTAN: the destination is the new ST(0), the source the old. True where the operand has
 * settled both. */
static bool pair_special(GuestX87 *x, GuestX87Register *new, GuestX87Register *old, const X87Number *n,
                         uint64_t argument) {
  bool out_of_range;
  if (!angle_special(x, old, n, argument, &out_of_range)) return false;
  if (out_of_range) unpush(x);
  else if (!(x->top & GUEST_X87_PENDING)) x87_store(new, old->significand, old->sign_exponent);
  return true;
}

void x87_fsincos(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *cosine = x87_destination(x, argument), *sine = x87_source(x, argument);
  X87Number n = x87_unpack(sine->significand, sine->sign_exponent);
  if (pair_special(x, cosine, sine, &n, argument)) return;
  if (n.class == X87_ZERO) {
    x87_store(cosine, X87_INTEGER_BIT, X87_BIAS);
    return;
  }
  Angle a = reduce_angle(&n);
  store_sine(x, sine, &a, 0);
  store_sine(x, cosine, &a, 1);
}

void x87_fptan(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *one = x87_destination(x, argument), *tangent = x87_source(x, argument);
  X87Number n = x87_unpack(tangent->significand, tangent->sign_exponent);
  if (pair_special(x, one, tangent, &n, argument)) return;
  if (n.class != X87_ZERO) {
    Angle a = reduce_angle(&n);
    store_tangent(x, tangent, &a);
  }
  x87_store(one, X87_INTEGER_BIT, X87_BIAS);
}
