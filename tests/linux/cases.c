/* Cases for the Linux layer: each makes x86-64 system calls as guest code would, through registers, and
 * compares what comes back with what the x86-64 kernel documents. A case is a function and a row below;
 * it fails by its number of the line. */
#include <asm/signal.h>
#include <asm/sigcontext.h>
#include <asm/ucontext.h>
#include <linux/prctl.h>
#include <linux/stat.h>

#include "linux/host-stat.h"
#include "linux/linux.h"
#include "runtime/runtime.h"
#include "tests/linux/cases.h"

#define EXPECT(condition)                                                                            \
  do {                                                                                               \
    if (!(condition)) return __LINE__;                                                               \
  } while (0)

enum {
  X_read = 0, X_write = 1, X_open = 2, X_close = 3, X_stat = 4, X_fstat = 5, X_mmap = 9, X_mprotect = 10,
  X_munmap = 11, X_brk = 12, X_rt_sigaction = 13, X_rt_sigprocmask = 14, X_rt_sigreturn = 15, X_pipe = 22,
  X_mremap = 25, X_shmget = 29, X_shmat = 30, X_shmctl = 31, X_shmdt = 67, X_getpid = 39, X_clone = 56,
  X_fork = 57, X_exit = 60, X_wait4 = 61, X_kill = 62,
  X_uname = 63, X_fcntl = 72, X_getdents = 78, X_readlink = 89, X_sigaltstack = 131, X_rt_sigpending = 127,
  X_rt_sigsuspend = 130, X_prctl = 157, X_arch_prctl = 158, X_gettid = 186, X_futex = 202, X_getdents64 = 217,
  X_epoll_create = 213, X_exit_group = 231, X_epoll_wait = 232, X_epoll_ctl = 233, X_tgkill = 234,
  X_openat = 257, X_eventfd2 = 290, X_statx = 332
};

static GuestCpu *cpu0;
static char *scratch; /* a page of guest memory */

static int64_t call_on(GuestCpu *cpu, uint64_t number, const uint64_t a[6]) {
  static const int order[6] = {RDI, RSI, RDX, R10, R8, R9};
  for (int i = 0; i < 6; i++) cpu->gpr[order[i]] = a[i];
  cpu->gpr[RAX] = number;
  cpu->rip = 0x401002;
  linux_syscall(cpu);
  return (int64_t)cpu->gpr[RAX];
}

#define call(number, ...) call_on(cpu0, number, (const uint64_t[6]){__VA_ARGS__})
#define P(pointer)        ((uint64_t)(pointer))

static char *guest_string(const char *text) { return memcpy(scratch + 2048, text, strlen(text) + 1); }

/* --- registers and flags ------------------------------------------------------------------------------ */

static int test_flags(void) {
  GuestCpu *cpu = base_alloc(sizeof *cpu);
  for (uint64_t flags = 0; flags < 0x1000; flags++) {
    uint64_t wanted = flags & 0xcd5; /* CF PF AF ZF SF DF OF */
    guest_flags_set(cpu, flags);
    EXPECT(guest_flags_get(cpu) == (wanted | 0x202 | (flags & 0x100)));
  }
  base_free(cpu);
  return 0;
}

static int test_syscall_registers(void) {
  EXPECT(call(X_getpid, 0) == host_call(__NR_getpid));
  EXPECT(cpu0->gpr[RCX] == 0x401002 && cpu0->gpr[R11] == guest_flags_get(cpu0));
  EXPECT(call(9999, 0) == -ENOSYS && call(~0ul, 0) == -ENOSYS);
  return 0;
}

static int test_fs_base(void) {
  EXPECT(call(X_arch_prctl, 0x1002, 0x123000) == 0 && cpu0->fs_base == 0x123000);
  EXPECT(call(X_arch_prctl, 0x1003, P(scratch)) == 0 && *(uint64_t *)scratch == 0x123000);
  EXPECT(call(X_arch_prctl, 0x1003, 8) == -EFAULT);
  EXPECT(call(X_arch_prctl, 0x1002, UINT64_C(1) << 47) == -EPERM);
  return 0;
}

static uint64_t inode_by_statx(const char *path) {
  struct statx *status = (void *)scratch;
  return call(X_statx, P(-100), P(guest_string(path)), 0, STATX_INO, P(status)) ? 0 : status->stx_ino;
}

static uint64_t inode_by_stat(const char *path) {
  return call(X_stat, P(guest_string(path)), P(scratch)) ? 0 : ((GuestStat *)scratch)->inode;
}

