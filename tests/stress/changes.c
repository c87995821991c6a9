/*
 * Code that one thread changes while others execute it, and code that is made, called and thrown away for long. A
 * caller may see the old or the new function while it is being changed, never another; after a release it is the new.
 * Build: static dynamic, -pthread
 */
#include <sched.h>

#include "stress.h"

enum { CALLERS = 3 };
static uint8_t *code;
static volatile bool stop;
static volatile int published; /* at least this value must be seen by who has read it */
static volatile int latest;    /* at most this value */
static bool serialised;

static int by_pointer(void) { return ((Function *)code)(0); }

static volatile int begun;
static void *call(void *argument) {
  int (*caller)(void) = argument;
  long wrong = 0;
  __atomic_add_fetch(&begun, 1, __ATOMIC_SEQ_CST);
  while (!stop) {
    int least = __atomic_load_n(&published, __ATOMIC_ACQUIRE);
    if (serialised) serialise();
    int value = caller();
    int most = __atomic_load_n(&latest, __ATOMIC_ACQUIRE);
    wrong += value < least || value > most;
  }
  return (void *)wrong;
}

/* Rewrites the function `rounds` times; every value is announced before and published after its store. */
static void rewrite(int (*caller)(void), void (*store)(int), int rounds) {
  pthread_t threads[CALLERS];
  long wrong = 0;
  store(0);
  for (int i = 0; i < CALLERS; i++) threads[i] = start(call, (void *)caller);
  while (begun != CALLERS) sched_yield();
  for (int i = 1; i <= rounds; i++) {
    __atomic_store_n(&latest, i, __ATOMIC_SEQ_CST);
    store(i);
    __atomic_store_n(&published, i, __ATOMIC_SEQ_CST);
    if (i % 16 == 0) sched_yield();
  }
  stop = true;
  for (int i = 0; i < CALLERS; i++) {
    void *result;
    CHECK(pthread_join(threads[i], &result) == 0);
    wrong += (long)result;
  }
  printf("wrong: %ld of %d rewrites\n", wrong, rounds);
}

static void store_whole(int value) { store_adder(code, value); }

static void pointer(int rounds) {
  code = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  rewrite(by_pointer, store_whole, rounds);
}

static void pointer_serialised(int rounds) {
  serialised = true;
  pointer(rounds);
}

/* A caller made beside it, with a direct call: xor edi, edi; call rel32; ret. */
static int (*direct_caller)(void);
static int by_direct_call(void) { return direct_caller(); }
static void make_direct_caller(uint8_t *at) {
  uint8_t caller[] = {0x31, 0xff, 0xe8, 0, 0, 0, 0, 0xc3};
  int32_t distance = (int32_t)(code - (at + 7));
  memcpy(caller + 3, &distance, 4);
  memcpy(at, caller, sizeof caller);
  direct_caller = (int (*)(void))(void *)at;
}

static void direct(int rounds) {
  code = map_pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
  make_direct_caller(code + PAGE + 64);
  rewrite(by_direct_call, store_whole, rounds);
}

static void direct_same_page(int rounds) {
  code = map_pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
  make_direct_caller(code + 64);
  rewrite(by_direct_call, store_whole, rounds);
}

/* Patched call targets: a call's distance leads to one of many functions, as inline caches do it. The four bytes
 * are aligned, so that the store is one. */
static int by_patched_call(void) { return direct_caller(); }
static void store_target(int value) {
  uint8_t *function = code + 1024 + value % 256 * 16; /* has not been called for 256 rounds */
  store_adder(function, value);
  __atomic_store_n((int32_t *)(code + 4), (int32_t)(function - (code + 8)), __ATOMIC_SEQ_CST);
}
static void patched_call(int rounds) {
  static const uint8_t caller[] = {0x90, 0x31, 0xff, 0xe8, 0, 0, 0, 0, 0xc3}; /* nop; xor edi, edi; call; ret */
  code = map_pages(4, PROT_READ | PROT_WRITE | PROT_EXEC);
  memcpy(code, caller, sizeof caller);
  direct_caller = (int (*)(void))(void *)code;
  rewrite(by_patched_call, store_target, rounds);
}

/* A caller that is changed while it is out in a callee returns into the new code: the callee rewrites what follows
 * the call, mov eax, VALUE; ret. */
static uint8_t *returning;
static int change_caller(int value) {
  memcpy(returning, &value, 4);
  return 0;
}
static void returns(int rounds) {
  /* push rbx; mov rax, FUNCTION; call rax; mov eax, VALUE; pop rbx; ret */
  static const uint8_t caller[] = {0x53, 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xd0, 0xb8, 0, 0, 0, 0, 0x5b, 0xc3};
  void *callee = (void *)change_caller;
  code = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  memcpy(code, caller, sizeof caller);
  memcpy(code + 3, &callee, 8);
  returning = code + 14;
  long wrong = 0;
  for (int i = 0; i < rounds; i++) wrong += ((Function *)code)(i) != i;
  printf("wrong: %ld\n", wrong);
}

