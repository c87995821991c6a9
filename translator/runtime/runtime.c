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
#include "lift/sse-state.h"
#include "runtime/layout.h"

Runtime runtime;

enum { SHADOW_BYTES = 1 << 20, SHADOW_GUARD = 4096, SHADOW_SEARCH = 64 };

#define CHECK(name, field) _Static_assert(name == offsetof(GuestCpu, field), "runtime/layout.h: " #name)
CHECK(CPU_GPR, gpr);
CHECK(CPU_NZCV, nzcv);
CHECK(CPU_FLAG_RESULT, flag_result);
CHECK(CPU_FLAG_RESULT + 8, flag_aux);
CHECK(CPU_INTERRUPT, interrupt);
CHECK(CPU_XMM, xmm);
CHECK(CPU_HOST_SP, host_sp);
CHECK(CPU_SHADOW_SP, shadow_sp);
CHECK(CPU_SCRATCH, scratch);
CHECK(CPU_BRANCH_CACHE, branch_cache);
CHECK(CPU_EXIT_ARGUMENT, exit_argument);
CHECK(CPU_HELPER_RETURN, helper_return);
CHECK(CPU_HELPERS, helpers);
CHECK(CPU_LEAVE, leave);
_Static_assert(TRAMPOLINE_LINK == A64_TRAMPOLINE_LINK && TRAMPOLINE_INDIRECT == A64_TRAMPOLINE_INDIRECT &&
                   TRAMPOLINE_RETURN == A64_TRAMPOLINE_RETURN && TRAMPOLINE_SYSCALL == A64_TRAMPOLINE_SYSCALL &&
                   TRAMPOLINE_RAISE == A64_TRAMPOLINE_RAISE,
               "runtime/layout.h");

/* --- Start ---------------------------------------------------------------------------------------- */

/* AT_HWCAP and AT_HWCAP2 bits (Linux Documentation/arch/arm64/elf_hwcaps.rst). */
static uint32_t host_features(uint64_t hwcap, uint64_t hwcap2) {
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
  runtime.features = host_features(options->hwcap, options->hwcap2);
  runtime.ordered = options->memory_model == RUNTIME_MEMORY_TSO;
  return cache_init();
}

RuntimeThread *runtime_thread_of(const GuestCpu *cpu) { return cpu->runtime_thread; }

enum { BRANCH_CACHE_BYTES = GUEST_BRANCH_CACHE_SIZE * sizeof(GuestBranchCacheEntry) };

static void reset_branch_cache(GuestCpu *cpu) {
  enum { MADV_DONTNEED = 4 };
  if (host_call(__NR_madvise, cpu->branch_cache, BRANCH_CACHE_BYTES, MADV_DONTNEED) < 0)
    memset(cpu->branch_cache, 0, BRANCH_CACHE_BYTES);
  /* Zeros elsewhere belong to PC 0, which is looked up here. */
  cpu->branch_cache[0].guest_pc = GUEST_BRANCH_CACHE_EMPTY;
}

/* Aligned to its size (A64_REG_BRANCH_CACHE). */
static GuestBranchCacheEntry *new_branch_cache(void) {
  char *pages = base_pages_alloc(2 * BRANCH_CACHE_BYTES);
  if (!pages) return NULL;
  size_t before = -(uintptr_t)pages & (BRANCH_CACHE_BYTES - 1);
  base_pages_free(pages + before + BRANCH_CACHE_BYTES, BRANCH_CACHE_BYTES - before);
  if (before) base_pages_free(pages, before);
  GuestBranchCacheEntry *cache = (GuestBranchCacheEntry *)(pages + before);
  cache[0].guest_pc = GUEST_BRANCH_CACHE_EMPTY;
  return cache;
}

GuestCpu *runtime_thread_new(const GuestCpu *like) {
  GuestCpu *cpu = base_pages_alloc(sizeof *cpu + sizeof(RuntimeThread));
  GuestBranchCacheEntry *branches = new_branch_cache();
  uint8_t *shadow = base_pages_alloc(SHADOW_BYTES);
  if (!cpu || !branches || !shadow) return NULL;
  if (like) *cpu = *like;
  else guest_cpu_reset(cpu);
  RuntimeThread *thread = (RuntimeThread *)(cpu + 1);
  *thread = (RuntimeThread){.cpu = cpu, .shadow_stack = shadow};
  host_call(__NR_mprotect, shadow, SHADOW_GUARD, 0);
  cpu->branch_cache = branches;
  cpu->shadow_base = cpu->shadow_sp = (uint64_t)(uintptr_t)shadow + SHADOW_BYTES - 64;
  cpu->shadow_limit = (uint64_t)(uintptr_t)shadow + SHADOW_GUARD;
  cpu->helpers = runtime_helper_table;
  cpu->leave = (void *)(uintptr_t)runtime_leave;
  cpu->helper_return = 0;
  cpu->interrupt = 0;
  cpu->runtime_thread = thread;
  base_lock(&runtime.lock);
  thread->next = runtime.threads;
  if (thread->next) thread->next->previous = thread;
  runtime.threads = thread;
  base_unlock(&runtime.lock);
  return cpu;
}

