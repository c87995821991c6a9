// The keeper as a machine has it, on this one: in mount namespaces of its own, with a share of its own, and itself in
// the translator's place, as which it does what a program does whose translations are missing.
//
//   keeper STELE-AOT
//
// Needs root and FUSE; says so and ends with 77 where it has neither.
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "agent.h"
#include "live-translator.h"
#include "live.h"
#include "mounts.h"

#define SHARE      STELE_SHARE_MOUNT_POINT
#define TRANSLATOR SHARE "/" STELE_TRANSLATOR_FILE

enum { NOT_HERE = 77, PATIENCE_MS = 120000, MORE = 17 };

static void fail(const char *format, ...) {
  va_list arguments;
  va_start(arguments, format);
  fprintf(stderr, "keeper: ");
  vfprintf(stderr, format, arguments);
  fprintf(stderr, "\n");
  live_stop();
  exit(1);
}

#define check(condition, ...) ((condition) ? (void)0 : fail(__VA_ARGS__))

// --- as the translator ---------------------------------------------------------------------------------

// How many stores there are for a process that starts now; -1: its file is not one that grows.
static int stores_of(int fd) {
  struct stat status;
  LiveIndex index;
  if (fstat(fd, &status) < 0 || status.st_size < (off_t)sizeof index) return -1;
  if (pread(fd, &index, sizeof index, status.st_size - (off_t)sizeof index) != sizeof index) return -1;
  return index.magic == LIVE_MAGIC ? (int)index.count : -1;
}

// Maps a file and says that it has no translations. Exits with the number of stores, 100: no file that grows.
static int translate(const char *path) {
  struct stat status;
  int file = open(path, O_RDONLY), own = open("/proc/self/exe", O_RDONLY);
  if (file < 0 || own < 0 || fstat(file, &status) < 0) return 101;
  char *place = mmap(NULL, (size_t)status.st_size, PROT_READ, MAP_PRIVATE, file, 0);
  if (place == MAP_FAILED) return 102;
  LiveHint hint = {(uint64_t)(uintptr_t)place, (uint64_t)status.st_size * 31 + (unsigned char)place[200]};
  int stores = stores_of(own);
  if (ioctl(own, LIVE_HINT, &hint) < 0 && stores >= 0) return 103;
  return stores < 0 ? 100 : stores;
}

// --- the test ------------------------------------------------------------------------------------------

static void copy(const char *from, const char *to) {
  int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0755);
  check(in >= 0 && out >= 0, "cannot copy %s to %s: %s", from, to, strerror(errno));
  while (sendfile(out, in, NULL, 1 << 20) > 0) {
  }
  close(in);
  close(out);
}

// A program for x86-64 whose entry is RET.
static void make_program(const char *path, unsigned char number) {
  unsigned char bytes[8192] = {0x7f,
                               'E',
                               'L',
                               'F',
                               2,
                               1,
                               1,
                               [16] = 2,
                               [18] = 62,
                               [20] = 1,
                               [26] = 0x40,
                               [32] = 64,
                               [52] = 64,
                               [54] = 56,
                               [56] = 1,
                               [64] = 1,
                               [68] = 5,
                               [73] = 0x10,
                               [82] = 0x40,
                               [90] = 0x40,
                               [97] = 0x10,
                               [105] = 0x10,
                               [113] = 0x10,
                               [200] = number,
                               [4096] = 0xc3};
  int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0755);
  check(fd >= 0 && write(fd, bytes, sizeof bytes) == sizeof bytes, "cannot write %s", path);
  close(fd);
}

