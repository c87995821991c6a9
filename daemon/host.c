// See host.h. The traps of embedded libvirt are handled here, each with its reason.
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib/gstdio.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>
#include "errors.h"

#define INSTALLED_GUEST      "/usr/lib/stele/guest"
#define INSTALLED_TRANSLATOR "/usr/lib/stele/share"
#define NETWORK_GUARD        "stele-network-guard.so"
#define INSTALLED_LIBRARIES  "/usr/lib/stele"
#define LIBVIRT_QEMU_USER    "libvirt-qemu"
#define CONF_MARK            "# Written by steled; remove this line to keep your own changes.\n"

static gboolean fail(GError **error, const char *what, const char *path) {
  SteleError code = errno == ENOSPC || errno == EDQUOT ? STELE_ERROR_STORAGE_FULL : STELE_ERROR_STORAGE;
  g_set_error(error, STELE_ERROR, code, "cannot %s %s: %s", what, path, g_strerror(errno));
  return FALSE;
}

static gboolean make_directory(const char *path, GError **error) {
  return g_mkdir_with_parents(path, 0711) == 0 ? TRUE : fail(error, "make the directory", path);
}

static char *first_set(const char *option, const char *variable, const char *fallback) {
  const char *value = option ? option : g_getenv(variable);
  return g_canonicalize_filename(value && *value ? value : fallback, NULL);
}

static char *runtime_dir(void) {
  return geteuid() == 0 ? g_strdup("/run/stele") : g_build_filename(g_get_user_runtime_dir(), "stele", NULL);
}

char *host_default_socket(void) {
  g_autofree char *directory = runtime_dir();
  return g_build_filename(directory, "stele.sock", NULL);
}

// --- embedded libvirt ----------------------------------------------------------------------------

// Sockets of QEMU live under libvirt's root, and their paths must fit into 108 bytes (unix(7))
// together with the domain's name: libvirt is given a short link to a root anywhere.
static char *link_short(const char *root, GError **error) {
  g_autofree char *directory = runtime_dir(), *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, root, -1);
  hash[8] = 0;
  char *link = g_build_filename(directory, hash, NULL);
  if (!make_directory(directory, error)) {
    g_free(link);
    return NULL;
  }
  if (symlink(root, link) < 0 && errno != EEXIST) {
    fail(error, "make the link", link);
    g_free(link);
    return NULL;
  }
  return link;
}

static int remove_entry(const char *path, const struct stat *status, int type, struct FTW *walk) {
  return remove(path) < 0 && errno != ENOENT ? -1 : 0;
}

static gboolean same_boot(const char *note) {
  g_autofree char *now = NULL, *then = NULL;
  return g_file_get_contents("/proc/sys/kernel/random/boot_id", &now, NULL, NULL) &&
         g_file_get_contents(note, &then, NULL, NULL) && g_str_equal(now, then);
}

// What is under run/ describes processes. After a boot of the host it would make libvirt look for
// VMs that are gone, and skip autostart.
static gboolean clear_after_boot(const char *root, GError **error) {
  g_autofree char *note = g_build_filename(root, "boot-id", NULL), *run = g_build_filename(root, "run", NULL);
  g_autofree char *now = NULL;
  if (same_boot(note)) return TRUE;
  if (nftw(run, remove_entry, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT) return fail(error, "clear", run);
  if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &now, NULL, NULL)) return TRUE;
  return g_file_set_contents(note, now, -1, NULL) ? TRUE : fail(error, "write", note);
}

// As root QEMU runs as root too: its kernel and images may be where only root can read. Helpers and
// security drivers that the host may not have are not asked for; QEMU writes console logs by
// itself.
static gboolean write_conf(const char *root, GError **error) {
  g_autofree char *directory = g_build_filename(root, "etc", NULL),
                  *path = g_build_filename(directory, "qemu.conf", NULL);
  g_autofree char *old = NULL;
  if (g_file_get_contents(path, &old, NULL, NULL) && !g_str_has_prefix(old, CONF_MARK)) return TRUE;
  const char *as_root = geteuid() == 0 ? "user = \"root\"\ngroup = \"root\"\ndynamic_ownership = 0\n" : "";
  g_autofree char *text = g_strconcat(CONF_MARK, as_root,
                                      "security_driver = \"none\"\n"
                                      "cgroup_controllers = [ ]\n"
                                      "namespaces = [ ]\n"
                                      "remember_owner = 0\n"
                                      "stdio_handler = \"file\"\n",
                                      NULL);
  if (g_strcmp0(old, text) == 0) return TRUE;
  if (!make_directory(directory, error)) return FALSE;
  return g_file_set_contents(path, text, -1, NULL) ? TRUE : fail(error, "write", path);
}

