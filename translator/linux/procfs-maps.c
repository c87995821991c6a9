/* The files of /proc/PID that list mappings, of this process and of others that are translated: maps, smaps,
 * smaps_rollup, numa_maps, and the folder map_files. The kernel's own text is read and what is the translator's left out.
 *
 * Of this process the guest's memory map knows what is the guest's and how protected. Of another one it is what lies
 * below 2^47 and does not come from the translator's file or its store; what of a file it may execute is read from the file's
 * headers, since the host never has guest code executable (memory.c). */
#include <elf.h>
#include <linux/fcntl.h>

#include "linux/host-stat.h"
#include "linux/linux.h"
#include "linux/procfs.h"
#include "linux/store.h"

enum { READ_BUFFER = 64 * 1024, MAPS_LINE = LINUX_PATH_MAX + 128, ROLLUP_ROWS = 40, SEGMENTS_MAX = 16 };

/* `part` in `text`, or NULL. */
static const char *find_text(const char *text, const char *part) {
  size_t length = strlen(part);
  for (; *text; text++)
    if (!strncmp(text, part, length)) return text;
  return NULL;
}

/* --- reading ------------------------------------------------------------------------------------------- */

/* A text file by lines. */
typedef struct Reader {
  int fd;
  size_t at, length;
  char buffer[READ_BUFFER];
} Reader;

/* The next line without its end; NULL when there is none. */
static char *next_line(Reader *reader) {
  for (;;) {
    char *start = reader->buffer + reader->at, *end = memchr(start, '\n', reader->length - reader->at);
    if (end) {
      *end = '\0';
      reader->at = (size_t)(end - reader->buffer) + 1;
      return start;
    }
    reader->length -= reader->at;
    memmove(reader->buffer, start, reader->length);
    reader->at = 0;
    int64_t got = host_call(__NR_read, reader->fd, reader->buffer + reader->length, READ_BUFFER - reader->length);
    if (got <= 0) return NULL;
    reader->length += (size_t)got;
  }
}

int procfs_write(int fd, const void *from, uint64_t length) {
  for (uint64_t done = 0; done < length;) {
    int64_t wrote = host_call(__NR_write, fd, (const char *)from + done, length - done);
    if (wrote <= 0) return wrote ? (int)wrote : -EIO;
    done += (uint64_t)wrote;
  }
  return 0;
}

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
    if (c >= '0' && c <= '9')
      value = value * 16 + (uint64_t)(c - '0');
    else if (c >= 'a' && c <= 'f')
      value = value * 16 + (uint64_t)(c - 'a' + 10);
    else
      return value;
  }
}

static void parse_line(const char *at, Line *line) {
  size_t device = 0;
  *line = (Line){0};
  line->start = parse_hex(&at);
  if (*at == '-') at++;
  line->end = parse_hex(&at);
  if (strlen(at) < 6) return;
  line->flags = (at[1] == 'r' ? MEMORY_READ : 0u) | (at[2] == 'w' ? MEMORY_WRITE : 0u) |
                (at[3] == 'x' ? MEMORY_EXEC : 0u) | (at[4] == 's' ? MEMORY_SHARED : 0u);
  at += 5;
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
  return procfs_write(fd, text, length);
}

/* --- which parts of a mapping are the program's --------------------------------------------------------- */

/* The loadable segments of the file that was asked about last. */
typedef struct Headers {
  char name[LINUX_PATH_MAX];
  unsigned count;
  Elf64_Phdr segment[SEGMENTS_MAX];
} Headers;

typedef struct Work {
  const ProcfsProcess *process;
  int to, error;
  Reader reader;
  Line host, part, last; /* last: not written yet, since the next may continue it */
  bool any;
  Headers headers;
  struct {
    char name[24];
    uint64_t kilobytes;
  } sums[ROLLUP_ROWS];
  uint64_t lowest, highest;
} Work;

/* The file of a mapping, if the name still leads to it from here. */
static int64_t open_mapped(const Line *line) {
  HostStat status;
  if (line->name[0] != '/' || !line->inode) return -ENOENT;
  int64_t fd = host_call(__NR_openat, AT_FDCWD, line->name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) return fd;
  bool same = host_call(__NR_fstat, fd, &status) == 0 && status.inode == line->inode && (status.mode >> 12) == 8;
  if (same) return fd;
  host_call(__NR_close, fd);
  return -ENOENT;
}

