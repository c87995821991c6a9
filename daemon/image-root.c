// See image-root.h.
#include "image-root.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>
#include "errors.h"
#include "image-tool.h"
#include "root-check.h"
#include "user-namespace.h"

gboolean image_root_is_packed(void) {
  return geteuid() != 0;
}

static gboolean run(const ImageRoot *root, const char *const *argv, GError **error) {
  ImageTool tool = {.argv = argv,
                    .writable = root->staging,
                    .output = -1,
                    .file_max = root->bytes_max,
                    .cancellable = root->cancellable,
                    .tick = root->tick,
                    .user_data = root->user_data};
  return image_tool_run(&tool, NULL, error);
}

static gboolean sync_with(const char *path, int (*sync)(int), GError **error) {
  int fd = open(path, O_RDONLY | O_CLOEXEC);
  gboolean synced = fd >= 0 && sync(fd) == 0;
  if (!synced)
    g_set_error(error, STELE_ERROR, errno == ENOSPC || errno == EDQUOT ? STELE_ERROR_STORAGE_FULL : STELE_ERROR_STORAGE,
                "cannot sync %s: %s", path, g_strerror(errno));
  if (fd >= 0) close(fd);
  return synced;
}

// Where root is the only owner there is, umoci is told not to try others.
static gboolean has_owners(void) {
  if (!image_root_is_packed()) return TRUE;
  g_autoptr(UserNamespace) users = user_namespace_new();
  return user_namespace_has_owners(users);
}

char *image_root_unpack(ImageRoot *root, GError **error) {
  g_autofree char *made = g_build_filename(root->staging, "root", NULL),
                  *image = g_strconcat(root->staging, ":image", NULL);
  const char *argv[] = {"umoci", "raw", "unpack", "--image", image, made, NULL, NULL};
  if (!has_owners()) argv[5] = "--rootless", argv[6] = made;
  if (!run(root, argv, error)) return NULL;
  root->has_init = root_check_program(made, "/sbin/init", NULL);
  if (!image_root_is_packed() && !sync_with(made, syncfs, error)) return NULL;
  return g_steal_pointer(&made);
}

// umoci notes owners that it could not give in attributes, which are of no use in a guest (-x-1).
char *image_root_pack(const ImageRoot *root, GError **error) {
  g_autofree char *made = g_build_filename(root->staging, "root", NULL),
                  *image = g_build_filename(root->staging, "root.erofs", NULL);
  gboolean owners = has_owners();
  const char *const argv[] = {"mkfs.erofs",
                              "--quiet",
                              "--preserve-mtime",
                              owners ? "-x2" : "-x-1",
                              owners ? image : "--all-root",
                              owners ? made : image,
                              owners ? NULL : made,
                              NULL};
  if (!run(root, argv, error) || !sync_with(image, fsync, error)) return NULL;
  image_root_remove(made);
  return g_steal_pointer(&image);
}

gboolean image_root_remove(const char *path) {
  if (!image_root_is_packed()) return FALSE;
  g_autofree char *parent = g_path_get_dirname(path);
  const char *const argv[] = {"rm", "-rf", "--", path, NULL};
  ImageTool tool = {.argv = argv, .writable = parent, .output = -1};
  return image_tool_run(&tool, NULL, NULL);
}
