/*
 * The bench's loops for 256-bit vectors: kernels-v3 NAME ROUNDS. Compiled with -O3, for x86-64-v3 on one side and for
 * AArch64's 128-bit vectors on the other; each prints a checksum, so that every run is compared.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* --- integers: sums of differences, a blend of two pictures, a histogram's thresholds ---------------------- */

static uint32_t differences(const uint8_t *a, const uint8_t *b, int n) {
  uint32_t sum = 0;
  for (int i = 0; i < n; i++) sum += (uint32_t)abs(a[i] - b[i]);
  return sum;
}

static void blend(uint8_t *restrict d, const uint8_t *restrict a, const uint8_t *restrict b, int n, int weight) {
  for (int i = 0; i < n; i++) d[i] = (uint8_t)((a[i] * weight + b[i] * (64 - weight) + 32) >> 6);
}

static void mix(uint32_t *restrict d, const uint32_t *restrict a, int n, uint32_t key) {
  for (int i = 0; i < n; i++) {
    uint32_t x = a[i] ^ key;
    x = (x << 7 | x >> 25) + d[i];
    x ^= x >> 13;
    d[i] = x > key ? x - key : x;
  }
}

static uint64_t integers(long rounds) {
  static uint8_t a[4096], b[4096], c[4096];
  static uint32_t u[1024], v[1024];
  uint64_t sum = 0;
  for (int i = 0; i < 4096; i++) a[i] = (uint8_t)(i * 7), b[i] = (uint8_t)(i * i >> 3);
  for (int i = 0; i < 1024; i++) u[i] = (uint32_t)i * 2654435761u;
  for (long r = 0; r < rounds; r++) {
    sum += differences(a, b, 4096);
    blend(c, a, b, 4096, (int)(r & 63));
    mix(v, u, 1024, (uint32_t)sum);
    a[r & 4095] ^= c[r * 5 & 4095], u[r & 1023] ^= v[r * 3 & 1023];
  }
  return sum ^ v[17];
}

/* --- fused multiplication and addition: small matrices, a filter, a polynomial ------------------------------ */

static void matrices(float *restrict c, const float *restrict a, const float *restrict b, int n) {
  for (int i = 0; i < n; i++)
    for (int k = 0; k < n; k++)
      for (int j = 0; j < n; j++) c[i * n + j] = __builtin_fmaf(a[i * n + k], b[k * n + j], c[i * n + j]);
}

static void filter(double *restrict d, const double *restrict s, const double *taps, int n) {
  for (int i = 0; i < n; i++) {
    double sum = 0;
    for (int k = 0; k < 8; k++) sum = __builtin_fma(taps[k], s[i + k], sum);
    d[i] = sum;
  }
}

static double fused(long rounds) {
  static float a[64 * 64], b[64 * 64], c[64 * 64];
  static double s[1032], d[1024], taps[8] = {0.1, -0.2, 0.3, 0.4, 0.3, -0.2, 0.1, 0.05};
  for (int i = 0; i < 64 * 64; i++) a[i] = 1.0f / (i + 1), b[i] = (float)(i % 17) - 8.0f;
  for (int i = 0; i < 1032; i++) s[i] = (double)(i % 31) * 0.125;
  for (long r = 0; r < rounds; r++) {
    matrices(c, a, b, 64);
    filter(d, s, taps, 1024);
    for (int i = 0; i < 1024; i++) s[i] = __builtin_fma(d[i], 0.5, s[i] * 0.25);
    for (int i = 0; i < 64 * 64; i++) c[i] *= 0.125f;
  }
  double sum = 0;
  for (int i = 0; i < 64; i++) sum += c[i * 65] + d[i];
  return sum;
}

/* --- text: what the C library does with 256 bits where it may ----------------------------------------------- */

static uint64_t text(long rounds) {
  enum { LINES = 256, LONGEST = 400 };
  static char lines[LINES][LONGEST + 1], copy[LINES * (LONGEST + 1)];
  uint64_t sum = 0;
  for (int i = 0; i < LINES; i++)
    for (int k = 0, length = 3 + i * 37 % (LONGEST - 3); k < length; k++) lines[i][k] = (char)('a' + (i * k + k) % 23);
  for (long r = 0; r < rounds; r++) {
    char *at = copy;
    for (int i = 0; i < LINES; i++) {
      size_t length = strlen(lines[i]);
      memcpy(at, lines[i], length + 1);
      sum += (strchr(at, 'w') != NULL) + (memchr(at, 'q' + (int)(r & 1), length) != NULL);
      sum += (uint64_t)(strcmp(at, lines[i]) == 0) + (strrchr(at, 'c') != NULL);
      at += length + 1;
    }
    lines[r & (LINES - 1)][0] ^= 1;
    sum += (uint64_t)(memcmp(copy, lines, 64) > 0);
  }
  return sum;
}

/* --- fractal: points that escape become infinite and then NaNs while others beside them go on -------------- */

typedef double Doubles __attribute__((vector_size(32)));
typedef int64_t Mask __attribute__((vector_size(32)));

