/* The order of memory accesses (x86-TSO; Intel SDM volume 3, 8.2.3).
 *
 * Two to four threads go through an array of cells, each with its own pair of variables X and Y on cache lines of their
 * own, and do a few accesses to each; what they read is looked at afterwards. An outcome that x86 forbids is wrong;
 * one that only a store buffer explains is counted, to show that the threads did meet. */
#include "self-test.h"

enum { CELLS = 1024, TIME_MS = 1200, TIME_MS_QUICK = 20, RESULTS = 4, MEET_SPINS = 300, SKEWS = 6 };

typedef struct Cell {
  uint64_t x[CACHE_LINE / 8], y[CACHE_LINE / 8];
  uint64_t read[RESULTS][CACHE_LINE / 8];
} Cell;

/* --- Kinds of access --------------------------------------------------------------------------------------- */

static inline __attribute__((always_inline)) void plain_store(uint64_t *at, uint64_t value) {
  __asm__ volatile("mov %1, %0" : "=m"(*at) : "r"(value) : "memory");
}
static inline __attribute__((always_inline)) uint64_t plain_load(uint64_t *at) {
  uint64_t value;
  __asm__ volatile("mov %1, %0" : "=r"(value) : "m"(*at) : "memory");
  return value;
}

static inline __attribute__((always_inline)) void locked_store(uint64_t *at, uint64_t value) {
  __asm__ volatile("xchg %0, %1" : "+m"(*at), "+r"(value) : : "memory");
}
static inline __attribute__((always_inline)) uint64_t locked_load(uint64_t *at) {
  uint64_t value = 0;
  __asm__ volatile("lock xadd %1, %0" : "+m"(*at), "+r"(value) : : "memory");
  return value;
}

static inline __attribute__((always_inline)) void fenced_store(uint64_t *at, uint64_t value) {
  __asm__ volatile("mov %1, %0; mfence" : "=m"(*at) : "r"(value) : "memory");
}
#define fenced_load plain_load

static inline __attribute__((always_inline)) void sse_store(uint64_t *at, uint64_t value) {
  __asm__ volatile("movq %1, %%xmm0; movups %%xmm0, %0" : "=m"(*(uint64_t(*)[2])at) : "r"(value) : "xmm0", "memory");
}
static inline __attribute__((always_inline)) uint64_t sse_load(uint64_t *at) {
  uint64_t value;
  __asm__ volatile("movups %1, %%xmm0; movq %%xmm0, %0" : "=r"(value) : "m"(*(uint64_t(*)[2])at) : "xmm0", "memory");
  return value;
}

static inline __attribute__((always_inline)) void string_store(uint64_t *at, uint64_t value) {
  __asm__ volatile("stosq" : "+D"(at) : "a"(value) : "memory");
}
static inline __attribute__((always_inline)) uint64_t string_load(uint64_t *at) {
  uint64_t value;
  __asm__ volatile("lodsq" : "=a"(value), "+S"(at) : : "memory");
  return value;
}

/* --- What each thread does --------------------------------------------------------------------------------- */

typedef void Step(Cell *cell);

#define STEP(name, kind, body)                                                                                     \
  static void name##_##kind(Cell *c) {                                                                             \
    body;                                                                                                          \
  }
#define R(i) c->read[i][0]

