// See modules.h. guest-image packs the modules unpacked and without their signatures (it says why).
#include "modules.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MODULES_DIRECTORY "/modules"
#define MODULES_LIST      MODULES_DIRECTORY "/modules.txt"

static int load(const char *name) {
  char path[128];
  snprintf(path, sizeof path, MODULES_DIRECTORY "/%s.ko", name);
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  if (fd < 0) return errno == ENOENT ? 0 : -errno; // built in: guest-image had no file to pack
  int r = syscall(SYS_finit_module, fd, "", 0) < 0 ? -errno : 0;
  close(fd);
  return r == -EEXIST ? 0 : r;
}

static bool is_wanted(const char *when, const Config *config) {
  if (strcmp(when, "always") == 0 || strcmp(when, "optional") == 0) return true;
  return (config->root_kind == ROOT_DISK && strcmp(when, config->root_fstype) == 0) ||
         (config->changes_device[0] && strcmp(when, config->changes_fstype) == 0) ||
         (config->translator_device[0] && strcmp(when, config->translator_fstype) == 0);
}

// The next row of the list. Returns whether there was one.
static bool next_row(FILE *list, char name[64], char when[32]) {
  char line[256];
  while (fgets(line, sizeof line, list))
    if (line[0] != '#' && sscanf(line, "%63s %31s", name, when) == 2) return true;
  return false;
}

int modules_load(const Config *config, char *ret_name, size_t name_size) {
  char name[64], when[32];
  FILE *list = fopen(MODULES_LIST, "re");
  int r = 0;
  if (!list) return snprintf(ret_name, name_size, "modules.txt"), -errno;
  while (r == 0 && next_row(list, name, when)) {
    if (!is_wanted(when, config)) continue;
    r = load(name);
    if (strcmp(when, "optional") == 0) r = 0;
    if (r < 0) snprintf(ret_name, name_size, "%s", name);
  }
  fclose(list);
  return r;
}

void modules_load_later(void) {
  char name[64], when[32];
  FILE *list = fopen(MODULES_LIST, "re");
  while (list && next_row(list, name, when))
    if (strcmp(when, "later") == 0) load(name);
  if (list) fclose(list);
}
