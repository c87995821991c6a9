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
  const ImageHead *head = (const void *)(store->bytes + entry->offset);
  CodeImage image = {.bytes = store->bytes + entry->offset, .size = entry->size, .head = head,
                     .buckets = (const ImageBucket *)(head + 1), .bucket_base = head->bucket_base,
                     .bucket_count = head->bucket_count, .index_count = head->index_count,
                     .segment_count = head->segment_count};
  uint64_t tables = image_index_offset(image.bucket_count) + (uint64_t)image.index_count * sizeof(ImageIndex);
  if (image.segment_count > IMAGE_SEGMENTS_MAX || tables > entry->size) return false;
  image.index = (const void *)(image.bytes + image_index_offset(image.bucket_count));
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
  const ImageHeader *header = (const void *)store->bytes;
  const ImageEntry *entries = (const void *)(header + 1), *best = NULL;
  uint32_t count = store->image_count;
  for (uint32_t i = first_entry(entries, count, file); i < count && entries[i].file == file; i++) {
    const ImageTarget *made_for = &entries[i].target;
    if (made_for->ordered != target.ordered || made_for->features & ~target.features) continue;
    if (!best || __builtin_popcount(made_for->features) > __builtin_popcount(best->target.features)) best = &entries[i];
  }
  return best && open_image(store, best, ret_image);
}

bool image_find_made(const ImageStore *store, uint64_t file, ImageTarget target, CodeImage *ret_image) {
  const ImageEntry *entries = (const void *)((const ImageHeader *)(const void *)store->bytes + 1);
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

uint64_t image_index_offset(uint32_t bucket_count) {
  return (sizeof(ImageHead) + ((uint64_t)bucket_count + 1) * sizeof(ImageBucket) + 7) & ~UINT64_C(7);
}

static uint64_t arrays_size(const ImageRecord *r) {
  return r->exit_count * sizeof(A64TableExit) + r->entry_count * sizeof(A64TableEntry) +
         r->look_count * sizeof(ImageLook) + r->part_count * sizeof(ImagePart) + r->relocation_count * sizeof(A64TableRelocation) +
         r->word_count * sizeof(uint32_t) + ((uint64_t)r->indirect_count + r->pc_map_count) * sizeof(uint16_t);
}

uint64_t image_record_size(const ImageRecord *record) {
  return (sizeof *record + arrays_size(record) + 7) & ~UINT64_C(7);
}

ImageRegion image_region_at(const ImageRecord *r) {
  A64Tables t = {.word_count = r->word_count, .instruction_count = r->instruction_count, .exit_count = r->exit_count,
                 .entry_count = r->entry_count, .relocation_count = r->relocation_count,
                 .indirect_count = r->indirect_count, .pc_map_count = r->pc_map_count,
                 .address_count = r->address_count, .link_veneer = r->link_veneer,
                 .outward_count = r->outward_count};
  t.exits = (const void *)(r + 1);
  t.entries = (const void *)(t.exits + t.exit_count);
  const ImageLook *looks = (const void *)(t.entries + t.entry_count);
  const ImagePart *parts = (const void *)(looks + r->look_count);
  t.relocations = (const void *)(parts + r->part_count);
  t.words = (const void *)(t.relocations + t.relocation_count);
  t.indirect_checks = (const void *)(t.words + t.word_count);
  t.pc_map = (const void *)(t.indirect_checks + t.indirect_count);
  return (ImageRegion){r, t, looks, parts};
}

static bool is_whole(const CodeImage *image, uint64_t offset) {
  const ImageRecord *record = (const void *)(image->bytes + offset);
  uint64_t size;
  if (!within(offset, sizeof *record, image->size)) return false;
  size = record->size * UINT64_C(8);
  if (!within(offset, size, image->size) || size < sizeof *record + arrays_size(record)) return false;
  return image_checksum(&record->entry, size - sizeof record->checksum, offset) == record->checksum;
}

static bool has_entry(const ImageRegion *region, uint64_t address) {
  return a64_entry_at(&region->tables, (int64_t)(address - region->record->entry)) != NULL;
}

const ImageRecord *image_find_record(const CodeImage *image, uint64_t address) {
  uint64_t bucket = address / IMAGE_BUCKET_BYTES - image->bucket_base;
  if (bucket >= image->bucket_count) return NULL;
  uint32_t i = image->buckets[bucket], end = image->buckets[bucket + 1];
  if (end > image->index_count) return NULL;
  while (i < end && image->index[i].behind != address % IMAGE_BUCKET_BYTES) i++;
  if (i >= end) return NULL;
  uint64_t offset = (uint64_t)image->index[i].record * 8;
  return within(offset, sizeof(ImageRecord), image->size) ? (const void *)(image->bytes + offset) : NULL;
}

uint64_t image_indexed_address(const CodeImage *image, uint32_t row) {
  uint32_t low = 0, high = image->bucket_count;
  while (low < high) { /* the first bucket that ends behind it */
    uint32_t middle = low + (high - low) / 2;
    if (image->buckets[middle + 1] <= row) low = middle + 1;
    else high = middle;
  }
  if (low == image->bucket_count) return 0;
  return ((uint64_t)image->bucket_base + low) * IMAGE_BUCKET_BYTES + image->index[row].behind;
}

bool image_find_region(const CodeImage *image, uint64_t address, ImageRegion *ret_region) {
  const ImageRecord *record = image_find_record(image, address);
  if (!record || !is_whole(image, (uint64_t)((const uint8_t *)record - image->bytes))) return false;
  *ret_region = image_region_at(record);
  return has_entry(ret_region, address);
}

const uint8_t *image_bytes(const CodeImage *image, uint64_t address, uint64_t length) {
  for (uint32_t i = 0; i < image->segment_count; i++) {
    const ImageSegment *segment = &image->head->segments[i];
    uint64_t offset = address - segment->address, copy = segment->copy;
    if (offset >= segment->size || length > segment->size - offset) continue;
    bool inside = copy <= image->size && segment->size <= image->size - copy;
    return inside ? image->bytes + copy + offset : NULL;
  }
  return NULL;
}