/* Two threads, each changing what the other runs, in turns by a flag. */
static int turn;
static void *take_turns(void *argument) {
  int own = (int)(long)argument, rounds = latest;
  long wrong = 0;
  for (int i = 0; i < rounds; i++) {
    while (__atomic_load_n(&turn, __ATOMIC_SEQ_CST) != own) sched_yield();
    int step = i * 2 + own; /* the other's last was step - 1 */
    if (step) wrong += ((Function *)(code + own * 8))(1) != step;
    store_adder(code + !own * 8, step);
    __atomic_store_n(&turn, !own, __ATOMIC_SEQ_CST);
  }
  return (void *)wrong;
}
static void turns(int rounds) {
  code = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  latest = rounds;
  pthread_t other = start(take_turns, (void *)1L);
  long wrong = (long)take_turns((void *)0L);
  void *result;
  CHECK(pthread_join(other, &result) == 0);
  printf("wrong: %ld\n", wrong + (long)result);
}

/* --- A JIT's life --- */

enum { GENERATION = 200 };

/* A generation of functions that call each other, made, called and written over. */
static long generation(uint8_t *pages, int number) {
  long wrong = 0;
  for (int i = 0; i < GENERATION; i++) {
    uint8_t *at = pages + i * 32;
    put_adder(at, number + i);
    if (i == 0) continue;
    uint8_t call_before[] = {0xe8, 0, 0, 0, 0, 0x83, 0xc0, 0x01, 0xc3}; /* call; add eax, 1; ret */
    int32_t distance = -32 - 8 - 5;
    memcpy(call_before + 1, &distance, 4);
    memcpy(at + 8, call_before, sizeof call_before);
  }
  for (int i = 1; i < GENERATION; i++) {
    wrong += ((Function *)(pages + i * 32))(2) != number + i + 2;
    wrong += ((Function *)(pages + i * 32 + 8))(2) != number + i - 1 + 2 + 1;
  }
  return wrong;
}

/* For as long as it takes; the runner watches that the memory levels off. */
static void live(int rounds, bool remapped) {
  uint8_t *pages = map_pages(4, PROT_READ | PROT_WRITE | PROT_EXEC);
  long wrong = 0;
  for (int i = 0; i < rounds; i++) {
    wrong += generation(pages, i * 3);
    if (!remapped) continue;
    munmap(pages, 4 * PAGE);
    pages = map_pages(4, PROT_READ | PROT_WRITE | PROT_EXEC);
  }
  printf("wrong: %ld\n", wrong);
}

static void generations(int rounds) { live(rounds, false); }
static void generations_remapped(int rounds) { live(rounds, true); }

static void *live_in_thread(void *argument) {
  long wrong = 0;
  uint8_t *pages = map_pages(4, PROT_READ | PROT_WRITE | PROT_EXEC);
  for (int i = 0; i < (int)(long)argument; i++) wrong += generation(pages, i * 5);
  return (void *)wrong;
}
static void generations_threads(int rounds) {
  pthread_t threads[CALLERS];
  long wrong = 0;
  for (int i = 0; i < CALLERS; i++) threads[i] = start(live_in_thread, (void *)(long)rounds);
  for (int i = 0; i < CALLERS; i++) {
    void *result;
    CHECK(pthread_join(threads[i], &result) == 0);
    wrong += (long)result;
  }
  printf("wrong: %ld\n", wrong);
}

/* --- Data beside code --- */

/* Counters of several threads on the page of a function that all call. */
static void *count_beside(void *argument) {
  int number = (int)(long)argument;
  volatile uint64_t *counter = (uint64_t *)(code + 1024 + number * 64);
  uint64_t *common = (uint64_t *)(code + 2048);
  long wrong = 0;
  for (int i = 0; i < latest; i++) {
    ++*counter;
    __atomic_add_fetch(common, 1, __ATOMIC_SEQ_CST);
    wrong += ((Function *)(code + number * 8))(i) != i + 7;
  }
  wrong += *counter != (uint64_t)latest;
  return (void *)wrong;
}
static void beside(int rounds) {
  pthread_t threads[CALLERS];
  long wrong = 0;
  code = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  latest = rounds;
  for (int i = 0; i < CALLERS; i++) put_adder(code + i * 8, 7);
  for (long i = 0; i < CALLERS; i++) threads[i] = start(count_beside, (void *)i);
  for (int i = 0; i < CALLERS; i++) {
    void *result;
    CHECK(pthread_join(threads[i], &result) == 0);
    wrong += (long)result;
  }
  printf("wrong: %ld, counted: %ld\n", wrong, (long)*(uint64_t *)(code + 2048));
}

/* The stack beside the code it runs: pushes, calls and signal frames write the page. */
static void on_stack(int rounds) {
  uint8_t *pages = map_pages(4, PROT_READ | PROT_WRITE | PROT_EXEC);
  uint8_t *stack = pages + 2 * PAGE - 256;
  long wrong = 0;
  put_adder(pages + 2 * PAGE - 64, 9);
  for (int i = 0; i < rounds; i++) {
    int value;
    __asm__ volatile("mov %%rsp, %%rbx\n mov %1, %%rsp\n push %%rbx\n call *%2\n pop %%rbx\n mov %%rbx, %%rsp"
                     : "=a"(value) : "r"(stack), "r"(pages + 2 * PAGE - 64), "D"(i) : "rbx", "memory", "cc");
    wrong += value != i + 9;
  }
  printf("wrong: %ld\n", wrong);
}

static const Case cases[] = {{"pointer", pointer}, {"pointer-serialised", pointer_serialised}, {"direct", direct},
                             {"direct-same-page", direct_same_page}, {"patched-call", patched_call},
                             {"returns", returns}, {"turns", turns}, {"generations", generations},
                             {"generations-remapped", generations_remapped},
                             {"generations-threads", generations_threads}, {"beside", beside}, {"on-stack", on_stack}};
MAIN(cases)
