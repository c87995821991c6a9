/*
 * x87 to the bit: arithmetic on millions of random operands in every precision and rounding mode, saved and
 * restored states, and unmasked exceptions with the state their handler sees.
 * Build: static dynamic, -lm
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <ucontext.h>

static uint64_t seed = 0x9e3779b97f4a7c15;

static uint64_t next_random(void) {
  seed ^= seed >> 12;
  seed ^= seed << 25;
  seed ^= seed >> 27;
  return seed * UINT64_C(2685821657736338717);
}

/* Mostly normal values of close exponents, so that sums overlap; significands with long runs. */
static long double random_value(void) {
  union {
    struct {
      uint64_t significand;
      uint16_t sign_exponent;
    } p;
    long double value;
  } u = {0};
  uint64_t r = next_random(), kind = next_random() >> 60;
  int exponent = 16383 + (int)(r % 150) - 75;
  if (kind == 0) exponent = (int)(r >> 20 & 0x7fff);
  if (kind < 4) exponent = 16383 + (int)(r % 5) - 2;
  u.p.significand = next_random() | UINT64_C(1) << 63;
  if (kind > 10) u.p.significand &= -(UINT64_C(1) << (r >> 32 & 63)) | UINT64_C(1) << 63;
  if (kind == 5) u.p.significand |= ~UINT64_C(0) >> (r >> 40 & 63);
  if (exponent == 0 || exponent == 0x7fff)
    u.p.significand = UINT64_C(3) << 62; /* no signalling NaN to be changed on the way */
  u.p.sign_exponent = (uint16_t)(exponent | (int)(r >> 63) << 15);
  return u.value;
}

static uint64_t hash;

static void note(const void *bytes, size_t size) {
  for (size_t i = 0; i < size; i++) hash = (hash ^ ((const uint8_t *)bytes)[i]) * UINT64_C(1099511628211);
}

/* One operation on fresh operands, its result and status word noted. */
#define OPERATION(text)                                                                                       \
  do {                                                                                                        \
    long double a = random_value(), b = random_value(), result;                                               \
    uint16_t status;                                                                                          \
    __asm__ volatile("fnclex\n\tfldt %[b]\n\tfldt %[a]\n\t" text "\n\tfnstsw %[s]\n\tfstpt %[r]\n\tfstp %%st" \
                     : [r] "=m"(result), [s] "=m"(status)                                                     \
                     : [a] "m"(a), [b] "m"(b)                                                                 \
                     : "cc");                                                                                 \
    note(&result, 10);                                                                                        \
    note(&status, 2);                                                                                         \
  } while (0)

/* The same with a float or double operand, and stores of both. */
#define MEMORY_OPERATION(text, type)                                                                          \
  do {                                                                                                        \
    long double a = random_value(), result;                                                                   \
    volatile type b = (type)random_value(), rounded;                                                          \
    uint16_t status;                                                                                          \
    __asm__ volatile("fnclex\n\tfldt %[a]\n\t" text " %[b]\n\tfnstsw %[s]\n\tfstpt %[r]"                      \
                     : [r] "=m"(result), [s] "=m"(status)                                                     \
                     : [a] "m"(a), [b] "m"(b));                                                               \
    rounded = (type)result;                                                                                   \
    note(&result, 10);                                                                                        \
    note(&status, 2);                                                                                         \
    note((const void *)&rounded, sizeof rounded);                                                             \
  } while (0)

static void operations(int count) {
  for (int i = 0; i < count; i++) {
    OPERATION("fadd %%st(1), %%st");
    OPERATION("fsub %%st(1), %%st");
    OPERATION("fsubr %%st(1), %%st");
    OPERATION("fmul %%st(1), %%st");
    OPERATION("fdiv %%st(1), %%st");
    OPERATION("fdivr %%st(1), %%st");
    OPERATION("fcom %%st(1)");
    OPERATION("fprem");
    OPERATION("fsqrt");
    MEMORY_OPERATION("fadds", float);
    MEMORY_OPERATION("fsubrs", float);
    MEMORY_OPERATION("fdivs", float);
    MEMORY_OPERATION("faddl", double);
    MEMORY_OPERATION("fsubl", double);
    MEMORY_OPERATION("fmull", double);
    MEMORY_OPERATION("fdivrl", double);
  }
}