static int64_t fractal(long rounds) {
  Mask sum = {0};
  for (long r = 0; r < rounds; r++) {
    double y0 = (double)(r % 37) * 0.06 - 1.1;
    for (int i = 0; i < 16; i++) {
      Doubles cx = {i * 0.18 - 2.0, i * 0.15 - 1.6, i * 0.11 - 1.1, i * 0.07 - 0.7}, cy = {y0, y0, y0, y0}, x = cx, y = cy;
      Mask steps = {0};
      for (int k = 0; k < 40; k++) {
        Doubles xx = x * x, yy = y * y, xy = x * y;
        steps -= xx + yy <= 4.0;
        x = xx - yy + cx;
        y = xy + xy + cy;
      }
      sum += steps;
    }
  }
  return sum[0] + sum[1] * 3 + sum[2] * 5 + sum[3] * 7;
}

/* --- transform: points by a matrix of 4 x 4, a lane at a time to all lanes ---------------------------------- */

typedef float Floats __attribute__((vector_size(16)));
typedef int32_t Lanes __attribute__((vector_size(16)));

static double transform(long rounds) {
  enum { POINTS = 512 };
  static Floats points[POINTS], moved[POINTS];
  Floats m[4] = {{0.5f, 0.25f, -0.5f, 0}, {-0.25f, 0.5f, 0.125f, 0}, {0.375f, -0.125f, 0.5f, 0}, {1, 2, 3, 1}};
  for (int i = 0; i < POINTS; i++) points[i] = (Floats){(float)i, (float)(i * 3 % 101), (float)(i * 7 % 89), 1};
  for (long r = 0; r < rounds; r++) {
    for (int i = 0; i < POINTS; i++) {
      Floats p = points[i];
      moved[i] = __builtin_shuffle(p, (Lanes){0, 0, 0, 0}) * m[0] + __builtin_shuffle(p, (Lanes){1, 1, 1, 1}) * m[1] +
                 __builtin_shuffle(p, (Lanes){2, 2, 2, 2}) * m[2] + __builtin_shuffle(p, (Lanes){3, 3, 3, 3}) * m[3];
    }
    points[r & (POINTS - 1)] = moved[r * 5 & (POINTS - 1)];
  }
  double sum = 0;
  for (int i = 0; i < POINTS; i++) sum += moved[i][0] + moved[i][1] - moved[i][2];
  return sum;
}

/* --- letters: text to base 64, and back by tables: bytes by shuffles ----------------------------------------- */

typedef uint8_t Bytes __attribute__((vector_size(16)));
typedef uint16_t Words __attribute__((vector_size(16)));

static uint64_t letters(long rounds) {
  enum { GROUPS = 512 };
  static uint8_t text[GROUPS * 12 + 4];
  static Bytes made[GROUPS];
  const Bytes spread = {1, 0, 2, 1, 4, 3, 5, 4, 7, 6, 8, 7, 10, 9, 11, 10};
  const Bytes offsets = {71, 252, 252, 252, 252, 252, 252, 252, 252, 252, 252, 237, 240, 65, 0, 0};
  uint64_t sum = 0;
  for (int i = 0; i < GROUPS * 12 + 4; i++) text[i] = (uint8_t)(i * 31 + (i >> 4));
  for (long r = 0; r < rounds; r++) {
    for (int i = 0; i < GROUPS; i++) {
      Bytes in;
      memcpy(&in, text + 12 * i, sizeof in);
      Words w = (Words)__builtin_shuffle(in, spread);
      Words high = (w >> 10 & 0x003f) | (w << 4 & 0x3f00), low = (w >> 6 & 0x003f) | (w << 8 & 0x3f00);
      Bytes six = (Bytes)((Words)__builtin_shuffle((Bytes)high, (Bytes)low, (Bytes){0, 17, 2, 19, 4, 21, 6, 23, 8, 25, 10, 27, 12, 29, 14, 31}));
      Bytes kind = ((Bytes)(six >= 52) & (six - 51)) | ((Bytes)(six < 26) & 13);
      made[i] = six + __builtin_shuffle(offsets, kind);
    }
    text[r % (GROUPS * 12)] ^= made[r & (GROUPS - 1)][r & 15];
    for (int k = 0; k < 16; k++) sum = sum * 31 + made[r * 7 & (GROUPS - 1)][k];
  }
  return sum;
}

int main(int argc, char **argv) {
  const char *name = argc > 2 ? argv[1] : "";
  long rounds = argc > 2 ? atol(argv[2]) : 0;
  if (!strcmp(name, "integers")) printf("%llx\n", (unsigned long long)integers(rounds));
  else if (!strcmp(name, "fused")) printf("%.9g\n", fused(rounds));
  else if (!strcmp(name, "text")) printf("%llx\n", (unsigned long long)text(rounds));
  else if (!strcmp(name, "fractal")) printf("%lld\n", (long long)fractal(rounds));
  else if (!strcmp(name, "transform")) printf("%.9g\n", transform(rounds));
  else if (!strcmp(name, "letters")) printf("%llx\n", (unsigned long long)letters(rounds));
  else return fprintf(stderr, "usage: kernels-v3 integers|fused|text|fractal|transform|letters ROUNDS\n"), 2;
  return 0;
}