static void read_headers(Headers *headers, const Line *line) {
  Elf64_Ehdr header;
  memcpy(headers->name, line->name, sizeof headers->name);
  headers->count = 0;
  int64_t fd = open_mapped(line);
  if (fd < 0) return;
  if (host_call(__NR_pread64, fd, &header, sizeof header, 0) == sizeof header &&
      !memcmp(header.e_ident, ELFMAG, SELFMAG))
    for (unsigned i = 0; i < header.e_phnum && headers->count < SEGMENTS_MAX; i++) {
      Elf64_Phdr *segment = &headers->segment[headers->count];
      if (host_call(__NR_pread64, fd, segment, sizeof *segment, header.e_phoff + i * sizeof *segment) !=
          sizeof *segment)
        break;
      headers->count += segment->p_type == PT_LOAD;
    }
  host_call(__NR_close, fd);
}

/* Whether a mapping of another process shows code at `offset` of its file, and in *ret_until where that may change: the
 * host's kernel joins segments, which are all read-only to it. */
static bool is_code(Headers *headers, const Line *line, uint64_t offset, uint64_t *ret_until) {
  bool code = false;
  *ret_until = UINT64_MAX;
  if (line->name[0] != '/' || line->flags & MEMORY_SHARED || !(line->flags & MEMORY_READ)) return false;
  if (strcmp(headers->name, line->name)) read_headers(headers, line);
  for (unsigned i = 0; i < headers->count; i++) {
    const Elf64_Phdr *segment = &headers->segment[i];
    uint64_t start = segment->p_offset & ~(MEMORY_PAGE_SIZE - 1), bounds[2] = {start};
    bounds[1] = (segment->p_offset + segment->p_filesz + MEMORY_PAGE_SIZE - 1) & ~(MEMORY_PAGE_SIZE - 1);
    for (unsigned bound = 0; bound < 2; bound++)
      if (bounds[bound] > offset && bounds[bound] < *ret_until) *ret_until = bounds[bound];
    if (offset >= start && offset < bounds[1] && !(segment->p_flags & PF_W) == !(line->flags & MEMORY_WRITE))
      code = code || segment->p_flags & PF_X;
  }
  return code;
}

static bool is_translators(const ProcfsProcess *process, const Line *line) {
  static const char *const hosts[] = {"[vdso]", "[vvar]", "[vvar_vclock]", "[vsyscall]", "[uprobes]"};
  for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
    if (!strcmp(line->name, hosts[i])) return true;
  return line->start >= MEMORY_GUEST_END || !strcmp(line->name, process->translator) ||
         !strcmp(line->name, linux_program.self) || (*line->name && !strcmp(line->name, linux_store_name()));
}

/* The next part of work->host from `at` on that is the program's, as the program sees it. */
static bool next_part(Work *work, uint64_t at) {
  const Line *host = &work->host;
  MemoryRange range;
  if (at >= host->end) return false;
  if (!work->process->own) {
    uint64_t offset = host->offset + (at - host->start), until;
    if (is_translators(work->process, host)) return false;
    work->part = *host;
    work->part.start = at;
    if (host->inode) work->part.offset = offset;
    if (is_code(&work->headers, host, offset, &until)) work->part.flags |= MEMORY_EXEC;
    if (until - offset < host->end - at) work->part.end = at + (until - offset);
    return true;
  }
  if (!memory_map_next(at, &range) || range.start >= host->end) return false;
  work->part = *host;
  work->part.start = range.start > host->start ? range.start : host->start;
  work->part.end = range.end < host->end ? range.end : host->end;
  if (host->inode) work->part.offset += work->part.start - host->start;
  work->part.flags = range.flags & ~(uint32_t)MEMORY_CONSTANT;
  if (range.flags & MEMORY_STACK)
    memcpy(work->part.name, "[stack]", 8);
  else if (range.flags & MEMORY_BRK)
    memcpy(work->part.name, "[heap]", 7);
  else if (work->part.name[0] == '[')
    work->part.name[0] = '\0';
  return true;
}

