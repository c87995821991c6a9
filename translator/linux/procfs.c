/* Files of /proc whose host content is about stele rather than about the guest's program: answered by what
 * was opened, under whatever name. A read-only open that ended in a procfs is looked at: /proc/cpuinfo, what lists the
 * mappings of this process or of another translated one, their status, and of our own process cmdline, environ and auxv, are
 * replaced by a memory file with generated content under the same descriptor number. What lists the folder
 * /proc/PID/map_files does not see the translator's entries; the others are the kernel's links.
 *
 * /proc/PID/exe is a link: answered where links are, and where a call that followed it has come to the translator's
 * own file. A process is a translated one when that file is its exe; which program it runs is read from its mappings,
 * so who may know is the kernel's to say. */
#include <asm/statfs.h>
#include <linux/fcntl.h>
#include <linux/magic.h>

#include "linux/host-stat.h"
#include "linux/linux.h"
#include "linux/open-flags.h"
#include "linux/procfs.h"

int linux_guarded_prefix(const char *text, const char *prefix);

enum { LINKS_MAX = 40 }; /* as the kernel: MAXSYMLINKS */

/* --- the translator's own file -------------------------------------------------------------------------- */

static struct {
  bool known;
  uint64_t device, inode;
  int file_system[2]; /* statfs.f_fsid */
} translator;

static void know_translator(void) {
  HostStat status = {0};
  struct statfs file_system = {0};
  if (translator.known) return;
  if (host_call(__NR_newfstatat, AT_FDCWD, "/proc/self/exe", &status, 0) == 0 &&
      host_call(__NR_statfs, "/proc/self/exe", &file_system) == 0) {
    translator.device = status.device;
    translator.inode = status.inode;
    memcpy(translator.file_system, &file_system.f_fsid, sizeof translator.file_system);
  }
  translator.known = true;
}

bool linux_procfs_is_translator(uint64_t device, uint64_t inode) {
  know_translator();
  return inode == translator.inode && device == translator.device && inode;
}

/* --- processes ------------------------------------------------------------------------------------------- */

/* After "/proc/": skips "self/", "thread-self/" or our own number, and "task/N/"; NULL for others. */
static const char *in_own_process(const char *path) {
  static const char *const selves[] = {"self/", "thread-self/"};
  char number[16];
  if (strncmp(path, "/proc/", 6)) return NULL;
  path += 6;
  const char *rest = NULL;
  for (size_t i = 0; i < 2; i++)
    if (!strncmp(path, selves[i], strlen(selves[i]))) rest = path + strlen(selves[i]);
  size_t length = base_format(number, sizeof number, "%d/", (int)host_call(__NR_getpid));
  if (!rest && !strncmp(path, number, length)) rest = path + length;
  if (rest && !strncmp(rest, "task/", 5)) {
    rest = strchr(rest + 5, '/');
    if (rest) rest++;
  }
  return rest;
}

/* The path of an open descriptor: its length, or a negative errno. */
static int path_of(int64_t fd, char path[LINUX_PATH_MAX]) {
  char link[32];
  base_format(link, sizeof link, "/proc/self/fd/%d", (int)fd);
  int64_t length = host_call(__NR_readlinkat, AT_FDCWD, link, path, LINUX_PATH_MAX - 1);
  path[length > 0 ? length : 0] = '\0';
  return (int)length;
}

/* The number of the process whose directory a path of procfs names, PID or PID/task/TID, under whatever mount. The path
 * may be cut. */
static int process_number(char *path) {
  char *last = strrchr(path, '/');
  if (last && last - path >= 5 && !strncmp(last - 5, "/task", 5)) {
    last[-5] = '\0';
    last = strrchr(path, '/');
  }
  int number = 0;
  for (const char *at = last ? last + 1 : ""; *at >= '0' && *at <= '9'; at++) number = number * 10 + (*at - '0');
  return number;
}

/* Whether the directory of procfs is that of a translated process, and which. */
static bool find_process(int directory, ProcfsProcess *process) {
  HostStat status;
  process->directory = directory;
  if (path_of(directory, process->translator) <= 0) return false;
  process->own = process_number(process->translator) == (int)host_call(__NR_getpid);
  int64_t length = host_call(__NR_readlinkat, directory, "exe", process->translator, sizeof process->translator - 1);
  process->translator[length > 0 ? length : 0] = '\0';
  if (process->own) return true;
  return length > 0 && host_call(__NR_newfstatat, directory, "exe", &status, 0) == 0 &&
         linux_procfs_is_translator(status.device, status.inode);
}

