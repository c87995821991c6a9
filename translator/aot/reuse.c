#include "aot/reuse.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

static const void *map_store(int fd, uint64_t *ret_size) {
  struct stat status;
  ImageTrailer trailer;
  if (fstat(fd, &status) || status.st_size < (off_t)sizeof trailer ||
      pread(fd, &trailer, sizeof trailer, status.st_size - (off_t)sizeof trailer) != sizeof trailer ||
      !image_read_trailer(&trailer, (uint64_t)status.st_size))
    return NULL;
  const void *bytes = mmap(NULL, trailer.size, PROT_READ, MAP_PRIVATE, fd, (off_t)trailer.offset);
  *ret_size = trailer.size;
  return bytes == MAP_FAILED ? NULL : bytes;
}

bool reuse_open(const char *path, ImageStore *ret_store) {
  int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  uint64_t size;
  if (fd < 0) return false;
  const void *bytes = map_store(fd, &size);
  close(fd);
  return bytes && image_open_store(bytes, size, ret_store);
}

static bool are_zeros(const uint8_t *bytes, uint64_t size) {
  for (uint64_t i = 0; i < size; i++)
    if (bytes[i]) return false;
  return true;
}

/* Behind the file's end the image has zeros. */
static bool is_same_part(const CodeImage *image, const ImageSegment *segment, const ProgramPart *part) {
  uint64_t size = part->end - part->start;
  const uint8_t *copy = image_bytes(image, part->start, size);
  return segment->file_offset == part->file_offset && segment->size == size && segment->address == part->start && copy &&
         !memcmp(copy, part->bytes, part->readable) && are_zeros(copy + part->readable, size - part->readable);
}

static bool is_of(const CodeImage *image, const Program *program) {
  uint32_t segments = 0;
  for (uint32_t i = 0; i < program->part_count && segments < IMAGE_SEGMENTS_MAX; i++) {
    if (!program->parts[i].executable) continue;
    if (segments == image->segment_count || !is_same_part(image, &image->head->segments[segments], &program->parts[i]))
      return false;
    segments++;
  }
  return segments == image->segment_count;
}

bool reuse_is_whole(const CodeImage *image) {
  for (uint32_t i = 0; i < image->row_count; i++) {
    ImageRegion region;
    const ImageRecord *record = image_record_of_row(image, i);
    if (!record || !image_read_region(image, record, &region)) return false;
  }
  return true;
}

const uint8_t *reuse_find(const ImageStore *store, const Program *program, ImageTarget target, uint64_t *ret_size) {
  CodeImage image;
  if (!store->bytes || !image_find_made(store, program->key, target, &image)) return NULL;
  if (!is_of(&image, program) || !reuse_is_whole(&image)) return NULL;
  *ret_size = image.size;
  return image.bytes;
}
