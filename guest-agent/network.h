// Brings the network up for roots that do not: loopback, and the first Ethernet interface by DHCP.
#pragma once

#include <stddef.h>

// Configures the network. `ret_nameservers` gets resolv.conf's lines (empty: none). Returns 0;
// -ENODEV: there is no interface but loopback; -ETIMEDOUT: no DHCP server answered; another negative
// errno. Takes at most NETWORK_TIMEOUT_MS.
int network_up(char *ret_nameservers, size_t size);

enum { NETWORK_TIMEOUT_MS = 3000 };
