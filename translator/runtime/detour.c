/* Bringing a thread out of generated code, without touching the code.
 *
 * A thread that has to come out soon may be in a loop that leads nowhere else. Its signal handler copies the region it
 * is in to a slot of the cache, with every loop, exit and predicted branch of the copy leading to the dispatcher, and
 * has it go on there. Nobody else sees the copy, so that any number of threads can be taken out of one
 * region, none of them lost, and no instruction another processor may be executing is changed (Arm ARM B2.2.5).
 *
 * Everything but detour_after_fork() is async-signal-safe: the thread is IN_CODE, so the region stays. */
#include "a64/encode.h"
#include "runtime/internal.h"

#include <string.h>

#include "base/host-call.h"

enum { FUTEX_WAIT_PRIVATE = 128, FUTEX_WAKE_PRIVATE = 129, ALL_WAITERS = 0x7fffffff };

static uint64_t taken;        /* bit n: slot n */
static uint32_t slot_freed;   /* futex */
static uint32_t slot_waiters;

static uint32_t *slot_at(unsigned index) {
  return (uint32_t *)(runtime.cache + CACHE_TRAMPOLINE_BYTES + (uint64_t)index * CACHE_REGION_BYTES);
}

/* A thread in a slot waits for nothing but the memory it touches, and so a slot will come free. */
static uint32_t *take_slot(void) {
  for (;;) {
    uint32_t seen = __atomic_load_n(&slot_freed, __ATOMIC_SEQ_CST);
    uint64_t old = __atomic_load_n(&taken, __ATOMIC_SEQ_CST);
    while (~old) {
      unsigned index = (unsigned)__builtin_ctzll(~old);
      if (__atomic_compare_exchange_n(&taken, &old, old | UINT64_C(1) << index, false, __ATOMIC_SEQ_CST,
                                      __ATOMIC_SEQ_CST))
        return slot_at(index);
    }
    __atomic_add_fetch(&slot_waiters, 1, __ATOMIC_SEQ_CST);
    host_call(__NR_futex, &slot_freed, FUTEX_WAIT_PRIVATE, seen, 0, 0, 0);
    __atomic_sub_fetch(&slot_waiters, 1, __ATOMIC_SEQ_CST);
  }
}

static void free_slot(const uint32_t *slot) {
  uint64_t index = (uint64_t)(slot - slot_at(0)) * 4 / CACHE_REGION_BYTES;
  __atomic_and_fetch(&taken, ~(UINT64_C(1) << index), __ATOMIC_SEQ_CST);
  __atomic_add_fetch(&slot_freed, 1, __ATOMIC_SEQ_CST);
  if (__atomic_load_n(&slot_waiters, __ATOMIC_SEQ_CST))
    host_call(__NR_futex, &slot_freed, FUTEX_WAKE_PRIVATE, ALL_WAITERS, 0, 0, 0);
}

/* --- The copy ----------------------------------------------------------------------------------------- */

static uint32_t to_link_trampoline(const uint32_t *at) {
  return a64_bl((int64_t)(runtime.trampolines[A64_TRAMPOLINE_LINK] - (uint64_t)(uintptr_t)at));
}

/* Branches that leave the region lead to where they led from its own place; those of indirect branches and returns to the
 * dispatcher at once. */
static void move_branches(uint32_t *copy, const Region *region) {
  int64_t moved = (int64_t)((uint64_t)(uintptr_t)region->code - (uint64_t)(uintptr_t)copy);
  for (uint32_t offset = 0; offset < region->instruction_bytes; offset += 4) {
    uint32_t *at = copy + offset / 4;
    if (!a64_is_b_or_bl(*at)) continue;
    int64_t distance = a64_branch_distance(*at);
    if ((uint64_t)(offset + distance) < region->code_bytes) continue;
    uint64_t target = (uint64_t)(uintptr_t)region->code + offset + (uint64_t)distance;
    if (target == runtime.trampolines[A64_TRAMPOLINE_INDIRECT]) distance += (int64_t)(runtime.miss_indirect - target);
    if (target == runtime.trampolines[A64_TRAMPOLINE_RETURN]) distance += (int64_t)(runtime.miss_return - target);
    *at = a64_retarget(*at, distance + moved);
  }
}

