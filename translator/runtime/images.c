/* Regions that were translated before: taken from code images instead of being made.
 *
 * The Linux layer says which file is mapped executable where; whether an image of that file has a region for a guest PC is
 * looked up when the PC is first executed. What is found is used when the guest bytes it was made from, looked-at ones
 * included, are those that stand there now; then it is copied to the code cache and is a region like any other, but for
 * its tables, which stay in the store. A wrong guess which file is mapped therefore costs time, nothing else. */
#include "runtime/internal.h"

#include <string.h>

#include "base/host-call.h"
#include "guest/memory-map.h"
#include "image/image.h"

typedef struct MappedFile {
  uint64_t start, end, offset; /* guest addresses; of `start` in the file */
  uint64_t file;               /* image_file_key() */
  uint64_t base;               /* guest address of the image's base; good while `has_image` */
  bool looked, ordered, has_image; /* whether an image for `ordered` was looked for, and found */
  CodeImage image;
} MappedFile;

static ImageStore stores[RUNTIME_STORES_MAX];
static uint32_t store_count;
static MappedFile *files; /* by ascending address; they don't overlap */
static uint32_t file_count, file_capacity;

void runtime_use_store(const void *bytes, uint64_t size) {
  if (store_count < RUNTIME_STORES_MAX && image_open_store(bytes, size, &stores[store_count])) store_count++;
}

/* What code is translated for now. Images are made with AVX. */
static bool find_image(uint64_t file, CodeImage *ret_image) {
  ImageTarget target = {runtime.features, runtime.ordered};
  for (uint32_t i = 0; runtime.options.avx && i < store_count; i++)
    if (image_find(&stores[i], file, target, ret_image)) return true;
  return false;
}

bool runtime_has_image(uint64_t file) {
  CodeImage image;
  return find_image(file, &image);
}

bool runtime_takes_images(void) {
  return runtime.options.avx && !runtime.float_traps && !runtime.options.exact_flags && !runtime.options.dump;
}

/* The first file that ends above `address`. */
static uint32_t first_above(uint64_t address) {
  uint32_t low = 0, high = file_count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (files[middle].end <= address) low = middle + 1;
    else high = middle;
  }
  return low;
}

static bool have_room(void) {
  if (file_count < file_capacity) return true;
  uint32_t capacity = file_capacity ? file_capacity * 2 : 64;
  MappedFile *grown = base_alloc(capacity * sizeof *grown);
  if (!grown) return false;
  if (file_count) memcpy(grown, files, file_count * sizeof *grown);
  base_free(files);
  files = grown;
  file_capacity = capacity;
  return true;
}

void runtime_file_mapped(uint64_t file, uint64_t start, uint64_t length, uint64_t offset) {
  base_lock(&runtime.lock);
  uint32_t at = first_above(start), behind = at;
  while (behind < file_count && files[behind].start < start + length) behind++;
  if (behind > at || have_room()) { /* it replaces what was there, even if some of that is still mapped */
    memmove(&files[at + 1], &files[behind], (file_count - behind) * sizeof *files);
    file_count = file_count + 1 - (behind - at);
    files[at] = (MappedFile){.start = start, .end = start + length, .offset = offset, .file = file};
  }
  base_unlock(&runtime.lock);
}

/* The code at a guest PC is to be translated. */
static void *missed(ImageMiss why) {
  runtime.stats.image_misses[why]++;
  return NULL;
}

/* The image for code at `pc` as it is translated now. */
static const MappedFile *image_at(uint64_t pc) {
  uint32_t i = first_above(pc);
  if (i == file_count || files[i].start > pc) return missed(MISS_NO_FILE);
  MappedFile *file = &files[i];
  if (!file->looked || file->ordered != runtime.ordered) {
    file->looked = true;
    file->ordered = runtime.ordered;
    file->has_image = find_image(file->file, &file->image) &&
                      image_base(&file->image, file->start, file->offset, &file->base);
  }
  return file->has_image ? file : missed(MISS_NO_IMAGE);
}

typedef struct Comparison {
  const MappedFile *file;
  const ImageRegion *region;
  const RegionWindow *window;
  const uint8_t *copy; /* the image's, of all the window's bytes; or NULL */
  uint64_t lowest, highest; /* guest bytes compared */
  uint64_t absent; /* where they are not in memory, or 0 */
  bool same;
} Comparison;

/* Whether reading [start, end) waits for nobody, since the lock is held. Otherwise `*ret_absent` is the first page that has to
 * be waited for, if it is one. */
static bool is_resident(uint64_t start, uint64_t end, uint64_t *ret_absent) {
  uint8_t pages[8];
  uint64_t first = start & ~(MEMORY_PAGE_SIZE - 1), count = (end - first + MEMORY_PAGE_SIZE - 1) / MEMORY_PAGE_SIZE;
  if (count > sizeof pages || host_call(__NR_mincore, first, count * MEMORY_PAGE_SIZE, pages) < 0) return false;
  for (uint64_t i = 0; i < count; i++)
    if (!(pages[i] & 1)) return *ret_absent = first + i * MEMORY_PAGE_SIZE, false;
  return true;
}

/* Whether all of [start, end) can be fetched, and changes there are noticed. */
static bool can_be_code(uint64_t start, uint64_t end, uint64_t *ret_absent) {
  for (uint64_t at = start; at < end;) {
    int flags = memory_map_query(at, &at);
    if (flags < 0 || !(flags & MEMORY_EXEC) || flags & (MEMORY_WRITE | MEMORY_SHARED | MEMORY_UNWATCHED)) return false;
  }
  return start <= end && is_resident(start, end, ret_absent);
}

