/* The code cache: one mapping with the trampolines, the slots of detours and chunks of code.
 *
 * It is small enough for every branch in it to reach every other (B reaches 128 MiB). A chunk is filled from its
 * front, lives as long as something in it does, and is used again as a whole: its regions die (region_kill(), or
 * all at once), and when every thread has been out of the code since then, nothing can lead there. Regions are found by host
 * address through their chunk's array, which grows in address order. */
#include "runtime/internal.h"

#include <string.h>

#include "base/host-call.h"

enum {
  PROT_RX = 5,
  PROT_RWX = 7,
  DEFAULT_CACHE = 96 << 20,
  BRANCH_REACH = 128 << 20,
  SMALL_CHUNK = 64 << 10,
  MANY_CHUNKS = 1024,
  ARENA_BLOCK = 64 << 10
};

typedef struct ArenaBlock {
  struct ArenaBlock *next;
  size_t size, used;
} ArenaBlock;

typedef enum ChunkState {
  CHUNK_FREE,
  CHUNK_USED,
  CHUNK_RETIRED /* all dead, but a thread may still be in it */
} ChunkState;

typedef struct Chunk {
  ChunkState state;
  uint32_t used, dead_bytes, asleep_bytes; /* bytes of code */
  uint64_t number;           /* in the order in which chunks were begun */
  uint64_t deaths;           /* CHUNK_RETIRED: runtime.deaths then */
  Region **regions;          /* by ascending code address */
  uint32_t region_count, region_capacity;
  ArenaBlock *arena;
} Chunk;

static struct {
  uint8_t *code; /* first chunk's */
  uint32_t chunk_bytes, chunk_count, free_count, retired_count;
  Chunk *chunks;
  Chunk *current; /* being filled */
  uint64_t begun;
  ArenaBlock *spare;
} cache;

/* CTR_EL0 (Arm ARM D19.2.34): the smallest lines of the data and instruction caches, as powers of two of four bytes; IDC and
 * DIC: what is written reaches the point of unification by itself, and instruction caches see it there. */
static struct {
  uint64_t data_line, instruction_line; /* bytes */
  bool data_reaches, instructions_see;
} lines;

static void read_line_sizes(void) {
  uint64_t type;
  __asm__("mrs %0, ctr_el0" : "=r"(type));
  lines.data_line = UINT64_C(4) << (type >> 16 & 15);
  lines.instruction_line = UINT64_C(4) << (type & 15);
  lines.data_reaches = type >> 28 & 1;
  lines.instructions_see = type >> 29 & 1;
}

/* How many lines [start, end) touches. */
static uint64_t lines_in(uint64_t start, uint64_t end, uint64_t line) { return (end - (start & -line) + line - 1) / line; }

void cache_sync(const void *start, uint64_t length) {
  uint64_t first = (uint64_t)(uintptr_t)start, data = lines.data_line, instruction = lines.instruction_line;
  uint64_t data_lines = lines.data_reaches ? 0 : lines_in(first, first + length, data);
  uint64_t instruction_lines = lines.instructions_see ? 0 : lines_in(first, first + length, instruction), at = first & -data;
#pragma GCC unroll 4
  for (uint64_t i = 0; i < data_lines; i++, at += data) __asm__ volatile("dc cvau, %0" ::"r"(at) : "memory");
  __asm__ volatile("dsb ish" ::: "memory");
  at = first & -instruction;
#pragma GCC unroll 4
  for (uint64_t i = 0; i < instruction_lines; i++, at += instruction) __asm__ volatile("ic ivau, %0" ::"r"(at) : "memory");
  __asm__ volatile("dsb ish\n\tisb" ::: "memory");
}

/* What the checking build knows of Arm ARM B2.2.5: while others may be in code, only B and BL change into one another. */
static void check_patch(uint32_t old, uint32_t word) {
#ifdef STELE_CHECK_LOCKS
  enum { B_OR_BL_MASK = 0x7c000000, B_OR_BL = 0x14000000 };
  if (runtime.concurrent && ((old & B_OR_BL_MASK) != B_OR_BL || (word & B_OR_BL_MASK) != B_OR_BL))
    base_panic("0x%x changed to 0x%x while others may execute it", old, word);
#endif
  (void)old, (void)word;
}

