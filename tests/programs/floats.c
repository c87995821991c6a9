/*
 * Floating point to the bit: rounding modes, exceptions flags, conversions at their limits, NaNs, denormals,
 * libm in double, and long double with its 64-bit significand.
 * Build: dynamic static, -lm -frounding-math -fno-builtin
 */
#include <fenv.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xmmintrin.h>

static const int modes[] = {FE_TONEAREST, FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};

static void rounding(void) {
  volatile double third = 3, one = 1, half = 2.5;
  volatile float f = 16777217.0f;
  volatile long double wide = 1, three = 3;
  for (int i = 0; i < 4; i++) {
    fesetround(modes[i]);
    printf("mode %d: %a %a %La %g %g %ld %d %a\n", fegetround() == modes[i], one / third, -one / third, wide / three,
           rint(half), nearbyint(-half), lrint(half), (int)half, (double)(f / 3));
  }
  fesetround(FE_TONEAREST);
}

static void exceptions(void) {
  volatile double zero = 0, one = 1, huge = 1e308, tiny = 1e-308, result;
  static const struct { const char *name; int flag;
  } flags[] = {{"invalid", FE_INVALID},
               {"divide", FE_DIVBYZERO},
               {"overflow", FE_OVERFLOW},
               {"underflow", FE_UNDERFLOW},
               {"inexact", FE_INEXACT}};
  for (int i = 0; i < 6; i++) {
    feclearexcept(FE_ALL_EXCEPT);
    switch (i) {
    case 0: result = zero / zero; break;
    case 1: result = one / zero; break;
    case 2: result = huge * huge; break;
    case 3: result = tiny * tiny; break;
    case 4: result = one / 3; break;
    case 5: result = sqrt(-one); break;
    }
    printf("%a:", result);
    for (size_t f = 0; f < sizeof flags / sizeof *flags; f++)
      if (fetestexcept(flags[f].flag)) printf(" %s", flags[f].name);
    printf("\n");
  }
}

static void conversions(void) {
  static const double values[] = {0,
                                  -0.0,
                                  0.5,
                                  -0.5,
                                  1.5,
                                  2147483647.0,
                                  2147483648.0,
                                  -2147483648.0,
                                  -2147483649.0,
                                  4294967295.0,
                                  4294967296.0,
                                  9223372036854774784.0,
                                  9223372036854775808.0,
                                  -9223372036854775808.0,
                                  18446744073709549568.0,
                                  1e300,
                                  -1e300,
                                  INFINITY,
                                  -INFINITY,
                                  NAN};
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    volatile double v = values[i];
    printf("%g: %d %ld %u %a %La\n", v, (int)v, (long)v, (unsigned)(long)v, (double)(float)v, (long double)v);
  }
  static const uint64_t integers[] = {
      0, 1, 0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, 0x20000000000001, 0xfffffffffffff7ff};
  for (size_t i = 0; i < sizeof integers / sizeof *integers; i++) {
    volatile uint64_t v = integers[i];
    printf("%lx: %a %a %a %La %La\n", v, (double)v, (double)(int64_t)v, (double)(float)v, (long double)v,
           (long double)(int64_t)v);
  }
}

static uint64_t bits(double d) {
  uint64_t u;
  memcpy(&u, &d, 8);
  return u;
}

static void not_numbers(void) {
  volatile double quiet, signalling, one = 1;
  uint64_t patterns[] = {0x7ff8000000001234, 0x7ff0000000005678, 0xfff8000000009abc, 0xfff000000000def0};
  for (int i = 0; i < 4; i++) {
    memcpy((void *)&quiet, &patterns[i], 8);
    memcpy((void *)&signalling, &patterns[(i + 1) % 4], 8);
    printf("%lx: +1 %lx 1- %lx both %lx *0 %lx float %lx sqrt %lx\n", patterns[i], bits(quiet + one), bits(one - quiet),
           bits(quiet + signalling), bits(quiet * 0), bits((double)(float)quiet), bits(sqrt(quiet)));
    printf("compare: %d %d %d %d\n", quiet < one, quiet == quiet, isunordered(quiet, one), quiet != signalling);
  }
  volatile double zero = 0, infinite = INFINITY;
  printf("made: %lx %lx %lx\n", bits(zero / zero), bits(infinite - infinite), bits(zero * infinite));
  printf("min, max: %lx %lx %lx\n", bits(fmin(quiet, one)), bits(fmax(one, quiet)), bits(fmin(-zero, zero)));
}

static void denormals(void) {
  volatile float tiny = 1e-40f, small = 1e-38f;
  unsigned before = _mm_getcsr();
  for (unsigned mode = 0; mode < 4; mode++) {
    if (mode == 1) continue; /* AArch64 without FEAT_AFP flushes operands whenever it flushes results */
    _mm_setcsr((before & ~0x807f) | (mode & 1 ? 0x8000 : 0) | (mode & 2 ? 0x40 : 0));
    volatile float sum = tiny + tiny, product = small * 0.01f, compared = tiny > 0;
    unsigned raised = mode & 2 ? _mm_getcsr() & 0x3f : 0; /* without FEAT_AFP denormal operands do not show */
    _mm_setcsr(before);
    printf("flush %d, zero %d: %a %a %g, raised %x\n", mode & 1, mode >> 1, sum, product, compared, raised);
  }
}

static void library(void) {
  static double (*const functions[])(double) = {sin,  cos,  tan,  exp, log,    log2,  exp2, sqrt,  cbrt,
                                                atan, sinh, tanh, erf, tgamma, floor, ceil, trunc, round};
  uint64_t hash = 0;
  for (size_t f = 0; f < sizeof functions / sizeof *functions; f++)
    for (double x = 0.001; x < 50; x *= 1.37) hash = hash * 31 + bits(functions[f](x));
  printf("libm: %lx\n", hash);
  printf("%a %a %a %a\n", pow(1.7, 33.3), fmod(1e17, 3.7), hypot(3e200, 4e200), atan2(-1, -2));
  int exponent;
  printf("%a %d %a %a\n", frexp(-1234.5, &exponent), exponent, ldexp(0.7, -1070), nextafter(1, 2));
}

static void wide(void) {
  volatile long double one = 1, ten = 10, sum = 0;
  for (int i = 1; i < 1000; i++) sum += one / i;
  printf("harmonic: %La\n", sum);
  printf("%La %La %La\n", sqrtl(2 * one), ten / 3 - 3, one + 0x1p-63L);
  printf("%La %La %La %La\n", floorl(-2.5L * one), rintl(3.5L * one), fmodl(ten, 3 * one), ldexpl(one, -16440));
  printf("%.25Lf %Lg %Le\n", ten / 7, 1e4000L * one, one / 1e4900L);
  printf("compare: %d %d %d\n", sum < ten, sum == sum, one / 3 > 0x1.5555555555555p-2L);
  char text[64];
  snprintf(text, sizeof text, "%.21Lg", strtold("3.14159265358979323846264338327950288", NULL));
  printf("%s %lld %d\n", text, llrintl(ten * 1e17L), (int)lroundl(-2.5L * one));
}

int main(void) {
  rounding();
  exceptions();
  conversions();
  not_numbers();
  denormals();
  library();
  wide();
  return 0;
}