/* --- maps ---------------------------------------------------------------------------------------------- */

static bool continues(const Line *last, const Line *next) {
  return last->end == next->start && last->flags == next->flags && last->inode == next->inode &&
         !strcmp(last->name, next->name) && !strcmp(last->device, next->device) &&
         (!next->inode || last->offset + (last->end - last->start) == next->offset);
}

static void flush_line(Work *work) {
  if (work->any && !work->error) work->error = write_line(work->to, &work->last);
  work->any = false;
}

static void write_maps(Work *work) {
  for (char *text; (text = next_line(&work->reader));) {
    parse_line(text, &work->host);
    for (uint64_t at = work->host.start; next_part(work, at); at = work->part.end) {
      if (work->any && continues(&work->last, &work->part)) {
        work->last.end = work->part.end;
        continue;
      }
      flush_line(work);
      work->last = work->part;
      work->any = true;
    }
  }
  flush_line(work);
}

/* The vsyscall page is in nobody's map and last in everybody's list (vsyscall.c). */
static const Line vsyscall = {.start = LINUX_VSYSCALL_PAGE, .end = LINUX_VSYSCALL_PAGE + MEMORY_PAGE_SIZE,
                              .flags = MEMORY_EXEC, .device = "00:00", .name = "[vsyscall]"};

static void write_maps_and_vsyscall(Work *work) {
  write_maps(work);
  if (!work->error) work->error = write_line(work->to, &vsyscall);
}

/* --- smaps --------------------------------------------------------------------------------------------- */

static void write_text(Work *work, const char *text) {
  if (!work->error) work->error = procfs_write(work->to, text, strlen(text));
  if (!work->error) work->error = procfs_write(work->to, "\n", 1);
}

static void write_size(Work *work) {
  char text[64];
  base_format(text, sizeof text, "Size:           %8lu kB", (work->part.end - work->part.start) / 1024);
  write_text(work, text);
}

/* VmFlags names what the host's mapping may; "ex" is ours to add. */
static void write_flags(Work *work, const char *text) {
  char flags[256];
  bool add = work->part.flags & MEMORY_EXEC && !find_text(text, " ex");
  base_format(flags, sizeof flags, "%s%s", text, add ? "ex " : "");
  write_text(work, flags);
}

/* The numbers of a host mapping go with the first part of it that is the program's; of others only the size is known.
 */
static void write_smaps(Work *work) {
  uint64_t rest = 0;
  bool ours = false;
  for (char *text; (text = next_line(&work->reader));) {
    if (*text >= 'A' && *text <= 'Z') {
      if (!ours) continue;
      if (!strncmp(text, "Size:", 5))
        write_size(work);
      else if (!strncmp(text, "VmFlags:", 8))
        write_flags(work, text);
      else
        write_text(work, text);
      continue;
    }
    for (uint64_t at = rest; ours && next_part(work, at); at = work->part.end) {
      if (!work->error) work->error = write_line(work->to, &work->part);
      write_size(work);
    }
    parse_line(text, &work->host);
    ours = next_part(work, work->host.start);
    if (ours && !work->error) work->error = write_line(work->to, &work->part);
    rest = work->part.end;
  }
  for (uint64_t at = rest; ours && next_part(work, at); at = work->part.end) {
    if (!work->error) work->error = write_line(work->to, &work->part);
    write_size(work);
  }
}

static void write_smaps_and_vsyscall(Work *work) {
  write_smaps(work);
  if (!work->error) work->error = write_line(work->to, &vsyscall);
  write_text(work, "Size:                  4 kB\nKernelPageSize:        4 kB\nMMUPageSize:           4 kB\n"
                   "Rss:                   0 kB\nPss:                   0 kB\nVmFlags: ex ");
}

/* --- smaps_rollup -------------------------------------------------------------------------------------- */

