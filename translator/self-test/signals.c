/* Signals at threads that make no system call: each one's handler runs, once and soon, and the registers it interrupts
 * stay what they were. */
#include "self-test.h"

#include <asm/unistd_64.h>

enum {
  SIGNALS = 1000, SIGNALS_QUICK = 20, LOOPERS = 2, PATIENCE_MS = 10000,
  SIGUSR1 = 10, SIGALRM = 14, REALTIME = 40, QUEUED = 16,
  SA_RESTORER = 0x04000000, SA_RESTART = 0x10000000, ITIMER_REAL = 0
};

typedef struct KernelAction {
  void (*handler)(int);
  uint64_t flags;
  void (*restorer)(void);
  uint64_t mask;
} KernelAction;

void restore_from_signal(void);
__asm__(".text\nrestore_from_signal:\n  mov $15, %eax\n  syscall\n");

static uint64_t arrived;

static void count_signal(int number) {
  (void)number;
  uint64_t scratch = 0x1111;
  __asm__ volatile("movq %0, %%xmm7; movq %0, %%xmm15; add $-1, %0" : "+r"(scratch) : : "xmm7", "xmm15", "cc");
  __atomic_add_fetch(&arrived, 1, __ATOMIC_SEQ_CST);
}

static void handle(int number) {
  KernelAction action = {count_signal, SA_RESTORER | SA_RESTART, restore_from_signal, 0};
  CALL_4(__NR_rt_sigaction, number, &action, 0, 8);
}

typedef struct Looper {
  volatile bool stop;
  uint64_t rounds, broken;
  Thread thread;
} Looper;

/* One turn with known values in registers and flags, long enough to be interrupted within. */
static bool turn(void) {
  uint64_t left = 1000, bad = 0;
  __asm__ volatile(
      "mov $0x123456789abcdef, %%r12\n movq %%r12, %%xmm7\n movq %%r12, %%xmm15\n"
      "1: stc\n adc $0, %[bad]\n sub $1, %[bad]\n"
      "movq %%xmm7, %%r13\n xor %%r12, %%r13\n or %%r13, %[bad]\n"
      "movq %%xmm15, %%r13\n xor %%r12, %%r13\n or %%r13, %[bad]\n"
      "dec %[left]\n jnz 1b\n"
      : [bad] "+r"(bad), [left] "+r"(left) : : "r12", "r13", "xmm7", "xmm15", "cc");
  return bad == 0;
}

static void loop_thread(void *argument) {
  Looper *looper = argument;
  for (; !looper->stop; looper->rounds++) looper->broken += !turn();
}

/* Whether as many as wanted have arrived before patience ends. */
static bool await(uint64_t wanted) {
  uint64_t end = now_ms() + PATIENCE_MS;
  while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) < wanted) {
    if (now_ms() > end) return false;
    CALL_0(__NR_sched_yield);
  }
  return true;
}

static void send(const Looper *looper, int signal) {
  CALL_3(__NR_tgkill, CALL_0(__NR_getpid), looper->thread.number, signal);
}

/* Signals sent one by one, each when the one before has arrived: how many have not, or came twice. */
static uint64_t one_by_one(Looper *loopers, uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    uint64_t before = arrived;
    send(&loopers[i % LOOPERS], SIGUSR1);
    if (!await(before + 1)) return count - i;
    if (arrived != before + 1) return 1;
  }
  return 0;
}

/* Several queued at once, which none may be lost of. */
static uint64_t queued(Looper *loopers, uint64_t count) {
  for (uint64_t i = 0; i < count; i += QUEUED) {
    uint64_t before = arrived;
    for (unsigned k = 0; k < QUEUED; k++) send(&loopers[k % LOOPERS], REALTIME);
    if (!await(before + QUEUED) || arrived != before + QUEUED) return count - i;
  }
  return 0;
}

/* A timer that runs out once, again and again. */
static uint64_t timers(uint64_t count) {
  for (uint64_t i = 0; i < count; i++) {
    uint64_t before = arrived;
    int64_t timer[4] = {0, 0, 0, 200 + (int64_t)(i % 7) * 100};
    CALL_3(__NR_setitimer, ITIMER_REAL, timer, 0);
    uint64_t end = now_ms() + PATIENCE_MS;
    while (__atomic_load_n(&arrived, __ATOMIC_SEQ_CST) == before)
      if (!turn() || now_ms() > end) return count - i;
  }
  return 0;
}

void test_signals(const Effort *effort) {
  static Looper loopers[LOOPERS];
  uint64_t count = effort->quick ? SIGNALS_QUICK : SIGNALS, rounds = 0, broken = 0;
  handle(SIGUSR1);
  handle(SIGALRM);
  handle(REALTIME);
  report("signals", "timers", count, timers(count));
  for (unsigned i = 0; i < LOOPERS; i++) thread_start(&loopers[i].thread, loop_thread, &loopers[i]);
  report("signals", "sent to threads in loops", count, one_by_one(loopers, count));
  report("signals", "queued", count, queued(loopers, count));
  for (unsigned i = 0; i < LOOPERS; i++) {
    loopers[i].stop = true;
    thread_join(&loopers[i].thread);
    rounds += loopers[i].rounds;
    broken += loopers[i].broken;
  }
  report("signals", "registers kept over handlers", rounds, broken);
}