/* The namespace named is the first to all who ask; others, and files that have its number, are what they are. */
static int test_first_namespace(void) {
  static const char path[] = "/proc/self/ns/pid", first[] = "pid:[4026531836]";
  uint64_t own = inode_by_stat(path), other = inode_by_stat("/proc/self/ns/mnt"), file = inode_by_stat("/proc/self/exe");
  EXPECT(own && other && file && own != other);
  linux_program.pid_namespace = own;
  EXPECT(inode_by_stat(path) == 0xeffffffc && inode_by_statx(path) == 0xeffffffc);
  EXPECT(inode_by_stat("/proc/self/ns/mnt") == other && inode_by_statx("/proc/self/ns/mnt") == other);
  EXPECT(call(X_readlink, P(guest_string(path)), P(scratch), 100) == (int64_t)strlen(first));
  EXPECT(!memcmp(scratch, first, strlen(first)));
  EXPECT(call(X_readlink, P(guest_string(path)), P(scratch), 8) == 8);
  linux_program.pid_namespace = file;
  EXPECT(inode_by_stat("/proc/self/exe") == file && inode_by_statx("/proc/self/exe") == file);
  EXPECT(inode_by_stat(path) == own);
  linux_program.pid_namespace = 0;
  return 0;
}

/* --- memory ------------------------------------------------------------------------------------------- */

/* What has no file's name is known by a second address all the same. */
static int test_views(void) {
  enum { SHARED_ANONYMOUS = 0x21 };
  uint64_t first = (uint64_t)call(X_mmap, 0, 8192, 3, SHARED_ANONYMOUS, -1ul, 0);
  uint64_t other = (uint64_t)call(X_mmap, 0, 8192, 3, SHARED_ANONYMOUS, -1ul, 0);
  MemoryRange range;
  EXPECT(memory_map_next(first, &range) && range.object && !memory_map_next_alias(first, 0));
  EXPECT(memory_map_next(other, &range) && range.object && !memory_map_next_alias(other + 4096, 0));
  int64_t id = call(X_shmget, 0, 8192, 01600);
  EXPECT(id >= 0);
  uint64_t one = (uint64_t)call(X_shmat, id, 0, 0), two = (uint64_t)call(X_shmat, id, 0, 010000);
  call(X_shmctl, id, 0, 0);
  EXPECT(memory_map_next_alias(one + 4096, 0) == two + 4096 && memory_map_next_alias(two, 0) == one);
  EXPECT(call(X_shmdt, two) == 0 && !memory_map_next_alias(one, 0) && call(X_shmdt, one) == 0);
  call(X_munmap, first, 8192), call(X_munmap, other, 8192);
  return 0;
}

/* Only what installed software's files hold is taken for constant; any other file may be mapped to write elsewhere. */
static int test_shared_files(void) {
  static const struct {
    const char *path;
    uint64_t protection, flags;
    bool shared;
  } mappings[] = {{"/tmp", 1, 1, true}, {"/usr", 1, 1, false}, {"/tmp", 3, 2, false}, {"/tmp", 3, 1, true}};
  for (size_t i = 0; i < sizeof mappings / sizeof *mappings; i++) {
    unsigned before = fake_shared;
    int64_t fd = call(X_openat, P(-100), P(guest_string(mappings[i].path)), 020200002 /* O_TMPFILE | O_RDWR */, 0600);
    if (fd < 0) continue; /* a file system without, or not ours to write */
    EXPECT(call(X_mmap, 0, 4096, mappings[i].protection, mappings[i].flags, (uint64_t)fd, 0) > 0);
    EXPECT((fake_shared != before) == mappings[i].shared);
    call(X_close, fd);
  }
  return 0;
}

/* Nothing is placed where what grows down may come. */
static int test_growing(void) {
  uint64_t at = (uint64_t)call(X_mmap, 0, 4096, 3, 0x122, -1ul, 0), end;
  EXPECT(memory_map_query(at, &end) == (3 | MEMORY_GROWS));
  uint64_t next = (uint64_t)call(X_mmap, 0, 4096, 3, 0x22, -1ul, 0);
  EXPECT(next + 4096 + MEMORY_GUARD_GAP <= at || next > at);
  EXPECT(call(X_mprotect, next, 4096, 0x01000001) == -EINVAL && call(X_mprotect, at, 4096, 0x01000003) == 0);
  EXPECT(call(X_munmap, next, 4096) == 0);
  *(volatile char *)(at - 3 * 4096) = 1; /* the host's kernel extends it, the map learns of it when asked */
  EXPECT(memory_map_query(at - 4096, &end) == -EFAULT);
  EXPECT(call(X_mprotect, at - 2 * 4096, 4096, 1) == 0 && memory_map_query(at - 2 * 4096, &end) == (1 | MEMORY_GROWS));
  EXPECT(memory_map_query(at - 3 * 4096, &end) == -EFAULT && call(X_munmap, at - 5 * 4096, 6 * 4096) == 0);
  EXPECT(!memory_map_overlaps(at - 5 * 4096, at + 4096));
  return 0;
}

