/* Dispatch: the loop each guest thread lives in, from which generated code is entered and to which it
 * returns; and stopping all threads to start afresh.
 *
 * A thread looks its PC up (or translates), enters, and comes back with a reason: an exit to link, a target the
 * branch cache did not have, a system call, an exception. Vector registers stay in the processor
 * throughout, but are saved around calls of the Linux layer, which may look at them or replace them. */
#include "runtime/internal.h"

#include <string.h>

#include "base/host-call.h"
#include "guest/memory-map.h"
#include "lift/vector/state.h"
#include "runtime/layout.h"
#include "runtime/single-step.h"

Runtime runtime = {.lock = {.rank = BASE_RANK_RUNTIME}};

enum { SHADOW_SEARCH = 64, CHECK_BUDGET = 64, SECOND_BUDGET = 64 };

#define CHECK(name, field) _Static_assert(name == offsetof(GuestCpu, field), "runtime/layout.h: " #name)
CHECK(CPU_GPR, gpr);
CHECK(CPU_NZCV, nzcv);
CHECK(CPU_FLAG_RESULT, flag_result);
CHECK(CPU_FLAG_RESULT + 8, flag_aux);
CHECK(CPU_INTERRUPT, interrupt);
CHECK(CPU_XMM, xmm);
CHECK(CPU_HOST_SP, host_sp);
CHECK(CPU_SHADOW_SP, shadow_sp);
CHECK(CPU_SHADOW_BASE, shadow_base);
CHECK(CPU_SCRATCH, scratch);
CHECK(CPU_BRANCH_CACHE, branch_cache);
CHECK(CPU_EXIT_ARGUMENT, exit_argument);
CHECK(CPU_HELPER_RETURN, helper_return);
CHECK(CPU_SECOND_BUDGET, second_budget);
_Static_assert(BRANCH_CACHE_BITS == GUEST_BRANCH_CACHE_BITS &&
                   BRANCH_CACHE_TABLE == GUEST_BRANCH_CACHE_SIZE * sizeof(GuestBranchCacheEntry),
               "runtime/layout.h");
_Static_assert(TRAMPOLINE_LINK == A64_TRAMPOLINE_LINK && TRAMPOLINE_INDIRECT == A64_TRAMPOLINE_INDIRECT &&
                   TRAMPOLINE_RETURN == A64_TRAMPOLINE_RETURN && TRAMPOLINE_SYSCALL == A64_TRAMPOLINE_SYSCALL &&
                   TRAMPOLINE_RAISE == A64_TRAMPOLINE_RAISE,
               "runtime/layout.h");

/* --- Start ---------------------------------------------------------------------------------------- */

/* AT_HWCAP and AT_HWCAP2 bits (Linux Documentation/arch/arm64/elf_hwcaps.rst). */
uint32_t runtime_features(uint64_t hwcap, uint64_t hwcap2) {
  static const struct {
    uint8_t second, bit;
    uint32_t feature;
  } rows[] = {
      {0, 3, A64_HAS_AES},    {0, 4, A64_HAS_PMULL},   {0, 5, A64_HAS_SHA1},   {0, 6, A64_HAS_SHA2},
      {0, 7, A64_HAS_CRC32},  {0, 8, A64_HAS_LSE},     {0, 15, A64_HAS_LRCPC}, {0, 26, A64_HAS_LRCPC2},
      {0, 25, A64_HAS_LSE2},  {0, 27, A64_HAS_FLAGM},  {1, 7, A64_HAS_FLAGM2}, {1, 8, A64_HAS_FRINT},
      {1, 20, A64_HAS_AFP},
  };
  uint32_t features = 0;
  for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
    if ((rows[i].second ? hwcap2 : hwcap) >> rows[i].bit & 1) features |= rows[i].feature;
  return features;
}

int runtime_init(const RuntimeOptions *options) {
  runtime.options = *options;
  runtime.features = runtime_features(options->hwcap, options->hwcap2);
  runtime.ordered = options->memory_model == RUNTIME_MEMORY_TSO;
  base_lock_inherited = runtime_lock_inherited;
  return cache_init();
}

/* --- Dispatch ---------------------------------------------------------------------------------------- */

