/* The guest's address space: mmap, munmap, mprotect, mremap, brk, System V shared memory, rings of asynchronous I/O,
 * and the map of it all (guest/memory-map.h).
 *
 * The host kernel would place mappings anywhere up to 2^48; guests must see addresses below 2^47, so places
 * are chosen here, highest first like the kernel does, and asked for with MAP_FIXED_NOREPLACE. The host
 * never gets PROT_EXEC: guest code is data. Execute implies read on x86 as the guest's pages are made.
 * One lock spans each change of the host's mappings and of the map, so they never disagree for long. Only what grows
 * down does so without a call: the host's kernel extends it, and notice_growth() learns of it when it matters. */
#include <linux/mman.h>
#include <linux/fcntl.h>
#include <linux/magic.h>
#include <asm/statfs.h>

#include "linux/host-stat.h"
#include "linux/linux.h"
#include "linux/memory.h"
#include "linux/store.h"
#include "linux/watch.h"
#include "runtime/runtime.h"

enum {
  X86_MAP_32BIT = 0x40,
  X86_MAP_ABOVE4G = 0x80,
  MAP_HUGE_BITS = 26,
  GUEST_PROT_GROWSDOWN = 0x01000000,
  SHM_READ_ONLY = 010000,
  SHM_ROUND = 020000,
  SHM_REMAPPING = 040000,
  SHM_EXECUTE = 0100000,
  READ_IMPLIES_EXECUTE = 0x0400000, /* personality */
  OPEN_ACCESS_MODE = 3,
  DONTNEED_LOCKED = 24, /* madvise, since Linux 5.18 */
  FILE_TYPE = 0170000, /* of a mode */
  FILE_REGULAR = 0100000
};

#define LOWEST_ADDRESS    UINT64_C(0x10000) /* vm.mmap_min_addr */
#define RANGE_32BIT_START UINT64_C(0x40000000)
#define RANGE_32BIT_END   UINT64_C(0x80000000)

typedef struct Attachment {
  struct Attachment *next;
  uint64_t address, length;
} Attachment;

static struct {
  BaseLock lock;
  uint64_t top; /* new mappings go below */
  uint64_t brk_start, brk;
  uint64_t anonymous_objects; /* how many shared mappings without a file there have been: their identities */
  uint64_t mapped[16];        /* bits of all files that have been mapped, by a hash: most are not among them */
  bool read_implies_exec;     /* personality(READ_IMPLIES_EXEC) */
  Attachment *attachments;    /* shmat() */
} memory = {.lock = {.rank = BASE_RANK_MAPPINGS}};

void linux_memory_init(uint64_t stack_low, bool randomize) {
  uint64_t gap = UINT64_C(1) << 27; /* as the kernel: room below the stack */
  uint64_t random = 0;
  if (randomize) host_call(__NR_getrandom, &random, sizeof random, 0);
  memory.top = (stack_low - gap - ((random & 0xfffffff) << 12)) & ~(MEMORY_PAGE_SIZE - 1);
}

static void share_locked(void);

void linux_memory_before_fork(void) {
  base_lock(&memory.lock);
  share_locked(); /* with the child */
}

static uint64_t page_up(uint64_t length) {
  return (length + MEMORY_PAGE_SIZE - 1) & ~(MEMORY_PAGE_SIZE - 1);
}

static bool is_page(uint64_t address) { return !(address & (MEMORY_PAGE_SIZE - 1)); }

static int host_protection(int protection) {
  int host = protection & (PROT_READ | PROT_WRITE);
  if (protection & (PROT_EXEC | PROT_WRITE)) host |= PROT_READ;
  return host;
}

/* The translator's own memory is below 2^47 where the kernel has no more; the guest must not replace it. */
static bool is_reserved(uint64_t start, uint64_t end) {
  extern const char __ehdr_start[], _end[];
  uint64_t window_start, window_end;
  base_window(&window_start, &window_end);
  return (start < window_end && end > window_start) ||
         (start < (uint64_t)_end && end > (uint64_t)__ehdr_start);
}

static bool in_guest(uint64_t address, uint64_t length) {
  return length <= MEMORY_GUEST_END && address <= MEMORY_GUEST_END - length;
}

/* --- Code that changes --------------------------------------------------------------------------------- */

/* Whether the runtime may have translated from such memory, or have write-protected it for what it translated from
 * another view: then its lock is held (runtime_change_begin()) from before the host's call until the map is right. */
static bool may_be_code(uint32_t flags) { return flags & (MEMORY_EXEC | MEMORY_SHARED | MEMORY_CONSTANT); }

/* Gives pages of [start, end) that the runtime may have write-protected the guest's protection back. */
static void restore_protection(uint64_t start, uint64_t end) {
  MemoryRange range;
  for (uint64_t at = start; memory_map_next(at, &range) && range.start < end; at = range.end) {
    uint64_t low = range.start > start ? range.start : start, high = range.end < end ? range.end : end;
    if (range.flags & MEMORY_WRITE && may_be_code(range.flags))
      host_call(__NR_mprotect, low, high - low, host_protection((int)(range.flags & MEMORY_PROTECTION)));
  }
}

static void change_begin(bool code) {
  if (code) runtime_change_begin();
}

