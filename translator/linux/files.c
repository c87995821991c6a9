/* File calls that differ: open flags, struct stat, names AArch64 has only with a directory descriptor, and
 * paths and links of /proc the guest must see otherwise (procfs.c). */
#include <linux/fcntl.h>
#include <linux/stat.h>

#include "linux/host-stat.h"
#include "linux/linux.h"
#include "linux/open-flags.h"
#include "linux/watch.h"

static const uint64_t here = (uint64_t)(int64_t)AT_FDCWD;

/* O_DIRECTORY and O_DIRECT, and O_NOFOLLOW and O_LARGEFILE, have each other's bits. */
uint64_t linux_open_flags(uint64_t flags) {
  uint64_t moved = X86_O_DIRECT | X86_O_LARGEFILE | X86_O_DIRECTORY | X86_O_NOFOLLOW;
  uint64_t up = flags & (X86_O_DIRECT | X86_O_LARGEFILE), down = flags & (X86_O_DIRECTORY | X86_O_NOFOLLOW);
  return (flags & ~moved) | up << 2 | down >> 2;
}

/* --- open -------------------------------------------------------------------------------------------- */

static int64_t open_at(LinuxThread *thread, uint64_t dirfd, uint64_t path, uint64_t flags, uint64_t mode) {
  char replacement[LINUX_PATH_MAX];
  int64_t fd = linux_guest_call_list(thread, __NR_openat, dirfd, linux_path(path, replacement),
                                     linux_open_flags(flags), mode);
  linux_watch_opened(fd, flags);
  return fd < 0 || flags & O_PATH_ONLY ? fd : linux_procfs_opened(fd, (int)dirfd, path, flags);
}

int64_t sys_open(GuestCpu *cpu, const uint64_t a[6]) {
  return open_at(linux_thread(cpu), here, a[0], a[1], a[2]);
}

int64_t sys_creat(GuestCpu *cpu, const uint64_t a[6]) {
  return open_at(linux_thread(cpu), here, a[0], 1 /* O_WRONLY */ | O_CREATE | O_TRUNCATE, a[1]);
}

int64_t sys_openat(GuestCpu *cpu, const uint64_t a[6]) {
  return open_at(linux_thread(cpu), a[0], a[1], a[2] & 0xffffffff, a[3]);
}

int64_t sys_openat2(GuestCpu *cpu, const uint64_t a[6]) {
  struct {
    uint64_t flags, mode, resolve, later[8];
  } how = {0};
  char replacement[LINUX_PATH_MAX];
  if (a[3] < 3 * sizeof(uint64_t)) return -EINVAL;
  if (a[3] > sizeof how) return -E2BIG;
  if (linux_copy_in(&how, a[2], a[3])) return -EFAULT;
  uint64_t flags = how.flags;
  how.flags = linux_open_flags(flags);
  int64_t fd = linux_guest_call_list(linux_thread(cpu), __NR_openat2, a[0], linux_path(a[1], replacement),
                                     (uint64_t)&how, a[3]);
  linux_watch_opened(fd, flags);
  return fd < 0 || flags & O_PATH_ONLY ? fd : linux_procfs_opened(fd, (int)a[0], a[1], flags);
}

int64_t sys_open_by_handle_at(GuestCpu *cpu, const uint64_t a[6]) {
  int64_t fd = linux_guest_call_list(linux_thread(cpu), __NR_open_by_handle_at, a[0], a[1], linux_open_flags(a[2]));
  linux_watch_opened(fd, a[2]);
  return fd;
}

int64_t sys_mq_open(GuestCpu *cpu, const uint64_t a[6]) {
  return linux_guest_call_list(linux_thread(cpu), __NR_mq_open, a[0], linux_open_flags(a[1]), a[2], a[3]);
}

int64_t sys_fanotify_init(GuestCpu *cpu, const uint64_t a[6]) {
  return linux_guest_call_list(linux_thread(cpu), __NR_fanotify_init, a[0], linux_open_flags(a[1]));
}