// libvirt's QEMU driver looks its default user up before it reads our qemu.conf.
static gboolean check_libvirt_user(GError **error) {
  if (geteuid() != 0 || getpwnam(LIBVIRT_QEMU_USER)) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_UNSUPPORTED,
              "the user '%s', which libvirt wants, does not exist: make it with 'useradd --system "
              "--user-group "
              "--home-dir /var/lib/libvirt --shell /usr/sbin/nologin %s', or install libvirt-daemon-system",
              LIBVIRT_QEMU_USER, LIBVIRT_QEMU_USER);
  return FALSE;
}

// libvirt locks consoles under /var/lock, on many systems a link to a directory of /run that a
// small container lacks. Where it cannot be made the console says so.
static void make_lock_directory(void) {
  g_autofree char *target = g_file_read_link("/var/lock", NULL);
  g_autofree char *path = g_canonicalize_filename(target ? target : "/var/lock", "/var");
  g_mkdir_with_parents(path, 01777);
}

// Beside steled itself, as in a build directory, or where it is installed.
static char *find_network_guard(void) {
  g_autofree char *self = g_file_read_link("/proc/self/exe", NULL), *directory = g_path_get_dirname(self ? self : "/"),
                  *beside = g_build_filename(directory, NETWORK_GUARD, NULL);
  return g_file_test(beside, G_FILE_TEST_EXISTS) ? g_steal_pointer(&beside)
                                                 : g_build_filename(INSTALLED_LIBRARIES, NETWORK_GUARD, NULL);
}

static gboolean prepare_embedded(HostPaths *paths, GError **error) {
  if (!check_libvirt_user(error) || !clear_after_boot(paths->root, error) || !write_conf(paths->root, error))
    return FALSE;
  make_lock_directory();
  paths->network_guard = find_network_guard();
  paths->libvirt = link_short(paths->root, error);
  if (paths->libvirt == NULL) return FALSE;
  g_autofree char *escaped = g_uri_escape_string(paths->libvirt, "/", FALSE);
  paths->uri = g_strconcat("qemu:///embed?root=", escaped, NULL);
  return TRUE;
}

// --- one steled a root ---------------------------------------------------------------------------

static gboolean take_lock(HostPaths *paths, GError **error) {
  g_autofree char *path = g_build_filename(paths->root, "lock", NULL);
  paths->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (paths->lock < 0) return fail(error, "open", path);
  if (flock(paths->lock, LOCK_EX | LOCK_NB) == 0) return TRUE;
  g_set_error(error, STELE_ERROR, STELE_ERROR_STORAGE,
              "another steled works on %s: end it, or give this one another place with --root", paths->root);
  return FALSE;
}

// --- paths ---------------------------------------------------------------------------------------

HostPaths *host_paths_new(const HostOptions *options, GError **error) {
  g_autoptr(HostPaths) paths = g_new0(HostPaths, 1);
  paths->lock = -1;
  g_autofree char *own = g_build_filename(g_get_user_state_dir(), "stele", NULL);
  paths->root = first_set(options->root, "STELE_STATE_DIR", geteuid() == 0 ? "/var/lib/stele" : own);
  paths->guest_dir = first_set(options->guest_dir, "STELE_GUEST_DIR", INSTALLED_GUEST);
  paths->translator_dir = first_set(options->translator_dir, "STELE_TRANSLATOR_DIR", INSTALLED_TRANSLATOR);
  paths->machines = g_build_filename(paths->root, "machines", NULL);
  paths->console = g_build_filename(paths->root, "console", NULL);
  paths->shares = g_build_filename(paths->root, "shares", NULL);
  if (!make_directory(paths->root, error) || !take_lock(paths, error) || !make_directory(paths->console, error))
    return NULL;
  if (options->connect)
    paths->uri = g_strdup(options->connect);
  else if (!prepare_embedded(paths, error))
    return NULL;
  return g_steal_pointer(&paths);
}

void host_paths_free(HostPaths *paths) {
  if (paths == NULL) return;
  if (paths->libvirt) unlink(paths->libvirt);
  if (paths->lock >= 0) close(paths->lock);
  char *const strings[] = {paths->root, paths->machines,  paths->console,        paths->shares,       paths->libvirt,
                           paths->uri,  paths->guest_dir, paths->translator_dir, paths->network_guard};
  for (size_t i = 0; i < G_N_ELEMENTS(strings); i++) g_free(strings[i]);
  g_free(paths);
}
