/* Files of /proc whose host content is about stele rather than about the guest's program: answered by what
 * was opened, under whatever name. A read-only open that ended in a procfs is looked at: /proc/cpuinfo,
 * and of our own process maps, cmdline, environ and auxv, are replaced by a memory file with generated
 * content under the same descriptor number. /proc/PID/exe is a link and is answered where links are. */
#include <asm/statfs.h>
#include <linux/fcntl.h>
#include <linux/magic.h>

#include "linux/linux.h"
#include "linux/open-flags.h"

int linux_guarded_prefix(const char *text, const char *prefix);

enum { MAPS_BUFFER = 64 * 1024, MAPS_LINE = LINUX_PATH_MAX + 128 };

/* --- names ------------------------------------------------------------------------------------------- */

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

bool linux_path_is_exe(const char *path) {
  const char *rest = in_own_process(path);
  return rest && !strcmp(rest, "exe");
}

/* Copies a guest path that begins with /proc/; false for all others, at the cost of a few loads. */
static bool copy_proc_path(uint64_t guest_path, char *to) {
  if (guest_path >= MEMORY_GUEST_END || linux_guarded_prefix((const char *)guest_path, "/proc/") != 1) return false;
  return linux_copy_string(to, guest_path, LINUX_PATH_MAX) >= 0;
}

uint64_t linux_path(uint64_t guest_path, char buffer[LINUX_PATH_MAX]) {
  if (!copy_proc_path(guest_path, buffer) || !linux_path_is_exe(buffer)) return guest_path;
  return (uint64_t)linux_program.exe;
}

/* "exe" under a directory of /proc, ours if the host's answer is stele itself. */
static bool is_relative_exe(int dirfd, uint64_t guest_path) {
  char path[16], target[LINUX_PATH_MAX];
  int length = linux_copy_string(path, guest_path, sizeof path);
  if (length < 3 || strcmp(path + length - 3, "exe")) return false;
  int64_t got = host_call(__NR_readlinkat, dirfd, guest_path, target, sizeof target - 1);
  return got > 0 && (size_t)got == strlen(linux_program.self) && !memcmp(target, linux_program.self, (size_t)got);
}

int linux_procfs_readlink(int dirfd, uint64_t guest_path, char target[LINUX_PATH_MAX]) {
  bool absolute = copy_proc_path(guest_path, target);
  if (absolute ? !linux_path_is_exe(target) : !is_relative_exe(dirfd, guest_path)) return 0;
  memcpy(target, linux_program.exe, LINUX_PATH_MAX);
  return (int)strlen(target);
}

/* --- generated content ------------------------------------------------------------------------------- */

static int write_all(int fd, const void *from, uint64_t length) {
  for (uint64_t done = 0; done < length;) {
    int64_t wrote = host_call(__NR_write, fd, (const char *)from + done, length - done);
    if (wrote <= 0) return wrote ? (int)wrote : -EIO;
    done += (uint64_t)wrote;
  }
  return 0;
}

static int write_cmdline(int fd) {
  return write_all(fd, (void *)linux_program.argv_start, linux_program.argv_end - linux_program.argv_start);
}

static int write_environ(int fd) {
  return write_all(fd, (void *)linux_program.envp_start, linux_program.envp_end - linux_program.envp_start);
}

static int write_auxv(int fd) { return write_all(fd, linux_program.auxv, linux_program.auxv_size); }

/* A line of /proc/PID/maps. */
typedef struct Line {
  uint64_t start, end, offset, inode;
  uint32_t flags; /* MEMORY_* */
  char device[16];
  char name[LINUX_PATH_MAX];
} Line;

static uint64_t parse_hex(const char **at) {
  uint64_t value = 0;
  for (;; ++*at) {
    char c = **at;
    if (c >= '0' && c <= '9') value = value * 16 + (uint64_t)(c - '0');
    else if (c >= 'a' && c <= 'f') value = value * 16 + (uint64_t)(c - 'a' + 10);
    else return value;
  }
}

static void parse_line(const char *at, Line *line) {
  size_t device = 0;
  *line = (Line){0};
  line->start = parse_hex(&at);
  if (*at == '-') at++;
  line->end = parse_hex(&at);
  at = strchr(at + (*at == ' '), ' '); /* over the permissions */
  if (!at) return;
  at++;
  line->offset = parse_hex(&at);
  while (*at == ' ') at++;
  for (; *at && *at != ' '; at++)
    if (device + 1 < sizeof line->device) line->device[device++] = *at;
  while (*at == ' ') at++;
  for (; *at >= '0' && *at <= '9'; at++) line->inode = line->inode * 10 + (uint64_t)(*at - '0');
  while (*at == ' ') at++;
  base_format(line->name, sizeof line->name, "%s", at);
}

static int write_line(int fd, const Line *line) {
  char text[MAPS_LINE];
  size_t length = base_format(text, sizeof text, "%08lx-%08lx %c%c%c%c %08lx %s %lu ", line->start, line->end,
                              line->flags & MEMORY_READ ? 'r' : '-', line->flags & MEMORY_WRITE ? 'w' : '-',
                              line->flags & MEMORY_EXEC ? 'x' : '-', line->flags & MEMORY_SHARED ? 's' : 'p',
                              line->offset, line->device, line->inode);
  while (line->name[0] && length < 73) text[length++] = ' ';
  length += base_format(text + length, sizeof text - length, "%s\n", line->name);
  return write_all(fd, text, length);
}

