/* execve and execveat: how a child program comes to be translated too.
 *
 * Where binfmt_misc started us the kernel will start the next program the same way, and the call goes to
 * it unchanged. Elsewhere the file is examined: an x86-64 program becomes a run of stele itself with the
 * original name, argv[0] and descriptor as options (main.c reads them); a script becomes a run of its
 * interpreter, as fs/binfmt_script.c does it; anything else is the kernel's to run or refuse.
 * STELE_EXEC_WRAPPER goes in front, for hosts where stele itself runs under an emulator. */
#include <linux/fcntl.h>

#include "linux/linux.h"
#include "runtime/runtime.h"

enum { SCRIPT_LINE = 256, SCRIPT_DEPTH = 5, WRAPPER_WORDS = 16 };

/* A growing vector of string pointers, the guest's or ours. */
typedef struct Vector {
  const char **items;
  size_t count, capacity;
} Vector;

typedef struct Exec {
  LinuxThread *thread;
  int dirfd, flags;
  const char *path;     /* to open: the guest's pointer or ours */
  Vector argv, envp;
  const char *argv0;
  const char *script_name; /* what a script's interpreter is to open */
  size_t argv_first;    /* of the guest's arguments, the first not replaced by a script's */
  int fd;               /* the program, to be handed on; -1: by path */
  char name[LINUX_PATH_MAX + 32]; /* what the kernel would call the program: AT_EXECFN, and a script's argument */
  char script[SCRIPT_DEPTH][SCRIPT_LINE + 1];
  char number[2][16], ignored[sizeof LINUX_IGNORED_OPTION + 16];
  char wrapper[LINUX_PATH_MAX];
} Exec;

static int push(Vector *vector, const char *item) {
  if (vector->count + 1 >= vector->capacity) {
    size_t capacity = vector->capacity ? vector->capacity * 2 : 64;
    const char **items = base_alloc(capacity * sizeof *items);
    if (!items) return -ENOMEM;
    if (vector->count) memcpy(items, vector->items, vector->count * sizeof *items);
    base_free(vector->items);
    vector->items = items;
    vector->capacity = capacity;
  }
  vector->items[vector->count++] = item;
  vector->items[vector->count] = NULL;
  return 0;
}

/* An empty vector still needs its terminating NULL. */
static int terminate(Vector *vector) {
  if (vector->items) return 0;
  int error = push(vector, NULL);
  vector->count = 0;
  return error;
}

static int read_vector(Vector *vector, uint64_t from) {
  for (;; from += sizeof(uint64_t)) {
    uint64_t item = 0;
    int error = from ? linux_copy_in(&item, from, sizeof item) : 0;
    if (error) return error;
    if (!item) return terminate(vector);
    if (push(vector, (const char *)item) < 0) return -ENOMEM;
  }
}

/* Whether the guest's environment sets the same name as the option "NAME=value" of ours. */
static bool has_name(const Vector *envp, const char *option) {
  int linux_guarded_prefix(const char *text, const char *prefix);
  char name[64];
  size_t length = (size_t)(strchr(option, '=') - option) + 1;
  if (length >= sizeof name) return true;
  memcpy(name, option, length);
  name[length] = '\0';
  for (size_t i = 0; i < envp->count; i++)
    if (linux_guarded_prefix(envp->items[i], name) == 1) return true;
  return false;
}

static int add_options(Exec *exec) {
  Vector *envp = &exec->envp;
  uint64_t ignored = linux_signals_ignored(exec->thread);
  for (char *const *option = linux_program.options; option && *option; option++)
    if (!has_name(envp, *option) && push(envp, *option) < 0) return -ENOMEM;
  if (!ignored) return 0;
  base_format(exec->ignored, sizeof exec->ignored, LINUX_IGNORED_OPTION "%lx", (unsigned long)ignored);
  return push(envp, exec->ignored);
}

int linux_script_parse(char *text, size_t length, char **ret_interpreter, char **ret_argument) {
  if (length < 3 || text[0] != '#' || text[1] != '!') return -ENOEXEC;
  text[length] = '\0';
  char *end = memchr(text, '\n', length);
  if (end) *end = '\0';
  char *at = text + 2;
  while (*at == ' ' || *at == '\t') at++;
  if (!*at) return -ENOEXEC;
  *ret_interpreter = at;
  while (*at && *at != ' ' && *at != '\t') at++;
  if (!*at && !end && length == SCRIPT_LINE) return -ENOEXEC; /* cut in the middle of the name */
  char *name_end = at;
  while (*at == ' ' || *at == '\t') at++;
  *ret_argument = *at ? at : NULL;
  *name_end = '\0';
  for (char *last = at + strlen(at); last > at && (last[-1] == ' ' || last[-1] == '\t');) *--last = '\0';
  return 0;
}

