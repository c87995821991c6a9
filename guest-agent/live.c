// See live.h. The keeper never touches a file of the userspace's, so it answers whatever becomes of those; and as
// programs cannot run without it, it is the last that the kernel kills for want of memory.
#include "live.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>
#include "agent.h"
#include "file.h"
#include "live-fuse.h"
#include "mounts.h"
#include "open-inside.h"
#include "root.h"
#include "translations.h"

#define MOUNT_POINT "/run/stele-live"
#define TRANSLATOR  STELE_SHARE_MOUNT_POINT "/" STELE_TRANSLATOR_FILE
#define AOT         STELE_SHARE_MOUNT_POINT "/stele-aot"
#define KEPT_BELOW  "var/cache" // of a root that changes are written to
#define KEPT_IN     "stele-translations"

enum {
  JOBS_MAX = 24,
  KEPT_MAX = LIVE_STORES_MAX - 8, // stores, at a start
  KNOWN_MAX = 4096,               // a power of two
  START_MS = 30000,               // for the keeper to come up
  OPEN_MS = 500,                  // that a process waits at most for its file to be opened
  SWEEP_MS = 60000,               // between looks for stores that nobody uses any more
  MAPPINGS_MAX = 65536,           // of the file that are looked at
  AGAIN_MS = 300000,              // after which a file that gave nothing is tried again
  LIMIT_DISK = 1 << 30,           // bytes of stores
  LIMIT_MEMORY = 256 << 20,
};

typedef struct Job {
  pid_t pid; // 0: free
  int out;
  uint64_t request; // to be answered; 0: is
  uint64_t answer_at;
  char line[64];
  size_t length;
} Job;

typedef struct Known {
  uint64_t file;
  uint64_t again_at; // monotonic ms; 0: none
} Known;

static struct {
  LiveFile file;
  LiveServer *server;
  Translations translations;
  Job jobs[JOBS_MAX];
  Known known[KNOWN_MAX];
  uint64_t sweep_at; // monotonic ms
} keeper;

static pid_t keeper_pid;

// --- processes of the keeper's -------------------------------------------------------------------------

static Job *free_job(void) {
  for (size_t i = 0; i < JOBS_MAX; i++)
    if (!keeper.jobs[i].pid) return &keeper.jobs[i];
  return NULL;
}

// Of a process of the keeper's own.
static void be_job(void) {
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  prctl(PR_SET_NAME, "stele-translate");
  close(live_server_fd(keeper.server)); // or the mount would outlive the keeper
  file_write("/proc/self/oom_score_adj", "500");
}

static bool begin_job(Job *job, pid_t pid, const int ends[2]) {
  close(ends[1]);
  if (pid < 0) return close(ends[0]), false;
  fcntl(ends[0], F_SETFL, O_NONBLOCK);
  *job = (Job){.pid = pid, .out = ends[0]};
  return true;
}

// --- stores that nobody uses any more ------------------------------------------------------------------

// Where mappings of the translator's file end that have more of it than the share's; false where they are too many.
static bool find_mappings(const struct stat *file, uint64_t *ends, size_t *ret_count) {
  DIR *processes = opendir("/proc");
  char path[32], *line = NULL;
  size_t size = 0;
  for (struct dirent *entry; processes && *ret_count < MAPPINGS_MAX && (entry = readdir(processes));) {
    snprintf(path, sizeof path, "/proc/%.10s/maps", entry->d_name);
    FILE *maps = isdigit((unsigned char)entry->d_name[0]) ? fopen(path, "re") : NULL;
    while (maps && *ret_count < MAPPINGS_MAX && getline(&line, &size, maps) > 0) {
      unsigned long start, end, offset, inode;
      unsigned major_number, minor_number;
      if (sscanf(line, "%lx-%lx %*s %lx %x:%x %lu", &start, &end, &offset, &major_number, &minor_number, &inode) != 6)
        continue;
      if (inode != file->st_ino || makedev(major_number, minor_number) != file->st_dev) continue;
      if (offset + (end - start) >= keeper.file.stores[0].place.end + LIVE_PAGE)
        ends[(*ret_count)++] = offset + (end - start);
    }
    if (maps) fclose(maps);
  }
  free(line);
  if (processes) closedir(processes);
  return processes && *ret_count < MAPPINGS_MAX;
}