void cache_patch(uint32_t *at, uint32_t word) {
  check_patch(*at, word);
  __atomic_store_n(at, word, __ATOMIC_RELEASE);
  if (!lines.data_reaches) __asm__ volatile("dc cvau, %0" ::"r"(at) : "memory");
  __asm__ volatile("dsb ish" ::: "memory");
  if (!lines.instructions_see) __asm__ volatile("ic ivau, %0" ::"r"(at) : "memory");
  __asm__ volatile("dsb ish\n\tisb" ::: "memory");
}

/* --- Start ------------------------------------------------------------------------------------------ */

static uint64_t trampoline_at(const uint8_t *source) {
  return (uint64_t)(uintptr_t)runtime.cache + (uint64_t)(source - runtime_trampolines_start);
}

/* The trampolines' page is not writable: it holds the addresses of the C code they lead to. */
static int64_t place_trampolines(void) {
  const uint8_t *source[A64_TRAMPOLINE_COUNT] = {
      [A64_TRAMPOLINE_LINK] = runtime_trampoline_link,       [A64_TRAMPOLINE_INDIRECT] = runtime_second_indirect,
      [A64_TRAMPOLINE_RETURN] = runtime_second_return,       [A64_TRAMPOLINE_SYSCALL] = runtime_trampoline_syscall,
      [A64_TRAMPOLINE_RAISE] = runtime_trampoline_raise,     [A64_TRAMPOLINE_HELPER] = runtime_trampoline_helper};
  uint64_t size = (uint64_t)(runtime_trampolines_end - runtime_trampolines_start);
  const uint64_t addresses[2] = {(uint64_t)(uintptr_t)runtime_leave, (uint64_t)(uintptr_t)runtime_helper_table};
  memcpy(runtime.cache, runtime_trampolines_start, size);
  memcpy(runtime.cache + (runtime_trampoline_addresses - runtime_trampolines_start), addresses, sizeof addresses);
  for (unsigned i = 0; i < A64_TRAMPOLINE_COUNT; i++) runtime.trampolines[i] = trampoline_at(source[i]);
  runtime.miss_indirect = trampoline_at(runtime_trampoline_indirect);
  runtime.miss_return = trampoline_at(runtime_trampoline_return);
  runtime.no_return = trampoline_at(runtime_no_return);
  cache_sync(runtime.cache, size);
  return host_call(__NR_mprotect, runtime.cache, CACHE_TRAMPOLINE_BYTES, PROT_RX);
}

/* Chunks small enough for a small cache to have several, and not too many in a large one. */
static void choose_chunks(void) {
  uint64_t size = runtime.options.code_cache_size ? runtime.options.code_cache_size : DEFAULT_CACHE;
  uint64_t before = CACHE_TRAMPOLINE_BYTES + DETOUR_BYTES;
  if (size > BRANCH_REACH - before) size = BRANCH_REACH - before;
  cache.chunk_bytes = SMALL_CHUNK;
  while (size / cache.chunk_bytes > MANY_CHUNKS) cache.chunk_bytes *= 2;
  cache.chunk_count = cache.free_count = (uint32_t)(size / cache.chunk_bytes);
  runtime.cache_size = before + (uint64_t)cache.chunk_count * cache.chunk_bytes;
}

int cache_init(void) {
  read_line_sizes();
  choose_chunks();
  runtime.cache = base_pages_alloc(runtime.cache_size);
  if (!runtime.cache) return -12; /* ENOMEM */
  int64_t error = host_call(__NR_mprotect, runtime.cache, runtime.cache_size, PROT_RWX);
  if (error < 0) return (int)error;
  cache.code = runtime.cache + CACHE_TRAMPOLINE_BYTES + DETOUR_BYTES;
  cache.chunks = base_pages_alloc(cache.chunk_count * sizeof *cache.chunks);
  if (!cache.chunks) return -12; /* ENOMEM */
  return (int)place_trampolines();
}

