/*
 * fork, vfork, posix_spawn, clone and exec in its forms. Every child compares the name of what it runs on with
 * the one its parent passes: a child that escaped the translator says so. Statuses, argv[0], environment,
 * close-on-exec, scripts, fexecve, and the errors of exec.
 * Build: dynamic static
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/auxv.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "cpuid.h"
#include "limits.h"

extern char **environ;
static char host[13], self[4096], directory[] = "/tmp/stele-processes-XXXXXX";

static void report(const char *what, pid_t pid) {
  int status = -1;
  if (pid < 0) {
    printf("%s: %s\n", what, strerror(errno));
    return;
  }
  waitpid(pid, &status, 0);
  if (WIFEXITED(status)) printf("%s: exit %d\n", what, WEXITSTATUS(status));
  if (WIFSIGNALED(status)) printf("%s: signal %d\n", what, WTERMSIG(status));
  fflush(stdout);
}

/* What this process ignores of the signals that processor exceptions become. */
static void print_ignored(void) {
  static const int signals[] = {SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV};
  for (size_t i = 0; i < sizeof signals / sizeof *signals; i++) {
    struct sigaction action;
    if (sigaction(signals[i], NULL, &action) == 0 && action.sa_handler == SIG_IGN) printf(" %d", signals[i]);
  }
  printf("\n");
}

/* Executed with some ignored, to execute itself once more with one less. */
static int ignoring_main(char **argv) {
  printf("  ignored:");
  print_ignored();
  fflush(stdout);
  if (argv[2]) return 8;
  raise(SIGSEGV);
  signal(SIGSEGV, SIG_DFL);
  execl(self, self, "ignoring", "again", (char *)NULL);
  return 127;
}

/* What the executed program does: argv is [0] anything, [1] "child", [2] the parent's host. */
static int child_main(int argc, char **argv) {
  char here[13], exe[4096];
  cpuid_host(here);
  ssize_t length = readlink("/proc/self/exe", exe, sizeof exe - 1);
  exe[length > 0 ? length : 0] = 0;
  printf("  child %s, argc %d, VAR=%s, fd 9 %s, exe %s, %s\n", argv[0], argc, getenv("VAR") ?: "(unset)",
         fcntl(9, F_GETFD) < 0 ? "closed" : "open", strrchr(exe, '/') ? "absolute" : "odd",
         strcmp(here, argv[2]) ? "ON ANOTHER PROCESSOR" : "same processor");
  /* What it is called: binfmt_misc is given the file that a link of procfs leads to, and has other names for descriptors;
   * kernels before 6.14 name the process after the descriptor's number. */
  const char *name = (const char *)getauxval(AT_EXECFN);
  char command[17] = "";
  if (strrchr(name, '/') != name + strlen("/dev/fd")) prctl(PR_GET_NAME, command);
  if (under_qemu_user()) printf("  executed as %s, %s\n", name, command);
  fflush(stdout);
  return argc + 30;
}

static void forking(void) {
  pid_t pid = fork();
  if (pid == 0) _exit(3);
  report("fork", pid);
  if ((pid = fork()) == 0) {
    raise(SIGKILL);
    _exit(1);
  }
  report("fork, killed", pid);
  if ((pid = fork()) == 0) {
    if (fork() == 0) _exit(5);
    int status;
    wait(&status);
    _exit(WEXITSTATUS(status) + 1);
  }
  report("fork in fork", pid);
  if ((pid = fork()) == 0) abort();
  report("abort", pid);
}

static void vforking(void) {
  volatile int shared = 1;
  pid_t pid = vfork();
  if (pid == 0) {
    shared = 2;
    _exit(4);
  }
  report("vfork", pid);
  if (!under_qemu_user()) printf("vfork shares memory: %d\n", shared);
  if ((pid = vfork()) == 0) {
    execl(self, "after-vfork", "child", host, (char *)NULL);
    _exit(127);
  }
  report("vfork and exec", pid);
}

