/* Finding things in a store, which may hold anything. */
#include "image/image.h"

#include "image-build.h"

static const uint64_t build[2] = IMAGE_BUILD;

/* Whether [offset, offset + length) lies in [0, size), aligned. */
static bool within(uint64_t offset, uint64_t length, uint64_t size) {
  return !(offset & 7) && offset <= size && length <= size - offset;
}

static uint64_t head_size(uint32_t image_count) {
  return sizeof(ImageHeader) + (uint64_t)image_count * sizeof(ImageEntry);
}

bool image_read_trailer(const ImageTrailer *trailer, uint64_t file_size) {
  return trailer->magic == IMAGE_MAGIC && trailer->size >= sizeof(ImageHeader) + sizeof *trailer &&
         !(trailer->offset & 4095) && trailer->size <= file_size && trailer->offset == file_size - trailer->size;
}

bool image_open_store(const void *bytes, uint64_t size, ImageStore *ret_store) {
  const ImageHeader *header = bytes;
  if (size < sizeof *header + sizeof(ImageTrailer)) return false;
  const ImageTrailer *trailer = (const void *)((const uint8_t *)bytes + size - sizeof *trailer);
  if (header->magic != IMAGE_MAGIC || header->format != IMAGE_FORMAT) return false;
  if (header->build[0] != build[0] || header->build[1] != build[1]) return false;
  if (head_size(header->image_count) > size - sizeof *trailer) return false;
  if (image_checksum(header, head_size(header->image_count), size) != trailer->checksum) return false;
  *ret_store = (ImageStore){bytes, size, header->image_count};
  return true;
}

static bool open_image(const ImageStore *store, const ImageEntry *entry, CodeImage *ret_image) {
  if (!within(entry->offset, entry->size, store->size) || entry->size < sizeof(ImageHead)) return false;
  if (!within(entry->copies, 0, store->size)) return false;
  const ImageHead *head = (const void *)(store->bytes + entry->offset);
  CodeImage image = {.bytes = store->bytes + entry->offset, .size = entry->size, .head = head,
                     .copies = store->bytes + entry->copies, .copies_size = store->size - entry->copies,
                     .buckets = (const ImageBucket *)(head + 1), .bucket_base = head->bucket_base,
                     .bucket_count = head->bucket_count, .row_count = head->row_count, .segment_count = head->segment_count};
  uint64_t rows = image_rows_offset(image.bucket_count);
  if (image.segment_count > IMAGE_SEGMENTS_MAX || rows + (uint64_t)image.row_count * sizeof(ImageRow) > entry->size) return false;
  image.rows = (const void *)(image.bytes + rows);
  *ret_image = image;
  return true;
}

/* The file's first entry, or where it would be. */
static uint32_t first_entry(const ImageEntry *entries, uint32_t count, uint64_t file) {
  uint32_t low = 0, high = count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (entries[middle].file < file) low = middle + 1;
    else high = middle;
  }
  return low;
}

bool image_find(const ImageStore *store, uint64_t file, ImageTarget target, CodeImage *ret_image) {
  const ImageEntry *entries = image_store_entries(store), *best = NULL;
  uint32_t count = store->image_count;
  for (uint32_t i = first_entry(entries, count, file); i < count && entries[i].file == file; i++) {
    const ImageTarget *made_for = &entries[i].target;
    if (made_for->ordered != target.ordered || made_for->features & ~target.features) continue;
    if (!best || __builtin_popcount(made_for->features) > __builtin_popcount(best->target.features)) best = &entries[i];
  }
  return best && open_image(store, best, ret_image);
}

bool image_find_made(const ImageStore *store, uint64_t file, ImageTarget target, CodeImage *ret_image) {
  const ImageEntry *entries = image_store_entries(store);
  for (uint32_t i = first_entry(entries, store->image_count, file); i < store->image_count && entries[i].file == file; i++)
    if (entries[i].target.ordered == target.ordered && entries[i].target.features == target.features)
      return open_image(store, &entries[i], ret_image);
  return false;
}

bool image_base(const CodeImage *image, uint64_t address, uint64_t offset, uint64_t *ret_base) {
  for (uint32_t i = 0; i < image->segment_count; i++) {
    const ImageSegment *segment = &image->head->segments[i];
    if (offset < segment->file_offset || offset - segment->file_offset >= segment->size) continue;
    *ret_base = address - (segment->address + (offset - segment->file_offset));
    return true;
  }
  return false;
}

/* --- Records ---------------------------------------------------------------------------------------------------- */