void runtime_thread_free(GuestCpu *cpu) {
  RuntimeThread *thread = runtime_thread_of(cpu);
  base_lock(&runtime.lock);
  if (thread->previous) thread->previous->next = thread->next;
  else runtime.threads = thread->next;
  if (thread->next) thread->next->previous = thread->previous;
  base_unlock(&runtime.lock);
  base_pages_free(cpu->branch_cache, BRANCH_CACHE_BYTES);
  base_pages_free(thread->shadow_stack, SHADOW_BYTES);
  base_pages_free(cpu, sizeof *cpu + sizeof(RuntimeThread));
}

/* --- Forks ---------------------------------------------------------------------------------------- */

void runtime_before_fork(void) { base_lock(&runtime.lock); }
void runtime_after_fork_in_parent(void) { base_unlock(&runtime.lock); }

void runtime_after_fork(GuestCpu *cpu) {
  RuntimeThread *thread = runtime_thread_of(cpu);
  thread->previous = thread->next = NULL;
  runtime.threads = thread;
  runtime.lock = (BaseLock){0};
}

/* --- Starting afresh -------------------------------------------------------------------------------- */

static uint32_t flush_generation;

static RuntimeThread *self; /* the thread that flushes, so as not to wait for itself */

void runtime_flush(void) {
  for (uint32_t i = 0; i < runtime.region_count; i++)
    if (!runtime.regions[i]->dead) link_kill(runtime.regions[i]);
  __atomic_add_fetch(&flush_generation, 1, __ATOMIC_SEQ_CST);
  for (RuntimeThread *t = runtime.threads; t; t = t->next)
    while (t != self && __atomic_load_n(&t->in_code, __ATOMIC_SEQ_CST) == 1) host_call(__NR_sched_yield);
  for (RuntimeThread *t = runtime.threads; t; t = t->next) {
    reset_branch_cache(t->cpu);
    t->cpu->shadow_sp = t->cpu->shadow_base;
    t->interrupted = NULL;
  }
  block_map_clear();
  pages_clear();
  cache_clear();
  runtime.stats.flushes++;
}

uint32_t runtime_generation(void) { return __atomic_load_n(&flush_generation, __ATOMIC_SEQ_CST); }