static int test_mmap(void) {
  uint64_t end;
  int64_t at = call(X_mmap, 0, 8192, 3, 0x22, -1ul, 0);
  EXPECT(at > 0 && (uint64_t)at < MEMORY_GUEST_END);
  EXPECT(memory_map_query((uint64_t)at, &end) == 3 && end >= (uint64_t)at + 8192);
  *(char *)at = 1;
  EXPECT(call(X_mprotect, at, 4096, 5) == 0 && memory_map_query((uint64_t)at, &end) == 5);
  EXPECT(end == (uint64_t)at + 4096);
  unsigned before = fake_changes;
  EXPECT(call(X_munmap, at, 4096) == 0 && memory_map_query((uint64_t)at, &end) == -EFAULT);
  EXPECT(fake_changes == before + 1); /* it was executable */
  EXPECT(call(X_mmap, at + 4096, 4096, 3, 0x100022, -1ul, 0) == -EEXIST);
  EXPECT(call(X_mmap, at, 4096, 3, 0x100022, -1ul, 0) == at);
  EXPECT(call(X_munmap, at + 1, 4096) == -EINVAL && call(X_munmap, at, 8192) == 0);
  int64_t low = call(X_mmap, 0, 4096, 3, 0x62, -1ul, 0); /* MAP_32BIT */
  EXPECT(low > 0 && low < 0x80000000);
  EXPECT(call(X_munmap, low, 4096) == 0);
  return 0;
}

static int test_mremap(void) {
  int64_t at = call(X_mmap, 0, 3 * 4096, 3, 0x22, -1ul, 0);
  *(int *)at = 42;
  EXPECT(call(X_munmap, at + 4096, 8192) == 0);
  EXPECT(call(X_mremap, at, 4096, 8192, 0) == at);
  EXPECT(call(X_mmap, at + 8192, 4096, 3, 0x32, -1ul, 0) == at + 8192);
  EXPECT(call(X_mremap, at, 8192, 3 * 4096, 0) == -ENOMEM);
  int64_t moved = call(X_mremap, at, 8192, 16 * 4096, 1);
  EXPECT(moved > 0 && moved != at && *(int *)moved == 42);
  uint64_t end;
  EXPECT(memory_map_query((uint64_t)at, &end) == -EFAULT && memory_map_query((uint64_t)moved, &end) == 3);
  EXPECT(call(X_munmap, moved, 16 * 4096) == 0 && call(X_munmap, at + 8192, 4096) == 0);
  return 0;
}

static int test_brk(void) {
  int64_t start = call(X_brk, 0);
  EXPECT(start > 0 && call(X_brk, start + 100000) == start + 100000);
  ((char *)start)[99999] = 7;
  EXPECT(call(X_brk, start) == start && call(X_brk, 1) == start);
  return 0;
}

static int test_gaps(void) {
  memory_map_set(0x10000, 0x12000, 3);
  memory_map_set(0x14000, 0x15000, 3);
  EXPECT(memory_map_find_gap(0x2000, 0x1000, 0x10000, 0x15000) == 0x12000);
  EXPECT(memory_map_find_gap(0x3000, 0x1000, 0x10000, 0x15000) == 0);
  EXPECT(memory_map_find_gap(0x1000, 0x1000, 0x10000, 0x18000) == 0x17000);
  EXPECT(memory_map_find_gap(0x1000, 0x4000, 0x10000, 0x14800) == 0);
  memory_map_change(0x11000, 0x15000, 2, 4);
  uint64_t end;
  EXPECT(memory_map_query(0x10000, &end) == 3 && end == 0x11000);
  EXPECT(memory_map_query(0x11000, &end) == 5 && memory_map_query(0x14fff, &end) == 5);
  EXPECT(!memory_map_covers(0x10000, 0x13000) && memory_map_covers(0x10000, 0x12000));
  memory_map_set_object(0x20000, 0x24000, 5 | MEMORY_SHARED, 77, 0x3000);
  memory_map_set_object(0x30000, 0x32000, 3 | MEMORY_SHARED, 77, 0x4000);
  EXPECT(memory_map_next_alias(0x21000, 0) == 0x30000 && memory_map_next_alias(0x31000, 0) == 0x22000);
  EXPECT(memory_map_next_alias(0x20000, 0) == 0 && memory_map_next_alias(0x21000, 0x30000) == 0);
  memory_map_change(0x21000, 0x22000, 4, 0);
  EXPECT(memory_map_next_alias(0x30000, 0) == 0x21000 && memory_map_next_alias(0x31000, 0) == 0x22000);
  memory_map_clear(0x20000, 0x32000);
  memory_map_clear(0x10000, 0x15000);
  EXPECT(!memory_map_overlaps(0x10000, 0x15000));
  return 0;
}