static int clone_child(void *argument) {
  *(int *)argument = 77;
  return 9;
}

static void cloning(void) {
  static char stack[65536] __attribute__((aligned(16)));
  int shared = 0;
  report("clone", clone(clone_child, stack + sizeof stack, CLONE_VM | CLONE_VFORK | SIGCHLD, &shared));
  if (!under_qemu_user()) printf("clone shares memory: %d\n", shared);
  shared = 0;
  report("clone, own memory", clone(clone_child, stack + sizeof stack, SIGCHLD, &shared));
  printf("clone shares memory: %d\n", shared);
}

static void report_signal(int signal) {}

static long clone3(const void *arguments, size_t size) { return syscall(SYS_clone3, arguments, size); }

static void expect_refusal(const char *what, long pid) {
  if (pid == 0) _exit(0);
  if (pid > 0) waitpid((pid_t)pid, NULL, 0);
  printf("clone3, %s: %s\n", what, pid > 0 ? "done" : strerror(errno));
}

/* Whether handlers are gone, and what was ignored still is. */
static int cleared_child(void) {
  struct sigaction handled, ignored;
  sigaction(SIGUSR1, NULL, &handled);
  sigaction(SIGHUP, NULL, &ignored);
  return (handled.sa_handler == SIG_DFL) + 2 * (ignored.sa_handler == SIG_IGN);
}

/* Structures of later kernels, stacks that are none, and CLONE_CLEAR_SIGHAND. */
static void cloning3(void) {
  static union {
    struct clone_args arguments;
    char bytes[2 * 4096];
  } request = {.arguments = {.exit_signal = SIGCHLD}};
  struct clone_args *arguments = &request.arguments;
  if (under_qemu_user()) return;
  expect_refusal("too small", clone3(&request, 56));
  expect_refusal("larger", clone3(&request, 128));
  expect_refusal("a page", clone3(&request, 4096));
  expect_refusal("more than a page", clone3(&request, 4097));
  request.bytes[120] = 1;
  expect_refusal("what is not known", clone3(&request, 128));
  arguments->stack = ~0ull - 4096;
  arguments->stack_size = 4096;
  expect_refusal("no stack", clone3(&request, sizeof *arguments));
  arguments->stack = arguments->stack_size = 0;
  arguments->flags = CLONE_CLEAR_SIGHAND;
  signal(SIGUSR1, report_signal);
  signal(SIGHUP, SIG_IGN);
  long pid = clone3(&request, sizeof *arguments);
  if (pid == 0) _exit(cleared_child());
  report("clone3, handlers cleared", (pid_t)pid);
  signal(SIGUSR1, SIG_DFL);
  signal(SIGHUP, SIG_DFL);
}

static void spawning(void) {
  char *arguments[] = {"spawned", "child", host, "more", NULL};
  posix_spawn_file_actions_t actions;
  pid_t pid = -1;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 9, "/dev/null", O_RDONLY, 0);
  int error = posix_spawn(&pid, self, &actions, NULL, arguments, environ);
  report("posix_spawn", error ? (errno = error, -1) : pid);
  if (under_qemu_user()) return;
  error = posix_spawn(&pid, "/does/not/exist", NULL, NULL, arguments, environ);
  printf("posix_spawn of nothing: %s\n", strerror(error));
}

