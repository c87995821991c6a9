/* The code cache: one mapping, filled from the front, emptied all at once.
 *
 * It is small enough for every branch in it to reach every other (B reaches 128 MiB). Regions are found by
 * host address through an array that grows in address order. */
#include "runtime/internal.h"

#include <string.h>

#include "base/host-call.h"

enum { PROT_RWX = 7, MAP_PRIVATE_ANONYMOUS_NORESERVE = 0x4022, DEFAULT_CACHE = 96 << 20, ARENA_CHUNK = 256 << 10 };

typedef struct ArenaChunk {
  struct ArenaChunk *next;
  size_t size, used;
} ArenaChunk;

static ArenaChunk *arena;

void cache_sync(const void *start, uint64_t length) {
  __builtin___clear_cache((char *)(uintptr_t)start, (char *)(uintptr_t)start + length);
}

void cache_patch(uint32_t *at, uint32_t word) {
  __atomic_store_n(at, word, __ATOMIC_RELEASE);
  cache_sync(at, 4);
}

static void place_trampolines(void) {
  const uint8_t *source[A64_TRAMPOLINE_COUNT] = {
      [A64_TRAMPOLINE_LINK] = runtime_trampoline_link,       [A64_TRAMPOLINE_INDIRECT] = runtime_trampoline_indirect,
      [A64_TRAMPOLINE_RETURN] = runtime_trampoline_return,   [A64_TRAMPOLINE_SYSCALL] = runtime_trampoline_syscall,
      [A64_TRAMPOLINE_RAISE] = runtime_trampoline_raise,     [A64_TRAMPOLINE_HELPER] = runtime_trampoline_helper};
  runtime.trampolines_size = (uint64_t)(runtime_trampolines_end - runtime_trampolines_start);
  memcpy(runtime.cache, runtime_trampolines_start, runtime.trampolines_size);
  for (unsigned i = 0; i < A64_TRAMPOLINE_COUNT; i++)
    runtime.trampolines[i] = (uint64_t)(uintptr_t)runtime.cache + (uint64_t)(source[i] - runtime_trampolines_start);
  runtime.cache_used = (runtime.trampolines_size + 63) & ~UINT64_C(63);
  cache_sync(runtime.cache, runtime.trampolines_size);
}

int cache_init(void) {
  runtime.cache_size = runtime.options.code_cache_size ? runtime.options.code_cache_size : DEFAULT_CACHE;
  uint64_t start, end;
  base_window(&start, &end);
  int64_t at = host_call(__NR_mmap, start, runtime.cache_size, PROT_RWX, MAP_PRIVATE_ANONYMOUS_NORESERVE, -1, 0);
  if (at < 0 && at > -4096) return (int)at;
  runtime.cache = (uint8_t *)(uintptr_t)at;
  place_trampolines();
  return 0;
}

bool cache_contains(uint64_t host_pc) { return host_pc - (uint64_t)(uintptr_t)runtime.cache < runtime.cache_size; }

void *cache_alloc(size_t size) {
  size = (size + 15) & ~(size_t)15;
  if (!arena || arena->size - arena->used < size) {
    size_t chunk = size + sizeof(ArenaChunk) > ARENA_CHUNK ? size + sizeof(ArenaChunk) : ARENA_CHUNK;
    ArenaChunk *fresh = base_pages_alloc(chunk);
    if (!fresh) base_panic("out of memory for translations");
    *fresh = (ArenaChunk){arena, chunk, (sizeof(ArenaChunk) + 15) & ~(size_t)15};
    arena = fresh;
  }
  void *block = (uint8_t *)arena + arena->used;
  arena->used += size;
  return block;
}

static void *keep(const void *source, size_t size) {
  void *copy = cache_alloc(size);
  memcpy(copy, source, size);
  return copy;
}

static void append_region(Region *region) {
  if (runtime.region_count == runtime.region_capacity) {
    uint32_t capacity = runtime.region_capacity ? runtime.region_capacity * 2 : 4096;
    Region **grown = base_pages_alloc(capacity * sizeof *grown);
    if (!grown) base_panic("out of memory for translations");
    /* The old array stays: a signal handler may be searching it. */
    if (runtime.region_count) memcpy(grown, runtime.regions, runtime.region_count * sizeof *grown);
    __atomic_store_n(&runtime.regions, grown, __ATOMIC_RELEASE);
    runtime.region_capacity = capacity;
  }
  runtime.regions[runtime.region_count] = region;
  __atomic_store_n(&runtime.region_count, runtime.region_count + 1, __ATOMIC_RELEASE);
}

Region *cache_add_region(A64Code *code, const LiftRegion *guest) {
  uint64_t bytes = code->count * 4u;
  if (runtime.cache_size - runtime.cache_used < bytes) return NULL;
  uint32_t *at = (uint32_t *)(runtime.cache + runtime.cache_used);
  if (!a64_relocate(code, (uint64_t)(uintptr_t)at, runtime.trampolines, 0)) return NULL;
  memcpy(at, code->words, bytes);
  cache_sync(at, bytes);
  runtime.cache_used = (runtime.cache_used + bytes + 7) & ~UINT64_C(7);

  Region *region = cache_alloc(sizeof *region);
  *region = (Region){.entry = guest->entry, .lowest = guest->lowest, .highest = guest->highest, .code = at,
                     .code_bytes = (uint32_t)bytes, .exit_count = (uint16_t)code->exit_count,
                     .entry_count = (uint16_t)code->entry_count, .indirect_count = (uint16_t)code->indirect_count,
                     .pc_map_count = (uint16_t)code->pc_map_count};
  region->exits = keep(code->exits, code->exit_count * sizeof *code->exits);
  region->entries = keep(code->entries, code->entry_count * sizeof *code->entries);
  region->indirect_checks = keep(code->indirect_checks, code->indirect_count * sizeof *code->indirect_checks);
  region->pc_map = keep(code->pc_map, code->pc_map_count * sizeof *code->pc_map);
  append_region(region);
  return region;
}

Region *cache_find_region(uint64_t host_pc) {
  uint32_t count = __atomic_load_n(&runtime.region_count, __ATOMIC_ACQUIRE), low = 0, high = count;
  Region **regions = __atomic_load_n(&runtime.regions, __ATOMIC_ACQUIRE);
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if ((uint64_t)(uintptr_t)regions[middle]->code <= host_pc) low = middle + 1;
    else high = middle;
  }
  if (low == 0) return NULL;
  Region *region = regions[low - 1];
  return host_pc - (uint64_t)(uintptr_t)region->code < region->code_bytes ? region : NULL;
}

void cache_clear(void) {
  __atomic_store_n(&runtime.region_count, 0, __ATOMIC_RELEASE);
  runtime.cache_used = (runtime.trampolines_size + 63) & ~UINT64_C(63);
  while (arena) {
    ArenaChunk *next = arena->next;
    base_pages_free(arena, arena->size);
    arena = next;
  }
}

void cache_adopt_stub(uint32_t *stub, uint32_t bytes, const Region *origin, uint64_t host_pc) {
  unsigned form;
  uint64_t guest_pc = runtime_pc_of_host(origin, host_pc, &form);
  Region *region = cache_alloc(sizeof *region);
  *region = (Region){.entry = guest_pc, .code = stub, .code_bytes = bytes, .pc_map_count = 1};
  region->pc_map = cache_alloc(sizeof *region->pc_map);
  region->pc_map[0] = (A64PcMap){0, form << 30};
  runtime.cache_used = (runtime.cache_used + bytes + 7) & ~UINT64_C(7);
  append_region(region);
}
