// Ending the machine in order: asking the userspace to stop, then the kernel to power off.
#pragma once

#include "agent.h"

// The host asks for `action` (RB_POWER_OFF, RB_AUTOBOOT, RB_HALT_SYSTEM). Returns at once; what follows
// happens when the userspace has ended.
int stop_request(Agent *agent, int action);

// Ends the machine now: the userspace is gone or never was. File systems are unmounted by a child that
// is given a few seconds (a share may hang). Does not return.
void stop_now(int action) __attribute__((noreturn));
