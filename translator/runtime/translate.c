/* The whole pipeline, for one region: guest bytes → decoded instructions → blocks and live flags → IR →
 * optimised IR → AArch64 code in the cache → the block map. */
#include "runtime/internal.h"

#include <string.h>

#include <asm/signal.h>

#include "base/host-call.h"
#include "guest/memory-map.h"
#include "pipeline/pipeline.h"
#include "runtime/single-step.h"

enum {
  CHECKED_INSNS = 2,    /* of code that checks its bytes: up to its first branch */
  CHECKED_STRAIGHT = 16,
  CHECKED_BYTES = 16 * 16, /* at most those */
  INSN_BYTES = 15,         /* the most an instruction has */
  ONCE_INSNS = 20          /* in PIPELINE_INSNS' place of what runs_once() */
};

/* Of the one translation under way (the lock is held). */
static Pipeline *work;
static uint8_t source[CHECKED_BYTES + 16]; /* what checked code is made from and compares itself with */

static void make_work(void) {
  if (!work) work = pipeline_new();
  if (!work) base_panic("out of memory for the translator's work space");
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

/* The windows of the last translations, which mostly serve the next one too: a program and a few libraries take turns. */
enum { WINDOWS = 4 };
static RegionWindow windows[WINDOWS];
static unsigned oldest_window;

void translate_forget_windows(void) {
  for (unsigned i = 0; i < WINDOWS; i++) __atomic_store_n(&windows[i].end, 0, __ATOMIC_RELEASE);
}

/* The one that has `room` bytes from `pc` on, or NULL. */
static const RegionWindow *window_with(uint64_t pc, uint64_t room) {
  for (unsigned i = 0; i < WINDOWS; i++)
    if (pc >= windows[i].start && pc + room <= __atomic_load_n(&windows[i].end, __ATOMIC_ACQUIRE)) return &windows[i];
  return NULL;
}

/* The end of the pages that an instruction at `pc` may lie in. */
static uint64_t end_of_instruction(uint64_t pc) {
  return (pc + INSN_BYTES + MEMORY_PAGE_SIZE - 1) & ~(MEMORY_PAGE_SIZE - 1);
}

/* Cuts a window down to the pages around `pc` that are in memory, beside the instruction's own, which have just been: the
 * lock is held while they are read, and what has to be fetched first, from a disk, a server of a file system or another
 * thread (userfaultfd(2)), may take any time, or the lock. */
static void cut_to_resident(RegionWindow *window, uint64_t pc) {
  uint8_t resident[PIPELINE_WINDOW_BEFORE + PIPELINE_WINDOW_AFTER + 2];
  uint64_t page = pc & ~(MEMORY_PAGE_SIZE - 1), start = page, end = end_of_instruction(pc);
  if (end > window->end) end = window->end;
  if (host_call(__NR_mincore, window->start, window->end - window->start, resident) < 0) return;
  const uint8_t *at = resident + (page - window->start) / MEMORY_PAGE_SIZE;
  while (start > window->start && at[-1] & 1) start -= MEMORY_PAGE_SIZE, at--;
  at = resident + (end - window->start) / MEMORY_PAGE_SIZE;
  while (end < window->end && *at & 1) end += MEMORY_PAGE_SIZE, at++;
  window->bytes += start - window->start;
  window->start = start;
  window->end = end;
}

/* Whether reading there waits for nobody, as cut_to_resident() has it. */
static bool is_resident(uint64_t address) {
  uint8_t resident = 0;
  host_call(__NR_mincore, address & ~(MEMORY_PAGE_SIZE - 1), MEMORY_PAGE_SIZE, &resident);
  return resident & 1;
}

/* The executable bytes around `pc` that can be read at once. False when pc itself cannot be fetched. */
static bool window_around(uint64_t pc, RegionWindow *ret_window) {
  uint64_t page = pc & ~(MEMORY_PAGE_SIZE - 1), end, limit = page + PIPELINE_WINDOW_AFTER * MEMORY_PAGE_SIZE, ignored;
  int flags = 0;
  MemoryRange range;
  if (!executable(pc, &end, &flags)) return false;
  while (end < limit && executable(end, &end, &flags)) {}
  uint64_t start = page;
  for (unsigned i = 0; i < PIPELINE_WINDOW_BEFORE && start && executable(start - MEMORY_PAGE_SIZE, &ignored, &flags); i++)
    start -= MEMORY_PAGE_SIZE;
  bool writable = flags & (MEMORY_WRITE | MEMORY_SHARED);
  *ret_window = (RegionWindow){.start = start, .end = end < limit ? end : limit,
                               .bytes = (const uint8_t *)(uintptr_t)start,
                               .writable = writable,
                               .unwatched = flags & MEMORY_UNWATCHED || outside_may_write(writable),
                               .anonymous = memory_map_next(pc, &range) && !range.object};
  cut_to_resident(ret_window, pc);
  return true;
}

bool translate_can_read(uint64_t pc) { return window_with(pc, INSN_BYTES) != NULL; }

static void read_byte(void *address) { (void)*(const volatile uint8_t *)address; }

void translate_fetch(RuntimeThread *thread, uint64_t pc) {
  uint64_t end = end_of_instruction(pc), ignored;
  for (uint64_t at = pc; at < end; at = (at + MEMORY_PAGE_SIZE) & ~(MEMORY_PAGE_SIZE - 1)) {
    int flags = memory_map_query(at, &ignored);
    if (flags < 0 || !(flags & MEMORY_EXEC) || !guard_call(thread, read_byte, (void *)(uintptr_t)at)) return;
  }
}

static bool find_window(uint64_t pc, RegionWindow *ret_window) {
  enum { ROOM = 4096 };
  const RegionWindow *window = window_with(pc, ROOM);
  if (window) return *ret_window = *window, true;
  if (!window_around(pc, ret_window)) return false;
  windows[oldest_window] = *ret_window;
  oldest_window = (oldest_window + 1) % WINDOWS;
  return true;
}

/* Slots that the guest cannot write, of memory that nobody else can: whoever makes them writable, or maps something else there,
 * asks for the regions that depend on them first (MEMORY_CONSTANT). A file's own contents may change where it is private memory,
 * too, as long as nobody has written there; but before it has been loaded a file has no addresses of code in it but its own,
 * and those only where it is linked for a fixed place, below 2 GiB (x86-64 psABI 3.5.1, the small code model). */
static bool read_slot(uint64_t address, uint64_t *ret_value) {
  const uint32_t others = MEMORY_WRITE | MEMORY_SHARED | MEMORY_UNWATCHED;
  MemoryRange range, target;
  if (outside_may_write(false) || !memory_map_next(address, &range) || address < range.start || address + sizeof *ret_value > range.end) return false;
  if ((range.flags & (MEMORY_READ | others)) != MEMORY_READ) return false;
  if (!(range.flags & MEMORY_CONSTANT)) memory_map_change(range.start, range.end, 0, MEMORY_CONSTANT);
  if (memory_map_any(address, address + sizeof *ret_value) & others) return false; /* meanwhile */
  if (address % MEMORY_PAGE_SIZE > MEMORY_PAGE_SIZE - sizeof *ret_value || !is_resident(address)) return false;
  memcpy(ret_value, (const void *)(uintptr_t)address, sizeof *ret_value);
  return memory_map_next(*ret_value, &target) && target.start <= *ret_value && target.flags & MEMORY_EXEC &&
         (target.object != range.object || address >> 32);
}

/* --- The loader's code ------------------------------------------------------------------------------------------ */

/* A program's loader, until it enters the program: what is executed of it is executed a few times, so that translating
 * counts and the code does not. Its regions are smaller, and end where they meet code that there is. */
static struct {
  uint64_t start, end; /* guest addresses; the same: there is none, or it is done */
  uint64_t enters;     /* the program's entry */
} loader;

void runtime_loader(uint64_t start, uint64_t end, uint64_t program_entry) {
  loader.start = start;
  loader.end = end;
  loader.enters = program_entry;
}

static bool runs_once(uint64_t pc) {
  if (pc == loader.enters) loader.start = loader.end = 0;
  return pc - loader.start < loader.end - loader.start;
}

static bool meets_code(uint64_t pc) {
  Region *region;
  return block_map_find(pc, &region) != 0;
}

/* --- Decoding and analysing, which reads guest memory ---------------------------------------------------------- */

typedef struct Analysis {
  LiftRegion *region;
  const RegionWindow *window;
  uint64_t pc;
  uint32_t max_insns, max_straight;
  bool once;     /* runs_once() */
  uint64_t stop; /* LiftRegion.stop */
} Analysis;

/* The bytes from `pc` on as they are now, since they may change while they are decoded. */
static RegionWindow copy_source(const RegionWindow *window, uint64_t pc) {
  uint64_t start = pc & ~UINT64_C(7), length = window->end - start;
  if (length > CHECKED_BYTES) length = CHECKED_BYTES;
  memcpy(source, (const void *)(uintptr_t)start, length);
  return (RegionWindow){.start = start, .end = start + length, .bytes = source, .unwatched = window->unwatched};
}

static void analyse_guarded(void *argument) {
  const Analysis *a = argument;
  RegionWindow window = *a->window;
  if (a->region->checked) window = copy_source(a->window, a->pc);
  pipeline_analyse(work, &window, a->pc, a->max_insns, a->max_straight);
}

/* False where the memory went away meanwhile. */
static bool analyse(RuntimeThread *thread, const Analysis *a, bool checked) {
  a->region->checked = checked;
  a->region->strict_flags = runtime.strict_flags;
  a->region->float_traps = runtime.float_traps;
  a->region->read_slot = read_slot;
  a->region->exact_flags = runtime.options.exact_flags || checked;
  a->region->met = a->once && !checked ? block_map_met : NULL;
  a->region->meets = meets_code;
  a->region->stop = a->stop;
  return guard_call(thread, analyse_guarded, (void *)a);
}

/* Of a region from an image: the part with the code at `offset`. */
static RegionRun part_at(const Region *region, uint32_t offset) {
  const ImagePart *part = region->parts, *last = part + region->part_count - 1;
  const A64TableEntry *entries = region->tables.entries;
  while (part < last && entries[part[1].entry].word * 4u <= offset) part++;
  uint64_t start = region->entry + (uint64_t)(int64_t)entries[part->entry].distance;
  return (RegionRun){start, start + part->length};
}

/* Of a region from an image, whose entries are ascending. */
static bool region_has_entry(const void *context, uint64_t pc) {
  const Region *region = context;
  return a64_entry_at(&region->tables, (int64_t)(pc - region->entry)) != NULL;
}

const LiftRegion *translate_analyse_again(RuntimeThread *thread, const Region *region, uint32_t offset) {
  RegionWindow window;
  RegionRun made_of = region->parts ? part_at(region, offset) : (RegionRun){region->entry, region->highest};
  if (region->checked || !window_around(made_of.start, &window)) return NULL;
  make_work();
  Analysis again = {&work->region, &window, made_of.start, PIPELINE_INSNS, PIPELINE_STRAIGHT, false, made_of.end};
  work->region.is_entry = region->parts ? region_has_entry : NULL;
  work->region.entries = region;
  bool analysed = analyse(thread, &again, false);
  work->region.is_entry = NULL;
  return analysed && work->region.highest == made_of.end ? &work->region : NULL;
}

/* --- The rest --------------------------------------------------------------------------------------------------- */

static Region *publish(RuntimeThread *thread, uint64_t step, const RegionWindow *window) {
  const LiftRegion *guest = &work->region;
  RegionExtent extent = {guest->entry,       guest->highest,     guest->look_lowest,
                         guest->look_highest, guest->slot_lowest, guest->slot_highest};
  Region *region = cache_add_region(&work->tables, &extent, 0, true);
  region->checked = guest->checked;
  region->step = step;
  region->repeats = step && guest->insns[0].insn.prefixes & (X86_PREFIX_REP | X86_PREFIX_REPNE);
  if (guest->source_count) sleep_keep_source(thread, region, guest);
  if (window->writable) pages_note_region(region, &work->region);
  block_map_add_region(region); /* last: what others find is whole, even if this process is killed here */
  runtime.stats.regions++;
  runtime.stats.checked_regions += region->checked;
  runtime.stats.guest_insns += work->region.count;
  runtime.stats.guest_bytes += region->highest - region->lowest;
  runtime.stats.host_bytes += region->code_bytes;
  return region;
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

/* The instruction's first byte cannot be read, or what it has on the next page. */
static TranslateStatus fetch_failed(const RuntimeThread *thread, uint64_t pc, uint64_t *ret_address) {
  uint64_t next = (pc & ~(MEMORY_PAGE_SIZE - 1)) + MEMORY_PAGE_SIZE;
  *ret_address = thread->guard_fault.address >= next ? next : pc;
  return thread->guard_fault.signal == SIGBUS ? TRANSLATE_NO_PAGE : TRANSLATE_FAULT;
}

TranslateStatus translate(RuntimeThread *thread, uint64_t key, unsigned x87_top, bool may_wait, Region **ret_region,
                          uint64_t *ret_address) {
  bool step = step_is_key(key);
  uint64_t guest_pc = step ? key & ~STEP_KEY : key;
  RegionWindow window;
  if (!find_window(guest_pc, &window)) {
    *ret_address = guest_pc; /* whatever the map says by now: it grows without the lock */
    return TRANSLATE_FAULT;
  }
  if (sleep_any() && !step && (*ret_region = sleep_end(thread, guest_pc, &window))) {
    block_map_add_region(*ret_region);
    return TRANSLATE_OK;
  }
  if (!cache_has_room()) return TRANSLATE_NO_ROOM;
  uint64_t absent = 0;
  if (!step && (*ret_region = images_take(thread, guest_pc, &window, may_wait ? &absent : NULL))) return TRANSLATE_OK;
  if (absent) return *ret_address = absent, TRANSLATE_ABSENT;
  make_work();
  bool once = !step && runs_once(guest_pc);
  uint32_t limit = step ? 1 : once ? ONCE_INSNS : PIPELINE_INSNS;
  PipelineTarget target = {.features = runtime.features, .ordered = runtime.ordered, .x87_top = x87_top + 1,
                           .without_avx = !runtime.options.avx, .hasty = once,
                           .is_misaligned = misaligned_any() ? misaligned_is_known : NULL};
  Analysis analysis = {&work->region, &window, guest_pc, limit, step ? 1 : PIPELINE_STRAIGHT, once, 0};
  bool checked = step;
  work->region.single_step = step;
  for (A64EmitStatus status = A64_EMIT_TOO_LARGE; status != A64_EMIT_OK;) {
    FormStatus formed = form(thread, &analysis, &checked);
    if (formed == FORM_FAULT) return fetch_failed(thread, guest_pc, ret_address);
    if (formed == FORM_AGAIN) continue;
    status = pipeline_generate(work, &target);
    if (status != A64_EMIT_OK) make_smaller(&analysis, status);
  }
  Region *region = publish(thread, key & STEP_KEY, &window);
  if (dump_wanted(guest_pc)) dump_region(&work->lift, &work->region, region);
  *ret_region = region;
  return TRANSLATE_OK;
}

static A64PcMap boundary_before(const Region *region, uint32_t offset) {
  A64PcMap best = {0, 0, 0};
  for (A64PcCursor at = a64_pc_map_begin(&region->tables); a64_pc_map_next(&at);)
    if (at.last.host_offset <= offset) best = at.last;
  return best;
}

unsigned region_uppers_at(const Region *region, uint32_t offset) { return boundary_before(region, offset).uppers; }

uint64_t region_pc_at(const Region *region, uint32_t offset, unsigned *ret_flag_form) {
  A64PcMap best = boundary_before(region, offset);
  *ret_flag_form = best.guest_offset >> 30;
  return region->entry + a64_guest_distance(best.guest_offset);
}
