// See userspace.h.
#include "userspace.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>
#include "console.h"
#include "containers.h"
#include "file.h"
#include "modprobe.h"
#include "mounts.h"
#include "root.h"
#include "systemd.h"

enum { REMIND_MS = 10000 };

// The reaper tells the agent the wait status of the command itself here.
static int result_pipe[2] = {-1, -1};
static int own_pid_ns = -1; // to come back to when the userspace's is dead: no fork succeeds in it

// --- inside the new namespaces -------------------------------------------------------------------------

static void report_failure(int report_fd, int error, const char *format, const char *what) {
  ProgramReport report = {.error = error, .pid = getpid()};
  snprintf(report.message, sizeof report.message, format, what, strerror(error));
  ssize_t ignored = write(report_fd, &report, sizeof report);
  (void)ignored;
  _exit(1);
}

// Makes NEW_ROOT the root of this mount namespace. The initramfs cannot be pivoted away, so it is
// mounted over (kernel documentation, filesystems/ramfs-rootfs-initramfs.rst).
static int switch_root(void) {
  if (chdir(NEW_ROOT) < 0) return -errno;
  if (mount(".", "/", NULL, MS_MOVE, NULL) < 0) return -errno;
  return chroot(".") < 0 || chdir("/") < 0 ? -errno : 0;
}

// Name servers for a root that names none. A symbolic link is some resolver's own business.
static void offer_nameservers(const Agent *agent) {
  struct stat status;
  if (!agent->nameservers[0]) return;
  if (lstat("/etc/resolv.conf", &status) == 0 && (!S_ISREG(status.st_mode) || status.st_size > 0)) return;
  file_write("/etc/resolv.conf", agent->nameservers);
}

// The kernel's modules, at the place where programs look for them: what the root has there is of other kernels. A root
// that cannot be changed may at least have the directory.
static void offer_modules(void) {
  struct utsname kernel;
  char source[128], target[128];
  if (uname(&kernel) < 0) return;
  snprintf(source, sizeof source, MODULES_SHARE "/%s", kernel.release);
  snprintf(target, sizeof target, "/lib/modules/%s", kernel.release);
  if (access(source, F_OK) < 0) return;
  mkdir("/lib/modules", 0755);
  mkdir(target, 0755);
  if (mount(source, target, NULL, MS_BIND, NULL) < 0) mount(MODULES_SHARE, "/lib/modules", NULL, MS_BIND, NULL);
}

static void open_console(void) {
  int fd = open("/dev/console", O_RDWR | O_NOCTTY);
  if (fd < 0) fd = open("/dev/null", O_RDWR);
  for (int i = 0; fd >= 0 && i < 3; i++) dup2(fd, i);
  if (fd > 2) close(fd);
}

// Programs are told that the userspace's PID namespace is the first: it is the machine's, not a container's.
static void name_pid_namespace(void) {
  struct stat status;
  char number[24];
  if (stat("/proc/self/ns/pid", &status) < 0) return;
  snprintf(number, sizeof number, "%llu", (unsigned long long)status.st_ino);
  setenv("STELE_PID_NAMESPACE", number, 1);
}

// Of a process in the userspace's namespaces.
static void set_translator_environment(const Config *config) {
  name_pid_namespace();
  if (config->cpu[0]) setenv("STELE_CPU", config->cpu, 1);
  if (config->cpu_vendor[0]) setenv("STELE_CPU_VENDOR", config->cpu_vendor, 1);
  if (config->memory_model[0]) setenv("STELE_MEMORY_MODEL", config->memory_model, 1);
}

static void exec_init(Agent *agent, int report_fd) {
  static char command_line[STELE_COMMAND_LINE_MAX + 256];
  char reason[200];
  char *argv[] = {agent->config.init_path, NULL};
  ProgramReport started = {.pid = getpid()};
  int r = program_check(agent->config.init_path, reason, sizeof reason);
  if (r < 0) report_failure(report_fd, -r, "cannot start the init: %s", reason);
  clearenv();
  setenv("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", 1);
  setenv("TERM", "linux", 1);
  set_translator_environment(&agent->config);
  if (agent->userspace.systemd) {
    systemd_prepare(agent);
    systemd_command_line(&agent->config, command_line, sizeof command_line);
    putenv(command_line);
  }
  program_reset_signals();
  if (write(report_fd, &started, sizeof started) < 0) _exit(1);
  execv(agent->config.init_path, argv);
  report_failure(report_fd, errno, "cannot execute the init %s: %s", agent->config.init_path);
}

// The reaper's only business with signals: hand those meant for the command on.
static pid_t reaper_command;

static void forward_signal(int signal) {
  if (reaper_command > 0) kill(reaper_command, signal);
}