// Who has read an index and not yet mapped what it names is given as long as between two sweeps.
static void run_sweep(int out) {
  static uint64_t ends[MAPPINGS_MAX], starts[256];
  struct stat file;
  size_t count = 0;
  uint64_t then = agent_now_ms() - SWEEP_MS;
  if (stat(MOUNT_POINT "/" LIVE_NAME, &file) < 0 || !find_mappings(&file, ends, &count)) _exit(1);
  size_t unused = live_file_unused(&keeper.file, then, ends, count, starts, sizeof starts / sizeof *starts);
  for (size_t i = 0; i < unused; i++) dprintf(out, "~%llu\n", (unsigned long long)starts[i]);
  _exit(0);
}

static void sweep(uint64_t now) {
  Job *job = free_job();
  int ends[2];
  if (!job || keeper.file.dropped < keeper.translations.limit / 4 || now < keeper.sweep_at ||
      pipe2(ends, O_CLOEXEC) < 0)
    return;
  keeper.sweep_at = now + SWEEP_MS;
  pid_t pid = fork();
  if (pid == 0) {
    be_job();
    run_sweep(ends[1]);
  }
  begin_job(job, pid, ends);
}

// --- hints ---------------------------------------------------------------------------------------------

// Whether the file may have use: it was not seen lately. It counts as seen then.
static bool note_seen(uint64_t file, uint64_t now) {
  Known *known = &keeper.known[file & (KNOWN_MAX - 1)]; // one place: who comes later takes it
  if (known->file == file && known->again_at > now) return false;
  *known = (Known){file, now + AGAIN_MS};
  return true;
}

static void run_job(pid_t process, const LiveHint *hint, int out) {
  be_job();
  translations_make(&keeper.translations, process, hint->address, out);
}

static bool start_job(uint64_t request, pid_t process, const LiveHint *hint) {
  int ends[2];
  uint64_t now = agent_now_ms();
  sweep(now);
  Job *job = free_job();
  if (!job || process <= 0 || keeper.file.dropped > keeper.translations.limit || !note_seen(hint->file, now))
    return false;
  if (pipe2(ends, O_CLOEXEC) < 0) return false;
  pid_t pid = fork();
  if (pid == 0) run_job(process, hint, ends[1]);
  if (!begin_job(job, pid, ends)) return false;
  job->request = request;
  job->answer_at = now + OPEN_MS;
  return true;
}

static void on_hint(void *context, uint64_t request, pid_t process, const LiveHint *hint) {
  if (!start_job(request, process, hint)) live_server_answer(keeper.server, request);
}

// --- jobs ----------------------------------------------------------------------------------------------

static void answer(Job *job) {
  if (job->request) live_server_answer(keeper.server, job->request);
  job->request = 0;
}

// What the index names of the stores is read by processes that start from now on.
static void take_line(Job *job) {
  unsigned long number = strtoul(job->line + 1, NULL, 10);
  int fd = job->line[0] == '+' ? translations_open(&keeper.translations, number) : -1;
  if (job->line[0] == 'o') answer(job);
  if (job->line[0] == '-') live_file_drop(&keeper.file, number, agent_now_ms());
  if (job->line[0] == '~') live_file_release(&keeper.file, number);
  if (fd >= 0 && live_file_add(&keeper.file, fd, number) == 0 && live_file_seal(&keeper.file) == 0)
    live_server_grown(keeper.server);
}

static void end_job(Job *job) {
  answer(job);
  close(job->out);
  kill(job->pid, SIGKILL);
  waitpid(job->pid, NULL, 0);
  *job = (Job){0};
}