/* What was done has replaced mapping and protection of [start, end), or has failed and left them as they were. */
static void change_end(bool code, bool done, uint64_t start, uint64_t end) {
  if (code) runtime_change_end(done ? start : 0, done ? end - start : 0);
}

/* The contents of [start, end) have become others; mapping and protection are as before. */
static void contents_changed(uint64_t start, uint64_t end) {
  if (!may_be_code(memory_map_any(start, end))) return;
  runtime_change_begin();
  restore_protection(start, end);
  runtime_change_end(start, end - start);
}

static void forget_mapping(uint64_t start, uint64_t end, uint32_t flags) {
  change_begin(may_be_code(flags));
  memory_map_clear(start, end);
  change_end(may_be_code(flags), true, start, end);
}

/* The child has our code cache, but not all of the memory that was translated from: madvise(2). */
static void apply_fork_advice(void) {
  MemoryRange range;
  for (uint64_t at = 0; memory_map_next(at, &range); at = range.end)
    if (range.flags & MEMORY_DONTFORK) forget_mapping(range.start, range.end, range.flags);
    else if (range.flags & MEMORY_WIPEONFORK) contents_changed(range.start, range.end);
}

void linux_memory_after_fork(bool in_child) {
  if (in_child) apply_fork_advice();
  base_unlock(&memory.lock);
}

void linux_memory_changed(uint64_t start, uint64_t end) {
  base_lock(&memory.lock);
  contents_changed(start, end);
  base_unlock(&memory.lock);
}

static uint64_t *mapped_word(uint64_t object) { return &memory.mapped[object >> 6 & 15]; }

static uint64_t mapped_bit(uint64_t object) { return UINT64_C(1) << (object & 63); }

bool linux_memory_is_mapped(uint64_t object) {
  MemoryRange view;
  return object && __atomic_load_n(mapped_word(object), __ATOMIC_RELAXED) & mapped_bit(object) &&
         memory_map_next_view(object, ~UINT32_C(0), 0, &view);
}

static void object_changed(uint64_t object) {
  MemoryRange view;
  for (uint64_t at = 0; memory_map_next_view(object, MEMORY_EXEC, at, &view); at = view.end)
    contents_changed(view.start, view.end);
}

void linux_memory_object_changed(uint64_t object) {
  if (!linux_memory_is_mapped(object)) return;
  base_lock(&memory.lock);
  object_changed(object);
  base_unlock(&memory.lock);
}

static void unwatch(const MemoryRange *view) {
  if (view->flags & MEMORY_UNWATCHED) return;
  memory_map_change(view->start, view->end, 0, MEMORY_UNWATCHED);
  if (view->flags & MEMORY_EXEC) contents_changed(view->start, view->end);
}

void linux_memory_unwatch(uint64_t object) {
  MemoryRange view;
  base_lock(&memory.lock);
  for (uint64_t at = 0; memory_map_next_view(object, ~UINT32_C(0), at, &view); at = view.end) unwatch(&view);
  base_unlock(&memory.lock);
}

static void share_locked(void) {
  MemoryRange range;
  linux_watch_forget();
  for (uint64_t at = 0; memory_map_next(at, &range); at = range.end)
    if (range.flags & MEMORY_SHARED) unwatch(&range);
}

void linux_memory_share(void) {
  base_lock(&memory.lock);
  share_locked();
  base_unlock(&memory.lock);
}

/* --- mmap ------------------------------------------------------------------------------------------- */

/* Whether a file belongs to installed software, which nobody writes in place: FHS 3.0, 4.1 ("/usr is shareable,
 * read-only data"). Many programs map such files shared and read-only: glibc its table of character sets. */
static bool is_installed(int fd) {
  static const char *const folders[] = {"/usr/", "/lib", "/opt/"};
  char link[32], path[16] = "";
  base_format(link, sizeof link, "/proc/self/fd/%d", fd);
  if (host_call(__NR_readlinkat, AT_FDCWD, link, path, sizeof path - 1) <= 0) return false;
  for (size_t i = 0; i < sizeof folders / sizeof *folders; i++)
    if (!strncmp(path, folders[i], strlen(folders[i]))) return true;
  return false;
}

/* Whether a shared mapping lets others see or change what this process' threads order: writable ones do, and
 * read-only ones of files that another process may have mapped to write. */
static bool is_shared_memory(int protection, int flags, int fd) {
  enum { READ_ONLY_FILE_SYSTEM = 1 }; /* ST_RDONLY */
  if ((flags & MAP_TYPE) == MAP_PRIVATE) return false;
  if (protection & PROT_WRITE || flags & MAP_ANONYMOUS) return true;
  struct statfs file_system;
  if (host_call(__NR_fstatfs, fd, &file_system) < 0) return false; /* not open: nothing will be mapped */
  if (file_system.f_type == TMPFS_MAGIC) return true;
  return !(file_system.f_flags & READ_ONLY_FILE_SYSTEM) && !is_installed(fd);
}

/* Numbers for what is mapped: bit 63 set for a file's, bit 62 for a System V segment's, else counted. */
uint64_t linux_memory_object(const HostStat *status) {
  return ((status->device * UINT64_C(0x9e3779b97f4a7c15)) ^ status->inode) | UINT64_C(1) << 63;
}

/* Whether nobody can write or cut a file any more, and nobody has a mapping that could: such seals are never taken off
 * (fcntl(2), "File Sealing"). Container run-times execute themselves from a memfd with them. */
