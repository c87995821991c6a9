// See host.h. The traps of embedded libvirt are handled here, each with its reason.
#include "host.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <glib/gstdio.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>
#include "errors.h"
#include "share.h"

#define INSTALLED_GUEST      STELE_LIBRARY_DIR "/guest"
#define INSTALLED_TRANSLATOR STELE_LIBRARY_DIR "/share"
#define BUILT_GUEST          "guest-image" // in the build directory, where ./dev guest-image makes them
#define BUILT_TRANSLATOR     "guest-share"
#define NETWORK_GUARD        "stele-network-guard.so"
#define INSTALLED_AOT        "/usr/bin/stele-aot"
#define TRANSLATIONS_LIMIT   (G_GUINT64_CONSTANT(16) << 30)
#define LIBVIRT_QEMU_USER    "libvirt-qemu"
#define STATE_FORMAT         1 // counts changes to what is kept under the root that an older steled would misread
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

// Sockets of QEMU live under libvirt's root, and their paths must fit into 108 bytes (unix(7)) together with the
// domain's name: libvirt is given a short name of a root anywhere. A link will do where QEMU's user can go the long
// way; where it cannot, as below somebody's home, the short name is a mount in steled's own namespace.
static gboolean make_short_name(HostPaths *paths, const QemuUser *user, GError **error) {
  g_autofree char *directory = runtime_dir(), *hash = g_compute_checksum_for_string(G_CHECKSUM_SHA256, paths->root, -1);
  hash[8] = 0;
  g_autofree char *name = g_build_filename(directory, hash, NULL);
  if (!make_directory(directory, error)) return FALSE;
  g_remove(name); // a link or an empty directory of a steled before
  gboolean mounted = user && !qemu_user_can(user, paths->root, X_OK) && share_has_namespace();
  if (mounted && !share_bind(paths->root, name, FALSE, error)) return FALSE;
  if (!mounted && symlink(paths->root, name) < 0 && errno != EEXIST) return fail(error, "make the link", name);
  paths->libvirt = g_steal_pointer(&name);
  return TRUE;
}

// Others may pass through the state directory to what is theirs below it, but not list it.
static gboolean open_root(HostPaths *paths, GError **error) {
  struct stat status;
  if (stat(paths->root, &status) == 0 && chmod(paths->root, (status.st_mode & 07777) | 0011) == 0) return TRUE;
  return fail(error, "let QEMU's user into", paths->root);
}