static void read_job(Job *job) {
  char bytes[64];
  ssize_t got = read(job->out, bytes, sizeof bytes);
  if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) return end_job(job);
  for (ssize_t i = 0; i < got; i++) {
    if (bytes[i] != '\n' && job->length < sizeof job->line - 1) {
      job->line[job->length++] = bytes[i];
      continue;
    }
    job->line[job->length] = 0;
    take_line(job);
    job->length = 0;
  }
}

// Milliseconds until a process has waited long enough, -1: none waits.
static int answer_late(void) {
  uint64_t now = agent_now_ms();
  int due = -1;
  for (Job *job = keeper.jobs; job < keeper.jobs + JOBS_MAX; job++) {
    if (job->pid && job->request && job->answer_at <= now) answer(job);
    if (job->pid && job->request && (due < 0 || (int)(job->answer_at - now) < due)) due = (int)(job->answer_at - now);
  }
  return due;
}

static void serve(void) {
  for (;;) {
    struct pollfd waits[JOBS_MAX + 1] = {{.fd = live_server_fd(keeper.server), .events = POLLIN}};
    for (size_t i = 0; i < JOBS_MAX; i++)
      waits[i + 1] = (struct pollfd){.fd = keeper.jobs[i].pid ? keeper.jobs[i].out : -1, .events = POLLIN};
    if (poll(waits, JOBS_MAX + 1, answer_late()) <= 0) continue;
    if (waits[0].revents && !live_server_run_once(keeper.server)) _exit(0);
    for (size_t i = 0; i < JOBS_MAX; i++)
      if (waits[i + 1].revents) read_job(&keeper.jobs[i]);
  }
}

// --- the keeper's start --------------------------------------------------------------------------------

