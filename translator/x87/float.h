/* What the files of this folder share: the parts of an 80-bit value, the exceptions, rounding.
 *
 * The common path of every operation (normal operands, result in range, round to nearest, 64 bits) is
 * inline and short; everything else goes through x87_round_slow() and the operation's own slow function.
 * Exponents are biased by 16383 and, outside of registers, may leave 1..0x7ffe. Significands have their
 * highest bit set except in registers. Intel SDM volume 1, chapter 8 and 4.8-4.9. */
#ifndef STELE_X87_FLOAT_H
#define STELE_X87_FLOAT_H

#include "guest/state.h"
#include "x87/x87.h"

typedef unsigned __int128 X87Wide;

#define X87_LIKELY(c) __builtin_expect(!!(c), 1)
#define X87_UNLIKELY(c) __builtin_expect(!!(c), 0)

enum {
  X87_IE = 0x01, X87_DE = 0x02, X87_ZE = 0x04, X87_OE = 0x08, X87_UE = 0x10, X87_PE = 0x20,
  X87_SF = 0x40, X87_ES = 0x80, X87_C0 = 0x100, X87_C1 = 0x200, X87_C2 = 0x400, X87_C3 = 0x4000,
  X87_BUSY = 0x8000,
  X87_EXCEPTIONS = 0x3f,
  X87_CONDITIONS = X87_C0 | X87_C2 | X87_C3
};

/* FCW: rounding control and precision control. */
enum { X87_RC_NEAREST = 0, X87_RC_DOWN = 1, X87_RC_UP = 2, X87_RC_ZERO = 3 };
enum { X87_CONTROL_RC_PC = 0xf00, X87_CONTROL_USUAL = 0x300 };

enum { X87_SIGN = 0x8000, X87_EXPONENT = 0x7fff, X87_BIAS = 16383, X87_UNMASKED_BIAS = 24576 };
#define X87_INTEGER_BIT (UINT64_C(1) << 63)
#define X87_QUIET_BIT (UINT64_C(1) << 62)
#define X87_DEFAULT_NAN_SIGNIFICAND (X87_INTEGER_BIT | X87_QUIET_BIT)
enum { X87_DEFAULT_NAN_EXPONENT = 0xffff };

/* Helper arguments for register forms: byte offsets of the slots in GuestX87.reg, and whether the lifted
 * code has already popped (undone where an unmasked exception keeps the instruction from completing). */
enum {
  X87_ARG_DESTINATION = 0xf0, X87_ARG_SOURCE_SHIFT = 8, X87_ARG_SOURCE = 0xf000,
  X87_ARG_POPPED = 1, X87_ARG_POPPED_TWICE = 2, X87_ARG_POPS = 3, X87_ARG_PUSHED = 4
};

typedef enum X87Class {
  X87_ZERO,
  X87_NORMAL,
  X87_DENORMAL, /* also pseudo-denormals, and values that were denormal as float or double */
  X87_INFINITY,
  X87_QNAN,
  X87_SNAN,
  X87_UNSUPPORTED /* unnormals, pseudo-NaNs, pseudo-infinities */
} X87Class;

/* A value taken apart. */
typedef struct X87Number {
  uint64_t significand; /* normalised where NORMAL or DENORMAL */
  int32_t exponent;
  uint32_t sign; /* 0 or X87_SIGN */
  X87Class class;
} X87Number;

X87Number x87_unpack(uint64_t significand, uint32_t sign_exponent);
X87Number x87_unpack_float(uint32_t bits);
X87Number x87_unpack_double(uint64_t bits);
X87Number x87_unpack_integer(int64_t value);

static inline GuestX87Register *x87_destination(GuestX87 *x, uint64_t argument) {
  return (GuestX87Register *)((char *)x->reg + (argument & X87_ARG_DESTINATION));
}

static inline GuestX87Register *x87_source(GuestX87 *x, uint64_t argument) {
  return (GuestX87Register *)((char *)x->reg + (argument >> X87_ARG_SOURCE_SHIFT & X87_ARG_DESTINATION));
}

static inline void x87_set_c1(GuestX87 *x, bool c1) { x->c1 = c1 ? GUEST_X87_C1 : 0; }

static inline GuestX87Register *x87_st(GuestX87 *x, unsigned i) {
  return &x->reg[(x->top + i) & 7];
}

static inline void x87_store(GuestX87Register *d, uint64_t significand, uint32_t sign_exponent) {
  d->significand = significand;
  d->sign_exponent = (uint16_t)sign_exponent;
}

static inline void x87_store_default_nan(GuestX87Register *d) {
  x87_store(d, X87_DEFAULT_NAN_SIGNIFICAND, X87_DEFAULT_NAN_EXPONENT);
}

/* True for a normal number: exponent neither 0 nor 0x7fff and the integer bit set. */
static inline bool x87_is_normal(uint64_t significand, uint32_t sign_exponent) {
  return (int64_t)significand < 0 && ((sign_exponent + 1) & X87_EXPONENT) > 1;
}

/* An unmasked exception has been recorded: the next waiting instruction raises #MF. */
static inline void x87_set_pending(GuestX87 *x) {
  x->status |= X87_ES | X87_BUSY;
  x->top |= GUEST_X87_PENDING;
}

