/*
 * Code that changes what follows in it, by every kind of write: pushes, string instructions, locked and wide stores,
 * system calls; often enough for its page to be treated as data beside code. What follows is executed as it was written
 * (Intel SDM volume 3, 12.6). Instructions that reach into a page that changes or goes, code that unmaps or protects
 * itself, and signals on a stack beside the code that is executed.
 * Build: static
 * With: ; STELE_CODE_CACHE=1; STELE_MEMORY_MODEL=tso
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { PAGE = 4096, ROUNDS = 200, RWX = PROT_READ | PROT_WRITE | PROT_EXEC, NOP = 0x90, STRAY = 0xcc };

static sigjmp_buf back;

static void on_fault(int signal, siginfo_t *info, void *context) {
  siglongjmp(back, signal);
}

static uint8_t *pages(size_t count) {
  uint8_t *at = mmap(NULL, count * PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (at == MAP_FAILED) exit(1);
  return at;
}

/* mov $value, %eax; ret */
static void make_constant(uint8_t at[6], uint32_t value) {
  at[0] = 0xb8;
  memcpy(at + 1, &value, sizeof value);
  at[5] = 0xc3;
}

typedef int Function(void *, const void *, uint64_t, uint64_t);

/* -1: a fault. */
static __attribute__((noipa)) int call(const uint8_t *at, void *a, const void *b, uint64_t c, uint64_t d) {
  return sigsetjmp(back, 1) ? -1 : ((Function *)(uintptr_t)at)(a, b, c, d);
}

/* What writes 8 or 16 bytes over what follows it: RDI points behind them or at them, RSI at what is to be there, RDX
 * and RCX hold it. In 8 bytes there is mov $value, %eax and what puts RSP back from R8. */
typedef struct Writer {
  const char *name;
  uint8_t length, bytes[40];
  uint8_t behind; /* RDI points there rather than at the beginning */
} Writer;

static const Writer writers[] = {
    {"push", 7, {0x49, 0x89, 0xe0, 0x48, 0x89, 0xfc, 0x52}, 8},
    {"push memory", 8, {0x49, 0x89, 0xe0, 0x48, 0x89, 0xfc, 0xff, 0x36}, 8},
    {"mov", 6, {0x49, 0x89, 0xe0, 0x48, 0x89, 0x17}, 0},
    {"xchg", 6, {0x49, 0x89, 0xe0, 0x48, 0x87, 0x17}, 0},
    {"movsq", 5, {0x49, 0x89, 0xe0, 0x48, 0xa5}, 0},
    {"stosq", 8, {0x49, 0x89, 0xe0, 0x48, 0x89, 0xd0, 0x48, 0xab}, 0},
    {"rep movsb", 11, {0x49, 0x89, 0xe0, 0xb9, 16, 0, 0, 0, 0xf3, 0xa4, NOP}, 0},
    {"movups", 9, {0x49, 0x89, 0xe0, 0x0f, 0x10, 0x06, 0x0f, 0x11, 0x07}, 0},
    {"maskmovdqu",
     17,
     {0x49, 0x89, 0xe0, 0x0f, 0x10, 0x06, 0x66, 0x0f, 0x76, 0xc9, NOP, NOP, NOP, 0x66, 0x0f, 0xf7, 0xc1},
     0},
    {"fistpll", 7, {0x49, 0x89, 0xe0, 0xdf, 0x2e, 0xdf, 0x3f}, 0},
};

static void writes(const Writer *w) {
  static const uint8_t end[] = {0x4c, 0x89, 0xc4, 0xc3}; /* mov %r8, %rsp; ret */
  uint8_t *code = pages(1), *next = code + 64 + w->length, wanted[16];
  int wrong = 0;
  for (uint32_t i = 1; i <= ROUNDS; i++) {
    uint64_t low, high;
    memset(code, NOP, PAGE);
    memcpy(code + 64, w->bytes, w->length);
    memset(next, STRAY, 8);
    memcpy(next + 16, end, sizeof end);
    memset(wanted, NOP, sizeof wanted);
    make_constant(wanted, i);
    wanted[5] = wanted[6] = wanted[7] = NOP;
    memcpy(&low, wanted, 8), memcpy(&high, wanted + 8, 8);
    /* The mask of maskmovdqu is all ones: pcmpeqd %xmm1, %xmm1. */
    wrong += call(code + 64, next + w->behind, wanted, low, high) != (int)i;
  }
  printf("%s: %d wrong\n", w->name, wrong);
  munmap(code, PAGE);
}