uint64_t image_rows_offset(uint32_t bucket_count) { return sizeof(ImageHead) + (uint64_t)bucket_count * sizeof(ImageBucket); }

static uint64_t entries_size(const ImageRecord *r) { return (r->entry_count * sizeof(A64TableEntry) + 7) & ~UINT64_C(7); }

uint64_t image_record_size(const ImageRecord *r) {
  uint64_t own_words = (uint64_t)r->word_count - 2u * r->address_count;
  uint64_t size = sizeof *r + entries_size(r) + r->exit_count * sizeof(A64TableExit) + r->look_count * sizeof(ImageLook) +
                  r->inner_count * sizeof(A64TableInner) + r->part_count * sizeof(ImagePart) +
                  r->relocation_count * sizeof(A64TableRelocation) + r->address_count * sizeof(int32_t) +
                  own_words * sizeof(uint32_t) + r->indirect_count * sizeof(uint16_t) + r->pc_map_count;
  return (size + 7) & ~UINT64_C(7);
}

ImageRegion image_region_at(const ImageRecord *r) {
  A64Tables t = {.word_count = r->word_count, .instruction_count = r->instruction_count, .exit_count = r->exit_count,
                 .inner_count = r->inner_count, .entry_count = r->entry_count, .relocation_count = r->relocation_count,
                 .indirect_count = r->indirect_count, .pc_map_count = r->pc_map_count,
                 .address_count = r->address_count, .link_veneer = r->link_veneer,
                 .outward_count = r->outward_count};
  t.entries = image_record_entries(r);
  t.exits = (const void *)((const uint8_t *)t.entries + entries_size(r));
  const ImageLook *looks = (const void *)(t.exits + t.exit_count);
  t.inner = (const void *)(looks + r->look_count);
  const ImagePart *parts = (const void *)(t.inner + t.inner_count);
  t.relocations = (const void *)(parts + r->part_count);
  t.addresses = (const void *)(t.relocations + t.relocation_count);
  t.words = (const void *)(t.addresses + t.address_count);
  t.indirect_checks = (const void *)(t.words + a64_tables_own_words(&t));
  t.pc_map = (const void *)(t.indirect_checks + t.indirect_count);
  return (ImageRegion){r, t, looks, parts};
}

const ImageRecord *image_record_of_row(const CodeImage *image, uint32_t row) {
  uint64_t offset = image->rows[row] * UINT64_C(8);
  if (offset > image->size || image->size - offset < sizeof(ImageRecord)) return NULL;
  const ImageRecord *record = (const void *)(image->bytes + offset);
  uint64_t size = record->size * UINT64_C(8);
  return size <= image->size - offset && sizeof *record + record->entry_count * sizeof(A64TableEntry) <= size ? record : NULL;
}

const ImageRecord *image_find_record(const CodeImage *image, uint64_t address, const A64TableEntry **ret_entry) {
  uint64_t bucket = address / IMAGE_BUCKET_BYTES - image->bucket_base;
  if (bucket >= image->bucket_count) return NULL;
  uint32_t row = image->buckets[bucket];
  for (unsigned i = 0; i < IMAGE_CANDIDATES_MAX && row < image->row_count; i++, row++) {
    const ImageRecord *record = image_record_of_row(image, row);
    if (!record || record->entry > address) return NULL;
    *ret_entry = a64_find_entry(image_record_entries(record), record->entry_count, (int64_t)(address - record->entry));
    if (*ret_entry) return record;
  }
  return NULL;
}

bool image_read_region(const CodeImage *image, const ImageRecord *record, ImageRegion *ret_region) {
  uint64_t size = record->size * UINT64_C(8), offset = (uint64_t)((const uint8_t *)record - image->bytes);
  if (record->word_count < 2u * record->address_count || image_record_size(record) > size ||
      image_checksum(&record->entry, size - sizeof record->checksum, offset) != record->checksum)
    return false;
  *ret_region = image_region_at(record);
  return true;
}

const uint8_t *image_bytes(const CodeImage *image, uint64_t address, uint64_t length) {
  for (uint32_t i = 0; i < image->segment_count; i++) {
    const ImageSegment *segment = &image->head->segments[i];
    uint64_t offset = address - segment->address, copy = segment->copy;
    if (offset >= segment->size || length > segment->size - offset) continue;
    bool inside = copy <= image->copies_size && segment->size <= image->copies_size - copy;
    return inside ? image->copies + copy + offset : NULL;
  }
  return NULL;
}