static void add_to_sums(Work *work, const char *text) {
  static const char *const no_sums[] = {
      "Size:", "KernelPageSize:", "MMUPageSize:", "VmFlags:", "THPeligible:", "ProtectionKey:"};
  for (size_t i = 0; i < sizeof no_sums / sizeof *no_sums; i++)
    if (!strncmp(text, no_sums[i], strlen(no_sums[i]))) return;
  const char *colon = strchr(text, ':');
  size_t length = colon ? (size_t)(colon - text) : 0, row = 0;
  if (!length || length >= sizeof work->sums->name) return;
  while (row < ROLLUP_ROWS && work->sums[row].name[0] &&
         (strncmp(work->sums[row].name, text, length) || work->sums[row].name[length]))
    row++;
  if (row == ROLLUP_ROWS) return;
  memcpy(work->sums[row].name, text, length);
  uint64_t value = 0;
  for (const char *at = colon + 1; *at == ' ' || (*at >= '0' && *at <= '9'); at++)
    if (*at != ' ') value = value * 10 + (uint64_t)(*at - '0');
  work->sums[row].kilobytes += value;
}

static void write_rollup(Work *work) {
  char text[128], label[32];
  bool ours = false;
  for (char *line; (line = next_line(&work->reader));) {
    if (*line >= 'A' && *line <= 'Z') {
      if (ours) add_to_sums(work, line);
      continue;
    }
    parse_line(line, &work->host);
    ours = next_part(work, work->host.start);
    if (!ours) continue;
    if (!work->lowest) work->lowest = work->part.start;
    work->highest = work->part.end;
  }
  work->last = (Line){.start = work->lowest, .end = work->highest, .device = "00:00", .name = "[rollup]"};
  if (!work->error) work->error = write_line(work->to, &work->last);
  for (size_t row = 0; row < ROLLUP_ROWS && work->sums[row].name[0]; row++) {
    base_format(label, sizeof label, "%s:", work->sums[row].name);
    base_format(text, sizeof text, "%-15s %8lu kB", label, work->sums[row].kilobytes);
    write_text(work, text);
  }
}

/* --- numa_maps ----------------------------------------------------------------------------------------- */

/* Lines of an address and words; a mapping's end is not told. */
static void write_numa(Work *work) {
  for (char *text; (text = next_line(&work->reader));) {
    const char *at = text, *file = find_text(text, "file=");
    MemoryRange range;
    uint64_t start = parse_hex(&at);
    work->host = (Line){.start = start, .end = start + MEMORY_PAGE_SIZE};
    if (file) base_format(work->host.name, sizeof work->host.name, "%s", file + 5);
    for (char *end = work->host.name; *end; end++)
      if (*end == ' ') *end = '\0';
    bool ours = work->process->own ? memory_map_next(start, &range) && range.start <= start
                                   : !is_translators(work->process, &work->host);
    if (ours) write_text(work, text);
  }
}

/* --- map_files ------------------------------------------------------------------------------------------- */

/* Both the list and the entries are by address; the host may have merged what `maps` shows as several lines. */
static bool is_programs_file(Work *work, uint64_t start) {
  MemoryRange range;
  if (work->process->own) return memory_map_next(start, &range) && range.start <= start;
  for (char *text; work->host.start < start && (text = next_line(&work->reader));) parse_line(text, &work->host);
  return work->host.start == start && !is_translators(work->process, &work->host);
}

static uint64_t filter_files(Work *work, char *entries, uint64_t length) {
  uint64_t kept = 0, entry_length;
  for (uint64_t at = 0; at < length; at += entry_length) {
    const LinuxEntry *entry = (const LinuxEntry *)(entries + at);
    const char *name = entry->name;
    entry_length = entry->length;
    if (*name != '.' && !is_programs_file(work, parse_hex(&name))) continue;
    memmove(entries + kept, entry, entry_length);
    kept += entry_length;
  }
  return kept;
}

uint64_t procfs_filter_files(const ProcfsProcess *process, void *entries, uint64_t length) {
  Work *work = base_alloc(sizeof *work);
  if (!work) return length;
  work->process = process;
  work->reader.fd = (int)host_call(__NR_openat, process->directory, "maps", O_RDONLY | O_CLOEXEC);
  if (work->reader.fd >= 0) {
    length = filter_files(work, entries, length);
    host_call(__NR_close, work->reader.fd);
  }
  base_free(work);
  return length;
}

/* --- all of them --------------------------------------------------------------------------------------- */