/* rep stosb over itself and what follows, which is STRAY: both become NOP. */
static void over_itself(void) {
  static const uint8_t bytes[] = {0x48, 0x89, 0xd1, 0xb0,
                                  NOP,  0xf3, 0xaa}; /* mov %rdx, %rcx; mov $NOP, %al; rep stosb */
  uint8_t *code = pages(1);
  int wrong = 0;
  for (uint32_t i = 1; i <= ROUNDS; i++) {
    memcpy(code, bytes, sizeof bytes);
    memset(code + sizeof bytes, STRAY, 9);
    make_constant(code + 16, i);
    wrong += call(code, code + 5, NULL, 11, 0) != (int)i;
  }
  printf("rep stosb over itself: %d wrong\n", wrong);
  munmap(code, PAGE);
}

/* read() into what follows the SYSCALL. */
static void by_system_call(void) {
  static const uint8_t bytes[] = {0x31, 0xc0, 0x0f, 0x05}; /* xor %eax, %eax; syscall */
  uint8_t *code = pages(1), wanted[6];
  int wrong = 0, end[2];
  if (pipe(end)) exit(1);
  for (uint32_t i = 1; i <= ROUNDS; i++) {
    memcpy(code, bytes, sizeof bytes);
    make_constant(code + 4, 0);
    make_constant(wanted, i);
    if (write(end[1], wanted, sizeof wanted) != sizeof wanted) exit(1);
    wrong += call(code, (void *)(uintptr_t)end[0], code + 4, sizeof wanted, 0) != (int)i;
  }
  printf("read: %d wrong\n", wrong);
  munmap(code, PAGE);
}

static int try(const uint8_t *at) {
  return call(at, NULL, NULL, 0, 0);
}

/* An instruction that lies in two pages. */
static void across(void) {
  uint8_t *code = pages(2), *at = code + PAGE - 3;
  long sum = 0;
  for (uint32_t i = 0; i < 60; i++) {
    mprotect(code, 2L * PAGE, RWX);
    make_constant(at, i);
    sum = sum * 3 + try(at);
    at[2]++, sum = sum * 3 + try(at);
    code[PAGE]++, sum = sum * 3 + try(at);
    mprotect(code + PAGE, PAGE, PROT_READ | PROT_WRITE), sum = sum * 3 + try(at);
    mprotect(code + PAGE, PAGE, PROT_READ | PROT_EXEC), sum = sum * 3 + try(at);
    madvise(code + PAGE, PAGE, MADV_DONTNEED), sum = sum * 3 + try(at);
    munmap(code + PAGE, PAGE), sum = sum * 3 + try(at);
    if (mmap(code + PAGE, PAGE, RWX, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED) exit(1);
  }
  printf("across pages: %lx\n", sum);
}

/* mov $number, %eax; syscall, for the page it lies in. */
static void on_itself(const char *name, uint8_t number) {
  const uint8_t bytes[] = {0xb8, number, 0, 0, 0, 0x0f, 0x05};
  int faults = 0;
  for (int i = 0; i < 30; i++) {
    uint8_t *code = pages(1);
    memcpy(code, bytes, sizeof bytes);
    make_constant(code + sizeof bytes, 1);
    faults += call(code, code, (void *)PAGE, PROT_NONE, 0) < 0;
    munmap(code, PAGE);
  }
  printf("%s of itself: %d faults\n", name, faults);
}

/* Frames of signals beside the code that is executed. */
static volatile int arrived;

static void on_signal(int signal, siginfo_t *info, void *context) {
  arrived++;
}

static void signals_beside(void) {
  enum { STACK = 8 * PAGE };
  uint8_t *code = pages(9);
  struct sigaction action = {.sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  stack_t stack = {.ss_sp = code, .ss_size = STACK}, old;
  int wrong = 0;
  sigaction(SIGUSR1, &action, NULL);
  sigaltstack(&stack, &old);
  for (uint32_t i = 0; i < ROUNDS; i++) {
    uint8_t *at = code + STACK - 3 * PAGE / 2 + i % 16 * 6 - 64;
    make_constant(at - PAGE * 2, i);
    raise(SIGUSR1);
    make_constant(at - PAGE * 2, i);
    wrong += try(at - PAGE * 2) != (int)i;
  }
  sigaltstack(&old, NULL);
  printf("signals beside: %d arrived, %d wrong\n", arrived, wrong);
}

int main(void) {
  static char alternate[65536];
  static const int faults[] = {SIGSEGV, SIGBUS, SIGILL, SIGTRAP};
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
  stack_t stack = {.ss_sp = alternate, .ss_size = sizeof alternate};
  sigaltstack(&stack, NULL);
  for (size_t i = 0; i < sizeof faults / sizeof *faults; i++) sigaction(faults[i], &action, NULL);
  for (size_t i = 0; i < sizeof writers / sizeof *writers; i++) writes(&writers[i]);
  over_itself();
  by_system_call();
  across();
  on_itself("munmap", 11);
  on_itself("mprotect", 10);
  signals_beside();
  return 0;
}
