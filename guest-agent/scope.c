// See scope.h. Calls: org.freedesktop.systemd1(5), StartTransientUnit; delegation: systemd's CGROUP_DELEGATION; control
// groups: the kernel's documentation, admin-guide/cgroup-v2. Groups that programs have left are removed by whoever
// comes next.
#include "scope.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include "bus.h"
#include "file.h"

#define SYSTEMD_SOCKET "/run/systemd/private" // root's own connection to process 1, without a bus in between
#define SCOPE          "stele-exec.scope"
#define GROUPS         "/sys/fs/cgroup/system.slice/" SCOPE
#define KEEPER         GROUPS "/keeper"              // has a process once programs may enter
#define UNIFIED        "/sys/fs/cgroup/cgroup.procs" // there is but one hierarchy, version 2
#define LOCK           "/run/stele-exec.lock"        // for who makes the scope

enum {
  ANSWER_SECONDS = 30,
  TRIES_MAX = 100,
  DEPTH_MAX = 16,
  TASKS_SHARE = 3, // a program has one of so many of the kernel's tasks, as systemd's user-.slice gives to a user (33%)
};

static const BusCall start_transient_unit = {.path = "/org/freedesktop/systemd1",
                                             .interface = "org.freedesktop.systemd1.Manager",
                                             .member = "StartTransientUnit",
                                             .signature = "ssa(sv)a(sa(sv))"};

// --- a scope -------------------------------------------------------------------------------------------

static void put_property(Buffer *body, const char *name, const char *type) {
  bus_align(body, 8);
  bus_put_string(body, name);
  bus_put_signature(body, type);
}

typedef enum ScopeKind {
  OWN_SCOPE,         // of one program
  SHARED_SCOPE,      // of all: what one of them does or suffers is nothing to the others
  SHARED_SCOPE_V252, // by a systemd before 253, whose scopes have no OOMPolicy and need none
} ScopeKind;

static void put_sharing(Buffer *body, ScopeKind kind) {
  put_property(body, "Delegate", "b");
  bus_put_u32(body, true);
  put_property(body, "TasksMax", "t");
  bus_put_u64(body, UINT64_MAX);
  if (kind == SHARED_SCOPE_V252) return;
  put_property(body, "OOMPolicy", "s");
  bus_put_string(body, "continue");
}

// An interactive shell ignores SIGTERM, and would hold up the machine's end for as long as its scope may take.
static void put_scope(Buffer *body, const char *name, ScopeKind kind) {
  bus_put_string(body, name);
  bus_put_string(body, "fail");
  BusArray properties = bus_open_array(body, 8);
  put_property(body, "Description", "s");
  bus_put_string(body, kind == OWN_SCOPE ? "Program run for the host" : "Programs run for the host");
  put_property(body, "PIDs", "au");
  BusArray pids = bus_open_array(body, 4);
  bus_put_u32(body, (uint32_t)getpid());
  bus_close_array(body, pids);
  put_property(body, "CollectMode", "s");
  bus_put_string(body, "inactive-or-failed");
  put_property(body, "SendSIGHUP", "b");
  bus_put_u32(body, true);
  put_property(body, "TimeoutStopUSec", "t");
  bus_put_u64(body, 10000000);
  if (kind != OWN_SCOPE) put_sharing(body, kind);
  bus_close_array(body, properties);
  bus_close_array(body, bus_open_array(body, 8)); // no further units
}

// The job is done when systemd says so; then this process is in the scope.
static int await_job(Bus *bus, const char *job) {
  BusMessage message;
  int r = 0;
  for (bool done = false; !done && (r = bus_receive(bus, &message)) == 0; bus_message_clear(&message)) {
    if (strcmp(message.member, "JobRemoved") != 0 || strcmp(message.signature, "uoss") != 0) continue;
    bus_get_u32(&message.body);
    done = strcmp(bus_get_string(&message.body), job) == 0;
    bus_get_string(&message.body); // its unit
    if (done && strcmp(bus_get_string(&message.body), "done") != 0) r = -ECANCELED;
  }
  return r;
}

// Makes a scope with this process in it. 0, or a negative errno; -EIO: systemd refuses, -ECANCELED: so it did later.
static int start_scope(const char *name, ScopeKind kind) {
  Bus bus;
  BusMessage reply;
  BusCall call = start_transient_unit;
  int r = bus_open(&bus, SYSTEMD_SOCKET, ANSWER_SECONDS);
  if (r < 0) return r;
  put_scope(&call.body, name, kind);
  r = bus_call(&bus, &call, &reply);
  if (r == 0) {
    r = await_job(&bus, bus_get_string(&reply.body));
    bus_message_clear(&reply);
  }
  bus_close(&bus);
  return r;
}

// --- the shared one ------------------------------------------------------------------------------------

static int move_to(const char *group) {
  char path[128];
  snprintf(path, sizeof path, "%s/cgroup.procs", group);
  int fd = open(path, O_WRONLY | O_CLOEXEC);
  if (fd < 0) return -errno;
  int r = write(fd, "0", 1) < 0 ? -errno : 0;
  close(fd);
  return r;
}