/* --- files -------------------------------------------------------------------------------------------- */

static int test_open_flags(void) {
  EXPECT(linux_open_flags(0200000) == 040000 && linux_open_flags(0400000) == 0100000);
  EXPECT(linux_open_flags(040000) == 0200000 && linux_open_flags(0100000) == 0400000);
  for (uint64_t flags = 0; flags < 1 << 20; flags += 64)
    EXPECT(linux_open_flags(linux_open_flags(flags)) == flags);
  EXPECT(call(X_open, P(guest_string("/dev/null")), 0200000) == -ENOTDIR);
  int64_t fd = call(X_open, P(guest_string("/")), 0200000);
  EXPECT(fd >= 0 && (call(X_fcntl, fd, 3) & 0200000) && call(X_close, fd) == 0);
  EXPECT(call(X_open, 16, 0) == -EFAULT);
  return 0;
}

static int test_stat(void) {
  uint64_t *stat = (uint64_t *)scratch;
  EXPECT(call(X_stat, P(guest_string("/")), P(stat)) == 0);
  uint32_t mode = (uint32_t)stat[3]; /* st_mode follows st_dev, st_ino, st_nlink */
  EXPECT((mode & 0170000) == 0040000 && stat[7] == 4096 && stat[2] > 1);
  EXPECT(call(X_stat, P(guest_string("/")), 16) == -EFAULT);
  return 0;
}

static int test_getdents(void) {
  int64_t fd = call(X_open, P(guest_string("/proc/self/task")), 0200000), got, entries = 0, wide = 0;
  EXPECT(fd >= 0);
  while ((got = call(X_getdents, fd, P(scratch), 1024)) > 0)
    for (char *at = scratch; at < scratch + got; at += *(uint16_t *)(at + 16), entries++)
      EXPECT(at[*(uint16_t *)(at + 16) - 1] == 4 && at[18]); /* d_type at the end, a name */
  EXPECT(got == 0 && call(X_close, fd) == 0);
  fd = call(X_open, P(guest_string("/proc/self/task")), 0200000);
  while ((got = call(X_getdents64, fd, P(scratch), 1024)) > 0)
    for (char *at = scratch; at < scratch + got; at += *(uint16_t *)(at + 16)) wide++;
  EXPECT(entries == wide && entries >= 3 && call(X_close, fd) == 0);
  return 0;
}

static int test_epoll(void) {
  struct {
    uint32_t events;
    uint64_t data;
  } __attribute__((packed)) *event = (void *)(scratch + 64);
  int64_t epoll = call(X_epoll_create, 1), fd = call(X_eventfd2, 1, 0);
  event->events = 1;
  event->data = UINT64_C(0x1122334455667788);
  EXPECT(call(X_epoll_ctl, epoll, 1, fd, P(event)) == 0);
  event[0].data = 0;
  EXPECT(call(X_epoll_wait, epoll, P(event), 4, 0) == 1);
  EXPECT(event->events == 1 && event->data == UINT64_C(0x1122334455667788));
  EXPECT(call(X_epoll_wait, epoll, P(event), 0, 0) == -EINVAL);
  return call(X_close, epoll) || call(X_close, fd);
}

/* --- identity ------------------------------------------------------------------------------------------ */

static bool contains(const char *text, size_t length, const char *part) {
  size_t size = strlen(part);
  for (size_t i = 0; i + size <= length; i++)
    if (!memcmp(text + i, part, size)) return true;
  return false;
}

static int64_t read_file(const char *path, size_t size) {
  int64_t fd = call(X_openat, P(-100), P(guest_string(path)), 0, 0);
  if (fd < 0) return fd;
  int64_t got = call(X_read, fd, P(scratch), size);
  call(X_close, fd);
  return got;
}

/* There is none, whoever is asked. */
static int test_seccomp(void) {
  EXPECT(call(X_prctl, PR_GET_SECCOMP) == -EINVAL && call(X_prctl, PR_SET_SECCOMP, 2, P(scratch)) == -EINVAL);
  static const char *const paths[] = {"/proc/self/status", "/proc/thread-self/status"};
  for (size_t i = 0; i < 2; i++) {
    int64_t length = read_file(paths[i], 4096);
    EXPECT(length > 0 && !strncmp(scratch, "Name:\t", 6) && contains(scratch, (size_t)length, "\nThreads:"));
    EXPECT(!contains(scratch, (size_t)length, "Seccomp"));
  }
  return 0;
}

