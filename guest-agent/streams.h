// The stream channel (guest-protocol.h, part 3), guest's end: programs run in the userspace for the
// host, with their input and output, with and without a terminal.
#pragma once

#include "agent.h"

// Opens the channel's port when it exists; called again when a device appears. Returns 0 or -ENOENT.
int streams_open(Agent *agent);

// Tells an open session the agent's state.
void streams_send_status(void);

// A child was reaped; true: it was a stream's program.
bool streams_reaped(pid_t pid, int status);
