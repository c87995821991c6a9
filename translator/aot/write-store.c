/* Images go to a file without a name as they come, and from there in order to the one that takes its place by rename(2):
 * a reader finds the old store or the new one, whole, and what ends the work before leaves nothing behind. */
#include "aot/write-store.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image-build.h"

enum { COPY_BYTES = 1 << 20, PAGE = 4096, ATTEMPTS = 100 };

typedef struct Spooled {
  ImageEntry entry; /* offset: in the spool, until the end */
  uint64_t content;
  size_t copy; /* number */
} Spooled;

typedef struct SpooledCopy {
  uint64_t offset, size; /* in the spool */
} SpooledCopy;

/* Rows that grow. */
typedef struct Rows {
  void *rows;
  size_t count, capacity;
} Rows;

struct StoreWriter {
  pthread_mutex_t lock;
  char *path, *temporary; /* the name that `out` has meanwhile, where it has one */
  int front, spool, out;
  uint64_t spooled;
  Rows images, copies; /* Spooled, SpooledCopy */
};

static void release(StoreWriter *w) {
  int error = errno;
  if (w->front >= 0) close(w->front);
  if (w->spool >= 0) close(w->spool);
  if (w->out >= 0) close(w->out);
  if (w->temporary) unlink(w->temporary);
  free(w->temporary);
  free(w->path);
  free(w->images.rows);
  free(w->copies.rows);
  pthread_mutex_destroy(&w->lock);
  free(w);
  errno = error;
}

