/* Threads as the runtime knows them: which of them may be in generated code, bringing them out of it, and making them
 * forget what has died.
 *
 * A thread becomes IN_CODE under the lock and OUTSIDE again by itself, once it has resolved what it left code
 * through. Host PCs outlive that in two places: the branch cache, whose entries are taken out by whoever
 * kills a region, and the stack of predicted returns, which each thread looks through itself before it enters code again.
 * So when all threads have been OUTSIDE since a region died, its memory is free. Nobody waits for that but who has no
 * room left, or must know that plain accesses have ceased (threads_wait()). */
#include "runtime/internal.h"

#include <string.h>

#include <asm/siginfo.h>

#include "base/host-call.h"

enum {
  SHADOW_BYTES = 1 << 20,
  SHADOW_GUARD = 4096,
  SHADOW_BEYOND = 4, /* entries beyond the base, found by a return when the stack is empty */
  SHADOW_KEPT = 256, /* predictions worth looking at when something died */
  BRANCH_CACHE_ENTRIES = 2 * GUEST_BRANCH_CACHE_SIZE,
  BRANCH_CACHE_BYTES = BRANCH_CACHE_ENTRIES * sizeof(GuestBranchCacheEntry),
  FUTEX_WAIT_PRIVATE = 128,
  FUTEX_WAKE_PRIVATE = 129,
  ALL_WAITERS = 0x7fffffff,
  BURY_AFTER_MS = 200,
  SIGILL_NUMBER = 4,
  MEMBARRIER_SYNC_CORE = 1 << 5,
  MEMBARRIER_REGISTER_SYNC_CORE = 1 << 6
};

RuntimeThread *runtime_thread_of(const GuestCpu *cpu) { return cpu->runtime_thread; }

/* --- Life ----------------------------------------------------------------------------------------------- */

/* Zeros elsewhere belong to PC 0, which is looked up here. */
static void forget_zero(GuestBranchCacheEntry *cache) {
  const uint32_t first = guest_branch_cache_first(0), second = guest_branch_cache_second(0);
  cache[first].guest_pc = guest_branch_cache_empty(first);
  cache[second].guest_pc = guest_branch_cache_empty(second);
}

static void empty_branch_cache(GuestCpu *cpu) {
  enum { MADV_DONTNEED = 4 };
  if (host_call(__NR_madvise, cpu->branch_cache, BRANCH_CACHE_BYTES, MADV_DONTNEED) < 0)
    memset(cpu->branch_cache, 0, BRANCH_CACHE_BYTES);
  forget_zero(cpu->branch_cache);
}

/* Aligned to its size (A64_REG_BRANCH_CACHE). */
static GuestBranchCacheEntry *new_branch_cache(void) {
  char *pages = base_pages_alloc(2 * BRANCH_CACHE_BYTES);
  if (!pages) return NULL;
  size_t before = -(uintptr_t)pages & (BRANCH_CACHE_BYTES - 1);
  base_pages_free(pages + before + BRANCH_CACHE_BYTES, BRANCH_CACHE_BYTES - before);
  if (before) base_pages_free(pages, before);
  GuestBranchCacheEntry *cache = (GuestBranchCacheEntry *)(pages + before);
  forget_zero(cache);
  return cache;
}

/* What returns find that have no call. */
static void no_returns(uint64_t *entries, unsigned count) {
  for (unsigned i = 0; i < count; i++) {
    entries[2 * i] = GUEST_NO_RETURN;
    entries[2 * i + 1] = runtime.no_return;
  }
}

static void add_to_list(RuntimeThread *thread) {
  base_lock(&runtime.lock);
  thread->next = runtime.threads;
  if (thread->next) thread->next->previous = thread;
  runtime.threads = thread;
  base_unlock(&runtime.lock);
}

static void remove_from_list(RuntimeThread *thread) {
  if (thread->previous) thread->previous->next = thread->next;
  else runtime.threads = thread->next;
  if (thread->next) thread->next->previous = thread->previous;
}

