/*
 * Divisions whose dividend is the accumulator extended, as compilers write them, and some that only look so: quotients,
 * remainders, and what a handler of SIGFPE finds in RAX and RDX.
 * Build: static
 * With: STELE_MEMORY_MODEL=auto; STELE_FLAGS=exact
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <ucontext.h>

static sigjmp_buf before;
static uint64_t rax, rdx;

static void on_error(int signal, siginfo_t *info, void *context) {
  ucontext_t *c = context;
  rax = (uint64_t)c->uc_mcontext.gregs[REG_RAX];
  rdx = (uint64_t)c->uc_mcontext.gregs[REG_RDX];
  siglongjmp(before, info->si_code);
}

#define DIVISION(name, extension, division, type)                                                                       \
  static void name(uint64_t a, uint64_t b) {                                                                            \
    uint64_t quotient = a, remainder = 0x1234567890abcdef;                                                              \
    int code = sigsetjmp(before, 1);                                                                                    \
    if (code) {                                                                                                         \
      printf(#name " %lx %lx: error %d, %lx %lx\n", a, b, code, rax, rdx);                                              \
      return;                                                                                                           \
    }                                                                                                                   \
    __asm__ volatile(extension "\n\t" division " %2"                                                                    \
                     : "+a"(quotient), "+d"(remainder) : "r"((type)b) : "rsi", "cc");                                    \
    printf(#name " %lx %lx: %lx %lx\n", a, b, quotient, remainder);                                                     \
  }

DIVISION(signed_words, "cdq", "idivl", int32_t)
DIVISION(signed_longs, "cqo", "idivq", int64_t)
DIVISION(unsigned_words, "xor %%edx, %%edx", "divl", uint32_t)
DIVISION(unsigned_longs, "xor %%edx, %%edx", "divq", uint64_t)
DIVISION(signed_shorts, "cwd", "idivw", int16_t)
DIVISION(accumulator_copied, "cdq; mov %%eax, %%eax", "idivl", int32_t)
DIVISION(accumulator_changed, "cdq; add $1, %%eax", "idivl", int32_t)
DIVISION(sign_moved, "cdq; mov %%edx, %%esi; add $1, %%eax; mov %%esi, %%edx", "idivl", int32_t)
DIVISION(sign_of_the_half, "cdq", "idivq", int64_t)
DIVISION(high_half, "mov $5, %%edx", "divq", uint64_t)
DIVISION(by_the_accumulator, "cdq; mov %%eax, %%eax; idivl %%eax; cdq", "idivl", int32_t)

int main(void) {
  static const uint64_t values[] = {0, 1, 2, 3, 7, 100, 0x7fff, 0x8000, 0xffff, 0x7fffffff, 0x80000000, 0xffffffff,
                                    12345678901, INT64_MAX, (uint64_t)INT64_MIN, (uint64_t)INT32_MIN, -1ul, -2ul, -100ul};
  static void (*const divisions[])(uint64_t, uint64_t) = {
      signed_words, signed_longs, unsigned_words, unsigned_longs, signed_shorts, accumulator_copied, accumulator_changed,
      sign_moved, sign_of_the_half, high_half, by_the_accumulator};
  enum { VALUES = sizeof values / sizeof *values, DIVISIONS = sizeof divisions / sizeof *divisions };
  struct sigaction action = {.sa_sigaction = on_error, .sa_flags = SA_SIGINFO};
  sigaction(SIGFPE, &action, NULL);
  for (int d = 0; d < DIVISIONS; d++)
    for (int a = 0; a < VALUES; a++)
      for (int b = 0; b < VALUES; b++) divisions[d](values[a], values[b]);
  return 0;
}
