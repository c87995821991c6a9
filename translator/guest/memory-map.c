/* The map of guest memory: a sorted array of disjoint ranges, neighbours with equal flags merged, under
 * one lock. Look-ups are binary searches; a process with tens of thousands of mappings pays a copy per
 * change, which is little beside the system call it accompanies. A change is made in another array, which then takes the
 * first one's place by one store: whoever makes it may be killed at any instruction, and others share this memory.
 *
 * The lock is never held while guest memory is touched, so a fault handler may take it; handlers of
 * asynchronous signals must not. */
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "guest/memory-map.h"

typedef struct Ranges {
  MemoryRange *ranges;
  size_t count, capacity;
} Ranges;

static Ranges arrays[2];
static struct {
  BaseLock lock;
  Ranges *now; /* one of the arrays; the other one is free */
} map = {.lock = {.rank = BASE_RANK_MAP}, .now = arrays};

/* Index of the first range that ends above `address`. */
static size_t find(uint64_t address) {
  size_t low = 0, high = map.now->count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (map.now->ranges[middle].end > address) high = middle;
    else low = middle + 1;
  }
  return low;
}

static void reserve(Ranges *array, size_t wanted) {
  if (wanted <= array->capacity) return;
  size_t capacity = array->capacity ? array->capacity : 128;
  while (capacity < wanted) capacity *= 2;
  MemoryRange *old = array->ranges, *ranges = base_alloc(capacity * sizeof *ranges);
  if (!ranges) base_panic("out of memory for the map of %zu guest mappings", map.now->count);
  array->capacity = 0;
  __atomic_store_n(&array->ranges, ranges, __ATOMIC_RELEASE);
  __atomic_store_n(&array->capacity, capacity, __ATOMIC_RELEASE);
  base_free(old);
}

/* Replaces ranges [first, last) by `pieces`. */
static void splice(size_t first, size_t last, const MemoryRange *pieces, size_t count) {
  const Ranges *old = map.now;
  Ranges *fresh = old == arrays ? arrays + 1 : arrays;
  reserve(fresh, old->count + count);
  if (first) memcpy(fresh->ranges, old->ranges, first * sizeof *pieces);
  if (count) memcpy(fresh->ranges + first, pieces, count * sizeof *pieces);
  if (last < old->count) memcpy(fresh->ranges + first + count, old->ranges + last, (old->count - last) * sizeof *pieces);
  fresh->count = old->count + count - (last - first);
  __atomic_store_n(&map.now, fresh, __ATOMIC_RELEASE);
}

static bool continues(const MemoryRange *range, const MemoryRange *next) {
  if (range->end != next->start || range->flags != next->flags || range->object != next->object) return false;
  return !range->object || range->offset + (range->end - range->start) == next->offset;
}

static void merge_with_next(size_t index) {
  if (index + 1 >= map.now->count) return;
  const MemoryRange *range = &map.now->ranges[index];
  if (!continues(range, range + 1)) return;
  MemoryRange whole = *range;
  whole.end = range[1].end;
  splice(index, index + 2, &whole, 1);
}

/* The part of a range from `start` on. */
static MemoryRange part(const MemoryRange *range, uint64_t start, uint64_t end) {
  uint64_t offset = range->object ? range->offset + (start - range->start) : 0;
  return (MemoryRange){start, end, range->flags, range->object, offset};
}

/* Makes [fresh->start, fresh->end) that one range, or none where `mapped` is false. */
static void replace(const MemoryRange *fresh, bool mapped) {
  uint64_t start = fresh->start, end = fresh->end;
  size_t first = find(start), last = first, count = 0;
  while (last < map.now->count && map.now->ranges[last].start < end) last++;
  MemoryRange pieces[3];
  if (first < last && map.now->ranges[first].start < start)
    pieces[count++] = part(&map.now->ranges[first], map.now->ranges[first].start, start);
  if (mapped) pieces[count++] = *fresh;
  if (first < last && map.now->ranges[last - 1].end > end)
    pieces[count++] = part(&map.now->ranges[last - 1], end, map.now->ranges[last - 1].end);
  splice(first, last, pieces, count);
  for (size_t i = count + 1; i-- > 0;)
    if (first + i > 0) merge_with_next(first + i - 1);
}

int memory_map_query(uint64_t address, uint64_t *ret_end) {
  int flags = -EFAULT;
  base_lock(&map.lock);
  size_t index = find(address);
  if (index < map.now->count && map.now->ranges[index].start <= address) {
    flags = (int)map.now->ranges[index].flags;
    *ret_end = map.now->ranges[index].end;
  }
  base_unlock(&map.lock);
  return flags;
}

bool memory_map_next(uint64_t address, MemoryRange *ret_range) {
  base_lock(&map.lock);
  size_t index = find(address);
  bool found = index < map.now->count;
  if (found) *ret_range = map.now->ranges[index];
  base_unlock(&map.lock);
  return found;
}