GuestCpu *runtime_thread_new(const GuestCpu *like) {
  GuestCpu *cpu = base_pages_alloc(sizeof *cpu + sizeof(RuntimeThread));
  GuestBranchCacheEntry *branches = new_branch_cache();
  uint8_t *shadow = base_pages_alloc(SHADOW_BYTES);
  if (!cpu || !branches || !shadow) {
    if (cpu) base_pages_free(cpu, sizeof *cpu + sizeof(RuntimeThread));
    if (branches) base_pages_free(branches, BRANCH_CACHE_BYTES);
    if (shadow) base_pages_free(shadow, SHADOW_BYTES);
    return NULL;
  }
  if (like) *cpu = *like;
  else guest_cpu_reset(cpu);
  RuntimeThread *thread = (RuntimeThread *)(cpu + 1);
  *thread = (RuntimeThread){.cpu = cpu, .shadow_stack = shadow, .sharing = like != NULL,
                            .foreign = like && runtime_thread_of(like)->foreign};
  host_call(__NR_mprotect, shadow, SHADOW_GUARD, 0);
  cpu->branch_cache = branches;
  cpu->shadow_base = cpu->shadow_sp = (uint64_t)(uintptr_t)shadow + SHADOW_BYTES - SHADOW_BEYOND * 16;
  no_returns((uint64_t *)(uintptr_t)cpu->shadow_base, SHADOW_BEYOND);
  cpu->shadow_limit = (uint64_t)(uintptr_t)shadow + SHADOW_GUARD;
  cpu->helper_return = 0;
  cpu->interrupt = 0;
  cpu->check_budget = 1;
  cpu->second_budget = 1;
  cpu->held_locks = 0;
  cpu->lock_name = BASE_LOCK_UNKNOWN;
  cpu->runtime_thread = thread;
  add_to_list(thread);
  return cpu;
}

void runtime_thread_free(GuestCpu *cpu) {
  RuntimeThread *thread = runtime_thread_of(cpu);
  base_lock(&runtime.lock);
  remove_from_list(thread);
  base_unlock(&runtime.lock);
  detour_end(thread); /* a process that shared our memory was killed in one */
  base_pages_free(cpu->branch_cache, BRANCH_CACHE_BYTES);
  base_pages_free(thread->shadow_stack, SHADOW_BYTES);
  base_pages_free(cpu, sizeof *cpu + sizeof(RuntimeThread));
}

/* A process' first thread may be in a namespace below its parent's: the parent, which it can't see, is number 0 then. So
 * is that of the first process of all, which shares nobody's memory. */
static void learn_numbers(RuntimeThread *thread) {
  thread->tid = (int)host_call(__NR_gettid);
  thread->process = (int)host_call(__NR_getpid);
  if (thread->sharing && thread->tid == thread->process && !host_call(__NR_getppid)) thread->foreign = true;
  thread->cpu->lock_name = thread->foreign ? BASE_LOCK_UNKNOWN : (uint32_t)thread->tid;
}

void thread_begin(RuntimeThread *thread) {
  learn_numbers(thread);
  if (!thread->sharing) outside_ready(thread->process);
}

void runtime_concurrent(void) {
  base_lock(&runtime.lock);
  if (!runtime.concurrent) host_call(__NR_membarrier, MEMBARRIER_REGISTER_SYNC_CORE, 0, 0);
  link_make_concurrent();
  base_unlock(&runtime.lock);
}

/* --- Forks ---------------------------------------------------------------------------------------------- */

void runtime_before_fork(void) {
  base_lock(&runtime_split_lock);
  base_lock(&runtime.lock);
}

void runtime_after_fork_in_parent(void) {
  base_unlock(&runtime.lock);
  base_unlock(&runtime_split_lock);
}

void runtime_after_fork(GuestCpu *cpu) {
  RuntimeThread *thread = runtime_thread_of(cpu);
  thread->previous = thread->next = NULL;
  thread->sharing = thread->foreign = false;
  learn_numbers(thread);
  thread->kicked = 0;
  runtime.threads = thread;
  runtime.concurrent = false;
  runtime.waiters = 0;
  detour_after_fork();
  pages_after_fork();
  outside_after_fork(thread->process);
  if (runtime.options.perf_map) cache_each_region(cache_tell_perf); /* the child's file is another */
  runtime_after_fork_in_parent();
}

