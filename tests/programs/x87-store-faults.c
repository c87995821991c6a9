/* x87 stores that raise an exception which is not masked, to memory that is there, cannot be read, or can only be read: the
 * fault of the memory comes first, though no store would be made, and leaves everything as it was.
 * Build: static dynamic
 */
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { PAGE = 4096, INVALID = 0x01, OVERFLOW = 0x08, UNDERFLOW = 0x10, INEXACT = 0x20 };

typedef struct Value {
  uint64_t significand;
  uint16_t sign_exponent;
} __attribute__((packed)) Value;

static sigjmp_buf out;
static int signal_number;
static unsigned status_then, tags_then;

static void on_signal(int number, siginfo_t *info, void *context) {
  const struct _libc_fpstate *state = ((const ucontext_t *)context)->uc_mcontext.fpregs;
  (void)info;
  signal_number = number, status_then = state->swd, tags_then = state->ftw;
  siglongjmp(out, 1);
}

static void store(int form, void *to) {
  switch (form) {
  case 0: __asm__ volatile("fstps (%0)" : : "r"(to) : "memory"); break;
  case 1: __asm__ volatile("fstl (%0)" : : "r"(to) : "memory"); break;
  case 2: __asm__ volatile("fstpl (%0)" : : "r"(to) : "memory"); break;
  case 3: __asm__ volatile("fistps (%0)" : : "r"(to) : "memory"); break;
  case 4: __asm__ volatile("fistl (%0)" : : "r"(to) : "memory"); break;
  case 5: __asm__ volatile("fistpll (%0)" : : "r"(to) : "memory"); break;
  case 6: __asm__ volatile("fisttpl (%0)" : : "r"(to) : "memory"); break;
  case 7: __asm__ volatile("fbstp (%0)" : : "r"(to) : "memory"); break;
  default: __asm__ volatile("fstpt (%0)" : : "r"(to) : "memory");
  }
}

enum { FORMS = 9 };

/* One store of a value in an otherwise empty stack, or of no value, with one exception not masked. */
static void try_form(int form, uint8_t *to, Value value, int exception, bool empty) {
  uint16_t control = (uint16_t)(0x37f & ~exception);
  signal_number = 0, status_then = tags_then = 0;
  if (sigsetjmp(out, 1)) return;
  __asm__ volatile("fninit\n\tfldt %0\n\tfldcw %1" : : "m"(value), "m"(control));
  if (empty) __asm__ volatile("ffree %st(0)");
  store(form, to);
  __asm__ volatile("fwait");
}

static void try(const char *where, uint8_t *to, Value value, int exception, bool empty) {
  for (int form = 0; form < FORMS; form++) {
    try_form(form, to, value, exception, empty);
    __asm__ volatile("fninit");
    printf("%s %04x %02x form %d: signal %d, status %04x, tags %02x\n", where, value.sign_exponent, exception, form,
           signal_number, status_then, tags_then);
  }
}

int main(void) {
  static const Value values[] = {{UINT64_C(1) << 63, 0x8000}, {UINT64_C(1) << 63, 0x1000}, {UINT64_C(1) << 63, 0x7000},
                                 {UINT64_C(3) << 62, 0x7fff}, {UINT64_C(0xffffffffffffff01), 0x3fff}};
  static const int exceptions[] = {INVALID, OVERFLOW, UNDERFLOW, INEXACT};
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
  uint8_t *pages = mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED || mprotect(pages + PAGE, PAGE, PROT_NONE) || mprotect(pages + 2 * PAGE, PAGE, PROT_READ))
    return perror("memory"), 1;
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGFPE, &action, NULL);
  for (unsigned v = 0; v < sizeof values / sizeof *values; v++)
    for (unsigned e = 0; e < sizeof exceptions / sizeof *exceptions; e++) {
      try("there", pages, values[v], exceptions[e], false);
      try("missing", pages + PAGE, values[v], exceptions[e], false);
      try("read-only", pages + 2 * PAGE, values[v], exceptions[e], false);
      try("half there", pages + PAGE - 1, values[v], exceptions[e], false);
    }
  for (unsigned e = 0; e < sizeof exceptions / sizeof *exceptions; e++) {
    try("empty, missing", pages + PAGE, values[1], exceptions[e], true);
    try("empty, read-only", pages + 2 * PAGE, values[1], exceptions[e], true);
  }
  return 0;
}
