/* Noticing writes to guest code.
 *
 * A page that code has been translated from and that the guest may write is write-protected on the host; the
 * first store faults, the page's translations die, and it is writable again until something on it is
 * translated once more. Pages the guest may not write need no protection: a mapping system call comes
 * before any change to them. */
#include "runtime/internal.h"

#include "base/host-call.h"
#include "guest/memory-map.h"

enum { BUCKETS = 1 << 12, PROT_R = 1, PROT_RW = 3 };

typedef struct PageRegion {
  Region *region;
  struct PageRegion *next;
} PageRegion;

typedef struct CodePage {
  uint64_t address;
  bool protected_;
  PageRegion *regions;
  struct CodePage *next;
} CodePage;

static CodePage **buckets;
static uint32_t page_count, protected_count;

static CodePage **bucket(uint64_t page) { return &buckets[(page >> 12 ^ page >> 24) & (BUCKETS - 1)]; }

static CodePage *find(uint64_t page) {
  if (!buckets) return NULL;
  CodePage *p = *bucket(page);
  while (p && p->address != page) p = p->next;
  return p;
}

static CodePage *find_or_add(uint64_t page) {
  if (!buckets) buckets = base_pages_alloc(BUCKETS * sizeof *buckets);
  if (!buckets) base_panic("out of memory for translations");
  CodePage *p = find(page);
  if (p) return p;
  p = cache_alloc(sizeof *p);
  *p = (CodePage){.address = page, .next = *bucket(page)};
  *bucket(page) = p;
  page_count++;
  return p;
}

static void set_protected(CodePage *p, bool on) {
  if (p->protected_ == on) return;
  p->protected_ = on;
  if (on) protected_count++;
  else protected_count--;
  host_call(__NR_mprotect, p->address, MEMORY_PAGE_SIZE, on ? PROT_R : PROT_RW);
}

static void protect_if_writable(CodePage *p) {
  uint64_t end;
  int protection = memory_map_query(p->address, &end);
  if (protection >= 0 && protection & MEMORY_WRITE) set_protected(p, true);
}

static void note_on_page(Region *region, uint64_t page) {
  CodePage *p = find_or_add(page);
  PageRegion *link = cache_alloc(sizeof *link);
  *link = (PageRegion){region, p->regions};
  p->regions = link;
  protect_if_writable(p);
}

/* A region belongs to the pages it was read from, and to every other page that shows the same memory. */
void pages_note_region(Region *region) {
  uint64_t first = region->lowest & ~(MEMORY_PAGE_SIZE - 1);
  for (uint64_t page = first; page < region->highest; page += MEMORY_PAGE_SIZE) {
    note_on_page(region, page);
    for (uint64_t alias = 0; (alias = memory_map_next_alias(page, alias));) note_on_page(region, alias);
  }
}

static void kill_page(CodePage *p) {
  for (PageRegion *link = p->regions; link; link = link->next)
    if (!link->region->dead) link_kill(link->region);
  p->regions = NULL;
}

void pages_invalidate(uint64_t start, uint64_t end) {
  if (!page_count) return;
  if ((end - start) / MEMORY_PAGE_SIZE <= BUCKETS) {
    for (uint64_t page = start & ~(MEMORY_PAGE_SIZE - 1); page < end; page += MEMORY_PAGE_SIZE) {
      CodePage *p = find(page);
      if (p) kill_page(p);
    }
    return;
  }
  for (unsigned i = 0; i < BUCKETS; i++)
    for (CodePage *p = buckets[i]; p; p = p->next)
      if (p->address + MEMORY_PAGE_SIZE > start && p->address < end) kill_page(p);
}

/* After a mapping call the host's protection is what the call asked for. */
static void forget_protection(uint64_t start, uint64_t end) {
  for (unsigned i = 0; protected_count && i < BUCKETS; i++)
    for (CodePage *p = buckets[i]; p; p = p->next)
      if (p->protected_ && p->address >= start && p->address < end) {
        p->protected_ = false;
        protected_count--;
      }
}

void runtime_memory_changed(uint64_t start, uint64_t length) {
  translate_forget_window();
  if (!__atomic_load_n(&page_count, __ATOMIC_RELAXED)) return;
  uint64_t first = start & ~(MEMORY_PAGE_SIZE - 1),
           end = (start + length + MEMORY_PAGE_SIZE - 1) & ~(MEMORY_PAGE_SIZE - 1);
  base_lock(&runtime.lock);
  pages_invalidate(first, end);
  forget_protection(first, end);
  base_unlock(&runtime.lock);
}

bool pages_handle_write(uint64_t address) {
  CodePage *p = find(address & ~(MEMORY_PAGE_SIZE - 1));
  if (!p) return false;
  uint64_t end;
  int protection = memory_map_query(p->address, &end);
  if (protection < 0 || !(protection & MEMORY_WRITE)) return false;
  /* Not protected any more: another thread has just dealt with the same fault. */
  kill_page(p);
  set_protected(p, false);
  return true;
}

bool pages_release_all(void) {
  bool any = false;
  for (unsigned i = 0; protected_count && i < BUCKETS; i++)
    for (CodePage *p = buckets[i]; p; p = p->next)
      if (p->protected_) {
        kill_page(p);
        set_protected(p, false);
        any = true;
      }
  return any;
}

bool runtime_release_write_protection(void) {
  if (!__atomic_load_n(&protected_count, __ATOMIC_RELAXED)) return false;
  base_lock(&runtime.lock);
  bool any = pages_release_all();
  base_unlock(&runtime.lock);
  return any;
}

void pages_clear(void) {
  pages_release_all();
  for (unsigned i = 0; buckets && i < BUCKETS; i++) buckets[i] = NULL;
  page_count = 0;
}
