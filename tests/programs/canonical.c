/*
 * Addresses that no page can have (Intel SDM volume 1, 3.3.7.1): as bases of FS and GS, of accesses relative to the stack
 * or not, and of cache lines.
 * Needs: fsgsbase
 * Build: static
 */
#include <asm/prctl.h>
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>
#include "limits.h"

static sigjmp_buf back;
static volatile uint64_t before, value;
static char alternate[65536];

static void on_fault(int signal, siginfo_t *info, void *context) {
  const greg_t *g = ((ucontext_t *)context)->uc_mcontext.gregs;
  printf("signal %d code %d, vector %d, error %x, address %lx, ", signal, info->si_code, (int)g[REG_TRAPNO],
         (unsigned)g[REG_ERR], (long)info->si_addr);
  printf("%d from the instruction\n", (int)(g[REG_RIP] - before));
  siglongjmp(back, 1);
}

/* Label 1 is what faults, behind `setup`, with `value` in RAX; RBP and RSP are put back. */
#define TRY_AFTER(setup, text)                                                                                    \
  do {                                                                                                            \
    printf("%s, %lx: ", text, value);                                                                             \
    if (!sigsetjmp(back, 1)) {                                                                                    \
      __asm__ volatile("mov %1, %%rax; lea 1f(%%rip), %%rcx; mov %%rcx, %0; mov %%rsp, %%rbx; mov %%rbp, %%r12;"   \
                       setup "; 1: " text "; mov %%rbx, %%rsp; mov %%r12, %%rbp"                                   \
                       : "=m"(before)                                                                             \
                       : "m"(value)                                                                               \
                       : "rax", "rbx", "rcx", "rdx", "rdi", "r12", "cc", "memory");                               \
      printf("fine\n");                                                                                           \
    }                                                                                                             \
  } while (0)
#define TRY(text) TRY_AFTER("", text)

static const uint64_t values[] = {
    0,
    0x12345000,
    UINT64_C(0x7fffffffe000),
    UINT64_C(0x7fffffffefff),
    UINT64_C(0x7ffffffff000),
    UINT64_C(0x7fffffffffff),
    UINT64_C(0x800000000000),
    UINT64_C(0x1234567812345678),
    UINT64_C(0xffff7fffffffffff),
    UINT64_C(0xffff800000000000),
    UINT64_C(0xffffffffffffffff),
};

static void bases(void) {
  int64_t gs = 0;
  printf("set gs %lx: %ld", value, syscall(SYS_arch_prctl, ARCH_SET_GS, value));
  printf(" errno %d", errno), errno = 0;
  syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
  printf(", is %lx\n", gs);
  TRY("wrgsbase %%rax; rdgsbase %%rdx");
  TRY("wrgsbase %%eax; rdgsbase %%rdx");
  TRY("rdfsbase %%rdx; wrfsbase %%rax; wrfsbase %%rdx");
  syscall(SYS_arch_prctl, ARCH_GET_GS, &gs);
  printf("now %lx\n", gs);
}

static void lines(void) {
  TRY("clflush (%%rax)");
  TRY("clflush (%%rax, %%rax)");
  TRY("prefetcht0 (%%rax)");
  TRY("prefetchw (%%rax)");
}

static void stacks(void) {
  TRY("mov -4096(%%rax), %%rdx");
  TRY("mov (%%rax), %%rdx");
  TRY("mov %%rdx, (%%rax)");
  TRY_AFTER("mov %%rax, %%rsp", "push %%rdx");
  TRY_AFTER("mov %%rax, %%rsp", "pop %%rdx");
  TRY_AFTER("mov %%rax, %%rsp", "call 2f; 2:");
  TRY_AFTER("mov %%rax, %%rsp", "ret");
  TRY_AFTER("mov %%rax, %%rsp", "pushf");
  TRY_AFTER("mov %%rax, %%rsp", "popf");
  TRY_AFTER("mov %%rax, %%rsp", "mov 8(%%rsp), %%rdx");
  TRY_AFTER("mov %%rax, %%rsp", "movups %%xmm0, 16(%%rsp)");
  TRY_AFTER("mov %%rax, %%rbp", "mov 16(%%rbp), %%rdx");
  TRY_AFTER("mov %%rax, %%rbp", "add %%edx, 16(%%rbp)");
  TRY_AFTER("mov %%rax, %%rbp; xor %%edx, %%edx", "mov (%%rdx, %%rbp), %%edx");
  TRY_AFTER("mov %%rax, %%rbp; xor %%edx, %%edx", "mov (%%rbp, %%rdx), %%edx");
  TRY_AFTER("mov %%rax, %%rbp", "leave");
  TRY_AFTER("mov %%rax, %%rbp", "mov %%ds:16(%%rbp), %%rdx");
  TRY_AFTER("mov %%rax, %%rbp", "lock incl (%%rbp)");
  TRY_AFTER("mov %%rax, %%rbp; xor %%edx, %%edx", "lock cmpxchg16b (%%rbp)");
  TRY_AFTER("mov %%rax, %%rbp", "fildl (%%rbp)");
  TRY_AFTER("mov %%rax, %%rdi", "pushq (%%rdi)");
  TRY_AFTER("mov %%rax, %%rdi", "stosb");
}

int main(void) {
  stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  setvbuf(stdout, NULL, _IOLBF, 0);
  sigaltstack(&stack, NULL);
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
    value = values[i];
    bases();
  }
  value = 0;
  lines();
  value = (uint64_t)&action;
  printf("clflush: ");
  __asm__ volatile("clflush (%0)" : : "r"(value) : "memory");
  printf("fine\n");
  for (size_t i = 6; i < 9 && !under_qemu_user(); i++) {
    value = values[i];
    lines();
    value = values[i];
    stacks();
  }
  return 0;
}