typedef struct Leaf {
  uint32_t eax, ebx, ecx, edx;
} Leaf;

static Leaf cpuid(uint32_t leaf, uint32_t index) {
  cpu0->gpr[RAX] = leaf, cpu0->gpr[RCX] = index;
  linux_cpuid(cpu0);
  return (Leaf){(uint32_t)cpu0->gpr[RAX], (uint32_t)cpu0->gpr[RBX], (uint32_t)cpu0->gpr[RCX], (uint32_t)cpu0->gpr[RDX]};
}

/* Leaf 0 names the vendor asked for, with its family and its own way to tell of caches; all else is the same. */
static int test_vendors(void) {
  static const struct {
    const char *name;
    uint32_t family, highest_extended, caches, no_caches;
  } vendors[] = {{"GenuineIntel", 6, 0x80000008, 4, 0x8000001d},
                 {"AuthenticAMD", 0x18, 0x8000001e, 0x8000001d, 4},
                 {"VirtualStele", 6, 0x80000008, 4, 0x8000001d}};
  linux_program.cpu_level = LINUX_CPU_V3;
  Leaf features = cpuid(1, 0), more = cpuid(7, 0);
  EXPECT(linux_identity_vendor("CyrixInstead") == -EINVAL && linux_identity_vendor("Genuine") == -EINVAL);
  for (size_t i = 0; i < sizeof vendors / sizeof *vendors; i++) {
    linux_program.cpu_vendor = (LinuxCpuVendor)linux_identity_vendor(vendors[i].name);
    Leaf leaf = cpuid(0, 0), one = cpuid(1, 0), host = cpuid(0x40000000, 0);
    uint32_t name[3] = {leaf.ebx, leaf.edx, leaf.ecx}, host_name[3] = {host.ebx, host.ecx, host.edx};
    uint32_t family = one.eax >> 8 & 15;
    EXPECT(!memcmp(name, vendors[i].name, 12) && !memcmp(host_name, "VirtualStele", 12));
    EXPECT((family == 15 ? family + (one.eax >> 20 & 255) : family) == vendors[i].family);
    EXPECT(one.ecx == features.ecx && one.ecx >> 31 && one.edx == features.edx && cpuid(7, 0).ebx == more.ebx);
    EXPECT(cpuid(0x80000000, 0).eax == vendors[i].highest_extended);
    EXPECT((cpuid(vendors[i].caches, 2).eax & 0xff) == 0x43 && cpuid(vendors[i].no_caches, 0).eax == 0);
    EXPECT((cpuid(0x80000005, 0).ecx != 0) == (linux_program.cpu_vendor == LINUX_CPU_AMD));
  }
  linux_program.cpu_vendor = LINUX_CPU_INTEL;
  return 0;
}

static int test_identity(void) {
  EXPECT(call(X_uname, P(scratch)) == 0 && !strcmp(scratch + 4 * 65, "x86_64"));
  int64_t length = read_file("/proc/cpuinfo", 2000);
  EXPECT(length > 0 && contains(scratch, (size_t)length, "vendor_id\t: VirtualStele"));
  EXPECT(contains(scratch, (size_t)length, " sse4_2 ") && contains(scratch, (size_t)length, " avx2 "));
  EXPECT(!contains(scratch, (size_t)length, " avx512f") && !contains(scratch, (size_t)length, "osxsave"));
  return 0;
}

/* What each level offers: /proc/cpuinfo, CPUID, the size of a signal frame. */
static int test_levels(void) {
  enum { SSE42 = 1 << 20, XSAVE = 3 << 26, AVX = 1 << 28, AVX2 = 1 << 5, LZCNT = 1 << 5, AREA = 832, XCR0 = 7 };
  const LinuxCpuLevel levels[] = {LINUX_CPU_BASELINE, LINUX_CPU_V2, LINUX_CPU_V3};
  uint64_t smaller = 0;
  for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
    linux_program.cpu_level = levels[i];
    bool avx = levels[i] == LINUX_CPU_V3;
    EXPECT(!(cpuid(1, 0).ecx & SSE42) == (levels[i] == LINUX_CPU_BASELINE));
    EXPECT((cpuid(1, 0).ecx & (XSAVE | AVX)) == (avx ? XSAVE | AVX : 0) && !(cpuid(7, 0).ebx & AVX2) == !avx);
    EXPECT(!(cpuid(0x80000001, 0).ecx & LZCNT) == !avx && cpuid(0, 0).eax == (avx ? 0xd : 0xb));
    EXPECT(cpuid(0xd, 0).eax == (avx ? XCR0 : 0) && cpuid(0xd, 0).ecx == (avx ? AREA : 0));
    EXPECT(!(cpuid(7, 0).ebx & 1) == !avx && linux_identity_hwcap2() == (avx ? 2 : 0));
    int64_t length = read_file("/proc/cpuinfo", 2000);
    EXPECT(contains(scratch, (size_t)length, " avx ") == avx && contains(scratch, (size_t)length, " sse2 "));
    if (avx) EXPECT(linux_frame_size() == smaller + AREA - 512 + 4);
    smaller = linux_frame_size();
  }
  return 0;
}