uint32_t memory_map_any(uint64_t start, uint64_t end) {
  uint32_t flags = 0;
  base_lock(&map.lock);
  for (size_t i = find(start); i < map.now->count && map.now->ranges[i].start < end; i++)
    flags |= map.now->ranges[i].flags;
  base_unlock(&map.lock);
  return flags;
}

bool memory_map_covers(uint64_t start, uint64_t end) {
  base_lock(&map.lock);
  for (size_t i = find(start); start < end && i < map.now->count && map.now->ranges[i].start <= start; i++)
    start = map.now->ranges[i].end;
  base_unlock(&map.lock);
  return start >= end;
}

bool memory_map_overlaps(uint64_t start, uint64_t end) {
  MemoryRange range;
  return memory_map_next(start, &range) && range.start < end;
}

void memory_map_set_object(uint64_t start, uint64_t end, uint32_t flags, uint64_t object, uint64_t offset) {
  if (start >= end) return;
  MemoryRange range = {start, end, flags, object, object ? offset : 0};
  base_lock(&map.lock);
  replace(&range, true);
  base_unlock(&map.lock);
}

void memory_map_set(uint64_t start, uint64_t end, uint32_t flags) {
  memory_map_set_object(start, end, flags, 0, 0);
}

bool memory_map_next_view(uint64_t object, uint32_t flags, uint64_t address, MemoryRange *ret_range) {
  bool found = false;
  base_lock(&map.lock);
  for (size_t i = find(address); i < map.now->count && !found; i++) {
    found = map.now->ranges[i].object == object && map.now->ranges[i].flags & flags;
    if (found) *ret_range = map.now->ranges[i];
  }
  base_unlock(&map.lock);
  return found;
}

uint64_t memory_map_next_alias(uint64_t address, uint64_t after) {
  uint64_t found = 0;
  base_lock(&map.lock);
  size_t index = find(address);
  const MemoryRange *own = index < map.now->count && map.now->ranges[index].start <= address ? &map.now->ranges[index] : NULL;
  uint64_t wanted = own && own->object ? own->offset + (address - own->start) : 0;
  for (size_t i = after ? find(after) : 0; own && own->object && i < map.now->count && !found; i++) {
    const MemoryRange *range = &map.now->ranges[i];
    if (range->object != own->object || !(range->flags & MEMORY_SHARED) || wanted < range->offset) continue;
    uint64_t alias = range->start + (wanted - range->offset);
    if (alias < range->end && alias > after && alias != address) found = alias;
  }
  base_unlock(&map.lock);
  return found;
}

void memory_map_clear(uint64_t start, uint64_t end) {
  if (start >= end) return;
  MemoryRange range = {.start = start, .end = end};
  base_lock(&map.lock);
  replace(&range, false);
  base_unlock(&map.lock);
}

void memory_map_change(uint64_t start, uint64_t end, uint32_t clear, uint32_t set) {
  base_lock(&map.lock);
  while (start < end) {
    size_t index = find(start);
    if (index >= map.now->count || map.now->ranges[index].start >= end) break;
    MemoryRange range = map.now->ranges[index];
    if (range.start > start) start = range.start;
    uint64_t stop = range.end < end ? range.end : end;
    MemoryRange changed = part(&range, start, stop);
    changed.flags = (range.flags & ~clear) | set;
    if (changed.flags != range.flags) replace(&changed, true);
    start = stop;
  }
  base_unlock(&map.lock);
}

/* Where the room that a range claims begins. */
static uint64_t claimed_from(const MemoryRange *range) {
  if (!(range->flags & MEMORY_GROWS)) return range->start;
  return range->start > MEMORY_GUARD_GAP ? range->start - MEMORY_GUARD_GAP : 0;
}

uint64_t memory_map_find_gap(uint64_t length, uint64_t alignment, uint64_t low, uint64_t high) {
  uint64_t result = 0;
  base_lock(&map.lock);
  size_t below = find(high - 1); /* how many ranges start below `high` */
  if (below < map.now->count && map.now->ranges[below].start < high) below++;
  if (below < map.now->count && claimed_from(&map.now->ranges[below]) < high) high = claimed_from(&map.now->ranges[below]);
  for (;;) {
    uint64_t floor = below ? map.now->ranges[below - 1].end : 0;
    if (floor < low) floor = low;
    uint64_t start = high < length ? 0 : (high - length) & ~(alignment - 1);
    if (start >= floor && start) {
      result = start;
      break;
    }
    if (!below || map.now->ranges[below - 1].start <= low) break;
    high = claimed_from(&map.now->ranges[--below]);
  }
  base_unlock(&map.lock);
  return result;
}

void memory_map_before_fork(void) { base_lock(&map.lock); }

void memory_map_after_fork(void) { base_unlock(&map.lock); }
