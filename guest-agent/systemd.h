// What the distribution's systemd is told before it starts: runtime configuration below /run, which goes with the boot,
// so that the root on disk stays as it is. Other inits are started without.
//
// A unit is masked by a link in /run/systemd/system. One of the same name in /etc/systemd/system wins over that
// (systemd.unit(5), "Unit File Load Path"), and `systemctl unmask --runtime` takes it away; STELE_PARAM_UNITS=all
// leaves all but the first group alone.
#pragma once

#include <stdbool.h>
#include "agent.h"

// Writes the configuration. For the process that is to become systemd, in the userspace's root.
void systemd_prepare(const Agent *agent);

// Whether it takes its PID namespace for a container's, and would leave out what a machine wants, unless an empty
// $container tells process 1 that there is none (https://systemd.io/CONTAINER_INTERFACE); its other programs are told
// by systemd_prepare(). Versions that do not look at the namespace would take that variable for a container instead.
bool systemd_needs_word_of_no_container(void);

// The kernel command line that systemd is to believe, as an assignment for its environment. Returns the size it would
// have, as snprintf(3).
int systemd_command_line(const Config *config, char *ret_assignment, size_t size);