void runtime_memory_shared(void) {
  if (runtime.options.memory_model != RUNTIME_MEMORY_AUTO) return;
  if (__atomic_load_n(&runtime.ordered, __ATOMIC_RELAXED)) return;
  base_lock(&runtime.lock);
  runtime.ordered = true;
  runtime_flush();
  base_unlock(&runtime.lock);
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

/* The guest target of the exit at `site`, as the thread's PC. */
static void leave_through(GuestCpu *cpu, uint64_t site, Region **ret_region, A64Exit **ret_exit) {
  unsigned form;
  cpu->rip = link_exit_target(site, ret_region, ret_exit, &form);
  runtime_canonical_flags(cpu, form);
}

/* Host code of cpu->rip, translating it if need be; 0 after the guest got an exception instead. When
 * `exit_site` is not 0 it is linked to what is found. */
static uint64_t find_code(GuestCpu *cpu, uint64_t exit_site, uint32_t *ret_generation) {
  enum { FETCH = 0x14 }; /* page-fault error code: user, instruction fetch */
  int vector = 0;
  uint64_t address = 0;
  Region *region = NULL;
  A64Exit *exit = NULL;
  base_lock(&runtime.lock);
  self = runtime_thread_of(cpu);
  runtime.stats.dispatches++;
  if (exit_site) leave_through(cpu, exit_site, &region, &exit);
  uint32_t generation = runtime_generation();
  uint64_t host_pc = block_map_find(cpu->rip);
  if (!host_pc) host_pc = translate(cpu->rip, cpu->x87.top & 7, &vector, &address);
  if (exit && host_pc && generation == runtime_generation()) link_exit(region, exit, host_pc);
  *ret_generation = runtime_generation();
  base_unlock(&runtime.lock);
  if (!host_pc) raise(cpu, vector, address, FETCH);
  return host_pc;
}

static void remember_branch(GuestCpu *cpu, uint64_t host_pc) {
  cpu->branch_cache[cpu->rip & (GUEST_BRANCH_CACHE_SIZE - 1)] = (GuestBranchCacheEntry){cpu->rip, host_pc};
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

static void raise_from_code(GuestCpu *cpu) {
  enum { FETCH = 0x14 };
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
  raise(cpu, vector, address, error_code);
}

/* Enters generated code; false when a signal came first. */
static bool enter(GuestCpu *cpu, uint64_t host_pc, uint32_t generation, unsigned *ret_reason) {
  RuntimeThread *thread = runtime_thread_of(cpu);
  __atomic_store_n(&thread->in_code, 1, __ATOMIC_SEQ_CST);
  if (generation != runtime_generation()) { /* host_pc may be gone */
    __atomic_store_n(&thread->in_code, 0, __ATOMIC_SEQ_CST);
    return false;
  }
  *ret_reason = runtime_enter(cpu, host_pc);
  __atomic_store_n(&thread->in_code, 0, __ATOMIC_SEQ_CST);
  if (thread->interrupted) {
    base_lock(&runtime.lock);
    if (thread->interrupted) link_close(thread->interrupted);
    thread->interrupted = NULL;
    base_unlock(&runtime.lock);
  }
  return *ret_reason != TRAMPOLINE_INTERRUPTED;
}

static void system_call(GuestCpu *cpu) {
  runtime.stats.syscalls++;
  synchronise(cpu);
  linux_syscall(cpu);
  reload(cpu);
}

_Noreturn void runtime_run(GuestCpu *cpu) {
  uint64_t site = 0; /* of an exit to be linked */
  bool remember = false;
  reload(cpu);
  for (;;) {
    unsigned reason;
    if (cpu->interrupt) {
      if (site) {
        base_lock(&runtime.lock);
        Region *region;
        A64Exit *exit;
        leave_through(cpu, site, &region, &exit);
        base_unlock(&runtime.lock);
        site = 0;
      }
      synchronise(cpu);
      linux_deliver_signals(cpu);
      reload(cpu);
      continue;
    }
    uint32_t generation;
    uint64_t host_pc = find_code(cpu, site, &generation);
    site = 0;
    if (!host_pc) continue;
    if (remember) remember_branch(cpu, host_pc);
    remember = false;
    if (!enter(cpu, host_pc, generation, &reason)) continue;
    switch (reason) {
    case TRAMPOLINE_LINK: site = cpu->exit_argument - 4; break;
    case TRAMPOLINE_RETURN:
      cpu->rip = cpu->scratch[6];
      realign_shadow_stack(cpu);
      break;
    case TRAMPOLINE_INDIRECT:
      cpu->rip = cpu->scratch[6];
      remember = true;
      break;
    case TRAMPOLINE_SYSCALL:
      cpu->rip = cpu->scratch[6];
      system_call(cpu);
      break;
    case TRAMPOLINE_RAISE:
      cpu->rip = cpu->scratch[6];
      raise_from_code(cpu);
      break;
    default: reload(cpu); break; /* resumed after a fault: everything is in cpu */
    }
  }
}

/* --- Statistics -------------------------------------------------------------------------------------- */

bool runtime_is_generated_code(uint64_t host_pc) { return cache_contains(host_pc); }

void runtime_write_stats(void) {
  enum { O_WRONLY_CREAT_APPEND = 02101 };
  if (!runtime.options.stats_path) return;
  int64_t fd = host_call(__NR_openat, -100, runtime.options.stats_path, O_WRONLY_CREAT_APPEND, 0644);
  if (fd < 0) return;
  const RuntimeStats *s = &runtime.stats;
  base_print((int)fd,
             "regions %lu\nguest-instructions %lu\nguest-bytes %lu\nhost-bytes %lu\nlinks %lu\nflushes %lu\n"
             "invalidations %lu\ndispatches %lu\nsyscalls %lu\n",
             (unsigned long)s->regions, (unsigned long)s->guest_insns, (unsigned long)s->guest_bytes,
             (unsigned long)s->host_bytes, (unsigned long)s->links, (unsigned long)s->flushes,
             (unsigned long)s->invalidations, (unsigned long)s->dispatches, (unsigned long)s->syscalls);
  host_call(__NR_close, fd);
}