// Files that every steled makes are written when they are to say something else: a full disk keeps none from starting
// that has run there before. FALSE with errno.
static gboolean keep_file(const char *path, const char *bytes, gsize size, mode_t mode) {
  g_autofree char *old = NULL;
  gsize old_size = 0;
  if (g_file_get_contents(path, &old, &old_size, NULL) && old_size == size && memcmp(old, bytes, size) == 0)
    return TRUE;
  return g_file_set_contents(path, bytes, (gssize)size, NULL) && g_chmod(path, mode) == 0;
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
static gboolean clear_after_boot(HostPaths *paths, GError **error) {
  const char *root = paths->root;
  g_autofree char *note = g_build_filename(root, "boot-id", NULL), *run = g_build_filename(root, "run", NULL);
  g_autofree char *now = NULL;
  paths->new_boot = !same_boot(note);
  if (!paths->new_boot) return TRUE;
  if (nftw(run, remove_entry, 16, FTW_DEPTH | FTW_PHYS) < 0 && errno != ENOENT) return fail(error, "clear", run);
  if (!g_file_get_contents("/proc/sys/kernel/random/boot_id", &now, NULL, NULL)) return TRUE;
  return g_file_set_contents(note, now, -1, NULL) ? TRUE : fail(error, "write", note);
}

// libvirt gives QEMU a /dev of its own, with nodes it makes there: not for the root of a user namespace.
static gboolean may_make_devices(const char *root) {
  g_autofree char *node = g_build_filename(root, "device", NULL);
  gboolean made = mknod(node, S_IFCHR | 0600, makedev(1, 3)) == 0;
  unlink(node);
  return made;
}

// libvirt asks systemd for a cgroup; without it libvirt would make one at the hierarchy's root, which is somebody
// else's in a container.
static gboolean has_cgroups(void) {
  return g_file_test("/run/systemd/system", G_FILE_TEST_IS_DIR) &&
         (g_access("/sys/fs/cgroup", W_OK) == 0 || g_access("/sys/fs/cgroup/unified", W_OK) == 0);
}

typedef struct Confinement {
  const QemuUser *user; // NULL: as steled
  gboolean namespace, cgroups;
} Confinement;

static char *describe(const Confinement *it) {
  g_autoptr(GString) text = g_string_new("QEMU ");
  if (it->user)
    g_string_append_printf(text, "as user %s without capabilities, with seccomp", it->user->name);
  else if (geteuid() == 0)
    g_string_append(text, "as root, since its own user cannot reach steled's state directory; with seccomp");
  else
    g_string_append(text, "as the user of steled, with seccomp");
  const struct {
    gboolean has;
    const char *what, *why_not;
  } rows[] = {{it->namespace, "a /dev of its own", "steled may not make mounts and devices"},
              {it->cgroups, "cgroups", "no systemd to give them"}};
  for (gsize i = 0; i < G_N_ELEMENTS(rows); i++) {
    g_string_append_printf(text, "%s %s", rows[i].has ? "," : "; not", rows[i].what);
    if (!rows[i].has) g_string_append_printf(text, " (%s)", rows[i].why_not);
  }
  return g_string_free(g_steal_pointer(&text), FALSE);
}

static char *conf_text(const Confinement *it) {
  g_autoptr(GString) text = g_string_new(CONF_MARK);
  if (it->user)
    g_string_append_printf(text, "user = \"%s\"\ngroup = \"+%u\"\n", it->user->name, it->user->gid);
  else if (geteuid() == 0)
    g_string_append(text, "user = \"root\"\ngroup = \"root\"\n");
  // Files are lent to QEMU's user (qemu-user.h) rather than given: libvirt would leave them with root.
  if (geteuid() == 0) g_string_append(text, "dynamic_ownership = 0\n");
  g_string_append_printf(text, "namespaces = [ %s ]\n", it->namespace ? "\"mount\"" : "");
  if (!it->cgroups) g_string_append(text, "cgroup_controllers = [ ]\n");
  // Helpers and security drivers that the host may not have are not asked for; QEMU writes console logs by itself.
  g_string_append(text, "seccomp_sandbox = 1\n"
                        "security_driver = \"none\"\n"
                        "remember_owner = 0\n"
                        "stdio_handler = \"file\"\n");
  return g_string_free(g_steal_pointer(&text), FALSE);
}

// Whether there is a qemu.conf that is an administrator's and not ours.
static gboolean has_foreign_conf(const char *path) {
  g_autofree char *old = NULL;
  return g_file_get_contents(path, &old, NULL, NULL) && !g_str_has_prefix(old, CONF_MARK);
}

static gboolean write_conf(HostPaths *paths, GError **error) {
  g_autofree char *directory = g_build_filename(paths->root, "etc", NULL),
                  *path = g_build_filename(directory, "qemu.conf", NULL);
  if (has_foreign_conf(path)) {
    g_clear_pointer(&paths->qemu_user, qemu_user_free);
    paths->confinement = g_strdup_printf("QEMU as %s says", path);
    return TRUE;
  }
  gboolean reaches = paths->qemu_user && qemu_user_can(paths->qemu_user, paths->libvirt, X_OK);
  if (!reaches) g_clear_pointer(&paths->qemu_user, qemu_user_free);
  Confinement confinement = {.user = paths->qemu_user,
                             .namespace = geteuid() == 0 && share_has_namespace() && may_make_devices(paths->root),
                             .cgroups = geteuid() == 0 && has_cgroups()};
  paths->confinement = describe(&confinement);
  g_autofree char *text = conf_text(&confinement);
  if (!make_directory(directory, error)) return FALSE;
  return keep_file(path, text, strlen(text), 0644) ? TRUE : fail(error, "write", path);
}

// libvirt's QEMU driver looks its default user up before it reads our qemu.conf.
static gboolean find_libvirt_user(HostPaths *paths, GError **error) {
  if (geteuid() == 0) paths->qemu_user = qemu_user_new(LIBVIRT_QEMU_USER);
  if (geteuid() != 0 || paths->qemu_user) return TRUE;
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
                                                 : g_build_filename(STELE_LIBRARY_DIR, NETWORK_GUARD, NULL);
}

// As installed, relative to steled or not, or in a build directory.
static char *find_aot(void) {
  static const char *const places[] = {"../bin/stele-aot", "../translator/stele-aot"};
  g_autofree char *self = g_file_read_link("/proc/self/exe", NULL), *directory = g_path_get_dirname(self ? self : "/");
  for (size_t i = 0; i < G_N_ELEMENTS(places); i++) {
    g_autofree char *place = g_build_filename(directory, places[i], NULL);
    if (g_file_test(place, G_FILE_TEST_IS_EXECUTABLE)) return g_canonicalize_filename(place, NULL);
  }
  return g_strdup(INSTALLED_AOT);
}

// QEMU's user may not be able to go where the library was built.
static char *place_network_guard(const HostPaths *paths) {
  g_autofree char *source = find_network_guard(), *place = g_build_filename(paths->libvirt, NETWORK_GUARD, NULL);
  g_autofree char *library = NULL;
  gsize size = 0;
  if (!g_file_get_contents(source, &library, &size, NULL) || !keep_file(place, library, size, 0644))
    return g_steal_pointer(&source); // whoever needs it says what is wrong with it
  return g_steal_pointer(&place);
}

// virtiofsd(1) of Rust; QEMU's docs/tools/virtiofsd.rst for the one in C.
const FileServer host_file_servers[] = {{"/usr/libexec/virtiofsd", "--modcaps=-mknod"},
                                        {"/usr/lib/qemu/virtiofsd", "-o modcaps=-mknod"},
                                        {"/usr/lib/virtiofsd", "--modcaps=-mknod"},
                                        {0}};

// libvirt has no word for virtiofsd's capabilities, but one for the program to run.
static gboolean place_file_server(HostPaths *paths, GError **error) {
  g_autoptr(GString) script = g_string_new("#!/bin/sh\n# Becomes virtiofsd; steled makes it anew when it starts.\n");
  if (geteuid() != 0) return TRUE;
  for (const FileServer *server = host_file_servers; server->path; server++)
    g_string_append_printf(script, "[ ! -x %1$s ] || exec %1$s %2$s \"$@\"\n", server->path, server->option);
  paths->file_server = g_build_filename(paths->root, "virtiofsd", NULL);
  if (!keep_file(paths->file_server, script->str, script->len, 0700)) return fail(error, "write", paths->file_server);
  // Where programs must not be run from, virtiofsd keeps what it has (docs/trust.md).
  if (g_access(paths->file_server, X_OK) < 0) g_clear_pointer(&paths->file_server, g_free);
  return TRUE;
}

// QEMU's user must not get by a view to what the directories above a share keep everybody from.
static gboolean make_closed(const char *path, GError **error) {
  if (!make_directory(path, error)) return FALSE;
  return g_chmod(path, 0700) == 0 ? TRUE : fail(error, "close", path);
}

static gboolean prepare_embedded(HostPaths *paths, GError **error) {
  if (!find_libvirt_user(paths, error) || !clear_after_boot(paths, error)) return FALSE;
  if (paths->qemu_user && !open_root(paths, error)) return FALSE;
  if (!make_short_name(paths, paths->qemu_user, error) || !write_conf(paths, error)) return FALSE;
  make_lock_directory();
  paths->network_guard = place_network_guard(paths);
  if (!place_file_server(paths, error)) return FALSE;
  paths->shares = g_build_filename(paths->libvirt, "shares", NULL);
  paths->lent = g_build_filename(paths->libvirt, "lent", NULL);
  if (!make_closed(paths->shares, error)) return FALSE;
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

// --- the format of the state ---------------------------------------------------------------------

// What a newer steled left may mean something else than it says to this one. A root without the note is of format 1,
// before which there was none.
static gboolean check_format(const char *root, GError **error) {
  g_autofree char *path = g_build_filename(root, "format", NULL), *text = NULL;
  guint64 format = 0;
  if (g_file_get_contents(path, &text, NULL, NULL)) {
    if (g_ascii_string_to_unsigned(g_strstrip(text), 10, 1, STATE_FORMAT, &format, NULL)) return TRUE;
    g_set_error(error, STELE_ERROR, STELE_ERROR_STORAGE,
                "the state in %s is of format '%.20s', and this steled (" STELE_VERSION
                ") knows those up to %d: use the newer steled that wrote it, or another place with --root",
                root, text, STATE_FORMAT);
    return FALSE;
  }
  g_autofree char *note = g_strdup_printf("%d\n", STATE_FORMAT);
  return g_file_set_contents(path, note, -1, NULL) ? TRUE : fail(error, "write", path);
}

// --- paths ---------------------------------------------------------------------------------------

static char *own_directory(void) {
  g_autofree char *self = g_file_read_link("/proc/self/exe", NULL);
  return g_path_get_dirname(self ? self : "/");
}

// The build directory's for a steled that runs there, as HOST/daemon/steled; otherwise where it is installed.
static char *find_directory(const char *installed, const char *built) {
  g_autofree char *own = own_directory(), *directory = g_build_filename(own, "..", "..", built, NULL);
  gboolean use_built = !g_str_equal(own, STELE_PROGRAM_DIR) && g_file_test(directory, G_FILE_TEST_IS_DIR);
  return use_built ? g_canonicalize_filename(directory, NULL) : g_strdup(installed);
}

HostPaths *host_paths_new(const HostOptions *options, GError **error) {
  g_autoptr(HostPaths) paths = g_new0(HostPaths, 1);
  paths->lock = -1;
  g_autofree char *own = g_build_filename(g_get_user_state_dir(), "stele", NULL);
  paths->root = first_set(options->root, "STELE_STATE_DIR", geteuid() == 0 ? "/var/lib/stele" : own);
  g_autofree char *guest = find_directory(INSTALLED_GUEST, BUILT_GUEST),
                  *translator = find_directory(INSTALLED_TRANSLATOR, BUILT_TRANSLATOR);
  paths->guest_dir = first_set(options->guest_dir, "STELE_GUEST_DIR", guest);
  paths->translator_dir = first_set(options->translator_dir, "STELE_TRANSLATOR_DIR", translator);
  paths->machines = g_build_filename(paths->root, "machines", NULL);
  paths->console = g_build_filename(paths->root, "console", NULL);
  paths->images = g_build_filename(paths->root, "images", NULL);
  paths->changes = g_build_filename(paths->root, "changes", NULL);
  paths->aot = find_aot();
  paths->translations_limit = options->translations_limit ? options->translations_limit : TRANSLATIONS_LIMIT;
  if (!make_directory(paths->root, error) || !take_lock(paths, error) || !check_format(paths->root, error) ||
      !make_directory(paths->console, error) || !make_directory(paths->changes, error))
    return NULL;
  if (options->connect) {
    paths->uri = g_strdup(options->connect);
    paths->shares = g_build_filename(paths->root, "shares", NULL);
    paths->lent = g_build_filename(paths->root, "lent", NULL);
    paths->confinement = g_strdup("QEMU as that libvirt runs it");
  } else if (!prepare_embedded(paths, error)) {
    return NULL;
  }
  return g_steal_pointer(&paths);
}

void host_paths_free(HostPaths *paths) {
  if (paths == NULL) return;
  if (paths->libvirt) share_unbind(paths->libvirt);
  if (paths->lock >= 0) close(paths->lock);
  char *const strings[] = {
      paths->root,        paths->machines,    paths->console,   paths->shares,         paths->lent,
      paths->libvirt,     paths->uri,         paths->guest_dir, paths->translator_dir, paths->network_guard,
      paths->file_server, paths->confinement, paths->aot,       paths->images,         paths->changes};
  for (size_t i = 0; i < G_N_ELEMENTS(strings); i++) g_free(strings[i]);
  qemu_user_free(paths->qemu_user);
  g_free(paths);
}