static bool is_sealed(int fd) {
  const int64_t contents = F_SEAL_WRITE | F_SEAL_SHRINK;
  int64_t seals = host_call(__NR_fcntl, fd, F_GET_SEALS);
  return seals >= 0 && (seals & contents) == contents;
}

/* Whether a file may be changed while it is mapped without a call or a store here that tells. Of a private mapping that
 * is assumed where this process can write the file (linux_watch_opened() sees it when that begins later), or its child
 * could: it has a descriptor for writing, or the file has no name any more. Programs and libraries are not so, nor is
 * what is sealed. A file with a name that another process writes in place meanwhile is not noticed unless it is mapped
 * shared. */
static bool is_unwatched_file(bool shared, bool executable, int fd, const HostStat *status, uint64_t object) {
  MemoryRange view;
  if (shared) return !linux_watch_is_own(object) && !is_installed(fd) && !is_sealed(fd);
  if ((status->mode & FILE_TYPE) != FILE_REGULAR) return false; /* /dev/zero */
  int64_t flags = host_call(__NR_fcntl, fd, F_GETFL);
  if (status->links == 0 || (flags > 0 && flags & OPEN_ACCESS_MODE)) return !is_sealed(fd);
  bool mapped_shared = memory_map_next_view(object, MEMORY_SHARED, 0, &view);
  if (!mapped_shared && !executable) return false;
  bool installed = is_installed(fd);
  if (mapped_shared && !installed) return true;
  return (mapped_shared || !installed) && linux_watch_may_write(object);
}

typedef struct Object {
  uint64_t number; /* 0: private memory */
  uint32_t flags;  /* MEMORY_SHARED, MEMORY_UNWATCHED */
  bool program;    /* a file with code of its own: mapped private and executable */
  HostStat status; /* of a file */
} Object;

static Object object_of(int protection, int flags, int fd) {
  Object object = {0};
  bool shared = (flags & MAP_TYPE) != MAP_PRIVATE;
  if (flags & MAP_ANONYMOUS || host_call(__NR_fstat, fd, &object.status) < 0)
    return shared ? (Object){++memory.anonymous_objects, MEMORY_SHARED} : object;
  object.number = linux_memory_object(&object.status);
  bool unwatched = is_unwatched_file(shared, protection & PROT_EXEC, fd, &object.status, object.number);
  __atomic_fetch_or(mapped_word(object.number), mapped_bit(object.number), __ATOMIC_RELAXED);
  object.flags = (shared ? MEMORY_SHARED : 0) | (unwatched ? MEMORY_UNWATCHED : 0);
  object.program = !object.flags && protection & PROT_EXEC;
  return object;
}

static uint64_t object_of_segment(int id) { return UINT64_C(1) << 62 | (uint32_t)id; }

/* The protection that the guest's kernel makes of the one asked for. */
static int with_personality(int protection) {
  return memory.read_implies_exec && protection & PROT_READ ? protection | PROT_EXEC : protection;
}

/* Enters in the map what the host's kernel has added below ranges of [start, end), or right above it, that grow. */
static void notice_growth(uint64_t start, uint64_t end) {
  MemoryRange range;
  for (uint64_t at = start; memory_map_next(at, &range); at = range.end) {
    uint64_t low = at, high = range.start;
    while (range.flags & MEMORY_GROWS && low < high) { /* all of [high, range.start) is mapped, nothing below `low` */
      uint64_t middle = low + (((high - low) / 2) & ~(MEMORY_PAGE_SIZE - 1));
      if (host_call(__NR_msync, middle, range.start - middle, MS_ASYNC) == 0) high = middle;
      else low = middle + MEMORY_PAGE_SIZE;
    }
    if (high < range.start) memory_map_set(high, range.start, range.flags);
    if (range.start >= end) return;
  }
}

/* Views of memory are new or can be written now: code translated from others did not reckon with writes there. */
static void aliases_changed(uint64_t start, uint64_t end) {
  MemoryRange fresh, view;
  for (uint64_t from = start; memory_map_next(from, &fresh) && fresh.start < end; from = fresh.end) {
    uint64_t low = fresh.offset, high = fresh.offset + (fresh.end - fresh.start);
    if (!(fresh.flags & MEMORY_SHARED)) continue;
    for (uint64_t at = 0; memory_map_next_view(fresh.object, MEMORY_EXEC, at, &view); at = view.end)
      if (view.offset < high && view.offset + (view.end - view.start) > low) contents_changed(view.start, view.end);
  }
}

typedef struct MapRequest {
  uint64_t length, alignment;
  int protection, flags, fd; /* flags: the host's, without address bits */
  uint64_t offset;
} MapRequest;

static int64_t map_host(const MapRequest *request, uint64_t address, int address_flags) {
  int64_t got = host_call(__NR_mmap, address, request->length, host_protection(request->protection),
                          request->flags | address_flags, request->fd, request->offset);
  if (got < 0 || (uint64_t)got == address) return got;
  host_call(__NR_munmap, got, request->length); /* a kernel that takes the address for a hint */
  return -EEXIST;
}

