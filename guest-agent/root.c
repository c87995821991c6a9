// See root.h. Paths of the root are only resolved inside it: its absolute symbolic links must not lead into the
// initramfs.
#include "root.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>
#include "mounts.h"
#include "open-inside.h"

#define LOWER "/run/root-lower"

// Why a root could not be mounted, as far as the errno tells.
static const char *advice(const Config *config, int error) {
  if (config->root_kind == ROOT_VIRTIOFS)
    return error == EINVAL || error == ENODEV || error == ENOENT
               ? "the host gives no virtiofs share with this tag: check <rootfs> and that virtiofsd runs"
               : "check the share on the host";
  if (error == ENOENT || error == ENXIO) return "there is no such disk: check <disk> and <rootfs>";
  if (error == EINVAL) return "this is no file system of that type, or it is damaged";
  return "check the disk image on the host";
}

static int mount_source(const Config *config, const char *target, char *message, size_t size) {
  const char *type = config->root_kind == ROOT_VIRTIOFS ? "virtiofs" : config->root_fstype;
  unsigned long flags = config->root_mode == ROOT_RW ? 0 : MS_RDONLY;
  // A journal left unfinished is replayed even by a read-only mount, which a read-only disk refuses.
  int r = mounts_add(config->root_source, target, type, flags, NULL);
  if (r == -EROFS && config->root_kind == ROOT_DISK && config->root_mode != ROOT_RW)
    r = mounts_add(config->root_source, target, type, flags, "norecovery");
  if (r < 0)
    snprintf(message, size, "cannot mount the root file system '%s' (%s): %s; %s", config->root_source, type,
             strerror(-r), advice(config, -r));
  return r;
}

// What is freed in the guest is given back to the host: its file is sparse.
static int mount_layers(const Config *config, char *message, size_t size) {
  if (!config->changes_device[0]) return mounts_add("tmpfs", ROOT_LAYERS, "tmpfs", 0, "mode=0755");
  int r = mounts_add(config->changes_device, ROOT_LAYERS, config->changes_fstype, MS_NOATIME, "discard");
  if (r < 0)
    snprintf(message, size, "cannot mount the disk for changes '%s' (%s): %s; check the image on the host",
             config->changes_device, config->changes_fstype, strerror(-r));
  return r;
}

static int mount_overlay(const Config *config, char *message, size_t size) {
  int r = mount_source(config, LOWER, message, size);
  if (r < 0) return r;
  r = mount_layers(config, message, size);
  if (r < 0) return r;
  mkdir(ROOT_LAYERS "/upper", 0755);
  mkdir(ROOT_LAYERS "/work", 0755);
  r = mounts_add("overlay", NEW_ROOT, "overlay", 0,
                 "lowerdir=" LOWER ",upperdir=" ROOT_LAYERS "/upper,workdir=" ROOT_LAYERS "/work");
  if (r < 0) snprintf(message, size, "cannot put the overlay over the root file system: %s", strerror(-r));
  return r;
}

// The upper layer's top directory becomes the root's: it must not be stricter than the lower one's.
static void check_top_mode(void) {
  struct stat top;
  if (stat(LOWER, &top) == 0) {
    int ignored = chown(ROOT_LAYERS "/upper", top.st_uid, top.st_gid);
    (void)ignored;
    chmod(ROOT_LAYERS "/upper", top.st_mode & 07777);
  }
}

int root_mount(const Config *config, char *message, size_t message_size) {
  int r = config->root_mode == ROOT_OVERLAY ? mount_overlay(config, message, message_size)
                                            : mount_source(config, NEW_ROOT, message, message_size);
  if (r == 0 && config->root_mode == ROOT_OVERLAY) check_top_mode();
  return r;
}

int root_resolve(const char *path, char *ret_path, size_t size) {
  char link[64];
  int root = open(NEW_ROOT, O_PATH | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) return -errno;
  int fd = open_inside(root, path, O_PATH);
  int r = fd < 0 ? -errno : 0;
  close(root);
  if (r < 0) return r;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t length = readlink(link, ret_path, size - 1);
  if (length < 0)
    r = -errno;
  else
    ret_path[length] = 0;
  close(fd);
  return r;
}
