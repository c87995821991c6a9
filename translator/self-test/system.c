/* System calls, threads and output of a program without a C library. */
#include "self-test.h"

#include <stdarg.h>

#include <asm/unistd_64.h>

enum {
  STACK = 64 * 1024,
  PROT_RW = 3, PROT_RWX = 7, MAP_PRIVATE_ANONYMOUS = 0x22,
  /* VM FS FILES SIGHAND THREAD SYSVSEM PARENT_SETTID CHILD_CLEARTID */
  CLONE_FLAGS = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x100000 | 0x200000,
  FUTEX_WAIT = 0, FUTEX_WAKE = 1, ALL = 0x7fffffff, SPINS = 20000,
  CLOCK_MONOTONIC = 1
};

long call6(long number, long a, long b, long c, long d, long e, long f) {
  register long r10 __asm__("r10") = d, r8 __asm__("r8") = e, r9 __asm__("r9") = f;
  long result;
  __asm__ volatile("syscall" : "=a"(result) : "a"(number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
                   : "rcx", "r11", "memory");
  return result;
}

void quit(int status) {
  for (;;) CALL_1(__NR_exit_group, status);
}

/* --- Output ------------------------------------------------------------------------------------------------ */

static char *put_number(char *at, uint64_t value, unsigned base) {
  char digits[24], *end = digits + sizeof digits, *first = end;
  do *--first = "0123456789abcdef"[value % base];
  while (value /= base);
  while (first < end) *at++ = *first++;
  return at;
}

void print(const char *format, ...) {
  char text[512], *at = text;
  va_list arguments;
  va_start(arguments, format);
  for (; *format && at < text + sizeof text - 128; format++) {
    if (*format != '%') {
      *at++ = *format;
    } else if (*++format == 's') {
      for (const char *s = va_arg(arguments, const char *); *s && at < text + sizeof text - 128; s++) *at++ = *s;
    } else { /* %lu, %lx */
      at = put_number(at, va_arg(arguments, uint64_t), *++format == 'x' ? 16 : 10);
    }
  }
  va_end(arguments);
  CALL_3(__NR_write, 1, text, at - text);
}

uint64_t reported_wrong;

void report(const char *area, const char *what, uint64_t done, uint64_t wrong) {
  print("%s %s: %lu done, %lu wrong\n", area, what, done, wrong);
  reported_wrong += wrong;
}

/* --- Memory, time ------------------------------------------------------------------------------------------ */

void *map(size_t size, bool executable) {
  long address = call6(__NR_mmap, 0, (long)size, executable ? PROT_RWX : PROT_RW, MAP_PRIVATE_ANONYMOUS, -1, 0);
  if (address < 0) {
    print("self-test: out of memory\n");
    quit(2);
  }
  return (void *)address;
}

uint64_t now_ms(void) {
  int64_t time[2];
  CALL_2(__NR_clock_gettime, CLOCK_MONOTONIC, time);
  return (uint64_t)time[0] * 1000 + (uint64_t)time[1] / 1000000;
}

/* --- Threads ----------------------------------------------------------------------------------------------- */

/* clone() whose child takes the Thread from its stack, runs it and ends. */
long clone_thread(long flags, void *stack, int *parent_tid, volatile int *child_tid);
__asm__(".text\n"
        "clone_thread:\n"
        "  mov %rcx, %r10\n"
        "  mov $56, %eax\n"
        "  syscall\n"
        "  test %rax, %rax\n"
        "  jnz 1f\n"
        "  xor %ebp, %ebp\n"
        "  pop %rax\n"
        "  pop %rdi\n"
        "  call *%rax\n"
        "  xor %edi, %edi\n"
        "  mov $60, %eax\n"
        "  syscall\n"
        "1: ret\n");

void thread_start(Thread *thread, void (*function)(void *), void *argument) {
  uint8_t *stack = map(STACK, false);
  uint64_t *top = (uint64_t *)(stack + STACK) - 2;
  top[0] = (uint64_t)function;
  top[1] = (uint64_t)argument;
  thread->stack = stack;
  thread->function = function;
  thread->argument = argument;
  thread->alive = 1;
  long number = clone_thread(CLONE_FLAGS, top, &thread->number, &thread->alive);
  if (number < 0) {
    print("self-test: no thread can be made\n");
    quit(2);
  }
}

void thread_join(Thread *thread) {
  for (int alive; (alive = thread->alive) != 0;) CALL_4(__NR_futex, &thread->alive, FUTEX_WAIT, alive, 0);
  CALL_2(__NR_munmap, thread->stack, STACK);
}

void barrier_wait(Barrier *barrier) {
  uint32_t round = __atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE);
  if (__atomic_add_fetch(&barrier->waiting, 1, __ATOMIC_ACQ_REL) == barrier->count) {
    barrier->waiting = 0;
    __atomic_add_fetch(&barrier->round, 1, __ATOMIC_ACQ_REL);
    CALL_3(__NR_futex, &barrier->round, FUTEX_WAKE, ALL);
    return;
  }
  for (unsigned i = 0; i < SPINS; i++) {
    if (__atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE) != round) return;
    relax();
  }
  while (__atomic_load_n(&barrier->round, __ATOMIC_ACQUIRE) == round)
    CALL_4(__NR_futex, &barrier->round, FUTEX_WAIT, round, 0);
}
