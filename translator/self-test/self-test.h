/* The x86-64 program behind `stele --self-test`: what its parts share.
 *
 * It checks what generated code can only show on real hardware and what no test under an emulator can, the order of
 * memory accesses first of all. It is freestanding, so that it needs no files; it also runs natively on x86-64, which
 * says what is right. */
#ifndef STELE_SELF_TEST_H
#define STELE_SELF_TEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { CACHE_LINE = 64, PAGE = 4096, MAX_THREADS = 4 };

/* --- The system (system.c) --- */

long call6(long number, long a, long b, long c, long d, long e, long f);
#define CALL_0(n)             call6(n, 0, 0, 0, 0, 0, 0)
#define CALL_1(n, a)          call6(n, (long)(a), 0, 0, 0, 0, 0)
#define CALL_2(n, a, b)       call6(n, (long)(a), (long)(b), 0, 0, 0, 0)
#define CALL_3(n, a, b, c)    call6(n, (long)(a), (long)(b), (long)(c), 0, 0, 0)
#define CALL_4(n, a, b, c, d) call6(n, (long)(a), (long)(b), (long)(c), (long)(d), 0, 0)

/* %s %lu %lx */
void print(const char *format, ...);
_Noreturn void quit(int status);
uint64_t now_ms(void);
/* Zeroed memory that stays; `executable` as well as writable. */
void *map(size_t size, bool executable);

typedef struct Thread {
  void (*function)(void *);
  void *argument;
  volatile int alive; /* its number until it has ended */
  int number;         /* of the thread, for tgkill() */
  void *stack;
} Thread;
void thread_start(Thread *thread, void (*function)(void *), void *argument);
void thread_join(Thread *thread);

/* All of `count` threads come here before one goes on. */
typedef struct Barrier {
  uint32_t count, waiting, round;
} Barrier;
void barrier_wait(Barrier *barrier);

static inline void relax(void) { __asm__ volatile("pause"); }

/* --- Tests --- */

/* How long: about a minute in all, or, where `quick`, what shows no more than that everything runs. */
typedef struct Effort {
  bool quick;
} Effort;

/* Prints a line: `what`, what was counted, and whether it is right; remembers that something was wrong. */
void report(const char *area, const char *what, uint64_t done, uint64_t wrong);
extern uint64_t reported_wrong;

void test_litmus(const Effort *effort);
void test_atomics(const Effort *effort);
void test_code(const Effort *effort);
void test_signals(const Effort *effort);
void test_vectors(void);
/* Prints vectors.def as this processor has it. */
void print_vectors(void);

#endif
