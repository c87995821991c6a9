// stele-agent: process 1 of Stele's initramfs (and, as /sbin/modprobe there, what the kernel runs: modprobe.h). It
// brings up what an x86-64 userspace needs, in the order of `boot_steps`, starts that userspace (userspace.h) and then
// answers the host until the machine ends.
//
// Constraints: it must never exit, block on the guest's files, or trust an allocation. A boot step that
// fails leaves the agent running in the state "failed", answering the host with the reason; the same
// reason is on the console, with what to do about it.
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/reboot.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include "agent.h"
#include "clock.h"
#include "commands.h"
#include "console.h"
#include "live.h"
#include "loop.h"
#include "modprobe.h"
#include "modules.h"
#include "mounts.h"
#include "network.h"
#include "qga.h"
#include "root.h"
#include "stop.h"
#include "streams.h"
#include "translator.h"
#include "userspace.h"

static Agent agent = {.userspace = {.mount_ns = -1, .pid_ns = -1, .report = -1}, .state_changed = streams_send_status};

// --- boot steps ----------------------------------------------------------------------------------------
// Each returns 0 or a negative errno, with a sentence for people in agent.message.

static int step_mounts(void) {
  const char *where = "";
  int r = mounts_early(&where);
  if (r < 0) snprintf(agent.message, sizeof agent.message, "cannot mount %s: %s", where, strerror(-r));
  return r;
}

static int step_configuration(void) {
  char command_line[8192] = "";
  FILE *file = fopen("/proc/cmdline", "re");
  if (!file || !fgets(command_line, sizeof command_line, file)) {
    snprintf(agent.message, sizeof agent.message, "cannot read /proc/cmdline");
    if (file) fclose(file);
    return -EIO;
  }
  fclose(file);
  return config_parse(&agent.config, command_line, agent.message, sizeof agent.message);
}

static int step_modules(void) {
  char name[64];
  int r = modules_load(&agent.config, name, sizeof name);
  if (r < 0)
    snprintf(agent.message, sizeof agent.message,
             "cannot load the kernel module %s: %s; kernel and initramfs "
             "may be of different versions: make the guest image again",
             name, strerror(-r));
  return r;
}

static int step_translator(void) {
  return translator_mount(&agent.config, agent.message, sizeof agent.message);
}

static int step_device_nodes(void) {
  modprobe_make_nodes("/dev");
  return 0;
}

static int step_root(void) {
  return root_mount(&agent.config, agent.message, sizeof agent.message);
}

static int step_translations(void) {
  return live_start(&agent.config, agent.message, sizeof agent.message);
}

static int step_binfmt(void) {
  int r = translator_register(agent.message, sizeof agent.message);
  agent.translator_registered = r == 0;
  return r;
}

static int step_network(void) {
  int r = network_up(agent.nameservers, sizeof agent.nameservers);
  agent.network_up = r == 0;
  if (r == -ENODEV) return 0; // a machine without a network card is fine
  if (r < 0) snprintf(agent.message, sizeof agent.message, "no network by DHCP: %s", strerror(-r));
  return r;
}

static int step_hostname(void) {
  const char *name = agent.config.hostname;
  if (!*name) return 0;
  if (sethostname(name, strlen(name)) == 0) return 0;
  snprintf(agent.message, sizeof agent.message, "cannot set the host name: %s", strerror(errno));
  return -errno;
}

static int step_userspace(void) {
  agent_enter_state(&agent, GUEST_STARTING, "starting the userspace");
  int r = userspace_start(&agent);
  if (r < 0) snprintf(agent.message, sizeof agent.message, "cannot start the userspace: %s", strerror(-r));
  return r;
}

static int step_channels(void);

static const struct BootStep {
  const char *name;
  int (*run)(void);
  bool optional; // its failure is reported and passed over
} boot_steps[] = {
    {"mounts", step_mounts},
    {"channels to the host", step_channels, true},
    {"configuration", step_configuration},
    {"kernel modules", step_modules},
    {"translator", step_translator},
    {"device nodes", step_device_nodes, true},
    {"root file system", step_root},
    {"translations", step_translations, true},
    {"binfmt_misc", step_binfmt},
    {"network", step_network, true},
    {"host name", step_hostname, true},
    {"userspace", step_userspace},
};

static void fail(void) {
  console_say("%s", agent.message);
  agent_enter_state(&agent, GUEST_FAILED, agent.message);
}

static void boot(void) {
  for (size_t i = 0; i < sizeof boot_steps / sizeof *boot_steps; i++) {
    const struct BootStep *step = &boot_steps[i];
    if (step->run() == 0) continue;
    if (!step->optional) return fail();
    console_say("%s", agent.message);
    agent.message[0] = 0;
  }
}

// --- events --------------------------------------------------------------------------------------------

static void announce_ready(void) {
  char message[256];
  int r = userspace_read_report(&agent, message, sizeof message);
  if (r == 0) return;
  if (r < 0) {
    snprintf(agent.message, sizeof agent.message, "%s", message);
    return fail();
  }
  console_say("userspace started after %llu ms", (unsigned long long)agent_now_ms());
  if (agent.stop_action) { // asked while it was starting
    userspace_stop(&agent, agent.stop_action);
  } else {
    agent_enter_state(&agent, GUEST_READY, "");
    modules_load_later();
  }
}