// Where stores are kept: with the root's changes, as long as those are. A directory, or -1.
static int open_directory(const Config *config) {
  int parent = -1;
  if (config->root_mode == ROOT_RW) {
    int root = open(NEW_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
    parent = root < 0 ? -1 : open_inside(root, KEPT_BELOW, O_RDONLY | O_DIRECTORY);
    close(root);
  }
  if (config->root_mode == ROOT_OVERLAY) parent = open(ROOT_LAYERS, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0) parent = open("/run", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (parent < 0) return -1;
  mkdirat(parent, KEPT_IN, 0700);
  int fd = openat(parent, KEPT_IN, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  close(parent);
  return fd;
}

// A directory that is somebody else's is no place to keep code in.
static bool is_own(int directory) {
  struct stat status;
  return fstat(directory, &status) == 0 && status.st_uid == 0 && fchmod(directory, 0700) == 0;
}

static uint64_t limit_of(int directory) {
  struct statfs status;
  if (fstatfs(directory, &status) < 0) return 0;
  bool memory = status.f_type == 0x01021994; // TMPFS_MAGIC
  uint64_t all = (uint64_t)status.f_blocks * (uint64_t)status.f_bsize / 8, most = memory ? LIMIT_MEMORY : LIMIT_DISK;
  return all < most ? all : most;
}

// What the translator says of this processor, a word.
static bool read_features(int translator, char *ret_word, size_t size) {
  static char *const environment[] = {NULL};
  char *const argv[] = {"stele", "--features", NULL};
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0) return false;
  pid_t pid = fork();
  if (pid == 0) {
    dup2(ends[1], 1);
    syscall(SYS_execveat, translator, "", argv, environment, AT_EMPTY_PATH);
    _exit(127);
  }
  close(ends[1]);
  ssize_t got = pid < 0 ? -1 : read(ends[0], ret_word, size - 1);
  close(ends[0]);
  if (pid > 0) waitpid(pid, NULL, 0);
  ret_word[got > 0 ? got : 0] = 0;
  ret_word[strcspn(ret_word, "\n")] = 0;
  return strncmp(ret_word, "0x", 2) == 0;
}

static const char *memory_of(const Config *config) {
  if (strcmp(config->memory_model, "tso") == 0) return "ordered";
  return strcmp(config->memory_model, "relaxed") == 0 ? "plain" : "both";
}

static void add_kept(void) {
  unsigned long numbers[LIVE_STORES_MAX * 2];
  size_t count = translations_list(&keeper.translations, numbers, sizeof numbers / sizeof *numbers);
  for (size_t i = count > KEPT_MAX ? count - KEPT_MAX : 0; i < count; i++) {
    int fd = translations_open(&keeper.translations, numbers[i]);
    if (fd >= 0) live_file_add(&keeper.file, fd, numbers[i]);
  }
}

static bool prepare(const Config *config) {
  Translations *t = &keeper.translations;
  int translator = open(TRANSLATOR, O_RDONLY | O_CLOEXEC);
  t->program = open(AOT, O_RDONLY | O_CLOEXEC);
  t->directory = open_directory(config);
  t->memory = memory_of(config);
  t->most = KEPT_MAX - 2; // the host's is another one, and some may come while others are being joined
  if (translator < 0 || t->program < 0 || t->directory < 0 || !is_own(t->directory)) return false;
  t->limit = limit_of(t->directory);
  if (!t->limit || !read_features(translator, t->features, sizeof t->features)) return false;
  if (live_file_begin(&keeper.file, translator) < 0) return false;
  add_kept();
  if (live_file_seal(&keeper.file) < 0) return false;
  mkdir(MOUNT_POINT, 0755);
  keeper.server = live_server_new(MOUNT_POINT, &keeper.file, on_hint, NULL);
  return keeper.server != NULL;
}

// Leaves `ready` open, as 3, and nothing else of the agent's; 0 to 2 are open in any case.
static void close_descriptors(int ready) {
  dup2(ready, 3);
  syscall(SYS_close_range, 4, ~0U, 0);
  fcntl(3, F_SETFD, FD_CLOEXEC);
  int null = open("/dev/null", O_RDWR);
  for (int i = 0; i < 3; i++) dup2(null, i);
  close(null);
}

static _Noreturn void run_keeper(const Config *config, int ready) {
  sigset_t none;
  sigemptyset(&none);
  sigprocmask(SIG_SETMASK, &none, NULL);
  close_descriptors(ready);
  prctl(PR_SET_NAME, "stele-keeper");
  prctl(PR_SET_PDEATHSIG, SIGKILL);
  file_write("/proc/self/oom_score_adj", "-1000");
  if (!prepare(config)) _exit(1);
  if (write(3, "", 1) < 0) _exit(1);
  close(3);
  serve();
  _exit(0);
}

static bool is_up(int ready) {
  char byte;
  struct pollfd wait = {.fd = ready, .events = POLLIN};
  return poll(&wait, 1, START_MS) == 1 && read(ready, &byte, 1) == 1;
}

int live_start(const Config *config, char *message, size_t message_size) {
  int ends[2];
  if (access(AOT, X_OK) < 0 || access("/dev/fuse", F_OK) < 0) return 0;
  if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
  keeper_pid = fork();
  if (keeper_pid == 0) run_keeper(config, ends[1]);
  close(ends[1]);
  bool good =
      keeper_pid > 0 && is_up(ends[0]) && mount(MOUNT_POINT "/" LIVE_NAME, TRANSLATOR, NULL, MS_BIND, NULL) == 0;
  close(ends[0]);
  if (good) return 0;
  snprintf(message, message_size, "programs of this machine are not translated to be kept: the keeper did not start");
  live_stop();
  return -EIO;
}

bool live_reaped(pid_t pid) {
  if (!pid || pid != keeper_pid) return false;
  keeper_pid = 0;
  umount2(TRANSLATOR, MNT_DETACH);
  umount2(MOUNT_POINT, MNT_DETACH);
  return true;
}

void live_stop(void) {
  pid_t pid = keeper_pid;
  if (pid <= 0) return;
  kill(pid, SIGKILL);
  waitpid(pid, NULL, 0);
  live_reaped(pid);
}
