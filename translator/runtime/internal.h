/* The runtime's own structures: regions in the code cache, and what each thread keeps.
 *
 * The protocol between threads (states, who may patch and when memory of dead regions is used again) is told
 * in ARCHITECTURE.md, "Threads and the code cache". */
#ifndef STELE_RUNTIME_INTERNAL_H
#define STELE_RUNTIME_INTERNAL_H

#include "a64/emit.h"
#include "base/base.h"
#include "image/image.h"
#include "lift/lift.h"
#include "pipeline/pipeline.h"
#include "runtime/layout.h"
#include "runtime/runtime.h"

typedef struct Region Region;
typedef struct PageRegion PageRegion;
typedef struct Dependent Dependent;

/* A branch of one region that leads straight into another one. */
typedef struct Link {
  Region *from, *to;
  uint32_t exit;                  /* index in from->exits */
  struct Link *next_in, **where_in; /* among those that lead to `to` */
  struct Link *next_out;            /* among those of `from` that lead somewhere */
} Link;

/* A translated region. Its code is written once; afterwards only the branch of an exit is changed (link.c). A
 * region dies when its guest code changed or when room is wanted: nothing leads to it any more from then on, and
 * its memory is used again once no thread can be in it. */
struct Region {
  uint64_t entry, lowest, highest;  /* guest */
  uint64_t look_lowest, look_highest; /* guest bytes it depends on, those only looked at included */
  uint64_t slot_lowest, slot_highest; /* and the slots it jumps through lie between; or 0 */
  uint32_t *code;
  uint32_t code_bytes, instruction_bytes; /* with and without the literals behind the code */
  A64Tables tables; /* their words are those before they were placed */
  bool dead;    /* or asleep */
  bool asleep;  /* nothing leads to it, but it comes back when its guest bytes are found to be what they were */
  bool repeats; /* a step: of an instruction that is repeated */
  bool checked; /* compares its guest bytes with those it was made from whenever it is entered */
  uint64_t step; /* STEP_KEY or 0: in what its entries are known by (single-step.h) */
  Link *links_in, *links_out, *links_spare;
  PageRegion *pages, *pages_spare; /* where it is noted, and where it was (pages.c) */
  Dependent *dependent; /* and again (dependents.c) */
  uint64_t unit;                    /* of one from an image: under which the block map has it as a whole; or 0 */
  const ImagePart *parts;           /* what it was translated in, if that is more than one; the image's */
  uint32_t part_count;
  const struct Source *source; /* the guest bytes it was made of, of one that may sleep (sleep.c) */
  Region *next_asleep;                /* among those of one hash */
  Region *sleeps_after, *sleeps_before; /* neighbours in the order in which they fell asleep */
};

/* Whether a thread may hold addresses of the code cache. */
typedef enum ThreadState {
  THREAD_OUTSIDE, /* in C code; what it remembers of the cache is looked through before it goes back */
  THREAD_IN_CODE  /* from the choice of a host PC, under the lock, until what it left through is resolved */
} ThreadState;

/* A private copy of a region, all ways out of it open, that a thread goes on in so as to come out soon (detour.c). */
typedef struct Detour {
  uint32_t *slot;       /* NULL: in none */
  const Region *region;
  uint32_t stop_after;  /* every boundary behind this offset leads out; UINT32_MAX: exits and loops only */
} Detour;

typedef struct RuntimeThread RuntimeThread;
struct RuntimeThread {
  GuestCpu *cpu;
  RuntimeThread *previous, *next; /* all threads, under the lock */
  int tid, process;               /* the host's numbers */
  bool sharing;                   /* it was made in the memory of other threads */
  bool foreign;                   /* the numbers are another namespace's (pid_namespaces(7)) than the first thread's */
  ThreadState state;              /* OUTSIDE to IN_CODE under the lock, back by the thread alone */
  uint64_t seen;                  /* runtime.deaths when it last entered code: what had died by then it has forgotten */
  uint32_t kicked;                /* 1: the signal that brings it out is sent, and has not been seen to arrive */
  Detour detour;
  struct GuardFrame *guard;       /* where a fault in C code goes on (guard_call()) */
  RuntimeHostFault guard_fault;   /* the last such fault */
  void *shadow_stack;
};

