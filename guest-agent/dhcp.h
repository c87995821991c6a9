// The messages of a DHCP client (RFC 2131, 2132): building and reading them, no sockets. Replies come
// from the network and are hostile.
#pragma once

#include <stddef.h>
#include <stdint.h>

typedef enum DhcpType { DHCP_DISCOVER = 1, DHCP_OFFER = 2, DHCP_REQUEST = 3, DHCP_ACK = 5, DHCP_NAK = 6 } DhcpType;

enum { DHCP_MESSAGE_MAX = 576, DHCP_NAMESERVERS_MAX = 3 };

// Addresses are in network byte order, 0 where absent.
typedef struct DhcpLease {
  uint32_t address, netmask, router, server;
  uint32_t nameservers[DHCP_NAMESERVERS_MAX];
} DhcpLease;

// Writes a DISCOVER or a REQUEST for `offer`; returns its size.
size_t dhcp_write(uint8_t message[DHCP_MESSAGE_MAX], DhcpType type, uint32_t transaction,
                  const uint8_t hardware_address[6], const DhcpLease *offer);

// Reads a reply to our transaction. Returns its DhcpType, or -EINVAL for anything else.
int dhcp_read(const uint8_t *message, size_t size, uint32_t transaction, const uint8_t hardware_address[6],
              DhcpLease *ret_lease);