static int test_proc_self(void) {
  int64_t length = call(X_readlink, P(guest_string("/proc/self/exe")), P(scratch), 1024);
  EXPECT(length == (int64_t)strlen(linux_program.exe) && !memcmp(scratch, linux_program.exe, (size_t)length));
  length = read_file("/proc/self/maps", 2000);
  EXPECT(length > 0 && contains(scratch, (size_t)length, "r-xp") && !contains(scratch, (size_t)length, "linux-test"));
  length = read_file("/proc/self/cmdline", 2000);
  EXPECT(length == (int64_t)(linux_program.argv_end - linux_program.argv_start));
  return 0;
}

/* --- signals ------------------------------------------------------------------------------------------- */

enum { HANDLER = 0x402000, RESTORER = 0x403000, SA_SIGINFO_ = 4, SA_RESTORER_ = 0x04000000 };

static int64_t handle(int signal, uint64_t flags, uint64_t mask) {
  LinuxAction *action = (LinuxAction *)scratch;
  *action = (LinuxAction){HANDLER, flags | SA_SIGINFO_ | SA_RESTORER_, RESTORER, mask};
  return call(X_rt_sigaction, (uint64_t)signal, P(action), 0, 8);
}

/* As the handler's RET and the restorer's SYSCALL would. */
static void handler_returns(void) {
  cpu0->gpr[RSP] += 8;
  call(X_rt_sigreturn, 0);
}

static int test_signal_frame(void) {
  uint64_t rsp = P(scratch) + 4096 - 64;
  cpu0->gpr[RSP] = rsp;
  cpu0->gpr[RBX] = 0xb0b;
  guest_flags_set(cpu0, 0x8d5 | 0x400);
  cpu0->xmm[3].lane[1] = 0x33;
  EXPECT(handle(10, 0, 0) == 0);
  call(X_kill, host_call(__NR_getpid), 10);
  EXPECT(cpu0->rip == HANDLER && cpu0->gpr[RDI] == 10 && cpu0->gpr[RSP] % 16 == 8);
  uint64_t *frame = (uint64_t *)cpu0->gpr[RSP];
  EXPECT(frame[0] == RESTORER && cpu0->gpr[RDX] == P(frame + 1));
  EXPECT(*(int *)cpu0->gpr[RSI] == 10 && ((int *)cpu0->gpr[RSI])[4] == host_call(__NR_getpid));
  EXPECT(frame[6 + 15] == rsp && frame[6 + 16] == 0x401002 && frame[6 + 11] == 0xb0b); /* RSP, RIP, RBX */
  EXPECT(frame[6 + 13] == 0); /* RAX: kill()'s result */
  EXPECT((frame[6 + 17] & 0xcd5) == 0xcd5 && cpu0->direction == 1 && cpu0->xmm[3].lane[1] == 0);
  frame[6 + 11] = 0xabc; /* a handler may change the context */
  call(X_rt_sigprocmask, 0, 0, P(scratch), 8);
  EXPECT(*(uint64_t *)scratch == 1 << 9); /* blocked while its handler runs */
  handler_returns();
  EXPECT(cpu0->rip == 0x401002 && cpu0->gpr[RSP] == rsp && cpu0->gpr[RBX] == 0xabc && cpu0->gpr[RAX] == 0);
  EXPECT(guest_flags_get(cpu0) == (0xcd5 | 0x202) && cpu0->xmm[3].lane[1] == 0x33);
  guest_flags_set(cpu0, 0);
  EXPECT(linux_thread(cpu0)->mask == 0);
  return 0;
}

