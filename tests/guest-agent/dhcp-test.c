// DHCP messages: what we send has the fields a server looks for, and no reply, however broken, is read
// past its end.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include "dhcp.h"

static const uint8_t hardware_address[6] = {0x52, 0x54, 0, 0x12, 0x34, 0x56};
enum { TRANSACTION = 0x1234567 };

// A server's reply: a request turned round, with options put behind the cookie.
static size_t make_reply(uint8_t reply[DHCP_MESSAGE_MAX], const uint8_t *options, size_t size) {
  DhcpLease none = {0};
  dhcp_write(reply, DHCP_DISCOVER, TRANSACTION, hardware_address, &none);
  reply[0] = 2;
  memcpy(reply + 16, (uint8_t[]){10, 0, 2, 15}, 4);
  memcpy(reply + 240, options, size);
  return 240 + size;
}

Test(dhcp, reads_an_offer) {
  static const uint8_t options[] = {53, 1, 2, 1, 4, 255, 255, 255, 0, 0, 3, 4, 10, 0, 2, 2,
                                    6, 8, 10, 0, 2, 3, 8, 8, 8, 8, 54, 4, 10, 0, 2, 2, 255};
  uint8_t reply[DHCP_MESSAGE_MAX];
  DhcpLease lease;
  size_t size = make_reply(reply, options, sizeof options);
  cr_assert(dhcp_read(reply, size, TRANSACTION, hardware_address, &lease) == DHCP_OFFER);
  cr_expect(memcmp(&lease.address, (uint8_t[]){10, 0, 2, 15}, 4) == 0);
  cr_expect(memcmp(&lease.netmask, (uint8_t[]){255, 255, 255, 0}, 4) == 0);
  cr_expect(memcmp(&lease.router, (uint8_t[]){10, 0, 2, 2}, 4) == 0);
  cr_expect(memcmp(lease.nameservers, (uint8_t[]){10, 0, 2, 3, 8, 8, 8, 8, 0, 0, 0, 0}, 12) == 0);
  cr_expect(dhcp_read(reply, size, TRANSACTION + 1, hardware_address, &lease) == -EINVAL);
  reply[30] ^= 1;
  cr_expect(dhcp_read(reply, size, TRANSACTION, hardware_address, &lease) == -EINVAL);
}

Test(dhcp, request_names_what_was_offered) {
  uint8_t message[DHCP_MESSAGE_MAX];
  DhcpLease offer = {.address = 0x0f02000a, .server = 0x0202000a};
  size_t size = dhcp_write(message, DHCP_REQUEST, TRANSACTION, hardware_address, &offer);
  static const uint8_t expected[] = {53, 1, 3, 50, 4, 10, 0, 2, 15, 54, 4, 10, 0, 2, 2};
  cr_expect(size >= 300 && size <= DHCP_MESSAGE_MAX);
  cr_expect(memcmp(message + 240, expected, sizeof expected) == 0);
}

Test(dhcp, broken_replies_do_no_harm) {
  unsigned seed = 1;
  for (int round = 0; round < 100000; round++) {
    uint8_t options[64], whole[DHCP_MESSAGE_MAX];
    for (size_t i = 0; i < sizeof options; i++) options[i] = (uint8_t)(rand_r(&seed) % 60);
    size_t size = make_reply(whole, options, (size_t)rand_r(&seed) % sizeof options);
    uint8_t *exact = malloc(size); // so that the sanitizer sees one byte too many
    DhcpLease lease;
    cr_assert(exact != NULL);
    memcpy(exact, whole, size);
    dhcp_read(exact, size, TRANSACTION, hardware_address, &lease);
    free(exact);
  }
}
