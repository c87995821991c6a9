/* Links between regions, and opening and killing regions by patching single branch instructions.
 *
 * An exit is a BL to the link trampoline until its target is translated, then a B (BL for calls) to the target's
 * code; the conditional branch that leads to a cold exit is pointed at the target as well where it reaches. To
 * get a thread out of a region, its exits are unlinked, its loops retargeted to exits of their own,
 * and the checks before indirect branches and returns made to fail; all of that is undone by link_close(), or
 * by the next link. Patching is under the lock, except for link_open(), which a signal handler calls: every
 * word it writes is also correct on its own. */
#include "a64/encode.h"
#include "runtime/internal.h"

static uint32_t *word_at(const Region *region, uint32_t offset) { return region->code + offset / 4; }

static uint32_t to_trampoline(const uint32_t *site, A64Trampoline trampoline) {
  return a64_bl((int64_t)(runtime.trampolines[trampoline] - (uint64_t)(uintptr_t)site));
}

static void unlink_exit(Region *region, const A64Exit *exit) {
  uint32_t *site = word_at(region, exit->site);
  uint32_t unlinked = to_trampoline(site, A64_TRAMPOLINE_LINK);
  if (*site != unlinked) cache_patch(site, unlinked);
  if (exit->branch == UINT32_MAX) return;
  uint32_t *branch = word_at(region, exit->branch);
  uint32_t back = a64_retarget(*branch, (int64_t)exit->site - exit->branch);
  if (*branch != back) cache_patch(branch, back);
}

void link_exit(Region *region, A64Exit *exit, uint64_t host_pc) {
  if (exit->kind == A64_EXIT_LOOP || region->dead || region->interrupted) return;
  uint32_t *site = word_at(region, exit->site);
  int64_t distance = (int64_t)(host_pc - (uint64_t)(uintptr_t)site);
  cache_patch(site, exit->kind == A64_EXIT_CALL ? a64_bl(distance) : a64_b(distance));
  if (exit->branch != UINT32_MAX) {
    uint32_t *branch = word_at(region, exit->branch);
    uint32_t direct = a64_retarget(*branch, (int64_t)(host_pc - (uint64_t)(uintptr_t)branch));
    if (direct) cache_patch(branch, direct);
  }
  runtime.stats.links++;
  if (region->interrupted) unlink_exit(region, exit); /* opened meanwhile by a signal handler */
}

void link_stop_at_boundaries(Region *region, uint64_t host_pc) {
  uint32_t after = (uint32_t)(host_pc - (uint64_t)(uintptr_t)region->code);
  for (unsigned i = 0; i < region->pc_map_count; i++) {
    if (region->pc_map[i].host_offset <= after) continue;
    uint32_t *at = word_at(region, region->pc_map[i].host_offset);
    cache_patch(at, to_trampoline(at, A64_TRAMPOLINE_LINK));
  }
}

uint64_t link_exit_target(uint64_t site, Region **ret_region, A64Exit **ret_exit, unsigned *ret_flag_form) {
  Region *region = cache_find_region(site);
  if (!region) base_panic("exit at 0x%lx belongs to no region", (unsigned long)site);
  uint32_t offset = (uint32_t)(site - (uint64_t)(uintptr_t)region->code);
  *ret_region = region;
  *ret_exit = NULL;
  *ret_flag_form = FLAGS_CANONICAL;
  /* The first word of a dead entry may have been an exit: the entry it is now. */
  for (unsigned i = 0; region->dead && i < region->entry_count; i++)
    if (region->entries[i].host_offset == offset) return region->entries[i].guest_pc;
  for (unsigned i = 0; i < region->exit_count; i++)
    if (region->exits[i].site == offset) {
      *ret_exit = &region->exits[i];
      return region->exits[i].guest_pc;
    }
  if (region->dead) return runtime_pc_of_host(region, site, ret_flag_form);
  base_panic("no exit at 0x%lx", (unsigned long)site);
}

/* Where the CBNZ of an indirect check goes; as an unconditional branch it always goes there. */
static uint32_t forced(uint32_t check) { return a64_b(a64_branch_distance(check)); }

void link_open(Region *region) {
  region->interrupted = true;
  for (unsigned i = 0; i < region->exit_count; i++) {
    const A64Exit *exit = &region->exits[i];
    unlink_exit(region, exit); /* for a loop: retargets its branch to the exit */
  }
  for (unsigned i = 0; i < region->indirect_count; i++) {
    uint32_t *check = word_at(region, region->indirect_checks[i]);
    if (!a64_is_b(*check)) cache_patch(check, forced(*check));
  }
}

/* A loop's branch goes back to the block with the exit's guest PC. */
static void restore_loop(Region *region, const A64Exit *exit) {
  for (unsigned i = 0; i < region->entry_count; i++)
    if (region->entries[i].guest_pc == exit->guest_pc) {
      uint32_t *branch = word_at(region, exit->branch);
      cache_patch(branch, a64_retarget(*branch, (int64_t)region->entries[i].host_offset - exit->branch));
      return;
    }
}

void link_close(Region *region) {
  if (!region->interrupted || region->dead) return;
  region->interrupted = false;
  for (unsigned i = 0; i < region->exit_count; i++)
    if (region->exits[i].kind == A64_EXIT_LOOP) restore_loop(region, &region->exits[i]);
  for (unsigned i = 0; i < region->indirect_count; i++) {
    uint32_t *check = word_at(region, region->indirect_checks[i]);
    if (a64_is_b(*check)) cache_patch(check, a64_cbnz(8, A64_X(A64_REG_EXIT0), a64_branch_distance(*check)));
  }
}

void link_kill(Region *region) {
  region->dead = true;
  link_open(region);
  for (unsigned i = 0; i < region->entry_count; i++) {
    uint64_t host_pc = (uint64_t)(uintptr_t)region->code + region->entries[i].host_offset;
    uint32_t *at = word_at(region, region->entries[i].host_offset);
    cache_patch(at, to_trampoline(at, A64_TRAMPOLINE_LINK));
    block_map_remove(region->entries[i].guest_pc, host_pc);
  }
  runtime.stats.invalidations++;
}