// A group shares out what its programs may use only while it has no process itself, so the keeper goes below. It gets
// to its place there last: programs that find it there find their groups' limits, too.
static int share_out(void) {
  static const char *const controllers[] = {"+pids", "+cpu"}; // each for itself: one of them may not be there
  static const char begun[] = GROUPS "/begun";
  mkdir(begun, 0755);
  int r = move_to(begun);
  for (size_t i = 0; r == 0 && i < sizeof controllers / sizeof *controllers; i++)
    file_write(GROUPS "/cgroup.subtree_control", controllers[i]);
  mkdir(KEEPER, 0755);
  if (r == 0) r = move_to(KEEPER);
  rmdir(begun);
  return r;
}

static void keep_scope(void) {
  sigset_t none;
  setsid();
  int r = start_scope(SCOPE, SHARED_SCOPE);
  if (r == -EIO) r = start_scope(SCOPE, SHARED_SCOPE_V252);
  if (r < 0 || share_out() < 0) _exit(1);
  prctl(PR_SET_NAME, SCOPE);
  for (int number = 1; number < NSIG; number++) signal(number, SIG_DFL);
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  close_range(0, ~0U, 0); // and so says that it is there
  for (;;) pause();
}

// The keeper is process 1's child: the program that comes of this process has no children it does not know of.
static void start_keeper(void) {
  int done[2];
  char nothing;
  if (pipe2(done, O_CLOEXEC) < 0) return;
  pid_t pid = fork();
  if (pid == 0) {
    if (fork() == 0) keep_scope();
    _exit(0);
  }
  close(done[1]);
  if (pid > 0) waitpid(pid, NULL, 0);
  ssize_t ignored = read(done[0], &nothing, 1);
  (void)ignored;
  close(done[0]);
}

// --- groups below it -----------------------------------------------------------------------------------

static bool is_populated(int group) {
  char text[64] = "";
  int fd = openat(group, "cgroup.events", O_RDONLY | O_CLOEXEC);
  ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  return size <= 0 || strstr(text, "populated 0") == NULL;
}

// Removes the groups below `group`, which it closes, that have no programs any more, whatever these made below them.
static void remove_left_groups(int group, int depth) {
  DIR *entries = group < 0 ? NULL : fdopendir(group);
  if (!entries && group >= 0) close(group);
  for (struct dirent *entry; entries && (entry = readdir(entries));) {
    if (entry->d_type != DT_DIR || *entry->d_name == '.') continue;
    if (unlinkat(group, entry->d_name, AT_REMOVEDIR) == 0 || errno != EBUSY || depth == DEPTH_MAX) continue;
    int inner = openat(group, entry->d_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool left = inner >= 0 && !is_populated(inner);
    if (left)
      remove_left_groups(inner, depth + 1);
    else if (inner >= 0)
      close(inner);
    if (left) unlinkat(group, entry->d_name, AT_REMOVEDIR);
  }
  if (entries) closedir(entries);
}

// A scope without its keeper is being stopped, or will end with the programs it has.
static bool keeper_lives(void) {
  char first;
  int fd = open(KEEPER "/cgroup.procs", O_RDONLY | O_CLOEXEC);
  bool lives = fd >= 0 && read(fd, &first, 1) == 1;
  if (fd >= 0) close(fd);
  return lives;
}

// 0: it cannot be told.
static long read_number(const char *path) {
  char text[24] = "";
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  ssize_t size = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
  if (fd >= 0) close(fd);
  return size <= 0 ? 0 : strtol(text, NULL, 10);
}

// A program that makes processes without end leaves some to the others, and to the agent.
static void limit_tasks(const char *group) {
  char path[128], limit[24];
  long numbers = read_number("/proc/sys/kernel/pid_max"), tasks = read_number("/proc/sys/kernel/threads-max");
  if (numbers <= 0 || tasks <= 0) return;
  snprintf(path, sizeof path, "%s/pids.max", group);
  snprintf(limit, sizeof limit, "%ld", (numbers < tasks ? numbers : tasks) / TASKS_SHARE);
  file_write(path, limit);
}

// -ENOENT: there is no scope to be in. A group that is empty yet may be removed by another program's start.
static int enter_group(void) {
  char group[96];
  int r = -ENOENT;
  if (!keeper_lives()) return r;
  remove_left_groups(open(GROUPS, O_RDONLY | O_DIRECTORY | O_CLOEXEC), 0);
  snprintf(group, sizeof group, GROUPS "/%d", (int)getpid());
  for (int i = 0; i < TRIES_MAX && (r == -ENOENT || r == -ENODEV); i++) {
    if (mkdir(group, 0755) < 0 && errno != EEXIST) return -errno;
    limit_tasks(group);
    r = move_to(group);
  }
  return r;
}

// One program makes the scope, others that start at the same time wait for it. None of them waits for a second try: a
// systemd that does not answer would hold them up one after the other.
static int enter_shared_scope(void) {
  int r = enter_group();
  if (r != -ENOENT) return r;
  int lock = open(LOCK, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lock < 0) return -errno;
  bool first = flock(lock, LOCK_EX | LOCK_NB) == 0;
  if (!first) flock(lock, LOCK_SH);
  r = enter_group();
  if (r == -ENOENT && first) {
    start_keeper();
    r = enter_group();
  }
  close(lock);
  return r;
}

void scope_enter(void) {
  char name[64];
  if (access(SYSTEMD_SOCKET, F_OK) < 0) return;
  if (access(UNIFIED, F_OK) == 0 && enter_shared_scope() == 0) return;
  snprintf(name, sizeof name, "stele-exec-%d-%lld.scope", (int)getpid(), (long long)time(NULL));
  start_scope(name, OWN_SCOPE);
}
