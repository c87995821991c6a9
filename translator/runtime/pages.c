/* Noticing writes to guest code.
 *
 * A page that code has been translated from and that the guest may write is write-protected on the host; the
 * first store faults, the page's translations fall asleep (sleep.c), and it is writable again until something on it is
 * translated or wakes. Pages the guest may not write need no protection: a mapping system call comes
 * before any change to them. Nor are those protected where that cannot tell (memory that others can write, a page that
 * holds data beside its code and is written all the time, one that a system call is writing to): code from there compares
 * its bytes whenever it is entered ("checked").
 *
 * Where the guest's protection of a page may change meanwhile, its mapping calls hold the lock across the host's call
 * (runtime_change_begin()), so that the host's protection is always the one both agree on. */
#include "runtime/internal.h"

#include "base/host-call.h"
#include "guest/memory-map.h"

enum {
  BUCKETS = 1 << 12,
  PROT_R = 1,
  PROT_RW = 3,
  HITS_ENDURED = 64,    /* writes until a page's code is checked instead */
  MAX_PATIENCE = 20     /* a page that was stable for 2^n checks is protected again, the n-th time */
};

struct PageRegion {
  Region *region;
  struct CodePage *page;
  PageRegion *next, **where; /* among those of the page */
  PageRegion *next_of_region;
};

typedef struct CodePage {
  uint64_t address;
  bool protected_, checked;
  uint8_t hits;     /* since it was last protected for good */
  uint8_t patience; /* how often it turned out not to be stable */
  uint32_t stable;  /* times its code was found unchanged */
  uint32_t busy;    /* system calls that are going to write it */
  bool expected;    /* the kernel may write it at any time */
  PageRegion *regions;
  struct CodePage *next;
} CodePage;

static CodePage *buckets[BUCKETS];
static bool writable_code; /* there has been code that stores can change */
static uint32_t protected_count, special_count; /* pages that are protected; that are special (is_special()) */

static CodePage **bucket(uint64_t page) { return &buckets[(page >> 12 ^ page >> 24) & (BUCKETS - 1)]; }

static uint64_t page_of(uint64_t address) { return address & ~(MEMORY_PAGE_SIZE - 1); }

static CodePage *find(uint64_t page) {
  CodePage *p = *bucket(page);
  while (p && p->address != page) p = p->next;
  return p;
}

static CodePage *find_or_add(uint64_t page) {
  CodePage *p = find(page);
  if (p) return p;
  p = base_alloc(sizeof *p);
  if (!p) base_panic("out of memory for translations");
  *p = (CodePage){.address = page, .next = *bucket(page)};
  *bucket(page) = p;
  return p;
}

/* --- Protection ------------------------------------------------------------------------------------------- */

/* A page that is protected is known to be so: whoever is here may be killed between the two (runtime_lock_inherited()), and
 * a store to a page that nobody knows of would fault for ever. */
static void set_protected(CodePage *p, bool on) {
  if (p->protected_ == on) return;
  if (!on) host_call(__NR_mprotect, p->address, MEMORY_PAGE_SIZE, PROT_RW);
  __atomic_store_n(&p->protected_, on, __ATOMIC_RELEASE);
  __atomic_store_n(&protected_count, on ? protected_count + 1 : protected_count - 1, __ATOMIC_RELAXED);
  if (on) host_call(__NR_mprotect, p->address, MEMORY_PAGE_SIZE, PROT_R);
}

static bool guest_may_write(const CodePage *p) {
  uint64_t end;
  int protection = memory_map_query(p->address, &end);
  return protection >= 0 && protection & MEMORY_WRITE;
}

static bool is_special(const CodePage *p) { return p->checked || p->busy || p->expected; }

static bool is_special_page(uint64_t page) {
  const CodePage *p = find(page);
  return p && is_special(p);
}

bool pages_runs_want_checks(const RegionRun *runs, unsigned count) {
  for (unsigned i = 0; special_count && i < count; i++)
    for (uint64_t page = page_of(runs[i].start); page < runs[i].end; page += MEMORY_PAGE_SIZE)
      if (is_special_page(page)) return true;
  return false;
}

bool pages_want_checks(const LiftRegion *guest) {
  if (!special_count) return false;
  for (uint64_t page = page_of(guest->lowest); page < guest->highest; page += MEMORY_PAGE_SIZE)
    if (is_special_page(page)) return true;
  for (unsigned i = 0; i < guest->look_count; i++)
    if (is_special_page(guest->looked[i])) return true;
  return false;
}

static void change_special(CodePage *p, bool checked, uint32_t busy, bool expected) {
  bool was = is_special(p);
  p->checked = checked;
  p->busy = busy;
  p->expected = expected;
  special_count = special_count + is_special(p) - was;
}

/* --- Regions of a page -------------------------------------------------------------------------------------- */

static PageRegion *new_note(Region *region) {
  PageRegion *note = region->pages_spare;
  if (!note) return cache_alloc(region, sizeof *note);
  region->pages_spare = note->next_of_region;
  return note;
}

