/* Translations made before, and which file is mapped where.
 *
 * They stand behind the ELF part of the translator's own file, which /proc/self/exe opens from every mount namespace, or in
 * the file STELE_STORE names. They are code, so that file has to be root's or the user's own, and nobody else's to write. */
#include "linux/store.h"

#include <linux/fcntl.h>
#include <linux/mman.h>

#include "image/image.h"
#include "linux/host-stat.h"
#include "linux/linux.h"
#include "linux/perf-map.h"
#include "runtime/runtime.h"

enum { WRITABLE_BY_OTHERS = 022, REGULAR = 0100000, FILE_TYPE = 0170000 };

static bool is_trusted(const HostStat *status) {
  if ((status->mode & FILE_TYPE) != REGULAR || status->mode & WRITABLE_BY_OTHERS) return false;
  return status->uid == 0 || (int64_t)status->uid == host_call(__NR_geteuid);
}

/* Maps the store at the end of a file into the translator's part of the address space. */
static const void *map_store(int fd, uint64_t *ret_size) {
  HostStat status;
  ImageTrailer trailer;
  if (host_call(__NR_fstat, fd, &status) < 0 || !is_trusted(&status)) return NULL;
  uint64_t size = (uint64_t)status.size;
  if (size < sizeof trailer ||
      host_call(__NR_pread64, fd, &trailer, sizeof trailer, size - sizeof trailer) != (int64_t)sizeof trailer ||
      !image_read_trailer(&trailer, size))
    return NULL;
  void *place = base_pages_alloc(trailer.size);
  if (!place) return NULL;
  int64_t got = host_call(__NR_mmap, place, trailer.size, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, trailer.offset);
  if (got < 0) return NULL;
  *ret_size = trailer.size;
  return place;
}

static char name[LINUX_PATH_MAX]; /* the kernel's, of a store that is a file of its own */

const char *linux_store_name(void) { return name; }

static void keep_name(int fd) {
  char link[32];
  base_format(link, sizeof link, "/proc/self/fd/%d", fd);
  host_call(__NR_readlinkat, AT_FDCWD, link, name, sizeof name - 1);
}

void linux_store_open(const char *path) {
  int64_t fd = host_call(__NR_openat, AT_FDCWD, path ? path : "/proc/self/exe", O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return;
  uint64_t size;
  const void *store = map_store((int)fd, &size);
  if (store) runtime_use_store(store, size);
  if (store && path) keep_name((int)fd);
  host_call(__NR_close, fd);
}

void linux_store_mapped(int fd, const HostStat *status, uint64_t start, uint64_t length, uint64_t offset) {
  static uint64_t head[IMAGE_HEAD_BYTES / 8]; /* the mappings' lock is held */
  linux_perf_mapped(fd, start, length, offset);
  if (!runtime_has_store()) return;
  int64_t got = host_call(__NR_pread64, fd, head, sizeof head, 0);
  if (got > 0) runtime_file_mapped(image_file_key(head, (uint64_t)got, (uint64_t)status->size), start, length, offset);
}