static int test_signal_mask(void) {
  EXPECT(handle(40, 0, 0) == 0);
  *(uint64_t *)scratch = UINT64_C(1) << 39;
  EXPECT(call(X_rt_sigprocmask, 0, P(scratch), 0, 8) == 0);
  call(X_kill, host_call(__NR_getpid), 40);
  call(X_kill, host_call(__NR_getpid), 40);
  EXPECT(cpu0->rip == 0x401002);
  EXPECT(call(X_rt_sigpending, P(scratch), 8) == 0 && *(uint64_t *)scratch == UINT64_C(1) << 39);
  *(uint64_t *)scratch = 0;
  cpu0->gpr[RSP] = P(scratch) + 4096 - 64;
  call(X_rt_sigsuspend, P(scratch), 8);
  EXPECT(cpu0->rip == HANDLER && cpu0->gpr[RDI] == 40);
  handler_returns();
  EXPECT((int64_t)cpu0->gpr[RAX] == -EINTR && linux_thread(cpu0)->mask == UINT64_C(1) << 39);
  *(uint64_t *)scratch = UINT64_C(1) << 39;
  call(X_rt_sigprocmask, 1, P(scratch), 0, 8); /* the second one was queued */
  EXPECT(cpu0->rip == HANDLER);
  handler_returns();
  EXPECT(cpu0->rip == 0x401002 && cpu0->gpr[RAX] == 0 && linux_thread(cpu0)->mask == 0);
  return 0;
}

static int test_exception(void) {
  EXPECT(handle(11, 0, 0) == 0);
  cpu0->gpr[RSP] = P(scratch) + 4096 - 64;
  cpu0->rip = 0x401234;
  linux_raise_exception(cpu0, 14, 0x1000, 6);
  EXPECT(cpu0->rip == HANDLER && cpu0->gpr[RDI] == 11);
  uint64_t *frame = (uint64_t *)cpu0->gpr[RSP], *info = (uint64_t *)cpu0->gpr[RSI];
  EXPECT(frame[6 + 16] == 0x401234 && frame[6 + 19] == 6 && frame[6 + 20] == 14 && frame[6 + 22] == 0x1000);
  EXPECT(((int *)info)[2] == 1 /* SEGV_MAPERR */ && info[2] == 0x1000);
  handler_returns();
  EXPECT(cpu0->rip == 0x401234);
  return 0;
}

/* A real fault of the host's at a moment the fake runtime calls the guest's own. */
void fake_resume(GuestCpu *cpu, void *context) {
  ((struct ucontext *)context)->uc_mcontext.pc += 4; /* over the faulting load */
}

static int test_host_fault(void) {
  EXPECT(handle(11, 0, 0) == 0);
  cpu0->gpr[RSP] = P(scratch) + 4096 - 64;
  cpu0->rip = fake_guest_fault = 0x405678;
  *(volatile int *)UINT64_C(0x2000) = 1;
  fake_guest_fault = 0;
  EXPECT(cpu0->rip == HANDLER && cpu0->gpr[RDI] == 11);
  uint64_t *frame = (uint64_t *)cpu0->gpr[RSP];
  EXPECT(frame[6 + 16] == 0x405678 && frame[6 + 19] == 6 && frame[6 + 20] == 14 && frame[6 + 22] == 0x2000);
  EXPECT(linux_thread(cpu0)->mask == 1 << 10);
  handler_returns();
  EXPECT(linux_thread(cpu0)->mask == 0);
  return 0;
}

static int test_alternate_stack(void) {
  LinuxStack *stack = (LinuxStack *)scratch;
  int64_t memory = call(X_mmap, 0, 16384, 3, 0x22, -1ul, 0);
  *stack = (LinuxStack){.address = (uint64_t)memory, .size = 16384};
  EXPECT(call(X_sigaltstack, P(stack), 0) == 0 && handle(12, 0x08000000, 0) == 0);
  cpu0->gpr[RSP] = P(scratch) + 4096 - 64;
  call(X_kill, host_call(__NR_getpid), 12);
  EXPECT(cpu0->gpr[RSP] > (uint64_t)memory && cpu0->gpr[RSP] < (uint64_t)memory + 16384);
  EXPECT(call(X_sigaltstack, 0, P(scratch)) == 0 && stack->flags == 1);
  EXPECT(call(X_sigaltstack, P(scratch), 0) == -EPERM);
  handler_returns();
  *stack = (LinuxStack){.flags = 2};
  EXPECT(call(X_sigaltstack, P(stack), 0) == 0 && call(X_munmap, memory, 16384) == 0);
  return 0;
}