static void note_on_page(Region *region, uint64_t address) {
  CodePage *p = find_or_add(address);
  if (p->regions && p->regions->region == region) return;
  PageRegion *note = new_note(region);
  *note = (PageRegion){region, p, p->regions, &p->regions, region->pages};
  if (note->next) note->next->where = &note->next;
  p->regions = note;
  region->pages = note;
  if (!region->checked && guest_may_write(p)) set_protected(p, true);
}

/* Every page that shows the memory the region was read from. */
static void note_views(Region *region, uint64_t page) {
  note_on_page(region, page);
  for (uint64_t alias = 0; (alias = memory_map_next_alias(page, alias));) note_on_page(region, alias);
}

void pages_note_region(Region *region, const LiftRegion *guest) {
  writable_code = true;
  for (uint64_t page = page_of(region->lowest); page < region->highest; page += MEMORY_PAGE_SIZE)
    note_views(region, page);
  for (unsigned i = 0; i < guest->look_count; i++) note_views(region, guest->looked[i]);
}

void pages_note_again(Region *region, const RegionRun *runs, unsigned count) {
  writable_code = true;
  for (unsigned i = 0; i < count; i++)
    for (uint64_t page = page_of(runs[i].start); page < runs[i].end; page += MEMORY_PAGE_SIZE)
      note_views(region, page);
}

static bool protect_views(uint64_t page) {
  bool any = false;
  for (uint64_t view = page, after = 0; view; view = after = memory_map_next_alias(page, after)) {
    CodePage *p = find_or_add(view);
    if (p->protected_ || !guest_may_write(p)) continue;
    set_protected(p, true);
    any = true;
  }
  return any;
}

bool pages_protect(const LiftRegion *guest, bool writable) {
  bool any = false;
  if (!writable || !runtime.concurrent) return false;
  for (uint64_t page = page_of(guest->lowest); page < guest->highest; page += MEMORY_PAGE_SIZE)
    any |= protect_views(page);
  for (unsigned i = 0; i < guest->look_count; i++) any |= protect_views(guest->looked[i]);
  return any;
}

void pages_forget_region(Region *region) {
  for (PageRegion *note = region->pages, *next; note; note = next) {
    next = note->next_of_region;
    *note->where = note->next;
    if (note->next) note->next->where = note->where;
    note->next_of_region = region->pages_spare;
    region->pages_spare = note;
  }
  region->pages = NULL;
}

static bool kill_page(CodePage *p, DeathCause cause) {
  bool any = p->regions != NULL;
  while (p->regions) region_kill(p->regions->region, cause);
  return any;
}

void pages_clear(void) {
  for (unsigned i = 0; i < BUCKETS; i++)
    for (CodePage *p = buckets[i]; p; p = p->next) {
      p->regions = NULL; /* of regions that are all dead */
      if (p->protected_) set_protected(p, false);
    }
}

/* Before pages_clear(), where a change may have been left half-done: a mapping call's new protection is not undone. */
void pages_recover(void) {
  protected_count = special_count = 0;
  for (unsigned i = 0; i < BUCKETS; i++)
    for (CodePage *p = buckets[i]; p; p = p->next) {
      if (!guest_may_write(p)) p->protected_ = false;
      protected_count += p->protected_;
      special_count += is_special(p);
    }
}

/* --- Writes ------------------------------------------------------------------------------------------------- */

/* Written too often: its code is checked from now on. */
static void endure_hit(CodePage *p) {
  if (p->hits < HITS_ENDURED) p->hits++;
  if (p->hits == HITS_ENDURED && !p->checked) {
    p->stable = 0;
    if (p->patience < MAX_PATIENCE) p->patience++;
    change_special(p, true, p->busy, p->expected);
  }
}

bool pages_handle_write(RuntimeThread *thread, uint64_t address) {
  CodePage *p = find(page_of(address));
  if (!p || !guest_may_write(p)) return false;
  /* Not protected any more: another thread has just dealt with the same fault. */
  if (p->protected_) {
    runtime.stats.write_faults++;
    endure_hit(p);
  }
  bool any = kill_page(p, DEATH_WRITTEN);
  set_protected(p, false);
  if (any) threads_note_deaths(thread);
  return true;
}

bool pages_found_stable(const Region *region) {
  bool special = false;
  for (const PageRegion *note = region->pages; note; note = note->next_of_region) {
    CodePage *p = note->page;
    if (p->checked && ++p->stable >= 1u << p->patience) {
      change_special(p, false, p->busy, p->expected);
      p->hits = 0;
    }
    special |= is_special(p);
  }
  return !special;
}

/* --- System calls that write guest memory ------------------------------------------------------------------- */

/* Calls write no more than that at once (MAX_RW_COUNT; read(2)), whatever length they are given. */
#define MOST_WRITTEN UINT64_C(0x7ffff000)

/* The first page from `page` on that may hold code; `end` when there is none before it. */
static uint64_t next_with_code(uint64_t page, uint64_t end) {
  MemoryRange range;
  for (; page < end && memory_map_next(page, &range); page = range.end)
    if (range.flags & (MEMORY_EXEC | MEMORY_SHARED)) return range.start > page ? range.start : page;
  return end;
}

