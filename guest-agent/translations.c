// See translations.h.
#include "translations.h"

#include <ctype.h>
#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define STORE_PREFIX "store."
#define NEW          "new"  // a store on its way to its name
#define WORK         "work" // stele-aot's own directory
#define TURN         "turn" // locked by whose turn it is

enum {
  USER = 65533,         // nobody else's: reserved by Debian's policy (9.2.2), and no container's
  READ_SECONDS = 60,    // a file's server may never answer
  MAKE_SECONDS = 1800,  // for stele-aot to take
  FILE_MAX = 512 << 20, // bytes of a program
  COPIED_MAX = 4 << 20, // bytes of one that is copied before its turn comes
  STORES_MAX = 256,     // that are looked at
};

// --- the directory -------------------------------------------------------------------------------------

static int compare_numbers(const void *a, const void *b) {
  unsigned long x = *(const unsigned long *)a, y = *(const unsigned long *)b;
  return x < y ? -1 : x > y;
}

static bool parse_number(const char *name, unsigned long *ret_number) {
  char *end;
  size_t length = strlen(STORE_PREFIX);
  if (strncmp(name, STORE_PREFIX, length) != 0 || !isdigit((unsigned char)name[length])) return false;
  *ret_number = strtoul(name + length, &end, 10);
  return !*end && *ret_number > 0;
}

static void name_store(unsigned long number, char *ret_name, size_t size) {
  snprintf(ret_name, size, STORE_PREFIX "%08lu", number);
}

