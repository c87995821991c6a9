/*
 * What a handler finds in its frame's flags, vector and error code: RF is set by faults alone (SDM volume 3, 17.3.1.1),
 * not by traps and not in frames of other signals.
 * Build: static dynamic
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

static sigjmp_buf back;
static volatile uint64_t before;

static void on_signal(int signal, siginfo_t *info, void *context) {
  const greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  uint64_t now;
  __asm__ volatile("pushf; pop %0" : "=r"(now));
  printf("signal %d code %d, flags %lx, offset %d, vector %d, error %x; in the handler %lx\n", signal, info->si_code,
         (long)g[REG_EFL] & 0x10f00, before ? (int)(g[REG_RIP] - before) : 0, before ? (int)g[REG_TRAPNO] : 0,
         before ? (unsigned)g[REG_ERR] : 0, now & 0x10500);
  if (before) siglongjmp(back, 1);
}

/* Label 1 is what faults. */
#define FAULT(text)                                                                                           \
  do {                                                                                                        \
    printf("%s: ", text);                                                                                     \
    if (!sigsetjmp(back, 1))                                                                                  \
      __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, %0; xor %%eax, %%eax; xor %%edx, %%edx; 1: " text     \
                       : "=m"(before)                                                                         \
                       : "m"(page[0]), "m"(control)                                                           \
                       : "rax", "rcx", "rdx", "cc", "memory");                                                \
    __asm__ volatile("cld; fninit");                                                                          \
  } while (0)

int main(void) {
  static const int signals[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGTRAP, SIGUSR1};
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO};
  static char *page, control_word[2] = {0x7b, 3};
  uint16_t control = (uint16_t)(control_word[0] | control_word[1] << 8);
  setvbuf(stdout, NULL, _IOLBF, 0);
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) sigaction(signals[i], &action, NULL);
  page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  (void)*(volatile char *)page; /* present from now on */
  raise(SIGUSR1);
  kill(getpid(), SIGUSR1);
  FAULT("mov (%%rax), %%rcx");
  FAULT("mov %%rcx, (%%rax)");
  FAULT("movb $1, %1");
  FAULT("std; mov (%%rax), %%rcx");
  FAULT("ud2");
  FAULT("div %%eax");
  FAULT("hlt");
  FAULT("int3");
  FAULT("int $3");
  FAULT("int $4");
  FAULT("int $0x0d");
  FAULT("int $0x81");
  FAULT("int $0xff");
  FAULT("mov %%rax, %%cr0");
  FAULT("fldcw %2; fldz; fld1; fdivp; fwait");
  before = 0;
  raise(SIGUSR1);
  return 0;
}
