/*
 * The code cache is emptied while several threads run: more functions than it holds, called by threads that are
 * interrupted, that change code meanwhile, that stand deep in calls, and that leave by longjmp and other contexts.
 * Build: static dynamic, -pthread
 */
#include <semaphore.h>
#include <setjmp.h>
#include <sys/time.h>
#include <ucontext.h>

#include "stress.h"

DEFINE_IMAGE_FUNCTIONS;

enum { THREADS = 4 };
static int functions_per_round;

/* Every thread begins elsewhere, so that they translate different functions and meet in all. */
static void *call_all(void *argument) {
  long number = (long)argument, sum = 0;
  for (int i = 0; i < functions_per_round; i++) {
    int index = (int)((i + number * (functions_per_round / THREADS)) % functions_per_round);
    sum += IMAGE_FUNCTION(index)(1) - index;
  }
  return (void *)sum;
}

static long in_threads(void *(*function)(void *)) {
  pthread_t threads[THREADS];
  long sum = 0;
  for (long i = 0; i < THREADS; i++) threads[i] = start(function, (void *)i);
  for (int i = 0; i < THREADS; i++) {
    void *result;
    CHECK(pthread_join(threads[i], &result) == 0);
    sum += (long)result;
  }
  return sum;
}

static void functions(int rounds) {
  functions_per_round = rounds > IMAGE_FUNCTIONS ? IMAGE_FUNCTIONS : rounds;
  for (int done = 0; done < rounds; done += functions_per_round)
    printf("calls: %ld\n", in_threads(call_all));
}

/* --- Signals meanwhile --- */

static int handled;
static volatile bool stop;
static sem_t arrived;
static __thread volatile int handled_here;
static pthread_t target_threads[THREADS];

static void count_signal(int signal, siginfo_t *info, void *context) {
  (void)signal, (void)info, (void)context;
  handled_here += IMAGE_FUNCTION(handled_here % functions_per_round)(1) > 0;
  __atomic_add_fetch(&handled, 1, __ATOMIC_SEQ_CST);
  sem_post(&arrived);
}

static void tick(int signal, siginfo_t *info, void *context) { (void)signal, (void)info, (void)context; }

/* Sends one real-time signal after the other to each thread in turn; each must have been handled before the next. */
static void *send_signals(void *argument) {
  for (int i = 0; i < (int)(long)argument; i++) {
    CHECK(pthread_kill(target_threads[i % THREADS], SIGRTMIN + 1) == 0);
    while (__atomic_load_n(&handled, __ATOMIC_SEQ_CST) != i + 1) sem_wait(&arrived);
  }
  stop = true;
  return NULL;
}

static pthread_barrier_t barrier;

static void *call_until_stop(void *argument) {
  long wrong = 0;
  pthread_barrier_wait(&barrier); /* all threads are known */
  while (!stop) wrong += (long)call_all(argument) - functions_per_round;
  return (void *)wrong;
}

static void signals(int rounds) {
  struct itimerval often = {{0, 5000}, {0, 5000}}, off = {{0, 0}, {0, 0}};
  long wrong = 0;
  functions_per_round = 12000;
  handle(SIGRTMIN + 1, count_signal, SA_RESTART);
  handle(SIGALRM, tick, SA_RESTART);
  pthread_barrier_init(&barrier, NULL, THREADS + 1);
  for (long i = 0; i < THREADS; i++) target_threads[i] = start(call_until_stop, (void *)i);
  pthread_barrier_wait(&barrier);
  setitimer(ITIMER_REAL, &often, NULL);
  CHECK(pthread_join(start(send_signals, (void *)(long)rounds), NULL) == 0);
  for (int i = 0; i < THREADS; i++) {
    void *result;
    CHECK(pthread_join(target_threads[i], &result) == 0);
    wrong += (long)result;
  }
  setitimer(ITIMER_REAL, &off, NULL);
  printf("handled: %d, wrong: %ld\n", handled, wrong);
}

/* --- Changed code meanwhile --- */

/* Each thread rewrites functions of its own page and calls them between the image's functions. */
static void *call_and_change(void *argument) {
  uint8_t *page = map_pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
  long number = (long)argument, wrong = 0;
  for (int i = 0; i < functions_per_round; i++) {
    int index = (int)((i + number * 101) % functions_per_round);
    wrong += IMAGE_FUNCTION(index)(1) != index + 1;
    if (i % 8) continue;
    uint8_t *at = page + i % 64 * 8;
    put_adder(at, i);
    wrong += ((Function *)at)(3) != i + 3;
  }
  munmap(page, PAGE);
  return (void *)wrong;
}