/* Records exceptions found after the result is known: they never stop the instruction. */
static inline void x87_raise(GuestX87 *x, unsigned flags) {
  x->status |= flags;
  if (X87_UNLIKELY(flags & ~x->control & X87_EXCEPTIONS)) x87_set_pending(x);
}

/* Records exceptions found before: true where one is unmasked and the instruction must leave everything
 * as it was. Undoes pops and pushes the lifted code has done, as told by `argument`. */
bool x87_raise_before(GuestX87 *x, unsigned flags, uint64_t argument);

/* IE, and where masked the default NaN in `d`. */
void x87_invalid(GuestX87 *x, GuestX87Register *d, uint64_t argument);

/* The NaN that two operands give, at least one of them being one (SDM table 4-7); neither is
 * UNSUPPORTED. `flags` receives IE where one signals. */
X87Number x87_pick_nan(const X87Number *a, const X87Number *b, unsigned *flags);

/* Result significand.rest * 2^(exponent - bias - 63) rounded as FCW says and stored, flags and C1 set.
 * rest: the next 64 bits, everything beyond ORed into its lowest. `precision` 24, 53 or 64. */
void x87_round_slow(GuestX87 *x, GuestX87Register *d, uint32_t sign, int32_t exponent, uint64_t significand,
                    uint64_t rest, unsigned precision);

/* Significant bits by FCW's precision control. */
static inline unsigned x87_precision(const GuestX87 *x) {
  static const uint8_t bits[4] = {24, 64, 53, 64};
  return bits[x->control >> 8 & 3];
}

static inline unsigned x87_rounding(const GuestX87 *x) {
  return x->control >> 10 & 3;
}

/* 1 if significand.rest is to be rounded away from zero; `odd` is the lowest kept bit. */
static inline unsigned x87_round_up(unsigned rounding, uint32_t sign, unsigned odd, uint64_t rest) {
  switch (rounding) {
  case X87_RC_NEAREST: return rest > X87_INTEGER_BIT - (odd & 1);
  case X87_RC_DOWN: return sign && rest;
  case X87_RC_UP: return !sign && rest;
  default: return 0;
  }
}

/* The same by FCW's precision control, whatever the range. */
void x87_round_by_control(GuestX87 *x, GuestX87Register *d, uint32_t sign, int32_t exponent,
                          uint64_t significand, uint64_t rest);

void x87_round_unmasked(GuestX87 *x); /* PE has been raised and is not masked */

static inline __attribute__((always_inline)) void x87_round(GuestX87 *x, GuestX87Register *d, uint32_t sign,
                                                            int32_t exponent, uint64_t significand,
                                                            uint64_t rest) {
  uint32_t control = x->control;
  if (X87_UNLIKELY((control & X87_CONTROL_RC_PC) != X87_CONTROL_USUAL || (uint32_t)(exponent - 1) >= 0x7ffd)) {
    x87_round_by_control(x, d, sign, exponent, significand, rest);
    return;
  }
  unsigned up = rest > X87_INTEGER_BIT - (significand & 1);
  significand += up;
  if (X87_UNLIKELY(!significand)) significand = X87_INTEGER_BIT, exponent++;
  x87_set_c1(x, up);
  x87_store(d, significand, sign | (uint32_t)exponent);
  if (!rest) return;
  x->status |= X87_PE;
  if (X87_UNLIKELY(!(control & X87_PE))) x87_round_unmasked(x);
}

/* As x87_round, but always to 64 bits (operations that precision control does not reach). */
static inline void x87_round_full(GuestX87 *x, GuestX87Register *d, uint32_t sign, int32_t exponent,
                                  uint64_t significand, uint64_t rest) {
  x87_round_slow(x, d, sign, exponent, significand, rest, 64);
}

/* One digit of a division by `b` (highest bit set): high * 2^32 + low32 over b, high < b. */
static inline uint64_t x87_divide_digit(uint64_t high, uint64_t low, uint64_t b, uint64_t *ret_remainder) {
  uint64_t bh = b >> 32, bl = b & 0xffffffff;
  uint64_t q = high / bh, r = high - q * bh;
  while (q >> 32 || q * bl > (r << 32 | low)) {
    q--;
    r += bh;
    if (r >> 32) break;
  }
  *ret_remainder = (high << 32 | low) - q * b;
  return q;
}

/* high:low / b and what is left, for high < b, b's highest bit set. */
static inline uint64_t x87_divide_wide(uint64_t high, uint64_t low, uint64_t b, uint64_t *ret_remainder) {
  uint64_t quotient = x87_divide_digit(high, low >> 32, b, &high) << 32;
  return quotient | x87_divide_digit(high, low & 0xffffffff, b, ret_remainder);
}

/* Shifts significand.rest right by `count`, keeping everything lost in rest's lowest bit. */
static inline void x87_shift_right(uint64_t *significand, uint64_t *rest, unsigned count) {
  if (count == 0) return;
  if (count < 64) {
    *rest = *rest >> count | *significand << (64 - count) | ((*rest << (64 - count)) != 0);
    *significand >>= count;
  } else if (count == 64) {
    *rest = *significand | (*rest != 0);
    *significand = 0;
  } else if (count < 128) {
    *rest = *significand >> (count - 64) | ((*significand << (128 - count)) != 0 || *rest != 0);
    *significand = 0;
  } else {
    *rest = (*significand | *rest) != 0;
    *significand = 0;
  }
}

#endif