/* The highest place in [low, high) that is free for both guest and host. */
static int64_t map_anywhere(const MapRequest *request, uint64_t low, uint64_t high) {
  for (uint64_t step = UINT64_C(1) << 16;; step *= 2) {
    uint64_t address = memory_map_find_gap(request->length, request->alignment, low, high);
    if (!address) return -ENOMEM;
    int64_t got = is_reserved(address, address + request->length)
                      ? -EEXIST
                      : map_host(request, address, MAP_FIXED_NOREPLACE);
    if (got != -EEXIST) return got;
    high = address + request->length; /* something of the host's is there: go below it */
    if (high < low + step) return -ENOMEM;
    high -= step;
  }
}

static int64_t map_fixed(const MapRequest *request, uint64_t address, bool replace) {
  uint64_t end = address + request->length;
  if (!is_page(address)) return -EINVAL;
  if (!in_guest(address, request->length)) return -ENOMEM;
  uint32_t old = memory_map_any(address, end);
  if (!replace) return memory_map_overlaps(address, end)
                           ? -EEXIST
                           : map_host(request, address, MAP_FIXED_NOREPLACE);
  if (is_reserved(address, end)) return -ENOMEM;
  if (old & MEMORY_SEALED) return -EPERM;
  return map_host(request, address, MAP_FIXED);
}

static int64_t map_hinted(const MapRequest *request, uint64_t hint, bool low_2gb) {
  hint &= ~(MEMORY_PAGE_SIZE - 1);
  uint64_t end = hint + request->length;
  if (hint >= LOWEST_ADDRESS && in_guest(hint, request->length) && !memory_map_overlaps(hint, end) &&
      !is_reserved(hint, end) && !(hint & (request->alignment - 1))) {
    int64_t got = map_host(request, hint, MAP_FIXED_NOREPLACE);
    if (got != -EEXIST) return got;
  }
  if (low_2gb) return map_anywhere(request, RANGE_32BIT_START, RANGE_32BIT_END);
  int64_t got = map_anywhere(request, LOWEST_ADDRESS, memory.top);
  return got == -ENOMEM ? map_anywhere(request, LOWEST_ADDRESS, MEMORY_GUEST_END) : got;
}

static uint64_t huge_page_size(int flags) {
  int bits = (flags >> MAP_HUGE_BITS) & 63;
  return UINT64_C(1) << (bits ? bits : 21);
}

static int64_t map_with_flags(uint64_t address, uint64_t length, int protection, int flags, int fd,
                              uint64_t offset, uint32_t extra) {
  if (!length || !is_page(offset)) return -EINVAL;
  uint64_t alignment = flags & MAP_HUGETLB ? huge_page_size(flags) : MEMORY_PAGE_SIZE;
  length = (length + alignment - 1) & ~(alignment - 1);
  if (!length || length > MEMORY_GUEST_END) return -ENOMEM;
  int address_bits = MAP_FIXED | MAP_FIXED_NOREPLACE | X86_MAP_32BIT | X86_MAP_ABOVE4G;
  protection = with_personality(protection);
  if (flags & MAP_GROWSDOWN) extra |= MEMORY_GROWS;
  MapRequest request = {length, alignment, protection, flags & ~address_bits, fd, offset};
  if (is_shared_memory(protection, flags, fd)) runtime_memory_shared();
  Object object = object_of(protection, flags, fd);
  bool replaces = flags & MAP_FIXED && !(flags & MAP_FIXED_NOREPLACE) && in_guest(address, length);
  bool code = replaces && may_be_code(memory_map_any(address, address + length));
  int64_t got;
  change_begin(code);
  if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) got = map_fixed(&request, address, !(flags & MAP_FIXED_NOREPLACE));
  else got = map_hinted(&request, address, flags & X86_MAP_32BIT);
  if (got >= 0)
    memory_map_set_object(got, got + length, (protection & MEMORY_PROTECTION) | object.flags | extra, object.number,
                          offset);
  change_end(code, got >= 0, address, address + length);
  if (got >= 0 && object.program) linux_store_mapped(fd, &object.status, (uint64_t)got, length, offset);
  if (got >= 0 && object.flags & MEMORY_SHARED) aliases_changed((uint64_t)got, (uint64_t)got + length);
  return got;
}

int64_t linux_map(uint64_t address, uint64_t length, int protection, int flags, int fd,
                  uint64_t offset) {
  base_lock(&memory.lock);
  int64_t got = map_with_flags(address, length, protection, flags, fd, offset, 0);
  base_unlock(&memory.lock);
  return got;
}

int64_t linux_map_stack(uint64_t low, uint64_t length, int protection) {
  base_lock(&memory.lock);
  int64_t got = map_with_flags(low, length, protection,
                               MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE | MAP_GROWSDOWN,
                               -1, 0, MEMORY_STACK);
  base_unlock(&memory.lock);
  return got;
}

int64_t sys_mmap(GuestCpu *cpu, const uint64_t a[6]) {
  return linux_map(a[0], a[1], (int)a[2], (int)a[3], (int)a[4], a[5]);
}

/* --- munmap, mprotect, madvise ---------------------------------------------------------------------- */

