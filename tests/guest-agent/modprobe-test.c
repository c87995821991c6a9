// Which module is meant, and which others it needs, from files as depmod(8) writes them.
#include <criterion/criterion.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
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
    int r = modprobe_resolve(file, &(ModprobeRules){0}, resolved[i].wanted, name, sizeof name);
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

// --- what the administrator says -----------------------------------------------------------------------

static const char rules_text[] = "# comment\n"
                                 "blacklist br-netfilter\n"
                                 "  options veth  one=1 two=2\n"
                                 "install cramfs /bin/false\n"
                                 "install dccp /usr/bin/true\n"
                                 "install usb_storage /sbin/modprobe --ignore-install usb_storage\n"
                                 "alias net-pf-* off\n"
                                 "options veth \\\nthree=3\n"
                                 "blacklist\n"
                                 "blacklist last";

Test(modprobe, rules) {
  ModprobeRules rules = {0};
  FILE *file = open_text(rules_text);
  char options[64];
  bool loaded;
  modprobe_rules_add(&rules, file);
  fclose(file);
  cr_expect(modprobe_rules_blacklist(&rules, "br_netfilter") && modprobe_rules_blacklist(&rules, "last"));
  cr_expect(!modprobe_rules_blacklist(&rules, "bridge") && !modprobe_rules_blacklist(&rules, "cramfs"));
  cr_expect(modprobe_rules_forbid(&rules, "cramfs", &loaded) && !loaded);
  cr_expect(modprobe_rules_forbid(&rules, "dccp", &loaded) && loaded);
  cr_expect(!modprobe_rules_forbid(&rules, "usb-storage", &loaded) && !modprobe_rules_forbid(&rules, "veth", &loaded));
  cr_expect_str_eq(modprobe_rules_alias(&rules, "net-pf-10"), "off");
  cr_expect(modprobe_rules_alias(&rules, "veth") == NULL);
  modprobe_rules_options(&rules, "veth", options, sizeof options);
  cr_expect_str_eq(options, "one=1 two=2 three=3");
  modprobe_rules_options(&rules, "veth", options, 14); // the second does not fit any more
  cr_expect_str_eq(options, "one=1 two=2");
  modprobe_rules_clear(&rules);
}

Test(modprobe, blacklisted_aliases) {
  static const char text[] = "alias pci:* first\nalias pci:* second\n";
  ModprobeRules rules = {0};
  FILE *file = open_text("blacklist first\n"), *aliases_of_two = open_text(text);
  char name[64];
  modprobe_rules_add(&rules, file);
  cr_expect(modprobe_resolve(aliases_of_two, &rules, "pci:v1", name, sizeof name) == 0);
  cr_expect_str_eq(name, "second");
  fclose(file);
  fclose(aliases_of_two);
  modprobe_rules_clear(&rules);
}

static void put_file(const char *root, const char *path, const char *text) {
  char full[300];
  snprintf(full, sizeof full, "%s/%s", root, path);
  for (char *slash = full + strlen(root) + 1; (slash = strchr(slash, '/')); slash++) {
    *slash = 0;
    mkdir(full, 0755);
    *slash = '/';
  }
  FILE *file = fopen(full, "w");
  cr_assert(file != NULL);
  fputs(text, file);
  fclose(file);
}

// Of files with one name the first counts, and absolute links lead into the root, not out of it.
Test(modprobe, rules_of_a_root) {
  ModprobeRules rules = {0};
  char root[] = "/tmp/modprobe-XXXXXX", path[300], command[64];
  cr_assert(mkdtemp(root) != NULL);
  put_file(root, "usr/lib/modprobe.d/a.conf", "blacklist vendor\n");
  put_file(root, "usr/lib/modprobe.d/b.conf", "blacklist other\n");
  put_file(root, "etc/modprobe.d/a.conf", "blacklist own\n");
  put_file(root, "etc/modprobe.d/readme.txt", "blacklist text\n");
  put_file(root, "opt/linked", "blacklist linked\n");
  snprintf(path, sizeof path, "%s/etc/modprobe.d/c.conf", root);
  cr_assert(symlink("/opt/linked", path) == 0);
  int fd = open(root, O_PATH | O_DIRECTORY);
  modprobe_rules_add_root(&rules, fd);
  close(fd);
  cr_expect(modprobe_rules_blacklist(&rules, "own") && modprobe_rules_blacklist(&rules, "other"));
  cr_expect(modprobe_rules_blacklist(&rules, "linked"));
  cr_expect(!modprobe_rules_blacklist(&rules, "vendor") && !modprobe_rules_blacklist(&rules, "text"));
  modprobe_rules_clear(&rules);
  snprintf(command, sizeof command, "rm -r %s", root);
  cr_expect(system(command) == 0);
}