static int64_t kernel_exec(Exec *exec) {
  runtime_exec_begin();
  linux_signals_before_exec(exec->thread);
  int64_t error =
      exec->flags || exec->dirfd != AT_FDCWD
          ? linux_guest_call_list(exec->thread, __NR_execveat, (uint64_t)exec->dirfd, (uint64_t)exec->path,
                                  (uint64_t)exec->argv.items, (uint64_t)exec->envp.items, (uint64_t)exec->flags)
          : linux_guest_call_list(exec->thread, __NR_execve, (uint64_t)exec->path,
                                  (uint64_t)exec->argv.items, (uint64_t)exec->envp.items);
  linux_signals_after_failed_exec(exec->thread);
  runtime_exec_failed();
  return error;
}

static int push_wrapper(Exec *exec, Vector *argv) {
  if (!linux_program.exec_wrapper) return 0;
  size_t length = strlen(linux_program.exec_wrapper);
  if (length >= sizeof exec->wrapper) return -ENAMETOOLONG;
  memcpy(exec->wrapper, linux_program.exec_wrapper, length + 1);
  for (char *word = exec->wrapper; word && *word;) {
    char *space = strchr(word, ' ');
    if (space) *space = '\0';
    if (*word && push(argv, word) < 0) return -ENOMEM;
    word = space ? space + 1 : NULL;
  }
  return 0;
}

/* Runs ourselves with the program as argument. */
static int64_t stele_exec(Exec *exec) {
  Vector argv = {0};
  int error = push_wrapper(exec, &argv);
  bool wrapped = argv.count > 0;
  const char *fixed[] = {linux_program.self, "--argv0", exec->argv0, "--execfn", exec->name};
  for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
    if (!error) error = push(&argv, fixed[i]);
  if (exec->fd >= 0) {
    base_format(exec->number[1], sizeof exec->number[1], "%d", exec->fd);
    if (!error) error = push(&argv, "--fd");
    if (!error) error = push(&argv, exec->number[1]);
  }
  if (!error) error = push(&argv, "--");
  if (!error) error = push(&argv, exec->path);
  for (size_t i = exec->argv_first; i < exec->argv.count && !error; i++)
    error = push(&argv, exec->argv.items[i]);
  if (error) return error;
  base_free(exec->argv.items);
  exec->argv = argv;
  exec->dirfd = AT_FDCWD;
  exec->flags = 0;
  exec->path = wrapped ? argv.items[0] : "/proc/self/exe";
  int64_t result = kernel_exec(exec);
  if (result != -ENOENT || wrapped) return result;
  exec->path = linux_program.self; /* no /proc here */
  return kernel_exec(exec);
}

static bool is_x86_program(const char *text, int64_t length) {
  return length >= 20 && !memcmp(text, "\177ELF\2\1", 6) && text[18] == 62 && text[19] == 0;
}

/* Turns the call into that of the script's interpreter. */
static int64_t use_interpreter(Exec *exec, char *text, int64_t length) {
  char *interpreter, *argument;
  int error = linux_script_parse(text, (size_t)length, &interpreter, &argument);
  if (error) return error;
  Vector argv = {0};
  if (push(&argv, interpreter) < 0 || (argument && push(&argv, argument) < 0)) return -ENOMEM;
  if (push(&argv, exec->script_name) < 0) return -ENOMEM;
  for (size_t i = 1; i < exec->argv.count; i++)
    if (push(&argv, exec->argv.items[i]) < 0) return -ENOMEM;
  base_free(exec->argv.items);
  exec->argv = argv;
  exec->argv0 = exec->path = exec->script_name = interpreter;
  exec->dirfd = AT_FDCWD;
  exec->flags = 0;
  return 0;
}

static int64_t check_executable(int64_t fd) {
  char link[32];
  base_format(link, sizeof link, "/proc/self/fd/%d", (int)fd);
  int64_t result = host_call(__NR_faccessat, AT_FDCWD, link, 1 /* X_OK */);
  return result == -ENOENT ? 0 : result; /* without /proc there is no telling */
}

static int64_t open_program(const Exec *exec) {
  if (exec->flags & AT_EMPTY_PATH) {
    char link[32];
    base_format(link, sizeof link, "/proc/self/fd/%d", exec->dirfd);
    return host_call(__NR_openat, AT_FDCWD, link, O_RDONLY | O_CLOEXEC);
  }
  uint64_t no_follow = exec->flags & AT_SYMLINK_NOFOLLOW ? linux_open_flags(0400000) : 0;
  return host_call(__NR_openat, exec->dirfd, exec->path, O_RDONLY | O_CLOEXEC | no_follow);
}