static void changes(int rounds) {
  functions_per_round = rounds > IMAGE_FUNCTIONS ? IMAGE_FUNCTIONS : rounds;
  for (int done = 0; done < rounds; done += functions_per_round) printf("wrong: %ld\n", in_threads(call_and_change));
}

/* --- Flushes while calls are open --- */

static int next_function(int count, unsigned *state) {
  *state = *state * 1664525u + 1013904223u;
  return (int)(*state >> 8) % count;
}

static __attribute__((noinline)) long descend(int depth, unsigned *state) {
  if (depth == 0) return 0;
  int index = next_function(functions_per_round, state);
  long below = descend(depth - 1, state);
  long wrong = IMAGE_FUNCTION(index)(depth) != index + depth;
  return below + wrong;
}

static void *descend_often(void *argument) {
  unsigned state = (unsigned)(long)argument + 1;
  long wrong = 0;
  for (int done = 0; done < functions_per_round; done += 500) wrong += descend(500, &state);
  return (void *)wrong;
}

static void recursion(int rounds) {
  functions_per_round = rounds > IMAGE_FUNCTIONS ? IMAGE_FUNCTIONS : rounds;
  for (int done = 0; done < rounds; done += functions_per_round) printf("wrong: %ld\n", in_threads(descend_often));
}

static __attribute__((noinline)) void dive(int depth, unsigned *state, jmp_buf out, long *wrong) {
  int index = next_function(functions_per_round, state);
  *wrong += IMAGE_FUNCTION(index)(depth) != index + depth;
  if (depth == 0) longjmp(out, 1);
  dive(depth - 1, state, out, wrong);
  *wrong += 1; /* not reached */
}

static void *jump_often(void *argument) {
  unsigned state = (unsigned)(long)argument + 1;
  static __thread long wrong;
  static __thread volatile int done;
  for (done = 0; done < functions_per_round; done += 40) {
    jmp_buf out;
    if (setjmp(out) == 0) dive(39, &state, out, &wrong);
  }
  return (void *)wrong;
}

static void jumps(int rounds) {
  functions_per_round = rounds > IMAGE_FUNCTIONS ? IMAGE_FUNCTIONS : rounds;
  for (int done = 0; done < rounds; done += functions_per_round) printf("wrong: %ld\n", in_threads(jump_often));
}

/* Two coroutines a thread, each a few calls deep when it hands over. */
typedef struct Pair {
  ucontext_t main, other;
  unsigned state;
  long wrong;
  int left;
} Pair;

static __attribute__((noinline)) void hand_over(Pair *pair, ucontext_t *from, ucontext_t *to, int depth) {
  if (depth == 0) {
    swapcontext(from, to);
    return;
  }
  hand_over(pair, from, to, depth - 1);
  int index = next_function(functions_per_round, &pair->state);
  pair->wrong += IMAGE_FUNCTION(index)(depth) != index + depth;
}

static void coroutine(unsigned high, unsigned low) {
  Pair *pair = (Pair *)((uint64_t)high << 32 | low);
  while (true) hand_over(pair, &pair->other, &pair->main, 6);
}

static void *switch_often(void *argument) {
  Pair pair = {.state = (unsigned)(long)argument + 1, .left = functions_per_round / 12};
  void *stack = map_pages(16, PROT_READ | PROT_WRITE);
  getcontext(&pair.other);
  pair.other.uc_stack.ss_sp = stack;
  pair.other.uc_stack.ss_size = 16 * PAGE;
  makecontext(&pair.other, (void (*)(void))coroutine, 2, (unsigned)((uint64_t)&pair >> 32), (unsigned)(uint64_t)&pair);
  while (pair.left-- > 0) hand_over(&pair, &pair.main, &pair.other, 6);
  munmap(stack, 16 * PAGE);
  return (void *)pair.wrong;
}

static void contexts(int rounds) {
  functions_per_round = rounds > IMAGE_FUNCTIONS ? IMAGE_FUNCTIONS : rounds;
  for (int done = 0; done < rounds; done += functions_per_round) printf("wrong: %ld\n", in_threads(switch_often));
}

static const Case cases[] = {{"functions", functions}, {"signals", signals}, {"changes", changes},
                             {"recursion", recursion}, {"jumps", jumps}, {"contexts", contexts}};
MAIN(cases)
