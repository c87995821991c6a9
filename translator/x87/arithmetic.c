/* FADD, FSUB, FMUL, FDIV in all operand forms, and FSQRT.
 *
 * The entry points hold their common path whole and leave it by tail calls only, so that it needs no stack
 * frame: these are the functions that x87 programs spend their time in. */
#include "x87/float.h"

#define INLINE static inline __attribute__((always_inline))
#define OUT_OF_LINE static __attribute__((noinline))

typedef enum Operation { ADD, SUB, MUL, DIV } Operation;

/* --- Magnitudes: both operands finite and not zero, normalised --- */

/* {a, 0} + {b, 0} >> (difference of exponents), same sign. */
INLINE void add_magnitudes(GuestX87 *x, GuestX87Register *d, uint32_t sign, int32_t ea, uint64_t a,
                                  int32_t eb, uint64_t b) {
  if (ea < eb) {
    int32_t e = ea;
    uint64_t s = a;
    ea = eb, a = b;
    eb = e, b = s;
  }
  uint64_t rest = 0;
  x87_shift_right(&b, &rest, (uint32_t)(ea - eb));
  uint64_t sum = a + b;
  if (sum < a) {
    rest = sum << 63 | rest >> 1 | (rest & 1);
    sum = sum >> 1 | X87_INTEGER_BIT;
    ea++;
  }
  x87_round(x, d, sign, ea, sum, rest);
}

static void exact_zero(GuestX87 *x, GuestX87Register *d) {
  x87_set_c1(x, 0);
  x87_store(d, 0, x87_rounding(x) == X87_RC_DOWN ? X87_SIGN : 0);
}

/* The difference of magnitudes; `sign` is that of a. */
INLINE void subtract_magnitudes(GuestX87 *x, GuestX87Register *d, uint32_t sign, int32_t ea, uint64_t a,
                                       int32_t eb, uint64_t b) {
  if (ea < eb || (ea == eb && a < b)) {
    int32_t e = ea;
    uint64_t s = a;
    ea = eb, a = b;
    eb = e, b = s;
    sign ^= X87_SIGN;
  }
  uint64_t rest = 0;
  x87_shift_right(&b, &rest, (uint32_t)(ea - eb));
  uint64_t difference = a - b - (rest != 0);
  rest = -rest;
  if (X87_LIKELY((int64_t)difference < 0)) {
    x87_round(x, d, sign, ea, difference, rest);
    return;
  }
  if (!difference) {
    if (!rest) {
      exact_zero(x, d);
      return;
    }
    difference = rest;
    rest = 0;
    ea -= 64;
  }
  unsigned zeros = (unsigned)__builtin_clzll(difference);
  if (zeros) {
    difference = difference << zeros | rest >> (64 - zeros);
    rest <<= zeros;
  }
  x87_round(x, d, sign, ea - (int32_t)zeros, difference, rest);
}

INLINE void add_signed(GuestX87 *x, GuestX87Register *d, uint32_t sa, int32_t ea, uint64_t a,
                              uint32_t sb, int32_t eb, uint64_t b) {
  if (sa == sb)
    add_magnitudes(x, d, sa, ea, a, eb, b);
  else
    subtract_magnitudes(x, d, sa, ea, a, eb, b);
}

INLINE void multiply(GuestX87 *x, GuestX87Register *d, uint32_t sign, int32_t ea, uint64_t a,
                            int32_t eb, uint64_t b) {
  X87Wide product = (X87Wide)a * b;
  int32_t exponent = ea + eb - (X87_BIAS - 1);
  if ((int64_t)(product >> 64) >= 0) {
    product <<= 1;
    exponent--;
  }
  x87_round(x, d, sign, exponent, (uint64_t)(product >> 64), (uint64_t)product);
}

