// See modules.h. The kernel decompresses (MODULE_INIT_COMPRESSED_FILE), so this only walks the list.
#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/module.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MODULES_DIRECTORY "/modules"

static int load(const char *name) {
  char path[128];
  snprintf(path, sizeof path, MODULES_DIRECTORY "/%s.ko.xz", name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? 0 : -errno; // built in: guest-image had no file to pack
  int r = syscall(SYS_finit_module, fd, "", MODULE_INIT_COMPRESSED_FILE) < 0 ? -errno : 0;
  close(fd);
  return r == -EEXIST ? 0 : r;
}

static bool is_wanted(const char *when, const Config *config) {
  if (strcmp(when, "always") == 0 || strcmp(when, "optional") == 0) return true;
  return config->root_kind == ROOT_DISK && strcmp(when, config->root_fstype) == 0;
}

int modules_load(const Config *config, char *ret_name, size_t name_size) {
  char line[256], name[64], when[32];
  FILE *list = fopen(MODULES_DIRECTORY "/modules.txt", "re");
  int r = 0;
  if (!list) return snprintf(ret_name, name_size, "modules.txt"), -errno;
  while (r == 0 && fgets(line, sizeof line, list)) {
    if (line[0] == '#' || sscanf(line, "%63s %31s", name, when) != 2) continue;
    if (!is_wanted(when, config)) continue;
    r = load(name);
    if (strcmp(when, "optional") == 0) r = 0;
    if (r < 0) snprintf(ret_name, name_size, "%s", name);
  }
  fclose(list);
  return r;
}