/* Why a region died. */
typedef enum DeathCause {
  DEATH_WRITTEN,    /* a store to a page it depends on */
  DEATH_SYSCALL,    /* a system call that writes there */
  DEATH_MAPPING,    /* the page was mapped anew, or its protection changed */
  DEATH_CHANGED,    /* it was checked, and its bytes are others now */
  DEATH_STABLE,     /* it was checked, and need not be any more */
  DEATH_MISALIGNED, /* an ordered access of it met a misaligned address */
  DEATH_EVICTED,    /* room was wanted */
  DEATH_IN_SLEEP,   /* it slept, and too many others do */
  DEATH_CAUSES
} DeathCause;

/* Why code was translated although there is a store. */
typedef enum ImageMiss {
  MISS_FLAGS,      /* images keep only flags that something reads, and more are wanted */
  MISS_MADE,       /* the program may write it, or others may unseen */
  MISS_NO_FILE,    /* it belongs to no file that is mapped as code */
  MISS_NO_IMAGE,   /* the file has no image for this processor and memory order */
  MISS_NO_REGION,  /* its image has no region that is entered there */
  MISS_DAMAGED,    /* the region is not as it was written */
  MISS_CHANGED,    /* the guest's bytes are others, not in memory, or not to be executed */
  MISS_WRITTEN,    /* its pages are written again and again */
  MISS_MISALIGNED, /* an instruction in it is known to need other accesses */
  IMAGE_MISSES
} ImageMiss;

typedef struct RuntimeStats {
  uint64_t regions, guest_insns, guest_bytes, host_bytes, links, flushes, dispatches, syscalls, evictions, kicks, detours;
  uint64_t deaths[DEATH_CAUSES];
  uint64_t ways_out[TRAMPOLINE_REASONS]; /* what threads left generated code for (runtime/layout.h) */
  uint64_t write_faults;                 /* stores to protected pages */
  uint64_t checked_regions;              /* translated so that they compare their bytes */
  uint64_t woken;                        /* regions that came back instead of being translated again */
  uint64_t image_regions;                /* taken from images */
  uint64_t image_misses[IMAGE_MISSES];   /* not taken, where there is a store */
} RuntimeStats;

typedef struct Runtime {
  RuntimeOptions options;
  uint32_t features;   /* A64_HAS_* */
  bool ordered;        /* accesses are translated in x86 order now */
  bool strict_flags;
  bool float_traps; /* an exception of SSE has been unmasked: LiftRegion.float_traps of all code */
  bool concurrent;     /* more than one thread may be in generated code */
  BaseLock lock;       /* everything below, and all regions but for their code */
  RuntimeThread *threads;
  uint64_t deaths;     /* counts occasions on which regions died */
  uint32_t waiters;    /* threads that wait for others to leave code */
  uint32_t progress;   /* futex: changes when a thread leaves or enters code while somebody waits */

  uint8_t *cache;      /* trampolines, slots of detours, code */
  uint64_t cache_size;
  uint64_t trampolines[A64_TRAMPOLINE_COUNT];
  uint64_t miss_indirect, miss_return; /* those that lead to the dispatcher at once */
  uint64_t no_return;                  /* where a return to GUEST_NO_RETURN goes */
  RuntimeStats stats;
} Runtime;

extern Runtime runtime;

/* --- Code cache (code-cache.c) --- */

enum {
  CACHE_TRAMPOLINE_BYTES = 4096,  /* before the slots of detours */
  CACHE_REGION_BYTES = PIPELINE_CODE_BYTES
};

int cache_init(void);
/* Whether another region fits for certain. */
bool cache_has_room(void);
/* Makes room by letting the oldest or the least useful regions die, and waits for threads to leave them where there
 * is none at once. The lock is held, and may be given up meanwhile; the thread itself is OUTSIDE. */
void cache_make_room(void);
/* The guest addresses of a region. */
typedef struct RegionExtent {
  uint64_t entry, highest, look_lowest, look_highest, slot_lowest, slot_highest; /* as Region's */
} RegionExtent;
/* Copies code to the cache and completes it, guest addresses in it moved by `bias`; copies its tables, too, unless they
 * stay where they are for good. */
Region *cache_add_region(const A64Tables *tables, const RegionExtent *extent, uint64_t bias, bool keep_tables);
/* Names the region's code for perf(1). */
void cache_tell_perf(Region *region);
/* The region whose code holds a host PC, dead or alive. Async-signal-safe in a thread that is IN_CODE. */
Region *cache_find_region(uint64_t host_pc);
bool cache_contains(uint64_t host_pc);
/* All regions die, those asleep included. */
void cache_retire_all(void);
/* Puts right what an owner of the lock that was killed may have left half-done, but for regions; cache_retire_all() follows. */
void cache_recover(void);
/* For each that is alive or asleep. */
void cache_each_region(void (*visit)(Region *));
/* A region has died, has fallen asleep or woken: for the account of what is worth keeping. */
void cache_note_death(const Region *region);
void cache_note_sleep(const Region *region, bool asleep);
/* Makes written code visible to instruction fetch. */
void cache_sync(const void *start, uint64_t length);
/* Writes one instruction word another thread may be executing. Both the old and the new word are B or BL (Arm ARM
 * B2.2.5), or no other thread can be in the code. */