int64_t sys_pipe2(GuestCpu *cpu, const uint64_t a[6]) {
  return linux_guest_call_list(linux_thread(cpu), __NR_pipe2, a[0], linux_open_flags(a[1]));
}

int64_t sys_pipe(GuestCpu *cpu, const uint64_t a[6]) {
  return linux_guest_call_list(linux_thread(cpu), __NR_pipe2, a[0], 0);
}

int64_t sys_fcntl(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  if (a[1] == F_SETFL) return linux_guest_call_list(thread, __NR_fcntl, a[0], a[1], linux_open_flags(a[2]));
  int64_t result = linux_guest_call(thread, __NR_fcntl, a);
  return a[1] == F_GETFL && result >= 0 ? (int64_t)linux_open_flags((uint64_t)result) : result;
}

/* --- stat -------------------------------------------------------------------------------------------- */

static int64_t give_stat(const HostStat *host, uint64_t to) {
  GuestStat guest = {.device = host->device,
                     .inode = linux_namespace_inode(host->device, host->inode),
                     .links = host->links,
                     .mode = host->mode,
                     .uid = host->uid,
                     .gid = host->gid,
                     .special_device = host->special_device,
                     .size = host->size,
                     .block_size = host->block_size,
                     .blocks = host->blocks,
                     .access_time = host->access_time,
                     .access_nanoseconds = host->access_nanoseconds,
                     .modify_time = host->modify_time,
                     .modify_nanoseconds = host->modify_nanoseconds,
                     .change_time = host->change_time,
                     .change_nanoseconds = host->change_nanoseconds};
  return linux_copy_out(to, &guest, sizeof guest);
}

static int64_t stat_at(GuestCpu *cpu, uint64_t dirfd, uint64_t path, uint64_t to, uint64_t flags) {
  HostStat host;
  char replacement[LINUX_PATH_MAX];
  uint64_t wanted = flags & AT_SYMLINK_NOFOLLOW ? path : linux_path(path, replacement);
  int64_t error =
      linux_guest_call_list(linux_thread(cpu), __NR_newfstatat, dirfd, wanted, (uint64_t)&host, flags);
  if (error >= 0 && !(flags & AT_SYMLINK_NOFOLLOW) && linux_procfs_is_translator(host.device, host.inode) &&
      linux_copy_string(replacement, path, LINUX_PATH_MAX) > 0 &&
      linux_procfs_exe((int)dirfd, replacement, true, replacement))
    error = host_call(__NR_newfstatat, AT_FDCWD, replacement, &host, 0);
  return error < 0 ? error : give_stat(&host, to);
}

int64_t sys_stat(GuestCpu *cpu, const uint64_t a[6]) { return stat_at(cpu, here, a[0], a[1], 0); }

int64_t sys_lstat(GuestCpu *cpu, const uint64_t a[6]) {
  return stat_at(cpu, here, a[0], a[1], AT_SYMLINK_NOFOLLOW);
}

int64_t sys_newfstatat(GuestCpu *cpu, const uint64_t a[6]) { return stat_at(cpu, a[0], a[1], a[2], a[3]); }

int64_t sys_fstat(GuestCpu *cpu, const uint64_t a[6]) {
  HostStat host;
  int64_t error = linux_guest_call_list(linux_thread(cpu), __NR_fstat, a[0], (uint64_t)&host);
  return error < 0 ? error : give_stat(&host, a[1]);
}

int64_t sys_statx(GuestCpu *cpu, const uint64_t a[6]) {
  char replacement[LINUX_PATH_MAX];
  uint64_t wanted = a[2] & AT_SYMLINK_NOFOLLOW ? a[1] : linux_path(a[1], replacement);
  int64_t error = linux_guest_call_list(linux_thread(cpu), __NR_statx, a[0], wanted, a[2], a[3], a[4]);
  return error < 0 ? error : linux_namespace_statx(a[4]);
}

static int64_t access_at(GuestCpu *cpu, uint64_t dirfd, uint64_t path, uint64_t mode) {
  char replacement[LINUX_PATH_MAX];
  return linux_guest_call_list(linux_thread(cpu), __NR_faccessat, dirfd, linux_path(path, replacement), mode);
}

