/* The runtime's own structures: regions in the code cache, and what each thread keeps. */
#ifndef STELE_RUNTIME_INTERNAL_H
#define STELE_RUNTIME_INTERNAL_H

#include "a64/emit.h"
#include "base/base.h"
#include "lift/lift.h"
#include "runtime/runtime.h"

/* A translated region. Code is never moved; when a region dies (its guest code changed), each of its entries
 * is patched to a BL to the link trampoline, so every stale way in finds the dispatcher. */
typedef struct Region {
  uint64_t entry, lowest, highest; /* guest */
  uint32_t *code;
  uint32_t code_bytes;
  uint16_t exit_count, entry_count, indirect_count;
  uint16_t pc_map_count;
  bool dead;
  bool interrupted; /* its way out has been opened for a thread that has to stop */
  A64Exit *exits;
  A64Entry *entries;
  uint32_t *indirect_checks;
  A64PcMap *pc_map;
} Region;

typedef struct RuntimeThread RuntimeThread;
struct RuntimeThread {
  GuestCpu *cpu;
  RuntimeThread *previous, *next; /* all threads, under the lock */
  uint32_t in_code;               /* between deciding to enter generated code and being out of it */
  Region *interrupted;            /* opened for this thread; closed when it has come out */
  void *shadow_stack;
};

typedef struct RuntimeStats {
  uint64_t regions, guest_insns, guest_bytes, host_bytes, links, flushes, invalidations, dispatches, syscalls;
} RuntimeStats;

typedef struct Runtime {
  RuntimeOptions options;
  uint32_t features;   /* A64_HAS_* */
  bool ordered;        /* accesses are translated in x86 order now */
  bool strict_flags;
  BaseLock lock;       /* everything below */
  RuntimeThread *threads;

  uint8_t *cache;      /* code, read-write-execute */
  uint64_t cache_size, cache_used, trampolines_size;
  uint64_t trampolines[A64_TRAMPOLINE_COUNT];

  Region **regions;    /* by ascending code address */
  uint32_t region_count, region_capacity;
  RuntimeStats stats;
} Runtime;

extern Runtime runtime;

/* --- Code cache (code-cache.c) --- */

int cache_init(void);
/* Copies emitted code to the cache and completes it. NULL when the cache is full. */
Region *cache_add_region(A64Code *code, const LiftRegion *guest);
/* The region whose code holds a host PC, dead or alive. Async-signal-safe. */
Region *cache_find_region(uint64_t host_pc);
bool cache_contains(uint64_t host_pc);
/* Forgets everything; no thread may be in generated code. */
void cache_clear(void);
/* Makes written code visible to instruction fetch. */
void cache_sync(const void *start, uint64_t length);
/* Writes one instruction word another thread may be executing. */
void cache_patch(uint32_t *at, uint32_t word);

/* Makes a region of its own of code just written at the cache's end, which stands in for the instruction at
 * host_pc in `origin`. */
void cache_adopt_stub(uint32_t *stub, uint32_t bytes, const Region *origin, uint64_t host_pc);

/* Arena for regions' metadata, emptied with the cache. */
void *cache_alloc(size_t size);

/* --- Block map: guest PC to host PC of region entries (block-map.c) --- */

uint64_t block_map_find(uint64_t guest_pc); /* 0 when there is none */
void block_map_add(uint64_t guest_pc, uint64_t host_pc);
void block_map_remove(uint64_t guest_pc, uint64_t host_pc);
void block_map_clear(void);

/* --- Translation (translate.c) --- */

/* Translates the region at guest_pc; the lock is held. `x87_top`: the slot of ST(0) there (guest/state.h).
 * Its host PC; 0 with *ret_vector set when the instruction
 * cannot even be fetched, which the guest gets as an exception (address in *ret_address). */
uint64_t translate(uint64_t guest_pc, unsigned x87_top, int *ret_vector, uint64_t *ret_address);

/* Decodes and analyses once more what a region was made of; the lock is held, and the result is good for as long.
 * NULL when the code has changed, or was translated in smaller pieces. */
const LiftRegion *translate_analyse_again(const Region *region);

/* Executable mappings have changed. */
void translate_forget_window(void);

/* --- Linking (link.c) --- */

/* Handles the exit whose BL is at `site`: its guest target, and the exit to link (NULL for an entry or instruction
 * of a dead region). The flags are in *ret_flag_form. */
uint64_t link_exit_target(uint64_t site, Region **ret_region, A64Exit **ret_exit, unsigned *ret_flag_form);
/* Has a dead region left at the guest instruction after the one at host_pc, which has just changed what follows. */
void link_stop_at_boundaries(Region *region, uint64_t host_pc);
void link_exit(Region *region, A64Exit *exit, uint64_t host_pc);
/* Opens all ways out of a region, so that a thread in it comes out soon; and closes them again. */
void link_open(Region *region);
void link_close(Region *region);
/* Every entry of the region leads to the dispatcher from now on. */
void link_kill(Region *region);

/* --- Guest pages with translations (pages.c) --- */

void pages_note_region(Region *region);
/* Kills regions made from [start, end). */
void pages_invalidate(uint64_t start, uint64_t end);
/* A write fault at `address`: true when it was ours and the page is writable again. */
bool pages_handle_write(uint64_t address);
bool pages_release_all(void);
void pages_clear(void);

/* --- Others --- */

uint64_t runtime_pc_of_host(const Region *region, uint64_t host_pc, unsigned *ret_flag_form);
/* Brings flags in a form other than the canonical one (FlagForm, lift/lift.h) into it, in a synchronised state. */
void runtime_canonical_flags(GuestCpu *cpu, unsigned form);
/* Works out the status flags at cpu->rip that no code would have read (fault-flags.c), from a synchronised state.
 * `host_pc` is in the region that was left. Takes the lock, letting others flush meanwhile. */
void runtime_recover_flags(GuestCpu *cpu, uint64_t host_pc);
/* Makes locked operations on addresses that no AArch64 atomic takes atomic among themselves (misaligned.c). */
extern BaseLock runtime_split_lock;
/* Counts how often everything has been forgotten: host PCs from before are gone. */
uint32_t runtime_generation(void);
/* Stops all other threads outside generated code and forgets all translations; the lock is held. */
void runtime_flush(void);
void dump_region(const Lift *lift, const LiftRegion *guest, const Region *region);
bool dump_wanted(uint64_t guest_pc);
RuntimeThread *runtime_thread_of(const GuestCpu *cpu);

/* trampolines.S */
unsigned runtime_enter(GuestCpu *cpu, uint64_t host_pc);
extern const uint8_t runtime_trampolines_start[], runtime_trampolines_end[];
extern const uint8_t runtime_trampoline_link[], runtime_trampoline_indirect[], runtime_trampoline_return[],
    runtime_trampoline_syscall[], runtime_trampoline_raise[], runtime_trampoline_helper[];
extern const uint8_t runtime_enter_check[], runtime_enter_go[], runtime_enter_stop[], runtime_leave[];
extern const uint8_t runtime_helper_table[];
void runtime_save_vectors(GuestCpu *cpu);
void runtime_load_vectors(const GuestCpu *cpu);

#endif