static void synchronise(GuestCpu *cpu) {
  runtime_save_vectors(cpu);
  cpu->mxcsr = sse_mxcsr_from_fpsr(cpu->mxcsr, sse_read_fpsr());
}

static void reload(GuestCpu *cpu) {
  runtime_load_vectors(cpu);
  sse_write_fpcr(sse_fpcr_from_mxcsr(cpu->mxcsr));
  sse_write_fpsr(0);
  cpu->float_unmasked = sse_fpsr_unmasked(cpu->mxcsr);
}

void runtime_float_traps(const GuestCpu *cpu) {
  enum { MASKS = 0x1f80 };
  if ((cpu->mxcsr & MASKS) == MASKS || __atomic_load_n(&runtime.float_traps, __ATOMIC_RELAXED)) return;
  base_lock(&runtime.lock);
  if (!runtime.float_traps) {
    __atomic_store_n(&runtime.float_traps, true, __ATOMIC_RELAXED);
    runtime_flush(cpu->runtime_thread);
  }
  base_unlock(&runtime.lock);
}

static void raise(GuestCpu *cpu, int vector, uint64_t address, uint64_t error_code) {
  synchronise(cpu);
  linux_raise_exception(cpu, vector, address, error_code);
  reload(cpu);
}

void runtime_canonical_flags(GuestCpu *cpu, unsigned form) {
  const uint64_t z = UINT64_C(1) << 30, c = UINT64_C(1) << 29, v = UINT64_C(1) << 28;
  if (form == FLAGS_DIRECT || form == FLAGS_LOGIC) cpu->nzcv ^= c;
  if (form != FLAGS_FCMP) return;
  bool unordered = cpu->nzcv & v;
  cpu->nzcv = (unordered ? z : cpu->nzcv & z) | (unordered ? 0 : cpu->nzcv & c);
  cpu->flag_result = cpu->flag_aux = !unordered; /* PF: even parity of 0 */
}

/* How a thread came out of generated code, as far as that is still to be dealt with. */
typedef struct Pending {
  uint64_t site;    /* of an exit to be linked, or 0 */
  bool remember;    /* the branch cache lacked cpu->rip */
  bool faulted;     /* the branch that led out has raised an exception */
} Pending;

/* The guest target of the exit at `site`, as the thread's PC. The lock is held or the thread IN_CODE. */
static void resolve_exit(RuntimeThread *thread, uint64_t site, Region **ret_region, const A64TableExit **ret_exit) {
  GuestCpu *cpu = thread->cpu;
  uint32_t offset;
  unsigned form;
  const Region *region = detour_region_at(thread, site, &offset);
  if (!region) base_panic("exit at 0x%lx belongs to no region", (unsigned long)site);
  cpu->rip = link_exit_target(thread, region, offset, ret_exit, &form);
  *ret_region = (Region *)region;
  runtime_canonical_flags(cpu, form);
}

static void remember_branch(GuestCpu *cpu, uint64_t host_pc) {
  GuestBranchCacheEntry entry = {cpu->rip, host_pc};
  cpu->branch_cache[guest_branch_cache_first(cpu->rip)] = entry;
  cpu->branch_cache[guest_branch_cache_second(cpu->rip)] = entry;
  cpu->second_budget = SECOND_BUDGET;
}

/* What is not in memory is read without the lock, which who serves it may want. */
static void fetch(RuntimeThread *thread, uint64_t address) {
  base_unlock(&runtime.lock);
  translate_fetch(thread, address);
  base_lock(&runtime.lock);
}

static bool is_canonical(uint64_t address) { return (uint64_t)((int64_t)address >> 47) + 1 <= 1; }

/* Host code of cpu->rip, translating it if need be; 0 when it cannot be fetched. `*exit` is NULL afterwards when its region
 * may be gone. */