static int write_listing(int to, const ProcfsProcess *process, const char *source, void (*write)(Work *work)) {
  Work *work = base_alloc(sizeof *work);
  if (!work) return -ENOMEM;
  work->reader.fd = (int)host_call(__NR_openat, process->directory, source, O_RDONLY | O_CLOEXEC);
  work->process = process;
  work->to = to;
  int error = work->reader.fd;
  if (error >= 0) {
    write(work);
    error = work->error;
    host_call(__NR_close, work->reader.fd);
  }
  base_free(work);
  return error;
}

int procfs_write_maps(int to, const ProcfsProcess *process) {
  return write_listing(to, process, "maps", write_maps_and_vsyscall);
}

int procfs_write_smaps(int to, const ProcfsProcess *process) {
  return write_listing(to, process, "smaps", write_smaps_and_vsyscall);
}

int procfs_write_rollup(int to, const ProcfsProcess *process) {
  return write_listing(to, process, "smaps", write_rollup);
}

int procfs_write_numa(int to, const ProcfsProcess *process) {
  return write_listing(to, process, "numa_maps", write_numa);
}

/* --- which program another process runs ----------------------------------------------------------------- */

/* Where its code starts, as it told the kernel at its start (main.c); 0 where the kernel does not say. */
static uint64_t start_of_code(const ProcfsProcess *process) {
  enum { START_CODE = 26, AFTER_NAME = 2 }; /* fields of /proc/PID/stat, proc(5) */
  char text[1024];
  int64_t fd = host_call(__NR_openat, process->directory, "stat", O_RDONLY | O_CLOEXEC);
  int64_t length = fd >= 0 ? host_call(__NR_read, fd, text, sizeof text - 1) : 0;
  if (fd >= 0) host_call(__NR_close, fd);
  text[length > 0 ? length : 0] = '\0';
  const char *at = strrchr(text, ')');
  for (int field = AFTER_NAME; at && field < START_CODE; field++) {
    at = strchr(at, ' ');
    if (at) at++;
  }
  uint64_t value = 0;
  for (; at && *at >= '0' && *at <= '9'; at++) value = value * 10 + (uint64_t)(*at - '0');
  return value;
}

/* The kernel writes a newline in a name as "\\012" in this list (fs/proc/task_mmu.c). */
static void copy_name(char target[LINUX_PATH_MAX], const char *name) {
  size_t length = 0;
  for (; *name && length + 1 < LINUX_PATH_MAX; name++) {
    bool newline = !strncmp(name, "\\012", 4);
    target[length++] = newline ? '\n' : *name;
    if (newline) name += 3;
  }
  target[length] = '\0';
}

int procfs_program(const ProcfsProcess *process, char target[LINUX_PATH_MAX]) {
  uint64_t code = start_of_code(process);
  Work *work = base_alloc(sizeof *work);
  if (!work) return -ENOMEM;
  int found = -ENOENT;
  work->reader.fd = (int)host_call(__NR_openat, process->directory, "maps", O_RDONLY | O_CLOEXEC);
  if (work->reader.fd >= 0) {
    /* Without the kernel's knowledge: the lowest file, which is the program but in odd cases. */
    for (char *text; (text = next_line(&work->reader));) {
      parse_line(text, &work->host);
      bool says = work->host.start <= code && code < work->host.end;
      if (work->host.name[0] != '/' || is_translators(process, &work->host) || (!says && found > 0)) continue;
      copy_name(target, work->host.name);
      found = (int)strlen(target);
      if (says) break;
    }
    host_call(__NR_close, work->reader.fd);
  }
  base_free(work);
  return found;
}

/* --- where the translator is in another process ----------------------------------------------------------- */

uint64_t procfs_find_image(const ProcfsProcess *process) {
  Work *work = base_alloc(sizeof *work);
  if (!work) return 0;
  uint64_t found = 0;
  work->reader.fd = (int)host_call(__NR_openat, process->directory, "maps", O_RDONLY | O_CLOEXEC);
  if (work->reader.fd >= 0) {
    for (char *text; !found && (text = next_line(&work->reader));) {
      parse_line(text, &work->host);
      bool image = !strcmp(work->host.name, process->translator) || !strcmp(work->host.name, linux_program.self);
      if (image && !work->host.offset) found = work->host.start;
    }
    host_call(__NR_close, work->reader.fd);
  }
  base_free(work);
  return found;
}
