// See translator-disk.h. Names of images are DIRECTORY-CONTENT.erofs: hashes of the directory's path, and of what tells
// the translator in it from an earlier one.
#include "translator-disk.h"

#include <errno.h>
#include <glib/gstdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include "errors.h"
#include "guest-protocol.h"
#include "image-tool.h"

#define LIBVIRT_SHARES_FOR_USERS 10000000 // virtiofs without root, libvirt's NEWS
#define HASH_DIGITS              16
#define ENDING                   ".erofs"

gboolean translator_disk_is_used(const HostPaths *paths, const HypervisorFeatures *features) {
  return paths->libvirt && geteuid() != 0 && features->libvirt < LIBVIRT_SHARES_FOR_USERS;
}

static char *dup_place(const HostPaths *paths) {
  return g_build_filename(paths->root, "translator-disks", NULL);
}

static char *dup_hash(const char *text) {
  char *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, text, -1);
  hash[HASH_DIGITS] = 0;
  return hash;
}

// Packages and builds put a new file in the old one's place.
static char *describe_content(const char *directory) {
  g_autofree char *file = g_build_filename(directory, STELE_TRANSLATOR_FILE, NULL);
  struct stat status = {0};
  if (stat(file, &status) < 0) return g_strdup("none");
  return g_strdup_printf("%ju %jd.%09ld %jd", (uintmax_t)status.st_ino, (intmax_t)status.st_mtim.tv_sec,
                         status.st_mtim.tv_nsec, (intmax_t)status.st_size);
}

char *translator_disk_dup_path(const HostPaths *paths, const char *directory) {
  g_autofree char *place = dup_place(paths), *content = describe_content(directory), *first = dup_hash(directory),
                  *second = dup_hash(content), *name = g_strconcat(first, "-", second, ENDING, NULL);
  return g_build_filename(place, name, NULL);
}

static void remove_former(const char *place, const char *kept) {
  g_autofree char *name = g_path_get_basename(kept);
  g_autoptr(GDir) entries = g_dir_open(place, 0, NULL);
  for (const char *entry; entries && (entry = g_dir_read_name(entries));) {
    g_autofree char *path = g_build_filename(place, entry, NULL);
    if (strncmp(entry, name, HASH_DIGITS + 1) == 0 && !g_str_equal(entry, name)) g_unlink(path);
  }
}

static gboolean put(const char *draft, const char *path, GError **error) {
  if (g_rename(draft, path) == 0) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_STORAGE, "cannot make %s: %s", path, g_strerror(errno));
  return FALSE;
}

static gboolean make(const HostPaths *paths, const char *directory, GError **error) {
  g_autofree char *place = dup_place(paths), *path = translator_disk_dup_path(paths, directory),
                  *draft = g_strconcat(path, ".draft", NULL);
  const char *const argv[] = {"mkfs.erofs", "--quiet", "--all-root", "--preserve-mtime", draft, directory, NULL};
  ImageTool tool = {.argv = argv, .writable = place, .output = -1};
  if (g_file_test(path, G_FILE_TEST_EXISTS)) return TRUE;
  if (g_mkdir_with_parents(place, 0700) < 0) {
    g_set_error(error, STELE_ERROR, STELE_ERROR_STORAGE, "cannot make %s: %s", place, g_strerror(errno));
    return FALSE;
  }
  gboolean made = image_tool_run(&tool, NULL, error) && put(draft, path, error);
  if (made)
    remove_former(place, path);
  else
    g_unlink(draft);
  g_prefix_error(error, "the translator cannot be made a disk: ");
  return made;
}

// Of machines that start at once one makes it, and the others find it.
gboolean translator_disk_make(const HostPaths *paths, const char *directory, GError **error) {
  static GMutex making;
  g_mutex_lock(&making);
  gboolean made = make(paths, directory, error);
  g_mutex_unlock(&making);
  return made;
}