/* --- In and out ----------------------------------------------------------------------------------------- */

/* Tells whoever waits. A look at `waiters` that misses one comes before its look at our state. */
static void announce(void) {
  if (!__atomic_load_n(&runtime.waiters, __ATOMIC_SEQ_CST)) return;
  __atomic_add_fetch(&runtime.progress, 1, __ATOMIC_SEQ_CST);
  host_call(__NR_futex, &runtime.progress, FUTEX_WAKE_PRIVATE, ALL_WAITERS, 0, 0, 0);
}

/* A kick on its way would cut a system call short, or kill the program of an execve(). Who sends it holds the lock; and
 * what has been sent arrives before a system call returns, or never does: the kernel drops a signal of a number below
 * SIGRTMIN while another one is pending (signal(7)). */
static void await_kick(RuntimeThread *thread) {
  base_lock(&runtime.lock);
  base_unlock(&runtime.lock);
  host_call(__NR_gettid);
  __atomic_store_n(&thread->kicked, 0, __ATOMIC_SEQ_CST);
}

void thread_leave(RuntimeThread *thread) {
  __atomic_store_n(&thread->state, THREAD_OUTSIDE, __ATOMIC_SEQ_CST);
  announce();
  if (__atomic_load_n(&thread->kicked, __ATOMIC_SEQ_CST)) await_kick(thread);
}

void thread_enter(RuntimeThread *thread) {
  if (thread->seen != runtime.deaths) {
    thread->cpu->shadow_sp = thread_forget_returns(thread, thread->cpu->shadow_sp);
    thread->seen = runtime.deaths;
  }
  __atomic_store_n(&thread->state, THREAD_IN_CODE, __ATOMIC_SEQ_CST);
  announce();
}

/* --- Forgetting ----------------------------------------------------------------------------------------- */

static bool in_range(uint64_t host_pc, uint64_t start, uint64_t end) { return host_pc >= start && host_pc < end; }

static bool is_dead(uint64_t host_pc) {
  const Region *region = cache_find_region(host_pc);
  return !region || region->dead;
}

/* Makes returns into dead regions (or into a range, where it is not empty) go the long way; beyond the newest few, all
 * are given up, as the stack may be deep. */
static uint64_t forget_returns(RuntimeThread *thread, uint64_t shadow_sp, uint64_t start, uint64_t end) {
  uint64_t base = thread->cpu->shadow_base;
  uint64_t *top = (uint64_t *)(uintptr_t)shadow_sp;
  if (shadow_sp >= base) return shadow_sp;
  uint64_t count = (base - shadow_sp) / 16;
  if (count > SHADOW_KEPT) count = SHADOW_KEPT;
  for (uint64_t i = 0; i < count; i++)
    if (start < end ? in_range(top[2 * i + 1], start, end) : is_dead(top[2 * i + 1]))
      no_returns(top + 2 * i, 1);
  if (shadow_sp + count * 16 == base) return shadow_sp;
  uint64_t moved = base - count * 16;
  memmove((void *)(uintptr_t)moved, top, count * 16);
  return moved;
}

uint64_t thread_forget_returns(RuntimeThread *thread, uint64_t shadow_sp) {
  return forget_returns(thread, shadow_sp, 0, 0);
}

void threads_forget_range(uint64_t start, uint64_t end) {
  for (RuntimeThread *t = runtime.threads; t; t = t->next)
    if (__atomic_load_n(&t->state, __ATOMIC_SEQ_CST) == THREAD_OUTSIDE)
      t->cpu->shadow_sp = forget_returns(t, t->cpu->shadow_sp, start, end);
}

/* The owner reads the pair at any time, but never again once the key is gone. */
static void forget_if(GuestBranchCacheEntry *cache, uint32_t at, uint64_t guest_pc, uint64_t host_pc) {
  if (cache[at].guest_pc == guest_pc && cache[at].host_pc == host_pc)
    __atomic_store_n(&cache[at].guest_pc, guest_branch_cache_empty(at), __ATOMIC_RELEASE);
}