static int64_t unmap_locked(uint64_t start, uint64_t end) {
  MemoryRange range;
  if (memory_map_next(start, &range) && range.start > start && range.flags & MEMORY_GROWS) notice_growth(start, end);
  uint32_t old = memory_map_any(start, end);
  if (old & MEMORY_SEALED) return -EPERM;
  int64_t error = 0;
  change_begin(may_be_code(old));
  for (uint64_t at = start; error == 0 && memory_map_next(at, &range) && range.start < end; at = range.end) {
    uint64_t low = range.start > start ? range.start : start;
    uint64_t high = range.end < end ? range.end : end;
    error = host_call(__NR_munmap, low, high - low);
    if (error == 0) memory_map_clear(low, high);
  }
  restore_protection(start, end); /* of what is left when one could not be unmapped */
  change_end(may_be_code(old), true, start, end);
  return error;
}

int64_t linux_unmap(uint64_t address, uint64_t length) {
  if (!is_page(address) || !length || !in_guest(address, page_up(length))) return -EINVAL;
  base_lock(&memory.lock);
  int64_t result = unmap_locked(address, address + page_up(length));
  base_unlock(&memory.lock);
  return result;
}

int64_t sys_munmap(GuestCpu *cpu, const uint64_t a[6]) { return linux_unmap(a[0], a[1]); }

/* The end of what is mapped from `start` on without a hole, at most `end`. */
static uint64_t end_of_mapped(uint64_t start, uint64_t end) {
  MemoryRange range;
  uint64_t at = start;
  while (at < end && memory_map_next(at, &range) && range.start <= at) at = range.end;
  return at < end ? at : end;
}

/* As the kernel does: up to a hole, which is told of. */
static int64_t protect_locked(uint64_t start, uint64_t wanted_end, int protection) {
  if (!memory_map_covers(start, wanted_end)) notice_growth(start, wanted_end);
  uint64_t end = end_of_mapped(start, wanted_end);
  if (end == start) return -ENOMEM;
  uint32_t old = memory_map_any(start, end);
  if (old & MEMORY_SEALED) return -EPERM;
  if (protection & PROT_WRITE && old & MEMORY_SHARED) runtime_memory_shared();
  bool code = may_be_code(old | (uint32_t)(protection & MEMORY_EXEC));
  change_begin(code);
  int64_t error = host_call(__NR_mprotect, start, end - start, host_protection(protection));
  if (error == 0) memory_map_change(start, end, MEMORY_PROTECTION, protection & MEMORY_PROTECTION);
  else if (code) restore_protection(start, end); /* it may have failed half-way */
  change_end(code, true, start, end);
  if (!code && memory_map_any(start, end) & MEMORY_CONSTANT) runtime_memory_changed(start, end - start); /* since `old` */
  if (protection & PROT_WRITE && old & MEMORY_SHARED) aliases_changed(start, end);
  return !error && end < wanted_end ? -ENOMEM : error;
}

int64_t linux_protect(uint64_t address, uint64_t length, int protection) {
  uint64_t end = address + page_up(length);
  if (!is_page(address)) return -EINVAL;
  if (!length) return 0;
  if (protection & ~(MEMORY_PROTECTION | GUEST_PROT_GROWSDOWN | PROT_SEM)) return -EINVAL;
  if (!in_guest(address, page_up(length))) return -ENOMEM;
  base_lock(&memory.lock);
  MemoryRange range;
  int64_t result = 0;
  if (protection & GUEST_PROT_GROWSDOWN && memory_map_next(address, &range) && range.start < end) {
    if (range.flags & MEMORY_GROWS) address = range.start;
    else result = -EINVAL;
  }
  if (!result) result = protect_locked(address, end, with_personality(protection & MEMORY_PROTECTION));
  base_unlock(&memory.lock);
  return result;
}

int64_t sys_mprotect(GuestCpu *cpu, const uint64_t a[6]) {
  return linux_protect(a[0], a[1], (int)a[2]);
}

/* Without protection keys, as a processor without PKU: only the default key exists. */
int64_t sys_pkey_mprotect(GuestCpu *cpu, const uint64_t a[6]) {
  return (int)a[3] == -1 || a[3] == 0 ? linux_protect(a[0], a[1], (int)a[2]) : -EINVAL;
}

int64_t sys_pkey_alloc(GuestCpu *cpu, const uint64_t a[6]) { return a[0] || a[1] & ~3ul ? -EINVAL : -ENOSPC; }

int64_t sys_pkey_free(GuestCpu *cpu, const uint64_t a[6]) { return -EINVAL; }

/* Made a hole in what is mapped there: all its views show zeros. */
static void removed(uint64_t start, uint64_t end) {
  MemoryRange range;
  base_lock(&memory.lock);
  for (uint64_t at = start; memory_map_next(at, &range) && range.start < end; at = range.end)
    if (range.object) object_changed(range.object);
  base_unlock(&memory.lock);
}

/* Advice about forks, and how it changes a mapping's flags. */
typedef struct ForkAdvice {
  int number;
  uint32_t clear, set; /* MEMORY_* */
} ForkAdvice;

static const ForkAdvice *fork_advice(int number) {
  static const ForkAdvice rows[] = {{MADV_DONTFORK, 0, MEMORY_DONTFORK},
                                    {MADV_DOFORK, MEMORY_DONTFORK, 0},
                                    {MADV_WIPEONFORK, 0, MEMORY_WIPEONFORK},
                                    {MADV_KEEPONFORK, MEMORY_WIPEONFORK, 0}};
  for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
    if (rows[i].number == number) return &rows[i];
  return NULL;
}

