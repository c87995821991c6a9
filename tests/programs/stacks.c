/*
 * Stacks that change: not executable until mprotect says so (as dlopen does for a library that wants it), growing when
 * its limit is raised, mappings that grow down, and READ_IMPLIES_EXEC.
 * Build: dynamic static, -Wno-dangling-pointer
 */
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>
#include "limits.h"

enum { PAGE = 4096 };
typedef int Function(void);

static const uint8_t code[] = {0xb8, 0x2a, 0, 0, 0, 0xc3}; /* mov eax, 42; ret */
static sigjmp_buf out;

static void on_fault(int signal, siginfo_t *info, void *context) {
  siglongjmp(out, signal);
}

/* What a call of `at` returns, or minus the signal it ends with. */
static int run(void *at) {
  int signal = sigsetjmp(out, 1);
  return signal ? -signal : ((Function *)at)();
}

static int touch(volatile char *at) {
  int signal = sigsetjmp(out, 1);
  if (signal) return signal;
  *at = 1;
  return 0;
}

static void code_on_the_stack(void) {
  volatile uint8_t place[64] __attribute__((aligned(64)));
  memcpy((void *)place, code, sizeof code);
  printf("on the stack: %d\n", run((void *)place));
  void *page = (void *)((uintptr_t)place & -PAGE);
  int error = mprotect(page, PAGE, PROT_READ | PROT_WRITE | PROT_EXEC | PROT_GROWSDOWN);
  printf("made executable: %s\n", error ? strerror(errno) : "fine");
  printf("now: %d", run((void *)place));
  place[1]++;
  printf(", changed: %d\n", run((void *)place));
  void *other = mmap(NULL, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  error = mprotect(other, PAGE, PROT_READ | PROT_GROWSDOWN);
  printf("of what does not grow: %s\n", error ? strerror(errno) : "fine");
}

static __attribute__((noinline)) int deep(int kilobytes) {
  volatile char frame[1000];
  frame[0] = frame[999] = kilobytes;
  return kilobytes <= 1 ? frame[999] : deep(kilobytes - 1) + frame[0] - frame[999];
}

/* Of a stack of 8 MiB, in a program that raises the limit while it runs. */
static void raised_limit(void) {
  if (under_qemu_user()) return;
  struct rlimit limit;
  getrlimit(RLIMIT_STACK, &limit);
  printf("limit: %lu\n", (long)limit.rlim_cur);
  limit.rlim_cur = 24 << 20;
  printf("raised: %d\n", setrlimit(RLIMIT_STACK, &limit));
  printf("deep: %d\n", deep(20 << 10));
  /* The kernel writes there as well. */
  int ends[2];
  char *volatile anywhere = (char *)&limit;
  char *below = anywhere - (21 << 20);
  if (pipe(ends) || write(ends[1], "x", 1) != 1) return;
  printf("read below: %zd", read(ends[0], below, 1));
  printf(" %c\n", *below);
  printf("as memory: %d\n", mprotect((void *)((uintptr_t)below & -PAGE), PAGE, PROT_READ));
}

static void growing(void) {
  char *room = mmap(NULL, 64 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  munmap(room, 64 << 20);
  enum { RW = PROT_READ | PROT_WRITE, PRIVATE = MAP_PRIVATE | MAP_ANONYMOUS };
  char *place = room + (48 << 20), *wall = mmap(place - 350 * PAGE, PAGE, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0);
  char *at = mmap(place, PAGE, RW, PRIVATE | MAP_GROWSDOWN, -1, 0);
  printf("placed: %d %d\n", wall == place - 350 * PAGE, at == place);
  int below[3] = {touch(at - PAGE), touch(at - 2 * PAGE), touch(at - 40 * PAGE + 1)};
  printf("below: %d %d %d, between %d\n", below[0], below[1], below[2], at[-20 * PAGE]);
  printf("it is one mapping: %d\n", mprotect(at - 40 * PAGE, 41 * PAGE, PROT_READ));
  printf("read-only: %d %d\n", touch(at - 30 * PAGE), touch(at));
  mprotect(at - 40 * PAGE, 41 * PAGE, PROT_READ | PROT_WRITE);
  /* It keeps its distance from what lies below: 256 pages. */
  int far = touch(at - 90 * PAGE), further = touch(at - 100 * PAGE);
  printf("far: %d, too near the wall: %d\n", far, further);
  printf("unmapped: %d\n", munmap(at - 200 * PAGE, 201 * PAGE));
  printf("then: %d\n", touch(at - PAGE));
  /* What is placed for the program keeps the distance, too. */
  char *lowest = mmap(NULL, PAGE, RW, PRIVATE | MAP_GROWSDOWN, -1, 0);
  for (int i = 0; i < 20; i++) mmap(NULL, PAGE, PROT_READ, PRIVATE, -1, 0);
  printf("room to grow: %d\n", touch(lowest - PAGE));
}

static void reading_implies_executing(void) {
  uint8_t *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(page, code, sizeof code);
  printf("personality: %x", personality(0xffffffff) & READ_IMPLIES_EXEC);
  personality(personality(0xffffffff) | READ_IMPLIES_EXEC);
  printf(" %x\n", personality(0xffffffff) & READ_IMPLIES_EXEC);
  printf("mapped before: %d", run(page));
  mprotect(page, PAGE, PROT_READ);
  printf(", protected after: %d", run(page));
  page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  memcpy(page, code, sizeof code);
  printf(", mapped after: %d", run(page));
  page = sbrk(PAGE);
  memcpy(page, code, sizeof code);
  printf(", in the heap: %d\n", run(page));
}

int main(void) {
  static char alternate[65536];
  struct sigaction action = {.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_ONSTACK};
  sigaltstack(&(stack_t){.ss_sp = alternate, .ss_size = sizeof alternate}, NULL);
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGBUS, &action, NULL);
  code_on_the_stack();
  raised_limit();
  growing();
  reading_implies_executing();
  return 0;
}
