/* Images go to a file without a name as they come, and from there in order to the one that takes its place by rename(2):
 * a reader finds the old store or the new one, whole. */
#include "aot/write-store.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image-build.h"

enum { COPY_BYTES = 1 << 20, PAGE = 4096 };

struct StoreWriter {
  pthread_mutex_t lock;
  char *path, *temporary;
  int front, spool, out;
  uint64_t spooled;
  ImageEntry *entries; /* offsets: in the spool, until the end */
  size_t count, capacity;
};

static void release(StoreWriter *w) {
  int error = errno;
  if (w->front >= 0) close(w->front);
  if (w->spool >= 0) close(w->spool);
  if (w->out >= 0) close(w->out);
  if (w->temporary) unlink(w->temporary);
  free(w->temporary);
  free(w->path);
  free(w->entries);
  pthread_mutex_destroy(&w->lock);
  free(w);
  errno = error;
}

/* A file beside the one that is to be, so that it can be renamed. */
static int open_beside(StoreWriter *w) {
  if (asprintf(&w->temporary, "%s.XXXXXX", w->path) < 0) return w->temporary = NULL, -1;
  return mkostemp(w->temporary, O_CLOEXEC);
}

/* Without a name from the beginning: nothing is left of it when the process dies. */
static int open_spool(const char *path) {
  char *name;
  if (asprintf(&name, "%s.spool.XXXXXX", path) < 0) return -1;
  int fd = mkostemp(name, O_CLOEXEC);
  if (fd >= 0) unlink(name);
  free(name);
  return fd;
}

StoreWriter *writer_begin(const char *path, const char *front) {
  StoreWriter *w = calloc(1, sizeof *w);
  if (!w) return NULL;
  pthread_mutex_init(&w->lock, NULL);
  w->front = w->out = -1;
  w->path = strdup(path);
  w->spool = w->path ? open_spool(path) : -1;
  if (w->spool >= 0 && (!front || (w->front = open(front, O_RDONLY | O_CLOEXEC)) >= 0)) w->out = open_beside(w);
  if (w->out >= 0) return w;
  release(w);
  return NULL;
}

/* --- Input and output ----------------------------------------------------------------------------------------------- */

static bool write_all(int fd, const void *data, size_t size, uint64_t offset) {
  for (size_t done = 0; done < size;) {
    ssize_t wrote = pwrite(fd, (const char *)data + done, size - done, (off_t)(offset + done));
    if (wrote < 0 && errno == EINTR) continue;
    if (wrote < 0) return false;
    done += (size_t)wrote;
  }
  return true;
}

static bool copy(int from, uint64_t from_offset, int to, uint64_t to_offset, uint64_t size) {
  char *buffer = malloc(COPY_BYTES);
  bool good = buffer != NULL;
  for (uint64_t done = 0; good && done < size;) {
    size_t step = size - done < COPY_BYTES ? (size_t)(size - done) : COPY_BYTES;
    ssize_t got = pread(from, buffer, step, (off_t)(from_offset + done));
    if (got < 0 && errno == EINTR) continue;
    if (got == 0) errno = EIO;
    good = got > 0 && write_all(to, buffer, (size_t)got, to_offset + done);
    if (good) done += (uint64_t)got;
  }
  free(buffer);
  return good;
}

bool writer_add(StoreWriter *w, uint64_t file, ImageTarget target, const void *image, uint64_t size) {
  pthread_mutex_lock(&w->lock);
  bool good = true;
  if (w->count == w->capacity) {
    size_t capacity = w->capacity ? w->capacity * 2 : 256;
    ImageEntry *grown = realloc(w->entries, capacity * sizeof *grown);
    if (grown) {
      w->entries = grown;
      w->capacity = capacity;
    }
    good = grown != NULL;
  }
  good = good && write_all(w->spool, image, size, w->spooled);
  if (good) {
    w->entries[w->count++] = (ImageEntry){file, target, w->spooled, size};
    w->spooled += size;
  }
  pthread_mutex_unlock(&w->lock);
  return good;
}

/* --- The end -------------------------------------------------------------------------------------------------------- */

static int in_order(const void *a, const void *b) {
  const ImageEntry *x = a, *y = b;
  if (x->file != y->file) return x->file < y->file ? -1 : 1;
  if (x->target.ordered != y->target.ordered) return x->target.ordered < y->target.ordered ? -1 : 1;
  return x->target.features < y->target.features ? -1 : x->target.features > y->target.features;
}

/* How much of `front` comes before a store it may have. */
static bool front_size(const StoreWriter *w, uint64_t *ret_size, mode_t *ret_mode) {
  struct stat status;
  ImageTrailer trailer;
  *ret_size = 0;
  *ret_mode = 0644;
  if (w->front < 0) return true;
  if (fstat(w->front, &status)) return false;
  *ret_size = (uint64_t)status.st_size;
  *ret_mode = status.st_mode & 07777;
  if (status.st_size >= (off_t)sizeof trailer &&
      pread(w->front, &trailer, sizeof trailer, status.st_size - (off_t)sizeof trailer) == sizeof trailer &&
      image_read_trailer(&trailer, *ret_size))
    *ret_size = trailer.offset;
  return true;
}

/* Header, directory, images, trailer, behind the first `offset` bytes of the file. */
static bool write_store(const StoreWriter *w, uint64_t offset) {
  size_t head_size = sizeof(ImageHeader) + w->count * sizeof(ImageEntry);
  ImageHeader *header = calloc(1, head_size);
  if (!header) return false;
  *header = (ImageHeader){.magic = IMAGE_MAGIC, .format = IMAGE_FORMAT, .image_count = (uint32_t)w->count,
                          .build = IMAGE_BUILD};
  ImageEntry *entries = (ImageEntry *)(header + 1);
  uint64_t at = head_size;
  bool good = true;
  for (size_t i = 0; good && i < w->count; i++) {
    entries[i] = w->entries[i];
    entries[i].offset = at;
    good = copy(w->spool, w->entries[i].offset, w->out, offset + at, entries[i].size);
    at += entries[i].size;
  }
  ImageTrailer trailer = {.magic = IMAGE_MAGIC, .offset = offset, .size = at + sizeof trailer};
  trailer.checksum = image_checksum(header, head_size, trailer.size);
  good = good && write_all(w->out, header, head_size, offset) && write_all(w->out, &trailer, sizeof trailer, offset + at);
  free(header);
  return good;
}

bool writer_finish(StoreWriter *w) {
  uint64_t front;
  mode_t mode;
  if (w->count) qsort(w->entries, w->count, sizeof *w->entries, in_order);
  bool good = front_size(w, &front, &mode) && (!front || copy(w->front, 0, w->out, 0, front)) &&
              write_store(w, (front + PAGE - 1) & ~(uint64_t)(PAGE - 1)) && !fchmod(w->out, mode) && !fsync(w->out) &&
              !rename(w->temporary, w->path);
  if (good) {
    free(w->temporary);
    w->temporary = NULL;
  }
  release(w);
  return good;
}

void writer_abandon(StoreWriter *w) { release(w); }