/* As the kernel does: mapping by mapping until one refuses; a hole is told of, and does not end it. */
static int64_t advise_locked(uint64_t start, uint64_t end, const ForkAdvice *advice) {
  MemoryRange range;
  if (!memory_map_covers(start, end)) notice_growth(start, end);
  int64_t error = memory_map_covers(start, end) ? 0 : -ENOMEM;
  for (uint64_t at = start; memory_map_next(at, &range) && range.start < end; at = range.end) {
    uint64_t low = range.start > start ? range.start : start, high = range.end < end ? range.end : end;
    int64_t refused = host_call(__NR_madvise, low, high - low, advice->number);
    if (refused) return refused;
    memory_map_change(low, high, advice->clear, advice->set);
  }
  return error;
}

static int64_t advise_about_forks(uint64_t start, uint64_t length, const ForkAdvice *advice) {
  uint64_t end = start + page_up(length);
  if (length && end == start) return -EINVAL; /* rounded up it is 0 */
  base_lock(&memory.lock);
  int64_t result = advise_locked(start, end, advice);
  base_unlock(&memory.lock);
  return result;
}

int64_t sys_madvise(GuestCpu *cpu, const uint64_t a[6]) {
  if (!is_page(a[0])) return -EINVAL;
  if (!in_guest(a[0], page_up(a[1]))) return -ENOMEM;
  const ForkAdvice *about_forks = fork_advice((int)a[2]);
  if (about_forks) return advise_about_forks(a[0], a[1], about_forks);
  int64_t result = linux_guest_call(linux_thread(cpu), __NR_madvise, a);
  switch ((int)a[2]) {
  case MADV_DONTNEED:
  case DONTNEED_LOCKED:
  case MADV_FREE: linux_memory_changed(a[0], a[0] + page_up(a[1])); break;
  case MADV_REMOVE: removed(a[0], a[0] + page_up(a[1])); break;
  default: break;
  }
  return result;
}

int64_t sys_mseal(GuestCpu *cpu, const uint64_t a[6]) {
  uint64_t end = a[0] + page_up(a[1]);
  if (a[2] || !is_page(a[0]) || end < a[0]) return -EINVAL;
  base_lock(&memory.lock);
  bool covered = memory_map_covers(a[0], end);
  if (covered) memory_map_change(a[0], end, 0, MEMORY_SEALED);
  base_unlock(&memory.lock);
  return covered ? 0 : -ENOMEM;
}

/* --- mremap ----------------------------------------------------------------------------------------- */

typedef struct Remap {
  uint64_t old, old_length, new_length, flags, target;
  uint32_t range_flags;
  uint64_t object, offset; /* behind `old` */
} Remap;

static int64_t remap_host(const Remap *remap, uint64_t target, uint64_t flags) {
  return host_call(__NR_mremap, remap->old, remap->old_length, remap->new_length, flags, target);
}

/* Moves to `target`, which the host has as a placeholder or the guest as something to be replaced. */
static int64_t remap_to(const Remap *remap, uint64_t target) {
  uint64_t keep = remap->flags & MREMAP_DONTUNMAP;
  int64_t got = remap_host(remap, target, MREMAP_MAYMOVE | MREMAP_FIXED | keep);
  if (got < 0) return got;
  if (!keep && remap->old_length) memory_map_clear(remap->old, remap->old + remap->old_length);
  memory_map_set_object(got, got + remap->new_length, remap->range_flags, remap->object, remap->offset);
  return got;
}

static int64_t remap_fixed(const Remap *remap) {
  uint64_t end = remap->target + remap->new_length;
  if (!(remap->flags & MREMAP_MAYMOVE) || !is_page(remap->target)) return -EINVAL;
  if (!in_guest(remap->target, remap->new_length) || is_reserved(remap->target, end)) return -EINVAL;
  if (remap->target < remap->old + remap->old_length && end > remap->old) return -EINVAL;
  uint32_t old = memory_map_any(remap->target, end);
  if (old & MEMORY_SEALED) return -EPERM;
  return remap_to(remap, remap->target);
}

static int64_t remap_elsewhere(const Remap *remap) {
  MapRequest placeholder = {remap->new_length, MEMORY_PAGE_SIZE, PROT_NONE,
                            MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0};
  int64_t target = map_anywhere(&placeholder, LOWEST_ADDRESS, memory.top);
  if (target < 0) return target;
  int64_t got = remap_to(remap, target);
  if (got < 0) host_call(__NR_munmap, target, remap->new_length);
  return got;
}

static int64_t remap_in_place(const Remap *remap) {
  uint64_t old_end = remap->old + remap->old_length, new_end = remap->old + remap->new_length;
  if (new_end > old_end &&
      (new_end > MEMORY_GUEST_END || memory_map_overlaps(old_end, new_end) || is_reserved(old_end, new_end)))
    return -ENOMEM;
  int64_t got = remap_host(remap, 0, 0);
  if (got < 0) return got;
  if (new_end > old_end)
    memory_map_set_object(old_end, new_end, remap->range_flags, remap->object, remap->offset + remap->old_length);
  else memory_map_clear(new_end, old_end);
  return got;
}

