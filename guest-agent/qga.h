// The channel of the QEMU guest agent, which a machine has when libvirt runs in a process of its own: one JSON object a
// line, for virsh's sake. steled itself speaks to the stream channel only.
#pragma once

#include "agent.h"

// Opens the channel's port when it exists; called again when a device appears. Returns 0 or -ENOENT.
int qga_open(Agent *agent);