uint64_t procfs_translator_base(int directory) {
  ProcfsProcess *process = base_alloc(sizeof *process);
  uint64_t base = process && find_process(directory, process) && !process->own ? procfs_find_image(process) : 0;
  base_free(process);
  return base;
}

static bool is_procfs(int64_t fd) {
  struct statfs file_system;
  return host_call(__NR_fstatfs, fd, &file_system) == 0 && file_system.f_type == PROC_SUPER_MAGIC;
}

/* --- /proc/PID/exe --------------------------------------------------------------------------------------- */

bool linux_path_is_exe(const char *path) {
  const char *rest = in_own_process(path);
  return rest && !strcmp(rest, "exe");
}

/* The program of the process whose directory is open, where it is translated. */
static bool program_of(int directory, char target[LINUX_PATH_MAX]) {
  ProcfsProcess *process = base_alloc(sizeof *process);
  bool found = process && find_process(directory, process);
  if (found && process->own)
    memcpy(target, linux_program.exe, LINUX_PATH_MAX);
  else if (found)
    found = procfs_program(process, target) > 0;
  base_free(process);
  return found;
}

/* Opens the directory that a path's last component lies in, and cuts the path down to that component. */
static int64_t open_parent(int dirfd, char *path) {
  char *slash = strrchr(path, '/');
  const char *parent = ".";
  if (slash) {
    *slash = '\0';
    parent = slash == path ? "/" : path;
  }
  int64_t fd = host_call(__NR_openat, dirfd, parent, O_PATH_ONLY | ARM64_O_DIRECTORY | O_CLOEXEC);
  if (slash) memmove(path, slash + 1, strlen(slash + 1) + 1);
  return fd;
}

typedef struct Walk {
  char path[LINUX_PATH_MAX], next[LINUX_PATH_MAX];
} Walk;

/* Follows the links of a path's last component until one is an exe of procfs. */
static bool walk_to_exe(Walk *walk, int dirfd, bool follow, char target[LINUX_PATH_MAX]) {
  int64_t at = dirfd;
  bool found = false;
  for (unsigned links = 0; links < LINKS_MAX; links++) {
    int64_t parent = open_parent((int)at, walk->path);
    if (at != dirfd) host_call(__NR_close, at);
    at = parent;
    if (at < 0) return false;
    found = !strcmp(walk->path, "exe") && is_procfs(at) && program_of((int)at, target);
    if (found || (!follow && links == 0)) break;
    int64_t length = host_call(__NR_readlinkat, at, walk->path, walk->next, sizeof walk->next - 1);
    if (length <= 0) break;
    memcpy(walk->path, walk->next, (size_t)length);
    walk->path[length] = '\0';
  }
  host_call(__NR_close, at);
  return found;
}

bool linux_procfs_exe(int dirfd, const char *path, bool follow, char target[LINUX_PATH_MAX]) {
  if (!*path) return false;
  Walk *walk = base_alloc(sizeof *walk);
  if (!walk) return false;
  base_format(walk->path, sizeof walk->path, "%s", path);
  bool found = walk_to_exe(walk, dirfd, follow, target);
  base_free(walk);
  return found;
}

static bool ends_in_exe(const char *path) {
  size_t length = strlen(path);
  return length >= 3 && !strcmp(path + length - 3, "exe") && (length == 3 || path[length - 4] == '/');
}

/* Copies a guest path that begins with /proc/; false for all others, at the cost of a few loads. */
static bool copy_proc_path(uint64_t guest_path, char *to) {
  if (guest_path >= MEMORY_GUEST_END || linux_guarded_prefix((const char *)guest_path, "/proc/") != 1) return false;
  return linux_copy_string(to, guest_path, LINUX_PATH_MAX) >= 0;
}

bool linux_exe_is_nameless(void) {
  HostStat status; /* the program may have closed what it could not know of, and used the number */
  return linux_program.exe_fd >= 0 && host_call(__NR_fstat, linux_program.exe_fd, &status) == 0 &&
         status.device == linux_program.exe_device && status.inode == linux_program.exe_inode;
}