static uint64_t look_up(RuntimeThread *thread, const A64TableExit **exit, Region **ret_region, uint64_t *ret_fault,
                        uint64_t *ret_error) {
  enum {
    FETCH = 0x14,   /* page-fault error code: user, instruction fetch */
    FETCHES_MAX = 8 /* before it is translated without what else an image's region wants to be read */
  };
  GuestCpu *cpu = thread->cpu;
  for (unsigned fetches = 0;;) {
    *ret_fault = cpu->rip;
    *ret_error = FETCH;
    if (!is_canonical(cpu->rip)) return 0; /* nor is it a key, of which some look like such addresses */
    uint64_t key = step_key(cpu), host_pc = block_map_find(key, ret_region), deaths = runtime.deaths;
    if (host_pc) return host_pc;
    TranslateStatus status = TRANSLATE_ABSENT;
    if (fetches || translate_can_read(cpu->rip))
      status = translate(thread, key, cpu->x87.top & 7, fetches < FETCHES_MAX, ret_region, ret_fault);
    if (status == TRANSLATE_ABSENT) fetch(thread, *ret_fault), fetches++;
    if (runtime.deaths != deaths) *exit = NULL; /* all was given up for it (become_strict()) */
    *ret_error = status == TRANSLATE_NO_PAGE ? FETCH | RUNTIME_NO_PAGE : FETCH;
    if (status == TRANSLATE_FAULT || status == TRANSLATE_NO_PAGE) return 0;
    if (status == TRANSLATE_OK || status == TRANSLATE_ABSENT) continue;
    *exit = NULL;
    cache_make_room();
  }
}

/* Host code of cpu->rip, for which the thread is IN_CODE then; 0 after the guest got an exception instead. */
static uint64_t find_code(RuntimeThread *thread, Pending *pending) {
  GuestCpu *cpu = thread->cpu;
  uint64_t fault, error;
  Region *from = NULL, *region;
  const A64TableExit *exit = NULL;
  base_lock(&runtime.lock);
  runtime.stats.dispatches++;
  if (pending->site) resolve_exit(thread, pending->site, &from, &exit);
  detour_end(thread);
  thread->state = THREAD_OUTSIDE;
  if (outside_apply(thread)) exit = NULL;
  uint64_t host_pc = look_up(thread, &exit, &region, &fault, &error);
  if (host_pc) {
    if (exit) link_exit(from, exit, region, host_pc);
    if (pending->remember) remember_branch(cpu, host_pc);
    thread_enter(thread);
  }
  base_unlock(&runtime.lock);
  *pending = (Pending){0};
  if (host_pc) return host_pc;
  thread_leave(thread);
  raise(cpu, 14, fault, error);
  return 0;
}

/* A return went elsewhere than its call: after longjmp() the entry is further up, after a switch of stacks it
 * is not there at all, and what was popped may be wanted later. */
static void realign_shadow_stack(GuestCpu *cpu) {
  const uint64_t *entry = (const uint64_t *)(uintptr_t)cpu->shadow_sp;
  for (unsigned i = 0; i < SHADOW_SEARCH && (uint64_t)(uintptr_t)entry < cpu->shadow_base; i++, entry += 2)
    if (entry[0] == cpu->rip) {
      cpu->shadow_sp = (uint64_t)(uintptr_t)(entry + 2);
      return;
    }
  if (cpu->shadow_sp > cpu->shadow_base) cpu->shadow_sp = cpu->shadow_base;
  else if (cpu->shadow_sp > cpu->shadow_limit + 16) cpu->shadow_sp -= 16;
}

/* Checked code has found a change, or has not for a while. */
static void look_at_checked(RuntimeThread *thread, bool changed) {
  GuestCpu *cpu = thread->cpu;
  uint32_t offset;
  base_lock(&runtime.lock);
  Region *region = (Region *)detour_region_at(thread, cpu->exit_argument - 4, &offset);
  if (region && !region->dead && (changed || pages_found_stable(region))) {
    region_kill(region, changed ? DEATH_CHANGED : DEATH_STABLE);
    threads_note_deaths(thread);
  }
  base_unlock(&runtime.lock);
  cpu->check_budget = CHECK_BUDGET;
}

static void begin_float_traps(RuntimeThread *thread) {
  detour_end(thread);
  thread_leave(thread);
  synchronise(thread->cpu);
  runtime_float_traps(thread->cpu);
  reload(thread->cpu);
}

