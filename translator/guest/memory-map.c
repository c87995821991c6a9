/* The map of guest memory: a sorted array of disjoint ranges, neighbours with equal flags merged, under
 * one lock. Look-ups are binary searches; a process with tens of thousands of mappings pays a memmove per
 * change, which is little beside the system call it accompanies.
 *
 * The lock is never held while guest memory is touched, so a fault handler may take it; handlers of
 * asynchronous signals must not. */
#include <errno.h>
#include <string.h>

#include "base/base.h"
#include "guest/memory-map.h"

static struct {
  BaseLock lock;
  MemoryRange *ranges;
  size_t count, capacity;
} map = {.lock = {.rank = BASE_RANK_MAP}};

/* Index of the first range that ends above `address`. */
static size_t find(uint64_t address) {
  size_t low = 0, high = map.count;
  while (low < high) {
    size_t middle = (low + high) / 2;
    if (map.ranges[middle].end > address) high = middle;
    else low = middle + 1;
  }
  return low;
}

static void reserve(size_t wanted) {
  if (wanted <= map.capacity) return;
  size_t capacity = map.capacity ? map.capacity * 2 : 128;
  MemoryRange *ranges = base_alloc(capacity * sizeof *ranges);
  if (!ranges) base_panic("out of memory for the map of %zu guest mappings", map.count);
  if (map.count) memcpy(ranges, map.ranges, map.count * sizeof *ranges);
  base_free(map.ranges);
  map.ranges = ranges;
  map.capacity = capacity;
}

/* Replaces ranges [first, last) by `pieces`. */
static void splice(size_t first, size_t last, const MemoryRange *pieces, size_t count) {
  reserve(map.count + count);
  memmove(map.ranges + first + count, map.ranges + last, (map.count - last) * sizeof *pieces);
  if (count) memcpy(map.ranges + first, pieces, count * sizeof *pieces);
  map.count = map.count + count - (last - first);
}

static bool continues(const MemoryRange *range, const MemoryRange *next) {
  if (range->end != next->start || range->flags != next->flags || range->object != next->object) return false;
  return !range->object || range->offset + (range->end - range->start) == next->offset;
}

static void merge_with_next(size_t index) {
  if (index + 1 >= map.count) return;
  MemoryRange *range = &map.ranges[index];
  if (!continues(range, range + 1)) return;
  range->end = range[1].end;
  splice(index + 1, index + 2, NULL, 0);
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
  while (last < map.count && map.ranges[last].start < end) last++;
  MemoryRange pieces[3];
  if (first < last && map.ranges[first].start < start)
    pieces[count++] = part(&map.ranges[first], map.ranges[first].start, start);
  if (mapped) pieces[count++] = *fresh;
  if (first < last && map.ranges[last - 1].end > end)
    pieces[count++] = part(&map.ranges[last - 1], end, map.ranges[last - 1].end);
  splice(first, last, pieces, count);
  for (size_t i = count + 1; i-- > 0;)
    if (first + i > 0) merge_with_next(first + i - 1);
}

int memory_map_query(uint64_t address, uint64_t *ret_end) {
  int flags = -EFAULT;
  base_lock(&map.lock);
  size_t index = find(address);
  if (index < map.count && map.ranges[index].start <= address) {
    flags = (int)map.ranges[index].flags;
    *ret_end = map.ranges[index].end;
  }
  base_unlock(&map.lock);
  return flags;
}

bool memory_map_next(uint64_t address, MemoryRange *ret_range) {
  base_lock(&map.lock);
  size_t index = find(address);
  bool found = index < map.count;
  if (found) *ret_range = map.ranges[index];
  base_unlock(&map.lock);
  return found;
}

uint32_t memory_map_any(uint64_t start, uint64_t end) {
  uint32_t flags = 0;
  base_lock(&map.lock);
  for (size_t i = find(start); i < map.count && map.ranges[i].start < end; i++)
    flags |= map.ranges[i].flags;
  base_unlock(&map.lock);
  return flags;
}

bool memory_map_covers(uint64_t start, uint64_t end) {
  base_lock(&map.lock);
  for (size_t i = find(start); start < end && i < map.count && map.ranges[i].start <= start; i++)
    start = map.ranges[i].end;
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
  for (size_t i = find(address); i < map.count && !found; i++) {
    found = map.ranges[i].object == object && map.ranges[i].flags & flags;
    if (found) *ret_range = map.ranges[i];
  }
  base_unlock(&map.lock);
  return found;
}

uint64_t memory_map_next_alias(uint64_t address, uint64_t after) {
  uint64_t found = 0;
  base_lock(&map.lock);
  size_t index = find(address);
  const MemoryRange *own = index < map.count && map.ranges[index].start <= address ? &map.ranges[index] : NULL;
  uint64_t wanted = own && own->object ? own->offset + (address - own->start) : 0;
  for (size_t i = after ? find(after) : 0; own && own->object && i < map.count && !found; i++) {
    const MemoryRange *range = &map.ranges[i];
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
    if (index >= map.count || map.ranges[index].start >= end) break;
    MemoryRange range = map.ranges[index];
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
  if (below < map.count && map.ranges[below].start < high) below++;
  if (below < map.count && claimed_from(&map.ranges[below]) < high) high = claimed_from(&map.ranges[below]);
  for (;;) {
    uint64_t floor = below ? map.ranges[below - 1].end : 0;
    if (floor < low) floor = low;
    uint64_t start = high < length ? 0 : (high - length) & ~(alignment - 1);
    if (start >= floor && start) {
      result = start;
      break;
    }
    if (!below || map.ranges[below - 1].start <= low) break;
    high = claimed_from(&map.ranges[--below]);
  }
  base_unlock(&map.lock);
  return result;
}

void memory_map_before_fork(void) { base_lock(&map.lock); }

void memory_map_after_fork(void) { base_unlock(&map.lock); }