static int run(bool (*prepare)(void), const char *path) {
  int status;
  pid_t pid = fork();
  if (pid == 0) {
    if (prepare && !prepare()) _exit(104);
    execl(TRANSLATOR, "stele", path, NULL);
    _exit(105);
  }
  waitpid(pid, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static int stores_now(void) {
  int fd = open(TRANSLATOR, O_RDONLY), stores = fd < 0 ? -1 : stores_of(fd);
  close(fd);
  return stores;
}

static void await(int stores, const char *what) {
  uint64_t end = agent_now_ms() + PATIENCE_MS;
  while (stores_now() != stores && agent_now_ms() < end) usleep(10000);
  check(stores_now() == stores, "%s: %d stores instead of %d", what, stores_now(), stores);
}

// As in a container, of somebody without privileges: nothing of this machine's is there but what the kernel knows.
static bool be_confined(void) {
  if (unshare(CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC | CLONE_NEWUTS) < 0) return false;
  if (mount("tmpfs", "/run/hidden", "tmpfs", 0, NULL) < 0) return false;
  return setresgid(12345, 12345, 12345) == 0 && setresuid(12345, 12345, 12345) == 0 && unshare(CLONE_NEWUSER) == 0;
}

static void set_up(const char *own, const char *aot) {
  if (geteuid() != 0 || access("/dev/fuse", R_OK | W_OK) < 0 || unshare(CLONE_NEWNS) < 0) {
    puts("not here: root and FUSE are needed");
    exit(NOT_HERE);
  }
  check(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0, "mounts: %s", strerror(errno));
  copy(aot, "/tmp/keeper-aot");
  check(mount("tmpfs", "/run", "tmpfs", 0, "size=64m") == 0, "/run: %s", strerror(errno));
  mkdir(SHARE, 0755);
  mkdir("/run/hidden", 0755);
  copy("/tmp/keeper-aot", SHARE "/stele-aot");
  unlink("/tmp/keeper-aot");
  copy(own, TRANSLATOR);
  for (char name[] = "/run/p0"; name[6] < '5'; name[6]++) make_program(name, (unsigned char)name[6]);
}

// As many as may be there before they are joined.
static void add_stores(int count) {
  char path[64];
  for (int i = 0; i < count; i++) {
    snprintf(path, sizeof path, "/run/stele-translations/store.%08d", 100 + i);
    copy("/run/stele-translations/store.00000001", path);
  }
}

static void start(Config *config) {
  char message[256] = "";
  int r = live_start(config, message, sizeof message);
  check(r == 0, "start: %s (%d)", message, r);
}

// The first child of a process, 0: none.
static pid_t child_of(pid_t process) {
  char path[64], text[32] = "";
  snprintf(path, sizeof path, "/proc/%d/task/%d/children", (int)process, (int)process);
  FILE *children = fopen(path, "re");
  check(children != NULL, "no process %d", (int)process);
  if (!fgets(text, sizeof text, children)) *text = 0;
  fclose(children);
  return atoi(text);
}

// Until the keeper has nothing to do any more.
static void await_done(void) {
  uint64_t end = agent_now_ms() + PATIENCE_MS;
  while (child_of(child_of(getpid())) && agent_now_ms() < end) usleep(10000);
  check(!child_of(child_of(getpid())), "the keeper has still something to do");
}

int main(int argc, char **argv) {
  Config config = {.root_mode = ROOT_RO};
  if (argc == 2 && strcmp(argv[1], "--features") == 0) return puts("0x0"), 0;
  if (argc == 2 && strcmp(argv[0], "stele") == 0) return translate(argv[1]);
  check(argc == 2, "usage: keeper STELE-AOT");
  set_up("/proc/self/exe", argv[1]);
  check(run(NULL, "/run/p0") == 100, "a file that grows, without a keeper");
  start(&config);
  check(run(NULL, "/run/p0") == 1, "the first program finds the share's file alone");
  await(2, "a store is made of it");
  check(run(NULL, "/run/p0") == 2, "programs find it");
  await_done();
  check(stores_now() == 2, "a file that was seen is translated again");
  check(run(NULL, "/run/p1") == 2, "programs find it");
  await(3, "each file is translated");
  int confined = run(be_confined, "/run/p2");
  check(confined == 3, "in namespaces: %d", confined);
  await(4, "what a program in namespaces has mapped");
  await_done();
  pid_t keeper = child_of(getpid());
  kill(keeper, SIGKILL);
  waitpid(keeper, NULL, 0);
  check(live_reaped(keeper) && !live_reaped(keeper), "its end is noticed, once");
  check(run(NULL, "/run/p0") == 100, "the share's file is back");
  add_stores(MORE);
  start(&config);
  check(stores_now() == 4 + MORE, "what was made is there after a restart: %d", stores_now());
  check(run(NULL, "/run/p3") == 4 + MORE, "programs find it again");
  await(5 + MORE, "and more is added");
  live_stop();
  check(run(NULL, "/run/p0") == 100, "the share's file is back");
  puts("the keeper keeps");
  return 0;
}