static void raise_from_code(RuntimeThread *thread) {
  enum { FETCH = 0x14 };
  GuestCpu *cpu = thread->cpu;
  int vector = (int)cpu->scratch[5];
  uint64_t address = 0;
  runtime_recover_flags(cpu, cpu->exit_argument - 4);
  if (vector == 14) { /* the instruction cannot be fetched, or the rest of it on the next page */
    uint64_t end;
    int protection = memory_map_query(cpu->rip, &end);
    bool begins = protection >= 0 && protection & MEMORY_EXEC;
    address = begins ? (cpu->rip + 4096) & ~UINT64_C(4095) : cpu->rip;
  }
  uint64_t error_code = vector == 14 ? FETCH : cpu->raise_error;
  cpu->raise_error = 0;
  detour_end(thread);
  thread_leave(thread);
  raise(cpu, vector, address, error_code);
}

/* Whether a branch to cpu->rip faults itself. If not, its target does when it is fetched, which is nowhere mapped. */
static bool branch_faults(RuntimeThread *thread) {
  GuestCpu *cpu = thread->cpu;
  if (is_canonical(cpu->rip) || !fault_at_branch(thread)) return false;
  detour_end(thread);
  thread_leave(thread);
  raise(cpu, 13, 0, 0);
  return true;
}

static void system_call(RuntimeThread *thread) {
  GuestCpu *cpu = thread->cpu;
  detour_end(thread);
  thread_leave(thread);
  runtime.stats.syscalls++;
  synchronise(cpu);
  linux_syscall(cpu);
  reload(cpu);
}

static void deliver_signals(RuntimeThread *thread, Pending *pending) {
  GuestCpu *cpu = thread->cpu;
  Region *region;
  const A64TableExit *exit;
  if (pending->site) resolve_exit(thread, pending->site, &region, &exit);
  pending->site = 0;
  detour_end(thread);
  thread_leave(thread);
  synchronise(cpu);
  linux_deliver_signals(cpu);
  reload(cpu);
}

/* What the reason for leaving code asks for; the thread is still IN_CODE. */
static void come_out(RuntimeThread *thread, unsigned reason, Pending *pending) {
  GuestCpu *cpu = thread->cpu;
  runtime.stats.ways_out[reason]++;
  switch (reason) {
  case TRAMPOLINE_LINK: pending->site = cpu->exit_argument - 4; break;
  case TRAMPOLINE_RETURN:
    cpu->rip = cpu->scratch[6];
    pending->faulted = branch_faults(thread);
    if (pending->faulted) break;
    pending->remember = true;
    realign_shadow_stack(cpu);
    break;
  case TRAMPOLINE_INDIRECT:
    cpu->rip = cpu->scratch[6];
    pending->faulted = branch_faults(thread);
    pending->remember = !pending->faulted;
    break;
  case TRAMPOLINE_SYSCALL:
    cpu->rip = cpu->scratch[6];
    system_call(thread);
    break;
  case TRAMPOLINE_RAISE:
    cpu->rip = cpu->scratch[6];
    if (cpu->scratch[5] == LIFT_STEP) cpu->rip = cpu->raise_error;
    if (cpu->scratch[5] == LIFT_STEP || cpu->scratch[5] == LIFT_STEP_HELD) cpu->raise_error = 0;
    else if (cpu->scratch[5] == LIFT_FLOAT_TRAPS) begin_float_traps(thread);
    else if (cpu->scratch[5] == LIFT_CODE_CHANGED || cpu->scratch[5] == LIFT_CODE_STABLE)
      look_at_checked(thread, cpu->scratch[5] == LIFT_CODE_CHANGED);
    else raise_from_code(thread);
    break;
  case TRAMPOLINE_INTERRUPTED: break;
  default: reload(cpu); break; /* resumed after a fault: everything is in cpu */
  }
}

/* Executes one instruction, and raises #DB. */
static __attribute__((noinline, cold)) void single_step(RuntimeThread *thread, uint64_t host_pc, Pending *pending) {
  GuestCpu *cpu = thread->cpu;
  Region *region;
  const A64TableExit *exit;
  uint32_t offset;
  uint64_t start = cpu->rip;
  bool repeats = detour_region_at(thread, host_pc, &offset)->repeats;
  unsigned reason = runtime_enter(cpu, step_detour(thread, host_pc));
  bool traps = step_traps(cpu, reason);
  come_out(thread, reason, pending);
  if (pending->site) resolve_exit(thread, pending->site, &region, &exit);
  traps = traps && !pending->faulted;
  *pending = (Pending){0};
  detour_end(thread);
  thread_leave(thread);
  if (traps) raise(cpu, 1, 0, repeats && cpu->rip == start);
}