int64_t sys_access(GuestCpu *cpu, const uint64_t a[6]) { return access_at(cpu, here, a[0], a[1]); }

int64_t sys_faccessat(GuestCpu *cpu, const uint64_t a[6]) { return access_at(cpu, a[0], a[1], a[2]); }

int64_t sys_faccessat2(GuestCpu *cpu, const uint64_t a[6]) {
  char replacement[LINUX_PATH_MAX];
  return linux_guest_call_list(linux_thread(cpu), __NR_faccessat2, a[0], linux_path(a[1], replacement), a[2],
                               a[3]);
}

/* --- mounts ------------------------------------------------------------------------------------------ */

/* Container run-times make a mount of their program, to execute themselves from where nobody can write. */
int64_t sys_mount(GuestCpu *cpu, const uint64_t a[6]) {
  char replacement[LINUX_PATH_MAX];
  return linux_guest_call_list(linux_thread(cpu), __NR_mount, linux_path(a[0], replacement), a[1], a[2], a[3], a[4]);
}

int64_t sys_open_tree(GuestCpu *cpu, const uint64_t a[6]) {
  char replacement[LINUX_PATH_MAX];
  return linux_guest_call_list(linux_thread(cpu), __NR_open_tree, a[0], linux_path(a[1], replacement), a[2]);
}

/* --- links ------------------------------------------------------------------------------------------- */

static int64_t readlink_at(GuestCpu *cpu, uint64_t dirfd, uint64_t path, uint64_t to, uint64_t size) {
  char target[LINUX_PATH_MAX];
  int length = linux_procfs_readlink((int)dirfd, path, target);
  if (length <= 0) {
    int64_t got = linux_guest_call_list(linux_thread(cpu), __NR_readlinkat, dirfd, path, to, size);
    int error = got > 0 ? linux_namespace_link(to, (size_t)got) : 0;
    return error ? error : got;
  }
  if ((int)size <= 0) return -EINVAL;
  if ((uint64_t)length > size) length = (int)size;
  int error = linux_copy_out(to, target, (size_t)length);
  return error ? error : length;
}

int64_t sys_readlink(GuestCpu *cpu, const uint64_t a[6]) { return readlink_at(cpu, here, a[0], a[1], a[2]); }

int64_t sys_readlinkat(GuestCpu *cpu, const uint64_t a[6]) {
  return readlink_at(cpu, a[0], a[1], a[2], a[3]);
}

/* --- calls that became their -at forms ------------------------------------------------------------- */

#define AT_FORM(name, host, ...)                                                                     \
  int64_t sys_##name(GuestCpu *cpu, const uint64_t a[6]) {                                           \
    return linux_guest_call_list(linux_thread(cpu), __NR_##host, __VA_ARGS__);                       \
  }

AT_FORM(rename, renameat2, here, a[0], here, a[1])
AT_FORM(mkdir, mkdirat, here, a[0], a[1])
AT_FORM(rmdir, unlinkat, here, a[0], AT_REMOVEDIR)
AT_FORM(link, linkat, here, a[0], here, a[1])
AT_FORM(unlink, unlinkat, here, a[0])
AT_FORM(symlink, symlinkat, a[0], here, a[1])
AT_FORM(chmod, fchmodat, here, a[0], a[1])
AT_FORM(chown, fchownat, here, a[0], a[1], a[2])
AT_FORM(lchown, fchownat, here, a[0], a[1], a[2], AT_SYMLINK_NOFOLLOW)
AT_FORM(mknod, mknodat, here, a[0], a[1], a[2])
AT_FORM(inotify_init, inotify_init1, 0)

int64_t sys_dup2(GuestCpu *cpu, const uint64_t a[6]) {
  LinuxThread *thread = linux_thread(cpu);
  if (a[0] != a[1]) return linux_guest_call_list(thread, __NR_dup3, a[0], a[1]);
  int64_t flags = host_call(__NR_fcntl, a[0], F_GETFD); /* only: is it open? */
  return flags < 0 ? flags : (int64_t)(uint32_t)a[1];
}

/* --- directories ------------------------------------------------------------------------------------- */