void thread_forget_entry(uint64_t guest_pc, uint64_t host_pc) {
  for (RuntimeThread *t = runtime.threads; t; t = t->next) {
    forget_if(t->cpu->branch_cache, guest_branch_cache_first(guest_pc), guest_pc, host_pc);
    forget_if(t->cpu->branch_cache, guest_branch_cache_second(guest_pc), guest_pc, host_pc);
  }
}

static void forget_branches(RuntimeThread *thread) {
  GuestBranchCacheEntry *entries = thread->cpu->branch_cache;
  for (uint32_t i = 0; i < BRANCH_CACHE_ENTRIES; i++)
    if (entries[i].host_pc) __atomic_store_n(&entries[i].guest_pc, guest_branch_cache_empty(i), __ATOMIC_RELEASE);
}

void runtime_flush(RuntimeThread *self) {
  cache_retire_all();
  sleep_forget_all();
  block_map_clear();
  pages_clear();
  for (RuntimeThread *t = runtime.threads; t; t = t->next)
    if (t == self || __atomic_load_n(&t->state, __ATOMIC_SEQ_CST) == THREAD_OUTSIDE) empty_branch_cache(t->cpu);
    else forget_branches(t);
  threads_note_deaths(self);
  runtime.stats.flushes++;
}

/* A process that shared this memory was killed with the lock. What it was making nobody finds before it is whole, but it may
 * have been taking something out, or noting it in two places: so everything that was translated goes, by ways that follow no
 * list but those that grow at their heads, and is translated anew. */
void runtime_lock_inherited(const BaseLock *lock) {
  if (lock != &runtime.lock) return;
  RuntimeThread *before = NULL;
  for (RuntimeThread *t = runtime.threads; t; before = t, t = t->next) t->previous = before;
  translate_forget_windows();
  pages_recover();
  sleep_recover();
  cache_recover();
  block_map_abandon();
  runtime_flush(NULL);
}

/* --- Bringing threads out ------------------------------------------------------------------------------- */

/* siginfo_t of a queued signal (include/uapi/asm-generic/siginfo.h). The value tells the runtime's from others'. */
typedef struct KickInfo {
  int32_t signal, error, code, pad;
  int32_t process, user;
  uint64_t value;
  uint8_t rest[96];
} KickInfo;
_Static_assert(sizeof(KickInfo) == 128, "kernel ABI");

static const uint8_t kick_mark;

/* SIGILL is never blocked (linux/signals.c) and hardly ever sent. The look at the state comes after the mark: a thread
 * that is seen in code then sees the mark when it leaves, and waits for the signal (thread_leave()). */
void thread_kick(RuntimeThread *thread) {
  if (__atomic_exchange_n(&thread->kicked, 1, __ATOMIC_SEQ_CST)) return;
  KickInfo info = {.signal = SIGILL_NUMBER, .code = SI_QUEUE, .value = (uint64_t)(uintptr_t)&kick_mark};
  if (__atomic_load_n(&thread->state, __ATOMIC_SEQ_CST) == THREAD_IN_CODE) {
    runtime.stats.kicks++;
    if (host_call(__NR_rt_tgsigqueueinfo, thread->process, thread->tid, SIGILL_NUMBER, &info) == 0) return;
  }
  __atomic_store_n(&thread->kicked, 0, __ATOMIC_SEQ_CST);
}

/* Where RLIMIT_SIGPENDING is used up the signal comes without what was sent with it, as if from process 0. */
static bool is_kick(const RuntimeThread *thread, const KickInfo *info) {
  if (info->signal != SIGILL_NUMBER) return false;
  if (info->code == SI_QUEUE) return info->value == (uint64_t)(uintptr_t)&kick_mark;
  return info->code == SI_USER && !info->process && __atomic_load_n(&thread->kicked, __ATOMIC_SEQ_CST);
}

bool runtime_take_kick(GuestCpu *cpu, const void *siginfo, void *context) {
  RuntimeThread *thread = runtime_thread_of(cpu);
  if (!is_kick(thread, siginfo)) return false;
  __atomic_store_n(&thread->kicked, 0, __ATOMIC_SEQ_CST);
  thread_bring_out(thread, context);
  return true;
}