INLINE void divide(GuestX87 *x, GuestX87Register *d, uint32_t sign, int32_t ea, uint64_t a, int32_t eb,
                          uint64_t b) {
  int32_t exponent = ea - eb + X87_BIAS;
  uint64_t high = a, low = 0, remainder;
  if (a >= b) {
    high = a >> 1;
    low = a << 63;
  } else {
    exponent--;
  }
  uint64_t quotient = x87_divide_wide(high, low, b, &remainder);
  uint64_t rest = 0;
  if (remainder) rest = (uint64_t)(remainder > b - remainder) << 63 | 1;
  x87_round(x, d, sign, exponent, quotient, rest);
}

/* --- Zeros, infinities, NaNs, denormals --- */

static bool invalid_operation(Operation op, const X87Number *a, const X87Number *b) {
  switch (op) {
  case ADD: return a->class == X87_INFINITY && b->class == X87_INFINITY && a->sign != b->sign;
  case SUB: return a->class == X87_INFINITY && b->class == X87_INFINITY && a->sign == b->sign;
  case MUL:
    return (a->class == X87_INFINITY && b->class == X87_ZERO) ||
           (a->class == X87_ZERO && b->class == X87_INFINITY);
  default: return a->class == b->class && (a->class == X87_INFINITY || a->class == X87_ZERO);
  }
}

/* Exact results of zeros and infinities: true when there was one. */
static bool trivial_result(GuestX87 *x, GuestX87Register *d, Operation op, const X87Number *a,
                           const X87Number *b) {
  uint32_t product_sign = a->sign ^ b->sign;
  uint32_t b_sign = op == SUB ? b->sign ^ X87_SIGN : b->sign;
  bool a_infinite = a->class == X87_INFINITY, b_infinite = b->class == X87_INFINITY;
  bool a_zero = a->class == X87_ZERO, b_zero = b->class == X87_ZERO;
  x87_set_c1(x, 0);
  if (op == MUL && (a_infinite || b_infinite)) {
    x87_store(d, X87_INTEGER_BIT, product_sign | X87_EXPONENT);
  } else if (op == DIV && (a_infinite || b_zero)) {
    x87_store(d, X87_INTEGER_BIT, product_sign | X87_EXPONENT);
  } else if ((op == MUL && (a_zero || b_zero)) || (op == DIV && (a_zero || b_infinite))) {
    x87_store(d, 0, product_sign);
  } else if (op <= SUB && (a_infinite || b_infinite)) {
    x87_store(d, X87_INTEGER_BIT, (a_infinite ? a->sign : b_sign) | X87_EXPONENT);
  } else if (op <= SUB && a_zero && b_zero) {
    if (a->sign == b_sign)
      x87_store(d, 0, a->sign);
    else
      exact_zero(x, d);
  } else if (op <= SUB && a_zero) {
    x87_round(x, d, b_sign, b->exponent, b->significand, 0);
  } else if (op <= SUB && b_zero) {
    x87_round(x, d, a->sign, a->exponent, a->significand, 0);
  } else {
    return false;
  }
  return true;
}

OUT_OF_LINE void arithmetic_slow(GuestX87 *x, GuestX87Register *d, Operation op,
                                                      X87Number a, X87Number b, uint64_t argument) {
  x87_set_c1(x, 0);
  if (a.class == X87_UNSUPPORTED || b.class == X87_UNSUPPORTED) {
    x87_invalid(x, d, argument);
    return;
  }
  if (a.class >= X87_QNAN || b.class >= X87_QNAN) {
    unsigned flags = 0;
    X87Number nan = x87_pick_nan(&a, &b, &flags);
    if (!x87_raise_before(x, flags, argument)) x87_store(d, nan.significand, nan.sign | X87_EXPONENT);
    return;
  }
  if (invalid_operation(op, &a, &b)) {
    x87_invalid(x, d, argument);
    return;
  }
  unsigned flags = a.class == X87_DENORMAL || b.class == X87_DENORMAL ? X87_DE : 0;
  if (op == DIV && b.class == X87_ZERO && a.class != X87_INFINITY) flags = X87_ZE;
  if (flags && x87_raise_before(x, flags, argument)) return;
  if (trivial_result(x, d, op, &a, &b)) return;
  switch (op) {
  case SUB: b.sign ^= X87_SIGN; /* fall through */
  case ADD: add_signed(x, d, a.sign, a.exponent, a.significand, b.sign, b.exponent, b.significand); break;
  case MUL: multiply(x, d, a.sign ^ b.sign, a.exponent, a.significand, b.exponent, b.significand); break;
  case DIV: divide(x, d, a.sign ^ b.sign, a.exponent, a.significand, b.exponent, b.significand); break;
  }
}