typedef struct MapsOutput {
  int fd, error;
  bool any;
  Line last;
} MapsOutput;

static bool continues(const Line *last, const Line *next) {
  return last->end == next->start && last->flags == next->flags && last->inode == next->inode &&
         !strcmp(last->name, next->name) && !strcmp(last->device, next->device) &&
         (!next->inode || last->offset + (last->end - last->start) == next->offset);
}

static void emit(MapsOutput *output, const Line *line) {
  if (output->any && continues(&output->last, line)) {
    output->last.end = line->end;
    return;
  }
  if (output->any && !output->error) output->error = write_line(output->fd, &output->last);
  output->last = *line;
  output->any = true;
}

/* The guest's part of one host mapping, with the guest's protections. */
static void emit_guest_part(MapsOutput *output, const Line *host, Line *scratch) {
  MemoryRange range;
  for (uint64_t at = host->start; memory_map_next(at, &range) && range.start < host->end; at = range.end) {
    *scratch = *host;
    scratch->start = range.start > host->start ? range.start : host->start;
    scratch->end = range.end < host->end ? range.end : host->end;
    scratch->offset = host->inode ? host->offset + (scratch->start - host->start) : host->offset;
    scratch->flags = range.flags;
    if (range.flags & MEMORY_STACK) memcpy(scratch->name, "[stack]", 8);
    else if (range.flags & MEMORY_BRK) memcpy(scratch->name, "[heap]", 7);
    else if (scratch->name[0] == '[') scratch->name[0] = '\0';
    emit(output, scratch);
  }
}

typedef struct MapsWork {
  char buffer[MAPS_BUFFER];
  Line host, scratch;
  MapsOutput output;
} MapsWork;

static void read_maps(MapsWork *work, int64_t from) {
  size_t kept = 0;
  for (;;) {
    int64_t got = host_call(__NR_read, from, work->buffer + kept, sizeof work->buffer - 1 - kept);
    if (got <= 0) return;
    size_t length = kept + (size_t)got, at = 0;
    for (char *end; (end = memchr(work->buffer + at, '\n', length - at)); at = (size_t)(end - work->buffer) + 1) {
      *end = '\0';
      parse_line(work->buffer + at, &work->host);
      emit_guest_part(&work->output, &work->host, &work->scratch);
    }
    kept = length - at;
    memmove(work->buffer, work->buffer + at, kept);
  }
}

static int write_maps(int fd) {
  static const Line vsyscall = {.start = LINUX_VSYSCALL_PAGE, .end = LINUX_VSYSCALL_PAGE + MEMORY_PAGE_SIZE,
                                .flags = MEMORY_EXEC, .device = "00:00", .name = "[vsyscall]"};
  MapsWork *work = base_alloc(sizeof *work);
  int64_t from = host_call(__NR_openat, AT_FDCWD, "/proc/self/maps", O_RDONLY | O_CLOEXEC);
  if (!work || from < 0) return -ENOMEM;
  work->output.fd = fd;
  read_maps(work, from);
  emit(&work->output, &vsyscall);
  if (work->output.any && !work->output.error) work->output.error = write_line(fd, &work->output.last);
  int error = work->output.error;
  host_call(__NR_close, from);
  base_free(work);
  return error;
}

/* --- opening ----------------------------------------------------------------------------------------- */

typedef int Writer(int fd);

static const struct {
  const char *name;
  Writer *write;
  bool kernel_may_know; /* the kernel was told and answers for all readers (main.c's tell_kernel) */
} own_files[] = {
    {"maps", write_maps, false},
    {"cmdline", write_cmdline, true},
    {"environ", write_environ, true},
    {"auxv", write_auxv, true},
};

static Writer *writer_for(const char *path) {
  const char *rest = in_own_process(path);
  const char *last = strrchr(path, '/');
  if (last && !strcmp(last, "/cpuinfo")) return linux_identity_cpuinfo;
  for (size_t i = 0; rest && i < sizeof own_files / sizeof *own_files; i++)
    if (!strcmp(rest, own_files[i].name) && !(own_files[i].kernel_may_know && linux_program.kernel_knows))
      return own_files[i].write;
  return NULL;
}

static int64_t replace(int64_t fd, Writer *write, uint64_t flags) {
  int64_t content = host_call(__NR_memfd_create, "proc", 1 /* MFD_CLOEXEC */);
  if (content < 0) return fd;
  int error = write((int)content);
  if (!error) {
    host_call(__NR_lseek, content, 0, 0);
    host_call(__NR_dup3, content, fd, flags & O_CLOSE_ON_EXEC ? O_CLOEXEC : 0);
  }
  host_call(__NR_close, content);
  return fd;
}

int64_t linux_procfs_opened(int64_t fd, uint64_t guest_path, uint64_t flags) {
  char path[LINUX_PATH_MAX], link[32];
  struct statfs file_system;
  if (flags & X86_O_ACCMODE || flags & X86_O_DIRECTORY) return fd;
  Writer *write = copy_proc_path(guest_path, path) ? writer_for(path) : NULL;
  if (!write && host_call(__NR_fstatfs, fd, &file_system) == 0 && file_system.f_type == PROC_SUPER_MAGIC) {
    base_format(link, sizeof link, "/proc/self/fd/%d", (int)fd);
    int64_t length = host_call(__NR_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length > 0) {
      path[length] = '\0';
      write = writer_for(path);
    }
  }
  return write ? replace(fd, write, flags) : fd;
}