/* A file without a name in the folder of the one that is to be, so that nothing is left of it when the process dies. */
static int open_nameless(const char *path) {
  char *folder = strdup(path);
  if (!folder) return -1;
  int fd = open(dirname(folder), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  free(folder);
  return fd;
}

static int open_named(const char *path, char **ret_name) {
  if (asprintf(ret_name, "%s.XXXXXX", path) < 0) return *ret_name = NULL, -1;
  int fd = mkostemp(*ret_name, O_CLOEXEC);
  if (fd >= 0) return fd;
  free(*ret_name);
  return *ret_name = NULL, -1;
}

/* Where the file system knows no files without names, this one has had one. */
static int open_spool(const char *path) {
  char *name;
  int fd = open_nameless(path);
  if (fd >= 0 || (fd = open_named(path, &name)) < 0) return fd;
  unlink(name);
  free(name);
  return fd;
}

/* A store replaces a file, no device or pipe. */
static bool can_be_replaced(const char *path) {
  struct stat status;
  if (stat(path, &status) || S_ISREG(status.st_mode)) return true;
  return errno = S_ISDIR(status.st_mode) ? EISDIR : EEXIST, false;
}

StoreWriter *writer_begin(const char *path, const char *front) {
  StoreWriter *w = calloc(1, sizeof *w);
  if (!w) return NULL;
  pthread_mutex_init(&w->lock, NULL);
  w->front = w->out = -1;
  w->path = strdup(path);
  w->spool = w->path && can_be_replaced(path) ? open_spool(path) : -1;
  if (w->spool >= 0 && (!front || (w->front = open(front, O_RDONLY | O_CLOEXEC)) >= 0)) return w;
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

/* Room for one more row at the end. */
static void *add_row(Rows *rows, size_t size) {
  if (rows->count == rows->capacity) {
    size_t capacity = rows->capacity ? rows->capacity * 2 : 256;
    void *grown = realloc(rows->rows, capacity * size);
    if (!grown) return NULL;
    rows->rows = grown;
    rows->capacity = capacity;
  }
  return (char *)rows->rows + rows->count++ * size;
}

/* Writes to the spool. */
static bool spool(StoreWriter *w, const void *bytes, uint64_t size, uint64_t *ret_offset) {
  *ret_offset = w->spooled;
  w->spooled += size;
  return write_all(w->spool, bytes, size, *ret_offset);
}

bool writer_add_copy(StoreWriter *w, const void *bytes, uint64_t size, size_t *ret_copy) {
  pthread_mutex_lock(&w->lock);
  SpooledCopy *copy = add_row(&w->copies, sizeof *copy);
  *ret_copy = w->copies.count - 1;
  bool good = copy && spool(w, bytes, copy->size = size, &copy->offset);
  pthread_mutex_unlock(&w->lock);
  return good;
}

bool writer_add(StoreWriter *w, const ImageEntry *name, uint64_t content, size_t copy, const void *image) {
  pthread_mutex_lock(&w->lock);
  Spooled *row = add_row(&w->images, sizeof *row);
  if (row) *row = (Spooled){*name, content, copy};
  bool good = row && spool(w, image, name->size, &row->entry.offset);
  pthread_mutex_unlock(&w->lock);
  return good;
}

/* --- The end -------------------------------------------------------------------------------------------------------- */

static int compare(uint64_t a, uint64_t b) { return a < b ? -1 : a > b; }

static int by_name(const Spooled *a, const Spooled *b) {
  const ImageEntry *x = &a->entry, *y = &b->entry;
  if (x->file != y->file) return compare(x->file, y->file);
  if (x->target.ordered != y->target.ordered) return compare(x->target.ordered, y->target.ordered);
  return compare(x->target.features, y->target.features);
}

static int in_order(const void *a, const void *b) {
  int names = by_name(a, b);
  return names ? names : compare(((const Spooled *)a)->content, ((const Spooled *)b)->content);
}

/* A reader finds one image by a name. Which one it is must not depend on which thread was first. */
static void put_in_order(StoreWriter *w) {
  Spooled *images = w->images.rows;
  size_t kept = 0;
  if (w->images.count) qsort(images, w->images.count, sizeof *images, in_order);
  for (size_t i = 0; i < w->images.count; i++)
    if (!kept || by_name(&images[kept - 1], &images[i])) images[kept++] = images[i];
  w->images.count = kept;
}

/* How much of `front` comes before a store it may have. Of its mode, what nobody else gets to write by it, and nobody's rights:
 * the file is the caller's, whosever `front` is, and counts only if others cannot write it. */
static bool front_size(const StoreWriter *w, uint64_t *ret_size, mode_t *ret_mode) {
  struct stat status;
  ImageTrailer trailer;
  *ret_size = 0;
  *ret_mode = 0644;
  if (w->front < 0) return true;
  if (fstat(w->front, &status)) return false;
  *ret_size = (uint64_t)status.st_size;
  *ret_mode = status.st_mode & 0755;
  if (status.st_size >= (off_t)sizeof trailer &&
      pread(w->front, &trailer, sizeof trailer, status.st_size - (off_t)sizeof trailer) == sizeof trailer &&
      image_read_trailer(&trailer, *ret_size))
    *ret_size = trailer.offset;
  return true;
}

/* Images one behind the other, and behind those of one copy that, at *at in the store, which moves on. */
static bool write_images(const StoreWriter *w, ImageEntry *entries, uint64_t offset, uint64_t *at) {
  const Spooled *images = w->images.rows;
  const SpooledCopy *copies = w->copies.rows;
  bool good = true;
  for (size_t i = 0, first = 0; good && i < w->images.count; i++) {
    entries[i] = images[i].entry;
    entries[i].offset = *at;
    good = copy(w->spool, images[i].entry.offset, w->out, offset + *at, entries[i].size);
    *at += entries[i].size;
    if (i + 1 < w->images.count && images[i + 1].copy == images[i].copy) continue;
    const SpooledCopy *shared = &copies[images[i].copy];
    good = good && copy(w->spool, shared->offset, w->out, offset + *at, shared->size);
    for (; first <= i; first++) entries[first].copies = *at;
    *at += shared->size;
  }
  return good;
}

/* Header, directory, images with their copies, trailer, behind the first `offset` bytes of the file. */
static bool write_store(const StoreWriter *w, uint64_t offset) {
  size_t head_size = sizeof(ImageHeader) + w->images.count * sizeof(ImageEntry);
  ImageHeader *header = calloc(1, head_size);
  if (!header) return false;
  *header = (ImageHeader){.magic = IMAGE_MAGIC, .format = IMAGE_FORMAT, .image_count = (uint32_t)w->images.count,
                          .build = IMAGE_BUILD};
  uint64_t at = head_size;
  bool good = write_images(w, (ImageEntry *)(header + 1), offset, &at);
  ImageTrailer trailer = {.magic = IMAGE_MAGIC, .offset = offset, .size = at + sizeof trailer};
  trailer.checksum = image_checksum(header, head_size, trailer.size);
  good = good && write_all(w->out, header, head_size, offset) && write_all(w->out, &trailer, sizeof trailer, offset + at);
  free(header);
  return good;
}

static bool link_name(const StoreWriter *w, char *name) {
  char file[32];
  snprintf(file, sizeof file, "/proc/self/fd/%d", w->out);
  return !linkat(AT_FDCWD, file, AT_FDCWD, name, AT_SYMLINK_FOLLOW);
}

/* link(2) replaces nothing and rename(2) wants a name: a file without one gets one first. */
static bool take_place(StoreWriter *w) {
  for (unsigned i = 0; !w->temporary && i < ATTEMPTS; i++) {
    char *name;
    if (asprintf(&name, "%s.%d.%u", w->path, (int)getpid(), i) < 0) return false;
    if (link_name(w, name)) w->temporary = name;
    else free(name);
    if (!w->temporary && errno != EEXIST) return false;
  }
  if (!w->temporary || rename(w->temporary, w->path)) return false;
  free(w->temporary);
  w->temporary = NULL;
  return true;
}

static bool write_file(StoreWriter *w) {
  uint64_t front;
  mode_t mode;
  w->out = access("/proc/self/fd", X_OK) ? -1 : open_nameless(w->path); /* link_name() goes that way */
  if (w->out < 0) w->out = open_named(w->path, &w->temporary);
  return w->out >= 0 && front_size(w, &front, &mode) && (!front || copy(w->front, 0, w->out, 0, front)) &&
         write_store(w, (front + PAGE - 1) & ~(uint64_t)(PAGE - 1)) && !fchmod(w->out, mode) && !fsync(w->out) &&
         take_place(w);
}

/* While a file has a name that is not its own no signal ends the process, but for SIGKILL. */
bool writer_finish(StoreWriter *w) {
  sigset_t all, before;
  sigfillset(&all);
  put_in_order(w);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  bool good = write_file(w);
  release(w);
  pthread_sigmask(SIG_SETMASK, &before, NULL);
  return good;
}

void writer_abandon(StoreWriter *w) { release(w); }
