// The transition table and the few lines that read it. See machine.h.
#include "machine.h"

enum {
  STOPPED = 1 << MACHINE_STOPPED,
  STARTING = 1 << MACHINE_STARTING,
  BOOTING = 1 << MACHINE_BOOTING,
  RUNNING = 1 << MACHINE_RUNNING,
  PAUSED = 1 << MACHINE_PAUSED,
  STOPPING = 1 << MACHINE_STOPPING,
  FAILED = 1 << MACHINE_FAILED,
  UP = BOOTING | RUNNING | FAILED,
  ALIVE = UP | PAUSED | STOPPING, // QEMU runs and no start is under way
  STAY = -1,                      // for `to`: no change of state
  BACK = -2,                      // for `to`: where it was before it was paused or asked to stop
};

// The first row that fits decides. reason NULL keeps the reason. While a start is under way only
// its outcome counts: the end of a QEMU that failed to start is reported by both.
static const struct Transition {
  int from;
  MachineEvent event;
  int to;
  const char *reason;
} transitions[] = {
    {STOPPED, MACHINE_REQUEST_START, MACHINE_STARTING, "booted"},
    {STOPPED, MACHINE_REQUEST_UNDEFINE, STAY, NULL},
    {BOOTING | RUNNING, MACHINE_REQUEST_SHUTDOWN, MACHINE_STOPPING, "shutdown"},
    {RUNNING, MACHINE_REQUEST_REBOOT, MACHINE_STOPPING, "rebooting"},
    {ALIVE, MACHINE_REQUEST_DESTROY, MACHINE_STOPPING, "destroyed"},
    {BOOTING | RUNNING, MACHINE_REQUEST_SUSPEND, STAY, NULL},
    {PAUSED, MACHINE_REQUEST_RESUME, STAY, NULL},

    {STARTING, MACHINE_STARTED, MACHINE_BOOTING, "booted"},
    {STARTING, MACHINE_STARTED_PLAIN, MACHINE_RUNNING, "plain"},
    {STARTING, MACHINE_START_FAILED, MACHINE_STOPPED, "start-failed"},
    {STOPPING, MACHINE_REQUEST_GIVEN_UP, BACK, NULL},

    {STOPPED, MACHINE_FOUND, MACHINE_BOOTING, "found"},
    {STOPPED, MACHINE_FOUND_PAUSED, MACHINE_PAUSED, "user"},
    {STOPPED, MACHINE_FOUND_ENDED, MACHINE_STOPPED, "unknown"},

    {BOOTING, MACHINE_GUEST_READY, MACHINE_RUNNING, "ready"},
    {PAUSED, MACHINE_GUEST_READY, STAY, NULL},
    {BOOTING | RUNNING, MACHINE_GUEST_FAILED, MACHINE_FAILED, "guest-failed"},
    {UP | STOPPING, MACHINE_GUEST_RESET, MACHINE_BOOTING, "rebooted"},
    {BOOTING, MACHINE_BOOT_FAILED, MACHINE_STOPPING, "boot-failed"},

    {UP, MACHINE_SUSPENDED, MACHINE_PAUSED, "user"},
    {UP, MACHINE_HOST_PAUSED, MACHINE_PAUSED, "host"},
    {PAUSED, MACHINE_RESUMED, BACK, NULL},
    {BOOTING | RUNNING | PAUSED | STOPPING, MACHINE_SHARE_DIED, MACHINE_FAILED, "share-died"},

    {STOPPING, MACHINE_COMMAND_EXITED, MACHINE_STOPPED, "command-exited"},
    {STOPPING, MACHINE_POWERED_OFF, MACHINE_STOPPED, NULL},
    {STOPPING, MACHINE_DESTROYED, MACHINE_STOPPED, NULL},
    {ALIVE, MACHINE_COMMAND_EXITED, MACHINE_STOPPED, "command-exited"},
    {ALIVE, MACHINE_POWERED_OFF, MACHINE_STOPPED, "shutdown"},
    {ALIVE, MACHINE_DESTROYED, MACHINE_STOPPED, "destroyed"},
    {ALIVE, MACHINE_DIED, MACHINE_STOPPED, "died"},
};

static const char *const state_names[] = {
    [MACHINE_STOPPED] = "stopped", [MACHINE_STARTING] = "starting", [MACHINE_BOOTING] = "booting",
    [MACHINE_RUNNING] = "running", [MACHINE_PAUSED] = "paused",     [MACHINE_STOPPING] = "stopping",
    [MACHINE_FAILED] = "failed",
};

static const struct Transition *find_transition(const MachineLife *life, MachineEvent event) {
  for (size_t i = 0; i < G_N_ELEMENTS(transitions); i++)
    if (transitions[i].event == event && transitions[i].from & 1 << life->state) return &transitions[i];
  return NULL;
}

gboolean machine_life_accepts(const MachineLife *life, MachineEvent event) {
  return find_transition(life, event) != NULL;
}

// Pausing and stopping can be undone; what they lead back to is remembered on the way in.
static void remember_way_back(MachineLife *life, int to) {
  gboolean detour = to == MACHINE_PAUSED || to == MACHINE_STOPPING;
  gboolean on_detour = life->state == MACHINE_PAUSED || life->state == MACHINE_STOPPING;
  if (!detour || on_detour) return;
  gboolean active = machine_state_is_active(life->state);
  life->resume_to = active ? life->state : MACHINE_BOOTING;
  life->resume_reason = active ? life->reason : "found";
}

gboolean machine_life_apply(MachineLife *life, MachineEvent event) {
  const struct Transition *row = find_transition(life, event);
  if (row == NULL) return FALSE;
  // The agent's word reaches a paused machine too, and holds once it is resumed.
  if (event == MACHINE_GUEST_READY && life->state == MACHINE_PAUSED && life->resume_to == MACHINE_BOOTING) {
    life->resume_to = MACHINE_RUNNING;
    life->resume_reason = "ready";
  }
  if (row->to == STAY) return TRUE;
  if (row->to == BACK) {
    life->state = life->resume_to;
    life->reason = life->resume_reason;
    return TRUE;
  }
  remember_way_back(life, row->to);
  life->state = (MachineState)row->to;
  if (row->reason) life->reason = row->reason;
  return TRUE;
}

gboolean machine_state_is_active(MachineState state) {
  return state != MACHINE_STOPPED;
}

const char *machine_state_name(MachineState state) {
  return state_names[state];
}

const char *machine_reason_intern(const char *reason) {
  for (size_t i = 0; i < G_N_ELEMENTS(transitions); i++)
    if (transitions[i].reason && g_strcmp0(transitions[i].reason, reason) == 0) return transitions[i].reason;
  return g_strcmp0(reason, "new") == 0 ? "new" : "unknown";
}
