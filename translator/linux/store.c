/* Translations made before, and which file is mapped where.
 *
 * They stand behind the ELF part of the translator's own file, which /proc/self/exe opens from every mount namespace, or in
 * the file STELE_STORE names. They are code, so such a file has to be root's or the user's own, and nobody else's to write. */
#include "linux/store.h"

#include <string.h>

#include <linux/errno.h>
#include <linux/fcntl.h>
#include <linux/mman.h>

#include "common/live-translator.h"
#include "image/image.h"
#include "linux/host-stat.h"
#include "linux/linux.h"
#include "linux/perf-map.h"
#include "runtime/runtime.h"

#define OWN_FILE "/proc/self/exe"

enum { WRITABLE_BY_OTHERS = 022, READABLE_BY_OTHERS = 4, REGULAR = 0100000, FILE_TYPE = 0170000 };

static bool is_trusted(const HostStat *status) {
  if ((status->mode & FILE_TYPE) != REGULAR || status->mode & WRITABLE_BY_OTHERS) return false;
  return status->uid == 0 || (int64_t)status->uid == host_call(__NR_geteuid);
}

/* Whether stores grow while programs run, by what they say is missing; common/live-translator.h. */
static bool is_live;
static bool have_stores;

static const uint8_t *map(int fd, uint64_t offset, uint64_t size) {
  uint8_t *place = base_pages_alloc(size);
  if (!place) return NULL;
  return host_call(__NR_mmap, place, size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, offset) < 0 ? NULL : place;
}

static void use_store(const uint8_t *store, uint64_t size) {
  runtime_use_store(store, size);
  have_stores = true;
}

/* All of them by one mapping. What the index says is looked at as anything else that is read. */
static void use_live_stores(int fd, uint64_t size, const LiveIndex *index) {
  const uint8_t *file = index->count <= LIVE_STORES_MAX ? map(fd, 0, size) : NULL;
  for (uint64_t i = 0; file && i < index->count; i++) {
    uint64_t start = index->stores[i].start, end = index->stores[i].end;
    if (start & (LIVE_PAGE - 1) || end > size || start > end || end - start < sizeof(ImageTrailer)) continue;
    ImageTrailer trailer;
    memcpy(&trailer, file + end - sizeof trailer, sizeof trailer);
    if (image_read_trailer(&trailer, end - start)) use_store(file + start + trailer.offset, trailer.size);
  }
}

/* Whoever can write the translator's own file needs no store: whose it is does not matter, and is not always to be seen
 * (user_namespaces(7)). */
static void use_stores(int fd, bool own) {
  static union {
    LiveIndex index;
    ImageTrailer trailers[sizeof(LiveIndex) / sizeof(ImageTrailer)];
  } end;
  HostStat status;
  if (host_call(__NR_fstat, fd, &status) < 0 || (!own && !is_trusted(&status))) return;
  uint64_t size = (uint64_t)status.size, length = size < sizeof end ? size : sizeof end;
  uint8_t *last = (uint8_t *)&end + sizeof end - length;
  if (host_call(__NR_pread64, fd, last, length, size - length) != (int64_t)length) return;
  const ImageTrailer *trailer = &end.trailers[sizeof end / sizeof *trailer - 1];
  is_live = length == sizeof end && end.index.magic == LIVE_MAGIC;
  if (is_live) use_live_stores(fd, size, &end.index);
  if (is_live || !image_read_trailer(trailer, size)) return;
  const uint8_t *store = map(fd, trailer->offset, trailer->size);
  if (store) use_store(store, trailer->size);
}

static char name[LINUX_PATH_MAX]; /* the kernel's, of a store that is a file of its own */

const char *linux_store_name(void) { return name; }

static void keep_name(int fd) {
  char link[32];
  base_format(link, sizeof link, "/proc/self/fd/%d", fd);
  host_call(__NR_readlinkat, AT_FDCWD, link, name, sizeof name - 1);
}

void linux_store_open(const char *path) {
  int64_t fd = host_call(__NR_openat, AT_FDCWD, path ? path : OWN_FILE, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return;
  use_stores((int)fd, !path);
  if (have_stores && path) keep_name((int)fd);
  if (path) is_live = false; /* a copy of a file that was */
  host_call(__NR_close, fd);
}

/* What others may not read or has no name any more is not translated to be kept (guest-agent/translations.h). */
static bool is_lasting(const HostStat *status) { return status->mode & READABLE_BY_OTHERS && status->links > 0; }

/* Tells who gives the stores out that they have nothing of a file. */
static void report(uint64_t address, uint64_t file) {
  LiveHint hint = {address, file};
  int64_t fd = host_call(__NR_openat, AT_FDCWD, OWN_FILE, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  if (host_call(__NR_ioctl, fd, LIVE_HINT, &hint) == -ENOTTY) is_live = false;
  host_call(__NR_close, fd);
}

void linux_store_mapped(int fd, const HostStat *status, uint64_t start, uint64_t length, uint64_t offset) {
  static uint64_t head[IMAGE_HEAD_BYTES / 8]; /* the mappings' lock is held */
  linux_perf_mapped(fd, start, length, offset);
  if (!have_stores && !is_live) return;
  int64_t got = host_call(__NR_pread64, fd, head, sizeof head, 0);
  if (got <= 0) return;
  uint64_t file = image_file_key(head, (uint64_t)got, (uint64_t)status->size);
  runtime_file_mapped(file, start, length, offset);
  if (is_live && is_lasting(status) && runtime_takes_images() && !runtime_has_image(file)) report(start, file);
}