void cache_patch(uint32_t *at, uint32_t word);
/* Memory that lives as long as the region's. */
void *cache_alloc(const Region *region, size_t size);

/* --- Dependents (dependents.c); the lock is held --- */

/* A region is new; has died; all have died at once. */
void dependents_note(Region *region);
void dependents_forget(Region *region);
void dependents_note_again(Region *region); /* one that was forgotten, and has woken */
void dependents_clear(void);
/* Kills the regions that depend on guest bytes in [start, end): whether there were any. threads_note_deaths() must follow
 * then. */
bool dependents_kill(uint64_t start, uint64_t end);

/* --- Detours (detour.c) --- */

enum { DETOUR_SLOTS = 64, DETOUR_BYTES = DETOUR_SLOTS * CACHE_REGION_BYTES };

/* What stands at a host PC: a region, and the offset in its code. In a detour: those it was copied from. */
const Region *detour_region_at(const RuntimeThread *thread, uint64_t host_pc, uint32_t *ret_offset);
/* Has the thread go on in a copy; the region's code behind `stop_after` is left at the next guest instruction. The
 * same place there. Async-signal-safe; the lock is not held. */
uint64_t detour_take(RuntimeThread *thread, const Region *region, uint32_t offset, uint32_t stop_after);
/* The thread has come out. */
void detour_end(RuntimeThread *thread);
void detour_after_fork(void);

/* --- Threads (threads.c) --- */

RuntimeThread *runtime_thread_of(const GuestCpu *cpu);
/* The thread is going to run guest code for the first time. */
void thread_begin(RuntimeThread *thread);
/* The thread has resolved what it left code through, and is OUTSIDE. */
void thread_leave(RuntimeThread *thread);
/* The thread is going to enter code; the lock is held. Forgets what led to regions that have died. */
void thread_enter(RuntimeThread *thread);
/* Forgets predicted returns into dead regions, from `shadow_sp` on; the lock is held. The stack's new top. */
uint64_t thread_forget_returns(RuntimeThread *thread, uint64_t shadow_sp);
void thread_forget_entry(uint64_t guest_pc, uint64_t host_pc); /* in all threads' branch caches; lock held */
/* Regions have died: brings all other threads in code out of it, soon. The lock is held. */
void threads_note_deaths(RuntimeThread *self);
/* Whether no thread can be in a region that died when runtime.deaths became `deaths`. */
bool threads_passed(uint64_t deaths);
/* Forgets predicted returns into [start, end) in threads that are OUTSIDE; the lock is held. */
void threads_forget_range(uint64_t start, uint64_t end);
/* Waits for that. The lock is held, and given up meanwhile; the thread itself is OUTSIDE. */
void threads_wait(uint64_t deaths);
/* Has the thread come out by a signal. */
void thread_kick(RuntimeThread *thread);
/* In a signal handler of the thread, whose context it changes. */
bool thread_bring_out(RuntimeThread *thread, void *context);

/* --- Block map: guest PC to host PC of region entries (block-map.c) --- */

uint64_t block_map_find(uint64_t guest_pc, Region **ret_region); /* 0 when there is none */
extern uint64_t block_map_met[]; /* bit pc % REGION_MET_BITS: set wherever one has been added */
void block_map_add(uint64_t guest_pc, uint64_t host_pc, Region *region);
void block_map_add_region(Region *region); /* all its entries */
void block_map_remove(uint64_t guest_pc, uint64_t host_pc);
void block_map_clear(void);
void block_map_abandon(void); /* the same, with its memory lost, where it may be half-changed */

/* --- Translation (translate.c) --- */

typedef enum TranslateStatus {
  TRANSLATE_OK,
  TRANSLATE_FAULT,  /* the instruction cannot be fetched: a page fault at *ret_address, which the map tells of */
  TRANSLATE_NO_PAGE, /* the same, where the host has no page for what is mapped (SIGBUS) */
  TRANSLATE_NO_ROOM, /* the code cache is full: cache_make_room() */
  TRANSLATE_ABSENT   /* an image has it, but the page at *ret_address has to be read first: translate_fetch() */
} TranslateStatus;