static void executing(void) {
  int fd = open("/dev/null", O_RDONLY);
  pid_t pid;
  dup3(fd, 9, O_CLOEXEC);
  if ((pid = fork()) == 0) {
    setenv("VAR", "set", 1);
    execl(self, "", "child", host, (char *)NULL);
    _exit(127);
  }
  report("exec, empty argv[0]", pid);
  dup2(fd, 9);
  if ((pid = fork()) == 0) {
    char *arguments[] = {"-login", "child", host, NULL}, *environment[] = {"VAR=only", NULL};
    execve(self, arguments, environment);
    _exit(127);
  }
  report("execve", pid);
  if ((pid = fork()) == 0) {
    char *arguments[] = {"by-descriptor", "child", host, NULL};
    fexecve(open(self, O_RDONLY | O_CLOEXEC), arguments, environ);
    _exit(127);
  }
  report("fexecve", pid);
  if ((pid = fork()) == 0) {
    execl("/proc/self/exe", "through-proc", "child", host, (char *)NULL);
    _exit(127);
  }
  report("exec of /proc/self/exe", pid);
  if ((pid = fork()) == 0) {
    char *slash = strrchr(self, '/'), *arguments[] = {"below", "child", host, NULL};
    *slash = 0;
    int place = dup2(open(self, O_RDONLY | O_DIRECTORY), 200);
    syscall(SYS_execveat, place, slash + 1, arguments, environ, 0);
    _exit(127);
  }
  report("exec below a directory", pid);
  close(9);
}

static void write_file(const char *name, const char *text, int mode) {
  int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, mode);
  if (write(fd, text, strlen(text)) < 0) perror(name);
  close(fd);
}

static void scripts(void) {
  char text[5000];
  pid_t pid;
  snprintf(text, sizeof text, "#!%s child\n", self);
  write_file("script", text, 0755);
  if ((pid = fork()) == 0) { /* argv becomes: interpreter, "child", script path, …: the host comes last */
    execl("./script", "ignored", host, (char *)NULL);
    _exit(127);
  }
  report("script", pid);
  write_file("shell-script", "#!/bin/sh\necho \"  shell script: $0 $1 $#\"\nexit 21\n", 0755);
  if ((pid = fork()) == 0) {
    execl("./shell-script", "ignored", "one", "two", (char *)NULL);
    _exit(127);
  }
  report("shell script", pid);
  fflush(stdout);
  printf("system: %d\n", WEXITSTATUS(system("exit 12")));
}

static void errors(void) {
  char *arguments[] = {"x", NULL};
  write_file("not-executable", "text", 0644);
  write_file("not-a-program", "text", 0755);
  write_file("cut", "\177ELF\2\1\1", 0755);
  static const char *const names[] = {"absent", "not-executable", "not-a-program", "cut", "/", "/dev/null"};
  for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
    if (getuid() == 0 && i == 1) continue;
    execve(names[i], arguments, environ);
    printf("exec of %s: %s\n", names[i], strerror(errno));
  }
}

static void ignoring(void) {
  pid_t pid = fork();
  if (pid == 0) {
    signal(SIGSEGV, SIG_IGN);
    signal(SIGFPE, SIG_IGN);
    execl("/dev/null", "/dev/null", (char *)NULL); /* fails, and changes nothing */
    execl(self, self, "ignoring", (char *)NULL);
    _exit(127);
  }
  report("exec with ignored signals", pid);
}

static int script_main(int argc, char **argv) {
  /* Started as: self child ./script VENDOR. */
  char here[13];
  cpuid_host(here);
  printf("  interpreter of %s: %s\n", argv[2], strcmp(here, argv[3]) ? "ON ANOTHER PROCESSOR" : "same processor");
  fflush(stdout);
  return argc + 40;
}

int main(int argc, char **argv) {
  if (argc > 3 && !strcmp(argv[2], "./script")) return script_main(argc, argv);
  if (argc > 2 && !strcmp(argv[1], "child")) return child_main(argc, argv);
  setvbuf(stdout, NULL, _IOLBF, 0);
  cpuid_host(host);
  if (!realpath("/proc/self/exe", self)) return 1;
  if (argc > 1 && !strcmp(argv[1], "ignoring")) return ignoring_main(argv);
  if (!mkdtemp(directory) || chdir(directory)) return 1;
  forking();
  vforking();
  cloning();
  cloning3();
  spawning();
  executing();
  ignoring();
  scripts();
  errors();
  return chdir("/") || execlp("rm", "rm", "-rf", directory, (char *)NULL);
}