static bool is_kicked(int tid) {
  for (const RuntimeThread *t = runtime.threads; t; t = t->next)
    if (t->tid == tid) return __atomic_load_n(&t->kicked, __ATOMIC_SEQ_CST);
  return false;
}

void runtime_hold_threads(int tid) {
  const int64_t pause[2] = {0, 100000};
  base_lock(&runtime.lock);
  while (is_kicked(tid)) {
    base_unlock(&runtime.lock);
    host_call(__NR_nanosleep, pause, 0);
    base_lock(&runtime.lock);
  }
}

void runtime_release_threads(void) { base_unlock(&runtime.lock); }

void runtime_each_thread(void (*visit)(GuestCpu *cpu, void *argument), void *argument) {
  for (const RuntimeThread *t = runtime.threads; t; t = t->next) visit(t->cpu, argument);
}

void threads_note_deaths(RuntimeThread *self) {
  runtime.deaths++;
  if (!runtime.concurrent) return;
  /* No processor goes on with what it had fetched before links were changed. */
  host_call(__NR_membarrier, MEMBARRIER_SYNC_CORE, 0, 0);
  for (RuntimeThread *t = runtime.threads; t; t = t->next)
    if (t != self && __atomic_load_n(&t->state, __ATOMIC_SEQ_CST) == THREAD_IN_CODE) thread_kick(t);
}

static bool has_passed(const RuntimeThread *thread, uint64_t deaths) {
  return __atomic_load_n(&thread->state, __ATOMIC_SEQ_CST) != THREAD_IN_CODE || thread->seen >= deaths;
}

bool threads_passed(uint64_t deaths) {
  for (RuntimeThread *t = runtime.threads; t; t = t->next)
    if (!has_passed(t, deaths)) return false;
  return true;
}

/* A thread whose own store killed other regions goes on in code, and may stay there. */
static void kick_not_passed(uint64_t deaths) {
  for (RuntimeThread *t = runtime.threads; t; t = t->next)
    if (!has_passed(t, deaths)) thread_kick(t);
}

/* --- Waiting -------------------------------------------------------------------------------------------- */

/* Numbers from several namespaces can't be told apart. */
static bool any_foreign(void) {
  for (const RuntimeThread *t = runtime.threads; t; t = t->next)
    if (t->foreign) return true;
  return false;
}

/* Processes that shared this memory and were killed in code never come out. */
static void bury_the_dead(void) {
  int own = (int)host_call(__NR_getpid);
  if (any_foreign()) return;
  for (RuntimeThread *t = runtime.threads, *next; t; t = next) {
    next = t->next;
    if (!t->process || t->process == own || !base_thread_has_ended(t->process)) continue;
    __atomic_store_n(&t->state, THREAD_OUTSIDE, __ATOMIC_SEQ_CST);
  }
}

void threads_wait(uint64_t deaths) {
  struct {
    int64_t seconds, nanoseconds;
  } limit = {0, BURY_AFTER_MS * 1000000};
  enum { TIMED_OUT = -110 };
  __atomic_add_fetch(&runtime.waiters, 1, __ATOMIC_SEQ_CST);
  for (;;) {
    uint32_t seen = __atomic_load_n(&runtime.progress, __ATOMIC_SEQ_CST);
    if (threads_passed(deaths)) break;
    kick_not_passed(deaths);
    base_unlock(&runtime.lock);
    int64_t result = host_call(__NR_futex, &runtime.progress, FUTEX_WAIT_PRIVATE, seen, &limit, 0, 0);
    base_lock(&runtime.lock);
    if (result == TIMED_OUT) bury_the_dead();
  }
  __atomic_sub_fetch(&runtime.waiters, 1, __ATOMIC_SEQ_CST);
}

void runtime_memory_shared(void) {
  if (runtime.options.memory_model != RUNTIME_MEMORY_AUTO) return;
  if (__atomic_load_n(&runtime.ordered, __ATOMIC_ACQUIRE)) return;
  base_lock(&runtime.lock);
  if (!runtime.ordered) {
    runtime.ordered = true;
    runtime_flush(NULL);
  }
  threads_wait(runtime.deaths);
  base_unlock(&runtime.lock);
}