/* Translates the region at `key`, a guest PC; or, with STEP_KEY in it, the one instruction there, for a step
 * (single-step.c). The lock is held. `x87_top`: the slot of ST(0) there (guest/state.h). `may_wait`: for TRANSLATE_ABSENT. */
TranslateStatus translate(RuntimeThread *thread, uint64_t key, unsigned x87_top, bool may_wait, Region **ret_region,
                          uint64_t *ret_address);

/* Whether the instruction at `pc` can be read without waiting for anything; the lock is held. Otherwise
 * translate_fetch(), without the lock, waits until it can, or it turns out that it cannot be read. */
bool translate_can_read(uint64_t pc);
void translate_fetch(RuntimeThread *thread, uint64_t pc);

/* Decodes and analyses once more what the code at an offset of a region was made of; the lock is held, and the result is good
 * for as long. NULL when the guest's code has changed, or was translated in smaller pieces. */
const LiftRegion *translate_analyse_again(RuntimeThread *thread, const Region *region, uint32_t offset);

/* Executable mappings have changed. */
void translate_forget_windows(void);

/* --- Code images (images.c) --- */

/* The region for `pc` from an image of the file that is mapped there, `pc` as its entry in the block map. Its other entries
 * come there when they are asked for, too. NULL where it has to be translated, or where `ret_absent`, which may be NULL, is
 * set to an address whose page has to be read first. The lock is held, and the cache has room. */
Region *images_take(RuntimeThread *thread, uint64_t pc, const RegionWindow *window, uint64_t *ret_absent);

/* --- Writes from outside (outside.c) --- */

/* Others may tell this process from now on. */
void outside_ready(int process);
void outside_after_fork(int process);
/* Whether something has been told since the last time: then all code is to be translated again. The lock is held, the thread
 * OUTSIDE. */
bool outside_apply(RuntimeThread *thread);
/* Whether others write guest memory, which the guest may write or not. */
bool outside_may_write(bool writable);

/* --- Linking (link.c) --- */

static inline uint64_t region_exit_target(const Region *region, const A64TableExit *exit) {
  return region->entry + (uint64_t)(int64_t)exit->distance;
}

/* What the entry is known by in the block map. */
static inline uint64_t region_entry_key(const Region *region, unsigned entry) {
  return (region->entry + (uint64_t)(int64_t)region->tables.entries[entry].distance) | region->step;
}

static inline uint64_t region_entry_host(const Region *region, unsigned entry) {
  return (uint64_t)(uintptr_t)(region->code + region->tables.entries[entry].word);
}

/* Where the branch at `offset` of a region's code leads, or the guest instruction there where it is none (a boundary
 * that a detour has made a way out). The exit to link, or NULL. The flags are in *ret_flag_form. */
uint64_t link_exit_target(const RuntimeThread *thread, const Region *region, uint32_t offset, const A64TableExit **ret_exit,
                          unsigned *ret_flag_form);
void link_exit(Region *region, const A64TableExit *exit, Region *target, uint64_t host_pc);
/* The region dies, or falls asleep where the cause allows: nothing leads to it any more. The lock is held;
 * threads_note_deaths() must follow. */
void region_kill(Region *region, DeathCause cause);
/* Forgets the links of a region that nothing leads to, and where it is noted: its memory may be used again. */
void region_bury(Region *region);
/* From now on several threads may be in code at once: links that could not be changed then are undone. */
void link_make_concurrent(void);

/* --- Guest pages with translations (pages.c) --- */

/* The region belongs to the pages it was read from, those looked at included; stores to them are noticed. */
void pages_note_region(Region *region, const LiftRegion *guest);
/* The same for one that was made of `runs`. */
void pages_note_again(Region *region, const RegionRun *runs, unsigned count);
void pages_forget_region(Region *region);
/* Before a translation that other threads' stores could race with. True when a page was not protected until now: what
 * was read from it may be out of date. */
bool pages_protect(const LiftRegion *guest, bool writable);
/* Whether the code has to be checked whenever it is entered, as nothing tells of changes. */
bool pages_want_checks(const LiftRegion *guest);
bool pages_runs_want_checks(const RegionRun *runs, unsigned count);
/* A write fault at `address`: true when it was ours and the page is writable again. */
bool pages_handle_write(RuntimeThread *thread, uint64_t address);
/* A checked region has been entered often without finding a change. True when it need not be checked any more. */
bool pages_found_stable(const Region *region);
void pages_clear(void);
void pages_recover(void); /* as cache_recover(); pages_clear() follows */
/* In a forked child: no call of another thread is under way any more. (Its own fork has written what it writes.) */
void pages_after_fork(void);

