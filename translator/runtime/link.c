/* Links between regions, and the death of regions.
 *
 * An exit is a BL to the link trampoline until its target is translated, then a B (BL for calls) to the target's
 * code, until the target dies. Those are words that may be changed while other processors execute them (Arm ARM
 * B2.2.5). The conditional branch that leads to a cold exit is not: it is pointed at the target as well where it
 * reaches, but only while one thread alone can be in code (Runtime.concurrent). No other word of a region ever changes.
 *
 * All of it is under the lock. */
#include "a64/encode.h"
#include "runtime/internal.h"

static uint32_t *word_at(const Region *region, uint32_t word) { return region->code + word; }

static void patch_if_other(uint32_t *at, uint32_t word) {
  if (*at != word) cache_patch(at, word);
}

static void close_branch(Region *region, const A64TableExit *exit) {
  if (exit->branch == A64_NO_BRANCH) return;
  uint32_t *branch = word_at(region, exit->branch);
  patch_if_other(branch, a64_retarget(*branch, ((int64_t)exit->site - (int64_t)exit->branch) * 4));
}

static uint32_t unlinked(const Region *region, const uint32_t *site) {
  uint64_t to = runtime.trampolines[A64_TRAMPOLINE_LINK];
  if (region->tables.link_veneer) to = (uint64_t)(uintptr_t)word_at(region, region->tables.link_veneer);
  return a64_bl((int64_t)(to - (uint64_t)(uintptr_t)site));
}

static void unlink_exit(Region *region, const A64TableExit *exit) {
  uint32_t *site = word_at(region, exit->site);
  patch_if_other(site, unlinked(region, site));
  close_branch(region, exit);
}

static void note_link(Region *from, uint32_t exit, Region *to) {
  Link *link = from->links_spare;
  if (link) from->links_spare = link->next_out;
  else link = cache_alloc(from, sizeof *link);
  *link = (Link){from, to, exit, to->links_in, &to->links_in, from->links_out};
  if (link->next_in) link->next_in->where_in = &link->next_in;
  to->links_in = link;
  from->links_out = link;
}

static void forget_link_in(Link *link) {
  *link->where_in = link->next_in;
  if (link->next_in) link->next_in->where_in = link->where_in;
}

static void forget_link_out(Link *link) {
  Link **at = &link->from->links_out;
  while (*at != link) at = &(*at)->next_out;
  *at = link->next_out;
  link->next_out = link->from->links_spare;
  link->from->links_spare = link;
}

void link_exit(Region *region, const A64TableExit *exit, Region *target, uint64_t host_pc) {
  if (exit->kind == A64_EXIT_LOOP || region->dead || target->dead) return;
  uint32_t *site = word_at(region, exit->site);
  if (*site != unlinked(region, site)) return; /* another thread has just done the same, or an image's region leads into itself */
  int64_t distance = (int64_t)(host_pc - (uint64_t)(uintptr_t)site);
  cache_patch(site, exit->kind == A64_EXIT_CALL ? a64_bl(distance) : a64_b(distance));
  if (exit->branch != A64_NO_BRANCH && !runtime.concurrent) {
    uint32_t *branch = word_at(region, exit->branch);
    uint32_t direct = a64_retarget(*branch, (int64_t)(host_pc - (uint64_t)(uintptr_t)branch));
    if (direct) cache_patch(branch, direct);
  }
  note_link(region, (uint32_t)(exit - region->tables.exits), target);
  runtime.stats.links++;
}

static bool is_boundary(const Region *region, uint32_t offset) {
  for (A64PcCursor at = a64_pc_map_begin(&region->tables); a64_pc_map_next(&at);)
    if (at.last.host_offset == offset) return true;
  return false;
}

static const A64TableExit *exit_at(const Region *region, uint32_t site) {
  const A64TableExit *exits = region->tables.exits;
  uint32_t low = 0, high = region->tables.outward_count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (exits[middle].site < site) low = middle + 1;
    else high = middle;
  }
  if (low < region->tables.outward_count && exits[low].site == site) return &exits[low];
  for (unsigned i = region->tables.outward_count; i < region->tables.exit_count; i++)
    if (exits[i].site == site) return &exits[i];
  return NULL;
}

static const A64TableInner *inner_at(const Region *region, uint32_t site) {
  const A64TableInner *inner = region->tables.inner, *end = inner + region->tables.inner_count;
  while (inner < end && inner->site != site) inner++;
  return inner < end ? inner : NULL;
}

uint64_t link_exit_target(const RuntimeThread *thread, const Region *region, uint32_t offset, const A64TableExit **ret_exit,
                          unsigned *ret_flag_form) {
  const Detour *detour = &thread->detour;
  bool stopped = detour->slot && offset > detour->stop_after && is_boundary(region, offset);
  *ret_exit = NULL;
  *ret_flag_form = FLAGS_CANONICAL;
  const A64TableExit *exit = stopped ? NULL : exit_at(region, offset / 4);
  if (exit) {
    if (!detour->slot) *ret_exit = exit;
    return region_exit_target(region, exit);
  }
  if (stopped) return region_pc_at(region, offset, ret_flag_form);
  const A64TableInner *inner = detour->slot ? inner_at(region, offset / 4) : NULL;
  if (inner) return region->entry + (uint64_t)a64_inner_distance(&region->tables, inner);
  base_panic("no exit at offset %u of the region at 0x%lx", offset, (unsigned long)region->entry);
}

void region_kill(Region *region, DeathCause cause) {
  if (region->dead) return;
  region->dead = true;
  runtime.stats.deaths[cause]++;
  for (unsigned i = 0; i < region->tables.entry_count; i++) {
    uint64_t host_pc = region_entry_host(region, i);
    block_map_remove(region_entry_key(region, i), host_pc);
    thread_forget_entry(region_entry_key(region, i), host_pc);
  }
  if (region->unit) block_map_remove(region->unit, (uint64_t)(uintptr_t)region->code);
  while (region->links_in) {
    Link *link = region->links_in;
    unlink_exit(link->from, &link->from->tables.exits[link->exit]);
    forget_link_in(link);
    forget_link_out(link);
  }
  pages_forget_region(region);
  dependents_forget(region);
  if (!sleep_begin(region, cause)) region_bury(region);
}

void region_bury(Region *region) {
  for (Link *link = region->links_out; link; link = link->next_out) forget_link_in(link);
  region->links_out = NULL;
  cache_note_death(region);
}

static void close_branches(Region *region) {
  for (Link *link = region->links_out; link; link = link->next_out) close_branch(region, &region->tables.exits[link->exit]);
}

void link_make_concurrent(void) {
  if (runtime.concurrent) return;
  cache_each_region(close_branches);
  runtime.concurrent = true;
}
