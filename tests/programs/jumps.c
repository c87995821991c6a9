/*
 * Control that leaves the usual nesting of calls: setjmp and longjmp over many frames, contexts, deep
 * recursion, returns to changed addresses, calls through tables, unwinding. A translator that predicts returns
 * must survive all of it.
 * Build: dynamic static nopie
 */
#include <execinfo.h>
#include <setjmp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <ucontext.h>

static jmp_buf buffers[8];

static __attribute__((noinline)) int descend(int depth, int target) {
  if (depth == 0) longjmp(buffers[target], target + 100);
  int result = descend(depth - 1, target);
  return result + depth;
}

static void long_jumps(void) {
  volatile int sum = 0;
  for (volatile int i = 0; i < 8; i++) {
    int got = setjmp(buffers[i]);
    if (got == 0) descend(i * 50 + 1, i);
    sum += got;
  }
  printf("longjmp: %d\n", sum);
}

static ucontext_t main_context, contexts[3];
static int trace[64], traced;

static void routine(int me, int rounds) {
  for (int i = 0; i < rounds; i++) {
    trace[traced++] = me * 10 + i;
    swapcontext(&contexts[me], &contexts[(me + 1) % 3]);
  }
  trace[traced++] = me * 10 + 9;
}

static void coroutines(void) {
  for (int i = 0; i < 3; i++) {
    getcontext(&contexts[i]);
    contexts[i].uc_stack.ss_sp = malloc(65536);
    contexts[i].uc_stack.ss_size = 65536;
    contexts[i].uc_link = i == 2 ? &main_context : &contexts[i + 1];
    makecontext(&contexts[i], (void (*)(void))routine, 2, i, 4);
  }
  swapcontext(&main_context, &contexts[0]);
  printf("contexts:");
  for (int i = 0; i < traced; i++) printf(" %d", trace[i]);
  printf("\n");
}

static __attribute__((noinline)) uint64_t recurse(uint64_t n) {
  return n == 0 ? 1 : (recurse(n - 1) * 31 + n) ^ (n >> 3);
}

static __attribute__((noinline)) int ackermann(int m, int n) {
  if (m == 0) return n + 1;
  if (n == 0) return ackermann(m - 1, 1);
  return ackermann(m - 1, ackermann(m, n - 1));
}

/* Replaces its own return address by its argument. */
__asm__(".globl return_to\nreturn_to:\n mov %rdi, (%rsp)\n ret\n"
        ".globl pop_and_jump\npop_and_jump:\n pop %rcx\n add $0, %rcx\n lea 1(%rdi), %rax\n jmp *%rcx\n"
        ".globl pushed_return\npushed_return:\n lea 1f(%rip), %rax\n push %rax\n ret\n ud2\n"
        "1: mov $0x77, %eax\n ret\n"
        ".globl call_next\ncall_next:\n call 1f\n1: pop %rax\n lea 1b(%rip), %rcx\n sub %rcx, %rax\n ret\n"
        ".globl exit_early\nexit_early:\n mov $5, %eax\n call 2f\n ud2\n2: add $8, %rsp\n ret\n");
long return_to(void *), pop_and_jump(long), pushed_return(void), call_next(void), exit_early(void);

static void odd_returns(void) {
  long sum = 0;
  for (int i = 0; i < 1000; i++) sum += pop_and_jump(i) + pushed_return() + call_next() + exit_early();
  printf("odd returns: %ld\n", sum);
}

static int add(int a, int b) { return a + b; }
static int subtract(int a, int b) { return a - b; }
static int multiply(int a, int b) { return (int)((unsigned)a * (unsigned)b); }
static int either(int a, int b) { return a ^ b; }
static int (*const operations[])(int, int) = {add, subtract, multiply, either};

static void tables(void) {
  unsigned state = 1;
  int value = 1;
  for (int i = 0; i < 20000; i++) {
    state = state * 1103515245 + 12345;
    value = operations[state >> 16 & 3](value, i);
    switch (state >> 20 & 15) {
    case 0: value += 3; break;
    case 1: value ^= 0x55; break;
    case 2: value -= 9; break;
    case 3: value *= 3; break;
    case 5: value = -value; break;
    case 7: value = ~value; break;
    case 8: value <<= 1; break;
    case 9: value >>= 2; break;
    case 11: value += i; break;
    case 13: value ^= value >> 7; break;
    default: value++;
    }
  }
  printf("tables: %d\n", value);
}

static __attribute__((noinline)) int unwind(int depth) {
  void *frames[64];
  if (depth) {
    int deeper = unwind(depth - 1);
    __asm__ volatile("" : "+r"(deeper)); /* keeps the frame: no tail call */
    return deeper;
  }
  return backtrace(frames, 64) > 12 ? 1000 : 0;
}

/* All status flags, read behind an indirect jump. */
static void flags_over_jumps(void) {
  static const unsigned char values[] = {0, 1, 0x0f, 0x10, 0x7f, 0x80, 0xa5, 0xff};
  for (unsigned i = 0; i < sizeof values; i++)
    for (unsigned k = 0; k < sizeof values; k++) {
      uint64_t added, compared;
      __asm__ volatile("lea 1f(%%rip), %%rax\n mov %2, %%cl\n add %3, %%cl\n jmp *%%rax\n ud2\n1: pushfq\n pop %0\n"
                       "lea 2f(%%rip), %%rax\n push %%rax\n mov %2, %%cl\n cmp %3, %%cl\n jmp *(%%rsp)\n ud2\n"
                       "2: pushfq\n pop %1\n pop %%rax"
                       : "=&r"(added), "=&r"(compared) : "m"(values[i]), "r"(values[k]) : "rax", "rcx", "cc", "memory");
      printf("%lx %lx%s", added & 0x8d5, compared & 0x8d5, k == 7 ? "\n" : " ");
    }
}

int main(void) {
  long_jumps();
  coroutines();
  printf("deep: %lx\n", recurse(50000));
  printf("ackermann: %d\n", ackermann(2, 300));
  odd_returns();
  tables();
  flags_over_jumps();
  printf("unwound: %d\n", unwind(10) / 1000);
  return 0;
}
