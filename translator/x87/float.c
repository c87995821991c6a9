/* Taking values apart, exceptions, NaNs, and rounding in every mode and range. */
#include "x87/float.h"

X87Number x87_unpack(uint64_t significand, uint32_t sign_exponent) {
  X87Number n = {significand, (int32_t)(sign_exponent & X87_EXPONENT), sign_exponent & X87_SIGN, X87_NORMAL};
  if (n.exponent == 0) {
    if (!significand) {
      n.class = X87_ZERO;
      return n;
    }
    int zeros = __builtin_clzll(significand);
    n.class = X87_DENORMAL;
    n.significand <<= zeros;
    n.exponent = 1 - zeros;
  } else if (!(significand >> 63)) {
    n.class = X87_UNSUPPORTED;
  } else if (n.exponent == X87_EXPONENT) {
    n.class = !(significand << 1) ? X87_INFINITY : significand & X87_QUIET_BIT ? X87_QNAN : X87_SNAN;
  }
  return n;
}

/* An IEEE format with a hidden bit: fraction left-aligned below bit 63, exponent and its bias. */
static X87Number unpack_ieee(uint32_t sign, int32_t exponent, int32_t all_ones, uint64_t fraction) {
  X87Number n = {X87_INTEGER_BIT | fraction, exponent + X87_BIAS - all_ones / 2, sign, X87_NORMAL};
  if (exponent == all_ones) {
    n.exponent = X87_EXPONENT;
    n.class = !fraction ? X87_INFINITY : fraction & X87_QUIET_BIT ? X87_QNAN : X87_SNAN;
  } else if (exponent == 0) {
    n.class = fraction ? X87_DENORMAL : X87_ZERO;
    n.significand = fraction;
    if (!fraction) {
      n.exponent = 0;
    } else {
      int zeros = __builtin_clzll(fraction);
      n.significand <<= zeros;
      n.exponent += 1 - zeros;
    }
  }
  return n;
}

X87Number x87_unpack_float(uint32_t bits) {
  return unpack_ieee(bits >> 16 & X87_SIGN, bits >> 23 & 0xff, 0xff, (uint64_t)(bits & 0x7fffff) << 40);
}

X87Number x87_unpack_double(uint64_t bits) {
  return unpack_ieee(bits >> 48 & X87_SIGN, bits >> 52 & 0x7ff, 0x7ff, bits << 12 >> 1);
}

X87Number x87_unpack_integer(int64_t value) {
  X87Number n = {0, 0, value < 0 ? X87_SIGN : 0, X87_ZERO};
  if (!value) return n;
  uint64_t magnitude = value < 0 ? -(uint64_t)value : (uint64_t)value;
  int zeros = __builtin_clzll(magnitude);
  n.significand = magnitude << zeros;
  n.exponent = X87_BIAS + 63 - zeros;
  n.class = X87_NORMAL;
  return n;
}

/* Takes back what lifted code did to the stack ahead of the helper. */
static void restore_stack(GuestX87 *x, uint64_t argument) {
  for (unsigned pops = argument & X87_ARG_POPS; pops; pops--) {
    unsigned top = (x->top - 1) & 7;
    x->top = (uint8_t)((x->top & GUEST_X87_PENDING) | top);
    x->valid |= 1 << top;
  }
  if (argument & X87_ARG_PUSHED) {
    x->valid &= ~(1 << (x->top & 7));
    x->top = (uint8_t)((x->top & GUEST_X87_PENDING) | ((x->top + 1) & 7));
  }
}

bool x87_raise_before(GuestX87 *x, unsigned flags, uint64_t argument) {
  x->status |= flags;
  if (!(flags & ~x->control & X87_EXCEPTIONS)) return false;
  x87_set_pending(x);
  restore_stack(x, argument);
  return true;
}

void x87_invalid(GuestX87 *x, GuestX87Register *d, uint64_t argument) {
  x87_set_c1(x, 0);
  if (!x87_raise_before(x, X87_IE, argument)) x87_store_default_nan(d);
}

static bool is_nan(const X87Number *n) {
  return n->class == X87_QNAN || n->class == X87_SNAN;
}

X87Number x87_pick_nan(const X87Number *a, const X87Number *b, unsigned *flags) {
  const X87Number *picked = a;
  if (a->class == X87_SNAN || b->class == X87_SNAN) *flags |= X87_IE;
  if (!is_nan(a)) {
    picked = b;
  } else if (is_nan(b)) {
    if (a->class != b->class)
      picked = a->class == X87_QNAN ? a : b;
    else if (a->significand != b->significand)
      picked = a->significand > b->significand ? a : b;
    else
      picked = a->sign ? b : a;
  }
  X87Number result = *picked;
  result.significand |= X87_QUIET_BIT;
  return result;
}