/* What [start, end) is to be, where it can be code. */
static const uint8_t *expected(Comparison *c, uint64_t start, uint64_t end) {
  if (c->copy && start >= c->window->start && start <= end && end <= c->window->end) return c->copy + (start - c->window->start);
  return can_be_code(start, end, &c->absent) ? image_bytes(&c->file->image, start - c->file->base, end - start) : NULL;
}

static bool is_same(Comparison *c, const ImageLook *look) {
  uint64_t start = c->file->base + look->address;
  const uint8_t *bytes = expected(c, start, start + look->length);
  return bytes && !memcmp((const void *)(uintptr_t)start, bytes, look->length);
}

/* Whether the bytes the region was made from stand there. */
static void compare_guarded(void *argument) {
  Comparison *c = argument;
  const ImageLook *look = c->region->looks, *end = look + c->region->record->look_count;
  c->same = look < end;
  if (!c->same) return;
  c->copy = image_bytes(&c->file->image, c->window->start - c->file->base, c->window->end - c->window->start);
  c->lowest = c->file->base + look->address;
  c->highest = c->file->base + end[-1].address + end[-1].length;
  for (; look < end && c->same; look++) c->same = is_same(c, look);
}

/* Whether an instruction in it is known to need accesses of another kind than images have. */
static bool is_misaligned(const ImageRegion *region, uint64_t entry) {
  if (!misaligned_any()) return false;
  for (A64PcCursor at = a64_pc_map_begin(&region->tables); a64_pc_map_next(&at);)
    if (misaligned_is_known(entry + a64_guest_distance(at.last.guest_offset))) return true;
  return false;
}

/* --- Regions in use ------------------------------------------------------------------------------------------------ */

/* Beside the guest address of a region's first part, in the block map's keys: the region as a whole. No canonical address,
 * and no step's (single-step.h). */
#define UNIT_KEY (UINT64_C(1) << 61)

/* What an image has for a guest PC; not checked yet. */
typedef struct Found {
  const MappedFile *file;
  const ImageRecord *record;
  const A64TableEntry *entry; /* the PC's */
  uint64_t unit;              /* what the region is known by in the block map */
} Found;

static bool find(uint64_t pc, Found *ret_found) {
  const MappedFile *file = image_at(pc);
  if (!file) return false;
  ret_found->file = file;
  ret_found->record = image_find_record(&file->image, pc - file->base, &ret_found->entry);
  if (!ret_found->record) return missed(MISS_NO_REGION), false;
  ret_found->unit = (file->base + ret_found->record->entry) | UNIT_KEY;
  return true;
}

/* The region, if it is in the cache. */
static Region *in_use(const Found *found) {
  Region *region;
  bool any = block_map_find(found->unit, &region);
  return any && region->tables.entries == image_record_entries(found->record) ? region : NULL;
}

static Region *place(const MappedFile *file, const ImageRegion *from, const Comparison *compared) {
  uint64_t entry = file->base + from->record->entry;
  RegionExtent extent = {entry, compared->highest, compared->lowest, compared->highest, 0, 0};
  Region *region = cache_add_region(&from->tables, &extent, file->base, false);
  region->parts = from->parts;
  region->part_count = from->record->part_count;
  region->unit = entry | UNIT_KEY;
  return region;
}

/* The region, in the cache; NULL where it is not to be used, or not yet. */
static Region *take(RuntimeThread *thread, const Found *found, const RegionWindow *window, uint64_t *ret_absent) {
  const MappedFile *file = found->file;
  ImageRegion from;
  Comparison c = {.file = file, .region = &from, .window = window};
  if (!image_read_region(&file->image, found->record, &from)) return missed(MISS_DAMAGED);
  bool same = guard_call(thread, compare_guarded, &c) && c.same;
  if (c.absent && ret_absent) return *ret_absent = c.absent, NULL;
  if (!same) return missed(MISS_CHANGED);
  if (pages_runs_want_checks(&(RegionRun){c.lowest, c.highest}, 1)) return missed(MISS_WRITTEN);
  if (is_misaligned(&from, file->base + from.record->entry)) return missed(MISS_MISALIGNED);
  return place(file, &from, &c);
}

/* Whether an image may have the code in the window as it is to be translated. */
static bool can_have(const RegionWindow *window) {
  if (runtime.strict_flags || runtime.float_traps || runtime.options.exact_flags || runtime.options.dump)
    return missed(MISS_FLAGS), false;
  if (window->writable || window->unwatched) return missed(MISS_MADE), false;
  return true;
}

Region *images_take(RuntimeThread *thread, uint64_t pc, const RegionWindow *window, uint64_t *ret_absent) {
  Found found;
  if (!store_count || !can_have(window) || !find(pc, &found)) return NULL;
  Region *known = in_use(&found), *region = known ? known : take(thread, &found, window, ret_absent);
  if (!region) return NULL;
  block_map_add(pc, (uint64_t)(uintptr_t)(region->code + found.entry->word), region);
  if (known) return known;
  runtime.stats.image_regions++;
  block_map_add(found.unit, (uint64_t)(uintptr_t)region->code, region); /* last: what others find is whole */
  return region;
}