size_t translations_list(const Translations *t, unsigned long *ret_numbers, size_t max) {
  int fd = openat(t->directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *entries = fd < 0 ? NULL : fdopendir(fd);
  size_t count = 0;
  for (struct dirent *entry; entries && (entry = readdir(entries)) && count < max;)
    if (parse_number(entry->d_name, &ret_numbers[count])) count++;
  if (entries) closedir(entries);
  qsort(ret_numbers, count, sizeof *ret_numbers, compare_numbers);
  return count;
}

int translations_open(const Translations *t, unsigned long number) {
  char name[32];
  name_store(number, name, sizeof name);
  return openat(t->directory, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
}

static uint64_t size_of(const Translations *t, unsigned long number) {
  struct stat status;
  char name[32];
  name_store(number, name, sizeof name);
  return fstatat(t->directory, name, &status, AT_SYMLINK_NOFOLLOW) == 0 ? (uint64_t)status.st_size : 0;
}

static void say(int out, char sign, unsigned long number) {
  dprintf(out, "%c%lu\n", sign, number);
}

static void drop(const Translations *t, unsigned long number, int out) {
  char name[32];
  name_store(number, name, sizeof name);
  unlinkat(t->directory, name, 0);
  say(out, '-', number);
}

// --- the file ------------------------------------------------------------------------------------------

// The ends of the mapping that has the address.
static bool find_mapping(pid_t process, uint64_t address, unsigned long *ret_start, unsigned long *ret_end) {
  char path[48], *line = NULL;
  size_t size = 0;
  bool found = false;
  snprintf(path, sizeof path, "/proc/%d/maps", (int)process);
  FILE *maps = fopen(path, "re");
  while (maps && !found && getline(&line, &size, maps) > 0)
    found = sscanf(line, "%lx-%lx", ret_start, ret_end) == 2 && *ret_start <= address && address < *ret_end;
  if (maps) fclose(maps);
  free(line);
  return found;
}

// What others may not read, their translations must not tell. What has no name any more is not executed again.
static bool is_wanted(const Translations *t, int fd) {
  struct stat status;
  return fstat(fd, &status) == 0 && S_ISREG(status.st_mode) && status.st_mode & S_IROTH && status.st_nlink > 0 &&
         status.st_size > 0 && status.st_size <= FILE_MAX && (uint64_t)status.st_size <= t->limit;
}

// The very file that is mapped, by the kernel's link to it: no name is looked up in anybody's root.
static int open_mapped(const Translations *t, pid_t process, uint64_t address) {
  char path[96];
  unsigned long start, end;
  if (!find_mapping(process, address, &start, &end)) return -1;
  snprintf(path, sizeof path, "/proc/%d/map_files/%lx-%lx", (int)process, start, end);
  int link = open(path, O_PATH | O_CLOEXEC);
  if (link < 0) return -1;
  snprintf(path, sizeof path, "/proc/self/fd/%d", link);
  int fd = is_wanted(t, link) ? open(path, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC) : -1;
  close(link);
  return fd;
}

static bool copy(int from, int to, off_t size) {
  while (size > 0) {
    ssize_t sent = sendfile(to, from, NULL, (size_t)size);
    if (sent < 0 && errno == EINTR) continue;
    if (sent <= 0) return false;
    size -= sent;
  }
  return true;
}

// On the disk where the stores are, if its file system can.
static int open_scratch(const Translations *t) {
  int fd = openat(t->directory, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0644);
  return fd >= 0 ? fd : memfd_create("program", MFD_CLOEXEC);
}

// Puts a copy in the place of a file that is not too large, which so is closed: its file system can be unmounted, and
// its server is not waited for any more. False where the file stays.
static bool take_copy(const Translations *t, int *file, off_t most) {
  struct stat status;
  if (fstat(*file, &status) < 0 || status.st_size > most) return false;
  int scratch = open_scratch(t);
  if (scratch >= 0 && copy(*file, scratch, status.st_size)) {
    close(*file);
    *file = scratch;
    return true;
  }
  if (scratch >= 0) close(scratch);
  return false;
}

static bool is_program(int file) {
  Elf64_Ehdr header;
  return pread(file, &header, sizeof header, 0) == sizeof header && memcmp(header.e_ident, ELFMAG, SELFMAG) == 0 &&
         header.e_machine == EM_X86_64;
}

// --- stele-aot -----------------------------------------------------------------------------------------

static void clear_work(int work) {
  int fd = openat(work, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  DIR *entries = fd < 0 ? NULL : fdopendir(fd);
  for (struct dirent *entry; entries && (entry = readdir(entries));) unlinkat(work, entry->d_name, 0);
  if (entries) closedir(entries);
}

static int open_work(const Translations *t) {
  mkdirat(t->directory, WORK, 0700);
  int work = openat(t->directory, WORK, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (work < 0) return -1;
  clear_work(work);
  if (fchmod(work, 0700) == 0 && fchown(work, USER, USER) == 0) return work;
  close(work);
  return -1;
}

static void limit(int what, rlim_t most) {
  const struct rlimit both = {most, most};
  setrlimit(what, &both);
}

static void be_nobody(const Translations *t) {
  const struct sched_param batch = {0};
  sched_setscheduler(0, SCHED_BATCH, &batch); // not SCHED_IDLE: where there is most to do it is wanted most
  setpriority(PRIO_PROCESS, 0, 19);
  limit(RLIMIT_CORE, 0);
  limit(RLIMIT_CPU, MAKE_SECONDS);
  limit(RLIMIT_FSIZE, t->limit);
  signal(SIGXFSZ, SIG_IGN);
  if (unshare(CLONE_NEWNET | CLONE_NEWIPC) < 0)
    unshare(CLONE_NEWIPC); // a kernel without networks has none to keep it from
  if (setgroups(0, NULL) < 0 || setresgid(USER, USER, USER) < 0 || setresuid(USER, USER, USER) < 0) _exit(127);
  prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
  prctl(PR_SET_PDEATHSIG, SIGKILL);
}

// `files` are the ones that are read, and stay open there.
static void execute(const Translations *t, char **argv, const int *files, size_t count, int work) {
  static char *const environment[] = {"LC_ALL=C", NULL};
  int null = open("/dev/null", O_RDWR);
  for (int i = 0; i < 3; i++) dup2(null, i);
  for (size_t i = 0; i < count; i++) fcntl(files[i], F_SETFD, 0);
  fcntl(work, F_SETFD, 0);
  be_nobody(t);
  syscall(SYS_execveat, t->program, "", argv, environment, AT_EMPTY_PATH);
  _exit(127);
}

// Translates files, or joins stores. Whether it did, to "store" in `work`.
static bool run(const Translations *t, bool join, const int *files, size_t count, int work) {
  char output[48], paths[STORES_MAX][32];
  char *argv[STORES_MAX + 16] = {"stele-aot", "--quiet",  "--jobs",          "1",          "--output",
                                 output,      "--memory", (char *)t->memory, "--features", (char *)t->features};
  size_t argc = 10;
  int status = -1;
  if (join) argv[argc++] = "--join";
  snprintf(output, sizeof output, "/proc/self/fd/%d/store", work);
  for (size_t i = 0; i < count; i++) {
    snprintf(paths[i], sizeof paths[i], "/proc/self/fd/%d", files[i]);
    argv[argc++] = paths[i];
  }
  pid_t child = fork();
  if (child == 0) execute(t, argv, files, count, work);
  while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
  }
  return child > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

// Whoever made it is gone; a copy is root's. Whether it has its name.
static bool publish(const Translations *t, int work, unsigned long number) {
  struct stat status;
  char name[32];
  name_store(number, name, sizeof name);
  int from = openat(work, "store", O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK), to = -1;
  bool good = from >= 0 && fstat(from, &status) == 0 && S_ISREG(status.st_mode) && status.st_uid == USER &&
              (uint64_t)status.st_size <= t->limit;
  if (good) {
    unlinkat(t->directory, NEW, 0);
    to = openat(t->directory, NEW, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
  }
  good = to >= 0 && copy(from, to, status.st_size) && fsync(to) == 0 &&
         renameat(t->directory, NEW, t->directory, name) == 0;
  if (!good) unlinkat(t->directory, NEW, 0);
  if (to >= 0) close(to);
  if (from >= 0) close(from);
  clear_work(work);
  return good;
}

// --- what there is ---------------------------------------------------------------------------------------

// How many of the newest stores are joined: as many as are small beside what is newer than they, so that a byte is
// copied few times.
static size_t joined_count(const Translations *t, const unsigned long *numbers, size_t count) {
  uint64_t sum = 0;
  size_t joined = 0;
  for (; joined < count; joined++) {
    uint64_t size = size_of(t, numbers[count - 1 - joined]);
    if (joined >= t->most / 2 && size > sum) break;
    sum += size;
  }
  return joined;
}

// Newest first, whose images count.
static bool join_newest(const Translations *t, const unsigned long *numbers, size_t count, int work,
                        unsigned long number) {
  int files[STORES_MAX];
  for (size_t i = 0; i < count; i++) files[i] = translations_open(t, numbers[count - 1 - i]);
  bool good = run(t, true, files, count, work) && publish(t, work, number);
  for (size_t i = 0; i < count; i++)
    if (files[i] >= 0) close(files[i]);
  return good;
}

static void tidy(const Translations *t, int work, int out) {
  unsigned long numbers[STORES_MAX];
  size_t count = translations_list(t, numbers, STORES_MAX), first = 0;
  uint64_t sum = 0;
  for (size_t i = 0; i < count; i++) sum += size_of(t, numbers[i]);
  for (; first + 1 < count && sum > t->limit; first++) {
    sum -= size_of(t, numbers[first]);
    drop(t, numbers[first], out);
  }
  if (count - first < t->most) return;
  size_t joined = joined_count(t, numbers + first, count - first);
  unsigned long next = numbers[count - 1] + 1;
  if (!join_newest(t, numbers + count - joined, joined, work, next)) return;
  for (size_t i = count - joined; i < count; i++) drop(t, numbers[i], out);
  say(out, '+', next);
}

static int wait_for_turn(const Translations *t) {
  int turn = openat(t->directory, TURN, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
  while (turn >= 0 && flock(turn, LOCK_EX) < 0 && errno == EINTR) {
  }
  return turn;
}

void translations_make(const Translations *t, pid_t process, uint64_t address, int out) {
  unsigned long numbers[STORES_MAX];
  signal(SIGALRM, SIG_DFL);
  alarm(READ_SECONDS);
  int file = open_mapped(t, process, address);
  if (file < 0) _exit(1);
  dprintf(out, "opened\n");
  bool copied = take_copy(t, &file, COPIED_MAX);
  alarm(0);
  if (wait_for_turn(t) < 0) _exit(1);
  alarm(READ_SECONDS);
  if ((!copied && !take_copy(t, &file, FILE_MAX)) || !is_program(file)) _exit(1);
  alarm(MAKE_SECONDS); // stele-aot ends with this process
  int work = open_work(t);
  size_t count = translations_list(t, numbers, STORES_MAX);
  unsigned long next = count ? numbers[count - 1] + 1 : 1;
  if (work < 0 || !run(t, false, &file, 1, work) || !publish(t, work, next)) _exit(1);
  say(out, '+', next);
  tidy(t, work, out);
  _exit(0);
}