/* A significand cut to `precision` bits. */
typedef struct Rounded {
  uint64_t significand; /* wrapped to 2^63 where `carry` */
  bool carry, inexact, up;
} Rounded;

static Rounded round_significand(unsigned rounding, uint32_t sign, uint64_t significand, uint64_t rest,
                                 unsigned precision) {
  uint64_t unit = UINT64_C(1) << (64 - precision);
  if (precision < 64) {
    rest = significand << precision | (rest != 0);
    significand &= -unit;
  }
  Rounded r = {significand, false, rest != 0, false};
  r.up = x87_round_up(rounding, sign, (significand & unit) != 0, rest);
  if (r.up) {
    r.significand += unit;
    r.carry = r.significand == 0;
    if (r.carry) r.significand = X87_INTEGER_BIT;
  }
  return r;
}

static void overflow(GuestX87 *x, GuestX87Register *d, uint32_t sign, int32_t exponent, const Rounded *r,
                     unsigned precision) {
  bool masked = x->control & X87_OE;
  if (!masked && exponent - X87_UNMASKED_BIAS < X87_EXPONENT) {
    x87_set_c1(x, r->up);
    x87_store(d, r->significand, sign | ((exponent - X87_UNMASKED_BIAS) & X87_EXPONENT));
    x87_raise(x, X87_OE | (r->inexact ? X87_PE : 0));
    return;
  }
  unsigned rounding = x87_rounding(x);
  bool infinite = !masked || rounding == X87_RC_NEAREST || rounding == (sign ? X87_RC_DOWN : X87_RC_UP);
  x87_set_c1(x, infinite);
  if (infinite)
    x87_store(d, X87_INTEGER_BIT, sign | X87_EXPONENT);
  else
    x87_store(d, -(UINT64_C(1) << (64 - precision)), sign | (X87_EXPONENT - 1));
  x87_raise(x, X87_OE | X87_PE);
}

/* `normal` is the rounding without bounds, still below the least normal number. */
static void underflow(GuestX87 *x, GuestX87Register *d, uint32_t sign, int32_t exponent, uint64_t significand,
                      uint64_t rest, unsigned precision, const Rounded *normal, bool tiny) {
  bool masked = x->control & X87_UE;
  if (tiny && !masked && exponent + X87_UNMASKED_BIAS <= 0) { /* beyond what FSCALE wraps */
    x87_set_c1(x, 0);
    x87_store(d, 0, sign);
    x87_raise(x, X87_UE | X87_PE);
    return;
  }
  if (tiny && !masked) {
    x87_set_c1(x, normal->up);
    exponent += X87_UNMASKED_BIAS + normal->carry;
    x87_store(d, normal->significand, sign | (exponent & X87_EXPONENT));
    x87_raise(x, X87_UE | (normal->inexact ? X87_PE : 0));
    return;
  }
  x87_shift_right(&significand, &rest, (unsigned)(1 - exponent) < 200 ? (unsigned)(1 - exponent) : 200);
  Rounded r = round_significand(x87_rounding(x), sign, significand, rest, precision);
  x87_set_c1(x, r.up);
  x87_store(d, r.significand, sign | (uint32_t)(r.significand >> 63));
  if (r.inexact) x87_raise(x, X87_PE | (tiny ? X87_UE : 0));
}

void x87_round_slow(GuestX87 *x, GuestX87Register *d, uint32_t sign, int32_t exponent, uint64_t significand,
                    uint64_t rest, unsigned precision) {
  Rounded r = round_significand(x87_rounding(x), sign, significand, rest, precision);
  int32_t rounded_exponent = exponent + r.carry;
  if (exponent <= 0) {
    underflow(x, d, sign, exponent, significand, rest, precision, &r, rounded_exponent <= 0);
  } else if (rounded_exponent >= X87_EXPONENT) {
    overflow(x, d, sign, rounded_exponent, &r, precision);
  } else {
    x87_set_c1(x, r.up);
    x87_store(d, r.significand, sign | (uint32_t)rounded_exponent);
    if (r.inexact) x87_raise(x, X87_PE);
  }
}

void x87_round_by_control(GuestX87 *x, GuestX87Register *d, uint32_t sign, int32_t exponent,
                          uint64_t significand, uint64_t rest) {
  x87_round_slow(x, d, sign, exponent, significand, rest, x87_precision(x));
}

void x87_round_unmasked(GuestX87 *x) {
  x87_set_pending(x);
}
