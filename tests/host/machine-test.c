// The life of a machine: each row is a story, the events in order and the state and reason after the last.
#include <criterion/criterion.h>
#include "machine.h"

#define END -1

static const struct {
  const char *what;
  int events[8];
  MachineState state;
  const char *reason;
} stories[] = {
    {"boot to ready", {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_GUEST_READY, END}, MACHINE_RUNNING, "ready"},
    {"a plain VM runs at once", {MACHINE_REQUEST_START, MACHINE_STARTED_PLAIN, END}, MACHINE_RUNNING, "plain"},
    {"start fails", {MACHINE_REQUEST_START, MACHINE_START_FAILED, END}, MACHINE_STOPPED, "start-failed"},
    {"QEMU's end during a start is left to the start",
     {MACHINE_REQUEST_START, MACHINE_DIED, MACHINE_START_FAILED, END},
     MACHINE_STOPPED,
     "start-failed"},
    {"shutdown",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_GUEST_READY, MACHINE_REQUEST_SHUTDOWN, MACHINE_POWERED_OFF, END},
     MACHINE_STOPPED,
     "shutdown"},
    {"a shutdown given up",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_GUEST_READY, MACHINE_REQUEST_SHUTDOWN, MACHINE_REQUEST_GIVEN_UP,
      END},
     MACHINE_RUNNING,
     "ready"},
    {"destroy of a shutdown that hangs",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_REQUEST_SHUTDOWN, MACHINE_REQUEST_DESTROY, MACHINE_DESTROYED,
      END},
     MACHINE_STOPPED,
     "destroyed"},
    {"power-off by the guest",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_GUEST_READY, MACHINE_POWERED_OFF, END},
     MACHINE_STOPPED,
     "shutdown"},
    {"the command ended",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_GUEST_READY, MACHINE_COMMAND_EXITED, END},
     MACHINE_STOPPED,
     "command-exited"},
    {"QEMU killed",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_GUEST_READY, MACHINE_DIED, END},
     MACHINE_STOPPED,
     "died"},
    {"reboot",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_GUEST_READY, MACHINE_REQUEST_REBOOT, MACHINE_GUEST_RESET, END},
     MACHINE_BOOTING,
     "rebooted"},
    {"reboot by the guest",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_GUEST_READY, MACHINE_GUEST_RESET, MACHINE_GUEST_READY, END},
     MACHINE_RUNNING,
     "ready"},
    {"a boot that fails",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_BOOT_FAILED, MACHINE_DESTROYED, END},
     MACHINE_STOPPED,
     "boot-failed"},
    {"a boot that fails by powering off",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_BOOT_FAILED, MACHINE_POWERED_OFF, END},
     MACHINE_STOPPED,
     "boot-failed"},
    {"suspended",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_GUEST_READY, MACHINE_REQUEST_SUSPEND, MACHINE_SUSPENDED, END},
     MACHINE_PAUSED,
     "user"},
    {"resumed",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_GUEST_READY, MACHINE_SUSPENDED, MACHINE_RESUMED, END},
     MACHINE_RUNNING,
     "ready"},
    {"ready while paused",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_SUSPENDED, MACHINE_GUEST_READY, MACHINE_RESUMED, END},
     MACHINE_RUNNING,
     "ready"},
    {"disk full",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_GUEST_READY, MACHINE_HOST_PAUSED, END},
     MACHINE_PAUSED,
     "host"},
    {"virtiofsd dies",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_GUEST_READY, MACHINE_SHARE_DIED, END},
     MACHINE_FAILED,
     "share-died"},
    {"destroy after that",
     {MACHINE_REQUEST_START, MACHINE_STARTED, MACHINE_SHARE_DIED, MACHINE_REQUEST_DESTROY, MACHINE_DESTROYED, END},
     MACHINE_STOPPED,
     "destroyed"},
    {"found running", {MACHINE_FOUND, MACHINE_GUEST_READY, END}, MACHINE_RUNNING, "ready"},
    {"found paused, resumed", {MACHINE_FOUND_PAUSED, MACHINE_RESUMED, END}, MACHINE_BOOTING, "found"},
    {"gone while nobody watched", {MACHINE_FOUND_ENDED, END}, MACHINE_STOPPED, "unknown"},
    {"paused, then destroyed",
     {MACHINE_FOUND_PAUSED, MACHINE_REQUEST_DESTROY, MACHINE_DESTROYED, END},
     MACHINE_STOPPED,
     "destroyed"},
};

Test(machine, stories) {
  for (size_t i = 0; i < G_N_ELEMENTS(stories); i++) {
    MachineLife life = {.state = MACHINE_STOPPED, .reason = "new"};
    for (const int *event = stories[i].events; *event != END; event++) machine_life_apply(&life, (MachineEvent)*event);
    cr_expect_eq(life.state, stories[i].state, "%s: %s", stories[i].what, machine_state_name(life.state));
    cr_expect_str_eq(life.reason, stories[i].reason, "%s", stories[i].what);
  }
}

// Requests a state must refuse, without a change.
static const struct {
  MachineState state;
  MachineEvent request;
} refused[] = {
    {MACHINE_STOPPED, MACHINE_REQUEST_SHUTDOWN},  {MACHINE_STOPPED, MACHINE_REQUEST_DESTROY},
    {MACHINE_STOPPED, MACHINE_REQUEST_REBOOT},    {MACHINE_STOPPED, MACHINE_REQUEST_SUSPEND},
    {MACHINE_STOPPED, MACHINE_REQUEST_RESUME},    {MACHINE_STARTING, MACHINE_REQUEST_START},
    {MACHINE_STARTING, MACHINE_REQUEST_DESTROY},  {MACHINE_RUNNING, MACHINE_REQUEST_START},
    {MACHINE_RUNNING, MACHINE_REQUEST_RESUME},    {MACHINE_RUNNING, MACHINE_REQUEST_UNDEFINE},
    {MACHINE_PAUSED, MACHINE_REQUEST_START},      {MACHINE_PAUSED, MACHINE_REQUEST_SUSPEND},
    {MACHINE_STOPPING, MACHINE_REQUEST_SHUTDOWN}, {MACHINE_FAILED, MACHINE_REQUEST_START},
    {MACHINE_FAILED, MACHINE_REQUEST_UNDEFINE},
};

Test(machine, refused_requests) {
  for (size_t i = 0; i < G_N_ELEMENTS(refused); i++) {
    MachineLife life = {.state = refused[i].state, .reason = "new"};
    cr_expect_not(machine_life_accepts(&life, refused[i].request), "%s %d", machine_state_name(refused[i].state),
                  refused[i].request);
    cr_expect_not(machine_life_apply(&life, refused[i].request));
    cr_expect_eq(life.state, refused[i].state);
  }
}

Test(machine, destroy_works_whenever_qemu_runs) {
  static const MachineState states[] = {MACHINE_BOOTING, MACHINE_RUNNING, MACHINE_PAUSED, MACHINE_STOPPING,
                                        MACHINE_FAILED};
  for (size_t i = 0; i < G_N_ELEMENTS(states); i++) {
    MachineLife life = {.state = states[i], .reason = "new"};
    cr_expect(machine_life_apply(&life, MACHINE_REQUEST_DESTROY), "%s", machine_state_name(states[i]));
  }
}

Test(machine, reasons_come_back_as_static_text) {
  cr_expect_str_eq(machine_reason_intern("share-died"), "share-died");
  cr_expect_str_eq(machine_reason_intern("new"), "new");
  cr_expect_str_eq(machine_reason_intern("\033[31mno such reason"), "unknown");
}
