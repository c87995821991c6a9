/* Which regions depend on guest bytes: a mapping call asks for those in its range, and a program that makes code as it
 * runs makes such calls all the time, beside any number of regions. They are noted by granules of guest addresses, large
 * enough that a region, with what was only looked at for its flags, lies in few of them. */
#include "runtime/internal.h"

#include <string.h>

enum { GRANULE_BITS = 16, BUCKETS = 1 << 12 };

struct Dependent {
  Region *region;
  uint64_t granule;
  Dependent *next, **where; /* in the bucket; where: NULL while the region sleeps */
  Dependent *next_of_region;
};

static Dependent *buckets[BUCKETS];

static Dependent **bucket(uint64_t granule) { return &buckets[(granule ^ granule >> 12) & (BUCKETS - 1)]; }

static void put_in(Dependent *note) {
  Dependent **head = bucket(note->granule);
  note->next = *head;
  note->where = head;
  if (note->next) note->next->where = &note->next;
  *head = note;
}

void dependents_note_again(Region *region) {
  for (Dependent *note = region->dependent; note; note = note->next_of_region) put_in(note);
}

static void note_between(Region *region, uint64_t start, uint64_t end) {
  uint64_t last = (end - 1) >> GRANULE_BITS;
  for (uint64_t granule = start >> GRANULE_BITS; granule <= last; granule++) {
    Dependent *note = cache_alloc(region, sizeof *note);
    *note = (Dependent){.region = region, .granule = granule, .next_of_region = region->dependent};
    region->dependent = note;
    put_in(note);
  }
}

void dependents_note(Region *region) {
  note_between(region, region->look_lowest, region->look_highest);
  if (region->slot_highest) note_between(region, region->slot_lowest, region->slot_highest);
}

static bool depends_on(const Region *region, uint64_t start, uint64_t end) {
  return (region->look_lowest < end && region->look_highest > start) ||
         (region->slot_lowest < end && region->slot_highest > start);
}

void dependents_forget(Region *region) {
  for (Dependent *note = region->dependent; note; note = note->next_of_region) {
    if (!note->where) continue;
    *note->where = note->next;
    if (note->next) note->next->where = note->where;
    note->where = NULL;
  }
}

void dependents_clear(void) { memset(buckets, 0, sizeof buckets); }

static bool kill_in_bucket(Dependent *note, uint64_t start, uint64_t end) {
  bool any = false;
  for (Dependent *next; note; note = next) {
    Region *region = note->region;
    next = note->next;
    while (next && next->region == region) next = next->next; /* goes with it */
    if (!depends_on(region, start, end)) continue;
    region_kill(region, DEATH_MAPPING);
    any = true;
  }
  return any;
}

bool dependents_kill(uint64_t start, uint64_t end) {
  bool any = false;
  if (start >= end) return false;
  uint64_t first = start >> GRANULE_BITS, last = (end - 1) >> GRANULE_BITS;
  if (last - first >= BUCKETS) first = 0, last = BUCKETS - 1; /* every bucket, by granules that lead to it */
  for (uint64_t granule = first; granule <= last; granule++) any |= kill_in_bucket(*bucket(granule), start, end);
  return any;
}
