// See mounts.h.
#include "mounts.h"

#include <errno.h>
#include <sys/mount.h>
#include <sys/stat.h>

enum {
  FATAL = 1,        // nothing works without it
  COMMAND_ONLY = 2, // a distribution's init mounts it itself
};

typedef struct MountRow {
  const char *source, *target, *type, *options;
  unsigned long flags;
  int when;
} MountRow;

#define SAFE (MS_NOSUID | MS_NODEV | MS_NOEXEC)

static const MountRow early_rows[] = {
    {"proc", "/proc", "proc", NULL, SAFE, FATAL},
    {"sysfs", "/sys", "sysfs", NULL, SAFE, FATAL},
    {"devtmpfs", "/dev", "devtmpfs", "mode=0755", MS_NOSUID, FATAL},
    {"devpts", "/dev/pts", "devpts", "mode=0620,gid=5,ptmxmode=0666", MS_NOSUID | MS_NOEXEC, 0},
    {"tmpfs", "/dev/shm", "tmpfs", "mode=1777", MS_NOSUID | MS_NODEV, 0},
    {"tmpfs", "/run", "tmpfs", "mode=0755", MS_NOSUID | MS_NODEV, FATAL},
};

// Bind mounts carry what is below them along. /run is the userspace's own, but for the translator.
static const MountRow userspace_rows[] = {
    {"proc", NEW_ROOT "/proc", "proc", NULL, SAFE, FATAL},
    {"/sys", NEW_ROOT "/sys", NULL, NULL, MS_BIND | MS_REC, FATAL},
    {"/dev", NEW_ROOT "/dev", NULL, NULL, MS_BIND | MS_REC, FATAL},
    {"tmpfs", NEW_ROOT "/run", "tmpfs", "mode=0755", MS_NOSUID | MS_NODEV, FATAL},
    {STELE_SHARE_MOUNT_POINT, NEW_ROOT STELE_SHARE_MOUNT_POINT, NULL, NULL, MS_BIND | MS_REC, 0},
    {"cgroup2", NEW_ROOT "/sys/fs/cgroup", "cgroup2", NULL, SAFE, COMMAND_ONLY},
};

int mounts_add(const char *source, const char *target, const char *type, unsigned long flags, const char *options) {
  mkdir(target, 0755); // exists, or mount(2) says what is wrong
  return mount(source, target, type, flags, options) < 0 ? -errno : 0;
}

static int mount_rows(const MountRow *rows, size_t count, bool command, const char **ret_where) {
  for (size_t i = 0; i < count; i++) {
    const MountRow *row = &rows[i];
    if ((row->when & COMMAND_ONLY) && !command) continue;
    int r = mounts_add(row->source, row->target, row->type, row->flags, row->options);
    if (r == 0 || r == -EBUSY || !(row->when & FATAL)) continue;
    *ret_where = row->target;
    return r;
  }
  return 0;
}

int mounts_early(const char **ret_where) {
  return mount_rows(early_rows, sizeof early_rows / sizeof *early_rows, false, ret_where);
}

int mounts_userspace(InitKind init, const char **ret_where) {
  return mount_rows(userspace_rows, sizeof userspace_rows / sizeof *userspace_rows, init != INIT_SYSTEM, ret_where);
}
