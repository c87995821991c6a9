/* The whole pipeline, for one region: guest bytes → decoded instructions → blocks and live flags → IR →
 * optimised IR → AArch64 code in the cache → the block map. */
#include "runtime/internal.h"

#include <string.h>

#include "guest/memory-map.h"
#include "opt/opt.h"
#include "runtime/single-step.h"

enum {
  REGION_INSNS = 32,    /* the sweep's usual limits */
  REGION_STRAIGHT = 96,
  CHECKED_INSNS = 2,    /* of code that checks its bytes: up to its first branch */
  CHECKED_STRAIGHT = 16,
  CHECKED_BYTES = 16 * 16, /* at most those */
  WINDOW_BEFORE = 4,    /* pages before the entry that loops may reach back into */
  WINDOW_AFTER = 64,
  CODE_WORDS = CACHE_REGION_BYTES / 4,
  RELOCATIONS = 4096
};

/* Scratch of the one translation under way (the lock is held). */
static struct {
  Lift lift;
  LiftRegion region;
  A64Code code;
  uint8_t source[CHECKED_BYTES + 16]; /* what checked code is made from and compares itself with */
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

/* --- The bytes that can be fetched -------------------------------------------------------------------------- */

/* *ret_end is left alone where it is not. */
static bool executable(uint64_t address, uint64_t *ret_end, int *all_flags) {
  uint64_t end;
  int flags = memory_map_query(address, &end);
  if (flags < 0 || !(flags & MEMORY_EXEC)) return false;
  *ret_end = end;
  *all_flags |= flags;
  return true;
}

/* The window of the last translation, which mostly serves the next one too. */
static RegionWindow last_window;

void translate_forget_window(void) { __atomic_store_n(&last_window.end, 0, __ATOMIC_RELEASE); }

/* The executable bytes around `pc`. False when pc itself cannot be fetched. */
static bool window_around(uint64_t pc, RegionWindow *ret_window) {
  uint64_t page = pc & ~(MEMORY_PAGE_SIZE - 1), end, limit = page + WINDOW_AFTER * MEMORY_PAGE_SIZE, ignored;
  int flags = 0;
  MemoryRange range;
  if (!executable(pc, &end, &flags)) return false;
  while (end < limit && executable(end, &end, &flags)) {}
  uint64_t start = page;
  for (unsigned i = 0; i < WINDOW_BEFORE && start && executable(start - MEMORY_PAGE_SIZE, &ignored, &flags); i++)
    start -= MEMORY_PAGE_SIZE;
  *ret_window = (RegionWindow){.start = start, .end = end < limit ? end : limit,
                               .bytes = (const uint8_t *)(uintptr_t)start,
                               .writable = flags & (MEMORY_WRITE | MEMORY_SHARED), .unwatched = flags & MEMORY_UNWATCHED,
                               .anonymous = memory_map_next(pc, &range) && !range.object};
  return true;
}

static bool find_window(uint64_t pc, RegionWindow *ret_window) {
  enum { ROOM = 4096 };
  bool serves = pc >= last_window.start && pc + ROOM < __atomic_load_n(&last_window.end, __ATOMIC_ACQUIRE);
  if (!serves && !window_around(pc, &last_window)) return false;
  *ret_window = last_window;
  return true;
}

/* --- Decoding and analysing, which reads guest memory ---------------------------------------------------------- */

typedef struct Analysis {
  LiftRegion *region;
  const RegionWindow *window;
  uint64_t pc;
  uint32_t max_insns, max_straight;
} Analysis;

/* The bytes from `pc` on as they are now, since they may change while they are decoded. */
static RegionWindow copy_source(const RegionWindow *window, uint64_t pc) {
  uint64_t start = pc & ~UINT64_C(7), length = window->end - start;
  if (length > CHECKED_BYTES) length = CHECKED_BYTES;
  memcpy(work->source, (const void *)(uintptr_t)start, length);
  return (RegionWindow){.start = start, .end = start + length, .bytes = work->source};
}

static void analyse_guarded(void *argument) {
  const Analysis *a = argument;
  RegionWindow source = *a->window;
  if (a->region->checked) source = copy_source(a->window, a->pc);
  region_decode(a->region, &source, a->pc, a->max_insns, a->max_straight);
  region_analyse(a->region);
}

/* False where the memory went away meanwhile. */
static bool analyse(RuntimeThread *thread, const Analysis *a, bool checked) {
  a->region->checked = checked;
  a->region->strict_flags = runtime.strict_flags;
  a->region->exact_flags = runtime.options.exact_flags || checked;
  if (guard_call(thread, analyse_guarded, (void *)a)) return true;
  region_forget_decoded(&work->region);
  return false;
}

const LiftRegion *translate_analyse_again(RuntimeThread *thread, const Region *region) {
  RegionWindow window;
  if (region->checked || !window_around(region->entry, &window)) return NULL;
  Analysis again = {&work->region, &window, region->entry, REGION_INSNS, REGION_STRAIGHT};
  return analyse(thread, &again, false) && work->region.highest == region->highest ? &work->region : NULL;
}

/* --- The rest --------------------------------------------------------------------------------------------------- */

static A64EmitStatus generate(LiftRegion *region) {
  work->lift.features = runtime.features;
  work->lift.ordered = runtime.ordered;
  lift_region(&work->lift, region);
  if (work->lift.b.overflow) return A64_EMIT_TOO_LARGE;
  opt_run(&work->opt, &work->lift.b);
  A64EmitOptions options = {.guest_entry = region->entry, .features = runtime.features, .ordered = runtime.ordered,
                            .is_misaligned = misaligned_any() ? misaligned_is_known : NULL};
  return a64_emit(work->emitter, &work->lift.b, &options, &work->code);
}

/* An instruction at the window's end whose bytes go on where nothing can be fetched: the address of those. */
static uint64_t fetch_fault_address(uint64_t pc) {
  uint64_t at = pc, end;
  int flags = 0;
  for (unsigned i = 0; i < 2 && executable(at, &end, &flags); i++) at = end;
  return at;
}

static void add_entries(Region *region) {
  for (unsigned i = 0; i < region->entry_count; i++)
    block_map_add(region->entries[i].guest_pc, (uint64_t)(uintptr_t)region->code + region->entries[i].host_offset,
                  region);
}

static void publish(RuntimeThread *thread, Region *region, const RegionWindow *window) {
  add_entries(region);
  if (work->region.run_count) sleep_keep_source(thread, region, &work->region);
  if (window->writable) pages_note_region(region, &work->region);
  runtime.stats.regions++;
  runtime.stats.checked_regions += region->checked;
  runtime.stats.guest_insns += work->region.count;
  runtime.stats.guest_bytes += region->highest - region->lowest;
  runtime.stats.host_bytes += region->code_bytes;
}

/* Flags that a return carries have been met: from now on all code keeps them. */
static void become_strict(RuntimeThread *thread) {
  runtime.strict_flags = true;
  runtime_flush(thread);
}

typedef enum FormStatus { FORMED, FORM_AGAIN, FORM_FAULT } FormStatus;

/* Decides what the region is, with fewer instructions where the last attempt was too large. */
static FormStatus form(RuntimeThread *thread, Analysis *a, bool *checked) {
  LiftRegion *region = a->region;
  if (!analyse(thread, a, *checked)) {
    if (a->max_insns == 1) return FORM_FAULT;
    a->max_insns = a->max_straight = 1;
    *checked = true; /* which looks at nothing beyond */
    return FORM_AGAIN;
  }
  if (region->return_reads_flags && !runtime.strict_flags) {
    become_strict(thread);
    return FORM_AGAIN;
  }
  if (*checked) return FORMED;
  if (!a->window->unwatched && !(a->window->writable && pages_want_checks(region)))
    return pages_protect(region, a->window->writable) ? FORM_AGAIN : FORMED;
  *checked = true;
  a->max_insns = CHECKED_INSNS;
  a->max_straight = CHECKED_STRAIGHT;
  return FORM_AGAIN;
}

static void make_smaller(Analysis *a, A64EmitStatus status) {
  uint32_t count = a->region->count;
  if (count == 1) base_panic("cannot translate the instruction at 0x%lx (%d)", (unsigned long)a->pc, status);
  a->max_insns = a->max_straight = count / 2;
}

TranslateStatus translate(RuntimeThread *thread, uint64_t key, unsigned x87_top, Region **ret_region,
                          uint64_t *ret_address) {
  bool step = step_is_key(key);
  uint64_t guest_pc = step ? key & ~STEP_KEY : key;
  RegionWindow window;
  if (!find_window(guest_pc, &window)) {
    *ret_address = fetch_fault_address(guest_pc);
    return TRANSLATE_FAULT;
  }
  if (sleep_any() && !step && (*ret_region = sleep_end(thread, guest_pc, &window))) {
    add_entries(*ret_region);
    return TRANSLATE_OK;
  }
  if (!make_work()) base_panic("out of memory for the translator's work space");
  work->lift.entry_x87_top = (uint8_t)(x87_top + 1);
  Analysis analysis = {&work->region, &window, guest_pc, step ? 1 : REGION_INSNS, step ? 1 : REGION_STRAIGHT};
  bool checked = step;
  work->region.single_step = step;
  for (A64EmitStatus status = A64_EMIT_TOO_LARGE; status != A64_EMIT_OK;) {
    FormStatus formed = form(thread, &analysis, &checked);
    if (formed == FORM_FAULT) {
      *ret_address = guest_pc;
      return TRANSLATE_FAULT;
    }
    if (formed == FORM_AGAIN) continue;
    status = generate(&work->region);
    if (status != A64_EMIT_OK) make_smaller(&analysis, status);
  }
  if (!cache_has_room()) return TRANSLATE_NO_ROOM;
  Region *region = cache_add_region(&work->code, &work->region);
  if (step) region->entries[0].guest_pc = key;
  publish(thread, region, &window);
  if (dump_wanted(guest_pc)) dump_region(&work->lift, &work->region, region);
  *ret_region = region;
  return TRANSLATE_OK;
}

uint64_t region_pc_at(const Region *region, uint32_t offset, unsigned *ret_flag_form) {
  const A64PcMap *best = &region->pc_map[0];
  for (unsigned i = 0; i < region->pc_map_count; i++)
    if (region->pc_map[i].host_offset <= offset) best = &region->pc_map[i];
  /* Offsets are modulo 2^30 and may be negative. */
  int64_t distance = (int64_t)((uint64_t)best->guest_offset << 34) >> 34;
  *ret_flag_form = best->guest_offset >> 30;
  return region->entry + (uint64_t)distance;
}