uint64_t linux_path(uint64_t guest_path, char buffer[LINUX_PATH_MAX]) {
  if (!copy_proc_path(guest_path, buffer) || !ends_in_exe(buffer)) return guest_path;
  if (linux_path_is_exe(buffer) && linux_exe_is_nameless()) {
    base_format(buffer, LINUX_PATH_MAX, "/proc/self/fd/%d", linux_program.exe_fd);
    return (uint64_t)buffer;
  }
  if (linux_path_is_exe(buffer)) return (uint64_t)linux_program.exe;
  return linux_procfs_exe(AT_FDCWD, buffer, true, buffer) ? (uint64_t)buffer : guest_path;
}

int linux_procfs_readlink(int dirfd, uint64_t guest_path, char target[LINUX_PATH_MAX]) {
  if (linux_copy_string(target, guest_path, LINUX_PATH_MAX) < 0 || !ends_in_exe(target)) return 0;
  if (linux_path_is_exe(target))
    memcpy(target, linux_program.exe, LINUX_PATH_MAX);
  else if (!linux_procfs_exe(dirfd, target, false, target))
    return 0;
  return (int)strlen(target);
}

/* --- generated content ------------------------------------------------------------------------------- */

static int write_cpuinfo(int fd, const ProcfsProcess *process) {
  return linux_identity_cpuinfo(fd);
}

static int write_cmdline(int fd, const ProcfsProcess *process) {
  return procfs_write(fd, (void *)linux_program.argv_start, linux_program.argv_end - linux_program.argv_start);
}

static int write_environ(int fd, const ProcfsProcess *process) {
  return procfs_write(fd, (void *)linux_program.envp_start, linux_program.envp_end - linux_program.envp_start);
}

static int write_auxv(int fd, const ProcfsProcess *process) {
  return procfs_write(fd, linux_program.auxv, linux_program.auxv_size);
}

/* The kernel's own text, but for what says that there is seccomp: container engines look here whether they may give their
 * run-time filters, which are refused (sys_prctl()). */
static int write_status(int fd, const ProcfsProcess *process) {
  enum { SIZE = 16384 };
  int64_t file = host_call(__NR_openat, process->directory, "status", O_CLOEXEC);
  char *text = file >= 0 ? base_alloc(SIZE) : NULL;
  int64_t length = 0, got = 1;
  while (text && length < SIZE && (got = host_call(__NR_read, file, text + length, SIZE - length)) > 0) length += got;
  if (file >= 0) host_call(__NR_close, file);
  int error = text && got == 0 ? 0 : -ENOMEM;
  for (int64_t at = 0, end; !error && at < length; at = end) {
    for (end = at; end < length && text[end++] != '\n';) {}
    bool kept = end - at < 7 || strncmp(text + at, "Seccomp", 7);
    if (kept) error = procfs_write(fd, text + at, (uint64_t)(end - at));
  }
  base_free(text);
  return error;
}

typedef int Writer(int fd, const ProcfsProcess *process);

static const struct {
  const char *name;
  Writer *write;
  bool own_only; /* and only if the kernel was not told; else it answers for all readers (main.c's tell_kernel) */
} process_files[] = {
    {"maps", procfs_write_maps, false}, {"smaps", procfs_write_smaps, false},
    {"cmdline", write_cmdline, true},   {"smaps_rollup", procfs_write_rollup, false},
    {"environ", write_environ, true},   {"numa_maps", procfs_write_numa, false},
    {"auxv", write_auxv, true},         {"status", write_status, false},
};

static int64_t replace(int64_t fd, Writer *write, const ProcfsProcess *process, uint64_t flags) {
  int64_t content = host_call(__NR_memfd_create, "proc", 1 /* MFD_CLOEXEC */);
  if (content < 0) return fd;
  int error = write((int)content, process);
  if (!error) {
    host_call(__NR_lseek, content, 0, 0);
    host_call(__NR_dup3, content, fd, flags & O_CLOSE_ON_EXEC ? O_CLOEXEC : 0);
  }
  host_call(__NR_close, content);
  return fd;
}