// Process 1 of a `command` userspace: waits for the command and for every orphan, then ends, and with
// it all that is left in the namespace.
static void reap_until_done(pid_t command) {
  int status, result = 0;
  reaper_command = command;
  program_reset_signals();
  for (int signal = 1; signal < NSIG; signal++) {
    struct sigaction action = {.sa_handler = forward_signal, .sa_flags = SA_RESTART};
    if (signal != SIGCHLD && signal != SIGKILL && signal != SIGSTOP) sigaction(signal, &action, NULL);
  }
  for (pid_t pid; (pid = wait(&status)) > 0 || errno == EINTR;) {
    if (pid != command) continue;
    result = status;
    break;
  }
  ssize_t ignored = write(result_pipe[1], &result, sizeof result);
  (void)ignored;
  _exit(0);
}

// Without a command: orphans are reaped, among them programs the host started, until the agent asks for the end.
static void end_by_signal(int signal) {
  _exit(0);
}

static void reap_for_ever(int report_fd) {
  struct sigaction end = {.sa_handler = end_by_signal};
  ProgramReport started = {.pid = getpid()};
  siginfo_t child;
  sigset_t children;
  program_reset_signals();
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_BLOCK, &children, NULL);
  sigaction(SIGTERM, &end, NULL);
  if (write(report_fd, &started, sizeof started) < 0) _exit(1);
  close(report_fd);
  for (;;) {
    sigwaitinfo(&children, &child);
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
  }
}

static void run_command(Agent *agent, int report_fd) {
  ProgramRequest request;
  int r = program_parse(&request, agent->config.command, strlen(agent->config.command));
  if (r < 0 || !request.argv || !request.argv[0])
    report_failure(report_fd, EINVAL, "%s is not a JSON object with an argv", STELE_PARAM_COMMAND);
  clearenv();
  set_translator_environment(&agent->config);
  if (!request.cwd) request.cwd = strdup("/");
  pid_t command = fork();
  if (command < 0) report_failure(report_fd, errno, "cannot start the command%s: %s", "");
  if (command == 0) {
    setsid();
    open_console();
    program_exec(&request, report_fd);
  }
  close(report_fd);
  reap_until_done(command);
}

static void make_directories(const char *path) {
  char part[sizeof((ConfigShare *)0)->path];
  for (size_t i = 1; path[i - 1]; i++) {
    if (path[i] && path[i] != '/') continue;
    snprintf(part, sizeof part, "%.*s", (int)i, path);
    mkdir(part, 0755);
  }
}

// Inside the userspace's root, so that its links lead nowhere else.
static void mount_shares(const Config *config, int report_fd) {
  for (int i = 0; i < config->share_count; i++) {
    const ConfigShare *share = &config->shares[i];
    make_directories(share->path);
    if (mount(share->tag, share->path, "virtiofs", share->readonly ? MS_RDONLY : 0, NULL) < 0)
      report_failure(report_fd, errno, "cannot mount a share of the host at %s: %s", share->path);
  }
}

static void become_userspace(Agent *agent, int report_fd) {
  const char *where = "";
  int r = mounts_userspace(agent->config.init_kind, &where);
  if (r < 0) report_failure(report_fd, -r, "cannot mount %s: %s", where);
  r = switch_root();
  if (r < 0) report_failure(report_fd, -r, "cannot switch to the root%s: %s", "");
  offer_nameservers(agent);
  offer_modules();
  r = containers_prepare(&agent->config);
  if (r < 0)
    console_say("podman's seccomp_profile cannot be set: %s; give it --security-opt seccomp=unconfined", strerror(-r));
  umask(022);
  mount_shares(&agent->config, report_fd);
  if (agent->config.init_kind == INIT_NONE) reap_for_ever(report_fd);
  if (agent->config.init_kind == INIT_COMMAND) run_command(agent, report_fd);
  setsid();
  open_console();
  exec_init(agent, report_fd);
}

// --- the agent's side ----------------------------------------------------------------------------------

static int open_namespaces(Agent *agent) {
  char path[64];
  snprintf(path, sizeof path, "/proc/%d/ns/mnt", (int)agent->userspace.pid);
  agent->userspace.mount_ns = open(path, O_RDONLY | O_CLOEXEC);
  snprintf(path, sizeof path, "/proc/%d/ns/pid", (int)agent->userspace.pid);
  agent->userspace.pid_ns = open(path, O_RDONLY | O_CLOEXEC);
  if (agent->userspace.mount_ns < 0 || agent->userspace.pid_ns < 0) return -errno;
  // Only children are born into the namespace; the agent itself stays where it is (setns(2)).
  return setns(agent->userspace.pid_ns, CLONE_NEWPID) < 0 ? -errno : 0;
}

static void note_init_kind(Agent *agent) {
  char path[512];
  agent->userspace.systemd = agent->config.init_kind == INIT_SYSTEM &&
                             root_resolve(agent->config.init_path, path, sizeof path) == 0 &&
                             strcmp(strrchr(path, '/') ? strrchr(path, '/') : path, "/systemd") == 0;
}