bool cache_contains(uint64_t host_pc) { return host_pc - (uint64_t)(uintptr_t)runtime.cache < runtime.cache_size; }

/* --- Memory of a chunk -------------------------------------------------------------------------------- */

enum { BLOCK_HEAD = (sizeof(ArenaBlock) + 15) & ~15u };

static ArenaBlock *take_block(size_t size) {
  ArenaBlock *block = cache.spare;
  if (block && size <= ARENA_BLOCK) {
    cache.spare = block->next;
    return block;
  }
  if (size < ARENA_BLOCK) size = ARENA_BLOCK;
  block = base_pages_alloc(size);
  if (!block) base_panic("out of memory for translations");
  block->size = size;
  return block;
}

static void give_block(ArenaBlock *block) {
  if (block->size > ARENA_BLOCK) {
    base_pages_free(block, block->size);
    return;
  }
  block->next = cache.spare;
  cache.spare = block;
}

static void *alloc_in(Chunk *chunk, size_t size) {
  size = (size + 15) & ~(size_t)15;
  if (!chunk->arena || chunk->arena->size - chunk->arena->used < size) {
    ArenaBlock *block = take_block(size + BLOCK_HEAD);
    block->next = chunk->arena;
    block->used = BLOCK_HEAD;
    chunk->arena = block;
  }
  void *memory = (uint8_t *)chunk->arena + chunk->arena->used;
  chunk->arena->used += size;
  return memory;
}

static Chunk *chunk_at(uint64_t host_pc) {
  uint64_t offset = host_pc - (uint64_t)(uintptr_t)cache.code;
  if (offset >= (uint64_t)cache.chunk_count * cache.chunk_bytes) return NULL;
  return &cache.chunks[offset / cache.chunk_bytes];
}

void *cache_alloc(const Region *region, size_t size) {
  return alloc_in(chunk_at((uint64_t)(uintptr_t)region->code), size);
}

static uint8_t *code_of(const Chunk *chunk) {
  return cache.code + (uint64_t)(chunk - cache.chunks) * cache.chunk_bytes;
}

/* --- Regions -------------------------------------------------------------------------------------------- */

static void append_region(Chunk *chunk, Region *region) {
  if (chunk->region_count == chunk->region_capacity) {
    uint32_t capacity = chunk->region_capacity ? chunk->region_capacity * 2 : 64;
    Region **grown = alloc_in(chunk, capacity * sizeof *grown);
    /* The old array stays: a signal handler may be searching it. */
    if (chunk->region_count) memcpy(grown, chunk->regions, chunk->region_count * sizeof *grown);
    __atomic_store_n(&chunk->regions, grown, __ATOMIC_RELEASE);
    chunk->region_capacity = capacity;
  }
  chunk->regions[chunk->region_count] = region;
  __atomic_store_n(&chunk->region_count, chunk->region_count + 1, __ATOMIC_RELEASE);
}

static void free_chunk(Chunk *chunk) {
  uint64_t start = (uint64_t)(uintptr_t)code_of(chunk);
  threads_forget_range(start, start + cache.chunk_bytes);
  while (chunk->arena) {
    ArenaBlock *next = chunk->arena->next;
    give_block(chunk->arena);
    chunk->arena = next;
  }
  *chunk = (Chunk){.state = CHUNK_FREE};
  cache.free_count++;
  cache.retired_count--;
}

static void reclaim(void) {
  if (!cache.retired_count) return;
  for (uint32_t i = 0; i < cache.chunk_count; i++) {
    Chunk *chunk = &cache.chunks[i];
    if (chunk->state == CHUNK_RETIRED && threads_passed(chunk->deaths)) free_chunk(chunk);
  }
}

/* One that has died serves before one that was never used: memory that comes and goes stays the same memory. */
static Chunk *begin_chunk(void) {
  reclaim();
  for (uint32_t i = 0; i < cache.chunk_count; i++) {
    Chunk *chunk = &cache.chunks[i];
    if (chunk->state != CHUNK_FREE) continue;
    *chunk = (Chunk){.state = CHUNK_USED, .number = ++cache.begun};
    cache.free_count--;
    return chunk;
  }
  base_panic("a region was translated without room for it");
}