static uint64_t end_of_write(uint64_t start, uint64_t length) {
  return start + (length < MOST_WRITTEN ? length : MOST_WRITTEN);
}

static bool begin_busy(uint64_t page) {
  CodePage *p = find_or_add(page);
  bool any = kill_page(p, DEATH_SYSCALL);
  set_protected(p, false);
  change_special(p, p->checked, p->busy + 1, p->expected);
  return any;
}

/* With every other view of the page: what is executed there changes, too. */
static bool begin_busy_views(uint64_t page) {
  bool any = begin_busy(page);
  for (uint64_t alias = 0; (alias = memory_map_next_alias(page, alias));) any |= begin_busy(alias);
  return any;
}

void runtime_write_begin(uint64_t start, uint64_t length) {
  bool any = false;
  base_lock(&runtime.lock);
  uint64_t end = end_of_write(start, length);
  for (uint64_t page = page_of(start); (page = next_with_code(page, end)) < end; page += MEMORY_PAGE_SIZE)
    any |= begin_busy_views(page);
  if (any) threads_note_deaths(NULL);
  base_unlock(&runtime.lock);
}

static bool expect_write(uint64_t page) {
  uint64_t end;
  int flags = memory_map_query(page, &end);
  if (flags < 0 || !(flags & MEMORY_EXEC)) return false;
  CodePage *p = find_or_add(page);
  if (p->expected) return false;
  bool any = kill_page(p, DEATH_SYSCALL);
  set_protected(p, false);
  change_special(p, p->checked, p->busy, true);
  return any;
}

void runtime_write_expected(uint64_t start, uint64_t length) {
  bool any = false;
  base_lock(&runtime.lock);
  uint64_t end = end_of_write(start, length);
  for (uint64_t page = page_of(start); (page = next_with_code(page, end)) < end; page += MEMORY_PAGE_SIZE) {
    any |= expect_write(page);
    for (uint64_t alias = 0; (alias = memory_map_next_alias(page, alias));) any |= expect_write(alias);
  }
  if (any) threads_note_deaths(NULL);
  base_unlock(&runtime.lock);
}

static void drop_if_unused(CodePage *p) {
  if (p->regions || p->protected_ || is_special(p) || p->hits) return;
  CodePage **at = bucket(p->address);
  while (*at != p) at = &(*at)->next;
  *at = p->next;
  base_free(p);
}

static bool end_busy(uint64_t page) {
  CodePage *p = find(page);
  if (!p || !p->busy) return false;
  change_special(p, p->checked, p->busy - 1, p->expected);
  drop_if_unused(p);
  return true;
}

void runtime_write_end(uint64_t start, uint64_t length) {
  base_lock(&runtime.lock);
  uint64_t end = special_count ? end_of_write(start, length) : 0;
  for (uint64_t page = page_of(start); page < end; page += MEMORY_PAGE_SIZE) {
    if (!end_busy(page)) continue;
    for (uint64_t alias = 0; (alias = memory_map_next_alias(page, alias));) end_busy(alias);
  }
  base_unlock(&runtime.lock);
}

void pages_after_fork(void) {
  for (unsigned i = 0; special_count && i < BUCKETS; i++)
    for (CodePage *p = buckets[i]; p; p = p->next) change_special(p, p->checked, 0, false);
}

bool runtime_has_writable_code(void) { return __atomic_load_n(&writable_code, __ATOMIC_RELAXED); }

/* --- Mapping calls -------------------------------------------------------------------------------------------- */

/* A page that is gone is not going to be written: not by a thread that has ended, and not under an address that another
 * mapping had while a call went on. */
static void forget_page(CodePage *p) {
  uint64_t end;
  if (p->protected_) __atomic_store_n(&protected_count, protected_count - 1, __ATOMIC_RELAXED);
  p->protected_ = false;
  p->hits = p->patience = 0;
  change_special(p, false, memory_map_query(p->address, &end) < 0 ? 0 : p->busy, false);
}

/* After a mapping call the host's protection is what the call asked for. */
static void forget_protection(uint64_t start, uint64_t end) {
  if (!protected_count && !special_count) return;
  if ((end - start) / MEMORY_PAGE_SIZE <= BUCKETS) {
    for (uint64_t page = start; page < end; page += MEMORY_PAGE_SIZE) {
      CodePage *p = find(page);
      if (p) forget_page(p);
    }
    return;
  }
  for (unsigned i = 0; i < BUCKETS; i++)
    for (CodePage *p = buckets[i]; p; p = p->next)
      if (p->address >= start && p->address < end) forget_page(p);
}

void runtime_change_begin(void) { base_lock(&runtime.lock); }

void runtime_change_end(uint64_t start, uint64_t length) {
  uint64_t first = page_of(start), end = page_of(start + length + MEMORY_PAGE_SIZE - 1);
  translate_forget_windows();
  bool any = dependents_kill(first, end);
  forget_protection(first, end);
  if (any) threads_note_deaths(NULL);
  base_unlock(&runtime.lock);
}

void runtime_memory_changed(uint64_t start, uint64_t length) {
  runtime_change_begin();
  runtime_change_end(start, length);
}