/* --- opening ----------------------------------------------------------------------------------------- */

/* Replaces a file of a translated process' directory; `path` is the descriptor's. */
static int64_t replace_of_process(int64_t fd, char *path, uint64_t flags) {
  char *name = strrchr(path, '/');
  size_t row = 0, rows = sizeof process_files / sizeof *process_files;
  while (name && row < rows && strcmp(name + 1, process_files[row].name)) row++;
  if (!name || row == rows) return fd;
  *name = '\0';
  ProcfsProcess *process = base_alloc(sizeof *process);
  int64_t directory = host_call(__NR_openat, AT_FDCWD, path, O_PATH_ONLY | ARM64_O_DIRECTORY | O_CLOEXEC);
  if (process && directory >= 0 && find_process((int)directory, process) &&
      (!process_files[row].own_only || (process->own && !linux_program.kernel_knows)))
    replace(fd, process_files[row].write, process, flags);
  if (directory >= 0) host_call(__NR_close, directory);
  base_free(process);
  return fd;
}

/* The translator's file was opened: through a link of procfs it is the program that is meant. */
static int64_t replace_translator(int64_t fd, int dirfd, uint64_t guest_path, char *path, uint64_t flags) {
  HostStat status;
  if (host_call(__NR_fstat, fd, &status) < 0 || !linux_procfs_is_translator(status.device, status.inode)) return fd;
  if (linux_copy_string(path, guest_path, LINUX_PATH_MAX) < 0 || !linux_procfs_exe(dirfd, path, true, path)) return fd;
  host_call(__NR_close, fd);
  return host_call(__NR_openat, AT_FDCWD, path, linux_open_flags(flags), 0);
}

int64_t linux_procfs_opened(int64_t fd, int dirfd, uint64_t guest_path, uint64_t flags) {
  char path[LINUX_PATH_MAX];
  struct statfs file_system;
  if (flags & X86_O_ACCMODE || flags & X86_O_DIRECTORY) return fd;
  if (copy_proc_path(guest_path, path)) { /* what is plain from the name, without asking the kernel */
    if (!strcmp(path, "/proc/cpuinfo")) return replace(fd, write_cpuinfo, NULL, flags);
    if (in_own_process(path) && !strchr(in_own_process(path), '/')) return replace_of_process(fd, path, flags);
  }
  if (host_call(__NR_fstatfs, fd, &file_system) < 0) return fd;
  know_translator();
  if (!memcmp(&file_system.f_fsid, translator.file_system, sizeof translator.file_system) &&
      file_system.f_type != PROC_SUPER_MAGIC)
    return replace_translator(fd, dirfd, guest_path, path, flags);
  if (file_system.f_type != PROC_SUPER_MAGIC || path_of(fd, path) <= 0) return fd;
  const char *last = strrchr(path, '/');
  if (last && !strcmp(last, "/cpuinfo")) return replace(fd, write_cpuinfo, NULL, flags);
  return replace_of_process(fd, path, flags);
}

/* --- map_files --------------------------------------------------------------------------------------- */

bool linux_procfs_may_be_files(const void *entries, uint64_t length) {
  enum { LINK = 10 };
  for (uint64_t at = 0; at + sizeof(LinuxEntry) < length;) {
    const LinuxEntry *entry = (const LinuxEntry *)((const char *)entries + at);
    if (entry->name[0] != '.') return entry->type == LINK;
    at += entry->length;
  }
  return false;
}

uint64_t linux_procfs_files(int fd, void *entries, uint64_t length) {
  ProcfsProcess *process = is_procfs(fd) ? base_alloc(sizeof *process) : NULL;
  if (!process) return length;
  char *path = process->translator, *name = path_of(fd, path) > 0 ? strrchr(path, '/') : NULL;
  bool files = name && !strcmp(name, "/map_files");
  int64_t directory = -1;
  if (files) {
    *name = '\0';
    directory = host_call(__NR_openat, AT_FDCWD, path, O_PATH_ONLY | ARM64_O_DIRECTORY | O_CLOEXEC);
  }
  if (directory >= 0 && find_process((int)directory, process)) length = procfs_filter_files(process, entries, length);
  if (directory >= 0) host_call(__NR_close, directory);
  base_free(process);
  return length;
}
