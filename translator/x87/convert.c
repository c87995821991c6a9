/* Loads and stores of every memory format, and FRNDINT.
 *
 * A load's value is in the helper's argument and the lifted code has already pushed. A store works in two
 * steps so that a faulting store changes nothing: the helper here leaves the value in transfer[0] (and
 * [2]) and the exceptions in transfer[1], the lifted code stores the value, then records them. */
#include "x87/float.h"

/* transfer[1] beside FSW bits. */
enum {
  STAGED_PENDING = 1 << 30, /* unmasked PE: stores, and is pending afterwards */
  STAGED_ABORT = 1 << 31    /* another unmasked exception: nothing is stored or popped */
};

/* --- Loads --- */

static void load_number(GuestX87 *x, X87Number n) {
  x87_set_c1(x, 0);
  if (n.class == X87_SNAN) {
    if (x87_raise_before(x, X87_IE, X87_ARG_PUSHED)) return;
    n.significand |= X87_QUIET_BIT;
  } else if (n.class == X87_DENORMAL) {
    x87_raise(x, X87_DE); /* loads complete even where this is unmasked */
  }
  x87_store(x87_st(x, 0), n.significand, n.sign | (uint32_t)n.exponent);
}

void x87_fld_m32(GuestCpu *cpu, uint64_t bits) {
  load_number(&cpu->x87, x87_unpack_float((uint32_t)bits));
}

void x87_fld_m64(GuestCpu *cpu, uint64_t bits) {
  load_number(&cpu->x87, x87_unpack_double(bits));
}

void x87_fild(GuestCpu *cpu, uint64_t value) {
  load_number(&cpu->x87, x87_unpack_integer((int64_t)value));
}

/* FBLD: transfer[0] holds the low 8 bytes, the argument the high 2. */
void x87_fbld(GuestCpu *cpu, uint64_t high) {
  GuestX87 *x = &cpu->x87;
  uint64_t value = 0;
  for (int shift = 4; shift >= 0; shift -= 4) value = value * 10 + (high >> shift & 15);
  for (int shift = 60; shift >= 0; shift -= 4) value = value * 10 + (x->transfer[0] >> shift & 15);
  X87Number n = x87_unpack_integer((int64_t)value);
  n.sign = (uint32_t)high & X87_SIGN;
  load_number(x, n);
}

/* Constants: SDM volume 2, FLD1 and so on; rounded from 128 bits by the rounding control. */
typedef enum Constant { ONE, LOG2_10, LOG2_E, PI, LOG10_2, LN_2, ZERO } Constant;
typedef struct ConstantRow {
  uint64_t significand;
  uint16_t exponent;
  bool rest_above_half; /* what follows the 64 bits, which is never zero but for 1 and 0 */
  bool exact;
} ConstantRow;

static const ConstantRow constants[] = {
    [ONE] = {0x8000000000000000, 0x3fff, false, true},
    [LOG2_10] = {0xd49a784bcd1b8afe, 0x4000, false, false},
    [LOG2_E] = {0xb8aa3b295c17f0bb, 0x3fff, true, false},
    [PI] = {0xc90fdaa22168c234, 0x4000, true, false},
    [LOG10_2] = {0x9a209a84fbcff798, 0x3ffd, true, false},
    [LN_2] = {0xb17217f7d1cf79ab, 0x3ffe, true, false},
    [ZERO] = {0, 0, false, true},
};

/* The argument is the row. Constants raise nothing and clear C1. */
void x87_fld_constant(GuestCpu *cpu, uint64_t row) {
  GuestX87 *x = &cpu->x87;
  const ConstantRow *c = &constants[row];
  unsigned rounding = x87_rounding(x);
  bool up = !c->exact && (rounding == X87_RC_NEAREST ? c->rest_above_half : rounding == X87_RC_UP);
  x87_set_c1(x, 0);
  x87_store(x87_st(x, 0), c->significand + up, c->exponent);
}

/* --- Stores --- */

static void stage(GuestX87 *x, uint64_t value, unsigned flags) {
  unsigned unmasked = flags & ~x->control & X87_EXCEPTIONS;
  if (X87_UNLIKELY(unmasked)) flags |= unmasked & ~X87_PE ? STAGED_ABORT : STAGED_PENDING;
  x->transfer[0] = value;
  x->transfer[1] = flags;
}

/* Records what stage() left when STAGED_ABORT or STAGED_PENDING is in it; the common case is inline in
 * lifted code. */
void x87_store_exceptions(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  unsigned flags = (unsigned)x->transfer[1] & (X87_EXCEPTIONS | X87_SF);
  bool aborted = x->transfer[1] & STAGED_ABORT;
  if (aborted) flags &= ~X87_PE;
  x->status |= flags;
  x87_set_c1(x, !aborted && (x->transfer[1] & X87_C1));
  x87_set_pending(x);
}

