/* Code that changes while other threads run it.
 *
 * One thread stores a new number into `mov eax, NUMBER; ret` and tells so afterwards; the others look how far that is,
 * serialise as the manual asks (Intel SDM volume 3, 8.1.3: CPUID), and call: through a pointer, and by a direct call
 * from code beside it. What they get may be newer than what they were told, never older or something else. */
#include "self-test.h"

#include <asm/unistd_64.h>

enum { TIME_MS = 8000, TIME_MS_QUICK = 200, CALLERS = 3, OPCODE_MOV = 0xb8, OPCODE_RET = 0xc3, OPCODE_CALL = 0xe8 };

typedef uint32_t Function(void);

typedef struct Change {
  volatile uint32_t *number; /* the instruction's immediate, aligned */
  Function *function, *caller;
  uint32_t told; /* number that has certainly been stored */
  bool stop;
} Change;

typedef struct Caller {
  Change *change;
  bool direct;
  uint64_t calls, wrong;
} Caller;

static void serialise(void) {
  uint32_t leaf = 0, ignored = 0; /* CPUID is what every processor serialises at */
  __asm__ volatile("cpuid" : "+a"(leaf), "+c"(ignored) : : "rbx", "rdx", "memory");
}

static void call_thread(void *argument) {
  Caller *caller = argument;
  Change *change = caller->change;
  Function *function = caller->direct ? change->caller : change->function;
  for (; !__atomic_load_n(&change->stop, __ATOMIC_ACQUIRE); __atomic_store_n(&caller->calls, caller->calls + 1, __ATOMIC_RELAXED)) {
    uint32_t told = __atomic_load_n(&change->told, __ATOMIC_ACQUIRE);
    serialise();
    uint32_t got = function();
    /* Nothing may be told of twice, so the newest is at most one beyond what is told now. */
    uint32_t newest = __atomic_load_n(&change->told, __ATOMIC_ACQUIRE) + 1;
    caller->wrong += got < told || got > newest;
  }
}

/* The immediate on 4 bytes' alignment, so that it is stored at once. */
static void write_code(Change *change, uint8_t *page) {
  enum { FUNCTION = 3, CALLER = CACHE_LINE * 2 };
  uint8_t *function = page + FUNCTION, *caller = page + CALLER;
  function[0] = OPCODE_MOV;
  *(volatile uint32_t *)(function + 1) = 0;
  function[5] = OPCODE_RET;
  int32_t distance = (int32_t)(function - (caller + 5));
  caller[0] = OPCODE_CALL;
  __builtin_memcpy(caller + 1, &distance, sizeof distance);
  caller[5] = OPCODE_RET;
  *change = (Change){.number = (volatile uint32_t *)(function + 1), .function = (Function *)function,
                     .caller = (Function *)caller};
}

/* Now and then all the others are to have run what there is: changes nobody meets show nothing. */
static void let_call(const Caller *callers, uint32_t number) {
  for (unsigned i = 0; i < number % 64; i++) relax();
  for (unsigned i = 0; number % 8 == 0 && i < CALLERS; i++) {
    uint64_t before = __atomic_load_n(&callers[i].calls, __ATOMIC_RELAXED);
    while (__atomic_load_n(&callers[i].calls, __ATOMIC_RELAXED) == before) CALL_0(__NR_sched_yield);
  }
}

void test_code(const Effort *effort) {
  Change change;
  write_code(&change, map(PAGE, true));
  uint64_t end = now_ms() + (effort->quick ? TIME_MS_QUICK : TIME_MS);
  Caller callers[CALLERS];
  Thread threads[CALLERS];
  for (unsigned i = 0; i < CALLERS; i++) {
    callers[i] = (Caller){&change, i & 1, 0, 0};
    thread_start(&threads[i], call_thread, &callers[i]);
  }
  for (uint32_t number = 1; now_ms() < end; number++) {
    *change.number = number;
    __atomic_store_n(&change.told, number, __ATOMIC_RELEASE);
    let_call(callers, number);
  }
  __atomic_store_n(&change.stop, true, __ATOMIC_RELEASE);
  uint64_t calls[2] = {0, 0}, wrong[2] = {0, 0};
  for (unsigned i = 0; i < CALLERS; i++) {
    thread_join(&threads[i]);
    calls[callers[i].direct] += callers[i].calls;
    wrong[callers[i].direct] += callers[i].wrong;
  }
  report("code", "changed, called through a pointer", calls[0], wrong[0]);
  report("code", "changed, called directly", calls[1], wrong[1]);
}
