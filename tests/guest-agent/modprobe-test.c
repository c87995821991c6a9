// Which module is meant, and which others it needs, from files as depmod(8) writes them.
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include "modprobe.h"

static const char aliases[] = "# Aliases extracted from modules themselves.\n"
                              "alias rtnl-link-veth veth\n"
                              "alias nft-chain-*-nat nft_chain_nat\n"
                              "alias char-major-10-200 tun\n"
                              "alias devname:net/tun tun\n"
                              "alias virtio:d0000000[1-3]v* virtio_net\n";

static const char dependencies[] = "kernel/lib/crc16.ko.xz:\n"
                                   "kernel/net/bridge/br_netfilter.ko.xz: kernel/net/bridge/bridge.ko.xz "
                                   "kernel/net/802/stp.ko.xz kernel/net/llc/llc.ko.xz\n"
                                   "kernel/crypto/sha3-generic.ko: kernel/crypto/a.ko\n";

static FILE *open_text(const char *text) {
  FILE *file = fmemopen((void *)text, strlen(text), "r");
  cr_assert(file != NULL);
  return file;
}

static const struct {
  const char *wanted, *module; // NULL: none
} resolved[] = {
    {"rtnl-link-veth", "veth"},
    {"rtnl_link_veth", "veth"},
    {"nft-chain-1-nat", "nft_chain_nat"},
    {"char-major-10-200", "tun"},
    {"virtio:d00000002v00001AF4", "virtio_net"},
    {"virtio:d00000004v00001AF4", NULL},
    {"rtnl-link-vet", NULL},
    {"veth", NULL}, // a name, not an alias
    {"", NULL},
};

Test(modprobe, aliases) {
  FILE *file = open_text(aliases);
  for (size_t i = 0; i < sizeof resolved / sizeof *resolved; i++) {
    char name[64] = "";
    int r = modprobe_resolve(file, resolved[i].wanted, name, sizeof name);
    cr_expect(r == (resolved[i].module ? 0 : -ENOENT), "%s gives %d", resolved[i].wanted, r);
    if (resolved[i].module) cr_expect_str_eq(name, resolved[i].module);
  }
  fclose(file);
}

Test(modprobe, dependencies) {
  FILE *file = open_text(dependencies);
  char line[512];
  cr_assert(modprobe_find(file, "br-netfilter", line, sizeof line) == 0);
  cr_expect_str_eq(line,
                   "kernel/net/bridge/br_netfilter.ko.xz  kernel/net/bridge/bridge.ko.xz kernel/net/802/stp.ko.xz "
                   "kernel/net/llc/llc.ko.xz");
  cr_assert(modprobe_find(file, "sha3_generic", line, sizeof line) == 0);
  cr_assert(modprobe_find(file, "crc16", line, sizeof line) == 0);
  cr_expect_str_eq(line, "kernel/lib/crc16.ko.xz ");
  cr_expect(modprobe_find(file, "crc", line, sizeof line) == -ENOENT);
  cr_expect(modprobe_find(file, "*", line, sizeof line) == -ENOENT); // a name is no pattern
  fclose(file);
}

Test(modprobe, a_line_longer_than_any_is_no_match) {
  char text[9000], line[512];
  memset(text, 'x', sizeof text);
  strcpy(text + sizeof text - 40, "\nkernel/a.ko: kernel/b.ko\n");
  FILE *file = open_text(text);
  cr_expect(modprobe_find(file, "a", line, sizeof line) == 0);
  cr_expect_str_eq(line, "kernel/a.ko  kernel/b.ko");
  cr_expect(modprobe_find(file, "x", line, sizeof line) == -ENOENT);
  fclose(file);
}
