/* Unmasked floating-point exceptions: SIGFPE at the instruction that raises one, with its destination as it was, for
 * scalar, packed, converting and comparing instructions; masked ones beside them; other threads and children.
 *
 * Build: static dynamic, -lm -pthread
 */
#include <fenv.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>
#include <xmmintrin.h>

enum { IE = 1, ZE = 4, OE = 8, UE = 16, PE = 32, MASK = 7 };

static sigjmp_buf again;
static volatile int traps;

/* Where overflow or underflow has trapped, PE tells of a result that nobody gets; it is left out. */
static void print_trap(int code, const ucontext_t *context, const void *address) {
  const struct _libc_fpstate *state = context->uc_mcontext.fpregs;
  unsigned mxcsr = code == FPE_FLTOVF || code == FPE_FLTUND ? state->mxcsr & ~PE : state->mxcsr;
  printf("SIGFPE code %d, here %d, trap %lld, MXCSR %x, XMM0 %08x%08x, RAX %llx\n", code,
         address == (void *)context->uc_mcontext.gregs[REG_RIP], context->uc_mcontext.gregs[REG_TRAPNO], mxcsr,
         state->_xmm[0].element[1], state->_xmm[0].element[0], context->uc_mcontext.gregs[REG_RAX]);
}

static void handler(int signal, siginfo_t *info, void *context) {
  traps++;
  print_trap(info->si_code, context, info->si_addr);
  siglongjmp(again, 1);
}

/* One instruction with XMM0, XMM1 and RAX, and what it leaves. */
#define TRY(unmasked, instruction, first, second)                                                                      \
  do {                                                                                                                 \
    double x = first, y = second;                                                                                      \
    uint64_t low, rax = 0x1234;                                                                                        \
    printf("%s, %g, %g, unmasked %x: ", instruction, x, y, unmasked);                                                  \
    fflush(stdout);                                                                                                    \
    if (!sigsetjmp(again, 1)) {                                                                                        \
      _mm_setcsr(0x1f80 & ~((unmasked) << MASK));                                                                      \
      __asm__ volatile("movsd %2, %%xmm0\n movsd %3, %%xmm1\n" instruction "\n movq %%xmm0, %0"                        \
                       : "=r"(low), "+a"(rax)                                                                          \
                       : "m"(x), "m"(y)                                                                                \
                       : "xmm0", "xmm1", "cc");                                                                        \
      unsigned after = _mm_getcsr();                                                                                   \
      _mm_setcsr(0x1f80);                                                                                              \
      printf("%016lx %lx MXCSR %x\n", low, rax, after);                                                                \
    }                                                                                                                  \
    _mm_setcsr(0x1f80);                                                                                                \
  } while (0)

static void each(void) {
  static const double huge = 0x1p1000, tiny = 0x1p-1000;
  TRY(ZE, "divsd %%xmm1, %%xmm0", 1.0, 0.0);
  TRY(ZE, "divsd %%xmm1, %%xmm0", 0.0, 0.0);
  TRY(IE, "divsd %%xmm1, %%xmm0", 0.0, 0.0);
  TRY(IE | ZE | OE, "divsd %%xmm1, %%xmm0", 1.0, 3.0);
  TRY(PE, "divsd %%xmm1, %%xmm0", 1.0, 3.0);
  TRY(PE, "divsd %%xmm1, %%xmm0", 1.0, 4.0);
  TRY(OE, "mulsd %%xmm1, %%xmm0", huge, huge);
  TRY(UE, "mulsd %%xmm1, %%xmm0", tiny, tiny / 3);
  TRY(IE, "sqrtsd %%xmm1, %%xmm0", 5.0, -1.0);
  TRY(IE, "addsd %%xmm1, %%xmm0", INFINITY, -INFINITY);
  TRY(IE, "addsd %%xmm1, %%xmm0", NAN, 1.0);
  TRY(IE, "maxsd %%xmm1, %%xmm0", NAN, 1.0);
  TRY(IE, "cvtsd2si %%xmm1, %%eax", 1.0, 1e30);
  TRY(IE, "cvttsd2si %%xmm1, %%rax", 1.0, NAN);
  TRY(PE, "cvttsd2si %%xmm1, %%rax", 1.0, 2.5);
  TRY(PE, "cvtsi2ss %%eax, %%xmm0", 1.0, 2.5);
  TRY(OE, "cvtsd2ss %%xmm1, %%xmm0", 1.0, huge);
  TRY(IE, "ucomisd %%xmm1, %%xmm0", NAN, 1.0);
  TRY(IE, "comisd %%xmm1, %%xmm0", NAN, 1.0);
  TRY(IE, "cmpltsd %%xmm1, %%xmm0", NAN, 1.0);
  TRY(PE, "roundsd $0, %%xmm1, %%xmm0", 1.0, 2.5);
  TRY(PE, "roundsd $8, %%xmm1, %%xmm0", 1.0, 2.5);
  TRY(ZE, "divpd %%xmm1, %%xmm0", 1.0, 0.0);
  TRY(IE, "divpd %%xmm1, %%xmm0", 1.0, 2.0);
  TRY(IE, "cvttpd2dq %%xmm1, %%xmm0", 1.0, 1e30);
  TRY(IE, "haddpd %%xmm1, %%xmm0", 1.0, 2.0);
  TRY(ZE, "movsd %%xmm1, %%xmm0", 1.0, 0.0);
}

