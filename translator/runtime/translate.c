/* The whole pipeline, for one region: guest bytes → decoded instructions → blocks and live flags → IR →
 * optimised IR → AArch64 code in the cache → the block map. */
#include "runtime/internal.h"

#include "guest/memory-map.h"
#include "opt/opt.h"

enum {
  REGION_INSNS = 32,    /* the sweep's usual limits */
  REGION_STRAIGHT = 96,
  WINDOW_BEFORE = 4,    /* pages before the entry that loops may reach back into */
  WINDOW_AFTER = 64,
  CODE_WORDS = 32768,
  RELOCATIONS = 4096
};

/* Scratch of the one translation under way (the lock is held). */
static struct {
  Lift lift;
  LiftRegion region;
  A64Code code;
  A64Emitter *emitter;
  OptScratch opt;
} *work;

static bool make_work(void) {
  if (work) return true;
  work = base_pages_alloc(sizeof *work);
  IrInsn *insns = base_pages_alloc(IR_MAX_INSNS * sizeof *insns);
  uint32_t *words = base_pages_alloc(CODE_WORDS * sizeof *words);
  A64Relocation *relocations = base_pages_alloc(RELOCATIONS * sizeof *relocations);
  A64Emitter *emitter = base_pages_alloc(a64_emitter_size());
  if (!work || !insns || !words || !relocations || !emitter) return false;
  work->emitter = emitter;
  work->lift.b.insns = insns;
  work->code.words = words;
  work->code.capacity = CODE_WORDS;
  work->code.relocations = relocations;
  work->code.relocation_capacity = RELOCATIONS;
  return true;
}

static bool executable(uint64_t address, uint64_t *ret_end) {
  int protection = memory_map_query(address, ret_end);
  return protection >= 0 && protection & MEMORY_EXEC;
}

/* The window of the last translation, which mostly serves the next one too. */
static RegionWindow last_window;

void translate_forget_window(void) { __atomic_store_n(&last_window.end, 0, __ATOMIC_RELEASE); }

/* The executable bytes around `pc`. False when pc itself cannot be fetched. */
static bool window_around(uint64_t pc, RegionWindow *ret_window) {
  uint64_t page = pc & ~(MEMORY_PAGE_SIZE - 1), end, limit = page + WINDOW_AFTER * MEMORY_PAGE_SIZE, ignored;
  if (!executable(pc, &end)) return false;
  while (end < limit && executable(end, &end)) {}
  uint64_t start = page;
  for (unsigned i = 0; i < WINDOW_BEFORE && start && executable(start - MEMORY_PAGE_SIZE, &ignored); i++)
    start -= MEMORY_PAGE_SIZE;
  *ret_window = (RegionWindow){start, end < limit ? end : limit, (const uint8_t *)(uintptr_t)start};
  return true;
}

static bool find_window(uint64_t pc, RegionWindow *ret_window) {
  enum { ROOM = 4096 };
  bool serves = pc >= last_window.start && pc + ROOM < __atomic_load_n(&last_window.end, __ATOMIC_ACQUIRE);
  if (!serves && !window_around(pc, &last_window)) return false;
  *ret_window = last_window;
  return true;
}

static void analyse(LiftRegion *region, const RegionWindow *window, uint64_t pc, uint32_t max_insns,
                    uint32_t max_straight) {
  region->strict_flags = runtime.strict_flags;
  region->exact_flags = runtime.options.exact_flags;
  region_decode(region, window, pc, max_insns, max_straight);
  region_analyse(region);
  if (!region->return_reads_flags || runtime.strict_flags) return;
  runtime.strict_flags = true;
  runtime_flush();
  analyse(region, window, pc, max_insns, max_straight);
}

const LiftRegion *translate_analyse_again(const Region *region) {
  RegionWindow window;
  LiftRegion *guest = &work->region;
  if (!window_around(region->entry, &window)) return NULL;
  guest->strict_flags = runtime.strict_flags;
  guest->exact_flags = runtime.options.exact_flags;
  region_decode(guest, &window, region->entry, REGION_INSNS, REGION_STRAIGHT);
  region_analyse(guest);
  return guest->highest == region->highest ? guest : NULL;
}

static A64EmitStatus generate(LiftRegion *region) {
  work->lift.features = runtime.features;
  work->lift.ordered = runtime.ordered;
  lift_region(&work->lift, region);
  if (work->lift.b.overflow) return A64_EMIT_TOO_LARGE;
  opt_run(&work->opt, &work->lift.b);
  A64EmitOptions options = {.guest_entry = region->entry, .features = runtime.features, .ordered = runtime.ordered};
  return a64_emit(work->emitter, &work->lift.b, &options, &work->code);
}

/* An instruction at the window's end whose bytes go on where nothing can be fetched: the address of those. */
static uint64_t fetch_fault_address(uint64_t pc) {
  uint64_t at = pc, end;
  for (unsigned i = 0; i < 2 && executable(at, &end); i++) at = end;
  return at;
}

static void publish(Region *region) {
  for (unsigned i = 0; i < region->entry_count; i++)
    block_map_add(region->entries[i].guest_pc, (uint64_t)(uintptr_t)region->code + region->entries[i].host_offset);
  pages_note_region(region);
  runtime.stats.regions++;
  runtime.stats.guest_insns += work->region.count;
  runtime.stats.guest_bytes += region->highest - region->lowest;
  runtime.stats.host_bytes += region->code_bytes;
}

uint64_t translate(uint64_t guest_pc, unsigned x87_top, int *ret_vector, uint64_t *ret_address) {
  RegionWindow window;
  if (!find_window(guest_pc, &window)) {
    *ret_vector = 14;
    *ret_address = fetch_fault_address(guest_pc);
    return 0;
  }
  if (!make_work()) base_panic("out of memory for the translator's work space");
  work->lift.entry_x87_top = (uint8_t)(x87_top + 1);
  uint32_t max_insns = REGION_INSNS, max_straight = REGION_STRAIGHT;
  for (;;) {
    analyse(&work->region, &window, guest_pc, max_insns, max_straight);
    A64EmitStatus status = generate(&work->region);
    if (status == A64_EMIT_OK) break;
    if (work->region.count == 1)
      base_panic("cannot translate the instruction at 0x%lx (%d)", (unsigned long)guest_pc, status);
    max_insns = max_straight = work->region.count > 1 ? work->region.count / 2 : 1;
  }
  Region *region = cache_add_region(&work->code, &work->region);
  if (!region) {
    runtime_flush();
    region = cache_add_region(&work->code, &work->region);
    if (!region) base_panic("a region at 0x%lx is larger than the code cache", (unsigned long)guest_pc);
  }
  publish(region);
  if (dump_wanted(guest_pc)) dump_region(&work->lift, &work->region, region);
  return (uint64_t)(uintptr_t)region->code + region->entries[0].host_offset;
}

uint64_t runtime_pc_of_host(const Region *region, uint64_t host_pc, unsigned *ret_flag_form) {
  uint32_t offset = (uint32_t)(host_pc - (uint64_t)(uintptr_t)region->code);
  const A64PcMap *best = &region->pc_map[0];
  for (unsigned i = 0; i < region->pc_map_count; i++)
    if (region->pc_map[i].host_offset <= offset) best = &region->pc_map[i];
  /* Offsets are modulo 2^30 and may be negative. */
  int64_t distance = (int64_t)((uint64_t)best->guest_offset << 34) >> 34;
  *ret_flag_form = best->guest_offset >> 30;
  return region->entry + (uint64_t)distance;
}
