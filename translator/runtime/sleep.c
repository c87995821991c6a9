/* Regions that may come back.
 *
 * Programs that make code while they run write new code and data beside old code, protect and unprotect it, and change
 * calls and caches back and forth. What is noticed is that a page changes; mostly the code that was translated from it is
 * what it was. So a region whose page was written or mapped anew is not given up: it falls asleep, with a copy of all guest
 * bytes it depends on. To threads that is a death like any other (ARCHITECTURE.md, "Threads and the code cache"). When
 * the address is wanted again the bytes are compared, once its pages are protected, and where they are the same the region
 * lives again; the branches to it are linked anew as they are taken. Its own links are kept meanwhile, so that the
 * exits it was linked through follow their targets' lives.
 *
 * Several may sleep at one address, with other bytes each; of too many, those that have slept longest die. All of it is under the runtime's lock. */
#include "runtime/internal.h"

#include <string.h>

enum {
  BUCKETS = 1 << 12,
  MAX_VERSIONS = 4,
  MAX_SHARE = 8 /* of the cache one in so many bytes may be asleep: most of what a compiler throws away never comes back */
};

typedef struct Source {
  uint8_t run_count;
  const uint8_t *bytes; /* of all runs, one after the other */
  RegionRun runs[];
} Source;

static Region *buckets[BUCKETS];
uint32_t sleep_count;
static Region *oldest, *newest; /* of those asleep */
static uint64_t asleep_bytes;   /* of code */

static Region **bucket(uint64_t pc) { return &buckets[(pc ^ pc >> 12) & (BUCKETS - 1)]; }

/* --- What a region was made of ------------------------------------------------------------------------------- */

typedef struct Bytes {
  const RegionRun *runs;
  unsigned count;
  uint8_t *copy;
  bool differ;
} Bytes;

static uint64_t length_of(const RegionRun *run) { return run->end - run->start; }

static void copy_bytes(void *argument) {
  const Bytes *b = argument;
  uint8_t *to = b->copy;
  for (unsigned i = 0; i < b->count; to += length_of(&b->runs[i++]))
    memcpy(to, (const void *)(uintptr_t)b->runs[i].start, length_of(&b->runs[i]));
}

static void compare_bytes(void *argument) {
  Bytes *b = argument;
  const uint8_t *with = b->copy;
  for (unsigned i = 0; i < b->count && !b->differ; with += length_of(&b->runs[i++]))
    b->differ = memcmp(with, (const void *)(uintptr_t)b->runs[i].start, length_of(&b->runs[i])) != 0;
}

void sleep_keep_source(RuntimeThread *thread, Region *region, const LiftRegion *guest) {
  if (region->checked || guest->single_step) return;
  size_t length = 0, head = sizeof(Source) + guest->source_count * sizeof(RegionRun);
  for (unsigned i = 0; i < guest->source_count; i++) length += length_of(&guest->sources[i]);
  Source *source = cache_alloc(region, head + length);
  *source = (Source){.run_count = guest->source_count, .bytes = (uint8_t *)source + head};
  memcpy(source->runs, guest->sources, guest->source_count * sizeof(RegionRun));
  Bytes bytes = {source->runs, source->run_count, (uint8_t *)source + head, false};
  if (guard_call(thread, copy_bytes, &bytes)) region->source = source;
}

/* --- Asleep ---------------------------------------------------------------------------------------------------- */

static void take_out(Region *region) {
  Region **at = bucket(region->entry);
  while (*at != region) at = &(*at)->next_asleep;
  *at = region->next_asleep;
  *(region->sleeps_after ? &region->sleeps_after->sleeps_before : &oldest) = region->sleeps_before;
  *(region->sleeps_before ? &region->sleeps_before->sleeps_after : &newest) = region->sleeps_after;
  region->asleep = false;
  sleep_count--;
  asleep_bytes -= region->code_bytes;
  cache_note_sleep(region, false);
}

void sleep_give_up(Region *region, DeathCause cause) {
  take_out(region);
  runtime.stats.deaths[cause]++;
  region_bury(region);
}

/* The one that has slept longest of too many for an address. */
static Region *superfluous(uint64_t pc) {
  Region *last = NULL;
  unsigned count = 0;
  for (Region *r = *bucket(pc); r; r = r->next_asleep) {
    if (r->entry != pc) continue;
    last = r;
    count++;
  }
  return count > MAX_VERSIONS ? last : NULL;
}

bool sleep_begin(Region *region, DeathCause cause) {
  bool may_come_back = cause == DEATH_WRITTEN || cause == DEATH_SYSCALL || cause == DEATH_MAPPING;
  if (!may_come_back || !region->source) return false;
  Region **first = bucket(region->entry);
  region->next_asleep = *first;
  *first = region;
  region->sleeps_after = newest;
  region->sleeps_before = NULL;
  *(newest ? &newest->sleeps_before : &oldest) = region;
  newest = region;
  region->asleep = true;
  sleep_count++;
  asleep_bytes += region->code_bytes;
  cache_note_sleep(region, true);
  Region *old = superfluous(region->entry);
  if (old) sleep_give_up(old, DEATH_IN_SLEEP);
  while (asleep_bytes > runtime.cache_size / MAX_SHARE) sleep_give_up(oldest, DEATH_IN_SLEEP);
  return true;
}

void sleep_forget_all(void) {
  if (sleep_count) memset(buckets, 0, sizeof buckets);
  oldest = newest = NULL;
  sleep_count = 0;
  asleep_bytes = 0;
}

void sleep_recover(void) { sleep_count = 1; /* whatever it was */ }

/* --- Awake ----------------------------------------------------------------------------------------------------- */

static bool within(const Source *source, const RegionWindow *window) {
  for (unsigned i = 0; i < source->run_count; i++)
    if (source->runs[i].start < window->start || source->runs[i].end > window->end)
      return false;
  return true;
}

static bool same_bytes(RuntimeThread *thread, const Source *source) {
  Bytes bytes = {source->runs, source->run_count, (uint8_t *)(uintptr_t)source->bytes, false};
  return guard_call(thread, compare_bytes, &bytes) && !bytes.differ;
}

/* What threads may store to is compared once that would be noticed. */
static bool come_back(RuntimeThread *thread, Region *region, const RegionWindow *window) {
  const Source *source = region->source;
  if (!within(source, window) || pages_runs_want_checks(source->runs, source->run_count)) return false;
  if (!same_bytes(thread, source)) return false;
  if (!window->writable) return true;
  pages_note_again(region, source->runs, source->run_count);
  if (!runtime.concurrent || same_bytes(thread, source)) return true;
  pages_forget_region(region);
  return false;
}

Region *sleep_end(RuntimeThread *thread, uint64_t pc, const RegionWindow *window) {
  if (window->unwatched) return NULL;
  for (Region *r = *bucket(pc), *next; r; r = next) {
    next = r->next_asleep;
    if (r->entry != pc || !come_back(thread, r, window)) continue;
    take_out(r);
    r->dead = false;
    dependents_note_again(r);
    runtime.stats.woken++;
    return r;
  }
  return NULL;
}