static void open_exit(uint32_t *copy, uint32_t site, uint32_t branch, bool is_loop) {
  copy[site] = to_link_trampoline(copy + site);
  if (branch == A64_NO_BRANCH) return;
  uint32_t to = is_loop ? a64_loop_exit(copy, site) : site;
  copy[branch] = a64_retarget(copy[branch], ((int64_t)to - (int64_t)branch) * 4);
}

static void open_exits(uint32_t *copy, const Region *region) {
  const A64Tables *tables = &region->tables;
  for (const A64TableExit *exit = tables->exits; exit < tables->exits + tables->exit_count; exit++)
    open_exit(copy, exit->site, exit->branch, exit->kind == A64_EXIT_LOOP);
  for (const A64TableInner *inner = tables->inner; inner < tables->inner + tables->inner_count; inner++)
    open_exit(copy, inner->site, inner->branch, false);
  for (unsigned i = 0; i < tables->indirect_count; i++) { /* as if the prediction were wrong, also just behind the check */
    uint32_t *check = copy + tables->indirect_checks[i];
    int64_t distance = a64_branch_distance(*check);
    check[0] = a64_b(distance);
    check[1] = a64_b(distance - 4);
  }
}

static void open_boundaries(uint32_t *copy, const Region *region, uint32_t after) {
  for (A64PcCursor at = a64_pc_map_begin(&region->tables); a64_pc_map_next(&at);) {
    uint32_t offset = at.last.host_offset;
    if (offset > after) copy[offset / 4] = to_link_trampoline(copy + offset / 4);
  }
}

uint64_t detour_take(RuntimeThread *thread, const Region *region, uint32_t offset, uint32_t stop_after) {
  Detour *detour = &thread->detour;
  if (!detour->slot) {
    uint32_t *slot = take_slot();
    memcpy(slot, region->code, region->code_bytes);
    move_branches(slot, region);
    open_exits(slot, region);
    *detour = (Detour){slot, region, UINT32_MAX};
  }
  if (stop_after < detour->stop_after) {
    open_boundaries(detour->slot, region, stop_after);
    detour->stop_after = stop_after;
  }
  cache_sync(detour->slot, region->code_bytes);
  runtime.stats.detours++;
  return (uint64_t)(uintptr_t)detour->slot + offset;
}

const Region *detour_region_at(const RuntimeThread *thread, uint64_t host_pc, uint32_t *ret_offset) {
  const Detour *detour = &thread->detour;
  const Region *region = detour->region;
  uint64_t offset = host_pc - (uint64_t)(uintptr_t)detour->slot;
  if (!detour->slot || offset >= region->code_bytes) {
    region = cache_find_region(host_pc);
    offset = region ? host_pc - (uint64_t)(uintptr_t)region->code : 0;
  }
  *ret_offset = (uint32_t)offset;
  return region;
}

/* The last thing the copy did may have been to push a return address, which lies in the slot. */
void detour_end(RuntimeThread *thread) {
  Detour *detour = &thread->detour;
  if (!detour->slot) return;
  uint64_t *top = (uint64_t *)(uintptr_t)thread->cpu->shadow_sp;
  uint64_t offset = top[1] - (uint64_t)(uintptr_t)detour->slot;
  if (thread->cpu->shadow_sp < thread->cpu->shadow_base && offset < CACHE_REGION_BYTES)
    top[1] = (uint64_t)(uintptr_t)detour->region->code + offset;
  const uint32_t *slot = detour->slot;
  __atomic_store_n(&detour->slot, NULL, __ATOMIC_RELEASE);
  free_slot(slot);
}

void detour_after_fork(void) {
  taken = 0;
  slot_waiters = 0;
}
