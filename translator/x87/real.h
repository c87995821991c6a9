/* Real numbers of 128 significant bits, for functions whose results are rounded to 64: truncating, with
 * errors of a few units in the 125th bit. Fixed-point values called "fixed" have 124 fraction bits. */
#ifndef STELE_X87_REAL_H
#define STELE_X87_REAL_H

#include "x87/float.h"

#define X87_WIDE(high, low) ((X87Wide)UINT64_C(high) << 64 | UINT64_C(low))

/* significand * 2^(exponent - 127), the significand's highest bit set; or zero. */
typedef struct Real {
  X87Wide significand;
  int32_t exponent;
} Real;

enum { FIXED_BITS = 124 };

static inline X87Wide wide_multiply_high(X87Wide a, X87Wide b) {
  uint64_t ah = (uint64_t)(a >> 64), al = (uint64_t)a, bh = (uint64_t)(b >> 64), bl = (uint64_t)b;
  X87Wide middle1 = (X87Wide)ah * bl, middle2 = (X87Wide)al * bh;
  uint64_t low = (uint64_t)((X87Wide)al * bl >> 64);
  X87Wide carry = (X87Wide)(uint64_t)middle1 + (uint64_t)middle2 + low;
  return (X87Wide)ah * bh + (middle1 >> 64) + (middle2 >> 64) + (carry >> 64);
}

/* Product of fixed values below 16, the result below 16. */
static inline X87Wide fixed_multiply(X87Wide a, X87Wide b) {
  return wide_multiply_high(a, b) << (128 - FIXED_BITS);
}

static inline unsigned wide_zeros(X87Wide a) { /* a is not zero */
  uint64_t high = (uint64_t)(a >> 64);
  return (unsigned)(high ? __builtin_clzll(high) : 64 + __builtin_clzll((uint64_t)a));
}

/* significand * 2^(exponent - 127) for any significand. */
static inline Real real_normalise(X87Wide significand, int32_t exponent) {
  if (!significand) return (Real){0, 0};
  unsigned zeros = wide_zeros(significand);
  return (Real){significand << zeros, exponent - (int32_t)zeros};
}

static inline Real real_from_fixed(X87Wide a) {
  return real_normalise(a, 127 - FIXED_BITS);
}

/* The value as fixed; it is below 16. */
static inline X87Wide real_to_fixed(Real a) {
  int32_t shift = 127 - FIXED_BITS - a.exponent;
  return shift < 128 ? a.significand >> shift : 0;
}

static inline Real real_multiply(Real a, Real b) {
  X87Wide product = wide_multiply_high(a.significand, b.significand);
  return real_normalise(product, a.exponent + b.exponent + 1);
}

/* The sum of positive values. */
static inline Real real_add(Real a, Real b) {
  if (!a.significand || (b.significand && a.exponent < b.exponent)) {
    Real t = a;
    a = b, b = t;
  }
  uint32_t distance = (uint32_t)(a.exponent - b.exponent) + 1;
  X87Wide small = b.significand && distance < 128 ? b.significand >> distance : 0;
  return real_normalise((a.significand >> 1) + small, a.exponent + 1);
}

/* a - b for a >= b >= 0. */
static inline Real real_subtract(Real a, Real b) {
  uint32_t distance = (uint32_t)(a.exponent - b.exponent);
  X87Wide small = b.significand && distance < 128 ? b.significand >> distance : 0;
  return real_normalise(a.significand - small, a.exponent);
}

Real real_divide(Real a, Real b);

/* c[0] - x c[1] + x^2 c[2] - …, or with all signs plus: fixed, x and the result below 16. */
X87Wide fixed_polynomial(const X87Wide *c, unsigned count, X87Wide x, bool alternating);

#endif