static int64_t remap_somehow(const Remap *remap) {
  if (remap->flags & MREMAP_FIXED) return remap_fixed(remap);
  if (remap->flags & MREMAP_DONTUNMAP)
    return remap->flags & MREMAP_MAYMOVE && remap->old_length == remap->new_length ? remap_elsewhere(remap)
                                                                                  : -EINVAL;
  if (remap->old_length) {
    int64_t got = remap_in_place(remap);
    if (got >= 0 || remap->new_length <= remap->old_length) return got;
  }
  return remap->flags & MREMAP_MAYMOVE ? remap_elsewhere(remap) : -ENOMEM;
}

/* Pages of code are write-protected: the host's mapping may be in pieces, which mremap() refuses or hands down. So they
 * get the guest's protection back first, and with the lock held it stays. */
static int64_t remap_code(const Remap *remap, uint64_t seen) {
  runtime_change_begin();
  restore_protection(remap->old, remap->old + seen);
  int64_t got = remap_somehow(remap);
  runtime_change_end(remap->old, seen);
  if (got < 0) return got;
  contents_changed((uint64_t)got, (uint64_t)got + remap->new_length);
  if (!remap->old_length) aliases_changed((uint64_t)got, (uint64_t)got + remap->new_length);
  return got;
}

static int64_t remap_locked(Remap *remap) {
  uint64_t range_end = 0;
  int flags = memory_map_query(remap->old, &range_end);
  if (flags < 0 || range_end < remap->old + remap->old_length) return -EFAULT;
  if (flags & MEMORY_SEALED) return -EPERM;
  MemoryRange range;
  memory_map_next(remap->old, &range);
  uint64_t seen = remap->old_length ? remap->old_length : remap->new_length;
  if (seen > range_end - remap->old) seen = range_end - remap->old;
  remap->range_flags = (uint32_t)flags;
  remap->object = range.object;
  remap->offset = range.offset + (remap->old - range.start);
  bool replaces = remap->flags & MREMAP_FIXED && in_guest(remap->target, remap->new_length);
  uint32_t target_flags = replaces ? memory_map_any(remap->target, remap->target + remap->new_length) : 0;
  return may_be_code((uint32_t)flags | target_flags) ? remap_code(remap, seen) : remap_somehow(remap);
}

int64_t sys_mremap(GuestCpu *cpu, const uint64_t a[6]) {
  Remap remap = {a[0], page_up(a[1]), page_up(a[2]), a[3], a[4], 0, 0, 0};
  if (!is_page(a[0]) || !remap.new_length) return -EINVAL;
  if (a[3] & ~(uint64_t)(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP)) return -EINVAL;
  if (!in_guest(a[0], remap.old_length) || remap.new_length > MEMORY_GUEST_END) return -EINVAL;
  base_lock(&memory.lock);
  int64_t result = remap_locked(&remap);
  base_unlock(&memory.lock);
  return result;
}

/* Deprecated; the kernel emulates it too. Permissions stay. */
int64_t sys_remap_file_pages(GuestCpu *cpu, const uint64_t a[6]) {
  int64_t result = linux_guest_call(linux_thread(cpu), __NR_remap_file_pages, a);
  if (result == 0 && in_guest(a[0], page_up(a[1]))) linux_memory_changed(a[0], a[0] + page_up(a[1]));
  return result;
}

/* --- brk -------------------------------------------------------------------------------------------- */

void linux_brk_init(uint64_t address) { memory.brk_start = memory.brk = address; }

static uint64_t brk_locked(uint64_t wanted) {
  if (wanted < memory.brk_start || wanted >= MEMORY_GUEST_END) return memory.brk;
  uint64_t old_end = page_up(memory.brk), new_end = page_up(wanted);
  if (new_end > old_end &&
      map_with_flags(old_end, new_end - old_end, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0, MEMORY_BRK) < 0)
    return memory.brk;
  if (new_end < old_end && unmap_locked(new_end, old_end) < 0) return memory.brk;
  return memory.brk = wanted;
}

int64_t sys_brk(GuestCpu *cpu, const uint64_t a[6]) {
  base_lock(&memory.lock);
  uint64_t brk = brk_locked(a[0]);
  base_unlock(&memory.lock);
  return (int64_t)brk;
}

/* --- System V shared memory --------------------------------------------------------------------------- */

static int64_t segment_size(int id) {
  uint64_t data[16] = {0}; /* struct shmid64_ds: ipc_perm of 48 bytes, then shm_segsz */
  int64_t error = host_call(__NR_shmctl, id, 2 /* IPC_STAT */, data);
  return error < 0 ? error : (int64_t)data[6];
}