/* --- Entry points --- */

INLINE void arithmetic(GuestX87 *x, GuestX87Register *d, Operation op,
                                                             uint64_t a, uint32_t ase, uint64_t b,
                                                             uint32_t bse) {
  int32_t ea = ase & X87_EXPONENT, eb = bse & X87_EXPONENT;
  uint32_t sa = ase & X87_SIGN, sb = bse & X87_SIGN;
  switch (op) {
  case ADD: add_signed(x, d, sa, ea, a, sb, eb, b); break;
  case SUB: add_signed(x, d, sa, ea, a, sb ^ X87_SIGN, eb, b); break;
  case MUL: multiply(x, d, sa ^ sb, ea, a, eb, b); break;
  case DIV: divide(x, d, sa ^ sb, ea, a, eb, b); break;
  }
}

OUT_OF_LINE void register_form_slow(GuestCpu *cpu, uint64_t argument, Operation op, bool reverse) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *d = x87_destination(x, argument), *s = x87_source(x, argument);
  X87Number dn = x87_unpack(d->significand, d->sign_exponent);
  X87Number sn = x87_unpack(s->significand, s->sign_exponent);
  arithmetic_slow(x, d, op, reverse ? sn : dn, reverse ? dn : sn, argument);
}

INLINE void register_form(GuestCpu *cpu, uint64_t argument, Operation op, bool reverse) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *d = x87_destination(x, argument), *s = x87_source(x, argument);
  const GuestX87Register *a = reverse ? s : d, *b = reverse ? d : s;
  if (X87_LIKELY(x87_is_normal(a->significand, a->sign_exponent) &&
                 x87_is_normal(b->significand, b->sign_exponent)))
    arithmetic(x, d, op, a->significand, a->sign_exponent, b->significand, b->sign_exponent);
  else
    register_form_slow(cpu, argument, op, reverse);
}

/* ST(0) with a value from memory. */
typedef enum Source { SOURCE_FLOAT, SOURCE_DOUBLE, SOURCE_INTEGER } Source;

OUT_OF_LINE void memory_form_slow(GuestX87 *x, uint64_t bits, Source source, Operation op, bool reverse) {
  GuestX87Register *d = x87_st(x, 0);
  X87Number st = x87_unpack(d->significand, d->sign_exponent);
  X87Number m = source == SOURCE_FLOAT    ? x87_unpack_float((uint32_t)bits)
                : source == SOURCE_DOUBLE ? x87_unpack_double(bits)
                                          : x87_unpack_integer((int64_t)bits);
  arithmetic_slow(x, d, op, reverse ? m : st, reverse ? st : m, 0);
}

INLINE void memory_form(GuestX87 *x, uint64_t bits, Source source, Operation op, bool reverse) {
  GuestX87Register *d = x87_st(x, 0);
  uint64_t m;
  uint32_t e, mse;
  bool normal;
  if (source == SOURCE_INTEGER) {
    uint64_t magnitude = (int64_t)bits < 0 ? -bits : bits;
    unsigned zeros = (unsigned)__builtin_clzll(magnitude | 1);
    m = magnitude << zeros;
    mse = (X87_BIAS + 63 - zeros) | (bits >> 63) << 15;
    normal = bits != 0;
  } else if (source == SOURCE_FLOAT) {
    e = (uint32_t)bits >> 23 & 0xff;
    m = X87_INTEGER_BIT | bits << 41 >> 1;
    mse = (e + X87_BIAS - 127) | ((uint32_t)bits >> 31) << 15;
    normal = e - 1 < 0xfe;
  } else {
    e = bits >> 52 & 0x7ff;
    m = X87_INTEGER_BIT | bits << 12 >> 1;
    mse = (e + X87_BIAS - 1023) | (bits >> 63) << 15;
    normal = e - 1 < 0x7fe;
  }
  if (X87_UNLIKELY(!normal || !x87_is_normal(d->significand, d->sign_exponent)))
    memory_form_slow(x, bits, source, op, reverse);
  else if (reverse)
    arithmetic(x, d, op, m, mse, d->significand, d->sign_exponent);
  else
    arithmetic(x, d, op, d->significand, d->sign_exponent, m, mse);
}

