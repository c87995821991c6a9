/* Instructions that lie on two pages, the second of which comes and goes, and bytes that are no instruction until some
 * of them, on another page, are changed.
 *
 * Build: static
 */
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>

enum { PAGE = 4096, ALL = PROT_READ | PROT_WRITE | PROT_EXEC };

static sigjmp_buf again;
static uint8_t *code;

static void handler(int signal, siginfo_t *info, void *context) {
  long rip = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP];
  printf("signal %d, code %d, at %+ld, address %+ld\n", signal, info->si_code, rip - (long)(code + PAGE),
         (long)info->si_addr - (long)(code + PAGE));
  siglongjmp(again, 1);
}

static void call(uint8_t *at) {
  if (!sigsetjmp(again, 1)) printf("returns %d\n", ((int (*)(void))(uintptr_t)at)());
}

/* mov $value, %eax; ret */
static void put(uint8_t *at, uint32_t value) {
  at[0] = 0xb8;
  memcpy(at + 1, &value, sizeof value);
  at[5] = 0xc3;
}

/* The instruction begins `before` bytes before the second page, behind `lead` NOPs. */
static void comes_and_goes(unsigned before, unsigned lead) {
  uint8_t *second = code + PAGE, *at = second - before;
  printf("%u bytes before, behind %u\n", before, lead);
  mprotect(code, 2 * PAGE, ALL);
  memset(code, 0x90, PAGE);
  put(at, before);
  call(at - lead);
  mprotect(second, PAGE, PROT_READ | PROT_WRITE);
  call(at - lead);
  mprotect(second, PAGE, ALL);
  call(at - lead);
  munmap(second, PAGE);
  call(at - lead);
  mmap(second, PAGE, ALL, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
  put(at, before + 10);
  call(at - lead);
  mprotect(second, PAGE, PROT_NONE);
  call(at - lead);
  mprotect(second, PAGE, PROT_EXEC | PROT_READ);
  call(at - lead);
  mprotect(second, PAGE, ALL);
}

/* 0f 0b is UD2, and becomes 0f 31, RDTSC, by a store to the second page. */
static void becomes_valid(unsigned lead) {
  uint8_t *second = code + PAGE;
  printf("no instruction, behind %u\n", lead);
  memset(code, 0x90, PAGE);
  second[-1] = 0x0f;
  memcpy(second, "\x0b\x31\xc0\xc3", 4); /* UD2; xor %eax, %eax; ret */
  for (unsigned i = 0; i < 4; i++) {
    second[0] = i & 1 ? 0x31 : 0x0b;
    call(second - 1 - lead);
  }
  second[-1] = 0x66; /* a prefix, and of the next byte it depends what it is of */
  for (unsigned i = 0; i < 4; i++) {
    second[0] = i & 1 ? 0x90 : 0x06; /* PUSH ES is no instruction */
    call(second - 1 - lead);
  }
}

int main(void) {
  code = mmap(NULL, 2 * PAGE, ALL, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (code == MAP_FAILED) return 1;
  struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
  sigaction(SIGSEGV, &action, NULL);
  sigaction(SIGILL, &action, NULL);
  for (unsigned before = 1; before < 5; before++) comes_and_goes(before, 0);
  comes_and_goes(3, 1);
  comes_and_goes(2, 40);
  becomes_valid(0);
  becomes_valid(5);
  return 0;
}
