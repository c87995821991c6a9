// What the distribution's systemd is told before it starts: runtime configuration below /run, which goes with the boot,
// so that the root on disk stays as it is. Other inits are started without.
//
// A unit is masked by a link in /run/systemd/system. One of the same name in /etc/systemd/system wins over that
// (systemd.unit(5), "Unit File Load Path"), and `systemctl unmask --runtime` takes it away; STELE_PARAM_UNITS=all
// leaves all but the first group alone.
#pragma once

#include "agent.h"

// Writes the configuration. For the process that is to become systemd, in the userspace's root.
void systemd_prepare(const Agent *agent);

// The kernel command line that systemd is to believe, as an assignment for its environment. Returns the size it would
// have, as snprintf(3).
int systemd_command_line(const Config *config, char *ret_assignment, size_t size);