/* A store that an unmasked exception keeps from being made faults all the same where the memory, `argument` and transfer_more
 * bytes behind it, cannot be written (as AMD's processors do; the manuals don't say). */
void x87_store_probe(GuestCpu *cpu, uint64_t argument) {
  uint8_t *first = (uint8_t *)(uintptr_t)argument;
  __atomic_fetch_add(first, 0, __ATOMIC_RELAXED);
  __atomic_fetch_add(first + cpu->x87.transfer_more, 0, __ATOMIC_RELAXED);
}

/* float or double. */
typedef struct Format {
  int precision, bias, all_ones;
} Format;
static const Format format_float = {24, 127, 0xff}, format_double = {53, 1023, 0x7ff};

static inline uint64_t pack(const Format *f, uint32_t sign, int32_t exponent, uint64_t fraction) {
  int total = f == &format_float ? 32 : 64;
  return (uint64_t)(sign != 0) << (total - 1) | (((uint64_t)exponent << (f->precision - 1)) + fraction);
}

static void stage_overflow(GuestX87 *x, const Format *f, uint32_t sign) {
  unsigned rounding = x87_rounding(x);
  bool infinite = rounding == X87_RC_NEAREST || rounding == (sign ? X87_RC_DOWN : X87_RC_UP);
  uint64_t largest = (UINT64_C(1) << (f->precision - 1)) - 1;
  stage(x, infinite ? pack(f, sign, f->all_ones, 0) : pack(f, sign, f->all_ones - 1, largest),
        X87_OE | X87_PE | (infinite ? X87_C1 : 0));
}

/* A finite number that is not zero. */
static void stage_finite(GuestX87 *x, const Format *f, const X87Number *n) {
  int32_t exponent = n->exponent - X87_BIAS + f->bias;
  unsigned drop = (unsigned)(64 - f->precision), rounding = x87_rounding(x);
  uint64_t significand = n->significand, rest = 0;
  bool tiny = exponent <= 0;
  if (exponent >= f->all_ones) {
    stage_overflow(x, f, n->sign);
    return;
  }
  if (exponent == 0) { /* tiny unless rounding without bounds reaches the least normal number */
    uint64_t kept = significand >> drop;
    if (kept == (UINT64_C(1) << f->precision) - 1 &&
        x87_round_up(rounding, n->sign, 1, significand << f->precision))
      tiny = false;
  }
  if (exponent <= 0) {
    x87_shift_right(&significand, &rest, (unsigned)(1 - exponent) < 200 ? (unsigned)(1 - exponent) : 200);
    exponent = 0;
  } else {
    exponent--; /* the integer bit, left in place, adds it again */
  }
  rest = significand << f->precision | (rest != 0);
  uint64_t kept = significand >> drop;
  unsigned up = x87_round_up(rounding, n->sign, kept & 1, rest);
  uint64_t magnitude = ((uint64_t)exponent << (f->precision - 1)) + kept + up;
  if (magnitude >> (f->precision - 1) >= (uint64_t)f->all_ones) {
    stage_overflow(x, f, n->sign);
    return;
  }
  unsigned flags = (rest ? X87_PE | (tiny ? X87_UE : 0) : 0) | (up ? X87_C1 : 0);
  if (tiny && !(x->control & X87_UE)) flags |= X87_UE;
  stage(x, pack(f, n->sign, 0, magnitude), flags);
}

static void stage_ieee(GuestX87 *x, const Format *f, const GuestX87Register *r) {
  X87Number n = x87_unpack(r->significand, r->sign_exponent);
  unsigned drop = (unsigned)(64 - f->precision);
  switch (n.class) {
  case X87_ZERO: stage(x, pack(f, n.sign, 0, 0), 0); break;
  case X87_INFINITY: stage(x, pack(f, n.sign, f->all_ones, 0), 0); break;
  case X87_QNAN:
  case X87_SNAN:
    stage(x, pack(f, n.sign, f->all_ones, ((n.significand | X87_QUIET_BIT) & ~X87_INTEGER_BIT) >> drop),
          n.class == X87_SNAN ? X87_IE : 0);
    break;
  case X87_UNSUPPORTED:
    stage(x, pack(f, X87_SIGN, f->all_ones, X87_QUIET_BIT >> drop), X87_IE);
    break;
  default: stage_finite(x, f, &n); break;
  }
}

void x87_fst_m32(GuestCpu *cpu, uint64_t argument) {
  stage_ieee(&cpu->x87, &format_float, x87_destination(&cpu->x87, argument));
}

void x87_fst_m64(GuestCpu *cpu, uint64_t argument) {
  stage_ieee(&cpu->x87, &format_double, x87_destination(&cpu->x87, argument));
}

