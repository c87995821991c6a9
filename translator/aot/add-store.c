#include "aot/add-store.h"

#include <unistd.h>

#include "aot/reuse.h"

/* Of all segments; 0 where one is not there. */
static uint64_t copies_size(const CodeImage *image) {
  uint64_t size = 0;
  for (uint32_t i = 0; i < image->segment_count; i++) {
    const ImageSegment *segment = &image->head->segments[i];
    if (!image_bytes(image, segment->address, segment->size)) return 0;
    if (segment->copy + segment->size > size) size = segment->copy + segment->size;
  }
  return size;
}

/* The copy that was added last: images of one file share it. */
typedef struct Copied {
  const uint8_t *bytes;
  uint64_t size;
  size_t number;
} Copied;

/* What is damaged is left out. */
static bool add_image(StoreWriter *writer, const ImageStore *store, const ImageEntry *entry, uint64_t rank, Copied *last) {
  CodeImage image;
  if (!image_find_made(store, entry->file, entry->target, &image) || !reuse_is_whole(&image)) return true;
  uint64_t size = copies_size(&image);
  if (!size) return true;
  if (image.copies != last->bytes || size != last->size) {
    *last = (Copied){image.copies, size, 0};
    if (!writer_add_copy(writer, image.copies, size, &last->number)) return false;
  }
  const ImageEntry name = {.file = entry->file, .target = entry->target, .size = image.size};
  return writer_add(writer, &name, rank, last->number, image.bytes);
}

bool add_store(StoreWriter *writer, const char *path, uint64_t rank) {
  ImageStore store;
  if (access(path, R_OK)) return false;
  if (!reuse_open(path, &store)) return true;
  const ImageEntry *entries = image_store_entries(&store);
  Copied last = {0};
  for (uint32_t i = 0; i < store.image_count; i++)
    if (!add_image(writer, &store, &entries[i], rank, &last)) return false;
  return true;
}
