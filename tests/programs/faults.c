/*
 * Faults seen precisely: a handler finds the instruction, the registers and the reason, repairs them and goes
 * on, or jumps out. Addresses are printed relative to labels, so that they do not depend on the load address.
 * Build: dynamic static nopie
 */
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include "limits.h"

static struct {
  int signal, code;
  uintptr_t address, rip;
  greg_t rax, rcx, rdx, trap, error, flags;
  uint64_t xmm0[2];
} last;
static volatile uintptr_t resume_at;
static sigjmp_buf out;
static char *volatile repair_page;

static void on_fault(int signal, siginfo_t *info, void *context) {
  ucontext_t *uc = context;
  greg_t *regs = uc->uc_mcontext.gregs;
  last.signal = signal, last.code = info->si_code, last.address = (uintptr_t)info->si_addr;
  last.rip = regs[REG_RIP], last.rax = regs[REG_RAX], last.rcx = regs[REG_RCX], last.rdx = regs[REG_RDX];
  last.trap = regs[REG_TRAPNO], last.error = regs[REG_ERR], last.flags = regs[REG_EFL] & 0x8d5;
  memcpy(last.xmm0, &uc->uc_mcontext.fpregs->_xmm[0], 16);
  if (repair_page) {
    mprotect(repair_page, 4096, PROT_READ | PROT_WRITE);
    repair_page = NULL;
  } else if (resume_at) {
    regs[REG_RIP] = resume_at;
    regs[REG_RBX] = 0x1234567890; /* the program must see what the handler writes */
    uc->uc_mcontext.fpregs->_xmm[1].element[0] = 0xabcdef;
    resume_at = 0;
  } else {
    siglongjmp(out, signal);
  }
}

/* Runs an instruction that faults with known registers around it, and prints what the handler saw. */
#define FAULT(name, instruction, ...)                                                              \
  do {                                                                                             \
    uintptr_t at, next;                                                                            \
    uint64_t rbx = 0, rax = 0x1111, rcx = 0x2222, rdx = 0, xmm1 = 0;                               \
    memset(&last, 0, sizeof last);                                                                 \
    __asm__ volatile("lea 1f(%%rip), %0\n lea 2f(%%rip), %1\n mov %1, %7\n"                        \
                     "mov $0x77, %%r8d\n movq %%r8, %%xmm0\n pxor %%xmm1, %%xmm1\n"                \
                     "mov $0x4444, %%r9d\n xor %%r10d, %%r10d\n stc\n" __VA_ARGS__                  \
                     "\n1: " instruction "\n nop\n 2: movq %%xmm1, %6"                             \
                     : "=&r"(at), "=&r"(next), "+b"(rbx), "+a"(rax), "+c"(rcx), "+d"(rdx),         \
                       "=&r"(xmm1), "=m"(resume_at)                                                \
                     :                                                                             \
                     : "rsi", "rdi", "r8", "r9", "r10", "xmm0", "xmm1", "cc", "memory");                         \
    printf("%-14s signal %d code %d, at %+ld, address %lx, rax %llx rcx %llx rdx %llx, trap %lld "  \
           "error %lld, xmm0 %lx; after: rbx %lx, xmm1 %lx\n",                                     \
           name, last.signal, last.code, (long)(last.rip - at), last.address == at ? 1 : last.address, \
           last.rax, last.rcx, last.rdx, last.trap, last.error, last.xmm0[0], rbx, xmm1);          \
  } while (0)

static void instructions(void) {
  FAULT("load", "mov (%%r10), %%rax");
  FAULT("store", "mov %%rax, 64(%%r10)");
  FAULT("modify", "addl $5, 16(%%r10)");
  FAULT("vector load", "movups 32(%%r10), %%xmm0");
  FAULT("string", "rep movsb", "mov $64, %%esi; mov $128, %%edi; mov $3, %%ecx;");
  FAULT("divide", "div %%r10");
  FAULT("divide 32", "idiv %%r10d");
  FAULT("overflow", "idiv %%r10", "mov $1, %%r10; mov $5, %%edx;");
  FAULT("undefined", "ud2");
  FAULT("breakpoint", "int3");
  FAULT("privileged", "hlt");
  FAULT("port", "in $0x60, %%al");
  if (!under_qemu_user()) FAULT("non-canonical", "mov (%%r10), %%rax", "mov $0x1234567812345678, %%r10;");
}

/* What flag instructions leave, seen by a handler although the program never looks: the flags are written again
 * right behind the fault. `undefined`: flags the manual leaves open. */
