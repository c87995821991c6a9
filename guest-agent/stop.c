// See stop.h.
#include "stop.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>
#include "live.h"
#include "mounts.h"
#include "userspace.h"

enum { UNMOUNT_MS = 5000 };

int stop_request(Agent *agent, int action) {
  agent->stop_action = action;
  agent_enter_state(agent, GUEST_STOPPING, "stopping at the host's request");
  int r = userspace_stop(agent, action);
  // Nothing runs that could be asked: the main loop ends the machine once the reply is out.
  return r == -ESRCH ? 0 : r;
}

static void unmount_everything(void) {
  sync();
  umount2(NEW_ROOT, MNT_DETACH);
  umount2("/run/root-lower", MNT_DETACH);
  umount2("/run/root-layers", MNT_DETACH);
  sync();
}

static void unmount_in_child(void) {
  pid_t pid = fork();
  if (pid == 0) {
    unmount_everything();
    _exit(EXIT_SUCCESS);
  }
  int fd = pid > 0 ? (int)syscall(SYS_pidfd_open, pid, 0) : -1;
  if (fd < 0) return;
  struct pollfd ended = {.fd = fd, .events = POLLIN};
  poll(&ended, 1, UNMOUNT_MS);
  close(fd);
}

void stop_now(int action) {
  live_stop();
  unmount_in_child();
  reboot(action);
  reboot(RB_POWER_OFF); // where the platform cannot do what was asked
  for (;;) pause();
}