static int64_t attach_locked(int id, uint64_t address, int flags, uint64_t length) {
  int protection = PROT_READ | (flags & SHM_READ_ONLY ? 0 : PROT_WRITE) | (flags & SHM_EXECUTE ? PROT_EXEC : 0);
  protection = with_personality(protection);
  if (address && flags & SHM_ROUND) address &= ~(MEMORY_PAGE_SIZE - 1);
  if (!is_page(address) || (!address && flags & SHM_REMAPPING)) return -EINVAL;
  if (address && (!in_guest(address, length) || is_reserved(address, address + length))) return -EINVAL;
  if (address && !(flags & SHM_REMAPPING) && memory_map_overlaps(address, address + length)) return -EINVAL;
  bool chosen = !address;
  if (chosen) { /* hold the place until the segment replaces it */
    MapRequest placeholder = {length, MEMORY_PAGE_SIZE, PROT_NONE,
                              MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0};
    int64_t got = map_anywhere(&placeholder, LOWEST_ADDRESS, memory.top);
    if (got < 0) return got;
    address = (uint64_t)got;
    host_call(__NR_munmap, address, length);
  }
  bool code = may_be_code(memory_map_any(address, address + length));
  change_begin(code);
  int64_t got = host_call(__NR_shmat, id, address, flags & ~(SHM_EXECUTE | SHM_ROUND));
  if (got >= 0) /* who else has it attached is not known */
    memory_map_set_object(got, got + length, (uint32_t)protection | MEMORY_SHARED | MEMORY_UNWATCHED,
                          object_of_segment(id), 0);
  change_end(code, got >= 0, address, address + length);
  if (got >= 0) aliases_changed((uint64_t)got, (uint64_t)got + length);
  return got;
}

int64_t sys_shmat(GuestCpu *cpu, const uint64_t a[6]) {
  int64_t size = segment_size((int)a[0]);
  if (size < 0) return size;
  Attachment *attachment = base_alloc(sizeof *attachment);
  if (!attachment) return -ENOMEM;
  runtime_memory_shared();
  base_lock(&memory.lock);
  int64_t got = attach_locked((int)a[0], a[1], (int)a[2], page_up((uint64_t)size));
  if (got >= 0) {
    *attachment = (Attachment){memory.attachments, (uint64_t)got, page_up((uint64_t)size)};
    memory.attachments = attachment;
  }
  base_unlock(&memory.lock);
  if (got < 0) base_free(attachment);
  return got;
}

int64_t sys_shmdt(GuestCpu *cpu, const uint64_t a[6]) {
  int64_t result = -EINVAL;
  base_lock(&memory.lock);
  for (Attachment **at = &memory.attachments; *at; at = &(*at)->next) {
    Attachment *attachment = *at;
    if (attachment->address != a[0]) continue;
    uint64_t end = attachment->address + attachment->length;
    runtime_change_begin();
    result = host_call(__NR_shmdt, a[0]);
    if (result == 0) memory_map_clear(attachment->address, end);
    change_end(true, result == 0, attachment->address, end);
    if (result < 0) break;
    *at = attachment->next;
    base_free(attachment);
    break;
  }
  base_unlock(&memory.lock);
  return result;
}

/* --- asynchronous I/O ----------------------------------------------------------------------------------- */

/* What the kernel maps for a context, and what the context's identifier points to (fs/aio.c, struct aio_ring). */
typedef struct AioRing {
  uint32_t id, events, head, tail, magic, features[2], header_length;
} AioRing;

enum { AIO_EVENT_SIZE = 32 };

/* The kernel puts a ring where it likes; it can be moved, and the identifier moves with it. */
static int64_t place_ring(uint64_t ring) {
  const AioRing *header = (const AioRing *)ring;
  uint64_t length = page_up(header->header_length + (uint64_t)header->events * AIO_EVENT_SIZE);
  uint32_t flags = MEMORY_READ | MEMORY_WRITE | MEMORY_SHARED;
  if (!in_guest(ring, length)) {
    Remap remap = {ring, length, length, MREMAP_MAYMOVE, 0, flags, ++memory.anonymous_objects, 0};
    return remap_elsewhere(&remap);
  }
  memory_map_set_object(ring, ring + length, flags, ++memory.anonymous_objects, 0);
  return (int64_t)ring;
}

/* The kernel has unmapped the ring at `ring`. */
static void forget_ring(uint64_t ring) {
  MemoryRange range;
  base_lock(&memory.lock);
  if (memory_map_next(ring, &range) && range.start == ring) memory_map_clear(range.start, range.end);
  base_unlock(&memory.lock);
}

int64_t sys_io_setup(GuestCpu *cpu, const uint64_t a[6]) {
  uint64_t context = 0;
  if (linux_copy_in(&context, a[1], sizeof context)) return -EFAULT;
  if (context) return -EINVAL;
  runtime_memory_shared(); /* with the kernel, which adds events */
  base_lock(&memory.lock);
  int64_t result = host_call(__NR_io_setup, a[0], &context);
  int64_t placed = result < 0 ? result : place_ring(context);
  base_unlock(&memory.lock);
  if (result < 0) return result;
  if (placed > 0) context = (uint64_t)placed;
  if (placed > 0 && linux_copy_out(a[1], &context, sizeof context) == 0) return 0;
  host_call(__NR_io_destroy, context);
  if (placed < 0) return placed;
  forget_ring(context);
  return -EFAULT;
}

int64_t sys_io_destroy(GuestCpu *cpu, const uint64_t a[6]) {
  int64_t result = linux_guest_call(linux_thread(cpu), __NR_io_destroy, a);
  if (result == 0) forget_ring(a[0]);
  return result;
}

/* What pages the guest may execute follows from it. */
int64_t sys_personality(GuestCpu *cpu, const uint64_t a[6]) {
  int64_t result = linux_guest_call(linux_thread(cpu), __NR_personality, a);
  if (result >= 0 && (uint32_t)a[0] != 0xffffffff) memory.read_implies_exec = a[0] & READ_IMPLIES_EXECUTE;
  return result;
}
