/* FPREM, FPREM1, FSCALE, FXTRACT: exact operations on exponents and remainders. */
#include "x87/float.h"

/* What NaNs, unsupported operands and denormals of a two-operand instruction do before it computes: true
 * where there is nothing left to compute. */
static bool two_operand_special(GuestX87 *x, GuestX87Register *d, const X87Number *a, const X87Number *b,
                                bool invalid, uint64_t argument) {
  unsigned flags = 0;
  x87_set_c1(x, 0);
  if (a->class == X87_UNSUPPORTED || b->class == X87_UNSUPPORTED) {
    x87_invalid(x, d, argument);
    return true;
  }
  if (a->class >= X87_QNAN || b->class >= X87_QNAN) {
    X87Number nan = x87_pick_nan(a, b, &flags);
    if (!x87_raise_before(x, flags, argument)) x87_store(d, nan.significand, nan.sign | X87_EXPONENT);
    return true;
  }
  if (invalid) {
    x87_invalid(x, d, argument);
    return true;
  }
  flags = a->class == X87_DENORMAL || b->class == X87_DENORMAL ? X87_DE : 0;
  return flags && x87_raise_before(x, flags, argument);
}

/* --- Partial remainders --- */

/* a * 2^shift mod b for a < b, b's highest bit set, shift below 64; `quotient` (a bit so far) goes on. */
static uint64_t reduce(uint64_t a, uint64_t b, unsigned shift, uint64_t *quotient) {
  uint64_t remainder;
  if (!shift) return a;
  *quotient = *quotient << shift | x87_divide_wide(a >> (64 - shift), a << shift, b, &remainder);
  return remainder;
}

static void set_quotient(GuestX87 *x, uint64_t quotient, bool partial) {
  unsigned conditions = partial ? X87_C2 : 0;
  if (!partial) conditions = (quotient & 4 ? X87_C0 : 0) | (quotient & 2 ? X87_C3 : 0);
  x->status = (uint16_t)((x->status & ~X87_CONDITIONS) | conditions);
  x87_set_c1(x, !partial && (quotient & 1));
}

/* The exact remainder, which always fits but may be denormal: with UE unmasked that is an exception. */
static void store_remainder(GuestX87 *x, GuestX87Register *d, uint32_t sign, int32_t exponent,
                            uint64_t remainder) {
  uint64_t c1 = x->c1;
  if (!remainder) {
    x87_store(d, 0, sign);
    return;
  }
  int zeros = __builtin_clzll(remainder);
  x87_round_full(x, d, sign, exponent - zeros, remainder << zeros, 0);
  x->c1 = c1;
}

static void compute_remainder(GuestX87 *x, GuestX87Register *d, const X87Number *a, const X87Number *b, bool nearest) {
  int32_t distance = a->exponent - b->exponent;
  uint64_t quotient = 0, r = a->significand;
  if (distance < -1 || (distance == -1 && !nearest)) {
    set_quotient(x, 0, false);
    store_remainder(x, d, a->sign, a->exponent, a->significand);
    return;
  }
  if (distance >= 64) { /* the step this processor family takes: down to a distance of 0-31 more than 32 */
    unsigned step = 32 + (unsigned)(distance % 32);
    if (r >= b->significand) r -= b->significand;
    r = reduce(r, b->significand, step, &quotient);
    set_quotient(x, 0, true);
    store_remainder(x, d, a->sign, a->exponent - (int32_t)step, r);
    return;
  }
  uint32_t sign = a->sign;
  if (distance < 0) { /* |a| < |b|: only the nearest quotient can be 1 */
    X87Wide twice = (X87Wide)r; /* 2|a| in units of b's last place */
    if (twice > b->significand) {
      quotient = 1;
      r = (uint64_t)(((X87Wide)b->significand << 1) - twice); /* in units of a's last place */
      sign ^= X87_SIGN;
    }
    set_quotient(x, quotient, false);
    store_remainder(x, d, sign, a->exponent, r);
    return;
  }
  if (r >= b->significand) r -= b->significand, quotient = 1;
  r = reduce(r, b->significand, (unsigned)distance, &quotient);
  if (nearest && (r > b->significand - r || (r == b->significand - r && (quotient & 1)))) {
    r = b->significand - r;
    quotient++;
    sign ^= X87_SIGN;
  }
  set_quotient(x, quotient, false);
  store_remainder(x, d, r ? sign : a->sign, b->exponent, r);
}