bool cache_has_room(void) {
  return cache.free_count || (cache.current && cache.chunk_bytes - cache.current->used >= CACHE_REGION_BYTES);
}

/* Copies an array to *at, and moves that on. */
static const void *keep(uint8_t **at, const void *source, size_t size) {
  void *copy = memcpy(*at, source, size);
  *at += (size + 7) & ~(size_t)7;
  return copy;
}

/* What is kept of emitted code beside its words, and needed no more once it is placed. */
static void keep_tables(Chunk *chunk, A64Tables *t) {
  size_t exits = t->exit_count * sizeof *t->exits, entries = t->entry_count * sizeof *t->entries;
  size_t checks = t->indirect_count * sizeof *t->indirect_checks, map = t->pc_map_count * sizeof *t->whole_pc_map;
  uint8_t *at = alloc_in(chunk, exits + entries + checks + map + 16);
  t->exits = keep(&at, t->exits, exits);
  t->entries = keep(&at, t->entries, entries);
  t->indirect_checks = keep(&at, t->indirect_checks, checks);
  t->whole_pc_map = keep(&at, t->whole_pc_map, map);
  t->relocations = NULL;
  t->relocation_count = 0;
}

/* Puts code behind what the current chunk has. */
static uint32_t *place(const A64Tables *tables, uint64_t bias) {
  uint32_t bytes = tables->word_count * 4u;
  if (!cache.current || cache.chunk_bytes - cache.current->used < bytes) cache.current = begin_chunk();
  Chunk *chunk = cache.current;
  uint32_t *at = (uint32_t *)(code_of(chunk) + chunk->used);
  memcpy(at, tables->words, a64_tables_own_words(tables) * 4u);
  if (!a64_relocate(at, tables, runtime.trampolines, bias)) base_panic("a trampoline is out of reach");
  cache_sync(at, bytes);
  chunk->used += (bytes + 7) & ~7u;
  return at;
}

void cache_tell_perf(Region *region) { linux_perf_code((uint64_t)(uintptr_t)region->code, region->code_bytes, region->entry); }

Region *cache_add_region(const A64Tables *tables, const RegionExtent *extent, uint64_t bias, bool keep) {
  uint32_t *at = place(tables, bias);
  Chunk *chunk = cache.current;
  Region *region = alloc_in(chunk, sizeof *region);
  BASE_CLEAR(region);
  region->entry = region->lowest = extent->entry;
  region->highest = extent->highest;
  region->look_lowest = extent->look_lowest;
  region->look_highest = extent->look_highest;
  region->slot_lowest = extent->slot_lowest;
  region->slot_highest = extent->slot_highest;
  region->code = at;
  region->code_bytes = tables->word_count * 4u;
  region->instruction_bytes = tables->instruction_count * 4u;
  region->tables = *tables;
  if (keep) keep_tables(chunk, &region->tables);
  append_region(chunk, region);
  dependents_note(region);
  if (runtime.options.perf_map) cache_tell_perf(region);
  return region;
}

Region *cache_find_region(uint64_t host_pc) {
  const Chunk *chunk = chunk_at(host_pc);
  if (!chunk) return NULL;
  uint32_t count = __atomic_load_n(&chunk->region_count, __ATOMIC_ACQUIRE), low = 0, high = count;
  Region **regions = __atomic_load_n(&chunk->regions, __ATOMIC_ACQUIRE);
  /* The last one is what is mostly asked for: it has just been entered for the first time. */
  if (count && (uint64_t)(uintptr_t)regions[count - 1]->code <= host_pc) low = high;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if ((uint64_t)(uintptr_t)regions[middle]->code <= host_pc) low = middle + 1;
    else high = middle;
  }
  if (low == 0) return NULL;
  Region *region = regions[low - 1];
  return host_pc - (uint64_t)(uintptr_t)region->code < region->code_bytes ? region : NULL;
}

