/* Locked operations of every size at every alignment, across cache lines and pages, by several threads at once: their
 * sum must come out, and what lies around must stay. */
#include "self-test.h"

enum { TIMES = 2000, TIMES_QUICK = 20, AROUND = 16, GUARD = 0x5a };

typedef struct Place {
  volatile uint8_t *at;
  unsigned size, times;
  Barrier barrier;
} Place;

typedef struct Adder {
  Place *place;
  unsigned way;
} Adder;

#define ADD_WAYS(bits, type, suffix)                                                                               \
  static void add_##bits(volatile uint8_t *at, unsigned way) {                                                     \
    type one = 1, old, fresh;                                                                                      \
    switch (way) {                                                                                                 \
    case 0: __asm__ volatile("lock add" suffix " %1, (%0)" : : "r"(at), "r"(one) : "memory", "cc"); return;         \
    case 1: __asm__ volatile("lock xadd" suffix " %0, (%1)" : "+r"(one) : "r"(at) : "memory", "cc"); return;        \
    case 2: __asm__ volatile("lock inc" suffix " (%0)" : : "r"(at) : "memory", "cc"); return;                       \
    default: break;                                                                                                \
    }                                                                                                              \
    bool done;                                                                                                     \
    __asm__ volatile("mov" suffix " (%1), %0" : "=r"(old) : "r"(at) : "memory");                                   \
    do {                                                                                                           \
      fresh = (type)(old + 1);                                                                                     \
      __asm__ volatile("lock cmpxchg" suffix " %3, (%2); sete %1"                                                  \
                       : "+a"(old), "=q"(done) : "r"(at), "r"(fresh) : "memory", "cc");                            \
    } while (!done);                                                                                               \
  }

ADD_WAYS(16, uint16_t, "w")
ADD_WAYS(32, uint32_t, "l")
ADD_WAYS(64, uint64_t, "q")

static void add_thread(void *argument) {
  const Adder *adder = argument;
  Place *place = adder->place;
  barrier_wait(&place->barrier);
  for (unsigned i = 0; i < place->times; i++) {
    if (place->size == 2) add_16(place->at, adder->way);
    else if (place->size == 4) add_32(place->at, adder->way);
    else add_64(place->at, adder->way);
  }
}

static uint64_t value_at(const Place *place) {
  uint64_t value = 0;
  for (unsigned i = place->size; i-- > 0;) value = value << 8 | place->at[i];
  return value;
}

static bool is_right(const Place *place) {
  uint64_t mask = place->size == 8 ? UINT64_MAX : (UINT64_C(1) << place->size * 8) - 1;
  if (value_at(place) != ((uint64_t)place->times * MAX_THREADS & mask)) return false;
  for (unsigned i = 1; i <= AROUND; i++)
    if (place->at[-(int)i] != GUARD || place->at[place->size - 1 + i] != GUARD) return false;
  return true;
}

static bool add_at(volatile uint8_t *at, unsigned size, unsigned times) {
  Place place = {at, size, times, {.count = MAX_THREADS}};
  Adder adders[MAX_THREADS];
  Thread threads[MAX_THREADS];
  for (int i = -AROUND; i < (int)size + AROUND; i++) at[i] = i < 0 || i >= (int)size ? GUARD : 0;
  for (unsigned i = 0; i < MAX_THREADS; i++) {
    adders[i] = (Adder){&place, i};
    thread_start(&threads[i], add_thread, &adders[i]);
  }
  for (unsigned i = 0; i < MAX_THREADS; i++) thread_join(&threads[i]);
  return is_right(&place);
}

void test_atomics(const Effort *effort) {
  static const char *const names[] = {[2] = "2 bytes", [4] = "4 bytes", [8] = "8 bytes"};
  volatile uint8_t *pages = map(2 * PAGE, false);
  unsigned times = effort->quick ? TIMES_QUICK : TIMES;
  for (unsigned size = 2; size <= 8; size *= 2) {
    uint64_t done = 0, wrong = 0;
    for (unsigned offset = 0; offset < CACHE_LINE; offset++, done++) wrong += !add_at(pages + CACHE_LINE + offset, size, times);
    for (unsigned before = 1; before < size; before++, done++) wrong += !add_at(pages + PAGE - before, size, times);
    report("atomics", names[size], done, wrong);
  }
}