#define DEAD_FLAGS(code, undefined)                                                                  \
  do {                                                                                               \
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {                                      \
      last.flags = 0;                                                                                \
      __asm__ volatile("lea 2f(%%rip), %%rdx\n mov %%rdx, %0\n mov %1, %%rax\n mov %2, %%rdx\n"      \
                       "xor %%r8d, %%r8d\n lea 3f(%%rip), %%rdi\n jmp *%%rdi\n 3: cmp $1, %%r8\n " code \
                       "\n 1: mov %%rdi, (%%r8)\n 2: cmp %%rax, %%rax\n"                             \
                       : "=m"(resume_at)                                                             \
                       : "r"(pairs[i].a), "r"(pairs[i].b)                                            \
                       : "rax", "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "xmm1", "cc", "memory"); \
      printf("dead flags of %s with %lx, %lx: %llx\n", code, pairs[i].a, pairs[i].b, last.flags & ~(undefined)); \
    }                                                                                                \
  } while (0)

static void flags_at_fault(void) {
  enum { AF = 0x10 };
  static const struct { long a, b; } pairs[] = {
      {0, 1}, {5, 5}, {-1, 1}, {0x7fffffff, -1}, {0x7fff, 0x8001}, {-0x7fffffffffffffff - 1, 1}, {0x80, 0x7f}};
  DEAD_FLAGS("cmp %%edx, %%eax", 0);
  DEAD_FLAGS("cmp %%rdx, %%rax\n mov %%rax, %%rcx\n lea 8(%%rdx), %%rdi", 0);
  DEAD_FLAGS("cmp $0x12, %%ax\n lea 4(%%rax), %%rax\n push %%rax\n pop %%rcx", 0);
  DEAD_FLAGS("sub %%rdx, %%rax\n jo 2f\n movzx %%al, %%ecx", 0);
  DEAD_FLAGS("sub %%edx, %%eax\n setc %%cl\n movups %%xmm1, %%xmm1", 0);
  DEAD_FLAGS("add %%dl, %%al\n mov %%rax, %%r9\n mov $3, %%eax", 0);
  DEAD_FLAGS("add %%rdx, %%rax\n dec %%rax", 0);
  DEAD_FLAGS("sub %%rax, %%rax\n mov %%rdx, %%rax", 0);
  DEAD_FLAGS("xor %%eax, %%eax\n mov %%rdx, %%rax", AF);
  DEAD_FLAGS("and %%rdx, %%rax", AF);
  DEAD_FLAGS("or $1, %%edx", AF);
  DEAD_FLAGS("test %%dx, %%ax", AF);
  DEAD_FLAGS("test %%rax, %%rax\n jns 4f\n jmp 2f\n 4: mov %%rdi, %%rcx", AF);
  DEAD_FLAGS("neg %%rax", 0);
  DEAD_FLAGS("stc\n inc %%eax", 1);
  DEAD_FLAGS("sar $1, %%rax", AF | 1);
  DEAD_FLAGS("shr $1, %%edx", AF | 1);
}

static void repairing(void) {
  volatile char *page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  for (int i = 0; i < 3; i++) {
    mprotect((void *)page, 4096, i == 1 ? PROT_NONE : PROT_READ);
    repair_page = (char *)page;
    page[i * 100]++;
    printf("repaired: value %d, fault at offset %ld, code %d, error %lld\n", page[i * 100],
           (long)(last.address - (uintptr_t)page), last.code, last.error);
  }
  munmap((void *)page, 4096);
}

static void jumping_out(void) {
  void (*volatile nowhere)(void) = NULL;
  for (volatile int i = 0; i < 3; i++) {
    int signal = sigsetjmp(out, 1);
    if (signal == 0) nowhere();
    printf("call of null: signal %d, at %lx, address %lx\n", signal, last.rip, last.address);
  }
}

static void not_executable(void) {
  static void *page;
  page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memset(page, 0xc3, 16);
  if (sigsetjmp(out, 1) == 0) ((void (*)(void))page)();
  printf("not executable: signal %d code %d, at +%ld\n", last.signal, last.code, (long)(last.rip - (uintptr_t)page));
  mprotect(page, 4096, PROT_READ | PROT_EXEC);
  ((void (*)(void))page)();
  printf("executable\n");
}

static void bus_error(void) {
  char name[] = "/tmp/stele-faults-XXXXXX";
  int fd = mkstemp(name);
  unlink(name);
  if (ftruncate(fd, 8192)) return;
  volatile char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  map[5000] = 1;
  if (ftruncate(fd, 4096)) return;
  if (sigsetjmp(out, 1) == 0) map[5000] = 2;
  printf("beyond the file: signal %d code %d, offset %ld\n", last.signal, last.code,
         (long)(last.address - (uintptr_t)map));
}

/* An instruction behind the end of a mapped file, and one that goes on there. */
static void no_code(void) {
  int fd = memfd_create("code", 0);
  if (ftruncate(fd, 4096)) return;
  char *map = mmap(NULL, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0);
  static const char cut[] = {0x48, (char)0xb8, 1, 2};
  if (pwrite(fd, cut, sizeof cut, 4096 - sizeof cut) != sizeof cut) return;
  for (volatile int i = 0; i < 2; i++) {
    if (sigsetjmp(out, 1) == 0) ((void (*)(void))(map + 4096 - i * sizeof cut))();
    printf("code beyond the file: signal %d code %d, offset %ld, at %ld, error %lld\n", last.signal, last.code,
           (long)(last.address - (uintptr_t)map), (long)(last.rip - (uintptr_t)map), last.error);
  }
}

static volatile int stack_depth, stack_limit = -1;
static int overflow(int n) {
  volatile char frame[1000];
  frame[n % 1000] = n;
  stack_depth = n;
  return n == stack_limit ? 0 : overflow(n + 1) + frame[(n + 1) % 1000];
}

static void stack_overflow(void) {
  if (sigsetjmp(out, 1) == 0) overflow(0);
  printf("stack overflow: signal %d, deep %d\n", last.signal, stack_depth > 5000);
}

int main(void) {
  setvbuf(stdout, NULL, _IOLBF, 0);
  static const int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP};
  stack_t stack = {.ss_sp = malloc(65536), .ss_size = 65536};
  sigaltstack(&stack, NULL);
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
    struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigaction(signals[i], &action, NULL);
  }
  instructions();
  flags_at_fault();
  repairing();
  jumping_out();
  not_executable();
  bus_error();
  no_code();
  stack_overflow();
  return 0;
}
