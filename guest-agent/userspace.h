// The x86-64 userspace as a whole: started in PID and mount namespaces of its own, entered by programs
// the host asks for, watched, and stopped.
//
// Theory of operation. The agent stays process 1 of the kernel, in the initramfs. The userspace's
// process 1 is a child of it: the distribution's init (`system`), or a minimal reaper of our own whose
// child is the command (`command`). So the agent survives the distribution's shutdown, a crash of its
// init is an event and no kernel panic, and all that is left of the userspace dies with its process 1.
// Power-off inside the namespace reaches us as that process's death by SIGINT, reboot by SIGHUP
// (reboot(2), "Behavior inside PID namespaces"). The agent never looks at the root's files itself:
// children do, so that a share that hangs cannot hang the agent.
#pragma once

#include <stdbool.h>
#include "agent.h"
#include "program.h"

typedef enum UserspaceEnd {
  USERSPACE_POWEROFF, // asked for from inside
  USERSPACE_REBOOT,
  USERSPACE_COMMAND_DONE,
  USERSPACE_DIED, // the init ended or crashed
} UserspaceEnd;

// Starts the userspace; its report arrives on agent->userspace.report. Returns 0 or a negative errno.
int userspace_start(Agent *agent);

// Reads the start report. 1: the init or command runs; 0: nothing yet; negative: it could not be
// started, and `message` says why.
int userspace_read_report(Agent *agent, char *message, size_t message_size);

// Says what the death of the userspace's process 1 with this wait status means. The command's own end
// comes as a wait status in *ret_command_status.
UserspaceEnd userspace_ended(Agent *agent, int status, int *ret_command_status);

// Forks a child inside the userspace (its PID and mount namespaces, its root). Returns as fork(2) does,
// or a negative errno; -ESRCH: no userspace runs.
pid_t userspace_fork(Agent *agent);

// Asks the userspace to stop, ending in `action` (RB_POWER_OFF, RB_AUTOBOOT, RB_HALT_SYSTEM). Returns 0,
// or -ESRCH where nothing runs that could be asked.
int userspace_stop(Agent *agent, int action);

// Asks once more, remind_at having come: an init that was not listening yet is told again, a command that
// did not heed SIGTERM is killed.
void userspace_remind(Agent *agent);