static void on_report(Source *source, uint32_t events) {
  loop_unwatch(source);
  announce_ready();
  if (agent.userspace.report >= 0) loop_watch(source, EPOLLIN);
}

static Source report_source = {.fd = -1, .ready = on_report};

static void describe_end(int status, char *text, size_t size) {
  if (WIFSIGNALED(status))
    snprintf(text, size, "was killed by signal %d", WTERMSIG(status));
  else
    snprintf(text, size, "exited with status %d", WEXITSTATUS(status));
}

static void on_userspace_end(int wait_status) {
  char text[64], message[80] = "the userspace has ended";
  if (agent.userspace.report >= 0) {
    loop_unwatch(&report_source);
    announce_ready();
  }
  UserspaceEnd end = userspace_ended(&agent, wait_status, &agent.command_status);
  if (agent.state == GUEST_FAILED) return; // it never started; the reason has been told
  if (end == USERSPACE_COMMAND_DONE) {
    describe_end(agent.command_status, text, sizeof text);
    console_say("command %s", text);
    agent.command_ended = true;
    snprintf(message, sizeof message, "the command %s", text);
  }
  if (end == USERSPACE_DIED && !agent.stop_action) {
    describe_end(wait_status, text, sizeof text);
    snprintf(agent.message, sizeof agent.message, "the userspace's init %s", text);
    return fail();
  }
  if (!agent.stop_action) agent.stop_action = end == USERSPACE_REBOOT ? RB_AUTOBOOT : RB_POWER_OFF;
  agent_enter_state(&agent, GUEST_STOPPING, message);
}

// Programs that start from now on have the share's translator again.
static void on_keeper_end(void) {
  char message[256];
  console_say("translations are not kept any more: the keeper has ended");
  if (translator_register(message, sizeof message) < 0) console_say("%s", message);
}

static void on_child(Source *source, uint32_t events) {
  struct signalfd_siginfo ignored;
  int status;
  while (read(source->fd, &ignored, sizeof ignored) > 0) {
  }
  for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
    if (pid == agent.userspace.pid)
      on_userspace_end(status);
    else if (live_reaped(pid))
      on_keeper_end();
    else if (!streams_reaped(pid, status))
      commands_reaped(pid, status);
  }
}

// A device appeared: perhaps a channel's port.
static void on_device(Source *source, uint32_t events) {
  char message[8192];
  while (recv(source->fd, message, sizeof message, 0) > 0) {
  }
  qga_open(&agent);
  streams_open(&agent);
}

static Source child_source = {.fd = -1, .ready = on_child}, device_source = {.fd = -1, .ready = on_device};

static int watch_children(void) {
  sigset_t children;
  sigemptyset(&children);
  sigaddset(&children, SIGCHLD);
  sigprocmask(SIG_BLOCK, &children, NULL);
  child_source.fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
  return child_source.fd < 0 ? -errno : loop_watch(&child_source, EPOLLIN);
}

static int watch_devices(void) {
  struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1}; // the kernel's own events
  device_source.fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
  if (device_source.fd < 0 || bind(device_source.fd, (struct sockaddr *)&address, sizeof address) < 0) return -errno;
  return loop_watch(&device_source, EPOLLIN);
}

static int step_channels(void) {
  int r = loop_open();
  if (r == 0) r = watch_children();
  if (r == 0) r = watch_devices();
  if (r < 0) snprintf(agent.message, sizeof agent.message, "cannot watch for events: %s", strerror(-r));
  qga_open(&agent);
  streams_open(&agent);
  return r;
}

static int earlier(int a, int b) {
  return a < 0 ? b : b < 0 || a < b ? a : b;
}

// Milliseconds until something is due, -1 for nothing.
static int run_timers(void) {
  int due = earlier(earlier(commands_expire(), command_table_expire(&agent)), clock_look());
  uint64_t now = agent_now_ms();
  if (agent.userspace.remind_at && agent.userspace.remind_at <= now) userspace_remind(&agent);
  if (!agent.userspace.remind_at) return due;
  return earlier(due, (int)(agent.userspace.remind_at - now));
}

static void run(void) {
  if (agent.userspace.report >= 0) {
    report_source.fd = agent.userspace.report;
    loop_watch(&report_source, EPOLLIN);
  }
  for (;;) {
    if (agent.stop_action && !agent.userspace.pid) stop_now(agent.stop_action);
    loop_run_once(run_timers());
  }
}

static bool is_named(const char *program, const char *name) {
  const char *slash = program ? strrchr(program, '/') : NULL;
  return program && strcmp(slash ? slash + 1 : program, name) == 0;
}

int main(int argc, char **argv) {
  if (is_named(argv[0], "modprobe")) return modprobe_main(argc, argv);
  if (getpid() != 1) {
    fprintf(stderr, "stele-agent " STELE_VERSION ": runs as process 1 of a Stele machine's initramfs\n");
    return 2;
  }
  console_guard_against_panic();
  signal(SIGPIPE, SIG_IGN);
  reboot(RB_DISABLE_CAD);
  umask(022);
  boot();
  run();
}
