// See dhcp.h. The layout is RFC 2131, figure 1; options are RFC 2132's type, length, value triples.
#include "dhcp.h"

#include <errno.h>
#include <string.h>

enum { // offsets
  OP = 0,
  HARDWARE_TYPE = 1,
  HARDWARE_LENGTH = 2,
  TRANSACTION = 4,
  FLAGS = 10,
  YOUR_ADDRESS = 16,
  HARDWARE_ADDRESS = 28,
  COOKIE = 236,
  OPTIONS = 240,
};
enum { // options
  PAD = 0,
  NETMASK = 1,
  ROUTER = 3,
  NAMESERVERS = 6,
  REQUESTED_ADDRESS = 50,
  TYPE = 53,
  SERVER = 54,
  PARAMETER_LIST = 55,
  END = 255,
};
enum { BOOT_REQUEST = 1, BOOT_REPLY = 2, ETHERNET = 1, BROADCAST_FLAG = 0x80, BOOTP_SIZE = 300 };

static const uint8_t cookie[] = {99, 130, 83, 99};

static uint8_t *put_option(uint8_t *to, uint8_t type, const void *value, uint8_t length) {
  *to++ = type;
  *to++ = length;
  memcpy(to, value, length);
  return to + length;
}

size_t dhcp_write(uint8_t message[DHCP_MESSAGE_MAX], DhcpType type, uint32_t transaction,
                  const uint8_t hardware_address[6], const DhcpLease *offer) {
  static const uint8_t wanted[] = {NETMASK, ROUTER, NAMESERVERS};
  uint8_t type_byte = (uint8_t)type, *to = message + OPTIONS;
  memset(message, 0, DHCP_MESSAGE_MAX);
  message[OP] = BOOT_REQUEST;
  message[HARDWARE_TYPE] = ETHERNET;
  message[HARDWARE_LENGTH] = 6;
  memcpy(message + TRANSACTION, &transaction, sizeof transaction);
  message[FLAGS] = BROADCAST_FLAG; // we have no address a reply could be sent to
  memcpy(message + HARDWARE_ADDRESS, hardware_address, 6);
  memcpy(message + COOKIE, cookie, sizeof cookie);
  to = put_option(to, TYPE, &type_byte, 1);
  if (type == DHCP_REQUEST) {
    to = put_option(to, REQUESTED_ADDRESS, &offer->address, 4);
    to = put_option(to, SERVER, &offer->server, 4);
  }
  to = put_option(to, PARAMETER_LIST, wanted, sizeof wanted);
  *to++ = END;
  size_t size = (size_t)(to - message);
  return size < BOOTP_SIZE ? BOOTP_SIZE : size; // shorter ones are dropped by some servers
}

static void read_option(uint8_t type, const uint8_t *value, size_t length, int *type_found, DhcpLease *lease) {
  if (type == TYPE && length == 1) *type_found = value[0];
  if (type == NETMASK && length == 4) memcpy(&lease->netmask, value, 4);
  if (type == ROUTER && length >= 4) memcpy(&lease->router, value, 4);
  if (type == SERVER && length == 4) memcpy(&lease->server, value, 4);
  if (type == NAMESERVERS)
    for (size_t i = 0; i < DHCP_NAMESERVERS_MAX && 4 * i + 4 <= length; i++)
      memcpy(&lease->nameservers[i], value + 4 * i, 4);
}

int dhcp_read(const uint8_t *message, size_t size, uint32_t transaction, const uint8_t hardware_address[6],
              DhcpLease *ret_lease) {
  int type = -EINVAL;
  if (size < OPTIONS || message[OP] != BOOT_REPLY) return -EINVAL;
  if (memcmp(message + TRANSACTION, &transaction, 4) != 0) return -EINVAL;
  if (memcmp(message + HARDWARE_ADDRESS, hardware_address, 6) != 0) return -EINVAL;
  if (memcmp(message + COOKIE, cookie, sizeof cookie) != 0) return -EINVAL;
  *ret_lease = (DhcpLease){0};
  memcpy(&ret_lease->address, message + YOUR_ADDRESS, 4);
  for (size_t at = OPTIONS; at < size && message[at] != END;) {
    if (message[at] == PAD) {
      at++;
      continue;
    }
    if (at + 2 > size || at + 2 + message[at + 1] > size) return -EINVAL;
    read_option(message[at], message + at + 2, message[at + 1], &type, ret_lease);
    at += 2 + message[at + 1];
  }
  return type;
}
