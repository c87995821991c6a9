/* self-test [quick] [--vectors]: the parts in order; 1 when anything was wrong. */
#include "self-test.h"

static bool equal(const char *a, const char *b) {
  while (*a && *a == *b) a++, b++;
  return *a == *b;
}

__attribute__((used)) _Noreturn void start(const uint64_t *stack) {
  uint64_t count = stack[0];
  const char *argument = count > 1 ? (const char *)stack[2] : "";
  Effort effort = {equal(argument, "quick")};
  if (equal(argument, "--vectors")) {
    print_vectors();
    quit(0);
  }
  uint64_t begin = now_ms();
  test_vectors();
  test_atomics(&effort);
  test_code(&effort);
  test_signals(&effort);
  test_litmus(&effort);
  print("self-test: %s in %lu s\n", reported_wrong ? "WRONG" : "all right", (now_ms() - begin) / 1000);
  quit(reported_wrong ? 1 : 0);
}

/* GCC calls these whatever it is told. */
void *memset(void *to, int byte, size_t size) {
  void *at = to;
  __asm__ volatile("rep stosb" : "+D"(at), "+c"(size) : "a"(byte) : "memory");
  return to;
}
void *memcpy(void *to, const void *from, size_t size) {
  void *at = to;
  __asm__ volatile("rep movsb" : "+D"(at), "+S"(from), "+c"(size) : : "memory");
  return to;
}

__asm__(".text\n.globl _start\n_start:\n  xor %ebp, %ebp\n  mov %rsp, %rdi\n  and $-16, %rsp\n  call start\n");