static void partial_remainder(GuestCpu *cpu, uint64_t argument, bool nearest) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *d = x87_destination(x, argument), *s = x87_source(x, argument);
  X87Number a = x87_unpack(d->significand, d->sign_exponent), b = x87_unpack(s->significand, s->sign_exponent);
  x->status &= ~X87_C2;
  if (two_operand_special(x, d, &a, &b, a.class == X87_INFINITY || b.class == X87_ZERO, argument)) return;
  if (a.class == X87_ZERO || b.class == X87_INFINITY) {
    set_quotient(x, 0, false);
    if (a.class == X87_DENORMAL) store_remainder(x, d, a.sign, a.exponent, a.significand);
    return;
  }
  compute_remainder(x, d, &a, &b, nearest);
}

void x87_fprem(GuestCpu *cpu, uint64_t argument) {
  partial_remainder(cpu, argument, false);
}

void x87_fprem1(GuestCpu *cpu, uint64_t argument) {
  partial_remainder(cpu, argument, true);
}

/* --- FSCALE, FXTRACT --- */

/* The integer part of a finite number, within what a scale can matter. */
static int32_t scale_of(const X87Number *n) {
  enum { LIMIT = 0x10000 };
  if (n->class == X87_ZERO || n->exponent < X87_BIAS) return 0;
  int32_t magnitude = n->exponent > X87_BIAS + 16 ? LIMIT : (int32_t)(n->significand >> (X87_BIAS + 63 - n->exponent));
  if (magnitude > LIMIT) magnitude = LIMIT;
  return n->sign ? -magnitude : magnitude;
}

void x87_fscale(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *d = x87_destination(x, argument), *s = x87_source(x, argument);
  X87Number a = x87_unpack(d->significand, d->sign_exponent), b = x87_unpack(s->significand, s->sign_exponent);
  bool invalid = b.class == X87_INFINITY && a.class == (b.sign ? X87_INFINITY : X87_ZERO);
  if (two_operand_special(x, d, &a, &b, invalid, argument)) return;
  if (b.class == X87_INFINITY)
    x87_store(d, b.sign ? 0 : X87_INTEGER_BIT, a.sign | (b.sign ? 0 : X87_EXPONENT));
  else if (a.class == X87_NORMAL || a.class == X87_DENORMAL)
    x87_round_full(x, d, a.sign, a.exponent + scale_of(&b), a.significand, 0);
}

/* Lifted code has pushed: the argument's destination is the new ST(0), its source the old one. */
void x87_fxtract(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *fraction = x87_destination(x, argument), *exponent = x87_source(x, argument);
  X87Number n = x87_unpack(exponent->significand, exponent->sign_exponent);
  unsigned flags = n.class == X87_UNSUPPORTED || n.class == X87_SNAN ? X87_IE
                   : n.class == X87_ZERO                             ? X87_ZE
                   : n.class == X87_DENORMAL                         ? X87_DE
                                                                     : 0;
  x87_set_c1(x, 0);
  if (flags && x87_raise_before(x, flags, argument)) return;
  switch (n.class) {
  case X87_UNSUPPORTED:
    x87_store_default_nan(exponent);
    x87_store_default_nan(fraction);
    break;
  case X87_QNAN:
  case X87_SNAN:
    exponent->significand |= X87_QUIET_BIT;
    *fraction = *exponent;
    break;
  case X87_INFINITY:
    *fraction = *exponent;
    x87_store(exponent, X87_INTEGER_BIT, X87_EXPONENT);
    break;
  case X87_ZERO:
    *fraction = *exponent;
    x87_store(exponent, X87_INTEGER_BIT, X87_SIGN | X87_EXPONENT);
    break;
  default: {
    X87Number e = x87_unpack_integer(n.exponent - X87_BIAS);
    x87_store(fraction, n.significand, n.sign | X87_BIAS);
    x87_store(exponent, e.significand, e.sign | (uint32_t)e.exponent);
  }
  }
}