/* One step: 0 when the path now names another program to look at; otherwise how the call ended. */
static int64_t exec_step(Exec *exec, unsigned depth) {
  int64_t fd = open_program(exec);
  if (fd == -EACCES) return kernel_exec(exec); /* execute-only files are the kernel's */
  if (fd < 0) return fd;
  char *text = exec->script[depth];
  int64_t length = host_call(__NR_pread64, fd, text, SCRIPT_LINE, 0);
  int64_t result = check_executable(fd);
  if (result == 0 && is_x86_program(text, length)) {
    result = linux_examine((int)fd, "program");
    bool by_descriptor = exec->flags & AT_EMPTY_PATH || exec->dirfd != AT_FDCWD;
    if (result == 0 && by_descriptor) {
      host_call(__NR_fcntl, fd, F_SETFD, 0);
      exec->fd = (int)fd;
    }
    if (result == 0) result = stele_exec(exec);
  } else if (result == 0 && length > 2 && text[0] == '#' && text[1] == '!') {
    result = use_interpreter(exec, text, length);
  } else if (result == 0) {
    result = kernel_exec(exec);
  }
  host_call(__NR_close, fd);
  return result;
}

/* binfmt_misc refuses a program named by a descriptor that closes on exec, which an ELF program natively
 * may be: its interpreter could not open the name. Ours gets the program open, so any name will do. */
static int64_t binfmt_exec(Exec *exec) {
  bool by_descriptor = exec->flags & AT_EMPTY_PATH || (exec->dirfd != AT_FDCWD && exec->path[0] != '/');
  if (!by_descriptor || exec->flags & AT_SYMLINK_NOFOLLOW) return kernel_exec(exec);
  Exec direct = {.thread = exec->thread, .dirfd = AT_FDCWD, .path = exec->name, .argv = exec->argv,
                 .envp = exec->envp};
  base_format(exec->name, sizeof exec->name, "/proc/self/fd/%d%s%s", exec->dirfd, *exec->path ? "/" : "",
              exec->path);
  int64_t result = kernel_exec(&direct);
  return result == -ENOENT ? kernel_exec(exec) : result; /* perhaps there is no /proc here */
}

static int64_t run(Exec *exec) {
  if (linux_program.by_binfmt) return binfmt_exec(exec);
  for (unsigned depth = 0; depth < SCRIPT_DEPTH; depth++) {
    int64_t result = exec_step(exec, depth);
    if (result) return result;
    exec->argv_first = 1;
  }
  return -ELOOP;
}

/* As alloc_bprm() of fs/exec.c does it. */
static void name_program(Exec *exec, const char *path) {
  bool by_path = path[0] == '/' || exec->dirfd == AT_FDCWD;
  if (by_path) base_format(exec->name, sizeof exec->name, "%s", path);
  else base_format(exec->name, sizeof exec->name, "/dev/fd/%d%s%s", exec->dirfd, path[0] ? "/" : "", path);
  exec->script_name = exec->name;
}

static int64_t exec_guest(LinuxThread *thread, int dirfd, uint64_t guest_path, uint64_t argv, uint64_t envp,
                          int flags) {
  Exec *exec = base_alloc(sizeof *exec + LINUX_PATH_MAX);
  if (!exec) return -ENOMEM;
  char *path = (char *)(exec + 1);
  *exec = (Exec){.thread = thread, .dirfd = dirfd, .flags = flags, .fd = -1, .path = path, .argv_first = 1};
  thread->exec_memory = exec;
  int64_t result = linux_copy_string(path, guest_path, LINUX_PATH_MAX);
  if (result >= 0) {
    const char *last = strrchr(path, '/');
    name_program(exec, path);
    if (linux_path_is_exe(path) && linux_exe_is_nameless()) {
      dirfd = exec->dirfd = linux_program.exe_fd;
      flags = exec->flags = AT_EMPTY_PATH;
      path[0] = '\0';
    }
    if (linux_path_is_exe(path)) memcpy(path, linux_program.exe, LINUX_PATH_MAX);
    else if (!strcmp(last ? last + 1 : path, "exe")) linux_procfs_exe(dirfd, path, true, path);
    if (flags & AT_EMPTY_PATH && path[0]) exec->flags &= ~AT_EMPTY_PATH;
    result = read_vector(&exec->argv, argv);
  }
  if (result >= 0) result = read_vector(&exec->envp, envp);
  if (result >= 0) result = add_options(exec);
  exec->argv0 = exec->argv.count ? exec->argv.items[0] : "";
  if (result >= 0) result = path[0] || exec->flags & AT_EMPTY_PATH ? run(exec) : -ENOENT;
  thread->exec_memory = NULL;
  base_free(exec->argv.items);
  base_free(exec->envp.items);
  base_free(exec);
  return result;
}

int64_t sys_execve(GuestCpu *cpu, const uint64_t a[6]) {
  return exec_guest(linux_thread(cpu), AT_FDCWD, a[0], a[1], a[2], 0);
}

int64_t sys_execveat(GuestCpu *cpu, const uint64_t a[6]) {
  return exec_guest(linux_thread(cpu), (int)a[0], a[1], a[2], a[3], (int)a[4]);
}