static void each_kept(const Chunk *chunk, void (*visit)(Region *)) {
  for (uint32_t i = 0; i < chunk->region_count; i++)
    if (!chunk->regions[i]->dead || chunk->regions[i]->asleep) visit(chunk->regions[i]);
}

void cache_each_region(void (*visit)(Region *)) {
  for (uint32_t i = 0; i < cache.chunk_count; i++)
    if (cache.chunks[i].state == CHUNK_USED) each_kept(&cache.chunks[i], visit);
}

/* --- Death of chunks, and their return --------------------------------------------------------------------- */

static void retire(Chunk *chunk) {
  chunk->state = CHUNK_RETIRED;
  cache.retired_count++;
  chunk->deaths = runtime.deaths + 1; /* threads_note_deaths() follows */
  if (chunk == cache.current) cache.current = NULL;
}

static uint32_t room_of(const Region *region) { return (region->code_bytes + 7) & ~7u; }

void cache_note_sleep(const Region *region, bool asleep) {
  Chunk *chunk = chunk_at((uint64_t)(uintptr_t)region->code);
  chunk->asleep_bytes += asleep ? room_of(region) : -room_of(region);
}

void cache_note_death(const Region *region) {
  Chunk *chunk = chunk_at((uint64_t)(uintptr_t)region->code);
  chunk->dead_bytes += room_of(region);
  if (chunk->dead_bytes == chunk->used && chunk != cache.current && chunk->state == CHUNK_USED) retire(chunk);
}

void cache_retire_all(void) {
  dependents_clear();
  for (uint32_t i = 0; i < cache.chunk_count; i++) {
    Chunk *chunk = &cache.chunks[i];
    if (chunk->state != CHUNK_USED) continue;
    for (uint32_t k = 0; k < chunk->region_count; k++) {
      chunk->regions[k]->dead = true;
      chunk->regions[k]->asleep = false;
    }
    retire(chunk);
  }
}

void cache_recover(void) {
  cache.spare = NULL; /* a block may be both there and in use */
  cache.free_count = 0;
  for (uint32_t i = 0; i < cache.chunk_count; i++) cache.free_count += cache.chunks[i].state == CHUNK_FREE;
}

/* The one that is mostly dead or asleep, or else the oldest. */
static Chunk *least_useful(void) {
  Chunk *best = NULL;
  for (uint32_t i = 0; i < cache.chunk_count; i++) {
    Chunk *chunk = &cache.chunks[i];
    if (chunk->state != CHUNK_USED || chunk == cache.current) continue;
    if (chunk->dead_bytes + chunk->asleep_bytes > chunk->used / 4 * 3) return chunk;
    if (!best || chunk->number < best->number) best = chunk;
  }
  return best ? best : cache.current;
}

static void evict_region(Region *region) {
  if (region->asleep) sleep_give_up(region, DEATH_EVICTED);
  else region_kill(region, DEATH_EVICTED);
}

static void evict(void) {
  uint32_t wanted = cache.chunk_count / 16 + 1, coming = cache.free_count;
  for (uint32_t i = 0; i < cache.chunk_count; i++) coming += cache.chunks[i].state == CHUNK_RETIRED;
  if (coming >= wanted) return;
  for (Chunk *chunk; coming < wanted && (chunk = least_useful()); coming++) {
    each_kept(chunk, evict_region);
    if (chunk->state == CHUNK_USED) retire(chunk);
    runtime.stats.evictions++;
  }
  threads_note_deaths(NULL);
}

/* The retired chunk that has been so for longest. */
static const Chunk *next_to_free(void) {
  const Chunk *best = NULL;
  for (uint32_t i = 0; i < cache.chunk_count; i++) {
    const Chunk *chunk = &cache.chunks[i];
    if (chunk->state == CHUNK_RETIRED && (!best || chunk->deaths < best->deaths)) best = chunk;
  }
  return best;
}

void cache_make_room(void) {
  reclaim();
  evict();
  reclaim();
  while (!cache_has_room()) {
    const Chunk *next = next_to_free();
    if (next) threads_wait(next->deaths);
    else evict(); /* others have filled meanwhile what came free */
    reclaim();
  }
}