enum { ENTRIES_MAX = 32768, OLD_ENTRY_NAME = 18 };

/* Entries of a folder into `buffer`, which is the translator's, without those that the program has no business with. */
static int64_t read_entries(LinuxThread *thread, uint64_t fd, void *buffer, uint64_t size) {
  int64_t got;
  do {
    got = linux_guest_call_list(thread, __NR_getdents64, fd, (uint64_t)buffer, size);
    if (got <= 0 || !linux_procfs_may_be_files(buffer, (uint64_t)got)) return got;
    got = (int64_t)linux_procfs_files((int)fd, buffer, (uint64_t)got);
  } while (got == 0); /* all were the translator's: that is not the end */
  return got;
}

/* struct linux_dirent: an old entry has the type after the name's zero, in its last byte: the same length does. */
static void make_old(LinuxEntry *entry) {
  uint8_t type = entry->type;
  char *bytes = (char *)entry;
  size_t name = strlen(entry->name) + 1;
  memmove(bytes + OLD_ENTRY_NAME, entry->name, name);
  memset(bytes + OLD_ENTRY_NAME + name, 0, entry->length - OLD_ENTRY_NAME - name);
  bytes[entry->length - 1] = (char)type;
}

static int64_t get_entries(GuestCpu *cpu, const uint64_t a[6], bool old) {
  uint64_t size = (uint32_t)a[2] < ENTRIES_MAX ? (uint32_t)a[2] : ENTRIES_MAX;
  char *buffer = base_alloc(size ? size : 1);
  if (!buffer) return -ENOMEM;
  int64_t got = read_entries(linux_thread(cpu), a[0], buffer, size);
  for (int64_t at = 0; old && at < got; at += ((LinuxEntry *)(buffer + at))->length) make_old((LinuxEntry *)(buffer + at));
  int error = got > 0 ? linux_copy_out(a[1], buffer, (size_t)got) : 0;
  base_free(buffer);
  return error ? error : got;
}

int64_t sys_getdents(GuestCpu *cpu, const uint64_t a[6]) { return get_entries(cpu, a, true); }

int64_t sys_getdents64(GuestCpu *cpu, const uint64_t a[6]) { return get_entries(cpu, a, false); }

/* --- times ------------------------------------------------------------------------------------------- */

static int64_t set_times(GuestCpu *cpu, uint64_t dirfd, uint64_t path, const int64_t times[4]) {
  return linux_guest_call_list(linux_thread(cpu), __NR_utimensat, dirfd, path, (uint64_t)times);
}

int64_t sys_utime(GuestCpu *cpu, const uint64_t a[6]) {
  int64_t given[2];
  if (!a[1]) return set_times(cpu, here, a[0], NULL);
  if (linux_copy_in(given, a[1], sizeof given)) return -EFAULT;
  return set_times(cpu, here, a[0], (int64_t[4]){given[0], 0, given[1], 0});
}

static int64_t utimes_at(GuestCpu *cpu, uint64_t dirfd, uint64_t path, uint64_t from) {
  int64_t given[4];
  if (!from) return set_times(cpu, dirfd, path, NULL);
  if (linux_copy_in(given, from, sizeof given)) return -EFAULT;
  if (given[1] < 0 || given[1] >= 1000000 || given[3] < 0 || given[3] >= 1000000) return -EINVAL;
  given[1] *= 1000;
  given[3] *= 1000;
  return set_times(cpu, dirfd, path, given);
}

int64_t sys_utimes(GuestCpu *cpu, const uint64_t a[6]) { return utimes_at(cpu, here, a[0], a[1]); }

int64_t sys_futimesat(GuestCpu *cpu, const uint64_t a[6]) { return utimes_at(cpu, a[0], a[1], a[2]); }

int64_t sys_time(GuestCpu *cpu, const uint64_t a[6]) {
  int64_t now[2];
  host_call(__NR_clock_gettime, 5 /* CLOCK_REALTIME_COARSE, as time() is */, now);
  int error = a[0] ? linux_copy_out(a[0], now, sizeof now[0]) : 0;
  return error ? error : now[0];
}