#define STEPS(kind)                                                                                                \
  STEP(write_xy, kind, kind##_store(c->x, 1); kind##_store(c->y, 1))                                               \
  STEP(read_yx, kind, R(0) = kind##_load(c->y); R(1) = kind##_load(c->x))                                          \
  STEP(write_x_read_y, kind, kind##_store(c->x, 1); R(0) = kind##_load(c->y))                                      \
  STEP(write_y_read_x, kind, kind##_store(c->y, 1); R(1) = kind##_load(c->x))                                      \
  STEP(read_x_write_y, kind, R(0) = kind##_load(c->x); kind##_store(c->y, 1))                                      \
  STEP(read_y_write_x, kind, R(1) = kind##_load(c->y); kind##_store(c->x, 1))                                      \
  STEP(write_x1_y2, kind, kind##_store(c->x, 1); kind##_store(c->y, 2))                                            \
  STEP(write_y1_x2, kind, kind##_store(c->y, 1); kind##_store(c->x, 2))                                            \
  STEP(write_x, kind, kind##_store(c->x, 1))                                                                       \
  STEP(write_y, kind, kind##_store(c->y, 1))                                                                       \
  STEP(read_xy, kind, R(0) = kind##_load(c->x); R(1) = kind##_load(c->y))                                          \
  STEP(read_yx_too, kind, R(2) = kind##_load(c->y); R(3) = kind##_load(c->x))

STEPS(plain)
STEPS(locked)
STEPS(fenced)
STEPS(sse)
STEPS(string)

/* --- Outcomes ---------------------------------------------------------------------------------------------- */

static bool message_lost(const Cell *c) { return R(0) == 1 && R(1) == 0; }
static bool both_old(const Cell *c) { return R(0) == 0 && R(1) == 0; }
static bool both_early(const Cell *c) { return R(0) == 1 && R(1) == 1; }
static bool firsts_last(const Cell *c) { return c->x[0] == 1 && c->y[0] == 1; }
static bool orders_differ(const Cell *c) { return R(0) == 1 && R(1) == 0 && R(2) == 1 && R(3) == 0; }

typedef struct Litmus {
  const char *name;
  unsigned threads;
  Step *step[MAX_THREADS];
  bool (*outcome)(const Cell *cell);
  bool allowed; /* the outcome is, and is counted */
} Litmus;

#define LITMUS(kind, store_buffer_shows)                                                                           \
  {"MP " #kind, 2, {write_xy_##kind, read_yx_##kind}, message_lost, false},                                        \
  {"SB " #kind, 2, {write_x_read_y_##kind, write_y_read_x_##kind}, both_old, store_buffer_shows},                  \
  {"LB " #kind, 2, {read_x_write_y_##kind, read_y_write_x_##kind}, both_early, false},                             \
  {"2+2W " #kind, 2, {write_x1_y2_##kind, write_y1_x2_##kind}, firsts_last, false},                                \
  {"IRIW " #kind, 4, {write_x_##kind, write_y_##kind, read_xy_##kind, read_yx_too_##kind}, orders_differ, false}

static const Litmus litmus[] = {LITMUS(plain, true), LITMUS(locked, false), LITMUS(fenced, false), LITMUS(sse, true),
                                LITMUS(string, true)};

/* --- Running ----------------------------------------------------------------------------------------------- */

typedef struct Run {
  const Litmus *litmus;
  Cell *cells;
  uint64_t end; /* when to stop */
  bool stop;
  uint64_t rounds, found;
  Barrier barrier;
  volatile uint32_t reached[MAX_THREADS][CACHE_LINE / 4]; /* by each thread: cells begun */
} Run;

typedef struct Runner {
  Run *run;
  unsigned index;
} Runner;

static void look_and_clear(Run *run) {
  for (unsigned i = 0; i < CELLS; i++) run->found += run->litmus->outcome(&run->cells[i]);
  __builtin_memset(run->cells, 0, CELLS * sizeof *run->cells);
  for (unsigned i = 0; i < run->litmus->threads; i++) run->reached[i][0] = 0;
  run->rounds++;
  run->stop = now_ms() >= run->end;
}

/* The threads come to each cell together, or they would meet in none; where one isn't running the others go on. */
static void meet(Run *run, unsigned index, uint32_t cell) {
  run->reached[index][0] = cell;
  for (unsigned i = 0; i < run->litmus->threads; i++)
    for (unsigned spins = 0; run->reached[i][0] < cell && spins < MEET_SPINS; spins++) {}
  /* The last to come goes on first: by all small distances in time, one of which fits. */
  for (unsigned left = index & 1 ? cell % SKEWS : cell / SKEWS % SKEWS; left; left--) __asm__ volatile("");
}

/* The first thread looks at what all have done, as one thread more would keep the others apart on a small machine. */
static void run_thread(void *argument) {
  const Runner *runner = argument;
  Run *run = runner->run;
  Step *step = run->litmus->step[runner->index];
  for (;;) {
    barrier_wait(&run->barrier);
    if (run->stop) return;
    for (unsigned i = 0; i < CELLS; i++) {
      meet(run, runner->index, i + 1);
      step(&run->cells[i]);
    }
    barrier_wait(&run->barrier);
    if (runner->index == 0) look_and_clear(run);
  }
}

static void run_litmus(const Litmus *test, Cell *cells, uint64_t milliseconds) {
  Run run = {.litmus = test, .cells = cells, .end = now_ms() + milliseconds, .barrier = {.count = test->threads}};
  Runner runners[MAX_THREADS];
  Thread threads[MAX_THREADS];
  for (unsigned i = 0; i < test->threads; i++) {
    runners[i] = (Runner){&run, i};
    thread_start(&threads[i], run_thread, &runners[i]);
  }
  for (unsigned i = 0; i < test->threads; i++) thread_join(&threads[i]);
  uint64_t done = run.rounds * CELLS;
  if (test->allowed) print("litmus %s: %lu done, %lu relaxed as x86 allows\n", test->name, done, run.found);
  else report("litmus", test->name, done, run.found);
}

void test_litmus(const Effort *effort) {
  Cell *cells = map(CELLS * sizeof *cells, false);
  for (size_t i = 0; i < sizeof litmus / sizeof *litmus; i++)
    run_litmus(&litmus[i], cells, effort->quick ? TIME_MS_QUICK : TIME_MS);
}