#define FORMS(name, op, reverse)                                                                              \
  void x87_##name(GuestCpu *cpu, uint64_t argument) { register_form(cpu, argument, op, reverse); }            \
  void x87_##name##_m32(GuestCpu *cpu, uint64_t bits) {                                                 \
    memory_form(&cpu->x87, bits, SOURCE_FLOAT, op, reverse);                                                  \
  }                                                                                                           \
  void x87_##name##_m64(GuestCpu *cpu, uint64_t bits) {                                                 \
    memory_form(&cpu->x87, bits, SOURCE_DOUBLE, op, reverse);                                                 \
  }                                                                                                           \
  void x87_##name##_int(GuestCpu *cpu, uint64_t value) {                                                \
    memory_form(&cpu->x87, value, SOURCE_INTEGER, op, reverse);                                               \
  }

FORMS(fadd, ADD, false)
FORMS(fmul, MUL, false)
FORMS(fsub, SUB, false)
FORMS(fsubr, SUB, true)
FORMS(fdiv, DIV, false)
FORMS(fdivr, DIV, true)

/* --- Square root --- */

/* Floor of the root of n >= 2^62: Newton's method from a line through the root's range. */
static uint64_t root_64(uint64_t n) {
  uint64_t s = (n >> 33) + (n >> 35) + (n >> 37) + UINT64_C(0x5a000000);
  for (int i = 0; i < 3; i++) s = (s + n / s) >> 1;
  if (s >> 32) s = 0xffffffff;
  if (s * s > n) s--;
  return s;
}

/* Floor of the root of high:low, high >= 2^62, and what is left (Zimmermann's division step). */
static uint64_t root_128(uint64_t high, uint64_t low, X87Wide *ret_remainder) {
  uint64_t s = root_64(high), r = high - s * s;
  uint64_t q = (r << 31 | low >> 33) / s;
  if (q >> 32) q = 0xffffffff;
  uint64_t root = (s << 32) + q;
  X87Wide n = (X87Wide)high << 64 | low;
  while ((X87Wide)root * root > n) root--;
  *ret_remainder = n - (X87Wide)root * root;
  return root;
}

static void square_root(GuestX87 *x, GuestX87Register *d, int32_t exponent, uint64_t significand) {
  X87Wide remainder;
  bool odd = !(exponent & 1); /* the bias is odd */
  uint64_t root = odd ? root_128(significand, 0, &remainder)
                      : root_128(significand >> 1, significand << 63, &remainder);
  uint64_t rest = remainder ? (uint64_t)(remainder > root) << 63 | 1 : 0;
  x87_round(x, d, 0, ((exponent - X87_BIAS) >> 1) + X87_BIAS, root, rest);
}

void x87_fsqrt(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *d = x87_destination(x, argument);
  X87Number n = x87_unpack(d->significand, d->sign_exponent);
  x87_set_c1(x, 0);
  if (n.class >= X87_QNAN && n.class != X87_UNSUPPORTED) {
    if (!x87_raise_before(x, n.class == X87_SNAN ? X87_IE : 0, 0)) d->significand |= X87_QUIET_BIT;
  } else if (n.class == X87_UNSUPPORTED || (n.sign && n.class != X87_ZERO)) {
    x87_invalid(x, d, 0);
  } else if (n.class == X87_NORMAL || n.class == X87_DENORMAL) {
    if (n.class == X87_DENORMAL && x87_raise_before(x, X87_DE, 0)) return;
    square_root(x, d, n.exponent, n.significand);
  }
}