_Noreturn void runtime_run(GuestCpu *cpu) {
  RuntimeThread *thread = runtime_thread_of(cpu);
  Pending pending = {0};
  thread_begin(thread);
  reload(cpu);
  for (;;) {
    if (cpu->interrupt) {
      deliver_signals(thread, &pending);
      pending.remember = pending.faulted = false;
      continue;
    }
    bool stepping = step_wanted(cpu);
    uint64_t host_pc = find_code(thread, &pending);
    if (host_pc && stepping) single_step(thread, host_pc, &pending);
    else if (host_pc) come_out(thread, runtime_enter(cpu, host_pc), &pending);
  }
}

/* --- Statistics -------------------------------------------------------------------------------------- */

bool runtime_is_generated_code(uint64_t host_pc) { return cache_contains(host_pc); }

static const char *const death_names[DEATH_CAUSES] = {
    [DEATH_WRITTEN] = "written",       [DEATH_SYSCALL] = "syscall", [DEATH_MAPPING] = "mapping",
    [DEATH_CHANGED] = "changed",       [DEATH_STABLE] = "stable",   [DEATH_MISALIGNED] = "misaligned",
    [DEATH_EVICTED] = "evicted",        [DEATH_IN_SLEEP] = "in-sleep"};
static const char *const way_names[TRAMPOLINE_REASONS] = {
    [TRAMPOLINE_LINK] = "link",       [TRAMPOLINE_INDIRECT] = "indirect", [TRAMPOLINE_RETURN] = "return",
    [TRAMPOLINE_SYSCALL] = "syscall", [TRAMPOLINE_RAISE] = "raise",       [TRAMPOLINE_INTERRUPTED] = "interrupt",
    [TRAMPOLINE_RESUMED] = "fault"};

static const char *const miss_names[IMAGE_MISSES] = {
    [MISS_FLAGS] = "flags",         [MISS_MADE] = "made",       [MISS_NO_FILE] = "no-file", [MISS_NO_IMAGE] = "no-image",
    [MISS_NO_REGION] = "no-region", [MISS_DAMAGED] = "damaged", [MISS_CHANGED] = "changed", [MISS_WRITTEN] = "written",
    [MISS_MISALIGNED] = "misaligned"};

static void write_by_cause(int fd, const char *kind, const char *const *names, const uint64_t *counts, unsigned count) {
  for (unsigned i = 0; i < count; i++)
    if (names[i] && counts[i]) base_print(fd, "%s%s %lu\n", kind, names[i], (unsigned long)counts[i]);
}

void runtime_write_stats(void) {
  enum { O_WRONLY_CREAT_APPEND = 02101 };
  if (!runtime.options.stats_path) return;
  int64_t fd = host_call(__NR_openat, -100, runtime.options.stats_path, O_WRONLY_CREAT_APPEND, 0644);
  if (fd < 0) return;
  const RuntimeStats *s = &runtime.stats;
  base_print((int)fd,
             "regions %lu\nguest-instructions %lu\nguest-bytes %lu\nhost-bytes %lu\nlinks %lu\nflushes %lu\n"
             "dispatches %lu\nsyscalls %lu\nevictions %lu\nkicks %lu\ndetours %lu\nwrite-faults %lu\n"
             "checked-regions %lu\nwoken %lu\nimage-regions %lu\n",
             (unsigned long)s->regions, (unsigned long)s->guest_insns, (unsigned long)s->guest_bytes,
             (unsigned long)s->host_bytes, (unsigned long)s->links, (unsigned long)s->flushes,
             (unsigned long)s->dispatches, (unsigned long)s->syscalls, (unsigned long)s->evictions,
             (unsigned long)s->kicks, (unsigned long)s->detours, (unsigned long)s->write_faults,
             (unsigned long)s->checked_regions, (unsigned long)s->woken, (unsigned long)s->image_regions);
  write_by_cause((int)fd, "missed-", miss_names, s->image_misses, IMAGE_MISSES);
  write_by_cause((int)fd, "died-", death_names, s->deaths, DEATH_CAUSES);
  write_by_cause((int)fd, "left-for-", way_names, s->ways_out, TRAMPOLINE_REASONS);
  host_call(__NR_close, fd);
}