/* A signal that finds the thread in read() ends it; with SA_RESTART the instruction is executed again. */
static int interrupted_read(uint64_t flags) {
  int *ends = (int *)(scratch + 128);
  EXPECT(call(X_pipe, P(ends)) == 0 && handle(14, flags, 0) == 0);
  int64_t timer[4] = {0, 0, 0, 20000};
  cpu0->gpr[RSP] = P(scratch) + 4096 - 64;
  host_call(__NR_setitimer, 0, timer, 0);
  call(X_read, (uint64_t)ends[0], P(scratch), 1);
  EXPECT(cpu0->rip == HANDLER);
  handler_returns();
  if (flags) EXPECT(cpu0->rip == 0x401000 && cpu0->gpr[RAX] == X_read);
  else EXPECT(cpu0->rip == 0x401002 && (int64_t)cpu0->gpr[RAX] == -EINTR);
  call(X_close, (uint64_t)ends[0]);
  call(X_close, (uint64_t)ends[1]);
  return 0;
}

static int test_interrupt(void) { return interrupted_read(0); }

static int test_restart(void) { return interrupted_read(0x10000000); }

/* --- processes ------------------------------------------------------------------------------------------ */

static int test_fork(void) {
  int64_t child = call(X_fork, 0);
  if (child == 0) call(X_exit_group, 7);
  EXPECT(child > 0 && call(X_wait4, child, P(scratch), 0, 0) == child && *(int *)scratch == 7 << 8);
  return 0;
}

static int test_death(void) {
  int64_t child = call(X_fork, 0);
  if (child == 0) {
    *(LinuxAction *)scratch = (LinuxAction){0};
    call(X_rt_sigaction, 11, P(scratch), 0, 8);
    linux_raise_exception(cpu0, 14, 0, 4);
  }
  EXPECT(child > 0 && call(X_wait4, child, P(scratch), 0, 0) == child && (*(int *)scratch & 0x7f) == 11);
  return 0;
}

static volatile uint32_t thread_tid = 1, thread_ran;

static void second_thread(GuestCpu *cpu) {
  thread_ran = cpu->fs_base == 0x77000 && cpu->gpr[RAX] == 0 && cpu != cpu0;
  call_on(cpu, X_exit, (const uint64_t[6]){0});
}

static int test_clone(void) {
  uint64_t flags = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x80000 | 0x100000 | 0x200000;
  uint64_t *stack = (uint64_t *)(scratch + 3072);
  *stack = P(second_thread);
  unsigned before = fake_shared;
  int64_t tid = call(X_clone, flags, P(stack), P(scratch), P(&thread_tid), 0x77000);
  EXPECT(tid > 0 && *(int *)scratch == tid && fake_shared == before + 1);
  while (thread_tid) call(X_futex, P(&thread_tid), 0, thread_tid, 0); /* cleared by the kernel at exit */
  EXPECT(thread_ran == 1);
  return 0;
}

/* --- all ------------------------------------------------------------------------------------------------ */

static const struct {
  const char *name;
  int (*run)(void);
} cases[] = {
    {"flags", test_flags},
    {"registers of a system call", test_syscall_registers},
    {"fs base", test_fs_base},
    {"seccomp", test_seccomp},
    {"first namespace", test_first_namespace},
    {"mmap, mprotect, munmap", test_mmap},
    {"second views of memory", test_views},
    {"shared files", test_shared_files},
    {"growing down", test_growing},
    {"mremap", test_mremap},
    {"brk", test_brk},
    {"gaps", test_gaps},
    {"open flags", test_open_flags},
    {"stat", test_stat},
    {"getdents", test_getdents},
    {"epoll", test_epoll},
    {"identity", test_identity},
    {"levels", test_levels},
    {"vendors", test_vendors},
    {"/proc/self", test_proc_self},
    {"signal frame", test_signal_frame},
    {"signal mask", test_signal_mask},
    {"exception", test_exception},
    {"host fault", test_host_fault},
    {"alternate stack", test_alternate_stack},
    {"interrupted call", test_interrupt},
    {"restarted call", test_restart},
    {"fork", test_fork},
    {"death by a signal", test_death},
    {"clone", test_clone},
};

void test_thread(GuestCpu *cpu) {
  int failed = 0, count = sizeof cases / sizeof *cases;
  if (cpu0) ((void (*)(GuestCpu *))(*(uint64_t *)cpu->gpr[RSP]))(cpu);
  cpu0 = cpu;
  if (*(uint64_t *)cpu->gpr[RSP] > 1) host_call(__NR_exit_group, 0); /* an argument: only load */
  scratch = (char *)call(X_mmap, 0, 8192, 3, 0x22, -1ul, 0);
  for (int i = 0; i < count; i++) {
    int line = cases[i].run();
    if (line) base_print(1, "%s: cases.c:%d\n", cases[i].name, line);
    failed += line != 0;
  }
  base_print(1, "%d cases, %d failed\n", count, failed);
  for (;;) host_call(__NR_exit_group, failed != 0);
}
