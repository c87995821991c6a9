/* Returns from handlers with a context that the handler has changed: what is taken, what stays, what the kernel or the
 * processor refuses.
 *
 * Build: static dynamic
 */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <ucontext.h>
#include <unistd.h>

enum {
  CS = 0,
  SS = 3, /* of the four selectors in one word */
  FLAG_CF = 1,
  FLAG_DF = 0x400,
  FLAG_OF = 0x800,
  FLAG_NT = 0x4000,
  FLAG_AC = 0x40000,
  FLAG_ID = 0x200000,
  HEADER = 512 /* of the XSAVE area */
};

static void set_selector(ucontext_t *context, int which, uint16_t value) {
  memcpy((uint16_t *)&context->uc_mcontext.gregs[REG_CSGSFS] + which, &value, sizeof value);
}

static uint8_t *area(ucontext_t *context) {
  return (uint8_t *)context->uc_mcontext.fpregs;
}

static uint64_t *header(ucontext_t *context) {
  return (uint64_t *)(void *)(area(context) + HEADER);
}

static void set_flags(ucontext_t *context) {
  context->uc_mcontext.gregs[REG_EFL] |= FLAG_CF | FLAG_DF | FLAG_OF | FLAG_NT | FLAG_AC | FLAG_ID;
}
static void clear_flags(ucontext_t *context) {
  context->uc_mcontext.gregs[REG_EFL] = 0;
}
static void round_up(ucontext_t *context) {
  context->uc_mcontext.fpregs->mxcsr = 0x5fbf;
}
static void reserved_mxcsr(ucontext_t *context) {
  context->uc_mcontext.fpregs->mxcsr |= 0x10000;
}
static void no_state(ucontext_t *context) {
  context->uc_mcontext.fpregs = NULL;
}
static void state_unmapped(ucontext_t *context) {
  context->uc_mcontext.fpregs = (void *)0x1000;
}
static void state_misaligned(ucontext_t *context) {
  context->uc_mcontext.fpregs = (void *)(area(context) + 1);
}
static void no_code_segment(ucontext_t *context) {
  set_selector(context, CS, 0);
}
static void data_as_code(ucontext_t *context) {
  set_selector(context, CS, 0x2b);
}
static void no_stack_segment(ucontext_t *context) {
  set_selector(context, SS, 0);
}
static void code_as_stack(ucontext_t *context) {
  set_selector(context, SS, 0x33);
}
static void stack_segment_any(ucontext_t *context) {
  context->uc_flags = 0; /* a frame that does not tell of SS */
  set_selector(context, SS, 0);
}
static void unknown_components(ucontext_t *context) {
  header(context)[0] = ~UINT64_C(0);
}
static void compacted(ucontext_t *context) {
  header(context)[1] = UINT64_C(1) << 63;
}
static void nowhere(ucontext_t *context) {
  context->uc_mcontext.gregs[REG_RIP] = 0x1234;
}
static void not_canonical(ucontext_t *context) {
  context->uc_mcontext.gregs[REG_RIP] = INT64_MIN;
}

/* `needs_xsave`: what it changes is there only where CPUID offers XSAVE. */
static const struct {
  const char *name;
  void (*change)(ucontext_t *context);
  int needs_xsave;
} cases[] = {
    {"flags set", set_flags, 0},
    {"flags cleared", clear_flags, 0},
    {"MXCSR", round_up, 0},
    {"reserved bits of MXCSR", reserved_mxcsr, 0},
    {"no state", no_state, 0},
    {"state unmapped", state_unmapped, 0},
    {"state misaligned", state_misaligned, 0},
    {"no CS", no_code_segment, 0},
    {"data as CS", data_as_code, 0},
    {"no SS", no_stack_segment, 0},
    {"code as SS", code_as_stack, 0},
    {"any SS", stack_segment_any, 0},
    {"unknown components", unknown_components, 1},
    {"compacted", compacted, 1},
    {"nowhere", nowhere, 0},
    {"not canonical", not_canonical, 0},
};

static void (*change)(ucontext_t *context);

static void handler(int signal, siginfo_t *info, void *context) {
  change(context);
}

static void refused(int signal, siginfo_t *info, void *context) {
  const greg_t *registers = ((ucontext_t *)context)->uc_mcontext.gregs;
  greg_t rip = registers[REG_RIP];
  printf("refused: signal %d, code %d, address %lx, RIP %llx\n", signal, info->si_code, (long)info->si_addr,
         rip >= 0 && rip > 0x10000 ? 0 : rip);
  fflush(stdout);
  _exit(0);
}

static void try(void) {
  uint64_t flags;
  uint32_t mxcsr;
  double one = 1, xmm;
  __asm__ volatile("movsd %4, %%xmm3\n xor %%edx, %%edx\n stc\n syscall\n pushfq\n pop %0\n pushq $2\n popfq\n"
                   "stmxcsr %1\n ldmxcsr %5\n movsd %%xmm3, %2\n"
                   : "=&r"(flags), "=m"(mxcsr), "=m"(xmm)
                   : "a"(62L /* kill */), "m"(one), "m"((const uint32_t){0x1f80}), "D"((long)getpid()),
                     "S"((long)SIGUSR1)
                   : "rcx", "r11", "rdx", "xmm3", "memory", "cc");
  printf("flags %lx, MXCSR %x, XMM %g\n", flags, mxcsr, xmm);
}

static int has_xsave(void) {
  uint32_t a = 1, b, c = 0, d;
  __asm__ volatile("cpuid" : "+a"(a), "=b"(b), "+c"(c), "=d"(d));
  return c >> 27 & 1;
}

int main(void) {
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  sigaction(SIGUSR1, &action, NULL);
  action.sa_sigaction = refused;
  sigaction(SIGSEGV, &action, NULL);
  for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
    if (cases[i].needs_xsave && !has_xsave()) continue;
    printf("%s: ", cases[i].name);
    fflush(stdout);
    change = cases[i].change;
    if (!fork()) {
      try();
      fflush(stdout);
      _exit(0);
    }
    int status;
    wait(&status);
    if (status) printf("status %x\n", status);
  }
  return 0;
}
