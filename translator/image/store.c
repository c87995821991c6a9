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
  uint64_t index_bytes = (uint64_t)head->index_count * sizeof(ImageIndex);
  if (head->segment_count > IMAGE_SEGMENTS_MAX || index_bytes > entry->size - sizeof *head) return false;
  *ret_image = (CodeImage){store->bytes + entry->offset, entry->size, head, (const ImageIndex *)(head + 1),
                           head->index_count};
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

bool image_base(const CodeImage *image, uint64_t address, uint64_t offset, uint64_t *ret_base) {
  for (uint32_t i = 0; i < image->head->segment_count; i++) {
    const ImageSegment *segment = &image->head->segments[i];
    if (offset < segment->file_offset || offset - segment->file_offset >= segment->size) continue;
    *ret_base = address - (segment->address + (offset - segment->file_offset));
    return true;
  }
  return false;
}

/* --- Records ---------------------------------------------------------------------------------------------------- */

static uint64_t arrays_size(const ImageRecord *r) {
  return r->exit_count * sizeof(A64Exit) + r->entry_count * sizeof(A64Entry) + r->pc_map_count * sizeof(A64PcMap) +
         r->relocation_count * sizeof(A64Relocation) + r->look_count * sizeof(ImageLook) +
         r->indirect_count * sizeof(uint32_t) + (uint64_t)r->word_count * sizeof(uint32_t);
}

uint64_t image_record_size(const ImageRecord *record, uint64_t look_bytes) {
  return (sizeof *record + arrays_size(record) + look_bytes + 7) & ~UINT64_C(7);
}

ImageRegion image_region_at(const ImageRecord *r) {
  ImageRegion region = {.record = r, .exits = (const void *)(r + 1)};
  region.entries = (const void *)(region.exits + r->exit_count);
  region.pc_map = (const void *)(region.entries + r->entry_count);
  region.relocations = (const void *)(region.pc_map + r->pc_map_count);
  region.looks = (const void *)(region.relocations + r->relocation_count);
  region.indirect_checks = (const void *)(region.looks + r->look_count);
  region.words = region.indirect_checks + r->indirect_count;
  region.bytes = (const uint8_t *)(region.words + r->word_count);
  return region;
}

static bool is_whole(const CodeImage *image, uint64_t offset) {
  const ImageRecord *record = (const void *)(image->bytes + offset);
  if (!within(offset, sizeof *record, image->size) || !within(offset, record->size, image->size)) return false;
  if (record->size < sizeof *record || record->size & 7 || record->size < sizeof *record + arrays_size(record)) return false;
  return image_checksum(&record->size, record->size - sizeof record->checksum, offset) == record->checksum;
}

static bool has_entry(const ImageRegion *region, uint64_t address) {
  for (unsigned i = 0; i < region->record->entry_count; i++)
    if (region->entries[i].guest_pc == address) return true;
  return false;
}

bool image_find_region(const CodeImage *image, uint64_t address, ImageRegion *ret_region) {
  uint32_t low = 0, high = image->index_count;
  while (low < high) {
    uint32_t middle = (low + high) / 2;
    if (image->index[middle].address < address) low = middle + 1;
    else high = middle;
  }
  if (low == image->index_count || image->index[low].address != address) return false;
  uint64_t offset = (uint64_t)image->index[low].record * 8;
  if (!is_whole(image, offset)) return false;
  *ret_region = image_region_at((const void *)(image->bytes + offset));
  return has_entry(ret_region, address);
}