/* --- Sleep (sleep.c) --- */

/* Keeps the bytes of a region that has just been made, where that is worth it. */
void sleep_keep_source(RuntimeThread *thread, Region *region, const LiftRegion *guest);
/* The region, taken out of everything, waits for its bytes to come back; false where it cannot. */
bool sleep_begin(Region *region, DeathCause cause);
extern uint32_t sleep_count; /* regions asleep */
static inline bool sleep_any(void) { return sleep_count != 0; }
/* The region at `pc` whose bytes are what is there now, alive again; NULL where there is none. */
Region *sleep_end(RuntimeThread *thread, uint64_t pc, const RegionWindow *window);
/* A region asleep is given up. */
void sleep_give_up(Region *region, DeathCause cause);
/* All were given up with their memory. */
void sleep_forget_all(void);
void sleep_recover(void); /* as cache_recover(); sleep_forget_all() follows */

/* --- Faults (fault.c) --- */

/* The thread has left code by an indirect branch or a return to cpu->rip, which is no canonical address, and is IN_CODE: makes
 * its state what it was before that instruction. False where that can't be found: it has just been changed. */
bool fault_at_branch(RuntimeThread *thread);

/* --- Misaligned accesses (misaligned.c) --- */

/* Whether the instruction at `pc` has met a misaligned address, and is to use accesses that may. */
bool misaligned_is_known(uint64_t pc);
bool misaligned_any(void);

/* --- Guarded calls (trampolines.S) --- */

/* Registers to go back to. */
typedef struct GuardFrame {
  uint64_t registers[12]; /* x19-x30 */
  uint64_t sp;
} GuardFrame;

/* Calls function(argument). 1; or 0 when a memory access in it faulted, with everything below forgotten. */
int runtime_guard_call(GuardFrame *frame, void (*function)(void *), void *argument);
extern const uint8_t runtime_guard_fault[];
/* The same for the thread, whose fault handler then finds the frame. */
bool guard_call(RuntimeThread *thread, void (*function)(void *), void *argument);

/* --- Others --- */

/* The guest instruction at an offset of a region's code. */
uint64_t region_pc_at(const Region *region, uint32_t offset, unsigned *ret_flag_form);
/* A64PcMap.uppers of that instruction. */
unsigned region_uppers_at(const Region *region, uint32_t offset);
/* Brings flags in a form other than the canonical one (FlagForm, lift/lift.h) into it, in a synchronised state. */
void runtime_canonical_flags(GuestCpu *cpu, unsigned form);
/* Works out the status flags at cpu->rip that no code would have read (fault-flags.c), from a synchronised state.
 * `host_pc` is in the region that was left; the thread is IN_CODE. Takes the lock. */
void runtime_recover_flags(GuestCpu *cpu, uint64_t host_pc);
/* Makes locked operations on addresses that no AArch64 atomic takes atomic among themselves (misaligned.c). */
extern BaseLock runtime_split_lock;
/* Forgets all translations; the lock is held. Other threads may go on in old code until threads_passed(). */
void runtime_flush(RuntimeThread *self);
/* base_lock_inherited: of the runtime's lock, whose owner was killed. */
void runtime_lock_inherited(const BaseLock *lock);
void dump_region(const Lift *lift, const LiftRegion *guest, const Region *region);
bool dump_wanted(uint64_t guest_pc);

/* trampolines.S */
unsigned runtime_enter(GuestCpu *cpu, uint64_t host_pc);
extern const uint8_t runtime_trampolines_start[], runtime_trampolines_end[];
extern const uint8_t runtime_trampoline_link[], runtime_trampoline_indirect[], runtime_trampoline_return[],
    runtime_trampoline_syscall[], runtime_trampoline_raise[], runtime_trampoline_helper[];
extern const uint8_t runtime_second_indirect[], runtime_second_return[], runtime_second_end[], runtime_no_return[];
extern const uint8_t runtime_helper_stored[], runtime_helper_loaded[], runtime_helper_end[];
extern uint8_t runtime_trampoline_addresses[];
extern const uint8_t runtime_enter_check[], runtime_enter_go[], runtime_enter_stop[], runtime_leave[];
extern const uint8_t runtime_helper_table[];
void runtime_save_vectors(GuestCpu *cpu);
void runtime_load_vectors(const GuestCpu *cpu);

#endif