int userspace_start(Agent *agent) {
  int report[2];
  note_init_kind(agent);
  own_pid_ns = open("/proc/self/ns/pid", O_RDONLY | O_CLOEXEC);
  if (own_pid_ns < 0) return -errno;
  if (pipe2(report, O_CLOEXEC) < 0 || pipe2(result_pipe, O_CLOEXEC | O_NONBLOCK) < 0) return -errno;
  if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0) return -errno;
  pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWPID | CLONE_NEWNS | SIGCHLD, 0, 0, 0, 0);
  if (pid < 0) return -errno;
  if (pid == 0) {
    close(report[0]);
    become_userspace(agent, report[1]);
    _exit(1);
  }
  close(report[1]);
  close(result_pipe[1]);
  agent->userspace.pid = pid;
  agent->userspace.report = report[0];
  fcntl(report[0], F_SETFL, O_NONBLOCK);
  return open_namespaces(agent);
}

int userspace_read_report(Agent *agent, char *message, size_t message_size) {
  ProgramReport report;
  for (;;) {
    ssize_t got = read(agent->userspace.report, &report, sizeof report);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return 0;
    if (got == (ssize_t)sizeof report && report.error == 0) continue; // on its way; the end of file decides
    close(agent->userspace.report);
    agent->userspace.report = -1;
    if (got == 0) return 1;
    snprintf(message, message_size, "%s", got == (ssize_t)sizeof report ? report.message : "no report");
    return got == (ssize_t)sizeof report ? -report.error : -EIO;
  }
}

UserspaceEnd userspace_ended(Agent *agent, int status, int *ret_command_status) {
  agent->userspace.pid = 0;
  agent->userspace.remind_at = 0;
  setns(own_pid_ns, CLONE_NEWPID);
  if (agent->config.init_kind == INIT_COMMAND && WIFEXITED(status) &&
      read(result_pipe[0], ret_command_status, sizeof *ret_command_status) == sizeof *ret_command_status)
    return USERSPACE_COMMAND_DONE;
  if (agent->config.init_kind == INIT_NONE && WIFEXITED(status)) return USERSPACE_POWEROFF;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGHUP) return USERSPACE_REBOOT;
  if (WIFSIGNALED(status) && WTERMSIG(status) == SIGINT) return USERSPACE_POWEROFF;
  return USERSPACE_DIED;
}

pid_t userspace_fork(Agent *agent) {
  if (!agent->userspace.pid || agent->userspace.report >= 0) return -ESRCH;
  pid_t pid = fork();
  if (pid != 0) return pid < 0 ? -errno : pid;
  if (setns(agent->userspace.mount_ns, CLONE_NEWNS) < 0) _exit(EXIT_FAILURE);
  set_translator_environment(&agent->config);
  return 0;
}

// Signals by which systemd is told to power off, reboot and halt (systemd(1), "Signals").
static int systemd_signal(int action) {
  return SIGRTMIN + (action == RB_AUTOBOOT ? 5 : action == (int)RB_HALT_SYSTEM ? 3 : 4);
}

// Other inits understand their own commands.
static void run_stop_command(int action) {
  ProgramRequest request = {0};
  char *argv[] = {action == RB_AUTOBOOT ? "reboot" : action == (int)RB_HALT_SYSTEM ? "halt" : "poweroff", NULL};
  int null = open("/dev/null", O_RDWR | O_CLOEXEC);
  request.argv = argv;
  program_exec(&request, null);
}

// What the command wants to be told its end by.
static int stop_signal(const Agent *agent) {
  ProgramRequest request;
  int r = program_parse(&request, agent->config.command, strlen(agent->config.command));
  int signal = r == 0 && request.stop_signal ? request.stop_signal : SIGTERM;
  program_free(&request);
  return signal;
}

static int ask_to_stop(Agent *agent, int action) {
  if (agent->userspace.systemd) return kill(agent->userspace.pid, systemd_signal(action)) < 0 ? -errno : 0;
  if (agent->config.init_kind == INIT_COMMAND) return kill(agent->userspace.pid, stop_signal(agent)) < 0 ? -errno : 0;
  if (agent->config.init_kind == INIT_NONE) return kill(agent->userspace.pid, SIGTERM) < 0 ? -errno : 0;
  pid_t pid = userspace_fork(agent);
  if (pid == 0) run_stop_command(action);
  return pid < 0 ? pid : 0;
}

int userspace_stop(Agent *agent, int action) {
  if (!agent->userspace.pid || agent->userspace.report >= 0) return -ESRCH;
  agent->userspace.remind_at = agent_now_ms() + REMIND_MS;
  return ask_to_stop(agent, action);
}

void userspace_remind(Agent *agent) {
  agent->userspace.remind_at = 0;
  if (!agent->userspace.pid) return;
  if (agent->config.init_kind != INIT_SYSTEM)
    kill(agent->userspace.pid, SIGKILL);
  else
    userspace_stop(agent, agent->stop_action);
}