#define GO_ON(instruction)                                                                                             \
  __asm__ volatile("vmovups %1, %%ymm0\n vmovups %2, %%ymm1\n vmovups %3, %%ymm2\n vldmxcsr %4\n" instruction         \
                   "\n vldmxcsr %5\n vmovups %%ymm0, %0\n vzeroupper"                                                 \
                   : "=m"(result) : "m"(sum), "m"(first), "m"(second), "m"(unmasked), "m"(masked)                      \
                   : "xmm0", "xmm1", "xmm2", "memory");                                                                \
  printf("%s: %g %g %g %g\n", instruction, result[0], result[1], result[2], result[3])

static void mask_all(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info;
  ((ucontext_t *)context)->uc_mcontext.fpregs->mxcsr |= 0x1f80;
}

/* An instruction whose destination is a source, too, is executed again once its exception is masked: all of it had to be
 * left as it was, whichever half raised it. */
static void executed_again(void) {
  if (!__builtin_cpu_supports("fma")) return;
  struct sigaction goes_on = {.sa_sigaction = mask_all, .sa_flags = SA_SIGINFO}, before;
  const unsigned unmasked = 0x1f80 & ~((IE | ZE | OE) << MASK), masked = 0x1f80;
  sigaction(SIGFPE, &goes_on, &before);
  for (unsigned lane = 0; lane < 4; lane++) {
    double sum[4] = {1, 2, 3, 4}, first[4] = {5, 6, 7, 8}, second[4] = {2, 3, 4, 5}, result[4];
    first[lane] = second[lane] = 0x1p1000;
    GO_ON("vfmadd231pd %%ymm2, %%ymm1, %%ymm0");
    GO_ON("vfnmadd213pd %%ymm2, %%ymm1, %%ymm0");
    GO_ON("vmulpd %%ymm1, %%ymm2, %%ymm0\n vaddpd %%ymm0, %%ymm0, %%ymm0");
    first[lane] = -INFINITY, sum[lane] = INFINITY;
    GO_ON("vaddpd %%ymm1, %%ymm0, %%ymm0\n vaddpd %%ymm2, %%ymm0, %%ymm0");
    GO_ON("vsubpd %%ymm2, %%ymm0, %%ymm0\n vaddpd %%xmm1, %%xmm0, %%xmm0\n vaddsd %%xmm2, %%xmm0, %%xmm0");
  }
  sigaction(SIGFPE, &before, NULL);
}

/* What was raised while it was masked does not trap later. */
static void earlier(void) {
  volatile double zero = 0, one = 1;
  volatile double quotient = one / zero;
  printf("earlier: %g, MXCSR %x\n", quotient, _mm_getcsr());
  if (!sigsetjmp(again, 1)) {
    _mm_setcsr(_mm_getcsr() & ~(ZE << MASK));
    quotient = one / (one + one);
    printf("went on with %g\n", quotient);
    quotient = one / zero;
    printf("no trap\n");
  }
  _mm_setcsr(0x1f80);
}

static void *masked_thread(void *argument) {
  volatile double zero = 0;
  double sum = 0;
  for (int i = 1; i < 1000; i++) sum += i / (zero + i);
  return sum == 999 && isinf(1 / zero) ? argument : NULL;
}

static void *unmasked_thread(void *argument) {
  feenableexcept(FE_DIVBYZERO);
  return masked_thread(argument);
}

static void last_handler(int signal) {
  static const char text[] = "in a thread\n";
  _exit(write(1, text, sizeof text - 1) == sizeof text - 1 ? 5 : 6);
}

static void threads(void) {
  pthread_t thread;
  void *fine;
  int status;
  if (pthread_create(&thread, NULL, masked_thread, (void *)&traps) || pthread_join(thread, &fine)) exit(1);
  printf("masked thread: %d\n", fine == (void *)&traps);
  fflush(stdout);
  if (!fork()) {
    signal(SIGFPE, last_handler);
    if (pthread_create(&thread, NULL, unmasked_thread, (void *)&traps)) _exit(1);
    pthread_join(thread, &fine);
    _exit(0);
  }
  wait(&status);
  printf("unmasked thread: %x\n", status);
  fflush(stdout);
  feenableexcept(FE_INVALID);
  if (!fork()) { /* and blocked: it ends by the signal */
    signal(SIGFPE, SIG_IGN);
    volatile double zero = 0;
    _exit(zero / zero > 1);
  }
  fedisableexcept(FE_ALL_EXCEPT);
  wait(&status);
  printf("ignored: %x\n", status & 0x7f);
}

/* A handler that masks in its context what has trapped: the instruction is executed again. */
static void repair(int signal, siginfo_t *info, void *context) {
  traps++;
  ((ucontext_t *)context)->uc_mcontext.fpregs->mxcsr |= 0x1f80;
}

static void unmask(int signal, siginfo_t *info, void *context) {
  ((ucontext_t *)context)->uc_mcontext.fpregs->mxcsr = 0x1f80 & ~(ZE << MASK);
}

static void contexts(void) {
  struct sigaction action = {.sa_sigaction = repair, .sa_flags = SA_SIGINFO};
  volatile double zero = 0, one = 1;
  sigaction(SIGFPE, &action, NULL);
  action.sa_sigaction = unmask;
  sigaction(SIGUSR1, &action, NULL);
  traps = 0;
  raise(SIGUSR1);
  double quotient = one / zero;
  printf("repaired: %g after %d\n", quotient, traps);
}

int main(int argc, char **argv) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  sigaction(SIGFPE, &action, NULL);
  contexts();
  sigaction(SIGFPE, &action, NULL);
  each();
  executed_again();
  earlier();
  threads();
  printf("%d traps\n", traps);
  return 0;
}