/* The integer nearest to a number below 2^64 in magnitude, by the rounding mode. */
static uint64_t to_integer(const X87Number *n, unsigned rounding, uint64_t *ret_rest, unsigned *ret_up) {
  uint64_t magnitude = n->significand, rest = 0;
  int32_t shift = X87_BIAS + 63 - n->exponent;
  x87_shift_right(&magnitude, &rest, (unsigned)shift < 200 ? (unsigned)shift : 200);
  *ret_up = x87_round_up(rounding, n->sign, magnitude & 1, rest);
  *ret_rest = rest;
  return magnitude + *ret_up;
}

/* Stages the integer of `bits` bits. */
static void stage_integer(GuestX87 *x, const GuestX87Register *r, unsigned bits, unsigned rounding) {
  X87Number n = x87_unpack(r->significand, r->sign_exponent);
  uint64_t indefinite = UINT64_C(1) << (bits - 1), rest, magnitude;
  unsigned up;
  if (n.class == X87_ZERO) {
    stage(x, 0, 0);
    return;
  }
  if (n.class <= X87_DENORMAL && n.exponent <= X87_BIAS + 63) {
    magnitude = to_integer(&n, rounding, &rest, &up);
    bool wrapped = !magnitude && n.exponent == X87_BIAS + 63;
    if (!wrapped && magnitude <= indefinite - !n.sign) {
      stage(x, n.sign ? -magnitude : magnitude, (rest ? X87_PE : 0) | (up ? X87_C1 : 0));
      return;
    }
  }
  stage(x, indefinite, X87_IE);
}

/* Arguments: the slot, and the width in bits from bit 16 up. */
void x87_fist(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  stage_integer(x, x87_destination(x, argument), (unsigned)(argument >> 16), x87_rounding(x));
}

void x87_fisttp(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  stage_integer(x, x87_destination(x, argument), (unsigned)(argument >> 16), X87_RC_ZERO);
}

/* FBSTP: 18 digits and a sign; transfer[2] receives the high 2 bytes. */
void x87_fbstp(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  const GuestX87Register *r = x87_destination(x, argument);
  X87Number n = x87_unpack(r->significand, r->sign_exponent);
  uint64_t rest = 0, magnitude = 0;
  unsigned up = 0;
  bool fits = n.class == X87_ZERO;
  if (n.class == X87_NORMAL || n.class == X87_DENORMAL) {
    fits = n.exponent < X87_BIAS + 60;
    if (fits) magnitude = to_integer(&n, x87_rounding(x), &rest, &up);
    fits = fits && magnitude < UINT64_C(1000000000000000000);
  }
  if (!fits) {
    x->transfer[2] = 0xffff;
    stage(x, UINT64_C(0xc000000000000000), X87_IE);
    return;
  }
  uint64_t low = 0;
  for (unsigned shift = 0; shift < 64; shift += 4, magnitude /= 10) low |= magnitude % 10 << shift;
  x->transfer[2] = magnitude % 10 | magnitude / 10 << 4 | n.sign;
  stage(x, low, (rest ? X87_PE : 0) | (up ? X87_C1 : 0));
}

/* A store of an empty register: bit 0 of the argument says that it stores an integer, bits from 16 up are the width in
 * bits. */
void x87_underflow_store(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  unsigned width = (unsigned)(argument >> 16);
  uint64_t value = UINT64_C(1) << ((width - 1) & 63);
  if (width == 80)
    value = UINT64_C(0xc000000000000000), x->transfer[2] = 0xffff;
  else if (!(argument & 1))
    value = width == 32 ? 0xffc00000 : UINT64_C(0xfff8000000000000);
  stage(x, value, X87_IE | X87_SF);
}

/* --- FRNDINT --- */

void x87_frndint(GuestCpu *cpu, uint64_t argument) {
  GuestX87 *x = &cpu->x87;
  GuestX87Register *d = x87_destination(x, argument);
  X87Number n = x87_unpack(d->significand, d->sign_exponent);
  x87_set_c1(x, 0);
  if (n.class == X87_UNSUPPORTED) {
    x87_invalid(x, d, 0);
  } else if (n.class == X87_SNAN) {
    if (!x87_raise_before(x, X87_IE, 0)) d->significand |= X87_QUIET_BIT;
  } else if (n.class == X87_DENORMAL && x87_raise_before(x, X87_DE, 0)) {
    return;
  } else if ((n.class == X87_NORMAL || n.class == X87_DENORMAL) && n.exponent < X87_BIAS + 63) {
    uint64_t rest;
    unsigned up;
    uint64_t magnitude = to_integer(&n, x87_rounding(x), &rest, &up);
    X87Number integer = x87_unpack_integer((int64_t)magnitude);
    if (magnitude >> 63) integer = (X87Number){magnitude, X87_BIAS + 63, 0, X87_NORMAL};
    x87_set_c1(x, up);
    x87_store(d, integer.significand, n.sign | (uint32_t)integer.exponent);
    if (rest) x87_raise(x, X87_PE);
  }
}