static void comparisons(int count) {
  int sums[4] = {0};
  for (int i = 0; i < count; i++) {
    volatile long double a = random_value(), b = i % 4 ? random_value() : a;
    sums[0] += a < b, sums[1] += a <= b, sums[2] += a == b, sums[3] += __builtin_isunordered(a, b);
  }
  printf("below %d, not above %d, equal %d, unordered %d\n", sums[0], sums[1], sums[2], sums[3]);
}

static void all_modes(void) {
  for (unsigned precision = 0; precision < 4; precision++)
    for (unsigned rounding = 0; rounding < 4; rounding++) {
      uint16_t control = (uint16_t)(0x7f | precision << 8 | rounding << 10), usual = 0x37f;
      if (precision == 1) continue;
      hash = 0xcbf29ce484222325;
      __asm__ volatile("fldcw %0" : : "m"(control));
      operations(precision == 3 && rounding == 0 ? 20000 : 2000);
      __asm__ volatile("fldcw %0" : : "m"(usual));
      printf("control %04x: %016llx\n", control, (unsigned long long)hash);
    }
}

typedef struct Saved {
  uint32_t environment[7];
  uint8_t st[80];
} __attribute__((packed)) Saved;

static void print_bytes(const char *name, const void *bytes, size_t size) {
  printf("%s", name);
  for (size_t i = 0; i < size; i++) printf(" %02x", ((const uint8_t *)bytes)[i]);
  printf("\n");
}

/* Instruction and data pointers apart, which name addresses. */
static void print_saved(const char *name, Saved *s) {
  memset(&s->environment[3], 0, 16);
  print_bytes(name, s, sizeof *s);
}

static void states(void) {
  static Saved first, second;
  static uint8_t image[2][512] __attribute__((aligned(16)));
  __asm__ volatile("fninit; fld1; fldpi; fldl2e; fnsave %0" : "=m"(first));
  __asm__ volatile("frstor %0; fincstp; fld1; ffree %%st(3); fnsave %1" : : "m"(first), "m"(second) : "memory");
  print_saved("saved", &first);
  print_saved("again", &second);
  __asm__ volatile("fninit; fld1; fldpi; fchs; fxsave64 %0; fninit; fldz; fxrstor64 %0; fadd %%st(1),%%st; fxsave64 %1;"
                   "fninit" : "=m"(image[0]), "=m"(image[1]));
  for (int i = 0; i < 2; i++) {
    print_bytes("image", image[i], 5);
    print_bytes("registers", image[i] + 32, 128);
  }
}

static sigjmp_buf back;

static void on_fpe(int signal, siginfo_t *info, void *context) {
  const ucontext_t *u = context;
  printf("code %d, status %04x, stopped at what failed %d\n", info->si_code, u->uc_mcontext.fpregs->swd,
         (uint64_t)u->uc_mcontext.gregs[REG_RIP] == u->uc_mcontext.fpregs->rip);
  siglongjmp(back, 1);
}

#define UNMASKED(bits, text)                                                                                  \
  do {                                                                                                        \
    uint16_t control = 0x37f & ~(bits);                                                                       \
    if (!sigsetjmp(back, 1)) {                                                                                \
      __asm__ volatile("fninit; fldcw %0; " text : : "m"(control), "m"(huge), "m"(tiny), "m"(denormal));      \
      printf("%s: nothing\n", text);                                                                          \
    }                                                                                                         \
    __asm__ volatile("fninit");                                                                               \
  } while (0)

static void exceptions(void) {
  static const long double huge = 0x1p16000L, tiny = 0x1p-16000L, denormal = 0x1p-16440L;
  struct sigaction action = {.sa_sigaction = on_fpe, .sa_flags = SA_SIGINFO};
  sigaction(SIGFPE, &action, NULL);
  UNMASKED(4, "fldz; fld1; fdivp; fwait");
  UNMASKED(4, "fld1; fldz; fdivp; fwait");
  UNMASKED(1, "fldz; fldz; fdivp; fld1");
  UNMASKED(1, "fadd %%st(1), %%st; fwait");
  UNMASKED(32, "fldpi; fld1; fdivp; fstp %%st");
  UNMASKED(8, "fldt %1; fmul %%st, %%st; fstp %%st");
  UNMASKED(16, "fldt %2; fmul %%st, %%st; fabs");
  UNMASKED(2, "fldt %3; fadd %%st, %%st; fwait");
  UNMASKED(0, "fldz; fldz; fdivp; fwait");
}

int main(void) {
  all_modes();
  comparisons(20000);
  states();
  exceptions();
  return 0;
}
